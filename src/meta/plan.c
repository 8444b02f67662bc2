/* SPDX-License-Identifier: Apache-2.0 */
/* From what is to what should be: targets of shards, and how memberships follow. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/meta.h"
#include "meta/place.h"
#include "meta/record.h"

enum {
    /* Moves that nobody has to make wait while so many shards are on their way to a target: their
     * bytes are limited elsewhere, this bounds how many are half done.  With many shards each is
     * a small part of the whole. */
    MOVING_LEAST = 4,
    SHARDS_EACH_MOVES = 256, /* one more of so many */
    /* So that losing a server of many shards is no entry, and no storm, without bound. */
    CHANGES_MAX = 16,
    MOVING_MANY = 64,
    /* Of one call: servers looked at, each time for a shard.  A few milliseconds. */
    PLAN_WORK_MAX = 1 << 18,
};

/* The meta shard has 3 voters, and 5 once there are five servers. */
static struct place_wish wish_of_meta(const struct meta *m)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->n_servers; i++)
        n += m->servers[i]->state == SERVER_ACTIVE;
    return (struct place_wish){.replicas = n >= 5 ? 5 : 3};
}

/* False: a shard of no keyspace, as one that was just dropped. */
static bool wish_of(const struct meta *m, const struct meta_shard *s,
                    struct place_wish *out)
{
    const struct meta_keyspace *k = meta_keyspace(m, s->keyspace);

    if (s->group.v == META_GROUP) {
        *out = wish_of_meta(m);
        return true;
    }
    if (k == NULL) return false;
    *out = place_wish_of(&k->policy);
    return true;
}

/* ---- servers that go ---- */

static bool in_list(const struct server_id *ids, uint32_t n, struct server_id id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i].v == id.v) return true;
    return false;
}

/* That every server follows the meta shard is no reason to stay. */
static bool holds_back(const struct meta_shard *s, struct server_id id)
{
    if (in_list(s->old, s->n_old, id)) return true;
    if (s->group.v != META_GROUP) return meta_server_has(s, id);
    return in_list(s->voters, s->n_voters, id);
}

uint32_t meta_held(const struct meta *m, struct server_id id)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->n_shards; i++)
        n += holds_back(m->shards[i], id);
    return n;
}

bool meta_was_removed(const struct meta *m, struct server_id id)
{
    return m->founded && id.v != 0 && id.v < m->cluster.next_server &&
           meta_server(m, id) == NULL;
}

/* A voter of the meta shard that became a learner is one only once that is settled. */
static bool forget(const struct meta *m, struct meta_change *out)
{
    const struct meta_shard *root = meta_shard(m, (struct group_id){META_GROUP});

    if (!root->settled) return false;
    for (uint32_t i = 0; i < m->n_servers; i++) {
        const struct meta_server *s = m->servers[i];
        if (s->state != SERVER_LEAVING || meta_held(m, s->id) > 0) continue;
        struct meta_shard next = *root;
        next.version++;
        next.settled = false;
        record_clear_server(out->effects, s);
        record_put_shard(out->effects, &next, false);
        return true;
    }
    return false;
}

/* ---- the next step ---- */

/* One look at a shard; true: it is to change. */
typedef bool plan_step(const struct meta *m, struct place *p, struct meta_shard *s);

static bool step_place(const struct meta *m, struct place *p, struct meta_shard *s)
{
    struct place_wish wish;

    if (s->group.v != META_GROUP && meta_unborn(s)) return false;
    return wish_of(m, s, &wish) && place_shard(p, &wish, s);
}

static bool step_improve(const struct meta *m, struct place *p, struct meta_shard *s)
{
    struct place_wish wish;

    return s->settled && wish_of(m, s, &wish) && place_improve(p, &wish, s);
}

static bool step_lead(const struct meta *m, struct place *p, struct meta_shard *s)
{
    (void)m;
    return s->group.v != META_GROUP && place_lead(p, s);
}

/* A round looks at every shard for what must be, then for what is better, then for leads. */
enum { STEP_PLACE = 0, STEP_IMPROVE, STEP_LEAD, STEPS };
static plan_step *const steps[STEPS] = {step_place, step_improve, step_lead};

/* How many shards a call may change, of which `moving` are on their way to a target.  What must
 * be goes on although those that are on their way may be stuck. */
static uint32_t changes_max(const struct meta *m, uint32_t step, uint32_t moving)
{
    const uint32_t by_size = m->n_shards / SHARDS_EACH_MOVES;
    const uint32_t improving = by_size > MOVING_LEAST ? by_size : MOVING_LEAST;

    switch (step) {
    case STEP_PLACE: return moving < MOVING_MANY ? CHANGES_MAX : 1;
    case STEP_IMPROVE: return moving < improving ? improving - moving : 0;
    case STEP_LEAD: return CHANGES_MAX;
    }
    return 0;
}

