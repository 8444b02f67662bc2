/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that are no longer in memory, brought back through the groups' places.
 *
 * One request is served at a time.  A place tells where the run of entries that
 * follows it begins; the run is read forward from there, taking the entry that comes
 * next and nothing that lies before the place of its own run.  When the group was
 * truncated meanwhile, the request is served anew. */
#include "wal/wal_state.h"

enum { WINDOW_MIN = 4096 };

void wal_reads_free(struct wal *wal)
{
    struct wal_fetch *fetch = &wal->fetch;

    mem_free(wal->mem, wal->requests, wal->cap_requests * sizeof *wal->requests);
    mem_free(wal->mem, fetch->window, fetch->cap_window);
    mem_free(wal->mem, fetch->records, fetch->cap_records * sizeof *fetch->records);
    buf_free(&fetch->bodies);
}

void wal_reads_trim(struct wal *wal)
{
    struct wal_fetch *fetch = &wal->fetch;

    if (fetch->active) return;
    if (fetch->cap_window > wal->config.read_bytes_max) {
        mem_free(wal->mem, fetch->window, fetch->cap_window);
        fetch->window = NULL;
        fetch->cap_window = 0;
    }
    if (fetch->bodies.cap > wal->config.read_bytes_max) buf_free(&fetch->bodies);
}

void wal_read(struct wal *wal, uint64_t tag, struct group_id group, struct log_index from,
              struct log_index upto, uint64_t bytes_max)
{
    *WAL_PUSH(wal, wal->requests, wal->n_requests,
              wal->cap_requests) = (struct wal_request){
        .tag = tag,
        .group = group,
        .from = from.v,
        .upto = upto.v,
        .bytes_max = bytes_max,
    };
}

/* The fetch ends, with what it has; without anything it has failed, unless `later`:
 * what is wanted is there, but not on disk yet. */
static void fetch_end(struct wal *wal, bool later)
{
    struct wal_fetch *fetch = &wal->fetch;

    for (size_t i = 0; i < fetch->n_records; i++) {
        struct bytes *body = &fetch->records[i].body;
        body->at = fetch->bodies.at + (uintptr_t)body->at;
    }
    wal->dones[wal->n_dones++] = (struct wal_read_done){
        .tag = fetch->request.tag,
        .records = fetch->records,
        .n_records = (uint32_t)fetch->n_records,
        .failed = fetch->n_records == 0 && !later,
    };
    fetch->active = false;
}

static void fetch_begin(struct wal *wal)
{
    struct wal_fetch *fetch = &wal->fetch;

    fetch->request = wal->requests[0];
    wal->n_requests--;
    memmove(wal->requests, wal->requests + 1, wal->n_requests * sizeof *wal->requests);
    fetch->active = true;
    fetch->next = fetch->request.from;
    fetch->changes = 0; /* no group's: they count from 1 */
    fetch->want = 0;
    fetch->n_records = 0;
}

