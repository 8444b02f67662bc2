/* SPDX-License-Identifier: Apache-2.0 */
/* What the faults of a story do, and how each of them ends. */
#include "sim/checks.h"
#include "sim/client.h"
#include "sim/disaster.h"
#include "sim/world.h"

static void on_fault_ends(void *ctx, uint64_t number, uint64_t machine);

static void ends_later(struct world *w, uint64_t number, uint32_t machine)
{
    const struct fault *f = &w->story.faults[number];

    timeline_at(&w->time, w->time.now_ns + f->lasts_ns, on_fault_ends, w, number,
                machine);
}

static void begin_again(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];

    if (m->away > 0 || m->recovering) return;
    m->power = true;
    if (m->life == NULL && m->started) world_start(w, index);
}

/* ---- cuts ---- */

static void cut(struct world *w, const struct fault *f, bool back, bool mend)
{
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        for (uint32_t k = 0; k < w->plan->machines; k++) {
            const bool there = (f->a & (1u << i)) != 0 && (f->b & (1u << k)) != 0;
            if (!there || i == k) continue;
            if (mend) net_mend(&w->net, i, k);
            if (mend && back) net_mend(&w->net, k, i);
            if (!mend) net_cut(&w->net, i, k);
            if (!mend && back) net_cut(&w->net, k, i);
        }
    }
}

static void cut_clients(struct world *w, uint32_t machine, bool mend)
{
    for (uint32_t c = CLIENT_NODE; c < NET_NODES_MAX; c++) {
        if (mend) net_mend(&w->net, machine, c);
        if (mend) net_mend(&w->net, c, machine);
        if (!mend) net_cut(&w->net, machine, c);
        if (!mend) net_cut(&w->net, c, machine);
    }
}

static void deafen(struct world *w, uint32_t machine, bool mend)
{
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        if (i == machine) continue;
        if (mend)
            net_mend(&w->net, i, machine);
        else
            net_cut(&w->net, i, machine);
    }
}

/* ---- clocks ---- */

/* The clock goes on from where it is. */
static void change_rate(struct machine *m, int64_t ppm)
{
    const uint64_t now = m->world->time.now_ns;
    const uint64_t passed = now - m->anchor_ns;
    const uint64_t rate = (uint64_t)(1000000 + m->rate_ppm);

    m->anchor_local_ns += passed / 1000000 * rate + passed % 1000000 * rate / 1000000;
    m->anchor_ns = now;
    m->rate_ppm = ppm;
    world_wake(m); /* its timers now mean other moments */
}

/* ---- one fault ---- */

static void flip(struct world *w, struct machine *m, const struct fault *f, bool kill)
{
    uint32_t flipped = 0;

    /* Not among the newest syncs: below the position that later records name as durable,
     * where damage can be told from a torn tail. */
    for (int64_t i = 0; i < f->n; i++)
        flipped += disk_flip(&m->disk, 8, &w->disks);
    w->report.marks[MARK_flips] += flipped;
    if (flipped > 0) m->damaged = true;
    if (kill) world_kill(w, m->index, false);
}

/* The process comes back at once when it was killed for this: what it can't read then is the
 * point.  With a head that can't be read it does not come up; its supervisor tries again. */
static void spoil(struct world *w, struct machine *m, const struct fault *f, bool kill)
{
    for (int64_t i = 0; i < f->n; i++)
        m->damaged = disk_spoil(&m->disk, &w->disks) || m->damaged;
    if (!kill || m->life == NULL) return;
    world_kill(w, m->index, false);
    world_start(w, m->index);
}

static void shorten(struct world *w, struct machine *m)
{
    world_kill(w, m->index, false);
    if (!disk_shorten(&m->disk, &w->disks)) return;
    w->report.marks[MARK_shortened]++;
    m->damaged = true;
}

/* Started again with the right one, when that ends, by whatever starts it. */
static void change_secret(struct world *w, struct machine *m, bool wrong)
{
    m->wrong_secret = wrong;
    w->report.marks[MARK_wrong_secrets] += wrong;
    if (m->life == NULL) return;
    world_kill(w, m->index, false);
    world_start(w, m->index);
}

/* What the others know of it may be as old as a connection that nobody has heard on, and a
 * change of the meta shard may wait for its majority. */
