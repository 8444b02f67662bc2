/* SPDX-License-Identifier: Apache-2.0 */
/* One whole server over a disk and an engine in memory; the test plays the other servers, and
 * lies.  R numbers are those of the scenarios for ordered shards. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "mem_test_alloc.h"
#include "meta/meta.h"
#include "server/server.h"
#include "shard/shard.h"
#include "store/kv_memory.h"
#include "wire/frame.h"

enum { FILES_MAX = 16, CONNS_MAX = 256 };

struct lone {
    struct mem mem, outside; /* of the server; of its engine, which outlives it */
    struct kv_memory *kv;
    struct server *server;
    struct instant now;
    struct {
        uint8_t *at;
        uint64_t length;
    } files[FILES_MAX];
    bool ready;
    bool may_end;               /* an EXIT is what the test waits for ... */
    char end[300];              /* ... and what it said */
    struct buf sent[CONNS_MAX]; /* by connection */
    bool closed[CONNS_MAX];
    struct conn_id dialed; /* the last one */
    char log[400];         /* the last warning */
};

static void mac_for_test(struct bytes secret, struct bytes message, uint8_t out[32])
{
    for (uint64_t i = 0; i < 4; i++)
        store_u64le(out + 8 * i, hash64_seed(message, hash64_seed(secret, i)));
}

static uint64_t perform(struct lone *l, const struct wal_op *op)
{
    assert_true(op->file < FILES_MAX);
    uint8_t **file = &l->files[op->file].at;
    uint64_t left;

    switch (op->kind) {
    case WAL_OP_CREATE:
        *file = calloc(1, op->length);
        l->files[op->file].length = op->length;
        return 0;
    case WAL_OP_READ:
        left = l->files[op->file].length - op->offset;
        if (left > op->length) left = op->length;
        memcpy(op->into, *file + op->offset, left);
        return left;
    case WAL_OP_WRITE: memcpy(*file + op->offset, op->data.at, op->data.len); return 0;
    case WAL_OP_SYNC: return 0;
    case WAL_OP_REMOVE:
        free(*file);
        *file = NULL;
        return 0;
    }
    return 0;
}

static void obey(struct lone *l, const struct server_action *a)
{
    switch (a->kind) {
    case SERVER_SEND:
        assert_true(a->conn.v < CONNS_MAX);
        buf_put(&l->sent[a->conn.v], a->bytes.at, a->bytes.len);
        server_sent(l->server, a->conn, a->bytes.len);
        break;
    case SERVER_CLOSE:
        assert_true(a->conn.v < CONNS_MAX);
        l->closed[a->conn.v] = true;
        break;
    case SERVER_WAL: {
        const uint64_t got = perform(l, &a->wal_op);
        server_wal_done(l->server, a->wal_op.id, 0, got);
        break;
    }
    case SERVER_JOB:
        server_job_done(l->server, a->job, kv_memory_run(l->kv, a->job, 0));
        break;
    case SERVER_LOG:
        if (a->level >= LOG_WARNING) snprintf(l->log, sizeof l->log, "%s", a->text);
        break;
    case SERVER_EXIT:
        if (!l->may_end) fail_msg("the server ends: %s", a->text);
        snprintf(l->end, sizeof l->end, "%s", a->text);
        break;
    case SERVER_READY: l->ready = true; break;
    case SERVER_ROLLBACK:
    case SERVER_DIAL: l->dialed = a->conn; break;
    case SERVER_PAUSE:
    case SERVER_RESUME: break;
    }
}

/* One turn.  What is done asks for another one, which the test takes when it likes. */
static void turn(struct lone *l)
{
    struct server_actions actions;
    struct server_action copies[256];

    server_turn_end(l->server, &actions);
    assert_in_range(actions.n, 0, 256);
    const uint32_t n = actions.n;
    if (n > 0) memcpy(copies, actions.at, n * sizeof copies[0]);
    for (uint32_t i = 0; i < n; i++)
        obey(l, &copies[i]);
}

static void run(struct lone *l, uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        l->now.ns += MS_NS;
        server_time(l->server, l->now, (struct wall){1000000 + i});
        for (uint32_t turns = 0; turns < 4; turns++)
            turn(l);
    }
}

/* A life over what there is on disk, of a version that speaks this level; 0: of ours. */
static void lone_start(struct lone *l, const char *secret, uint32_t feature)
{
    struct wal_file files[FILES_MAX];
    uint32_t n_files = 0;

    for (uint32_t i = 0; i < FILES_MAX; i++)
        if (l->files[i].at != NULL)
            files[n_files++] = (struct wal_file){i, l->files[i].length};
    struct server_config config = {
        .name = BYTES_OF("s1"),
        .advertise_client = BYTES_OF("127.0.0.1:7001"),
        .advertise_peer = BYTES_OF("127.0.0.1:8001"),
        .secret = bytes_of_str(secret),
        .version = "test",
        .feature = feature,
        .wal_files = files,
        .n_wal_files = n_files,
        .client_port = 7001,
        .seed = 7,
        .limits = server_limits_default(),
        .kv = kv_memory_kv(l->kv),
        .mem = &l->mem,
        .mac = mac_for_test,
    };
    config.limits.wal_segment_bytes = 1 << 20;
    l->server = server_new(&config, l->now, (struct wall){1000000});
}

