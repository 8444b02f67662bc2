/* SPDX-License-Identifier: Apache-2.0 */
/* How a log is copied, step by step.  R numbers: docs/scenarios.md. */
#include "rig.h"

#include <string.h>

/* --- following --- */

static void R31_entries_below_the_base_are_not_taken_again(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 3);
    rig_apply(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {2}});
    assert_int_equal(rig_info(&rig).base.v, 2);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 3);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->index.v, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1, 1), 3);
    assert_int_equal(rig_info(&rig).last.v, 4);
    rig_close(&rig);
}

static void R32_what_is_committed_is_never_truncated(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 2);
    rig_append(&rig, 3, 2, 0, 0, TERMS(1, 2), 0);
    assert_int_equal(rig_info(&rig).refused, 1);
    assert_int_equal(rig_info(&rig).last.v, 3);
    rig_append(&rig, 3, 2, 2, 2, TERMS(2), 0);
    assert_int_equal(rig_info(&rig).refused, 2);
    assert_int_equal(raft_term_at(rig.raft, (struct log_index){2}).v, 1);
    rig_close(&rig);
}

static void R33_only_what_this_leader_matched_is_acknowledged(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1, 1), 0);
    rig_durable(&rig);
    rig_append(&rig, 3, 2, 2, 1, NO_ENTRIES, 9);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 3);
    assert_int_equal(reply->index.v, 2);
    assert_int_equal(rig_info(&rig).commit.v, 2); /* R38: nor is more of it committed */
    rig_close(&rig);
}

/* The mark of a write that was overtaken twice says nothing about what stands there
 * now. */
static void R34_a_late_completion_does_not_speak_for_a_newer_entry(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 0);
    const uint64_t first = rig.out.mark;
    rig_append(&rig, 3, 2, 0, 0, TERMS(2, 2, 2), 0);
    const uint64_t second = rig.out.mark;
    rig_append(&rig, 2, 3, 0, 0, TERMS(3, 3, 3), 0);
    const uint64_t third = rig.out.mark;
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 2);
    assert_int_equal(reply->index.v, 3);
    assert_int_equal(reply->after, third);
    rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = first});
    assert_int_equal(rig_info(&rig).durable.v, 0);
    rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = second});
    assert_int_equal(rig_info(&rig).durable.v, 0);
    rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = third});
    assert_int_equal(rig_info(&rig).durable.v, 3);
    rig_close(&rig);
}

static void an_ack_waits_for_the_disk_and_a_heartbeat_does_not(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_durable(&rig);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 0);
    assert_int_equal(rig_count(&rig, RAFT_APPEND_REPLY), 1);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->after, rig.out.mark);
    rig_append(&rig, 2, 1, 2, 1, NO_ENTRIES, 0); /* a slow disk is no dead follower */
    assert_int_equal(rig_count(&rig, RAFT_APPEND_REPLY), 2);
    assert_int_equal(rig.out.msgs[0].index.v, 0);
    assert_int_equal(rig.out.msgs[0].after, 0);
    assert_int_equal(rig.out.msgs[1].index.v, 2);
    assert_true(rig.out.msgs[1].after > 0);
    rig_close(&rig);

    s.bug_ack_before_durable = true;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_durable(&rig);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 0);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->after, 0);
    rig_close(&rig);
}

static void one_answer_serves_all_appends_of_a_turn(void **state)
{
    struct rig rig;
    const struct raft_entry e[] = {{{1}, {1}, RAFT_COMMAND, BYTES_OF("a"), NULL},
                                   {{2}, {1}, RAFT_COMMAND, BYTES_OF("b"), NULL}};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    for (uint32_t i = 0; i < 2; i++) {
        const struct raft_msg m = {.kind = RAFT_APPEND,
                                   .from = {2},
                                   .to = {1},
                                   .term = {1},
                                   .index = {i},
                                   .log_term = {i},
                                   .n_entries = 1,
                                   .entries = &e[i]};
        const struct raft_event event = {.kind = RAFT_RECV, .now = rig.now, .msg = &m};
        raft_step(rig.raft, &event);
    }
    rig_turn(&rig);
    assert_int_equal(rig_count(&rig, RAFT_APPEND_REPLY), 1);
    assert_int_equal(rig.out.append_from.v, 1);
    assert_int_equal(rig.out.append_upto.v, 2);
    rig_close(&rig);
}

