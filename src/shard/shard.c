/* SPDX-License-Identifier: Apache-2.0 */
/* shard - life of a replica, and the one place where what leaves it is derived. */
#include "shard/shard_internal.h"

/* Entries applied in one turn at most, so that a replica that catches up does not hold the
 * loop; the rest follows in the next turn at once. */
enum { APPLY_PER_TURN = 20000 };

/* ---- life ---- */

struct shard *shard_new(const struct shard_config *config, struct instant now)
{
    struct shard *s = mem_zero(config->mem, sizeof *s);
    s->config = *config;
    s->now = now;
    s->prng = prng_seed(config->raft.seed ^ 0x73686172);
    s->scratch = buf_new(config->mem);
    s->entry = buf_new(config->mem);
    s->extra = buf_new(config->mem);
    s->install.extra = buf_new(config->mem);
    s->install.backlog = buf_new(config->mem);
    s->entry_bytes_mean = 256;

    const struct store_config sc = {config->group, config->kv, config->mem};
    bool found;
    s->store = store_open(&sc, &found);
    s->maybe_closed = hmap_new(config->mem);
    close_rebuild(s);

    struct raft_start start = {.now = now};
    if (found) {
        const struct store_base base = store_base(s->store);
        start.base = base.index;
        start.base_term = base.term;
        start.state.term = base.term;
        const bool ok = base.extra.len == 0 ||
                        raft_config_decode(base.extra, &start.config);
        check(ok);
        s->applied = base.index;
        s->applied_term = base.term;
    }
    s->raft = raft_new(&s->config.raft, &start);
    return s;
}

void shard_free(struct shard *s)
{
    struct mem *mem = s->config.mem;
    transfer_end_all(s);
    raft_free(s->raft);
    store_free(s->store);
    hmap_free(&s->maybe_closed);
    buf_free(&s->scratch);
    buf_free(&s->entry);
    buf_free(&s->extra);
    buf_free(&s->install.extra);
    buf_free(&s->install.backlog);
    mem_free(mem, s->senders, s->n_senders * sizeof *s->senders);
    mem_free(mem, s->pending, s->pending_cap * sizeof *s->pending);
    mem_free(mem, s->rounds, s->rounds_cap * sizeof *s->rounds);
    mem_free(mem, s->held, s->held_cap * sizeof *s->held);
    mem_free(mem, s->out_msgs, s->out_cap * sizeof *s->out_msgs);
    mem_free(mem, s, sizeof *s);
}

/* Starts the core anew on what is known so far; nothing was restored yet. */
static void raft_anew(struct shard *s, const struct raft_start *start)
{
    raft_free(s->raft);
    s->raft = raft_new(&s->config.raft, start);
}

void shard_found(struct shard *s, const struct raft_config *config, uint32_t epoch,
                 bool first)
{
    /* Index 1 stands for the founding itself, so that base 0 keeps its meaning: empty. */
    const struct raft_start start = {
        .state.term = term_of_epoch(epoch),
        .base = {1},
        .base_term = term_of_epoch(epoch),
        .config = *config,
        .founder = first,
        .now = s->now,
        .state.boot = s->config.raft.boot,
    };
    raft_anew(s, &start);
    s->applied = start.base;
    s->applied_term = start.base_term;
    s->founding = true;
    s->want_checkpoint = true;
}

/* An entry's record: its kind is the record's tag. */
bool shard_entry(const struct wal_record *r, struct raft_entry *out)
{
    if (r->kind != WAL_ENTRY || r->tag < RAFT_NOOP || r->tag > RAFT_CONFIG) return false;
    *out = (struct raft_entry){
        .index = r->index,
        .term = r->term,
        .kind = (enum raft_entry_kind)r->tag,
        .payload = r->body,
    };
    return true;
}

