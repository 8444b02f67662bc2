/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/answer.h"

#include "base/text.h"

static bool line(struct bytes in, size_t from, struct bytes *out, size_t *after)
{
    for (size_t i = from; i + 1 < in.len; i++) {
        if (in.at[i] != '\r') continue;
        if (in.at[i + 1] != '\n') return false;
        *out = (struct bytes){in.at + from, i - from};
        *after = i + 2;
        return true;
    }
    return false;
}

/* One part at *at, which moves behind it. */
static enum answer_result part(struct bytes in, size_t *at, struct answer_part *out)
{
    struct bytes text;
    size_t next;

    if (*at >= in.len) return ANSWER_MORE;
    if (!line(in, *at + 1, &text, &next)) return ANSWER_MORE;
    *out = (struct answer_part){.type = (char)in.at[*at], .b = text};
    const bool counted = out->type == ':' || out->type == '$' || out->type == '*';
    if (!counted && out->type != '+' && out->type != '-') return ANSWER_BROKEN;
    if (counted && !parse_i64(text, &out->n)) return ANSWER_BROKEN;
    if (out->type == '$' && out->n >= 0) {
        const size_t len = (size_t)out->n;
        if (in.len - next < len + 2) return ANSWER_MORE;
        if (in.at[next + len] != '\r' || in.at[next + len + 1] != '\n')
            return ANSWER_BROKEN;
        out->b = (struct bytes){in.at + next, len};
        next += len + 2;
    }
    if ((out->type == '$' || out->type == '*') && out->n < 0) out->type = '_';
    *at = next;
    return ANSWER_WHOLE;
}

enum answer_result answer_take(struct bytes in, struct answer_read *out)
{
    int64_t left = 1;
    size_t at = 0;

    out->n = 0;
    while (left > 0) {
        if (out->n == ANSWER_PARTS_MAX) return ANSWER_BROKEN;
        struct answer_part *p = &out->parts[out->n];
        const enum answer_result r = part(in, &at, p);
        if (r != ANSWER_WHOLE) return r;
        out->n++;
        left--;
        if (p->type == '*') left += p->n;
    }
    out->used = at;
    return ANSWER_WHOLE;
}
