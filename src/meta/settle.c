/* SPDX-License-Identifier: Apache-2.0 */
/* How a keyspace comes and goes.
 *
 *     CREATING ──► ACTIVE ──► DROPPING ──► gone
 *         └──► REFUSED, and gone in the same entry
 *
 * CREATING: keys with its name still belong to default; each of default's shards closes itself
 * to them, in its own log, counts those it has and reports.  With all reports in, and no key
 * that it would hide, the keyspace gets its shards and is ACTIVE.  DROPPING: each of its own
 * shards closes itself and reports; with all reports in it is gone.  What a report says
 * stays true, since a shard opens itself again only when the keyspace is gone: so reports need
 * not be kept, and a new meta leader just hears them again. */
#include "base/hash.h"
#include "meta/meta.h"
#include "meta/place.h"
#include "meta/record.h"

/* Slots in runs of equal length, as far as they divide. */
static void create_shards(const struct meta *m, const struct meta_judge *judge,
                          const struct meta_keyspace *k, struct meta_change *out)
{
    const struct place_wish wish = place_wish_of(&k->policy);
    const uint32_t n = k->policy.shards;
    struct place place = place_new(m, judge);

    for (uint32_t i = 0; i < n; i++) {
        struct meta_shard s = {
            .group = {m->cluster.next_group + i},
            .keyspace = k->id,
            .slot_first = (uint16_t)(i * SLOTS / n),
            .slot_last = (uint16_t)((i + 1) * SLOTS / n - 1),
        };
        check(place_shard(&place, &wish, &s));
        record_put_shard(out->effects, &s, true);
    }
    place_free(&place);
}

static void activate(const struct meta *m, const struct meta_judge *judge,
                     const struct meta_keyspace *old, struct meta_change *out)
{
    struct meta_keyspace k = *old;
    struct meta_cluster cluster = m->cluster;

    check(cluster.next_group < UINT32_MAX - k.policy.shards);
    cluster.next_group += k.policy.shards;
    k.state = KEYSPACE_ACTIVE;
    record_put_cluster(out->effects, &cluster, false);
    record_put_keyspace(out->effects, &k, false);
    create_shards(m, judge, &k, out);
}

/* It is seen for an instant only, by whoever follows the log: that is who waits to hear it. */
static void refuse(const struct meta_keyspace *old, uint64_t keys,
                   struct meta_change *out)
{
    struct meta_keyspace k = *old;

    k.state = KEYSPACE_REFUSED;
    k.hidden = keys;
    record_put_keyspace(out->effects, &k, false);
    record_clear_keyspace(out->effects, &k);
}

static void clear(const struct meta *m, const struct meta_keyspace *k,
                  struct meta_change *out)
{
    const struct meta_shard *s;

    record_clear_keyspace(out->effects, k);
    for (uint32_t i = 0; (s = meta_shard_of(m, k->id, i)) != NULL; i++)
        record_clear_shard(out->effects, s);
}

uint32_t meta_closes(const struct meta_keyspace *k)
{
    switch (k->state) {
    case KEYSPACE_CREATING: return KEYSPACE_DEFAULT;
    case KEYSPACE_DROPPING: return k->id;
    case KEYSPACE_ACTIVE:
    case KEYSPACE_REFUSED:
    case KEYSPACE_STATE_END: break;
    }
    return 0;
}

/* Whether every shard that is to be closed is; *keys: what they hold, together. */
static bool all_closed(const struct meta *m, const struct meta_keyspace *k,
                       meta_closed_fn *closed, void *ctx, uint64_t *keys)
{
    const struct meta_shard *s;

    *keys = 0;
    for (uint32_t i = 0; (s = meta_shard_of(m, meta_closes(k), i)) != NULL; i++) {
        uint64_t of_shard = 0;
        if (!closed(ctx, k, s, &of_shard)) return false;
        *keys += of_shard;
    }
    return true;
}

bool meta_settle(const struct meta *m, const struct meta_judge *judge,
                 meta_closed_fn *closed, void *ctx, struct meta_change *out)
{
    uint64_t keys;

    for (uint32_t i = 0; i < m->n_keyspaces; i++) {
        const struct meta_keyspace *k = m->keyspaces[i];
        if (meta_closes(k) == 0 || !all_closed(m, k, closed, ctx, &keys)) continue;
        if (k->state == KEYSPACE_DROPPING)
            clear(m, k, out);
        else if (keys > 0)
            refuse(k, keys, out);
        else
            activate(m, judge, k, out);
        return true;
    }
    return false;
}
