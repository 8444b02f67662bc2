/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <string.h>

#include "base/buf.h"
#include "base/prng.h"
#include "mem_test_alloc.h"

static void everything_put_is_read_back(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    buf_put_u8(&b, 0xfe);
    buf_put_u16(&b, 0xfedc);
    buf_put_u32(&b, 0xfedcba98);
    buf_put_u64(&b, UINT64_C(0xfedcba9876543210));
    buf_put_varint(&b, 300);
    buf_put_blob(&b, BYTES_OF("blob"));
    buf_put_blob(&b, (struct bytes){0});
    buf_put(&b, "raw", 3);

    struct cursor c = cursor_of(buf_bytes(&b));
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    struct bytes run;
    assert_true(get_u8(&c, &u8) && u8 == 0xfe);
    assert_true(get_u16(&c, &u16) && u16 == 0xfedc);
    assert_true(get_u32(&c, &u32) && u32 == 0xfedcba98);
    assert_true(get_u64(&c, &u64) && u64 == UINT64_C(0xfedcba9876543210));
    assert_true(get_varint(&c, &u64) && u64 == 300);
    assert_true(get_blob(&c, &run) && bytes_equal(run, BYTES_OF("blob")));
    assert_true(get_blob(&c, &run) && run.len == 0);
    assert_true(get_bytes(&c, 3, &run) && bytes_equal(run, BYTES_OF("raw")));
    assert_int_equal(cursor_left(&c), 0);

    buf_free(&b);
    assert_int_equal(mem.used, 0);
}

/* The model: what lies in the buffer is the last bytes of a stream that counts. */
static void random_puts_and_cuts_keep_the_stream(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct prng p = prng_seed(1);
    size_t first = 0, last = 0;

    for (int step = 0; step < 3000; step++) {
        if (prng_chance(&p, 550)) {
            const size_t n = (size_t)prng_below(&p, 200);
            uint8_t *at = buf_extend(&b, n);
            for (size_t i = 0; i < n; i++)
                at[i] = (uint8_t)last++;
        } else {
            const size_t n = (size_t)prng_range(&p, 0, b.len < 200 ? b.len : 200);
            buf_cut_front(&b, n);
            first += n;
        }
        assert_int_equal(b.len, last - first);
        for (size_t i = 0; i < b.len; i++)
            if (b.at[i] != (uint8_t)(first + i)) fail();
    }
    buf_free(&b);
    assert_int_equal(mem.used, 0);
}

static void putf_grows_to_what_the_text_needs(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    buf_putf(&b, "%s=%d;", "x", 5);
    assert_true(bytes_equal(buf_bytes(&b), BYTES_OF("x=5;")));
    buf_putf(&b, "%0500d", 7);
    assert_int_equal(b.len, 504);
    assert_int_equal(b.at[503], '7');
    for (int n = 60; n < 70; n++) { /* around the first guess at the room */
        buf_free(&b);
        buf_putf(&b, "%0*d", n, 1);
        assert_int_equal(b.len, n);
    }
    buf_free(&b);
    assert_int_equal(mem.used, 0);
}

static void appending_grows_by_doubling(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    int moves = 0;

    for (int i = 0; i < 1 << 16; i++) {
        const size_t cap = b.cap;
        buf_put_u8(&b, (uint8_t)i);
        moves += b.cap != cap;
    }
    assert_true(moves <= 11);
    buf_reserve(&b, 0);
    assert_int_equal(b.len, 1 << 16);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_put_is_read_back),
        cmocka_unit_test(random_puts_and_cuts_keep_the_stream),
        cmocka_unit_test(putf_grows_to_what_the_text_needs),
        cmocka_unit_test(appending_grows_by_doubling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
