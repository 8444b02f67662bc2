/* SPDX-License-Identifier: Apache-2.0 */
/* rollback - what another leader's log has taken the place of.
 *
 * A shard whose answers leave before the commit (MODE primary) may lose what a client was told
 * of, when its primary is replaced.  It is not lost without a trace: whoever held such entries
 * writes them to a file as it gives them up.  The name tells group, term and indexes, so that a
 * restart, which meets the same entries in its log again, makes no second one.  Behind a snapshot
 * nobody can tell whether it contains them: then they are kept all the same.
 *
 * The world makes the file, tries until it is there, and says so (server_rollback_done): until then
 * the log of that shard is not cut, and a replica that has to go stays.
 *
 *   bytes of a ROLLBACK: u32 shard, then for each entry u64 term, u64 index, u32 length, payload
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

static void put_effect(struct buf *out, uint32_t shard, uint64_t term, uint64_t index,
                       const struct effect *e)
{
    const struct term t = {term};

    buf_putf(out,
             "{\"shard\":%u,\"epoch\":%u,\"term\":%llu,\"index\":%llu,\"change\":\"%s\"",
             shard, term_epoch(t), (unsigned long long)term_number(t),
             (unsigned long long)index, change_name(e->kind));
    put_text(out, "key", e->key);
    if (e->field.len > 0) put_text(out, "field", e->field);
    if (e->kind == EFFECT_PUT || e->kind == EFFECT_ADD) put_text(out, "value", e->value);
    if (e->kind == EFFECT_ADD) buf_putf(out, ",\"delta\":%lld", (long long)e->delta);
    if (e->deadline_ms != 0)
        buf_putf(out, ",\"deadline_ms\":%lld", (long long)e->deadline_ms);
    buf_putf(out, "}\n");
}

bool server_rollback_shard(struct cursor *in, uint32_t *shard)
{
    return get_u32(in, shard);
}

bool server_rollback_lines(struct cursor *in, uint32_t shard, struct buf *out)
{
    uint64_t term, index;
    uint32_t len;
    struct bytes payload;
    struct effect e;

    if (!get_u64(in, &term) || !get_u64(in, &index) || !get_u32(in, &len) ||
        !get_bytes(in, len, &payload))
        return false;
    struct cursor effects = cursor_of(payload);
    while (effect_decode(&effects, &e) == EFFECT_OK)
        if ((e.flags & EFFECT_SYSTEM) == 0) put_effect(out, shard, term, index, &e);
    return true;
}

void rollback_keep(struct server *s, struct slot *slot, const struct raft_entry *entries,
                   uint32_t n)
{
    struct buf raw = buf_new(s->mem);
    char name[80];

    buf_put_u32(&raw, slot->group.v);
    for (uint32_t i = 0; i < n; i++) {
        buf_put_u64(&raw, entries[i].term.v);
        buf_put_u64(&raw, entries[i].index.v);
        buf_put_u32(&raw, (uint32_t)entries[i].payload.len);
        buf_put(&raw, entries[i].payload.at, entries[i].payload.len);
    }
    snprintf(name, sizeof name, "shard-%u-term-%llu-%llu-%llu.jsonl", slot->group.v,
             (unsigned long long)entries[n - 1].term.v,
             (unsigned long long)entries[0].index.v,
             (unsigned long long)entries[n - 1].index.v);
    struct server_action *a = server_act(s, SERVER_ROLLBACK);
    a->group = slot->group;
    a->bytes = server_keep(s, buf_bytes(&raw));
    a->text = (const char *)server_keep(
                  s, (struct bytes){(const uint8_t *)name, strlen(name) + 1})
                  .at;
    slot->n_keeping++;
    s->stats.discarded_entries += n;
    server_log(
        s, LOG_WARNING,
        "shard %u: %u entries of an earlier leadership, not known to be committed, "
        "gave way to the log of the new one; they go to rollback/%s",
        slot->group.v, n, name);
    buf_free(&raw);
}

void server_rollback_done(struct server *s, struct group_id group)
{
    struct slot *slot = server_slot_find(s, group);

    if (s->phase == PHASE_ENDED) return;
    check(slot != NULL && slot->n_keeping > 0);
    slot->n_keeping--;
    slot_touch(s, slot);
}
