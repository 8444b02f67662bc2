/* SPDX-License-Identifier: Apache-2.0 */
/* The leader's side: what each follower is sent, what its answers mean, what is committed
 * [RAFT 5.3, 5.4.2], and handing leadership over [THESIS 3.10].
 *
 *                 logs meet                    log does not reach back
 *      PROBE ───────────────────► PIPELINE ───────────────────────────► SNAPSHOT
 *        ▲ ▲       refused, lost      │                                    │
 *        │ └──────────────────────────┘         sent, or it connects       │
 *        └─────────────────────────────────────────────────────────────────┘
 *
 * A heartbeat to a follower in PIPELINE is an empty append behind the last one sent, so
 * it is refused when anything before it was lost; that is how losses are found without
 * timers per message.  In PROBE the heartbeat is the probe once more. */
#include "raft/raft_state.h"

#include <string.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void window_clear(struct raft_progress *peer)
{
    peer->inflight_head = peer->inflight_count = 0;
    peer->inflight_bytes = 0;
    peer->large.v = 0;
}

/* What is larger than one message travels in pieces, and smaller messages pass it by. */
static bool is_large(const struct raft *raft, uint64_t bytes)
{
    return bytes > raft->settings.append_bytes_max;
}

static bool large_is_under_way(const struct raft_progress *peer)
{
    return peer->large.v > peer->match.v;
}

static bool window_has_room(const struct raft *raft, const struct raft_progress *peer)
{
    return peer->inflight_count < raft->settings.inflight_max &&
           (peer->inflight_count == 0 ||
            peer->inflight_bytes < raft->settings.inflight_bytes_max);
}

/* Doubled while it fills: most groups have little to send most of the time. */
static void window_grow(struct raft *raft, struct raft_progress *peer)
{
    const uint32_t before = peer->inflight_cap;
    const uint32_t most = raft->settings.inflight_max;
    const uint32_t cap = before == 0 ? (most < 4 ? most : 4)
                                     : (2 * before < most ? 2 * before : most);
    struct raft_inflight *ring = mem_alloc(raft->mem, cap * sizeof *ring);

    for (uint32_t i = 0; i < peer->inflight_count; i++)
        ring[i] = peer->inflight[(peer->inflight_head + i) % before];
    mem_free(raft->mem, peer->inflight, before * sizeof *ring);
    peer->inflight = ring;
    peer->inflight_cap = cap;
    peer->inflight_head = 0;
}

static void window_add(struct raft *raft, struct raft_progress *peer,
                       struct log_index last, uint64_t bytes)
{
    if (peer->inflight_count == peer->inflight_cap) window_grow(raft, peer);

    const uint32_t at = (peer->inflight_head + peer->inflight_count) % peer->inflight_cap;
    peer->inflight[at] = (struct raft_inflight){last, bytes};
    peer->inflight_count++;
    peer->inflight_bytes += bytes;
}

/* Freed by index: an answer to a later message answers for the earlier ones. */
static void window_free(struct raft_progress *peer)
{
    while (peer->inflight_count > 0 &&
           peer->inflight[peer->inflight_head].last.v <= peer->match.v) {
        peer->inflight_bytes -= peer->inflight[peer->inflight_head].bytes;
        peer->inflight_head = (peer->inflight_head + 1) % peer->inflight_cap;
        peer->inflight_count--;
    }
}

static void set_flow(struct raft_progress *peer, enum raft_flow flow)
{
    peer->flow = flow;
    peer->probe_sent = false;
    window_clear(peer);
}

static void probe_from(struct raft_progress *peer, uint64_t next)
{
    set_flow(peer, RAFT_FLOW_PROBE);
    peer->next.v = max_u64(next, peer->match.v + 1);
}

