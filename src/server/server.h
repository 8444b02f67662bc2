/* SPDX-License-Identifier: Apache-2.0 */
/* server - one reactor of a server as one core: clients, routing, forwarding, shards, log,
 * peers.  It performs nothing itself; a world (src/host, src/sim) drives it:
 *
 *     events in:   server_client_*()  server_peer_*()  server_wal_done()  server_job_done()
 *     once a turn: server_turn_end()  ──►  struct server_action list, performed by the world
 *
 * A turn: the world hands in everything that has arrived, then calls server_turn_end() once
 * and performs the actions in order.  Events only change state; nothing leaves but through
 * actions.  So one turn makes one log write, one frame per peer and one send per client.
 *
 * Units     now: ns since this server started (monotonic, never back); wall: Unix ms
 * Owner     events borrow; what actions point to is good until the next call of any function
 *           here, except WAL ops and jobs, which are good until they are reported done, and
 *           SEND bytes, which are good until server_sent() tells how many were taken
 * Limits    server_config; every queue has one
 * Errors    SERVER_EXIT actions end the process: code 1 at run time, 2 for wrong use
 */
#pragma once

#include "base/ids.h"
#include "base/mem.h"
#include "raft/raft.h"
#include "store/kv.h"
#include "wal/wal.h"

/* The most that flags and CONFIG SET take: far from where sums of them would overflow. */
#define SERVER_BYTES_MAX (UINT64_C(1) << 44)
enum { SERVER_CLIENTS_MAX = 1000000 };
#define SERVER_TIMEOUT_MIN_NS (10 * MS_NS)
#define SERVER_TIMEOUT_MAX_NS (3600 * SEC_NS)
#define SERVER_SKEW_MAX_NS (24 * 3600 * SEC_NS)
#define SERVER_REPLACE_MIN_NS SEC_NS
#define SERVER_REPLACE_MAX_NS (366 * 24 * 3600 * SEC_NS)

struct server_limits {
    uint32_t clients_max;               /* 10,000 */
    uint64_t client_output_bytes_max;   /* 1 GB hard: the client is disconnected */
    uint64_t client_output_pause_bytes; /* reading from a client stops above this; 1 MB */
    uint64_t client_input_bytes_max;    /* 1 GB: query buffer */
    uint64_t value_bytes_max;           /* 512 MB */
    uint64_t table_bytes_max;      /* of a shard, before a checkpoint is begun; 64 MB */
    uint64_t log_bytes_checkpoint; /* of WAL since the last checkpoint; 128 MB */
    uint64_t request_timeout_ns;   /* 5 s */
    uint32_t once_max;             /* request ids that a shard remembers; 1,000,000 */
    uint64_t once_keep_ns;         /* for how long, at least; 10 min */
    uint64_t election_ns, heartbeat_ns;
    uint32_t append_entries_max; /* in one message between replicas */
    uint64_t append_bytes_max;   /* of them, if there are several; 192 KB */
    uint64_t
        quiet_after_ns; /* a shard that nobody asks for so long falls silent; 0: none */
    uint64_t drift_ns;
    uint64_t log_cache_bytes; /* raft entries in memory per group */
    uint64_t uncommitted_bytes_max;
    uint64_t wal_segment_bytes, wal_keep_bytes;
    uint64_t replace_after_ns;
    uint64_t transfer_bytes_per_s; /* of snapshots to others, all shards; 0: no bound */
    uint64_t max_clock_skew_ms;
};
struct server_limits server_limits_default(void);

/* Safety rules broken on purpose, for the simulator alone. */
struct server_mutant {
    uint32_t raft; /* index of a raft_settings.bug_ flag, 1-based; 0: none */
    uint32_t wal;
    uint32_t server;
};

/* sennit recover: tell what there is, or make a cluster of one of it, and EXIT. */
enum server_recover { RECOVER_NOT = 0, RECOVER_LOOK, RECOVER_DO };

struct server_config {
    enum server_recover recover;
    struct bytes name;                             /* empty: made once and kept */
    struct bytes advertise_client, advertise_peer; /* "host:port" as others dial it */
    struct bytes zone;
    struct bytes join;     /* "host:port" of a member's peer address; empty: found */
    struct bytes password; /* empty: none */
    struct bytes secret;   /* of the cluster; empty: none */
    const char *version;   /* of the product: "0.1.0" */
    uint32_t feature; /* the newest level to speak; 0: META_FEATURE.  For tests, which
                       * play other versions */
    struct bytes config_file; /* path, for INFO; may be empty */
    uint32_t process_id;
    uint16_t client_port;
    uint64_t seed; /* random: cluster id, incarnation, timeouts */
    uint64_t boot; /* another number after each start of the machine; 0: not known */
    struct server_limits limits;
    struct server_mutant mutant;
    struct kv kv;                     /* open */
    const struct wal_file *wal_files; /* found on disk; borrowed during server_new */
    uint32_t n_wal_files;
    struct mem *mem; /* mem->limit is --memory */
    /* HMAC-SHA256(secret, message) or an equivalent of the simulator's: 32 bytes. */
    void (*mac)(struct bytes secret, struct bytes message, uint8_t out[32]);
    /* CONFIG GET/SET of what the world owns (log level, ...): may be NULL. */
    bool (*config_get)(void *ctx, const char *name, char *out, size_t out_bytes);
    bool (*config_set)(void *ctx, const char *name, struct bytes value);
    void *world;
};

