/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that walk over the keys: SCAN, KEYS, RANDOMKEY.
 *
 * A walk passes over keys past their deadline and leaves them to the sweep: to clear them
 * here would make a log entry of every look at the keyspace. */
#include "base/check.h"
#include "base/text.h"
#include "data/eval.h"

enum {
    SCAN_COUNT = 10,      /* keys looked at in a call, unless COUNT says otherwise */
    CURSOR_HASH_CUT = 10, /* low bits of a place that a client's cursor cannot hold */
    FOUND_BYTES_MAX = 1 << 20, /* no key is looked at behind so much that was found */
    RANDOM_STEPS = 16,         /* RANDOMKEY goes on by up to this many keys */
    PLACE_BITS = 62,
};

static_assert(SCAN_COUNT > 0, "a call must come forward");

struct walk {
    const struct command_call *call;
    struct key_place from, place; /* place: of the key that came last */
    uint32_t skip;
};

static struct walk walk_from(const struct command_call *call, uint64_t from)
{
    return (struct walk){.call = call, .from = {from}};
}

static bool walk_next(struct walk *w, struct bytes *key, struct item *item)
{
    const struct view *view = w->call->view;
    struct key_place place;

    if (!view->walk(view->ctx, w->from, w->skip, &place, key, item)) return false;
    if (w->skip > 0 && place.v == w->place.v) {
        w->skip++;
    } else {
        w->from = place;
        w->place = place;
        w->skip = 1;
    }
    return true;
}

static bool lives(const struct command_call *call, const struct item *item)
{
    return item->deadline_ms == 0 || call->now.ms <= item->deadline_ms;
}

struct scan {
    uint64_t from;
    uint64_t count;
    bool matching, typed;
    struct bytes pattern, type;
};

static bool scan_wants(const struct scan *s, struct bytes key, const struct item *item)
{
    if (s->typed && !(item->type == ITEM_STRING && bytes_equal_nocase(s->type, "string")))
        return false;
    return !s->matching || glob_match(s->pattern, key);
}

/* Replies [next place, [key ...]].  A call ends only between two keys that a client's
 * cursor can tell apart, so that none is given twice or left out. */
static void scan_reply(const struct command_call *call, const struct scan *s)
{
    struct walk w = walk_from(call, s->from);
    struct buf found_buf = scratch_new(call);
    struct reply found = {&found_buf, call->reply->version};
    uint64_t looked = 0, n_found = 0, last = 0;
    struct bytes key;
    struct item item;
    bool end = true;

    while (walk_next(&w, &key, &item)) {
        const uint64_t stop = w.place.v >> CURSOR_HASH_CUT;
        const bool enough = looked >= s->count || found_buf.len >= FOUND_BYTES_MAX;
        if (enough && stop != last) {
            end = false;
            break;
        }
        last = stop;
        looked++;
        if (!lives(call, &item) || !scan_wants(s, key, &item)) continue;
        reply_bulk(&found, key);
        n_found++;
    }

    reply_array(call->reply, 2);
    if (end)
        reply_bulk_str(call->reply, "end");
    else
        reply_bulk_int(call->reply, (int64_t)((last + 1) << CURSOR_HASH_CUT));
    reply_array(call->reply, n_found);
    buf_put(call->reply->out, found_buf.at, found_buf.len);
    buf_free(&found_buf);
}

static bool place_read(const struct command_call *call, uint64_t *out)
{
    int64_t v;

    if (!parse_i64(call->args[1], &v) || v < 0) {
        eval_refuse(call, OUTCOME_CURSOR);
        return false;
    }
    *out = (uint64_t)v;
    return true;
}

static bool scan_options_read(const struct command_call *call, struct scan *s)
{
    for (uint32_t i = 2; i < call->n_args; i += 2) {
        const struct bytes word = call->args[i];
        const bool has_value = i + 1 < call->n_args;

        if (has_value && bytes_equal_nocase(word, "count")) {
            int64_t count;
            if (!eval_arg_i64(call, i + 1, &count)) return false;
            if (count < 1) {
                eval_refuse(call, OUTCOME_SYNTAX);
                return false;
            }
            s->count = (uint64_t)count;
        } else if (has_value && bytes_equal_nocase(word, "match")) {
            s->pattern = call->args[i + 1];
            s->matching = !bytes_equal(s->pattern, BYTES_OF("*"));
        } else if (has_value && bytes_equal_nocase(word, "type")) {
            s->type = call->args[i + 1];
            s->typed = true;
        } else {
            eval_refuse(call, OUTCOME_SYNTAX);
            return false;
        }
    }
    return true;
}

/* SCAN place [MATCH pattern] [COUNT count] [TYPE type] */
void eval_scan(const struct command_call *call)
{
    struct scan s = {.count = SCAN_COUNT};

    if (!place_read(call, &s.from) || !scan_options_read(call, &s)) return;
    if (s.count > call->steps_max) s.count = call->steps_max;
    if (s.count == 0) s.count = 1;
    scan_reply(call, &s);
}

/* KEYS place pattern */
void eval_keys(const struct command_call *call)
{
    struct scan s = {.count = call->steps_max > 0 ? call->steps_max : 1};

    check(call->n_args == 3);
    if (!place_read(call, &s.from)) return;
    s.pattern = call->args[2];
    s.matching = !bytes_equal(s.pattern, BYTES_OF("*"));
    scan_reply(call, &s);
}

/* A place between the first key's and the last one's, found without knowing the last: a
 * draw behind it bounds the next draw, so that a few suffice wherever the shard's slots
 * lie. */
static uint64_t random_place(const struct command_call *call, uint64_t first)
{
    uint64_t end = UINT64_C(1) << PLACE_BITS;

    for (int draw = 0; draw < 2 * PLACE_BITS; draw++) {
        const uint64_t at = first + prng_below(call->prng, end - first);
        struct walk w = walk_from(call, at);
        struct bytes key;
        struct item item;

        if (walk_next(&w, &key, &item)) return at;
        end = at;
        if (end == first) break;
    }
    return first;
}

/* A key after a wide gap is drawn more often than one after a narrow gap, and the first
 * one hardly ever; going on from there by a random number of keys evens that out. */
void eval_randomkey(const struct command_call *call)
{
    struct walk w = walk_from(call, 0);
    struct buf picked = scratch_new(call);
    struct bytes key;
    struct item item;
    bool found = false;

    if (walk_next(&w, &key, &item)) {
        uint64_t left = prng_below(call->prng, RANDOM_STEPS);
        w = walk_from(call, random_place(call, w.place.v));
        for (uint32_t step = 0; step < call->steps_max; step++) {
            if (!walk_next(&w, &key, &item)) {
                w = walk_from(call, 0);
                continue;
            }
            if (!lives(call, &item)) continue;
            picked.len = 0;
            buf_put(&picked, key.at, key.len);
            found = true;
            if (left-- == 0) break;
        }
    }
    if (found)
        reply_bulk(call->reply, buf_bytes(&picked));
    else
        reply_null(call->reply);
    buf_free(&picked);
}
