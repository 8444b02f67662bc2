/* SPDX-License-Identifier: Apache-2.0 */
/* fanout - commands that every shard answers a part of: SCAN, KEYS, DBSIZE, RANDOMKEY,
 * FLUSHALL.
 *
 * One part at a time: a request to one shard, whose reply decides on the next.  A reply
 * only puts the fan-out on server->fanouts; fanouts_turn() takes it further, a bounded
 * number of parts in a turn, so that a walk over millions of keys neither nests nor holds
 * up the loop.
 *
 * A SCAN cursor keeps no state here: 12 bits say which keyspace, 52 are the upper bits of
 * a place in the order of its keys (struct key_place).  0 is where a scan begins and
 * ends.  Keyspaces are told apart by their id, so that a scan survives a DROP; once ids
 * are used up by their place in the list, and then a DROP may cost a running scan keys.
 *
 * While it runs its client is held, so that order is kept; when the client goes it ends
 * with the part under way, but for FLUSHALL, which is carried through. */
#include "server/server_state.h"

#include <stdio.h>

#include "base/text.h"

enum {
    PARTS_PER_TURN = 16,
    SCAN_PARTS_MAX = 32, /* shards that one SCAN looks into */
    CURSOR_PLACE_BITS = 52,
    CURSOR_PLACE_CUT = 10, /* low bits of a place that a cursor leaves out */
    CURSOR_KEYSPACES = 1 << 12,
    PLACE_SLOT_SHIFT = 48,
};
#define KEYS_BYTES_MAX (UINT64_C(64) << 20)

enum fanout_kind { FAN_SCAN = 1, FAN_KEYS, FAN_DBSIZE, FAN_RANDOMKEY, FAN_FLUSH };

struct fanout_shard {
    struct group_id group;
    uint32_t ordinal; /* of its keyspace, for a cursor */
    enum policy_read read;
    uint64_t maxlag_ms;
};

struct fanout {
    enum fanout_kind kind;
    struct answer *answer;
    uint8_t resp;
    struct buf text; /* copies of the arguments */
    struct bytes *args;
    uint32_t n_args;
    struct fanout_shard *shards;
    uint32_t n_shards, at, first; /* first: RANDOMKEY begins there */
    uint32_t parts;
    uint64_t place, count;
    /* The part that came back. */
    struct buf part;
    enum outcome outcome;
    /* What was gathered. */
    struct buf keys;
    uint64_t n_keys;
    struct fanout *next; /* in server->fanouts */
    struct fanout *all_next, **all_prev;
};

/* ---- life ---- */

static void fanout_free(struct server *s, struct fanout *f)
{
    *f->all_prev = f->all_next;
    if (f->all_next != NULL) f->all_next->all_prev = f->all_prev;
    buf_free(&f->text);
    buf_free(&f->part);
    buf_free(&f->keys);
    mem_free(s->mem, f->args, f->n_args * sizeof *f->args);
    mem_free(s->mem, f->shards, f->n_shards * sizeof *f->shards);
    mem_free(s->mem, f, sizeof *f);
}

void fanouts_free(struct server *s)
{
    while (s->all_fanouts != NULL) {
        struct fanout *f = s->all_fanouts;
        if (f->answer->client == NULL) answer_free(s, f->answer);
        fanout_free(s, f);
    }
    s->fanouts = NULL;
}

static void args_keep(struct server *s, struct fanout *f, const struct bytes *args,
                      uint32_t n_args)
{
    size_t total = 0;

    for (uint32_t i = 0; i < n_args; i++)
        total += args[i].len;
    buf_reserve(&f->text, total);
    f->args = mem_alloc(s->mem, n_args * sizeof *f->args);
    f->n_args = n_args;
    for (uint32_t i = 0; i < n_args; i++) {
        f->args[i] = (struct bytes){f->text.at + f->text.len, args[i].len};
        buf_put(&f->text, args[i].at, args[i].len);
    }
}

/* The client may go on; the answer is the caller's to fill. */
static struct answer *fanout_end(struct server *s, struct fanout *f)
{
    struct answer *a = f->answer;

    client_let_go(s, a->client);
    fanout_free(s, f);
    return a;
}

