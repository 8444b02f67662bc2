/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/plan.h"

#include <inttypes.h>

#include "base/hash.h"

/* clang-format off */
const struct plan plans[] = {
    {
        .name = "alone", .about = "one server: killed, power cut, slow disk",
        .machines = 1, .shards = 1, .storm_ms = 20000, .traits = PLAN_TRANSACTIONS,
        .net_us_low = 50, .net_us_high = 500, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_KILL, 1, 5, 50, 2000, 0, 0}, {FAULT_POWER, 2, 8, 100, 3000, 0, 0},
            {FAULT_DISK_SLOW, 0, 2, 500, 3000, 5, 50}, {FAULT_BREAK, 0, 3, 0, 0, 0, 0},
            {FAULT_STOP, 0, 2, 100, 1000, 0, 0}, {FAULT_SYNC_ERROR, 0, 1, 100, 1000, 0, 0},
        },
        .marks = {MARK_answered, MARK_power_cuts, MARK_writes_lost, MARK_writes_torn,
                  MARK_torn_tails, MARK_sync_errors, MARK_checkpoints, MARK_transactions},
        .n_marks = 8,
    },
    {
        .name = "network", .about = "three servers: links cut one way and both, slow, broken; "
                                    "frames lost, doubled, overtaken",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 20000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_CUT, 2, 8, 200, 5000, 0, 0}, {FAULT_CUT_BOTH, 2, 8, 200, 5000, 0, 0},
            {FAULT_BREAK, 1, 8, 0, 0, 0, 0}, {FAULT_SLOW_LINKS, 0, 4, 500, 5000, 3, 60},
            {FAULT_FRAMES, 0, 4, 1000, 8000, 0, 0}, {FAULT_CUT_CLIENTS, 0, 3, 200, 3000, 0, 0},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_links_cut,
                  MARK_streams_broken, MARK_frames_dropped, MARK_frames_doubled,
                  MARK_frames_late},
        .n_marks = 8,
    },
    {
        .name = "crashes", .about = "three servers killed, paused, stopped, with links cut",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_TRANSACTIONS,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 4, 14, 50, 4000, 0, 0}, {FAULT_PAUSE, 0, 4, 200, 6000, 0, 0},
            {FAULT_STOP, 0, 3, 100, 2000, 0, 0}, {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
            {FAULT_BREAK, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_kills, MARK_pauses, MARK_stops,
                  MARK_transactions},
        .n_marks = 6,
    },
    {
        .name = "pauses", .about = "leaders that stand still and wake with requests waiting",
        .machines = 3, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_PAUSE, 3, 7, 3000, 7500, 1, 1}, {FAULT_CUT_BOTH, 0, 2, 1000, 4000, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_pauses, MARK_elections, MARK_answered},
        .n_marks = 3,
    },
    {
        .name = "pipelines", .about = "much of one key asked at once on each connection, while "
                                      "leaders hand over, stand still, are cut off and killed",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .traits = PLAN_PIPELINES | PLAN_DEADLINES,
        .net_us_low = 100, .net_us_high = 30000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_FAILOVER, 4, 12, 0, 0, 0, 0}, {FAULT_PAUSE, 1, 5, 500, 4000, 1, 1},
            {FAULT_CUT_BOTH, 0, 4, 300, 3000, 0, 0}, {FAULT_KILL, 0, 4, 50, 3000, 0, 0},
            {FAULT_BREAK, 0, 4, 0, 0, 0, 0}, {FAULT_SLOW_LINKS, 0, 4, 500, 4000, 2, 10},
            {FAULT_WALL_JUMP, 0, 3, 0, 0, -2000, 2000},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_failovers, MARK_pauses},
        .n_marks = 5,
    },
    {
        .name = "elections", .about = "slow disks, links cut for long, power cuts of an instant: "
                                      "votes half written and asked for again",
        .machines = 3, .shards = 1, .storm_ms = 40000,
        .net_us_low = 100, .net_us_high = 20000, .sync_us_low = 5000, .sync_us_high = 500000,
        .faults = {
            {FAULT_POWER, 20, 50, 1, 40, 0, 0}, {FAULT_KILL, 2, 8, 10, 400, 0, 0},
            {FAULT_CUT_BOTH, 2, 5, 3000, 20000, 0, 0}, {FAULT_CUT, 1, 4, 1000, 10000, 0, 0},
        },
        .marks = {MARK_elections, MARK_power_cuts, MARK_writes_lost},
        .n_marks = 3,
    },
    {
        .name = "power", .about = "power cuts of one and of all, unsynced writes lost or torn",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 500, .sync_us_high = 20000,
        .faults = {
            {FAULT_POWER, 3, 12, 50, 4000, 0, 0}, {FAULT_POWER_ALL, 1, 4, 100, 2000, 0, 0},
            {FAULT_KILL, 0, 4, 50, 1000, 0, 0}, {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
        },
        .marks = {MARK_power_cuts, MARK_writes_lost, MARK_writes_torn, MARK_torn_tails},
        .n_marks = 4,
    },
    {
        .name = "damage", .about = "bits flipped in one log of three, and that one repaired",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_ONE_VICTIM,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_FLIP, 1, 4, 100, 3000, 1, 5}, {FAULT_FLIP_LIVE, 0, 2, 0, 0, 1, 3},
            {FAULT_KILL, 0, 3, 50, 2000, 0, 0}, {FAULT_CUT, 0, 2, 200, 2000, 0, 0},
        },
        .marks = {MARK_flips, MARK_doubtful, MARK_repaired},
        .n_marks = 3,
    },
    {
        .name = "lost-parts", .about = "sectors that cannot be read, log files that lost their end, "
                                       "commits of the engine that fail, on one of three",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .traits = PLAN_ONE_VICTIM | PLAN_SNAPSHOTS,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_SHORTEN, 0, 3, 100, 2000, 0, 0}, {FAULT_SPOIL, 0, 3, 100, 4000, 1, 3},
            {FAULT_SPOIL_LIVE, 0, 3, 1000, 6000, 1, 6}, {FAULT_ENGINE_ERROR, 0, 2, 0, 0, 0, 0},
            {FAULT_KILL, 0, 3, 50, 3000, 0, 0}, {FAULT_CUT_BOTH, 0, 3, 200, 3000, 0, 0},
        },
        .marks = {MARK_shortened, MARK_read_errors, MARK_engine_errors, MARK_doubtful,
                  MARK_repaired},
        .n_marks = 5,
    },
    {
        .name = "slow-disks", .about = "disks that are slow, stand still, or fail a sync",
        .machines = 3, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 200, .sync_us_high = 30000,
        .faults = {
            {FAULT_DISK_STALL, 1, 4, 2000, 12000, 0, 0},
            {FAULT_DISK_SLOW, 1, 4, 1000, 8000, 5, 60},
            {FAULT_SYNC_ERROR, 0, 3, 200, 3000, 0, 0}, {FAULT_KILL, 0, 3, 50, 2000, 0, 0},
        },
        .marks = {MARK_stalls, MARK_sync_errors, MARK_exits, MARK_answered},
        .n_marks = 4,
    },
    {
        .name = "full-disks", .about = "disks that fill up and are freed again",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_SNAPSHOTS,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_DISK_FULL, 2, 8, 1000, 8000, 0, 0}, {FAULT_KILL, 0, 3, 50, 2000, 0, 0},
        },
        .marks = {MARK_creates_refused, MARK_answered},
        .n_marks = 2,
    },
    {
        .name = "clocks", .about = "clocks that run at half or twice the rate, walls that jump",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .traits = PLAN_WILD_CLOCKS | PLAN_DEADLINES,
        .net_us_low = 100, .net_us_high = 5000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_CLOCK_RATE, 2, 8, 500, 10000, -500000, 1000000},
            {FAULT_WALL_JUMP, 2, 8, 0, 0, -3600000, 3600000},
            {FAULT_PAUSE, 0, 3, 200, 5000, 0, 0}, {FAULT_KILL, 0, 4, 50, 2000, 0, 0},
            {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
        },
        .marks = {MARK_clock_changes, MARK_lapsed, MARK_answered},
        .n_marks = 3,
    },
    {
        .name = "leases", .about = "reads by lease, clocks within the bound, hand-overs",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_LEASE,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_CUT_BOTH, 1, 5, 500, 6000, 0, 0}, {FAULT_PAUSE, 1, 5, 500, 6000, 0, 0},
            {FAULT_FAILOVER, 2, 8, 0, 0, 0, 0}, {FAULT_CUT, 1, 4, 500, 5000, 0, 0},
            {FAULT_DEAF_AT_FAILOVER, 2, 6, 300, 1500, 0, 0},
            {FAULT_CLOCK_RATE, 0, 4, 1000, 9000, -2000, 2000},
        },
        .marks = {MARK_failovers, MARK_pauses, MARK_answered},
        .n_marks = 3,
    },
    {
        .name = "joins", .about = "one server with data grows to five under load",
        .machines = 5, .shards = 2, .storm_ms = 30000, .traits = PLAN_START_ALONE,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_START, 4, 4, 0, 0, 0, 0}, {FAULT_KILL, 0, 4, 50, 2000, 0, 0},
            {FAULT_CUT, 0, 3, 200, 2000, 0, 0}, {FAULT_POWER, 0, 2, 100, 2000, 0, 0},
        },
        .marks = {MARK_joins, MARK_config_changes, MARK_snapshots, MARK_answered},
        .n_marks = 4,
    },
    {
        .name = "snapshots", .about = "logs so short that followers who were away need snapshots",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_SNAPSHOTS,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_KILL, 1, 6, 500, 6000, 0, 0}, {FAULT_CUT_BOTH, 1, 4, 500, 6000, 0, 0},
            {FAULT_POWER, 0, 4, 500, 5000, 0, 0}, {FAULT_BREAK, 0, 6, 0, 0, 0, 0},
        },
        .marks = {MARK_snapshots, MARK_checkpoints, MARK_answered},
        .n_marks = 3,
    },
    {
        .name = "retries", .about = "requests repeated with their id, sessions that move on, "
                                    "under crashes and cuts",
        .machines = 3, .shards = 1, .storm_ms = 35000,
        .traits = PLAN_ROAMERS | PLAN_SNAPSHOTS,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 3, 9, 50, 3000, 0, 0}, {FAULT_CUT_BOTH, 2, 6, 300, 4000, 0, 0},
            {FAULT_CUT, 1, 4, 200, 3000, 0, 0}, {FAULT_BREAK, 1, 6, 0, 0, 0, 0},
            {FAULT_FAILOVER, 0, 4, 0, 0, 0, 0}, {FAULT_POWER, 0, 3, 100, 3000, 0, 0},
            {FAULT_PAUSE, 0, 2, 200, 3000, 0, 0}, {FAULT_CUT_CLIENTS, 0, 3, 200, 3000, 0, 0},
            {FAULT_WALL_JUMP, 0, 3, 0, 0, -3600000, 3600000},
        },
        .marks = {MARK_repeats, MARK_once, MARK_forgotten, MARK_resumed, MARK_sessions_lost,
                  MARK_elections, MARK_snapshots, MARK_answered},
        .n_marks = 8,
    },
    {
        .name = "large", .about = "values of up to a few MB, in pieces",
        .machines = 3, .shards = 1, .storm_ms = 15000, .traits = PLAN_LARGE,
        .net_us_low = 100, .net_us_high = 3000, .sync_us_low = 200, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 0, 4, 100, 3000, 0, 0}, {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
            {FAULT_BREAK, 1, 5, 0, 0, 0, 0}, {FAULT_POWER, 0, 2, 100, 2000, 0, 0},
        },
        .marks = {MARK_answered, MARK_streams_broken},
        .n_marks = 2,
    },
    {
        .name = "overwrites", .about = "five servers, large entries over slow links, leaders cut "
                                       "off and killed: tails of old terms",
        .machines = 5, .shards = 1, .storm_ms = 25000, .traits = PLAN_MIDDLING,
        .net_us_low = 1000, .net_us_high = 40000, .sync_us_low = 200, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 4, 12, 50, 3000, 0, 0}, {FAULT_CUT_BOTH, 4, 12, 300, 4000, 0, 0},
            {FAULT_CUT, 0, 6, 300, 4000, 0, 0}, {FAULT_SLOW_LINKS, 0, 4, 500, 4000, 2, 10},
        },
        .marks = {MARK_answered, MARK_elections},
        .n_marks = 2,
    },
    {
        .name = "shards", .about = "eight shards on three servers, crashes and cuts",
        .machines = 3, .shards = 8, .storm_ms = 20000, .traits = PLAN_TRANSACTIONS,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 1, 5, 50, 3000, 0, 0}, {FAULT_POWER, 0, 4, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 3000, 0, 0}, {FAULT_BREAK, 0, 4, 0, 0, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_transactions},
        .n_marks = 3,
    },
    {
        .name = "idle", .about = "56 shards that few ask for, so that most are silent: kills, cuts, "
                                 "pauses, lost frames",
        .machines = 3, .shards = 56, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 1, 5, 50, 6000, 0, 0}, {FAULT_CUT_BOTH, 0, 3, 500, 6000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 6000, 0, 0}, {FAULT_BREAK, 0, 4, 0, 0, 0, 0},
            {FAULT_PAUSE, 0, 3, 500, 6000, 0, 0}, {FAULT_FRAMES, 0, 2, 1000, 4000, 0, 0},
            {FAULT_FAILOVER, 0, 1, 0, 0, 0, 0}, {FAULT_POWER, 0, 2, 500, 6000, 0, 0},
        },
        .marks = {MARK_answered, MARK_silences, MARK_wakes, MARK_bereaved, MARK_pauses,
                  MARK_links_cut, MARK_frames_dropped},
        .n_marks = 7,
    },
    {
        .name = "membership", .about = "five servers, the number of replicas going up and down",
        .machines = 5, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 4000,
        .faults = {
            {FAULT_REPLICAS, 2, 8, 0, 0, 1, 5}, {FAULT_KILL, 0, 6, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_FAILOVER, 0, 4, 0, 0, 0, 0},
            {FAULT_POWER, 0, 3, 100, 3000, 0, 0},
        },
        .marks = {MARK_config_changes, MARK_answered},
        .n_marks = 2,
    },
    {
        .name = "primary", .about = "leader-follower, answered by one follower of two: kills, cuts",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 2, 8, 50, 4000, 0, 0}, {FAULT_CUT, 1, 5, 200, 5000, 0, 0},
            {FAULT_CUT_BOTH, 1, 5, 200, 5000, 0, 0}, {FAULT_POWER, 0, 4, 50, 3000, 0, 0},
            {FAULT_PAUSE, 0, 3, 200, 5000, 0, 0}, {FAULT_FAILOVER, 0, 4, 0, 0, 0, 0},
            {FAULT_POWER_ALL, 0, 1, 100, 2000, 0, 0},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_discarded},
        .n_marks = 4,
        .policies = {"MODE primary ACK 1 READ lease"},
    },
    {
        .name = "minority", .about = "five servers, two copies are enough: elections need four votes",
        .machines = 5, .shards = 1, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 3, 9, 50, 4000, 0, 0}, {FAULT_CUT_BOTH, 3, 9, 200, 5000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections},
        .n_marks = 2,
        .policies = {"MODE primary ACK 1 READ lease REPLICAS 5"},
    },
    {
        .name = "memory", .about = "written and not synced: one machine of three loses its power",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_POWER_VICTIM,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 500, .sync_us_high = 20000,
        .faults = {
            {FAULT_POWER, 4, 16, 1, 500, 0, 0}, {FAULT_KILL, 1, 6, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 3, 9, 200, 4000, 0, 0},
        },
        .marks = {MARK_answered, MARK_power_cuts, MARK_writes_lost, MARK_rebooted},
        .n_marks = 4,
        .policies = {"MODE primary ACK 1 DURABILITY memory READ lease"},
    },
    {
        .name = "async", .about = "answered before anybody else has it: what is lost is kept aside",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_LOSSY,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 2, 6, 50, 3000, 0, 0}, {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
            {FAULT_CUT_BOTH, 12, 24, 1500, 4000, 0, 0}, {FAULT_POWER, 0, 4, 50, 3000, 0, 0},
            {FAULT_PAUSE, 0, 3, 200, 5000, 0, 0}, {FAULT_FAILOVER, 0, 4, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_discarded, MARK_answers_lost},
        .n_marks = 4,
        .policies = {"MODE primary ACK async READ any"},
    },
    {
        .name = "watches", .about = "WATCH and EXEC with time between, where answers may be lost",
        .machines = 3, .shards = 1, .storm_ms = 60000, .traits = PLAN_WATCHERS | PLAN_LOSSY,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_CUT_BOTH, 12, 20, 1200, 2200, 0, 0}, {FAULT_FRAMES, 0, 3, 1000, 4000, 0, 0},
            {FAULT_KILL, 0, 3, 50, 2000, 0, 0}, {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_transactions, MARK_watches_broken, MARK_elections, MARK_discarded,
                  MARK_sessions_lost},
        .n_marks = 5,
        .policies = {"MODE primary ACK async READ any"},
    },
    {
        .name = "lags", .about = "reads at followers within MAXLAG: clocks off by a tenth, walls "
                                 "that jump, links cut and slow, pauses, frames lost and late",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .net_us_low = 100, .net_us_high = 8000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_CUT, 1, 5, 500, 5000, 0, 0}, {FAULT_CUT_BOTH, 1, 5, 500, 5000, 0, 0},
            {FAULT_PAUSE, 1, 5, 200, 5000, 0, 0}, {FAULT_SLOW_LINKS, 0, 3, 500, 5000, 3, 60},
            {FAULT_FRAMES, 0, 2, 1000, 8000, 0, 0}, {FAULT_KILL, 0, 3, 50, 3000, 0, 0},
            {FAULT_CLOCK_RATE, 2, 6, 1000, 9000, -100000, 100000},
            {FAULT_WALL_JUMP, 2, 6, 0, 0, -3600000, 3600000},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_lagged, MARK_stale, MARK_elections, MARK_pauses,
                  MARK_clock_changes},
        .n_marks = 6,
        .policies = {"MODE primary ACK 1 READ any"},
        .maxlag_ms = 1000,
    },
    {
        .name = "alters", .about = "a keyspace that moves between strategies under load",
        .machines = 3, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 6000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_ALTER, 4, 14, 0, 0, 0, 4}, {FAULT_KILL, 0, 6, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 0, 3, 200, 3000, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_config_changes},
        .n_marks = 3,
        .policies = {"MODE raft READ lease", "MODE primary ACK 1 READ lease",
                     "MODE primary ACK all READ lease",
                     "MODE primary ACK 1 DURABILITY memory READ lease",
                     "MODE primary FAILOVER manual READ lease"},
    },
    {
        .name = "old-terms", .about = "leaders cut off with long tails, new ones killed with their "
                                      "first entry or at their first commit: figure 8",
        .machines = 3, .shards = 1, .storm_ms = 40000, .traits = PLAN_SINGLE_ENTRIES,
        .net_us_low = 5000, .net_us_high = 60000, .sync_us_low = 100, .sync_us_high = 2000,
        .faults = {
            {FAULT_KILL_NEW_LEADER, 16, 32, 1000, 5000, 0, 1},
            {FAULT_CUT_BOTH, 6, 14, 500, 3000, 0, 0}, {FAULT_KILL, 0, 4, 50, 3000, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_moments},
        .n_marks = 3,
    },
    {
        .name = "joints", .about = "three members become one and five and three again, cut in two "
                                   "as each joint membership begins",
        .machines = 5, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 4000,
        .faults = {
            {FAULT_REPLICAS, 3, 8, 0, 0, 1, 5}, {FAULT_CUT_AT_JOINT, 4, 10, 2000, 6000, 0, 0},
            {FAULT_KILL, 0, 3, 50, 3000, 0, 0},
        },
        .marks = {MARK_config_changes, MARK_answered, MARK_moments},
        .n_marks = 3,
    },
    {
        .name = "secrets", .about = "servers that know a secret, and are started with a wrong one",
        .machines = 3, .shards = 1, .storm_ms = 25000, .traits = PLAN_SECRET,
        .net_us_low = 100, .net_us_high = 5000, .sync_us_low = 100, .sync_us_high = 3000,
        .faults = {
            {FAULT_WRONG_SECRET, 1, 4, 500, 6000, 0, 0}, {FAULT_KILL, 0, 4, 50, 2000, 0, 0},
            {FAULT_CUT, 0, 3, 200, 3000, 0, 0}, {FAULT_BREAK, 0, 3, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_wrong_secrets},
        .n_marks = 2,
    },
    {
        .name = "keyspaces", .about = "keyspaces that come and go with their key in use, "
                                      "crashes and cuts",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .traits = PLAN_KEYSPACES | PLAN_TRANSACTIONS,
        .net_us_low = 100, .net_us_high = 15000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 0, 6, 50, 3000, 0, 0}, {FAULT_POWER, 0, 3, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 6, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 0, 4, 200, 4000, 0, 0},
            {FAULT_BREAK, 0, 4, 0, 0, 0, 0}, {FAULT_PAUSE, 0, 3, 200, 4000, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0}, {FAULT_SLOW_LINKS, 0, 3, 500, 4000, 3, 20},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_keyspaces_made,
                  MARK_keyspaces_refused, MARK_keyspaces_dropped},
        .n_marks = 6,
    },
    {
        .name = "moving", .about = "the same with much of the key asked at once on each connection",
        .machines = 3, .shards = 1, .storm_ms = 25000,
        .traits = PLAN_KEYSPACES | PLAN_PIPELINES,
        .net_us_low = 100, .net_us_high = 15000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 0, 6, 50, 3000, 0, 0}, {FAULT_POWER, 0, 3, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 6, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 0, 4, 200, 4000, 0, 0},
            {FAULT_BREAK, 0, 4, 0, 0, 0, 0}, {FAULT_PAUSE, 0, 3, 200, 4000, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0}, {FAULT_SLOW_LINKS, 0, 3, 500, 4000, 3, 20},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_keyspaces_made,
                  MARK_keyspaces_dropped},
        .n_marks = 5,
    },
    {
        .name = "leaving", .about = "five servers that are drained, removed, replaced, under "
                                    "load and faults",
        .machines = 5, .shards = 4, .storm_ms = 40000,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 4000,
        .faults = {
            {FAULT_SERVER, 1, 4, 0, 0, ORDER_DRAIN, ORDER_ACTIVATE},
            {FAULT_SERVER, 0, 2, 0, 0, ORDER_REMOVE, ORDER_REPLACE},
            {FAULT_KILL, 0, 6, 50, 4000, 0, 0}, {FAULT_CUT, 0, 4, 200, 4000, 0, 0},
            {FAULT_CUT_BOTH, 0, 2, 200, 4000, 0, 0}, {FAULT_POWER, 0, 3, 100, 3000, 0, 0},
            {FAULT_FAILOVER, 0, 2, 0, 0, 0, 0}, {FAULT_PAUSE, 0, 2, 200, 5000, 0, 0},
        },
        .marks = {MARK_config_changes, MARK_answered, MARK_server_orders, MARK_removed},
        .n_marks = 4,
    },
    {
        .name = "upgrades", .about = "servers get a newer version one by one, some the old one again, "
                                     "under crashes and cuts",
        .machines = 3, .shards = 1, .storm_ms = 30000,
        .net_us_low = 100, .net_us_high = 5000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_UPGRADE, 3, 7, 200, 6000, 0, 1}, {FAULT_KILL, 1, 6, 50, 5000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 0, 4, 200, 4000, 0, 0},
            {FAULT_BREAK, 0, 4, 0, 0, 0, 0}, {FAULT_POWER, 0, 2, 100, 3000, 0, 0},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_elections, MARK_upgrades, MARK_put_back,
                  MARK_raised, MARK_too_old},
        .n_marks = 7,
    },
    {
        .name = "force", .about = "leaders and majorities that die or are cut off, and an operator "
                                  "who does without their consent",
        .machines = 5, .shards = 1, .storm_ms = 40000,
        .traits = PLAN_LOSSY | PLAN_ANY_POLICY | PLAN_LONG_LOGS,
        .net_us_low = 100, .net_us_high = 6000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_FORCE, 1, 4, 3000, 9000, TROUBLE_NONE, TROUBLE_CUT_TWO},
            {FAULT_KILL, 0, 4, 50, 3000, 0, 0}, {FAULT_POWER, 0, 3, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 3, 200, 3000, 0, 0}, {FAULT_CUT_BOTH, 0, 3, 200, 3000, 0, 0},
            {FAULT_PAUSE, 0, 2, 200, 5000, 0, 0}, {FAULT_FAILOVER, 0, 2, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_epochs, MARK_forced, MARK_forced_loss,
                  MARK_discarded, MARK_answers_lost},
        .n_marks = 7,
        .policies = {"MODE primary ACK 1 READ lease", "MODE primary FAILOVER manual READ lease",
                     "MODE raft READ lease", "MODE primary ACK async READ any"},
    },
    {
        .name = "fences", .about = "leaders that an operator does without, and that are back with a "
                                   "follower which was asked, before it hears the new one",
        .machines = 5, .shards = 1, .storm_ms = 40000,
        .traits = PLAN_LOSSY | PLAN_ANY_POLICY | PLAN_LONG_LOGS,
        .net_us_low = 100, .net_us_high = 6000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_FORCE, 1, 3, 9000, 15000, TROUBLE_RETURNS, TROUBLE_RETURNS},
            {FAULT_KILL, 0, 2, 50, 3000, 0, 0}, {FAULT_POWER, 0, 1, 50, 3000, 0, 0},
            {FAULT_PAUSE, 0, 2, 200, 5000, 0, 0}, {FAULT_FAILOVER, 0, 1, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections, MARK_epochs, MARK_forced, MARK_moments,
                  MARK_discarded},
        .n_marks = 6,
        .policies = {"MODE raft READ lease", "MODE primary ACK 1 READ lease",
                     "MODE primary ACK 1 FAILOVER manual READ lease"},
    },
    {
        .name = "replace", .about = "five servers, and one that is gone for so long that another "
                                    "takes its place, under load and faults",
        .machines = 5, .shards = 4, .storm_ms = 40000, .traits = PLAN_REPLACES,
        .net_us_low = 100, .net_us_high = 4000, .sync_us_low = 100, .sync_us_high = 4000,
        .faults = {
            {FAULT_AWAY, 1, 3, 7000, 25000, 0, 0},
            {FAULT_KILL, 0, 4, 50, 4000, 0, 0}, {FAULT_CUT, 0, 4, 200, 4000, 0, 0},
            {FAULT_CUT_BOTH, 0, 2, 200, 6000, 0, 0}, {FAULT_POWER, 0, 3, 100, 3000, 0, 0},
            {FAULT_FAILOVER, 0, 2, 0, 0, 0, 0}, {FAULT_PAUSE, 0, 2, 200, 5000, 0, 0},
        },
        .marks = {MARK_answered, MARK_config_changes, MARK_snapshots, MARK_replaced},
        .n_marks = 4,
    },
    {
        .name = "recover", .about = "two of three machines are lost, the third is recovered; new ones "
                                    "join it, and old ones come back",
        .machines = 5, .shards = 2, .storm_ms = 40000, .traits = PLAN_LOSSY | PLAN_RECOVERS,
        .net_us_low = 100, .net_us_high = 6000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_DISASTER, 1, 1, 5000, 8000, 0, 2}, {FAULT_KILL, 0, 3, 50, 800, 0, 0},
            {FAULT_CUT_BOTH, 2, 8, 200, 3000, 0, 0}, {FAULT_PAUSE, 0, 3, 200, 3000, 0, 0},
            {FAULT_POWER, 0, 2, 50, 1000, 0, 0}, {FAULT_FAILOVER, 0, 2, 0, 0, 0, 0},
        },
        .marks = {MARK_answered, MARK_recovered, MARK_interrupted, MARK_outcasts, MARK_epochs,
                  MARK_joins, MARK_gone},
        .n_marks = 7,
    },
    {
        .name = "begin", .about = "shards that begin while a server goes that should lead them",
        .machines = 3, .shards = 6, .storm_ms = 8000, .traits = PLAN_BEGIN_SHORT,
        .net_us_low = 100, .net_us_high = 5000, .sync_us_low = 100, .sync_us_high = 5000,
        .faults = {
            {FAULT_KILL, 0, 3, 50, 3000, 0, 0}, {FAULT_CUT, 0, 3, 200, 3000, 0, 0},
        },
        .marks = {MARK_answered, MARK_elections},
        .n_marks = 2,
    },
    {
        .name = "everything", .about = "three or five servers, a little of all at once",
        .machines = 3, .shards = 2, .storm_ms = 30000,
        .traits = PLAN_TRANSACTIONS | PLAN_SNAPSHOTS | PLAN_DEADLINES | PLAN_ONE_VICTIM,
        .net_us_low = 100, .net_us_high = 10000, .sync_us_low = 100, .sync_us_high = 10000,
        .faults = {
            {FAULT_KILL, 0, 4, 50, 3000, 0, 0}, {FAULT_POWER, 0, 4, 50, 3000, 0, 0},
            {FAULT_CUT, 0, 4, 200, 4000, 0, 0}, {FAULT_CUT_BOTH, 0, 3, 200, 4000, 0, 0},
            {FAULT_FRAMES, 0, 2, 1000, 6000, 0, 0}, {FAULT_PAUSE, 0, 2, 200, 5000, 0, 0},
            {FAULT_DISK_STALL, 0, 2, 1000, 6000, 0, 0}, {FAULT_SYNC_ERROR, 0, 2, 200, 2000, 0, 0},
            {FAULT_FLIP, 0, 1, 100, 2000, 1, 3}, {FAULT_WALL_JUMP, 0, 3, 0, 0, -60000, 60000},
            {FAULT_STOP, 0, 2, 100, 2000, 0, 0}, {FAULT_DISK_FULL, 0, 1, 500, 4000, 0, 0},
            {FAULT_FAILOVER, 0, 3, 0, 0, 0, 0}, {FAULT_POWER_ALL, 0, 1, 100, 2000, 0, 0},
        },
        .marks = {MARK_answered, MARK_unknown, MARK_transactions, MARK_snapshots},
        .n_marks = 4,
    },
};
/* clang-format on */
const uint32_t n_plans = sizeof plans / sizeof plans[0];