static void lone_stop(struct lone *l)
{
    server_free(l->server);
    assert_int_equal(l->mem.used, 0);
    l->ready = false;
}

static struct lone *lone_of(const char *secret, uint32_t feature)
{
    struct lone *l = calloc(1, sizeof *l);

    assert_non_null(l);
    l->mem = l->outside = mem_for_test();
    l->now.ns = SEC_NS;
    l->kv = kv_memory_new(&l->outside);
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        l->sent[i] = buf_new(&l->outside);
    lone_start(l, secret, feature);
    run(l, 300);
    assert_true(l->ready);
    return l;
}

static struct lone *lone_new(const char *secret)
{
    return lone_of(secret, 0);
}

static void lone_free(struct lone *l)
{
    lone_stop(l);
    kv_memory_free(l->kv);
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        buf_free(&l->sent[i]);
    assert_int_equal(l->outside.used, 0);
    for (uint32_t i = 0; i < FILES_MAX; i++)
        free(l->files[i].at);
    free(l);
}

/* ---- another server, played ---- */

static void give(struct lone *l, uint64_t conn, struct bytes bytes)
{
    size_t room = 0;
    uint8_t *at = server_peer_space(l->server, (struct conn_id){conn}, &room);

    assert_true(room >= bytes.len);
    memcpy(at, bytes.at, bytes.len);
    server_peer_data(l->server, (struct conn_id){conn}, bytes.len);
}

static struct frame head_of(const struct lone *l, enum frame_kind kind)
{
    return (struct frame){
        .kind = kind,
        .cluster = server_cluster(l->server),
        .from = {2},
        .to = server_self(l->server),
        .incarnation = {99},
    };
}

static void give_frame(struct lone *l, uint64_t conn, const struct frame *head,
                       struct bytes body)
{
    struct buf out = buf_new(&l->outside);
    const size_t at = frame_begin(&out, head);

    buf_put(&out, body.at, body.len);
    frame_end(&out, at);
    give(l, conn, buf_bytes(&out));
    buf_free(&out);
}

static void answer_hello(struct lone *l, uint64_t conn, const struct frame *head,
                         bool secret, uint32_t feature)
{
    struct buf body = buf_new(&l->outside);
    const struct hello h = {
        .name = BYTES_OF("s2"), .nonce = {1, 2, 3}, .secret = secret, .feature = feature};

    hello_encode(&body, &h);
    give_frame(l, conn, head, buf_bytes(&body));
    buf_free(&body);
}

static void give_hello_of(struct lone *l, uint64_t conn, const struct frame *head,
                          bool secret, uint32_t feature)
{
    server_peer_open(l->server, (struct conn_id){conn}, BYTES_OF("127.0.0.1:9"), false);
    answer_hello(l, conn, head, secret, feature);
}

static void give_hello(struct lone *l, uint64_t conn, const struct frame *head,
                       bool secret)
{
    give_hello_of(l, conn, head, secret, META_FEATURE);
}

/* The n-th frame of this kind that we were sent; bytes stay where they are. */
static bool got_frame(const struct lone *l, uint64_t conn, enum frame_kind kind,
                      uint32_t nth, struct frame *out)
{
    struct bytes left = buf_bytes(&l->sent[conn]);
    size_t used, want;

    while (left.len > 0 && frame_decode(left, &used, &want, out) == FRAME_OK) {
        if (out->kind == kind && nth-- == 0) return true;
        left = (struct bytes){left.at + used, left.len - used};
    }
    return false;
}

static void expect_refused(struct lone *l, uint64_t conn, const char *why)
{
    struct frame f;

    for (uint32_t i = 0; i < 4; i++)
        turn(l);
    assert_true(got_frame(l, conn, FRAME_REFUSED, 0, &f));
    char text[300] = "";
    assert_true(f.body.len < sizeof text);
    memcpy(text, f.body.at + 1, f.body.len - 1);
    assert_non_null(strstr(text, why));
    assert_true(l->closed[conn]);
    assert_non_null(strstr(l->log, why)); /* and the operator can see it */
}

static void connect_as_peer(struct lone *l, uint64_t conn)
{
    const struct frame head = head_of(l, FRAME_HELLO);
    struct frame f;

    give_hello(l, conn, &head, false);
    turn(l);
    turn(l);
    assert_true(got_frame(l, conn, FRAME_HELLO, 0, &f));
    assert_int_equal(f.incarnation.v != 0, 1);
    assert_false(l->closed[conn]);
}

static struct group_id data_group(const struct lone *l)
{
    for (uint32_t i = 0;; i++) {
        const struct shard *s = server_shard(l->server, i);
        if (s == NULL) break;
        if (shard_group(s).v != 0) return shard_group(s);
    }
    fail_msg("no shard");
    return (struct group_id){0};
}

static struct shard *data_shard(const struct lone *l)
{
    const struct group_id group = data_group(l);
    for (uint32_t i = 0;; i++)
        if (shard_group(server_shard(l->server, i)).v == group.v)
            return server_shard(l->server, i);
}

/* ---- R44 ---- */

