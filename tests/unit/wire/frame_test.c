/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "wire/frame.h"

static const struct frame head_of_batch = {
    .kind = FRAME_BATCH,
    .cluster = {UINT64_C(0x1122334455667788)},
    .from = {3},
    .to = {UINT32_MAX},
    .incarnation = {UINT64_C(0x99aabbccddeeff00)},
};

static void put_frame(struct buf *out, const struct frame *head, const char *body)
{
    const size_t start = frame_begin(out, head);
    buf_put(out, body, strlen(body));
    frame_end(out, start);
}

static void a_frame_comes_back_as_it_was_sent(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    size_t used = 0, want = 0;
    struct frame f;

    put_frame(&b, &head_of_batch, "first");
    put_frame(&b, &(struct frame){.kind = FRAME_HELLO}, "");

    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_OK);
    assert_int_equal(used, FRAME_HEAD + 5);
    assert_int_equal(f.kind, FRAME_BATCH);
    assert_int_equal(f.cluster.v, head_of_batch.cluster.v);
    assert_int_equal(f.from.v, 3);
    assert_int_equal(f.to.v, UINT32_MAX);
    assert_int_equal(f.incarnation.v, head_of_batch.incarnation.v);
    assert_true(bytes_equal(f.body, BYTES_OF("first")));

    const struct bytes rest = {b.at + used, b.len - used};
    assert_int_equal(frame_decode(rest, &used, &want, &f), FRAME_OK);
    assert_int_equal(used, FRAME_HEAD);
    assert_int_equal(f.kind, FRAME_HELLO);
    assert_int_equal(f.body.len, 0);
    buf_free(&b);
    assert_int_equal(mem.used, 0);
}

static void the_layout_is_that_of_the_header_file(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    put_frame(&b, &head_of_batch, "xy");
    assert_int_equal(load_u32le(b.at), FRAME_HEAD + 2);
    assert_int_equal(load_u16le(b.at + 4), 0x5353);
    assert_int_equal(b.at[6], 1);
    assert_int_equal(b.at[7], FRAME_BATCH);
    assert_int_equal(load_u64le(b.at + 16), head_of_batch.cluster.v);
    assert_int_equal(load_u32le(b.at + 24), 3);
    assert_int_equal(load_u32le(b.at + 28), UINT32_MAX);
    assert_int_equal(load_u64le(b.at + 32), head_of_batch.incarnation.v);
    assert_memory_equal(b.at + 40, "xy", 2);
    buf_free(&b);
}

static void a_cut_frame_says_how_much_it_wants(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct frame f = {.kind = FRAME_JOIN};

    put_frame(&b, &head_of_batch, "0123456789");
    for (size_t len = 0; len < b.len; len++) {
        size_t used = 77, want = 0;
        const struct bytes cut = {b.at, len};
        assert_int_equal(frame_decode(cut, &used, &want, &f), FRAME_SHORT);
        assert_int_equal(want, len < 8 ? FRAME_HEAD : b.len);
        assert_int_equal(used, 77);
        assert_int_equal(f.kind, FRAME_JOIN);
    }
    buf_free(&b);
}

static void any_flipped_bit_is_refused_and_touches_nothing(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    put_frame(&b, &head_of_batch, "0123456789");
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        struct frame f = {.kind = FRAME_JOIN};
        size_t used = 77, want = 88;

        b.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const enum frame_result r = frame_decode(buf_bytes(&b), &used, &want, &f);
        b.at[bit / 8] ^= (uint8_t)(1u << bit % 8);

        assert_int_not_equal(r, FRAME_OK);
        assert_int_equal(used, 77);
        assert_int_equal(f.kind, FRAME_JOIN);
        if (r != FRAME_SHORT) assert_int_equal(want, 88);
    }
    buf_free(&b);
}

