/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/client.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/text.h"
#include "sim/answer.h"
#include "sim/checks.h"
#include "sim/disaster.h"
#include "sim/linear.h"

enum {
    OPS_PER_OBJECT = 48,
    OBJECTS_ACTIVE = 7,
    PENDING_MAX = 8,
    KEYSPACES_MAX = 3,
    ORDER_BYTES_MAX = 160,
    PROBES = 16,
    LARGE_BYTES = 200, /* values longer than this are told apart by a hash */
    JUDGE_BUDGET = 400000,
    BALANCE = 100,
};

enum object_kind { OBJECT_REGISTER = 1, OBJECT_COUNTER, OBJECT_BANK };
enum op_state { OP_OPEN = 1, OP_TOLD, OP_UNKNOWN, OP_DROPPED };

struct object {
    enum object_kind kind;
    char key[40];
    struct linear_op *ops;
    enum op_state *states;
    uint32_t n_ops, cap;
    bool usable, read_finally, read_asked;
    bool own_space;   /* its key's prefix is that of no other: a keyspace may take it */
    uint32_t n_space; /* length of that prefix, without its colon */
    bool made;        /* as far as the operator knows */
};

enum pending_kind {
    PENDING_SINGLE = 1, /* one reply */
    PENDING_WATCH,      /* WATCH, MGET */
    PENDING_WATCHED,    /* MULTI, SET, SET, EXEC */
    PENDING_TRANSFER,   /* MULTI, INCRBY, INCRBY, MGET, EXEC */
    PENDING_UNWATCH,
    PENDING_ORDER,
};

struct pending {
    enum pending_kind kind;
    struct object *object;
    uint32_t op;
    uint32_t replies_left;
    bool refused; /* an earlier reply of the group said no */
    uint64_t asked_ns;
};

struct client {
    struct clients *all;
    uint32_t index;
    struct prng prng;
    struct net_stream *stream; /* NULL: not connected */
    bool up;
    uint64_t dialed_ns;
    uint32_t target;
    struct buf in, out;
    struct pending pending[PENDING_MAX];
    uint32_t n_pending;
    bool alone;      /* between WATCH and EXEC: nothing else on this connection */
    uint64_t serial; /* of values written */
    uint64_t pace; /* some are slow: they still ask when a server has long stood still */
    uint32_t conns;
};

struct order {                  /* of the operator */
    char text[ORDER_BYTES_MAX]; /* words parted by blanks */
    int target;                 /* machine, or -1: any */
    bool once;                  /* whatever the answer, and if there is none */
    bool is_failover, is_force;
    struct object *object; /* whose keyspace comes or goes; NULL: none */
    uint32_t op;
    struct order *next;
};

struct clients {
    struct world *world;
    uint32_t n;
    struct client list[WORLD_CLIENTS_MAX + 1]; /* the operator is the last */
    struct linear_values values;
    struct object **objects;
    uint32_t n_objects, objects_cap;
    struct object *active[OBJECTS_ACTIVE];
    const char *keyspaces[KEYSPACES_MAX]; /* prefixes of keys */
    uint32_t n_keyspaces;
    const char *policy; /* of the plan's keyspace; NULL: it has none */
    bool may_lose;      /* an answer was lost with somebody's consent */
    bool asking, finishing;
    struct order *orders, **orders_end;
    char last_refusal[120];
};

static void on_tick(void *ctx, uint64_t index, uint64_t unused);

/* ---- objects ---- */

static struct object *object_new(struct clients *cs, struct prng *p,
                                 enum object_kind kind)
{
    struct world *w = cs->world;
    struct object *o = mem_zero(&w->mem, sizeof *o);
    char space[24];

    o->own_space = (w->plan->traits & PLAN_KEYSPACES) != 0 && kind != OBJECT_BANK;
    o->n_space =
        (uint32_t)(o->own_space
                       ? snprintf(space, sizeof space, "x%u:", cs->n_objects) - 1
                       : snprintf(space, sizeof space, "%s",
                                  cs->keyspaces[prng_below(p, cs->n_keyspaces)]));
    static const char letters[] = {
        [OBJECT_REGISTER] = 'r', [OBJECT_COUNTER] = 'c', [OBJECT_BANK] = 'b'};

    o->kind = kind;
    o->usable = kind != OBJECT_BANK;
    const int len = snprintf(o->key, sizeof o->key,
                             kind == OBJECT_BANK ? "%s{%c%u}" : "%s%c%u", space,
                             letters[kind], cs->n_objects);
    check(len > 0 && (size_t)len < sizeof o->key);
    if (cs->n_objects == cs->objects_cap) {
        const uint32_t cap = cs->objects_cap > 0 ? cs->objects_cap * 2 : 64;
        cs->objects = mem_resize(&w->mem, cs->objects,
                                 cs->objects_cap * sizeof(struct object *),
                                 cap * sizeof(struct object *));
        cs->objects_cap = cap;
    }
    cs->objects[cs->n_objects++] = o;
    return o;
}

static enum object_kind kind_of_place(const struct clients *cs, uint32_t place)
{
    const bool banks = (cs->world->plan->traits & PLAN_TRANSACTIONS) != 0;

    if (banks && place < 2) return OBJECT_BANK;
    if ((cs->world->plan->traits & PLAN_LOSSY) != 0) return OBJECT_REGISTER;
    return place == OBJECTS_ACTIVE - 1 ? OBJECT_COUNTER : OBJECT_REGISTER;
}

static struct object *object_for(struct clients *cs, struct prng *p)
{
    const uint32_t place = (uint32_t)prng_below(p, OBJECTS_ACTIVE);
    struct object *o = cs->active[place];

    if (o == NULL || o->n_ops >= OPS_PER_OBJECT)
        cs->active[place] = o = object_new(cs, p, kind_of_place(cs, place));
    return o;
}

static uint32_t op_add(struct clients *cs, struct object *o, const struct linear_op *op)
{
    struct mem *mem = &cs->world->mem;

    if (o->n_ops == o->cap) {
        const uint32_t cap = o->cap > 0 ? o->cap * 2 : 16;
        o->ops = mem_resize(mem, o->ops, o->cap * sizeof *o->ops, cap * sizeof *o->ops);
        o->states = mem_resize(mem, o->states, o->cap * sizeof *o->states,
                               cap * sizeof *o->states);
        o->cap = cap;
    }
    o->ops[o->n_ops] = *op;
    o->ops[o->n_ops].call = cs->world->time.now_ns;
    o->ops[o->n_ops].asked = o->n_ops + 1;
    o->states[o->n_ops] = OP_OPEN;
    return o->n_ops++;
}

/* ---- sending ---- */

static void put_args(struct buf *out, uint32_t n)
{
    buf_putf(out, "*%" PRIu32 "\r\n", n);
}

