/* SPDX-License-Identifier: Apache-2.0 */
/* SERVER DRAIN, REMOVE, REPLACE and ACTIVATE: who is to go, and whether the others can do
 * without.  The moving itself is meta_plan()'s.  Then the feature level that all of them speak,
 * and what is left after a disaster. */
#include "meta/meta.h"
#include "meta/place.h"
#include "meta/record.h"

struct leaving {
    const struct meta *m;
    const struct meta_judge *judge;
    struct meta_server server; /* as it is to be */
    struct reply *reply;
};

static int shown(struct bytes b)
{
    return (int)(b.len < META_NAME_MAX ? b.len : META_NAME_MAX);
}

static const struct meta_server *named(const struct meta *m, struct bytes name,
                                       struct reply *reply)
{
    const struct meta_server *s = meta_server_named(m, name);

    if (s == NULL)
        reply_errorf(reply,
                     "ERR there is no server '%.*s'; SERVER LIST shows those there are",
                     shown(name), (const char *)name.at);
    return s;
}

static bool is_alive(const struct leaving *l, struct server_id id)
{
    return l->judge == NULL || l->judge->health(l->judge->ctx, id) == HEALTH_ALIVE;
}

/* The others that may hold replicas, and how many of them are there. */
static uint32_t count_rest(const struct leaving *l, uint32_t *alive)
{
    uint32_t n = 0;

    *alive = 0;
    for (uint32_t i = 0; i < l->m->n_servers; i++) {
        const struct meta_server *s = l->m->servers[i];
        if (s->id.v == l->server.id.v || s->state != SERVER_ACTIVE) continue;
        n++;
        *alive += is_alive(l, s->id);
    }
    return n;
}

/* Fewer voters than a shard has now are fewer copies behind an acknowledgement: that is for
 * an operator to say.  The voters that there will be must have a majority that is there. */
static bool may_leave(const struct leaving *l)
{
    const char *name = l->server.name.at;
    uint32_t alive;
    const uint32_t rest = count_rest(l, &alive);

    if (rest == 0) {
        reply_errorf(l->reply, "ERR '%s' is the last server that can hold data", name);
        return false;
    }
    for (uint32_t i = 0; i < l->m->n_shards; i++) {
        const struct meta_shard *s = l->m->shards[i];
        const struct meta_keyspace *k = meta_keyspace(l->m, s->keyspace);
        const uint32_t voters = place_voters(rest, k != NULL ? k->policy.replicas : 3);
        const uint32_t now = k != NULL || s->n_voters < 3 ? s->n_voters : 3;
        if (alive < voters / 2 + 1) {
            reply_errorf(l->reply,
                         "ERR only %u of the %u other servers can be reached: that is no "
                         "majority; start them first",
                         alive, rest);
            return false;
        }
        if (voters >= now || l->server.shrink) continue;
        reply_errorf(l->reply,
                     "ERR without '%s' there are %u servers for keyspace '%s', which "
                     "would go on with %u voter%s instead of %u; start another server "
                     "first, or say SHRINK",
                     name, rest, k != NULL ? k->name.at : "(meta)", voters,
                     voters == 1 ? "" : "s", now);
        return false;
    }
    return true;
}

static void leave(struct leaving *l, enum meta_server_state state,
                  struct meta_change *out)
{
    if (!may_leave(l)) return;
    l->server.state = state;
    record_put_server(out->effects, &l->server, false);
    reply_ok(l->reply);
}

static void on_drain(struct leaving *l, const struct bytes *args, uint32_t n_args,
                     struct meta_change *out)
{
    const bool removes = bytes_equal_nocase(args[1], "remove");

    if (n_args == 4 && !bytes_equal_nocase(args[3], "shrink")) {
        reply_error(l->reply, "ERR syntax error");
        return;
    }
    l->server.shrink = l->server.shrink || n_args == 4;
    leave(l, removes ? SERVER_LEAVING : SERVER_DRAINING, out);
}

/* REPLACE old new: as REMOVE, and what it held goes to the new one as far as that can be. */
static void on_replace(struct leaving *l, const struct bytes *args, uint32_t n_args,
                       struct meta_change *out)
{
    (void)n_args;
    const struct meta_server *next = named(l->m, args[3], l->reply);

