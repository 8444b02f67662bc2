/* SPDX-License-Identifier: Apache-2.0 */
/* reconcile - the view of the meta shard, the replicas that should be here, and the steps
 * towards what should be.
 *
 * Every server follows the meta shard and makes the replicas that its records place here.
 * The meta leader writes targets (meta_plan); the leader of each shard moves its own
 * membership towards its target (meta_next_config).  Each acts on what is committed only.
 */
#include "server/server_state.h"

enum {
    PLAN_MS = 200,
    ALIVE_MS = 3000,
    CAUGHT_UP_ENTRIES = 1000,
    SETTLED_MAX = 64, /* shards of one message */
    /* Leads go back to a server once it has been there for a while, and never many at once: so
     * a restart is no storm of hand-overs. */
    LEAD_STEADY_MS = 5000,
    LEAD_EVERY_MS = 1000,
};

/* ---- the view ---- */

void reconcile_effect(void *ctx, const struct effect *e)
{
    struct server *s = ctx;
    if (!meta_apply(&s->meta, e)) start_refuse_newer(s);
    keyspaces_note(s, e);
}

void reconcile_reset(void *ctx)
{
    struct server *s = ctx;
    s->meta_rebuild = true;
}

/* From the committed items of the meta shard's store. */
void reconcile_rebuild(struct server *s)
{
    const struct slot *slot = server_slot_find(s, (struct group_id){META_GROUP});
    s->meta_rebuild = false;
    if (slot == NULL || slot->shard == NULL) return;
    const uint64_t version = s->meta.version;
    meta_free(&s->meta);
    meta_init(&s->meta, s->mem, s->config.feature);
    struct store *store = shard_store(slot->shard);
    struct key_place from = {0}, at;
    uint32_t skip = 0;
    struct bytes key;
    struct item item;
    while (store_walk(store, from, skip, &at, &key, &item)) {
        const struct effect e = {
            .kind = EFFECT_PUT, .type = item.type, .key = key, .value = item.value};
        reconcile_effect(s, &e);
        skip = at.v == from.v ? skip + 1 : 1;
        from = at;
    }
    s->meta.version += version + 1;
    s->meta.version_others = s->meta.version;
    s->meta_seen = 0; /* all of it may be new */
}

/* ---- replicas here ---- */

struct shard_config reconcile_shard_config(struct server *s, struct group_id group)
{
    const struct server_limits *l = &s->config.limits;
    const bool meta = group.v == META_GROUP;
    s->transfer_rate.bytes_per_s = l->transfer_bytes_per_s;
    struct shard_config c = {
        .rate = &s->transfer_rate,
        .counts = &s->counts,
        .group = group,
        .self = s->identity.server,
        .kv = s->config.kv,
        .mem = s->mem,
        .table_bytes_max = l->table_bytes_max,
        .log_keep_bytes = l->wal_keep_bytes,
        .snapshot_piece_bytes = 128 * 1024,
        .snapshot_pieces_max = 8,
        .once_max = l->once_max,
        .once_keep_ns = l->once_keep_ns,
        .bug_once_unlogged = s->config.mutant.server == 4,
        .bug_position_index = s->config.mutant.server == 3,
        .bug_expires_alone = s->config.mutant.server == 12,
        .on_effect = meta ? reconcile_effect : NULL,
        .on_reset = meta ? reconcile_reset : NULL,
        .ctx = s,
        .bug_never_closed = s->config.mutant.server == 1,
        .raft =
            {
                .self = s->identity.server,
                .election_ns = l->election_ns,
                .heartbeat_ns = l->heartbeat_ns,
                .quiet_after_ns = l->quiet_after_ns,
                .spread = group.v,
                .drift_ns = l->drift_ns,
                .append_entries_max = l->append_entries_max,
                .append_bytes_max = l->append_bytes_max,
                .inflight_max = 64,
                .inflight_bytes_max = 8 << 20,
                .uncommitted_bytes_max = l->uncommitted_bytes_max,
                .log_bytes_max = l->log_cache_bytes,
                .seed = prng_next(&s->prng),
                .mem = s->mem,
                .boot = s->config.boot,
                .bug_cut_past_followers = s->config.mutant.server == 13,
            },
    };
    bool *const bugs[] = {
        &c.raft.bug_commit_quorum_one_short,
        &c.raft.bug_vote_before_durable,
        &c.raft.bug_commit_old_term,
        &c.raft.bug_stale_read_round,
        &c.raft.bug_lease_through_transfer,
        &c.raft.bug_snapshot_drops_config,
        &c.raft.bug_vote_shorter_log,
        &c.raft.bug_doubtful_counts,
        &c.raft.bug_ack_before_durable,
        &c.raft.bug_joint_one_majority,
        &c.raft.bug_no_truncate,
        &c.raft.bug_vote_bare_index,
        &c.raft.bug_elect_majority,
        &c.raft.bug_ack_counts_self,
        &c.raft.bug_reboot_ignored,
        &c.raft.bug_quiet_never_wakes,
        &c.raft.bug_epoch_elects,
        &c.raft.bug_old_epoch_accepted,
    };
    const uint32_t bug = s->config.mutant.raft;
    if (bug != 0 && bug <= sizeof bugs / sizeof *bugs) *bugs[bug - 1] = true;
    return c;
}

