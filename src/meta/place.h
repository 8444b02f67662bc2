/* SPDX-License-Identifier: Apache-2.0 */
/* place - which servers should hold a shard's replicas, and lead it.  Inside src/meta only.
 *
 * Who is there stays: a voter is given up only when fewer are wanted, or when its server
 * drains or is lost and another can take over; a lost one only if no fewer zones hold voters
 * then.  A new replica goes where it adds the most: to who is named as successor of one that
 * drains, then to a zone that holds none of the shard's voters, then to the server with the
 * fewest replicas, then to the lowest id.  Servers without a zone are each a zone of their own.
 *
 * Moves that nobody has to make: of one voter, so that more zones hold voters; and of one
 * replica to a server that holds at least two fewer, if no fewer zones do then.  Each makes
 * (zones, evenness) strictly better whatever servers are alive, so they come to an end and are
 * never undone by another.
 *
 * Voters are the largest odd number there is room for, up to 5; what REPLICAS asks for
 * beyond it are learners: the second of two servers, the second and fourth of REPLICAS 4.
 * A server that drains keeps its room until it is replaced, unless an operator said SHRINK.
 */
#pragma once

#include "meta/meta.h"

struct place_server {
    const struct meta_server *server;
    bool active, alive, lost;
    bool named;        /* as successor of a member of the shard at hand that drains */
    uint32_t replicas; /* it holds, over all shards but the meta shard */
    uint32_t leads;    /* shards that it should lead, or, of a new one, begins */
    uint32_t zone;     /* where in place.zones; without one each server is its own */
    uint8_t was, is;   /* in the shard at hand: enum place_role */
};

struct place_zone { /* voters of the shard at hand that it holds */
    uint32_t was, is;
};

struct place {
    struct mem *mem;
    struct place_server *servers; /* by id */
    struct place_zone *zones;     /* as many as servers */
    uint32_t n_servers;
    uint32_t zones_were, zones_are; /* that hold voters of the shard at hand */
    bool keep_lost; /* for the shard at hand: nobody can take over without harm */
    bool begins;    /* the shard at hand is a new one */
};

struct place_wish {
    uint32_t replicas, learners;
    bool one_voter; /* FAILOVER manual: nobody is elected */
};
struct place_wish place_wish_of(const struct policy *policy);

/* `judge` NULL: all are taken to be alive. */
struct place place_new(const struct meta *m, const struct meta_judge *judge);
void place_free(struct place *p);
/* Moves the members of `s` to what is wished; true when they changed.  A shard without a
 * founder is a new one: it gets silent voters, too, while they are fewer than the others, and
 * as founder the one of those that are alive that leads the fewest. */
bool place_shard(struct place *p, const struct place_wish *wish, struct meta_shard *s);
/* One move that makes zones or evenness better; true when there is one.  A voter that only an
 * operator moves is left where it is. */
bool place_improve(struct place *p, const struct place_wish *wish, struct meta_shard *s);
/* Another one to lead: the one there is no voter, or drains, or leads two more than another
 * voter; true when it changed. */
bool place_lead(struct place *p, struct meta_shard *s);
/* Voters that there would be with so many servers to put them on. */
uint32_t place_voters(uint32_t servers, uint32_t replicas);
