/* SPDX-License-Identifier: Apache-2.0 */
/* kv - what the stores of a reactor need of an ordered key-value engine.
 *
 * Two engines fill this table: LMDB (src/host) and memory (src/store/kv_memory.h, for the
 * simulator and tests), with the same snapshot and crash semantics: a reader sees one
 * commit and nothing later until it is renewed; a transaction is there whole after its
 * commit, or not at all.
 *
 * Reading   on the loop, which never waits for a writer.
 * Writing   only inside a job.  The loop hands a job to the world, which runs it on its
 *           checkpoint thread (one job at a time, in order) and reports its end to the loop.
 *           run() touches nothing but the job's own memory, tables that are frozen, and the
 *           transaction; it allocates nothing.
 * Errors    put and remove return 0 or an errno; a job whose run() returns an error is
 *           rolled back whole and reported with it (ENOSPC: disk full; else the engine broke)
 * Owner     keys and values given by a reader are borrowed until that reader is renewed or
 *           closed; those given by `next` until the next call on the same cursor
 */
#pragma once

#include "base/bytes.h"

enum { KV_KEY_MAX = 511 };

struct kv_reader; /* the engine's: a consistent snapshot with one cursor */
struct kv_txn;    /* the engine's: a write transaction */

struct kv_ops {
    struct kv_reader *(*reader_open)(void *engine); /* NULL: too many readers */
    void (*reader_renew)(void *engine, struct kv_reader *reader);
    void (*reader_close)(void *engine, struct kv_reader *reader);
    bool (*get)(struct kv_reader *reader, struct bytes key, struct bytes *value);
    bool (*seek)(struct kv_reader *reader, struct bytes from, struct bytes *key,
                 struct bytes *value); /* the first key >= from */
    bool (*next)(struct kv_reader *reader, struct bytes *key, struct bytes *value);

    int (*put)(struct kv_txn *txn, struct bytes key, struct bytes value);
    int (*remove)(struct kv_txn *txn, struct bytes key); /* 0 too if it was not there */
    /* Reading inside the transaction, what it wrote included. */
    bool (*txn_get)(struct kv_txn *txn, struct bytes key, struct bytes *value);
    bool (*txn_seek)(struct kv_txn *txn, struct bytes from, struct bytes *key,
                     struct bytes *value);
};

struct kv {
    const struct kv_ops *ops;
    void *engine;
};

/* A piece of work for the checkpoint thread.  Embedded in what owns it. */
struct kv_job {
    int (*run)(struct kv_job *job, struct kv_txn *txn); /* 0 or errno: roll back */
    bool writes; /* false: txn is NULL, nothing is committed (digest) */
    const struct kv_ops *ops;
    uint64_t id; /* given by the reactor; echoed when done */
};
