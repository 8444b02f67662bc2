/* SPDX-License-Identifier: Apache-2.0 */
/* reply - what a client is answered, in RESP2 or RESP3.
 *
 * A struct reply writes to a buf of the caller.  Types that RESP2 lacks are written as
 * Redis writes them there: map and set as array, double and verbatim as bulk, null as "$-1",
 * null array as "*-1".
 */
#pragma once

#include "base/buf.h"

struct reply {
    struct buf *out;
    uint8_t version; /* 2 or 3 */
};

void reply_ok(struct reply *r);
void reply_simple(struct reply *r, const char *text);
/* `text` starts with the code: "ERR syntax error".  CR and LF in it become spaces. */
void reply_error(struct reply *r, const char *text);
void reply_errorf(struct reply *r, const char *format, ...) PRINTF_LIKE(2, 3);
void reply_int(struct reply *r, int64_t v);
void reply_bulk(struct reply *r, struct bytes v);
/* The same in parts: `len` bytes are appended to out in between. */
void reply_bulk_begin(struct reply *r, uint64_t len);
void reply_bulk_end(struct reply *r);
void reply_bulk_str(struct reply *r, const char *v);
void reply_bulk_int(struct reply *r, int64_t v); /* the number as a bulk string */
void reply_null(struct reply *r);
void reply_null_array(struct reply *r);
void reply_array(struct reply *r, uint64_t n);
void reply_map(struct reply *r, uint64_t pairs);
void reply_set(struct reply *r, uint64_t n);
void reply_double(struct reply *r, double v);
void reply_verbatim(struct reply *r, const char format[3], struct bytes text);
