/* SPDX-License-Identifier: Apache-2.0 */
/* The commands on keys of any type. */
#include "base/check.h"
#include "base/text.h"
#include "data/eval.h"

/* DEL and UNLINK. */
void eval_del(const struct command_call *call)
{
    int64_t gone = 0;

    for (uint32_t i = 1; i < call->n_args; i++) {
        struct item item;
        if (!eval_key_find(call, call->args[i], &item)) continue;
        eval_key_clear(call, call->args[i]);
        gone++;
    }
    reply_int(call->reply, gone);
}

/* EXISTS and TOUCH. */
void eval_exists(const struct command_call *call)
{
    int64_t found = 0;

    for (uint32_t i = 1; i < call->n_args; i++) {
        struct item item;
        found += eval_key_find(call, call->args[i], &item);
    }
    reply_int(call->reply, found);
}

void eval_type(const struct command_call *call)
{
    struct item item;

    eval_key_find(call, call->args[1], &item);
    reply_simple(call->reply, item.type == ITEM_STRING ? "string" : "none");
}

/* ---- deadlines ---- */

enum { OPTION_TEXT_MAX = 128 }; /* of a wrong option, as far as it is repeated */

enum { IF_NONE = 1, IF_SET = 2, IF_LATER = 4, IF_EARLIER = 8 };

static void refuse_option(const struct command_call *call, struct bytes word)
{
    char text[OPTION_TEXT_MAX + 1] = {0};

    for (size_t i = 0; i < word.len && i < OPTION_TEXT_MAX; i++)
        text[i] = (char)word.at[i];
    reply_errorf(call->reply, outcome_row(OUTCOME_OPTION)->text, text);
}

static bool expire_flags_read(const struct command_call *call, unsigned *flags)
{
    *flags = 0;
    for (uint32_t i = 3; i < call->n_args; i++) {
        const struct bytes word = call->args[i];

        if (bytes_equal_nocase(word, "nx")) {
            *flags |= IF_NONE;
        } else if (bytes_equal_nocase(word, "xx")) {
            *flags |= IF_SET;
        } else if (bytes_equal_nocase(word, "gt")) {
            *flags |= IF_LATER;
        } else if (bytes_equal_nocase(word, "lt")) {
            *flags |= IF_EARLIER;
        } else {
            refuse_option(call, word);
            return false;
        }
    }
    if ((*flags & IF_NONE) && *flags != IF_NONE) {
        eval_refuse(call, OUTCOME_NX_WITH);
        return false;
    }
    if ((*flags & IF_LATER) && (*flags & IF_EARLIER)) {
        eval_refuse(call, OUTCOME_GT_WITH_LT);
        return false;
    }
    return true;
}

/* The deadline that EXPIRE and its kin are given, in ms; at most 0 is long past. */
static bool expire_time_read(const struct command_call *call, int64_t *when_ms)
{
    const enum command_id id = call->command->id;
    const bool seconds = id == COMMAND_EXPIRE || id == COMMAND_EXPIREAT;
    const bool from_now = id == COMMAND_EXPIRE || id == COMMAND_PEXPIRE;
    int64_t when;

    if (!eval_arg_i64(call, 2, &when)) return false;
    if ((seconds && __builtin_mul_overflow(when, 1000, &when)) ||
        (from_now && __builtin_add_overflow(when, call->now.ms, &when))) {
        eval_refuse_name(call, OUTCOME_EXPIRE_TIME);
        return false;
    }
    *when_ms = when;
    return true;
}

/* A key without a deadline lives longest: nothing is later, everything is earlier. */
static bool expire_applies(unsigned flags, int64_t now_ms, int64_t when_ms)
{
    if ((flags & IF_NONE) && now_ms != 0) return false;
    if ((flags & IF_SET) && now_ms == 0) return false;
    if ((flags & IF_LATER) && (now_ms == 0 || when_ms <= now_ms)) return false;
    if ((flags & IF_EARLIER) && now_ms != 0 && when_ms >= now_ms) return false;
    return true;
}

/* EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT. */
void eval_expire(const struct command_call *call)
{
    const struct bytes key = call->args[1];
    unsigned flags;
    int64_t when_ms;
    struct item item;

    if (!expire_flags_read(call, &flags)) return;
    if (!expire_time_read(call, &when_ms)) return;
    if (!eval_key_find(call, key, &item) ||
        !expire_applies(flags, item.deadline_ms, when_ms)) {
        reply_int(call->reply, 0);
        return;
    }
    if (when_ms <= call->now.ms)
        eval_key_clear(call, key);
    else
        eval_key_deadline(call, key, when_ms);
    reply_int(call->reply, 1);
}

