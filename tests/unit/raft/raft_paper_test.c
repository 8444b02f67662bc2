/* SPDX-License-Identifier: Apache-2.0 */
/* What the paper says, in its order: [RAFT] Ongaro, Ousterhout, "In Search of an
 * Understandable Consensus Algorithm (Extended Version)", 2014; then the parts of
 * [THESIS] that the core rests on. */
#include "rig.h"

#include <string.h>

/* 5.1 "If a server receives a request with a stale term number, it rejects the
 * request." (R9: and the answer names the newer term.) */
static void s5_1_a_stale_request_is_refused_with_the_newer_term(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 5, 0, 0, NO_ENTRIES, 0);
    rig_append(&rig, 3, 4, 0, 0, TERMS(4), 0);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 3);
    assert_non_null(reply);
    assert_true(reply->flags & RAFT_REJECT);
    assert_int_equal(reply->term.v, 5);
    assert_int_equal(rig_info(&rig).last.v, 0);
    rig_close(&rig);
}

/* 5.1 "If a candidate or leader discovers that its term is out of date, it immediately
 * reverts to follower state." (R8) */
static void s5_1_a_higher_term_in_an_answer_ends_leadership(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                                     .flags = RAFT_REJECT,
                                     .from = {2},
                                     .term = {9}});
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_int_equal(rig_info(&rig).term.v, 9);
    assert_true(rig.out.write_state);
    rig_close(&rig);
}

/* 5.2 "If a follower receives no communication over a period of time called the election
 * timeout, then it assumes there is no viable leader and begins an election." */
static void s5_2_a_follower_that_hears_nothing_stands(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    const uint64_t wait = rig.out.wake.ns - rig.now.ns;
    assert_in_range(wait, SEC_NS, 2 * SEC_NS);
    rig_tick_after(&rig, wait - 1);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_tick_after(&rig, 1);
    assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
    assert_int_equal(rig_count(&rig, RAFT_PREVOTE), 2);
    rig_close(&rig);
}

/* 5.2 "Each server will vote for at most one candidate in a given term, on a
 * first-come-first-served basis." (R2: the same one may ask again.) */
static void s5_2_one_vote_a_term(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {1}});
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->flags & RAFT_REJECT);
    assert_int_equal(rig.out.state.vote.v, 2);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {1}});
    assert_true(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {1}});
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->flags & RAFT_REJECT);
    rig_close(&rig);
}

/* 5.2 "A candidate wins an election if it receives votes from a majority of the servers
 * in the full cluster for the same term." */
static void s5_2_a_majority_elects(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 5);
    rig_tick_after(&rig, 3 * SEC_NS);
    rig_recv(&rig,
             (struct raft_msg){.kind = RAFT_PREVOTE_REPLY, .from = {2}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
    rig_recv(&rig,
             (struct raft_msg){.kind = RAFT_PREVOTE_REPLY, .from = {3}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {2}, .term = {1}});
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {2}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {4}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    rig_close(&rig);
}

/* 5.2 "If the leader's term (included in its RPC) is at least as large as the candidate's
 * current term, then the candidate recognizes the leader as legitimate." (R7) */
static void s5_2_a_candidate_gives_way_to_the_leader_of_its_term(void **state)
{
    for (uint64_t term = 1; term <= 2; term++) {
        struct rig rig;
        (void)state;
        rig_open_voter(&rig, 1, 5);
        rig_tick_after(&rig, 3 * SEC_NS);
        for (uint32_t id = 2; id <= 3; id++)
            rig_recv(&rig, (struct raft_msg){
                               .kind = RAFT_PREVOTE_REPLY, .from = {id}, .term = {1}});
        assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
        rig_append(&rig, 3, term, 0, 0, NO_ENTRIES, 0);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        assert_int_equal(rig_info(&rig).leader.v, 3);
        assert_int_equal(rig_info(&rig).term.v, term);
        rig_close(&rig);
    }
}

/* 5.2 "Raft uses randomized election timeouts to ensure that split votes are rare."
 * (R6) */
static void s5_2_timeouts_differ_from_round_to_round(void **state)
{
    struct rig rig;
    uint64_t before = 0, different = 0;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    for (uint32_t i = 0; i < 20; i++) {
        const uint64_t wait = rig.out.wake.ns - rig.now.ns;
        assert_in_range(wait, SEC_NS, 2 * SEC_NS);
        different += wait != before;
        before = wait;
        rig_tick_after(&rig, wait);
    }
    assert_in_range(different, 19, 20);
    rig_close(&rig);
}

/* 5.3 "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs
 * in parallel to each of the other servers."  With its own write under way (10.2.1 of
 * [THESIS]). */
static void s5_3_entries_go_out_with_what_precedes_them(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    assert_int_equal(rig_propose(&rig, "a").v, 2);
    rig_turn(&rig);
    for (uint32_t id = 2; id <= 3; id++) {
        const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, id);
        assert_int_equal(m->index.v, 1);
        assert_int_equal(m->log_term.v, 1);
        assert_int_equal(m->n_entries, 1);
        assert_int_equal(m->commit.v, 1);
        assert_int_equal(m->after, 0);
    }
    assert_int_equal(rig.out.append_from.v, 2);
    assert_int_equal(rig.out.append_upto.v, 2);
    rig_close(&rig);
}

