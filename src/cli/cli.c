/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name, *what;
    int (*run)(int n, const char *const *args);
};

static const struct command commands[] = {
    {"server", "run a server", command_server},
    {"up", "run a whole cluster on this machine, in the foreground", command_up},
    {"status", "show a running cluster: servers, keyspaces, shards", command_status},
    {"keyspace", "create, alter, drop, list or look at keyspaces", command_keyspace},
    {"cluster", "change which servers are members", command_cluster},
    {"recover", "make a cluster of one of a survivor", command_recover},
    {"backup", "copy a running cluster into a directory, or check such a copy",
     command_backup},
    {"restore", "bring such a copy into a running cluster", command_restore},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out)
{
    fputs("sennit - a replicated store that speaks the Redis protocol; each keyspace "
          "names\n"
          "its own way of replication\n\n"
          "usage: sennit COMMAND [options]\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].what);
    fputs("\n"
          "  --version, --help; `sennit COMMAND --help` tells more of each\n\n"
          "example: a cluster of three in one terminal, a client in another\n"
          "  sennit up --nodes 3 --dir ./data\n"
          "  redis-cli -p 6379 SET greeting hello\n",
          out);
}

int wrong_use(const char *format, ...)
{
    va_list args;

    fputs("sennit: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return 2;
}

int trouble(const char *format, ...)
{
    va_list args;

    fputs("sennit: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return 1;
}

bool wants_help(int n, const char *const *args)
{
    for (int i = 0; i < n; i++)
        if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0) return true;
    return false;
}

int unknown_flag(const char *command, const char *flag, const char *const *flags,
                 size_t n)
{
    const char *near = config_nearest(flag, flags, n);

    if (near != NULL)
        return wrong_use("%s: unknown argument '%s' (did you mean %s?)", command, flag,
                         near);
    return wrong_use("%s: unknown argument '%s'; `sennit %s --help` lists what there is",
                     command, flag, command);
}

struct target target_default(void)
{
    return (struct target){.server = {"127.0.0.1", 6379}};
}

/* The value of a flag written as one word or two; NULL: it is another flag, or lacks it. */
static const char *flag_value(const char *flag, int n, const char *const *args, int *i,
                              bool *named)
{
    const size_t len = strlen(flag);

    *named = strncmp(args[*i], flag, len) == 0 &&
             (args[*i][len] == 0 || args[*i][len] == '=');
    if (!*named) return NULL;
    if (args[*i][len] == '=') return args[*i] + len + 1;
    if (*i + 1 >= n) return NULL;
    *i += 1;
    return args[*i];
}

int target_option(struct target *t, int n, const char *const *args, int *i)
{
    struct config_error why;
    bool named;

    const char *value = flag_value("--server", n, args, i, &named);
    if (named) {
        if (value != NULL && endpoint_parse(bytes_of_str(value), &t->server)) return 1;
        wrong_use("--server must be HOST:PORT, such as 127.0.0.1:6379");
        return -1;
    }
    value = flag_value("--password-file", n, args, i, &named);
    if (!named) return 0;
    if (value == NULL) {
        wrong_use("--password-file needs a file");
        return -1;
    }
    if (secret_load(value, &t->password, &why)) return 1;
    wrong_use("--password-file: %s", why.text);
    return -1;
}

bool target_open(const struct target *t, struct client *c)
{
    if (client_open(c, &t->server, CALL_TIMEOUT_MS, &t->password)) return true;
    trouble("%s; is a server running there? (--server HOST:PORT names another one)",
            c->error);
    client_close(c);
    return false;
}

int cli_main(int argc, const char *const *argv)
{
    const char *names[COMMANDS];

    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
        names[i] = commands[i].name;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("sennit %s\n", SENNIT_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    const char *near = config_nearest(argv[1], names, COMMANDS);
    if (near != NULL)
        return wrong_use("unknown command '%s' (did you mean `sennit %s`?)", argv[1],
                         near);
    return wrong_use("unknown command '%s'; `sennit --help` lists the commands", argv[1]);
}