static void end_outcome(struct server *s, struct fanout *f, enum outcome o)
{
    answer_error(s, fanout_end(s, f), o);
}

static void end_bytes(struct server *s, struct fanout *f, struct bytes reply)
{
    buf_put(&f->answer->bytes, reply.at, reply.len);
    answer_ready(s, fanout_end(s, f));
}

/* ---- which shards ---- */

static uint32_t ordinal_of(const struct meta *m, uint32_t i)
{
    return m->cluster.next_keyspace <= CURSOR_KEYSPACES ? m->keyspaces[i]->id : i;
}

/* All shards of the keyspaces that have `from` or a later ordinal.  A connection sees its own
 * writes, wherever reads are answered. */
static void shards_list(struct server *s, struct fanout *f, uint32_t from)
{
    const struct meta *m = &s->meta;

    f->shards = mem_alloc(s->mem, m->n_shards * sizeof *f->shards);
    uint32_t n = 0;
    for (uint32_t k = 0; k < m->n_keyspaces; k++) {
        const struct meta_keyspace *keyspace = m->keyspaces[k];
        if (keyspace->state != KEYSPACE_ACTIVE || ordinal_of(m, k) < from) continue;
        for (uint32_t i = 0; n < m->n_shards; i++) {
            const struct meta_shard *shard = meta_shard_of(m, keyspace->id, i);
            if (shard == NULL) break;
            const bool seen = client_position(f->answer->client, shard->group).index.v >
                              0;
            f->shards[n++] = (struct fanout_shard){
                .group = shard->group,
                .ordinal = ordinal_of(m, k),
                .read = keyspace->policy.read == READ_ANY && seen ? READ_LINEARIZABLE
                                                                  : keyspace->policy.read,
                .maxlag_ms = keyspace->policy.maxlag_ms,
            };
        }
    }
    f->shards = mem_resize(s->mem, f->shards, m->n_shards * sizeof *f->shards,
                           n * sizeof *f->shards);
    f->n_shards = n;
}

/* ---- one part ---- */

static void part_submit(struct server *s, struct fanout *f, const struct bytes *args,
                        uint32_t n_args)
{
    const struct fanout_shard *shard = &f->shards[f->at];
    struct request *r = request_new(s, FORWARD_COMMANDS, shard->group, 2);
    const struct forward head = {.kind = FORWARD_COMMANDS, .resp = 2, .n_commands = 1};

    forward_encode(&r->body, &head);
    forward_put_command(&r->body, args, n_args);
    r->origin = FROM_FANOUT;
    r->fanout = f;
    r->writes = f->kind == FAN_FLUSH;
    r->reads_only = !r->writes;
    r->read = shard->read;
    r->maxlag_ms = shard->maxlag_ms;
    f->parts++;
    request_submit(s, r);
}

/* SCAN place MATCH pattern COUNT many: as many as a shard walks in one call. */
static void walk_submit(struct server *s, struct fanout *f, struct bytes pattern)
{
    char place[I64_TEXT_MAX];
    const struct bytes args[6] = {
        BYTES_OF("SCAN"),  {(const uint8_t *)place, format_i64(place, (int64_t)f->place)},
        BYTES_OF("MATCH"), pattern,
        BYTES_OF("COUNT"), BYTES_OF("4096"),
    };
    part_submit(s, f, args, 6);
}

static void scan_submit(struct server *s, struct fanout *f)
{
    char place[I64_TEXT_MAX];
    const struct bytes cursor = f->args[1];

    f->args[1] = (struct bytes){(const uint8_t *)place,
                                format_i64(place, (int64_t)f->place)};
    part_submit(s, f, f->args, f->n_args);
    f->args[1] = cursor;
}

static void part_begin(struct server *s, struct fanout *f)
{
    static const struct bytes dbsize = {(const uint8_t *)"DBSIZE", 6};
    static const struct bytes randomkey = {(const uint8_t *)"RANDOMKEY", 9};

    switch (f->kind) {
    case FAN_SCAN: scan_submit(s, f); return;
    case FAN_KEYS: walk_submit(s, f, f->args[1]); return;
    case FAN_DBSIZE: part_submit(s, f, &dbsize, 1); return;
    case FAN_RANDOMKEY: part_submit(s, f, &randomkey, 1); return;
    case FAN_FLUSH: part_submit(s, f, f->args, f->n_args); return;
    }
}