    if (next == NULL) return;
    if (next->id.v == l->server.id.v || next->state != SERVER_ACTIVE ||
        !is_alive(l, next->id)) {
        reply_errorf(l->reply,
                     "ERR '%s' can't take over: it is not reachable, drains, or is the "
                     "same server",
                     next->name.at);
        return;
    }
    l->server.successor = next->id;
    leave(l, SERVER_LEAVING, out);
}

static void on_activate(struct leaving *l, const struct bytes *args, uint32_t n_args,
                        struct meta_change *out)
{
    (void)args;
    (void)n_args;
    if (l->server.state != SERVER_ACTIVE) {
        l->server.state = SERVER_ACTIVE;
        l->server.shrink = false;
        l->server.successor.v = 0;
        record_put_server(out->effects, &l->server, false);
    }
    reply_ok(l->reply);
}

static const struct subcommand {
    const char *name;
    uint32_t args_min, args_max;
    void (*run)(struct leaving *l, const struct bytes *args, uint32_t n_args,
                struct meta_change *out);
} subcommands[] = {
    {"drain", 3, 4, on_drain},
    {"remove", 3, 4, on_drain},
    {"replace", 4, 4, on_replace},
    {"activate", 3, 3, on_activate},
};

void meta_server_command(const struct meta *m, const struct meta_judge *judge,
                         const struct bytes *args, uint32_t n_args,
                         struct meta_change *out, struct reply *reply)
{
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        const struct subcommand *sub = &subcommands[i];
        if (n_args < 2 || !bytes_equal_nocase(args[1], sub->name)) continue;
        if (n_args < sub->args_min || n_args > sub->args_max) {
            reply_errorf(reply, "ERR wrong number of arguments for 'server|%s' command",
                         sub->name);
            return;
        }
        const struct meta_server *server = named(m, args[2], reply);
        if (server == NULL) return;
        struct leaving l = {m, judge, *server, reply};
        sub->run(&l, args, n_args, out);
        return;
    }
    reply_error(reply, "ERR unknown subcommand of SERVER; it has LIST, DRAIN, REMOVE, "
                       "REPLACE and ACTIVATE");
}

/* ---- the feature level ---- */

bool meta_raise(const struct meta *m, uint32_t (*speaks)(void *ctx, struct server_id id),
                void *ctx, struct meta_change *out)
{
    struct meta_cluster cluster = m->cluster;
    uint32_t all = UINT32_MAX;

    for (uint32_t i = 0; i < m->n_servers; i++) {
        const uint32_t its = speaks(ctx, m->servers[i]->id);
        if (its < all) all = its;
    }
    if (m->n_servers == 0 || all <= cluster.feature) return false;
    cluster.feature = all;
    record_put_cluster(out->effects, &cluster, false);
    return true;
}

/* ---- sennit recover ---- */

static void only_this_server(const struct meta *m, struct server_id self,
                             struct meta_change *out)
{
    for (uint32_t i = 0; i < m->n_servers; i++) {
        struct meta_server server = *m->servers[i];
        if (server.id.v != self.v) {
            record_clear_server(out->effects, &server);
            continue;
        }
        server.state = SERVER_ACTIVE;
        server.shrink = false;
        server.successor.v = 0;
        record_put_server(out->effects, &server, false);
    }
}

void meta_recover(const struct meta *m, struct server_id self, struct cluster_id id,
                  uint32_t (*epoch)(void *ctx, const struct meta_shard *shard), void *ctx,
                  struct meta_change *out)
{
    struct meta_cluster cluster = m->cluster;

    only_this_server(m, self, out);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        struct meta_shard s = *m->shards[i];
        const uint32_t begins = epoch(ctx, &s);
        if (begins ==
            0) { /* another group: what was promised in the old one stays there */
            record_clear_shard(out->effects, &s);
            s.group.v = cluster.next_group++;
            s.founder = self;
            s.version = 0;
        } else {
            s.version++;
        }
        s.epoch = begins;
        s.settled = s.pinned = false;
        s.decree = DECREE_NONE; /* the epoch of that one is past */
        s.named.v = s.heard = 0;
        s.lead.v = s.group.v == META_GROUP ? 0 : self.v;
        s.n_voters = 1;
        s.voters[0] = self;
        s.n_learners = s.n_old = 0;
        record_put_shard(out->effects, &s, begins == 0);
    }
    cluster.id = id;
    record_put_cluster(out->effects, &cluster, false);
}
