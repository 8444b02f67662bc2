/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a server, shared by the files of this folder, and what is always true of it.
 *
 *   client.c    connections of clients: parse, answers in order, flush
 *   session.c   commands about the connection: HELLO, AUTH, CLIENT, MULTI, WATCH ...
 *   session_client.c  CLIENT
 *   token.c     SESSION: what a connection has seen, as a text
 *   admin.c     commands about the server and the cluster: admin_config.c CONFIG,
 *               admin_info.c INFO, admin_cluster.c CLUSTER, admin_report.c KEYSPACE
 *               DIGEST and SHARD LIST, admin_sentinel.c SENTINEL, admin_servers.c
 *               SERVER LIST
 *   failover.c  FAILOVER, at the server that is asked and at the leader
 *   fanout.c    commands that every shard answers a part of: SCAN, KEYS, DBSIZE, FLUSHALL ...
 *   keyspace.c  KEYSPACE CREATE, ALTER, DROP, as who asked for them sees them
 *   closing.c   shards that close themselves for a keyspace that comes or goes
 *   backup.c    BACKUP: a shard's keys given out, piece after piece
 *   gather.c    what every server says of its own replicas (report.c), asked for together
 *   request.c   where a request goes: evaluated here, forwarded, or waiting for a leader;
 *               request_run.c evaluates it, request_wait.c keeps it meanwhile, in order
 *   answer.c    what is owed to someone, and the gate it waits for
 *   peer.c      connections between servers: dial, handshake, frames
 *   start.c     identity, founding, joining, recovery
 *   recover.c   a cluster of one out of a survivor
 *   retire.c    replicas that are not to be here any more
 *   vouch.c     what servers say for their groups that have fallen silent
 *   reconcile.c the meta shard's view, replicas that should be here, growth
 *   server.c    events in, actions out, the turn
 *
 * The life of a command on a key:  client.c parses ─► session.c looks at MULTI and AUTH ─►
 * request_route() finds the slot ─► led here: shard_run() writes into the client's last
 * answer, gated ─► at the end of the turn answers whose gates are open are flushed.
 * Otherwise a struct request is made (request_submit), which keeps the command in the form
 * it is forwarded in, until its answer is filled.
 *
 * V1  a client's answers leave in the order of its requests
 * V2  an answer is filled once: by evaluation, by a reply from elsewhere, or by an error
 * V3  every request is in exactly one place: a slot's waiting list, in `sent`, or in
 *     `rounds`; it has a deadline, at which it is answered
 * V4  a silent replica follows a leader whose server vouches for it in this term, on a
 *     connection that stands
 */
#pragma once

#include "base/hash.h"
#include "base/heap.h"
#include "base/hmap.h"
#include "meta/meta.h"
#include "resp/parse.h"
#include "server/server.h"
#include "shard/shard.h"
#include "wire/frame.h"

struct server;
struct client;
struct request;
struct fanout;
struct digests;
struct gather;
struct closing;
struct settling;
struct keyspace_wait;
struct backup;

/* ---- answers ---- */

enum answer_state {
    ANSWER_FILLING = 0, /* no bytes yet: a request or fan-out will fill it */
    ANSWER_GATED, /* bytes are there, the gate is not open yet; may still be extended
                         * while it is its client's last */
    ANSWER_READY, /* may leave */
};

struct answer {
    enum answer_state state;
    uint32_t replies; /* how many replies the bytes are; an error replaces each */
    struct buf bytes;
    struct far far;   /* a large value that belongs into them */
    uint64_t sent;    /* of both, already on their way */
    uint64_t given;   /* to the world, with the SEND that is under way */
    uint64_t counted; /* of bytes, in client->owed_bytes */
    uint64_t asked;   /* bytes of its request, in client->asked_bytes while FILLING */
    uint64_t mark;    /* where the reply being written begins: answer_for_gate() */
    bool mute;        /* CLIENT REPLY: the client is not told */
    bool in_flight;   /* given to the world in a SEND: may not be grown or moved */
    struct shard_gate gate;
    struct slot *slot;        /* of the gate */
    struct answer *gate_next; /* in slot->gated */
    struct instant deadline;  /* of the gate */
    /* Who is owed; exactly one. */
    struct client *client; /* in its answers list */
    struct request
        *request; /* gives what it evaluated back to the request's own origin */
    struct request *pending; /* of this client, which is to give it; NULL: none */
    struct answer *next;     /* of the same client, in order */
    bool orphan;             /* the client has gone: free it when nothing points to it */
};

/* ---- requests off the fast path ---- */

enum request_state {
    REQUEST_WAITING = 1, /* in slot->waiting: for a leader, for readiness, for room */
    REQUEST_SENT,        /* in server->sent, forwarded to `target` */
    REQUEST_ROUND,       /* in slot->rounds: a follower's read waits for its round */
    REQUEST_COPIES,      /* in slot->rounds: WAIT, for copies */
    REQUEST_LEAD,        /* in slot->rounds: a hand-over, to be done or given up */
    REQUEST_GATED,       /* evaluated here; its answer waits for its gate */
    REQUEST_APPLY, /* meta: done elsewhere; waits until this server has applied it */
};

