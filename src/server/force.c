/* SPDX-License-Identifier: Apache-2.0 */
/* force - FAILOVER ... FORCE: a keyspace gets leaders without the consent of those it had; and
 * the one voter of FAILOVER manual is another.
 *
 *   1. The meta shard raises the epoch of every shard of the keyspace (meta_force()).
 *   2. Each server that follows the meta shard fences its replicas: they refuse the older epoch.
 *      Once that is on disk it reports how far their logs go (FENCED, to the meta leader).
 *   3. When all members that live have reported, or time is up, the meta leader names the longest
 *      log (meta_decree()).
 *   4. That replica leads, alone as voter; the planner gives it others.  What cannot follow it is
 *      made anew, and keeps aside what it had beyond (raft.h, Epochs; rollback.c).
 *
 * The client is answered when every shard has its name, and told when fewer replicas have answered
 * than it takes to be sure that nothing acknowledged is lost. */
#include "server/server_state.h"

#include <stdio.h>

enum {
    REPORTS_WAIT_MS = 3000,
    REPORTS_LEAST_MS = 500,
    ROWS_MAX = 64,
    ROW_BYTES = 24,
    WAIT_TIMEOUTS = 4
};

/* In a report, beside the epoch, which is far smaller: its log may lack what it acknowledged. */
static const uint32_t row_doubtful = 1u << 31;
static_assert(64 - TERM_EPOCH_SHIFT < 31, "an epoch leaves room for row_doubtful");

struct force_reports {
    uint32_t epoch, n;
    struct instant since;
    struct meta_fenced at[META_REPLICAS_MAX];
};

struct force_wait {
    struct answer *answer;
    uint32_t keyspace;
    bool moves; /* force_move(): until settled */
    struct instant deadline;
    struct force_wait *next;
};

/* ---- each server: fences, reports, decrees ---- */

static void put_row(uint8_t row[ROW_BYTES], const struct meta_shard *shard,
                    const struct raft_info *info)
{
    store_u32le(row, shard->group.v);
    store_u32le(row + 4, shard->epoch | (info->doubtful ? row_doubtful : 0));
    store_u64le(row + 8, info->last_term.v);
    store_u64le(row + 16, info->last.v);
}

static void carry_out(struct server *s, struct slot *slot, const struct meta_shard *shard)
{
    struct raft_config config = {.version = shard->version, .n_voters = 1};

    config.voters[0] = s->identity.server;
    config.rules = meta_rules(reconcile_policy(s, shard), 1);
    for (uint8_t i = 0; i < shard->n_voters; i++)
        if (shard->voters[i].v != s->identity.server.v)
            config.learners[config.n_learners++] = shard->voters[i];
    for (uint8_t i = 0; i < shard->n_learners; i++)
        if (shard->learners[i].v != s->identity.server.v)
            config.learners[config.n_learners++] = shard->learners[i];
    server_log(s, LOG_WARNING, "shard %u: named to lead epoch %u", shard->group.v,
               shard->epoch);
    shard_decree(slot->shard, shard->epoch, &config, s->now);
    slot_touch(s, slot);
}

/* True: a row was filled. */
static bool look_at(struct server *s, const struct meta_shard *shard,
                    uint8_t row[ROW_BYTES])
{
    struct slot *slot = server_slot_find(s, shard->group);
    struct raft_info info;

    if (slot == NULL || slot->shard == NULL || slot->retiring != RETIRE_NOT) return false;
    raft_info(shard_raft(slot->shard), &info);
    const bool bug_unfenced = s->config.mutant.server == 8; /* the simulator's */
    if (term_epoch(info.term) < shard->epoch && !bug_unfenced) {
        shard_fence(slot->shard, shard->epoch, s->now);
        slot_touch(s, slot);
        return false;
    }
    if (term_epoch(info.last_term) >= shard->epoch || !info.state_durable) return false;
    if (shard->decree == DECREE_NAMED && shard->named.v == s->identity.server.v)
        carry_out(s, slot, shard);
    if (shard->decree != DECREE_FENCED) return false;
    put_row(row, shard, &info);
    return true;
}

void force_turn(struct server *s)
{
    uint8_t rows[ROWS_MAX][ROW_BYTES], self[4];
    struct bytes args[2 + ROWS_MAX] = {BYTES_OF("FENCED"), {self, sizeof self}};
    uint32_t n = 0;

    store_u32le(self, s->identity.server.v);
    for (uint32_t i = 0; i < s->meta.n_shards && n < ROWS_MAX; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        if (shard->decree == DECREE_NONE || !look_at(s, shard, rows[n])) continue;
        args[2 + n] = (struct bytes){rows[n], ROW_BYTES};
        n++;
    }
    if (n > 0) (void)reconcile_tell(s, args, 2 + n);
}

/* ---- the meta leader ---- */

