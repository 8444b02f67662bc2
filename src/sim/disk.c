/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/disk.h"

#include <errno.h>

void disk_init(struct disk *d, struct mem *mem)
{
    memset(d, 0, sizeof *d);
    d->mem = mem;
}

static void file_free(struct disk *d, struct disk_file *f)
{
    mem_free(d->mem, f->seen, f->length);
    mem_free(d->mem, f->durable, f->length);
    mem_free(d->mem, f, sizeof *f);
}

void disk_free(struct disk *d)
{
    for (uint32_t i = 0; i < d->n_files; i++)
        file_free(d, d->files[i]);
    for (uint32_t i = 0; i < d->n_removed; i++)
        file_free(d, d->removed[i]);
    for (uint32_t i = 0; i < d->n_writes; i++)
        mem_free(d->mem, d->writes[i].data, d->writes[i].len);
    mem_free(d->mem, d->files, d->files_cap * sizeof *d->files);
    mem_free(d->mem, d->removed, d->removed_cap * sizeof *d->removed);
    mem_free(d->mem, d->writes, d->writes_cap * sizeof *d->writes);
}

uint32_t disk_list(const struct disk *d, struct wal_file *out, uint32_t most)
{
    for (uint32_t i = 0; i < d->n_files && i < most; i++)
        out[i] = (struct wal_file){d->files[i]->id, d->files[i]->length};
    return d->n_files;
}

static uint32_t place_of(const struct disk *d, uint32_t id)
{
    uint32_t i = 0;

    while (i < d->n_files && d->files[i]->id < id)
        i++;
    return i;
}

static struct disk_file *file_of(const struct disk *d, uint32_t id)
{
    const uint32_t i = place_of(d, id);

    return i < d->n_files && d->files[i]->id == id ? d->files[i] : NULL;
}

static void grow(struct disk *d, void **at, uint32_t *cap, uint32_t count, size_t size)
{
    if (count < *cap) return;
    const uint32_t more = *cap > 0 ? *cap * 2 : 16;
    *at = mem_resize(d->mem, *at, *cap * size, more * size);
    *cap = more;
}

static void file_put(struct disk *d, struct disk_file *f)
{
    const uint32_t at = place_of(d, f->id);

    grow(d, (void **)&d->files, &d->files_cap, d->n_files, sizeof *d->files);
    memmove(d->files + at + 1, d->files + at, (d->n_files - at) * sizeof *d->files);
    d->files[at] = f;
    d->n_files++;
}

static struct disk_file *file_take(struct disk *d, uint32_t id)
{
    const uint32_t at = place_of(d, id);
    struct disk_file *f = file_of(d, id);

    if (f == NULL) return NULL;
    d->n_files--;
    memmove(d->files + at, d->files + at + 1, (d->n_files - at) * sizeof *d->files);
    return f;
}

static void removals_durable(struct disk *d)
{
    for (uint32_t i = 0; i < d->n_removed; i++)
        file_free(d, d->removed[i]);
    d->n_removed = 0;
}

static void writes_forget(struct disk *d, uint32_t file)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < d->n_writes; i++) {
        if (d->writes[i].file == file)
            mem_free(d->mem, d->writes[i].data, d->writes[i].len);
        else
            d->writes[kept++] = d->writes[i];
    }
    d->n_writes = kept;
}

int disk_create(struct disk *d, uint32_t file, uint64_t length)
{
    if (file_of(d, file) != NULL) return EEXIST;
    if (d->n_files >= DISK_FILES_MAX) return EMFILE;

    struct disk_file *f = mem_alloc(d->mem, sizeof *f);
    *f = (struct disk_file){.id = file, .length = length};
    f->seen = mem_zero(d->mem, length);
    f->durable = mem_zero(d->mem, length);
    file_put(d, f);
    removals_durable(d);
    return 0;
}

int disk_read(struct disk *d, uint32_t file, uint64_t offset, uint8_t *into,
              uint64_t length, uint64_t *got)
{
    const struct disk_file *f = file_of(d, file);

    *got = 0;
    if (f == NULL) return ENOENT;
    for (uint32_t i = 0; i < d->n_spoiled; i++) {
        const struct disk_spoiled *s = &d->spoiled[i];
        if (s->file == file && s->offset < offset + length &&
            offset < s->offset + DISK_SECTOR)
            return EIO;
    }
    if (offset >= f->length) return 0;
    *got = length < f->length - offset ? length : f->length - offset;
    memcpy(into, f->seen + offset, *got);
    return 0;
}

