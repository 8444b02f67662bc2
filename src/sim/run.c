/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/checks.h"
#include "sim/client.h"
#include "sim/disaster.h"
#include "sim/roam.h"

enum { JOBS_MAX = 64 };

static const uint64_t setup_ns = 90 * SEC_NS, calm_ns = 240 * SEC_NS;

/* ---- the course of a run ---- */

static bool converged(struct world *w)
{
    /* Looked at now and then: it costs more than an event. */
    return w->time.happened % 64 == 0 && checks_converged(w, NULL);
}

static void wait_converged(struct world *w, uint64_t limit_ns, const char *when)
{
    struct buf why = buf_new(&w->mem);

    if (world_run(w, w->time.now_ns + limit_ns, converged)) return;
    if (checks_converged(w, &why)) return;
    buf_putf(&why, " (K6)\n");
    checks_tell(w, &why);
    world_fail(w, "%s, after %" PRIu64 " s: %.*s", when, limit_ns / SEC_NS, (int)why.len,
               (const char *)why.at);
}

static void wait_clients(struct world *w, bool (*until)(struct world *w),
                         uint64_t limit_ns, const char *when)
{
    struct buf why = buf_new(&w->mem);

    if (world_run(w, w->time.now_ns + limit_ns, until)) return;
    clients_tell(w, &why);
    buf_putf(&why, "\n");
    checks_tell(w, &why);
    world_fail(w, "%s, after %" PRIu64 " s: %.*s", when, limit_ns / SEC_NS, (int)why.len,
               (const char *)why.at);
}

static bool is_led(struct world *w)
{
    return w->time.happened % 64 == 0 && checks_led(w);
}

static void make_keyspaces(struct world *w)
{
    const bool goes = (w->plan->traits & PLAN_BEGIN_SHORT) != 0;
    const uint32_t machine = goes ? (uint32_t)prng_below(&w->faults, w->plan->machines)
                                  : 0;
    const bool before = goes && prng_chance(&w->faults, 500);

    if (before) {
        world_kill(w, machine, false);
        (void)world_run(w, w->time.now_ns + prng_below(&w->faults, 6 * SEC_NS), NULL);
    }
    clients_make_keyspaces(w);
    if (goes && !before) {
        (void)world_run(w, w->time.now_ns + prng_below(&w->faults, 500 * MS_NS), NULL);
        world_kill(w, machine, false);
    }
    wait_clients(w, clients_orders_done, setup_ns, "making keyspaces");
    if (!goes) return;
    wait_clients(w, is_led, setup_ns, "a shard has no leader while one server is away");
    world_start(w, machine);
}

static void set_up(struct world *w)
{
    const bool alone = (w->plan->traits & PLAN_START_ALONE) != 0;
    const bool recovers = (w->plan->traits & PLAN_RECOVERS) != 0;
    const uint32_t n = alone ? 1 : recovers ? DISASTER_MEMBERS : w->plan->machines;

    for (uint32_t i = 0; i < n; i++) {
        (void)world_run(w, w->time.now_ns + prng_below(&w->faults, SEC_NS), NULL);
        world_start(w, i);
    }
    wait_converged(w, setup_ns, "setting up");
    make_keyspaces(w);
    wait_converged(w, setup_ns, "after making keyspaces");
}

static void storm(struct world *w)
{
    clients_begin(w);
    roamers_begin(w);
    (void)world_run(w, w->time.now_ns + SEC_NS, NULL);
    world_say(w, "==== storm");
    faults_plan(w);
    (void)world_run(w, w->storm_ns + w->plan->storm_ms * MS_NS, NULL);
    world_heal(w);
}

static void calm(struct world *w)
{
    clients_probe(w);
    wait_clients(w, clients_orders_done, calm_ns, "in the calm, a write is not taken");
    clients_stop(w);
    wait_clients(w, clients_quiet, calm_ns, "in the calm, a client has no answer");
    roamers_finish(w);
    wait_clients(w, roamers_finished, calm_ns, "in the calm, a repeat has no answer");
    clients_finish(w);
    wait_clients(w, clients_finished, calm_ns, "in the calm, something cannot be read");
    wait_converged(w, calm_ns, "in the calm");
}

static void end_all(struct world *w)
{
    for (uint32_t i = 0; i < w->plan->machines; i++)
        world_kill(w, i, false);
}

