/* SPDX-License-Identifier: Apache-2.0 */
/* report - what a server says of its own replicas when another one asks: for KEYSPACE
 * DIGEST and SHARD LIST, which tell of all replicas wherever they are.
 *
 * The body of a REPORT message, version 1.  All integers little-endian.
 *
 *   u8 version (1)   u8 kind (enum report_kind)   u64 id
 *
 *   ASK_REPLICAS, ASK_DIGESTS   u32 keyspace, its id; REPORT_ALL: of every keyspace, and
 *                               the meta shard
 *   TAKEN      nothing more
 *   REPLICAS   varint n_rows, n_rows times:
 *              u32 group  u8 role (enum report_role)  u32 leader (0: none known)  u64 term
 *              u64 applied  u64 commit  u64 keys  blob trouble (to REPORT_TROUBLE_MAX)
 *   DIGESTS    varint n_rows, n_rows times:
 *              u32 group  u64 position  u64 digest  u64 keys
 *
 * Rows are in ascending order of their groups, none twice.  The id is the asker's, drawn at
 * random and echoed, so that an answer to an older question, or to an older life of who
 * asked, is known for what it is.
 *
 * Errors    report_decode() says false to anything else and leaves `out` as it was
 * Owner     rows point into the input
 */
#pragma once

#include "base/buf.h"
#include "base/ids.h"

enum { REPORT_VERSION = 1, REPORT_ROWS_MAX = 16384, REPORT_TROUBLE_MAX = 255 };
#define REPORT_ALL UINT32_MAX

enum report_kind {
    REPORT_ASK_REPLICAS = 1,
    REPORT_ASK_DIGESTS,
    REPORT_TAKEN, /* ASK_DIGESTS was heard; the answer comes when it is ready */
    REPORT_REPLICAS,
    REPORT_DIGESTS,
    REPORT_KIND_END,
};

enum report_role {
    REPORT_LEADER = 1,
    REPORT_FOLLOWER,
    REPORT_LEARNER,
    REPORT_CANDIDATE,
    REPORT_ROLE_END,
};

struct report {
    enum report_kind kind;
    uint64_t id;
    uint32_t keyspace; /* ASK_ */
    uint32_t n_rows;
    struct cursor rows; /* report_next_row() */
};

struct report_row {
    struct group_id group;
    struct log_index applied; /* DIGESTS: what the digest is of */
    uint64_t keys;
    uint64_t digest; /* DIGESTS; what follows: REPLICAS */
    enum report_role role;
    struct server_id leader;
    struct term term;
    struct log_index commit;
    struct bytes trouble;
};

/* Encodes the head; then report_put_row() n_rows times, in order of groups. */
void report_encode(struct buf *out, const struct report *r);
void report_put_row(struct buf *out, enum report_kind kind, const struct report_row *row);
/* Decodes and walks all rows once, so that report_next_row() cannot meet bad bytes. */
MUST_USE bool report_decode(struct bytes in, struct report *out);
void report_next_row(struct report *r, struct report_row *out);
