/* SPDX-License-Identifier: Apache-2.0 */
/* wal - one log on disk for all groups of a reactor.  A core: it performs nothing itself.
 *
 *     wal_append() ─┐                    ┌─► struct wal_op: read, write, sync, create, remove
 *     wal_turn_end()├──► struct wal ─────┼─► `durable`: everything before it survives a crash
 *     wal_op_done() ┘                    └─► recovered records, while it opens
 *
 * The host performs the ops one after the other, in order, on a thread of its own, and
 * reports each as done.  At most one batch is on its way; what is appended meanwhile makes
 * the next one, so a single write and a single sync serve all that arrived in a turn.  A body
 * in a block is written from there, by writes of its own, and synced every WAL_SYNC_BYTES, so
 * that the disk shows life while it takes in hundreds of MB.
 *
 * Segments  files of `segment_bytes`, written out once (so that their blocks exist) and then
 *           recycled: a new life has a new sequence number, which seeds every checksum in
 *           it, so a record of an earlier life never reads as one of this life.  A record
 *           never spans two segments; one that is larger than a segment gets a segment of
 *           its own size, which is removed and not recycled.  Positions go on without a gap
 *           from the last record of a segment to the first of the next, so the base of a
 *           segment says where the one before it ends; what lies there behind that is void.
 * Segment head, at 0 (all integers little-endian):
 *    at size field
 *     0   8  magic "SNTWAL\0\1" (the last byte is the format version)
 *     8   8  crc     XXH3 of the 48 bytes after this field, seeded with the format version:
 *            so in every version, and a broken version byte is not taken for a newer one
 *    16   8  seq     this life's number in the order of the log, from 1
 *    24   8  base    log position (lsn) of the segment's first record; WAL_LSN_FIRST in seq 1
 *    32   8  length  of the file in bytes, when it was made
 *    40   8  cluster id      48  4  server id
 *    52   4  opening: bytes / 8 of the STATE and BASE records that it begins with
 *    56   8  first   the oldest seq that was still needed when the head was written
 *   records from 64 on, up to the note
 * Note, in the last 64 bytes of the file: outlives the next life of the file, and is written
 * and synced before that begins, so that a missing segment is told from a recycled one
 *     0   8  magic "SNTWEND\1"       8   8  crc  XXH3 of the 48 bytes behind it, seed as above
 *    16   8  seq     this life of the file is over, and so are all lives before it
 *    24   8  cluster id      32  8  server id      40  24  zero
 * Record, 8-byte aligned; it can be checked without any other, and its head without its body:
 *     0   8  crc     XXH3 of the 56 bytes after this field, seeded with seq
 *     8   8  check   XXH3 of the body and its padding, seed 0
 *    16   8  lsn     of this record: a misdirected write is not taken for the right one
 *    24   8  watermark: known durable lsn when this was written, at most lsn
 *    32   4  length  of the body     36   4  group
 *    40   8  index   48   8  term    56   1  kind in the low 4 bits, tag in the high 4
 *    57   3  low bytes of seq: whose life this is, should the segment's head be lost
 *    60   4  chain   low half of the crc of the record before it in the segment; of the
 *            segment head for the first
 *    64      body, padded with zeros to 8
 *
 * Order     a segment's head is durable before a record of that life is written, and all of
 *           a segment before the head of the next one: only the last segment can be torn,
 *           and a record never has a life whose number could be given out again.
 * Recovery  reads the segments in the order of seq and gives every record but MARKs, in log
 *           order.  Where a record does not check, what follows is either a torn tail (the
 *           segment is the last, and no valid record behind it names a watermark beyond it)
 *           and is cut, or damage: recovery goes on behind it with the next record that
 *           checks, and `damage` names the range.  Whether a group lost anything there is
 *           judged by the caller from its records' indexes: a group is whole when its
 *           records go on behind the damage without a gap.  To find damage in the last
 *           synced batch too, wal_turn_end() writes a MARK record when it has been idle,
 *           so that the watermark on disk does not stay behind.
 *           A torn segment is not written on: whole records may lie behind the cut and would
 *           check again once the space before them is filled.  The log goes on in a new one.
 *           What lies above the highest watermark is written again and synced before the
 *           log opens: it was read, but perhaps only from a cache.
 *           A file with an empty or broken head and no record of a life that is still
 *           needed is taken as a spare; with such a record, its head is damage.
 *           A part that cannot be read (EIO) is damage; only a head must be readable.
 *           So is an end that is gone: a file is synced at its full length before its head
 *           is written, so one that is shorter than its head says was cut by something else
 *           than a crash.  What is still there whole is given out; the log has lost nothing
 *           only if the place of its next record can still be read and is void.
 * Lazy      a batch of nothing but lazy records is written and not synced: `written` tells, and it
 *           outlives the process, but not the power.  A batch that is synced takes it along; it
 *           waits no longer than sync_every_ns, and where the next batch has no segment to go
 *           to, what was written is synced alone by then.  A segment is synced before the next
 *           one begins all the same, so the watermark and the torn tail mean what they always
 *           do.
 * States    a STATE record carries a group's term and vote in one piece; every segment opens
 *           with the latest STATE (and BASE) of every group, so older segments can go.
 * Release   wal_release() says that a group needs no record below an index any more; a
 *           segment goes when no group needs it.
 * Reading   wal_read() brings entries back that are no longer in memory: ops whose data come
 *           as `read` results.  It never blocks and holds at most `read_bytes_max`.
 * Errors    an error of write or sync is fatal: `failed` is set with the op and errno, no
 *           further op is given out, and the host ends the process (ATC'20, Rebello et al.).
 *           ENOSPC or EMFILE on a *new* segment is not fatal: `full` is set, appends are refused
 *           until wal_retry(); what was acknowledged stays.
 * Limits    memory: one batch in flight, one being gathered, an index entry for each
 *           WAL_INDEX_EVERY records, read_bytes_max
 */
