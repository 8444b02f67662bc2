/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs that write what the store holds, and sweep what it has left behind. */
#include "base/check.h"
#include "store/store_state.h"

/* A job's removals: some milliseconds of the checkpoint thread. */
enum { SWEEP_STEPS = 4096 };

bool store_busy(const struct store *s)
{
    return s->job.kind != JOB_NONE;
}

struct kv_job *job_begin(struct store *s, enum job_kind kind,
                         int (*run)(struct kv_job *job, struct kv_txn *txn))
{
    check(!store_busy(s)); /* S3 */

    root_free(&s->job.root, s->config.mem);
    s->job = (struct job){
        .kv = {.run = run, .writes = kind != JOB_DIGEST, .ops = s->config.kv.ops},
        .kind = kind,
        .group = s->config.group,
        .gen = s->root.gen,
        .gen_new = s->root.gen,
        .gen_spared = s->install.gen,
    };
    return &s->job.kv;
}

static struct batch batch_of(const struct job *job, struct kv_txn *txn)
{
    return (struct batch){.txn = txn, .ops = job->kv.ops, .gen = job->gen_new};
}

/* ---- checkpoint ---- */

/* A wiped shard goes on in a new generation; so does one that had none. */
static int checkpoint_gen(struct job *job, struct batch *b)
{
    job->gen_new = job->gen;
    if (job->gen != 0 && !job->frozen->wiped) return 0;

    int rc = batch_gen_new(b, &job->gen_new);
    if (rc == 0 && job->gen != 0) rc = batch_gen_mark(b, job->gen, GEN_DEAD, job->group);
    b->gen = job->gen_new;
    if (rc == 0 && job->gen != 0) return batch_copy_system(b, job->gen);
    b->fresh = job->gen == 0;
    return rc;
}

static int checkpoint_run(struct kv_job *kv, struct kv_txn *txn)
{
    struct job *job = (struct job *)kv;
    struct batch b = batch_of(job, txn);
    struct omap_walk walk = omap_walk_from(job->frozen->nodes, 0);
    uint64_t place;
    void *chain;

    int rc = checkpoint_gen(job, &b);
    while (rc == 0 && omap_walk_next(&walk, &place, &chain))
        for (const struct node *n = chain; rc == 0 && n != NULL; n = n->next)
            rc = batch_write_node(&b, n);
    job->root.gen = job->gen_new;
    return rc == 0 ? batch_put_root(&b, job->group, &job->root) : rc;
}

static void freeze(struct store *s, const struct store_base *base)
{
    check(base->index.v >= s->root.index.v);

    s->frozen = s->table;
    s->frozen->last = s->committed;
    s->table = table_new(s->config.mem, &s->grave);
    /* With nothing staged the tail chunk too can go when the frozen table goes. */
    arena_seal(&s->nodes);
    root_set_base(&s->frozen_root, s->config.mem, base);
    s->frozen_root.keys = s->count.keys;
    s->frozen_root.system = s->count.system;
}

struct kv_job *store_checkpoint(struct store *s, const struct store_base *base)
{
    if (store_busy(s)) return NULL;

    if (s->frozen == NULL) freeze(s, base);
    struct kv_job *kv = job_begin(s, JOB_CHECKPOINT, checkpoint_run);
    s->job.frozen = s->frozen;
    root_copy(&s->job.root, s->config.mem, &s->frozen_root);
    return kv;
}

/* ---- sweeping ---- */

/* May this store sweep what a 'G' entry names? */
static bool may_sweep(const struct job *job, uint32_t gen, struct bytes value)
{
    enum gen_state state;
    struct group_id group;
    check(gen_decode(value, &state, &group));

    if (gen == job->gen_spared) return false;
    return state == GEN_DEAD || group.v == job->group.v;
}

/* Removes what begins with (kind, gen); *left counts down and stops it at 0. */
static int sweep_kind(const struct batch *b, char kind, uint32_t gen, uint32_t *left)
{
    struct ekey from;
    struct bytes key, value;
    int rc = 0;

    ekey_kind(&from, kind, gen);
    while (rc == 0 && *left > 0 &&
           b->ops->txn_seek(b->txn, ekey_bytes(&from), &key, &value)) {
        if (!ekey_is_of(key, kind, gen)) return 0;
        check(key.len <= KV_KEY_MAX);
        memcpy(from.at, key.at, key.len);
        from.len = (uint32_t)key.len;
        rc = b->ops->remove(b->txn, ekey_bytes(&from));
        --*left;
    }
    return rc;
}

