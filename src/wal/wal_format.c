/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/wal_format.h"

#include "base/hash.h"

enum {
    FORMAT_VERSION = 1,
    MAGIC_LEN = 8,
    SEQ_SHORT_BITS = 24,
    KIND_BITS = 4,
    KIND_MASK = 15,
};
static const char head_magic[MAGIC_LEN] = {'S', 'N', 'T', 'W',
                                           'A', 'L', 0,   FORMAT_VERSION};
static const char note_magic[MAGIC_LEN] = {'S', 'N', 'T', 'W',
                                           'E', 'N', 'D', FORMAT_VERSION};

#define SEQ_SHORT_MASK ((UINT64_C(1) << SEQ_SHORT_BITS) - 1)

static uint64_t checksum_64(const uint8_t *at)
{
    return hash64_seed((struct bytes){at + 16, 48}, at[MAGIC_LEN - 1]);
}

static bool all_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;

    for (size_t i = 0; i < len; i++)
        any |= at[i];
    return any == 0;
}

uint32_t wal_head_put(uint8_t at[WAL_SEGMENT_HEAD], const struct wal_head *head)
{
    memcpy(at, head_magic, MAGIC_LEN);
    store_u64le(at + 16, head->seq);
    store_u64le(at + 24, head->base);
    store_u64le(at + 32, head->length);
    store_u64le(at + 40, head->cluster.v);
    store_u32le(at + 48, head->server.v);
    store_u32le(at + 52, (uint32_t)(head->opening / 8));
    store_u64le(at + 56, head->first);

    const uint64_t crc = checksum_64(at);
    store_u64le(at + 8, crc);
    return (uint32_t)crc;
}

enum wal_head_verdict wal_head_get(const uint8_t at[WAL_SEGMENT_HEAD],
                                   struct wal_head *out, uint32_t *chain_out)
{
    const uint64_t crc = load_u64le(at + 8);
    const struct wal_head head = {
        .seq = load_u64le(at + 16),
        .base = load_u64le(at + 24),
        .length = load_u64le(at + 32),
        .cluster = {load_u64le(at + 40)},
        .server = {load_u32le(at + 48)},
        .opening = (uint64_t)load_u32le(at + 52) * 8,
        .first = load_u64le(at + 56),
    };

    if (all_zero(at, WAL_SEGMENT_HEAD)) return WAL_HEAD_EMPTY;
    if (memcmp(at, head_magic, MAGIC_LEN - 1) != 0) return WAL_HEAD_BROKEN;
    if (crc != checksum_64(at)) return WAL_HEAD_BROKEN;
    if (at[MAGIC_LEN - 1] > FORMAT_VERSION) return WAL_HEAD_NEWER;
    if (at[MAGIC_LEN - 1] != FORMAT_VERSION) return WAL_HEAD_BROKEN;
    if (head.seq == 0 || head.seq > UINT64_MAX / 2) return WAL_HEAD_BROKEN;
    if (head.base < WAL_LSN_FIRST || head.base > UINT64_MAX / 2) return WAL_HEAD_BROKEN;
    if (head.base % 8 != 0 || head.length % 8 != 0) return WAL_HEAD_BROKEN;
    if (head.length < WAL_SEGMENT_HEAD + WAL_NOTE || head.length > UINT64_MAX / 2)
        return WAL_HEAD_BROKEN;
    if (head.first > head.seq) return WAL_HEAD_BROKEN;

    *out = head;
    *chain_out = (uint32_t)crc;
    return WAL_HEAD_OK;
}

void wal_note_put(uint8_t at[WAL_NOTE], const struct wal_head *of)
{
    memset(at, 0, WAL_NOTE);
    memcpy(at, note_magic, MAGIC_LEN);
    store_u64le(at + 16, of->seq);
    store_u64le(at + 24, of->cluster.v);
    store_u64le(at + 32, of->server.v);
    store_u64le(at + 8, checksum_64(at));
}

bool wal_note_get(const uint8_t at[WAL_NOTE], uint64_t *seq_out)
{
    if (memcmp(at, note_magic, MAGIC_LEN) != 0) return false;
    if (load_u64le(at + 8) != checksum_64(at)) return false;

    const uint64_t seq = load_u64le(at + 16);
    if (seq == 0 || seq > UINT64_MAX / 2) return false;
    *seq_out = seq;
    return true;
}

static bool is_kind(uint8_t what)
{
    return (what & KIND_MASK) != 0 && (what & KIND_MASK) < WAL_KIND_END;
}

static uint64_t record_crc(const uint8_t *at, uint64_t seq)
{
    return hash64_seed((struct bytes){at + 8, WAL_RECORD_HEAD - 8}, seq);
}

