/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#define DISK_SLOWEST_NS (10 * SEC_NS)

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sim/checks.h"
#include "sim/client.h"
#include "sim/disaster.h"
#include "sim/roam.h"

enum { FILES_MAX = DISK_FILES_MAX, READ_BYTES_MAX = 64 * 1024 };

/* ---- telling ---- */

void world_say(struct world *w, const char *format, ...)
{
    if (!w->verbose) return;
    va_list args;
    va_start(args, format);
    printf("%12.6f  ", (double)w->time.now_ns / 1e9);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

_Noreturn void world_fail(struct world *w, const char *format, ...)
{
    struct report *r = &w->report;
    va_list args;

    va_start(args, format);
    const int at = snprintf(r->text, sizeof r->text,
                            "at %.6f s: ", (double)w->time.now_ns / 1e9);
    vsnprintf(r->text + at, sizeof r->text - (size_t)at, format, args);
    va_end(args);
    r->verdict = REPORT_FAILED;
    r->ended_ns = w->time.now_ns;
    r->happened = w->time.happened;
    world_say(w, "FAILED %s", r->text);
    report_end(r);
}

void world_trace(struct world *w, uint64_t a, uint64_t b)
{
    const uint64_t all[4] = {w->report.trace, w->time.now_ns, a, b};

    w->report.trace = hash64((struct bytes){(const uint8_t *)all, sizeof all});
}

/* ---- memory ---- */

/* Fresh memory holds the salt, and every block has a few bytes more than asked for: what
 * reads it unset, or orders by address, runs another course under another salt. */
static void *resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    const uint8_t salt = (uint8_t)(uintptr_t)ctx;

    if (size_new == 0) {
        free(old);
        return NULL;
    }
    uint8_t *fresh = realloc(old, size_new + (salt & 0x38u) * 2);
    if (fresh == NULL) abort();
    if (size_new > size_old) memset(fresh + size_old, salt, size_new - size_old);
    return fresh;
}

/* ---- clocks ---- */

static uint64_t local_ns(const struct machine *m, uint64_t now_ns)
{
    const uint64_t passed = now_ns - m->anchor_ns;
    const uint64_t rate = (uint64_t)(1000000 + m->rate_ppm);

    return m->anchor_local_ns + passed / 1000000 * rate +
           passed % 1000000 * rate / 1000000;
}

/* When this machine's clock will show local_ns, at the earliest. */
static uint64_t world_ns(const struct machine *m, uint64_t wanted_ns)
{
    const uint64_t rate = (uint64_t)(1000000 + m->rate_ppm);

    if (wanted_ns <= m->anchor_local_ns) return m->anchor_ns;
    const uint64_t ahead = wanted_ns - m->anchor_local_ns;
    return m->anchor_ns + ahead / rate * 1000000 + ahead % rate * 1000000 / rate + 2;
}

struct wall world_wall(const struct machine *m)
{
    const int64_t now_ms = (int64_t)(m->world->time.now_ns / MS_NS);

    return (struct wall){INT64_C(1700000000000) + now_ms + m->wall_offset_ms};
}

struct instant world_instant(const struct machine *m)
{
    return (struct instant){local_ns(m, m->world->time.now_ns)};
}

/* ---- inputs and turns ---- */

static void on_turn(void *ctx, uint64_t index, uint64_t life);

static uint64_t key_of(const struct machine *m)
{
    return (uint64_t)m->index;
}

static void plan_turn(struct machine *m, uint64_t at_ns)
{
    struct life *l = m->life;

    if (l->turn_planned) return;
    l->turn_planned = true;
    timeline_at(&m->world->time, at_ns, on_turn, m->world, key_of(m), l->number);
}

/* Soon, not at once: so inputs gather, as they do while a loop is busy. */
void world_wake(struct machine *m)
{
    struct world *w = m->world;

    if (m->life == NULL) return;
    plan_turn(m, w->time.now_ns + prng_below(&w->servers, 60000));
}

static void give(struct machine *m, const struct input *input)
{
    struct life *l = m->life;

    if (l->n_inputs == l->inputs_cap) {
        const uint32_t cap = l->inputs_cap > 0 ? l->inputs_cap * 2 : 64;
        l->inputs = mem_resize(&m->world->mem, l->inputs,
                               l->inputs_cap * sizeof *l->inputs,
                               cap * sizeof *l->inputs);
        l->inputs_cap = cap;
    }
    l->inputs[l->n_inputs++] = *input;
    world_wake(m);
}

static void on_wake(void *ctx, uint64_t index, uint64_t number)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[index];

    if (m->life == NULL || m->life->wake_number != number) return;
    plan_turn(m, w->time.now_ns);
}

