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

enum { PATH_BYTES = 4400 };

struct rollback {
    struct kv_job job; /* first, so that a job can be told by its run() */
    char dir[PATH_BYTES];
    char name[256];
    size_t len;
    uint8_t content[];
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
    int error = write_all(fd, r->content, r->len);
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

struct kv_job *rollback_job(const char *dir, const char *name, struct bytes content)
{
    struct rollback *r = malloc(sizeof *r + content.len);

    if (r == NULL) return NULL;
    *r = (struct rollback){.job = {.run = run}, .len = content.len};
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    snprintf(r->name, sizeof r->name, "%s", name);
    memcpy(r->content, content.at, content.len);
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
