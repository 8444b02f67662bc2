/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/place.h"

#include "base/check.h"
#include "meta/record.h"

enum place_role { ROLE_NONE = 0, ROLE_LEARNER, ROLE_VOTER };

/* In which order servers are chosen; the lower the sooner. */
enum tier {
    TIER_VOTER,   /* is one already */
    TIER_LEARNER, /* holds the data already */
    TIER_NEW,
    TIER_LOST,    /* goes as soon as it can be replaced, and nobody asks for that */
    TIER_LEAVING, /* goes as soon as it can be replaced */
    TIER_OUT,
};

static struct place_server *find(const struct place *p, struct server_id id)
{
    uint32_t lo = 0, hi = p->n_servers;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (p->servers[mid].server->id.v < id.v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->n_servers && p->servers[lo].server->id.v == id.v ? &p->servers[lo]
                                                                    : NULL;
}

/* That of the first server there. */
static uint32_t zone_of(const struct place *p, uint32_t server)
{
    const struct bytes zone = meta_text_bytes(&p->servers[server].server->zone);

    for (uint32_t i = 0; i < server && zone.len > 0; i++)
        if (bytes_equal(meta_text_bytes(&p->servers[i].server->zone), zone)) return i;
    return server;
}

static void count_replicas(struct place *p, const struct server_id *ids, uint8_t n)
{
    for (uint8_t i = 0; i < n; i++) {
        struct place_server *s = find(p, ids[i]);
        if (s != NULL) s->replicas++;
    }
}

struct place place_new(const struct meta *m, const struct meta_judge *judge)
{
    struct place p = {.mem = m->mem, .n_servers = m->n_servers};

    p.servers = mem_zero(p.mem, p.n_servers * sizeof *p.servers);
    p.zones = mem_zero(p.mem, p.n_servers * sizeof *p.zones);
    for (uint32_t i = 0; i < p.n_servers; i++) {
        const struct meta_server *s = m->servers[i];
        const enum meta_health health = judge == NULL ? HEALTH_ALIVE
                                                      : judge->health(judge->ctx, s->id);
        p.servers[i].server = s;
        p.servers[i].active = s->state == SERVER_ACTIVE;
        p.servers[i].alive = health == HEALTH_ALIVE;
        p.servers[i].lost = health == HEALTH_LOST;
        p.servers[i].zone = zone_of(&p, i);
    }
    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct meta_shard *s = m->shards[i];
        if (s->group.v == META_GROUP) continue;
        count_replicas(&p, s->voters, s->n_voters);
        count_replicas(&p, s->learners, s->n_learners);
        struct place_server *lead = find(&p, s->lead);
        if (lead != NULL) lead->leads++;
    }
    return p;
}

void place_free(struct place *p)
{
    mem_free(p->mem, p->servers, p->n_servers * sizeof *p->servers);
    mem_free(p->mem, p->zones, p->n_servers * sizeof *p->zones);
    *p = (struct place){.mem = p->mem};
}

/* ---- who comes into question ---- */

static enum tier voter_tier(const struct place *p, const struct place_server *s)
{
    if (!s->active) {
        if (s->was != ROLE_VOTER || s->server->shrink) return TIER_OUT;
        return TIER_LEAVING;
    }
    if (s->was == ROLE_VOTER) return s->lost && !p->keep_lost ? TIER_LOST : TIER_VOTER;

    /* A new voter must catch up before the membership moves: a silent one would hold up
     * the others.  Not so in a group that is to begin: it has nothing to catch up with, and
     * the fewer voters the fewer copies. */
    if (!s->alive) return p->begins ? TIER_LOST : TIER_OUT;
    return s->was == ROLE_LEARNER ? TIER_LEARNER : TIER_NEW;
}

static enum tier learner_tier(const struct place *p, const struct place_server *s)
{
    if (!s->active) return TIER_OUT;
    if (s->was != ROLE_NONE) return s->lost && !p->keep_lost ? TIER_LOST : TIER_LEARNER;
    return s->alive ? TIER_NEW : TIER_OUT;
}

/* Another than `s` itself. */
static bool zone_has_voter(const struct place *p, const struct place_server *s)
{
    return p->zones[s->zone].is > (s->is == ROLE_VOTER);
}

static void role_set(struct place *p, struct place_server *s, enum place_role role)
{
    struct place_zone *zone = &p->zones[s->zone];

    if (s->is == ROLE_VOTER && --zone->is == 0) p->zones_are--;
    if (role == ROLE_VOTER && zone->is++ == 0) p->zones_are++;
    s->is = (uint8_t)role;
}

