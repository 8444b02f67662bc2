/* SPDX-License-Identifier: Apache-2.0 */
/* entropy - true randomness, for the seed of a life, and the machine's boot id. */
#pragma once

#include <stdint.h>

uint64_t entropy_u64(void);
/* Another number after each start of the machine; 0 if the system does not tell. */
uint64_t entropy_boot(void);
