/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "data/command.h"

#include "naive_view.h"
#include "unit.h"

static const enum item_type other_type = (enum item_type)(ITEM_STRING + 1);

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

static void keys_are_deleted_and_counted(void **state)
{
    struct naive *n = *state;
    naive_run(n, "MSET a 1 b 2 c 3");
    naive_set(n, "old", ITEM_STRING, "1", 5);
    expect(n, "EXISTS a a b x", ":3", "");
    expect(n, "TOUCH a x", ":1", "");
    expect(n, "EXISTS old", ":0", "expired old");
    expect(n, "DEL a x a", ":1", "clear a");
    expect(n, "UNLINK b c", ":2", "clear b; clear c");
    naive_set(n, "old", ITEM_STRING, "1", 5);
    expect(n, "DEL old", ":0", "expired old");
}

static void type_names_the_type(void **state)
{
    struct naive *n = *state;
    expect(n, "TYPE k", "+none", "");
    naive_run(n, "SET k v");
    expect(n, "TYPE k", "+string", "");
}

static void expire_gives_a_deadline(void **state)
{
    struct naive *n = *state;
    naive_run(n, "SET k v");
    expect(n, "EXPIRE none 10", ":0", "");
    expect(n, "EXPIRE k 10", ":1", "deadline k 1010000");
    expect(n, "PEXPIRE k 10", ":1", "deadline k 1000010");
    expect(n, "EXPIREAT k 2000", ":1", "deadline k 2000000");
    expect(n, "PEXPIREAT k 2000001", ":1", "deadline k 2000001");
    expect(n, "EXPIRE k x", "-ERR value is not an integer or out of range", "");
    expect(n, "EXPIRE k 9223372036854775807",
           "-ERR invalid expire time in 'expire' command", "");
    expect(n, "EXPIRE k -9223372036854775808",
           "-ERR invalid expire time in 'expire' command", "");
    expect(n, "PEXPIRE k 9223372036854775807",
           "-ERR invalid expire time in 'pexpire' command", "");
    expect(n, "PEXPIREAT k 9223372036854775807", ":1", "deadline k 9223372036854775807");
    expect(n, "GET k", "$1 v", "");
}

static void expire_in_the_past_deletes(void **state)
{
    struct naive *n = *state;
    const char *const past[] = {"EXPIRE k 0", "EXPIRE k -1",
                                "PEXPIRE k -9223372036854775808", "EXPIREAT k 1000",
                                "PEXPIREAT k 0"};
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        naive_run(n, "SET k v");
        expect(n, past[i], ":1", "clear k");
    }
}

static void expire_conditions_are_kept(void **state)
{
    struct naive *n = *state;
    naive_run(n, "SET k v");
    expect(n, "EXPIRE k 10 XX", ":0", "");
    expect(n, "EXPIRE k 10 GT", ":0", "");
    expect(n, "EXPIRE k 10 LT", ":1", "deadline k 1010000");
    expect(n, "EXPIRE k 20 NX", ":0", "");
    expect(n, "EXPIRE k 10 GT", ":0", "");
    expect(n, "EXPIRE k 10 LT", ":0", "");
    expect(n, "EXPIRE k 11 GT", ":1", "deadline k 1011000");
    expect(n, "EXPIRE k 9 lt xx", ":1", "deadline k 1009000");
    expect(n, "EXPIRE k 9 NX XX",
           "-ERR NX and XX, GT or LT options at the same time are not compatible", "");
    expect(n, "EXPIRE k 9 GT NX",
           "-ERR NX and XX, GT or LT options at the same time are not compatible", "");
    expect(n, "EXPIRE k 9 GT LT",
           "-ERR GT and LT options at the same time are not compatible", "");
    expect(n, "EXPIRE k 9 AB", "-ERR Unsupported option AB", "");
    expect(n, "EXPIRE k -1 GT", ":0", "");
    expect(n, "EXPIRE k -1 LT", ":1", "clear k");
}