void raft_replicate_reset_peer(struct raft *raft, struct raft_progress *peer)
{
    const struct raft_progress old = *peer;

    raft->n_snapshotting -= old.snapshotting;
    *peer = (struct raft_progress){
        .id = old.id,
        .voter = old.voter,
        .learner = old.learner,
        .gone = old.gone,
        .inflight = old.inflight,
        .inflight_cap = old.inflight_cap,
        .next = {raft->log.last.v + 1},
        .heard = raft->now, /* a new member has an election timeout to answer */
    };
}

void raft_replicate_lead(struct raft *raft)
{
    raft->role = RAFT_LEADER;
    raft->leader = raft->settings.self;
    raft->leader_lost = false;
    raft->led_since = raft->now;
    raft_quiet_busy(raft);
    raft->lease_void = raft->lease_used = false;
    raft->confirmed = raft->round;
    raft->round_wanted = true;
    raft->uncommitted_bytes = raft->uncommitted_blocks = 0;
    raft->counted = raft->acked = raft->commit;
    if (raft->state.doubtful) { /* whole by definition: see Power in raft.h */
        raft->power_losses += raft_member_is_unsure(raft);
        raft->state.doubtful = raft->state.rebooted = false;
        raft->state_dirty = true;
    }
    for (uint32_t i = 0; i < raft->n_peers; i++)
        raft_replicate_reset_peer(raft, &raft->peers[i]);
    for (uint64_t at = raft->commit.v + 1; at <= raft->log.last.v; at++) {
        const struct raft_entry *entry = log_at(&raft->log, (struct log_index){at});
        if (entry == NULL) continue;
        raft->uncommitted_bytes += log_cost(entry->payload);
        if (entry->block != NULL) raft->uncommitted_blocks += entry->payload.len;
    }
    raft->noop_index = raft_append(raft, RAFT_NOOP, raft->state.term,
                                   (struct bytes){NULL, 0}, NULL);
}

/* --- answers --- */

/* A replica that lost part of its log: nothing that it said before can be relied on. */
static void on_doubt(struct raft *raft, struct raft_progress *peer)
{
    if (peer->doubtful) return;

    peer->doubtful = true;
    peer->clearing = false;
    if (!raft->settings.bug_doubtful_counts) peer->match.v = 0;
    peer->doubt_last = raft->log.last;
    peer->doubt_round = raft->round + 1;
    raft->round_wanted = true;
    if (peer->flow != RAFT_FLOW_SNAPSHOT) probe_from(peer, raft->log.last.v + 1);
}

/* Whether a refusal shows that entries are gone which this replica had acknowledged.  In a
 * term a log only grows at its leader, so who has acknowledged up to match refuses nothing
 * at or below it, and hints at nothing below it.  Only an answer to what left after that
 * acknowledgement had come is a proof: an older one may just have been overtaken. */
static bool shows_loss(const struct raft_progress *peer, const struct raft_msg *msg)
{
    if (msg->kind != RAFT_APPEND_REPLY || !(msg->flags & RAFT_REJECT)) return false;
    if (peer->match.v == 0 || msg->sent_ns <= peer->matched.ns) return false;
    return msg->index.v <= peer->match.v || msg->commit.v < peer->match.v;
}

/* It has to learn of it from us: it must not vote either, and the next leader must hear. */
static void accuse(struct raft *raft, struct raft_progress *peer)
{
    if (peer->doubtful) return;

    on_doubt(raft, peer);
    peer->accused = peer->send_now = true;
    raft->accused = peer->id;
    raft->accusations++;
}

/* An answer without the flag ends the doubt only when it is to an append that cleared it: any
 * other may be older than the doubt, or come from one that does not know of it yet. */
static void judge(struct raft *raft, struct raft_progress *peer,
                  const struct raft_msg *msg)
{
    if (msg->flags & RAFT_DOUBTFUL) {
        /* It lost once more what it had taken in since we heard of its doubt. */
        if (shows_loss(peer, msg)) peer->doubtful = false;
        on_doubt(raft, peer);
        peer->accused = false;
    } else if (shows_loss(peer, msg)) {
        accuse(raft, peer);
    } else if (peer->clearing && msg->kind == RAFT_APPEND_REPLY &&
               !(msg->flags & RAFT_REJECT) && msg->sent_ns >= peer->cleared.ns) {
        peer->doubtful = peer->clearing = false;
    }
}

