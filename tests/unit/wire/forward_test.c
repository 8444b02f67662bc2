/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "wire/frame.h"

static void put_exec(struct buf *b)
{
    const struct bytes set[] = {BYTES_OF("SET"), BYTES_OF("k"), BYTES_OF("")};
    const struct bytes get[] = {BYTES_OF("GET"), BYTES_OF("k")};
    const struct forward head = {.id = 77,
                                 .kind = FORWARD_EXEC,
                                 .term = {5},
                                 .resp = 3,
                                 .position = {{8}, {4}, true},
                                 .once = BYTES_OF("an id"),
                                 .n_watches = 2,
                                 .n_commands = 2};

    forward_encode(b, &head);
    forward_put_watch(b, &(struct forward_watch){BYTES_OF("w1"), {11}});
    forward_put_watch(b, &(struct forward_watch){BYTES_OF(""), {UINT64_MAX}});
    forward_put_command(b, set, 3);
    forward_put_command(b, get, 2);
}

static void a_forward_comes_back_as_it_was_sent(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct forward_watch w;
    struct bytes args[3];
    struct forward f;

    put_exec(&b);
    assert_true(forward_decode(buf_bytes(&b), &f));
    assert_int_equal(f.id, 77);
    assert_int_equal(f.kind, FORWARD_EXEC);
    assert_int_equal(f.term.v, 5);
    assert_int_equal(f.resp, 3);
    assert_true(bytes_equal(f.once, BYTES_OF("an id")));
    assert_int_equal(f.position.index.v, 8);
    assert_int_equal(f.position.term.v, 4);
    assert_true(f.position.settled);
    assert_int_equal(f.n_watches, 2);
    assert_int_equal(f.n_commands, 2);
    struct forward again;
    forward_address(b.at, 78, (struct term){6},
                    &(struct forward_position){{9}, {6}, false});
    assert_true(forward_decode(buf_bytes(&b), &again));
    assert_int_equal(again.id, 78);
    assert_int_equal(again.term.v, 6);
    assert_int_equal(again.position.index.v, 9);
    assert_int_equal(again.position.term.v, 6);
    assert_false(again.position.settled);
    assert_true(bytes_equal(again.once, f.once));

    forward_next_watch(&f, &w);
    assert_true(bytes_equal(w.key, BYTES_OF("w1")));
    assert_int_equal(w.change.v, 11);
    forward_next_watch(&f, &w);
    assert_int_equal(w.key.len, 0);
    assert_true(w.change.v == UINT64_MAX);
    assert_int_equal(cursor_left(&f.watches), 0);

    assert_int_equal(forward_peek_args(&f), 3);
    assert_int_equal(forward_peek_args(&f), 3);
    forward_next_command(&f, args);
    assert_true(bytes_equal(args[0], BYTES_OF("SET")));
    assert_true(bytes_equal(args[1], BYTES_OF("k")));
    assert_int_equal(args[2].len, 0);
    assert_int_equal(forward_peek_args(&f), 2);
    forward_next_command(&f, args);
    assert_true(bytes_equal(args[0], BYTES_OF("GET")));
    assert_int_equal(cursor_left(&f.commands), 0);
    buf_free(&b);
}

static void a_cut_or_overlong_forward_is_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    struct forward f = {.id = 1234};

    put_exec(&b);
    for (size_t len = 0; len < b.len; len++) {
        assert_false(forward_decode((struct bytes){b.at, len}, &f));
        assert_int_equal(f.id, 1234);
    }
    buf_put_u8(&b, 0);
    assert_false(forward_decode(buf_bytes(&b), &f));
    assert_int_equal(f.id, 1234);
    buf_free(&b);
}

static bool decodes(struct buf *b, uint8_t kind, uint8_t resp, uint64_t n_watches,
                    uint64_t n_commands, struct bytes rest)
{
    struct forward f;

    b->len = 0;
    buf_put_u64(b, 1);
    buf_put_u8(b, kind);
    buf_put_u64(b, 0);
    buf_put_u8(b, resp);
    buf_put_u64(b, 0);
    buf_put_u64(b, 0);
    buf_put_u8(b, 0);
    buf_put_varint(b, 0);
    buf_put_varint(b, n_watches);
    buf_put_varint(b, n_commands);
    buf_put(b, rest.at, rest.len);
    return forward_decode(buf_bytes(b), &f);
}

static void what_could_not_be_carried_out_is_refused(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    const struct bytes none = BYTES_OF(""), ping = BYTES_OF("\1\4PING");

    assert_true(decodes(&b, FORWARD_COMMANDS, 2, 0, 1, ping));
    assert_true(decodes(&b, FORWARD_WATCH, 0, 0, 0, none));
    assert_false(decodes(&b, 0, 2, 0, 1, ping));
    assert_false(decodes(&b, FORWARD_KIND_END, 2, 0, 1, ping));
    assert_false(decodes(&b, FORWARD_COMMANDS, 0, 0, 1, ping));
    assert_false(decodes(&b, FORWARD_COMMANDS, 4, 0, 1, ping));
    assert_false(decodes(&b, FORWARD_META, 2, 0, 0, none));
    assert_false(decodes(&b, FORWARD_WAIT, 2, 0, 0, none));
    assert_false(decodes(&b, FORWARD_COMMANDS, 2, 0, 1, BYTES_OF("\0"))); /* no name */
    assert_false(decodes(&b, FORWARD_COMMANDS, 2, 0, 1, BYTES_OF("\2\4PING")));
    assert_false(decodes(&b, FORWARD_COMMANDS, 2, 0, FORWARD_COMMANDS_MAX + 1, ping));
    assert_false(decodes(&b, FORWARD_COMMANDS, 2, UINT64_MAX, 1, ping));
    assert_false(decodes(&b, FORWARD_COMMANDS, 2, 0, 1,
                         BYTES_OF("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1")));
    buf_free(&b);
}

static void a_reply_comes_back_or_is_refused_whole(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf b = buf_new(&mem);
    const size_t head = 8 + 1 + 8 + 4 + 17;
    const struct forward_reply sent = {.id = 3,
                                       .status = FORWARD_REFUSED,
                                       .term = {4},
                                       .leader = {5},
                                       .position = {{6}, {2}, true},
                                       .bytes = BYTES_OF("+OK\r\n")};
    struct forward_reply got = {.id = 1234};

    forward_reply_encode(&b, &sent);
    for (size_t len = 0; len < head; len++) {
        assert_false(forward_reply_decode((struct bytes){b.at, len}, &got));
        assert_int_equal(got.id, 1234);
    }
    assert_true(forward_reply_decode(buf_bytes(&b), &got));
    assert_int_equal(got.id, 3);
    assert_int_equal(got.status, FORWARD_REFUSED);
    assert_int_equal(got.term.v, 4);
    assert_int_equal(got.leader.v, 5);
    assert_int_equal(got.position.index.v, 6);
    assert_int_equal(got.position.term.v, 2);
    assert_true(got.position.settled);
    assert_true(bytes_equal(got.bytes, sent.bytes));

    b.at[8] = FORWARD_STATUS_END;
    assert_false(forward_reply_decode(buf_bytes(&b), &got));
    b.at[8] = 0;
    assert_false(forward_reply_decode(buf_bytes(&b), &got));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forward_comes_back_as_it_was_sent),
        cmocka_unit_test(a_cut_or_overlong_forward_is_refused_whole),
        cmocka_unit_test(what_could_not_be_carried_out_is_refused),
        cmocka_unit_test(a_reply_comes_back_or_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
