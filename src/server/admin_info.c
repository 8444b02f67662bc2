/* SPDX-License-Identifier: Apache-2.0 */
/* INFO: sections and fields named as Redis names them, so that its tools read ours, and
 * sennit's own where Redis has none. */
#include "server/server_state.h"

#include <stdio.h>

static void human(uint64_t bytes, char out[24])
{
    const double v = (double)bytes;

    if (bytes < 1024)
        snprintf(out, 24, "%lluB", (unsigned long long)bytes);
    else if (bytes < 1 << 20)
        snprintf(out, 24, "%.2fK", v / 1024);
    else if (bytes < 1 << 30)
        snprintf(out, 24, "%.2fM", v / (1 << 20));
    else
        snprintf(out, 24, "%.2fG", v / (1 << 30));
}

static bool world_text(const struct server *s, const char *name, char out[4096])
{
    return s->config.config_get != NULL &&
           s->config.config_get(s->config.world, name, out, 4096);
}

static void section_server(struct server *s, struct buf *out)
{
    const uint64_t up_s = (s->now.ns - s->started.ns) / SEC_NS;
    char text[4096];

    buf_putf(out, "redis_version:%s\r\nsennit_version:%s\r\nredis_mode:standalone\r\n",
             REDIS_VERSION, s->config.version);
    if (world_text(s, "os", text)) buf_putf(out, "os:%s\r\n", text);
    buf_putf(out, "arch_bits:64\r\nprocess_id:%u\r\nrun_id:%016llx%016llx%08x\r\n",
             s->config.process_id, (unsigned long long)s->identity.cluster.v,
             (unsigned long long)s->incarnation.v, s->identity.server.v);
    buf_putf(out,
             "tcp_port:%u\r\nserver_time_usec:%lld\r\nuptime_in_seconds:%llu\r\n"
             "uptime_in_days:%llu\r\n",
             s->config.client_port, (long long)s->wall.ms * 1000,
             (unsigned long long)up_s, (unsigned long long)(up_s / 86400));
    buf_putf(out, "config_file:%.*s\r\nserver_name:%s\r\nserver_id:%u\r\n",
             (int)s->config.config_file.len,
             s->config.config_file.len > 0 ? (const char *)s->config.config_file.at : "",
             s->identity.name, s->identity.server.v);
}

static void section_clients(struct server *s, struct buf *out)
{
    uint32_t blocked = 0;
    uint64_t in_most = 0, out_most = 0;

    for (const struct client *c = s->first_client; c != NULL; c = c->next) {
        blocked += c->held || c->draining;
        if (c->in.len - c->in_at > in_most) in_most = c->in.len - c->in_at;
        if (c->owed_bytes > out_most) out_most = c->owed_bytes;
    }
    buf_putf(out,
             "connected_clients:%u\r\ncluster_connections:%llu\r\nmaxclients:%u\r\n"
             "client_recent_max_input_buffer:%llu\r\n"
             "client_recent_max_output_buffer:%llu\r\nblocked_clients:%u\r\n",
             s->n_clients, (unsigned long long)s->conns.count,
             s->config.limits.clients_max, (unsigned long long)in_most,
             (unsigned long long)out_most, blocked);
}

static void section_memory(struct server *s, struct buf *out)
{
    char used[24], most[24], text[4096];

    human(s->mem->used, used);
    human(s->mem->limit, most);
    buf_putf(out, "used_memory:%zu\r\nused_memory_human:%s\r\n", s->mem->used, used);
    if (world_text(s, "used_memory_rss", text))
        buf_putf(out, "used_memory_rss:%s\r\n", text);
    buf_putf(out,
             "maxmemory:%zu\r\nmaxmemory_human:%s\r\nmaxmemory_policy:noeviction\r\n"
             "mem_allocator:libc\r\n",
             s->mem->limit, most);
}

static void section_persistence(struct server *s, struct buf *out)
{
    uint64_t table = 0;

    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->all_slots[i]->shard != NULL)
            table += store_table_bytes(shard_store(s->all_slots[i]->shard));
    buf_putf(out,
             "loading:0\r\naof_enabled:1\r\naof_last_write_status:%s\r\n"
             "rdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:%d\r\n",
             s->wal_full ? "err" : "ok", s->n_jobs > 0);
    buf_putf(out,
             "log_durable_position:%llu\r\nlog_checkpoint_position:%llu\r\n"
             "table_bytes:%llu\r\n",
             (unsigned long long)s->durable.v, (unsigned long long)s->checkpoint_lsn.v,
             (unsigned long long)table);
}

static void section_stats(struct server *s, struct buf *out)
{
    const struct server_stats *t = &s->stats;

    buf_putf(out,
             "total_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
             "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\n"
             "rejected_connections:%llu\r\ntotal_error_replies:%llu\r\n",
             (unsigned long long)t->connections, (unsigned long long)t->commands,
             (unsigned long long)t->bytes_in, (unsigned long long)t->bytes_out,
             (unsigned long long)t->rejected, (unsigned long long)t->error_replies);
    buf_putf(out,
             "expired_keys:%llu\r\nevicted_keys:0\r\nkeyspace_hits:%llu\r\n"
             "keyspace_misses:%llu\r\n",
             (unsigned long long)s->counts.expired, (unsigned long long)s->counts.hits,
             (unsigned long long)s->counts.misses);
    buf_putf(out,
             "forwarded_requests:%llu\r\nuncertain_replies:%llu\r\n"
             "refused_peers:%llu\r\nlog_syncs:%llu\r\nloop_turns:%llu\r\n",
             (unsigned long long)t->forwarded, (unsigned long long)t->uncertain,
             (unsigned long long)t->peer_refused, (unsigned long long)t->syncs,
             (unsigned long long)t->turns);
}

