/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs: a group that is led without the consent of a majority, since the meta shard says so. */
#include "rig.h"

static const struct raft_rules async = {.early = true};

static struct term in_epoch(uint32_t epoch, uint64_t term)
{
    return (struct term){term_of_epoch(epoch).v + term};
}

static void fence(struct rig *rig, uint32_t epoch)
{
    rig_step(rig, (struct raft_event){.kind = RAFT_EPOCH, .term = term_of_epoch(epoch)});
}

static void decree(struct rig *rig, uint32_t epoch, const struct raft_config *config)
{
    rig_step(rig, (struct raft_event){.kind = RAFT_DECREE,
                                      .term = term_of_epoch(epoch),
                                      .config = config});
}

/* P5, P13: the epoch comes from the meta shard, and the older one is over, however far it got. */
static void P5_a_higher_epoch_ends_all_that_was(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    fence(&rig, 2);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_append(&rig, 2, 500, 0, 0, TERMS(500), 0);
    assert_true(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_REJECT);
    assert_int_equal(rig_info(&rig).term.v, term_of_epoch(2).v);
    rig_close(&rig);
}

/* The mutant lets an epoch begin by an election, beside the one that the meta shard names. */
static void nobody_is_elected_in_an_epoch_that_has_not_begun(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_epoch_elects = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_append(&rig, 2, 1, 0, 0, TERMS(1), 1);
        rig_durable(&rig);
        fence(&rig, 1);
        rig_durable(&rig);
        rig_tick_after(&rig, 3 * SEC_NS);
        assert_int_equal(rig_info(&rig).role == RAFT_PRECANDIDATE, mutant == 1);
        rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                         .from = {3},
                                         .term = in_epoch(1, 4),
                                         .index = {9},
                                         .log_term = {1}});
        const struct raft_msg *m = rig_sent(&rig, RAFT_VOTE_REPLY, 3);
        assert_non_null(m);
        assert_int_equal((m->flags & RAFT_REJECT) == 0, mutant == 1);
        rig_close(&rig);
    }
}

static void a_decree_needs_nobody_elses_vote_or_copy(void **state)
{
    struct rig rig;
    struct raft_config config = {.n_voters = 1,
                                 .voters = {{1}},
                                 .n_learners = 1,
                                 .learners = {{2}},
                                 .rules = async};
    (void)state;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = rig_voters(3)});
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 1);
    rig_durable(&rig);
    fence(&rig, 1);
    decree(&rig, 1, &config);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_int_equal(rig_info(&rig).term.v, in_epoch(1, 1).v);
    assert_true(rig.out.write_state); /* and nothing leaves before that is on disk */
    rig_durable(&rig);
    assert_int_equal(rig.out.commit.v, rig.raft->log.last.v);
    assert_int_equal(rig_info(&rig).config.n_voters, 1);
    assert_int_equal(rig_info(&rig).config.n_learners, 1);
    rig_close(&rig);
}

static void P31_a_decree_is_carried_out_once(void **state)
{
    struct rig rig;
    const struct raft_config config = {.n_voters = 1, .voters = {{1}}};
    const struct raft_config without_us = {.n_voters = 1, .voters = {{2}}};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    decree(&rig, 1, &without_us);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    decree(&rig, 1, &config); /* the fence and the decree at once */
    rig_durable(&rig);
    const struct log_index last = rig.raft->log.last;
    const struct term term = rig_info(&rig).term;
    decree(&rig, 1, &config);
    assert_int_equal(rig.raft->log.last.v, last.v);
    assert_int_equal(rig_info(&rig).term.v, term.v);
    fence(&rig, 3);
    decree(&rig, 2, &config); /* of an epoch that is over */
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_close(&rig);
}

/* The leader of the epoch probes with nothing behind the place, since it has the entries there on
 * disk only: below what we committed, and it has committed more. */
static void an_empty_probe_below_commit_takes_nothing_back(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 12);
    rig_durable(&rig);
    rig_apply(&rig);
    fence(&rig, 1);
    rig_durable(&rig);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND,
                                     .from = {2},
                                     .term = in_epoch(1, 1),
                                     .index = {5},
                                     .log_term = {1},
                                     .commit = {300}});
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_non_null(m);
    assert_false(m->flags & RAFT_REJECT);
    assert_int_equal(m->index.v, 5);
    assert_int_equal(rig_info(&rig).commit.v, 12);
    rig_close(&rig);
}

static void append_in(struct rig *rig, struct term term, uint64_t prev,
                      struct term prev_term)
{
    const struct raft_entry entry = {
        {prev + 1}, term, RAFT_COMMAND, BYTES_OF("new"), NULL};

    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND,
                                    .from = {2},
                                    .term = term,
                                    .index = {prev},
                                    .log_term = prev_term,
                                    .n_entries = 1,
                                    .entries = &entry});
}

static void a_follower_vouches_for_nothing_it_has_not_compared(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1), 3);
    rig_durable(&rig);
    rig_apply(&rig);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND, /* a probe that is too high */
                                     .from = {2},
                                     .term = in_epoch(1, 1),
                                     .index = {7},
                                     .log_term = in_epoch(1, 1)});
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_non_null(m);
    assert_true(m->flags & RAFT_REJECT);
    assert_int_equal(rig.raft->verified.v, 0);
    append_in(&rig, in_epoch(1, 1), 3, (struct term){1});
    rig_durable(&rig);
    assert_int_equal(rig.raft->verified.v, 4);
    assert_false(rig_info(&rig).apart);
    rig_close(&rig);
}

