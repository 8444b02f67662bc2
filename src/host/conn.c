/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/clock.h"
#include "host/loop_state.h"

enum {
    KEEPALIVE_S = 60,
    SWEEP_MS = 100,
    ADDRESS_TEXT = INET6_ADDRSTRLEN + 10,
    PEERS_MAX = 640, /* accepted: members, and at once as many as the server will close */
};

/* ---- those with a deadline ---- */

void conn_set_deadline(struct host_conn *c, uint64_t ms)
{
    struct loop *loop = c->loop;

    conn_clear_deadline(c);
    c->deadline_ns = clock_monotonic_ns() + ms * MS_NS;
    c->timed_next = loop->timed;
    c->timed_link = &loop->timed;
    if (c->timed_next != NULL) c->timed_next->timed_link = &c->timed_next;
    loop->timed = c;
    if (!uv_is_active((uv_handle_t *)&loop->sweep))
        uv_timer_start(&loop->sweep, conn_on_sweep, SWEEP_MS, SWEEP_MS);
}

void conn_clear_deadline(struct host_conn *c)
{
    if (c->timed_link == NULL) return;
    *c->timed_link = c->timed_next;
    if (c->timed_next != NULL) c->timed_next->timed_link = c->timed_link;
    c->timed_link = NULL;
    if (c->loop->timed == NULL) uv_timer_stop(&c->loop->sweep);
}

/* They are few: dials under way and closes that wait for their last bytes. */
void conn_on_sweep(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    const uint64_t now_ns = clock_monotonic_ns();

    for (struct host_conn *c = loop->timed, *next; c != NULL; c = next) {
        next = c->timed_next;
        if (c->deadline_ns > now_ns) continue;
        if (c->state == CONN_DIALING)
            conn_lost(c, "no answer in time");
        else
            conn_close(c);
    }
}

/* ---- making and ending ---- */

static bool is_accepted_peer(const struct host_conn *c)
{
    return !c->is_client && c->id.v % 2 == 1;
}

struct host_conn *conn_new(struct loop *loop, struct conn_id id, bool is_client)
{
    struct host_conn *c = calloc(1, sizeof *c);

    check(c != NULL);
    c->loop = loop;
    c->id = id;
    c->is_client = is_client;
    check(uv_tcp_init(&loop->uv, &c->tcp) == 0);
    c->tcp.data = c;
    c->write.data = c;
    c->resolve.data = c;
    c->connect.data = c;
    check(hmap_put(&loop->conns, id.v, c) == NULL);
    loop->n_clients += is_client;
    loop->n_peers += is_accepted_peer(c);
    return c;
}

/* libuv still holds the memory until the handle is closed and the name is resolved. */
void conn_free_if_done(struct host_conn *c)
{
    if (!c->handle_closed || c->resolving) return;
    free(c->out);
    free(c);
}

void conn_on_handle_closed(uv_handle_t *handle)
{
    struct host_conn *c = handle->data;

    if (c->again && c->state == CONN_DIALING) {
        c->again = false;
        check(uv_tcp_init(&c->loop->uv, &c->tcp) == 0);
        c->tcp.data = c;
        dial_next(c);
        return;
    }
    c->handle_closed = true;
    conn_free_if_done(c);
}

void conn_close(struct host_conn *c)
{
    struct loop *loop = c->loop;

    if (c->state == CONN_CLOSING) return;
    c->state = CONN_CLOSING;
    conn_clear_deadline(c);
    dial_end(c);
    check(hmap_remove(&loop->conns, c->id.v) == c);
    loop->n_clients -= c->is_client;
    loop->n_peers -= is_accepted_peer(c);
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, conn_on_handle_closed);
    if (loop->exiting && loop->conns.count == 0) uv_stop(&loop->uv);
}

void conn_lost(struct host_conn *c, const char *why)
{
    if (c->state == CONN_DIALING || c->state == CONN_OPEN) {
        if (loop_event(c->loop, c->is_client ? "client closed" : "peer closed", c->id.v,
                       0)) {
            if (c->is_client)
                server_client_closed(c->loop->server, c->id);
            else
                server_peer_closed(c->loop->server, c->id, why);
        }
    }
    conn_close(c);
}

