/* SPDX-License-Identifier: Apache-2.0 */
/* server - events in, actions out, and the turn that derives them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "server/server_state.h"

enum {
    STORE_ROOM_MS = 3000, /* three times what a shard waits before it tries a job again */
    SWEEP_MS = 100,       /* gates past their deadline, waiting requests, dead clients */
    PASSES_PER_TURN = 4,  /* steps of the shards until nothing more follows from a turn */
    STOP_MS = 3000,       /* to hand leadership over at the end */
    TICKS_PER_TURN = 512, /* of shards: thousands of elections leave room for clients */
    RENEW_PER_JOB = 256,  /* readers of shards that have nothing to do with it */
};

struct server_limits server_limits_default(void)
{
    return (struct server_limits){
        .clients_max = 10000,
        .client_output_bytes_max = UINT64_C(1) << 30,
        .client_output_pause_bytes = 1 << 20,
        .client_input_bytes_max = UINT64_C(1) << 30,
        .value_bytes_max = VALUE_MAX,
        .table_bytes_max = 64 << 20,
        .log_bytes_checkpoint = 128 << 20,
        .request_timeout_ns = 5 * SEC_NS,
        .once_max = 1000000,
        .once_keep_ns = 600 * SEC_NS,
        .election_ns = 1 * SEC_NS,
        .heartbeat_ns = 100 * MS_NS,
        .append_entries_max = SERVER_ENTRIES_MAX,
        .append_bytes_max = 192 << 10,
        .quiet_after_ns = 2 * SEC_NS,
        .drift_ns = 200 * MS_NS,
        .log_cache_bytes = 64 << 20,
        .uncommitted_bytes_max = 64 << 20,
        .wal_segment_bytes = 64 << 20,
        .wal_keep_bytes = 128 << 20,
        .replace_after_ns = 600 * SEC_NS,
        .transfer_bytes_per_s = 64 << 20,
        .max_clock_skew_ms = 500,
    };
}

/* ---- actions ---- */

/* What is gathered now; the other list is the one that the world was given last. */
static struct action_list *gathering(struct server *s)
{
    return &s->lists[s->gathering];
}

struct server_action *server_act(struct server *s, enum server_action_kind kind)
{
    struct action_list *list = gathering(s);
    if (list->n == list->cap) {
        const uint32_t cap = list->cap == 0 ? 64 : list->cap * 2;
        list->at = mem_resize(s->mem, list->at, list->cap * sizeof *list->at,
                              cap * sizeof *list->at);
        list->cap = cap;
    }
    struct server_action *a = &list->at[list->n++];
    *a = (struct server_action){.kind = kind};
    return a;
}

struct bytes server_keep(struct server *s, struct bytes b)
{
    struct kept *kept = mem_alloc(s->mem, sizeof *kept + b.len);
    kept->len = b.len;
    kept->next = gathering(s)->kept;
    gathering(s)->kept = kept;
    memcpy(kept->bytes, b.at, b.len);
    return (struct bytes){kept->bytes, b.len};
}

static void list_clear(struct server *s, struct action_list *list)
{
    while (list->kept != NULL) {
        struct kept *kept = list->kept;
        list->kept = kept->next;
        mem_free(s->mem, kept, sizeof *kept + kept->len);
    }
    list->n = 0;
}

static void list_free(struct server *s, struct action_list *list)
{
    list_clear(s, list);
    mem_free(s->mem, list->at, list->cap * sizeof *list->at);
}

static const char *keep_text(struct server *s, const char *format, va_list args)
{
    char text[512];
    const int n = vsnprintf(text, sizeof text, format, args);
    const size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    text[len] = 0;
    return (const char *)server_keep(s, (struct bytes){(const uint8_t *)text, len + 1})
        .at;
}

void server_log(struct server *s, enum server_log_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = keep_text(s, format, args);
    va_end(args);
    struct server_action *a = server_act(s, SERVER_LOG);
    a->level = level;
    a->text = text;
}

