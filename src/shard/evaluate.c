/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate - requests at the leader, on the newest state; reads at a follower. */
#include "shard/shard_internal.h"

enum { ENTRY_KEPT_BYTES = 1 << 20 }; /* a larger buffer is given back after its entry */

/* ---- the view that commands read and write through ---- */

static void note_seen(struct shard *s, bool found, const struct item *item)
{
    /* What is not there may be absent because of a staged delete: then the answer waits
     * for all that is staged.  That is longer than it must, and never too short. */
    const uint64_t saw = found                        ? item->change.v
                         : store_has_staged(s->store) ? s->next_index.v - 1
                                                      : 0;
    if (saw > s->seen.v) s->seen.v = saw;
    if (!found) s->saw = s->applied;
}

static void count_read(const struct shard *s, bool found, const struct item *item)
{
    struct shard_counts *counts = s->config.counts;
    if (s->reads_at.ms == 0 || counts == NULL) return;
    if (found && (item->deadline_ms == 0 || item->deadline_ms >= s->reads_at.ms))
        counts->hits++;
    else
        counts->misses++;
}

static bool view_find(void *ctx, struct bytes key, struct item *out)
{
    struct shard *s = ctx;
    const bool found = store_find(s->store, key, out);
    note_seen(s, found, out);
    count_read(s, found, out);
    return found;
}

/* The value lies in what the request came in.  What lies before it there is not needed any
 * more, and a request's head is longer than an effect's, so the effect's takes its place
 * and nothing large is copied. */
static bool emit_in_place(struct shard *s, const struct effect *e)
{
    struct block *lent = e->block != NULL ? e->block : s->lent;
    const size_t lent_at = e->block != NULL ? 0 : s->lent_at;
    if (lent == NULL || s->entry_block != NULL || e->kind != EFFECT_PUT) return false;
    const struct bytes whole = buf_bytes(&lent->bytes);
    const uintptr_t at = (uintptr_t)e->value.at - (uintptr_t)whole.at;
    if (at >= whole.len || e->value.len > whole.len - at) return false;
    if (at < lent_at || e->value.len < whole.len / 2) return false; /* too much is kept */

    const size_t before = s->entry.len;
    effect_encode_head(&s->entry, e);
    if (s->entry.len > at - lent_at) {
        s->entry.len = before;
        return false;
    }
    struct effect own = *e;
    struct cursor key = {s->entry.at + before + 2, s->entry.at + s->entry.len};
    const bool found = get_blob(&key, &own.key); /* the other one is overwritten */
    check(found);
    uint8_t *start = lent->bytes.at + at - s->entry.len;
    memcpy(start, s->entry.at, s->entry.len);
    s->entry_block = block_ref(lent);
    s->entry_lent = (struct bytes){start, s->entry.len + e->value.len};
    own.block = s->entry_block;
    store_stage(s->store, s->next_index, &own);
    return true;
}

/* What is added goes where there is room behind it. */
static void entry_block_own(struct shard *s)
{
    if (s->entry_block == NULL) {
        s->entry_block = block_take(&s->entry);
    } else if (s->entry_lent.len > 0) {
        struct buf copy = buf_new(s->config.mem);
        buf_put(&copy, s->entry_lent.at, s->entry_lent.len);
        block_unref(s->entry_block);
        s->entry_block = block_take(&copy);
        s->entry_lent.len = 0;
    }
}

/* A large value is copied into the entry alone; overlay and log refer to it there. */
static void emit_large(struct shard *s, const struct effect *e)
{
    struct effect own = *e;

    if (emit_in_place(s, e)) return;
    entry_block_own(s);
    struct buf *entry = &s->entry_block->bytes;
    const uintptr_t at = (uintptr_t)e->value.at - (uintptr_t)entry->at;
    if (at < entry->len) { /* the same EXEC has put it there, and it may move */
        buf_reserve(entry, effect_size_max(e));
        own.value.at = entry->at + at;
    }
    effect_encode(entry, &own);
    own.value.at = entry->at + entry->len - own.value.len;
    own.block = s->entry_block;
    store_stage(s->store, s->next_index, &own);
}

void shard_emit(struct shard *s, const struct effect *e)
{
    close_note(s, e);
    if ((e->flags & EFFECT_EXPIRED) != 0 && s->config.counts != NULL)
        s->config.counts->expired++;
    if (UNLIKELY(e->value.len >= BLOCK_BYTES_MIN)) {
        emit_large(s, e);
        return;
    }
    if (UNLIKELY(s->entry_block != NULL)) entry_block_own(s);
    effect_encode(s->entry_block != NULL ? &s->entry_block->bytes : &s->entry, e);
    store_stage(s->store, s->next_index, e);
}