static void R44_a_server_of_another_cluster_is_refused(void **state)
{
    struct lone *l = lone_new("");
    struct frame head = head_of(l, FRAME_HELLO);
    (void)state;

    head.cluster.v ^= 4;
    give_hello(l, 1, &head, false);
    expect_refused(l, 1, "another cluster");
    lone_free(l);
}

static void R44_who_looks_for_another_server_is_told_so(void **state)
{
    struct lone *l = lone_new("");
    struct frame head = head_of(l, FRAME_HELLO);
    (void)state;

    head.to.v = 5;
    give_hello(l, 1, &head, false);
    expect_refused(l, 1, "another server at this address");
    head = head_of(l, FRAME_HELLO);
    head.from = server_self(l->server); /* a copy of our own directory, started twice */
    give_hello(l, 3, &head, false);
    expect_refused(l, 3, "own id");
    lone_free(l);
}

static void give_append(struct lone *l, uint64_t conn, const struct frame *head,
                        uint64_t incarnation, struct term term)
{
    struct buf batch = buf_new(&l->outside);
    struct frame with = *head;
    const struct raft_msg m = {
        .kind = RAFT_APPEND, .from = {2}, .to = server_self(l->server), .term = term};

    with.kind = FRAME_BATCH;
    with.incarnation.v = incarnation;
    const size_t at = message_begin(&batch, data_group(l), MESSAGE_RAFT);
    raft_msg_encode(&batch, &m);
    message_end(&batch, at);
    give_frame(l, conn, &with, buf_bytes(&batch));
    buf_free(&batch);
}

static void R44_a_frame_of_another_life_cluster_or_sender_is_refused(void **state)
{
    struct lone *l = lone_new("");
    const struct frame head = head_of(l, FRAME_HELLO);
    struct frame other;
    (void)state;

    const struct term term = shard_term(data_shard(l)), high = {term.v + 100};
    connect_as_peer(l, 1);
    give_append(l, 1, &head, 98, high); /* an earlier life at the same address */
    expect_refused(l, 1, "another sender, cluster or life");
    connect_as_peer(l, 3);
    other = head;
    other.cluster.v++;
    give_append(l, 3, &other, 99, high);
    expect_refused(l, 3, "another sender, cluster or life");
    connect_as_peer(l, 5);
    other = head;
    other.from.v = 3;
    give_append(l, 5, &other, 99, high);
    expect_refused(l, 5, "another sender, cluster or life");
    run(l, 20);
    assert_int_equal(shard_term(data_shard(l)).v, term.v); /* nothing of it was heard */

    connect_as_peer(l, 7);
    give_append(l, 7, &head, 99, high); /* as it should be: it is */
    turn(l);
    assert_true(shard_term(data_shard(l)).v >= high.v);
    lone_free(l);
}

/* While the old one is heard the new one may be a copy of its data directory.  Once it is
 * silent, its server has begun another life before we heard of the end of the one before. */
static void R44_a_new_life_ends_the_connections_of_the_old_one(void **state)
{
    struct lone *l = lone_new("");
    struct frame head = head_of(l, FRAME_HELLO);
    (void)state;

    connect_as_peer(l, 1);
    head.incarnation.v = 100;
    give_hello(l, 3, &head, false);
    expect_refused(l, 3, "a copy of its data directory");
    assert_false(l->closed[1]);
    run(l, 3001);
    give_hello(l, 5, &head, false);
    turn(l);
    turn(l);
    assert_true(l->closed[1]);
    assert_false(l->closed[5]);
    lone_free(l);
}

static void R44_nothing_is_heard_before_the_greeting(void **state)
{
    struct lone *l = lone_new("");
    const struct frame head = head_of(l, FRAME_BATCH);
    (void)state;

    server_peer_open(l->server, (struct conn_id){1}, BYTES_OF("127.0.0.1:9"), false);
    give_append(l, 1, &head, 99, (struct term){UINT64_C(1) << 30});
    expect_refused(l, 1, "before the greeting");
    server_peer_open(l->server, (struct conn_id){3}, BYTES_OF("127.0.0.1:9"), false);
    static const uint8_t junk[64] =
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n and so on and so on";
    give(l, 3, (struct bytes){junk, sizeof junk});
    turn(l);
    turn(l);
    assert_true(l->closed[3]);
    lone_free(l);
}

static void a_server_proves_that_it_knows_the_secret(void **state)
{
    struct lone *l = lone_new("cluster secret");
    const struct frame hello = head_of(l, FRAME_HELLO), proof = head_of(l, FRAME_PROOF);
    struct frame f;
    struct hello h;
    uint8_t message[17] = "d", mac[32];
    (void)state;

    give_hello(l, 1, &hello, false);
    expect_refused(l, 1, "secret");
    for (uint64_t conn = 3; conn <= 9; conn += 2) {
        give_hello(l, conn, &hello, true);
        turn(l);
        turn(l);
        assert_true(got_frame(l, conn, FRAME_HELLO, 0, &f));
        assert_true(hello_decode(f.body, &h));
        memcpy(message + 1, h.nonce, 16);
        message[0] = conn == 7 ? 'a' : 'd';
        mac_for_test(conn == 3 ? BYTES_OF("another secret") : BYTES_OF("cluster secret"),
                     (struct bytes){message, sizeof message}, mac);
        if (conn == 5) { /* its own proof, sent back */
            assert_true(got_frame(l, conn, FRAME_PROOF, 0, &f));
            memcpy(mac, f.body.at, sizeof mac);
        }
        give_frame(l, conn, &proof, (struct bytes){mac, sizeof mac});
        if (conn == 9) break;
        expect_refused(l, conn, "wrong cluster secret");
    }
    const struct term high = {shard_term(data_shard(l)).v + 100};
    give_append(l, 9, &hello, 99, high);
    turn(l);
    assert_false(l->closed[9]);
    assert_true(shard_term(data_shard(l)).v >= high.v);
    lone_free(l);
}