/* 5.3 "A log entry is committed once the leader that created the entry has replicated it
 * on a majority of the servers." */
static void s5_3_a_majority_commits(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 5);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, 2);
    assert_int_equal(rig.out.commit.v, 1);
    rig_ack(&rig, 4, 2);
    assert_int_equal(rig.out.commit.v, 2);
    rig_close(&rig);
}

/* 5.3 "If the follower does not find an entry in its log with the same index and term,
 * then it refuses the new entries." */
static void s5_3_the_log_matches_before_it_grows(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 2, 0, 0, TERMS(1, 1, 2), 0);
    rig_append(&rig, 2, 2, 4, 2, TERMS(2), 0);
    assert_true(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_REJECT);
    rig_append(&rig, 2, 2, 3, 1, TERMS(2), 0);
    assert_true(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_REJECT);
    rig_append(&rig, 2, 2, 3, 2, TERMS(2), 0);
    assert_false(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_REJECT);
    assert_int_equal(rig_info(&rig).last.v, 4);
    rig_close(&rig);
}

static const struct {
    const char *name;
    uint64_t terms[12];
    uint32_t n;
} figure_7[] = {
    {"a", {1, 1, 1, 4, 4, 5, 5, 6, 6}, 9},
    {"b", {1, 1, 1, 4}, 4},
    {"c", {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6}, 11},
    {"d", {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, 12},
    {"e", {1, 1, 1, 4, 4, 4, 4}, 7},
    {"f", {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}, 11},
};

/* Carries messages between two rigs until neither has any more to say; how many
 * appends. */
static uint32_t converse(struct rig *leader, struct rig *follower, uint32_t follower_id)
{
    uint32_t appends = 0;

    for (;;) {
        const struct raft_msg *m = rig_sent(leader, RAFT_APPEND, follower_id);
        if (m == NULL) return appends;
        appends++;
        rig_recv(follower, *m);
        const struct raft_msg *reply = rig_sent(follower, RAFT_APPEND_REPLY, 1);
        const struct raft_msg answer = reply != NULL ? *reply : (struct raft_msg){0};
        rig_durable(follower);
        rig_turn(leader);
        if (answer.kind == 0) return appends;
        rig_recv(leader, answer);
    }
}

/* 5.3, Figure 7: "When the leader at the top comes to power, it is possible that any of
 * scenarios (a-f) could occur in follower logs." (R29: whole terms are skipped.) */
static void s5_3_figure_7_every_log_is_brought_into_line(void **state)
{
    static const uint64_t top[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};

    (void)state;
    for (uint32_t f = 0; f < sizeof figure_7 / sizeof figure_7[0]; f++) {
        struct rig leader, follower;
        const struct raft_start begin = {.state = {.term = {7}}, .config = rig_voters(2)};
        rig_open(&leader, 1, rig_settings(), begin);
        rig_restore(&leader, top, 10);
        rig_open(&follower, 2, rig_settings(), begin);
        rig_restore(&follower, figure_7[f].terms, figure_7[f].n);

        rig_elect(&leader);
        leader.now.ns += 100 * MS_NS;
        rig_turn(&leader);
        const uint32_t appends = converse(&leader, &follower, 2);
        assert_in_range(appends, 1, 5);
        assert_int_equal(rig_info(&follower).last.v, 11);
        for (uint64_t i = 1; i <= 11; i++)
            assert_int_equal(raft_term_at(follower.raft, (struct log_index){i}).v,
                             raft_term_at(leader.raft, (struct log_index){i}).v);
        assert_int_equal(rig_info(&leader).commit.v, 11);
        rig_close(&leader);
        rig_close(&follower);
    }
}

/* 5.4.1 "If the logs have last entries with different terms, then the log with the later
 * term is more up-to-date.  If the logs end with the same term, then whichever log is
 * longer is more up-to-date." (R10) */
static void s5_4_1_only_a_log_as_new_as_ours_gets_our_vote(void **state)
{
    static const struct {
        uint64_t term, last;
        bool granted;
    } asks[] = {{3, 1, true}, {2, 3, true}, {2, 2, true}, {2, 1, false}, {1, 9, false}};

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        struct rig rig;
        rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = rig_voters(3)});
        rig_restore(&rig, TERMS(1, 2));
        rig.now.ns += SEC_NS; /* the silence after a restart is over */
        rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                         .from = {2},
                                         .term = {5},
                                         .index = {asks[i].last},
                                         .log_term = {asks[i].term}});
        const struct raft_msg *reply = rig_sent(&rig, RAFT_VOTE_REPLY, 2);
        assert_int_equal((reply->flags & RAFT_REJECT) == 0, asks[i].granted);
        assert_int_equal(reply->term.v, 5);
        rig_close(&rig);
    }
}