const struct plan *plan_named(const char *name)
{
    for (uint32_t i = 0; i < n_plans; i++)
        if (strcmp(plans[i].name, name) == 0) return &plans[i];
    return NULL;
}

struct prng prng_for(uint64_t seed, uint64_t concern)
{
    const uint64_t both[2] = {seed, concern};

    return prng_seed(hash64((struct bytes){(const uint8_t *)both, sizeof both}));
}

static uint32_t some_machine(const struct plan *plan, struct prng *p)
{
    if (plan->machines > 1 && prng_chance(p, 400)) return MACHINE_LEADER;
    return (uint32_t)prng_below(p, plan->machines);
}

/* Two sides, neither empty. */
static void draw_sides(const struct plan *plan, struct prng *p, struct fault *f)
{
    const uint32_t all = (1u << plan->machines) - 1;

    if (plan->machines <= 1) return;
    f->a = (uint32_t)prng_range(p, 1, all - 1);
    f->b = all & ~f->a;
    /* Sometimes a single link, so that the graph is not a partition. */
    if (prng_chance(p, 400)) {
        const uint32_t from = (uint32_t)prng_below(p, plan->machines);
        const uint32_t step = (uint32_t)prng_range(p, 1, plan->machines - 1);
        f->a = 1u << from;
        f->b = 1u << (from + step) % plan->machines;
    }
}

