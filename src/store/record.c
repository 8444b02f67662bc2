/* SPDX-License-Identifier: Apache-2.0 */
#include "store/record.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"

static_assert(DUE_HEAD + SUFFIX_MAX + 1 <= KV_KEY_MAX,
              "a deadline's key and its successor fit");
static_assert(DATA_HEAD + SUFFIX_MAX + 4 <= KV_KEY_MAX, "a piece's key fits");

enum { ROOT_FORMAT = 1 };

struct bytes suffix_of(struct bytes key, uint8_t room[SUFFIX_MAX])
{
    if (key.len <= STORE_KEY_INLINE) return key;

    const struct hash128 h = hash128(key);
    memcpy(room, key.at, STORE_KEY_INLINE);
    store_u64be(room + STORE_KEY_INLINE, h.hi);
    store_u64be(room + STORE_KEY_INLINE + 8, h.lo);
    return (struct bytes){room, SUFFIX_MAX};
}

void ekey_root(struct ekey *k, struct group_id group)
{
    k->at[0] = 'R';
    store_u32be(k->at + 1, group.v);
    k->len = 5;
}

void ekey_next_gen(struct ekey *k)
{
    k->at[0] = 'G';
    k->len = 1;
}

void ekey_dead_gen(struct ekey *k, uint32_t gen)
{
    ekey_kind(k, 'G', gen);
}

void ekey_kind(struct ekey *k, char kind, uint32_t gen)
{
    k->at[0] = (uint8_t)kind;
    store_u32be(k->at + 1, gen);
    k->len = 5;
}

static void put_suffix(struct ekey *k, struct bytes suffix)
{
    check(suffix.len <= SUFFIX_MAX);

    if (suffix.len > 0) memcpy(k->at + k->len, suffix.at, suffix.len);
    k->len += (uint32_t)suffix.len;
}

void ekey_data(struct ekey *k, uint32_t gen, uint64_t place, struct bytes suffix)
{
    ekey_kind(k, 'D', gen);
    store_u64be(k->at + 5, place);
    k->len = DATA_HEAD;
    put_suffix(k, suffix);
}

void ekey_piece(struct ekey *k, uint32_t gen, uint64_t place, struct bytes suffix,
                uint32_t n)
{
    ekey_data(k, gen, place, suffix);
    k->at[0] = 'P';
    store_u32be(k->at + k->len, n);
    k->len += 4;
}

void ekey_due(struct ekey *k, uint32_t gen, int64_t deadline_ms, uint64_t place,
              struct bytes suffix)
{
    check(deadline_ms > 0);

    ekey_kind(k, 'T', gen);
    store_u64be(k->at + 5, (uint64_t)deadline_ms);
    store_u64be(k->at + 13, place);
    k->len = DUE_HEAD;
    put_suffix(k, suffix);
}

bool ekey_is_of(struct bytes key, char kind, uint32_t gen)
{
    return key.len >= 5 && key.at[0] == (uint8_t)kind && load_u32be(key.at + 1) == gen;
}

bool data_key_decode(struct bytes key, struct data_key *out)
{
    if (key.len < DATA_HEAD) return false;

    out->place = load_u64be(key.at + 5);
    out->suffix = (struct bytes){key.at + DATA_HEAD, key.len - DATA_HEAD};
    return true;
}

bool due_key_decode(struct bytes key, int64_t *deadline_ms, struct data_key *out)
{
    if (key.len < DUE_HEAD) return false;

    *deadline_ms = (int64_t)load_u64be(key.at + 5);
    out->place = load_u64be(key.at + 13);
    out->suffix = (struct bytes){key.at + DUE_HEAD, key.len - DUE_HEAD};
    return true;
}

