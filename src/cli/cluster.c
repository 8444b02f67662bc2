/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli.h"
#include "cli/grid.h"
#include "cli/json.h"

enum { POLL_US = 300 * 1000 };

static const struct subcommand subcommands[] = {
    {"list", 0, 0, "list [--json]", "the servers, and what each holds",
     "  One line for each member: its state, zone and addresses, how many replicas of\n"
     "  shards it holds and leads, and how many have to go before it has left.\n\n"
     "example: whose replicas are still to go?\n"
     "  sennit cluster list --json | jq '.[] | select(.\"to-go\" > 0) | .name'\n"},
    {"drain", 1, 1, "drain NAME [--shrink] [--no-wait]",
     "moves all replicas off a server, which stays a member",
     "  Leads are handed over first, then other servers take the replicas.  The server\n"
     "  may be switched off meanwhile; `activate` lets it take replicas again.\n\n"
     "example: a machine that is to be repaired for some days\n"
     "  sennit cluster drain s3\n"
     "  sennit cluster activate s3\n"},
    {"activate", 1, 1, "activate NAME", "ends drain, or a remove that is not done yet",
     "  The server takes replicas again, a few at a time.\n\n"
     "example:\n"
     "  sennit cluster activate s3\n"},
    {"remove", 1, 1, "remove NAME [--shrink] [--no-wait]",
     "drains it, and then it is no member any more; it may be dead",
     "  A removed server ends, and its data directory is of no use any more: it joins\n"
     "  again with an empty one.\n\n"
     "example: a machine that is to be switched off for good\n"
     "  sennit cluster remove s3\n"},
    {"replace", 2, 2, "replace OLD NEW [--no-wait]",
     "removes OLD; NEW takes what it held",
     "  NEW must be a member already: start it with --join before.  OLD may be dead.\n\n"
     "example: a new machine for an old one\n"
     "  sennit server --name s4 --data DIR --client HOST:PORT --join MEMBER:PEER-PORT\n"
     "  sennit cluster replace s3 s4\n"},
    {"failover", 1, 2, "failover KEYSPACE [SERVER] [--force]",
     "hands the lead of a keyspace's shards to another server",
     "  Nothing that was acknowledged is lost.  With --force those who lead now are not\n"
     "  asked: for FAILOVER manual when the primary is gone for good.  The answer says "
     "if\n"
     "  acknowledged writes may be lost by that; see docs/guarantees.md first.\n\n"
     "example: before a machine is restarted\n"
     "  sennit cluster failover orders s2\n"},
    {"join", 0, 1, "join [MEMBER-HOST:PEER-PORT]",
     "tells how a server becomes a member of another one's cluster",
     "  A server joins when it is started for the first time, never later.\n\n"
     "example:\n"
     "  sennit cluster join 10.0.0.1:16379\n"},
};

static const struct family family = {
    "cluster", subcommands, sizeof subcommands / sizeof *subcommands,
    "  --shrink                 drain, remove: go on with fewer voters if nobody can\n"
    "                           take the place\n"
    "  --no-wait                do not wait until it is done; Ctrl-C stops the waiting\n"
    "                           only\n"
    "  --json                   for programs\n" HELP_COLOR HELP_SERVER,
    "example: see the servers, move all off one of them\n"
    "  sennit cluster list\n"
    "  sennit cluster drain s3\n"};

struct order {
    const struct subcommand *sub;
    struct words words; /* the first is the subcommand's name */
    bool shrink, no_wait, force, json, coloured;
};

static bool is_sub(const struct order *o, const char *name)
{
    return strcmp(o->sub->name, name) == 0;
}

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

/* ---- SERVER LIST ---- */

static bool ask_list(struct client *c, const struct value **reply)
{
    static const char *const args[] = {"SERVER", "LIST"};

    if (!client_call(c, 2, args, reply)) return false;
    return (*reply)->kind == VALUE_ARRAY;
}

static void print_list(const struct value *servers, bool coloured)
{
    static const struct grid_column columns[] = {
        {"SERVER", false},     {"STATE", false},    {"REACHABLE", false}, {"ZONE", false},
        {"CLIENTS AT", false}, {"PEERS AT", false}, {"REPLICAS", true},   {"LEADS", true},
        {"TO GO", true},       {"LEVEL", true}};
    static const char *const keys[] = {"name", "state",    "reachable", "zone",  "client",
                                       "peer", "replicas", "leads",     "to-go", "level"};
    enum { KEYS = sizeof keys / sizeof *keys };
    struct grid g = grid_new(columns, KEYS);

    for (uint32_t i = 0; i < servers->n; i++) {
        const struct value *row = value_at(servers, i);
        const bool stays = bytes_equal(value_text(value_of(row, "state")),
                                       BYTES_OF("active"));
        for (size_t k = 0; k < KEYS; k++) {
            struct bytes text = value_text(value_of(row, keys[k]));
            enum grid_tone tone = TONE_PLAIN;
            if (strcmp(keys[k], "reachable") == 0) {
                const bool up = bytes_equal(text, BYTES_OF("1"));
                text = up ? BYTES_OF("yes") : BYTES_OF("no");
                tone = up ? TONE_PLAIN : TONE_BAD;
            }
            if (strcmp(keys[k], "state") == 0 && !stays) tone = TONE_WARN;
            if (strcmp(keys[k], "to-go") == 0 && stays) text.len = 0;
            grid_put(&g, text, tone);
        }
    }
    grid_print(&g, stdout, coloured);
    grid_free(&g);
}