void shard_restore(struct shard *s, const struct wal_record *r)
{
    check(r->group.v == s->config.group.v);
    switch (r->kind) {
    case WAL_ENTRY: {
        struct raft_entry e;
        if (shard_entry(r, &e))
            raft_restore(s->raft, &e);
        else
            shard_doubt(s); /* it checks, and yet is nothing that this build writes */
        return;
    }
    case WAL_STATE: {
        struct raft_state state;
        s->state_found = true;
        if (raft_state_decode(r->body, &state))
            raft_restore_state(s->raft, &state);
        else
            shard_doubt(s);
        return;
    }
    case WAL_BASE: {
        const bool clears = r->body.len == 0 || r->body.at[0] != 0;
        raft_restore_base(s->raft, r->index, r->term, clears);
        return;
    }
    case WAL_FORGET:
    case WAL_MARK:
    case WAL_KIND_END: return;
    }
}

void shard_doubt(struct shard *s)
{
    raft_doubt(s->raft);
}

/* Every segment opens with the term and vote of every group.  A replica whose checkpoint is
 * of more than its founding, or a recovery (their terms begin an epoch: nobody was elected in
 * them), has had them in its log; if they are not there, what it promised and what it held
 * behind the checkpoint has gone. */
bool shard_lacks_log(const struct shard *s)
{
    const struct term term = store_base(s->store).term;

    return term.v != term_of_epoch(term_epoch(term)).v && !s->state_found;
}

void shard_begin(struct shard *s, struct instant now)
{
    s->now = now;
    if (shard_lacks_log(s)) shard_doubt(s);
    raft_restored(s->raft);
}

/* ---- events ---- */

static struct raft_event event_of(const struct shard *s, enum raft_event_kind kind)
{
    return (struct raft_event){.kind = kind, .now = s->now};
}

void shard_receive(struct shard *s, const struct raft_msg *m, struct instant now)
{
    s->now = now;
    /* Its answer waits until the founding is durable.  There is no room yet for another state. */
    if (s->founding && m->kind == RAFT_SNAPSHOT) return;
    struct raft_event ev = event_of(s, RAFT_RECV);
    ev.msg = m;
    raft_step(s->raft, &ev);
    if (m->kind == RAFT_SNAPSHOT && raft_snapshot_welcome(s->raft, m))
        transfer_receive(s, m);
    if (m->kind == RAFT_SNAPSHOT_REPLY) transfer_reply(s, m);
}

static bool tell_of_peer(struct shard *s, enum raft_event_kind kind,
                         struct server_id peer, struct instant now)
{
    s->now = now;
    struct raft_info info;
    raft_info(s->raft, &info);
    if (!raft_members_has(&info.config, peer) && info.leader.v != peer.v) return false;
    struct raft_event ev = event_of(s, kind);
    ev.peer = peer;
    raft_step(s->raft, &ev);
    return true;
}

bool shard_peer_lost(struct shard *s, struct server_id peer, struct instant now)
{
    transfer_peer_lost(s, peer);
    return tell_of_peer(s, RAFT_PEER_LOST, peer, now);
}

bool shard_unsent(struct shard *s, struct server_id peer, struct instant now)
{
    return tell_of_peer(s, RAFT_UNSENT, peer, now);
}

bool shard_peer_up(struct shard *s, struct server_id peer, struct instant now)
{
    return tell_of_peer(s, RAFT_PEER_UP, peer, now);
}

bool shard_peer_silent(struct shard *s, struct server_id peer, struct instant now)
{
    return tell_of_peer(s, RAFT_SILENT, peer, now);
}

bool shard_wake(struct shard *s, struct server_id leader, struct instant now)
{
    return tell_of_peer(s, RAFT_WAKE, leader, now);
}

static bool is_safe(const struct shard_pending *p, struct lsn durable, struct lsn written)
{
    return p->lsn.v <= (p->lazy ? written.v : durable.v);
}

void shard_durable(struct shard *s, struct lsn durable, struct lsn written, bool alive,
                   struct instant now)
{
    s->now = now;
    uint64_t mark = alive ? s->durable_mark : 0;
    while (s->n_pending > 0 && is_safe(&s->pending[s->pending_at], durable, written)) {
        mark = s->pending[s->pending_at].mark;
        s->pending_at = (s->pending_at + 1) % s->pending_cap;
        s->n_pending--;
    }
    if (mark == 0) return;
    s->durable_mark = mark;
    struct raft_event ev = event_of(s, RAFT_DURABLE);
    ev.mark = mark;
    raft_step(s->raft, &ev);
}

