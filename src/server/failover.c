/* SPDX-License-Identifier: Apache-2.0 */
/* failover - FAILOVER keyspace [TO server]: planned hand-over.  With FORCE, and where one
 * voter is all there is (FAILOVER manual), see force.c.
 *
 * Any server takes the command, and asks the leader of each of the keyspace's shards, one
 * after the other, with a LEAD request (FORWARD_LEAD).  The leader pauses, catches the other
 * up, and hands over (raft: RAFT_TRANSFER_TO); it answers when it has heard of its successor,
 * or when the hand-over was given up, which loses nothing.  Then the meta shard is told
 * (PREFER), so that the lead is not balanced away again; without the meta shard's majority it
 * may be.
 *
 *   LEAD command: "LEAD", then the server's id as 4 bytes little-endian, 0: whoever has most;
 *   answered with the number of who leads now, or an error
 */
#include "server/failover.h"

#include "base/text.h"

/* ---- at the server that was asked ---- */

const struct meta_server *failover_server(const struct server *s, struct bytes text)
{
    const struct meta_server *named = meta_server_named(&s->meta, text);
    int64_t id;

    if (named != NULL) return named;
    if (!parse_i64(text, &id) || id < 1 || id > UINT32_MAX) return NULL;
    return meta_server(&s->meta, (struct server_id){(uint32_t)id});
}

static bool is_voter(const struct meta_shard *shard, struct server_id id)
{
    for (uint32_t i = 0; i < shard->n_voters; i++)
        if (shard->voters[i].v == id.v) return true;
    return false;
}

/* NULL, or what is wrong. */
static const char *read_options(const struct server *s, const struct bytes *args,
                                uint32_t n_args, struct server_id *to, bool *force)
{
    to->v = 0;
    *force = false;
    for (uint32_t i = 2; i < n_args; i++) {
        if (bytes_equal_nocase(args[i], "force")) {
            *force = true;
            continue;
        }
        if (!bytes_equal_nocase(args[i], "to") || i + 1 == n_args)
            return outcome_row(OUTCOME_SYNTAX)->text;
        const struct meta_server *server = failover_server(s, args[++i]);
        if (server == NULL)
            return "ERR no server has that name or id; CLUSTER NODES shows them";
        *to = server->id;
    }
    return NULL;
}

/* All of them are looked at before the first is moved. */
static bool can_lead_all(struct server *s, struct client *c,
                         const struct meta_keyspace *keyspace, struct server_id to)
{
    const struct meta_shard *shard;

    for (uint32_t i = 0; (shard = meta_shard_of(&s->meta, keyspace->id, i)) != NULL;
         i++) {
        if (to.v == 0 ? shard->n_voters > 1 : is_voter(shard, to)) continue;
        struct reply r = answer_now(c);
        if (to.v == 0)
            reply_errorf(&r,
                         "ERR shard %u has one voter, and nobody to hand the lead "
                         "to",
                         shard->group.v);
        else
            reply_errorf(&r,
                         "ERR server '%s' is no voter of shard %u; SHARD LIST shows "
                         "who is",
                         meta_server(&s->meta, to)->name.at, shard->group.v);
        answer_now_done(s, c);
        return false;
    }
    return true;
}

static void next_shard(struct server *s, struct client *c, struct answer *a);

static void end(struct server *s, struct client *c, struct answer *a)
{
    client_let_go(s, c);
    answer_ready(s, a);
}

static void preferred(struct server *s, struct request *r,
                      const struct forward_reply *reply, enum outcome o)
{
    struct answer *a = r->answer;

    (void)reply;
    (void)o; /* the lead is where it should be all the same */
    if (a->client == NULL) {
        end(s, NULL, a);
        return;
    }
    a->client->failover.at++;
    next_shard(s, a->client, a);
}

static void prefer(struct server *s, struct answer *a, struct group_id group,
                   uint32_t lead)
{
    uint8_t what[8];

    store_u32le(what, group.v);
    store_u32le(what + 4, lead);
    const struct bytes args[] = {BYTES_OF("PREFER"), {what, sizeof what}};
    struct request *r = request_to_meta(s, 2, args, 2);
    r->done = preferred;
    r->answer = a;
    request_submit(s, r);
}

/* The number of an integer reply: who leads now.  False: it is an error. */
static bool leader_read(struct bytes reply, uint32_t *out)
{
    int64_t v;

    if (reply.len < 4 || reply.at[0] != ':') return false;
    if (!parse_i64((struct bytes){reply.at + 1, reply.len - 3}, &v)) return false;
    *out = (uint32_t)v;
    return v > 0 && v <= UINT32_MAX;
}

