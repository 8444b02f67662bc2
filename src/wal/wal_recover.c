/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery: heads and notes of all files; a look into files whose head is broken; the
 * records, segment by segment; then the unsure end once more, written and synced.
 *
 *     HEADS ──► PROBING ──► SCANNING ──► AGAIN ──► OPEN
 *
 * One read is on its way at a time (the heads apart), into the one of two buffers that
 * the records just given out do not lie in.  Each read begins where the next record
 * does, so nothing is carried over; a record cut off by the end of a read is read
 * again. */
#include <stdio.h>

#include "wal/wal_state.h"

enum {
    PIECE_MIN = 4096,
    PIECE_MAX = 1 << 20,
    DAMAGE_MAX = 1024, /* ranges named; what comes after makes the last one longer */
    SEQ_AHEAD = 1024,  /* how far beyond the highest head a life is looked for */
    HEAD_AND_NOTE = WAL_SEGMENT_HEAD + WAL_NOTE,
};

void wal_recover_free(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;

    mem_free(wal->mem, rec->found, rec->n_found * sizeof *rec->found);
    mem_free(wal->mem, rec->heads, (size_t)rec->n_found * HEAD_AND_NOTE);
    for (int i = 0; i < 2; i++)
        mem_free(wal->mem, rec->buf[i], rec->cap[i]);
    mem_free(wal->mem, rec->records, rec->cap_records * sizeof *rec->records);
    mem_free(wal->mem, rec->damage, rec->cap_damage * sizeof *rec->damage);
    *rec = (struct wal_recovery){0};
}

static void shut(struct wal *wal, enum wal_open_error error)
{
    wal->phase = WAL_SHUT;
    wal->open_error = error;
}

static void open_now(struct wal *wal)
{
    wal->phase = WAL_OPEN;
    wal->submitted = wal->written = wal->durable = wal->end;
    wal->active = wal->now;
    /* A mark tells the next start that all of this was durable. */
    wal->unmarked = wal->n_segments > 0 && wal->rec.watermark < wal->end;
}

/* ---- reading ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void read_give(struct wal *wal, enum wal_job job, uint32_t file, uint64_t upto)
{
    struct wal_recovery *rec = &wal->rec;
    uint64_t length = rec->pos < rec->io_retry_upto ? PIECE_MIN : rec->piece;

    check(rec->pos < upto);
    rec->wanted = rec->want > length;
    if (rec->wanted) length = rec->want;
    length = least(length, upto - rec->pos);

    rec->which ^= 1;
    if (rec->cap[rec->which] < length) {
        rec->buf[rec->which] = mem_resize(wal->mem, rec->buf[rec->which],
                                          rec->cap[rec->which], length);
        rec->cap[rec->which] = length;
    }
    rec->window = rec->pos;
    rec->want = 0;

    struct wal_op *op = wal_op_give(wal, job, 0);
    op->kind = WAL_OP_READ;
    op->file = file;
    op->offset = rec->pos;
    op->length = length;
    op->into = rec->buf[rec->which];
}

/* A large read that fails is tried again in small ones; a small one that fails, or one
 * of just one record, counts as zeros, which are no record.  True: there is something
 * to parse. */
static bool read_usable(struct wal *wal, const struct wal_op *op, int error,
                        uint64_t *got)
{
    struct wal_recovery *rec = &wal->rec;

    if (error == 0) return true;
    if (op->length > PIECE_MIN && !rec->wanted) {
        rec->io_retry_upto = op->offset + op->length;
        return false;
    }
    memset(op->into, 0, op->length);
    *got = op->length;
    if (rec->io_upto != op->offset) rec->io_from = op->offset;
    rec->io_upto = op->offset + op->length;
    return true;
}

/* ---- heads ---- */