static void put_arg(struct buf *out, struct bytes b)
{
    buf_putf(out, "$%zu\r\n", b.len);
    buf_put(out, b.at, b.len);
    buf_putf(out, "\r\n");
}

static void put_str(struct buf *out, const char *text)
{
    put_arg(out, bytes_of_str(text));
}

/* A command of words parted by blanks. */
static void put_words(struct buf *out, const char *text)
{
    uint32_t n = 1;

    for (const char *p = text; *p != 0; p++)
        n += *p == ' ';
    put_args(out, n);
    while (n-- > 0) {
        const char *end = strchr(text, ' ');
        const size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        put_arg(out, (struct bytes){(const uint8_t *)text, len});
        text += len + (end != NULL);
    }
}

static void put_account(struct buf *out, const struct object *o, uint32_t account)
{
    char key[48];

    snprintf(key, sizeof key, "%s%" PRIu32, o->key, account);
    put_str(out, key);
}

static void flush(struct client *c)
{
    if (c->stream == NULL || !c->up || c->out.len == 0) return;
    const size_t taken = net_send(&c->all->world->net, c->stream, 0, buf_bytes(&c->out));
    buf_cut_front(&c->out, taken);
}

static void expect(struct client *c, enum pending_kind kind, struct object *o,
                   uint32_t op, uint32_t replies)
{
    check(c->n_pending < PENDING_MAX);
    c->pending[c->n_pending++] = (struct pending){.kind = kind,
                                                  .object = o,
                                                  .op = op,
                                                  .replies_left = replies,
                                                  .asked_ns = c->all->world->time.now_ns};
}

/* ---- asking ---- */

/* A value as histories know it: large ones by length and hash. */
static uint32_t value_of(struct clients *cs, struct bytes b)
{
    char text[64];

    if (b.len <= LARGE_BYTES) return linear_value(&cs->values, b);
    snprintf(text, sizeof text, "%zu bytes, %016" PRIx64, b.len, hash64(b));
    return linear_value(&cs->values, bytes_of_str(text));
}

static void draw_value(struct client *c, struct buf *out)
{
    const uint32_t traits = c->all->world->plan->traits;

    buf_putf(out, "%c%" PRIu64 ".", 'A' + (int)c->index, ++c->serial);
    if ((traits & (PLAN_LARGE | PLAN_MIDDLING)) == 0 || prng_chance(&c->prng, 300))
        return;
    size_t len = (size_t)prng_range(&c->prng, 60000, 160000);
    if ((traits & PLAN_LARGE) != 0)
        len = (size_t)prng_range(&c->prng, 1000,
                                 prng_chance(&c->prng, 150) ? 2500000 : 300000);
    uint8_t *at = buf_extend(out, len);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)('a' + (i * 7 + c->serial) % 26);
}

static struct linear_op op_of(const struct client *c, enum linear_kind kind)
{
    return (struct linear_op){.kind = kind,
                              .client = c->index,
                              .conn = (uint64_t)(c->index + 1) << 32 | c->conns};
}

static void ask_read(struct client *c, struct object *o)
{
    const struct linear_op op = op_of(c, LINEAR_READ);

    if (o->kind == OBJECT_BANK) {
        put_args(&c->out, 1 + LINEAR_ACCOUNTS);
        put_str(&c->out, "MGET");
        for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++)
            put_account(&c->out, o, i);
    } else {
        put_args(&c->out, 2);
        put_str(&c->out, "GET");
        put_str(&c->out, o->key);
    }
    expect(c, PENDING_SINGLE, o, op_add(c->all, o, &op), 1);
}

static void ask_set(struct client *c, struct object *o, struct linear_op op,
                    const struct buf *value)
{
    struct clients *cs = c->all;
    const bool deadlines = (cs->world->plan->traits & PLAN_DEADLINES) != 0;
    char ms[24];

    const uint32_t written = value_of(cs, buf_bytes(value));
    op.a = written;
    op.lapses = deadlines && prng_chance(&c->prng, 400);
    const uint32_t extra = op.lapses ? 2 : 0;
    if (op.kind == LINEAR_WRITE_EQUAL) {
        /* What it may be now: something this history has written. */
        uint32_t guess = written;
        for (uint32_t i = o->n_ops; i-- > 0 && guess == written;)
            if (o->ops[i].kind == LINEAR_WRITE && prng_chance(&c->prng, 600))
                guess = o->ops[i].a;
        op.a = guess;
        op.b = written;
    }
    const uint32_t condition = op.kind == LINEAR_WRITE_EQUAL ? 2
                               : op.kind == LINEAR_WRITE_NEW ? 1
                                                             : 0;
    put_args(&c->out, 3 + extra + condition);
    put_str(&c->out, "SET");
    put_str(&c->out, o->key);
    put_arg(&c->out, buf_bytes(value));
    if (op.kind == LINEAR_WRITE_NEW) put_str(&c->out, "NX");
    if (op.kind == LINEAR_WRITE_EQUAL) {
        put_str(&c->out, "IFEQ");
        put_arg(&c->out, linear_value_bytes(&cs->values, op.a));
    }
    if (op.lapses) {
        snprintf(ms, sizeof ms, "%" PRIu64, prng_range(&c->prng, 50, 3000));
        put_str(&c->out, "PX");
        put_str(&c->out, ms);
    }
    expect(c, PENDING_SINGLE, o, op_add(cs, o, &op), 1);
}

/* NAME key [argument] */
static void ask_plain(struct client *c, struct object *o, const struct linear_op *op,
                      const char *name, const struct bytes *argument)
{
    put_args(&c->out, argument != NULL ? 3 : 2);
    put_str(&c->out, name);
    put_str(&c->out, o->key);
    if (argument != NULL) put_arg(&c->out, *argument);
    expect(c, PENDING_SINGLE, o, op_add(c->all, o, op), 1);
}

static bool is_lossy(const struct clients *cs)
{
    return (cs->world->plan->traits & PLAN_LOSSY) != 0;
}

