/* SPDX-License-Identifier: Apache-2.0 */
#include "host/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_BYTES = 2 << 20, ADVISE_BYTES = 8 << 20 };

/* The first touch of hundreds of MB in pages of 4 KB takes longer than the copy itself.  The
 * kernel need not follow the advice. */
static void advise(void *at, size_t size)
{
    const uintptr_t from = ((uintptr_t)at + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    const uintptr_t upto = ((uintptr_t)at + size) / HUGE_BYTES * HUGE_BYTES;

    if (from < upto) madvise((void *)from, upto - from, MADV_HUGEPAGE);
}

static void *resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    (void)ctx;
    if (size_new == 0) {
        free(old);
        return NULL;
    }

    void *fresh = realloc(old, size_new);
    if (fresh == NULL) {
        fprintf(stderr,
                "out of memory: the machine has no %zu bytes left; lower --memory\n",
                size_new);
        abort();
    }
    if (size_new >= ADVISE_BYTES && size_new > size_old) advise(fresh, size_new);
    return fresh;
}

struct mem memory_new(size_t limit)
{
    return (struct mem){.resize = resize, .limit = limit};
}