/* Where the result goes. */
enum request_origin { FROM_CLIENT = 1, FROM_PEER, FROM_FANOUT, FROM_SERVER };

struct request {
    enum request_state state;
    enum request_origin origin;
    uint64_t serial; /* in the order in which they were made */
    uint64_t id;     /* in server->sent while SENT */
    struct group_id group;
    struct buf body;      /* forward_encode() form, its id and term set when sent */
    struct block *shared; /* owns what `body` shows, once a large one was sent */
    enum forward_kind kind;
    uint8_t resp;
    bool writes, reads_only;
    bool at_leader;  /* a read that this server's replica may not answer */
    bool closed;     /* WAITING: the shard is closed to a key of it */
    bool holds;      /* WAITING: counted in slot->n_holding */
    bool behind;     /* WAITING: counted in slot->n_behind */
    uint64_t routed; /* version of the meta view that said which group */
    /* What must be seen, FROM_PEER and for WATCH and EXEC with watches; of others it is what
     * their client must see when they are sent. */
    struct shard_position position;
    enum policy_read read;
    uint64_t maxlag_ms; /* READ any: how old the replica's state may be; 0: any age */
    bool stale; /* it is older than that, or than what must be seen: leader, or wait */
    struct answer *answer; /* FROM_CLIENT: to be filled */
    struct fanout *fanout; /* FROM_FANOUT */
    struct server_id peer; /* FROM_PEER, with peer_id */
    uint64_t peer_id;
    /* FROM_SERVER, and WATCH of a client: called with the result; text NULL: done. */
    void (*done)(struct server *s, struct request *r, const struct forward_reply *reply,
                 enum outcome outcome);
    struct conn_id client;   /* whose it is, for `done`; 0: none */
    struct server_id target; /* SENT; LEAD: who is to lead */
    struct term term;        /* SENT: the one it was meant for; LEAD: that it ends */
    struct conn_id way;      /* SENT: the connection on which */
    uint64_t round;          /* ROUND */
    struct log_index index;  /* APPLY, COPIES */
    uint32_t copies;         /* COPIES: how many are wanted */
    struct instant deadline;
    struct instant given_up; /* past its deadline, while much moves; 0: not yet past it */
    struct heap_node timer;
    struct request *next, **prev_next; /* in the slot's list it is in */
};

/* ---- a group, whether it has a replica here or not ---- */

struct slot {
    struct group_id group;
    struct shard *shard;   /* NULL: no replica here */
    struct server_id hint; /* who leads, when we have no replica or it does not know */
    struct term hint_term;
    uint32_t tries; /* replicas asked in turn, without a hint */
    struct answer *gated, **gated_end;
    struct request *waiting, **waiting_end; /* by serial */
    struct request *came_back; /* of those: the last that was put in between */
    uint64_t newest;           /* the largest serial that has waited */
    uint32_t n_holding; /* of those: behind which other servers' requests wait, too */
    uint32_t n_behind;  /* of other servers, that wait for what they have to see */
    struct request *rounds, **rounds_end;
    struct heap_node timer; /* the shard's wake */
    bool dirty;             /* in server->dirty: to be stepped at the end of the turn */
    bool watched;           /* in server->watched: to be looked at by the next sweep */
    struct heap_node
        due;      /* in server->due: the first deadline of its keys, if it leads */
    bool syncing; /* in server->syncing: waits for the log */
    bool loading; /* a wal_read for it is under way */
    bool vouched; /* this server may vouch for it: vouch.c */
    enum {
        RETIRE_NOT = 0,
        RETIRE_WAIT,
        RETIRE_KEEP,
        RETIRE_BURY,
        RETIRE_DROP
    } retiring; /* retire.c */
    struct kv_job *retire_job;
    struct log_index keep_from, keep_upto; /* to be kept aside, read back from the log */
    uint32_t n_keeping;        /* files of rollback/ that are not there yet: rollback.c */
    struct log_index released; /* the log may be cut up to here, once they are; 0: told */
    uint64_t opened_version; /* closing.c: names of keyspaces that this view lacks are */
    struct term opened_term; /* open again, by the leadership of this term */
    struct force_reports
        *fenced; /* at the meta leader, while an epoch waits for its leader */
};

/* ---- clients ---- */

enum { CLIENT_NAME_MAX = 64 };

struct client_route { /* outstanding requests of this client for one group */
    struct group_id group;
    uint32_t n_waiting, n_sent;
    uint32_t n_bulky;        /* of those sent: in pieces */
    struct server_id target; /* of those sent */
    struct term term;
    struct conn_id way; /* the connection with the target */
    uint64_t held_walk; /* the walk of the waiting list in which one was left there */
    uint64_t back_walk; /* the walk of the rounds in which one went back to wait */
};