_Noreturn void run_here(const struct run_order *order)
{
    struct world *w = world_new(order->plan, order->seed, order->salt, order->verbose);

    w->mutant = order->mutant;
    memcpy(w->story.left_out, order->left_out, sizeof order->left_out);
    if (order->seconds_max > 0) (void)alarm(order->seconds_max);
    set_up(w);
    storm(w);
    calm(w);
    checks_digests(w);
    clients_judge(w);
    roamers_judge(w);
    end_all(w);

    w->report.verdict = REPORT_PASSED;
    w->report.happened = w->time.happened;
    w->report.ended_ns = w->time.now_ns;
    report_end(&w->report);
}

/* ---- in processes ---- */

struct child {
    pid_t pid; /* 0: none */
    int from;
    uint32_t number;
    struct run_order order;
};

static void child_start(struct child *c)
{
    int pipes[2];

    if (pipe(pipes) != 0) {
        perror("pipe");
        exit(1);
    }
    fflush(stdout);
    c->pid = fork();
    if (c->pid < 0) {
        perror("fork");
        exit(1);
    }
    if (c->pid == 0) {
        (void)close(pipes[0]);
        if (pipes[1] != REPORT_FD) {
            (void)dup2(pipes[1], REPORT_FD);
            (void)close(pipes[1]);
        }
        run_here(&c->order);
    }
    (void)close(pipes[1]);
    c->from = pipes[0];
}

/* The report lies in the pipe when the child has ended: it fits. */
static_assert(sizeof(struct report) < 60000, "a pipe holds a report");

static void child_end(struct child *c, int status, struct report *out)
{
    const ssize_t got = read(c->from, out, sizeof *out);

    (void)close(c->from);
    c->pid = 0;
    if (got == (ssize_t)sizeof *out) return;
    memset(out, 0, sizeof *out);
    out->verdict = REPORT_FAILED;
    if (WIFSIGNALED(status))
        snprintf(out->text, sizeof out->text, "ended by signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == 14 ? ": it took too long" : "");
    else
        snprintf(out->text, sizeof out->text, "ended with %d and without a report",
                 WEXITSTATUS(status));
}

static pid_t wait_for(pid_t pid, int *status)
{
    for (;;) {
        const pid_t ended = waitpid(pid, status, 0);
        if (ended > 0) return ended;
        if (errno != EINTR) {
            perror("waitpid");
            exit(1);
        }
    }
}

void run_in_child(const struct run_order *order, struct report *out)
{
    struct child c = {.order = *order};
    int status = 0;

    child_start(&c);
    (void)wait_for(c.pid, &status);
    child_end(&c, status, out);
}

void run_batch(const struct run_batch *batch)
{
    static_assert(JOBS_MAX * sizeof(struct child) < 1 << 20, "on the stack");
    struct child children[JOBS_MAX] = {0};
    const uint32_t jobs = batch->jobs < JOBS_MAX ? batch->jobs : JOBS_MAX;
    uint32_t next = 0, running = 0;
    bool on = true;

    while (running > 0 || (on && next < batch->n)) {
        for (uint32_t i = 0; i < jobs && on && next < batch->n; i++) {
            struct child *c = &children[i];
            if (c->pid != 0) continue;
            c->order = (struct run_order){0};
            c->number = next++;
            if (!batch->next(batch->ctx, c->number, &c->order)) continue;
            child_start(c);
            running++;
        }
        if (running == 0) continue;
        int status = 0;
        const pid_t ended = wait_for(-1, &status);
        for (uint32_t i = 0; i < jobs; i++) {
            struct child *c = &children[i];
            if (c->pid != ended) continue;
            struct report report;
            child_end(c, status, &report);
            running--;
            on = batch->done(batch->ctx, c->number, &c->order, &report) && on;
        }
    }
}

/* ---- shrinking ---- */

/* First halves of what is left, then smaller runs of it, then one by one, as long as the
 * run goes on failing. */
void run_shrink(struct run_order *order, struct report *report, uint32_t tries)
{
    struct story story;

    story_draw(&story, order->plan, order->seed);
    for (uint32_t width = story.n; width > 0 && tries > 0;) {
        bool shrunk = false;
        for (uint32_t from = 0; from < story.n && tries > 0; from += width) {
            struct run_order smaller = *order;
            struct report r;
            bool changed = false;
            for (uint32_t i = from; i < from + width && i < story.n; i++) {
                changed = changed || !smaller.left_out[i];
                smaller.left_out[i] = true;
            }
            if (!changed) continue;
            tries--;
            run_in_child(&smaller, &r);
            if (r.verdict != REPORT_FAILED) continue;
            *order = smaller;
            *report = r;
            shrunk = true;
        }
        if (width > 1)
            width = (width + 1) / 2;
        else if (!shrunk)
            width = 0;
    }
}