/* How many places have an index up to this one: the last of them is where to look. */
static size_t places_upto(const struct wal_group *group, uint64_t index)
{
    size_t low = 0, high = group->n_places;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (group->places[mid].index <= index)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Where the window must end: no entry that is wanted lies behind. */
static uint64_t fetch_limit(const struct wal *wal, const struct wal_segment *segment,
                            const struct wal_group *group)
{
    const size_t behind = places_upto(group, wal->fetch.request.upto);
    uint64_t lsn = segment->end < wal->written ? segment->end : wal->written;

    if (behind < group->n_places && group->places[behind].lsn < lsn)
        lsn = group->places[behind].lsn;
    return wal_offset_of(segment, lsn);
}

static void window_give(struct wal *wal, const struct wal_segment *segment)
{
    struct wal_fetch *fetch = &wal->fetch;
    uint64_t length = wal->config.read_bytes_max / 2;

    if (length < WINDOW_MIN) length = WINDOW_MIN;
    if (length < fetch->want) length = fetch->want;
    if (length > fetch->limit - fetch->pos) length = fetch->limit - fetch->pos;
    if (fetch->cap_window < length) {
        fetch->window = mem_resize(wal->mem, fetch->window, fetch->cap_window, length);
        fetch->cap_window = length;
    }
    struct wal_op *op = wal_op_give(wal, WAL_JOB_FETCH, 0);
    op->kind = WAL_OP_READ;
    op->file = segment->file;
    op->offset = fetch->pos;
    op->length = length;
    op->into = fetch->window;
    fetch->flying = true;
}

/* Gives the next read, or ends. */
static void fetch_next(struct wal *wal)
{
    struct wal_fetch *fetch = &wal->fetch;
    const struct wal_group *group = wal_group_find(wal, fetch->request.group);

    if (group != NULL && fetch->changes != group->changes) { /* truncated: begin anew */
        fetch->changes = group->changes;
        fetch->next = fetch->request.from;
        fetch->seq = 0;
        fetch->n_records = 0;
        fetch->bodies.len = 0;
    }
    if (group == NULL || fetch->next > group->last || fetch->next > fetch->request.upto) {
        fetch_end(wal, false);
        return;
    }
    const size_t n = places_upto(group, fetch->next);
    const struct wal_segment *segment =
        n > 0 ? wal_segment_at(wal, group->places[n - 1].lsn) : NULL;
    if (segment == NULL) {
        fetch_end(wal, false);
        return;
    }
    const uint64_t lsn = group->places[n - 1].lsn;
    if (lsn >= wal->written) {
        fetch_end(wal, true);
        return;
    }
    const uint64_t pos = wal_offset_of(segment, lsn);
    if (fetch->seq != segment->seq || fetch->pos < pos) fetch->pos = pos;
    fetch->seq = segment->seq;
    fetch->limit = fetch_limit(wal, segment, group);
    if (fetch->pos + WAL_RECORD_HEAD > fetch->limit) {
        const bool later = segment->end > wal->written;
        fetch_end(wal, later);
        return;
    }
    window_give(wal, segment);
}

void wal_reads_tend(struct wal *wal)
{
    struct wal_fetch *fetch = &wal->fetch;

    /* One answer with records at a time: the next fetch would write over them. */
    while (wal->n_dones < WAL_DONE_MAX && !fetch->flying) {
        if (!fetch->active) {
            if (wal->n_requests == 0) return;
            if (wal->n_dones > 0 && wal->dones[wal->n_dones - 1].n_records > 0) return;
            fetch_begin(wal);
        }
        fetch_next(wal);
    }
}

/* Keeps a copy; the place of the body is an offset until the fetch ends. */
static void record_keep(struct wal_fetch *fetch, struct wal *wal,
                        const struct wal_record *record)
{
    const size_t at = fetch->bodies.len;

    buf_put(&fetch->bodies, record->body.at, record->body.len);
    struct wal_record *kept = WAL_PUSH(wal, fetch->records, fetch->n_records,
                                       fetch->cap_records);
    *kept = *record;
    kept->body.at = (const uint8_t *)(uintptr_t)at;
}

/* The position of the run that the next entry is in; what lies before it is older. */
static uint64_t run_floor(const struct wal_group *group, uint64_t next)
{
    const size_t n = places_upto(group, next);

    return n > 0 ? group->places[n - 1].lsn : UINT64_MAX;
}

static bool fetch_full(const struct wal *wal)
{
    const struct wal_fetch *fetch = &wal->fetch;
    const uint64_t held_max = wal->config.read_bytes_max / 2;

    return fetch->n_records > 0 && (fetch->bodies.len >= fetch->request.bytes_max ||
                                    fetch->bodies.len >= held_max);
}

/* Takes from the window what comes next.  False: enough. */
static bool window_take(struct wal *wal, const struct wal_segment *segment,
                        const struct wal_group *group, uint64_t got)
{
    struct wal_fetch *fetch = &wal->fetch;
    const uint64_t begin = fetch->pos;
    uint64_t floor = run_floor(group, fetch->next);

    fetch->want = 0;
    while (fetch->pos - begin + WAL_RECORD_HEAD <= got) {
        const uint64_t in = fetch->pos - begin;
        const uint64_t lsn = segment->base + (fetch->pos - WAL_SEGMENT_HEAD);
        struct wal_seen seen;
        const enum wal_verdict verdict = wal_record_get(
            (struct bytes){fetch->window + in, got - in}, fetch->limit - fetch->pos,
            segment->seq, lsn, &seen);
        if (verdict == WAL_RECORD_BROKEN) {
            fetch->pos += 8;
            continue;
        }
        const bool wanted = seen.record.kind == WAL_ENTRY && lsn >= floor &&
                            seen.record.group.v == group->id.v &&
                            seen.record.index.v == fetch->next;
        if (wanted && verdict == WAL_RECORD_SHORT) {
            fetch->want = seen.size;
            return true;
        }
        if (wanted && verdict == WAL_RECORD_BODY) return false; /* damaged since */
        fetch->pos += seen.size;
        if (!wanted) continue;

        record_keep(fetch, wal, &seen.record);
        fetch->next++;
        if (fetch->next > fetch->request.upto || fetch_full(wal)) return false;
        floor = run_floor(group, fetch->next);
    }
    return true;
}

void wal_fetch_done(struct wal *wal, const struct wal_op *op, int error, uint64_t got)
{
    struct wal_fetch *fetch = &wal->fetch;
    const struct wal_group *group = wal_group_find(wal, fetch->request.group);
    const struct wal_segment *segment = wal_segment_find(wal, fetch->seq);

    check(fetch->flying);
    fetch->flying = false;
    if (error != 0 || got == 0 || group == NULL || segment == NULL) {
        fetch_end(wal, false);
        return;
    }
    if (group->changes != fetch->changes) return;
    const bool more = window_take(wal, segment, group, got);
    if (!more || got < op->length) fetch_end(wal, false);
}
