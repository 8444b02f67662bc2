/* SPDX-License-Identifier: Apache-2.0 */
/* Falling silent: a group with nothing to do exchanges nothing.
 *
 * A leader whose group holds the same everywhere, with all of it committed and nothing asked
 * for a while, tells its followers so in a last append (RAFT_QUIET) and stops: no heartbeats,
 * no contact to be kept.  A follower that has just what the append says keeps still, without a
 * timer.  Both rest on the caller, which watches the servers instead of the groups: it vouches
 * for a leader in a term, and a connection or server that is lost, that is silent, or that no
 * longer vouches is an event here (RAFT_PEER_LOST, RAFT_SILENT, RAFT_WAKE).
 *
 * Waking is always safe and always allowed: a replica that is awake without need runs timers
 * and falls silent again.  Whatever is not expected wakes, and a leader that is woken first
 * says so to its followers, for its next append has no RAFT_QUIET.
 *
 * A member whose server is known to be away (`gone`) and that has been silent for an election
 * timeout does not keep the others awake; its server's return wakes the leader.
 *
 * Source: CockroachDB's quiescence and TiKV's hibernating regions.  Ours differs: what a
 * server vouches for is a set of (group, term) that both sides count alike, so that a leader
 * that was deposed or began anew is not kept alive by its server's life. */
#include "raft/raft_state.h"

void raft_quiet_busy(struct raft *raft)
{
    raft->busy_at = raft->now;
}

/* The time out of contact does not count.  A leader's is stamped once more at the end of the
 * turn, since a proposal does not say when it is. */
static void stamp(struct raft *raft)
{
    raft_quiet_busy(raft);
    if (raft->role != RAFT_LEADER) {
        raft->leader_heard = raft->now; /* it was vouched for until now */
        raft_elect_reset_timer(raft);
        return;
    }
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        struct raft_progress *peer = &raft->peers[i];
        if (!peer->gone) peer->heard = raft->now;
        peer->send_now = true;
    }
}

void raft_quiet_wake(struct raft *raft)
{
    if (!raft->quiet || raft->settings.bug_quiet_never_wakes) return;

    raft->quiet = false;
    raft->woken = true;
    stamp(raft);
}

void raft_quiet_turn(struct raft *raft)
{
    if (raft->woken && raft->role == RAFT_LEADER) stamp(raft);
    raft->woken = false;
}

/* What was said when this follower fell silent, and nothing beyond it. */
static bool is_same_word(const struct raft *raft, const struct raft_msg *msg)
{
    return msg->kind == RAFT_APPEND && msg->from.v == raft->leader.v &&
           (msg->flags & (RAFT_QUIET | RAFT_DOUBTFUL)) == RAFT_QUIET &&
           msg->n_entries == 0 && msg->index.v == raft->log.last.v &&
           msg->log_term.v == log_term_at(&raft->log, msg->index).v;
}

/* What needs not wake: a late answer to what was sent before, and the same word again. */
void raft_quiet_on_message(struct raft *raft, const struct raft_msg *msg)
{
    const bool current = msg->term.v == raft->state.term.v;

    if (!raft->quiet) return;
    if (current && raft->role == RAFT_LEADER && msg->kind == RAFT_APPEND_REPLY &&
        !(msg->flags & (RAFT_REJECT | RAFT_DOUBTFUL)))
        return;
    if (current && raft->role == RAFT_FOLLOWER && is_same_word(raft, msg)) return;
    raft_quiet_wake(raft);
}

/* All of this replica's is written, committed and applied. */
static bool is_settled(const struct raft *raft)
{
    return raft->commit.v == raft->log.last.v && raft->durable.v == raft->log.last.v &&
           raft->n_writes == 0 && !raft->state_dirty && !raft->state.doubtful;
}

static bool is_away(const struct raft *raft, const struct raft_progress *peer)
{
    return peer->gone && raft->now.ns >= peer->heard.ns + raft->settings.election_ns;
}

static bool has_all(const struct raft *raft, const struct raft_progress *peer)
{
    return peer->flow == RAFT_FLOW_PIPELINE && peer->match.v == raft->log.last.v &&
           peer->read_number == 0 && !peer->doubtful && !peer->accused &&
           raft->now.ns < peer->heard.ns + raft->settings.election_ns;
}