static void change_version(struct world *w, struct machine *m, uint32_t feature)
{
    enum { KNOWN_MS = 20000 };
    const bool back = feature < m->feature;

    if (feature == m->feature) return;
    w->report.marks[back ? MARK_put_back : MARK_upgrades]++;
    m->feature = feature;
    m->put_back_until_ns = back ? w->time.now_ns + KNOWN_MS * MS_NS : 0;
    if (m->life == NULL) return;
    world_kill(w, m->index, false);
    world_start(w, m->index);
}

static uint32_t machine_of(struct world *w, const struct fault *f)
{
    if (f->a != MACHINE_LEADER) return f->a;
    const int leader = world_leader(w, world_first_group(w));
    return leader < 0 ? 0 : (uint32_t)leader;
}

static void stall(struct world *w, struct machine *m, const struct fault *f)
{
    const uint64_t until = w->time.now_ns + f->lasts_ns;

    w->report.marks[MARK_stalls]++;
    if (until > m->disk_stalled_until_ns) m->disk_stalled_until_ns = until;
}

static void power_all(struct world *w, uint64_t number)
{
    const struct fault *f = &w->story.faults[number];

    for (uint32_t i = 0; i < w->plan->machines; i++) {
        if (!w->machines[i].power) continue;
        w->report.marks[MARK_power_cuts]++;
        world_kill(w, i, true);
        timeline_at(&w->time, w->time.now_ns + f->lasts_ns + i * 37 * MS_NS,
                    on_fault_ends, w, number, i);
    }
}

static void kill_for_a_while(struct world *w, uint64_t number, struct machine *m,
                             bool power)
{
    w->report.marks[power ? MARK_power_cuts : MARK_kills]++;
    world_kill(w, m->index, power);
    ends_later(w, number, m->index);
}

static void change_clock(struct world *w, struct machine *m, const struct fault *f)
{
    w->report.marks[MARK_clock_changes]++;
    if (f->kind == FAULT_WALL_JUMP)
        m->wall_offset_ms += f->n;
    else
        change_rate(m, f->n);
}

/* ---- FORCE ---- */

/* A machine that is none of these, with a replica of the plan's keyspace if there is one. */
static uint32_t other_replica(struct world *w, uint32_t mask)
{
    const struct group_id group = world_first_group(w);
    const uint32_t n = w->plan->machines;
    const uint32_t from = (uint32_t)prng_below(&w->faults, n);
    uint32_t other = from;

    check(n > 0);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = (from + i) % n;
        if ((mask & (1u << at)) != 0) continue;
        other = at;
        if (world_replica(&w->machines[at], group) != NULL) return at;
    }
    return other;
}

static uint32_t all_but(const struct world *w, uint32_t mask)
{
    return ((1u << w->plan->machines) - 1) & ~mask;
}

static uint32_t peers_of(struct world *w, uint32_t leader)
{
    uint32_t mask = 0;

    for (uint32_t i = 0; i < w->plan->machines; i++)
        if (i != leader && world_replica(&w->machines[i], world_first_group(w)) != NULL)
            mask |= 1u << i;
    return mask;
}

static bool is_cut_off(const struct fault *f)
{
    return f->n == TROUBLE_CUT || f->n == TROUBLE_CUT_TWO || f->n == TROUBLE_PEERS ||
           f->n == TROUBLE_RETURNS;
}

static void on_force(void *ctx, uint64_t number, uint64_t unused)
{
    struct world *w = ctx;
    const struct fault *f = &w->story.faults[number];
    const uint32_t n = w->plan->machines;
    uint32_t asked = (uint32_t)prng_below(&w->faults, n);

    (void)unused;
    check(n > 0);
    for (uint32_t i = 0; i < n && (f->a & (1u << asked)) != 0; i++)
        asked = (asked + 1) % n;
    clients_force(w, asked);
}

/* Who is hit is known only now: the fault's a; b: whom they do not hear.  The operator has to
 * notice it first. */
static void begin_trouble(struct world *w, uint64_t number, uint32_t leader)
{
    struct fault *f = &w->story.faults[number];
    const bool two = f->n == TROUBLE_KILLED_TWO || f->n == TROUBLE_CUT_TWO;

    f->a = f->n == TROUBLE_NONE ? 0 : 1u << leader;
    if (two) f->a |= 1u << other_replica(w, 1u << leader);
    f->b = f->n == TROUBLE_PEERS ? peers_of(w, leader) : all_but(w, f->a);
    for (uint32_t i = 0; i < w->plan->machines && !is_cut_off(f); i++) {
        if ((f->a & (1u << i)) == 0) continue;
        w->report.marks[MARK_kills]++;
        world_kill(w, i, false);
    }
    if (is_cut_off(f)) cut(w, f, true, false);
    if (f->n == TROUBLE_RETURNS) w->waiting[MOMENT_EPOCH] = number + 1;
    timeline_at(&w->time, w->time.now_ns + prng_below(&w->faults, 2500 * MS_NS), on_force,
                w, number, 0);
}

