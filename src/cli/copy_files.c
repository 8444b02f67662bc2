/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/copy_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 32, READ_BYTES = 1 << 20 };

static bool fail(struct copy_dir *d, const char *what, const char *file, int error)
{
    snprintf(d->error, sizeof d->error, "cannot %s %s%s%s: %s", what, d->path,
             file[0] != 0 ? "/" : "", file, strerror(error));
    return false;
}

static void name_of(uint32_t shard, char name[NAME_MAX_BYTES])
{
    snprintf(name, NAME_MAX_BYTES, "shard-%u.copy", shard);
}

/* ---- the directory ---- */

enum content { NOTHING, WITH_MANIFEST, WITH_SHARDS, WITH_OTHERS };

static bool look_inside(struct copy_dir *d, enum content *out)
{
    const int fd = dup(d->fd);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (dir == NULL) return fail(d, "read", "", errno);
    rewinddir(dir);
    *out = NOTHING;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (strcmp(entry->d_name, "manifest") == 0) {
            *out = WITH_MANIFEST;
            break;
        }
        const bool ours = strncmp(entry->d_name, "shard-", 6) == 0 ||
                          strcmp(entry->d_name, "manifest.partial") == 0;
        if (!ours)
            *out = WITH_OTHERS;
        else if (*out == NOTHING)
            *out = WITH_SHARDS;
    }
    closedir(dir);
    return true;
}

static bool dir_open(struct copy_dir *d)
{
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return d->fd >= 0 || fail(d, "open", "", errno);
}

bool copy_dir_make(struct copy_dir *d, struct mem *mem, const char *path)
{
    enum content content;

    *d = (struct copy_dir){.mem = mem, .path = path, .fd = -1};
    d->made = mkdir(path, 0700) == 0;
    if (!d->made && errno != EEXIST) return fail(d, "make", "", errno);
    if (!dir_open(d) || !look_inside(d, &content)) return false;
    if (content == NOTHING) return true;
    snprintf(d->error, sizeof d->error, "%s %s", path,
             content == WITH_MANIFEST ? "holds a backup already; name another directory"
             : content == WITH_SHARDS
                 ? "holds a backup that was not finished; remove it, or name another "
                   "directory"
                 : "is not empty; name a new directory");
    return false;
}

void copy_dir_close(struct copy_dir *d)
{
    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
}

static bool read_manifest(struct copy_dir *d, struct buf *text)
{
    const int fd = openat(d->fd, "manifest", O_RDONLY | O_CLOEXEC);
    ssize_t n = 1;

    if (fd < 0) return fail(d, "open", "manifest", errno);
    while (n > 0 && text->len <= MANIFEST_BYTES_MAX) {
        buf_reserve(text, READ_BYTES);
        n = read(fd, text->at + text->len, READ_BYTES);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            text->len += (size_t)n;
    }
    const int error = errno;
    close(fd);
    return n >= 0 || fail(d, "read", "manifest", error);
}

static bool parse_manifest(struct copy_dir *d, struct bytes text, struct manifest *out)
{
    switch (manifest_parse(d->mem, text, out)) {
    case MANIFEST_OK: return true;
    case MANIFEST_FOREIGN:
        snprintf(d->error, sizeof d->error,
                 "%s is no backup: its file manifest is something else", d->path);
        return false;
    case MANIFEST_NEWER:
        snprintf(d->error, sizeof d->error,
                 "%s is a backup of a newer format than this version reads (%d); use the "
                 "sennit that made it, or a newer one",
                 d->path, MANIFEST_FORMAT);
        return false;
    case MANIFEST_BROKEN: break;
    }
    snprintf(d->error, sizeof d->error,
             "%s/manifest is damaged: its checksum does not fit what it says", d->path);
    return false;
}

bool copy_dir_open(struct copy_dir *d, struct mem *mem, const char *path,
                   struct manifest *out)
{
    enum content content;
    struct buf text = buf_new(mem);

    *d = (struct copy_dir){.mem = mem, .path = path, .fd = -1};
    *out = manifest_new(mem);
    if (!dir_open(d) || !look_inside(d, &content)) return false;
    if (content != WITH_MANIFEST) {
        snprintf(d->error, sizeof d->error, "%s %s", path,
                 content == WITH_SHARDS
                     ? "is a backup that was not finished: it has no manifest"
                     : "is no backup: it has no manifest");
        return false;
    }
    const bool good = read_manifest(d, &text) && parse_manifest(d, buf_bytes(&text), out);
    buf_free(&text);
    return good;
}

/* ---- writing ---- */

int copy_file_make(struct copy_dir *d, uint32_t shard)
{
    char name[NAME_MAX_BYTES];

    name_of(shard, name);
    const int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) fail(d, "make", name, errno);
    return fd;
}

