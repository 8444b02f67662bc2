/* SPDX-License-Identifier: Apache-2.0 */
/* retire - replicas that are not to be here any more.
 *
 * Of a keyspace that was dropped: at once, for that is committed in the meta shard.  Of a
 * shard that was placed elsewhere: only once its leader says that a membership without this
 * server is committed, since until then this copy may be needed for a majority.  The one that
 * may have to go asks (a STATUS message, now and then); the leader answers with the index of
 * the membership, and an answer older than what the replica itself knows does not count: it
 * may have been placed here again.
 *
 *   STATUS body: u8 kind (1 ask, 2 out), u64 index of the membership
 *
 * A tombstone (engine key 'X', u32be group) stays, so that a first voter does not begin
 * the group a second time when it is placed there again.
 */
#include "server/server_state.h"

enum { STATUS_ASK = 1, STATUS_OUT = 2, ASK_MS = 2000, KEEP_BYTES = 1 << 20 };

struct tombstone_job {
    struct kv_job job;
    uint8_t key[5];
};

static void tombstone_key(uint8_t key[5], struct group_id group)
{
    key[0] = 'X';
    store_u32be(key + 1, group.v);
}

static int tombstone_run(struct kv_job *job, struct kv_txn *txn)
{
    struct tombstone_job *j = (struct tombstone_job *)(void *)job;
    return job->ops->put(txn, (struct bytes){j->key, sizeof j->key},
                         (struct bytes){NULL, 0});
}

bool retire_was_here(const struct server *s, struct group_id group)
{
    uint8_t key[5];
    struct bytes value;
    tombstone_key(key, group);
    return s->config.kv.ops->get(s->kv_reader, (struct bytes){key, sizeof key}, &value);
}

static void give_job(struct server *s, struct slot *slot, struct kv_job *job)
{
    slot->retire_job = job;
    slot_job(s, slot, job);
}

static void bury(struct server *s, struct slot *slot)
{
    struct tombstone_job *j = mem_zero(s->mem, sizeof *j);
    j->job = (struct kv_job){
        .run = tombstone_run, .writes = true, .ops = s->config.kv.ops};
    tombstone_key(j->key, slot->group);
    slot->retiring = RETIRE_BURY;
    give_job(s, slot, &j->job);
}

static void end(struct server *s, struct slot *slot)
{
    const struct wal_record forget = {.kind = WAL_FORGET, .group = slot->group};
    wal_append(s->wal, &forget);
    heap_remove(&s->slot_timers, &slot->timer);
    heap_remove(&s->due, &slot->due);
    shard_free(slot->shard);
    slot->shard = NULL;
    slot->retiring = RETIRE_NOT;
    slot->keep_from.v = slot->keep_upto.v = slot->released.v = 0;
    slot->hint.v = 0;
    answers_check(s, slot); /* whoever waits here hears that it is lost */
    requests_replica_gone(s, slot);
    s->meta_seen = 0; /* it may have been placed here again meanwhile */
    server_log(s, LOG_INFO, "shard %u is no longer kept here", slot->group.v);
}

/* One file after the other, and only when all are there this copy may go. */
static void keep_more(struct server *s, struct slot *slot)
{
    slot->retiring = RETIRE_WAIT;
    if (slot->n_keeping > 0) return;
    if (slot->keep_from.v == 0 || slot->keep_from.v > slot->keep_upto.v) {
        bury(s, slot);
        return;
    }
    slot->retiring = RETIRE_KEEP;
    slot->loading = true;
    wal_read(s->wal, slot->group.v, slot->group, slot->keep_from, slot->keep_upto,
             KEEP_BYTES);
}

void retire_loaded(struct server *s, struct slot *slot, const struct wal_read_done *done)
{
    struct raft_entry *entries = mem_alloc(s->mem,
                                           (done->n_records + 1) * sizeof *entries);
    struct raft_entry e;
    uint32_t n = 0;

    for (uint32_t i = 0; i < done->n_records; i++)
        if (shard_entry(&done->records[i], &e) && e.kind == RAFT_COMMAND)
            entries[n++] = e;
    if (n > 0) rollback_keep(s, slot, entries, n);
    mem_free(s->mem, entries, (done->n_records + 1) * sizeof *entries);
    if (done->failed || done->n_records == 0) {
        server_log(s, LOG_ERROR,
                   "shard %u: entries %llu to %llu gave way to another epoch's, and the "
                   "log can't be read there any more: they are not in rollback/",
                   slot->group.v, (unsigned long long)slot->keep_from.v,
                   (unsigned long long)slot->keep_upto.v);
        slot->keep_from.v = slot->keep_upto.v + 1;
    } else {
        slot->keep_from.v = done->records[done->n_records - 1].index.v + 1;
    }
    keep_more(s, slot);
}

/* In place of the shard's own step. */
void retire_step(struct server *s, struct slot *slot)
{
    switch (slot->retiring) {
    case RETIRE_NOT: return;
    case RETIRE_WAIT: /* for the job, the reading and the files that are under way */
        if (!shard_busy(slot->shard) && !slot->loading) keep_more(s, slot);
        return;
    case RETIRE_KEEP: return; /* retire_loaded() goes on */
    case RETIRE_BURY:
    case RETIRE_DROP: return; /* retire_job_done() goes on */
    }
}

/* What was answered early and is not known to be committed may exist nowhere else.  Nor may, where
 * an epoch has begun that this log never heard of, what is committed here: nobody is left to compare
 * it with, so all that the log still holds. */
