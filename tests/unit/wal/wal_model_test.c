/* SPDX-License-Identifier: Apache-2.0 */
/* The log beside a naive model of it, under random work, power cuts and full disks:
 * what was durable comes back, what comes back was written, and nothing that was cut
 * ever returns. */
#include <stdlib.h>

#include "unit.h"
#include "wal/wal_state.h"
#include "wal_disk.h"

enum { GROUPS = 4, SERIALS_MAX = 1 << 16, INDEX_MAX = 1 << 16 };

struct model {
    struct world *w;
    struct prng prng;
    uint64_t serial_next;
    /* The log: serial numbers of entries in the order of appending, with what they end
     * at. */
    uint64_t log[SERIALS_MAX], log_end[SERIALS_MAX], log_index[SERIALS_MAX];
    uint32_t log_group[SERIALS_MAX];
    size_t n_log;
    uint64_t entry[GROUPS][INDEX_MAX]; /* serial at each index */
    uint64_t last[GROUPS];
    uint64_t released[GROUPS];
    uint64_t state[GROUPS], state_durable[GROUPS], state_end[GROUPS]; /* terms */
};

static void entry_put(struct model *m, uint32_t group)
{
    uint64_t index = m->last[group] + 1;
    const uint64_t serial = m->serial_next++;

    if (index > m->released[group] + 3 && prng_below(&m->prng, 15) == 0)
        index -= 1 + prng_below(&m->prng, index - m->released[group] - 2);
    check(m->n_log < SERIALS_MAX && index < INDEX_MAX);
    m->log[m->n_log] = serial;
    m->log_group[m->n_log] = group;
    m->log_index[m->n_log] = index;
    m->entry[group][index] = serial;
    m->last[group] = index;
    const size_t len = prng_below(&m->prng, 200) == 0 ? 6000 : prng_below(&m->prng, 150);
    m->log_end[m->n_log++] = world_entry(m->w, group, index, serial, len);
}

static void state_put(struct model *m, uint32_t group)
{
    uint8_t body[8];
    const struct wal_record record = {
        .kind = WAL_STATE,
        .group = {group},
        .term = {++m->state[group]},
        .body = {body, sizeof body},
    };

    store_u64le(body, m->state[group]);
    m->state_end[group] = world_append(m->w, &record);
}

static void durable_note(struct model *m)
{
    for (uint32_t g = 0; g < GROUPS; g++)
        if (m->state_end[g] != 0 && m->state_end[g] <= m->w->durable)
            m->state_durable[g] = m->state[g];
}

static void read_check(struct model *m)
{
    struct world *w = m->w;
    const uint32_t group = (uint32_t)prng_below(&m->prng, GROUPS);

    if (m->last[group] <= m->released[group]) return;
    const uint64_t from = prng_range(&m->prng, m->released[group] + 1, m->last[group]);
    world_run(w);
    if (w->full || w->failed || !w->powered) return;
    world_read(w, group, from, m->last[group], prng_below(&m->prng, 20000));
    if (!w->powered || w->failed) return;
    assert_true(w->read_done);
    if (w->read_failed && w->disk->n_ops >= w->disk->error_at && w->disk->error_at > 0)
        return;
    assert_false(w->read_failed);
    assert_true(w->read.n > 0);
    for (size_t i = 0; i < w->read.n; i++) {
        assert_int_equal(w->read.at[i].record.index.v, from + i);
        assert_int_equal(kept_serial(&w->read.at[i]), m->entry[group][from + i]);
    }
}

static void work(struct model *m, uint32_t steps)
{
    struct world *w = m->w;

    for (uint32_t i = 0; i < steps && w->powered && !w->failed; i++) {
        const uint64_t dice = prng_below(&m->prng, 100);
        const uint32_t group = (uint32_t)prng_below(&m->prng, GROUPS);

        if (w->full && dice < 20) {
            if (w->disk->bytes_max > 0) w->disk->bytes_max += 8192;
            wal_retry(w->wal);
        }
        if (dice == 99) wal_make_way(w->wal, !w->wal->makes_way);
        if (dice < 60) {
            if (wal_room(w->wal)) entry_put(m, group);
        } else if (dice < 64) {
            if (wal_room(w->wal)) state_put(m, group);
        } else if (dice < 70) {
            if (m->last[group] > m->released[group] + 5)
                m->released[group] = m->last[group] - 5;
            wal_release(w->wal, (struct group_id){group},
                        (struct log_index){m->released[group]});
        } else if (dice < 74) {
            read_check(m);
        } else if (dice < 76) {
            world_idle(w);
        } else if (dice < 88) {
            world_turn(w);
        } else {
            for (uint64_t k = prng_below(&m->prng, 6); k > 0 && world_perform(w); k--)
                ;
        }
        durable_note(m);
    }
}