/* Whole again: it holds all that could be committed when the doubt was heard of, and all
 * other voters have since answered in this term.  The rounds matter: an answer that was
 * under way before could come from a voter that stands in a higher term by now, with a
 * vote that the doubtful one gave it and forgot. */
static bool doubt_is_over(const struct raft *raft, const struct raft_progress *peer)
{
    if (peer->accused || peer->match.v < peer->doubt_last.v) return false;
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        const struct raft_progress *other = &raft->peers[i];
        if (other != peer && other->voter && other->round_heard < peer->doubt_round)
            return false;
    }
    return true;
}

static void on_refused(struct raft *raft, struct raft_progress *peer,
                       const struct raft_msg *msg)
{
    if (peer->flow == RAFT_FLOW_SNAPSHOT) return;
    if (peer->flow == RAFT_FLOW_PROBE && msg->index.v + 1 != peer->next.v) return;
    if (peer->flow == RAFT_FLOW_PIPELINE && msg->index.v <= peer->match.v) return;

    /* The follower's last entry of the hinted term or before: what lies between that and
     * ours of that term or before can't match, so whole terms are skipped [RAFT 5.3]. */
    const uint64_t refused = msg->index.v > 0 ? msg->index.v - 1 : 0;
    const struct log_index hint = {min_u64(msg->commit.v, refused)};
    const struct log_index meet = log_find_term(&raft->log, hint, msg->log_term);
    probe_from(peer, (hint.v < raft->log.base.v ? hint.v : meet.v) + 1);
}

static void on_accepted(struct raft *raft, struct raft_progress *peer,
                        const struct raft_msg *msg)
{
    if (msg->index.v > raft->log.last.v) {
        raft->refused++;
        return;
    }
    if (msg->index.v > peer->match.v) {
        peer->match = msg->index;
        peer->matched = raft->now;
    }
    peer->next.v = max_u64(peer->next.v, peer->match.v + 1);
    window_free(peer);
    switch (peer->flow) {
    case RAFT_FLOW_PIPELINE: break;
    case RAFT_FLOW_SNAPSHOT:
        if (peer->match.v < raft->log.base.v) return;
        set_flow(peer, RAFT_FLOW_PIPELINE);
        peer->next.v = peer->match.v + 1;
        break;
    case RAFT_FLOW_PROBE:
        if (peer->match.v < raft->log.base.v) return;
        set_flow(peer, RAFT_FLOW_PIPELINE);
        peer->next.v = peer->match.v + 1;
        break;
    }
}

void raft_replicate_on_reply(struct raft *raft, const struct raft_msg *msg)
{
    struct raft_progress *peer = raft_member_find(raft, msg->from);

    if (peer == NULL || raft->role != RAFT_LEADER) return;
    if (msg->round > raft->round || msg->sent_ns > raft->now.ns) {
        raft->refused++;
        return;
    }
    judge(raft, peer, msg);
    peer->gone = false;
    peer->heard = raft->now;
    if (msg->stamp_ns != 0) peer->stamp_ns = msg->stamp_ns;
    peer->round_heard = max_u64(peer->round_heard, msg->round);
    if (msg->flags & RAFT_LEASE) peer->lease_ns = max_u64(peer->lease_ns, msg->sent_ns);
    if (msg->kind != RAFT_APPEND_REPLY) return;
    if (msg->flags & RAFT_REJECT)
        on_refused(raft, peer, msg);
    else
        on_accepted(raft, peer, msg);
}

