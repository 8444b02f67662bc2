/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli.h"
#include "cli/grid.h"

enum { POLL_US = 300 * 1000 };

static const char help[] =
    "usage: sennit cluster list\n"
    "       sennit cluster drain NAME [--shrink] [--no-wait]\n"
    "       sennit cluster remove NAME [--shrink] [--no-wait]\n"
    "       sennit cluster replace OLD NEW [--no-wait]\n"
    "       sennit cluster activate NAME\n"
    "       sennit cluster failover KEYSPACE [SERVER]\n"
    "       sennit cluster join MEMBER-HOST:PEER-PORT\n\n"
    "  list      the servers, and what each holds\n"
    "  drain     moves all replicas off a server, which stays a member\n"
    "  remove    drains it, and then it is no member any more; it may be dead\n"
    "  replace   removes OLD; NEW takes what it held\n"
    "  activate  ends drain, or a remove that is not done yet\n"
    "  failover  hands the lead of a keyspace's shards to another server\n"
    "  join      tells how a server becomes a member of another one's cluster: it joins\n"
    "            when it is started for the first time, never later\n\n"
    "  --shrink                 go on with fewer voters if nobody can take the place\n"
    "  --no-wait                do not wait until it is done; Ctrl-C stops the waiting "
    "only\n"
    "  --server HOST:PORT       any server of the cluster (127.0.0.1:6379)\n"
    "  --password-file FILE\n\n"
    "example: a machine that is to be switched off for good\n"
    "  sennit cluster remove s3\n";