static uint64_t quiet_at(const struct raft *raft)
{
    return raft->busy_at.ns + raft->settings.quiet_after_ns;
}

/* Called once a turn at a leader, when everything else that it does in it is decided. */
bool raft_quiet_is_due(const struct raft *raft)
{
    if (raft->quiet || raft->settings.quiet_after_ns == 0) return false;
    if (raft->now.ns < quiet_at(raft) || !raft_is_ready(raft) || !is_settled(raft))
        return false;
    if (raft->applied.v != raft->commit.v || raft_member_is_joint(raft)) return false;
    if (raft->transfer_to.v != 0 || raft->load_out || raft->n_snapshotting > 0)
        return false;
    if (raft->round_wanted || raft->confirmed != raft->round) return false;
    for (uint32_t i = 0; i < raft->n_peers; i++)
        if (!is_away(raft, &raft->peers[i]) && !has_all(raft, &raft->peers[i]))
            return false;
    return true;
}

bool raft_quiet_tells(const struct raft *raft, const struct raft_progress *peer)
{
    return !is_away(raft, peer);
}

/* The leader's last append has been taken in as any other. */
void raft_quiet_follow(struct raft *raft, const struct raft_msg *msg)
{
    if (raft->role != RAFT_FOLLOWER || raft->leader.v != msg->from.v) return;
    if (raft->apart) return;
    if (msg->index.v != raft->log.last.v || !is_settled(raft)) return;
    if (raft->read_asked != raft->read_answered || raft->ack.reject) return;
    raft->quiet = true;
    raft->ack = (struct raft_ack){0}; /* it is not waited for */
}

/* Its server is up, as far as a connection can tell. */
void raft_quiet_on_peer_up(struct raft *raft, struct server_id id)
{
    struct raft_progress *peer = raft_member_find(raft, id);

    if (peer == NULL || !peer->gone) return;
    peer->gone = false;
    if (raft->role == RAFT_LEADER) raft_quiet_wake(raft);
}

/* Nothing is heard of a server that vouched for a leader, or that is led from here. */
void raft_quiet_on_silent(struct raft *raft, struct server_id id)
{
    if (!raft->quiet || (raft->role == RAFT_FOLLOWER && raft->leader.v != id.v)) return;

    raft_quiet_wake(raft);
    if (raft->role == RAFT_FOLLOWER) raft_elect_on_leader_lost(raft);
}

void raft_rest(struct raft *raft)
{
    check(raft->quiet && raft->n_queue == 0 && raft->n_writes == 0);

    mem_free(raft->mem, raft->queue, raft->queue_cap * sizeof *raft->queue);
    mem_free(raft->mem, raft->msgs, raft->msgs_cap * sizeof *raft->msgs);
    mem_free(raft->mem, raft->writes, raft->writes_cap * sizeof *raft->writes);
    raft->queue = raft->msgs = NULL;
    raft->writes = NULL;
    raft->queue_cap = raft->msgs_cap = raft->n_msgs = 0;
    raft->writes_cap = raft->writes_head = 0;
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        struct raft_progress *peer = &raft->peers[i];
        if (peer->inflight_count > 0) continue;
        mem_free(raft->mem, peer->inflight, peer->inflight_cap * sizeof *peer->inflight);
        peer->inflight = NULL;
        peer->inflight_cap = peer->inflight_head = 0;
    }
}

void raft_quiet_verify(const struct raft *raft)
{
    if (!raft->quiet) return;

    check(raft->role == RAFT_LEADER ||
          (raft->role == RAFT_FOLLOWER && raft->leader.v != 0)); /* I11 */
    check(raft->commit.v == raft->log.last.v);                   /* I11 */
    check(raft->durable.v == raft->log.last.v);                  /* I11 */
    check(raft->n_writes == 0 && !raft->state_dirty);            /* I11 */
    check(!raft->state.doubtful && raft->transfer_to.v == 0);    /* I11 */
    if (raft->role != RAFT_LEADER) return;
    check(raft_is_ready(raft) && raft->confirmed == raft->round); /* I12 */
    for (uint32_t i = 0; i < raft->n_peers; i++)                  /* I12 */
        check(raft->peers[i].gone || raft->peers[i].match.v == raft->log.last.v);
}
