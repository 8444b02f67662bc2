/* SPDX-License-Identifier: Apache-2.0 */
#include "mem_test_alloc.h"

#include <stdlib.h>
#include <string.h>

/* Always moves, so that a pointer kept across a growth is found at once. */
static void *resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    (void)ctx;
    void *fresh = size_new > 0 ? malloc(size_new) : NULL;

    if (size_new > 0 && fresh == NULL) abort();
    if (size_new > 0 && size_old > 0)
        memcpy(fresh, old, size_old < size_new ? size_old : size_new);
    free(old);
    return fresh;
}

struct mem mem_for_test(void)
{
    return (struct mem){.resize = resize};
}