/* The model becomes what came back; what came back must be a whole run of the log. */
static void recovered_check(struct model *m, uint64_t durable, bool clean)
{
    struct world *w = m->w;
    uint64_t state[GROUPS] = {0};
    size_t at = SIZE_MAX;

    assert_true(w->opened);
    assert_int_equal(w->n_damage, 0);
    if (clean) assert_false(w->torn);
    for (size_t i = 0; i < w->recovered.n; i++) {
        const struct wal_record *record = &w->recovered.at[i].record;
        if (record->kind == WAL_STATE) state[record->group.v] = record->term.v;
        if (record->kind != WAL_ENTRY) continue;
        const uint64_t serial = kept_serial(&w->recovered.at[i]);
        if (at == SIZE_MAX)
            for (at = 0; at < m->n_log && m->log[at] != serial;)
                at++;
        assert_true(at < m->n_log);
        assert_int_equal(m->log[at], serial);
        assert_int_equal(m->log_index[at], record->index.v);
        at++;
    }
    size_t whole = 0; /* entries that were durable */
    while (whole < m->n_log && m->log_end[whole] <= durable)
        whole++;
    if (at == SIZE_MAX) at = whole;
    assert_true(at >= whole);
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_true(state[g] >= m->state_durable[g]);
        assert_true(state[g] <= m->state[g]);
        m->state[g] = m->state_durable[g] = state[g];
        m->state_end[g] = 0;
    }
    m->n_log = at;
    for (uint32_t g = 0; g < GROUPS; g++)
        m->last[g] = 0;
    for (size_t i = 0; i < m->n_log; i++) {
        m->entry[m->log_group[i]][m->log_index[i]] = m->log[i];
        m->last[m->log_group[i]] = m->log_index[i];
    }
    for (uint32_t g = 0; g < GROUPS; g++)
        if (m->released[g] > m->last[g]) m->released[g] = m->last[g];
    for (uint32_t g = 0; g < GROUPS; g++)
        wal_release(w->wal, (struct group_id){g}, (struct log_index){m->released[g]});
}

static void model_reset(struct model *m, uint64_t seed, uint64_t segment_bytes)
{
    memset(m, 0, sizeof *m);
    m->w = world_new(seed, segment_bytes);
    m->prng = prng_seed(seed * 7919);
    m->serial_next = 1;
}

static void lives(struct model *m, uint64_t seed)
{
    model_reset(m, seed, 2048 + 512 * (seed % 5));
    struct world *w = m->w;
    w->config.keep_bytes = seed % 3 == 0 ? 6000 : 0;
    if (seed % 4 == 0) w->disk->bytes_max = 12000;

    world_start(w);
    for (int life = 0; life < 12; life++) {
        bool clean = false;
        work(m, 60 + (uint32_t)prng_below(&m->prng, 200));
        switch (prng_below(&m->prng, 4)) {
        case 0: /* everything done, and a clean stop */
            wal_make_way(w->wal, false);
            world_run(w);
            durable_note(m);
            clean = !w->full && w->powered;
            break;
        case 1: disk_crash(w->disk, DISK_LOSE_ALL); break;
        default:
            if (prng_below(&m->prng, 3) > 0) disk_crash(w->disk, DISK_LOSE_SOME);
            break;
        }
        const uint64_t durable = w->durable;
        world_stop(w);
        /* A start may be cut short too. */
        if (prng_below(&m->prng, 3) == 0) {
            w->disk->crash_at = w->disk->n_ops + 1 + prng_below(&m->prng, 30);
            world_start(w);
            clean = false;
            world_stop(w);
            w->disk->crash_at = 0;
            disk_crash(w->disk, DISK_LOSE_SOME);
        }
        world_start(w);
        recovered_check(m, durable, clean);
    }
    world_free(w);
}