void shard_tick(struct shard *s, struct instant now, struct wall wall)
{
    s->now = now;
    s->wall = wall;
    const struct raft_event ev = event_of(s, RAFT_TICK);
    raft_step(s->raft, &ev);
}

void shard_loaded(struct shard *s, const struct wal_read_done *done, struct instant now)
{
    s->now = now;
    struct raft_entry entries[256];
    uint32_t n = 0;
    while (!done->failed && n < done->n_records && n < 256 &&
           shard_entry(&done->records[n], &entries[n]))
        n++;
    struct raft_event ev = event_of(s, RAFT_LOADED);
    ev.entries = entries;
    ev.n_entries = n;
    raft_step(s->raft, &ev);
}

void shard_change_config(struct shard *s, const struct raft_config *next,
                         struct instant now)
{
    s->now = now;
    struct raft_event ev = event_of(s, RAFT_CHANGE);
    ev.config = next;
    raft_step(s->raft, &ev);
}

void shard_transfer(struct shard *s, struct server_id to, struct instant now)
{
    s->now = now;
    struct raft_event ev = event_of(s, RAFT_TRANSFER_TO);
    ev.peer = to;
    raft_step(s->raft, &ev);
}

void shard_fence(struct shard *s, uint32_t epoch, struct instant now)
{
    s->now = now;
    struct raft_event ev = event_of(s, RAFT_EPOCH);
    ev.term = term_of_epoch(epoch);
    raft_step(s->raft, &ev);
}

void shard_decree(struct shard *s, uint32_t epoch, const struct raft_config *config,
                  struct instant now)
{
    s->now = now;
    struct raft_event ev = event_of(s, RAFT_DECREE);
    ev.term = term_of_epoch(epoch);
    ev.config = config;
    raft_step(s->raft, &ev);
}

/* ---- applying ---- */

static void apply_payload(struct shard *s, const struct raft_entry *entry, bool staged)
{
    struct cursor in = cursor_of(entry->payload);
    struct effect e;
    enum effect_result got;
    while ((got = effect_decode(&in, &e)) == EFFECT_OK) {
        e.block = entry->block;
        if (s->config.bug_expires_alone && !staged && e.deadline_ms != 0 &&
            e.deadline_ms < s->wall.ms)
            continue;
        if (!staged) store_apply(s->store, entry->index, &e);
        if (!staged) close_note(s, &e);
        if (s->config.on_effect != NULL && (e.flags & EFFECT_SYSTEM) == 0)
            s->config.on_effect(s->config.ctx, &e);
    }
    /* The log checks by sum and by term; an entry that does not decode was written by a
     * build that this one can't follow, and guessing would make the replicas differ. */
    check(got == EFFECT_END);
}

static void apply_committed(struct shard *s, struct log_index commit)
{
    uint32_t n = 0;
    while (s->applied.v < commit.v && n++ < APPLY_PER_TURN) {
        struct raft_entry e;
        const bool there = raft_entry_at(s->raft, (struct log_index){s->applied.v + 1},
                                         &e);
        check(there);
        /* What this leadership proposed was staged when it was evaluated. */
        const bool staged = s->lead_term.v != 0 && e.term.v == s->lead_term.v;
        if (e.kind == RAFT_COMMAND) {
            if (!staged || s->config.on_effect != NULL) apply_payload(s, &e, staged);
            s->entry_bytes_mean += (e.payload.len + 64) / 16;
            s->entry_bytes_mean -= s->entry_bytes_mean / 16;
        }
        if (staged) store_commit(s->store, e.index);
        s->applied = e.index;
        s->applied_term = e.term;
    }
    if (n == 0) return;
    struct raft_event ev = event_of(s, RAFT_APPLIED);
    ev.index = s->applied;
    raft_step(s->raft, &ev);
}

