/* SPDX-License-Identifier: Apache-2.0 */
#include "resp/parse.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

enum {
    ARGS_CAP_MIN = 16,
    ARGS_CAP_KEPT = 1024,      /* more is given back once the command is done */
    LINE_CAP_KEPT = 16 * 1024, /* likewise for the arguments of an inline command */
    LENGTH_DIGITS_FAST = 18,   /* so many digits cannot overflow */
};

void resp_parser_init(struct resp_parser *p, struct mem *mem)
{
    *p = (struct resp_parser){
        .args_left = -1,
        .bulk_len = -1,
        .line = buf_new(mem),
        .mem = mem,
    };
}

void resp_parser_free(struct resp_parser *p)
{
    mem_free(p->mem, p->args, p->args_cap * sizeof *p->args);
    buf_free(&p->line);
    resp_parser_init(p, p->mem);
}

static enum resp_result broken(struct resp_parsed *out, const char *error)
{
    out->error = error;
    return RESP_BROKEN;
}

static enum resp_result more(struct resp_parsed *out, size_t want)
{
    out->want = want;
    return RESP_MORE;
}

/* The parser stands between two commands again; the caller drops `used` bytes. */
static enum resp_result finish(struct resp_parser *p, struct resp_parsed *out,
                               size_t used)
{
    p->looked = 0;
    p->scanned = 0;
    p->args_left = -1;
    p->bulk_len = -1;

    out->used = used;
    out->args = p->args;
    out->n_args = p->n_args;
    return p->n_args > 0 ? RESP_COMMAND : RESP_NOTHING;
}

/* Slots grow with the arguments that came, not with the number that was announced: ten
 * bytes from a stranger must not cost 16 MB. */
static void add_arg(struct resp_parser *p, size_t offset, size_t len)
{
    if (UNLIKELY(p->n_args == p->args_cap)) {
        const uint32_t cap = p->args_cap > 0 ? p->args_cap * 2 : ARGS_CAP_MIN;
        p->args = mem_resize(p->mem, p->args, p->args_cap * sizeof *p->args,
                             cap * sizeof *p->args);
        p->args_cap = cap;
    }
    p->args[p->n_args++] = (struct bytes){(const uint8_t *)(uintptr_t)offset, len};
}

static void args_point_into(struct resp_parser *p, const uint8_t *at)
{
    for (uint32_t i = 0; i < p->n_args; i++)
        p->args[i].at = at + (uintptr_t)p->args[i].at;
}

static void begin(struct resp_parser *p)
{
    p->n_args = 0;
    p->line.len = 0;
    if (UNLIKELY(p->args_cap > ARGS_CAP_KEPT)) {
        mem_free(p->mem, p->args, p->args_cap * sizeof *p->args);
        p->args = NULL;
        p->args_cap = 0;
    }
    if (UNLIKELY(p->line.cap > LINE_CAP_KEPT)) buf_free(&p->line);
}

/* ---- length lines: a sign byte, a number, CR LF ---- */

enum length_result { LENGTH_OK, LENGTH_MORE, LENGTH_BAD, LENGTH_LONG };

/* Everything that is not a plain number followed by CR LF: a line that has not wholly
 * come, a negative number, nonsense.  What is answered depends only on the bytes up to
 * the one that decides, so it is the same however the stream was cut. */
static enum length_result length_slow(struct resp_parser *p, uint32_t line_max,
                                      struct bytes line, int64_t *v, size_t *len)
{
    const size_t look = line.len <= line_max ? line.len : (size_t)line_max + 1;
    const uint8_t *cr = NULL;

    if (p->scanned < look) cr = memchr(line.at + p->scanned, '\r', look - p->scanned);
    if (cr == NULL) {
        p->scanned = look;
        return look > line_max ? LENGTH_LONG : LENGTH_MORE;
    }

    const size_t at_cr = (size_t)(cr - line.at);
    p->scanned = at_cr;
    if (line.len - at_cr < 2) return LENGTH_MORE;
    if (cr[1] != '\n') return LENGTH_BAD;
    if (!parse_i64((struct bytes){line.at + 1, at_cr - 1}, v)) return LENGTH_BAD;
    *len = at_cr + 2;
    return LENGTH_OK;
}

