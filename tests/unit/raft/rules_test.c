/* SPDX-License-Identifier: Apache-2.0 */
/* Leader-follower as rules of the ordered core: what an answer, a commit and an election need,
 * what a power cut may take, what is kept aside, and how old a follower's state is. */
#include "rig.h"

static const struct raft_rules async = {.early = true};
static const struct raft_rules ack_one = {.early = true, .ack = 1};
static const struct raft_rules ack_all = {.early = true, .ack = RAFT_ACK_ALL};
static const struct raft_rules in_memory = {.early = true, .memory = true};

static struct raft_config ruled(uint32_t voters, struct raft_rules rules)
{
    struct raft_config c = rig_voters(voters);

    c.rules = rules;
    return c;
}

static void open_ruled(struct rig *rig, uint32_t voters, struct raft_rules rules)
{
    rig_open(rig, 1, rig_settings(), (struct raft_start){.config = ruled(voters, rules)});
    rig_turn(rig);
}

static void open_leader(struct rig *rig, uint32_t voters, struct raft_rules rules)
{
    open_ruled(rig, voters, rules);
    rig_lead(rig);
}

/* ---- answers ---- */

static void P1_an_async_answer_waits_for_our_own_log_only(void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, async);
    const struct log_index at = rig_propose(&rig, "x");
    rig_turn(&rig);
    assert_true(rig.out.acked.v < at.v);
    rig_durable(&rig);
    assert_int_equal(rig.out.acked.v, at.v);
    assert_true(rig.out.commit.v < at.v); /* it may still give way to another leader's */
    rig_ack(&rig, 2, at.v);
    assert_int_equal(rig.out.commit.v, at.v);
    rig_close(&rig);
}

/* The mutant takes the leader's own copy for a follower's. */
static void P7_ack_one_waits_for_one_follower(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_ack_counts_self = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = ruled(3, ack_one)});
        rig_turn(&rig);
        rig_lead(&rig);
        const struct log_index at = rig_propose(&rig, "x");
        rig_turn(&rig);
        rig_durable(&rig);
        assert_int_equal(rig.out.acked.v >= at.v, mutant == 1);
        rig_ack(&rig, 3, at.v);
        assert_int_equal(rig.out.acked.v, at.v);
        rig_close(&rig);
    }
}

static void ack_all_waits_for_every_voter(void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, ack_all);
    const struct log_index at = rig_propose(&rig, "x");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, at.v);
    assert_int_equal(rig.out.commit.v, at.v);
    assert_true(rig.out.acked.v < at.v);
    rig_ack(&rig, 3, at.v);
    assert_int_equal(rig.out.acked.v, at.v);
    rig_close(&rig);
}

static void learners_count_beside_a_single_voter_only(void **state)
{
    (void)state;
    for (uint32_t voters = 1; voters <= 3; voters += 2) {
        struct rig rig;
        struct raft_config c = ruled(voters, ack_one);
        c.learners[c.n_learners++].v = 9;
        rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = c});
        rig_turn(&rig);
        rig_lead(&rig);
        const struct log_index at = rig_propose(&rig, "x");
        rig_turn(&rig);
        rig_durable(&rig);
        assert_true(rig.out.acked.v < at.v);
        rig_ack(&rig, 9, at.v);
        assert_int_equal(rig.out.acked.v >= at.v, voters == 1);
        rig_close(&rig);
    }
}

static void P22_what_nobody_could_confirm_is_refused_before_it_is_taken(void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, ack_all);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    for (int i = 0; i < 12; i++) { /* server 3 falls silent */
        rig_tick_after(&rig, 100 * MS_NS);
        rig_ack(&rig, 2, rig.raft->log.last.v);
    }
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_LONELY);
    rig_ack(&rig, 3, rig.raft->log.last.v);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    rig_close(&rig);
}

/* From async to consensus and back: no answer leaves by the weaker rules while the change is
 * under way. */
static void P33_the_stricter_rules_hold_while_they_change(void **state)
{
    const struct raft_rules consensus = {0};
    (void)state;
    for (int back = 0; back < 2; back++) {
        struct rig rig;
        open_leader(&rig, 3, back ? consensus : async);
        const struct raft_config next = ruled(3, back ? async : consensus);
        rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
        const struct log_index change = rig.raft->log.last, at = rig_propose(&rig, "x");
        assert_int_equal(at.v, change.v + 1);
        rig_turn(&rig);
        rig_durable(&rig);
        assert_true(rig.out.acked.v < change.v);
        rig_ack(&rig, 2, change.v);
        assert_int_equal(rig.out.commit.v, change.v);
        assert_int_equal(rig.out.acked.v, back ? at.v : change.v);
        rig_close(&rig);
    }
}

