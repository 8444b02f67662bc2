/* SPDX-License-Identifier: Apache-2.0 */
/* The core step by step.  R numbers are those of the scenarios for ordered shards. */
#include "rig.h"

#include <string.h>

/* --- elections --- */

static void rig_stand(struct rig *rig) /* a candidate, with the grants of a pre-vote */
{
    const struct term term = {rig->raft->state.term.v + 1};

    rig_tick_after(rig, 3 * SEC_NS);
    for (uint32_t i = 0; i < rig->raft->n_peers && rig->raft->role != RAFT_CANDIDATE; i++)
        rig_recv(rig, (struct raft_msg){.kind = RAFT_PREVOTE_REPLY,
                                        .term = term,
                                        .from = rig->raft->peers[i].id});
    assert_int_equal(rig_info(rig).role, RAFT_CANDIDATE);
}

/* R1; the mutant lets it leave at once. */
static void R1_no_request_leaves_before_the_own_vote_is_durable(void **state)
{
    (void)state;
    for (int mutant = 0; mutant < 2; mutant++) {
        struct rig rig;
        struct raft_settings s = rig_settings();
        s.bug_vote_before_durable = mutant == 1;
        rig_open(&rig, 1, s, (struct raft_start){.config = rig_voters(3)});
        rig_stand(&rig);
        assert_true(rig.out.write_state);
        assert_int_equal(rig.out.state.vote.v, 1);
        assert_int_equal(rig.out.state.term.v, 1);
        assert_int_equal(rig_count(&rig, RAFT_VOTE), 2);
        assert_int_equal(rig_sent(&rig, RAFT_VOTE, 2)->after,
                         mutant == 1 ? 0 : rig.out.mark);
        rig_close(&rig);
    }
}

static void R3_a_vote_is_granted_only_when_it_is_durable(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {4}});
    assert_true(rig.out.write_state);
    assert_int_equal(rig.out.state.term.v, 4);
    assert_int_equal(rig.out.state.vote.v, 2);
    assert_true(rig.out.mark > 0);
    assert_int_equal(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->after, rig.out.mark);
    rig_close(&rig);

    /* and after a restart it is remembered; the first timeout after it is one of
     * silence */
    rig_open(&rig, 1, rig_settings(),
             (struct raft_start){.state = {.term = {4}, .vote = {2}},
                                 .config = rig_voters(3)});
    rig.now.ns += SEC_NS;
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {4}});
    assert_true(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {4}});
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->flags & RAFT_REJECT);
    rig_close(&rig);
}

/* R4: whatever changes of term and vote leaves as one record, which is there whole or not at
 * all; so no crash can leave a new term with the vote of an old one. */
static void R4_term_and_vote_are_one_record(void **state)
{
    struct rig rig;
    struct buf bytes;
    struct raft_state got = {.term = {77}}, want;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {4}});
    assert_int_equal(rig.out.state.vote.v, 2);
    rig_append(&rig, 3, 9, 0, 0, NO_ENTRIES,
               0); /* a higher term, and no vote in it yet */
    assert_true(rig.out.write_state);
    assert_int_equal(rig.out.state.term.v, 9);
    assert_int_equal(rig.out.state.vote.v, 0);
    rig.now.ns += 2 * SEC_NS;
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {2}, .term = {300}});
    want = rig.out.state; /* both at once */
    assert_int_equal(want.term.v, 300);
    assert_int_equal(want.vote.v, 2);
    assert_int_equal(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->after, rig.out.mark);
    bytes = buf_new(&rig.mem);
    raft_state_encode(&bytes, &want);
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(raft_state_decode((struct bytes){bytes.at, len}, &got));
    assert_int_equal(got.term.v, 77);
    assert_true(raft_state_decode(buf_bytes(&bytes), &got));
    assert_int_equal(got.term.v, 300);
    assert_int_equal(got.vote.v, 2);
    buf_free(&bytes);
    rig_close(&rig);
}

/* Two voters of three hand each other all they say, until one leads; how often they had to
 * stand, or 0 when it came to nothing. */
