/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include <string.h>

#include "base/check.h"

/* ---- nodes ---- */

static size_t varint_len(uint64_t v)
{
    size_t len = 1;

    for (; v >= 0x80; v >>= 7)
        len++;
    return len;
}

static uint8_t *put_varint(uint8_t *at, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (uint8_t)(v | 0x80);
    *at++ = (uint8_t)v;
    return at;
}

static bool key_is_long(size_t key_len)
{
    return key_len > STORE_KEY_INLINE;
}

static size_t record_at(const struct node *n)
{
    return key_is_long(n->key_len) ? 0 : n->key_len;
}

/* Of a record's bytes before the value or its pieces. */
static size_t record_head(size_t key_len, size_t value_len)
{
    size_t head = RECORD_HEAD;

    if (key_is_long(key_len)) head += varint_len(key_len) + key_len;
    if (value_len > STORE_PIECE_BYTES) head += sizeof(uint64_t);
    return head;
}

static size_t value_at(const struct node *n)
{
    return record_at(n) + record_head(n->key_len, n->value_len);
}

struct node *node_new(struct arena *arena, uint64_t number, const struct node_content *of)
{
    check(of->key.len <= KEY_MAX);
    check(of->value.len <= VALUE_MAX);

    const bool is_long = key_is_long(of->key.len);
    const bool pieces = of->value.len > STORE_PIECE_BYTES;
    const bool in_block = pieces && of->block != NULL;
    const size_t size = offsetof(struct node, data) + (is_long ? 0 : of->key.len) +
                        record_head(of->key.len, of->value.len) +
                        (in_block ? sizeof(struct outside) : of->value.len);
    struct node *n = arena_alloc(arena, size, number);

    n->next = NULL;
    n->later = NULL;
    n->place = of->place;
    n->key_len = (uint32_t)of->key.len;
    n->value_len = (uint32_t)of->value.len;
    n->what = (uint8_t)of->what;
    n->created = of->created;
    n->in_block = in_block;

    uint8_t *at = n->data;
    if (!is_long && of->key.len > 0) memcpy(at, of->key.at, of->key.len);
    at += record_at(n);
    at[0] = (uint8_t)of->type;
    at[1] = (uint8_t)((pieces ? RECORD_PIECES : 0) | (is_long ? RECORD_LONG_KEY : 0));
    store_u64le(at + 2, (uint64_t)of->deadline_ms);
    store_u64le(at + 10, of->change.v);
    at += RECORD_HEAD;
    if (is_long) {
        at = put_varint(at, of->key.len);
        memcpy(at, of->key.at, of->key.len);
        at += of->key.len;
    }
    if (pieces) {
        store_u64le(at, of->value.len);
        at += sizeof(uint64_t);
    }
    if (in_block) {
        const struct outside outside = {of->block,
                                        (size_t)(of->value.at - of->block->bytes.at)};
        memcpy(at, &outside, sizeof outside);
        arena_hold(arena, of->block, number);
    } else if (of->value.len > 0) {
        memcpy(at, of->value.at, of->value.len);
    }
    return n;
}

static struct outside outside_of(const struct node *n)
{
    struct outside outside = {NULL, 0};

    if (n->in_block) memcpy(&outside, n->data + value_at(n), sizeof outside);
    return outside;
}

struct bytes node_key(const struct node *n)
{
    const size_t at = key_is_long(n->key_len) ? RECORD_HEAD + varint_len(n->key_len) : 0;
    return (struct bytes){n->data + at, n->key_len};
}

struct bytes node_record(const struct node *n)
{
    const size_t head = record_head(n->key_len, n->value_len);
    const size_t inside = n->value_len > STORE_PIECE_BYTES ? 0 : n->value_len;
    return (struct bytes){n->data + record_at(n), head + inside};
}

struct bytes node_value(const struct node *n)
{
    if (n->in_block) {
        const struct outside outside = outside_of(n);
        return (struct bytes){outside.block->bytes.at + outside.at, n->value_len};
    }
    return (struct bytes){n->data + value_at(n), n->value_len};
}

int64_t node_deadline_ms(const struct node *n)
{
    return (int64_t)load_u64le(n->data + record_at(n) + 2);
}