/* A write past the end makes the file longer, at once and durably: the product never does
 * it, and a checker would see the bytes missing. */
static void file_lengthen(struct disk *d, struct disk_file *f, uint64_t length)
{
    if (length <= f->length) return;
    f->seen = mem_resize(d->mem, f->seen, f->length, length);
    f->durable = mem_resize(d->mem, f->durable, f->length, length);
    memset(f->seen + f->length, 0, length - f->length);
    memset(f->durable + f->length, 0, length - f->length);
    f->length = length;
}

/* What is written over can be read again: the drive puts the sector elsewhere. */
static void sectors_heal(struct disk *d, uint32_t file, uint64_t offset, uint64_t len)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < d->n_spoiled; i++) {
        const struct disk_spoiled s = d->spoiled[i];
        const bool over = s.file == file && offset < s.offset + DISK_SECTOR &&
                          s.offset < offset + len;
        if (!over) d->spoiled[kept++] = s;
    }
    d->n_spoiled = kept;
}

int disk_write(struct disk *d, uint32_t file, uint64_t offset, struct bytes data)
{
    struct disk_file *f = file_of(d, file);

    if (f == NULL) return ENOENT;
    if (data.len == 0) return 0;
    file_lengthen(d, f, offset + data.len);
    sectors_heal(d, file, offset, data.len);
    memcpy(f->seen + offset, data.at, data.len);

    grow(d, (void **)&d->writes, &d->writes_cap, d->n_writes, sizeof *d->writes);
    struct disk_write *w = &d->writes[d->n_writes++];
    *w = (struct disk_write){.file = file, .offset = offset, .len = data.len};
    w->data = mem_alloc(d->mem, data.len);
    memcpy(w->data, data.at, data.len);
    return 0;
}

static void write_durable(struct disk *d, const struct disk_write *w, uint64_t from,
                          uint64_t len)
{
    struct disk_file *f = file_of(d, w->file);

    if (f == NULL || len == 0) return;
    check(from + len <= w->len);
    memcpy(f->durable + w->offset + from, w->data + from, len);
}

int disk_sync(struct disk *d, uint32_t file)
{
    if (file_of(d, file) == NULL) return ENOENT;
    d->syncs++;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->n_writes; i++) {
        const struct disk_write *w = &d->writes[i];
        if (w->file != file || w->lost) {
            d->writes[kept++] = *w;
            continue;
        }
        write_durable(d, w, 0, w->len);
        d->extents[d->n_extents++ % DISK_EXTENTS] = (struct disk_extent){
            w->file, w->offset, w->len, d->syncs};
        mem_free(d->mem, w->data, w->len);
    }
    d->n_writes = kept;
    removals_durable(d);
    return 0;
}

void disk_sync_folder(struct disk *d)
{
    removals_durable(d);
}

int disk_remove(struct disk *d, uint32_t file)
{
    struct disk_file *f = file_take(d, file);

    if (f == NULL) return ENOENT;
    writes_forget(d, file);
    memcpy(f->seen, f->durable, f->length);
    grow(d, (void **)&d->removed, &d->removed_cap, d->n_removed, sizeof *d->removed);
    d->removed[d->n_removed++] = f;
    return 0;
}

void disk_sync_failed(struct disk *d, uint32_t file, struct prng *prng)
{
    for (uint32_t i = 0; i < d->n_writes; i++) {
        struct disk_write *w = &d->writes[i];
        if (w->file != file) continue;
        if (prng_chance(prng, 500)) write_durable(d, w, 0, w->len);
        w->lost = true; /* if it was written it is so twice, which changes nothing */
    }
}

/* Of a write that the power cut off: sectors that made it, a run of bytes from its start, or
 * a run of sectors in its middle. */
static void write_torn(struct disk *d, const struct disk_write *w, struct prng *prng)
{
    if (prng_chance(prng, 400)) {
        write_durable(d, w, 0, prng_below(prng, w->len));
        return;
    }
    for (uint64_t at = 0; at < w->len;) {
        const uint64_t end = (w->offset + at) / DISK_SECTOR * DISK_SECTOR + DISK_SECTOR;
        const uint64_t left = w->len - at;
        const uint64_t len = end - w->offset - at < left ? end - w->offset - at : left;
        if (prng_chance(prng, 500)) write_durable(d, w, at, len);
        at += len;
    }
}

