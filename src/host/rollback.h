/* SPDX-License-Identifier: Apache-2.0 */
/* rollback - files of entries that gave way to another leader's (SERVER_ROLLBACK).
 *
 *     DIR/rollback/NAME   written once, whole or not at all, and never touched again: it is
 *                         the operator's to read, and to remove
 *
 * Errors   a file that can't be written is told to the operator, and tried again every second;
 *          the server keeps the log that holds the same until it is told that the file is there
 */
#pragma once

#include "base/ids.h"
#include "store/kv.h"

/* A job for the job thread that makes the file of what a ROLLBACK says.  Copies what it is given. */
struct kv_job *rollback_job(const char *dir, struct group_id group, const char *name,
                            struct bytes entries);
bool rollback_is(const struct kv_job *job);
const char *rollback_name(const struct kv_job *job);
struct group_id rollback_group(const struct kv_job *job);
bool rollback_is_late(const struct kv_job *job); /* it has failed before */
/* Jobs that failed, and wait: a list of their own. */
void rollback_put(struct kv_job **list, struct kv_job *job);
struct kv_job *rollback_take(struct kv_job **list); /* NULL: it is empty */
void rollback_free(struct kv_job *job);
/* How many files there are; 0 too if there is no such directory. */
uint32_t rollback_count(const char *dir);
