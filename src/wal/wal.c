/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/wal.h"

#include <stdio.h>

#include "wal/wal_state.h"

/* A batch's memory that an unusual batch has made this many times too large is given
 * back. */
enum { BATCH_SLACK = 4, GROW_MIN = 8 };

void *wal_grow(struct wal *wal, void *at, size_t n, size_t *cap, size_t size)
{
    if (LIKELY(n < *cap)) return at;

    const size_t cap_new = *cap > 0 ? *cap * 2 : GROW_MIN;
    at = mem_resize(wal->mem, at, *cap * size, cap_new * size);
    *cap = cap_new;
    return at;
}

struct wal *wal_new(const struct wal_config *config)
{
    check(config->segment_bytes >= WAL_SEGMENT_HEAD + WAL_RECORD_HEAD + WAL_NOTE);
    check(config->segment_bytes % 8 == 0);
    check(config->read_bytes_max > 0);

    struct wal *wal = mem_zero(config->mem, sizeof *wal);
    wal->config = *config;
    wal->mem = config->mem;
    wal->groups = hmap_new(config->mem);
    wal->gather.bytes = buf_new(config->mem);
    wal->flight.bytes = buf_new(config->mem);
    wal->fetch.bodies = buf_new(config->mem);
    wal->op_next = 1;
    wal->seq_next = 1;
    wal->end = wal->submitted = wal->written = wal->durable = WAL_LSN_FIRST;
    wal->settled = UINT64_MAX;
    return wal;
}

static void batch_free_blocks(struct wal_batch *batch)
{
    for (size_t i = 0; i < batch->n_parts; i++)
        block_unref(batch->parts[i].block);
}

void wal_free(struct wal *wal)
{
    struct mem *mem = wal->mem;

    wal_recover_free(wal);
    wal_reads_free(wal);
    wal_segments_free(wal);
    wal_groups_free(wal);
    batch_free_blocks(&wal->gather);
    batch_free_blocks(&wal->flight);
    buf_free(&wal->gather.bytes);
    buf_free(&wal->flight.bytes);
    mem_free(mem, wal->gather.parts, wal->gather.cap_parts * sizeof *wal->gather.parts);
    mem_free(mem, wal->flight.parts, wal->flight.cap_parts * sizeof *wal->flight.parts);
    mem_free(mem, wal->ops, wal->cap_ops * sizeof *wal->ops);
    mem_free(mem, wal->flying, wal->cap_flying * sizeof *wal->flying);
    mem_free(mem, wal, sizeof *wal);
}

/* ---- ops ---- */

/* The caller fills in the op before it gives the next one. */
struct wal_op *wal_op_give(struct wal *wal, enum wal_job job, uint32_t arg)
{
    check(!wal->failed); /* W8 */

    struct wal_flying *flying = WAL_PUSH(wal, wal->flying, wal->n_flying,
                                         wal->cap_flying);
    *flying = (struct wal_flying){.op = {.id = wal->op_next++}, .job = job, .arg = arg};
    return &flying->op;
}

/* Ops given in this call are the tail of `flying`, for ids rise. */
static void ops_collect(struct wal *wal, uint64_t id_from)
{
    size_t i = wal->n_flying;

    while (i > 0 && wal->flying[i - 1].op.id >= id_from)
        i--;
    wal->n_ops = 0;
    for (; i < wal->n_flying; i++)
        *WAL_PUSH(wal, wal->ops, wal->n_ops, wal->cap_ops) = wal->flying[i].op;
}

static struct wal_flying flying_take(struct wal *wal, uint64_t id)
{
    size_t i = 0;

    while (i < wal->n_flying && wal->flying[i].op.id != id)
        i++;
    check(i < wal->n_flying);

    const struct wal_flying taken = wal->flying[i];
    wal->n_flying--;
    memmove(&wal->flying[i], &wal->flying[i + 1],
            (wal->n_flying - i) * sizeof *wal->flying);
    return taken;
}

