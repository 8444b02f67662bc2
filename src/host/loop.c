/* SPDX-License-Identifier: Apache-2.0 */
#include "host/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/loop_state.h"
#include "host/memory.h"

enum {
    BACKLOG = 1024,
    SECOND_SIGNAL_MS = 2000,
    ROLLBACK_AGAIN_MS = 1000,
    FINE_NS = 250000, /* no sleep is shorter: thousands of shards have deadlines */
};

struct instant loop_now(const struct loop *loop)
{
    return (struct instant){clock_monotonic_ns() - loop->start_ns};
}

/* ---- turns ---- */

static void on_soon(uv_idle_t *idle)
{
    (void)idle; /* it is enough that it is active: libuv then polls without sleeping */
}

static void do_not_sleep(struct loop *loop)
{
    check(uv_idle_start(&loop->soon, on_soon) == 0);
}

bool loop_event(struct loop *loop, const char *what, uint64_t a, uint64_t b)
{
    if (loop->exiting) return false;
    trace_put(&loop->trace, what, a, b);
    if (loop->turn_open) return true;
    loop->turn_open = true;
    /* An event must not be judged by the time of a turn that ended before a long sleep. */
    server_time(loop->server, loop_now(loop), clock_wall());
    do_not_sleep(loop);
    return true;
}

static void on_wake(uv_timer_t *timer)
{
    /* Timers come before the poll: do not sleep in it, and let the turn end after it. */
    do_not_sleep(timer->data);
}

static void on_fine(uv_poll_t *poll, int status, int events)
{
    struct loop *loop = poll->data;
    uint64_t times;

    (void)status, (void)events;
    if (read(loop->fine_fd, &times, sizeof times) != (ssize_t)sizeof times) return;
    loop->fine_ns = 0;
    do_not_sleep(loop);
}