static void what_was_durable_comes_back_over_many_seeds(void **state)
{
    struct model *m = *state;

    for (uint64_t seed = 1; seed <= 300; seed++)
        lives(m, seed);
}

/* R112: the power goes at the n-th op, for n from 1 until the work ends before it
 * does. */
static void every_point_of_a_run_can_be_the_last(void **state)
{
    struct model *m = *state;
    bool ended = false;

    for (uint64_t n = 1; !ended; n++) {
        model_reset(m, 5, 2048);
        struct world *w = m->w;
        w->disk->crash_at = n;
        world_start(w);
        if (w->powered) work(m, 400);
        ended = w->powered;
        const uint64_t durable = w->durable;
        world_stop(w);
        w->disk->crash_at = 0;
        disk_crash(w->disk, DISK_LOSE_SOME);
        world_start(w);
        recovered_check(m, durable, false);
        work(m, 100);
        world_free(w);
        assert_true(n < 5000);
    }
}

/* R105: the n-th op fails instead, and the process ends and starts again. */
static void every_op_can_fail(void **state)
{
    struct model *m = *state;
    bool ended = false;

    for (uint64_t n = 1; !ended; n++) {
        model_reset(m, 9, 2048);
        struct world *w = m->w;
        w->disk->error_at = n;
        world_start(w);
        work(m, 400);
        ended = !w->failed && w->disk->n_ops < n;
        const uint64_t durable = w->durable;
        world_stop(w);
        w->disk->error_at = 0;
        if (n % 2 == 0) disk_crash(w->disk, DISK_LOSE_SOME);
        world_start(w);
        recovered_check(m, durable, false);
        world_free(w);
        assert_true(n < 5000);
    }
}

/* Flips one byte anywhere on the disk. */
static void flip_somewhere(struct model *m)
{
    struct disk *disk = m->w->disk;
    struct disk_file *f;

    do
        f = &disk->files[prng_below(&m->prng, disk->n_files)];
    while (!f->there || f->length == 0);
    f->cached[prng_below(&m->prng, f->length)] ^= (uint8_t)(1u
                                                            << prng_below(&m->prng, 8));
}

/* R102: wherever a bit flips, the log opens, says so if it was in use, and loses no
 * more than the one record that was hit. */
static void a_flip_anywhere_costs_one_record_at_most(void **state)
{
    struct model *m = *state;
    uint64_t n_damaged = 0, n_lost = 0;

    for (uint64_t seed = 1; seed <= 3200; seed++) {
        model_reset(m, seed, 2048 + 512 * (seed % 5));
        struct world *w = m->w;
        world_start(w);
        work(m, 200);
        wal_make_way(w->wal, false); /* there is a place for the last mark */
        wal_retry(w->wal);
        world_idle(w);
        world_stop(w);
        world_start(w);
        assert_int_equal(w->n_damage, 0);
        const size_t before = kept_entries(&w->recovered);
        world_stop(w);
        flip_somewhere(m);
        world_start(w);
        assert_true(w->opened);
        const size_t after = kept_entries(&w->recovered);
        /* More: a note was hit, and a segment that was over counts once more. */
        assert_true(after + 1 >= before);
        if (after > before) assert_int_equal(w->n_damage, 0);
        if (after < before) assert_true(w->n_damage > 0);
        if (w->torn) assert_int_equal(after, before); /* the last mark itself was hit */
        n_damaged += w->n_damage > 0;
        n_lost += after < before;
        world_entry(w, 1, 1, m->serial_next, 20);
        world_idle(w);
        assert_int_equal(w->durable, w->wal->end);
        world_free(w);
    }
    assert_true(n_damaged > 50);
    assert_true(n_lost > 20);
}

static int make(void **state)
{
    *state = malloc(sizeof(struct model));
    return *state == NULL;
}

static int unmake(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_durable_comes_back_over_many_seeds),
        cmocka_unit_test(every_point_of_a_run_can_be_the_last),
        cmocka_unit_test(every_op_can_fail),
        cmocka_unit_test(a_flip_anywhere_costs_one_record_at_most),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