static inline enum length_result length_read(struct resp_parser *p, uint32_t line_max,
                                             struct bytes line, int64_t *v, size_t *len)
{
    const size_t look = line.len < LENGTH_DIGITS_FAST ? line.len : LENGTH_DIGITS_FAST;
    int64_t n = 0;
    size_t at = 1;

    for (; at < look; at++) {
        const unsigned digit = (unsigned)line.at[at] - '0';
        if (digit > 9) break;
        n = n * 10 + (int64_t)digit;
    }
    if (LIKELY(at > 1 && line.len - at >= 2 && line.at[at] == '\r' &&
               line.at[at + 1] == '\n' && (line.at[1] != '0' || at == 2) &&
               at <= line_max)) {
        *v = n;
        *len = at + 2;
        return LENGTH_OK;
    }
    return length_slow(p, line_max, line, v, len);
}

/* ---- arrays of bulk strings ---- */

static enum resp_result count_read(struct resp_parser *p,
                                   const struct resp_limits *limits, struct bytes in,
                                   struct resp_parsed *out)
{
    int64_t count;
    size_t len;

    switch (length_read(p, limits->inline_max, in, &count, &len)) {
    case LENGTH_OK: break;
    case LENGTH_MORE: return more(out, in.len + 1);
    case LENGTH_BAD: return broken(out, "Protocol error: invalid multibulk length");
    case LENGTH_LONG: return broken(out, "Protocol error: too big mbulk count string");
    }
    if (count > INT32_MAX) return broken(out, "Protocol error: invalid multibulk length");
    if (count > (int64_t)limits->args_max)
        return broken(out, limits->args_max <= RESP_UNAUTH_ARGS_MAX
                               ? "Protocol error: unauthenticated multibulk length"
                               : "Protocol error: invalid multibulk length");
    p->looked = len;
    p->scanned = 0;
    p->args_left = count > 0 ? count : 0;
    return RESP_COMMAND;
}

static enum resp_result bulk_len_read(struct resp_parser *p,
                                      const struct resp_limits *limits, struct bytes in,
                                      struct resp_parsed *out)
{
    const struct bytes line = {in.at + p->looked, in.len - p->looked};
    int64_t bulk;
    size_t len;

    if (line.len == 0) return more(out, in.len + 1);
    if (UNLIKELY(line.at[0] != '$')) {
        snprintf(p->error, sizeof p->error, "Protocol error: expected '$', got '%c'",
                 (char)line.at[0]);
        return broken(out, p->error);
    }
    switch (length_read(p, limits->inline_max, line, &bulk, &len)) {
    case LENGTH_OK: break;
    case LENGTH_MORE: return more(out, in.len + 1);
    case LENGTH_BAD: return broken(out, "Protocol error: invalid bulk length");
    case LENGTH_LONG: return broken(out, "Protocol error: too big bulk count string");
    }
    if (bulk < 0) return broken(out, "Protocol error: invalid bulk length");
    if ((uint64_t)bulk > limits->bulk_max)
        return broken(out, limits->bulk_max <= RESP_UNAUTH_BULK_MAX
                               ? "Protocol error: unauthenticated bulk length"
                               : "Protocol error: invalid bulk length");
    p->looked += len;
    p->scanned = 0;
    p->bulk_len = bulk;
    return RESP_COMMAND;
}

static enum resp_result bulks_read(struct resp_parser *p,
                                   const struct resp_limits *limits, struct bytes in,
                                   struct resp_parsed *out)
{
    while (p->args_left > 0) {
        if (p->bulk_len < 0) {
            const enum resp_result r = bulk_len_read(p, limits, in, out);
            if (UNLIKELY(r != RESP_COMMAND)) return r;
        }

        const size_t len = (size_t)p->bulk_len;
        const uint8_t *at = in.at + p->looked;
        if (in.len - p->looked < len + 2) return more(out, p->looked + len + 2);
        if (UNLIKELY(at[len] != '\r' || at[len + 1] != '\n'))
            return broken(out, "Protocol error: expected CRLF after an argument");

        add_arg(p, p->looked, len);
        p->looked += len + 2;
        p->bulk_len = -1;
        p->args_left--;
    }
    args_point_into(p, in.at);
    return finish(p, out, p->looked);
}