/* ---- feature levels (P32): this server is of a version that speaks 1, 2 or 3 ---- */

static void who_does_not_speak_the_clusters_level_is_refused(void **state)
{
    struct lone *l = lone_of("", 2);
    const struct frame head = head_of(l, FRAME_HELLO);
    struct frame f;
    (void)state;

    give_hello_of(l, 1, &head, false, 1);
    expect_refused(l, 1, "start a newer version");
    assert_true(got_frame(l, 1, FRAME_REFUSED, 0, &f));
    assert_int_equal(f.body.at[0], REFUSED_OLD);
    give_hello_of(l, 3, &head, false, 4);
    expect_refused(l, 3, "more than one ahead");
    for (uint32_t feature = 2; feature <= 3; feature++) {
        const uint64_t conn = 1 + 2 * feature;
        give_hello_of(l, conn, &head, false, feature);
        run(l, 3);
        assert_false(l->closed[conn]);
    }
    lone_free(l);
}

/* What a server that speaks so much is told when it asks to join, with its zero. */
static bool joins(struct lone *l, uint64_t conn, uint32_t feature, char text[300])
{
    struct buf body = buf_new(&l->outside);
    const struct join ask = {.name = BYTES_OF("s2"),
                             .client = BYTES_OF("127.0.0.1:7002"),
                             .peer = BYTES_OF("127.0.0.1:8002")};
    struct frame head = {.kind = FRAME_HELLO, .incarnation = {99}}, f;
    struct joined answer;

    give_hello_of(l, conn, &head, false, feature);
    run(l, 3);
    head.kind = FRAME_JOIN;
    join_encode(&body, &ask);
    give_frame(l, conn, &head, buf_bytes(&body));
    buf_free(&body);
    run(l, 20);
    assert_true(got_frame(l, conn, FRAME_JOINED, 0, &f));
    assert_true(joined_decode(f.body, &answer));
    snprintf(text, 300, "%.*s", (int)answer.text.len, (const char *)answer.text.at);
    return answer.ok;
}

static void who_joins_must_speak_the_clusters_level(void **state)
{
    struct lone *l = lone_of("", 2);
    char text[300];
    (void)state;

    assert_false(joins(l, 1, 1, text));
    assert_non_null(strstr(text, "ERR it speaks feature level 1, and the cluster is at "
                                 "level 2: start a newer version"));
    assert_true(joins(l, 3, 2, text));
    lone_free(l);
}

static void open_conn(struct lone *l, uint64_t conn)
{
    server_peer_open(l->server, (struct conn_id){conn}, BYTES_OF("127.0.0.1:9"), false);
}

/* 64 who have not said who they are, and the oldest of them goes; members stay. */
static void strangers_do_not_use_up_the_descriptors(void **state)
{
    struct lone *l = lone_new("");
    uint64_t n_open = 0;
    (void)state;

    open_conn(l, 1);
    connect_as_peer(l, 3);
    for (uint64_t conn = 5; conn < 5 + 2 * 63; conn += 2)
        open_conn(l, conn);
    turn(l);
    assert_false(l->closed[1]);
    open_conn(l, 251);
    turn(l);
    assert_true(l->closed[1]);
    assert_false(l->closed[5]);
    for (uint64_t conn = 131; conn < 249; conn += 2)
        open_conn(l, conn);
    turn(l);
    for (uint64_t conn = 1; conn < CONNS_MAX; conn += 2)
        n_open += (conn < 5 + 2 * 63 || conn >= 131) && conn != 249 && conn < 252 &&
                  !l->closed[conn];
    assert_int_equal(n_open, 64 + 1);
    assert_false(l->closed[251]);
    assert_false(l->closed[3]);
    lone_free(l);
}

/* It greets as one that wants to join, and never asks. */
static void a_stranger_is_not_waited_for_long(void **state)
{
    struct lone *l = lone_new("");
    struct frame head = head_of(l, FRAME_HELLO);
    char text[300];
    (void)state;

    head.cluster.v = 0;
    head.from.v = 0;
    head.to.v = 0;
    open_conn(l, 1);
    give_hello(l, 3, &head, false);
    run(l, 100);
    assert_true(joins(l, 5, META_FEATURE, text));
    run(l, 4800);
    assert_false(l->closed[1] || l->closed[3]);
    run(l, 200);
    assert_true(l->closed[1]);
    assert_true(l->closed[3]);
    assert_false(l->closed[5]);
    run(l, 56000);
    assert_true(l->closed[5]);
    lone_free(l);
}