/* Whether `a` is to be chosen before `b`, which has the lower id. */
static bool goes_before(const struct place *p, const struct place_server *a,
                        const struct place_server *b)
{
    const bool crowded_a = zone_has_voter(p, a), crowded_b = zone_has_voter(p, b);

    if (a->named != b->named) return a->named;
    if (crowded_a != crowded_b) return crowded_b;
    if (a->alive != b->alive) return a->alive;
    return a->replicas < b->replicas;
}

/* The best server that has no role yet; NULL: none is left. */
static struct place_server *best(const struct place *p,
                                 enum tier (*tier_of)(const struct place *p,
                                                      const struct place_server *s))
{
    struct place_server *found = NULL;
    enum tier found_tier = TIER_OUT;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *s = &p->servers[i];
        const enum tier tier = tier_of(p, s);
        if (s->is != ROLE_NONE || tier == TIER_OUT) continue;
        if (tier > found_tier) continue;
        if (tier == found_tier && !goes_before(p, s, found)) continue;
        found = s;
        found_tier = tier;
    }
    return found;
}

uint32_t place_voters(uint32_t servers, uint32_t replicas)
{
    const uint32_t n = servers < replicas ? servers : replicas;

    return n >= 5 ? 5 : n >= 3 ? 3 : n > 0;
}

struct place_wish place_wish_of(const struct policy *policy)
{
    return (struct place_wish){
        .replicas = policy->replicas,
        .learners = policy->learners,
        .one_voter = policy->mode == MODE_PRIMARY && policy->failover == FAILOVER_MANUAL,
    };
}

static uint32_t voters_wanted(const struct place *p, const struct place_wish *wish)
{
    uint32_t n = 0, alive = 0;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        if (voter_tier(p, &p->servers[i]) == TIER_OUT) continue;
        n++;
        alive += p->servers[i].alive;
    }
    uint32_t voters = place_voters(n, wish->one_voter ? 1 : wish->replicas);
    while (p->begins && alive > 0 && alive <= voters / 2) /* nobody could be elected */
        voters -= 2;
    return voters;
}

/* ---- a shard ---- */

static bool role_put(struct place *p, struct server_id id, enum place_role role)
{
    struct place_server *at = find(p, id);

    if (at == NULL) return false; /* it is no server of the cluster any more */
    at->was = (uint8_t)role;
    if (role == ROLE_VOTER && p->zones[at->zone].was++ == 0) p->zones_were++;
    struct place_server *next = at->active ? NULL : find(p, at->server->successor);
    if (next != NULL) next->named = true;
    return true;
}

/* False: a member is no server of the cluster any more. */
static bool roles_of(struct place *p, const struct meta_shard *s)
{
    bool all_known = true;

    p->keep_lost = false;
    p->zones_were = p->zones_are = 0;
    for (uint32_t i = 0; i < p->n_servers; i++) {
        p->zones[i] = (struct place_zone){0};
        p->servers[i].was = p->servers[i].is = ROLE_NONE;
        p->servers[i].named = false;
    }
    for (uint8_t i = 0; i < s->n_voters; i++)
        all_known &= role_put(p, s->voters[i], ROLE_VOTER);
    for (uint8_t i = 0; i < s->n_learners; i++)
        all_known &= role_put(p, s->learners[i], ROLE_LEARNER);
    return all_known;
}

static void choose(struct place *p, const struct place_wish *wish)
{
    const uint32_t voters = voters_wanted(p, wish);
    uint32_t learners = wish->replicas - voters + wish->learners;

    for (uint32_t i = 0; i < p->n_servers; i++)
        role_set(p, &p->servers[i], ROLE_NONE);
    for (uint32_t i = 0; i < voters; i++)
        role_set(p, best(p, voter_tier), ROLE_VOTER);
    if (learners > META_REPLICAS_MAX - voters) learners = META_REPLICAS_MAX - voters;
    for (uint32_t i = 0; i < learners; i++) {
        struct place_server *s = best(p, learner_tier);
        if (s == NULL) break;
        role_set(p, s, ROLE_LEARNER);
    }
}

/* A lost voter is not worth less spread over zones; and with a majority of them lost nobody
 * could move the membership: then they are waited for. */
static bool replacing_harms(const struct place *p)
{
    uint32_t voters = 0, lost = 0;
    bool replaced = false;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        const struct place_server *s = &p->servers[i];
        if (s->was != ROLE_VOTER) continue;
        voters++;
        lost += s->lost;
        replaced |= s->lost && s->active && s->is != ROLE_VOTER;
    }
    return replaced && (p->zones_are < p->zones_were || lost > (voters - 1) / 2);
}

static void choose_founder(struct place *p, struct meta_shard *s)
{
    struct place_server *found = NULL;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *at = &p->servers[i];
        if (at->is != ROLE_VOTER) continue;
        if (found == NULL || at->alive > found->alive ||
            (at->alive == found->alive && at->leads < found->leads))
            found = at;
    }
    check(found != NULL);
    found->leads++;
    s->founder = s->lead = found->server->id;
}