/* The process of this end of the stream, if it still lives and knows the connection. */
static struct life *life_of(struct world *w, const struct net_stream *s, int side)
{
    const struct net_end *e = &s->ends[side];

    if (e->node >= CLIENT_NODE) return NULL;
    struct life *l = w->machines[e->node].life;
    if (l == NULL || l->number != e->life) return NULL;
    if (hmap_find(&l->streams, e->conn.v) != s) return NULL;
    return l;
}

static void read_some(struct machine *m, struct net_stream *s, int side)
{
    struct world *w = m->world;
    struct life *l = m->life;
    const struct conn_id conn = s->ends[side].conn;
    size_t budget = READ_BYTES_MAX;

    if (hmap_find(&l->paused, conn.v) != NULL) return;
    for (struct buf *in = net_readable(s, side); in->len > 0 && budget > 0;) {
        size_t room = 0;
        uint8_t *to = s->peer ? server_peer_space(l->server, conn, &room)
                              : server_client_space(l->server, conn, &room);
        size_t len = in->len < room ? in->len : room;
        if (len > budget) len = budget;
        if (room == 0 || to == NULL) return; /* closing: it wants nothing more */
        memcpy(to, in->at, len);
        world_trace(w, s->id * 2 + (uint64_t)side, hash64((struct bytes){in->at, len}));
        if (s->peer)
            server_peer_data(l->server, conn, len);
        else
            server_client_data(l->server, conn, len);
        net_took(&w->net, s, side, len);
        budget -= len;
    }
    if (net_readable(s, side)->len > 0)
        give(m, &(struct input){.kind = INPUT_READ, .stream = s, .side = side});
}

static void hand_in_opened(struct machine *m, const struct input *in)
{
    struct life *l = m->life;
    const struct net_stream *s = in->stream;
    const uint32_t other = s->ends[1 - in->side].node;
    char address[32];

    if (other >= CLIENT_NODE)
        snprintf(address, sizeof address, "10.0.1.%u:40000", other);
    else
        snprintf(address, sizeof address, "10.0.0.%u:40000", other + 1);
    const struct conn_id conn = s->ends[in->side].conn;
    if (s->peer)
        server_peer_open(l->server, conn, bytes_of_str(address), in->side == 0);
    else
        server_client_open(l->server, conn, bytes_of_str(address), false);
}

static void hand_in_stream(struct machine *m, const struct input *in)
{
    struct life *l = m->life;
    struct net_stream *s = in->stream;

    if (life_of(m->world, s, in->side) == NULL) return;
    const struct conn_id conn = s->ends[in->side].conn;
    switch (in->kind) {
    case INPUT_OPEN: hand_in_opened(m, in); break;
    case INPUT_READ: read_some(m, s, in->side); break;
    case INPUT_WRITABLE: server_writable(l->server, conn); break;
    case INPUT_CLOSED:
    case INPUT_DIAL_FAILED:
        read_some(m, s, in->side);
        (void)hmap_remove(&l->streams, conn.v);
        (void)hmap_remove(&l->paused, conn.v);
        net_close(&m->world->net, s, in->side);
        if (s->peer)
            server_peer_closed(l->server, conn, in->why);
        else
            server_client_closed(l->server, conn);
        break;
    case INPUT_WAL_DONE:
    case INPUT_JOB_DONE:
    case INPUT_ROLLBACK_DONE: break;
    }
}

static void hand_in(struct machine *m, const struct input *in)
{
    struct life *l = m->life;

    switch (in->kind) {
    case INPUT_WAL_DONE: server_wal_done(l->server, in->a, in->error, in->b); break;
    case INPUT_JOB_DONE: server_job_done(l->server, in->job, in->error); break;
    case INPUT_ROLLBACK_DONE:
        server_rollback_done(l->server, (struct group_id){(uint32_t)in->a});
        break;
    case INPUT_OPEN:
    case INPUT_READ:
    case INPUT_WRITABLE:
    case INPUT_CLOSED:
    case INPUT_DIAL_FAILED: hand_in_stream(m, in); break;
    }
}

static void perform_all(struct machine *m, const struct server_actions *out);

static void turn(struct machine *m)
{
    struct world *w = m->world;
    struct life *l = m->life;
    const uint32_t n = l->n_inputs;
    uint32_t done = m->one_input_at_once && n > 1 ? 1 : n;

    server_time(l->server, world_instant(m), world_wall(m));
    /* Inputs given while these are handed in are for the next turn. */
    for (uint32_t i = 0; i < done; i++) {
        const struct input in = l->inputs[i];
        world_trace(w, l->number, (uint64_t)in.kind + in.a * 8);
        hand_in(m, &in);
    }
    l->n_inputs -= done;
    if (l->n_inputs > 0)
        memmove(l->inputs, l->inputs + done, l->n_inputs * sizeof *l->inputs);
    struct server_actions out = {0};
    server_turn_end(l->server, &out);
    const struct instant wake = out.wake;
    const uint64_t number = l->number;
    perform_all(m, &out);
    if (m->life == NULL || m->life->number != number) return;

    if (l->n_inputs > 0) world_wake(m);
    if (m->recovering) return; /* it waits for its disk and nothing else */
    l->wake_number++;
    if (wake.ns != 0)
        timeline_at(&w->time, world_ns(m, wake.ns), on_wake, w, key_of(m),
                    l->wake_number);
    checks_after_turn(w, m->index);
}

