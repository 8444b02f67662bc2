/* SPDX-License-Identifier: Apache-2.0 */
/* watch - a screen that is drawn again and again in place, and put right at the end.
 *
 * On a terminal a frame takes the place of the one before, cut to the window; elsewhere frames
 * come one after the other.  Ctrl-C and SIGTERM end the process with 0 between two frames. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct watch {
    bool in_place;
    char *text; /* the frame being made */
    size_t len;
    FILE *out;
};

void watch_begin(struct watch *w, bool in_place);
FILE *watch_frame(struct watch *w);                  /* to be written to */
void watch_show(struct watch *w, unsigned pause_ms); /* draws it, and waits */
