/* SPDX-License-Identifier: Apache-2.0 */
/* start - who this server is, and how it comes to what it had.
 *
 *   no identity, no --join   a new cluster of one: draws its id, founds the meta shard
 *   no identity, --join      asks a member for an identity, then follows the meta shard
 *   identity                 recovers its log; --join is ignored
 *
 * The identity is one record of the engine, written before anything else: key "I", value
 * u8 version 1, u64 cluster, u32 server, blob name, u8 state, u64 the cluster that it was of
 * before it was recovered (0: none).
 */
#include "meta/record.h"
#include "server/server_state.h"

struct identity_job {
    struct kv_job job;
    uint8_t value[40 + META_NAME_MAX];
    size_t len;
};

static int identity_run(struct kv_job *job, struct kv_txn *txn)
{
    struct identity_job *j = (struct identity_job *)(void *)job;
    return job->ops->put(txn, BYTES_OF("I"), (struct bytes){j->value, j->len});
}

void identity_save(struct server *s)
{
    struct buf value = buf_new(s->mem);
    buf_put_u8(&value, 1);
    buf_put_u64(&value, s->identity.cluster.v);
    buf_put_u32(&value, s->identity.server.v);
    buf_put_blob(&value, bytes_of_str(s->identity.name));
    buf_put_u8(&value, (uint8_t)s->identity.state);
    buf_put_u64(&value, s->identity.was.v);

    struct identity_job *j = mem_zero(s->mem, sizeof *j);
    check(value.len <= sizeof j->value);
    memcpy(j->value, value.at, value.len);
    j->len = value.len;
    buf_free(&value);
    j->job = (struct kv_job){.run = identity_run,
                             .writes = true,
                             .ops = s->config.kv.ops,
                             .id = ++s->next_job};
    s->identity_job = j;
    server_act(s, SERVER_JOB)->job = &j->job;
    s->n_jobs++;
}

static bool identity_load(struct server *s, bool *found)
{
    struct bytes value, name;
    uint8_t version, state;
    *found = s->config.kv.ops->get(s->kv_reader, BYTES_OF("I"), &value);
    if (!*found) return true;
    struct cursor in = cursor_of(value);
    if (!get_u8(&in, &version) || version != 1) return false;
    if (!get_u64(&in, &s->identity.cluster.v) || !get_u32(&in, &s->identity.server.v) ||
        !get_blob(&in, &name) || name.len > META_NAME_MAX || !get_u8(&in, &state) ||
        state > IDENTITY_LOG_VOID || !get_u64(&in, &s->identity.was.v))
        return false;
    s->identity.state = (enum identity_state)state;
    memcpy(s->identity.name, name.at, name.len);
    s->identity.name[name.len] = 0;
    return true;
}

static void name_take(struct server *s)
{
    const struct bytes given = s->config.name;
    if (given.len > 0 && given.len <= META_NAME_MAX) {
        memcpy(s->identity.name, given.at, given.len);
        s->identity.name[given.len] = 0;
        return;
    }
    struct buf text = buf_new(s->mem);
    buf_putf(&text, "s%08x", (unsigned)(prng_next(&s->prng) & 0xffffffffu));
    memcpy(s->identity.name, text.at, text.len);
    buf_free(&text);
}

/* ---- the log ---- */

void start_refuse_newer(struct server *s)
{
    server_exit(s, 1,
                "the cluster's state was written by a newer version of sennit: this one "
                "speaks feature level %u; start the newer version",
                s->config.feature);
}

/* In the log there may be kinds of entries that only a newer version knows.  So the level is
 * looked at before the log is; the store has it since shortly after it rose. */
static bool level_is_known(struct server *s)
{
    const struct slot *slot = server_slot_find(s, (struct group_id){META_GROUP});
    struct meta_cluster cluster;
    struct item item;

    if (slot == NULL || slot->shard == NULL) return true;
    if (!store_find(shard_store(slot->shard), BYTES_OF("c"), &item)) return true;
    return record_cluster_decode(item.value, &cluster) &&
           cluster.feature <= s->config.feature;
}

