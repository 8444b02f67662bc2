/* SPDX-License-Identifier: Apache-2.0 */
/* link - a connection to a cluster, for what takes long: to the server that was named, and when
 * that is lost to any other of which it told.
 *
 * Errors   false or NULL, with a text in `error`
 * Owner    a reply is good until the link's next call
 */
#pragma once

#include "cli/cli.h"
#include "cli/manifest.h"

/* A value of 512 MB may be under way, or a checkpoint be written. */
enum { LINK_TIMEOUT_MS = 120000 };
enum { LINK_SERVERS_MAX = 256, LINK_ERROR_MAX = 768, LINK_WORDS_MAX = 72 };

struct link {
    struct target target;
    struct endpoint servers[LINK_SERVERS_MAX]; /* the one that was named comes first */
    uint32_t n_servers, at;
    unsigned timeout_ms;
    bool open;
    struct client client;
    char error[LINK_ERROR_MAX];
};

/* To the server named; learns of the others. */
MUST_USE bool link_open(struct link *l, const struct target *target, unsigned timeout_ms);
void link_learn(struct link *l, struct bytes nodes); /* of what CLUSTER NODES tells */
void link_close(struct link *l);
/* To the server it was connected with, or else the next one that lets it in.  False: none. */
MUST_USE bool link_again(struct link *l);
MUST_USE bool link_move(struct link *l, struct bytes address); /* "host:port" */
/* NULL: the connection is lost and closed.  An error reply is a reply. */
const struct value *link_call(struct link *l, int n, const char *const *args);
/* Likewise, but an error reply gives NULL, too, with the connection open. */
const struct value *link_ask(struct link *l, int n, const char *const *args);
/* The keyspaces with their policies, and the shards with what their leaders say they hold, as
 * KEYSPACE INFO and SHARD LIST tell; bytes, checksums and positions are 0. */
MUST_USE bool link_layout(struct link *l, struct mem *mem, struct manifest *out);

/* Nothing was applied, or perhaps it was; in any case the same may be asked again. */
bool is_passing(const struct value *reply);
bool is_code(const struct value *reply,
             const char *code); /* an error that begins with it */
void sleep_ms(unsigned ms);
uint64_t clock_ms(void); /* of this machine, monotonic */
