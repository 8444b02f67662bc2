/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, restarts and repair, step by step.  R numbers: docs/scenarios.md. */
#include "rig.h"

/* --- snapshots and restarts --- */

static void R72_a_snapshot_of_what_we_have_is_answered_with_our_position(void **state)
{
    struct rig rig;
    struct raft_msg piece = {.kind = RAFT_SNAPSHOT,
                             .from = {2},
                             .to = {1},
                             .term = {1},
                             .index = {2},
                             .log_term = {1}};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 2);
    rig_durable(&rig);
    rig_recv(&rig, piece);
    assert_false(raft_snapshot_welcome(rig.raft, &piece));
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->index.v, 3);
    piece.index.v = 5;
    rig_recv(&rig, piece);
    assert_true(raft_snapshot_welcome(rig.raft, &piece));
    piece.term.v = 0; /* R83: of an older leader */
    assert_false(raft_snapshot_welcome(rig.raft, &piece));
    rig_close(&rig);
}

static void R74_what_was_overwritten_does_not_come_back(void **state)
{
    struct rig rig;
    (void)state;
    rig_open(&rig, 1, rig_settings(),
             (struct raft_start){.state = {.term = {3}},
                                 .base = {3},
                                 .base_term = {2},
                                 .config = rig_voters(3)});
    for (uint64_t i = 1; i <= 6; i++)
        raft_restore(rig.raft,
                     &(struct raft_entry){{i}, {2}, RAFT_COMMAND, BYTES_OF("x"), NULL});
    assert_int_equal(rig_info(&rig).last.v, 6);
    raft_restore(rig.raft,
                 &(struct raft_entry){{2}, {2}, RAFT_COMMAND, BYTES_OF("y"), NULL});
    assert_int_equal(rig_info(&rig).last.v, 3);
    raft_restore(rig.raft,
                 &(struct raft_entry){{4}, {2}, RAFT_COMMAND, BYTES_OF("z"), NULL});
    raft_restore(rig.raft,
                 &(struct raft_entry){{5}, {2}, RAFT_COMMAND, BYTES_OF("z"), NULL});
    raft_restore(rig.raft,
                 &(struct raft_entry){{5}, {3}, RAFT_COMMAND, BYTES_OF("w"), NULL});
    rig_turn(&rig);
    assert_int_equal(rig_info(&rig).last.v, 5);
    assert_int_equal(rig_info(&rig).durable.v, 5);
    assert_int_equal(raft_term_at(rig.raft, (struct log_index){5}).v, 3);
    assert_int_equal(rig.out.mark, 0);
    assert_false(rig_info(&rig).doubtful);
    rig_close(&rig);
}

static void a_log_with_a_hole_is_doubtful(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_restore(&rig, TERMS(1, 1));
    raft_restore(rig.raft,
                 &(struct raft_entry){{5}, {1}, RAFT_COMMAND, BYTES_OF("x"), NULL});
    rig_turn(&rig);
    assert_true(rig_info(&rig).doubtful);
    assert_true(rig.out.write_state);
    assert_true(rig.out.state.doubtful);
    rig_close(&rig);
}

static void what_a_start_finds_later_counts_for_the_promise_too(void **state)
{
    struct rig rig;
    (void)state;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = rig_voters(3)});
    raft_restore_state(rig.raft, &(struct raft_state){.term = {4}, .vote = {2}});
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {5}});
    assert_null(rig_sent(&rig, RAFT_VOTE_REPLY, 3));
    assert_int_equal(rig_info(&rig).term.v, 4);
    raft_restore_base(rig.raft, (struct log_index){7}, (struct term){4}, true);
    assert_true(rig_info(&rig).doubtful); /* the store has less than the log says */
    rig_close(&rig);
}

