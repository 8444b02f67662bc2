/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/ci.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/run.h"

enum { PLANS_MAX = 64, SHRINK_TRIES = 60, FAILURES_SHOWN = 3, SEED_LINES_MAX = 4096 };

struct tally {
    const struct ci_order *order;
    uint32_t passed, failed;
    uint64_t marks[PLANS_MAX][MARK_END];
    uint32_t good[PLANS_MAX], bad[PLANS_MAX];
};

static void count(struct tally *t, bool ok)
{
    t->passed += ok;
    t->failed += !ok;
}

/* ---- telling a failure ---- */

static void *resize_by_libc(void *ctx, void *old, size_t size_old, size_t size_new)
{
    (void)ctx;
    (void)size_old;
    if (size_new == 0) {
        free(old);
        return NULL;
    }
    void *fresh = realloc(old, size_new);
    if (fresh == NULL) abort();
    return fresh;
}

static void tell_story(const struct run_order *order)
{
    struct mem mem = {.resize = resize_by_libc};
    struct buf text = buf_new(&mem);
    struct story story;
    uint32_t told = 0;

    story_draw(&story, order->plan, order->seed);
    for (uint32_t i = 0; i < story.n; i++) {
        if (order->left_out[i]) continue;
        fault_tell(&text, i, &story.faults[i]);
        told++;
    }
    if (told == 0) buf_putf(&text, "  (no fault is needed)\n");
    printf("story, %u faults of %u:\n%.*s", told, story.n, (int)text.len,
           (const char *)text.at);
    printf("replay: sennit-sim --plan %s --seed %" PRIu64 " --verbose", order->plan->name,
           order->seed);
    if (told < story.n) {
        const char *comma = "";
        printf(" --keep ");
        if (told == 0) printf("none");
        for (uint32_t i = 0; i < story.n; i++) {
            if (order->left_out[i]) continue;
            printf("%s%u", comma, i);
            comma = ",";
        }
    }
    printf("\n");
    buf_free(&text);
}

static void tell_failure(const struct run_order *order, const struct report *report)
{
    struct run_order smallest = *order;
    struct report r = *report;

    printf("FAILED plan %s, seed %" PRIu64 "\n%s\n", order->plan->name, order->seed,
           report->text);
    run_shrink(&smallest, &r, SHRINK_TRIES);
    printf("shrunk: %s\n", r.text);
    tell_story(&smallest);
    fflush(stdout);
}

/* ---- seeds of plans ---- */

static bool wants(const struct ci_order *order, uint32_t plan)
{
    return order->plan == NULL || strcmp(order->plan, plans[plan].name) == 0;
}

static bool plan_next(void *ctx, uint32_t i, struct run_order *out)
{
    const struct tally *t = ctx;
    const uint32_t plan = i % n_plans;

    if (!wants(t->order, plan)) return false;
    out->plan = &plans[plan];
    out->seed = t->order->first_seed + i / n_plans;
    out->seconds_max = t->order->run_seconds_max;
    return true;
}

static bool plan_done(void *ctx, uint32_t i, const struct run_order *order,
                      const struct report *report)
{
    struct tally *t = ctx;
    const uint32_t plan = i % n_plans;

    for (uint32_t k = 0; k < MARK_END; k++)
        t->marks[plan][k] += report->marks[k];
    if (report->verdict == REPORT_PASSED) {
        t->good[plan]++;
        return true;
    }
    if (t->bad[plan]++ < FAILURES_SHOWN) tell_failure(order, report);
    return true;
}

/* A plan passes when all its seeds do and, over them, what it names was seen to happen. */
static void plan_verdict(struct tally *t, uint32_t plan)
{
    const struct plan *p = &plans[plan];
    bool ok = t->bad[plan] == 0;

    printf("%-12s %u seeds passed, %u failed;", p->name, t->good[plan], t->bad[plan]);
    printf(" %" PRIu64 " operations, %" PRIu64 " unknown, %" PRIu64 " histories\n",
           t->marks[plan][MARK_answered], t->marks[plan][MARK_unknown],
           t->marks[plan][MARK_histories]);
    for (uint32_t i = 0; i < p->n_marks && t->order->seeds >= 8; i++) {
        if (t->marks[plan][p->marks[i]] > 0) continue;
        printf("FAILED plan %s: never reached: %s\n", p->name, mark_text(p->marks[i]));
        ok = false;
    }
    count(t, ok);
}

