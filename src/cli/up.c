/* SPDX-License-Identifier: Apache-2.0 */
/* sennit up: a cluster on one machine, each server a process of its own.
 *
 *   start  ─► ready: every server knows every other  ─► keyspaces
 *          ─► whole: every shard has its voters      ─► the screen  ─► wait
 *   Ctrl-C ─► SIGTERM to all, STOP_MS for them to end, SIGKILL
 *
 * The servers are in process groups of their own, so that Ctrl-C reaches only this process;
 * should it be killed, the kernel stops them (PR_SET_PDEATHSIG). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/grid.h"
#include "host/clock.h"

enum {
    UP_NODES_MAX = 32,
    UP_READY_MS = 60000,
    UP_WHOLE_MS = 30000,
    UP_STOP_MS = 10000,
    UP_POLL_MS = 50,
    UP_ASK_MS = 2000,
    UP_PATH_MAX = 3000,
    LOG_TAIL_BYTES = 1500,
};

static const char help[] =
    "usage: sennit up [--nodes N] [--dir DIR] [--port P]\n\n"
    "  --nodes N    how many servers (3)\n"
    "  --dir DIR    their data and logs: DIR/s1, DIR/s1.log, ... (./sennit-cluster)\n"
    "  --port P     clients at P, P+1, ...; servers among themselves 10000 above "
    "(6379)\n\n"
    "Runs in the foreground; Ctrl-C stops all servers cleanly.  Started again on the "
    "same\n"
    "directory it comes back with its data.\n\n"
    "example:\n"
    "  sennit up --nodes 3 --dir ./data\n"
    "  redis-cli -p 6379 SET greeting hello\n";

struct up_server {
    pid_t pid;  /* 0: not running */
    int status; /* of its end */
    uint16_t port;
    bool had_data;
    char name[8];
};

struct up {
    uint32_t n;
    uint16_t port;
    char dir[UP_PATH_MAX];
    char program[PATH_MAX];
    sigset_t signals, before; /* those waited for; those blocked when we came */
    struct up_server servers[UP_NODES_MAX];
};

/* Made in every new cluster, one of each strategy; one that this version does not have is
 * refused by the server and left out. */
static const struct {
    const char *name, *key, *what;
    const char *policy[6];
} ready_made[] = {
    {"default", "greeting", "raft: acknowledged by a majority, linearizable", {NULL}},
    {"cache",
     "cache:page",
     "primary, ACK async: the fastest",
     {"MODE", "primary", "ACK", "async"}},
    {"orders",
     "orders:1",
     "primary, ACK 1: on two servers before the answer",
     {"MODE", "primary", "ACK", "1"}},
    {"bank", "bank:alice", "raft, for what must never be lost", {"MODE", "raft"}},
    {"config", "config:flag", "paxos: no leader to wait for", {"MODE", "paxos"}},
    {"cart", "cart:42", "multi: written anywhere, merged", {"MODE", "multi"}},
};
enum { READY_MADE = sizeof ready_made / sizeof ready_made[0] };

/* ---- processes ---- */

static void data_path(const struct up *up, const struct up_server *s, const char *suffix,
                      char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.2900s/%s%s", up->dir, s->name, suffix);
}

_Noreturn static void become_server(const struct up *up, const struct up_server *s,
                                    const struct up_server *join, pid_t parent)
{
    char data[PATH_MAX], log[PATH_MAX], client[32], peer[32], member[32];

    data_path(up, s, "", data);
    data_path(up, s, ".log", log);
    snprintf(client, sizeof client, "127.0.0.1:%u", (unsigned)s->port);
    snprintf(peer, sizeof peer, "127.0.0.1:%u", (unsigned)s->port + CONFIG_PEER_OFFSET);
    if (join != NULL)
        snprintf(member, sizeof member, "127.0.0.1:%u",
                 (unsigned)join->port + CONFIG_PEER_OFFSET);
    const char *args[] = {"sennit",
                          "server",
                          "--name",
                          s->name,
                          "--data",
                          data,
                          "--client",
                          client,
                          "--peer",
                          peer,
                          "--http",
                          "off",
                          join != NULL ? "--join" : NULL,
                          member,
                          NULL};

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); /* gone before it could be watched */
    const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(1);
    sigprocmask(SIG_SETMASK, &up->before, NULL);
    execv(up->program, (char *const *)(uintptr_t)args);
    _exit(127);
}

static bool start_server(struct up *up, struct up_server *s, const struct up_server *join)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();

    if (pid == 0) become_server(up, s, join, parent);
    if (pid < 0) {
        trouble("up: cannot start a process: %s", strerror(errno));
        return false;
    }
    s->pid = pid;
    return true;
}

