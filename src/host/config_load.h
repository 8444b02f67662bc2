/* SPDX-License-Identifier: Apache-2.0 */
/* config_load - flags, and the files that they name, as one checked config. */
#pragma once

#include "host/config.h"

enum { CONFIG_SECRET_MAX = 1024, CONFIG_FILE_MAX = 1 << 20 };

struct secret {
    uint8_t at[CONFIG_SECRET_MAX];
    size_t len;
};

MUST_USE bool config_load(struct config *c, int n, const char *const *args,
                          struct config_error *why);
/* The first line of a file, as a password is kept in one. */
MUST_USE bool secret_load(const char *path, struct secret *out, struct config_error *why);
