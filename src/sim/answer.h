/* SPDX-License-Identifier: Apache-2.0 */
/* answer - a RESP2 reply as a client reads it: its parts in the order of the bytes. */
#pragma once

#include "base/bytes.h"

enum { ANSWER_PARTS_MAX = 32 };

struct answer_part {
    char type; /* + - : $ *, and _ for null */
    int64_t n; /* of : the number, of * how many parts follow */
    struct bytes b;
};

struct answer_read {
    struct answer_part parts[ANSWER_PARTS_MAX];
    uint32_t n;
    size_t used;
};

enum answer_result { ANSWER_WHOLE = 1, ANSWER_MORE, ANSWER_BROKEN };
MUST_USE enum answer_result answer_take(struct bytes in, struct answer_read *out);