static void head_read_give(struct wal *wal, uint32_t at, enum wal_job job)
{
    const struct wal_found *found = &wal->rec.found[at];
    uint8_t *into = wal->rec.heads + (size_t)at * HEAD_AND_NOTE;
    const bool is_head = job == WAL_JOB_HEAD;

    struct wal_op *op = wal_op_give(wal, job, at);
    op->kind = WAL_OP_READ;
    op->file = found->file;
    op->offset = is_head ? 0 : found->length - WAL_NOTE;
    op->length = is_head ? WAL_SEGMENT_HEAD : WAL_NOTE;
    op->into = is_head ? into : into + WAL_SEGMENT_HEAD;
    wal->rec.left++;
}

void wal_recover_begin(struct wal *wal, const struct wal_file *files, uint32_t n)
{
    struct wal_recovery *rec = &wal->rec;

    if (n == 0) {
        open_now(wal);
        return;
    }
    wal->phase = WAL_HEADS;
    rec->n_found = n;
    rec->found = mem_zero(wal->mem, n * sizeof *rec->found);
    rec->heads = mem_zero(wal->mem, (size_t)n * HEAD_AND_NOTE);
    rec->piece = least(wal->config.read_bytes_max, PIECE_MAX);
    if (rec->piece < PIECE_MIN) rec->piece = PIECE_MIN;
    for (uint32_t i = 0; i < n; i++) {
        rec->found[i].file = files[i].file;
        rec->found[i].length = files[i].length;
        if (wal->file_next <= files[i].file) wal->file_next = files[i].file + 1;
        head_read_give(wal, i, WAL_JOB_HEAD);
        if (files[i].length >= HEAD_AND_NOTE) head_read_give(wal, i, WAL_JOB_NOTE);
    }
}

static void refuse_file(struct wal *wal, const struct wal_found *found,
                        enum wal_open_error error, const char *why)
{
    shut(wal, error);
    snprintf(wal->text, sizeof wal->text, "wal-%08x %s", (unsigned)found->file, why);
}

/* A file is synced at its full length before its first head is written, so no crash makes
 * it shorter: something behind our back did. */
static bool has_lost_end(const struct wal_found *found)
{
    return found->length < found->made;
}

/* Where its records must have ended. */
static uint64_t records_upto(uint64_t length, uint64_t made)
{
    return least(length, made - WAL_NOTE);
}

/* It had a head, or the beginning of one, and nothing is left that tells whose. */
static bool has_lost_all(const struct wal_found *found)
{
    return found->verdict == WAL_HEAD_BROKEN && !found->adopted && has_lost_end(found);
}

static bool head_judge(struct wal *wal, struct wal_found *found, const uint8_t *at)
{
    found->verdict = wal_head_get(at, &found->head, &found->chain);
    /* What lies behind the end of the file reads as the zeros that may have stood there. */
    if (found->verdict == WAL_HEAD_OK && found->length < WAL_SEGMENT_HEAD)
        found->verdict = WAL_HEAD_BROKEN;
    if (found->verdict == WAL_HEAD_NEWER) {
        refuse_file(wal, found, WAL_OPEN_NEWER,
                    "has a newer format than this version knows");
        return false;
    }
    if (found->verdict == WAL_HEAD_OK &&
        (found->head.cluster.v != wal->config.cluster.v ||
         found->head.server.v != wal->config.server.v)) {
        refuse_file(wal, found, WAL_OPEN_FOREIGN, "belongs to another cluster or server");
        return false;
    }
    found->made = wal->config.segment_bytes; /* at least */
    if (found->verdict == WAL_HEAD_OK)
        found->made = found->head.length;
    else if (found->made < found->length)
        found->made = found->length;
    /* What ends a file that has lost its end is no note. */
    if (has_lost_end(found) || !wal_note_get(at + WAL_SEGMENT_HEAD, &found->over))
        found->over = 0;
    return true;
}

static const struct wal_found *found_with(const struct wal_recovery *rec, uint64_t seq)
{
    for (uint32_t i = 0; i < rec->n_found; i++) {
        const struct wal_found *found = &rec->found[i];
        if ((found->verdict == WAL_HEAD_OK || found->adopted) && found->head.seq == seq)
            return found;
    }
    return NULL;
}

