/* SPDX-License-Identifier: Apache-2.0 */
#include "shard/shard_world.h"

#include <stdlib.h>
#include <string.h>

#include "mem_test_alloc.h"

enum { GROUP = 5, STEP_MS = 5, WORDS_MAX = 16, LINES_MAX = 8, PUMPS_MAX = 2000 };

/* ---- one replica ---- */

static void on_effect(void *ctx, const struct effect *e)
{
    struct replica *r = ctx;

    if (e->kind != EFFECT_ADD) return;
    assert_true(r->n_effects < EFFECTS_MAX);
    char digits[32] = "";
    assert_true(e->value.len < sizeof digits);
    memcpy(digits, e->value.at, e->value.len);
    r->effects[r->n_effects++] = strtoll(digits, NULL, 10);
}

static void on_reset(void *ctx)
{
    struct replica *r = ctx;

    r->n_resets++;
}

static struct shard_config config_of(struct shards *w, struct replica *r)
{
    return (struct shard_config){
        .group = {GROUP},
        .self = {r->id},
        .raft =
            {
                .self = {r->id},
                .election_ns = SEC_NS,
                .heartbeat_ns = 100 * MS_NS,
                .drift_ns = 50 * MS_NS,
                .append_entries_max = 64,
                .append_bytes_max = 1 << 16,
                .inflight_max = 8,
                .inflight_bytes_max = 1 << 18,
                .uncommitted_bytes_max = 1 << 16,
                .log_bytes_max = 1 << 20,
                .seed = 100 + r->id, /* so what they draw differs */
                .mem = &r->mem,
            },
        .kv = kv_memory_kv(r->kv),
        .mem = &r->mem,
        .table_bytes_max = 1 << 20,
        .log_keep_bytes = w->log_keep_bytes,
        .rate = &w->rate,
        .counts = &r->counts,
        .snapshot_piece_bytes = 512,
        .snapshot_pieces_max = 4,
        .once_max = w->once_max,
        .once_keep_ns = w->once_keep_ns,
        .on_effect = on_effect,
        .on_reset = on_reset,
        .ctx = r,
    };
}

void shards_start(struct shards *w, uint32_t id, bool doubt)
{
    struct replica *r = &w->at[id];
    const struct shard_config config = config_of(w, r);

    r->log->now = w->now;
    world_start(r->log);
    assert_true(r->log->opened);
    r->shard = shard_new(&config, w->now);
    for (size_t i = 0; i < r->log->recovered.n; i++) {
        const struct wal_record *record = &r->log->recovered.at[i].record;
        if (record->kind != WAL_MARK && record->kind != WAL_FORGET)
            shard_restore(r->shard, record);
    }
    if (doubt) shard_doubt(r->shard);
    shard_begin(r->shard, w->now);
    r->wake = w->now;
    r->n_effects = 0;
}

static void stop(struct replica *r)
{
    if (r->shard == NULL) return;
    shard_free(r->shard);
    r->shard = NULL;
    r->job = NULL;
    world_stop(r->log);
}

void shards_crash(struct shards *w, uint32_t id)
{
    struct replica *r = &w->at[id];
    uint32_t kept = 0;

    stop(r);
    disk_crash(r->log->disk, DISK_LOSE_ALL);
    for (uint32_t i = 0; i < w->n_wire; i++) {
        if (w->wire[i].to == id)
            buf_free(&w->wire[i].bytes);
        else
            w->wire[kept++] = w->wire[i];
    }
    w->n_wire = kept;
    for (uint32_t i = 1; i <= w->n; i++)
        if (w->at[i].shard != NULL)
            shard_peer_lost(w->at[i].shard, (struct server_id){id}, w->now);
}

static struct wall wall_of(const struct shards *w, const struct replica *r)
{
    return (struct wall){w->wall.ms + r->wall_ms};
}

static void post(struct shards *w, uint32_t from, const struct raft_msg *m)
{
    assert_true(w->n_wire < PACKETS_MAX);
    struct packet *p = &w->wire[w->n_wire++];
    *p = (struct packet){from, m->to.v, buf_new(&w->mem)};
    raft_msg_encode(&p->bytes, m);
}

