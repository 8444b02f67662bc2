/* SPDX-License-Identifier: Apache-2.0 */
/* log - lines for the operator:  2026-01-02T03:04:05.678Z info  text
 *
 * One write(2) a line, so that lines of several processes on one descriptor do not mix.
 * Control characters of the text (peers and clients may have a say in it) become '?'.
 * Only the loop's thread logs.
 */
#pragma once

#include "base/bytes.h"
#include "base/ids.h"
#include "server/server.h"

enum { LOG_LINE_MAX = 2048 }; /* longer lines are cut */

struct log {
    int fd;
    enum server_log_level level;
};

bool log_level_parse(struct bytes name, enum server_log_level *out);
const char *log_level_name(enum server_log_level level);
void log_line(const struct log *log, enum server_log_level level, const char *text);
void log_linef(const struct log *log, enum server_log_level level, const char *format,
               ...) PRINTF_LIKE(3, 4);
/* The line with its end, without a terminator; its length.  For log_line() and its test. */
size_t log_format(char line[LOG_LINE_MAX], struct wall at, enum server_log_level level,
                  const char *text);