static void view_emit(void *ctx, const struct effect *e)
{
    shard_emit(ctx, e);
}

static bool view_walk(void *ctx, struct key_place from, uint32_t skip,
                      struct key_place *place, struct bytes *key, struct item *out)
{
    struct shard *s = ctx;
    const bool found = store_walk(s->store, from, skip, place, key, out);
    note_seen(s, false, NULL);
    return found;
}

static uint64_t view_count(void *ctx)
{
    struct shard *s = ctx;
    note_seen(s, false, NULL);
    return store_count(s->store);
}

static void view_read(void *ctx, struct bytes key, uint64_t from, uint64_t len,
                      struct buf *out)
{
    const struct shard *s = ctx;
    store_read(s->store, key, from, len, out);
}

static struct block *view_share(void *ctx, struct bytes key, const struct item *item)
{
    const struct shard *s = ctx;
    return store_share(s->store, key, item);
}

static struct view view_of(struct shard *s)
{
    return (struct view){s,          view_find, view_emit, view_walk,
                         view_count, view_read, view_share};
}

/* ---- at the leader ---- */

static enum shard_refusal may_serve(const struct shard *s)
{
    if (s->ready) return SHARD_TAKEN;

    struct raft_info info;
    raft_info(s->raft, &info);
    if (info.role == RAFT_LEADER) return SHARD_NOT_READY;
    if (info.doubtful && info.config.n_voters == 1) return SHARD_DAMAGED;
    return SHARD_NOT_LEADER;
}

static enum shard_refusal may_write(const struct shard *s, const struct shard_request *q)
{
    switch (raft_may_propose(s->raft)) {
    case RAFT_PROPOSED: break;
    case RAFT_NOT_LEADER: return SHARD_NOT_LEADER;
    case RAFT_TRANSFERRING: return SHARD_BUSY;
    case RAFT_FULL: return SHARD_FULL;
    case RAFT_LONELY: return SHARD_LONELY;
    }
    if (q->log_full) return SHARD_NO_ROOM;
    if (q->log_behind) return SHARD_FULL;
    if (!q->memory_full && !s->disk_full) return SHARD_TAKEN;
    for (uint32_t i = 0; i < q->n_commands; i++)
        if (q->commands[i]->flags & CF_DENYOOM)
            return s->disk_full ? SHARD_NO_ROOM : SHARD_NO_MEMORY;
    return SHARD_TAKEN;
}

static bool writes(const struct shard_request *q)
{
    for (uint32_t i = 0; i < q->n_commands; i++)
        if (q->commands[i]->flags & CF_WRITE) return true;
    return false;
}

static struct log_index change_of(struct shard *s, struct bytes key, struct wall now)
{
    struct item item;
    const bool found = store_find(s->store, key, &item);
    note_seen(s, found, &item);
    if (!found || (item.deadline_ms != 0 && item.deadline_ms < now.ms))
        return (struct log_index){0};
    return item.change;
}

/* What was watched is told by index, and an index tells an entry as long as the log that had it
 * goes on: if the position of the WATCH is lost, so is all that was known of the keys. */
static bool watches_lost(const struct shard *s, const struct shard_request *q)
{
    return q->n_watches > 0 && shard_position(s, &q->position) == POSITION_LOST;
}

static bool watches_hold(struct shard *s, const struct shard_request *q)
{
    if (watches_lost(s, q)) return false;
    for (uint32_t i = 0; i < q->n_watches; i++)
        if (change_of(s, q->watches[i].key, q->now).v != q->watches[i].change.v)
            return false;
    return true;
}

/* Whether a key of the request is past its deadline by our clock, and that is not logged.  To
 * call it absent would be a guess that the next leader's clock need not share, so a read that
 * must be linearizable leaves it to a leader that can log it. */
bool shard_sees_deadline(struct shard *s, const struct shard_request *q)
{
    enum { KEYS_MAX = 256 };
    struct wall first;
    if (!store_next_deadline(s->store, &first) || first.ms >= q->now.ms) return false;

    for (uint32_t i = 0; i < q->n_commands; i++) {
        uint32_t at[KEYS_MAX];
        const uint32_t n = command_keys(q->commands[i], q->n_args[i], at, KEYS_MAX);
        if (n > KEYS_MAX) return true;
        for (uint32_t k = 0; k < n; k++) {
            struct item item;
            if (!store_find(s->store, q->args[i][at[k]], &item)) continue;
            if (item.deadline_ms != 0 && item.deadline_ms < q->now.ms) return true;
        }
    }
    return false;
}

