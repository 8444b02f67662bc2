/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manifest.h"

#include <string.h>

#include "base/hash.h"
#include "mem_test_alloc.h"
#include "unit.h"

static struct mem mem;

static struct manifest sample(void)
{
    struct manifest m = manifest_new(&mem);
    static const char *const names[] = {"default", "a.b_C-9"};

    m.cluster.v = UINT64_C(0x00fedcba98765432);
    memcpy(m.version, "0.1.0", 5);
    m.time_ms = INT64_C(1795539703653);
    for (uint32_t i = 0; i < 2; i++) {
        struct copy_keyspace *k = manifest_add_keyspace(&m);
        memcpy(k->name, names[i], strlen(names[i]));
        memcpy(k->policy, "MODE raft REPLICAS 3", 20);
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct copy_shard *s = manifest_add_shard(&m);
        *s = (struct copy_shard){
            .shard = i + 1,
            .keyspace = i > 0,
            .slot_first = i,
            .slot_last = SLOTS - 1,
            .term = {term_of_epoch(i).v + 5},
            .index = {INT64_MAX},
            .time_ms = i,
            .keys = i * 1000,
            .bytes = UINT64_C(1) << 40,
            .size = i,
            .checksum = UINT64_MAX - i,
        };
    }
    return m;
}

static void what_is_printed_is_read_back(void **state)
{
    (void)state;
    mem = mem_for_test();
    struct manifest m = sample(), back;
    struct buf text = buf_new(&mem);

    manifest_print(&m, &text);
    assert_int_equal(manifest_parse(&mem, buf_bytes(&text), &back), MANIFEST_OK);
    assert_int_equal(back.cluster.v, m.cluster.v);
    assert_string_equal(back.version, m.version);
    assert_int_equal(back.time_ms, m.time_ms);
    assert_int_equal(back.n_keyspaces, m.n_keyspaces);
    assert_int_equal(back.n_shards, m.n_shards);
    for (uint32_t i = 0; i < m.n_keyspaces; i++)
        assert_memory_equal(&back.keyspaces[i], &m.keyspaces[i], sizeof m.keyspaces[i]);
    struct buf again = buf_new(&mem);
    manifest_print(&back, &again);
    assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&text)));
    buf_free(&again);
    buf_free(&text);
    manifest_free(&m);
    manifest_free(&back);
    assert_int_equal(mem.used, 0);
}

static void a_changed_or_cut_one_is_refused(void **state)
{
    (void)state;
    mem = mem_for_test();
    struct manifest m = sample(), back;
    struct buf text = buf_new(&mem);

    manifest_print(&m, &text);
    manifest_free(&m);
    for (size_t len = 0; len < text.len; len++)
        assert_true(manifest_parse(&mem, (struct bytes){text.at, len}, &back) !=
                    MANIFEST_OK);
    for (size_t at = 0; at < text.len; at++) {
        text.at[at] ^= 1;
        assert_true(manifest_parse(&mem, buf_bytes(&text), &back) != MANIFEST_OK);
        text.at[at] ^= 1;
    }
    buf_put(&text, "\n", 1);
    assert_int_equal(manifest_parse(&mem, buf_bytes(&text), &back), MANIFEST_BROKEN);
    buf_free(&text);
    assert_int_equal(mem.used, 0);
}

/* With a checksum that fits. */
static enum manifest_result parse_lines(const char *lines)
{
    struct buf text = buf_new(&mem);
    struct manifest m;

    buf_putf(&text, "%s", lines);
    buf_putf(&text, "end xxh3 %016llx\n", (unsigned long long)hash64(buf_bytes(&text)));
    const enum manifest_result result = manifest_parse(&mem, buf_bytes(&text), &m);
    manifest_free(&m);
    buf_free(&text);
    return result;
}

#define HEAD "sennit-backup 1\ncluster 0123456789abcdef version 0.1.0 time 1\n"
#define DEFAULT "keyspace default MODE raft\n"
#define SHARD(id, keyspace, slots)                                                       \
    "shard " id " keyspace " keyspace " slots " slots                                    \
    " epoch 0 term 1 index 2 time 3 keys 4 bytes 5 size 6 xxh3 0123456789abcdef\n"

static void what_checks_but_makes_no_sense_is_refused(void **state)
{
    (void)state;
    mem = mem_for_test();
    assert_int_equal(parse_lines(HEAD), MANIFEST_OK);
    assert_int_equal(parse_lines(HEAD DEFAULT SHARD("1", "default", "0-16383")),
                     MANIFEST_OK);
    static const char *const wrong[] = {
        "sennit-backup 1\n",
        HEAD HEAD,
        HEAD "keyspace default\n",
        HEAD "keyspace default MODE\n",
        HEAD "keyspace no/name MODE raft\n",
        HEAD "keyspace default MODE ra\x01t\n",
        HEAD DEFAULT DEFAULT,
        HEAD DEFAULT SHARD("1", "other", "0-16383"),
        HEAD DEFAULT SHARD("1", "default", "5-4"),
        HEAD DEFAULT SHARD("1", "default", "0-16384"),
        HEAD DEFAULT SHARD("-1", "default", "0-1"),
        HEAD DEFAULT SHARD("4294967296", "default", "0-1"),
        HEAD DEFAULT SHARD("1", "default", "0-1") SHARD("1", "default", "2-3"),
        HEAD DEFAULT SHARD("1", "default", "0-1") "keyspace late MODE raft\n",
        HEAD "\n",
        HEAD "end\n",
        HEAD DEFAULT "end xxh3 0123456789abcdef\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (parse_lines(wrong[i]) != MANIFEST_BROKEN) fail_msg("%s", wrong[i]);
    assert_int_equal(mem.used, 0);
}

static void other_formats_are_told_from_damage(void **state)
{
    (void)state;
    mem = mem_for_test();
    assert_int_equal(parse_lines("sennit-backup 2\nwhat may come\n"), MANIFEST_NEWER);
    assert_int_equal(parse_lines("sennit-backup 0\n"), MANIFEST_BROKEN);
    assert_int_equal(parse_lines("sennit-backup x\n"), MANIFEST_FOREIGN);
    assert_int_equal(parse_lines("something else\n"), MANIFEST_FOREIGN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_is_read_back),
        cmocka_unit_test(a_changed_or_cut_one_is_refused),
        cmocka_unit_test(what_checks_but_makes_no_sense_is_refused),
        cmocka_unit_test(other_formats_are_told_from_damage),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