/* ---- reading ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct host_conn *c = handle->data;
    size_t room = 0;
    uint8_t *at = NULL;

    (void)suggested;
    if (!c->loop->exiting)
        at = c->is_client ? server_client_space(c->loop->server, c->id, &room)
                          : server_peer_space(c->loop->server, c->id, &room);
    if (room > INT32_MAX) room = INT32_MAX;
    *buf = uv_buf_init((char *)at, (unsigned)room);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct host_conn *c = stream->data;

    (void)buf;
    if (got == 0) return;
    if (got < 0) {
        conn_lost(c, got == UV_EOF ? "closed by the other side" : uv_strerror((int)got));
        return;
    }
    if (!loop_event(c->loop, "data", c->id.v, (uint64_t)got)) return;
    if (c->is_client)
        server_client_data(c->loop->server, c->id, (size_t)got);
    else
        server_peer_data(c->loop->server, c->id, (size_t)got);
}

void conn_read(struct host_conn *c, bool on)
{
    if (c->state != CONN_OPEN || c->reading == on) return;
    c->reading = on;
    if (on)
        check(uv_read_start((uv_stream_t *)&c->tcp, on_room, on_read) == 0);
    else
        uv_read_stop((uv_stream_t *)&c->tcp);
}

/* ---- writing ---- */

/* Reported once the actions of the turn are performed: its end is an event. */
void conn_fail_later(struct host_conn *c, int error)
{
    struct loop *loop = c->loop;

    if (c->failed) return;
    c->failed = true;
    c->error = error;
    if (loop->n_failed == loop->failed_cap) {
        loop->failed_cap = loop->failed_cap == 0 ? 64 : loop->failed_cap * 2;
        loop->failed = realloc(loop->failed,
                               loop->failed_cap * sizeof(struct host_conn *));
        check(loop->failed != NULL);
    }
    loop->failed[loop->n_failed++] = c;
}

static void on_written(uv_write_t *req, int status)
{
    struct host_conn *c = req->data;

    free(c->out);
    c->out = NULL;
    if (c->state == CONN_CLOSING) return;
    if (status < 0) {
        conn_lost(c, uv_strerror(status));
        return;
    }
    if (c->state == CONN_LINGERING) {
        if (!c->has_tail) conn_close(c);
        return;
    }
    if (!c->owes_writable) return;
    c->owes_writable = false;
    if (loop_event(c->loop, "writable", c->id.v, 0))
        server_writable(c->loop->server, c->id);
}

static void write_copy(struct host_conn *c, struct bytes bytes)
{
    check(c->out == NULL);
    check(bytes.len > 0);
    c->out = malloc(bytes.len);
    check(c->out != NULL);
    memcpy(c->out, bytes.at, bytes.len);

    const uv_buf_t buf = {.base = (char *)c->out, .len = bytes.len};
    const int error = uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written);
    if (error == 0) return;
    free(c->out);
    c->out = NULL;
    conn_fail_later(c, error);
}

/* What was taken, server_sent() is told after the turn's last action. */
static void note_sent(struct loop *loop, struct conn_id conn, size_t taken)
{
    if (loop->n_sent == loop->sent_cap) {
        loop->sent_cap = loop->sent_cap == 0 ? 256 : loop->sent_cap * 2;
        loop->sent = realloc(loop->sent, loop->sent_cap * sizeof *loop->sent);
        check(loop->sent != NULL);
    }
    loop->sent[loop->n_sent++] = (struct sent){conn, taken};
}

/* Straight into the socket; of what it does not take, a bounded copy waits in libuv. */
void conn_send(struct host_conn *c, struct bytes bytes)
{
    size_t taken = 0;

    if (c->out == NULL && c->state == CONN_OPEN && !c->failed) {
        const uv_buf_t buf = {.base = (char *)(uintptr_t)bytes.at, .len = bytes.len};
        const int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
        if (n < 0 && n != UV_EAGAIN) {
            conn_fail_later(c, n);
        } else {
            taken = n > 0 ? (size_t)n : 0;
            const size_t left = bytes.len - taken;
            const size_t copied = left < SEND_COPY_MAX ? left : SEND_COPY_MAX;
            if (copied > 0) write_copy(c, (struct bytes){bytes.at + taken, copied});
            taken += copied;
        }
    }
    /* What a broken connection was given is gone; its end is told right after. */
    if (c->failed) taken = bytes.len;
    c->unsent = (struct bytes){bytes.at + taken, bytes.len - taken};
    if (c->unsent.len > 0) c->owes_writable = true;
    note_sent(c->loop, c->id, taken);
}

