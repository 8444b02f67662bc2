/* SPDX-License-Identifier: Apache-2.0 */
#include "resp/parse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mem_test_alloc.h"
#include "unit.h"

static const struct resp_limits usual = {
    .bulk_max = 512 << 20, .args_max = 1024 * 1024, .inline_max = 64 * 1024};

/* What came of a stream, as text: "[a|bc] [d] - !error", '-' for RESP_NOTHING. */
struct story {
    char text[4096];
    size_t len;
    enum resp_result last;
    size_t want;
};

static void tell(struct story *s, const void *at, size_t len)
{
    if (len > sizeof s->text - 1 - s->len) len = sizeof s->text - 1 - s->len;
    memcpy(s->text + s->len, at, len);
    s->len += len;
    s->text[s->len] = 0;
}

static void tell_parsed(struct story *s, const struct resp_parsed *got)
{
    if (s->len > 0) tell(s, " ", 1);
    switch (s->last) {
    case RESP_COMMAND:
        for (uint32_t i = 0; i < got->n_args; i++) {
            tell(s, i == 0 ? "[" : "|", 1);
            tell(s, got->args[i].at, got->args[i].len);
        }
        tell(s, "]", 1);
        break;
    case RESP_NOTHING: tell(s, "-", 1); break;
    case RESP_BROKEN:
        tell(s, "!", 1);
        tell(s, got->error, strlen(got->error));
        break;
    case RESP_MORE: break;
    }
}

/* Feeds `in` in steps of `step` bytes, each time from a fresh copy of the exact size, so
 * that a read past its end is seen and nothing can point into an older run. */
static struct story stories(const struct resp_limits *limits, const void *at, size_t len,
                            size_t step)
{
    struct mem mem = mem_for_test();
    struct resp_parser p;
    struct story s = {.last = RESP_MORE};
    size_t from = 0, to = 0;

    resp_parser_init(&p, &mem);
    while (to < len && s.last != RESP_BROKEN) {
        to = len - to < step ? len : to + step;
        do {
            uint8_t *run = malloc(to - from + (to == from));
            memcpy(run, (const uint8_t *)at + from, to - from);
            struct resp_parsed got;
            s.last = resp_parse(&p, limits, (struct bytes){run, to - from}, &got);
            assert_true(got.used <= to - from);
            if (s.last == RESP_MORE) {
                assert_true(got.want > to - from);
                s.want = got.want;
            } else {
                tell_parsed(&s, &got);
            }
            from += got.used;
            free(run);
        } while (s.last == RESP_COMMAND || s.last == RESP_NOTHING);
    }
    resp_parser_free(&p);
    assert_int_equal(mem.used, 0);
    return s;
}

static void expect_with(const struct resp_limits *limits, const void *in, size_t len,
                        const char *told)
{
    const size_t steps[] = {len > 0 ? len : 1, 1, 2, 3, 7};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct story s = stories(limits, in, len, steps[i]);
        assert_string_equal(s.text, told);
    }
}

#define expect(in, told) expect_with(&usual, in, sizeof(in) - 1, told)

