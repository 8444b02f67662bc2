/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "wire/frame.h"

/* Each prefix of a body, and the body with one byte more, is refused without a trace. */
#define ASSERT_ONLY_WHOLE(b, decode, type)                                               \
    do {                                                                                 \
        type out_, before_;                                                              \
        memset(&out_, 0x5a, sizeof out_);                                                \
        memcpy(&before_, &out_, sizeof out_);                                            \
        buf_put_u8((b), 0);                                                              \
        for (size_t len_ = 0; len_ <= (b)->len; len_++) {                                \
            if (len_ == (b)->len - 1) continue;                                          \
            assert_false(decode((struct bytes){(b)->at, len_}, &out_));                  \
            assert_memory_equal(&out_, &before_, sizeof out_);                           \
        }                                                                                \
        (b)->len--;                                                                      \
    } while (0)

static void a_hello_comes_back_or_is_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct hello got, sent = {.name = BYTES_OF("a-server"),
                              .to_name = BYTES_OF("b"),
                              .secret = true,
                              .feature = 7};

    for (size_t i = 0; i < sizeof sent.nonce; i++)
        sent.nonce[i] = (uint8_t)(i * 17);
    hello_encode(&b, &sent);
    assert_true(hello_decode(buf_bytes(&b), &got));
    assert_true(bytes_equal(got.name, sent.name));
    assert_true(bytes_equal(got.to_name, sent.to_name));
    assert_memory_equal(got.nonce, sent.nonce, sizeof sent.nonce);
    assert_true(got.secret);
    assert_int_equal(got.feature, 7);
    ASSERT_ONLY_WHOLE(&b, hello_decode, struct hello);

    b.at[2 + sent.name.len + sent.to_name.len + sizeof sent.nonce] =
        2; /* neither yes nor no */
    assert_false(hello_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

static void a_name_longer_than_64_bytes_is_refused(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    char name[65];
    struct hello got;

    memset(name, 'n', sizeof name);
    hello_encode(&b, &(struct hello){.name = {(const uint8_t *)name, 64}});
    assert_true(hello_decode(buf_bytes(&b), &got));
    assert_int_equal(got.name.len, 64);

    b.len = 0;
    buf_put_blob(&b, (struct bytes){(const uint8_t *)name, 65});
    memset(buf_extend(&b, 1 + 16 + 1 + 4), 0, 1 + 16 + 1 + 4);
    assert_false(hello_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

static void a_join_comes_back_or_is_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct join got;
    const struct join sent = {BYTES_OF("n2"), BYTES_OF("10.0.0.2:6379"),
                              BYTES_OF("10.0.0.2:16379"), BYTES_OF("")};

    join_encode(&b, &sent);
    assert_true(join_decode(buf_bytes(&b), &got));
    assert_true(bytes_equal(got.name, sent.name));
    assert_true(bytes_equal(got.client, sent.client));
    assert_true(bytes_equal(got.peer, sent.peer));
    assert_true(bytes_equal(got.zone, sent.zone));
    ASSERT_ONLY_WHOLE(&b, join_decode, struct join);
    buf_free(&b);
}

static void a_joined_comes_back_or_is_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct joined got;

    joined_encode(&b, &(struct joined){.ok = true, .cluster = {8}, .server = {9}});
    assert_true(joined_decode(buf_bytes(&b), &got));
    assert_true(got.ok);
    assert_int_equal(got.cluster.v, 8);
    assert_int_equal(got.server.v, 9);
    ASSERT_ONLY_WHOLE(&b, joined_decode, struct joined);

    memset(b.at + 2, 0, 8); /* an identity that is none */
    assert_false(joined_decode(buf_bytes(&b), &got));

    b.len = 0;
    joined_encode(&b, &(struct joined){.ok = false, .text = BYTES_OF("no room")});
    assert_true(joined_decode(buf_bytes(&b), &got));
    assert_false(got.ok);
    assert_true(bytes_equal(got.text, BYTES_OF("no room")));
    buf_free(&b);
}

static void a_piece_lies_within_its_stream(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct piece got = {.stream = 99};

    piece_encode(&b, &(struct piece){1, 10, 14, BYTES_OF("tail")});
    assert_true(piece_decode(buf_bytes(&b), &got));
    assert_int_equal(got.stream, 1);
    assert_int_equal(got.offset, 10);
    assert_int_equal(got.total, 14);
    assert_true(bytes_equal(got.bytes, BYTES_OF("tail")));

    const uint64_t wrong_offsets[] = {11, 14, UINT64_MAX, UINT64_MAX - 3};
    for (size_t i = 0; i < sizeof wrong_offsets / sizeof *wrong_offsets; i++) {
        store_u64le(b.at + 8, wrong_offsets[i]);
        assert_false(piece_decode(buf_bytes(&b), &got));
    }
    store_u64le(b.at + 8, 0);
    store_u64le(b.at + 16, 3);
    assert_false(piece_decode(buf_bytes(&b), &got));
    for (size_t len = 0; len <= PIECE_HEAD; len++)
        assert_false(piece_decode((struct bytes){b.at, len}, &got));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_comes_back_or_is_refused_whole),
        cmocka_unit_test(a_name_longer_than_64_bytes_is_refused),
        cmocka_unit_test(a_join_comes_back_or_is_refused_whole),
        cmocka_unit_test(a_joined_comes_back_or_is_refused_whole),
        cmocka_unit_test(a_piece_lies_within_its_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
