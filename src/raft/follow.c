/* SPDX-License-Identifier: Apache-2.0 */
/* The follower's side: taking entries in, acknowledging them, and switching to a snapshot
 * [RAFT 5.3, 7].
 *
 * What is acknowledged is `verified`: the part of our log that the leader of this term
 * has shown to be its own by matching, never our whole tail, which may be another
 * leader's.  The acknowledgement carries the mark of the write that holds the last of
 * it.  A heartbeat or a new read round is also answered at once, with what is durable
 * already: neither contact nor reads need to wait for our disk. */
#include "raft/raft_state.h"

#include <string.h>

/* What a sane leader of the message's term could have sent. */
static bool is_sound(const struct raft_msg *msg)
{
    struct term before = msg->log_term;

    if (msg->index.v > UINT64_MAX / 2 || before.v > msg->term.v) return false;
    for (uint32_t i = 0; i < msg->n_entries; i++) {
        const struct raft_entry *e = &msg->entries[i];
        struct raft_config config;
        if (e->index.v != msg->index.v + 1 + i) return false;
        if (e->term.v < before.v || e->term.v > msg->term.v) return false;
        if (e->kind < RAFT_NOOP || e->kind > RAFT_CONFIG) return false;
        if (e->kind == RAFT_CONFIG && !raft_config_decode(e->payload, &config))
            return false;
        before = e->term;
    }
    return true;
}

/* The entry that the leader should try next: our last one whose term is not above that of
 * the entry it named, but nothing below commit, which is in every leader's log. */
static void refuse(struct raft *raft, const struct raft_msg *msg)
{
    struct log_index hint = log_find_term(&raft->log, msg->index, msg->log_term);

    if (hint.v < raft->commit.v) hint = raft->commit;
    raft->ack.reject = true;
    raft->ack.prev = msg->index;
    raft->ack.hint = hint;
    raft->ack.hint_term = log_term_at(&raft->log, hint);
}

/* Two logs that differ at or below commit.  Within an epoch one of them is broken, and cutting
 * ours could only make it worse: counted, and left alone.  Where an epoch began without the consent
 * of those who had committed this, it is what was agreed to lose. */
static void differs_below_commit(struct raft *raft, const struct raft_msg *msg,
                                 struct log_index same)
{
    const struct term ours = log_term_at(&raft->log, raft->commit);

    if (term_epoch(msg->term) <= term_epoch(ours)) {
        raft->refused++;
        return;
    }
    raft_note_discarded(raft, same);
    raft->apart = true;
    if (same.v + 1 >= raft->log.mem_first.v) return;
    raft->apart_from.v = (same.v > raft->log.base.v ? same.v : raft->log.base.v) + 1;
    raft->apart_upto.v = raft->log.mem_first.v - 1;
}

/* Below commit, where a new epoch's leader tried an entry that is not ours: lower, until the place
 * is found up to which the logs are one.  What lies behind it is what is given up, no less. */
static void refuse_below_commit(struct raft *raft, const struct raft_msg *msg)
{
    const struct log_index below = {msg->index.v - 1};

    raft->ack.reject = true;
    raft->ack.prev = msg->index;
    raft->ack.hint = log_find_term(&raft->log, below, msg->log_term);
    raft->ack.hint_term = log_term_at(&raft->log, raft->ack.hint);
}

/* Up to where our log holds these entries. */
static struct log_index common(const struct raft *raft, struct log_index prev,
                               const struct raft_entry *entries, uint32_t n)
{
    uint32_t i = 0;

    while (i < n && log_term_at(&raft->log, entries[i].index).v == entries[i].term.v)
        i++;
    return (struct log_index){prev.v + i};
}

/* They match, and there is no room for them: as if what comes behind them had been refused,
 * so that they are sent again. */
static void refuse_for_now(struct raft *raft, const struct raft_msg *msg)
{
    refuse(raft, &(struct raft_msg){
                     .index = {msg->index.v + msg->n_entries},
                     .log_term = log_term_at(&raft->log, msg->index),
                 });
}

/* Entries that are here already stay; the first that differs ends ours.  False: it lies at or below
 * commit. */
static bool merge(struct raft *raft, struct log_index prev,
                  const struct raft_entry *entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct log_index at = {prev.v + 1 + i};
        if (at.v <= raft->log.last.v) {
            if (log_term_at(&raft->log, at).v == entries[i].term.v) continue;
            if (raft->settings.bug_no_truncate) continue;
            if (at.v <= raft->commit.v) return false;
            raft_truncate(raft, (struct log_index){at.v - 1});
        }
        raft_append(raft, entries[i].kind, entries[i].term, entries[i].payload,
                    entries[i].block);
    }
    return true;
}

