/* SPDX-License-Identifier: Apache-2.0 */
#include "mem_test_alloc.h"
#include "unit.h"

#include "sim/disk.h"

static struct mem mem;
static struct disk disk;

static int set_up(void **state)
{
    (void)state;
    mem = mem_for_test();
    disk_init(&disk, &mem);
    assert_int_equal(disk_create(&disk, 1, 8192), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    disk_free(&disk);
    assert_int_equal(mem.used, 0);
    return 0;
}

static uint8_t byte_at(uint32_t file, uint64_t offset)
{
    uint8_t v = 0;
    uint64_t got;

    assert_int_equal(disk_read(&disk, file, offset, &v, 1, &got), 0);
    assert_int_equal(got, 1);
    return v;
}

static struct bytes filled(uint8_t *at, size_t len, uint8_t v)
{
    memset(at, v, len);
    return (struct bytes){at, len};
}

static void what_was_synced_survives_a_power_cut(void **state)
{
    (void)state;
    uint8_t data[3000];
    struct prng prng = prng_seed(1);

    assert_int_equal(disk_write(&disk, 1, 100, filled(data, sizeof data, 7)), 0);
    assert_int_equal(disk_sync(&disk, 1), 0);
    const struct disk_loss loss = disk_power_cut(&disk, &prng);
    assert_int_equal(loss.dropped + loss.torn + loss.kept, 0);
    assert_int_equal(byte_at(1, 100), 7);
    assert_int_equal(byte_at(1, 3099), 7);
    assert_int_equal(byte_at(1, 3100), 0);
}

static void unsynced_writes_are_kept_dropped_or_torn_by_the_seed(void **state)
{
    (void)state;
    uint8_t data[3000];
    struct disk_loss sum = {0};

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct prng prng = prng_seed(seed);
        assert_int_equal(disk_write(&disk, 1, 0, filled(data, sizeof data, 0)), 0);
        assert_int_equal(disk_sync(&disk, 1), 0);
        assert_int_equal(disk_write(&disk, 1, 0, filled(data, sizeof data, 9)), 0);
        assert_int_equal(byte_at(1, 2999), 9); /* seen at once */
        const struct disk_loss loss = disk_power_cut(&disk, &prng);
        uint32_t nines = 0;
        for (uint64_t i = 0; i < sizeof data; i++)
            nines += byte_at(1, i) == 9;
        if (loss.kept > 0) assert_int_equal(nines, 3000);
        if (loss.dropped > 0) assert_int_equal(nines, 0);
        sum.kept += loss.kept;
        sum.dropped += loss.dropped;
        sum.torn += loss.torn > 0 && nines > 0 && nines < 3000;
    }
    assert_true(sum.kept > 5 && sum.dropped > 5 && sum.torn > 5);
}

static void a_failed_sync_makes_nothing_durable_later(void **state)
{
    (void)state;
    uint8_t data[16];
    uint32_t lost = 0;

    for (uint64_t seed = 0; seed < 20; seed++) {
        struct prng prng = prng_seed(seed);
        assert_int_equal(disk_write(&disk, 1, 0, filled(data, sizeof data, 0)), 0);
        assert_int_equal(disk_sync(&disk, 1), 0);
        assert_int_equal(disk_write(&disk, 1, 0, filled(data, sizeof data, 5)), 0);
        disk_sync_failed(&disk, 1, &prng);
        assert_int_equal(disk_sync(&disk, 1), 0); /* "succeeds" */
        (void)disk_power_cut(&disk, &prng);
        lost += byte_at(1, 0) == 0;
    }
    assert_true(lost > 3 && lost < 17);
}

static void removals_come_back_newest_first(void **state)
{
    (void)state;
    uint32_t seen_back = 0;

    for (uint32_t round = 0; round < 40; round++) {
        struct prng prng = prng_seed(round);
        for (uint32_t id = 10; id < 13; id++)
            assert_int_equal(disk_create(&disk, id, 64), 0);
        for (uint32_t id = 10; id < 13; id++)
            assert_int_equal(disk_remove(&disk, id), 0);
        (void)disk_power_cut(&disk, &prng);
        struct wal_file files[8];
        const uint32_t n = disk_list(&disk, files, 8);
        for (uint32_t i = 1; i < n; i++)
            assert_int_equal(files[i].file, 13 - n + i);
        seen_back += n > 1;
        for (uint32_t i = 1; i < n; i++)
            assert_int_equal(disk_remove(&disk, files[i].file), 0);
        assert_int_equal(disk_sync(&disk, 1), 0);
    }
    assert_true(seen_back > 10);
}

static void flips_hit_old_bytes_only(void **state)
{
    (void)state;
    uint8_t data[64];
    struct prng prng = prng_seed(3);

    assert_false(disk_flip(&disk, 2, &prng));
    for (uint8_t i = 0; i < 5; i++) {
        assert_int_equal(disk_write(&disk, 1, i * 64u, filled(data, sizeof data, i)), 0);
        assert_int_equal(disk_sync(&disk, 1), 0);
    }
    for (uint32_t i = 0; i < 20; i++)
        assert_true(disk_flip(&disk, 2, &prng));
    uint32_t changed = 0;
    for (uint64_t at = 0; at < 5 * 64; at++) {
        const bool differs = byte_at(1, at) != at / 64;
        changed += differs;
        if (differs) assert_true(at < 3 * 64);
    }
    assert_true(changed > 0);
}

static void a_short_read_ends_at_the_end_of_file(void **state)
{
    (void)state;
    uint8_t into[100];
    uint64_t got;

    assert_int_equal(disk_read(&disk, 1, 8190, into, 100, &got), 0);
    assert_int_equal(got, 2);
    assert_int_equal(disk_read(&disk, 1, 9000, into, 100, &got), 0);
    assert_int_equal(got, 0);
    assert_int_not_equal(disk_read(&disk, 2, 0, into, 100, &got), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_was_synced_survives_a_power_cut),
        TEST(unsynced_writes_are_kept_dropped_or_torn_by_the_seed),
        TEST(a_failed_sync_makes_nothing_durable_later),
        TEST(removals_come_back_newest_first),
        TEST(flips_hit_old_bytes_only),
        TEST(a_short_read_ends_at_the_end_of_file),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
