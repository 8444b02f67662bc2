/* SPDX-License-Identifier: Apache-2.0 */
/* failover - what request.c and session.c need of failover.c: FAILOVER and its parts. */
#pragma once

#include "server/server_state.h"

/* FAILOVER of a client, which is held until it is answered. */
void failover_begin(struct server *s, struct client *c, const struct bytes *args,
                    uint32_t n_args);
/* A server by its name or its number; NULL: none. */
const struct meta_server *failover_server(const struct server *s, struct bytes text);

/* The target of a LEAD request, 0: the fullest voter.  False: malformed. */
bool failover_read(struct forward f, struct server_id *to);
enum failover_state { FAILOVER_WAITS = 1, FAILOVER_ENDED };
/* How the hand-over stands that began in term `since`, at who led then; ENDED: replied. */
enum failover_state failover_look(struct server *s, const struct slot *slot,
                                  struct server_id to, struct term since,
                                  struct reply *reply);
