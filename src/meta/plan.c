/* SPDX-License-Identifier: Apache-2.0 */
/* From what is to what should be: targets of shards, and how memberships follow. */
#include "meta/meta.h"
#include "meta/place.h"
#include "meta/record.h"

/* The meta shard has 3 voters, and 5 once there are five servers. */
static struct place_wish wish_of_meta(const struct place *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n_servers; i++)
        n += p->servers[i].active;
    return (struct place_wish){.replicas = n >= 5 ? 5 : 3};
}

static bool plan_shard(struct place *p, const struct place_wish *wish,
                       const struct meta_shard *s, struct meta_change *out)
{
    struct meta_shard next = *s;

    if (!place_shard(p, wish, &next)) return false;
    record_put_shard(out->effects, &next, false);
    return true;
}

bool meta_plan(const struct meta *m, bool (*alive)(void *ctx, struct server_id id),
               void *ctx, struct meta_change *out)
{
    const struct meta_shard *root = meta_shard(m, (struct group_id){META_GROUP});
    bool changed = false;

    if (!m->founded || root == NULL) return false;

    struct place p = place_new(m, alive, ctx);
    const struct place_wish root_wish = wish_of_meta(&p);
    changed = plan_shard(&p, &root_wish, root, out);
    for (uint32_t i = 0; i < m->n_shards && !changed; i++) {
        const struct meta_shard *s = m->shards[i];
        const struct meta_keyspace *k = meta_keyspace(m, s->keyspace);
        if (s == root || k == NULL) continue;
        const struct place_wish wish = place_wish_of(&k->policy);
        changed = plan_shard(&p, &wish, s, out);
    }
    place_free(&p);
    return changed;
}

/* ---- a group's membership ---- */

static bool holds(const struct server_id *ids, uint32_t n, struct server_id id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i].v == id.v) return true;
    return false;
}

static bool same_set(const struct server_id *a, uint32_t n_a, const struct server_id *b,
                     uint32_t n_b)
{
    if (n_a != n_b) return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (!holds(b, n_b, a[i])) return false;
    return true;
}

static bool in_config(const struct raft_config *c, struct server_id id)
{
    return holds(c->voters, c->n_voters, id) || holds(c->learners, c->n_learners, id);
}

static bool in_target(const struct meta_target *t, struct server_id id)
{
    return holds(t->voters, t->n_voters, id) || holds(t->learners, t->n_learners, id);
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
            holds(target->learners, target->n_learners, old.voters[i]))
            c->learners[c->n_learners++] = old.voters[i];
}

bool meta_next_config(const struct meta_target *target, const struct policy *policy,
                      const struct raft_members *now,
                      bool (*caught_up)(void *ctx, struct server_id id), void *ctx,
                      struct raft_config *next)
{
    struct raft_config c;

    if (now->n_old > 0 || target->n_voters == 0) return false;
    raft_members_config(now, &c);

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
            if (holds(now->voters, now->n_voters, id)) continue;
            if (!raft_members_has(now, id) || !caught_up(ctx, id)) return false;
        }
        move_voters(target, &c);
        c.rules = meta_rules(policy, c.n_voters);
        *next = c;
        return true;
    }
    c.rules = meta_rules(policy, c.n_voters);
    if (!drop_learners(target, &c) && raft_rules_equal(&c.rules, &now->rules))
        return false;
    *next = c;
    return true;
}
