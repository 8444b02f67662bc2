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

/* proc(5): a random UUID that is made at each boot. */
uint64_t entropy_boot(void)
{
    char text[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    uint64_t v = 0;

    if (file == NULL) return 0;
    if (fgets(text, sizeof text, file) != NULL)
        for (const char *c = text; *c != 0; c++)
            if (*c > ' ') v = v * 1099511628211U + (uint8_t)*c;
    (void)fclose(file);
    return v;
}