/* What is to be told to one leader is not told to the next, least of all its rounds. */
static void an_answer_does_not_outlive_its_leader(void **state)
{
    struct rig rig;
    const struct raft_msg old = {.kind = RAFT_APPEND,
                                 .from = {2},
                                 .to = {1},
                                 .term = {1},
                                 .index = {9},
                                 .log_term = {1},
                                 .round = 50,
                                 .sent_ns = 9};
    const struct raft_event event = {.kind = RAFT_RECV, .now = {SEC_NS}, .msg = &old};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    raft_step(rig.raft, &event);
    rig_append(&rig, 3, 2, 0, 0, NO_ENTRIES, 0);
    assert_int_equal(rig_count(&rig, RAFT_APPEND_REPLY), 1);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 3)->round, 1);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND_REPLY, 3)->flags, 0);
    rig_close(&rig);
}

static void alone_by_an_uncommitted_change_it_does_not_hurry(void **state)
{
    struct rig rig;
    struct raft_config alone = rig_voters(1);
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append_config(&rig, 2, 1, 0, 0, &alone, 0);
    assert_true(rig.out.wake.ns >= rig.now.ns + SEC_NS);
    rig_tick_after(&rig, 10);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_append(&rig, 2, 1, 1, 1, NO_ENTRIES, 1); /* and so leader 2 has left */
    rig_tick_after(&rig, 10);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    rig_close(&rig);
}

/* --- leading --- */

static void R35_a_commit_does_not_wait_for_the_leaders_own_disk(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_ack(&rig, 2, 2);
    assert_int_equal(rig.out.commit.v, 1);
    rig_ack(&rig, 3, 2);
    assert_int_equal(rig.out.commit.v, 2);
    assert_int_equal(rig_info(&rig).durable.v, 1);
    rig_close(&rig);
}

static void R36_R110_a_leader_whose_disk_is_stuck_steps_down(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    for (uint32_t i = 0; i < 60 && rig_info(&rig).role == RAFT_LEADER; i++) {
        rig_ack(&rig, 2, 2);
        rig_ack(&rig, 3, 2);
        rig_tick_after(&rig, 100 * MS_NS);
    }
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_close(&rig);
}

static void R37_an_idle_follower_is_told_the_commit_soon(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 2);
    assert_in_range(rig.out.wake.ns - rig.now.ns, 1, 10 * MS_NS);
    rig_tick_after(&rig, 10 * MS_NS);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 2)->commit.v, 2);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 2)->index.v, 2);
    rig_close(&rig);
}

static void R39_a_leader_cut_off_takes_no_more_than_its_bound(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    uint32_t taken = 0;
    (void)state;
    s.uncommitted_bytes_max = 1000;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_lead(&rig);
    while (raft_may_propose(rig.raft) == RAFT_PROPOSED) {
        rig_propose(&rig, "some command");
        taken++;
    }
    assert_in_range(taken, 2, 100);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_FULL);
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 1 + taken);
    assert_int_equal(rig_info(&rig).uncommitted_bytes, 0);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    rig_close(&rig);
}

static void R45_a_window_is_freed_by_index(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    (void)state;
    s.inflight_max = 2;
    s.append_entries_max = 1;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_lead(&rig);
    for (uint32_t i = 0; i < 5; i++)
        rig_propose(&rig, "a");
    rig_turn(&rig);
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 4); /* two each */
    assert_int_equal(rig_peer(&rig, 2).next.v, 4);
    rig_ack(&rig, 2, 1); /* stale: frees nothing */
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 0);
    rig_ack(&rig, 2, 3); /* frees both */
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 2);
    assert_int_equal(rig_peer(&rig, 2).next.v, 6);
    rig_close(&rig);
}

static void R46_lost_appends_are_found_by_the_next_heartbeat(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_propose(&rig, "b");
    rig_turn(&rig); /* and nothing of it arrives */
    rig_tick_after(&rig, 100 * MS_NS);
    const struct raft_msg *beat = rig_sent(&rig, RAFT_APPEND, 2);
    assert_int_equal(beat->n_entries, 0);
    assert_int_equal(beat->index.v, 3);
    rig_recv(&rig, rig_refusal(&rig, 2, 3, 1, 1));
    const struct raft_msg *again = rig_sent(&rig, RAFT_APPEND, 2);
    assert_int_equal(again->index.v, 1);
    assert_int_equal(again->n_entries, 2);
    assert_true(rig_peer(&rig, 2).probing);
    rig_ack(&rig, 2, 3);
    assert_false(rig_peer(&rig, 2).probing);
    rig_close(&rig);
}