static void client_says(struct lone *l, uint64_t conn, const char *text)
{
    size_t room = 0;
    const size_t len = strlen(text);
    uint8_t *at = server_client_space(l->server, (struct conn_id){conn}, &room);

    assert_true(room >= len);
    memcpy(at, text, len);
    server_client_data(l->server, (struct conn_id){conn}, len);
}

static uint32_t level_of(struct lone *l)
{
    static uint64_t conn = 11;
    unsigned level = 0;

    conn = conn < CONNS_MAX - 2 ? conn + 2 : 13;
    l->sent[conn].len = 0;
    server_client_open(l->server, (struct conn_id){conn}, BYTES_OF("127.0.0.1:5"), false);
    client_says(l, conn, "CLUSTER INFO\r\n");
    run(l, 3);
    buf_put_u8(&l->sent[conn], 0);
    const char *line = strstr((const char *)l->sent[conn].at, "cluster_feature_level:");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "cluster_feature_level:%u", &level), 1);
    return level;
}

static void a_newer_version_raises_the_level_and_an_older_one_does_not_start(void **state)
{
    struct lone *l = lone_of("", 1);
    const struct frame head = head_of(l, FRAME_HELLO);
    struct frame f;
    (void)state;

    assert_int_equal(level_of(l), 1);
    lone_stop(l);
    lone_start(l, "", 2);
    run(l, 3);
    give_hello_of(l, 1, &head, false, 1); /* it is not raised yet: let in ... */
    run(l, 3);
    assert_false(got_frame(l, 1, FRAME_REFUSED, 0, &f));
    run(l, 3000);
    assert_int_equal(level_of(l), 2);
    assert_true(got_frame(l, 1, FRAME_REFUSED, 0, &f)); /* ... and out */
    assert_int_equal(f.body.at[0], REFUSED_OLD);
    lone_stop(l);

    l->may_end = true;
    lone_start(l, "", 1);
    run(l, 3);
    assert_non_null(strstr(l->end, "speaks feature level 1; start the newer version"));
    assert_false(l->ready);
    lone_stop(l);
    l->may_end = false;
    lone_start(l, "", 2); /* nothing was harmed */
    run(l, 3000);
    assert_true(l->ready);
    assert_int_equal(level_of(l), 2);
    lone_free(l);
}

/* Started again as what it was, by an operator who thought better of it. */
static void an_older_version_ends_when_a_member_says_that_it_is_too_old(void **state)
{
    struct lone *l = lone_of("", 1);
    struct frame head = head_of(l, FRAME_REFUSED);
    static const uint8_t why[] = "\3it speaks feature level 1";
    const struct bytes body = {why, sizeof why - 1};
    char text[300];
    (void)state;

    assert_true(joins(l, 1, 2, text));
    connect_as_peer(l, 3);
    give_frame(l, 3, &head, body);
    run(l, 3);
    assert_true(l->closed[3]); /* whoever dials us may say what he likes */
    assert_true(l->dialed.v != 0);
    server_peer_open(l->server, l->dialed, BYTES_OF("127.0.0.1:8002"), true);
    head.kind = FRAME_HELLO;
    answer_hello(l, l->dialed.v, &head, false, 2);
    run(l, 3);
    l->may_end = true;
    head.kind = FRAME_REFUSED;
    give_frame(l, l->dialed.v, &head, body);
    run(l, 3);
    assert_non_null(strstr(l->end, "start the newer version on this data directory"));
    lone_free(l);
}

/* ---- forwarded requests ---- */

static void give_forward(struct lone *l, uint64_t conn, uint64_t id, struct term term)
{
    const struct frame head = head_of(l, FRAME_BATCH);
    const struct forward f = {
        .id = id, .kind = FORWARD_COMMANDS, .term = term, .resp = 2, .n_commands = 1};
    const struct bytes args[] = {BYTES_OF("INCR"), BYTES_OF("n")};
    struct buf batch = buf_new(&l->outside);
    const size_t at = message_begin(&batch, data_group(l), MESSAGE_FORWARD);

    forward_encode(&batch, &f);
    forward_put_command(&batch, args, 2);
    message_end(&batch, at);
    give_frame(l, conn, &head, buf_bytes(&batch));
    buf_free(&batch);
}

static bool got_reply(const struct lone *l, uint64_t conn, uint64_t id,
                      struct forward_reply *out)
{
    struct frame f;

    for (uint32_t nth = 0; got_frame(l, conn, FRAME_BATCH, nth, &f); nth++) {
        struct cursor in = cursor_of(f.body);
        struct message m;
        while (message_decode(&in, &m) == MESSAGE_OK)
            if (m.kind == MESSAGE_FORWARD_REPLY && forward_reply_decode(m.body, out) &&
                out->id == id)
                return true;
    }
    return false;
}

