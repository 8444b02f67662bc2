/* SPDX-License-Identifier: Apache-2.0 */
#include "base/omap.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

/* A node is 512 bytes: large enough that a million keys are four or five levels, the
 * upper ones in cache, small enough that a shift within a node is a short memmove.
 *
 * Nodes are mended below a third of their fill, not below half, so that a map whose size
 * swings around a boundary does not merge and split by turns.  The one node that may hold
 * less is the last leaf: an append to a full last leaf opens a new leaf for the one key
 * alone, which packs logs and other rising keys densely.
 *
 * O1  keys rise strictly within a node and from leaf to leaf along `next`
 * O2  every key under kids[i] is in [keys[i - 1], keys[i]) of its branch
 * O3  every leaf lies at depth `height`; branches above hold 1 .. KEYS_MAX keys
 * O4  nodes but the root and the last leaf hold KEYS_MIN keys or more; no leaf is empty
 * O5  the leaves hold `count` keys in all; no tree without a key has a node */
enum {
    KEYS_MAX = 31,
    KEYS_MIN = 10,
    HEIGHT_MAX = 20, /* (KEYS_MIN + 1)^19 > 2^64 */
};

struct leaf {
    uint32_t count;
    struct leaf *next;
    uint64_t keys[KEYS_MAX];
    void *values[KEYS_MAX];
};
static_assert(sizeof(struct leaf) == 512, "a leaf fills its 512 bytes");

struct branch {
    uint32_t count; /* of keys; there is one kid more */
    uint64_t keys[KEYS_MAX];
    void *kids[KEYS_MAX + 1];
};
static_assert(sizeof(struct branch) == 512, "a branch fills its 512 bytes");

struct omap {
    void *root;      /* a leaf if height is 0; NULL: no key */
    uint32_t height; /* levels of branches above the leaves */
    uint64_t count;
    struct mem *mem;
};

/* The way from the root to a leaf: at each level the branch and the kid taken. */
struct path {
    struct branch *branch[HEIGHT_MAX];
    uint32_t kid[HEIGHT_MAX];
};

struct omap *omap_new(struct mem *mem)
{
    struct omap *map = mem_alloc(mem, sizeof *map);

    *map = (struct omap){.mem = mem};
    return map;
}

uint64_t omap_count(const struct omap *map)
{
    return map->count;
}

/* ---- search ---- */

/* How many keys are < key.  Counted over all of them and not by halving: the loads do
 * not wait for one another, so that the cache lines of a node arrive together, and
 * there is nothing for the branch predictor to miss.  At a million keys this finds a
 * third faster. */
static uint32_t count_below(const uint64_t *keys, uint32_t n, uint64_t key)
{
    uint32_t below = 0;

    for (uint32_t i = 0; i < n; i++)
        below += keys[i] < key;
    return below;
}

/* How many keys are <= key: the kid of a branch under which key belongs. */
static uint32_t kid_for(const struct branch *branch, uint64_t key)
{
    if (key == UINT64_MAX) return branch->count;
    return count_below(branch->keys, branch->count, key + 1);
}

static struct leaf *leaf_for(const struct omap *map, uint64_t key)
{
    void *node = map->root;

    for (uint32_t level = 0; level < map->height; level++) {
        const struct branch *branch = node;
        node = branch->kids[kid_for(branch, key)];
    }
    return node;
}

static struct leaf *leaf_on_path(const struct omap *map, uint64_t key, struct path *path)
{
    void *node = map->root;

    for (uint32_t level = 0; level < map->height; level++) {
        struct branch *branch = node;
        const uint32_t kid = kid_for(branch, key);
        path->branch[level] = branch;
        path->kid[level] = kid;
        node = branch->kids[kid];
    }
    return node;
}

void *omap_find(const struct omap *map, uint64_t key)
{
    const struct leaf *leaf = leaf_for(map, key);
    if (leaf == NULL) return NULL;

    const uint32_t at = count_below(leaf->keys, leaf->count, key);
    return at < leaf->count && leaf->keys[at] == key ? leaf->values[at] : NULL;
}

struct omap_walk omap_walk_from(const struct omap *map, uint64_t from)
{
    const struct leaf *leaf = leaf_for(map, from);
    const uint32_t at = leaf != NULL ? count_below(leaf->keys, leaf->count, from) : 0;

    return (struct omap_walk){leaf, at};
}

bool omap_walk_next(struct omap_walk *walk, uint64_t *key, void **value)
{
    const struct leaf *leaf = walk->leaf;

    if (leaf != NULL && walk->at == leaf->count) {
        leaf = leaf->next;
        *walk = (struct omap_walk){leaf, 0};
    }
    if (leaf == NULL) return false;
    *key = leaf->keys[walk->at];
    *value = leaf->values[walk->at];
    walk->at++;
    return true;
}

