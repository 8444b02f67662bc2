/* SPDX-License-Identifier: Apache-2.0 */
/* shard - one replica of one shard: the ordered core, the state, and evaluation, as one core.
 *
 *     requests ──► shard_run()      evaluates on the newest state, stages effects, proposes
 *     messages ──► shard_receive()  ┐
 *     disk     ──► shard_durable()  ├─ change state only
 *     time     ──► shard_tick()     ┘
 *                  shard_turn_end() ──► log records, messages, jobs; what may be answered now
 *
 * A request's answer is written at once, but may leave only when what it saw meets the
 * policy: that condition is its gate.  shard_gate() tells whether it holds, and whether it
 * can still come to hold.
 *
 * Owner     arguments are borrowed; what `out` points to is good until the next call
 */
#pragma once

#include "data/command.h"
#include "meta/policy.h"
#include "raft/raft.h"
#include "store/store.h"
#include "wal/wal.h"

/* Where in a shard's log a client has been: what it wrote or saw lies in the log up to
 * `index`, whose entry there is of `term`. */
struct shard_position {
    struct log_index index; /* 0: nowhere yet */
    struct term term;
    bool settled; /* that was committed: only a new epoch could take it back */
};

enum shard_position_state {
    POSITION_HERE = 1, /* what this replica would answer from has it */
    POSITION_AHEAD,    /* not yet */
    POSITION_LOST, /* never: this log has something else there, or nothing that tells */
};

/* Everything in a gate must have come about, in the term it was made in. */
struct shard_gate {
    struct term term;       /* of the leadership that answered; 0: no gate at all */
    struct log_index index; /* committed up to here; 0: nothing */
    uint64_t round;         /* read round confirmed; 0: none */
    struct log_index saw;   /* newest entry that the answer shows something of */
    bool wrote; /* effects were proposed: lost means UNCERTAIN, not NOLEADER */
    uint64_t
        ahead_bytes; /* of the log, its own included, that were to be committed then */
};

enum shard_gate_state { GATE_OPEN = 1, GATE_WAITS, GATE_LOST };

enum shard_refusal {
    SHARD_TAKEN = 0,
    SHARD_NOT_LEADER, /* here; shard_leader() may know who */
    SHARD_NOT_READY,  /* leads, but its first entry is not committed yet: wait */
    SHARD_BUSY,       /* leadership is being handed over: wait */
    SHARD_FULL,       /* uncommitted or unwritten bound: NOQUORUM, nothing applied */
    SHARD_LONELY,     /* too few followers answer for ACK: NOQUORUM, nothing applied */
    SHARD_NO_ROOM,    /* the disk is full: FULL */
    SHARD_NO_MEMORY, /* likewise; only for CF_DENYOOM, as for a disk without room for data */
    SHARD_DAMAGED, /* alone and doubtful: READONLY */
    SHARD_CLOSED,  /* to a key of the request, for a keyspace that comes or goes: wait */
    SHARD_ONCE_FULL, /* no room to remember one more request id */
    SHARD_BEHIND,    /* of request->position: wait */
    SHARD_LOST,      /* what it names is not in this log, and never will be */
};

/* What snapshots may take of a server's links: shared by its shards. */
struct shard_rate {
    uint64_t bytes_per_s; /* 0: no bound */
    uint64_t bytes;       /* may go now */
    struct instant at;    /* when that was so */
};

/* What INFO tells, of all shards that share it. */
struct shard_counts {
    uint64_t hits, misses; /* of keys that commands looked up to read them */
    uint64_t expired;      /* keys that this leader removed at their deadline */
    /* Snapshots: begun, begun anew since the receiver had, and taken in. */
    uint64_t snapshots_sent, snapshots_restarted, snapshots_installed;
};

