/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the meta leader, and those who wait for it. */
#include "server/half_server.h"
#include "unit.h"

/* ---- what the other files would do ---- */

static struct request *submitted;

struct request *request_to_meta(struct server *s, uint8_t resp, const struct bytes *args,
                                uint32_t n_args)
{
    (void)args;
    (void)n_args;
    submitted = mem_zero(s->mem, sizeof *submitted);
    submitted->resp = resp;
    return submitted;
}

void request_submit(struct server *s, struct request *r)
{
    (void)s;
    assert_ptr_equal(r, submitted);
}

void session_error(struct server *s, struct client *c, const char *text)
{
    (void)s;
    (void)c;
    (void)text;
}

bool reconcile_tell(struct server *s, const struct bytes *args, uint32_t n_args)
{
    (void)s;
    (void)args;
    (void)n_args;
    return false;
}

const struct policy *reconcile_policy(const struct server *s,
                                      const struct meta_shard *shard)
{
    (void)s;
    (void)shard;
    return NULL;
}

struct slot *server_slot(struct server *s, struct group_id group)
{
    (void)s;
    (void)group;
    return NULL;
}

struct slot *server_slot_find(const struct server *s, struct group_id group)
{
    (void)s;
    (void)group;
    return NULL;
}

void slot_touch(struct server *s, struct slot *slot)
{
    (void)s;
    (void)slot;
}

bool peer_reachable(const struct server *s, struct server_id id)
{
    (void)s;
    (void)id;
    return false;
}

const struct raft *shard_raft(const struct shard *s)
{
    (void)s;
    return NULL;
}

void shard_fence(struct shard *s, uint32_t epoch, struct instant now)
{
    (void)s;
    (void)epoch;
    (void)now;
}

void shard_decree(struct shard *s, uint32_t epoch, const struct raft_config *config,
                  struct instant now)
{
    (void)s;
    (void)epoch;
    (void)config;
    (void)now;
}

/* ---- the tests ---- */

static void tell(struct half *h, struct bytes text)
{
    const struct forward_reply reply = {.bytes = text};

    submitted->done(&h->s, submitted, &reply, OUTCOME_NONE);
    mem_free(&h->mem, submitted, sizeof *submitted);
}

/* A server that is stopped while someone waits: the answer is its client's to free, unless the
 * client has gone. */
static void the_end_of_a_server_frees_an_answer_once(void **state)
{
    const struct meta_keyspace keyspace = {.id = 7};
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct half *h = half_new();
        struct client *c = half_client(h, 1);
        force_begin(&h->s, c, &keyspace, (struct server_id){0});
        tell(h, BYTES_OF("+OK\r\n"));
        assert_non_null(h->s.force_waits);
        if (gone) {
            struct buf out = buf_new(&h->mem);
            server_client_closed(&h->s, c->conn);
            half_turn(h, &out, SIZE_MAX);
            buf_free(&out);
        }
        half_free(h); /* which sees to it that nothing is left, and nothing freed twice */
    }
}

/* The meta leader's view is what counts, and what it can't do is not waited for. */
static void what_the_meta_leader_refuses_is_told(void **state)
{
    const struct meta_keyspace keyspace = {.id = 7};
    const struct bytes order[] = {BYTES_OF("MOVE"), BYTES_OF("\7\0\0\0\2\0\0\0")};
    (void)state;
    struct half *h = half_new();
    struct client *c = half_client(h, 1);
    struct buf effects = buf_new(&h->mem), text = buf_new(&h->mem),
               out = buf_new(&h->mem);
    struct meta_change change = {&effects};
    struct reply reply = {&text, 2};

    assert_true(force_evaluate(&h->s, order, 2, &change, &reply)); /* it knows no 7 */
    assert_int_equal(effects.len, 0);
    force_move(&h->s, c, &keyspace, (struct server_id){2});
    tell(h, buf_bytes(&text));
    assert_null(h->s.force_waits);
    half_turn(h, &out, SIZE_MAX);
    assert_true(out.len > 4 && out.len == text.len);
    assert_memory_equal(out.at, "-ERR", 4);
    buf_free(&effects);
    buf_free(&text);
    buf_free(&out);
    half_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_a_server_frees_an_answer_once),
        cmocka_unit_test(what_the_meta_leader_refuses_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