void server_exit(struct server *s, int code, const char *format, ...)
{
    if (s->phase == PHASE_ENDED) return;
    va_list args;
    va_start(args, format);
    const char *text = keep_text(s, format, args);
    va_end(args);
    struct server_action *a = server_act(s, SERVER_EXIT);
    a->code = code;
    a->text = text;
    s->phase = PHASE_ENDED;
}

/* ---- slots ---- */

struct slot *server_slot_find(const struct server *s, struct group_id group)
{
    return hmap_find(&s->slots, group.v);
}

struct slot *server_slot(struct server *s, struct group_id group)
{
    struct slot *slot = server_slot_find(s, group);
    if (slot != NULL) return slot;
    slot = mem_zero(s->mem, sizeof *slot);
    slot->group = group;
    slot->gated_end = &slot->gated;
    slot->waiting_end = &slot->waiting;
    slot->rounds_end = &slot->rounds;
    hmap_put(&s->slots, group.v, slot);
    if (s->n_slots == s->slots_cap) {
        const uint32_t cap = s->slots_cap == 0 ? 16 : s->slots_cap * 2;
        s->all_slots = mem_resize(s->mem, s->all_slots,
                                  s->slots_cap * sizeof *s->all_slots,
                                  cap * sizeof *s->all_slots);
        s->dirty = mem_resize(s->mem, s->dirty, s->slots_cap * sizeof *s->dirty,
                              cap * sizeof *s->dirty);
        s->syncing = mem_resize(s->mem, s->syncing, s->slots_cap * sizeof *s->syncing,
                                cap * sizeof *s->syncing);
        s->stepping = mem_resize(s->mem, s->stepping, s->slots_cap * sizeof *s->stepping,
                                 cap * sizeof *s->stepping);
        s->watched = mem_resize(s->mem, s->watched, s->slots_cap * sizeof *s->watched,
                                cap * sizeof *s->watched);
        s->slots_cap = cap;
    }
    s->all_slots[s->n_slots++] = slot;
    return slot;
}

void slot_touch(struct server *s, struct slot *slot)
{
    if (slot->dirty) return;
    slot->dirty = true;
    s->dirty[s->n_dirty++] = slot;
    slot_watch(s, slot);
}

void slot_watch(struct server *s, struct slot *slot)
{
    if (slot->watched) return;
    slot->watched = true;
    s->watched[s->n_watched++] = slot;
}

void slot_job(struct server *s, struct slot *slot, struct kv_job *job)
{
    job->id = ++s->next_job;
    hmap_put(&s->jobs, job->id, slot);
    server_act(s, SERVER_JOB)->job = job;
    s->n_jobs++;
}

/* ---- life ---- */

static struct bytes copy_text(struct server *s, struct bytes text)
{
    const size_t at = s->texts.len;
    check(at + text.len <= s->texts.cap);
    buf_put(&s->texts, text.at, text.len);
    return (struct bytes){s->texts.at + at, text.len};
}

static void copy_texts(struct server *s)
{
    struct server_config *c = &s->config;
    struct bytes *all[] = {
        &c->name, &c->advertise_client, &c->advertise_peer, &c->zone,
        &c->join, &c->password,         &c->secret,         &c->config_file};
    size_t total = 1;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        total += all[i]->len;
    buf_reserve(&s->texts, total);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = copy_text(s, *all[i]);
}

struct server *server_new(const struct server_config *config, struct instant now,
                          struct wall wall)
{
    struct server *s = mem_zero(config->mem, sizeof *s);
    s->config = *config;
    s->mem = config->mem;
    s->texts = buf_new(s->mem);
    copy_texts(s);
    s->prng = prng_seed(config->seed);
    do
        s->incarnation.v = prng_next(&s->prng);
    while (s->incarnation.v == 0);
    /* An answer to a request of an earlier life must not pass for one to a request of this. */
    s->next_request = prng_next(&s->prng) >> 1;
    s->now = s->started = now;
    s->wall = s->started_wall = wall;
    s->slots = hmap_new(s->mem);
    s->jobs = hmap_new(s->mem);
    s->sent = hmap_new(s->mem);
    s->clients = hmap_new(s->mem);
    s->conns = hmap_new(s->mem);
    s->peers = hmap_new(s->mem);
    s->timers = heap_new(s->mem);
    s->slot_timers = heap_new(s->mem);
    s->due = heap_new(s->mem);
    s->spare = mem_alloc(s->mem, SERVER_SPARE_BYTES);
    s->entries = mem_zero(s->mem, SERVER_ENTRIES_MAX * sizeof *s->entries);
    s->dirty_clients_end = &s->dirty_clients;
    if (s->config.feature == 0) s->config.feature = META_FEATURE;
    meta_init(&s->meta, s->mem, s->config.feature);
    start_begin(s);
    return s;
}