struct shard_config {
    struct shard_rate *rate;     /* NULL: no bound */
    struct shard_counts *counts; /* added to; NULL: nobody asks */
    struct group_id group;
    struct server_id self;
    struct raft_settings raft;
    struct kv kv;
    struct mem *mem;
    uint64_t table_bytes_max;
    uint64_t log_keep_bytes; /* of entries below a checkpoint, for followers behind */
    uint64_t snapshot_piece_bytes;
    uint32_t snapshot_pieces_max; /* on their way to one follower */
    uint32_t once_max;            /* request ids remembered, */
    uint64_t once_keep_ns;        /* and for how long at least */
    /* mutants of the simulator; all false in the product */
    bool bug_once_unlogged;  /* remembered by the leader alone */
    bool bug_position_index; /* of a position only the index counts */
    bool bug_expires_alone;  /* a follower leaves out what its clock calls expired */
    /* Every effect on a key that commits, in order (the meta shard's view); NULL: nobody
     * asks. */
    void (*on_effect)(void *ctx, const struct effect *e);
    /* The state was replaced whole by a snapshot. */
    void (*on_reset)(void *ctx);
    void *ctx;
    bool bug_never_closed; /* a mutant of the simulator; false in the product */
};

struct shard;

/* A replica from what its engine holds, or, if that is nothing, a new one that waits for a
 * leader's snapshot or log.  Then shard_restore() for each record recovered from the log,
 * in order, then shard_begin(). */
struct shard *shard_new(const struct shard_config *config, struct instant now);
/* A first voter's replica of a new group: state as of index 1, with `config` as membership, the
 * same at each of them.  `first`: it stands for leader at once, for the others give it time. */
void shard_found(struct shard *s, const struct raft_config *config, uint32_t epoch,
                 bool first);
void shard_restore(struct shard *s, const struct wal_record *record);
/* The log of this group may lack entries (wal_out.damage). */
void shard_doubt(struct shard *s);
/* After all records: the checkpoint says that there must have been a log, and there is none. */
bool shard_lacks_log(const struct shard *s);
void shard_begin(struct shard *s, struct instant now);
/* Instead: everything in the log goes into the store, committed or not (src/server/recover.c).
 * The replica is of no other use then. */
void shard_replay(struct shard *s);
void shard_free(struct shard *s);

/* ---- requests ---- */
enum { SHARD_ONCE_MAX = 128 };

struct shard_request {
    const struct command *const
        *commands; /* n of them; for n > 1 they are one entry (EXEC) */
    const struct bytes *const *args;
    const uint32_t *n_args;
    uint32_t n_commands;
    const struct shard_watch *watches; /* EXEC: changes that must still be the last */
    uint32_t n_watches;
    struct bytes once; /* id of CLIENT REQUEST, to SHARD_ONCE_MAX bytes; empty: none */
    /* What must be seen; with watches, also where the log was when they were set: if that is
     * lost, none of them holds. */
    struct shard_position position;
    struct wall now;
    struct instant at; /* what leases are judged by; 0: when the shard was stepped last */
    /* What the arguments lie in, to be given away: a large value may stay there, and bytes
     * before it, from lent_at on, are overwritten then.  NULL: they are only borrowed. */
    struct block *lent;
    size_t lent_at;
    struct far *far;  /* where one large value of the reply may be put; or NULL */
    bool exec;        /* answer as EXEC: an array of replies, null when a watch broke */
    bool memory_full; /* refuse CF_DENYOOM */
    bool log_full;    /* refuse every write: it could not become durable */
    bool log_behind;  /* likewise: as much as may wait for the disk does */
    enum policy_read read;
};

struct shard_watch {
    struct bytes key;
    struct log_index change;
};

/* Evaluates at the leader, on the newest state; the replies are appended to `reply`, the
 * gate tells when they may leave.  Unless SHARD_TAKEN nothing was done and nothing written. */
MUST_USE enum shard_refusal shard_run(struct shard *s,
                                      const struct shard_request *request,
                                      struct reply *reply, struct shard_gate *gate);
/* Evaluates reads on this replica's committed state, whoever leads; the caller has seen to
 * it that the state is recent enough.  False: it is closed to them, nothing was written. */
