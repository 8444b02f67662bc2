/* SPDX-License-Identifier: Apache-2.0 */
#include "store/kv_memory.h"

#include <string.h>

#include "base/check.h"
#include "base/prng.h"

/* A skip list of keys, each with its versions, the newest first.  A version is of the
 * commit that wrote it; a reader sees the newest that is not later than its own commit.
 * The transaction under way writes as of the commit to come.
 *
 * M1  a key's versions fall strictly in `commit`, all <= commit + 1, and only while a
 *     transaction runs is one of them = commit + 1
 * M2  keys whose versions some reader may not need any more are on the list `stale`;
 *     every other key has exactly one version, and that is no removal
 */
enum { LEVELS = 12 };

struct version {
    struct version *older;
    uint64_t commit;
    bool gone;
    size_t len;
    uint8_t at[];
};

struct entry {
    struct entry *stale; /* next on the list of those to be looked through */
    bool on_stale;
    struct entry *touched; /* next of those that the transaction wrote */
    bool on_touched;
    struct version *newest;
    uint8_t height;
    uint16_t key_len;
    struct entry *next[]; /* height of them, then the key */
};

struct kv_reader {
    struct kv_memory *m;
    struct kv_reader *next;
    uint64_t commit;
    uint8_t at[KV_KEY_MAX + 1]; /* where `next` goes on */
    size_t at_len;
};

struct kv_txn {
    struct kv_memory *m;
};

struct kv_memory {
    struct mem *mem;
    struct prng prng; /* heights only: seeded alike everywhere */
    struct entry *head[LEVELS];
    struct entry *stale, *touched;
    struct kv_reader *readers;
    uint64_t commit;
    uint64_t bytes;
    struct kv_txn txn;
};

static struct bytes entry_key(const struct entry *e)
{
    return (struct bytes){(const uint8_t *)&e->next[e->height], e->key_len};
}

static size_t entry_size(uint32_t height, size_t key_len)
{
    return offsetof(struct entry, next) + height * sizeof(struct entry *) + key_len;
}

/* ---- the list ---- */

/* The links that lead to the first key >= key, one for each level. */
static struct entry *find_links(struct kv_memory *m, struct bytes key,
                                struct entry **links[LEVELS])
{
    struct entry **row = m->head;

    for (uint32_t level = LEVELS; level-- > 0;) {
        while (row[level] != NULL && bytes_compare(entry_key(row[level]), key) < 0)
            row = row[level]->next;
        links[level] = &row[level];
    }
    return *links[0];
}

static struct entry *entry_for(struct kv_memory *m, struct bytes key)
{
    struct entry **links[LEVELS];
    struct entry *e = find_links(m, key, links);
    if (e != NULL && bytes_equal(entry_key(e), key)) return e;

    uint32_t height = 1;
    while (height < LEVELS && prng_below(&m->prng, 4) == 0)
        height++;
    e = mem_zero(m->mem, entry_size(height, key.len));
    e->height = (uint8_t)height;
    e->key_len = (uint16_t)key.len;
    memcpy(&e->next[height], key.at, key.len);
    for (uint32_t level = 0; level < height; level++) {
        e->next[level] = *links[level];
        *links[level] = e;
    }
    m->bytes += key.len;
    return e;
}

static void entry_free(struct kv_memory *m, struct entry *e)
{
    struct entry **links[LEVELS];
    check(find_links(m, entry_key(e), links) == e);

    for (uint32_t level = 0; level < e->height; level++)
        *links[level] = e->next[level];
    m->bytes -= e->key_len;
    mem_free(m->mem, e, entry_size(e->height, e->key_len));
}

static void version_free(struct kv_memory *m, struct version *v)
{
    m->bytes -= v->len;
    mem_free(m->mem, v, sizeof *v + v->len);
}

/* What a commit sees of a key; NULL: nothing. */
static struct version *seen_by(const struct entry *e, uint64_t commit)
{
    struct version *v = e->newest;