static void arrays_of_bulks_become_commands(void **state)
{
    (void)state;
    expect("*1\r\n$4\r\nPING\r\n", "[PING]");
    expect("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "[GET|]");
    expect("*3\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$2\r\nxy\r\n", "[SET|a\r\n|xy]");
    expect("*1\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\nPING\r\n*1\r\n$1\r\nd\r\n",
           "[a] [b|c] [PING] [d]");
    expect("*1\r\n$4\r\nPIN", "");
    expect("*1\r\n$12\r\nabcdefghijkl\r\n", "[abcdefghijkl]");
}

static void empty_commands_are_nothing(void **state)
{
    (void)state;
    expect("*0\r\n", "-");
    expect("*-1\r\n", "-");
    expect("*-10\r\n*1\r\n$1\r\na\r\n", "- [a]");
    expect("\r\n", "-");
    expect("\n   \r\n\t\n", "- - -");
    expect("", "");
}

static void malformed_arrays_are_refused_in_redis_words(void **state)
{
    (void)state;
    expect("*x\r\n", "!Protocol error: invalid multibulk length");
    expect("*\r\n", "!Protocol error: invalid multibulk length");
    expect("*01\r\n", "!Protocol error: invalid multibulk length");
    expect("*+1\r\n", "!Protocol error: invalid multibulk length");
    expect("*3000000000\r\n", "!Protocol error: invalid multibulk length");
    expect("*20000000000000000000000\r\n", "!Protocol error: invalid multibulk length");
    expect("*1048577\r\n", "!Protocol error: invalid multibulk length");
    expect("*1\rx", "!Protocol error: invalid multibulk length");
    expect("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n",
           "!Protocol error: expected '$', got 'f'");
    expect("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length");
    expect("*1\r\n$-10\r\n", "!Protocol error: invalid bulk length");
    expect("*1\r\n$2000000000\r\n", "!Protocol error: invalid bulk length");
    expect("*1\r\n$536870913\r\n", "!Protocol error: invalid bulk length");
    expect("*1\r\n$blabla\r\n", "!Protocol error: invalid bulk length");
    expect("*1\r\n$1\r\nab\r\n", "!Protocol error: expected CRLF after an argument");
    expect("*1\r\n$1\r\na\r\n*1\r\n$x\r\n", "[a] !Protocol error: invalid bulk length");
}

static void endless_lines_are_refused(void **state)
{
    (void)state;
    const struct resp_limits small = {.bulk_max = 1000, .args_max = 100, .inline_max = 8};

    expect_with(&small, "abcdefgh", 8, "");
    expect_with(&small, "abcdefgh\n", 9, "[abcdefgh]");
    expect_with(&small, "abcdefghi", 9, "!Protocol error: too big inline request");
    expect_with(&small, "*00000000", 9, "!Protocol error: too big mbulk count string");
    expect_with(&small, "*1\r\n$00000000", 13,
                "!Protocol error: too big bulk count string");
    expect_with(&small, "*\0\0\0\0\0\0\0\0\0\0", 11,
                "!Protocol error: too big mbulk count string");
}

static void strangers_are_told_that_they_are(void **state)
{
    (void)state;
    const struct resp_limits stranger = {.bulk_max = RESP_UNAUTH_BULK_MAX,
                                         .args_max = RESP_UNAUTH_ARGS_MAX,
                                         .inline_max = 64 * 1024};

    expect_with(&stranger, "*11\r\n", 5,
                "!Protocol error: unauthenticated multibulk length");
    expect_with(&stranger, "*1\r\n$16385\r\n", 12,
                "!Protocol error: unauthenticated bulk length");
    expect_with(&stranger, "*10\r\n", 5, "");
}

static void inline_lines_are_split_with_quotes(void **state)
{
    (void)state;
    expect("PING\r\nECHO  hi \n", "[PING] [ECHO|hi]");
    expect("SET k \"a b\\n\\x41\\q\\\"\"\r\n", "[SET|k|a b\nAq\"]");
    expect("SET k 'a\\'b\\n'\r\n", "[SET|k|a'b\\n]");
    expect("SET \"\" ''\r\n", "[SET||]");
    expect("foo\"bar\" x\r\n", "[foobar|x]");
    expect("a \"\\x4\"\r\n", "[a|x4]");
    expect("a\x0b\x01 b c\r\nd\r\n", "[a\x0b\x01|b|c] [d]");
    expect("a \"b\r\n", "!Protocol error: unbalanced quotes in request");
    expect("a 'b\r\n", "!Protocol error: unbalanced quotes in request");
    expect("a \"b\"c\r\n", "!Protocol error: unbalanced quotes in request");
    expect("a \"b\\\r\n", "!Protocol error: unbalanced quotes in request");
}

static void want_names_the_length_that_is_needed(void **state)
{
    (void)state;
    const char head[] = "*2\r\n$3\r\nSET\r\n$1000000\r\nab";
    const struct story s = stories(&usual, head, sizeof head - 1, sizeof head - 1);

    assert_int_equal(s.last, RESP_MORE);
    assert_int_equal(s.want, sizeof head - 1 - 2 + 1000000 + 2);
}

static void announced_arguments_cost_nothing(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct resp_parser p;
    struct resp_parsed got;

    resp_parser_init(&p, &mem);
    assert_int_equal(resp_parse(&p, &usual, BYTES_OF("*1048576\r\n$500000000\r\n"), &got),
                     RESP_MORE);
    assert_true(mem.used < 1024);
    resp_parser_free(&p);
}

static void large_commands_leave_no_large_table(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf in = buf_new(&mem);
    struct resp_parser p;
    struct resp_parsed got;

    buf_putf(&in, "*5000\r\n");
    for (int i = 0; i < 5000; i++)
        buf_putf(&in, "$1\r\nx\r\n");
    resp_parser_init(&p, &mem);
    assert_int_equal(resp_parse(&p, &usual, buf_bytes(&in), &got), RESP_COMMAND);
    assert_int_equal(got.n_args, 5000);
    assert_int_equal(got.used, in.len);
    buf_free(&in);
    assert_int_equal(resp_parse(&p, &usual, BYTES_OF(""), &got), RESP_MORE);
    assert_int_equal(got.want, 1);
    assert_true(mem.used < 1024);
    resp_parser_free(&p);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_bulks_become_commands),
        cmocka_unit_test(empty_commands_are_nothing),
        cmocka_unit_test(malformed_arrays_are_refused_in_redis_words),
        cmocka_unit_test(endless_lines_are_refused),
        cmocka_unit_test(strangers_are_told_that_they_are),
        cmocka_unit_test(inline_lines_are_split_with_quotes),
        cmocka_unit_test(want_names_the_length_that_is_needed),
        cmocka_unit_test(announced_arguments_cost_nothing),
        cmocka_unit_test(large_commands_leave_no_large_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
