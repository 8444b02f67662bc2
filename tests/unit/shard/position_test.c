/* SPDX-License-Identifier: Apache-2.0 */
/* Where a client has been in a shard's log, asked of another replica or a later leader: it has
 * that, or not yet, or never will. */
#include "shard/shard_world.h"

static enum shard_position_state at(const struct shards *w, uint32_t id,
                                    struct shard_position p)
{
    return shard_position(w->at[id].shard, &p);
}

static struct shard_position noted(const struct shards *w, uint32_t id)
{
    return shard_position_at(w->at[id].shard, w->gate.saw);
}

static void a_replica_that_is_behind_says_so_until_it_has_it(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), behind = shards_follower(w, leader, 0);
    const struct shard_position nowhere = {.index = {0}};
    (void)state;

    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    shards_run(w, 300);
    assert_int_equal(at(w, behind, noted(w, leader)), POSITION_HERE);
    assert_int_equal(at(w, behind, nowhere), POSITION_HERE);

    shards_isolate(w, behind, true);
    shards_expect(w, leader, "SET a 2", "+OK\r\n");
    const struct shard_position p = noted(w, leader);
    assert_true(p.settled);
    assert_int_equal(at(w, leader, p), POSITION_HERE);
    assert_int_equal(at(w, behind, p), POSITION_AHEAD);
    shards_isolate(w, behind, false);
    shards_run(w, 3000);
    assert_int_equal(at(w, behind, p), POSITION_HERE);
    shards_free(w);
}

/* What a read saw counts like a write: of a key its last change, of what is absent all that
 * was applied. */
static void a_read_tells_what_it_saw(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    const uint64_t a = w->gate.saw.v;
    shards_expect(w, id, "SET b 1", "+OK\r\n");
    assert_int_equal(w->gate.saw.v, a + 1);
    shards_expect(w, id, "GET a", "$1\r\n1\r\n");
    assert_int_equal(w->gate.saw.v, a);
    shards_expect(w, id, "GET absent", "$-1\r\n");
    assert_int_equal(w->gate.saw.v, a + 1);
    shards_free(w);
}