/* 5.4.2, Figure 8: "Raft never commits log entries from previous terms by counting
 * replicas." (R27; the mutant shows what is looked for.) */
static void s5_4_2_old_entries_are_not_committed_by_counting(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_commit_old_term = mutant == 1;
        rig_open(&rig, 1, s,
                 (struct raft_start){.state = {.term = {3}}, .config = rig_voters(5)});
        rig_restore(&rig, TERMS(1, 2));
        rig_elect(&rig);
        rig_ack(&rig, 2, 2);
        rig_ack(&rig, 3, 2);
        assert_int_equal(rig.out.commit.v, mutant == 1 ? 2 : 0);
        rig_ack(&rig, 2, 3);
        rig_ack(&rig, 3, 3);
        assert_int_equal(rig.out.commit.v, 3);
        rig_close(&rig);
    }
}

/* 5.5 "Raft RPCs are idempotent." (R30) */
static void s5_5_a_message_may_come_twice(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 2);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 2);
    assert_int_equal(rig.out.append_from.v, 0);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1), 1); /* an older, shorter one */
    assert_int_equal(rig_info(&rig).last.v, 3);
    assert_int_equal(rig_info(&rig).commit.v, 2);
    rig_close(&rig);
}

/* 6 "Once a given server adds the new configuration entry to its log, it uses that
 * configuration for all future decisions", and a joint one needs both majorities. (R88;
 * the mutant asks the new one only.) */
static void s6_a_joint_config_needs_both_majorities(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        struct raft_config next = rig_voters(1);
        s.bug_joint_one_majority = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_turn(&rig);
        rig_lead(&rig);
        next.voters[next.n_voters++].v = 4;
        next.voters[next.n_voters++].v = 5;
        rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
        assert_true(rig_info(&rig).joint);
        rig_durable(&rig);
        rig_ack(&rig, 4, 2);
        rig_ack(&rig, 5, 2);
        assert_int_equal(rig.out.commit.v, mutant == 1 ? 2 : 1);
        rig_ack(&rig, 3, 2);
        assert_int_equal(rig.out.commit.v, 2);
        assert_false(rig_info(&rig).joint); /* left at once, though not yet for good */
        rig_close(&rig);
    }
}

