/* SPDX-License-Identifier: Apache-2.0 */
#include "raft/log.h"

#include <string.h>

/* Small at first: most groups of a server with many have a handful of entries. */
enum { ENTRIES_CAP_MIN = 4, RUNS_CAP_MIN = 2, CHUNK_BYTES_MIN = 512 };

uint64_t log_cost(struct bytes payload)
{
    return payload.len + sizeof(struct raft_entry);
}

static uint64_t count_in_memory(const struct log *log)
{
    return log->last.v + 1 - log->mem_first.v;
}

void log_init(struct log *log, struct mem *mem, struct log_index base,
              struct term base_term)
{
    *log = (struct log){
        .mem = mem,
        .base = base,
        .last = base,
        .mem_first = {base.v + 1},
        .base_term = base_term,
    };
}

static void chunk_free(struct log *log, struct log_chunk *chunk)
{
    block_unref(chunk->block);
    mem_free(log->mem, chunk, sizeof *chunk + chunk->cap);
}

/* A few chunks are kept aside, so that a log that moves along at a steady size allocates
 * nothing although it takes in and lets go in bursts. */
static void chunk_release(struct log *log, struct log_chunk *chunk)
{
    if (log->n_spare == LOG_SPARE_MAX || chunk->cap != LOG_CHUNK_BYTES) {
        chunk_free(log, chunk);
        return;
    }
    chunk->next = log->spare;
    log->spare = chunk;
    log->n_spare++;
}

static void chunk_drop_oldest(struct log *log)
{
    struct log_chunk *chunk = log->oldest;

    log->oldest = chunk->next;
    if (log->oldest != NULL)
        log->oldest->prev = NULL;
    else
        log->newest = NULL;
    chunk_release(log, chunk);
}

static void chunk_drop_newest(struct log *log)
{
    struct log_chunk *chunk = log->newest;

    log->newest = chunk->prev;
    if (log->newest != NULL)
        log->newest->next = NULL;
    else
        log->oldest = NULL;
    chunk_release(log, chunk);
}

void log_free(struct log *log)
{
    while (log->oldest != NULL)
        chunk_drop_oldest(log);
    while (log->spare != NULL) {
        struct log_chunk *chunk = log->spare;
        log->spare = chunk->next;
        chunk_free(log, chunk);
    }
    mem_free(log->mem, log->entries, log->entries_cap * sizeof *log->entries);
    mem_free(log->mem, log->runs, log->runs_cap * sizeof *log->runs);
    log_init(log, log->mem, log->base, log->base_term);
}

static struct log_chunk *chunk_add(struct log *log, struct log_index index, size_t cap)
{
    struct log_chunk *chunk = log->spare;

    if (cap == LOG_CHUNK_BYTES && chunk != NULL) {
        log->spare = chunk->next;
        log->n_spare--;
    } else {
        chunk = mem_alloc(log->mem, sizeof *chunk + cap);
    }
    chunk->next = NULL;
    chunk->prev = log->newest;
    chunk->first = index;
    chunk->block = NULL;
    chunk->cap = cap;
    chunk->used = 0;
    if (log->newest != NULL)
        log->newest->next = chunk;
    else
        log->oldest = chunk;
    log->newest = chunk;
    return chunk;
}

/* Twice the one before, up to the usual size: a group with little to log holds little. */
static size_t chunk_bytes_next(const struct log *log)
{
    if (log->spare != NULL) return LOG_CHUNK_BYTES;
    if (log->newest == NULL || log->newest->cap < CHUNK_BYTES_MIN) return CHUNK_BYTES_MIN;
    return log->newest->cap < LOG_CHUNK_BYTES / 2 ? 2 * log->newest->cap
                                                  : LOG_CHUNK_BYTES;
}

/* A payload that does not fit the rest of the newest chunk begins a new one; a large one
 * gets a chunk of exactly its own size, which goes with it. */
