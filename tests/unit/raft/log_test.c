/* SPDX-License-Identifier: Apache-2.0 */
/* log against arrays that are slow and plainly right. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "mem_test_alloc.h"
#include "raft/log.h"

enum { MODEL_MAX = 20000 };

struct model {
    uint64_t base, last, mem_first;
    uint64_t terms[MODEL_MAX]; /* by index */
    uint64_t values[MODEL_MAX];
    uint32_t sizes[MODEL_MAX];
};

static uint8_t pattern[3 * LOG_CHUNK_BYTES];

/* A payload is its value, then as much of a pattern as its size asks for. */
static struct bytes payload_of(const struct model *m, uint64_t i)
{
    memcpy(pattern, &m->values[i], sizeof m->values[i]);
    return (struct bytes){pattern, m->sizes[i]};
}

/* Some lie in blocks, small ones too: the log takes what it is given. */
static void append(struct log *log, const struct model *m, uint64_t i)
{
    struct bytes payload = payload_of(m, i);
    struct block *block = NULL;

    if (m->values[i] % 4 == 0) {
        struct buf copy = buf_new(log->mem);
        buf_put(&copy, payload.at, payload.len);
        block = block_take(&copy);
        payload = buf_bytes(&block->bytes);
    }
    log_append(log, (struct term){m->terms[i]}, RAFT_COMMAND, payload, block);
    assert_true(block == NULL || log_at(log, log->last)->payload.at == payload.at);
    block_unref(block);
}

static void compare_entry(const struct log *log, const struct model *m, uint64_t i)
{
    const struct raft_entry *e = log_at(log, (struct log_index){i});

    if (i < m->mem_first || i > m->last) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(e->index.v, i);
    assert_int_equal(e->term.v, m->terms[i]);
    assert_true(bytes_equal(e->payload, payload_of(m, i)));
}

static void compare(const struct log *log, const struct model *m, struct prng *p)
{
    log_verify(log);
    assert_int_equal(log->base.v, m->base);
    assert_int_equal(log->last.v, m->last);
    assert_int_equal(log->mem_first.v, m->mem_first);
    for (uint32_t n = 0; n < 20; n++) {
        const uint64_t i = prng_range(p, m->base, m->last);
        const uint64_t term = prng_below(p, m->terms[m->last] + 2);
        uint64_t meet = i;
        assert_int_equal(log_term_at(log, (struct log_index){i}).v, m->terms[i]);
        compare_entry(log, m, i);
        while (meet > m->base && m->terms[meet] > term)
            meet--;
        assert_int_equal(log_find_term(log, (struct log_index){i}, (struct term){term}).v,
                         meet);
    }
    assert_int_equal(log_term_at(log, (struct log_index){m->last + 1}).v, 0);
    if (m->base > 0)
        assert_int_equal(log_term_at(log, (struct log_index){m->base - 1}).v, 0);
}

static void model_cut_front(struct model *m, uint64_t mem_first)
{
    m->mem_first = mem_first > m->mem_first ? mem_first : m->mem_first;
}

static void do_one(struct log *log, struct model *m, struct prng *p)
{
    const uint64_t what = prng_below(p, 100);

    if (what < 80 && m->last < MODEL_MAX - 1) {
        const uint64_t i = ++m->last;
        m->terms[i] = m->terms[i - 1] + (prng_chance(p, 100) ? prng_below(p, 3) : 0);
        m->values[i] = prng_next(p);
        m->sizes[i] = (uint32_t)prng_below(p, prng_chance(p, 20) ? sizeof pattern : 200);
        append(log, m, i);
    } else if (what < 88) {
        const uint64_t far = m->last - m->base < 30 ? m->last - m->base : 30;
        m->last -= prng_below(p, far + 1);
        log_truncate(log, (struct log_index){m->last});
        if (m->mem_first > m->last + 1) m->mem_first = m->last + 1;
    } else if (what < 94) {
        const uint64_t upto = prng_range(p, m->base, m->last);
        const uint64_t bytes_max = prng_below(p, 40000);
        log_evict(log, (struct log_index){upto}, bytes_max);
        while (m->mem_first <= upto && m->mem_first < log->mem_first.v)
            m->mem_first++;
        assert_true(log->bytes <= bytes_max || log->mem_first.v > upto);
    } else if (what < 99) {
        const uint64_t to = m->base + prng_below(p, (m->last - m->base) / 2 + 1);
        log_compact(log, (struct log_index){to});
        m->base = to;
        model_cut_front(m, to + 1);
    } else if (m->last < MODEL_MAX - 10) {
        m->terms[m->last + 5] = m->terms[m->last] + 1;
        m->base = m->last = m->last + 5;
        m->mem_first = m->base + 1;
        log_reset(log, (struct log_index){m->base}, (struct term){m->terms[m->base]});
    }
}

