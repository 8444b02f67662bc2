/* SPDX-License-Identifier: Apache-2.0 */
/* loop - drives one server core over libuv: sockets, timers, signals, the two threads.
 *
 * A turn is one round of libuv: whatever its poll phase delivers is handed to the server,
 * then (uv_check) the turn is ended and its actions are performed.  What performing them
 * tells the server (server_sent) belongs to the next turn, for which libuv then does not
 * sleep: it polls what has arrived meanwhile and comes back at once.
 *
 * Owner    everything of uv here lives on the thread that calls loop_run()
 * Limits   clients_max clients (the core counts for itself, too); SEND_COPY_MAX bytes a
 *          connection that the kernel did not take and that were copied
 */
#pragma once

#include "host/config.h"
#include "host/data_dir.h"
#include "host/log.h"
#include "server/server.h"

enum {
    SEND_COPY_MAX = 256 << 10,
    DIAL_TIMEOUT_MS = 2000,
    LINGER_TIMEOUT_MS = 1000, /* for what was sent before a close */
    SLOW_DISK_MS = 1000,      /* an operation this slow is told to the operator */
    LOOP_ERROR_MAX = 1024,
};

struct loop_config {
    const struct endpoint *client, *peer; /* listened on */
    uint32_t clients_max;
    const struct log *log;
    const char *wal_dir;
    void *engine; /* of the jobs */
    int (*run_job)(void *engine, struct kv_job *job);
    const char *rollback_dir;
};

struct loop;

/* Binds both ports and starts the threads.  NULL: `why` says what to do. */
struct loop *loop_new(const struct loop_config *config, char why[LOOP_ERROR_MAX]);
struct instant loop_now(const struct loop *loop);       /* since loop_new() */
int loop_run(struct loop *loop, struct server *server); /* the code of SERVER_EXIT */
uint32_t loop_rollback_files(const struct loop *loop);  /* in rollback_dir, by now */
void loop_free(struct loop *loop); /* waits for the threads to finish what they have */
