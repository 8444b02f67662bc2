/* SPDX-License-Identifier: Apache-2.0 */
#include "resp/reply.h"

#include <math.h>
#include <stdint.h>

#include "mem_test_alloc.h"
#include "unit.h"

/* Writes by `call` in both versions and compares; `r` is the reply inside `call`. */
#define expect(call, resp2, resp3)                                                       \
    do {                                                                                 \
        struct mem mem = mem_for_test();                                                 \
        struct buf out = buf_new(&mem);                                                  \
        struct reply reply_2 = {&out, 2}, reply_3 = {&out, 3}, *r = &reply_2;            \
        call;                                                                            \
        buf_put_u8(&out, 0);                                                             \
        assert_string_equal((const char *)out.at, resp2);                                \
        out.len = 0;                                                                     \
        r = &reply_3;                                                                    \
        call;                                                                            \
        buf_put_u8(&out, 0);                                                             \
        assert_string_equal((const char *)out.at, resp3);                                \
        buf_free(&out);                                                                  \
    } while (0)

static void both_versions_share_the_plain_types(void **state)
{
    (void)state;
    expect(reply_ok(r), "+OK\r\n", "+OK\r\n");
    expect(reply_simple(r, "PONG"), "+PONG\r\n", "+PONG\r\n");
    expect(reply_int(r, 0), ":0\r\n", ":0\r\n");
    expect(reply_int(r, -12), ":-12\r\n", ":-12\r\n");
    expect(reply_int(r, INT64_MIN), ":-9223372036854775808\r\n",
           ":-9223372036854775808\r\n");
    expect(reply_bulk(r, BYTES_OF("a\r\nb")), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
    expect(reply_bulk(r, BYTES_OF("")), "$0\r\n\r\n", "$0\r\n\r\n");
    expect(reply_bulk_str(r, "hello world!"), "$12\r\nhello world!\r\n",
           "$12\r\nhello world!\r\n");
    expect(reply_bulk_int(r, -5), "$2\r\n-5\r\n", "$2\r\n-5\r\n");
    expect(reply_array(r, 3), "*3\r\n", "*3\r\n");
}

static void richer_types_become_plain_ones_in_resp2(void **state)
{
    (void)state;
    expect(reply_null(r), "$-1\r\n", "_\r\n");
    expect(reply_null_array(r), "*-1\r\n", "_\r\n");
    expect(reply_map(r, 2), "*4\r\n", "%2\r\n");
    expect(reply_set(r, 2), "*2\r\n", "~2\r\n");
    expect(reply_verbatim(r, "txt", BYTES_OF("hi")), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
}

static void doubles_take_the_shortest_form(void **state)
{
    (void)state;
    expect(reply_double(r, 3), "$1\r\n3\r\n", ",3\r\n");
    expect(reply_double(r, 0.1), "$3\r\n0.1\r\n", ",0.1\r\n");
    expect(reply_double(r, 1.0 / 3), "$18\r\n0.3333333333333333\r\n",
           ",0.3333333333333333\r\n");
    expect(reply_double(r, (double)INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    expect(reply_double(r, (double)-INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    expect(reply_double(r, (double)NAN), "$3\r\nnan\r\n", ",nan\r\n");
}

static void errors_stay_on_one_line(void **state)
{
    (void)state;
    expect(reply_error(r, "ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
    expect(reply_errorf(r, "ERR %d '%s'", 7, "x\ny"), "-ERR 7 'x y'\r\n",
           "-ERR 7 'x y'\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_share_the_plain_types),
        cmocka_unit_test(richer_types_become_plain_ones_in_resp2),
        cmocka_unit_test(doubles_take_the_shortest_form),
        cmocka_unit_test(errors_stay_on_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
