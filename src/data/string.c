/* SPDX-License-Identifier: Apache-2.0 */
/* The commands on strings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/eval.h"

/* ---- the options of SET and GETEX ---- */

enum condition { ALWAYS, IF_ABSENT, IF_PRESENT, IF_EQUAL };
enum expiry {
    EXPIRY_NONE,
    EXPIRY_EX,
    EXPIRY_PX,
    EXPIRY_EXAT,
    EXPIRY_PXAT,
    EXPIRY_KEEP,
    EXPIRY_PERSIST,
};

struct options {
    enum condition condition;
    enum expiry expiry;
    bool get;
    struct bytes compare; /* IF_EQUAL */
    struct bytes time;    /* EXPIRY_EX .. EXPIRY_PXAT */
};

enum { OF_SET = 1, OF_GETEX = 2 };

struct option_word {
    const char *word;
    uint8_t of;
    bool takes_value, get;
    enum condition condition;
    enum expiry expiry;
};

static const struct option_word option_words[] = {
    {"nx", OF_SET, false, false, IF_ABSENT, EXPIRY_NONE},
    {"xx", OF_SET, false, false, IF_PRESENT, EXPIRY_NONE},
    {"ifeq", OF_SET, true, false, IF_EQUAL, EXPIRY_NONE},
    {"get", OF_SET, false, true, ALWAYS, EXPIRY_NONE},
    {"ex", OF_SET | OF_GETEX, true, false, ALWAYS, EXPIRY_EX},
    {"px", OF_SET | OF_GETEX, true, false, ALWAYS, EXPIRY_PX},
    {"exat", OF_SET | OF_GETEX, true, false, ALWAYS, EXPIRY_EXAT},
    {"pxat", OF_SET | OF_GETEX, true, false, ALWAYS, EXPIRY_PXAT},
    {"keepttl", OF_SET, false, false, ALWAYS, EXPIRY_KEEP},
    {"persist", OF_GETEX, false, false, ALWAYS, EXPIRY_PERSIST},
};

static const struct option_word *option_find(struct bytes word, uint8_t of)
{
    for (size_t i = 0; i < sizeof option_words / sizeof *option_words; i++) {
        const struct option_word *w = &option_words[i];
        if ((w->of & of) && bytes_equal_nocase(word, w->word)) return w;
    }
    return NULL;
}

/* An option may be said twice, the last one holds; two of one kind may not be mixed. */
static bool options_read(const struct command_call *call, uint32_t from, uint8_t of,
                         struct options *o)
{
    *o = (struct options){0};
    for (uint32_t i = from; i < call->n_args; i++) {
        const struct option_word *w = option_find(call->args[i], of);

        if (w == NULL || (w->takes_value && i + 1 == call->n_args)) return false;
        o->get |= w->get;
        if (w->condition != ALWAYS) {
            if (o->condition != ALWAYS && o->condition != w->condition) return false;
            o->condition = w->condition;
            if (w->takes_value) o->compare = call->args[++i];
        }
        if (w->expiry != EXPIRY_NONE) {
            if (o->expiry != EXPIRY_NONE && o->expiry != w->expiry) return false;
            o->expiry = w->expiry;
            if (w->takes_value) o->time = call->args[++i];
        }
    }
    return true;
}

static bool expiry_is_time(enum expiry e)
{
    return e >= EXPIRY_EX && e <= EXPIRY_PXAT;
}

/* The deadline that an option names, in ms; replies and gives false if there is none. */
static bool expiry_read(const struct command_call *call, const struct options *o,
                        int64_t *deadline_ms)
{
    const bool seconds = o->expiry == EXPIRY_EX || o->expiry == EXPIRY_EXAT;
    const bool from_now = o->expiry == EXPIRY_EX || o->expiry == EXPIRY_PX;
    int64_t v;

    if (!parse_i64(o->time, &v)) {
        eval_refuse(call, OUTCOME_NOT_INT);
        return false;
    }
    bool fits = v > 0 && (!seconds || v <= INT64_MAX / 1000);
    if (fits && seconds) v *= 1000;
    if (fits && from_now) fits = !__builtin_add_overflow(v, call->now.ms, &v) && v > 0;
    if (!fits) {
        eval_refuse_name(call, OUTCOME_EXPIRE_TIME);
        return false;
    }
    *deadline_ms = v;
    return true;
}

/* ---- whole values ---- */

/* False: it is an error. */
static bool reply_item(const struct command_call *call, const struct item *item)
{
    if (item->type != ITEM_NONE) return eval_reply_value(call, call->args[1], item);
    reply_null(call->reply);
    return true;
}

void eval_get(const struct command_call *call)
{
    struct item item;

    eval_key_find(call, call->args[1], &item);
    if (eval_is_string(call, &item)) reply_item(call, &item);
}

