/* SPDX-License-Identifier: Apache-2.0 */
/* ci - many seeds of every plan, seeds that once failed, replays, and the mutants. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ci_order {
    const char *plan; /* NULL: all */
    uint64_t first_seed;
    uint32_t seeds; /* of each plan */
    uint32_t jobs;
    uint32_t run_seconds_max;
    bool replays, mutants;
    const char *seeds_file; /* NULL or not there: none */
};

/* Prints what it finds, and last "N passed, N failed"; 0 if nothing failed. */
int ci_run(const struct ci_order *order);
