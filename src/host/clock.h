/* SPDX-License-Identifier: Apache-2.0 */
/* clock - the two times of base/ids.h, as this machine tells them. */
#pragma once

#include "base/ids.h"

uint64_t clock_monotonic_ns(void); /* since some fixed point; never goes back */
struct wall clock_wall(void);
