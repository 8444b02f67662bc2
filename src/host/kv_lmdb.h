/* SPDX-License-Identifier: Apache-2.0 */
/* kv_lmdb - the engine of kv.h over LMDB: one environment for the stores of a reactor.
 *
 * Threads  readers belong to the loop (a digest's is lent to the job that uses it);
 *          kv_lmdb_run() is called by one checkpoint thread, which waits for the disk
 *          there
 * Errors   opening tells in words what to do; afterwards a full disk or map is ENOSPC,
 *          and any other error means that the engine broke: the caller stops the process
 * Limits   the map's size bounds the data; it costs address space only
 */
#pragma once

#include "store/kv.h"

struct kv_lmdb;

struct kv_lmdb_config {
    const char *dir;    /* must exist */
    uint64_t map_bytes; /* 0: 256 GB, or less if the system refuses so much */
    uint32_t readers;   /* open at the same time */
};

struct kv_lmdb_error {
    char text[320];
};

/* NULL: it could not be opened, and error->text says why. */
struct kv_lmdb *kv_lmdb_open(const struct kv_lmdb_config *config,
                             struct kv_lmdb_error *error);
void kv_lmdb_close(struct kv_lmdb *l); /* all readers closed, no job under way */
struct kv kv_lmdb_kv(struct kv_lmdb *l);

/* Runs a job on the calling thread; its transaction is durable, or rolled back, when this
 * returns 0 or the error. */
int kv_lmdb_run(struct kv_lmdb *l, struct kv_job *job);

struct kv_lmdb_stats {
    uint64_t map_bytes, used_bytes; /* of the file, pages to be used again included */
    uint64_t entries;
    uint32_t readers_open;
};
struct kv_lmdb_stats kv_lmdb_stats(struct kv_lmdb *l);
