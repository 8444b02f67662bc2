/* SPDX-License-Identifier: Apache-2.0 */
/* Elections: timers, PreVote, votes, stepping down [RAFT 5.2, THESIS 9.6].
 *
 *     FOLLOWER ──timeout──► PRECANDIDATE ──quorum──► CANDIDATE ──quorum──► LEADER
 *        ▲  ▲                    │                       │                   │
 *        │  └──TIMEOUT_NOW skips PRECANDIDATE            │                   │
 *        └───────────────────────┴──higher term, leader──┴──no quorum heard──┘
 *
 * Two reasons to refuse a vote although the log would do, and neither adopts the term:
 *  - the leader is heard: a server that lost touch, or was removed, must not depose it;
 *  - a promise: the leader serves reads under a lease that rests on our keeping still.
 * The first ends when the leader's connection breaks, so that a crashed leader is
 * replaced at once; the second never ends early, since a connection may break while the
 * leader lives. */
#include "raft/raft_state.h"

void raft_elect_reset_timer(struct raft *raft)
{
    const uint64_t election_ns = raft->settings.election_ns;

    raft->deadline.ns = raft->now.ns + election_ns + prng_below(&raft->prng, election_ns);
}

/* Whether this replica may stand.  In the config in force, or in the one before while its
 * removal is not committed: the others may lack a log that is new enough to win. */
bool raft_elect_begun(const struct raft *raft)
{
    return term_epoch(log_term_at(&raft->log, raft->log.last)) ==
           term_epoch(raft->state.term);
}

bool raft_elect_may_campaign(const struct raft *raft)
{
    const struct server_id self = raft->settings.self;
    const struct log_index at = raft_member_config_index(raft);

    if (raft->state.doubtful && !raft->state.rebooted) return false;
    if (raft->apart) return false;
    if (!raft_elect_begun(raft) && !raft->settings.bug_epoch_elects) return false;
    if (raft_members_has_voter(raft_member_config(raft), self)) return true;
    return at.v > raft->commit.v && raft->n_configs > 1 &&
           raft_members_has_voter(&raft->configs[raft->n_configs - 2].config, self);
}

static void enter_term(struct raft *raft, struct term term)
{
    check(term.v > raft->state.term.v);

    raft_quiet_wake(raft);
    raft->state.term = term;
    raft->state.vote.v = 0;
    raft->state_dirty = true;
}

/* What a role leaves behind when it ends. */
static void leave_role(struct raft *raft)
{
    raft_quiet_wake(raft);
    raft_replicate_transfer_end(raft);
    raft->role = RAFT_FOLLOWER;
    raft->transfer_vote = false;
    raft->uncommitted_bytes = raft->uncommitted_blocks = 0;
    raft->load_asked = raft->load_out = false;
    raft->n_loaded = 0;
    raft->round_wanted = false;
    raft->lease_used = false;
}

void raft_elect_follow(struct raft *raft, struct term term, struct server_id leader)
{
    const bool led = raft->role == RAFT_LEADER;

    if (term.v > raft->state.term.v) {
        enter_term(raft, term);
        raft->leader.v = 0;
        raft->ack = (struct raft_ack){0}; /* it speaks to the leader of the old term */
        /* What is committed is in every leader's log; not so where an epoch began. */
        raft->verified = raft_elect_begun(raft) ? raft->commit : (struct log_index){0};
        raft->round_seen = 0;
    }
    if (raft->role != RAFT_FOLLOWER) {
        leave_role(raft);
        raft->leader.v = 0;
    }
    if (led) raft_elect_reset_timer(raft);
    if (leader.v != raft->leader.v) {
        raft_read_refuse(raft);
        raft->leader = leader;
        raft->leader_lost = false;
    }
}

void raft_elect_step_down(struct raft *raft)
{
    raft_elect_follow(raft, raft->state.term, (struct server_id){0});
}

/* A message that only the leader of this term sends. */
void raft_elect_leader_heard(struct raft *raft, const struct raft_msg *msg)
{
    raft_elect_follow(raft, raft->state.term, msg->from);
    raft->leader_heard = raft->now;
    raft->leader_lost = false;
    raft_elect_reset_timer(raft);
    if (msg->flags & RAFT_LEASE)
        raft->promised_until = raft->now.ns + raft->settings.election_ns;
}

static bool leader_is_heard(const struct raft *raft, struct server_id asker)
{
    if (raft->role == RAFT_LEADER) return true;
    if (raft->leader.v != 0 && raft->leader.v == asker.v) return false;
    if (raft->now.ns < raft->promised_until) return true;
    return raft->leader.v != 0 && !raft->leader_lost &&
           raft->now.ns < raft->leader_heard.ns + raft->settings.election_ns;
}

