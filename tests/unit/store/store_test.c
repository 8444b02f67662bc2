/* SPDX-License-Identifier: Apache-2.0 */
/* The store over the engine in memory. */
#include "unit.h"

#include "mem_test_alloc.h"
#include "store/kv_memory.h"
#include "store_suite.h"

static struct mem mem;

static void open_engine(struct suite_engine *e)
{
    mem = mem_for_test();
    e->impl = kv_memory_new(&mem);
    e->kv = kv_memory_kv(e->impl);
}

static void close_engine(struct suite_engine *e)
{
    kv_memory_free(e->impl);
    assert_int_equal(mem.used, 0);
}

static void reopen_engine(struct suite_engine *e)
{
    (void)e; /* what is committed is what is on disk */
}

static int run_job(struct suite_engine *e, struct kv_job *job)
{
    return kv_memory_run(e->impl, job, 0);
}

int main(void)
{
    const struct suite_engine engine = {
        .open = open_engine,
        .reopen = reopen_engine,
        .close = close_engine,
        .run = run_job,
        .rounds = 1500,
    };
    return suite_run(&engine, "store over memory");
}
