/* SPDX-License-Identifier: Apache-2.0 */
/* The view: what the items of the meta shard say, kept for looking up.  Items may come
 * in any order, as a rebuild from the store walks them: a shard before its keyspace. */
#include "meta/meta.h"

#include "base/hash.h"
#include "meta/record.h"

enum { CAP_MIN = 8 };

/* A keyspace's shards in order of slots. */
struct range_list {
    struct meta_shard **shards;
    uint32_t n_shards;
};

/* ---- arrays of pointers ---- */

/* The room that n pointers lie in: a power of two, so that none needs to be kept. */
static size_t room_of(uint32_t n)
{
    size_t cap = CAP_MIN;

    while (cap < n)
        cap *= 2;
    return n == 0 ? 0 : cap * sizeof(void *);
}

/* A gap for one more pointer at `at`; returns where the array lies now. */
static void *gap_open(struct mem *mem, void *array, uint32_t n, uint32_t at)
{
    uint8_t *p = array;

    if (room_of(n + 1) != room_of(n)) p = mem_resize(mem, p, room_of(n), room_of(n + 1));
    uint8_t *gap = p + at * sizeof(void *);
    memmove(gap + sizeof(void *), gap, (n - at) * sizeof(void *));
    return p;
}

static void *gap_close(struct mem *mem, void *array, uint32_t n, uint32_t at)
{
    uint8_t *p = array;
    uint8_t *gap = p + at * sizeof(void *);

    memmove(gap, gap + sizeof(void *), (n - at - 1) * sizeof(void *));
    if (room_of(n - 1) == room_of(n)) return p;
    return mem_resize(mem, p, room_of(n), room_of(n - 1));
}

/* The three kinds of record all start with their id. */
static_assert(offsetof(struct meta_server, id) == 0, "read by id_at()");
static_assert(offsetof(struct meta_keyspace, id) == 0, "read by id_at()");
static_assert(offsetof(struct meta_shard, group) == 0, "read by id_at()");

static uint32_t id_at(const void *array, uint32_t i)
{
    const uint8_t *record;
    uint32_t id;

    memcpy(&record, (const uint8_t *)array + i * sizeof record, sizeof record);
    memcpy(&id, record, sizeof id);
    return id;
}

