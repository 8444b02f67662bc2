/* SPDX-License-Identifier: Apache-2.0 */
/* request - where a request goes: evaluated here, forwarded to the leader, or waiting.
 *
 * Order.  The requests of one client for one group must take effect in order.  Those sent
 * to one leader in one term stay in order, since they travel on one connection and another
 * term refuses them.  So a later one may go out beside earlier ones only the same way; else it
 * waits behind them.  One that travels in pieces is passed by smaller messages, so what comes
 * after it waits for its answer.  One that was sent and comes back, since its leader or its
 * round is lost, waits before what has come after it.
 *
 * A write that was sent and whose answer is lost is UNCERTAIN, and is not sent again.
 */
#include "base/text.h"
#include "server/failover.h"
#include "server/request_run.h"

/* ---- order ---- */

static struct client *client_of(const struct request *r)
{
    return r->origin == FROM_CLIENT ? r->answer->client : NULL;
}

/* Whose answer it is a part of, if that is one of ours who is still there. */
static const struct client *asker_of(const struct request *r)
{
    switch (r->origin) {
    case FROM_CLIENT: return r->answer->client;
    case FROM_FANOUT: return fanout_client(r->fanout);
    case FROM_SERVER:
    case FROM_PEER: break;
    }
    return NULL;
}

