/* SPDX-License-Identifier: Apache-2.0 */
/* closing - what the leaders of shards do for keyspaces that come and go (meta/settle.c), and
 * what the meta leader makes of it.
 *
 * The leader of each shard that must close itself (default's for a keyspace that comes, its
 * own for one that goes) does so in its log, counts, and reports to the meta leader, again
 * and again until the view shows that the keyspace is settled.  Nothing here is kept over a
 * start or a change of leaders: who leads next finds in the log what is closed, and begins its
 * count anew. */
#include "server/server_state.h"

enum {
    CHECK_MS = 200,      /* shards led here are compared with the view */
    REPORT_MS = 200,     /* a report is made again */
    COUNT_STEPS = 2048,  /* keys looked at in a turn, for one keyspace in one shard */
    OPENED_AT_ONCE = 32, /* names, in a turn */
    PASS_OVER_MS =
        10000, /* a shard to be dropped that has no majority is not waited for */
};

struct closing { /* one shard led here closes itself for one keyspace */
    uint32_t keyspace;
    enum meta_keyspace_state state; /* for which it was begun */
    struct slot *slot;
    struct term term;
    struct shard_count count;
    struct instant count_at, report_at; /* not before */
    struct request *report;             /* on its way; NULL: none */
    struct closing *next;
};

struct closing_report { /* what the meta leader was told */
    struct group_id group;
    uint64_t keys;
};

struct settling { /* a keyspace that comes or goes, as the meta leader sees it */
    uint32_t keyspace;
    enum meta_keyspace_state state;
    struct instant since;
    struct closing_report *reports;
    uint32_t n_reports, cap;
    struct settling *next;
};

/* ---- reports, at the shard's leader ---- */

static struct closing *closing_find(struct server *s, uint32_t keyspace,
                                    struct group_id group)
{
    struct closing *c = s->closings;

    while (c != NULL && (c->keyspace != keyspace || c->slot->group.v != group.v))
        c = c->next;
    return c;
}

static void report_done(struct server *s, struct request *r,
                        const struct forward_reply *reply, enum outcome o)
{
    struct closing *c = s->closings;

    (void)reply;
    (void)o; /* if it came to nothing it is told again */
    while (c != NULL && c->report != r)
        c = c->next;
    if (c == NULL) return; /* settled meanwhile */
    c->report = NULL;
    c->report_at.ns = s->now.ns + REPORT_MS * MS_NS;
}

static void report(struct server *s, struct closing *c)
{
    uint8_t keyspace[4], group[4], keys[8];

    store_u32le(keyspace, c->keyspace);
    store_u32le(group, c->slot->group.v);
    store_u64le(keys, c->count.keys);
    const struct bytes args[] = {BYTES_OF("CLOSED"),
                                 {keyspace, sizeof keyspace},
                                 {group, sizeof group},
                                 {keys, sizeof keys}};
    struct request *r = request_to_meta(s, 2, args, 4);
    r->done = report_done;
    c->report = r;
    request_submit(s, r);
}

/* ---- closing and counting ---- */

/* What is past its deadline is no key any more, but only once that is logged: then it can't
 * be there again under a leader with another clock. */
static bool count_step(struct server *s, struct closing *c, struct bytes name)
{
    if (s->now.ns < c->count_at.ns) return false;
    shard_count_prefix(c->slot->shard, name, s->wall, COUNT_STEPS, &c->count);
    if (!c->count.done) return true;
    if (c->count.keys > 0 || c->count.due == 0) return false;
    c->count = (struct shard_count){.done = false};
    c->count_at.ns = s->now.ns + CHECK_MS * MS_NS;
    return false;
}

static void close_shard(struct server *s, struct closing *c, struct bytes name,
                        enum shard_closing level)
{
    if (shard_close(c->slot->shard, name, c->keyspace, level) == SHARD_TAKEN)
        slot_touch(s, c->slot);
}

/* One step; true: there is more to do at once. */
static bool closing_step(struct server *s, struct closing *c,
                         const struct meta_keyspace *k)
{
    const bool creating = k->state == KEYSPACE_CREATING;
    const struct bytes name = {(const uint8_t *)k->name.at, creating ? k->name.len : 0};
    struct shard *shard = c->slot->shard;
    struct shard_closed closed;

    const bool is_closed = shard_closed(shard, name, &closed);
    if (is_closed && closed.keyspace > k->id) return false; /* our view is an old one */
    if (!is_closed || closed.keyspace != k->id) {
        close_shard(s, c, name, creating ? CLOSING_WRITES : CLOSING_ALL);
        return false;
    }
    if (closed.level == CLOSING_WRITES) {
        if (!c->count.done && count_step(s, c, name)) return true;
        if (!c->count.done) return false;
        /* With none of them here no read has an answer but none, and soon the keys are
         * another shard's. */
        if (c->count.keys == 0) {
            close_shard(s, c, name, CLOSING_ALL);
            return false;
        }
    }
    const bool committed = closed.change.v <= shard_applied(shard).v;
    if (committed && c->report == NULL && s->now.ns >= c->report_at.ns) report(s, c);
    return false;
}