enum server_action_kind {
    SERVER_SEND = 1, /* bytes to client or peer `conn`; then call server_sent() */
    SERVER_CLOSE,    /* close `conn` (after what was sent so far); text: why */
    SERVER_PAUSE,    /* read no more from `conn` until RESUME */
    SERVER_RESUME,
    SERVER_DIAL,     /* connect to text "host:port" as peer connection `conn` */
    SERVER_WAL,      /* perform wal_op */
    SERVER_JOB,      /* run job on the checkpoint thread */
    SERVER_ROLLBACK, /* keep what `bytes` say (server_rollback_lines()) as file `text` of
                      * rollback/, unless it is there already; then server_rollback_done() */
    SERVER_LOG,      /* a line for the operator */
    SERVER_EXIT,     /* end with code; text: why.  After it nothing more is called */
    SERVER_READY,    /* recovered and identified: open the client port now */
};

enum server_log_level { LOG_DEBUG = 1, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct server_action {
    enum server_action_kind kind;
    struct conn_id conn;
    struct bytes bytes;    /* SEND, ROLLBACK */
    struct group_id group; /* ROLLBACK */
    bool more; /* SEND: further bytes of this connection wait behind these: after
                           * server_sent() of all of them the next turn gives the rest */
    const char *text;
    enum server_log_level level;
    int code;
    struct wal_op wal_op;
    struct kv_job *job;
};

struct server_actions {
    const struct server_action *at;
    uint32_t n;
    struct instant
        wake; /* call server_turn_end() at this time at the latest; 0: no need */
};

struct server;

/* Reads the identity from kv, begins recovery of the log.  Clients may connect only after
 * SERVER_READY.  NULL never: trouble comes as SERVER_EXIT from the first turn. */
struct server *server_new(const struct server_config *config, struct instant now,
                          struct wall wall);
void server_free(struct server *s); /* after EXIT or at the end of a simulated life */

/* ---- events; each to be followed by server_turn_end() in the same turn ---- */

/* Connection ids are drawn by the world for what it accepts (odd) and by the server for
 * what it dials (even); never reused in a life. */
void server_client_open(struct server *s, struct conn_id conn, struct bytes address,
                        bool is_local_socket);
/* Room to receive into: at least 1 byte; then server_client_data() with what came. */
uint8_t *server_client_space(struct server *s, struct conn_id conn, size_t *room);
void server_client_data(struct server *s, struct conn_id conn, size_t len);
void server_client_closed(struct server *s,
                          struct conn_id conn); /* by the other side or world */

void server_peer_open(struct server *s, struct conn_id conn, struct bytes address,
                      bool dialed); /* accepted, or a DIAL that succeeded */
uint8_t *server_peer_space(struct server *s, struct conn_id conn, size_t *room);
void server_peer_data(struct server *s, struct conn_id conn, size_t len);
void server_peer_closed(struct server *s, struct conn_id conn,
                        const char *why); /* or DIAL failed */

/* `taken` bytes of the last SEND of this connection are on their way; if fewer than given,
 * the world calls server_writable() once more can be taken. */
void server_sent(struct server *s, struct conn_id conn, size_t taken);
void server_writable(struct server *s, struct conn_id conn);

void server_wal_done(struct server *s, uint64_t op, int error, uint64_t got);
void server_job_done(struct server *s, struct kv_job *job, int error);
/* A ROLLBACK's file is there.  What fails is the world's to try again, until it is. */
void server_rollback_done(struct server *s, struct group_id group);
void server_stop(struct server *s); /* SIGTERM: hand leadership over, flush, EXIT 0 */

void server_time(struct server *s, struct instant now,
                 struct wall wall); /* first in a turn */
void server_turn_end(struct server *s, struct server_actions *out);

/* ---- what a ROLLBACK says; of no server, for any thread ---- */
MUST_USE bool server_rollback_shard(struct cursor *in, uint32_t *shard); /* first */
/* Appends the lines of the next entry; false: there is none. */
MUST_USE bool server_rollback_lines(struct cursor *in, uint32_t shard, struct buf *out);

/* ---- looking in: checkers of the simulator, tests ---- */
struct shard;
struct cluster_id server_cluster(const struct server *s);
struct server_id server_self(const struct server *s);
uint32_t server_feature(const struct server *s); /* the cluster's level, as it knows */
/* The i-th shard that has a replica here, NULL past the last. */
struct shard *server_shard(const struct server *s, uint32_t i);
/* Whether a keyspace that this server knows of is still being created or dropped. */
bool server_unsettled(const struct server *s);
void server_verify(const struct server *s);
