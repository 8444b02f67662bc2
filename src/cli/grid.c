/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/grid.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct grid grid_new(const struct grid_column *columns, uint32_t n)
{
    check(n <= GRID_COLUMNS_MAX);
    return (struct grid){.columns = columns, .n_columns = n};
}

void grid_put(struct grid *g, struct bytes text, enum grid_tone tone)
{
    if (g->n_cells == g->cells_cap) {
        g->cells_cap = g->cells_cap == 0 ? 64 : g->cells_cap * 2;
        g->cells = realloc(g->cells, g->cells_cap * sizeof *g->cells);
        check(g->cells != NULL);
    }
    if (g->text_cap - g->text_len < text.len) {
        g->text_cap = (g->text_len + text.len) * 2;
        g->text = realloc(g->text, g->text_cap);
        check(g->text != NULL);
    }
    g->cells[g->n_cells++] = (struct grid_cell){g->text_len, text.len, tone};
    if (text.len > 0) memcpy(g->text + g->text_len, text.at, text.len);
    g->text_len += text.len;
}

void grid_putf(struct grid *g, enum grid_tone tone, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    grid_put(g, bytes_of_str(text), tone);
}

void tone_set(FILE *out, bool coloured, enum grid_tone tone)
{
    static const char *const codes[] = {[TONE_PLAIN] = "\033[0m",
                                        [TONE_HEAD] = "\033[2m",
                                        [TONE_WARN] = "\033[33m",
                                        [TONE_BAD] = "\033[31m"};

    if (coloured) fputs(codes[tone], out);
}

static void print_cell(FILE *out, struct bytes text, size_t width, bool to_the_right,
                       bool is_last)
{
    const int pad = (int)(width - text.len);

    if (to_the_right) fprintf(out, "%*s", pad, "");
    fwrite(text.at, 1, text.len, out);
    if (!to_the_right && !is_last) fprintf(out, "%*s", pad, "");
}

/* A row's cells are `cells`; NULL: the heads. */
static void print_row(const struct grid *g, FILE *out, bool coloured,
                      const struct grid_cell *cells, const size_t *widths, uint32_t last)
{
    for (uint32_t i = 0; i <= last; i++) {
        const struct grid_column *column = &g->columns[i];
        const enum grid_tone tone = cells == NULL ? TONE_HEAD : cells[i].tone;
        struct bytes text = bytes_of_str(column->head);

        if (widths[i] == 0) continue;
        if (cells != NULL)
            text = cells[i].len == 0
                       ? BYTES_OF("-")
                       : (struct bytes){(const uint8_t *)g->text + cells[i].at,
                                        cells[i].len};
        fputs("  ", out);
        if (tone != TONE_PLAIN) tone_set(out, coloured, tone);
        print_cell(out, text, widths[i], column->is_number, i == last);
        if (tone != TONE_PLAIN) tone_set(out, coloured, TONE_PLAIN);
    }
    fputc('\n', out);
}

void grid_print(const struct grid *g, FILE *out, bool coloured)
{
    size_t widths[GRID_COLUMNS_MAX] = {0}; /* 0: left out */
    uint32_t last = 0;

    check(g->n_cells % g->n_columns == 0);
    for (uint32_t i = 0; i < g->n_cells; i++) {
        const uint32_t column = i % g->n_columns;
        if (g->cells[i].len > widths[column]) widths[column] = g->cells[i].len;
    }
    for (uint32_t i = 0; i < g->n_columns; i++) {
        const size_t head = strlen(g->columns[i].head);
        if (widths[i] == 0 && g->n_cells > 0) continue;
        if (head > widths[i]) widths[i] = head;
        last = i;
    }
    print_row(g, out, coloured, NULL, widths, last);
    for (uint32_t i = 0; i < g->n_cells; i += g->n_columns)
        print_row(g, out, coloured, g->cells + i, widths, last);
}

void grid_free(struct grid *g)
{
    free(g->cells);
    free(g->text);
    *g = (struct grid){.columns = g->columns, .n_columns = g->n_columns};
}