static uint64_t seq_highest(const struct wal_recovery *rec)
{
    uint64_t highest = 0;

    for (uint32_t i = 0; i < rec->n_found; i++) {
        const struct wal_found *found = &rec->found[i];
        if (found->verdict != WAL_HEAD_OK && !found->adopted) continue;
        if (highest < found->head.seq) highest = found->head.seq;
    }
    return highest;
}

static void probe_next(struct wal *wal);

static void head_first_take(struct wal_recovery *rec, uint64_t first)
{
    if (rec->head_second < first)
        rec->head_second = first < rec->head_first ? first : rec->head_first;
    if (rec->head_first < first) rec->head_first = first;
}

static void on_heads(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;

    rec->first = rec->head_first = rec->head_second = 1;
    for (uint32_t i = 0; i < rec->n_found; i++) {
        struct wal_found *found = &rec->found[i];
        if (!head_judge(wal, found, rec->heads + (size_t)i * HEAD_AND_NOTE)) return;
        if (found->verdict == WAL_HEAD_OK) head_first_take(rec, found->head.first);
        if (rec->first <= found->over) rec->first = found->over + 1;
    }
    if (rec->first < rec->head_first) rec->first = rec->head_first;
    wal->phase = WAL_PROBING;
    rec->at = 0;
    rec->pos = 0;
    probe_next(wal);
}

static void on_head_read(struct wal *wal, const struct wal_flying *done, int error)
{
    if (error != 0 && done->job == WAL_JOB_HEAD) {
        refuse_file(wal, &wal->rec.found[done->arg], WAL_OPEN_IO, "cannot be read");
        return;
    }
    if (error != 0) memset(done->op.into, 0, WAL_NOTE);
    if (--wal->rec.left == 0) on_heads(wal);
}

/* ---- files with a broken head ---- */

static void scan_begin(struct wal *wal);

static uint64_t probe_upto(const struct wal_recovery *rec, const struct wal_found *found)
{
    const uint64_t upto = records_upto(found->length, found->made);

    /* A file that was made and never used: if records lay behind a lost head, then
     * here. */
    return found->verdict == WAL_HEAD_EMPTY ? least(upto, rec->piece) : upto;
}

/* Gives the next read of the file at hand, or turns to the next file. */
static void probe_next(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;

    for (; rec->at < rec->n_found; rec->at++, rec->pos = 0) {
        const struct wal_found *found = &rec->found[rec->at];
        if (found->verdict == WAL_HEAD_OK || found->adopted) continue;
        if (rec->pos == 0) rec->pos = WAL_SEGMENT_HEAD;
        const uint64_t upto = probe_upto(rec, found);
        if (rec->pos + WAL_RECORD_HEAD > upto) continue;
        read_give(wal, WAL_JOB_PROBE, found->file, upto);
        return;
    }
    scan_begin(wal);
}

/* A record here makes the file the segment of its life, if that life counts. */
static bool probe_adopt(struct wal *wal, struct wal_found *found,
                        const struct wal_stand *stand)
{
    struct wal_recovery *rec = &wal->rec;
    const uint64_t into = rec->pos - WAL_SEGMENT_HEAD;

    if (stand->seq < rec->first || stand->lsn < into + WAL_LSN_FIRST) return false;
    if (found_with(rec, stand->seq) != NULL) return false;
    found->adopted = true;
    found->head = (struct wal_head){.seq = stand->seq, .base = stand->lsn - into};
    return true;
}

