/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "data/command.h"

#include "naive_view.h"
#include "unit.h"

/* A type that the commands on strings refuse. */
static const enum item_type other_type = (enum item_type)(ITEM_STRING + 1);

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"

static int setup(void **state)
{
    struct naive *n = calloc(1, sizeof *n);
    naive_init(n);
    *state = n;
    return 0;
}

static int teardown(void **state)
{
    naive_free(*state);
    free(*state);
    return 0;
}

static void set_gives_a_value_and_get_reads_it(void **state)
{
    struct naive *n = *state;
    expect(n, "GET k", "$-1", "");
    expect(n, "SET k v", "+OK", "put k v new");
    expect(n, "GET k", "$1 v", "");
    expect(n, "set k \"\"", "+OK", "put k ");
    expect(n, "GET k", "$0 ", "");
    n->version = 3;
    expect(n, "GET none", "_", "");
}

static void set_conditions_are_kept(void **state)
{
    struct naive *n = *state;
    expect(n, "SET k 1 XX", "$-1", "");
    expect(n, "SET k 1 NX", "+OK", "put k 1 new");
    expect(n, "SET k 2 NX", "$-1", "");
    expect(n, "SET k 2 xx", "+OK", "put k 2");
    expect(n, "SET k 3 XX NX", "-ERR syntax error", "");
    expect(n, "SET k 3 NX NX", "$-1", "");
    expect(n, "SET k 3 what", "-ERR syntax error", "");
}

static void set_get_answers_the_value_before(void **state)
{
    struct naive *n = *state;
    expect(n, "SET k 1 GET", "$-1", "put k 1 new");
    expect(n, "SET k 2 GET", "$1 1", "put k 2");
    expect(n, "SET k 3 NX GET", "$1 2", "");
    expect(n, "SET k 3 GET XX", "$1 2", "put k 3");
    expect(n, "SET none 3 GET XX", "$-1", "");
    expect(n, "SET new 3 GET NX", "$-1", "put new 3 new");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "SET o 1 GET", WRONGTYPE, "");
    expect(n, "SET o 1 XX", "+OK", "clear o; put o 1 new");
}

static void set_ifeq_compares_first(void **state)
{
    struct naive *n = *state;
    expect(n, "SET k 1 IFEQ x", "$-1", "");
    expect(n, "SET k 1", "+OK", "put k 1 new");
    expect(n, "SET k 2 IFEQ x", "$-1", "");
    expect(n, "SET k 2 IFEQ 1", "+OK", "put k 2");
    expect(n, "SET k 3 IFEQ 1 GET", "$1 2", "");
    expect(n, "SET k 3 GET IFEQ 2 EX 1", "$1 2", "put k 3 until 1001000");
    expect(n, "SET k 3 IFEQ", "-ERR syntax error", "");
    expect(n, "SET k 3 IFEQ 3 NX", "-ERR syntax error", "");
    expect(n, "SET k 3 XX IFEQ 3", "-ERR syntax error", "");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "SET o 1 IFEQ 1", WRONGTYPE, "");
}

static void set_takes_every_kind_of_deadline(void **state)
{
    struct naive *n = *state;
    expect(n, "SET k v EX 10", "+OK", "put k v until 1010000 new");
    expect(n, "SET k v PX 10", "+OK", "put k v until 1000010");
    expect(n, "SET k v EXAT 2000", "+OK", "put k v until 2000000");
    expect(n, "SET k v PXAT 2000", "+OK", "put k v until 2000");
    expect(n, "SET k v PXAT 2000000", "+OK", "expired k; put k v until 2000000 new");
    expect(n, "SET k w KEEPTTL", "+OK", "put k w until 2000000");
    expect(n, "SET k w", "+OK", "put k w");
    expect(n, "SET k w EX 1 EX 2", "+OK", "put k w until 1002000");
    expect(n, "SET k w EX 1 PX 2", "-ERR syntax error", "");
    expect(n, "SET k w KEEPTTL EX 2", "-ERR syntax error", "");
    expect(n, "SET k w PERSIST", "-ERR syntax error", "");
    expect(n, "SET k w EX", "-ERR syntax error", "");
    expect(n, "SET k w EX x", "-ERR value is not an integer or out of range", "");
    expect(n, "SET k w EX 0", "-ERR invalid expire time in 'set' command", "");
    expect(n, "SET k w PX -1", "-ERR invalid expire time in 'set' command", "");
    expect(n, "SET k w EX 9223372036854775807",
           "-ERR invalid expire time in 'set' command", "");
    expect(n, "SET k w PX 9223372036854775807",
           "-ERR invalid expire time in 'set' command", "");
    expect(n, "SETEX k 0 v", "-ERR invalid expire time in 'setex' command", "");
    expect(n, "SETEX k 7 v", "+OK", "put k v until 1007000");
    expect(n, "PSETEX k 7 v", "+OK", "put k v until 1000007");
    expect(n, "PSETEX k -7 v", "-ERR invalid expire time in 'psetex' command", "");
}

