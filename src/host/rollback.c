/* SPDX-License-Identifier: Apache-2.0 */
#include "host/rollback.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/memory.h"
#include "server/server.h"

enum { PATH_BYTES = 4400, WRITE_BYTES = 256 * 1024 };

struct rollback {
    struct kv_job job; /* first, so that a job can be told by its run() */
    char dir[PATH_BYTES];
    char name[256];
    struct group_id group;
    bool late;
    struct kv_job *next;
    size_t len;
    uint8_t entries[];
};

static int write_all(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* Entry after entry: as text they may be six times as long. */
static int write_lines(int fd, const struct rollback *r)
{
    struct mem mem = memory_new(0);
    struct buf text = buf_new(&mem);
    struct cursor in = cursor_of((struct bytes){r->entries, r->len});
    uint32_t shard;
    bool more = server_rollback_shard(&in, &shard);
    int error = 0;

    while (more && error == 0) {
        more = server_rollback_lines(&in, shard, &text);
        if (more && text.len < WRITE_BYTES) continue;
        error = write_all(fd, text.at, text.len);
        text.len = 0;
    }
    buf_free(&text);
    return error;
}

/* Under a name of its own until it is whole: a crash leaves no half a file that looks whole. */
static int make_file(struct rollback *r)
{
    char path[PATH_BYTES + 300], half[PATH_BYTES + 310];

    if (mkdir(r->dir, 0700) != 0 && errno != EEXIST) return errno;
    snprintf(path, sizeof path, "%s/%s", r->dir, r->name);
    snprintf(half, sizeof half, "%s.part", path);
    if (access(path, F_OK) == 0) return 0;

    const int fd = open(half, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int error = write_lines(fd, r);
    if (error == 0 && fsync(fd) != 0) error = errno;
    if (close(fd) != 0 && error == 0) error = errno;
    if (error == 0 && rename(half, path) != 0) error = errno;
    if (error != 0) {
        unlink(half);
        return error;
    }
    return sync_dir(r->dir);
}

static int run(struct kv_job *job, struct kv_txn *txn)
{
    (void)txn;
    return make_file((struct rollback *)(void *)job);
}

struct kv_job *rollback_job(const char *dir, struct group_id group, const char *name,
                            struct bytes entries)
{
    struct rollback *r = malloc(sizeof *r + entries.len);

    check(r != NULL);
    *r = (struct rollback){.job = {.run = run}, .group = group, .len = entries.len};
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    snprintf(r->name, sizeof r->name, "%s", name);
    memcpy(r->entries, entries.at, entries.len);
    return &r->job;
}

bool rollback_is(const struct kv_job *job)
{
    return job->run == run;
}

const char *rollback_name(const struct kv_job *job)
{
    return ((const struct rollback *)(const void *)job)->name;
}

struct group_id rollback_group(const struct kv_job *job)
{
    return ((const struct rollback *)(const void *)job)->group;
}

bool rollback_is_late(const struct kv_job *job)
{
    return ((const struct rollback *)(const void *)job)->late;
}

void rollback_put(struct kv_job **list, struct kv_job *job)
{
    struct rollback *r = (struct rollback *)(void *)job;

    r->late = true;
    r->next = *list;
    *list = job;
}

struct kv_job *rollback_take(struct kv_job **list)
{
    struct kv_job *job = *list;

    if (job != NULL) *list = ((struct rollback *)(void *)job)->next;
    return job;
}

void rollback_free(struct kv_job *job)
{
    free(job);
}

uint32_t rollback_count(const char *dir)
{
    DIR *at = opendir(dir);
    const struct dirent *entry;
    uint32_t n = 0;

    if (at == NULL) return 0;
    while ((entry = readdir(at)) != NULL) {
        const size_t len = strlen(entry->d_name);
        n += len > 6 && strcmp(entry->d_name + len - 6, ".jsonl") == 0;
    }
    closedir(at);
    return n;
}