static void on_turn(void *ctx, uint64_t index, uint64_t number)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[index];

    if (m->life == NULL || m->life->number != number) return;
    m->life->turn_planned = false;
    if (m->paused > 0) return; /* woken when that ends */
    turn(m);
}

/* ---- disks ---- */

static void on_op_done(void *ctx, uint64_t index, uint64_t number);

static uint64_t op_latency(struct machine *m, const struct wal_op *op)
{
    struct world *w = m->world;
    const struct plan *plan = w->plan;
    uint64_t ns = prng_range(&w->disks, 5, 60) * 1000;

    if (op->kind == WAL_OP_SYNC || op->kind == WAL_OP_CREATE ||
        op->kind == WAL_OP_REMOVE) {
        const uint64_t a = prng_range(&w->disks, plan->sync_us_low, plan->sync_us_high);
        const uint64_t b = prng_range(&w->disks, plan->sync_us_low, plan->sync_us_high);
        ns = (a < b ? a : b) * 1000;
    }
    ns *= m->disk_factor;
    if (ns > DISK_SLOWEST_NS) ns = DISK_SLOWEST_NS; /* several faults at once multiply */
    if (m->disk_stalled_until_ns > w->time.now_ns)
        ns += m->disk_stalled_until_ns - w->time.now_ns;
    return ns;
}

static void start_op(struct machine *m)
{
    struct world *w = m->world;
    const struct wal_op *op = &m->life->ops[0];

    timeline_at(&w->time, w->time.now_ns + op_latency(m, op), on_op_done, w, key_of(m),
                m->life->number);
}

static int perform_op(struct machine *m, const struct wal_op *op, uint64_t *got)
{
    struct world *w = m->world;

    switch (op->kind) {
    case WAL_OP_CREATE:
        if (m->disk_full > 0) {
            w->report.marks[MARK_creates_refused]++;
            return ENOSPC;
        }
        return disk_create(&m->disk, op->file, op->length);
    case WAL_OP_READ: {
        const int error = disk_read(&m->disk, op->file, op->offset, op->into, op->length,
                                    got);
        if (error == EIO) w->report.marks[MARK_read_errors]++;
        if (error == EIO) m->life->saw_read_error = true;
        return error;
    }
    case WAL_OP_WRITE: return disk_write(&m->disk, op->file, op->offset, op->data);
    case WAL_OP_SYNC:
        if (m->sync_error_next) {
            m->sync_error_next = false;
            m->may_exit++;
            w->report.marks[MARK_sync_errors]++;
            disk_sync_failed(&m->disk, op->file, &w->disks);
            return EIO;
        }
        return disk_sync(&m->disk, op->file);
    case WAL_OP_REMOVE: return disk_remove(&m->disk, op->file);
    }
    check(false);
    return EINVAL;
}

static void on_op_done(void *ctx, uint64_t index, uint64_t number)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[index];
    struct life *l = m->life;

    if (l == NULL || l->number != number) return;
    if (m->disk_stalled_until_ns > w->time.now_ns) { /* it began to stall meanwhile */
        timeline_at(&w->time, m->disk_stalled_until_ns, on_op_done, w, index, number);
        return;
    }
    const struct wal_op op = l->ops[0];
    uint64_t got = 0;
    const int error = perform_op(m, &op, &got);
    world_trace(w, number * 16 + (uint64_t)op.kind,
                op.offset + ((uint64_t)op.file << 40));
    memmove(l->ops, l->ops + 1, (l->n_ops - 1) * sizeof *l->ops);
    l->n_ops--;
    give(m,
         &(struct input){.kind = INPUT_WAL_DONE, .a = op.id, .b = got, .error = error});
    if (l->n_ops > 0) start_op(m);
}

static void queue_op(struct machine *m, const struct wal_op *op)
{
    struct life *l = m->life;

    if (l->n_ops == l->ops_cap) {
        const uint32_t cap = l->ops_cap > 0 ? l->ops_cap * 2 : 16;
        l->ops = mem_resize(&m->world->mem, l->ops, l->ops_cap * sizeof *l->ops,
                            cap * sizeof *l->ops);
        l->ops_cap = cap;
    }
    l->ops[l->n_ops++] = *op;
    if (l->n_ops == 1) start_op(m);
}

