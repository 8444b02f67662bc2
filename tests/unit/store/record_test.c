/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "mem_test_alloc.h"
#include "store/table.h"

static uint8_t key_room[KEY_MAX];

static struct bytes key_of(size_t len)
{
    for (size_t i = 0; i < len; i++)
        key_room[i] = (uint8_t)(i * 7);
    return (struct bytes){key_room, len};
}

static void a_node_holds_its_record_as_the_engine_will(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct grave grave = {.mem = &mem};
    struct arena arena = {.grave = &grave};
    static const size_t key_lens[] = {0, 1, 399, 400, 401, 16383, 16384, KEY_MAX};
    static const size_t value_lens[] = {0, 1, 100, 1 << 20, (1 << 20) + 1, 3 << 20};
    static uint8_t value[3 << 20];

    for (size_t i = 0; i < sizeof key_lens / sizeof key_lens[0]; i++)
        for (size_t j = 0; j < sizeof value_lens / sizeof value_lens[0]; j++) {
            const struct node_content of = {.what = NODE_RECORD,
                                            .created = true,
                                            .place = 9,
                                            .key = key_of(key_lens[i]),
                                            .value = {value, value_lens[j]},
                                            .type = ITEM_STRING,
                                            .deadline_ms = -5,
                                            .change = {UINT64_MAX}};
            const struct node *n = node_new(&arena, 1, &of);
            struct record r;

            assert_true(bytes_equal(node_key(n), of.key));
            assert_true(bytes_equal(node_value(n), of.value));
            assert_true(record_decode(node_record(n), &r));
            assert_int_equal(r.type, ITEM_STRING);
            assert_int_equal(r.deadline_ms, -5);
            assert_int_equal(r.change.v, UINT64_MAX);
            assert_int_equal(r.length, of.value.len);
            assert_int_equal((r.flags & RECORD_LONG_KEY) != 0, of.key.len > 400);
            assert_int_equal((r.flags & RECORD_PIECES) != 0, of.value.len > 1 << 20);
            if ((r.flags & RECORD_LONG_KEY) != 0) assert_true(bytes_equal(r.key, of.key));
            if ((r.flags & RECORD_PIECES) == 0)
                assert_true(bytes_equal(r.value, of.value));
        }
    arena_release_all(&arena);
    grave_empty(&grave, UINT32_MAX);
}

/* Each on a heap block of its own, so that the sanitizer sees a byte read past the
 * end. */
static void no_bytes_make_a_decoder_read_past_them(void **state)
{
    (void)state;
    struct prng rng = prng_seed(4);
    struct mem mem = mem_for_test();

    for (int i = 0; i < 200000; i++) {
        const size_t len = prng_below(&rng, 60);
        uint8_t *at = malloc(len > 0 ? len : 1);
        for (size_t j = 0; j < len; j++)
            at[j] = (uint8_t)(prng_chance(&rng, 500) ? prng_below(&rng, 4)
                                                     : prng_next(&rng));
        const struct bytes in = {at, len};
        struct record r = {.length = 77};
        struct root root = {.keys = 77};

        if (record_decode(in, &r))
            assert_true(r.value.len <= len);
        else
            assert_int_equal(r.length, 77);
        if (!root_decode(in, &mem, &root)) assert_int_equal(root.keys, 77);
        root_free(&root, &mem);
        free(at);
    }
}

static void a_root_comes_back_as_it_was(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 127, 128, EXTRA_MAX};
    struct mem mem = mem_for_test();

    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct root root = {.gen = 3, .keys = 4, .system = 5}, back = {0};
        const struct store_base base = {{1}, {2}, key_of(lens[i])};
        uint8_t at[ROOT_MAX];

        root_set_base(&root, &mem, &base);
        const size_t len = root_encode(&root, at);
        assert_true(root_decode((struct bytes){at, len}, &mem, &back));
        assert_int_equal(back.gen, 3);
        assert_int_equal(back.keys, 4);
        assert_int_equal(back.system, 5);
        assert_int_equal(root_base(&back).index.v, 1);
        assert_int_equal(root_base(&back).term.v, 2);
        assert_true(bytes_equal(root_base(&back).extra, base.extra));
        assert_false(root_decode((struct bytes){at, len - 1}, &mem, &back));
        root_free(&root, &mem);
        root_free(&back, &mem);
        assert_int_equal(mem.used, 0);
    }
}

static void keys_order_as_their_parts_do(void **state)
{
    (void)state;
    uint8_t room[SUFFIX_MAX];
    struct ekey a, b;

    ekey_data(&a, 1, 5, BYTES_OF("zz"));
    ekey_data(&b, 1, 6, BYTES_OF("a"));
    assert_true(bytes_compare(ekey_bytes(&a), ekey_bytes(&b)) < 0);
    ekey_data(&a, 255, 5, BYTES_OF("z"));
    ekey_data(&b, 256, 4, BYTES_OF("a"));
    assert_true(bytes_compare(ekey_bytes(&a), ekey_bytes(&b)) < 0);
    ekey_due(&a, 1, 255, 9, BYTES_OF("z"));
    ekey_due(&b, 1, 256, 1, BYTES_OF("a"));
    assert_true(bytes_compare(ekey_bytes(&a), ekey_bytes(&b)) < 0);
    ekey_piece(&a, 1, 1, suffix_of(key_of(KEY_MAX), room), 255);
    ekey_piece(&b, 1, 1, suffix_of(key_of(KEY_MAX), room), 256);
    assert_true(bytes_compare(ekey_bytes(&a), ekey_bytes(&b)) < 0);
    assert_true(a.len <= KV_KEY_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_holds_its_record_as_the_engine_will),
        cmocka_unit_test(no_bytes_make_a_decoder_read_past_them),
        cmocka_unit_test(a_root_comes_back_as_it_was),
        cmocka_unit_test(keys_order_as_their_parts_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
