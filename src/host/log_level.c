/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the levels: apart from log.c, so that config.c needs nothing of the world. */
#include "host/log.h"

static const char *const names[] = {[LOG_DEBUG] = "debug",
                                    [LOG_INFO] = "info",
                                    [LOG_WARNING] = "warn",
                                    [LOG_ERROR] = "error"};

const char *log_level_name(enum server_log_level level)
{
    return names[level];
}

bool log_level_parse(struct bytes name, enum server_log_level *out)
{
    /* Redis' own words for its levels are taken too, for CONFIG SET loglevel. */
    static const struct {
        const char *word;
        enum server_log_level level;
    } words[] = {
        {"debug", LOG_DEBUG}, {"verbose", LOG_DEBUG}, {"info", LOG_INFO},
        {"notice", LOG_INFO}, {"warn", LOG_WARNING},  {"warning", LOG_WARNING},
        {"error", LOG_ERROR},
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!bytes_equal_nocase(name, words[i].word)) continue;
        *out = words[i].level;
        return true;
    }
    return false;
}