#pragma once

#include "base/block.h"
#include "base/ids.h"

enum {
    WAL_SEGMENT_HEAD = 64,
    WAL_RECORD_HEAD = 64,
    WAL_NOTE = 64,
    WAL_INDEX_EVERY = 64,
    WAL_SYNC_BYTES = 16 << 20,
    WAL_LSN_FIRST = 64, /* not 0, so that zeros are never a record in its place */
};

struct lsn {
    uint64_t v;
}; /* bytes of log ever written, record heads included */

enum wal_kind {
    WAL_ENTRY = 1, /* index, term; body: the entry, opaque.  Ends what the group had from
                    * that index on */
    WAL_STATE,     /* term; index is unused; body: opaque to the log (vote, flags) */
    WAL_BASE,   /* the group's log begins behind (index, term); body: opaque.  Entries up
                    * to index are void, and those above it too if `wal_base_clears` */
    WAL_FORGET, /* the group is gone from this server */
    WAL_MARK,   /* nothing but its watermark */
    WAL_KIND_END,
};

struct wal_record {
    enum wal_kind kind;
    struct group_id group;
    struct log_index index;
    struct term term;
    uint8_t tag;       /* the caller's: 0 to 15 */
    bool lazy;         /* need not be synced at once */
    struct bytes body; /* first byte of a BASE body: 1 when it clears what lies above */
    struct block
        *block; /* to be appended: that the body lies in; it is written from there */
};

enum wal_op_kind {
    WAL_OP_CREATE =
        1,        /* make file `file` of `length` bytes of zeros, synced with its folder;
                        * written from the front, so that a short one is an unfinished one */
    WAL_OP_READ,  /* `length` bytes at `offset` into `into`; fewer at the end of file */
    WAL_OP_WRITE, /* the bytes of `data` at `offset` */
    WAL_OP_SYNC,  /* fdatasync */
    WAL_OP_REMOVE,
};

struct wal_op {
    enum wal_op_kind kind;
    uint64_t id;   /* in order of issue, from 1 */
    uint32_t file; /* names the file: wal-%08x */
    uint64_t offset;
    uint64_t length;
    bool once;         /* CREATE: for one large record; then it is removed */
    struct bytes data; /* good until the op is done */
    uint8_t *into;     /* good until the op is done */
};

struct wal_file {
    uint32_t file;
    uint64_t length;
};

