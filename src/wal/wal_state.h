/* SPDX-License-Identifier: Apache-2.0 */
/* The state of wal, what is always true of it between calls, and what its files share.
 *
 * W1  live segments are numbered without a gap, oldest first
 * W2  a segment begins where the one before it ends; the log ends where the last one does
 * W3  durable <= written <= submitted <= end: a position is appended, given out, written, synced
 * W4  at most one batch is on its way; it ends at `submitted`
 * W5  what is gathered is [submitted, end), laid out part by part, heads of segments
 *     apart; what lies in blocks is not in the batch's bytes
 * W6  only the newest segments can be without a file, and none that the flying batch
 *     names
 * W7  a group's places rise strictly in index and in position
 * W8  nothing is given out after `failed`
 * W9  a file is in one place only: a live segment, a spare, or what is to be removed
 */
#pragma once

#include "base/hmap.h"
#include "wal/wal_format.h"

struct wal_place { /* where to begin to look for an entry */
    uint64_t index;
    uint64_t lsn;
};

struct wal_group {
    struct group_id id;
    bool has_state, has_base;
    struct term state_term, base_term;
    struct log_index base_index;
    struct buf state, base; /* bodies of the latest records */
    uint64_t released;      /* entries up to here are needed by nobody */
    uint64_t last;          /* index of the newest entry; 0: none */
    uint64_t since_seq;     /* what lies in older segments is void */
    /* The newest truncation: in segments older than this one, what lies behind its first
     * entry is void. */
    uint64_t cut_seq, cut_index;
    uint64_t changes;  /* another number after each truncation, for reads on their way */
    uint64_t slot_seq; /* segment in whose needs `slot` is ours; 0: none */
    size_t slot;
    uint32_t since_place; /* entries noted since the last place */
    struct wal_place *places;
    size_t n_places, cap_places;
};

struct wal_need {
    struct group_id group;
    uint64_t highest; /* index of its entries in this segment; 0: none counts */
};

#define WAL_NOT_OPENED UINT64_MAX

struct wal_segment {
    uint64_t seq;
    uint64_t base, end; /* positions of the first record and behind the last */
    uint64_t opened; /* behind the states and bases that open it; if they are not whole,
                         * WAL_NOT_OPENED */
    uint64_t first;  /* what its head says about the oldest segment needed */
    uint64_t length; /* of the file */
    uint64_t made;   /* what it was when it was made; more, if it has lost its end */
    uint32_t file;
    uint32_t chain;
    bool bound;    /* has a file */
    bool headless; /* its head was found broken */
    struct wal_need *needs;
    size_t n_needs, cap_needs;
    size_t satisfied; /* needs before this one are met, and stay so */
};

struct wal_idle_file { /* a spare, or one to be removed */
    uint32_t file;
    uint64_t length;
    uint64_t seq; /* of the life that is over; 0: none */
};

struct wal_part { /* of a batch: what goes to one place of one segment */
    uint64_t seq;
    uint64_t offset;
    struct block *block; /* that holds it; NULL: the batch's bytes do */
    size_t at, len;      /* in either */
    bool sync;           /* before the next one is written */
};

struct wal_batch {
    struct buf bytes;
    struct wal_part *parts;
    size_t n_parts, cap_parts;
    bool sync; /* holds something that may not wait for its sync */
};

enum wal_job {
    WAL_JOB_HEAD = 1, /* arg: place in `found` */
    WAL_JOB_NOTE,
    WAL_JOB_PROBE,
    WAL_JOB_SCAN,
    WAL_JOB_AGAIN_READ,
    WAL_JOB_AGAIN_WRITE,
    WAL_JOB_AGAIN_SYNC,
    WAL_JOB_CREATE,
    WAL_JOB_BATCH_WRITE,
    WAL_JOB_BATCH_SYNC,
    WAL_JOB_SEGMENT_SYNC, /* of the one before that which a batch begins */
    WAL_JOB_LONE_SYNC,    /* of what was written, while the next batch has to wait */
    WAL_JOB_RETIRE_WRITE,
    WAL_JOB_RETIRE_SYNC,
    WAL_JOB_REMOVE,
    WAL_JOB_FETCH,
};

