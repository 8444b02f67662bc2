/* SPDX-License-Identifier: Apache-2.0 */
/* backup.c alone, over a real store: what it calls of the other files is played by the test. */
#include "server/server_state.h"

#include <stdio.h>
#include <stdlib.h>

#include "data/copy.h"
#include "mem_test_alloc.h"
#include "store/kv_memory.h"
#include "unit.h"

enum { CLIENTS = 10, TEXT_MAX = 200 };

struct rig {
    struct mem mem;
    struct kv_memory *engine;
    struct store *store;
    struct server s;
    struct slot slot;
    struct meta_keyspace keyspace;
    struct meta_shard shard;
    struct meta_server other;
    struct client clients[CLIENTS];
    struct answer answers[CLIENTS];
    uint32_t n_freed; /* orphans */
    bool leads;
    struct term term;
    struct log_index last, applied;
    uint32_t n_wanted; /* checkpoints */
    struct request *asked;
    char error[TEXT_MAX];
    struct server_id leader;
};

static struct rig *rig;

static struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);
    bool found;

    assert_non_null(r);
    r->mem = mem_for_test();
    r->engine = kv_memory_new(&r->mem);
    r->s.mem = &r->mem;
    r->s.config.kv = kv_memory_kv(r->engine);
    r->s.config.version = "1.2.3";
    r->s.identity.cluster.v = 0xabc;
    r->s.identity.server.v = 1;
    r->s.now.ns = 100 * SEC_NS;
    r->s.wall.ms = 77;
    r->shard = (struct meta_shard){.group = {5}, .keyspace = 2, .slot_last = 99};
    r->keyspace.id = 2;
    memcpy(r->keyspace.name.at, "bank", 5);
    r->other.id.v = 2;
    memcpy(r->other.client.at, "there:6379", 11);
    const struct store_config config = {{5}, r->s.config.kv, &r->mem};
    r->store = store_open(&config, &found);
    r->slot.shard = (struct shard *)(void *)r; /* there is one; never looked into */
    r->leads = true;
    r->term.v = 3;
    rig = r;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        r->clients[i].server = &r->s;
        r->clients[i].resp = 2;
        r->answers[i].bytes = buf_new(&r->mem);
    }
    return r;
}

static void rig_free(struct rig *r)
{
    backups_free(&r->s);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_null(r->clients[i].backup);
        buf_free(&r->answers[i].bytes);
    }
    store_free(r->store);
    kv_memory_free(r->engine);
    assert_int_equal(r->mem.used, 0);
    free(r);
    rig = NULL;
}

static void put(struct rig *r, const char *key, size_t len)
{
    uint8_t *value = calloc(1, len + 1);
    const struct effect e = {.kind = EFFECT_PUT,
                             .flags = EFFECT_CREATED,
                             .type = ITEM_STRING,
                             .key = bytes_of_str(key),
                             .value = {value, len}};

    r->last.v++;
    r->applied = r->last;
    store_apply(r->store, r->last, &e);
    free(value);
}

static void checkpoint(struct rig *r)
{
    const struct store_base base = {r->applied, r->term, BYTES_OF("")};
    struct kv_job *job = store_checkpoint(r->store, &base);

    assert_non_null(job);
    assert_int_equal(kv_memory_run(r->engine, job, 0), 0);
    store_job_done(r->store, job, 0);
}

static void pass(struct rig *r, uint64_t ms)
{
    r->s.now.ns += ms * MS_NS;
    backups_turn(&r->s);
}

static void command(struct rig *r, uint32_t i, enum command_id id, const char *arg)
{
    const struct command row = {.id = id};
    const struct bytes args[3] = {BYTES_OF("BACKUP"), BYTES_OF(""), bytes_of_str(arg)};

    r->error[0] = 0;
    backup_command(&r->s, &r->clients[i], &row, args);
}

static void begin(struct rig *r, uint32_t i)
{
    command(r, i, COMMAND_BACKUP_BEGIN, "5");
}

/* The majority answers, or somebody says why not. */
static void confirm(struct rig *r, enum outcome o)
{
    struct request *q = r->asked;

    r->asked = NULL;
    q->done(&r->s, q, NULL, o);
    buf_free(&q->body);
    mem_free(&r->mem, q, sizeof *q);
}

