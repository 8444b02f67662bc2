/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/grid.h"
#include "cli/json.h"
#include "cli/units.h"

static const struct subcommand subcommands[] = {
    {"create", 3, CLI_ARGS_MAX, "create NAME MODE raft|primary [OPTION VALUE]...",
     "makes a keyspace for the keys that begin with NAME:",
     "  MODE raft       acknowledged by a majority on disk; reads are linearizable\n"
     "  MODE primary    one writer, ACK async, a number of followers, or all\n"
     "  other options   REPLICAS SHARDS READ ACK DURABILITY FAILOVER MAXLAG LEARNERS, "
     "as\n"
     "                  docs/guarantees.md has them\n\n"
     "example: accounts, and a cache whose writes wait for nobody\n"
     "  sennit keyspace create bank MODE raft SHARDS 4\n"
     "  sennit keyspace create cache MODE primary ACK async DURABILITY memory\n"
     "  redis-cli SET bank:alice 100\n"},
    {"alter", 3, CLI_ARGS_MAX, "alter NAME OPTION VALUE...",
     "changes options while clients write",
     "  It ends when all shards follow the new rules; until then the stricter of the "
     "old\n"
     "  and the new ones hold.  SHARDS can't be changed.\n\n"
     "example: the cache is to be on two disks before the answer from now on\n"
     "  sennit keyspace alter cache ACK 1 DURABILITY fsync\n"},
    {"drop", 1, 1, "drop NAME", "removes a keyspace with all its keys",
     "  There is no way back but a backup.\n\n"
     "example:\n"
     "  sennit backup --keyspace cache ./cache-copy\n"
     "  sennit keyspace drop cache\n"},
    {"list", 0, 0, "list [--json]", "all keyspaces with their options",
     "  A key belongs to the keyspace that its text before the first ':' names, or to\n"
     "  default if there is none of that name.\n\n"
     "example: the names alone\n"
     "  sennit keyspace list --json | jq -r '.[].name'\n"},
    {"info", 1, 1, "info NAME [--json]", "one keyspace",
     "  `unsettled` counts shards that do not follow these options yet; `sennit status`\n"
     "  shows what they follow meanwhile.\n\n"
     "example:\n"
     "  sennit keyspace info bank\n"},
};

static const struct family family = {
    "keyspace", subcommands, sizeof subcommands / sizeof *subcommands,
    "  --json                   for programs\n" HELP_COLOR HELP_SERVER,
    "example: keys that begin with \"bank:\", on three servers, read from any of them\n"
    "  sennit keyspace create bank MODE raft READ any\n"
    "  redis-cli SET bank:alice 100\n"};

struct order {
    struct words words; /* the first is the subcommand's name */
    bool json, coloured;
};

/* Names and values in two columns. */
static void print_info(const struct value *map)
{
    for (uint32_t i = 0; i + 1 < map->n; i += 2) {
        const struct bytes name = value_text(value_at(map, i));
        const struct bytes text = value_text(value_at(map, i + 1));
        printf("  %-12.*s %.*s\n", (int)name.len, (const char *)name.at, (int)text.len,
               (const char *)text.at);
    }
}

/* ---- list ---- */

enum { LIST_COLUMNS = 12 };
static const struct grid_column list_columns[LIST_COLUMNS] = {
    {"KEYSPACE", false}, {"MODE", false},    {"STATE", false}, {"SHARDS", true},
    {"REPLICAS", true},  {"LEARNERS", true}, {"ACK", false},   {"DURABILITY", false},
    {"FAILOVER", false}, {"READ", false},    {"MAXLAG", true}, {"UNSETTLED", true}};
static const char *const list_keys[LIST_COLUMNS] = {
    "name", "mode",       "state",    "shards", "replicas", "learners",
    "ack",  "durability", "failover", "read",   "maxlag",   "unsettled"};

static void put_row(struct grid *g, const struct value *info)
{
    for (size_t k = 0; k < LIST_COLUMNS; k++) {
        const struct value *v = value_of(info, list_keys[k]);
        struct bytes text = value_text(v);
        enum grid_tone tone = TONE_PLAIN;
        char time[UNIT_TEXT_MAX];
        if (strcmp(list_keys[k], "state") == 0 && !bytes_equal(text, BYTES_OF("active")))
            tone = TONE_WARN;
        if (strcmp(list_keys[k], "unsettled") == 0) tone = TONE_WARN;
        if (v != NULL && v->kind == VALUE_INTEGER && v->integer == 0) text.len = 0;
        if (strcmp(list_keys[k], "maxlag") == 0 && text.len > 0)
            text = bytes_of_str(time_text((uint64_t)v->integer, time));
        grid_put(g, text, tone);
    }
}

static int list(struct client *c, const struct order *o)
{
    static const char *const ask[] = {"KEYSPACE", "LIST"};
    struct grid g = grid_new(list_columns, LIST_COLUMNS);
    const struct value *reply;
    struct kept names;
    uint32_t shown = 0;
    int code = 0;

    if (!client_call(c, 2, ask, &reply)) return trouble("%s", c->error);
    if (reply->kind != VALUE_ARRAY) return tell_error(reply);
    client_take(c, &names);
    if (o->json) putchar('[');
    for (uint32_t i = 0; i < names.reply->n && code == 0; i++) {
        char name[CONFIG_NAME_MAX + 1];
        const struct bytes text = value_text(value_at(names.reply, i));
        snprintf(name, sizeof name, "%.*s", (int)text.len, (const char *)text.at);
        const char *const args[] = {"KEYSPACE", "INFO", name};
        if (!client_call(c, 3, args, &reply)) code = trouble("%s", c->error);
        if (code != 0 || reply->kind != VALUE_ARRAY) continue; /* dropped meanwhile */
        if (o->json && shown++ > 0) putchar(',');
        if (o->json) json_map(stdout, reply);
        put_row(&g, reply);
    }
    if (o->json)
        puts("]");
    else if (code == 0)
        grid_print(&g, stdout, o->coloured);
    grid_free(&g);
    kept_free(&names);
    return code;
}

/* ---- the command ---- */

static int carry_out(struct client *c, const struct order *o)
{
    const char *args[CLI_ARGS_MAX + 1] = {"KEYSPACE"};
    const struct value *reply;

    if (strcmp(o->words.all[0], "list") == 0) return list(c, o);
    for (int i = 0; i < o->words.n; i++)
        args[1 + i] = o->words.all[i];
    if (!client_call(c, o->words.n + 1, args, &reply)) return trouble("%s", c->error);
    if (reply->kind == VALUE_ERROR) return tell_error(reply);
    if (reply->kind != VALUE_ARRAY) {
        json_or_text(stdout, o->json, reply);
    } else if (o->json) {
        json_map(stdout, reply);
        putchar('\n');
    } else {
        print_info(reply);
    }
    return 0;
}

int command_keyspace(int n, const char *const *args)
{
    struct target target = target_default();
    struct order o = {.json = false};
    const char *color = NULL;
    const struct option options[] = {
        {"--json", .set = &o.json},
        {"--color", .value = &color, .wants = "auto, always or never"}};
    const struct grammar grammar = {"keyspace", options, 2, &target};
    struct client client;

    if (family_help(&family, n, args)) return 0;
    int wrong = read_words(&grammar, n, args, &o.words);
    if (wrong == 0) wrong = color_choose("keyspace", color, &o.coloured);
    if (wrong != 0) return wrong;
    if (family_find(&family, &o.words) == NULL) return 2;

    if (!target_open(&target, &client)) return 1;
    const int code = carry_out(&client, &o);
    client_close(&client);
    return code;
}
