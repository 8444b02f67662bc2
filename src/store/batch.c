/* SPDX-License-Identifier: Apache-2.0 */
/* Writing inside a job: on the checkpoint thread, without allocating. */
#include "base/check.h"
#include "store/store_state.h"

int batch_gen_new(const struct batch *b, uint32_t *gen)
{
    struct ekey key;
    struct bytes value;
    uint8_t next[4];

    ekey_next_gen(&key);
    *gen = 1;
    if (b->ops->txn_get(b->txn, ekey_bytes(&key), &value)) {
        check(value.len == sizeof next);
        *gen = load_u32le(value.at);
    }
    check(*gen != 0 && *gen != UINT32_MAX);
    store_u32le(next, *gen + 1);
    return b->ops->put(b->txn, ekey_bytes(&key), (struct bytes){next, sizeof next});
}

int batch_gen_mark(const struct batch *b, uint32_t gen, enum gen_state state,
                   struct group_id group)
{
    struct ekey key;
    uint8_t value[GEN_VALUE];

    ekey_dead_gen(&key, gen);
    value[0] = (uint8_t)state;
    store_u32le(value + 1, group.v);
    return b->ops->put(b->txn, ekey_bytes(&key), (struct bytes){value, sizeof value});
}

int batch_put_root(const struct batch *b, struct group_id group, const struct root *root)
{
    struct ekey key;
    uint8_t value[ROOT_MAX];

    ekey_root(&key, group);
    const size_t len = root_encode(root, value);
    return b->ops->put(b->txn, ekey_bytes(&key), (struct bytes){value, len});
}

/* What the engine held of a key before. */
struct old {
    bool there;
    int64_t deadline_ms;
    uint32_t pieces;
};

static struct old read_old(const struct batch *b, const struct ekey *at)
{
    struct bytes value;
    struct record r;

    if (b->fresh || !b->ops->txn_get(b->txn, ekey_bytes(at), &value))
        return (struct old){0};
    check(record_decode(value, &r));
    return (struct old){
        .there = true,
        .deadline_ms = r.deadline_ms,
        .pieces = (r.flags & RECORD_PIECES) != 0 ? piece_count(r.length) : 0,
    };
}

struct spot {
    uint64_t place;
    struct bytes suffix;
};

static int write_due(const struct batch *b, const struct spot *at, int64_t was_ms,
                     int64_t now_ms)
{
    struct ekey key;
    int rc = 0;

    if (was_ms == now_ms) return 0;
    if (was_ms > 0) {
        ekey_due(&key, b->gen, was_ms, at->place, at->suffix);
        rc = b->ops->remove(b->txn, ekey_bytes(&key));
    }
    if (rc == 0 && now_ms > 0) {
        ekey_due(&key, b->gen, now_ms, at->place, at->suffix);
        rc = b->ops->put(b->txn, ekey_bytes(&key),
                         (struct bytes){(const uint8_t *)"", 0});
    }
    return rc;
}

static int write_pieces(const struct batch *b, const struct spot *at, uint32_t were,
                        struct bytes value)
{
    const uint32_t are = value.len > STORE_PIECE_BYTES ? piece_count(value.len) : 0;
    struct ekey key;
    int rc = 0;

    for (uint32_t n = 0; rc == 0 && n < are; n++) {
        const struct bytes piece = {value.at + (size_t)n * STORE_PIECE_BYTES,
                                    piece_len(value.len, n)};
        ekey_piece(&key, b->gen, at->place, at->suffix, n);
        rc = b->ops->put(b->txn, ekey_bytes(&key), piece);
    }
    for (uint32_t n = are; rc == 0 && n < were; n++) {
        ekey_piece(&key, b->gen, at->place, at->suffix, n);
        rc = b->ops->remove(b->txn, ekey_bytes(&key));
    }
    return rc;
}

int batch_write_node(const struct batch *b, const struct node *n)
{
    const bool gone = n->what == NODE_GONE;
    uint8_t room[SUFFIX_MAX];
    const struct spot at = {n->place, suffix_of(node_key(n), room)};
    const struct bytes value = gone ? (struct bytes){NULL, 0} : node_value(n);
    struct ekey key;

    ekey_data(&key, b->gen, at.place, at.suffix);
    const struct old old = read_old(b, &key);
    if (gone && !old.there) return 0;

    int rc = gone ? b->ops->remove(b->txn, ekey_bytes(&key))
                  : b->ops->put(b->txn, ekey_bytes(&key), node_record(n));
    if (rc == 0) rc = write_due(b, &at, old.deadline_ms, gone ? 0 : node_deadline_ms(n));
    if (rc == 0) rc = write_pieces(b, &at, old.pieces, value);
    return rc;
}

/* A wiped shard's system items go on with it.  Their number is bounded where they are made. */
int batch_copy_system(const struct batch *b, uint32_t gen_from)
{
    struct ekey from, to;
    struct bytes key, value;
    uint8_t record[RECORD_HEAD + SYSTEM_VALUE_MAX];
    int rc = 0;

    ekey_data(&from, gen_from, system_kind_place(0).v, (struct bytes){NULL, 0});
    while (rc == 0 && b->ops->txn_seek(b->txn, ekey_bytes(&from), &key, &value) &&
           ekey_is_of(key, 'D', gen_from)) {
        struct data_key at;

        /* Out of the engine's pages first: a put may move them. */
        check(key.len < KV_KEY_MAX && data_key_decode(key, &at));
        check(value.len <= sizeof record);
        memcpy(record, value.at, value.len);
        ekey_data(&to, b->gen, at.place, at.suffix);
        memcpy(from.at, key.at, key.len);
        from.at[key.len] = 0; /* the least key above this one */
        from.len = (uint32_t)key.len + 1;
        rc = b->ops->put(b->txn, ekey_bytes(&to), (struct bytes){record, value.len});
    }
    return rc;
}

/* What arrives goes into a generation of its own, where nothing can be yet. */
int batch_put_item(const struct batch *b, const struct stream_spot *item)
{
    struct ekey key;
    struct record r;

    check(record_decode(item->rest, &r));
    ekey_data(&key, b->gen, item->place, item->suffix);
    const int rc = b->ops->put(b->txn, ekey_bytes(&key), item->rest);
    const struct spot at = {item->place, item->suffix};
    return rc == 0 ? write_due(b, &at, 0, r.deadline_ms) : rc;
}

int batch_put_piece(const struct batch *b, const struct stream_spot *piece)
{
    struct ekey key;

    ekey_piece(&key, b->gen, piece->place, piece->suffix, load_u32le(piece->rest.at));
    return b->ops->put(b->txn, ekey_bytes(&key),
                       (struct bytes){piece->rest.at + 4, piece->rest.len - 4});
}
