/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the shared state: founding, joining, and the KEYSPACE commands. */
#include <stdio.h>

#include "base/hash.h"
#include "meta/meta.h"
#include "meta/place.h"
#include "meta/record.h"

enum { KEYSPACES_MAX = 1024, GROUPS_MAX = 16384 };

void meta_found(struct meta_change *out, struct cluster_id id, uint32_t feature,
                const struct meta_server *founder)
{
    const struct meta_cluster cluster = {
        .id = id,
        .feature = feature,
        .next_server = SERVER_FOUNDER + 1,
        .next_keyspace = KEYSPACE_DEFAULT + 1,
        .next_group = GROUP_DEFAULT + 1,
    };
    struct meta_server server = *founder;
    struct meta_keyspace keyspace = {
        .id = KEYSPACE_DEFAULT,
        .state = KEYSPACE_ACTIVE,
        .policy = policy_default(MODE_RAFT),
    };
    struct meta_shard shard = {
        .slot_last = SLOTS - 1,
        .founder = {SERVER_FOUNDER},
        .n_voters = 1,
        .voters = {{SERVER_FOUNDER}},
    };

    check(id.v != 0);
    server.id = (struct server_id){SERVER_FOUNDER};
    server.state = SERVER_ACTIVE;
    meta_text_set(&keyspace.name, BYTES_OF("default"));

    record_put_cluster(out->effects, &cluster, true);
    record_put_server(out->effects, &server, true);
    shard.group = (struct group_id){META_GROUP};
    record_put_shard(out->effects, &shard, true);
    record_put_keyspace(out->effects, &keyspace, true);
    shard.group = (struct group_id){GROUP_DEFAULT};
    shard.keyspace = KEYSPACE_DEFAULT;
    shard.lead.v = SERVER_FOUNDER;
    record_put_shard(out->effects, &shard, true);
}

/* ---- joining ---- */

/* NULL: nothing stands against it. */
static const char *join_refusal(const struct meta *m, struct bytes name,
                                struct bytes client, struct bytes peer, struct bytes zone)
{
    if (!m->founded) return "this server does not belong to a cluster yet";
    if (!meta_name_good(name))
        return "a server's name is 1 to 64 of the characters A-Z a-z 0-9 _ . -";
    if (client.len == 0 || client.len > META_ADDRESS_MAX)
        return "the client address is empty or longer than 255 bytes";
    if (peer.len == 0 || peer.len > META_ADDRESS_MAX)
        return "the peer address is empty or longer than 255 bytes";
    if (zone.len > META_ADDRESS_MAX) return "the zone is longer than 255 bytes";

    for (uint32_t i = 0; i < m->n_servers; i++) {
        const struct meta_server *s = m->servers[i];
        const bool same_name = bytes_equal(meta_text_bytes(&s->name), name);
        const bool same_peer = bytes_equal(meta_text_bytes(&s->peer), peer);
        if (same_name && !same_peer)
            return "a member with another peer address has this name; choose another";
        if (same_peer && !same_name) return "a member with another name has this address";
        if (same_name && s->state != SERVER_ACTIVE) return "this server is leaving";
    }
    return NULL;
}

static bool counts_on(const struct meta_shard *shard, struct server_id id)
{
    for (uint8_t i = 0; i < shard->n_voters; i++)
        if (shard->voters[i].v == id.v) return true;
    return shard->group.v != META_GROUP && meta_server_has(shard, id);
}

/* Whether anything rests on what this server held or promised. */
static bool is_counted_on(const struct meta *m, struct server_id id)
{
    for (uint32_t i = 0; i < m->n_shards; i++)
        if (counts_on(m->shards[i], id)) return true;
    return false;
}

bool meta_join(const struct meta *m, const struct meta_joiner *joiner,
               struct meta_change *out, struct server_id *id, const char **why)
{
    const char *refusal = join_refusal(m, joiner->name, joiner->client, joiner->peer,
                                       joiner->zone);
    const struct meta_server *old = meta_server_named(m, joiner->name);
    const bool again = old != NULL && old->joined.v == joiner->life.v;

    if (refusal == NULL && old == NULL && m->n_servers >= META_SERVERS_MAX)
        refusal = "the cluster has 512 servers, the most that this version holds";
    if (refusal == NULL && old != NULL && !again && is_counted_on(m, old->id))
        refusal =
            "the cluster counts on what the member of this name held, and this server "
            "has none of it: start it with its data directory, or choose another name "
            "and address";
    if (refusal != NULL) {
        *why = refusal;
        return false;
    }