void wal_fail(struct wal *wal, const struct wal_op *op, int error)
{
    static const char *const names[] = {
        [WAL_OP_CREATE] = "create", [WAL_OP_READ] = "read",     [WAL_OP_WRITE] = "write",
        [WAL_OP_SYNC] = "sync",     [WAL_OP_REMOVE] = "remove",
    };

    if (wal->failed) return;
    wal->failed = true;
    snprintf(wal->text, sizeof wal->text, "%s of wal-%08x at %llu, %llu bytes: errno %d",
             names[op->kind], (unsigned)op->file, (unsigned long long)op->offset,
             (unsigned long long)op->length, error);
}

/* ---- appending ---- */

static struct wal_part *part_of(struct wal *wal, const struct wal_segment *segment)
{
    struct wal_batch *batch = &wal->gather;
    if (batch->n_parts > 0) {
        struct wal_part *last = &batch->parts[batch->n_parts - 1];
        if (last->seq == segment->seq && last->offset > 0 && last->block == NULL)
            return last;
    }
    struct wal_part *part = WAL_PUSH(wal, batch->parts, batch->n_parts, batch->cap_parts);
    *part = (struct wal_part){
        .seq = segment->seq,
        .offset = wal_offset_of(segment, segment->end),
        .at = batch->bytes.len,
    };
    return part;
}

/* A body that stays in its block, as parts of their own. */
static void block_put(struct wal *wal, struct wal_segment *segment,
                      const struct wal_record *record)
{
    struct wal_batch *batch = &wal->gather;
    const uint8_t *at = record->body.at;
    size_t left = record->body.len;

    while (left > 0) {
        const size_t len = left < WAL_SYNC_BYTES ? left : WAL_SYNC_BYTES;
        struct wal_part *part = WAL_PUSH(wal, batch->parts, batch->n_parts,
                                         batch->cap_parts);
        *part = (struct wal_part){
            .seq = segment->seq,
            .offset = wal_offset_of(segment, segment->end),
            .block = block_ref(record->block),
            .at = (size_t)(at - record->block->bytes.at),
            .len = len,
            .sync = len == WAL_SYNC_BYTES,
        };
        segment->end += len;
        at += len;
        left -= len;
    }
    const size_t padding = (size_t)(-segment->end & 7);
    if (padding == 0) return;
    part_of(wal, segment)->len += padding;
    memset(buf_extend(&batch->bytes, padding), 0, padding);
    segment->end += padding;
}

static uint64_t record_put(struct wal *wal, struct wal_segment *segment,
                           const struct wal_record *record)
{
    const uint64_t size = wal_record_size(record->body.len);
    const struct wal_stand stand = {
        .seq = segment->seq,
        .lsn = segment->end,
        .watermark = wal->durable,
        .chain = segment->chain,
    };

    if (record->block == NULL) {
        part_of(wal, segment)->len += size;
        segment->chain = wal_record_put(buf_extend(&wal->gather.bytes, size), record,
                                        &stand);
        segment->end += size;
    } else {
        part_of(wal, segment)->len += WAL_RECORD_HEAD;
        segment->chain = wal_record_put_head(
            buf_extend(&wal->gather.bytes, WAL_RECORD_HEAD), record, &stand);
        segment->end += WAL_RECORD_HEAD;
        block_put(wal, segment, record);
        check(segment->end == stand.lsn + size);
    }
    wal->end = segment->end;
    return stand.lsn;
}

static uint64_t opening_size(const struct wal *wal)
{
    uint64_t at = 0, key, size = 0;
    void *value;

    while (hmap_next(&wal->groups, &at, &key, &value)) {
        const struct wal_group *group = value;
        if (group->has_state) size += wal_record_size(group->state.len);
        if (group->has_base) size += wal_record_size(group->base.len);
    }
    return size;
}

/* A segment opens with what is known of every group, so that older ones can go. */
static void opening_put(struct wal *wal, struct wal_segment *segment)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&wal->groups, &at, &key, &value)) {
        const struct wal_group *group = value;
        const struct wal_record state = {
            .kind = WAL_STATE,
            .group = group->id,
            .term = group->state_term,
            .body = buf_bytes(&group->state),
        };
        const struct wal_record base = {
            .kind = WAL_BASE,
            .group = group->id,
            .index = group->base_index,
            .term = group->base_term,
            .body = buf_bytes(&group->base),
        };
        if (group->has_state) record_put(wal, segment, &state);
        if (group->has_base) record_put(wal, segment, &base);
    }
    segment->opened = segment->end;
}