bool omap_seek(const struct omap *map, uint64_t from, uint64_t *key, void **value)
{
    struct omap_walk walk = omap_walk_from(map, from);

    return omap_walk_next(&walk, key, value);
}

/* ---- moving runs of keys ---- */

static void leaf_copy(struct leaf *to, uint32_t to_at, const struct leaf *from,
                      uint32_t from_at, uint32_t n)
{
    memmove(to->keys + to_at, from->keys + from_at, n * sizeof *to->keys);
    memmove(to->values + to_at, from->values + from_at, n * sizeof *to->values);
}

static void keys_copy(struct branch *to, uint32_t to_at, const struct branch *from,
                      uint32_t from_at, uint32_t n)
{
    memmove(to->keys + to_at, from->keys + from_at, n * sizeof *to->keys);
}

static void kids_copy(struct branch *to, uint32_t to_at, const struct branch *from,
                      uint32_t from_at, uint32_t n)
{
    memmove(to->kids + to_at, from->kids + from_at, n * sizeof *to->kids);
}

/* ---- insertion ---- */

static void leaf_insert(struct leaf *leaf, uint32_t at, uint64_t key)
{
    check(leaf->count < KEYS_MAX);

    leaf_copy(leaf, at + 1, leaf, at, leaf->count - at);
    leaf->keys[at] = key;
    leaf->values[at] = NULL;
    leaf->count++;
}

/* Key and the kid to its right become number `at` and `at + 1` of the branch. */
static void branch_insert(struct branch *branch, uint32_t at, uint64_t key, void *right)
{
    check(branch->count < KEYS_MAX);

    keys_copy(branch, at + 1, branch, at, branch->count - at);
    kids_copy(branch, at + 2, branch, at + 1, branch->count - at);
    branch->keys[at] = key;
    branch->kids[at + 1] = right;
    branch->count++;
}

/* The upper half of a full branch moves to a new one; the key between goes up. */
static struct branch *branch_split(struct omap *map, struct branch *left,
                                   uint64_t *between)
{
    enum { KEEP = KEYS_MAX / 2, MOVE = KEYS_MAX - KEEP - 1 };
    struct branch *right = mem_alloc(map->mem, sizeof *right);

    *between = left->keys[KEEP];
    right->count = MOVE;
    keys_copy(right, 0, left, KEEP + 1, MOVE);
    kids_copy(right, 0, left, KEEP + 1, MOVE + 1);
    left->count = KEEP;
    return right;
}

/* A node was split under the path: hang its right part into the branches above, which may
 * split in turn, up to a new root. */
static void hang(struct omap *map, const struct path *path, uint64_t key, void *right)
{
    for (uint32_t level = map->height; level-- > 0;) {
        struct branch *branch = path->branch[level];
        const uint32_t at = path->kid[level];

        if (branch->count < KEYS_MAX) {
            branch_insert(branch, at, key, right);
            return;
        }
        uint64_t between;
        struct branch *upper = branch_split(map, branch, &between);
        if (at <= branch->count)
            branch_insert(branch, at, key, right);
        else
            branch_insert(upper, at - branch->count - 1, key, right);
        key = between;
        right = upper;
    }

    struct branch *root = mem_alloc(map->mem, sizeof *root);
    root->count = 1;
    root->keys[0] = key;
    root->kids[0] = map->root;
    root->kids[1] = right;
    map->root = root;
    map->height++;
    check(map->height < HEIGHT_MAX);
}

static struct leaf *leaf_split(struct omap *map, struct leaf *left, uint32_t keep)
{
    struct leaf *right = mem_alloc(map->mem, sizeof *right);

    right->count = left->count - keep;
    leaf_copy(right, 0, left, keep, right->count);
    right->next = left->next;
    left->count = keep;
    left->next = right;
    return right;
}

static void **slot_by_split(struct omap *map, const struct path *path, struct leaf *leaf,
                            uint32_t at, uint64_t key)
{
    const bool append = leaf->next == NULL && at == KEYS_MAX;
    const uint32_t keep = append ? KEYS_MAX : KEYS_MAX / 2;
    struct leaf *right = leaf_split(map, leaf, keep);

    if (append || at > keep) {
        leaf = right;
        at -= keep;
    }
    leaf_insert(leaf, at, key);
    hang(map, path, right->keys[0], right);
    return &leaf->values[at];
}

static void **slot_in_empty(struct omap *map, uint64_t key)
{
    struct leaf *leaf = mem_alloc(map->mem, sizeof *leaf);

    leaf->count = 1;
    leaf->next = NULL;
    leaf->keys[0] = key;
    leaf->values[0] = NULL;
    map->root = leaf;
    return &leaf->values[0];
}

