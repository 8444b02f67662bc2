/* SPDX-License-Identifier: Apache-2.0 */
/* The write-ahead log over a disk that misbehaves on purpose; R101 and on are the
 * scenarios of the ordered core's catalogue. */
#include <errno.h>
#include <stdio.h>

#include "unit.h"
#include "wal/wal_state.h"
#include "wal_disk.h"

/* Entries 1 .. n of the list, in order, and no other. */
static void expect_entries(const struct kept_list *list, uint64_t from, uint64_t upto)
{
    uint64_t next = from;

    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].record.kind != WAL_ENTRY) continue;
        assert_int_equal(kept_serial(&list->at[i]), next);
        next++;
    }
    assert_int_equal(next, upto + 1);
}

static void entries_put(struct world *w, uint64_t from, uint64_t upto, size_t len)
{
    for (uint64_t i = from; i <= upto; i++)
        world_entry(w, 1, i, i, len);
    world_run(w);
}

/* Whether somebody needs the oldest segment. */
static bool is_pinned(const struct world *w)
{
    if (w->wal->n_segments < 2) return false;
    struct wal_segment oldest = w->wal->segments[0]; /* a copy: its cursor would move */
    return wal_segment_pinned(w->wal, &oldest);
}

static void restart(struct world *w)
{
    world_stop(w);
    world_start(w);
}

static struct disk_file *only_file_with(struct world *w, const char *magic)
{
    for (uint32_t i = 0; i < w->disk->n_files; i++)
        if (w->disk->files[i].there && memcmp(w->disk->files[i].cached, magic, 6) == 0)
            return &w->disk->files[i];
    return NULL;
}

static void a_new_log_opens_empty_and_makes_a_spare(void **state)
{
    (void)state;
    struct world *w = world_new(1, 4096);
    world_start(w);

    assert_true(w->opened);
    assert_int_equal(w->recovered.n, 0);
    assert_false(w->torn);
    world_run(w);
    assert_int_equal(w->disk->n_files, 1);
    world_free(w);
}

static void what_was_synced_comes_back_in_order(void **state)
{
    (void)state;
    struct world *w = world_new(2, 4096);
    world_start(w);
    entries_put(w, 1, 300, 40);
    assert_int_equal(w->durable, w->wal->end);

    world_stop(w);
    disk_crash(w->disk, DISK_LOSE_ALL);
    world_start(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 0);
    assert_false(w->torn);
    expect_entries(&w->recovered, 1, 300);
    /* And the log goes on where it ended. */
    entries_put(w, 301, 400, 40);
    restart(w);
    expect_entries(&w->recovered, 1, 400);
    world_free(w);
}

/* R104: nothing is called durable before its sync. */
static void durable_moves_with_the_sync_and_not_with_the_write(void **state)
{
    (void)state;
    struct world *w = world_new(3, 4096);
    world_start(w);
    entries_put(w, 1, 3, 40);
    const uint64_t before = w->durable;
    world_entry(w, 1, 4, 4, 40);
    world_turn(w);
    assert_int_equal(w->durable, before);
    assert_true(world_perform(w)); /* write */
    assert_int_equal(w->durable, before);
    assert_true(world_perform(w)); /* sync */
    assert_int_equal(w->durable, w->wal->end);
    world_free(w);
}

static void the_mutant_that_calls_it_durable_early_is_seen(void **state)
{
    (void)state;
    struct world *w = world_new(3, 4096);
    w->config.bug_durable_before_sync = true;
    world_start(w);
    entries_put(w, 1, 3, 40);
    world_entry(w, 1, 4, 4, 40);
    world_turn(w);
    assert_true(world_perform(w));
    assert_int_equal(w->durable, w->wal->end);
    world_free(w);
}

/* R116: what arrives in one turn, of whichever group, leaves with one write and one
 * sync. */
static void one_write_and_one_sync_serve_all_groups(void **state)
{
    (void)state;
    struct world *w = world_new(4, 1 << 16);
    world_start(w);
    entries_put(w, 1, 1, 8);
    for (uint32_t g = 1; g <= 20; g++)
        world_entry(w, g, g == 1 ? 2 : 1, g, 8);
    const uint64_t before = w->disk->n_ops;
    world_run(w);
    assert_int_equal(w->disk->n_ops - before, 2);
    world_free(w);
}

/* R116: a truncation in one group leaves the others alone. */
static void a_truncation_is_one_groups_own(void **state)
{
    (void)state;
    struct world *w = world_new(5, 4096);
    world_start(w);
    for (uint64_t i = 1; i <= 100; i++) {
        world_entry(w, 1, i, i, 20);
        world_entry(w, 2, i, 1000 + i, 20);
    }
    for (uint64_t i = 50; i <= 60; i++)
        world_entry(w, 1, i, 5000 + i, 20);
    world_run(w);
    for (int round = 0; round < 2; round++) {
        world_read(w, 1, 40, 100, 1 << 20);
        assert_int_equal(w->read.n, 21);
        for (uint64_t i = 0; i < 21; i++)
            assert_int_equal(kept_serial(&w->read.at[i]), i < 10 ? 40 + i : 5040 + i);
        world_read(w, 2, 40, 100, 1 << 20);
        assert_int_equal(w->read.n, 61);
        assert_int_equal(kept_serial(&w->read.at[60]), 1100);
        restart(w); /* and the index comes back with recovery */
    }
    world_free(w);
}

/* R101: the last record torn at every byte of it; what was acknowledged before is
 * whole. */
