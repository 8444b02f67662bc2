/* SPDX-License-Identifier: Apache-2.0 */
/* check - our own mistakes end the process, in every build.
 *
 * A failed check calls check_failed(), which each world (host, sim, the unit tests)
 * defines for itself: it tells the place, and what it knows of the last steps, and
 * aborts.  It never returns.  What comes from outside (sockets, files, peers) is
 * decoded and refused, never checked. */
#pragma once

#include <assert.h>
#include <stdbool.h>

#if defined(__GNUC__)
#define LIKELY(x) (__builtin_expect(!!(x), 1))
#define UNLIKELY(x) (__builtin_expect(!!(x), 0))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#endif

#define check(x) (LIKELY(x) ? (void)0 : check_failed(#x, __FILE__, __LINE__))

/* For what costs more than a few cache lines: debug builds and the simulator only. */
#ifdef SENNIT_CHECK_SLOW
#define check_slow(x) check(x)
#else
#define check_slow(x) ((void)0)
#endif

_Noreturn void check_failed(const char *what, const char *file, int line);
