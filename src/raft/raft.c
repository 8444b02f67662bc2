/* SPDX-License-Identifier: Apache-2.0 */
/* The step, the end of the turn, and what both rest on: the log and its outstanding
 * writes. */
#include "raft/raft_state.h"

#include <string.h>

/* --- writes on their way to the disk --- */

static struct raft_write *write_at(const struct raft *raft, uint32_t nth)
{
    return &raft->writes[(raft->writes_head + nth) % raft->writes_cap];
}

static void write_push(struct raft *raft, struct raft_write write)
{
    if (raft->n_writes == raft->writes_cap) {
        const uint32_t cap = raft->writes_cap > 0 ? 2 * raft->writes_cap : 4;
        struct raft_write *fresh = mem_alloc(raft->mem, cap * sizeof *fresh);
        for (uint32_t i = 0; i < raft->n_writes; i++)
            fresh[i] = *write_at(raft, i);
        mem_free(raft->mem, raft->writes, raft->writes_cap * sizeof *fresh);
        raft->writes = fresh;
        raft->writes_cap = cap;
        raft->writes_head = 0;
    }
    raft->n_writes++;
    *write_at(raft, raft->n_writes - 1) = write;
}

/* The write after which the log is durable up to index; 0: it is.  A write that was
 * overtaken by a truncation counts only for what is left of it. */
uint64_t raft_mark_of(const struct raft *raft, struct log_index index)
{
    if (index.v <= raft->durable.v) return 0;
    for (uint32_t i = 0; i < raft->n_writes; i++) {
        const struct raft_write *write = write_at(raft, i);
        if (write->upto.v >= index.v) return write->mark;
    }
    check(false); /* asked before the turn's write was given out */
    return raft->mark;
}

static void on_durable(struct raft *raft, uint64_t mark)
{
    if (mark > raft->mark) {
        raft->refused++;
        return;
    }
    if (raft->n_writes > 0) write_at(raft, 0)->at = raft->now; /* the disk is alive */
    if (mark > raft->mark_durable) raft->mark_durable = mark;
    while (raft->n_writes > 0 && write_at(raft, 0)->mark <= mark) {
        const struct raft_write *write = write_at(raft, 0);
        if (write->upto.v > raft->durable.v) raft->durable = write->upto;
        raft->writes_head = (raft->writes_head + 1) % raft->writes_cap;
        raft->n_writes--;
        if (raft->n_writes > 0) write_at(raft, 0)->at = raft->now;
    }
}

/* --- the log, with all that hangs on it --- */

struct log_index raft_append(struct raft *raft, enum raft_entry_kind kind,
                             struct term term, struct bytes payload, struct block *block)
{
    struct block *made = NULL;

    if (block == NULL && payload.len >= BLOCK_BYTES_MIN) {
        struct buf copy = buf_new(raft->mem);
        buf_put(&copy, payload.at, payload.len);
        block = made = block_take(&copy);
        payload = buf_bytes(&made->bytes);
    }
    const struct log_index index = log_append(&raft->log, term, kind, payload, block);
    block_unref(made);

    if (raft->unwritten.v == 0) raft->unwritten = index;
    if (raft->role == RAFT_LEADER) {
        raft->uncommitted_bytes += log_cost(payload);
        if (block != NULL) raft->uncommitted_blocks += payload.len;
    }
    raft->turn_bytes += payload.len;
    raft_quiet_wake(raft);
    raft_quiet_busy(raft);
    if (kind == RAFT_CONFIG) raft_member_appended(raft, log_at(&raft->log, index));
    return index;
}

static void clamp(struct raft *raft, struct log_index last)
{
    if (raft->durable.v > last.v) raft->durable = last;
    if (raft->verified.v > last.v) raft->verified = last;
    if (raft->unwritten.v > last.v) raft->unwritten.v = 0;
    for (uint32_t i = 0; i < raft->n_writes; i++)
        if (write_at(raft, i)->upto.v > last.v) write_at(raft, i)->upto = last;
}

