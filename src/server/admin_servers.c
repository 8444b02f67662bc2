/* SPDX-License-Identifier: Apache-2.0 */
/* SERVER LIST: the members, what they hold by the shared state, and how far one is that goes. */
#include "server/server_state.h"

struct holds {
    uint32_t replicas, leads;
};

static struct holds holds_of(const struct server *s, struct server_id id)
{
    struct holds h = {0};

    for (uint32_t i = 0; i < s->meta.n_shards; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        if (shard->group.v == META_GROUP) continue;
        h.replicas += meta_server_has(shard, id);
        h.leads += shard->lead.v == id.v;
    }
    return h;
}

static const char *state_of(const struct meta_server *server, uint32_t held)
{
    switch (server->state) {
    case SERVER_ACTIVE: return "active";
    case SERVER_LEAVING: return "leaving";
    case SERVER_DRAINING: return held > 0 ? "draining" : "drained";
    case SERVER_STATE_END: break;
    }
    return "unknown";
}

static void pair_text(struct reply *r, const char *name, const struct meta_text *text)
{
    reply_bulk_str(r, name);
    reply_bulk(r, (struct bytes){(const uint8_t *)text->at, text->len});
}

static void pair_int(struct reply *r, const char *name, int64_t v)
{
    reply_bulk_str(r, name);
    reply_int(r, v);
}

void admin_servers(struct server *s, struct reply *r)
{
    reply_array(r, s->meta.n_servers);
    for (uint32_t i = 0; i < s->meta.n_servers; i++) {
        const struct meta_server *server = s->meta.servers[i];
        const uint32_t held = meta_held(&s->meta, server->id);
        const struct holds h = holds_of(s, server->id);
        const bool up = server->id.v == s->identity.server.v ||
                        peer_reachable(s, server->id);

        reply_map(r, 11);
        pair_int(r, "id", server->id.v);
        pair_text(r, "name", &server->name);
        reply_bulk_str(r, "state");
        reply_bulk_str(r, state_of(server, held));
        pair_int(r, "reachable", up);
        pair_text(r, "zone", &server->zone);
        pair_text(r, "client", &server->client);
        pair_text(r, "peer", &server->peer);
        pair_int(r, "replicas", h.replicas);
        pair_int(r, "leads", h.leads);
        /* Shards that hold up its leaving; of one that stays, no news. */
        pair_int(r, "to-go", server->state == SERVER_ACTIVE ? 0 : held);
        /* The newest feature level that it speaks; 0: it is not reachable from here. */
        pair_int(r, "level", peer_feature(s, server->id));
    }
}
