/* SPDX-License-Identifier: Apache-2.0 */
/* manifest - what a backup holds, as text: the last of its files to be written, so that a
 * directory without it is none.
 *
 *   sennit-backup 1
 *   cluster <16 hex digits> version <text> time <ms>
 *   keyspace <name> <OPTION value>...             one line each, as KEYSPACE CREATE takes it
 *   shard <n> keyspace <name> slots <a>-<b> epoch <n> term <n> index <n> time <ms> keys <n>
 *         bytes <n> size <n> xxh3 <16 hex digits>  one line each, of the file shard-<n>.copy
 *   end xxh3 <16 hex digits>                      of all bytes before this line
 *
 * (epoch, term) and index are the position in the shard's log that its file is as of; bytes
 * are those of its values, size is the file's; its xxh3 is the checksum that the file ends
 * with (data/copy.h).
 *
 * Errors   manifest_parse() says by name what it refuses, and *out is empty then
 * Owner    manifest_free()
 */
#pragma once

#include "base/buf.h"
#include "base/ids.h"

enum {
    MANIFEST_FORMAT = 1,
    MANIFEST_NAME_MAX = 64,
    MANIFEST_POLICY_MAX = 512,
    MANIFEST_VERSION_MAX = 31,
    MANIFEST_BYTES_MAX = 64 << 20,
};

struct copy_keyspace {
    char name[MANIFEST_NAME_MAX + 1];
    char policy[MANIFEST_POLICY_MAX + 1]; /* words, one blank between two */
};

struct copy_shard {
    uint32_t shard, keyspace; /* an index into the manifest's keyspaces */
    uint32_t slot_first, slot_last;
    struct term term;
    struct log_index index;
    int64_t time_ms; /* of the server that gave it */
    uint64_t keys, bytes, size, checksum;
};

struct manifest {
    struct mem *mem;
    struct cluster_id cluster;
    char version[MANIFEST_VERSION_MAX + 1];
    int64_t time_ms;
    struct copy_keyspace *keyspaces;
    struct copy_shard *shards;
    uint32_t n_keyspaces, n_shards, keyspaces_cap, shards_cap;
};

struct manifest manifest_new(struct mem *mem);
void manifest_free(struct manifest *m);
struct copy_keyspace *manifest_add_keyspace(struct manifest *m); /* zeroed */
struct copy_shard *manifest_add_shard(struct manifest *m);
/* Its index; n_keyspaces: there is none of that name. */
uint32_t manifest_keyspace(const struct manifest *m, struct bytes name);

void manifest_print(const struct manifest *m, struct buf *out);

enum manifest_result {
    MANIFEST_OK = 1,
    MANIFEST_FOREIGN, /* no manifest */
    MANIFEST_NEWER,   /* of a format that this version does not know */
    MANIFEST_BROKEN,  /* cut, or changed since it was written */
};
MUST_USE enum manifest_result manifest_parse(struct mem *mem, struct bytes text,
                                             struct manifest *out);