static int list(struct client *c, const struct order *o)
{
    const struct value *reply;

    if (!ask_list(c, &reply)) {
        if (c->error[0] != 0) return trouble("SERVER LIST: %s", c->error);
        return tell_error(reply);
    }
    if (!o->json) {
        print_list(reply, o->coloured);
        return 0;
    }
    json_rows(stdout, reply);
    putchar('\n');
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

static int ended(const struct order *o, const char *how)
{
    if (o->json)
        puts("{\"ok\":true}");
    else
        printf("%s %s\n", o->words.all[1], how);
    return 0;
}

/* Until the server has drained, or is gone; each number of shards is told once. */
static int wait_for(struct client *c, const struct order *o)
{
    const char *name = o->words.all[1];
    int64_t told = -1;

    for (;;) {
        const struct value *reply;
        if (!ask_list(c, &reply))
            return trouble(
                "it goes on, but who was asked is not there any more (%s); ask "
                "another server: sennit cluster list --server HOST:PORT",
                c->error);
        const struct value *row = row_of(reply, name);
        if (row == NULL) return ended(o, "is no member any more");
        const struct bytes state = value_text(value_of(row, "state"));
        if (bytes_equal(state, BYTES_OF("drained")))
            return ended(o, "holds nothing any more");
        if (bytes_equal(state, BYTES_OF("active")))
            return trouble("%s was activated again meanwhile", name);
        const struct value *left = value_of(row, "to-go");
        if (left != NULL && left->integer != told && !o->json) {
            told = left->integer;
            printf("%s: %lld shard%s to go\n", name, (long long)told,
                   told == 1 ? "" : "s");
            fflush(stdout);
        }
        usleep(POLL_US);
    }
}

/* ---- the command ---- */

static int order_words(const struct order *o, const char *args[8])
{
    int n = 0;

    if (is_sub(o, "failover")) {
        args[n++] = "FAILOVER";
        args[n++] = o->words.all[1];
        if (o->words.n == 3) args[n++] = "TO";
        if (o->words.n == 3) args[n++] = o->words.all[2];
        if (o->force) args[n++] = "FORCE";
        return n;
    }
    args[n++] = "SERVER";
    for (int i = 0; i < o->words.n; i++)
        args[n++] = o->words.all[i];
    if (o->shrink) args[n++] = "SHRINK";
    return n;
}

static int carry_out(struct client *c, const struct order *o)
{
    const bool waits = is_sub(o, "drain") || is_sub(o, "remove") || is_sub(o, "replace");
    const struct value *reply;
    const char *args[8];

    if (is_sub(o, "list")) return list(c, o);
    if (!client_call(c, order_words(o, args), args, &reply))
        return trouble("%s", c->error);
    if (reply->kind == VALUE_ERROR) return tell_error(reply);
    if (waits && !o->no_wait) return wait_for(c, o);
    json_or_text(stdout, o->json, reply);
    return 0;
}

static int check_order(const struct order *o)
{
    if (o->shrink && !is_sub(o, "drain") && !is_sub(o, "remove"))
        return wrong_use("cluster %s: --shrink is for drain and remove", o->sub->name);
    if (o->force && !is_sub(o, "failover"))
        return wrong_use("cluster %s: --force is for failover", o->sub->name);
    return 0;
}

int command_cluster(int n, const char *const *args)
{
    struct target target = target_default();
    struct order o = {.sub = NULL};
    const char *color = NULL;
    const struct option options[] = {
        {"--shrink", .set = &o.shrink},
        {"--no-wait", .set = &o.no_wait},
        {"--force", .set = &o.force},
        {"--json", .set = &o.json},
        {"--color", .value = &color, .wants = "auto, always or never"}};
    const struct grammar grammar = {"cluster", options, 5, &target};
    struct client client;

    if (family_help(&family, n, args)) return 0;
    int wrong = read_words(&grammar, n, args, &o.words);
    if (wrong == 0) wrong = color_choose("cluster", color, &o.coloured);
    if (wrong != 0) return wrong;
    o.sub = family_find(&family, &o.words);
    if (o.sub == NULL || check_order(&o) != 0) return 2;
    if (is_sub(&o, "join")) return join(o.words.n == 2 ? o.words.all[1] : NULL);

    if (!target_open(&target, &client)) return 1;
    const int code = carry_out(&client, &o);
    client_close(&client);
    return code;
}
