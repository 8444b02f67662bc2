/* SPDX-License-Identifier: Apache-2.0 */
/* KEYSPACE DIGEST and SHARD LIST: of each replica what its own server says, and where that
 * said nothing, what is known here and why there is no more. */
#include "server/report.h"

#include <stdio.h>
#include <string.h>

void admin_digest(struct server *s, struct client *c, struct bytes name)
{
    const struct meta_keyspace *keyspace = meta_keyspace_named(&s->meta, name);

    if (keyspace == NULL)
        session_outcome(s, c, OUTCOME_NOKEYSPACE);
    else
        gather_ask(s, c, REPORT_ASK_DIGESTS, keyspace->id);
}

void admin_shard_list(struct server *s, struct client *c, const struct bytes *args,
                      uint32_t n_args)
{
    const struct meta_keyspace *only = n_args == 3
                                           ? meta_keyspace_named(&s->meta, args[2])
                                           : NULL;

    if (n_args > 3)
        session_outcome(s, c, OUTCOME_SYNTAX);
    else if (n_args == 3 && only == NULL)
        session_outcome(s, c, OUTCOME_NOKEYSPACE);
    else
        gather_ask(s, c, REPORT_ASK_REPLICAS, only == NULL ? REPORT_ALL : only->id);
}

/* ---- both ---- */

static void reply_pair_int(struct reply *r, const char *name, int64_t v)
{
    reply_bulk_str(r, name);
    reply_int(r, v);
}

static void reply_pair(struct reply *r, const char *name, const char *v)
{
    reply_bulk_str(r, name);
    reply_bulk_str(r, v);
}

static void reply_pair_bytes(struct reply *r, const char *name, struct bytes v)
{
    reply_bulk_str(r, name);
    reply_bulk(r, v);
}

static const char *name_of(const struct server *s, struct server_id id)
{
    const struct meta_server *server = meta_server(&s->meta, id);

    return server == NULL ? "" : server->name.at;
}

/* Why a server that is to have a replica says nothing of it; `none` if it did answer. */
static const char *silence_of(const struct gather_part *part, const char *none)
{
    if (part == NULL) return "did not answer: it joined just now";
    switch (part->state) {
    case PART_ANSWERED: return none;
    case PART_LOST: return "did not answer: it is not reachable from here";
    case PART_ASKED:
    case PART_SILENT: return "did not answer";
    case PART_TAKEN: break;
    }
    return "did not answer: it is still at it";
}

struct holders {
    struct server_id all[META_REPLICAS_MAX + META_SERVERS_MAX];
    uint32_t n;
};

static void add_holder(struct holders *h, struct server_id id)
{
    for (uint32_t i = 0; i < h->n; i++)
        if (h->all[i].v == id.v) return;
    if (h->n < sizeof h->all / sizeof *h->all) h->all[h->n++] = id;
}

/* Who is to have a replica of a shard, then who has one that is to go. */
static void holders_of(const struct server *s, const struct gather *g,
                       const struct meta_shard *shard, struct holders *out)
{
    struct meta_target target;

    out->n = 0;
    meta_target_of(&s->meta, shard, &target);
    for (uint32_t i = 0; i < target.n_voters; i++)
        add_holder(out, target.voters[i]);
    for (uint32_t i = 0; i < target.n_learners; i++)
        add_holder(out, target.learners[i]);
    for (uint32_t i = 0; i < g->n_parts; i++)
        if (gather_row(&g->parts[i], shard->group) != NULL)
            add_holder(out, g->parts[i].server);
}

static uint32_t each_shard(struct server *s, const struct gather *g, struct reply *r,
                           uint32_t (*rows)(struct server *s, const struct gather *g,
                                            const struct meta_shard *shard,
                                            struct reply *r))
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->meta.n_shards; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        if (g->keyspace == REPORT_ALL || shard->keyspace == g->keyspace)
            n += rows(s, g, shard, r);
    }
    return n;
}

/* The number of rows leads them, and is known behind them. */
static void reply_rows(struct server *s, const struct gather *g, struct reply *r,
                       uint32_t (*rows)(struct server *s, const struct gather *g,
                                        const struct meta_shard *shard, struct reply *r))
{
    struct buf text = buf_new(s->mem);
    struct reply found = {&text, r->version};

    reply_array(r, each_shard(s, g, &found, rows));
    buf_put(r->out, text.at, text.len);
    buf_free(&text);
}

/* ---- KEYSPACE DIGEST ---- */

