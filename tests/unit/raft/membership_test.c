/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the membership, step by step.  R numbers: docs/scenarios.md. */
#include "rig.h"

static void change(struct rig *rig, struct raft_config config)
{
    rig_step(rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &config});
}

static void R85_no_change_before_an_entry_of_the_own_term_is_committed(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    change(&rig, rig_voters(4));
    assert_int_equal(rig_info(&rig).last.v, 1);
    rig_ack(&rig, 2, 1);
    change(&rig, rig_voters(4));
    assert_int_equal(rig_info(&rig).last.v, 2);
    rig_close(&rig);
}

static void R86_one_change_at_a_time(void **state)
{
    struct rig rig;
    struct raft_config with_learner = rig_voters(3), bad = rig_voters(3);
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    with_learner.learners[with_learner.n_learners++].v = 4;
    change(&rig, with_learner); /* learners need no joint phase */
    assert_false(rig_info(&rig).joint);
    assert_int_equal(rig_info(&rig).config_index.v, 2);
    change(&rig, rig_voters(3));
    assert_int_equal(rig_info(&rig).last.v, 2);
    rig_durable(&rig);
    rig_ack(&rig, 2, 2);
    change(&rig, with_learner); /* nothing to change */
    bad.learners[bad.n_learners++].v = 2;
    change(&rig, bad); /* a voter is no learner */
    change(&rig, (struct raft_config){0});
    assert_int_equal(rig_info(&rig).last.v, 2);
    change(&rig, rig_voters(3));
    assert_int_equal(rig_info(&rig).last.v, 3);
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 2);
    rig_close(&rig);
}

static void R87_a_new_leader_finishes_the_joint_phase(void **state)
{
    struct rig rig;
    struct raft_config joint = rig_voters(4);
    (void)state;
    for (uint8_t i = 0; i < 3; i++)
        joint.old[joint.n_old++] = joint.voters[i];
    rig_open_voter(&rig, 1, 3);
    rig_append_config(&rig, 2, 1, 0, 0, &joint, 0);
    rig_durable(&rig);
    rig_elect(&rig);
    assert_true(rig_info(&rig).joint);
    rig_ack(&rig, 2, 2);
    assert_true(rig_info(&rig).joint); /* two of four */
    rig_ack(&rig, 4, 2);
    assert_int_equal(rig.out.commit.v, 2);
    assert_false(rig_info(&rig).joint);
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    assert_int_equal(rig_info(&rig).config_index.v, 3);
    rig_close(&rig);
}

static void R96_a_smaller_quorum_commits_what_was_waiting(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    change(&rig, rig_voters(1));
    rig_durable(&rig);
    rig_ack(&rig, 2, 2); /* the joint one: both majorities */
    assert_false(rig_info(&rig).joint);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    assert_int_equal(rig.out.commit.v, 4);
    rig_close(&rig);
}

static void unsound_configs_are_refused(void **state)
{
    struct mem mem = mem_for_test();
    const struct raft_config bad[] = {
        {.voters = {{1}, {1}}, .n_voters = 2},
        {.voters = {{0}}, .n_voters = 1},
        {.voters = {{1}}, .n_voters = 1, .learners = {{1}}, .n_learners = 1},
        {.old = {{1}}, .n_old = 1},
    };
    struct raft_config out, many = {0};
    struct raft_state s;
    (void)state;
    for (uint32_t i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
        struct buf bytes = buf_new(&mem);
        many.n_learners = 0;
        for (uint16_t v = 0; v < RAFT_PEERS_MAX - 8; v++)
            many.learners[many.n_learners++].v = 101 + v;
        for (uint16_t v = 0; v < 9; v++) {
            many.voters[v].v = 1 + v;
            many.old[v].v = 11 + v;
        }
        many.n_voters = many.n_old = 9;
        raft_config_encode(&bytes, i < sizeof bad / sizeof bad[0] ? &bad[i] : &many);
        assert_false(raft_config_decode(buf_bytes(&bytes), &out));
        buf_free(&bytes);
    }
    assert_false(raft_state_decode(BYTES_OF("\x01\x02\x02\0\0\0\0\0\0\0\0"), &s));
    assert_false(raft_state_decode(BYTES_OF("\x01\x02\x04\0\0\0\0\0\0\0\0"), &s));
    assert_true(raft_state_decode(BYTES_OF("\x01\x02\x01\0\0\0\0\0\0\0\0"), &s));
    assert_true(s.doubtful && s.term.v == 1 && s.vote.v == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R85_no_change_before_an_entry_of_the_own_term_is_committed),
        cmocka_unit_test(R86_one_change_at_a_time),
        cmocka_unit_test(R87_a_new_leader_finishes_the_joint_phase),
        cmocka_unit_test(R96_a_smaller_quorum_commits_what_was_waiting),
        cmocka_unit_test(unsound_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
