/* SPDX-License-Identifier: Apache-2.0 */
/* recover - what `sennit recover` makes of a stopped survivor: a cluster of one.
 *
 * For when a majority is lost for good.  The server opens as always, and then, instead of
 * beginning:
 *
 *   1  tells, for each shard, how far its replica here goes, and what may be lost
 *      (RECOVER_LOOK ends here)
 *   2  identity: state BEGUN; no server starts on it any more
 *   3  each replica's log goes into its store, committed or not: what was acknowledged may be
 *      in it; the checkpoint's membership is this server alone, its term begins a new epoch
 *   4  the meta shard: this server alone, every shard here; a shard without a replica here
 *      begins anew, under a new number, empty
 *   5  identity: a new cluster, so that no member of the old one is ever taken for one of
 *      this; state LOG_VOID.  Who runs this removes the log's files
 *   6  the next start finds LOG_VOID and no log, and is a start like any other
 *
 * Ended anywhere in between it can be run again.
 */
#include "server/server_state.h"

struct recover {
    uint32_t n_jobs; /* checkpoints under way */
};

static bool has_replica(const struct slot *slot)
{
    struct raft_info info;

    if (slot == NULL || slot->shard == NULL) return false;
    raft_info(shard_raft(slot->shard), &info);
    return info.last.v > 0;
}

/* ---- telling ---- */

static void put_servers(struct server *s, const struct raft_members *c, struct buf *out)
{
    bool first = true;

    for (uint32_t i = 0; i < c->n_voters; i++) {
        const struct meta_server *server = meta_server(&s->meta, c->voters[i]);
        if (c->voters[i].v == s->identity.server.v) continue;
        buf_putf(out, "%s%s", first ? "" : ", ", server == NULL ? "?" : server->name.at);
        first = false;
    }
    buf_put_u8(out, 0);
}

static void tell_shard(struct server *s, const struct meta_shard *shard)
{
    const struct slot *slot = server_slot_find(s, shard->group);
    const struct meta_keyspace *k = meta_keyspace(&s->meta, shard->keyspace);
    const char *keyspace = k == NULL ? "(meta)" : k->name.at;
    struct raft_info info;

    if (!has_replica(slot)) {
        server_log(s, LOG_WARNING,
                   "shard %u of %s: no replica here: ALL of it is lost; it begins anew, "
                   "empty",
                   shard->group.v, keyspace);
        return;
    }
    raft_info(shard_raft(slot->shard), &info);
    const bool voter = raft_members_has_voter(&info.config, s->identity.server);
    struct buf others = buf_new(s->mem);
    put_servers(s, &info.config, &others);
    const uint64_t sure = store_base(shard_store(slot->shard)).index.v;
    server_log(s, LOG_INFO,
               "shard %u of %s: %s, up to position %llu in epoch %u, term %llu; up to "
               "%llu it is "
               "known to be committed, the rest is kept%s",
               shard->group.v, keyspace, voter ? "voter" : "learner",
               (unsigned long long)info.last.v, term_epoch(info.term),
               (unsigned long long)term_number(info.term), (unsigned long long)sure,
               info.doubtful ? "; ITS LOG IS DAMAGED, what lay behind is lost" : "");
    if (others.len > 1)
        server_log(s, LOG_WARNING,
                   "shard %u of %s: writes behind position %llu that a majority without "
                   "this server (%s) has acknowledged are lost",
                   shard->group.v, keyspace, (unsigned long long)info.last.v,
                   (const char *)others.at);
    buf_free(&others);
}

static void tell(struct server *s)
{
    server_log(s, LOG_INFO, "server %u '%s' of a cluster of %u", s->identity.server.v,
               s->identity.name, s->meta.n_servers);
    for (uint32_t i = 0; i < s->meta.n_shards; i++)
        tell_shard(s, s->meta.shards[i]);
}

/* The epoch that a group's next term begins; 0: there is no replica here. */
static uint32_t next_epoch(void *ctx, const struct meta_shard *shard)
{
    const struct slot *slot = server_slot_find(ctx, shard->group);
    struct raft_info info;

    if (!has_replica(slot)) return 0;
    raft_info(shard_raft(slot->shard), &info);
    const uint32_t known = term_epoch(info.term);
    return (known > shard->epoch ? known : shard->epoch) + 1;
}