/* One that is set to an earlier time stays: the turn that it ends sets the next. */
static void arm_fine(struct loop *loop, struct instant wake)
{
    const uint64_t soonest = loop_now(loop).ns + FINE_NS;
    const uint64_t at = loop->start_ns + (wake.ns < soonest ? soonest : wake.ns);
    const struct itimerspec spec = {
        .it_value = {(time_t)(at / SEC_NS), (long)(at % SEC_NS)},
    };

    if (loop->fine_ns != 0 && loop->fine_ns <= at) return;
    check(timerfd_settime(loop->fine_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    loop->fine_ns = at;
}

static void arm_wake(struct loop *loop, struct instant wake)
{
    const struct instant now = loop_now(loop);

    if (wake.ns == 0) {
        uv_timer_stop(&loop->wake);
    } else if (wake.ns <= now.ns) {
        do_not_sleep(loop);
    } else if (wake.ns < now.ns + MS_NS) {
        uv_timer_stop(&loop->wake);
        arm_fine(loop, wake);
    } else {
        uv_update_time(&loop->uv);
        uv_timer_start(&loop->wake, on_wake, (wake.ns - now.ns + MS_NS - 1) / MS_NS, 0);
    }
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

/* What was sent gets a moment to reach the clients; the last connection that closes stops
 * the loop. */
static void begin_exit(struct loop *loop, const struct server_action *a)
{
    uint64_t at = 0, id;
    void *value;

    loop->exiting = true;
    loop->exit_code = a->code;
    if (a->text != NULL && a->text[0] != 0)
        log_line(loop->log, a->code == 0 ? LOG_INFO : LOG_ERROR, a->text);
    /* Closing changes the map that is walked: each round takes the first that is left. */
    while (hmap_next(&loop->conns, &at, &id, &value)) {
        struct host_conn *c = value;
        if (c->state != CONN_LINGERING) {
            conn_give_up(c);
            at = 0;
        }
    }
    close_handle((uv_handle_t *)&loop->client_listener, NULL);
    close_handle((uv_handle_t *)&loop->peer_listener, NULL);
    uv_idle_stop(&loop->soon);
    uv_timer_stop(&loop->wake);
    uv_timer_stop(&loop->rollback_again);
    if (loop->conns.count == 0) uv_stop(&loop->uv);
}

static void listen_for_clients(struct loop *loop)
{
    char text[CONFIG_ENDPOINT_TEXT];

    endpoint_text(&loop->client, text);
    const int error = uv_listen((uv_stream_t *)&loop->client_listener, BACKLOG,
                                conn_on_accept);
    if (error != 0) {
        char why[LOOP_ERROR_MAX];
        snprintf(why, sizeof why, "cannot listen for clients on %s: %s", text,
                 uv_strerror(error));
        begin_exit(loop, &(struct server_action){.code = 1, .text = why});
        return;
    }
    log_linef(loop->log, LOG_INFO, "ready: clients are served on %s", text);
}

static void on_rollback_again(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    struct kv_job *job;

    while ((job = rollback_take(&loop->rollback_late)) != NULL)
        job_thread_push(loop->jobs, job);
}

/* Told once, and then when it is there: a full disk would fill the operator's log, too. */
static void rollback_failed(struct loop *loop, const struct job_done *done)
{
    if (!rollback_is_late(done->job))
        log_linef(
            loop->log, LOG_ERROR,
            "rollback/%s could not be written: %s; it is tried again every second. "
            "Mend that before this server is stopped: what a snapshot took the place "
            "of is kept in memory only",
            rollback_name(done->job), strerror(done->error));
    rollback_put(&loop->rollback_late, done->job);
    if (!loop->exiting)
        uv_timer_start(&loop->rollback_again, on_rollback_again, ROLLBACK_AGAIN_MS, 0);
}

static void rollback_done(struct loop *loop, const struct job_done *done)
{
    const struct group_id group = rollback_group(done->job);

    if (done->error != 0) {
        rollback_failed(loop, done);
        return;
    }
    if (rollback_is_late(done->job))
        log_linef(loop->log, LOG_INFO, "rollback/%s is written now",
                  rollback_name(done->job));
    loop->rollback_files = rollback_count(loop->rollback_dir);
    rollback_free(done->job);
    if (loop_event(loop, "rollback", group.v, 0))
        server_rollback_done(loop->server, group);
}

uint32_t loop_rollback_files(const struct loop *loop)
{
    return loop->rollback_files;
}

static void perform(struct loop *loop, const struct server_action *a)
{
    struct host_conn *c = hmap_find(&loop->conns, a->conn.v);

    switch (a->kind) {
    case SERVER_SEND:
        if (c != NULL) conn_send(c, a->bytes);
        break;
    case SERVER_CLOSE:
        if (c != NULL) conn_give_up(c);
        break;
    case SERVER_PAUSE:
        if (c != NULL) conn_read(c, false);
        break;
    case SERVER_RESUME:
        if (c != NULL) conn_read(c, true);
        break;
    case SERVER_DIAL: dial_begin(conn_new(loop, a->conn, false), a->text); break;
    case SERVER_WAL: break; /* handed over before all others */
    case SERVER_JOB: job_thread_push(loop->jobs, a->job); break;
    case SERVER_ROLLBACK:
        job_thread_push(loop->jobs,
                        rollback_job(loop->rollback_dir, a->group, a->text, a->bytes));
        break;
    case SERVER_LOG: log_line(loop->log, a->level, a->text); break;
    case SERVER_EXIT: begin_exit(loop, a); break;
    case SERVER_READY: listen_for_clients(loop); break;
    }
}

/* The log goes first: it is the longest way, and it runs while the rest is performed. */
static void hand_over_log(struct loop *loop, const struct server_actions *actions)
{
    for (uint32_t i = 0; i < actions->n; i++) {
        if (actions->at[i].kind != SERVER_WAL) continue;
        const struct wal_op *op = &actions->at[i].wal_op;
        wal_thread_push(op->kind == WAL_OP_CREATE ? loop->maker : loop->wal, op);
    }
    wal_thread_kick(loop->wal);
    wal_thread_kick(loop->maker);
}

/* What performing the actions has told.  It could not be told before: the actions and what
 * they point to are good only until the server is called again. */
static void tell_results(struct loop *loop)
{
    for (size_t i = 0; i < loop->n_sent; i++) {
        const struct sent *sent = &loop->sent[i];
        struct host_conn *c = hmap_find(&loop->conns, sent->conn.v);
        if (c == NULL || c->state != CONN_OPEN) continue;
        c->unsent.len = 0;
        if (!loop_event(loop, "sent", sent->conn.v, sent->taken)) break;
        server_sent(loop->server, sent->conn, sent->taken);
    }
    for (size_t i = 0; i < loop->n_failed; i++)
        conn_lost(loop->failed[i], uv_strerror(loop->failed[i]->error));
    loop->n_sent = loop->n_failed = 0;
}

static void on_check(uv_check_t *handle)
{
    struct loop *loop = handle->data;
    struct server_actions actions = {0};

    if (loop->exiting) return;
    uv_idle_stop(&loop->soon);
    server_time(loop->server, loop_now(loop), clock_wall());
    server_turn_end(loop->server, &actions);
    trace_put(&loop->trace, "turn", actions.n, actions.wake.ns);
    loop->turn_open = false;
    arm_wake(loop, actions.wake);

    hand_over_log(loop, &actions);
    for (uint32_t i = 0; i < actions.n && !loop->exiting; i++)
        perform(loop, &actions.at[i]);
    tell_results(loop);
}

/* ---- what the threads and the operator say ---- */

static void take_wal_done(struct loop *loop, struct wal_thread *thread)
{
    const struct wal_thread_done *done;
    const size_t n = wal_thread_take(thread, &done);

    for (size_t i = 0; i < n; i++) {
        const uint64_t took_ms = done[i].took_ns / MS_NS;
        /* Making a segment writes all of it, and takes its time on any disk. */
        if (took_ms >= SLOW_DISK_MS && done[i].kind != WAL_OP_CREATE)
            log_linef(loop->log, LOG_WARNING,
                      "the disk is slow: a %s of the log took %llu ms",
                      done[i].kind == WAL_OP_SYNC ? "sync" : "read or write",
                      (unsigned long long)took_ms);
        if (!loop_event(loop, "wal done", done[i].op, (uint64_t)done[i].error)) return;
        server_wal_done(loop->server, done[i].op, done[i].error, done[i].got);
    }
}

static void on_wal_done(uv_async_t *async)
{
    struct loop *loop = async->data;

    take_wal_done(loop, loop->wal);
    take_wal_done(loop, loop->maker);
}

static void on_job_done(uv_async_t *async)
{
    struct loop *loop = async->data;
    struct job_done done;

    while (job_thread_take(loop->jobs, &done)) {
        if (rollback_is(done.job)) {
            rollback_done(loop, &done);
            continue;
        }
        if (!loop_event(loop, "job done", done.job->id, (uint64_t)done.error)) return;
        server_job_done(loop->server, done.job, done.error);
    }
}

/* A second signal is an operator who does not want to wait; one that comes right behind the
 * first is usually the terminal's and a supervisor's for the same Ctrl-C. */
static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct loop *loop = handle->data;
    const uint64_t now_ns = clock_monotonic_ns();

    if (loop->stopping) {
        if (now_ns - loop->stop_ns < SECOND_SIGNAL_MS * MS_NS || loop->exiting) return;
        begin_exit(loop,
                   &(struct server_action){
                       .code = 1, .text = "second signal: ended without a hand-over"});
        return;
    }
    if (!loop_event(loop, "stop", (uint64_t)number, 0)) return;
    loop->stopping = true;
    loop->stop_ns = now_ns;
    log_linef(loop->log, LOG_INFO, "stopping (%s)",
              number == SIGINT ? "SIGINT" : "SIGTERM");
    server_stop(loop->server);
}

static void on_ignored_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
}

static void notify(void *ctx)
{
    check(uv_async_send(ctx) == 0);
}

/* ---- making and ending ---- */

/* A taken port shows only when a socket listens on it, or on asking for its address. */
static int bind_to(struct loop *loop, uv_tcp_t *listener, const struct endpoint *e)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_protocol = IPPROTO_TCP,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct sockaddr_storage at;
    int len = sizeof at;
    char port[8];
    uv_getaddrinfo_t resolve;

    check(uv_tcp_init(&loop->uv, listener) == 0);
    listener->data = loop;
    snprintf(port, sizeof port, "%u", (unsigned)e->port);
    int error = uv_getaddrinfo(&loop->uv, &resolve, NULL, e->host, port, &hints);
    if (error != 0) return error;
    error = uv_tcp_bind(listener, resolve.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(resolve.addrinfo);
    if (error == 0) error = uv_tcp_getsockname(listener, (struct sockaddr *)&at, &len);
    return error;
}

static bool bind_or_say(struct loop *loop, uv_tcp_t *listener, const struct endpoint *e,
                        const char *flag, char why[LOOP_ERROR_MAX])
{
    char text[CONFIG_ENDPOINT_TEXT];
    int error = bind_to(loop, listener, e);

    if (error == 0 && listener == &loop->peer_listener)
        error = uv_listen((uv_stream_t *)listener, BACKLOG, conn_on_accept);
    if (error == 0) return true;
    endpoint_text(e, text);
    if (error == UV_EADDRINUSE)
        snprintf(why, LOOP_ERROR_MAX,
                 "port %u is in use by another program (%s %s): stop that one, or choose "
                 "another port with %s",
                 (unsigned)e->port, flag, text, flag);
    else
        snprintf(why, LOOP_ERROR_MAX, "cannot listen on %s (%s): %s", text, flag,
                 uv_strerror(error));
    return false;
}

static void init_handles(struct loop *loop)
{
    uv_loop_t *uv = &loop->uv;

    check(uv_check_init(uv, &loop->check) == 0);
    check(uv_idle_init(uv, &loop->soon) == 0);
    check(uv_timer_init(uv, &loop->wake) == 0);
    check(uv_timer_init(uv, &loop->sweep) == 0);
    check(uv_timer_init(uv, &loop->rollback_again) == 0);
    check(uv_poll_init(uv, &loop->fine, loop->fine_fd) == 0);
    check(uv_poll_start(&loop->fine, UV_READABLE, on_fine) == 0);
    check(uv_async_init(uv, &loop->wal_done, on_wal_done) == 0);
    check(uv_async_init(uv, &loop->job_done, on_job_done) == 0);
    check(uv_signal_init(uv, &loop->terminate) == 0);
    check(uv_signal_init(uv, &loop->interrupt) == 0);
    check(uv_signal_init(uv, &loop->hangup) == 0);
    loop->check.data = loop->wake.data = loop->sweep.data = loop->fine.data = loop;
    loop->wal_done.data = loop->job_done.data = loop->rollback_again.data = loop;
    loop->terminate.data = loop->interrupt.data = loop->hangup.data = loop;
}

struct loop *loop_new(const struct loop_config *config, char why[LOOP_ERROR_MAX])
{
    struct loop *loop = calloc(1, sizeof *loop);

    check(loop != NULL);
    check(uv_loop_init(&loop->uv) == 0);
    loop->fine_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    check(loop->fine_fd >= 0);
    loop->log = config->log;
    loop->client = *config->client;
    loop->peer = *config->peer;
    loop->clients_max = config->clients_max;
    loop->rollback_dir = config->rollback_dir;
    loop->rollback_files = rollback_count(config->rollback_dir);
    loop->start_ns = clock_monotonic_ns();
    loop->mem = memory_new(0);
    loop->conns = hmap_new(&loop->mem);
    loop->next_id = 1;
    signal(SIGPIPE, SIG_IGN);
    init_handles(loop);

    if (!bind_or_say(loop, &loop->client_listener, &loop->client, "--client", why) ||
        !bind_or_say(loop, &loop->peer_listener, &loop->peer, "--peer", why)) {
        loop_free(loop);
        return NULL;
    }
    loop->wal = wal_thread_start(config->wal_dir, notify, &loop->wal_done);
    if (loop->wal != NULL)
        loop->maker = wal_thread_start(config->wal_dir, notify, &loop->wal_done);
    if (loop->maker != NULL)
        loop->jobs = job_thread_start(config->run_job, config->engine, notify,
                                      &loop->job_done);
    if (loop->jobs != NULL) return loop;
    snprintf(why, LOOP_ERROR_MAX, "cannot start a thread: %s", strerror(errno));
    loop_free(loop);
    return NULL;
}

int loop_run(struct loop *loop, struct server *server)
{
    loop->server = server;
    fatal_lend_trace(&loop->trace);
    check(uv_check_start(&loop->check, on_check) == 0);
    check(uv_signal_start(&loop->terminate, on_stop_signal, SIGTERM) == 0);
    check(uv_signal_start(&loop->interrupt, on_stop_signal, SIGINT) == 0);
    check(uv_signal_start(&loop->hangup, on_ignored_signal, SIGHUP) == 0);
    do_not_sleep(loop); /* the first turn begins what server_new() has prepared */
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    fatal_lend_trace(NULL);
    return loop->exit_code;
}

void loop_free(struct loop *loop)
{
    uint64_t at = 0, id;
    void *value;

    loop->exiting = true;
    if (loop->wal != NULL) wal_thread_stop(loop->wal);
    if (loop->maker != NULL) wal_thread_stop(loop->maker);
    if (loop->jobs != NULL) job_thread_stop(loop->jobs);
    while (hmap_next(&loop->conns, &at, &id, &value)) {
        conn_close(value);
        at = 0;
    }
    uv_walk(&loop->uv, close_handle, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0)
        continue; /* a stop that was still wanted ends the first run early */
    check(uv_loop_close(&loop->uv) == 0);
    close(loop->fine_fd);
    hmap_free(&loop->conns);
    for (struct kv_job *j; (j = rollback_take(&loop->rollback_late)) != NULL;)
        rollback_free(j);
    free(loop->failed);
    free(loop->sent);
    free(loop);
}