static bool is_in(const struct server_id *ids, uint32_t n, struct server_id id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i].v == id.v) return true;
    return false;
}

static bool placed_here(const struct server *s, const struct meta_shard *target)
{
    return meta_server_has(target, s->identity.server);
}

const struct policy *reconcile_policy(const struct server *s,
                                      const struct meta_shard *target)
{
    const struct meta_keyspace *k = meta_keyspace(&s->meta, target->keyspace);
    return k == NULL ? NULL : &k->policy;
}

static struct raft_config config_of_voters(const struct server *s,
                                           const struct meta_shard *target)
{
    struct raft_config c = {
        .n_voters = target->n_voters,
        .rules = meta_rules(reconcile_policy(s, target), target->n_voters),
    };
    for (uint32_t i = 0; i < target->n_voters; i++)
        c.voters[i] = target->voters[i];
    return c;
}

/* A first voter: it begins the group, as the others do, in a state that is the same for all. */
static bool begins(const struct server *s, const struct meta_shard *target)
{
    return target != NULL && meta_unborn(target) &&
           is_in(target->voters, target->n_voters, s->identity.server);
}

static void make_replica(struct server *s, struct group_id group,
                         const struct meta_shard *target)
{
    struct slot *slot = server_slot(s, group);
    if (slot->shard != NULL) return;
    const struct shard_config config = reconcile_shard_config(s, group);
    slot->shard = shard_new(&config, s->now);
    if (retire_was_here(s, group)) {
        /* It has forgotten what it held and promised as a member.  A snapshot from long ago
         * may name it the only voter: it counts for nothing until a leader clears it. */
        shard_doubt(slot->shard);
    } else if (begins(s, target)) {
        const struct raft_config members = config_of_voters(s, target);
        shard_found(slot->shard, &members, target->epoch,
                    target->founder.v == s->identity.server.v);
    }
    shard_begin(slot->shard, s->now);
    peers_tell(s, slot->shard);
    slot_touch(s, slot);
}

static void learn_servers(struct server *s, const struct meta *view)
{
    for (uint32_t i = 0; i < view->n_servers; i++) {
        const struct meta_server *other = view->servers[i];
        if (other->id.v != s->identity.server.v) peer_learn(s, other->id, other->peer.at);
    }
}

/* Nothing is in our log that the view does not show: who is not in it is no member. */
static bool view_is_whole(const struct server *s)
{
    const struct slot *slot = server_slot_find(s, (struct group_id){META_GROUP});
    if (slot == NULL || slot->shard == NULL || !s->meta.founded) return false;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    return info.applied.v == info.last.v;
}

