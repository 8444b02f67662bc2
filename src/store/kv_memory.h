/* SPDX-License-Identifier: Apache-2.0 */
/* kv_memory - the engine of kv.h in memory, for the simulator and tests: what is
 * committed is what would be on disk. */
#pragma once

#include "base/mem.h"
#include "store/kv.h"

struct kv_memory;

struct kv_memory *kv_memory_new(struct mem *mem);
void kv_memory_free(struct kv_memory *m);
struct kv kv_memory_kv(struct kv_memory *m);
/* Runs a job as the checkpoint thread would; commits its transaction when run() returns 0
 * and `fail` is 0, else rolls back.  Returns 0 or the error. */
int kv_memory_run(struct kv_memory *m, struct kv_job *job, int fail);
uint64_t kv_memory_bytes(const struct kv_memory *m);
