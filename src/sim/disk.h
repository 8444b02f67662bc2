/* SPDX-License-Identifier: Apache-2.0 */
/* disk - the log files of one simulated machine: what programs see, and what would be there
 * after a power cut.
 *
 * A write changes what is seen; a sync makes durable what was written to its file before.
 * A power cut leaves of each unsynced write all, nothing, or a part, by the seed.  A program
 * that is killed loses nothing that it had written.
 *
 * Removals are made durable, as a journal orders them, by the next sync or create; until
 * then a power cut may bring the newest of them back.
 */
#pragma once

#include "base/buf.h"
#include "base/prng.h"
#include "wal/wal.h"

enum {
    DISK_SECTOR = 512,
    DISK_FILES_MAX = 4096,
    DISK_EXTENTS = 512,
    DISK_SPOILED_MAX = 16
};

struct disk_write {
    uint32_t file;
    uint64_t offset, len;
    uint8_t *data;
    bool lost; /* a sync failed on it: the system believes it clean, it is not on disk */
};

struct disk_file {
    uint32_t id;
    uint64_t length;
    uint8_t *seen, *durable;
};

struct disk {
    struct mem *mem;
    struct disk_file **files; /* by id */
    uint32_t n_files, files_cap;
    struct disk_file **removed; /* not durably, oldest first */
    uint32_t n_removed, removed_cap;
    struct disk_write *writes; /* unsynced, oldest first */
    uint32_t n_writes, writes_cap;
    uint64_t syncs;
    struct disk_extent { /* what was synced lately; a ring */
        uint32_t file;
        uint64_t offset, len, sync;
    } extents[DISK_EXTENTS];
    uint64_t n_extents;
    struct disk_spoiled { /* cannot be read until it is written over or mended */
        uint32_t file;
        uint64_t offset; /* of a sector */
    } spoiled[DISK_SPOILED_MAX];
    uint32_t n_spoiled;
};

struct disk_loss { /* what a power cut did to unsynced writes */
    uint32_t kept, dropped, torn;
};

void disk_init(struct disk *d, struct mem *mem);
void disk_free(struct disk *d);
/* Fills out with at most `most` files in order of id; returns how many there are. */
uint32_t disk_list(const struct disk *d, struct wal_file *out, uint32_t most);

/* Each returns 0 or an errno, as the product's thread would report it. */
int disk_create(struct disk *d, uint32_t file, uint64_t length);
int disk_read(struct disk *d, uint32_t file, uint64_t offset, uint8_t *into,
              uint64_t length, uint64_t *got);
int disk_write(struct disk *d, uint32_t file, uint64_t offset, struct bytes data);
int disk_sync(struct disk *d, uint32_t file);
int disk_remove(struct disk *d, uint32_t file);
void disk_sync_folder(struct disk *d); /* what was removed does not come back */
/* A sync that failed: some of what it should have written is on disk, some never will be. */
void disk_sync_failed(struct disk *d, uint32_t file, struct prng *prng);

struct disk_loss disk_power_cut(struct disk *d, struct prng *prng);
/* Flips bits in something that was synced, and not among the last `spare` syncs.  False:
 * there is nothing so old. */
bool disk_flip(struct disk *d, uint64_t spare, struct prng *prng);
/* A sector of what was synced lately gives EIO from now on.  False: nothing was. */
bool disk_spoil(struct disk *d, struct prng *prng);
void disk_mend(struct disk *d);
/* The end of a file that was synced to lately is gone, down to some place behind its head.
 * Only while nothing has it open. */
bool disk_shorten(struct disk *d, struct prng *prng);