    while (v != NULL && v->commit > commit)
        v = v->older;
    return v == NULL || v->gone ? NULL : v;
}

static bool show_from(struct entry *e, uint64_t commit, struct bytes *key,
                      struct bytes *value)
{
    for (; e != NULL; e = e->next[0]) {
        const struct version *v = seen_by(e, commit);
        if (v == NULL) continue;
        *key = entry_key(e);
        *value = (struct bytes){v->at, v->len};
        return true;
    }
    return false;
}

static bool get_at(struct kv_memory *m, uint64_t commit, struct bytes key,
                   struct bytes *value)
{
    struct entry **links[LEVELS];
    struct entry *e = find_links(m, key, links);
    if (e == NULL || !bytes_equal(entry_key(e), key)) return false;

    const struct version *v = seen_by(e, commit);
    if (v == NULL) return false;
    *value = (struct bytes){v->at, v->len};
    return true;
}

/* ---- old versions ---- */

static uint64_t oldest_reader(const struct kv_memory *m)
{
    uint64_t oldest = m->commit;

    for (const struct kv_reader *r = m->readers; r != NULL; r = r->next)
        if (r->commit < oldest) oldest = r->commit;
    return oldest;
}

/* Frees what nobody can see; true if more is left to free later, when readers have gone
 * on. */
static bool prune(struct kv_memory *m, struct entry *e, uint64_t oldest)
{
    struct version *v = e->newest;

    while (v != NULL && v->commit > oldest)
        v = v->older;
    while (v != NULL && v->older != NULL) {
        struct version *dead = v->older;
        v->older = dead->older;
        version_free(m, dead);
    }
    if (v != NULL && v == e->newest && v->gone) {
        version_free(m, v);
        e->newest = NULL;
    }
    return e->newest != NULL && (e->newest->older != NULL || e->newest->gone);
}

static void prune_all(struct kv_memory *m)
{
    const uint64_t oldest = oldest_reader(m);
    struct entry **link = &m->stale;

    while (*link != NULL) {
        struct entry *e = *link;
        if (prune(m, e, oldest)) {
            link = &e->stale;
            continue;
        }
        *link = e->stale;
        e->on_stale = false;
        if (e->newest == NULL) entry_free(m, e);
    }
}

/* ---- reading ---- */

static struct kv_reader *reader_open(void *engine)
{
    struct kv_memory *m = engine;
    struct kv_reader *r = mem_zero(m->mem, sizeof *r);

    r->m = m;
    r->commit = m->commit;
    r->next = m->readers;
    m->readers = r;
    return r;
}

static void reader_renew(void *engine, struct kv_reader *r)
{
    struct kv_memory *m = engine;

    r->at_len = 0;
    if (r->commit == m->commit) return;
    r->commit = m->commit;
    prune_all(m);
}

static void reader_close(void *engine, struct kv_reader *r)
{
    struct kv_memory *m = engine;
    struct kv_reader **link = &m->readers;

    while (*link != r)
        link = &(*link)->next;
    *link = r->next;
    mem_free(m->mem, r, sizeof *r);
    prune_all(m);
}

static bool reader_get(struct kv_reader *r, struct bytes key, struct bytes *value)
{
    return get_at(r->m, r->commit, key, value);
}

/* The cursor is a key and not a place in the list, whose entries come and go. */
static void set_cursor(struct kv_reader *r, struct bytes key)
{
    check(key.len <= KV_KEY_MAX);

    memcpy(r->at, key.at, key.len);
    r->at[key.len] = 0;
    r->at_len = key.len + 1;
}

static bool reader_seek(struct kv_reader *r, struct bytes from, struct bytes *key,
                        struct bytes *value)
{
    struct entry **links[LEVELS];

    if (!show_from(find_links(r->m, from, links), r->commit, key, value)) return false;
    set_cursor(r, *key);
    return true;
}