/* 6 "When a leader is not part of the new configuration, it steps down once it has
 * committed the C_new log entry", and does not count itself meanwhile. (R89, R90) */
static void s6_a_leader_that_is_removed_leads_until_that_is_committed(void **state)
{
    struct rig rig;
    struct raft_config next = {.voters = {{2}}, .n_voters = 1};
    (void)state;
    rig_open_voter(&rig, 1, 2);
    rig_lead(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
    rig_durable(&rig);
    rig_ack(&rig, 2, 2);
    assert_int_equal(rig.out.commit.v, 2);
    rig_durable(&rig);
    assert_int_equal(rig.out.commit.v,
                     2); /* our own copy of the final one does not count */
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    rig_ack(&rig, 2, 3);
    assert_int_equal(rig.out.commit.v, 3);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_non_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 2));
    rig_close(&rig);
}

/* 6 "If a server receives a RequestVote RPC within the minimum election timeout of
 * hearing from a current leader, it does not update its term or grant its vote." (R8,
 * R93) */
static void s6_a_vote_is_refused_while_the_leader_is_heard(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig.now.ns += SEC_NS - 1;
    const struct raft_msg ask = {.kind = RAFT_VOTE, .from = {3}, .term = {7}};
    rig_recv(&rig, ask);
    assert_null(rig_sent(&rig, RAFT_VOTE_REPLY, 3));
    assert_int_equal(rig_info(&rig).term.v, 1);
    rig.now.ns += 1;
    rig_recv(&rig, ask);
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    assert_int_equal(rig_info(&rig).term.v, 7);
    rig_close(&rig);
}

/* 7 "If instead the follower receives a snapshot that describes a prefix of its log, then
 * log entries covered by the snapshot are deleted but entries following the snapshot are
 * still valid and must be retained." */
static void s7_a_snapshot_of_a_prefix_keeps_what_follows(void **state)
{
    struct rig rig;
    const struct raft_config config = rig_voters(3);
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1, 1), 0);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {2}, .term = {1}, .config = &config});
    assert_int_equal(rig_info(&rig).base.v, 2);
    assert_int_equal(rig_info(&rig).last.v, 4);
    assert_int_equal(rig_info(&rig).commit.v, 2);
    rig_close(&rig);
}

/* 7 "... the follower discards its entire log; it is all superseded by the snapshot"
 * (R73) */
static void s7_a_snapshot_of_another_history_ends_the_log(void **state)
{
    struct rig rig;
    const struct raft_config config = rig_voters(3);
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1, 1), 0);
    rig_append(&rig, 3, 2, 0, 0, NO_ENTRIES, 0);
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {2}, .term = {2}, .config = &config});
    assert_int_equal(rig_info(&rig).base.v, 2);
    assert_int_equal(rig_info(&rig).last.v, 2);
    const struct raft_msg *reply = rig_sent(&rig, RAFT_APPEND_REPLY, 3);
    assert_int_equal(reply->index.v, 2);
    rig_close(&rig);
}

/* 8 "Raft handles this by having each leader commit a blank no-op entry into the log at
 * the start of its term." (R28) */
static void s8_a_leader_begins_with_a_noop(void **state)
{
    struct rig rig;
    struct raft_entry e;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    assert_true(raft_entry_at(rig.raft, (struct log_index){1}, &e));
    assert_int_equal(e.kind, RAFT_NOOP);
    assert_int_equal(e.term.v, 1);
    rig_close(&rig);
}

/* [THESIS 3.10] transfer: catch up, commit, TIMEOUT_NOW, nothing is proposed meanwhile; given up
 * after an election timeout. (R98, P15) */