struct client_position { /* of this client in one group, by what it was told */
    struct group_id group;
    struct shard_position seen; /* written or read: the newest */
    struct log_index wrote;     /* 0: nothing */
};

struct client {
    struct conn_id conn;
    uint64_t number; /* CLIENT ID */
    struct server *server;
    struct resp_parser parser;
    struct buf in; /* what is not parsed yet */
    size_t in_at;  /* bytes of `in` already consumed */
    bool local;
    char address[64];
    char name[CLIENT_NAME_MAX + 1];
    char lib_name[CLIENT_NAME_MAX + 1], lib_ver[CLIENT_NAME_MAX + 1];
    uint8_t resp;
    bool authenticated;
    bool closing;  /* flush what is owed, then close; read nothing more */
    bool paused;   /* reading is paused: backpressure */
    bool held;     /* commands are not parsed until one is done: WATCH, WAIT, SCAN ... */
    bool draining; /* likewise, until every answer is READY */
    bool dropped;  /* to be removed at the end of the turn */
    bool gone;     /* removed; kept while the world or a list has it */
    bool choked;   /* too much is owed or asked: parse on at half of that */
    const char *why; /* dropped: for the log */
    size_t want;     /* the parser: how long what is in `in` must get at least */
    bool going_on;   /* in server->going_on: more to parse in the next turn */
    struct client *going_next;
    bool reply_off, reply_skip, reply_skip_next;
    bool no_evict, no_touch;
    struct instant born, active;
    const struct command *last_command;
    uint64_t commands_total;

    /* MULTI and WATCH */
    bool multi, multi_broken;
    struct buf queue; /* forward_put_command() form */
    uint32_t n_queued;
    bool queue_writes;
    uint64_t queue_routed; /* version of the meta view that queue_group comes from */
    struct group_id queue_group; /* valid with n_queued > 0 or n_watches > 0 */
    struct buf watches;          /* forward_put_watch() form */
    uint32_t n_watches;

    /* CLIENT REQUEST: the id of the next command, or of the EXEC of a MULTI. */
    uint8_t once[FORWARD_ONCE_MAX];
    uint8_t once_len;
    bool once_fresh; /* no command has come after it yet */

    /* Outstanding requests off the fast path, and what it has seen. */
    uint64_t routed; /* version of the meta view by which its last one was routed */
    uint64_t
        none_older; /* no request of it is out that an older map of keyspaces routed */
    struct client_route *routes; /* request_wait.c; given back by request_client_gone() */
    uint32_t n_routes, routes_cap;
    struct client_position *positions;
    uint32_t n_positions, positions_cap;
    bool session; /* SESSION: what was discarded is an error, never older data */

    struct backup *backup; /* the copy that it takes; NULL: none */

    struct answer *answers, *last_answer;
    uint32_t n_filling; /* answers that are FILLING */
    uint32_t n_open;    /* answers that are not READY: what they show is not known yet */
    uint64_t asked_bytes; /* of their requests */
    struct {              /* WAIT: over positions[], while held */
        uint32_t at;
        int64_t wanted, copies;
        struct instant deadline; /* 0: none */
    } wait;
    struct { /* FAILOVER: the keyspace's shard that is next, while held */
        uint32_t keyspace, at;
        struct server_id to;
    } failover;
    uint64_t owed_bytes; /* in all its answers */
    bool send_busy;      /* bytes were given that the world has not taken yet */
    bool dirty;          /* in server->dirty_clients */
    struct client *dirty_next;
    struct client *next, *prev; /* all clients, oldest first */
};

/* ---- peers ---- */

enum peer_conn_state { PEER_DIALING = 1, PEER_GREETING, PEER_UP };

/* Silent groups and the terms in which they are led, and the sum of them all. */
struct vouches {
    struct hmap terms; /* group -> term */
    uint64_t sum;
};

struct
    peer_conn { /* one connection.  What is sent goes out on one that we dialed, or for want of
                 * one on what was accepted; from both kinds is read */
    struct conn_id conn;
    bool dialed;
    enum peer_conn_state state;
    struct server_id id; /* 0 until HELLO; a joiner keeps 0 */
    struct incarnation incarnation;
    uint32_t feature; /* by its HELLO: the newest level that it speaks */
    uint8_t nonce[16];
    bool proved; /* the other side knows the secret */
    bool hello_got, joining;
    bool claimed; /* a member of another cluster takes us for one of it */
    struct buf in;
    struct buf out; /* frames */
    bool send_busy;
    struct bulk *bulk, **bulk_end; /* bounded by who speaks: windows, memory */
    struct buf piece;              /* a stream being assembled */
    uint64_t piece_stream, piece_total;
    struct instant opened, heard, ping_at;
    struct vouches out_vouches, in_vouches; /* said and heard on it: vouch.c */
    struct instant beat_at;                 /* of what is said: the next beat */
    struct instant vouched_at; /* of what is heard: the last beat with its sum */
    bool pong_due;
    char address[META_ADDRESS_MAX + 1];
};