void **omap_slot(struct omap *map, uint64_t key)
{
    struct path path;
    struct leaf *leaf = leaf_on_path(map, key, &path);

    if (leaf == NULL) {
        map->count = 1;
        return slot_in_empty(map, key);
    }
    const uint32_t at = count_below(leaf->keys, leaf->count, key);
    if (at < leaf->count && leaf->keys[at] == key) return &leaf->values[at];

    map->count++;
    if (leaf->count == KEYS_MAX) return slot_by_split(map, &path, leaf, at, key);
    leaf_insert(leaf, at, key);
    return &leaf->values[at];
}

/* ---- removal ---- */

/* Kid at + 1 is gone into kid at: drop it and the key before it. */
static void branch_drop(struct branch *branch, uint32_t at)
{
    const uint32_t after = branch->count - at - 1;

    keys_copy(branch, at, branch, at + 1, after);
    kids_copy(branch, at + 1, branch, at + 2, after);
    branch->count--;
}

/* Two neighbouring leaves, one too empty: one leaf if they fit, or else evenly filled. */
static void mend_leaves(struct omap *map, struct branch *parent, uint32_t at)
{
    struct leaf *left = parent->kids[at];
    struct leaf *right = parent->kids[at + 1];
    const uint32_t total = left->count + right->count;

    if (total <= KEYS_MAX) {
        leaf_copy(left, left->count, right, 0, right->count);
        left->count = total;
        left->next = right->next;
        mem_free(map->mem, right, sizeof *right);
        branch_drop(parent, at);
        return;
    }
    const uint32_t keep = total / 2;
    if (left->count > keep) {
        const uint32_t n = left->count - keep;
        leaf_copy(right, n, right, 0, right->count);
        leaf_copy(right, 0, left, keep, n);
    } else {
        const uint32_t n = keep - left->count;
        leaf_copy(left, left->count, right, 0, n);
        leaf_copy(right, 0, right, n, right->count - n);
    }
    left->count = keep;
    right->count = total - keep;
    parent->keys[at] = right->keys[0];
}

/* The same for branches, where the parent's key between the two takes part: it lies above
 * the last kid of the left one and below the first kid of the right one. */
static void mend_branches(struct omap *map, struct branch *parent, uint32_t at)
{
    struct branch *left = parent->kids[at];
    struct branch *right = parent->kids[at + 1];
    const uint32_t total = left->count + right->count;

    if (total + 1 <= KEYS_MAX) {
        left->keys[left->count] = parent->keys[at];
        keys_copy(left, left->count + 1, right, 0, right->count);
        kids_copy(left, left->count + 1, right, 0, right->count + 1);
        left->count = total + 1;
        mem_free(map->mem, right, sizeof *right);
        branch_drop(parent, at);
        return;
    }
    const uint32_t keep = total / 2;
    if (left->count > keep) {
        const uint32_t n = left->count - keep;
        keys_copy(right, n, right, 0, right->count);
        kids_copy(right, n, right, 0, right->count + 1);
        right->keys[n - 1] = parent->keys[at];
        keys_copy(right, 0, left, keep + 1, n - 1);
        kids_copy(right, 0, left, keep + 1, n);
        parent->keys[at] = left->keys[keep];
    } else if (left->count < keep) {
        const uint32_t n = keep - left->count;
        left->keys[left->count] = parent->keys[at];
        keys_copy(left, left->count + 1, right, 0, n - 1);
        kids_copy(left, left->count + 1, right, 0, n);
        parent->keys[at] = right->keys[n - 1];
        keys_copy(right, 0, right, n, right->count - n);
        kids_copy(right, 0, right, n, right->count - n + 1);
    }
    left->count = keep;
    right->count = total - keep;
}

/* The leaf at the end of the path lost a key: mend what is too empty, upward. */
static void mend(struct omap *map, const struct path *path, uint32_t left_in_leaf)
{
    uint32_t left = left_in_leaf;

    for (uint32_t level = map->height; level-- > 0 && left < KEYS_MIN;) {
        struct branch *parent = path->branch[level];
        const uint32_t at = path->kid[level] > 0 ? path->kid[level] - 1 : 0;

        if (level == map->height - 1)
            mend_leaves(map, parent, at);
        else
            mend_branches(map, parent, at);
        left = parent->count;
    }

    struct branch *root = map->root;
    if (map->height > 0 && root->count == 0) {
        map->root = root->kids[0];
        map->height--;
        mem_free(map->mem, root, sizeof *root);
    }
}