static void on_probe(struct wal *wal, const struct wal_op *op, int error, uint64_t got)
{
    struct wal_recovery *rec = &wal->rec;
    struct wal_found *found = &rec->found[rec->at];
    const uint64_t seq_max = seq_highest(rec) + SEQ_AHEAD;
    const uint64_t room_upto = records_upto(found->length, found->made);

    if (!read_usable(wal, op, error, &got)) {
        probe_next(wal);
        return;
    }
    while (rec->pos - rec->window + WAL_RECORD_HEAD <= got) {
        const uint64_t in = rec->pos - rec->window;
        struct wal_stand stand;
        uint64_t size;
        const bool is_record = wal_record_probe((struct bytes){op->into + in, got - in},
                                                room_upto - rec->pos, seq_max, &stand,
                                                &size);
        if (is_record && probe_adopt(wal, found, &stand)) break;
        rec->pos += is_record ? size : 8;
    }
    if (found->adopted || got < op->length) rec->pos = found->length;
    probe_next(wal);
}

/* ---- records ---- */

static void scan_segment(struct wal *wal);
static void again_begin(struct wal *wal);

static struct wal_segment *scanned(struct wal *wal)
{
    return &wal->segments[wal->rec.at];
}

static bool scans_last(const struct wal *wal)
{
    return wal->rec.at + 1 == wal->n_segments;
}

static uint64_t lsn_at(struct wal *wal, uint64_t offset)
{
    return scanned(wal)->base + (offset - WAL_SEGMENT_HEAD);
}

static void damage_add_of(struct wal *wal, uint32_t file, uint64_t from, uint64_t upto,
                          uint64_t offset)
{
    struct wal_recovery *rec = &wal->rec;

    if (rec->n_damage == DAMAGE_MAX) {
        rec->damage[DAMAGE_MAX - 1].upto.v = upto;
        return;
    }
    *WAL_PUSH(wal, rec->damage, rec->n_damage, rec->cap_damage) = (struct wal_damage){
        .from = {from},
        .upto = {upto},
        .file = file,
        .offset = offset,
    };
}

static void damage_add(struct wal *wal, uint64_t from, uint64_t upto, uint64_t offset)
{
    damage_add_of(wal, scanned(wal)->file, from, upto, offset);
}

/* Files that hold no live segment.  A life below `first` is over by a note or a head.  One
 * that has lost everything may have been the segment behind the newest: it stays as long
 * as that would, so that the damage is found again at every start. */
static void idle_sort(struct wal *wal, uint64_t lowest)
{
    struct wal_recovery *rec = &wal->rec;

    for (uint32_t i = 0; i < rec->n_found; i++) {
        const struct wal_found *found = &rec->found[i];
        const bool has_life = found->verdict == WAL_HEAD_OK || found->adopted;
        if (has_life && found->head.seq >= lowest) continue;

        uint64_t seq = has_life ? found->head.seq : 0;
        if (seq < found->over) seq = found->over;
        if (has_lost_all(found)) seq = seq_highest(rec) + 1;
        wal_idle_add(wal, (struct wal_idle_file){found->file, found->length, seq});
    }
}

static void lost_files_tell(struct wal *wal)
{
    const struct wal_recovery *rec = &wal->rec;

    for (uint32_t i = 0; i < rec->n_found; i++)
        if (has_lost_all(&rec->found[i]))
            damage_add_of(wal, rec->found[i].file, wal->end, wal->end, 0);
}

static void gap_report(struct wal *wal, uint64_t missing)
{
    shut(wal, WAL_OPEN_GAP);
    snprintf(wal->text, sizeof wal->text,
             "log segment %llu is missing; the log needs segments from %llu on",
             (unsigned long long)missing, (unsigned long long)wal->rec.first);
}

static bool has_lost_note(const struct wal_recovery *rec, uint32_t at)
{
    static const uint8_t none[WAL_NOTE];
    const uint8_t *note = rec->heads + (size_t)at * HEAD_AND_NOTE + WAL_SEGMENT_HEAD;
    const struct wal_found *found = &rec->found[at];

    return found->over == 0 && !has_lost_end(found) &&
           memcmp(note, none, sizeof none) != 0;
}