struct bulk { /* a message larger than a piece, on its way */
    struct buf bytes;
    uint64_t skip;  /* bytes before it, which are not of it */
    struct far far; /* a part that is not in bytes */
    uint64_t stream, sent;
    struct bulk *next;
};

struct peer { /* another server of the cluster */
    struct server_id id;
    struct meta_text address;
    struct peer_conn *way;  /* our connection to it; NULL: none */
    struct instant dial_at; /* next try */
    uint32_t dial_tries;
    struct buf batch;               /* messages of this turn, small ones */
    struct instant heard;           /* last frame from it */
    struct instant missed;          /* when a gather gave up waiting for it; 0: never */
    struct incarnation incarnation; /* of its present life */
};

enum {
    SERVER_NS_PER_BYTE = 64, /* 16 MB/s: a slow disk or link */
    PEER_OUT_PAUSE_BYTES = 4 << 20,
    SERVER_SPARE_BYTES = 64 * 1024,
    SERVER_ENTRIES_MAX = 4096, /* of one raft message */
};

/* ---- the server ---- */

struct kept { /* a text or bytes that an action points to */
    struct kept *next;
    size_t len;
    uint8_t bytes[];
};

struct action_list {
    struct server_action *at;
    uint32_t n, cap;
    struct kept *kept;
};

enum server_phase {
    PHASE_OPENING = 0,
    PHASE_JOINING,
    PHASE_RUNNING,
    PHASE_STOPPING,
    PHASE_ENDED
};

enum identity_state {
    IDENTITY_SOUND = 0,
    IDENTITY_BEGUN,    /* sennit recover is at work: recover.c */
    IDENTITY_LOG_VOID, /* it is done, and the log's files are to go */
};

struct identity {
    struct cluster_id cluster;
    struct cluster_id was; /* before it was recovered as a cluster of one; 0: never */
    enum identity_state state;
    struct server_id server;
    char name[META_NAME_MAX + 1];
};

struct server_stats {
    uint64_t connections, commands, rejected, forwarded, uncertain;
    uint64_t bytes_in, bytes_out, turns, syncs;
    uint64_t peer_refused;
    uint64_t vouches_differ, vouches_lost;
    uint64_t error_replies;
    uint64_t discarded_entries;
};

enum { KEYSPACES_REFUSED_KEPT = 16 };
struct keyspace_refused {
    uint32_t keyspace; /* id */
    uint64_t keys;     /* that it would have hidden */
};

struct server {
    struct server_config config;
    struct mem *mem;
    struct buf texts; /* copies of the config's strings */
    struct prng prng;
    enum server_phase phase;
    struct identity identity;
    struct incarnation incarnation;
    struct instant now, started;
    struct wall wall, started_wall;
    struct server_stats stats;

    struct wal *wal;
    bool wal_open;
    bool wal_alive; /* the disk has done something since the last turn */
    struct lsn durable, written;
    struct lsn checkpoint_lsn; /* log position of the last round of checkpoints */
    struct kv_reader *kv_reader;
    struct shard_rate transfer_rate;
    struct shard_counts counts;
    uint32_t renew_at; /* whose reader is renewed next */

    struct meta meta;
    bool meta_rebuild;     /* the meta shard's state was replaced whole */
    uint64_t meta_seen;    /* version of the view that placement was compared with */
    uint32_t feature_seen; /* the level that peers were compared with */
    struct instant plan_at, retire_at;
    struct instant plans_since; /* leads the meta shard; 0: it does not */
    struct meta_planner planner;
    struct instant lead_at; /* a lead may be given back again */
    bool telling;           /* the meta leader is being told something: reconcile.c */
    uint64_t retire_seen;   /* version in which no replica here was out of place */

    struct hmap slots; /* group -> struct slot */
    struct slot **all_slots;
    uint32_t n_slots, slots_cap;
    struct slot **dirty, **stepping; /* slots_cap places, like all_slots */
    uint32_t n_dirty;
    /* A sweep looks at what was stepped or asked since the last, and at what is due: a server
     * with thousands of idle shards pays for none of them. */
    struct slot **watched;
    uint32_t n_watched;
    struct heap due;  /* by wall time in ms */
    struct hmap jobs; /* handed out for a slot: id of the job -> slot */
    struct slot **syncing;
    uint32_t n_syncing;
    uint64_t walks;                  /* of waiting lists, counted */
    struct heap timers, slot_timers; /* of requests; of shards */
    struct hmap sent;                /* request id -> struct request */
    uint64_t next_request, next_serial;

