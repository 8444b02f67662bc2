/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

enum { VARINT_MAX = 10 };

int bytes_compare(struct bytes a, struct bytes b)
{
    const size_t common = a.len < b.len ? a.len : b.len;
    const int order = common > 0 ? memcmp(a.at, b.at, common) : 0;

    if (order != 0) return order;
    return (a.len > b.len) - (a.len < b.len);
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool bytes_equal_nocase(struct bytes a, const char *name)
{
    for (size_t i = 0; i < a.len; i++) {
        if (name[i] == '\0') return false;
        if (lower(a.at[i]) != lower((uint8_t)name[i])) return false;
    }
    return name[a.len] == '\0';
}

bool get_u8(struct cursor *c, uint8_t *out)
{
    if (cursor_left(c) < sizeof *out) return false;
    *out = *c->at++;
    return true;
}

bool get_u16(struct cursor *c, uint16_t *out)
{
    if (cursor_left(c) < sizeof *out) return false;
    *out = load_u16le(c->at);
    c->at += sizeof *out;
    return true;
}

bool get_u32(struct cursor *c, uint32_t *out)
{
    if (cursor_left(c) < sizeof *out) return false;
    *out = load_u32le(c->at);
    c->at += sizeof *out;
    return true;
}

bool get_u64(struct cursor *c, uint64_t *out)
{
    if (cursor_left(c) < sizeof *out) return false;
    *out = load_u64le(c->at);
    c->at += sizeof *out;
    return true;
}

bool get_varint(struct cursor *c, uint64_t *out)
{
    const size_t left = cursor_left(c);
    uint64_t v = 0;

    for (size_t i = 0; i < left && i < VARINT_MAX; i++) {
        const uint8_t byte = c->at[i];
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80) continue;

        /* One form per number, so that what is decoded encodes to the same bytes. */
        if (byte == 0 && i > 0) return false;
        if (byte > 1 && i == VARINT_MAX - 1) return false;
        c->at += i + 1;
        *out = v;
        return true;
    }
    return false;
}

bool get_bytes(struct cursor *c, size_t len, struct bytes *out)
{
    if (cursor_left(c) < len) return false;
    *out = (struct bytes){c->at, len};
    if (len > 0) c->at += len;
    return true;
}

bool get_blob(struct cursor *c, struct bytes *out)
{
    struct cursor ahead = *c;
    uint64_t len;

    if (!get_varint(&ahead, &len)) return false;
    if (len > cursor_left(&ahead)) return false;
    if (!get_bytes(&ahead, (size_t)len, out)) return false;
    *c = ahead;
    return true;
}