/* What a start needs to know lies in the checkpoint, so that it needs no leader for it. */
static void keep_view(struct server *s)
{
    struct slot *slot = server_slot_find(s, (struct group_id){META_GROUP});
    if (slot == NULL || slot->shard == NULL || !s->meta.founded) return;
    shard_want_checkpoint(slot->shard);
    slot_touch(s, slot);
}

/* The level has risen: who does not speak it, because an older version was started meanwhile,
 * would not understand what may be said from now on. */
static void follow_level(struct server *s)
{
    const uint32_t level = s->meta.cluster.feature;

    if (level == s->feature_seen) return;
    if (s->feature_seen != 0)
        server_log(s, LOG_INFO, "the cluster is at feature level %u now", level);
    s->feature_seen = level;
    peers_refuse_old(s);
}

void reconcile_follow(struct server *s)
{
    const uint64_t seen = s->meta_seen;

    if (s->meta.version == seen) return;
    s->meta_seen = s->meta.version;
    if (meta_was_removed(&s->meta, s->identity.server)) {
        server_was_removed(s);
        return;
    }
    keep_view(s);
    follow_level(s);
    learn_servers(s, &s->meta);
    if (view_is_whole(s)) peers_forget_strangers(s);
    for (uint32_t i = 0; i < s->meta.n_shards; i++) {
        const struct meta_shard *target = s->meta.shards[i];
        const bool same = target->changed <= seen && s->meta.version_others <= seen;
        if (same && target->group.v != META_GROUP) continue;
        struct slot *slot = server_slot(s, target->group);
        if (slot->shard == NULL && placed_here(s, target))
            make_replica(s, target->group, target);
        slot_touch(s, slot);
    }
    /* Keys may be another shard's now, or this one's again. */
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->all_slots[i]->waiting != NULL) requests_slot_turn(s, s->all_slots[i]);
    if (s->phase == PHASE_OPENING && s->meta.founded) {
        s->phase = PHASE_RUNNING;
        server_act(s, SERVER_READY);
    }
}

/* Where the others are is known before an election, which can't be held without them: from
 * the store, and from entries of which it is not known yet whether they are committed.  A
 * wrong address costs a dial that is refused. */
static void learn_from_log(struct server *s, const struct slot *slot)
{
    struct meta hint;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    meta_init(&hint, s->mem, s->config.feature);
    for (uint64_t i = info.applied.v + 1; i <= info.last.v; i++) {
        struct raft_entry entry;
        struct effect e;
        if (!raft_entry_at(shard_raft(slot->shard), (struct log_index){i}, &entry))
            continue;
        if (entry.kind != RAFT_COMMAND) continue;
        struct cursor in = cursor_of(entry.payload);
        while (effect_decode(&in, &e) == EFFECT_OK)
            if (!meta_apply(&hint, &e)) break;
    }
    learn_servers(s, &hint);
    meta_free(&hint);
}

/* The meta shard is here before there is a view that could say so. */
void reconcile_begin(struct server *s)
{
    struct slot *slot = server_slot(s, (struct group_id){META_GROUP});
    if (slot->shard == NULL) {
        struct meta_shard first = {.founder = {1}, .n_voters = 1};
        first.voters[0] = s->identity.server;
        make_replica(s, slot->group, s->identity.server.v == 1 ? &first : NULL);
    }
    reconcile_rebuild(s);
    learn_from_log(s, slot);
}

/* ---- the meta leader ---- */

/* Lost counts from what this server has seen since it leads the meta shard: who led before it
 * may have heard more. */
static enum meta_health health_of(const struct server *s, struct server_id id)
{
    const uint64_t lost_ns = s->config.limits.replace_after_ns;
    const struct peer *p = peer_find(s, id);
    if (id.v == s->identity.server.v) return HEALTH_ALIVE;
    if (p != NULL && p->way != NULL && s->now.ns < p->heard.ns + ALIVE_MS * MS_NS)
        return HEALTH_ALIVE;
    uint64_t since_ns = s->plans_since.ns;
    if (p != NULL && p->heard.ns > since_ns) since_ns = p->heard.ns;
    return s->now.ns >= since_ns + lost_ns ? HEALTH_LOST : HEALTH_SILENT;
}