static void print_log_tail(const struct up *up, const struct up_server *s)
{
    char path[PATH_MAX], text[LOG_TAIL_BYTES + 1];

    data_path(up, s, ".log", path);
    FILE *f = fopen(path, "re");
    if (f == NULL) return;
    if (fseek(f, -LOG_TAIL_BYTES, SEEK_END) != 0) rewind(f);
    const size_t len = fread(text, 1, LOG_TAIL_BYTES, f);
    text[len] = 0;
    fclose(f);
    const char *line = len == LOG_TAIL_BYTES ? strchr(text, '\n') : NULL;
    fprintf(stderr, "the end of %s:\n%s", path, line != NULL ? line + 1 : text);
}

/* Collects processes that have ended; how many did unasked.  `told`: say so. */
static uint32_t collect(struct up *up, bool told)
{
    uint32_t ended = 0;

    for (uint32_t i = 0; i < up->n; i++) {
        struct up_server *s = &up->servers[i];
        if (s->pid == 0 || waitpid(s->pid, &s->status, WNOHANG) != s->pid) continue;
        if (told && WIFSIGNALED(s->status))
            trouble("%s (process %ld) was ended by signal %d", s->name, (long)s->pid,
                    WTERMSIG(s->status));
        else if (told)
            trouble("%s (process %ld) ended with code %d", s->name, (long)s->pid,
                    WEXITSTATUS(s->status));
        s->pid = 0;
        if (told) print_log_tail(up, s);
        ended++;
    }
    return ended;
}

static uint32_t running(const struct up *up)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < up->n; i++)
        n += up->servers[i].pid != 0;
    return n;
}

static void signal_all(const struct up *up, int number)
{
    for (uint32_t i = 0; i < up->n; i++)
        if (up->servers[i].pid != 0) kill(up->servers[i].pid, number);
}

/* The signal that came within so long; 0: none. */
static int wait_signal(const struct up *up, uint64_t ms)
{
    const struct timespec limit = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    const int number = sigtimedwait(&up->signals, NULL, &limit);

    return number > 0 ? number : 0;
}

static bool is_stop(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGHUP;
}

static int stop_all(struct up *up)
{
    const uint64_t give_up_ns = clock_monotonic_ns() + UP_STOP_MS * MS_NS;
    bool clean = true;

    for (uint32_t i = 0; i < up->n; i++)
        if (up->servers[i].pid == 0) up->servers[i].status = 0; /* told when it ended */
    signal_all(up, SIGTERM);
    while (running(up) > 0 && clock_monotonic_ns() < give_up_ns) {
        wait_signal(up, UP_POLL_MS);
        collect(up, false);
    }
    if (running(up) > 0) {
        trouble(
            "up: %u servers did not stop within %d s and are ended by force; what was "
            "acknowledged is on their disks",
            running(up), UP_STOP_MS / 1000);
        clean = false;
        signal_all(up, SIGKILL);
        while (running(up) > 0) {
            wait_signal(up, UP_POLL_MS);
            collect(up, false);
        }
    }
    for (uint32_t i = 0; i < up->n; i++)
        clean = clean && WIFEXITED(up->servers[i].status) &&
                WEXITSTATUS(up->servers[i].status) == 0;
    return clean ? 0 : 1;
}

/* ---- talking to them ---- */

static bool open_server(const struct up_server *s, struct client *c)
{
    struct endpoint to = {"127.0.0.1", s->port};

    if (client_open(c, &to, UP_ASK_MS, NULL)) return true;
    client_close(c);
    return false;
}

/* A server is ready when it sees as many members as there are, each of them connected. */
static bool is_ready(const struct up *up, const struct up_server *s)
{
    static const char *const nodes[] = {"CLUSTER", "NODES"};
    const struct value *reply;
    struct client c;
    uint32_t members = 0;

    if (!open_server(s, &c)) return false;
    if (client_call(&c, 2, nodes, &reply) && reply->kind == VALUE_BULK)
        for (size_t at = 0; at + 10 <= reply->text.len; at++)
            members += memcmp(reply->text.at + at, " connected", 10) == 0;
    client_close(&c);
    return members >= up->n;
}

