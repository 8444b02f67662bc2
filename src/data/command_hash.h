/* SPDX-License-Identifier: Apache-2.0 */
/* command_hash - the perfect hash by which a command is found.  Private to command.c and
 * to the program that looks for a seed without collisions and writes command_index.inc. */
#pragma once

#include "base/bytes.h"

enum { COMMAND_NAME_MAX = 32 };

/* Of a name of 1 byte or more.  Letters count without their case; of a name over 16 bytes
 * the first and the last eight. */
static inline uint32_t command_hash(struct bytes name, uint64_t seed, uint32_t bits)
{
    const uint8_t *p = name.at;
    uint64_t a, b;

    if (name.len >= 8) {
        a = load_u64le(p);
        b = load_u64le(p + name.len - 8);
    } else if (name.len >= 4) {
        a = load_u32le(p);
        b = load_u32le(p + name.len - 4);
    } else {
        a = p[0] | (uint64_t)p[name.len / 2] << 8 | (uint64_t)p[name.len - 1] << 16;
        b = name.len;
    }
    a = (a | UINT64_C(0x2020202020202020)) * seed;
    b = (b | UINT64_C(0x2020202020202020)) + name.len;
    a = (a ^ (a >> 32) ^ b) * seed;
    return (uint32_t)(a >> (64 - bits));
}