static void run_commands(struct shard *s, const struct shard_request *q,
                         struct reply *reply, bool may_write_now)
{
    const struct view view = view_of(s);
    const uint64_t from = command_reply_bytes(reply, q->far);
    if (q->exec) reply_array(reply, q->n_commands);
    for (uint32_t i = 0; i < q->n_commands; i++) {
        const struct command_call call = {
            .command = q->commands[i],
            .args = q->args[i],
            .n_args = q->n_args[i],
            .now = q->now,
            .prng = &s->prng,
            .view = &view,
            .reply = reply,
            .far = q->far,
            .reply_from = from,
            .may_write = may_write_now,
            .steps_max = 4096,
        };
        s->reads_at.ms = (q->commands[i]->flags & CF_WRITE) != 0 ? 0 : q->now.ms;
        command_run(&call);
    }
    s->reads_at.ms = 0;
}

static void evaluation_begin(struct shard *s)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    s->next_index.v = info.last.v + 1;
    s->seen.v = s->saw.v = 0;
    s->entry.len = 0;
}

/* Proposes what was emitted and says what the answer must wait for. */
static void evaluation_end(struct shard *s, enum policy_read read,
                           struct shard_gate *gate)
{
    *gate = (struct shard_gate){.term = s->lead_term};
    if (s->entry.len > 0 || s->entry_block != NULL) {
        struct bytes payload = buf_bytes(&s->entry);
        if (s->entry_lent.len > 0) {
            payload = s->entry_lent;
        } else if (s->entry_block != NULL) {
            block_trim(s->entry_block);
            payload = buf_bytes(&s->entry_block->bytes);
        }
        const struct log_index at = raft_propose(s->raft, payload, s->entry_block);
        check(at.v == s->next_index.v);
        block_unref(s->entry_block);
        s->entry_block = NULL;
        s->entry_lent.len = 0;
        gate->index = gate->saw = at;
        gate->wrote = true;
        if (s->entry.cap > ENTRY_KEPT_BYTES) buf_free(&s->entry);
        gate->ahead_bytes = raft_uncommitted_bytes(s->raft);
        return; /* its own commit proves more than a read round would */
    }
    gate->ahead_bytes = raft_uncommitted_bytes(s->raft);
    if (s->seen.v > s->acked.v) gate->index = s->seen;
    gate->saw = s->saw.v > s->seen.v ? s->saw : s->seen;
    /* The lease is asked for after the evaluation: a pause in between can't make the
     * answer stale unseen. */
    if (read == READ_LINEARIZABLE)
        gate->round = raft_read(s->raft, RAFT_READ_ROUND, s->now);
    if (read == READ_LEASE) gate->round = raft_read(s->raft, RAFT_READ_LEASE, s->now);
}

static enum shard_refusal may_see(const struct shard *s, const struct shard_request *q)
{
    switch (shard_position(s, &q->position)) {
    case POSITION_HERE: break;
    case POSITION_AHEAD: return SHARD_BEHIND;
    case POSITION_LOST: return q->n_watches > 0 ? SHARD_TAKEN : SHARD_LOST;
    }
    return SHARD_TAKEN;
}

/* What a client was told of watched keys is as of now, all that is staged included: a replica
 * that answers its reads afterwards (READ any) must have come as far.  Else it would compute from
 * an older value than the one that EXEC finds unchanged. */
static void gate_all(const struct shard *s, struct shard_gate *gate)
{
    const uint64_t last = s->next_index.v - 1;

    if (gate->index.v < last) gate->index.v = last;
    gate->saw = gate->index;
}

/* The end of an answer about watches.  To one whose position is lost nothing was shown: its
 * session is as far as it was, and learns of the loss by what it reads next. */
static void gate_watches(const struct shard *s, const struct shard_request *q,
                         struct shard_gate *gate)
{
    gate_all(s, gate);
    if (watches_lost(s, q)) gate->saw.v = 0;
}