static void removals_undone(struct disk *d, struct prng *prng)
{
    const uint32_t gone = (uint32_t)prng_below(prng, (uint64_t)d->n_removed + 1);

    for (uint32_t i = 0; i < d->n_removed; i++) {
        struct disk_file *f = d->removed[i];
        if (i < gone || file_of(d, f->id) != NULL)
            file_free(d, f);
        else
            file_put(d, f);
    }
    d->n_removed = 0;
}

struct disk_loss disk_power_cut(struct disk *d, struct prng *prng)
{
    struct disk_loss loss = {0};

    for (uint32_t i = 0; i < d->n_writes; i++) {
        const struct disk_write *w = &d->writes[i];
        const uint64_t fate = w->lost ? 0 : prng_below(prng, 3);
        if (fate == 0) loss.dropped++;
        if (fate == 1) loss.kept++;
        if (fate == 2) loss.torn++;
        if (fate == 1) write_durable(d, w, 0, w->len);
        if (fate == 2) write_torn(d, w, prng);
        mem_free(d->mem, w->data, w->len);
    }
    d->n_writes = 0;
    for (uint32_t i = 0; i < d->n_files; i++)
        memcpy(d->files[i]->seen, d->files[i]->durable, d->files[i]->length);
    removals_undone(d, prng);
    return loss;
}

/* Whether something younger than sync number `newest` lies in this run. */
static bool is_young(const struct disk *d, const struct disk_extent *e, uint64_t newest)
{
    const uint64_t end = e->offset + e->len;

    for (uint32_t i = 0; i < d->n_writes; i++) {
        const struct disk_write *w = &d->writes[i];
        if (w->file == e->file && w->offset < end && e->offset < w->offset + w->len)
            return true;
    }
    const uint64_t n = d->n_extents < DISK_EXTENTS ? d->n_extents : DISK_EXTENTS;
    for (uint64_t i = 0; i < n; i++) {
        const struct disk_extent *x = &d->extents[i];
        if (x->sync > newest && x->file == e->file && x->offset < end &&
            e->offset < x->offset + x->len)
            return true;
    }
    return false;
}

bool disk_flip(struct disk *d, uint64_t spare, struct prng *prng)
{
    const uint64_t n = d->n_extents < DISK_EXTENTS ? d->n_extents : DISK_EXTENTS;

    if (d->syncs <= spare) return false;
    for (uint32_t tries = 0; n > 0 && tries < 64; tries++) {
        const struct disk_extent *e = &d->extents[prng_below(prng, n)];
        struct disk_file *f = file_of(d, e->file);
        if (f == NULL || e->sync > d->syncs - spare) continue;
        if (is_young(d, e, d->syncs - spare) || e->offset + e->len > f->length) continue;
        const uint64_t at = e->offset + prng_below(prng, e->len);
        const uint8_t mask = (uint8_t)(1u << prng_below(prng, 8));
        f->seen[at] ^= mask;
        f->durable[at] ^= mask;
        return true;
    }
    return false;
}

/* A place in something that was synced lately; NULL: there is none. */
static struct disk_file *some_place(struct disk *d, struct prng *prng, uint64_t *at)
{
    const uint64_t n = d->n_extents < DISK_EXTENTS ? d->n_extents : DISK_EXTENTS;

    for (uint32_t tries = 0; n > 0 && tries < 64; tries++) {
        const struct disk_extent *e = &d->extents[prng_below(prng, n)];
        struct disk_file *f = file_of(d, e->file);
        if (f == NULL || e->offset + e->len > f->length) continue;
        *at = e->offset + prng_below(prng, e->len);
        return f;
    }
    return NULL;
}

bool disk_spoil(struct disk *d, struct prng *prng)
{
    uint64_t at;
    const struct disk_file *f = some_place(d, prng, &at);

    if (f == NULL || d->n_spoiled == DISK_SPOILED_MAX) return false;
    d->spoiled[d->n_spoiled++] = (struct disk_spoiled){f->id, at - at % DISK_SECTOR};
    return true;
}

void disk_mend(struct disk *d)
{
    d->n_spoiled = 0;
}

bool disk_shorten(struct disk *d, struct prng *prng)
{
    uint64_t at;
    struct disk_file *f = some_place(d, prng, &at);

    if (f == NULL) return false;
    if (at < WAL_SEGMENT_HEAD) at = WAL_SEGMENT_HEAD;
    writes_forget(d, f->id);
    f->seen = mem_resize(d->mem, f->seen, f->length, at);
    f->durable = mem_resize(d->mem, f->durable, f->length, at);
    f->length = at;
    return true;
}
