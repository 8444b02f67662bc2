/* SPDX-License-Identifier: Apache-2.0 */
/* close - what a shard has closed itself to, and the count of what it holds of it.
 *
 * A closed name is a system item (data/item.h), so that it is staged, committed, dropped,
 * checkpointed and sent in snapshots as all else is:
 *
 *   key    u8 SYSTEM_CLOSED, the name (empty: every key)
 *   value  u8 version 1, u32 keyspace, u8 level (enum shard_closing)
 *
 * Most requests have nothing to do with any of them, so a set of hashes is asked first.  It
 * only grows: what is dropped again, or opened, is found not to be closed by looking. */
#include "base/hash.h"
#include "meta/meta.h"
#include "shard/shard_internal.h"

enum { CLOSED_VERSION = 1, NOTED_MAX = 4096 };

static struct bytes item_key(uint8_t room[1 + META_NAME_MAX], struct bytes name)
{
    check(name.len <= META_NAME_MAX);
    room[0] = SYSTEM_CLOSED;
    if (name.len > 0) memcpy(room + 1, name.at, name.len);
    return (struct bytes){room, 1 + name.len};
}

/* The log and the engine were checked by sum: what is no such value was not written by us. */
static void read_item(const struct item *item, struct shard_closed *out)
{
    struct cursor in = cursor_of(item->value);
    uint8_t version = 0, level = CLOSING_END;

    check(get_u8(&in, &version) && version == CLOSED_VERSION);
    check(get_u32(&in, &out->keyspace));
    check(get_u8(&in, &level) && level > CLOSING_NOT && level < CLOSING_END);
    out->level = (enum shard_closing)level;
    out->change = item->change;
}

static bool find(struct shard *s, struct bytes name, struct shard_closed *out)
{
    uint8_t room[1 + META_NAME_MAX];
    struct item item;

    if (!store_find_system(s->store, item_key(room, name), &item)) return false;
    read_item(&item, out);
    return true;
}

/* ---- the set of hashes ---- */

static void note_name(struct shard *s, struct bytes name)
{
    if (s->maybe_closed.count < NOTED_MAX) {
        hmap_put(&s->maybe_closed, hash64(name), s);
        return;
    }
    /* Names came and went; those that are left are in the store, this one aside. */
    close_rebuild(s);
    hmap_put(&s->maybe_closed, hash64(name), s);
}

void close_rebuild(struct shard *s)
{
    struct key_place place = {0};
    uint32_t skip = 0;
    struct bytes name;
    struct shard_closed closed;

    hmap_free(&s->maybe_closed);
    s->maybe_closed = hmap_new(s->config.mem);
    while (shard_closed_next(s, &place, &skip, &name, &closed))
        hmap_put(&s->maybe_closed, hash64(name), s);
}

bool close_is_sound(const struct shard *s)
{
    const struct key_place end = system_kind_place(SYSTEM_CLOSED + 1);
    struct key_place from = system_kind_place(SYSTEM_CLOSED), at;
    struct bytes key;
    struct item item;
    uint32_t skip = 0;

    while (store_walk(s->store, from, skip, &at, &key, &item) && at.v < end.v) {
        const uint64_t hash = hash64((struct bytes){key.at + 1, key.len - 1});
        if (hmap_find(&s->maybe_closed, hash) == NULL) return false;
        skip = at.v == from.v ? skip + 1 : 1;
        from = at;
    }
    return true;
}

void close_note(struct shard *s, const struct effect *e)
{
    if ((e->flags & EFFECT_SYSTEM) == 0 || e->kind != EFFECT_PUT) return;
    if (e->key.len == 0 || e->key.at[0] != SYSTEM_CLOSED) return;
    note_name(s, (struct bytes){e->key.at + 1, e->key.len - 1});
}

/* ---- who is refused ---- */

static bool name_refuses(struct shard *s, struct bytes name, bool writes)
{
    struct shard_closed closed;

    if (name.len > META_NAME_MAX) return false;
    if (hmap_find(&s->maybe_closed, hash64(name)) == NULL) return false;
    if (!find(s, name, &closed)) return false;
    return writes || closed.level == CLOSING_ALL;
}

static bool key_refused(struct shard *s, struct bytes key, bool writes)
{
    struct bytes name;

    return meta_key_prefix(key, &name) && name_refuses(s, name, writes);
}

