/* SPDX-License-Identifier: Apache-2.0 */
/* sennit-sim - whole clusters in one process, on virtual time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "sim/ci.h"
#include "sim/run.h"

static const char usage[] =
    "usage: sennit-sim [--plan NAME] --seed N [--keep I,J,...] [--verbose] [--here]\n"
    "       sennit-sim --ci | --long | --mutants [--plan NAME] [--seeds N] [--first N]\n"
    "                  [--jobs N]\n"
    "       sennit-sim --list\n"
    "\n"
    "  --plan NAME   a threat, see --list; without it a seed runs in every plan\n"
    "  --seed N      run this seed, as it ran before\n"
    "  --keep I,J    of its story only these faults, or none\n"
    "  --verbose     tell what happens\n"
    "  --here        in this very process, for a debugger\n"
    "  --mutant C:N  with a safety rule broken: C is raft, wal or server, N its number\n"
    "  --ci          600 seeds over all plans, seeds that once failed, replays, mutants\n"
    "  --long        10,000 seeds over all plans\n"
    "  --mutants     only the mutants: each must be caught\n"
    "  --seeds N     how many of each plan       --first N  the first of them\n"
    "  --jobs N      at a time; the number of processors\n"
    "\n"
    "example: sennit-sim --plan power --seed 7 --verbose\n";

enum mode { MODE_NONE, MODE_SEED, MODE_CI, MODE_LONG, MODE_MUTANTS, MODE_LIST };

struct arguments {
    enum mode mode;
    struct run_order run;
    struct ci_order ci;
    const char *keep;
    bool here;
};

static _Noreturn void wrong(const char *what, const char *which)
{
    fprintf(stderr, "sennit-sim: %s%s%s\n%s", what, which != NULL ? ": " : "",
            which != NULL ? which : "", usage);
    exit(2);
}

static uint64_t number(const char *option, const char *text)
{
    int64_t n;

    if (text == NULL || !parse_i64(bytes_of_str(text), &n) || n < 0)
        wrong("a number is wanted after", option);
    return (uint64_t)n;
}

static void read_mutant(struct server_mutant *m, const char *text)
{
    const char *colon = text != NULL ? strchr(text, ':') : NULL;

    if (colon == NULL) wrong("--mutant wants raft:N, wal:N or server:N", NULL);
    const uint32_t n = (uint32_t)number("--mutant", colon + 1);
    if (strncmp(text, "raft:", 5) == 0)
        m->raft = n;
    else if (strncmp(text, "wal:", 4) == 0)
        m->wal = n;
    else if (strncmp(text, "server:", 7) == 0)
        m->server = n;
    else
        wrong("no such core", text);
}

/* One option; returns how many words it took. */
static int read_option(struct arguments *a, const char *option, const char *value)
{
    if (strcmp(option, "--ci") == 0) return a->mode = MODE_CI, 1;
    if (strcmp(option, "--long") == 0) return a->mode = MODE_LONG, 1;
    if (strcmp(option, "--mutants") == 0) return a->mode = MODE_MUTANTS, 1;
    if (strcmp(option, "--list") == 0) return a->mode = MODE_LIST, 1;
    if (strcmp(option, "--verbose") == 0) return a->run.verbose = true, 1;
    if (strcmp(option, "--here") == 0) return a->here = true, 1;
    if (strcmp(option, "--help") == 0) {
        printf("%s", usage);
        exit(0);
    }
    if (value == NULL) wrong("unknown, or without its value", option);
    if (strcmp(option, "--seed") == 0) {
        a->run.seed = number(option, value);
        a->mode = MODE_SEED;
    } else if (strcmp(option, "--plan") == 0) {
        a->run.plan = plan_named(value);
        if (a->run.plan == NULL) wrong("no such plan", value);
        a->ci.plan = value;
    } else if (strcmp(option, "--keep") == 0) {
        a->keep = value;
    } else if (strcmp(option, "--mutant") == 0) {
        read_mutant(&a->run.mutant, value);
    } else if (strcmp(option, "--salt") == 0) {
        a->run.salt = (uint8_t)number(option, value);
    } else if (strcmp(option, "--seeds") == 0) {
        a->ci.seeds = (uint32_t)number(option, value);
    } else if (strcmp(option, "--first") == 0) {
        a->ci.first_seed = number(option, value);
    } else if (strcmp(option, "--jobs") == 0) {
        a->ci.jobs = (uint32_t)number(option, value);
    } else {
        wrong("unknown option", option);
    }
    return 2;
}

static void read_keep(struct run_order *run, const char *keep)
{
    if (keep == NULL) return;
    for (uint32_t i = 0; i < STORY_MAX; i++)
        run->left_out[i] = true;
    if (strcmp(keep, "none") == 0) return;
    for (const char *at = keep; *at != 0;) {
        char *end;
        const unsigned long i = strtoul(at, &end, 10);
        if (end == at || i >= STORY_MAX)
            wrong("--keep wants numbers parted by commas", keep);
        run->left_out[i] = false;
        at = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end != 0)
            wrong("--keep wants numbers parted by commas", keep);
    }
}

static void list_plans(void)
{
    for (uint32_t i = 0; i < n_plans; i++)
        printf("%-12s %s\n", plans[i].name, plans[i].about);
}

static int run_seed(const struct arguments *a)
{
    int failed = 0;

    for (uint32_t i = 0; i < n_plans; i++) {
        struct run_order order = a->run;
        struct report r;
        if (order.plan != NULL && order.plan != &plans[i]) continue;
        order.plan = &plans[i];
        if (a->here) run_here(&order);
        run_in_child(&order, &r);
        const bool ok = r.verdict == REPORT_PASSED;
        printf("%s plan %s, seed %" PRIu64 ", trace %016" PRIx64 ", %" PRIu64
               " events, %.1f s of virtual time\n",
               ok ? "passed" : "FAILED", order.plan->name, order.seed, r.trace,
               r.happened, (double)r.ended_ns / 1e9);
        if (!ok) printf("%s\n", r.text);
        for (uint32_t k = 0; k < MARK_END; k++)
            if (order.verbose && r.marks[k] > 0)
                printf("  %8" PRIu64 "  %s\n", r.marks[k], mark_text((enum mark)k));
        failed += !ok;
    }
    return failed > 0;
}

int main(int argc, char **argv)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct arguments a = {0};

    a.ci.first_seed = 1;
    a.ci.run_seconds_max = 120;
    a.ci.jobs = processors > 0 ? (uint32_t)processors : 1;
    for (int i = 1; i < argc;)
        i += read_option(&a, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
    read_keep(&a.run, a.keep);
    if (a.ci.jobs == 0) wrong("--jobs wants at least 1", NULL);
    switch (a.mode) {
    case MODE_LIST: list_plans(); return 0;
    case MODE_SEED: return run_seed(&a);
    case MODE_CI:
        if (a.ci.seeds == 0) a.ci.seeds = (600 + n_plans - 1) / n_plans;
        a.ci.replays = a.ci.mutants = a.ci.plan == NULL;
        a.ci.seeds_file = a.ci.plan == NULL ? "tests/seeds/failed.txt" : NULL;
        return ci_run(&a.ci);
    case MODE_LONG:
        if (a.ci.seeds == 0) a.ci.seeds = (10000 + n_plans - 1) / n_plans;
        a.ci.replays = true;
        return ci_run(&a.ci);
    case MODE_MUTANTS:
        a.ci.seeds = 0;
        a.ci.mutants = true;
        return ci_run(&a.ci);
    case MODE_NONE: break;
    }
    wrong("what is to be run?", NULL);
}