void shard_replay(struct shard *s)
{
    struct raft_entry entry;
    struct raft_info info;

    raft_info(s->raft, &info);
    for (uint64_t i = s->applied.v + 1; i <= info.last.v; i++) {
        struct effect e;
        const bool there = raft_entry_at(s->raft, (struct log_index){i}, &entry);
        check(there);
        struct cursor in = cursor_of(entry.payload);
        while (entry.kind == RAFT_COMMAND && effect_decode(&in, &e) == EFFECT_OK)
            store_apply(s->store, entry.index, &e);
    }
    s->applied = info.last;
}

/* What is staged belongs to one leadership; without it, it is forgotten whole. */
static void follow_role(struct shard *s)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    const bool leads = info.role == RAFT_LEADER;
    if (s->lead_term.v != 0 && (!leads || info.term.v != s->lead_term.v)) {
        store_drop_staged(s->store);
        s->lead_term.v = 0;
        s->confirmed_round = 0;
        for (uint32_t i = 0; i < s->n_senders; i++)
            if (s->senders[i].to.v != 0) transfer_peer_lost(s, s->senders[i].to);
    }
    if (leads && s->lead_term.v == 0) s->lead_term = info.term;
}

/* ---- what leaves ---- */

/* A message of this kind that waits for the same mark.  The new one says all that it did, and
 * any message may be lost: so one stands for all that came up while the disk stood still.  Not
 * one that waits for an earlier mark: behind a disk that is only slow there is always a later
 * one, and none would ever leave. */
static struct raft_msg *held_like(const struct shard *s, const struct raft_msg *m)
{
    if (m->after <= s->durable_mark) return NULL;
    for (uint32_t i = s->n_held; i-- > 0;) {
        struct raft_msg *held = &s->held[i];
        if (held->kind == m->kind && held->to.v == m->to.v && held->term.v == m->term.v &&
            held->after == m->after && ((held->flags ^ m->flags) & RAFT_REJECT) == 0)
            return held;
    }
    return NULL;
}

void shard_say(struct shard *s, const struct raft_msg *m)
{
    struct raft_msg *like = held_like(s, m);
    if (like != NULL) {
        *like = *m;
        return;
    }
    if (s->n_held == s->held_cap) {
        const uint32_t cap = s->held_cap == 0 ? 4 : s->held_cap * 2;
        s->held = mem_resize(s->config.mem, s->held, s->held_cap * sizeof *s->held,
                             cap * sizeof *s->held);
        s->held_cap = cap;
    }
    s->held[s->n_held++] = *m;
}

static void pending_grow(struct shard *s)
{
    const uint32_t cap = s->pending_cap == 0 ? 4 : 2 * s->pending_cap;
    struct shard_pending *ring = mem_alloc(s->config.mem, cap * sizeof *ring);
    for (uint32_t i = 0; i < s->n_pending; i++)
        ring[i] = s->pending[(s->pending_at + i) % s->pending_cap];
    mem_free(s->config.mem, s->pending, s->pending_cap * sizeof *ring);
    s->pending = ring;
    s->pending_cap = cap;
    s->pending_at = 0;
}

/* Full: the newest mark takes in this one; it is durable a little later. */
static void pending_add(struct shard *s, struct shard_pending pending)
{
    if (s->n_pending == SHARD_PENDING_MAX) {
        s->n_pending--;
        pending.lazy = pending.lazy &&
                       s->pending[(s->pending_at + s->n_pending) % s->pending_cap].lazy;
    } else if (s->n_pending == s->pending_cap)
        pending_grow(s);
    s->pending[(s->pending_at + s->n_pending++) % s->pending_cap] = pending;
}