static void a_torn_last_record_is_cut_at_every_byte(void **state)
{
    (void)state;
    const uint64_t size = wal_record_size(48);
    for (uint64_t cut = 0; cut < size; cut++) {
        struct world *w = world_new(6, 4096);
        world_start(w);
        entries_put(w, 1, 5, 40);
        world_entry(w, 1, 6, 6, 40);
        world_turn(w);
        struct wal_op write = w->queue[w->queue_at];
        assert_int_equal(write.kind, WAL_OP_WRITE);
        struct disk_file *f = disk_find(w->disk, write.file);
        memcpy(f->cached + write.offset, write.data.at, cut);

        world_stop(w);
        world_start(w);
        assert_true(w->opened);
        assert_int_equal(w->n_damage, 0);
        expect_entries(&w->recovered, 1, 5);
        entries_put(w, 6, 9, 40);
        restart(w);
        assert_int_equal(w->n_damage, 0);
        expect_entries(&w->recovered, 1, 9);
        world_free(w);
    }
}

/* What lay behind a cut does not come back once the space before it is filled again. */
static void records_behind_a_cut_never_come_back(void **state)
{
    (void)state;
    struct world *w = world_new(7, 8192);
    world_start(w);
    entries_put(w, 1, 5, 40);
    for (uint64_t i = 6; i <= 12; i++)
        world_entry(w, 1, i, i, 40);
    world_turn(w);
    struct wal_op write = w->queue[w->queue_at];
    struct disk_file *f = disk_find(w->disk, write.file);
    memcpy(f->cached + write.offset, write.data.at, write.length);
    memset(f->cached + write.offset, 0xaa, 100); /* the first record did not arrive */

    restart(w);
    assert_true(w->torn);
    assert_int_equal(w->n_damage, 0);
    expect_entries(&w->recovered, 1, 5);
    world_entry(w, 1, 6, 6,
                40); /* of the same size and in the same place as the lost one */
    world_run(w);
    restart(w);
    expect_entries(&w->recovered, 1, 6);
    assert_int_equal(w->n_damage, 0);
    world_free(w);
}

/* Flips each byte of [from, upto) of the only live file and hands the world to
 * `judge`. */
static void flip_each(struct world *w, uint64_t from, uint64_t upto,
                      void (*judge)(struct world *w, uint64_t at))
{
    struct disk *clean = disk_copy(w->disk);

    for (uint64_t at = from; at < upto; at++) {
        world_stop(w);
        disk_free(w->disk);
        w->disk = disk_copy(clean);
        struct disk_file *f = only_file_with(w, "SNTWAL");
        f->cached[at] ^= (uint8_t)(1 + prng_below(&w->disk->prng, 255));
        memcpy(f->durable, f->cached, f->length);
        world_start(w);
        judge(w, at);
    }
    disk_free(clean);
}

static void expect_damage_but_all_others(struct world *w, uint64_t lost, uint64_t upto)
{
    assert_true(w->opened);
    assert_false(w->torn);
    assert_int_equal(w->n_damage, 1);
    uint64_t next = 1;
    for (size_t i = 0; i < w->recovered.n; i++) {
        if (w->recovered.at[i].record.kind != WAL_ENTRY) continue;
        if (next == lost) next++;
        assert_int_equal(kept_serial(&w->recovered.at[i]), next);
        next++;
    }
    if (next == lost) next++;
    assert_int_equal(next, upto + 1);
}

static void judge_middle(struct world *w, uint64_t at)
{
    (void)at;
    expect_damage_but_all_others(w, 5, 9);
    assert_int_equal(w->damage[0].upto.v - w->damage[0].from.v, wal_record_size(45));
}

/* R102: a flip in an acknowledged record is damage, and neither what is before nor
 * what is behind it is lost. */
static void a_flip_in_a_synced_record_is_damage_at_every_byte(void **state)
{
    (void)state;
    struct world *w = world_new(8, 4096);
    world_start(w);
    entries_put(w, 1, 8, 37);
    entries_put(w, 9, 9, 37);
    const uint64_t size = wal_record_size(45);
    flip_each(w, 64 + 4 * size, 64 + 5 * size, judge_middle);
    world_free(w);
}

static void judge_last(struct world *w, uint64_t at)
{
    (void)at;
    expect_damage_but_all_others(w, 9, 9);
}

/* R102: after a MARK not even the last batch can be taken for a torn tail. */
static void a_flip_in_the_last_batch_is_damage_once_marked(void **state)
{
    (void)state;
    struct world *w = world_new(9, 4096);
    world_start(w);
    entries_put(w, 1, 9, 37);
    world_idle(w);
    const uint64_t size = wal_record_size(45);
    flip_each(w, 64 + 8 * size, 64 + 9 * size, judge_last);
    world_free(w);
}

static void judge_torn(struct world *w, uint64_t at)
{
    (void)at;
    assert_int_equal(w->n_damage, 0);
    assert_true(kept_entries(&w->recovered) < 9);
}

static void the_mutant_that_cuts_at_damage_is_seen(void **state)
{
    (void)state;
    struct world *w = world_new(9, 4096);
    w->config.bug_tail_damage_is_torn = true;
    world_start(w);
    entries_put(w, 1, 9, 37);
    world_idle(w);
    flip_each(w, 64 + 3 * wal_record_size(45) + 20, 64 + 3 * wal_record_size(45) + 24,
              judge_torn);
    world_free(w);
}

static void cut_file(struct world *w, uint32_t file, uint64_t length)
{
    struct disk_file *f = disk_find(w->disk, file);

    world_stop(w);
    f->length = length;
}