/* What is written behind everything else, and closes the connection when it is. */
struct tail {
    uv_write_t write;
    struct host_conn *conn;
    uint8_t at[];
};

static void on_tail_written(uv_write_t *req, int status)
{
    struct tail *tail = req->data;
    struct host_conn *c = tail->conn;

    (void)status; /* written or not, this was the last */
    free(tail);
    conn_close(c);
}

static void write_tail(struct host_conn *c, struct bytes bytes)
{
    struct tail *tail = malloc(sizeof *tail + bytes.len);

    check(tail != NULL);
    tail->conn = c;
    tail->write.data = tail;
    memcpy(tail->at, bytes.at, bytes.len);
    const uv_buf_t buf = {.base = (char *)tail->at, .len = bytes.len};
    c->has_tail = uv_write(&tail->write, (uv_stream_t *)&c->tcp, &buf, 1,
                           on_tail_written) == 0;
    if (!c->has_tail) free(tail);
}

/* A SEND of the same turn may have left bytes behind: they are in nobody's hands once the
 * server has let go, so they are copied whole. */
void conn_give_up(struct host_conn *c)
{
    if (c->state != CONN_OPEN || c->failed) {
        conn_close(c);
        return;
    }
    conn_read(c, false);
    if (c->unsent.len > 0) write_tail(c, c->unsent);
    c->unsent.len = 0;
    if (c->out == NULL && !c->has_tail) {
        conn_close(c);
        return;
    }
    c->state = CONN_LINGERING;
    conn_set_deadline(c, LINGER_TIMEOUT_MS);
}

/* ---- new ones ---- */

static void peer_address(const uv_tcp_t *tcp, char text[ADDRESS_TEXT])
{
    struct sockaddr_storage at;
    char host[INET6_ADDRSTRLEN] = "";
    int len = sizeof at;

    snprintf(text, ADDRESS_TEXT, "?:0");
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&at, &len) != 0) return;
    if (at.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&at;
        uv_ip4_name(in, host, sizeof host);
        snprintf(text, ADDRESS_TEXT, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    } else if (at.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&at;
        uv_ip6_name(in, host, sizeof host);
        snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, (unsigned)ntohs(in->sin6_port));
    }
}

void conn_opened(struct host_conn *c, bool dialed)
{
    char address[ADDRESS_TEXT];

    c->state = CONN_OPEN;
    conn_clear_deadline(c);
    /* Neither can fail on a socket that is connected, and neither matters if it does. */
    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
    peer_address(&c->tcp, address);
    if (!loop_event(c->loop, c->is_client ? "client open" : "peer open", c->id.v,
                    dialed)) {
        conn_close(c);
        return;
    }
    if (c->is_client)
        server_client_open(c->loop->server, c->id, bytes_of_str(address), false);
    else
        server_peer_open(c->loop->server, c->id, bytes_of_str(address), dialed);
    conn_read(c, true);
}

/* Out of descriptors, libuv gives up one that it keeps for this, so that a connection can be
 * taken and closed rather than left to be reported again and again. */
static void complain(struct loop *loop, int status)
{
    const uint64_t now_ns = clock_monotonic_ns();

    if (loop->accept_complained_ns != 0 &&
        now_ns - loop->accept_complained_ns < 10 * SEC_NS)
        return;
    loop->accept_complained_ns = now_ns;
    log_linef(loop->log, LOG_WARNING, "cannot accept a connection: %s%s",
              uv_strerror(status),
              status == UV_EMFILE || status == UV_ENFILE
                  ? "; raise the limit of open files (ulimit -n) or lower --maxclients"
                  : "");
}

void conn_on_accept(uv_stream_t *listener, int status)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    struct loop *loop = listener->data;
    const bool is_client = listener == (uv_stream_t *)&loop->client_listener;

    if (status != 0) {
        complain(loop, status);
        return;
    }
    const bool refused = is_client && loop->n_clients >= loop->clients_max;
    struct host_conn *c = conn_new(loop, (struct conn_id){loop->next_id}, is_client);
    loop->next_id += 2;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 || loop->exiting) {
        conn_close(c);
        return;
    }
    if (loop->n_peers > PEERS_MAX && !is_client) {
        conn_close(c);
        return;
    }
    if (refused) {
        const uv_buf_t buf = {.base = (char *)(uintptr_t)full, .len = sizeof full - 1};
        uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
        conn_close(c);
        return;
    }
    conn_opened(c, false);
}
