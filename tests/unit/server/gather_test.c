/* SPDX-License-Identifier: Apache-2.0 */
/* gather.c alone: what it calls of the other files is played by the test. */
#include "server/report.h"

#include <stdlib.h>

#include "mem_test_alloc.h"
#include "unit.h"

enum { OTHERS = 2, ANSWERS_MAX = 8 };

struct rig {
    struct mem mem;
    struct server s;
    struct client client;
    struct meta_server servers[1 + OTHERS];
    struct meta_server *places[1 + OTHERS];
    struct peer peers[1 + OTHERS]; /* by id - 1 */
    struct peer_conn way;
    struct buf batch;
    uint32_t n_asked;
    struct report asked; /* the last question */
    bool own_ready;
    uint32_t n_own; /* digests of ours that are there */
    struct answer answers[ANSWERS_MAX];
    uint32_t n_answers, n_ready;
    enum part_state ended[1 + OTHERS]; /* of the last one that ended */
    uint64_t term_of_3;                /* what server 3 said of group 4 */
};

static struct rig *rig;

static struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->mem = mem_for_test();
    r->s.mem = &r->mem;
    r->s.config.limits.request_timeout_ns = 5 * SEC_NS;
    r->s.now.ns = 100 * SEC_NS;
    r->s.identity.server.v = 1;
    r->s.prng = prng_seed(7);
    r->s.meta.servers = r->places;
    r->s.meta.n_servers = 1 + OTHERS;
    r->batch = buf_new(&r->mem);
    r->own_ready = true;
    for (uint32_t i = 0; i <= OTHERS; i++) {
        r->servers[i].id.v = i + 1;
        r->places[i] = &r->servers[i];
        r->peers[i] = (struct peer){.id = {i + 1}, .way = &r->way, .incarnation = {9}};
        r->peers[i].heard = r->s.now;
    }
    rig = r;
    return r;
}

static void rig_free(struct rig *r)
{
    gathers_free(&r->s);
    buf_free(&r->batch);
    assert_int_equal(r->n_own, 0);
    assert_int_equal(r->mem.used, 0);
    free(r);
    rig = NULL;
}

static void pass(struct rig *r, uint64_t ms)
{
    r->s.now.ns += ms * MS_NS;
    gathers_turn(&r->s);
}

static void ask(struct rig *r, enum report_kind kind)
{
    gather_ask(&r->s, &r->client, kind, 1);
}

static void answer(struct rig *r, uint32_t from, enum report_kind kind, uint64_t id)
{
    struct buf b = buf_new(&r->mem);
    const bool rows = kind != REPORT_TAKEN;
    const struct report head = {.kind = kind, .id = id, .n_rows = rows};
    const struct report_row row = {.group = {4},
                                   .role = REPORT_FOLLOWER,
                                   .term = {from * 10},
                                   .trouble = BYTES_OF("none")};
    struct report got;

    report_encode(&b, &head);
    if (rows) report_put_row(&b, kind, &row);
    assert_true(report_decode(buf_bytes(&b), &got));
    gather_answer(&r->s, (struct server_id){from}, &got);
    buf_free(&b); /* what is kept must be a copy */
    gathers_turn(&r->s);
}

/* ---- what the other files would do ---- */

struct digests {
    int unused;
};

struct digests *digests_begin(struct server *s, uint32_t keyspace)
{
    assert_int_equal(keyspace, 1);
    rig->n_own++;
    return mem_zero(s->mem, sizeof(struct digests));
}

bool digests_ready(struct server *s, struct digests *d)
{
    (void)s;
    (void)d;
    return rig->own_ready;
}

uint32_t digests_rows(struct server *s, const struct digests *d, struct report_row **rows)
{
    (void)s;
    (void)d;
    *rows = NULL;
    return 0;
}

void digests_free(struct server *s, struct digests *d)
{
    rig->n_own--;
    mem_free(s->mem, d, sizeof *d);
}

uint32_t report_replicas(struct server *s, uint32_t keyspace, struct report_row **rows)
{
    return digests_rows(s, NULL, rows) + (keyspace - 1);
}

void report_rows_free(struct server *s, struct report_row *rows, uint32_t n)
{
    mem_free(s->mem, rows, n * sizeof *rows);
}

void reports_turn(struct server *s)
{
    (void)s;
}

void reports_free(struct server *s)
{
    (void)s;
}

struct peer *peer_find(const struct server *s, struct server_id id)
{
    (void)s;
    return &rig->peers[id.v - 1];
}

