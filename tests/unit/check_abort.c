/* SPDX-License-Identifier: Apache-2.0 */
/* The unit tests' world: a failed check says where, and aborts. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

_Noreturn void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
    abort();
}
