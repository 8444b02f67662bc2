/* SPDX-License-Identifier: Apache-2.0 */
/* heap - a binary min-heap of timers that knows where each of its nodes is, so that
 * one can be moved or taken out in O(log n).  A node is embedded in what it wakes. */
#pragma once

#include <stdint.h>

#include "base/mem.h"

struct heap_node {
    uint64_t key; /* the order; ties broken by seq */
    uint64_t seq; /* order of setting, so that equal keys come out first in, first out */
    uint32_t place; /* 1-based place in the heap; 0: not in it */
};

struct heap {
    struct heap_node **nodes;
    uint32_t count, cap;
    uint64_t seq;
    struct mem *mem;
};

struct heap heap_new(struct mem *mem);
void heap_free(struct heap *h);
void heap_set(struct heap *h, struct heap_node *node, uint64_t key); /* in, or moved */
void heap_remove(struct heap *h, struct heap_node *node); /* no-op if not in it */
struct heap_node *heap_min(const struct heap *h);         /* NULL: empty */
