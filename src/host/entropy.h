/* SPDX-License-Identifier: Apache-2.0 */
/* entropy - true randomness, for the seed of a life. */
#pragma once

#include <stdint.h>

uint64_t entropy_u64(void);