/* What a group has of the newest entries, in a row from `from` on, and its last index. */
static void expect_no_revival(struct world *w, uint64_t kept, uint64_t added)
{
    uint64_t next = 1;

    for (size_t i = 0; i < w->recovered.n; i++) {
        if (w->recovered.at[i].record.kind != WAL_ENTRY) continue;
        const uint64_t serial = kept_serial(&w->recovered.at[i]);
        assert_int_equal(serial, next <= kept ? next : 1000 + next);
        next++;
    }
    assert_int_equal(next, kept + added + 1);
}

static void judge_lost_end(struct world *w, uint64_t cut, uint64_t n, uint64_t size)
{
    const uint64_t end = WAL_SEGMENT_HEAD + n * size;
    const uint64_t whole = cut < WAL_SEGMENT_HEAD ? 0 : (cut - WAL_SEGMENT_HEAD) / size;
    const uint64_t kept = whole < n ? whole : n;

    world_start(w);
    assert_true(w->opened);
    assert_false(w->torn);
    /* An empty file may be one that was never finished. */
    assert_int_equal(w->n_damage, cut > 0 && cut < end + WAL_RECORD_HEAD);
    expect_no_revival(w, kept, 0);
    if (w->n_damage > 0) {
        assert_int_equal(w->damage[0].from.v, WAL_LSN_FIRST + kept * size);
        assert_true(w->damage[0].upto.v >= WAL_LSN_FIRST + n * size || cut < 64);
    }
    /* The log goes on, in other files; and the hole is found again until nobody needs
     * what is left of this one. */
    for (uint64_t i = kept + 1; i <= kept + 4; i++)
        world_entry(w, 1, i, 1000 + i, 40);
    world_run(w);
    restart(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, cut > 0 && cut < end + WAL_RECORD_HEAD);
    expect_no_revival(w, kept, 4);
}

static void rolled_over(struct world *w, uint64_t from)
{
    for (uint64_t i = from; i < from + 400; i++) {
        world_entry(w, 1, i, i, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
        world_run(w);
    }
    restart(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 0);
    for (uint32_t i = 0; i < w->disk->n_files; i++)
        assert_true(!w->disk->files[i].there || w->disk->files[i].length == 4096);
}

/* R101, R102: a file is as long as it was made; one that is shorter has lost its end, and
 * with it perhaps what was acknowledged.  Everything that is still there whole comes back,
 * and what was lost is not called a torn tail: its head says how long the file was. */
static void a_file_that_lost_its_end_is_damage_at_every_byte(void **state)
{
    (void)state;
    const uint64_t n = 5, size = wal_record_size(48);
    for (uint64_t cut = 0; cut < 4096; cut++) {
        struct world *w = world_new(31, 4096);
        world_start(w);
        entries_put(w, 1, n, 40);
        cut_file(w, wal_segment_last(w->wal)->file, cut);
        judge_lost_end(w, cut, n, size);
        if (cut % 16 == 0) rolled_over(w, 10);
        world_free(w);
    }
}

/* The same where an earlier life lies below, and the cut is in a segment that is not the
 * last. */
static void an_older_file_that_lost_its_end_is_damage_where_records_were(void **state)
{
    (void)state;
    for (uint64_t cut = 8; cut < 4096; cut += 56) {
        struct world *w = world_new(32, 4096);
        world_start(w);
        for (uint64_t i = 1; i <= 400; i++) {
            world_entry(w, 1, i, i, 40);
            if (i < 300) wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
            world_run(w);
        }
        const struct wal_segment *s = &w->wal->segments[1];
        const uint64_t end = wal_offset_of(s, s->end), base = s->base;
        cut_file(w, s->file, cut);
        world_start(w);
        if (cut < WAL_SEGMENT_HEAD) { /* its number is gone with its head */
            assert_int_equal(w->open_error, WAL_OPEN_GAP);
        } else {
            assert_true(w->opened);
            assert_int_equal(w->n_damage, cut < end);
            if (cut < end) assert_true(w->damage[0].from.v >= base);
            assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, 400);
        }
        world_free(w);
    }
}

static void judge_head(struct world *w, uint64_t at)
{
    (void)at;
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 1);
    expect_entries(&w->recovered, 1, 9);
}

static void a_flip_in_a_segments_head_is_damage_and_loses_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(10, 4096);
    world_start(w);
    entries_put(w, 1, 9, 37);
    world_idle(w);
    flip_each(w, 0, 64, judge_head);
    world_free(w);
}

/* R102: damage in a segment that is not the last, over a whole sector. */
static void damage_in_an_older_segment_is_reported_with_its_range(void **state)
{
    (void)state;
    struct world *w = world_new(11, 4096);
    world_start(w);
    entries_put(w, 1, 200, 40);
    struct wal_segment second = w->wal->segments[1];
    memset(disk_find(w->disk, second.file)->cached + 1024, 0x5a, 512);
    restart(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 1);
    assert_int_equal(w->damage[0].file, second.file);
    assert_true(w->damage[0].from.v >= second.base);
    assert_true(w->damage[0].upto.v - w->damage[0].from.v >= 512);
    assert_true(w->damage[0].upto.v - w->damage[0].from.v <=
                512 + 2 * wal_record_size(48));
    assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, 200);
    world_free(w);
}

/* R105: after a failed sync nothing more is tried, and a second success proves
 * nothing. */
