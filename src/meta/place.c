/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/place.h"

#include "meta/record.h"

enum place_role { ROLE_NONE = 0, ROLE_LEARNER, ROLE_VOTER };

/* In which order servers are chosen; the lower the sooner. */
enum tier {
    TIER_VOTER,   /* is one already */
    TIER_LEARNER, /* holds the data already */
    TIER_NEW,
    TIER_LEAVING, /* a voter that goes as soon as it can be replaced */
    TIER_OUT,
};

static struct place_server *find(const struct place *p, struct server_id id)
{
    for (uint32_t i = 0; i < p->n_servers; i++)
        if (p->servers[i].server->id.v == id.v) return &p->servers[i];
    return NULL;
}

static void count_replicas(struct place *p, const struct server_id *ids, uint8_t n)
{
    for (uint8_t i = 0; i < n; i++) {
        struct place_server *s = find(p, ids[i]);
        if (s != NULL) s->replicas++;
    }
}

struct place place_new(const struct meta *m,
                       bool (*alive)(void *ctx, struct server_id id), void *ctx)
{
    struct place p = {.mem = m->mem, .n_servers = m->n_servers};

    p.servers = mem_zero(p.mem, p.n_servers * sizeof *p.servers);
    for (uint32_t i = 0; i < p.n_servers; i++) {
        const struct meta_server *s = m->servers[i];
        p.servers[i].server = s;
        p.servers[i].active = s->state == SERVER_ACTIVE;
        p.servers[i].alive = alive == NULL || alive(ctx, s->id);
    }
    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct meta_shard *s = m->shards[i];
        if (s->group.v == META_GROUP) continue;
        count_replicas(&p, s->voters, s->n_voters);
        count_replicas(&p, s->learners, s->n_learners);
        struct place_server *founder = find(&p, s->founder);
        if (founder != NULL) founder->founded++;
    }
    return p;
}

void place_free(struct place *p)
{
    mem_free(p->mem, p->servers, p->n_servers * sizeof *p->servers);
    *p = (struct place){.mem = p->mem};
}

static enum tier voter_tier(const struct place_server *s)
{
    if (!s->active) return s->was == ROLE_VOTER ? TIER_LEAVING : TIER_OUT;
    if (s->was == ROLE_VOTER) return TIER_VOTER;

    /* A new voter must catch up before the membership moves: a silent one would hold up
     * the others. */
    if (!s->alive) return TIER_OUT;
    return s->was == ROLE_LEARNER ? TIER_LEARNER : TIER_NEW;
}

static enum tier learner_tier(const struct place_server *s)
{
    if (!s->active) return TIER_OUT;
    if (s->was != ROLE_NONE) return TIER_LEARNER;
    return s->alive ? TIER_NEW : TIER_OUT;
}

static bool zone_has_voter(const struct place *p, const struct place_server *s)
{
    const struct bytes zone = meta_text_bytes(&s->server->zone);

    if (zone.len == 0) return false;
    for (uint32_t i = 0; i < p->n_servers; i++) {
        const struct place_server *other = &p->servers[i];
        if (other == s || other->is != ROLE_VOTER) continue;
        if (bytes_equal(meta_text_bytes(&other->server->zone), zone)) return true;
    }
    return false;
}

/* Whether `a` is to be chosen before `b`, which has the lower id. */
static bool goes_before(const struct place *p, const struct place_server *a,
                        const struct place_server *b)
{
    const bool crowded_a = zone_has_voter(p, a), crowded_b = zone_has_voter(p, b);

    if (crowded_a != crowded_b) return crowded_b;
    if (a->alive != b->alive) return a->alive;
    return a->replicas < b->replicas;
}

/* The best server that has no role yet; NULL: none is left. */
static struct place_server *best(const struct place *p,
                                 enum tier (*tier_of)(const struct place_server *s))
{
    struct place_server *found = NULL;
    enum tier found_tier = TIER_OUT;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *s = &p->servers[i];
        const enum tier tier = tier_of(s);
        if (s->is != ROLE_NONE || tier == TIER_OUT) continue;
        if (tier > found_tier) continue;
        if (tier == found_tier && !goes_before(p, s, found)) continue;
        found = s;
        found_tier = tier;
    }
    return found;
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
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n_servers; i++)
        n += voter_tier(&p->servers[i]) != TIER_OUT;
    if (n > wish->replicas) n = wish->replicas;
    if (wish->one_voter && n > 1) n = 1;
    return n >= 5 ? 5 : n >= 3 ? 3 : n > 0;
}

/* False: a member is no server of the cluster any more. */
static bool roles_of(struct place *p, const struct meta_shard *s)
{
    bool all_known = true;

    for (uint32_t i = 0; i < p->n_servers; i++)
        p->servers[i].was = p->servers[i].is = ROLE_NONE;
    for (uint8_t i = 0; i < s->n_voters; i++) {
        struct place_server *at = find(p, s->voters[i]);
        if (at != NULL) at->was = ROLE_VOTER;
        all_known &= at != NULL;
    }
    for (uint8_t i = 0; i < s->n_learners; i++) {
        struct place_server *at = find(p, s->learners[i]);
        if (at != NULL) at->was = ROLE_LEARNER;
        all_known &= at != NULL;
    }
    return all_known;
}

static void choose(struct place *p, const struct place_wish *wish)
{
    const uint32_t voters = voters_wanted(p, wish);
    uint32_t learners = wish->replicas - voters + wish->learners;

    for (uint32_t i = 0; i < voters; i++)
        best(p, voter_tier)->is = ROLE_VOTER;
    if (learners > META_REPLICAS_MAX - voters) learners = META_REPLICAS_MAX - voters;
    for (uint32_t i = 0; i < learners; i++) {
        struct place_server *s = best(p, learner_tier);
        if (s == NULL) break;
        s->is = ROLE_LEARNER;
    }
}

static void choose_founder(struct place *p, struct meta_shard *s)
{
    struct place_server *found = NULL;

    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *at = &p->servers[i];
        if (at->is != ROLE_VOTER) continue;
        if (found == NULL || at->founded < found->founded) found = at;
    }
    found->founded++;
    s->founder = found->server->id;
}

bool place_shard(struct place *p, const struct place_wish *wish, struct meta_shard *s)
{
    bool changed = !roles_of(p, s);

    choose(p, wish);

    uint8_t n_voters = 0, n_learners = 0;
    struct meta_shard next = *s;
    for (uint32_t i = 0; i < p->n_servers; i++) {
        struct place_server *at = &p->servers[i];
        changed |= at->was != at->is;
        if (at->is == ROLE_VOTER) next.voters[n_voters++] = at->server->id;
        if (at->is == ROLE_LEARNER) next.learners[n_learners++] = at->server->id;
    }

    /* Nobody to take over at all: what is there stays. */
    if (!changed || n_voters == 0) return false;
    if (s->group.v != META_GROUP)
        for (uint32_t i = 0; i < p->n_servers; i++) {
            p->servers[i].replicas += p->servers[i].is != ROLE_NONE;
            p->servers[i].replicas -= p->servers[i].was != ROLE_NONE;
        }
    next.n_voters = n_voters;
    next.n_learners = n_learners;
    if (next.founder.v == 0) choose_founder(p, &next);
    *s = next;
    return true;
}
