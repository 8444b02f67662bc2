/* SPDX-License-Identifier: Apache-2.0 */
/* table - what changed since a checkpoint, in the order of places: nodes, each one record
 * or the mark that a key is gone, and hints about deadlines.
 *
 * A node holds its record as the engine will, so that a checkpoint puts it as it lies; it
 * is made once, when it is staged, and moves from the overlay into a table by pointer.
 *
 * Threads  a frozen table's `nodes` are read by the checkpoint thread; nothing changes
 *          them then.  Its hints go on being used by the loop, and by the loop only.
 * Owner    nodes lie in the store's arena, the maps and hints in the table's own
 */
#pragma once

#include "base/omap.h"
#include "store/arena.h"
#include "store/record.h"

enum node_what { NODE_RECORD = 1, NODE_GONE, NODE_WIPE };

struct node {
    struct node *next;  /* others at the same place, in the order of suffixes */
    struct node *later; /* the one staged next */
    uint64_t place;
    uint32_t key_len;
    uint32_t value_len;
    uint8_t what;     /* enum node_what */
    uint8_t created;  /* this key did not exist before */
    uint8_t in_block; /* the value is not here: struct outside lies in its place */
    uint8_t data[];   /* a short key, then the record; the whole value follows even if the
                       * record is the head of one in pieces, but for one in a block */
};

struct outside {
    struct block *block; /* held by the arena */
    size_t at;           /* in its bytes, which may still move: others are added */
};

struct node_content {
    enum node_what what;
    bool created;
    uint64_t place;
    struct bytes key, value;
    struct block *block; /* that the value lies in, if it is in one */
    enum item_type type;
    int64_t deadline_ms;
    struct log_index change;
};

struct node *node_new(struct arena *arena, uint64_t number,
                      const struct node_content *of);
struct bytes node_key(const struct node *n);
struct bytes node_record(const struct node *n); /* as the engine holds it */
struct bytes node_value(const struct node *n);
int64_t node_deadline_ms(const struct node *n);
struct log_index node_change(const struct node *n);
void node_item(const struct node *n, struct item *out);
static inline bool node_is_system(const struct node *n)
{
    return key_place_is_system((struct key_place){n->place});
}

struct counts { /* of a shard */
    uint64_t keys, system;
};
void counts_add(struct counts *c, const struct node *n); /* what n makes of them */

/* ---- chains: the nodes of one place, behind its pointer in a map ---- */
void chain_put(void **slot, struct node *n); /* replaces the one of the same key */
struct node *chain_find(void *chain, struct bytes key);
/* < 0, 0, > 0: the order in which the engine holds keys of the same place. */
int suffix_order(struct bytes key_a, struct bytes key_b);

struct hint {
    struct hint *next; /* of the same deadline */
    struct node *node;
};

struct table {
    struct arena_mem index;
    struct omap *nodes;  /* place -> chain of nodes */
    struct omap *due;    /* deadline -> chain of hints */
    struct hint *parked; /* hidden for now by what is staged */
    bool wiped;          /* what lies below is hidden */
    uint64_t last;       /* once frozen: the number of its last node */
};

struct table *table_new(struct mem *mem, struct grave *grave);
void table_free(struct table *t, struct mem *mem); /* not the nodes */
void table_put(struct table *t, struct node *n);
struct node *table_find(const struct table *t, uint64_t place, struct bytes key);
struct hint *table_first_due(const struct table *t, int64_t *deadline_ms); /* or NULL */
void table_drop_due(struct table *t, bool park); /* takes out the first hint */
void table_unpark(struct table *t);
/* The system items of one map of chains, put into another. */
void chains_take_system(struct omap *to, const struct omap *from);
