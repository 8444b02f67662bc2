/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include <stdbool.h>

#include "base/check.h"

enum { HEAP_CAP_MIN = 16 };

struct heap heap_new(struct mem *mem)
{
    return (struct heap){.mem = mem};
}

void heap_free(struct heap *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        h->nodes[i]->place = 0;
    mem_free(h->mem, h->nodes, h->cap * sizeof *h->nodes);
    *h = heap_new(h->mem);
}

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void set_place(struct heap *h, struct heap_node *node, uint32_t place)
{
    h->nodes[place - 1] = node;
    node->place = place;
}

/* The node goes to the place that is free, or to where the order wants it above or below:
 * only one of the two loops can run. */
static void settle(struct heap *h, struct heap_node *node, uint32_t place)
{
    for (; place > 1; place /= 2) {
        struct heap_node *parent = h->nodes[place / 2 - 1];
        if (!before(node, parent)) break;
        set_place(h, parent, place);
    }
    for (;;) {
        uint32_t below = place * 2;
        if (below > h->count) break;
        if (below < h->count && before(h->nodes[below], h->nodes[below - 1])) below++;
        if (!before(h->nodes[below - 1], node)) break;
        set_place(h, h->nodes[below - 1], place);
        place = below;
    }
    set_place(h, node, place);
}

void heap_set(struct heap *h, struct heap_node *node, uint64_t key)
{
    if (node->place == 0) {
        check(h->count < UINT32_MAX / 4);
        if (h->count == h->cap) {
            const uint32_t cap = h->cap > 0 ? h->cap * 2 : HEAP_CAP_MIN;
            h->nodes = mem_resize(h->mem, h->nodes, h->cap * sizeof *h->nodes,
                                  cap * sizeof *h->nodes);
            h->cap = cap;
        }
        node->place = ++h->count;
    } else {
        check(node->place <= h->count);
        check(h->nodes[node->place - 1] == node);
        if (node->key == key) return;
    }
    node->key = key;
    node->seq = ++h->seq;
    settle(h, node, node->place);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->place == 0) return;
    check(node->place <= h->count);
    check(h->nodes[node->place - 1] == node);

    const uint32_t place = node->place;
    struct heap_node *last = h->nodes[--h->count];
    node->place = 0;
    if (last != node) settle(h, last, place);
}

struct heap_node *heap_min(const struct heap *h)
{
    return h->count > 0 ? h->nodes[0] : NULL;
}