static uint8_t *payload_place(struct log *log, struct log_index index, size_t len)
{
    struct log_chunk *chunk = log->newest;

    if (chunk == NULL || chunk->cap - chunk->used < len) {
        const size_t usual = chunk_bytes_next(log);
        chunk = chunk_add(log, index, len > usual ? len : usual);
    }
    uint8_t *at = chunk->data + chunk->used;
    chunk->used += len;
    return at;
}

/* Room for one more descriptor at the end: slide down when half of the array is behind
 * us, else double.  Either way each descriptor moves O(1) times on average. */
static struct raft_entry *entry_place(struct log *log)
{
    const uint64_t count = count_in_memory(log);

    if (log->head + count == log->entries_cap) {
        if (log->head > 0 && log->head >= log->entries_cap / 2) {
            memmove(log->entries, log->entries + log->head, count * sizeof *log->entries);
            log->head = 0;
        } else {
            const uint64_t cap = log->entries_cap > 0 ? 2 * log->entries_cap
                                                      : ENTRIES_CAP_MIN;
            log->entries = mem_resize(log->mem, log->entries,
                                      log->entries_cap * sizeof *log->entries,
                                      cap * sizeof *log->entries);
            log->entries_cap = cap;
        }
    }
    return &log->entries[log->head + count];
}

static void run_add(struct log *log, struct log_index from, struct term term)
{
    if (log->n_runs > 0 && log->runs[log->runs_head + log->n_runs - 1].term.v == term.v)
        return;
    if (log->runs_head + log->n_runs == log->runs_cap) {
        if (log->runs_head > 0) {
            memmove(log->runs, log->runs + log->runs_head,
                    log->n_runs * sizeof *log->runs);
            log->runs_head = 0;
        } else {
            const uint32_t cap = log->runs_cap > 0 ? 2 * log->runs_cap : RUNS_CAP_MIN;
            log->runs = mem_resize(log->mem, log->runs, log->runs_cap * sizeof *log->runs,
                                   cap * sizeof *log->runs);
            log->runs_cap = cap;
        }
    }
    log->runs[log->runs_head + log->n_runs++] = (struct log_run){from, term};
}

struct log_index log_append(struct log *log, struct term term, enum raft_entry_kind kind,
                            struct bytes payload, struct block *block)
{
    const struct log_index index = {log->last.v + 1};
    struct raft_entry *entry = entry_place(log);

    *entry = (struct raft_entry){index, term, kind, payload, block};
    if (block != NULL) {
        chunk_add(log, index, 0)->block = block_ref(block);
    } else {
        uint8_t *at = payload_place(log, index, payload.len);
        if (payload.len > 0) memcpy(at, payload.at, payload.len);
        entry->payload.at = at;
    }
    run_add(log, index, term);
    log->last = index;
    log->bytes += log_cost(payload);
    return index;
}

/* With nothing in memory, one chunk at most is kept, and begun again; none with a block, which
 * nothing of the log counts any more. */
static void chunks_restart(struct log *log)
{
    while (log->oldest != NULL && log->oldest != log->newest)
        chunk_drop_oldest(log);
    if (log->oldest == NULL) return;
    if (log->oldest->cap > LOG_CHUNK_BYTES || log->oldest->block != NULL) {
        chunk_drop_oldest(log);
        return;
    }
    log->oldest->first = (struct log_index){log->last.v + 1};
    log->oldest->used = 0;
}

void log_truncate(struct log *log, struct log_index last)
{
    check(last.v >= log->base.v);

    while (log->last.v > last.v && log->last.v >= log->mem_first.v) {
        const struct raft_entry *entry = log_at(log, log->last);
        log->bytes -= log_cost(entry->payload);
        log->last.v--;
    }
    if (log->last.v > last.v) {
        log->last = last;
        log->mem_first.v = last.v + 1;
    }
    while (log->n_runs > 0 && log->runs[log->runs_head + log->n_runs - 1].from.v > last.v)
        log->n_runs--;
    if (log->last.v < log->mem_first.v) {
        chunks_restart(log);
        return;
    }
    while (log->newest->first.v > log->last.v)
        chunk_drop_newest(log);
    if (log->newest->block != NULL) return;
    const struct bytes end = log_at(log, log->last)->payload;
    log->newest->used = (size_t)(end.at + end.len - log->newest->data);
}

