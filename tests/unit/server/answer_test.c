/* SPDX-License-Identifier: Apache-2.0 */
#include "server/half_server.h"
#include <stdio.h>

#include "unit.h"

static struct shard_gate gate_at(uint64_t index, bool wrote)
{
    return (struct shard_gate){.term = {1}, .index = {index}, .wrote = wrote};
}

/* One reply of a client's command, as request.c writes it. */
static void reply_behind(struct client *c, const char *text,
                         const struct shard_gate *gate)
{
    struct answer *a = answer_for_gate(c, &half->slot);
    struct reply r = {&a->bytes, 2};

    reply_simple(&r, text);
    answer_gate(&half->s, a, &half->slot, gate);
}

static void expect_bytes(struct half *h, const char *text)
{
    struct buf out = buf_new(&h->mem);

    half_turn(h, &out, SIZE_MAX);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.at, text);
    buf_free(&out);
}

static void a_pipeline_to_one_shard_shares_one_answer(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate first = gate_at(1, true), second = gate_at(3, true);

    reply_behind(c, "one", &first);
    reply_behind(c, "two", &second);
    assert_ptr_equal(c->answers, c->last_answer);
    assert_int_equal(c->answers->replies, 2);

    h->applied.v = 2;
    answers_check(&h->s, &h->slot);
    expect_bytes(h, "");
    h->applied.v = 3;
    answers_check(&h->s, &h->slot);
    expect_bytes(h, "+one\r\n+two\r\n");
    half_free(h);
}

static void a_lost_gate_costs_one_error_for_each_reply(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate write = gate_at(1, true), read = gate_at(1, false);

    reply_behind(c, "one", &write);
    reply_behind(c, "two", &read);
    h->term.v = 2;
    answers_check(&h->s, &h->slot);
    struct buf out = buf_new(&h->mem);
    half_turn(h, &out, SIZE_MAX);
    const char *text = outcome_row(OUTCOME_UNCERTAIN)->text;
    assert_int_equal(out.len, 2 * (strlen(text) + 3));
    assert_memory_equal(out.at + 1, text, strlen(text));
    assert_int_equal(h->s.stats.uncertain, 2);
    buf_free(&out);
    half_free(h);
}

static void a_read_that_is_lost_was_surely_not_applied(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate read = gate_at(1, false);
    char text[256];

    reply_behind(c, "one", &read);
    h->slot.shard = NULL;
    answers_check(&h->s, &h->slot);
    snprintf(text, sizeof text, "-%s\r\n", outcome_row(OUTCOME_NOLEADER)->text);
    expect_bytes(h, text);
    half_free(h);
}

static void what_is_ready_leaves_without_what_came_after_it(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate open = {.term = {0}}, closed = gate_at(5, true);

    reply_behind(c, "read", &open);
    reply_behind(c, "write", &closed);
    reply_behind(c, "read", &open);
    expect_bytes(h, "+read\r\n");
    h->applied.v = 5;
    answers_check(&h->s, &h->slot);
    expect_bytes(h, "+write\r\n+read\r\n");
    half_free(h);
}

/* What a connection has seen is what it was told: an answer that is lost shows nothing. */
static void a_position_is_noted_when_its_answer_may_leave(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    struct shard_gate gate = gate_at(5, true);

    gate.saw.v = 5;
    reply_behind(c, "one", &gate);
    assert_int_equal(client_position(c, h->slot.group).index.v, 0);
    h->applied.v = 5;
    answers_check(&h->s, &h->slot);
    assert_int_equal(client_position(c, h->slot.group).index.v, 5);
    assert_true(client_position(c, h->slot.group).settled);
    expect_bytes(h, "+one\r\n");

    gate.index.v = gate.saw.v = 9;
    reply_behind(c, "two", &gate);
    h->term.v = 2;
    answers_check(&h->s, &h->slot);
    assert_int_equal(client_position(c, h->slot.group).index.v, 5);

    /* A later term is a later place in the log, whatever the index. */
    const struct shard_gate read = {.term = {2}, .saw = {4}};
    reply_behind(c, "three", &read);
    assert_int_equal(client_position(c, h->slot.group).index.v, 4);
    assert_int_equal(client_position(c, h->slot.group).term.v, 2);
    assert_int_equal(c->positions[0].wrote.v, 5);
    half_free(h);
}

