/* SPDX-License-Identifier: Apache-2.0 */
#include "host/kv_lmdb.h"

#include <errno.h>
#include <inttypes.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"

#define MAP_DEFAULT_BYTES (UINT64_C(256) << 30)
#define MAP_LEAST_BYTES (UINT64_C(1) << 30)

struct kv_reader {
    struct kv_lmdb *l;
    struct kv_reader *next; /* in the pool */
    MDB_txn *txn;
    MDB_cursor *cursor;
};

/* A write transaction lives in kv_lmdb_run(). */
struct kv_txn {
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
};

struct kv_lmdb {
    MDB_env *env;
    MDB_dbi dbi;
    uint64_t map_bytes;
    struct kv_reader
        *pool; /* closed: reset, so that they keep no pages; they keep their slot */
    uint32_t readers_open;
};

static MDB_val val_of(struct bytes b)
{
    return (MDB_val){.mv_size = b.len, .mv_data = (void *)(uintptr_t)b.at};
}

static struct bytes bytes_of(MDB_val v)
{
    return (struct bytes){v.mv_data, v.mv_size};
}

static bool say(const char *text)
{
    return write(STDERR_FILENO, text, strlen(text)) >= 0;
}

/* From whatever thread, and in a handler of signals: nothing but the end. */
static _Noreturn void unreadable(const char *why)
{
    (void)(say("fatal: the store cannot be read: ") && say(why) &&
           say("\nmend the disk, or restore the data directory or let its replicas "
               "rebuild "
               "it\n"));
    _exit(1);
}

/* A page of the map that the disk does not give, or that the file lacks.  There is no other
 * map of a file in the process. */
static void on_bus_error(int number)
{
    (void)number;
    unreadable("a page of data.mdb is missing or can't be read (SIGBUS)");
}

/* A read that fails for another reason than that nothing is there means damage, or a disk
 * that does not answer: no state may be built on that. */
static bool found(int rc)
{
    if (rc == MDB_NOTFOUND) return false;
    if (rc != 0) unreadable(mdb_strerror(rc));
    return true;
}

static int errno_of(int rc)
{
    if (rc == 0) return 0;
    if (rc == MDB_MAP_FULL) return ENOSPC;
    return rc > 0 ? rc : EIO;
}

/* ---- reading ---- */

static void *reader_fail(struct kv_reader *r)
{
    if (r->txn != NULL) mdb_txn_abort(r->txn);
    free(r);
    return NULL;
}

static struct kv_reader *reader_new(struct kv_lmdb *l)
{
    struct kv_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;

    r->l = l;
    if (mdb_txn_begin(l->env, NULL, MDB_RDONLY, &r->txn) != 0) return reader_fail(r);
    if (mdb_cursor_open(r->txn, l->dbi, &r->cursor) != 0) return reader_fail(r);
    return r;
}

static void refresh(struct kv_reader *r)
{
    check(mdb_txn_renew(r->txn) == 0);
    check(mdb_cursor_renew(r->txn, r->cursor) == 0);
}

static struct kv_reader *reader_open(void *engine)
{
    struct kv_lmdb *l = engine;
    struct kv_reader *r = l->pool;

    if (r != NULL) {
        l->pool = r->next;
        refresh(r);
    } else {
        r = reader_new(l);
    }
    if (r != NULL) l->readers_open++;
    return r;
}

static void reader_renew(void *engine, struct kv_reader *r)
{
    (void)engine;
    mdb_txn_reset(r->txn);
    refresh(r);
}

static void reader_close(void *engine, struct kv_reader *r)
{
    struct kv_lmdb *l = engine;

    mdb_txn_reset(r->txn);
    r->next = l->pool;
    l->pool = r;
    l->readers_open--;
}

static bool reader_get(struct kv_reader *r, struct bytes key, struct bytes *value)
{
    MDB_val k = val_of(key), v;

    if (!found(mdb_get(r->txn, r->l->dbi, &k, &v))) return false;
    *value = bytes_of(v);
    return true;
}

static bool cursor_move(MDB_cursor *cursor, MDB_val k, MDB_cursor_op op,
                        struct bytes *key, struct bytes *value)
{
    MDB_val v;

    if (!found(mdb_cursor_get(cursor, &k, &v, op))) return false;
    *key = bytes_of(k);
    *value = bytes_of(v);
    return true;
}

static bool reader_seek(struct kv_reader *r, struct bytes from, struct bytes *key,
                        struct bytes *value)
{
    return cursor_move(r->cursor, val_of(from), MDB_SET_RANGE, key, value);
}

static bool reader_next(struct kv_reader *r, struct bytes *key, struct bytes *value)
{
    return cursor_move(r->cursor, (MDB_val){0}, MDB_NEXT, key, value);
}

/* ---- writing ---- */

static int txn_put(struct kv_txn *txn, struct bytes key, struct bytes value)
{
    MDB_val k = val_of(key), v = val_of(value);

    return errno_of(mdb_cursor_put(txn->cursor, &k, &v, 0));
}

static int txn_remove(struct kv_txn *txn, struct bytes key)
{
    MDB_val k = val_of(key);
    const int rc = mdb_del(txn->txn, txn->dbi, &k, NULL);

    return rc == MDB_NOTFOUND ? 0 : errno_of(rc);
}

static bool txn_get(struct kv_txn *txn, struct bytes key, struct bytes *value)
{
    MDB_val k = val_of(key), v;

    /* Through the cursor, for it is then where the put that follows goes. */
    if (!found(mdb_cursor_get(txn->cursor, &k, &v, MDB_SET))) return false;
    *value = bytes_of(v);
    return true;
}

