/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of messages, configs and states.  Numbers are varints in their shortest form,
 * so that what decodes has one encoding only.  An entry's term is written as its distance
 * below the message's: nearly always one byte. */
#include "raft/raft.h"

#include <string.h>

enum { FLAGS_KNOWN = 2 * RAFT_QUIET - 1 };

static bool get_server(struct cursor *c, struct server_id *out)
{
    uint64_t v;

    if (!get_varint(c, &v) || v > UINT32_MAX) return false;
    out->v = (uint32_t)v;
    return true;
}

static void put_head(struct buf *out, const struct raft_msg *m)
{
    buf_put_u8(out, (uint8_t)m->kind);
    buf_put_u8(out, m->flags);
    buf_put_varint(out, m->from.v);
    buf_put_varint(out, m->to.v);
    buf_put_varint(out, m->term.v);
    buf_put_varint(out, m->index.v);
    buf_put_varint(out, m->log_term.v);
    buf_put_varint(out, m->commit.v);
    buf_put_varint(out, m->round);
    buf_put_varint(out, m->offset);
    buf_put_varint(out, m->sent_ns);
    buf_put_varint(out, m->stamp_ns);
    buf_put_varint(out, m->last.v);
    buf_put_varint(out, m->n_entries);
}

static void put_entry_head(struct buf *out, const struct raft_msg *m,
                           const struct raft_entry *e)
{
    buf_put_varint(out, m->term.v - e->term.v);
    buf_put_u8(out, (uint8_t)e->kind);
    buf_put_varint(out, e->payload.len);
}

void raft_msg_encode(struct buf *out, const struct raft_msg *m)
{
    put_head(out, m);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        put_entry_head(out, m, &m->entries[i]);
        buf_put(out, m->entries[i].payload.at, m->entries[i].payload.len);
    }
    buf_put_blob(out, m->data);
}

const struct raft_entry *raft_msg_encode_around(struct buf *out, const struct raft_msg *m,
                                                size_t *at)
{
    if (m->n_entries != 1 || m->entries[0].block == NULL) {
        raft_msg_encode(out, m);
        return NULL;
    }
    put_head(out, m);
    put_entry_head(out, m, &m->entries[0]);
    *at = out->len;
    buf_put_blob(out, m->data);
    return &m->entries[0];
}

static bool get_entry(struct cursor *c, const struct raft_msg *m, uint32_t nth,
                      struct raft_entry *out)
{
    uint64_t below;
    uint8_t kind;

    if (!get_varint(c, &below) || below > m->term.v) return false;
    if (!get_u8(c, &kind) || kind < RAFT_NOOP || kind > RAFT_CONFIG) return false;
    if (!get_blob(c, &out->payload)) return false;
    out->index.v = m->index.v + 1 + nth;
    out->term.v = m->term.v - below;
    out->block = NULL;
    out->kind = (enum raft_entry_kind)kind;
    return true;
}

bool raft_msg_decode(struct bytes in, struct raft_msg *out, struct raft_entry *entries,
                     uint32_t max)
{
    struct cursor c = cursor_of(in);
    struct raft_msg m = {0};
    uint8_t kind;
    uint64_t n;

    if (!get_u8(&c, &kind) || kind < RAFT_APPEND || kind >= RAFT_MSG_KIND_END)
        return false;
    if (!get_u8(&c, &m.flags) || m.flags > FLAGS_KNOWN) return false;
    if (!get_server(&c, &m.from) || !get_server(&c, &m.to)) return false;
    if (!get_varint(&c, &m.term.v) || !get_varint(&c, &m.index.v) ||
        !get_varint(&c, &m.log_term.v) || !get_varint(&c, &m.commit.v) ||
        !get_varint(&c, &m.round) || !get_varint(&c, &m.offset) ||
        !get_varint(&c, &m.sent_ns) || !get_varint(&c, &m.stamp_ns) ||
        !get_varint(&c, &m.last.v) || !get_varint(&c, &n))
        return false;

    if (n > max || (n > 0 && kind != RAFT_APPEND)) return false;
    if (m.index.v > UINT64_MAX / 2) return false;
    m.kind = (enum raft_msg_kind)kind;
    m.n_entries = (uint32_t)n;
    m.entries = n > 0 ? entries : NULL;
    for (uint32_t i = 0; i < m.n_entries; i++)
        if (!get_entry(&c, &m, i, &entries[i])) return false;
    if (!get_blob(&c, &m.data) || cursor_left(&c) > 0) return false;

    *out = m;
    return true;
}

static void put_ids(struct buf *out, const struct server_id *ids, uint16_t n)
{
    buf_put_varint(out, n);
    for (uint16_t i = 0; i < n; i++)
        buf_put_varint(out, ids[i].v);
}

static bool has_id(const struct server_id *ids, uint16_t n, struct server_id id)
{
    for (uint16_t i = 0; i < n; i++)
        if (ids[i].v == id.v) return true;
    return false;
}

static bool get_ids(struct cursor *c, struct server_id *ids, uint64_t max, uint16_t *out)
{
    uint64_t n;

    if (!get_varint(c, &n) || n > max) return false;
    *out = (uint16_t)n;
    for (uint16_t i = 0; i < *out; i++)
        if (!get_server(c, &ids[i]) || ids[i].v == 0 || has_id(ids, i, ids[i]))
            return false;
    return true;
}