    struct meta_server server = {.state = SERVER_ACTIVE, .joined = joiner->life};
    server.id.v = again ? old->id.v : m->cluster.next_server;
    meta_text_set(&server.name, joiner->name);
    meta_text_set(&server.client, joiner->client);
    meta_text_set(&server.peer, joiner->peer);
    meta_text_set(&server.zone, joiner->zone);
    if (!again) {
        struct meta_cluster cluster = m->cluster;
        cluster.next_server++;
        record_put_cluster(out->effects, &cluster, false);
        if (old != NULL) record_clear_server(out->effects, old);
    }
    record_put_server(out->effects, &server, !again);
    *id = server.id;
    return true;
}

bool meta_update_self(const struct meta *m, struct server_id self, struct bytes client,
                      struct bytes peer, struct bytes zone, struct meta_change *out)
{
    const struct meta_server *old = meta_server(m, self);

    if (old == NULL || client.len > META_ADDRESS_MAX) return false;
    if (peer.len > META_ADDRESS_MAX || zone.len > META_ADDRESS_MAX) return false;
    if (bytes_equal(meta_text_bytes(&old->client), client) &&
        bytes_equal(meta_text_bytes(&old->peer), peer) &&
        bytes_equal(meta_text_bytes(&old->zone), zone))
        return false;

    struct meta_server server = *old;
    meta_text_set(&server.client, client);
    meta_text_set(&server.peer, peer);
    meta_text_set(&server.zone, zone);
    record_put_server(out->effects, &server, false);
    return true;
}

/* ---- KEYSPACE ---- */

static int shown(struct bytes b)
{
    return (int)(b.len < META_NAME_MAX ? b.len : META_NAME_MAX);
}

static void reply_why(struct reply *reply, struct buf *why)
{
    buf_put_u8(why, 0);
    reply_error(reply, (const char *)why->at);
}

/* A promise that this version would not keep is not taken down. */
static const char *not_yet(const struct policy *p)
{
    if (p->maxmemory_bytes > 0)
        return "BADPOLICY MAXMEMORY of a keyspace is not available in this version; use "
               "0, and "
               "--memory for the server";
    return NULL;
}

/* The policy that the options make of `p`; false: the reply says what is wrong. */
static bool take_options(struct policy *p, bool create, const struct bytes *args,
                         uint32_t n_args, struct mem *mem, struct reply *reply)
{
    struct policy next = *p;
    struct buf why = buf_new(mem);
    bool ok = policy_parse(&next, create, args, n_args, &why);

    const char *missing = ok ? not_yet(&next) : NULL;
    if (!ok) reply_why(reply, &why);
    if (missing != NULL) reply_error(reply, missing);
    ok = ok && missing == NULL;
    buf_free(&why);
    if (ok) *p = next;
    return ok;
}

static bool may_create(const struct meta *m, struct bytes name, struct reply *reply)
{
    if (!m->founded) {
        reply_error(reply, "NOLEADER this server does not belong to a cluster yet");
        return false;
    }
    if (!meta_name_good(name)) {
        reply_error(reply, "ERR a keyspace's name is 1 to 64 of the characters "
                           "A-Z a-z 0-9 _ . -");
        return false;
    }
    const struct meta_keyspace *old = meta_keyspace_named(m, name);
    if (old != NULL) {
        reply_errorf(reply, "ERR keyspace '%.*s' %s", shown(name), (const char *)name.at,
                     old->state == KEYSPACE_DROPPING ? "is still being dropped; try again"
                                                     : "exists already");
        return false;
    }
    return true;
}

/* Alone, not as the value of an option. */
static bool wants_adopt(const struct bytes *options, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 2)
        if (bytes_equal_nocase(options[i], "adopt")) return true;
    return false;
}

/* Those that there will be count, too: each keyspace that is being created gets its own. */
static uint32_t shards_to_be(const struct meta *m)
{
    uint32_t n = m->n_shards;

    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        if (m->keyspaces[i]->state == KEYSPACE_CREATING)
            n += m->keyspaces[i]->policy.shards;
    return n;
}

static void on_create(const struct meta *m, const struct bytes *args, uint32_t n_args,
                      struct meta_change *out, struct reply *reply)
{
    struct meta_keyspace k = {
        .state = KEYSPACE_CREATING,
        .policy = policy_default(MODE_RAFT),
    };

