/* SPDX-License-Identifier: Apache-2.0 */
/* world - machines with clocks and disks, the network between them, and on each machine the
 * very code of the product (src/server), driven as src/host drives it.
 *
 *     timeline ──► arrivals, disk completions, wakes ──► inputs of a process
 *     a turn   ──► server_*() for every input, server_turn_end(), its actions performed
 *
 * A process may end between any two events: killed, without power, or by its own decision.
 * The machine's disk and engine stay; the next process starts from them.
 */
#pragma once

#include "base/hmap.h"
#include "meta/meta.h"
#include "server/server.h"
#include "shard/shard.h"
#include "sim/disk.h"
#include "sim/net.h"
#include "sim/plan.h"
#include "sim/report.h"
#include "store/kv_memory.h"

enum {
    WORLD_CLIENTS_MAX = 5,
    ROAMERS_MAX = 5,
    CLIENT_NODE = PLAN_MACHINES_MAX,
    ROAM_NODE = CLIENT_NODE + WORLD_CLIENTS_MAX + 1,
};
static_assert(ROAM_NODE + ROAMERS_MAX <= NET_NODES_MAX, "nodes");

struct clients;
struct roamers;
struct checks;
struct world;

/* What some faults wait for: on a timer they would nearly always miss it. */
enum moment {
    MOMENT_TRANSFER = 0, /* a hand-over begins */
    MOMENT_LEADS,        /* a term's leader begins */
    MOMENT_COMMITS,      /* it commits something for the first time */
    MOMENT_JOINT,        /* a joint membership begins */
    MOMENT_EPOCH,        /* the first leader of an epoch that FORCE began begins */
    MOMENT_END,
};

enum input_kind {
    INPUT_OPEN = 1,
    INPUT_READ,
    INPUT_WRITABLE,
    INPUT_CLOSED,
    INPUT_DIAL_FAILED,
    INPUT_WAL_DONE,
    INPUT_JOB_DONE,
    INPUT_ROLLBACK_DONE,
};

struct input {
    enum input_kind kind;
    struct net_stream *stream;
    int side;
    uint64_t a, b; /* WAL_DONE: op, got; with `error` */
    int error;
    struct kv_job *job;
    const char *why;
};

struct queued_op { /* of the log's thread */
    struct wal_op op;
};

/* One process, from its start to its end. */
struct life {
    uint64_t number; /* over all machines, never reused */
    struct server *server;
    struct mem mem;
    bool ready, stopping;
    bool saw_read_error; /* which it may end for */
    bool engine_failed;  /* which it must end for */
    struct input *inputs;
    uint32_t n_inputs, inputs_cap;
    bool turn_planned;
    uint64_t wake_number; /* the newest wake asked for; older ones are stale */
    uint64_t next_conn;   /* odd */
    struct hmap streams;  /* conn -> stream */
    struct hmap paused;   /* conn -> stream, not read from */
    struct wal_op *ops;   /* waiting, oldest first; the first is under way */
    uint32_t n_ops, ops_cap;
    struct kv_job **jobs;
    uint32_t n_jobs, jobs_cap;
};

struct machine {
    struct world *world;
    uint32_t index;
    char name[16], client_address[24], peer_address[24];
    struct disk disk;
    struct kv_memory *kv;
    struct life *life;           /* NULL: no process */
    bool removal_asked;          /* an operator wants it gone */
    bool removed;                /* it was told so, and stays away */
    uint32_t away;               /* gone: nothing starts it */
    bool recovering;             /* its next life is sennit recover */
    bool outcast;                /* of a cluster that was recovered without it */
    bool power, started, wanted; /* wanted: an operator's supervisor starts it again */
    struct server_limits limits;
    uint32_t one_input_at_once; /* perturb: turns are as small as can be */

    /* clocks: local = anchor_local + (now - anchor) * (1e6 + rate_ppm) / 1e6 */
    uint64_t anchor_ns, anchor_local_ns;
    int64_t rate_ppm, wall_offset_ms;

    /* faults in force */
    uint32_t paused, disk_full;
    uint64_t disk_stalled_until_ns;
    uint32_t disk_factor;
    bool sync_error_next, engine_error_next, damaged;
    bool wrong_secret; /* of its next lives */
    uint32_t feature;  /* the level that its next lives speak */
    /* It may have been put back to the older version while the level was being raised. */
    uint64_t put_back_until_ns;
    uint32_t may_exit; /* how many exits with an error are to be expected */
    uint64_t lives, boots;
};

struct world {
    const struct plan *plan;
    struct story story;
    uint64_t seed;
    bool verbose;
    struct server_mutant mutant;
    struct mem mem, server_mem; /* server_mem: the form of each life's own */
    struct timeline time;
    struct net net;
    struct prng disks, servers, faults;
    struct machine machines[PLAN_MACHINES_MAX];
    uint64_t lives;
    uint64_t storm_ns; /* when it began */
    bool calm;
    /* disaster.c */
    uint32_t survivor, old_returning;
    uint64_t cut_ns, lost_ns;     /* what was answered between them may be lost */
    uint64_t recovered_ns;        /* 0: not */
    struct buf survived;          /* what the survivor's stores and logs held */
    struct buf rolled_back;       /* all that servers have kept in rollback/ */
    uint64_t waiting[MOMENT_END]; /* number + 1 of the fault that waits for it; 0: none */
    struct clients *clients;
    struct roamers *roamers; /* NULL: the plan has none */
    struct checks *checks;
    struct report report;
};

/* `salt` changes addresses and what fresh memory holds, and must change nothing else. */
struct world *world_new(const struct plan *plan, uint64_t seed, uint8_t salt,
                        bool verbose);
void world_start(struct world *w, uint32_t machine);
void world_kill(struct world *w, uint32_t machine, bool power);
void world_wipe(struct world *w, uint32_t machine); /* another disk, an empty one */
void world_stop(struct world *w, uint32_t machine);
/* Lets time pass until `until_ns` or, asked after every event, until() is true (may be NULL). */
bool world_run(struct world *w, uint64_t until_ns, bool (*until)(struct world *w));
void world_wake(struct machine *m); /* a turn soon */
/* Whatever faults there are end; every machine runs. */
void world_heal(struct world *w);

_Noreturn void world_fail(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
void world_say(struct world *w, const char *format, ...)
    PRINTF_LIKE(2, 3); /* if verbose */
void world_trace(struct world *w, uint64_t a, uint64_t b);

struct wall world_wall(const struct machine *m);
struct instant world_instant(const struct machine *m); /* by its monotonic clock */
/* The machine that leads this group now, in its own eyes and of the newest term; or -1. */
int world_leader(struct world *w, struct group_id group);
struct shard *world_replica(const struct machine *m, struct group_id group);
/* Some group that is not the meta shard: of the plan's keyspace if it has one, else the first
 * there is. */
struct group_id world_first_group(struct world *w);

/* faults.c */
void faults_plan(struct world *w);
void faults_moment(struct world *w, enum moment moment, uint32_t leader); /* it is now */
