/* SPDX-License-Identifier: Apache-2.0 */
/* The checker of histories on histories whose verdict is known. */
#include "mem_test_alloc.h"
#include "unit.h"

#include "base/prng.h"
#include "sim/linear.h"

enum { BUDGET = 100000 };

static struct mem mem;
static struct linear_values values;

static int set_up(void **state)
{
    (void)state;
    mem = mem_for_test();
    linear_values_init(&values, &mem);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    linear_values_free(&values);
    assert_int_equal(mem.used, 0);
    return 0;
}

static uint32_t v(const char *text)
{
    return linear_value(&values, bytes_of_str(text));
}

static struct linear_op reads(uint64_t call, uint64_t done, const char *out)
{
    return (struct linear_op){
        .call = call, .done = done, .kind = LINEAR_READ, .out = out != NULL ? v(out) : 0};
}

static struct linear_op writes(uint64_t call, uint64_t done, const char *a)
{
    return (struct linear_op){
        .call = call, .done = done, .kind = LINEAR_WRITE, .a = v(a)};
}

static struct linear_op maybe_writes(uint64_t call, const char *a)
{
    return (struct linear_op){
        .call = call, .unknown = true, .kind = LINEAR_WRITE, .a = v(a)};
}

#define VERDICT(...)                                                                     \
    verdict((struct linear_op[]){__VA_ARGS__},                                           \
            sizeof((struct linear_op[]){__VA_ARGS__}) / sizeof(struct linear_op))

static enum linear_result verdict(struct linear_op *ops, size_t n)
{
    return linear_check(&values, ops, (uint32_t)n, 0, BUDGET, NULL);
}

static void a_sequence_reads_what_it_wrote(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(writes(1, 2, "a"), reads(3, 4, "a")), LINEAR_YES);
    assert_int_equal(VERDICT(writes(1, 2, "a"), reads(3, 4, NULL)), LINEAR_NO);
    assert_int_equal(VERDICT(writes(1, 2, "a"), writes(3, 4, "b"), reads(5, 6, "a")),
                     LINEAR_NO);
}

static void a_read_beside_a_write_sees_either(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(writes(1, 10, "a"), reads(2, 3, "a")), LINEAR_YES);
    assert_int_equal(VERDICT(writes(1, 10, "a"), reads(2, 3, NULL)), LINEAR_YES);
}

static void what_one_read_saw_a_later_one_must_not_lose(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(writes(1, 10, "a"), reads(2, 3, "a"), reads(4, 5, NULL)),
                     LINEAR_NO);
    assert_int_equal(VERDICT(writes(1, 10, "a"), reads(2, 5, "a"), reads(4, 6, NULL)),
                     LINEAR_YES);
}

static void equal_times_count_as_overlapping(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(writes(1, 5, "a"), reads(5, 6, NULL)), LINEAR_YES);
}

static void a_write_of_unknown_outcome_may_happen_late_or_never(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(maybe_writes(1, "a"), reads(2, 3, NULL)), LINEAR_YES);
    assert_int_equal(VERDICT(maybe_writes(1, "a"), reads(2, 3, NULL), reads(4, 5, "a")),
                     LINEAR_YES);
    assert_int_equal(VERDICT(maybe_writes(1, "a"), reads(2, 3, "a"), reads(4, 5, NULL)),
                     LINEAR_NO);
    /* Not before it was asked for. */
    assert_int_equal(VERDICT(reads(1, 2, "a"), maybe_writes(3, "a")), LINEAR_NO);
}

static void a_write_of_unknown_outcome_happens_once_only(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(maybe_writes(1, "a"), reads(2, 3, "a"), writes(4, 5, "b"),
                             reads(6, 7, "b"), reads(8, 9, "a")),
                     LINEAR_NO);
}