/* A file may carry the only word that an earlier life of it is over.  When that is hit, the
 * life is not to be looked for: a segment at the front that no file holds. */
static void lost_notes_pass(struct wal_recovery *rec, uint64_t highest)
{
    for (uint32_t i = 0; i < rec->n_found; i++)
        if (has_lost_note(rec, i) && rec->first < highest &&
            found_with(rec, rec->first) == NULL)
            rec->first++;
}

/* Every segment from `first` to the newest must be there, once. */
static bool segments_sort(struct wal *wal, uint64_t highest)
{
    struct wal_recovery *rec = &wal->rec;
    uint64_t total = 0;

    lost_notes_pass(rec, highest);
    for (uint32_t i = 0; i < rec->n_found; i++)
        total += (rec->found[i].verdict == WAL_HEAD_OK || rec->found[i].adopted) &&
                 rec->found[i].head.seq >= rec->first;
    if (highest < rec->first) {
        gap_report(wal, rec->first);
        return false;
    }
    for (uint64_t seq = rec->first; seq <= highest; seq++) {
        const struct wal_found *found = found_with(rec, seq);
        if (found == NULL) {
            gap_report(wal, seq);
            return false;
        }
        const struct wal_segment segment = {
            .seq = seq,
            .base = found->head.base,
            .end = found->head.base,
            .opened = found->adopted ? WAL_NOT_OPENED
                                     : found->head.base + found->head.opening,
            .first = found->head.first,
            .length = found->length,
            .made = found->made,
            .file = found->file,
            .chain = found->chain,
            .bound = true,
            .headless = found->adopted,
        };
        const struct wal_segment *before = wal_segment_last(wal);
        if (before != NULL && segment.base < before->base) {
            refuse_file(wal, found, WAL_OPEN_GAP,
                        "begins before the segment that it follows");
            return false;
        }
        wal_segment_add(wal, &segment);
    }
    if (total == wal->n_segments) return true;
    shut(wal, WAL_OPEN_GAP);
    snprintf(wal->text, sizeof wal->text, "two files hold the same segment of the log");
    return false;
}

static void scan_begin(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    const uint64_t highest = seq_highest(rec);

    if (highest == 0 && rec->first == 1) {
        idle_sort(wal, 1);
        lost_files_tell(wal);
        open_now(wal);
        return;
    }
    if (!segments_sort(wal, highest)) return;

    idle_sort(wal, rec->first);
    wal->seq_next = highest + 1;
    wal->first_written = rec->head_first;
    wal->second_written = wal->second_durable = rec->head_second;
    wal->phase = WAL_SCANNING;
    rec->at = 0;
    /* The last segment exists, so all before it were durable. */
    const uint64_t base = wal_segment_last(wal)->base;
    if (rec->watermark < base) rec->watermark = base;
    scan_segment(wal);
}

/* Begins the segment `at`. */
static void scan_segment(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    const struct wal_segment *segment = scanned(wal);

    rec->limit = records_upto(segment->length, segment->made);
    if (!scans_last(wal)) {
        const uint64_t end = wal_offset_of(segment, segment[1].base);
        if (rec->limit > end) rec->limit = end;
    }
    rec->pos = WAL_SEGMENT_HEAD;
    rec->io_from = rec->io_upto = rec->io_retry_upto = 0;
    rec->chain_known = !segment->headless;
    rec->chain = segment->chain;
    rec->last_lsn = segment->base;
    rec->in_trouble = false;
    if (segment->headless && (scans_last(wal) || segment[1].base > segment->base))
        damage_add(wal, segment->base, segment->base, 0);
}

/* The segment is read.  Older ones may go only if its opening was whole. */
static void opening_judge(struct wal *wal, struct wal_segment *segment)
{
    const struct wal_recovery *rec = &wal->rec;

    if (segment->opened > segment->end) segment->opened = WAL_NOT_OPENED;
    for (size_t i = rec->n_damage; i > 0 && rec->damage[i - 1].upto.v >= segment->base;
         i--)
        if (rec->damage[i - 1].from.v < segment->opened) segment->opened = WAL_NOT_OPENED;
}