static struct fault draw_fault(const struct plan *plan, const struct plan_fault *row,
                               uint32_t victim, struct prng *p)
{
    struct fault f = {.kind = row->kind};

    f.at_ns = prng_below(p, plan->storm_ms) * MS_NS + prng_below(p, MS_NS);
    f.lasts_ns = prng_range(p, row->short_ms, row->long_ms) * MS_NS;
    f.n = row->low + (int64_t)prng_below(p, (uint64_t)(row->high - row->low) + 1);
    f.a = some_machine(plan, p);
    switch (row->kind) {
    case FAULT_CUT:
    case FAULT_CUT_BOTH:
    case FAULT_CUT_AT_JOINT: draw_sides(plan, p, &f); break;
    case FAULT_KILL_NEW_LEADER:
    case FAULT_FORCE: f.a = MACHINE_LEADER; break;
    case FAULT_FLIP:
    case FAULT_FLIP_LIVE:
    case FAULT_SHORTEN:
    case FAULT_SPOIL:
    case FAULT_SPOIL_LIVE:
        if ((plan->traits & PLAN_ONE_VICTIM) != 0) f.a = victim;
        break;
    case FAULT_FAILOVER:
    case FAULT_DEAF_AT_FAILOVER: f.a = (uint32_t)prng_below(p, plan->machines); break;
    case FAULT_POWER:
        if ((plan->traits & PLAN_POWER_VICTIM) != 0) f.a = victim;
        break;
    case FAULT_PAUSE:
        if (f.n != 0) f.a = MACHINE_LEADER;
        f.n = 0;
        break;
    case FAULT_REPLICAS: f.n = f.n / 2 * 2 + 1; break; /* 1, 3, 5 */
    case FAULT_SERVER:
        f.a = (uint32_t)prng_below(p, plan->machines);
        f.b = (uint32_t)prng_below(p, plan->machines);
        break;
    case FAULT_KILL:
    case FAULT_AWAY:
    case FAULT_DISASTER:
    case FAULT_ALTER:
    case FAULT_POWER_ALL:
    case FAULT_CUT_CLIENTS:
    case FAULT_BREAK:
    case FAULT_SLOW_LINKS:
    case FAULT_FRAMES:
    case FAULT_DISK_SLOW:
    case FAULT_DISK_STALL:
    case FAULT_DISK_FULL:
    case FAULT_SYNC_ERROR:
    case FAULT_ENGINE_ERROR:
    case FAULT_WRONG_SECRET:
    case FAULT_CLOCK_RATE:
    case FAULT_WALL_JUMP:
    case FAULT_STOP:
    case FAULT_START:
    case FAULT_UPGRADE:
    case FAULT_KIND_END: break;
    }
    return f;
}