static void ask_register(struct client *c, struct object *o)
{
    const bool large = (c->all->world->plan->traits & (PLAN_LARGE | PLAN_MIDDLING)) != 0;
    const bool absent_often = (c->all->world->plan->traits & PLAN_KEYSPACES) != 0 &&
                              prng_chance(&c->prng, 200);
    const uint64_t what = absent_often ? 90 : prng_below(&c->prng, 100); /* 90: DEL */
    const struct bytes long_time = BYTES_OF("1000000");
    struct buf value = buf_new(&c->all->world->mem);

    draw_value(c, &value);
    const struct bytes v = buf_bytes(&value);
    struct linear_op op = {0};
    if (what < 40) {
        ask_read(c, o);
    } else if (what < 63 || large || is_lossy(c->all)) {
        ask_set(c, o, op_of(c, LINEAR_WRITE), &value);
    } else if (what < 69) {
        ask_set(c, o, op_of(c, LINEAR_WRITE_NEW), &value);
    } else if (what < 77) {
        ask_set(c, o, op_of(c, LINEAR_WRITE_EQUAL), &value);
    } else if (what < 84) {
        op = op_of(c, LINEAR_SWAP);
        op.a = value_of(c->all, v);
        ask_plain(c, o, &op, "GETSET", &v);
    } else if (what < 90) {
        op = op_of(c, LINEAR_APPEND);
        op.a = value_of(c->all, v);
        ask_plain(c, o, &op, "APPEND", &v);
    } else if (what < 97) {
        op = op_of(c, LINEAR_REMOVE);
        ask_plain(c, o, &op, "DEL", NULL);
    } else {
        op = op_of(c, LINEAR_TOUCH);
        ask_plain(c, o, &op, "EXPIRE", &long_time);
    }
    buf_free(&value);
}

static void ask_counter(struct client *c, struct object *o)
{
    const uint64_t what = prng_below(&c->prng, 100);
    struct linear_op op = op_of(c, LINEAR_ADD);

    if (what < 30) {
        ask_read(c, o);
    } else if (what < 60) {
        op.n = 1;
        ask_plain(c, o, &op, "INCR", NULL);
    } else if (what < 95) {
        char text[I64_TEXT_MAX];
        op.n = (int64_t)prng_below(&c->prng, 100) - 30;
        const size_t len = format_i64(text, op.n);
        const struct bytes n = {(const uint8_t *)text, len};
        ask_plain(c, o, &op, "INCRBY", &n);
    } else {
        op.kind = LINEAR_REMOVE;
        ask_plain(c, o, &op, "DEL", NULL);
    }
}

/* ---- banks ---- */

static uint32_t bank_value(struct clients *cs, const int64_t balances[LINEAR_ACCOUNTS])
{
    return linear_value(&cs->values, (struct bytes){(const uint8_t *)balances,
                                                    LINEAR_ACCOUNTS * sizeof(int64_t)});
}

static void ask_open_bank(struct client *c, struct object *o)
{
    const int64_t balances[LINEAR_ACCOUNTS] = {BALANCE, BALANCE, BALANCE, BALANCE};
    struct linear_op op = op_of(c, LINEAR_WRITE);

    op.a = bank_value(c->all, balances);
    put_args(&c->out, 1 + 2 * LINEAR_ACCOUNTS);
    put_str(&c->out, "MSET");
    for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++) {
        put_account(&c->out, o, i);
        put_str(&c->out, "100");
    }
    expect(c, PENDING_SINGLE, o, op_add(c->all, o, &op), 1);
}

static void ask_transfer(struct client *c, struct object *o)
{
    struct linear_op op = op_of(c, LINEAR_TRANSFER);
    char text[I64_TEXT_MAX];

    op.from = (uint8_t)prng_below(&c->prng, LINEAR_ACCOUNTS);
    op.to = (uint8_t)((op.from + prng_range(&c->prng, 1, LINEAR_ACCOUNTS - 1)) %
                      LINEAR_ACCOUNTS);
    op.n = (int64_t)prng_range(&c->prng, 1, 20);
    put_words(&c->out, "MULTI");
    for (uint32_t i = 0; i < 2; i++) {
        const size_t len = format_i64(text, i == 0 ? -op.n : op.n);
        put_args(&c->out, 3);
        put_str(&c->out, "INCRBY");
        put_account(&c->out, o, i == 0 ? op.from : op.to);
        put_arg(&c->out, (struct bytes){(const uint8_t *)text, len});
    }
    put_args(&c->out, 1 + LINEAR_ACCOUNTS);
    put_str(&c->out, "MGET");
    for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++)
        put_account(&c->out, o, i);
    put_words(&c->out, "EXEC");
    expect(c, PENDING_TRANSFER, o, op_add(c->all, o, &op), 5);
}

static void ask_watch(struct client *c, struct object *o)
{
    const struct linear_op op = op_of(c, LINEAR_READ);

    for (uint32_t k = 0; k < 2; k++) {
        put_args(&c->out, 1 + LINEAR_ACCOUNTS);
        put_str(&c->out, k == 0 ? "WATCH" : "MGET");
        for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++)
            put_account(&c->out, o, i);
    }
    expect(c, PENDING_WATCH, o, op_add(c->all, o, &op), 2);
    c->alone = true;
}

/* What was read moves one account's money to another, if nothing has changed. */
static void ask_watched(struct client *c, struct object *o, uint32_t read)
{
    int64_t balances[LINEAR_ACCOUNTS];
    struct linear_op op = op_of(c, LINEAR_WRITE_WATCHED);
    const struct bytes b = linear_value_bytes(&c->all->values, read);
    const uint32_t from = (uint32_t)prng_below(&c->prng, LINEAR_ACCOUNTS);
    const uint32_t to = (from + 1) % LINEAR_ACCOUNTS;

    if (b.len != sizeof balances) {
        put_words(&c->out, "UNWATCH");
        expect(c, PENDING_UNWATCH, NULL, 0, 1);
        return;
    }
    memcpy(balances, b.at, sizeof balances);
    op.a = read;
    balances[from] -= 7;
    balances[to] += 7;
    op.b = bank_value(c->all, balances);
    put_words(&c->out, "MULTI");
    for (uint32_t i = 0; i < 2; i++) {
        char text[I64_TEXT_MAX];
        const uint32_t account = i == 0 ? from : to;
        const size_t len = format_i64(text, balances[account]);
        put_args(&c->out, 3);
        put_str(&c->out, "SET");
        put_account(&c->out, o, account);
        put_arg(&c->out, (struct bytes){(const uint8_t *)text, len});
    }
    put_words(&c->out, "EXEC");
    expect(c, PENDING_WATCHED, o, op_add(c->all, o, &op), 4);
}

static void ask_bank(struct client *c, struct object *o)
{
    const uint64_t what = prng_below(&c->prng, 100);

    if (o->n_ops == 0) {
        ask_open_bank(c, o);
        return;
    }
    if (!o->usable) return; /* its first write is not answered yet */
    if (what < 30)
        ask_read(c, o);
    else if (what < 70 || c->n_pending > 0)
        ask_transfer(c, o);
    else
        ask_watch(c, o);
}

static void ask_of(struct client *c, struct object *o)
{
    switch (o->kind) {
    case OBJECT_REGISTER: ask_register(c, o); break;
    case OBJECT_COUNTER: ask_counter(c, o); break;
    case OBJECT_BANK: ask_bank(c, o); break;
    }
}

