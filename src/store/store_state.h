/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a store, and what is always true of it between calls.
 *
 * S1  a node is in the queue from its staging until its commit or drop; the overlay holds
 *     of each key the node that was staged last, none of a user's key that was staged
 *     before a staged wipe (`wipes` counts those), and nothing when the queue is empty
 * S2  committed <= staged; the arena's pieces are numbered by `staged`; every node in the
 *     frozen table has a number <= frozen->last <= every number in the table
 * S3  one job at a time: job.kind is not 0 while one is out, and then nothing of `job`,
 *     `frozen->nodes` or `taken` changes
 * S4  `reader` shows the engine at root or at a later commit that changed nothing of this
 *     shard; root.gen 0: nothing of this shard is in the engine
 * S5  count is of what is committed, count_newest of what find and walk show; of keys and
 *     of system items each
 * S6  every committed record with a deadline has a hint in its table or, when it is in
 *     the engine, a T entry at or after due_at; or it has been passed because something
 *     staged hides it
 */
#pragma once

#include "base/buf.h"
#include "store/record.h"
#include "store/store.h"
#include "store/table.h"

enum job_kind {
    JOB_NONE = 0,
    JOB_CHECKPOINT,
    JOB_SWEEP,
    JOB_INSTALL,
    JOB_DROP,
    JOB_DIGEST,
};

/* What a job may touch: this, the frozen table, taken bytes, the engine. */
struct job {
    struct kv_job kv; /* first: what run() is given */
    enum job_kind kind;
    struct group_id group;
    uint32_t gen;        /* the shard's when the job was made */
    uint32_t gen_spared; /* INSTALL: goes there, or 0; SWEEP: one is arriving there */
    uint32_t gen_new;    /* CHECKPOINT, INSTALL: where the data lie when it is done */
    const struct table *frozen;
    struct bytes taken;       /* INSTALL: records, checked already */
    bool last;                /* INSTALL: the switch too */
    struct kv_reader *reader; /* DIGEST */
    uint64_t digest;
    struct root root; /* to be written; DIGEST: what it is of */
};

/* A snapshot that arrives.  `taken` is apart from `in`, so that an install can be given
 * up, and the next begun, while a job still writes what the first one took. */
struct install {
    bool active, headed, ended, broken;
    uint64_t number; /* of this install, from 1 */
    uint64_t offset; /* bytes taken */
    struct buf in;
    size_t checked; /* of `in`: whole records, checked */
    uint64_t chain; /* each record's checksum is seeded by the one before */
    struct counts counts;
    bool any;       /* a record has been taken */
    uint32_t gen;   /* 0: no batch was written yet */
    uint64_t place; /* of the last record ... */
    uint32_t suffix_len;
    uint8_t suffix[SUFFIX_MAX];
    uint64_t length; /* ... and of its value, if that is in pieces, */
    uint32_t pieces, pieces_seen;
    struct root root; /* what the shard will be */
};

struct taken {
    struct buf records;
    uint64_t number; /* of the install that took them */
    bool last;
};

struct digest {
    bool known;
    uint64_t value;
    struct root root;
};

struct store {
    struct store_config config;
    struct kv_reader *reader;
    struct root root;

    struct omap *overlay; /* place -> chain of the newest staged nodes */
    struct node *first_staged, *last_staged;
    uint32_t wipes;
    uint64_t staged, committed;
    struct counts count, count_newest;

    struct table *table;
    struct table *frozen; /* NULL: none */
    struct root frozen_root;
    struct arena nodes;
    struct grave grave;

    struct buf long_key;
    struct fill *fills; /* large values that are being read: fill.c */

    enum due_state { DUE_UNREAD = 0, DUE_FOUND, DUE_NONE } due_state;
    struct ekey due_at; /* UNREAD: look from here; FOUND: this entry */
    struct buf due_key; /* what store_due() gave */
    bool next_known, next_any;
    int64_t next_ms;

    struct job job;
    struct install install;
    struct taken taken;
    bool installed;
    struct digest digest;
};

/* Each numbered sentence that can be told from the state alone; O(all that is in
 * memory). */
void store_verify(const struct store *s);

/* ---- between the files of this folder ---- */

/* The record of a key in the engine as of the reader. */
bool engine_find(struct store *s, uint64_t place, struct bytes key, struct record *out);
/* The same key's version in the table or the frozen table; *hidden: there is none
 * below. */
struct node *committed_find(const struct store *s, uint64_t place, struct bytes key,
                            bool *hidden);
struct node *staged_find(const struct store *s, uint64_t place, struct bytes key,
                         bool *hidden);

void fills_free(struct store *s); /* those that somebody waits for are filled */
void due_reset(struct store *s);  /* the engine or what is staged has changed */
void due_unpark(struct store *s);
void due_add(struct store *s, int64_t deadline_ms); /* a hint was added */

struct kv_job *job_begin(struct store *s, enum job_kind kind,
                         int (*run)(struct kv_job *job, struct kv_txn *txn));
void frozen_drop(struct store *s);
/* From here on the store is what the engine holds, and nothing above it. */
void state_replace(struct store *s, const struct root *root);

void install_done(struct store *s, int error);
void install_free(struct store *s);
void digest_done(struct store *s, int error);

/* ---- the stream of a snapshot ----
 *
 *   record  u32 length of the body, body, u64 checksum: of the body, seeded by the
 *           checksum before it (0 at first), so that the last one stands for the whole
 *   body    u8 kind, then by kind:
 *     HEAD    u8 format 1, u64 index, u64 term
 *     ITEM    u64 place, u16 length, suffix, the engine's record
 *     PIECE   u64 place, u16 length, suffix, u32 n, bytes: of the item before it
 *     END     u64 keys, u64 system items
 *   Items in the order of (place, suffix), pieces in their order.  Integers
 *   little-endian. */
enum stream_kind { STREAM_HEAD = 1, STREAM_ITEM, STREAM_PIECE, STREAM_END };
enum {
    STREAM_FORMAT = 1,
    STREAM_FRAME = 4 + 8,
    STREAM_BODY_MAX = 512 + RECORD_HEAD + 16 + KEY_MAX + STORE_PIECE_BYTES,
};

struct stream_spot {
    uint64_t place;
    struct bytes suffix;
    struct bytes rest; /* an item's record, or a piece's number and bytes */
};
MUST_USE bool stream_spot_decode(struct bytes body, struct stream_spot *out);

/* ---- inside jobs (batch.c) ---- */
struct batch {
    struct kv_txn *txn;
    const struct kv_ops *ops;
    uint32_t gen;
    bool fresh; /* nothing can be there yet */
};
int batch_gen_new(const struct batch *b, uint32_t *gen);
int batch_gen_mark(const struct batch *b, uint32_t gen, enum gen_state state,
                   struct group_id group);
int batch_put_root(const struct batch *b, struct group_id group, const struct root *root);
int batch_write_node(const struct batch *b, const struct node *n);
int batch_put_item(const struct batch *b, const struct stream_spot *item);
int batch_put_piece(const struct batch *b, const struct stream_spot *piece);
int batch_copy_system(const struct batch *b, uint32_t gen_from);
