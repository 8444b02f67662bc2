/* SPDX-License-Identifier: Apache-2.0 */
/* omap - an ordered map from 64-bit keys to pointers: a B+tree with linked leaves.
 *
 * One pointer per key; who needs several (equal hashes) chains them behind the pointer.
 * Cost     find, put, remove O(log n): four or five nodes of 512 bytes at a million keys,
 *          of which the upper two or three stay in cache; walking O(1).
 * Cursors  are values and hold no pointers: omap_seek() finds the first key >= k, so a
 *          walk (seek to last key + 1) survives any change in between.  The _from form
 *          keeps the leaf between two steps and is good until the next change.
 * Owner    the map owns its nodes, never what the pointers point to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct omap; /* opaque: allocated by omap_new() from mem */

struct omap *omap_new(struct mem *mem);
void omap_free(struct omap *map);
uint64_t omap_count(const struct omap *map);

void *omap_find(const struct omap *map, uint64_t key); /* NULL: not there */
/* The place of the value at key, made (as NULL) if it is not there; good until the next
 * change of the map.  The caller must store something other than NULL there. */
void **omap_slot(struct omap *map, uint64_t key);
void *omap_remove(struct omap *map, uint64_t key); /* what was there, or NULL */
/* First key >= from; false at the end. */
bool omap_seek(const struct omap *map, uint64_t from, uint64_t *key, void **value);

struct omap_walk {
    const void *leaf;
    uint32_t at;
};
struct omap_walk omap_walk_from(const struct omap *map, uint64_t from);
bool omap_walk_next(struct omap_walk *walk, uint64_t *key, void **value);

/* Every invariant of the tree (order, fill, leaf links); for tests and check_slow. */
void omap_verify(const struct omap *map);
