/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/grid.h"

#include <stdlib.h>

struct grid grid_new(uint32_t columns, const char *const *heads)
{
    struct grid t = {.columns = columns};

    check(columns <= TABLE_COLUMNS_MAX);
    for (uint32_t i = 0; i < columns; i++)
        grid_put(&t, bytes_of_str(heads[i]), TONE_HEAD);
    return t;
}

void grid_put(struct grid *t, struct bytes text, enum table_tone tone)
{
    if (t->n_cells == t->cap) {
        t->cap = t->cap == 0 ? 64 : t->cap * 2;
        t->cells = realloc(t->cells, t->cap * sizeof *t->cells);
        check(t->cells != NULL);
    }
    if (text.len == 0) text = BYTES_OF("-");
    t->cells[t->n_cells++] = (struct grid_cell){text, tone};
}

void grid_print(const struct grid *t, FILE *out, bool coloured)
{
    static const char *const tones[] = {[TONE_PLAIN] = "",
                                        [TONE_GOOD] = "\033[32m",
                                        [TONE_BAD] = "\033[31m",
                                        [TONE_HEAD] = "\033[2m"};
    size_t widths[TABLE_COLUMNS_MAX] = {0};

    check(t->n_cells % t->columns == 0);
    for (uint32_t i = 0; i < t->n_cells; i++) {
        const size_t len = t->cells[i].text.len;
        if (len > widths[i % t->columns]) widths[i % t->columns] = len;
    }
    for (uint32_t i = 0; i < t->n_cells; i++) {
        const struct grid_cell *cell = &t->cells[i];
        const uint32_t column = i % t->columns;
        const bool is_last = column + 1 == t->columns;
        const bool painted = coloured && cell->tone != TONE_PLAIN;

        fputs("  ", out);
        if (painted) fputs(tones[cell->tone], out);
        fwrite(cell->text.at, 1, cell->text.len, out);
        if (painted) fputs("\033[0m", out);
        if (is_last)
            fputc('\n', out);
        else
            fprintf(out, "%*s", (int)(widths[column] - cell->text.len), "");
    }
}

void grid_free(struct grid *t)
{
    free(t->cells);
    t->cells = NULL;
    t->n_cells = t->cap = 0;
}
