/* SPDX-License-Identifier: Apache-2.0 */
/* SESSION TOKEN and RESUME: what is given is taken again, and nothing else is. */
#include "server/half_server.h"

#include "base/hash.h"
#include "base/prng.h"
#include "unit.h"

enum { SHARDS_MAX = 256, TEXT_MAX = 20000 };

/* ---- what session.c and server.c would do ---- */

void session_error(struct server *s, struct client *c, const char *text)
{
    struct reply r = answer_now(c);

    reply_error(&r, text);
    answer_now_done(s, c);
}

void session_simple(struct server *s, struct client *c, const char *text)
{
    struct reply r = answer_now(c);

    reply_simple(&r, text);
    answer_now_done(s, c);
}

struct slot *server_slot_find(const struct server *s, struct group_id group)
{
    (void)s;
    (void)group;
    return NULL;
}

/* ---- */

static uint64_t conns = 1;

/* What the client is told, as text: errors, OK or a token; good until the next call. */
static struct bytes told(struct half *h)
{
    static uint8_t text[TEXT_MAX];
    struct buf out = buf_new(&h->mem);

    half_turn(h, &out, SIZE_MAX);
    assert_true(out.len < sizeof text);
    memcpy(text, out.at, out.len);
    struct bytes b = {text, out.len};
    if (text[0] == '$') { /* a bulk string: its bytes */
        const uint8_t *end = memchr(text, '\n', out.len);
        assert_non_null(end);
        b = (struct bytes){end + 1, out.len - (size_t)(end + 1 - text) - 2};
    }
    buf_free(&out);
    return b;
}

static bool resumes(struct half *h, struct client *c, struct bytes token)
{
    token_resume(&h->s, c, token);
    return told(h).at[0] == '+';
}

static void note(struct client *c, uint32_t group, uint64_t index, uint64_t term,
                 bool settled)
{
    const struct shard_position p = {{index}, {term}, settled};

    client_note(c, (struct group_id){group}, p, true);
}

static struct bytes digits_kept(struct bytes token, uint8_t room[TEXT_MAX])
{
    assert_true(token.len < TEXT_MAX);
    memcpy(room, token.at, token.len);
    return (struct bytes){room, token.len};
}

static void a_token_brings_its_positions_and_no_others(void **state)
{
    static uint8_t room[TEXT_MAX];
    struct half *h = half_new();
    struct client *a = half_client(h, conns++), *b = half_client(h, conns++);
    (void)state;

    h->s.identity.cluster.v = 77;
    note(a, 4, 1000000, 3, true);
    note(a, 1, UINT64_MAX, UINT64_MAX, false);
    token_give(&h->s, a);
    assert_true(a->session);
    const struct bytes token = digits_kept(told(h), room);

    note(b, 9, 5, 5, true);
    assert_true(resumes(h, b, token));
    assert_true(b->session);
    assert_int_equal(b->n_positions, 2);
    const struct shard_position four = client_position(b, (struct group_id){4});
    assert_int_equal(four.index.v, 1000000);
    assert_int_equal(four.term.v, 3);
    assert_true(four.settled);
    assert_false(client_position(b, (struct group_id){1}).settled);
    assert_int_equal(b->positions[0].wrote.v, 0); /* WAIT is not about it */

    h->s.identity.cluster.v = 78;
    assert_false(resumes(h, b, token));
    assert_int_equal(b->n_positions, 2); /* as before */
    half_free(h);
}

static void a_token_holds_256_shards_and_no_more(void **state)
{
    static uint8_t room[TEXT_MAX];
    struct half *h = half_new();
    struct client *a = half_client(h, conns++), *b = half_client(h, conns++);
    (void)state;

    for (uint32_t g = 0; g < SHARDS_MAX; g++)
        note(a, UINT32_MAX - g, UINT64_MAX - g, UINT64_MAX, false);
    token_give(&h->s, a);
    const struct bytes token = digits_kept(told(h), room);
    assert_true(resumes(h, b, token));
    assert_int_equal(b->n_positions, SHARDS_MAX);
    note(a, 1, 1, 1, true);
    token_give(&h->s, a);
    assert_int_equal(told(h).at[0], '-');
    half_free(h);
}

static uint8_t digit(uint32_t v)
{
    return (uint8_t) "0123456789abcdef"[v & 15];
}

/* The token of `body`, with the right checksum. */
static struct bytes sealed(const uint8_t *body, size_t len, uint8_t *text)
{
    uint8_t sum[8];

    store_u64le(sum, hash64((struct bytes){body, len}));
    for (size_t i = 0; i < len + 8; i++) {
        const uint8_t v = i < len ? body[i] : sum[i - len];
        text[2 * i] = digit(v >> 4);
        text[2 * i + 1] = digit(v);
    }
    return (struct bytes){text, 2 * (len + 8)};
}

/* Whatever a body says under a good checksum, it is refused whole or taken whole. */
static void a_body_that_lies_is_refused_or_believed(void **state)
{
    struct half *h = half_new();
    struct client *c = half_client(h, conns++);
    struct prng rng = prng_seed(5);
    uint8_t text[400];
    (void)state;

    h->s.identity.cluster.v = 7;
    const uint8_t good[] = {1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 3, 9, 4, 1, 8, 5, 4, 0};
    assert_true(resumes(h, c, sealed(good, sizeof good, text)));
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        uint8_t body[40];
        const size_t len = i % 3 == 0 ? prng_below(&rng, sizeof body) : sizeof good;
        for (size_t k = 0; k < sizeof body; k++)
            body[k] = k < sizeof good ? good[k] : (uint8_t)prng_next(&rng);
        body[prng_below(&rng, sizeof good)] = (uint8_t)prng_next(&rng);
        refused += !resumes(h, c, sealed(body, len, text));
        assert_true(c->n_positions <= 2);
        for (uint32_t p = 0; p < c->n_positions; p++)
            assert_true(c->positions[p].seen.index.v > 0);
    }
    assert_true(refused > 10000 && refused < 20000);
    half_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_brings_its_positions_and_no_others),
        cmocka_unit_test(a_token_holds_256_shards_and_no_more),
        cmocka_unit_test(a_body_that_lies_is_refused_or_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