static struct wal_segment *segment_open(struct wal *wal, uint64_t size)
{
    struct wal_batch *batch = &wal->gather;
    const uint64_t opening = opening_size(wal);
    const uint64_t need = WAL_SEGMENT_HEAD + opening + size + WAL_NOTE;
    const uint64_t usual = wal->config.segment_bytes;
    const uint64_t length = need > usual ? need : usual;
    const uint64_t seq = wal->seq_next++;
    const struct wal_head head = {
        .seq = seq,
        .base = wal->end,
        .length = length,
        .first = wal->n_segments > 0 ? wal->segments[0].seq : seq,
        .opening = opening,
        .cluster = wal->config.cluster,
        .server = wal->config.server,
    };
    const struct wal_segment fresh = {
        .seq = seq,
        .base = wal->end,
        .end = wal->end,
        .first = head.first,
        .length = length,
        .made = length,
    };

    struct wal_segment *segment = wal_segment_add(wal, &fresh);
    if (batch->n_parts > 0) batch->parts[batch->n_parts - 1].sync = true;
    *WAL_PUSH(wal, batch->parts, batch->n_parts, batch->cap_parts) = (struct wal_part){
        .seq = seq,
        .at = batch->bytes.len,
        .len = WAL_SEGMENT_HEAD,
        .sync = true,
    };
    segment->chain = wal_head_put(buf_extend(&batch->bytes, WAL_SEGMENT_HEAD), &head);
    opening_put(wal, segment);
    check(segment->opened == segment->base + opening);
    wal->sealed = false;
    return segment;
}

static bool segment_fits(const struct wal_segment *segment, uint64_t size)
{
    return wal_offset_of(segment, segment->end) + size + WAL_NOTE <= segment->length;
}

struct lsn wal_append(struct wal *wal, const struct wal_record *record)
{
    check(wal->phase == WAL_OPEN);
    check(!wal->failed);
    check(record->kind >= WAL_ENTRY && record->kind < WAL_KIND_END);
    check(record->tag < 16);
    check(record->body.len <= UINT32_MAX - 8);

    const uint64_t size = wal_record_size(record->body.len);
    struct wal_segment *segment = wal_segment_last(wal);
    if (segment == NULL || wal->sealed || !segment_fits(segment, size))
        segment = segment_open(wal, size);

    const uint64_t lsn = record_put(wal, segment, record);
    wal_record_note(wal, segment, record, lsn);
    wal->unmarked = wal->unmarked || record->kind != WAL_MARK;
    wal->gather.sync = wal->gather.sync || !record->lazy;
    return (struct lsn){wal->end};
}

uint64_t wal_backlog(const struct wal *wal)
{
    return wal->end - wal->durable;
}

bool wal_room(const struct wal *wal)
{
    return wal->phase == WAL_OPEN && !wal->failed && !wal->full &&
           wal->gather.bytes.len < wal->config.batch_bytes_max;
}

/* ---- the batch on its way ---- */

/* A batch begins a segment while the one before holds what was only written. */
static bool segment_sync_give(struct wal *wal, const struct wal_part *part)
{
    const struct wal_segment *before = wal_segment_find(wal, part->seq - 1);

    if (part->offset > 0 || wal->written == wal->durable || before == NULL) return false;
    struct wal_op *op = wal_op_give(wal, WAL_JOB_SEGMENT_SYNC, 0);
    op->kind = WAL_OP_SYNC;
    op->file = before->file;
    wal->flight_left = 1;
    return true;
}

static uint32_t part_give(struct wal *wal, const struct wal_part *part)
{
    const struct wal_segment *segment = wal_segment_find(wal, part->seq);
    check(segment != NULL);
    check(segment->bound); /* W6 */

    const struct buf *from = part->block != NULL ? &part->block->bytes
                                                 : &wal->flight.bytes;
    struct wal_op *op = wal_op_give(wal, WAL_JOB_BATCH_WRITE, 0);
    op->kind = WAL_OP_WRITE;
    op->file = segment->file;
    op->offset = part->offset;
    op->length = part->len;
    op->data = (struct bytes){from->at + part->at, part->len};
    return segment->file;
}

/* Writes, usually one, and one sync.  What follows waits for them to succeed: so a later
 * segment is proof that all of the earlier one was durable, and a record that its segment's
 * head was. */