static int sweep_run(struct kv_job *kv, struct kv_txn *txn)
{
    struct job *job = (struct job *)kv;
    const struct batch b = batch_of(job, txn);
    uint32_t left = SWEEP_STEPS;
    uint32_t gen = 0;
    struct ekey at;
    struct bytes key, value;
    int rc = 0;

    for (ekey_dead_gen(&at, gen);
         left > 0 && b.ops->txn_seek(txn, ekey_bytes(&at), &key, &value);
         ekey_dead_gen(&at, gen + 1)) {
        if (key.len != 5 || key.at[0] != 'G') break;
        gen = load_u32be(key.at + 1);
        if (!may_sweep(job, gen, value)) continue;
        for (const char *kind = "DPT"; rc == 0 && *kind != '\0'; kind++)
            rc = sweep_kind(&b, *kind, gen, &left);
        if (rc != 0) return rc;
        if (left == 0) break;
        ekey_dead_gen(&at, gen);
        rc = b.ops->remove(txn, ekey_bytes(&at));
        if (rc != 0) return rc;
    }
    return 0;
}

struct kv_job *store_sweep(struct store *s)
{
    if (store_busy(s)) return NULL;

    store_renew(s); /* others' generations die too, and our reader must not keep them */
    const struct job as = {.group = s->config.group, .gen_spared = s->install.gen};
    uint32_t gen = 0;
    struct ekey at;
    struct bytes key, value;

    for (ekey_dead_gen(&at, gen);
         s->config.kv.ops->seek(s->reader, ekey_bytes(&at), &key, &value);
         ekey_dead_gen(&at, gen + 1)) {
        if (key.len != 5 || key.at[0] != 'G') break;
        gen = load_u32be(key.at + 1);
        if (may_sweep(&as, gen, value)) return job_begin(s, JOB_SWEEP, sweep_run);
    }
    return NULL;
}

/* ---- dropping ---- */

/* With its store nobody would know that a half generation of this group is dead. */
static int drop_halves(const struct job *job, const struct batch *b)
{
    uint32_t gen = 0;
    struct ekey at;
    struct bytes key, value;
    int rc = 0;

    for (ekey_dead_gen(&at, gen);
         rc == 0 && b->ops->txn_seek(b->txn, ekey_bytes(&at), &key, &value);
         ekey_dead_gen(&at, gen + 1)) {
        enum gen_state state;
        struct group_id group;

        if (key.len != 5 || key.at[0] != 'G') break;
        gen = load_u32be(key.at + 1);
        check(gen_decode(value, &state, &group));
        if (state == GEN_HALF && group.v == job->group.v)
            rc = batch_gen_mark(b, gen, GEN_DEAD, group);
    }
    return rc;
}

static int drop_run(struct kv_job *kv, struct kv_txn *txn)
{
    struct job *job = (struct job *)kv;
    const struct batch b = batch_of(job, txn);
    struct ekey key;

    ekey_root(&key, job->group);
    int rc = b.ops->remove(txn, ekey_bytes(&key));
    if (rc == 0 && job->gen != 0) rc = batch_gen_mark(&b, job->gen, GEN_DEAD, job->group);
    return rc == 0 ? drop_halves(job, &b) : rc;
}

struct kv_job *store_drop(struct store *s)
{
    if (store_busy(s)) return NULL;

    store_install_abort(s);
    return job_begin(s, JOB_DROP, drop_run);
}

/* ---- the end of every job ---- */

static void checkpoint_done(struct store *s, int error)
{
    if (error != 0) return; /* the frozen table stays, for the next try */

    root_copy(&s->root, s->config.mem, &s->job.root);
    frozen_drop(s);
}

void store_job_done(struct store *s, struct kv_job *kv, int error)
{
    check(store_busy(s));
    check(kv == &s->job.kv);

    const enum job_kind kind = s->job.kind;
    s->job.kind = JOB_NONE;
    store_renew(s);
    switch (kind) {
    case JOB_CHECKPOINT: checkpoint_done(s, error); break;
    case JOB_SWEEP: break;
    case JOB_INSTALL: install_done(s, error); break;
    case JOB_DROP:
        if (error == 0) state_replace(s, &(struct root){0});
        break;
    case JOB_DIGEST: digest_done(s, error); break;
    case JOB_NONE: check(kind != JOB_NONE);
    }
    due_reset(s);
}
