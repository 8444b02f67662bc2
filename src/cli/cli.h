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

/* ---- common to those that talk to a server ---- */

enum { CALL_TIMEOUT_MS = 15000, CLI_ARGS_MAX = 64 };

struct target {
    struct endpoint server;
    struct secret password;
};
struct target target_default(void);

/* If args[*i] is --server or --password-file it is taken in, with its value, and *i moves to
 * its last word: 1.  0: it is something else.  -1: it is wrong, which has been told. */
int target_option(struct target *t, int n, const char *const *args, int *i);
/* False: told. */
MUST_USE bool target_open(const struct target *t, struct client *c);

bool wants_help(int n, const char *const *args);          /* --help or -h anywhere */
PRINTF_LIKE(1, 2) int wrong_use(const char *format, ...); /* told on stderr; 2 */
PRINTF_LIKE(1, 2) int trouble(const char *format, ...);   /* told on stderr; 1 */
int unknown_flag(const char *command, const char *flag, const char *const *flags,
                 size_t n);