static void counters_must_add_up(void **state)
{
    (void)state;
    struct linear_op add = {
        .call = 1, .done = 9, .kind = LINEAR_ADD, .n = 1, .number = 1};
    struct linear_op again = add;

    again.number = 2;
    assert_int_equal(VERDICT(add, again), LINEAR_YES);
    again.number = 1; /* a lost update */
    assert_int_equal(VERDICT(add, again), LINEAR_NO);
    again.number = 3;
    struct linear_op maybe = {.call = 1, .unknown = true, .kind = LINEAR_ADD, .n = 1};
    assert_int_equal(VERDICT(add, again, maybe), LINEAR_YES);
    assert_int_equal(VERDICT(add, again), LINEAR_NO);
}

static void conditional_writes_are_told_the_truth(void **state)
{
    (void)state;
    struct linear_op one = {
        .call = 1, .done = 5, .kind = LINEAR_WRITE_NEW, .a = v("x"), .yes = true};
    struct linear_op two = one;

    two.a = v("y");
    assert_int_equal(VERDICT(one, two), LINEAR_NO); /* both cannot have been the first */
    two.yes = false;
    assert_int_equal(VERDICT(one, two), LINEAR_YES);

    struct linear_op swap = {.call = 6,
                             .done = 7,
                             .kind = LINEAR_WRITE_EQUAL,
                             .a = v("x"),
                             .b = v("z"),
                             .yes = true};
    assert_int_equal(VERDICT(one, two, swap, reads(8, 9, "z")), LINEAR_YES);
    swap.yes = false;
    assert_int_equal(VERDICT(one, two, swap), LINEAR_NO);
}

static void swaps_removes_and_appends_are_checked_by_their_answers(void **state)
{
    (void)state;
    struct linear_op swap = {
        .call = 3, .done = 4, .kind = LINEAR_SWAP, .a = v("b"), .out = v("a")};
    assert_int_equal(VERDICT(writes(1, 2, "a"), swap), LINEAR_YES);
    swap.out = 0;
    assert_int_equal(VERDICT(writes(1, 2, "a"), swap), LINEAR_NO);

    struct linear_op remove = {.call = 3, .done = 4, .kind = LINEAR_REMOVE, .yes = true};
    assert_int_equal(VERDICT(writes(1, 2, "a"), remove, reads(5, 6, NULL)), LINEAR_YES);
    assert_int_equal(VERDICT(writes(1, 2, "a"), remove, reads(5, 6, "a")), LINEAR_NO);
    assert_int_equal(VERDICT(remove), LINEAR_NO);

    struct linear_op append = {
        .call = 3, .done = 4, .kind = LINEAR_APPEND, .a = v("b"), .number = 2};
    assert_int_equal(VERDICT(writes(1, 2, "a"), append, reads(5, 6, "ab")), LINEAR_YES);
    append.number = 3;
    assert_int_equal(VERDICT(writes(1, 2, "a"), append), LINEAR_NO);
}

static void a_value_with_a_deadline_may_vanish_and_not_come_back(void **state)
{
    (void)state;
    struct linear_op lapsing = writes(1, 2, "a");

    lapsing.lapses = true;
    assert_int_equal(VERDICT(lapsing, reads(3, 4, "a"), reads(5, 6, NULL)), LINEAR_YES);
    assert_int_equal(VERDICT(lapsing, reads(3, 4, NULL), reads(5, 6, "a")), LINEAR_NO);
    assert_int_equal(VERDICT(lapsing, writes(3, 4, "b"), reads(5, 6, NULL)), LINEAR_NO);
}

static uint32_t bank(int64_t a, int64_t b)
{
    const int64_t balances[LINEAR_ACCOUNTS] = {a, b};

    return linear_value(&values,
                        (struct bytes){(const uint8_t *)balances, sizeof balances});
}