static void ask(struct client *c)
{
    ask_of(c, object_for(c->all, &c->prng));
}

/* Much of one object at once, so that the order in which it takes effect shows. */
static void ask_in_a_row(struct client *c)
{
    struct object *o = object_for(c->all, &c->prng);

    for (uint64_t n = prng_range(&c->prng, 2, 6); n > 0 && c->n_pending < PENDING_MAX - 2;
         n--)
        ask_of(c, o);
}

/* ---- answers ---- */

static bool starts(struct bytes b, const char *word)
{
    const size_t len = strlen(word);

    return b.len >= len && memcmp(b.at, word, len) == 0;
}

/* What an error says about whether it happened; unknown codes are a failure of their own. */
static enum op_state state_of_error(struct clients *cs, struct bytes text)
{
    static const char *const no[] = {"NOLEADER ", "NOQUORUM ", "FULL ",      "READONLY ",
                                     "STALE ",    "LOADING ",  "EXECABORT ", "TRYAGAIN "};

    snprintf(cs->last_refusal, sizeof cs->last_refusal, "%.*s",
             (int)(text.len < 110 ? text.len : 110), (const char *)text.at);
    if (starts(text, "UNCERTAIN ")) return OP_UNKNOWN;
    if (starts(text, "STALE ")) cs->world->report.marks[MARK_stale]++;
    for (uint32_t i = 0; i < sizeof no / sizeof no[0]; i++)
        if (starts(text, no[i])) return OP_DROPPED;
    world_fail(cs->world, "a client was answered: %.*s",
               (int)(text.len < 200 ? text.len : 200), (const char *)text.at);
}

static void op_end(struct clients *cs, struct object *o, uint32_t op, enum op_state state)
{
    struct world *w = cs->world;
    static const enum mark marks[] = {[OP_TOLD] = MARK_answered,
                                      [OP_UNKNOWN] = MARK_unknown,
                                      [OP_DROPPED] = MARK_refused};

    check(o->states[op] == OP_OPEN);
    o->states[op] = state;
    o->ops[op].unknown = state == OP_UNKNOWN;
    o->ops[op].done = w->time.now_ns;
    w->report.marks[marks[state]]++;
    if (cs->finishing && o->ops[op].kind == LINEAR_READ) {
        o->read_finally = o->read_finally || state == OP_TOLD;
        o->read_asked = o->read_finally;
    }
}

static _Noreturn void odd_answer(struct clients *cs, const struct object *o,
                                 const struct answer_part *p)
{
    world_fail(cs->world, "%s: an answer of type %c that does not fit: %.*s", o->key,
               p->type, (int)(p->b.len < 100 ? p->b.len : 100), (const char *)p->b.at);
}

/* Four balances in a row; all null: the bank is not there. */
static uint32_t bank_of(struct clients *cs, const struct object *o,
                        const struct answer_part *parts)
{
    int64_t balances[LINEAR_ACCOUNTS];
    uint32_t nulls = 0;

    for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++) {
        nulls += parts[i].type == '_';
        if (parts[i].type != '_' && !parse_i64(parts[i].b, &balances[i]))
            odd_answer(cs, o, &parts[i]);
    }
    if (nulls == LINEAR_ACCOUNTS) return 0;
    if (nulls > 0) world_fail(cs->world, "%s: half of a transaction is visible", o->key);
    return bank_value(cs, balances);
}

static uint32_t value_of_part(struct clients *cs, const struct object *o,
                              const struct answer_part *p)
{
    if (p->type == '_') return 0;
    if (p->type != '$') odd_answer(cs, o, p);
    return value_of(cs, p->b);
}

static void take_told(struct clients *cs, struct object *o, struct linear_op *op,
                      const struct answer_read *a)
{
    const struct answer_part *p = &a->parts[0];
    const bool number = p->type == ':';

    switch (op->kind) {
    case LINEAR_READ:
        if (o->kind == OBJECT_BANK) {
            if (p->type != '*' || a->n != 1 + LINEAR_ACCOUNTS) odd_answer(cs, o, p);
            op->out = bank_of(cs, o, p + 1);
            return;
        }
        op->out = value_of_part(cs, o, p);
        if (op->out == 0) cs->world->report.marks[MARK_lapsed]++;
        return;
    case LINEAR_SWAP: op->out = value_of_part(cs, o, p); return;
    case LINEAR_WRITE:
        if (p->type != '+') odd_answer(cs, o, p);
        o->usable = true;
        return;
    case LINEAR_WRITE_NEW:
    case LINEAR_WRITE_EQUAL:
        if (p->type != '+' && p->type != '_') odd_answer(cs, o, p);
        op->yes = p->type == '+';
        return;
    case LINEAR_APPEND:
    case LINEAR_ADD:
        if (!number) odd_answer(cs, o, p);
        op->number = p->n;
        return;
    case LINEAR_REMOVE:
    case LINEAR_TOUCH:
        if (!number) odd_answer(cs, o, p);
        op->yes = p->n == 1;
        return;
    case LINEAR_WRITE_WATCHED:
    case LINEAR_TRANSFER: check(false); return;
    }
}

static void say_answer(const struct client *c, const struct pending *p,
                       const struct answer_read *a)
{
    struct world *w = c->all->world;
    const struct bytes b = a->parts[0].b;

    world_say(w, "     client %u, %s of op %u at %.3f ms: s%u says %c%.*s", c->index,
              p->object->key, p->op, (double)p->asked_ns / 1e6, c->target + 1,
              a->parts[0].type, (int)(b.len < 60 ? b.len : 60), (const char *)b.at);
}

static void end_single(struct client *c, const struct pending *p,
                       const struct answer_read *a)
{
    struct clients *cs = c->all;

    say_answer(c, p, a);

    if (a->parts[0].type == '-') {
        op_end(cs, p->object, p->op, state_of_error(cs, a->parts[0].b));
        return;
    }
    take_told(cs, p->object, &p->object->ops[p->op], a);
    op_end(cs, p->object, p->op, OP_TOLD);
}

/* The answer of EXEC ends a transaction; those before it only matter if they refuse. */
static void end_exec(struct client *c, const struct pending *p,
                     const struct answer_read *a)
{
    struct clients *cs = c->all;
    struct object *o = p->object;
    struct linear_op *op = &o->ops[p->op];
    const struct answer_part *first = &a->parts[0];

    c->alone = false;
    say_answer(c, p, a);
    if (first->type == '-') {
        op_end(cs, o, p->op, state_of_error(cs, first->b));
        return;
    }
    if (p->refused) world_fail(cs->world, "%s: EXEC ran what had been refused", o->key);
    if (first->type == '_' && op->kind == LINEAR_WRITE_WATCHED) {
        op->yes = false;
        cs->world->report.marks[MARK_watches_broken]++;
        op_end(cs, o, p->op, OP_TOLD);
        return;
    }
    if (first->type != '*') odd_answer(cs, o, first);
    op->yes = true;
    if (op->kind == LINEAR_TRANSFER) {
        if (a->n != 4 + LINEAR_ACCOUNTS) odd_answer(cs, o, first);
        op->out = bank_of(cs, o, &a->parts[4]);
    }
    cs->world->report.marks[MARK_transactions]++;
    op_end(cs, o, p->op, OP_TOLD);
}

