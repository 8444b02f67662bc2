/* SPDX-License-Identifier: Apache-2.0 */
/* parse - commands out of the bytes of a client: RESP arrays of bulk strings, and inline
 * commands with Redis' quoting.
 *
 *     bytes so far ──► resp_parse() ──► RESP_COMMAND with arguments that point into them
 *
 * The caller keeps the unconsumed bytes in one run and hands in the whole run each time;
 * the parser remembers how far it has looked, so no byte is read twice.  After
 * RESP_COMMAND the first `used` bytes belong to the command: the next call starts behind
 * them.  After RESP_MORE the caller appends what it receives; `want` says how long the run
 * must get at least before another call can succeed, so that one reservation serves a
 * large value.
 *
 * Limits   in struct resp_limits; an unauthenticated connection is given small ones
 * Errors   anything malformed ends the stream: the error text is for the client, then the
 *          connection is closed, as Redis does
 * Memory   what a large command took is given back at the next call, on an empty run too
 * Owner    the arguments are borrowed from `in` (inline: from the parser) and are good
 *          until the bytes move or the next call
 * Source   Redis serialization protocol specification; texts as in Redis 7.2
 */
#pragma once

#include "base/buf.h"

/* What a client may send before it has authenticated, as in Redis.  Limits as small as
 * these are named in the error, so that the reason is seen. */
enum { RESP_UNAUTH_ARGS_MAX = 10, RESP_UNAUTH_BULK_MAX = 16384 };

struct resp_limits {
    uint64_t bulk_max;   /* bytes of one argument; 512 MB */
    uint32_t args_max;   /* arguments of one command; 1024 * 1024 */
    uint32_t inline_max; /* bytes of one inline line or length line; 64 KB */
};

enum resp_result {
    RESP_MORE = 1, /* nothing whole yet */
    RESP_COMMAND,  /* args filled, `used` bytes consumed */
    RESP_NOTHING,  /* `used` bytes consumed that hold no command (empty line, *0) */
    RESP_BROKEN,   /* `error` says why; the stream cannot be read further */
};

struct resp_parser {
    size_t looked;     /* bytes of the run already understood */
    size_t scanned;    /* of the line that starts at `looked`: bytes without its end */
    int64_t args_left; /* -1: between commands */
    int64_t bulk_len;  /* -1: a length line comes next */
    struct bytes
        *args; /* args_cap slots; while a command is not whole, `at` is an offset */
    uint32_t n_args, args_cap;
    struct buf line; /* the unquoted arguments of an inline command */
    char error[48];  /* the text that names a byte of the client's */
    struct mem *mem;
};

struct resp_parsed {
    size_t used;
    size_t want;        /* RESP_MORE: the run must grow to at least this length */
    struct bytes *args; /* RESP_COMMAND */
    uint32_t n_args;
    const char *error; /* RESP_BROKEN: without the leading "-ERR " */
};

void resp_parser_init(struct resp_parser *p, struct mem *mem);
void resp_parser_free(struct resp_parser *p);
MUST_USE enum resp_result resp_parse(struct resp_parser *p,
                                     const struct resp_limits *limits, struct bytes in,
                                     struct resp_parsed *out);
