/* SPDX-License-Identifier: Apache-2.0 */
/* report - what one run tells whoever started it.
 *
 * Every run is a process of its own, so that a crash of the code under test, or a loop that
 * does not end, is a result like any other.  The report is written as one struct to
 * REPORT_FD; without that descriptor it goes to stderr as text. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { REPORT_FD = 3, REPORT_TEXT_MAX = 6000 };

/* What should be seen to happen over all the seeds of a plan that names it: a mark that is
 * never reached means that the world is too kind, or that a path is dead. */
#define MARKS                                                                            \
    MARK(answered, "operations answered")                                                \
    MARK(refused, "operations refused, surely not applied")                              \
    MARK(unknown, "operations of unknown outcome")                                       \
    MARK(elections, "leaderships begun")                                                 \
    MARK(epochs, "epochs begun without the consent of those before")                     \
    MARK(forced, "orders to FORCE that lost nothing")                                    \
    MARK(forced_loss, "orders to FORCE that may have lost something")                    \
    MARK(restarts, "processes started again")                                            \
    MARK(kills, "processes killed")                                                      \
    MARK(power_cuts, "machines that lost power")                                         \
    MARK(writes_lost, "unsynced writes lost whole")                                      \
    MARK(writes_torn, "unsynced writes torn")                                            \
    MARK(torn_tails, "torn tails cut at a start")                                        \
    MARK(flips, "bits flipped on disk")                                                  \
    MARK(doubtful, "replicas whose log became doubtful")                                 \
    MARK(repaired, "replicas whose log was proved whole again")                          \
    MARK(rebooted, "replicas that lost their power with writes not synced")              \
    MARK(discarded, "entries kept aside since another leader has others")                \
    MARK(answers_lost, "answered writes that were found kept aside")                     \
    MARK(shortened, "log files that lost their end")                                     \
    MARK(read_errors, "reads that failed")                                               \
    MARK(engine_errors, "commits of the engine that failed")                             \
    MARK(sync_errors, "syncs that failed")                                               \
    MARK(exits, "processes that ended themselves")                                       \
    MARK(creates_refused, "segments not made for want of space")                         \
    MARK(snapshots, "snapshots installed")                                               \
    MARK(checkpoints, "checkpoints written")                                             \
    MARK(links_cut, "links cut")                                                         \
    MARK(streams_broken, "connections broken")                                           \
    MARK(frames_dropped, "frames dropped")                                               \
    MARK(frames_doubled, "frames doubled")                                               \
    MARK(frames_late, "frames overtaken")                                                \
    MARK(pauses, "processes stopped for a while")                                        \
    MARK(stalls, "disks that stood still")                                               \
    MARK(clock_changes, "clocks changed")                                                \
    MARK(stops, "processes asked to stop")                                               \
    MARK(failovers, "planned hand-overs done")                                           \
    MARK(moments, "faults that came at their moment")                                    \
    MARK(wrong_secrets, "servers started with a wrong secret")                           \
    MARK(upgrades, "servers started as a newer version")                                 \
    MARK(put_back, "servers started as the older version again")                         \
    MARK(raised, "feature levels raised")                                                \
    MARK(too_old, "servers that ended since they were too old by then")                  \
    MARK(joins, "servers joined")                                                        \
    MARK(server_orders, "orders to drain, remove, replace, activate that were taken")    \
    MARK(removed, "servers that ended since they were removed")                          \
    MARK(recovered, "survivors made a cluster of one")                                   \
    MARK(gone, "answered writes that went with the majority")                            \
    MARK(interrupted, "recoveries ended half way")                                       \
    MARK(outcasts, "old members that heard of a recovery without them, and ended")       \
    MARK(replaced, "servers that came back to find all their replicas elsewhere")        \
    MARK(config_changes, "memberships changed")                                          \
    MARK(silences, "replicas that fell silent")                                          \
    MARK(wakes, "silent replicas that woke")                                             \
    MARK(bereaved, "silent replicas that woke to elect another leader")                  \
    MARK(transactions, "transactions done")                                              \
    MARK(watches_broken, "transactions given up for a changed key")                      \
    MARK(keyspaces_made, "keyspaces created while their key was in use")                 \
    MARK(keyspaces_refused, "keyspaces refused for the key that they would hide")        \
    MARK(keyspaces_dropped, "keyspaces dropped")                                         \
    MARK(lapsed, "values gone by their deadline")                                        \
    MARK(repeats, "requests repeated with their id")                                     \
    MARK(once, "requests with an id answered")                                           \
    MARK(forgotten, "request ids forgotten for their age")                               \
    MARK(resumed, "sessions resumed elsewhere")                                          \
    MARK(sessions_lost, "sessions told that what they saw is lost")                      \
    MARK(stale, "reads that no replica could answer in time")                            \
    MARK(lagged, "histories with a read that was not of the newest state")               \
    MARK(histories, "histories proved linearizable")                                     \
    MARK(undecided, "histories too hard to judge")

enum mark {
#define MARK(name, text) MARK_##name,
    MARKS
#undef MARK
        MARK_END,
};

enum report_verdict { REPORT_NONE = 0, REPORT_PASSED, REPORT_FAILED };

struct report {
    enum report_verdict verdict;
    uint64_t trace;    /* a hash of all that happened */
    uint64_t happened; /* events */
    uint64_t ended_ns; /* virtual */
    uint64_t marks[MARK_END];
    char text[REPORT_TEXT_MAX]; /* what was violated, and the last it knew */
};

/* Writes the report and ends the process. */
_Noreturn void report_end(const struct report *report);
const char *mark_text(enum mark mark);
