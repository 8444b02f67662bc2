/* SPDX-License-Identifier: Apache-2.0 */
/* units - numbers as people read them.  Each fills `text` and returns it. */
#pragma once

#include <stdint.h>

enum { UNIT_TEXT_MAX = 24 };

const char *size_text(uint64_t bytes, char text[UNIT_TEXT_MAX]); /* "1.5 MB" */
const char *time_text(uint64_t ms, char text[UNIT_TEXT_MAX]);    /* "250 ms", "3 h" */
const char *count_text(uint64_t n, char text[UNIT_TEXT_MAX]);    /* "12.3 k" */
const char *rate_text(double per_s, char text[UNIT_TEXT_MAX]);   /* "1.2 k/s" */
