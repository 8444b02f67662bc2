/* SPDX-License-Identifier: Apache-2.0 */
#include "wal_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mem_test_alloc.h"

/* ---- disk ---- */

struct disk_file *disk_find(struct disk *disk, uint32_t file)
{
    for (uint32_t i = 0; i < disk->n_files; i++)
        if (disk->files[i].there && disk->files[i].file == file) return &disk->files[i];
    return NULL;
}

static void file_drop(struct disk_file *f)
{
    free(f->cached);
    free(f->durable);
    free(f->unsynced);
    *f = (struct disk_file){0};
}

static struct disk_file *file_make(struct disk *disk, uint32_t file, uint64_t length)
{
    uint32_t at = 0;

    check(disk_find(disk, file) == NULL);
    while (at < disk->n_files && disk->files[at].there)
        at++;
    if (at == disk->n_files) disk->n_files++;
    check(disk->n_files <= DISK_FILES_MAX);
    struct disk_file *f = &disk->files[at];
    *f = (struct disk_file){
        .file = file,
        .there = true,
        .length = length,
        .cached = calloc(1, length + 1),
        .durable = calloc(1, length + 1),
    };
    return f;
}

void disk_add(struct disk *disk, uint32_t file, uint64_t length)
{
    file_make(disk, file, length);
}

static uint64_t disk_bytes(const struct disk *disk)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < disk->n_files; i++)
        sum += disk->files[i].length;
    return sum;
}

/* The range reaches the platter whole, in part, or not at all. */
static void write_settle(struct disk *disk, struct disk_file *f, struct disk_write w)
{
    uint64_t from = w.offset, upto = w.offset + w.length;
    const uint64_t fate = prng_below(&disk->prng, 5);

    if (fate == 0 || w.length == 0) return;
    if (fate == 1) upto = from + prng_below(&disk->prng, w.length + 1);
    if (fate == 2) from += prng_below(&disk->prng, w.length + 1);
    if (fate == 3) { /* some sectors of it */
        for (uint64_t at = from; at < upto;) {
            uint64_t next = (at / 512 + 1) * 512;
            if (next > upto) next = upto;
            if (prng_below(&disk->prng, 2) == 0)
                memcpy(f->durable + at, f->cached + at, next - at);
            at = next;
        }
        return;
    }
    memcpy(f->durable + from, f->cached + from, upto - from);
}

void disk_crash(struct disk *disk, enum disk_loss loss)
{
    for (uint32_t i = 0; i < disk->n_files; i++) {
        struct disk_file *f = &disk->files[i];
        if (!f->there) continue;
        if (loss == DISK_LOSE_NONE) memcpy(f->durable, f->cached, f->length);
        if (loss == DISK_LOSE_SOME)
            for (size_t k = 0; k < f->n_unsynced; k++)
                write_settle(disk, f, f->unsynced[k]);
        memcpy(f->cached, f->durable, f->length);
        f->n_unsynced = 0;
    }
}

void disk_free(struct disk *disk)
{
    for (uint32_t i = 0; i < disk->n_files; i++)
        file_drop(&disk->files[i]);
    free(disk);
}

struct disk *disk_copy(const struct disk *disk)
{
    struct disk *copy = malloc(sizeof *copy);

    *copy = *disk;
    copy->n_files = 0;
    memset(copy->files, 0, sizeof copy->files);
    for (uint32_t i = 0; i < disk->n_files; i++) {
        const struct disk_file *f = &disk->files[i];
        if (!f->there) continue;
        struct disk_file *g = file_make(copy, f->file, f->length);
        memcpy(g->cached, f->cached, f->length);
        memcpy(g->durable, f->durable, f->length);
    }
    return copy;
}

static int op_create(struct disk *disk, const struct wal_op *op, bool cut)
{
    if (cut) { /* a part of it, or nothing */
        if (prng_below(&disk->prng, 3) > 0)
            file_make(disk, op->file, prng_below(&disk->prng, op->length + 1));
        return 0;
    }
    if (disk->bytes_max > 0 && disk_bytes(disk) + op->length > disk->bytes_max) {
        file_make(disk, op->file, op->length / 2);
        return ENOSPC;
    }
    file_make(disk, op->file, op->length);
    return disk->create_error;
}

