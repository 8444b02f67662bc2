/* SPDX-License-Identifier: Apache-2.0 */
/* item - the state of a shard as a command sees it: the newest there is, what is not yet
 * committed included.
 *
 * A view is filled by whoever holds the state (src/shard over src/store; a plain map in
 * tests).  Commands read through it and emit effects into it; an emitted effect is visible
 * to the next find at once.
 *
 * Owner    what find and walk give is borrowed until the next call on the view
 */
#pragma once

#include "base/ids.h"
#include "data/effect.h"

struct item {
    enum item_type type;
    int64_t deadline_ms;     /* 0: none */
    struct log_index change; /* of the entry that changed it last; WATCH compares it */
    struct bytes value;  /* of a string; a large one may be left out: `at` is NULL then,
                          * and the view reads it */
    struct block *block; /* that a large value lies in, and may be kept by; or NULL */
};

/* A place in the order of a shard's keys: slot (14 bits), then 48 bits of the key's hash.
 * 62 bits in all; scans, snapshots and SCAN cursors walk in it. */
struct key_place {
    uint64_t v;
};
struct key_place key_place_of(struct bytes key);

/* System items: what a shard must know of itself, logged, replicated, checkpointed and hashed
 * as keys are, but no user's.  They lie behind all keys, in places of their own, so that no
 * command sees or counts them and a wipe leaves them; they have no deadline.  The first byte
 * of an item's key is its kind; a walk over one kind goes from its first place to the next
 * kind's. */
enum system_kind {
    SYSTEM_NONE = 0,
    SYSTEM_REQUEST = 1, /* a request that was carried out (src/shard/once.c) */
    SYSTEM_CLOSED = 2,  /* a name that the shard is closed to (src/shard/close.c) */
    SYSTEM_KIND_END,
};
enum { SYSTEM_KEY_MAX = 256, SYSTEM_VALUE_MAX = 8 * 1024 };
struct key_place system_place_of(struct bytes key); /* key.len > 0 */
struct key_place system_kind_place(uint8_t kind);   /* the first of that kind */
static inline bool key_place_is_system(struct key_place place)
{
    return place.v >> 62 != 0;
}

struct view {
    void *ctx;
    /* False: there is no such key.  A key past its deadline is still found here. */
    bool (*find)(void *ctx, struct bytes key, struct item *out);
    void (*emit)(void *ctx, const struct effect *effect);
    /* The keys in order of place: of those with place >= from, the one that comes after
     * `skip` others that share the first one's place.  So a walk calls with skip counted up
     * until *place changes, then goes on from there.  False at the end. */
    bool (*walk)(void *ctx, struct key_place from, uint32_t skip, struct key_place *place,
                 struct bytes *key, struct item *out);
    uint64_t (*count)(void *ctx); /* keys, those past their deadline included */
    /* Appends `len` bytes from `from` on of a value that the last find of this key left
     * out. */
    void (*read)(void *ctx, struct bytes key, uint64_t from, uint64_t len,
                 struct buf *out);
    /* A reference to a block that will hold all of such a value, as it is now; NULL: it has
     * to be read. */
    struct block *(*share)(void *ctx, struct bytes key, const struct item *item);
};
