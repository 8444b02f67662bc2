/* SPDX-License-Identifier: Apache-2.0 */
/* The life of segments: spare, live, over.
 *
 *     CREATE ──► spare ──► live ──► note written and synced ──► spare, or removed
 *
 * A file may go only once its end is durable elsewhere than in itself: the note names the
 * life that is over and survives recycling, but goes with the file; so a file is removed
 * only after two later segments' heads say the same, of which a flip may hit one. */
#include <errno.h>

#include "wal/wal_state.h"

struct wal_segment *wal_segment_last(struct wal *wal)
{
    return wal->n_segments > 0 ? &wal->segments[wal->n_segments - 1] : NULL;
}

struct wal_segment *wal_segment_find(struct wal *wal, uint64_t seq)
{
    if (wal->n_segments == 0 || seq < wal->segments[0].seq) return NULL;
    const uint64_t at = seq - wal->segments[0].seq; /* W1 */
    return at < wal->n_segments ? &wal->segments[at] : NULL;
}

struct wal_segment *wal_segment_at(struct wal *wal, uint64_t lsn)
{
    size_t low = 0, high = wal->n_segments;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (wal->segments[mid].end <= lsn)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == wal->n_segments || wal->segments[low].base > lsn) return NULL;
    return &wal->segments[low];
}

struct wal_segment *wal_segment_add(struct wal *wal, const struct wal_segment *from)
{
    struct wal_segment *segment = WAL_PUSH(wal, wal->segments, wal->n_segments,
                                           wal->cap_segments);

    *segment = *from;
    wal->bytes_held += segment->length;
    return segment;
}

/* The newest entry in the segment that its group may still need.  What a later entry has
 * truncated is needed until that one is released, and no longer: a group that was cut short
 * may take for ever to grow as long again. */
static uint64_t needed_upto(const struct wal_segment *segment,
                            const struct wal_need *need, const struct wal_group *group)
{
    const bool is_cut = segment->seq < group->cut_seq && need->highest > group->cut_index;

    return is_cut ? group->cut_index : need->highest;
}

bool wal_segment_pinned(const struct wal *wal, struct wal_segment *segment)
{
    /* Needs are only ever met in a segment that is no longer written, so this goes on
     * where it stopped the last time. */
    for (; segment->satisfied < segment->n_needs; segment->satisfied++) {
        const struct wal_need *need = &segment->needs[segment->satisfied];
        const struct wal_group *group = wal_group_find(wal, need->group);

        if (need->highest == 0 || group == NULL) continue;
        if (group->since_seq > segment->seq) continue;
        if (needed_upto(segment, need, group) <= group->released) continue;
        return true;
    }
    return false;
}

void wal_idle_add(struct wal *wal, struct wal_idle_file idle)
{
    if (idle.length == wal->config.segment_bytes && wal->n_spares < WAL_SPARES_MAX)
        *WAL_PUSH(wal, wal->spares, wal->n_spares, wal->cap_spares) = idle;
    else
        *WAL_PUSH(wal, wal->trash, wal->n_trash, wal->cap_trash) = idle;
}

/* The oldest without a file first, for its head must be durable before the next one's. */
void wal_segments_bind(struct wal *wal)
{
    size_t at = wal->n_segments;

    while (at > 0 && !wal->segments[at - 1].bound)
        at--;
    for (; at < wal->n_segments; at++) {
        struct wal_segment *segment = &wal->segments[at];
        size_t s = 0;
        while (s < wal->n_spares && wal->spares[s].length != segment->length)
            s++;
        if (s == wal->n_spares) return;

        segment->file = wal->spares[s].file;
        segment->bound = true;
        wal->spares[s] = wal->spares[--wal->n_spares];
    }
}

/* What is to be made now, in bytes; 0: nothing. */
static uint64_t wanted_length(const struct wal *wal)
{
    for (size_t i = 0; i < wal->n_segments; i++)
        if (!wal->segments[i].bound) return wal->full ? 0 : wal->segments[i].length;

    if (wal->n_spares > 0 || wal->spare_refused) return 0;
    if (wal->n_segments > 0 && !wal->sealed) {
        const struct wal_segment *last = &wal->segments[wal->n_segments - 1];
        if (wal_offset_of(last, last->end) < last->length / 2) return 0;
    }
    return wal->config.segment_bytes;
}

static void create(struct wal *wal)
{
    if (wal->creating) return;
    const uint64_t length = wanted_length(wal);
    if (length == 0) return;
    if (wal->makes_way) {
        const struct wal_segment *last = wal_segment_last(wal);
        wal->full |= last != NULL && !last->bound;
        return;
    }

    struct wal_op *op = wal_op_give(wal, WAL_JOB_CREATE, 0);
    op->kind = WAL_OP_CREATE;
    op->file = wal->file_next++;
    op->length = length;
    op->once = length != wal->config.segment_bytes;
    wal->creating = true;
}

/* There is no room, or no descriptor, for a new file now; nothing that is there is in doubt. */
static bool is_for_later(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE;
}

