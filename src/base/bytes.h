/* SPDX-License-Identifier: Apache-2.0 */
/* bytes - a borrowed run of bytes, little-endian loads and stores, varints.
 *
 * Owner    a struct bytes never owns: what it points to is borrowed for the call, or for
 *          as long as the function that returned it says.
 * Errors   the get_* readers return false at the end of input or on a malformed varint
 *          and leave both the cursor and the output untouched.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

struct bytes {
    const uint8_t *at;
    size_t len;
};

#define BYTES_OF(literal)                                                                \
    ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct bytes bytes_of_str(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* Lexicographic, shorter first: < 0, 0, > 0 as memcmp. */
int bytes_compare(struct bytes a, struct bytes b);

/* ASCII case-insensitive, for command and option names. */
bool bytes_equal_nocase(struct bytes a, const char *name);

static inline uint16_t load_u16le(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_u32le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t load_u64le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_u16le(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void store_u32le(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void store_u64le(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

/* Big-endian forms order as their bytes do; store keys use them. */
static inline void store_u64be(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}

static inline uint64_t load_u64be(const uint8_t *p)
{
    return __builtin_bswap64(load_u64le(p));
}

static inline void store_u32be(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}

static inline uint32_t load_u32be(const uint8_t *p)
{
    return __builtin_bswap32(load_u32le(p));
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "formats are stored as the machine holds them; port bytes.h first");

/* A cursor over bytes from outside. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline struct cursor cursor_of(struct bytes b)
{
    /* Nothing may lie at NULL, and adding even 0 to NULL is undefined. */
    return (struct cursor){b.at, b.len > 0 ? b.at + b.len : b.at};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

MUST_USE bool get_u8(struct cursor *c, uint8_t *out);
MUST_USE bool get_u16(struct cursor *c, uint16_t *out);
MUST_USE bool get_u32(struct cursor *c, uint32_t *out);
MUST_USE bool get_u64(struct cursor *c, uint64_t *out);
/* LEB128, at most 10 bytes; only the shortest form of a number is well-formed. */
MUST_USE bool get_varint(struct cursor *c, uint64_t *out);
MUST_USE bool get_bytes(struct cursor *c, size_t len, struct bytes *out);
MUST_USE bool get_blob(struct cursor *c,
                       struct bytes *out); /* varint length, then bytes */
