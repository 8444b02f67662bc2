/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/block.h"
#include "mem_test_alloc.h"

static struct block *block_of(struct mem *mem, const char *text)
{
    struct buf bytes = buf_new(mem);

    buf_put(&bytes, text, strlen(text));
    struct block *b = block_take(&bytes);
    assert_null(bytes.at);
    return b;
}

static void the_last_reference_frees_it(void **state)
{
    struct mem mem = mem_for_test();
    struct block *b = block_of(&mem, "value");

    (void)state;
    assert_ptr_equal(block_ref(b), b);
    block_unref(b);
    assert_true(bytes_equal(buf_bytes(&b->bytes), BYTES_OF("value")));
    block_unref(b);
    assert_int_equal(mem.used, 0);
    assert_null(block_ref(NULL));
    block_unref(NULL);
}

static void what_nobody_kept_is_given_back(void **state)
{
    struct mem mem = mem_for_test();
    struct block *b = block_of(&mem, "value");
    struct buf bytes = buf_new(&mem);

    (void)state;
    block_ref(b);
    assert_false(block_untake(b, &bytes));
    block_unref(b);
    assert_true(block_untake(b, &bytes));
    assert_true(bytes_equal(buf_bytes(&bytes), BYTES_OF("value")));
    buf_free(&bytes);
    assert_int_equal(mem.used, 0);
}

static void trimming_gives_back_what_is_behind(void **state)
{
    struct mem mem = mem_for_test();
    struct block *b = block_of(&mem, "value");

    (void)state;
    block_trim(b);
    assert_int_equal(b->bytes.cap, 5);
    assert_int_equal(mem.used, sizeof *b + 5);
    block_unref(b);
    assert_int_equal(mem.used, 0);
}

/* A block may still be filled while its beginning is on its way. */
static void only_what_is_there_of_a_far_part_may_be_sent(void **state)
{
    struct mem mem = mem_for_test();
    struct block *b = block_of(&mem, "abcdef");
    struct far far = {.block = b, .from = 2, .len = 6};

    (void)state;
    assert_int_equal(far_there(&far), 4);
    buf_put(&b->bytes, "ghij", 4);
    assert_int_equal(far_there(&far), 6);
    far_drop(&far);
    assert_null(far.block);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reference_frees_it),
        cmocka_unit_test(what_nobody_kept_is_given_back),
        cmocka_unit_test(trimming_gives_back_what_is_behind),
        cmocka_unit_test(only_what_is_there_of_a_far_part_may_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
