/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <string.h>

#include "base/omap.h"
#include "base/prng.h"
#include "mem_test_alloc.h"
#include "store/arena.h"

enum { PIECES = 5000 };

struct piece {
    uint8_t *at;
    size_t len;
};

static struct piece pieces[PIECES + 1];

static void make(struct arena *a, uint32_t i, size_t len)
{
    pieces[i] = (struct piece){arena_alloc(a, len, i), len};
    assert_int_equal((uintptr_t)pieces[i].at % 8, 0);
    memset(pieces[i].at, (int)(i % 251), len);
}

static void expect_whole(uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i <= last; i++)
        for (size_t j = 0; j < pieces[i].len; j++)
            assert_int_equal(pieces[i].at[j], i % 251);
}

/* The address sanitizer sees it if a living piece was given back, for the grave is
 * emptied to the last chunk after every step. */
static void what_is_not_released_stays_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena a = {.grave = &grave};
    struct prng rng = prng_seed(1);
    uint32_t first = 1, last = 0;

    while (last < PIECES - 50) {
        for (uint64_t n = prng_range(&rng, 1, 50); n > 0; n--)
            make(&a, ++last, prng_below(&rng, prng_chance(&rng, 5) ? 600000 : 300));
        if (prng_chance(&rng, 200)) arena_seal(&a);
        if (prng_chance(&rng, 200)) {
            first += (uint32_t)prng_below(&rng, last - first + 2);
            arena_release(&a, first - 1);
        }
        if (prng_chance(&rng, 200)) {
            last -= (uint32_t)prng_below(&rng, last - first + 2);
            arena_rollback(&a, last);
        }
        grave_empty(&grave, prng_chance(&rng, 500) ? UINT32_MAX : 1);
        expect_whole(first, last);
    }
    arena_release_all(&a);
    assert_int_equal(a.bytes, 0);
    grave_empty(&grave, UINT32_MAX);
    assert_int_equal(grave.bytes, 0);
    assert_int_equal(mem.used, 0);
}

static void what_is_released_is_used_again_and_given_back_in_steps(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena a = {.grave = &grave}, b = {.grave = &grave};

    for (uint64_t i = 1; i <= 10000; i++)
        arena_alloc(&a, 400, i);
    const uint64_t held = a.bytes;
    assert_true(held >= 4000000 && held < 5000000);
    arena_release(&a, 10000);
    assert_int_equal(grave.bytes, held);

    const size_t used = mem.used;
    grave_empty(&grave, 1);
    assert_true(mem.used < used && mem.used > used / 2);
    const size_t left = mem.used;
    for (uint64_t i = 1; i <= 10000; i++)
        arena_alloc(&b, 400, i);
    assert_true(mem.used < left + left / 2); /* most of it is what the other left */
    arena_release_all(&b);
    grave_empty(&grave, UINT32_MAX);
    assert_int_equal(mem.used, 0);
}

/* An empty table of a store that was full takes little, or it would be due for a checkpoint
 * as soon as it is made. */
static void a_small_arena_takes_no_large_chunk_of_another(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena full = {.grave = &grave}, fresh = {.grave = &grave};

    for (uint32_t i = 1; i <= PIECES; i++)
        make(&full, i, 300);
    arena_release_all(&full);
    const uint64_t left = grave.bytes;
    assert_true(left > 1 << 20);
    make(&fresh, 1, 8);
    assert_true(fresh.bytes <= 1024);
    for (uint32_t i = 2; i <= PIECES; i++)
        make(&fresh, i, 300);
    assert_true(grave.bytes < left); /* what has grown as large takes them */
    expect_whole(1, PIECES);
    arena_release_all(&fresh);
    grave_empty(&grave, UINT32_MAX);
    assert_int_equal(mem.used, 0);
}

static void a_map_lives_in_an_arena_and_goes_with_it(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena_mem m;
    struct prng rng = prng_seed(2);

    arena_mem_init(&m, &grave);
    struct omap *map = omap_new(&m.mem);
    for (int i = 0; i < 20000; i++)
        *omap_slot(map, prng_below(&rng, 5000)) = map;
    const uint64_t held = m.arena.bytes;
    for (int turn = 0; turn < 5; turn++) { /* cells that were freed are used again */
        for (uint64_t key = 0; key < 5000; key++)
            omap_remove(map, key);
        for (uint64_t key = 0; key < 5000; key++)
            *omap_slot(map, key) = map;
    }
    omap_verify(map);
    assert_true(m.arena.bytes <= held + (64 << 10));
    arena_release_all(&m.arena);
    grave_empty(&grave, UINT32_MAX);
    assert_int_equal(mem.used, 0);
}

/* A block goes with the piece that refers to it, and counts as much as it did when it was
 * held: others may add to it meanwhile. */
static void a_block_is_held_as_long_as_its_piece(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena a = {.grave = &grave};
    struct block *blocks[4];

    for (uint64_t i = 0; i < 4; i++) {
        struct buf bytes = buf_new(&mem);
        buf_put(&bytes, "some bytes", 10);
        blocks[i] = block_take(&bytes);
        arena_alloc(&a, 16, i + 1);
        arena_hold(&a, blocks[i], i + 1);
        buf_put(&blocks[i]->bytes, "and more", 8);
        block_unref(blocks[i]);
    }
    const uint64_t before = a.bytes;
    arena_release(&a, 1);
    assert_int_equal(a.bytes, before - 10);
    arena_rollback(&a, 2);
    assert_int_equal(a.bytes, before - 30);
    assert_true(
        bytes_equal(buf_bytes(&blocks[1]->bytes), BYTES_OF("some bytesand more")));
    struct buf bytes = buf_new(&mem);
    buf_put(&bytes, "another", 7);
    struct block *another = block_take(&bytes);
    arena_hold(&a, another, 2);
    block_unref(another);
    arena_release_all(&a);
    assert_int_equal(a.bytes, 0);
    grave_empty(&grave, UINT32_MAX);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_released_stays_whole),
        cmocka_unit_test(what_is_released_is_used_again_and_given_back_in_steps),
        cmocka_unit_test(a_small_arena_takes_no_large_chunk_of_another),
        cmocka_unit_test(a_map_lives_in_an_arena_and_goes_with_it),
        cmocka_unit_test(a_block_is_held_as_long_as_its_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
