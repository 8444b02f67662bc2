/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/mem.h"
#include "mem_test_alloc.h"

static void every_byte_is_accounted_for(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();

    void *a = mem_alloc(&mem, 100);
    unsigned char *b = mem_zero(&mem, 50);
    assert_int_equal(mem.used, 150);
    for (int i = 0; i < 50; i++)
        assert_int_equal(b[i], 0);

    a = mem_resize(&mem, a, 100, 300);
    assert_int_equal(mem.used, 350);
    a = mem_resize(&mem, a, 300, 20);
    assert_int_equal(mem.used, 70);

    assert_null(mem_resize(&mem, a, 20, 0));
    mem_free(&mem, b, 50);
    assert_int_equal(mem.used, 0);
}

static void nothing_takes_no_memory(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();

    assert_null(mem_alloc(&mem, 0));
    assert_null(mem_zero(&mem, 0));
    assert_null(mem_resize(&mem, NULL, 0, 0));
    mem_free(&mem, NULL, 0);
    assert_int_equal(mem.used, 0);
}

static void the_limit_refuses_only_when_asked(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();

    assert_true(mem_room(&mem, SIZE_MAX)); /* no limit */
    mem.limit = 100;
    assert_true(mem_room(&mem, 100));
    assert_false(mem_room(&mem, 101));
    assert_false(mem_room(&mem, SIZE_MAX));

    void *a = mem_alloc(&mem, 150); /* a step begun is carried through */
    assert_false(mem_room(&mem, 0));
    mem_free(&mem, a, 150);
    assert_true(mem_room(&mem, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_accounted_for),
        cmocka_unit_test(nothing_takes_no_memory),
        cmocka_unit_test(the_limit_refuses_only_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