static void R48_a_probe_is_repeated_at_heartbeats_and_ends_with_an_answer(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 1);
    assert_true(rig_peer(&rig, 2).probing);
    rig_turn(&rig);
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 0); /* one at a time */
    rig_tick_after(&rig, 100 * MS_NS);
    assert_non_null(rig_sent(&rig, RAFT_APPEND, 2));
    rig_ack(&rig, 2, 1);
    assert_false(rig_peer(&rig, 2).probing);
    rig_recv(&rig, rig_refusal(&rig, 2, 1, 0, 0)); /* stale: at or below its match */
    assert_false(rig_peer(&rig, 2).probing);
    rig_close(&rig);
}

/* R47, R70, R80 */
static void R47_a_follower_behind_the_log_is_sent_a_snapshot(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    for (uint32_t i = 0; i < 9; i++)
        rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 10);
    rig_apply(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {10}, .keep = {3}});
    assert_int_equal(rig_info(&rig).base.v, 7);
    assert_int_equal(rig_peer(&rig, 3).next.v, 1);
    assert_int_equal(rig.out.n_snapshots_wanted, 1);
    assert_int_equal(rig.out.snapshots_wanted[0].v, 3);
    rig_turn(&rig);
    assert_int_equal(rig.out.n_snapshots_wanted, 0); /* once */
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_SNAPSHOT_READY, .peer = {3}, .index = {10}, .term = {1}});
    /* what the snapshot needs behind it is kept */
    for (uint32_t i = 0; i < 5; i++)
        rig_propose(&rig, "b");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 15);
    rig_apply(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {15}});
    assert_int_equal(rig_info(&rig).base.v, 10);
    /* it ends badly: asked for again at a heartbeat's distance, not at once */
    rig_step(&rig,
             (struct raft_event){.kind = RAFT_SNAPSHOT_SENT, .peer = {3}, .ok = false});
    assert_int_equal(rig.out.n_snapshots_wanted, 0);
    rig.now.ns += 100 * MS_NS;
    rig_ack(&rig, 2, 15);
    assert_int_equal(rig.out.n_snapshots_wanted, 1);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_SNAPSHOT_READY, .peer = {3}, .index = {15}, .term = {1}});
    rig_step(&rig,
             (struct raft_event){.kind = RAFT_SNAPSHOT_SENT, .peer = {3}, .ok = true});
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 3)->index.v, 15);
    rig_ack(&rig, 3, 15);
    assert_false(rig_peer(&rig, 3).probing);
    assert_false(rig_peer(&rig, 3).snapshotting);
    rig_close(&rig);
}

static void cut_at_ten(struct rig *rig, bool past_followers)
{
    rig_open_voter(rig, 1, 3);
    rig->raft->settings.bug_cut_past_followers = past_followers;
    rig_elect(rig);
    for (uint32_t i = 0; i < 9; i++)
        rig_propose(rig, "a");
    rig_turn(rig);
    rig_durable(rig);
    rig_ack(rig, 2, 10);
    rig_ack(rig, 3, 5);
    rig_apply(rig);
    rig_step(rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {10}});
}

static void the_log_is_not_cut_past_a_follower_that_answers(void **state)
{
    struct rig rig;
    (void)state;
    cut_at_ten(&rig, false);
    assert_int_equal(rig_info(&rig).base.v, 5);
    for (uint32_t i = 0; i < 12; i++) { /* the third says nothing any more */
        rig.now.ns += 100 * MS_NS;
        rig_ack(&rig, 2, 10);
    }
    assert_false(rig_peer(&rig, 3).active);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {10}});
    assert_int_equal(rig_info(&rig).base.v, 10);
    rig_close(&rig);

    cut_at_ten(&rig, true);
    assert_int_equal(rig_info(&rig).base.v, 10);
    rig_close(&rig);
}

/* R71: what matters is that the log connects to it.  R81: and none is begun for one that is not
 * there. */