static bool equals(const struct command_call *call, const struct item *old,
                   struct bytes other)
{
    if (old->value.len != other.len) return false;
    if (old->value.at != NULL) return bytes_equal(old->value, other);

    struct buf whole = scratch_new(call);
    eval_value_put(call, call->args[1], old, 0, old->value.len, &whole);
    const bool yes = bytes_equal(buf_bytes(&whole), other);
    buf_free(&whole);
    return yes;
}

static bool condition_holds(const struct command_call *call, const struct options *o,
                            const struct item *old)
{
    switch (o->condition) {
    case ALWAYS: return true;
    case IF_ABSENT: return old->type == ITEM_NONE;
    case IF_PRESENT: return old->type != ITEM_NONE;
    case IF_EQUAL: return old->type == ITEM_STRING && equals(call, old, o->compare);
    }
    return false;
}

static void set_with(const struct command_call *call, const struct options *o,
                     struct bytes value)
{
    const struct bytes key = call->args[1];
    int64_t deadline_ms = 0;
    struct item old;

    if (expiry_is_time(o->expiry) && !expiry_read(call, o, &deadline_ms)) return;

    eval_key_find(call, key, &old);
    if ((o->get || o->condition == IF_EQUAL) && !eval_is_string(call, &old)) return;
    if (o->get && !reply_item(call, &old)) return;
    if (!condition_holds(call, o, &old)) {
        if (!o->get) reply_null(call->reply);
        return;
    }
    if (o->expiry == EXPIRY_KEEP) deadline_ms = old.deadline_ms;
    eval_key_put(call, key, &old, value, deadline_ms);
    if (!o->get) reply_ok(call->reply);
}

void eval_set(const struct command_call *call)
{
    struct options o;

    if (!options_read(call, 3, OF_SET, &o)) {
        eval_refuse(call, OUTCOME_SYNTAX);
        return;
    }
    set_with(call, &o, call->args[2]);
}

/* SETEX and PSETEX. */
void eval_setex(const struct command_call *call)
{
    const bool seconds = call->command->id == COMMAND_SETEX;
    const struct options o = {.expiry = seconds ? EXPIRY_EX : EXPIRY_PX,
                              .time = call->args[2]};

    set_with(call, &o, call->args[3]);
}

void eval_setnx(const struct command_call *call)
{
    struct item old;
    const bool found = eval_key_find(call, call->args[1], &old);

    if (!found) eval_key_put(call, call->args[1], &old, call->args[2], 0);
    reply_int(call->reply, !found);
}

void eval_getset(const struct command_call *call)
{
    const struct options o = {.get = true};

    set_with(call, &o, call->args[2]);
}

void eval_getdel(const struct command_call *call)
{
    struct item old;
    const bool found = eval_key_find(call, call->args[1], &old);

    if (!eval_is_string(call, &old)) return;
    if (reply_item(call, &old) && found) eval_key_clear(call, call->args[1]);
}

void eval_getex(const struct command_call *call)
{
    const struct bytes key = call->args[1];
    int64_t deadline_ms = 0;
    struct options o;
    struct item old;

    if (!options_read(call, 2, OF_GETEX, &o)) {
        eval_refuse(call, OUTCOME_SYNTAX);
        return;
    }
    if (!eval_key_find(call, key, &old)) {
        reply_null(call->reply);
        return;
    }
    if (!eval_is_string(call, &old)) return;
    if (expiry_is_time(o.expiry) && !expiry_read(call, &o, &deadline_ms)) return;

    if (!eval_reply_value(call, key, &old)) return;
    if (expiry_is_time(o.expiry) && deadline_ms <= call->now.ms)
        eval_key_clear(call, key);
    else if (expiry_is_time(o.expiry))
        eval_key_deadline(call, key, deadline_ms);
    else if (o.expiry == EXPIRY_PERSIST && old.deadline_ms != 0)
        eval_key_deadline(call, key, 0);
}

/* What was written of a reply that can't be finished. */
static void reply_undo(const struct command_call *call, size_t from, bool drop_far)
{
    if (drop_far) far_drop(call->far);
    call->reply->out->len = from;
    if (from == 0) buf_free(call->reply->out);
}

void eval_mget(const struct command_call *call)
{
    const size_t from = call->reply->out->len;
    const bool may_far = call->far != NULL && call->far->block == NULL;

    reply_array(call->reply, call->n_args - 1);
    for (uint32_t i = 1; i < call->n_args; i++) {
        struct item item;
        enum outcome o = OUTCOME_NONE;
        eval_key_find(call, call->args[i], &item);
        if (item.type == ITEM_STRING)
            o = eval_reply_put(call, call->args[i], &item);
        else
            reply_null(call->reply);
        if (UNLIKELY(o != OUTCOME_NONE)) {
            reply_undo(call, from, may_far);
            eval_refuse(call, o);
            return;
        }
    }
}