/* What the new leader has sent is still on its way, and is held up by the cut. */
static void change_sides(struct world *w, struct fault *f, uint32_t leader)
{
    cut(w, f, true, true);
    f->a |= 1u << other_replica(w, f->a | 1u << leader);
    f->b = all_but(w, f->a);
    cut(w, f, true, false);
}

static void end_trouble(struct world *w, uint64_t number)
{
    const struct fault *f = &w->story.faults[number];

    if (w->waiting[MOMENT_EPOCH] == number + 1) w->waiting[MOMENT_EPOCH] = 0;
    if (is_cut_off(f)) cut(w, f, true, true);
    for (uint32_t i = 0; i < w->plan->machines && !is_cut_off(f); i++)
        if ((f->a & (1u << i)) != 0) begin_again(w, i);
}

/* ---- faults that wait for their moment ---- */

static enum moment moment_of(const struct fault *f)
{
    if (f->kind == FAULT_DEAF_AT_FAILOVER) return MOMENT_TRANSFER;
    if (f->kind == FAULT_CUT_AT_JOINT) return MOMENT_JOINT;
    return f->n == 0 ? MOMENT_LEADS : MOMENT_COMMITS;
}

static void on_kill_at_moment(void *ctx, uint64_t number, uint64_t machine)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[machine];

    if (m->life != NULL && !w->calm) kill_for_a_while(w, number, m, false);
}

/* Called from within the checks: what ends a process is put off, if only to the next event. */
void faults_moment(struct world *w, enum moment moment, uint32_t leader)
{
    if (w->waiting[moment] == 0 || w->calm) return;
    const uint64_t number = w->waiting[moment] - 1;
    struct fault *f = &w->story.faults[number];

    w->waiting[moment] = 0;
    w->report.marks[MARK_moments]++;
    world_say(w, "---- the moment for s%u", leader + 1);
    switch (moment) {
    case MOMENT_TRANSFER: deafen(w, leader, false); break;
    case MOMENT_JOINT: cut(w, f, true, false); break;
    case MOMENT_EPOCH: change_sides(w, f, leader); return; /* its end is planned */
    case MOMENT_LEADS:
    case MOMENT_COMMITS: {
        /* Its first entry is on disk by then, and has perhaps not arrived anywhere. */
        const uint64_t most = moment == MOMENT_LEADS ? 6 * MS_NS : MS_NS;
        timeline_at(&w->time, w->time.now_ns + prng_below(&w->faults, most),
                    on_kill_at_moment, w, number, leader);
        return;
    }
    case MOMENT_END: check(false);
    }
    ends_later(w, number, leader);
}