static bool reader_next(struct kv_reader *r, struct bytes *key, struct bytes *value)
{
    check(r->at_len > 0);

    return reader_seek(r, (struct bytes){r->at, r->at_len}, key, value);
}

/* ---- writing ---- */

static void write_version(struct kv_memory *m, struct bytes key, bool gone,
                          struct bytes value)
{
    struct entry *e = entry_for(m, key);
    struct version *v = mem_alloc(m->mem, sizeof *v + value.len);

    *v = (struct version){.commit = m->commit + 1, .gone = gone, .len = value.len};
    if (value.len > 0) memcpy(v->at, value.at, value.len);
    m->bytes += value.len;
    if (e->newest != NULL && e->newest->commit == v->commit) {
        struct version *own = e->newest;
        e->newest = own->older;
        version_free(m, own);
    }
    v->older = e->newest;
    e->newest = v;
    if (!e->on_touched) {
        e->on_touched = true;
        e->touched = m->touched;
        m->touched = e;
    }
}

static int txn_put(struct kv_txn *txn, struct bytes key, struct bytes value)
{
    check(key.len > 0 && key.len <= KV_KEY_MAX);

    write_version(txn->m, key, false, value);
    return 0;
}

static bool txn_get(struct kv_txn *txn, struct bytes key, struct bytes *value)
{
    return get_at(txn->m, txn->m->commit + 1, key, value);
}

static int txn_remove(struct kv_txn *txn, struct bytes key)
{
    struct bytes value;

    if (txn_get(txn, key, &value))
        write_version(txn->m, key, true, (struct bytes){NULL, 0});
    return 0;
}

static bool txn_seek(struct kv_txn *txn, struct bytes from, struct bytes *key,
                     struct bytes *value)
{
    struct entry **links[LEVELS];

    return show_from(find_links(txn->m, from, links), txn->m->commit + 1, key, value);
}

static void end_txn(struct kv_memory *m, bool commit)
{
    while (m->touched != NULL) {
        struct entry *e = m->touched;

        m->touched = e->touched;
        e->on_touched = false;
        if (!commit) {
            struct version *own = e->newest;
            e->newest = own->older;
            version_free(m, own);
        }
        if (!e->on_stale) {
            e->on_stale = true;
            e->stale = m->stale;
            m->stale = e;
        }
    }
    if (commit) m->commit++;
    prune_all(m);
}

int kv_memory_run(struct kv_memory *m, struct kv_job *job, int fail)
{
    check(m->touched == NULL);

    const int rc = job->run(job, job->writes ? &m->txn : NULL);
    const int error = rc != 0 ? rc : fail;
    if (job->writes) end_txn(m, error == 0);
    return error;
}

/* ---- the engine ---- */

struct kv_memory *kv_memory_new(struct mem *mem)
{
    struct kv_memory *m = mem_zero(mem, sizeof *m);

    m->mem = mem;
    m->prng = prng_seed(1);
    m->txn.m = m;
    return m;
}

void kv_memory_free(struct kv_memory *m)
{
    check(m->readers == NULL);

    struct entry *e = m->head[0];
    while (e != NULL) {
        struct entry *next = e->next[0];
        while (e->newest != NULL) {
            struct version *v = e->newest;
            e->newest = v->older;
            version_free(m, v);
        }
        mem_free(m->mem, e, entry_size(e->height, e->key_len));
        e = next;
    }
    mem_free(m->mem, m, sizeof *m);
}

struct kv kv_memory_kv(struct kv_memory *m)
{
    static const struct kv_ops ops = {
        .reader_open = reader_open,
        .reader_renew = reader_renew,
        .reader_close = reader_close,
        .get = reader_get,
        .seek = reader_seek,
        .next = reader_next,
        .put = txn_put,
        .remove = txn_remove,
        .txn_get = txn_get,
        .txn_seek = txn_seek,
    };
    return (struct kv){&ops, m};
}

uint64_t kv_memory_bytes(const struct kv_memory *m)
{
    return m->bytes;
}