/* ---- inline commands ---- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static uint8_t unescape(uint8_t c)
{
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default: return c;
    }
}

/* A quoted run whose opening quote is just before *at; *at moves behind the closing one,
 * which must end the argument.  "..." knows \n \r \t \b \a \xHH \c, '...' only \'. */
static bool quoted_read(struct cursor *in, uint8_t quote, struct buf *out)
{
    while (in->at < in->end && *in->at != quote) {
        const uint8_t *c = in->at;
        const size_t left = cursor_left(in);

        if (quote == '"' && c[0] == '\\' && left >= 4 && c[1] == 'x' &&
            hex_digit(c[2]) >= 0 && hex_digit(c[3]) >= 0) {
            buf_put_u8(out, (uint8_t)(hex_digit(c[2]) * 16 + hex_digit(c[3])));
            in->at += 4;
        } else if (quote == '"' && c[0] == '\\' && left >= 2) {
            buf_put_u8(out, unescape(c[1]));
            in->at += 2;
        } else if (quote == '\'' && c[0] == '\\' && left >= 2 && c[1] == '\'') {
            buf_put_u8(out, '\'');
            in->at += 2;
        } else {
            buf_put_u8(out, c[0]);
            in->at++;
        }
    }
    if (in->at == in->end) return false;
    in->at++;
    return in->at == in->end || is_space(*in->at);
}

/* One argument; false: its quotes do not pair. */
static bool inline_arg_read(struct cursor *in, struct buf *out)
{
    while (in->at < in->end) {
        const uint8_t c = *in->at;

        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') return true;
        in->at++;
        if (c == '"' || c == '\'') return quoted_read(in, c, out);
        buf_put_u8(out, c);
    }
    return true;
}

static enum resp_result line_split(struct resp_parser *p,
                                   const struct resp_limits *limits, struct bytes line,
                                   struct resp_parsed *out, size_t used)
{
    struct cursor in = cursor_of(line);

    buf_reserve(&p->line, line.len);
    while (true) {
        while (in.at < in.end && is_space(*in.at))
            in.at++;
        if (in.at == in.end) break;

        const size_t start = p->line.len;
        if (!inline_arg_read(&in, &p->line))
            return broken(out, "Protocol error: unbalanced quotes in request");
        if (p->n_args == limits->args_max)
            return broken(out, "Protocol error: too big inline request");
        add_arg(p, start, p->line.len - start);
    }
    if (p->n_args > 0) args_point_into(p, p->line.at);
    return finish(p, out, used);
}

static enum resp_result inline_read(struct resp_parser *p,
                                    const struct resp_limits *limits, struct bytes in,
                                    struct resp_parsed *out)
{
    const size_t max = limits->inline_max;
    const size_t look = in.len <= max ? in.len : max + 1;
    const uint8_t *lf = NULL;

    if (p->scanned < look) lf = memchr(in.at + p->scanned, '\n', look - p->scanned);
    if (lf == NULL) {
        p->scanned = look;
        if (look > max) return broken(out, "Protocol error: too big inline request");
        return more(out, in.len + 1);
    }

    struct bytes line = {in.at, (size_t)(lf - in.at)};
    const size_t used = line.len + 1;
    if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
    return line_split(p, limits, line, out, used);
}

enum resp_result resp_parse(struct resp_parser *p, const struct resp_limits *limits,
                            struct bytes in, struct resp_parsed *out)
{
    check(in.len >= p->looked);
    check(limits->bulk_max <= INT64_MAX / 2);

    *out = (struct resp_parsed){0};
    if (p->args_left < 0) {
        if (p->scanned == 0) begin(p);
        if (in.len == 0) return more(out, 1);
        if (in.at[0] != '*') return inline_read(p, limits, in, out);

        const enum resp_result r = count_read(p, limits, in, out);
        if (r != RESP_COMMAND) return r;
    }
    return bulks_read(p, limits, in, out);
}