static void story_put(struct story *story, const struct fault *f)
{
    uint32_t at = story->n;

    if (story->n == STORY_MAX) return;
    for (; at > 0 && story->faults[at - 1].at_ns > f->at_ns; at--)
        story->faults[at] = story->faults[at - 1];
    story->faults[at] = *f;
    story->n++;
}

/* It comes in the middle.  Links are cut and machines stand still before it only: behind it the old
 * ones are to hear of it, and the others to be as busy as can be. */
static void place_around_disaster(const struct plan *plan, struct fault *f)
{
    const uint64_t storm_ns = plan->storm_ms * MS_NS;

    if (f->kind == FAULT_DISASTER) f->at_ns = storm_ns / 4 + f->at_ns / 8;
    if (f->kind == FAULT_CUT_BOTH || f->kind == FAULT_PAUSE) f->at_ns = f->at_ns * 3 / 8;
    if (f->kind == FAULT_CUT_BOTH && f->at_ns + f->lasts_ns > storm_ns * 3 / 8)
        f->lasts_ns = storm_ns * 3 / 8 - f->at_ns;
}

void story_draw(struct story *story, const struct plan *plan, uint64_t seed)
{
    struct prng p = prng_for(seed, PRNG_STORY);
    const uint32_t victim = (uint32_t)prng_below(&p, plan->machines);
    uint32_t started = 1, upgraded = 0;

    memset(story, 0, sizeof *story);
    for (uint32_t i = 0; i < PLAN_FAULTS_MAX && plan->faults[i].kind != 0; i++) {
        const struct plan_fault *row = &plan->faults[i];
        const uint64_t times = prng_range(&p, row->few, row->many);
        for (uint64_t k = 0; k < times; k++) {
            struct fault f = draw_fault(plan, row, victim, &p);
            if (f.kind == FAULT_START) f.a = started++;
            if (f.kind == FAULT_START) f.at_ns /= 2;
            if (f.kind == FAULT_UPGRADE) f.a = upgraded++ % plan->machines;
            if ((plan->traits & PLAN_RECOVERS) != 0) place_around_disaster(plan, &f);
            story_put(story, &f);
        }
    }
}

