/* SPDX-License-Identifier: Apache-2.0 */
/* table - rows of text in columns as wide as their widest cell. */
#pragma once

#include <stdio.h>

#include "base/bytes.h"

enum { TABLE_COLUMNS_MAX = 12 };

enum table_tone { TONE_PLAIN = 0, TONE_GOOD, TONE_BAD, TONE_HEAD };

struct grid_cell {
    struct bytes text; /* borrowed until the table is printed */
    enum table_tone tone;
};

struct grid {
    uint32_t columns, n_cells, cap;
    struct grid_cell *cells;
};

struct grid grid_new(uint32_t columns, const char *const *heads);
void grid_put(struct grid *t, struct bytes text, enum table_tone tone); /* row by row */
void grid_print(const struct grid *t, FILE *out, bool coloured);
void grid_free(struct grid *t);