/* 0: ready.  1: one has ended, or it took too long.  2: stopped by the user. */
static int wait_ready(struct up *up)
{
    const uint64_t give_up_ns = clock_monotonic_ns() + UP_READY_MS * MS_NS;
    uint32_t ready = 0;

    while (ready < up->n) {
        if (is_ready(up, &up->servers[ready])) {
            ready++;
            continue;
        }
        if (is_stop(wait_signal(up, UP_POLL_MS))) return 2;
        if (collect(up, true) > 0) return 1;
        if (clock_monotonic_ns() < give_up_ns) continue;
        trouble("up: %s was not ready after %d s", up->servers[ready].name,
                UP_READY_MS / 1000);
        print_log_tail(up, &up->servers[ready]);
        return 1;
    }
    return 0;
}

/* Until the first answers, which does not take the others; then they can join it. */
static int wait_open(struct up *up, const struct up_server *s)
{
    const uint64_t give_up_ns = clock_monotonic_ns() + UP_READY_MS * MS_NS;
    struct client c;

    while (!open_server(s, &c)) {
        if (is_stop(wait_signal(up, UP_POLL_MS))) return 2;
        if (collect(up, true) > 0) return 1;
        if (clock_monotonic_ns() < give_up_ns) continue;
        trouble("up: %s did not open its port within %d s", s->name, UP_READY_MS / 1000);
        return 1;
    }
    client_close(&c);
    return 0;
}

static bool has_keyspace(const struct up *up, const char *name)
{
    const char *const args[] = {"KEYSPACE", "INFO", name};
    const struct value *reply;
    struct client c;

    if (!open_server(&up->servers[0], &c)) return false;
    const bool found = client_call(&c, 3, args, &reply) && reply->kind == VALUE_ARRAY;
    client_close(&c);
    return found;
}

/* True if it is there afterwards.  A cluster that has just begun may be without a leader for
 * a moment: then it is asked again. */
static bool make_keyspace(const struct up *up, size_t which)
{
    const char *args[16] = {"KEYSPACE", "CREATE", ready_made[which].name};
    const struct value *reply;
    struct client c;
    int n = 3;

    if (has_keyspace(up, ready_made[which].name)) return true;
    if (ready_made[which].policy[0] == NULL) return false;
    for (size_t i = 0; i < 6 && ready_made[which].policy[i] != NULL; i++)
        args[n++] = ready_made[which].policy[i];
    for (int i = 0; i < 10; i++) {
        if (!open_server(&up->servers[0], &c)) return false;
        const bool answered = client_call(&c, n, args, &reply);
        const bool made = answered && reply->kind != VALUE_ERROR;
        const bool refused = answered && reply->kind == VALUE_ERROR &&
                             strncmp((const char *)reply->text.at, "NO", 2) != 0 &&
                             strncmp((const char *)reply->text.at, "UNCERTAIN", 9) != 0;
        client_close(&c);
        if (made) return true;
        if (refused) break;
        wait_signal(up, UP_POLL_MS * 10);
        if (has_keyspace(up, ready_made[which].name)) return true;
    }
    return false;
}

/* ---- shards ---- */

/* Of two servers one votes: a vote of two would need both. */
static uint32_t voters_of(uint32_t servers)
{
    return servers >= 3 ? 3 : 1;
}

/* Fewer than there are servers if its policy says so; all of them if that is not known. */
static uint32_t replicas_wanted(const struct up *up, struct bytes keyspace)
{
    char name[CONFIG_NAME_MAX + 1];
    const char *const args[] = {"KEYSPACE", "INFO", name};
    const struct value *reply;
    struct client c;
    uint32_t wanted = up->n;

    snprintf(name, sizeof name, "%.*s", (int)keyspace.len, (const char *)keyspace.at);
    if (!open_server(&up->servers[0], &c)) return wanted;
    if (client_call(&c, 3, args, &reply)) {
        const struct value *replicas = value_of(reply, "replicas");
        if (replicas != NULL && replicas->kind == VALUE_INTEGER &&
            replicas->integer >= 0 && replicas->integer < wanted)
            wanted = (uint32_t)replicas->integer;
    }
    client_close(&c);
    return wanted;
}

static bool is_voter(const struct value *replica)
{
    const struct bytes role = value_text(value_of(replica, "role"));

    return bytes_equal(role, BYTES_OF("leader")) ||
           bytes_equal(role, BYTES_OF("follower"));
}

/* The rows of a shard follow each other, one a replica. */
static bool shards_are_whole(const struct up *up, const struct value *rows)
{
    uint32_t i = 0;

    if (rows->kind != VALUE_ARRAY || rows->n == 0) return false;
    while (i < rows->n) {
        const struct value *first = value_at(rows, i);
        const struct bytes shard = value_text(value_of(first, "shard"));
        uint32_t voters = 0;
        for (; i < rows->n; i++) {
            const struct value *replica = value_at(rows, i);
            if (!bytes_equal(value_text(value_of(replica, "shard")), shard)) break;
            voters += is_voter(replica);
        }
        if (voters >= voters_of(up->n)) continue;
        const struct bytes keyspace = value_text(value_of(first, "keyspace"));
        if (voters < voters_of(replicas_wanted(up, keyspace))) return false;
    }
    return true;
}