static const char *fault_name(enum fault_kind kind)
{
    switch (kind) {
    case FAULT_KILL: return "kill";
    case FAULT_POWER: return "power cut";
    case FAULT_POWER_ALL: return "power cut of all";
    case FAULT_CUT: return "cut one way";
    case FAULT_CUT_BOTH: return "cut both ways";
    case FAULT_CUT_CLIENTS: return "cut from clients";
    case FAULT_BREAK: return "break connections";
    case FAULT_SLOW_LINKS: return "slow links";
    case FAULT_FRAMES: return "frames lost, doubled, overtaken";
    case FAULT_DISK_SLOW: return "slow disk";
    case FAULT_DISK_STALL: return "disk stands still";
    case FAULT_DISK_FULL: return "disk full";
    case FAULT_SYNC_ERROR: return "sync fails";
    case FAULT_FLIP: return "bits flipped, killed";
    case FAULT_FLIP_LIVE: return "bits flipped under way";
    case FAULT_CLOCK_RATE: return "clock rate";
    case FAULT_WALL_JUMP: return "wall clock jumps";
    case FAULT_PAUSE: return "paused";
    case FAULT_STOP: return "stopped by the operator";
    case FAULT_FAILOVER: return "hand-over";
    case FAULT_DEAF_AT_FAILOVER: return "hand-over, and the old leader goes deaf,";
    case FAULT_REPLICAS: return "number of replicas";
    case FAULT_ALTER: return "another policy";
    case FAULT_START: return "first start";
    case FAULT_UPGRADE: return "a newer version";
    case FAULT_KILL_NEW_LEADER: return "kill, as it begins,";
    case FAULT_SHORTEN: return "log file shortened, killed";
    case FAULT_SPOIL: return "sectors unreadable, killed";
    case FAULT_SPOIL_LIVE: return "sectors unreadable under way";
    case FAULT_ENGINE_ERROR: return "engine's commit fails";
    case FAULT_WRONG_SECRET: return "wrong secret";
    case FAULT_CUT_AT_JOINT: return "cut when a joint membership begins";
    case FAULT_SERVER: return "drained, active again, removed, or replaced:";
    case FAULT_AWAY: return "gone";
    case FAULT_DISASTER: return "all but one lost";
    case FAULT_FORCE: return "trouble, and FORCE";
    case FAULT_KIND_END: break;
    }
    check(false);
    return "";
}

