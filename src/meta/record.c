/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/record.h"

#include "base/hash.h"
#include "base/text.h"

/* "k/" and the longest name, or "g/" and the longest number. */
enum { RECORD_KEY_MAX = 2 + META_NAME_MAX };

bool meta_name_good(struct bytes name)
{
    if (name.len == 0 || name.len > META_NAME_MAX) return false;
    for (size_t i = 0; i < name.len; i++) {
        const uint8_t c = name.at[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (letter || (c >= '0' && c <= '9')) continue;
        if (c != '_' && c != '.' && c != '-') return false;
    }
    return true;
}

void meta_text_set(struct meta_text *out, struct bytes text)
{
    check(text.len <= META_ADDRESS_MAX);

    *out = (struct meta_text){.len = (uint8_t)text.len};
    if (text.len > 0) memcpy(out->at, text.at, text.len);
}

/* ---- keys ---- */

bool record_key_decode(struct bytes key, struct record_key *out)
{
    if (key.len == 1 && key.at[0] == 'c') {
        *out = (struct record_key){.kind = RECORD_CLUSTER};
        return true;
    }
    if (key.len < 3 || key.at[1] != '/') return false;

    const struct bytes rest = {key.at + 2, key.len - 2};
    if (key.at[0] == 'k') {
        if (!meta_name_good(rest)) return false;
        *out = (struct record_key){.kind = RECORD_KEYSPACE, .name = rest};
        return true;
    }

    int64_t id;
    if (!parse_i64(rest, &id) || id < 0 || id > UINT32_MAX) return false;
    if (key.at[0] != 's' && key.at[0] != 'g') return false;
    if (key.at[0] == 's' && id == 0) return false;
    *out = (struct record_key){
        .kind = key.at[0] == 's' ? RECORD_SERVER : RECORD_SHARD,
        .id = (uint32_t)id,
    };
    return true;
}

static struct bytes key_of_id(uint8_t room[RECORD_KEY_MAX], char kind, uint32_t id)
{
    char digits[I64_TEXT_MAX];
    const size_t len = format_i64(digits, id);

    room[0] = (uint8_t)kind;
    room[1] = '/';
    memcpy(room + 2, digits, len);
    return (struct bytes){room, len + 2};
}

static struct bytes key_of_name(uint8_t room[RECORD_KEY_MAX],
                                const struct meta_text *name)
{
    check(meta_name_good(meta_text_bytes(name)));

    room[0] = 'k';
    room[1] = '/';
    memcpy(room + 2, name->at, name->len);
    return (struct bytes){room, name->len + 2u};
}

/* ---- effects ---- */

static struct buf value_new(const struct buf *effects)
{
    struct buf value = buf_new(effects->mem);

    buf_put_u8(&value, RECORD_VERSION);
    return value;
}

static void put(struct buf *effects, struct bytes key, struct buf *value, bool fresh)
{
    effect_encode(effects, &(struct effect){
                               .kind = EFFECT_PUT,
                               .flags = fresh ? EFFECT_CREATED : 0,
                               .type = ITEM_STRING,
                               .key = key,
                               .value = buf_bytes(value),
                           });
    buf_free(value);
}

void record_put_cluster(struct buf *effects, const struct meta_cluster *c, bool fresh)
{
    struct buf v = value_new(effects);

    buf_put_u64(&v, c->id.v);
    buf_put_u32(&v, c->feature);
    buf_put_u32(&v, c->next_server);
    buf_put_u32(&v, c->next_keyspace);
    buf_put_u32(&v, c->next_group);
    put(effects, BYTES_OF("c"), &v, fresh);
}

void record_put_server(struct buf *effects, const struct meta_server *s, bool fresh)
{
    struct buf v = value_new(effects);
    uint8_t key[RECORD_KEY_MAX];

    buf_put_u32(&v, s->id.v);
    buf_put_u8(&v, (uint8_t)s->state);
    buf_put_blob(&v, meta_text_bytes(&s->name));
    buf_put_blob(&v, meta_text_bytes(&s->client));
    buf_put_blob(&v, meta_text_bytes(&s->peer));
    buf_put_blob(&v, meta_text_bytes(&s->zone));
    buf_put_u64(&v, s->joined.v);
    buf_put_u8(&v, s->shrink);
    buf_put_u32(&v, s->successor.v);
    put(effects, key_of_id(key, 's', s->id.v), &v, fresh);
}

void record_put_keyspace(struct buf *effects, const struct meta_keyspace *k, bool fresh)
{
    struct buf v = value_new(effects);
    uint8_t key[RECORD_KEY_MAX];

    buf_put_u32(&v, k->id);
    buf_put_u8(&v, (uint8_t)k->state);
    buf_put_u64(&v, k->hidden);
    buf_put_blob(&v, meta_text_bytes(&k->name));
    policy_encode(&v, &k->policy);
    put(effects, key_of_name(key, &k->name), &v, fresh);
}

static void put_ids(struct buf *out, const struct server_id *ids, uint8_t n)
{
    check(n <= META_REPLICAS_MAX);

    buf_put_u8(out, n);
    for (uint8_t i = 0; i < n; i++)
        buf_put_u32(out, ids[i].v);
}

void record_put_shard(struct buf *effects, const struct meta_shard *s, bool fresh)
{
    struct buf v = value_new(effects);
    uint8_t key[RECORD_KEY_MAX];

    buf_put_u32(&v, s->group.v);
    buf_put_u32(&v, s->keyspace);
    buf_put_u16(&v, s->slot_first);
    buf_put_u16(&v, s->slot_last);
    buf_put_u32(&v, s->epoch);
    buf_put_u32(&v, s->founder.v);
    buf_put_u64(&v, s->version);
    buf_put_u8(&v, s->settled);
    buf_put_u32(&v, s->lead.v);
    buf_put_u8(&v, s->pinned);
    buf_put_u8(&v, (uint8_t)s->decree);
    buf_put_u8(&v, s->heard);
    buf_put_u32(&v, s->named.v);
    put_ids(&v, s->voters, s->n_voters);
    put_ids(&v, s->learners, s->n_learners);
    put_ids(&v, s->old, s->n_old);
    put(effects, key_of_id(key, 'g', s->group.v), &v, fresh);
}

void record_clear_keyspace(struct buf *effects, const struct meta_keyspace *k)
{
    uint8_t key[RECORD_KEY_MAX];

    effect_encode(effects, &(struct effect){.kind = EFFECT_CLEAR,
                                            .key = key_of_name(key, &k->name)});
}

void record_clear_server(struct buf *effects, const struct meta_server *s)
{
    uint8_t key[RECORD_KEY_MAX];

    effect_encode(effects, &(struct effect){.kind = EFFECT_CLEAR,
                                            .key = key_of_id(key, 's', s->id.v)});
}

void record_clear_shard(struct buf *effects, const struct meta_shard *s)
{
    uint8_t key[RECORD_KEY_MAX];

    effect_encode(effects, &(struct effect){.kind = EFFECT_CLEAR,
                                            .key = key_of_id(key, 'g', s->group.v)});
}

/* ---- reading ---- */

static bool get_version(struct cursor *in)
{
    uint8_t version;

    return get_u8(in, &version) && version == RECORD_VERSION;
}

static bool get_text(struct cursor *in, struct meta_text *out)
{
    struct bytes text;

    if (!get_blob(in, &text) || text.len > META_ADDRESS_MAX) return false;
    meta_text_set(out, text);
    return true;
}

static bool get_bool(struct cursor *in, bool *out)
{
    uint8_t v;

    if (!get_u8(in, &v) || v > 1) return false;
    *out = v == 1;
    return true;
}

bool record_cluster_decode(struct bytes in, struct meta_cluster *out)
{
    struct cursor c = cursor_of(in);
    struct meta_cluster v = {.feature = 0};

    if (!get_version(&c)) return false;
    if (!get_u64(&c, &v.id.v) || v.id.v == 0) return false;
    if (!get_u32(&c, &v.feature)) return false;
    if (!get_u32(&c, &v.next_server)) return false;
    if (!get_u32(&c, &v.next_keyspace)) return false;
    if (!get_u32(&c, &v.next_group)) return false;
    if (cursor_left(&c) != 0) return false;
    *out = v;
    return true;
}

bool record_server_decode(struct bytes in, struct meta_server *out)
{
    struct cursor c = cursor_of(in);
    struct meta_server v;
    uint8_t state;

    if (!get_version(&c)) return false;
    if (!get_u32(&c, &v.id.v) || v.id.v == 0) return false;
    if (!get_u8(&c, &state) || state == 0 || state >= SERVER_STATE_END) return false;
    if (!get_text(&c, &v.name) || !get_text(&c, &v.client)) return false;
    if (!get_text(&c, &v.peer) || !get_text(&c, &v.zone)) return false;
    if (!get_u64(&c, &v.joined.v) || !get_bool(&c, &v.shrink)) return false;
    if (!get_u32(&c, &v.successor.v)) return false;
    if (cursor_left(&c) != 0) return false;
    v.state = (enum meta_server_state)state;
    *out = v;
    return true;
}

bool record_keyspace_decode(struct bytes in, struct meta_keyspace *out)
{
    struct cursor c = cursor_of(in);
    struct meta_keyspace v;
    uint8_t state;

    if (!get_version(&c)) return false;
    if (!get_u32(&c, &v.id) || v.id == 0) return false;
    if (!get_u8(&c, &state) || state == 0 || state >= KEYSPACE_STATE_END) return false;
    if (!get_u64(&c, &v.hidden)) return false;
    if (!get_text(&c, &v.name)) return false;
    if (!meta_name_good(meta_text_bytes(&v.name))) return false;
    if (!policy_decode(&c, &v.policy)) return false;
    if (cursor_left(&c) != 0) return false;
    v.state = (enum meta_keyspace_state)state;
    *out = v;
    return true;
}

static bool get_ids(struct cursor *in, struct server_id *ids, uint8_t *n)
{
    if (!get_u8(in, n) || *n > META_REPLICAS_MAX) return false;
    for (uint8_t i = 0; i < *n; i++)
        if (!get_u32(in, &ids[i].v) || ids[i].v == 0) return false;
    return true;
}

/* Each server holds at most one replica, and there is a voter.  Who is to go is no member. */
static bool members_sound(const struct meta_shard *s)
{
    struct server_id all[3 * META_REPLICAS_MAX];
    uint32_t n = 0;

    for (uint8_t i = 0; i < s->n_voters; i++)
        all[n++] = s->voters[i];
    for (uint8_t i = 0; i < s->n_learners; i++)
        all[n++] = s->learners[i];
    const uint32_t members = n;
    for (uint8_t i = 0; i < s->n_old; i++)
        all[n++] = s->old[i];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (all[i].v == all[k].v) return false;
    return s->n_voters > 0 && members <= META_REPLICAS_MAX;
}

bool record_shard_decode(struct bytes in, struct meta_shard *out)
{
    struct cursor c = cursor_of(in);
    struct meta_shard v = {.n_voters = 0};

    if (!get_version(&c)) return false;
    if (!get_u32(&c, &v.group.v) || !get_u32(&c, &v.keyspace)) return false;
    if (!get_u16(&c, &v.slot_first) || !get_u16(&c, &v.slot_last)) return false;
    if (!get_u32(&c, &v.epoch)) return false;
    if (!get_u32(&c, &v.founder.v) || v.founder.v == 0) return false;
    if (!get_u64(&c, &v.version) || !get_bool(&c, &v.settled)) return false;
    if (!get_u32(&c, &v.lead.v) || !get_bool(&c, &v.pinned)) return false;
    uint8_t decree;
    if (!get_u8(&c, &decree) || decree >= DECREE_END || !get_u8(&c, &v.heard))
        return false;
    if (!get_u32(&c, &v.named.v)) return false;
    v.decree = (enum meta_decree)decree;
    if (!get_ids(&c, v.voters, &v.n_voters)) return false;
    if (!get_ids(&c, v.learners, &v.n_learners)) return false;
    if (!get_ids(&c, v.old, &v.n_old)) return false;
    if (cursor_left(&c) != 0) return false;

    if (v.slot_first > v.slot_last || v.slot_last >= SLOTS) return false;
    if ((v.group.v == META_GROUP) != (v.keyspace == 0)) return false;
    if (!members_sound(&v)) return false;
    *out = v;
    return true;
}
