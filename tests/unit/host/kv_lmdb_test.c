/* SPDX-License-Identifier: Apache-2.0 */
/* The store over LMDB, in directories of its own, and what opening one can meet. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/kv_lmdb.h"
#include "store/store_suite.h"

enum { MAP_BYTES = 1 << 30, READERS = 16 };

static char dir[] = "/tmp/kv_lmdb_test.XXXXXX";

static void remove_files(void)
{
    char path[64];

    snprintf(path, sizeof path, "%s/data.mdb", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    unlink(path);
}

static struct kv_lmdb *must_open(void)
{
    const struct kv_lmdb_config config = {dir, MAP_BYTES, READERS};
    struct kv_lmdb_error error;
    struct kv_lmdb *l = kv_lmdb_open(&config, &error);

    if (l == NULL) fail_msg("%s", error.text);
    return l;
}

static void reopen_engine(struct suite_engine *e)
{
    kv_lmdb_close(e->impl);
    e->impl = must_open();
    e->kv = kv_lmdb_kv(e->impl);
}

static void open_engine(struct suite_engine *e)
{
    remove_files();
    e->impl = must_open();
    e->kv = kv_lmdb_kv(e->impl);
}

static void close_engine(struct suite_engine *e)
{
    assert_int_equal(kv_lmdb_stats(e->impl).readers_open, 0);
    kv_lmdb_close(e->impl);
}

static int run_job(struct suite_engine *e, struct kv_job *job)
{
    return kv_lmdb_run(e->impl, job);
}

/* ---- opening ---- */

static void expect_refusal(const char *where, const char *why)
{
    const struct kv_lmdb_config config = {where, MAP_BYTES, READERS};
    struct kv_lmdb_error error = {""};

    assert_null(kv_lmdb_open(&config, &error));
    assert_non_null(strstr(error.text, where));
    assert_non_null(strstr(error.text, why));
}

static void opening_says_what_is_wrong(void **state)
{
    (void)state;
    char path[64];

    expect_refusal("/nowhere/at/all", "does not exist");
    remove_files();
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 20000; i++)
        fputc('x', f);
    fclose(f);
    expect_refusal(dir, "damaged");
    remove_files();
}

static void nobody_else_may_read_the_file(void **state)
{
    (void)state;
    char path[64];
    struct stat st;

    remove_files();
    struct kv_lmdb *l = must_open();
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    kv_lmdb_close(l);
}

struct filler {
    struct kv_job kv;
    uint64_t n;
};

static int fill_up(struct kv_job *kv, struct kv_txn *txn)
{
    struct filler *f = (struct filler *)kv;
    static const uint8_t value[60000];
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < f->n; i++)
        rc = kv->ops->put(txn, (struct bytes){(const uint8_t *)&i, sizeof i},
                          (struct bytes){value, sizeof value});
    return rc;
}

static void a_full_map_is_a_full_disk_and_nothing_is_lost(void **state)
{
    (void)state;
    const struct kv_lmdb_config config = {dir, 4 << 20, READERS};
    struct kv_lmdb_error error;

    remove_files();
    struct kv_lmdb *l = kv_lmdb_open(&config, &error);
    assert_non_null(l);
    const struct kv kv = kv_lmdb_kv(l);
    struct filler job = {{fill_up, true, kv.ops, 0}, 10};
    assert_int_equal(kv_lmdb_run(l, &job.kv), 0);
    job.n = 1000;
    assert_int_equal(kv_lmdb_run(l, &job.kv), ENOSPC);
    assert_int_equal(kv_lmdb_stats(l).entries, 10);
    job.n = 12;
    assert_int_equal(kv_lmdb_run(l, &job.kv), 0);
    assert_int_equal(kv_lmdb_stats(l).entries, 12);
    kv_lmdb_close(l);
}

static void too_many_readers_are_refused_and_closed_ones_used_again(void **state)
{
    (void)state;
    struct kv_reader *readers[READERS];

    remove_files();
    struct kv_lmdb *l = must_open();
    const struct kv kv = kv_lmdb_kv(l);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < READERS; i++) {
            readers[i] = kv.ops->reader_open(kv.engine);
            assert_non_null(readers[i]);
        }
        assert_null(kv.ops->reader_open(kv.engine));
        for (int i = 0; i < READERS; i++)
            kv.ops->reader_close(kv.engine, readers[i]);
    }
    kv_lmdb_close(l);
}

int main(void)
{
    const struct suite_engine engine = {
        .open = open_engine,
        .reopen = reopen_engine,
        .close = close_engine,
        .run = run_job,
        .rounds = 300,
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(nobody_else_may_read_the_file),
        cmocka_unit_test(a_full_map_is_a_full_disk_and_nothing_is_lost),
        cmocka_unit_test(too_many_readers_are_refused_and_closed_ones_used_again),
    };

    if (mkdtemp(dir) == NULL) return 1;
    const int failed = cmocka_run_group_tests_name("kv_lmdb", tests, NULL, NULL) +
                       suite_run(&engine, "store over lmdb");
    remove_files();
    rmdir(dir);
    return failed;
}
