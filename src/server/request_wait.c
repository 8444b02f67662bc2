/* SPDX-License-Identifier: Apache-2.0 */
#include "server/request_wait.h"

/* ---- order ---- */

struct client *request_client(const struct request *r)
{
    return r->origin == FROM_CLIENT ? r->answer->client : NULL;
}

static struct client_route *route_find(const struct client *c, struct group_id group)
{
    for (uint32_t i = 0; i < c->n_routes; i++)
        if (c->routes[i].group.v == group.v) return &c->routes[i];
    return NULL;
}

static struct client_route *route_get(struct client *c, struct group_id group)
{
    struct client_route *route = route_find(c, group);
    if (route != NULL) return route;
    if (c->n_routes == c->routes_cap) {
        const uint32_t cap = c->routes_cap == 0 ? 4 : c->routes_cap * 2;
        c->routes = mem_resize(c->server->mem, c->routes,
                               c->routes_cap * sizeof *c->routes,
                               cap * sizeof *c->routes);
        c->routes_cap = cap;
    }
    route = &c->routes[c->n_routes++];
    *route = (struct client_route){.group = group};
    return route;
}

static void route_done(struct client *c, struct client_route *route)
{
    if (route->n_waiting == 0 && route->n_sent == 0) *route = c->routes[--c->n_routes];
}

void request_client_gone(struct server *s, struct client *c)
{
    mem_free(s->mem, c->routes, c->routes_cap * sizeof *c->routes);
    c->routes = NULL;
    c->n_routes = c->routes_cap = 0;
}

bool request_has_others(const struct client *c, struct group_id group)
{
    const struct client_route *route = route_find(c, group);
    return route != NULL && (route->n_sent > 0 || route->n_waiting > 0);
}

bool request_may_go(const struct client *c, struct group_id group,
                    struct server_id target, struct term term)
{
    const struct client_route *route = route_find(c, group);
    if (route == NULL) return true;
    if (route->n_waiting > 0 || route->n_bulky > 0) return false;
    if (route->n_sent == 0) return true;
    /* Sent in no term, an earlier one may be refused, and this one taken by who leads just then. */
    return term.v != 0 && route->target.v == target.v && route->term.v == term.v &&
           route->way.v == peer_way(c->server, target).v;
}

bool request_is_too_soon(struct server *s, struct client *c, struct group_id group,
                         const struct answer *answer)
{
    const uint64_t since = s->meta.version_keyspaces;
    bool has_older = false;

    if (c->none_older == since || c->n_routes == 0) return false;
    if (c->n_routes == 1 && c->routes[0].group.v == group.v) return false;
    for (const struct answer *a = c->answers; a != NULL && a != answer; a = a->next) {
        const struct request *r = a->pending;
        if (r == NULL || r->state == REQUEST_GATED || r->routed >= since) continue;
        if (r->group.v != group.v) return true;
        has_older = true;
    }
    if (!has_older && answer == NULL) c->none_older = since;
    return false;
}

static bool is_bulky(const struct request *r)
{
    return r->body.len > PIECE_BYTES / 2;
}

/* ---- lists and life ---- */

static void list_put(struct request ***end, struct request **place, struct request *r)
{
    r->next = *place;
    r->prev_next = place;
    if (r->next != NULL)
        r->next->prev_next = &r->next;
    else
        *end = &r->next;
    *place = r;
}

static void list_add(struct request ***end, struct request *r)
{
    list_put(end, *end, r);
}

static void list_take(struct request ***end, struct request *r)
{
    *r->prev_next = r->next;
    if (r->next != NULL)
        r->next->prev_next = r->prev_next;
    else
        *end = r->prev_next;
    r->next = NULL;
    r->prev_next = NULL;
}

/* By serial.  Those that come back are many at once when a leader is lost, and mostly in order:
 * each is looked for from the place of the one before. */
