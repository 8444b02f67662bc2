/* SPDX-License-Identifier: Apache-2.0 */
/* block - bytes that several keep alive: a large value lies in memory once, and the log, the
 * table, the write to disk and the messages to other servers all refer to it.
 *
 * Who makes one may append to `bytes` until it is shared; what is there may move then, so
 * what refers into it meanwhile does so by offset.  After that nothing of it changes.
 *
 * Owner     each reference; the last one that goes frees it
 * Threads   references are counted by the loop only; other threads read what the loop keeps
 */
#pragma once

#include "base/buf.h"

enum { BLOCK_BYTES_MIN = 256 * 1024 }; /* below this a copy is cheaper than the care */

struct block {
    struct buf bytes;
    uint32_t refs;
};

struct block *block_take(struct buf *bytes); /* one reference; *bytes is empty then */
struct block *block_ref(struct block *b);    /* NULL stays NULL, in both of these */
void block_unref(struct block *b);
/* The bytes as they were, if nobody else refers to them; false: somebody does. */
bool block_untake(struct block *b, struct buf *bytes);
void block_trim(struct block *b); /* gives back what is behind len; bytes may move */

/* A large part of some bytes that is not copied: it belongs at `at` of the rest.  The block may
 * still be filled; what of it is there already tells far_there(). */
struct far {
    struct block *block; /* NULL: there is none */
    uint64_t from, len;  /* in the block's bytes */
    size_t at;
};

static inline uint64_t far_there(const struct far *f)
{
    const uint64_t there = f->block->bytes.len - f->from;
    return there < f->len ? there : f->len;
}

static inline void far_drop(struct far *f)
{
    block_unref(f->block);
    *f = (struct far){0};
}