bool reconcile_alive(const struct server *s, struct server_id id)
{
    return health_of(s, id) == HEALTH_ALIVE;
}

enum meta_health reconcile_health(void *ctx, struct server_id id)
{
    return health_of(ctx, id);
}

static uint32_t speaks(void *ctx, struct server_id id)
{
    const struct server *s = ctx;
    const uint32_t its = peer_feature(s, id);
    if (s->config.mutant.server == 7 && its == 0) /* the simulator's: who knows may be */
        return s->config.feature;
    return its;
}

static void text_set(struct meta_text *t, struct bytes from)
{
    t->len = (uint8_t)(from.len < META_ADDRESS_MAX ? from.len : META_ADDRESS_MAX);
    if (t->len > 0) memcpy(t->at, from.at, t->len);
    t->at[t->len] = 0;
}

static void found_cluster(struct server *s, struct meta_change *change)
{
    struct meta_server self = {
        .id = s->identity.server, .state = SERVER_ACTIVE, .joined = s->incarnation};
    text_set(&self.name, bytes_of_str(s->identity.name));
    text_set(&self.client, s->config.advertise_client);
    text_set(&self.peer, s->config.advertise_peer);
    text_set(&self.zone, s->config.zone);
    meta_found(change, s->identity.cluster, s->config.feature, &self);
}

static void plan(struct server *s)
{
    struct slot *slot = server_slot_find(s, (struct group_id){META_GROUP});
    if (slot == NULL || slot->shard == NULL || !shard_leads(slot->shard)) {
        s->plans_since.ns = 0;
        return;
    }
    if (s->plans_since.ns == 0) s->plans_since = s->now;
    if (store_has_staged(shard_store(slot->shard))) return; /* one change at a time */
    struct buf effects = buf_new(s->mem);
    struct meta_change change = {&effects};
    if (!s->meta.founded)
        found_cluster(s, &change);
    else if (!closings_settle(s, &change) && !force_plan(s, &change) &&
             !meta_raise(&s->meta, speaks, s, &change))
        (void)meta_plan(&s->meta, &(struct meta_judge){reconcile_health, s}, &s->planner,
                        &change);
    if (effects.len > 0) {
        struct shard_gate gate;
        if (shard_propose_effects(slot->shard, buf_bytes(&effects), &gate) == SHARD_TAKEN)
            slot_touch(s, slot);
    }
    buf_free(&effects);
}

/* ---- what the meta leader is told ---- */

static void told(struct server *s, struct request *r, const struct forward_reply *reply,
                 enum outcome o)
{
    (void)r;
    (void)reply;
    (void)o; /* if it came to nothing it is told again */
    s->telling = false;
}

bool reconcile_tell(struct server *s, const struct bytes *args, uint32_t n_args)
{
    if (s->telling) return false;
    struct request *r = request_to_meta(s, 2, args, n_args);
    s->telling = true;
    r->done = told;
    request_submit(s, r);
    return true;
}

/* A server that was started with other addresses. */
static void tell_moved(struct server *s)
{
    struct buf effects = buf_new(s->mem);
    struct meta_change change = {&effects};
    const bool moved = meta_update_self(
        &s->meta, s->identity.server, s->config.advertise_client,
        s->config.advertise_peer, s->config.zone, &change);
    buf_free(&effects);
    if (!moved) return;

    uint8_t self[4];
    store_u32le(self, s->identity.server.v);
    const struct bytes args[] = {BYTES_OF("MOVED"),
                                 {self, sizeof self},
                                 s->config.advertise_client,
                                 s->config.advertise_peer,
                                 s->config.zone};
    (void)reconcile_tell(s, args, 5);
}

/* Led here, and its membership is the target: nobody who is not in it is needed any more. */
static bool has_arrived(const struct server *s, const struct slot *slot,
                        const struct meta_shard *record)
{
    struct meta_target target;
    if (slot == NULL || slot->shard == NULL || !shard_leads(slot->shard)) return false;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    meta_target_of(&s->meta, record, &target);
    return !info.joint && info.config_committed &&
           meta_config_is(&target, reconcile_policy(s, record), &info.config);
}

