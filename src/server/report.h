/* SPDX-License-Identifier: Apache-2.0 */
/* report - what every server says of its own replicas, asked for and gathered: the ground
 * of KEYSPACE DIGEST and SHARD LIST.
 *
 *   client ──► gather_ask() ──► ASK ──► each other server: report_message()
 *                 │                        │  replicas: answered at once
 *                 │ own replicas           │  digests:  TAKEN, then once they are made
 *                 ▼                        ▼
 *              gathers_turn() ◄── rows ── gather_answer()
 *                 └─► gather_digest_reply(), gather_shards_reply()
 *
 * One gather of a kind and a keyspace runs at a time.  Who asks meanwhile waits for the
 * next one and shares it with all who ask until that begins: so a client sees its own
 * writes in what it is told, and many clients cost no more than two gathers.
 *
 * Limits    an answer that is not there in time counts as none: a second for replicas, the
 *           request timeout for digests, or 60 s from when they were TAKEN; a server that
 *           was silent the last time and since is waited for 100 ms.  Late answers are
 *           known by their number and dropped.
 */
#pragma once

#include "server/server_state.h"
#include "wire/report.h"

/* ---- report.c: of this server ---- */
struct digests; /* of a keyspace's replicas here, being made */
struct digests *digests_begin(struct server *s, uint32_t keyspace);
/* True: nothing more will come.  To be asked again at the end of a turn. */
bool digests_ready(struct server *s, struct digests *d);
/* Those that were made: *rows is the caller's, report_rows_free(). */
uint32_t digests_rows(struct server *s, const struct digests *d,
                      struct report_row **rows);
void digests_free(struct server *s, struct digests *d);
/* The replicas here, in order of groups; trouble points to literals. */
uint32_t report_replicas(struct server *s, uint32_t keyspace, struct report_row **rows);
void report_rows_free(struct server *s, struct report_row *rows, uint32_t n);
void reports_turn(struct server *s); /* digests that other servers wait for */
void reports_free(struct server *s);

/* ---- gather.c ---- */
enum part_state {
    PART_ASKED = 1,
    PART_TAKEN, /* it has heard the question */
    PART_ANSWERED,
    PART_SILENT, /* no answer in time */
    PART_LOST,   /* it could not be asked, or the connection broke */
};

struct gather_part { /* of one server */
    struct server_id server;
    enum part_state state;
    struct incarnation incarnation; /* that was asked */
    struct instant deadline;
    struct buf body; /* what the rows' texts point to */
    struct report_row *rows;
    uint32_t n_rows;
};

struct gather_wait { /* a client */
    struct answer *answer;
    uint8_t resp;
    struct gather_wait *next;
};

struct gather {
    enum report_kind ask;
    uint32_t keyspace; /* REPORT_ALL: of every one */
    bool begun;
    uint64_t id;
    struct digests *own;       /* ASK_DIGESTS */
    struct gather_part *parts; /* parts[0] is this server's */
    uint32_t n_parts;
    struct gather_wait *waits;
    struct gather *next;
};

/* Answered, with the rows of one that begins no sooner than now. */
void gather_ask(struct server *s, struct client *c, enum report_kind ask,
                uint32_t keyspace);
void gather_answer(struct server *s, struct server_id from, const struct report *r);
const struct gather_part *gather_part(const struct gather *g, struct server_id id);
/* What a server says of its replica of a group; NULL: nothing. */
const struct report_row *gather_row(const struct gather_part *part,
                                    struct group_id group);

/* ---- admin_report.c: the reply of one that has ended ---- */
void gather_digest_reply(struct server *s, const struct gather *g, struct reply *r);
void gather_shards_reply(struct server *s, const struct gather *g, struct reply *r);