/* What the log's thread was doing when its process was killed is done in part. */
static void leave_op_half_done(struct machine *m)
{
    struct world *w = m->world;
    const struct life *l = m->life;

    if (l->n_ops == 0) return;
    const struct wal_op *op = &l->ops[0];
    if (op->kind == WAL_OP_WRITE && op->data.len > 0) {
        const size_t len = (size_t)prng_below(&w->disks, op->data.len + 1);
        (void)disk_write(&m->disk, op->file, op->offset,
                         (struct bytes){op->data.at, len});
    }
    if (op->kind == WAL_OP_CREATE && m->disk_full == 0 && prng_chance(&w->disks, 500))
        (void)disk_create(&m->disk, op->file, prng_below(&w->disks, op->length + 1));
    if (op->kind == WAL_OP_REMOVE && prng_chance(&w->disks, 500))
        (void)disk_remove(&m->disk, op->file);
}

/* ---- jobs ---- */

static void on_job_done(void *ctx, uint64_t index, uint64_t number);

static void start_job(struct machine *m)
{
    struct world *w = m->world;
    const uint64_t us = prng_range(&w->disks, 200, 20000) * m->disk_factor;

    timeline_at(&w->time, w->time.now_ns + us * 1000, on_job_done, w, key_of(m),
                m->life->number);
}

static int job_fails(struct machine *m, const struct kv_job *job)
{
    if (m->life->engine_failed)
        world_fail(m->world, "%s goes on with an engine that failed", m->name);
    if (!job->writes) return 0;
    if (m->disk_full > 0) return ENOSPC;
    if (!m->engine_error_next) return 0;
    m->engine_error_next = false;
    m->life->engine_failed = true;
    m->may_exit++;
    m->world->report.marks[MARK_engine_errors]++;
    return EIO;
}

static void on_job_done(void *ctx, uint64_t index, uint64_t number)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[index];
    struct life *l = m->life;

    if (l == NULL || l->number != number) return;
    if (m->disk_stalled_until_ns > w->time.now_ns) {
        timeline_at(&w->time, m->disk_stalled_until_ns, on_job_done, w, index, number);
        return;
    }
    struct kv_job *job = l->jobs[0];
    const int fail = job_fails(m, job);
    const int error = kv_memory_run(m->kv, job, fail);
    if (error == 0 && job->writes) w->report.marks[MARK_checkpoints]++;
    world_trace(w, number * 16 + 9, job->id);
    memmove(l->jobs, l->jobs + 1, (l->n_jobs - 1) * sizeof *l->jobs);
    l->n_jobs--;
    give(m, &(struct input){.kind = INPUT_JOB_DONE, .job = job, .error = error});
    if (l->n_jobs > 0) start_job(m);
}

static void queue_job(struct machine *m, struct kv_job *job)
{
    struct life *l = m->life;

    if (l->n_jobs == l->jobs_cap) {
        const uint32_t cap = l->jobs_cap > 0 ? l->jobs_cap * 2 : 8;
        l->jobs = mem_resize(&m->world->mem, l->jobs,
                             l->jobs_cap * sizeof(struct kv_job *),
                             cap * sizeof(struct kv_job *));
        l->jobs_cap = cap;
    }
    l->jobs[l->n_jobs++] = job;
    if (l->n_jobs == 1) start_job(m);
}

/* ---- actions ---- */

static uint32_t machine_at(const struct world *w, const char *address)
{
    for (uint32_t i = 0; i < w->plan->machines; i++)
        if (strcmp(w->machines[i].peer_address, address) == 0) return i;
    return UINT32_MAX;
}

static void dial(struct machine *m, struct conn_id conn, const char *address)
{
    struct world *w = m->world;
    const uint32_t target = machine_at(w, address);

    if (target == UINT32_MAX)
        world_fail(w, "%s dials \"%s\", which is nobody", m->name, address);
    struct net_stream *s = net_dial(&w->net, m->index, m->life->number, conn, target,
                                    true);
    (void)hmap_put(&m->life->streams, conn.v, s);
    world_say(w, "     %s dials %s, stream %" PRIu64, m->name, address, s->id);
}

static int side_of(const struct machine *m, const struct net_stream *s,
                   struct conn_id conn)
{
    const struct net_end *e = &s->ends[0];

    return e->node == m->index && e->life == m->life->number && e->conn.v == conn.v ? 0
                                                                                    : 1;
}

static void perform_send(struct machine *m, const struct server_action *a)
{
    struct life *l = m->life;
    struct net_stream *s = hmap_find(&l->streams, a->conn.v);

    /* Closed by the other side in this very turn: nobody takes the bytes, nobody waits. */
    if (s == NULL) return;
    const size_t taken = net_send(&m->world->net, s, side_of(m, s, a->conn), a->bytes);
    server_sent(l->server, a->conn, taken);
    if (taken > 0 && a->more) world_wake(m);
}