/* --- what gives way to another leader's entries --- */

static bool answers_early(const struct raft *raft)
{
    for (uint32_t i = 0; i < raft->n_configs; i++) {
        const struct raft_members *c = &raft->configs[i].config;
        if (c->rules.early || (c->n_old > 0 && c->old_rules.early)) return true;
    }
    return false;
}

static void discarded_clear(struct raft *raft)
{
    if (!raft->discarded_given) return;
    raft->discarded_given = false;
    raft->n_discarded = 0;
    buf_free(&raft->discarded_bytes);
}

void raft_note_discarded(struct raft *raft, struct log_index kept)
{
    discarded_clear(raft);
    for (uint64_t at = kept.v + 1; at <= raft->log.last.v; at++) {
        const struct raft_entry *e = log_at(&raft->log, (struct log_index){at});
        if (e == NULL || e->kind != RAFT_COMMAND) continue;
        if (raft->n_discarded == raft->discarded_cap) {
            const uint32_t cap = raft->discarded_cap > 0 ? 2 * raft->discarded_cap : 16;
            raft->discarded = mem_resize(raft->mem, raft->discarded,
                                         raft->discarded_cap * sizeof *raft->discarded,
                                         cap * sizeof *raft->discarded);
            raft->discarded_cap = cap;
        }
        raft->discarded[raft->n_discarded] = *e;
        raft->discarded[raft->n_discarded++].block = NULL; /* it is copied */
        buf_put(&raft->discarded_bytes, e->payload.at, e->payload.len);
    }
}

static void give_discarded(struct raft *raft, struct raft_out *out)
{
    discarded_clear(raft);
    if (raft->n_discarded == 0) return;

    const uint8_t *at = raft->discarded_bytes.at;
    uint32_t n = 0;
    for (uint32_t i = 0; i < raft->n_discarded; i++) {
        struct raft_entry e = raft->discarded[i];
        e.payload.at = at;
        at += e.payload.len;
        /* One that came back, as a leader that was cut off may send it again, is not gone. */
        if (raft->apart || log_term_at(&raft->log, e.index).v != e.term.v)
            raft->discarded[n++] = e;
    }
    raft->n_discarded = n;
    raft->discarded_given = true;
    out->discarded = raft->discarded;
    out->n_discarded = raft->n_discarded;
}

void raft_truncate(struct raft *raft, struct log_index last)
{
    check(last.v >= raft->commit.v);

    /* A new epoch gives up also what had been committed. */
    if (answers_early(raft) || !raft_elect_begun(raft)) raft_note_discarded(raft, last);
    log_truncate(&raft->log, last);
    clamp(raft, last);
    raft_member_truncated(raft);
}

void raft_reset_log(struct raft *raft, struct log_index base, struct term base_term)
{
    if (answers_early(raft) || !raft_elect_begun(raft))
        raft_note_discarded(raft, raft->commit);
    clamp(raft, raft->log.base);
    log_reset(&raft->log, base, base_term);
    raft->durable = base;
}

bool raft_is_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && raft->commit.v >= raft->noop_index.v;
}

/* --- messages --- */

struct raft_msg *raft_emit(struct raft *raft)
{
    if (raft->n_msgs == raft->msgs_cap) {
        const uint32_t cap = raft->msgs_cap > 0 ? 2 * raft->msgs_cap : 4;
        raft->msgs = mem_resize(raft->mem, raft->msgs,
                                raft->msgs_cap * sizeof *raft->msgs,
                                cap * sizeof *raft->msgs);
        raft->msgs_cap = cap;
    }
    return &raft->msgs[raft->n_msgs++];
}