static void wal_start(struct server *s)
{
    if (!level_is_known(s)) {
        start_refuse_newer(s);
        return;
    }
    const struct server_limits *l = &s->config.limits;
    const struct wal_config config = {
        .cluster = s->identity.cluster,
        .server = s->identity.server,
        .segment_bytes = l->wal_segment_bytes,
        .keep_bytes = l->wal_keep_bytes,
        .batch_bytes_max = 64 << 20,
        .read_bytes_max = 4 << 20,
        .idle_mark_ns = 50 * MS_NS,
        .sync_every_ns = SEC_NS,
        .mem = s->mem,
        .bug_durable_before_sync = s->config.mutant.wal == 1,
        .bug_tail_damage_is_torn = s->config.mutant.wal == 2,
    };
    s->wal = wal_new(&config);
    struct wal_out out;
    wal_open(s->wal, s->config.wal_files, s->config.n_wal_files, &out);
    server_take_wal(s, &out);
}

static struct slot *slot_with_shard(struct server *s, struct group_id group)
{
    struct slot *slot = server_slot(s, group);
    if (slot->shard != NULL) return slot;
    const struct shard_config config = reconcile_shard_config(s, group);
    slot->shard = shard_new(&config, s->now);
    if (shard_applied(slot->shard).v == 0 && retire_was_here(s, group))
        shard_doubt(slot->shard);
    return slot;
}

/* The shards that the engine knows: roots are 'R', u32be group (store/store.h). */
static void load_shards(struct server *s)
{
    const struct kv_ops *ops = s->config.kv.ops;
    uint8_t from[5] = {'R', 0, 0, 0, 0};
    struct bytes key, value;
    bool more = ops->seek(s->kv_reader, (struct bytes){from, sizeof from}, &key, &value);
    struct buf groups = buf_new(s->mem);
    while (more && key.len == 5 && key.at[0] == 'R') {
        buf_put_u32(&groups, load_u32be(key.at + 1));
        more = ops->next(s->kv_reader, &key, &value);
    }
    for (size_t i = 0; i < groups.len; i += 4)
        slot_with_shard(s, (struct group_id){load_u32le(groups.at + i)});
    buf_free(&groups);
}

static void restore(struct server *s, const struct wal_record *r)
{
    if (r->kind == WAL_MARK) return;
    if (r->kind == WAL_FORGET) { /* what came before belongs to a life that has ended */
        struct slot *slot = server_slot_find(s, r->group);
        if (slot == NULL || slot->shard == NULL) return;
        const bool kept = shard_applied(slot->shard).v > 0; /* it was placed here again */
        shard_free(slot->shard);
        slot->shard = NULL;
        if (kept) slot_with_shard(s, r->group);
        return;
    }
    shard_restore(slot_with_shard(s, r->group)->shard, r);
}

/* A shard that is past its founding shows that there was a log.  Without a file of it no shard
 * can be relied on, those least of all that had not yet been checkpointed. */
static bool log_is_gone(struct server *s)
{
    bool gone = false;

    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL || !shard_lacks_log(slot->shard)) continue;
        server_log(
            s, LOG_ERROR,
            "the log does not know shard %u, which the store holds: files of wal/ are "
            "missing; the shard does not vote until its peers have repaired it",
            slot->group.v);
        gone = gone || s->config.n_wal_files == 0;
    }
    return gone;
}

static void opened(struct server *s, const struct wal_out *out)
{
    s->wal_open = true;
    s->durable = s->checkpoint_lsn = out->durable;
    if (out->torn)
        server_log(s, LOG_INFO,
                   "the log ends in a record that was not written whole, as after "
                   "a crash; it was never acknowledged and is cut off");
    for (uint32_t i = 0; i < out->n_damage; i++)
        server_log(
            s, LOG_ERROR,
            "the log is damaged in file wal-%08x at offset %llu: what was acknowledged "
            "there may be gone from this server; its shards do not vote until their "
            "peers have repaired them",
            out->damage[i].file, (unsigned long long)out->damage[i].offset);
    const bool gone = log_is_gone(s);
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL) continue;
        if (out->n_damage > 0 || gone) shard_doubt(slot->shard);
        if (s->config.recover != RECOVER_NOT) continue;
        shard_begin(slot->shard, s->now);
        slot_touch(s, slot);
    }
    if (s->config.recover != RECOVER_NOT)
        recover_begin(s);
    else
        reconcile_begin(s);
}

void start_wal_out(struct server *s, const struct wal_out *out)
{
    for (uint32_t i = 0; i < out->n_recovered; i++)
        restore(s, &out->recovered[i]);
    if (out->open_error != WAL_OPEN_OK) {
        server_exit(s, 1, "the log can't be opened: %s", out->open_text);
        return;
    }
    if (out->opened) opened(s, out);
}

/* ---- the three ways to begin ---- */

