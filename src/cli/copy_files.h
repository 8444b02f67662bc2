/* SPDX-License-Identifier: Apache-2.0 */
/* copy_files - the directory of a backup: written so that it looks whole only when it is,
 * and read so that what is not whole is told from what is no backup.
 *
 *   DIR/shard-<n>.copy   the stream of one shard (data/copy.h), written first and synced
 *   DIR/manifest         cli/manifest.h: written as manifest.partial, synced, then renamed
 *
 * Errors   false, with a text for the operator in `error`
 */
#pragma once

#include "cli/manifest.h"
#include "data/copy.h"

enum { COPY_PATH_MAX = 4096, COPY_ERROR_MAX = 4096 + 512 };

struct copy_dir {
    struct mem *mem;
    const char *path;
    int fd;
    bool made; /* by us, so that we may remove it again */
    char error[COPY_ERROR_MAX];
};

/* A new directory, or one that is there and empty. */
MUST_USE bool copy_dir_make(struct copy_dir *d, struct mem *mem, const char *path);
/* One that is there, with its manifest. */
MUST_USE bool copy_dir_open(struct copy_dir *d, struct mem *mem, const char *path,
                            struct manifest *out);
void copy_dir_close(struct copy_dir *d);

/* The file of a shard, empty again if it was there; -1: see error. */
MUST_USE int copy_file_make(struct copy_dir *d, uint32_t shard);
MUST_USE bool copy_file_put(struct copy_dir *d, int fd, struct bytes bytes);
MUST_USE bool copy_file_done(struct copy_dir *d, int fd); /* synced; closed in any case */
/* The backup is whole once this is true. */
MUST_USE bool copy_dir_finish(struct copy_dir *d, const struct manifest *m);
/* Takes back what was written of one that will not be whole. */
void copy_dir_undo(struct copy_dir *d, const struct manifest *m);

/* ---- reading a shard's file ---- */

struct copy_mark { /* a place between two records */
    uint64_t offset;
    struct copy_reader reader;
};

struct copy_source {
    struct copy_dir *dir;
    const struct copy_shard *shard;
    int fd;
    bool at_end; /* of the file */
    struct buf in;
    size_t in_at;
    struct copy_mark at;
};

MUST_USE bool copy_source_open(struct copy_source *s, struct copy_dir *d,
                               const struct copy_shard *shard);
void copy_source_close(struct copy_source *s);
/* The next record, checked: HEAD and END against the manifest, too.  *end: there was none. */
MUST_USE bool copy_source_next(struct copy_source *s, struct copy_record *out, bool *end);
MUST_USE bool copy_source_seek(struct copy_source *s, const struct copy_mark *mark);
