/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <string.h>

#include "base/check.h"
#include "store/store_state.h"

enum { GRAVE_CHUNKS_A_CALL = 2 };

static void read_root(struct store *s)
{
    const struct kv_ops *ops = s->config.kv.ops;
    struct ekey key;
    struct bytes value;

    ekey_root(&key, s->config.group);
    if (ops->get(s->reader, ekey_bytes(&key), &value))
        check(root_decode(value, s->config.mem, &s->root));
}

struct store *store_open(const struct store_config *config, bool *found)
{
    struct mem *mem = config->mem;
    struct store *s = mem_zero(mem, sizeof *s);

    s->config = *config;
    s->reader = config->kv.ops->reader_open(config->kv.engine);
    check(s->reader != NULL); /* the engine is set up for more readers than shards */
    s->grave.mem = mem;
    s->nodes.grave = &s->grave;
    s->overlay = omap_new(mem);
    s->table = table_new(mem, &s->grave);
    s->long_key = buf_new(mem);
    s->due_key = buf_new(mem);
    s->install.in = buf_new(mem);
    s->taken.records = buf_new(mem);
    read_root(s);
    s->count = (struct counts){s->root.keys, s->root.system};
    s->count_newest = s->count;
    due_reset(s);
    *found = s->root.gen != 0;
    return s;
}

void store_free(struct store *s)
{
    struct mem *mem = s->config.mem;

    fills_free(s);
    s->config.kv.ops->reader_close(s->config.kv.engine, s->reader);
    install_free(s);
    frozen_drop(s);
    table_free(s->table, mem);
    omap_free(s->overlay);
    arena_release_all(&s->nodes);
    grave_empty(&s->grave, UINT32_MAX);
    buf_free(&s->long_key);
    buf_free(&s->due_key);
    root_free(&s->root, mem);
    root_free(&s->frozen_root, mem);
    root_free(&s->job.root, mem);
    root_free(&s->digest.root, mem);
    mem_free(mem, s, sizeof *s);
}

struct store_base store_base(const struct store *s)
{
    return root_base(&s->root);
}

uint64_t store_count(const struct store *s)
{
    return s->count_newest.keys;
}

uint64_t store_count_system(const struct store *s)
{
    return s->count_newest.system;
}

bool store_has_staged(const struct store *s)
{
    return s->first_staged != NULL;
}

uint64_t store_table_bytes(const struct store *s)
{
    const uint64_t frozen = s->frozen != NULL ? s->frozen->index.arena.bytes : 0;

    return s->nodes.bytes + s->table->index.arena.bytes + frozen;
}

void store_renew(struct store *s)
{
    if (s->grave.chunks != NULL) grave_empty(&s->grave, GRAVE_CHUNKS_A_CALL);
    if (store_busy(s)) return; /* S4: our own job may be committed and not yet reported */
    s->config.kv.ops->reader_renew(s->config.kv.engine, s->reader);
}

/* At the end of every call that may change what find has given. */
static void tidy(struct store *s)
{
    if (s->grave.chunks != NULL) grave_empty(&s->grave, GRAVE_CHUNKS_A_CALL);
}

/* ---- finding ---- */

/* A wipe hides keys, never system items. */
static bool is_key(uint64_t place)
{
    return !key_place_is_system((struct key_place){place});
}

struct node *staged_find(const struct store *s, uint64_t place, struct bytes key,
                         bool *hidden)
{
    struct node *n = s->first_staged != NULL
                         ? chain_find(omap_find(s->overlay, place), key)
                         : NULL;
    *hidden = n != NULL || (s->wipes > 0 && is_key(place));
    return n;
}

struct node *committed_find(const struct store *s, uint64_t place, struct bytes key,
                            bool *hidden)
{
    struct node *n = table_find(s->table, place, key);

    *hidden = n != NULL || (s->table->wiped && is_key(place));
    if (*hidden || s->frozen == NULL) return n;
    n = table_find(s->frozen, place, key);
    *hidden = n != NULL || (s->frozen->wiped && is_key(place));
    return n;
}

bool engine_find(struct store *s, uint64_t place, struct bytes key, struct record *out)
{
    uint8_t room[SUFFIX_MAX];
    struct ekey at;
    struct bytes value;

    if (s->root.gen == 0) return false;
    ekey_data(&at, s->root.gen, place, suffix_of(key, room));
    if (!s->config.kv.ops->get(s->reader, ekey_bytes(&at), &value)) return false;
    check(record_decode(value, out)); /* we wrote it */
    return (out->flags & RECORD_LONG_KEY) == 0 || bytes_equal(out->key, key);
}