static uint64_t body_check(const uint8_t *at, uint64_t size)
{
    return hash64((struct bytes){at + WAL_RECORD_HEAD, size - WAL_RECORD_HEAD});
}

static uint32_t head_put(uint8_t *at, const struct wal_record *record,
                         const struct wal_stand *stand, uint64_t check_of_body)
{
    const size_t len = record->body.len;

    store_u64le(at + 8, check_of_body);
    store_u64le(at + 16, stand->lsn);
    store_u64le(at + 24, stand->watermark);
    store_u32le(at + 32, (uint32_t)len);
    store_u32le(at + 36, record->group.v);
    store_u64le(at + 40, record->index.v);
    store_u64le(at + 48, record->term.v);
    const uint32_t what = (uint32_t)record->kind | (uint32_t)record->tag << KIND_BITS;
    store_u32le(at + 56, what | (uint32_t)(stand->seq & SEQ_SHORT_MASK) << 8);
    store_u32le(at + 60, stand->chain);

    const uint64_t crc = record_crc(at, stand->seq);
    store_u64le(at, crc);
    return (uint32_t)crc;
}

uint32_t wal_record_put(uint8_t *at, const struct wal_record *record,
                        const struct wal_stand *stand)
{
    const uint64_t size = wal_record_size(record->body.len);

    if (size > WAL_RECORD_HEAD) {
        store_u64le(at + size - 8, 0); /* the padding; the body covers what is not */
        memcpy(at + WAL_RECORD_HEAD, record->body.at, record->body.len);
    }
    return head_put(at, record, stand, body_check(at, size));
}

uint32_t wal_record_put_head(uint8_t at[WAL_RECORD_HEAD], const struct wal_record *record,
                             const struct wal_stand *stand)
{
    static const uint8_t zeros[8];
    const size_t padding = wal_record_size(record->body.len) - WAL_RECORD_HEAD -
                           record->body.len;

    return head_put(at, record, stand,
                    hash64_pair(record->body, (struct bytes){zeros, padding}, 0));
}

enum wal_verdict wal_record_get(struct bytes in, uint64_t room, uint64_t seq,
                                uint64_t lsn, struct wal_seen *out)
{
    const uint8_t *at = in.at;
    check(in.len >= WAL_RECORD_HEAD);

    if (load_u64le(at + 16) != lsn)
        return WAL_RECORD_BROKEN; /* cheap: a search lives on it */
    const uint64_t crc = load_u64le(at);
    const uint32_t length = load_u32le(at + 32);
    const uint64_t size = wal_record_size(length);
    const uint64_t watermark = load_u64le(at + 24);
    if (!is_kind(at[56])) return WAL_RECORD_BROKEN;
    if (size > room || watermark > lsn) return WAL_RECORD_BROKEN;
    if (record_crc(at, seq) != crc) return WAL_RECORD_BROKEN;

    *out = (struct wal_seen){
        .record =
            {
                .kind = (enum wal_kind)(at[56] & KIND_MASK),
                .tag = (uint8_t)(at[56] >> KIND_BITS),
                .group = {load_u32le(at + 36)},
                .index = {load_u64le(at + 40)},
                .term = {load_u64le(at + 48)},
                .body = {at + WAL_RECORD_HEAD, length},
            },
        .watermark = watermark,
        .size = size,
        .chain = load_u32le(at + 60),
        .chain_next = (uint32_t)crc,
    };
    if (in.len < size) return WAL_RECORD_SHORT;
    if (body_check(at, size) != load_u64le(at + 8)) return WAL_RECORD_BODY;
    return WAL_RECORD_OK;
}

bool wal_record_probe(struct bytes in, uint64_t room, uint64_t seq_max,
                      struct wal_stand *out, uint64_t *size_out)
{
    const uint8_t *at = in.at;
    check(in.len >= WAL_RECORD_HEAD);

    if (!is_kind(at[56])) return false;
    const uint64_t lsn = load_u64le(at + 16);
    const uint64_t watermark = load_u64le(at + 24);
    const uint64_t size = wal_record_size(load_u32le(at + 32));
    if (lsn % 8 != 0 || lsn > UINT64_MAX / 2 || watermark > lsn || size > room)
        return false;

    /* The newest life, up to seq_max, that ends in these bits. */
    const uint64_t seq_short = load_u32le(at + 56) >> 8;
    const uint64_t back = (seq_max - seq_short) & SEQ_SHORT_MASK;
    if (back >= seq_max) return false;
    if (record_crc(at, seq_max - back) != load_u64le(at)) return false;

    *out = (struct wal_stand){
        .seq = seq_max - back,
        .lsn = lsn,
        .watermark = watermark,
        .chain = load_u32le(at + 60),
    };
    *size_out = size;
    return true;
}
