/* SPDX-License-Identifier: Apache-2.0 */
/* wal_file - the operations of src/wal on the files of one directory, performed at once. */
#pragma once

#include <stdio.h>

#include "wal/wal.h"

enum { WAL_FDS_MAX = 16, WAL_DIR_MAX = 4200, WAL_ZEROS_BYTES = 1 << 20 };

struct wal_fd {
    int fd; /* -1: none */
    uint32_t file;
    uint64_t used; /* for the choice of the one to close */
};

struct wal_dir {
    char path[WAL_DIR_MAX];
    struct wal_fd fds[WAL_FDS_MAX];
    uint64_t uses;
    uint8_t *zeros; /* WAL_ZEROS_BYTES of them */
};

void wal_dir_init(struct wal_dir *d, const char *path);
void wal_dir_free(struct wal_dir *d);
/* 0 or an errno; *got: bytes read. */
int wal_dir_perform(struct wal_dir *d, const struct wal_op *op, uint64_t *got);
