/* SPDX-License-Identifier: Apache-2.0 */
/* frame - what travels on a connection between two servers, version 1.
 *
 * All integers little-endian.  A frame:
 *
 *   at  size  field
 *    0     4  length   of the whole frame in bytes: FRAME_HEAD .. FRAME_MAX
 *    4     2  magic    0x5353
 *    6     1  version  1
 *    7     1  kind     enum frame_kind
 *    8     8  crc      XXH3 of everything after this field, seeded with the 8 bytes before it
 *   16     8  cluster  id; 0 only in HELLO and JOIN of a server that has none yet
 *   24     4  from     server id; 0 likewise
 *   28     4  to       server id; 0: not known yet (HELLO, JOIN)
 *   32     8  incarnation of the sender
 *   40        body
 *
 * A BATCH body is messages one after the other: u32 length, u32 group, u8 kind (enum
 * message_kind), then length bytes of body.  A message of more than PIECE_BYTES travels as
 * PIECE frames of its own instead: u64 stream number, u64 offset, u64 total, bytes; those
 * of one stream arrive in order, and BATCH frames may come in between, so a large value
 * starves no heartbeat.  Assembled, a stream is the messages of a BATCH.
 *
 * Errors    frame_decode names what is wrong; the connection is then closed
 * Owner     the body is borrowed from the input
 */
#pragma once

#include "base/block.h"
#include "base/ids.h"

enum {
    FRAME_HEAD = 40,
    FRAME_MAX = 1 << 20,
    PIECE_BYTES = 256 * 1024,
    FRAME_VERSION = 1
};

enum frame_kind {
    FRAME_HELLO = 1, /* first in both directions: who I am, and a nonce */
    FRAME_PROOF,     /* answer to the other's nonce, keyed with the cluster secret */
    FRAME_JOIN,      /* a server without identity asks to become a member */
    FRAME_JOINED,    /* its identity, or why not */
    FRAME_REFUSED,   /* why the connection is closed: u8 enum refused_for, text */
    FRAME_BATCH,
    FRAME_PIECE,
    FRAME_KIND_END,
};

struct frame {
    enum frame_kind kind;
    struct cluster_id cluster;
    struct server_id from, to;
    struct incarnation incarnation;
    struct bytes body;
};

enum frame_result {
    FRAME_OK = 0,
    FRAME_SHORT, /* not whole yet; *want says how many bytes it needs */
    FRAME_LENGTH,
    FRAME_MAGIC,
    FRAME_VERSION_OTHER,
    FRAME_KIND_UNKNOWN,
    FRAME_CRC,
};
MUST_USE enum frame_result frame_decode(struct bytes in, size_t *used, size_t *want,
                                        struct frame *out);
const char *frame_result_text(enum frame_result r);

/* Begins a frame in `out` and returns where it starts; the body is appended by the caller
 * (at most FRAME_MAX - FRAME_HEAD bytes); frame_end fills in length and crc. */
size_t frame_begin(struct buf *out, const struct frame *head);
void frame_end(struct buf *out, size_t start);

enum message_kind {
    MESSAGE_RAFT = 1, /* raft_msg_encode() */
    MESSAGE_FORWARD,  /* struct forward */
    MESSAGE_FORWARD_REPLY,
    MESSAGE_STATUS, /* whether a replica is still a member (src/server/retire.c) */
    MESSAGE_REPORT, /* struct report: what a server says of its replicas */
    MESSAGE_QUIET,  /* what it says of its silent groups (src/server/vouch.c) */
    MESSAGE_KIND_END,
};

struct message {
    struct group_id group;
    enum message_kind kind;
    struct bytes body;
};

/* Appends the head of a message; the body follows; message_end sets its length. */
size_t message_begin(struct buf *out, struct group_id group, enum message_kind kind);
void message_end(struct buf *out, size_t start);
/* The same for a body of which `more` bytes are not in `out`. */
void message_end_with(struct buf *out, size_t start, size_t more);
enum message_result { MESSAGE_OK, MESSAGE_END, MESSAGE_MALFORMED };
MUST_USE enum message_result message_decode(struct cursor *in, struct message *out);

/* ---- bodies ---- */

enum { WIRE_NAME_MAX = 64, WIRE_ADDRESS_MAX = 255 };

enum refused_for {
    REFUSED_OTHER = 0,
    REFUSED_REMOVED,   /* who dialed was a member, and is none any more */
    REFUSED_TWIN,      /* another process with the same identity is connected */
    REFUSED_OLD,       /* it does not speak the cluster's feature level */
    REFUSED_RECOVERED, /* this server was recovered, without who dialed */
};