bool record_decode(struct bytes in, struct record *out)
{
    if (in.len < RECORD_HEAD) return false;

    const uint8_t type = in.at[0];
    const uint8_t flags = in.at[1];
    if (type == ITEM_NONE || type >= ITEM_TYPE_END) return false;
    if ((flags & ~RECORD_FLAG_ALL) != 0) return false;

    struct cursor c = cursor_of(
        (struct bytes){in.at + RECORD_HEAD, in.len - RECORD_HEAD});
    struct bytes key = {NULL, 0};
    if ((flags & RECORD_LONG_KEY) != 0) {
        if (!get_blob(&c, &key)) return false;
        if (key.len <= STORE_KEY_INLINE || key.len > KEY_MAX) return false;
    }
    struct bytes value = {c.at, cursor_left(&c)};
    uint64_t length = value.len;
    if ((flags & RECORD_PIECES) != 0) {
        if (!get_u64(&c, &length) || cursor_left(&c) != 0) return false;
        if (length > VALUE_MAX) return false;
        value = (struct bytes){NULL, 0};
    }
    if ((length > STORE_PIECE_BYTES) != ((flags & RECORD_PIECES) != 0)) return false;

    *out = (struct record){
        .type = (enum item_type)type,
        .flags = flags,
        .deadline_ms = (int64_t)load_u64le(in.at + 2),
        .change = {load_u64le(in.at + 10)},
        .key = key,
        .value = value,
        .length = length,
    };
    return true;
}

/* Never changed once it is made, so that a job may read it.  Counted by the loop alone. */
struct extra {
    uint32_t roots;
    uint32_t len;
    uint8_t at[];
};

static void extra_release(struct extra *extra, struct mem *mem)
{
    if (extra != NULL && --extra->roots == 0)
        mem_free(mem, extra, sizeof *extra + extra->len);
}

void root_set_base(struct root *root, struct mem *mem, const struct store_base *base)
{
    struct extra *extra = NULL;

    check(base->extra.len <= EXTRA_MAX);
    if (base->extra.len > 0) {
        extra = mem_alloc(mem, sizeof *extra + base->extra.len);
        extra->roots = 1;
        extra->len = (uint32_t)base->extra.len;
        memcpy(extra->at, base->extra.at, base->extra.len);
    }
    extra_release(root->extra, mem);
    root->index = base->index;
    root->term = base->term;
    root->extra = extra;
}

void root_copy(struct root *to, struct mem *mem, const struct root *from)
{
    if (from->extra != NULL) from->extra->roots++;
    extra_release(to->extra, mem);
    *to = *from;
}

void root_free(struct root *root, struct mem *mem)
{
    extra_release(root->extra, mem);
    *root = (struct root){0};
}

struct store_base root_base(const struct root *root)
{
    struct store_base base = {root->index, root->term, {NULL, 0}};

    if (root->extra != NULL)
        base.extra = (struct bytes){root->extra->at, root->extra->len};
    return base;
}

size_t root_encode(const struct root *root, uint8_t out[ROOT_MAX])
{
    out[0] = ROOT_FORMAT;
    store_u64le(out + 1, root->index.v);
    store_u64le(out + 9, root->term.v);
    store_u32le(out + 17, root->gen);
    store_u64le(out + 21, root->keys);
    store_u64le(out + 29, root->system);

    const struct bytes extra = root_base(root).extra;
    size_t len = 37;
    if (extra.len < 0x80) {
        out[len++] = (uint8_t)extra.len;
    } else {
        out[len++] = (uint8_t)(extra.len | 0x80);
        out[len++] = (uint8_t)(extra.len >> 7);
    }
    if (extra.len > 0) memcpy(out + len, extra.at, extra.len);
    return len + extra.len;
}

bool root_decode(struct bytes in, struct mem *mem, struct root *out)
{
    struct cursor c = cursor_of(in);
    uint8_t format;
    uint64_t index, term, keys, system;
    uint32_t gen;
    struct bytes extra;

    if (!get_u8(&c, &format) || format != ROOT_FORMAT) return false;
    if (!get_u64(&c, &index) || !get_u64(&c, &term)) return false;
    if (!get_u32(&c, &gen) || !get_u64(&c, &keys) || !get_u64(&c, &system)) return false;
    if (!get_blob(&c, &extra) || cursor_left(&c) != 0) return false;
    if (gen == 0 || extra.len > EXTRA_MAX) return false;

    out->gen = gen;
    out->keys = keys;
    out->system = system;
    const struct store_base base = {{index}, {term}, extra};
    root_set_base(out, mem, &base);
    return true;
}

bool gen_decode(struct bytes in, enum gen_state *state, struct group_id *group)
{
    if (in.len != GEN_VALUE) return false;
    if (in.at[0] != GEN_DEAD && in.at[0] != GEN_HALF) return false;

    *state = (enum gen_state)in.at[0];
    group->v = load_u32le(in.at + 1);
    return true;
}