/* How many shards it changed.  The meta shard changes alone. */
static uint32_t look(const struct meta *m, struct meta_planner *planner, struct place *p,
                     uint32_t max, struct meta_change *out)
{
    const uint32_t looks = PLAN_WORK_MAX / m->n_servers + 1;
    uint32_t n = 0;

    while (planner->left > 0 && planner->looked < looks && n < max) {
        if (planner->at >= m->n_shards) planner->at = 0;
        struct meta_shard s = *m->shards[planner->at++];
        planner->left--;
        planner->looked++;
        if (s.decree == DECREE_FENCED || !steps[planner->step](m, p, &s)) continue;
        record_put_shard(out->effects, &s, false);
        n++;
        if (s.group.v == META_GROUP) break;
    }
    return n;
}

static void begin_step(const struct meta *m, struct meta_planner *planner, uint32_t step)
{
    planner->step = step;
    planner->left = m->n_shards;
    if (step == STEP_PLACE) planner->version = m->version;
}

/* True: effects were written. */
static bool go_on(const struct meta *m, struct meta_planner *planner, struct place *p,
                  struct meta_change *out)
{
    uint32_t moving = 0;

    for (uint32_t i = 0; i < m->n_shards; i++)
        moving += !m->shards[i]->settled;
    for (;;) {
        const uint32_t max = changes_max(m, planner->step, moving);
        if (look(m, planner, p, max, out) > 0) return true;
        if (planner->left > 0 && max > 0) return false; /* the next call goes on */
        const bool round_ends = planner->step + 1 == STEPS;
        if (round_ends && planner->version == m->version) {
            planner->rests = true;
            return false;
        }
        begin_step(m, planner, round_ends ? STEP_PLACE : planner->step + 1);
    }
}

static uint64_t hash_of_health(const struct meta *m, const struct meta_judge *judge)
{
    uint8_t health[META_SERVERS_MAX];

    check(m->n_servers <= META_SERVERS_MAX);
    for (uint32_t i = 0; i < m->n_servers && judge != NULL; i++)
        health[i] = (uint8_t)judge->health(judge->ctx, m->servers[i]->id);
    return judge == NULL ? 0 : hash64((struct bytes){health, m->n_servers});
}

bool meta_plan(const struct meta *m, const struct meta_judge *judge,
               struct meta_planner *planner, struct meta_change *out)
{
    if (!m->founded || meta_shard(m, (struct group_id){META_GROUP}) == NULL) return false;

    const uint64_t health = hash_of_health(m, judge);
    const bool others = health != planner->health || planner->others != m->version_others;
    planner->looked = 0;
    if (planner->rests && !others && planner->version == m->version) return false;
    if (forget(m, out)) return true;
    if (planner->rests || others) {
        planner->rests = false;
        planner->health = health;
        planner->others = m->version_others;
        begin_step(m, planner, STEP_PLACE);
    }
    struct place p = place_new(m, judge);
    const bool changed = go_on(m, planner, &p, out);
    place_free(&p);
    return changed;
}

bool meta_arrived(const struct meta *m, struct group_id group, uint64_t version,
                  struct meta_change *out)
{
    const struct meta_shard *now = meta_shard(m, group);

    if (now == NULL || now->version != version || now->settled) return false;
    struct meta_shard next = *now;
    next.settled = true;
    next.n_old = 0;
    record_put_shard(out->effects, &next, false);
    return true;
}

bool meta_prefer(const struct meta *m, struct group_id group, struct server_id lead,
                 struct meta_change *out)
{
    const struct meta_shard *now = meta_shard(m, group);

    if (now == NULL || !in_list(now->voters, now->n_voters, lead)) return false;
    if (now->lead.v == lead.v && now->pinned) return false;
    struct meta_shard next = *now;
    next.lead = lead;
    next.pinned = true;
    record_put_shard(out->effects, &next, false);
    return true;
}

/* ---- a group's membership ---- */

static bool same_set(const struct server_id *a, uint32_t n_a, const struct server_id *b,
                     uint32_t n_b)
{
    if (n_a != n_b) return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (!in_list(b, n_b, a[i])) return false;
    return true;
}

static bool in_config(const struct raft_config *c, struct server_id id)
{
    return in_list(c->voters, c->n_voters, id) || in_list(c->learners, c->n_learners, id);
}

static bool in_target(const struct meta_target *t, struct server_id id)
{
    return in_list(t->voters, t->n_voters, id) || in_list(t->learners, t->n_learners, id);
}