/* Who was a member, or may still be one, and is not to be one any more. */
static void note_old(const struct place *p, const struct meta_shard *before,
                     struct meta_shard *next)
{
    next->n_old = 0;
    if (next->group.v == META_GROUP) return; /* every server follows it all the same */
    for (uint32_t i = 0; i < p->n_servers && next->n_old < META_REPLICAS_MAX; i++) {
        const struct server_id id = p->servers[i].server->id;
        if (meta_server_may_have(before, id) && !meta_server_has(next, id))
            next->old[next->n_old++] = id;
    }
}

/* What `is` says becomes the target. */
static void put_members(struct place *p, struct meta_shard *s)
{
    struct meta_shard next = *s;

    next.n_voters = next.n_learners = 0;
    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *at = &p->servers[i];
        if (at->is == ROLE_VOTER) next.voters[next.n_voters++] = at->server->id;
        if (at->is == ROLE_LEARNER) next.learners[next.n_learners++] = at->server->id;
        if (s->group.v == META_GROUP) continue;
        at->replicas += at->is != ROLE_NONE;
        at->replicas -= at->was != ROLE_NONE;
    }
    if (next.founder.v == 0) {
        choose_founder(p, &next);
    } else {
        next.version++;
        next.settled = false;
    }
    note_old(p, s, &next);
    *s = next;
}

bool place_shard(struct place *p, const struct place_wish *wish, struct meta_shard *s)
{
    bool changed = !roles_of(p, s);
    bool voter = false;

    p->begins = s->founder.v == 0;
    choose(p, wish);
    if (replacing_harms(p)) {
        p->keep_lost = true;
        choose(p, wish);
    }
    for (uint32_t i = 0; i < p->n_servers; i++) {
        changed |= p->servers[i].was != p->servers[i].is;
        voter |= p->servers[i].is == ROLE_VOTER;
    }

    /* Nobody to take over at all: what is there stays. */
    if (!changed || !voter) return false;
    put_members(p, s);
    return true;
}

/* ---- moves that nobody has to make ---- */

struct move {
    struct place_server *from, *to; /* NULL: none found */
    uint32_t zones;                 /* that hold voters then */
};

static void swap_roles(struct place *p, struct place_server *a, struct place_server *b)
{
    const enum place_role is = a->is;

    role_set(p, a, b->is);
    role_set(p, b, is);
}

static bool is_better(const struct move *a, const struct move *b)
{
    if (b->to == NULL || a->zones != b->zones)
        return b->to == NULL || a->zones > b->zones;
    if (a->from->replicas != b->from->replicas)
        return a->from->replicas > b->from->replicas;
    return a->to->replicas < b->to->replicas;
}

bool place_improve(struct place *p, const struct place_wish *wish, struct meta_shard *s)
{
    struct move found = {.to = NULL};

    (void)roles_of(p, s);
    for (uint32_t i = 0; i < p->n_servers; i++)
        role_set(p, &p->servers[i], p->servers[i].was);
    const uint32_t zones = p->zones_are;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *from = &p->servers[i];
        if (from->is == ROLE_NONE || (from->is == ROLE_VOTER && wish->one_voter))
            continue;
        for (uint32_t k = 0; k < p->n_servers; k++) {
            struct place_server *to = &p->servers[k];
            if (!to->active || !to->alive || to->is >= from->is) continue;
            const bool evens = to->is == ROLE_NONE && s->group.v != META_GROUP &&
                               from->replicas >= to->replicas + 2;
            swap_roles(p, from, to);
            const struct move move = {from, to, p->zones_are};
            swap_roles(p, from, to);
            if (move.zones < zones || (move.zones == zones && !evens)) continue;
            if (is_better(&move, &found)) found = move;
        }
    }
    if (found.to == NULL) return false;
    swap_roles(p, found.from, found.to);
    put_members(p, s);
    return true;
}

bool place_lead(struct place *p, struct meta_shard *s)
{
    const struct place_server *now = NULL;
    struct place_server *least = NULL;

    for (uint8_t i = 0; i < s->n_voters; i++) {
        struct place_server *at = find(p, s->voters[i]);
        if (at == NULL || !at->active) continue;
        if (at->server->id.v == s->lead.v) now = at;
        if (least == NULL || at->leads < least->leads) least = at;
    }
    if (least == NULL || now == least) return false;
    if (now != NULL && (s->pinned || now->leads < least->leads + 2)) return false;
    struct place_server *before = find(p, s->lead);
    if (before != NULL) before->leads--;
    least->leads++;
    s->lead = least->server->id;
    s->pinned = false;
    return true;
}