static void R75_R76_R94_configs_follow_the_log_back_and_forth(void **state)
{
    struct rig rig;
    struct raft_config four = rig_voters(4), five = rig_voters(5), at;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append_config(&rig, 2, 1, 0, 0, &four, 0);
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    rig_append_config(&rig, 2, 1, 1, 1, &five, 1);
    assert_int_equal(rig_info(&rig).config.n_voters, 5);
    assert_false(rig_info(&rig).config_committed);
    rig_append(&rig, 3, 2, 1, 1, TERMS(2), 1); /* truncated: back to the one before */
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    assert_true(rig_info(&rig).config_committed);
    rig_append_config(&rig, 3, 2, 2, 2, &five, 2);
    rig_apply(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {2}});
    assert_true(raft_config_at(rig.raft, (struct log_index){2}, &at));
    assert_int_equal(at.n_voters, 4);
    assert_false(raft_config_at(rig.raft, (struct log_index){1}, &at));
    rig_append(&rig, 2, 3, 2, 2, TERMS(3), 2); /* truncated down to the base's */
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    rig_close(&rig);
}

static void R75_a_snapshot_brings_its_config_and_newer_ones_stay(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        struct raft_config four = rig_voters(4), five = rig_voters(5);
        s.bug_snapshot_drops_config = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
        rig_step(&rig,
                 (struct raft_event){
                     .kind = RAFT_INSTALLED, .index = {5}, .term = {1}, .config = &four});
        assert_int_equal(rig_info(&rig).config.n_voters, mutant == 1 ? 3 : 4);
        rig_append_config(&rig, 2, 1, 5, 1, &five, 5);
        rig_append(&rig, 2, 1, 6, 1, TERMS(1), 5);
        rig_append(&rig, 2, 1, 7, 1, NO_ENTRIES, 5);
        rig_step(&rig,
                 (struct raft_event){
                     .kind = RAFT_INSTALLED, .index = {6}, .term = {1}, .config = &five});
        assert_int_equal(rig_info(&rig).config.n_voters, mutant == 1 ? 3 : 5);
        assert_int_equal(rig_info(&rig).last.v, 7);
        rig_close(&rig);
    }
}

/* R78: while a snapshot comes in, the log is cut and grows, and writes are on their way; then it
 * is in force, then another one.  What is written next follows on without a gap. */
static void R78_a_snapshot_comes_between_appends_and_cuts(void **state)
{
    struct rig rig;
    const struct raft_config config = rig_voters(3);
    struct raft_event installed = {
        .kind = RAFT_INSTALLED, .index = {9}, .term = {2}, .config = &config};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1, 1, 1), 1);
    rig_apply(&rig);
    const uint64_t first = rig.out.mark;
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_SNAPSHOT,
                                     .from = {3},
                                     .term = {2},
                                     .index = {9},
                                     .log_term = {2}});
    rig_append(&rig, 3, 2, 2, 1, TERMS(2, 2), 1); /* cuts 3 to 5 */
    assert_int_equal(rig_info(&rig).last.v, 4);
    assert_int_equal(rig.out.append_from.v, 3);
    const uint64_t second = rig.out.mark;
    rig_step(&rig, installed);
    assert_int_equal(rig_info(&rig).last.v, 9);
    assert_int_equal(rig_info(&rig).base.v, 9);
    assert_int_equal(rig_info(&rig).durable.v, 9);
    rig_append(&rig, 3, 2, 9, 2, TERMS(2, 2, 2), 9);
    assert_int_equal(rig.out.append_from.v, 10);
    assert_int_equal(rig.out.append_upto.v, 12);
    const uint64_t third = rig.out.mark;
    assert_true(first < second && second < third);
    rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = second});
    assert_int_equal(rig_info(&rig).durable.v, 9); /* that was of what is no more */
    installed.index.v = 11;
    rig_step(&rig, installed);
    assert_int_equal(rig_info(&rig).base.v, 11);
    assert_int_equal(rig_info(&rig).last.v, 12); /* it follows from it */
    assert_int_equal(rig_info(&rig).durable.v, 11);
    assert_int_equal(rig.out.append_from.v, 0); /* and is on its way already */
    rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = third});
    assert_int_equal(rig_info(&rig).durable.v, 12);
    rig_append(&rig, 3, 2, 12, 2, TERMS(2), 12);
    assert_int_equal(rig.out.append_from.v, 13);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 3)->index.v, 13);
    rig_close(&rig);
}

