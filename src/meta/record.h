/* SPDX-License-Identifier: Apache-2.0 */
/* record - the items of the meta shard as bytes.  Inside src/meta only.
 *
 * A value is u8 version (1), then the fields of the struct in order: integers
 * little-endian, texts as blobs, lists as u8 count and u32 ids.
 *
 * Errors    a record that does not decode whole, or whose numbers make no sense, is
 *           refused and the output stays as it was
 */
#pragma once

#include "meta/meta.h"

enum { RECORD_VERSION = 1, KEYSPACE_DEFAULT = 1, SERVER_FOUNDER = 1, GROUP_DEFAULT = 1 };

enum record_kind { RECORD_CLUSTER = 1, RECORD_SERVER, RECORD_KEYSPACE, RECORD_SHARD };

/* What a key names: a kind, and an id or a name. */
struct record_key {
    enum record_kind kind;
    uint32_t id;       /* SERVER, SHARD */
    struct bytes name; /* KEYSPACE */
};
MUST_USE bool record_key_decode(struct bytes key, struct record_key *out);

MUST_USE bool record_cluster_decode(struct bytes in, struct meta_cluster *out);
MUST_USE bool record_server_decode(struct bytes in, struct meta_server *out);
MUST_USE bool record_keyspace_decode(struct bytes in, struct meta_keyspace *out);
MUST_USE bool record_shard_decode(struct bytes in, struct meta_shard *out);

/* Effects: the item is this from now on.  `fresh`: it was not there before. */
void record_put_cluster(struct buf *effects, const struct meta_cluster *c, bool fresh);
void record_put_server(struct buf *effects, const struct meta_server *s, bool fresh);
void record_put_keyspace(struct buf *effects, const struct meta_keyspace *k, bool fresh);
void record_put_shard(struct buf *effects, const struct meta_shard *s, bool fresh);
/* The item is gone. */
void record_clear_keyspace(struct buf *effects, const struct meta_keyspace *k);
void record_clear_server(struct buf *effects, const struct meta_server *s);
void record_clear_shard(struct buf *effects, const struct meta_shard *s);

bool meta_name_good(struct bytes name); /* [A-Za-z0-9_.-]{1,64} */
void meta_text_set(struct meta_text *out, struct bytes text);
static inline struct bytes meta_text_bytes(const struct meta_text *t)
{
    return (struct bytes){(const uint8_t *)t->at, t->len};
}