MUST_USE bool shard_read_here(struct shard *s, const struct shard_request *request,
                              struct reply *reply);
/* Whether the request would see a key that is past its deadline by our clock while that is not
 * logged yet: only a leader may say that it is gone. */
bool shard_sees_deadline(struct shard *s, const struct shard_request *request);
/* WATCH, at the leader: of each key in request->watches the index of its last change, 0 for
 * an absent one.  They hold with what was watched before, whose position the request names: if
 * that is lost, each is SHARD_CHANGE_NEVER, and EXEC will find that it does not hold. */
#define SHARD_CHANGE_NEVER UINT64_MAX
MUST_USE enum shard_refusal shard_watch(struct shard *s,
                                        const struct shard_request *request,
                                        struct log_index *changes,
                                        struct shard_gate *gate);
/* One entry of ready-made effects (the meta shard's changes), at the leader. */
MUST_USE enum shard_refusal shard_propose_effects(struct shard *s, struct bytes effects,
                                                  struct shard_gate *gate);
enum shard_gate_state shard_gate(const struct shard *s, const struct shard_gate *gate);

/* Of an entry of this log; of one that is not in memory any more, a later one's. */
struct shard_position shard_position_at(const struct shard *s, struct log_index index);
enum shard_position_state shard_position(const struct shard *s,
                                         const struct shard_position *p);

/* ---- closed prefixes (close.c) ----
 * A keyspace that comes takes keys from default, one that goes gives them back, and servers
 * hear of it at different times.  So whoever loses keys closes itself to them in its own log:
 * from the evaluation of that entry on it refuses requests with such a key, whatever map they
 * were routed by.  A name closes the prefix that meta_key_prefix() finds; the empty name closes
 * the shard to every key. */
enum shard_closing {
    CLOSING_NOT = 0,
    CLOSING_WRITES, /* no new keys, while those there are are counted */
    CLOSING_ALL,    /* reads, too: the keys are, or are about to be, another shard's */
    CLOSING_END,
};
struct shard_closed {
    uint32_t keyspace; /* for whose sake */
    enum shard_closing level;
    struct log_index change;
};
/* On the newest state, at the leader. */
bool shard_closed(struct shard *s, struct bytes name, struct shard_closed *out);
/* The next one behind `place` and `skip`, both 0 at first; nothing is closed or opened in
 * between, and the name is good until the next call. */
bool shard_closed_next(struct shard *s, struct key_place *place, uint32_t *skip,
                       struct bytes *name, struct shard_closed *out);
/* Closes, or with CLOSING_NOT opens what is closed, as one entry. */
MUST_USE enum shard_refusal shard_close(struct shard *s, struct bytes name,
                                        uint32_t keyspace, enum shard_closing level);

struct shard_count {        /* zeroed at first */
    struct key_place place; /* to go on from */
    uint64_t keys, due;     /* due: past their deadline, which is not logged yet */
    bool done;
};
/* Counts keys with that prefix in the newest state, looking at `steps` keys or a few more. */
void shard_count_prefix(struct shard *s, struct bytes name, struct wall now,
                        uint32_t steps, struct shard_count *c);

/* At a follower: the number of the read round to wait for; see shard_round_done(). */
uint64_t shard_read_round(struct shard *s, struct instant now);
/* Whether a follower's round is answered and applied: GATE_LOST when it was refused. */
enum shard_gate_state shard_round_done(const struct shard *s, uint64_t round);
struct log_index shard_applied(const struct shard *s);
/* Whether this replica holds all that was acknowledged `lag_max_ns` ago: see Lag in raft.h.
 * A leader always does. */
bool shard_is_fresh(const struct shard *s, struct instant now, uint64_t lag_max_ns);
/* Replicas besides the leader that hold `index`, learners too: WAIT.  On disk; under DURABILITY
 * memory, written. */
uint32_t shard_copies(const struct shard *s, struct log_index index);

/* ---- the rest of the world ---- */
/* Now and then: proposes the deletion of some keys that are due, and forgets some request
 * ids that are old enough; true if it did.  At the leader. */