/* For the end of the turn.  Who floods us is not answered without bound. */
void raft_enqueue(struct raft *raft, const struct raft_msg *msg)
{
    if (raft->n_queue == RAFT_QUEUE_MAX) {
        raft->refused++;
        return;
    }
    if (raft->n_queue == raft->queue_cap) {
        const uint32_t cap = raft->queue_cap > 0 ? 2 * raft->queue_cap : 4;
        raft->queue = mem_resize(raft->mem, raft->queue,
                                 raft->queue_cap * sizeof *raft->queue,
                                 cap * sizeof *raft->queue);
        raft->queue_cap = cap;
    }
    raft->queue[raft->n_queue++] = *msg;
}

static bool is_plausible(const struct raft *raft, const struct raft_msg *msg)
{
    const uint64_t low = msg->term.v & ((UINT64_C(1) << TERM_EPOCH_SHIFT) - 1);

    if (msg->kind < RAFT_APPEND || msg->kind >= RAFT_MSG_KIND_END) return false;
    if (msg->to.v != raft->settings.self.v || msg->from.v == raft->settings.self.v)
        return false;
    if (msg->from.v == 0 || msg->index.v > UINT64_MAX / 2) return false;
    /* So near to the end of its epoch that elections would run out of terms: no group
     * gets there by itself. */
    return low < UINT64_C(1) << (TERM_EPOCH_SHIFT - 1);
}

/* Only a request is answered: its sender learns the newer term and steps down. */
static void on_old_term(struct raft *raft, const struct raft_msg *msg)
{
    struct raft_msg reply = {
        .flags = RAFT_REJECT,
        .to = msg->from,
        .term = raft->state.term,
        .round = msg->round,
    };

    switch (msg->kind) {
    case RAFT_APPEND:
    case RAFT_SNAPSHOT:
        reply.kind = RAFT_APPEND_REPLY;
        reply.index = msg->index;
        break;
    case RAFT_VOTE: reply.kind = RAFT_VOTE_REPLY; break;
    case RAFT_READ_INDEX: reply.kind = RAFT_READ_INDEX_REPLY; break;
    case RAFT_PREVOTE:
    case RAFT_APPEND_REPLY:
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
    case RAFT_TIMEOUT_NOW:
    case RAFT_SNAPSHOT_REPLY:
    case RAFT_READ_INDEX_REPLY:
    case RAFT_MSG_KIND_END: return;
    }
    raft_enqueue(raft, &reply);
}

/* False: nothing more is to be done about this message. */
static bool settle_term(struct raft *raft, const struct raft_msg *msg)
{
    const bool hypothetical = msg->kind == RAFT_PREVOTE ||
                              (msg->kind == RAFT_PREVOTE_REPLY &&
                               !(msg->flags & RAFT_REJECT));

    if (hypothetical) return true;
    if (raft->settings.bug_old_epoch_accepted &&
        term_epoch(msg->term) < term_epoch(raft->state.term))
        return true;
    if (msg->term.v < raft->state.term.v) {
        on_old_term(raft, msg);
        return false;
    }
    if (msg->term.v > raft->state.term.v) {
        if (msg->kind == RAFT_VOTE && raft_elect_refuses(raft, msg)) return false;
        raft_elect_follow(raft, msg->term, (struct server_id){0});
    }
    return true;
}

/* One leader per term: a second one is not to be believed, whoever is wrong. */
static bool from_our_leader(struct raft *raft, const struct raft_msg *msg)
{
    if (raft->role != RAFT_LEADER &&
        (raft->leader.v == 0 || raft->leader.v == msg->from.v))
        return true;
    raft->refused++;
    return false;
}