/* True: the fault's end is to be planned. */
static bool begin_fault(struct world *w, uint64_t number, struct machine *m)
{
    const struct fault *f = &w->story.faults[number];

    switch (f->kind) {
    case FAULT_KILL: kill_for_a_while(w, number, m, false); return false;
    case FAULT_AWAY:
        m->away++;
        kill_for_a_while(w, number, m, true);
        return false;
    case FAULT_POWER: kill_for_a_while(w, number, m, true); return false;
    case FAULT_POWER_ALL: power_all(w, number); return false;
    case FAULT_CUT: cut(w, f, false, false); return true;
    case FAULT_CUT_BOTH: cut(w, f, true, false); return true;
    case FAULT_CUT_CLIENTS: cut_clients(w, m->index, false); return true;
    case FAULT_BREAK: net_break_all_of(&w->net, m->index); return false;
    case FAULT_SLOW_LINKS: w->net.slow[m->index] *= (uint32_t)f->n; return true;
    case FAULT_FRAMES: w->net.frames_per_thousand += 120; return true;
    case FAULT_DISK_SLOW: m->disk_factor *= (uint32_t)f->n; return true;
    case FAULT_DISK_STALL: stall(w, m, f); return false;
    case FAULT_DISK_FULL: m->disk_full++; return true;
    case FAULT_SYNC_ERROR: m->sync_error_next = m->life != NULL; return false;
    case FAULT_FLIP: flip(w, m, f, true); return true;
    case FAULT_SHORTEN: shorten(w, m); return true;
    case FAULT_SPOIL: spoil(w, m, f, true); return true;
    case FAULT_SPOIL_LIVE: spoil(w, m, f, false); return true;
    case FAULT_WRONG_SECRET: change_secret(w, m, true); return true;
    case FAULT_UPGRADE: change_version(w, m, META_FEATURE + 1); return f->n == 1;
    case FAULT_ENGINE_ERROR: m->engine_error_next = m->life != NULL; return false;
    case FAULT_FLIP_LIVE: flip(w, m, f, false); return false;
    case FAULT_CLOCK_RATE: change_clock(w, m, f); return true;
    case FAULT_WALL_JUMP: change_clock(w, m, f); return false;
    case FAULT_PAUSE:
        w->report.marks[MARK_pauses]++;
        m->paused++;
        return true;
    case FAULT_STOP: world_stop(w, m->index); return false;
    case FAULT_FAILOVER: clients_failover(w, m->index); return false;
    case FAULT_DEAF_AT_FAILOVER:
        w->waiting[moment_of(f)] = number + 1;
        clients_failover(w, m->index);
        return false;
    case FAULT_KILL_NEW_LEADER:
    case FAULT_CUT_AT_JOINT: w->waiting[moment_of(f)] = number + 1; return false;
    case FAULT_SERVER:
        clients_server(w, (enum server_order)f->n, f->a, f->b);
        return false;
    case FAULT_REPLICAS: clients_replicas(w, (uint32_t)f->n); return false;
    case FAULT_ALTER: clients_alter(w, (uint32_t)f->n); return false;
    case FAULT_DISASTER: disaster_begins(w, number); return true;
    case FAULT_FORCE: begin_trouble(w, number, m->index); return true;
    case FAULT_START:
        if (!m->started && !m->removed && m->power) world_start(w, m->index);
        return false;
    case FAULT_KIND_END: break;
    }
    check(false);
    return false;
}

static void end_fault(struct world *w, uint64_t number, struct machine *m)
{
    const struct fault *f = &w->story.faults[number];

    switch (f->kind) {
    case FAULT_AWAY:
        m->away--;
        w->report.marks[MARK_replaced] += checks_holds_nothing(w, m->index);
        begin_again(w, m->index);
        break;
    case FAULT_KILL:
    case FAULT_POWER:
    case FAULT_POWER_ALL:
    case FAULT_KILL_NEW_LEADER:
    case FAULT_SHORTEN:
    case FAULT_FLIP: begin_again(w, m->index); break;
    case FAULT_CUT: cut(w, f, false, true); break;
    case FAULT_CUT_BOTH:
    case FAULT_CUT_AT_JOINT: cut(w, f, true, true); break;
    case FAULT_CUT_CLIENTS: cut_clients(w, m->index, true); break;
    case FAULT_SLOW_LINKS: w->net.slow[m->index] /= (uint32_t)f->n; break;
    case FAULT_FRAMES: w->net.frames_per_thousand -= 120; break;
    case FAULT_DISK_SLOW: m->disk_factor /= (uint32_t)f->n; break;
    case FAULT_DISK_FULL: m->disk_full--; break;
    case FAULT_CLOCK_RATE: change_rate(m, 0); break;
    case FAULT_PAUSE:
        if (--m->paused == 0) world_wake(m);
        break;
    case FAULT_WRONG_SECRET: change_secret(w, m, false); break;
    case FAULT_UPGRADE: change_version(w, m, META_FEATURE); break;
    case FAULT_SPOIL:
    case FAULT_SPOIL_LIVE: disk_mend(&m->disk); break;
    case FAULT_BREAK:
    case FAULT_DISK_STALL:
    case FAULT_SYNC_ERROR:
    case FAULT_ENGINE_ERROR:
    case FAULT_FLIP_LIVE:
    case FAULT_WALL_JUMP:
    case FAULT_STOP:
    case FAULT_FAILOVER:
    case FAULT_SERVER:
    case FAULT_REPLICAS:
    case FAULT_ALTER:
    case FAULT_START: break;
    case FAULT_DEAF_AT_FAILOVER: deafen(w, m->index, true); break;
    case FAULT_DISASTER: disaster_recovers(w); break;
    case FAULT_FORCE: end_trouble(w, number); break;
    case FAULT_KIND_END: check(false); break;
    }
}

