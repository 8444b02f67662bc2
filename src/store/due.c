/* SPDX-License-Identifier: Apache-2.0 */
/* What is due: the least of the hints in the two tables and the T entries of the engine.
 *
 * A hint or entry counts only while its record is the newest that is committed; one that
 * is not is dropped or passed for good.  One that only something staged hides (the delete
 * that a due key leads to, as a rule) is set aside until that is committed, which makes
 * it stale, or dropped, which brings it back: so a thousand keys due at once cost a
 * thousand steps, and not each call a walk past those that are on their way. */
#include "base/check.h"
#include "store/store_state.h"

void due_reset(struct store *s)
{
    s->due_state = DUE_UNREAD;
    ekey_kind(&s->due_at, 'T', s->root.gen);
    s->next_known = false;
}

void due_unpark(struct store *s)
{
    table_unpark(s->table);
    if (s->frozen != NULL) table_unpark(s->frozen);
    s->next_known = false;
}

void due_add(struct store *s, int64_t deadline_ms)
{
    if (deadline_ms <= 0 || !s->next_known) return;
    if (s->next_any && s->next_ms <= deadline_ms) return;
    s->next_any = true;
    s->next_ms = deadline_ms;
}

/* The engine's first entry that is not passed yet. */
static bool engine_due(struct store *s, int64_t *deadline_ms, struct data_key *at)
{
    if (s->root.gen == 0) return false;
    if (s->due_state == DUE_UNREAD) {
        struct bytes key, value;
        const bool any = s->config.kv.ops->seek(s->reader, ekey_bytes(&s->due_at), &key,
                                                &value);

        if (any && ekey_is_of(key, 'T', s->root.gen)) {
            check(key.len < KV_KEY_MAX);
            memcpy(s->due_at.at, key.at, key.len);
            s->due_at.len = (uint32_t)key.len;
            s->due_state = DUE_FOUND;
        } else {
            s->due_state = DUE_NONE;
        }
    }
    if (s->due_state == DUE_NONE) return false;
    check(due_key_decode(ekey_bytes(&s->due_at), deadline_ms, at));
    return true;
}

static void engine_pass(struct store *s)
{
    check(s->due_state == DUE_FOUND);

    s->due_at.at[s->due_at.len++] = 0; /* the least key above this one */
    s->due_state = DUE_UNREAD;
    s->next_known = false;
}

struct candidate {
    struct table *table; /* NULL: the engine's */
    struct hint *hint;
    struct data_key at;
    int64_t deadline_ms;
};

static bool first_due(struct store *s, struct candidate *out)
{
    struct table *tables[] = {s->table, s->table->wiped ? NULL : s->frozen};
    bool any = false;

    for (uint32_t i = 0; i < 2; i++) {
        int64_t deadline_ms;
        struct hint *hint = tables[i] != NULL ? table_first_due(tables[i], &deadline_ms)
                                              : NULL;
        if (hint == NULL || (any && out->deadline_ms <= deadline_ms)) continue;
        *out = (struct candidate){tables[i], hint, {0}, deadline_ms};
        any = true;
    }
    if (s->table->wiped || (s->frozen != NULL && s->frozen->wiped)) return any;

    int64_t deadline_ms;
    struct data_key at;
    if (!engine_due(s, &deadline_ms, &at)) return any;
    if (any && out->deadline_ms <= deadline_ms) return any;
    *out = (struct candidate){NULL, NULL, at, deadline_ms};
    return true;
}

static void set_aside(struct store *s, const struct candidate *c, bool park)
{
    if (c->table != NULL)
        table_drop_due(c->table, park);
    else
        engine_pass(s);
    s->next_known = false;
}

/* The whole key of a candidate; false: the engine has no such record. */
static void candidate_key(struct store *s, const struct candidate *c, struct bytes *key)
{
    if (c->table != NULL) {
        *key = node_key(c->hint->node);
        return;
    }
    if (c->at.suffix.len <= STORE_KEY_INLINE) {
        *key = c->at.suffix;
        return;
    }
    struct ekey at;
    struct bytes value;
    struct record r;
    ekey_data(&at, s->root.gen, c->at.place, c->at.suffix);
    check(s->config.kv.ops->get(s->reader, ekey_bytes(&at), &value));
    check(record_decode(value, &r));
    check((r.flags & RECORD_LONG_KEY) != 0);
    *key = r.key;
}

bool store_due(struct store *s, struct wall now, struct bytes *key)
{
    struct candidate c;

    while (first_due(s, &c) && c.deadline_ms <= now.ms) {
        const uint64_t place = c.table != NULL ? c.hint->node->place : c.at.place;
        struct bytes at;
        bool hidden;

        candidate_key(s, &c, &at);
        const struct node *committed = committed_find(s, place, at, &hidden);
        const bool current = c.table != NULL ? committed == c.hint->node : !hidden;
        if (current) {
            staged_find(s, place, at, &hidden);
            if (!hidden) {
                s->due_key.len = 0;
                buf_put(&s->due_key, at.at, at.len);
                *key = buf_bytes(&s->due_key);
                return true;
            }
        }
        set_aside(s, &c, current);
    }
    return false;
}

bool store_next_deadline(struct store *s, struct wall *at)
{
    if (!s->next_known) {
        struct candidate c;
        s->next_any = first_due(s, &c);
        s->next_ms = s->next_any ? c.deadline_ms : 0;
        s->next_known = true;
    }
    at->ms = s->next_ms;
    return s->next_any;
}
