/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint - when the table goes into the engine below, and what waits for that: the cut
 * of the log, snapshots for followers, digests.  One job at a time. */
#include "shard/shard_internal.h"

enum { JOB_RETRY_MS = 1000 };

void shard_want_checkpoint(struct shard *s)
{
    s->want_checkpoint = true;
}

void shard_want_digest(struct shard *s)
{
    s->want_digest = true;
    s->digest_needs_checkpoint = true;
}

bool shard_digest(const struct shard *s, struct log_index *at, uint64_t *digest,
                  uint64_t *keys)
{
    struct store_base base;
    if (s->want_digest || !store_digest_result(s->store, &base, digest, keys))
        return false;
    *at = base.index;
    return true;
}

bool shard_owns_job(const struct shard *s, const struct kv_job *job)
{
    return s->job == job;
}

bool shard_busy(const struct shard *s)
{
    return s->job != NULL;
}

static void start(struct shard *s, struct kv_job *job, enum shard_job_kind kind,
                  struct shard_out *out)
{
    check(s->job == NULL && out->job == NULL);
    s->job = job;
    s->job_kind = kind;
    out->job = job;
}

static bool checkpoint_due(const struct shard *s)
{
    return s->want_checkpoint || s->digest_needs_checkpoint ||
           store_table_bytes(s->store) >= s->config.table_bytes_max;
}

static void start_checkpoint(struct shard *s, struct shard_out *out)
{
    struct raft_config config;
    const bool known = raft_config_at(s->raft, s->applied, &config);
    s->extra.len = 0;
    if (known) raft_config_encode(&s->extra, &config);
    const struct store_base base = {s->applied, s->applied_term, buf_bytes(&s->extra)};
    struct kv_job *job = store_checkpoint(s->store, &base);
    if (job == NULL) return;
    s->want_checkpoint = false;
    s->digest_needs_checkpoint = false;
    start(s, job, SHARD_JOB_CHECKPOINT, out);
}

void checkpoint_turn(struct shard *s, struct shard_out *out)
{
    if (s->job != NULL || s->install.active || s->applied.v == 0) return;
    if (s->retry_at.ns > s->now.ns) return;
    s->retry_at.ns = 0;

    if (checkpoint_due(s)) start_checkpoint(s, out);
    if (s->job != NULL) return;
    if (s->want_digest && !s->digest_needs_checkpoint) {
        struct kv_job *job = store_digest(s->store);
        if (job != NULL) start(s, job, SHARD_JOB_DIGEST, out);
        return;
    }
    struct kv_job *sweep = store_sweep(s->store);
    if (sweep != NULL) start(s, sweep, SHARD_JOB_SWEEP, out);
}

/* How many entries below a checkpoint stay in the log for followers that are a little
 * behind: as many as wal-keep has room for, by the mean size of late. */
static struct log_index entries_kept(const struct shard *s)
{
    return (struct log_index){s->config.log_keep_bytes / s->entry_bytes_mean};
}

static void checkpoint_made(struct shard *s)
{
    s->disk_full = false;
    if (s->founding) { /* now there is something that a crash can't undo */
        s->founding = false;
        return;
    }
    struct raft_event ev = {.kind = RAFT_COMPACT, .now = s->now};
    /* Not what was applied when the job began: a table that failed before is written first,
     * as of its own position. */
    ev.index = store_base(s->store).index;
    ev.keep = entries_kept(s);
    raft_step(s->raft, &ev);
    transfer_ready(s);
}

void checkpoint_done(struct shard *s, int error)
{
    if (error == 0) {
        checkpoint_made(s);
        return;
    }
    /* The old checkpoint and the log still hold everything; the table stays frozen and is
     * tried again. */
    s->disk_full = true;
    s->want_checkpoint = true;
    s->retry_at.ns = s->now.ns + JOB_RETRY_MS * MS_NS;
}

void shard_job_done(struct shard *s, struct kv_job *job, int error, struct instant now)
{
    check(s->job == job);
    s->now = now;
    const enum shard_job_kind kind = s->job_kind;
    s->job = NULL;
    s->job_kind = SHARD_JOB_NONE;
    store_job_done(s->store, job, error);
    if (kind == SHARD_JOB_CHECKPOINT) checkpoint_done(s, error);
    if (kind == SHARD_JOB_INSTALL) transfer_install_done(s, error);
    if (kind == SHARD_JOB_DIGEST) s->want_digest = false;
    if (kind == SHARD_JOB_SWEEP && error != 0)
        s->retry_at.ns = now.ns + JOB_RETRY_MS * MS_NS;
}