static void R71_R81_any_snapshot_serves_that_the_log_connects_to(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    for (uint32_t i = 0; i < 9; i++)
        rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 10);
    rig_apply(&rig);
    for (uint32_t i = 0; i < 12; i++) { /* the third says nothing */
        rig.now.ns += 100 * MS_NS;
        rig_ack(&rig, 2, 10);
    }
    assert_false(rig_peer(&rig, 3).active);
    rig_step(&rig, (struct raft_event){.kind = RAFT_COMPACT, .index = {10}, .keep = {3}});
    rig_tick_after(&rig, 100 * MS_NS);
    assert_int_equal(rig.out.n_snapshots_wanted, 0);
    rig_recv(&rig, rig_refusal(&rig, 3, 10, 0, 0)); /* it is back */
    assert_int_equal(rig.out.n_snapshots_wanted, 1);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_SNAPSHOT_READY, .peer = {3}, .index = {8}, .term = {1}});
    rig_step(&rig,
             (struct raft_event){.kind = RAFT_SNAPSHOT_SENT, .peer = {3}, .ok = true});
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 3);
    assert_int_equal(m->index.v, 8);
    assert_int_equal(m->n_entries, 2);
    rig_ack(&rig, 3, 10);
    assert_false(rig_peer(&rig, 3).snapshotting);
    assert_int_equal(rig_peer(&rig, 3).next.v, 11);
    rig_close(&rig);
}

/* R49: one follower never gets done with what it was sent. */
static void R49_a_slow_follower_holds_nobody_up_and_costs_no_memory(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    (void)state;
    s.log_bytes_max = 4000;
    s.append_entries_max = 4;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_lead(&rig);
    for (uint64_t i = 2; i <= 1000; i++) {
        rig_propose(&rig, "some command of a few bytes");
        rig_turn(&rig);
        rig_durable(&rig);
        rig_ack(&rig, 2, i);
        assert_int_equal(rig.out.commit.v, i);
        rig_apply(&rig);
        rig_turn(&rig);
        rig.now.ns += MS_NS;
        rig_ack(&rig, 3, 1); /* it lives, and has nothing more on disk */
        assert_true(rig_info(&rig).log_bytes <= 4000);
        assert_true(rig.raft->peers[1].inflight_count <= s.inflight_max);
    }
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_true(rig_peer(&rig, 3).next.v < 100);
    rig_close(&rig);
}

static void evicted_entries_are_loaded_for_who_needs_them(void **state)
{
    struct rig rig;
    struct raft_settings s = rig_settings();
    struct raft_entry entries[9], e;
    (void)state;
    s.log_bytes_max = 200;
    rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
    rig_lead(&rig);
    for (uint32_t i = 0; i < 9; i++)
        rig_propose(&rig, "aaaa");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 10);
    rig_apply(&rig);
    rig_turn(&rig);
    assert_true(rig_info(&rig).log_bytes <= 200);
    assert_false(raft_entry_at(rig.raft, (struct log_index){2}, &e));
    assert_int_equal(raft_term_at(rig.raft, (struct log_index){2}).v, 1);

    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {3}});
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 3)->n_entries, 0);
    rig_ack(&rig, 3, 1);
    assert_true(rig.out.load_wanted);
    assert_int_equal(rig.out.load.from.v, 2);
    const uint64_t upto = rig.out.load.upto.v;
    assert_true(upto >= 4 && upto < 10);
    rig_turn(&rig);
    assert_false(rig.out.load_wanted); /* one at a time */
    for (uint64_t i = 2; i <= 4; i++)
        entries[i - 2] = (struct raft_entry){
            {i}, {1}, RAFT_COMMAND, BYTES_OF("aaaa"), NULL};
    rig_step(&rig, (struct raft_event){
                       .kind = RAFT_LOADED, .entries = entries, .n_entries = 3});
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 3);
    assert_int_equal(m->index.v, 1);
    assert_int_equal(m->n_entries, 3);
    assert_true(rig.out.load_wanted);
    assert_int_equal(rig.out.load.from.v, 5);
    /* gone from the disk: only a snapshot helps */
    rig_step(&rig, (struct raft_event){.kind = RAFT_LOADED});
    assert_int_equal(rig.out.n_snapshots_wanted, 1);
    rig_close(&rig);
}

/* --- large entries --- */

enum { LARGE = 2 << 20 }; /* more than append_bytes_max of the rig */

static struct log_index propose_large(struct rig *rig)
{
    struct buf bytes = buf_new(&rig->mem);

    memset(buf_extend(&bytes, LARGE), 'l', LARGE);
    struct block *block = block_take(&bytes);
    const struct log_index at = raft_propose(rig->raft, buf_bytes(&block->bytes), block);
    block_unref(block);
    return at;
}

