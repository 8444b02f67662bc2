/* SPDX-License-Identifier: Apache-2.0 */
/* gather - asks every server for a report of its replicas, and answers with what came. */
#include "server/report.h"

enum {
    REPLICAS_WAIT_MS = 1000,
    DIGESTS_TAKEN_WAIT_MS = 60000,
    MISSED_WAIT_MS = 100,
};

/* ---- life ---- */

static struct gather *gather_new(struct server *s, enum report_kind ask,
                                 uint32_t keyspace)
{
    struct gather *g = mem_zero(s->mem, sizeof *g);
    struct gather **end = &s->gathers;

    g->ask = ask;
    g->keyspace = keyspace;
    while (*end != NULL)
        end = &(*end)->next;
    *end = g;
    return g;
}

static void gather_free(struct server *s, struct gather *g)
{
    for (uint32_t i = 0; i < g->n_parts; i++) {
        report_rows_free(s, g->parts[i].rows, g->parts[i].n_rows);
        buf_free(&g->parts[i].body);
    }
    mem_free(s->mem, g->parts, g->n_parts * sizeof *g->parts);
    if (g->own != NULL) digests_free(s, g->own);
    mem_free(s->mem, g, sizeof *g);
}

void gather_ask(struct server *s, struct client *c, enum report_kind ask,
                uint32_t keyspace)
{
    struct gather *g = s->gathers;
    struct gather_wait *w = mem_zero(s->mem, sizeof *w);

    while (g != NULL && (g->begun || g->ask != ask || g->keyspace != keyspace))
        g = g->next;
    if (g == NULL) g = gather_new(s, ask, keyspace);
    *w = (struct gather_wait){answer_open(c), c->resp, g->waits};
    g->waits = w;
}

void gathers_free(struct server *s)
{
    reports_free(s);
    while (s->gathers != NULL) {
        struct gather *g = s->gathers;
        s->gathers = g->next;
        while (g->waits != NULL) {
            struct gather_wait *w = g->waits;
            g->waits = w->next;
            if (w->answer->client == NULL) answer_free(s, w->answer);
            mem_free(s->mem, w, sizeof *w);
        }
        gather_free(s, g);
    }
}

/* ---- asking ---- */

static uint64_t wait_ns(const struct server *s, const struct gather *g,
                        const struct peer *p)
{
    const uint64_t timeout_ns = s->config.limits.request_timeout_ns;
    uint64_t most_ns = timeout_ns;

    if (p->missed.ns != 0 && p->heard.ns <= p->missed.ns)
        most_ns = MISSED_WAIT_MS * MS_NS;
    else if (g->ask == REPORT_ASK_REPLICAS)
        most_ns = REPLICAS_WAIT_MS * MS_NS;
    return most_ns < timeout_ns ? most_ns : timeout_ns;
}

static void ask_server(struct server *s, const struct gather *g, struct gather_part *part)
{
    const struct report ask = {.kind = g->ask, .id = g->id, .keyspace = g->keyspace};
    const struct peer *p = peer_find(s, part->server);
    size_t start;
    struct buf *body = peer_say(s, part->server, (struct group_id){META_GROUP},
                                MESSAGE_REPORT, &start);

    if (body == NULL) {
        part->state = PART_LOST;
        return;
    }
    report_encode(body, &ask);
    peer_said(s, part->server, start);
    part->incarnation = p->incarnation;
    part->deadline.ns = s->now.ns + wait_ns(s, g, p);
}

/* All are asked in the same turn: without writes they then tell of the same positions. */
static void gather_begin(struct server *s, struct gather *g)
{
    const struct meta *m = &s->meta;

    g->begun = true;
    g->id = prng_next(&s->prng);
    g->parts = mem_zero(s->mem, (m->n_servers + 1) * sizeof *g->parts);
    g->parts[g->n_parts++].server = s->identity.server;
    for (uint32_t i = 0; i < m->n_servers; i++)
        if (m->servers[i]->id.v != s->identity.server.v)
            g->parts[g->n_parts++].server = m->servers[i]->id;
    g->parts = mem_resize(s->mem, g->parts, (m->n_servers + 1) * sizeof *g->parts,
                          g->n_parts * sizeof *g->parts);
    for (uint32_t i = 0; i < g->n_parts; i++) {
        g->parts[i].state = PART_ASKED;
        g->parts[i].body = buf_new(s->mem);
        if (i > 0) ask_server(s, g, &g->parts[i]);
    }
    if (g->ask == REPORT_ASK_DIGESTS) g->own = digests_begin(s, g->keyspace);
}

/* ---- answers ---- */

