/* SPDX-License-Identifier: Apache-2.0 */
/* disaster - a majority of the machines is lost, and an operator makes the best of it.
 *
 *     two of three machines go ──► sennit recover on the third ──► it goes on, a cluster of one
 *         new machines join it; of the lost ones some come again with an empty disk,
 *         and some with their old one, which have no place in it and must not go on by themselves
 *
 * `sennit recover` is a life like any other, in which nobody is connected.  It is sometimes ended
 * half way, and run again. */
#pragma once

#include "sim/world.h"

enum {
    DISASTER_MEMBERS = 3
}; /* machines before it; those behind them are new after it */

void disaster_begins(struct world *w, uint64_t number);
void disaster_recovers(struct world *w); /* as soon as what survived can be told */
/* A process of machine m ended: by a recovery that did, or since it heard of one without it. */
bool disaster_exit(struct machine *m, int code, const char *why);
/* What was answered last before the others were lost, and the survivor never had: with consent. */
bool disaster_lost(struct world *w, struct bytes value, uint64_t answered_ns);
