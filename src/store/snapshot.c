/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot going out: the shard's records in a reader of its own, as a stream. */
#include "base/check.h"
#include "base/hash.h"
#include "store/store_state.h"

enum { CUT_MIN_BYTES = 1 << 20 }; /* what is worth a memmove of the rest */

struct store_snapshot {
    struct kv kv;
    struct mem *mem;
    struct kv_reader *reader;
    struct root root;

    struct buf window; /* of the stream, from window_at on */
    uint64_t window_at;
    uint64_t chain;
    struct counts counts;
    enum { AT_HEAD = 0, AT_ITEM, AT_PIECE, AT_END } at;
    struct ekey item; /* the data key of the next item, or of the one in pieces */
    uint64_t length;  /* AT_PIECE: of the value */
    uint32_t piece;   /* AT_PIECE: the next */
};

struct store_snapshot *store_snapshot_open(struct store *s)
{
    const struct kv kv = s->config.kv;
    struct kv_reader *reader = kv.ops->reader_open(kv.engine);
    if (reader == NULL) return NULL;

    struct ekey key;
    struct bytes value;
    ekey_root(&key, s->config.group);
    if (!kv.ops->get(reader, ekey_bytes(&key), &value)) {
        kv.ops->reader_close(kv.engine, reader);
        return NULL;
    }
    struct store_snapshot *snap = mem_zero(s->config.mem, sizeof *snap);
    snap->kv = kv;
    snap->mem = s->config.mem;
    snap->reader = reader;
    check(root_decode(value, snap->mem, &snap->root));
    snap->window = buf_new(snap->mem);
    return snap;
}

void store_snapshot_close(struct store_snapshot *snap)
{
    snap->kv.ops->reader_close(snap->kv.engine, snap->reader);
    buf_free(&snap->window);
    root_free(&snap->root, snap->mem);
    mem_free(snap->mem, snap, sizeof *snap);
}

struct store_base store_snapshot_base(const struct store_snapshot *snap)
{
    return root_base(&snap->root);
}

/* ---- the stream ---- */

static size_t begin_record(struct store_snapshot *snap, enum stream_kind kind)
{
    const size_t at = snap->window.len;

    buf_put_u32(&snap->window, 0);
    buf_put_u8(&snap->window, (uint8_t)kind);
    return at;
}

static void end_record(struct store_snapshot *snap, size_t at)
{
    const struct bytes body = {snap->window.at + at + 4, snap->window.len - at - 4};
    check(body.len <= STREAM_BODY_MAX);

    store_u32le(snap->window.at + at, (uint32_t)body.len);
    snap->chain = hash64_seed(body, snap->chain);
    buf_put_u64(&snap->window, snap->chain);
}

static void put_spot(struct store_snapshot *snap)
{
    struct data_key key;

    check(data_key_decode(ekey_bytes(&snap->item), &key));
    buf_put_u64(&snap->window, key.place);
    buf_put_u16(&snap->window, (uint16_t)key.suffix.len);
    buf_put(&snap->window, key.suffix.at, key.suffix.len);
}

/* The item at the cursor, and what comes after it. */
static void put_item(struct store_snapshot *snap, struct bytes key, struct bytes value)
{
    struct record r;

    check(record_decode(value, &r));
    check(key.len <= KV_KEY_MAX);
    memcpy(snap->item.at, key.at, key.len);
    snap->item.len = (uint32_t)key.len;
    const size_t at = begin_record(snap, STREAM_ITEM);
    put_spot(snap);
    buf_put(&snap->window, value.at, value.len);
    end_record(snap, at);
    struct data_key at_key;
    check(data_key_decode(key, &at_key));
    if (key_place_is_system((struct key_place){at_key.place}))
        snap->counts.system++;
    else
        snap->counts.keys++;
    snap->at = (r.flags & RECORD_PIECES) != 0 ? AT_PIECE : AT_ITEM;
    snap->length = r.length;
    snap->piece = 0;
}