static void say_fault(struct world *w, uint64_t number, const char *what)
{
    if (!w->verbose) return;
    struct buf text = buf_new(&w->mem);
    fault_tell(&text, (uint32_t)number, &w->story.faults[number]);
    world_say(w, "---- %s%.*s", what, (int)text.len - 1, (const char *)text.at);
    buf_free(&text);
}

static void on_fault_ends(void *ctx, uint64_t number, uint64_t machine)
{
    struct world *w = ctx;

    world_trace(w, 90, number);
    say_fault(w, number, "ends");
    end_fault(w, number, &w->machines[machine]);
}

static void on_fault(void *ctx, uint64_t number, uint64_t tries);

/* A crash is worth most while something is written and not yet synced: most of them wait a
 * little for such a moment. */
static bool waits_for_its_moment(struct world *w, uint64_t number, uint64_t tries)
{
    enum { TRIES_MAX = 60 };
    const struct fault *f = &w->story.faults[number];

    if (f->kind != FAULT_KILL && f->kind != FAULT_POWER && f->kind != FAULT_POWER_ALL)
        return false;
    if (number % 4 == 0 || tries >= TRIES_MAX) return false;
    const struct machine *m =
        &w->machines[f->kind == FAULT_POWER_ALL ? number % w->plan->machines
                                                : machine_of(w, f)];
    if (m->life == NULL || m->disk.n_writes > 0) return false;
    const uint64_t later = prng_range(&w->faults, 100000, 4 * MS_NS);
    timeline_at(&w->time, w->time.now_ns + later, on_fault, w, number, tries + 1);
    return true;
}

static void on_fault(void *ctx, uint64_t number, uint64_t tries)
{
    struct world *w = ctx;
    const struct fault *f = &w->story.faults[number];

    if (waits_for_its_moment(w, number, tries)) return;
    const bool one = f->kind != FAULT_CUT && f->kind != FAULT_CUT_BOTH &&
                     f->kind != FAULT_FRAMES && f->kind != FAULT_POWER_ALL &&
                     f->kind != FAULT_REPLICAS && f->kind != FAULT_ALTER;
    const uint32_t machine = one ? machine_of(w, f) : 0;
    world_trace(w, 91, number);
    say_fault(w, number, "begins");
    if (begin_fault(w, number, &w->machines[machine])) ends_later(w, number, machine);
}

/* A process that ended by itself is started again, as an operator's supervisor would. */
static void on_supervisor(void *ctx, uint64_t a, uint64_t b)
{
    struct world *w = ctx;

    (void)a;
    (void)b;
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        struct machine *m = &w->machines[i];
        if (!m->wanted || m->life != NULL || !m->power || m->recovering) continue;
        world_start(w, i);
    }
    const uint64_t again = prng_range(&w->faults, 5 * SEC_NS, 8 * SEC_NS);
    timeline_at(&w->time, w->time.now_ns + again, on_supervisor, w, 0, 0);
}

void faults_plan(struct world *w)
{
    w->storm_ns = w->time.now_ns;
    for (uint32_t i = 0; i < w->story.n; i++)
        if (!w->story.left_out[i])
            timeline_at(&w->time, w->storm_ns + w->story.faults[i].at_ns, on_fault, w, i,
                        0);
    timeline_at(&w->time, w->storm_ns + 5 * SEC_NS, on_supervisor, w, 0, 0);
}

/* Faults still in force end by themselves: none lasts longer than the longest of its plan.
 * What is down by then is started. */
void world_heal(struct world *w)
{
    uint64_t last = w->time.now_ns;

    for (uint32_t i = 0; i < w->story.n; i++) {
        const struct fault *f = &w->story.faults[i];
        const uint64_t end = w->storm_ns + f->at_ns + f->lasts_ns + SEC_NS;
        if (!w->story.left_out[i] && end > last) last = end;
    }
    (void)world_run(w, last, NULL);
    w->calm = true;
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        struct machine *m = &w->machines[i];
        if (m->away > 0) continue;
        m->power = true;
        m->sync_error_next = m->engine_error_next = false;
        if (m->life == NULL && !m->removed) world_start(w, i);
    }
    world_say(w, "==== calm");
}