void raft_replicate_on_peer_lost(struct raft *raft, struct server_id id)
{
    struct raft_progress *peer = raft_member_find(raft, id);

    if (peer == NULL || raft->role != RAFT_LEADER) return;
    /* Its next life may have lost more: a doubt that is still open begins again with it, or
     * that life would be cleared by what this one has answered. */
    if (peer->doubtful) {
        peer->doubtful = false;
        on_doubt(raft, peer);
    }
    if (peer->flow == RAFT_FLOW_PIPELINE) probe_from(peer, peer->match.v + 1);
    peer->read_number = peer->read_number_next = 0;
    peer->stamp_ns = 0; /* its next life has another clock */
}

/* --- snapshots and loaded entries --- */

static void want_snapshot(struct raft_progress *peer)
{
    if (peer->flow != RAFT_FLOW_SNAPSHOT) set_flow(peer, RAFT_FLOW_SNAPSHOT);
    if (peer->snapshotting) return;
    peer->snapshot_wanted = true;
}

void raft_replicate_on_snapshot_ready(struct raft *raft, const struct raft_event *event)
{
    struct raft_progress *peer = raft_member_find(raft, event->peer);

    if (peer == NULL || raft->role != RAFT_LEADER || !peer->snapshotting) return;
    peer->snapshot_ready = true;
    peer->snapshot_index = event->index;
}

/* After a failure the next one waits for a heartbeat, as any other probe does. */
void raft_replicate_on_snapshot_sent(struct raft *raft, const struct raft_event *event)
{
    struct raft_progress *peer = raft_member_find(raft, event->peer);

    if (peer == NULL || raft->role != RAFT_LEADER || !peer->snapshotting) return;
    if (peer->flow == RAFT_FLOW_SNAPSHOT) {
        const bool arrived = event->ok && peer->snapshot_ready &&
                             peer->snapshot_index.v <= raft->log.last.v;
        probe_from(peer, arrived ? peer->snapshot_index.v + 1 : peer->match.v + 1);
        if (!arrived)
            peer->snapshot_after.ns = raft->now.ns + raft->settings.heartbeat_ns;
    }
    peer->snapshotting = peer->snapshot_ready = false;
    raft->n_snapshotting--;
}

static void keep_loaded(struct raft *raft, const struct raft_entry *entries, uint32_t n)
{
    block_unref(raft->loaded_block);
    raft->loaded_block = NULL;
    raft->loaded_bytes.len = 0;
    buf_reserve(&raft->loaded_bytes, 1); /* an empty payload, too, lies somewhere */
    for (uint32_t i = 0; i < n; i++)
        buf_put(&raft->loaded_bytes, entries[i].payload.at, entries[i].payload.len);

    const uint8_t *at = raft->loaded_bytes.at;
    if (raft->loaded_bytes.len >= BLOCK_BYTES_MIN)
        raft->loaded_block = block_take(&raft->loaded_bytes);
    for (uint32_t i = 0; i < n; i++) {
        raft->loaded[i] = entries[i];
        raft->loaded[i].payload.at = at;
        raft->loaded[i].block = entries[i].payload.len >= BLOCK_BYTES_MIN
                                    ? raft->loaded_block
                                    : NULL;
        at += raft->loaded[i].payload.len;
    }
    raft->n_loaded = n;
}

void raft_replicate_on_loaded(struct raft *raft, const struct raft_event *event)
{
    const struct raft_load asked = raft->load;
    uint32_t n = 0;

    if (!raft->load_out) return;
    raft->load_out = false;
    if (raft->role != RAFT_LEADER) return;
    while (n < event->n_entries) {
        const struct raft_entry *e = &event->entries[n];
        if (e->index.v != asked.from.v + n || e->index.v > asked.upto.v ||
            e->term.v != log_term_at(&raft->log, e->index).v)
            break;
        n++;
    }
    raft->n_loaded = 0;
    if (n == 0) { /* gone, or not what the log says: only a snapshot can help */
        struct raft_progress *peer = raft_member_find(raft, raft->load_peer);
        if (peer != NULL && peer->next.v < raft->log.mem_first.v) want_snapshot(peer);
        return;
    }
    if (raft->loaded_cap < n) {
        raft->loaded = mem_resize(raft->mem, raft->loaded,
                                  raft->loaded_cap * sizeof *raft->loaded,
                                  n * sizeof *raft->loaded);
        raft->loaded_cap = n;
    }
    keep_loaded(raft, event->entries, n);
}

