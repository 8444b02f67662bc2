/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/units.h"

#include "unit.h"

static void sizes_are_in_powers_of_1024(void **state)
{
    (void)state;
    char text[UNIT_TEXT_MAX];

    assert_string_equal(size_text(0, text), "0 bytes");
    assert_string_equal(size_text(1023, text), "1023 bytes");
    assert_string_equal(size_text(1536, text), "1.5 KB");
    assert_string_equal(size_text(UINT64_C(12) << 30, text), "12.0 GB");
    assert_string_equal(size_text(UINT64_MAX, text), "16777216.0 TB");
}

static void times_keep_two_of_the_unit_below(void **state)
{
    (void)state;
    char text[UNIT_TEXT_MAX];

    assert_string_equal(time_text(0, text), "0 ms");
    assert_string_equal(time_text(1999, text), "1999 ms");
    assert_string_equal(time_text(2000, text), "2 s");
    assert_string_equal(time_text(119999, text), "119 s");
    assert_string_equal(time_text(7200000, text), "2 h");
    assert_string_equal(time_text(UINT64_C(10) * 24 * 3600000, text), "10 d");
}

static void counts_and_rates_are_in_powers_of_1000(void **state)
{
    (void)state;
    char text[UNIT_TEXT_MAX];

    assert_string_equal(count_text(999, text), "999");
    assert_string_equal(count_text(12345, text), "12.3 k");
    assert_string_equal(rate_text(0, text), "0/s");
    assert_string_equal(rate_text(1234, text), "1.2 k/s");
    assert_string_equal(rate_text(2.5e6, text), "2.5 M/s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_in_powers_of_1024),
        cmocka_unit_test(times_keep_two_of_the_unit_below),
        cmocka_unit_test(counts_and_rates_are_in_powers_of_1000),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