/* The log, a message and who else has it refer to one block. */
static void a_large_entry_is_not_copied(void **state)
{
    struct rig rig;
    (void)state;

    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    const size_t used = rig.mem.used;
    const struct log_index at = propose_large(&rig);
    rig_turn(&rig);
    assert_true(rig.mem.used < used + LARGE + (64 << 10));
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    struct raft_entry e;
    assert_true(raft_entry_at(rig.raft, at, &e));
    assert_ptr_equal(m->entries[0].payload.at, e.payload.at);

    struct buf out = buf_new(&rig.mem);
    size_t gap = 0;
    assert_ptr_equal(raft_msg_encode_around(&out, m, &gap), &m->entries[0]);
    assert_true(out.len < 100);
    struct buf whole = buf_new(&rig.mem);
    buf_put(&whole, out.at, gap);
    buf_put(&whole, e.payload.at, e.payload.len);
    buf_put(&whole, out.at + gap, out.len - gap);
    struct buf plain = buf_new(&rig.mem);
    raft_msg_encode(&plain, m);
    assert_true(bytes_equal(buf_bytes(&whole), buf_bytes(&plain)));
    buf_free(&out);
    buf_free(&whole);
    buf_free(&plain);
    rig_close(&rig);
}

/* It travels in pieces, and what is smaller passes it: heartbeats name what matches, and small
 * entries wait. */
static void heartbeats_pass_a_large_entry(void **state)
{
    struct rig rig;
    (void)state;

    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    const uint64_t match = rig.raft->log.last.v;
    propose_large(&rig);
    rig_propose(&rig, "small");
    rig_turn(&rig);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 2)->n_entries, 1);
    for (uint32_t i = 0; i < 50; i++) {
        rig_tick_after(&rig, 100 * MS_NS);
        const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
        assert_non_null(m);
        assert_int_equal(m->n_entries, 0);
        assert_int_equal(m->index.v, match);
        rig_ack(&rig, 2, match);
        rig_ack(&rig, 3, match);
        rig_step(&rig, (struct raft_event){.kind = RAFT_DURABLE}); /* at work on it */
    }
    assert_int_equal(rig.raft->role, RAFT_LEADER);
    rig_ack(&rig, 2, match + 1);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_int_equal(m->n_entries, 1);
    assert_int_equal(m->index.v, match + 1);
    rig_close(&rig);
}

/* Not for a guess of where the logs meet. */
static void a_probe_brings_no_large_entry(void **state)
{
    struct rig rig;
    (void)state;

    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    const uint64_t match = rig.raft->log.last.v;
    propose_large(&rig);
    rig_turn(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_UNSENT, .peer = {2}});
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->n_entries, 0);
    assert_int_equal(m->index.v, match);
    rig_ack(&rig, 2, match);
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 2)->n_entries, 1);
    rig_close(&rig);
}

/* One that vanished without a trace is sent again, when the slowest link had brought it. */
static void a_large_entry_that_is_lost_is_sent_again(void **state)
{
    struct rig rig;
    uint32_t sent = 0;
    (void)state;

    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    const uint64_t match = rig.raft->log.last.v;
    propose_large(&rig);
    rig_turn(&rig);
    rig_durable(&rig);
    for (uint32_t ms = 0; ms < 6000; ms += 100) {
        rig_tick_after(&rig, 100 * MS_NS);
        const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
        sent += m != NULL && m->n_entries == 1;
        rig_ack(&rig, 2, match);
        m = rig_sent(&rig, RAFT_APPEND, 2);
        sent += m != NULL && m->n_entries == 1;
        rig_ack(&rig, 3, match);
        if (ms < 3000) assert_int_equal(sent, 0);
    }
    assert_int_equal(sent, 1);
    rig_close(&rig);
}

/* Bounded by memory, not by the bound of what is uncommitted: small writes go on. */
static void a_large_entry_does_not_fill_the_bound(void **state)
{
    struct rig rig;
    (void)state;

    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    propose_large(&rig);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    assert_true(raft_uncommitted_bytes(rig.raft) > LARGE);
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, rig.raft->log.last.v);
    assert_int_equal(raft_uncommitted_bytes(rig.raft), 0);
    rig_close(&rig);
}

/* A follower that can't take entries says so: a heartbeat would not show it. */
static void entries_without_room_are_refused(void **state)
{
    struct raft_settings settings = rig_settings();
    struct rig rig;
    (void)state;

    settings.log_bytes_max = 1;
    rig_open(&rig, 1, settings, (struct raft_start){.config = rig_voters(3)});
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 2);
    rig_durable(&rig);
    rig_append(&rig, 2, 1, 2, 1, TERMS(1), 2); /* 1 and 2 are committed, not applied */
    const struct raft_msg *m = NULL;
    for (uint32_t i = 0; i < rig.out.n_msgs; i++)
        if (rig.out.msgs[i].flags & RAFT_REJECT) m = &rig.out.msgs[i];
    assert_non_null(m);
    assert_int_equal(m->index.v, 3);
    assert_int_equal(m->commit.v, 2);
    rig_apply(&rig);
    rig_append(&rig, 2, 1, 2, 1, TERMS(1), 2);
    assert_int_equal(rig.raft->log.last.v, 3);
    rig_close(&rig);
}