static void take_report(struct server *s, struct server_id from, struct bytes row)
{
    const struct group_id group = {load_u32le(row.at)};
    const uint32_t word = load_u32le(row.at + 4), epoch = word & ~row_doubtful;
    const struct meta_shard *shard = meta_shard(&s->meta, group);
    const struct meta_fenced report = {.id = from,
                                       .last_term = {load_u64le(row.at + 8)},
                                       .last = {load_u64le(row.at + 16)},
                                       .doubtful = (word & row_doubtful) != 0};

    if (shard == NULL || shard->decree != DECREE_FENCED || shard->epoch != epoch) return;
    if (!meta_server_may_have(shard, from)) return;
    struct slot *slot = server_slot(s, group);
    if (slot->fenced == NULL) slot->fenced = mem_zero(s->mem, sizeof *slot->fenced);
    struct force_reports *reports = slot->fenced;
    if (reports->epoch != epoch)
        *reports = (struct force_reports){.epoch = epoch, .since = s->now};
    for (uint32_t i = 0; i < reports->n; i++)
        if (reports->at[i].id.v == from.v) {
            reports->at[i] = report;
            return;
        }
    if (reports->n < META_REPLICAS_MAX) reports->at[reports->n++] = report;
}

static void take_order(struct server *s, const struct bytes *args,
                       struct meta_change *change, struct reply *reply)
{
    const uint32_t keyspace = load_u32le(args[1].at);
    const struct server_id to = {load_u32le(args[1].at + 4)};

    if (bytes_equal(args[0], BYTES_OF("FORCE"))
            ? meta_force(&s->meta, keyspace, to, change)
            : meta_move_voter(&s->meta, keyspace, to, change)) {
        reply_ok(reply);
        return;
    }
    reply_error(
        reply,
        "ERR the keyspace was changed or dropped meanwhile, or that server has no "
        "replica of every shard of it; nothing was done, SHARD LIST shows who has");
}

bool force_evaluate(struct server *s, const struct bytes *args, uint32_t n_args,
                    struct meta_change *change, struct reply *reply)
{
    if (n_args == 2 && args[1].len == 8 &&
        (bytes_equal(args[0], BYTES_OF("FORCE")) ||
         bytes_equal(args[0], BYTES_OF("MOVE")))) {
        take_order(s, args, change, reply);
        return true;
    }
    if (n_args < 3 || args[1].len != 4 || !bytes_equal(args[0], BYTES_OF("FENCED")))
        return false;
    for (uint32_t i = 2; i < n_args; i++)
        if (args[i].len == ROW_BYTES)
            take_report(s, (struct server_id){load_u32le(args[1].at)}, args[i]);
    reply_ok(reply);
    return true;
}

/* Who answers nobody is not waited for as long as those that do. */
static uint32_t expected(const struct server *s, const struct meta_shard *shard)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->meta.n_servers; i++) {
        const struct server_id id = s->meta.servers[i]->id;
        if (!meta_server_may_have(shard, id)) continue;
        n += id.v == s->identity.server.v || peer_reachable(s, id);
    }
    return n;
}

static bool all_have_reported(const struct server *s, const struct meta_shard *shard,
                              const struct force_reports *reports)
{
    if (s->now.ns >= reports->since.ns + REPORTS_WAIT_MS * MS_NS) return true;
    return s->now.ns >= reports->since.ns + REPORTS_LEAST_MS * MS_NS &&
           reports->n >= expected(s, shard);
}

bool force_plan(struct server *s, struct meta_change *change)
{
    for (uint32_t i = 0; i < s->meta.n_shards; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        if (shard->decree != DECREE_FENCED) continue;
        const struct slot *slot = server_slot_find(s, shard->group);
        if (slot == NULL || slot->fenced == NULL || slot->fenced->epoch != shard->epoch)
            continue;
        if (!all_have_reported(s, shard, slot->fenced)) continue;
        if (meta_decree(&s->meta, shard->group, shard->epoch, slot->fenced->at,
                        slot->fenced->n, change))
            return true;
    }
    return false;
}

void force_slot_free(struct server *s, struct slot *slot)
{
    if (slot->fenced != NULL) mem_free(s->mem, slot->fenced, sizeof *slot->fenced);
}

/* ---- the client ---- */

static void end_forced(struct server *s, const struct force_wait *w, struct reply *r)
{
    const struct meta_shard *shard;
    char text[200];

    for (uint32_t i = 0; (shard = meta_shard_of(&s->meta, w->keyspace, i)) != NULL; i++) {
        if ((shard->heard & META_HEARD_ENOUGH) != 0) continue;
        snprintf(text, sizeof text,
                 "OK but acknowledged writes may be lost: %u replicas of shard %u "
                 "answered, too few to be sure; what returns later keeps them in its "
                 "rollback/",
                 shard->heard, shard->group.v);
        reply_simple(r, text);
        return;
    }
    reply_ok(r);
}

