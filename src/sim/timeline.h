/* SPDX-License-Identifier: Apache-2.0 */
/* timeline - virtual time: what happens next, in an order that a seed fixes.
 *
 * Units    ns since the world began
 * Order    by time; what falls on the same time happens in the order it was asked for
 */
#pragma once

#include "base/heap.h"
#include "base/ids.h"

/* A function, not a struct: the name spares a page of brackets. */
typedef void timeline_act(void *ctx, uint64_t a, uint64_t b);

struct timeline {
    uint64_t now_ns;
    uint64_t happened; /* events so far */
    struct heap heap;
    struct timeline_event *spare;
    struct mem *mem;
};

void timeline_init(struct timeline *t, struct mem *mem);
/* act(ctx, a, b) at the time given, or now if that has passed. */
void timeline_at(struct timeline *t, uint64_t at_ns, timeline_act *act, void *ctx,
                 uint64_t a, uint64_t b);
bool timeline_next(struct timeline *t); /* false: nothing is left to happen */