static void R77_R78_an_older_snapshot_changes_nothing(void **state)
{
    struct rig rig;
    const struct raft_config config = rig_voters(3);
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 4, 0, 0, TERMS(1, 2, 2), 3);
    rig_apply(&rig);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {2}, .term = {2}, .config = &config});
    assert_int_equal(rig_info(&rig).base.v, 0);
    assert_int_equal(rig_info(&rig).term.v, 4);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {9}, .term = {3}, .config = &config});
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {9}, .term = {3}, .config = &config});
    assert_int_equal(rig_info(&rig).base.v, 9);
    assert_int_equal(rig_info(&rig).last.v, 9);
    assert_int_equal(rig_info(&rig).durable.v, 9);
    rig_durable(&rig); /* late completions of what the snapshot replaced */
    assert_int_equal(rig_info(&rig).durable.v, 9);
    rig_close(&rig);
}

/* --- repair --- */

static void R102_R103_a_doubtful_replica_neither_votes_nor_stands(void **state)
{
    (void)state;
    for (uint32_t voters = 1; voters <= 3; voters += 2) {
        struct rig rig;
        rig_open(&rig, 1, rig_settings(),
                 (struct raft_start){.state = {.term = {2}, .doubtful = true},
                                     .config = rig_voters(voters)});
        rig_tick_after(&rig, 3 * SEC_NS);
        rig_tick_after(&rig, 3 * SEC_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                         .from = {2},
                                         .term = {3},
                                         .index = {9},
                                         .log_term = {2}});
        const struct raft_msg *reply = rig_sent(&rig, RAFT_VOTE_REPLY, 2);
        assert_int_equal(reply->flags, RAFT_REJECT | RAFT_DOUBTFUL);
        rig_close(&rig);
    }
}

static void ack_doubtful(struct rig *rig, uint32_t from, uint64_t match, uint64_t round)
{
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                                    .flags = RAFT_DOUBTFUL,
                                    .from = {from},
                                    .term = rig->raft->state.term,
                                    .index = {match},
                                    .round = round});
}

/* The mutant counts what it says. */
static void R102_a_doubtful_follower_counts_for_nothing_until_it_is_whole(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_doubtful_counts = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_lead(&rig);
        ack_doubtful(&rig, 2, 0, rig.raft->round);
        rig_recv(&rig, (struct raft_msg){
                           .kind = RAFT_SNAPSHOT_REPLY, .from = {2}, .term = {1}});
        assert_true(rig_peer(&rig, 2).doubtful); /* only an answer to an append ends it */
        rig_propose(&rig, "a");
        rig_turn(&rig);
        rig_durable(&rig);
        const uint64_t round = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
        rig_turn(&rig);
        ack_doubtful(&rig, 2, 2, round);
        assert_int_equal(rig.out.commit.v, mutant == 1 ? 2 : 1);
        assert_int_equal(rig.out.confirmed_round >= round, mutant == 1);
        assert_null(
            rig_sent(&rig, RAFT_APPEND, 2)); /* the third has not answered since */
        rig_ack(&rig, 3, 1);
        const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
        assert_non_null(m);
        assert_true(m->flags & RAFT_CLEARED);
        assert_int_equal(rig.out.commit.v, mutant == 1 ? 2 : 1);
        rig_ack(&rig, 2, 2); /* it says so no longer */
        assert_false(rig_peer(&rig, 2).doubtful);
        assert_int_equal(rig.out.commit.v, 2);
        rig_close(&rig);
    }
}

