/* SPDX-License-Identifier: Apache-2.0 */
/* hmap against an array in which the key is the index. */
#include "unit.h"

#include <stdbool.h>

#include "base/hmap.h"
#include "base/prng.h"
#include "mem_test_alloc.h"

enum { KEYS = 2000 };

static char marks[256];

/* Several families of keys; each maps index to key one to one. */
static uint64_t key_of(int family, uint64_t i)
{
    switch (family) {
    case 0: return i;                                 /* ids */
    case 1: return i << 32;                           /* low bits all zero */
    case 2: return UINT64_MAX - i;                    /* with the largest key */
    default: return i * UINT64_C(0x9e3779b97f4a7c15); /* hashes */
    }
}

static void assert_same(const struct hmap *map, void *const *model, int family)
{
    uint64_t at = 0, key, walked = 0, count = 0;
    void *value;

    for (uint64_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(hmap_find(map, key_of(family, i)), model[i]);
        count += model[i] != NULL;
    }
    while (hmap_next(map, &at, &key, &value)) {
        assert_ptr_equal(hmap_find(map, key), value);
        walked++;
    }
    assert_int_equal(walked, count);
    assert_int_equal(map->count, count);
    assert_true(map->count <= map->cap / 4 * 3);
}

static void random_changes_agree_with_an_array(void **state)
{
    (void)state;
    for (int family = 0; family < 4; family++) {
        struct mem mem = mem_for_test();
        struct hmap map = hmap_new(&mem);
        struct prng p = prng_seed((uint64_t)family);
        void *model[KEYS] = {0};

        for (uint32_t step = 0; step < 40000; step++) {
            const uint64_t i = prng_below(&p, KEYS);
            const uint64_t key = key_of(family, i);
            if (prng_chance(&p, step / 10000 % 2 ? 300 : 700)) {
                void *value = &marks[prng_below(&p, sizeof marks)];
                assert_ptr_equal(hmap_put(&map, key, value), model[i]);
                model[i] = value;
            } else {
                assert_ptr_equal(hmap_remove(&map, key), model[i]);
                model[i] = NULL;
            }
            if (step % 499 == 0) assert_same(&map, model, family);
        }
        assert_same(&map, model, family);
        hmap_free(&map);
        assert_int_equal(mem.used, 0);
    }
}

static void an_empty_map_owns_nothing(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct hmap map = hmap_new(&mem);
    uint64_t at = 0, key;
    void *value;

    assert_null(hmap_find(&map, 1));
    assert_null(hmap_remove(&map, 1));
    assert_false(hmap_next(&map, &at, &key, &value));
    assert_int_equal(mem.used, 0);
    hmap_free(&map);
}

static void the_same_changes_give_the_same_walk(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct hmap a = hmap_new(&mem), b = hmap_new(&mem);
    struct prng p = prng_seed(11);

    for (int i = 0; i < 500; i++) {
        const uint64_t key = prng_next(&p);
        hmap_put(&a, key, &marks[0]);
        hmap_put(&b, key, &marks[1]);
    }
    uint64_t at_a = 0, at_b = 0, key_a, key_b;
    void *value;
    while (hmap_next(&a, &at_a, &key_a, &value)) {
        assert_true(hmap_next(&b, &at_b, &key_b, &value));
        assert_true(key_a == key_b);
    }
    hmap_free(&a);
    hmap_free(&b);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_agree_with_an_array),
        cmocka_unit_test(an_empty_map_owns_nothing),
        cmocka_unit_test(the_same_changes_give_the_same_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