/* Where the record with this id is, or would be. */
static uint32_t place_of(const void *array, uint32_t n, uint32_t id)
{
    uint32_t lo = 0, hi = n;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (id_at(array, mid) < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ---- shards of a keyspace ---- */

/* Where the first shard that starts at `slot` or later is. */
static uint32_t range_place(const struct range_list *l, uint32_t slot)
{
    uint32_t lo = 0, hi = l->n_shards;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (l->shards[mid]->slot_first < slot)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void range_add(struct meta *m, struct meta_shard *s)
{
    struct range_list *l = hmap_find(&m->by_keyspace, s->keyspace);

    if (l == NULL) {
        l = mem_zero(m->mem, sizeof *l);
        hmap_put(&m->by_keyspace, s->keyspace, l);
    }
    const uint32_t at = range_place(l, s->slot_first);
    l->shards = gap_open(m->mem, l->shards, l->n_shards, at);
    l->shards[at] = s;
    l->n_shards++;
}

static void range_remove(struct meta *m, const struct meta_shard *s)
{
    struct range_list *l = hmap_find(&m->by_keyspace, s->keyspace);
    uint32_t at = 0;

    check(l != NULL);
    while (at < l->n_shards && l->shards[at] != s)
        at++;
    check(at < l->n_shards);
    l->shards = gap_close(m->mem, l->shards, l->n_shards, at);
    l->n_shards--;
    if (l->n_shards > 0) return;
    hmap_remove(&m->by_keyspace, s->keyspace);
    mem_free(m->mem, l, sizeof *l);
}

/* ---- changes ---- */

static uint64_t name_hash(const struct meta_keyspace *k)
{
    return hash64(meta_text_bytes(&k->name));
}

static bool put_cluster(struct meta *m, struct bytes value)
{
    struct meta_cluster c;

    if (!record_cluster_decode(value, &c)) return false;
    if (c.feature > m->speaks) return false;
    m->cluster = c;
    m->founded = true;
    return true;
}

static bool put_server(struct meta *m, uint32_t id, struct bytes value)
{
    struct meta_server record;

    if (!record_server_decode(value, &record) || record.id.v != id) return false;

    const uint32_t at = place_of(m->servers, m->n_servers, id);
    if (at == m->n_servers || m->servers[at]->id.v != id) {
        m->servers = gap_open(m->mem, m->servers, m->n_servers, at);
        m->servers[at] = mem_alloc(m->mem, sizeof record);
        m->n_servers++;
    }
    *m->servers[at] = record;
    return true;
}

static void remove_server(struct meta *m, uint32_t id)
{
    const uint32_t at = place_of(m->servers, m->n_servers, id);

    if (at == m->n_servers || m->servers[at]->id.v != id) return;
    mem_free(m->mem, m->servers[at], sizeof *m->servers[at]);
    m->servers = gap_close(m->mem, m->servers, m->n_servers, at);
    m->n_servers--;
}

static void remove_keyspace(struct meta *m, const struct meta_keyspace *k)
{
    const uint32_t at = place_of(m->keyspaces, m->n_keyspaces, k->id);
    const uint64_t hash = name_hash(k);

    hmap_remove(&m->by_name, hash);
    mem_free(m->mem, m->keyspaces[at], sizeof *m->keyspaces[at]);
    m->keyspaces = gap_close(m->mem, m->keyspaces, m->n_keyspaces, at);
    m->n_keyspaces--;

    /* Another name with the same hash has the cell now. */
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        if (name_hash(m->keyspaces[i]) == hash)
            hmap_put(&m->by_name, hash, m->keyspaces[i]);
}

static bool put_keyspace(struct meta *m, struct bytes name, struct bytes value)
{
    struct meta_keyspace record;

    if (!record_keyspace_decode(value, &record)) return false;
    if (!bytes_equal(meta_text_bytes(&record.name), name)) return false;

    const struct meta_keyspace *of_name = meta_keyspace_named(m, name);
    const struct meta_keyspace *of_id = meta_keyspace(m, record.id);
    if (of_id != NULL && of_id != of_name) return false;
    if (of_name != NULL && of_id == NULL) remove_keyspace(m, of_name);

    const uint32_t at = place_of(m->keyspaces, m->n_keyspaces, record.id);
    if (of_id == NULL) {
        m->keyspaces = gap_open(m->mem, m->keyspaces, m->n_keyspaces, at);
        m->keyspaces[at] = mem_alloc(m->mem, sizeof record);
        m->n_keyspaces++;
    }
    *m->keyspaces[at] = record;
    if (of_id == NULL) hmap_put(&m->by_name, name_hash(&record), m->keyspaces[at]);
    return true;
}

static bool put_shard(struct meta *m, uint32_t group, struct bytes value)
{
    struct meta_shard record;

    if (!record_shard_decode(value, &record) || record.group.v != group) return false;
    record.changed = m->version + 1; /* meta_apply() counts it */

    struct meta_shard *s = hmap_find(&m->by_group, group);
    if (s == NULL) {
        const uint32_t at = place_of(m->shards, m->n_shards, group);
        s = mem_alloc(m->mem, sizeof *s);
        m->shards = gap_open(m->mem, m->shards, m->n_shards, at);
        m->shards[at] = s;
        m->n_shards++;
        hmap_put(&m->by_group, group, s);
        *s = record;
        range_add(m, s);
        return true;
    }
    const bool moved = s->keyspace != record.keyspace ||
                       s->slot_first != record.slot_first;
    if (moved) range_remove(m, s);
    *s = record;
    if (moved) range_add(m, s);
    return true;
}

static void remove_shard(struct meta *m, uint32_t group)
{
    struct meta_shard *s = hmap_remove(&m->by_group, group);

    if (s == NULL) return;
    const uint32_t at = place_of(m->shards, m->n_shards, group);
    range_remove(m, s);
    m->shards = gap_close(m->mem, m->shards, m->n_shards, at);
    m->n_shards--;
    mem_free(m->mem, s, sizeof *s);
}

static bool apply_put(struct meta *m, const struct record_key *key, struct bytes value)
{
    switch (key->kind) {
    case RECORD_CLUSTER: return put_cluster(m, value);
    case RECORD_SERVER: return put_server(m, key->id, value);
    case RECORD_KEYSPACE: return put_keyspace(m, key->name, value);
    case RECORD_SHARD: return put_shard(m, key->id, value);
    }
    return false;
}

static bool apply_clear(struct meta *m, const struct record_key *key)
{
    const struct meta_keyspace *k;

    switch (key->kind) {
    case RECORD_CLUSTER: return false; /* a cluster does not cease to be one */
    case RECORD_SERVER: remove_server(m, key->id); return true;
    case RECORD_KEYSPACE:
        k = meta_keyspace_named(m, key->name);
        if (k != NULL) remove_keyspace(m, k);
        return true;
    case RECORD_SHARD: remove_shard(m, key->id); return true;
    }
    return false;
}

bool meta_apply(struct meta *m, const struct effect *e)
{
    struct record_key key;
    bool known = false;

    if (e->kind != EFFECT_PUT && e->kind != EFFECT_CLEAR) return false;
    if (e->field.len > 0 || !record_key_decode(e->key, &key)) return false;
    if (e->kind == EFFECT_CLEAR) known = apply_clear(m, &key);
    if (e->kind == EFFECT_PUT && e->type == ITEM_STRING)
        known = apply_put(m, &key, e->value);
    if (!known) return false;
    m->version++;
    if (key.kind != RECORD_SHARD) m->version_others = m->version;
    if (key.kind == RECORD_KEYSPACE) m->version_keyspaces = m->version;
    return true;
}

void meta_init(struct meta *m, struct mem *mem, uint32_t speaks)
{
    *m = (struct meta){
        .mem = mem,
        .speaks = speaks,
        .by_name = hmap_new(mem),
        .by_group = hmap_new(mem),
        .by_keyspace = hmap_new(mem),
    };
}

void meta_free(struct meta *m)
{
    while (m->n_servers > 0)
        remove_server(m, m->servers[m->n_servers - 1]->id.v);
    while (m->n_keyspaces > 0)
        remove_keyspace(m, m->keyspaces[m->n_keyspaces - 1]);
    while (m->n_shards > 0)
        remove_shard(m, m->shards[m->n_shards - 1]->group.v);
    hmap_free(&m->by_name);
    hmap_free(&m->by_group);
    hmap_free(&m->by_keyspace);
    meta_init(m, m->mem, m->speaks);
}

/* ---- looking up ---- */

const struct meta_server *meta_server(const struct meta *m, struct server_id id)
{
    const uint32_t at = place_of(m->servers, m->n_servers, id.v);

    return at < m->n_servers && m->servers[at]->id.v == id.v ? m->servers[at] : NULL;
}

const struct meta_server *meta_server_named(const struct meta *m, struct bytes name)
{
    for (uint32_t i = 0; i < m->n_servers; i++)
        if (bytes_equal(meta_text_bytes(&m->servers[i]->name), name))
            return m->servers[i];
    return NULL;
}

const struct meta_keyspace *meta_keyspace_named(const struct meta *m, struct bytes name)
{
    const struct meta_keyspace *k = hmap_find(&m->by_name, hash64(name));

    if (k == NULL || bytes_equal(meta_text_bytes(&k->name), name)) return k;

    /* Two names with one hash: the map holds one of them. */
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        if (bytes_equal(meta_text_bytes(&m->keyspaces[i]->name), name))
            return m->keyspaces[i];
    return NULL;
}

const struct meta_keyspace *meta_keyspace(const struct meta *m, uint32_t id)
{
    const uint32_t at = place_of(m->keyspaces, m->n_keyspaces, id);

    return at < m->n_keyspaces && m->keyspaces[at]->id == id ? m->keyspaces[at] : NULL;
}

const struct meta_shard *meta_shard(const struct meta *m, struct group_id group)
{
    return hmap_find(&m->by_group, group.v);
}

/* Ids only grow, and the founder gave default the first. */
static const struct meta_keyspace *keyspace_default(const struct meta *m)
{
    if (m->n_keyspaces == 0 || m->keyspaces[0]->id != KEYSPACE_DEFAULT) return NULL;
    return m->keyspaces[0];
}

bool meta_key_prefix(struct bytes key, struct bytes *name)
{
    if (key.len == 0) return false;

    const bool tagged = key.at[0] == '{';
    const uint8_t *start = key.at + tagged;
    size_t len = key.len - tagged;
    if (len > META_NAME_MAX + 1) len = META_NAME_MAX + 1;
    if (len == 0) return false;
    const uint8_t *colon = memchr(start, ':', len);
    if (colon == NULL) return false;
    *name = (struct bytes){start, (size_t)(colon - start)};
    return true;
}

static bool has_shards(const struct meta_keyspace *k)
{
    return k->state == KEYSPACE_ACTIVE || k->state == KEYSPACE_DROPPING;
}

const struct meta_keyspace *meta_keyspace_of(const struct meta *m, struct bytes key)
{
    struct bytes name;

    if (m->n_keyspaces <= 1 || !meta_key_prefix(key, &name)) return keyspace_default(m);
    const struct meta_keyspace *k = meta_keyspace_named(m, name);
    return k != NULL && has_shards(k) ? k : keyspace_default(m);
}

const struct meta_shard *meta_route(const struct meta *m, struct bytes key)
{
    const struct meta_keyspace *k = meta_keyspace_of(m, key);
    if (k == NULL) return NULL;
    const struct range_list *l = hmap_find(&m->by_keyspace, k->id);
    if (l == NULL) return NULL;
    if (l->n_shards == 1 &&
        l->shards[0]->slot_last - l->shards[0]->slot_first == SLOTS - 1)
        return l->shards[0];

    const uint32_t slot = key_slot(key);
    const uint32_t after = range_place(l, slot + 1);
    if (after == 0 || l->shards[after - 1]->slot_last < slot) return NULL;
    return l->shards[after - 1];
}

const struct meta_shard *meta_shard_of(const struct meta *m, uint32_t keyspace,
                                       uint32_t i)
{
    const struct range_list *l = hmap_find(&m->by_keyspace, keyspace);

    return l != NULL && i < l->n_shards ? l->shards[i] : NULL;
}

void meta_target_of(const struct meta *m, const struct meta_shard *s,
                    struct meta_target *out)
{
    out->version = s->version;
    out->n_voters = s->n_voters;
    out->n_learners = s->n_learners;
    memcpy(out->voters, s->voters, sizeof out->voters);
    memcpy(out->learners, s->learners, sizeof s->learners);
    if (s->group.v != META_GROUP) return;

    out->n_learners = 0;
    for (uint32_t i = 0; i < m->n_servers && out->n_learners < META_SERVERS_MAX; i++) {
        const struct server_id id = m->servers[i]->id;
        bool votes = false;
        for (uint8_t v = 0; v < s->n_voters; v++)
            votes = votes || s->voters[v].v == id.v;
        if (!votes) out->learners[out->n_learners++] = id;
    }
}

bool meta_unborn(const struct meta_shard *s)
{
    return s->version == 0 && !s->settled && s->decree == DECREE_NONE;
}

bool meta_has_unborn(const struct meta *m, uint32_t keyspace)
{
    const struct meta_shard *s;

    for (uint32_t i = 0; (s = meta_shard_of(m, keyspace, i)) != NULL; i++)
        if (meta_unborn(s)) return true;
    return false;
}

bool meta_server_has(const struct meta_shard *s, struct server_id id)
{
    for (uint8_t i = 0; i < s->n_voters; i++)
        if (s->voters[i].v == id.v) return true;
    for (uint8_t i = 0; i < s->n_learners; i++)
        if (s->learners[i].v == id.v) return true;
    return false;
}

bool meta_server_may_have(const struct meta_shard *s, struct server_id id)
{
    for (uint8_t i = 0; i < s->n_old; i++)
        if (s->old[i].v == id.v) return true;
    return meta_server_has(s, id);
}
