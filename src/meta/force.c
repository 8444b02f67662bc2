/* SPDX-License-Identifier: Apache-2.0 */
/* Who leads where a majority is not asked: FORCE, and the one voter of FAILOVER manual. */
#include "meta/meta.h"
#include "meta/record.h"

static bool holds(const struct server_id *ids, uint8_t n, struct server_id id)
{
    for (uint8_t i = 0; i < n; i++)
        if (ids[i].v == id.v) return true;
    return false;
}

/* `voter` alone votes, the members learn; the target is a new one. */
static void set_one_voter(struct meta_shard *s, struct server_id voter)
{
    const struct meta_shard old = *s;

    s->n_voters = 1;
    s->voters[0] = voter;
    s->n_learners = 0;
    for (uint8_t i = 0; i < old.n_voters; i++)
        if (old.voters[i].v != voter.v) s->learners[s->n_learners++] = old.voters[i];
    for (uint8_t i = 0; i < old.n_learners; i++)
        if (old.learners[i].v != voter.v &&
            !holds(old.voters, old.n_voters, old.learners[i]))
            s->learners[s->n_learners++] = old.learners[i];
    s->n_old = 0;
    for (uint8_t i = 0; i < old.n_old; i++)
        if (old.old[i].v != voter.v) s->old[s->n_old++] = old.old[i];
    s->version++;
    s->settled = false;
}

/* Every shard is looked at before the first is changed. */
static bool all_have(const struct meta *m, uint32_t keyspace, struct server_id id)
{
    const struct meta_shard *s;

    for (uint32_t i = 0; (s = meta_shard_of(m, keyspace, i)) != NULL; i++)
        if (!meta_server_has(s, id)) return false;
    return true;
}

/* ---- FORCE ---- */

bool meta_force(const struct meta *m, uint32_t keyspace, struct server_id lead,
                struct meta_change *out)
{
    const struct meta_shard *s;
    bool any = false;

    if (lead.v != 0 && !all_have(m, keyspace, lead)) return false;
    for (uint32_t i = 0; (s = meta_shard_of(m, keyspace, i)) != NULL; i++) {
        struct meta_shard next = *s;
        if (next.epoch + 1 >= 1u << (64 - TERM_EPOCH_SHIFT)) continue;
        next.epoch++;
        next.decree = DECREE_FENCED;
        next.heard = 0;
        if (lead.v != 0) {
            next.lead = lead;
            next.pinned = true;
        }
        record_put_shard(out->effects, &next, false);
        any = true;
    }
    return any;
}

static bool is_longer(const struct meta_fenced *a, const struct meta_fenced *b)
{
    if (a->last_term.v != b->last_term.v) return a->last_term.v > b->last_term.v;
    return a->last.v > b->last.v;
}

/* Replicas that an acknowledged write is on, at least, while the membership is this target. */
static uint32_t copies_of(const struct policy *policy, const struct meta_shard *s)
{
    const uint32_t members = (uint32_t)s->n_voters + s->n_learners;

    if (policy->mode != MODE_PRIMARY) return s->n_voters / 2u + 1;
    if (policy->ack != ACK_ALL) return policy->ack + 1u;
    return policy->failover == FAILOVER_MANUAL ? members : s->n_voters;
}

/* Any n - c + 1 of n replicas include one of those c that have it [architecture, FORCE].  On its
 * way to its target a membership is not known here: then all of them. */
uint32_t meta_force_needs(const struct policy *policy, const struct meta_shard *s)
{
    const uint32_t members = (uint32_t)s->n_voters + s->n_learners;
    const uint32_t copies = copies_of(policy, s);

    if (!s->settled) return members + s->n_old;
    return copies < members ? members - copies + 1 : 1;
}

bool meta_decree(const struct meta *m, struct group_id group, uint32_t epoch,
                 const struct meta_fenced *reports, uint32_t n, struct meta_change *out)
{
    const struct meta_shard *s = meta_shard(m, group);
    const struct meta_fenced *best = NULL;
    uint32_t heard = 0, sound = 0;

    if (s == NULL || s->decree != DECREE_FENCED || s->epoch != epoch) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!meta_server_may_have(s, reports[i].id)) continue;
        heard++;
        sound += !reports[i].doubtful;
        const bool longer = best == NULL || is_longer(&reports[i], best);
        const bool equal = best != NULL && !is_longer(best, &reports[i]);
        if (longer || (equal && reports[i].id.v == s->lead.v)) best = &reports[i];
    }
    if (best == NULL) return false;

    const struct meta_keyspace *k = meta_keyspace(m, s->keyspace);
    struct meta_shard next = *s;
    set_one_voter(&next, best->id);
    next.decree = DECREE_NAMED;
    next.named = best->id;
    next.heard = (uint8_t)(heard < META_REPLICAS_MAX ? heard : META_REPLICAS_MAX);
    if (k != NULL && sound >= meta_force_needs(&k->policy, s))
        next.heard |= META_HEARD_ENOUGH;
    record_put_shard(out->effects, &next, false);
    return true;
}

/* ---- FAILOVER manual ---- */

bool meta_move_voter(const struct meta *m, uint32_t keyspace, struct server_id to,
                     struct meta_change *out)
{
    const struct meta_keyspace *k = meta_keyspace(m, keyspace);
    const struct meta_shard *s;

    if (k == NULL || k->policy.mode != MODE_PRIMARY ||
        k->policy.failover != FAILOVER_MANUAL || meta_has_unborn(m, keyspace) ||
        !all_have(m, keyspace, to))
        return false;
    for (uint32_t i = 0; (s = meta_shard_of(m, keyspace, i)) != NULL; i++) {
        struct meta_shard next = *s;
        if (s->n_voters == 1 && s->voters[0].v == to.v) continue;
        set_one_voter(&next, to);
        next.lead = to;
        next.pinned = true;
        record_put_shard(out->effects, &next, false);
    }
    return true;
}