static void tell_mask(struct buf *out, uint32_t mask)
{
    for (uint32_t i = 0; i < PLAN_MACHINES_MAX; i++)
        if ((mask & (1u << i)) != 0) buf_putf(out, "s%" PRIu32, i + 1);
}

void fault_tell(struct buf *out, uint32_t number, const struct fault *f)
{
    buf_putf(out, "  %3" PRIu32 "  at %9.3f ms  %s", number, (double)f->at_ns / 1e6,
             fault_name(f->kind));
    if (f->kind == FAULT_CUT || f->kind == FAULT_CUT_BOTH ||
        f->kind == FAULT_CUT_AT_JOINT) {
        buf_putf(out, " ");
        tell_mask(out, f->a);
        buf_putf(out, f->kind == FAULT_CUT ? " -> " : " <-> ");
        tell_mask(out, f->b);
    } else if (f->kind != FAULT_POWER_ALL && f->kind != FAULT_FRAMES &&
               f->kind != FAULT_REPLICAS && f->kind != FAULT_ALTER &&
               f->kind != FAULT_FORCE && f->kind != FAULT_DISASTER) {
        if (f->a == MACHINE_LEADER)
            buf_putf(out, " of the leader");
        else
            buf_putf(out, " s%" PRIu32, f->a + 1);
    }
    if (f->n != 0) buf_putf(out, " (%" PRId64 ")", f->n);
    if (f->lasts_ns > 0) buf_putf(out, " for %.0f ms", (double)f->lasts_ns / 1e6);
    buf_putf(out, "\n");
}