static void write_log(struct shard *s, const struct raft_out *r, struct wal *wal)
{
    struct lsn lsn = {0};
    if (s->log_base_wanted) {
        const struct store_base base = store_base(s->store);
        const uint8_t clears = s->log_base_clears;
        const struct wal_record record = {
            .kind = WAL_BASE,
            .group = s->config.group,
            .index = base.index,
            .term = base.term,
            .body = {&clears, 1},
        };
        lsn = wal_append(wal, &record);
        s->log_base_wanted = false;
    }
    if (r->mark == 0) return;

    if (r->write_state) {
        s->scratch.len = 0;
        raft_state_encode(&s->scratch, &r->state);
        const struct wal_record record = {
            .kind = WAL_STATE,
            .group = s->config.group,
            .term = r->state.term,
            .body = buf_bytes(&s->scratch),
        };
        lsn = wal_append(wal, &record);
    }
    for (uint64_t i = r->append_from.v; i != 0 && i <= r->append_upto.v; i++) {
        struct raft_entry e;
        const bool there = raft_entry_at(s->raft, (struct log_index){i}, &e);
        check(there);
        const struct wal_record record = {
            .kind = WAL_ENTRY,
            .group = s->config.group,
            .index = e.index,
            .term = e.term,
            .tag = (uint8_t)e.kind,
            .lazy = r->lazy,
            .body = e.payload,
            .block = e.block,
        };
        lsn = wal_append(wal, &record);
    }
    pending_add(s, (struct shard_pending){r->mark, lsn, r->lazy});
}

/* Moves what may leave from `held` to the turn's messages; order among the rest stays. */
static void release_messages(struct shard *s, struct shard_out *out)
{
    if (s->out_cap < s->n_held) {
        s->out_msgs = mem_resize(s->config.mem, s->out_msgs,
                                 s->out_cap * sizeof *s->out_msgs,
                                 s->held_cap * sizeof *s->out_msgs);
        s->out_cap = s->held_cap;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_held; i++) {
        if (s->held[i].after <= s->durable_mark) {
            s->out_msgs[out->n_msgs++] = s->held[i];
            continue;
        }
        /* What borrows from the log can't be kept, and need not be: a leader whose own vote
         * is not durable yet (it is the only voter, with learners) sends it again. */
        if (s->held[i].n_entries > 0 || s->held[i].data.len > 0) continue;
        s->held[kept++] = s->held[i];
    }
    s->n_held = kept;
    out->msgs = s->out_msgs;
}

static void take_rounds(struct shard *s, const struct raft_out *r)
{
    for (uint32_t i = 0; i < r->n_reads; i++) {
        if (s->n_rounds == SHARD_ROUNDS_MAX) {
            memmove(s->rounds, s->rounds + 1, (SHARD_ROUNDS_MAX - 1) * sizeof *s->rounds);
            s->n_rounds--;
        }
        if (s->n_rounds == s->rounds_cap) {
            const uint32_t cap = s->rounds_cap == 0 ? 4 : 2 * s->rounds_cap;
            s->rounds = mem_resize(s->config.mem, s->rounds,
                                   s->rounds_cap * sizeof *s->rounds,
                                   cap * sizeof *s->rounds);
            s->rounds_cap = cap;
        }
        s->rounds[s->n_rounds++] = (struct shard_round){r->reads[i].round,
                                                        r->reads[i].index};
    }
}

static struct instant sooner(struct instant a, struct instant b)
{
    if (a.ns == 0) return b;
    if (b.ns == 0) return a;
    return a.ns < b.ns ? a : b;
}

/* A silent shard keeps no room for what it may say later. */
static void rest(struct shard *s)
{
    raft_rest(s->raft);
    if (s->n_held > 0 || s->n_pending > 0) return;
    mem_free(s->config.mem, s->held, s->held_cap * sizeof *s->held);
    mem_free(s->config.mem, s->pending, s->pending_cap * sizeof *s->pending);
    s->held = NULL;
    s->pending = NULL;
    s->held_cap = s->pending_cap = s->pending_at = 0;
}