static void a_failed_sync_is_the_end(void **state)
{
    (void)state;
    struct world *w = world_new(12, 4096);
    world_start(w);
    entries_put(w, 1, 3, 40);
    const uint64_t before = w->durable;
    world_entry(w, 1, 4, 4, 40);
    w->disk->error_at = w->disk->n_ops + 2;
    world_run(w);
    assert_true(w->failed);
    assert_non_null(strstr(w->out.failed_text, "sync"));
    assert_int_equal(w->durable, before);
    world_run(w);
    assert_true(w->failed);
    assert_int_equal(w->out.n_ops, 0);
    assert_int_equal(w->durable, before);
    assert_false(wal_room(w->wal));
    world_free(w);
}

/* R106: what was read may have come from a cache; it is written and synced again
 * before the log opens, so a power cut right behind takes nothing. */
static void what_a_restart_has_seen_is_made_durable_first(void **state)
{
    (void)state;
    struct world *w = world_new(13, 4096);
    world_start(w);
    entries_put(w, 1, 3, 40);
    world_entry(w, 1, 4, 4, 40);
    world_turn(w);
    assert_true(world_perform(w)); /* written, and then the process dies */
    restart(w);
    expect_entries(&w->recovered, 1, 4);
    world_stop(w);
    disk_crash(w->disk, DISK_LOSE_ALL);
    world_start(w);
    expect_entries(&w->recovered, 1, 4);
    world_free(w);
}

/* R107: a record in another's place is not taken for it. */
static void a_misdirected_record_is_not_believed(void **state)
{
    (void)state;
    struct world *w = world_new(14, 4096);
    world_start(w);
    entries_put(w, 1, 9, 40);
    world_idle(w);
    const uint64_t size = wal_record_size(48);
    uint8_t *bytes = only_file_with(w, "SNTWAL")->cached;
    memcpy(bytes + 64 + 2 * size, bytes + 64 + 6 * size, size);
    restart(w);
    expect_damage_but_all_others(w, 3, 9);
    world_free(w);
}

/* R107: a write that the disk lost, in a segment with an earlier life below. */
static void a_lost_write_over_an_earlier_life_is_damage(void **state)
{
    (void)state;
    struct world *w = world_new(15, 4096);
    world_start(w);
    for (uint64_t i = 1; i <= 400; i++) {
        world_entry(w, 1, i, i, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
        world_run(w);
    }
    struct wal_segment *last = wal_segment_last(w->wal);
    struct disk_file *f = disk_find(w->disk, last->file);
    uint8_t stale[512];
    memcpy(stale, f->cached + 1024, sizeof stale);
    const uint64_t seq = last->seq;
    uint64_t at = 400;
    while (wal_segment_last(w->wal)->seq == seq ||
           wal_segment_last(w->wal)->file != f->file ||
           wal_segment_last(w->wal)->end - wal_segment_last(w->wal)->base < 2048) {
        at++;
        world_entry(w, 1, at, at, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){at});
        world_run(w);
    }
    world_idle(w);
    memcpy(f->cached + 1024, stale, sizeof stale);
    restart(w);
    assert_true(w->opened);
    assert_false(w->torn);
    assert_int_equal(w->n_damage, 1);
    assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, at);
    world_free(w);
}

/* R109: no room for a new segment: what is acknowledged stays, what waits waits, and it
 * goes on when there is room again. */
static void a_full_disk_refuses_and_recovers(void **state)
{
    (void)state;
    struct world *w = world_new(16, 4096);
    w->disk->bytes_max = 3 * 4096 + 2048;
    world_start(w);
    uint64_t n = 0;
    while (!w->full) {
        n++;
        world_entry(w, 1, n, n, 40);
        world_run(w);
        assert_true(n < 1000);
    }
    const uint64_t durable = w->durable;
    assert_false(wal_room(w->wal));
    assert_false(w->failed);
    world_run(w);
    assert_true(w->full);
    wal_retry(w->wal);
    world_run(w);
    assert_true(w->full);
    assert_int_equal(w->durable, durable);

    w->disk->bytes_max = 0;
    wal_retry(w->wal);
    world_run(w);
    assert_false(w->full);
    assert_true(wal_room(w->wal));
    assert_int_equal(w->durable, w->wal->end);
    restart(w);
    expect_entries(&w->recovered, 1, n);
    world_free(w);
}

/* No descriptor for a new segment is no room for it, and no damage. */
static void without_descriptors_it_waits(void **state)
{
    static const int errors[] = {EMFILE, ENFILE};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *w = world_new(18, 4096);
        world_start(w);
        w->disk->create_error = errors[i];
        uint64_t n = 0;
        while (!w->full) {
            n++;
            world_entry(w, 1, n, n, 40);
            world_run(w);
            assert_false(w->failed);
            assert_true(n < 1000);
        }
        w->disk->create_error = 0;
        wal_retry(w->wal);
        world_run(w);
        assert_true(wal_room(w->wal));
        assert_int_equal(w->durable, w->wal->end);
        restart(w);
        expect_entries(&w->recovered, 1, n);
        world_free(w);
    }
}

/* A disk that stands still: who proposes is told when enough waits for it. */
static void there_is_room_for_no_more_than_a_batch_behind_a_disk_that_stands_still(
    void **state)
{
    (void)state;
    struct world *w = world_new(36, 1 << 20);
    uint64_t n = 3;
    world_start(w);
    entries_put(w, 1, n, 40);
    for (; wal_room(w->wal); n++) {
        world_entry(w, 1, n + 1, n + 1, 150);
        world_turn(w);
        assert_true(n < 1000);
    }
    assert_true(wal_backlog(w->wal) >= w->config.batch_bytes_max);
    assert_true(wal_backlog(w->wal) <= w->config.batch_bytes_max + 4096);
    world_run(w);
    assert_true(wal_room(w->wal));
    restart(w);
    expect_entries(&w->recovered, 1, n);
    world_free(w);
}