    struct hmap clients; /* conn -> struct client */
    struct client *first_client, *last_client;
    uint32_t n_clients;
    uint64_t next_client;
    struct client *dirty_clients, **dirty_clients_end;
    uint8_t *receive;         /* shared by clients with nothing left over */
    struct client *receiving; /* whom it was given to; its data comes next */
    struct block *lent; /* what the command being carried out came in, if that is much */
    size_t lent_at;     /* where it begins there */
    struct client *going_on, **going_on_end; /* have more to be parsed */
    struct answer *free_answers;             /* kept for use again, with small buffers */
    uint32_t n_free_answers;
    struct fanout *fanouts, **fanouts_end; /* a part came back: to be taken further */
    struct fanout *all_fanouts;
    struct keyspace_wait *keyspace_waits;
    struct keyspace_refused refused[KEYSPACES_REFUSED_KEPT]; /* the last ones */
    uint32_t n_refused;
    struct closing *closings;
    struct settling *settlings;
    uint64_t closings_seen; /* version of the view that they were compared with */
    struct instant closings_at;
    struct gather *gathers;  /* KEYSPACE DIGEST, SHARD LIST under way, oldest first */
    struct digests *digests; /* that other servers wait for */
    struct backup *backups;
    uint32_t n_backups;

    struct hmap conns; /* conn -> struct peer_conn */
    struct hmap peers; /* server id -> struct peer */
    struct peer_conn *join_conn;
    struct instant join_at;
    uint8_t *spare;             /* where bytes for a connection that is gone are put */
    struct raft_entry *entries; /* of the message being decoded */
    uint64_t next_conn, next_stream;

    uint32_t n_jobs;                   /* handed out */
    struct identity_job *identity_job; /* start.c */
    struct recover *recover;           /* recover.c; NULL: a start like any other */

    struct action_list lists[2]; /* gathered, and given to the world, in turn */
    uint8_t gathering;
    uint64_t next_job;
    struct force_wait *force_waits;
    bool wal_full;
    struct instant store_room_at; /* the log makes way for the store until then; 0: no */
    struct instant wal_wake;
    struct instant next_sweep; /* of client time-outs and gates */
    struct instant stop_at;
};

/* ---- server.c ---- */
void server_log(struct server *s, enum server_log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);
void server_exit(struct server *s, int code, const char *format, ...) PRINTF_LIKE(3, 4);
struct server_action *server_act(struct server *s, enum server_action_kind kind);
struct bytes server_keep(struct server *s,
                         struct bytes b); /* a copy good until the next turn */
struct slot *server_slot(struct server *s, struct group_id group); /* made if need be */
struct slot *server_slot_find(const struct server *s, struct group_id group);
void slot_touch(struct server *s,
                struct slot *slot); /* step it at the end of this turn */

void slot_watch(struct server *s, struct slot *slot); /* look at it in the next sweep */
void slot_job(struct server *s, struct slot *slot, struct kv_job *job); /* to be run */

void server_take_wal(struct server *s, const struct wal_out *out);
/* When what begins now and must move so many bytes is given up: request-timeout, and time for
 * these bytes, and those in the log ahead of them, at SERVER_NS_PER_BYTE. */
struct instant server_deadline(const struct server *s, uint64_t bytes);

/* ---- answer.c ---- */
struct answer *answer_open(struct client *c); /* a new FILLING one, last in order */
/* A FILLING one whose owner is a request (FROM_PEER, FROM_FANOUT, FROM_SERVER); in no list.
 * When its gate ends request_gate_result() is called, and then it is freed by answer.c. */
struct answer *answer_for_request(struct server *s, struct request *r);
/* These fill an answer.  A client's leaves in its turn, an orphan is freed; a request's goes
 * to request_gate_result() before they return. */
void answer_error(struct server *s, struct answer *a, enum outcome o); /* fills it */
void answer_ready(struct server *s, struct answer *a);
/* Where a reply that needs no gate is written now: a READY or fresh last answer. */
struct reply answer_now(struct client *c);
void answer_now_done(struct server *s, struct client *c); /* one reply was written */
/* Where shard_run() writes: the client's last answer when one more reply may be appended to
 * it (gated on the same slot, or READY), else a new FILLING one.  Then answer_gate(), or,
 * if nothing was written: a FILLING one is the caller's to fill later, of any other state
 * it is left as it is (take answer_open() for a request). */
struct answer *answer_for_gate(struct client *c, struct slot *slot);
/* One reply was written behind `gate`.  An open gate makes the answer READY at once (a
 * request's: request_gate_result() is called before this returns). */
void answer_gate(struct server *s, struct answer *a, struct slot *slot,
                 const struct shard_gate *gate);
void answers_check(struct server *s,
                   struct slot *slot); /* gates that opened or were lost */
void answers_expire(struct server *s, struct slot *slot); /* gates past their deadline */
void answer_free(struct server *s, struct answer *a);
static inline uint64_t answer_len(const struct answer *a)
{
    return a->bytes.len + a->far.len;
}