struct raft_members raft_config_members(const struct raft_config *c)
{
    return (struct raft_members){
        .version = c->version,
        .n_voters = c->n_voters,
        .n_old = c->n_old,
        .n_learners = c->n_learners,
        .voters = c->voters,
        .old = c->old,
        .learners = c->learners,
        .rules = c->rules,
        .old_rules = c->old_rules,
    };
}

void raft_members_config(const struct raft_members *m, struct raft_config *out)
{
    *out = (struct raft_config){
        .version = m->version,
        .n_voters = m->n_voters,
        .n_old = m->n_old,
        .n_learners = m->n_learners,
        .rules = m->rules,
        .old_rules = m->old_rules,
    };
    if (m->n_voters > 0) memcpy(out->voters, m->voters, m->n_voters * sizeof *m->voters);
    if (m->n_old > 0) memcpy(out->old, m->old, m->n_old * sizeof *m->old);
    if (m->n_learners > 0)
        memcpy(out->learners, m->learners, m->n_learners * sizeof *m->learners);
}

bool raft_members_has_voter(const struct raft_members *m, struct server_id id)
{
    return has_id(m->voters, m->n_voters, id) || has_id(m->old, m->n_old, id);
}

bool raft_members_has(const struct raft_members *m, struct server_id id)
{
    return raft_members_has_voter(m, id) || has_id(m->learners, m->n_learners, id);
}

/* A voter of the target set is no learner; one of the old set may become one.  All
 * members together must fit the table of peers. */
static bool config_is_sound(const struct raft_config *c)
{
    unsigned members = c->n_voters;

    if (c->n_voters == 0 && c->n_old > 0) return false;
    for (uint16_t i = 0; i < c->n_learners; i++)
        if (has_id(c->voters, c->n_voters, c->learners[i])) return false;
    for (uint16_t i = 0; i < c->n_old; i++)
        members += !has_id(c->voters, c->n_voters, c->old[i]);
    for (uint16_t i = 0; i < c->n_learners; i++)
        members += !has_id(c->old, c->n_old, c->learners[i]);
    return members <= RAFT_PEERS_MAX;
}

/* A minority of copies makes sense only as one: with a majority or more an election would
 * need no more votes than usual. */
static bool rules_are_sound(const struct raft_rules *r, uint32_t n)
{
    return r->copies == 0 || (r->copies > 1 && r->copies < n / 2 + 1);
}

bool raft_rules_equal(const struct raft_rules *a, const struct raft_rules *b)
{
    return a->early == b->early && a->ack == b->ack && a->memory == b->memory &&
           a->copies == b->copies;
}

static void put_rules(struct buf *out, const struct raft_rules *r)
{
    buf_put_u8(out, (uint8_t)(r->early | r->memory << 1));
    buf_put_u8(out, r->ack);
    buf_put_u8(out, r->copies);
}

static bool get_rules(struct cursor *c, struct raft_rules *r)
{
    uint8_t bits;

    if (!get_u8(c, &bits) || bits > 3) return false;
    r->early = bits & 1;
    r->memory = (bits & 2) != 0;
    return get_u8(c, &r->ack) && get_u8(c, &r->copies);
}

void raft_config_encode(struct buf *out, const struct raft_config *c)
{
    put_rules(out, &c->rules);
    put_rules(out, &c->old_rules);
    put_ids(out, c->voters, c->n_voters);
    put_ids(out, c->old, c->n_old);
    put_ids(out, c->learners, c->n_learners);
    buf_put_varint(out, c->version);
}

bool raft_config_decode(struct bytes in, struct raft_config *out)
{
    struct cursor c = cursor_of(in);
    struct raft_config config = {0};

    if (!get_rules(&c, &config.rules) || !get_rules(&c, &config.old_rules)) return false;
    if (!get_ids(&c, config.voters, RAFT_VOTERS_MAX, &config.n_voters)) return false;
    if (!get_ids(&c, config.old, RAFT_VOTERS_MAX, &config.n_old)) return false;
    if (!get_ids(&c, config.learners, RAFT_PEERS_MAX, &config.n_learners)) return false;
    if (!get_varint(&c, &config.version)) return false;
    if (cursor_left(&c) > 0 || !config_is_sound(&config)) return false;
    if (!rules_are_sound(&config.rules, config.n_voters)) return false;
    if (!rules_are_sound(&config.old_rules, config.n_old)) return false;

    *out = config;
    return true;
}

void raft_state_encode(struct buf *out, const struct raft_state *s)
{
    buf_put_varint(out, s->term.v);
    buf_put_varint(out, s->vote.v);
    buf_put_u8(out, (uint8_t)(s->doubtful | s->rebooted << 1));
    buf_put_u64(out, s->boot);
}

bool raft_state_decode(struct bytes in, struct raft_state *out)
{
    struct cursor c = cursor_of(in);
    struct raft_state s = {0};
    uint8_t bits;

    if (!get_varint(&c, &s.term.v) || !get_server(&c, &s.vote)) return false;
    if (!get_u8(&c, &bits) || bits == 2 || bits > 3) return false;
    if (!get_u64(&c, &s.boot) || cursor_left(&c) > 0) return false;

    s.doubtful = bits & 1;
    s.rebooted = (bits & 2) != 0;
    *out = s;
    return true;
}
