/* SPDX-License-Identifier: Apache-2.0 */
#include "host/memory.h"

#include <stdio.h>
#include <stdlib.h>

static void *resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    (void)ctx;
    (void)size_old;
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
    return fresh;
}

struct mem memory_new(size_t limit)
{
    return (struct mem){.resize = resize, .limit = limit};
}
