/* SPDX-License-Identifier: Apache-2.0 */
#include "data/eval.h"

#include "base/check.h"
#include "base/text.h"

/* As Redis: in the millisecond of its deadline a key still lives. */
static bool deadline_passed(int64_t deadline_ms, struct wall now)
{
    return deadline_ms != 0 && now.ms > deadline_ms;
}

static void emit_expiry(const struct view *view, struct bytes key)
{
    const struct effect e = {.kind = EFFECT_CLEAR, .flags = EFFECT_EXPIRED, .key = key};
    view->emit(view->ctx, &e);
}

bool eval_key_find(const struct command_call *call, struct bytes key, struct item *out)
{
    const struct view *view = call->view;

    if (LIKELY(view->find(view->ctx, key, out))) {
        if (LIKELY(!deadline_passed(out->deadline_ms, call->now))) return true;
        if (call->may_write) emit_expiry(view, key);
    }
    *out = (struct item){0};
    return false;
}

bool command_expire(const struct view *view, struct bytes key, struct wall now)
{
    struct item item;

    if (!view->find(view->ctx, key, &item)) return false;
    if (!deadline_passed(item.deadline_ms, now)) return false;
    emit_expiry(view, key);
    return true;
}

bool eval_is_string(const struct command_call *call, const struct item *item)
{
    if (LIKELY(item->type == ITEM_STRING || item->type == ITEM_NONE)) return true;
    eval_refuse(call, OUTCOME_WRONGTYPE);
    return false;
}

void eval_value_put(const struct command_call *call, struct bytes key,
                    const struct item *item, uint64_t from, uint64_t len, struct buf *out)
{
    check(from <= item->value.len && len <= item->value.len - from);

    if (len == 0) return;
    if (item->value.at != NULL)
        buf_put(out, item->value.at + from, len);
    else
        call->view->read(call->view->ctx, key, from, len, out);
}

static uint64_t reply_len(const struct command_call *call)
{
    return command_reply_bytes(call->reply, call->far) - call->reply_from;
}

static bool reply_too_long(const struct command_call *call, uint64_t bytes)
{
    const uint64_t len = reply_len(call);

    return len > REPLY_BYTES_MAX || bytes > REPLY_BYTES_MAX - len;
}

enum outcome eval_reply_room(const struct command_call *call, uint64_t bytes)
{
    if (reply_too_long(call, bytes)) return OUTCOME_REPLY_LONG;
    if (reply_len(call) + bytes > REPLY_BYTES_FREE &&
        !mem_room(call->reply->out->mem, bytes))
        return OUTCOME_REPLY_MEMORY;
    return OUTCOME_NONE;
}

static bool may_be_far(const struct command_call *call, const struct item *item)
{
    return call->far != NULL && call->far->block == NULL &&
           item->value.len >= BLOCK_BYTES_MIN;
}

/* A large value that lies in a block, or can be brought into one bit by bit. */
static bool reply_far(const struct command_call *call, struct bytes key,
                      const struct item *item)
{
    struct far f = {.len = item->value.len};

    if (!may_be_far(call, item)) return false;
    if (item->block != NULL) {
        f.block = block_ref(item->block);
        f.from = (uint64_t)(item->value.at - item->block->bytes.at);
    } else if (item->value.at == NULL) {
        f.block = call->view->share(call->view->ctx, key, item);
    }
    if (f.block == NULL) return false;
    reply_bulk_begin(call->reply, f.len);
    f.at = call->reply->out->len;
    *call->far = f;
    reply_bulk_end(call->reply);
    return true;
}

enum outcome eval_reply_put(const struct command_call *call, struct bytes key,
                            const struct item *item)
{
    const uint64_t len = item->value.len;
    /* What lies in memory and is not copied takes none. */
    const bool is_there = item->block != NULL && may_be_far(call, item);
    const enum outcome o = is_there && !reply_too_long(call, len)
                               ? OUTCOME_NONE
                               : eval_reply_room(call, len);

    if (UNLIKELY(o != OUTCOME_NONE)) return o;
    if (reply_far(call, key, item)) return OUTCOME_NONE;
    buf_reserve(call->reply->out, item->value.len + 32);
    reply_bulk_begin(call->reply, item->value.len);
    eval_value_put(call, key, item, 0, item->value.len, call->reply->out);
    reply_bulk_end(call->reply);
    return OUTCOME_NONE;
}

bool eval_reply_value(const struct command_call *call, struct bytes key,
                      const struct item *item)
{
    const enum outcome o = eval_reply_put(call, key, item);

    if (LIKELY(o == OUTCOME_NONE)) return true;
    eval_refuse(call, o);
    return false;
}

struct bytes eval_text(const struct item *item)
{
    return item->value.at != NULL ? item->value : (struct bytes){NULL, 0};
}

static void key_put(const struct command_call *call, struct bytes key,
                    const struct item *old, struct bytes value, struct block *block,
                    int64_t deadline_ms)
{
    bool created = old->type == ITEM_NONE;

    /* Fields of another type must not live on under a string. */
    if (!created && old->type != ITEM_STRING) {
        eval_key_clear(call, key);
        created = true;
    }
    const struct effect e = {
        .kind = EFFECT_PUT,
        .flags = created ? EFFECT_CREATED : 0,
        .type = ITEM_STRING,
        .key = key,
        .deadline_ms = deadline_ms,
        .value = value,
        .block = block,
    };
    call->view->emit(call->view->ctx, &e);
}

void eval_key_put(const struct command_call *call, struct bytes key,
                  const struct item *old, struct bytes value, int64_t deadline_ms)
{
    key_put(call, key, old, value, NULL, deadline_ms);
}