/* R109: segments that nobody needs any more are room too. */
static void a_full_disk_is_freed_by_a_release(void **state)
{
    (void)state;
    struct world *w = world_new(17, 4096);
    w->config.keep_bytes = 1 << 20;
    w->disk->bytes_max = 3 * 4096 + 2048;
    world_start(w);
    uint64_t n = 0;
    while (!w->full) {
        n++;
        world_entry(w, 1, n, n, 40);
        world_run(w);
    }
    assert_true(is_pinned(w));
    assert_true(w->wal->bytes_held >= 3 * 4096);
    wal_release(w->wal, (struct group_id){1}, (struct log_index){n - 1});
    world_run(w);
    assert_false(w->full);
    assert_int_equal(w->durable, w->wal->end);
    restart(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 0);
    assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, n);
    world_free(w);
}

static size_t files_there(const struct disk *disk)
{
    size_t n = 0;
    for (uint32_t i = 0; i < disk->n_files; i++)
        n += disk->files[i].there;
    return n;
}

/* What a checkpoint lacks, the log does not take: it ends with its segment, gives up spare files
 * and what it keeps for followers, and goes on when the store has its room. */
static void it_makes_way_for_the_store(void **state)
{
    (void)state;
    struct world *w = world_new(37, 4096);
    w->config.keep_bytes = 1 << 20;
    world_start(w);
    uint64_t n = 0;
    while (w->wal->n_segments < 4 || w->wal->n_spares == 0) {
        n++;
        world_entry(w, 1, n, n, 40);
        world_run(w);
        assert_true(n < 1000);
    }
    wal_make_way(w->wal, true);
    world_run(w);
    assert_int_equal(w->wal->n_spares, 0);
    assert_int_equal(w->wal->n_segments, 4); /* all are needed */
    assert_true(wal_room(w->wal));           /* to the end of the last one */
    while (!w->full) {
        n++;
        world_entry(w, 1, n, n, 40);
        world_run(w);
        assert_true(n < 1000);
    }
    wal_retry(w->wal);
    world_run(w);
    assert_true(w->full);
    assert_false(wal_room(w->wal));
    const size_t files = files_there(w->disk);
    wal_release(w->wal, (struct group_id){1}, (struct log_index){n - 1});
    world_run(w);
    assert_false(w->full); /* in a file that is there already */
    assert_true(files_there(w->disk) <= files);
    for (uint64_t upto = n + 500; n < upto && !w->full;) {
        n++;
        world_entry(w, 1, n, n, 40);
        world_run(w);
        assert_true(files_there(w->disk) <= files);
    }
    assert_true(w->full);
    wal_make_way(w->wal, false);
    wal_retry(w->wal);
    world_run(w);
    assert_false(w->full);
    assert_int_equal(w->durable, w->wal->end);
    restart(w);
    assert_true(w->opened);
    assert_int_equal(w->n_damage, 0);
    assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, n);
    world_free(w);
}

/* R111: a missing segment is named and the log does not open. */
static void a_missing_segment_is_refused_by_number(void **state)
{
    (void)state;
    for (size_t gone = 0; gone < 2; gone++) {
        struct world *w = world_new(18, 4096);
        char want[64];
        world_start(w);
        entries_put(w, 1, 200, 40);
        struct disk_file *f = disk_find(w->disk, w->wal->segments[gone].file);
        world_stop(w);
        f->there = false;
        world_start(w);
        f->there = true;
        assert_false(w->opened);
        assert_int_equal(w->open_error, WAL_OPEN_GAP);
        snprintf(want, sizeof want, "segment %zu is missing", gone + 1);
        assert_non_null(strstr(w->open_text, want));
        world_free(w);
    }
}

static void a_foreign_and_a_newer_log_are_refused(void **state)
{
    (void)state;
    struct world *w = world_new(19, 4096);
    world_start(w);
    entries_put(w, 1, 5, 40);
    world_stop(w);
    w->config.server.v = 4;
    world_start(w);
    assert_int_equal(w->open_error, WAL_OPEN_FOREIGN);
    world_free(w);
}

static void an_unreadable_head_is_refused(void **state)
{
    (void)state;
    struct world *w = world_new(20, 4096);
    world_start(w);
    entries_put(w, 1, 5, 40);
    w->disk->unreadable_file = wal_segment_last(w->wal)->file;
    w->disk->unreadable_upto = 10;
    restart(w);
    assert_int_equal(w->open_error, WAL_OPEN_IO);
    world_free(w);
}

/* A part that the disk does not give back is damage, never a torn tail. */
static void an_unreadable_part_is_damage(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        struct world *w = world_new(21, 1 << 16);
        world_start(w);
        entries_put(w, 1, 300, 100);
        w->disk->unreadable_file = wal_segment_last(w->wal)->file;
        w->disk->unreadable_from = last ? 64 + wal_record_size(108) * 295 + 30 : 20000;
        w->disk->unreadable_upto = w->disk->unreadable_from + (last ? 4096 : 10);
        if (!last) world_idle(w);
        restart(w);
        assert_true(w->opened);
        assert_false(w->torn && last == 0);
        assert_int_equal(w->n_damage, 1);
        assert_int_equal(w->recovered.at[0].record.index.v, 1);
        if (!last)
            assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, 300);
        else
            assert_true(kept_entries(&w->recovered) >= 270);
        world_free(w);
    }
}

