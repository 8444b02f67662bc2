/* SPDX-License-Identifier: Apache-2.0 */
/* command - the one table of commands, and those of them that a shard evaluates.
 *
 * command.def describes every command: name, arity, flags, where its keys are, summary,
 * since, complexity, arguments.  The parser's checks, COMMAND's replies, routing and
 * docs/commands.md come from it.  A subcommand is a row of its own ("config|get").
 *
 * Commands on keys are written here, against struct view: they read items and emit
 * effects, and know nothing of logs, replicas or connections.  Commands about the
 * connection, the server and the cluster are rows here too and are answered by src/server.
 */
#pragma once

#include "base/prng.h"
#include "data/item.h"
#include "data/outcome.h"
#include "resp/reply.h"

enum command_id {
    COMMAND_NONE = 0,
#define COMMAND(id, ...) COMMAND_##id,
#include "data/command.def"
#undef COMMAND
    COMMAND_END,
};

enum command_flag {
    CF_WRITE = 1 << 0,
    CF_READ = 1 << 1,
    CF_DENYOOM = 1 << 2, /* refused when memory or disk is full */
    CF_FAST = 1 << 3,
    CF_ADMIN = 1 << 4,
    CF_NOAUTH = 1 << 5,  /* allowed before AUTH */
    CF_LOADING = 1 << 6, /* allowed while the server recovers */
    CF_NOMULTI = 1 << 7, /* refused inside MULTI */
    CF_SHARD = 1 << 8,   /* evaluated by a shard, through command_run() */
    CF_FANOUT = 1 << 9,  /* evaluated by every shard in turn, and the answers combined */
    CF_CONTAINER = 1 << 10, /* only with a subcommand */
    CF_DANGEROUS = 1 << 11, /* of the ACL category @dangerous */

    /* What is done to the keys, as the key specifications of COMMAND INFO say it.  Of two
     * keys, a source and a target, the first four and ACCESS and DELETE are about the
     * source; the target is overwritten, or with INSERT created. */
    CF_KEY_RO = 1 << 16,
    CF_KEY_RW = 1 << 17,
    CF_KEY_OW = 1 << 18,
    CF_KEY_RM = 1 << 19,
    CF_KEY_ACCESS = 1 << 20,
    CF_KEY_UPDATE = 1 << 21,
    CF_KEY_INSERT = 1 << 22,
    CF_KEY_DELETE = 1 << 23,
};

struct command {
    enum command_id id;
    const char *name; /* lower case; "config|get" for a subcommand */
    int8_t arity;     /* as Redis: the command itself counts; negative: at least */
    uint32_t flags;
    int8_t first_key, last_key, step; /* as Redis; 0, 0, 0: no keys */
    const char *group; /* "string", "generic", "connection", "server", ... */
    const char *since; /* of Redis' command of that name, or of sennit's own */
    const char *complexity;
    const char *arguments; /* as a synopsis: "key value [NX | XX] [GET]" */
    const char *summary;
};

/* By the command's name (args[0]) and, for a container, its subcommand (args[1]); NULL when
 * there is none.  *container is set when args[0] names a container whose subcommand is
 * unknown or missing, else NULL.  COMMAND alone is a command and a container, too. */
const struct command *command_find(const struct bytes *args, uint32_t n_args,
                                   const struct command **container);
const struct command *command_row(enum command_id id); /* 1 .. COMMAND_END - 1 */
bool command_arity_ok(const struct command *c, uint32_t n_args);

/* The keys of a call, as indexes into args; at most `most` are written, the number there
 * are is returned. */
uint32_t command_keys(const struct command *c, uint32_t n_args, uint32_t *at,
                      uint32_t most);

/* COMMAND, COMMAND COUNT|LIST|INFO|DOCS|GETKEYS: pure functions of the table. */
void command_reply(struct reply *r, const struct command *which, const struct bytes *args,
                   uint32_t n_args);

/* ---- evaluation ---- */

/* What the reply to one request, an EXEC too, may come to with the values in it: one of the
 * largest fits.  Between servers it is one message, which may be of 2 * VALUE_MAX; what holds no
 * values, as the errors of a long EXEC, stays far below the rest of that.  In one that is longer
 * than the lesser bound memory is asked for each value: short reads go on without any. */
#define REPLY_BYTES_MAX (VALUE_MAX + (UINT64_C(32) << 20))
#define REPLY_BYTES_FREE (UINT64_C(1) << 20)

struct command_call {
    const struct command *command;
    const struct bytes *args; /* args[0] is the name */
    uint32_t n_args;
    struct wall now;   /* what "now" is for deadlines */
    struct prng *prng; /* RANDOMKEY */
    const struct view *view;
    struct reply *reply;
    struct far *far;     /* where one large value of the reply may be put; or NULL */
    uint64_t reply_from; /* command_reply_bytes() before the first reply of the request */
    bool may_write;      /* false at a replica that does not lead: nothing is emitted,
                               * a key past its deadline reads as absent */
    uint32_t steps_max;  /* KEYS, SCAN, RANDOMKEY: most keys looked at in one call */
};

/* So far, with the value that is not copied. */
static inline uint64_t command_reply_bytes(const struct reply *reply,
                                           const struct far *far)
{
    return reply->out->len + (far != NULL ? far->len : 0);
}

/* Evaluates a CF_SHARD or CF_FANOUT command, whose arity must have been found to fit:
 * exactly one reply is written (for CF_FANOUT the part below), effects are emitted in
 * order.  A command that answers an error has
 * emitted nothing, but for deletes of keys found past their deadline.
 *
 * The replies of one shard to the fan-out commands are parts that src/server combines:
 *   DBSIZE      integer
 *   FLUSHALL, FLUSHDB  +OK
 *   RANDOMKEY   bulk or null
 *   SCAN, KEYS  [next place as a bulk integer, [key ...]]; "end" as the place at the end.
 *               args are rewritten by the server: args[1] is the place to go on from, for
 *               KEYS too (KEYS place pattern), so that no call walks a whole shard at once.
 */
void command_run(const struct command_call *call);

/* What a sweep does: emits the expiry of `key` if its deadline is due at `now`.  As in
 * Redis a deadline is due from the millisecond after it on; in its own the key lives. */
bool command_expire(const struct view *view, struct bytes key, struct wall now);
