/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include "base/hash.h"

enum {
    FRAME_MAGIC_NUMBER = 0x5353,
    AT_MAGIC = 4,
    AT_VERSION = 6,
    AT_KIND = 7,
    AT_CRC = 8,
    AT_CLUSTER = 16,
    AT_FROM = 24,
    AT_TO = 28,
    AT_INCARNATION = 32,
    MESSAGE_HEAD = 4 + 4 + 1,
};
static_assert(FRAME_HEAD == AT_INCARNATION + 8, "layout of the frame's head");
static_assert(PIECE_BYTES < FRAME_MAX - FRAME_HEAD - PIECE_HEAD, "a piece fits a frame");

/* The seed brings in what lies before the checksum: a garbled length or kind shows. */
static uint64_t frame_crc(const uint8_t *frame, size_t length)
{
    const struct bytes covered = {frame + AT_CLUSTER, length - AT_CLUSTER};

    return hash64_seed(covered, load_u64le(frame));
}

/* What the first eight bytes tell.  They are judged before the rest is waited for, so
 * that a client of another protocol is refused at once and announces no length to us. */
static enum frame_result judge_start(const uint8_t *p)
{
    const uint32_t length = load_u32le(p);

    if (load_u16le(p + AT_MAGIC) != FRAME_MAGIC_NUMBER) return FRAME_MAGIC;
    if (p[AT_VERSION] != FRAME_VERSION) return FRAME_VERSION_OTHER;
    if (length < FRAME_HEAD || length > FRAME_MAX) return FRAME_LENGTH;
    if (p[AT_KIND] == 0 || p[AT_KIND] >= FRAME_KIND_END) return FRAME_KIND_UNKNOWN;
    return FRAME_OK;
}

enum frame_result frame_decode(struct bytes in, size_t *used, size_t *want,
                               struct frame *out)
{
    const uint8_t *p = in.at;

    if (in.len < AT_CRC) {
        *want = FRAME_HEAD;
        return FRAME_SHORT;
    }
    const enum frame_result start = judge_start(p);
    if (start != FRAME_OK) return start;

    const size_t length = load_u32le(p);
    if (in.len < length) {
        *want = length;
        return FRAME_SHORT;
    }
    if (frame_crc(p, length) != load_u64le(p + AT_CRC)) return FRAME_CRC;

    *used = length;
    *out = (struct frame){
        .kind = (enum frame_kind)p[AT_KIND],
        .cluster = {load_u64le(p + AT_CLUSTER)},
        .from = {load_u32le(p + AT_FROM)},
        .to = {load_u32le(p + AT_TO)},
        .incarnation = {load_u64le(p + AT_INCARNATION)},
        .body = {p + FRAME_HEAD, length - FRAME_HEAD},
    };
    return FRAME_OK;
}

const char *frame_result_text(enum frame_result r)
{
    switch (r) {
    case FRAME_OK: return "a whole frame";
    case FRAME_SHORT: return "the frame is not whole yet";
    case FRAME_LENGTH: return "the frame's length is out of bounds";
    case FRAME_MAGIC: return "what arrived is not a frame of sennit";
    case FRAME_VERSION_OTHER:
        return "the frame has another version than this build speaks";
    case FRAME_KIND_UNKNOWN:
        return "the frame is of a kind that this build does not know";
    case FRAME_CRC: return "the frame's checksum does not match its content";
    }
    return "unknown";
}

size_t frame_begin(struct buf *out, const struct frame *head)
{
    check(head->kind >= FRAME_HELLO && head->kind < FRAME_KIND_END);

    const size_t start = out->len;
    uint8_t *p = buf_extend(out, FRAME_HEAD);
    memset(p, 0, FRAME_HEAD);
    store_u16le(p + AT_MAGIC, FRAME_MAGIC_NUMBER);
    p[AT_VERSION] = FRAME_VERSION;
    p[AT_KIND] = (uint8_t)head->kind;
    store_u64le(p + AT_CLUSTER, head->cluster.v);
    store_u32le(p + AT_FROM, head->from.v);
    store_u32le(p + AT_TO, head->to.v);
    store_u64le(p + AT_INCARNATION, head->incarnation.v);
    return start;
}

void frame_end(struct buf *out, size_t start)
{
    check(start <= out->len && out->len - start >= FRAME_HEAD);
    check(out->len - start <= FRAME_MAX);

    uint8_t *p = out->at + start;
    store_u32le(p, (uint32_t)(out->len - start));
    store_u64le(p + AT_CRC, frame_crc(p, out->len - start));
}

size_t message_begin(struct buf *out, struct group_id group, enum message_kind kind)
{
    check(kind >= MESSAGE_RAFT && kind < MESSAGE_KIND_END);

    const size_t start = out->len;
    uint8_t *p = buf_extend(out, MESSAGE_HEAD);
    store_u32le(p, 0);
    store_u32le(p + 4, group.v);
    p[8] = (uint8_t)kind;
    return start;
}

void message_end_with(struct buf *out, size_t start, size_t more)
{
    check(start <= out->len && out->len - start >= MESSAGE_HEAD);
    check(out->len - start - MESSAGE_HEAD + more <= UINT32_MAX);

    store_u32le(out->at + start, (uint32_t)(out->len - start - MESSAGE_HEAD + more));
}

void message_end(struct buf *out, size_t start)
{
    message_end_with(out, start, 0);
}

enum message_result message_decode(struct cursor *in, struct message *out)
{
    struct cursor ahead = *in;
    struct message m;
    uint32_t length;
    uint8_t kind;

    if (cursor_left(&ahead) == 0) return MESSAGE_END;
    if (!get_u32(&ahead, &length)) return MESSAGE_MALFORMED;
    if (!get_u32(&ahead, &m.group.v)) return MESSAGE_MALFORMED;
    if (!get_u8(&ahead, &kind)) return MESSAGE_MALFORMED;
    if (kind == 0 || kind >= MESSAGE_KIND_END) return MESSAGE_MALFORMED;
    if (!get_bytes(&ahead, length, &m.body)) return MESSAGE_MALFORMED;

    m.kind = (enum message_kind)kind;
    *out = m;
    *in = ahead;
    return MESSAGE_OK;
}
