/* SPDX-License-Identifier: Apache-2.0 */
/* mem - the allocator that a module is given.  Accounted, so that every growing thing
 * has a bound that can be asked for before the work is done.
 *
 * Limits   `limit` is a soft bound: mem_room() tells whether n more bytes fit under it,
 *          and a caller asks before it takes on work from outside.  mem_alloc() itself
 *          never refuses: a step that was begun is carried through.
 * Errors   none: when the machine itself has no memory the world aborts.
 * Owner    who allocates frees, with the size that was asked for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct mem {
    void *(*resize)(void *ctx, void *old, size_t size_old, size_t size_new); /* 0: free */
    void *ctx;
    size_t used;
    size_t limit; /* 0: none */
};

void *mem_alloc(struct mem *mem, size_t size); /* not zeroed */
void *mem_zero(struct mem *mem, size_t size);
void *mem_resize(struct mem *mem, void *old, size_t size_old, size_t size_new);
void mem_free(struct mem *mem, void *old, size_t size); /* NULL with size 0 is allowed */
bool mem_room(const struct mem *mem, size_t size);