static bool is_whole(const struct up *up)
{
    static const char *const list[] = {"SHARD", "LIST"};
    const struct value *reply;
    struct client c;

    if (!open_server(&up->servers[0], &c)) return false;
    const bool whole = client_call(&c, 2, list, &reply) && shards_are_whole(up, reply);
    client_close(&c);
    return whole;
}

/* As wait_ready, but a cluster that is not whole in time is there all the same: then *whole
 * is false, which has been told.  It is looked at twice, because a replica calls itself a
 * follower from when it hears of it, and for two round trips more the shard still needs
 * those who voted before. */
static int wait_whole(struct up *up, bool *whole)
{
    const uint64_t give_up_ns = clock_monotonic_ns() + UP_WHOLE_MS * MS_NS;
    uint32_t looks = 0;

    while (looks < 2) {
        looks = is_whole(up) ? looks + 1 : 0;
        if (is_stop(wait_signal(up, UP_POLL_MS))) return 2;
        if (collect(up, true) > 0) return 1;
        if (clock_monotonic_ns() < give_up_ns) continue;
        trouble(
            "up: after %d s some shards still have fewer voters than they should, and "
            "may stop if a server does; `sennit status` shows them",
            UP_WHOLE_MS / 1000);
        break;
    }
    *whole = looks == 2;
    return 0;
}

/* ---- the screen ---- */

static void print_servers(const struct up *up, bool coloured)
{
    static const struct grid_column columns[] = {
        {"SERVER", false}, {"CLIENTS AT", false}, {"PROCESS", true}, {"LOG", false}};
    struct grid g = grid_new(columns, 4);

    for (uint32_t i = 0; i < up->n; i++) {
        const struct up_server *s = &up->servers[i];
        char log[PATH_MAX];

        data_path(up, s, ".log", log);
        grid_put(&g, bytes_of_str(s->name), TONE_PLAIN);
        grid_putf(&g, TONE_PLAIN, "127.0.0.1:%u", (unsigned)s->port);
        grid_putf(&g, TONE_PLAIN, "%ld", (long)s->pid);
        grid_put(&g, bytes_of_str(log), TONE_PLAIN);
    }
    grid_print(&g, stdout, coloured);
    grid_free(&g);
}

static void print_keyspaces(const struct up *up, const bool there[READY_MADE],
                            bool coloured)
{
    static const struct grid_column columns[] = {
        {"KEYSPACE", false}, {"STRATEGY", false}, {"TRY", false}};
    struct grid g = grid_new(columns, 3);

    for (size_t i = 0; i < READY_MADE; i++) {
        if (!there[i]) continue;
        /* Another server for each: any of them takes any command. */
        const struct up_server *s = &up->servers[i % up->n];
        grid_put(&g, bytes_of_str(ready_made[i].name), TONE_PLAIN);
        grid_put(&g, bytes_of_str(ready_made[i].what), TONE_PLAIN);
        grid_putf(&g, TONE_PLAIN, "redis-cli -p %u SET %s hello", (unsigned)s->port,
                  ready_made[i].key);
    }
    grid_print(&g, stdout, coloured);
    grid_free(&g);
}

static void print_screen(const struct up *up, const bool there[READY_MADE], bool whole)
{
    const bool coloured = color_is_fit();

    printf("sennit %s: %u server%s ready, data in %s\n\n", SENNIT_VERSION, up->n,
           up->n == 1 ? " is" : "s are", up->dir);
    print_servers(up, coloured);
    putchar('\n');
    print_keyspaces(up, there, coloured);
    printf("\n  the cluster on one screen:   sennit status --server 127.0.0.1:%u\n",
           (unsigned)up->port);
    if (whole && voters_of(up->n) >= 3)
        printf("  see it survive:              kill -9 %ld, then go on through another "
               "port\n",
               (long)up->servers[0].pid);
    printf("  Ctrl-C stops it; started again with the same --dir it has its data.\n");
    fflush(stdout);
}

/* ---- the whole ---- */

static bool has_data(const struct up *up, const struct up_server *s)
{
    char path[PATH_MAX];

    data_path(up, s, "/FORMAT", path);
    return access(path, F_OK) == 0;
}