static void run_plans(struct tally *t)
{
    const struct run_batch batch = {
        .n = t->order->seeds * n_plans,
        .jobs = t->order->jobs,
        .ctx = t,
        .next = plan_next,
        .done = plan_done,
    };
    check(n_plans <= PLANS_MAX);
    run_batch(&batch);
    for (uint32_t i = 0; i < n_plans; i++)
        if (wants(t->order, i)) plan_verdict(t, i);
    fflush(stdout);
}

/* ---- seeds that once failed ---- */

static void run_seed_line(struct tally *t, char *line)
{
    struct run_order order = {.seconds_max = t->order->run_seconds_max};
    struct report report;
    char name[32];
    uint64_t seed;

    if (line[0] == '#' || sscanf(line, "%31s %" SCNu64, name, &seed) != 2) return;
    order.plan = plan_named(name);
    order.seed = seed;
    if (order.plan == NULL) {
        printf("FAILED %s names a plan that there is not: %s\n", t->order->seeds_file,
               name);
        count(t, false);
        return;
    }
    run_in_child(&order, &report);
    count(t, report.verdict == REPORT_PASSED);
    if (report.verdict != REPORT_PASSED) tell_failure(&order, &report);
}

static void run_seeds_file(struct tally *t)
{
    char line[512];

    if (t->order->seeds_file == NULL) return;
    FILE *file = fopen(t->order->seeds_file, "r");
    if (file == NULL) return;
    const uint32_t before = t->passed + t->failed;
    while (fgets(line, sizeof line, file) != NULL)
        run_seed_line(t, line);
    (void)fclose(file);
    printf("seeds that once failed: %u run again\n", t->passed + t->failed - before);
}

/* ---- replays ---- */

/* The same seed twice, with memory that holds other bytes at other addresses. */
static void run_replays(struct tally *t)
{
    uint32_t same = 0, n = 0;

    for (uint32_t i = 0; i < n_plans; i += 3, n++) {
        struct run_order order = {.plan = &plans[i],
                                  .seed = t->order->first_seed,
                                  .seconds_max = t->order->run_seconds_max};
        struct report first, second;
        run_in_child(&order, &first);
        order.salt = 0xb9;
        run_in_child(&order, &second);
        const bool ok = first.trace == second.trace &&
                        first.happened == second.happened &&
                        first.verdict == second.verdict;
        if (!ok)
            printf("FAILED plan %s, seed %" PRIu64
                   " takes another course when run again\n",
                   order.plan->name, order.seed);
        same += ok;
    }
    printf("replays: %u of %u took the same course\n", same, n);
    count(t, same == n);
}

/* ---- mutants ---- */

struct mutant {
    const char *name;
    struct server_mutant rule;
    const char *plans[4];
    uint32_t seeds_max;
};

/* clang-format off */
static const struct mutant mutants[] = {
    {"raft: a commit counts one copy too few", {.raft = 1}, {"network", "crashes", "power"}, 40},
    {"raft: a vote leaves before it is on disk", {.raft = 2}, {"elections"}, 400},
    {"raft: an old term's entry is committed by counting", {.raft = 3}, {"old-terms"}, 100},
    {"raft: a stale round confirms a read", {.raft = 4}, {"pauses"}, 800},
    {"raft: a lease outlives the hand-over", {.raft = 5}, {"leases"}, 800},
    {"raft: a snapshot forgets the membership", {.raft = 6}, {"snapshots", "joins"}, 60},
    {"raft: a shorter log may win votes", {.raft = 7}, {"crashes", "network"}, 60},
    {"raft: a doubtful replica counts", {.raft = 8}, {"damage"}, 200},
    {"raft: an append is acknowledged before it is on disk", {.raft = 9}, {"power"}, 200},
    {"raft: one majority of a joint membership is enough", {.raft = 10}, {"joints"}, 200},
    {"raft: conflicting entries are not removed", {.raft = 11}, {"network", "crashes"}, 60},
    {"primary: who has the larger index wins votes", {.raft = 12}, {"async", "primary"}, 200},
    {"primary: fewer copies, and elections as before", {.raft = 13}, {"minority"}, 100},
    {"primary: its own copy counts as a follower's", {.raft = 14}, {"primary"}, 60},
    {"primary: a lost tail is not missed after a power cut", {.raft = 15}, {"memory"}, 100},
    {"shard: closed to nothing while a keyspace comes", {.server = 1}, {"keyspaces"}, 60},
    {"raft: a silent follower never wakes", {.raft = 16}, {"idle"}, 40},
    {"server: a beat that does not come is no matter", {.server = 2}, {"idle"}, 40},
    {"wal: durable before the sync", {.wal = 1}, {"alone", "power"}, 40},
    {"shard: a request id is known to its leader alone", {.server = 4}, {"retries"}, 60},
    {"shard: a position is told by its index alone", {.server = 3}, {"retries"}, 200},
    {"server: EXEC does not say where it watched", {.server = 6}, {"watches"}, 400},
    {"server: the age of a replica is told by the time of day", {.server = 10}, {"lags"}, 200},
    {"server: a follower's clock says that a key has expired", {.server = 11}, {"clocks"}, 100},
    {"shard: a follower leaves out what has expired by its clock", {.server = 12}, {"clocks"}, 60},
    {"raft: the log is cut past a follower that answers", {.server = 13}, {"network"}, 100},
    {"server: a token is taken and forgotten", {.server = 5}, {"retries"}, 60},
    {"server: what comes back waits behind what came after it", {.server = 20}, {"pipelines"}, 60},
    {"meta: who is away speaks what we do", {.server = 7}, {"upgrades"}, 60},
    {"raft: an epoch begins by an election", {.raft = 17}, {"force"}, 60},
    {"raft: what an older epoch sends is taken in", {.raft = 18}, {"fences"}, 40},
    {"server: FORCE hears of logs that go on in the old epoch", {.server = 8}, {"fences"}, 40},
    {"server: who was left out of a recovery goes on", {.server = 9}, {"recover"}, 40},
    {"wal: damage is taken for a torn tail", {.wal = 2}, {"damage"}, 200},
};
/* clang-format on */