/* What lies in pieces is left out. */
static void engine_item(const struct record *r, struct item *out)
{
    *out = (struct item){
        .type = r->type,
        .deadline_ms = r->deadline_ms,
        .change = r->change,
        .value = {r->value.at, r->length},
    };
}

void store_read(struct store *s, struct bytes key, uint64_t from, uint64_t len,
                struct buf *out)
{
    const uint64_t place = key_place_of(key).v;
    uint8_t room[SUFFIX_MAX];
    struct record r;

    check(engine_find(s, place, key, &r) && (r.flags & RECORD_PIECES) != 0);
    check(from <= r.length && len <= r.length - from);
    buf_reserve(out, len);
    while (len > 0) {
        const uint32_t n = (uint32_t)(from / STORE_PIECE_BYTES);
        const uint64_t at = from % STORE_PIECE_BYTES;
        struct ekey piece_at;
        struct bytes piece;

        ekey_piece(&piece_at, s->root.gen, place, suffix_of(key, room), n);
        check(s->config.kv.ops->get(s->reader, ekey_bytes(&piece_at), &piece));
        check(piece.len == piece_len(r.length, n));
        const uint64_t part = len < piece.len - at ? len : piece.len - at;
        buf_put(out, piece.at + at, part);
        from += part;
        len -= part;
    }
}

static bool find_at(struct store *s, uint64_t place, struct bytes key, struct item *out)
{
    bool hidden;
    const struct node *n = staged_find(s, place, key, &hidden);

    if (!hidden) n = committed_find(s, place, key, &hidden);
    if (hidden) {
        if (n == NULL || n->what != NODE_RECORD) return false;
        node_item(n, out);
        return true;
    }
    struct record r;
    if (!engine_find(s, place, key, &r)) return false;
    engine_item(&r, out);
    return true;
}

bool store_find(struct store *s, struct bytes key, struct item *out)
{
    return find_at(s, key_place_of(key).v, key, out);
}

bool store_find_system(struct store *s, struct bytes key, struct item *out)
{
    return find_at(s, system_place_of(key).v, key, out);
}

/* ---- staging ---- */

static struct block *read_whole(struct store *s, struct bytes key, struct item *item)
{
    struct buf whole = buf_new(s->config.mem);

    store_read(s, key, 0, item->value.len, &whole);
    item->block = block_take(&whole);
    item->value = buf_bytes(&item->block->bytes);
    return item->block;
}

static struct node *make_node(struct store *s, struct log_index index,
                              const struct effect *e, uint64_t place)
{
    struct node_content of = {
        .what = NODE_RECORD,
        .created = (e->flags & EFFECT_CREATED) != 0,
        .place = place,
        .key = e->key,
        .value = e->value,
        .block = e->block,
        .type = e->type,
        .deadline_ms = e->deadline_ms,
        .change = index,
    };
    struct block *read = NULL;
    struct item item;

    switch (e->kind) {
    case EFFECT_PUT:
    case EFFECT_ADD:
        check(e->field.len == 0); /* items with fields come with their types */
        check(e->type > ITEM_NONE && e->type < ITEM_TYPE_END);
        break;
    case EFFECT_REMOVE:
        return NULL; /* no type has fields yet, so there is none to be gone */
    case EFFECT_DEADLINE:
        if (!find_at(s, place, e->key, &item)) return NULL;
        of.created = false;
        if (item.value.at == NULL && item.value.len > 0)
            read = read_whole(s, e->key, &item);
        of.value = item.value;
        of.block = item.block;
        of.type = item.type;
        break;
    case EFFECT_CLEAR:
        of = (struct node_content){
            .what = NODE_GONE, .place = place, .key = e->key, .change = index};
        break;
    case EFFECT_WIPE:
        of = (struct node_content){.what = NODE_WIPE, .change = index};
        break;
    case EFFECT_KIND_END: check(e->kind != EFFECT_KIND_END);
    }
    struct node *n = node_new(&s->nodes, s->staged + 1, &of);
    block_unref(read);
    return n;
}

static void table_wipe(struct store *s)
{
    struct table *old = s->table;

    s->table = table_new(s->config.mem, &s->grave);
    s->table->wiped = true;
    chains_take_system(s->table->nodes, old->nodes); /* without deadlines, so no hints */
    table_free(old, s->config.mem);
    s->next_known = false;
}

