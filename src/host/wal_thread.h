/* SPDX-License-Identifier: Apache-2.0 */
/* wal_thread - performs the operations of src/wal on files, one after the other, in order, on
 * a thread of its own.
 *
 *     loop                                   thread
 *     wal_thread_push() ... _kick()  ──────► pwrite, fdatasync, ...
 *     wal_thread_take()              ◄────── notify(), once for all that is done by then
 *
 * The two share two vectors under one lock and nothing else.  A write whose sync follows is
 * reported together with it: nobody can use the one without the other, and one wake-up of
 * the loop is spared on the path that every write waits for.
 *
 * Errors   an errno per operation; nothing is tried again but what a signal interrupted.  A
 *          CREATE that fails leaves no file behind
 * Limits   none of its own: src/wal has at most one batch under way, and reads are bounded
 */
#pragma once

#include <stddef.h>

#include "wal/wal.h"

struct wal_thread;

struct wal_thread_done {
    uint64_t op;
    int error;
    enum wal_op_kind kind;
    uint64_t got;
    uint64_t took_ns;
};

/* `notify` is called on the thread.  NULL: no thread could be made, errno says why. */
struct wal_thread *wal_thread_start(const char *dir, void (*notify)(void *ctx),
                                    void *ctx);
void wal_thread_push(struct wal_thread *t, const struct wal_op *op); /* copied */
void wal_thread_kick(struct wal_thread *t); /* hands over all that was pushed */
/* What is done since the last call; good until the next one. */
size_t wal_thread_take(struct wal_thread *t, const struct wal_thread_done **done);
/* Performs what was handed over, ends the thread.  What is done by then is not reported. */
void wal_thread_stop(struct wal_thread *t);