static bool still_leads(const struct closing *c)
{
    return c->slot->shard != NULL && c->slot->retiring == RETIRE_NOT &&
           shard_leads(c->slot->shard) && shard_term(c->slot->shard).v == c->term.v;
}

static bool closings_step(struct server *s)
{
    struct closing **at = &s->closings;
    bool more = false;

    while (*at != NULL) {
        struct closing *c = *at;
        const struct meta_keyspace *k = meta_keyspace(&s->meta, c->keyspace);
        if (k == NULL || k->state != c->state || !still_leads(c)) {
            *at = c->next;
            mem_free(s->mem, c, sizeof *c);
            continue;
        }
        more |= closing_step(s, c, k);
        at = &c->next;
    }
    return more;
}

/* ---- opening again ---- */

/* A view that is older than the keyspace says nothing about it. */
static bool is_gone(const struct server *s, uint32_t keyspace)
{
    return keyspace < s->meta.cluster.next_keyspace &&
           meta_keyspace(&s->meta, keyspace) == NULL;
}

struct opened {
    uint8_t len;
    uint8_t name[META_NAME_MAX];
};

/* Names of keyspaces that are gone belong to default again.  True: there may be more. */
static bool open_step(struct server *s, struct slot *slot)
{
    struct opened found[OPENED_AT_ONCE];
    struct key_place place = {0};
    struct shard_closed closed;
    struct bytes name;
    uint32_t n = 0, skip = 0;

    while (n < OPENED_AT_ONCE &&
           shard_closed_next(slot->shard, &place, &skip, &name, &closed)) {
        if (!is_gone(s, closed.keyspace) || name.len == 0) continue;
        found[n].len = (uint8_t)name.len;
        memcpy(found[n++].name, name.at, name.len);
    }
    for (uint32_t i = 0; i < n; i++) {
        name = (struct bytes){found[i].name, found[i].len};
        if (shard_close(slot->shard, name, 0, CLOSING_NOT) != SHARD_TAKEN) return true;
        slot_touch(s, slot);
    }
    return n == OPENED_AT_ONCE;
}

/* ---- what the view asks for ---- */

static void closing_begin(struct server *s, const struct meta_keyspace *k,
                          struct slot *slot)
{
    if (closing_find(s, k->id, slot->group) != NULL) return;
    struct closing *c = mem_zero(s->mem, sizeof *c);
    c->keyspace = k->id;
    c->state = k->state;
    c->slot = slot;
    c->term = shard_term(slot->shard);
    c->next = s->closings;
    s->closings = c;
}

/* The shards of keyspace `of` that are led here. */
static struct slot *led_here(struct server *s, uint32_t of, uint32_t *i)
{
    const struct meta_shard *shard;

    while ((shard = meta_shard_of(&s->meta, of, (*i)++)) != NULL) {
        struct slot *slot = server_slot_find(s, shard->group);
        if (slot != NULL && slot->shard != NULL && slot->retiring == RETIRE_NOT &&
            shard_leads(slot->shard))
            return slot;
    }
    return NULL;
}

static void look(struct server *s)
{
    struct slot *slot;

    for (uint32_t k = 0; k < s->meta.n_keyspaces; k++) {
        const struct meta_keyspace *keyspace = s->meta.keyspaces[k];
        const uint32_t of = meta_closes(keyspace);
        uint32_t i = 0;
        while (of != 0 && (slot = led_here(s, of, &i)) != NULL)
            closing_begin(s, keyspace, slot);
    }
    const struct meta_keyspace *whole = meta_keyspace_named(&s->meta,
                                                            BYTES_OF("default"));
    uint32_t i = 0;
    while (whole != NULL && (slot = led_here(s, whole->id, &i)) != NULL) {
        const struct term term = shard_term(slot->shard);
        if (slot->opened_version == s->meta.version && slot->opened_term.v == term.v)
            continue;
        if (open_step(s, slot)) continue;
        slot->opened_version = s->meta.version;
        slot->opened_term = term;
    }
}

