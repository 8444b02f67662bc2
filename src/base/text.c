/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

/* Leading digits of b: how many there are, 0 also on overflow. */
static size_t parse_digits(struct bytes b, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;

    for (; n < b.len && b.at[n] >= '0' && b.at[n] <= '9'; n++) {
        const uint64_t digit = (uint64_t)(b.at[n] - '0');
        if (v > (UINT64_MAX - digit) / 10) return 0;
        v = v * 10 + digit;
    }
    *out = v;
    return n;
}

bool parse_i64(struct bytes b, int64_t *out)
{
    const bool minus = b.len > 0 && b.at[0] == '-';
    const struct bytes digits = minus ? (struct bytes){b.at + 1, b.len - 1} : b;
    uint64_t v;

    if (digits.len == 0 || parse_digits(digits, &v) != digits.len) return false;
    if (digits.at[0] == '0' && (digits.len > 1 || minus)) return false;
    if (v > (uint64_t)INT64_MAX + minus) return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

struct unit {
    const char *name;
    uint64_t scale;
};

/* A number and one of the named units, case aside; the table ends with scale 0. */
static bool parse_scaled(struct bytes b, const struct unit *units, uint64_t *out)
{
    uint64_t v;
    const size_t n = parse_digits(b, &v);

    if (n == 0) return false;
    for (const struct unit *u = units; u->scale != 0; u++) {
        if (!bytes_equal_nocase((struct bytes){b.at + n, b.len - n}, u->name)) continue;
        if (v > UINT64_MAX / u->scale) return false;
        *out = v * u->scale;
        return true;
    }
    return false;
}

bool parse_size(struct bytes b, uint64_t *out)
{
    static const struct unit sizes[] = {
        {"", 1},         {"b", 1},       {"k", 1 << 10},  {"kb", 1 << 10}, {"m", 1 << 20},
        {"mb", 1 << 20}, {"g", 1 << 30}, {"gb", 1 << 30}, {"", 0},
    };
    return parse_scaled(b, sizes, out);
}

bool parse_duration(struct bytes b, uint64_t *ns_out)
{
    static const struct unit times[] = {
        {"", UINT64_C(1000000000)},     {"ms", UINT64_C(1000000)},
        {"s", UINT64_C(1000000000)},    {"m", UINT64_C(60000000000)},
        {"h", UINT64_C(3600000000000)}, {"", 0},
    };
    return parse_scaled(b, times, ns_out);
}

size_t format_i64(char text[I64_TEXT_MAX], int64_t v)
{
    char backward[I64_TEXT_MAX];
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t digits = 0, len = 0;

    do
        backward[digits++] = (char)('0' + left % 10);
    while ((left /= 10) > 0);

    if (v < 0) text[len++] = '-';
    while (digits > 0)
        text[len++] = backward[--digits];
    return len;
}

/* A class [...] that starts after its '[' at p.  Redis' reading: ']' always closes,
 * even as the first; a range may be written backwards; the end of the pattern closes
 * too. */
static bool class_match(const uint8_t **p, const uint8_t *end, uint8_t c)
{
    const uint8_t *at = *p;
    const bool negate = at < end && *at == '^';
    bool hit = false;

    at += negate;
    while (at < end && *at != ']') {
        if (*at == '\\' && end - at >= 2) {
            hit |= at[1] == c;
            at += 2;
        } else if (end - at >= 3 && at[1] == '-') {
            const uint8_t lo = at[0] < at[2] ? at[0] : at[2];
            const uint8_t hi = at[0] < at[2] ? at[2] : at[0];
            hit |= c >= lo && c <= hi;
            at += 3;
        } else {
            hit |= *at == c;
            at++;
        }
    }
    *p = at < end ? at + 1 : at;
    return hit != negate;
}

/* One element other than '*' against one byte; p moves past the element if it matches. */
static bool element_match(const uint8_t **p, const uint8_t *end, uint8_t c)
{
    const uint8_t *at = *p;
    bool hit;

    switch (*at) {
    case '?':
        hit = true;
        at++;
        break;
    case '[':
        at++;
        hit = class_match(&at, end, c);
        break;
    case '\\':
        if (end - at >= 2) at++;
        hit = *at++ == c;
        break;
    default: hit = *at++ == c; break;
    }
    if (hit) *p = at;
    return hit;
}

/* Every element but '*' takes exactly one byte, so that of several '*' only the last one
 * seen need ever be tried with one byte more. */
bool glob_match(struct bytes pattern, struct bytes text)
{
    if (text.len == 0) {
        size_t stars = 0;
        while (stars < pattern.len && pattern.at[stars] == '*')
            stars++;
        return stars == pattern.len;
    }
    if (pattern.len == 0) return false;

    const uint8_t *p = pattern.at, *const p_end = p + pattern.len;
    const uint8_t *t = text.at, *const t_end = t + text.len;
    const uint8_t *star_p = NULL, *star_t = NULL;

    while (t < t_end) {
        if (p < p_end && *p == '*') {
            star_p = ++p;
            star_t = t;
            if (p == p_end) return true;
        } else if (p < p_end && element_match(&p, p_end, *t)) {
            t++;
        } else if (star_p != NULL) {
            p = star_p;
            t = ++star_t;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}
