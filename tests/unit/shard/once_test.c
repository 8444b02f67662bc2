/* SPDX-License-Identifier: Apache-2.0 */
/* Requests with an id (CLIENT REQUEST): carried out once, whoever leads when they are repeated.
 * R numbers are those of the scenarios for ordered shards. */
#include "shard/shard_world.h"

#include <stdio.h>
#include <string.h>

enum { ANSWER_LONG = 5000 };

static void expect_once(struct shards *w, uint32_t id, const char *once, const char *line,
                        const char *reply)
{
    w->once = once;
    shards_expect(w, id, line, reply);
    w->once = NULL;
}

static bool says(const struct shards *w, const char *text)
{
    return strncmp((const char *)w->reply.at, text, strlen(text)) == 0;
}

static void a_repeat_gets_the_first_answer_and_changes_nothing(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    expect_once(w, id, "x", "INCRBY n 5", ":5\r\n");
    const uint64_t last = shards_info(w, id).last.v;
    expect_once(w, id, "x", "INCRBY n 5", ":5\r\n");
    assert_int_equal(shards_info(w, id).last.v, last);
    expect_once(w, id, "y", "INCRBY n 5", ":10\r\n"); /* another id is another request */
    shards_expect(w, id, "INCRBY n 5", ":15\r\n");
    expect_once(w, id, "x", "INCRBY n 5", ":5\r\n");
    expect_once(w, id, "z", "SETNX n 1",
                ":0\r\n"); /* changed nothing, and is remembered */
    shards_expect(w, id, "DEL n", ":1\r\n");
    expect_once(w, id, "z", "SETNX n 1", ":0\r\n");
    expect_once(w, id, "r", "GET n", "$-1\r\n"); /* a read is a read */
    shards_expect(w, id, "SET n 7", "+OK\r\n");
    expect_once(w, id, "r", "GET n", "$1\r\n7\r\n");
    shards_assert_equal(w);
    shards_free(w);
}

static void an_answer_that_says_no_is_not_remembered(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET n abc", "+OK\r\n");
    w->once = "x";
    assert_int_equal(shards_ask(w, id, "INCR n"), SHARD_TAKEN);
    assert_true(says(w, "-ERR"));
    w->once = NULL;
    shards_expect(w, id, "SET n 1", "+OK\r\n");
    expect_once(w, id, "x", "INCR n", ":2\r\n");
    expect_once(w, id, "x", "INCR n", ":2\r\n");
    shards_free(w);
}

static void an_id_is_good_for_one_command(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    expect_once(w, id, "x", "SET a 1", "+OK\r\n");
    w->once = "x";
    const char *const others[] = {"SET a 2", "SET b 1", "DEL a"};
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(shards_ask(w, id, others[i]), SHARD_TAKEN);
        assert_true(says(w, "-ERR the id of CLIENT REQUEST"));
        assert_false(w->gate.wrote);
    }
    assert_string_equal(shards_committed(w, id, "a"), "$1\r\n1\r\n");
    shards_free(w);
}

/* R65 */
static void R65_flush_snapshot_and_restart_keep_what_was_carried_out(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), away = shards_follower(w, leader, 0);
    (void)state;

    expect_once(w, leader, "x", "INCR n", ":1\r\n");
    shards_crash(w, away);
    for (uint32_t i = 0; i < 40; i++)
        shards_expect(w, leader, "INCR other", NULL);
    shards_expect(w, leader, "FLUSHALL", "+OK\r\n");
    shards_expect(w, leader, "DBSIZE", ":0\r\n");
    shard_want_checkpoint(w->at[leader].shard);
    shards_run(w, 200);
    shards_crash(w, leader);
    shards_start(w, leader, false);
    const uint32_t next = shards_lead(w);
    expect_once(w, next, "x", "INCR n", ":1\r\n");
    shard_want_checkpoint(w->at[next].shard);
    shards_run(w, 200);
    shards_start(w, away, false);
    shards_run(w, 3000);
    shards_assert_equal(w);
    assert_string_equal(shards_committed(w, away, "n"), "$-1\r\n");

    /* The one that was away, by log or snapshot, would answer the same. */
    shard_transfer(w->at[shards_lead(w)].shard, (struct server_id){away}, w->now);
    shards_run(w, 500);
    assert_int_equal(shards_lead(w), away);
    expect_once(w, away, "x", "INCR n", ":1\r\n");
    shards_free(w);
}

/* R63: the answer was lost with its leader; the next one carries nothing out again. */
static void R63_a_repeat_at_the_next_leader_is_not_carried_out_again(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    (void)state;

    w->once = "x";
    assert_int_equal(shards_ask(w, old, "INCR n"), SHARD_TAKEN);
    shards_run(w, 300); /* committed; nobody was told */
    shards_crash(w, old);
    const uint32_t next = shards_lead(w);
    expect_once(w, next, "x", "INCR n", ":1\r\n");
    shards_expect(w, next, "GET n", "$1\r\n1\r\n");
    shards_free(w);
}

/* The first try is lost with its leadership: the id is forgotten with its effects, and a
 * repeat that saw it is lost as well. */
