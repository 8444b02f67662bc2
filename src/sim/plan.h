/* SPDX-License-Identifier: Apache-2.0 */
/* plan - threats: how large a cluster, in which weather, with which faults and workload.
 * A plan and a seed make a run; the story is the list of faults drawn for it, up front, so
 * that they can be left out one by one when a failure is shrunk. */
#pragma once

#include "base/buf.h"
#include "base/ids.h"
#include "base/prng.h"
#include "sim/report.h"

enum {
    PLAN_MACHINES_MAX = 5,
    PLAN_FAULTS_MAX = 16,
    STORY_MAX = 160,
    PLAN_MARKS_MAX = 10,
    PLAN_POLICIES_MAX = 6
};
enum { MACHINE_LEADER = 100 }; /* whichever leads the first shard at that time */

enum fault_kind {
    FAULT_KILL = 1, /* process a, back after `lasts` */
    FAULT_POWER,    /* machine a */
    FAULT_POWER_ALL,
    FAULT_CUT,      /* what goes from the machines of mask a to those of mask b waits */
    FAULT_CUT_BOTH, /* and back */
    FAULT_CUT_CLIENTS, /* machine a from its clients, both ways */
    FAULT_BREAK,       /* every connection of machine a */
    FAULT_SLOW_LINKS,  /* of machine a, n times slower */
    FAULT_FRAMES,      /* frames between servers are dropped, doubled, overtaken */
    FAULT_DISK_SLOW,   /* n times */
    FAULT_DISK_STALL,
    FAULT_DISK_FULL,
    FAULT_SYNC_ERROR,       /* the next sync of machine a fails; back after `lasts` */
    FAULT_FLIP,             /* n bits on machine a, then its process is killed */
    FAULT_FLIP_LIVE,        /* n bits under a process that runs on */
    FAULT_CLOCK_RATE,       /* n ppm */
    FAULT_WALL_JUMP,        /* n ms */
    FAULT_PAUSE,            /* in a plan's row, n 1: always the leader */
    FAULT_STOP,             /* as an operator would, back after `lasts` */
    FAULT_FAILOVER,         /* to machine a */
    FAULT_DEAF_AT_FAILOVER, /* to machine a; as it begins the old leader hears no peer */
    FAULT_REPLICAS,         /* of the keyspaces: n */
    FAULT_ALTER,            /* the plan's keyspace to its policy n */
    FAULT_START,            /* machine a, for the first time */
    FAULT_KILL_NEW_LEADER,  /* the next one, as it begins; n 1: at its first commit */
    FAULT_SHORTEN,          /* a log file of machine a, its process killed before */
    FAULT_SPOIL,            /* n sectors of its log can't be read until it ends; killed */
    FAULT_SPOIL_LIVE,       /* the same under a process that runs on */
    FAULT_ENGINE_ERROR,     /* the next commit of machine a's engine fails */
    FAULT_WRONG_SECRET,     /* machine a is started with it, until it ends */
    FAULT_CUT_AT_JOINT,     /* as FAULT_CUT_BOTH, when a joint membership begins */
    FAULT_SERVER,           /* enum server_order n of machine a, by b */
    FAULT_UPGRADE, /* machine a gets a newer version; n 1: and the old one again when it ends */
    FAULT_AWAY,     /* machine a, for so long that it may be replaced */
    FAULT_DISASTER, /* all but one machine are lost; n of them come back: disaster.h */
    FAULT_FORCE,    /* after enum force_trouble n, which outlasts it */
    FAULT_KIND_END,
};

/* What an operator asks: SERVER DRAIN ... */
enum server_order { ORDER_DRAIN = 1, ORDER_ACTIVATE, ORDER_REMOVE, ORDER_REPLACE };

/* What makes an operator FORCE the plan's keyspace; with replicas of it, its leader first. */
enum force_trouble {
    TROUBLE_NONE = 0, /* nothing did */
    TROUBLE_KILLED,
    TROUBLE_CUT,   /* from every other machine, not from clients */
    TROUBLE_PEERS, /* the leader from the keyspace's other replicas, and from nobody else */
    TROUBLE_KILLED_TWO,
    TROUBLE_CUT_TWO, /* which still hear each other */
    TROUBLE_RETURNS, /* as TROUBLE_CUT; when a new epoch's leader begins, another replica that
                      * has not heard it yet comes over to the old one's side */
};