/* It may be elected out at any time by a voter that has none of this. */
static void a_leader_that_is_left_out_does_not_answer_early(void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, async);
    struct raft_config next = ruled(3, async);
    next.n_voters = 1;
    next.voters[0].v = 2;
    next.learners[next.n_learners++].v = 1;
    next.learners[next.n_learners++].v = 3;
    rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
    const struct log_index at = rig_propose(&rig, "x");
    rig_turn(&rig);
    rig_durable(&rig);
    assert_true(rig.out.acked.v < at.v);
    rig_ack(&rig, 2, at.v);
    assert_true(rig.out.acked.v >= at.v);
    rig_close(&rig);
}

static void followers_hear_of_a_commit_at_once(void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, async);
    rig.now.ns += MS_NS;
    struct log_index at = rig_propose(&rig, "x");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, at.v);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->commit.v, at.v);

    /* The next one may come with entries, for a little while. */
    at = rig_propose(&rig, "y");
    rig_turn(&rig);
    rig_durable(&rig);
    rig_ack(&rig, 2, at.v);
    assert_null(rig_sent(&rig, RAFT_APPEND, 2));
    assert_in_range(rig.out.wake.ns, rig.now.ns, rig.now.ns + MS_NS / 2);
    rig.now = rig.out.wake;
    rig_turn(&rig);
    m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->n_entries, 0);
    assert_int_equal(m->commit.v, at.v);
    rig_close(&rig);
}

/* ---- elections ---- */

/* One follower of five must hold a write: any four votes include one that does.  The mutant is
 * content with three. */
static void P2_elections_meet_a_minority_of_copies(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        const struct raft_rules rules = {.early = true, .ack = 1, .copies = 2};
        s.bug_elect_majority = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = ruled(5, rules)});
        rig_turn(&rig);
        rig_tick_after(&rig, 3 * SEC_NS);
        for (uint32_t id = 2; id <= 4; id++)
            rig_recv(&rig, (struct raft_msg){
                               .kind = RAFT_PREVOTE_REPLY, .from = {id}, .term = {1}});
        assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
        for (uint32_t id = 2; id <= 3; id++)
            rig_recv(&rig, (struct raft_msg){
                               .kind = RAFT_VOTE_REPLY, .from = {id}, .term = {1}});
        assert_int_equal(rig_info(&rig).role == RAFT_LEADER, mutant == 1);
        rig_recv(&rig,
                 (struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {4}, .term = {1}});
        assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
        rig_durable(&rig);
        assert_int_equal(rig.out.commit.v, 0);
        rig_ack(&rig, 5, 1);
        assert_int_equal(rig.out.commit.v, 1);
        rig_close(&rig);
    }
}

static void a_smaller_number_of_copies_comes_through_a_joint_phase(void **state)
{
    struct rig rig;
    const struct raft_rules rules = {.early = true, .ack = 1, .copies = 2};
    (void)state;
    open_leader(&rig, 5, async);
    const struct raft_config next = ruled(5, rules);
    rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
    assert_true(rig_info(&rig).joint);
    const uint64_t last = rig.raft->log.last.v;
    rig_durable(&rig);
    rig_ack(&rig, 2, last);
    assert_true(rig.out.commit.v < last); /* the old rules ask for three */
    rig_ack(&rig, 3, last);
    assert_true(rig.out.commit.v >= last);
    assert_false(rig_info(&rig).joint);
    rig_close(&rig);
}

/* P11, P12: the mutant promotes by the bare index. */
static void P12_a_longer_log_of_an_older_term_wins_nothing(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_vote_bare_index = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = ruled(3, async)});
        rig_restore(&rig, TERMS(1, 1, 3));
        raft_restored(rig.raft);
        rig_turn(&rig);
        rig_durable(&rig);
        rig_tick_after(&rig, 2 * SEC_NS); /* nobody is heard, and no promise holds */
        rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                         .from = {2},
                                         .term = {9},
                                         .index = {7},
                                         .log_term = {2}});
        const struct raft_msg *m = rig_sent(&rig, RAFT_VOTE_REPLY, 2);
        assert_non_null(m);
        assert_int_equal((m->flags & RAFT_REJECT) == 0, mutant == 1);
        rig_close(&rig);
    }
}

/* ---- DURABILITY memory ---- */