static void waiting_add(const struct server *s, struct slot *slot, struct request *r)
{
    struct request **place = &slot->waiting;

    if (r->serial > slot->newest || s->config.mutant.server == 20) {
        slot->newest = r->serial;
        list_add(&slot->waiting_end, r);
        return;
    }
    if (slot->came_back != NULL && slot->came_back->serial < r->serial)
        place = &slot->came_back->next;
    while (*place != NULL && (*place)->serial < r->serial)
        place = &(*place)->next;
    list_put(&slot->waiting_end, place, r);
    slot->came_back = r;
}

static void waiting_take(struct slot *slot, struct request *r)
{
    if (slot->came_back == r) slot->came_back = NULL;
    list_take(&slot->waiting_end, r);
}

struct request *request_new(struct server *s, enum forward_kind kind,
                            struct group_id group, uint8_t resp)
{
    struct request *r = mem_zero(s->mem, sizeof *r);
    r->serial = ++s->next_serial;
    r->kind = kind;
    r->group = group;
    r->resp = resp;
    r->body = buf_new(s->mem);
    r->routed = s->meta.version;
    r->deadline.ns = s->now.ns + s->config.limits.request_timeout_ns;
    return r;
}

struct request *request_to_meta(struct server *s, uint8_t resp, const struct bytes *args,
                                uint32_t n_args)
{
    struct request *r = request_new(s, FORWARD_META, (struct group_id){META_GROUP}, resp);
    const struct forward head = {.kind = FORWARD_META, .resp = resp, .n_commands = 1};

    forward_encode(&r->body, &head);
    forward_put_command(&r->body, args, n_args);
    r->origin = FROM_SERVER;
    r->writes = true;
    return r;
}

/* Requests of another server keep their order behind one that waits here, for some are of one
 * client: a leader that hands over takes no writes, but a read would pass one by.  One that
 * waits for what its session has seen holds up nobody who need not wait for that; but what comes
 * when it has just been applied is not to go before it, and is tried after it. */
static void hold_begin(struct slot *slot, struct request *r)
{
    const bool of_peer = r->origin == FROM_PEER;

    r->holds = of_peer && !r->stale;
    r->behind = of_peer && r->stale;
    slot->n_holding += r->holds;
    slot->n_behind += r->behind;
}

static void hold_end(struct slot *slot, struct request *r)
{
    slot->n_holding -= r->holds;
    slot->n_behind -= r->behind;
    r->holds = r->behind = false;
}

void request_leave(struct server *s, struct request *r)
{
    struct slot *slot = server_slot(s, r->group);
    struct client *c = request_client(r);
    struct client_route *route = c == NULL ? NULL : route_find(c, r->group);
    switch (r->state) {
    case REQUEST_WAITING:
        waiting_take(slot, r);
        hold_end(slot, r);
        if (route != NULL) route->n_waiting--;
        break;
    case REQUEST_SENT:
        hmap_remove(&s->sent, r->id);
        r->way.v = 0;
        if (route == NULL) break;
        route->n_sent--;
        route->n_bulky -= is_bulky(r);
        break;
    case REQUEST_ROUND:
    case REQUEST_COPIES:
    case REQUEST_LEAD:
    case REQUEST_APPLY:
        list_take(&slot->rounds_end, r);
        if (route != NULL) route->n_sent--;
        break;
    case REQUEST_GATED: break;
    }
    if (route != NULL && route->n_sent == 0 && route->n_waiting > 0)
        slot_touch(s, slot); /* which may have waited for this one */
    if (route != NULL) route_done(c, route);
    r->state = 0;
}

void request_free(struct server *s, struct request *r)
{
    heap_remove(&s->timers, &r->timer);
    if (r->shared != NULL)
        block_unref(r->shared);
    else
        buf_free(&r->body);
    mem_free(s->mem, r, sizeof *r);
}

