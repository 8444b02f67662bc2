/* SPDX-License-Identifier: Apache-2.0 */
#include "server/half_server.h"
#include "unit.h"

static void put_command(struct buf *out, const char *name)
{
    buf_putf(out, "*1\r\n$%zu\r\n%s\r\n", strlen(name), name);
}

static void expect_out(struct buf *out, const char *text)
{
    buf_put_u8(out, 0);
    assert_string_equal((const char *)out->at, text);
    out->len = 0;
}

static void commands_may_come_in_any_pieces(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 40; piece++) {
        struct half *h = half_new();
        struct buf in = buf_new(&h->mem), out = buf_new(&h->mem);
        half_client(h, 1);
        put_command(&in, "one");
        put_command(&in, "two");
        buf_put(&in, "three\r\n", 7);
        for (size_t at = 0; at < in.len; at += piece) {
            const size_t left = in.len - at;
            half_data(h, 1, (struct bytes){in.at + at, left < piece ? left : piece});
        }
        half_turn(h, &out, SIZE_MAX);
        expect_out(&out, "$3\r\none\r\n$3\r\ntwo\r\n$5\r\nthree\r\n");
        buf_free(&in);
        buf_free(&out);
        half_free(h);
    }
}

static void a_turn_serves_a_client_within_bounds(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf in = buf_new(&h->mem), out = buf_new(&h->mem);

    half_client(h, 1);
    for (int i = 0; i < 5000; i++)
        put_command(&in, "a");
    half_data(h, 1, (struct bytes){in.at, in.len});
    assert_true(h->n_commands <= 2000);
    uint32_t turns = 0;
    while (h->n_commands < 5000 && turns++ < 100)
        half_turn(h, &out, SIZE_MAX);
    assert_int_equal(h->n_commands, 5000);
    half_turn(h, &out, SIZE_MAX);
    assert_int_equal(out.len, 5000 * 7);
    buf_free(&in);
    buf_free(&out);
    half_free(h);
}

static void a_world_that_takes_little_is_given_the_rest(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);

    half_client(h, 1);
    half_data(h, 1, BYTES_OF("one\r\ntwo\r\n"));
    for (int i = 0; i < 18; i++) {
        half_turn(h, &out, 1);
        assert_int_equal(half_count(h, SERVER_SEND), 1);
    }
    half_turn(h, &out, 1);
    assert_int_equal(half_count(h, SERVER_SEND), 0);
    expect_out(&out, "$3\r\none\r\n$3\r\ntwo\r\n");
    buf_free(&out);
    half_free(h);
}

static void a_client_that_does_not_read_is_not_served_further(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf in = buf_new(&h->mem), out = buf_new(&h->mem);
    struct client *c = half_client(h, 1);

    for (int i = 0; i < 1000; i++)
        put_command(&in, "0123456789012345678901234567890123456789");
    for (int i = 0; i < 20 && !c->paused; i++) {
        half_data(h, 1, (struct bytes){in.at, in.len});
        half_turn(h, &out, 0);
    }
    assert_true(c->paused);
    assert_true(c->choked);
    assert_true(h->n_commands < 1000);
    for (int i = 0; i < 2000 && (c->paused || c->in.len > c->in_at); i++)
        half_turn(h, &out, 1000);
    assert_false(c->paused);
    assert_true(h->n_commands % 1000 == 0);
    buf_free(&in);
    buf_free(&out);
    half_free(h);
}

static void a_command_that_needs_all_before_it_waits_for_them(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);

    half_client(h, 1);
    h->hold = true;
    half_data(h, 1, BYTES_OF("one\r\nall\r\nthree\r\n"));
    half_turn(h, &out, SIZE_MAX);
    assert_int_equal(h->n_commands, 1);
    buf_put(&h->held->bytes, "+done\r\n", 7);
    answer_ready(&h->s, h->held);
    half_turn(h, &out, SIZE_MAX);
    half_turn(h, &out, SIZE_MAX);
    expect_out(&out, "+done\r\n$3\r\nall\r\n$5\r\nthree\r\n");
    buf_free(&out);
    half_free(h);
}