/* TTL, PTTL, EXPIRETIME, PEXPIRETIME. */
void eval_ttl(const struct command_call *call)
{
    const enum command_id id = call->command->id;
    const bool seconds = id == COMMAND_TTL || id == COMMAND_EXPIRETIME;
    const bool from_now = id == COMMAND_TTL || id == COMMAND_PTTL;
    struct item item;

    if (!eval_key_find(call, call->args[1], &item)) {
        reply_int(call->reply, -2);
        return;
    }
    if (item.deadline_ms == 0) {
        reply_int(call->reply, -1);
        return;
    }
    const int64_t ms = from_now ? item.deadline_ms - call->now.ms : item.deadline_ms;
    reply_int(call->reply, seconds ? ms / 1000 + (ms % 1000 >= 500) : ms);
}

void eval_persist(const struct command_call *call)
{
    struct item item;

    eval_key_find(call, call->args[1], &item);
    if (item.deadline_ms != 0) eval_key_deadline(call, call->args[1], 0);
    reply_int(call->reply, item.deadline_ms != 0);
}

/* ---- names ---- */

/* The value moves through a copy: what find gave does not outlive the first emit. */
static void put_under(const struct command_call *call, struct bytes key,
                      const struct item *item, bool clear_source)
{
    size_t begin;
    struct buf value = eval_value_new(call, key, item->value.len, &begin);
    const int64_t deadline_ms = item->deadline_ms;
    struct item old;

    check(item->type == ITEM_STRING);
    eval_value_put(call, call->args[1], item, 0, item->value.len, &value);
    if (clear_source) eval_key_clear(call, call->args[1]);
    eval_key_find(call, key, &old);
    eval_key_give(call, key, &old, &value, begin, deadline_ms);
}

/* RENAME and RENAMENX. */
void eval_rename(const struct command_call *call)
{
    const struct bytes source = call->args[1], target = call->args[2];
    const bool only_new = call->command->id == COMMAND_RENAMENX;
    struct item item, old;

    /* The target first: what is borrowed of the source must be the later find. */
    const bool taken = only_new && eval_key_find(call, target, &old);
    if (!eval_key_find(call, source, &item)) {
        eval_refuse(call, OUTCOME_NO_SUCH_KEY);
        return;
    }
    if (taken) {
        reply_int(call->reply, 0);
        return;
    }
    if (!bytes_equal(source, target)) put_under(call, target, &item, true);
    if (only_new)
        reply_int(call->reply, 1);
    else
        reply_ok(call->reply);
}

static bool copy_options_read(const struct command_call *call, bool *replace)
{
    *replace = false;
    for (uint32_t i = 3; i < call->n_args; i++) {
        if (bytes_equal_nocase(call->args[i], "replace")) {
            *replace = true;
        } else if (bytes_equal_nocase(call->args[i], "db") && i + 1 < call->n_args) {
            int64_t db;
            if (!eval_arg_i64(call, ++i, &db)) return false;
            if (db != 0) {
                const bool is_int = db >= INT32_MIN && db <= INT32_MAX;
                eval_refuse(call, is_int ? OUTCOME_DB_INDEX : OUTCOME_INT_RANGE);
                return false;
            }
        } else {
            eval_refuse(call, OUTCOME_SYNTAX);
            return false;
        }
    }
    return true;
}

void eval_copy(const struct command_call *call)
{
    const struct bytes source = call->args[1], target = call->args[2];
    struct item item, old;
    bool replace;

    if (!copy_options_read(call, &replace)) return;
    if (bytes_equal(source, target)) {
        eval_refuse(call, OUTCOME_SAME_OBJECT);
        return;
    }
    const bool taken = !replace && eval_key_find(call, target, &old);
    if (!eval_key_find(call, source, &item) || taken) {
        reply_int(call->reply, 0);
        return;
    }
    if (!eval_room(call, item.value.len)) return;
    put_under(call, target, &item, false);
    reply_int(call->reply, 1);
}

/* ---- all keys ---- */

void eval_dbsize(const struct command_call *call)
{
    reply_int(call->reply, (int64_t)call->view->count(call->view->ctx));
}

/* FLUSHALL and FLUSHDB. */
void eval_flush(const struct command_call *call)
{
    if (call->n_args > 2 ||
        (call->n_args == 2 && !bytes_equal_nocase(call->args[1], "async") &&
         !bytes_equal_nocase(call->args[1], "sync"))) {
        eval_refuse(call, OUTCOME_SYNTAX);
        return;
    }
    if (call->view->count(call->view->ctx) > 0) {
        const struct effect e = {.kind = EFFECT_WIPE};
        call->view->emit(call->view->ctx, &e);
    }
    reply_ok(call->reply);
}