static void perform_close(struct machine *m, struct conn_id conn)
{
    struct life *l = m->life;
    struct net_stream *s = hmap_find(&l->streams, conn.v);

    if (s == NULL) return;
    const int side = side_of(m, s, conn);
    (void)hmap_remove(&l->streams, conn.v);
    (void)hmap_remove(&l->paused, conn.v);
    net_close(&m->world->net, s, side);
}

static void perform_exit(struct machine *m, int code, const char *why)
{
    struct world *w = m->world;

    w->report.marks[MARK_exits]++;
    world_say(w, "%s exits with %d: %s", m->name, code, why);
    if (disaster_exit(m, code, why)) return;
    if (code == 0 && !m->life->stopping)
        world_fail(w, "%s ended without being asked", m->name);
    if (code != 0 && m->removal_asked && strstr(why, "was removed") != NULL) {
        w->report.marks[MARK_removed]++;
        m->removed = true;
        m->started = m->wanted = false;
        m->may_exit++;
    }
    if (code != 0 && strstr(why, "start the newer version") != NULL &&
        w->time.now_ns < m->put_back_until_ns) {
        w->report.marks[MARK_too_old]++;
        m->feature = META_FEATURE + 1;
        m->may_exit++;
    }
    const bool excused = m->may_exit > 0 || m->life->saw_read_error;
    if (code != 0 && !excused)
        world_fail(w, "%s gave up with %d, for no reason that was given it: %s", m->name,
                   code, why);
    if (code != 0 && m->may_exit > 0) m->may_exit--;
    world_kill(w, m->index, false);
}

static void perform_rollback(struct machine *m, const struct server_action *a,
                             const char *name)
{
    struct world *w = m->world;
    struct cursor in = cursor_of(a->bytes);
    uint32_t shard;

    w->report.marks[MARK_discarded]++;
    const bool named = server_rollback_shard(&in, &shard);
    check(named && shard == a->group.v);
    while (server_rollback_lines(&in, shard, &w->rolled_back))
        continue;
    world_say(w, "%s: rollback/%s", m->name, name);
    give(m, &(struct input){.kind = INPUT_ROLLBACK_DONE, .a = a->group.v});
}

static void perform(struct machine *m, const struct server_action *a, const char *text)
{
    struct world *w = m->world;
    struct life *l = m->life;

    switch (a->kind) {
    case SERVER_SEND: perform_send(m, a); break;
    case SERVER_CLOSE: perform_close(m, a->conn); break;
    case SERVER_PAUSE: {
        struct net_stream *s = hmap_find(&l->streams, a->conn.v);
        if (s != NULL) (void)hmap_put(&l->paused, a->conn.v, s);
        break;
    }
    case SERVER_RESUME: {
        struct net_stream *s = hmap_remove(&l->paused, a->conn.v);
        if (s != NULL)
            give(m, &(struct input){
                        .kind = INPUT_READ, .stream = s, .side = side_of(m, s, a->conn)});
        break;
    }
    case SERVER_DIAL:
        if (!m->recovering) dial(m, a->conn, text);
        break;
    case SERVER_WAL: queue_op(m, &a->wal_op); break;
    case SERVER_JOB: queue_job(m, a->job); break;
    case SERVER_ROLLBACK: perform_rollback(m, a, text); break;
    case SERVER_LOG:
        world_say(w, "%s: %s", m->name, text);
        checks_log_line(w, m->index, text);
        break;
    case SERVER_EXIT: perform_exit(m, a->code, text); break;
    case SERVER_READY:
        l->ready = true;
        world_say(w, "%s is ready", m->name);
        break;
    }
}

/* The list and its texts are the server's until it is called again, and a SEND calls it. */
static void perform_all(struct machine *m, const struct server_actions *out)
{
    struct world *w = m->world;
    const uint32_t n = out->n;
    const uint64_t number = m->life->number;
    struct server_action *list = mem_alloc(&w->mem, (n + 1) * sizeof *list);
    struct buf texts = buf_new(&w->mem);
    size_t *at = mem_alloc(&w->mem, (n + 1) * sizeof *at);

    for (uint32_t i = 0; i < n; i++) {
        list[i] = out->at[i];
        at[i] = texts.len;
        if (list[i].text != NULL) buf_put(&texts, list[i].text, strlen(list[i].text));
        buf_put_u8(&texts, 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (m->life == NULL || m->life->number != number) break;
        world_trace(w, (uint64_t)list[i].kind, list[i].conn.v);
        perform(m, &list[i], (const char *)texts.at + at[i]);
    }
    mem_free(&w->mem, at, (n + 1) * sizeof *at);
    mem_free(&w->mem, list, (n + 1) * sizeof *list);
    buf_free(&texts);
}

/* ---- what the net tells ---- */

static enum net_answer on_accept(void *ctx, struct net_stream *s)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[s->ends[1].node];
    struct life *l = m->life;

    if (!m->power) return NET_NOBODY;
    if (l == NULL || m->recovering) return NET_REFUSED;
    if (!s->peer && !l->ready) return NET_REFUSED;
    s->ends[1].life = l->number;
    s->ends[1].conn = (struct conn_id){l->next_conn};
    l->next_conn += 2;
    (void)hmap_put(&l->streams, s->ends[1].conn.v, s);
    return NET_ACCEPTED;
}

