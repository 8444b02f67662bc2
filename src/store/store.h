/* SPDX-License-Identifier: Apache-2.0 */
/* store - the state of one shard's replica: what is staged, what is committed since the last
 * checkpoint, and the checkpoint in the engine below.
 *
 *     find ──►  overlay (staged, not yet committed; leader only)
 *           ──► table   (committed, newer than the checkpoint)
 *           ──► frozen  (the table being written by a checkpoint job)
 *           ──► engine  (kv.h; as of the last checkpoint)
 *
 * store_stage() puts an effect into the overlay as of a log index; store_commit() moves what
 * was staged up to an index down into the table; store_drop_staged() forgets it whole (leadership
 * lost).  A follower uses store_apply(), which is stage and commit in one.  Checkpoints,
 * snapshots, digests and followers only ever see committed state.
 *
 * Engine keys: every shard's data lie under a generation, a number never used twice in
 * an engine, so that a wipe, a snapshot's arrival and a drop are one small write, and what was
 * there before is swept later by bounded jobs.
 *
 *   'R' u32be group                              root of the shard: struct store_base, generation,
 *                                                number of keys, of system items
 *   'G'                                          the next generation, and those to be swept
 *   'D' u32be gen  u64be place  key...           data: one record
 *   'P' u32be gen  u64be place  key... u32be n   a piece (1 MB) of a large value
 *   'T' u32be gen  u64be deadline u64be place key...   deadline index
 *
 *   `place` is struct key_place (slot, 48 bits of hash): walks are in the order of slots, and
 *   equal on all replicas; system items (data/item.h) come behind all keys.  A key longer than STORE_KEY_INLINE bytes is cut there and
 *   followed by its 128-bit hash; the whole key then lies at the head of the record.
 *   A wipe copies the system items into the new generation.
 *   Record: u8 type, u8 flags, i64 deadline, u64 change, [blob key], value bytes or, with
 *   flag PIECES, u64 length.
 *
 * Deadlines  nothing expires here; store_due() tells the leader what is due.
 * Memory     the overlay's bound is the core's (uncommitted bytes); the table's is the
 *            caller's: store_table_bytes() tells when a checkpoint is worth while.
 * Owner    arguments are borrowed and copied, but for a value in a block, which is kept there;
 *            what find and walk give is good until the next call on the store that changes or
 *            renews it.  A value that lies in pieces in the engine is left out: store_read()
 */
#pragma once

#include "data/item.h"
#include "store/kv.h"

enum { STORE_KEY_INLINE = 400, STORE_PIECE_BYTES = 1 << 20 };

struct store_config {
    struct group_id group;
    struct kv kv;
    struct mem *mem;
};

/* What a checkpoint or snapshot is as of.  `extra` is the caller's (the membership). */
struct store_base {
    struct log_index index;
    struct term term;
    struct bytes extra; /* to 8 KB; given out: good until the next base is set */
};

struct store;

/* Reads the shard's root; *found false: this engine has never held the shard. */
struct store *store_open(const struct store_config *config, bool *found);
void store_free(struct store *s); /* nothing is written; no job runs now or ever will */
/* Lets go of the engine's older pages, which a reader keeps from being used again: to be
 * called now and then (each second).  The end of a job and store_sweep() do it too. */
void store_renew(struct store *s);
struct store_base store_base(const struct store *s);

/* ---- state ---- */
bool store_find(struct store *s, struct bytes key, struct item *out);
/* Appends part of a value that find or walk left out, as those in pieces are. */
void store_read(struct store *s, struct bytes key, uint64_t from, uint64_t len,
                struct buf *out);
/* As struct view's walk (data/item.h): newest state, staged included. */
bool store_walk(struct store *s, struct key_place from, uint32_t skip,
                struct key_place *place, struct bytes *key, struct item *out);
uint64_t store_count(const struct store *s);
/* System items (data/item.h).  store_walk() from a place of theirs walks over them, from a
 * key's place over keys, and ends where the other begins. */
bool store_find_system(struct store *s, struct bytes key, struct item *out);
uint64_t store_count_system(const struct store *s);

/* A reference to a block that will hold such a value, as it is now; NULL: it has to be read.
 * store_fill(), once a turn, brings in a bounded part; true: there is more. */
struct block *store_share(struct store *s, struct bytes key, const struct item *item);
bool store_fill(struct store *s);

void store_stage(struct store *s, struct log_index index, const struct effect *e);
void store_commit(struct store *s, struct log_index upto);
void store_drop_staged(struct store *s);
bool store_has_staged(const struct store *s);
void store_apply(struct store *s, struct log_index index, const struct effect *e);

/* The earliest deadline that may be due and a key that has it; false: none.  A key that is
 * due stays due until it is cleared or given another deadline. */
bool store_due(struct store *s, struct wall now, struct bytes *key);
/* When the next one is due, at the earliest; false: no deadlines. */
bool store_next_deadline(struct store *s, struct wall *at);

/* ---- checkpoint ---- */
uint64_t store_table_bytes(const struct store *s);
/* Freezes the table as of base (everything applied) and returns the job that writes it, or
 * NULL while another job of this store is under way.  The old base stays in force until
 * store_job_done(..., 0); after an error the frozen table is kept and tried again by the
 * next call. */
struct kv_job *store_checkpoint(struct store *s, const struct store_base *base);
/* Bounded sweeping of dead generations of the whole engine; NULL: nothing to sweep. */
struct kv_job *store_sweep(struct store *s);
/* Ends any job of this store that was given out. */
void store_job_done(struct store *s, struct kv_job *job, int error);
bool store_busy(const struct store *s);

/* ---- snapshot, out: as of the last checkpoint ---- */
struct store_snapshot;
struct store_snapshot *store_snapshot_open(
    struct store *s); /* NULL: no checkpoint yet, or
                                                              * too many readers */
struct store_base store_snapshot_base(const struct store_snapshot *snap);
/* Appends the bytes of the stream from `offset` on, at most bytes_max, to out; *end when
 * they reach its end.  Offsets go up; one step back (a resend) is allowed to any offset
 * given before within the last bytes_max.  The stream is records, each with a checksum, and ends
 * with a checksum of the whole. */
void store_snapshot_read(struct store_snapshot *snap, uint64_t offset, size_t bytes_max,
                         struct buf *out, bool *end);
void store_snapshot_close(struct store_snapshot *snap);

/* ---- snapshot, in: into a new generation beside the old state, switched at the end ---- */
enum store_install_result {
    STORE_INSTALL_MORE = 1,
    STORE_INSTALL_WHOLE,
    STORE_INSTALL_BROKEN
};
void store_install_begin(struct store *s, const struct store_base *base);
uint64_t store_install_offset(const struct store *s); /* bytes taken so far */
/* Takes the next bytes of the stream.  Not to be called while store_install_job() has a job
 * to give or one is under way. */
MUST_USE enum store_install_result store_install_take(struct store *s,
                                                      struct bytes piece);
/* A batch of taken records to be written, or, once whole, the switch; NULL: none needed. */
struct kv_job *store_install_job(struct store *s);
bool store_installed(struct store *s); /* true once, after the switch's job is done: the
                                        * overlay, table and count are those of the snapshot */
void store_install_abort(struct store *s);

/* The shard leaves this server: its root goes and its generation is swept. */
struct kv_job *store_drop(struct store *s);

/* ---- digest: a hash of all the shard holds as of the last checkpoint ---- */
struct kv_job *store_digest(struct store *s); /* reads only; NULL while busy */
bool store_digest_result(const struct store *s, struct store_base *base, uint64_t *digest,
                         uint64_t *keys);
