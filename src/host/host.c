/* SPDX-License-Identifier: Apache-2.0 */
#include "host/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/config_load.h"
#include "host/data_dir.h"
#include "host/entropy.h"
#include "host/kv_lmdb.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/mac.h"
#include "host/memory.h"

/* Descriptors for what are not clients: peers, the log, the store, the threads. */
enum {
    FDS_RESERVED = 512,
    FDS_PEERS = 1024, /* two connections with each of 512 servers */
    CLIENTS_MIN = 16,
    READERS_MAX = 1 << 17,
};

struct host {
    const struct config *config;
    struct log log;
    struct data_dir dir;
    struct secret password, secret;
    struct mem mem;
    struct kv_lmdb *engine;
    struct loop *loop;
    uint32_t clients_max;
};

static int fail(const struct host *h, int code, const char *text)
{
    log_line(&h->log, LOG_ERROR, text);
    return code;
}

/* As many descriptors as the clients need, or as many clients as there are descriptors. */
static void raise_descriptors(struct host *h)
{
    const uint64_t needed = h->config->clients_max + FDS_RESERVED;
    const uint64_t wanted = needed + FDS_PEERS;
    struct rlimit limit;

    h->clients_max = (uint32_t)h->config->clients_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
    if (limit.rlim_cur >= needed) return;

    const uint64_t room = limit.rlim_cur > FDS_RESERVED ? limit.rlim_cur - FDS_RESERVED
                                                        : 0;
    h->clients_max = room < CLIENTS_MIN ? CLIENTS_MIN : (uint32_t)room;
    log_linef(&h->log, LOG_WARNING,
              "at most %u clients instead of %llu: this process may open only %llu files "
              "(raise `ulimit -n`, or LimitNOFILE of the systemd unit)",
              h->clients_max, (unsigned long long)h->config->clients_max,
              (unsigned long long)limit.rlim_cur);
}

static size_t memory_limit(const struct config *config)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

    if (config->memory_bytes != 0) return config->memory_bytes;
    if (pages <= 0 || page_bytes <= 0) return 0;
    return (size_t)pages / 2 * (size_t)page_bytes;
}

static bool load_secrets(struct host *h)
{
    const struct config *c = h->config;
    struct config_error why;

    if ((c->password_file[0] == 0 || secret_load(c->password_file, &h->password, &why)) &&
        (c->secret_file[0] == 0 || secret_load(c->secret_file, &h->secret, &why)))
        return true;
    log_line(&h->log, LOG_ERROR, why.text);
    return false;
}

/* ---- CONFIG GET and SET of what is the world's ---- */

static bool system_text(char *out, size_t out_bytes)
{
    struct utsname name;

    if (uname(&name) != 0) return false;
    snprintf(out, out_bytes, "%s %s %s", name.sysname, name.release, name.machine);
    return true;
}

static bool rss_text(char *out, size_t out_bytes)
{
    const long page_bytes = sysconf(_SC_PAGESIZE);
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL) return false;
    const bool read = fscanf(f, "%*u %llu", &pages) == 1;
    fclose(f);
    if (read && page_bytes > 0)
        snprintf(out, out_bytes, "%llu", pages * (unsigned long long)page_bytes);
    return read && page_bytes > 0;
}

static bool cpu_text(bool of_kernel, char *out, size_t out_bytes)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) != 0) return false;
    const struct timeval t = of_kernel ? usage.ru_stime : usage.ru_utime;
    snprintf(out, out_bytes, "%lld.%06lld", (long long)t.tv_sec, (long long)t.tv_usec);
    return true;
}

/* What INFO tells of the process and the machine. */
static bool process_text(const struct host *h, const char *name, char *out,
                         size_t out_bytes)
{
    if (strcmp(name, "os") == 0) return system_text(out, out_bytes);
    if (strcmp(name, "used_memory_rss") == 0) return rss_text(out, out_bytes);
    if (strcmp(name, "used_cpu_sys") == 0) return cpu_text(true, out, out_bytes);
    if (strcmp(name, "used_cpu_user") == 0) return cpu_text(false, out, out_bytes);
    if (strcmp(name, "rollback_files") != 0) return false;
    snprintf(out, out_bytes, "%u", loop_rollback_files(h->loop));
    return true;
}

static bool config_get(void *ctx, const char *name, char *out, size_t out_bytes)
{
    const struct host *h = ctx;
    const struct config *c = h->config;
    const struct {
        const char *name, *value;
    } texts[] = {
        {"log-level", log_level_name(h->log.level)},
        {"loglevel", log_level_name(h->log.level)},
        {"data", c->data},
        {"dir", c->data},
        {"bind", c->client.host},
        {"config", c->config_file},
        {"password-file", c->password_file},
        {"cluster-secret-file", c->secret_file},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) != 0) continue;
        snprintf(out, out_bytes, "%s", texts[i].value);
        return true;
    }
    return process_text(h, name, out, out_bytes);
}