static bool is_answered(const struct rig *r, uint32_t i)
{
    return r->answers[i].state == ANSWER_READY;
}

static bool answer_begins(const struct rig *r, uint32_t i, const char *text)
{
    const struct bytes b = buf_bytes(&r->answers[i].bytes);
    const size_t len = strlen(text);

    return b.len >= len && memcmp(b.at, text, len) == 0;
}

static void open(struct rig *r, uint32_t i)
{
    begin(r, i);
    confirm(r, OUTCOME_NONE);
    pass(r, 0);
    assert_true(is_answered(r, i));
    assert_true(answer_begins(r, i, "*18\r\n"));
}

/* How many bytes the next piece has; 0: null. */
static size_t next(struct rig *r, uint32_t i)
{
    r->answers[i].bytes.len = 0;
    command(r, i, COMMAND_BACKUP_NEXT, "");
    if (r->error[0] != 0 || answer_begins(r, i, "$-1\r\n")) return 0;
    return r->answers[i].bytes.len;
}

/* ---- what the other files would do ---- */

struct slot *server_slot_find(const struct server *s, struct group_id group)
{
    (void)s;
    return group.v == 5 ? &rig->slot : NULL;
}

bool shard_leads(const struct shard *s)
{
    (void)s;
    return rig->leads;
}

struct term shard_term(const struct shard *s)
{
    (void)s;
    return rig->term;
}

const struct raft *shard_raft(const struct shard *s)
{
    (void)s;
    return NULL;
}

void raft_info(const struct raft *raft, struct raft_info *out)
{
    (void)raft;
    *out = (struct raft_info){.term = rig->term, .last = rig->last};
}

struct store *shard_store(struct shard *s)
{
    (void)s;
    return rig->store;
}

struct log_index shard_applied(const struct shard *s)
{
    (void)s;
    return rig->applied;
}

bool shard_busy(const struct shard *s)
{
    (void)s;
    return false;
}

void shard_want_checkpoint(struct shard *s)
{
    (void)s;
    rig->n_wanted++;
}

void slot_touch(struct server *s, struct slot *slot)
{
    (void)s;
    assert_ptr_equal(slot, &rig->slot);
}

const struct meta_shard *meta_shard(const struct meta *m, struct group_id group)
{
    (void)m;
    return group.v == 5 ? &rig->shard : NULL;
}

const struct meta_keyspace *meta_keyspace(const struct meta *m, uint32_t id)
{
    (void)m;
    return id == 2 ? &rig->keyspace : NULL;
}

const struct meta_server *meta_server(const struct meta *m, struct server_id id)
{
    (void)m;
    return id.v == 2 ? &rig->other : NULL;
}

struct server_id admin_leader(const struct server *s, struct group_id group)
{
    (void)s;
    (void)group;
    return rig->leader;
}

void session_error(struct server *s, struct client *c, const char *text)
{
    (void)s;
    (void)c;
    snprintf(rig->error, sizeof rig->error, "%s", text);
}

void session_outcome(struct server *s, struct client *c, enum outcome o)
{
    session_error(s, c, outcome_row(o)->text);
}

void session_simple(struct server *s, struct client *c, const char *text)
{
    (void)s;
    (void)c;
    assert_string_equal(text, "OK");
}

static uint32_t number_of(const struct client *c)
{
    return (uint32_t)(c - rig->clients);
}

struct answer *answer_open(struct client *c)
{
    struct answer *a = &rig->answers[number_of(c)];

    a->state = ANSWER_FILLING;
    a->client = c;
    a->bytes.len = 0;
    return a;
}

struct reply answer_now(struct client *c)
{
    return (struct reply){&rig->answers[number_of(c)].bytes, c->resp};
}

void answer_now_done(struct server *s, struct client *c)
{
    (void)s;
    (void)c;
}

void answer_ready(struct server *s, struct answer *a)
{
    (void)s;
    assert_int_equal(a->state, ANSWER_FILLING);
    a->state = ANSWER_READY;
}