struct log_index node_change(const struct node *n)
{
    return (struct log_index){load_u64le(n->data + record_at(n) + 10)};
}

void node_item(const struct node *n, struct item *out)
{
    check(n->what == NODE_RECORD);

    *out = (struct item){
        .type = (enum item_type)n->data[record_at(n)],
        .deadline_ms = node_deadline_ms(n),
        .change = node_change(n),
        .value = node_value(n),
        .block = outside_of(n).block,
    };
}

void counts_add(struct counts *c, const struct node *n)
{
    uint64_t *count = node_is_system(n) ? &c->system : &c->keys;

    switch ((enum node_what)n->what) {
    case NODE_WIPE: c->keys = 0; return;
    case NODE_RECORD: *count += n->created; return;
    case NODE_GONE:
        check(*count > 0);
        --*count;
        return;
    }
}

/* ---- chains ---- */

int suffix_order(struct bytes key_a, struct bytes key_b)
{
    uint8_t room_a[SUFFIX_MAX], room_b[SUFFIX_MAX];

    return bytes_compare(suffix_of(key_a, room_a), suffix_of(key_b, room_b));
}

void chain_put(void **slot, struct node *n)
{
    struct node *before = NULL;
    struct node *at = *slot;
    const struct bytes key = node_key(n);

    /* A place with more than one key is rare: 48 bits of hash within a slot. */
    int order = -1;
    while (at != NULL && (order = suffix_order(node_key(at), key)) < 0) {
        before = at;
        at = at->next;
    }
    n->next = at != NULL && order == 0 ? at->next : at;
    if (before != NULL)
        before->next = n;
    else
        *slot = n;
}

struct node *chain_find(void *chain, struct bytes key)
{
    for (struct node *n = chain; n != NULL; n = n->next)
        if (bytes_equal(node_key(n), key)) return n;
    return NULL;
}

void chains_take_system(struct omap *to, const struct omap *from)
{
    struct omap_walk walk = omap_walk_from(from, system_kind_place(0).v);
    uint64_t place;
    void *chain;

    while (omap_walk_next(&walk, &place, &chain))
        *omap_slot(to, place) = chain;
}

/* ---- tables ---- */

struct table *table_new(struct mem *mem, struct grave *grave)
{
    struct table *t = mem_zero(mem, sizeof *t);

    arena_mem_init(&t->index, grave);
    t->nodes = omap_new(&t->index.mem);
    t->due = omap_new(&t->index.mem);
    return t;
}

/* The maps go with the arena that they lie in. */
void table_free(struct table *t, struct mem *mem)
{
    arena_release_all(&t->index.arena);
    mem_free(mem, t, sizeof *t);
}

static void put_hint(struct table *t, struct hint *hint)
{
    void **slot = omap_slot(t->due, (uint64_t)node_deadline_ms(hint->node));

    hint->next = *slot;
    *slot = hint;
}

void table_put(struct table *t, struct node *n)
{
    chain_put(omap_slot(t->nodes, n->place), n);
    if (n->what != NODE_RECORD || node_deadline_ms(n) <= 0) return;

    struct hint *hint = mem_alloc(&t->index.mem, sizeof *hint);
    hint->node = n;
    put_hint(t, hint);
}

struct node *table_find(const struct table *t, uint64_t place, struct bytes key)
{
    return chain_find(omap_find(t->nodes, place), key);
}

struct hint *table_first_due(const struct table *t, int64_t *deadline_ms)
{
    uint64_t key;
    void *chain;

    if (!omap_seek(t->due, 0, &key, &chain)) return NULL;
    *deadline_ms = (int64_t)key;
    return chain;
}

void table_drop_due(struct table *t, bool park)
{
    uint64_t key;
    void *chain;
    check(omap_seek(t->due, 0, &key, &chain));

    struct hint *hint = chain;
    if (hint->next == NULL)
        omap_remove(t->due, key);
    else
        *omap_slot(t->due, key) = hint->next;
    if (park) {
        hint->next = t->parked;
        t->parked = hint;
    }
}

void table_unpark(struct table *t)
{
    while (t->parked != NULL) {
        struct hint *hint = t->parked;
        t->parked = hint->next;
        put_hint(t, hint);
    }
}