static void a_broken_stream_is_answered_in_its_turn_and_closed(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);

    half_client(h, 1);
    half_data(h, 1, BYTES_OF("one\r\n*1\r\nx\r\ntwo\r\n"));
    half_turn(h, &out, SIZE_MAX);
    half_turn(h, &out, SIZE_MAX);
    assert_int_equal(half_count(h, SERVER_CLOSE), 1);
    assert_int_equal(h->n_commands, 1);
    expect_out(&out, "$3\r\none\r\n-ERR Protocol error: expected '$', got 'x'\r\n");
    assert_int_equal(h->s.n_clients, 0);
    buf_free(&out);
    half_free(h);
}

static void bytes_on_their_way_outlive_their_client(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);

    half_data(h, 1, BYTES_OF("one\r\n"));
    clients_turn_end(&h->s);
    assert_int_equal(half_count(h, SERVER_SEND), 1);
    const struct bytes sent = h->actions[h->n_actions - 1].bytes;
    client_drop(&h->s, c, "for the test");
    clients_turn_end(&h->s);
    assert_int_equal(h->s.n_clients, 0);
    assert_memory_equal(sent.at, "$3\r\none\r\n", sent.len);
    assert_true(client_sent(&h->s, (struct conn_id){1}, sent.len));
    assert_int_equal(h->s.clients.count, 0);
    half_free(h);
}

static void too_many_clients_are_told_so(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);

    h->s.config.limits.clients_max = 1;
    half_client(h, 1);
    half_client(h, 3);
    half_turn(h, &out, SIZE_MAX);
    half_turn(h, &out, SIZE_MAX);
    expect_out(&out, "-ERR max number of clients reached\r\n");
    assert_int_equal(h->s.n_clients, 1);
    assert_int_equal(h->s.stats.rejected, 1);
    buf_free(&out);
    half_free(h);
}

static void a_client_owed_too_much_is_dropped(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);
    struct client *c = half_client(h, 1);

    h->hold = true;
    half_data(h, 1, BYTES_OF("one\r\n"));
    buf_extend(&h->held->bytes, (2 << 20) + 1);
    memset(h->held->bytes.at, 'x', h->held->bytes.len);
    answer_ready(&h->s, h->held);
    assert_true(c->owed_bytes > h->s.config.limits.client_output_bytes_max);
    half_turn(h, &out, 0);
    assert_int_equal(half_count(h, SERVER_CLOSE), 1);
    buf_free(&out);
    half_free(h);
}

static void a_tls_hello_is_no_command(void **state)
{
    (void)state;
    struct half *h = half_new();
    struct buf out = buf_new(&h->mem);

    half_client(h, 1);
    half_data(h, 1, BYTES_OF("\x16\x03\x01\x02\r\nflushall\r\n"));
    half_turn(h, &out, 0);
    assert_int_equal(h->n_commands, 0);
    assert_int_equal(half_count(h, SERVER_CLOSE), 1);
    buf_free(&out);
    half_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_may_come_in_any_pieces),
        cmocka_unit_test(a_turn_serves_a_client_within_bounds),
        cmocka_unit_test(a_world_that_takes_little_is_given_the_rest),
        cmocka_unit_test(a_client_that_does_not_read_is_not_served_further),
        cmocka_unit_test(a_command_that_needs_all_before_it_waits_for_them),
        cmocka_unit_test(a_broken_stream_is_answered_in_its_turn_and_closed),
        cmocka_unit_test(bytes_on_their_way_outlive_their_client),
        cmocka_unit_test(too_many_clients_are_told_so),
        cmocka_unit_test(a_client_owed_too_much_is_dropped),
        cmocka_unit_test(a_tls_hello_is_no_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