static void on_message(struct raft *raft, const struct raft_msg *msg)
{
    if (!is_plausible(raft, msg)) {
        raft->refused++;
        return;
    }
    raft_quiet_on_message(raft, msg);
    if (!settle_term(raft, msg)) return;

    switch (msg->kind) {
    case RAFT_APPEND:
        if (from_our_leader(raft, msg)) raft_follow_on_append(raft, msg);
        break;
    case RAFT_SNAPSHOT:
        if (from_our_leader(raft, msg)) raft_follow_on_snapshot(raft, msg);
        break;
    case RAFT_APPEND_REPLY:
    case RAFT_SNAPSHOT_REPLY: raft_replicate_on_reply(raft, msg); break;
    case RAFT_PREVOTE: raft_elect_on_prevote(raft, msg); break;
    case RAFT_VOTE: raft_elect_on_vote(raft, msg); break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY: raft_elect_on_reply(raft, msg); break;
    case RAFT_TIMEOUT_NOW: raft_elect_on_timeout_now(raft, msg); break;
    case RAFT_READ_INDEX: raft_read_on_request(raft, msg); break;
    case RAFT_READ_INDEX_REPLY: raft_read_on_answer(raft, msg); break;
    case RAFT_MSG_KIND_END: break;
    }
}

/* --- other events --- */

static bool is_active(const struct raft *raft, const struct raft_progress *peer)
{
    return (raft->quiet && !peer->gone) ||
           raft->now.ns < peer->heard.ns + raft->settings.election_ns;
}

/* What `peer` may still need of the log: a snapshot under way what lies behind it, so that its
 * receiver connects; who answers, all that it has not got.  That costs nothing: what is in memory
 * has its own bound, and what is on disk is cut by its bytes, whatever we keep (wal.h). */
static uint64_t needed_from(const struct raft *raft, const struct raft_progress *peer)
{
    if (peer->snapshot_ready) return peer->snapshot_index.v;
    if (peer->snapshotting || peer->match.v == 0 || !is_active(raft, peer))
        return UINT64_MAX;
    return peer->match.v;
}

static void on_compact(struct raft *raft, struct log_index index, struct log_index keep)
{
    uint64_t upto = index.v > keep.v ? index.v - keep.v : 0;

    if (index.v > raft->applied.v) {
        raft->refused++;
        return;
    }
    for (uint32_t i = 0; i < raft->n_peers && raft->role == RAFT_LEADER; i++) {
        const uint64_t needed = needed_from(raft, &raft->peers[i]);
        if (needed < upto) upto = needed;
    }
    if (raft->settings.bug_cut_past_followers) upto = index.v;
    if (upto <= raft->log.base.v) return;
    log_compact(&raft->log, (struct log_index){upto});
    raft_member_compacted(raft);
    if (raft->durable.v < upto) raft->durable.v = upto; /* the checkpoint is */
    if (raft->unwritten.v > 0 && raft->unwritten.v <= upto)
        raft->unwritten.v = upto < raft->log.last.v ? upto + 1 : 0;
    if (raft->verified.v < upto) raft->verified.v = upto;
}

static void on_tick(struct raft *raft)
{
    if (raft->quiet) return;
    if (raft->role == RAFT_LEADER)
        raft_replicate_on_tick(raft);
    else
        raft_elect_on_tick(raft);
}

static void on_peer_lost(struct raft *raft, struct server_id peer)
{
    const bool led_from_there = raft->role == RAFT_FOLLOWER && raft->leader.v != 0 &&
                                raft->leader.v == peer.v;
    struct raft_progress *member = raft_member_find(raft, peer);

    if (led_from_there || (raft->role == RAFT_LEADER && member != NULL && !member->gone))
        raft_quiet_wake(raft);
    raft_replicate_on_peer_lost(raft, peer);
    if (member != NULL) member->gone = true;
    if (led_from_there) raft_elect_on_leader_lost(raft);
}

static void on_applied(struct raft *raft, struct log_index index)
{
    check(index.v <= raft->commit.v);
    if (index.v > raft->applied.v) raft->applied = index;
    raft_follow_applied(raft);
}