static void transfers_are_all_or_nothing(void **state)
{
    (void)state;
    struct linear_op ops[] = {
        {.call = 1,
         .done = 2,
         .kind = LINEAR_TRANSFER,
         .n = 3,
         .from = 0,
         .to = 1,
         .out = bank(7, 13)},
        {.call = 3, .done = 4, .kind = LINEAR_READ, .out = bank(7, 13)},
        {.call = 5,
         .done = 6,
         .kind = LINEAR_WRITE_WATCHED,
         .a = bank(7, 13),
         .b = bank(8, 12),
         .yes = true},
        {.call = 7,
         .done = 8,
         .kind = LINEAR_WRITE_WATCHED,
         .a = bank(7, 13),
         .b = bank(0, 20),
         .yes = false},
        {.call = 9, .done = 10, .kind = LINEAR_READ, .out = bank(8, 12)},
    };
    assert_int_equal(linear_check(&values, ops, 5, bank(10, 10), BUDGET, NULL),
                     LINEAR_YES);
    ops[1].out = bank(7, 10); /* half of it */
    assert_int_equal(linear_check(&values, ops, 5, bank(10, 10), BUDGET, NULL),
                     LINEAR_NO);
    ops[1].out = bank(7, 13);
    ops[3].yes = true; /* what it watched had changed */
    assert_int_equal(linear_check(&values, ops, 5, bank(10, 10), BUDGET, NULL),
                     LINEAR_NO);
}

static void it_tells_how_far_it_came(void **state)
{
    (void)state;
    struct linear_op ops[] = {writes(1, 2, "a"), reads(3, 4, "a"), reads(5, 6, "never")};
    uint32_t placed = 0;

    assert_int_equal(linear_check(&values, ops, 3, 0, BUDGET, &placed), LINEAR_NO);
    assert_int_equal(placed, 2);
}

static void past_its_budget_it_says_so(void **state)
{
    (void)state;
    struct linear_op ops[24];

    for (uint32_t i = 0; i < 23; i++)
        ops[i] = (struct linear_op){.call = 1,
                                    .done = 100,
                                    .kind = LINEAR_APPEND,
                                    .a = v(i % 2 == 0 ? "x" : "y"),
                                    .number = 7};
    ops[23] = reads(200, 201, "never");
    assert_int_equal(linear_check(&values, ops, 24, 0, 10, NULL), LINEAR_NO);
    for (uint32_t i = 0; i < 23; i++)
        ops[i].unknown = true;
    assert_int_equal(linear_check(&values, ops, 24, 0, 1000, NULL), LINEAR_UNDECIDED);
}

/* ---- against a naive model: every order of up to seven operations ---- */

enum { SMALL = 6 };

/* Registers only: whether the order perm of ops (a subset when unknown ones are left out)
 * is legal and keeps real time. */
static bool order_is_legal(const struct linear_op *ops, const uint32_t *order, uint32_t n)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < n; i++) {
        const struct linear_op *op = &ops[order[i]];
        for (uint32_t j = i + 1; j < n; j++)
            if (!ops[order[j]].unknown && ops[order[j]].done < op->call) return false;
        if (op->kind == LINEAR_READ && op->out != value) return false;
        if (op->kind == LINEAR_WRITE) value = op->a;
    }
    return true;
}

/* Next permutation in lexicographic order. */
static bool next_order(uint32_t *at, uint32_t n)
{
    uint32_t i = n;

    while (i > 1 && at[i - 2] >= at[i - 1])
        i--;
    if (i <= 1) return false;
    uint32_t j = n - 1;
    while (at[j] <= at[i - 2])
        j--;
    const uint32_t pivot = at[i - 2];
    at[i - 2] = at[j];
    at[j] = pivot;
    for (uint32_t lo = i - 1, hi = n - 1; lo < hi; lo++, hi--) {
        const uint32_t swap = at[lo];
        at[lo] = at[hi];
        at[hi] = swap;
    }
    return true;
}

