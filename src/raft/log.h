/* SPDX-License-Identifier: Apache-2.0 */
/* log - the entries of one group's log that lie in memory, and the terms of all of it.
 *
 *      base        mem_first                    last
 *        │  evicted  │        in memory          │
 *        ├───────────┼───────────────────────────┤
 *        └─ terms are known from here to last ───┘
 *
 * Entries come in at the end and go from either end: truncated by a new leader, evicted
 * or compacted at the front.  So payloads lie in a queue of chunks, and the descriptors
 * in one sliding array, a slice of which can be a message as it stands.  A payload in a block
 * is not copied: its chunk is empty and refers to the block.
 *
 * Terms    are kept as runs: a log of a million entries has as many runs as it had leaders.
 * Owner    the log owns payloads and descriptors; what it gives out is good until it changes.
 * Internal to src/raft.
 */
#pragma once

#include "raft/raft.h"

enum { LOG_CHUNK_BYTES = 64 << 10, LOG_SPARE_MAX = 4 };

struct log_run {
    struct log_index from;
    struct term term;
};

struct log_chunk {
    struct log_chunk *next, *prev;
    struct log_index first; /* the first entry whose payload lies here */
    struct block *block;    /* the whole payload of `first`; NULL: it lies in data */
    size_t cap, used;
    uint8_t data[];
};

struct log {
    struct mem *mem;
    struct log_index base, last, mem_first;
    struct term base_term;

    struct log_run *runs;
    uint32_t runs_head, n_runs, runs_cap;

    struct raft_entry *entries; /* entries[head] is mem_first */
    uint64_t head, entries_cap;

    struct log_chunk *oldest, *newest, *spare;
    uint32_t n_spare;
    uint64_t bytes; /* payloads and descriptors in memory */
};

void log_init(struct log *log, struct mem *mem, struct log_index base,
              struct term base_term);
void log_free(struct log *log);

/* With a block, the payload lies in it and is not copied. */
struct log_index log_append(struct log *log, struct term term, enum raft_entry_kind kind,
                            struct bytes payload, struct block *block);
void log_truncate(struct log *log, struct log_index last); /* entries above `last` go */
void log_evict(struct log *log, struct log_index upto, uint64_t bytes_max);
void log_compact(struct log *log, struct log_index base); /* within base .. last */
void log_reset(struct log *log, struct log_index base, struct term base_term);

/* 0 outside base .. last. */
struct term log_term_at(const struct log *log, struct log_index index);
/* The largest index up to `index` whose term is at most `term`; the base if there is
 * none. */
struct log_index log_find_term(const struct log *log, struct log_index index,
                               struct term term);
/* The entry in memory, or NULL; the ones after it up to last lie behind it. */
const struct raft_entry *log_at(const struct log *log, struct log_index index);
/* What an entry of this payload counts for in every bound that is in bytes. */
uint64_t log_cost(struct bytes payload);

void log_verify(const struct log *log);