struct client *fanout_client(const struct fanout *f)
{
    return f->answer->client;
}

void fanout_part(struct server *s, struct fanout *f, const struct forward_reply *reply,
                 enum outcome outcome)
{
    struct client *c = f->answer->client;

    f->outcome = outcome;
    f->part.len = 0;
    if (outcome == OUTCOME_NONE) {
        const struct forward_position *p = &reply->position;
        buf_put(&f->part, reply->bytes.at, reply->bytes.len);
        if (c != NULL)
            client_note(c, f->shards[f->at].group,
                        (struct shard_position){p->index, p->term, p->settled},
                        f->kind == FAN_FLUSH);
    }
    f->next = NULL;
    if (s->fanouts == NULL) s->fanouts_end = &s->fanouts;
    *s->fanouts_end = f;
    s->fanouts_end = &f->next;
}

/* ---- reading a part ---- */

/* "<sign>number CR LF" */
static bool head_read(struct cursor *in, uint8_t sign, int64_t *out)
{
    const size_t left = cursor_left(in);
    const uint8_t *cr = left > 0 ? memchr(in->at, '\r', left) : NULL;

    if (cr == NULL || in->at[0] != sign || in->end - cr < 2) return false;
    if (!parse_i64((struct bytes){in->at + 1, (size_t)(cr - in->at) - 1}, out))
        return false;
    in->at = cr + 2;
    return true;
}

struct walk_part {
    bool end;
    uint64_t place; /* to go on from, unless at the end */
    uint64_t n_keys;
    struct bytes keys; /* as bulk strings */
};

static bool walk_read(struct bytes part, struct walk_part *out)
{
    struct cursor in = cursor_of(part);
    struct bytes place;
    int64_t n, len, v = 0;

    if (!head_read(&in, '*', &n) || n != 2) return false;
    if (!head_read(&in, '$', &len) || len < 0) return false;
    if (!get_bytes(&in, (size_t)len, &place) || cursor_left(&in) < 2) return false;
    in.at += 2;
    out->end = bytes_equal(place, BYTES_OF("end"));
    if (!out->end && (!parse_i64(place, &v) || v < 0)) return false;
    if (!head_read(&in, '*', &n) || n < 0) return false;
    out->place = (uint64_t)v;
    out->n_keys = (uint64_t)n;
    out->keys = (struct bytes){in.at, cursor_left(&in)};
    return true;
}

/* ---- the next part, or the end ---- */

static void shard_next(struct server *s, struct fanout *f)
{
    f->at++;
    f->place = 0;
    part_begin(s, f);
}

static void scan_end(struct server *s, struct fanout *f, uint64_t cursor)
{
    struct answer *a = f->answer;
    struct reply r = {&a->bytes, f->resp};
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)cursor);
    reply_array(&r, 2);
    reply_bulk_str(&r, text);
    reply_array(&r, f->n_keys);
    end_bytes(s, f, buf_bytes(&f->keys));
}

static uint64_t cursor_of_place(uint32_t ordinal, uint64_t place)
{
    return (uint64_t)ordinal << CURSOR_PLACE_BITS | place >> CURSOR_PLACE_CUT;
}

static void scan_step(struct server *s, struct fanout *f, const struct walk_part *part)
{
    if (!part->end) {
        scan_end(s, f, cursor_of_place(f->shards[f->at].ordinal, part->place));
        return;
    }
    if (f->at + 1 == f->n_shards) {
        scan_end(s, f, 0);
        return;
    }
    if (f->n_keys < f->count && f->parts < SCAN_PARTS_MAX) {
        shard_next(s, f);
        return;
    }
    const struct fanout_shard *next = &f->shards[f->at + 1];
    const struct meta_shard *shard = meta_shard(&s->meta, next->group);
    const uint64_t slot = shard == NULL ? 0 : shard->slot_first;
    scan_end(s, f, cursor_of_place(next->ordinal, slot << PLACE_SLOT_SHIFT));
}