/* It restarts once more, and has lost more, before the first doubt is over. */
static void R102_a_doubt_begins_again_with_the_next_life(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = rig_voters(3)});
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    ack_doubtful(&rig, 2, 0, rig.raft->round);
    rig_turn(&rig);
    ack_doubtful(&rig, 2, 2, rig.raft->round);
    rig_ack(&rig, 3, 1);
    assert_true(rig_sent(&rig, RAFT_APPEND, 2)->flags & RAFT_CLEARED);
    assert_int_equal(rig_peer(&rig, 2).match.v, 2);

    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    rig_turn(&rig);
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_int_equal(rig_peer(&rig, 2).match.v, 0); /* that was the life before */
    ack_doubtful(&rig, 2, 2, rig.raft->round);
    rig_turn(&rig);
    for (uint32_t i = 0; i < rig.out.n_msgs; i++) /* not before a round that is new */
        if (rig.out.msgs[i].to.v == 2) assert_false(rig.out.msgs[i].flags & RAFT_CLEARED);
    rig_ack(&rig, 3, 2);
    assert_true(rig_sent(&rig, RAFT_APPEND, 2)->flags & RAFT_CLEARED);
    rig_close(&rig);
}

static void R102_a_follower_is_cleared_by_an_append_that_matches(void **state)
{
    struct rig rig;
    struct raft_msg clear = {.kind = RAFT_APPEND,
                             .flags = RAFT_CLEARED,
                             .from = {2},
                             .term = {2},
                             .index = {5},
                             .log_term = {2}};
    (void)state;
    rig_open(&rig, 1, rig_settings(),
             (struct raft_start){.state = {.term = {2}, .doubtful = true},
                                 .config = rig_voters(3)});
    rig_restore(&rig, TERMS(1, 2));
    rig_recv(&rig, clear);
    assert_true(rig_info(&rig).doubtful);
    assert_true(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_DOUBTFUL);
    clear.index.v = 2;
    rig_recv(&rig, clear);
    assert_false(rig_info(&rig).doubtful);
    assert_true(rig.out.write_state);
    assert_false(rig.out.state.doubtful);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_false(reply->flags & RAFT_DOUBTFUL);
    assert_int_equal(reply->after, rig.out.mark); /* not before that is durable */
    rig_close(&rig);
}

static struct raft_msg later_refusal(const struct rig *rig, uint32_t from, uint64_t prev,
                                     uint64_t hint)
{
    struct raft_msg m = rig_refusal(rig, from, prev, hint, 1);
    m.sent_ns = rig->now.ns;
    return m;
}

/* R97: it refuses what it had acknowledged in this term.  That can only be true of a disk that
 * is older than the acknowledgement. */
static void R97_who_lacks_what_it_acknowledged_is_doubtful(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_propose(&rig, "b");
    rig_turn(&rig);
    rig_ack(&rig, 2, 3);
    struct raft_msg stale = later_refusal(&rig, 2, 3, 1); /* sent before the ack came */
    rig_recv(&rig, stale);
    assert_false(rig_peer(&rig, 2).doubtful);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    rig_tick_after(&rig, 100 * MS_NS);
    rig_recv(&rig, stale);
    assert_false(rig_peer(&rig, 2).doubtful);
    rig_recv(&rig, later_refusal(&rig, 2, 5, 3)); /* it has all that it said it has */
    assert_false(rig_peer(&rig, 2).doubtful);
    assert_int_equal(rig_info(&rig).accusations, 0);

    rig_recv(&rig, later_refusal(&rig, 2, 3, 1));
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_true(rig_peer(&rig, 2).accused);
    assert_int_equal(rig_peer(&rig, 2).match.v, 0);
    assert_int_equal(rig_info(&rig).accusations, 1);
    assert_int_equal(rig.out.accused.v, 2);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->flags & (RAFT_DOUBTFUL | RAFT_CLEARED), RAFT_DOUBTFUL);
    rig_turn(&rig);
    assert_int_equal(rig.out.accused.v, 0); /* told once */

    /* it does not know yet: what it says counts for nothing, and clears nothing */
    rig.now.ns += MS_NS;
    rig_ack(&rig, 2, 3);
    rig_ack(&rig, 3, 1);
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_null(rig_sent(&rig, RAFT_APPEND, 3)); /* nothing new to say */
    assert_int_equal(rig.out.commit.v, 1);
    rig_durable(&rig);
    assert_int_equal(rig.out.commit.v, 1); /* our own copy and a doubtful one */
    ack_doubtful(&rig, 2, 3, rig.raft->round);
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_false(rig_peer(&rig, 2).accused);
    rig.now.ns += MS_NS;
    rig_ack(&rig, 3, 1); /* the others have answered since, and it has everything */
    rig_turn(&rig);
    assert_true(rig.raft->peers[0].clearing);
    rig_ack(&rig, 2, 3);
    assert_false(rig_peer(&rig, 2).doubtful);
    assert_int_equal(rig.out.commit.v, 3);
    rig_close(&rig);
}

