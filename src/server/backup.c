/* SPDX-License-Identifier: Apache-2.0 */
/* backup - BACKUP BEGIN, NEXT, END: one shard's keys, as of one position, given to a client.
 *
 *   BEGIN ──► ASKS   is this server still the leader?  a round that a majority answers
 *         ──► WAITS  until all that its log held then is committed, and in a checkpoint
 *         ──► OPEN   a reader of that checkpoint; NEXT gives piece after piece of it
 *
 * Only the leader gives copies: its log holds whatever was acknowledged before BEGIN, so the
 * copy does, too, even of a keyspace whose ACK is async.  Once OPEN the copy is of a position
 * that is committed for ever; losing the lead does not end it.
 *
 * Limits    BACKUPS_MAX at a time.  A reader keeps the engine from using old pages again, so it
 *           is closed when nothing was asked of it for IDLE_MS, or when it has gone on more
 *           slowly than RATE_BYTES_S beyond GRACE_MS; then NEXT says so.
 */
#include "server/server_state.h"

#include <stdio.h>

#include "base/text.h"
#include "store/export.h"

enum {
    BACKUPS_MAX = 8,
    GIVEN_BYTES = 1 << 20,
    RATE_BYTES_S = 1 << 20,
    WAIT_MS = 60000,  /* for a checkpoint */
    GRACE_MS = 60000, /* before the rate counts */
    IDLE_MS = 60000,
    ASK_AGAIN_MS = 100,
};

struct backup {
    struct client *client;
    struct group_id group;
    enum { ASKS = 1, WAITS, OPEN, ENDED } state;
    struct answer *answer; /* BEGIN's, until it is filled */
    struct term term;
    struct log_index wanted;
    struct instant deadline, ask_at;
    struct store_export *source; /* OPEN */
    uint64_t given;
    struct instant opened, used;
    struct backup *next;
};

/* ---- life ---- */

static void source_close(struct backup *b)
{
    if (b->source != NULL) store_export_close(b->source);
    b->source = NULL;
}

static void backup_free(struct server *s, struct backup *b)
{
    struct backup **at = &s->backups;

    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    s->n_backups--;
    source_close(b);
    b->client->backup = NULL;
    mem_free(s->mem, b, sizeof *b);
}

void backup_end(struct server *s, struct client *c)
{
    struct backup *b = c->backup;
    if (b == NULL) return;

    struct answer *a = b->state == WAITS ? b->answer : NULL;
    backup_free(s, b);
    if (a != NULL && a->client == NULL) answer_free(s, a); /* nobody else has it */
}

void backups_free(struct server *s)
{
    while (s->backups != NULL)
        backup_free(s, s->backups);
}

/* ---- BEGIN ---- */

static bool leads(const struct slot *slot)
{
    return slot != NULL && slot->shard != NULL && slot->retiring == RETIRE_NOT &&
           shard_leads(slot->shard);
}

/* BEGIN has its answer, and its client goes on. */
static void answered(struct server *s, struct backup *b)
{
    struct answer *a = b->answer;

    b->answer = NULL;
    client_let_go(s, b->client);
    answer_ready(s, a);
}

static void refuse(struct server *s, struct backup *b, const char *text)
{
    struct reply r = {&b->answer->bytes, b->client->resp};

    reply_error(&r, text);
    answered(s, b);
    backup_free(s, b);
}

static void reply_pair(struct reply *r, const char *name, const char *value)
{
    reply_bulk_str(r, name);
    reply_bulk_str(r, value);
}

static void reply_pair_int(struct reply *r, const char *name, uint64_t value)
{
    reply_bulk_str(r, name);
    reply_int(r, value < INT64_MAX ? (int64_t)value : INT64_MAX);
}