bool copy_file_put(struct copy_dir *d, int fd, struct bytes bytes)
{
    while (bytes.len > 0) {
        const ssize_t n = write(fd, bytes.at, bytes.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(d, "write to", "", errno);
        bytes.at += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

bool copy_file_done(struct copy_dir *d, int fd)
{
    const bool synced = fsync(fd) == 0 || fail(d, "sync a file of", "", errno);

    return (close(fd) == 0 || fail(d, "close a file of", "", errno)) && synced;
}

/* That the directory itself is found after a crash. */
static bool sync_parent(struct copy_dir *d)
{
    const int fd = openat(d->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(d, "open the directory of", "", errno);
    const bool synced = fsync(fd) == 0 || fail(d, "sync the directory of", "", errno);
    close(fd);
    return synced;
}

bool copy_dir_finish(struct copy_dir *d, const struct manifest *m)
{
    const int fd = openat(d->fd, "manifest.partial",
                          O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return fail(d, "make", "manifest.partial", errno);

    struct buf text = buf_new(d->mem);
    manifest_print(m, &text);
    const bool put = copy_file_put(d, fd, buf_bytes(&text));
    buf_free(&text);
    if (!copy_file_done(d, fd) || !put) return false;
    if (fsync(d->fd) != 0) return fail(d, "sync", "", errno);
    if (renameat(d->fd, "manifest.partial", d->fd, "manifest") != 0)
        return fail(d, "rename", "manifest.partial", errno);
    if (fsync(d->fd) != 0) return fail(d, "sync", "", errno);
    return sync_parent(d);
}

void copy_dir_undo(struct copy_dir *d, const struct manifest *m)
{
    char name[NAME_MAX_BYTES];

    if (d->fd < 0) return;
    unlinkat(d->fd, "manifest", 0);
    unlinkat(d->fd, "manifest.partial", 0);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        name_of(m->shards[i].shard, name);
        unlinkat(d->fd, name, 0);
    }
    if (d->made) rmdir(d->path);
}

/* ---- reading ---- */

static bool damaged(struct copy_source *s, const char *why)
{
    snprintf(s->dir->error, sizeof s->dir->error, "%s/shard-%u.copy is damaged: %s",
             s->dir->path, s->shard->shard, why);
    return false;
}

static bool damaged_at(struct copy_source *s)
{
    char why[80];

    snprintf(why, sizeof why, "what comes from byte %llu on does not check",
             (unsigned long long)s->at.offset);
    return damaged(s, why);
}

bool copy_source_open(struct copy_source *s, struct copy_dir *d,
                      const struct copy_shard *shard)
{
    char name[NAME_MAX_BYTES];
    struct stat stat;

    *s = (struct copy_source){.dir = d, .shard = shard, .in = buf_new(d->mem)};
    name_of(shard->shard, name);
    s->fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &stat) != 0) return fail(d, "open", name, errno);
    if ((uint64_t)stat.st_size == shard->size) return true;

    char why[96];
    snprintf(why, sizeof why, "it has %llu bytes, and the manifest says %llu",
             (unsigned long long)stat.st_size, (unsigned long long)shard->size);
    return damaged(s, why);
}

void copy_source_close(struct copy_source *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    buf_free(&s->in);
}

bool copy_source_seek(struct copy_source *s, const struct copy_mark *mark)
{
    s->at = *mark;
    s->in.len = s->in_at = 0;
    s->at_end = false;
    return lseek(s->fd, (off_t)mark->offset, SEEK_SET) >= 0 ||
           fail(s->dir, "read", "", errno);
}

static bool fill(struct copy_source *s)
{
    buf_cut_front(&s->in, s->in_at);
    s->in_at = 0;
    buf_reserve(&s->in, READ_BYTES);
    ssize_t n;
    do {
        n = read(s->fd, s->in.at + s->in.len, READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return fail(s->dir, "read a file of", "", errno);
    s->at_end = n == 0;
    s->in.len += (size_t)n;
    return true;
}

/* That the file is the one that the manifest tells of. */
static bool is_as_told(struct copy_source *s, const struct copy_record *r)
{
    const struct copy_shard *m = s->shard;

    if (r->kind == COPY_HEAD && (r->of.group.v != m->shard || r->of.term.v != m->term.v ||
                                 r->of.index.v != m->index.v))
        return damaged(s, "it is of another shard or position than the manifest says");
    if (r->kind == COPY_END &&
        (r->keys != m->keys || r->bytes != m->bytes || s->at.reader.chain != m->checksum))
        return damaged(s, "its keys, bytes or checksum are not those of the manifest");
    return true;
}

bool copy_source_next(struct copy_source *s, struct copy_record *out, bool *end)
{
    *end = false;
    for (;;) {
        const struct bytes in = {s->in.at + s->in_at, s->in.len - s->in_at};
        size_t used;
        switch (copy_read(&s->at.reader, in, out, &used)) {
        case COPY_READ:
            s->in_at += used;
            s->at.offset += used;
            return is_as_told(s, out);
        case COPY_MORE:
            if (s->at_end) return damaged_at(s);
            if (!fill(s)) return false;
            break;
        case COPY_DONE:
            *end = true;
            return s->at.offset == s->shard->size || damaged_at(s);
        case COPY_NEWER:
            snprintf(s->dir->error, sizeof s->dir->error,
                     "%s/shard-%u.copy is of a newer format than this version reads (%d)",
                     s->dir->path, s->shard->shard, COPY_FORMAT);
            return false;
        case COPY_FOREIGN:
        case COPY_BROKEN: return damaged_at(s);
        }
    }
}
