/* SPDX-License-Identifier: Apache-2.0 */
/* copy - the stream of one shard in a backup: its keys with their values and deadlines, as a
 * server gives them out, as they lie in a file, and as they are read to be restored.
 *
 *   record  u32 length of the body, body, u64 checksum: of the body, seeded by the checksum
 *           before it (0 at first), so that the last one stands for the whole
 *   body    u8 kind, then by kind:
 *     HEAD    8 bytes "SNTCOPY" 0, u8 format 1, u32 shard, u64 term, u64 index
 *     KEY     u8 type, i64 deadline in ms (0: none), blob key, varint length of the value,
 *             then the value, if it is no longer than COPY_PIECE_BYTES
 *     PIECE   else: the value's next COPY_PIECE_BYTES, or what is left of it
 *     END     u64 keys, u64 bytes of all values
 *   Integers little-endian, varint and blob as in base/bytes.h.
 *
 * It is apart from how an engine or a snapshot lays keys out, so that those may change and
 * an older copy can still be read.  What was expired but not yet deleted is in it.
 *
 * Errors   a reader tells what it refuses by name, and is unchanged then
 * Owner    what is read is borrowed from the input
 */
#pragma once

#include "base/ids.h"
#include "data/effect.h"

enum copy_kind { COPY_HEAD = 1, COPY_KEY, COPY_PIECE, COPY_END };
enum {
    COPY_FORMAT = 1,
    COPY_PIECE_BYTES = 256 * 1024,
    COPY_BODY_MAX = COPY_PIECE_BYTES + KEY_MAX + 64,
    COPY_RECORD_MAX = 4 + COPY_BODY_MAX + 8,
};

struct copy_record {
    enum copy_kind kind;
    struct { /* HEAD: what it is of */
        struct group_id group;
        struct term term;
        struct log_index index;
    } of;
    enum item_type type; /* KEY, and PIECE of one: */
    int64_t deadline_ms;
    struct bytes key;     /* KEY */
    uint64_t length;      /* KEY: of the whole value */
    struct bytes value;   /* KEY: all of it, or nothing; PIECE: the next of it */
    uint64_t keys, bytes; /* END */
};

/* ---- writing ---- */

struct copy_writer {
    uint64_t chain;
    uint64_t keys, bytes; /* written so far */
};

void copy_put_head(struct copy_writer *w, struct buf *out, struct group_id group,
                   struct term term, struct log_index index);
/* A value longer than COPY_PIECE_BYTES follows in pieces, in order and whole. */
void copy_put_key(struct copy_writer *w, struct buf *out, enum item_type type,
                  int64_t deadline_ms, struct bytes key, uint64_t length,
                  struct bytes value);
void copy_put_piece(struct copy_writer *w, struct buf *out, struct bytes piece);
void copy_put_end(struct copy_writer *w, struct buf *out);

/* ---- reading ---- */

enum copy_result {
    COPY_READ = 1, /* *out is the next record, *used the bytes it took */
    COPY_MORE,     /* the input ends within a record */
    COPY_DONE,     /* the END has been read; bytes behind it are none of the stream's */
    COPY_BROKEN,   /* not what was written: checksum, form, order or counts */
    COPY_FOREIGN,  /* no such stream at all */
    COPY_NEWER,    /* of a format that this version does not know */
};

/* C1  a HEAD comes first and once, nothing after the END
 * C2  `left` bytes of the last key's value are missing: nothing but its pieces may come
 * C3  keys and bytes are those of the KEY records read; the END must say the same */
struct copy_reader {
    bool headed, ended;
    uint64_t chain;
    uint64_t left;
    uint64_t keys, bytes;
};

MUST_USE enum copy_result copy_read(struct copy_reader *r, struct bytes in,
                                    struct copy_record *out, size_t *used);
