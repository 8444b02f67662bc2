/* SPDX-License-Identifier: Apache-2.0 */
/* run - one plan with one seed, from the first start to the verdict; and many of them, each
 * in a process of its own.
 *
 *   setting up   the servers start, join, and every shard has its members
 *   storm        clients ask, faults come and go as the story says
 *   calm         faults have ended: everything must make progress again
 *   verdict      every object is read once more; histories, states, memberships are judged
 */
#pragma once

#include "sim/plan.h"
#include "sim/world.h"

struct run_order {
    const struct plan *plan;
    uint64_t seed;
    uint8_t salt;
    bool verbose;
    struct server_mutant mutant;
    bool left_out[STORY_MAX];
    uint32_t seconds_max; /* of real time; the run fails past them */
};

/* In this process; never returns. */
_Noreturn void run_here(const struct run_order *order);
void run_in_child(const struct run_order *order, struct report *out);

/* Runs `n` orders, `jobs` at a time; next() fills in order i (false: skip it), done() is
 * called as each ends and says whether to go on. */
struct run_batch {
    uint32_t n, jobs;
    void *ctx;
    bool (*next)(void *ctx, uint32_t i, struct run_order *order);
    bool (*done)(void *ctx, uint32_t i, const struct run_order *order,
                 const struct report *report);
};
void run_batch(const struct run_batch *batch);

/* Leaves out what faults it can while the run still fails; at most `tries` runs.  *order is
 * the smallest found, *report its report. */
void run_shrink(struct run_order *order, struct report *report, uint32_t tries);