static uint32_t digest_rows(struct server *s, const struct gather *g,
                            const struct meta_shard *shard, struct reply *r)
{
    struct holders h;
    holders_of(s, g, shard, &h);

    for (uint32_t i = 0; i < h.n; i++) {
        const struct gather_part *part = gather_part(g, h.all[i]);
        const struct report_row *row = part == NULL ? NULL
                                                    : gather_row(part, shard->group);
        char hex[20] = "";
        if (row != NULL)
            snprintf(hex, sizeof hex, "%016llx", (unsigned long long)row->digest);
        reply_map(r, 7);
        reply_pair_int(r, "shard", shard->group.v);
        reply_pair_int(r, "server", h.all[i].v);
        reply_pair(r, "name", name_of(s, h.all[i]));
        reply_pair_int(r, "position", row == NULL ? -1 : (int64_t)row->applied.v);
        reply_pair(r, "digest", hex);
        reply_pair_int(r, "keys", row == NULL ? -1 : (int64_t)row->keys);
        reply_pair(r, "trouble",
                   row != NULL ? ""
                               : silence_of(part, "no replica there yet, or its digest "
                                                  "was not ready in time; ask again"));
    }
    return h.n;
}

void gather_digest_reply(struct server *s, const struct gather *g, struct reply *r)
{
    reply_rows(s, g, r, digest_rows);
}

/* ---- SHARD LIST: the rules in force ---- */

struct in_force { /* in a shard; "", -1: not known here */
    char ack[20];
    const char *durability;
    int64_t copies; /* that a commit needs */
};

static const char *ack_text(const struct raft_rules *r, char out[8])
{
    if (!r->early) return "majority";
    if (r->ack == RAFT_ACK_ALL) return "all";
    if (r->ack == 0) return "async";
    snprintf(out, 8, "%u", r->ack);
    return out;
}

static uint32_t copies_of(const struct raft_rules *r, uint32_t n_voters)
{
    return r->copies > 0 ? r->copies : n_voters / 2 + 1;
}

/* Of a joint membership both sets of rules hold: an acknowledgement waits for each. */
static struct in_force rules_of(const struct raft_members *m)
{
    const bool joint = m->n_old > 0;
    char text[8], old_text[8];
    const char *ack = ack_text(&m->rules, text), *old = ack_text(&m->old_rules, old_text);
    const uint32_t copies = copies_of(&m->rules, m->n_voters);
    const uint32_t copies_old = joint ? copies_of(&m->old_rules, m->n_old) : 0;
    struct in_force f = {.copies = copies > copies_old ? copies : copies_old};

    if (joint && strcmp(ack, old) != 0)
        snprintf(f.ack, sizeof f.ack, "%s+%s", old, ack);
    else
        snprintf(f.ack, sizeof f.ack, "%s", ack);
    f.durability = m->rules.memory && (!joint || m->old_rules.memory) ? "memory"
                                                                      : "fsync";
    return f;
}

/* For who has no replica.  A settled shard's rules are those that its keyspace asks for, as its
 * leader has said; of one that changes only its replicas know. */
static struct in_force rules_asked(const struct server *s, const struct meta_shard *shard)
{
    const struct raft_members asked = {
        .n_voters = shard->n_voters,
        .rules = meta_rules(reconcile_policy(s, shard), shard->n_voters)};

    if (shard->settled) return rules_of(&asked);
    return (struct in_force){.durability = "", .copies = -1};
}

/* ---- SHARD LIST ---- */

struct replica { /* -1: not known */
    struct server_id server;
    const char *role;
    struct server_id leader;
    struct term term;
    int64_t applied, commit, lag, keys;
    struct bytes trouble;
};

struct around { /* what is known of a shard as a whole */
    const struct meta_shard *shard;
    const struct gather *gather;
    uint64_t commit;  /* the most that a replica knows of */
    struct term lead; /* of the newest leader */
    struct server_id leader;
    struct term term; /* as this server's replica has it */
    struct raft_info info;
    const struct raft *raft; /* if this server leads */
    struct in_force rules;
};

static void look_around(struct server *s, const struct gather *g,
                        const struct meta_shard *shard, struct around *out)
{
    const struct slot *slot = server_slot_find(s, shard->group);

    *out = (struct around){.shard = shard, .gather = g};
    for (uint32_t i = 0; i < g->n_parts; i++) {
        const struct report_row *row = gather_row(&g->parts[i], shard->group);
        if (row == NULL) continue;
        if (row->commit.v > out->commit) out->commit = row->commit.v;
        if (row->role == REPORT_LEADER && row->term.v > out->lead.v)
            out->lead = row->term;
    }
    out->leader = admin_leader(s, shard->group);
    out->rules = rules_asked(s, shard);
    if (slot == NULL || slot->shard == NULL) return;
    raft_info(shard_raft(slot->shard), &out->info);
    out->rules = rules_of(&out->info.config);
    out->term = out->info.term;
    if (out->info.role == RAFT_LEADER) out->raft = shard_raft(slot->shard);
}

