/* SPDX-License-Identifier: Apache-2.0 */
#include "host/fatal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* The one writable global of the program: a failed check has no argument through which the
 * ring could reach it. */
static const struct trace *_Atomic lent;

void fatal_lend_trace(const struct trace *trace)
{
    atomic_store(&lent, trace);
}

/* Another thread may fail while the loop writes a note: a line may then be wrong, and that
 * is all. */
_Noreturn void check_failed(const char *what, const char *file, int line)
{
    const struct trace *t = atomic_exchange(&lent, NULL);

    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
    if (t != NULL) {
        const uint64_t first = t->count > TRACE_NOTES ? t->count - TRACE_NOTES : 0;
        fprintf(stderr, "the last %" PRIu64 " events, oldest first:\n", t->count - first);
        for (uint64_t i = first; i < t->count; i++) {
            const struct trace_note *n = &t->notes[i % TRACE_NOTES];
            fprintf(stderr, "  %s %" PRIu64 " %" PRIu64 "\n", n->what, n->a, n->b);
        }
    }
    fprintf(stderr, "this is a defect of sennit; please report it with these lines\n");
    fflush(stderr);
    abort();
}