struct buf *peer_say(struct server *s, struct server_id to, struct group_id group,
                     enum message_kind kind, size_t *start)
{
    (void)s;
    assert_int_equal(group.v, META_GROUP);
    assert_int_equal(kind, MESSAGE_REPORT);
    *start = rig->batch.len = 0;
    return rig->peers[to.v - 1].way == NULL ? NULL : &rig->batch;
}

void peer_said(struct server *s, struct server_id to, size_t start)
{
    (void)s;
    (void)to;
    assert_int_equal(start, 0);
    assert_true(report_decode(buf_bytes(&rig->batch), &rig->asked));
    rig->n_asked++;
}

struct answer *answer_open(struct client *c)
{
    assert_true(rig->n_answers < ANSWERS_MAX);
    struct answer *a = &rig->answers[rig->n_answers++];
    a->client = c;
    return a;
}

void answer_ready(struct server *s, struct answer *a)
{
    (void)s;
    assert_int_equal(a->state, ANSWER_FILLING);
    a->state = ANSWER_READY;
    rig->n_ready++;
}

void answer_free(struct server *s, struct answer *a)
{
    (void)s;
    assert_null(a->client);
}

static void note_end(const struct gather *g)
{
    const struct report_row *row = gather_row(&g->parts[2], (struct group_id){4});

    assert_int_equal(g->n_parts, 1 + OTHERS);
    for (uint32_t i = 0; i < g->n_parts; i++)
        rig->ended[i] = g->parts[i].state;
    rig->term_of_3 = row == NULL ? 0 : row->term.v;
    assert_true(row == NULL || row->digest != 0 || row->trouble.len == 0 ||
                bytes_equal(row->trouble, BYTES_OF("none")));
    assert_null(gather_row(&g->parts[2], (struct group_id){3}));
    assert_null(gather_part(g, (struct server_id){9}));
}

void gather_digest_reply(struct server *s, const struct gather *g, struct reply *r)
{
    (void)s;
    (void)r;
    note_end(g);
}

void gather_shards_reply(struct server *s, const struct gather *g, struct reply *r)
{
    (void)s;
    (void)r;
    note_end(g);
}

/* ---- claims ---- */

static void every_other_server_is_asked_once_and_heard(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    ask(r, REPORT_ASK_REPLICAS);
    assert_int_equal(r->n_asked, 0); /* not before the turn's end */
    pass(r, 0);
    assert_int_equal(r->n_asked, OTHERS);
    answer(r, 2, REPORT_REPLICAS, r->asked.id);
    assert_int_equal(r->n_ready, 0);
    answer(r, 3, REPORT_REPLICAS, r->asked.id);
    assert_int_equal(r->n_ready, 1);
    assert_int_equal(r->ended[2], PART_ANSWERED);
    assert_int_equal(r->term_of_3, 30);
    pass(r, 5000);
    assert_int_equal(r->n_asked, OTHERS);
    rig_free(r);
}

static void answers_to_other_questions_are_dropped(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    ask(r, REPORT_ASK_REPLICAS);
    pass(r, 0);
    const uint64_t id = r->asked.id;
    answer(r, 2, REPORT_REPLICAS, id + 1);
    answer(r, 2, REPORT_DIGESTS, id);
    answer(r, 2, REPORT_TAKEN, id);
    answer(r, 9, REPORT_REPLICAS, id);
    answer(r, 3, REPORT_REPLICAS, id);
    answer(r, 3, REPORT_REPLICAS, id); /* twice */
    assert_int_equal(r->n_ready, 0);
    pass(r, 1000);
    assert_int_equal(r->n_ready, 1);
    assert_int_equal(r->ended[1], PART_SILENT);
    answer(r, 2, REPORT_REPLICAS, id); /* too late */
    ask(r, REPORT_ASK_REPLICAS);
    pass(r, 0);
    assert_true(r->asked.id != id);
    answer(r, 2, REPORT_REPLICAS, id);
    answer(r, 3, REPORT_REPLICAS, id);
    assert_int_equal(r->n_ready, 1);
    rig_free(r);
}

static void who_was_silent_is_hardly_waited_for_until_it_is_heard(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    for (uint32_t i = 0; i < 3; i++) {
        if (i == 2) r->peers[1].heard = r->s.now;
        ask(r, REPORT_ASK_REPLICAS);
        pass(r, 0);
        answer(r, 3, REPORT_REPLICAS, r->asked.id);
        pass(r, 99);
        assert_int_equal(r->n_ready, i);
        pass(r, 1);
        assert_int_equal(r->n_ready, i == 1 ? 2 : i);
        pass(r, 900);
        assert_int_equal(r->n_ready, i + 1);
    }
    rig_free(r);
}