/* P24: the deposed leader answered before a majority had it (ACK async does that). */
static void P24_what_a_failover_discarded_is_lost_and_not_older_data(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    (void)state;

    shards_expect(w, old, "SET a 1", "+OK\r\n");
    const struct shard_position before = noted(w, old);
    shards_isolate(w, old, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal(shards_ask(w, old, "SET a 2"), SHARD_TAKEN);
    const struct shard_position p = noted(w, old);
    assert_false(p.settled);
    assert_int_equal(at(w, old, p), POSITION_HERE);
    shards_run(w, 3000);
    const uint32_t next = shards_lead(w), other = shards_follower(w, next, 0) == old
                                                      ? shards_follower(w, next, 1)
                                                      : shards_follower(w, next, 0);
    assert_int_equal(at(w, next, before), POSITION_HERE);
    assert_int_equal(at(w, next, p), POSITION_LOST); /* its log is shorter */
    assert_int_equal(at(w, other, p), POSITION_AHEAD);
    assert_int_equal(at(w, old, p), POSITION_AHEAD); /* it does not know yet */
    for (int i = 0; i < 5; i++)
        shards_expect(w, next, "SET a 3", "+OK\r\n");
    const struct shard_position later = noted(w, next);
    shards_run(w, 300);
    assert_int_equal(at(w, next, p), POSITION_LOST); /* something else is there */
    assert_int_equal(at(w, other, p), POSITION_LOST);
    assert_int_equal(at(w, old, later), POSITION_AHEAD);
    shards_isolate(w, old, false);
    shards_run(w, 3000);
    for (uint32_t id = 1; id <= 3; id++) {
        assert_int_equal(at(w, id, p), POSITION_LOST);
        assert_int_equal(at(w, id, later), POSITION_HERE);
        assert_int_equal(at(w, id, before), POSITION_HERE);
    }
    shards_free(w);
}

/* A key is watched at a primary whose last writes a failover discards.  The next one changes the
 * key by an entry of the same index. */
static void watches_of_a_discarded_change_do_not_hold(void **state)
{
    static const char *const lines[] = {"SET a 3"};
    const struct bytes key = BYTES_OF("a");
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    struct log_index change, other;
    (void)state;

    shards_isolate(w, old, true);
    for (int i = 0; i < 9; i++)
        assert_int_equal(shards_ask(w, old, "SET a 1"), SHARD_TAKEN);
    assert_int_equal(shards_watch(w, old, key, &change), SHARD_TAKEN);
    const struct shard_position p = noted(w, old);
    assert_int_equal(p.index.v, change.v);
    shards_run(w, 3000);
    const uint32_t next = shards_lead(w);
    do {
        shards_expect(w, next, "SET a 2", "+OK\r\n");
    } while (shards_info(w, next).last.v < change.v);
    assert_int_equal(shards_watch(w, next, key, &other), SHARD_TAKEN);
    assert_int_equal(other.v, change.v);

    /* By its index alone it seems to be as it was. */
    const struct shard_watch watch = {key, change};
    w->position = p;
    assert_int_equal(shards_exec(w, next, lines, 1, &watch, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*-1\r\n");
    assert_false(w->gate.wrote);
    assert_int_equal(w->gate.saw.v, 0); /* to a session this is no sight of newer data */
    /* Without watches it is an error that says so. */
    assert_int_equal(shards_ask(w, next, "SET a 3"), SHARD_LOST);
    /* A later WATCH does not help the earlier one. */
    assert_int_equal(shards_watch(w, next, key, &other), SHARD_TAKEN);
    assert_true(other.v == SHARD_CHANGE_NEVER);
    assert_int_equal(w->gate.saw.v, 0);
    w->position = (struct shard_position){0};
    const struct shard_watch never = {key, other};
    assert_int_equal(shards_exec(w, next, lines, 1, &never, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*-1\r\n");
    shards_free(w);
}

static void watches_hold_at_a_later_leader_that_has_their_log(void **state)
{
    static const char *const lines[] = {"SET a 2"};
    const struct bytes key = BYTES_OF("a");
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    struct log_index change;
    (void)state;

    shards_expect(w, old, "SET a 1", "+OK\r\n");
    assert_int_equal(shards_watch(w, old, key, &change), SHARD_TAKEN);
    w->position = noted(w, old);
    shards_run(w, 300);
    shards_isolate(w, old, true);
    shards_run(w, 3000);
    const uint32_t next = shards_lead(w);
    assert_int_not_equal(next, old);
    const struct shard_watch watch = {key, change};
    assert_int_equal(shards_exec(w, next, lines, 1, &watch, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*1\r\n+OK\r\n");
    shards_free(w);
}

static void what_the_log_no_longer_reaches_was_committed(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    const struct shard_position p = noted(w, id);
    struct shard_position open = p;
    open.settled = false;
    for (int i = 0; i < 30; i++)
        shards_expect(w, id, "INCR n", NULL);
    shards_crash(w, id);
    shards_start(w, id, false);
    assert_int_equal(shards_lead(w), id);
    shards_expect(w, id, "INCR n", NULL);
    shard_want_checkpoint(w->at[id].shard);
    shards_run(w, 200);
    shards_crash(w, id);
    shards_start(w, id, false);
    shards_lead(w);
    assert_true(shards_info(w, id).base.v > p.index.v);
    assert_int_equal(at(w, id, p), POSITION_HERE);
    /* Nobody noted that it was committed, and nothing here tells. */
    assert_int_equal(at(w, id, open), POSITION_LOST);
    /* What is told of an entry that old is told of a later one. */
    assert_true(shard_position_at(w->at[id].shard, p.index).index.v > p.index.v);
    /* A new epoch may have been begun with less. */
    struct shard_position other = p;
    other.term.v -= UINT64_C(1) << TERM_EPOCH_SHIFT;
    assert_int_equal(at(w, id, other), POSITION_LOST);
    shards_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_that_is_behind_says_so_until_it_has_it),
        cmocka_unit_test(a_read_tells_what_it_saw),
        cmocka_unit_test(P24_what_a_failover_discarded_is_lost_and_not_older_data),
        cmocka_unit_test(watches_of_a_discarded_change_do_not_hold),
        cmocka_unit_test(watches_hold_at_a_later_leader_that_has_their_log),
        cmocka_unit_test(what_the_log_no_longer_reaches_was_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