/* Learners that the target does not know; they go last, or when they take up the room. */
static bool drop_learners(const struct meta_target *target, struct raft_config *c)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < c->n_learners; i++)
        if (in_target(target, c->learners[i])) c->learners[kept++] = c->learners[i];
    const bool changed = kept != c->n_learners;
    c->n_learners = (uint16_t)kept;
    return changed;
}

/* Everyone who is new comes as a learner, as far as there is room. */
static bool add_learners(const struct server_id *ids, uint32_t n, struct raft_config *c)
{
    bool changed = false;

    for (uint32_t i = 0; i < n; i++) {
        if (in_config(c, ids[i])) continue;
        if (c->n_voters + c->n_learners == RAFT_PEERS_MAX) break;
        c->learners[c->n_learners++] = ids[i];
        changed = true;
    }
    return changed;
}

struct raft_rules meta_rules(const struct policy *policy, uint32_t n_voters)
{
    if (policy == NULL || policy->mode != MODE_PRIMARY) return (struct raft_rules){0};

    struct raft_rules r = {
        .early = true,
        .memory = policy->durability == DURABILITY_MEMORY,
        .ack = policy->ack == ACK_ALL ? RAFT_ACK_ALL : policy->ack,
    };
    /* k followers and the primary are fewer than a majority: elections must find one of them. */
    if (policy->ack != ACK_ALL && policy->ack > 0 && policy->ack + 1u < n_voters / 2 + 1)
        r.copies = (uint8_t)(policy->ack + 1);
    return r;
}

/* The target's voters, and as learners who is one of the target's or was one before. */
static void move_voters(const struct meta_target *target, struct raft_config *c)
{
    const struct raft_config old = *c;

    c->n_voters = c->n_learners = 0;
    for (uint32_t i = 0; i < target->n_voters; i++)
        c->voters[c->n_voters++] = target->voters[i];
    for (uint32_t i = 0; i < old.n_learners; i++)
        if (!in_config(c, old.learners[i]))
            c->learners[c->n_learners++] = old.learners[i];
    for (uint32_t i = 0; i < old.n_voters; i++)
        if (!in_config(c, old.voters[i]) &&
            in_list(target->learners, target->n_learners, old.voters[i]))
            c->learners[c->n_learners++] = old.voters[i];
}

static bool same_members(const struct meta_target *target, const struct raft_members *c)
{
    return same_set(target->voters, target->n_voters, c->voters, c->n_voters) &&
           same_set(target->learners, target->n_learners, c->learners, c->n_learners);
}

bool meta_config_is(const struct meta_target *target, const struct policy *policy,
                    const struct raft_members *now)
{
    const struct raft_rules rules = meta_rules(policy, now->n_voters);

    return raft_rules_equal(&rules, &now->rules) && now->n_old == 0 &&
           now->version == target->version && same_members(target, now);
}

/* What an answer needs does not wait for voters that are still to come. */
static bool next_rules(const struct policy *policy, const struct raft_members *now,
                       struct raft_config *next)
{
    const struct raft_rules rules = meta_rules(policy, now->n_voters);

    if (raft_rules_equal(&rules, &now->rules)) return false;
    raft_members_config(now, next);
    next->rules = rules;
    return true;
}

bool meta_next_config(const struct meta_target *target, const struct policy *policy,
                      const struct raft_members *now,
                      bool (*caught_up)(void *ctx, struct server_id id), void *ctx,
                      struct raft_config *next)
{
    struct raft_config c;

    /* A leader before this one followed a newer target than the one known here. */
    if (now->version > target->version) return false;
    if (now->n_old > 0 || target->n_voters == 0) return false;
    raft_members_config(now, &c);
    c.version = target->version;

    bool changed = add_learners(target->voters, target->n_voters, &c);
    changed |= add_learners(target->learners, target->n_learners, &c);
    if (!changed && c.n_voters + c.n_learners == RAFT_PEERS_MAX)
        for (uint32_t i = 0; i < target->n_voters && !changed; i++)
            if (!in_config(&c, target->voters[i])) changed = drop_learners(target, &c);
    if (changed) {
        *next = c;
        return true;
    }

    if (!same_set(target->voters, target->n_voters, now->voters, now->n_voters)) {
        for (uint32_t i = 0; i < target->n_voters; i++) {
            const struct server_id id = target->voters[i];
            if (in_list(now->voters, now->n_voters, id)) continue;
            if (!raft_members_has(now, id) || !caught_up(ctx, id))
                return next_rules(policy, now, next);
        }
        move_voters(target, &c);
        c.rules = meta_rules(policy, c.n_voters);
        *next = c;
        return true;
    }
    c.rules = meta_rules(policy, c.n_voters);
    if (!drop_learners(target, &c) && raft_rules_equal(&c.rules, &now->rules) &&
        now->version == target->version)
        return false;
    *next = c;
    return true;
}
