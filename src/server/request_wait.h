/* SPDX-License-Identifier: Apache-2.0 */
/* request_wait - a request's life: in which list it is, in which order, how long, how it ends.
 * Internal to src/server: request.c decides where each goes.
 *
 * Order.  The requests of one client for one group must take effect in order.  Those sent
 * to one leader in one term stay in order, since they travel on one connection and another
 * term refuses them.  So a later one may go out beside earlier ones only the same way; else it
 * waits behind them; so does one of another group, once keyspaces have changed.  One that travels in pieces is passed by smaller messages, so what comes
 * after it waits for its answer.  One that was sent and comes back, since its leader or its
 * round is lost, waits before what has come after it; reads of one client that wait for rounds go back together.
 *
 * A write that was sent and whose answer is lost is UNCERTAIN, and is not sent again. */
#pragma once

#include "server/server_state.h"

static inline struct shard_position position_in(const struct forward_position *p)
{
    return (struct shard_position){p->index, p->term, p->settled};
}

static inline struct forward_position position_out(struct shard_position p)
{
    return (struct forward_position){p.index, p.term, p.settled};
}

/* NULL: not of a client, or it has gone. */
struct client *request_client(const struct request *r);
/* Whether the client has other requests for this group that are not answered yet. */
bool request_has_others(const struct client *c, struct group_id group);
/* Whether a request of this client may go this way now, with none of its own waiting. */
bool request_may_go(const struct client *c, struct group_id group,
                    struct server_id target, struct term term);

/* Whether what this client has asked before `answer` (NULL: at all) is under way to another
 * group by a map of keyspaces that has changed: it may yet come to the same key, and first. */
bool request_is_too_soon(struct server *s, struct client *c, struct group_id group,
                         const struct answer *answer);

/* Into a state, and out of wherever it is: its state is then for the caller to set. */
void request_enter(struct server *s, struct request *r, enum request_state state);
void request_leave(struct server *s, struct request *r);
/* A walk over the rounds: once one has gone back to wait, those of its client that came after it
 * are not to be answered before it, and go back, too. */
void request_go_back(struct server *s, struct request *r, uint64_t walk);
bool request_follows_back(const struct request *r, uint64_t walk);
/* Tries those that wait for this group; each is given to request_go(). */
void requests_try(struct server *s, struct slot *slot);

/* The one end of every request that is not refused: a reply, or an outcome that says no. */
void request_finish(struct server *s, struct request *r,
                    const struct forward_reply *reply, enum outcome o);
void request_count_reply(struct server *s, struct request *r, uint32_t n);
/* FROM_PEER: not done here; who sent it may try elsewhere. */
void request_refuse(struct server *s, struct slot *slot, struct request *r,
                    enum forward_status status);
void request_free(struct server *s, struct request *r);

/* ---- request.c ---- */
/* Not in any list when called.  True: it is on its way, done, or gone. */
bool request_go(struct server *s, struct slot *slot, struct request *r);
