/* SPDX-License-Identifier: Apache-2.0 */
/* cli - the program's commands: each takes what stands behind its name and returns the exit
 * code: 0 fine, 1 trouble, 2 wrong use. */
#pragma once

#include <stdbool.h>

#include "cli/client.h"

int cli_main(int argc, const char *const *argv);

int command_server(int n, const char *const *args);
int command_up(int n, const char *const *args);
int command_status(int n, const char *const *args);
int command_keyspace(int n, const char *const *args);
int command_cluster(int n, const char *const *args);
int command_recover(int n, const char *const *args);
int command_backup(int n, const char *const *args);
int command_restore(int n, const char *const *args);

/* ---- words ---- */

enum { CLI_ARGS_MAX = 64 };

struct words {
    const char *all[CLI_ARGS_MAX];
    int n;
};

struct target { /* the server that is asked */
    struct endpoint server;
    struct secret password;
};
struct target target_default(void);

struct option {
    const char *name;     /* "--json" */
    bool *set;            /* it has no value */
    const char **value;   /* it has one: the next word, or what stands behind a '=' */
    struct words *values; /* it may be given several times */
    const char *wants;    /* what its value is: "a name" */
};

struct grammar {
    const char *command;
    const struct option *options;
    size_t n_options;
    struct target
        *target; /* it takes --server and --password-file, too; NULL: no server */
};

/* What is no option goes to `out`, in order.  0, or 2: it is wrong, which has been told. */
int read_words(const struct grammar *g, int n, const char *const *args,
               struct words *out);

bool words_have(const struct words *w, const char *word);

struct subcommand {
    const char *name;
    int least, most;   /* words behind it */
    const char *usage; /* behind "sennit COMMAND " */
    const char *what;  /* in a line */
    const char *help;  /* more of it, with examples */
};
enum { SUBCOMMANDS_MAX = 8 };

struct family {
    const char *command;
    const struct subcommand *all;
    size_t n;
    const char *options; /* what they take, for --help */
    const char *example;
};

/* --help of the family or of one of it: told, true. */
bool family_help(const struct family *f, int n, const char *const *args);
/* The one that words[0] names; NULL: it is wrong, which has been told. */
const struct subcommand *family_find(const struct family *f, const struct words *words);

bool wants_help(int n, const char *const *args);          /* --help or -h anywhere */
PRINTF_LIKE(1, 2) int wrong_use(const char *format, ...); /* told on stderr; 2 */
PRINTF_LIKE(1, 2) int trouble(const char *format, ...);   /* told on stderr; 1 */
int unknown_flag(const char *command, const char *flag, const char *const *flags,
                 size_t n);

/* ---- common to those that talk to a server ---- */

enum { CALL_TIMEOUT_MS = 15000 };

#define HELP_SERVER                                                                      \
    "  --server HOST:PORT       any server of the cluster (127.0.0.1:6379)\n"            \
    "  --password-file FILE     what clients must AUTH with\n"
#define HELP_COLOR                                                                       \
    "  --color WHEN             auto, always or never (auto: on a terminal, unless\n"    \
    "                           NO_COLOR is set or TERM is dumb)\n"

/* False: told. */
MUST_USE bool target_open(const struct target *t, struct client *c);
/* An error that a server answered, told with what to do about it; 1. */
int tell_error(const struct value *reply);
bool color_is_fit(void); /* stdout is a terminal, and nothing speaks against it */
/* 0, or 2: `when` is none of --color's values, which has been told.  NULL: auto. */
int color_choose(const char *command, const char *when, bool *coloured);