/* All of the log is unreadable, at one start only.  Until the caller's word about that is on
 * disk the segment stays: a later start finds what it held, or that word. */
static void what_showed_damage_stays_until_the_callers_word_is_durable(void **state)
{
    (void)state;
    const struct wal_record doubt = {.kind = WAL_STATE, .group = {1}, .term = {9}};
    bool powered = false;
    for (uint64_t nth = 1; !powered; nth++) {
        struct world *w = world_new(33, 4096);
        world_start(w);
        entries_put(w, 1, 5, 40);
        w->disk->unreadable_file = wal_segment_last(w->wal)->file;
        w->disk->unreadable_from = 64;
        w->disk->unreadable_upto = 4096;
        restart(w);
        assert_true(w->opened);
        assert_true(w->n_damage > 0);
        assert_int_equal(w->recovered.n, 0);
        w->disk->crash_at = w->disk->n_ops + nth;
        world_append(w, &doubt);
        world_run(w);
        world_idle(w);
        powered = w->powered;

        w->disk->unreadable_file = UINT64_MAX;
        w->disk->crash_at = 0;
        world_stop(w);
        disk_crash(w->disk, DISK_LOSE_SOME);
        world_start(w);
        assert_true(w->opened);
        bool said = false;
        for (size_t i = 0; i < w->recovered.n; i++)
            said = said || w->recovered.at[i].record.kind == WAL_STATE;
        assert_true(said || kept_entries(&w->recovered) == 5);
        world_free(w);
    }
}

/* A segment opens with every group's state and base, so the older ones can go. */
static void state_and_base_outlive_their_segments(void **state)
{
    (void)state;
    struct world *w = world_new(22, 4096);
    world_start(w);
    struct wal_record r = {
        .kind = WAL_STATE, .group = {7}, .term = {9}, .body = BYTES_OF("vote3")};
    world_append(w, &r);
    r = (struct wal_record){.kind = WAL_BASE,
                            .group = {7},
                            .index = {42},
                            .term = {8},
                            .body = BYTES_OF("\1base")};
    world_append(w, &r);
    world_entry(w, 7, 43, 43, 8);
    wal_release(w->wal, (struct group_id){7}, (struct log_index){43});
    for (uint64_t i = 1; i <= 1000; i++) {
        world_entry(w, 1, i, i, 40);
        if (i > 30) wal_release(w->wal, (struct group_id){1}, (struct log_index){i - 30});
        world_run(w);
    }
    assert_true(w->wal->segments[0].seq > 5);
    assert_true(w->disk->n_files <= 5); /* recycled, not made anew */
    restart(w);
    assert_int_equal(w->n_damage, 0);
    bool seen_state = false, seen_base = false;
    for (size_t i = 0; i < w->recovered.n; i++) {
        const struct wal_record *got = &w->recovered.at[i].record;
        if (got->group.v != 7) continue;
        if (got->kind == WAL_STATE) {
            seen_state = true;
            assert_int_equal(got->term.v, 9);
            assert_true(bytes_equal(got->body, BYTES_OF("vote3")));
        } else {
            seen_base = true;
            assert_int_equal(got->kind, WAL_BASE);
            assert_int_equal(got->index.v, 42);
            assert_true(bytes_equal(got->body, BYTES_OF("\0base"))); /* clears no more */
        }
    }
    assert_true(seen_state && seen_base);
    world_free(w);
}

static void a_forgotten_group_pins_nothing_and_is_not_carried_on(void **state)
{
    (void)state;
    struct world *w = world_new(23, 4096);
    world_start(w);
    const struct wal_record vote = {.kind = WAL_STATE, .group = {2}, .term = {1}};
    world_append(w, &vote);
    world_entry(w, 2, 1, 1, 40);
    for (uint64_t i = 1; i <= 100; i++)
        world_entry(w, 1, i, i, 40);
    world_run(w);
    wal_release(w->wal, (struct group_id){1}, (struct log_index){100});
    world_run(w);
    assert_true(is_pinned(w));
    const struct wal_record forget = {.kind = WAL_FORGET, .group = {2}};
    world_append(w, &forget);
    world_run(w);
    assert_false(is_pinned(w));
    for (uint64_t i = 101; i <= 300; i++) {
        world_entry(w, 1, i, i, 40);
        world_run(w);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
    }
    restart(w);
    for (size_t i = 0; i < w->recovered.n; i++)
        assert_int_equal(w->recovered.at[i].record.group.v, 1);
    world_free(w);
}

/* What a deposed primary had written, and nobody takes from it: its group stays shorter than
 * that for as long as it likes. */
static void a_truncated_tail_pins_the_log_no_longer_than_what_truncated_it(void **state)
{
    (void)state;
    struct world *w = world_new(34, 4096);
    world_start(w);
    entries_put(w, 1, 200, 40);
    wal_release(w->wal, (struct group_id){1}, (struct log_index){20});
    /* Truncated twice, and each of these has a segment to itself. */
    for (uint64_t i = 21; i <= 25; i++)
        world_entry(w, 1, i, 1000 + i, 3000);
    for (uint64_t i = 22; i <= 25; i++)
        world_entry(w, 1, i, 2000 + i, 40);
    world_run(w);
    const uint64_t tail = wal_segment_last(w->wal)->seq - 5;
    assert_true(is_pinned(w));
    assert_true(w->wal->segments[0].seq < tail);
    wal_release(w->wal, (struct group_id){1}, (struct log_index){22});
    world_run(w);
    assert_true(w->wal->segments[0].seq > tail); /* though 25 is not released */
    restart(w);
    assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, 25);
    assert_int_equal(kept_serial(&w->recovered.at[w->recovered.n - 1]), 2025);

    wal_release(w->wal, (struct group_id){1}, (struct log_index){25});
    for (uint64_t i = 1; i <= 300; i++) {
        world_entry(w, 2, i, i, 40);
        world_run(w);
        wal_release(w->wal, (struct group_id){2}, (struct log_index){i});
    }
    assert_true(w->wal->bytes_held <= 3 * 4096);
    world_free(w);
}