/* It had committed with others what the one that was named never had. */
static void who_committed_what_the_epoch_lacks_is_apart(void **state)
{
    (void)state;
    for (int below_base = 0; below_base < 2; below_base++) {
        struct rig rig;
        rig_open_voter(&rig, 1, 3);
        rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1), 3);
        rig_durable(&rig);
        rig_apply(&rig);
        if (below_base)
            rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {3}});
        append_in(&rig, in_epoch(1, 1), 1, (struct term){1});
        assert_true(rig.out.apart);
        assert_true(rig_info(&rig).apart);
        assert_true(rig.out.n_discarded >= (below_base ? 0u : 2u)); /* kept aside */
        assert_null(rig_sent(&rig, RAFT_APPEND_REPLY, 2));
        rig_tick_after(&rig, 5 * SEC_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        rig_close(&rig);
    }
}

/* What lies above the place up to which the logs are one is given up, also what was committed; the
 * new leader's first try says nothing about where that place is. */
static void the_place_where_an_epoch_split_off_is_looked_for(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1, 1, 1), 5);
    rig_durable(&rig);
    rig_apply(&rig);
    append_in(&rig, in_epoch(1, 1), 5, in_epoch(1, 1));
    assert_false(rig.out.apart);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_non_null(m);
    assert_true(m->flags & RAFT_REJECT);
    assert_int_equal(m->commit.v, 4);
    append_in(&rig, in_epoch(1, 1), 2, (struct term){1});
    assert_true(rig.out.apart);
    assert_int_equal(rig.out.n_discarded, 3);
    assert_int_equal(rig.out.discarded[0].index.v, 3);
    assert_int_equal(rig.out.apart_from.v, 0);
    rig_close(&rig);
}

static void what_is_given_up_and_not_in_memory_is_named(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    (void)state;
    s.log_bytes_max = 1;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1, 1, 1), 4);
    rig_durable(&rig);
    rig_apply(&rig);
    rig_tick_after(&rig, 1);
    assert_int_equal(rig.raft->log.mem_first.v, 5);
    append_in(&rig, in_epoch(1, 1), 2, (struct term){1});
    assert_true(rig.out.apart);
    assert_int_equal(rig.out.n_discarded, 1);
    assert_int_equal(rig.out.apart_from.v, 3);
    assert_int_equal(rig.out.apart_upto.v, 4);
    rig_close(&rig);
}

/* It would take the place of what was committed, and nobody could tell any more. */
static void a_snapshot_of_another_epoch_is_not_laid_over_a_log(void **state)
{
    (void)state;
    for (int follows = 0; follows < 2; follows++) {
        struct rig rig;
        rig_open_voter(&rig, 1, 3);
        rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1), 2);
        rig_durable(&rig);
        rig_apply(&rig);
        const struct raft_msg m = {.kind = RAFT_SNAPSHOT,
                                   .from = {2},
                                   .term = in_epoch(1, 1),
                                   .index = {follows ? 3 : 9},
                                   .log_term = {1}};
        rig_recv(&rig, m);
        assert_int_equal(rig.out.apart, !follows);
        assert_int_equal(rig.out.n_discarded, follows ? 0 : 3);
        assert_int_equal(raft_snapshot_welcome(rig.raft, &m), follows);
        rig_close(&rig);
    }
}

/* In whatever mode: a majority that is gone may have acknowledged it. */
static void what_an_epoch_truncates_is_discarded(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1), 1);
    rig_durable(&rig);
    append_in(&rig, in_epoch(1, 1), 1, (struct term){1});
    assert_false(rig.out.apart);
    assert_int_equal(rig.out.n_discarded, 2);
    rig_close(&rig);
}

static void within_an_epoch_such_a_leader_is_not_believed(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 3, 1, 0, 0, TERMS(1, 1, 1), 3);
    rig_durable(&rig);
    const uint64_t before = rig_info(&rig).refused;
    append_in(&rig, (struct term){2}, 1, (struct term){1});
    assert_false(rig.out.apart);
    assert_int_equal(rig_info(&rig).refused, before + 1);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P5_a_higher_epoch_ends_all_that_was),
        cmocka_unit_test(nobody_is_elected_in_an_epoch_that_has_not_begun),
        cmocka_unit_test(a_decree_needs_nobody_elses_vote_or_copy),
        cmocka_unit_test(P31_a_decree_is_carried_out_once),
        cmocka_unit_test(an_empty_probe_below_commit_takes_nothing_back),
        cmocka_unit_test(a_follower_vouches_for_nothing_it_has_not_compared),
        cmocka_unit_test(who_committed_what_the_epoch_lacks_is_apart),
        cmocka_unit_test(the_place_where_an_epoch_split_off_is_looked_for),
        cmocka_unit_test(what_is_given_up_and_not_in_memory_is_named),
        cmocka_unit_test(a_snapshot_of_another_epoch_is_not_laid_over_a_log),
        cmocka_unit_test(what_an_epoch_truncates_is_discarded),
        cmocka_unit_test(within_an_epoch_such_a_leader_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