static void ask_load(struct raft *raft, const struct raft_progress *peer)
{
    if (raft->load_out || raft->load_asked) return;

    raft->load = (struct raft_load){
        .from = peer->next,
        .upto = {raft->log.mem_first.v - 1},
        .bytes_max = raft->settings.append_bytes_max,
    };
    raft->load_peer = peer->id;
    raft->load_asked = true;
}

/* Entries from `from` on that can be sent now, in memory or loaded; NULL: none. */
static const struct raft_entry *sendable(const struct raft *raft, struct log_index from,
                                         uint64_t *n)
{
    if (from.v >= raft->log.mem_first.v) {
        *n = raft->log.last.v + 1 - from.v;
        return log_at(&raft->log, from);
    }
    if (raft->n_loaded > 0 && from.v >= raft->loaded[0].index.v &&
        from.v < raft->loaded[0].index.v + raft->n_loaded) {
        const uint64_t at = from.v - raft->loaded[0].index.v;
        *n = raft->n_loaded - at;
        return &raft->loaded[at];
    }
    *n = 0;
    return NULL;
}

/* --- sending --- */

static void emit_append(struct raft *raft, struct raft_progress *peer,
                        struct log_index prev, const struct raft_entry *entries,
                        uint32_t n)
{
    uint8_t flags = 0;

    if (raft->lease_used) flags |= RAFT_LEASE;
    if (peer->clearing) flags |= RAFT_CLEARED;
    if (peer->accused) flags |= RAFT_DOUBTFUL;
    if (raft->quiet) flags |= RAFT_QUIET;
    *raft_emit(raft) = (struct raft_msg){
        .kind = RAFT_APPEND,
        .flags = flags,
        .to = peer->id,
        .term = raft->state.term,
        .index = prev,
        .log_term = log_term_at(&raft->log, prev),
        .commit = raft->commit,
        .round = raft->round,
        .sent_ns = raft->now.ns,
        .stamp_ns = peer->stamp_ns,
        .last = peer->stamp_ns != 0 ? raft->log.last : (struct log_index){0},
        .n_entries = n,
        .entries = n > 0 ? entries : NULL,
    };
    peer->sent = raft->now;
    peer->round_sent = raft->round;
    peer->told.v = max_u64(peer->told.v, min_u64(raft->commit.v, prev.v + n));
    peer->send_now = false;
}

/* As many as one message may hold, at least one. */
static uint32_t take(const struct raft *raft, const struct raft_entry *entries,
                     uint64_t n, uint64_t *bytes)
{
    uint32_t taken = 0;

    *bytes = 0;
    while (taken < n && taken < raft->settings.append_entries_max) {
        const uint64_t cost = log_cost(entries[taken].payload);
        if (taken > 0 && *bytes + cost > raft->settings.append_bytes_max) break;
        *bytes += cost;
        taken++;
    }
    return taken;
}

/* With the entries at hand, else empty: that the logs meet is found out either way.  A
 * large one would be sent for each guess, so it waits until the place is known. */
static void send_probe(struct raft *raft, struct raft_progress *peer)
{
    const struct log_index prev = {peer->next.v - 1};
    uint64_t n, bytes = 0;
    const struct raft_entry *entries = sendable(raft, peer->next, &n);
    uint32_t taken = entries != NULL ? take(raft, entries, n, &bytes) : 0;

    if (is_large(raft, bytes)) taken = 0;
    emit_append(raft, peer, prev, entries, taken);
    peer->probe_sent = true;
}