/* R40: a write that was meant for another term than ours runs in none. */
static void R40_a_request_for_another_term_is_refused(void **state)
{
    struct lone *l = lone_new("");
    struct forward_reply reply;
    (void)state;

    const struct frame head = head_of(l, FRAME_HELLO);
    connect_as_peer(l, 1);
    give_append(l, 1, &head, 99, (struct term){50}); /* so that there are earlier terms */
    run(l, 3000);
    const struct term term = shard_term(data_shard(l));
    assert_true(shard_leads(data_shard(l)) && term.v > 50);
    give_forward(l, 1, 41, (struct term){term.v - 1});
    give_forward(l, 1, 42, (struct term){term.v + 1});
    run(l, 20);
    for (uint64_t id = 41; id <= 42; id++) {
        assert_true(got_reply(l, 1, id, &reply));
        assert_int_equal(reply.status, FORWARD_REFUSED);
        assert_int_equal(reply.term.v, term.v);
        assert_int_equal(reply.leader.v, server_self(l->server).v);
    }
    give_forward(l, 1, 43, term);
    run(l, 20);
    assert_true(got_reply(l, 1, 43, &reply));
    assert_int_equal(reply.status, FORWARD_DONE);
    assert_true(bytes_equal(reply.bytes, BYTES_OF(":1\r\n"))); /* and the first of them */
    lone_free(l);
}

static bool heard(struct lone *l, uint64_t conn, const char *text)
{
    struct buf *b = &l->sent[conn];
    const size_t len = strlen(text);

    return b->len >= len && memcmp(b->at, text, len) == 0;
}

/* R40, R66: forwarded, and then the target is lost: nobody can tell.  A write that was never
 * sent is done later, or surely not. */
static void R40_a_forward_whose_target_is_lost_is_uncertain(void **state)
{
    struct lone *l = lone_new("");
    const struct frame head = head_of(l, FRAME_HELLO);
    struct frame f;
    (void)state;

    server_client_open(l->server, (struct conn_id){21}, BYTES_OF("127.0.0.1:5"), false);
    client_says(l, 21, "INCR n\r\n");
    run(l, 20);
    assert_true(heard(l, 21, ":1\r\n"));
    l->sent[21].len = 0;

    connect_as_peer(l, 1);
    const struct term high = {shard_term(data_shard(l)).v + 100};
    give_append(l, 1, &head, 99, high); /* another one leads, it says */
    turn(l);
    l->sent[1].len = 0;
    client_says(l, 21, "INCR n\r\n");
    turn(l);
    assert_true(got_frame(l, 1, FRAME_BATCH, 0, &f)); /* it has been sent there */
    assert_int_equal(l->sent[21].len, 0);
    server_peer_closed(l->server, (struct conn_id){1}, "gone");
    run(l, 2);
    assert_true(heard(l, 21, "-UNCERTAIN "));
    l->sent[21].len = 0;
    run(l, 3000); /* it is alone in its shard, so it leads again */
    client_says(l, 21, "GET n\r\n");
    run(l, 20);
    assert_true(heard(l, 21, "$1\r\n1\r\n")); /* and did not do it on its own */
    lone_free(l);
}

/* The nth request that we were sent for keys: its id, and the last argument of its command. */
static bool got_forward(const struct lone *l, uint64_t conn, uint32_t nth,
                        struct forward *out, struct bytes *last)
{
    struct frame f;

    for (uint32_t i = 0; got_frame(l, conn, FRAME_BATCH, i, &f); i++) {
        struct cursor in = cursor_of(f.body);
        struct message m;
        while (message_decode(&in, &m) == MESSAGE_OK) {
            struct bytes args[8];
            if (m.kind != MESSAGE_FORWARD || !forward_decode(m.body, out)) continue;
            if (nth-- > 0) continue;
            struct forward copy = *out;
            const uint32_t n = forward_peek_args(&copy);
            assert_in_range(n, 1, 8);
            forward_next_command(&copy, args);
            *last = args[n - 1];
            return true;
        }
    }
    return false;
}

static void give_reply(struct lone *l, uint64_t conn, const struct forward_reply *reply)
{
    const struct frame head = head_of(l, FRAME_BATCH);
    struct buf batch = buf_new(&l->outside);
    const size_t at = message_begin(&batch, data_group(l), MESSAGE_FORWARD_REPLY);

    forward_reply_encode(&batch, reply);
    message_end(&batch, at);
    give_frame(l, conn, &head, buf_bytes(&batch));
    buf_free(&batch);
}

static void expect_forward(const struct lone *l, uint64_t conn, uint32_t nth,
                           const char *last, struct forward *out)
{
    struct bytes got;

    assert_true(got_forward(l, conn, nth, out, &got));
    assert_true(bytes_equal(got, bytes_of_str(last)));
}

/* Three are refused by a leader whose term is over, while a fourth waits for the next one: they
 * wait before it, in the order in which they were asked. */