static bool txn_seek(struct kv_txn *txn, struct bytes from, struct bytes *key,
                     struct bytes *value)
{
    return cursor_move(txn->cursor, val_of(from), MDB_SET_RANGE, key, value);
}

/* A write that was cut short since the disk is full is EIO to LMDB. */
static bool is_full(struct kv_lmdb *l)
{
    enum { LITTLE = 16 << 20 };
    struct statvfs v;
    int fd;

    if (mdb_env_get_fd(l->env, &fd) != 0 || fstatvfs(fd, &v) != 0) return false;
    return (uint64_t)v.f_bavail * v.f_frsize < LITTLE;
}

static int commit(struct kv_lmdb *l, MDB_txn *txn)
{
    const int rc = errno_of(mdb_txn_commit(txn));

    return rc == EIO && is_full(l) ? ENOSPC : rc;
}

int kv_lmdb_run(struct kv_lmdb *l, struct kv_job *job)
{
    if (!job->writes) return job->run(job, NULL);

    struct kv_txn txn = {.dbi = l->dbi};
    int rc = errno_of(mdb_txn_begin(l->env, NULL, 0, &txn.txn));
    if (rc != 0) return rc;
    rc = errno_of(mdb_cursor_open(txn.txn, l->dbi, &txn.cursor));
    if (rc == 0) rc = job->run(job, &txn);
    if (txn.cursor != NULL) mdb_cursor_close(txn.cursor);
    if (rc != 0) {
        mdb_txn_abort(txn.txn);
        return rc;
    }
    return commit(l, txn.txn);
}

/* ---- opening ---- */

static const char *advice(int rc)
{
    switch (rc) {
    case MDB_VERSION_MISMATCH: return "it was written by another version of LMDB";
    case MDB_INVALID: return "data.mdb is not an LMDB file, or is damaged";
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
        return "data.mdb is damaged; restore it from a copy or let the replicas rebuild "
               "it";
    case MDB_READERS_FULL: return "too many readers";
    case ENOENT: return "the directory does not exist";
    case EACCES:
    case EPERM:
    case EROFS: return "it may not be written to";
    case EAGAIN: return "another process has it open";
    case ENOSPC: return "the disk is full";
    case ENOMEM: return "the system grants no address space for it";
    default: return mdb_strerror(rc);
    }
}

static void *fail(struct kv_lmdb *l, const char *dir, int rc, struct kv_lmdb_error *error)
{
    snprintf(error->text, sizeof error->text, "cannot open the store in %s: %s", dir,
             advice(rc));
    if (l->env != NULL) mdb_env_close(l->env);
    free(l);
    return NULL;
}

static int open_env(struct kv_lmdb *l, const struct kv_lmdb_config *config)
{
    int rc = mdb_env_create(&l->env);

    if (rc == 0) rc = mdb_env_set_mapsize(l->env, l->map_bytes);
    if (rc == 0) rc = mdb_env_set_maxreaders(l->env, config->readers);
    if (rc == 0) rc = mdb_env_open(l->env, config->dir, MDB_NOTLS | MDB_NORDAHEAD, 0600);
    return rc;
}

/* A smaller map is better than none where address space is limited (ulimit -v). */
static int open_env_with_map(struct kv_lmdb *l, const struct kv_lmdb_config *config)
{
    l->map_bytes = config->map_bytes != 0 ? config->map_bytes : MAP_DEFAULT_BYTES;

    int rc = open_env(l, config);
    while (rc == ENOMEM && config->map_bytes == 0 && l->map_bytes > MAP_LEAST_BYTES) {
        mdb_env_close(l->env);
        l->env = NULL;
        l->map_bytes /= 2;
        rc = open_env(l, config);
    }
    return rc;
}

static int open_db(struct kv_lmdb *l)
{
    MDB_txn *txn;

    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &l->dbi);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

struct kv_lmdb *kv_lmdb_open(const struct kv_lmdb_config *config,
                             struct kv_lmdb_error *error)
{
    struct kv_lmdb *l = calloc(1, sizeof *l);
    if (l == NULL) abort();

    const struct sigaction act = {.sa_handler = on_bus_error};
    check(sigaction(SIGBUS, &act, NULL) == 0);
    int rc = open_env_with_map(l, config);
    if (rc != 0) return fail(l, config->dir, rc, error);
    check(mdb_env_get_maxkeysize(l->env) >= KV_KEY_MAX);
    /* Slots of a process that was killed would keep its pages for ever. */
    int dead;
    rc = mdb_reader_check(l->env, &dead);
    if (rc == 0) rc = open_db(l);
    if (rc != 0) return fail(l, config->dir, rc, error);
    return l;
}

void kv_lmdb_close(struct kv_lmdb *l)
{
    check(l->readers_open == 0);

    while (l->pool != NULL) {
        struct kv_reader *r = l->pool;
        l->pool = r->next;
        mdb_cursor_close(r->cursor);
        mdb_txn_abort(r->txn);
        free(r);
    }
    mdb_env_close(l->env);
    free(l);
}

struct kv kv_lmdb_kv(struct kv_lmdb *l)
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
    return (struct kv){&ops, l};
}

struct kv_lmdb_stats kv_lmdb_stats(struct kv_lmdb *l)
{
    MDB_envinfo info;
    MDB_stat stat;

    check(mdb_env_info(l->env, &info) == 0);
    check(mdb_env_stat(l->env, &stat) == 0);
    return (struct kv_lmdb_stats){
        .map_bytes = info.me_mapsize,
        .used_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize,
        .entries = stat.ms_entries,
        .readers_open = l->readers_open,
    };
}