static void setnx_getset_getdel_do_as_they_are_named(void **state)
{
    struct naive *n = *state;
    expect(n, "SETNX k 1", ":1", "put k 1 new");
    expect(n, "SETNX k 2", ":0", "");
    expect(n, "GETSET k 3", "$1 1", "put k 3");
    expect(n, "GETSET new 3", "$-1", "put new 3 new");
    expect(n, "GETDEL k", "$1 3", "clear k");
    expect(n, "GETDEL k", "$-1", "");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "GETSET o 1", WRONGTYPE, "");
    expect(n, "GETDEL o", WRONGTYPE, "");
    expect(n, "SETNX o 1", ":0", "");
}

static void getex_moves_the_deadline(void **state)
{
    struct naive *n = *state;
    expect(n, "GETEX k EX 10", "$-1", "");
    expect(n, "GETEX k EX x", "$-1", "");
    expect(n, "SET k v", "+OK", "put k v new");
    expect(n, "GETEX k", "$1 v", "");
    expect(n, "GETEX k PERSIST", "$1 v", "");
    expect(n, "GETEX k EX 10", "$1 v", "deadline k 1010000");
    expect(n, "GETEX k PERSIST", "$1 v", "deadline k 0");
    expect(n, "GETEX k PXAT 1000001", "$1 v", "deadline k 1000001");
    expect(n, "GETEX k PX 0", "-ERR invalid expire time in 'getex' command", "");
    expect(n, "GETEX k EX 10 PERSIST", "-ERR syntax error", "");
    expect(n, "GETEX k KEEPTTL", "-ERR syntax error", "");
    expect(n, "GETEX k NX", "-ERR syntax error", "");
    expect(n, "GETEX k EXAT 1000", "$1 v", "clear k");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "GETEX o", WRONGTYPE, "");
}

static void many_keys_are_set_and_read_at_once(void **state)
{
    struct naive *n = *state;
    expect(n, "MSET a 1 b 2 a 3", "+OK", "put a 1 new; put b 2 new; put a 3");
    expect(n, "MGET a x b", "*3 $1 3 $-1 $1 2", "");
    expect(n, "MSET a 1 b", "-ERR wrong number of arguments for 'mset' command", "");
    expect(n, "MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command", "");
    expect(n, "MSETNX c 1 b 2", ":0", "");
    expect(n, "MSETNX c 1 d 2 c 3", ":1", "put c 1 new; put d 2 new; put c 3");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "MGET o a", "*2 $-1 $1 3", "");
}

static void parts_of_values_are_read_and_written(void **state)
{
    struct naive *n = *state;
    expect(n, "APPEND k ab", ":2", "put k ab new");
    expect(n, "PEXPIRE k 5", ":1", "deadline k 1000005");
    expect(n, "APPEND k cd", ":4", "put k abcd until 1000005");
    expect(n, "STRLEN k", ":4", "");
    expect(n, "STRLEN none", ":0", "");
    expect(n, "GETRANGE k 1 2", "$2 bc", "");
    expect(n, "GETRANGE k -3 -2", "$2 bc", "");
    expect(n, "GETRANGE k -100 100", "$4 abcd", "");
    expect(n, "GETRANGE k 3 1", "$0 ", "");
    expect(n, "GETRANGE k -1 -3", "$0 ", "");
    expect(n, "GETRANGE k -100 -50", "$1 a", "");
    expect(n, "GETRANGE k 4 9", "$0 ", "");
    expect(n, "GETRANGE none 0 -1", "$0 ", "");
    expect(n, "GETRANGE k -9223372036854775808 9223372036854775807", "$4 abcd", "");
    expect(n, "SUBSTR k 0 -1", "$4 abcd", "");
    expect(n, "GETRANGE k x 1", "-ERR value is not an integer or out of range", "");
    expect(n, "SETRANGE k 1 XY", ":4", "put k aXYd until 1000005");
    expect(n, "SETRANGE k 3 ZZ", ":5", "put k aXYZZ until 1000005");
    expect(n, "SETRANGE k 3 \"\"", ":5", "");
    expect(n, "SETRANGE none 3 \"\"", ":0", "");
    expect(n, "SETRANGE k -1 x", "-ERR offset is out of range", "");
    expect(n, "SETRANGE k x x", "-ERR value is not an integer or out of range", "");
    expect(n, "SETRANGE k 536870912 x",
           "-ERR string exceeds maximum allowed size (proto-max-bulk-len)", "");
    expect(n, "SETRANGE k 9223372036854775807 x",
           "-ERR string exceeds maximum allowed size (proto-max-bulk-len)", "");
    naive_run(n, "SETRANGE pad 3 x");
    assert_string_equal(n->reply, ":4");
    expect(n, "GETRANGE pad 3 3", "$1 x", "");
    expect(n, "GETRANGE pad 0 0", "$1 ", "");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "APPEND o 1", WRONGTYPE, "");
    expect(n, "STRLEN o", WRONGTYPE, "");
    expect(n, "GETRANGE o 0 0", WRONGTYPE, "");
    expect(n, "SETRANGE o 0 x", WRONGTYPE, "");
}