static void a_log_does_what_arrays_do(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct mem mem = mem_for_test();
        struct prng p = prng_seed(seed);
        struct model *m = calloc(1, sizeof *m);
        struct log log;

        m->mem_first = 1;
        log_init(&log, &mem, (struct log_index){0}, (struct term){0});
        for (uint32_t n = 0; n < 1500; n++) {
            do_one(&log, m, &p);
            compare(&log, m, &p);
        }
        log_free(&log);
        assert_int_equal(mem.used, 0);
        free(m);
    }
}

/* A message is a slice of the log as it lies in memory. */
static void entries_lie_side_by_side(void **state)
{
    struct mem mem = mem_for_test();
    struct log log;

    (void)state;
    log_init(&log, &mem, (struct log_index){10}, (struct term){2});
    for (uint64_t i = 11; i <= 300; i++) {
        log_append(&log, (struct term){3}, RAFT_COMMAND, BYTES_OF("x"), NULL);
        if (i % 7 == 0) log_evict(&log, (struct log_index){i - 5}, 0);
    }
    const struct raft_entry *e = log_at(&log, log.mem_first);
    for (uint64_t i = log.mem_first.v; i <= log.last.v; i++, e++)
        assert_int_equal(e->index.v, i);
    log_free(&log);
}

static void a_log_that_moves_along_allocates_nothing(void **state)
{
    struct mem mem = mem_for_test();
    struct log log;
    uint8_t payload[100] = {0};
    size_t used = 0;

    (void)state;
    log_init(&log, &mem, (struct log_index){0}, (struct term){0});
    for (uint64_t i = 1; i <= 100000; i++) {
        log_append(&log, (struct term){1}, RAFT_COMMAND, (struct bytes){payload, 100},
                   NULL);
        if (i % 100 == 0) log_evict(&log, (struct log_index){i}, 100000);
        if (i == 10000) used = mem.used;
        if (i > 10000)
            assert_true(mem.used <= used + (LOG_SPARE_MAX + 1) * LOG_CHUNK_BYTES);
    }
    log_free(&log);
    assert_int_equal(mem.used, 0);
}

/* However its last entry goes: a large value is not kept by a log that has nothing in memory,
 * where nobody counts it. */
static void an_empty_log_keeps_no_block(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct mem mem = mem_for_test();
        struct log log;
        struct buf bytes = buf_new(&mem);

        log_init(&log, &mem, (struct log_index){0}, (struct term){0});
        memset(buf_extend(&bytes, BLOCK_BYTES_MIN), 1, BLOCK_BYTES_MIN);
        struct block *block = block_take(&bytes);
        log_append(&log, (struct term){1}, RAFT_COMMAND, buf_bytes(&block->bytes), block);
        block_unref(block);
        assert_true(mem.used > BLOCK_BYTES_MIN);
        switch (way) {
        case 0: log_compact(&log, (struct log_index){1}); break;
        case 1: log_evict(&log, (struct log_index){1}, 0); break;
        case 2: log_truncate(&log, (struct log_index){0}); break;
        case 3: log_reset(&log, (struct log_index){9}, (struct term){2}); break;
        }
        assert_int_equal(log.bytes, 0);
        assert_true(mem.used < 4096);
        log_append(&log, (struct term){2}, RAFT_COMMAND, BYTES_OF("small"), NULL);
        log_verify(&log);
        log_free(&log);
        assert_int_equal(mem.used, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_does_what_arrays_do),
        cmocka_unit_test(entries_lie_side_by_side),
        cmocka_unit_test(a_log_that_moves_along_allocates_nothing),
        cmocka_unit_test(an_empty_log_keeps_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