/* A request with an id that may write: carried out once. */
static enum shard_refusal run_once(struct shard *s, const struct shard_request *q,
                                   struct reply *reply, struct shard_gate *gate)
{
    evaluation_begin(s);
    if (once_again(s, q, reply)) {
        /* What it saw is true for ever once that is committed, whoever leads by then. */
        evaluation_end(s, READ_ANY, gate);
        gate->wrote = gate->index.v != 0; /* the first one's outcome is not known yet */
        return SHARD_TAKEN;
    }
    if (!once_room(s)) return SHARD_ONCE_FULL;

    /* The answer whole, and the request as it came: both are looked at once more. */
    const size_t start = reply->out->len;
    struct shard_request plain = *q;
    plain.far = NULL;
    const bool hold = watches_hold(s, q);
    if (hold) {
        run_commands(s, &plain, reply, true);
        const struct bytes answer = {reply->out->at + start, reply->out->len - start};
        once_record(s, q, reply->version, answer);
    } else {
        reply_null_array(reply);
    }
    evaluation_end(s, q->read, gate);
    if (!hold) gate_watches(s, q, gate);
    return SHARD_TAKEN;
}

enum shard_refusal shard_run(struct shard *s, const struct shard_request *q,
                             struct reply *reply, struct shard_gate *gate)
{
    /* A process that stood still for a while gets its requests before the shard is stepped: by
     * the time of the last step a lease would seem to hold that ran out meanwhile. */
    if (q->at.ns > s->now.ns) s->now = q->at;
    enum shard_refusal refusal = may_serve(s);
    if (refusal == SHARD_TAKEN) refusal = may_see(s, q);
    if (refusal != SHARD_TAKEN) return refusal;
    if (close_refuses(s, q)) return SHARD_CLOSED;
    bool may_write_now = true;
    refusal = may_write(s, q);
    if (refusal != SHARD_TAKEN) {
        if (writes(q) || shard_sees_deadline(s, q)) return refusal;
        may_write_now = false; /* a read goes on */
    }
    if (q->once.len > 0 && writes(q)) return run_once(s, q, reply, gate);

    evaluation_begin(s);
    s->lent = q->lent;
    s->lent_at = q->lent_at;
    const bool hold = watches_hold(s, q);
    if (hold)
        run_commands(s, q, reply, may_write_now);
    else
        reply_null_array(reply);
    s->lent = NULL;
    evaluation_end(s, q->read, gate);
    if (!hold) gate_watches(s, q, gate);
    return SHARD_TAKEN;
}

enum shard_refusal shard_watch(struct shard *s, const struct shard_request *q,
                               struct log_index *changes, struct shard_gate *gate)
{
    enum shard_refusal refusal = may_serve(s);
    if (refusal == SHARD_TAKEN) refusal = may_see(s, q);
    if (refusal != SHARD_TAKEN) return refusal;
    if (close_refuses(s, q)) return SHARD_CLOSED;
    evaluation_begin(s);
    const bool lost = watches_lost(s, q);
    for (uint32_t i = 0; i < q->n_watches; i++)
        changes[i] = lost ? (struct log_index){SHARD_CHANGE_NEVER}
                          : change_of(s, q->watches[i].key, q->now);
    evaluation_end(s, READ_LINEARIZABLE, gate);
    gate_watches(s, q, gate);
    return SHARD_TAKEN;
}

enum shard_refusal shard_propose_effects(struct shard *s, struct bytes effects,
                                         struct shard_gate *gate)
{
    const enum shard_refusal refusal = may_serve(s);
    if (refusal != SHARD_TAKEN) return refusal;
    static const struct shard_request none = {.n_commands = 0};
    const enum shard_refusal writing = may_write(s, &none);
    if (writing != SHARD_TAKEN) return writing;

    evaluation_begin(s);
    struct cursor in = cursor_of(effects);
    struct effect e;
    enum effect_result got;
    while ((got = effect_decode(&in, &e)) == EFFECT_OK)
        view_emit(s, &e);
    check(got == EFFECT_END);
    evaluation_end(s, READ_LINEARIZABLE, gate);
    return SHARD_TAKEN;
}

bool shard_expire(struct shard *s, struct wall now, struct instant at)
{
    enum { KEYS_PER_ENTRY = 128 };
    struct bytes key;
    once_age(s, at);
    if (!s->ready || raft_may_propose(s->raft) != RAFT_PROPOSED) return false;
    const struct wall due = {now.ms -
                             1}; /* a deadline has passed when now is beyond it */
    if (store_count_system(s->store) == 0 && !store_due(s->store, due, &key))
        return false;

    const struct view view = view_of(s);
    evaluation_begin(s);
    for (uint32_t i = 0; i < KEYS_PER_ENTRY && store_due(s->store, due, &key); i++)
        if (!command_expire(&view, key, now)) break;
    once_sweep(s);
    struct shard_gate gate;
    evaluation_end(s, READ_ANY, &gate);
    return gate.wrote;
}

