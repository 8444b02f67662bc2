/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/prng.h"
#include "mem_test_alloc.h"

static void order_is_lexicographic_and_shorter_first(void **state)
{
    (void)state;
    static const char *const rising[] = {"", "a", "aa", "ab", "b", "ba", "\xff"};
    enum { N = sizeof rising / sizeof rising[0] };

    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            const int order = bytes_compare(bytes_of_str(rising[i]),
                                            bytes_of_str(rising[j]));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
    assert_int_equal(bytes_compare((struct bytes){0}, BYTES_OF("")), 0);
}

static void names_compare_without_case(void **state)
{
    (void)state;
    assert_true(bytes_equal_nocase(BYTES_OF("GeT"), "get"));
    assert_true(bytes_equal_nocase(BYTES_OF(""), ""));
    assert_false(bytes_equal_nocase(BYTES_OF("get"), "gets"));
    assert_false(bytes_equal_nocase(BYTES_OF("gets"), "get"));
    assert_false(bytes_equal_nocase(BYTES_OF("@"), "`")); /* only letters have case */
    assert_false(bytes_equal_nocase(BYTES_OF("[a"), "{a"));
    assert_false(bytes_equal_nocase(BYTES_OF("a\0b"), "a"));
}

static void big_endian_stores_order_as_their_bytes(void **state)
{
    (void)state;
    struct prng p = prng_seed(2);

    for (int i = 0; i < 1000; i++) {
        const uint64_t a = prng_next(&p) >> prng_below(&p, 64);
        const uint64_t b = prng_next(&p) >> prng_below(&p, 64);
        uint8_t text_a[8], text_b[8];
        store_u64be(text_a, a);
        store_u64be(text_b, b);
        assert_true(load_u64be(text_a) == a);
        assert_int_equal(memcmp(text_a, text_b, 8) < 0, a < b);
        store_u32be(text_a, (uint32_t)a);
        assert_true(load_u32be(text_a) == (uint32_t)a);
    }
}

static void varints_come_back_and_have_one_form(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    for (uint32_t bit = 0; bit <= 64; bit++) {
        for (uint64_t off = 0; off < 3; off++) {
            const uint64_t v = (bit < 64 ? UINT64_C(1) << bit : 0) + off - 1;
            uint64_t out = 0;
            b.len = 0;
            buf_put_varint(&b, v);
            struct cursor c = cursor_of(buf_bytes(&b));
            assert_true(get_varint(&c, &out));
            assert_true(out == v);
            assert_int_equal(cursor_left(&c), 0);

            b.at[b.len - 1] |= 0x80; /* the same number, padded */
            if (b.len < 10) buf_put_u8(&b, 0);
            c = cursor_of(buf_bytes(&b));
            assert_false(get_varint(&c, &out));
        }
    }
    buf_free(&b);
}

static void readers_leave_all_untouched_when_they_refuse(void **state)
{
    (void)state;
    static const uint8_t endless[11] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                        0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t too_large[10] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t long_blob[] = {5, 'a', 'b', 'c', 'd'};
    uint64_t u64 = 42;
    uint32_t u32 = 42;
    uint16_t u16 = 42;
    uint8_t u8 = 42;
    struct bytes run = BYTES_OF("keep");

    struct cursor c = cursor_of((struct bytes){endless, sizeof endless});
    assert_false(get_varint(&c, &u64));
    assert_ptr_equal(c.at, endless);
    c = cursor_of((struct bytes){too_large, sizeof too_large});
    assert_false(get_varint(&c, &u64));
    c = cursor_of((struct bytes){endless, 7});
    assert_false(get_varint(&c, &u64));
    assert_false(get_u64(&c, &u64));
    c = cursor_of((struct bytes){endless, 3});
    assert_false(get_u32(&c, &u32));
    c = cursor_of((struct bytes){endless, 1});
    assert_false(get_u16(&c, &u16));
    assert_ptr_equal(c.at, endless);
    c = cursor_of((struct bytes){long_blob, sizeof long_blob});
    assert_false(get_blob(&c, &run));
    assert_false(get_bytes(&c, sizeof long_blob + 1, &run));
    assert_ptr_equal(c.at, long_blob);
    c = cursor_of((struct bytes){0});
    assert_false(get_u8(&c, &u8));
    assert_false(get_varint(&c, &u64));

    assert_true(u64 == 42 && u32 == 42 && u16 == 42 && u8 == 42);
    assert_true(bytes_equal(run, BYTES_OF("keep")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_lexicographic_and_shorter_first),
        cmocka_unit_test(names_compare_without_case),
        cmocka_unit_test(big_endian_stores_order_as_their_bytes),
        cmocka_unit_test(varints_come_back_and_have_one_form),
        cmocka_unit_test(readers_leave_all_untouched_when_they_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
