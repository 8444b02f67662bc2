/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hmap.h"

#include "base/check.h"

enum { HMAP_CAP_MIN = 8 };

struct hmap hmap_new(struct mem *mem)
{
    return (struct hmap){.mem = mem};
}

void hmap_free(struct hmap *map)
{
    mem_free(map->mem, map->cells, (size_t)map->cap * sizeof *map->cells);
    *map = hmap_new(map->mem);
}

/* Where a key wants to be: ids are dense and hashes may share low bits, so the high
 * bits of a product choose the cell. */
static uint64_t home(const struct hmap *map, uint64_t key)
{
    const uint64_t mixed = (key ^ key >> 32) * UINT64_C(0x9e3779b97f4a7c15);

    return mixed >> (__builtin_clzll(map->cap) + 1);
}

/* The cell of the key, or the free one where it would go.  There is always a free one. */
static struct hmap_cell *cell_of(const struct hmap *map, uint64_t key)
{
    const uint64_t mask = map->cap - 1;
    uint64_t i = home(map, key);

    while (map->cells[i].value != NULL && map->cells[i].key != key)
        i = (i + 1) & mask;
    return &map->cells[i];
}

void *hmap_find(const struct hmap *map, uint64_t key)
{
    if (map->count == 0) return NULL;
    return cell_of(map, key)->value;
}

static void grow(struct hmap *map)
{
    const struct hmap old = *map;

    map->cap = old.cap > 0 ? old.cap * 2 : HMAP_CAP_MIN;
    map->cells = mem_zero(map->mem, (size_t)map->cap * sizeof *map->cells);
    for (uint64_t i = 0; i < old.cap; i++)
        if (old.cells[i].value != NULL) *cell_of(map, old.cells[i].key) = old.cells[i];
    mem_free(map->mem, old.cells, (size_t)old.cap * sizeof *old.cells);
}

void *hmap_put(struct hmap *map, uint64_t key, void *value)
{
    check(value != NULL);

    if (map->count >= map->cap / 4 * 3) grow(map);

    struct hmap_cell *cell = cell_of(map, key);
    void *old = cell->value;
    *cell = (struct hmap_cell){key, value};
    map->count += old == NULL;
    return old;
}

void *hmap_remove(struct hmap *map, uint64_t key)
{
    if (map->count == 0) return NULL;

    struct hmap_cell *cell = cell_of(map, key);
    void *old = cell->value;
    if (old == NULL) return NULL;

    /* Close the gap: every later cell of the run that may lie in the hole moves there,
     * that is, whose home is not strictly between the hole and itself. */
    const uint64_t mask = map->cap - 1;
    uint64_t hole = (uint64_t)(cell - map->cells);
    for (uint64_t i = (hole + 1) & mask; map->cells[i].value != NULL;
         i = (i + 1) & mask) {
        const uint64_t from_home = (i - home(map, map->cells[i].key)) & mask;
        if (from_home < ((i - hole) & mask)) continue;
        map->cells[hole] = map->cells[i];
        hole = i;
    }
    map->cells[hole] = (struct hmap_cell){0};
    map->count--;
    return old;
}

bool hmap_next(const struct hmap *map, uint64_t *at, uint64_t *key, void **value)
{
    for (; *at < map->cap; ++*at) {
        const struct hmap_cell *cell = &map->cells[*at];
        if (cell->value == NULL) continue;
        *key = cell->key;
        *value = cell->value;
        ++*at;
        return true;
    }
    return false;
}