static void R97_who_is_told_of_its_loss_believes_it(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1), 0);
    rig_durable(&rig);
    const struct raft_msg told = {.kind = RAFT_APPEND,
                                  .flags = RAFT_DOUBTFUL,
                                  .from = {2},
                                  .term = {1},
                                  .index = {9},
                                  .log_term = {1}};
    rig_recv(&rig, told);
    assert_true(rig_info(&rig).doubtful);
    assert_true(rig.out.write_state);
    assert_true(rig.out.state.doubtful);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_int_equal(reply->flags & (RAFT_REJECT | RAFT_DOUBTFUL),
                     RAFT_REJECT | RAFT_DOUBTFUL);
    assert_int_equal(reply->after,
                     rig.out.mark); /* a crash must not make it forget that */
    rig_recv(&rig, told);
    assert_false(rig.out.write_state); /* once */
    rig_tick_after(&rig, 5 * SEC_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_recv(
        &rig,
        (struct raft_msg){
            .kind = RAFT_VOTE, .from = {3}, .term = {2}, .index = {9}, .log_term = {1}});
    assert_true(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_close(&rig);
}

/* An answer from before the doubt, which was overtaken by it, does not end it. */
static void an_answer_from_before_the_doubt_does_not_end_it(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    const struct raft_msg old = {.kind = RAFT_APPEND_REPLY,
                                 .from = {2},
                                 .term = {1},
                                 .index = {2},
                                 .round = rig.raft->round,
                                 .sent_ns = rig.now.ns};
    rig.now.ns += MS_NS;
    ack_doubtful(&rig, 2, 0, rig.raft->round); /* it has restarted without entry 2 */
    rig_recv(&rig, old);
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_int_equal(rig.out.commit.v, 1);
    rig_ack(&rig, 3, 1);
    rig_recv(&rig, old); /* even while it is being cleared */
    assert_true(rig_peer(&rig, 2).doubtful);
    assert_int_equal(rig.out.commit.v, 1);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R72_a_snapshot_of_what_we_have_is_answered_with_our_position),
        cmocka_unit_test(R74_what_was_overwritten_does_not_come_back),
        cmocka_unit_test(a_log_with_a_hole_is_doubtful),
        cmocka_unit_test(what_a_start_finds_later_counts_for_the_promise_too),
        cmocka_unit_test(R75_R76_R94_configs_follow_the_log_back_and_forth),
        cmocka_unit_test(R75_a_snapshot_brings_its_config_and_newer_ones_stay),
        cmocka_unit_test(R78_a_snapshot_comes_between_appends_and_cuts),
        cmocka_unit_test(R77_R78_an_older_snapshot_changes_nothing),
        cmocka_unit_test(R102_R103_a_doubtful_replica_neither_votes_nor_stands),
        cmocka_unit_test(R102_a_doubtful_follower_counts_for_nothing_until_it_is_whole),
        cmocka_unit_test(R102_a_doubt_begins_again_with_the_next_life),
        cmocka_unit_test(R102_a_follower_is_cleared_by_an_append_that_matches),
        cmocka_unit_test(R97_who_lacks_what_it_acknowledged_is_doubtful),
        cmocka_unit_test(R97_who_is_told_of_its_loss_believes_it),
        cmocka_unit_test(an_answer_from_before_the_doubt_does_not_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