static void accepted(struct raft *raft, const struct raft_msg *msg, struct log_index upto)
{
    if (upto.v > raft->verified.v) raft->verified = upto;
    /* Verified can lie below our commit: where an epoch began nothing is, until it is compared. */
    const uint64_t known = msg->commit.v < raft->verified.v ? msg->commit.v
                                                            : raft->verified.v;
    if (known > raft->commit.v) raft->commit.v = known;
    raft->ack.due = true;
    if (raft->ack.reject && raft->ack.prev.v <= raft->verified.v)
        raft->ack.reject = false;
    if ((msg->flags & RAFT_CLEARED) && raft->state.doubtful) {
        raft->state.doubtful = raft->state.rebooted = false;
        raft->state_dirty = true;
    }
}

static void note_round(struct raft *raft, const struct raft_msg *msg)
{
    struct raft_ack *ack = &raft->ack;

    if (!ack->due && !ack->reject) *ack = (struct raft_ack){0};
    if (msg->n_entries == 0 || msg->round > raft->round_seen) ack->at_once = true;
    if (msg->round > raft->round_seen) raft->round_seen = msg->round;
    if (msg->round > ack->round) ack->round = msg->round;
    if (msg->sent_ns > ack->sent_ns) ack->sent_ns = msg->sent_ns;
    ack->flags |= msg->flags & RAFT_LEASE;
}

/* ---- how old our state can be ---- */

static void note_stamp(struct raft *raft, const struct raft_msg *msg)
{
    const uint64_t newest = raft->n_stamps > 0 ? raft->stamps[raft->n_stamps - 1].at_ns
                                               : raft->fresh_ns;

    if (msg->last.v > raft->leader_last.v) raft->leader_last = msg->last;
    if (msg->stamp_ns <= newest || msg->stamp_ns > raft->now.ns) return;
    /* When all places wait the newest gives way, so that the oldest gets its turn. */
    if (raft->n_stamps == RAFT_STAMPS_MAX) raft->n_stamps--;
    raft->stamps[raft->n_stamps++] = (struct raft_stamp){msg->stamp_ns, msg->last};
    raft_follow_applied(raft);
}

void raft_follow_applied(struct raft *raft)
{
    uint32_t n = 0;

    while (n < raft->n_stamps && raft->stamps[n].last.v <= raft->applied.v)
        raft->fresh_ns = raft->stamps[n++].at_ns;
    if (n == 0) return;
    raft->n_stamps -= n;
    memmove(raft->stamps, raft->stamps + n, raft->n_stamps * sizeof *raft->stamps);
}

/* Whether entries can be taken now: when memory is full of what has yet to be applied,
 * they are dropped, and the leader is told. */
static bool has_room(const struct raft *raft)
{
    return raft->log.bytes <= raft->settings.log_bytes_max ||
           raft->applied.v == raft->commit.v;
}

void raft_follow_on_append(struct raft *raft, const struct raft_msg *msg)
{
    const struct raft_entry *entries = msg->entries;
    struct log_index prev = msg->index;
    uint32_t n = has_room(raft) ? msg->n_entries : 0;

    if (!is_sound(msg)) {
        raft->refused++;
        return;
    }
    raft_elect_leader_heard(raft, msg);
    if (raft->apart) return;
    note_round(raft, msg);
    note_stamp(raft, msg);
    if ((msg->flags & RAFT_DOUBTFUL) && !raft->state.doubtful) {
        raft->state.doubtful = true;
        raft->state_dirty = true;
    }

    if (prev.v < raft->log.base.v &&
        term_epoch(msg->term) > term_epoch(raft->log.base_term)) {
        differs_below_commit(raft, msg,
                             raft->log.base); /* it can't be compared any more */
        return;
    }
    if (prev.v < raft->log.base.v) { /* what the base covers is committed: it matches */
        const uint64_t skip = raft->log.base.v - prev.v;
        if (n <= skip) {
            accepted(raft, msg, raft->log.base);
            return;
        }
        entries += skip;
        n -= (uint32_t)skip;
        prev = raft->log.base;
    } else if (prev.v > raft->log.last.v ||
               log_term_at(&raft->log, prev).v != msg->log_term.v) {
        if (prev.v > raft->commit.v)
            refuse(raft, msg);
        else if (prev.v > raft->log.base.v && !raft_elect_begun(raft))
            refuse_below_commit(raft, msg);
        else
            differs_below_commit(raft, msg, raft->log.base);
        return;
    }
    if (!merge(raft, prev, entries, n)) {
        differs_below_commit(raft, msg, common(raft, prev, entries, n));
        return;
    }
    accepted(raft, msg, (struct log_index){prev.v + n});
    if (n == 0 && msg->n_entries > 0) refuse_for_now(raft, msg);
    if (msg->flags & RAFT_QUIET) raft_quiet_follow(raft, msg);
}