    if (!may_create(m, args[2], reply)) return;
    if (wants_adopt(args + 3, n_args - 3)) {
        reply_error(reply, "BADPOLICY ADOPT is not available in this version; delete or "
                           "move the keys first");
        return;
    }
    if (!take_options(&k.policy, true, args + 3, n_args - 3, m->mem, reply)) return;
    if (m->n_keyspaces >= KEYSPACES_MAX ||
        shards_to_be(m) + k.policy.shards > GROUPS_MAX) {
        reply_errorf(reply, "FULL a cluster holds %d keyspaces and %d shards at most",
                     KEYSPACES_MAX, GROUPS_MAX);
        return;
    }

    struct meta_cluster cluster = m->cluster;
    check(cluster.next_keyspace < UINT32_MAX);
    k.id = cluster.next_keyspace++;
    meta_text_set(&k.name, args[2]);

    record_put_cluster(out->effects, &cluster, false);
    record_put_keyspace(out->effects, &k, true);
    reply_int(reply, k.id);
}

/* The keyspace that a command names; NULL: the reply says that there is none. */
static const struct meta_keyspace *named(const struct meta *m, struct bytes name,
                                         struct reply *reply)
{
    const struct meta_keyspace *k = meta_keyspace_named(m, name);

    if (k == NULL)
        reply_errorf(reply,
                     "NOKEYSPACE there is no keyspace '%.*s'; KEYSPACE LIST shows "
                     "those there are",
                     shown(name), (const char *)name.at);
    return k;
}

/* What its shards' memberships must follow before the change is in force. */
static bool rules_differ(const struct policy *a, const struct policy *b)
{
    return a->mode != b->mode || a->ack != b->ack || a->durability != b->durability ||
           a->failover != b->failover;
}

/* Each shard gets a new target, so that it can be told when the shard has arrived there. */
static void alter_shards(const struct meta *m, const struct meta_keyspace *old,
                         const struct meta_keyspace *now, struct meta_change *out)
{
    const struct place_wish wish = place_wish_of(&now->policy);
    const struct meta_shard *s;

    if (!rules_differ(&old->policy, &now->policy)) return;
    struct place place = place_new(m, NULL);
    for (uint32_t i = 0; (s = meta_shard_of(m, now->id, i)) != NULL; i++) {
        struct meta_shard next = *s;
        if (next.decree == DECREE_FENCED || !place_shard(&place, &wish, &next)) {
            next.version++;
            next.settled = false;
        }
        record_put_shard(out->effects, &next, false);
    }
    place_free(&place);
}

static void on_alter(const struct meta *m, const struct bytes *args, uint32_t n_args,
                     struct meta_change *out, struct reply *reply)
{
    const struct meta_keyspace *old = named(m, args[2], reply);
    if (old == NULL) return;

    if (old->state == KEYSPACE_DROPPING) {
        reply_errorf(reply, "ERR keyspace '%.*s' is being dropped", shown(args[2]),
                     (const char *)args[2].at);
        return;
    }
    struct meta_keyspace k = *old;
    if (!take_options(&k.policy, false, args + 3, n_args - 3, m->mem, reply)) return;
    if (rules_differ(&old->policy, &k.policy) && meta_has_unborn(m, k.id)) {
        /* All that begin one do so with the same rules. */
        reply_errorf(reply,
                     "ERR keyspace '%.*s' has shards that have not begun yet; try again",
                     shown(args[2]), (const char *)args[2].at);
        return;
    }
    record_put_keyspace(out->effects, &k, false);
    alter_shards(m, old, &k, out);
    reply_int(reply, k.id);
}

static void on_drop(const struct meta *m, const struct bytes *args, uint32_t n_args,
                    struct meta_change *out, struct reply *reply)
{
    (void)n_args;
    const struct meta_keyspace *k = named(m, args[2], reply);
    if (k == NULL) return;
    if (k->id == KEYSPACE_DEFAULT) {
        reply_error(reply, "ERR keyspace 'default' can't be dropped");
        return;
    }

    /* It will come, or be refused; what its name shows until then are keys of default, and
     * a DROP that leaves them would be taken for one that does not. */
    if (k->state == KEYSPACE_CREATING) {
        reply_errorf(reply, "ERR keyspace '%.*s' is still being created; try again",
                     shown(args[2]), (const char *)args[2].at);
        return;
    }

