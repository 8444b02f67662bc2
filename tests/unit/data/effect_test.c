/* SPDX-License-Identifier: Apache-2.0 */
#include "data/effect.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/item.h"
#include "data/outcome.h"
#include "mem_test_alloc.h"
#include "unit.h"

static const struct effect samples[] = {
    {.kind = EFFECT_PUT,
     .flags = EFFECT_CREATED,
     .type = ITEM_STRING,
     .key = {(const uint8_t *)"key", 3},
     .deadline_ms = INT64_MAX,
     .field = {(const uint8_t *)"f", 1},
     .value = {(const uint8_t *)"value", 5}},
    {.kind = EFFECT_ADD,
     .type = ITEM_STRING,
     .key = {(const uint8_t *)"n", 1},
     .delta = INT64_MIN,
     .value = {(const uint8_t *)"-9", 2}},
    {.kind = EFFECT_REMOVE,
     .key = {(const uint8_t *)"k", 1},
     .field = {(const uint8_t *)"f", 1}},
    {.kind = EFFECT_DEADLINE, .key = {(const uint8_t *)"k", 1}, .deadline_ms = 17},
    {.kind = EFFECT_CLEAR, .flags = EFFECT_EXPIRED, .key = {(const uint8_t *)"", 0}},
    {.kind = EFFECT_WIPE},
    {.kind = EFFECT_PUT,
     .flags = EFFECT_SYSTEM | EFFECT_CREATED,
     .type = ITEM_STRING,
     .key = {(const uint8_t *)"\1id", 3},
     .value = {(const uint8_t *)"v", 1}},
    {.kind = EFFECT_CLEAR, .flags = EFFECT_SYSTEM, .key = {(const uint8_t *)"\1id", 3}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static void same(const struct effect *a, const struct effect *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->deadline_ms, b->deadline_ms);
    assert_int_equal(a->delta, b->delta);
    assert_true(bytes_equal(a->key, b->key));
    assert_true(bytes_equal(a->field, b->field));
    assert_true(bytes_equal(a->value, b->value));
}

static void effects_come_back_as_they_went(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);
    struct effect e;

    for (int i = 0; i < SAMPLES; i++)
        effect_encode(&out, &samples[i]);
    struct cursor in = cursor_of(buf_bytes(&out));
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(effect_decode(&in, &e), EFFECT_OK);
        same(&e, &samples[i]);
    }
    assert_int_equal(effect_decode(&in, &e), EFFECT_END);
    buf_free(&out);
}

static void the_format_is_as_written(void **state)
{
    (void)state;
    static const uint8_t want[] = {1,    1,    3,    'k',  'e',  'y',  1,    0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1,
                                   'f',  5,    'v',  'a',  'l',  'u',  'e'};
    struct mem mem = mem_for_test();
    struct buf out = buf_new(&mem);

    effect_encode(&out, &samples[0]);
    assert_int_equal(out.len, sizeof want);
    assert_memory_equal(out.at, want, sizeof want);
    buf_free(&out);
}

static void a_cut_effect_is_malformed(void **state)
{
    (void)state;
    struct mem mem = mem_for_test();

    for (int i = 0; i < SAMPLES; i++) {
        struct buf out = buf_new(&mem);
        effect_encode(&out, &samples[i]);
        for (size_t len = 1; len < out.len; len++) {
            uint8_t *cut = malloc(len);
            memcpy(cut, out.at, len);
            struct cursor in = {cut, cut + len};
            struct effect e = {.deadline_ms = 99};
            assert_int_equal(effect_decode(&in, &e), EFFECT_MALFORMED);
            assert_ptr_equal(in.at, cut);
            assert_int_equal(e.deadline_ms, 99);
            free(cut);
        }
        buf_free(&out);
    }
}

static void malformed(const void *at, size_t len)
{
    struct effect e;
    struct cursor in = cursor_of((struct bytes){at, len});
    assert_int_equal(effect_decode(&in, &e), EFFECT_MALFORMED);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    malformed("\0\0\0", 3);                          /* no kind */
    malformed("\7\0\0", 3);                          /* a kind to come */
    malformed("\5\1\0", 3);                          /* CLEAR, created */
    malformed("\5\10\0", 3);                         /* a flag to come */
    malformed("\5\4\0", 3);                          /* a system item without a kind */
    malformed("\5\6\1k", 4);                         /* a system item, expired */
    malformed("\4\4\1k\0\0\0\0\0\0\0\0", 12);        /* a system item's deadline */
    malformed("\1\2\0\1\0\0\0\0\0\0\0\0\0\0", 14);   /* PUT, expired */
    malformed("\1\0\0\0\0\0\0\0\0\0\0\0\0\0", 14);   /* no type */
    malformed("\1\0\0\2\0\0\0\0\0\0\0\0\0\0", 14);   /* a type to come */
    malformed("\1\0\0\1\0\0\0\0\0\0\0\200\0\0", 14); /* a deadline below 0 */
    malformed("\6\0\1k", 4);                         /* WIPE of one key */
    malformed("\5\0\200\0", 4);                      /* a length in too many bytes */
    malformed("\5\0\377\377\377\377\377\377\377\377\377\1", 12);
}

static void a_place_is_slot_then_hash(void **state)
{
    (void)state;
    const struct bytes key = BYTES_OF("{user}.name");
    const struct key_place place = key_place_of(key);

    assert_int_equal(place.v >> 48, key_slot(key));
    assert_int_equal(place.v & ((UINT64_C(1) << 48) - 1), hash64(key) >> 16);
    assert_int_equal(place.v >> 48, key_place_of(BYTES_OF("{user}")).v >> 48);
}

static void outcomes_bear_code_and_text(void **state)
{
    (void)state;
    assert_string_equal(outcome_row(OUTCOME_SYNTAX)->text, "ERR syntax error");
    assert_string_equal(outcome_row(OUTCOME_WRONGTYPE)->code, "WRONGTYPE");
    assert_int_equal(outcome_row(OUTCOME_UNCERTAIN)->retry, OUTCOME_uncertain);
    for (int i = 1; i < OUTCOME_END; i++) {
        const struct outcome_row *row = outcome_row((enum outcome)i);
        assert_memory_equal(row->text, row->code, strlen(row->code));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(effects_come_back_as_they_went),
        cmocka_unit_test(the_format_is_as_written),
        cmocka_unit_test(a_cut_effect_is_malformed),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_place_is_slot_then_hash),
        cmocka_unit_test(outcomes_bear_code_and_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
