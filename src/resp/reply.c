/* SPDX-License-Identifier: Apache-2.0 */
#include "resp/reply.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

enum {
    HEAD_MAX = 1 + I64_TEXT_MAX + 2, /* a sign byte, a number, CR LF */
    DOUBLE_TEXT_MAX = 40,
    ERROR_TEXT_MAX = 1024,
};

static void put_str(struct reply *r, const char *text)
{
    buf_put(r->out, text, strlen(text));
}

/* Room for the head must have been reserved. */
static void put_head(struct buf *out, char sign, int64_t v)
{
    char text[HEAD_MAX];
    size_t len = 1;

    text[0] = sign;
    if (v >= 0 && v <= 9)
        text[len++] = (char)('0' + v);
    else
        len += format_i64(text + 1, v);
    text[len++] = '\r';
    text[len++] = '\n';
    buf_put(out, text, len);
}

void reply_ok(struct reply *r)
{
    buf_put(r->out, "+OK\r\n", 5);
}

static void put_line(struct reply *r, char sign, const char *text, size_t len)
{
    uint8_t *at = buf_extend(r->out, len + 3);

    at[0] = (uint8_t)sign;
    for (size_t i = 0; i < len; i++)
        at[1 + i] = text[i] == '\r' || text[i] == '\n' ? ' ' : (uint8_t)text[i];
    at[len + 1] = '\r';
    at[len + 2] = '\n';
}

void reply_simple(struct reply *r, const char *text)
{
    put_line(r, '+', text, strlen(text));
}

void reply_error(struct reply *r, const char *text)
{
    put_line(r, '-', text, strlen(text));
}

/* Errors name what the client sent; what is longer than a line should be is cut. */
void reply_errorf(struct reply *r, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check(len >= 0);
    put_line(r, '-', text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

void reply_int(struct reply *r, int64_t v)
{
    put_head(r->out, ':', v);
}

void reply_bulk_begin(struct reply *r, uint64_t len)
{
    put_head(r->out, '$', (int64_t)len);
}

void reply_bulk_end(struct reply *r)
{
    buf_put(r->out, "\r\n", 2);
}

void reply_bulk(struct reply *r, struct bytes v)
{
    buf_reserve(r->out, HEAD_MAX + v.len + 2);
    reply_bulk_begin(r, v.len);
    buf_put(r->out, v.at, v.len);
    reply_bulk_end(r);
}

void reply_bulk_str(struct reply *r, const char *v)
{
    reply_bulk(r, bytes_of_str(v));
}

void reply_bulk_int(struct reply *r, int64_t v)
{
    char text[I64_TEXT_MAX];
    const size_t len = format_i64(text, v);

    reply_bulk(r, (struct bytes){(const uint8_t *)text, len});
}

void reply_null(struct reply *r)
{
    put_str(r, r->version >= 3 ? "_\r\n" : "$-1\r\n");
}

void reply_null_array(struct reply *r)
{
    put_str(r, r->version >= 3 ? "_\r\n" : "*-1\r\n");
}

void reply_array(struct reply *r, uint64_t n)
{
    put_head(r->out, '*', (int64_t)n);
}

void reply_map(struct reply *r, uint64_t pairs)
{
    if (r->version >= 3)
        put_head(r->out, '%', (int64_t)pairs);
    else
        put_head(r->out, '*', (int64_t)(pairs * 2));
}

void reply_set(struct reply *r, uint64_t n)
{
    put_head(r->out, r->version >= 3 ? '~' : '*', (int64_t)n);
}

/* The shortest text that reads back as the same number. */
static void double_format(char text[DOUBLE_TEXT_MAX], double v)
{
    if (isnan(v)) {
        snprintf(text, DOUBLE_TEXT_MAX, "nan");
        return;
    }
    if (isinf(v)) {
        snprintf(text, DOUBLE_TEXT_MAX, v > 0 ? "inf" : "-inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, DOUBLE_TEXT_MAX, "%.*g", digits, v);
        const double back = (double)strtold(text, NULL);
        if (memcmp(&back, &v, sizeof v) == 0) return;
    }
}

void reply_double(struct reply *r, double v)
{
    char text[DOUBLE_TEXT_MAX];

    double_format(text, v);
    if (r->version >= 3)
        put_line(r, ',', text, strlen(text));
    else
        reply_bulk_str(r, text);
}

void reply_verbatim(struct reply *r, const char format[3], struct bytes text)
{
    if (r->version < 3) {
        reply_bulk(r, text);
        return;
    }
    buf_reserve(r->out, HEAD_MAX + text.len + 6);
    put_head(r->out, '=', (int64_t)text.len + 4);
    buf_put(r->out, format, 3);
    buf_put_u8(r->out, ':');
    buf_put(r->out, text.at, text.len);
    buf_put(r->out, "\r\n", 2);
}
