/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <string.h>

#include "base/check.h"

void *mem_resize(struct mem *mem, void *old, size_t size_old, size_t size_new)
{
    check((old == NULL) == (size_old == 0));
    check(mem->used >= size_old);

    if (size_old == 0 && size_new == 0) return NULL;

    void *fresh = mem->resize(mem->ctx, old, size_old, size_new);
    mem->used -= size_old;
    mem->used += size_new;
    if (size_new == 0) return NULL;
    check(fresh != NULL);
    return fresh;
}

void *mem_alloc(struct mem *mem, size_t size)
{
    return mem_resize(mem, NULL, 0, size);
}

void *mem_zero(struct mem *mem, size_t size)
{
    void *fresh = mem_resize(mem, NULL, 0, size);

    if (size > 0) memset(fresh, 0, size);
    return fresh;
}

void mem_free(struct mem *mem, void *old, size_t size)
{
    mem_resize(mem, old, size, 0);
}

bool mem_room(const struct mem *mem, size_t size)
{
    if (mem->limit == 0) return true;
    return mem->used <= mem->limit && size <= mem->limit - mem->used;
}