/* Did the newest record lie where the file is cut off?  Not if the place of the next one
 * can still be read, and nothing was written there in this life. */
static bool end_is_lost(const struct wal *wal, const struct wal_segment *last)
{
    const uint64_t room_upto = last->made - WAL_NOTE;
    const uint64_t next_upto = wal_offset_of(last, last->end) + WAL_RECORD_HEAD;

    return last->length < room_upto && next_upto <= room_upto &&
           (wal->rec.torn || next_upto > last->length);
}

/* Nobody can say how far the log went, or what of it was durable.  The next segment's base
 * is set behind all that there was room for: so the hole is found again at every start,
 * until no group needs this segment. */
static void end_lost(struct wal *wal, struct wal_segment *last)
{
    const uint64_t upto = last->base + (last->made - WAL_NOTE - WAL_SEGMENT_HEAD);

    damage_add(wal, last->end, upto, wal_offset_of(last, last->end));
    last->end = upto;
    wal->rec.torn = false;
}

/* The log ends here; what was read is the truth from now on. */
static void scan_finish(struct wal *wal)
{
    struct wal_segment *last = wal_segment_last(wal);
    struct wal_recovery *rec = &wal->rec;

    rec->again_upto = wal_offset_of(last, last->end);
    if (end_is_lost(wal, last)) end_lost(wal, last);
    opening_judge(wal, last);
    wal->end = last->end;
    lost_files_tell(wal);
    /* Written on only when nothing that could ever check again lies behind the end. */
    wal->sealed = rec->torn || last->opened == WAL_NOT_OPENED ||
                  last->length != wal->config.segment_bytes;
    for (size_t i = 0; i < rec->n_damage; i++)
        if (rec->damage[i].upto.v >= last->base) wal->sealed = true;
    again_begin(wal);
}

static void segment_end(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    struct wal_segment *segment = scanned(wal);

    if (scans_last(wal)) {
        if (rec->surveyed && segment->end < rec->watermark) {
            damage_add(wal, segment->end, rec->watermark,
                       wal_offset_of(segment, segment->end));
            segment->end = rec->watermark;
        }
        scan_finish(wal);
        return;
    }
    const uint64_t end = segment[1].base;
    if (segment->end < end)
        damage_add(wal, segment->end, end, wal_offset_of(segment, segment->end));
    segment->end = end;
    opening_judge(wal, segment);
    rec->at++;
    scan_segment(wal);
}

/* What lies at the end of the log looks like a part of its next record. */
static bool looks_torn(const uint8_t *at, uint64_t lsn)
{
    return load_u64le(at + 16) == lsn;
}

/* The rest of the last segment was looked through: torn or damaged? */
static void survey_end(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    const uint64_t lsn = lsn_at(wal, rec->survey_from);

    rec->surveying = false;
    if (wal->config.bug_tail_damage_is_torn) rec->watermark = least(rec->watermark, lsn);
    if (rec->watermark > lsn) {
        rec->surveyed = true;
        rec->pos = rec->survey_from;
        rec->torn = false;
        return;
    }
    rec->torn = rec->torn || rec->seen_behind;
    scan_finish(wal);
}

static void survey_begin(struct wal *wal, const uint8_t *at, uint64_t size)
{
    struct wal_recovery *rec = &wal->rec;
    const uint64_t pos = rec->pos;

    rec->surveying = true;
    rec->seen_behind = false;
    rec->survey_from = pos;
    rec->torn = looks_torn(at, lsn_at(wal, pos));
    /* Nobody can say that this was not durable: the disk only fails to give it back. */
    if (pos < rec->io_upto && pos + size > rec->io_from) {
        const uint64_t upto = lsn_at(wal, rec->io_upto);
        if (rec->watermark < upto) rec->watermark = upto;
    }
}

