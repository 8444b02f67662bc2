/* SPDX-License-Identifier: Apache-2.0 */
/* heap against a search through all nodes. */
#include "unit.h"

#include <stdbool.h>

#include "base/heap.h"
#include "base/prng.h"
#include "mem_test_alloc.h"

enum { NODES = 300 };

struct model {
    uint64_t key[NODES], seq[NODES];
    bool in[NODES];
    uint64_t clock;
};

static int model_min(const struct model *m)
{
    int min = -1;

    for (int i = 0; i < NODES; i++) {
        if (!m->in[i]) continue;
        if (min < 0 || m->key[i] < m->key[min] ||
            (m->key[i] == m->key[min] && m->seq[i] < m->seq[min]))
            min = i;
    }
    return min;
}

static void model_set(struct model *m, int i, uint64_t key)
{
    if (m->in[i] && m->key[i] == key) return;
    m->in[i] = true;
    m->key[i] = key;
    m->seq[i] = ++m->clock;
}

static void assert_places(const struct heap *h)
{
    for (uint32_t i = 0; i < h->count; i++) {
        assert_int_equal(h->nodes[i]->place, i + 1);
        if (i > 0) assert_true(h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
    }
}

static void random_changes_agree_with_a_search(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct mem mem = mem_for_test();
        struct heap h = heap_new(&mem);
        struct prng p = prng_seed(seed);
        struct heap_node nodes[NODES] = {0};
        struct model m = {.clock = 0};

        for (int step = 0; step < 8000; step++) {
            const int i = (int)prng_below(&p, NODES);
            if (prng_chance(&p, step / 2000 % 2 ? 300 : 700)) {
                const uint64_t key = prng_below(&p, seed % 2 ? 20 : UINT64_MAX);
                heap_set(&h, &nodes[i], key);
                model_set(&m, i, key);
            } else if (prng_chance(&p, 500)) {
                heap_remove(&h, &nodes[i]);
                m.in[i] = false;
            } else if (heap_min(&h) != NULL) {
                m.in[model_min(&m)] = false;
                heap_remove(&h, heap_min(&h));
            }
            const int min = model_min(&m);
            assert_ptr_equal(heap_min(&h), min < 0 ? NULL : &nodes[min]);
            if (step % 50 == 0) assert_places(&h);
        }
        heap_free(&h);
        assert_int_equal(mem.used, 0);
        for (int i = 0; i < NODES; i++)
            assert_int_equal(nodes[i].place, 0);
    }
}

static void equal_keys_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct heap h = heap_new(&mem);
    struct heap_node nodes[100] = {0};

    for (int i = 0; i < 100; i++)
        heap_set(&h, &nodes[i], 5);
    heap_set(&h, &nodes[0], 6);
    heap_set(&h, &nodes[0], 5); /* moved away and back: the last in line */
    for (int i = 1; i <= 100; i++) {
        assert_ptr_equal(heap_min(&h), &nodes[i % 100]);
        heap_remove(&h, heap_min(&h));
    }
    assert_null(heap_min(&h));
    heap_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_agree_with_a_search),
        cmocka_unit_test(equal_keys_come_out_in_the_order_they_went_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