/* A node that is committed takes its place in the table. */
static void take_down(struct store *s, struct node *n)
{
    s->committed++;
    counts_add(&s->count, n);
    if (n->what == NODE_WIPE) {
        table_wipe(s);
        return;
    }
    table_put(s->table, n);
    if (n->what == NODE_RECORD) due_add(s, node_deadline_ms(n));
}

static uint64_t place_of(const struct effect *e)
{
    if (e->kind == EFFECT_WIPE) return 0;
    if (e->flags & EFFECT_SYSTEM) return system_place_of(e->key).v;
    return key_place_of(e->key).v;
}

static void overlay_wipe(struct store *s)
{
    struct omap *old = s->overlay;

    s->overlay = omap_new(s->config.mem);
    chains_take_system(s->overlay, old);
    omap_free(old);
    s->wipes++;
}

void store_stage(struct store *s, struct log_index index, const struct effect *e)
{
    check(s->last_staged == NULL || node_change(s->last_staged).v <= index.v);

    struct node *n = make_node(s, index, e, place_of(e));
    if (n != NULL) {
        s->staged++;
        counts_add(&s->count_newest, n);
        if (s->last_staged != NULL)
            s->last_staged->later = n;
        else
            s->first_staged = n;
        s->last_staged = n;
        if (n->what == NODE_WIPE)
            overlay_wipe(s);
        else
            chain_put(omap_slot(s->overlay, n->place), n);
    }
    tidy(s);
}

/* Takes a node out of the overlay, unless a later one of its key has its place. */
static void unlink_staged(struct store *s, struct node *n)
{
    struct node *head = omap_find(s->overlay, n->place);
    struct node *before = NULL;
    struct node *at = head;

    while (at != NULL && at != n) {
        before = at;
        at = at->next;
    }
    if (at == NULL) return;
    if (before != NULL)
        before->next = n->next;
    else if (n->next != NULL)
        *omap_slot(s->overlay, n->place) = n->next;
    else
        omap_remove(s->overlay, n->place);
}

void store_commit(struct store *s, struct log_index upto)
{
    while (s->first_staged != NULL && node_change(s->first_staged).v <= upto.v) {
        struct node *n = s->first_staged;

        s->first_staged = n->later;
        if (s->first_staged == NULL) s->last_staged = NULL;
        if (n->what == NODE_WIPE)
            s->wipes--;
        else
            unlink_staged(s, n);
        take_down(s, n);
    }
    if (s->first_staged == NULL) {
        check(omap_count(s->overlay) == 0);               /* S1 */
        check(s->wipes == 0);                             /* S1 */
        check(s->committed == s->staged);                 /* S2 */
        check(s->count.keys == s->count_newest.keys);     /* S5 */
        check(s->count.system == s->count_newest.system); /* S5 */
    }
    tidy(s);
}

void store_drop_staged(struct store *s)
{
    if (s->first_staged == NULL) return;

    s->first_staged = NULL;
    s->last_staged = NULL;
    s->wipes = 0;
    s->staged = s->committed;
    s->count_newest = s->count;
    omap_free(s->overlay);
    s->overlay = omap_new(s->config.mem);
    arena_rollback(&s->nodes, s->committed);
    due_unpark(s);
    due_reset(s);
    tidy(s);
}

void store_apply(struct store *s, struct log_index index, const struct effect *e)
{
    check(s->first_staged == NULL);

    struct node *n = make_node(s, index, e, place_of(e));
    if (n != NULL) {
        s->staged++;
        take_down(s, n);
        s->count_newest = s->count;
    }
    tidy(s);
}

/* ---- replaced as a whole ---- */

void frozen_drop(struct store *s)
{
    if (s->frozen == NULL) return;

    arena_release(&s->nodes, s->frozen->last);
    table_free(s->frozen, s->config.mem);
    s->frozen = NULL;
}

void state_replace(struct store *s, const struct root *root)
{
    store_drop_staged(s);
    frozen_drop(s);
    table_free(s->table, s->config.mem);
    s->table = table_new(s->config.mem, &s->grave);
    arena_release_all(&s->nodes);
    root_copy(&s->root, s->config.mem, root);
    s->count = (struct counts){root->keys, root->system};
    s->count_newest = s->count;
}