bool raft_elect_refuses(const struct raft *raft, const struct raft_msg *msg)
{
    if (msg->kind == RAFT_VOTE && (msg->flags & RAFT_TRANSFER)) return false;
    return leader_is_heard(raft, msg->from);
}

/* [RAFT 5.4.1] the log whose last term is higher is newer; with equal terms, the
 * longer. */
static bool asker_is_up_to_date(const struct raft *raft, const struct raft_msg *msg)
{
    const struct term ours = log_term_at(&raft->log, raft->log.last);

    if (term_epoch(msg->log_term) != term_epoch(msg->term) &&
        !raft->settings.bug_epoch_elects)
        return false;
    if (raft->settings.bug_vote_shorter_log) return true;
    if (raft->settings.bug_vote_bare_index) return msg->index.v >= raft->log.last.v;
    if (msg->log_term.v != ours.v) return msg->log_term.v > ours.v;
    return msg->index.v >= raft->log.last.v;
}

static void reply(struct raft *raft, const struct raft_msg *to, enum raft_msg_kind kind,
                  struct term term, bool granted)
{
    raft_enqueue(raft, &(struct raft_msg){
                           .kind = kind,
                           .flags = granted ? 0 : RAFT_REJECT,
                           .to = to->from,
                           .term = term,
                       });
}

static bool can_vote(const struct raft *raft)
{
    return !raft->state.doubtful || raft->state.rebooted ||
           raft->settings.bug_doubtful_counts;
}

/* Nothing changes here: a pre-vote says what a vote would be.  A grant names the term
 * that it is for, a refusal ours, from which an asker that is behind learns. */
void raft_elect_on_prevote(struct raft *raft, const struct raft_msg *msg)
{
    const bool granted = can_vote(raft) && msg->term.v > raft->state.term.v &&
                         !raft_elect_refuses(raft, msg) && asker_is_up_to_date(raft, msg);

    reply(raft, msg, RAFT_PREVOTE_REPLY, granted ? msg->term : raft->state.term, granted);
}

/* The term has been adopted by now, or the request was refused. */
void raft_elect_on_vote(struct raft *raft, const struct raft_msg *msg)
{
    const bool free_to = raft->state.vote.v == 0
                             ? raft->leader.v == 0 || raft->leader.v == msg->from.v
                             : raft->state.vote.v == msg->from.v;
    const bool granted = msg->term.v == raft->state.term.v && free_to && can_vote(raft) &&
                         asker_is_up_to_date(raft, msg);

    if (granted) {
        if (raft->state.vote.v == 0) raft->state_dirty = true;
        raft->state.vote = msg->from;
        raft_elect_reset_timer(raft);
    }
    reply(raft, msg, RAFT_VOTE_REPLY, raft->state.term, granted);
}

/* --- standing --- */

static void ask(struct raft *raft, enum raft_msg_kind kind, struct term term)
{
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        struct raft_progress *peer = &raft->peers[i];
        peer->answered = peer->granted = peer->unsure = false;
        if (!peer->voter) continue;
        raft_enqueue(raft, &(struct raft_msg){
                               .kind = kind,
                               .flags = raft->transfer_vote ? RAFT_TRANSFER : 0,
                               .to = peer->id,
                               .term = term,
                               .index = raft->log.last,
                               .log_term = log_term_at(&raft->log, raft->log.last),
                           });
    }
}

static void become(struct raft *raft, enum raft_role role)
{
    if (raft->leader.v != 0) raft_read_refuse(raft);
    raft->leader.v = 0;
    raft->role = role;
    raft_elect_reset_timer(raft);
}

/* No vote is asked for: nobody else can be elected in this epoch before it has an entry, and the
 * meta shard names one replica only. */
void raft_elect_on_decree(struct raft *raft, const struct raft_event *event)
{
    const uint32_t epoch = term_epoch(event->term);
    const bool begun = term_epoch(log_term_at(&raft->log, raft->log.last)) >= epoch;
    const struct raft_members decreed = event->config == NULL
                                            ? (struct raft_members){0}
                                            : raft_config_members(event->config);

    if (event->config == NULL || begun || term_epoch(raft->state.term) > epoch ||
        !raft_members_has_voter(&decreed, raft->settings.self)) {
        raft->refused++;
        return;
    }
    if (term_epoch(raft->state.term) < epoch)
        raft_elect_follow(raft, term_of_epoch(epoch), (struct server_id){0});
    raft->ack = (struct raft_ack){0};
    become(raft, RAFT_CANDIDATE);
    raft->elections++;
    enter_term(raft, term_next(raft->state.term));
    raft->state.vote = raft->settings.self;
    raft->verified = raft->commit;
    raft->round_seen = 0;
    raft_replicate_lead(raft);
    raft_member_on_decree(raft, event->config);
}

