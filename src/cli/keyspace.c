/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "usage: sennit keyspace create NAME MODE raft [OPTION VALUE]...\n"
    "       sennit keyspace alter NAME OPTION VALUE...\n"
    "       sennit keyspace drop NAME\n"
    "       sennit keyspace list\n"
    "       sennit keyspace info NAME\n\n"
    "  the same as the command KEYSPACE of a server; a key belongs to the keyspace that "
    "its\n"
    "  text before the first ':' names\n\n"
    "  --server HOST:PORT       (127.0.0.1:6379)\n"
    "  --password-file FILE\n\n"
    "example: keys that begin with \"bank:\", on three servers, read from any of them\n"
    "  sennit keyspace create bank MODE raft READ any\n"
    "  redis-cli SET bank:alice 100\n";

static void print_text(struct bytes text)
{
    fwrite(text.at, 1, text.len, stdout);
}

static void print_elements(const struct value *array, const char *between)
{
    for (uint32_t i = 0; i < array->n; i++) {
        if (i > 0) fputs(between, stdout);
        print_text(value_text(value_at(array, i)));
    }
}

/* Names and values in two columns; a value of several parts on one line. */
static void print_map(const struct value *map)
{
    for (uint32_t i = 0; i + 1 < map->n; i += 2) {
        const struct bytes name = value_text(value_at(map, i));
        const struct value *content = value_at(map, i + 1);
        printf("%-16.*s ", (int)name.len, (const char *)name.at);
        if (content->kind == VALUE_ARRAY)
            print_elements(content, " ");
        else
            print_text(content->text);
        putchar('\n');
    }
}

static int print_reply(const struct value *reply, bool is_map)
{
    if (reply->kind == VALUE_ERROR)
        return trouble("%.*s", (int)reply->text.len, (const char *)reply->text.at);
    if (reply->kind != VALUE_ARRAY) {
        print_text(reply->text);
        putchar('\n');
        return 0;
    }
    if (is_map) {
        print_map(reply);
        return 0;
    }
    for (uint32_t i = 0; i < reply->n; i++) {
        const struct value *v = value_at(reply, i);
        if (v->kind == VALUE_ARRAY)
            print_elements(v, " ");
        else
            print_text(v->text);
        putchar('\n');
    }
    return 0;
}

/* What each wants behind its name: at least, at most. */
static const struct {
    const char *name;
    int least, most;
} subcommands[] = {
    {"create", 3, CLI_ARGS_MAX},
    {"alter", 3, CLI_ARGS_MAX},
    {"drop", 1, 1},
    {"list", 0, 0},
    {"info", 1, 1},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

static int check_words(int n, const char *const *words)
{
    const char *names[SUBCOMMANDS];

    if (n == 0) return wrong_use("keyspace: which of create, alter, drop, list, info?");
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        names[i] = subcommands[i].name;
        if (strcmp(words[0], names[i]) != 0) continue;
        if (n - 1 >= subcommands[i].least && n - 1 <= subcommands[i].most) return 0;
        return wrong_use(
            "keyspace %s: wrong number of arguments; `sennit keyspace --help` "
            "shows how",
            words[0]);
    }
    return unknown_flag("keyspace", words[0], names, SUBCOMMANDS);
}

int command_keyspace(int n, const char *const *args)
{
    static const char *const flags[] = {"--server", "--password-file"};
    struct target target = target_default();
    const char *words[CLI_ARGS_MAX + 2] = {"KEYSPACE"};
    const struct value *reply;
    struct client client;
    int n_words = 1;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        const int taken = target_option(&target, n, args, &i);
        if (taken < 0) return 2;
        if (taken > 0) continue;
        if (strncmp(args[i], "--", 2) == 0)
            return unknown_flag("keyspace", args[i], flags, 2);
        if (n_words > CLI_ARGS_MAX) return wrong_use("keyspace: too many arguments");
        words[n_words++] = args[i];
    }
    const int wrong = check_words(n_words - 1, words + 1);
    if (wrong != 0) return wrong;

    if (!target_open(&target, &client)) return 1;
    int code;
    if (client_call(&client, n_words, words, &reply))
        code = print_reply(reply, strcmp(words[1], "info") == 0);
    else
        code = trouble("%s", client.error);
    client_close(&client);
    return code;
}
