/* SPDX-License-Identifier: Apache-2.0 */
#include "host/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/data_dir.h"
#include "host/entropy.h"
#include "host/kv_lmdb.h"
#include "host/memory.h"
#include "host/wal_file.h"
#include "server/server.h"

enum { READERS = 64 };

struct world {
    struct kv_lmdb *engine;
    struct wal_dir wal;
    struct server *server;
    bool ended;
    int code;
};

/* Everything is done at once, in order: nobody else waits. */
static void perform(struct world *w, const struct server_action *a)
{
    uint64_t got = 0;

    switch (a->kind) {
    case SERVER_WAL: {
        const int error = wal_dir_perform(&w->wal, &a->wal_op, &got);
        server_wal_done(w->server, a->wal_op.id, error, got);
        return;
    }
    case SERVER_JOB:
        server_job_done(w->server, a->job, kv_lmdb_run(w->engine, a->job));
        return;
    case SERVER_LOG: /* told before, while its text was good */
    case SERVER_EXIT:
    case SERVER_READY:
    case SERVER_SEND:
    case SERVER_CLOSE:
    case SERVER_PAUSE:
    case SERVER_RESUME:
    case SERVER_ROLLBACK:
    case SERVER_DIAL: return; /* nobody is connected */
    }
}

static void tell(struct world *w, const struct server_action *a)
{
    if (a->kind != SERVER_LOG && a->kind != SERVER_EXIT) return;
    if (a->kind == SERVER_EXIT) {
        w->ended = true;
        w->code = a->code;
    }
    fprintf(a->kind == SERVER_EXIT && a->code != 0 ? stderr : stdout, "%s%s\n",
            a->kind == SERVER_EXIT && a->code != 0 ? "sennit: " : "", a->text);
}

/* The list is the server's until it is called again. */
static void turn(struct world *w)
{
    struct server_actions out;

    server_time(w->server, (struct instant){clock_monotonic_ns()}, clock_wall());
    server_turn_end(w->server, &out);
    struct server_action *list = malloc((out.n + 1) * sizeof *list);
    check(list != NULL);
    const uint32_t n = out.n;
    for (uint32_t i = 0; i < n; i++) {
        list[i] = out.at[i];
        tell(w, &list[i]);
    }
    for (uint32_t i = 0; i < n && !w->ended; i++)
        perform(w, &list[i]);
    free(list);
}

static bool remove_log(const struct data_dir *d)
{
    char path[DATA_DIR_PATH_MAX + 32];

    for (uint32_t i = 0; i < d->n_wal_files; i++) {
        snprintf(path, sizeof path, "%s/wal-%08x", d->wal, d->wal_files[i].file);
        if (unlink(path) != 0 && errno != ENOENT) {
            fprintf(stderr, "sennit: cannot remove %s: %s; run this again\n", path,
                    strerror(errno));
            return false;
        }
    }
    const int fd = open(d->wal, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    const bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    if (!synced) fprintf(stderr, "sennit: cannot sync %s; run this again\n", d->wal);
    return synced;
}

static int run_core(struct world *w, const struct data_dir *d, bool yes,
                    const char *version)
{
    struct mem mem = memory_new(0);
    const struct server_config config = {
        .recover = yes ? RECOVER_DO : RECOVER_LOOK,
        .version = version,
        .seed = entropy_u64(),
        .boot = entropy_boot(),
        .limits = server_limits_default(),
        .kv = kv_lmdb_kv(w->engine),
        .wal_files = d->wal_files,
        .n_wal_files = d->n_wal_files,
        .mem = &mem,
    };

    w->server = server_new(&config, (struct instant){clock_monotonic_ns()}, clock_wall());
    while (!w->ended)
        turn(w);
    server_free(w->server);
    return w->code;
}

int recover_run(const char *data, bool yes, const char *version)
{
    struct data_dir_error why;
    struct kv_lmdb_error error;
    struct data_dir dir;
    struct world w = {.code = 1};
    char format[DATA_DIR_PATH_MAX + 16];

    snprintf(format, sizeof format, "%.*s/FORMAT", DATA_DIR_PATH_MAX, data);
    if (access(format, F_OK) != 0) {
        fprintf(stderr, "sennit: %s is no data directory of a server\n", data);
        return 2;
    }
    if (!data_dir_open(&dir, data, &why)) {
        fprintf(stderr, "sennit: %s\n", why.text);
        return why.exit_code;
    }
    const struct kv_lmdb_config kc = {.dir = dir.store, .readers = READERS};
    w.engine = kv_lmdb_open(&kc, &error);
    if (w.engine == NULL) {
        fprintf(stderr, "sennit: %s\n", error.text);
    } else {
        wal_dir_init(&w.wal, dir.wal);
        w.code = run_core(&w, &dir, yes, version);
        wal_dir_free(&w.wal);
        kv_lmdb_close(w.engine);
        if (w.code == 0 && yes && !remove_log(&dir)) w.code = 1;
    }
    data_dir_close(&dir);
    return w.code;
}
