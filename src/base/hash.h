/* SPDX-License-Identifier: Apache-2.0 */
/* hash - checksums and fingerprints (XXH3), and the slot function of Redis Cluster. */
#pragma once

#include "base/bytes.h"

enum { SLOTS = 16384 };

uint64_t hash64(struct bytes b);
uint64_t hash64_seed(struct bytes b, uint64_t seed);
/* Over two runs as if they lay one after the other (a header and its body). */
uint64_t hash64_pair(struct bytes a, struct bytes b, uint64_t seed);

struct hash128 {
    uint64_t lo, hi;
};
struct hash128 hash128(struct bytes b);

/* CRC16-XMODEM of the hash tag (the first non-empty {...}) or of the whole key, mod
 * 16384: the slot function of the Redis Cluster specification. */
uint16_t key_slot(struct bytes key);