/* V1 */
static void answers_leave_in_the_order_of_the_requests(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    struct answer *first = answer_open(c);
    const struct shard_gate open = {.term = {0}};

    reply_behind(c, "two", &open);
    expect_bytes(h, "");
    buf_put(&first->bytes, "+one\r\n", 6);
    answer_ready(&h->s, first);
    expect_bytes(h, "+one\r\n+two\r\n");
    half_free(h);
}

static void a_gate_past_its_deadline_is_told_as_what_it_is(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1), *d = half_client(h, 3);
    const struct shard_gate write = gate_at(1, true), read = gate_at(1, false);

    reply_behind(c, "write", &write);
    reply_behind(d, "read", &read);
    answers_expire(&h->s, &h->slot);
    expect_bytes(h, "");
    h->s.now.ns += h->s.config.limits.request_timeout_ns;
    answers_expire(&h->s, &h->slot);
    assert_null(h->slot.gated);
    assert_memory_equal(c->answers->bytes.at, "-UNCERTAIN", 10);
    assert_memory_equal(d->answers->bytes.at, "-NOQUORUM", 9);
    half_free(h);
}

static void the_answer_of_a_client_that_went_is_freed_with_its_gate(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate closed = gate_at(1, true);

    reply_behind(c, "one", &closed);
    struct answer *filling = answer_open(c);
    server_client_closed(&h->s, (struct conn_id){1});
    assert_int_equal(h->s.clients.count, 0);
    h->applied.v = 1;
    answers_check(&h->s, &h->slot);
    answer_error(&h->s, filling, OUTCOME_NOLEADER);
    half_free(h); /* looks that nothing is left */
}

static void a_requests_answer_goes_to_the_request(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct request r = {.id = 7};
    struct answer *a = answer_for_request(&h->s, &r);
    const struct shard_gate closed = gate_at(1, true);

    answer_gate(&h->s, a, &h->slot, &closed);
    assert_int_equal(h->n_results, 0);
    h->term.v = 9;
    answers_check(&h->s, &h->slot);
    assert_int_equal(h->n_results, 1);
    assert_ptr_equal(h->result_of, &r);
    assert_int_equal(h->result, OUTCOME_UNCERTAIN);
    half_free(h);
}

static void a_muted_reply_is_not_told(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    const struct shard_gate open = {.term = {0}}, closed = gate_at(1, true);

    reply_behind(c, "one", &open);
    c->reply_skip = true;
    reply_behind(c, "two", &closed);
    c->reply_skip = false;
    reply_behind(c, "three", &open);
    expect_bytes(h, "+one\r\n");
    h->applied.v = 1;
    answers_check(&h->s, &h->slot);
    expect_bytes(h, "+three\r\n");
    assert_null(c->answers);
    assert_int_equal(c->owed_bytes, 0);
    half_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipeline_to_one_shard_shares_one_answer),
        cmocka_unit_test(a_lost_gate_costs_one_error_for_each_reply),
        cmocka_unit_test(a_read_that_is_lost_was_surely_not_applied),
        cmocka_unit_test(what_is_ready_leaves_without_what_came_after_it),
        cmocka_unit_test(a_position_is_noted_when_its_answer_may_leave),
        cmocka_unit_test(answers_leave_in_the_order_of_the_requests),
        cmocka_unit_test(a_gate_past_its_deadline_is_told_as_what_it_is),
        cmocka_unit_test(the_answer_of_a_client_that_went_is_freed_with_its_gate),
        cmocka_unit_test(a_requests_answer_goes_to_the_request),
        cmocka_unit_test(a_muted_reply_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
