/* SPDX-License-Identifier: Apache-2.0 */
#include "host/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/clock.h"

size_t log_format(char line[LOG_LINE_MAX], struct wall at, enum server_log_level level,
                  const char *text)
{
    const time_t seconds = (time_t)(at.ms / 1000);
    struct tm tm;

    check(gmtime_r(&seconds, &tm) != NULL);
    size_t len = strftime(line, LOG_LINE_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    const int more = snprintf(line + len, LOG_LINE_MAX - len, ".%03dZ %-5s ",
                              (int)(at.ms % 1000), log_level_name(level));
    check(more > 0);
    len += (size_t)more;

    for (; *text != 0 && len < LOG_LINE_MAX - 1; text++) {
        const unsigned char c = (unsigned char)*text;
        line[len++] = c < 0x20 || c == 0x7f ? '?' : *text;
    }
    line[len++] = '\n';
    return len;
}

void log_line(const struct log *log, enum server_log_level level, const char *text)
{
    char line[LOG_LINE_MAX];

    if (level < log->level) return;
    const size_t len = log_format(line, clock_wall(), level, text);
    /* Nobody can be told that the log itself cannot be written. */
    while (write(log->fd, line, len) < 0 && errno == EINTR)
        continue;
}

void log_linef(const struct log *log, enum server_log_level level, const char *format,
               ...)
{
    char text[LOG_LINE_MAX];
    va_list args;

    if (level < log->level) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_line(log, level, text);
}
