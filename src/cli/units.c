/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/units.h"

#include <stdio.h>

const char *size_text(uint64_t bytes, char text[UNIT_TEXT_MAX])
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t i = 0;

    for (; v >= 1024 && i < 4; i++)
        v /= 1024;
    snprintf(text, UNIT_TEXT_MAX, i == 0 ? "%.0f %s" : "%.1f %s", v, units[i]);
    return text;
}

const char *time_text(uint64_t ms, char text[UNIT_TEXT_MAX])
{
    static const struct {
        uint64_t ms;
        const char *name;
    } units[] = {
        {24 * 3600000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;

    while (i < 4 && ms < 2 * units[i].ms)
        i++;
    snprintf(text, UNIT_TEXT_MAX, "%llu %s", (unsigned long long)(ms / units[i].ms),
             units[i].name);
    return text;
}

static void decimal(double v, const char *unit, char text[UNIT_TEXT_MAX])
{
    static const char *const powers[] = {"", "k", "M", "G", "T"};
    size_t i = 0;

    for (; v >= 1000 && i < 4; i++)
        v /= 1000;
    snprintf(text, UNIT_TEXT_MAX, i == 0 ? "%.0f%s%s%s" : "%.1f%s%s%s", v,
             i > 0 ? " " : "", powers[i], unit);
}

const char *count_text(uint64_t n, char text[UNIT_TEXT_MAX])
{
    decimal((double)n, "", text);
    return text;
}

const char *rate_text(double per_s, char text[UNIT_TEXT_MAX])
{
    decimal(per_s, "/s", text);
    return text;
}