static void record_emit(struct wal *wal, const struct wal_seen *seen)
{
    struct wal_recovery *rec = &wal->rec;
    struct wal_segment *segment = scanned(wal);
    const uint64_t lsn = lsn_at(wal, rec->pos);

    if (lsn > segment->end) {
        damage_add(wal, segment->end, lsn, wal_offset_of(segment, segment->end));
    } else if (rec->chain_known && rec->chain != seen->chain) {
        damage_add(wal, rec->last_lsn, lsn, rec->pos); /* it was written behind another */
    }
    if (rec->watermark < seen->watermark) rec->watermark = seen->watermark;
    segment->end = lsn + seen->size;
    segment->chain = seen->chain_next;
    wal_record_note(wal, segment, &seen->record, lsn);
    if (seen->record.kind != WAL_MARK)
        *WAL_PUSH(wal, rec->records, rec->n_records, rec->cap_records) = seen->record;
    rec->chain_known = true;
    rec->chain = seen->chain_next;
    rec->last_lsn = lsn;
    rec->in_trouble = false;
}

/* One place in the last segment, once it is known to be torn or damaged from there on. */
static void survey_place(struct wal_recovery *rec, enum wal_verdict verdict,
                         const struct wal_seen *seen)
{
    if (verdict == WAL_RECORD_BROKEN) {
        rec->pos += 8;
        return;
    }
    rec->seen_behind = true;
    if (rec->watermark < seen->watermark) rec->watermark = seen->watermark;
    rec->pos += seen->size;
}

/* One place of a segment. */
static void scan_place(struct wal *wal, struct bytes in, enum wal_verdict verdict,
                       const struct wal_seen *seen)
{
    struct wal_recovery *rec = &wal->rec;
    const bool chained = verdict != WAL_RECORD_OK || !rec->chain_known ||
                         rec->in_trouble || rec->chain == seen->chain;

    if (verdict == WAL_RECORD_OK && chained) {
        record_emit(wal, seen);
        rec->pos += seen->size;
        return;
    }
    /* Below the watermark that a survey has found it is damage; above, another
     * question. */
    if (scans_last(wal) && !rec->in_trouble &&
        (!rec->surveyed || lsn_at(wal, rec->pos) >= rec->watermark)) {
        survey_begin(wal, in.at,
                     verdict == WAL_RECORD_BODY ? seen->size : WAL_RECORD_HEAD);
        return;
    }
    if (verdict == WAL_RECORD_OK)
        record_emit(wal, seen);
    else
        rec->in_trouble = true;
    rec->pos += verdict == WAL_RECORD_BROKEN ? 8 : seen->size;
}

/* Parses what the window holds. */
static void scan_window(struct wal *wal, const struct wal_op *op, uint64_t got)
{
    struct wal_recovery *rec = &wal->rec;

    if (got < op->length && rec->limit > rec->window + got)
        rec->limit = rec->window + got;
    while (rec->pos + WAL_RECORD_HEAD <= rec->limit) {
        const uint64_t in = rec->pos - rec->window;
        if (in + WAL_RECORD_HEAD > got) return;

        const struct bytes bytes = {op->into + in, got - in};
        struct wal_seen seen;
        const enum wal_verdict verdict = wal_record_get(bytes, rec->limit - rec->pos,
                                                        scanned(wal)->seq,
                                                        lsn_at(wal, rec->pos), &seen);
        if (verdict == WAL_RECORD_SHORT && !rec->surveying) {
            rec->want = seen.size;
            return;
        }
        if (rec->surveying)
            survey_place(rec, verdict, &seen);
        else
            scan_place(wal, bytes, verdict, &seen);
    }
}

/* Goes on until a read is needed or the scan has ended. */
static void scan_next(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;

    while (wal->phase == WAL_SCANNING) {
        if (rec->pos + WAL_RECORD_HEAD <= rec->limit) {
            read_give(wal, WAL_JOB_SCAN, scanned(wal)->file, rec->limit);
            return;
        }
        if (rec->surveying)
            survey_end(wal);
        else
            segment_end(wal);
    }
}