static void P29_only_entries_may_wait_for_their_sync(void **state)
{
    struct rig rig;
    (void)state;
    open_ruled(&rig, 3, in_memory);
    rig_elect(&rig);
    rig_propose(&rig, "x");
    rig_turn(&rig);
    assert_true(rig.out.mark > 0);
    assert_true(rig.out.lazy);
    rig_durable(&rig);
    rig_ack(&rig, 2, rig.raft->log.last.v);
    rig_apply(&rig);
    const struct raft_config next = ruled(3, async);
    rig_step(&rig, (struct raft_event){.kind = RAFT_CHANGE, .config = &next});
    assert_true(rig.out.mark > 0);
    assert_false(rig.out.lazy); /* what says whether a power cut concerns us is synced */
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                     .flags = RAFT_TRANSFER,
                                     .from = {2},
                                     .term = {9},
                                     .index = {99},
                                     .log_term = {8}});
    assert_true(rig.out.write_state);
    assert_false(rig.out.lazy);
    rig_close(&rig);
}

/* A replica with a log of term 1, written in boot 7, in a machine of boot `boot`. */
static void open_in_boot(struct rig *rig, struct raft_rules rules, uint64_t boot)
{
    struct raft_settings s = rig_settings();

    s.boot = boot;
    rig_open(rig, 1, s, (struct raft_start){.config = ruled(3, rules)});
    raft_restore_state(rig->raft, &(struct raft_state){.term = {1}, .boot = 7});
    rig_restore(rig, TERMS(1, 1));
    raft_restored(rig->raft);
    rig_turn(rig);
}

static void a_restart_of_the_machine_makes_a_replica_unsure(void **state)
{
    struct rig rig;
    (void)state;
    open_in_boot(&rig, in_memory, 7); /* only the process was ended */
    assert_false(rig_info(&rig).doubtful);
    rig_close(&rig);
    open_in_boot(&rig, async, 8); /* everything had been synced */
    assert_false(rig_info(&rig).doubtful);
    rig_close(&rig);
    open_in_boot(&rig, in_memory, 8);
    assert_true(rig_info(&rig).doubtful);
    assert_true(rig_info(&rig).rebooted);
    assert_true(rig.out.write_state); /* before anybody hears of it */
    assert_int_equal(rig.out.state.boot, 8);
    rig_close(&rig);
}

static void vote_reply(struct rig *rig, enum raft_msg_kind kind, uint32_t from,
                       uint64_t term, uint8_t flags)
{
    rig_recv(rig, (struct raft_msg){
                      .kind = kind, .from = {from}, .term = {term}, .flags = flags});
}

