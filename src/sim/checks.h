/* SPDX-License-Identifier: Apache-2.0 */
/* checks - what must be true of the servers, looked at from outside after each turn, and
 * what must come true once the storm is over.
 *
 * K1  at most one leader of a group in a term
 * K2  an entry once committed at an index is the same on every replica, for ever; but where
 *     FORCE or recovery began an epoch, only as far as the epoch's first leader had it
 * K3  who becomes leader holds everything that was committed in earlier terms of its epoch, and
 *     of what came before as far as the epoch's first leader had it
 * K4  a replica's commit index does not go back within a life, and nothing is applied
 *     that is not committed
 * K5  replicas of a group that applied the same position hold the same state
 * K6  after the storm every group has a leader, every member has caught up, every server
 *     has joined, no log is doubtful, no membership is left half changed
 * K7  who is silent is led
 * K8  the feature level is one that every server speaks; after the storm the highest such
 * K9  a replica that would answer reads under MAXLAG has applied all that was committed so
 *     long ago
 * K10 no follower that answers is sent a snapshot for lack of less than the log is to keep
 * K11 a server's number is its machine's for ever, and no other machine's
 * K12 a replica that is in an epoch takes of older ones only what the epoch's first leader had
 */
#pragma once

#include "sim/world.h"

struct checks *checks_new(struct world *w);
void checks_after_turn(struct world *w, uint32_t machine); /* K1 to K4, K7 to K12 */
void checks_wiped(struct world *w, uint32_t machine);      /* it is nobody any more */
void checks_life_begins(struct world *w, uint32_t machine);
void checks_life_ends(struct world *w, uint32_t machine);
void checks_log_line(struct world *w, uint32_t machine, const char *text);

/* K6; if not, says in `why` (may be NULL) what is missing. */
bool checks_converged(struct world *w, struct buf *why);
/* Machine, which is not up, is in no shard's membership but the meta shard's. */
bool checks_holds_nothing(struct world *w, uint32_t machine);
bool checks_led(struct world *w); /* every group has a leader */
uint32_t checks_epoch(const struct world *w,
                      struct group_id group);       /* the newest led in */
void checks_digests(struct world *w);               /* K5 */
void checks_tell(struct world *w, struct buf *out); /* a line for each replica */