static void whole_numbers_travel_as_their_delta(void **state)
{
    struct naive *n = *state;
    expect(n, "INCR k", ":1", "add k 1 1 new");
    expect(n, "INCRBY k 10", ":11", "add k 10 11");
    expect(n, "PEXPIRE k 5", ":1", "deadline k 1000005");
    expect(n, "DECR k", ":10", "add k -1 10 until 1000005");
    expect(n, "DECRBY k 20", ":-10", "add k -20 -10 until 1000005");
    expect(n, "GET k", "$3 -10", "");
    expect(n, "INCRBY k x", "-ERR value is not an integer or out of range", "");
    expect(n, "DECRBY k -9223372036854775808", "-ERR decrement would overflow", "");
    expect(n, "SET k 9223372036854775807", "+OK", "put k 9223372036854775807");
    expect(n, "INCR k", "-ERR increment or decrement would overflow", "");
    expect(n, "SET k -9223372036854775808", "+OK", "put k -9223372036854775808");
    expect(n, "DECR k", "-ERR increment or decrement would overflow", "");
    expect(n, "INCRBY k 1", ":-9223372036854775807", "add k 1 -9223372036854775807");
    expect(n, "SET k 01", "+OK", "put k 01");
    expect(n, "INCR k", "-ERR value is not an integer or out of range", "");
    expect(n, "SET k \" 1\"", "+OK", "put k  1");
    expect(n, "INCR k", "-ERR value is not an integer or out of range", "");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "INCR o", WRONGTYPE, "");
}