/* The vote of one that is rebooted is good for nothing but making all of them. */
static void a_quorum_is_of_those_that_lost_nothing_or_of_all(void **state)
{
    struct rig rig;
    (void)state;
    open_in_boot(&rig, in_memory, 8);
    rig_durable(&rig);
    rig_tick_after(&rig, 3 * SEC_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
    vote_reply(&rig, RAFT_PREVOTE_REPLY, 2, 2, RAFT_DOUBTFUL);
    assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
    vote_reply(&rig, RAFT_PREVOTE_REPLY, 3, 2, 0);
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    vote_reply(&rig, RAFT_VOTE_REPLY, 3, 2, 0);
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    vote_reply(&rig, RAFT_VOTE_REPLY, 2, 2, RAFT_DOUBTFUL);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_false(rig_info(&rig).doubtful);
    assert_int_equal(rig_info(&rig).power_losses, 1);
    rig_close(&rig);
}

static void two_that_lost_nothing_elect_one_that_has_all_they_have(void **state)
{
    struct rig rig;
    (void)state;
    open_in_boot(&rig, in_memory, 8);
    rig_durable(&rig);
    rig_tick_after(&rig, 3 * SEC_NS);
    vote_reply(&rig, RAFT_PREVOTE_REPLY, 2, 2, 0);
    vote_reply(&rig, RAFT_PREVOTE_REPLY, 3, 2, 0);
    vote_reply(&rig, RAFT_VOTE_REPLY, 2, 2, 0);
    vote_reply(&rig, RAFT_VOTE_REPLY, 3, 2, 0);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_int_equal(rig_info(&rig).power_losses, 0); /* nothing can be missing */
    rig_close(&rig);
}

static void who_is_rebooted_votes_and_says_so(void **state)
{
    struct rig rig;
    (void)state;
    open_in_boot(&rig, in_memory, 8);
    rig_durable(&rig);
    rig.now.ns += 2 * SEC_NS; /* what it may have promised is over */
    rig_recv(
        &rig,
        (struct raft_msg){
            .kind = RAFT_VOTE, .from = {2}, .term = {4}, .index = {2}, .log_term = {1}});
    const struct raft_msg *m = rig_sent(&rig, RAFT_VOTE_REPLY, 2);
    assert_non_null(m);
    assert_int_equal(m->flags, RAFT_DOUBTFUL);
    rig_close(&rig);
}

static void damage_weighs_more_than_a_power_cut(void **state)
{
    struct rig rig;
    (void)state;
    open_in_boot(&rig, in_memory, 8);
    raft_doubt(rig.raft);
    rig_turn(&rig);
    assert_true(rig_info(&rig).doubtful);
    assert_false(rig_info(&rig).rebooted);
    rig_tick_after(&rig, 3 * SEC_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_close(&rig);
}

/* ---- rollback ---- */

static void P3_P6_what_gives_way_to_another_leader_is_told(void **state)
{
    (void)state;
    for (int early = 0; early < 2; early++) {
        struct rig rig;
        open_ruled(&rig, 3, early ? async : (struct raft_rules){0});
        rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 1);
        assert_int_equal(rig.out.n_discarded, 0);
        rig_durable(&rig);
        rig_append(&rig, 3, 2, 1, 1, TERMS(2), 1);
        assert_int_equal(rig.out.n_discarded, early ? 2 : 0);
        if (early) {
            assert_int_equal(rig.out.discarded[0].index.v, 2);
            assert_int_equal(rig.out.discarded[1].index.v, 3);
            assert_int_equal(rig.out.discarded[1].term.v, 1);
            assert_memory_equal(rig.out.discarded[1].payload.at, "entry", 5);
        }
        rig_turn(&rig);
        assert_int_equal(rig.out.n_discarded, 0); /* told once */
        rig_close(&rig);
    }
}

static void what_a_snapshot_takes_the_place_of_is_told(void **state)
{
    struct rig rig;
    const struct raft_config config = ruled(3, async);
    (void)state;
    open_ruled(&rig, 3, async);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1, 1), 1);
    rig_durable(&rig);
    rig_append(&rig, 3, 5, 9, 4, NO_ENTRIES, 0); /* another leader, far ahead */
    rig_step(&rig,
             (struct raft_event){
                 .kind = RAFT_INSTALLED, .index = {9}, .term = {4}, .config = &config});
    assert_int_equal(rig.out.n_discarded, 2);
    rig_close(&rig);
}

static void a_start_meets_what_was_discarded_again(void **state)
{
    struct rig rig;
    (void)state;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = ruled(3, async)});
    raft_restore(rig.raft,
                 &(struct raft_entry){{1}, {1}, RAFT_COMMAND, BYTES_OF("a"), NULL});
    raft_restore(rig.raft,
                 &(struct raft_entry){{2}, {1}, RAFT_COMMAND, BYTES_OF("b"), NULL});
    raft_restore(rig.raft,
                 &(struct raft_entry){{2}, {3}, RAFT_COMMAND, BYTES_OF("c"), NULL});
    raft_restored(rig.raft);
    rig_turn(&rig);
    assert_int_equal(rig.out.n_discarded, 1);
    assert_int_equal(rig.out.discarded[0].index.v, 2);
    assert_memory_equal(rig.out.discarded[0].payload.at, "b", 1);
    rig_close(&rig);
}

/* ---- lag ---- */

static void stamped(struct rig *rig, uint64_t stamp_ns, uint64_t last, uint64_t commit)
{
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND,
                                    .from = {2},
                                    .term = {1},
                                    .index = rig->raft->log.last,
                                    .log_term = {rig->raft->log.last.v > 0},
                                    .commit = {commit},
                                    .stamp_ns = stamp_ns,
                                    .last = {last}});
}

static void lag_is_the_age_of_the_newest_echo_whose_entries_are_applied(void **state)
{
    struct rig rig;
    (void)state;
    open_ruled(&rig, 3, async);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1, 1), 0);
    rig_durable(&rig);
    rig.now.ns += 100 * MS_NS;
    const uint64_t first = rig.now.ns - 50 * MS_NS;
    stamped(&rig, first, 2, 0);
    assert_int_equal(rig_info(&rig).fresh_ns,
                     0); /* the leader has more than is applied */
    assert_int_equal(rig_info(&rig).leader_last.v, 2);
    stamped(&rig, first + MS_NS, 2, 2);
    rig_apply(&rig);
    assert_int_equal(rig_info(&rig).fresh_ns, first + MS_NS);
    stamped(&rig, first + 2 * MS_NS, 3, 2); /* it has taken one more by now */
    assert_int_equal(rig_info(&rig).fresh_ns, first + MS_NS);
    stamped(&rig, rig.now.ns + SEC_NS, 2, 2); /* no echo of ours: it lies in the future */
    assert_int_equal(rig_info(&rig).fresh_ns, first + MS_NS);
    rig_close(&rig);
}

