/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/grid.h"

#include "unit.h"

static const struct grid_column columns[] = {
    {"NAME", false}, {"NONE", false}, {"N", true}, {"LAST", false}};

enum { TEXT_MAX = 512 };

static const char *printed(const struct grid *g, bool coloured, char text[TEXT_MAX])
{
    FILE *out = tmpfile();

    assert_non_null(out);
    grid_print(g, out, coloured);
    rewind(out);
    text[fread(text, 1, TEXT_MAX - 1, out)] = 0;
    assert_int_equal(fclose(out), 0);
    return text;
}

static struct grid sample(void)
{
    struct grid g = grid_new(columns, 4);

    grid_put(&g, BYTES_OF("a"), TONE_PLAIN);
    grid_put(&g, BYTES_OF(""), TONE_PLAIN);
    grid_putf(&g, TONE_PLAIN, "%d", 7);
    grid_put(&g, BYTES_OF("x"), TONE_PLAIN);
    grid_put(&g, BYTES_OF("longer"), TONE_BAD);
    grid_put(&g, BYTES_OF(""), TONE_WARN);
    grid_putf(&g, TONE_PLAIN, "%d", 1234);
    grid_put(&g, BYTES_OF(""), TONE_PLAIN);
    return g;
}

static void columns_are_as_wide_as_their_widest_cell_and_empty_ones_left_out(void **state)
{
    (void)state;
    struct grid g = sample();
    char text[TEXT_MAX];

    assert_string_equal(printed(&g, false, text), "  NAME       N  LAST\n"
                                                  "  a          7  x\n"
                                                  "  longer  1234  -\n");
    grid_free(&g);
}

static void only_what_has_a_tone_is_coloured(void **state)
{
    (void)state;
    struct grid g = sample();
    char text[TEXT_MAX];

    assert_string_equal(printed(&g, true, text),
                        "  \033[2mNAME  \033[0m  \033[2m   N\033[0m  \033[2mLAST\033[0m\n"
                        "  a          7  x\n"
                        "  \033[31mlonger\033[0m  1234  -\n");
    grid_free(&g);
}

static void without_rows_all_heads_are_there(void **state)
{
    (void)state;
    struct grid g = grid_new(columns, 4);
    char text[TEXT_MAX];

    assert_string_equal(printed(&g, false, text), "  NAME  NONE  N  LAST\n");
    grid_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            columns_are_as_wide_as_their_widest_cell_and_empty_ones_left_out),
        cmocka_unit_test(only_what_has_a_tone_is_coloured),
        cmocka_unit_test(without_rows_all_heads_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
