/* SPDX-License-Identifier: Apache-2.0 */
/* SENTINEL in the formats of Redis Sentinel, for clients that ask it where to write: a keyspace is
 * what they call a master, and every server of the cluster is a sentinel at its client port.
 *
 * It tells of the keyspace's first shard.  With more than one shard, or with an answer that is out
 * of date, a client still writes: any server takes every request.  So a leader that can't be
 * reached from here is not named while another replica can be. */
#include "server/server_state.h"

#include <stdio.h>

enum { FIELDS = 12, MASTER_FIELDS = 4 };

static const struct meta_shard *first_shard(const struct server *s,
                                            const struct meta_keyspace *k)
{
    return k == NULL ? NULL : meta_shard_of(&s->meta, k->id, 0);
}

static const struct meta_keyspace *keyspace_of(const struct server *s, struct bytes name)
{
    const struct meta_keyspace *k = meta_keyspace_named(&s->meta, name);
    return first_shard(s, k) == NULL ? NULL : k;
}

static struct server_id named_master(const struct server *s,
                                     const struct meta_shard *shard)
{
    const struct server_id master = admin_master(s, shard);
    struct server_id all[2 * META_REPLICAS_MAX];
    const uint32_t n = admin_members(shard, all);

    for (uint32_t i = 0; i < n && !admin_is_up(s, master); i++)
        if (admin_is_up(s, all[i])) return all[i];
    return master;
}

static void field(struct reply *r, const char *name, const char *value)
{
    reply_bulk_str(r, name);
    reply_bulk_str(r, value);
}

static void field_int(struct reply *r, const char *name, int64_t value)
{
    reply_bulk_str(r, name);
    reply_bulk_int(r, value);
}

/* What there is to say of any server; `pairs` more are for the caller to add. */
static void instance(const struct server *s, struct server_id id, struct bytes name,
                     const char *role, uint32_t pairs, struct reply *r)
{
    const bool up = admin_is_up(s, id);
    const struct meta_server *server = meta_server(&s->meta, id);
    struct address at;
    char run_id[ADMIN_NODE_ID_MAX], flags[32];

    admin_address_of(s, id, &at);
    admin_node_id(s, id, run_id);
    snprintf(flags, sizeof flags, "%s%s", role, up ? "" : ",s_down");
    reply_map(r, FIELDS + pairs);
    reply_bulk_str(r, "name");
    reply_bulk(r,
               name.len > 0 || server == NULL
                   ? name
                   : (struct bytes){(const uint8_t *)server->name.at, server->name.len});
    field(r, "ip", at.host);
    field_int(r, "port", at.port);
    field(r, "runid", run_id);
    field(r, "flags", flags);
    field(r, "link-pending-commands", "0");
    field(r, "link-refcount", "1");
    field(r, "last-ping-sent", "0");
    field(r, "last-ok-ping-reply", "0");
    field(r, "last-ping-reply", "0");
    field_int(r, "down-after-milliseconds",
              (int64_t)(s->config.limits.election_ns / MS_NS));
    field(r, "role-reported", role);
}

static uint32_t replicas_of(const struct meta_shard *shard, struct server_id master,
                            struct server_id out[2 * META_REPLICAS_MAX])
{
    const uint32_t n = admin_members(shard, out);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++)
        if (out[i].v != master.v) out[kept++] = out[i];
    return kept;
}

static void master(const struct server *s, const struct meta_keyspace *k, struct reply *r)
{
    const struct meta_shard *shard = first_shard(s, k);
    const struct server_id leader = named_master(s, shard);
    struct server_id others[2 * META_REPLICAS_MAX];

    instance(s, leader, (struct bytes){(const uint8_t *)k->name.at, k->name.len},
             "master", MASTER_FIELDS, r);
    field_int(r, "config-epoch", shard->epoch);
    field_int(r, "num-slaves", replicas_of(shard, leader, others));
    field_int(r, "num-other-sentinels", (int64_t)s->meta.n_servers - 1);
    field_int(r, "quorum", shard->n_voters / 2 + 1);
}

static void masters(const struct server *s, struct reply *r)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->meta.n_keyspaces; i++)
        n += first_shard(s, s->meta.keyspaces[i]) != NULL;
    reply_array(r, n);
    for (uint32_t i = 0; i < s->meta.n_keyspaces; i++)
        if (first_shard(s, s->meta.keyspaces[i]) != NULL)
            master(s, s->meta.keyspaces[i], r);
}

static void replicas(const struct server *s, const struct meta_keyspace *k,
                     struct reply *r)
{
    const struct meta_shard *shard = first_shard(s, k);
    const struct server_id leader = named_master(s, shard);
    struct server_id all[2 * META_REPLICAS_MAX];
    const uint32_t n = replicas_of(shard, leader, all);
    struct address at;

    admin_address_of(s, leader, &at);
    reply_array(r, n);
    for (uint32_t i = 0; i < n; i++) {
        instance(s, all[i], (struct bytes){NULL, 0}, "slave", 4, r);
        field(r, "master-link-status", admin_is_up(s, all[i]) ? "ok" : "err");
        field(r, "master-host", at.host);
        field_int(r, "master-port", at.port);
        field(r, "slave-priority", "100");
    }
}

static void sentinels(const struct server *s, struct reply *r)
{
    reply_array(r, s->meta.n_servers - 1);
    for (uint32_t i = 0; i < s->meta.n_servers; i++)
        if (s->meta.servers[i]->id.v != s->identity.server.v)
            instance(s, s->meta.servers[i]->id, (struct bytes){NULL, 0}, "sentinel", 0,
                     r);
}

static void master_address(const struct server *s, const struct meta_keyspace *k,
                           struct reply *r)
{
    struct address at;

    admin_address_of(s, named_master(s, first_shard(s, k)), &at);
    reply_array(r, 2);
    reply_bulk_str(r, at.host);
    reply_bulk_int(r, at.port);
}

void admin_sentinel(struct server *s, const struct command *command,
                    const struct bytes *args, struct reply *r)
{
    char id[ADMIN_NODE_ID_MAX];

    switch ((int)command->id) {
    case COMMAND_SENTINEL_MASTERS: masters(s, r); return;
    case COMMAND_SENTINEL_MYID:
        admin_node_id(s, s->identity.server, id);
        reply_bulk_str(r, id);
        return;
    }
    const struct meta_keyspace *k = keyspace_of(s, args[2]);
    if (k == NULL && command->id == COMMAND_SENTINEL_GET_MASTER_ADDR_BY_NAME) {
        reply_null_array(r);
        return;
    }
    if (k == NULL) {
        reply_error(r, "ERR No such master with that name: it is a keyspace's; "
                       "KEYSPACE LIST shows them");
        return;
    }
    switch ((int)command->id) {
    case COMMAND_SENTINEL_GET_MASTER_ADDR_BY_NAME: master_address(s, k, r); return;
    case COMMAND_SENTINEL_MASTER: master(s, k, r); return;
    case COMMAND_SENTINEL_SENTINELS: sentinels(s, r); return;
    }
    replicas(s, k, r);
}
