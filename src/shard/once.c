/* SPDX-License-Identifier: Apache-2.0 */
/* once - a request that bears an id (CLIENT REQUEST) is carried out once, and its repeats
 * get the first one's answer.
 *
 * What is remembered is a system item of the shard, put by the very entry that bears the
 * request's effects: so both are there or neither is, at every replica, in every snapshot
 * and at every new leader [THESIS 6.3].  A repeat finds it on the newest state, and its
 * answer waits for the commit of what it saw, as any answer does; so one that comes while
 * the first is under way shares its fate.
 *
 *   key     u8 SYSTEM_REQUEST, id
 *   value   u8 format 1, u8 answer kept, u64 fingerprint of the commands, answer
 *
 * Remembered is what was carried out, whether or not it changed anything.  An answer that
 * says no did nothing, and to ask again is to try again.
 *
 * Age.  Clocks of two servers are never compared here: a wall that jumps must not make a
 * shard forget.  Each replica notes how far it had applied at times of its own monotonic
 * clock; what it had applied `keep` ago is old enough, and its leader logs the delete.  A new
 * leader that has not run for so long remembers longer, which is the safe side.
 */
#include "base/hash.h"
#include "shard/shard_internal.h"

enum {
    ONCE_FORMAT = 1,
    ONCE_HEAD = 1 + 1 + 8,
    ONCE_ANSWER_MAX = 4096,
    SWEEP_ENTRY_MAX = 256, /* forgotten in one entry */
    SWEEP_STEPS_MIN = 64,
    SWEEP_CALLS = 600, /* of shard_expire(), for one walk over all */
};
static_assert(ONCE_HEAD + ONCE_ANSWER_MAX <= SYSTEM_VALUE_MAX, "a record is an item");
static_assert(1 + SHARD_ONCE_MAX <= SYSTEM_KEY_MAX, "an id is a key");

struct once_key {
    uint8_t at[1 + SHARD_ONCE_MAX];
    size_t len;
};

static struct once_key key_of(struct bytes id)
{
    struct once_key key = {.at = {SYSTEM_REQUEST}, .len = 1 + id.len};

    check(id.len > 0 && id.len <= SHARD_ONCE_MAX);
    memcpy(key.at + 1, id.at, id.len);
    return key;
}

/* Of what is asked and how it is to be answered; not of the watches, which a repeat has
 * anew. */
static uint64_t fingerprint(const struct shard_request *q, uint8_t resp)
{
    uint64_t h = (uint64_t)resp << 1 | q->exec;

    for (uint32_t i = 0; i < q->n_commands; i++) {
        h = h * 31 + q->n_args[i];
        for (uint32_t k = 0; k < q->n_args[i]; k++)
            h = hash64_seed(q->args[i][k], h);
    }
    return h;
}

static bool answer_again(struct bytes record, uint64_t asked, struct reply *reply)
{
    struct cursor in = cursor_of(record);
    uint8_t format, kept;
    uint64_t first;

    if (!get_u8(&in, &format) || format != ONCE_FORMAT) return false;
    if (!get_u8(&in, &kept) || !get_u64(&in, &first)) return false;
    if (first != asked)
        reply_error(reply, outcome_row(OUTCOME_REQUEST_OTHER)->text);
    else if (!kept)
        return false;
    else
        buf_put(reply->out, in.at, cursor_left(&in));
    return true;
}

bool once_again(struct shard *s, const struct shard_request *q, struct reply *reply)
{
    const struct once_key key = key_of(q->once);
    struct item item;

    if (!store_find_system(s->store, (struct bytes){key.at, key.len}, &item))
        return false;
    if (item.change.v > s->seen.v) s->seen = item.change;
    if (!answer_again(item.value, fingerprint(q, reply->version), reply))
        reply_error(reply, outcome_row(OUTCOME_REQUEST_DONE)->text);
    return true;
}

bool once_room(const struct shard *s)
{
    return store_count_system(s->store) < s->config.once_max;
}

void once_record(struct shard *s, const struct shard_request *q, uint8_t resp,
                 struct bytes answer)
{
    if (answer.len > 0 && answer.at[0] == '-') return;

    const struct once_key key = key_of(q->once);
    const bool kept = answer.len <= ONCE_ANSWER_MAX;
    struct buf value = buf_new(s->config.mem);
    buf_put_u8(&value, ONCE_FORMAT);
    buf_put_u8(&value, kept);
    buf_put_u64(&value, fingerprint(q, resp));
    if (kept) buf_put(&value, answer.at, answer.len);
    const struct effect e = {
        .kind = EFFECT_PUT,
        .flags = EFFECT_SYSTEM | EFFECT_CREATED,
        .type = ITEM_STRING,
        .key = {key.at, key.len},
        .value = buf_bytes(&value),
    };
    if (s->config.bug_once_unlogged)
        store_stage(s->store, s->next_index, &e);
    else
        shard_emit(s, &e);
    buf_free(&value);
}

/* ---- age ---- */

void once_age(struct shard *s, struct instant now)
{
    struct shard_ages *a = &s->ages;
    const uint64_t keep_ns = s->config.once_keep_ns;

    while (a->n > 0 && a->at[a->first].when.ns + keep_ns <= now.ns) {
        a->old = a->at[a->first].applied;
        a->first = (a->first + 1) % SHARD_AGES_MAX;
        a->n--;
    }
    if (now.ns < a->next.ns || a->n == SHARD_AGES_MAX) return;
    const uint32_t last = (a->first + a->n++) % SHARD_AGES_MAX;
    a->at[last] = (struct shard_age){now, s->applied};
    a->next.ns = now.ns + keep_ns / (SHARD_AGES_MAX - 2);
}

/* Goes on with the walk over all that is remembered; what is old is forgotten. */
void once_sweep(struct shard *s)
{
    const uint64_t end = system_kind_place(SYSTEM_REQUEST + 1).v;
    uint64_t steps = SWEEP_STEPS_MIN + store_count_system(s->store) / SWEEP_CALLS;
    uint32_t forgotten = 0, skip = 0;
    struct key_place place;
    struct bytes key;
    struct item item;

    if (s->ages.old.v == 0 || store_count_system(s->store) == 0) return;
    if (s->once_at.v == 0) s->once_at = system_kind_place(SYSTEM_REQUEST);
    while (steps-- > 0 && forgotten < SWEEP_ENTRY_MAX) {
        if (!store_walk(s->store, s->once_at, skip, &place, &key, &item) ||
            place.v >= end) {
            s->once_at.v = 0;
            return;
        }
        if (place.v != s->once_at.v) skip = 0;
        s->once_at = place;
        skip++;
        if (item.change.v > s->ages.old.v) continue;
        uint8_t copy[SYSTEM_KEY_MAX];
        memcpy(copy, key.at, key.len); /* what walk gives is borrowed */
        const struct effect e = {
            .kind = EFFECT_CLEAR, .flags = EFFECT_SYSTEM, .key = {copy, key.len}};
        shard_emit(s, &e);
        skip--; /* it is not there any more */
        forgotten++;
    }
    /* What shares this place with others is left to the next walk. */
    s->once_at.v++;
}
