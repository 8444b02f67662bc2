/* SPDX-License-Identifier: Apache-2.0 */
/* record - the engine's keys and values as store.h lays them out, to the byte.
 *
 *   root    u8 format 1, u64 index, u64 term, u32 generation, u64 keys, u64 system items,
 *           blob extra
 *   record  u8 type, u8 flags, i64 deadline, u64 change,
 *           with LONG_KEY: blob key,   with PIECES: u64 length, else the value's bytes
 *   'G'           u32 the generation to be given next
 *   'G' u32be     a generation to be swept: u8 enum gen_state, u32 group that it was of
 *   Integers little-endian, in keys big-endian.
 *
 * Errors   the decoders return false and leave the output untouched
 * Owner    what is decoded is borrowed from the input
 */
#pragma once

#include "base/buf.h"
#include "store/store.h"

enum {
    SUFFIX_MAX = STORE_KEY_INLINE + 16, /* a long key: cut, then its hash */
    EXTRA_MAX = 8192, /* a membership of 512 with the longest ids takes 2.6 KB */
    ROOT_MAX = 1 + 8 + 8 + 4 + 8 + 8 + 2 + EXTRA_MAX,
    RECORD_HEAD = 18,
    DATA_HEAD = 1 + 4 + 8,
    DUE_HEAD = 1 + 4 + 8 + 8,
};

struct ekey {
    uint32_t len;
    uint8_t at[KV_KEY_MAX];
};

static inline struct bytes ekey_bytes(const struct ekey *k)
{
    return (struct bytes){k->at, k->len};
}

/* A key as it stands in the engine's keys; in `room` only if it is a long one. */
struct bytes suffix_of(struct bytes key, uint8_t room[SUFFIX_MAX]);

void ekey_root(struct ekey *k, struct group_id group);
void ekey_next_gen(struct ekey *k);
void ekey_dead_gen(struct ekey *k, uint32_t gen);
/* Where the keys of 'D', 'P' or 'T' of a generation begin. */
void ekey_kind(struct ekey *k, char kind, uint32_t gen);
void ekey_data(struct ekey *k, uint32_t gen, uint64_t place, struct bytes suffix);
void ekey_piece(struct ekey *k, uint32_t gen, uint64_t place, struct bytes suffix,
                uint32_t n);
void ekey_due(struct ekey *k, uint32_t gen, int64_t deadline_ms, uint64_t place,
              struct bytes suffix);
bool ekey_is_of(struct bytes key, char kind, uint32_t gen);

struct data_key {
    uint64_t place;
    struct bytes suffix;
};
/* Of a key that ekey_is_of 'D' or 'T'; false: shorter than such a key can be. */
MUST_USE bool data_key_decode(struct bytes key, struct data_key *out);
MUST_USE bool due_key_decode(struct bytes key, int64_t *deadline_ms,
                             struct data_key *out);

enum record_flag { RECORD_PIECES = 1, RECORD_LONG_KEY = 2, RECORD_FLAG_ALL = 3 };

struct record {
    enum item_type type;
    uint8_t flags;
    int64_t deadline_ms;
    struct log_index change;
    struct bytes key;   /* LONG_KEY: the whole key */
    struct bytes value; /* not PIECES */
    uint64_t length;    /* of the value, in pieces or not */
};

MUST_USE bool record_decode(struct bytes in, struct record *out);

static inline uint32_t piece_count(uint64_t length)
{
    return (uint32_t)((length + STORE_PIECE_BYTES - 1) / STORE_PIECE_BYTES);
}

/* How long piece n of a value is. */
static inline size_t piece_len(uint64_t length, uint32_t n)
{
    const uint64_t left = length - (uint64_t)n * STORE_PIECE_BYTES;
    return left < STORE_PIECE_BYTES ? (size_t)left : STORE_PIECE_BYTES;
}

struct root {
    struct log_index index;
    struct term term;
    uint32_t gen;          /* 0: the shard has nothing in the engine */
    uint64_t keys, system; /* how many */
    struct extra *extra;   /* shared by all roots that were copied from one another */
};

void root_set_base(struct root *root, struct mem *mem, const struct store_base *base);
void root_copy(struct root *to, struct mem *mem, const struct root *from);
void root_free(struct root *root, struct mem *mem);
struct store_base root_base(const struct root *root);
size_t root_encode(const struct root *root, uint8_t out[ROOT_MAX]);
/* `out` holds a root, or zeroes. */
MUST_USE bool root_decode(struct bytes in, struct mem *mem, struct root *out);

enum gen_state {
    GEN_DEAD = 1, /* anybody may sweep it */
    GEN_HALF, /* a snapshot was arriving: only its group's store knows if it still is */
};
enum { GEN_VALUE = 5 };
MUST_USE bool gen_decode(struct bytes in, enum gen_state *state, struct group_id *group);