static bool naive(const struct linear_op *ops, uint32_t n)
{
    for (uint32_t leave = 0; leave < 1u << n; leave++) {
        uint32_t order[SMALL], m = 0;
        bool skip = false;
        for (uint32_t i = 0; i < n; i++) {
            if ((leave & (1u << i)) == 0)
                order[m++] = i;
            else
                skip = skip || !ops[i].unknown;
        }
        if (skip) continue;
        do {
            if (order_is_legal(ops, order, m)) return true;
        } while (next_order(order, m));
    }
    return false;
}

static void it_agrees_with_trying_every_order(void **state)
{
    (void)state;
    struct prng prng = prng_seed(7);
    uint32_t good = 0, bad = 0;
    static const char *const texts[] = {"a", "b", "c"};

    for (uint32_t round = 0; round < 3000; round++) {
        struct linear_op ops[SMALL], copy[SMALL];
        const uint32_t n = (uint32_t)prng_range(&prng, 2, SMALL);
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t call = prng_below(&prng, 20);
            const char *text = texts[prng_below(&prng, 3)];
            ops[i] = writes(call, call + prng_below(&prng, 10), text);
            if (prng_chance(&prng, 550))
                ops[i] = reads(call, ops[i].done, prng_chance(&prng, 200) ? NULL : text);
            else
                ops[i].unknown = prng_chance(&prng, 300);
        }
        memcpy(copy, ops, sizeof copy);
        const bool expected = naive(ops, n);
        assert_int_equal(linear_check(&values, copy, n, 0, BUDGET, NULL),
                         expected ? LINEAR_YES : LINEAR_NO);
        good += expected;
        bad += !expected;
    }
    assert_true(good > 500);
    assert_true(bad > 500);
}

static struct linear_op by(uint64_t conn, struct linear_op op)
{
    op.conn = conn;
    return op;
}

/* Asked at once, answered at once: of one connection the first to be asked is the first. */
static void what_a_connection_pipelines_happens_in_the_order_asked(void **state)
{
    (void)state;
    const struct linear_op a = writes(1, 9, "a"), b = writes(1, 9, "b");
    const struct linear_op then_a = reads(10, 11, "a"), then_b = reads(10, 11, "b");

    assert_int_equal(VERDICT(a, b, then_a), LINEAR_YES);
    assert_int_equal(VERDICT(by(1, a), by(2, b), then_a), LINEAR_YES);
    assert_int_equal(VERDICT(by(1, a), by(1, b), then_b), LINEAR_YES);
    assert_int_equal(VERDICT(by(1, a), by(1, b), then_a), LINEAR_NO);
    assert_int_equal(VERDICT(by(1, reads(1, 9, "a")), by(1, a)), LINEAR_NO);
    assert_int_equal(VERDICT(by(1, a), by(1, reads(1, 9, NULL))), LINEAR_NO);
    /* Beside others, and not only next to each other. */
    assert_int_equal(VERDICT(by(1, a), by(2, writes(1, 9, "c")), by(1, b), then_a),
                     LINEAR_NO);
    /* Nobody was told of it: it may still come later. */
    assert_int_equal(VERDICT(by(1, maybe_writes(1, "a")), by(1, b), then_a), LINEAR_YES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_sequence_reads_what_it_wrote),
        TEST(a_read_beside_a_write_sees_either),
        TEST(what_one_read_saw_a_later_one_must_not_lose),
        TEST(equal_times_count_as_overlapping),
        TEST(a_write_of_unknown_outcome_may_happen_late_or_never),
        TEST(a_write_of_unknown_outcome_happens_once_only),
        TEST(counters_must_add_up),
        TEST(conditional_writes_are_told_the_truth),
        TEST(swaps_removes_and_appends_are_checked_by_their_answers),
        TEST(a_value_with_a_deadline_may_vanish_and_not_come_back),
        TEST(what_a_connection_pipelines_happens_in_the_order_asked),
        TEST(transfers_are_all_or_nothing),
        TEST(it_tells_how_far_it_came),
        TEST(past_its_budget_it_says_so),
        TEST(it_agrees_with_trying_every_order),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