static void drop_front(struct log *log)
{
    log->bytes -= log_cost(log->entries[log->head].payload);
    log->head++;
    log->mem_first.v++;
}

static void drop_chunks_behind(struct log *log)
{
    if (log->mem_first.v > log->last.v) {
        log->head = 0;
        chunks_restart(log);
        return;
    }
    while (log->oldest->next != NULL && log->oldest->next->first.v <= log->mem_first.v)
        chunk_drop_oldest(log);
}

void log_evict(struct log *log, struct log_index upto, uint64_t bytes_max)
{
    if (log->bytes <= bytes_max || log->mem_first.v > upto.v) return;

    while (log->bytes > bytes_max && log->mem_first.v <= upto.v &&
           log->mem_first.v <= log->last.v)
        drop_front(log);
    drop_chunks_behind(log);
}

void log_compact(struct log *log, struct log_index base)
{
    check(base.v >= log->base.v);
    check(base.v <= log->last.v);

    log->base_term = log_term_at(log, base);
    while (log->mem_first.v <= base.v && log->mem_first.v <= log->last.v)
        drop_front(log);
    drop_chunks_behind(log);
    while (log->n_runs > 1 && log->runs[log->runs_head + 1].from.v <= base.v + 1) {
        log->runs_head++;
        log->n_runs--;
    }
    if (base.v == log->last.v) log->n_runs = 0;
    if (log->n_runs > 0 && log->runs[log->runs_head].from.v <= base.v)
        log->runs[log->runs_head].from.v = base.v + 1;
    log->base = base;
}

void log_reset(struct log *log, struct log_index base, struct term base_term)
{
    log->base = log->last = base;
    log->base_term = base_term;
    log->mem_first.v = base.v + 1;
    log->head = 0;
    log->runs_head = log->n_runs = 0;
    log->bytes = 0;
    chunks_restart(log);
}

/* The run that holds index, which lies in base+1 .. last. */
static uint32_t run_of(const struct log *log, struct log_index index)
{
    const struct log_run *runs = log->runs + log->runs_head;
    uint32_t lo = 0, hi = log->n_runs - 1;

    if (runs[hi].from.v <= index.v) return hi; /* nearly always */
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo + 1) / 2;
        if (runs[mid].from.v <= index.v)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

struct term log_term_at(const struct log *log, struct log_index index)
{
    if (index.v == log->base.v) return log->base_term;
    if (index.v < log->base.v || index.v > log->last.v) return (struct term){0};
    return log->runs[log->runs_head + run_of(log, index)].term;
}

struct log_index log_find_term(const struct log *log, struct log_index index,
                               struct term term)
{
    if (index.v > log->last.v) index = log->last;
    if (index.v <= log->base.v) return log->base;

    for (uint32_t i = run_of(log, index) + 1; i-- > 0;) {
        const struct log_run *run = &log->runs[log->runs_head + i];
        if (run->term.v <= term.v) return index;
        index.v = run->from.v - 1;
    }
    return log->base;
}

const struct raft_entry *log_at(const struct log *log, struct log_index index)
{
    if (index.v < log->mem_first.v || index.v > log->last.v) return NULL;
    return &log->entries[log->head + (index.v - log->mem_first.v)];
}

void log_verify(const struct log *log)
{
    check(log->base.v <= log->last.v);
    check(log->mem_first.v > log->base.v);
    check(log->mem_first.v <= log->last.v + 1);
    check((log->n_runs == 0) == (log->base.v == log->last.v));
    check(log->n_runs == 0 || log->runs[log->runs_head].from.v == log->base.v + 1);
    check((log->oldest == NULL) == (log->newest == NULL));
    check(log->mem_first.v > log->last.v || log->oldest->first.v <= log->mem_first.v);
    check(log->bytes >= count_in_memory(log) * sizeof(struct raft_entry));
    check(log->mem_first.v <= log->last.v || log->bytes == 0);
}
