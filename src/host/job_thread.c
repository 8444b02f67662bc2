/* SPDX-License-Identifier: Apache-2.0 */
#include "host/job_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* First in, first out; jobs are few (one per store at most), so cells are moved down. */
struct queue {
    struct job_done *at;
    size_t len, cap;
};

struct job_thread {
    pthread_mutex_t lock; /* over the queues and stopping */
    pthread_cond_t work;
    struct queue todo, done;
    bool stopping;

    int (*run)(void *engine, struct kv_job *job);
    void *engine;
    void (*notify)(void *ctx);
    void *ctx;
    pthread_t thread;
};

static void queue_put(struct queue *q, struct job_done v)
{
    if (q->len == q->cap) {
        q->cap = q->cap == 0 ? 16 : q->cap * 2;
        q->at = realloc(q->at, q->cap * sizeof *q->at);
        check(q->at != NULL);
    }
    q->at[q->len++] = v;
}

static bool queue_take(struct queue *q, struct job_done *v)
{
    if (q->len == 0) return false;
    *v = q->at[0];
    q->len--;
    for (size_t i = 0; i < q->len; i++)
        q->at[i] = q->at[i + 1];
    return true;
}

static void *work(void *arg)
{
    struct job_thread *t = arg;
    struct job_done next;

    for (;;) {
        check(pthread_mutex_lock(&t->lock) == 0);
        while (t->todo.len == 0 && !t->stopping)
            check(pthread_cond_wait(&t->work, &t->lock) == 0);
        const bool found = queue_take(&t->todo, &next);
        check(pthread_mutex_unlock(&t->lock) == 0);
        if (!found) return NULL;

        next.error = t->run(t->engine, next.job);
        check(pthread_mutex_lock(&t->lock) == 0);
        queue_put(&t->done, next);
        check(pthread_mutex_unlock(&t->lock) == 0);
        t->notify(t->ctx);
    }
}

static void free_all(struct job_thread *t)
{
    check(pthread_cond_destroy(&t->work) == 0);
    check(pthread_mutex_destroy(&t->lock) == 0);
    free(t->todo.at);
    free(t->done.at);
    free(t);
}

struct job_thread *job_thread_start(int (*run)(void *engine, struct kv_job *job),
                                    void *engine, void (*notify)(void *ctx), void *ctx)
{
    struct job_thread *t = calloc(1, sizeof *t);

    check(t != NULL);
    t->run = run;
    t->engine = engine;
    t->notify = notify;
    t->ctx = ctx;
    check(pthread_mutex_init(&t->lock, NULL) == 0);
    check(pthread_cond_init(&t->work, NULL) == 0);
    const int error = pthread_create(&t->thread, NULL, work, t);
    if (error == 0) return t;
    free_all(t);
    errno = error;
    return NULL;
}

void job_thread_push(struct job_thread *t, struct kv_job *job)
{
    check(pthread_mutex_lock(&t->lock) == 0);
    queue_put(&t->todo, (struct job_done){job, 0});
    check(pthread_cond_signal(&t->work) == 0);
    check(pthread_mutex_unlock(&t->lock) == 0);
}

bool job_thread_take(struct job_thread *t, struct job_done *done)
{
    check(pthread_mutex_lock(&t->lock) == 0);
    const bool found = queue_take(&t->done, done);
    check(pthread_mutex_unlock(&t->lock) == 0);
    return found;
}

void job_thread_stop(struct job_thread *t)
{
    check(pthread_mutex_lock(&t->lock) == 0);
    t->stopping = true;
    check(pthread_cond_signal(&t->work) == 0);
    check(pthread_mutex_unlock(&t->lock) == 0);
    check(pthread_join(t->thread, NULL) == 0);
    free_all(t);
}
