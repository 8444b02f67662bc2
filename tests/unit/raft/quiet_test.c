/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that fall silent: src/raft/quiet.c. */
#include "rig.h"

enum { QUIET_MS = 2000 };

static struct raft_settings settings_of(uint32_t self)
{
    struct raft_settings s = rig_settings();

    s.self.v = self;
    s.quiet_after_ns = QUIET_MS * MS_NS;
    return s;
}

static void open(struct rig *rig, uint32_t self, uint32_t voters)
{
    rig_open(rig, self, settings_of(self),
             (struct raft_start){.config = rig_voters(voters)});
    rig_turn(rig);
    for (uint32_t id = 1; id <= voters; id++)
        rig_step(rig, (struct raft_event){.kind = RAFT_PEER_UP, .peer = {id}});
}

/* Time passes at a heartbeat's pace, and those of the mask answer. */
static void idle(struct rig *rig, uint32_t mask, uint64_t ms)
{
    for (uint64_t t = 0; t < ms && !rig->out.quiet; t += 100) {
        rig_tick_after(rig, 100 * MS_NS);
        for (uint32_t id = 1; id <= 5 && !rig->out.quiet; id++)
            if (mask & 1u << id) rig_ack(rig, id, rig->raft->log.last.v);
    }
}

static void lead_silently(struct rig *rig)
{
    open(rig, 1, 3);
    rig_lead(rig);
    idle(rig, 1u << 2 | 1u << 3, 5000);
    assert_true(rig->out.quiet);
}

static void R114_a_group_with_nothing_to_do_falls_silent(void **state)
{
    (void)state;
    struct rig rig;

    open(&rig, 1, 3);
    rig_lead(&rig);
    idle(&rig, 1u << 2 | 1u << 3, QUIET_MS - 200);
    assert_false(rig.out.quiet);
    idle(&rig, 1u << 2 | 1u << 3, 1000);
    assert_true(rig.out.quiet);
    assert_int_equal(rig.out.wake.ns, 0);
    for (uint32_t id = 2; id <= 3; id++) {
        const struct raft_msg *last = rig_sent(&rig, RAFT_APPEND, id);
        assert_non_null(last);
        assert_true(last->flags & RAFT_QUIET);
        assert_int_equal(last->n_entries, 0);
        assert_int_equal(last->index.v, rig.raft->log.last.v);
        assert_int_equal(last->commit.v, rig.raft->log.last.v);
    }
    raft_rest(rig.raft);
    rig_tick_after(&rig, 60 * SEC_NS); /* no heartbeat, no contact to be kept */
    assert_int_equal(rig.out.n_msgs, 0);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    rig_close(&rig);
}

static void it_does_not_while_a_member_lacks_something(void **state)
{
    (void)state;
    struct rig rig;

    open(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "x");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, rig.raft->log.last.v);
    rig_apply(&rig);
    for (uint32_t i = 0; i < 100; i++) { /* 3 answers, but has not the last entry */
        rig_tick_after(&rig, 100 * MS_NS);
        rig_ack(&rig, 2, rig.raft->log.last.v);
        rig_ack(&rig, 3, rig.raft->log.last.v - 1);
        assert_false(rig.out.quiet);
    }
    /* nor while 3 is silent and its server is not known to be away */
    idle(&rig, 1u << 2, 10000);
    assert_false(rig.out.quiet);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {3}});
    idle(&rig, 1u << 2, 10000);
    assert_true(rig.out.quiet);
    assert_null(rig_sent(&rig, RAFT_APPEND, 3));
    /* whose return wakes it */
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_UP, .peer = {3}});
    assert_false(rig.out.quiet);
    assert_non_null(rig_sent(&rig, RAFT_APPEND, 3));
    rig_close(&rig);
}

static void expect_awake(struct rig *rig)
{
    assert_false(rig->out.quiet);
    assert_true(rig->out.wake.ns > 0);
    for (uint32_t id = 2; id <= 3; id++) {
        const struct raft_msg *msg = rig_sent(rig, RAFT_APPEND, id);
        assert_non_null(msg);
        assert_false(msg->flags & RAFT_QUIET);
    }
}

