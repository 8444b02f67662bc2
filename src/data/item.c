/* SPDX-License-Identifier: Apache-2.0 */
#include "data/item.h"

#include "base/check.h"
#include "base/hash.h"

enum { PLACE_HASH_BITS = 48, SYSTEM_BIT = 62, SYSTEM_KIND_BIT = 54 };

struct key_place key_place_of(struct bytes key)
{
    const uint64_t slot = key_slot(key);

    return (struct key_place){slot << PLACE_HASH_BITS |
                              hash64(key) >> (64 - PLACE_HASH_BITS)};
}

struct key_place system_kind_place(uint8_t kind)
{
    const uint64_t of_kind = (uint64_t)kind << SYSTEM_KIND_BIT;

    return (struct key_place){UINT64_C(1) << SYSTEM_BIT | of_kind};
}

struct key_place system_place_of(struct bytes key)
{
    check(key.len > 0);

    return (struct key_place){system_kind_place(key.at[0]).v |
                              hash64(key) >> (64 - SYSTEM_KIND_BIT)};
}