static void slots_free(struct server *s)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        retire_free(s, s->all_slots[i]);
        force_slot_free(s, s->all_slots[i]);
        if (s->all_slots[i]->shard != NULL) shard_free(s->all_slots[i]->shard);
        mem_free(s->mem, s->all_slots[i], sizeof *s->all_slots[i]);
    }
    mem_free(s->mem, s->all_slots, s->slots_cap * sizeof *s->all_slots);
    mem_free(s->mem, s->dirty, s->slots_cap * sizeof *s->dirty);
    mem_free(s->mem, s->syncing, s->slots_cap * sizeof *s->syncing);
    mem_free(s->mem, s->stepping, s->slots_cap * sizeof *s->stepping);
    mem_free(s->mem, s->watched, s->slots_cap * sizeof *s->watched);
    hmap_free(&s->jobs);
    hmap_free(&s->slots);
}

void server_free(struct server *s)
{
    clients_free(s);
    closings_free(s);
    requests_free(s);
    peers_free(s);
    heap_free(&s->timers); /* before the slots: their nodes lie in them */
    heap_free(&s->slot_timers);
    heap_free(&s->due);
    slots_free(s);
    start_free(s);
    recover_free(s);
    meta_free(&s->meta);
    hmap_free(&s->sent);
    hmap_free(&s->clients);
    hmap_free(&s->conns);
    hmap_free(&s->peers);
    list_free(s, &s->lists[0]);
    list_free(s, &s->lists[1]);
    mem_free(s->mem, s->spare, SERVER_SPARE_BYTES);
    mem_free(s->mem, s->entries, SERVER_ENTRIES_MAX * sizeof *s->entries);
    buf_free(&s->texts);
    mem_free(s->mem, s, sizeof *s);
}

/* ---- events ---- */

void server_time(struct server *s, struct instant now, struct wall wall)
{
    check(now.ns >= s->now.ns);
    s->now = now;
    s->wall = wall;
}

void server_sent(struct server *s, struct conn_id conn, size_t taken)
{
    if (!client_sent(s, conn, taken)) peer_sent(s, conn, taken);
}

void server_writable(struct server *s, struct conn_id conn)
{
    if (!client_writable(s, conn)) peer_writable(s, conn);
}

/* What the log gives out, at whatever call. */
void server_take_wal(struct server *s, const struct wal_out *out)
{
    for (uint32_t i = 0; i < out->n_ops; i++) {
        struct server_action *a = server_act(s, SERVER_WAL);
        a->wal_op = out->ops[i];
        if (out->ops[i].kind == WAL_OP_SYNC) s->stats.syncs++;
    }
    if (!s->wal_open) start_wal_out(s, out);
    if (out->durable.v > s->durable.v) s->durable = out->durable;
    if (out->written.v > s->written.v) s->written = out->written;
    for (uint32_t i = 0; i < out->n_reads; i++) {
        const struct wal_read_done *done = &out->reads[i];
        struct slot *slot = server_slot_find(s, (struct group_id){(uint32_t)done->tag});
        if (slot == NULL || slot->shard == NULL) continue;
        slot->loading = false;
        if (slot->retiring == RETIRE_KEEP)
            retire_loaded(s, slot, done);
        else
            shard_loaded(slot->shard, done, s->now);
        slot_touch(s, slot);
    }
    if (out->failed)
        server_exit(s, 1,
                    "the log could not be written: %s; nothing that was acknowledged is "
                    "lost; mend the disk and start again",
                    out->failed_text);
    s->wal_full = out->full;
    s->wal_wake = out->wake;
}

