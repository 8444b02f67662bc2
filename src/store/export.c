/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a shard as of its last checkpoint, in a reader of its own, as the stream of a
 * backup (data/copy.h).  It outlives the store that it was made of, but not its engine. */
#include "store/export.h"
#include "base/check.h"
#include "data/copy.h"
#include "store/record.h"

struct store_export {
    struct kv kv;
    struct mem *mem;
    struct kv_reader *reader;
    struct root root;
    struct copy_writer writer;
    struct group_id group;
    enum { AT_HEAD = 0, AT_KEY, AT_VALUE, AT_DONE } at;
    struct ekey key;        /* of the last one given; len 0: none yet */
    uint64_t length, given; /* AT_VALUE: of its value */
};

struct store_export *store_export_open(struct mem *mem, struct kv kv,
                                       struct group_id group)
{
    struct kv_reader *reader = kv.ops->reader_open(kv.engine);
    if (reader == NULL) return NULL;

    struct ekey key;
    struct bytes value;
    ekey_root(&key, group);
    if (!kv.ops->get(reader, ekey_bytes(&key), &value)) {
        kv.ops->reader_close(kv.engine, reader);
        return NULL;
    }
    struct store_export *x = mem_zero(mem, sizeof *x);
    x->kv = kv;
    x->mem = mem;
    x->reader = reader;
    x->group = group;
    check(root_decode(value, mem, &x->root));
    return x;
}

void store_export_close(struct store_export *x)
{
    x->kv.ops->reader_close(x->kv.engine, x->reader);
    root_free(&x->root, x->mem);
    mem_free(x->mem, x, sizeof *x);
}

struct store_base store_export_base(const struct store_export *x)
{
    return root_base(&x->root);
}

uint64_t store_export_keys(const struct store_export *x)
{
    return x->root.keys;
}

/* ---- the stream ---- */

static bool next_key(struct store_export *x, struct bytes *key, struct bytes *value)
{
    const struct kv_ops *ops = x->kv.ops;
    struct data_key at;

    if (x->key.len > 0) {
        if (!ops->next(x->reader, key, value)) return false;
    } else {
        ekey_kind(&x->key, 'D', x->root.gen);
        if (!ops->seek(x->reader, ekey_bytes(&x->key), key, value)) return false;
    }
    if (!ekey_is_of(*key, 'D', x->root.gen)) return false;
    check(data_key_decode(*key, &at));
    /* Behind all keys lies what a shard knows of itself, which is not a user's to restore. */
    return !key_place_is_system((struct key_place){at.place});
}

/* Where a part of the last key's value lies, as far as it lies in one run. */
static struct bytes value_run(struct store_export *x, uint64_t from)
{
    const struct kv_ops *ops = x->kv.ops;
    struct data_key of;
    struct record r;
    struct ekey key;
    struct bytes run;

    check(ops->get(x->reader, ekey_bytes(&x->key), &run));
    check(record_decode(run, &r));
    if ((r.flags & RECORD_PIECES) == 0)
        return (struct bytes){r.value.at + from, r.value.len - from};

    const uint64_t at = from % STORE_PIECE_BYTES;
    check(data_key_decode(ekey_bytes(&x->key), &of));
    ekey_piece(&key, x->root.gen, of.place, of.suffix,
               (uint32_t)(from / STORE_PIECE_BYTES));
    check(ops->get(x->reader, ekey_bytes(&key), &run));
    check(run.len > at);
    return (struct bytes){run.at + at, run.len - at};
}

static_assert(STORE_PIECE_BYTES % COPY_PIECE_BYTES == 0, "a piece lies in one run");

static void put_key(struct store_export *x, struct buf *out)
{
    struct bytes key, value;

    if (!next_key(x, &key, &value)) {
        check(x->writer.keys == x->root.keys);
        copy_put_end(&x->writer, out);
        x->at = AT_DONE;
        return;
    }
    struct data_key of;
    struct record r;
    check(data_key_decode(key, &of));
    check(record_decode(value, &r));
    check(key.len <= sizeof x->key.at);
    memcpy(x->key.at, key.at, key.len);
    x->key.len = (uint32_t)key.len;

    const bool apart = r.length > COPY_PIECE_BYTES;
    copy_put_key(&x->writer, out, r.type, r.deadline_ms,
                 (r.flags & RECORD_LONG_KEY) != 0 ? r.key : of.suffix, r.length,
                 apart ? (struct bytes){NULL, 0} : r.value);
    x->at = apart ? AT_VALUE : AT_KEY;
    x->length = r.length;
    x->given = 0;
}

static void put_piece(struct store_export *x, struct buf *out)
{
    const uint64_t left = x->length - x->given;
    const uint64_t len = left < COPY_PIECE_BYTES ? left : COPY_PIECE_BYTES;
    const struct bytes run = value_run(x, x->given);

    check(run.len >= len);
    copy_put_piece(&x->writer, out, (struct bytes){run.at, len});
    x->given += len;
    if (x->given == x->length) x->at = AT_KEY;
}

bool store_export_read(struct store_export *x, size_t bytes_max, struct buf *out)
{
    check(bytes_max >= COPY_RECORD_MAX);
    const size_t begin = out->len;

    while (x->at != AT_DONE && out->len - begin + COPY_RECORD_MAX <= bytes_max) {
        switch (x->at) {
        case AT_HEAD:
            copy_put_head(&x->writer, out, x->group, x->root.term, x->root.index);
            x->at = AT_KEY;
            break;
        case AT_KEY: put_key(x, out); break;
        case AT_VALUE: put_piece(x, out); break;
        case AT_DONE: break;
        }
    }
    return out->len > begin;
}