static void load(struct shards *w, struct replica *r, struct raft_load wanted)
{
    struct wal_record records[256];
    uint32_t n = 0;

    world_read(r->log, GROUP, wanted.from.v, wanted.upto.v, wanted.bytes_max);
    for (size_t i = 0; i < r->log->read.n && n < 256; i++)
        records[n++] = r->log->read.at[i].record;
    const struct wal_read_done done = {
        .records = records, .n_records = n, .failed = r->log->read_failed};
    r->loads++;
    shard_loaded(r->shard, &done, w->now);
}

static void turn(struct shards *w, struct replica *r)
{
    struct shard_out out;

    r->log->now = w->now;
    shard_turn_end(r->shard, r->log->wal, w->now, wall_of(w, r), &out);
    for (uint32_t i = 0; i < out.n_msgs; i++)
        post(w, r->id, &out.msgs[i]);
    if (out.job != NULL) r->job = out.job;
    if (out.accused.v != 0) r->accused = out.accused;
    r->wake = out.wake;
    if (out.released.v != 0)
        wal_release(r->log->wal, (struct group_id){GROUP}, out.released);
    if (r->disk_held) {
        world_turn(r->log);
    } else {
        const uint64_t before = r->log->durable;
        world_run(r->log);
        shard_durable(r->shard, (struct lsn){r->log->durable},
                      (struct lsn){r->log->durable}, true, w->now);
        if (r->log->durable > before) r->wake = w->now;
    }
    if (out.load_wanted) load(w, r, out.load);
    if (r->job != NULL && !r->jobs_held) {
        struct kv_job *job = r->job;
        r->job = NULL;
        const int error = kv_memory_run(r->kv, job, r->job_error);
        shard_job_done(r->shard, job, error, w->now);
        r->wake = w->now;
    }
    shard_verify(r->shard);
}

/* ---- all of them ---- */

static void deliver(struct shards *w, struct packet *p)
{
    struct raft_entry entries[128];
    struct raft_msg m;
    struct replica *to = &w->at[p->to];
    uint32_t times = 1;

    if (to->shard != NULL && !w->cut[p->from][p->to]) {
        assert_true(raft_msg_decode(buf_bytes(&p->bytes), &m, entries, 128));
        if (w->passes != NULL) times = w->passes(w, p->from, &m);
        for (uint32_t i = 0; i < times; i++)
            shard_receive(to->shard, &m, w->now);
    }
    buf_free(&p->bytes);
}

static bool step(struct shards *w)
{
    bool more = false;

    for (uint32_t id = 1; id <= w->n; id++) {
        struct replica *r = &w->at[id];
        if (r->shard == NULL) continue;
        turn(w, r);
        more = more || (r->wake.ns != 0 && r->wake.ns <= w->now.ns);
    }
    const uint32_t n = w->n_wire;
    struct packet *all = malloc((n + 1) * sizeof *all);
    memcpy(all, w->wire, n * sizeof *all);
    w->n_wire = 0;
    for (uint32_t i = 0; i < n; i++)
        deliver(w, &all[i]);
    free(all);
    return more || n > 0;
}

void shards_pump(struct shards *w)
{
    uint32_t rounds = 0;

    while (step(w) && rounds++ < PUMPS_MAX)
        for (uint32_t id = 1; id <= w->n; id++) {
            struct replica *r = &w->at[id];
            if (r->shard != NULL && r->wake.ns <= w->now.ns)
                shard_tick(r->shard, w->now, wall_of(w, r));
        }
    assert_true(rounds < PUMPS_MAX);
}

void shards_run(struct shards *w, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += STEP_MS) {
        w->now.ns += STEP_MS * MS_NS;
        w->wall.ms += STEP_MS;
        for (uint32_t id = 1; id <= w->n; id++)
            if (w->at[id].shard != NULL)
                shard_tick(w->at[id].shard, w->now, wall_of(w, &w->at[id]));
        shards_pump(w);
    }
}