void request_enter(struct server *s, struct request *r, enum request_state state)
{
    struct slot *slot = server_slot(s, r->group);
    struct client *c = request_client(r);
    r->state = state;
    slot_watch(s, slot);
    if (r->timer.place == 0) heap_set(&s->timers, &r->timer, r->deadline.ns);
    switch (state) {
    case REQUEST_WAITING:
        waiting_add(s, slot, r);
        hold_begin(slot, r);
        if (c != NULL) route_get(c, r->group)->n_waiting++;
        return;
    case REQUEST_ROUND:
    case REQUEST_COPIES:
    case REQUEST_LEAD:
    case REQUEST_APPLY: list_add(&slot->rounds_end, r); break;
    case REQUEST_SENT: hmap_put(&s->sent, r->id, r); break;
    case REQUEST_GATED: heap_remove(&s->timers, &r->timer); return;
    }
    if (c == NULL) return;
    struct client_route *route = route_get(c, r->group);
    route->n_sent++;
    route->n_bulky += state == REQUEST_SENT && is_bulky(r);
    route->target = r->target;
    route->term = r->term;
    route->way = r->way;
}

void request_go_back(struct server *s, struct request *r, uint64_t walk)
{
    const struct client *c = request_client(r);

    request_leave(s, r);
    request_enter(s, r, REQUEST_WAITING);
    if (c != NULL) route_find(c, r->group)->back_walk = walk;
}

bool request_follows_back(const struct request *r, uint64_t walk)
{
    const struct client *c = request_client(r);

    return c != NULL && route_find(c, r->group)->back_walk == walk;
}

/* ---- ends ---- */

static void reply_to_peer(struct server *s, struct request *r,
                          const struct forward_reply *reply)
{
    const struct slot *slot = server_slot(s, r->group);
    struct forward_reply out = *reply;
    out.id = r->peer_id;
    if (out.status == FORWARD_DONE && slot->shard != NULL && shard_leads(slot->shard)) {
        out.leader = s->identity.server;
        out.term = shard_term(slot->shard);
    }
    size_t start;
    struct buf *body = peer_say(s, r->peer, r->group, MESSAGE_FORWARD_REPLY, &start);
    if (body == NULL) return; /* it will time out there, as UNCERTAIN */
    struct far far = out.far;
    far.at += body->len + FORWARD_REPLY_HEAD;
    forward_reply_encode(body, &out);
    if (far.block == NULL)
        peer_said(s, r->peer, start);
    else
        peer_said_around(s, r->peer, start, &far);
}

static void error_bytes(struct buf *out, uint8_t resp, enum outcome o)
{
    struct reply reply = {out, resp};
    reply_error(&reply, outcome_row(o)->text);
}

void request_finish(struct server *s, struct request *r,
                    const struct forward_reply *reply, enum outcome o)
{
    if (r->state != 0) request_leave(s, r);
    if (o == OUTCOME_UNCERTAIN || o == OUTCOME_UNCERTAIN_LATE) s->stats.uncertain++;
    switch (r->origin) {
    case FROM_CLIENT:
        r->answer->pending = NULL;
        if (o != OUTCOME_NONE) {
            answer_error(s, r->answer, o);
            break;
        }
        if (r->answer->client != NULL)
            client_note(r->answer->client, r->group, position_in(&reply->position),
                        r->writes);
        buf_put(&r->answer->bytes, reply->bytes.at, reply->bytes.len);
        r->answer->far = reply->far;
        block_ref(reply->far.block);
        r->answer->replies = 1;
        answer_ready(s, r->answer);
        break;
    case FROM_PEER: {
        struct forward_reply out = {.status = FORWARD_DONE};
        struct buf text = buf_new(s->mem);
        if (o != OUTCOME_NONE) {
            error_bytes(&text, r->resp, o);
            out.bytes = buf_bytes(&text);
        } else {
            out.bytes = reply->bytes;
            out.far = reply->far;
            out.position = reply->position;
        }
        reply_to_peer(s, r, &out);
        buf_free(&text);
        break;
    }
    case FROM_FANOUT: fanout_part(s, r->fanout, reply, o); break;
    case FROM_SERVER: r->done(s, r, reply, o); break;
    }
    request_free(s, r);
}