static void on_scan(struct wal *wal, const struct wal_op *op, int error, uint64_t got)
{
    if (read_usable(wal, op, error, &got)) scan_window(wal, op, got);
    scan_next(wal);
}

/* ---- the unsure end, written again ---- */

static void again_next(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    const struct wal_segment *last = wal_segment_last(wal);

    if (rec->pos < rec->again_upto) {
        read_give(wal, WAL_JOB_AGAIN_READ, last->file, rec->again_upto);
    } else {
        struct wal_op *op = wal_op_give(wal, WAL_JOB_AGAIN_SYNC, 0);
        op->kind = WAL_OP_SYNC;
        op->file = last->file;
        rec->left++;
    }
}

/* Notes that only this start has seen: before such a file is used again they are made
 * sure of, or a power cut could take the note and what it ended. */
static void notes_again(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;

    for (uint32_t i = 0; i < rec->n_found; i++) {
        const struct wal_found *found = &rec->found[i];
        if (found->over < rec->head_first) continue;

        struct wal_op *op = wal_op_give(wal, WAL_JOB_AGAIN_WRITE, 0);
        op->kind = WAL_OP_WRITE;
        op->file = found->file;
        op->offset = found->length - WAL_NOTE;
        op->length = WAL_NOTE;
        op->data = (struct bytes){
            rec->heads + (size_t)i * HEAD_AND_NOTE + WAL_SEGMENT_HEAD, WAL_NOTE};
        op = wal_op_give(wal, WAL_JOB_AGAIN_SYNC, 0);
        op->kind = WAL_OP_SYNC;
        op->file = found->file;
        rec->left += 2;
    }
}

static void again_begin(struct wal *wal)
{
    struct wal_recovery *rec = &wal->rec;
    const struct wal_segment *last = wal_segment_last(wal);

    wal->phase = WAL_AGAIN;
    rec->left = 0;
    notes_again(wal);
    rec->pos = rec->watermark > last->base ? wal_offset_of(last, rec->watermark) : 0;
    if (rec->pos < rec->again_upto)
        again_next(wal);
    else if (rec->left == 0)
        open_now(wal);
}

static void on_again(struct wal *wal, const struct wal_flying *done, int error,
                     uint64_t got)
{
    struct wal_recovery *rec = &wal->rec;
    const struct wal_op read = done->op;

    if (done->job == WAL_JOB_AGAIN_READ) {
        if (error != 0 || got == 0) {
            wal_fail(wal, &read, error);
            return;
        }
        struct wal_op *op = wal_op_give(wal, WAL_JOB_AGAIN_WRITE, 0);
        op->kind = WAL_OP_WRITE;
        op->file = read.file;
        op->offset = read.offset;
        op->length = got;
        op->data = (struct bytes){read.into, got};
        rec->left++;
        rec->pos += got;
        again_next(wal);
        return;
    }
    check(rec->left > 0);
    if (--rec->left == 0 && rec->pos >= rec->again_upto) open_now(wal);
}

void wal_recover_done(struct wal *wal, const struct wal_flying *done, int error,
                      uint64_t got)
{
    switch (wal->phase) {
    case WAL_HEADS: on_head_read(wal, done, error); break;
    case WAL_PROBING: on_probe(wal, &done->op, error, got); break;
    case WAL_SCANNING: on_scan(wal, &done->op, error, got); break;
    case WAL_AGAIN: on_again(wal, done, error, got); break;
    case WAL_SHUT: /* reads that were on their way when another told enough */
    case WAL_NEW:
    case WAL_OPEN: break;
    }
    /* Probing may have ended in the files just judged. */
    if (wal->phase == WAL_SCANNING && wal->n_flying == 0) scan_next(wal);
}
