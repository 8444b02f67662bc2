/* SPDX-License-Identifier: Apache-2.0 */
/* memory - struct mem on top of malloc.  When the machine has no memory left the process
 * ends with a line that says so: a store that goes on without memory promises nothing. */
#pragma once

#include "base/mem.h"

struct mem memory_new(size_t limit); /* 0: none */
