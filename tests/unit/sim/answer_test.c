/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "sim/answer.h"

static enum answer_result take(const char *text, struct answer_read *out)
{
    return answer_take(bytes_of_str(text), out);
}

static void a_nested_reply_comes_out_in_order(void **state)
{
    (void)state;
    struct answer_read a;

    assert_int_equal(take("*3\r\n:7\r\n*2\r\n$1\r\nx\r\n$-1\r\n+OK\r\n:1\r\n", &a),
                     ANSWER_WHOLE);
    assert_int_equal(a.n, 6);
    assert_int_equal(a.parts[1].n, 7);
    assert_int_equal(a.parts[2].type, '*');
    assert_true(bytes_equal(a.parts[3].b, BYTES_OF("x")));
    assert_int_equal(a.parts[4].type, '_');
    assert_int_equal(a.parts[5].type, '+');
    assert_int_equal(a.used, 29);
}

static void every_prefix_asks_for_more(void **state)
{
    (void)state;
    static const char whole[] = "*3\r\n$5\r\nab\r\nc\r\n-ERR no\r\n*-1\r\n";
    struct answer_read a;

    for (size_t n = 0; n < sizeof whole - 1; n++)
        assert_int_equal(answer_take((struct bytes){(const uint8_t *)whole, n}, &a),
                         ANSWER_MORE);
    assert_int_equal(take(whole, &a), ANSWER_WHOLE);
    assert_int_equal(a.parts[3].type, '_');
}

static void what_is_not_resp_is_broken(void **state)
{
    (void)state;
    struct answer_read a;

    assert_int_equal(take("hello\r\n", &a), ANSWER_BROKEN);
    assert_int_equal(take(":x\r\n", &a), ANSWER_BROKEN);
    assert_int_equal(take("$1\r\nabc\r\n", &a), ANSWER_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nested_reply_comes_out_in_order),
        cmocka_unit_test(every_prefix_asks_for_more),
        cmocka_unit_test(what_is_not_resp_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
