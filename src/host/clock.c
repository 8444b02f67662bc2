/* SPDX-License-Identifier: Apache-2.0 */
#include "host/clock.h"

#include <time.h>

uint64_t clock_monotonic_ns(void)
{
    struct timespec t;

    check(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * SEC_NS + (uint64_t)t.tv_nsec;
}

struct wall clock_wall(void)
{
    struct timespec t;

    check(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return (struct wall){(int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000};
}
