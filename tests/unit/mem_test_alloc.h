/* SPDX-License-Identifier: Apache-2.0 */
/* mem_test_alloc - an allocator for tests that rests on malloc, so that the sanitizers
 * see every use; without a limit until the test sets one. */
#pragma once

#include "base/mem.h"

struct mem mem_for_test(void);