static void tell_settled(struct server *s)
{
    uint8_t rows[SETTLED_MAX][12];
    struct bytes args[1 + SETTLED_MAX] = {BYTES_OF("SETTLED")};
    uint32_t n = 0;
    if (s->telling) return;
    for (uint32_t i = 0; i < s->meta.n_shards && n < SETTLED_MAX; i++) {
        const struct meta_shard *target = s->meta.shards[i];
        if (target->settled) continue;
        if (!has_arrived(s, server_slot_find(s, target->group), target)) continue;
        store_u32le(rows[n], target->group.v);
        store_u64le(rows[n] + 4, target->version);
        args[1 + n] = (struct bytes){rows[n], sizeof rows[n]};
        n++;
    }
    if (n > 0) (void)reconcile_tell(s, args, 1 + n);
}

/* ---- what the meta leader is asked ---- */

static void evaluate_settled(struct server *s, const struct bytes *args, uint32_t n_args,
                             struct meta_change *change)
{
    for (uint32_t i = 1; i < n_args; i++) {
        if (args[i].len != 12) continue;
        (void)meta_arrived(&s->meta, (struct group_id){load_u32le(args[i].at)},
                           load_u64le(args[i].at + 4), change);
    }
}

/* What servers ask of each other; false: it is something else. */
static bool evaluate_told(struct server *s, const struct bytes *args, uint32_t n_args,
                          struct meta_change *change)
{
    if (n_args == 5 && args[1].len == 4 && bytes_equal(args[0], BYTES_OF("MOVED"))) {
        const struct server_id id = {load_u32le(args[1].at)};
        (void)meta_update_self(&s->meta, id, args[2], args[3], args[4], change);
    } else if (bytes_equal(args[0], BYTES_OF("SETTLED"))) {
        evaluate_settled(s, args, n_args, change);
    } else if (n_args == 2 && args[1].len == 8 &&
               bytes_equal(args[0], BYTES_OF("PREFER"))) {
        (void)meta_prefer(&s->meta, (struct group_id){load_u32le(args[1].at)},
                          (struct server_id){load_u32le(args[1].at + 4)}, change);
    } else {
        return false;
    }
    return true;
}

void reconcile_evaluate(struct server *s, const struct bytes *args, uint32_t n_args,
                        struct meta_change *change, struct reply *reply)
{
    if (closings_report(s, args, n_args)) {
        (void)closings_settle(s, change);
        reply_ok(reply);
        return;
    }
    if (evaluate_told(s, args, n_args, change)) {
        reply_ok(reply);
        return;
    }
    if (force_evaluate(s, args, n_args, change, reply)) return;
    if (bytes_equal_nocase(args[0], "server")) {
        meta_server_command(&s->meta, &(struct meta_judge){reconcile_health, s}, args,
                            n_args, change, reply);
        return;
    }
    if (n_args != 6 || args[5].len != 8 || !bytes_equal(args[0], BYTES_OF("JOIN"))) {
        meta_command(&s->meta, args, n_args, change, reply);
        return;
    }
    struct server_id id;
    const char *why = NULL;
    const struct meta_joiner joiner = {
        args[1], args[2], args[3], args[4], {load_u64le(args[5].at)}};
    struct joined j = {.ok = meta_join(&s->meta, &joiner, change, &id, &why)};
    if (j.ok) {
        j.cluster = s->identity.cluster;
        j.server = id;
        server_log(s, LOG_INFO, "server %u joins: %.*s at %.*s", id.v, (int)args[1].len,
                   (const char *)args[1].at, (int)args[3].len, (const char *)args[3].at);
        joined_encode(reply->out, &j);
        return;
    }
    struct buf text = buf_new(s->mem);
    buf_putf(&text, "ERR %s", why);
    j.text = buf_bytes(&text);
    joined_encode(reply->out, &j);
    buf_free(&text);
}

/* ---- the leader of each shard ---- */

struct catching {
    const struct server *server;
    const struct slot *slot;
};

