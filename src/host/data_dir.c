/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

PRINTF_LIKE(3, 4)
static bool refuse(struct data_dir_error *why, int exit_code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    why->exit_code = exit_code;
    return false;
}

static int sync_path(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0) return errno;
    const int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* Makes one directory; its parent must be there.  A new one is synced into its parent. */
static bool make_dir(const char *path, const char *parent, struct data_dir_error *why)
{
    struct stat st;

    if (mkdir(path, 0700) == 0) {
        const int error = sync_path(parent);
        if (error == 0) return true;
        return refuse(why, 1, "cannot sync directory %s: %s", parent, strerror(error));
    }
    if (errno != EEXIST)
        return refuse(why, 1, "cannot make directory %s: %s", path, strerror(errno));
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return true;
    return refuse(why, 2, "%s is not a directory: name another one with --data", path);
}

static bool make_top(const char *path, struct data_dir_error *why)
{
    char parent[DATA_DIR_PATH_MAX];

    snprintf(parent, sizeof parent, "%s", path);
    size_t len = strlen(parent);
    while (len > 1 && parent[len - 1] == '/')
        parent[--len] = 0;
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof parent, ".");
    else
        slash[slash == parent] = 0;
    if (access(parent, F_OK) != 0)
        return refuse(
            why, 2, "--data %s: its parent directory is not there; make it first", path);
    if (!make_dir(path, parent, why)) return false;
    if (access(path, R_OK | W_OK | X_OK) == 0) return true;
    return refuse(why, 1, "--data %s: %s; this user must be able to read and write it",
                  path, strerror(errno));
}

static bool lock(struct data_dir *d, const char *path, struct data_dir_error *why)
{
    char name[DATA_DIR_PATH_MAX + 16], pid[32] = {0};

    snprintf(name, sizeof name, "%s/LOCK", path);
    d->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return refuse(why, 1, "cannot open %s: %s", name, strerror(errno));
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        const ssize_t got = pread(d->lock_fd, pid, sizeof pid - 1, 0);
        pid[got > 0 ? strcspn(pid, "\n") : 0] = 0;
        if (error != EWOULDBLOCK)
            return refuse(why, 1, "cannot lock %s: %s", name, strerror(error));
        return refuse(why, 1,
                      "--data %s is in use by another sennit server (process %s): stop "
                      "that one, or name another directory",
                      path, pid[0] != 0 ? pid : "unknown");
    }
    const int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(d->lock_fd, 0) == 0 && pwrite(d->lock_fd, pid, (size_t)len, 0) == len)
        return true;
    return refuse(why, 1, "cannot write %s: %s", name, strerror(errno));
}

/* Written aside, synced and renamed: there is never half a FORMAT. */
static bool write_format(const char *path, const char *name, struct data_dir_error *why)
{
    char aside[DATA_DIR_PATH_MAX + 16], text[32];
    const int len = snprintf(text, sizeof text, "sennit %d\n", DATA_DIR_FORMAT);
    int error = 0;

    snprintf(aside, sizeof aside, "%s/FORMAT.new", path);
    const int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return refuse(why, 1, "cannot make %s: %s", aside, strerror(errno));
    if (write(fd, text, (size_t)len) != len || fsync(fd) != 0) error = errno;
    close(fd);
    if (error == 0 && rename(aside, name) != 0) error = errno;
    if (error == 0) error = sync_path(path);
    if (error == 0) return true;
    return refuse(why, 1, "cannot write %s: %s", name, strerror(error));
}

/* Nothing but what data_dir itself makes before FORMAT is there. */
static bool is_fresh(const char *path)
{
    DIR *dir = opendir(path);
    bool fresh = dir != NULL;

    for (struct dirent *e; fresh && (e = readdir(dir)) != NULL;)
        fresh = e->d_name[0] == '.' || strcmp(e->d_name, "LOCK") == 0 ||
                strcmp(e->d_name, "FORMAT.new") == 0 ||
                strcmp(e->d_name, "lost+found") == 0;
    if (dir != NULL) closedir(dir);
    return fresh;
}

static bool check_format(const char *path, struct data_dir_error *why)
{
    char name[DATA_DIR_PATH_MAX + 16], text[32] = {0}, rest = 0;
    unsigned version = 0;

    snprintf(name, sizeof name, "%s/FORMAT", path);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        if (is_fresh(path)) return write_format(path, name, why);
        return refuse(
            why, 2,
            "--data %s holds files, but no FORMAT: it is not a data directory of "
            "sennit; name an empty or new one",
            path);
    }
    if (fd < 0) return refuse(why, 1, "cannot open %s: %s", name, strerror(errno));
    const ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got < 0) return refuse(why, 1, "cannot read %s: %s", name, strerror(errno));
    if (sscanf(text, "sennit %9u%c", &version, &rest) != 2 || rest != '\n')
        return refuse(why, 2,
                      "%s does not say \"sennit <version>\": this is not a data "
                      "directory of sennit, or it is damaged",
                      name);
    if (version > DATA_DIR_FORMAT)
        return refuse(why, 2,
                      "--data %s has format %u, and this program knows format %d: it was "
                      "written by a newer sennit; start that one",
                      path, version, DATA_DIR_FORMAT);
    return true;
}

/* "wal-%08x" to the letter; anything else in the directory is not ours and stays. */
static bool wal_name(const char *name, uint32_t *file)
{
    if (strncmp(name, "wal-", 4) != 0 || strlen(name) != 12) return false;
    if (strspn(name + 4, "0123456789abcdef") != 8) return false;
    *file = (uint32_t)strtoul(name + 4, NULL, 16);
    return true;
}

static bool list_wal(struct data_dir *d, struct data_dir_error *why)
{
    DIR *dir = opendir(d->wal);
    if (dir == NULL) return refuse(why, 1, "cannot list %s: %s", d->wal, strerror(errno));

    bool good = true;
    uint32_t cap = 0;
    for (struct dirent *e; good && (e = readdir(dir)) != NULL;) {
        struct stat st;
        uint32_t file;

        if (!wal_name(e->d_name, &file)) continue;
        if (fstatat(dirfd(dir), e->d_name, &st, 0) != 0) {
            good = refuse(why, 1, "cannot look at %s/%s: %s", d->wal, e->d_name,
                          strerror(errno));
            break;
        }
        if (d->n_wal_files == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            d->wal_files = realloc(d->wal_files, cap * sizeof *d->wal_files);
            check(d->wal_files != NULL);
        }
        d->wal_files[d->n_wal_files++] = (struct wal_file){file, (uint64_t)st.st_size};
    }
    closedir(dir);
    return good;
}

bool data_dir_open(struct data_dir *d, const char *path, struct data_dir_error *why)
{
    *d = (struct data_dir){.lock_fd = -1};
    if (strlen(path) > DATA_DIR_PATH_MAX - 64)
        return refuse(why, 2, "--data: the path is too long");
    snprintf(d->wal, sizeof d->wal, "%s/wal", path);
    snprintf(d->store, sizeof d->store, "%s/store", path);
    snprintf(d->rollback, sizeof d->rollback, "%s/rollback", path);

    if (make_top(path, why) && lock(d, path, why) && check_format(path, why) &&
        make_dir(d->wal, path, why) && make_dir(d->store, path, why) && list_wal(d, why))
        return true;
    data_dir_close(d);
    return false;
}

void data_dir_close(struct data_dir *d)
{
    free(d->wal_files);
    if (d->lock_fd >= 0) close(d->lock_fd);
    *d = (struct data_dir){.lock_fd = -1};
}