static int op_read(struct disk *disk, const struct wal_op *op, uint64_t *got)
{
    struct disk_file *f = disk_find(disk, op->file);
    const uint64_t upto = op->offset + op->length;
    check(f != NULL);

    if (op->length > disk->n_read_bytes_max) disk->n_read_bytes_max = op->length;
    if (op->file == disk->unreadable_file && op->offset < disk->unreadable_upto &&
        upto > disk->unreadable_from)
        return EIO;
    const uint64_t end = upto < f->length ? upto : f->length;
    *got = op->offset < end ? end - op->offset : 0;
    if (*got > 0) memcpy(op->into, f->cached + op->offset, *got);
    return 0;
}

static void op_write(struct disk *disk, const struct wal_op *op)
{
    struct disk_file *f = disk_find(disk, op->file);

    check(f != NULL);
    check(op->data.len == op->length);
    check(op->offset + op->length <= f->length);
    memcpy(f->cached + op->offset, op->data.at, op->data.len);
    if (f->n_unsynced == f->cap_unsynced) {
        f->cap_unsynced = f->cap_unsynced * 2 + 8;
        f->unsynced = realloc(f->unsynced, f->cap_unsynced * sizeof *f->unsynced);
    }
    f->unsynced[f->n_unsynced++] = (struct disk_write){op->offset, op->length};
}

static void op_sync(struct disk *disk, const struct wal_op *op)
{
    struct disk_file *f = disk_find(disk, op->file);

    check(f != NULL);
    for (size_t i = 0; i < f->n_unsynced; i++)
        memcpy(f->durable + f->unsynced[i].offset, f->cached + f->unsynced[i].offset,
               f->unsynced[i].length);
    f->n_unsynced = 0;
}

static int op_perform(struct disk *disk, const struct wal_op *op, uint64_t *got,
                      bool *powered)
{
    disk->n_ops++;
    *got = 0;
    *powered = disk->n_ops != disk->crash_at;
    if (disk->n_ops == disk->error_at) return EIO;
    switch (op->kind) {
    case WAL_OP_CREATE: return op_create(disk, op, !*powered);
    case WAL_OP_READ: return op_read(disk, op, got);
    case WAL_OP_WRITE: op_write(disk, op); return 0;
    case WAL_OP_SYNC:
        if (*powered || prng_below(&disk->prng, 2) == 0) op_sync(disk, op);
        return 0;
    case WAL_OP_REMOVE:
        check(disk_find(disk, op->file) != NULL);
        if (*powered || prng_below(&disk->prng, 2) == 0)
            file_drop(disk_find(disk, op->file));
        return 0;
    }
    return EINVAL;
}

/* ---- world ---- */

static void kept_clear(struct kept_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->at[i].body);
    free(list->at);
    *list = (struct kept_list){0};
}

static void kept_add(struct kept_list *list, const struct wal_record *record)
{
    if (list->n == list->cap) {
        list->cap = list->cap * 2 + 64;
        list->at = realloc(list->at, list->cap * sizeof *list->at);
    }
    struct kept *kept = &list->at[list->n++];
    *kept = (struct kept){*record, malloc(record->body.len + 1)};
    if (record->body.len > 0) memcpy(kept->body, record->body.at, record->body.len);
    kept->record.body.at = kept->body;
}

struct world *world_new(uint64_t seed, uint64_t segment_bytes)
{
    struct world *world = calloc(1, sizeof *world);

    world->disk = calloc(1, sizeof *world->disk);
    world->disk->prng = prng_seed(seed);
    world->disk->unreadable_file = UINT64_MAX;
    world->mem = mem_for_test();
    world->now.ns = 1;
    world->config = (struct wal_config){
        .cluster = {77},
        .server = {3},
        .segment_bytes = segment_bytes,
        .batch_bytes_max = 1 << 16,
        .read_bytes_max = 8192,
        .idle_mark_ns = 50 * MS_NS,
        .mem = &world->mem,
    };
    return world;
}

void world_stop(struct world *world)
{
    if (world->wal == NULL) return;
    wal_free(world->wal);
    world->wal = NULL;
    check(world->mem.used == 0);
}

void world_free(struct world *world)
{
    world_stop(world);
    disk_free(world->disk);
    kept_clear(&world->recovered);
    kept_clear(&world->read);
    free(world);
}

static void opened_take(struct world *world)
{
    const struct wal_out *out = &world->out;

    world->opened = out->open_error == WAL_OPEN_OK;
    world->torn = out->torn;
    world->open_error = out->open_error;
    if (out->open_text != NULL)
        snprintf(world->open_text, sizeof world->open_text, "%s", out->open_text);
    world->n_damage = out->n_damage < 64 ? out->n_damage : 64;
    if (world->n_damage > 0)
        memcpy(world->damage, out->damage, world->n_damage * sizeof *world->damage);
}