static void what_is_refused_goes_before_what_came_after_it(void **state)
{
    static const char *const text[] = {"a", "b", "c", "d"};
    struct lone *l = lone_new("");
    const struct frame head = head_of(l, FRAME_HELLO);
    struct forward f[4];
    struct bytes last;
    (void)state;

    server_client_open(l->server, (struct conn_id){21}, BYTES_OF("127.0.0.1:5"), false);
    connect_as_peer(l, 1);
    run(l, 20);
    l->sent[1].len = 0;
    /* Alone in its shard it would lead again, but for who says before each turn that he does. */
    struct term term = {shard_term(data_shard(l)).v + 100};
    give_append(l, 1, &head, 99, term);
    client_says(l, 21, "APPEND n a\r\nAPPEND n b\r\nAPPEND n c\r\n");
    turn(l);
    for (uint32_t i = 0; i < 3; i++)
        expect_forward(l, 1, i, text[i], &f[i]);
    term.v += 100;
    give_append(l, 1, &head, 99, term);
    client_says(l, 21, "APPEND n d\r\n");
    turn(l);
    assert_false(got_forward(l, 1, 3, &f[3], &last)); /* it waits for the three */

    l->sent[1].len = 0;
    term.v += 100;
    give_append(l, 1, &head, 99, term);
    for (uint32_t i = 0; i < 3; i++)
        give_reply(
            l, 1,
            &(struct forward_reply){
                .id = f[i].id, .status = FORWARD_REFUSED, .term = term, .leader = {2}});
    turn(l);
    for (uint32_t i = 0; i < 4; i++) {
        expect_forward(l, 1, i, text[i], &f[i]);
        assert_int_equal(f[i].term.v, term.v);
    }
    lone_free(l);
}

/* s2 has been started again: it has dialed us, and our own dial comes through later. */
static struct lone *lone_with_dialer(struct term *term)
{
    struct lone *l = lone_new("");
    char text[300];

    assert_true(joins(l, 1, META_FEATURE, text));
    assert_true(l->dialed.v != 0);
    server_client_open(l->server, (struct conn_id){21}, BYTES_OF("127.0.0.1:5"), false);
    connect_as_peer(l, 3);
    term->v = shard_term(data_shard(l)).v + 100;
    return l;
}

static void dial_comes_through(struct lone *l)
{
    const struct frame head = head_of(l, FRAME_HELLO);

    server_peer_open(l->server, l->dialed, BYTES_OF("127.0.0.1:8002"), true);
    answer_hello(l, l->dialed.v, &head, false, META_FEATURE);
}

/* What lies on one connection may be read after what comes on another. */
static void requests_of_a_client_do_not_overtake_on_a_new_connection(void **state)
{
    struct term term;
    struct lone *l = lone_with_dialer(&term);
    const struct frame head = head_of(l, FRAME_HELLO);
    struct forward f;
    struct bytes last;
    (void)state;

    give_append(l, 3, &head, 99, term);
    client_says(l, 21, "APPEND n a\r\n");
    turn(l);
    expect_forward(l, 3, 0, "a", &f);
    dial_comes_through(l);
    assert_int_equal(shard_term(data_shard(l)).v, term.v);
    assert_int_equal(shard_leader(data_shard(l)).v, 2);
    client_says(l, 21, "APPEND n b\r\n");
    turn(l);
    assert_false(l->closed[3]);
    assert_false(got_forward(l, 3, 1, &f, &last));
    assert_false(got_forward(l, l->dialed.v, 0, &f, &last));
    expect_forward(l, 3, 0, "a", &f);
    term.v += 100;
    give_append(l, 3, &head, 99, term);
    give_reply(l, 3,
               &(struct forward_reply){
                   .id = f.id, .status = FORWARD_DONE, .bytes = BYTES_OF(":1\r\n")});
    turn(l);
    assert_true(heard(l, 21, ":1\r\n"));
    expect_forward(l, l->dialed.v, 0, "b", &f);
    lone_free(l);
}

static uint64_t bytes_in_pieces(const struct lone *l, uint64_t conn)
{
    struct frame f;
    struct piece p;
    uint64_t bytes = 0;

    for (uint32_t i = 0; got_frame(l, conn, FRAME_PIECE, i, &f); i++) {
        assert_true(piece_decode(f.body, &p));
        assert_int_equal(p.offset, bytes);
        bytes += p.bytes.len;
    }
    return bytes;
}

/* The receiver puts a stream together by connection. */
static void a_large_request_goes_on_as_it_began(void **state)
{
    enum { LARGE = 9 << 20 };
    struct term term;
    struct lone *l = lone_with_dialer(&term);
    const struct frame head = head_of(l, FRAME_HELLO);
    char begin[64];
    (void)state;

    give_append(l, 3, &head, 99, term);
    snprintf(begin, sizeof begin, "*3\r\n$3\r\nSET\r\n$1\r\nn\r\n$%d\r\n", (int)LARGE);
    client_says(l, 21, begin);
    for (size_t left = LARGE; left > 0;) {
        size_t room = 0;
        uint8_t *at = server_client_space(l->server, (struct conn_id){21}, &room);
        if (room > left) room = left;
        memset(at, 'x', room);
        server_client_data(l->server, (struct conn_id){21}, room);
        left -= room;
    }
    client_says(l, 21, "\r\n");
    turn(l);
    assert_in_range(bytes_in_pieces(l, 3), 1, LARGE - 1);
    dial_comes_through(l);
    for (uint32_t i = 0; i < 4; i++) {
        give_append(l, 3, &head, 99, term);
        turn(l);
    }
    assert_int_equal(bytes_in_pieces(l, l->dialed.v), 0);
    assert_true(bytes_in_pieces(l, 3) > LARGE);
    lone_free(l);
}

