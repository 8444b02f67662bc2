/* SPDX-License-Identifier: Apache-2.0 */
/* host - a server as a process: everything that struct server_config wants, found and wired
 * together, run until the server exits. */
#pragma once

#include "host/config.h"

/* The process' exit code.  Trouble is told on stderr.  Does not return when the server ends
 * with an error: see host.c. */
int host_run(const struct config *config, const char *version);
