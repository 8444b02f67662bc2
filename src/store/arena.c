/* SPDX-License-Identifier: Apache-2.0 */
#include "store/arena.h"

#include <string.h>

#include "base/check.h"

struct chunk {
    struct chunk *next;
    size_t cap, used;
    uint64_t first, last; /* numbers of the pieces in it; last is 0 while it is empty */
    uint8_t at[];
};

/* An idle shard should cost little, and a server may have ten thousand; a busy one should ask
 * seldom: the first chunk is small, and the others grow with what the arena holds. */
enum { CHUNK_FIRST = 256, CHUNK_MIN = 4 << 10, CHUNK_MAX = 256 << 10 };

static void bury(struct grave *g, struct chunk *chunk)
{
    chunk->next = g->chunks;
    g->chunks = chunk;
    g->bytes += chunk->cap;
}

static struct chunk *dig_up(struct grave *g)
{
    struct chunk *chunk = g->chunks;

    g->chunks = chunk->next;
    g->bytes -= chunk->cap;
    return chunk;
}

void grave_empty(struct grave *g, uint32_t chunks_max)
{
    while (g->chunks != NULL && chunks_max-- > 0) {
        struct chunk *chunk = dig_up(g);
        mem_free(g->mem, chunk, sizeof *chunk + chunk->cap);
    }
}

/* A buried one serves that is no larger than what would be made: with a large one an empty
 * table would seem to hold a lot, and be due for a checkpoint for ever. */
static struct chunk *chunk_new(struct arena *a, size_t need)
{
    struct grave *g = a->grave;
    struct chunk *chunk;

    size_t cap = a->bytes / 4 / CHUNK_MIN * CHUNK_MIN;
    if (cap < CHUNK_MIN) cap = a->bytes == 0 ? CHUNK_FIRST : CHUNK_MIN;
    if (cap > CHUNK_MAX) cap = CHUNK_MAX;
    cap -= sizeof *chunk;
    if (cap < need) cap = need;
    if (g->chunks != NULL && g->chunks->cap >= need && g->chunks->cap <= cap) {
        chunk = dig_up(g);
    } else {
        chunk = mem_alloc(g->mem, sizeof *chunk + cap);
        chunk->cap = cap;
    }
    chunk->next = NULL;
    chunk->used = 0;
    chunk->first = 0;
    chunk->last = 0;
    a->bytes += chunk->cap;
    return chunk;
}

static void append(struct arena *a, struct chunk *chunk)
{
    if (a->tail != NULL)
        a->tail->next = chunk;
    else
        a->head = chunk;
    a->tail = chunk;
}

void *arena_alloc(struct arena *a, size_t size, uint64_t number)
{
    size = (size + 7) & ~(size_t)7;

    struct chunk *chunk = a->tail;
    if (chunk == NULL || chunk->cap - chunk->used < size) {
        chunk = chunk_new(a, size);
        chunk->first = number;
        append(a, chunk);
    }
    check(number >= chunk->last);
    void *at = chunk->at + chunk->used;
    chunk->used += size;
    chunk->last = number;
    return at;
}

void arena_hold(struct arena *a, struct block *block, uint64_t number)
{
    struct held *held = mem_alloc(a->grave->mem, sizeof *held);

    *held = (struct held){NULL, block_ref(block), number, block->bytes.len};
    if (a->held == NULL) a->held_end = &a->held;
    *a->held_end = held;
    a->held_end = &held->next;
    a->bytes += held->bytes;
}

/* The first in *at. */
static void let_go(struct arena *a, struct held **at)
{
    struct held *held = *at;

    *at = held->next;
    if (*at == NULL) a->held_end = at;
    a->bytes -= held->bytes;
    block_unref(held->block);
    mem_free(a->grave->mem, held, sizeof *held);
}

void arena_seal(struct arena *a)
{
    if (a->tail != NULL) a->tail->used = a->tail->cap;
}

void arena_release(struct arena *a, uint64_t upto)
{
    while (a->held != NULL && a->held->number <= upto)
        let_go(a, &a->held);
    while (a->head != NULL && a->head->last <= upto) {
        struct chunk *chunk = a->head;

        a->head = chunk->next;
        if (a->head == NULL) a->tail = NULL;
        a->bytes -= chunk->cap;
        bury(a->grave, chunk);
    }
}

void arena_release_all(struct arena *a)
{
    arena_release(a, UINT64_MAX);
}

/* What is dead in a chunk that also holds living pieces stays until the chunk goes. */
void arena_rollback(struct arena *a, uint64_t after)
{
    struct chunk **link = &a->head;
    struct held **held = &a->held;

    while (*held != NULL && (*held)->number <= after)
        held = &(*held)->next;
    while (*held != NULL)
        let_go(a, held);
    a->tail = NULL;
    while (*link != NULL) {
        struct chunk *chunk = *link;

        if (chunk->first > after) {
            *link = chunk->next;
            a->bytes -= chunk->cap;
            bury(a->grave, chunk);
            continue;
        }
        if (chunk->last > after) chunk->last = after;
        a->tail = chunk;
        link = &chunk->next;
    }
}

static void *resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    struct arena_mem *m = ctx;
    void *fresh = NULL;

    if (size_new == ARENA_CELL && m->free != NULL) {
        fresh = m->free;
        memcpy(&m->free, fresh, sizeof m->free);
    } else if (size_new > 0) {
        fresh = arena_alloc(&m->arena, size_new, 0);
    }
    if (size_old > 0 && size_new > 0)
        memcpy(fresh, old, size_old < size_new ? size_old : size_new);
    if (size_old == ARENA_CELL) {
        memcpy(old, &m->free, sizeof m->free);
        m->free = old;
    }
    return fresh;
}

void arena_mem_init(struct arena_mem *m, struct grave *grave)
{
    *m = (struct arena_mem){
        .mem = {.resize = resize, .ctx = m},
        .arena = {.grave = grave},
    };
}