void answer_error(struct server *s, struct answer *a, enum outcome o)
{
    (void)s;
    (void)o;
    assert_null(a->client);
    rig->n_freed++;
}

void answer_free(struct server *s, struct answer *a)
{
    (void)s;
    assert_null(a->client);
    rig->n_freed++;
}

struct request *request_new(struct server *s, enum forward_kind kind,
                            struct group_id group, uint8_t resp)
{
    struct request *q = mem_zero(s->mem, sizeof *q);

    q->kind = kind;
    q->group = group;
    q->resp = resp;
    q->body = buf_new(s->mem);
    return q;
}

void request_submit(struct server *s, struct request *q)
{
    (void)s;
    assert_null(rig->asked);
    assert_int_equal(q->read, READ_LINEARIZABLE);
    rig->asked = q;
}

void client_let_go(struct server *s, struct client *c)
{
    (void)s;
    c->held = false;
}

void server_log(struct server *s, enum server_log_level level, const char *format, ...)
{
    (void)s;
    (void)level;
    (void)format;
}

/* ---- claims ---- */

/* All that the log held at BEGIN, and by a leader that was one at BEGIN. */
static void a_copy_waits_for_the_majority_then_for_a_checkpoint_of_all(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    put(r, "a", 10);
    checkpoint(r);
    put(r, "b", 10);
    r->last.v++; /* in the log, not committed yet */
    begin(r, 0);
    assert_true(r->clients[0].held);
    pass(r, 1000);
    assert_false(is_answered(r, 0));
    confirm(r, OUTCOME_NONE);
    pass(r, 0);
    assert_int_equal(r->n_wanted, 0);
    checkpoint(r); /* of what is committed: too little */
    pass(r, 1000);
    assert_false(is_answered(r, 0));
    r->last.v--;
    put(r, "c", 10); /* what was in the log commits */
    pass(r, 1000);
    assert_int_equal(r->n_wanted, 1);
    assert_false(is_answered(r, 0));
    checkpoint(r);
    pass(r, 10);
    assert_true(is_answered(r, 0));
    assert_false(r->clients[0].held);
    assert_true(
        answer_begins(r, 0, "*18\r\n$7\r\ncluster\r\n$16\r\n0000000000000abc\r\n"));

    assert_true(next(r, 0) > 0);
    const struct bytes reply = buf_bytes(&r->answers[0].bytes);
    const uint8_t *start = (const uint8_t *)memchr(reply.at, '\n', reply.len) + 1;
    struct copy_reader reader = {0};
    struct copy_record record;
    size_t used = 0;
    struct bytes in = {start, reply.len - (size_t)(start - reply.at) - 2};
    while (in.len > 0) {
        assert_int_equal(copy_read(&reader, in, &record, &used), COPY_READ);
        in = (struct bytes){in.at + used, in.len - used};
    }
    assert_true(reader.ended);
    assert_int_equal(reader.keys, 3);
    assert_int_equal(next(r, 0), 0);
    assert_string_equal(r->error, "");
    assert_int_equal(next(r, 0), 0);
    assert_true(strstr(r->error, "no copy has been begun") != NULL);
    rig_free(r);
}

static void who_does_not_lead_says_where_to_ask(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    r->leads = false;
    begin(r, 0);
    assert_true(memcmp(r->error, "NOLEADER", 8) == 0);
    r->leader.v = 2;
    begin(r, 0);
    assert_string_equal(r->error, "MOVED 0 there:6379");
    command(r, 0, COMMAND_BACKUP_BEGIN, "6");
    assert_true(strstr(r->error, "no such shard") != NULL);
    command(r, 0, COMMAND_BACKUP_BEGIN, "0");
    assert_true(strstr(r->error, "no such shard") != NULL);
    assert_int_equal(r->s.n_backups, 0);
    rig_free(r);
}