/* What the copy is of. */
static void reply_head(const struct server *s, const struct backup *b, struct reply *r)
{
    const struct meta_shard *shard = meta_shard(&s->meta, b->group);
    const struct meta_keyspace *k = meta_keyspace(&s->meta, shard->keyspace);
    const struct store_base base = store_export_base(b->source);
    char cluster[20], slots[24];

    snprintf(cluster, sizeof cluster, "%016llx",
             (unsigned long long)s->identity.cluster.v);
    snprintf(slots, sizeof slots, "%u-%u", shard->slot_first, shard->slot_last);
    reply_map(r, 9);
    reply_pair(r, "cluster", cluster);
    reply_pair(r, "version", s->config.version);
    reply_pair_int(r, "shard", b->group.v);
    reply_pair(r, "keyspace", k->name.at);
    reply_pair(r, "slots", slots);
    reply_pair_int(r, "term", base.term.v);
    reply_pair_int(r, "index", base.index.v);
    reply_pair_int(r, "keys", store_export_keys(b->source));
    reply_pair_int(r, "time", s->wall.ms > 0 ? (uint64_t)s->wall.ms : 0);
}

static bool is_known(const struct server *s, struct group_id group)
{
    const struct meta_shard *shard = meta_shard(&s->meta, group);

    return shard != NULL && meta_keyspace(&s->meta, shard->keyspace) != NULL;
}

static void open(struct server *s, struct backup *b)
{
    struct reply r = {&b->answer->bytes, b->client->resp};

    b->source = store_export_open(s->mem, s->config.kv, b->group);
    if (b->source == NULL) {
        refuse(s, b, "ERR too many readers of the engine are open; try again later");
        return;
    }
    check(store_export_base(b->source).index.v >= b->wanted.v);
    b->state = OPEN;
    b->opened = b->used = s->now;
    server_log(s, LOG_INFO, "client %llu at %s takes a copy of shard %u as of index %llu",
               (unsigned long long)b->client->number, b->client->address, b->group.v,
               (unsigned long long)store_export_base(b->source).index.v);
    reply_head(s, b, &r);
    answered(s, b);
}

static void wait_turn(struct server *s, struct backup *b)
{
    struct slot *slot = server_slot_find(s, b->group);

    if (slot == NULL || slot->shard == NULL || slot->retiring != RETIRE_NOT ||
        !is_known(s, b->group)) {
        refuse(s, b, outcome_row(OUTCOME_NOLEADER)->text);
        return;
    }
    if (store_base(shard_store(slot->shard)).index.v >= b->wanted.v) {
        open(s, b);
        return;
    }
    if (s->now.ns >= b->deadline.ns) {
        refuse(s, b,
               "NOQUORUM what a copy is made of was not committed, or not written in a "
               "checkpoint, in time; this server's log may say why; try again");
        return;
    }
    if (shard_applied(slot->shard).v < b->wanted.v || s->now.ns < b->ask_at.ns) return;
    b->ask_at.ns = s->now.ns + ASK_AGAIN_MS * MS_NS;
    if (shard_busy(slot->shard)) return;
    shard_want_checkpoint(slot->shard);
    slot_touch(s, slot);
}

/* A majority has confirmed that this server led when BEGIN came, or nobody has. */
static void asked(struct server *s, struct request *r, const struct forward_reply *reply,
                  enum outcome o)
{
    struct answer *a = r->answer;
    struct backup *b = a->client == NULL ? NULL : a->client->backup;
    const struct slot *slot = server_slot_find(s, r->group);
    (void)reply;

    if (b == NULL || b->answer != a) {
        answer_error(s, a, OUTCOME_NOLEADER); /* nobody hears it */
    } else if (o == OUTCOME_NONE && leads(slot) &&
               shard_term(slot->shard).v == b->term.v) {
        b->state = WAITS;
    } else {
        refuse(s, b, outcome_row(o == OUTCOME_NONE ? OUTCOME_NOLEADER : o)->text);
    }
}

static void ask(struct server *s, struct backup *b)
{
    struct request *r = request_new(s, FORWARD_WATCH, b->group, 2);
    const struct forward f = {.kind = FORWARD_WATCH, .resp = 2}; /* of no key */

    forward_encode(&r->body, &f);
    r->origin = FROM_SERVER;
    r->client = b->client->conn;
    r->done = asked;
    r->reads_only = true;
    r->read = READ_LINEARIZABLE;
    r->answer = b->answer;
    request_submit(s, r);
}