struct hunt {
    const struct tally *tally;
    const struct mutant *mutant;
    uint32_t n_plans;
    bool caught;
    const struct plan *plan;
    uint64_t seed;
    char text[160];
};

static bool hunt_next(void *ctx, uint32_t i, struct run_order *out)
{
    const struct hunt *h = ctx;

    out->plan = plan_named(h->mutant->plans[i % h->n_plans]);
    check(out->plan != NULL);
    out->seed = h->tally->order->first_seed + i / h->n_plans;
    out->mutant = h->mutant->rule;
    out->seconds_max = h->tally->order->run_seconds_max;
    return true;
}

static bool hunt_done(void *ctx, uint32_t i, const struct run_order *order,
                      const struct report *report)
{
    struct hunt *h = ctx;

    (void)i;
    if (report->verdict != REPORT_FAILED || h->caught) return !h->caught;
    /* It is the mutant that must have been caught: without it the same run passes. */
    struct run_order sound = *order;
    struct report r;
    sound.mutant = (struct server_mutant){0};
    run_in_child(&sound, &r);
    if (r.verdict != REPORT_PASSED) return true;
    h->caught = true;
    h->plan = order->plan;
    h->seed = order->seed;
    const char *end = strchr(report->text, '\n');
    const size_t len = end != NULL ? (size_t)(end - report->text) : strlen(report->text);
    snprintf(h->text, sizeof h->text, "%.*s", (int)(len < 150 ? len : 150), report->text);
    return false;
}

static void run_mutants(struct tally *t)
{
    for (uint32_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        struct hunt h = {.tally = t, .mutant = &mutants[i]};
        bool wanted = t->order->plan == NULL;
        for (; h.n_plans < 4 && mutants[i].plans[h.n_plans] != NULL; h.n_plans++)
            wanted = wanted || strcmp(mutants[i].plans[h.n_plans], t->order->plan) == 0;
        if (!wanted) continue;
        const struct run_batch batch = {
            .n = mutants[i].seeds_max,
            .jobs = t->order->jobs,
            .ctx = &h,
            .next = hunt_next,
            .done = hunt_done,
        };
        run_batch(&batch);
        count(t, h.caught);
        if (h.caught)
            printf("mutant caught: %s: plan %s, seed %" PRIu64 ": %s\n", mutants[i].name,
                   h.plan->name, h.seed, h.text);
        else
            printf("FAILED mutant not caught within %u runs: %s\n", mutants[i].seeds_max,
                   mutants[i].name);
        fflush(stdout);
    }
}

int ci_run(const struct ci_order *order)
{
    struct tally t = {.order = order};

    if (order->seeds > 0) run_plans(&t);
    run_seeds_file(&t);
    if (order->replays) run_replays(&t);
    if (order->mutants) run_mutants(&t);
    printf("%u passed, %u failed\n", t.passed, t.failed);
    return t.failed > 0;
}
