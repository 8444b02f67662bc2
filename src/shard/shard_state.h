/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a shard's replica, and what is always true of it between steps.
 *
 * S1  applied <= raft commit, and applied never goes back but by a snapshot (then it grows)
 * S2  something is staged only while this replica leads in `lead_term`
 * S3  every mark in `pending` is larger than `durable_mark`, in rising order, as their lsn; one
 *     that is lazy counts once its lsn is written, never before one that is not
 * S4  every held message waits for a mark larger than durable_mark; of those that wait for the
 *     same one there is one for each peer, term and kind, refusals being a kind of their own
 * S5  every name that is closed, staged or committed, is in `maybe_closed`
 */
#pragma once

#include "base/hmap.h"
#include "shard/shard.h"

struct shard_pending { /* a mark is durable once the log is durable up to lsn */
    uint64_t mark;
    struct lsn lsn;
    bool lazy;
};

enum { SHARD_PENDING_MAX = 64, SHARD_ROUNDS_MAX = 64 };

/* What an idle shard does not need is made when it is needed: a server may hold ten thousand
 * shards.  So the rings and lists below begin empty and double up to their bounds. */

struct shard_round { /* a follower's read round that the leader has answered */
    uint64_t round;
    struct log_index index; /* 0: refused */
};

/* A snapshot on its way to one follower: a window of bytes not yet acknowledged. */
struct shard_sender {
    struct server_id to;         /* 0: free */
    struct store_snapshot *snap; /* NULL: waits for a checkpoint */
    uint64_t acked, sent;        /* offsets in the stream; window holds acked .. */
    struct buf window;
    bool end_read; /* window reaches the end of the stream */
    bool paced;    /* more is to leave, and the server's bound says not yet */
    struct instant heard, resend;
};

/* A snapshot that arrives. */
struct shard_install {
    bool active;
    struct server_id from;
    struct store_base base;
    struct buf extra;   /* base.extra points into it */
    uint64_t received;  /* offset behind what is kept or taken */
    struct buf backlog; /* arrived while a job was under way */
    bool whole;
};

/* What was applied at which time, for the age of what is remembered: once.c. */
enum { SHARD_AGES_MAX = 18 };
struct shard_age {
    struct instant when;
    struct log_index applied;
};
struct shard_ages {
    struct shard_age at[SHARD_AGES_MAX]; /* a ring, the oldest at `first` */
    uint32_t first, n;
    struct instant next;  /* when the next is due */
    struct log_index old; /* entries up to here were applied `once_keep_ns` ago */
};

enum shard_job_kind {
    SHARD_JOB_NONE = 0,
    SHARD_JOB_CHECKPOINT,
    SHARD_JOB_INSTALL,
    SHARD_JOB_DIGEST,
    SHARD_JOB_SWEEP,
};

struct shard {
    struct shard_config config;
    struct raft *raft;
    struct store *store;
    struct instant now;
    struct wall wall;

    struct log_index applied;
    struct term applied_term; /* of the entry at `applied` */
    bool state_found;         /* at start: the log knew term and vote */
    bool founding;         /* its first checkpoint is not durable yet: it says nothing */
    struct term lead_term; /* the term this replica leads in; 0: it does not */
    bool ready;            /* leads, and evaluates */
    bool unsynced;         /* DURABILITY memory: a power cut may take what is committed */
    struct prng prng;

    /* Durability. */
    struct shard_pending *pending; /* a ring */
    uint32_t pending_at, n_pending, pending_cap;
    uint64_t durable_mark;
    struct raft_msg *held; /* ring-less: moved down when the front is sent */
    uint32_t n_held, held_cap;
    struct raft_msg *out_msgs;
    uint32_t out_cap;
    struct buf scratch;   /* the body of a log record */
    bool log_base_wanted; /* a WAL_BASE record is due (after a snapshot) */
    bool log_base_clears; /* nothing of the log before it goes on behind it */

    /* Evaluation. */
    struct buf entry;          /* effects of the request being evaluated ... */
    struct block *entry_block; /* ... instead, once there is a large value among them, */
    struct bytes entry_lent;   /* which is the request's own: only this of it; or empty */
    struct block *lent;        /* of the request being evaluated */
    size_t lent_at;
    struct wall reads_at;        /* when what only reads is evaluated; 0: nothing is */
    struct log_index next_index; /* that it will have */
    struct log_index seen;       /* newest uncommitted index that evaluation saw */
    struct log_index saw;        /* newest that it showed, by what is not there, too */
    struct log_index acked;      /* answers that saw no more may leave */
    struct hmap maybe_closed;    /* hashes of names that are or were closed: close.c */

    /* Request ids that are remembered. */
    struct shard_ages ages;
    struct key_place once_at; /* of the walk over them; 0: at its beginning */

    /* Confirmed by the core. */
    uint64_t confirmed_round;
    struct shard_round *rounds;
    uint32_t n_rounds, rounds_cap;

    /* Checkpoints and snapshots. */
    struct kv_job *job; /* under way */
    enum shard_job_kind job_kind;
    bool want_checkpoint, want_digest, digest_needs_checkpoint;
    struct instant retry_at; /* after a failed job */
    bool disk_full;
    struct buf extra;             /* encoded membership for the base being written */
    struct shard_sender *senders; /* RAFT_SNAPSHOTS_MAX of them, or none yet */
    uint32_t n_senders;
    struct shard_install install;
    uint64_t entry_bytes_mean; /* for how many entries the log keeps */

    struct log_index released;
};