/* The first shard that can't be handed over ends it, with what its leader says. */
static void handed_over(struct server *s, struct request *r,
                        const struct forward_reply *reply, enum outcome o)
{
    struct answer *a = r->answer;
    struct client *c = a->client;

    uint32_t lead;

    if (c != NULL && o == OUTCOME_NONE && leader_read(reply->bytes, &lead)) {
        prefer(s, a, r->group, lead);
        return;
    }
    if (o == OUTCOME_NONE) {
        buf_put(&a->bytes, reply->bytes.at, reply->bytes.len);
    } else {
        struct reply text = {&a->bytes, 2};
        reply_errorf(&text, "%s (shard %u)", outcome_row(o)->text, r->group.v);
    }
    end(s, c, a);
}

static void next_shard(struct server *s, struct client *c, struct answer *a)
{
    const struct meta_shard *shard = meta_shard_of(&s->meta, c->failover.keyspace,
                                                   c->failover.at);
    uint8_t to[4];

    if (shard == NULL) {
        struct reply r = {&a->bytes, c->resp};
        reply_ok(&r);
        end(s, c, a);
        return;
    }
    store_u32le(to, c->failover.to.v);
    const struct bytes args[] = {BYTES_OF("LEAD"), {to, sizeof to}};
    const struct forward f = {.kind = FORWARD_LEAD, .resp = 2, .n_commands = 1};
    struct request *r = request_new(s, FORWARD_LEAD, shard->group, 2);
    forward_encode(&r->body, &f);
    forward_put_command(&r->body, args, 2);
    r->origin = FROM_SERVER;
    r->client = c->conn;
    r->done = handed_over;
    r->answer = a;
    /* With a target it comes to the same when it is asked twice. */
    r->reads_only = c->failover.to.v != 0;
    request_submit(s, r);
}

void failover_begin(struct server *s, struct client *c, const struct bytes *args,
                    uint32_t n_args)
{
    const struct meta_keyspace *keyspace = meta_keyspace_named(&s->meta, args[1]);
    struct server_id to;
    bool force;
    const char *wrong = read_options(s, args, n_args, &to, &force);

    if (keyspace == NULL)
        wrong = outcome_row(OUTCOME_NOKEYSPACE)->text;
    else if (keyspace->policy.mode != MODE_RAFT && keyspace->policy.mode != MODE_PRIMARY)
        wrong = outcome_row(OUTCOME_MODE)->text;
    if (wrong != NULL) {
        session_error(s, c, wrong);
        return;
    }
    check(keyspace != NULL);
    if (force) {
        force_begin(s, c, keyspace, to);
        return;
    }
    if (keyspace->policy.mode == MODE_PRIMARY &&
        keyspace->policy.failover == FAILOVER_MANUAL && to.v != 0) {
        force_move(s, c, keyspace, to);
        return;
    }
    if (!can_lead_all(s, c, keyspace, to)) return;
    c->failover.keyspace = keyspace->id;
    c->failover.at = 0;
    c->failover.to = to;
    c->held = true;
    next_shard(s, c, answer_open(c));
}

/* ---- at the leader ---- */

bool failover_read(struct forward f, struct server_id *to)
{
    struct bytes args[2];

    if (f.n_commands != 1 || forward_peek_args(&f) != 2) return false;
    forward_next_command(&f, args);
    if (!bytes_equal(args[0], BYTES_OF("LEAD")) || args[1].len != 4) return false;
    to->v = load_u32le(args[1].at);
    return true;
}

static const char *name_of(const struct server *s, struct server_id id)
{
    const struct meta_server *server = meta_server(&s->meta, id);

    return server == NULL ? "?" : server->name.at;
}

enum failover_state failover_look(struct server *s, const struct slot *slot,
                                  struct server_id to, struct term since,
                                  struct reply *reply)
{
    struct raft_info info;

    raft_info(shard_raft(slot->shard), &info);
    const struct server_id self = s->identity.server;
    if (info.leader.v == self.v && info.term.v == since.v && to.v != self.v) {
        if (info.transferring) return FAILOVER_WAITS;
        reply_errorf(reply,
                     "ERR shard %u was not handed over: the other server is not there, "
                     "or did not catch up in time; '%s' goes on to lead",
                     slot->group.v, name_of(s, self));
        return FAILOVER_ENDED;
    }
    if (info.leader.v == 0) return FAILOVER_WAITS;
    if (to.v == 0 ? info.leader.v != self.v : info.leader.v == to.v)
        reply_int(reply, info.leader.v);
    else
        reply_errorf(reply, "ERR shard %u is led by server '%s' now, whatever was asked",
                     slot->group.v, name_of(s, info.leader));
    return FAILOVER_ENDED;
}