struct instant server_deadline(const struct server *s, uint64_t bytes)
{
    const uint64_t ahead = s->wal != NULL ? wal_backlog(s->wal) : 0;
    const uint64_t most = bytes > ahead ? bytes : ahead;
    return (struct instant){s->now.ns + s->config.limits.request_timeout_ns +
                            most * SERVER_NS_PER_BYTE};
}

void server_wal_done(struct server *s, uint64_t op, int error, uint64_t got)
{
    if (s->phase == PHASE_ENDED) return;
    struct wal_out out;
    wal_op_done(s->wal, op, error, got, s->now, &out);
    s->wal_alive = true;
    server_take_wal(s, &out);
}

/* A full disk is waited for.  Any other error may have been a sync's, and that one succeeds
 * when it is tried again proves nothing: like the log, the engine is then given up. */
static bool is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

/* Until no job has failed for so long, the room that comes is for the store: what it writes lets
 * the log be cut, and the log's own room can't help the store. */
static void store_lacks_room(struct server *s)
{
    s->store_room_at.ns = s->now.ns + STORE_ROOM_MS * MS_NS;
    wal_make_way(s->wal, true);
}

static void store_room_turn(struct server *s)
{
    if (s->store_room_at.ns == 0 || s->now.ns < s->store_room_at.ns) return;
    s->store_room_at.ns = 0;
    wal_make_way(s->wal, false);
}

/* A reader keeps the pages that were in use when it was renewed.  That of a shard that does
 * nothing is renewed in turn with others, as often as something is written. */
static void renew_some(struct server *s)
{
    for (uint32_t i = 0; i < RENEW_PER_JOB && i < s->n_slots; i++) {
        const struct slot *slot = s->all_slots[s->renew_at++ % s->n_slots];
        if (slot->shard != NULL) store_renew(shard_store(slot->shard));
    }
}

void server_job_done(struct server *s, struct kv_job *job, int error)
{
    if (s->phase == PHASE_ENDED) return;
    if (s->n_jobs > 0) s->n_jobs--;
    if (recover_job_done(s, job, error)) return;
    if (start_owns_job(s, job)) {
        start_job_done(s, error);
        return;
    }
    if (error != 0 && !is_full(error)) {
        server_exit(s, 1,
                    "the store could not be written (errno %d); nothing that was "
                    "acknowledged is lost, for the log holds it; mend the disk and start "
                    "again",
                    error);
        return;
    }
    if (error != 0) store_lacks_room(s);
    s->config.kv.ops->reader_renew(s->config.kv.engine, s->kv_reader);
    renew_some(s);
    struct slot *slot = hmap_remove(&s->jobs, job->id);
    check(slot != NULL); /* a job that nobody gave out */
    if (retire_job_done(s, slot, job, error)) return;
    check(slot->shard != NULL && shard_owns_job(slot->shard, job));
    shard_job_done(slot->shard, job, error, s->now);
    if (error != 0)
        server_log(s, LOG_ERROR,
                   "a checkpoint of shard %u failed (errno %d); it is tried "
                   "again, and the log keeps what it would hold",
                   slot->group.v, error);
    slot_touch(s, slot);
}

/* Leaders first hand over; a server alone just ends. */
void server_stop(struct server *s)
{
    if (s->phase == PHASE_ENDED || s->phase == PHASE_STOPPING) return;
    if (s->phase != PHASE_RUNNING) {
        server_exit(s, 0, "stopped before it was ready");
        return;
    }
    s->phase = PHASE_STOPPING;
    s->stop_at.ns = s->now.ns + STOP_MS * MS_NS;
    server_log(s, LOG_INFO, "stopping: handing leadership over");
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL || !shard_leads(slot->shard)) continue;
        shard_transfer(slot->shard, (struct server_id){0}, s->now);
        slot_touch(s, slot);
    }
}

