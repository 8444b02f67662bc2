/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/prng.h"
#include "base/text.h"

static void strict_numbers_are_read(void **state)
{
    (void)state;
    static const int64_t good[] = {0, 1, -1, 10, -10, 1234567890, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char text[32], again[I64_TEXT_MAX];
        int64_t v = 77;
        const int len = snprintf(text, sizeof text, "%lld", (long long)good[i]);
        assert_true(parse_i64(bytes_of_str(text), &v));
        assert_true(v == good[i]);
        assert_int_equal(format_i64(again, v), len);
        assert_memory_equal(text, again, (size_t)len);
    }
}

static void loose_numbers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-",
        "+1",
        " 1",
        "1 ",
        "01",
        "-0",
        "-01",
        "00",
        "1a",
        "a",
        "0x1",
        "1.0",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999999",
    };
    int64_t v = 77;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(parse_i64(bytes_of_str(bad[i]), &v));
    assert_false(parse_i64((struct bytes){(const uint8_t *)"1\0", 2}, &v));
    assert_true(v == 77);
}

static void random_numbers_survive_the_round_trip(void **state)
{
    (void)state;
    struct prng p = prng_seed(12);

    for (int i = 0; i < 5000; i++) {
        const int64_t in = (int64_t)prng_next(&p) >> prng_below(&p, 64);
        char text[I64_TEXT_MAX];
        int64_t out;
        const size_t len = format_i64(text, in);
        assert_true(parse_i64((struct bytes){(const uint8_t *)text, len}, &out));
        assert_true(in == out);
    }
}

static void sizes_and_durations_have_their_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] =
        {
            {"0", 0},
            {"512", 512},
            {"7b", 7},
            {"64k", 64 << 10},
            {"64KB", 64 << 10},
            {"1m", 1 << 20},
            {"3mb", 3 << 20},
            {"2g", UINT64_C(2) << 30},
            {"2Gb", UINT64_C(2) << 30},
        },
      times[] = {
          {"0", 0},
          {"250ms", 250000000},
          {"5s", UINT64_C(5000000000)},
          {"7", UINT64_C(7000000000)},
          {"10m", UINT64_C(600000000000)},
          {"1h", UINT64_C(3600000000000)},
      };
    static const char *const bad[] = {
        "",
        "k",
        "-1",
        " 1",
        "1 k",
        "1kk",
        "1.5g",
        "1t",
        "18446744073709551616",
        "18446744073709551615g",
        "18446744073709551615h",
    };
    uint64_t v;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_true(parse_size(bytes_of_str(sizes[i].text), &v));
        assert_true(v == sizes[i].value);
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_true(parse_duration(bytes_of_str(times[i].text), &v));
        assert_true(v == times[i].value);
    }
    v = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(parse_size(bytes_of_str(bad[i]), &v));
        assert_false(parse_duration(bytes_of_str(bad[i]), &v));
    }
    assert_true(v == 77);
}

static void globs_read_as_in_redis(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"**", "", true},
        {"?", "", false},
        {"*", "anything", true},
        {"a*c", "abbbc", true},
        {"a*c", "abbbd", false},
        {"a*b*c", "a-b-b-c", true},
        {"h?llo", "hello", true},
        {"h?llo", "hllo", false},
        {"h[ae]llo", "hallo", true},
        {"h[ae]llo", "hillo", false},
        {"h[^e]llo", "hallo", true},
        {"h[^e]llo", "hello", false},
        {"[a-c]", "b", true},
        {"[c-a]", "b", true},
        {"[a-c]", "d", false},
        {"[]", "a", false},
        {"[^]", "a", true},
        {"[abc", "b", true},
        {"[a-", "-", true},
        {"[\\]]", "]", true},
        {"[\\-x]", "-", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"\\", "\\", true},
        {"a\\", "a\\", true},
        {"[", "a", false},
        {"[^", "a", true},
        {"*a", "aaaa", true},
        {"*ab", "aaab", true},
        {"*ab*", "xxabyy", true},
        {"a*", "ba", false},
        {"*[0-9]", "key7", true},
        {"*?", "", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool match = glob_match(bytes_of_str(cases[i].pattern),
                                      bytes_of_str(cases[i].text));
        if (match != cases[i].match)
            fail_msg("%s against %s", cases[i].pattern, cases[i].text);
    }
    assert_true(glob_match((struct bytes){0}, (struct bytes){0}));
}

/* A second matcher, over * ? and letters: which prefixes of the text does each prefix
 * of the pattern match? */
static bool glob_by_table(const char *pattern, const char *text)
{
    bool row[32] = {true};
    const size_t n = strlen(text);

    for (; *pattern != '\0'; pattern++) {
        bool next[32] = {false};
        next[0] = *pattern == '*' && row[0];
        for (size_t i = 1; i <= n; i++) {
            if (*pattern == '*')
                next[i] = row[i] || next[i - 1];
            else
                next[i] = row[i - 1] && (*pattern == '?' || *pattern == text[i - 1]);
        }
        memcpy(row, next, sizeof row);
    }
    return row[n];
}

static void random_globs_agree_with_a_table(void **state)
{
    (void)state;
    struct prng p = prng_seed(13);
    int matches = 0;

    for (int i = 0; i < 50000; i++) {
        char pattern[10] = {0}, text[16] = {0};
        const uint64_t pattern_len = prng_below(&p, sizeof pattern);
        const uint64_t text_len = prng_below(&p, sizeof text);
        for (uint64_t k = 0; k < pattern_len; k++)
            pattern[k] = "**?ab"[prng_below(&p, 5)];
        for (uint64_t k = 0; k < text_len; k++)
            text[k] = "ab"[prng_below(&p, 2)];
        const bool match = glob_match(bytes_of_str(pattern), bytes_of_str(text));
        if (match != glob_by_table(pattern, text))
            fail_msg("%s against %s", pattern, text);
        matches += match;
    }
    assert_in_range(matches, 5000, 45000);
}

static void a_hostile_glob_ends_soon(void **state)
{
    (void)state;
    static char pattern[2001], text[20001];

    for (size_t i = 0; i < sizeof pattern - 1; i += 2)
        memcpy(&pattern[i], "*a", 2);
    pattern[sizeof pattern - 2] = 'b';
    memset(text, 'a', sizeof text - 1);
    assert_false(glob_match(bytes_of_str(pattern), bytes_of_str(text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_numbers_are_read),
        cmocka_unit_test(loose_numbers_are_refused),
        cmocka_unit_test(random_numbers_survive_the_round_trip),
        cmocka_unit_test(sizes_and_durations_have_their_units),
        cmocka_unit_test(globs_read_as_in_redis),
        cmocka_unit_test(random_globs_agree_with_a_table),
        cmocka_unit_test(a_hostile_glob_ends_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
