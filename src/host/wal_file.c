/* SPDX-License-Identifier: Apache-2.0 */
#include "host/wal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = WAL_DIR_MAX + 16, OPEN_TRIES = 500, OPEN_PAUSE_MS = 20 };

void wal_dir_init(struct wal_dir *d, const char *path)
{
    *d = (struct wal_dir){0};
    check(strlen(path) < sizeof d->path);
    snprintf(d->path, sizeof d->path, "%s", path);
    for (size_t i = 0; i < WAL_FDS_MAX; i++)
        d->fds[i].fd = -1;
    d->zeros = calloc(1, WAL_ZEROS_BYTES);
    check(d->zeros != NULL);
}

void wal_dir_free(struct wal_dir *d)
{
    for (size_t i = 0; i < WAL_FDS_MAX; i++)
        if (d->fds[i].fd >= 0) close(d->fds[i].fd);
    free(d->zeros);
}

static void file_name(const struct wal_dir *d, uint32_t file, char name[NAME_MAX_BYTES])
{
    snprintf(name, NAME_MAX_BYTES, "%s/wal-%08" PRIx32, d->path, file);
}

static void forget_fd(struct wal_dir *d, uint32_t file)
{
    for (size_t i = 0; i < WAL_FDS_MAX; i++) {
        struct wal_fd *f = &d->fds[i];
        if (f->fd < 0 || f->file != file) continue;
        close(f->fd);
        f->fd = -1;
    }
}

/* The least recently used one goes.  The segment that is written to is never that one while
 * there are fewer reads than descriptors between two writes, and even if it were: an error
 * of write-back that nobody was told stays with the inode and is given to the next fdatasync
 * of a new descriptor (errseq_t, since Linux 4.16). */
static struct wal_fd *oldest_fd(struct wal_dir *d)
{
    struct wal_fd *oldest = &d->fds[0];

    for (size_t i = 0; i < WAL_FDS_MAX; i++) {
        struct wal_fd *f = &d->fds[i];
        if (f->fd < 0) return f;
        if (f->used < oldest->used) oldest = f;
    }
    close(oldest->fd);
    oldest->fd = -1;
    return oldest;
}

/* That there is no descriptor left says nothing of the file, and passes: a file that is there is
 * waited for.  For a new one the core has an answer. */
static int open_patiently(const char *name, int flags)
{
    static const struct timespec pause = {.tv_nsec = OPEN_PAUSE_MS * 1000000L};

    for (int tries = 0;; tries++) {
        const int fd = open(name, flags, 0600);
        if (fd >= 0 || (errno != EMFILE && errno != ENFILE)) return fd;
        if (tries == OPEN_TRIES || (flags & O_CREAT) != 0) return fd;
        nanosleep(&pause, NULL);
    }
}

/* A descriptor, or -errno. */
static int open_file(struct wal_dir *d, uint32_t file, int more_flags)
{
    char name[NAME_MAX_BYTES];

    for (size_t i = 0; i < WAL_FDS_MAX; i++) {
        struct wal_fd *f = &d->fds[i];
        if (f->fd < 0 || f->file != file) continue;
        f->used = ++d->uses;
        return f->fd;
    }
    file_name(d, file, name);
    const int fd = open_patiently(name, O_RDWR | O_CLOEXEC | more_flags);
    if (fd < 0) return -errno;
    *oldest_fd(d) = (struct wal_fd){fd, file, ++d->uses};
    return fd;
}

static int write_all(int fd, const uint8_t *at, uint64_t len, uint64_t offset)
{
    while (len > 0) {
        const ssize_t n = pwrite(fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        /* POSIX leaves a write of nothing open; the disk is what usually is. */
        if (n == 0) return ENOSPC;
        at += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int read_all(int fd, uint8_t *into, uint64_t len, uint64_t offset, uint64_t *got)
{
    *got = 0;
    while (*got < len) {
        const ssize_t n = pread(fd, into + *got, len - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) break;
        *got += (uint64_t)n;
    }
    return 0;
}

static int sync_dir(const struct wal_dir *d)
{
    const int fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* The zeros are written, not merely allocated: a sync of blocks that exist and were written
 * before has no metadata to commit.  Of a file that is used once that is no gain. */
static int fill(struct wal_dir *d, int fd, const struct wal_op *op)
{
    if (op->once) {
        if (fallocate(fd, 0, 0, (off_t)op->length) == 0) return 0;
        if (errno != EOPNOTSUPP) return errno;
    }
    int error = 0;
    for (uint64_t at = 0; error == 0 && at < op->length; at += WAL_ZEROS_BYTES) {
        const uint64_t left = op->length - at;
        error = write_all(fd, d->zeros, left < WAL_ZEROS_BYTES ? left : WAL_ZEROS_BYTES,
                          at);
    }
    return error;
}

static int create(struct wal_dir *d, const struct wal_op *op)
{
    forget_fd(d, op->file);
    const int fd = open_file(d, op->file, O_CREAT | O_TRUNC);
    if (fd < 0) return -fd;

    int error = fill(d, fd, op);
    if (error == 0 && fsync(fd) != 0) error = errno;
    if (error == 0) error = sync_dir(d);
    forget_fd(d, op->file); /* who writes to it later may be another thread */
    if (error != 0) {
        char name[NAME_MAX_BYTES];
        file_name(d, op->file, name);
        unlink(name);
    }
    return error;
}

static int remove_file(struct wal_dir *d, uint32_t file)
{
    char name[NAME_MAX_BYTES];

    forget_fd(d, file);
    file_name(d, file, name);
    if (unlink(name) != 0) return errno;
    return sync_dir(d);
}

int wal_dir_perform(struct wal_dir *d, const struct wal_op *op, uint64_t *got)
{
    *got = 0;
    if (op->kind == WAL_OP_CREATE) return create(d, op);
    if (op->kind == WAL_OP_REMOVE) return remove_file(d, op->file);

    const int fd = open_file(d, op->file, 0);
    if (fd < 0) return -fd;

    switch (op->kind) {
    case WAL_OP_READ: return read_all(fd, op->into, op->length, op->offset, got);
    case WAL_OP_WRITE: return write_all(fd, op->data.at, op->data.len, op->offset);
    /* Never retried: after a failed sync a second one proves nothing. */
    case WAL_OP_SYNC: return fdatasync(fd) == 0 ? 0 : errno;
    case WAL_OP_CREATE:
    case WAL_OP_REMOVE: break;
    }
    check(false);
    return 0;
}