static uint64_t elections_of_two(struct rig *a, struct rig *b)
{
    struct rig *const both[] = {a, b};

    for (uint32_t moment = 0; moment < 1000; moment++) {
        struct raft_msg said[2][RIG_MSGS_MAX];
        uint32_t n_said[2];
        for (uint32_t i = 0; i < 2; i++) { /* at the same moment, before either hears */
            rig_durable(both[i]);
            rig_tick_after(both[i], 20 * MS_NS);
        }
        for (uint32_t turn = 0; turn < 4; turn++) {
            for (uint32_t i = 0; i < 2; i++) {
                n_said[i] = both[i]->out.n_msgs;
                assert_in_range(n_said[i], 0, RIG_MSGS_MAX);
                for (uint32_t m = 0; m < n_said[i]; m++)
                    said[i][m] = both[i]->out.msgs[m];
            }
            for (uint32_t i = 0; i < 2; i++) {
                struct rig *const to = both[1 - i];
                const uint32_t id = to->raft->settings.self.v;
                for (uint32_t m = 0; m < n_said[i]; m++) {
                    const struct raft_event event = {
                        .kind = RAFT_RECV, .now = to->now, .msg = &said[i][m]};
                    if (said[i][m].to.v == id) raft_step(to->raft, &event);
                }
            }
            for (uint32_t i = 0; i < 2; i++)
                rig_turn(both[i]);
        }
        for (uint32_t i = 0; i < 2; i++)
            if (both[i]->raft->role == RAFT_LEADER)
                return a->raft->elections + b->raft->elections;
    }
    return 0;
}

/* R19: both have given the leader up at the same moment; with PreVote and the refusal of
 * votes while a leader is heard, one of them is elected soon, however the dice fall. */
static void R19_two_that_suspect_the_leader_at_once_elect_one(void **state)
{
    uint64_t most = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rig a, b;
        struct raft_settings s = rig_settings();
        s.seed = seed;
        rig_open(&a, 1, s, (struct raft_start){.config = rig_voters(3)});
        s.seed = seed + 1000;
        rig_open(&b, 2, s, (struct raft_start){.config = rig_voters(3)});
        struct rig *const both[] = {&a, &b};
        for (uint32_t i = 0; i < 2; i++) {
            rig_append(both[i], 3, 1, 0, 0, NO_ENTRIES, 0);
            if (seed % 3 == 0) /* it served reads under a lease */
                rig_recv(both[i], (struct raft_msg){.kind = RAFT_APPEND,
                                                    .flags = RAFT_LEASE,
                                                    .from = {3},
                                                    .term = {1}});
            if (seed % 2 == 0) /* and its connections break at once */
                rig_step(both[i],
                         (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {3}});
        }
        const uint64_t elections = elections_of_two(&a, &b);
        assert_true(elections > 0);
        if (elections > most) most = elections;
        rig_close(&a);
        rig_close(&b);
    }
    assert_in_range(most, 1, 12);
}

/* R20: who is taking in a snapshot, or still writes what it was sent, hears its leader all the
 * while, and does not stand. */
