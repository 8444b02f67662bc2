/* SPDX-License-Identifier: Apache-2.0 */
/* look - what one look at a cluster gives, and what of it needs attention.
 *
 *   CLUSTER NODES and INFO, SERVER LIST, SHARD LIST, KEYSPACE LIST, KEYSPACE INFO ... of one server,
 *   and INFO of each server that is connected
 *
 * Errors   look_take() says false when the one server can't tell; the link has the text.  A
 *          server whose INFO does not come is one that does not answer
 * Owner    all texts point into the look
 */
#pragma once

#include "cli/grid.h"
#include "cli/link.h"

enum { NOTE_TEXT_MAX = 240 };

struct look_server {
    struct bytes id, address, name, flags;
    bool connected;          /* as the asked server sees it */
    const struct value *row; /* of SERVER LIST; NULL: it has come or gone meanwhile */
    struct kept info;
};

struct look_note { /* something that needs attention */
    enum grid_tone tone;
    char text[NOTE_TEXT_MAX];
};

struct look {
    struct kept nodes, cluster, members, shards, names,
        *infos; /* infos: of n_keyspaces */
    struct look_server *servers;
    uint32_t n_servers, n_connected, n_keyspaces, n_shards;
    struct look_note *notes; /* the worst first */
    uint32_t n_notes;
    uint64_t at_ms, took_ms;
};

MUST_USE bool look_take(struct look *l, struct link *link);
void look_free(struct look *l);

uint64_t look_level(const struct look *l); /* the cluster's feature level; 0: not told */
/* A field of a server's INFO as a number, 0 if it is not told. */
uint64_t look_number(const struct look_server *s, const char *field);
struct bytes row_text(const struct value *row, const char *name); /* row may be NULL */
int64_t row_number(const struct value *row, const char *name);    /* -1: not told */
/* A follower this many positions behind is told. */
enum { LAG_WARN = 1000 };
