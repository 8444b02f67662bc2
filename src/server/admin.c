/* SPDX-License-Identifier: Apache-2.0 */
/* admin - commands about the server and the cluster: which file answers what, and the
 * small ones: TIME, ROLE, FAILOVER. */
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

/* ---- FAILOVER keyspace [TO server] [FORCE] ---- */

static const struct meta_server *server_of(const struct server *s, struct bytes text)
{
    const struct meta_server *named = meta_server_named(&s->meta, text);
    int64_t id;

    if (named != NULL) return named;
    if (!parse_i64(text, &id) || id < 1 || id > UINT32_MAX) return NULL;
    return meta_server(&s->meta, (struct server_id){(uint32_t)id});
}

/* NULL, or what is wrong. */
static const char *failover_read(const struct server *s, const struct bytes *args,
                                 uint32_t n_args, const struct meta_server **to)
{
    *to = NULL;
    for (uint32_t i = 2; i < n_args; i++) {
        if (bytes_equal_nocase(args[i], "force"))
            return "ERR FAILOVER FORCE is not supported yet; without FORCE the lead is "
                   "handed "
                   "over when the other server has everything";
        if (!bytes_equal_nocase(args[i], "to") || i + 1 == n_args)
            return outcome_row(OUTCOME_SYNTAX)->text;
        *to = server_of(s, args[++i]);
        if (*to == NULL)
            return "ERR no server has that name or id; CLUSTER NODES shows them";
    }
    return NULL;
}

static bool is_voter(const struct meta_shard *shard, struct server_id id)
{
    for (uint32_t i = 0; i < shard->n_voters; i++)
        if (shard->voters[i].v == id.v) return true;
    return false;
}

static void failover(struct server *s, const struct bytes *args, uint32_t n_args,
                     struct reply *r)
{
    const struct meta_keyspace *keyspace = meta_keyspace_named(&s->meta, args[1]);
    const struct meta_server *to;
    const char *wrong = failover_read(s, args, n_args, &to);
    uint32_t handed = 0, elsewhere = 0;

    if (keyspace == NULL) {
        reply_error(r, outcome_row(OUTCOME_NOKEYSPACE)->text);
        return;
    }
    if (keyspace->policy.mode != MODE_RAFT) wrong = outcome_row(OUTCOME_MODE)->text;
    if (wrong != NULL) {
        reply_error(r, wrong);
        return;
    }
    for (uint32_t i = 0;; i++) {
        const struct meta_shard *shard = meta_shard_of(&s->meta, keyspace->id, i);
        if (shard == NULL) break;
        struct slot *slot = server_slot_find(s, shard->group);
        const bool leads = slot != NULL && slot->shard != NULL &&
                           shard_leads(slot->shard);
        const bool fits = to == NULL ? shard->n_voters > 1
                                     : is_voter(shard, to->id) &&
                                           to->id.v != s->identity.server.v;
        if (!leads || !fits) {
            elsewhere++;
            continue;
        }
        shard_transfer(slot->shard, to == NULL ? (struct server_id){0} : to->id, s->now);
        slot_touch(s, slot);
        handed++;
    }
    if (handed > 0)
        reply_ok(r);
    else
        reply_errorf(
            r,
            "ERR none of the %u shards is led by this server and can be led by the "
            "other; SHARD LIST shows who leads: ask that server",
            elsewhere);
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
    case COMMAND_FAILOVER: failover(s, args, n_args, r); return;
    }
    if (command->id >= COMMAND_CLUSTER_INFO && command->id <= COMMAND_CLUSTER_KEYSLOT)
        admin_cluster(s, command, args, r);
    else
        reply_errorf(r, "ERR '%s' is not supported by this server", command->name);
}