void raft_step(struct raft *raft, const struct raft_event *event)
{
    raft_verify(raft);
    if (event->now.ns > raft->now.ns) raft->now = event->now;

    switch (event->kind) {
    case RAFT_TICK: on_tick(raft); break;
    case RAFT_RECV: on_message(raft, event->msg); break;
    case RAFT_DURABLE: on_durable(raft, event->mark); break;
    case RAFT_UNSENT: raft_replicate_on_peer_lost(raft, event->peer); break;
    case RAFT_PEER_LOST: on_peer_lost(raft, event->peer); break;
    case RAFT_PEER_UP: raft_quiet_on_peer_up(raft, event->peer); break;
    case RAFT_WAKE:
        if (raft->leader.v == event->peer.v) raft_quiet_wake(raft);
        break;
    case RAFT_SILENT: raft_quiet_on_silent(raft, event->peer); break;
    case RAFT_CHANGE: raft_member_on_change(raft, event->config); break;
    case RAFT_TRANSFER_TO: raft_replicate_transfer(raft, event->peer); break;
    case RAFT_COMPACT: on_compact(raft, event->index, event->keep); break;
    case RAFT_SNAPSHOT_READY: raft_replicate_on_snapshot_ready(raft, event); break;
    case RAFT_SNAPSHOT_SENT: raft_replicate_on_snapshot_sent(raft, event); break;
    case RAFT_INSTALLED: raft_follow_on_installed(raft, event); break;
    case RAFT_LOADED: raft_replicate_on_loaded(raft, event); break;
    case RAFT_APPLIED: on_applied(raft, event->index); break;
    case RAFT_EPOCH:
        if (event->term.v > raft->state.term.v)
            raft_elect_follow(raft, event->term, (struct server_id){0});
        break;
    case RAFT_DECREE: raft_elect_on_decree(raft, event); break;
    }
    raft_verify(raft);
}

enum raft_propose_result raft_may_propose(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER) return RAFT_NOT_LEADER;
    if (raft->transfer_to.v != 0) return RAFT_TRANSFERRING;
    if (raft->uncommitted_bytes - raft->uncommitted_blocks >=
        raft->settings.uncommitted_bytes_max)
        return RAFT_FULL;
    return raft_member_can_ack(raft) ? RAFT_PROPOSED : RAFT_LONELY;
}

uint64_t raft_uncommitted_bytes(const struct raft *raft)
{
    return raft->uncommitted_bytes;
}

/* 0 while nothing is taken.  The bound in bytes is the caller's to ask for: a batch that
 * was begun under it is carried through. */
struct log_index raft_propose(struct raft *raft, struct bytes payload,
                              struct block *block)
{
    if (raft->role != RAFT_LEADER || raft->transfer_to.v != 0)
        return (struct log_index){0};
    return raft_append(raft, RAFT_COMMAND, raft->state.term, payload, block);
}

/* --- the end of the turn --- */

static void lead(struct raft *raft)
{
    raft_replicate_commit(raft);
    raft_member_leave_joint(raft);
    raft_replicate_commit(raft); /* a smaller quorum may do for what waits */
    const uint64_t acked = raft_member_acked(raft);
    if (acked > raft->acked.v) raft->acked.v = acked;
    if (raft->round_wanted) {
        raft->round_wanted = false;
        raft->round++;
    }
    raft_replicate_hand_over(raft);
    raft_read_confirm(raft);
}

static void give_writes(struct raft *raft, struct raft_out *out)
{
    if (!raft->state_dirty && raft->unwritten.v == 0) return;

    out->mark = ++raft->mark;
    if (raft->state_dirty) {
        raft->state_dirty = false;
        raft->state_mark = out->mark;
        out->write_state = true;
        out->state = raft->state;
    }
    if (raft->unwritten.v != 0) {
        out->append_from = raft->unwritten;
        out->append_upto = raft->log.last;
        raft->unwritten.v = 0;
    }
    /* A change of the rules is synced whatever they say: see note_boot(). */
    out->lazy = raft_member_rules(raft)->memory && !out->write_state &&
                raft_member_config_index(raft).v < out->append_from.v;
    write_push(raft, (struct raft_write){out->mark, out->append_upto, raft->now});
}

/* Nothing that names a term leaves before that term, and the vote in it, is durable.  (What the
 * caller sends of snapshots may: see README.md.) */
