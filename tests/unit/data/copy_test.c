/* SPDX-License-Identifier: Apache-2.0 */
#include "data/copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "mem_test_alloc.h"
#include "unit.h"

static uint8_t room[3 * COPY_PIECE_BYTES];

static struct bytes value_of(size_t len)
{
    for (size_t i = 0; i < len; i++)
        room[i] = (uint8_t)(i * 7 + i / 251);
    return (struct bytes){room, len};
}

static void put_whole(struct copy_writer *w, struct buf *out, struct bytes key,
                      size_t len, int64_t deadline_ms)
{
    const struct bytes value = value_of(len), none = {NULL, 0};

    copy_put_key(w, out, ITEM_STRING, deadline_ms, key, len,
                 len <= COPY_PIECE_BYTES ? value : none);
    for (size_t at = 0; len > COPY_PIECE_BYTES && at < len;) {
        const size_t part = len - at < COPY_PIECE_BYTES ? len - at : COPY_PIECE_BYTES;
        copy_put_piece(w, out, (struct bytes){value.at + at, part});
        at += part;
    }
}

/* A stream with what is special about values and keys. */
static void put_sample(struct buf *out)
{
    struct copy_writer w = {0};

    copy_put_head(&w, out, (struct group_id){7}, (struct term){3},
                  (struct log_index){42});
    put_whole(&w, out, BYTES_OF(""), 0, 0);
    put_whole(&w, out, BYTES_OF("k\0\xff"), 5, INT64_MAX);
    put_whole(&w, out, BYTES_OF("exact"), COPY_PIECE_BYTES, 0);
    put_whole(&w, out, BYTES_OF("more"), 2 * COPY_PIECE_BYTES + 1, 17);
    put_whole(&w, out, BYTES_OF("two"), 2 * COPY_PIECE_BYTES, 0);
    copy_put_end(&w, out);
}

/* Reads to the end; how it ended. */
static enum copy_result read_all(struct bytes in, struct copy_reader *r)
{
    struct copy_record record;
    enum copy_result result;
    size_t used = 0;

    *r = (struct copy_reader){0};
    while ((result = copy_read(r, in, &record, &used)) == COPY_READ)
        in = (struct bytes){in.at + used, in.len - used};
    return result;
}

static void a_stream_comes_back_as_it_was_put(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct copy_reader r = {0};
    struct copy_record record;
    size_t used = 0;

    put_sample(&out);
    struct bytes in = buf_bytes(&out);
    assert_int_equal(copy_read(&r, in, &record, &used), COPY_READ);
    assert_int_equal(record.kind, COPY_HEAD);
    assert_int_equal(record.of.group.v, 7);
    assert_int_equal(record.of.term.v, 3);
    assert_int_equal(record.of.index.v, 42);
    static const struct {
        const char *key;
        size_t key_len, len;
        int64_t deadline_ms;
    } wanted[] = {{"", 0, 0, 0},
                  {"k\0\xff", 3, 5, INT64_MAX},
                  {"exact", 5, COPY_PIECE_BYTES, 0},
                  {"more", 4, 2 * COPY_PIECE_BYTES + 1, 17},
                  {"two", 3, 2 * COPY_PIECE_BYTES, 0}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        in = (struct bytes){in.at + used, in.len - used};
        assert_int_equal(copy_read(&r, in, &record, &used), COPY_READ);
        assert_int_equal(record.kind, COPY_KEY);
        assert_true(bytes_equal(record.key, (struct bytes){(const uint8_t *)wanted[i].key,
                                                           wanted[i].key_len}));
        assert_int_equal(record.deadline_ms, wanted[i].deadline_ms);
        assert_int_equal(record.length, wanted[i].len);
        size_t at = record.value.len;
        assert_true(at == (wanted[i].len <= COPY_PIECE_BYTES ? wanted[i].len : 0));
        while (at < wanted[i].len) {
            in = (struct bytes){in.at + used, in.len - used};
            assert_int_equal(copy_read(&r, in, &record, &used), COPY_READ);
            assert_int_equal(record.kind, COPY_PIECE);
            assert_memory_equal(record.value.at, value_of(wanted[i].len).at + at,
                                record.value.len);
            at += record.value.len;
        }
    }
    in = (struct bytes){in.at + used, in.len - used};
    assert_int_equal(copy_read(&r, in, &record, &used), COPY_READ);
    assert_int_equal(record.kind, COPY_END);
    assert_int_equal(record.keys, 5);
    assert_int_equal(record.bytes, 5 + 5 * COPY_PIECE_BYTES + 1);
    assert_int_equal(used, in.len);
    assert_int_equal(copy_read(&r, in, &record, &used), COPY_DONE);
    buf_free(&out);
    assert_int_equal(mem.used, 0);
}

