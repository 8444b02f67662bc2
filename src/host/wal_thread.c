/* SPDX-License-Identifier: Apache-2.0 */
#include "host/wal_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "host/clock.h"
#include "host/wal_file.h"

struct ops {
    struct wal_op *at;
    size_t len, cap;
};

struct dones {
    struct wal_thread_done *at;
    size_t len, cap;
};

struct wal_thread {
    /* the loop's */
    struct ops pushed;
    struct dones taken;

    /* shared, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct ops queue;
    struct dones done;
    bool stopping;

    /* the thread's */
    struct wal_dir dir;
    struct ops batch;
    struct dones ready;

    void (*notify)(void *ctx);
    void *ctx;
    pthread_t thread;
};

static void ops_put(struct ops *v, const struct wal_op *op, size_t n)
{
    if (v->cap - v->len < n) {
        v->cap = (v->cap + n) * 2;
        v->at = realloc(v->at, v->cap * sizeof *v->at);
        check(v->at != NULL);
    }
    for (size_t i = 0; i < n; i++)
        v->at[v->len++] = op[i];
}

static void dones_put(struct dones *v, const struct wal_thread_done *done, size_t n)
{
    if (v->cap - v->len < n) {
        v->cap = (v->cap + n) * 2;
        v->at = realloc(v->at, v->cap * sizeof *v->at);
        check(v->at != NULL);
    }
    for (size_t i = 0; i < n; i++)
        v->at[v->len++] = done[i];
}

static void report(struct wal_thread *t)
{
    check(pthread_mutex_lock(&t->lock) == 0);
    dones_put(&t->done, t->ready.at, t->ready.len);
    check(pthread_mutex_unlock(&t->lock) == 0);
    t->ready.len = 0;
    t->notify(t->ctx);
}

static void perform_batch(struct wal_thread *t)
{
    for (size_t i = 0; i < t->batch.len; i++) {
        const struct wal_op *op = &t->batch.at[i];
        const struct wal_op *next = i + 1 < t->batch.len ? op + 1 : NULL;
        struct wal_thread_done done = {.op = op->id, .kind = op->kind};

        const uint64_t begun_ns = clock_monotonic_ns();
        done.error = wal_dir_perform(&t->dir, op, &done.got);
        done.took_ns = clock_monotonic_ns() - begun_ns;
        const bool sync_follows = op->kind == WAL_OP_WRITE && done.error == 0 &&
                                  next != NULL && next->kind == WAL_OP_SYNC;
        dones_put(&t->ready, &done, 1);
        if (!sync_follows) report(t);
    }
    t->batch.len = 0;
}

static void *run(void *arg)
{
    struct wal_thread *t = arg;

    for (;;) {
        check(pthread_mutex_lock(&t->lock) == 0);
        while (t->queue.len == 0 && !t->stopping)
            check(pthread_cond_wait(&t->work, &t->lock) == 0);
        const struct ops batch = t->queue;
        t->queue = t->batch;
        t->batch = batch;
        check(pthread_mutex_unlock(&t->lock) == 0);

        if (t->batch.len == 0) return NULL;
        perform_batch(t);
    }
}

static void free_all(struct wal_thread *t)
{
    check(pthread_cond_destroy(&t->work) == 0);
    check(pthread_mutex_destroy(&t->lock) == 0);
    wal_dir_free(&t->dir);
    free(t->pushed.at);
    free(t->taken.at);
    free(t->queue.at);
    free(t->done.at);
    free(t->batch.at);
    free(t->ready.at);
    free(t);
}

struct wal_thread *wal_thread_start(const char *dir, void (*notify)(void *ctx), void *ctx)
{
    struct wal_thread *t = calloc(1, sizeof *t);

    check(t != NULL);
    t->notify = notify;
    t->ctx = ctx;
    wal_dir_init(&t->dir, dir);
    check(pthread_mutex_init(&t->lock, NULL) == 0);
    check(pthread_cond_init(&t->work, NULL) == 0);
    const int error = pthread_create(&t->thread, NULL, run, t);
    if (error == 0) return t;
    free_all(t);
    errno = error;
    return NULL;
}

void wal_thread_push(struct wal_thread *t, const struct wal_op *op)
{
    ops_put(&t->pushed, op, 1);
}

void wal_thread_kick(struct wal_thread *t)
{
    if (t->pushed.len == 0) return;
    check(pthread_mutex_lock(&t->lock) == 0);
    ops_put(&t->queue, t->pushed.at, t->pushed.len);
    check(pthread_cond_signal(&t->work) == 0);
    check(pthread_mutex_unlock(&t->lock) == 0);
    t->pushed.len = 0;
}

size_t wal_thread_take(struct wal_thread *t, const struct wal_thread_done **done)
{
    t->taken.len = 0;
    check(pthread_mutex_lock(&t->lock) == 0);
    const struct dones taken = t->done;
    t->done = t->taken;
    t->taken = taken;
    check(pthread_mutex_unlock(&t->lock) == 0);
    *done = t->taken.at;
    return t->taken.len;
}

void wal_thread_stop(struct wal_thread *t)
{
    wal_thread_kick(t);
    check(pthread_mutex_lock(&t->lock) == 0);
    t->stopping = true;
    check(pthread_cond_signal(&t->work) == 0);
    check(pthread_mutex_unlock(&t->lock) == 0);
    check(pthread_join(t->thread, NULL) == 0);
    free_all(t);
}