static void what_is_wrong_has_a_name(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    size_t used, want;
    struct frame f;

    put_frame(&b, &head_of_batch, "0123456789");
    assert_int_equal(frame_decode(BYTES_OF("PING\r\n\r\n"), &used, &want, &f),
                     FRAME_MAGIC);
    b.at[6] = 2;
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_VERSION_OTHER);
    b.at[6] = 1;
    b.at[7] = FRAME_KIND_END;
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_KIND_UNKNOWN);
    b.at[7] = 0;
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_KIND_UNKNOWN);
    b.at[7] = FRAME_PIECE;
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_CRC);
    b.at[7] = FRAME_BATCH;
    store_u32le(b.at, FRAME_HEAD - 1);
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_LENGTH);
    store_u32le(b.at, FRAME_MAX + 1);
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_LENGTH);
    store_u32le(b.at, FRAME_MAX);
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_SHORT);
    assert_int_equal(want, FRAME_MAX);

    for (enum frame_result r = FRAME_OK; r <= FRAME_CRC; r++)
        assert_true(strlen(frame_result_text(r)) > 0);
    buf_free(&b);
}

static void the_largest_frame_is_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    size_t used, want;
    struct frame f;

    const size_t start = frame_begin(&b, &head_of_batch);
    memset(buf_extend(&b, FRAME_MAX - FRAME_HEAD), 'x', FRAME_MAX - FRAME_HEAD);
    frame_end(&b, start);
    assert_int_equal(frame_decode(buf_bytes(&b), &used, &want, &f), FRAME_OK);
    assert_int_equal(used, FRAME_MAX);
    buf_free(&b);
}

static void messages_come_back_in_order_until_the_end(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct message m;

    size_t start = message_begin(&b, (struct group_id){0}, MESSAGE_RAFT);
    buf_put(&b, "abc", 3);
    message_end(&b, start);
    start = message_begin(&b, (struct group_id){9}, MESSAGE_STATUS);
    message_end(&b, start);

    struct cursor c = cursor_of(buf_bytes(&b));
    assert_int_equal(message_decode(&c, &m), MESSAGE_OK);
    assert_int_equal(m.group.v, 0);
    assert_int_equal(m.kind, MESSAGE_RAFT);
    assert_true(bytes_equal(m.body, BYTES_OF("abc")));
    assert_int_equal(message_decode(&c, &m), MESSAGE_OK);
    assert_int_equal(m.group.v, 9);
    assert_int_equal(m.kind, MESSAGE_STATUS);
    assert_int_equal(m.body.len, 0);
    assert_int_equal(message_decode(&c, &m), MESSAGE_END);
    buf_free(&b);
}

static void a_malformed_message_moves_neither_cursor_nor_output(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);

    const size_t start = message_begin(&b, (struct group_id){9}, MESSAGE_RAFT);
    buf_put(&b, "abc", 3);
    message_end(&b, start);

    struct message m = {.group = {5}};
    for (size_t len = 1; len < b.len; len++) {
        struct cursor c = cursor_of((struct bytes){b.at, len});
        assert_int_equal(message_decode(&c, &m), MESSAGE_MALFORMED);
        assert_ptr_equal(c.at, b.at);
        assert_int_equal(m.group.v, 5);
    }
    const uint8_t wrong_kinds[] = {0, MESSAGE_KIND_END, 255};
    for (size_t i = 0; i < sizeof wrong_kinds; i++) {
        b.at[8] = wrong_kinds[i];
        struct cursor c = cursor_of(buf_bytes(&b));
        assert_int_equal(message_decode(&c, &m), MESSAGE_MALFORMED);
        assert_int_equal(m.group.v, 5);
    }
    b.at[8] = MESSAGE_RAFT;
    store_u32le(b.at, UINT32_MAX);
    struct cursor c = cursor_of(buf_bytes(&b));
    assert_int_equal(message_decode(&c, &m), MESSAGE_MALFORMED);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_back_as_it_was_sent),
        cmocka_unit_test(the_layout_is_that_of_the_header_file),
        cmocka_unit_test(a_cut_frame_says_how_much_it_wants),
        cmocka_unit_test(any_flipped_bit_is_refused_and_touches_nothing),
        cmocka_unit_test(what_is_wrong_has_a_name),
        cmocka_unit_test(the_largest_frame_is_whole),
        cmocka_unit_test(messages_come_back_in_order_until_the_end),
        cmocka_unit_test(a_malformed_message_moves_neither_cursor_nor_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