/* ---- the stores ---- */

static void checkpoint(struct server *s, struct slot *slot, struct log_index at,
                       uint32_t epoch, uint64_t version)
{
    const struct raft_config alone = {
        .version = version, .n_voters = 1, .voters = {s->identity.server}};
    struct buf extra = buf_new(s->mem);

    raft_config_encode(&extra, &alone);
    const struct store_base base = {at, term_of_epoch(epoch), buf_bytes(&extra)};
    struct kv_job *job = store_checkpoint(shard_store(slot->shard), &base);
    check(job != NULL); /* nothing else runs */
    job->id = ++s->next_job;
    slot->retire_job = job;
    server_act(s, SERVER_JOB)->job = job;
    s->n_jobs++;
    s->recover->n_jobs++;
    buf_free(&extra);
}

static void apply_all(struct store *store, struct log_index at, struct bytes effects)
{
    struct cursor in = cursor_of(effects);
    struct effect e;
    enum effect_result got;

    while ((got = effect_decode(&in, &e)) == EFFECT_OK)
        store_apply(store, at, &e);
    check(got == EFFECT_END);
}

static void rewrite(struct server *s)
{
    struct slot *root = server_slot_find(s, (struct group_id){META_GROUP});
    struct buf effects = buf_new(s->mem);
    struct raft_info info;

    /* A new id first: the cluster's record holds it. */
    s->identity.was = s->identity.cluster;
    do
        s->identity.cluster.v = prng_next(&s->prng) | 1;
    while (s->identity.cluster.v == s->identity.was.v);
    meta_recover(&s->meta, s->identity.server, s->identity.cluster, next_epoch, s,
                 &(struct meta_change){&effects});

    for (uint32_t i = 0; i < s->meta.n_shards; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        struct slot *slot = server_slot_find(s, shard->group);
        if (!has_replica(slot)) continue;
        const uint32_t epoch = next_epoch(s, shard);
        raft_info(shard_raft(slot->shard), &info);
        struct log_index at = info.last;
        if (slot == root) {
            at.v++;
            apply_all(shard_store(root->shard), at, buf_bytes(&effects));
        }
        checkpoint(s, slot, at, epoch, shard->version + 1);
    }
    buf_free(&effects);
}

/* ---- steps ---- */

void recover_begin(struct server *s)
{
    struct slot *root = server_slot_find(s, (struct group_id){META_GROUP});

    s->recover = mem_zero(s->mem, sizeof *s->recover);
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->all_slots[i]->shard != NULL) shard_replay(s->all_slots[i]->shard);
    if (has_replica(root)) reconcile_rebuild(s);
    if (!s->meta.founded) {
        server_exit(s, 1,
                    "this server never learned of its cluster: there is nothing "
                    "to recover; start it anew with an empty directory");
        return;
    }
    tell(s);
    if (s->config.recover == RECOVER_LOOK) {
        server_exit(s, 0, "nothing was changed");
        return;
    }
    s->identity.state = IDENTITY_BEGUN;
    identity_save(s); /* goes on in recover_saved() */
}

void recover_saved(struct server *s)
{
    if (s->identity.state == IDENTITY_BEGUN)
        rewrite(s);
    else
        server_exit(s, 0, "this server is a cluster of one now");
}

bool recover_job_done(struct server *s, struct kv_job *job, int error)
{
    if (s->recover == NULL || start_owns_job(s, job)) return false;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->retire_job != job) continue;
        slot->retire_job = NULL;
        store_job_done(shard_store(slot->shard), job, error);
    }
    if (error != 0) {
        server_exit(s, 1, "a shard could not be written (errno %d); run this again",
                    error);
        return true;
    }
    if (--s->recover->n_jobs > 0) return true;
    s->identity.state = IDENTITY_LOG_VOID;
    identity_save(s);
    return true;
}

void recover_free(struct server *s)
{
    if (s->recover != NULL) mem_free(s->mem, s->recover, sizeof *s->recover);
}