struct wal_flying {
    struct wal_op op;
    enum wal_job job;
    uint32_t arg;
};

struct wal_found { /* a file that is there when the log opens */
    uint32_t file;
    uint64_t length;
    uint64_t over; /* its note: lives up to this one are over; 0: no note */
    enum wal_head_verdict verdict;
    bool adopted;  /* its head is broken, but it holds records of a life that counts */
    uint64_t made; /* its length when it was made; more, if it has lost its end */
    uint32_t chain;
    struct wal_head head;
};

struct wal_recovery {
    struct wal_found *found;
    uint32_t n_found;
    uint8_t *heads;                   /* for each file: its head, then its note */
    uint32_t left;                    /* reads or writes on their way */
    uint64_t first;                   /* segments below are not needed */
    uint64_t head_first, head_second; /* the same, by heads alone; by one head less */
    uint32_t at;                      /* file being probed, or segment being scanned */

    /* The window: bytes of a file from `window` on; records are parsed at `pos`. */
    uint8_t *buf[2];
    size_t cap[2];
    uint32_t which;
    uint64_t window, pos;
    uint64_t limit;            /* where this segment's records must have ended */
    uint64_t piece;            /* to be read at once */
    uint64_t want;             /* more than that, for a record that is larger */
    bool wanted;               /* the read on its way is for one such record */
    uint64_t io_from, io_upto; /* could not be read, in this segment */
    uint64_t io_retry_upto;    /* small pieces up to here */

    uint64_t watermark; /* highest seen */
    bool chain_known;
    uint32_t chain;
    uint64_t last_lsn; /* of the record before, if chain_known */
    bool in_trouble;   /* looking for the next record that checks */
    uint64_t trouble_lsn;
    bool surveying; /* in the last segment: looking for what lies behind a bad record */
    bool surveyed;
    bool seen_behind;
    uint64_t survey_from;

    struct wal_record *records;
    size_t n_records, cap_records;
    struct wal_damage *damage;
    size_t n_damage, cap_damage;
    bool torn;
    uint64_t again_from, again_upto;
};

struct wal_request {
    uint64_t tag;
    struct group_id group;
    uint64_t from, upto;
    uint64_t bytes_max;
};

struct wal_fetch { /* the read that is being served */
    bool active, flying;
    struct wal_request request;
    uint64_t next;    /* index that comes next */
    uint64_t changes; /* of the group when it began */
    uint64_t seq;     /* segment of the window */
    uint64_t pos, limit;
    uint64_t want;
    uint8_t *window;
    size_t cap_window;
    struct buf bodies;
    struct wal_record *records; /* bodies as offsets into `bodies` until it is done */
    size_t n_records, cap_records;
};

enum wal_phase {
    WAL_NEW = 0,
    WAL_HEADS,
    WAL_PROBING,
    WAL_SCANNING,
    WAL_AGAIN, /* writing the unsure end again */
    WAL_OPEN,
    WAL_SHUT, /* could not be opened */
};

enum { WAL_TEXT_MAX = 160, WAL_DONE_MAX = 16, WAL_SPARES_MAX = 4 };

struct wal {
    struct wal_config config;
    struct mem *mem;
    enum wal_phase phase;
    bool failed, full;
    bool opened_told;
    enum wal_open_error open_error;
    char text[WAL_TEXT_MAX];

    struct wal_segment *segments;
    size_t n_segments, cap_segments;
    uint64_t seq_next;
    uint64_t end;       /* where the next record goes */
    uint64_t submitted; /* what lies before was given to the host */
    uint64_t written;   /* what lies before was written */
    uint64_t durable;
    struct instant synced; /* the last time that all that was written was synced */
    uint64_t bytes_held;
    bool sealed; /* the last segment is not written on */