/* Small ones would arrive before a large one that is under way, and be refused. */
static bool may_follow(const struct raft *raft, const struct raft_progress *peer,
                       uint64_t bytes)
{
    return !large_is_under_way(peer) || is_large(raft, bytes);
}

static void send_pipelined(struct raft *raft, struct raft_progress *peer)
{
    while (peer->next.v <= raft->log.last.v && window_has_room(raft, peer)) {
        uint64_t n, bytes;
        const struct raft_entry *entries = sendable(raft, peer->next, &n);
        if (entries == NULL || n == 0) {
            ask_load(raft, peer);
            return;
        }
        if (raft->turn_bytes > RAFT_TURN_BYTES) {
            raft->held_back = true;
            return;
        }
        const struct log_index prev = {peer->next.v - 1};
        const uint32_t taken = take(raft, entries, n, &bytes);
        if (!may_follow(raft, peer, bytes)) return;
        if (entries[0].block == NULL) raft->turn_bytes += bytes;
        emit_append(raft, peer, prev, entries, taken);
        peer->next.v += taken;
        window_add(raft, peer, (struct log_index){peer->next.v - 1}, bytes);
        if (!is_large(raft, bytes)) continue;
        peer->large.v = peer->next.v - 1;
        peer->large_lost.ns = raft->now.ns +
                              RAFT_LOST_TIMEOUTS * raft->settings.election_ns +
                              RAFT_LOST_NS_PER_BYTE * bytes;
    }
}

static bool is_active(const struct raft *raft, const struct raft_progress *peer)
{
    return raft->now.ns < peer->heard.ns + raft->settings.election_ns;
}

static uint64_t heartbeat_due(const struct raft *raft, const struct raft_progress *peer)
{
    return peer->sent.ns + raft->settings.heartbeat_ns;
}

/* A commit rides on the next entries; when none come it is told after part of a
 * heartbeat; where followers answer reads by themselves, at once, but for the next ones of a
 * millisecond: under load there are entries to ride on. */
static uint64_t notify_due(const struct raft *raft, const struct raft_progress *peer)
{
    const uint64_t known = min_u64(raft->commit.v, peer->match.v);

    if (peer->flow != RAFT_FLOW_PIPELINE || peer->told.v >= known) return UINT64_MAX;
    if (raft_member_rules(raft)->early)
        return max_u64(peer->sent.ns, peer->noticed.ns + RAFT_NOTICES_NS);
    return peer->sent.ns + raft->settings.heartbeat_ns / RAFT_NOTIFY_PARTS;
}

/* What to say when there is nothing to send: prev is where the follower stands as far as
 * we know, so that a loss shows as a refusal.  But this passes by a large entry that is under
 * way, which must not look like a loss. */
static void send_empty(struct raft *raft, struct raft_progress *peer)
{
    struct log_index prev = {peer->next.v - 1};

    if (peer->flow == RAFT_FLOW_PIPELINE && large_is_under_way(peer))
        prev.v = max_u64(peer->match.v, raft->log.base.v);
    if (peer->flow == RAFT_FLOW_SNAPSHOT)
        prev.v = max_u64(peer->match.v, raft->log.base.v);
    emit_append(raft, peer, prev, NULL, 0);
    peer->noticed = raft->now;
}

static void send_to(struct raft *raft, struct raft_progress *peer)
{
    const bool beat = raft->now.ns >= heartbeat_due(raft, peer);
    const uint64_t sent_before = raft->n_msgs;

    if (peer->flow != RAFT_FLOW_SNAPSHOT && peer->next.v <= raft->log.base.v)
        set_flow(peer, RAFT_FLOW_SNAPSHOT);
    if (peer->doubtful && !peer->clearing && doubt_is_over(raft, peer)) {
        peer->clearing = peer->send_now = true;
        peer->cleared = raft->now;
    }

    if (large_is_under_way(peer) && raft->now.ns >= peer->large_lost.ns)
        probe_from(peer, peer->match.v + 1);

    switch (peer->flow) {
    case RAFT_FLOW_PROBE:
        if (!peer->probe_sent || beat) send_probe(raft, peer);
        break;
    case RAFT_FLOW_PIPELINE: send_pipelined(raft, peer); break;
    case RAFT_FLOW_SNAPSHOT:
        if (is_active(raft, peer) && raft->now.ns >= peer->snapshot_after.ns)
            want_snapshot(peer);
        break;
    }
    if (raft->n_msgs > sent_before) return;
    if (beat || peer->send_now || raft->now.ns >= notify_due(raft, peer) ||
        (raft->round > peer->round_sent && peer->voter))
        send_empty(raft, peer);
}