static void R20_a_follower_that_is_busy_does_not_stand(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_durable(&rig);
    rig_append(&rig, 2, 1, 0, 0, TERMS(1), 0);
    for (uint64_t piece = 0; piece < 20; piece++) {
        rig_recv(&rig, (struct raft_msg){.kind = RAFT_SNAPSHOT,
                                         .from = {2},
                                         .term = {1},
                                         .index = {50},
                                         .log_term = {1},
                                         .offset = piece * 100});
        assert_true(rig.out.wake.ns >= rig.now.ns + SEC_NS);
        rig_tick_after(&rig, 900 * MS_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        assert_int_equal(rig_info(&rig).leader.v, 2);
    }
    for (uint32_t beat = 0; beat < 50;
         beat++) { /* and its disk has not written entry 1 */
        rig_append(&rig, 2, 1, 1, 1, NO_ENTRIES, 0);
        assert_non_null(rig_sent(&rig, RAFT_APPEND_REPLY, 2));
        assert_int_equal(rig.out.msgs[0].after, 0); /* the leader hears that it lives */
        rig_tick_after(&rig, 900 * MS_NS);
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    }
    assert_int_equal(rig_info(&rig).durable.v, 0);
    assert_int_equal(rig_info(&rig).elections, 0);
    rig_close(&rig);
}

static void R8_any_message_of_a_higher_term_ends_leadership(void **state)
{
    static const enum raft_msg_kind kinds[] = {
        RAFT_APPEND,   RAFT_APPEND_REPLY,   RAFT_VOTE_REPLY, RAFT_TIMEOUT_NOW,
        RAFT_SNAPSHOT, RAFT_SNAPSHOT_REPLY, RAFT_READ_INDEX, RAFT_READ_INDEX_REPLY,
    };
    (void)state;
    for (uint32_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct rig rig;
        rig_open_voter(&rig, 1, 3);
        rig_lead(&rig);
        rig_recv(&rig, (struct raft_msg){.kind = kinds[i], .from = {2}, .term = {5}});
        assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
        assert_int_equal(rig_info(&rig).term.v, 5);
        assert_true(rig.out.role_changed);
        rig_close(&rig);
    }
}

static void R12_R13_late_answers_of_another_ballot_do_not_count(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 5);
    rig_stand(&rig);
    for (uint32_t id = 2; id <= 5; id++)
        rig_recv(&rig, (struct raft_msg){
                           .kind = RAFT_PREVOTE_REPLY, .from = {id}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_CANDIDATE);
    rig_append(&rig, 3, 1, 0, 0, NO_ENTRIES, 0);
    for (uint32_t id = 2; id <= 5; id++)
        rig_recv(&rig,
                 (struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {id}, .term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_close(&rig);
}

static void R14_a_pre_candidate_that_is_behind_learns_the_term(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_tick_after(&rig, 3 * SEC_NS);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE_REPLY,
                                     .flags = RAFT_REJECT,
                                     .from = {2},
                                     .term = {6}});
    assert_int_equal(rig_info(&rig).term.v, 6);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_tick_after(&rig, 3 * SEC_NS);
    assert_int_equal(rig_sent(&rig, RAFT_PREVOTE, 2)->term.v, 7);
    rig_close(&rig);
}

static void R17_a_leader_that_hears_no_quorum_steps_down(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 5);
    rig_lead(&rig);
    rig.now.ns += SEC_NS / 2;
    rig_ack(&rig, 2, 1);
    const uint64_t until = rig.now.ns + SEC_NS / 2;
    while (rig.out.wake.ns < until)
        rig_tick_after(&rig, rig.out.wake.ns - rig.now.ns);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    rig_tick_after(&rig, until - rig.now.ns);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_int_equal(rig_info(&rig).leader.v, 0);
    rig_close(&rig);
}

static void R18_the_leader_itself_may_ask_for_a_vote(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE, .from = {3}, .term = {2}});
    assert_true(rig_sent(&rig, RAFT_PREVOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE, .from = {2}, .term = {2}});
    assert_false(rig_sent(&rig, RAFT_PREVOTE_REPLY, 2)->flags & RAFT_REJECT);
    rig_close(&rig);
}

static struct raft_config learner_1_of(uint32_t voters)
{
    struct raft_config c = {0};

    for (uint32_t id = 2; id < 2 + voters; id++)
        c.voters[c.n_voters++].v = id;
    c.learners[c.n_learners++].v = 1;
    return c;
}

static void R21_R23_R24_a_learner_votes_but_never_stands(void **state)
{
    struct rig rig;
    (void)state;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = learner_1_of(3)});
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_recv(&rig, (struct raft_msg){
                       .kind = RAFT_TIMEOUT_NOW, .from = {2}, .term = {1}, .round = 1});
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    rig_tick_after(&rig, 3 * SEC_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_int_equal(rig_info(&rig).leader.v, 0); /* but nobody leads it, as it knows */
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {2}});
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_close(&rig);
}

static void append_config(struct rig *rig, uint32_t from, uint64_t term, uint64_t prev,
                          uint64_t prev_term, const struct raft_config *config,
                          uint64_t commit)
{
    struct buf encoded = buf_new(&rig->mem);

    raft_config_encode(&encoded, config);
    const struct raft_entry e = {
        {prev + 1}, {term}, RAFT_CONFIG, buf_bytes(&encoded), NULL};
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND,
                                    .from = {from},
                                    .term = {term},
                                    .index = {prev},
                                    .log_term = {prev_term},
                                    .commit = {commit},
                                    .n_entries = 1,
                                    .entries = &e});
    buf_free(&encoded);
}