/* ---- the meta leader ---- */

static struct settling *settling_of(struct server *s, const struct meta_keyspace *k)
{
    struct settling *t = s->settlings;

    while (t != NULL && (t->keyspace != k->id || t->state != k->state))
        t = t->next;
    if (t != NULL) return t;
    t = mem_zero(s->mem, sizeof *t);
    t->keyspace = k->id;
    t->state = k->state;
    t->since = s->now;
    t->next = s->settlings;
    s->settlings = t;
    return t;
}

static void settling_free(struct server *s, struct settling *t)
{
    mem_free(s->mem, t->reports, t->cap * sizeof *t->reports);
    mem_free(s->mem, t, sizeof *t);
}

static void forget_settled(struct server *s)
{
    struct settling **at = &s->settlings;

    while (*at != NULL) {
        struct settling *t = *at;
        const struct meta_keyspace *k = meta_keyspace(&s->meta, t->keyspace);
        if (k != NULL && k->state == t->state) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        settling_free(s, t);
    }
}

static struct closing_report *report_of(struct settling *t, struct group_id group)
{
    for (uint32_t i = 0; i < t->n_reports; i++)
        if (t->reports[i].group.v == group.v) return &t->reports[i];
    return NULL;
}

/* Only of what the view shows: so there are no more of them than shards to be closed. */
static void take_report(struct server *s, uint32_t keyspace, struct group_id group,
                        uint64_t keys)
{
    const struct meta_keyspace *k = meta_keyspace(&s->meta, keyspace);
    const struct meta_shard *shard = meta_shard(&s->meta, group);

    if (k == NULL || shard == NULL || meta_closes(k) == 0) return;
    if (shard->keyspace != meta_closes(k)) return;
    struct settling *t = settling_of(s, k);
    if (report_of(t, group) != NULL) return;
    if (t->n_reports == t->cap) {
        const uint32_t cap = t->cap == 0 ? 4 : t->cap * 2;
        t->reports = mem_resize(s->mem, t->reports, t->cap * sizeof *t->reports,
                                cap * sizeof *t->reports);
        t->cap = cap;
    }
    t->reports[t->n_reports++] = (struct closing_report){group, keys};
}

static bool has_majority(const struct server *s, const struct meta_shard *shard)
{
    uint32_t n = 0;

    for (uint8_t i = 0; i < shard->n_voters; i++)
        n += reconcile_alive(s, shard->voters[i]);
    return n > shard->n_voters / 2u;
}

/* A shard that is to go and has lost its majority would never report; it takes no writes
 * either, but from clients that are cut off from us together with it. */
static bool is_closed(void *ctx, const struct meta_keyspace *k,
                      const struct meta_shard *shard, uint64_t *keys)
{
    struct server *s = ctx;
    struct settling *t = settling_of(s, k);
    const struct closing_report *r = report_of(t, shard->group);

    if (r != NULL) *keys = r->keys;
    if (r != NULL) return true;
    return k->state == KEYSPACE_DROPPING && !has_majority(s, shard) &&
           s->now.ns > t->since.ns + PASS_OVER_MS * MS_NS;
}

bool closings_settle(struct server *s, struct meta_change *change)
{
    const struct meta_judge judge = {reconcile_health, s};

    return meta_settle(&s->meta, &judge, is_closed, s, change);
}

bool closings_report(struct server *s, const struct bytes *args, uint32_t n_args)
{
    if (n_args != 4 || !bytes_equal(args[0], BYTES_OF("CLOSED"))) return false;
    if (args[1].len != 4 || args[2].len != 4 || args[3].len != 8) return false;
    take_report(s, load_u32le(args[1].at), (struct group_id){load_u32le(args[2].at)},
                load_u64le(args[3].at));
    return true;
}

/* ---- the whole ---- */

bool closings_turn(struct server *s)
{
    if (s->phase != PHASE_RUNNING) return false;
    if (s->closings_seen != s->meta.version || s->now.ns >= s->closings_at.ns) {
        s->closings_seen = s->meta.version;
        s->closings_at.ns = s->now.ns + CHECK_MS * MS_NS;
        forget_settled(s);
        look(s);
    }
    return closings_step(s);
}

void closings_free(struct server *s)
{
    while (s->closings != NULL) {
        struct closing *c = s->closings;
        s->closings = c->next;
        mem_free(s->mem, c, sizeof *c);
    }
    while (s->settlings != NULL) {
        struct settling *t = s->settlings;
        s->settlings = t->next;
        settling_free(s, t);
    }
}