static const struct subcommand {
    const char *name;
    int least, most; /* words behind it */
    bool waits;
} subcommands[] = {
    {"list", 0, 0, false},   {"drain", 1, 1, true},     {"remove", 1, 1, true},
    {"replace", 2, 2, true}, {"activate", 1, 1, false}, {"failover", 1, 2, false},
    {"join", 0, 1, false},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static int join(const char *member)
{
    return wrong_use(
        "cluster join: a running server keeps the cluster that it has begun, and the "
        "data in\n"
        "it.  Start the one that is to join with an empty data directory and\n"
        "  sennit server --data DIR --client HOST:PORT --join %s\n"
        "where --join names the peer address of any member (its client port + 10000, if "
        "it was\n"
        "not told otherwise).",
        member != NULL ? member : "MEMBER-HOST:PEER-PORT");
}

static int refused(const struct value *reply)
{
    return trouble("%.*s", (int)reply->text.len, (const char *)reply->text.at);
}

/* ---- SERVER LIST ---- */

static bool ask_list(struct client *c, const struct value **reply)
{
    static const char *const args[] = {"SERVER", "LIST"};

    if (!client_call(c, 2, args, reply)) return false;
    return (*reply)->kind == VALUE_ARRAY;
}

static int list(struct client *c)
{
    static const char *const heads[] = {"SERVER",     "STATE",    "ZONE",
                                        "CLIENTS AT", "PEERS AT", "REPLICAS",
                                        "LEADS",      "TO GO",    "LEVEL"};
    static const char *const keys[] = {"name",     "state", "zone",  "client", "peer",
                                       "replicas", "leads", "to-go", "level"};
    enum { KEYS = sizeof keys / sizeof *keys };
    const struct value *reply;

    if (!ask_list(c, &reply)) return trouble("SERVER LIST: %s", c->error);
    struct grid t = grid_new(KEYS, heads);
    for (uint32_t i = 0; i < reply->n; i++)
        for (size_t k = 0; k < KEYS; k++)
            grid_put(&t, value_text(value_of(value_at(reply, i), keys[k])), TONE_PLAIN);
    grid_print(&t, stdout, false);
    grid_free(&t);
    return 0;
}

/* NULL: it is no member (any more). */
static const struct value *row_of(const struct value *servers, const char *name)
{
    for (uint32_t i = 0; i < servers->n; i++) {
        const struct value *row = value_at(servers, i);
        if (bytes_equal(value_text(value_of(row, "name")), bytes_of_str(name)))
            return row;
    }
    return NULL;
}

/* ---- waiting ---- */

/* Until the server has drained, or is gone; each number of shards is told once. */
static int wait_for(struct client *c, const char *name)
{
    int64_t told = -1;

    for (;;) {
        const struct value *reply;
        if (!ask_list(c, &reply))
            return trouble(
                "it goes on, but who was asked is not there any more (%s); ask "
                "another server: sennit cluster list --server HOST:PORT",
                c->error);
        const struct value *row = row_of(reply, name);
        if (row == NULL) {
            printf("%s is no member any more\n", name);
            return 0;
        }
        const struct bytes state = value_text(value_of(row, "state"));
        if (bytes_equal(state, BYTES_OF("drained"))) {
            printf("%s holds nothing any more\n", name);
            return 0;
        }
        if (bytes_equal(state, BYTES_OF("active")))
            return trouble("%s was activated again meanwhile", name);
        const struct value *left = value_of(row, "to-go");
        if (left != NULL && left->integer != told) {
            told = left->integer;
            printf("%s: %lld shard%s to go\n", name, (long long)told,
                   told == 1 ? "" : "s");
            fflush(stdout);
        }
        usleep(POLL_US);
    }
}

/* ---- the command ---- */

struct order {
    const struct subcommand *sub;
    const char *words[3];
    int n_words; /* the first is the subcommand's name */
    bool shrink, no_wait;
};

static int carry_out(struct client *c, const struct order *o)
{
    const char *args[6] = {"SERVER"};
    const struct value *reply;
    int n = 1;

    if (strcmp(o->sub->name, "list") == 0) return list(c);
    if (strcmp(o->sub->name, "failover") == 0) {
        n = 0;
        args[n++] = "FAILOVER";
        args[n++] = o->words[1];
        if (o->n_words == 3) args[n++] = "TO";
        if (o->n_words == 3) args[n++] = o->words[2];
    } else {
        for (int i = 0; i < o->n_words; i++)
            args[n++] = o->words[i];
        if (o->shrink) args[n++] = "SHRINK";
    }
    if (!client_call(c, n, args, &reply)) return trouble("%s", c->error);
    if (reply->kind == VALUE_ERROR) return refused(reply);
    if (o->sub->waits && !o->no_wait) return wait_for(c, o->words[1]);
    puts("OK");
    return 0;
}

static int read_words(struct order *o, const char *word)
{
    if (o->n_words == 3) return wrong_use("cluster: too many arguments");
    o->words[o->n_words++] = word;
    return 0;
}

static int check_order(struct order *o)
{
    const char *names[SUBCOMMANDS];

    if (o->n_words == 0)
        return wrong_use("cluster: what? `sennit cluster --help` lists what there is");
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        names[i] = subcommands[i].name;
        if (strcmp(names[i], o->words[0]) == 0) o->sub = &subcommands[i];
    }
    if (o->sub == NULL) return unknown_flag("cluster", o->words[0], names, SUBCOMMANDS);
    const int n = o->n_words - 1;
    const bool shrinks = strcmp(o->sub->name, "drain") == 0 ||
                         strcmp(o->sub->name, "remove") == 0;
    if (n >= o->sub->least && n <= o->sub->most && (shrinks || !o->shrink)) return 0;
    return wrong_use("cluster %s: wrong arguments; `sennit cluster --help` shows how",
                     o->sub->name);
}

int command_cluster(int n, const char *const *args)
{
    static const char *const flags[] = {"--shrink", "--no-wait", "--server",
                                        "--password-file"};
    struct target target = target_default();
    struct order o = {.sub = NULL};
    struct client client;
    int wrong = 0;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    for (int i = 0; i < n && wrong == 0; i++) {
        const int taken = target_option(&target, n, args, &i);
        if (taken < 0) return 2;
        if (taken > 0) continue;
        if (strcmp(args[i], "--shrink") == 0)
            o.shrink = true;
        else if (strcmp(args[i], "--no-wait") == 0)
            o.no_wait = true;
        else if (strncmp(args[i], "--", 2) == 0)
            return unknown_flag("cluster", args[i], flags, 4);
        else
            wrong = read_words(&o, args[i]);
    }
    if (wrong == 0) wrong = check_order(&o);
    if (wrong != 0) return wrong;
    check(o.sub != NULL);
    if (strcmp(o.sub->name, "join") == 0) return join(o.words[1]);

    if (!target_open(&target, &client)) return 1;
    const int code = carry_out(&client, &o);
    client_close(&client);
    return code;
}
