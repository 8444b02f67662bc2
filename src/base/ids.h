/* SPDX-License-Identifier: Apache-2.0 */
/* ids - one-field structs for what must not be mixed, and the instants that cores see.
 *
 * A group's term is the pair (epoch, term), packed so that plain comparison orders it:
 * the epoch in the high 20 bits, the election term in the low 44.  Elections raise the
 * low part only; only the meta shard raises the epoch (FORCE, recovery, restore).
 * term_next() checks that the low part does not run into the epoch.
 */
#pragma once

#include <stdint.h>

#include "base/check.h"

/* clang-format off */
struct cluster_id { uint64_t v; };  /* drawn once by the founder; 0: none yet */
struct server_id { uint32_t v; };   /* given by the meta shard, from 1, never reused */
struct incarnation { uint64_t v; }; /* drawn at every start of a server, never 0 */
struct group_id { uint32_t v; };    /* one replicated shard; 0 is the meta shard */
struct term { uint64_t v; };        /* epoch << 44 | election term; 0: before any */
struct log_index { uint64_t v; };   /* position in a group's log, from 1; 0: none */
struct instant { uint64_t ns; };    /* monotonic, since this server started */
struct wall { int64_t ms; };        /* Unix time in ms; may jump; for deadlines only */
struct conn_id { uint64_t v; };     /* a client or peer connection, never reused */
/* clang-format on */

enum { TERM_EPOCH_SHIFT = 44 };

static inline uint32_t term_epoch(struct term t)
{
    return (uint32_t)(t.v >> TERM_EPOCH_SHIFT);
}

/* Without its epoch: what a person calls the term. */
static inline uint64_t term_number(struct term t)
{
    return t.v & ((UINT64_C(1) << TERM_EPOCH_SHIFT) - 1);
}

static inline struct term term_next(struct term t)
{
    struct term next = {t.v + 1};
    check(term_epoch(next) == term_epoch(t));
    return next;
}

static inline struct term term_of_epoch(uint32_t epoch)
{
    return (struct term){(uint64_t)epoch << TERM_EPOCH_SHIFT};
}

#define MS_NS UINT64_C(1000000)
#define SEC_NS UINT64_C(1000000000)
