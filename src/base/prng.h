/* SPDX-License-Identifier: Apache-2.0 */
/* prng - xoshiro256** seeded through splitmix64 [Blackman, Vigna 2018].  The only source
 * of randomness below the line; its state lies in the core that uses it. */
#pragma once

#include <stdint.h>

struct prng {
    uint64_t s[4];
};

struct prng prng_seed(uint64_t seed);
uint64_t prng_next(struct prng *p);
uint64_t prng_below(struct prng *p, uint64_t bound); /* 0 .. bound-1, bound > 0 */
uint64_t prng_range(struct prng *p, uint64_t lo, uint64_t hi); /* lo .. hi, both in */
int prng_chance(struct prng *p, uint32_t per_thousand);        /* 0 or 1 */