void shard_turn_end(struct shard *s, struct wal *wal, struct instant now,
                    struct wall wall, struct shard_out *out)
{
    s->now = now;
    s->wall = wall;
    *out = (struct shard_out){0};
    if (s->founding) {
        checkpoint_turn(s, out);
        if (s->retry_at.ns != 0) out->wake = s->retry_at;
        return;
    }
    const struct log_index applied_before = s->applied, acked_before = s->acked;
    const bool ready_before = s->ready;
    struct raft_out r;
    raft_turn_end(s->raft, now, &r);
    follow_role(s);
    write_log(s, &r, wal);
    for (uint32_t i = 0; i < r.n_msgs; i++)
        shard_say(s, &r.msgs[i]);
    take_rounds(s, &r);
    for (uint32_t i = 0; i < r.n_snapshots_wanted; i++)
        transfer_wanted(s, r.snapshots_wanted[i]);
    out->load_wanted = r.load_wanted;
    out->load = r.load;
    out->role_changed = r.role_changed;
    out->quiet = r.quiet;
    out->accused = r.accused;
    out->apart = r.apart;
    out->apart_from = r.apart_from;
    out->apart_upto = r.apart_upto;
    out->discarded = r.discarded;
    out->n_discarded = r.n_discarded;

    const bool confirmed = s->lead_term.v != 0 && r.confirmed_round > s->confirmed_round;
    if (confirmed) s->confirmed_round = r.confirmed_round;
    once_age(s, now);
    transfer_overtaken(s, r.commit);
    if (!s->install.active) apply_committed(s, r.commit);
    /* What needs the commit waits until it is applied: others may look at it then. */
    s->acked = r.acked.v <= r.commit.v && s->applied.v < r.acked.v ? s->applied : r.acked;

    transfer_turn(s);
    transfer_install_turn(s, out);
    checkpoint_turn(s, out);
    release_messages(s, out);
    if (r.quiet) rest(s);

    struct raft_info info;
    raft_info(s->raft, &info);
    s->unsynced = info.config.rules.memory ||
                  (info.config.n_old > 0 && info.config.old_rules.memory);
    s->ready = s->lead_term.v != 0 && info.ready && info.applied.v == s->applied.v;
    out->progressed = r.role_changed || confirmed || r.n_reads > 0 ||
                      s->applied.v != applied_before.v || s->ready != ready_before ||
                      s->acked.v != acked_before.v;
    /* What is checkpointed is not needed; the log keeps some of it all the same, for followers
     * that are a little behind, by its own bound in bytes. */
    const struct log_index base = store_base(s->store).index;
    if (base.v > s->released.v) out->released = s->released = base;
    out->wake = sooner(r.wake, transfer_wake(s));
    if (s->retry_at.ns != 0) out->wake = sooner(out->wake, s->retry_at);
    if (s->applied.v < r.commit.v && !s->install.active) out->wake = now;
    if (store_fill(s->store)) out->wake = now;
    /* Applying told the core something (readiness, a deposed role's end): once more. */
    if (s->applied.v != applied_before.v) out->wake = now;
}

/* ---- looking in ---- */

struct group_id shard_group(const struct shard *s)
{
    return s->config.group;
}

const struct raft *shard_raft(const struct shard *s)
{
    return s->raft;
}

struct store *shard_store(struct shard *s)
{
    return s->store;
}

struct server_id shard_leader(const struct shard *s)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    return info.leader;
}

bool shard_leads(const struct shard *s)
{
    return s->ready;
}

struct term shard_term(const struct shard *s)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    return info.term;
}

bool shard_syncing(const struct shard *s)
{
    return s->n_pending > 0;
}

const char *shard_trouble(const struct shard *s)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    if (info.rebooted)
        return "lost power; it does not count until it has caught up with a leader";
    if (info.doubtful)
        return "its log is damaged; it does not vote until its peers have repaired it";
    if (s->disk_full) return "the disk is full; writes are refused";
    if (s->install.active) return "receives a snapshot";
    return NULL;
}

void shard_verify(const struct shard *s)
{
    raft_verify(s->raft);
    struct raft_info info;
    raft_info(s->raft, &info);
    check(s->applied.v <= info.commit.v || s->install.active); /* S1 */
    check(s->lead_term.v != 0 || !store_has_staged(s->store)); /* S2 */
    for (uint32_t i = 0; i < s->n_pending; i++)
        check(s->pending[(s->pending_at + i) % s->pending_cap].mark >
              s->durable_mark);    /* S3 */
    check_slow(close_is_sound(s)); /* S5 */
}
