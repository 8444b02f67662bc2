/* SPDX-License-Identifier: Apache-2.0 */
#include "data/effect.h"

#include "base/check.h"
#include "data/item.h"

static bool flags_fit(enum effect_kind kind, uint8_t flags)
{
    switch (kind) {
    case EFFECT_PUT: return (flags & ~(EFFECT_CREATED | EFFECT_SYSTEM)) == 0;
    case EFFECT_ADD: return (flags & ~EFFECT_CREATED) == 0;
    case EFFECT_CLEAR: return (flags & ~(EFFECT_EXPIRED | EFFECT_SYSTEM)) == 0;
    case EFFECT_REMOVE:
    case EFFECT_DEADLINE:
    case EFFECT_WIPE: return flags == 0;
    case EFFECT_KIND_END: break;
    }
    return false;
}

static bool system_sound(const struct effect *e)
{
    if ((e->flags & EFFECT_SYSTEM) == 0) return true;
    return e->key.len > 0 && e->key.len <= SYSTEM_KEY_MAX && e->field.len == 0 &&
           e->value.len <= SYSTEM_VALUE_MAX && e->deadline_ms == 0 &&
           (e->flags & EFFECT_EXPIRED) == 0;
}

/* What both sides hold true of an effect; the encoder checks it, the decoder refuses. */
static bool effect_sound(const struct effect *e)
{
    const bool typed = e->kind == EFFECT_PUT || e->kind == EFFECT_ADD;

    if (!flags_fit(e->kind, e->flags)) return false;
    if (e->key.len > KEY_MAX || e->field.len > KEY_MAX) return false;
    if (e->value.len > VALUE_MAX) return false;
    if (e->deadline_ms < 0 || !system_sound(e)) return false;
    if (typed && (e->type <= ITEM_NONE || e->type >= ITEM_TYPE_END)) return false;
    return e->kind != EFFECT_WIPE || e->key.len == 0;
}

size_t effect_size_max(const struct effect *e)
{
    return e->key.len + e->field.len + e->value.len + 64;
}

void effect_encode_head(struct buf *out, const struct effect *e)
{
    check(effect_sound(e));

    buf_put_u8(out, (uint8_t)e->kind);
    buf_put_u8(out, e->flags);
    buf_put_blob(out, e->key);

    switch (e->kind) {
    case EFFECT_PUT:
        buf_put_u8(out, (uint8_t)e->type);
        buf_put_u64(out, (uint64_t)e->deadline_ms);
        buf_put_blob(out, e->field);
        buf_put_varint(out, e->value.len);
        break;
    case EFFECT_ADD:
        buf_put_u8(out, (uint8_t)e->type);
        buf_put_u64(out, (uint64_t)e->deadline_ms);
        buf_put_blob(out, e->field);
        buf_put_u64(out, (uint64_t)e->delta);
        buf_put_varint(out, e->value.len);
        break;
    case EFFECT_REMOVE: buf_put_blob(out, e->field); break;
    case EFFECT_DEADLINE: buf_put_u64(out, (uint64_t)e->deadline_ms); break;
    case EFFECT_CLEAR:
    case EFFECT_WIPE:
    case EFFECT_KIND_END: break;
    }
}

void effect_encode(struct buf *out, const struct effect *e)
{
    buf_reserve(out, effect_size_max(e));
    effect_encode_head(out, e);
    if (e->kind == EFFECT_PUT || e->kind == EFFECT_ADD)
        buf_put(out, e->value.at, e->value.len);
}

static bool get_i64(struct cursor *in, int64_t *out)
{
    uint64_t v;

    if (!get_u64(in, &v)) return false;
    *out = (int64_t)v;
    return true;
}

static bool get_typed(struct cursor *in, struct effect *e)
{
    uint8_t type;

    if (!get_u8(in, &type)) return false;
    e->type = (enum item_type)type;
    if (!get_i64(in, &e->deadline_ms)) return false;
    if (!get_blob(in, &e->field)) return false;
    if (e->kind == EFFECT_ADD && !get_i64(in, &e->delta)) return false;
    return get_blob(in, &e->value);
}

static bool get_effect(struct cursor *in, struct effect *e)
{
    uint8_t kind;

    if (!get_u8(in, &kind) || !get_u8(in, &e->flags)) return false;
    if (kind == 0 || kind >= EFFECT_KIND_END) return false;
    e->kind = (enum effect_kind)kind;
    if (!get_blob(in, &e->key)) return false;

    switch (e->kind) {
    case EFFECT_PUT:
    case EFFECT_ADD: return get_typed(in, e);
    case EFFECT_REMOVE: return get_blob(in, &e->field);
    case EFFECT_DEADLINE: return get_i64(in, &e->deadline_ms);
    case EFFECT_CLEAR:
    case EFFECT_WIPE: return true;
    case EFFECT_KIND_END: break;
    }
    return false;
}

enum effect_result effect_decode(struct cursor *in, struct effect *out)
{
    struct cursor at = *in;
    struct effect e = {0};

    if (cursor_left(in) == 0) return EFFECT_END;
    if (!get_effect(&at, &e) || !effect_sound(&e)) return EFFECT_MALFORMED;
    *in = at;
    *out = e;
    return EFFECT_OK;
}
