/* SPDX-License-Identifier: Apache-2.0 */
#include "base/block.h"

#include "base/check.h"

struct block *block_take(struct buf *bytes)
{
    struct block *b = mem_alloc(bytes->mem, sizeof *b);

    *b = (struct block){*bytes, 1};
    *bytes = buf_new(bytes->mem);
    return b;
}

struct block *block_ref(struct block *b)
{
    if (b == NULL) return NULL;
    check(b->refs > 0);
    b->refs++;
    return b;
}

void block_unref(struct block *b)
{
    if (b == NULL) return;
    check(b->refs > 0);
    if (--b->refs > 0) return;

    struct mem *mem = b->bytes.mem;
    buf_free(&b->bytes);
    mem_free(mem, b, sizeof *b);
}

bool block_untake(struct block *b, struct buf *bytes)
{
    if (b->refs > 1) return false;

    *bytes = b->bytes;
    mem_free(b->bytes.mem, b, sizeof *b);
    return true;
}

void block_trim(struct block *b)
{
    struct buf *bytes = &b->bytes;

    if (bytes->cap == bytes->len) return;
    bytes->at = mem_resize(bytes->mem, bytes->at, bytes->cap, bytes->len);
    bytes->cap = bytes->len;
}