    struct meta_keyspace dropped = *k;
    dropped.state = KEYSPACE_DROPPING;
    record_put_keyspace(out->effects, &dropped, false);
    reply_int(reply, k->id);
}

static void on_list(const struct meta *m, const struct bytes *args, uint32_t n_args,
                    struct meta_change *out, struct reply *reply)
{
    (void)args;
    (void)n_args;
    (void)out;
    reply_array(reply, m->n_keyspaces);
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        reply_bulk(reply, meta_text_bytes(&m->keyspaces[i]->name));
}

static void field_text(struct reply *reply, const char *name, const char *value)
{
    reply_bulk_str(reply, name);
    reply_bulk_str(reply, value);
}

static void field_int(struct reply *reply, const char *name, uint64_t value)
{
    reply_bulk_str(reply, name);
    reply_int(reply, value < INT64_MAX ? (int64_t)value : INT64_MAX);
}

static const char *state_name(enum meta_keyspace_state state)
{
    switch (state) {
    case KEYSPACE_CREATING: return "creating";
    case KEYSPACE_ACTIVE: return "active";
    case KEYSPACE_REFUSED: return "refused";
    case KEYSPACE_DROPPING: return "dropping";
    case KEYSPACE_STATE_END: break;
    }
    check(false);
    return "";
}

/* Shards whose members or rules are not yet what is asked for. */
static uint32_t unsettled(const struct meta *m, const struct meta_keyspace *k)
{
    const struct meta_shard *shard;
    uint32_t n = 0;

    for (uint32_t i = 0; (shard = meta_shard_of(m, k->id, i)) != NULL; i++)
        n += !shard->settled;
    return n;
}

static void on_info(const struct meta *m, const struct bytes *args, uint32_t n_args,
                    struct meta_change *out, struct reply *reply)
{
    (void)n_args;
    (void)out;
    const struct meta_keyspace *k = named(m, args[2], reply);
    if (k == NULL) return;

    const struct policy *p = &k->policy;
    reply_map(reply, p->mode == MODE_PRIMARY ? 13 : 10);
    reply_bulk_str(reply, "name");
    reply_bulk(reply, meta_text_bytes(&k->name));
    field_text(reply, "mode", policy_mode_name(p->mode));
    field_text(reply, "state", state_name(k->state));
    field_int(reply, "replicas", p->replicas);
    field_int(reply, "learners", p->learners);
    field_int(reply, "shards", p->shards);
    field_int(reply, "unsettled", unsettled(m, k));
    if (p->mode == MODE_PRIMARY) {
        char ack[8];
        snprintf(ack, sizeof ack, "%u", p->ack);
        field_text(reply, "ack",
                   p->ack == ACK_ASYNC ? "async"
                   : p->ack == ACK_ALL ? "all"
                                       : ack);
        field_text(reply, "durability", policy_durability_name(p->durability));
        field_text(reply, "failover", policy_failover_name(p->failover));
    }
    field_text(reply, "read", policy_read_name(p->read));
    field_int(reply, "maxlag", p->maxlag_ms);
    field_int(reply, "maxmemory", p->maxmemory_bytes);
}

static const struct subcommand {
    const char *name;
    uint32_t args_min, args_max;
    void (*run)(const struct meta *m, const struct bytes *args, uint32_t n_args,
                struct meta_change *out, struct reply *reply);
} subcommands[] = {
    {"create", 3, UINT32_MAX, on_create},
    {"alter", 3, UINT32_MAX, on_alter},
    {"drop", 3, 3, on_drop},
    {"list", 2, 2, on_list},
    {"info", 3, 3, on_info},
};

void meta_command(const struct meta *m, const struct bytes *args, uint32_t n_args,
                  struct meta_change *out, struct reply *reply)
{
    if (n_args < 2) {
        reply_error(reply, "ERR wrong number of arguments for 'keyspace' command");
        return;
    }
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        const struct subcommand *sub = &subcommands[i];
        if (!bytes_equal_nocase(args[1], sub->name)) continue;
        if (n_args < sub->args_min || n_args > sub->args_max)
            reply_errorf(reply, "ERR wrong number of arguments for 'keyspace|%s' command",
                         sub->name);
        else
            sub->run(m, args, n_args, out, reply);
        return;
    }
    reply_errorf(reply,
                 "ERR unknown subcommand '%.*s' of KEYSPACE; it has CREATE, ALTER, "
                 "DROP, LIST and INFO",
                 shown(args[1]), (const char *)args[1].at);
}