static void a_leader_echoes_the_newest_stamp_and_forgets_it_with_the_connection(
    void **state)
{
    struct rig rig;
    (void)state;
    open_leader(&rig, 3, async);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                                     .from = {2},
                                     .term = rig.raft->state.term,
                                     .index = rig.raft->log.last,
                                     .round = rig.raft->round,
                                     .sent_ns = rig.now.ns,
                                     .stamp_ns = 4242});
    rig_tick_after(&rig, 200 * MS_NS);
    const struct raft_msg *m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->stamp_ns, 4242);
    assert_int_equal(m->last.v, rig.raft->log.last.v);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    rig_tick_after(&rig, 200 * MS_NS);
    m = rig_sent(&rig, RAFT_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->stamp_ns, 0);
    rig_close(&rig);
}

/* It does not know yet what is committed, and may have been away for long. */
static void who_begins_to_lead_is_no_fresher_than_before(void **state)
{
    struct rig rig;
    (void)state;
    open_ruled(&rig, 3, async);
    rig_elect(&rig);
    assert_false(rig_info(&rig).ready);
    assert_int_equal(rig_info(&rig).fresh_ns, 0);
    rig_close(&rig);
}

/* ---- bytes ---- */

static void rules_survive_their_encoding_and_unsound_ones_are_refused(void **state)
{
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct raft_config c = ruled(5, (struct raft_rules){.early = true,
                                                        .memory = true,
                                                        .ack = 1,
                                                        .copies = 2}),
                       got;
    (void)state;
    raft_config_encode(&b, &c);
    assert_true(raft_config_decode(buf_bytes(&b), &got));
    assert_true(raft_rules_equal(&got.rules, &c.rules));
    c.rules.copies = 3; /* a majority is written as 0 */
    b.len = 0;
    raft_config_encode(&b, &c);
    assert_false(raft_config_decode(buf_bytes(&b), &got));
    c.rules.copies = 1; /* elections would need every vote, and one copy be enough */
    b.len = 0;
    raft_config_encode(&b, &c);
    assert_false(raft_config_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P1_an_async_answer_waits_for_our_own_log_only),
        cmocka_unit_test(P7_ack_one_waits_for_one_follower),
        cmocka_unit_test(ack_all_waits_for_every_voter),
        cmocka_unit_test(learners_count_beside_a_single_voter_only),
        cmocka_unit_test(P22_what_nobody_could_confirm_is_refused_before_it_is_taken),
        cmocka_unit_test(P33_the_stricter_rules_hold_while_they_change),
        cmocka_unit_test(a_leader_that_is_left_out_does_not_answer_early),
        cmocka_unit_test(followers_hear_of_a_commit_at_once),
        cmocka_unit_test(P2_elections_meet_a_minority_of_copies),
        cmocka_unit_test(a_smaller_number_of_copies_comes_through_a_joint_phase),
        cmocka_unit_test(P12_a_longer_log_of_an_older_term_wins_nothing),
        cmocka_unit_test(P29_only_entries_may_wait_for_their_sync),
        cmocka_unit_test(a_restart_of_the_machine_makes_a_replica_unsure),
        cmocka_unit_test(a_quorum_is_of_those_that_lost_nothing_or_of_all),
        cmocka_unit_test(two_that_lost_nothing_elect_one_that_has_all_they_have),
        cmocka_unit_test(who_is_rebooted_votes_and_says_so),
        cmocka_unit_test(damage_weighs_more_than_a_power_cut),
        cmocka_unit_test(P3_P6_what_gives_way_to_another_leader_is_told),
        cmocka_unit_test(what_a_snapshot_takes_the_place_of_is_told),
        cmocka_unit_test(a_start_meets_what_was_discarded_again),
        cmocka_unit_test(lag_is_the_age_of_the_newest_echo_whose_entries_are_applied),
        cmocka_unit_test(
            a_leader_echoes_the_newest_stamp_and_forgets_it_with_the_connection),
        cmocka_unit_test(who_begins_to_lead_is_no_fresher_than_before),
        cmocka_unit_test(rules_survive_their_encoding_and_unsound_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
