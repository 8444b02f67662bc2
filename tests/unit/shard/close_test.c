/* SPDX-License-Identifier: Apache-2.0 */
/* A shard that closes itself to a prefix: from the evaluation of that entry on, wherever the
 * entry gets to, and through everything that a state goes through. */
#include "shard/shard_world.h"

#include <stdio.h>
#include <string.h>

#define CART BYTES_OF("cart")
#define EVERY ((struct bytes){NULL, 0})

static void close_to(struct shards *w, uint32_t id, struct bytes name,
                     enum shard_closing level)
{
    assert_int_equal(shard_close(w->at[id].shard, name, 5, level), SHARD_TAKEN);
}

static void assert_level(struct shards *w, uint32_t id, enum shard_closing level)
{
    struct shard_closed closed = {.level = CLOSING_NOT};

    assert_true(shard_closed(w->at[id].shard, CART, &closed) == (level != CLOSING_NOT));
    assert_int_equal(closed.level, level);
    if (level != CLOSING_NOT) assert_int_equal(closed.keyspace, 5);
}

static void writes_are_refused_from_the_staging_on(void **state)
{
    static const char *const both[] = {"SET other 1", "SET cart:1 1"};
    static const char *const reads[] = {"GET cart:1", "SET other 2"};
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET cart:1 old", "+OK\r\n");
    shards_isolate(w, id, true); /* it is not committed */
    close_to(w, id, CART, CLOSING_WRITES);
    assert_level(w, id, CLOSING_WRITES);
    assert_int_equal(shards_ask(w, id, "SET cart:2 1"), SHARD_CLOSED);
    assert_string_equal((const char *)w->reply.at, "");
    assert_int_equal(shards_ask(w, id, "SET {cart:2}x 1"), SHARD_CLOSED);
    assert_int_equal(shards_ask(w, id, "DEL cart:1"), SHARD_CLOSED);
    assert_int_equal(shards_ask(w, id, "MSET other 1 cart:1 2"), SHARD_CLOSED);
    assert_int_equal(shards_exec(w, id, both, 2, NULL, 0), SHARD_CLOSED);
    const uint64_t last = shards_info(w, id).last.v;
    assert_int_equal(shards_ask(w, id, "GET cart:1"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "$3\r\nold\r\n");
    assert_int_equal(shards_info(w, id).last.v, last);
    assert_int_equal(shards_ask(w, id, "SET cart 1"), SHARD_TAKEN); /* not of it */
    assert_int_equal(shards_ask(w, id, "SET carts:1 1"), SHARD_TAKEN);
    assert_int_equal(shards_exec(w, id, reads, 2, NULL, 0), SHARD_TAKEN);
    shards_free(w);
}

static void closed_whole_it_refuses_reads_everywhere(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w), other = shards_follower(w, id, 0);
    const struct bytes key = BYTES_OF("cart:1");
    struct log_index change;
    (void)state;

    shards_expect(w, id, "SET carts 1", "+OK\r\n");
    close_to(w, id, CART, CLOSING_ALL);
    const struct shard_watch watch = {key, {0}};
    static const char *const line[] = {"SET other 1"};
    assert_int_equal(shards_ask(w, id, "GET cart:1"), SHARD_CLOSED);
    assert_int_equal(shards_ask(w, id, "MGET other cart:1"), SHARD_CLOSED);
    assert_int_equal(shards_watch(w, id, key, &change), SHARD_CLOSED);
    assert_int_equal(shards_exec(w, id, line, 1, &watch, 1), SHARD_CLOSED);
    shards_run(w, 500);
    assert_string_equal(shards_committed(w, other, "cart:1"), "closed");
    assert_string_equal(shards_committed(w, other, "carts"), "$1\r\n1\r\n");
    shards_expect(w, id, "DBSIZE", ":1\r\n");
    shards_free(w);
}

static void the_empty_name_is_every_key(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    close_to(w, id, EVERY, CLOSING_ALL);
    assert_int_equal(shards_ask(w, id, "GET a"), SHARD_CLOSED);
    assert_int_equal(shards_ask(w, id, "SET :b 1"), SHARD_CLOSED);
    assert_int_equal(shards_ask(w, id, "DBSIZE"), SHARD_TAKEN);
    shards_free(w);
}

