/* SPDX-License-Identifier: Apache-2.0 */
/* One to four replicas of a shard: gates, what is staged, restarts, snapshots, repair.  R
 * numbers are those of the scenarios for ordered shards. */
#include "shard/shard_world.h"

#include <stdio.h>
#include <string.h>

/* ---- answers and gates ---- */

static void an_answer_waits_until_its_write_is_durable(void **state)
{
    struct shards *w = shards_new(1, 1);
    const uint32_t id = shards_lead(w);
    (void)state;

    w->at[id].disk_held = true;
    assert_int_equal(shards_ask(w, id, "SET a 1"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "+OK\r\n");
    assert_true(w->gate.wrote);
    shards_run(w, 100);
    assert_int_equal(shards_gate(w, id), GATE_WAITS);
    assert_string_equal(shards_committed(w, id, "b"), "$-1\r\n");
    assert_true(store_has_staged(shard_store(w->at[id].shard)));
    w->at[id].disk_held = false;
    shards_run(w, 5);
    assert_int_equal(shards_gate(w, id), GATE_OPEN);
    assert_false(store_has_staged(shard_store(w->at[id].shard)));
    shards_free(w);
}

/* A round of the leader's reads is answered at once, and once more when the disk has what was
 * acknowledged with it: of those there is one, however long the disk stands still. */
static void a_disk_that_stands_still_holds_one_answer_for_all_rounds(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), slow = shards_follower(w, leader, 0);
    struct shard *const s = w->at[slow].shard;
    struct raft_peer peer;
    (void)state;

    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    shards_run(w, 200);
    w->at[slow].disk_held = true;
    for (uint32_t i = 0; i < 3; i++)
        shards_expect(w, leader, "SET a 2", "+OK\r\n");
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(shards_ask(w, leader, "GET a"), SHARD_TAKEN);
        shards_pump(w);
        assert_int_equal(shards_gate(w, leader), GATE_OPEN);
    }
    assert_in_range(s->n_held, 1, 3); /* one for each write on its way */
    shard_verify(s);
    assert_true(
        raft_peer_of(shard_raft(w->at[leader].shard), (struct server_id){slow}, &peer));
    assert_true(peer.match.v < shards_info(w, leader).last.v);
    w->at[slow].disk_held = false;
    shards_pump(w); /* no time passes, so it is what was held */
    assert_int_equal(s->n_held, 0);
    assert_true(
        raft_peer_of(shard_raft(w->at[leader].shard), (struct server_id){slow}, &peer));
    assert_int_equal(peer.match.v, shards_info(w, leader).last.v);
    shards_free(w);
}

/* ... but not for those that the disk has reached: there is always a later one behind a disk
 * that is slow. */
static void what_a_slow_disk_has_is_acknowledged_while_more_comes(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), slow = shards_follower(w, leader, 0);
    struct replica *r = &w->at[slow];
    struct raft_peer peer;
    (void)state;

    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    shards_run(w, 200);
    r->disk_held = true;
    shards_expect(w, leader, "SET a 2", "+OK\r\n");
    const struct log_index first = shards_info(w, leader).last;
    shards_expect(w, leader, "SET a 3", "+OK\r\n");
    for (const uint64_t before = r->log->durable; r->log->durable == before;)
        assert_true(world_perform(r->log));
    shard_durable(r->shard, (struct lsn){r->log->durable}, (struct lsn){r->log->durable},
                  true, w->now);
    shards_expect(w, leader, "SET a 4", "+OK\r\n");
    assert_true(
        raft_peer_of(shard_raft(w->at[leader].shard), (struct server_id){slow}, &peer));
    assert_int_equal(peer.match.v, first.v);
    r->disk_held = false;
    shards_pump(w);
    shards_free(w);
}

