/* SPDX-License-Identifier: Apache-2.0 */
/* rollback - what another leader's log has taken the place of.
 *
 * A shard whose answers leave before the commit (MODE primary) may lose what a client was told
 * of, when its primary is replaced.  It is not lost without a trace: whoever held such entries
 * writes them to a file as it gives them up.  The name tells group, term and indexes, so that a
 * restart, which meets the same entries in its log again, makes no second one.  Behind a snapshot
 * nobody can tell whether it contains them: then they are kept all the same.
 *
 * One line for each change: {"shard":7,"epoch":0,"term":3,"index":812,"change":"put","key":"a:1",
 * "value":"42","deadline_ms":0}.  Bytes that are not printable ASCII are written as \u00XX, so a
 * value's bytes are the characters' codes. */
#include <stdio.h>

#include "server/server_state.h"

static void put_text(struct buf *out, const char *name, struct bytes text)
{
    static const char hex[] = "0123456789abcdef";

    buf_putf(out, ",\"%s\":\"", name);
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.at[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            buf_put_u8(out, c);
            continue;
        }
        buf_put(out, "\\u00", 4);
        buf_put_u8(out, (uint8_t)hex[c >> 4]);
        buf_put_u8(out, (uint8_t)hex[c & 15]);
    }
    buf_put_u8(out, '"');
}

static const char *change_name(enum effect_kind kind)
{
    switch (kind) {
    case EFFECT_PUT: return "put";
    case EFFECT_ADD: return "add";
    case EFFECT_REMOVE: return "remove";
    case EFFECT_DEADLINE: return "deadline";
    case EFFECT_CLEAR: return "delete";
    case EFFECT_WIPE: return "flush";
    case EFFECT_KIND_END: break;
    }
    return "unknown";
}

static void put_effect(struct buf *out, const struct slot *slot,
                       const struct raft_entry *entry, const struct effect *e)
{
    buf_putf(out,
             "{\"shard\":%u,\"epoch\":%u,\"term\":%llu,\"index\":%llu,\"change\":\"%s\"",
             slot->group.v, term_epoch(entry->term),
             (unsigned long long)term_number(entry->term),
             (unsigned long long)entry->index.v, change_name(e->kind));
    put_text(out, "key", e->key);
    if (e->field.len > 0) put_text(out, "field", e->field);
    if (e->kind == EFFECT_PUT || e->kind == EFFECT_ADD) put_text(out, "value", e->value);
    if (e->kind == EFFECT_ADD) buf_putf(out, ",\"delta\":%lld", (long long)e->delta);
    if (e->deadline_ms != 0)
        buf_putf(out, ",\"deadline_ms\":%lld", (long long)e->deadline_ms);
    buf_putf(out, "}\n");
}

void rollback_keep(struct server *s, const struct slot *slot,
                   const struct raft_entry *entries, uint32_t n)
{
    struct buf text = buf_new(s->mem);
    char name[80];

    for (uint32_t i = 0; i < n; i++) {
        struct cursor in = cursor_of(entries[i].payload);
        struct effect e;
        while (effect_decode(&in, &e) == EFFECT_OK) {
            const bool of_user = (e.flags & EFFECT_SYSTEM) == 0;
            if (of_user) put_effect(&text, slot, &entries[i], &e);
        }
    }
    snprintf(name, sizeof name, "shard-%u-term-%llu-%llu-%llu.jsonl", slot->group.v,
             (unsigned long long)entries[n - 1].term.v,
             (unsigned long long)entries[0].index.v,
             (unsigned long long)entries[n - 1].index.v);
    struct server_action *a = server_act(s, SERVER_ROLLBACK);
    a->bytes = server_keep(s, buf_bytes(&text));
    a->text = (const char *)server_keep(
                  s, (struct bytes){(const uint8_t *)name, strlen(name) + 1})
                  .at;
    s->stats.discarded_entries += n;
    server_log(
        s, LOG_WARNING,
        "shard %u: %u entries of an earlier leadership, not known to be committed, "
        "gave way to the log of the new one; they are kept in rollback/%s",
        slot->group.v, n, name);
    buf_free(&text);
}
