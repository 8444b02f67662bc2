/* SPDX-License-Identifier: Apache-2.0 */
/* request - where a request goes: evaluated here, forwarded to the leader, or waiting.
 * request_wait.h says in which order. */
#include "base/text.h"
#include "server/failover.h"
#include "server/request_run.h"
#include "server/request_wait.h"

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
    request_enter(s, r, REQUEST_COPIES);
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

    if (ended) request_finish(s, r, &done, OUTCOME_NONE);
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
    request_enter(s, r, REQUEST_LEAD);
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
        request_finish(s, r, NULL, o);
        return true;
    }
    slot_touch(s, slot);
    if (r->origin == FROM_CLIENT) {
        if (r->state != 0) request_leave(s, r);
        request_free(s, r);
    } else {
        if (r->state != 0) request_leave(s, r);
        request_enter(s, r, REQUEST_GATED);
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
    if (is_replica(s, slot) || (leader.v != 0 && peer_reachable(s, leader)))
        return leader;

    /* No replica here, and no hint, or one at a server that has gone since: any replica that can be reached
     * knows more than we do. */
    const struct meta_shard *shard = meta_shard(&s->meta, slot->group);
    *term = (struct term){0};
    for (uint32_t i = 0; shard != NULL && i < shard->n_voters; i++) {
        const struct server_id voter = shard->voters[(slot->tries + i) % shard->n_voters];
        if (peer_reachable(s, voter)) return voter;
    }
    return (struct server_id){0};
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
    struct client *c = request_client(r);
    if (c != NULL && !request_may_go(c, r->group, target, term)) return false;

    r->id = ++s->next_request;
    r->target = target;
    r->term = term;
    r->way = peer_way(s, target);
    size_t start;
    struct buf *body = peer_say(s, target, r->group, MESSAGE_FORWARD, &start);
    if (body == NULL) return false;
    put_body(s, r, body, start);
    s->stats.forwarded++;
    request_enter(s, r, REQUEST_SENT);
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
    request_finish(s, r, NULL, OUTCOME_LOST);
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
    if (open) request_finish(s, r, &done, OUTCOME_NONE);
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
    struct client *c = request_client(r);
    if (r->read == READ_ANY) {
        if (c != NULL && request_has_others(c, r->group)) return false;
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
    if (c != NULL && !request_may_go(c, r->group, s->identity.server, term)) return false;
    r->round = shard_read_round(slot->shard, s->now);
    r->target = s->identity.server;
    r->term = term;
    request_enter(s, r, REQUEST_ROUND);
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
    request_finish(s, r, &done, OUTCOME_NONE);
    buf_free(&bytes);
}

static bool is_routed_by_keys(const struct request *r)
{
    if (r->origin == FROM_CLIENT)
        return r->kind == FORWARD_COMMANDS || r->kind == FORWARD_EXEC;
    return r->origin == FROM_SERVER && r->kind == FORWARD_WATCH;
}

/* The map may have changed since it was routed, and nothing of it was applied: the keys may
 * be another shard's now.  True: it has gone there, or is answered.  What its client has asked
 * by a newer map may have gone there before it; by the same one, it waits behind it. */
static bool reroute(struct server *s, struct request *r)
{
    struct forward f;
    struct decoded d;
    struct group_id group = r->group;
    if (r->routed == s->meta.version || !is_routed_by_keys(r)) return false;
    const struct client *c = request_client(r);
    const bool overtaken = c != NULL && c->routed > r->routed;
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
        request_finish(s, r, NULL, OUTCOME_CROSSSLOT);
        return true;
    }
    if (overtaken) {
        request_finish(s, r, NULL, OUTCOME_CLOSED);
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

/* It may have to go to another shard, and what its client asked before it is still under way,
 * and may have to as well. */
static bool is_to_move_later(struct server *s, const struct request *r)
{
    struct client *c = request_client(r);
    if (c == NULL || !is_routed_by_keys(r)) return false;
    if (r->routed != s->meta.version && request_has_others(c, r->group)) return true;
    return request_is_too_soon(s, c, r->group, r->answer);
}

bool request_go(struct server *s, struct slot *slot, struct request *r)
{
    if (is_to_move_later(s, r)) return false;
    if (reroute(s, r)) return true;
    if (leads_here(slot)) {
        const struct client *c = request_client(r);
        const struct term term = shard_term(slot->shard);
        if (c != NULL && !request_may_go(c, r->group, s->identity.server, term))
            return false;
        struct forward f;
        const bool ok = forward_decode(buf_bytes(&r->body), &f);
        check(ok);
        enum shard_refusal refusal;
        if (evaluate(s, slot, r, f, &refusal)) return true;
        r->closed = refusal == SHARD_CLOSED;
        if (!r->closed || r->origin != FROM_PEER) return false;
        request_refuse(s, slot, r, FORWARD_CLOSED);
        return true;
    }
    if (r->origin == FROM_PEER) {
        struct raft_info info;
        if (slot->shard != NULL) {
            raft_info(shard_raft(slot->shard), &info);
            if (info.role == RAFT_LEADER) return false; /* about to be ready: wait */
        }
        request_refuse(s, slot, r, FORWARD_REFUSED);
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
                request_finish(s, r, NULL, OUTCOME_READONLY);
                return true;
            }
            switch (see_here(s, slot, r)) {
            case POSITION_AHEAD: return false; /* what was lost may yet be repaired */
            case POSITION_LOST: break;
            case POSITION_HERE:
                if (!read_now(s, slot, r)) request_finish(s, r, NULL, OUTCOME_CLOSED);
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
    if (request_go(s, slot, r)) return;
    request_enter(s, r, REQUEST_WAITING);
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
    c->routed = s->meta.version;
    struct answer *a = NULL;
    if (leads_here(slot) && !request_is_too_soon(s, c, slot->group, NULL) &&
        request_may_go(c, slot->group, s->identity.server, shard_term(slot->shard))) {
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
            .log_behind = !wal_room(s->wal),
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
    r->answer->pending = r;
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
            request_refuse(s, slot, r, FORWARD_REFUSED);
            return;
        }
    } else {
        if (f->term.v != 0 && f->term.v != shard_term(slot->shard).v) {
            request_refuse(s, slot, r, FORWARD_REFUSED);
            return;
        }
        enum shard_refusal refusal = SHARD_BUSY;
        s->lent = block;
        s->lent_at = 0;
        const bool free = slot->n_holding == 0 && slot->n_behind == 0;
        const bool taken = free && evaluate(s, slot, r, *f, &refusal);
        s->lent = NULL;
        if (taken) return;
        if (refusal == SHARD_NOT_LEADER || refusal == SHARD_CLOSED) {
            request_refuse(s, slot, r,
                           refusal == SHARD_CLOSED ? FORWARD_CLOSED : FORWARD_REFUSED);
            return;
        }
    }
    forward_encode(&r->body, f);
    forward_put_rest(&r->body, f);
    request_enter(s, r, REQUEST_WAITING);
    slot_touch(s, slot);
}

/* The leader that it was sent to is closed to a key of it.  It waits here, until the view
 * shows whose the key is now, unless its client has asked for more meanwhile: that may have
 * taken effect, there or where the key is now, and behind it this would be out of order. */
static void on_closed(struct server *s, struct slot *slot, struct request *r)
{
    const struct client *c = request_client(r);
    request_leave(s, r);
    if (c != NULL && c->last_answer != r->answer) {
        request_finish(s, r, NULL, OUTCOME_CLOSED);
        return;
    }
    if (reroute(s, r)) return;
    r->closed = true;
    request_enter(s, r, REQUEST_WAITING);
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
    request_finish(s, r, &out, OUTCOME_NONE);
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
    const bool hints = reply->leader.v != 0 && reply->term.v >= slot->hint_term.v;
    if (hints) {
        slot->hint = reply->leader;
        slot->hint_term = reply->term;
    }
    if (reply->status == FORWARD_REFUSED) {
        request_leave(s, r);
        if (reroute(s, r)) return;
        slot->tries++;
        if (!hints && slot->hint.v == from.v) slot->hint.v = 0;
        request_enter(s, r, REQUEST_WAITING);
        slot_touch(s, slot);
        return;
    }
    if (r->kind == FORWARD_META && slot->shard != NULL &&
        shard_applied(slot->shard).v < reply->position.index.v) {
        /* Answered once this server, too, knows what was changed. */
        request_leave(s, r);
        r->body.len = 0;
        buf_put(&r->body, reply->bytes.at, reply->bytes.len);
        r->index = reply->position.index;
        request_enter(s, r, REQUEST_APPLY);
        return;
    }
    finish_with(s, r, reply, block);
}

/* ---- trying again ---- */

static void round_turn(struct server *s, struct slot *slot, struct request *r,
                       uint64_t walk)
{
    /* Who is no replica any more is answered no more by its leader. */
    if (!is_replica(s, slot) || request_follows_back(r, walk)) {
        request_go_back(s, r, walk);
        return;
    }
    switch (shard_round_done(slot->shard, r->round)) {
    case GATE_WAITS: return;
    case GATE_OPEN:
        switch (see_here(s, slot, r)) {
        case POSITION_LOST: return;
        case POSITION_AHEAD: break; /* it was not committed yet: the leader has it */
        case POSITION_HERE:
            if (!is_leaders_to_say(s, slot, r) && read_now(s, slot, r)) return;
            break;
        }
        r->at_leader = true;
        request_go_back(s, r, walk);
        return;
    case GATE_LOST: request_go_back(s, r, walk); return;
    }
}

static void rounds_turn(struct server *s, struct slot *slot)
{
    const uint64_t walk = ++s->walks;
    struct request *next;
    for (struct request *r = slot->rounds; r != NULL; r = next) {
        next = r->next;
        if (r->state == REQUEST_ROUND) {
            round_turn(s, slot, r, walk);
        } else if (r->state == REQUEST_COPIES) {
            const uint32_t n = shard_copies(slot->shard, r->index);
            if (!shard_leads(slot->shard))
                request_finish(s, r, NULL, OUTCOME_UNCERTAIN);
            else if (n >= r->copies)
                request_count_reply(s, r, n);
        } else if (r->state == REQUEST_LEAD) {
            (void)lead_turn(s, slot, r);
        } else if (shard_applied(slot->shard).v >= r->index.v) {
            struct forward_reply done = {.status = FORWARD_DONE,
                                         .bytes = buf_bytes(&r->body)};
            request_finish(s, r, &done, OUTCOME_NONE);
        }
    }
}

void requests_slot_turn(struct server *s, struct slot *slot)
{
    if (slot->shard != NULL) rounds_turn(s, slot);
    requests_try(s, slot);
}