uint32_t shards_lead(struct shards *w)
{
    for (uint32_t tries = 0; tries < 400; tries++) {
        uint32_t leader = 0;
        uint64_t term = 0;
        for (uint32_t id = 1; id <= w->n; id++) {
            if (w->at[id].shard == NULL || !shard_leads(w->at[id].shard)) continue;
            if (shards_info(w, id).term.v <= term) continue;
            term = shards_info(w, id).term.v;
            leader = id;
        }
        /* One that was cut off may not know yet that it leads no more. */
        if (leader != 0 && tries > 0) return leader;
        shards_run(w, 50);
    }
    fail_msg("nobody leads");
    return 0;
}

uint32_t shards_follower(const struct shards *w, uint32_t leader, uint32_t nth)
{
    for (uint32_t id = 1; id <= w->n; id++)
        if (id != leader && nth-- == 0) return id;
    return 0;
}

void shards_isolate(struct shards *w, uint32_t id, bool cut)
{
    for (uint32_t other = 1; other <= w->n; other++)
        w->cut[id][other] = w->cut[other][id] = cut;
}

static struct raft_config voters_to(uint32_t n)
{
    struct raft_config c = {0};

    for (uint32_t id = 1; id <= n; id++)
        c.voters[c.n_voters++].v = id;
    return c;
}

struct shards *shards_new(uint32_t n, uint32_t founders)
{
    struct shards *w = calloc(1, sizeof *w);
    const struct raft_config config = voters_to(founders);

    assert_non_null(w);
    w->n = n;
    w->mem = mem_for_test();
    w->now.ns = SEC_NS;
    w->wall.ms = 1000000;
    w->once_max = 1000;
    w->once_keep_ns = 10 * SEC_NS;
    w->reply = buf_new(&w->mem);
    for (uint32_t id = 1; id <= n; id++) {
        struct replica *r = &w->at[id];
        r->id = id;
        r->mem = mem_for_test();
        r->kv = kv_memory_new(&r->mem);
        r->log = world_new(id, 1 << 18);
        r->log->config.batch_bytes_max = 1 << 22;
        r->log->config.read_bytes_max = 1 << 20;
        shards_start(w, id, false);
        if (id <= founders) shard_found(r->shard, &config, 1, true);
    }
    shards_pump(w);
    return w;
}

void shards_free(struct shards *w)
{
    for (uint32_t i = 0; i < w->n_wire; i++)
        buf_free(&w->wire[i].bytes);
    for (uint32_t id = 1; id <= w->n; id++) {
        struct replica *r = &w->at[id];
        stop(r);
        kv_memory_free(r->kv);
        world_free(r->log);
        assert_int_equal(r->mem.used, 0);
    }
    buf_free(&w->reply);
    assert_int_equal(w->mem.used, 0);
    free(w);
}

/* ---- requests ---- */

struct words {
    struct bytes at[WORDS_MAX];
    uint32_t n;
};

static void split(const char *line, struct words *words)
{
    words->n = 0;
    while (*line != 0) {
        const size_t len = strcspn(line, " ");
        assert_true(words->n < WORDS_MAX);
        words->at[words->n++] = (struct bytes){(const uint8_t *)line, len};
        line += len;
        while (*line == ' ')
            line++;
    }
}

enum shard_refusal shards_exec(struct shards *w, uint32_t id, const char *const *lines,
                               uint32_t n, const struct shard_watch *watches,
                               uint32_t n_watches)
{
    struct words words[LINES_MAX];
    const struct command *commands[LINES_MAX], *container;
    const struct bytes *args[LINES_MAX];
    uint32_t n_args[LINES_MAX];

    assert_true(n <= LINES_MAX && w->at[id].shard != NULL);
    for (uint32_t i = 0; i < n; i++) {
        split(lines[i], &words[i]);
        commands[i] = command_find(words[i].at, words[i].n, &container);
        assert_non_null(commands[i]);
        args[i] = words[i].at;
        n_args[i] = words[i].n;
    }
    const struct shard_request q = {
        .commands = commands,
        .args = args,
        .n_args = n_args,
        .n_commands = n,
        .watches = watches,
        .n_watches = n_watches,
        .once = w->once == NULL ? (struct bytes){NULL, 0} : bytes_of_str(w->once),
        .position = w->position,
        .now = wall_of(w, &w->at[id]),
        .exec = n > 1 || n_watches > 0,
        .log_behind = !wal_room(w->at[id].log->wal),
        .read = READ_LINEARIZABLE,
    };
    w->reply.len = 0;
    struct reply reply = {&w->reply, 2};
    w->gate = (struct shard_gate){0};
    const enum shard_refusal refusal = shard_run(w->at[id].shard, &q, &reply, &w->gate);
    buf_put_u8(&w->reply, 0);
    return refusal;
}