static void stream_input(struct world *w, struct net_stream *s, int side,
                         enum input_kind kind, const char *why)
{
    if (s->ends[side].node >= CLIENT_NODE) {
        if (s->ends[side].node >= ROAM_NODE)
            roamers_stream(w, s, kind);
        else
            clients_stream(w, s, kind);
        return;
    }
    if (life_of(w, s, side) == NULL) {
        /* Somebody who is gone was meant: its system refuses. */
        if (kind == INPUT_OPEN) net_close(&w->net, s, side);
        return;
    }
    give(&w->machines[s->ends[side].node],
         &(struct input){.kind = kind, .stream = s, .side = side, .why = why});
}

static void on_opened(void *ctx, struct net_stream *s, int side)
{
    stream_input(ctx, s, side, INPUT_OPEN, NULL);
}

static void on_failed(void *ctx, struct net_stream *s, const char *why)
{
    stream_input(ctx, s, 0, INPUT_DIAL_FAILED, why);
}

static void on_readable(void *ctx, struct net_stream *s, int side)
{
    stream_input(ctx, s, side, INPUT_READ, NULL);
}

static void on_writable(void *ctx, struct net_stream *s, int side)
{
    stream_input(ctx, s, side, INPUT_WRITABLE, NULL);
}

static void on_closed(void *ctx, struct net_stream *s, int side)
{
    stream_input(ctx, s, side, INPUT_CLOSED, "connection closed");
}

static bool on_has_power(void *ctx, uint32_t node)
{
    const struct world *w = ctx;

    return node >= CLIENT_NODE || w->machines[node].power;
}

/* ---- lives ---- */

/* Stands in for the product's HMAC: keyed, and that is all that is asked of it here. */
static void mac(struct bytes secret, struct bytes message, uint8_t out[32])
{
    for (uint64_t i = 0; i < 4; i++)
        store_u64le(out + i * 8, hash64_pair(secret, message, i + 1));
}

static struct bytes secret_of(const struct machine *m)
{
    const struct world *w = m->world;
    const bool sometimes = (w->plan->traits & PLAN_RECOVERS) != 0 && w->seed % 2 == 0;

    if ((w->plan->traits & PLAN_SECRET) == 0 && !sometimes) return (struct bytes){0};
    return m->wrong_secret ? BYTES_OF("another") : BYTES_OF("the cluster's");
}

static struct life *life_new(struct machine *m)
{
    struct world *w = m->world;
    struct life *l = mem_zero(&w->mem, sizeof *l);

    l->number = ++w->lives;
    l->mem = w->server_mem;
    l->next_conn = 1;
    l->streams = hmap_new(&w->mem);
    l->paused = hmap_new(&w->mem);
    m->life = l;
    m->lives++;
    return l;
}

void world_start(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];
    static_assert(FILES_MAX < 100000, "the list is made anew at each start");

    const uint32_t founder = w->recovered_ns > 0 ? w->survivor : 0;
    check(m->life == NULL && m->power);
    struct wal_file *files = mem_alloc(&w->mem, FILES_MAX * sizeof *files);
    const uint32_t n_files = disk_list(&m->disk, files, FILES_MAX);
    struct life *l = life_new(m);

    if (m->started) w->report.marks[MARK_restarts]++;
    m->started = true;
    m->wanted = true;
    m->anchor_ns = w->time.now_ns;
    m->anchor_local_ns = prng_range(&w->servers, 1, 100 * SEC_NS);
    const struct server_config config = {
        .recover = m->recovering ? RECOVER_DO : RECOVER_NOT,
        .name = bytes_of_str(m->name),
        .advertise_client = bytes_of_str(m->client_address),
        .advertise_peer = bytes_of_str(m->peer_address),
        .join = index == founder ? (struct bytes){0}
                                 : bytes_of_str(w->machines[founder].peer_address),
        .secret = secret_of(m),
        .version = "0.1.0",
        .feature = m->feature,
        .process_id = (uint32_t)(1000 + l->number),
        .client_port = 6379,
        .seed = prng_next(&w->servers),
        .boot = (m->boots + 1) * 1000 + index,
        .limits = m->limits,
        .mutant = w->mutant,
        .kv = kv_memory_kv(m->kv),
        .wal_files = files,
        .n_wal_files = n_files,
        .mem = &l->mem,
        .mac = mac,
        .world = w,
    };
    world_say(w, "%s starts, life %" PRIu64 ", %u log files", m->name, l->number,
              n_files);
    checks_life_begins(w, index);
    l->server = server_new(&config, world_instant(m), world_wall(m));
    mem_free(&w->mem, files, FILES_MAX * sizeof *files);
    world_wake(m);
}

