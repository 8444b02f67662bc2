/* SPDX-License-Identifier: Apache-2.0 */
/* wal_format - the bytes of a segment: heads, notes and records, as wal.h lays them out.
 *
 * Errors   what is read comes from outside: every getter returns a named verdict and
 *          leaves its output untouched unless it says otherwise.
 */
#pragma once

#include "wal/wal.h"

struct wal_head {
    uint64_t seq, base, first;
    uint64_t length;  /* of the file, in bytes */
    uint64_t opening; /* bytes */
    struct cluster_id cluster;
    struct server_id server;
};

enum wal_head_verdict {
    WAL_HEAD_OK = 0,
    WAL_HEAD_EMPTY, /* all zeros */
    WAL_HEAD_BROKEN,
    WAL_HEAD_NEWER,
};

/* Returns what the first record's chain field must hold. */
uint32_t wal_head_put(uint8_t at[WAL_SEGMENT_HEAD], const struct wal_head *head);
MUST_USE enum wal_head_verdict wal_head_get(const uint8_t at[WAL_SEGMENT_HEAD],
                                            struct wal_head *out, uint32_t *chain_out);

void wal_note_put(uint8_t at[WAL_NOTE], const struct wal_head *of);
MUST_USE bool wal_note_get(const uint8_t at[WAL_NOTE], uint64_t *seq_out);

static inline uint64_t wal_record_size(uint64_t body_len)
{
    return WAL_RECORD_HEAD + ((body_len + 7) & ~UINT64_C(7));
}

/* Where a record stands: what it must match, and what it says besides its content. */
struct wal_stand {
    uint64_t seq, lsn, watermark;
    uint32_t chain;
};

/* Writes wal_record_size() bytes; returns the chain value for the next record. */
uint32_t wal_record_put(uint8_t *at, const struct wal_record *record,
                        const struct wal_stand *stand);

/* The head alone, for a body that is written from where it lies, padding behind it. */
uint32_t wal_record_put_head(uint8_t at[WAL_RECORD_HEAD], const struct wal_record *record,
                             const struct wal_stand *stand);

enum wal_verdict {
    WAL_RECORD_OK = 0,
    WAL_RECORD_BROKEN, /* no head of a record of this life and place */
    WAL_RECORD_BODY,   /* the head checks, the body does not */
    WAL_RECORD_SHORT,  /* the head checks, the body does not end in these bytes */
};

struct wal_seen {
    struct wal_record record; /* body borrowed from the bytes given */
    uint64_t watermark;
    uint64_t size;  /* head, body and padding */
    uint32_t chain; /* what it says about the record before it */
    uint32_t chain_next;
};

/* `in` begins at the record (at least a head's bytes); `room` is how far a record may
 * reach. *out is set whenever the head checks. */
MUST_USE enum wal_verdict wal_record_get(struct bytes in, uint64_t room, uint64_t seq,
                                         uint64_t lsn, struct wal_seen *out);

/* The same without knowing the life: `seq_max` bounds it.  True when the head checks. */
MUST_USE bool wal_record_probe(struct bytes in, uint64_t room, uint64_t seq_max,
                               struct wal_stand *out, uint64_t *size_out);