static void R21_one_whose_removal_is_not_committed_may_stand(void **state)
{
    struct rig rig;
    struct raft_config without = {.voters = {{2}, {3}, {4}}, .n_voters = 3};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    append_config(&rig, 2, 1, 0, 0, &without, 0);
    assert_true(raft_elect_may_campaign(rig.raft));
    rig_append(&rig, 2, 1, 1, 1, NO_ENTRIES, 1);
    assert_false(raft_elect_may_campaign(rig.raft));
    rig_close(&rig);
}

/* A crashed leader is replaced without waiting for the timeout ... */
static void a_lost_connection_to_the_leader_starts_a_pre_vote_soon(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    assert_in_range(rig.out.wake.ns - rig.now.ns, 0, 100 * MS_NS);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE, .from = {3}, .term = {2}});
    assert_false(rig_sent(&rig, RAFT_PREVOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_tick_after(&rig, 100 * MS_NS);
    assert_int_equal(rig_info(&rig).role, RAFT_PRECANDIDATE);
    rig_close(&rig);
}

/* ... unless a lease may rest on our keeping still. */
static void a_promise_outlives_the_connection(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_recv(&rig,
             (struct raft_msg){
                 .kind = RAFT_APPEND, .flags = RAFT_LEASE, .from = {2}, .term = {1}});
    const uint64_t until = rig.now.ns + SEC_NS;
    assert_true(rig_sent(&rig, RAFT_APPEND_REPLY, 2)->flags & RAFT_LEASE);
    rig_step(&rig, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {2}});
    assert_in_range(rig.out.wake.ns, until, until + 100 * MS_NS);
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_PREVOTE, .from = {3}, .term = {2}});
    assert_true(rig_sent(&rig, RAFT_PREVOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_close(&rig);

    /* a restart forgets what was promised, so it waits as long as it could have been */
    rig_open(&rig, 1, rig_settings(),
             (struct raft_start){.state = {.term = {3}}, .config = rig_voters(3)});
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {4}});
    assert_null(rig_sent(&rig, RAFT_VOTE_REPLY, 3));
    rig.now.ns += SEC_NS;
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE, .from = {3}, .term = {4}});
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 3)->flags & RAFT_REJECT);
    rig_close(&rig);
}

static void alone_it_leads_at_once_and_commits_when_durable(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 1);
    assert_int_equal(rig.out.wake.ns, rig.now.ns);
    const uint64_t early = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    assert_true(early > 0);
    rig_tick_after(&rig, 0);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_int_equal(rig.out.commit.v, 0);
    assert_int_equal(rig.out.reads[0].index.v,
                     0); /* asked of a leader that was not there */
    const uint64_t round = raft_read(rig.raft, RAFT_READ_ROUND, rig.now);
    assert_true(round > 0);
    rig_turn(&rig);
    rig_durable(&rig);
    assert_int_equal(rig.out.commit.v, 1);
    assert_true(rig.out.confirmed_round >= round);
    assert_int_equal(raft_read(rig.raft, RAFT_READ_ROUND, rig.now), 0);
    rig_close(&rig);
}

static void impossible_messages_are_counted_and_ignored(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    const uint64_t before = rig_info(&rig).refused;
    rig_append(&rig, 2, 1, 0, 0, NO_ENTRIES, 0); /* another leader of our term */
    rig_ack(&rig, 2, 99);                        /* more than there is */
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_APPEND,
                                     .from = {2},
                                     .term = {(UINT64_C(1) << 44) - 1}});
    rig_recv(&rig,
             (struct raft_msg){.kind = RAFT_APPEND_REPLY, .from = {1}, .term = {1}});
    rig_recv(&rig,
             (struct raft_msg){
                 .kind = RAFT_APPEND_REPLY, .from = {2}, .term = {1}, .round = 1000});
    assert_int_equal(rig_info(&rig).refused, before + 5);
    assert_int_equal(rig_info(&rig).role, RAFT_LEADER);
    assert_int_equal(rig_info(&rig).commit.v, 1);
    rig_close(&rig);
    rig_open_voter(&rig, 1, 3);
    rig_append(&rig, 2, 2, 0, 0, TERMS(2, 1), 0); /* terms that fall */
    rig_append(&rig, 2, 2, 0, 0, TERMS(3), 0);    /* and one above its sender's */
    assert_int_equal(rig_info(&rig).refused, 2);
    assert_int_equal(rig_info(&rig).last.v, 0);
    rig_close(&rig);
}

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
    append_config(&rig, 2, 1, 0, 0, &alone, 0);
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

