/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of loop: for loop.c (turns), conn.c (connections) and dial.c (making them).
 *
 * L1  a connection is in `conns` from its creation until on its close, and the server knows
 *     it exactly while its state is CONN_DIALING or CONN_OPEN
 * L2  `soon` is active whenever the server was told something after its last turn end
 */
#pragma once

#include <uv.h>

#include "base/hmap.h"
#include "host/fatal.h"
#include "host/job_thread.h"
#include "host/loop.h"
#include "host/rollback.h"
#include "host/wal_thread.h"

enum conn_state {
    CONN_DIALING = 0, /* resolving and connecting; only those that the server asked for */
    CONN_OPEN,
    CONN_LINGERING, /* given up by the server, with bytes still to be written */
    CONN_CLOSING,   /* libuv is asked to close it */
};

struct host_conn {
    uv_tcp_t tcp;
    struct loop *loop;
    struct conn_id id;
    enum conn_state state;
    bool is_client, reading, failed;

    uv_write_t write; /* under way while out != NULL */
    uint8_t *out;
    bool has_tail;       /* its last bytes, in a write of their own */
    bool owes_writable;  /* the server waits for server_writable() */
    struct bytes unsent; /* of this turn's SEND: what is not on its way */

    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct addrinfo *addresses, *next_address;
    bool resolving, handle_closed;
    bool again; /* the closed handle is to try next_address */
    int error;  /* of the last address tried */

    uint64_t deadline_ns; /* while in the list of those that have one */
    struct host_conn *timed_next, **timed_link; /* link NULL: not in the list */
};

struct sent {
    struct conn_id conn;
    size_t taken;
};

struct loop {
    uv_loop_t uv;
    uv_tcp_t client_listener, peer_listener;
    uv_check_t check;
    uv_idle_t soon; /* active: do not sleep */
    uv_timer_t wake, sweep, rollback_again;
    uv_poll_t fine; /* a timer for less than the millisecond of the others */
    int fine_fd;
    uint64_t fine_ns; /* what it is set to, by the clock of the system; 0: not set */
    uv_async_t wal_done, job_done;
    uv_signal_t terminate, interrupt, hangup;

    const struct log *log;
    struct endpoint client, peer;
    uint32_t clients_max, n_clients;
    uint32_t n_peers; /* accepted */
    uint64_t start_ns, accept_complained_ns;

    struct server *server;
    struct wal_thread *wal,
        *maker; /* the second makes new files, which takes its time, while
                                     * the first goes on with writing */
    struct job_thread *jobs;
    const char *rollback_dir;
    uint32_t rollback_files;
    struct kv_job *rollback_late; /* failed: run again by rollback_again */

    struct mem mem;    /* of the map */
    struct hmap conns; /* id -> struct host_conn */
    uint64_t next_id;  /* odd: accepted */
    struct host_conn *timed;
    struct host_conn **failed; /* found broken while actions were performed */
    struct sent *sent;         /* told to the server once all actions are performed */
    size_t n_failed, failed_cap, n_sent, sent_cap;

    bool turn_open; /* the server has been told the time of this turn */
    bool stopping, exiting;
    uint64_t stop_ns;
    int exit_code;
    struct trace trace;
};

/* Before each event: gives the server the time if it is the first of the turn, and makes
 * sure that the turn will be ended.  False: the server is gone. */
bool loop_event(struct loop *loop, const char *what, uint64_t a, uint64_t b);

/* ---- conn.c ---- */
struct host_conn *conn_new(struct loop *loop, struct conn_id id, bool is_client);
void conn_opened(struct host_conn *c, bool dialed); /* tells the server, begins to read */
void conn_on_accept(uv_stream_t *listener, int status);
void conn_send(struct host_conn *c, struct bytes bytes);
void conn_read(struct host_conn *c, bool on);
void conn_give_up(
    struct host_conn *c); /* the server did: write what it sent, and close */
void conn_lost(struct host_conn *c, const char *why); /* tells the server, and closes */
/* The same, when actions are being performed: once the last of them is. */
void conn_fail_later(struct host_conn *c, int error);
void conn_close(struct host_conn *c); /* at once, telling nobody */
void conn_on_handle_closed(uv_handle_t *handle);
void conn_free_if_done(struct host_conn *c);
void conn_set_deadline(struct host_conn *c, uint64_t ms);
void conn_clear_deadline(struct host_conn *c);
void conn_on_sweep(uv_timer_t *timer);

/* ---- dial.c ---- */
void dial_begin(struct host_conn *c, const char *address);
void dial_next(struct host_conn *c);
void dial_end(struct host_conn *c); /* forgets what is left of it */
