/* SPDX-License-Identifier: Apache-2.0 */
/* progress - a line on stderr that tells how far something is, if that is a terminal. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "copied" */
    bool shown, on;
    uint64_t begun_ms, told_ms;
    uint64_t keys, bytes;       /* done */
    uint64_t of_keys, of_bytes; /* to be done; 0: not known */
};

struct progress progress_begin(const char *what, uint64_t of_keys, uint64_t of_bytes);
void progress_add(struct progress *p, uint64_t keys, uint64_t bytes);
void progress_hide(struct progress *p); /* before anything else is told */
double progress_seconds(const struct progress *p);
