/* SPDX-License-Identifier: Apache-2.0 */
#include "host/wal_thread.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/prng.h"
#include "host/wal_file.h"
#include "unit.h"

enum { FILE_BYTES = 3 << 20, DONES_MAX = 4096 };

struct bench {
    char dir[64];
    struct wal_thread *thread;
    sem_t notified;
    uint64_t next_id;
    struct wal_thread_done dones[DONES_MAX];
    size_t n_dones;
};

static void on_notify(void *ctx)
{
    struct bench *b = ctx;

    check(sem_post(&b->notified) == 0);
}

static int begin(void **state)
{
    struct bench *b = calloc(1, sizeof *b);

    check(b != NULL);
    strcpy(b->dir, "/tmp/sennit-wal-XXXXXX");
    check(mkdtemp(b->dir) != NULL);
    check(sem_init(&b->notified, 0, 0) == 0);
    b->thread = wal_thread_start(b->dir, on_notify, b);
    check(b->thread != NULL);
    *state = b;
    return 0;
}

static int end(void **state)
{
    struct bench *b = *state;
    char command[128];

    if (b->thread != NULL) wal_thread_stop(b->thread);
    sem_destroy(&b->notified);
    snprintf(command, sizeof command, "rm -rf '%s'", b->dir);
    const int status = system(command); /* NOLINT: the path is our own */
    free(b);
    return status;
}

static void push(struct bench *b, struct wal_op op)
{
    op.id = ++b->next_id;
    wal_thread_push(b->thread, &op);
}

/* Hands over and waits until all that was ever pushed is done. */
static void settle(struct bench *b)
{
    const struct wal_thread_done *done;

    wal_thread_kick(b->thread);
    while (b->n_dones < b->next_id) {
        while (sem_wait(&b->notified) != 0)
            continue;
        const size_t n = wal_thread_take(b->thread, &done);
        for (size_t i = 0; i < n; i++)
            b->dones[b->n_dones++] = done[i];
    }
    for (size_t i = 0; i < b->n_dones; i++)
        assert_int_equal(b->dones[i].op, i + 1);
}

static struct bytes run_of(const uint8_t *at, size_t len)
{
    return (struct bytes){at, len};
}

static void what_is_written_is_read_back(void **state)
{
    struct bench *b = *state;
    static uint8_t back[FILE_BYTES + 100], data[5000];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 1);
    memset(back, 0xee, sizeof back);
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 1, .length = FILE_BYTES});
    push(b,
         (struct wal_op){
             .kind = WAL_OP_WRITE, .file = 1, .offset = 777, .data = run_of(data, 5000)});
    push(b, (struct wal_op){.kind = WAL_OP_SYNC, .file = 1});
    push(b, (struct wal_op){
                .kind = WAL_OP_READ, .file = 1, .length = sizeof back, .into = back});
    settle(b);
    for (size_t i = 0; i < b->n_dones; i++)
        assert_int_equal(b->dones[i].error, 0);
    assert_int_equal(b->dones[3].got, FILE_BYTES); /* fewer at the end of the file */
    for (size_t i = 0; i < FILE_BYTES; i++) {
        const uint8_t want = i >= 777 && i < 5777 ? data[i - 777] : 0;
        if (back[i] != want) fail_msg("byte %zu is %u", i, back[i]);
    }
}

static void a_file_made_again_is_of_zeros_again(void **state)
{
    struct bench *b = *state;
    uint8_t back[8], data[8] = "old life";
    const struct wal_op read = {
        .kind = WAL_OP_READ, .file = 7, .length = sizeof back, .into = back};

    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 7, .length = 4096});
    push(b, (struct wal_op){.kind = WAL_OP_WRITE, .file = 7, .data = run_of(data, 8)});
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 7, .length = 4096});
    push(b, read);
    settle(b);
    assert_memory_equal(back, "\0\0\0\0\0\0\0\0", 8);
    push(b, (struct wal_op){.kind = WAL_OP_REMOVE, .file = 7});
    push(b, read);
    settle(b);
    assert_int_equal(b->dones[4].error, 0);
    assert_int_equal(b->dones[5].error, ENOENT);
}