void wal_create_done(struct wal *wal, const struct wal_op *op, int error)
{
    wal->creating = false;
    if (error == 0) {
        *WAL_PUSH(wal, wal->spares, wal->n_spares,
                  wal->cap_spares) = (struct wal_idle_file){op->file, op->length, 0};
    } else if (is_for_later(error)) {
        const struct wal_segment *last = wal_segment_last(wal);
        if (last != NULL && !last->bound)
            wal->full = true;
        else
            wal->spare_refused = true;
        *WAL_PUSH(wal, wal->trash, wal->n_trash,
                  wal->cap_trash) = (struct wal_idle_file){op->file, op->length, 0};
    } else {
        wal_fail(wal, op, error);
    }
}

/* Is every group's state durable in a segment behind the oldest?  Its head, too: with no group
 * to speak of it opens with nothing. */
static bool opened_later(const struct wal *wal)
{
    for (size_t i = 1; i < wal->n_segments; i++) {
        const struct wal_segment *segment = &wal->segments[i];
        if (segment->opened <= wal->durable && segment->base < wal->durable) return true;
    }
    return false;
}

static void segment_drop(struct wal *wal)
{
    struct wal_segment *oldest = &wal->segments[0];

    wal->bytes_held -= oldest->length;
    mem_free(wal->mem, oldest->needs, oldest->cap_needs * sizeof *oldest->needs);
    wal->n_segments--;
    memmove(wal->segments, wal->segments + 1, wal->n_segments * sizeof *wal->segments);
}

/* A file that has lost its end takes no note: it stays until a later head says that its
 * life is over, and is the segment that it was if the process ends before that. */
static void drop_without_note(struct wal *wal)
{
    const struct wal_segment *oldest = &wal->segments[0];

    *WAL_PUSH(wal, wal->trash, wal->n_trash, wal->cap_trash) = (struct wal_idle_file){
        oldest->file, oldest->length, oldest->seq};
    segment_drop(wal);
}

/* Writes the note that ends the oldest segment, if nobody needs that one. */
static void retire(struct wal *wal)
{
    if (wal->retiring || wal->n_segments < 2) return;
    struct wal_segment *oldest = &wal->segments[0];
    if (wal->durable < wal->settled || !opened_later(wal)) return;
    /* What followers might ask for gives way when there is no room for what is new.  The newest
     * segment does not count: it may have just begun. */
    const uint64_t kept = wal->bytes_held - oldest->length -
                          wal->segments[wal->n_segments - 1].length;
    if (!wal->full && !wal->makes_way && kept < wal->config.keep_bytes) return;
    if (wal_segment_pinned(wal, oldest)) return;
    if (oldest->length < oldest->made) {
        drop_without_note(wal);
        return;
    }

    const struct wal_head head = {
        .seq = oldest->seq,
        .cluster = wal->config.cluster,
        .server = wal->config.server,
    };
    wal_note_put(wal->note, &head);
    struct wal_op *op = wal_op_give(wal, WAL_JOB_RETIRE_WRITE, 0);
    op->kind = WAL_OP_WRITE;
    op->file = oldest->file;
    op->offset = oldest->length - WAL_NOTE;
    op->length = WAL_NOTE;
    op->data = (struct bytes){wal->note, WAL_NOTE};
    op = wal_op_give(wal, WAL_JOB_RETIRE_SYNC, 0);
    op->kind = WAL_OP_SYNC;
    op->file = oldest->file;
    wal->retiring = true;
}

void wal_retire_done(struct wal *wal)
{
    const struct wal_segment *oldest = &wal->segments[0];

    wal->retiring = false;
    wal_idle_add(wal, (struct wal_idle_file){oldest->file, oldest->length, oldest->seq});
    segment_drop(wal);
}

static bool may_be_removed(const struct wal *wal, const struct wal_idle_file *idle)
{
    return idle->seq == 0 || idle->seq < wal->second_durable; /* 0: it has had no life */
}

/* A spare that must stay for its note serves as one. */
static void give_up_spares(struct wal *wal)
{
    for (size_t i = wal->n_spares; wal->makes_way && i-- > 0;) {
        if (!may_be_removed(wal, &wal->spares[i])) continue;
        *WAL_PUSH(wal, wal->trash, wal->n_trash, wal->cap_trash) = wal->spares[i];
        wal->spares[i] = wal->spares[--wal->n_spares];
    }
}

static void remove_trash(struct wal *wal)
{
    give_up_spares(wal);
    for (size_t i = 0; i < wal->n_trash;) {
        const struct wal_idle_file idle = wal->trash[i];
        if (!may_be_removed(wal, &idle)) {
            i++;
            continue;
        }
        struct wal_op *op = wal_op_give(wal, WAL_JOB_REMOVE, 0);
        op->kind = WAL_OP_REMOVE;
        op->file = idle.file;
        wal->trash[i] = wal->trash[--wal->n_trash];
    }
}

void wal_segments_tend(struct wal *wal)
{
    retire(wal);
    remove_trash(wal);
    create(wal);
}

void wal_segments_free(struct wal *wal)
{
    while (wal->n_segments > 0)
        segment_drop(wal);
    mem_free(wal->mem, wal->segments, wal->cap_segments * sizeof *wal->segments);
    mem_free(wal->mem, wal->spares, wal->cap_spares * sizeof *wal->spares);
    mem_free(wal->mem, wal->trash, wal->cap_trash * sizeof *wal->trash);
}