enum shard_gate_state shard_gate(const struct shard *s, const struct shard_gate *gate)
{
    if (gate->term.v == 0) return GATE_OPEN;
    if (s->lead_term.v != gate->term.v) return GATE_LOST;
    if (gate->index.v > s->acked.v || gate->round > s->confirmed_round) return GATE_WAITS;
    return GATE_OPEN;
}

/* ---- positions of clients ---- */

struct shard_position shard_position_at(const struct shard *s, struct log_index index)
{
    struct term term = raft_term_at(s->raft, index);

    if (term.v == 0) {
        struct raft_info info;
        raft_info(s->raft, &info);
        index = info.base;
        term = raft_term_at(s->raft, index);
    }
    /* Under DURABILITY memory a power cut may take what was committed. */
    const bool settled = index.v <= s->applied.v && !s->unsynced;
    return (struct shard_position){index, term, settled};
}

/* A leader's log is what its answers come from; any other replica has what it applied.  That
 * two entries at one index are the same is told by their terms [RAFT 5.3]. */
enum shard_position_state shard_position(const struct shard *s,
                                         const struct shard_position *p)
{
    if (p->index.v == 0) return POSITION_HERE;

    struct raft_info info;
    raft_info(s->raft, &info);
    const bool settled = p->settled && term_epoch(p->term) == term_epoch(info.term);
    const struct log_index upto = s->ready ? info.last : s->applied;
    /* A later leader's log that lacks it: no majority had it, and nobody will have it. */
    const bool is_out = s->ready && !settled && p->term.v < info.term.v;
    if (p->term.v > info.term.v) return POSITION_AHEAD;
    if (p->index.v > upto.v) return is_out ? POSITION_LOST : POSITION_AHEAD;
    if (s->config.bug_position_index) return POSITION_HERE;

    const struct term term = raft_term_at(s->raft, p->index);
    if (term.v == p->term.v) return POSITION_HERE;
    if (term.v == 0) {
        /* Too old to be told by its own entry.  All behind the base is committed. */
        const bool same = raft_term_at(s->raft, info.base).v == p->term.v;
        return settled || same ? POSITION_HERE : POSITION_LOST;
    }
    return p->index.v <= s->applied.v || is_out ? POSITION_LOST : POSITION_AHEAD;
}

/* ---- at a follower ---- */

bool shard_read_here(struct shard *s, const struct shard_request *q, struct reply *reply)
{
    if (close_refuses(s, q)) return false;
    evaluation_begin(s);
    run_commands(s, q, reply, false);
    check(s->entry.len == 0);
    return true;
}

uint64_t shard_read_round(struct shard *s, struct instant now)
{
    return raft_read(s->raft, RAFT_READ_ROUND, now);
}

enum shard_gate_state shard_round_done(const struct shard *s, uint64_t round)
{
    /* The first answer that covers the round: later ones have larger indexes. */
    for (uint32_t i = 0; i < s->n_rounds; i++) {
        if (s->rounds[i].round < round) continue;
        if (s->rounds[i].index.v == 0) return GATE_LOST;
        return s->rounds[i].index.v <= s->applied.v ? GATE_OPEN : GATE_WAITS;
    }
    return GATE_WAITS;
}

struct log_index shard_applied(const struct shard *s)
{
    return s->applied;
}

bool shard_is_fresh(const struct shard *s, struct instant now, uint64_t lag_max_ns)
{
    const struct raft_settings *clock = &s->config.raft;
    /* Our clock may be as slow as a lease allows for; then more time has passed. */
    const uint64_t slow_ns = clock->drift_ns == 0
                                 ? 0
                                 : lag_max_ns / (clock->election_ns / clock->drift_ns);
    struct raft_info info;
    raft_info(s->raft, &info);
    return info.fresh_ns != 0 && now.ns + slow_ns <= info.fresh_ns + lag_max_ns;
}

uint32_t shard_copies(const struct shard *s, struct log_index index)
{
    if (s->lead_term.v == 0) return 0;
    struct raft_peer peer;
    uint32_t copies = 0;
    for (uint32_t i = 0; raft_peer(s->raft, i, &peer); i++)
        copies += peer.match.v >= index.v;
    return copies;
}