static void errors_are_told_and_the_rest_goes_on(void **state)
{
    struct bench *b = *state;
    uint8_t data[1] = {1};

    push(b, (struct wal_op){.kind = WAL_OP_WRITE, .file = 9, .data = run_of(data, 1)});
    push(b, (struct wal_op){.kind = WAL_OP_SYNC, .file = 9});
    push(b, (struct wal_op){.kind = WAL_OP_REMOVE, .file = 9});
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 9, .length = 100});
    settle(b);
    assert_int_equal(b->dones[0].error, ENOENT);
    assert_int_equal(b->dones[1].error, ENOENT);
    assert_int_equal(b->dones[2].error, ENOENT);
    assert_int_equal(b->dones[3].error, 0);
}

static void more_files_than_descriptors_are_served(void **state)
{
    struct bench *b = *state;
    static uint8_t back[3 * WAL_FDS_MAX];
    static uint8_t data[3 * WAL_FDS_MAX];

    for (uint32_t i = 0; i < 3 * WAL_FDS_MAX; i++) {
        data[i] = (uint8_t)(i + 1);
        push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = i, .length = 16});
        push(b, (struct wal_op){
                    .kind = WAL_OP_WRITE, .file = i, .data = run_of(data + i, 1)});
    }
    for (uint32_t i = 0; i < 3 * WAL_FDS_MAX; i++)
        push(b, (struct wal_op){
                    .kind = WAL_OP_READ, .file = i, .length = 1, .into = back + i});
    settle(b);
    assert_memory_equal(back, data, sizeof data);
}

/* The order of completion is that of the hand-over however the hand-overs are cut, and
 * stopping performs what was handed over. */
static void all_is_done_in_order(void **state)
{
    struct bench *b = *state;
    struct prng random = prng_seed(1);
    char path[96];
    struct stat st;
    static uint8_t data[64];

    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 3, .length = 4096});
    for (uint32_t i = 0; i < 1000; i++) {
        push(b,
             (struct wal_op){
                 .kind = WAL_OP_WRITE, .file = 3, .offset = i, .data = run_of(data, 64)});
        if (prng_chance(&random, 200))
            push(b, (struct wal_op){.kind = WAL_OP_SYNC, .file = 3});
        if (prng_chance(&random, 300)) wal_thread_kick(b->thread);
        if (prng_chance(&random, 50)) settle(b);
    }
    settle(b);
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 4, .length = 10});
    wal_thread_stop(b->thread);
    b->thread = NULL;
    snprintf(path, sizeof path, "%s/wal-00000004", b->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 10);
}

/* A disk that is full, played by a limit of file size. */
static void a_file_that_cannot_be_made_is_not_there(void **state)
{
    struct bench *b = *state;
    const struct rlimit small = {1 << 20, RLIM_INFINITY};
    struct rlimit before;
    char path[96];

    signal(SIGXFSZ, SIG_IGN); /* then write says EFBIG */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 5, .length = FILE_BYTES});
    settle(b);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(b->dones[0].error, EFBIG);
    snprintf(path, sizeof path, "%s/wal-00000005", b->dir);
    assert_int_not_equal(access(path, F_OK), 0);
    push(b, (struct wal_op){.kind = WAL_OP_CREATE, .file = 5, .length = FILE_BYTES});
    settle(b);
    assert_int_equal(b->dones[1].error, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read_back),
        TEST(a_file_made_again_is_of_zeros_again),
        TEST(errors_are_told_and_the_rest_goes_on),
        TEST(more_files_than_descriptors_are_served),
        TEST(all_is_done_in_order),
        TEST(a_file_that_cannot_be_made_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