static void section_replication(struct server *s, struct buf *out)
{
    uint32_t leads = 0, follows = 0, silent = 0, others = 0, reachable = 0;
    uint64_t position = 0, losses = 0;

    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct shard *shard = s->all_slots[i]->shard;
        struct raft_info info;
        if (shard == NULL) continue;
        raft_info(shard_raft(shard), &info);
        losses += info.power_losses;
        if (shard_leads(shard))
            leads++;
        else
            follows++;
        silent += info.quiet;
        position += shard_applied(shard).v;
    }
    for (uint32_t i = 0; i < s->meta.n_servers; i++) {
        const struct server_id id = s->meta.servers[i]->id;
        if (id.v == s->identity.server.v) continue;
        others++;
        reachable += peer_reachable(s, id);
    }
    char files[4096] = "0";
    (void)world_text(s, "rollback_files", files);
    buf_putf(out,
             "role:master\r\nconnected_slaves:%u\r\nmaster_repl_offset:%llu\r\n"
             "servers_others:%u\r\nservers_reachable:%u\r\nshards_led:%u\r\n"
             "shards_followed:%u\r\nshards_silent:%u\r\n"
             "silence_doubted:%llu\r\nsilence_broken:%llu\r\n",
             reachable, (unsigned long long)position, others, reachable, leads, follows,
             silent, (unsigned long long)s->stats.vouches_differ,
             (unsigned long long)s->stats.vouches_lost);
    buf_putf(out, "rollback_entries:%llu\r\nrollback_files:%s\r\npower_losses:%llu\r\n",
             (unsigned long long)s->stats.discarded_entries, files,
             (unsigned long long)losses);
    buf_putf(
        out,
        "snapshots_sent:%llu\r\nsnapshots_restarted:%llu\r\nsnapshots_installed:%llu\r\n",
        (unsigned long long)s->counts.snapshots_sent,
        (unsigned long long)s->counts.snapshots_restarted,
        (unsigned long long)s->counts.snapshots_installed);
}

static void section_cpu(struct server *s, struct buf *out)
{
    static const char *const names[] = {"used_cpu_sys", "used_cpu_user"};
    char text[4096];

    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (world_text(s, names[i], text)) buf_putf(out, "%s:%s\r\n", names[i], text);
}

static void section_cluster(struct server *s, struct buf *out)
{
    /* Clients of Redis Cluster ask for it here; to all others this is one server, and HELLO and
     * redis_mode say so. */
    buf_putf(out,
             "cluster_enabled:1\r\ncluster_id:%016llx\r\ncluster_servers:%u\r\n"
             "cluster_keyspaces:%u\r\ncluster_shards:%u\r\n",
             (unsigned long long)s->identity.cluster.v, s->meta.n_servers,
             s->meta.n_keyspaces, s->meta.n_shards);
}

/* Of the shards that have a replica here. */
static void section_keyspace(struct server *s, struct buf *out)
{
    uint64_t keys = 0;

    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard == NULL || slot->group.v == META_GROUP) continue;
        keys += store_count(shard_store(slot->shard));
    }
    if (keys > 0)
        buf_putf(out, "db0:keys=%llu,expires=0,avg_ttl=0\r\n", (unsigned long long)keys);
}

static const struct section {
    const char *name, *title;
    void (*write)(struct server *s, struct buf *out);
} sections[] = {
    {"server", "Server", section_server},
    {"clients", "Clients", section_clients},
    {"memory", "Memory", section_memory},
    {"persistence", "Persistence", section_persistence},
    {"stats", "Stats", section_stats},
    {"replication", "Replication", section_replication},
    {"cpu", "CPU", section_cpu},
    {"cluster", "Cluster", section_cluster},
    {"keyspace", "Keyspace", section_keyspace},
};

static bool is_asked(const char *name, const struct bytes *asked, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (bytes_equal_nocase(asked[i], name) || bytes_equal_nocase(asked[i], "all") ||
            bytes_equal_nocase(asked[i], "default") ||
            bytes_equal_nocase(asked[i], "everything"))
            return true;
    return n == 0;
}

void admin_info(struct server *s, const struct bytes *args, uint32_t n_args,
                struct reply *r)
{
    struct buf text = buf_new(s->mem);

    for (uint32_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (!is_asked(sections[i].name, args + 1, n_args - 1)) continue;
        buf_putf(&text, "%s# %s\r\n", text.len > 0 ? "\r\n" : "", sections[i].title);
        sections[i].write(s, &text);
    }
    reply_verbatim(r, "txt", buf_bytes(&text));
    buf_free(&text);
}