static bool config_set(void *ctx, const char *name, struct bytes value)
{
    struct host *h = ctx;

    if (strcmp(name, "log-level") != 0 && strcmp(name, "loglevel") != 0) return false;
    return log_level_parse(value, &h->log.level);
}

/* ---- from nothing to a running server ---- */

static int run_job(void *engine, struct kv_job *job)
{
    return kv_lmdb_run(engine, job);
}

static int run_server(struct host *h, const char *version)
{
    const struct config *c = h->config;
    char client[CONFIG_ENDPOINT_TEXT], peer[CONFIG_ENDPOINT_TEXT];
    char join[CONFIG_ENDPOINT_TEXT] = "";

    endpoint_text(&c->advertise_client, client);
    endpoint_text(&c->advertise_peer, peer);
    if (c->join.host[0] != 0) endpoint_text(&c->join, join);

    struct server_config sc = {
        .name = bytes_of_str(c->name),
        .advertise_client = bytes_of_str(client),
        .advertise_peer = bytes_of_str(peer),
        .zone = bytes_of_str(c->zone),
        .join = bytes_of_str(join),
        .password = {h->password.at, h->password.len},
        .secret = {h->secret.at, h->secret.len},
        .version = version,
        .config_file = bytes_of_str(c->config_file),
        .process_id = (uint32_t)getpid(),
        .client_port = c->client.port,
        .seed = entropy_u64(),
        .boot = entropy_boot(),
        .limits = server_limits_default(),
        .kv = kv_lmdb_kv(h->engine),
        .wal_files = h->dir.wal_files,
        .n_wal_files = h->dir.n_wal_files,
        .mem = &h->mem,
        .mac = mac_sha256,
        .config_get = config_get,
        .config_set = config_set,
        .world = h,
    };
    sc.limits.clients_max = h->clients_max;
    sc.limits.request_timeout_ns = c->request_timeout_ns;
    sc.limits.wal_keep_bytes = c->wal_keep_bytes;
    sc.limits.replace_after_ns = c->replace_after_ns;
    sc.limits.transfer_bytes_per_s = c->transfer_bytes_per_s;
    sc.limits.max_clock_skew_ms = c->max_clock_skew_ns / MS_NS;

    struct server *server = server_new(&sc, loop_now(h->loop), clock_wall());
    const int code = loop_run(h->loop, server);
    /* After an error nothing is waited for: a thread may hang in the very disk that is the
     * trouble.  What is durable is so already; the rest of the process is memory. */
    if (code != 0) _exit(code);
    loop_free(h->loop);
    server_free(server);
    return 0;
}

static int run_loop(struct host *h, const char *version)
{
    char why[LOOP_ERROR_MAX];
    const struct loop_config lc = {
        .client = &h->config->client,
        .peer = &h->config->peer,
        .clients_max = h->clients_max,
        .log = &h->log,
        .wal_dir = h->dir.wal,
        .engine = h->engine,
        .run_job = run_job,
        .rollback_dir = h->dir.rollback,
    };

    h->loop = loop_new(&lc, why);
    if (h->loop == NULL) return fail(h, 1, why);
    return run_server(h, version);
}

static int run_engine(struct host *h, const char *version)
{
    const struct kv_lmdb_config kc = {.dir = h->dir.store, .readers = READERS_MAX};
    struct kv_lmdb_error error;

    h->engine = kv_lmdb_open(&kc, &error);
    if (h->engine == NULL) return fail(h, 1, error.text);
    const int code = run_loop(h, version);
    kv_lmdb_close(h->engine);
    return code;
}

int host_run(const struct config *config, const char *version)
{
    struct host h = {
        .config = config,
        .log = {.fd = STDERR_FILENO, .level = config->log_level},
        .mem = memory_new(memory_limit(config)),
    };
    struct data_dir_error why;

    log_linef(&h.log, LOG_INFO, "sennit %s, process %ld, data in %s", version,
              (long)getpid(), config->data);
    if (config->http.host[0] != 0 && !config->http_off)
        log_line(&h.log, LOG_WARNING,
                 "--http: metrics and health over HTTP come in a later "
                 "version; nothing listens there yet");
    raise_descriptors(&h);
    if (!load_secrets(&h)) return 2;
    if (!data_dir_open(&h.dir, config->data, &why))
        return fail(&h, why.exit_code, why.text);
    const int code = run_engine(&h, version);
    data_dir_close(&h.dir);
    return code;
}
