/* SPDX-License-Identifier: Apache-2.0 */
/* Who leads, step by step.  R numbers: docs/scenarios.md. */
#include "rig.h"

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

static void R21_one_whose_removal_is_not_committed_may_stand(void **state)
{
    struct rig rig;
    struct raft_config without = {.voters = {{2}, {3}, {4}}, .n_voters = 3};
    (void)state;
    rig_open_voter(&rig, 1, 3);
    rig_append_config(&rig, 2, 1, 0, 0, &without, 0);
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
    rig_durable(&rig);
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
        cmocka_unit_test(R99_a_transfer_ends_with_the_role),
        cmocka_unit_test(R100_only_a_voter_is_handed_leadership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