static void seal_messages(struct raft *raft)
{
    const uint64_t state_after = raft->state_mark > raft->mark_durable ? raft->state_mark
                                                                       : 0;
    const bool hasty = raft->settings.bug_vote_before_durable;

    for (uint32_t i = 0; i < raft->n_msgs; i++) {
        struct raft_msg *msg = &raft->msgs[i];
        const bool is_vote = msg->kind == RAFT_VOTE || msg->kind == RAFT_VOTE_REPLY;
        const bool is_reply = msg->kind == RAFT_APPEND_REPLY ||
                              msg->kind == RAFT_VOTE_REPLY ||
                              msg->kind == RAFT_PREVOTE_REPLY;
        msg->from = raft->settings.self;
        if (is_reply && raft->state.doubtful) msg->flags |= RAFT_DOUBTFUL;
        if (msg->after < state_after && !(is_vote && hasty)) msg->after = state_after;
    }
}

static void gather_messages(struct raft *raft, struct raft_out *out)
{
    for (uint32_t i = 0; i < raft->n_queue; i++)
        *raft_emit(raft) = raft->queue[i];
    raft->n_queue = 0;
    raft_follow_send(raft);
    raft->held_back = false;
    if (raft->role == RAFT_LEADER) raft_replicate_send(raft, out);
    raft->turn_bytes = 0;
    seal_messages(raft);
    out->msgs = raft->msgs;
    out->n_msgs = raft->n_msgs;
}

static struct instant next_wake(const struct raft *raft)
{
    struct instant at = raft->deadline;

    if (raft->quiet) return (struct instant){0};
    if (raft->role == RAFT_LEADER && raft->held_back) return raft->now;
    if (raft->role == RAFT_LEADER) return raft_replicate_wake(raft);
    if (raft_elect_leads_at_once(raft)) return raft->now;
    if (raft->read_asked != raft->read_answered) {
        const uint64_t refuse_at = raft->read_since.ns + raft->settings.election_ns;
        const uint64_t again_at = raft->read_sent.ns + raft->settings.heartbeat_ns;
        if (refuse_at < at.ns) at.ns = refuse_at;
        if (again_at < at.ns) at.ns = again_at;
    }
    return at;
}

static void tell_role(struct raft *raft, struct raft_out *out)
{
    out->role_changed = raft->role != raft->told_role ||
                        raft->leader.v != raft->told_leader.v ||
                        raft->state.term.v != raft->told_term.v;
    raft->told_role = raft->role;
    raft->told_leader = raft->leader;
    raft->told_term = raft->state.term;
}

void raft_turn_end(struct raft *raft, struct instant now, struct raft_out *out)
{
    if (now.ns > raft->now.ns) raft->now = now;
    *out = (struct raft_out){0};
    raft->n_msgs = 0;

    raft_quiet_turn(raft);
    if (raft->role == RAFT_LEADER) lead(raft);
    log_evict(&raft->log,
              raft->applied.v < raft->durable.v ? raft->applied : raft->durable,
              raft->settings.log_bytes_max);
    raft_read_send(raft);
    give_writes(raft, out);
    gather_messages(raft, out);
    /* Having told the others that our removal is committed, we have nothing left to
     * lead. */
    if (raft->role == RAFT_LEADER && raft_member_is_out(raft)) raft_elect_step_down(raft);

    raft_read_give(raft, out);
    out->commit = raft->commit;
    out->acked = raft->role == RAFT_LEADER ? raft->acked : raft->commit;
    give_discarded(raft, out);
    out->apart = raft->apart;
    out->apart_from = raft->apart_from;
    out->apart_upto = raft->apart_upto;
    out->confirmed_round = raft->role == RAFT_LEADER ? raft->confirmed : 0;
    out->accused = raft->accused;
    raft->accused.v = 0;
    tell_role(raft, out);
    out->quiet = raft->quiet;
    out->wake = next_wake(raft);
    raft_verify(raft);
}

/* --- beginning and end --- */

