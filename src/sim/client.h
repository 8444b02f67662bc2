/* SPDX-License-Identifier: Apache-2.0 */
/* client - clients over simulated connections, what they ask and what they were told.
 *
 * Each client pipelines commands in RESP2 to one server, and goes to another when it gets
 * no answer.  Nothing is ever asked twice: an operation without an answer is one of unknown
 * outcome.  What was asked of one object (a key, or the accounts of a bank, which share a
 * hash tag) is its history; an object is used for a bounded number of operations, then a
 * fresh one takes its place, so that every history can be judged.
 *
 * An operator is a client of its own: it makes the keyspaces, hands leadership over, and
 * asks every server for a write to every shard once the storm is over. */
#pragma once

#include "sim/world.h"

struct clients *clients_new(struct world *w);
void clients_stream(struct world *w, struct net_stream *s, enum input_kind kind);

void clients_begin(struct world *w); /* they ask, from now on */
void clients_stop(struct world *w);  /* nothing new is asked */
void clients_finish(
    struct world *w); /* from now on they only read each object once more */
bool clients_finished(struct world *w); /* every object has been read */
bool clients_quiet(struct world *w);    /* nothing is outstanding */
/* Every history is checked; the world fails on one that is not linearizable. */
void clients_judge(struct world *w);

void clients_make_keyspaces(struct world *w);
void clients_failover(struct world *w, uint32_t machine);
void clients_force(struct world *w, uint32_t machine); /* asked of it */
void clients_server(struct world *w, enum server_order order, uint32_t machine,
                    uint32_t other);
void clients_replicas(struct world *w, uint32_t replicas);
void clients_alter(struct world *w, uint32_t policy); /* of the plan */
void clients_probe(
    struct world *w); /* a write of every keyspace and slot by every server */
bool clients_one_voter(
    const struct world *w); /* the plan's keyspace has FAILOVER manual */
bool clients_orders_done(struct world *w);
void clients_tell(struct world *w, struct buf *out); /* what is waited for */
