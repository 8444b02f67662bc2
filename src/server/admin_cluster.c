/* SPDX-License-Identifier: Apache-2.0 */
/* CLUSTER in Redis Cluster's formats, as a hint to clients that route by themselves.
 *
 * Slots are those of the keyspace `default`; a server is the master of those it
 * leads. */
#include "server/server_state.h"

/* The i-th shard of `default`, NULL past the last. */
static const struct meta_shard *default_shard(const struct server *s, uint32_t i)
{
    const struct meta_keyspace *k = meta_keyspace_named(&s->meta, BYTES_OF("default"));
    return k == NULL ? NULL : meta_shard_of(&s->meta, k->id, i);
}

/* ---- NODES, INFO ---- */

static void node_slots(const struct server *s, struct server_id id, struct buf *out)
{
    const struct meta_shard *shard;

    for (uint32_t i = 0; (shard = default_shard(s, i)) != NULL; i++)
        if (admin_master(s, shard).v == id.v)
            buf_putf(out, " %u-%u", shard->slot_first, shard->slot_last);
}

static void nodes(struct server *s, struct reply *r)
{
    struct buf text = buf_new(s->mem);

    for (uint32_t i = 0; i < s->meta.n_servers; i++) {
        const struct meta_server *server = s->meta.servers[i];
        struct address client, peer;
        char id[ADMIN_NODE_ID_MAX];
        const bool me = server->id.v == s->identity.server.v;
        const bool up = admin_is_up(s, server->id);
        admin_address_of(s, server->id, &client);
        admin_address((struct bytes){(const uint8_t *)server->peer.at, server->peer.len},
                      &peer);
        admin_node_id(s, server->id, id);
        buf_putf(&text, "%s %s:%lld@%lld,%s %s%s - 0 0 %u %s", id, client.host,
                 (long long)client.port, (long long)peer.port, server->name.at,
                 me ? "myself,master" : "master", up ? "" : ",fail?", server->id.v,
                 up ? "connected" : "disconnected");
        node_slots(s, server->id, &text);
        buf_put_u8(&text, '\n');
    }
    reply_verbatim(r, "txt", buf_bytes(&text));
    buf_free(&text);
}

static void info(struct server *s, struct reply *r)
{
    struct buf text = buf_new(s->mem);
    const struct meta_shard *shard;
    uint32_t slots = 0, led = 0, masters = 0;

    for (uint32_t i = 0; (shard = default_shard(s, i)) != NULL; i++) {
        const uint32_t n = (uint32_t)shard->slot_last - shard->slot_first + 1;
        const struct server_id leader = admin_leader(s, shard->group);
        slots += n;
        if (leader.v != 0) led += n;
        bool first = leader.v != 0;
        for (uint32_t j = 0; first && j < i; j++)
            first = admin_leader(s, default_shard(s, j)->group).v != leader.v;
        masters += first;
    }
    buf_putf(&text,
             "cluster_enabled:1\r\ncluster_state:%s\r\ncluster_slots_assigned:%u\r\n"
             "cluster_slots_ok:%u\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:%u\r\n"
             "cluster_known_nodes:%u\r\ncluster_size:%u\r\ncluster_current_epoch:%llu\r\n"
             "cluster_my_epoch:%u\r\ncluster_feature_level:%u\r\n",
             led == slots && slots > 0 ? "ok" : "fail", slots, led, slots - led,
             s->meta.n_servers, masters, (unsigned long long)s->meta.version,
             s->identity.server.v, s->meta.cluster.feature);
    reply_verbatim(r, "txt", buf_bytes(&text));
    buf_free(&text);
}

/* ---- SLOTS ---- */

static uint32_t shards_of_default(const struct server *s)
{
    uint32_t n = 0;

    while (default_shard(s, n) != NULL)
        n++;
    return n;
}

static void slot_node(const struct server *s, struct server_id id, struct reply *r)
{
    struct address at;
    char text[ADMIN_NODE_ID_MAX];

    admin_address_of(s, id, &at);
    admin_node_id(s, id, text);
    reply_array(r, 4);
    reply_bulk_str(r, at.host);
    reply_int(r, at.port);
    reply_bulk_str(r, text);
    reply_array(r, 0);
}

static void slots(const struct server *s, struct reply *r)
{
    const uint32_t n = shards_of_default(s);

    reply_array(r, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct meta_shard *shard = default_shard(s, i);
        const struct server_id master = admin_master(s, shard);
        struct server_id all[2 * META_REPLICAS_MAX];
        const uint32_t n_all = admin_members(shard, all);
        uint32_t others = 0;
        for (uint32_t j = 0; j < n_all; j++)
            others += all[j].v != master.v;
        reply_array(r, 3u + others);
        reply_int(r, shard->slot_first);
        reply_int(r, shard->slot_last);
        slot_node(s, master, r);
        for (uint32_t j = 0; j < n_all; j++)
            if (all[j].v != master.v) slot_node(s, all[j], r);
    }
}

/* ---- SHARDS ---- */

static void shard_node(const struct server *s, const struct meta_shard *shard,
                       struct server_id id, struct reply *r)
{
    const struct slot *slot = server_slot_find(s, shard->group);
    struct address at;
    char text[ADMIN_NODE_ID_MAX];

    admin_address_of(s, id, &at);
    admin_node_id(s, id, text);
    reply_map(r, 7);
    reply_bulk_str(r, "id");
    reply_bulk_str(r, text);
    reply_bulk_str(r, "port");
    reply_int(r, at.port);
    reply_bulk_str(r, "ip");
    reply_bulk_str(r, at.host);
    reply_bulk_str(r, "endpoint");
    reply_bulk_str(r, at.host);
    reply_bulk_str(r, "role");
    reply_bulk_str(r, id.v == admin_master(s, shard).v ? "master" : "replica");
    reply_bulk_str(r, "replication-offset");
    reply_int(r, slot == NULL || slot->shard == NULL
                     ? 0
                     : (int64_t)shard_applied(slot->shard).v);
    reply_bulk_str(r, "health");
    reply_bulk_str(r, admin_is_up(s, id) ? "online" : "fail");
}

static void shards(const struct server *s, struct reply *r)
{
    const uint32_t n = shards_of_default(s);

    reply_array(r, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct meta_shard *shard = default_shard(s, i);
        struct server_id all[2 * META_REPLICAS_MAX];
        const uint32_t n_all = admin_members(shard, all);
        reply_map(r, 2);
        reply_bulk_str(r, "slots");
        reply_array(r, 2);
        reply_int(r, shard->slot_first);
        reply_int(r, shard->slot_last);
        reply_bulk_str(r, "nodes");
        reply_array(r, n_all);
        for (uint32_t j = 0; j < n_all; j++)
            shard_node(s, shard, all[j], r);
    }
}

void admin_cluster(struct server *s, const struct command *command,
                   const struct bytes *args, struct reply *r)
{
    char text[ADMIN_NODE_ID_MAX];

    switch ((int)command->id) {
    case COMMAND_CLUSTER_INFO: info(s, r); return;
    case COMMAND_CLUSTER_NODES: nodes(s, r); return;
    case COMMAND_CLUSTER_SLOTS: slots(s, r); return;
    case COMMAND_CLUSTER_SHARDS: shards(s, r); return;
    case COMMAND_CLUSTER_KEYSLOT: reply_int(r, key_slot(args[2])); return;
    }
    check(command->id == COMMAND_CLUSTER_MYID);
    admin_node_id(s, s->identity.server, text);
    reply_bulk_str(r, text);
}
