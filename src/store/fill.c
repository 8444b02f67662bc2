/* SPDX-License-Identifier: Apache-2.0 */
/* Large values on their way from the engine into memory, a bounded part a turn, so that
 * answering one holds nothing up.  Each has a reader of its own until it is whole, so it
 * stays what it was when it was asked for. */
#include "base/check.h"
#include "store/store_state.h"

enum { FILL_BYTES_A_TURN = 8 << 20 };

struct fill {
    struct fill *next;
    struct block *block;
    struct kv_reader *reader;
    uint64_t place, length;
    uint32_t gen;
    uint32_t suffix_len;
    uint8_t suffix[SUFFIX_MAX];
};

/* The reader may see more than ours, if a checkpoint of this store is about to end. */
static bool shows_same(struct store *s, struct kv_reader *reader, const struct fill *f,
                       const struct item *item)
{
    struct ekey at;
    struct bytes value;
    struct record r;

    ekey_data(&at, f->gen, f->place, (struct bytes){f->suffix, f->suffix_len});
    return s->config.kv.ops->get(reader, ekey_bytes(&at), &value) &&
           record_decode(value, &r) && r.change.v == item->change.v &&
           r.length == item->value.len;
}

static void fill_end(struct store *s, struct fill **at)
{
    struct fill *f = *at;

    *at = f->next;
    s->config.kv.ops->reader_close(s->config.kv.engine, f->reader);
    block_unref(f->block);
    mem_free(s->config.mem, f, sizeof *f);
}

struct block *store_share(struct store *s, struct bytes key, const struct item *item)
{
    struct kv_reader *reader = s->config.kv.ops->reader_open(s->config.kv.engine);
    if (reader == NULL) return NULL;

    struct fill *f = mem_zero(s->config.mem, sizeof *f);
    uint8_t room[SUFFIX_MAX];
    const struct bytes suffix = suffix_of(key, room);
    struct buf bytes = buf_new(s->config.mem);

    f->reader = reader;
    f->place = key_place_of(key).v;
    f->gen = s->root.gen;
    f->length = item->value.len;
    f->suffix_len = (uint32_t)suffix.len;
    if (suffix.len > 0) memcpy(f->suffix, suffix.at, suffix.len);
    const bool same = shows_same(s, reader, f, item);
    if (same) buf_reserve(&bytes, f->length); /* all of it, so that it does not move */
    f->block = block_take(&bytes);
    f->next = s->fills;
    s->fills = f;
    if (same) return block_ref(f->block);
    fill_end(s, &s->fills);
    return NULL;
}

static void fill_piece(struct store *s, struct fill *f)
{
    struct buf *out = &f->block->bytes;
    const uint32_t n = (uint32_t)(out->len / STORE_PIECE_BYTES);
    struct ekey at;
    struct bytes piece;

    ekey_piece(&at, f->gen, f->place, (struct bytes){f->suffix, f->suffix_len}, n);
    check(s->config.kv.ops->get(f->reader, ekey_bytes(&at), &piece));
    check(piece.len == piece_len(f->length, n));
    buf_put(out, piece.at, piece.len);
}

bool store_fill(struct store *s)
{
    uint64_t left = FILL_BYTES_A_TURN;

    while (s->fills != NULL && left >= STORE_PIECE_BYTES) {
        struct fill *f = s->fills;
        if (f->block->refs > 1 && f->block->bytes.len < f->length) {
            fill_piece(s, f);
            left -= STORE_PIECE_BYTES;
        } else {
            fill_end(s, &s->fills);
        }
    }
    return s->fills != NULL;
}

void fills_free(struct store *s)
{
    while (store_fill(s)) {
    }
}
