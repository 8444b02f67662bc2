/* SPDX-License-Identifier: Apache-2.0 */
/* rollback - files of entries that gave way to another leader's (SERVER_ROLLBACK).
 *
 *     DIR/rollback/NAME   written once, whole or not at all, and never touched again: it is
 *                         the operator's to read, and to remove
 *
 * Errors   a file that can't be written is told to the operator; the log still holds what was to
 *          be in it, and the next start tries again
 */
#pragma once

#include "store/kv.h"

/* A job for the job thread that makes the file; NULL: no memory.  Copies what it is given. */
struct kv_job *rollback_job(const char *dir, const char *name, struct bytes content);
bool rollback_is(const struct kv_job *job);
const char *rollback_name(const struct kv_job *job);
void rollback_free(struct kv_job *job);
/* How many files there are; 0 too if there is no such directory. */
uint32_t rollback_count(const char *dir);