static bool has_ended(const struct server *s, const struct force_wait *w)
{
    const struct meta_shard *shard;

    for (uint32_t i = 0; (shard = meta_shard_of(&s->meta, w->keyspace, i)) != NULL; i++) {
        if (shard->decree == DECREE_FENCED) return false;
        if (w->moves && !shard->settled) return false;
    }
    return true;
}

void force_waits_turn(struct server *s)
{
    struct force_wait **at = &s->force_waits;

    while (*at != NULL) {
        struct force_wait *w = *at;
        const bool ended = has_ended(s, w);
        if (!ended && w->answer->client != NULL && s->now.ns < w->deadline.ns) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        client_let_go(s, w->answer->client);
        struct reply r = {&w->answer->bytes, 2};
        if (!ended)
            reply_error(&r,
                        "UNCERTAIN not every shard has its leader yet: too few servers "
                        "answer; it goes on, and SHARD LIST shows how far");
        else if (w->moves)
            reply_ok(&r);
        else
            end_forced(s, w, &r);
        answer_ready(s, w->answer);
        mem_free(s->mem, w, sizeof *w);
    }
}

void force_free(struct server *s)
{
    while (s->force_waits != NULL) {
        struct force_wait *w = s->force_waits;
        s->force_waits = w->next;
        if (w->answer->client == NULL) answer_free(s, w->answer);
        mem_free(s->mem, w, sizeof *w);
    }
}

static void begun(struct server *s, struct request *r, const struct forward_reply *reply,
                  enum outcome o, bool moves)
{
    struct answer *a = r->answer;

    if (o != OUTCOME_NONE) {
        client_let_go(s, a->client);
        answer_error(s, a, o);
        return;
    }
    if (reply->bytes.len > 0 && reply->bytes.at[0] == '-') {
        client_let_go(s, a->client);
        buf_put(&a->bytes, reply->bytes.at, reply->bytes.len);
        answer_ready(s, a);
        return;
    }
    struct force_wait *w = mem_zero(s->mem, sizeof *w);
    w->answer = a;
    w->keyspace = (uint32_t)r->round;
    w->moves = moves;
    w->deadline.ns = s->now.ns + WAIT_TIMEOUTS * s->config.limits.request_timeout_ns;
    w->next = s->force_waits;
    s->force_waits = w;
}

static void forced(struct server *s, struct request *r, const struct forward_reply *reply,
                   enum outcome o)
{
    begun(s, r, reply, o, false);
}

static void moved(struct server *s, struct request *r, const struct forward_reply *reply,
                  enum outcome o)
{
    begun(s, r, reply, o, true);
}

static void order(struct server *s, struct client *c, struct bytes name,
                  uint32_t keyspace, struct server_id to,
                  void (*done)(struct server *s, struct request *r,
                               const struct forward_reply *reply, enum outcome o))
{
    uint8_t what[8];

    store_u32le(what, keyspace);
    store_u32le(what + 4, to.v);
    const struct bytes args[] = {name, {what, sizeof what}};
    struct request *r = request_to_meta(s, c->resp, args, 2);
    r->done = done;
    r->round = keyspace; /* what `done` is told */
    r->answer = answer_open(c);
    c->held = true;
    request_submit(s, r);
}

static const struct meta_shard *shard_without(const struct server *s,
                                              const struct meta_keyspace *k,
                                              struct server_id id)
{
    const struct meta_shard *shard;

    for (uint32_t i = 0; (shard = meta_shard_of(&s->meta, k->id, i)) != NULL; i++)
        if (id.v != 0 && !meta_server_has(shard, id)) return shard;
    return NULL;
}

static bool is_member(struct server *s, struct client *c,
                      const struct meta_keyspace *keyspace, struct server_id to)
{
    const struct meta_shard *shard = shard_without(s, keyspace, to);
    char text[160];

    if (shard == NULL) return true;
    snprintf(text, sizeof text,
             "ERR server '%.64s' has no replica of shard %u; SHARD LIST shows who has",
             meta_server(&s->meta, to)->name.at, shard->group.v);
    session_error(s, c, text);
    return false;
}

/* One that has not begun does so with the voters that it was given first. */
static bool has_begun(struct server *s, struct client *c,
                      const struct meta_keyspace *keyspace)
{
    if (!meta_has_unborn(&s->meta, keyspace->id)) return true;

    session_error(s, c, "ERR a shard of the keyspace has not begun yet; try again");
    return false;
}

void force_begin(struct server *s, struct client *c, const struct meta_keyspace *keyspace,
                 struct server_id to)
{
    if (is_member(s, c, keyspace, to))
        order(s, c, BYTES_OF("FORCE"), keyspace->id, to, forced);
}

void force_move(struct server *s, struct client *c, const struct meta_keyspace *keyspace,
                struct server_id to)
{
    if (is_member(s, c, keyspace, to) && has_begun(s, c, keyspace))
        order(s, c, BYTES_OF("MOVE"), keyspace->id, to, moved);
}