struct buf eval_value_new(const struct command_call *call, struct bytes key, uint64_t len,
                          size_t *at)
{
    struct buf bytes = scratch_new(call);

    *at = effect_size_max(&(struct effect){.key = key});
    buf_reserve(&bytes, *at + len);
    buf_extend(&bytes, *at);
    return bytes;
}

void eval_key_give(const struct command_call *call, struct bytes key,
                   const struct item *old, struct buf *bytes, size_t at,
                   int64_t deadline_ms)
{
    const struct bytes value = {bytes->at + at, bytes->len - at};

    if (value.len < BLOCK_BYTES_MIN) {
        key_put(call, key, old, value, NULL, deadline_ms);
        buf_free(bytes);
        return;
    }
    struct block *block = block_take(bytes);
    key_put(call, key, old, value, block, deadline_ms);
    block_unref(block);
}

void eval_key_clear(const struct command_call *call, struct bytes key)
{
    const struct effect e = {.kind = EFFECT_CLEAR, .key = key};
    call->view->emit(call->view->ctx, &e);
}

void eval_key_deadline(const struct command_call *call, struct bytes key,
                       int64_t deadline_ms)
{
    const struct effect e = {
        .kind = EFFECT_DEADLINE, .key = key, .deadline_ms = deadline_ms};
    call->view->emit(call->view->ctx, &e);
}

void eval_refuse(const struct command_call *call, enum outcome o)
{
    reply_error(call->reply, outcome_row(o)->text);
}

void eval_refuse_name(const struct command_call *call, enum outcome o)
{
    reply_errorf(call->reply, outcome_row(o)->text, call->command->name);
}

bool eval_arg_i64(const struct command_call *call, uint32_t at, int64_t *out)
{
    if (parse_i64(call->args[at], out)) return true;
    eval_refuse(call, OUTCOME_NOT_INT);
    return false;
}

bool eval_room(const struct command_call *call, uint64_t bytes)
{
    if (mem_room(call->reply->out->mem, bytes)) return true;
    eval_refuse(call, OUTCOME_FULL_MEMORY);
    return false;
}

static void (*const evals[COMMAND_END])(const struct command_call *call) = {
    [COMMAND_GET] = eval_get,
    [COMMAND_SET] = eval_set,
    [COMMAND_SETNX] = eval_setnx,
    [COMMAND_SETEX] = eval_setex,
    [COMMAND_PSETEX] = eval_setex,
    [COMMAND_GETSET] = eval_getset,
    [COMMAND_GETDEL] = eval_getdel,
    [COMMAND_GETEX] = eval_getex,
    [COMMAND_MGET] = eval_mget,
    [COMMAND_MSET] = eval_mset,
    [COMMAND_MSETNX] = eval_msetnx,
    [COMMAND_APPEND] = eval_append,
    [COMMAND_STRLEN] = eval_strlen,
    [COMMAND_GETRANGE] = eval_getrange,
    [COMMAND_SUBSTR] = eval_getrange,
    [COMMAND_SETRANGE] = eval_setrange,
    [COMMAND_INCR] = eval_incr,
    [COMMAND_DECR] = eval_incr,
    [COMMAND_INCRBY] = eval_incr,
    [COMMAND_DECRBY] = eval_incr,
    [COMMAND_INCRBYFLOAT] = eval_incrbyfloat,
    [COMMAND_DEL] = eval_del,
    [COMMAND_UNLINK] = eval_del,
    [COMMAND_EXISTS] = eval_exists,
    [COMMAND_TYPE] = eval_type,
    [COMMAND_TOUCH] = eval_exists,
    [COMMAND_EXPIRE] = eval_expire,
    [COMMAND_PEXPIRE] = eval_expire,
    [COMMAND_EXPIREAT] = eval_expire,
    [COMMAND_PEXPIREAT] = eval_expire,
    [COMMAND_TTL] = eval_ttl,
    [COMMAND_PTTL] = eval_ttl,
    [COMMAND_EXPIRETIME] = eval_ttl,
    [COMMAND_PEXPIRETIME] = eval_ttl,
    [COMMAND_PERSIST] = eval_persist,
    [COMMAND_RENAME] = eval_rename,
    [COMMAND_RENAMENX] = eval_rename,
    [COMMAND_COPY] = eval_copy,
    [COMMAND_RANDOMKEY] = eval_randomkey,
    [COMMAND_KEYS] = eval_keys,
    [COMMAND_SCAN] = eval_scan,
    [COMMAND_DBSIZE] = eval_dbsize,
    [COMMAND_FLUSHALL] = eval_flush,
    [COMMAND_FLUSHDB] = eval_flush,
};

static bool keys_fit(const struct command_call *call)
{
    const struct command *c = call->command;
    if (c->first_key == 0) return true;

    const int64_t last = c->last_key < 0 ? (int64_t)call->n_args + c->last_key
                                         : c->last_key;
    for (int64_t i = c->first_key; i <= last; i += c->step)
        if (call->args[i].len > KEY_MAX) return false;
    return true;
}

void command_run(const struct command_call *call)
{
    const struct command *c = call->command;

    check(c->flags & (CF_SHARD | CF_FANOUT));
    check(evals[c->id] != NULL);
    check(call->may_write || !(c->flags & CF_WRITE));

    check(command_arity_ok(c, call->n_args) || (c->flags & CF_FANOUT));
    if (!keys_fit(call)) {
        eval_refuse(call, OUTCOME_KEY_LONG);
        return;
    }
    evals[c->id](call);
}