static void life_free(struct world *w, struct life *l)
{
    mem_free(&w->mem, l->inputs, l->inputs_cap * sizeof *l->inputs);
    mem_free(&w->mem, l->ops, l->ops_cap * sizeof *l->ops);
    mem_free(&w->mem, l->jobs, l->jobs_cap * sizeof(struct kv_job *));
    hmap_free(&l->streams);
    hmap_free(&l->paused);
    mem_free(&w->mem, l, sizeof *l);
}

void world_kill(struct world *w, uint32_t index, bool power)
{
    struct machine *m = &w->machines[index];
    struct life *l = m->life;

    if (l != NULL) {
        leave_op_half_done(m);
        net_life_ended(&w->net, index, l->number, power);
        server_free(l->server);
        if (l->mem.used != 0)
            world_fail(w, "%s: server_free() left %zu bytes behind", m->name,
                       l->mem.used);
        checks_life_ends(w, index);
        m->life = NULL;
        life_free(w, l);
    }
    if (!power) return;
    m->power = false;
    m->boots++;
    m->sync_error_next = false;
    const struct disk_loss loss = disk_power_cut(&m->disk, &w->disks);
    w->report.marks[MARK_writes_lost] += loss.dropped;
    w->report.marks[MARK_writes_torn] += loss.torn;
}

void world_wipe(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];

    check(m->life == NULL);
    disk_free(&m->disk);
    disk_init(&m->disk, &w->mem);
    kv_memory_free(m->kv);
    m->kv = kv_memory_new(&w->mem);
    checks_wiped(w, index);
}

void world_stop(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];

    if (m->life == NULL || m->life->stopping || m->paused > 0) return;
    w->report.marks[MARK_stops]++;
    m->life->stopping = true;
    server_time(m->life->server, world_instant(m), world_wall(m));
    server_stop(m->life->server);
    world_wake(m);
}

/* ---- the world ---- */

static uint64_t pick(struct prng *p, const uint64_t *from, uint32_t n)
{
    return from[prng_below(p, n)];
}

/* Limits so small that they are hit: drawn for each machine of each seed. */
static void draw_limits(struct world *w, struct machine *m)
{
    static const uint64_t small[] = {16 << 10, 64 << 10, 256 << 10, 1 << 20};
    struct prng p = prng_for(w->seed, PRNG_LIMITS + 100 + m->index);
    struct server_limits *l = &m->limits;
    const bool tight = (w->plan->traits & PLAN_SNAPSHOTS) != 0;
    const bool large = (w->plan->traits & (PLAN_LARGE | PLAN_MIDDLING)) != 0;

    *l = server_limits_default();
    l->wal_segment_bytes = pick(&p, small, tight ? 2 : 4);
    l->wal_keep_bytes = tight ? 0 : pick(&p, small, 4);
    l->log_cache_bytes = pick(&p, small, tight ? 1 : 4);
    l->log_bytes_checkpoint = pick(&p, small, tight ? 1 : 4);
    l->table_bytes_max = prng_chance(&p, 500) ? pick(&p, small, 2) : 1 << 20;
    l->uncommitted_bytes_max = prng_chance(&p, 300) ? 64 << 10 : 4 << 20;
    if (large) l->uncommitted_bytes_max = 16 << 20;
    if ((w->plan->traits & PLAN_REPLACES) != 0) {
        struct prng once = prng_for(w->seed, PRNG_LIMITS + 50); /* the same for all */
        l->replace_after_ns = (4000 + prng_below(&once, 4000)) * MS_NS;
    }
    if ((w->plan->traits & PLAN_LONG_LOGS) != 0) l->wal_keep_bytes = 64 << 20;
    if (prng_chance(&p, 300)) l->client_output_pause_bytes = 4096;
    if ((w->plan->traits & PLAN_SINGLE_ENTRIES) != 0) l->append_entries_max = 1;
    if ((w->plan->traits & PLAN_ROAMERS) != 0) {
        struct prng once = prng_for(w->seed, PRNG_LIMITS + 50); /* the same for all */
        if (prng_chance(&once, 600)) l->once_keep_ns = 30 * SEC_NS;
        if (prng_chance(&once, 300)) l->once_max = 100;
    }
    m->one_input_at_once = (uint32_t)prng_chance(&p, 150);
    m->wall_offset_ms = (int64_t)prng_below(&p, 400) - 200;
    if ((w->plan->traits & PLAN_WILD_CLOCKS) != 0)
        m->wall_offset_ms = (int64_t)prng_below(&p, 7200000) - 3600000;
    m->rate_ppm = (int64_t)prng_below(&p, 400) - 200;
    l->quiet_after_ns = (200 + prng_below(&p, 1800)) * MS_NS;
}

