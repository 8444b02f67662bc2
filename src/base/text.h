/* SPDX-License-Identifier: Apache-2.0 */
/* text - numbers and patterns in text that comes from outside. */
#pragma once

#include "base/bytes.h"

/* The whole of `b` as a decimal number, in Redis' strict form (string2ll): no spaces,
 * no leading zeros or plus, no "-0".  False, and *out untouched, otherwise or on
 * overflow. */
MUST_USE bool parse_i64(struct bytes b, int64_t *out);

/* A size as operators write it: 512, 64k, 64kb, 1m, 1mb, 2g, 2gb (powers of 1024). */
MUST_USE bool parse_size(struct bytes b, uint64_t *out);

/* A time as operators write it: 250ms, 5s, 10m, 1h, 0; a bare number is in seconds. */
MUST_USE bool parse_duration(struct bytes b, uint64_t *ns_out);

enum { I64_TEXT_MAX = 21 };
size_t format_i64(char text[I64_TEXT_MAX], int64_t v); /* length, no terminator */

/* Redis' glob: * ? [abc] [^a] [a-z] \x.  Iterative over '*', so that a hostile pattern
 * costs O(pattern * text) and never recursion. */
bool glob_match(struct bytes pattern, struct bytes text);
