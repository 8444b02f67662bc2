/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/timeline.h"

struct timeline_event {
    struct heap_node node; /* first: the heap gives it back */
    timeline_act *act;
    void *ctx;
    uint64_t a, b;
    struct timeline_event *next_spare;
};

void timeline_init(struct timeline *t, struct mem *mem)
{
    *t = (struct timeline){.heap = heap_new(mem), .mem = mem};
}

void timeline_at(struct timeline *t, uint64_t at_ns, timeline_act *act, void *ctx,
                 uint64_t a, uint64_t b)
{
    struct timeline_event *e = t->spare;

    if (e != NULL)
        t->spare = e->next_spare;
    else
        e = mem_alloc(t->mem, sizeof *e);
    *e = (struct timeline_event){.act = act, .ctx = ctx, .a = a, .b = b};
    heap_set(&t->heap, &e->node, at_ns > t->now_ns ? at_ns : t->now_ns);
}

bool timeline_next(struct timeline *t)
{
    struct heap_node *node = heap_min(&t->heap);

    if (node == NULL) return false;
    struct timeline_event *e = (struct timeline_event *)node;
    check(node->key >= t->now_ns);
    t->now_ns = node->key;
    t->happened++;
    heap_remove(&t->heap, node);

    const struct timeline_event copy = *e;
    e->next_spare = t->spare;
    t->spare = e;
    copy.act(copy.ctx, copy.a, copy.b);
    return true;
}