/* Where the leader is, in Redis Cluster's words; nothing is known of it: NOLEADER. */
static void moved(struct server *s, struct client *c, const struct meta_shard *shard)
{
    const struct server_id leader = admin_leader(s, shard->group);
    const struct meta_server *server = meta_server(&s->meta, leader);
    char text[META_ADDRESS_MAX + 32];

    if (server == NULL || leader.v == s->identity.server.v) {
        session_outcome(s, c, OUTCOME_NOLEADER);
        return;
    }
    snprintf(text, sizeof text, "MOVED %u %s", shard->slot_first, server->client.at);
    session_error(s, c, text);
}

static void begin(struct server *s, struct client *c, struct bytes number)
{
    int64_t v = 0;
    const bool is_number = parse_i64(number, &v) && v > META_GROUP && v <= UINT32_MAX;
    const struct group_id group = {is_number ? (uint32_t)v : META_GROUP};
    const struct slot *slot = server_slot_find(s, group);
    struct raft_info info;

    backup_end(s, c);
    if (!is_number || !is_known(s, group)) {
        session_error(s, c,
                      "ERR there is no such shard; SHARD LIST shows those there are");
        return;
    }
    if (!leads(slot)) {
        moved(s, c, meta_shard(&s->meta, group));
        return;
    }
    if (s->n_backups == BACKUPS_MAX) {
        session_error(s, c,
                      "FULL this server gives out as many copies as it may at a time; "
                      "try again later");
        return;
    }
    struct backup *b = mem_zero(s->mem, sizeof *b);
    raft_info(shard_raft(slot->shard), &info);
    b->client = c;
    b->group = group;
    b->state = ASKS;
    b->answer = answer_open(c);
    b->term = info.term;
    b->wanted = info.last;
    b->deadline.ns = s->now.ns + WAIT_MS * MS_NS;
    b->next = s->backups;
    s->backups = b;
    s->n_backups++;
    c->backup = b;
    c->held = true;
    ask(s, b);
}

/* ---- NEXT ---- */

static void next(struct server *s, struct client *c)
{
    struct backup *b = c->backup;

    if (b == NULL) {
        session_error(s, c, "ERR no copy has been begun here; BACKUP BEGIN shard");
        return;
    }
    if (b->state == ENDED) {
        session_error(s, c,
                      "ERR the copy was ended: for a minute nothing was asked of it, or "
                      "it went on by less than 1 MB in a second; begin again");
        return;
    }
    check(b->state == OPEN); /* while BEGIN waits, the client is held */
    if (!mem_room(s->mem, 2 * GIVEN_BYTES)) {
        session_outcome(s, c, OUTCOME_FULL_MEMORY);
        return;
    }
    struct buf piece = buf_new(s->mem);
    const bool any = store_export_read(b->source, GIVEN_BYTES, &piece);
    struct reply r = answer_now(c);
    if (any)
        reply_bulk(&r, buf_bytes(&piece));
    else
        reply_null(&r);
    answer_now_done(s, c);
    b->given += piece.len;
    b->used = s->now;
    buf_free(&piece);
    if (!any) backup_free(s, b);
}

static bool is_too_old(const struct server *s, const struct backup *b)
{
    const uint64_t due_ns = b->given / RATE_BYTES_S * SEC_NS + GRACE_MS * MS_NS;

    return s->now.ns - b->opened.ns > due_ns || s->now.ns - b->used.ns > IDLE_MS * MS_NS;
}

void backups_turn(struct server *s)
{
    struct backup *after;

    for (struct backup *b = s->backups; b != NULL; b = after) {
        after = b->next;
        if (b->state == WAITS) {
            wait_turn(s, b);
        } else if (b->state == OPEN && is_too_old(s, b)) {
            server_log(
                s, LOG_WARNING,
                "the copy of shard %u that client %llu takes was ended: it is too slow",
                b->group.v, (unsigned long long)b->client->number);
            source_close(b);
            b->state = ENDED;
        }
    }
}

void backup_command(struct server *s, struct client *c, const struct command *command,
                    const struct bytes *args)
{
    switch ((int)command->id) {
    case COMMAND_BACKUP_BEGIN: begin(s, c, args[2]); return;
    case COMMAND_BACKUP_NEXT: next(s, c); return;
    default:
        backup_end(s, c);
        session_simple(s, c, "OK");
        return;
    }
}