static void found(struct server *s)
{
    name_take(s);
    s->identity.cluster.v = prng_next(&s->prng) | 1;
    s->identity.server.v = 1;
    identity_save(s); /* goes on in start_job_done() */
}

/* A directory that sennit recover has had in its hands.  True: there is no more to do here. */
static bool half_recovered(struct server *s)
{
    const bool recovers = s->config.recover != RECOVER_NOT;
    if (s->identity.state == IDENTITY_SOUND) return false;
    if (s->identity.state == IDENTITY_BEGUN && recovers) return false;
    if (s->identity.state == IDENTITY_BEGUN || (s->config.n_wal_files > 0 && !recovers)) {
        server_exit(s, 1,
                    "a recovery of this data directory was begun and not finished: run "
                    "sennit recover --data DIR --yes again");
        return true;
    }
    if (recovers) { /* what is left is to remove the log */
        server_exit(s, 0, "this server is a cluster of one now");
        return true;
    }
    load_shards(s);
    s->identity.state = IDENTITY_SOUND;
    identity_save(s);
    return true;
}

void start_begin(struct server *s)
{
    s->kv_reader = s->config.kv.ops->reader_open(s->config.kv.engine);
    check(s->kv_reader != NULL);
    bool known;
    if (!identity_load(s, &known)) {
        server_exit(s, 1,
                    "the data directory was written by a newer version of sennit; start "
                    "that version");
        return;
    }
    if (!known && s->config.n_wal_files > 0) {
        server_exit(s, 1,
                    "the data directory has a log but no identity: parts of it are "
                    "missing; restore it whole, or begin with an empty directory");
        return;
    }
    if (known) {
        const struct bytes given = s->config.name;
        if (given.len > 0 && !bytes_equal(given, bytes_of_str(s->identity.name))) {
            server_exit(
                s, 2,
                "this data directory belongs to server '%s', not to '%.*s'; leave "
                "--name away or give another --data",
                s->identity.name, (int)given.len, (const char *)given.at);
            return;
        }
        if (half_recovered(s)) return;
        load_shards(s);
        wal_start(s);
        return;
    }
    if (s->config.recover != RECOVER_NOT) {
        server_exit(s, 2, "there is no server's data in this directory");
        return;
    }
    if (s->config.join.len == 0) {
        found(s);
        return;
    }
    name_take(s);
    s->phase = PHASE_JOINING;
    s->join_at = s->now;
}

void start_join_turn(struct server *s)
{
    if (s->join_conn != NULL || s->identity_job != NULL || s->identity.server.v != 0)
        return;
    if (s->now.ns < s->join_at.ns) return;
    s->join_at.ns = s->now.ns + SEC_NS;
    peer_dial_to_join(s);
}

void start_joined(struct server *s, const struct joined *j)
{
    if (s->phase != PHASE_JOINING || s->identity.server.v != 0) return;
    if (!j->ok) {
        /* A refusal by rule is final; that the leader is away is not. */
        if (j->text.len > 4 && memcmp(j->text.at, "ERR ", 4) == 0)
            server_exit(s, 1, "the cluster refuses this server: %.*s",
                        (int)j->text.len - 4, (const char *)j->text.at + 4);
        else
            server_log(s, LOG_WARNING, "not joined yet: %.*s; trying again",
                       (int)j->text.len, (const char *)j->text.at);
        return;
    }
    s->identity.cluster = j->cluster;
    s->identity.server = j->server;
    server_log(s, LOG_INFO, "joined the cluster as server %u", j->server.v);
    identity_save(s);
}

bool start_owns_job(const struct server *s, const struct kv_job *job)
{
    return s->identity_job != NULL && &s->identity_job->job == job;
}

void start_job_done(struct server *s, int error)
{
    mem_free(s->mem, s->identity_job, sizeof *s->identity_job);
    s->identity_job = NULL;
    if (error != 0) {
        server_exit(s, 1, "the data directory can't be written (errno %d)", error);
        return;
    }
    s->config.kv.ops->reader_renew(s->config.kv.engine, s->kv_reader);
    if (s->recover != NULL) {
        recover_saved(s);
        return;
    }
    if (s->phase == PHASE_JOINING) s->phase = PHASE_OPENING;
    wal_start(s);
}

void start_free(struct server *s)
{
    if (s->wal != NULL) wal_free(s->wal);
    if (s->identity_job != NULL)
        mem_free(s->mem, s->identity_job, sizeof *s->identity_job);
    if (s->kv_reader != NULL)
        s->config.kv.ops->reader_close(s->config.kv.engine, s->kv_reader);
}
