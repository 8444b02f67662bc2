/* SPDX-License-Identifier: Apache-2.0 */
#include "data/copy.h"

#include "base/check.h"
#include "base/hash.h"

enum { FRAME_HEAD = 4, FRAME_TAIL = 8, MAGIC_BYTES = 8 };

static const uint8_t magic[MAGIC_BYTES] = "SNTCOPY";

/* ---- writing ---- */

static size_t record_begin(struct buf *out, enum copy_kind kind)
{
    const size_t at = out->len;

    buf_put_u32(out, 0);
    buf_put_u8(out, (uint8_t)kind);
    return at;
}

static void record_end(struct copy_writer *w, struct buf *out, size_t at)
{
    const struct bytes body = {out->at + at + FRAME_HEAD, out->len - at - FRAME_HEAD};

    check(body.len <= COPY_BODY_MAX);
    store_u32le(out->at + at, (uint32_t)body.len);
    w->chain = hash64_seed(body, w->chain);
    buf_put_u64(out, w->chain);
}

void copy_put_head(struct copy_writer *w, struct buf *out, struct group_id group,
                   struct term term, struct log_index index)
{
    const size_t at = record_begin(out, COPY_HEAD);

    buf_put(out, magic, sizeof magic);
    buf_put_u8(out, COPY_FORMAT);
    buf_put_u32(out, group.v);
    buf_put_u64(out, term.v);
    buf_put_u64(out, index.v);
    record_end(w, out, at);
}

void copy_put_key(struct copy_writer *w, struct buf *out, enum item_type type,
                  int64_t deadline_ms, struct bytes key, uint64_t length,
                  struct bytes value)
{
    check(key.len <= KEY_MAX && length <= VALUE_MAX);
    check(value.len == (length <= COPY_PIECE_BYTES ? length : 0));

    const size_t at = record_begin(out, COPY_KEY);
    buf_put_u8(out, (uint8_t)type);
    buf_put_u64(out, (uint64_t)deadline_ms);
    buf_put_blob(out, key);
    buf_put_varint(out, length);
    buf_put(out, value.at, value.len);
    record_end(w, out, at);
    w->keys++;
    w->bytes += length;
}

void copy_put_piece(struct copy_writer *w, struct buf *out, struct bytes piece)
{
    check(piece.len > 0 && piece.len <= COPY_PIECE_BYTES);

    const size_t at = record_begin(out, COPY_PIECE);
    buf_put(out, piece.at, piece.len);
    record_end(w, out, at);
}

void copy_put_end(struct copy_writer *w, struct buf *out)
{
    const size_t at = record_begin(out, COPY_END);

    buf_put_u64(out, w->keys);
    buf_put_u64(out, w->bytes);
    record_end(w, out, at);
}

/* ---- reading ---- */

static enum copy_result head_read(struct copy_reader *r, struct cursor c,
                                  struct copy_record *out)
{
    struct bytes mark;
    uint8_t format;

    if (!get_bytes(&c, sizeof magic, &mark) || memcmp(mark.at, magic, sizeof magic) != 0)
        return COPY_FOREIGN;
    if (!get_u8(&c, &format) || format == 0) return COPY_BROKEN;
    if (format > COPY_FORMAT) return COPY_NEWER;
    if (!get_u32(&c, &out->of.group.v) || !get_u64(&c, &out->of.term.v))
        return COPY_BROKEN;
    if (!get_u64(&c, &out->of.index.v) || cursor_left(&c) != 0) return COPY_BROKEN;
    r->headed = true;
    return COPY_READ;
}

static enum copy_result key_read(struct copy_reader *r, struct cursor c,
                                 struct copy_record *out)
{
    uint8_t type;
    uint64_t deadline;