static struct shard_position position_of(const struct request *r)
{
    if (r->origin == FROM_PEER || r->position.index.v != 0) return r->position;
    const struct client *c = asker_of(r);
    return c == NULL ? (struct shard_position){0} : client_must_see(c, r->group);
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

/* Whether a request of this client may go this way now, with none of its own waiting. */
static bool may_go(const struct client *c, struct group_id group, struct server_id target,
                   struct term term)
{
    const struct client_route *route = route_find(c, group);
    if (route == NULL) return true;
    if (route->n_waiting > 0 || route->n_bulky > 0) return false;
    return route->n_sent == 0 ||
           (route->target.v == target.v && route->term.v == term.v &&
            route->way.v == peer_way(c->server, target).v);
}

static bool is_bulky(const struct request *r)
{
    return r->body.len > PIECE_BYTES / 2;
}

/* ---- positions as they travel ---- */

static struct shard_position position_in(const struct forward_position *p)
{
    return (struct shard_position){p->index, p->term, p->settled};
}

static struct forward_position position_out(struct shard_position p)
{
    return (struct forward_position){p.index, p.term, p.settled};
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
 * waits for what its session has seen holds nobody up. */
static void hold_begin(struct slot *slot, struct request *r)
{
    r->holds = r->origin == FROM_PEER && !r->stale;
    slot->n_holding += r->holds;
}

static void hold_end(struct slot *slot, struct request *r)
{
    slot->n_holding -= r->holds;
    r->holds = false;
}

/* Takes r out of wherever it is; its state is then for the caller to set. */
static void leave(struct server *s, struct request *r)
{
    struct slot *slot = server_slot(s, r->group);
    struct client *c = client_of(r);
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

static void request_free(struct server *s, struct request *r)
{
    heap_remove(&s->timers, &r->timer);
    if (r->shared != NULL)
        block_unref(r->shared);
    else
        buf_free(&r->body);
    mem_free(s->mem, r, sizeof *r);
}

static void enter(struct server *s, struct request *r, enum request_state state)
{
    struct slot *slot = server_slot(s, r->group);
    struct client *c = client_of(r);
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

/* ---- ends ---- */

static void reply_to_peer(struct server *s, struct request *r,
                          const struct forward_reply *reply)
{
    struct forward_reply out = *reply;
    out.id = r->peer_id;
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

/* The one end of every request that is not refused: a reply, or an outcome that says no. */
static void finish(struct server *s, struct request *r, const struct forward_reply *reply,
                   enum outcome o)
{
    if (r->state != 0) leave(s, r);
    if (o == OUTCOME_UNCERTAIN || o == OUTCOME_UNCERTAIN_LATE) s->stats.uncertain++;
    switch (r->origin) {
    case FROM_CLIENT:
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

static void refuse_to_peer(struct server *s, struct slot *slot, struct request *r,
                           enum forward_status status)
{
    struct forward_reply out = {
        .status = status, .term = slot->hint_term, .leader = slot->hint};
    if (slot->shard != NULL) {
        out.term = shard_term(slot->shard);
        out.leader = shard_leader(slot->shard);
    }
    if (r->state != 0) leave(s, r);
    reply_to_peer(s, r, &out);
    request_free(s, r);
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
    finish(s, r, &reply, o);
}

/* ---- evaluation of a prepared request at the leader ---- */

static struct answer *own_answer(struct server *s, struct request *r)
{
    return r->origin == FROM_CLIENT ? r->answer : answer_for_request(s, r);
}

static enum shard_refusal run_wait(struct server *s, struct slot *slot, struct request *r,
                                   struct forward f)
{
    if (!shard_leads(slot->shard)) return SHARD_NOT_LEADER;
    struct forward_watch w;
    struct bytes args[3];
    int64_t copies = 0, ms = 0;
    if (f.n_watches != 1 || f.n_commands != 1) return SHARD_NOT_LEADER;
    forward_next_watch(&f, &w);
    if (forward_peek_args(&f) != 3) return SHARD_NOT_LEADER;
    forward_next_command(&f, args);
    if (!parse_i64(args[1], &copies) || !parse_i64(args[2], &ms)) return SHARD_NOT_LEADER;

    r->index = w.change;
    r->copies = copies <= 0               ? 0
                : copies < RAFT_PEERS_MAX ? (uint32_t)copies
                                          : RAFT_PEERS_MAX;
    const uint64_t day_ms = UINT64_C(86400000);
    const uint64_t wait_ms = ms > 0 && (uint64_t)ms < day_ms ? (uint64_t)ms : day_ms;
    r->deadline.ns = s->now.ns + wait_ms * MS_NS;
    heap_remove(&s->timers, &r->timer);
    r->target = s->identity.server;
    r->term = shard_term(slot->shard);
    enter(s, r, REQUEST_COPIES);
    slot_touch(s, slot);
    return SHARD_TAKEN;
}

/* True: it is done, and r is freed. */
static bool lead_turn(struct server *s, const struct slot *slot, struct request *r)
{
    struct buf bytes = buf_new(s->mem);
    struct reply reply = {&bytes, 2};
    const bool ended = failover_look(s, slot, r->target, r->term, &reply) ==
                       FAILOVER_ENDED;
    const struct forward_reply done = {.status = FORWARD_DONE,
                                       .bytes = buf_bytes(&bytes)};

    if (ended) finish(s, r, &done, OUTCOME_NONE);
    buf_free(&bytes);
    return ended;
}

static enum shard_refusal run_lead(struct server *s, struct slot *slot, struct request *r,
                                   struct forward f)
{
    struct server_id to;

    if (!shard_leads(slot->shard) || !failover_read(f, &to)) return SHARD_NOT_LEADER;
    if (to.v != s->identity.server.v) shard_transfer(slot->shard, to, s->now);
    slot_touch(s, slot);
    r->target = to;
    r->term = shard_term(slot->shard);
    enter(s, r, REQUEST_LEAD);
    (void)lead_turn(s, slot, r);
    return SHARD_TAKEN;
}

static enum outcome outcome_of(enum shard_refusal refusal)
{
    switch (refusal) {
    case SHARD_FULL:
    case SHARD_LONELY: return OUTCOME_NOQUORUM;
    case SHARD_NO_ROOM: return OUTCOME_FULL_DISK;
    case SHARD_NO_MEMORY: return OUTCOME_FULL_MEMORY;
    case SHARD_DAMAGED: return OUTCOME_READONLY;
    case SHARD_ONCE_FULL: return OUTCOME_REQUEST_FULL;
    case SHARD_LOST: return OUTCOME_LOST;
    case SHARD_TAKEN:
    case SHARD_NOT_LEADER:
    case SHARD_NOT_READY:
    case SHARD_CLOSED:
    case SHARD_BEHIND:
    case SHARD_BUSY: break;
    }
    return OUTCOME_NONE;
}

/* At the shard that leads here.  True: the request is on its way or done (and freed). */
static bool evaluate(struct server *s, struct slot *slot, struct request *r,
                     struct forward f, enum shard_refusal *refusal)
{
    if (r->kind == FORWARD_WAIT) {
        *refusal = run_wait(s, slot, r, f);
        return *refusal == SHARD_TAKEN;
    }
    if (r->kind == FORWARD_LEAD) {
        *refusal = run_lead(s, slot, r, f);
        return *refusal == SHARD_TAKEN;
    }
    struct answer *a = own_answer(s, r);
    struct shard_gate gate = {0};
    switch (r->kind) {
    case FORWARD_COMMANDS:
    case FORWARD_EXEC:
        *refusal = run_commands(s, slot, r, f, position_of(r), a, &gate);
        break;
    case FORWARD_WATCH: *refusal = run_watch(s, slot, f, position_of(r), a, &gate); break;
    case FORWARD_META: *refusal = run_meta(s, slot, r, f, a, &gate); break;
    case FORWARD_WAIT:
    case FORWARD_LEAD:
    case FORWARD_KIND_END: check(false);
    }
    if (*refusal != SHARD_TAKEN) {
        if (a->request == r) {
            a->request = NULL;
            answer_free(s, a);
        }
        const enum outcome o = outcome_of(*refusal);
        r->stale = *refusal == SHARD_BEHIND;
        if (o == OUTCOME_NONE) return false;
        finish(s, r, NULL, o);
        return true;
    }
    slot_touch(s, slot);
    if (r->origin == FROM_CLIENT) {
        if (r->state != 0) leave(s, r);
        request_free(s, r);
    } else {
        if (r->state != 0) leave(s, r);
        enter(s, r, REQUEST_GATED);
    }
    answer_gate(s, a, slot, &gate);
    return true;
}

/* ---- where it goes ---- */

/* A replica that is to go hears nothing more of its shard: it knows no better than a server
 * without one. */
static bool is_replica(const struct server *s, const struct slot *slot)
{
    const struct meta_shard *target = meta_shard(&s->meta, slot->group);
    return slot->shard != NULL && slot->retiring == RETIRE_NOT &&
           (target == NULL || meta_server_has(target, s->identity.server));
}

static struct server_id leader_of(const struct server *s, struct slot *slot,
                                  struct term *term)
{
    *term = slot->hint_term;
    struct server_id leader = slot->hint;
    if (is_replica(s, slot)) {
        leader = shard_leader(slot->shard);
        *term = shard_term(slot->shard);
    }
    if (leader.v == s->identity.server.v) leader.v = 0;
    if (leader.v != 0 || is_replica(s, slot)) return leader;

    /* No replica here and no hint: any replica knows more than we do. */
    const struct meta_shard *shard = meta_shard(&s->meta, slot->group);
    *term = (struct term){0};
    if (shard == NULL || shard->n_voters == 0) return leader;
    return shard->voters[slot->tries % shard->n_voters];
}

/* A large one is not copied, but for what is addressed anew with each try. */
static void put_body(struct server *s, struct request *r, struct buf *out, size_t start)
{
    const bool large = r->body.len >= BLOCK_BYTES_MIN;
    const size_t at = out->len;
    buf_put(out, r->body.at, large ? FORWARD_ADDRESS_BYTES : r->body.len);
    const struct forward_position position = position_out(position_of(r));
    forward_address(out->at + at, r->id, r->term, &position);
    if (!large) {
        peer_said(s, r->target, start);
        return;
    }
    if (r->shared == NULL) {
        r->shared = block_take(&r->body);
        r->body = r->shared->bytes;
    }
    const struct far rest = {
        .block = r->shared,
        .from = FORWARD_ADDRESS_BYTES,
        .len = r->body.len - FORWARD_ADDRESS_BYTES,
        .at = out->len,
    };
    peer_said_around(s, r->target, start, &rest);
}

static bool forward(struct server *s, struct slot *slot, struct request *r)
{
    struct term term;
    const struct server_id target = leader_of(s, slot, &term);
    if (target.v == 0 || target.v == s->identity.server.v) return false;
    if (!peer_reachable(s, target)) return false;
    struct client *c = client_of(r);
    if (c != NULL && !may_go(c, r->group, target, term)) return false;

    r->id = ++s->next_request;
    r->target = target;
    r->term = term;
    r->way = peer_way(s, target);
    size_t start;
    struct buf *body = peer_say(s, target, r->group, MESSAGE_FORWARD, &start);
    if (body == NULL) return false;
    put_body(s, r, body, start);
    s->stats.forwarded++;
    enter(s, r, REQUEST_SENT);
    return true;
}

static bool replica_can_read(const struct slot *slot)
{
    return slot->shard != NULL && shard_applied(slot->shard).v > 0 &&
           shard_leader(slot->shard).v != 0;
}

/* A follower's clock decides nothing: a key that only it finds past its deadline is the
 * leader's to expire. */
static bool is_leaders_to_say(struct server *s, struct slot *slot,
                              const struct request *r)
{
    struct forward f;
    struct decoded d;
    struct wall first;
    if (s->config.mutant.server == 11) return false; /* the simulator's: it decides */
    if (!store_next_deadline(shard_store(slot->shard), &first)) return false;
    if (first.ms >= s->wall.ms || !forward_decode(buf_bytes(&r->body), &f)) return false;
    bool yes = false;
    if (decode(s, f, &d)) {
        const struct shard_request q = shard_request_of(s, &d, r);
        yes = shard_sees_deadline(slot->shard, &q);
    }
    decoded_free(s, &d);
    return yes;
}

/* Whether this replica has what the request must see; if it never will, it is answered so. */
static enum shard_position_state see_here(struct server *s, const struct slot *slot,
                                          struct request *r)
{
    const struct client *c = asker_of(r);
    const struct shard_position p = c != NULL ? client_position(c, r->group)
                                              : (struct shard_position){0};
    const enum shard_position_state state = shard_position(slot->shard, &p);

    r->stale = state == POSITION_AHEAD;
    if (state != POSITION_LOST) return state;
    if (c != NULL && !client_in_session(c, r->group))
        return POSITION_HERE; /* then there is nothing to see */
    finish(s, r, NULL, OUTCOME_LOST);
    return state;
}

/* False: this replica is closed to it; the leader may know more. */
static bool read_now(struct server *s, struct slot *slot, struct request *r)
{
    struct forward f;
    const bool ok = forward_decode(buf_bytes(&r->body), &f);
    check(ok);
    struct decoded d;
    struct buf bytes = buf_new(s->mem);
    struct reply reply = {&bytes, r->resp};
    bool open = true;
    struct far far = {0};
    if (decode(s, f, &d)) {
        struct shard_request q = shard_request_of(s, &d, r);
        if (r->origin == FROM_CLIENT) q.far = &far;
        open = shard_read_here(slot->shard, &q, &reply);
        slot_touch(s, slot); /* which may have to read a large value */
    } else {
        reply_error(&reply, "ERR the command can't be evaluated");
    }
    decoded_free(s, &d);
    const struct shard_position saw = shard_position_at(slot->shard,
                                                        shard_applied(slot->shard));
    const struct forward_reply done = {.status = FORWARD_DONE,
                                       .bytes = buf_bytes(&bytes),
                                       .position = position_out(saw),
                                       .far = far};
    if (open) finish(s, r, &done, OUTCOME_NONE);
    far_drop(&far);
    buf_free(&bytes);
    return open;
}

/* Whether this client has asked for something here, when this server led, that is not decided:
 * what it applied may not hold it yet. */
static bool is_owed(const struct client *c, const struct slot *slot)
{
    for (const struct answer *a = c->answers; a != NULL; a = a->next)
        if (a->state == ANSWER_GATED && a->slot == slot) return true;
    return false;
}

/* The clock that tells how old a replica's state is. */
static struct instant lag_now(const struct server *s)
{
    if (s->config.mutant.server != 10) return s->now;
    /* the simulator's: by the time of day, as far as that has come since the start */
    const int64_t passed_ms = s->wall.ms - s->started_wall.ms;
    return (struct instant){s->started.ns +
                            (passed_ms > 0 ? (uint64_t)passed_ms : 0) * MS_NS};
}

/* Reads that this server's own replica may answer. */
static bool read_at_replica(struct server *s, struct slot *slot, struct request *r)
{
    if (!r->reads_only || r->kind != FORWARD_COMMANDS || r->origin == FROM_PEER)
        return false;
    if (r->at_leader || !is_replica(s, slot)) return false;
    if (shard_applied(slot->shard).v == 0) return false;
    struct client *c = client_of(r);
    if (r->read == READ_ANY) {
        const struct client_route *route = c == NULL ? NULL : route_find(c, r->group);
        if (route != NULL && (route->n_sent > 0 || route->n_waiting > 0)) return false;
        if (c != NULL && is_owed(c, slot)) return false;
        switch (see_here(s, slot, r)) {
        case POSITION_HERE: break;
        case POSITION_AHEAD: return false; /* forwarded, or it waits here */
        case POSITION_LOST: return true;
        }
        r->stale = r->maxlag_ms > 0 &&
                   !shard_is_fresh(slot->shard, lag_now(s), r->maxlag_ms * MS_NS);
        if (r->stale) return false;
        if (read_now(s, slot, r)) return true;
        r->at_leader = true;
        return false;
    }
    if (r->read != READ_LINEARIZABLE || !replica_can_read(slot)) return false;
    /* A leader that is not ready yet numbers its rounds otherwise: wait until it is. */
    if (shard_leader(slot->shard).v == s->identity.server.v) return false;
    const struct term term = shard_term(slot->shard);
    if (c != NULL && !may_go(c, r->group, s->identity.server, term)) return false;
    r->round = shard_read_round(slot->shard, s->now);
    r->target = s->identity.server;
    r->term = term;
    enter(s, r, REQUEST_ROUND);
    slot_touch(s, slot);
    return true;
}

static bool leads_here(const struct slot *slot)
{
    return slot->shard != NULL && slot->retiring == RETIRE_NOT &&
           shard_leads(slot->shard);
}

/* What the log lost may be the others' joining: then they dial this server soon, and their
 * being there is the sign that reads here would be stale. */
static bool seems_alone(const struct server *s)
{
    enum { ALONE_AFTER_MS = 3000 };
    return s->peers.count == 0 && s->now.ns > s->started.ns + ALONE_AFTER_MS * MS_NS;
}

static void null_reply(struct server *s, struct request *r)
{
    struct buf bytes = buf_new(s->mem);
    struct reply reply = {&bytes, r->resp};
    reply_null_array(&reply);
    const struct forward_reply done = {.status = FORWARD_DONE,
                                       .bytes = buf_bytes(&bytes)};
    finish(s, r, &done, OUTCOME_NONE);
    buf_free(&bytes);
}

static bool is_routed_by_keys(const struct request *r)
{
    if (r->origin == FROM_CLIENT)
        return r->kind == FORWARD_COMMANDS || r->kind == FORWARD_EXEC;
    return r->origin == FROM_SERVER && r->kind == FORWARD_WATCH;
}

/* The map may have changed since it was routed, and nothing of it was applied: the keys may
 * be another shard's now.  True: it has gone there, or is answered. */
static bool reroute(struct server *s, struct request *r)
{
    struct forward f;
    struct decoded d;
    struct group_id group = r->group;
    if (r->routed == s->meta.version || !is_routed_by_keys(r)) return false;
    r->routed = s->meta.version;
    const bool ok = forward_decode(buf_bytes(&r->body), &f);
    check(ok);
    const bool together = !decode(s, f, &d) || keys_group(s, &d, &group);
    decoded_free(s, &d);
    if (together && group.v == r->group.v) return false;
    if (r->kind == FORWARD_EXEC && f.n_watches > 0) {
        null_reply(s, r); /* the positions are those of another shard's log */
        return true;
    }
    if (!together) {
        finish(s, r, NULL, OUTCOME_CROSSSLOT);
        return true;
    }
    r->group = group;
    r->position = (struct shard_position){0}; /* of another shard's log */
    r->read = policy_of_group(s, group)->read;
    r->maxlag_ms = policy_of_group(s, group)->maxlag_ms;
    r->closed = r->at_leader = r->stale = false;
    request_submit(s, r);
    return true;
}

/* Not in any list when called.  True: it is on its way, done, or gone. */
static bool go(struct server *s, struct slot *slot, struct request *r)
{
    if (reroute(s, r)) return true;
    if (leads_here(slot)) {
        const struct client *c = client_of(r);
        const struct term term = shard_term(slot->shard);
        if (c != NULL && !may_go(c, r->group, s->identity.server, term)) return false;
        struct forward f;
        const bool ok = forward_decode(buf_bytes(&r->body), &f);
        check(ok);
        enum shard_refusal refusal;
        if (evaluate(s, slot, r, f, &refusal)) return true;
        r->closed = refusal == SHARD_CLOSED;
        if (!r->closed || r->origin != FROM_PEER) return false;
        refuse_to_peer(s, slot, r, FORWARD_CLOSED);
        return true;
    }
    if (r->origin == FROM_PEER) {
        struct raft_info info;
        if (slot->shard != NULL) {
            raft_info(shard_raft(slot->shard), &info);
            if (info.role == RAFT_LEADER) return false; /* about to be ready: wait */
        }
        refuse_to_peer(s, slot, r, FORWARD_REFUSED);
        return true;
    }
    if (slot->shard != NULL) {
        struct raft_info info;
        raft_info(shard_raft(slot->shard), &info);
        /* Alone and damaged: reads go on.  Not so a copy that was placed here again, and whose
         * old membership may name one voter: others have gone on without it. */
        if (info.doubtful && info.config.n_voters == 1 &&
            info.config.voters[0].v == s->identity.server.v &&
            !retire_was_here(s, slot->group) && seems_alone(s)) {
            if (!r->reads_only || r->kind != FORWARD_COMMANDS) {
                finish(s, r, NULL, OUTCOME_READONLY);
                return true;
            }
            switch (see_here(s, slot, r)) {
            case POSITION_AHEAD: return false; /* what was lost may yet be repaired */
            case POSITION_LOST: break;
            case POSITION_HERE:
                if (!read_now(s, slot, r)) finish(s, r, NULL, OUTCOME_CLOSED);
                break;
            }
            return true;
        }
    }
    return read_at_replica(s, slot, r) || forward(s, slot, r);
}

void request_submit(struct server *s, struct request *r)
{
    struct slot *slot = server_slot(s, r->group);
    if (r->body.len >= BLOCK_BYTES_MIN) r->deadline = server_deadline(s, r->body.len);
    if (go(s, slot, r)) return;
    enter(s, r, REQUEST_WAITING);
    slot_touch(s, slot);
}

/* ---- a client's command ---- */

bool request_route(struct server *s, const struct command *command,
                   const struct bytes *args, uint32_t n_args, struct slot **slot,
                   const struct meta_keyspace **keyspace, enum outcome *o)
{
    uint32_t at[256];
    uint32_t n = command_keys(command, n_args, at, 256);
    *slot = NULL;
    uint32_t *all = at;
    if (n > 256) {
        all = mem_alloc(s->mem, n * sizeof *all);
        command_keys(command, n_args, all, n);
    }
    const struct meta_shard *shard = NULL;
    *o = OUTCOME_NONE;
    for (uint32_t i = 0; i < n && *o == OUTCOME_NONE; i++) {
        const struct bytes key = args[all[i]];
        const struct meta_shard *its = meta_route(&s->meta, key);
        if (key.len > KEY_MAX)
            *o = OUTCOME_KEY_LONG;
        else if (its == NULL)
            *o = OUTCOME_NOLEADER; /* the meta view is not here yet */
        else if (shard != NULL && its != shard)
            *o = OUTCOME_CROSSSLOT;
        shard = its;
    }
    if (all != at) mem_free(s->mem, all, n * sizeof *all);
    if (*o != OUTCOME_NONE || shard == NULL) return false;
    *slot = server_slot(s, shard->group);
    *keyspace = meta_keyspace(&s->meta, shard->keyspace);
    return true;
}

static struct request *request_of_command(struct server *s, struct client *c,
                                          struct group_id group,
                                          const struct command *command,
                                          const struct bytes *args, uint32_t n_args)
{
    struct request *r = request_new(s, FORWARD_COMMANDS, group, c->resp);
    const struct forward f = {.kind = FORWARD_COMMANDS,
                              .resp = c->resp,
                              .once = client_once(c),
                              .n_commands = 1};
    forward_encode(&r->body, &f);
    forward_put_command(&r->body, args, n_args);
    r->origin = FROM_CLIENT;
    r->writes = (command->flags & CF_WRITE) != 0;
    r->reads_only = !r->writes;
    return r;
}

void request_command(struct server *s, struct client *c, const struct command *command,
                     const struct bytes *args, uint32_t n_args)
{
    struct slot *slot;
    const struct meta_keyspace *keyspace;
    enum outcome o;
    if (!request_route(s, command, args, n_args, &slot, &keyspace, &o)) {
        session_outcome(s, c, o == OUTCOME_NONE ? OUTCOME_SYNTAX : o);
        return;
    }
    struct answer *a = NULL;
    if (leads_here(slot) &&
        may_go(c, slot->group, s->identity.server, shard_term(slot->shard))) {
        a = answer_for_gate(c, slot);
        struct reply reply = {&a->bytes, c->resp};
        const struct shard_request q = {
            .commands = &command,
            .args = &args,
            .n_args = &n_args,
            .n_commands = 1,
            .once = client_once(c),
            .position = client_must_see(c, slot->group),
            .now = s->wall,
            .at = s->now,
            .lent = s->lent,
            .lent_at = s->lent_at,
            .far = a->far.block == NULL ? &a->far : NULL,
            .memory_full = !request_has_room(s, args, n_args),
            .log_full = s->wal_full,
            .read = policy_read_at_leader(&keyspace->policy),
        };
        struct shard_gate gate;
        const enum shard_refusal refusal = shard_run(slot->shard, &q, &reply, &gate);
        if (refusal == SHARD_TAKEN) {
            slot_touch(s, slot);
            answer_gate(s, a, slot, &gate);
            return;
        }
        if (a->state != ANSWER_FILLING) a = NULL;
        o = outcome_of(refusal);
        if (o != OUTCOME_NONE) {
            answer_error(s, a == NULL ? answer_open(c) : a, o);
            return;
        }
    }
    struct request *r = request_of_command(s, c, slot->group, command, args, n_args);
    r->read = keyspace->policy.read;
    r->maxlag_ms = keyspace->policy.maxlag_ms;
    r->answer = a == NULL ? answer_open(c) : a;
    request_submit(s, r);
}

/* ---- peers ---- */

void request_forwarded(struct server *s, struct server_id from, struct group_id group,
                       struct forward *f, struct block *block)
{
    struct slot *slot = server_slot(s, group);
    struct request *r = request_new(s, f->kind, group, f->resp);
    r->origin = FROM_PEER;
    r->peer = from;
    r->peer_id = f->id;
    r->term = f->term;
    r->position = position_in(&f->position);
    r->writes = true;
    if (!leads_here(slot)) {
        struct raft_info info = {0};
        if (slot->shard != NULL) raft_info(shard_raft(slot->shard), &info);
        if (info.role != RAFT_LEADER || (f->term.v != 0 && f->term.v != info.term.v)) {
            refuse_to_peer(s, slot, r, FORWARD_REFUSED);
            return;
        }
    } else {
        if (f->term.v != 0 && f->term.v != shard_term(slot->shard).v) {
            refuse_to_peer(s, slot, r, FORWARD_REFUSED);
            return;
        }
        enum shard_refusal refusal = SHARD_BUSY;
        s->lent = block;
        s->lent_at = 0;
        const bool taken = slot->n_holding == 0 && evaluate(s, slot, r, *f, &refusal);
        s->lent = NULL;
        if (taken) return;
        if (refusal == SHARD_NOT_LEADER || refusal == SHARD_CLOSED) {
            refuse_to_peer(s, slot, r,
                           refusal == SHARD_CLOSED ? FORWARD_CLOSED : FORWARD_REFUSED);
            return;
        }
    }
    forward_encode(&r->body, f);
    forward_put_rest(&r->body, f);
    enter(s, r, REQUEST_WAITING);
    slot_touch(s, slot);
}

/* The leader that it was sent to is closed to a key of it.  It waits here, until the view
 * shows whose the key is now, unless its client has asked for more meanwhile: that may have
 * taken effect, there or where the key is now, and behind it this would be out of order. */
static void on_closed(struct server *s, struct slot *slot, struct request *r)
{
    const struct client *c = client_of(r);
    leave(s, r);
    if (c != NULL && c->last_answer != r->answer) {
        finish(s, r, NULL, OUTCOME_CLOSED);
        return;
    }
    if (reroute(s, r)) return;
    r->closed = true;
    enter(s, r, REQUEST_WAITING);
    slot_touch(s, slot);
}

/* A large reply to a client is not copied out of the block that it came in.  Everybody else
 * reads it, and finds it in `bytes`. */
static void finish_with(struct server *s, struct request *r,
                        const struct forward_reply *reply, struct block *block)
{
    struct forward_reply out = *reply;

    if (block != NULL && r->origin == FROM_CLIENT && out.bytes.len >= BLOCK_BYTES_MIN) {
        out.far = (struct far){
            .block = block,
            .from = (uint64_t)(out.bytes.at - block->bytes.at),
            .len = out.bytes.len,
        };
        out.bytes.len = 0;
    }
    finish(s, r, &out, OUTCOME_NONE);
}

void request_reply(struct server *s, struct server_id from,
                   const struct forward_reply *reply, struct block *block)
{
    struct request *r = hmap_find(&s->sent, reply->id);
    if (r == NULL || r->target.v != from.v) return; /* timed out meanwhile */
    struct slot *slot = server_slot(s, r->group);
    if (reply->status == FORWARD_CLOSED) {
        on_closed(s, slot, r);
        return;
    }
    if (reply->status == FORWARD_REFUSED) {
        leave(s, r);
        if (reroute(s, r)) return;
        slot->tries++;
        if (reply->leader.v != 0 && reply->term.v >= slot->hint_term.v) {
            slot->hint = reply->leader;
            slot->hint_term = reply->term;
        } else if (slot->hint.v == from.v) {
            slot->hint.v = 0;
        }
        enter(s, r, REQUEST_WAITING);
        slot_touch(s, slot);
        return;
    }
    if (r->kind == FORWARD_META && slot->shard != NULL &&
        shard_applied(slot->shard).v < reply->position.index.v) {
        /* Answered once this server, too, knows what was changed. */
        leave(s, r);
        r->body.len = 0;
        buf_put(&r->body, reply->bytes.at, reply->bytes.len);
        r->index = reply->position.index;
        enter(s, r, REQUEST_APPLY);
        return;
    }
    finish_with(s, r, reply, block);
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
            finish(s, r, NULL, OUTCOME_UNCERTAIN);
            continue;
        }
        leave(s, r);
        enter(s, r, REQUEST_WAITING);
        slot_touch(s, slot);
    }
    heap_free(&lost);
}

/* ---- trying again ---- */

static void waiting_turn(struct server *s, struct slot *slot)
{
    const uint64_t walk = ++s->walks;
    bool peers_held = false;
    struct request *next;
    for (struct request *r = slot->waiting; r != NULL; r = next) {
        next = r->next;
        struct client *c = client_of(r);
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
        const bool gone = go(s, slot, r);
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

static void count_reply(struct server *s, struct request *r, uint32_t n)
{
    struct buf bytes = buf_new(s->mem);
    struct reply reply = {&bytes, r->resp};
    reply_int(&reply, n);
    const struct forward_reply done = {.status = FORWARD_DONE,
                                       .bytes = buf_bytes(&bytes)};
    finish(s, r, &done, OUTCOME_NONE);
    buf_free(&bytes);
}

static void round_turn(struct server *s, struct slot *slot, struct request *r)
{
    if (!is_replica(s, slot)) { /* its leader answers it no more */
        leave(s, r);
        enter(s, r, REQUEST_WAITING);
        return;
    }
    switch (shard_round_done(slot->shard, r->round)) {
    case GATE_WAITS: return;
    case GATE_OPEN:
        leave(s, r);
        switch (see_here(s, slot, r)) {
        case POSITION_LOST: return;
        case POSITION_AHEAD: break; /* it was not committed yet: the leader has it */
        case POSITION_HERE:
            if (!is_leaders_to_say(s, slot, r) && read_now(s, slot, r)) return;
            break;
        }
        r->at_leader = true;
        enter(s, r, REQUEST_WAITING);
        return;
    case GATE_LOST:
        leave(s, r);
        enter(s, r, REQUEST_WAITING);
        return;
    }
}

static void rounds_turn(struct server *s, struct slot *slot)
{
    struct request *next;
    for (struct request *r = slot->rounds; r != NULL; r = next) {
        next = r->next;
        if (r->state == REQUEST_ROUND) {
            round_turn(s, slot, r);
        } else if (r->state == REQUEST_COPIES) {
            const uint32_t n = shard_copies(slot->shard, r->index);
            if (!shard_leads(slot->shard))
                finish(s, r, NULL, OUTCOME_UNCERTAIN);
            else if (n >= r->copies)
                count_reply(s, r, n);
        } else if (r->state == REQUEST_LEAD) {
            (void)lead_turn(s, slot, r);
        } else if (shard_applied(slot->shard).v >= r->index.v) {
            struct forward_reply done = {.status = FORWARD_DONE,
                                         .bytes = buf_bytes(&r->body)};
            finish(s, r, &done, OUTCOME_NONE);
        }
    }
}

void requests_replica_gone(struct server *s, struct slot *slot)
{
    struct request *next;
    for (struct request *r = slot->rounds; r != NULL; r = next) {
        next = r->next;
        if (r->state == REQUEST_ROUND) {
            leave(s, r);
            enter(s, r, REQUEST_WAITING);
        } else if (r->state == REQUEST_COPIES) {
            finish(s, r, NULL, OUTCOME_UNCERTAIN);
        } else if (r->state == REQUEST_LEAD) {
            finish(s, r, NULL, OUTCOME_NOLEADER);
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

void requests_slot_turn(struct server *s, struct slot *slot)
{
    if (slot->shard != NULL) rounds_turn(s, slot);
    waiting_turn(s, slot);
}

void requests_free(struct server *s)
{
    struct heap_node *node;
    while ((node = heap_min(&s->timers)) != NULL)
        request_free(s, of_timer(node));
}

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
            refuse_to_peer(s, slot, r, FORWARD_REFUSED);
        else
            finish(s, r, NULL,
                   r->closed  ? OUTCOME_CLOSED
                   : r->stale ? OUTCOME_STALE
                              : OUTCOME_NOLEADER);
        return;
    case REQUEST_SENT:
        finish(s, r, NULL,
               !r->reads_only ? OUTCOME_UNCERTAIN_LATE
               : r->stale     ? OUTCOME_STALE
                              : OUTCOME_NOQUORUM);
        return;
    case REQUEST_ROUND: finish(s, r, NULL, OUTCOME_NOQUORUM); return;
    case REQUEST_COPIES: count_reply(s, r, shard_copies(slot->shard, r->index)); return;
    case REQUEST_LEAD: finish(s, r, NULL, OUTCOME_NOLEADER); return;
    case REQUEST_APPLY: {
        struct forward_reply done = {.status = FORWARD_DONE,
                                     .bytes = buf_bytes(&r->body)};
        finish(s, r, &done, OUTCOME_NONE);
        return;
    }
    case REQUEST_GATED: return; /* its answer has a deadline of its own */
    }
}
