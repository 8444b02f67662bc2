/* SPDX-License-Identifier: Apache-2.0 */
/* naive_view - a view for tests: a plain list of items, and a record of what was emitted.
 *
 * What find and walk give lies in memory that is freed at the next call on the view, so
 * that the sanitizer sees whoever keeps it longer.  Each effect goes through its encoding
 * before it is applied, and must keep what is promised of it: CREATED is true, and a
 * key past its deadline is what is cleared as EXPIRED. */
#pragma once

#include "data/command.h"

enum {
    NAIVE_TEXT_MAX = 8192,
    NAIVE_FAR = 64, /* find leaves longer values out, as those in pieces are */
};

struct naive_entry {
    struct bytes key, value; /* owned */
    enum item_type type;
    int64_t deadline_ms;
};

struct naive {
    struct mem mem;
    struct naive_entry *entries; /* in no order */
    size_t n, cap;
    void *lent[2];
    bool crowded; /* every key has the same place */

    struct view view;
    struct prng prng;
    struct wall now;
    uint8_t version;
    bool replica;
    uint32_t steps_max;
    uint64_t reply_from; /* as if so much less, of 2^64, was written before */

    char reply[NAIVE_TEXT_MAX];   /* of the last call, CR LF as one space */
    char effects[NAIVE_TEXT_MAX]; /* of the last call: "put k v new; clear k" */
};

void naive_init(struct naive *n);
void naive_free(struct naive *n);
/* An item of any type, past the commands. */
void naive_set(struct naive *n, const char *key, enum item_type type, const char *value,
               int64_t deadline_ms);
/* Runs a command given as an inline line. */
void naive_run(struct naive *n, const char *line);
void naive_run_args(struct naive *n, const struct bytes *args, uint32_t n_args);

/* Runs and compares reply and effects. */
#define expect(n, line, reply_, effects_)                                                \
    do {                                                                                 \
        naive_run(n, line);                                                              \
        assert_string_equal((n)->reply, reply_);                                         \
        assert_string_equal((n)->effects, effects_);                                     \
    } while (0)
