/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, their rounds and leases, step by step.  R numbers: docs/scenarios.md. */
#include "rig.h"

/* R53; the mutant hands out a round that is under way already. */
static void R53_an_answer_to_an_older_round_confirms_nothing(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_stale_read_round = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_lead(&rig);
        rig_tick_after(&rig, 100 * MS_NS);
        const struct raft_msg old = {.kind = RAFT_APPEND_REPLY,
                                     .from = {2},
                                     .term = {1},
                                     .index = {1},
                                     .round = rig.raft->round};
        const uint64_t round = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
        rig_turn(&rig);
        rig_recv(&rig, old); /* sent before the read came */
        assert_int_equal(rig.out.confirmed_round >= round, mutant == 1);
        rig_ack(&rig, 2, 1);
        assert_true(rig.out.confirmed_round >= round);
        rig_close(&rig);
    }
}

static void R51_rounds_of_a_cut_off_leader_are_never_confirmed(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 5);
    rig_lead(&rig);
    const uint64_t round = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    rig_turn(&rig);
    rig_ack(&rig, 2, 1); /* two of five */
    assert_true(rig.out.confirmed_round < round);
    rig_tick_after(&rig, SEC_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_int_equal(rig.out.confirmed_round, 0);
    rig_close(&rig);
}

static void R55_R62_followers_ask_once_a_turn_and_answers_are_for_all(void **state)
{
    struct rig rig;
    uint64_t number = 0;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 1);
    for (uint32_t i = 0; i < 1000; i++) {
        const uint64_t n = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
        assert_true(i == 0 || n == number);
        number = n;
    }
    rig_turn(&rig);
    assert_int_equal(rig_count(&rig, RAFT_READ_INDEX), 1);
    assert_int_equal(rig_sent(&rig, RAFT_READ_INDEX, 2)->round, number);
    const struct raft_msg answer = {.kind = RAFT_READ_INDEX_REPLY,
                                    .from = {2},
                                    .term = {1},
                                    .index = {2},
                                    .round = number};
    rig_recv(&rig, answer);
    assert_int_equal(rig.out.n_reads, 1);
    assert_int_equal(rig.out.reads[0].round, number);
    assert_int_equal(rig.out.reads[0].index.v, 2);
    assert_int_equal(rig.out.commit.v, 2);
    rig_recv(&rig, answer); /* once */
    assert_int_equal(rig.out.n_reads, 0);

    const uint64_t next = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    rig_turn(&rig);
    rig_append(&rig, 3, 2, 0, 0, NO_ENTRIES, 0); /* the leader is another one now */
    assert_int_equal(rig.out.n_reads, 1);
    assert_int_equal(rig.out.reads[0].round, next);
    assert_int_equal(rig.out.reads[0].index.v, 0);
    const uint64_t last = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    rig_turn(&rig);
    rig_tick_after(&rig, 100 * MS_NS);
    assert_int_equal(rig_sent(&rig, RAFT_READ_INDEX, 3)->round, last); /* once more */
    rig_tick_after(&rig, 900 * MS_NS);
    assert_int_equal(rig.out.reads[0].round, last); /* R54: an error, not old data */
    assert_int_equal(rig.out.reads[0].index.v, 0);
    rig_close(&rig);
}

static void R52_R55_a_leader_answers_followers_after_a_round(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    rig_recv(&rig, (struct raft_msg){
                       .kind = RAFT_READ_INDEX, .from = {3}, .term = {1}, .round = 77});
    rig_ack(&rig, 2, 0);
    assert_null(
        rig_sent(&rig, RAFT_READ_INDEX_REPLY, 3)); /* the no-op is not committed */
    rig_ack(&rig, 2, 1);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_READ_INDEX_REPLY, 3);
    assert_int_equal(reply->index.v, 1);
    assert_int_equal(reply->round, 77);
    /* two that wait for different rounds are answered each in its turn */
    for (uint64_t n = 78; n <= 80; n++) {
        rig_recv(&rig,
                 (struct raft_msg){
                     .kind = RAFT_READ_INDEX, .from = {3}, .term = {1}, .round = n});
        assert_null(rig_sent(&rig, RAFT_READ_INDEX_REPLY, 3));
    }
    rig_ack(&rig, 2, 1);
    assert_int_equal(rig_count(&rig, RAFT_READ_INDEX_REPLY), 2);
    assert_int_equal(rig_sent(&rig, RAFT_READ_INDEX_REPLY, 3)->round, 80);
    rig_close(&rig);
}