void answers_free(struct server *s); /* those kept for use again */

/* ---- client.c ---- */
void client_touch(struct server *s, struct client *c); /* flush at the end of this turn */
void client_go_on(struct server *s, struct client *c); /* in the next turn, if it may */
void client_let_go(struct server *s,
                   struct client *c); /* held no more; NULL: it has gone */
/* At the end of this turn, without what is owed; logged.  `why` is a literal. */
void client_drop(struct server *s, struct client *c, const char *why);
void client_flush(struct server *s, struct client *c);
/* Goes on with clients that have more to be parsed, fan-outs and gathers, then flushes.
 * True: more is to be done at once. */
bool clients_turn_end(struct server *s);
void clients_free(struct server *s); /* all, with what they own */
bool client_sent(struct server *s, struct conn_id conn,
                 size_t taken); /* false: no client's */
bool client_writable(struct server *s, struct conn_id conn);
void client_note(struct client *c, struct group_id group, struct shard_position seen,
                 bool wrote);
struct shard_position client_position(const struct client *c, struct group_id group);
bool client_in_session(const struct client *c, struct group_id group);
struct shard_position client_must_see(const struct client *c, struct group_id group);
static inline struct bytes client_once(const struct client *c)
{
    return (struct bytes){c->once, c->once_len};
}

#define REDIS_VERSION "7.2.0" /* whose commands and replies ours follow */

/* ---- session.c: one command of a client, answered or on its way when it returns ---- */
void session_command(struct server *s, struct client *c, const struct bytes *args,
                     uint32_t n_args);
void session_reset(struct server *s, struct client *c);
/* An error reply to the current command; also breaks a MULTI that is being queued. */
void session_error(struct server *s, struct client *c, const char *text);
void session_outcome(struct server *s, struct client *c, enum outcome o);
/* Whether this command must wait until everything before it is answered. */
bool session_name_set(struct server *s, struct client *c,
                      struct bytes name); /* or an error */
void session_simple(struct server *s, struct client *c, const char *text); /* "+OK" */
bool session_waits_for_all(const struct client *c, const struct bytes *args,
                           uint32_t n_args);
void session_client_command(struct server *s, struct client *c,
                            const struct command *command, const struct bytes *args,
                            uint32_t n_args); /* session_client.c */

/* ---- token.c: SESSION TOKEN, SESSION RESUME ---- */
void token_give(struct server *s, struct client *c);
void token_resume(struct server *s, struct client *c, struct bytes text);

/* ---- admin.c: writes one reply ---- */
void admin_command(struct server *s, struct client *c, const struct command *command,
                   const struct bytes *args, uint32_t n_args, struct reply *r);
struct server_id admin_leader(const struct server *s,
                              struct group_id group); /* 0: unknown */
struct address {
    char host[META_ADDRESS_MAX + 1];
    int64_t port;
};
void admin_address(struct bytes text,
                   struct address *out); /* "host:port", "[::1]:port" */
/* A server as a node of Redis Cluster: 40 hexadecimal digits of its id, the cluster's, and a
 * hash of both. */
enum { ADMIN_NODE_ID_MAX = 41 };
void admin_node_id(const struct server *s, struct server_id id,
                   char out[ADMIN_NODE_ID_MAX]);
bool admin_is_up(const struct server *s,
                 struct server_id id); /* as this server sees it */
/* Where its clients are served; port 0: not known. */
void admin_address_of(const struct server *s, struct server_id id, struct address *out);
/* Who to send requests for a shard to: its leader, or while that is not known a voter. */
struct server_id admin_master(const struct server *s, const struct meta_shard *shard);
/* Voters, then learners, of the shard's target; returns how many. */
uint32_t admin_members(const struct meta_shard *shard,
                       struct server_id out[2 * META_REPLICAS_MAX]);
void admin_config(struct server *s, const struct command *command,
                  const struct bytes *args, uint32_t n_args,
                  struct reply *r); /* admin_config.c */
void admin_info(struct server *s, const struct bytes *args, uint32_t n_args,
                struct reply *r); /* admin_info.c */
void admin_cluster(struct server *s, const struct command *command,
                   const struct bytes *args, struct reply *r); /* admin_cluster.c */
void admin_sentinel(struct server *s, const struct command *command,
                    const struct bytes *args, struct reply *r); /* admin_sentinel.c */
void admin_servers(struct server *s, struct reply *r);          /* admin_servers.c */

/* ---- admin_report.c: answered once every server was heard, or is known to be silent ---- */
void admin_digest(struct server *s, struct client *c, struct bytes name);
void admin_shard_list(struct server *s, struct client *c, const struct bytes *args,
                      uint32_t n_args);

/* ---- gather.c, report.c: server/report.h has the rest ---- */
void gathers_turn(struct server *s);
void gathers_free(struct server *s);
MUST_USE bool report_message(struct server *s, struct server_id from,
                             struct bytes body); /* false: malformed */

