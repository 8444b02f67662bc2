/* SPDX-License-Identifier: Apache-2.0 */
/* arena - memory for what is made in order and dies in order: a queue of chunks that grow
 * at the tail and are let go at the head, each piece numbered by the one who asks for it.
 *
 * Chunks that were let go lie in a grave that several arenas share: they are used again
 * first, and what is left is given back a few at a time, for giving hundreds of megabytes
 * back to the kernel at once would hold up the loop for tens of milliseconds.
 *
 * What a piece refers to in a block is held by the arena under the piece's number, and let go
 * with it.
 *
 * Owner    the arena, until the piece's number is released; pieces are aligned to 8 bytes
 */
#pragma once

#include <stdint.h>

#include "base/block.h"

struct chunk;

struct grave {
    struct mem *mem;
    struct chunk *chunks;
    uint64_t bytes;
};

struct held { /* a reference to a block */
    struct held *next;
    struct block *block;
    uint64_t number;
    uint64_t bytes; /* counted for it: others may still add to the block */
};

struct arena {
    struct grave *grave;
    struct chunk *head, *tail;
    struct held *held, **held_end; /* in the order of numbers */
    uint64_t bytes; /* of all chunks, used or not, and of blocks: what the arena costs */
};

void *arena_alloc(struct arena *a, size_t size, uint64_t number); /* numbers never fall */
/* A reference for the piece that was given last. */
void arena_hold(struct arena *a, struct block *block, uint64_t number);
/* The next piece opens a new chunk. */
void arena_seal(struct arena *a);
/* Pieces up to this number are dead. */
void arena_release(struct arena *a, uint64_t upto);
/* Pieces after this number are dead, and it is the last that was given. */
void arena_rollback(struct arena *a, uint64_t after);
void arena_release_all(struct arena *a);

void grave_empty(struct grave *g, uint32_t chunks_max); /* gives back so many at most */

/* The same as a struct mem, for maps that are made and dropped as a whole; what they free
 * before that is used again by those that ask for just as much. */
struct arena_mem {
    struct mem mem;
    struct arena arena;
    void *free; /* of ARENA_CELL bytes each */
};
enum { ARENA_CELL = 512 }; /* a node of struct omap */

/* `m` must not move afterwards. */
void arena_mem_init(struct arena_mem *m, struct grave *grave);