struct raft *raft_new(const struct raft_settings *settings,
                      const struct raft_start *start)
{
    struct raft *raft = mem_zero(settings->mem, sizeof *raft);

    check(settings->self.v != 0);
    check(settings->inflight_max > 0);
    check(settings->append_entries_max > 0);
    check(settings->heartbeat_ns > 0);
    check(settings->heartbeat_ns < settings->election_ns);
    check(settings->drift_ns < settings->election_ns);

    raft->settings = *settings;
    raft->mem = settings->mem;
    raft->prng = prng_seed(settings->seed);
    raft->now = start->now;
    raft->state = start->state;
    raft->state_dirty = start->state.doubtful; /* it must be on disk before we say so */
    raft->told_term = start->state.term;
    raft->loaded_bytes = buf_new(raft->mem);
    raft->discarded_bytes = buf_new(raft->mem);
    log_init(&raft->log, raft->mem, start->base, start->base_term);
    raft->commit = raft->applied = raft->durable = raft->verified = start->base;
    raft_member_init(raft, &start->config);
    raft_own_up_to_term(raft, start->base_term);
    raft_keep_still(raft);
    for (uint32_t i = 0; i < raft->n_peers; i++)
        raft->peers[i].gone = true; /* no connection stands until we are told of it */
    raft->read_asked = raft->read_answered = prng_next(&raft->prng) >> 24 << 20;
    raft_elect_reset_timer(raft);
    if (start->founder) raft->deadline.ns = start->now.ns + settings->heartbeat_ns;
    return raft;
}

void raft_free(struct raft *raft)
{
    struct mem *mem = raft->mem;

    log_free(&raft->log);
    raft_member_free(raft);
    buf_free(&raft->loaded_bytes);
    buf_free(&raft->discarded_bytes);
    mem_free(mem, raft->discarded, raft->discarded_cap * sizeof *raft->discarded);
    block_unref(raft->loaded_block);
    mem_free(mem, raft->loaded, raft->loaded_cap * sizeof *raft->loaded);
    mem_free(mem, raft->writes, raft->writes_cap * sizeof *raft->writes);
    mem_free(mem, raft->queue, raft->queue_cap * sizeof *raft->queue);
    mem_free(mem, raft->msgs, raft->msgs_cap * sizeof *raft->msgs);
    mem_free(mem, raft, sizeof *raft);
}

/* --- looking in --- */

void raft_info(const struct raft *raft, struct raft_info *out)
{
    *out = (struct raft_info){
        .role = raft->role,
        .term = raft->state.term,
        .leader = raft->leader,
        .ready = raft_is_ready(raft) && raft->applied.v >= raft->noop_index.v,
        .doubtful = raft->state.doubtful,
        .transferring = raft->transfer_to.v != 0,
        .joint = raft_member_is_joint(raft),
        .quiet = raft->quiet,
        .first = {raft->log.base.v + 1},
        .last = raft->log.last,
        .commit = raft->commit,
        .applied = raft->applied,
        .durable = raft->durable,
        .base = raft->log.base,
        .config = *raft_member_config(raft),
        .config_index = raft_member_config_index(raft),
        .config_committed = raft_member_config_index(raft).v <= raft->commit.v,
        .uncommitted_bytes = raft->uncommitted_bytes,
        .log_bytes = raft->log.bytes,
        .elections = raft->elections,
        .refused = raft->refused,
        .accusations = raft->accusations,
        .leader_heard = raft->leader_heard,
        .acked = raft->role == RAFT_LEADER ? raft->acked : raft->commit,
        .last_term = log_term_at(&raft->log, raft->log.last),
        .rebooted = raft->state.rebooted,
        .apart = raft->apart,
        .state_durable = !raft->state_dirty && raft->state_mark <= raft->mark_durable,
        .power_losses = raft->power_losses,
        .fresh_ns = raft->fresh_ns,
        .leader_last = raft->role == RAFT_LEADER ? raft->log.last : raft->leader_last,
    };
}

