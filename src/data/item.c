/* SPDX-License-Identifier: Apache-2.0 */
#include "data/item.h"

#include "base/hash.h"

enum { PLACE_HASH_BITS = 48 };

struct key_place key_place_of(struct bytes key)
{
    const uint64_t slot = key_slot(key);

    return (struct key_place){slot << PLACE_HASH_BITS |
                              hash64(key) >> (64 - PLACE_HASH_BITS)};
}