static void parts_give(struct wal *wal)
{
    const struct wal_batch *batch = &wal->flight;
    const struct wal_part *part = &batch->parts[wal->flight_at];
    uint32_t file;

    if (segment_sync_give(wal, part)) return;
    wal->flight_left = 0;
    do {
        part = &batch->parts[wal->flight_at++];
        file = part_give(wal, part);
        wal->flight_left++;
    } while (!part->sync && wal->flight_at < batch->n_parts);
    if (!part->sync) return;

    struct wal_op *op = wal_op_give(wal, WAL_JOB_BATCH_SYNC, 0);
    wal->flight_left++;
    op->kind = WAL_OP_SYNC;
    op->file = file;
}

/* Whether the batch waits for a segment, while there are lazy records that it would have taken
 * along to the disk. */
static bool lone_sync_is_wanted(const struct wal *wal)
{
    return wal->gather.n_parts > 0 && wal->flight_left == 0 && !wal->lone_syncing &&
           wal->written > wal->durable;
}

static struct instant lone_sync_at(const struct wal *wal)
{
    return (struct instant){wal->synced.ns + wal->config.sync_every_ns};
}

/* On a full disk the batch may wait for long.  All that is not synced lies in one segment, for
 * the next one begins with a sync. */
static void lone_sync_give(struct wal *wal)
{
    if (!lone_sync_is_wanted(wal) || wal->now.ns < lone_sync_at(wal).ns) return;

    const struct wal_segment *segment = wal_segment_at(wal, wal->written - 1);
    check(segment != NULL);
    check(segment->bound); /* W6 */
    struct wal_op *op = wal_op_give(wal, WAL_JOB_LONE_SYNC, 0);
    op->kind = WAL_OP_SYNC;
    op->file = segment->file;
    wal->lone_syncing = true;
}

static void submit(struct wal *wal)
{
    if (wal->flight_left > 0 || wal->gather.n_parts == 0) return;
    wal_segments_bind(wal);
    if (!wal_segment_last(wal)->bound) {
        lone_sync_give(wal);
        return;
    }

    const struct wal_batch empty = wal->flight;
    wal->flight = wal->gather;
    wal->gather = empty;
    if (wal->now.ns - wal->synced.ns >= wal->config.sync_every_ns)
        wal->flight.sync = true;
    wal->submitted = wal->end;
    wal->full = false;
    wal->flight.parts[wal->flight.n_parts - 1].sync |= wal->flight.sync;
    wal->flight_at = 0;
    parts_give(wal);
}

static void batch_empty(struct wal *wal, struct wal_batch *batch)
{
    batch_free_blocks(batch);
    batch->n_parts = 0;
    batch->sync = false;
    batch->bytes.len = 0;
    if (batch->bytes.cap / BATCH_SLACK > wal->config.batch_bytes_max)
        buf_free(&batch->bytes);
}

static void all_synced(struct wal *wal)
{
    wal->durable = wal->written;
    wal->second_durable = wal->second_written;
    wal->synced = wal->now;
}

static void flight_done(struct wal *wal)
{
    struct wal_batch *batch = &wal->flight;

    wal->written = wal->submitted;
    for (size_t i = 0; i < batch->n_parts; i++)
        if (batch->parts[i].offset == 0) {
            wal->second_written = wal->first_written;
            wal->first_written = wal_segment_find(wal, batch->parts[i].seq)->first;
        }
    if (batch->sync) all_synced(wal);
    batch_empty(wal, batch);
}

static void on_segment_synced(struct wal *wal)
{
    check(wal->flight_left == 1);
    wal->flight_left = 0;
    all_synced(wal);
    parts_give(wal);
}

/* Ops are done in order: no batch has been written since it was given out. */
static void on_lone_synced(struct wal *wal)
{
    wal->lone_syncing = false;
    all_synced(wal);
}

static void on_batch_op(struct wal *wal, const struct wal_flying *done)
{
    const bool is_last = wal->flight_at == wal->flight.n_parts;

    check(wal->flight_left > 0);
    wal->flight_left--;
    if (wal->config.bug_durable_before_sync && is_last && wal->flight_left == 1 &&
        done->job == WAL_JOB_BATCH_WRITE)
        wal->durable = wal->submitted;
    if (wal->flight_left > 0) return;
    if (is_last)
        flight_done(wal);
    else
        parts_give(wal);
}