void *omap_remove(struct omap *map, uint64_t key)
{
    struct path path;
    struct leaf *leaf = leaf_on_path(map, key, &path);
    if (leaf == NULL) return NULL;

    const uint32_t at = count_below(leaf->keys, leaf->count, key);
    if (at == leaf->count || leaf->keys[at] != key) return NULL;

    void *value = leaf->values[at];
    leaf->count--;
    leaf_copy(leaf, at, leaf, at + 1, leaf->count - at);
    map->count--;
    if (map->count == 0) {
        check(map->height == 0);
        mem_free(map->mem, leaf, sizeof *leaf);
        map->root = NULL;
    } else {
        mend(map, &path, leaf->count);
    }
    return value;
}

/* ---- whole-tree walks ---- */

void omap_free(struct omap *map)
{
    struct path path = {.branch = {map->root}};
    uint32_t level = 0;

    /* Depth first: free the kids of a branch one after the other, then the branch. */
    for (bool more = map->height > 0; more;) {
        struct branch *branch = path.branch[level];
        const uint32_t kid = path.kid[level];

        if (kid > branch->count) {
            mem_free(map->mem, branch, sizeof *branch);
            more = level-- > 0;
        } else {
            path.kid[level]++;
            if (level + 1 < map->height) {
                path.branch[++level] = branch->kids[kid];
                path.kid[level] = 0;
            } else {
                mem_free(map->mem, branch->kids[kid], sizeof(struct leaf));
            }
        }
    }
    if (map->height == 0)
        mem_free(map->mem, map->root, map->root ? sizeof(struct leaf) : 0);
    mem_free(map->mem, map, sizeof *map);
}

struct bounds {
    uint64_t first, last; /* both in */
};

static void verify_keys(const uint64_t *keys, uint32_t n, struct bounds in)
{
    for (uint32_t i = 0; i < n; i++) {
        check(keys[i] >= in.first);             /* O2 */
        check(keys[i] <= in.last);              /* O2 */
        check(i == 0 || keys[i - 1] < keys[i]); /* O1 */
    }
}

static struct bounds kid_bounds(const struct branch *branch, uint32_t kid,
                                struct bounds in)
{
    return (struct bounds){
        .first = kid > 0 ? branch->keys[kid - 1] : in.first,
        .last = kid < branch->count ? branch->keys[kid] - 1 : in.last,
    };
}

/* Checks a leaf and that it is the one its left neighbour names; the next one to
 * expect. */
static const struct leaf *verify_leaf(const struct omap *map, const struct leaf *leaf,
                                      const struct leaf *expected, struct bounds in)
{
    check(leaf == expected);                                                   /* O1 */
    check(leaf->count >= 1);                                                   /* O4 */
    check(leaf->count <= KEYS_MAX);                                            /* O4 */
    if (map->height > 0 && leaf->next != NULL) check(leaf->count >= KEYS_MIN); /* O4 */
    verify_keys(leaf->keys, leaf->count, in);
    return leaf->next;
}

static void verify_branch(const struct branch *branch, uint32_t level, struct bounds in)
{
    check(branch->count >= 1);                       /* O3 */
    check(branch->count <= KEYS_MAX);                /* O3 */
    if (level > 0) check(branch->count >= KEYS_MIN); /* O4 */
    verify_keys(branch->keys, branch->count, in);
}

void omap_verify(const struct omap *map)
{
    check((map->root == NULL) == (map->count == 0)); /* O5 */
    check(map->height < HEIGHT_MAX);
    if (map->root == NULL) return;

    const struct bounds all = {0, UINT64_MAX};
    const struct leaf *next = leaf_for(map, 0);
    uint64_t count = 0;
    for (const struct leaf *leaf = next; leaf != NULL; leaf = leaf->next)
        count += leaf->count;
    check(count == map->count); /* O5 */

    struct path path = {.branch = {map->root}};
    struct bounds in[HEIGHT_MAX + 1] = {all};
    uint32_t level = 0;
    if (map->height == 0) next = verify_leaf(map, map->root, next, all);
    for (bool more = map->height > 0; more;) {
        struct branch *branch = path.branch[level];
        const uint32_t kid = path.kid[level]++;

        if (kid == 0) verify_branch(branch, level, in[level]);
        if (kid > branch->count) {
            more = level-- > 0;
            continue;
        }
        const struct bounds below = kid_bounds(branch, kid, in[level]);
        if (level + 1 == map->height) {
            next = verify_leaf(map, branch->kids[kid], next, below); /* O3 */
        } else {
            level++;
            path.branch[level] = branch->kids[kid];
            path.kid[level] = 0;
            in[level] = below;
        }
    }
    check(next == NULL); /* O1: no leaf that no branch names */
}
