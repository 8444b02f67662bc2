/* SPDX-License-Identifier: Apache-2.0 */
/* A walk merges the layers in the order of (place, suffix); of a key that several layers
 * hold the uppermost counts. */
#include "base/check.h"
#include "store/store_state.h"

enum { LAYERS_MAX = 4 };

struct layer {
    bool live;
    uint64_t place;
    struct bytes suffix;
    const struct node *node; /* NULL in the engine's */
    struct bytes record;     /* the engine's */
    struct omap_walk rest;
    uint8_t room[SUFFIX_MAX];
};

struct merge {
    struct store *s;
    uint32_t layers;
    struct layer layer[LAYERS_MAX]; /* the uppermost first */
};

static void show_node(struct layer *l, const struct node *n)
{
    l->live = true;
    l->node = n;
    l->place = n->place;
    l->suffix = suffix_of(node_key(n), l->room);
}

static void show_record(const struct merge *m, struct layer *l, bool any,
                        struct bytes key, struct bytes record)
{
    struct data_key at;

    l->live = any && ekey_is_of(key, 'D', m->s->root.gen);
    if (!l->live) return;
    check(data_key_decode(key, &at));
    l->place = at.place;
    l->suffix = at.suffix;
    l->record = record;
}

static void advance(const struct merge *m, struct layer *l)
{
    if (l->node == NULL) {
        struct bytes key, record;
        const bool any = m->s->config.kv.ops->next(m->s->reader, &key, &record);
        show_record(m, l, any, key, record);
        return;
    }
    uint64_t place;
    void *chain;
    if (l->node->next != NULL)
        show_node(l, l->node->next);
    else if (omap_walk_next(&l->rest, &place, &chain))
        show_node(l, chain);
    else
        l->live = false;
}

static void add_map(struct merge *m, const struct omap *map, uint64_t from)
{
    struct layer *l = &m->layer[m->layers];
    uint64_t place;
    void *chain;

    l->rest = omap_walk_from(map, from);
    if (!omap_walk_next(&l->rest, &place, &chain)) return;
    show_node(l, chain);
    m->layers++;
}

static void add_engine(struct merge *m, uint64_t from)
{
    struct layer *l = &m->layer[m->layers];
    struct ekey at;
    struct bytes key, record;

    if (m->s->root.gen == 0) return;
    ekey_data(&at, m->s->root.gen, from, (struct bytes){NULL, 0});
    const bool any = m->s->config.kv.ops->seek(m->s->reader, ekey_bytes(&at), &key,
                                               &record);
    l->node = NULL;
    show_record(m, l, any, key, record);
    m->layers++;
}

static void merge_from(struct merge *m, struct store *s, uint64_t from)
{
    const bool system = key_place_is_system((struct key_place){from}); /* not wiped */

    m->s = s;
    m->layers = 0;
    add_map(m, s->overlay, from);
    if (s->wipes > 0 && !system) return;
    add_map(m, s->table->nodes, from);
    if (s->table->wiped && !system) return;
    if (s->frozen != NULL) {
        add_map(m, s->frozen->nodes, from);
        if (s->frozen->wiped && !system) return;
    }
    add_engine(m, from);
}

static int order(const struct layer *a, const struct layer *b)
{
    if (a->place != b->place) return a->place < b->place ? -1 : 1;
    return bytes_compare(a->suffix, b->suffix);
}

static struct layer *least(struct merge *m)
{
    struct layer *best = NULL;

    for (uint32_t i = 0; i < m->layers; i++) {
        struct layer *l = &m->layer[i];
        if (l->live && (best == NULL || order(l, best) < 0)) best = l;
    }
    return best;
}

/* Past the key that `best` shows, in every layer; `best` last, for the others are
 * compared with it. */
static void pass(struct merge *m, struct layer *best)
{
    for (uint32_t i = 0; i < m->layers; i++) {
        struct layer *l = &m->layer[i];
        if (l != best && l->live && order(l, best) == 0) advance(m, l);
    }
    advance(m, best);
}

static void give(const struct layer *l, struct bytes *key, struct item *out)
{
    if (l->node != NULL) {
        *key = node_key(l->node);
        node_item(l->node, out);
        return;
    }
    struct record r;
    check(record_decode(l->record, &r));
    *key = (r.flags & RECORD_LONG_KEY) != 0 ? r.key : l->suffix;
    *out = (struct item){
        .type = r.type,
        .deadline_ms = r.deadline_ms,
        .change = r.change,
        .value = {r.value.at, r.length},
    };
}

bool store_walk(struct store *s, struct key_place from, uint32_t skip,
                struct key_place *place, struct bytes *key, struct item *out)
{
    struct merge m;
    bool begun = false;
    uint64_t first = 0;

    merge_from(&m, s, from.v);
    for (struct layer *l; (l = least(&m)) != NULL; pass(&m, l)) {
        if (l->node != NULL && l->node->what != NODE_RECORD) continue;
        if (key_place_is_system((struct key_place){l->place}) !=
            key_place_is_system(from))
            return false; /* behind the last key */
        if (!begun) first = l->place;
        begun = true;
        if (l->place == first && skip > 0) {
            skip--;
            continue;
        }
        place->v = l->place;
        give(l, key, out);
        return true;
    }
    return false;
}
