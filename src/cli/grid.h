/* SPDX-License-Identifier: Apache-2.0 */
/* grid - rows of text in columns as wide as their widest cell.  A column in which no cell says
 * anything is left out. */
#pragma once

#include <stdio.h>

#include "base/bytes.h"

enum { GRID_COLUMNS_MAX = 20 };

enum grid_tone {
    TONE_PLAIN = 0,
    TONE_HEAD,
    TONE_WARN, /* look at it */
    TONE_BAD,  /* do something */
};

struct grid_column {
    const char *head;
    bool is_number; /* to the right */
};

struct grid_cell {
    size_t at, len; /* in `text` */
    enum grid_tone tone;
};

struct grid {
    const struct grid_column *columns;
    uint32_t n_columns, n_cells, cells_cap;
    struct grid_cell *cells;
    char *text;
    size_t text_len, text_cap;
};

struct grid grid_new(const struct grid_column *columns, uint32_t n);   /* borrowed */
void grid_put(struct grid *g, struct bytes text, enum grid_tone tone); /* row by row */
PRINTF_LIKE(3, 4)
void grid_putf(struct grid *g, enum grid_tone tone, const char *format, ...);
void grid_print(const struct grid *g, FILE *out, bool coloured);
void grid_free(struct grid *g);

/* What follows is of this tone, until TONE_PLAIN. */
void tone_set(FILE *out, bool coloured, enum grid_tone tone);
