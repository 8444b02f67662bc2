/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum {
    BUF_CAP_MIN = 64,
    BUF_DOUBLES_TO = 16 << 20, /* then it grows by a quarter: memory is counted by cap */
    VARINT_MAX = 10,
};

void buf_free(struct buf *b)
{
    mem_free(b->mem, b->at, b->cap);
    *b = buf_new(b->mem);
}

/* Apart from buf_reserve(), so that the test before it stays small enough to inline. */
static void grow(struct buf *b, size_t more)
{
    check(more <= SIZE_MAX / 4 - b->len);

    const size_t need = b->len + more;
    size_t cap = b->cap > 0 ? b->cap : BUF_CAP_MIN;
    while (cap < need && cap < BUF_DOUBLES_TO)
        cap *= 2;
    if (cap < need) cap = need - cap > cap / 4 ? need : cap + cap / 4;
    b->at = mem_resize(b->mem, b->at, b->cap, cap);
    b->cap = cap;
}

void buf_reserve(struct buf *b, size_t more)
{
    if (UNLIKELY(b->cap - b->len < more)) grow(b, more);
}

uint8_t *buf_extend(struct buf *b, size_t len)
{
    /* Never NULL, not even for nothing: callers do arithmetic on it. */
    if (UNLIKELY(b->cap - b->len < len || b->at == NULL)) grow(b, len);

    uint8_t *at = b->at + b->len;
    b->len += len;
    return at;
}

void buf_put(struct buf *b, const void *at, size_t len)
{
    if (len == 0) return;
    memcpy(buf_extend(b, len), at, len);
}

void buf_put_u8(struct buf *b, uint8_t v)
{
    *buf_extend(b, sizeof v) = v;
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    store_u16le(buf_extend(b, sizeof v), v);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    store_u32le(buf_extend(b, sizeof v), v);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    store_u64le(buf_extend(b, sizeof v), v);
}

void buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t text[VARINT_MAX];
    size_t len = 0;

    while (v >= 0x80) {
        text[len++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    text[len++] = (uint8_t)v;
    buf_put(b, text, len);
}

void buf_put_blob(struct buf *b, struct bytes v)
{
    buf_put_varint(b, v.len);
    buf_put(b, v.at, v.len);
}

void buf_putf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);

    buf_reserve(b, BUF_CAP_MIN);
    const size_t room = b->cap - b->len;
    const int length = vsnprintf((char *)b->at + b->len, room, format, args);
    check(length >= 0);

    if ((size_t)length >= room) {
        buf_reserve(b, (size_t)length + 1);
        vsnprintf((char *)b->at + b->len, (size_t)length + 1, format, again);
    }
    b->len += (size_t)length;

    va_end(again);
    va_end(args);
}

void buf_cut_front(struct buf *b, size_t len)
{
    check(len <= b->len);

    if (len == 0) return;
    b->len -= len;
    if (b->len > 0) memmove(b->at, b->at + len, b->len);
}
