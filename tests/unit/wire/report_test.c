/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "wire/report.h"

static const struct report_row replicas[] = {
    {.group = {0},
     .role = REPORT_FOLLOWER,
     .leader = {2},
     .term = {UINT64_C(1) << 50},
     .applied = {7},
     .commit = {9},
     .keys = 3},
    {.group = {5},
     .role = REPORT_LEADER,
     .leader = {1},
     .trouble = {(const uint8_t *)"is ill", 6}},
    {.group = {UINT32_MAX}, .role = REPORT_LEARNER, .keys = UINT64_MAX},
};

static const struct report_row digests[] = {
    {.group = {1}, .applied = {12}, .digest = UINT64_C(0x0123456789abcdef), .keys = 40},
    {.group = {2}, .applied = {13}, .digest = 1},
};

static struct buf encoded(struct mem *mem, const struct report *r,
                          const struct report_row *rows)
{
    struct buf b = buf_new(mem);

    report_encode(&b, r);
    for (uint32_t i = 0; i < r->n_rows; i++)
        report_put_row(&b, r->kind, &rows[i]);
    return b;
}

/* Each prefix of a body, and the body with one byte more, is refused without a trace. */
static void assert_only_whole(struct buf *b)
{
    struct report got = {.id = 77};

    buf_put_u8(b, 0);
    for (size_t len = 0; len <= b->len; len++) {
        if (len == b->len - 1) continue;
        assert_false(report_decode((struct bytes){b->at, len}, &got));
        assert_int_equal(got.id, 77);
    }
    b->len--;
}

static void questions_come_back_or_are_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    const struct report sent[] = {
        {.kind = REPORT_ASK_REPLICAS, .id = 8, .keyspace = REPORT_ALL},
        {.kind = REPORT_ASK_DIGESTS, .id = UINT64_MAX, .keyspace = 4},
        {.kind = REPORT_TAKEN, .id = 1},
    };

    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        struct buf b = encoded(&mem, &sent[i], NULL);
        struct report got;
        assert_true(report_decode(buf_bytes(&b), &got));
        assert_int_equal(got.kind, sent[i].kind);
        assert_int_equal(got.id, sent[i].id);
        assert_int_equal(got.keyspace, sent[i].keyspace);
        assert_int_equal(got.n_rows, 0);
        assert_only_whole(&b);
        buf_free(&b);
    }
}

static void replicas_come_back_or_are_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = encoded(
        &mem, &(struct report){.kind = REPORT_REPLICAS, .id = 3, .n_rows = 3}, replicas);
    struct report got;

    assert_true(report_decode(buf_bytes(&b), &got));
    assert_int_equal(got.n_rows, 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct report_row row;
        report_next_row(&got, &row);
        assert_int_equal(row.group.v, replicas[i].group.v);
        assert_int_equal(row.role, replicas[i].role);
        assert_int_equal(row.leader.v, replicas[i].leader.v);
        assert_int_equal(row.term.v, replicas[i].term.v);
        assert_int_equal(row.applied.v, replicas[i].applied.v);
        assert_int_equal(row.commit.v, replicas[i].commit.v);
        assert_int_equal(row.keys, replicas[i].keys);
        assert_true(bytes_equal(row.trouble, replicas[i].trouble));
    }
    assert_only_whole(&b);
    buf_free(&b);
}

static void digests_come_back_or_are_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = encoded(
        &mem, &(struct report){.kind = REPORT_DIGESTS, .id = 3, .n_rows = 2}, digests);
    struct report got;

    assert_true(report_decode(buf_bytes(&b), &got));
    for (uint32_t i = 0; i < 2; i++) {
        struct report_row row;
        report_next_row(&got, &row);
        assert_int_equal(row.group.v, digests[i].group.v);
        assert_int_equal(row.applied.v, digests[i].applied.v);
        assert_int_equal(row.digest, digests[i].digest);
        assert_int_equal(row.keys, digests[i].keys);
    }
    assert_only_whole(&b);
    buf_free(&b);
}

static void assert_refused(struct mem *mem, enum report_kind kind,
                           const struct report_row *rows, uint32_t n)
{
    struct buf b = encoded(mem, &(struct report){.kind = kind, .id = 3, .n_rows = n},
                           rows);
    struct report got;

    assert_false(report_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

static void rows_out_of_order_or_twice_are_refused(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    const struct report_row fall[] = {digests[1], digests[0]};
    const struct report_row twice[] = {replicas[2], replicas[2]};

    assert_refused(&mem, REPORT_DIGESTS, fall, 2);
    assert_refused(&mem, REPORT_REPLICAS, twice, 2);
}

static void what_no_version_1_sender_says_is_refused(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = encoded(
        &mem, &(struct report){.kind = REPORT_REPLICAS, .id = 3, .n_rows = 3}, replicas);
    enum { AT_VERSION = 0, AT_KIND = 1, AT_ROLE = 2 + 8 + 1 + 4 };
    const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {AT_VERSION, 0}, {AT_VERSION, 2},
        {AT_KIND, 0},    {AT_KIND, REPORT_KIND_END},
        {AT_ROLE, 0},    {AT_ROLE, REPORT_ROLE_END},
    };
    struct report got;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const uint8_t right = b.at[wrong[i].at];
        b.at[wrong[i].at] = wrong[i].value;
        assert_false(report_decode(buf_bytes(&b), &got));
        b.at[wrong[i].at] = right;
    }
    assert_true(report_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

static void a_trouble_longer_than_255_bytes_is_refused(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    uint8_t text[REPORT_TROUBLE_MAX + 1] = {0};
    const struct report_row row = {.role = REPORT_LEADER,
                                   .trouble = {text, REPORT_TROUBLE_MAX}};
    struct buf b = encoded(
        &mem, &(struct report){.kind = REPORT_REPLICAS, .id = 3, .n_rows = 1}, &row);
    struct report got;

    assert_true(report_decode(buf_bytes(&b), &got));
    b.len -= 2 + REPORT_TROUBLE_MAX; /* the blob, whose length takes two bytes */
    buf_put_blob(&b, (struct bytes){text, sizeof text});
    assert_false(report_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

static void more_rows_than_there_may_be_are_refused_before_they_are_looked_for(
    void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct report got;

    report_encode(&b, &(struct report){.kind = REPORT_DIGESTS, .id = 3});
    b.len--;
    buf_put_varint(&b, UINT64_MAX);
    assert_false(report_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_come_back_or_are_refused_whole),
        cmocka_unit_test(replicas_come_back_or_are_refused_whole),
        cmocka_unit_test(digests_come_back_or_are_refused_whole),
        cmocka_unit_test(rows_out_of_order_or_twice_are_refused),
        cmocka_unit_test(what_no_version_1_sender_says_is_refused),
        cmocka_unit_test(a_trouble_longer_than_255_bytes_is_refused),
        cmocka_unit_test(
            more_rows_than_there_may_be_are_refused_before_they_are_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