static bool command_refused(struct shard *s, const struct shard_request *q, uint32_t i,
                            bool whole)
{
    const bool writes = (q->commands[i]->flags & CF_WRITE) != 0;
    uint32_t few[64];
    uint32_t n = command_keys(q->commands[i], q->n_args[i], few, 64);
    uint32_t *at = few;
    bool refused = n > 0 && whole;

    if (n > 64 && !refused) {
        at = mem_alloc(s->config.mem, n * sizeof *at);
        command_keys(q->commands[i], q->n_args[i], at, n);
    }
    for (uint32_t k = 0; k < n && !refused; k++)
        refused = key_refused(s, q->args[i][at[k]], writes);
    if (at != few) mem_free(s->config.mem, at, n * sizeof *at);
    return refused;
}

static bool may_refuse(const struct shard *s)
{
    return s->maybe_closed.count > 0 && !s->config.bug_never_closed;
}

/* Commands without keys pass: FLUSHALL leaves nothing to be hidden, and what SCAN and DBSIZE
 * say of several shards was never of one instant. */
bool close_refuses(struct shard *s, const struct shard_request *q)
{
    if (LIKELY(!may_refuse(s))) return false;

    struct bytes name = {NULL, 0};
    const bool whole = name_refuses(s, name, true);
    for (uint32_t i = 0; i < q->n_watches; i++)
        if (whole || key_refused(s, q->watches[i].key, false)) return true;
    for (uint32_t i = 0; i < q->n_commands; i++)
        if (command_refused(s, q, i, whole)) return true;
    return false;
}

/* ---- closing, looking, counting ---- */

bool shard_closed(struct shard *s, struct bytes name, struct shard_closed *out)
{
    return find(s, name, out);
}

bool shard_closed_next(struct shard *s, struct key_place *place, uint32_t *skip,
                       struct bytes *name, struct shard_closed *out)
{
    const struct key_place end = system_kind_place(SYSTEM_CLOSED + 1);
    struct key_place from = *place, at;
    struct bytes key;
    struct item item;

    if (from.v == 0) from = system_kind_place(SYSTEM_CLOSED);
    if (!store_walk(s->store, from, *skip, &at, &key, &item) || at.v >= end.v)
        return false;
    *skip = at.v == place->v ? *skip + 1 : 1;
    *place = at;
    *name = (struct bytes){key.at + 1, key.len - 1};
    read_item(&item, out);
    return true;
}

enum shard_refusal shard_close(struct shard *s, struct bytes name, uint32_t keyspace,
                               enum shard_closing level)
{
    uint8_t room[1 + META_NAME_MAX];
    struct buf value = buf_new(s->config.mem), effects = buf_new(s->config.mem);
    struct shard_closed old;
    struct shard_gate gate;
    struct effect e = {
        .kind = level == CLOSING_NOT ? EFFECT_CLEAR : EFFECT_PUT,
        .flags = EFFECT_SYSTEM,
        .type = level == CLOSING_NOT ? ITEM_NONE : ITEM_STRING,
        .key = item_key(room, name),
    };

    if (level != CLOSING_NOT) {
        buf_put_u8(&value, CLOSED_VERSION);
        buf_put_u32(&value, keyspace);
        buf_put_u8(&value, (uint8_t)level);
        e.value = buf_bytes(&value);
        if (!find(s, name, &old)) e.flags |= EFFECT_CREATED;
    }
    effect_encode(&effects, &e);
    const enum shard_refusal refusal = shard_propose_effects(s, buf_bytes(&effects),
                                                             &gate);
    buf_free(&value);
    buf_free(&effects);
    return refusal;
}

static void count_key(struct bytes key, const struct item *item, struct bytes name,
                      struct wall now, struct shard_count *c)
{
    struct bytes prefix;

    if (!meta_key_prefix(key, &prefix) || !bytes_equal(prefix, name)) return;
    if (item->deadline_ms != 0 && item->deadline_ms < now.ms)
        c->due++;
    else
        c->keys++;
}

void shard_count_prefix(struct shard *s, struct bytes name, struct wall now,
                        uint32_t steps, struct shard_count *c)
{
    struct key_place at;
    struct bytes key;
    struct item item;
    uint32_t skip = 0;

    for (uint32_t i = 0; store_walk(s->store, c->place, skip, &at, &key, &item); i++) {
        /* Only between places: who goes on from within one would have to know which of its
         * keys are gone by then. */
        if (at.v != c->place.v && i >= steps) {
            c->place = at;
            return;
        }
        skip = at.v == c->place.v ? skip + 1 : 1;
        c->place = at;
        count_key(key, &item, name, now, c);
    }
    c->done = true;
}
