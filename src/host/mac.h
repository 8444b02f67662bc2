/* SPDX-License-Identifier: Apache-2.0 */
/* mac - HMAC-SHA256, with which servers of one cluster prove that they know its secret. */
#pragma once

#include "base/bytes.h"

enum { MAC_BYTES = 32 };

void mac_sha256(struct bytes secret, struct bytes message, uint8_t out[MAC_BYTES]);