static struct raft_msg refusal(const struct rig *rig, uint32_t from, uint64_t prev,
                               uint64_t hint, uint64_t hint_term)
{
    return (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                             .flags = RAFT_REJECT,
                             .from = {from},
                             .term = rig->raft->state.term,
                             .index = {prev},
                             .commit = {hint},
                             .log_term = {hint_term},
                             .round = rig->raft->round};
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
    rig_recv(&rig, refusal(&rig, 2, 3, 1, 1));
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
    rig_recv(&rig, refusal(&rig, 2, 1, 0, 0)); /* stale: at or below its match */
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
    rig_recv(&rig, refusal(&rig, 3, 10, 0, 0)); /* it is back */
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

/* --- reads --- */

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
    append_config(&rig, 2, 1, 0, 0, &four, 0);
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    append_config(&rig, 2, 1, 1, 1, &five, 1);
    assert_int_equal(rig_info(&rig).config.n_voters, 5);
    assert_false(rig_info(&rig).config_committed);
    rig_append(&rig, 3, 2, 1, 1, TERMS(2), 1); /* truncated: back to the one before */
    assert_int_equal(rig_info(&rig).config.n_voters, 4);
    assert_true(rig_info(&rig).config_committed);
    append_config(&rig, 3, 2, 2, 2, &five, 2);
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
        append_config(&rig, 2, 1, 5, 1, &five, 5);
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

/* --- membership --- */

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
    append_config(&rig, 2, 1, 0, 0, &joint, 0);
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

/* --- transfer --- */

static void R99_a_transfer_ends_with_the_role(void **state)
{
    struct rig rig;
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_lead(&rig);
    rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {2}});
    rig_append(&rig, 3, 2, 1, 1, NO_ENTRIES, 0);
    rig_durable(&rig);
    rig_lead(&rig);
    assert_int_equal(raft_may_propose(rig.raft), RAFT_PROPOSED);
    rig_close(&rig);
}

static void R100_only_a_voter_is_handed_leadership(void **state)
{
    struct rig rig;
    struct raft_config c = rig_voters(3);
    (void)state;
    c.learners[c.n_learners++].v = 4;
    rig_open(&rig, 1, rig_settings(), (struct raft_start){.config = c});
    rig_lead(&rig);
    for (uint32_t id = 1; id <= 5;
         id += id == 1 ? 3 : 1) { /* self, a learner, a stranger */
        rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {id}});
        assert_false(rig_info(&rig).transferring);
    }
    rig_propose(&rig, "a");
    rig_turn(&rig);
    rig_ack(&rig, 3, 2);
    rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO}); /* the fullest */
    assert_non_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 3));
    rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {3}});
    assert_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 3)); /* the same: nothing new */
    rig_step(&rig, (struct raft_event){.kind = RAFT_TRANSFER_TO, .peer = {2}});
    rig_ack(&rig, 2, 2);
    assert_non_null(rig_sent(&rig, RAFT_TIMEOUT_NOW, 2));
    rig_recv(&rig, (struct raft_msg){.kind = RAFT_VOTE,
                                     .flags = RAFT_TRANSFER,
                                     .from = {2},
                                     .term = {2},
                                     .index = {2},
                                     .log_term = {1}});
    assert_int_equal(rig_info(&rig).role, RAFT_FOLLOWER);
    assert_false(rig_sent(&rig, RAFT_VOTE_REPLY, 2)->flags & RAFT_REJECT);
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
    struct raft_msg m = refusal(rig, from, prev, hint, 1);
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