static void it_outlives_wipes_restarts_and_leaders(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    close_to(w, id, CART, CLOSING_WRITES);
    close_to(w, id, BYTES_OF("bank"), CLOSING_ALL);
    close_to(w, id, BYTES_OF("bank"), CLOSING_NOT);
    shards_expect(w, id, "FLUSHALL", "+OK\r\n");
    assert_level(w, id, CLOSING_WRITES);
    shards_run(w, 500);
    for (uint32_t r = 1; r <= 3; r++)
        shard_want_checkpoint(w->at[r].shard);
    shards_run(w, 500);
    for (uint32_t r = 1; r <= 3; r++)
        shards_crash(w, r);
    for (uint32_t r = 1; r <= 3; r++)
        shards_start(w, r, false);
    const uint32_t next = shards_lead(w);
    assert_level(w, next, CLOSING_WRITES);
    assert_int_equal(shards_ask(w, next, "SET cart:1 1"), SHARD_CLOSED);
    shards_expect(w, next, "SET bank:1 1", "+OK\r\n");
    close_to(w, next, CART, CLOSING_NOT);
    shards_expect(w, next, "SET cart:1 1", "+OK\r\n");
    shards_run(w, 500);
    shards_assert_equal(w);
    shards_free(w);
}

static void what_a_deposed_leader_closed_is_open(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    (void)state;

    shards_isolate(w, old, true);
    close_to(w, old, CART, CLOSING_WRITES);
    for (uint32_t i = 0; i < 400 && shards_info(w, old).role == RAFT_LEADER; i++)
        shards_run(w, 5);
    assert_level(w, old, CLOSING_NOT);
    const uint32_t next = shards_lead(w);
    shards_expect(w, next, "SET cart:1 1", "+OK\r\n");
    shards_isolate(w, old, false);
    shards_run(w, 1000);
    assert_string_equal(shards_committed(w, old, "cart:1"), "$1\r\n1\r\n");
    shards_free(w);
}

static void it_comes_with_a_snapshot(void **state)
{
    struct shards *w = shards_new(4, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    close_to(w, id, CART, CLOSING_ALL);
    shards_expect(w, id, "SET a 1", "+OK\r\n");
    shard_want_checkpoint(w->at[id].shard);
    shards_run(w, 500);
    shards_config(w, id, 3, 4);
    shards_run(w, 3000);
    assert_int_equal(w->at[4].counts.snapshots_installed, 1);
    assert_string_equal(shards_committed(w, 4, "cart:1"), "closed");
    assert_string_equal(shards_committed(w, 4, "a"), "$1\r\n1\r\n");
    shards_free(w);
}

static void names_that_come_and_go_are_not_kept_for_ever(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    char name[16];
    (void)state;

    close_to(w, id, CART, CLOSING_WRITES);
    for (uint32_t i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "k%u", i);
        close_to(w, id, bytes_of_str(name), CLOSING_ALL);
        close_to(w, id, bytes_of_str(name), CLOSING_NOT);
        if (i % 100 == 0) shards_run(w, 20);
    }
    assert_true(w->at[id].shard->maybe_closed.count < 5000);
    assert_int_equal(shards_ask(w, id, "SET cart:1 1"), SHARD_CLOSED);
    shards_expect(w, id, "SET k7:1 1", "+OK\r\n");
    shards_free(w);
}

static void a_count_is_of_the_prefix_and_goes_on_where_it_was(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    struct shard_count c = {.done = false};
    char line[64];
    uint32_t turns = 0;
    (void)state;

    for (uint32_t i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "SET %s%u 1", i % 3 == 0 ? "cart:" : "cat:", i);
        shards_expect(w, id, line, "+OK\r\n");
    }
    shards_expect(w, id, "SET {cart:x}1 1", "+OK\r\n");
    shards_expect(w, id, "SET cart 1", "+OK\r\n");
    shards_expect(w, id, "SET cart:due 1 PX 10", "+OK\r\n");
    const struct wall later = {w->wall.ms + 1000};
    while (!c.done) {
        shard_count_prefix(w->at[id].shard, CART, later, 7, &c);
        turns++;
        /* a key that goes meanwhile makes it skip no other */
        snprintf(line, sizeof line, "DEL cat:%u", turns);
        (void)shards_ask(w, id, line);
    }
    assert_int_equal(c.keys, 101);
    assert_int_equal(c.due, 1);
    assert_true(turns > 20);
    shards_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_refused_from_the_staging_on),
        cmocka_unit_test(closed_whole_it_refuses_reads_everywhere),
        cmocka_unit_test(the_empty_name_is_every_key),
        cmocka_unit_test(it_outlives_wipes_restarts_and_leaders),
        cmocka_unit_test(what_a_deposed_leader_closed_is_open),
        cmocka_unit_test(it_comes_with_a_snapshot),
        cmocka_unit_test(names_that_come_and_go_are_not_kept_for_ever),
        cmocka_unit_test(a_count_is_of_the_prefix_and_goes_on_where_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