static void t3_10_leadership_is_handed_to_one_that_has_everything(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {3}});
    assert_int_equal(raft_may_propose(rig.raft), RAFT_TRANSFERRING);
    assert_int_equal(raft_propose(rig.raft, BYTES_OF("b"), NULL).v, 0);
    assert_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 0));
    rig_ack(&rig, 3, 2);
    assert_null(
        rig_sent(&rig, RAFT_TIMEOUT_NOW, 0)); /* not committed: somebody waits for it */
    rig_durable(&rig);
    assert_non_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 3));
    rig.now.ns += SEC_NS / 2;
    rig_ack(&rig, 2, 2);
    rig_ack(&rig, 3, 2);
    rig_tick_after(&rig, SEC_NS / 2);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    rig_close(&rig);
}

/* [THESIS 6.4] a read waits for a round that began after it, and for the no-op. (R52) */
static void t6_4_a_read_waits_for_a_round_of_its_own(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_elect(&rig);
    const uint64_t early = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    rig_turn(&rig);
    rig_ack(&rig, 2, 0);
    assert_true(rig.out.confirmed_round < early); /* the no-op is not committed */
    rig_ack(&rig, 2, 1);
    assert_true(rig.out.confirmed_round >= early);
    const uint64_t late = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    assert_true(late > rig.out.confirmed_round);
    rig_turn(&rig);
    assert_int_equal(rig_count(&rig, RAFT_APPEND), 2); /* nothing else to send */
    assert_int_equal(rig_sent(&rig, RAFT_APPEND, 2)->round, late);
    rig_ack(&rig, 3, 0);
    assert_int_equal(rig.out.confirmed_round, late);
    rig_close(&rig);
}

/* [THESIS 9.6] a server that can't win does not raise its term. (R11) */
static void t9_6_a_pre_vote_raises_no_term(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    for (uint32_t i = 0; i < 10; i++)
        rig_tick_after(&rig, 3 * SEC_NS);
    assert_int_equal(rig_info(&rig).term.v, 0);
    assert_false(rig.out.write_state);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s5_1_a_stale_request_is_refused_with_the_newer_term),
        cmocka_unit_test(s5_1_a_higher_term_in_an_answer_ends_leadership),
        cmocka_unit_test(s5_2_a_follower_that_hears_nothing_stands),
        cmocka_unit_test(s5_2_one_vote_a_term),
        cmocka_unit_test(s5_2_a_majority_elects),
        cmocka_unit_test(s5_2_a_candidate_gives_way_to_the_leader_of_its_term),
        cmocka_unit_test(s5_2_timeouts_differ_from_round_to_round),
        cmocka_unit_test(s5_3_entries_go_out_with_what_precedes_them),
        cmocka_unit_test(s5_3_a_majority_commits),
        cmocka_unit_test(s5_3_the_log_matches_before_it_grows),
        cmocka_unit_test(s5_3_figure_7_every_log_is_brought_into_line),
        cmocka_unit_test(s5_4_1_only_a_log_as_new_as_ours_gets_our_vote),
        cmocka_unit_test(s5_4_2_old_entries_are_not_committed_by_counting),
        cmocka_unit_test(s5_5_a_message_may_come_twice),
        cmocka_unit_test(s6_a_joint_config_needs_both_majorities),
        cmocka_unit_test(s6_a_leader_that_is_removed_leads_until_that_is_committed),
        cmocka_unit_test(s6_a_vote_is_refused_while_the_leader_is_heard),
        cmocka_unit_test(s7_a_snapshot_of_a_prefix_keeps_what_follows),
        cmocka_unit_test(s7_a_snapshot_of_another_history_ends_the_log),
        cmocka_unit_test(s8_a_leader_begins_with_a_noop),
        cmocka_unit_test(t3_10_leadership_is_handed_to_one_that_has_everything),
        cmocka_unit_test(t6_4_a_read_waits_for_a_round_of_its_own),
        cmocka_unit_test(t9_6_a_pre_vote_raises_no_term),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