bool shard_expire(struct shard *s, struct wall now, struct instant at);
bool shard_busy(const struct shard *s); /* a job is under way */
/* Whether something of this shard waits for the log. */
bool shard_syncing(const struct shard *s);

void shard_receive(struct shard *s, const struct raft_msg *m, struct instant now);
/* These tell of servers and connections; true: it concerns this shard, which is to be stepped.
 * See raft.h: a silent group rests on them.  unsent: messages to it were dropped on our side. */
bool shard_unsent(struct shard *s, struct server_id peer, struct instant now);
bool shard_peer_lost(struct shard *s, struct server_id peer, struct instant now);
bool shard_peer_up(struct shard *s, struct server_id peer, struct instant now);
bool shard_peer_silent(struct shard *s, struct server_id peer, struct instant now);
bool shard_wake(struct shard *s, struct server_id leader, struct instant now);
/* The log is synced up to `durable`, and written up to `written`; `alive`: the disk has done
 * something since, though perhaps nothing of this shard. */
void shard_durable(struct shard *s, struct lsn durable, struct lsn written, bool alive,
                   struct instant now);
void shard_tick(struct shard *s, struct instant now, struct wall wall);
void shard_job_done(struct shard *s, struct kv_job *job, int error, struct instant now);
bool shard_owns_job(const struct shard *s, const struct kv_job *job);
void shard_loaded(struct shard *s, const struct wal_read_done *done, struct instant now);
void shard_change_config(struct shard *s, const struct raft_config *next,
                         struct instant now);
void shard_transfer(struct shard *s, struct server_id to,
                    struct instant now); /* 0: fullest */
/* False: this is no record of an entry. */
bool shard_entry(const struct wal_record *record, struct raft_entry *out);
/* An epoch that the meta shard has begun (raft.h, Epochs): older leaders are refused. */
void shard_fence(struct shard *s, uint32_t epoch, struct instant now);
/* ... and this replica is named to lead it first, with `config`. */
void shard_decree(struct shard *s, uint32_t epoch, const struct raft_config *config,
                  struct instant now);
void shard_want_checkpoint(struct shard *s); /* soon: the log is to be cut */
/* A digest as of everything applied now: takes a checkpoint, then reads.  Poll with _result. */
void shard_want_digest(struct shard *s);
bool shard_digest(const struct shard *s, struct log_index *at, uint64_t *digest,
                  uint64_t *keys);

struct shard_out {
    const struct raft_msg *msgs; /* may leave now: what they wait for is durable */
    uint32_t n_msgs;
    struct kv_job *job; /* to be run; NULL: none */
    bool load_wanted;   /* entries to read back: answer with shard_loaded() */
    struct raft_load load;
    bool role_changed;
    bool apart; /* it can't follow this epoch's leader, and must be made anew */
    struct log_index apart_from, apart_upto; /* see raft_out */
    bool quiet; /* nothing to do until something comes: its server vouches for it */
    const struct raft_entry *discarded; /* see raft_out; good until the next turn ends */
    uint32_t n_discarded;
    struct server_id accused;  /* a replica that lost what it had acknowledged; 0: none */
    bool progressed;           /* gates may have opened or been lost */
    struct log_index released; /* the log may drop entries up to here; 0: no news */
    struct instant wake;
};
/* Appends what must be durable to `wal`, applies what is committed, and tells the rest. */
void shard_turn_end(struct shard *s, struct wal *wal, struct instant now,
                    struct wall wall, struct shard_out *out);

/* ---- looking in ---- */
struct group_id shard_group(const struct shard *s);
const struct raft *shard_raft(const struct shard *s);
struct store *shard_store(struct shard *s);
struct server_id shard_leader(const struct shard *s); /* 0: unknown */
bool shard_leads(const struct shard *s);              /* leads and is ready */
struct term shard_term(const struct shard *s);
const char *shard_trouble(const struct shard *s); /* for status: NULL or one sentence */
void shard_verify(const struct shard *s);
