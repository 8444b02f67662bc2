/* SPDX-License-Identifier: Apache-2.0 */
/* wal_disk - a disk for tests of the log: it loses what was not synced, tears writes
 * at any byte, flips bits and fails when told to; and a world that drives one log over
 * it. */
#pragma once

#include "base/prng.h"
#include "wal/wal.h"

struct disk_write {
    uint64_t offset, length;
};

struct disk_file {
    uint32_t file;
    bool there;
    uint64_t length;
    uint8_t *cached;  /* what a read gives */
    uint8_t *durable; /* what a power cut leaves */
    struct disk_write *unsynced;
    size_t n_unsynced, cap_unsynced;
};

enum { DISK_FILES_MAX = 512 };

struct disk {
    struct disk_file files[DISK_FILES_MAX];
    uint32_t n_files;
    struct prng prng;
    uint64_t n_ops;
    uint64_t crash_at;  /* the power goes during this op, counted from 1; 0: never */
    uint64_t error_at;  /* this op fails with EIO; 0: never */
    uint64_t bytes_max; /* CREATE beyond this gives ENOSPC; 0: no limit */
    int create_error;   /* of each CREATE; 0: none */
    uint64_t
        unreadable_file; /* EIO for reads that touch [from, upto) of it; UINT64_MAX */
    uint64_t unreadable_from, unreadable_upto;
    uint64_t n_read_bytes_max; /* the largest single read */
};

enum disk_loss { DISK_LOSE_ALL, DISK_LOSE_NONE, DISK_LOSE_SOME };

struct disk_file *disk_find(struct disk *disk, uint32_t file);
/* A file of zeros appears. */
void disk_add(struct disk *disk, uint32_t file, uint64_t length);
void disk_crash(struct disk *disk, enum disk_loss loss);
void disk_free(struct disk *disk);
struct disk *disk_copy(const struct disk *disk);

/* What came back from recovery or a read: bodies copied. */
struct kept {
    struct wal_record record;
    uint8_t *body;
};

struct kept_list {
    struct kept *at;
    size_t n, cap;
};

struct world {
    struct mem mem;
    struct disk *disk;
    struct wal *wal;
    struct wal_config config;
    struct wal_out out;
    struct instant now;
    struct wal_op queue[4096];
    size_t queue_at, queue_n;
    bool powered; /* false: the power went in the middle of an op */

    struct kept_list recovered;
    bool opened, torn;
    enum wal_open_error open_error;
    char open_text[200];
    struct wal_damage damage[64];
    uint32_t n_damage;
    bool failed, full;
    uint64_t durable;

    struct kept_list read;
    uint64_t read_tag;
    bool read_done, read_failed;
};

struct world *world_new(uint64_t seed, uint64_t segment_bytes);
void world_free(struct world *world);
void world_start(
    struct world *world);             /* a log over what is on the disk, run until open */
void world_stop(struct world *world); /* the process ends; the disk stays as it is */
void world_turn(struct world *world); /* turn end, ops queued but not performed */
bool world_perform(
    struct world *world);             /* one op of the queue; false: none, or no power */
void world_run(struct world *world);  /* turns and ops until nothing is left to do */
void world_idle(struct world *world); /* time passes: a mark is written */
uint64_t world_append(struct world *world, const struct wal_record *record);
/* An entry whose body is `serial`, then bytes that follow from it. */
uint64_t world_entry(struct world *world, uint32_t group, uint64_t index, uint64_t serial,
                     size_t len);
uint64_t kept_serial(const struct kept *kept);     /* checks the rest of the body too */
size_t kept_entries(const struct kept_list *list); /* how many are entries */
void world_read(struct world *world, uint32_t group, uint64_t from, uint64_t upto,
                uint64_t bytes_max);