struct fault {
    enum fault_kind kind;
    uint64_t at_ns; /* since the storm began */
    uint64_t lasts_ns;
    uint32_t a, b;
    int64_t n;
};

struct plan_fault {
    enum fault_kind kind;
    uint32_t few, many; /* how often, in one storm */
    uint32_t short_ms, long_ms;
    int64_t low, high; /* n */
};

enum plan_trait {
    PLAN_ONE_VICTIM =
        1 << 0, /* damage hits one machine only, of a majority that is sound */
    PLAN_SNAPSHOTS = 1 << 1, /* the log is kept so short that followers need snapshots */
    PLAN_LARGE = 1 << 2,     /* values of up to a few MB */
    PLAN_TRANSACTIONS = 1 << 3,
    PLAN_DEADLINES = 1 << 4,
    PLAN_LEASE = 1 << 5,       /* a keyspace that reads by lease; clocks keep the bound */
    PLAN_START_ALONE = 1 << 6, /* one server with data, the others come by FAULT_START */
    PLAN_WILD_CLOCKS = 1 << 7, /* rates far outside any bound */
    PLAN_MIDDLING = 1 << 8,    /* values of about half an append message */
    PLAN_POWER_VICTIM = 1 << 9, /* power fails at one machine only, of a majority */
    PLAN_LOSSY =
        1 << 10, /* answers may be lost with the primary, if they are kept aside */
    PLAN_SINGLE_ENTRIES = 1 << 11, /* each entry in a message of its own */
    PLAN_SECRET = 1 << 12,         /* servers prove to each other that they know one */
    PLAN_KEYSPACES = 1 << 13,      /* keyspaces of one key each come and go */
    PLAN_ROAMERS = 1 << 14,        /* clients that ask again, and that move on: roam.h */
    PLAN_WATCHERS = 1 << 15,       /* clients that WATCH a key for long: roam.h */
    PLAN_ANY_POLICY =
        1 << 16,              /* the keyspace is made with one of its policies, by seed */
    PLAN_LONG_LOGS = 1 << 17, /* what gives way to a new epoch is still in the log */
    PLAN_REPLACES = 1 << 18,  /* who is gone for some seconds is replaced */
    PLAN_RECOVERS = 1 << 19,  /* it begins with three machines: disaster.h */
    PLAN_PIPELINES = 1 << 20, /* clients ask much of one key at once */
    PLAN_BEGIN_SHORT = 1 << 21, /* a server goes as keyspaces are made, and stays away */
};

struct plan {
    const char *name, *about;
    uint32_t machines;
    uint32_t shards;
    uint32_t storm_ms;
    uint32_t traits;
    uint32_t net_us_low, net_us_high;
    uint32_t sync_us_low, sync_us_high;
    struct plan_fault faults[PLAN_FAULTS_MAX];
    enum mark marks[PLAN_MARKS_MAX]; /* to be reached over the plan's seeds */
    uint32_t n_marks;
    /* Of the keyspace "own", which is then the only one that is used; the first is what it is made
     * with, but for PLAN_ANY_POLICY. */
    const char *policies[PLAN_POLICIES_MAX];
    uint32_t
        maxlag_ms; /* its MAXLAG: how old a state reads of it may see; 0: the newest */
};

extern const struct plan plans[];
extern const uint32_t n_plans;
const struct plan *plan_named(const char *name); /* NULL */

struct story {
    struct fault faults[STORY_MAX]; /* by time */
    bool left_out[STORY_MAX];
    uint32_t n;
};

/* Streams of randomness: one per concern, so that leaving a fault out moves nothing else. */
enum prng_concern {
    PRNG_STORY = 1,
    PRNG_LIMITS,
    PRNG_NET,
    PRNG_DISK,
    PRNG_SERVERS,
    PRNG_FAULTS,
    PRNG_CLIENTS, /* + number of the client */
};
struct prng prng_for(uint64_t seed, uint64_t concern);

void story_draw(struct story *story, const struct plan *plan, uint64_t seed);
void fault_tell(struct buf *out, uint32_t number, const struct fault *f);
