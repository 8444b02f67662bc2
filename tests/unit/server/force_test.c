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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_a_server_frees_an_answer_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