/* ---- what leaves ---- */

/* Nothing but a watermark, so that damage in the last batch shows as such. */
static void mark_when_idle(struct wal *wal)
{
    if (wal->gather.n_parts > 0) wal->active = wal->now;
    if (!wal->unmarked || wal->flight_left > 0 || wal->gather.n_parts > 0) return;
    if (wal->now.ns - wal->active.ns < wal->config.idle_mark_ns) return;

    const struct wal_record mark = {.kind = WAL_MARK};
    wal_append(wal, &mark);
    wal->unmarked = false;
}

static void derive(struct wal *wal)
{
    if (wal->phase != WAL_OPEN || wal->failed) return;

    mark_when_idle(wal);
    submit(wal);
    wal_segments_tend(wal);
    wal_reads_tend(wal);
}

static struct instant wake_of(const struct wal *wal)
{
    if (wal->phase != WAL_OPEN || wal->failed) return (struct instant){0};
    if (wal->n_requests > 0 && !wal->fetch.flying)
        return (struct instant){wal->now.ns > 0 ? wal->now.ns : 1};
    if (lone_sync_is_wanted(wal)) return lone_sync_at(wal);
    if (!wal->unmarked || wal->flight_left > 0 || wal->gather.n_parts > 0)
        return (struct instant){0};
    return (struct instant){wal->active.ns + wal->config.idle_mark_ns};
}

static void begin(struct wal *wal, struct instant now)
{
    wal_verify(wal);
    if (now.ns > wal->now.ns) wal->now = now;
    wal->n_dones = 0;
    wal_reads_trim(wal);
    wal->rec.n_records = 0;
    if (wal->opened_told) wal_recover_free(wal);
}

static void finish(struct wal *wal, uint64_t id_from, struct wal_out *out)
{
    /* A failure takes back what this very call wanted to do. */
    if (wal->failed) id_from = wal->op_next;
    ops_collect(wal, id_from);
    *out = (struct wal_out){
        .ops = wal->ops,
        .n_ops = (uint32_t)wal->n_ops,
        .durable = {wal->durable},
        .written = {wal->written > wal->durable ? wal->written : wal->durable},
        .recovered = wal->rec.records,
        .n_recovered = (uint32_t)wal->rec.n_records,
        .open_error = wal->open_error,
        .open_text = wal->open_error != WAL_OPEN_OK ? wal->text : NULL,
        .reads = wal->dones,
        .n_reads = wal->n_dones,
        .failed = wal->failed,
        .failed_text = wal->failed ? wal->text : NULL,
        .full = wal->full,
        .wake = wake_of(wal),
    };
    if (wal->phase >= WAL_OPEN && !wal->opened_told) {
        wal->opened_told = true;
        out->opened = true;
        out->damage = wal->rec.damage;
        out->n_damage = (uint32_t)wal->rec.n_damage;
        out->torn = wal->rec.torn;
    }
    wal_verify(wal);
}

void wal_open(struct wal *wal, const struct wal_file *files, uint32_t n,
              struct wal_out *out)
{
    check(wal->phase == WAL_NEW);

    const uint64_t id_from = wal->op_next;
    begin(wal, (struct instant){0});
    wal_recover_begin(wal, files, n);
    derive(wal);
    finish(wal, id_from, out);
}

void wal_turn_end(struct wal *wal, struct instant now, struct wal_out *out)
{
    const uint64_t id_from = wal->op_next;

    begin(wal, now);
    if (wal->opened_told && wal->settled == UINT64_MAX) wal->settled = wal->end;
    derive(wal);
    finish(wal, id_from, out);
}