/* It takes what it sent there for lost; none of it is to come late. */
static void who_dials_again_has_given_up_the_connection_before(void **state)
{
    struct term term;
    struct lone *l = lone_with_dialer(&term);
    const struct frame head = head_of(l, FRAME_HELLO);
    struct forward f;
    (void)state;

    give_append(l, 3, &head, 99, term);
    client_says(l, 21, "APPEND n a\r\n");
    turn(l);
    expect_forward(l, 3, 0, "a", &f);
    connect_as_peer(l, 5);
    assert_true(l->closed[3]);
    assert_true(heard(l, 21, "-UNCERTAIN "));
    lone_free(l);
}

/* From now on it is one of three, and leads no more when it hears of nobody. */
static void give_members(struct lone *l, uint64_t conn, struct term term)
{
    const struct frame head = head_of(l, FRAME_BATCH);
    struct buf batch = buf_new(&l->outside), config = buf_new(&l->outside);
    struct raft_info info;

    raft_info(shard_raft(data_shard(l)), &info);
    const struct raft_config three = {.version = info.config.version + 1,
                                      .n_voters = 3,
                                      .voters = {server_self(l->server), {2}, {3}},
                                      .rules = info.config.rules};
    raft_config_encode(&config, &three);
    const struct raft_entry entry = {.index = {info.last.v + 1},
                                     .term = term,
                                     .kind = RAFT_CONFIG,
                                     .payload = buf_bytes(&config)};
    const struct raft_msg m = {.kind = RAFT_APPEND,
                               .from = {2},
                               .to = server_self(l->server),
                               .term = term,
                               .index = info.last,
                               .log_term = info.last_term,
                               .n_entries = 1,
                               .entries = &entry};
    const size_t at = message_begin(&batch, data_group(l), MESSAGE_RAFT);
    raft_msg_encode(&batch, &m);
    message_end(&batch, at);
    give_frame(l, conn, &head, buf_bytes(&batch));
    buf_free(&config);
    buf_free(&batch);
}

/* A leader whose answer is lost while large values go on and on: their moving is a reason to be
 * patient, but not for ever. */
static void what_moves_puts_an_end_off_and_not_away(void **state)
{
    enum { GIVEN_UP_MS = 100000 };
    struct term term;
    struct lone *l = lone_with_dialer(&term);
    const struct frame hello = head_of(l, FRAME_HELLO), pong = head_of(l, FRAME_BATCH),
                       head = head_of(l, FRAME_PIECE);
    const struct piece piece = {
        .stream = 1, .offset = 0, .total = VALUE_MAX, .bytes = BYTES_OF("begun")};
    struct buf body = buf_new(&l->outside);
    uint32_t ms = 0;
    struct forward f;
    (void)state;

    dial_comes_through(l);
    give_members(l, 3, term);
    client_says(l, 21, "APPEND n a\r\n");
    turn(l);
    expect_forward(l, l->dialed.v, 0, "a", &f);
    piece_encode(&body, &piece);
    give_frame(l, 3, &head, buf_bytes(&body));
    for (; ms < GIVEN_UP_MS && l->sent[21].len == 0; ms++) {
        l->now.ns += MS_NS;
        server_time(l->server, l->now, (struct wall){2000000 + ms});
        if (ms % 100 == 0) {
            give_append(l, 3, &hello, 99, term);
            give_frame(l, l->dialed.v, &pong, (struct bytes){0});
            l->sent[3].len = l->sent[l->dialed.v].len = 0;
        }
        turn(l);
    }
    assert_int_equal(shard_term(data_shard(l)).v, term.v);
    assert_true(heard(l, 21, "-UNCERTAIN "));
    assert_in_range(ms, 6000, 60000);
    buf_free(&body);
    lone_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R44_a_server_of_another_cluster_is_refused),
        cmocka_unit_test(R44_who_looks_for_another_server_is_told_so),
        cmocka_unit_test(R44_a_frame_of_another_life_cluster_or_sender_is_refused),
        cmocka_unit_test(R44_a_new_life_ends_the_connections_of_the_old_one),
        cmocka_unit_test(R44_nothing_is_heard_before_the_greeting),
        cmocka_unit_test(a_server_proves_that_it_knows_the_secret),
        cmocka_unit_test(who_does_not_speak_the_clusters_level_is_refused),
        cmocka_unit_test(who_joins_must_speak_the_clusters_level),
        cmocka_unit_test(strangers_do_not_use_up_the_descriptors),
        cmocka_unit_test(a_stranger_is_not_waited_for_long),
        cmocka_unit_test(
            a_newer_version_raises_the_level_and_an_older_one_does_not_start),
        cmocka_unit_test(an_older_version_ends_when_a_member_says_that_it_is_too_old),
        cmocka_unit_test(R40_a_request_for_another_term_is_refused),
        cmocka_unit_test(R40_a_forward_whose_target_is_lost_is_uncertain),
        cmocka_unit_test(what_is_refused_goes_before_what_came_after_it),
        cmocka_unit_test(requests_of_a_client_do_not_overtake_on_a_new_connection),
        cmocka_unit_test(a_large_request_goes_on_as_it_began),
        cmocka_unit_test(who_dials_again_has_given_up_the_connection_before),
        cmocka_unit_test(what_moves_puts_an_end_off_and_not_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