static void end_watch(struct client *c, const struct pending *p,
                      const struct answer_read *a)
{
    const bool ok = a->parts[0].type != '-' && !p->refused;

    end_single(c, p, a);
    if (ok) {
        ask_watched(c, p->object, p->object->ops[p->op].out);
        return;
    }
    put_words(&c->out, "UNWATCH");
    expect(c, PENDING_UNWATCH, NULL, 0, 1);
}

/* ---- the operator ---- */

static void order_put(struct clients *cs, int target, bool once, const char *text)
{
    struct order *o = mem_zero(&cs->world->mem, sizeof *o);

    check(strlen(text) < sizeof o->text);
    memcpy(o->text, text, strlen(text) + 1);
    o->target = target;
    o->once = once;
    o->is_failover = strncmp(text, "FAILOVER", 8) == 0;
    o->is_force = o->is_failover && strstr(text, " FORCE") != NULL;
    *cs->orders_end = o;
    cs->orders_end = &o->next;
}

/* A keyspace with the prefix of an object's key comes, or goes.  When it comes, the key is not
 * there at some instant of that, or it is refused because the key is.  When it goes, the key
 * is gone. */
static void order_keyspace(struct client *c, struct object *o, bool drops)
{
    struct clients *cs = c->all;
    char text[ORDER_BYTES_MAX];

    snprintf(text, sizeof text, "KEYSPACE %s %.*s%s", drops ? "DROP" : "CREATE",
             (int)o->n_space, o->key, drops ? "" : " MODE raft");
    order_put(cs, -1, true, text);
    cs->orders->object = o;
}

static void order_some_keyspace(struct client *c)
{
    struct object *o = c->all->active[prng_below(&c->prng, OBJECTS_ACTIVE)];
    struct object *other = c->all->active[prng_below(&c->prng, OBJECTS_ACTIVE)];

    /* Rather a young one, whose first write may just be under way. */
    if (o != NULL && other != NULL && other->n_ops < o->n_ops) o = other;
    if (o == NULL || !o->own_space || o->n_ops >= OPS_PER_OBJECT) return;
    if (o->made && prng_chance(&c->prng, 500)) return;
    order_keyspace(c, o, o->made);
}

static void keyspace_asked(struct client *c, struct order *o)
{
    struct linear_op op = op_of(
        c, strncmp(o->text, "KEYSPACE DROP", 13) == 0 ? LINEAR_WRITE : LINEAR_TOUCH);

    op.a = 0; /* a DROP writes that it is absent */
    o->op = op_add(c->all, o->object, &op);
}

static void keyspace_told(struct clients *cs, const struct order *o,
                          const struct answer_part *p)
{
    struct linear_op *op = &o->object->ops[o->op];
    const bool drops = op->kind == LINEAR_WRITE;
    uint64_t *marks = cs->world->report.marks;

    if (p->type == '+') {
        o->object->made = !drops;
        marks[drops ? MARK_keyspaces_dropped : MARK_keyspaces_made]++;
        op_end(cs, o->object, o->op, OP_TOLD);
    } else if (!drops && starts(p->b, "KEYSEXIST 1 ")) {
        op->yes = true;
        marks[MARK_keyspaces_refused]++;
        op_end(cs, o->object, o->op, OP_TOLD);
    } else if (starts(p->b, "UNCERTAIN ")) {
        o->object->made = !o->object->made;
        op_end(cs, o->object, o->op, OP_UNKNOWN);
    } else { /* there already, or not there, or no leader */
        if (starts(p->b, "ERR ")) o->object->made = true;
        if (starts(p->b, "NOKEYSPACE ")) o->object->made = false;
        op_end(cs, o->object, o->op, OP_DROPPED);
    }
}

static void order_done(struct clients *cs)
{
    struct order *o = cs->orders;

    cs->orders = o->next;
    if (cs->orders == NULL) cs->orders_end = &cs->orders;
    mem_free(&cs->world->mem, o, sizeof *o);
}

/* What is answered with a bare OK has lost nothing that was acknowledged; what is refused has
 * not happened. */
static void force_told(struct clients *cs, const struct answer_part *p)
{
    const bool sure = p->type == '+' && bytes_equal(p->b, BYTES_OF("OK"));
    const bool uncertain = p->type == '-' && starts(p->b, "UNCERTAIN ");

    cs->may_lose = cs->may_lose || uncertain || (p->type == '+' && !sure);
    cs->world->report.marks[MARK_forced] += sure;
    cs->world->report.marks[MARK_forced_loss] += p->type == '+' && !sure;
}

static void end_order(struct client *c, const struct answer_part *p)
{
    struct clients *cs = c->all;
    struct order *o = cs->orders;
    const bool ok = p->type != '-';

    if (o == NULL) return;
    snprintf(cs->last_refusal, sizeof cs->last_refusal, "%.*s",
             (int)(p->b.len < 110 ? p->b.len : 110), (const char *)p->b.at);
    world_say(cs->world, "operator: %s: %s", o->text, cs->last_refusal);
    if (o->object != NULL) keyspace_told(cs, o, p);
    if (ok && strncmp(o->text, "SERVER", 6) == 0)
        cs->world->report.marks[MARK_server_orders]++;
    if (o->is_force) force_told(cs, p);
    if (ok && o->is_failover) cs->world->report.marks[MARK_failovers] += !o->is_force;
    /* Made by an earlier try whose answer was lost. */
    const bool made = strstr(cs->last_refusal, "exists") != NULL &&
                      strncmp(o->text, "KEYSPACE CREATE", 15) == 0;
    if (ok || o->once || made) order_done(cs);
}

/* ---- connections ---- */

static void take_answer(struct client *c, const struct answer_read *a)
{
    struct clients *cs = c->all;

    if (c->n_pending == 0) world_fail(cs->world, "an answer to nothing");
    struct pending *first = &c->pending[0];
    if (a->parts[0].type == '-' && first->replies_left > 1) first->refused = true;
    if (--first->replies_left > 0) return;

    const struct pending p = *first;
    c->n_pending--;
    memmove(c->pending, c->pending + 1, c->n_pending * sizeof *c->pending);
    switch (p.kind) {
    case PENDING_SINGLE: end_single(c, &p, a); break;
    case PENDING_WATCH: end_watch(c, &p, a); break;
    case PENDING_WATCHED:
    case PENDING_TRANSFER: end_exec(c, &p, a); break;
    case PENDING_UNWATCH: c->alone = false; break;
    case PENDING_ORDER: end_order(c, &a->parts[0]); break;
    }
}