static void what_a_deposed_leader_carried_out_is_carried_out_again(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    (void)state;

    shards_isolate(w, old, true);
    w->once = "x";
    assert_int_equal(shards_ask(w, old, "INCR n"), SHARD_TAKEN);
    const struct shard_gate first = w->gate;
    assert_int_equal(shards_ask(w, old, "INCR n"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, ":1\r\n");
    assert_int_equal(w->gate.index.v, first.index.v); /* behind the first */
    assert_true(w->gate.wrote);                       /* its outcome is as unknown */
    const struct shard_gate again = w->gate;
    assert_int_equal(shards_gate(w, old), GATE_WAITS);
    w->once = NULL;
    shards_run(w, 3000); /* it steps down, and another one leads */
    const uint32_t next = shards_lead(w);
    assert_int_not_equal(next, old);
    shards_expect(w, next, "INCRBY n 10", ":10\r\n");
    expect_once(w, next, "x", "INCR n", ":11\r\n");
    shards_isolate(w, old, false);
    shards_run(w, 3000);
    assert_int_equal(shard_gate(w->at[old].shard, &again), GATE_LOST);
    shards_assert_equal(w);
    shards_free(w);
}

static void exec_has_one_id(void **state)
{
    static const char *const lines[] = {"INCR a", "INCR b"};
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    const struct shard_watch gone = {BYTES_OF("a"), {999}};
    (void)state;

    w->once = "x";
    assert_int_equal(shards_exec(w, id, lines, 2, &gone, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*-1\r\n"); /* did nothing */
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(shards_exec(w, id, lines, 2, NULL, 0), SHARD_TAKEN);
        assert_string_equal((const char *)w->reply.at, "*2\r\n:1\r\n:1\r\n");
        shards_run(w, 50);
    }
    assert_int_equal(shards_exec(w, id, lines, 1, &gone, 1), SHARD_TAKEN);
    assert_true(says(w, "-ERR"));
    shards_free(w);
}

static void a_long_answer_is_remembered_as_done(void **state)
{
    char line[ANSWER_LONG + 16] = "SET a ";
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    memset(line + strlen(line), 'x', ANSWER_LONG);
    shards_expect(w, id, line, "+OK\r\n");
    w->once = "x";
    assert_int_equal(shards_ask(w, id, "GETDEL a"), SHARD_TAKEN);
    assert_true(says(w, "$5000\r\nxx"));
    shards_run(w, 50);
    assert_int_equal(shards_ask(w, id, "GETDEL a"), SHARD_TAKEN);
    assert_true(says(w, "-DONE "));
    shards_free(w);
}

/* What can't be remembered is refused, not carried out without a memory. */
static void no_room_is_an_error_and_age_makes_room(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    char once[16];
    (void)state;

    w->once_max = 20; /* of replicas that start from now on */
    shards_crash(w, id);
    shards_start(w, id, false);
    for (uint32_t i = 1; i <= 3; i++) {
        if (i == id) continue;
        shards_crash(w, i);
        shards_start(w, i, false);
    }
    const uint32_t leader = shards_lead(w);
    for (int i = 0; i < 20; i++) {
        snprintf(once, sizeof once, "id-%d", i);
        expect_once(w, leader, once, "INCR n", NULL);
    }
    w->once = "one more";
    assert_int_equal(shards_ask(w, leader, "INCR n"), SHARD_ONCE_FULL);
    w->once = NULL;
    expect_once(w, leader, "id-3", "INCR n", ":4\r\n"); /* known ones are answered */
    shards_expect(w, leader, "INCR n", ":21\r\n");      /* and others carried out */

    w->wall.ms += 3600000; /* a clock that jumps makes nobody forget */
    for (int i = 0; i < 20; i++) {
        shard_expire(w->at[leader].shard, w->wall, w->now);
        shards_run(w, 100);
    }
    assert_int_equal(store_count_system(shard_store(w->at[leader].shard)), 20);
    for (int i = 0; i < 100; i++) {
        shard_expire(w->at[leader].shard, w->wall, w->now);
        shards_run(w, 100);
    }
    assert_int_equal(store_count_system(shard_store(w->at[leader].shard)), 0);
    expect_once(w, leader, "one more", "INCR n", ":22\r\n");
    shards_assert_equal(w);
    shards_free(w);
}

/* What was not carried out long enough ago stays, however long others are away. */
static void the_young_stay_while_the_old_are_forgotten(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    expect_once(w, id, "old", "INCR n", ":1\r\n");
    for (int i = 0; i < 80; i++) {
        shard_expire(w->at[id].shard, w->wall, w->now);
        shards_run(w, 100);
    }
    expect_once(w, id, "young", "INCR n", ":2\r\n");
    for (int i = 0; i < 50; i++) {
        shard_expire(w->at[id].shard, w->wall, w->now);
        shards_run(w, 100);
    }
    assert_int_equal(store_count_system(shard_store(w->at[id].shard)), 1);
    expect_once(w, id, "young", "INCR n", ":2\r\n");
    shards_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeat_gets_the_first_answer_and_changes_nothing),
        cmocka_unit_test(an_answer_that_says_no_is_not_remembered),
        cmocka_unit_test(an_id_is_good_for_one_command),
        cmocka_unit_test(R65_flush_snapshot_and_restart_keep_what_was_carried_out),
        cmocka_unit_test(R63_a_repeat_at_the_next_leader_is_not_carried_out_again),
        cmocka_unit_test(what_a_deposed_leader_carried_out_is_carried_out_again),
        cmocka_unit_test(exec_has_one_id),
        cmocka_unit_test(a_long_answer_is_remembered_as_done),
        cmocka_unit_test(no_room_is_an_error_and_age_makes_room),
        cmocka_unit_test(the_young_stay_while_the_old_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