/* ---- backup.c ---- */
void backup_command(struct server *s, struct client *c, const struct command *command,
                    const struct bytes *args);
void backup_end(struct server *s,
                struct client *c); /* of a client that has one, or none */
void backups_turn(struct server *s);
void backups_free(struct server *s);

/* ---- fanout.c ---- */
void fanout_begin(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args);
void fanout_part(struct server *s, struct fanout *f, const struct forward_reply *reply,
                 enum outcome outcome);
struct client *fanout_client(const struct fanout *f); /* NULL: gone */
void fanouts_turn(struct server *s); /* parts that came back: the next one, or the end */
void fanouts_free(struct server *s);

/* ---- keyspace.c ---- */
void keyspace_change(struct server *s, struct client *c, const struct command *command,
                     const struct bytes *args, uint32_t n_args);
void keyspaces_note(struct server *s, const struct effect *e); /* it is in the view now */
void keyspaces_turn(struct server *s); /* answers those whose end the view shows */
void keyspaces_free(struct server *s);

/* ---- closing.c ---- */
bool closings_turn(struct server *s); /* true: there is more to do at once */
/* At the meta leader: what a shard reports is taken down; false: these args are no report.
 * And the next keyspace that is settled, if one can be. */
bool closings_report(struct server *s, const struct bytes *args, uint32_t n_args);
bool closings_settle(struct server *s, struct meta_change *change);
void closings_free(struct server *s);

/* ---- request.c ---- */
/* The slot of a command's keys.  False: an error was given to `o` (CROSSSLOT, ...). */
MUST_USE bool request_route(struct server *s, const struct command *command,
                            const struct bytes *args, uint32_t n_args, struct slot **slot,
                            const struct meta_keyspace **keyspace, enum outcome *o);
/* One shard command of a client, outside MULTI: evaluated at once if it is led here. */
void request_command(struct server *s, struct client *c, const struct command *command,
                     const struct bytes *args, uint32_t n_args);
/* One that was prepared (body encoded, origin set): evaluated, forwarded or queued.  It is
 * request.c's from here on. */
void request_submit(struct server *s, struct request *r);
/* From a peer; with a block, in which the request lies. */
void request_forwarded(struct server *s, struct server_id from, struct group_id group,
                       struct forward *f, struct block *block);
void request_reply(struct server *s, struct server_id from,
                   const struct forward_reply *reply, struct block *block);
void requests_slot_turn(struct server *s,
                        struct slot *slot); /* waiting, rounds: try again */

/* ---- request_wait.c ---- */
struct request *request_new(struct server *s, enum forward_kind kind,
                            struct group_id group, uint8_t resp);
/* The same for one command of the meta shard's leader: `done`, and the answer that it fills if
 * there is one, are to be set still. */
struct request *request_to_meta(struct server *s, uint8_t resp, const struct bytes *args,
                                uint32_t n_args);
void requests_replica_gone(struct server *s, struct slot *slot); /* retired: no rounds */
void requests_term_changed(struct server *s, struct slot *slot);
void requests_conn_lost(struct server *s, struct conn_id way); /* sent on it */
void request_timeout(struct server *s, struct request *r);
void request_gate_result(struct server *s, struct request *r, struct answer *a,
                         enum outcome o); /* OUTCOME_NONE: a->bytes are the reply */
void request_client_gone(struct server *s, struct client *c); /* before it is freed */
void requests_free(struct server *s);

/* ---- peer.c ---- */
struct peer *peer_find(const struct server *s, struct server_id id);
void peer_learn(struct server *s, struct server_id id, const char *address); /* dial it */
void peer_forget(struct server *s, struct server_id id);
void peers_forget_strangers(struct server *s); /* not in the view of the meta shard */
void peers_refuse_old(struct server *s); /* who does not speak the cluster's level */
/* The newest feature level that it speaks; 0: it is not connected. */
uint32_t peer_feature(const struct server *s, struct server_id id);
/* Begins a message to a server in its batch of this turn; body to *out, then peer_said(). */
struct buf *peer_say(struct server *s, struct server_id to, struct group_id group,
                     enum message_kind kind, size_t *start);
void peer_said(struct server *s, struct server_id to, size_t start);
/* The same, with a part that is not copied; `at` counts as what was written does. */
void peer_said_around(struct server *s, struct server_id to, size_t start,
                      const struct far *far);
/* A large message is on its way, from there or to there. */
bool peer_is_moving(const struct server *s, struct server_id id);
struct conn_id peer_way(const struct server *s, struct server_id id); /* 0: none */
bool peer_reachable(const struct server *s,
                    struct server_id id);               /* heard or connected lately */