static void take_bytes(struct client *c)
{
    struct answer_read a;
    struct buf *arrived = net_readable(c->stream, 0);

    buf_put(&c->in, arrived->at, arrived->len);
    net_took(&c->all->world->net, c->stream, 0, arrived->len);
    for (;;) {
        const enum answer_result r = answer_take(buf_bytes(&c->in), &a);
        if (r == ANSWER_MORE) break;
        if (r == ANSWER_BROKEN)
            world_fail(c->all->world, "a client cannot read its answer");
        take_answer(c, &a);
        buf_cut_front(&c->in, a.used);
    }
    flush(c);
}

/* Nobody will answer any more: what was asked may have happened. */
static void give_up(struct client *c)
{
    struct clients *cs = c->all;

    for (uint32_t i = 0; i < c->n_pending; i++) {
        const struct pending *p = &c->pending[i];
        if (p->object != NULL) {
            const bool read = p->object->ops[p->op].kind == LINEAR_READ;
            op_end(cs, p->object, p->op, read ? OP_DROPPED : OP_UNKNOWN);
        }
        if (p->kind != PENDING_ORDER || cs->orders == NULL || !cs->orders->once) continue;
        if (cs->orders->object != NULL)
            op_end(cs, cs->orders->object, cs->orders->op, OP_UNKNOWN);
        cs->may_lose = cs->may_lose || cs->orders->is_force;
        order_done(cs);
    }
    c->n_pending = 0;
    c->alone = false;
    c->in.len = c->out.len = 0;
    if (c->stream != NULL && c->up) net_close(&cs->world->net, c->stream, 0);
    c->stream = NULL;
    c->up = false;
}

void clients_stream(struct world *w, struct net_stream *s, enum input_kind kind)
{
    struct clients *cs = w->clients;
    const uint32_t index = s->ends[0].node - CLIENT_NODE;

    check(index <= cs->n);
    struct client *c = &cs->list[index];
    if (c->stream != s) { /* one given up before it was there */
        if (kind == INPUT_OPEN) net_close(&w->net, s, 0);
        return;
    }
    switch (kind) {
    case INPUT_OPEN:
        c->up = true;
        flush(c);
        break;
    case INPUT_READ: take_bytes(c); break;
    case INPUT_WRITABLE: flush(c); break;
    case INPUT_CLOSED:
        take_bytes(c);
        give_up(c);
        break;
    case INPUT_DIAL_FAILED:
        c->stream = NULL;
        give_up(c);
        break;
    case INPUT_WAL_DONE:
    case INPUT_JOB_DONE:
    case INPUT_ROLLBACK_DONE: check(false); break;
    }
}

static void dial(struct client *c, uint32_t target)
{
    struct world *w = c->all->world;

    c->target = target;
    c->dialed_ns = w->time.now_ns;
    c->stream = net_dial(&w->net, CLIENT_NODE + c->index, 0, (struct conn_id){++c->conns},
                         target, false);
}

/* ---- time ---- */

static void tick_later(struct client *c)
{
    struct world *w = c->all->world;
    /* Short gaps mostly, so that operations of several clients overlap. */
    const uint64_t gap = c->pace *
                         prng_range(&c->prng, 1, prng_chance(&c->prng, 700) ? 60 : 400);

    timeline_at(&w->time, w->time.now_ns + gap * MS_NS + prng_below(&c->prng, MS_NS),
                on_tick, w, c->index, 0);
}

static bool is_stuck(const struct client *c)
{
    const uint64_t now = c->all->world->time.now_ns;

    if (c->n_pending > 0) return now > c->pending[0].asked_ns + 9 * SEC_NS;
    return c->stream != NULL && !c->up && now > c->dialed_ns + 4 * SEC_NS;
}

static void read_finally(struct client *c)
{
    struct clients *cs = c->all;

    for (uint32_t i = 0; i < cs->n_objects && c->n_pending < PENDING_MAX - 2; i++) {
        struct object *o = cs->objects[i];
        if (o->read_finally || o->read_asked || o->n_ops == 0) continue;
        o->read_asked = true;
        ask_read(c, o);
    }
}

static void tick_client(struct client *c)
{
    struct clients *cs = c->all;

    if (c->stream == NULL) {
        if (prng_chance(&c->prng, 300))
            dial(c, (uint32_t)prng_below(&c->prng, cs->world->plan->machines));
        else
            dial(c, (c->target + 1) % cs->world->plan->machines);
        return;
    }
    if (!c->up || c->alone) return;
    if (cs->finishing) {
        read_finally(c);
    } else if (cs->asking && (cs->world->plan->traits & PLAN_PIPELINES) != 0) {
        ask_in_a_row(c);
    } else if (cs->asking) {
        const uint64_t burst = prng_chance(&c->prng, 250) ? prng_range(&c->prng, 2, 4)
                                                          : 1;
        for (uint64_t i = 0; i < burst && c->n_pending < PENDING_MAX / 2 && !c->alone;
             i++)
            ask(c);
    }
    flush(c);
}

static void tick_operator(struct client *c)
{
    struct clients *cs = c->all;
    const bool keyspaces = (cs->world->plan->traits & PLAN_KEYSPACES) != 0;

    if (cs->orders == NULL && keyspaces && cs->asking) order_some_keyspace(c);
    struct order *o = cs->orders;
    if (o == NULL || c->n_pending > 0) return;
    if (o->target >= 0 && cs->world->machines[o->target].removed) {
        order_done(cs); /* nobody is there to carry it out */
        return;
    }
    if (c->stream != NULL && o->target >= 0 && c->target != (uint32_t)o->target)
        give_up(c);
    if (c->stream == NULL) {
        const uint32_t any = (uint32_t)prng_below(&c->prng, cs->world->plan->machines);
        dial(c, o->target >= 0 ? (uint32_t)o->target : any);
        return;
    }
    if (!c->up) return;
    if (o->object != NULL) keyspace_asked(c, o);
    put_words(&c->out, o->text);
    expect(c, PENDING_ORDER, NULL, 0, 1);
    flush(c);
}

static void on_tick(void *ctx, uint64_t index, uint64_t unused)
{
    struct world *w = ctx;
    struct client *c = &w->clients->list[index];

    (void)unused;
    if (is_stuck(c)) give_up(c);
    if (index == w->clients->n)
        tick_operator(c);
    else
        tick_client(c);
    tick_later(c);
}