static void deadlines_are_told_in_four_units(void **state)
{
    struct naive *n = *state;
    expect(n, "TTL k", ":-2", "");
    expect(n, "PEXPIRETIME k", ":-2", "");
    naive_run(n, "SET k v");
    expect(n, "TTL k", ":-1", "");
    expect(n, "EXPIRETIME k", ":-1", "");
    naive_run(n, "PEXPIRE k 1499");
    expect(n, "TTL k", ":1", "");
    expect(n, "PTTL k", ":1499", "");
    expect(n, "EXPIRETIME k", ":1001", "");
    expect(n, "PEXPIRETIME k", ":1001499", "");
    naive_run(n, "PEXPIRE k 1500");
    expect(n, "TTL k", ":2", "");
    expect(n, "PERSIST k", ":1", "deadline k 0");
    expect(n, "PERSIST k", ":0", "");
    expect(n, "PERSIST none", ":0", "");
}

static void rename_moves_value_and_deadline(void **state)
{
    struct naive *n = *state;
    expect(n, "RENAME a b", "-ERR no such key", "");
    expect(n, "RENAME a a", "-ERR no such key", "");
    naive_run(n, "SET a 1 PX 5");
    expect(n, "RENAME a a", "+OK", "");
    expect(n, "RENAMENX a a", ":0", "");
    expect(n, "RENAME a b", "+OK", "clear a; put b 1 until 1000005 new");
    naive_run(n, "SET c 2");
    expect(n, "RENAMENX c b", ":0", "");
    expect(n, "RENAME c b", "+OK", "clear c; put b 2");
    expect(n, "RENAMENX b d", ":1", "clear b; put d 2 new");
    expect(n, "RENAMENX b d", "-ERR no such key", "");
    naive_set(n, "old", ITEM_STRING, "1", 5);
    expect(n, "RENAMENX d old", ":1", "expired old; clear d; put old 2 new");
    naive_set(n, "o", other_type, "1", 0);
    expect(n, "RENAME old o", "+OK", "clear old; clear o; put o 2 new");
}

static void copy_copies_value_and_deadline(void **state)
{
    struct naive *n = *state;
    expect(n, "COPY a b", ":0", "");
    naive_run(n, "SET a 1 PX 5");
    expect(n, "COPY a b", ":1", "put b 1 until 1000005 new");
    expect(n, "COPY a b", ":0", "");
    expect(n, "COPY a b REPLACE", ":1", "put b 1 until 1000005");
    expect(n, "COPY a c DB 0", ":1", "put c 1 until 1000005 new");
    expect(n, "COPY a c db 0 replace", ":1", "put c 1 until 1000005");
    expect(n, "COPY a c DB 1", "-ERR DB index is out of range", "");
    expect(n, "COPY a c DB 2147483648",
           "-ERR value is out of range, value must between -2147483648 and 2147483647",
           "");
    expect(n, "COPY a c DB x", "-ERR value is not an integer or out of range", "");
    expect(n, "COPY a c DB", "-ERR syntax error", "");
    expect(n, "COPY a c what", "-ERR syntax error", "");
    expect(n, "COPY a a", "-ERR source and destination objects are the same", "");
}

static void flush_wipes_what_there_is(void **state)
{
    struct naive *n = *state;
    expect(n, "FLUSHALL", "+OK", "");
    naive_run(n, "MSET a 1 b 2");
    expect(n, "DBSIZE", ":2", "");
    expect(n, "FLUSHALL x", "-ERR syntax error", "");
    expect(n, "FLUSHALL ASYNC SYNC", "-ERR syntax error", "");
    expect(n, "FLUSHALL ASYNC", "+OK", "wipe");
    expect(n, "DBSIZE", ":0", "");
    naive_run(n, "MSET a 1 b 2");
    expect(n, "FLUSHDB sync", "+OK", "wipe");
}

static void a_sweep_expires_what_is_due(void **state)
{
    struct naive *n = *state;
    naive_set(n, "k", ITEM_STRING, "1", 1000000);
    n->effects[0] = 0;
    assert_false(command_expire(&n->view, BYTES_OF("k"), n->now));
    assert_false(command_expire(&n->view, BYTES_OF("x"), n->now));
    n->now.ms++;
    assert_true(command_expire(&n->view, BYTES_OF("k"), n->now));
    assert_string_equal(n->effects, "expired k");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_deleted_and_counted),    TEST(type_names_the_type),
        TEST(expire_gives_a_deadline),         TEST(expire_in_the_past_deletes),
        TEST(expire_conditions_are_kept),      TEST(deadlines_are_told_in_four_units),
        TEST(rename_moves_value_and_deadline), TEST(copy_copies_value_and_deadline),
        TEST(flush_wipes_what_there_is),       TEST(a_sweep_expires_what_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