static void stop_turn(struct server *s)
{
    bool leads = false;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL) continue;
        struct raft_info info;
        raft_info(shard_raft(slot->shard), &info);
        leads = leads || (info.role == RAFT_LEADER && info.config.n_voters > 1);
    }
    if (leads && s->now.ns < s->stop_at.ns) return;
    if (s->n_syncing > 0 && s->now.ns < s->stop_at.ns + SEC_NS) return;
    server_exit(s, 0, "stopped");
}

/* ---- the turn ---- */

static void syncing_turn(struct server *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_syncing; i++) {
        struct slot *slot = s->syncing[i];
        if (slot->shard == NULL) {
            slot->syncing = false;
            continue;
        }
        shard_durable(slot->shard, s->durable, s->written, s->wal_alive, s->now);
        slot_touch(s, slot);
        if (shard_syncing(slot->shard))
            s->syncing[kept++] = slot;
        else
            slot->syncing = false;
    }
    s->n_syncing = kept;
    s->wal_alive = false;
}

static void timers_turn(struct server *s)
{
    struct heap_node *node;
    for (uint32_t n = 0; n < TICKS_PER_TURN; n++) {
        node = heap_min(&s->slot_timers);
        if (node == NULL || node->key > s->now.ns) break;
        heap_remove(&s->slot_timers, node);
        struct slot *slot = (struct slot *)(void *)((char *)node -
                                                    offsetof(struct slot, timer));
        if (slot->shard != NULL) shard_tick(slot->shard, s->now, s->wall);
        slot_touch(s, slot);
    }
    while ((node = heap_min(&s->timers)) != NULL && node->key <= s->now.ns) {
        heap_remove(&s->timers, node);
        request_timeout(s, (struct request *)(void *)((char *)node -
                                                      offsetof(struct request, timer)));
    }
}

static void send_messages(struct server *s, const struct shard_out *out,
                          struct slot *slot)
{
    for (uint32_t i = 0; i < out->n_msgs; i++) {
        size_t start;
        struct buf *body = peer_say(s, out->msgs[i].to, slot->group, MESSAGE_RAFT,
                                    &start);
        if (body == NULL) continue; /* lost, as any message may be */
        size_t at;
        const struct raft_entry *e = raft_msg_encode_around(body, &out->msgs[i], &at);
        if (e == NULL)
            peer_said(s, out->msgs[i].to, start);
        else
            peer_said_around(s, out->msgs[i].to, start,
                             &(struct far){
                                 .block = e->block,
                                 .from = (uint64_t)(e->payload.at - e->block->bytes.at),
                                 .len = e->payload.len,
                                 .at = at,
                             });
        if (out->msgs[i].flags & RAFT_QUIET) vouch_said(s, slot, &out->msgs[i]);
    }
}

/* What another log took the place of stays in ours until it is kept elsewhere. */
static void release(struct server *s, struct slot *slot)
{
    if (slot->released.v == 0 || slot->n_keeping > 0) return;
    wal_release(s->wal, slot->group, slot->released);
    slot->released.v = 0;
}