static void out_take(struct world *world)
{
    const struct wal_out *out = &world->out;

    check(!out->failed || out->n_ops == 0);
    if (world->queue_at == world->queue_n) world->queue_at = world->queue_n = 0;
    for (uint32_t i = 0; i < out->n_ops; i++) {
        check(world->queue_n < sizeof world->queue / sizeof world->queue[0]);
        world->queue[world->queue_n++] = out->ops[i];
    }
    for (uint32_t i = 0; i < out->n_recovered; i++)
        kept_add(&world->recovered, &out->recovered[i]);
    check(out->durable.v >= world->durable || !world->opened);
    world->durable = out->durable.v;
    world->failed = out->failed;
    world->full = out->full;
    if (out->opened) opened_take(world);
    for (uint32_t i = 0; i < out->n_reads; i++) {
        world->read_done = true;
        world->read_tag = out->reads[i].tag;
        world->read_failed = out->reads[i].failed;
        kept_clear(&world->read);
        for (uint32_t k = 0; k < out->reads[i].n_records; k++)
            kept_add(&world->read, &out->reads[i].records[k]);
    }
}

void world_turn(struct world *world)
{
    wal_turn_end(world->wal, world->now, &world->out);
    out_take(world);
}

bool world_perform(struct world *world)
{
    if (!world->powered || world->queue_at == world->queue_n) return false;

    const struct wal_op op = world->queue[world->queue_at++];
    uint64_t got;
    const int error = op_perform(world->disk, &op, &got, &world->powered);
    if (!world->powered) return false;
    wal_op_done(world->wal, op.id, error, got, world->now, &world->out);
    out_take(world);
    return true;
}

void world_run(struct world *world)
{
    world_turn(world);
    while (world_perform(world))
        ;
}

void world_idle(struct world *world)
{
    world_run(world);
    world->now.ns += world->config.idle_mark_ns;
    world_run(world);
}

void world_start(struct world *world)
{
    struct wal_file files[DISK_FILES_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < world->disk->n_files; i++)
        if (world->disk->files[i].there)
            files[n++] = (struct wal_file){world->disk->files[i].file,
                                           world->disk->files[i].length};
    kept_clear(&world->recovered);
    world->opened = world->torn = world->failed = world->full = false;
    world->open_error = WAL_OPEN_OK;
    world->open_text[0] = 0;
    world->n_damage = 0;
    world->durable = 0;
    world->queue_at = world->queue_n = 0;
    world->powered = true;
    world->wal = wal_new(&world->config);
    wal_open(world->wal, files, n, &world->out);
    out_take(world);
    while (world_perform(world))
        ;
}

uint64_t world_append(struct world *world, const struct wal_record *record)
{
    return wal_append(world->wal, record).v;
}

uint64_t world_entry(struct world *world, uint32_t group, uint64_t index, uint64_t serial,
                     size_t len)
{
    uint8_t *body = malloc(len + 8);
    struct wal_record record = {
        .kind = WAL_ENTRY,
        .group = {group},
        .index = {index},
        .term = {1},
        .body = {body, len + 8},
    };

    store_u64le(body, serial);
    for (size_t i = 0; i < len; i++)
        body[8 + i] = (uint8_t)(serial * 31 + i * 7 + 1);
    /* Some lie in a block, in the middle of it. */
    struct block *block = NULL;
    if (len > 200 && serial % 4 == 3) {
        struct buf copy = buf_new(&world->mem);
        buf_put(&copy, "before", 6);
        buf_put(&copy, body, len + 8);
        buf_put(&copy, "behind", 6);
        block = block_take(&copy);
        record.body.at = block->bytes.at + 6;
        record.block = block;
    }
    const uint64_t lsn = world_append(world, &record);
    block_unref(block);
    free(body);
    return lsn;
}

uint64_t kept_serial(const struct kept *kept)
{
    check(kept->record.body.len >= 8);
    const uint64_t serial = load_u64le(kept->body);
    for (size_t i = 8; i < kept->record.body.len; i++)
        check(kept->body[i] == (uint8_t)(serial * 31 + (i - 8) * 7 + 1));
    return serial;
}

size_t kept_entries(const struct kept_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += list->at[i].record.kind == WAL_ENTRY;
    return n;
}

void world_read(struct world *world, uint32_t group, uint64_t from, uint64_t upto,
                uint64_t bytes_max)
{
    world->read_done = false;
    wal_read(world->wal, from, (struct group_id){group}, (struct log_index){from},
             (struct log_index){upto}, bytes_max);
    world_run(world);
}
