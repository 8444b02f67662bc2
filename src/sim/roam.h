/* SPDX-License-Identifier: Apache-2.0 */
/* roam - clients that ask again, and clients that move on.
 *
 * A repeater gives each request an id (CLIENT REQUEST) and asks until it is answered, at
 * whichever server, and now and then once more.  What it asks is to append a word of its own
 * to a text, so that the text tells how often each request was carried out, and where:
 *
 *   O1  a word is in its text once at most, and once if its request was ever answered
 *   O2  every answer of a request tells the place where its word is
 *
 * A roamer counts and reads counters of a keyspace with READ any, takes a SESSION TOKEN and
 * goes on at another server.  Counters only rise, so that what it is told may never fall:
 *
 *   O3  a session never reads less than it has read or written; where answers may be lost
 *       with the primary, it may be told that it is lost itself, and not older data
 *
 * A watcher takes its time between WATCH, GET and EXEC, in a keyspace where answers may be lost
 * with the primary.  What it sets says what it has read:
 *
 *   O4  what a committed EXEC says that it read is what was committed before it
 */
#pragma once

#include "sim/world.h"

struct roamers *roamers_new(struct world *w); /* NULL: the plan has none */
void roamers_stream(struct world *w, struct net_stream *s, enum input_kind kind);
void roamers_begin(struct world *w);
void roamers_finish(struct world *w);   /* no new requests; texts are read */
bool roamers_finished(struct world *w); /* all is answered, and every text was read */
void roamers_judge(struct world *w);    /* O1 */
/* O4: the next entry that is committed; NULL: one that nobody has in memory any more. */
void roamers_committed(struct world *w, const struct raft_entry *e);