static void a_read_waits_for_the_write_that_it_saw(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    shards_isolate(w, id, true);
    assert_int_equal(shards_ask(w, id, "SET a 2"), SHARD_TAKEN);
    const uint64_t index = w->gate.index.v;
    assert_int_equal(shards_ask(w, id, "GET a"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "$1\r\n2\r\n");
    assert_int_equal(w->gate.index.v, index);
    assert_false(w->gate.wrote);
    shards_run(w, 100);
    assert_int_equal(shards_gate(w, id), GATE_WAITS);
    assert_int_equal(shards_ask(w, id, "GET other"),
                     SHARD_TAKEN); /* may be a staged delete */
    assert_int_equal(w->gate.index.v, index);
    shards_isolate(w, id, false);
    shards_run(w, 300);
    assert_int_equal(shards_gate(w, id), GATE_OPEN);
    shards_free(w);
}

static void exec_is_one_entry_or_nothing(void **state)
{
    static const char *const lines[] = {"SET a 5", "INCR a", "SET b x"};
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    const struct bytes key = BYTES_OF("a");
    struct log_index change;
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    assert_int_equal(shards_watch(w, id, key, &change), SHARD_TAKEN);
    assert_true(change.v > 1);
    const struct shard_watch watch = {key, change};
    const uint64_t before = shards_info(w, id).last.v;
    assert_int_equal(shards_exec(w, id, lines, 3, &watch, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*3\r\n+OK\r\n:6\r\n+OK\r\n");
    assert_int_equal(shards_info(w, id).last.v, before + 1);
    /* the same watch once more: a has changed since, if only on the newest state */
    assert_int_equal(shards_exec(w, id, lines, 3, &watch, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*-1\r\n");
    assert_false(w->gate.wrote);
    assert_int_equal(shards_info(w, id).last.v, before + 1);
    shards_run(w, 300);
    for (uint32_t r = 1; r <= 3; r++)
        assert_string_equal(shards_committed(w, r, "a"), "$1\r\n6\r\n");
    shards_free(w);
}

/* A connection that is told of watched keys reads at a replica afterwards (READ any): the answer
 * says how far that replica must have come, whether the keys are there or not. */
static void what_watch_and_a_refused_exec_tell_is_as_of_the_last_entry(void **state)
{
    static const char *const lines[] = {"SET a 5"};
    struct shards *w = shards_new(3, 3);
    const uint32_t id = shards_lead(w);
    const struct bytes key = BYTES_OF("a");
    struct log_index change;
    (void)state;

    shards_expect(w, id, "SET a 1", "+OK\r\n");
    shards_expect(w, id, "DEL a", ":1\r\n");
    const struct log_index last = shards_info(w, id).last;
    assert_int_equal(shards_watch(w, id, key, &change), SHARD_TAKEN);
    assert_int_equal(change.v, 0);
    assert_int_equal(w->gate.index.v, last.v);
    const struct shard_watch watch = {key, {last.v - 1}};
    assert_int_equal(shards_exec(w, id, lines, 1, &watch, 1), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "*-1\r\n");
    assert_int_equal(w->gate.index.v, last.v);
    shards_free(w);
}

/* R66, R69: done, not done and not known are told apart, and what a deposed leader staged and
 * nobody committed is forgotten, and was never shown. */
static void R69_what_a_deposed_leader_staged_is_dropped(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w), other = shards_follower(w, old, 0);
    (void)state;

    shards_expect(w, old, "SET a 1", "+OK\r\n");
    shards_isolate(w, old, true);
    assert_int_equal(shards_ask(w, old, "SET a 2"), SHARD_TAKEN);
    const struct shard_gate write = w->gate;
    assert_int_equal(shards_ask(w, old, "GET a"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at,
                        "$1\r\n2\r\n"); /* written, not to be sent */
    const struct shard_gate read = w->gate;
    for (uint32_t i = 0; i < 400 && shards_info(w, old).role == RAFT_LEADER; i++) {
        assert_int_equal(shard_gate(w->at[old].shard, &write), GATE_WAITS);
        assert_int_equal(shard_gate(w->at[old].shard, &read), GATE_WAITS);
        shards_run(w, 5);
    }
    assert_int_equal(shard_gate(w->at[old].shard, &write), GATE_LOST);
    assert_int_equal(shard_gate(w->at[old].shard, &read), GATE_LOST);
    assert_true(write.wrote); /* not known */
    assert_false(read.wrote); /* surely not done */
    assert_false(store_has_staged(shard_store(w->at[old].shard)));
    assert_string_equal(shards_committed(w, old, "a"), "$1\r\n1\r\n");
    const uint64_t last = shards_info(w, old).last.v;
    assert_int_equal(shards_ask(w, old, "SET a 3"), SHARD_NOT_LEADER); /* not done */
    assert_int_equal(shards_info(w, old).last.v, last);
    assert_string_equal((const char *)w->reply.at, "");

    const uint32_t next = shards_lead(w);
    assert_int_not_equal(next, old);
    shards_expect(w, next, "GET a", "$1\r\n1\r\n");
    shards_expect(w, next, "SET b 1", "+OK\r\n");
    shards_isolate(w, old, false);
    shards_run(w, 300);
    assert_string_equal(shards_committed(w, old, "a"), "$1\r\n1\r\n");
    assert_string_equal(shards_committed(w, other, "b"), "$1\r\n1\r\n");
    /* the gate of another term stays lost, also once it leads again */
    shard_transfer(w->at[next].shard, (struct server_id){old}, w->now);
    shards_run(w, 500);
    assert_int_equal(shards_lead(w), old);
    assert_int_equal(shard_gate(w->at[old].shard, &write), GATE_LOST);
    shards_assert_equal(w);
    shards_free(w);
}

/* R113: a leader that stood still wakes and expires a key.  That is an entry like any other:
 * it goes with the leadership. */
static void R113_an_expiry_is_an_entry_and_is_lost_with_its_term(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t old = shards_lead(w);
    (void)state;

    shards_expect(w, old, "SET a 1 PX 1000", "+OK\r\n");
    shards_expect(w, old, "SET b 1 PX 1000", "+OK\r\n");
    shards_isolate(w, old, true);
    for (uint32_t r = 1; r <= 3; r++)
        if (r != old) w->at[r].wall_ms = -60000; /* for the others it is not due yet */
    struct shard *const stuck = w->at[old].shard;
    w->at[old].shard = NULL; /* it stands still */
    const uint32_t next = shards_lead(w);
    shards_expect(w, next, "PERSIST a", ":1\r\n");
    w->at[old].shard = stuck; /* it wakes, and has heard nothing yet */
    assert_true(shard_leads(stuck));
    const uint64_t last = shards_info(w, old).last.v;
    assert_true(shard_expire(stuck, w->wall, w->now));
    assert_int_equal(shards_info(w, old).last.v, last + 1);
    assert_int_equal(shards_ask(w, old, "GET a"), SHARD_TAKEN);
    assert_string_equal((const char *)w->reply.at, "$-1\r\n");
    const struct shard_gate gate = w->gate;
    assert_int_equal(shard_gate(stuck, &gate), GATE_WAITS);
    shards_isolate(w, old, false);
    shards_run(w, 500);
    assert_int_equal(shard_gate(stuck, &gate), GATE_LOST);
    for (uint32_t r = 1; r <= 3; r++)
        assert_string_equal(shards_committed(w, r, "a"), "$1\r\n1\r\n");
    /* who leads expires what is still due, for all */
    w->at[next].wall_ms = 0;
    assert_true(shard_expire(w->at[next].shard, w->wall, w->now));
    shards_run(w, 300);
    for (uint32_t r = 1; r <= 3; r++) {
        assert_string_equal(shards_committed(w, r, "b"), "$-1\r\n");
        assert_string_equal(shards_committed(w, r, "a"), "$1\r\n1\r\n");
    }
    shards_assert_equal(w);
    shards_free(w);
}

/* R67: replicas that draw other numbers and have other clocks hold the same. */
static void R67_replicas_are_equal_whatever_they_would_have_drawn(void **state)
{
    static const char *const lines[] = {
        "SET a 1 PX 5000", "INCR a",           "INCRBYFLOAT f 0.1", "INCRBYFLOAT f 0.2",
        "APPEND s abc",    "SETRANGE s 5 xyz", "EXPIRE s 100",      "GETEX a EX 50",
        "SET gone x PX 1", "SET b 2 KEEPTTL",  "PERSIST a",         "RENAME b c",
        "COPY a d",        "GETDEL d",         "RANDOMKEY",
    };
    struct shards *w = shards_new(3, 3);
    (void)state;

    for (uint32_t r = 1; r <= 3; r++)
        w->at[r].wall_ms = (int64_t)r * 3600000;
    for (uint32_t round = 0; round < 3; round++) {
        const uint32_t id = shards_lead(w);
        for (uint32_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            assert_int_equal(shards_ask(w, id, lines[i]), SHARD_TAKEN);
            shards_run(w, 20);
        }
        if (round == 1)
            shard_want_checkpoint(w->at[id].shard); /* of one, not of the others */
        while (shard_expire(w->at[id].shard,
                            (struct wall){w->wall.ms + w->at[id].wall_ms}, w->now))
            shards_run(w, 20);
        shards_assert_equal(w);
        shard_transfer(w->at[id].shard,
                       (struct server_id){shards_follower(w, id, round % 2)}, w->now);
        shards_run(w, 500);
    }
    shards_free(w);
}

/* ---- restarts ---- */

/* R41: what was applied is committed, and a restart between the two neither skips an entry nor
 * applies one twice. */
static void R41_a_restart_goes_on_behind_its_checkpoint(void **state)
{
    struct shards *w = shards_new(3, 3);
    (void)state;

    const uint32_t leader = shards_lead(w), follower = shards_follower(w, leader, 0);
    struct replica *r = &w->at[follower];
    for (uint32_t i = 1; i <= 20; i++) {
        char want[16];
        snprintf(want, sizeof want, ":%u\r\n", i);
        shards_expect(w, leader, "INCR n", want);
        if (i == 12) {
            shards_run(w, 200);
            shard_want_checkpoint(r->shard);
            shards_run(w, 20);
        }
    }
    shards_run(w, 200);
    assert_int_equal(r->n_effects, 20);
    const uint64_t base = store_base(shard_store(r->shard)).index.v;
    const uint64_t commit = shards_info(w, follower).commit.v;
    assert_true(base > 1 && base < commit);
    shards_crash(w, follower);
    shards_start(w, follower, false);
    /* the log is there, the commit is not: nothing above the checkpoint is applied */
    assert_true(shards_info(w, follower).last.v >= commit);
    assert_int_equal(shard_applied(r->shard).v, base);
    shards_isolate(w, follower, true);
    shards_run(w, 300);
    assert_int_equal(shard_applied(r->shard).v, base);
    shards_isolate(w, follower, false);
    shards_run(w, 3000);
    assert_int_equal(r->n_effects, 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(r->effects[i], 13 + i);
    assert_string_equal(shards_committed(w, follower, "n"), "$2\r\n20\r\n");

    for (uint32_t id = 1; id <= 3; id++)
        shards_crash(w, id); /* and all at once */
    for (uint32_t id = 1; id <= 3; id++)
        shards_start(w, id, false);
    const uint32_t next = shards_lead(w);
    shards_expect(w, next, "INCR n", ":21\r\n");
    shards_assert_equal(w);
    shards_free(w);
}

/* Whatever the groups have each room for: what waits for the disk is one bound for all. */
static void writes_are_refused_when_too_much_waits_for_the_disk(void **state)
{
    struct shards *w = shards_new(1, 1);
    (void)state;

    shards_lead(w);
    shards_crash(w, 1);
    w->at[1].log->config.batch_bytes_max = 4096;
    shards_start(w, 1, false);
    shards_lead(w);
    w->at[1].disk_held = true;
    uint32_t taken = 0;
    while (shards_ask(w, 1, "SET a 1") == SHARD_TAKEN) {
        shards_run(w, 5);
        assert_in_range(++taken, 1, 200);
    }
    assert_in_range(taken, 10, 100); /* the group itself would take some hundreds */
    assert_int_equal(shards_ask(w, 1, "SET a 1"), SHARD_FULL);
    assert_int_equal(shards_ask(w, 1, "GET a"), SHARD_TAKEN);
    w->at[1].disk_held = false;
    shards_run(w, 5);
    shards_expect(w, 1, "SET a 2", "+OK\r\n");
    shards_free(w);
}

static void a_checkpoint_that_fails_is_made_later(void **state)
{
    struct shards *w = shards_new(1, 1);
    struct shard *s = w->at[1].shard;
    (void)state;

    shards_lead(w);
    shards_expect(w, 1, "SET a 1", "+OK\r\n");
    const uint64_t base = store_base(shard_store(s)).index.v;
    w->at[1].job_error = 28; /* ENOSPC */
    shard_want_checkpoint(s);
    shards_run(w, 50);
    assert_int_equal(store_base(shard_store(s)).index.v, base);
    assert_non_null(shard_trouble(s));
    assert_int_equal(shards_ask(w, 1, "SET b 1"), SHARD_NO_ROOM);
    shards_expect(w, 1, "GET a", "$1\r\n1\r\n");
    shards_expect(w, 1, "DEL a", ":1\r\n");
    w->at[1].job_error = 0;
    shards_run(w, 1500);
    assert_true(store_base(shard_store(s)).index.v > base);
    assert_null(shard_trouble(s));
    shards_expect(w, 1, "SET b 1", "+OK\r\n");
    shards_free(w);
}

/* ---- snapshots ---- */

static uint32_t keys_written;

/* For so long that the leader keeps nothing of the log for it. */
static void leave_behind(struct shards *w, uint32_t id)
{
    shards_isolate(w, id, true);
    shards_run(w, 1200);
}

/* Enough for a stream of many pieces, behind a checkpoint that the log does not pass. */
static void fill(struct shards *w, uint32_t leader, uint32_t n)
{
    char line[400];

    for (uint32_t i = 0; i < n; i++) {
        snprintf(line, sizeof line, "SET key%u %0300u", keys_written++, i);
        assert_int_equal(shards_ask(w, leader, line), SHARD_TAKEN);
        if (i % 10 == 9) shards_run(w, 20);
    }
    shards_run(w, 200);
    shard_want_checkpoint(w->at[leader].shard);
    shards_run(w, 50);
}

/* R84: every third piece lost, every fourth doubled, and one that is waited for spoiled. */
static bool has_spoiled;

static uint32_t bad_weather(struct shards *w, uint32_t from, struct raft_msg *m)
{
    static uint8_t spoiled[4096];

    (void)from;
    if (m->kind != RAFT_SNAPSHOT) return 1;
    w->passed++;
    const struct shard_install *in = &w->at[m->to.v].shard->install;
    if (!has_spoiled && w->passed > 10 && in->active && m->offset == in->received) {
        assert_in_range(m->data.len, 40, sizeof spoiled);
        memcpy(spoiled, m->data.at, m->data.len);
        spoiled[m->data.len - 20] ^= 4;
        m->data.at = spoiled;
        has_spoiled = true;
        return 1;
    }
    if (w->passed % 3 == 0) return 0;
    return w->passed % 4 == 0 ? 2 : 1;
}

static void R84_pieces_are_lost_doubled_and_spoiled(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), away = shards_follower(w, leader, 0);
    (void)state;

    has_spoiled = false;
    fill(w, leader, 20);
    leave_behind(w, away);
    fill(w, leader, 30);
    assert_true(shards_info(w, leader).base.v > shards_info(w, away).last.v);
    w->passes = bad_weather;
    shards_isolate(w, away, false);
    shards_run(w, 60000);
    assert_true(w->passed > 40 && has_spoiled);
    assert_int_equal(w->at[away].counts.snapshots_installed, 1);
    assert_true(w->at[leader].counts.snapshots_sent >=
                2); /* the spoiled one was refused whole */
    assert_int_equal(w->at[away].n_resets, 1);
    shards_assert_equal(w);
    shards_free(w);
}

/* P19: cut off and back again, it goes on where it was as long as what it lacks is within the
 * bound of the log, however many checkpoints there were; beyond that it gets a snapshot. */
static void P19_a_follower_a_little_behind_gets_the_log(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), away = shards_follower(w, leader, 0);
    (void)state;

    for (uint32_t id = 1; id <= 3; id++)
        w->at[id].shard->config.log_keep_bytes = 30 * 400;
    fill(w, leader, 40); /* about 400 bytes each */
    leave_behind(w, away);
    for (uint32_t i = 0; i < 2; i++)
        fill(w, leader, 10);
    assert_true(shards_info(w, leader).base.v > 20); /* the log was cut */
    shards_isolate(w, away, false);
    shards_run(w, 3000);
    assert_int_equal(w->at[away].counts.snapshots_installed, 0);
    shards_assert_equal(w);

    leave_behind(w, away);
    for (uint32_t i = 0; i < 4; i++)
        fill(w, leader, 10);
    shards_isolate(w, away, false);
    shards_run(w, 3000);
    assert_int_equal(w->at[away].counts.snapshots_installed, 1);
    shards_assert_equal(w);
    shards_free(w);
}

/* Keeps the first pieces of a snapshot back, and gives them out again later. */
static struct {
    struct raft_msg m[4];
    uint8_t bytes[4][1024];
    uint32_t n;
} kept_back;

static uint32_t keep_some_back(struct shards *w, uint32_t from, struct raft_msg *m)
{
    (void)from;
    if (m->kind != RAFT_SNAPSHOT || kept_back.n == 4) return 1;
    if (m->data.len > sizeof kept_back.bytes[0]) return 1;
    struct raft_msg *k = &kept_back.m[kept_back.n];
    *k = *m;
    memcpy(kept_back.bytes[kept_back.n], m->data.at, m->data.len);
    k->data.at = kept_back.bytes[kept_back.n++];
    w->passed++;
    return 1;
}

/* Just before a piece that is waited for, one of the older snapshot with the same offset. */
static uint32_t mix_in(struct shards *w, uint32_t from, struct raft_msg *m)
{
    struct shard *const s = w->at[m->to.v].shard;

    (void)from;
    if (m->kind != RAFT_SNAPSHOT || w->passed == 3 || m->offset != s->install.received)
        return 1;
    for (uint32_t i = 1; i < kept_back.n; i++) {
        struct raft_msg stale = kept_back.m[i];
        if (stale.offset != m->offset || stale.index.v == m->index.v) continue;
        stale.term = m->term; /* as if it had been on its way all the time */
        w->passed++;
        shard_receive(s, &stale, w->now);
        break;
    }
    return 1;
}

/* R84, R78: pieces of an older snapshot between those of a newer one. */
static void R84_pieces_of_another_snapshot_are_not_mixed_in(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), away = shards_follower(w, leader, 0);
    struct replica *r = &w->at[away];
    (void)state;

    memset(&kept_back, 0, sizeof kept_back);
    leave_behind(w, away);
    fill(w, leader, 40);
    w->passes = keep_some_back;
    r->jobs_held = true; /* the first one gets no further than its beginning */
    shards_isolate(w, away, false);
    shards_run(w, 300);
    assert_int_equal(kept_back.n, 4);
    shards_isolate(w, away, true);
    shards_run(w, 22000); /* given up */
    fill(w, leader, 40);
    w->passes = mix_in;
    w->passed = 0;
    shards_isolate(w, away, false);
    r->jobs_held = false;
    shards_run(w, 10000);
    assert_in_range(w->passed, 2, 3); /* it happened */
    assert_true(r->counts.snapshots_installed >= 1);
    shards_assert_equal(w);
    shards_free(w);
}

/* A little more than its receiver takes in before it writes. */
static void fill_more_than_a_batch(struct shards *w, uint32_t leader)
{
    char line[1 << 15];

    for (uint32_t i = 0; i < 34; i++) {
        memset(line, 'v', sizeof line);
        line[snprintf(line, sizeof line, "SET big%u", i)] = ' ';
        line[sizeof line - 1] = 0;
        shards_expect(w, leader, line, "+OK\r\n");
    }
    shard_want_checkpoint(w->at[leader].shard);
    shards_run(w, 50);
}

/* The receiver's disk has so much to do, for other groups, that a batch waits longer for its turn
 * than a silent receiver is waited for. */
static void a_snapshot_is_not_begun_anew_while_its_receiver_answers(void **state)
{
    (void)state;
    for (uint32_t what = 0; what < 3; what++) {
        struct shards *w = shards_new(3, 3);
        const uint32_t leader = shards_lead(w), away = shards_follower(w, leader, 0);
        struct replica *r = &w->at[away];

        leave_behind(w, away);
        if (what == 1)
            fill_more_than_a_batch(w, leader);
        else
            fill(w, leader, 40);
        r->jobs_held = true;
        if (what == 2) { /* its own checkpoint waits, too, before the first piece comes */
            shard_want_checkpoint(r->shard);
            shards_run(w, 100);
            assert_true(shard_busy(r->shard));
        }
        shards_isolate(w, away, false);
        shards_run(w, 60000);
        assert_int_equal(r->counts.snapshots_installed, 0);
        assert_int_equal(w->at[leader].counts.snapshots_sent, 1);
        assert_int_equal(w->at[leader].counts.snapshots_restarted, 0);
        r->jobs_held = false;
        shards_run(w, 5000);
        assert_int_equal(r->counts.snapshots_installed, 1);
        assert_int_equal(w->at[leader].counts.snapshots_sent, 1);
        shards_assert_equal(w);
        shards_free(w);
    }
}

/* Runs the jobs of a replica by hand until one has brought a snapshot in; its turn is not yet. */
static void install_by_hand(struct shards *w, struct replica *r)
{
    for (uint32_t i = 0; i < 1000 && !r->shard->log_base_wanted; i++) {
        struct kv_job *job = r->job;
        r->job = NULL;
        if (job == NULL)
            shards_run(w, 10);
        else
            shard_job_done(r->shard, job, kv_memory_run(r->kv, job, 0), w->now);
    }
    assert_true(r->shard->log_base_wanted);
}

/* A snapshot takes the place of another history that reaches beyond it, and the first entry behind
 * it comes in the same turn: the log on disk must say that the other one is over, or a restart
 * takes what follows for a part of it. */
static void what_follows_a_snapshot_at_once_outlives_a_restart(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t first = shards_lead(w);
    struct replica *r = &w->at[first];
    (void)state;

    r->jobs_held = true;
    shards_isolate(w, first, true);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(shards_ask(w, first, "SET lost 1"), SHARD_TAKEN);
    shards_run(w, 3000);
    const uint32_t other = shards_lead(w);
    assert_true(other != first);
    fill(w, other, 20);
    shards_expect(w, other, "SET behind 1", "+OK\r\n");
    assert_true(shards_info(w, first).last.v > shards_info(w, other).last.v);
    shards_isolate(w, first, false);
    install_by_hand(w, r);

    const struct log_index base = store_base(r->shard->store).index;
    struct raft_entry next;
    assert_true(
        raft_entry_at(w->at[other].shard->raft, (struct log_index){base.v + 1}, &next));
    shard_receive(r->shard,
                  &(struct raft_msg){.kind = RAFT_APPEND,
                                     .from = {other},
                                     .to = {first},
                                     .term = shards_info(w, other).term,
                                     .index = base,
                                     .log_term = store_base(r->shard->store).term,
                                     .n_entries = 1,
                                     .entries = &next},
                  w->now);
    shards_pump(w);
    const struct log_index last = shards_info(w, first).last;
    assert_true(last.v > base.v && !shard_syncing(r->shard));
    shards_isolate(w, first, true);
    shards_crash(w, first);
    shards_start(w, first, false);
    assert_int_equal(shards_info(w, first).last.v, last.v);
    r->jobs_held = false;
    shards_isolate(w, first, false);
    shards_run(w, 1000);
    shards_assert_equal(w);
    shards_free(w);
}

static uint32_t half_a_snapshot(struct shards *w, uint32_t from, struct raft_msg *m)
{
    (void)from;
    if (m->kind != RAFT_SNAPSHOT) return 1;
    return w->passed++ < 5 ? 1 : 0;
}

/* R77: the leader is lost in the middle of it, and the next one needs no snapshot to bring us
 * up to date: the half is given up, and what is committed is applied. */
static void R77_half_a_snapshot_of_a_lost_leader_holds_nothing_up(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t first = shards_lead(w), away = shards_follower(w, first, 0);
    const uint32_t third = shards_follower(w, first, 1);
    (void)state;

    w->at[third].jobs_held = true; /* no checkpoint there: its log stays whole */
    leave_behind(w, away);
    fill(w, first, 60);
    w->passes = half_a_snapshot;
    shards_isolate(w, away, false);
    shards_run(w, 300);

    assert_true(w->at[away].shard->install.active);
    shards_crash(w, first);
    assert_int_equal(shards_lead(w), third);
    shards_expect(w, third, "SET after 1", "+OK\r\n");
    shards_run(w, 1000);
    assert_false(w->at[away].shard->install.active);
    assert_string_equal(shards_committed(w, away, "after"), "$1\r\n1\r\n");
    w->at[third].jobs_held = false;
    w->passes = NULL;
    shards_start(w, first, false);
    shards_run(w, 1000);
    shards_assert_equal(w);
    shards_free(w);
}

static uint64_t piece_bytes;

static uint32_t weigh_pieces(struct shards *w, uint32_t from, struct raft_msg *m)
{
    (void)w;
    (void)from;
    if (m->kind == RAFT_SNAPSHOT) piece_bytes += m->data.len;
    return 1;
}

static void a_snapshot_takes_no_more_of_the_link_than_it_may(void **state)
{
    struct shards *w = shards_new(4, 3);
    const uint32_t leader = shards_lead(w);
    (void)state;

    fill(w, leader, 60);
    piece_bytes = 0;
    w->passes = weigh_pieces;
    w->rate.bytes_per_s = 4000;
    shards_config(w, leader, 3, 4);
    shards_run(w, 2000);
    assert_in_range(piece_bytes, 4000, 2 * 4000 + 1000);
    assert_int_equal(w->at[4].counts.snapshots_installed, 0);
    shards_expect(w, leader, "SET a 1", "+OK\r\n"); /* nothing else is held up */
    w->rate.bytes_per_s = 0;                        /* no bound */
    shards_run(w, 2000);
    assert_int_equal(w->at[4].counts.snapshots_installed, 1);
    shards_assert_equal(w);
    shards_free(w);
}

/* ---- membership ---- */

/* R91, R92: a fourth replica, while one of three is down.  As a learner it costs no
 * availability; the snapshot that it gets is from before it was added, and it does not take
 * that for its removal. */
static void R91_R92_a_fourth_is_added_while_one_is_down(void **state)
{
    struct shards *w = shards_new(4, 3);
    const uint32_t leader = shards_lead(w);
    uint32_t down = 0;
    (void)state;

    for (uint32_t id = 1; id <= 3; id++)
        if (id != leader) down = id;
    fill(w, leader, 30);
    assert_true(shards_info(w, leader).base.v > 1);
    shards_crash(w, down);
    shards_config(w, leader, 3, 4);
    w->at[4].disk_held = true; /* it takes its time, and nobody waits for it */
    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    assert_true(shards_info(w, leader).config_committed);
    w->at[4].disk_held = false;
    shards_run(w, 3000);
    assert_int_equal(w->at[4].counts.snapshots_installed, 1);
    struct raft_config then;
    const struct bytes extra = store_base(shard_store(w->at[4].shard)).extra;
    assert_true(raft_config_decode(extra, &then));
    const struct raft_members members = raft_config_members(&then);
    assert_false(
        raft_members_has(&members, (struct server_id){4})); /* from before it was added */
    assert_int_equal(shards_info(w, 4).leader.v, leader);
    assert_string_equal(shards_committed(w, 4, "a"), "$1\r\n1\r\n");
    /* caught up: as a voter it counts, and with it there is a majority of four */
    shards_config(w, leader, 4, 0);
    shards_expect(w, leader, "SET a 2", "+OK\r\n");
    shards_run(w, 500);
    assert_false(shards_info(w, leader).joint);
    assert_true(shards_info(w, 4).config_committed);
    assert_int_equal(shards_info(w, 4).config.n_voters, 4);
    shards_start(w, down, false);
    shards_run(w, 2000);
    shards_assert_equal(w);
    shards_free(w);
}

/* ---- doubt ---- */

static void a_doubtful_replica_is_repaired_by_the_others(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), victim = shards_follower(w, leader, 0);
    (void)state;

    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    shards_crash(w, victim);
    shards_isolate(w, shards_follower(w, leader, 1), true);
    shards_start(w, victim, true);
    shards_run(w, 200);
    assert_true(shards_info(w, victim).doubtful);
    assert_non_null(shard_trouble(w->at[victim].shard));
    /* with the third away it does not count: nothing is committed */
    assert_int_equal(shards_ask(w, leader, "SET a 2"), SHARD_TAKEN);
    shards_run(w, 300);
    assert_int_equal(shards_gate(w, leader), GATE_WAITS);
    shards_isolate(w, shards_follower(w, leader, 1), false);
    shards_run(w, 3000);
    assert_false(shards_info(w, victim).doubtful);
    assert_null(shard_trouble(w->at[victim].shard));
    shards_assert_equal(w);
    shards_free(w);
}

static void alone_and_doubtful_it_serves_nothing_as_a_leader(void **state)
{
    struct shards *w = shards_new(1, 1);
    (void)state;

    shards_lead(w);
    shards_expect(w, 1, "SET a 1", "+OK\r\n");
    shard_want_checkpoint(w->at[1].shard);
    shards_run(w, 100);
    shards_crash(w, 1);
    shards_start(w, 1, true);
    shards_run(w, 5000);
    assert_false(shard_leads(w->at[1].shard));
    assert_int_equal(shards_ask(w, 1, "SET a 2"), SHARD_DAMAGED);
    assert_string_equal(shards_committed(w, 1, "a"), "$1\r\n1\r\n"); /* reads go on */
    shards_free(w);
}

/* R97: the disk of a follower comes back as it was a while ago.  It does not know; its leader
 * does, by what it had acknowledged.  Until it is repaired it counts for nothing. */
static void R97_an_old_copy_of_a_disk_is_found_out_and_repaired(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), victim = shards_follower(w, leader, 0);
    const uint32_t third = shards_follower(w, leader, 1);
    struct replica *r = &w->at[victim];
    (void)state;

    shards_expect(w, leader, "SET a 1", "+OK\r\n");
    shards_run(w, 200);
    struct disk *const copy = disk_copy(r->log->disk);
    shards_expect(w, leader, "SET a 2", "+OK\r\n");
    shards_expect(w, leader, "SET a 3", "+OK\r\n");
    shards_run(w, 200);
    shards_crash(w, victim);
    disk_free(r->log->disk);
    r->log->disk = copy;
    shards_isolate(w, third, true);
    shards_start(w, victim, false);
    assert_false(shards_info(w, victim).doubtful); /* nothing in it is wrong */
    shards_run(w, 150);
    assert_int_equal(w->at[leader].accused.v, victim);
    assert_true(shards_info(w, victim).doubtful);
    assert_int_equal(shards_ask(w, leader, "SET a 4"), SHARD_TAKEN);
    const struct shard_gate gate = w->gate;
    shards_run(w, 300);
    assert_int_equal(shard_gate(w->at[leader].shard, &gate), GATE_WAITS);
    /* what it has been told survives a crash of its own */
    shards_crash(w, victim);
    shards_start(w, victim, false);
    assert_true(shards_info(w, victim).doubtful);
    shards_isolate(w, third, false);
    shards_run(w, 3000);
    assert_false(shards_info(w, victim).doubtful);
    shards_assert_equal(w);
    assert_string_equal(shards_committed(w, victim, "a"), "$1\r\n4\r\n");
    shards_free(w);
}

/* ---- lag ---- */

static void an_age_allows_for_a_clock_that_is_slow(void **state)
{
    struct shards *w = shards_new(3, 3);
    const uint32_t leader = shards_lead(w), follower = shards_follower(w, leader, 0);
    const struct shard *s = w->at[follower].shard;
    (void)state;

    shards_run(w, 500);
    struct instant at = {shards_info(w, follower).fresh_ns};
    assert_true(at.ns > 0);
    at.ns += 950 * MS_NS; /* 50 ms of a second: the drift of these clocks */
    assert_true(shard_is_fresh(s, at, SEC_NS));
    at.ns++;
    assert_false(shard_is_fresh(s, at, SEC_NS));
    shards_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_waits_until_its_write_is_durable),
        cmocka_unit_test(a_disk_that_stands_still_holds_one_answer_for_all_rounds),
        cmocka_unit_test(what_a_slow_disk_has_is_acknowledged_while_more_comes),
        cmocka_unit_test(a_read_waits_for_the_write_that_it_saw),
        cmocka_unit_test(exec_is_one_entry_or_nothing),
        cmocka_unit_test(what_watch_and_a_refused_exec_tell_is_as_of_the_last_entry),
        cmocka_unit_test(R69_what_a_deposed_leader_staged_is_dropped),
        cmocka_unit_test(R113_an_expiry_is_an_entry_and_is_lost_with_its_term),
        cmocka_unit_test(R67_replicas_are_equal_whatever_they_would_have_drawn),
        cmocka_unit_test(R41_a_restart_goes_on_behind_its_checkpoint),
        cmocka_unit_test(writes_are_refused_when_too_much_waits_for_the_disk),
        cmocka_unit_test(a_checkpoint_that_fails_is_made_later),
        cmocka_unit_test(R84_pieces_are_lost_doubled_and_spoiled),
        cmocka_unit_test(R84_pieces_of_another_snapshot_are_not_mixed_in),
        cmocka_unit_test(what_follows_a_snapshot_at_once_outlives_a_restart),
        cmocka_unit_test(a_snapshot_takes_no_more_of_the_link_than_it_may),
        cmocka_unit_test(a_snapshot_is_not_begun_anew_while_its_receiver_answers),
        cmocka_unit_test(R77_half_a_snapshot_of_a_lost_leader_holds_nothing_up),
        cmocka_unit_test(R91_R92_a_fourth_is_added_while_one_is_down),
        cmocka_unit_test(a_doubtful_replica_is_repaired_by_the_others),
        cmocka_unit_test(alone_and_doubtful_it_serves_nothing_as_a_leader),
        cmocka_unit_test(P19_a_follower_a_little_behind_gets_the_log),
        cmocka_unit_test(an_age_allows_for_a_clock_that_is_slow),
        cmocka_unit_test(R97_an_old_copy_of_a_disk_is_found_out_and_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