/* The last word for now.  From here on the server speaks for the group. */
static void fall_silent(struct raft *raft)
{
    raft->quiet = true;
    for (uint32_t i = 0; i < raft->n_peers; i++)
        if (raft_quiet_tells(raft, &raft->peers[i])) send_empty(raft, &raft->peers[i]);
}

void raft_replicate_send(struct raft *raft, struct raft_out *out)
{
    if (raft->quiet) return;
    if (raft_quiet_is_due(raft)) {
        fall_silent(raft);
        return;
    }
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        struct raft_progress *peer = &raft->peers[i];
        send_to(raft, peer);
        if (!peer->snapshot_wanted || raft->n_snapshotting == RAFT_SNAPSHOTS_MAX)
            continue; /* the others wait until one has ended */
        peer->snapshot_wanted = false;
        peer->snapshotting = true;
        raft->n_snapshotting++;
        peer->snapshot_ready = false;
        out->snapshots_wanted[out->n_snapshots_wanted++] = peer->id;
    }
    if (raft->load_asked) {
        raft->load_asked = false;
        raft->load_out = true;
        out->load_wanted = true;
        out->load = raft->load;
    }
}

/* --- committing --- */

/* [RAFT 5.4.2] only an entry of the own term is committed by counting; those before it go
 * with it.  Figure 8 of the paper shows what counting older ones loses. */
void raft_replicate_commit(struct raft *raft)
{
    struct log_index upto = {raft_member_quorum(raft, RAFT_COUNT_MATCH)};

    if (upto.v > raft->log.last.v) upto = raft->log.last;
    if (upto.v <= raft->commit.v) return;
    if (log_term_at(&raft->log, upto).v != raft->state.term.v &&
        !raft->settings.bug_commit_old_term)
        return;
    raft->commit = upto;
    while (raft->counted.v < upto.v) {
        raft->counted.v++;
        const struct raft_entry *entry = log_at(&raft->log, raft->counted);
        if (entry == NULL) continue;
        const uint64_t cost = log_cost(entry->payload);
        const uint64_t block = entry->block != NULL ? entry->payload.len : 0;
        raft->uncommitted_bytes -= min_u64(cost, raft->uncommitted_bytes);
        raft->uncommitted_blocks -= min_u64(block, raft->uncommitted_blocks);
    }
}

/* --- time --- */

static uint64_t contact_until(const struct raft *raft)
{
    const uint64_t heard = raft_member_quorum(raft, RAFT_COUNT_HEARD);

    return max_u64(heard, raft->led_since.ns) + raft->settings.election_ns;
}

/* A disk that does not answer is no better than a network that does not. */
static uint64_t disk_until(const struct raft *raft)
{
    if (raft->n_writes == 0 || raft_member_is_alone(raft)) return UINT64_MAX;
    return raft->writes[raft->writes_head].at.ns +
           RAFT_STUCK_TIMEOUTS * raft->settings.election_ns;
}

void raft_replicate_on_tick(struct raft *raft)
{
    if (raft->now.ns >= contact_until(raft) || raft->now.ns >= disk_until(raft)) {
        raft_elect_step_down(raft);
        return;
    }
    if (raft->transfer_to.v != 0 && raft->now.ns >= raft->transfer_until.ns)
        raft_replicate_transfer_end(raft);
}