static void a_leader_wakes_its_followers_before_it_serves(void **state)
{
    (void)state;
    for (uint32_t what = 0; what < 6; what++) {
        struct rig rig;
        const struct raft_config four = rig_voters(4);

        lead_silently(&rig);
        rig.now.ns += 60 * SEC_NS;
        switch (what) {
        case 0: assert_int_equal(rig_propose(&rig, "x").v, 2); break;
        case 1: assert_true(raft_read(rig.raft, RAFT_READ_ROUND, rig.now) > 0); break;
        case 2: assert_true(raft_read(rig.raft, RAFT_READ_LEASE, rig.now) > 0); break;
        case 3:
            rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &four});
            break;
        case 4:
            rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {2}});
            break;
        case 5:
            rig_step(&rig, (struct raft_event){.kind = RAFT_SILENT, .peer = {3}});
            break;
        }
        if (what < 3) rig_turn(&rig);
        expect_awake(&rig);
        /* the time out of contact does not end its leadership, what follows does */
        rig_tick_after(&rig, SEC_NS - MS_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
        rig_tick_after(&rig, MS_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        rig_close(&rig);
    }
}

static void a_late_answer_does_not_wake_it_and_all_else_does(void **state)
{
    (void)state;
    struct rig rig;

    lead_silently(&rig);
    rig_ack(&rig, 2, rig.raft->log.last.v);
    assert_true(rig.out.quiet);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE,
                                     .from = {3},
                                     .term = {rig.raft->state.term.v + 1},
                                     .index = rig.raft->log.last,
                                     .log_term = rig.raft->state.term});
    expect_awake(&rig);
    assert_true(rig_sent(&rig, RAFT_PREVOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_close(&rig);

    lead_silently(&rig);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                                     .flags = RAFT_DOUBTFUL,
                                     .from = {3},
                                     .term = rig.raft->state.term,
                                     .round = rig.raft->round});
    expect_awake(&rig);
    rig_close(&rig);

    lead_silently(&rig); /* a deposed one is not silent either */
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND,
                                     .from = {2},
                                     .term = {rig.raft->state.term.v + 1},
                                     .index = rig.raft->log.last,
                                     .log_term = rig.raft->state.term});
    assert_false(rig.out.quiet);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_close(&rig);
}

/* A follower with one entry of term 1, told by leader 2 to keep still. */
static void tell_quiet(struct rig *rig, uint64_t index, uint64_t commit)
{
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND,
                                    .flags = RAFT_QUIET,
                                    .from = {2},
                                    .term = {1},
                                    .index = {index},
                                    .log_term = {index > 0},
                                    .commit = {commit},
                                    .round = 1,
                                    .sent_ns = 1});
}

static void follow_silently(struct rig *rig)
{
    open(rig, 1, 3);
    rig_append(rig, 2, 1, 0, 0, TERMS(1), 1);
    rig_durable(rig);
    rig_apply(rig);
    tell_quiet(rig, 1, 1);
    assert_true(rig->out.quiet);
    assert_int_equal(rig->out.n_msgs, 0);
}

static void a_follower_keeps_still_only_with_just_what_the_leader_has(void **state)
{
    (void)state;
    struct rig rig;

    open(&rig, 1, 3); /* lacks the entry */
    tell_quiet(&rig, 1, 1);
    assert_false(rig.out.quiet);
    assert_non_null(rig_sent(&rig, RAFT_APPEND_REPLY, 2));
    rig_close(&rig);

    open(&rig, 1, 3); /* not on disk */
    rig_append(&rig, 2, 1, 0, 0, TERMS(1), 1);
    tell_quiet(&rig, 1, 1);
    assert_false(rig.out.quiet);
    rig_close(&rig);

    open(&rig, 1, 3); /* has more than that, from who knows whom */
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 1);
    rig_durable(&rig);
    tell_quiet(&rig, 1, 1);
    assert_false(rig.out.quiet);
    rig_close(&rig);

    follow_silently(&rig);
    rig_tick_after(&rig, 3600 * SEC_NS);
    assert_true(rig.out.quiet);
    tell_quiet(&rig, 1, 1); /* the same word again */
    assert_true(rig.out.quiet);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND, /* with an accusation */
                                     .flags = RAFT_QUIET | RAFT_DOUBTFUL,
                                     .from = {2},
                                     .term = {1},
                                     .index = {1},
                                     .log_term = {1},
                                     .commit = {1}});
    assert_false(rig.out.quiet);
    rig_close(&rig);
}