static void keys_step(struct server *s, struct fanout *f, const struct walk_part *part)
{
    struct reply r = {&f->answer->bytes, f->resp};

    if (f->keys.len > KEYS_BYTES_MAX) {
        reply_error(&r, "ERR KEYS has found more than 64 MB of keys; use SCAN");
        end_bytes(s, f, (struct bytes){NULL, 0});
    } else if (f->keys.len > REPLY_BYTES_FREE && !mem_room(s->mem, f->keys.len)) {
        end_outcome(s, f, OUTCOME_REPLY_MEMORY); /* it is copied once more at the end */
    } else if (!part->end) {
        f->place = part->place;
        part_begin(s, f);
    } else if (f->at + 1 < f->n_shards) {
        shard_next(s, f);
    } else {
        reply_array(&r, f->n_keys);
        end_bytes(s, f, buf_bytes(&f->keys));
    }
}

static void walk_step(struct server *s, struct fanout *f)
{
    struct walk_part part;

    if (!walk_read(buf_bytes(&f->part), &part)) {
        end_outcome(s, f, OUTCOME_NOLEADER); /* another version's words */
        return;
    }
    buf_put(&f->keys, part.keys.at, part.keys.len);
    f->n_keys += part.n_keys;
    if (f->kind == FAN_SCAN)
        scan_step(s, f, &part);
    else
        keys_step(s, f, &part);
}

static void dbsize_step(struct server *s, struct fanout *f)
{
    struct cursor in = cursor_of(buf_bytes(&f->part));
    struct reply r = {&f->answer->bytes, f->resp};
    int64_t n;

    if (!head_read(&in, ':', &n) || n < 0) {
        end_outcome(s, f, OUTCOME_NOLEADER);
        return;
    }
    f->n_keys += (uint64_t)n;
    if (f->at + 1 < f->n_shards) {
        shard_next(s, f);
        return;
    }
    reply_int(&r, (int64_t)f->n_keys);
    end_bytes(s, f, (struct bytes){NULL, 0});
}

static void randomkey_step(struct server *s, struct fanout *f)
{
    struct reply r = {&f->answer->bytes, f->resp};

    if (!bytes_equal(buf_bytes(&f->part), BYTES_OF("$-1\r\n"))) {
        end_bytes(s, f, buf_bytes(&f->part));
    } else if (f->parts < f->n_shards) {
        f->at = (f->first + f->parts) % f->n_shards;
        part_begin(s, f);
    } else {
        reply_null(&r);
        end_bytes(s, f, (struct bytes){NULL, 0});
    }
}

static void flush_step(struct server *s, struct fanout *f)
{
    if (f->at + 1 < f->n_shards)
        shard_next(s, f);
    else
        end_bytes(s, f, buf_bytes(&f->part));
}

/* The first part that fails ends it; of a FLUSHALL others may have been carried out. */
static bool failed(struct server *s, struct fanout *f)
{
    const bool error = f->part.len > 0 && f->part.at[0] == '-';

    if (f->outcome == OUTCOME_NONE && !error && f->part.len > 0) return false;
    if (f->kind == FAN_FLUSH && f->at > 0)
        end_outcome(s, f, OUTCOME_UNCERTAIN);
    else if (error && f->outcome == OUTCOME_NONE)
        end_bytes(s, f, buf_bytes(&f->part));
    else
        end_outcome(s, f, f->outcome == OUTCOME_NONE ? OUTCOME_NOLEADER : f->outcome);
    return true;
}

static void fanout_step(struct server *s, struct fanout *f)
{
    if (f->answer->client == NULL && f->kind != FAN_FLUSH) {
        end_outcome(s, f, OUTCOME_NOLEADER); /* nobody hears it */
        return;
    }
    if (failed(s, f)) return;
    switch (f->kind) {
    case FAN_SCAN:
    case FAN_KEYS: walk_step(s, f); return;
    case FAN_DBSIZE: dbsize_step(s, f); return;
    case FAN_RANDOMKEY: randomkey_step(s, f); return;
    case FAN_FLUSH: flush_step(s, f); return;
    }
}

void fanouts_turn(struct server *s)
{
    for (uint32_t n = 0; n < PARTS_PER_TURN && s->fanouts != NULL; n++) {
        struct fanout *f = s->fanouts;
        s->fanouts = f->next;
        fanout_step(s, f);
    }
}