enum shard_refusal shards_ask(struct shards *w, uint32_t id, const char *line)
{
    return shards_exec(w, id, &line, 1, NULL, 0);
}

enum shard_refusal shards_watch(struct shards *w, uint32_t id, struct bytes key,
                                struct log_index *change)
{
    const struct shard_watch watch = {.key = key};
    const struct shard_request q = {.watches = &watch,
                                    .n_watches = 1,
                                    .position = w->position,
                                    .now = wall_of(w, &w->at[id])};

    return shard_watch(w->at[id].shard, &q, change, &w->gate);
}

enum shard_gate_state shards_gate(const struct shards *w, uint32_t id)
{
    return shard_gate(w->at[id].shard, &w->gate);
}

void shards_expect(struct shards *w, uint32_t id, const char *line, const char *reply)
{
    assert_int_equal(shards_ask(w, id, line), SHARD_TAKEN);
    if (reply != NULL) assert_string_equal((const char *)w->reply.at, reply);
    shards_run(w, 50);
    assert_int_equal(shards_gate(w, id), GATE_OPEN);
}

const char *shards_committed(struct shards *w, uint32_t id, const char *key)
{
    const struct bytes args[] = {BYTES_OF("GET"), bytes_of_str(key)};
    const struct bytes *all_args = args;
    const struct command *container, *get = command_find(args, 2, &container);
    const uint32_t n_args = 2;
    const struct shard_request q = {
        .commands = &get,
        .args = &all_args,
        .n_args = &n_args,
        .n_commands = 1,
        .now = {0}, /* before any deadline */
        .read = READ_ANY,
    };
    w->reply.len = 0;
    struct reply reply = {&w->reply, 2};
    if (!shard_read_here(w->at[id].shard, &q, &reply)) return "closed";
    buf_put_u8(&w->reply, 0);
    return (const char *)w->reply.at;
}

struct raft_info shards_info(const struct shards *w, uint32_t id)
{
    struct raft_info info;

    raft_info(shard_raft(w->at[id].shard), &info);
    return info;
}

uint64_t shards_digest(struct shards *w, uint32_t id)
{
    struct shard *s = w->at[id].shard;
    struct log_index at;
    uint64_t digest, keys;

    shard_want_digest(s);
    for (uint32_t tries = 0; tries < 100 && !shard_digest(s, &at, &digest, &keys);
         tries++)
        shards_run(w, STEP_MS);
    assert_true(shard_digest(s, &at, &digest, &keys));
    assert_int_equal(at.v, shard_applied(s).v);
    return digest;
}

void shards_assert_equal(struct shards *w)
{
    uint64_t first = 0, applied = 0;

    shards_run(w, 400);
    for (uint32_t id = 1; id <= w->n; id++) {
        if (w->at[id].shard == NULL) continue;
        const uint64_t digest = shards_digest(w, id);
        if (applied == 0) {
            first = digest;
            applied = shard_applied(w->at[id].shard).v;
        }
        assert_int_equal(shard_applied(w->at[id].shard).v, applied);
        assert_true(digest == first);
    }
}

void shards_config(struct shards *w, uint32_t leader, uint32_t voters, uint32_t learner)
{
    struct raft_config c = voters_to(voters);

    if (learner != 0) c.learners[c.n_learners++].v = learner;
    shard_change_config(w->at[leader].shard, &c, w->now);
}
