/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- words ---- */

static bool is_option(const char *word, const char *name)
{
    const size_t len = strlen(name);

    return strncmp(word, name, len) == 0 && (word[len] == 0 || word[len] == '=');
}

/* The value of the option at *i, which moves to its last word; NULL: it has none. */
static const char *value_at_word(int n, const char *const *args, int *i)
{
    const char *equals = strchr(args[*i], '=');

    if (equals != NULL) return equals + 1;
    if (*i + 1 >= n) return NULL;
    *i += 1;
    return args[*i];
}

static int take_value(const struct grammar *g, const struct option *o, const char *value)
{
    if (value == NULL || value[0] == 0)
        return wrong_use("%s: %s needs %s", g->command, o->name, o->wants);
    if (o->value != NULL) {
        *o->value = value;
        return 0;
    }
    if (o->values->n == CLI_ARGS_MAX)
        return wrong_use("%s: %s may be given %d times", g->command, o->name,
                         CLI_ARGS_MAX);
    o->values->all[o->values->n++] = value;
    return 0;
}

static int take_target(struct target *t, const char *server, const char *password_file)
{
    struct config_error why;

    if (server != NULL && !endpoint_parse(bytes_of_str(server), &t->server))
        return wrong_use("--server must be HOST:PORT, such as 127.0.0.1:6379");
    if (password_file != NULL && !secret_load(password_file, &t->password, &why))
        return wrong_use("--password-file: %s", why.text);
    return 0;
}

enum { OPTIONS_MAX = 12 };

static int take_word(const struct grammar *g, const struct option *options, size_t n,
                     const char *word, struct words *out)
{
    const char *names[OPTIONS_MAX];

    if (strncmp(word, "--", 2) == 0) {
        for (size_t k = 0; k < n; k++)
            names[k] = options[k].name;
        return unknown_flag(g->command, word, names, n);
    }
    if (out->n == CLI_ARGS_MAX) return wrong_use("%s: too many arguments", g->command);
    out->all[out->n++] = word;
    return 0;
}

int read_words(const struct grammar *g, int n, const char *const *args, struct words *out)
{
    const char *server = NULL, *password_file = NULL;
    struct option options[OPTIONS_MAX] = {
        {"--server", .value = &server, .wants = "HOST:PORT"},
        {"--password-file", .value = &password_file, .wants = "a file"}};
    size_t n_options = g->target != NULL ? 2 : 0;

    check(n_options + g->n_options <= OPTIONS_MAX);
    for (size_t k = 0; k < g->n_options; k++)
        options[n_options++] = g->options[k];
    out->n = 0;
    for (int i = 0; i < n; i++) {
        size_t k = 0;
        int wrong = 0;
        while (k < n_options && !is_option(args[i], options[k].name))
            k++;
        if (k == n_options)
            wrong = take_word(g, options, n_options, args[i], out);
        else if (options[k].set == NULL)
            wrong = take_value(g, &options[k], value_at_word(n, args, &i));
        else if (strchr(args[i], '=') != NULL)
            wrong = wrong_use("%s: %s takes no value", g->command, options[k].name);
        else
            *options[k].set = true;
        if (wrong != 0) return wrong;
    }
    return g->target == NULL ? 0 : take_target(g->target, server, password_file);
}

bool words_have(const struct words *w, const char *word)
{
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->all[i], word) == 0) return true;
    return false;
}

static const struct subcommand *named(const struct family *f, const char *word)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->all[i].name, word) == 0) return &f->all[i];
    return NULL;
}

bool family_help(const struct family *f, int n, const char *const *args)
{
    const struct subcommand *one = NULL;

    if (!wants_help(n, args)) return false;
    for (int i = 0; i < n && one == NULL; i++)
        one = named(f, args[i]);
    for (size_t i = 0; i < f->n; i++) {
        const struct subcommand *sub = &f->all[i];
        if (one != NULL && sub != one) continue;
        printf("%s sennit %s %s\n", one != NULL || i == 0 ? "usage:" : "      ",
               f->command, sub->usage);
    }
    putchar('\n');
    if (one != NULL) {
        fputs(one->help, stdout);
    } else {
        for (size_t i = 0; i < f->n; i++)
            printf("  %-9s %s\n", f->all[i].name, f->all[i].what);
        printf("\n`sennit %s %s --help` tells more of one, with examples.\n", f->command,
               f->all[0].name);
    }
    printf("\n%s", f->options);
    if (one == NULL) printf("\n%s", f->example);
    return true;
}

const struct subcommand *family_find(const struct family *f, const struct words *words)
{
    const char *names[SUBCOMMANDS_MAX];
    char list[128] = "";
    size_t len = 0;

    check(f->n <= SUBCOMMANDS_MAX);
    for (size_t i = 0; i < f->n; i++) {
        names[i] = f->all[i].name;
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i > 0 ? ", " : "",
                                names[i]);
        check(len < sizeof list);
    }
    if (words->n == 0) {
        wrong_use("%s: which of %s?  `sennit %s --help` shows how", f->command, list,
                  f->command);
        return NULL;
    }
    const struct subcommand *sub = named(f, words->all[0]);
    if (sub == NULL) {
        unknown_flag(f->command, words->all[0], names, f->n);
    } else if (words->n - 1 < sub->least || words->n - 1 > sub->most) {
        wrong_use("%s %s: wrong number of arguments; it is: sennit %s %s", f->command,
                  sub->name, f->command, sub->usage);
        sub = NULL;
    }
    return sub;
}

/* ---- servers ---- */

bool target_open(const struct target *t, struct client *c)
{
    if (client_open(c, &t->server, CALL_TIMEOUT_MS, &t->password)) return true;
    trouble("%s; is a server running there? (--server HOST:PORT names another one)",
            c->error);
    client_close(c);
    return false;
}

/* What a person can do about an error that begins with such a word. */
static const char *advice_on(struct bytes text)
{
    static const struct {
        const char *code, *advice;
    } all[] = {
        {"NOAUTH ", "give --password-file FILE"},
        {"NOLEADER ", "`sennit status` shows which servers are missing"},
        {"NOQUORUM ", "`sennit status` shows which servers are missing"},
        {"UNCERTAIN ", "`sennit status` shows how it goes on"},
        {"NOKEYSPACE ", "`sennit keyspace list` shows them"},
        {"LOADING ", "the server starts; try again in a moment"},
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const size_t len = strlen(all[i].code);
        if (text.len >= len && memcmp(text.at, all[i].code, len) == 0)
            return all[i].advice;
    }
    return NULL;
}

int tell_error(const struct value *reply)
{
    const char *advice = advice_on(reply->text);

    trouble("%.*s", (int)reply->text.len, (const char *)reply->text.at);
    if (advice != NULL) fprintf(stderr, "        %s\n", advice);
    return 1;
}

bool color_is_fit(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(STDOUT_FILENO) != 0 && (no_color == NULL || no_color[0] == 0) &&
           term != NULL && term[0] != 0 && strcmp(term, "dumb") != 0;
}

int color_choose(const char *command, const char *when, bool *coloured)
{
    *coloured = color_is_fit();
    if (when == NULL || strcmp(when, "auto") == 0) return 0;
    *coloured = strcmp(when, "always") == 0;
    if (*coloured || strcmp(when, "never") == 0) return 0;
    return wrong_use("%s: --color is auto, always or never", command);
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
