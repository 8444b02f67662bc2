/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/link.h"
#include "cli/units.h"

enum { EVERY_MS = 200, RATE_FROM_MS = 500 };

struct progress progress_begin(const char *what, uint64_t of_keys, uint64_t of_bytes)
{
    const uint64_t now = clock_ms();

    return (struct progress){
        .what = what,
        .on = isatty(STDERR_FILENO) != 0,
        .begun_ms = now,
        .told_ms = now,
        .of_keys = of_keys,
        .of_bytes = of_bytes,
    };
}

double progress_seconds(const struct progress *p)
{
    return (double)(clock_ms() - p->begun_ms) / 1000;
}

/* By bytes where their sum is known, else by keys; 0: nobody knows. */
static double done_part(const struct progress *p)
{
    if (p->of_bytes > 0) return (double)p->bytes / (double)p->of_bytes;
    if (p->of_keys > 0) return (double)p->keys / (double)p->of_keys;
    return 0;
}

static void tell(struct progress *p, uint64_t now)
{
    const double s = (double)(now - p->begun_ms) / 1000, part = done_part(p);
    char size[UNIT_TEXT_MAX], rate[UNIT_TEXT_MAX];

    fprintf(stderr, "\r%s %s, %llu keys", p->what, size_text(p->bytes, size),
            (unsigned long long)p->keys);
    if (now - p->begun_ms >= RATE_FROM_MS)
        fprintf(stderr, ", %s/s", size_text((uint64_t)((double)p->bytes / s), rate));
    if (part > 0.01 && part < 1)
        fprintf(stderr, ", %.0f %%, %.0f s left", part * 100, s / part - s);
    fputs("\033[K", stderr);
    fflush(stderr);
    p->shown = true;
}

void progress_add(struct progress *p, uint64_t keys, uint64_t bytes)
{
    p->keys += keys;
    p->bytes += bytes;
    if (!p->on) return;
    const uint64_t now = clock_ms();
    if (now - p->told_ms < EVERY_MS) return;
    p->told_ms = now;
    tell(p, now);
}

void progress_hide(struct progress *p)
{
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}