static void machine_init(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];

    m->world = w;
    m->index = index;
    m->power = true;
    m->disk_factor = 1;
    m->feature = META_FEATURE;
    snprintf(m->name, sizeof m->name, "s%u", index + 1);
    snprintf(m->client_address, sizeof m->client_address, "10.0.0.%u:6379", index + 1);
    snprintf(m->peer_address, sizeof m->peer_address, "10.0.0.%u:16379", index + 1);
    disk_init(&m->disk, &w->mem);
    m->kv = kv_memory_new(&w->mem);
    draw_limits(w, m);
}

struct world *world_new(const struct plan *plan, uint64_t seed, uint8_t salt,
                        bool verbose)
{
    const struct mem mem = {.resize = resize, .ctx = (void *)(uintptr_t)salt};
    struct mem first = mem;
    struct world *w = mem_zero(&first, sizeof *w);

    w->plan = plan;
    w->seed = seed;
    w->verbose = verbose;
    w->mem = mem;
    w->server_mem = mem;
    w->rolled_back = buf_new(&w->mem);
    w->survived = buf_new(&w->mem);
    timeline_init(&w->time, &w->mem);
    w->disks = prng_for(seed, PRNG_DISK);
    w->servers = prng_for(seed, PRNG_SERVERS);
    w->faults = prng_for(seed, PRNG_FAULTS);
    story_draw(&w->story, plan, seed);

    struct prng net = prng_for(seed, PRNG_NET);
    net_init(&w->net, &w->mem, &w->time, prng_next(&net));
    w->net.user = (struct net_user){w,           on_accept,   on_opened, on_failed,
                                    on_readable, on_writable, on_closed, on_has_power};
    w->net.marks = w->report.marks;
    w->net.low_ns = (uint64_t)plan->net_us_low * 1000;
    w->net.high_ns = (uint64_t)plan->net_us_high * 1000;
    for (uint32_t i = 0; i < PLAN_FAULTS_MAX; i++)
        if (plan->faults[i].kind == FAULT_FRAMES) w->net.by_frames = true;
    for (uint32_t i = 0; i < plan->machines; i++)
        machine_init(w, i);
    w->checks = checks_new(w);
    w->clients = clients_new(w);
    w->roamers = roamers_new(w);
    return w;
}

bool world_run(struct world *w, uint64_t until_ns, bool (*until)(struct world *w))
{
    enum { EVENTS_MAX = 40000000 };

    while (until == NULL || !until(w)) {
        const struct heap_node *next = heap_min(&w->time.heap);
        if (next == NULL || next->key > until_ns) {
            w->time.now_ns = until_ns;
            return false;
        }
        (void)timeline_next(&w->time);
        if (w->time.happened > EVENTS_MAX) world_fail(w, "it does not come to rest");
    }
    return true;
}

/* ---- looking in ---- */

struct shard *world_replica(const struct machine *m, struct group_id group)
{
    if (m->life == NULL) return NULL;
    for (uint32_t i = 0;; i++) {
        struct shard *s = server_shard(m->life->server, i);
        if (s == NULL) return NULL;
        if (shard_group(s).v == group.v) return s;
    }
}

int world_leader(struct world *w, struct group_id group)
{
    struct term newest = {0};
    int leader = -1;

    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct shard *s = world_replica(&w->machines[i], group);
        if (s == NULL) continue;
        struct raft_info info;
        raft_info(shard_raft(s), &info);
        if (info.role != RAFT_LEADER || info.term.v <= newest.v) continue;
        newest = info.term;
        leader = (int)i;
    }
    return leader;
}

struct group_id world_first_group(struct world *w)
{
    struct group_id first = {0};

    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (m->life == NULL) continue;
        for (uint32_t k = 0;; k++) {
            const struct shard *s = server_shard(m->life->server, k);
            if (s == NULL) break;
            const struct group_id g = shard_group(s);
            const bool own = w->plan->policies[0] != NULL;
            if (g.v != 0 && (first.v == 0 || (own ? g.v > first.v : g.v < first.v)))
                first = g;
        }
    }
    return first;
}