static void ack_with_lease(struct rig *rig, uint32_t from, uint64_t sent_ns,
                           uint64_t round)
{
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                                    .flags = RAFT_LEASE,
                                    .from = {from},
                                    .term = rig->raft->state.term,
                                    .index = {1},
                                    .round = round,
                                    .sent_ns = sent_ns});
}

/* P25: and ends early by as much as clocks may drift meanwhile. */
static void R57_R58_a_lease_counts_from_when_the_round_was_sent(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig.now.ns += 10 * MS_NS;
    assert_false(raft_lease_valid(rig.raft, rig.now)); /* nobody was asked to promise */
    assert_true(raft_read(rig.raft, RAFT_READ_LEASE, rig.now) > 0);
    rig_turn(&rig);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_true(m->flags & RAFT_LEASE);
    const uint64_t sent = m->sent_ns;
    rig.now.ns += 300 * MS_NS;
    ack_with_lease(&rig, 2, sent, rig.raft->round);
    assert_int_equal(raft_read(rig.raft, RAFT_READ_LEASE, rig.now), 0);
    assert_true(raft_lease_valid(rig.raft, (struct instant){sent + 950 * MS_NS - 1}));
    assert_false(raft_lease_valid(rig.raft, (struct instant){sent + 950 * MS_NS}));
    rig_close(&rig);
}

/* R59; the mutant goes on. */
static void R59_a_transfer_ends_the_lease_first(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_lease_through_transfer = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_lead(&rig);
        raft_read(rig.raft, RAFT_READ_LEASE, rig.now);
        rig_turn(&rig);
        ack_with_lease(&rig, 2, rig.now.ns, rig.raft->round);
        assert_true(raft_lease_valid(rig.raft, rig.now));
        rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {3}});
        assert_non_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 3));
        assert_int_equal(raft_lease_valid(rig.raft, rig.now), mutant == 1);
        /* given up: still none, until the target has answered a round begun since */
        const uint64_t old_round = rig.raft->round;
        rig.now.ns += SEC_NS / 2;
        ack_with_lease(&rig, 2, rig.now.ns, old_round);
        rig_tick_after(&rig, SEC_NS / 2);
        assert_false(rig_info(&rig).transferring);
        ack_with_lease(&rig, 2, rig.now.ns, rig.raft->round);
        ack_with_lease(&rig, 3, rig.now.ns, old_round);
        assert_int_equal(raft_lease_valid(rig.raft, rig.now), mutant == 1);
        ack_with_lease(&rig, 3, rig.now.ns, rig.raft->round);
        assert_true(raft_lease_valid(rig.raft, rig.now));
        rig_close(&rig);
    }
}

static void R59_a_timeout_now_older_than_a_round_seen_is_ignored(void **state)
{
    struct rig rig;
    struct raft_msg now = {
        .kind = RAFT_TIMEOUT_NOW, .from = {2}, .term = {1}, .round = 3};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_recv(&rig, (struct raft_msg){
                       .kind = RAFT_APPEND, .from = {2}, .term = {1}, .round = 4});
    rig_recv(&rig, now);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    now.round = 4;
    rig_recv(&rig, now);
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    assert_true(rig_sent(&rig, RAFT_VOTE, 3)->flags & RAFT_TRANSFER);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R53_an_answer_to_an_older_round_confirms_nothing),
        cmocka_unit_test(R51_rounds_of_a_cut_off_leader_are_never_confirmed),
        cmocka_unit_test(R55_R62_followers_ask_once_a_turn_and_answers_are_for_all),
        cmocka_unit_test(R52_R55_a_leader_answers_followers_after_a_round),
        cmocka_unit_test(R57_R58_a_lease_counts_from_when_the_round_was_sent),
        cmocka_unit_test(R59_a_transfer_ends_the_lease_first),
        cmocka_unit_test(R59_a_timeout_now_older_than_a_round_seen_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
