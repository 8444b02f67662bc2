/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of frames.  Each has one encoding: what decodes encodes to the same bytes,
 * and a body that goes on after its last field is refused. */
#include "wire/frame.h"

static bool get_flag(struct cursor *in, bool *out)
{
    struct cursor ahead = *in;
    uint8_t v;

    if (!get_u8(&ahead, &v) || v > 1) return false;
    *out = v;
    *in = ahead;
    return true;
}

static bool get_text(struct cursor *in, size_t len_max, struct bytes *out)
{
    return get_blob(in, out) && out->len <= len_max;
}

void hello_encode(struct buf *out, const struct hello *h)
{
    check(h->name.len <= WIRE_NAME_MAX);
    check(h->to_name.len <= WIRE_NAME_MAX);

    buf_put_blob(out, h->name);
    buf_put_blob(out, h->to_name);
    buf_put(out, h->nonce, sizeof h->nonce);
    buf_put_u8(out, h->secret);
    buf_put_u32(out, h->feature);
}

bool hello_decode(struct bytes in, struct hello *out)
{
    struct cursor c = cursor_of(in);
    struct bytes nonce;
    struct hello h;

    if (!get_text(&c, WIRE_NAME_MAX, &h.name)) return false;
    if (!get_text(&c, WIRE_NAME_MAX, &h.to_name)) return false;
    if (!get_bytes(&c, sizeof h.nonce, &nonce)) return false;
    if (!get_flag(&c, &h.secret)) return false;
    if (!get_u32(&c, &h.feature)) return false;
    if (cursor_left(&c) != 0) return false;

    memcpy(h.nonce, nonce.at, sizeof h.nonce);
    *out = h;
    return true;
}

void join_encode(struct buf *out, const struct join *j)
{
    check(j->name.len <= WIRE_NAME_MAX);
    check(j->client.len <= WIRE_ADDRESS_MAX);
    check(j->peer.len <= WIRE_ADDRESS_MAX);
    check(j->zone.len <= WIRE_ADDRESS_MAX);

    buf_put_blob(out, j->name);
    buf_put_blob(out, j->client);
    buf_put_blob(out, j->peer);
    buf_put_blob(out, j->zone);
}

bool join_decode(struct bytes in, struct join *out)
{
    struct cursor c = cursor_of(in);
    struct join j;

    if (!get_text(&c, WIRE_NAME_MAX, &j.name)) return false;
    if (!get_text(&c, WIRE_ADDRESS_MAX, &j.client)) return false;
    if (!get_text(&c, WIRE_ADDRESS_MAX, &j.peer)) return false;
    if (!get_text(&c, WIRE_ADDRESS_MAX, &j.zone)) return false;
    if (cursor_left(&c) != 0) return false;

    *out = j;
    return true;
}

void joined_encode(struct buf *out, const struct joined *j)
{
    check(!j->ok || (j->cluster.v != 0 && j->server.v != 0));

    buf_put_u8(out, j->ok);
    buf_put_blob(out, j->text);
    buf_put_u64(out, j->cluster.v);
    buf_put_u32(out, j->server.v);
}

bool joined_decode(struct bytes in, struct joined *out)
{
    struct cursor c = cursor_of(in);
    struct joined j;

    if (!get_flag(&c, &j.ok)) return false;
    if (!get_blob(&c, &j.text)) return false;
    if (!get_u64(&c, &j.cluster.v)) return false;
    if (!get_u32(&c, &j.server.v)) return false;
    if (cursor_left(&c) != 0) return false;
    if (j.ok && (j.cluster.v == 0 || j.server.v == 0)) return false;

    *out = j;
    return true;
}

void piece_encode(struct buf *out, const struct piece *p)
{
    check(p->bytes.len > 0 && p->bytes.len <= PIECE_BYTES);
    check(p->bytes.len <= p->total && p->offset <= p->total - p->bytes.len);

    buf_reserve(out, PIECE_HEAD + p->bytes.len);
    buf_put_u64(out, p->stream);
    buf_put_u64(out, p->offset);
    buf_put_u64(out, p->total);
    buf_put(out, p->bytes.at, p->bytes.len);
}

bool piece_decode(struct bytes in, struct piece *out)
{
    struct cursor c = cursor_of(in);
    struct piece p;

    if (!get_u64(&c, &p.stream)) return false;
    if (!get_u64(&c, &p.offset)) return false;
    if (!get_u64(&c, &p.total)) return false;
    if (cursor_left(&c) == 0 || cursor_left(&c) > PIECE_BYTES) return false;
    if (!get_bytes(&c, cursor_left(&c), &p.bytes)) return false;
    if (p.bytes.len > p.total || p.offset > p.total - p.bytes.len) return false;

    *out = p;
    return true;
}
