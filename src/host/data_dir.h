/* SPDX-License-Identifier: Apache-2.0 */
/* data_dir - the directory that holds everything a server keeps.
 *
 *     DIR/FORMAT   "sennit 1\n": the version of the layout
 *     DIR/LOCK     held (flock) by the process that uses it; names its pid
 *     DIR/wal/     log segments, wal-%08x
 *     DIR/store/   the key-value engine's files
 *     DIR/rollback/  what gave way to another leader's log; made when there is something
 *
 * Errors   a text for the operator, and the exit code that goes with it: 2 when he has named
 *          the wrong directory, 1 when the machine is in the way
 */
#pragma once

#include "base/check.h"
#include "wal/wal.h"

enum { DATA_DIR_FORMAT = 1, DATA_DIR_ERROR_MAX = 5000, DATA_DIR_PATH_MAX = 4200 };

struct data_dir {
    char wal[DATA_DIR_PATH_MAX], store[DATA_DIR_PATH_MAX], rollback[DATA_DIR_PATH_MAX];
    int lock_fd;
    struct wal_file *wal_files; /* what was found, in no order */
    uint32_t n_wal_files;
};

struct data_dir_error {
    int exit_code;
    char text[DATA_DIR_ERROR_MAX];
};

MUST_USE bool data_dir_open(struct data_dir *d, const char *path,
                            struct data_dir_error *why);
void data_dir_close(struct data_dir *d); /* gives the lock back */