bool raft_peer(const struct raft *raft, uint32_t i, struct raft_peer *out)
{
    if (raft->role != RAFT_LEADER || i >= raft->n_peers) return false;

    const struct raft_progress *peer = &raft->peers[i];
    *out = (struct raft_peer){
        .id = peer->id,
        .voter = peer->voter,
        .learner = peer->learner,
        .active = is_active(raft, peer),
        .probing = peer->flow == RAFT_FLOW_PROBE,
        .snapshotting = peer->flow == RAFT_FLOW_SNAPSHOT || peer->snapshotting,
        .doubtful = peer->doubtful,
        .accused = peer->accused,
        .match = peer->match,
        .next = peer->next,
        .heard = peer->heard,
    };
    return true;
}

bool raft_peer_of(const struct raft *raft, struct server_id id, struct raft_peer *out)
{
    for (uint32_t i = 0; raft_peer(raft, i, out); i++)
        if (out->id.v == id.v) return true;
    return false;
}

bool raft_entry_at(const struct raft *raft, struct log_index index,
                   struct raft_entry *out)
{
    const struct raft_entry *entry = log_at(&raft->log, index);

    if (entry == NULL) return false;
    *out = *entry;
    return true;
}

struct term raft_term_at(const struct raft *raft, struct log_index index)
{
    return log_term_at(&raft->log, index);
}

static void verify_peers(const struct raft *raft)
{
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        const struct raft_progress *peer = &raft->peers[i];
        check(peer->match.v < peer->next.v);                        /* I7 */
        check(peer->next.v <= raft->log.last.v + 1);                /* I7 */
        check(peer->inflight_count <= raft->settings.inflight_max); /* I10 */
    }
}

static void verify_lists(const struct raft *raft)
{
    for (uint32_t i = 0; i < raft->n_writes; i++) {
        check(write_at(raft, i)->upto.v <= raft->log.last.v);                   /* I3 */
        check(i == 0 || write_at(raft, i - 1)->mark < write_at(raft, i)->mark); /* I3 */
    }
    for (uint32_t i = 0; i < raft->n_configs; i++) {
        const struct log_index at = raft->configs[i].index;
        check(i > 0 ? at.v > raft->log.base.v : at.v <= raft->log.base.v); /* I9 */
        check(at.v <= raft->log.last.v);                                   /* I9 */
        check(i == 0 || raft->configs[i - 1].index.v < at.v);              /* I9 */
    }
}

void raft_verify(const struct raft *raft)
{
    const bool stands = raft->role == RAFT_CANDIDATE || raft->role == RAFT_LEADER;

    check(raft->log.base.v <= raft->applied.v);                             /* I1 */
    check(raft->applied.v <= raft->commit.v);                               /* I1 */
    check(raft->commit.v <= raft->log.last.v);                              /* I1 */
    check(raft->log.base.v <= raft->durable.v);                             /* I2 */
    check(raft->durable.v <= raft->log.last.v);                             /* I2 */
    check(log_term_at(&raft->log, raft->log.last).v <= raft->state.term.v); /* I5 */
    check(raft->verified.v <= raft->log.last.v);                            /* I6 */
    check(!stands || raft->state.vote.v == raft->settings.self.v);          /* I8 */
    check(!stands || !raft->state.doubtful || raft->state.rebooted);        /* I8 */
    check(raft->role != RAFT_LEADER || !raft->state.doubtful);              /* I8 */
    check(!raft->state.rebooted || raft->state.doubtful);                   /* I8 */
    if (raft->role == RAFT_LEADER) {
        check(log_term_at(&raft->log, raft->noop_index).v == raft->state.term.v ||
              raft->noop_index.v < raft->log.base.v); /* I4 */
        verify_peers(raft);
    }
    raft_quiet_verify(raft);
#ifdef SENNIT_CHECK_SLOW
    verify_lists(raft);
    log_verify(&raft->log);
#else
    (void)verify_lists;
#endif
}