static void slot_step(struct server *s, struct slot *slot)
{
    if (slot->shard == NULL) {
        requests_slot_turn(s, slot);
        return;
    }
    if (slot->retiring != RETIRE_NOT) {
        retire_step(s, slot);
        return;
    }
    struct shard_out out;
    shard_turn_end(slot->shard, s->wal, s->now, s->wall, &out);
    if (out.accused.v != 0)
        server_log(s, LOG_ERROR,
                   "server %u lacks entries of group %u that it had acknowledged: has an "
                   "old copy "
                   "of its data come back?  It does not count until it is repaired",
                   (unsigned)out.accused.v, (unsigned)slot->group.v);
    if (out.apart) {
        server_log(
            s, LOG_WARNING,
            "shard %u: this copy had committed what the leader of the new epoch never "
            "had; it is made anew",
            slot->group.v);
        slot->keep_from = out.apart_from;
        slot->keep_upto = out.apart_upto;
        retire_begin(s, slot);
    }
    if (out.n_discarded > 0) rollback_keep(s, slot, out.discarded, out.n_discarded);
    if (!slot->syncing && shard_syncing(slot->shard)) {
        slot->syncing = true;
        s->syncing[s->n_syncing++] = slot;
    }
    if (!out.quiet) vouch_end(s, slot);
    send_messages(s, &out, slot);
    if (out.job != NULL) slot_job(s, slot, out.job);
    if (out.load_wanted && !slot->loading) {
        slot->loading = true;
        wal_read(s->wal, slot->group.v, slot->group, out.load.from, out.load.upto,
                 out.load.bytes_max);
    }
    if (out.released.v != 0) slot->released = out.released;
    release(s, slot);
    if (out.role_changed) requests_term_changed(s, slot);
    if (out.role_changed && shard_leader(slot->shard).v == s->identity.server.v)
        server_log(s, LOG_INFO, "leads shard %u in epoch %u, term %llu", slot->group.v,
                   term_epoch(shard_term(slot->shard)),
                   (unsigned long long)term_number(shard_term(slot->shard)));
    if (out.progressed) {
        answers_check(s, slot);
        requests_slot_turn(s, slot);
    }
    if (out.wake.ns != 0)
        heap_set(&s->slot_timers, &slot->timer, out.wake.ns);
    else
        heap_remove(&s->slot_timers, &slot->timer);
}

/* Steps what this turn touched.  A step may touch others, or the same again (a commit lets
 * a waiting request in): a few passes, then the rest in the next turn, at once. */
static bool slots_turn(struct server *s)
{
    for (uint32_t pass = 0; pass < PASSES_PER_TURN && s->n_dirty > 0; pass++) {
        const uint32_t n = s->n_dirty;
        for (uint32_t i = 0; i < n; i++) {
            struct slot *slot = s->dirty[i];
            slot->dirty = false;
            s->stepping[i] = slot;
        }
        s->n_dirty = 0;
        for (uint32_t i = 0; i < n; i++)
            slot_step(s, s->stepping[i]);
    }
    return s->n_dirty > 0;
}

/* Deadlines of keys are the leader's to act on. */
static void expire(struct server *s, struct slot *slot)
{
    struct wall first;

    heap_remove(&s->due, &slot->due);
    if (slot->shard == NULL || !shard_leads(slot->shard)) return;
    if (shard_expire(slot->shard, s->wall, s->now)) slot_touch(s, slot);
    /* Ids of requests grow old without a deadline: looked at again in the next sweep. */
    if (store_count_system(shard_store(slot->shard)) > 0) slot_watch(s, slot);
    if (store_next_deadline(shard_store(slot->shard), &first))
        heap_set(&s->due, &slot->due, first.ms > 0 ? (uint64_t)first.ms : 0);
}

static void sweep_slot(struct server *s, struct slot *slot)
{
    if (slot->gated != NULL) answers_expire(s, slot);
    if (slot->waiting != NULL || slot->rounds != NULL) {
        requests_slot_turn(s, slot);
        slot_touch(s, slot);
    }
    expire(s, slot);
    reconcile_members(s, slot);
    if (slot->gated != NULL) slot_watch(s, slot);
}

static void sweep_turn(struct server *s)
{
    const struct heap_node *node;

    if (s->now.ns < s->next_sweep.ns) return;
    s->next_sweep.ns = s->now.ns + SWEEP_MS * MS_NS;
    for (node = heap_min(&s->due); node != NULL && (int64_t)node->key < s->wall.ms;
         node = heap_min(&s->due)) {
        struct slot *slot = (struct slot *)(void *)((char *)(uintptr_t)node -
                                                    offsetof(struct slot, due));
        heap_remove(&s->due, &slot->due);
        slot_watch(s, slot);
    }
    /* Sweeping may ask for another look, which is for the next sweep. */
    const uint32_t n = s->n_watched;
    for (uint32_t i = 0; i < n; i++)
        s->watched[i]->watched = false;
    s->n_watched = 0;
    memcpy(s->stepping, s->watched, n * sizeof *s->watched);
    for (uint32_t i = 0; i < n; i++)
        sweep_slot(s, s->stepping[i]);
    store_room_turn(s);
    if (s->wal_full) wal_retry(s->wal);
}