static bool prepare(struct up *up)
{
    const uint32_t asked = up->n;
    const ssize_t len = readlink("/proc/self/exe", up->program, sizeof up->program - 1);

    if (len <= 0) {
        trouble("up: cannot find this program in /proc: %s", strerror(errno));
        return false;
    }
    up->program[len] = 0;
    if (mkdir(up->dir, 0700) != 0 && errno != EEXIST) {
        trouble("up: cannot make --dir %s: %s", up->dir, strerror(errno));
        return false;
    }
    for (uint32_t i = 0; i < UP_NODES_MAX; i++) {
        struct up_server *s = &up->servers[i];
        s->port = (uint16_t)(up->port + i);
        snprintf(s->name, sizeof s->name, "s%u", i + 1);
        s->had_data = has_data(up, s);
        if (s->had_data && i >= up->n) up->n = i + 1;
    }
    /* Fewer than there were might be without a majority. */
    if (up->n > asked)
        printf("%s holds the data of %u servers; all of them are started\n", up->dir,
               up->n);
    return true;
}

static void catch_signals(struct up *up)
{
    sigemptyset(&up->signals);
    sigaddset(&up->signals, SIGINT);
    sigaddset(&up->signals, SIGTERM);
    sigaddset(&up->signals, SIGHUP);
    sigaddset(&up->signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &up->signals, &up->before);
}

/* Who has data comes back by itself, and serves nobody before a majority is back: then all
 * start at once.  A server without data joins one that has some; if none has, the first one
 * founds the cluster, and there is nobody to join until it has. */
static int start_all(struct up *up)
{
    uint32_t founder = 0;

    while (founder < up->n && !up->servers[founder].had_data)
        founder++;
    if (founder == up->n) founder = 0;
    if (!start_server(up, &up->servers[founder], NULL)) return 1;
    if (!up->servers[founder].had_data) {
        const int waited = wait_open(up, &up->servers[founder]);
        if (waited != 0) return waited;
    }
    for (uint32_t i = 0; i < up->n; i++) {
        if (i == founder) continue;
        if (!start_server(up, &up->servers[i], &up->servers[founder])) return 1;
    }
    return wait_ready(up);
}

static int run(struct up *up)
{
    bool there[READY_MADE], whole = false;
    int started = start_all(up);

    for (size_t i = 0; started == 0 && i < READY_MADE; i++)
        there[i] = make_keyspace(up, i);
    if (started == 0) started = wait_whole(up, &whole);
    if (started != 0) {
        stop_all(up);
        return started == 2 ? 0 : 1;
    }
    print_screen(up, there, whole);
    for (;;) {
        const int number = wait_signal(up, 1000);
        if (is_stop(number)) break;
        if (collect(up, true) > 0 && running(up) > 0)
            trouble("up: %u of %u servers go on; start `sennit up` again for all of them",
                    running(up), up->n);
        if (running(up) > 0) continue;
        return trouble("up: no server is left");
    }
    printf("\nstopping %u servers\n", running(up));
    fflush(stdout);
    return stop_all(up);
}

static bool parse_number(const char *text, int64_t lo, int64_t hi, int64_t *out)
{
    return parse_i64(bytes_of_str(text), out) && *out >= lo && *out <= hi;
}

int command_up(int n, const char *const *args)
{
    struct up up = {.n = 0};
    const char *nodes_text = "3", *port_text = "6379", *dir = "./sennit-cluster";
    const struct option options[] = {
        {"--nodes", .value = &nodes_text, .wants = "a value"},
        {"--dir", .value = &dir, .wants = "a value"},
        {"--port", .value = &port_text, .wants = "a value"}};
    const struct grammar grammar = {"up", options, 3, NULL};
    struct words words;
    int64_t nodes, port;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    const int wrong = read_words(&grammar, n, args, &words);
    if (wrong != 0) return wrong;
    if (words.n > 0) return wrong_use("up: unknown argument '%s'", words.all[0]);
    if (!parse_number(nodes_text, 1, UP_NODES_MAX, &nodes))
        return wrong_use("up: --nodes must be from 1 to %d", UP_NODES_MAX);
    if (strlen(dir) > 2900) return wrong_use("up: --dir must be a path");
    if (!parse_number(port_text, 1, 65535 - CONFIG_PEER_OFFSET - UP_NODES_MAX, &port))
        return wrong_use("up: --port must be from 1 to %d",
                         65535 - CONFIG_PEER_OFFSET - UP_NODES_MAX);
    snprintf(up.dir, sizeof up.dir, "%s", dir);
    up.n = (uint32_t)nodes;
    up.port = (uint16_t)port;
    catch_signals(&up);
    if (!prepare(&up)) return 1;
    return run(&up);
}