static void keep_unconfirmed(struct server *s, struct slot *slot,
                             const struct meta_shard *target)
{
    const struct raft *raft = shard_raft(slot->shard);
    struct raft_info info;
    uint32_t n = 0;

    raft_info(raft, &info);
    const bool left_behind = term_epoch(info.last_term) < target->epoch;
    const struct log_index from = left_behind ? info.base : info.commit;
    if (info.apart || info.last.v == from.v) return;
    if (!info.config.rules.early && !left_behind) return;
    const size_t bytes = (info.last.v - from.v) * sizeof(struct raft_entry);
    struct raft_entry *entries = mem_alloc(s->mem, bytes);
    for (uint64_t i = from.v + 1; i <= info.last.v; i++) {
        if (!raft_entry_at(raft, (struct log_index){i}, &entries[n])) {
            slot->keep_from.v = from.v + 1;
            slot->keep_upto.v = i;
        } else if (entries[n].kind == RAFT_COMMAND) {
            n++;
        }
    }
    if (n > 0) rollback_keep(s, slot, entries, n);
    mem_free(s->mem, entries, bytes);
}

void retire_begin(struct server *s, struct slot *slot)
{
    const struct meta_shard *target = meta_shard(&s->meta, slot->group);

    if (slot->shard == NULL || slot->retiring != RETIRE_NOT) return;
    if (target != NULL) keep_unconfirmed(s, slot, target);
    slot->retiring = RETIRE_WAIT;
    vouch_end(s, slot);
    slot_touch(s, slot);
}

bool retire_job_done(struct server *s, struct slot *slot, struct kv_job *job, int error)
{
    if (slot->retire_job != job) return false;
    slot->retire_job = NULL;
    if (slot->retiring == RETIRE_BURY) {
        mem_free(s->mem, job, sizeof(struct tombstone_job));
        if (error != 0)
            slot->retiring = RETIRE_WAIT; /* and again */
        else {
            slot->retiring = RETIRE_DROP;
            give_job(s, slot, store_drop(shard_store(slot->shard)));
        }
    } else {
        store_job_done(shard_store(slot->shard), job, error);
        if (error == 0)
            end(s, slot);
        else
            slot->retiring = RETIRE_WAIT;
    }
    slot_touch(s, slot);
    return true;
}

void retire_free(struct server *s, struct slot *slot)
{
    if (slot->retiring == RETIRE_BURY && slot->retire_job != NULL)
        mem_free(s->mem, slot->retire_job, sizeof(struct tombstone_job));
}

/* ---- who says that it must go ---- */

static void say(struct server *s, struct server_id to, struct group_id group,
                uint8_t kind, struct log_index index)
{
    size_t start;
    struct buf *body = peer_say(s, to, group, MESSAGE_STATUS, &start);
    if (body == NULL) return;
    buf_put_u8(body, kind);
    buf_put_u64(body, index.v);
    peer_said(s, to, start);
}

static void answer_ask(struct server *s, struct slot *slot, struct server_id from)
{
    const struct meta_shard *target = meta_shard(&s->meta, slot->group);
    if (slot->shard == NULL || !shard_leads(slot->shard) || target == NULL) return;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    if (info.joint || !info.config_committed || raft_members_has(&info.config, from) ||
        meta_server_has(target, from))
        return;
    say(s, from, slot->group, STATUS_OUT, info.config_index);
}

bool retire_message(struct server *s, struct server_id from, struct group_id group,
                    struct bytes body)
{
    struct cursor in = cursor_of(body);
    uint8_t kind;
    uint64_t index;
    if (!get_u8(&in, &kind) || !get_u64(&in, &index) || cursor_left(&in) != 0)
        return false;
    struct slot *slot = server_slot_find(s, group);
    if (slot == NULL) return true;
    if (kind == STATUS_ASK) {
        answer_ask(s, slot, from);
        return true;
    }
    if (kind != STATUS_OUT) return false;
    const struct meta_shard *target = meta_shard(&s->meta, group);
    if (slot->shard == NULL || target == NULL ||
        meta_server_has(target, s->identity.server))
        return true;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    /* Where an epoch began without it its own indexes are those of another history. */
    const bool left_behind = term_epoch(info.last_term) < target->epoch;
    if ((index < info.config_index.v && !left_behind) || info.role == RAFT_LEADER)
        return true;
    retire_begin(s, slot);
    return true;
}

/* Now and then, for each replica here that its record no longer names. */
void retire_turn(struct server *s)
{
    bool all_placed = true;

    if (!s->meta.founded || s->now.ns < s->retire_at.ns) return;
    s->retire_at.ns = s->now.ns + ASK_MS * MS_NS;
    if (s->retire_seen == s->meta.version) return;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL || slot->retiring != RETIRE_NOT ||
            slot->group.v == META_GROUP)
            continue;
        const struct meta_shard *target = meta_shard(&s->meta, slot->group);
        if (target != NULL && meta_server_has(target, s->identity.server)) continue;
        all_placed = false;
        if (target == NULL) {
            if (slot->group.v < s->meta.cluster.next_group) retire_begin(s, slot);
            continue;
        }
        for (uint32_t v = 0; v < target->n_voters; v++)
            say(s, target->voters[v], slot->group, STATUS_ASK, (struct log_index){0});
    }
    if (all_placed) s->retire_seen = s->meta.version;
}
