/* SPDX-License-Identifier: Apache-2.0 */
/* token - SESSION TOKEN and SESSION RESUME: where a connection has been in each shard's log,
 * as a text that another connection, to whichever server, goes on from.
 *
 *   u8 format 1, u64 cluster, varint n, n times position, u64 XXH3-64 of all before it
 *   position: varint group, varint index, varint term, u8 settled
 *   in hexadecimal digits; integers little-endian
 *
 * The checksum keeps a mangled token out, and the cluster's id a foreign one.  It is no proof
 * of origin: who makes up a token can make nobody but himself wait.
 *
 * RESUME takes the token's positions instead of the connection's own.  Of two positions whose
 * logs may have parted, neither could stand for both; from then on each answer is checked
 * against the one there is before it becomes the next one.
 *
 * What a connection is told later, by whichever replica, is checked against its positions
 * where it is evaluated: shard_position().
 */
#include "base/hash.h"
#include "server/server_state.h"

enum {
    TOKEN_FORMAT = 1,
    TOKEN_SHARDS_MAX = 256,
    POSITION_BYTES_MAX = 5 + 10 + 10 + 1,
    TOKEN_BYTES_MAX = 1 + 8 + 2 + TOKEN_SHARDS_MAX * POSITION_BYTES_MAX + 8,
};

/* ---- text ---- */

static void hex_put(struct buf *out, struct bytes in)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < in.len; i++) {
        buf_put_u8(out, (uint8_t)digits[in.at[i] >> 4]);
        buf_put_u8(out, (uint8_t)digits[in.at[i] & 15]);
    }
}

static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_get(struct bytes text, struct buf *out)
{
    if (text.len % 2 != 0 || text.len / 2 > TOKEN_BYTES_MAX) return false;
    for (size_t i = 0; i < text.len; i += 2) {
        const int high = digit_of(text.at[i]), low = digit_of(text.at[i + 1]);
        if (high < 0 || low < 0) return false;
        buf_put_u8(out, (uint8_t)(high << 4 | low));
    }
    return true;
}

/* ---- giving one ---- */

/* What was not committed when it was noted may be by now, for all this server knows. */
static void settle(struct server *s, struct client_position *p)
{
    const struct slot *slot = server_slot_find(s, p->group);

    if (p->seen.settled || slot == NULL || slot->shard == NULL) return;
    const struct shard_position here = shard_position_at(slot->shard, p->seen.index);
    if (here.term.v == p->seen.term.v && here.index.v == p->seen.index.v)
        p->seen.settled = here.settled;
}

void token_give(struct server *s, struct client *c)
{
    if (c->n_positions > TOKEN_SHARDS_MAX) {
        session_error(
            s, c,
            "ERR this connection has touched more than 256 shards, the most that a "
            "token holds");
        return;
    }
    c->session = true;
    struct buf token = buf_new(s->mem), text = buf_new(s->mem);
    buf_put_u8(&token, TOKEN_FORMAT);
    buf_put_u64(&token, s->identity.cluster.v);
    buf_put_varint(&token, c->n_positions);
    for (uint32_t i = 0; i < c->n_positions; i++) {
        struct client_position *p = &c->positions[i];
        settle(s, p);
        buf_put_varint(&token, p->group.v);
        buf_put_varint(&token, p->seen.index.v);
        buf_put_varint(&token, p->seen.term.v);
        buf_put_u8(&token, p->seen.settled);
    }
    buf_put_u64(&token, hash64(buf_bytes(&token)));
    hex_put(&text, buf_bytes(&token));
    struct reply r = answer_now(c);
    reply_bulk(&r, buf_bytes(&text));
    answer_now_done(s, c);
    buf_free(&token);
    buf_free(&text);
}

/* ---- taking one ---- */

enum token_result { TOKEN_GOOD = 1, TOKEN_MALFORMED, TOKEN_FOREIGN };

static bool position_get(struct cursor *in, struct client_position *out)
{
    uint64_t group;
    uint8_t settled;

    *out = (struct client_position){0};
    if (!get_varint(in, &group) || group > UINT32_MAX) return false;
    if (!get_varint(in, &out->seen.index.v) || out->seen.index.v == 0) return false;
    if (!get_varint(in, &out->seen.term.v) || out->seen.term.v == 0) return false;
    if (!get_u8(in, &settled) || settled > 1) return false;
    out->group.v = (uint32_t)group;
    out->seen.settled = settled == 1;
    return true;
}

/* All of it is read before any of it counts: twice, the second time with `c`. */
static enum token_result token_read(struct bytes token, struct cluster_id cluster,
                                    struct client *c)
{
    struct client_position p;
    uint64_t its_cluster, n;
    uint8_t format;

    if (token.len < sizeof(uint64_t)) return TOKEN_MALFORMED;
    const struct bytes body = {token.at, token.len - sizeof(uint64_t)};
    if (load_u64le(token.at + body.len) != hash64(body)) return TOKEN_MALFORMED;
    struct cursor in = cursor_of(body);
    if (!get_u8(&in, &format) || format != TOKEN_FORMAT) return TOKEN_MALFORMED;
    if (!get_u64(&in, &its_cluster) || !get_varint(&in, &n)) return TOKEN_MALFORMED;
    if (its_cluster != cluster.v) return TOKEN_FOREIGN;
    if (n > TOKEN_SHARDS_MAX) return TOKEN_MALFORMED;
    for (uint64_t i = 0; i < n; i++) {
        if (!position_get(&in, &p)) return TOKEN_MALFORMED;
        if (c != NULL) client_note(c, p.group, p.seen, false);
    }
    return cursor_left(&in) == 0 ? TOKEN_GOOD : TOKEN_MALFORMED;
}

void token_resume(struct server *s, struct client *c, struct bytes text)
{
    if (c->n_watches > 0) {
        session_error(s, c,
                      "ERR a session is resumed before WATCH, not between WATCH and "
                      "EXEC");
        return;
    }
    struct buf token = buf_new(s->mem);
    enum token_result result = TOKEN_MALFORMED;

    if (hex_get(text, &token))
        result = token_read(buf_bytes(&token), s->identity.cluster, NULL);
    switch (result) {
    case TOKEN_GOOD:
        if (s->config.mutant.server == 5) { /* the simulator's: it means nothing */
            session_simple(s, c, "OK");
            break;
        }
        c->n_positions = 0;
        result = token_read(buf_bytes(&token), s->identity.cluster, c);
        check(result == TOKEN_GOOD);
        c->session = true;
        session_simple(s, c, "OK");
        break;
    case TOKEN_MALFORMED: session_error(s, c, "ERR this is no session token"); break;
    case TOKEN_FOREIGN:
        session_error(s, c, "ERR this session token is of another cluster");
        break;
    }
    buf_free(&token);
}