void request_refuse(struct server *s, struct slot *slot, struct request *r,
                    enum forward_status status)
{
    struct forward_reply out = {
        .status = status, .term = slot->hint_term, .leader = slot->hint};
    if (slot->shard != NULL) {
        out.term = shard_term(slot->shard);
        out.leader = shard_leader(slot->shard);
    }
    if (r->state != 0) request_leave(s, r);
    reply_to_peer(s, r, &out);
    request_free(s, r);
}

void request_count_reply(struct server *s, struct request *r, uint32_t n)
{
    struct buf bytes = buf_new(s->mem);
    struct reply reply = {&bytes, r->resp};
    reply_int(&reply, n);
    const struct forward_reply done = {.status = FORWARD_DONE,
                                       .bytes = buf_bytes(&bytes)};
    request_finish(s, r, &done, OUTCOME_NONE);
    buf_free(&bytes);
}

void request_gate_result(struct server *s, struct request *r, struct answer *a,
                         enum outcome o)
{
    const struct slot *slot = server_slot(s, r->group);
    struct forward_reply reply = {
        .status = FORWARD_DONE, .bytes = buf_bytes(&a->bytes), .far = a->far};

    r->state = 0;
    if (a->gate.saw.v != 0 && slot->shard != NULL)
        reply.position = position_out(shard_position_at(slot->shard, a->gate.saw));
    request_finish(s, r, &reply, o);
}

/* ---- trying again ---- */

void requests_try(struct server *s, struct slot *slot)
{
    const uint64_t walk = ++s->walks;
    bool peers_held = false;
    struct request *next;
    for (struct request *r = slot->waiting; r != NULL; r = next) {
        next = r->next;
        struct client *c = request_client(r);
        if (c != NULL && route_get(c, r->group)->held_walk == walk) continue;
        if (r->origin == FROM_PEER && peers_held) continue;
        /* Out of the list, so that its own waiting does not hold it; back at its place if
         * it can't go. */
        struct request **place = r->prev_next;
        uint32_t *n_waiting = c == NULL ? NULL : &route_get(c, r->group)->n_waiting;
        const uint32_t others = n_waiting == NULL ? 0 : *n_waiting;
        waiting_take(slot, r);
        hold_end(slot, r);
        if (n_waiting != NULL) *n_waiting = 0;
        r->state = 0;
        const bool gone = request_go(s, slot, r);
        struct client_route *route = c == NULL ? NULL : route_find(c, slot->group);
        if (gone) {
            if (others > 1)
                route_get(c, slot->group)->n_waiting = others - 1;
            else if (route != NULL)
                route_done(c, route);
            continue;
        }
        r->state = REQUEST_WAITING;
        list_put(&slot->waiting_end, place, r);
        hold_begin(slot, r);
        peers_held |= r->holds;
        if (c != NULL) {
            route_get(c, slot->group)->n_waiting = others;
            route_get(c, slot->group)->held_walk = walk;
        }
    }
}

static struct request *of_timer(struct heap_node *node)
{
    return (struct request *)(void *)((char *)node - offsetof(struct request, timer));
}

void requests_conn_lost(struct server *s, struct conn_id way)
{
    /* Collected first: finishing one may change the table. */
    struct heap lost = heap_new(s->mem);
    uint64_t at = 0, id;
    void *value;
    while (hmap_next(&s->sent, &at, &id, &value)) {
        struct request *r = value;
        if (r->way.v != way.v) continue;
        heap_remove(&s->timers, &r->timer);
        heap_set(&lost, &r->timer, r->serial);
    }
    for (struct heap_node *node; (node = heap_min(&lost)) != NULL;) {
        struct request *r = of_timer(node);
        heap_remove(&lost, node);
        struct slot *slot = server_slot(s, r->group);
        if (slot->hint.v == r->target.v) slot->hint.v = 0;
        if (!r->reads_only) {
            request_finish(s, r, NULL, OUTCOME_UNCERTAIN);
            continue;
        }
        request_leave(s, r);
        request_enter(s, r, REQUEST_WAITING);
        slot_touch(s, slot);
    }
    heap_free(&lost);
}

