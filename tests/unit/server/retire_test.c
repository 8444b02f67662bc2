/* SPDX-License-Identifier: Apache-2.0 */
/* A replica that has to go, and what of it is kept aside first. */
#include "server/server_state.h"

#include <stdlib.h>

#include "mem_test_alloc.h"
#include "unit.h"

/* What the other files would do, and what they were asked for. */
static struct {
    struct server s;
    struct mem mem;
    struct slot slot, *of_all[1];
    struct meta_shard target;
    struct raft_info info;
    struct server_action action;
    struct kv_job *job;
    struct kv_job drop;
    uint64_t read_from;
    uint32_t n_reads, n_rollbacks, n_forgets;
    bool busy;
} world;

static struct slot *open_world(void)
{
    memset(&world, 0, sizeof world);
    world.mem = mem_for_test();
    world.s.mem = &world.mem;
    world.s.slot_timers = heap_new(&world.mem);
    world.s.due = heap_new(&world.mem);
    world.slot.group.v = 7;
    world.slot.shard =
        (struct shard *)(void *)&world; /* there is one; never looked into */
    world.info.config.rules.early = true;
    return &world.slot;
}

static void close_world(void)
{
    heap_free(&world.s.slot_timers);
    heap_free(&world.s.due);
    assert_int_equal(world.mem.used, 0);
}

struct server_action *server_act(struct server *s, enum server_action_kind kind)
{
    (void)s;
    world.n_rollbacks += kind == SERVER_ROLLBACK;
    world.action.kind = kind;
    return &world.action;
}

struct bytes server_keep(struct server *s, struct bytes b)
{
    (void)s;
    return b;
}

void server_log(struct server *s, enum server_log_level level, const char *format, ...)
{
    (void)s;
    (void)level;
    (void)format;
}

struct slot *server_slot_find(const struct server *s, struct group_id group)
{
    (void)s;
    return group.v == world.slot.group.v ? &world.slot : NULL;
}

void slot_touch(struct server *s, struct slot *slot)
{
    (void)s;
    slot->dirty = true;
}

void slot_job(struct server *s, struct slot *slot, struct kv_job *job)
{
    (void)s;
    (void)slot;
    assert_null(world.job);
    world.job = job;
}

const struct meta_shard *meta_shard(const struct meta *m, struct group_id group)
{
    (void)m;
    (void)group;
    return &world.target;
}

bool meta_server_has(const struct meta_shard *shard, struct server_id id)
{
    (void)shard;
    (void)id;
    return false;
}

void raft_info(const struct raft *raft, struct raft_info *info)
{
    (void)raft;
    *info = world.info;
}

bool raft_entry_at(const struct raft *raft, struct log_index index,
                   struct raft_entry *out)
{
    (void)raft;
    *out = (struct raft_entry){index, {3}, RAFT_COMMAND, {NULL, 0}, NULL};
    return true;
}

bool raft_members_has(const struct raft_members *members, struct server_id id)
{
    (void)members;
    (void)id;
    return false;
}

const struct raft *shard_raft(const struct shard *s)
{
    (void)s;
    return NULL;
}

struct store *shard_store(struct shard *s)
{
    (void)s;
    return NULL;
}

bool shard_leads(const struct shard *s)
{
    (void)s;
    return false;
}

bool shard_busy(const struct shard *s)
{
    (void)s;
    return world.busy;
}

bool shard_entry(const struct wal_record *record, struct raft_entry *out)
{
    *out = (struct raft_entry){
        record->index, record->term, RAFT_COMMAND, {NULL, 0}, NULL};
    return true;
}

void shard_free(struct shard *s)
{
    (void)s;
}

struct kv_job *store_drop(struct store *store)
{
    (void)store;
    return &world.drop;
}

void store_job_done(struct store *store, struct kv_job *job, int error)
{
    (void)store;
    (void)job;
    (void)error;
}

struct lsn wal_append(struct wal *wal, const struct wal_record *record)
{
    (void)wal;
    world.n_forgets += record->kind == WAL_FORGET;
    return (struct lsn){0};
}

