/* SPDX-License-Identifier: Apache-2.0 */
/* buf - a growable run of bytes that owns its memory; what encoders write into.
 *
 * Owner    the buf, until buf_free() or buf_take().  Pointers into it are good until the
 *          next call that may grow it.
 * Growth   doubles, large ones by a quarter, so appending n bytes is O(n) in all.
 */
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "base/mem.h"

struct buf {
    uint8_t *at;
    size_t len, cap;
    struct mem *mem;
};

static inline struct buf buf_new(struct mem *mem)
{
    return (struct buf){NULL, 0, 0, mem};
}

static inline struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->at, b->len};
}

void buf_free(struct buf *b);                   /* empty again, memory given back */
void buf_reserve(struct buf *b, size_t more);   /* room for `more` bytes past len */
uint8_t *buf_extend(struct buf *b, size_t len); /* len grows; the new bytes are unset */
void buf_put(struct buf *b, const void *at, size_t len);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_varint(struct buf *b, uint64_t v);
void buf_put_blob(struct buf *b, struct bytes v); /* varint length, then the bytes */
void buf_putf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_cut_front(struct buf *b, size_t len); /* drop the first len bytes, memmove */
