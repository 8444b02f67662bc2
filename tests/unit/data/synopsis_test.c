/* SPDX-License-Identifier: Apache-2.0 */
#include "data/synopsis.h"

#include <stdlib.h>

#include "data/command.h"
#include "mem_test_alloc.h"
#include "unit.h"

/* The reply without its counts and lengths, which another test looks at: the
 * strings and numbers, joined by spaces. */
static void words_of(struct bytes reply, struct buf *out)
{
    for (size_t i = 0; i < reply.len;) {
        size_t end = i;
        while (reply.at[end] != '\r')
            end++;
        if (reply.at[i] != '*' && reply.at[i] != '$') {
            if (out->len > 0) buf_put_u8(out, ' ');
            const bool plain = reply.at[i] != '+' && reply.at[i] != ':';
            buf_put(out, reply.at + i + !plain, end - i - !plain);
        }
        i = end + 2;
    }
    buf_put_u8(out, 0);
}

static void expect(const char *text, const char *want)
{
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem), words = buf_new(&mem);
    struct reply r = {&out, 2};
    struct synopsis s;

    synopsis_read(&s, text);
    synopsis_reply(&r, &s);
    words_of(buf_bytes(&out), &words);
    assert_string_equal((const char *)words.at, want);
    buf_free(&out);
    buf_free(&words);
}

#define ARG(name, type) "name " name " type " type
#define KEY(name) "name " name " type key key_spec_index 0"

static void plain_words_are_arguments(void **state)
{
    (void)state;
    expect("", "");
    expect("key value", KEY("key") " " ARG("value", "string"));
    expect("key newkey", KEY("key") " name newkey type key key_spec_index 1");
    expect("key unix-time-seconds", KEY("key") " " ARG("unix-time-seconds", "unix-time"));
}

static void tokens_stand_alone_or_before_an_argument(void **state)
{
    (void)state;
    expect("GET", "name get type pure-token token GET");
    expect("[DB destination-db] [REPLACE]",
           "name destination-db type integer token DB flags optional "
           "name replace type pure-token token REPLACE flags optional");
    expect("MODE <a | b>", "name mode type oneof token MODE arguments " ARG(
                               "a", "string") " " ARG("b", "string"));
}

static void choices_are_oneof(void **state)
{
    (void)state;
    expect("[NX | EX seconds]",
           "name nx type oneof flags optional arguments "
           "name nx type pure-token token NX name seconds type integer token EX");
    expect("<ON | a b>",
           "name on type oneof arguments name on type pure-token token ON "
           "name a type block arguments " ARG("a", "string") " " ARG("b", "string"));
}

static void repeats_fold_into_what_is_repeated(void **state)
{
    (void)state;
    expect("key [key ...]", KEY("key") " flags multiple");
    expect("key value [key value ...]",
           "name key type block flags multiple arguments " KEY("key") " " ARG("value",
                                                                              "string"));
    expect("x [a [a ...]]",
           ARG("x", "string") " " ARG("a", "string") " flags optional multiple");
    expect("x [a b ...]",
           ARG("x", "string") " name a type block flags optional multiple "
                              "arguments " ARG("a", "string") " " ARG("b", "string"));
}

/* Skips one value; false if what is there is no RESP2 value. */
static bool value_skip(struct cursor *in)
{
    uint64_t left = 1;

    while (left > 0) {
        if (cursor_left(in) < 3) return false;
        const uint8_t kind = *in->at++;
        char *end;
        const long n = strtol((const char *)in->at, &end, 10);
        if (kind == '+') {
            while (*in->at != '\r')
                in->at++;
        } else {
            in->at = (const uint8_t *)end;
        }
        if (in->at[0] != '\r' || in->at[1] != '\n') return false;
        in->at += 2;
        left--;
        if (kind == '*') left += (uint64_t)n;
        if (kind == '$' && n >= 0) in->at += n + 2;
    }
    return true;
}

/* Counts before what they count: a wrong one would shift everything after it. */
static void every_command_is_told_in_one_whole_value(void **state)
{
    (void)state;
    static const enum command_id ids[] = {COMMAND_COMMAND_DOCS, COMMAND_COMMAND_INFO,
                                          COMMAND_COMMAND};
    struct mem mem = mem_for_test();

    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const struct bytes args[] = {BYTES_OF("COMMAND"), BYTES_OF("x")};
        struct buf out = buf_new(&mem);
        struct reply r = {&out, 2};
        command_reply(&r, command_row(ids[i]), args, ids[i] == COMMAND_COMMAND ? 1 : 2);
        buf_put_u8(&out, 0);
        struct cursor in = cursor_of((struct bytes){out.at, out.len - 1});
        assert_true(value_skip(&in));
        assert_int_equal(cursor_left(&in), 0);
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_words_are_arguments),
        cmocka_unit_test(tokens_stand_alone_or_before_an_argument),
        cmocka_unit_test(choices_are_oneof),
        cmocka_unit_test(repeats_fold_into_what_is_repeated),
        cmocka_unit_test(every_command_is_told_in_one_whole_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