static bool pairs_whole(const struct command_call *call)
{
    if (call->n_args % 2 == 1) return true;
    eval_refuse_name(call, OUTCOME_ARITY);
    return false;
}

/* Each key is looked up after the puts before it: one named twice is created once. */
static void put_pairs(const struct command_call *call)
{
    for (uint32_t i = 1; i < call->n_args; i += 2) {
        struct item old;
        eval_key_find(call, call->args[i], &old);
        eval_key_put(call, call->args[i], &old, call->args[i + 1], 0);
    }
}

void eval_mset(const struct command_call *call)
{
    if (!pairs_whole(call)) return;
    put_pairs(call);
    reply_ok(call->reply);
}

void eval_msetnx(const struct command_call *call)
{
    if (!pairs_whole(call)) return;
    for (uint32_t i = 1; i < call->n_args; i += 2) {
        struct item old;
        if (eval_key_find(call, call->args[i], &old)) {
            reply_int(call->reply, 0);
            return;
        }
    }
    put_pairs(call);
    reply_int(call->reply, 1);
}

/* ---- parts of values ---- */

void eval_append(const struct command_call *call)
{
    const struct bytes key = call->args[1], more = call->args[2];
    struct item old;
    const bool found = eval_key_find(call, key, &old);

    if (!eval_is_string(call, &old)) return;
    if (old.value.len + more.len > VALUE_MAX) {
        eval_refuse(call, OUTCOME_STRING_LONG);
        return;
    }
    if (!eval_room(call, old.value.len + more.len)) return;
    reply_int(call->reply, (int64_t)(old.value.len + more.len));
    if (!found) {
        eval_key_put(call, key, &old, more, 0);
        return;
    }
    size_t begin;
    struct buf whole = eval_value_new(call, key, old.value.len + more.len, &begin);
    eval_value_put(call, key, &old, 0, old.value.len, &whole);
    buf_put(&whole, more.at, more.len);
    eval_key_give(call, key, &old, &whole, begin, old.deadline_ms);
}

void eval_strlen(const struct command_call *call)
{
    struct item item;

    eval_key_find(call, call->args[1], &item);
    if (eval_is_string(call, &item)) reply_int(call->reply, (int64_t)item.value.len);
}

/* A position from the end counts back from it; what lies before the start is the start. */
static int64_t position(int64_t at, int64_t len)
{
    if (at >= 0) return at;
    return at + len > 0 ? at + len : 0;
}

void eval_getrange(const struct command_call *call)
{
    int64_t start, end;
    struct item item;

    if (!eval_arg_i64(call, 2, &start) || !eval_arg_i64(call, 3, &end)) return;
    eval_key_find(call, call->args[1], &item);
    if (!eval_is_string(call, &item)) return;

    const int64_t len = (int64_t)item.value.len;
    uint64_t n = 0;
    if (!(start < 0 && end < 0 && start > end)) {
        start = position(start, len);
        end = position(end, len);
        if (end >= len) end = len - 1;
        if (start <= end) n = (uint64_t)(end - start + 1);
    }
    const enum outcome o = eval_reply_room(call, n);
    if (UNLIKELY(o != OUTCOME_NONE)) {
        eval_refuse(call, o);
        return;
    }
    reply_bulk_begin(call->reply, n);
    if (n > 0)
        eval_value_put(call, call->args[1], &item, (uint64_t)start, n, call->reply->out);
    reply_bulk_end(call->reply);
}

void eval_setrange(const struct command_call *call)
{
    const struct bytes key = call->args[1], part = call->args[3];
    int64_t offset;
    struct item old;

    if (!eval_arg_i64(call, 2, &offset)) return;
    if (offset < 0) {
        eval_refuse(call, OUTCOME_OFFSET);
        return;
    }
    eval_key_find(call, key, &old);
    if (!eval_is_string(call, &old)) return;
    if (part.len == 0) {
        reply_int(call->reply, (int64_t)old.value.len);
        return;
    }
    if ((uint64_t)offset > VALUE_MAX || (uint64_t)offset + part.len > VALUE_MAX) {
        eval_refuse(call, OUTCOME_STRING_LONG);
        return;
    }

    const size_t at = (size_t)offset, end = at + part.len;
    const size_t len = end > old.value.len ? end : old.value.len;
    if (!eval_room(call, len)) return;
    size_t begin;
    struct buf whole = eval_value_new(call, key, len, &begin);
    eval_value_put(call, key, &old, 0, old.value.len, &whole);
    if (len > old.value.len) {
        const size_t more = len - old.value.len;
        memset(buf_extend(&whole, more), 0, more);
    }
    memcpy(whole.at + begin + at, part.at, part.len);
    eval_key_give(call, key, &old, &whole, begin, old.deadline_ms);
    reply_int(call->reply, (int64_t)len);
}

