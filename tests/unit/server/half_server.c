/* SPDX-License-Identifier: Apache-2.0 */
#include "server/half_server.h"

#include <stdlib.h>

#include "mem_test_alloc.h"
#include "unit.h"

struct half *half;

struct half *half_new(void)
{
    struct half *h = calloc(1, sizeof *h);

    assert_non_null(h);
    h->mem = mem_for_test();
    h->s.mem = &h->mem;
    h->s.config.limits = (struct server_limits){
        .clients_max = 100,
        .client_output_bytes_max = 1 << 20,
        .client_output_pause_bytes = 1 << 14,
        .client_input_bytes_max = 1 << 20,
        .value_bytes_max = 1 << 20,
        .request_timeout_ns = 5 * SEC_NS,
    };
    h->s.now.ns = SEC_NS;
    h->s.clients = hmap_new(&h->mem);
    h->s.timers = heap_new(&h->mem);
    h->slot.gated_end = &h->slot.gated;
    h->slot.shard = (struct shard *)(void *)h; /* there is one; never looked into */
    h->s.all_slots = mem_alloc(&h->mem, sizeof *h->s.all_slots);
    h->s.all_slots[0] = &h->slot;
    h->s.n_slots = 1;
    h->term.v = 1;
    half = h;
    return h;
}

void half_free(struct half *h)
{
    clients_free(&h->s);
    hmap_free(&h->s.clients);
    heap_free(&h->s.timers);
    mem_free(&h->mem, h->s.all_slots, sizeof *h->s.all_slots);
    assert_int_equal(h->mem.used, 0);
    free(h);
    half = NULL;
}

struct client *half_client(struct half *h, uint64_t conn)
{
    server_client_open(&h->s, (struct conn_id){conn}, BYTES_OF("127.0.0.1:5"), false);
    return hmap_find(&h->s.clients, conn);
}

void half_data(struct half *h, uint64_t conn, struct bytes data)
{
    while (data.len > 0) {
        size_t room = 0;
        uint8_t *at = server_client_space(&h->s, (struct conn_id){conn}, &room);
        assert_true(room > 0);
        const size_t len = data.len < room ? data.len : room;
        memcpy(at, data.at, len);
        server_client_data(&h->s, (struct conn_id){conn}, len);
        data.at += len;
        data.len -= len;
    }
}

bool half_turn(struct half *h, struct buf *out, size_t most)
{
    h->n_actions = 0;
    const bool more = clients_turn_end(&h->s);
    for (uint32_t i = 0; i < h->n_actions; i++) {
        const struct server_action *a = &h->actions[i];
        if (a->kind != SERVER_SEND) continue;
        const size_t take = a->bytes.len < most ? a->bytes.len : most;
        buf_put(out, a->bytes.at, take);
        client_sent(&h->s, a->conn, take);
        if (take < a->bytes.len) client_writable(&h->s, a->conn);
    }
    return more;
}

uint32_t half_count(const struct half *h, enum server_action_kind kind)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_actions; i++)
        n += h->actions[i].kind == kind;
    return n;
}

/* ---- what the other files would do ---- */

struct server_action *server_act(struct server *s, enum server_action_kind kind)
{
    (void)s;
    assert_true(half->n_actions < HALF_ACTIONS_MAX);
    struct server_action *a = &half->actions[half->n_actions++];
    *a = (struct server_action){.kind = kind};
    return a;
}

struct instant server_deadline(const struct server *s, uint64_t bytes)
{
    return (struct instant){s->now.ns + s->config.limits.request_timeout_ns +
                            bytes * SERVER_NS_PER_BYTE};
}

void server_log(struct server *s, enum server_log_level level, const char *format, ...)
{
    (void)s;
    (void)level;
    (void)format;
}

void slot_watch(struct server *s, struct slot *slot)
{
    (void)s;
    (void)slot;
}

enum shard_gate_state shard_gate(const struct shard *s, const struct shard_gate *gate)
{
    (void)s;
    if (gate->term.v != half->term.v) return GATE_LOST;
    return gate->index.v <= half->applied.v ? GATE_OPEN : GATE_WAITS;
}

struct shard_position shard_position_at(const struct shard *s, struct log_index index)
{
    (void)s;
    return (struct shard_position){index, half->term, index.v <= half->applied.v};
}

void request_gate_result(struct server *s, struct request *r, struct answer *a,
                         enum outcome o)
{
    (void)s;
    (void)a;
    half->n_results++;
    half->result_of = r;
    half->result = o;
}

void request_client_gone(struct server *s, struct client *c)
{
    (void)s;
    (void)c;
}

bool session_waits_for_all(const struct client *c, const struct bytes *args,
                           uint32_t n_args)
{
    (void)c;
    return n_args > 0 && bytes_equal_nocase(args[0], "all");
}

/* Answers its first argument. */
void session_command(struct server *s, struct client *c, const struct bytes *args,
                     uint32_t n_args)
{
    (void)n_args;
    half->n_commands++;
    c->commands_total++;
    if (half->hold) {
        half->hold = false;
        half->held = answer_open(c);
        return;
    }
    struct reply r = answer_now(c);
    reply_bulk(&r, args[0]);
    answer_now_done(s, c);
}

void fanouts_turn(struct server *s)
{
    (void)s;
}

void fanouts_free(struct server *s)
{
    (void)s;
}

void keyspaces_turn(struct server *s)
{
    (void)s;
}

void keyspaces_free(struct server *s)
{
    (void)s;
}

/* Weak: a test of force.c has the real one. */
__attribute__((weak)) void force_free(struct server *s)
{
    (void)s;
}

void gathers_turn(struct server *s)
{
    (void)s;
}

void gathers_free(struct server *s)
{
    (void)s;
}

void backups_turn(struct server *s)
{
    (void)s;
}

void backups_free(struct server *s)
{
    (void)s;
}

void backup_end(struct server *s, struct client *c)
{
    (void)s;
    (void)c;
}
