/* SPDX-License-Identifier: Apache-2.0 */
/* job_thread - runs the jobs of src/store/kv.h, one at a time, in order, on a thread of its
 * own, so that no checkpoint is ever waited for by the loop.
 *
 * Who owns a job's memory must leave it alone from push until the job is taken back. */
#pragma once

#include <stddef.h>

#include "store/kv.h"

struct job_thread;

struct job_done {
    struct kv_job *job;
    int error;
};

/* `run` performs a job, `notify` follows each; both are called on the thread.
 * NULL: no thread could be made, errno says why. */
struct job_thread *job_thread_start(int (*run)(void *engine, struct kv_job *job),
                                    void *engine, void (*notify)(void *ctx), void *ctx);
void job_thread_push(struct job_thread *t, struct kv_job *job);
bool job_thread_take(struct job_thread *t,
                     struct job_done *done); /* false: none is done */
void job_thread_stop(struct job_thread *t);  /* after the jobs that were pushed */
