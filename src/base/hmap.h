/* SPDX-License-Identifier: Apache-2.0 */
/* hmap - a hash map from 64-bit keys (ids, or hashes already) to pointers: open
 * addressing, linear probing, backward-shift deletion, grown at 3/4 full by doubling.
 *
 * Iteration order is that of the table and depends only on the keys and the order of
 * changes, never on addresses, so that the simulator repeats it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct hmap_cell {
    uint64_t key;
    void *value; /* NULL: free cell */
};

struct hmap {
    struct hmap_cell *cells;
    uint64_t count, cap; /* cap: 0 or a power of two */
    struct mem *mem;
};

struct hmap hmap_new(struct mem *mem);
void hmap_free(struct hmap *map);
void *hmap_find(const struct hmap *map, uint64_t key);
void *hmap_put(struct hmap *map, uint64_t key, void *value); /* the old value, or NULL */
void *hmap_remove(struct hmap *map, uint64_t key);
/* Walk: start with *at = 0; false at the end.  No change of the map in between. */
bool hmap_next(const struct hmap *map, uint64_t *at, uint64_t *key, void **value);
