/* SPDX-License-Identifier: Apache-2.0 */
/* The claims about src/store, run over each engine: a store against a model that is an
 * array of all keys there can be, slow and plainly right. */
#pragma once

#include "store/kv.h"

struct suite_engine {
    struct kv kv;
    void *impl;
    void (*open)(struct suite_engine *e);   /* an empty one */
    void (*reopen)(struct suite_engine *e); /* as after a crash */
    void (*close)(struct suite_engine *e);
    int (*run)(struct suite_engine *e, struct kv_job *job);
    int rounds; /* of random operations */
};

int suite_run(const struct suite_engine *engine, const char *name);
