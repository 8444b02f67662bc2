/* SPDX-License-Identifier: Apache-2.0 */
/* admin - commands about the server and the cluster: which file answers what, and the
 * small ones: TIME, ROLE. */
#include "server/server_state.h"

#include <stdio.h>

#include "base/text.h"

struct server_id admin_leader(const struct server *s, struct group_id group)
{
    const struct slot *slot = server_slot_find(s, group);

    if (slot == NULL) return (struct server_id){0};
    return slot->shard != NULL ? shard_leader(slot->shard) : slot->hint;
}

void admin_address(struct bytes text, struct address *out)
{
    size_t colon = text.len;

    *out = (struct address){.port = 0};
    while (colon > 0 && text.at[colon - 1] != ':')
        colon--;
    if (colon == 0) return;
    const struct bytes port = {text.at + colon, text.len - colon};
    struct bytes host = {text.at, colon - 1};
    if (host.len >= 2 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        host = (struct bytes){host.at + 1, host.len - 2};
    if (!parse_i64(port, &out->port)) out->port = 0;
    snprintf(out->host, sizeof out->host, "%.*s", (int)host.len, (const char *)host.at);
}

void admin_node_id(const struct server *s, struct server_id id,
                   char out[ADMIN_NODE_ID_MAX])
{
    uint8_t seed[12];

    store_u64le(seed, s->identity.cluster.v);
    store_u32le(seed + 8, id.v);
    snprintf(out, ADMIN_NODE_ID_MAX, "%08x%016llx%016llx", id.v,
             (unsigned long long)s->identity.cluster.v,
             (unsigned long long)hash64((struct bytes){seed, sizeof seed}));
}

bool admin_is_up(const struct server *s, struct server_id id)
{
    return id.v == s->identity.server.v || peer_reachable(s, id);
}

void admin_address_of(const struct server *s, struct server_id id, struct address *out)
{
    const struct meta_server *server = meta_server(&s->meta, id);
    const struct meta_text *text = server == NULL ? NULL : &server->client;

    admin_address((struct bytes){text == NULL ? NULL : (const uint8_t *)text->at,
                                 text == NULL ? 0 : text->len},
                  out);
}

struct server_id admin_master(const struct server *s, const struct meta_shard *shard)
{
    const struct server_id leader = admin_leader(s, shard->group);
    return leader.v != 0 || shard->n_voters == 0 ? leader : shard->voters[0];
}

uint32_t admin_members(const struct meta_shard *shard,
                       struct server_id out[2 * META_REPLICAS_MAX])
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < shard->n_voters; i++)
        out[n++] = shard->voters[i];
    for (uint32_t i = 0; i < shard->n_learners; i++)
        out[n++] = shard->learners[i];
    return n;
}

/* ---- TIME, ROLE ---- */

static void reply_time(const struct server *s, struct reply *r)
{
    reply_array(r, 2);
    reply_bulk_int(r, s->wall.ms / 1000);
    reply_bulk_int(r, s->wall.ms % 1000 * 1000);
}

/* Every server takes every write, so each is a master; its replicas are the others. */
static void reply_role(const struct server *s, struct reply *r)
{
    uint64_t position = 0;
    uint32_t others = 0;

    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->all_slots[i]->shard != NULL)
            position += shard_applied(s->all_slots[i]->shard).v;
    for (uint32_t i = 0; i < s->meta.n_servers; i++)
        others += s->meta.servers[i]->id.v != s->identity.server.v;
    reply_array(r, 3);
    reply_bulk_str(r, "master");
    reply_int(r, (int64_t)position);
    reply_array(r, others);
    for (uint32_t i = 0; i < s->meta.n_servers; i++) {
        const struct meta_server *server = s->meta.servers[i];
        struct address at;
        if (server->id.v == s->identity.server.v) continue;
        admin_address(
            (struct bytes){(const uint8_t *)server->client.at, server->client.len}, &at);
        reply_array(r, 3);
        reply_bulk_str(r, at.host);
        reply_bulk_int(r, at.port);
        reply_bulk_int(r, (int64_t)position);
    }
}

/* ---- who answers what ---- */

void admin_command(struct server *s, struct client *c, const struct command *command,
                   const struct bytes *args, uint32_t n_args, struct reply *r)
{
    (void)c;
    if (command->id >= COMMAND_COMMAND && command->id <= COMMAND_COMMAND_GETKEYS) {
        command_reply(r, command, args, n_args);
        return;
    }
    switch ((int)command->id) {
    case COMMAND_CONFIG_GET:
    case COMMAND_CONFIG_SET:
    case COMMAND_CONFIG_RESETSTAT: admin_config(s, command, args, n_args, r); return;
    case COMMAND_INFO: admin_info(s, args, n_args, r); return;
    case COMMAND_TIME: reply_time(s, r); return;
    case COMMAND_ROLE: reply_role(s, r); return;
    case COMMAND_SERVER_LIST: admin_servers(s, r); return;
    }
    if (command->id >= COMMAND_CLUSTER_INFO && command->id <= COMMAND_CLUSTER_KEYSLOT)
        admin_cluster(s, command, args, r);
    else if (command->id > COMMAND_SENTINEL && command->id <= COMMAND_SENTINEL_MYID)
        admin_sentinel(s, command, args, r);
    else
        reply_errorf(r, "ERR '%s' is not supported by this server", command->name);
}