static void on_done(struct wal *wal, const struct wal_flying *done, int error,
                    uint64_t got)
{
    const bool is_write = done->op.kind == WAL_OP_WRITE || done->op.kind == WAL_OP_SYNC;
    if (is_write && error != 0) {
        wal_fail(wal, &done->op, error);
        return;
    }
    switch (done->job) {
    case WAL_JOB_HEAD:
    case WAL_JOB_NOTE:
    case WAL_JOB_PROBE:
    case WAL_JOB_SCAN:
    case WAL_JOB_AGAIN_READ:
    case WAL_JOB_AGAIN_WRITE:
    case WAL_JOB_AGAIN_SYNC: wal_recover_done(wal, done, error, got); break;
    case WAL_JOB_CREATE: wal_create_done(wal, &done->op, error); break;
    case WAL_JOB_BATCH_WRITE:
    case WAL_JOB_BATCH_SYNC: on_batch_op(wal, done); break;
    case WAL_JOB_SEGMENT_SYNC: on_segment_synced(wal); break;
    case WAL_JOB_LONE_SYNC: on_lone_synced(wal); break;
    case WAL_JOB_RETIRE_WRITE: break;
    case WAL_JOB_RETIRE_SYNC: wal_retire_done(wal); break;
    case WAL_JOB_REMOVE: /* a file that stays is met again at the next start */ break;
    case WAL_JOB_FETCH: wal_fetch_done(wal, &done->op, error, got); break;
    }
}

void wal_op_done(struct wal *wal, uint64_t id, int error, uint64_t got,
                 struct instant now, struct wal_out *out)
{
    const uint64_t id_from = wal->op_next;

    begin(wal, now);
    const struct wal_flying done = flying_take(wal, id);
    if (got > done.op.length) got = done.op.length;
    if (!wal->failed) on_done(wal, &done, error, got);
    derive(wal);
    finish(wal, id_from, out);
}

/* ---- the rest of the interface ---- */

void wal_release(struct wal *wal, struct group_id group, struct log_index upto)
{
    struct wal_group *known = wal_group_find(wal, group);

    if (known != NULL && known->released < upto.v) known->released = upto.v;
}

void wal_retry(struct wal *wal)
{
    if (wal->makes_way) return;
    wal->full = false;
    wal->spare_refused = false;
}

void wal_make_way(struct wal *wal, bool make_way)
{
    wal->makes_way = make_way;
}

static void verify_segments(const struct wal *wal)
{
    const size_t n = wal->n_segments;

    for (size_t i = 0; i < n; i++) {
        const struct wal_segment *segment = &wal->segments[i];
        check(segment->base <= segment->end);
        if (i + 1 == n) break;
        check(segment[1].seq == segment->seq + 1);  /* W1 */
        check(segment[1].base == segment->end);     /* W2 */
        check(segment->bound || !segment[1].bound); /* W6 */
    }
    if (n > 0) check(wal->segments[n - 1].seq + 1 == wal->seq_next); /* W1 */
    if (n > 0) check(wal->segments[n - 1].end == wal->end);          /* W2 */
}

static void verify_gather(const struct wal *wal)
{
    size_t at = 0;
    uint64_t log_bytes = 0;

    for (size_t i = 0; i < wal->gather.n_parts; i++) {
        const struct wal_part *part = &wal->gather.parts[i];
        if (part->offset > 0) log_bytes += part->len;
        if (part->block != NULL) continue;
        check(part->at == at); /* W5 */
        at += part->len;
    }
    check(at == wal->gather.bytes.len);            /* W5 */
    check(wal->submitted + log_bytes == wal->end); /* W5 */
}

static void verify_places(const struct wal *wal)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&wal->groups, &at, &key, &value)) {
        const struct wal_group *group = value;
        for (size_t i = 1; i < group->n_places; i++) {
            check(group->places[i - 1].index < group->places[i].index); /* W7 */
            check(group->places[i - 1].lsn < group->places[i].lsn);     /* W7 */
        }
    }
}

void wal_verify(const struct wal *wal)
{
    check(wal->submitted <= wal->end);     /* W3 */
    check(wal->written <= wal->submitted); /* W3 */
    check(wal->durable <= wal->written ||  /* W3 */
          wal->config.bug_durable_before_sync);
    check((wal->flight_left == 0) == (wal->flight.n_parts == 0)); /* W4 */
    if (wal->phase != WAL_OPEN) return;

    check(wal->flight_left > 0 || wal->written == wal->submitted); /* W4 */
#ifdef SENNIT_CHECK_SLOW
    verify_segments(wal);
    verify_gather(wal);
    verify_places(wal);
#else
    (void)verify_segments;
    (void)verify_gather;
    (void)verify_places;
#endif
}
