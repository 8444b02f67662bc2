/* SPDX-License-Identifier: Apache-2.0 */
/* fatal - the real world's check_failed(): where, what the loop did last, abort.
 *
 * The loop notes each event that it hands to the server in a small ring, at the price of
 * three stores, and lends the ring to fatal for as long as it runs.
 */
#pragma once

#include <stdint.h>

#include "base/check.h"

enum { TRACE_NOTES = 128 };

struct trace_note {
    const char *what; /* a literal */
    uint64_t a, b;    /* what it was about: a connection, an op; a length, an error */
};

struct trace {
    struct trace_note notes[TRACE_NOTES];
    uint64_t count;
};

static inline void trace_put(struct trace *t, const char *what, uint64_t a, uint64_t b)
{
    t->notes[t->count++ % TRACE_NOTES] = (struct trace_note){what, a, b};
}

/* NULL takes it back.  One loop a process. */
void fatal_lend_trace(const struct trace *trace);