/* ---- the whole ---- */

static const char *policy_of(const struct world *w)
{
    struct prng p = prng_for(w->seed, PRNG_LIMITS + 60);
    uint32_t n = 0;

    while (n < PLAN_POLICIES_MAX && w->plan->policies[n] != NULL)
        n++;
    const bool any = (w->plan->traits & PLAN_ANY_POLICY) != 0;
    return w->plan->policies[any ? prng_below(&p, n) : 0];
}

struct clients *clients_new(struct world *w)
{
    struct clients *cs = mem_zero(&w->mem, sizeof *cs);
    struct prng p = prng_for(w->seed, PRNG_CLIENTS);

    cs->world = w;
    cs->n = (uint32_t)prng_range(&p, 2, WORLD_CLIENTS_MAX);
    cs->orders_end = &cs->orders;
    cs->policy = policy_of(w);
    linear_values_init(&cs->values, &w->mem);
    cs->keyspaces[cs->n_keyspaces++] = "";
    for (uint32_t i = 0; i <= cs->n; i++) {
        struct client *c = &cs->list[i];
        c->all = cs;
        c->index = i;
        c->prng = prng_for(w->seed, PRNG_CLIENTS + 1 + i);
        c->pace = i < cs->n && prng_chance(&c->prng, 350) ? 12 : 1;
        c->in = buf_new(&w->mem);
        c->out = buf_new(&w->mem);
        c->target = (uint32_t)prng_below(&c->prng, w->plan->machines);
    }
    timeline_at(&w->time, 0, on_tick, w, cs->n, 0);
    return cs;
}

void clients_begin(struct world *w)
{
    struct clients *cs = w->clients;

    cs->asking = true;
    for (uint32_t i = 0; i < cs->n; i++)
        tick_later(&cs->list[i]);
}

void clients_stop(struct world *w)
{
    w->clients->asking = false;
}

void clients_finish(struct world *w)
{
    w->clients->finishing = true;
}

bool clients_finished(struct world *w)
{
    const struct clients *cs = w->clients;

    for (uint32_t i = 0; i < cs->n_objects; i++)
        if (cs->objects[i]->n_ops > 0 && !cs->objects[i]->read_finally) return false;
    return true;
}

bool clients_quiet(struct world *w)
{
    for (uint32_t i = 0; i <= w->clients->n; i++)
        if (w->clients->list[i].n_pending > 0) return false;
    return true;
}

void clients_make_keyspaces(struct world *w)
{
    struct clients *cs = w->clients;
    char text[ORDER_BYTES_MAX];

    if (cs->policy != NULL) {
        const int len = snprintf(text, sizeof text, "KEYSPACE CREATE own %s", cs->policy);
        if (w->plan->maxlag_ms > 0)
            snprintf(text + len, sizeof text - (size_t)len, " MAXLAG %" PRIu32,
                     w->plan->maxlag_ms);
        order_put(cs, -1, false, text);
        cs->keyspaces[0] = "own:";
    }
    if (w->plan->shards > 1) {
        snprintf(text, sizeof text, "KEYSPACE CREATE wide MODE raft SHARDS %u",
                 w->plan->shards);
        order_put(cs, -1, false, text);
        cs->keyspaces[cs->n_keyspaces++] = "wide:";
    }
    if ((w->plan->traits & PLAN_ROAMERS) != 0) {
        order_put(cs, -1, false, "KEYSPACE CREATE any MODE raft READ any");
        order_put(cs, -1, false, "KEYSPACE CREATE loose MODE primary READ any");
    }
    if ((w->plan->traits & PLAN_LEASE) != 0) {
        order_put(cs, -1, false, "KEYSPACE CREATE lease MODE raft READ lease");
        cs->keyspaces[cs->n_keyspaces++] = "lease:";
    }
}

static void order_for_each_keyspace(struct world *w, const char *before,
                                    const char *after)
{
    struct clients *cs = w->clients;
    char text[ORDER_BYTES_MAX];

    for (uint32_t i = 0; i < cs->n_keyspaces; i++) {
        const char *prefix = cs->keyspaces[i];
        const int len = prefix[0] != 0 ? (int)strlen(prefix) - 1 : 7;
        snprintf(text, sizeof text, "%s %.*s %s", before, len,
                 prefix[0] != 0 ? prefix : "default", after);
        order_put(cs, -1, true, text);
    }
}

void clients_failover(struct world *w, uint32_t machine)
{
    char after[32];

    snprintf(after, sizeof after, "TO %s", w->machines[machine].name);
    order_for_each_keyspace(w, "FAILOVER", after);
}

void clients_force(struct world *w, uint32_t machine)
{
    order_put(w->clients, (int)machine, true, "FAILOVER own FORCE");
}

void clients_replicas(struct world *w, uint32_t replicas)
{
    char after[32];

    snprintf(after, sizeof after, "REPLICAS %u", replicas);
    order_for_each_keyspace(w, "KEYSPACE ALTER", after);
}

void clients_server(struct world *w, enum server_order order, uint32_t machine,
                    uint32_t other)
{
    static const char *const words[] = {
        [ORDER_DRAIN] = "DRAIN",
        [ORDER_ACTIVATE] = "ACTIVATE",
        [ORDER_REMOVE] = "REMOVE",
        [ORDER_REPLACE] = "REPLACE",
    };
    char text[ORDER_BYTES_MAX];
    const bool replaces = order == ORDER_REPLACE;

    w->machines[machine].removal_asked |= order == ORDER_REMOVE || replaces;
    snprintf(text, sizeof text, "SERVER %s %s%s%s", words[order],
             w->machines[machine].name, replaces ? " " : "",
             replaces ? w->machines[other].name : "");
    order_put(w->clients, -1, true, text);
}

void clients_alter(struct world *w, uint32_t policy)
{
    char text[ORDER_BYTES_MAX];

    snprintf(text, sizeof text, "KEYSPACE ALTER own %s", w->plan->policies[policy]);
    order_put(w->clients, -1, true, text);
}

void clients_probe(struct world *w)
{
    struct clients *cs = w->clients;
    char text[ORDER_BYTES_MAX];

    for (uint32_t m = 0; m < w->plan->machines; m++) {
        for (uint32_t k = 0; k < cs->n_keyspaces; k++) {
            const uint32_t n = strcmp(cs->keyspaces[k], "wide:") == 0 ? PROBES : 2;
            for (uint32_t i = 0; i < n; i++) {
                snprintf(text, sizeof text, "SET %sprobe-%u x%u", cs->keyspaces[k], i, m);
                order_put(cs, (int)m, false, text);
            }
        }
    }
}

