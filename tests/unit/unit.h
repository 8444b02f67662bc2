/* SPDX-License-Identifier: Apache-2.0 */
/* unit - what cmocka wants included before itself, in the order in which it wants it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