static bool as_leader_sees(const struct around *a, struct server_id id,
                           struct raft_peer *out)
{
    return a->raft != NULL && raft_peer_of(a->raft, id, out);
}

static const char *role_text(enum report_role role)
{
    switch (role) {
    case REPORT_LEADER: return "leader";
    case REPORT_FOLLOWER: return "follower";
    case REPORT_LEARNER: return "learner";
    case REPORT_CANDIDATE: return "candidate";
    case REPORT_ROLE_END: break;
    }
    return "unknown";
}

static void told(const struct around *a, const struct report_row *row,
                 struct replica *out)
{
    struct raft_peer p;

    out->role = role_text(row->role);
    out->leader = row->leader;
    out->term = row->term;
    out->applied = (int64_t)row->applied.v;
    out->commit = (int64_t)row->commit.v;
    out->lag = a->commit > row->applied.v ? (int64_t)(a->commit - row->applied.v) : 0;
    out->keys = (int64_t)row->keys;
    out->trouble = row->trouble;
    if (row->role == REPORT_LEADER && row->term.v < a->lead.v) {
        out->role = "unknown"; /* one leader for each shard */
        out->trouble = BYTES_OF("it has not heard that another leads, in a newer term");
    }
    if (out->trouble.len > 0 || !as_leader_sees(a, out->server, &p)) return;
    if (p.snapshotting)
        out->trouble = BYTES_OF("it is sent a snapshot");
    else if (p.doubtful)
        out->trouble = BYTES_OF("its log is damaged and being repaired");
}

/* It said nothing: as this server sees it, which is most if it leads. */
static void untold(const struct around *a, struct replica *out)
{
    struct raft_peer p;

    *out = (struct replica){.server = out->server,
                            .role = "unknown",
                            .leader = a->leader,
                            .term = a->term,
                            .applied = -1,
                            .commit = -1,
                            .lag = -1,
                            .keys = -1};
    out->trouble = bytes_of_str(
        silence_of(gather_part(a->gather, out->server), "no replica there yet"));
    if (a->leader.v == out->server.v && a->lead.v <= a->term.v) out->role = "leader";
    if (!as_leader_sees(a, out->server, &p)) return;
    const uint64_t commit = a->info.commit.v, last = a->info.last.v;
    out->role = p.learner ? "learner" : "follower";
    out->applied = (int64_t)(p.match.v < commit ? p.match.v : commit);
    out->lag = last > p.match.v ? (int64_t)(last - p.match.v) : 0;
}

static void reply_replica(const struct server *s, const struct around *a,
                          const struct replica *p, struct reply *r)
{
    const struct meta_shard *shard = a->shard;
    const struct meta_keyspace *keyspace = meta_keyspace(&s->meta, shard->keyspace);
    char slots_text[24];

    snprintf(slots_text, sizeof slots_text, "%u-%u", shard->slot_first, shard->slot_last);
    reply_map(r, 18);
    reply_pair_int(r, "shard", shard->group.v);
    reply_pair(r, "keyspace", keyspace == NULL ? "(meta)" : keyspace->name.at);
    reply_pair(r, "slots", keyspace == NULL ? "" : slots_text);
    reply_pair_int(r, "server", p->server.v);
    reply_pair(r, "name", name_of(s, p->server));
    reply_pair(r, "role", p->role);
    reply_pair_int(r, "leader", p->leader.v);
    reply_pair_int(r, "epoch", term_epoch(p->term));
    reply_pair_int(r, "term", (int64_t)term_number(p->term));
    reply_pair_int(r, "applied", p->applied);
    reply_pair_int(r, "commit", p->commit);
    reply_pair_int(r, "lag", p->lag);
    reply_pair_int(r, "keys", p->keys);
    reply_pair(r, "ack", a->rules.ack);
    reply_pair(r, "durability", a->rules.durability);
    reply_pair_int(r, "copies", a->rules.copies);
    reply_pair_int(r, "settled", shard->settled);
    reply_pair_bytes(r, "trouble", p->trouble);
}

static uint32_t shard_rows(struct server *s, const struct gather *g,
                           const struct meta_shard *shard, struct reply *r)
{
    struct holders h;
    holders_of(s, g, shard, &h);
    struct around around;

    look_around(s, g, shard, &around);
    for (uint32_t i = 0; i < h.n; i++) {
        const struct gather_part *part = gather_part(g, h.all[i]);
        const struct report_row *row = part == NULL ? NULL
                                                    : gather_row(part, shard->group);
        struct replica p = {.server = h.all[i]};
        if (row != NULL)
            told(&around, row, &p);
        else
            untold(&around, &p);
        reply_replica(s, &around, &p, r);
    }
    return h.n;
}

void gather_shards_reply(struct server *s, const struct gather *g, struct reply *r)
{
    reply_rows(s, g, r, shard_rows);
}