/* The log has grown, or has no room to: checkpoints of all shards that have moved let it be
 * cut. */
static void checkpoints_turn(struct server *s)
{
    const uint64_t grown = s->durable.v - s->checkpoint_lsn.v;
    if (grown < (s->wal_full ? 1 : s->config.limits.log_bytes_checkpoint)) return;
    s->checkpoint_lsn = s->durable;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL) continue;
        if (shard_applied(slot->shard).v == store_base(shard_store(slot->shard)).index.v)
            continue;
        shard_want_checkpoint(slot->shard);
        slot_touch(s, slot);
    }
}

static void sooner(struct instant *wake, struct instant other)
{
    if (other.ns != 0 && (wake->ns == 0 || other.ns < wake->ns)) *wake = other;
}

static struct instant wake_of(struct server *s, bool more)
{
    if (more) return s->now;
    struct instant wake = {s->now.ns + SWEEP_MS * MS_NS};
    const struct heap_node *node = heap_min(&s->timers);
    if (node != NULL) sooner(&wake, (struct instant){node->key});
    sooner(&wake, s->next_sweep);
    node = heap_min(&s->slot_timers);
    if (node != NULL) sooner(&wake, (struct instant){node->key});
    sooner(&wake, s->wal_wake);
    sooner(&wake, peers_wake(s));
    const bool asks = s->phase == PHASE_JOINING && s->identity.server.v == 0;
    if (asks && s->join_conn == NULL) sooner(&wake, s->join_at);
    return wake;
}

void server_turn_end(struct server *s, struct server_actions *out)
{
    s->stats.turns++;
    bool more = false;
    if (s->phase != PHASE_ENDED && s->wal_open && s->recover == NULL) {
        syncing_turn(s);
        vouch_turn(s);
        timers_turn(s);
        reconcile_turn(s);
        force_waits_turn(s);
        more = slots_turn(s);
        /* Before another command is routed: what waits goes first where its key is now. */
        reconcile_follow(s);
        more = closings_turn(s) || s->n_dirty > 0 || more;
        checkpoints_turn(s);
        sweep_turn(s);
        struct wal_out wal;
        wal_turn_end(s->wal, s->now, &wal);
        server_take_wal(s, &wal);
    }
    if (s->phase == PHASE_JOINING) start_join_turn(s);
    if (s->phase == PHASE_STOPPING) stop_turn(s);
    if (s->phase != PHASE_ENDED) {
        more = clients_turn_end(s) || more;
        peers_turn_end(s);
    }
    const struct action_list *list = gathering(s);
    *out = (struct server_actions){list->at, list->n, wake_of(s, more)};
    s->gathering = !s->gathering;
    list_clear(s, gathering(s));
}

/* ---- looking in ---- */

struct cluster_id server_cluster(const struct server *s)
{
    return s->identity.cluster;
}

uint32_t server_feature(const struct server *s)
{
    return s->meta.cluster.feature;
}

struct server_id server_self(const struct server *s)
{
    return s->identity.server;
}

struct shard *server_shard(const struct server *s, uint32_t i)
{
    for (uint32_t at = 0; at < s->n_slots; at++) {
        if (s->all_slots[at]->shard == NULL) continue;
        if (i-- == 0) return s->all_slots[at]->shard;
    }
    return NULL;
}

bool server_unsettled(const struct server *s)
{
    for (uint32_t i = 0; i < s->meta.n_keyspaces; i++)
        if (meta_closes(s->meta.keyspaces[i]) != 0) return true;
    return false;
}

void server_verify(const struct server *s)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct slot *slot = s->all_slots[i];
        if (slot->shard != NULL) shard_verify(slot->shard);
        if (slot->shard != NULL) vouch_verify(s, slot);
        for (const struct request *r = slot->waiting; r != NULL; r = r->next)
            check(r->state == REQUEST_WAITING && r->timer.place != 0); /* V3 */
        for (const struct request *r = slot->rounds; r != NULL; r = r->next)
            check(r->timer.place != 0); /* V3 */
    }
    if (s->wal != NULL) wal_verify(s->wal);
}
