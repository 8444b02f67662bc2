/* SPDX-License-Identifier: Apache-2.0 */
/* export - a shard's keys as of its last checkpoint, given out as the stream of a backup.
 *
 * A reader of the engine for as long as it is open: the engine can't use again the pages that
 * it shows, so who opens one bounds its life.
 *
 * Owner    the caller, until store_export_close(); it needs the engine, not the store
 */
#pragma once

#include "store/store.h"

struct store_export;

/* NULL: the shard has no checkpoint, or too many readers are open. */
struct store_export *store_export_open(struct mem *mem, struct kv kv,
                                       struct group_id group);
void store_export_close(struct store_export *x);
struct store_base store_export_base(const struct store_export *x); /* what it is as of */
uint64_t store_export_keys(const struct store_export *x);
/* Appends the next whole records, bytes_max (>= COPY_RECORD_MAX) of them at most; false: there
 * are no more, and there was nothing to append. */
MUST_USE bool store_export_read(struct store_export *x, size_t bytes_max,
                                struct buf *out);
