/* SPDX-License-Identifier: Apache-2.0 */
/* recover - runs a server core over a stopped server's data until it has made a cluster of one
 * of it, or has told what there is: the work is src/server/recover.c's.
 *
 * Errors   told on stderr; the exit code
 */
#pragma once

#include <stdbool.h>

/* `yes`: do it; else only tell. */
int recover_run(const char *data, bool yes, const char *version);