bool clients_one_voter(const struct world *w)
{
    const char *policy = w->clients->policy;

    return policy != NULL && strstr(policy, "FAILOVER manual") != NULL;
}

bool clients_orders_done(struct world *w)
{
    return w->clients->orders == NULL;
}

void clients_tell(struct world *w, struct buf *out)
{
    const struct clients *cs = w->clients;
    uint32_t unread = 0;

    for (uint32_t i = 0; i < cs->n_objects; i++)
        unread += cs->objects[i]->n_ops > 0 && !cs->objects[i]->read_finally;
    if (cs->finishing)
        buf_putf(out, "%" PRIu32 " of %" PRIu32 " objects are not read; last refusal: %s",
                 unread, cs->n_objects, cs->last_refusal);
    if (cs->orders == NULL) return;
    buf_putf(out, "the operator waits for \"%s\"", cs->orders->text);
    if (cs->orders->target >= 0) buf_putf(out, " of s%d", cs->orders->target + 1);
    buf_putf(out, "; last answer: %s", cs->last_refusal);
}

/* ---- verdict ---- */

static void tell_history(struct world *w, const struct object *o, struct linear_op *ops,
                         uint32_t n, uint32_t placed)
{
    struct buf text = buf_new(&w->mem);

    for (uint32_t i = 0; i < n; i++)
        linear_tell(&text, &w->clients->values, &ops[i]);
    world_fail(w,
               "the history of %s is not linearizable (at most %u of %u placed):\n%.*s",
               o->key, placed, n, (int)(text.len < 5200 ? text.len : 5200),
               (const char *)text.at);
}

/* A state that was the newest at some time since then is not older than that. */
static void let_reads_lag(struct linear_op *ops, uint32_t n, uint64_t lag_ns)
{
    for (uint32_t i = 0; i < n; i++)
        if (ops[i].kind == LINEAR_READ) ops[i].call -= lag_ns;
}

static void judge(struct world *w, struct object *o)
{
    struct clients *cs = w->clients;
    struct linear_op *ops = mem_alloc(&w->mem, (o->n_ops + 1) * sizeof *ops);
    uint32_t n = 0, placed = 0;

    for (uint32_t i = 0; i < o->n_ops; i++) {
        const bool read = o->ops[i].kind == LINEAR_READ;
        if (o->states[i] == OP_TOLD || (o->states[i] == OP_UNKNOWN && !read))
            ops[n++] = o->ops[i];
    }
    enum linear_result r = linear_check(&cs->values, ops, n, 0, JUDGE_BUDGET, &placed);
    if (r == LINEAR_NO && w->plan->maxlag_ms > 0) {
        w->report.marks[MARK_lagged]++;
        let_reads_lag(ops, n, w->plan->maxlag_ms * MS_NS);
        r = linear_check(&cs->values, ops, n, 0, JUDGE_BUDGET, &placed);
    }
    switch (r) {
    case LINEAR_YES: w->report.marks[MARK_histories]++; break;
    case LINEAR_UNDECIDED: w->report.marks[MARK_undecided]++; break;
    case LINEAR_NO: tell_history(w, o, ops, n, placed); break;
    }
    mem_free(&w->mem, ops, (o->n_ops + 1) * sizeof *ops);
}

/* ---- verdict where answers may be lost: never without a trace ---- */

/* Where it is kept: the line's term.  False: nowhere. */
static bool is_kept_aside(const struct world *w, struct bytes value, struct term *term)
{
    static const char word[] = "\"term\":";
    const struct bytes all = buf_bytes(&w->rolled_back);

    for (size_t i = 0; value.len > 0 && i + value.len + 2 <= all.len; i++) {
        if (all.at[i] != '"' || all.at[i + 1 + value.len] != '"' ||
            memcmp(all.at + i + 1, value.at, value.len) != 0)
            continue;
        size_t at = i;
        while (memcmp(all.at + at, word, sizeof word - 1) != 0)
            at--; /* each line has one before its value */
        term->v = 0;
        for (at += sizeof word - 1; all.at[at] >= '0' && all.at[at] <= '9'; at++)
            term->v = term->v * 10 + (uint64_t)(all.at[at] - '0');
        return true;
    }
    return false;
}

/* What the object was found to hold in the end; NULL: nothing. */
static const struct linear_op *last_write(const struct object *o)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < o->n_ops; i++)
        if (o->ops[i].kind == LINEAR_READ && o->states[i] == OP_TOLD)
            value = o->ops[i].out;
    for (uint32_t i = 0; i < o->n_ops; i++)
        if (o->ops[i].kind == LINEAR_WRITE && o->ops[i].a == value) return &o->ops[i];
    return NULL;
}

static bool answers_async(const struct clients *cs)
{
    return cs->policy != NULL && strstr(cs->policy, "ACK async") != NULL;
}

/* Within an epoch only ACK async loses what was answered. */
static bool was_given_up(struct world *w, struct bytes value)
{
    struct term term;

    if (!is_kept_aside(w, value, &term)) return false;
    w->report.marks[MARK_answers_lost]++;
    return answers_async(w->clients) ||
           term_epoch(term) < checks_epoch(w, world_first_group(w));
}

/* An answered write that is not kept aside has taken effect, and so the last value is its own, or
 * that of a write which it did not come after. */
static void judge_lossy(struct world *w, const struct object *o)
{
    const struct linear_op *last = last_write(o);

    for (uint32_t i = 0; i < o->n_ops; i++) {
        const struct linear_op *op = &o->ops[i];
        if (op->kind != LINEAR_WRITE || o->states[i] != OP_TOLD) continue;
        const struct bytes value = linear_value_bytes(&w->clients->values, op->a);
        const bool given_up = was_given_up(w, value) || disaster_lost(w, value, op->done);
        if (last != NULL && (last->unknown || last->done >= op->call)) continue;
        if (given_up) continue;
        world_fail(
            w, "%s: SET %.*s at %.3f ms was answered, is lost, and is not in rollback/",
            o->key, (int)value.len, (const char *)value.at, (double)op->call / 1e6);
    }
    w->report.marks[MARK_histories]++;
}

/* Used before a recovery, and perhaps lost in part. */
static bool spans_disaster(const struct world *w, const struct object *o)
{
    return w->recovered_ns > 0 && o->n_ops > 0 && o->ops[0].call < w->recovered_ns;
}

void clients_judge(struct world *w)
{
    const struct clients *cs = w->clients;
    const bool may_lose = cs->may_lose || answers_async(cs);

    for (uint32_t i = 0; i < cs->n_objects; i++) {
        if (is_lossy(cs)) judge_lossy(w, cs->objects[i]);
        if (!may_lose && !spans_disaster(w, cs->objects[i])) judge(w, cs->objects[i]);
    }
}