void requests_replica_gone(struct server *s, struct slot *slot)
{
    struct request *next;
    for (struct request *r = slot->rounds; r != NULL; r = next) {
        next = r->next;
        if (r->state == REQUEST_ROUND) {
            request_leave(s, r);
            request_enter(s, r, REQUEST_WAITING);
        } else if (r->state == REQUEST_COPIES) {
            request_finish(s, r, NULL, OUTCOME_UNCERTAIN);
        } else if (r->state == REQUEST_LEAD) {
            request_finish(s, r, NULL, OUTCOME_NOLEADER);
        }
    }
}

/* A newer term has begun here: what was sent to the leader of an older one is hardly answered
 * any more, though an answer may still be under way. */
void requests_term_changed(struct server *s, struct slot *slot)
{
    enum { GRACE_MS = 500 };
    const struct term term = shard_term(slot->shard);
    const uint64_t soon = s->now.ns + GRACE_MS * MS_NS;
    uint64_t at = 0, id;
    void *value;
    while (hmap_next(&s->sent, &at, &id, &value)) {
        struct request *r = value;
        if (r->group.v != slot->group.v || r->term.v >= term.v || r->term.v == 0)
            continue;
        if (r->timer.key > soon) heap_set(&s->timers, &r->timer, soon);
    }
}

/* ---- time ---- */

/* While much moves between us and the leader, or in the log, an answer may be behind it. */
static bool is_behind_much(const struct server *s, const struct slot *slot,
                           const struct request *r)
{
    if (r->state != REQUEST_SENT) return false;
    if (slot->shard != NULL && r->term.v != 0 && r->term.v < shard_term(slot->shard).v)
        return false;
    return peer_is_moving(s, r->target) || wal_backlog(s->wal) >= WAL_SYNC_BYTES;
}

void request_timeout(struct server *s, struct request *r)
{
    struct slot *slot = server_slot(s, r->group);
    /* For as long as the largest value takes, since what moves may never end. */
    if (r->given_up.ns == 0) r->given_up = server_deadline(s, VALUE_MAX);
    if (s->now.ns < r->given_up.ns && is_behind_much(s, slot, r)) {
        heap_set(&s->timers, &r->timer, s->now.ns + SEC_NS);
        return;
    }
    switch (r->state) {
    case REQUEST_WAITING:
        if (r->origin == FROM_PEER)
            request_refuse(s, slot, r, FORWARD_REFUSED);
        else
            request_finish(s, r, NULL,
                           r->closed  ? OUTCOME_CLOSED
                           : r->stale ? OUTCOME_STALE
                                      : OUTCOME_NOLEADER);
        return;
    case REQUEST_SENT:
        request_finish(s, r, NULL,
                       !r->reads_only ? OUTCOME_UNCERTAIN_LATE
                       : r->stale     ? OUTCOME_STALE
                                      : OUTCOME_NOQUORUM);
        return;
    case REQUEST_ROUND: request_finish(s, r, NULL, OUTCOME_NOQUORUM); return;
    case REQUEST_COPIES:
        request_count_reply(s, r, shard_copies(slot->shard, r->index));
        return;
    case REQUEST_LEAD: request_finish(s, r, NULL, OUTCOME_NOLEADER); return;
    case REQUEST_APPLY: {
        struct forward_reply done = {.status = FORWARD_DONE,
                                     .bytes = buf_bytes(&r->body)};
        request_finish(s, r, &done, OUTCOME_NONE);
        return;
    }
    case REQUEST_GATED: return; /* its answer has a deadline of its own */
    }
}

void requests_free(struct server *s)
{
    struct heap_node *node;
    while ((node = heap_min(&s->timers)) != NULL)
        request_free(s, of_timer(node));
}
