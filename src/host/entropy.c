/* SPDX-License-Identifier: Apache-2.0 */
#include "host/entropy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Eight bytes come whole or not at all (getrandom(2)); only an early signal can interrupt. */
uint64_t entropy_u64(void)
{
    uint64_t v;

    for (;;) {
        if (getrandom(&v, sizeof v, 0) == (ssize_t)sizeof v) return v;
        if (errno == EINTR) continue;
        perror("getrandom");
        abort();
    }
}