static bool caught_up(void *ctx, struct server_id id)
{
    const struct catching *c = ctx;
    if (id.v == c->server->identity.server.v) return true;
    struct raft_peer peer;
    struct raft_info info;
    raft_info(shard_raft(c->slot->shard), &info);
    return raft_peer_of(shard_raft(c->slot->shard), id, &peer) && peer.active &&
           !peer.doubtful && !peer.snapshotting && peer.match.v > 0 &&
           peer.match.v + CAUGHT_UP_ENTRIES >= info.last.v;
}

/* A leader that is to go hands over to one that stays, if there is one that is ready; else the
 * others elect one when it is out. */
static bool leave_lead(struct server *s, struct slot *slot,
                       const struct meta_target *target, const struct raft_info *info)
{
    struct catching c = {s, slot};
    if (is_in(target->voters, target->n_voters, s->identity.server)) return false;
    for (uint32_t i = 0; i < target->n_voters; i++) {
        const struct server_id to = target->voters[i];
        if (!raft_members_has_voter(&info->config, to) || !caught_up(&c, to)) continue;
        shard_transfer(slot->shard, to, s->now);
        slot_touch(s, slot);
        return true;
    }
    return false;
}

/* Whatever can make a difference steps the shard or changes its record: so it is enough to
 * look at those that were stepped. */
void reconcile_members(struct server *s, struct slot *slot)
{
    if (s->phase == PHASE_STOPPING) return;
    if (slot->shard == NULL || slot->retiring != RETIRE_NOT || !shard_leads(slot->shard))
        return;
    const struct meta_shard *record = meta_shard(&s->meta, slot->group);
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    if (record == NULL || info.joint || !info.config_committed || info.transferring)
        return;
    struct catching c = {s, slot};
    struct meta_target target;
    struct raft_config next;
    meta_target_of(&s->meta, record, &target);
    const struct policy *policy = reconcile_policy(s, record);
    if (!meta_next_config(&target, policy, &info.config, caught_up, &c, &next)) return;
    if (leave_lead(s, slot, &target, &info)) return;
    shard_change_config(slot->shard, &next, s->now);
    slot_touch(s, slot);
}

/* Who should lead, if that is another that can now; 0: it is well as it is. */
static struct server_id better_lead(const struct server *s, const struct slot *slot)
{
    const struct server_id none = {0};
    if (slot->shard == NULL || slot->retiring != RETIRE_NOT || !shard_leads(slot->shard))
        return none;
    const struct meta_shard *target = meta_shard(&s->meta, slot->group);
    if (target == NULL || target->lead.v == s->identity.server.v) return none;
    const struct peer *p = peer_find(s, target->lead);
    if (p == NULL || p->way == NULL ||
        s->now.ns < p->way->opened.ns + LEAD_STEADY_MS * MS_NS)
        return none;
    struct raft_info info;
    raft_info(shard_raft(slot->shard), &info);
    struct catching c = {s, slot};
    if (info.joint || info.transferring || !caught_up(&c, target->lead)) return none;
    return raft_members_has_voter(&info.config, target->lead) ? target->lead : none;
}

static void balance_leads(struct server *s)
{
    if (s->now.ns < s->lead_at.ns) return;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        const struct server_id to = better_lead(s, slot);
        if (to.v == 0) continue;
        s->lead_at.ns = s->now.ns + LEAD_EVERY_MS * MS_NS;
        shard_transfer(slot->shard, to, s->now);
        slot_touch(s, slot);
        return;
    }
}

void reconcile_turn(struct server *s)
{
    if (s->meta_rebuild) reconcile_rebuild(s);
    reconcile_follow(s);
    retire_turn(s);
    if (s->now.ns < s->plan_at.ns || s->phase == PHASE_STOPPING) return;
    s->plan_at.ns = s->now.ns + PLAN_MS * MS_NS;
    plan(s);
    if (s->phase == PHASE_RUNNING) {
        tell_moved(s);
        force_turn(s);
        tell_settled(s);
    }
    balance_leads(s);
}
