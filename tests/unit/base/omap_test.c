/* SPDX-License-Identifier: Apache-2.0 */
/* omap against a sorted array, which is slow and plainly right. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/omap.h"
#include "base/prng.h"
#include "mem_test_alloc.h"

enum { MODEL_MAX = 20000 };

struct pair {
    uint64_t key;
    void *value;
};

struct model {
    struct pair pairs[MODEL_MAX];
    uint32_t count;
};

/* What is stored need only be told apart: any address in here will do. */
static char marks[256];

static void *mark_of(uint64_t n)
{
    return &marks[n % sizeof marks];
}

static uint32_t model_place(const struct model *m, uint64_t key)
{
    uint32_t lo = 0, hi = m->count;

    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;
        if (m->pairs[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool model_has(const struct model *m, uint64_t key)
{
    const uint32_t at = model_place(m, key);

    return at < m->count && m->pairs[at].key == key;
}

static void model_put(struct model *m, uint64_t key, void *value)
{
    const uint32_t at = model_place(m, key);

    if (!model_has(m, key)) {
        check(m->count < MODEL_MAX);
        memmove(&m->pairs[at + 1], &m->pairs[at], (m->count - at) * sizeof m->pairs[0]);
        m->count++;
    }
    m->pairs[at] = (struct pair){key, value};
}

static void *model_remove(struct model *m, uint64_t key)
{
    const uint32_t at = model_place(m, key);

    if (!model_has(m, key)) return NULL;
    void *value = m->pairs[at].value;
    m->count--;
    memmove(&m->pairs[at], &m->pairs[at + 1], (m->count - at) * sizeof m->pairs[0]);
    return value;
}

static void assert_same(const struct omap *map, const struct model *m)
{
    struct omap_walk walk = omap_walk_from(map, 0);
    uint64_t key;
    void *value;

    omap_verify(map);
    assert_int_equal(omap_count(map), m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        assert_true(omap_walk_next(&walk, &key, &value));
        assert_true(key == m->pairs[i].key);
        assert_ptr_equal(value, m->pairs[i].value);
    }
    assert_false(omap_walk_next(&walk, &key, &value));
    assert_false(omap_walk_next(&walk, &key, &value));
}

static void assert_same_at(const struct omap *map, const struct model *m, uint64_t from)
{
    const uint32_t at = model_place(m, from);
    const bool exact = model_has(m, from);
    uint64_t key;
    void *value;

    assert_ptr_equal(omap_find(map, from), exact ? m->pairs[at].value : NULL);
    assert_int_equal(omap_seek(map, from, &key, &value), at < m->count);
    if (at == m->count) return;
    assert_true(key == m->pairs[at].key);
    assert_ptr_equal(value, m->pairs[at].value);
}

/* Keys of several kinds: dense, spread over all 64 bits, and the two ends. */
static uint64_t draw_key(struct prng *p, uint64_t dense)
{
    const uint64_t kind = prng_below(p, 100);

    if (kind == 0) return UINT64_MAX - prng_below(p, 3);
    if (kind == 1) return prng_below(p, 3);
    if (kind < 20) return prng_below(p, dense) * UINT64_C(0x9e3779b97f4a7c15);
    return prng_below(p, dense);
}

static void random_changes(uint64_t seed, uint64_t dense, uint32_t steps)
{
    struct prng p = prng_seed(seed);
    struct mem mem = mem_for_test();
    struct omap *map = omap_new(&mem);
    struct model *m = calloc(1, sizeof *m);
    uint32_t put_per_1000 = 500;

    assert_non_null(m);
    for (uint32_t i = 0; i < steps; i++) {
        /* Growing and shrinking phases, so that splits and merges reach the root. */
        if (i % 2000 == 0) put_per_1000 = prng_chance(&p, 500) ? 800 : 200;

        const uint64_t key = draw_key(&p, dense);
        if (prng_chance(&p, put_per_1000)) {
            void **slot = omap_slot(map, key);
            assert_ptr_equal(*slot, model_has(m, key) ? omap_find(map, key) : NULL);
            *slot = mark_of(i);
            model_put(m, key, mark_of(i));
        } else {
            assert_ptr_equal(omap_remove(map, key), model_remove(m, key));
        }
        assert_same_at(map, m, key);
        assert_same_at(map, m, draw_key(&p, dense));
        if (i % 97 == 0) assert_same(map, m);
    }
    assert_same(map, m);
    omap_free(map);
    assert_int_equal(mem.used, 0);
    free(m);
}

static void random_changes_agree_with_a_sorted_array(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        random_changes(seed, 60, 4000);
        random_changes(seed, 3000, 20000);
    }
    random_changes(9, 15000, 60000);
}

static void an_empty_map_has_nothing_and_owns_only_itself(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct omap *map = omap_new(&mem);
    const size_t alone = mem.used;
    uint64_t key;
    void *value;

    omap_verify(map);
    assert_null(omap_find(map, 7));
    assert_null(omap_remove(map, 7));
    assert_false(omap_seek(map, 0, &key, &value));
    *omap_slot(map, 7) = mark_of(1);
    assert_ptr_equal(omap_remove(map, 7), mark_of(1));
    assert_int_equal(mem.used, alone);
    omap_free(map);
    assert_int_equal(mem.used, 0);
}

/* A log: keys rise at one end and are dropped at the other. */
static void rising_keys_fill_their_leaves(void **state)
{
    (void)state;
    enum { N = 31 * 1000 };
    struct mem mem = mem_for_test();
    struct omap *map = omap_new(&mem);

    for (uint64_t key = 1; key <= N; key++)
        *omap_slot(map, key) = mark_of(key);
    omap_verify(map);
    /* A thousand full leaves, and branches that are at least half full. */
    assert_true(mem.used < (1000 + 80) * 512);

    for (uint64_t key = 1; key <= N; key++) {
        assert_ptr_equal(omap_remove(map, key), mark_of(key));
        *omap_slot(map, key + N) = mark_of(key + N);
        if (key % 501 == 0) omap_verify(map);
    }
    for (uint64_t key = 2 * N; key > N; key--) {
        assert_ptr_equal(omap_remove(map, key), mark_of(key));
        if (key % 501 == 0) omap_verify(map);
    }
    assert_int_equal(omap_count(map), 0);
    omap_free(map);
    assert_int_equal(mem.used, 0);
}

static void falling_keys_build_a_sound_tree(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct omap *map = omap_new(&mem);

    for (uint64_t key = 20000; key > 0; key--)
        *omap_slot(map, key) = mark_of(key);
    omap_verify(map);
    for (uint64_t key = 1; key <= 20000; key += 2)
        assert_ptr_equal(omap_remove(map, key), mark_of(key));
    omap_verify(map);
    assert_int_equal(omap_count(map), 10000);
    omap_free(map);
    assert_int_equal(mem.used, 0);
}

static void a_walk_by_seek_survives_changes_in_between(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct omap *map = omap_new(&mem);
    uint64_t at = 0, seen = 0, key;
    void *value;

    for (uint64_t i = 0; i < 5000; i++)
        *omap_slot(map, i * 2) = mark_of(i);
    while (omap_seek(map, at, &key, &value)) {
        assert_true(key == seen * 2);
        seen++;
        at = key + 1;
        omap_remove(map, key);                                /* behind the cursor */
        *omap_slot(map, key / 2 * 2 + 10001) = mark_of(seen); /* ahead, past the end */
        if (seen == 5000) break;
    }
    assert_int_equal(seen, 5000);
    omap_verify(map);
    omap_free(map);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_agree_with_a_sorted_array),
        cmocka_unit_test(an_empty_map_has_nothing_and_owns_only_itself),
        cmocka_unit_test(rising_keys_fill_their_leaves),
        cmocka_unit_test(falling_keys_build_a_sound_tree),
        cmocka_unit_test(a_walk_by_seek_survives_changes_in_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
