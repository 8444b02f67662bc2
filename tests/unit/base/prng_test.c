/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/prng.h"

/* Worked by hand from the definitions of xoshiro256** and splitmix64. */
static void the_first_draws_are_those_of_the_source(void **state)
{
    (void)state;
    struct prng p = {{1, 2, 3, 4}};

    assert_true(prng_next(&p) == 11520);
    assert_true(prng_next(&p) == 0);
    assert_true(prng_next(&p) == 1509978240);
    assert_true(prng_next(&p) == UINT64_C(1215971899390074240));
    assert_true(prng_seed(0).s[0] == UINT64_C(0xe220a8397b1dcdaf));
}

static void equal_seeds_draw_equal_numbers(void **state)
{
    (void)state;
    struct prng a = prng_seed(7), b = prng_seed(7), c = prng_seed(8);

    assert_true(prng_next(&c) != prng_next(&a));
    (void)prng_next(&b);
    for (int i = 0; i < 100; i++)
        assert_true(prng_next(&a) == prng_next(&b));
}

static void draws_stay_in_bounds_and_reach_them(void **state)
{
    (void)state;
    struct prng p = prng_seed(9);
    int seen[7] = {0};

    for (int i = 0; i < 7000; i++)
        seen[prng_below(&p, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 850, 1150);

    for (int i = 0; i < 100; i++) {
        assert_true(prng_below(&p, 1) == 0);
        assert_true(prng_below(&p, UINT64_MAX) < UINT64_MAX);
        assert_true(prng_range(&p, 5, 5) == 5);
        assert_in_range(prng_range(&p, 10, 12), 10, 12);
        (void)prng_range(&p, 0, UINT64_MAX);
        assert_int_equal(prng_chance(&p, 0), 0);
        assert_int_equal(prng_chance(&p, 1000), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_draws_are_those_of_the_source),
        cmocka_unit_test(equal_seeds_draw_equal_numbers),
        cmocka_unit_test(draws_stay_in_bounds_and_reach_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