/* R115: what the server no longer vouches for stands for election like any other. */
static void R114_a_silent_follower_elects_within_a_timeout(void **state)
{
    (void)state;
    for (uint32_t what = 0; what < 3; what++) {
        struct rig rig;

        follow_silently(&rig);
        rig.now.ns += 3600 * SEC_NS;
        rig_step(&rig, (struct raft_event){
                           .kind = what == 0   ? RAFT_SILENT
                                   : what == 1 ? RAFT_PEER_LOST
                                               : RAFT_WAKE,
                           .peer = {3}}); /* another's, it does not follow that one */
        assert_true(rig.out.quiet);
        rig_step(&rig, (struct raft_event){.kind = what == 0   ? RAFT_SILENT
                                                   : what == 1 ? RAFT_PEER_LOST
                                                               : RAFT_WAKE,
                                           .peer = {2}});
        assert_false(rig.out.quiet);
        assert_true(rig.out.wake.ns > 0);
        rig_tick_after(&rig, what < 2 ? 300 * MS_NS : 2 * SEC_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
        rig_close(&rig);
    }
}

/* While the leader's server vouches for it, its leadership is heard. */
static void a_silent_follower_refuses_who_would_depose_its_leader(void **state)
{
    (void)state;
    struct rig rig;

    follow_silently(&rig);
    rig.now.ns += 3600 * SEC_NS;
    rig_recv(
        &rig,
        (struct raft_msg){
            .kind = RAFT_VOTE, .from = {3}, .term = {2}, .index = {1}, .log_term = {1}});
    assert_null(rig_sent(&rig, RAFT_VOTE_REPLY, 3));
    assert_int_equal(rig_info(&rig).term.v, 1);
    rig_close(&rig);
}

static void who_stands_first_is_agreed_and_differs_by_group(void **state)
{
    (void)state;
    uint64_t at[4][2];

    for (uint32_t self = 2; self <= 3; self++)
        for (uint32_t spread = 0; spread < 2; spread++) {
            struct rig rig;
            struct raft_settings s = settings_of(self);
            s.spread = spread;
            rig_open(&rig, self, s, (struct raft_start){.config = rig_voters(3)});
            rig_append(&rig, 1, 1, 0, 0, NO_ENTRIES, 0);
            rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {1}});
            at[self][spread] = rig.out.wake.ns - rig.now.ns;
            rig_close(&rig);
        }
    assert_true(at[2][0] <= 50 * MS_NS && at[3][0] >= 100 * MS_NS);
    assert_true(at[3][1] <= 50 * MS_NS && at[2][1] >= 100 * MS_NS);
}

/* Who vouches for the followers while they are silent are their servers. */
static void a_write_after_the_silence_finds_its_followers(void **state)
{
    (void)state;
    struct rig rig;
    struct raft_config config = rig_voters(3);

    config.rules.early = true;
    config.rules.ack = RAFT_ACK_ALL;
    rig_open(&rig, 1, settings_of(1), (struct raft_start){.config = config});
    rig_turn(&rig);
    for (uint32_t id = 2; id <= 3; id++)
        rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_UP, .peer = {id}});
    rig_lead(&rig);
    idle(&rig, 1u << 2 | 1u << 3, 5000);
    assert_true(rig.out.quiet);
    rig_tick_after(&rig, 60 * SEC_NS);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R114_a_group_with_nothing_to_do_falls_silent),
        cmocka_unit_test(it_does_not_while_a_member_lacks_something),
        cmocka_unit_test(a_leader_wakes_its_followers_before_it_serves),
        cmocka_unit_test(a_late_answer_does_not_wake_it_and_all_else_does),
        cmocka_unit_test(a_follower_keeps_still_only_with_just_what_the_leader_has),
        cmocka_unit_test(R114_a_silent_follower_elects_within_a_timeout),
        cmocka_unit_test(a_silent_follower_refuses_who_would_depose_its_leader),
        cmocka_unit_test(who_stands_first_is_agreed_and_differs_by_group),
        cmocka_unit_test(a_write_after_the_silence_finds_its_followers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