void peers_tell(struct server *s, struct shard *shard); /* a new one: who is connected */
void server_was_removed(struct server *s);              /* its end, with what to do */
void peers_turn_end(struct server *s);
void peer_joined_reply(struct server *s, struct conn_id conn, const struct joined *j);
struct instant peers_wake(const struct server *s);
void peer_dial_to_join(struct server *s);
void peers_free(struct server *s);
void peer_sent(struct server *s, struct conn_id conn, size_t taken);
void peer_writable(struct server *s, struct conn_id conn);

/* ---- start.c ---- */
void start_begin(struct server *s);
void start_refuse_newer(struct server *s); /* its end: what there is it can't read */
void start_wal_out(struct server *s, const struct wal_out *out); /* while opening */
void start_join_turn(struct server *s);
void start_joined(struct server *s, const struct joined *j);
void start_free(struct server *s);
void identity_save(struct server *s); /* a job; then start_job_done() */
bool start_owns_job(const struct server *s, const struct kv_job *job);
void start_job_done(struct server *s, int error);

/* ---- recover.c ---- */
void recover_begin(struct server *s); /* the log is open */
void recover_saved(struct server *s); /* so is the identity */
bool recover_job_done(struct server *s, struct kv_job *job, int error);
void recover_free(struct server *s);

/* ---- reconcile.c ---- */
void reconcile_rebuild(struct server *s); /* the view, from the store */
void reconcile_turn(struct server *s);
void reconcile_follow(struct server *s); /* what a new view asks for, if it is new */
void reconcile_members(struct server *s, struct slot *slot); /* towards its target */
/* A change of the meta shard asked for by args, at its leader: KEYSPACE ..., or JOIN name
 * client peer zone from a server (answered with a joined body). */
void reconcile_evaluate(struct server *s, const struct bytes *args, uint32_t n_args,
                        struct meta_change *change, struct reply *reply);
struct shard_config reconcile_shard_config(struct server *s, struct group_id group);
bool reconcile_alive(const struct server *s, struct server_id id); /* heard lately */
enum meta_health reconcile_health(void *server,
                                  struct server_id id); /* of a meta_judge */
void reconcile_effect(void *ctx, const struct effect *e);
void reconcile_reset(void *ctx);
void reconcile_begin(struct server *s); /* the log is open */
/* One command to the meta leader, from this server itself; false: one is under way. */
bool reconcile_tell(struct server *s, const struct bytes *args, uint32_t n_args);
const struct policy *reconcile_policy(const struct server *s,
                                      const struct meta_shard *shard);

/* ---- force.c ---- */
/* FAILOVER of a keyspace without its leaders' consent; `to` 0: whoever has most. */
void force_begin(struct server *s, struct client *c, const struct meta_keyspace *keyspace,
                 struct server_id to);
/* FAILOVER manual: the one voter moves. */
void force_move(struct server *s, struct client *c, const struct meta_keyspace *keyspace,
                struct server_id to);
/* What others tell the meta leader, answered; false: it is something else. */
bool force_evaluate(struct server *s, const struct bytes *args, uint32_t n_args,
                    struct meta_change *change, struct reply *reply);
bool force_plan(struct server *s,
                struct meta_change *change); /* the meta leader's next step */
void force_turn(struct server *s);           /* now and then: fences, reports, decrees */
void force_waits_turn(struct server *s);
void force_free(struct server *s);
void force_slot_free(struct server *s, struct slot *slot);

/* ---- rollback.c ---- */
/* Entries that have gone from a shard's log, and that a client may have been told of: to a file
 * of rollback/, as lines of JSON.  Until it is there slot->n_keeping counts it. */
void rollback_keep(struct server *s, struct slot *slot, const struct raft_entry *entries,
                   uint32_t n);

/* ---- vouch.c ---- */
void vouches_init(struct vouches *v, struct mem *mem);
void vouches_free(struct vouches *v);
void vouch_said(struct server *s, struct slot *slot, const struct raft_msg *msg);
void vouch_end(struct server *s, struct slot *slot);
void vouch_heard(struct server *s, struct peer_conn *c, struct slot *slot,
                 const struct raft_msg *msg);
MUST_USE bool vouch_message(struct server *s, struct peer_conn *c, struct group_id group,
                            struct bytes body); /* false: malformed */
void vouch_conn_lost(struct server *s, struct peer_conn *c);
void vouch_turn(struct server *s);
void vouch_beats(struct server *s);
struct instant vouch_wake(const struct server *s);
void vouch_verify(const struct server *s, const struct slot *slot);

/* ---- retire.c ---- */
void retire_begin(struct server *s, struct slot *slot);
void retire_step(struct server *s, struct slot *slot);
void retire_loaded(struct server *s, struct slot *slot, const struct wal_read_done *done);
bool retire_job_done(struct server *s, struct slot *slot, struct kv_job *job, int error);
MUST_USE bool retire_message(struct server *s, struct server_id from,
                             struct group_id group,
                             struct bytes body); /* false: malformed */
void retire_turn(struct server *s);
bool retire_was_here(const struct server *s, struct group_id group);
void retire_free(struct server *s, struct slot *slot);