static void put_piece(struct store_snapshot *snap)
{
    struct data_key of;
    struct ekey key;
    struct bytes piece;

    check(data_key_decode(ekey_bytes(&snap->item), &of));
    ekey_piece(&key, snap->root.gen, of.place, of.suffix, snap->piece);
    check(snap->kv.ops->get(snap->reader, ekey_bytes(&key), &piece));
    const size_t at = begin_record(snap, STREAM_PIECE);
    put_spot(snap);
    buf_put_u32(&snap->window, snap->piece);
    buf_put(&snap->window, piece.at, piece.len);
    end_record(snap, at);
    snap->piece++;
    if (snap->piece == piece_count(snap->length)) snap->at = AT_ITEM;
}

static void put_next_item(struct store_snapshot *snap)
{
    const struct kv_ops *ops = snap->kv.ops;
    struct bytes key, value;
    bool any;

    if (snap->item.len == 0) {
        ekey_kind(&snap->item, 'D', snap->root.gen);
        any = ops->seek(snap->reader, ekey_bytes(&snap->item), &key, &value);
    } else {
        any = ops->next(snap->reader, &key, &value);
    }
    if (any && ekey_is_of(key, 'D', snap->root.gen)) {
        put_item(snap, key, value);
        return;
    }
    const size_t at = begin_record(snap, STREAM_END);
    buf_put_u64(&snap->window, snap->counts.keys);
    buf_put_u64(&snap->window, snap->counts.system);
    end_record(snap, at);
    snap->at = AT_END;
}

static void put_head(struct store_snapshot *snap)
{
    const size_t at = begin_record(snap, STREAM_HEAD);

    buf_put_u8(&snap->window, STREAM_FORMAT);
    buf_put_u64(&snap->window, snap->root.index.v);
    buf_put_u64(&snap->window, snap->root.term.v);
    end_record(snap, at);
    snap->at = AT_ITEM;
}

static void put_record(struct store_snapshot *snap)
{
    switch (snap->at) {
    case AT_HEAD: put_head(snap); break;
    case AT_ITEM: put_next_item(snap); break;
    case AT_PIECE: put_piece(snap); break;
    case AT_END: check(snap->at != AT_END);
    }
}

/* Forgets what lies further back than one resend may reach. */
static void cut_window(struct store_snapshot *snap, uint64_t offset, size_t bytes_max)
{
    const uint64_t keep = offset > bytes_max ? offset - bytes_max : 0;
    if (keep <= snap->window_at) return;

    const size_t cut = (size_t)(keep - snap->window_at);
    if (cut < CUT_MIN_BYTES) return;
    buf_cut_front(&snap->window, cut);
    snap->window_at = keep;
}

/* An offset that was never given, or lies too far back, gets nothing: it may have come
 * from a peer. */
void store_snapshot_read(struct store_snapshot *snap, uint64_t offset, size_t bytes_max,
                         struct buf *out, bool *end)
{
    *end = false;
    if (offset < snap->window_at || offset - snap->window_at > snap->window.len) return;

    const size_t from = (size_t)(offset - snap->window_at);
    while (snap->at != AT_END && snap->window.len - from < bytes_max)
        put_record(snap);
    const size_t left = snap->window.len - from;
    const size_t len = left < bytes_max ? left : bytes_max;
    if (len > 0) buf_put(out, snap->window.at + from, len);
    *end = snap->at == AT_END && len == left;
    cut_window(snap, offset, bytes_max);
}

bool stream_spot_decode(struct bytes body, struct stream_spot *out)
{
    struct cursor c = cursor_of(body);
    uint8_t kind;
    uint64_t place;
    uint16_t len;
    struct bytes suffix;

    if (!get_u8(&c, &kind) || !get_u64(&c, &place) || !get_u16(&c, &len)) return false;
    if (len > SUFFIX_MAX || !get_bytes(&c, len, &suffix)) return false;
    *out = (struct stream_spot){place, suffix, {c.at, cursor_left(&c)}};
    return true;
}
