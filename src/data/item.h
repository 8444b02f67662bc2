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
    struct bytes value;      /* of a string */
};

/* A place in the order of a shard's keys: slot (14 bits), then 48 bits of the key's hash.
 * 62 bits in all; scans, snapshots and SCAN cursors walk in it. */
struct key_place {
    uint64_t v;
};
struct key_place key_place_of(struct bytes key);

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
};