static void messages_survive_their_encoding(void **state)
{
    struct mem mem = mem_for_test();
    struct buf bytes = buf_new(&mem);
    struct raft_entry out[4];
    const struct raft_entry in[] = {{{8}, {3}, RAFT_NOOP, {(const uint8_t *)"", 0}, NULL},
                                    {{9}, {5}, RAFT_COMMAND, BYTES_OF("command"), NULL}};
    const struct raft_msg m = {
        .kind = RAFT_APPEND,
        .flags = RAFT_CLEARED | RAFT_LEASE,
        .from = {1},
        .to = {300},
        .term = {term_of_epoch(7).v + 5},
        .index = {7},
        .log_term = {3},
        .commit = {6},
        .round = 1000000,
        .sent_ns = UINT64_MAX,
        .n_entries = 2,
        .entries = in,
    };
    struct raft_msg got, untouched;
    (void)state;
    raft_msg_encode(&bytes, &m);
    assert_true(raft_msg_decode(buf_bytes(&bytes), &got, out, 4));
    assert_int_equal(got.kind, m.kind);
    assert_int_equal(got.to.v, 300);
    assert_int_equal(got.term.v, m.term.v);
    assert_int_equal(got.sent_ns, UINT64_MAX);
    assert_int_equal(got.n_entries, 2);
    assert_int_equal(out[1].term.v, 5);
    assert_int_equal(out[1].index.v, 9);
    assert_true(bytes_equal(out[1].payload, BYTES_OF("command")));
    assert_false(raft_msg_decode(buf_bytes(&bytes), &got, out, 1)); /* more than fit */
    memset(&untouched, 0x5a, sizeof untouched);
    got = untouched;
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(raft_msg_decode((struct bytes){bytes.at, len}, &got, out, 4));
    assert_memory_equal(&got, &untouched, sizeof got);
    buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R31_entries_below_the_base_are_not_taken_again),
        cmocka_unit_test(R32_what_is_committed_is_never_truncated),
        cmocka_unit_test(R33_only_what_this_leader_matched_is_acknowledged),
        cmocka_unit_test(R34_a_late_completion_does_not_speak_for_a_newer_entry),
        cmocka_unit_test(an_ack_waits_for_the_disk_and_a_heartbeat_does_not),
        cmocka_unit_test(one_answer_serves_all_appends_of_a_turn),
        cmocka_unit_test(an_answer_does_not_outlive_its_leader),
        cmocka_unit_test(alone_by_an_uncommitted_change_it_does_not_hurry),
        cmocka_unit_test(R35_a_commit_does_not_wait_for_the_leaders_own_disk),
        cmocka_unit_test(R36_R110_a_leader_whose_disk_is_stuck_steps_down),
        cmocka_unit_test(R37_an_idle_follower_is_told_the_commit_soon),
        cmocka_unit_test(R39_a_leader_cut_off_takes_no_more_than_its_bound),
        cmocka_unit_test(R45_a_window_is_freed_by_index),
        cmocka_unit_test(R46_lost_appends_are_found_by_the_next_heartbeat),
        cmocka_unit_test(R48_a_probe_is_repeated_at_heartbeats_and_ends_with_an_answer),
        cmocka_unit_test(R47_a_follower_behind_the_log_is_sent_a_snapshot),
        cmocka_unit_test(the_log_is_not_cut_past_a_follower_that_answers),
        cmocka_unit_test(R71_R81_any_snapshot_serves_that_the_log_connects_to),
        cmocka_unit_test(R49_a_slow_follower_holds_nobody_up_and_costs_no_memory),
        cmocka_unit_test(evicted_entries_are_loaded_for_who_needs_them),
        cmocka_unit_test(messages_survive_their_encoding),
        cmocka_unit_test(a_large_entry_is_not_copied),
        cmocka_unit_test(heartbeats_pass_a_large_entry),
        cmocka_unit_test(a_probe_brings_no_large_entry),
        cmocka_unit_test(a_large_entry_that_is_lost_is_sent_again),
        cmocka_unit_test(a_large_entry_does_not_fill_the_bound),
        cmocka_unit_test(entries_without_room_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