static void digests_that_are_taken_are_waited_for(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    answer(r, 2, REPORT_DIGESTS, r->asked.id);
    answer(r, 3, REPORT_TAKEN, r->asked.id);
    pass(r, 30000);
    answer(r, 3, REPORT_TAKEN, r->asked.id); /* gives no more time */
    pass(r, 29000);
    assert_int_equal(r->n_ready, 0);
    pass(r, 1000);
    assert_int_equal(r->n_ready, 1);
    assert_int_equal(r->ended[1], PART_ANSWERED);
    assert_int_equal(r->ended[2], PART_SILENT);

    ask(r, REPORT_ASK_DIGESTS); /* nobody takes them, and our own take long */
    r->own_ready = false;
    r->peers[1].heard = r->peers[2].heard = r->s.now;
    pass(r, 0);
    pass(r, 5000);
    assert_int_equal(r->n_ready, 1);
    r->own_ready = true;
    pass(r, 0);
    assert_int_equal(r->n_ready, 2);
    assert_int_equal(r->ended[0], PART_ANSWERED);
    assert_int_equal(r->ended[1], PART_SILENT);
    rig_free(r);
}

static void a_lost_or_restarted_server_is_not_waited_for(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    r->peers[1].way = NULL;
    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    assert_int_equal(r->n_asked, 1);
    answer(r, 3, REPORT_TAKEN, r->asked.id);
    assert_int_equal(r->n_ready, 0);
    r->peers[2].incarnation.v++;
    pass(r, 0);
    assert_int_equal(r->n_ready, 1);
    assert_int_equal(r->ended[1], PART_LOST);
    assert_int_equal(r->ended[2], PART_LOST);
    rig_free(r);
}

static void who_asks_meanwhile_shares_the_next_one(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    ask(r, REPORT_ASK_DIGESTS);
    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    assert_int_equal(r->n_asked, OTHERS);
    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    assert_int_equal(r->n_asked, OTHERS); /* the next one waits */
    assert_int_equal(r->n_own, 1);
    const uint64_t id = r->asked.id;
    answer(r, 2, REPORT_DIGESTS, id);
    answer(r, 3, REPORT_DIGESTS, id);
    assert_int_equal(r->n_ready, 2);
    assert_int_equal(r->n_asked, 2 * OTHERS);
    ask(r, REPORT_ASK_REPLICAS); /* of another kind: at once */
    pass(r, 0);
    assert_int_equal(r->n_asked, 3 * OTHERS);
    rig_free(r);
}

static void nothing_is_gathered_for_clients_that_have_gone(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    ask(r, REPORT_ASK_DIGESTS);
    pass(r, 0);
    ask(r, REPORT_ASK_DIGESTS);
    r->answers[0].client = NULL;
    r->answers[1].client = NULL;
    pass(r, 0);
    assert_null(r->s.gathers);
    assert_int_equal(r->n_ready, 2); /* that frees an orphan */
    assert_int_equal(r->n_asked, OTHERS);
    answer(r, 2, REPORT_DIGESTS, r->asked.id);

    ask(r, REPORT_ASK_DIGESTS); /* one of two goes */
    ask(r, REPORT_ASK_DIGESTS);
    r->answers[2].client = NULL;
    pass(r, 0);
    assert_non_null(r->s.gathers);
    rig_free(r);
}

static void a_server_alone_answers_in_the_same_turn(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    r->peers[1].way = r->peers[2].way = NULL;
    ask(r, REPORT_ASK_REPLICAS);
    pass(r, 0);
    assert_int_equal(r->n_ready, 1);
    assert_int_equal(r->n_asked, 0);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_other_server_is_asked_once_and_heard),
        cmocka_unit_test(answers_to_other_questions_are_dropped),
        cmocka_unit_test(who_was_silent_is_hardly_waited_for_until_it_is_heard),
        cmocka_unit_test(digests_that_are_taken_are_waited_for),
        cmocka_unit_test(a_lost_or_restarted_server_is_not_waited_for),
        cmocka_unit_test(who_asks_meanwhile_shares_the_next_one),
        cmocka_unit_test(nothing_is_gathered_for_clients_that_have_gone),
        cmocka_unit_test(a_server_alone_answers_in_the_same_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