static struct gather_part *part_find(const struct gather *g, struct server_id id)
{
    for (uint32_t i = 0; i < g->n_parts; i++)
        if (g->parts[i].server.v == id.v) return &g->parts[i];
    return NULL;
}

const struct gather_part *gather_part(const struct gather *g, struct server_id id)
{
    return part_find(g, id);
}

const struct report_row *gather_row(const struct gather_part *part, struct group_id group)
{
    uint32_t lo = 0, hi = part->n_rows;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (part->rows[mid].group.v < group.v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < part->n_rows && part->rows[lo].group.v == group.v ? &part->rows[lo]
                                                                  : NULL;
}

static void keep_rows(struct server *s, struct gather_part *part, struct report r)
{
    buf_put(&part->body, r.rows.at, cursor_left(&r.rows));
    r.rows = cursor_of(buf_bytes(&part->body));
    part->state = PART_ANSWERED;
    part->n_rows = r.n_rows;
    if (r.n_rows > 0) part->rows = mem_alloc(s->mem, r.n_rows * sizeof *part->rows);
    for (uint32_t i = 0; i < r.n_rows; i++)
        report_next_row(&r, &part->rows[i]);
}

void gather_answer(struct server *s, struct server_id from, const struct report *r)
{
    const enum report_kind of = r->kind == REPORT_REPLICAS ? REPORT_ASK_REPLICAS
                                                           : REPORT_ASK_DIGESTS;
    struct gather *g = s->gathers;

    while (g != NULL && (!g->begun || g->id != r->id))
        g = g->next;
    struct gather_part *part = g == NULL ? NULL : part_find(g, from);
    if (part == NULL || g->ask != of) return; /* of an older question */
    if (part->state != PART_ASKED && part->state != PART_TAKEN) return; /* too late */
    if (r->kind != REPORT_TAKEN) {
        keep_rows(s, part, *r);
    } else if (part->state == PART_ASKED) {
        part->state = PART_TAKEN;
        part->deadline.ns = s->now.ns + DIGESTS_TAKEN_WAIT_MS * MS_NS;
    }
}

/* ---- the end ---- */

/* Of another server.  True: nothing more will come. */
static bool part_ended(struct server *s, struct gather_part *part)
{
    struct peer *p = peer_find(s, part->server);

    if (part->state != PART_ASKED && part->state != PART_TAKEN) return true;
    if (p == NULL || p->way == NULL || p->incarnation.v != part->incarnation.v) {
        part->state = PART_LOST;
    } else if (s->now.ns >= part->deadline.ns) {
        part->state = PART_SILENT;
        p->missed = s->now;
    }
    return part->state == PART_LOST || part->state == PART_SILENT;
}

static bool gather_ended(struct server *s, const struct gather *g)
{
    bool all = g->own == NULL || digests_ready(s, g->own);

    for (uint32_t i = 1; i < g->n_parts; i++)
        all = part_ended(s, &g->parts[i]) && all;
    return all;
}

static bool is_wanted(const struct gather *g)
{
    for (const struct gather_wait *w = g->waits; w != NULL; w = w->next)
        if (w->answer->client != NULL) return true;
    return false;
}

static void own_part(struct server *s, struct gather *g)
{
    struct gather_part *own = &g->parts[0];

    own->state = PART_ANSWERED;
    own->n_rows = g->own == NULL ? report_replicas(s, g->keyspace, &own->rows)
                                 : digests_rows(s, g->own, &own->rows);
}

static void gather_end(struct server *s, struct gather *g)
{
    if (g->begun) own_part(s, g);
    while (g->waits != NULL) {
        struct gather_wait *w = g->waits;
        struct reply r = {&w->answer->bytes, w->resp};
        g->waits = w->next;
        if (w->answer->client != NULL) {
            if (g->ask == REPORT_ASK_DIGESTS)
                gather_digest_reply(s, g, &r);
            else
                gather_shards_reply(s, g, &r);
        }
        answer_ready(s, w->answer);
        mem_free(s->mem, w, sizeof *w);
    }
    gather_free(s, g);
}

/* Older ones are before it in the list. */
static bool must_wait(const struct server *s, const struct gather *g)
{
    const struct gather *other = s->gathers;

    while (other != g && (other->ask != g->ask || other->keyspace != g->keyspace))
        other = other->next;
    return other != g;
}

void gathers_turn(struct server *s)
{
    struct gather **at = &s->gathers;

    reports_turn(s);
    while (*at != NULL) {
        struct gather *g = *at;
        if (!g->begun && !must_wait(s, g) && is_wanted(g)) gather_begin(s, g);
        if (is_wanted(g) && (!g->begun || !gather_ended(s, g))) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        gather_end(s, g);
    }
}