/* ---- numbers ---- */

static bool delta_read(const struct command_call *call, int64_t *delta)
{
    const enum command_id id = call->command->id;

    *delta = id == COMMAND_INCR ? 1 : -1;
    if (id != COMMAND_INCRBY && id != COMMAND_DECRBY) return true;
    if (!eval_arg_i64(call, 2, delta)) return false;
    if (id == COMMAND_INCRBY) return true;
    if (*delta == INT64_MIN) {
        eval_refuse(call, OUTCOME_DECR_OVERFLOW);
        return false;
    }
    *delta = -*delta;
    return true;
}

/* INCR, DECR, INCRBY, DECRBY. */
void eval_incr(const struct command_call *call)
{
    int64_t delta, v = 0;
    struct item old;

    if (!delta_read(call, &delta)) return;
    const bool found = eval_key_find(call, call->args[1], &old);
    if (!eval_is_string(call, &old)) return;
    if (found && !parse_i64(eval_text(&old), &v)) {
        eval_refuse(call, OUTCOME_NOT_INT);
        return;
    }
    if (__builtin_add_overflow(v, delta, &v)) {
        eval_refuse(call, OUTCOME_OVERFLOW);
        return;
    }

    char text[I64_TEXT_MAX];
    const struct bytes sum = {(const uint8_t *)text, format_i64(text, v)};
    const struct effect e = {
        .kind = EFFECT_ADD,
        .flags = found ? 0 : EFFECT_CREATED,
        .type = ITEM_STRING,
        .key = call->args[1],
        .deadline_ms = old.deadline_ms,
        .delta = delta,
        .value = sum,
    };
    call->view->emit(call->view->ctx, &e);
    reply_int(call->reply, v);
}

/* As large as the longest long double in full. */
enum { FLOAT_TEXT_MAX = 5 * 1024 };

/* Whether the text, known to be a number, has a digit other than 0 before its exponent. */
static bool mantissa_nonzero(const char *text)
{
    if (*text == '-' || *text == '+') text++;
    const bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';

    for (; *text != 0; text++) {
        const char c = (char)(*text | 0x20);
        if (c == 'p' || (!hex && c == 'e')) return false;
        if ((*text >= '1' && *text <= '9') || (hex && c >= 'a' && c <= 'f')) return true;
    }
    return false;
}

/* Redis' string2ld: the whole text, no space before it, not NaN, and no number that is
 * too large or too small to be held.  Those two are told without errno, which lies
 * outside what a core may touch: an infinity that was not spelled as one, and a zero made
 * of other digits. */
static bool parse_float(struct bytes b, long double *out)
{
    char text[FLOAT_TEXT_MAX], *end;

    if (b.len == 0 || b.len >= sizeof text) return false;
    if (b.at[0] == ' ' || (b.at[0] >= '\t' && b.at[0] <= '\r')) return false;
    memcpy(text, b.at, b.len);
    text[b.len] = 0;

    const long double v = strtold(text, &end);
    if ((size_t)(end - text) != b.len || isnan(v)) return false;
    const char first = text[0] == '-' || text[0] == '+' ? text[1] : text[0];
    if (isinf(v) && (first | 0x20) != 'i') return false;
    if (fpclassify(v) == FP_ZERO && mantissa_nonzero(text)) return false;
    *out = v;
    return true;
}

/* 17 places, then without the zeros at the end. */
static size_t format_float(char text[FLOAT_TEXT_MAX], long double v)
{
    const int printed = snprintf(text, FLOAT_TEXT_MAX, "%.17Lf", v);
    check(printed > 0 && printed < FLOAT_TEXT_MAX);

    size_t len = (size_t)printed;
    while (text[len - 1] == '0')
        len--;
    if (text[len - 1] == '.') len--;
    if (len == 2 && text[0] == '-' && text[1] == '0') {
        text[0] = '0';
        len = 1;
    }
    return len;
}

void eval_incrbyfloat(const struct command_call *call)
{
    long double v = 0, delta;
    struct item old;
    const bool found = eval_key_find(call, call->args[1], &old);

    if (!eval_is_string(call, &old)) return;
    if ((found && !parse_float(eval_text(&old), &v)) ||
        !parse_float(call->args[2], &delta)) {
        eval_refuse(call, OUTCOME_NOT_FLOAT);
        return;
    }
    v += delta;
    if (!isfinite(v)) {
        eval_refuse(call, OUTCOME_NOT_FINITE);
        return;
    }

    char text[FLOAT_TEXT_MAX];
    const struct bytes sum = {(const uint8_t *)text, format_float(text, v)};
    reply_bulk(call->reply, sum);
    eval_key_put(call, call->args[1], &old, sum, old.deadline_ms);
}