void wal_read(struct wal *wal, uint64_t tag, struct group_id group, struct log_index from,
              struct log_index upto, uint64_t bytes_max)
{
    (void)wal;
    (void)tag;
    (void)group;
    (void)upto;
    (void)bytes_max;
    world.n_reads++;
    world.read_from = from.v;
}

void answers_check(struct server *s, struct slot *slot)
{
    (void)s;
    (void)slot;
}

void requests_replica_gone(struct server *s, struct slot *slot)
{
    (void)s;
    (void)slot;
}

void vouch_end(struct server *s, struct slot *slot)
{
    (void)s;
    (void)slot;
}

struct buf *peer_say(struct server *s, struct server_id to, struct group_id group,
                     enum message_kind kind, size_t *start)
{
    (void)s;
    (void)to;
    (void)group;
    (void)kind;
    (void)start;
    return NULL;
}

void peer_said(struct server *s, struct server_id to, size_t start)
{
    (void)s;
    (void)to;
    (void)start;
}

static void job_done(struct slot *slot, int error)
{
    struct kv_job *job = world.job;

    world.job = NULL;
    assert_non_null(job);
    assert_true(retire_job_done(&world.s, slot, job, error));
}

/* ---- the tests ---- */

/* The only copy of what was answered early: the world tries for as long as rollback/ can't be
 * written, and all that time there is no tombstone, and nothing is forgotten. */
static void a_tail_is_kept_before_its_log_goes(void **state)
{
    struct slot *slot = open_world();
    (void)state;
    world.info.commit.v = 10;
    world.info.last.v = 12;
    retire_begin(&world.s, slot);
    assert_int_equal(world.n_rollbacks, 1);
    assert_int_equal(world.action.group.v, slot->group.v);
    for (int turn = 0; turn < 3; turn++)
        retire_step(&world.s, slot);
    assert_null(world.job);

    server_rollback_done(&world.s, slot->group);
    assert_true(slot->dirty);
    retire_step(&world.s, slot);
    job_done(slot, 0); /* the tombstone */
    assert_int_equal(world.n_forgets, 0);
    job_done(slot, 0); /* the store */
    assert_int_equal(world.n_forgets, 1);
    assert_null(slot->shard);
    close_world();
}

static void a_replica_without_a_tail_waits_for_nothing(void **state)
{
    struct slot *slot = open_world();
    (void)state;
    world.info.commit.v = world.info.last.v = 10;
    retire_begin(&world.s, slot);
    retire_step(&world.s, slot);
    job_done(slot, 0);
    job_done(slot, 0);
    assert_null(slot->shard);
    close_world();
}

/* What is read back from the log is kept piece by piece, each before the next is read. */
static void what_is_read_back_is_kept_in_turn(void **state)
{
    struct slot *slot = open_world();
    const struct wal_record records[] = {
        {.kind = WAL_ENTRY, .index = {5}, .term = {3}},
        {.kind = WAL_ENTRY, .index = {6}, .term = {3}},
    };
    (void)state;
    world.info.apart = true;
    slot->keep_from.v = 5;
    slot->keep_upto.v = 6;
    retire_begin(&world.s, slot);
    slot->loading = true; /* the shard's own, from before */
    retire_step(&world.s, slot);
    assert_int_equal(world.n_reads, 0);
    slot->loading = false;
    for (uint32_t i = 0; i < 2; i++) {
        retire_step(&world.s, slot);
        assert_int_equal(world.n_reads, i + 1);
        assert_int_equal(world.read_from, 5 + i);
        slot->loading = false;
        retire_loaded(&world.s, slot,
                      &(struct wal_read_done){.records = &records[i], .n_records = 1});
        assert_int_equal(world.n_rollbacks, i + 1);
        retire_step(&world.s, slot);
        assert_int_equal(world.n_reads, i + 1);
        assert_null(world.job);
        server_rollback_done(&world.s, slot->group);
    }
    retire_step(&world.s, slot);
    job_done(slot, 0);
    job_done(slot, 0);
    assert_null(slot->shard);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tail_is_kept_before_its_log_goes),
        cmocka_unit_test(a_replica_without_a_tail_waits_for_nothing),
        cmocka_unit_test(what_is_read_back_is_kept_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