struct hello {
    struct bytes name, to_name; /* to 64 bytes; of who is dialed: empty if not known */
    uint8_t nonce[16];
    bool secret;      /* a proof is wanted and will be given */
    uint32_t feature; /* the newest level that the sender speaks (meta/meta.h) */
};
void hello_encode(struct buf *out, const struct hello *h);
MUST_USE bool hello_decode(struct bytes in, struct hello *out);

struct join {
    struct bytes name, client, peer, zone; /* addresses as others should dial them */
};
void join_encode(struct buf *out, const struct join *j);
MUST_USE bool join_decode(struct bytes in, struct join *out);

struct joined {
    bool ok;
    struct bytes text; /* why not */
    struct cluster_id cluster;
    struct server_id server;
};
void joined_encode(struct buf *out, const struct joined *j);
MUST_USE bool joined_decode(struct bytes in, struct joined *out);

/* A part of a stream of messages that is too long for one frame. */
enum { PIECE_HEAD = 8 + 8 + 8 };
struct piece {
    uint64_t stream, offset, total;
    struct bytes bytes; /* 1 to PIECE_BYTES, within total */
};
void piece_encode(struct buf *out, const struct piece *p);
MUST_USE bool piece_decode(struct bytes in, struct piece *out);

/* A request on its way to the server that leads its group. */
enum forward_kind {
    FORWARD_COMMANDS = 1, /* commands, each for itself */
    FORWARD_EXEC,         /* all of them as one entry, if the watches hold */
    FORWARD_WATCH,        /* the change positions of the watched keys */
    FORWARD_WAIT,         /* copies that hold index watches[0].change: WAIT */
    FORWARD_META,         /* a KEYSPACE command or a join, for the meta shard's leader */
    FORWARD_LEAD,         /* hand the group's lead over */
    FORWARD_KIND_END,
};

struct forward_watch {
    struct bytes key;
    struct log_index change;
};

enum { FORWARD_COMMANDS_MAX = 1 << 20, FORWARD_ARGS_MAX = 1 << 20 };
enum { FORWARD_ONCE_MAX = 128 };

struct forward_position {   /* of a client in the shard's log (struct shard_position) */
    struct log_index index; /* 0: none */
    struct term term;
    bool settled;
};

struct forward {
    uint64_t id; /* of the sender's, echoed in the reply */
    enum forward_kind kind;
    struct term term; /* the one it is meant for; another refuses it.  0: any */
    uint8_t resp;     /* version of the reply wanted */
    struct forward_position position; /* what must be seen */
    struct bytes once; /* COMMANDS, EXEC: id of CLIENT REQUEST; empty: none */
    uint32_t n_watches, n_commands;
    struct cursor watches;  /* forward_next_watch() */
    struct cursor commands; /* forward_next_command() */
};
/* Encodes the head; then forward_put_watch() n_watches times and forward_put_command()
 * n_commands times. */
void forward_encode(struct buf *out, const struct forward *f);
void forward_put_watch(struct buf *out, const struct forward_watch *w);
void forward_put_command(struct buf *out, const struct bytes *args, uint32_t n_args);
/* Appends the watches and commands of a decoded f, as they came. */
void forward_put_rest(struct buf *out, const struct forward *f);
/* Sets what of an encoded request changes from try to try: all that lies in its first bytes. */
enum { FORWARD_ADDRESS_BYTES = 8 + 1 + 8 + 1 + 17 };
void forward_address(uint8_t *body, uint64_t id, struct term term,
                     const struct forward_position *position);
/* Decodes and walks the whole body once, so that the next_ calls cannot meet bad bytes. */
MUST_USE bool forward_decode(struct bytes in, struct forward *out);
void forward_next_watch(struct forward *f, struct forward_watch *out);
uint32_t forward_peek_args(const struct forward *f); /* of the next command */
void forward_next_command(struct forward *f, struct bytes *args); /* peek_args slots */

enum forward_status {
    FORWARD_DONE = 1, /* bytes hold the replies */
    FORWARD_REFUSED,  /* not led here in that term: nothing was applied */
    FORWARD_CLOSED,   /* closed to a key of it, by now or for now: nothing was applied */
    FORWARD_STATUS_END,
};
struct forward_reply {
    uint64_t id;
    enum forward_status status;
    struct term term; /* REFUSED: the newest known here, and its leader */
    struct server_id leader;
    struct forward_position position; /* DONE: what the answer saw */
    struct bytes bytes;
    struct far far; /* a large part of the reply that is not in `bytes` */
};
enum { FORWARD_REPLY_HEAD = 8 + 1 + 8 + 4 + 17 };
void forward_reply_encode(struct buf *out, const struct forward_reply *r);
MUST_USE bool forward_reply_decode(struct bytes in, struct forward_reply *out);
