/* SPDX-License-Identifier: Apache-2.0 */
/* Linearizable reads without a log entry [THESIS 6.4].
 *
 * Rounds   a read waits until a quorum has answered an append that was sent after the read
 *          came: then nobody else had been elected when it came.  Rounds are numbered by the
 *          turn and never reused, so an answer to an older one can't confirm a newer.  Nor
 *          does one count before the leader's own no-op is committed: until then it does not
 *          know what is.
 * Leases   the same answers, kept for a while: whoever answered an append that was sent at s
 *          under lease elects nobody before s + election timeout.
 * Followers ask the leader for a round, all reads of a turn as one, and learn the commit
 * that
 *          they have to wait for.  Their numbers start at random, so that an answer meant for
 *          an earlier life of this server falls outside of what is asked for. */
#include "raft/raft_state.h"

/* --- at the leader --- */

static bool transfer_is_over(const struct raft *raft)
{
    if (raft->transfer_to.v != 0 || raft->lease_void) return false;
    for (uint32_t i = 0; i < raft->n_peers; i++)
        if (raft->peers[i].round_heard < raft->peers[i].lease_barrier) return false;
    return true;
}

bool raft_lease_valid(const struct raft *raft, struct instant now)
{
    if (raft->role != RAFT_LEADER || !raft_is_ready(raft)) return false;
    if (raft_member_is_alone(raft)) return true;
    if (!transfer_is_over(raft) && !raft->settings.bug_lease_through_transfer)
        return false;

    const uint64_t from_ns = raft_member_quorum(raft, RAFT_COUNT_LEASE);
    return from_ns > 0 &&
           now.ns + raft->settings.drift_ns < from_ns + raft->settings.election_ns;
}

static uint64_t read_at_leader(struct raft *raft, enum raft_read_mode mode)
{
    if (raft_is_ready(raft) && raft_member_is_alone(raft)) return 0;
    raft_quiet_busy(raft);
    if (mode == RAFT_READ_LEASE) {
        if (raft_lease_valid(raft, raft->now)) return 0;
        raft->lease_used = true; /* the next appends ask for the promise */
    }
    if (raft->settings.bug_stale_read_round && raft->round > 0) return raft->round;
    raft_quiet_wake(raft);
    raft->round_wanted = true;
    return raft->round + 1;
}

static uint64_t read_at_follower(struct raft *raft)
{
    raft_quiet_wake(raft); /* the request for the round wakes the leader */
    if (!raft->read_to_send) {
        if (raft->read_asked == raft->read_answered) raft->read_since = raft->now;
        raft->read_asked++;
        raft->read_to_send = true;
    }
    return raft->read_asked;
}

uint64_t raft_read(struct raft *raft, enum raft_read_mode mode, struct instant now)
{
    if (now.ns > raft->now.ns) raft->now = now;
    return raft->role == RAFT_LEADER ? read_at_leader(raft, mode)
                                     : read_at_follower(raft);
}

/* Two places per follower are enough: the one that waits for a round under way, and one
 * for all that came since, for they wait for the next. */
void raft_read_on_request(struct raft *raft, const struct raft_msg *msg)
{
    struct raft_progress *peer = raft_member_find(raft, msg->from);

    if (raft->role != RAFT_LEADER) {
        raft_enqueue(raft, &(struct raft_msg){
                               .kind = RAFT_READ_INDEX_REPLY,
                               .flags = RAFT_REJECT,
                               .to = msg->from,
                               .term = raft->state.term,
                               .round = msg->round,
                           });
        return;
    }
    if (peer == NULL) return;
    raft_quiet_busy(raft);
    if (peer->read_number == 0 || peer->read_round == raft->round + 1) {
        if (msg->round > peer->read_number) peer->read_number = msg->round;
        peer->read_round = raft->round + 1;
    } else {
        if (msg->round > peer->read_number_next) peer->read_number_next = msg->round;
        peer->read_round_next = raft->round + 1;
    }
    raft->round_wanted = true;
}

static void answer(struct raft *raft, struct raft_progress *peer)
{
    raft_enqueue(raft, &(struct raft_msg){
                           .kind = RAFT_READ_INDEX_REPLY,
                           .to = peer->id,
                           .term = raft->state.term,
                           .index = raft->commit,
                           .log_term = log_term_at(&raft->log, raft->commit),
                           .round = peer->read_number,
                       });
    peer->read_number = peer->read_number_next;
    peer->read_round = peer->read_round_next;
    peer->read_number_next = peer->read_round_next = 0;
}

void raft_read_confirm(struct raft *raft)
{
    if (!raft_is_ready(raft)) return;

    const uint64_t round = raft_member_quorum(raft, RAFT_COUNT_ROUND);
    if (round > raft->confirmed) raft->confirmed = round;
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        struct raft_progress *peer = &raft->peers[i];
        while (peer->read_number != 0 && peer->read_round <= raft->confirmed)
            answer(raft, peer);
    }
}

/* --- at a follower --- */

void raft_read_refuse(struct raft *raft)
{
    if (raft->read_asked == raft->read_answered) return;

    raft->read_refused = raft->read_asked;
    raft->read_answered = raft->read_asked;
    raft->read_to_send = false;
}

void raft_read_on_answer(struct raft *raft, const struct raft_msg *msg)
{
    if (raft->role != RAFT_FOLLOWER || msg->from.v != raft->leader.v) return;
    if (msg->round <= raft->read_answered || msg->round > raft->read_asked) return;
    if (msg->flags & RAFT_REJECT) {
        raft_read_refuse(raft);
        return;
    }
    raft->read_done = (struct raft_read_done){msg->round, msg->index};
    raft->read_answered = msg->round;
    raft->read_since = raft->now;
    /* The leader of this term has committed so far, and we hold what is verified. */
    const struct log_index known = msg->index.v < raft->verified.v ? msg->index
                                                                   : raft->verified;
    if (known.v > raft->commit.v) raft->commit = known;
}

/* The newest number stands for all before it, so a lost request is repeated by the next,
 * and at a heartbeat's distance if none comes. */
void raft_read_send(struct raft *raft)
{
    if (raft->read_asked == raft->read_answered) return;
    if (raft->role != RAFT_FOLLOWER || raft->leader.v == 0 ||
        raft->now.ns >= raft->read_since.ns + raft->settings.election_ns) {
        raft_read_refuse(raft);
        return;
    }
    if (!raft->read_to_send &&
        raft->now.ns < raft->read_sent.ns + raft->settings.heartbeat_ns)
        return;
    raft->read_to_send = false;
    raft->read_sent = raft->now;
    raft_enqueue(raft, &(struct raft_msg){
                           .kind = RAFT_READ_INDEX,
                           .to = raft->leader,
                           .term = raft->state.term,
                           .round = raft->read_asked,
                       });
}

static void give(struct raft *raft, struct raft_out *out, struct raft_read_done done)
{
    raft->reads_out[out->n_reads++] = done;
    out->reads = raft->reads_out;
}

/* In the order of their numbers: each speaks for all numbers up to it. */
void raft_read_give(struct raft *raft, struct raft_out *out)
{
    const struct raft_read_done done = raft->read_done;
    const uint64_t refused = raft->read_refused;

    if (done.round != 0 && done.round < refused) give(raft, out, done);
    if (refused != 0) give(raft, out, (struct raft_read_done){refused, {0}});
    if (done.round != 0 && done.round > refused) give(raft, out, done);
    raft->read_done = (struct raft_read_done){0};
    raft->read_refused = 0;
}
