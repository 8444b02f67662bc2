/* SPDX-License-Identifier: Apache-2.0 */
/* Requests between servers.  A FORWARD body, one field after the other:
 *
 *   u64 id, u8 kind, u64 term, u8 resp, position, blob once, varint n_watches,
 *   varint n_commands,
 *   n_watches times   blob key, u64 change
 *   n_commands times  varint n_args (from 1), then that many blobs
 *
 * and its reply: u64 id, u8 status, u64 term, u32 leader, position, then the reply's
 * bytes to the end.  A position: u64 index, u64 term, u8 settled (0, 1).
 */
#include "wire/frame.h"

/* Both ends refuse what the one that carries it out could not make sense of. */
static bool is_sound(const struct forward *f)
{
    if (f->kind < FORWARD_COMMANDS || f->kind >= FORWARD_KIND_END) return false;
    if (f->n_watches > FORWARD_COMMANDS_MAX) return false;
    if (f->n_commands > FORWARD_COMMANDS_MAX) return false;
    if (f->once.len > FORWARD_ONCE_MAX) return false;
    if (f->once.len > 0 && f->kind != FORWARD_COMMANDS && f->kind != FORWARD_EXEC)
        return false;

    /* These two are answered with positions and counts, not in RESP. */
    const bool plain = f->kind == FORWARD_WATCH || f->kind == FORWARD_WAIT;
    if (f->resp != 2 && f->resp != 3 && !(plain && f->resp == 0)) return false;

    if (f->kind == FORWARD_WAIT && f->n_watches == 0) return false;
    if (f->kind == FORWARD_META && f->n_commands == 0) return false;
    if (f->kind == FORWARD_LEAD && f->n_commands == 0) return false;
    return true;
}

static void put_position(struct buf *out, const struct forward_position *p)
{
    buf_put_u64(out, p->index.v);
    buf_put_u64(out, p->term.v);
    buf_put_u8(out, p->settled);
}

static bool get_position(struct cursor *in, struct forward_position *out)
{
    uint8_t settled;

    if (!get_u64(in, &out->index.v) || !get_u64(in, &out->term.v)) return false;
    if (!get_u8(in, &settled) || settled > 1) return false;
    out->settled = settled == 1;
    return true;
}

void forward_encode(struct buf *out, const struct forward *f)
{
    check(is_sound(f));

    buf_put_u64(out, f->id);
    buf_put_u8(out, (uint8_t)f->kind);
    buf_put_u64(out, f->term.v);
    buf_put_u8(out, f->resp);
    put_position(out, &f->position);
    buf_put_blob(out, f->once);
    buf_put_varint(out, f->n_watches);
    buf_put_varint(out, f->n_commands);
}

void forward_put_watch(struct buf *out, const struct forward_watch *w)
{
    buf_put_blob(out, w->key);
    buf_put_u64(out, w->change.v);
}

void forward_put_command(struct buf *out, const struct bytes *args, uint32_t n_args)
{
    check(n_args > 0 && n_args <= FORWARD_ARGS_MAX);

    buf_put_varint(out, n_args);
    for (uint32_t i = 0; i < n_args; i++)
        buf_put_blob(out, args[i]);
}

void forward_put_rest(struct buf *out, const struct forward *f)
{
    buf_put(out, f->watches.at, cursor_left(&f->watches));
    buf_put(out, f->commands.at, cursor_left(&f->commands));
}

void forward_address(uint8_t *body, uint64_t id, struct term term,
                     const struct forward_position *position)
{
    store_u64le(body, id);
    store_u64le(body + 9, term.v);             /* behind id and kind */
    store_u64le(body + 18, position->index.v); /* and behind resp */
    store_u64le(body + 26, position->term.v);
    body[34] = position->settled;
}

static bool get_count(struct cursor *in, uint32_t most, uint32_t *out)
{
    uint64_t v;

    if (!get_varint(in, &v) || v > most) return false;
    *out = (uint32_t)v;
    return true;
}

static bool get_watch(struct cursor *in, struct forward_watch *out)
{
    return get_blob(in, &out->key) && get_u64(in, &out->change.v);
}

static bool skip_command(struct cursor *in)
{
    struct bytes arg;
    uint32_t n_args;

    if (!get_count(in, FORWARD_ARGS_MAX, &n_args) || n_args == 0) return false;
    for (uint32_t i = 0; i < n_args; i++)
        if (!get_blob(in, &arg)) return false;
    return true;
}

static bool get_head(struct cursor *in, struct forward *f)
{
    uint8_t kind;

    if (!get_u64(in, &f->id)) return false;
    if (!get_u8(in, &kind)) return false;
    if (!get_u64(in, &f->term.v)) return false;
    if (!get_u8(in, &f->resp)) return false;
    if (!get_position(in, &f->position) || !get_blob(in, &f->once)) return false;
    if (!get_count(in, FORWARD_COMMANDS_MAX, &f->n_watches)) return false;
    if (!get_count(in, FORWARD_COMMANDS_MAX, &f->n_commands)) return false;
    f->kind = (enum forward_kind)kind;
    return is_sound(f);
}

bool forward_decode(struct bytes in, struct forward *out)
{
    struct cursor c = cursor_of(in);
    struct forward_watch watch;
    struct forward f = {0};

    if (!get_head(&c, &f)) return false;

    f.watches = c;
    for (uint32_t i = 0; i < f.n_watches; i++)
        if (!get_watch(&c, &watch)) return false;
    f.watches.end = c.at;

    f.commands = c;
    for (uint32_t i = 0; i < f.n_commands; i++)
        if (!skip_command(&c)) return false;
    if (cursor_left(&c) != 0) return false;

    *out = f;
    return true;
}

void forward_next_watch(struct forward *f, struct forward_watch *out)
{
    check(get_watch(&f->watches, out)); /* forward_decode() has been here */
}

uint32_t forward_peek_args(const struct forward *f)
{
    struct cursor ahead = f->commands;
    uint32_t n_args = 0;

    check(get_count(&ahead, FORWARD_ARGS_MAX, &n_args));
    return n_args;
}

void forward_next_command(struct forward *f, struct bytes *args)
{
    uint32_t n_args = 0;

    check(get_count(&f->commands, FORWARD_ARGS_MAX, &n_args));
    for (uint32_t i = 0; i < n_args; i++)
        check(get_blob(&f->commands, &args[i]));
}

void forward_reply_encode(struct buf *out, const struct forward_reply *r)
{
    check(r->status >= FORWARD_DONE && r->status < FORWARD_STATUS_END);

    buf_put_u64(out, r->id);
    buf_put_u8(out, (uint8_t)r->status);
    buf_put_u64(out, r->term.v);
    buf_put_u32(out, r->leader.v);
    put_position(out, &r->position);
    buf_put(out, r->bytes.at, r->bytes.len);
}

bool forward_reply_decode(struct bytes in, struct forward_reply *out)
{
    struct cursor c = cursor_of(in);
    struct forward_reply r;
    uint8_t status;

    if (!get_u64(&c, &r.id)) return false;
    if (!get_u8(&c, &status)) return false;
    if (status == 0 || status >= FORWARD_STATUS_END) return false;
    if (!get_u64(&c, &r.term.v)) return false;
    if (!get_u32(&c, &r.leader.v)) return false;
    if (!get_position(&c, &r.position)) return false;
    if (!get_bytes(&c, cursor_left(&c), &r.bytes)) return false;

    r.far = (struct far){0};
    r.status = (enum forward_status)status;
    *out = r;
    return true;
}
