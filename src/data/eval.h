/* SPDX-License-Identifier: Apache-2.0 */
/* eval - what the commands on keys share.  Private to src/data.
 *
 * The order in every command: read the arguments, look at the keys, refuse; only then
 * reply and emit.  A reply that bears a value found is written before the emit, since what
 * find gave is borrowed until the next call on the view.
 */
#pragma once

#include "data/command.h"

/* The key as it reads now.  Past its deadline it is absent, and cleared if the call may
 * write.  Absent: false, and *out has ITEM_NONE and no deadline. */
bool eval_key_find(const struct command_call *call, struct bytes key, struct item *out);
/* Replies WRONGTYPE unless the item is a string or absent. */
bool eval_is_string(const struct command_call *call, const struct item *item);

/* Appends part of the value, wherever it lies. */
void eval_value_put(const struct command_call *call, struct bytes key,
                    const struct item *item, uint64_t from, uint64_t len,
                    struct buf *out);
/* The value as the reply, or as a part of it; else nothing is written, and the outcome says why
 * not. */
enum outcome eval_reply_put(const struct command_call *call, struct bytes key,
                            const struct item *item);
/* The value as the reply, or the error: then nothing may be emitted. */
bool eval_reply_value(const struct command_call *call, struct bytes key,
                      const struct item *item);
/* Whether the reply may get so much longer. */
enum outcome eval_reply_room(const struct command_call *call, uint64_t bytes);
/* The value if it is short enough to be a number; else nothing, which is none. */
struct bytes eval_text(const struct item *item);

/* `old` is what eval_key_find() gave: it decides whether the key is created. */
void eval_key_put(const struct command_call *call, struct bytes key,
                  const struct item *old, struct bytes value, int64_t deadline_ms);
/* For a value that is made anew: room for what will stand before it, then the value, which
 * eval_key_give() gives away without a copy if it is large. */
struct buf eval_value_new(const struct command_call *call, struct bytes key, uint64_t len,
                          size_t *at);
void eval_key_give(const struct command_call *call, struct bytes key,
                   const struct item *old, struct buf *bytes, size_t at,
                   int64_t deadline_ms);
void eval_key_clear(const struct command_call *call, struct bytes key);
void eval_key_deadline(const struct command_call *call, struct bytes key,
                       int64_t deadline_ms);

void eval_refuse(const struct command_call *call, enum outcome o);
void eval_refuse_name(const struct command_call *call,
                      enum outcome o); /* %s: the command */
/* An argument as a number; replies and gives false if it is not one. */
bool eval_arg_i64(const struct command_call *call, uint32_t at, int64_t *out);

/* Replies FULL and gives false if so much more memory would break the bound. */
bool eval_room(const struct command_call *call, uint64_t bytes);

/* For work that must outlive a call on the view: it rests on the reply's allocator. */
static inline struct buf scratch_new(const struct command_call *call)
{
    return buf_new(call->reply->out->mem);
}

/* ---- one function for each command, or for several that differ little ---- */

void eval_get(const struct command_call *call);
void eval_set(const struct command_call *call);
void eval_setnx(const struct command_call *call);
void eval_setex(const struct command_call *call);
void eval_getset(const struct command_call *call);
void eval_getdel(const struct command_call *call);
void eval_getex(const struct command_call *call);
void eval_mget(const struct command_call *call);
void eval_mset(const struct command_call *call);
void eval_msetnx(const struct command_call *call);
void eval_append(const struct command_call *call);
void eval_strlen(const struct command_call *call);
void eval_getrange(const struct command_call *call);
void eval_setrange(const struct command_call *call);
void eval_incr(const struct command_call *call);
void eval_incrbyfloat(const struct command_call *call);
void eval_del(const struct command_call *call);
void eval_exists(const struct command_call *call);
void eval_type(const struct command_call *call);
void eval_expire(const struct command_call *call);
void eval_ttl(const struct command_call *call);
void eval_persist(const struct command_call *call);
void eval_rename(const struct command_call *call);
void eval_copy(const struct command_call *call);
void eval_randomkey(const struct command_call *call);
void eval_keys(const struct command_call *call);
void eval_scan(const struct command_call *call);
void eval_dbsize(const struct command_call *call);
void eval_flush(const struct command_call *call);