struct wal_config {
    struct cluster_id cluster;
    struct server_id server;
    uint64_t segment_bytes; /* 64 MB */
    uint64_t keep_bytes;    /* segments kept beyond need, for followers that are behind;
                              * while `full` or making way they go */
    uint64_t
        batch_bytes_max; /* gathered but not yet written; beyond it wal_room() is false */
    uint64_t read_bytes_max;
    uint64_t idle_mark_ns;  /* quiet time after which a MARK is written; 50 ms */
    uint64_t sync_every_ns; /* lazy records wait no longer than this; 1 s */
    struct mem *mem;
    /* mutants of the simulator; all false in the product */
    bool bug_durable_before_sync;
    bool bug_tail_damage_is_torn;
};

enum wal_open_error {
    WAL_OPEN_OK = 0,
    WAL_OPEN_FOREIGN, /* a segment of another cluster or server */
    WAL_OPEN_NEWER,   /* a segment of a newer format version */
    WAL_OPEN_GAP,     /* a segment in the middle is missing */
    WAL_OPEN_IO,      /* a read failed */
};

/* Everything between these two is not provably what was written; nothing, if they are equal:
 * then only the head of a segment was lost. */
struct wal_damage {
    struct lsn from, upto;
    uint32_t file;
    uint64_t offset;
};

struct wal_read_done {
    uint64_t tag;                     /* of wal_read() */
    const struct wal_record *records; /* in order of index; may be fewer than asked */
    uint32_t n_records;
    bool failed; /* not there, or damaged since: treat as gone.  None, and
                                  * not failed: not on disk yet, so still in your memory */
};

struct wal_out {
    const struct wal_op *ops; /* perform in order; good until the next call */
    uint32_t n_ops;
    struct lsn durable;
    struct lsn written; /* at least durable: what lies before outlives the process */
    const struct wal_record
        *recovered; /* while opening; bodies good until the next call */
    uint32_t n_recovered;
    bool opened;                    /* once: recovery has ended */
    enum wal_open_error open_error; /* not OK: it has ended badly; open_text says more */
    const char *open_text;
    const struct wal_damage *damage; /* with opened */
    uint32_t n_damage;
    bool torn; /* with opened: a torn tail was cut (usual after a crash) */
    const struct wal_read_done *reads;
    uint32_t n_reads;
    bool failed; /* fatal; failed_text names op and file */
    const char *failed_text;
    bool full;
    struct instant wake; /* call wal_turn_end() at this time; 0: no need */
};

struct wal; /* whole in wal_state.h */

struct wal *wal_new(const struct wal_config *config);
void wal_free(struct wal *wal);

/* What the caller appends before the first wal_turn_end() behind `opened` is durable before
 * anything that was recovered goes: so may be said of a group that it is doubtful, in place
 * of the damage that showed it.
 *
 * Begins recovery over the files that are there (any order).  With none: opens empty. */
void wal_open(struct wal *wal, const struct wal_file *files, uint32_t n,
              struct wal_out *out);

/* Appends a record to the batch being gathered, copying it unless it lies in a block; returns
 * the position behind it: it is durable once out->durable.v >= that.  Only between opened and
 * failed. */
struct lsn wal_append(struct wal *wal, const struct wal_record *record);
/* False: as much is gathered as may be, or there is no way to the disk.  Nothing is to be
 * proposed then; what leaders send is taken all the same. */
bool wal_room(const struct wal *wal);
uint64_t wal_backlog(const struct wal *wal); /* bytes appended and not yet durable */

/* What this group no longer needs: entries with index <= upto.  To be said again after a
 * restart. */
void wal_release(struct wal *wal, struct group_id group, struct log_index upto);
/* Asks for entries [from, upto] of a group, at most bytes_max of them; answered in out->reads. */
void wal_read(struct wal *wal, uint64_t tag, struct group_id group, struct log_index from,
              struct log_index upto, uint64_t bytes_max);
void wal_retry(struct wal *wal); /* after full: try to make a segment again */
/* The store lacks room on the same disk: until it is told otherwise, the log makes no file (it
 * is full where it would need one), and gives up what it keeps beyond need, and spare files.
 * For room that the log takes may be what a checkpoint needs to let the log be cut. */
void wal_make_way(struct wal *wal, bool make_way);

/* Derives what leaves: usually one write and one sync, segments to make or remove, reads. */
void wal_turn_end(struct wal *wal, struct instant now, struct wal_out *out);
/* An op is done: error 0 or an errno; got: bytes read.  May open further ops at once. */
void wal_op_done(struct wal *wal, uint64_t id, int error, uint64_t got,
                 struct instant now, struct wal_out *out);
void wal_verify(const struct wal *wal);
