/* SPDX-License-Identifier: Apache-2.0 */
/* config - what the operator wants of a server: flags and `name = value` lines.
 *
 *     defaults ─► config_parse_text(file) ─► config_parse_args(flags) ─► config_finish()
 *
 * Pure: no file is read here (host/config_load.h does), so the fuzzer can have all of it.
 *
 * Errors   false, with a text for the operator that says what was wrong and what to do; the
 *          config may be half filled then and is thrown away
 * Limits   names and addresses as in struct config, a line of a file CONFIG_LINE_MAX
 */
#pragma once

#include "base/bytes.h"
#include "server/server.h"

enum {
    CONFIG_NAME_MAX = 64,
    CONFIG_HOST_MAX = 253,
    CONFIG_PATH_MAX = 4000,
    CONFIG_LINE_MAX = 8192,
    CONFIG_ENDPOINT_TEXT = CONFIG_HOST_MAX + 9, /* "[host]:65535" and its end */
    CONFIG_ERROR_MAX = 1024,
    CONFIG_PEER_OFFSET = 10000,
};

struct endpoint {
    char host[CONFIG_HOST_MAX + 1]; /* without brackets; empty: not given */
    uint16_t port;
};

struct config {
    char name[CONFIG_NAME_MAX + 1];
    char zone[CONFIG_NAME_MAX + 1];
    char data[CONFIG_PATH_MAX + 1];
    char config_file[CONFIG_PATH_MAX + 1];
    char password_file[CONFIG_PATH_MAX + 1];
    char secret_file[CONFIG_PATH_MAX + 1];
    struct endpoint client, peer, http, join, advertise_client, advertise_peer;
    char machine[CONFIG_HOST_MAX + 1]; /* its name, not an option; empty: not known */
    bool http_off;                     /* said so; an empty `http` is off, too */
    bool insecure;
    uint64_t memory_bytes; /* 0: half of the machine's */
    uint64_t clients_max;
    uint64_t request_timeout_ns;
    uint64_t wal_keep_bytes, transfer_bytes_per_s;
    uint64_t max_clock_skew_ns;
    uint64_t replace_after_ns;
    enum server_log_level log_level;
};

struct config_error {
    char text[CONFIG_ERROR_MAX];
};

/* "host:port", "[::1]:port". */
MUST_USE bool endpoint_parse(struct bytes text, struct endpoint *out);
/* As others dial it, with brackets where they are needed. */
void endpoint_text(const struct endpoint *e, char text[CONFIG_ENDPOINT_TEXT]);
bool endpoint_is_loopback(const struct endpoint *e);
bool endpoint_is_wildcard(const struct endpoint *e); /* all addresses of this machine */

void config_default(struct config *c);
/* The lines of a config file; `path` is for the messages. */
MUST_USE bool config_parse_text(struct config *c, struct bytes text, const char *path,
                                struct config_error *why);
/* "--name value" and "--name=value". */
MUST_USE bool config_parse_args(struct config *c, int n, const char *const *args,
                                struct config_error *why);
/* Fills in what follows from the rest (peer port, addresses told to others: who listens on
 * all addresses is told of by the name of the machine), and refuses what does not go
 * together. */
MUST_USE bool config_finish(struct config *c, struct config_error *why);

/* The name among those given that is nearest to `word`, NULL if none is near: for hints. */
const char *config_nearest(const char *word, const char *const *names, size_t n);
