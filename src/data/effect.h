/* SPDX-License-Identifier: Apache-2.0 */
/* effect - what a command did, as it is logged, replicated and applied.
 *
 * Commands are evaluated once, where they are taken; what travels are effects: this item
 * now has this value, this deadline, this much added.  Applying effects reads no clock and
 * draws no random number, so replicas that applied the same log are byte-identical.
 *
 * An item is addressed by (key, field); field is empty for the key's header, which for a
 * string also holds its value.  Ordered shards apply effects as they stand.  Multi-master
 * shards will wrap the same effects with dot and time and merge them; that is why a sum
 * travels as its delta beside its result, and why a deadline is an effect of its own.
 *
 * Encoding (format 1), one after the other until the payload ends:
 *
 *   u8 kind, u8 flags, blob key, then by kind:
 *     PUT       u8 type, i64 deadline_ms, blob field, blob value
 *     ADD       u8 type, i64 deadline_ms, blob field, i64 delta, blob value
 *     REMOVE    blob field
 *     DEADLINE  i64 deadline_ms
 *     CLEAR, WIPE  nothing (WIPE: an empty key)
 *   With flag SYSTEM the key is a system item's, whose first byte is its kind.
 *   blob: varint length, bytes.  Integers little-endian.
 *
 * Limits   keys and fields to KEY_MAX, values to VALUE_MAX
 * Owner    decoded runs are borrowed from the payload; a large value may be kept by `block`
 */
#pragma once

#include "base/block.h"

enum { KEY_MAX = 64 * 1024 };
#define VALUE_MAX (UINT64_C(512) << 20)

enum effect_kind {
    EFFECT_PUT = 1,  /* the item has this value; at the header also type and deadline */
    EFFECT_ADD,      /* delta was added; value is the result where it was evaluated */
    EFFECT_REMOVE,   /* the field is gone */
    EFFECT_DEADLINE, /* the key's deadline is this, 0: none; the value stays */
    EFFECT_CLEAR,    /* the key is gone with all its fields */
    EFFECT_WIPE,     /* every key of the shard is gone */
    EFFECT_KIND_END,
};

enum effect_flag {
    EFFECT_CREATED =
        1, /* PUT, ADD: the key did not exist before; its shard counts one more */
    EFFECT_EXPIRED = 2, /* CLEAR: because its deadline passed */
    EFFECT_SYSTEM = 4,  /* PUT, CLEAR: of a system item (item.h), not of a user's key */
    EFFECT_FLAG_ALL = 7,
};

enum item_type {
    ITEM_NONE = 0,
    ITEM_STRING = 1,
    ITEM_TYPE_END,
};

struct effect {
    enum effect_kind kind;
    uint8_t flags;
    enum item_type type;
    struct bytes key, field;
    int64_t deadline_ms; /* Unix time; 0: none */
    int64_t delta;
    struct bytes value;
    struct block
        *block; /* that the value lies in; NULL: it is to be copied.  Emitted with
                          * one: the bytes before the value there may be overwritten */
};

enum effect_result { EFFECT_OK, EFFECT_END, EFFECT_MALFORMED };

void effect_encode(struct buf *out, const struct effect *e);
size_t effect_size_max(const struct effect *e); /* encoded */
/* All but the bytes of a PUT's value, which end it. */
void effect_encode_head(struct buf *out, const struct effect *e);
/* The next effect of a payload; EFFECT_END when it is used up exactly. */
MUST_USE enum effect_result effect_decode(struct cursor *in, struct effect *out);