struct instant raft_replicate_wake(const struct raft *raft)
{
    uint64_t at = min_u64(contact_until(raft), disk_until(raft));

    if (raft->transfer_to.v != 0) at = min_u64(at, raft->transfer_until.ns);
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        at = min_u64(at, heartbeat_due(raft, &raft->peers[i]));
        at = min_u64(at, notify_due(raft, &raft->peers[i]));
    }
    return (struct instant){at};
}

/* --- transfer --- */

static struct server_id fullest_voter(const struct raft *raft)
{
    const struct raft_members *c = raft_member_config(raft);
    const struct raft_progress *best = NULL;

    for (uint32_t i = 0; i < raft->n_peers; i++) {
        const struct raft_progress *peer = &raft->peers[i];
        bool voter = false;
        for (uint16_t v = 0; v < c->n_voters; v++)
            voter = voter || c->voters[v].v == peer->id.v;
        if (!voter || peer->doubtful || !is_active(raft, peer)) continue;
        if (best == NULL || peer->match.v > best->match.v) best = peer;
    }
    return best != NULL ? best->id : (struct server_id){0};
}

/* To one that stays a voter.  A second wish for the same target changes nothing, one for
 * another replaces the first. */
void raft_replicate_transfer(struct raft *raft, struct server_id id)
{
    const struct raft_members *c = raft_member_config(raft);
    bool voter = false;

    if (raft->role != RAFT_LEADER) return;
    if (id.v == 0) id = fullest_voter(raft);
    for (uint16_t i = 0; i < c->n_voters; i++)
        voter = voter || c->voters[i].v == id.v;
    if (!voter || id.v == raft->settings.self.v || id.v == raft->transfer_to.v) return;

    raft_quiet_wake(raft);
    raft_quiet_busy(raft);
    raft_replicate_transfer_end(raft);
    raft->transfer_to = id;
    raft->transfer_sent = false;
    raft->transfer_until.ns = raft->now.ns + raft->settings.election_ns;
}

/* The target may hold our TIMEOUT_NOW and stand at any time.  So a lease begins again
 * only when it has answered a round that began after this: it refuses a TIMEOUT_NOW that
 * is older than a round it has seen. */
void raft_replicate_transfer_end(struct raft *raft)
{
    struct raft_progress *peer = raft_member_find(raft, raft->transfer_to);

    if (raft->transfer_to.v != 0 && raft->transfer_sent) {
        if (peer != NULL)
            peer->lease_barrier = raft->round + 1;
        else
            raft->lease_void = true;
        raft->round_wanted = true;
    }
    raft->transfer_to.v = 0;
    raft->transfer_sent = false;
}

static void send_timeout_now(struct raft *raft, struct server_id id)
{
    raft_enqueue(raft, &(struct raft_msg){
                           .kind = RAFT_TIMEOUT_NOW,
                           .to = id,
                           .term = raft->state.term,
                           .round = raft->round,
                       });
}

/* Called once a turn, before the messages are gathered. */
void raft_replicate_hand_over(struct raft *raft)
{
    if (raft_member_is_out(raft)) { /* our successor need not wait for its timer */
        const struct server_id best = fullest_voter(raft);
        if (best.v != 0) send_timeout_now(raft, best);
        return;
    }
    if (raft->transfer_to.v == 0 || raft->transfer_sent) return;

    const struct raft_progress *peer = raft_member_find(raft, raft->transfer_to);
    if (peer == NULL || !raft_members_has_voter(raft_member_config(raft), peer->id)) {
        raft_replicate_transfer_end(raft);
    } else if (peer->match.v == raft->log.last.v && !peer->doubtful &&
               raft->commit.v == raft->log.last.v) {
        /* Not before the commit: who waits for it would hear that the outcome is not known. */
        send_timeout_now(raft, peer->id);
        raft->transfer_sent = true;
    }
}
