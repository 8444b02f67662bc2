/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/hash.h"
#include "base/prng.h"

static void a_pair_hashes_as_its_concatenation(void **state)
{
    (void)state;
    uint8_t text[3000];
    struct prng p = prng_seed(3);

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)prng_next(&p);
    for (int i = 0; i < 2000; i++) {
        const size_t len = (size_t)prng_range(&p, 0, i % 2 ? 600 : sizeof text);
        const size_t cut = (size_t)prng_range(&p, 0, len);
        const uint64_t seed = i % 3 ? prng_next(&p) : 0;
        const uint64_t whole = hash64_seed((struct bytes){text, len}, seed);
        const uint64_t pair = hash64_pair((struct bytes){text, cut},
                                          (struct bytes){text + cut, len - cut}, seed);
        assert_true(whole == pair);
    }
    assert_true(hash64_pair((struct bytes){0}, (struct bytes){0}, 9) ==
                hash64_seed(BYTES_OF(""), 9));
}

/* What is on disks and wires depends on these values: they must never change. */
static void fingerprints_are_the_published_ones(void **state)
{
    (void)state;
    assert_true(hash64((struct bytes){0}) == UINT64_C(0x2d06800538d394c2));
    assert_true(hash64_seed(BYTES_OF("x"), 0) == hash64(BYTES_OF("x")));
    assert_true(hash64_seed(BYTES_OF("x"), 1) != hash64(BYTES_OF("x")));

    const struct hash128 empty = hash128((struct bytes){0});
    assert_true(empty.lo == UINT64_C(0x6001c324468d497f));
    assert_true(empty.hi == UINT64_C(0x99aa06d3014798d8));
}

static void slots_are_those_of_redis_cluster(void **state)
{
    (void)state;
    assert_int_equal(key_slot(BYTES_OF("123456789")), 0x31c3);
    assert_int_equal(key_slot(BYTES_OF("foo")), 12182);
    assert_int_equal(key_slot(BYTES_OF("bar")), 5061);
    assert_int_equal(key_slot(BYTES_OF("")), 0);
    assert_int_equal(key_slot((struct bytes){0}), 0);
}

/* A second form of the CRC, bit by bit from the polynomial. */
static uint16_t slot_by_bits(struct bytes b)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < b.len; i++) {
        crc ^= (uint32_t)b.at[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1;
    }
    return (uint16_t)(crc % SLOTS);
}

static void the_table_agrees_with_the_polynomial(void **state)
{
    (void)state;
    struct prng p = prng_seed(4);
    uint8_t key[64];

    for (int i = 0; i < 3000; i++) {
        const size_t len = (size_t)prng_range(&p, 0, sizeof key);
        for (size_t k = 0; k < len; k++)
            key[k] = (uint8_t)(prng_next(&p) | 0x80); /* no braces */
        const struct bytes b = {key, len};
        assert_int_equal(key_slot(b), slot_by_bits(b));
    }
}

static void only_the_first_tag_counts_if_it_is_not_empty(void **state)
{
    (void)state;
    static const struct {
        const char *key, *hashed;
    } cases[] = {
        {"{user1000}.following", "user1000"},
        {"{user1000}.followers", "user1000"},
        {"foo{}{bar}", "foo{}{bar}"},
        {"foo{{bar}}zap", "{bar"},
        {"foo{bar}{zap}", "bar"},
        {"foo{bar", "foo{bar"},
        {"foo}bar{", "foo}bar{"},
        {"}{a}", "a"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(key_slot(bytes_of_str(cases[i].key)),
                         slot_by_bits(bytes_of_str(cases[i].hashed)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_hashes_as_its_concatenation),
        cmocka_unit_test(fingerprints_are_the_published_ones),
        cmocka_unit_test(slots_are_those_of_redis_cluster),
        cmocka_unit_test(the_table_agrees_with_the_polynomial),
        cmocka_unit_test(only_the_first_tag_counts_if_it_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