/* ... and within one segment. */
static void a_tail_truncated_in_its_own_segment_pins_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(35, 8192);
    world_start(w);
    entries_put(w, 1, 20, 40);
    entries_put(w, 11, 12, 40);
    for (uint64_t i = 1; i <= 100; i++)
        world_entry(w, 2, i, i, 40);
    world_run(w);
    wal_release(w->wal, (struct group_id){2}, (struct log_index){100});
    assert_true(is_pinned(w));
    wal_release(w->wal, (struct group_id){1}, (struct log_index){12});
    assert_false(is_pinned(w));
    world_free(w);
}

static void a_record_larger_than_a_segment_gets_its_own(void **state)
{
    (void)state;
    struct world *w = world_new(24, 4096);
    world_start(w);
    entries_put(w, 1, 10, 40);
    world_entry(w, 1, 11, 11, 50000);
    entries_put(w, 12, 30, 40);
    assert_int_equal(w->durable, w->wal->end);
    restart(w);
    expect_entries(&w->recovered, 1, 30);
    assert_true(w->disk->n_read_bytes_max < 60000);
    world_read(w, 1, 9, 13, 1 << 20);
    assert_int_equal(kept_serial(&w->read.at[0]), 9);
    world_read(w, 1, 11, 11, 10);
    assert_int_equal(w->read.n, 1); /* one at least, however large */
    assert_int_equal(w->read.at[0].record.body.len, 50008);
    /* It is removed and not recycled. */
    for (uint64_t i = 31; i <= 300; i++) {
        world_entry(w, 1, i, i, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
        world_run(w);
    }
    for (uint32_t i = 0; i < w->disk->n_files; i++)
        assert_true(!w->disk->files[i].there || w->disk->files[i].length == 4096);
    world_free(w);
}

/* A file that was being made when the power went is a spare or nothing, never damage. */
static void an_unfinished_file_is_no_damage(void **state)
{
    (void)state;
    for (uint64_t length = 0; length <= 4096; length += 256) {
        struct world *w = world_new(25, 4096);
        world_start(w);
        entries_put(w, 1, 5, 40);
        world_stop(w);
        disk_add(w->disk, 99, length);
        world_start(w);
        expect_entries(&w->recovered, 1, 5);
        world_free(w);
    }
}

static void reads_give_what_was_asked_in_bounds(void **state)
{
    (void)state;
    struct world *w = world_new(26, 16384);
    world_start(w);
    for (uint64_t i = 1; i <= 1000; i++)
        world_entry(w, 1, i, i, 100);
    world_entry(w, 2, 1, 1, 100);
    world_read(w, 2, 1, 1, 100);
    assert_int_equal(w->read.n, 0);
    assert_false(
        w->read_failed); /* there, but not on disk yet: still in the asker's memory */
    world_run(w);
    uint64_t next = 1;
    while (next <= 1000) {
        world_read(w, 1, next, 1000, 3000);
        assert_true(w->read_done);
        assert_true(w->read.n > 0);
        for (size_t i = 0; i < w->read.n; i++)
            assert_int_equal(kept_serial(&w->read.at[i]), next++);
    }
    world_read(w, 1, 1001, 1005, 3000);
    assert_true(w->read_failed);
    world_read(w, 9, 1, 5, 3000);
    assert_true(w->read_failed);
    for (int i = 0; i < 40; i++)
        wal_read(w->wal, 1, (struct group_id){9}, (struct log_index){1},
                 (struct log_index){2}, 1);
    uint32_t answered = 0;
    for (int i = 0; i < 40; i++) {
        world_turn(w);
        answered += w->out.n_reads;
        assert_true(answered == 40 || w->out.wake.ns > 0);
    }
    assert_int_equal(answered, 40);
    world_free(w);
}

static void kept_bytes_stay_readable_until_they_go(void **state)
{
    (void)state;
    struct world *w = world_new(27, 4096);
    w->config.keep_bytes = 3 * 4096;
    world_start(w);
    for (uint64_t i = 1; i <= 500; i++) {
        world_entry(w, 1, i, i, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
        world_run(w);
    }
    assert_true(w->wal->bytes_held >= 3 * 4096 && w->wal->bytes_held <= 5 * 4096);
    world_read(w, 1, 450, 500, 1 << 20);
    assert_false(w->read_failed);
    assert_int_equal(w->read.n, 51);
    world_read(w, 1, 1, 500, 1 << 20);
    assert_true(w->read_failed);

    /* The newest segment may have just begun: what is kept lies before it. */
    const uint64_t begun = w->wal->segments[w->wal->n_segments - 1].seq;
    for (uint64_t i = 501; w->wal->segments[w->wal->n_segments - 1].seq == begun; i++) {
        world_entry(w, 1, i, i, 40);
        wal_release(w->wal, (struct group_id){1}, (struct log_index){i});
        world_run(w);
    }
    assert_true(w->wal->bytes_held >= 4 * 4096);
    world_free(w);
}

static void many_lives_leave_no_trace(void **state)
{
    (void)state;
    struct world *w = world_new(28, 2048);
    world_start(w);
    for (uint64_t i = 1; i <= 5000; i++) {
        world_entry(w, 1, i, i, prng_below(&w->disk->prng, 200));
        if (i > 3) wal_release(w->wal, (struct group_id){1}, (struct log_index){i - 3});
        world_run(w);
        if (i % 97 != 0) continue;
        restart(w);
        assert_true(w->opened);
        assert_false(w->torn);
        assert_int_equal(w->n_damage, 0);
        assert_int_equal(w->recovered.at[w->recovered.n - 1].record.index.v, i);
    }
    assert_true(w->disk->n_files < 12);
    world_free(w);
}

/* A large body is written from its block, and the disk shows life while it takes it in. */
static void a_body_in_a_block_is_synced_part_by_part(void **state)
{
    (void)state;
    const size_t len = 2 * WAL_SYNC_BYTES + 12345;
    struct world *w = world_new(30, 4096);
    world_start(w);
    entries_put(w, 1, 3, 40);
    const size_t used = w->mem.used;
    world_entry(w, 1, 4, 7, len);
    assert_true(w->mem.used < used + 2 * len); /* the block, and no copy of it */
    uint32_t syncs = 0;
    const uint64_t before = w->durable;
    world_turn(w);
    while (w->durable == before) {
        syncs += w->queue[w->queue_at].kind == WAL_OP_SYNC;
        assert_true(world_perform(w));
    }
    assert_int_equal(syncs, 1 + 3); /* the segment's head; each full part, and the rest */
    restart(w);
    assert_int_equal(w->n_damage, 0);
    const struct kept *last = &w->recovered.at[w->recovered.n - 1];
    assert_int_equal(last->record.index.v, 4);
    assert_int_equal(last->record.body.len, len + 8);
    assert_int_equal(kept_serial(last), 7);
    world_free(w);
}

/* The steady state asks for no memory. */
static void appending_allocates_nothing_once_warm(void **state)
{
    (void)state;
    struct world *w = world_new(29, 1 << 20);
    world_start(w);
    struct mem before = w->mem;
    for (uint64_t i = 1; i <= 700; i++) {
        world_entry(w, 1, i, i, 100);
        world_run(w);
        if (i == 600) before = w->mem;
    }
    assert_int_equal(w->mem.used, before.used);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_log_opens_empty_and_makes_a_spare),
        cmocka_unit_test(what_was_synced_comes_back_in_order),
        cmocka_unit_test(durable_moves_with_the_sync_and_not_with_the_write),
        cmocka_unit_test(the_mutant_that_calls_it_durable_early_is_seen),
        cmocka_unit_test(one_write_and_one_sync_serve_all_groups),
        cmocka_unit_test(a_truncation_is_one_groups_own),
        cmocka_unit_test(a_torn_last_record_is_cut_at_every_byte),
        cmocka_unit_test(records_behind_a_cut_never_come_back),
        cmocka_unit_test(a_flip_in_a_synced_record_is_damage_at_every_byte),
        cmocka_unit_test(a_flip_in_the_last_batch_is_damage_once_marked),
        cmocka_unit_test(the_mutant_that_cuts_at_damage_is_seen),
        cmocka_unit_test(a_file_that_lost_its_end_is_damage_at_every_byte),
        cmocka_unit_test(an_older_file_that_lost_its_end_is_damage_where_records_were),
        cmocka_unit_test(a_flip_in_a_segments_head_is_damage_and_loses_nothing),
        cmocka_unit_test(damage_in_an_older_segment_is_reported_with_its_range),
        cmocka_unit_test(a_failed_sync_is_the_end),
        cmocka_unit_test(what_a_restart_has_seen_is_made_durable_first),
        cmocka_unit_test(a_misdirected_record_is_not_believed),
        cmocka_unit_test(a_lost_write_over_an_earlier_life_is_damage),
        cmocka_unit_test(a_full_disk_refuses_and_recovers),
        cmocka_unit_test(without_descriptors_it_waits),
        cmocka_unit_test(
            there_is_room_for_no_more_than_a_batch_behind_a_disk_that_stands_still),
        cmocka_unit_test(a_full_disk_is_freed_by_a_release),
        cmocka_unit_test(it_makes_way_for_the_store),
        cmocka_unit_test(a_missing_segment_is_refused_by_number),
        cmocka_unit_test(a_foreign_and_a_newer_log_are_refused),
        cmocka_unit_test(an_unreadable_head_is_refused),
        cmocka_unit_test(an_unreadable_part_is_damage),
        cmocka_unit_test(what_showed_damage_stays_until_the_callers_word_is_durable),
        cmocka_unit_test(state_and_base_outlive_their_segments),
        cmocka_unit_test(a_forgotten_group_pins_nothing_and_is_not_carried_on),
        cmocka_unit_test(a_truncated_tail_pins_the_log_no_longer_than_what_truncated_it),
        cmocka_unit_test(a_tail_truncated_in_its_own_segment_pins_nothing),
        cmocka_unit_test(a_record_larger_than_a_segment_gets_its_own),
        cmocka_unit_test(an_unfinished_file_is_no_damage),
        cmocka_unit_test(reads_give_what_was_asked_in_bounds),
        cmocka_unit_test(kept_bytes_stay_readable_until_they_go),
        cmocka_unit_test(many_lives_leave_no_trace),
        cmocka_unit_test(a_body_in_a_block_is_synced_part_by_part),
        cmocka_unit_test(appending_allocates_nothing_once_warm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