/* ---- beginning ---- */

static bool cursor_parse(struct bytes text, uint64_t *out)
{
    uint64_t v = 0;

    if (text.len == 0) return false;
    for (size_t i = 0; i < text.len; i++) {
        const uint64_t digit = (uint64_t)text.at[i] - '0';
        if (digit > 9 || v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

/* Shards before the cursor's place are behind us. */
static void scan_skip(struct server *s, struct fanout *f, uint32_t ordinal,
                      uint64_t place)
{
    const uint64_t slot = place >> PLACE_SLOT_SHIFT;

    while (f->at < f->n_shards && f->shards[f->at].ordinal == ordinal) {
        const struct meta_shard *shard = meta_shard(&s->meta, f->shards[f->at].group);
        if (shard == NULL || slot <= shard->slot_last) {
            f->place = place;
            return;
        }
        f->at++;
    }
}

static uint64_t scan_count(const struct bytes *args, uint32_t n_args)
{
    int64_t count = 10;

    for (uint32_t i = 2; i + 1 < n_args; i += 2)
        if (bytes_equal_nocase(args[i], "count") && !parse_i64(args[i + 1], &count))
            break;
    return count > 0 ? (uint64_t)count : 1;
}

static bool scan_begin(struct server *s, struct fanout *f)
{
    uint64_t cursor;

    if (!cursor_parse(f->args[1], &cursor)) {
        end_outcome(s, f, OUTCOME_CURSOR);
        return false;
    }
    const uint32_t ordinal = (uint32_t)(cursor >> CURSOR_PLACE_BITS);
    const uint64_t mask = (UINT64_C(1) << CURSOR_PLACE_BITS) - 1;
    f->count = scan_count(f->args, f->n_args);
    shards_list(s, f, ordinal);
    scan_skip(s, f, ordinal, (cursor & mask) << CURSOR_PLACE_CUT);
    if (f->at < f->n_shards) return true;
    if (cursor == 0)
        end_outcome(s, f, OUTCOME_NOLEADER); /* the meta view is not here yet */
    else
        scan_end(s, f, 0);
    return false;
}

static bool flush_begin(struct server *s, struct fanout *f)
{
    if (f->n_args > 2 || (f->n_args == 2 && !bytes_equal_nocase(f->args[1], "async") &&
                          !bytes_equal_nocase(f->args[1], "sync"))) {
        end_outcome(s, f, OUTCOME_SYNTAX);
        return false;
    }
    return true;
}

static bool fanout_prepare(struct server *s, struct fanout *f)
{
    if (f->kind == FAN_SCAN) return scan_begin(s, f);
    if (f->kind == FAN_FLUSH && !flush_begin(s, f)) return false;
    shards_list(s, f, 0);
    if (f->n_shards == 0) {
        end_outcome(s, f, OUTCOME_NOLEADER);
        return false;
    }
    if (f->kind == FAN_RANDOMKEY)
        f->at = f->first = (uint32_t)prng_below(&s->prng, f->n_shards);
    return true;
}

static enum fanout_kind kind_of(const struct command *command)
{
    switch ((int)command->id) {
    case COMMAND_SCAN: return FAN_SCAN;
    case COMMAND_KEYS: return FAN_KEYS;
    case COMMAND_DBSIZE: return FAN_DBSIZE;
    case COMMAND_RANDOMKEY: return FAN_RANDOMKEY;
    }
    check(command->id == COMMAND_FLUSHALL || command->id == COMMAND_FLUSHDB);
    return FAN_FLUSH;
}

void fanout_begin(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args)
{
    struct fanout *f = mem_zero(s->mem, sizeof *f);

    f->kind = kind_of(command);
    f->resp = c->resp;
    f->text = buf_new(s->mem);
    f->part = buf_new(s->mem);
    f->keys = buf_new(s->mem);
    args_keep(s, f, args, n_args);
    f->all_next = s->all_fanouts;
    f->all_prev = &s->all_fanouts;
    if (f->all_next != NULL) f->all_next->all_prev = &f->all_next;
    s->all_fanouts = f;
    f->answer = answer_open(c);
    c->held = true;

    if (!fanout_prepare(s, f)) return;
    part_begin(s, f);
    fanouts_turn(s);
}
