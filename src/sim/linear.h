/* SPDX-License-Identifier: Apache-2.0 */
/* linear - is a history of operations on one object linearizable?
 *
 *     linear_values  what clients wrote and read, each distinct run of bytes numbered once
 *     linear_op      what one client asked, when, and what it was told
 *     linear_check() looks for an order of the operations that a single copy could have
 *                    executed, each somewhere between its call and its answer
 *
 * An operation whose outcome is not known may have happened at any time after its call, or
 * never.  One that surely did not happen is not handed in.  What one connection asked, and was
 * told the outcome of, happened in the order in which it asked, also where it did not wait for
 * the answers.
 *
 * Method   Wing and Gong's search [WING93] with the memory of visited configurations that
 *          [LOWE17] adds: (set of operations done, state) is tried once.  The set is kept as
 *          the XOR of two 64-bit random numbers per operation: two sets fall together with
 *          probability 2^-128 times the square of the number visited.
 *          Operations with known outcomes are tried first, those with unknown ones last.
 * Cost     exponential at worst; `budget` bounds the configurations visited
 */
#pragma once

#include "base/buf.h"
#include "base/hmap.h"
#include "base/mem.h"

/* Values by number.  0 is "absent"; equal bytes have equal numbers. */
struct linear_values {
    struct mem *mem;
    struct buf store;
    uint64_t *starts; /* value i is store[starts[i - 1] .. starts[i]) */
    uint32_t count, cap;
    struct hmap by_hash; /* hash -> number, of the first with that hash */
};

void linear_values_init(struct linear_values *v, struct mem *mem);
void linear_values_free(struct linear_values *v);
uint32_t linear_value(struct linear_values *v, struct bytes bytes);
uint32_t linear_value_of_int(struct linear_values *v, int64_t n);
struct bytes linear_value_bytes(const struct linear_values *v, uint32_t value);

enum { LINEAR_ACCOUNTS = 4 }; /* of a bank: an object of several balances */

enum linear_kind {
    LINEAR_READ = 1,    /* out: the value */
    LINEAR_WRITE,       /* a */
    LINEAR_WRITE_NEW,   /* a, if absent; out: done or not */
    LINEAR_WRITE_EQUAL, /* b, if the value is a; out: done or not */
    LINEAR_WRITE_WATCHED, /* b; when done the value was a; when not: anything may be there */
    LINEAR_SWAP,          /* a; out: the value before */
    LINEAR_APPEND,        /* a behind the value; number: length after */
    LINEAR_ADD,           /* n; number: the sum */
    LINEAR_REMOVE,        /* out: was it there */
    LINEAR_TOUCH,         /* changes nothing; out: was it there */
    LINEAR_TRANSFER, /* n from account `from` to account `to`; out: the whole after it */
};

struct linear_op {
    uint64_t call, done; /* in the order of the world; equal times count as overlapping */
    bool unknown;        /* the outcome was never told; `done` is not used */
    enum linear_kind kind;
    bool lapses; /* WRITE*: with a deadline, the value may vanish at any time */
    uint32_t a, b;
    int64_t n;
    uint8_t from, to;
    uint32_t out; /* a value */
    bool yes;     /* out of the conditional kinds */
    int64_t number;
    uint32_t client; /* for telling only */
    uint64_t conn;   /* whose order it is in; 0: nobody's */
    uint32_t
        asked; /* its place there, where `call` is not when it was asked; 0: by call */
};

enum linear_result { LINEAR_YES = 1, LINEAR_NO, LINEAR_UNDECIDED };

/* Orders `ops` by call.  `initial`: the value before all of them.  *stuck_at (may be NULL):
 * for LINEAR_NO, how many operations the longest order found could place. */
enum linear_result linear_check(struct linear_values *values, struct linear_op *ops,
                                uint32_t n, uint32_t initial, uint64_t budget,
                                uint32_t *stuck_at);
/* One line that tells an operation to a reader. */
void linear_tell(struct buf *out, const struct linear_values *values,
                 const struct linear_op *op);