static void decimal_numbers_print_as_redis_prints_them(void **state)
{
    struct naive *n = *state;
    expect(n, "INCRBYFLOAT k 10.50", "$4 10.5", "put k 10.5 new");
    expect(n, "INCRBYFLOAT k 0.1", "$4 10.6", "put k 10.6");
    expect(n, "INCRBYFLOAT k -5", "$3 5.6", "put k 5.6");
    expect(n, "PEXPIRE k 5", ":1", "deadline k 1000005");
    expect(n, "SET k 5.0e3 KEEPTTL", "+OK", "put k 5.0e3 until 1000005");
    expect(n, "INCRBYFLOAT k 2.0e2", "$4 5200", "put k 5200 until 1000005");
    expect(n, "INCRBYFLOAT k abc", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k \" 1\"", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k \"1 \"", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k \"1\\x00\"", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k \"\"", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k nan", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k 1e5000", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k 1e-5000", "-ERR value is not a valid float", "");
    expect(n, "INCRBYFLOAT k 0e-5000", "$4 5200", "put k 5200 until 1000005");
    expect(n, "INCRBYFLOAT k 0x10", "$4 5216", "put k 5216 until 1000005");
    expect(n, "INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity", "");
    expect(n, "INCRBYFLOAT k -Infinity", "-ERR increment would produce NaN or Infinity",
           "");
    expect(n, "SET k 3", "+OK", "put k 3");
    expect(n, "INCRBYFLOAT k 1.1", "$3 4.1", "put k 4.1");
    expect(n, "SET k 0", "+OK", "put k 0");
    expect(n, "INCRBYFLOAT k -0.0", "$1 0", "put k 0");
    expect(n, "INCRBYFLOAT k 1e17", "$18 100000000000000000", "put k 100000000000000000");
    naive_set(n, "o", other_type, "", 0);
    expect(n, "INCRBYFLOAT o 1", WRONGTYPE, "");
}

static void a_key_past_its_deadline_is_absent(void **state)
{
    struct naive *n = *state;
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    expect(n, "GET k", "$1 1", ""); /* in its last millisecond it lives */
    n->now.ms++;
    n->replica = true;
    expect(n, "GET k", "$-1", "");
    expect(n, "GET k", "$-1", "");
    n->replica = false;
    expect(n, "GET k", "$-1", "expired k");
    expect(n, "GET k", "$-1", "");
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    expect(n, "INCR k", ":1", "expired k; add k 1 1 new");
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    expect(n, "SET k 2 XX", "$-1", "expired k");
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    expect(n, "APPEND k 2", ":1", "expired k; put k 2 new");
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    expect(n, "SET k 2 KEEPTTL", "+OK", "expired k; put k 2 new");
}

static void what_does_not_fit_in_memory_is_refused(void **state)
{
    struct naive *n = *state;
    const char full[] =
        "-FULL this server's memory bound is reached; deletes and reads go on";

    n->mem.limit = 1 << 20;
    expect(n, "SETRANGE k 2000000 x", full, "");
    expect(n, "SET k v", "+OK", "put k v new");
    n->mem.limit = 1;
    expect(n, "APPEND k v", full, "");
    expect(n, "COPY k l", full, "");
    expect(n, "RENAME k l", "+OK", "clear k; put l v new");
}

static void an_answer_too_long_is_refused_before_anything(void **state)
{
    struct naive *n = *state;
    const char refused[] =
        "-ERR the answer would be longer than 544 MB; ask for fewer values at once";

    naive_run(n, "MSET k 0123456789 l 0123456789");
    n->reply_from = 64 - REPLY_BYTES_MAX; /* 64 bytes are left */
    expect(n, "MGET k l none", "*3 $10 0123456789 $10 0123456789 $-1", "");
    expect(n, "MGET k l k l k l k l", refused, "");
    n->reply_from = 9 - REPLY_BYTES_MAX;
    expect(n, "GET k", refused, "");
    expect(n, "GETRANGE k 0 -1", refused, "");
    expect(n, "GETDEL k", refused, "");
    expect(n, "GETSET k v", refused, "");
    expect(n, "SET k v GET", refused, "");
    expect(n, "GETEX k EX 10", refused, "");
    expect(n, "GETRANGE k 1 -1", "$9 123456789", "");
}

/* Short ones are given out with no memory left: else nothing could be looked at any more. */
static void a_long_answer_needs_memory(void **state)
{
    struct naive *n = *state;
    const char refused[] =
        "-FULL this server's memory bound leaves no room for so long an "
        "answer; ask for fewer values at once, or again later";

    naive_run(n, "SET k 0123456789");
    n->mem.limit = 1;
    expect(n, "MGET k", "*1 $10 0123456789", "");
    n->reply_from = 9 - REPLY_BYTES_FREE;
    expect(n, "MGET k", refused, "");
    expect(n, "GETDEL k", refused, "");
    expect(n, "GETRANGE k 0 -1", refused, "");
    n->mem.limit = 1 << 20;
    expect(n, "MGET k", "*1 $10 0123456789", "");
}

static void a_key_too_long_is_refused_before_anything(void **state)
{
    struct naive *n = *state;
    char *text = malloc(KEY_MAX + 1);
    struct bytes args[] = {BYTES_OF("MSET"),
                           BYTES_OF("a"),
                           BYTES_OF("1"),
                           {(const uint8_t *)text, KEY_MAX + 1},
                           BYTES_OF("2")};

    assert_non_null(text);
    for (size_t i = 0; i < KEY_MAX + 1; i++)
        text[i] = 'x';
    naive_run_args(n, args, 5);
    assert_string_equal(n->reply,
                        "-ERR the key is longer than 65536 bytes, the most that "
                        "sennit takes; use a shorter key");
    assert_string_equal(n->effects, "");
    args[3].len--;
    naive_run_args(n, args, 5);
    assert_string_equal(n->reply, "+OK");
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(set_gives_a_value_and_get_reads_it),
        TEST(set_conditions_are_kept),
        TEST(set_get_answers_the_value_before),
        TEST(set_ifeq_compares_first),
        TEST(set_takes_every_kind_of_deadline),
        TEST(setnx_getset_getdel_do_as_they_are_named),
        TEST(getex_moves_the_deadline),
        TEST(many_keys_are_set_and_read_at_once),
        TEST(parts_of_values_are_read_and_written),
        TEST(whole_numbers_travel_as_their_delta),
        TEST(decimal_numbers_print_as_redis_prints_them),
        TEST(a_key_past_its_deadline_is_absent),
        TEST(what_does_not_fit_in_memory_is_refused),
        TEST(an_answer_too_long_is_refused_before_anything),
        TEST(a_long_answer_needs_memory),
        TEST(a_key_too_long_is_refused_before_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