/* --- bytes --- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R1_no_request_leaves_before_the_own_vote_is_durable),
        cmocka_unit_test(R3_a_vote_is_granted_only_when_it_is_durable),
        cmocka_unit_test(R4_term_and_vote_are_one_record),
        cmocka_unit_test(R19_two_that_suspect_the_leader_at_once_elect_one),
        cmocka_unit_test(R20_a_follower_that_is_busy_does_not_stand),
        cmocka_unit_test(R8_any_message_of_a_higher_term_ends_leadership),
        cmocka_unit_test(R12_R13_late_answers_of_another_ballot_do_not_count),
        cmocka_unit_test(R14_a_pre_candidate_that_is_behind_learns_the_term),
        cmocka_unit_test(R17_a_leader_that_hears_no_quorum_steps_down),
        cmocka_unit_test(R18_the_leader_itself_may_ask_for_a_vote),
        cmocka_unit_test(R21_R23_R24_a_learner_votes_but_never_stands),
        cmocka_unit_test(R21_one_whose_removal_is_not_committed_may_stand),
        cmocka_unit_test(a_lost_connection_to_the_leader_starts_a_pre_vote_soon),
        cmocka_unit_test(a_promise_outlives_the_connection),
        cmocka_unit_test(alone_it_leads_at_once_and_commits_when_durable),
        cmocka_unit_test(impossible_messages_are_counted_and_ignored),
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
        cmocka_unit_test(R71_R81_any_snapshot_serves_that_the_log_connects_to),
        cmocka_unit_test(R49_a_slow_follower_holds_nobody_up_and_costs_no_memory),
        cmocka_unit_test(evicted_entries_are_loaded_for_who_needs_them),
        cmocka_unit_test(R53_an_answer_to_an_older_round_confirms_nothing),
        cmocka_unit_test(R51_rounds_of_a_cut_off_leader_are_never_confirmed),
        cmocka_unit_test(R55_R62_followers_ask_once_a_turn_and_answers_are_for_all),
        cmocka_unit_test(R52_R55_a_leader_answers_followers_after_a_round),
        cmocka_unit_test(R57_R58_a_lease_counts_from_when_the_round_was_sent),
        cmocka_unit_test(R59_a_transfer_ends_the_lease_first),
        cmocka_unit_test(R59_a_timeout_now_older_than_a_round_seen_is_ignored),
        cmocka_unit_test(R72_a_snapshot_of_what_we_have_is_answered_with_our_position),
        cmocka_unit_test(R74_what_was_overwritten_does_not_come_back),
        cmocka_unit_test(a_log_with_a_hole_is_doubtful),
        cmocka_unit_test(what_a_start_finds_later_counts_for_the_promise_too),
        cmocka_unit_test(R75_R76_R94_configs_follow_the_log_back_and_forth),
        cmocka_unit_test(R75_a_snapshot_brings_its_config_and_newer_ones_stay),
        cmocka_unit_test(R78_a_snapshot_comes_between_appends_and_cuts),
        cmocka_unit_test(R77_R78_an_older_snapshot_changes_nothing),
        cmocka_unit_test(R85_no_change_before_an_entry_of_the_own_term_is_committed),
        cmocka_unit_test(R86_one_change_at_a_time),
        cmocka_unit_test(R87_a_new_leader_finishes_the_joint_phase),
        cmocka_unit_test(R96_a_smaller_quorum_commits_what_was_waiting),
        cmocka_unit_test(R99_a_transfer_ends_with_the_role),
        cmocka_unit_test(R100_only_a_voter_is_handed_leadership),
        cmocka_unit_test(R102_R103_a_doubtful_replica_neither_votes_nor_stands),
        cmocka_unit_test(R102_a_doubtful_follower_counts_for_nothing_until_it_is_whole),
        cmocka_unit_test(R102_a_doubt_begins_again_with_the_next_life),
        cmocka_unit_test(R102_a_follower_is_cleared_by_an_append_that_matches),
        cmocka_unit_test(R97_who_lacks_what_it_acknowledged_is_doubtful),
        cmocka_unit_test(R97_who_is_told_of_its_loss_believes_it),
        cmocka_unit_test(an_answer_from_before_the_doubt_does_not_end_it),
        cmocka_unit_test(messages_survive_their_encoding),
        cmocka_unit_test(unsound_configs_are_refused),
        cmocka_unit_test(a_large_entry_is_not_copied),
        cmocka_unit_test(heartbeats_pass_a_large_entry),
        cmocka_unit_test(a_probe_brings_no_large_entry),
        cmocka_unit_test(a_large_entry_that_is_lost_is_sent_again),
        cmocka_unit_test(a_large_entry_does_not_fill_the_bound),
        cmocka_unit_test(entries_without_room_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