static void count_votes(struct raft *raft);

static void stand(struct raft *raft, bool transfer)
{
    raft->ack = (struct raft_ack){0};
    become(raft, RAFT_CANDIDATE);
    raft->transfer_vote = transfer;
    raft->elections++;
    enter_term(raft, term_next(raft->state.term));
    raft->state.vote = raft->settings.self;
    raft->verified = raft->commit;
    raft->round_seen = 0;
    ask(raft, RAFT_VOTE, raft->state.term);
}

static void stand_for_prevote(struct raft *raft)
{
    become(raft, RAFT_PRECANDIDATE);
    raft->transfer_vote = false;
    ask(raft, RAFT_PREVOTE, term_next(raft->state.term));
}

/* Each round of counting moves one role up, so a replica alone in its config goes all the
 * way at once. */
static void count_votes(struct raft *raft)
{
    while (raft->role == RAFT_PRECANDIDATE || raft->role == RAFT_CANDIDATE) {
        switch (raft_member_tally(raft)) {
        case RAFT_TALLY_OPEN: return;
        case RAFT_TALLY_LOST: raft_elect_step_down(raft); return;
        case RAFT_TALLY_WON:
            if (raft->role == RAFT_CANDIDATE)
                raft_replicate_lead(raft);
            else
                stand(raft, false);
            break;
        }
    }
}

void raft_elect_on_reply(struct raft *raft, const struct raft_msg *msg)
{
    const bool pre = msg->kind == RAFT_PREVOTE_REPLY;
    const bool reject = (msg->flags & RAFT_REJECT) != 0;
    struct raft_progress *peer = raft_member_find(raft, msg->from);

    if (peer == NULL || raft->role != (pre ? RAFT_PRECANDIDATE : RAFT_CANDIDATE)) return;
    if (pre && !reject && msg->term.v != raft->state.term.v + 1) return;
    if ((!pre || reject) && msg->term.v != raft->state.term.v) return;
    if (peer->answered) return;
    peer->answered = true;
    peer->granted = !reject;
    peer->unsure = (msg->flags & RAFT_DOUBTFUL) != 0;
    count_votes(raft);
}

void raft_elect_on_timeout_now(struct raft *raft, const struct raft_msg *msg)
{
    if (raft->role == RAFT_LEADER || raft->leader.v != msg->from.v) return;
    if (msg->round < raft->round_seen || !raft_elect_may_campaign(raft)) return;

    stand(raft, true);
    count_votes(raft);
}

/* In which place this replica stands for a leader that is lost.  All replicas come to the
 * same order without a word, another from group to group: so the groups that one server led
 * spread over the others, and seldom do two stand at once. */
static uint32_t turn_to_stand(const struct raft *raft)
{
    const struct raft_members *c = raft_member_config(raft);
    uint32_t n = 0, self = 0;

    for (uint16_t i = 0; i < c->n_voters; i++) {
        if (c->voters[i].v == raft->leader.v) continue;
        if (c->voters[i].v == raft->settings.self.v) self = n;
        n++;
    }
    return n == 0 ? 0 : (self + n - raft->settings.spread % n) % n;
}

/* A short wait, lest all followers of a dead leader stand at once. */
void raft_elect_on_leader_lost(struct raft *raft)
{
    const uint64_t beat_ns = raft->settings.heartbeat_ns;
    const uint64_t wait_ns = turn_to_stand(raft) * beat_ns +
                             prng_below(&raft->prng, beat_ns / 2 + 1);
    uint64_t at_ns = raft->now.ns > raft->promised_until ? raft->now.ns
                                                         : raft->promised_until;

    raft->leader_lost = true;
    at_ns += wait_ns;
    if (at_ns < raft->deadline.ns) raft->deadline.ns = at_ns;
}

static void on_timeout(struct raft *raft)
{
    if (!raft_elect_may_campaign(raft)) { /* a learner: only nobody leads it any more */
        raft_elect_step_down(raft);
        raft_elect_reset_timer(raft);
        return;
    }
    stand_for_prevote(raft);
    count_votes(raft);
}

/* Nobody to wait for.  While its being alone is not committed, another leader may be at
 * work on that very change, perhaps with reads under a lease: then as any other. */
bool raft_elect_leads_at_once(const struct raft *raft)
{
    return raft_member_is_alone(raft) && raft_elect_may_campaign(raft) &&
           raft_member_config_index(raft).v <= raft->commit.v;
}

void raft_elect_on_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER) return;
    if (raft_elect_leads_at_once(raft)) {
        stand_for_prevote(raft);
        count_votes(raft);
    } else if (raft->now.ns >= raft->deadline.ns) {
        on_timeout(raft);
    }
}
