/* SPDX-License-Identifier: Apache-2.0 */
/* synopsis - the arguments of a command as COMMAND DOCS tells them, out of the synopsis
 * that its row in command.def gives.  Private to src/data.
 *
 *   word        an argument            WORD        a token that stands for itself
 *   WORD word   an argument behind its token
 *   [ ... ]     may be left out        < ... >     just a group
 *   a | b       one of them            x [x ...]   x, as often as wanted
 *   y ...       the last item as often as wanted; before ']': all of the group
 */
#pragma once

#include "resp/reply.h"

enum { SYNOPSIS_NODES_MAX = 48 };

enum synopsis_kind { SYNOPSIS_ARG = 1, SYNOPSIS_TOKEN, SYNOPSIS_ONEOF, SYNOPSIS_BLOCK };

struct synopsis_node {
    enum synopsis_kind kind;
    struct bytes name;  /* of an argument; empty: as the token or the first child */
    struct bytes token; /* empty: none */
    bool optional, multiple;
    uint32_t children;
    uint32_t size; /* nodes of the subtree, itself included */
};

/* Every node before its children. */
struct synopsis {
    struct synopsis_node nodes[SYNOPSIS_NODES_MAX];
    uint32_t n;
};

void synopsis_read(struct synopsis *s, const char *text);
void synopsis_reply(struct reply *r, const struct synopsis *s); /* an array of maps */
