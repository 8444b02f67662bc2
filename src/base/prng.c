/* SPDX-License-Identifier: Apache-2.0 */
#include "base/prng.h"

#include "base/check.h"

static uint64_t splitmix64(uint64_t *x)
{
    *x += UINT64_C(0x9e3779b97f4a7c15);

    uint64_t z = *x;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t v, unsigned by)
{
    return v << by | v >> (64 - by);
}

struct prng prng_seed(uint64_t seed)
{
    struct prng p;

    /* Four outputs of splitmix64 in a row are never all zero, the one forbidden state. */
    for (int i = 0; i < 4; i++)
        p.s[i] = splitmix64(&seed);
    return p;
}

uint64_t prng_next(struct prng *p)
{
    uint64_t *s = p->s;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    const uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Mask and reject: no bias and no division, and less than two draws on average. */
uint64_t prng_below(struct prng *p, uint64_t bound)
{
    check(bound > 0);

    const uint64_t top = bound - 1;
    const uint64_t mask = UINT64_MAX >> __builtin_clzll(top | 1);
    uint64_t v;
    do
        v = prng_next(p) & mask;
    while (v > top);
    return v;
}

uint64_t prng_range(struct prng *p, uint64_t lo, uint64_t hi)
{
    check(lo <= hi);

    if (hi - lo == UINT64_MAX) return prng_next(p);
    return lo + prng_below(p, hi - lo + 1);
}

int prng_chance(struct prng *p, uint32_t per_thousand)
{
    return prng_below(p, 1000) < per_thousand;
}