static void a_stream_cut_anywhere_wants_more(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct copy_reader r;

    put_sample(&out);
    for (size_t len = 0; len < out.len;
         len += len < 200 || len + 200 > out.len ? 1 : 4099) {
        assert_int_equal(read_all((struct bytes){out.at, len}, &r), COPY_MORE);
        assert_false(r.ended);
    }
    assert_int_equal(read_all(buf_bytes(&out), &r), COPY_DONE);
    buf_free(&out);
}

/* No bit of it can change and the stream still be read to its end. */
static void a_stream_changed_anywhere_is_not_read_to_its_end(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct copy_reader r;

    put_sample(&out);
    for (size_t at = 0; at < out.len; at += at < 300 || at + 300 > out.len ? 1 : 5003) {
        out.at[at] ^= (uint8_t)(1 << at % 8);
        assert_true(read_all(buf_bytes(&out), &r) != COPY_DONE);
        assert_false(r.ended);
        out.at[at] ^= (uint8_t)(1 << at % 8);
    }
    buf_free(&out);
}

/* A body as somebody hostile may write it: with a checksum that fits. */
static void put_body(struct buf *out, uint64_t *chain, struct bytes body)
{
    buf_put_u32(out, (uint32_t)body.len);
    buf_put(out, body.at, body.len);
    *chain = hash64_seed(body, *chain);
    buf_put_u64(out, *chain);
}

static enum copy_result after_head(struct bytes body, struct bytes then)
{
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct copy_writer w = {0};
    struct copy_reader r;

    copy_put_head(&w, &out, (struct group_id){1}, (struct term){1},
                  (struct log_index){1});
    put_body(&out, &w.chain, body);
    if (then.len > 0) put_body(&out, &w.chain, then);
    const enum copy_result result = read_all(buf_bytes(&out), &r);
    buf_free(&out);
    return result;
}

static void what_checks_but_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct bytes none = {NULL, 0};
    const struct bytes key = BYTES_OF("\x02\x01\0\0\0\0\0\0\0\0\x01k\x01v");

    assert_int_equal(after_head(key, none), COPY_MORE);
    assert_int_equal(after_head(BYTES_OF("\x05"), none), COPY_BROKEN);  /* no such kind */
    assert_int_equal(after_head(BYTES_OF("\x03x"), none), COPY_BROKEN); /* of no value */
    assert_int_equal(after_head(key, BYTES_OF("\x03x")), COPY_BROKEN);
    assert_int_equal(after_head(BYTES_OF("\x02\x00\0\0\0\0\0\0\0\0\x01k\x01v"), none),
                     COPY_BROKEN); /* no such type */
    assert_int_equal(after_head(BYTES_OF("\x02\x01\0\0\0\0\0\0\0\0\x01k\x02v"), none),
                     COPY_BROKEN); /* shorter than it says */
    assert_int_equal(
        after_head(BYTES_OF("\x02\x01\0\0\0\0\0\0\0\0\x01k\x80\x80\x80\x80\x20"), none),
        COPY_BROKEN); /* 8 GB */
    const struct bytes large = BYTES_OF("\x02\x01\0\0\0\0\0\0\0\0\x01k\x81\x80\x10");
    assert_int_equal(after_head(large, none), COPY_MORE);
    assert_int_equal(after_head(large, key), COPY_BROKEN); /* its pieces are missing */
    assert_int_equal(after_head(large, BYTES_OF("\x03x")), COPY_BROKEN); /* a short one */
    const struct bytes end = BYTES_OF("\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(after_head(end, none), COPY_DONE);
    assert_int_equal(after_head(key, end), COPY_BROKEN); /* one key, and not none */
    assert_int_equal(after_head(large, end), COPY_BROKEN);
}

static void other_formats_are_told_from_damage(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct copy_reader r;
    uint64_t chain = 0;

    put_body(&out, &chain, BYTES_OF("\x01SNTCOPY\0\x02whatever comes then"));
    assert_int_equal(read_all(buf_bytes(&out), &r), COPY_NEWER);
    out.len = 0;
    assert_int_equal(read_all(BYTES_OF("a text of somebody else"), &r), COPY_FOREIGN);
    assert_int_equal(read_all(BYTES_OF("\x10\0\0\0\x01SNTC0"), &r), COPY_FOREIGN);
    assert_int_equal(read_all(BYTES_OF("\x10\0\0\0\x01SNTC"), &r), COPY_MORE);
    assert_int_equal(read_all(BYTES_OF("\x10\0\0\0\x02"), &r), COPY_FOREIGN);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_comes_back_as_it_was_put),
        cmocka_unit_test(a_stream_cut_anywhere_wants_more),
        cmocka_unit_test(a_stream_changed_anywhere_is_not_read_to_its_end),
        cmocka_unit_test(what_checks_but_makes_no_sense_is_refused),
        cmocka_unit_test(other_formats_are_told_from_damage),
    };
    return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