/* --- snapshots --- */

void raft_follow_on_snapshot(struct raft *raft, const struct raft_msg *msg)
{
    const bool fits = log_term_at(&raft->log, msg->index).v == msg->log_term.v;

    raft_elect_leader_heard(raft, msg);
    if (raft->apart) return;
    /* It may take the place of what was committed, and nobody can tell any more. */
    if (!raft_elect_begun(raft) && raft->commit.v > 0 && !fits) {
        differs_below_commit(raft, msg, raft->log.base);
        return;
    }
    if (msg->index.v > raft->commit.v) return;

    /* Of no use: tell where we are, so that the leader goes on from there. */
    note_round(raft, &(struct raft_msg){.n_entries = 1});
    raft->ack.due = true;
}

bool raft_snapshot_welcome(const struct raft *raft, const struct raft_msg *msg)
{
    return msg->kind == RAFT_SNAPSHOT && raft->role == RAFT_FOLLOWER &&
           msg->term.v == raft->state.term.v && msg->from.v == raft->leader.v &&
           msg->index.v > raft->commit.v && !raft->apart;
}

/* The suffix is kept only if it follows from the snapshot; a log that differs at its last
 * entry is another history, and keeping it would refuse every append from here on. */
void raft_follow_on_installed(struct raft *raft, const struct raft_event *event)
{
    const bool fits = event->index.v <= raft->log.last.v &&
                      log_term_at(&raft->log, event->index).v == event->term.v;

    check(event->config != NULL);
    if (event->index.v <= raft->applied.v || event->index.v <= raft->log.base.v) return;
    if (!fits && (raft->role == RAFT_LEADER || event->index.v <= raft->commit.v)) {
        raft->refused++;
        return;
    }
    if (fits)
        log_compact(&raft->log, event->index);
    else
        raft_reset_log(raft, event->index, event->term);
    raft_member_installed(raft, event->config);
    raft->applied = event->index;
    if (raft->commit.v < event->index.v) raft->commit = event->index;
    if (raft->verified.v < event->index.v) raft->verified = event->index;
    if (raft->durable.v < event->index.v) raft->durable = event->index;
    if (raft->unwritten.v > 0 && raft->unwritten.v <= event->index.v)
        raft->unwritten.v = event->index.v < raft->log.last.v ? event->index.v + 1 : 0;
    if (raft->role == RAFT_FOLLOWER && raft->leader.v != 0) {
        note_round(raft, &(struct raft_msg){.n_entries = 1});
        raft->ack.due = true;
    }
}

/* --- answers --- */

static void emit_ack(struct raft *raft, struct log_index match, uint64_t after)
{
    const struct raft_ack *ack = &raft->ack;

    *raft_emit(raft) = (struct raft_msg){
        .kind = RAFT_APPEND_REPLY,
        .flags = ack->flags,
        .to = raft->leader,
        .term = raft->state.term,
        .index = match,
        .log_term = log_term_at(&raft->log, match),
        .round = ack->round,
        .sent_ns = ack->sent_ns,
        .stamp_ns = raft->now.ns,
        .after = after,
    };
}

static void emit_refusal(struct raft *raft)
{
    const struct raft_ack *ack = &raft->ack;

    *raft_emit(raft) = (struct raft_msg){
        .kind = RAFT_APPEND_REPLY,
        .flags = ack->flags | RAFT_REJECT,
        .to = raft->leader,
        .term = raft->state.term,
        .index = ack->prev,
        .log_term = ack->hint_term,
        .commit = ack->hint,
        .round = ack->round,
        .sent_ns = ack->sent_ns,
        .stamp_ns = raft->now.ns,
    };
}

/* One answer for all the appends of this turn; called when the turn's write has its
 * mark. */
void raft_follow_send(struct raft *raft)
{
    const struct raft_ack *ack = &raft->ack;

    if (raft->role == RAFT_FOLLOWER && raft->leader.v != 0 && ack->due) {
        const uint64_t mark = raft_mark_of(raft, raft->verified);
        if (raft->settings.bug_ack_before_durable) {
            emit_ack(raft, raft->verified, 0);
        } else {
            if (mark > 0 && ack->at_once) emit_ack(raft, raft->durable, 0);
            emit_ack(raft, raft->verified, mark);
        }
    }
    if (raft->role == RAFT_FOLLOWER && raft->leader.v != 0 && ack->reject)
        emit_refusal(raft);
    raft->ack = (struct raft_ack){0};
}