static void a_lead_that_is_lost_meanwhile_gives_no_copy(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    put(r, "a", 10);
    begin(r, 0); /* nobody confirms it */
    confirm(r, OUTCOME_NOQUORUM);
    assert_true(answer_begins(r, 0, "-NOQUORUM"));
    begin(r, 0); /* led again, by election, and perhaps by another in between */
    r->term.v++;
    confirm(r, OUTCOME_NONE);
    assert_true(answer_begins(r, 0, "-NOLEADER"));
    begin(r, 0);
    confirm(r, OUTCOME_NONE);
    r->slot.retiring = RETIRE_WAIT;
    pass(r, 0);
    assert_true(answer_begins(r, 0, "-NOLEADER"));
    r->slot.retiring = RETIRE_NOT;
    begin(r, 0); /* no checkpoint is made */
    confirm(r, OUTCOME_NONE);
    for (int i = 0; i < 59; i++)
        pass(r, 1000);
    assert_false(is_answered(r, 0));
    pass(r, 1000);
    assert_true(answer_begins(r, 0, "-NOQUORUM"));
    assert_false(r->clients[0].held);
    rig_free(r);
}

/* Its reader keeps the engine from using old pages again. */
static void a_copy_that_stands_still_or_is_slow_is_ended(void **state)
{
    (void)state;
    struct rig *r = rig_new();
    const uint32_t pieces = 100;

    for (uint32_t i = 0; i < pieces; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        put(r, key, 1 << 20);
    }
    checkpoint(r);
    open(r, 0);
    open(r, 1);
    open(r, 2);
    for (uint32_t i = 0; i < 59; i++) {
        pass(r, 1000);
        assert_true(next(r, 0) > 0);                  /* about 1 MB a second */
        if (i % 20 == 0) assert_true(next(r, 1) > 0); /* a little now and then */
    }
    pass(r, 2000); /* a minute since 2 was opened */
    assert_true(next(r, 0) > 0);
    assert_true(next(r, 1) > 0);
    assert_int_equal(next(r, 2), 0);
    assert_true(strstr(r->error, "the copy was ended") != NULL);
    for (uint32_t i = 0; i < 10; i++) {
        pass(r, 1000);
        assert_true(next(r, 0) > 0);
    }
    assert_int_equal(next(r, 1), 0);
    assert_true(strstr(r->error, "the copy was ended") != NULL);
    open(r, 1); /* and may begin anew */
    assert_true(next(r, 1) > 0);
    rig_free(r);
}

static void copies_at_a_time_are_bounded(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    put(r, "a", 10);
    checkpoint(r);
    for (uint32_t i = 0; i < 8; i++)
        open(r, i);
    begin(r, 8);
    assert_true(memcmp(r->error, "FULL", 4) == 0);
    command(r, 3, COMMAND_BACKUP_END, "");
    open(r, 8);
    begin(r, 8); /* the old one of the same connection makes room */
    assert_string_equal(r->error, "");
    confirm(r, OUTCOME_NONE);
    rig_free(r);
}

/* In each state; the answer is an orphan then. */
static void a_client_that_leaves_takes_its_copy_with_it(void **state)
{
    (void)state;
    struct rig *r = rig_new();

    put(r, "a", 10);
    begin(r, 0);
    r->answers[0].client = NULL;
    backup_end(&r->s, &r->clients[0]);
    assert_int_equal(r->n_freed, 0); /* the request has it */
    confirm(r, OUTCOME_NONE);
    assert_int_equal(r->n_freed, 1);

    begin(r, 1);
    confirm(r, OUTCOME_NONE);
    r->answers[1].client = NULL;
    backup_end(&r->s, &r->clients[1]);
    assert_int_equal(r->n_freed, 2);

    checkpoint(r);
    open(r, 2);
    backup_end(&r->s, &r->clients[2]);
    backup_end(&r->s, &r->clients[2]);
    assert_int_equal(r->n_freed, 2);
    assert_int_equal(r->s.n_backups, 0);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_waits_for_the_majority_then_for_a_checkpoint_of_all),
        cmocka_unit_test(who_does_not_lead_says_where_to_ask),
        cmocka_unit_test(a_lead_that_is_lost_meanwhile_gives_no_copy),
        cmocka_unit_test(a_copy_that_stands_still_or_is_slow_is_ended),
        cmocka_unit_test(copies_at_a_time_are_bounded),
        cmocka_unit_test(a_client_that_leaves_takes_its_copy_with_it),
    };
    return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
