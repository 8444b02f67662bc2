/* SPDX-License-Identifier: Apache-2.0 */
/* place - which servers should hold a shard's replicas.  Inside src/meta only.
 *
 * Who is there stays: a voter is given up only when fewer are wanted, or when its server
 * leaves and another can take over.  A new replica goes where it adds the most: first to
 * a zone that holds none of the shard's voters, then to the server with the fewest
 * replicas, then to the lowest id.  Servers without a zone are each a zone of their own.
 *
 * Voters are the largest odd number there is room for, up to 5; what REPLICAS asks for
 * beyond it are learners: the second of two servers, the second and fourth of REPLICAS 4.
 */
#pragma once

#include "meta/meta.h"

struct place_server {
    const struct meta_server *server;
    bool active, alive;
    uint32_t replicas; /* it holds, over all shards but the meta shard */
    uint32_t founded;  /* shards that it began, and so leads first */
    uint8_t was, is;   /* in the shard at hand: enum place_role */
};

struct place {
    struct mem *mem;
    struct place_server *servers; /* by id */
    uint32_t n_servers;
};

struct place_wish {
    uint32_t replicas, learners;
    bool one_voter; /* FAILOVER manual: nobody is elected */
};
struct place_wish place_wish_of(const struct policy *policy);

/* `alive` NULL: all are taken to be alive. */
struct place place_new(const struct meta *m,
                       bool (*alive)(void *ctx, struct server_id id), void *ctx);
void place_free(struct place *p);
/* Moves the members of `s` to what is wished; true when they changed.  A shard without a
 * founder gets the one of its voters that founded the fewest. */
bool place_shard(struct place *p, const struct place_wish *wish, struct meta_shard *s);