    if (r->left != 0 || !get_u8(&c, &type) || !get_u64(&c, &deadline)) return COPY_BROKEN;
    if (type == ITEM_NONE || type >= ITEM_TYPE_END) return COPY_BROKEN;
    if (!get_blob(&c, &out->key) || out->key.len > KEY_MAX) return COPY_BROKEN;
    if (!get_varint(&c, &out->length) || out->length > VALUE_MAX) return COPY_BROKEN;
    out->value = (struct bytes){c.at, cursor_left(&c)};
    out->type = (enum item_type)type;
    out->deadline_ms = (int64_t)deadline;
    if (out->value.len != (out->length <= COPY_PIECE_BYTES ? out->length : 0))
        return COPY_BROKEN;
    r->left = out->length - out->value.len;
    r->keys++;
    r->bytes += out->length;
    return COPY_READ;
}

static enum copy_result piece_read(struct copy_reader *r, struct cursor c,
                                   struct copy_record *out)
{
    const uint64_t due = r->left < COPY_PIECE_BYTES ? r->left : COPY_PIECE_BYTES;

    if (due == 0 || cursor_left(&c) != due) return COPY_BROKEN;
    out->value = (struct bytes){c.at, due};
    r->left -= due;
    return COPY_READ;
}

static enum copy_result end_read(struct copy_reader *r, struct cursor c,
                                 struct copy_record *out)
{
    if (r->left != 0 || !get_u64(&c, &out->keys) || !get_u64(&c, &out->bytes))
        return COPY_BROKEN;
    if (cursor_left(&c) != 0) return COPY_BROKEN;
    if (out->keys != r->keys || out->bytes != r->bytes) return COPY_BROKEN;
    r->ended = true;
    return COPY_READ;
}

static enum copy_result body_read(struct copy_reader *r, struct bytes body,
                                  struct copy_record *out)
{
    struct cursor c = cursor_of(body);
    uint8_t kind;

    if (!get_u8(&c, &kind)) return COPY_BROKEN;
    *out = (struct copy_record){.kind = (enum copy_kind)kind};
    if (r->headed == (kind == COPY_HEAD)) return COPY_BROKEN;
    switch (kind) {
    case COPY_HEAD: return head_read(r, c, out);
    case COPY_KEY: return key_read(r, c, out);
    case COPY_PIECE: return piece_read(r, c, out);
    case COPY_END: return end_read(r, c, out);
    default: return COPY_BROKEN;
    }
}

/* Whether the first bytes can be those of a stream at all, of whatever format. */
static bool is_foreign(struct bytes in)
{
    const size_t before = FRAME_HEAD + 1;

    if (in.len > FRAME_HEAD && in.at[FRAME_HEAD] != COPY_HEAD) return true;
    if (in.len <= before) return false;
    const size_t seen = in.len - before < sizeof magic ? in.len - before : sizeof magic;
    return memcmp(in.at + before, magic, seen) != 0;
}

enum copy_result copy_read(struct copy_reader *r, struct bytes in,
                           struct copy_record *out, size_t *used)
{
    if (r->ended) return COPY_DONE;
    if (!r->headed && is_foreign(in)) return COPY_FOREIGN;
    if (in.len < FRAME_HEAD) return COPY_MORE;

    const uint32_t len = load_u32le(in.at);
    if (len == 0 || len > COPY_BODY_MAX) return COPY_BROKEN;
    if (in.len < FRAME_HEAD + (size_t)len + FRAME_TAIL) return COPY_MORE;
    const struct bytes body = {in.at + FRAME_HEAD, len};
    const uint64_t chain = hash64_seed(body, r->chain);
    if (load_u64le(body.at + len) != chain) return COPY_BROKEN;

    struct copy_reader next = *r;
    struct copy_record record;
    const enum copy_result result = body_read(&next, body, &record);
    if (result != COPY_READ) return result;
    next.chain = chain;
    *r = next;
    *out = record;
    *used = FRAME_HEAD + (size_t)len + FRAME_TAIL;
    return COPY_READ;
}
