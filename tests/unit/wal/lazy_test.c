/* SPDX-License-Identifier: Apache-2.0 */
/* Records that may wait for their sync: what is written, when it is synced, and what a process or
 * a machine that ends takes with it. */
#include "unit.h"

#include "wal/wal_state.h"
#include "wal_disk.h"

enum { SEGMENT = 4096 };

static struct world *world_lazy(void)
{
    struct world *w = world_new(1, SEGMENT);

    w->config.sync_every_ns = SEC_NS;
    world_start(w);
    w->now.ns += SEC_NS;
    world_run(w); /* the first batch after a start is synced; it is out of the way */
    return w;
}

/* Written in a turn of its own. */
static uint64_t put(struct world *w, uint64_t index, bool lazy)
{
    const struct wal_record record = {
        .kind = WAL_ENTRY,
        .group = {1},
        .index = {index},
        .term = {1},
        .lazy = lazy,
        .body = BYTES_OF("twelve bytes"),
    };
    const uint64_t lsn = world_append(w, &record);

    world_run(w);
    return lsn;
}

static uint32_t syncs_queued(const struct world *w)
{
    uint32_t n = 0;

    for (size_t i = w->queue_at; i < w->queue_n; i++)
        n += w->queue[i].kind == WAL_OP_SYNC;
    return n;
}

static void a_batch_of_lazy_records_is_written_and_not_synced(void **state)
{
    struct world *w = world_lazy();
    (void)state;
    put(w, 1, false);
    const uint64_t before = w->durable;
    const uint64_t lsn = put(w, 2, true);
    assert_int_equal(w->out.written.v, lsn);
    assert_int_equal(w->durable, before);
    assert_int_equal(syncs_queued(w), 0);
    world_free(w);
}

static void it_outlives_the_process_and_not_the_power(void **state)
{
    (void)state;
    for (int power = 0; power < 2; power++) {
        struct world *w = world_lazy();
        put(w, 1, false);
        put(w, 2, true);
        put(w, 3, true);
        world_stop(w);
        if (power) disk_crash(w->disk, DISK_LOSE_ALL);
        world_start(w);
        assert_true(w->opened);
        assert_int_equal(w->n_damage, 0);
        assert_int_equal(kept_entries(&w->recovered), power ? 1 : 3);
        world_free(w);
    }
}

static void what_must_be_synced_takes_along_what_need_not(void **state)
{
    struct world *w = world_lazy();
    (void)state;
    put(w, 1, false);
    put(w, 2, true);
    const uint64_t lsn = put(w, 3, false);
    assert_int_equal(w->durable, lsn);
    world_stop(w);
    disk_crash(w->disk, DISK_LOSE_ALL);
    world_start(w);
    assert_int_equal(kept_entries(&w->recovered), 3);
    world_free(w);
}

static void nothing_waits_longer_than_it_may(void **state)
{
    struct world *w = world_lazy();
    (void)state;
    put(w, 1, false);
    uint64_t index = 2, lsn = 0;
    for (; index < 40; index++) { /* never idle: it writes every 30 ms */
        w->now.ns += 30 * MS_NS;
        lsn = put(w, index, true);
    }
    assert_true(w->durable > 0);
    assert_true(lsn - w->durable < 40 * 128);
    assert_true(w->durable > 20 * 64);
    world_free(w);
}

static void an_idle_log_is_synced_by_its_mark(void **state)
{
    struct world *w = world_lazy();
    (void)state;
    put(w, 1, false);
    const uint64_t lsn = put(w, 2, true);
    world_idle(w);
    assert_true(w->durable >= lsn);
    world_free(w);
}

/* Else the head of a segment would prove what is not so. */
static void a_segment_is_synced_before_the_next_one_begins(void **state)
{
    (void)state;
    for (enum disk_loss loss = DISK_LOSE_ALL; loss <= DISK_LOSE_SOME; loss++) {
        struct world *w = world_lazy();
        put(w, 1, false);
        uint64_t index = 2;
        for (; index < 120; index++)
            put(w, index, true);
        assert_true(w->durable > SEGMENT); /* whatever is in the last segment only */
        world_stop(w);
        disk_crash(w->disk, loss);
        world_start(w);
        assert_true(w->opened);
        assert_int_equal(w->n_damage, 0);
        assert_true(kept_entries(&w->recovered) > 50);
        world_free(w);
    }
}

/* There is no room for the next segment, and what waits for it keeps nothing from being synced
 * that has been written. */
static void what_is_written_is_synced_though_the_disk_is_full(void **state)
{
    (void)state;
    struct world *w = world_new(1, SEGMENT);
    uint64_t index = 1;
    w->config.sync_every_ns = SEC_NS;
    w->disk->bytes_max = 2 * SEGMENT + 100;
    world_start(w);
    w->now.ns += SEC_NS;
    world_run(w);
    put(w, index, false);
    while (!w->full)
        put(w, ++index, true);
    put(w, ++index, true);
    const uint64_t written = w->out.written.v;
    assert_true(w->durable < written);
    assert_true(written < w->wal->end);
    assert_true(w->out.wake.ns > w->now.ns && w->out.wake.ns <= w->now.ns + SEC_NS);

    w->now = w->out.wake;
    world_turn(w);
    assert_int_equal(syncs_queued(w), 1);
    world_turn(w);
    assert_int_equal(syncs_queued(w), 1); /* one at a time */
    world_run(w);
    assert_true(w->full);
    assert_int_equal(w->durable, written);
    assert_int_equal(w->out.wake.ns, 0); /* nothing more to sync until there is room */
    w->now.ns += 2 * SEC_NS;
    world_turn(w);
    assert_int_equal(syncs_queued(w), 0);
    w->disk->bytes_max = 0;
    wal_retry(w->wal);
    world_run(w);
    assert_false(w->full);
    assert_int_equal(w->durable, w->wal->end); /* late: it is synced at once */

    world_stop(w);
    disk_crash(w->disk, DISK_LOSE_ALL);
    world_start(w);
    assert_int_equal(w->n_damage, 0);
    assert_int_equal(kept_entries(&w->recovered), index);
    world_free(w);
}

/* What left memory because it is held must be found on disk, synced or not. */
static void written_entries_are_read_back(void **state)
{
    struct world *w = world_lazy();
    (void)state;
    put(w, 1, false);
    put(w, 2, true);
    put(w, 3, true);
    world_read(w, 1, 1, 3, 4096);
    assert_true(w->read_done);
    assert_false(w->read_failed);
    assert_int_equal(w->read.n, 3);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_of_lazy_records_is_written_and_not_synced),
        cmocka_unit_test(it_outlives_the_process_and_not_the_power),
        cmocka_unit_test(what_must_be_synced_takes_along_what_need_not),
        cmocka_unit_test(nothing_waits_longer_than_it_may),
        cmocka_unit_test(an_idle_log_is_synced_by_its_mark),
        cmocka_unit_test(a_segment_is_synced_before_the_next_one_begins),
        cmocka_unit_test(what_is_written_is_synced_though_the_disk_is_full),
        cmocka_unit_test(written_entries_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