    struct wal_idle_file *spares, *trash;
    size_t n_spares, cap_spares, n_trash, cap_trash;
    uint32_t file_next;
    bool creating, spare_refused, makes_way;
    uint64_t first_written, second_written; /* `first` of the newest head that is written,
                                             * and of the one before */
    /* No segment goes before this is durable: what the caller appended when it had seen all
     * that was recovered.  UINT64_MAX: it has not yet had the chance. */
    uint64_t settled;
    uint64_t second_durable; /* what two durable heads say at least: a flip may hit one */
    bool retiring;
    uint8_t note[WAL_NOTE];

    struct hmap groups; /* struct wal_group by id */
    uint64_t changes;   /* numbers given to groups so far */

    struct wal_batch gather, flight;
    size_t flight_at;     /* the first part of it that is not given out to be written */
    uint32_t flight_left; /* ops not done yet of those that are */
    bool lone_syncing;

    struct instant now, active; /* the last call, and the last with something gathered */
    bool unmarked;              /* records above the watermark on disk */

    struct wal_op *ops; /* of this call */
    size_t n_ops, cap_ops;
    struct wal_flying *flying;
    size_t n_flying, cap_flying;
    uint64_t op_next;

    struct wal_recovery rec;

    struct wal_request *requests;
    size_t n_requests, cap_requests;
    struct wal_fetch fetch;
    struct wal_read_done dones[WAL_DONE_MAX];
    uint32_t n_dones;
};

/* Arrays that double: room for one more of `size` bytes each. */
void *wal_grow(struct wal *wal, void *at, size_t n, size_t *cap, size_t size);
#define WAL_PUSH(wal, at, n, cap)                                                        \
    ((at) = wal_grow((wal), (at), (n), &(cap), sizeof *(at)), &(at)[(n)++])

/* ---- wal.c: ops ---- */
struct wal_op *wal_op_give(struct wal *wal, enum wal_job job, uint32_t arg);
void wal_fail(struct wal *wal, const struct wal_op *op, int error);

/* ---- wal_group.c: what is known of groups ---- */
struct wal_group *wal_group_find(const struct wal *wal, struct group_id id);
void wal_groups_free(struct wal *wal);
/* A record of this segment, appended or recovered. */
void wal_record_note(struct wal *wal, struct wal_segment *segment,
                     const struct wal_record *record, uint64_t lsn);

/* ---- wal_segment.c: the life of segments ---- */
struct wal_segment *wal_segment_last(struct wal *wal);
struct wal_segment *wal_segment_find(struct wal *wal, uint64_t seq); /* NULL: gone */
struct wal_segment *wal_segment_at(struct wal *wal, uint64_t lsn);
struct wal_segment *wal_segment_add(struct wal *wal, const struct wal_segment *from);
/* Whether some group still needs an entry in it. */
bool wal_segment_pinned(const struct wal *wal, struct wal_segment *segment);
void wal_segments_bind(struct wal *wal); /* files for segments that lack one */
void wal_segments_tend(struct wal *wal); /* spares, notes, removals */
void wal_create_done(struct wal *wal, const struct wal_op *op, int error);
void wal_retire_done(struct wal *wal);
void wal_idle_add(struct wal *wal,
                  struct wal_idle_file idle); /* a spare, or to be removed */
void wal_segments_free(struct wal *wal);

static inline uint64_t wal_offset_of(const struct wal_segment *segment, uint64_t lsn)
{
    return WAL_SEGMENT_HEAD + (lsn - segment->base);
}

/* ---- wal_recover.c ---- */
void wal_recover_begin(struct wal *wal, const struct wal_file *files, uint32_t n);
void wal_recover_done(struct wal *wal, const struct wal_flying *done, int error,
                      uint64_t got);
void wal_recover_free(struct wal *wal);

/* ---- wal_read.c ---- */
void wal_reads_tend(struct wal *wal);
void wal_fetch_done(struct wal *wal, const struct wal_op *op, int error, uint64_t got);
void wal_reads_free(struct wal *wal);
void wal_reads_trim(struct wal *wal); /* what a large record needed */
