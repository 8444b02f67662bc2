/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/linear.h"

#include <inttypes.h>

#include "base/hash.h"
#include "base/prng.h"
#include "base/text.h"

void linear_values_init(struct linear_values *v, struct mem *mem)
{
    *v = (struct linear_values){
        .mem = mem, .store = buf_new(mem), .by_hash = hmap_new(mem)};
}

void linear_values_free(struct linear_values *v)
{
    buf_free(&v->store);
    mem_free(v->mem, v->starts, v->cap * sizeof *v->starts);
    hmap_free(&v->by_hash);
    *v = (struct linear_values){0};
}

struct bytes linear_value_bytes(const struct linear_values *v, uint32_t value)
{
    if (value == 0) return (struct bytes){0};
    check(value < v->count);
    const uint64_t from = v->starts[value - 1];
    return (struct bytes){v->store.at + from, v->starts[value] - from};
}

static void values_grow(struct linear_values *v)
{
    const uint32_t cap = v->cap > 0 ? v->cap * 2 : 64;

    v->starts = mem_resize(v->mem, v->starts, v->cap * sizeof *v->starts,
                           cap * sizeof *v->starts);
    v->cap = cap;
    if (v->count > 0) return;
    v->starts[0] = 0;
    v->count = 1;
}

uint32_t linear_value(struct linear_values *v, struct bytes bytes)
{
    uint64_t hash = hash64(bytes);

    /* Hashes that collide take the next free number up: a chain without links. */
    for (;; hash++) {
        const void *found = hmap_find(&v->by_hash, hash);
        if (found == NULL) break;
        const uint32_t value = (uint32_t)(uintptr_t)found;
        if (bytes_equal(linear_value_bytes(v, value), bytes)) return value;
    }
    if (v->count == v->cap) values_grow(v);
    const uint32_t value = v->count++;
    buf_put(&v->store, bytes.at, bytes.len);
    v->starts[value] = v->store.len;
    (void)hmap_put(&v->by_hash, hash, (void *)(uintptr_t)value);
    return value;
}

uint32_t linear_value_of_int(struct linear_values *v, int64_t n)
{
    char text[I64_TEXT_MAX];
    const size_t len = format_i64(text, n);

    return linear_value(v, (struct bytes){(const uint8_t *)text, len});
}

/* ---- what a single copy would do ---- */

struct state {
    uint32_t value; /* 0: absent */
    bool lapses;    /* it may vanish by itself */
};

static uint32_t appended(struct linear_values *v, uint32_t value, uint32_t tail)
{
    struct buf whole = buf_new(v->mem);
    const struct bytes head = linear_value_bytes(v, value);
    const struct bytes more = linear_value_bytes(v, tail);

    buf_put(&whole, head.at, head.len);
    buf_put(&whole, more.at, more.len);
    const uint32_t out = linear_value(v, buf_bytes(&whole));
    buf_free(&whole);
    return out;
}

static bool transferred(struct linear_values *v, const struct linear_op *op,
                        uint32_t value, uint32_t *out)
{
    int64_t balances[LINEAR_ACCOUNTS];
    const struct bytes b = linear_value_bytes(v, value);

    if (b.len != sizeof balances) return false;
    memcpy(balances, b.at, sizeof balances);
    balances[op->from] -= op->n;
    balances[op->to] += op->n;
    *out = linear_value(v, (struct bytes){(const uint8_t *)balances, sizeof balances});
    return true;
}

static bool wrote(struct state *s, uint32_t value, bool lapses)
{
    *s = (struct state){value, lapses};
    return true;
}

static bool added(struct linear_values *v, const struct linear_op *op, struct state *s)
{
    int64_t before = 0;

    if (s->value != 0 && !parse_i64(linear_value_bytes(v, s->value), &before))
        return false;
    if (!op->unknown && op->number != before + op->n) return false;
    s->value = linear_value_of_int(v, before + op->n);
    return true;
}

static bool append_done(struct linear_values *v, const struct linear_op *op,
                        struct state *s)
{
    const uint32_t whole = appended(v, s->value, op->a);

    if (!op->unknown && op->number != (int64_t)linear_value_bytes(v, whole).len)
        return false;
    s->value = whole;
    return true;
}

/* A value was to be written on a condition that holds or not; the client was told which.
 * An unknown outcome whose condition does not hold changes nothing, and may be left out. */
static bool conditional(const struct linear_op *op, struct state *s, bool holds,
                        uint32_t value)
{
    if (!op->unknown && op->yes != holds) return false;
    if (holds) return wrote(s, value, op->lapses);
    return true;
}

/* Whether `op` can be the next one in state *s; if so *s is what it leaves. */
static bool apply(struct linear_values *v, const struct linear_op *op, struct state *s)
{
    const bool known = !op->unknown;

    switch (op->kind) {
    case LINEAR_READ: return op->out == s->value;
    case LINEAR_WRITE: return wrote(s, op->a, op->lapses);
    case LINEAR_WRITE_NEW: return conditional(op, s, s->value == 0, op->a);
    case LINEAR_WRITE_EQUAL:
        return conditional(op, s, s->value != 0 && s->value == op->a, op->b);
    case LINEAR_WRITE_WATCHED:
        if (known && !op->yes) return true; /* it may have changed and changed back */
        if (s->value != op->a) return false;
        return wrote(s, op->b, false);
    case LINEAR_SWAP:
        if (known && op->out != s->value) return false;
        return wrote(s, op->a, false);
    case LINEAR_APPEND: return append_done(v, op, s);
    case LINEAR_ADD: return added(v, op, s);
    case LINEAR_REMOVE:
        if (known && op->yes != (s->value != 0)) return false;
        return wrote(s, 0, false);
    case LINEAR_TOUCH: return !known || op->yes == (s->value != 0);
    case LINEAR_TRANSFER: {
        uint32_t after;
        if (!transferred(v, op, s->value, &after)) return false;
        if (known && op->out != after) return false;
        return wrote(s, after, false);
    }
    }
    check(false);
    return false;
}

/* ---- the set of configurations visited ---- */

struct seen {
    struct mem *mem;
    struct hash128 *cells; /* 0, 0: free */
    uint64_t count, cap;
};

/* True if it was not there before. */
static bool seen_add(struct seen *seen, struct hash128 h);

static void seen_grow(struct seen *seen)
{
    const struct seen old = *seen;

    seen->cap = old.cap > 0 ? old.cap * 2 : 1024;
    seen->count = 0;
    seen->cells = mem_zero(seen->mem, seen->cap * sizeof *seen->cells);
    for (uint64_t i = 0; i < old.cap; i++)
        if ((old.cells[i].lo | old.cells[i].hi) != 0) (void)seen_add(seen, old.cells[i]);
    mem_free(seen->mem, old.cells, old.cap * sizeof *old.cells);
}

static bool seen_add(struct seen *seen, struct hash128 h)
{
    if (seen->count * 2 >= seen->cap) seen_grow(seen);
    if ((h.lo | h.hi) == 0) h.lo = 1;
    uint64_t at = h.lo & (seen->cap - 1);
    for (;; at = (at + 1) & (seen->cap - 1)) {
        const struct hash128 cell = seen->cells[at];
        if (cell.lo == h.lo && cell.hi == h.hi) return false;
        if ((cell.lo | cell.hi) == 0) break;
    }
    seen->cells[at] = h;
    seen->count++;
    return true;
}

/* ---- the search ---- */

static const uint32_t none = UINT32_MAX; /* no moment, no place */

/* An operation twice in the list of times, or once if its outcome is unknown. */
struct moment {
    uint64_t at;
    uint32_t op;
    bool is_done;
};

struct search {
    struct linear_values *values;
    const struct linear_op *ops;
    uint32_t n;
    struct mem *mem;

    /* Known ones: call and answer in order of time, linked; `head` is n_moments. */
    struct moment *moments;
    uint32_t n_moments;
    uint32_t *next, *previous; /* n_moments + 1 of each */
    uint32_t *answer;          /* op -> its second moment */
    /* Unknown ones in order of call. */
    uint32_t *unknown;
    uint32_t n_unknown;
    bool *placed; /* by op */
    uint32_t
        *asked_before; /* op -> the known one that its connection asked before; none */

    struct step {
        uint32_t moment;  /* none: an unknown one */
        uint32_t unknown; /* its place in `unknown` */
        uint8_t variant;  /* 1: the value had lapsed first */
        struct state before;
        struct hash128 set_before;
    } * steps;
    uint32_t n_steps, longest;
    struct hash128 *names; /* of the ops, random */
    struct state state;
    struct hash128 set;
    struct seen seen;
};

static int moment_order(const struct moment *a, const struct moment *b)
{
    if (a->at != b->at) return a->at < b->at ? -1 : 1;
    /* Calls first: equal times overlap. */
    return (int)a->is_done - (int)b->is_done;
}

/* Insertion into runs that double: a merge sort without recursion, stable. */
static void moments_sort(struct mem *mem, struct moment *at, uint32_t n)
{
    struct moment *spare = mem_alloc(mem, n * sizeof *spare);

    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t lo = 0; lo < n; lo += 2 * width) {
            const uint32_t mid = lo + width < n ? lo + width : n;
            const uint32_t hi = lo + 2 * width < n ? lo + 2 * width : n;
            uint32_t a = lo, b = mid;
            for (uint32_t i = lo; i < hi; i++) {
                const bool left = a < mid &&
                                  (b >= hi || moment_order(&at[a], &at[b]) <= 0);
                spare[i] = left ? at[a++] : at[b++];
            }
        }
        memcpy(at, spare, n * sizeof *at);
    }
    mem_free(mem, spare, n * sizeof *spare);
}

static void search_list(struct search *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (s->ops[i].unknown) {
            s->unknown[s->n_unknown++] = i;
            continue;
        }
        s->moments[n++] = (struct moment){s->ops[i].call, i, false};
        s->moments[n++] = (struct moment){s->ops[i].done, i, true};
    }
    s->n_moments = n;
    if (n > 0) moments_sort(s->mem, s->moments, n);
    for (uint32_t i = 0; i <= n; i++) {
        s->next[i] = i == n ? 0 : i + 1;
        s->previous[i] = i == 0 ? n : i - 1;
        if (i < n && s->moments[i].is_done) s->answer[s->moments[i].op] = i;
    }
}

static bool is_before(const struct linear_op *ops, uint32_t a, uint32_t b)
{
    return ops[a].asked != ops[b].asked ? ops[a].asked < ops[b].asked : a < b;
}

/* In the order in which they were asked; where that is not told, by call. */
static void search_order(struct search *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t *before = &s->asked_before[i];
        *before = none;
        if (s->ops[i].unknown || s->ops[i].conn == 0) continue;
        for (uint32_t k = 0; k < s->n; k++) {
            if (s->ops[k].unknown || s->ops[k].conn != s->ops[i].conn) continue;
            if (is_before(s->ops, k, i) &&
                (*before == none || is_before(s->ops, *before, k)))
                *before = k;
        }
    }
}

static void search_open(struct search *s, struct linear_values *values,
                        const struct linear_op *ops, uint32_t n, uint32_t initial)
{
    struct mem *mem = values->mem;
    struct prng prng = prng_seed(n);

    *s = (struct search){.values = values,
                         .ops = ops,
                         .n = n,
                         .mem = mem,
                         .state = {initial, false},
                         .seen.mem = mem};
    s->moments = mem_alloc(mem, (2 * n + 1) * sizeof *s->moments);
    s->next = mem_alloc(mem, (2 * n + 1) * sizeof *s->next);
    s->previous = mem_alloc(mem, (2 * n + 1) * sizeof *s->previous);
    s->answer = mem_alloc(mem, (n + 1) * sizeof *s->answer);
    s->unknown = mem_alloc(mem, (n + 1) * sizeof *s->unknown);
    s->placed = mem_zero(mem, (n + 1) * sizeof *s->placed);
    s->asked_before = mem_alloc(mem, (n + 1) * sizeof *s->asked_before);
    s->steps = mem_alloc(mem, (n + 1) * sizeof *s->steps);
    s->names = mem_alloc(mem, (n + 1) * sizeof *s->names);
    for (uint32_t i = 0; i < n; i++)
        s->names[i] = (struct hash128){prng_next(&prng), prng_next(&prng)};
    search_list(s);
    search_order(s);
}

static void search_close(struct search *s)
{
    const uint32_t n = s->n;

    mem_free(s->mem, s->moments, (2 * n + 1) * sizeof *s->moments);
    mem_free(s->mem, s->next, (2 * n + 1) * sizeof *s->next);
    mem_free(s->mem, s->previous, (2 * n + 1) * sizeof *s->previous);
    mem_free(s->mem, s->answer, (n + 1) * sizeof *s->answer);
    mem_free(s->mem, s->unknown, (n + 1) * sizeof *s->unknown);
    mem_free(s->mem, s->placed, (n + 1) * sizeof *s->placed);
    mem_free(s->mem, s->asked_before, (n + 1) * sizeof *s->asked_before);
    mem_free(s->mem, s->steps, (n + 1) * sizeof *s->steps);
    mem_free(s->mem, s->names, (n + 1) * sizeof *s->names);
    mem_free(s->mem, s->seen.cells, s->seen.cap * sizeof *s->seen.cells);
}

static void unlink_moment(struct search *s, uint32_t m)
{
    s->next[s->previous[m]] = s->next[m];
    s->previous[s->next[m]] = s->previous[m];
}

static void relink_moment(struct search *s, uint32_t m)
{
    s->next[s->previous[m]] = m;
    s->previous[s->next[m]] = m;
}

/* Where the search stands: the next candidate to be tried after what is placed. */
struct candidate {
    bool known;
    uint32_t at; /* moment, or place in `unknown` */
    uint8_t variant;
};

/* Tries to place one operation; true if that leads where nobody has been. */
static bool place(struct search *s, const struct candidate *c)
{
    const uint32_t op = c->known ? s->moments[c->at].op : s->unknown[c->at];
    const uint32_t before = s->asked_before[op];
    struct state after = s->state;

    if (before != none && !s->placed[before]) return false;
    if (c->variant == 1) {
        if (!after.lapses) return false;
        after = (struct state){0};
    }
    if (!apply(s->values, &s->ops[op], &after)) return false;

    const struct hash128 set = {s->set.lo ^ s->names[op].lo, s->set.hi ^ s->names[op].hi};
    const uint64_t salt = (((uint64_t)after.value << 1) | after.lapses) *
                          UINT64_C(0x9e3779b97f4a7c15);
    const struct hash128 at = {set.lo ^ salt, set.hi + salt};
    if (!seen_add(&s->seen, at)) return false;

    s->steps[s->n_steps++] = (struct step){.moment = c->known ? c->at : none,
                                           .unknown = c->known ? none : c->at,
                                           .variant = c->variant,
                                           .before = s->state,
                                           .set_before = s->set};
    s->state = after;
    s->set = set;
    s->placed[op] = true;
    if (c->known) {
        unlink_moment(s, c->at);
        unlink_moment(s, s->answer[op]);
    }
    if (s->n_steps > s->longest) s->longest = s->n_steps;
    return true;
}

/* Takes the last placed one back and gives the candidate behind it; false: none is left. */
static bool take_back(struct search *s, struct candidate *c)
{
    if (s->n_steps == 0) return false;
    const struct step *step = &s->steps[--s->n_steps];
    const bool known = step->moment != none;
    const uint32_t op = known ? s->moments[step->moment].op : s->unknown[step->unknown];

    s->state = step->before;
    s->set = step->set_before;
    s->placed[op] = false;
    if (known) {
        relink_moment(s, s->answer[op]);
        relink_moment(s, step->moment);
    }
    *c = (struct candidate){known, known ? step->moment : step->unknown, step->variant};
    return true;
}

/* The candidate after `c`; false: there is none, some answer must come first. */
static bool advance(const struct search *s, struct candidate *c)
{
    if (c->variant == 0) {
        c->variant = 1;
        return true;
    }
    c->variant = 0;
    c->at = c->known ? s->next[c->at] : c->at + 1;
    return true;
}

/* Moves on to something that can be tried: a call before the first answer, or then one of
 * the unknown ones called before it. */
static bool settle(const struct search *s, struct candidate *c, uint64_t first_answer)
{
    if (c->known) {
        if (c->at != s->n_moments && !s->moments[c->at].is_done) return true;
        *c = (struct candidate){false, 0, 0};
    }
    while (c->at < s->n_unknown && s->placed[s->unknown[c->at]]) {
        c->at++;
        c->variant = 0;
    }
    return c->at < s->n_unknown && s->ops[s->unknown[c->at]].call <= first_answer;
}

static uint64_t first_answer(const struct search *s)
{
    uint32_t m = s->next[s->n_moments];

    while (m != s->n_moments && !s->moments[m].is_done)
        m = s->next[m];
    return m == s->n_moments ? UINT64_MAX : s->moments[m].at;
}

static enum linear_result search_run(struct search *s, uint64_t budget)
{
    const uint32_t head = s->n_moments;
    struct candidate c = {true, s->next[head], 0};
    uint64_t limit = first_answer(s);

    while (s->next[head] != head) {
        if (s->seen.count >= budget) return LINEAR_UNDECIDED;
        if (!settle(s, &c, limit)) {
            if (!take_back(s, &c)) return LINEAR_NO;
            limit = first_answer(s);
            (void)advance(s, &c);
            continue;
        }
        if (!place(s, &c)) {
            (void)advance(s, &c);
            continue;
        }
        c = (struct candidate){true, s->next[head], 0};
        limit = first_answer(s);
    }
    return LINEAR_YES;
}

enum linear_result linear_check(struct linear_values *values, struct linear_op *ops,
                                uint32_t n, uint32_t initial, uint64_t budget,
                                uint32_t *stuck_at)
{
    struct search s;

    /* By insertion: histories are nearly in order already. */
    for (uint32_t i = 1; i < n; i++) {
        const struct linear_op op = ops[i];
        uint32_t at = i;
        for (; at > 0 && ops[at - 1].call > op.call; at--)
            ops[at] = ops[at - 1];
        ops[at] = op;
    }
    search_open(&s, values, ops, n, initial);
    const enum linear_result result = search_run(&s, budget);
    if (stuck_at != NULL) *stuck_at = s.longest;
    search_close(&s);
    return result;
}

/* ---- telling ---- */

static void tell_value(struct buf *out, const struct linear_values *v, uint32_t value)
{
    const struct bytes b = linear_value_bytes(v, value);

    if (value == 0) {
        buf_putf(out, "nothing");
        return;
    }
    if (b.len == LINEAR_ACCOUNTS * sizeof(int64_t)) {
        int64_t balances[LINEAR_ACCOUNTS];
        memcpy(balances, b.at, sizeof balances);
        for (uint32_t i = 0; i < LINEAR_ACCOUNTS; i++)
            buf_putf(out, "%s%" PRId64, i > 0 ? "/" : "", balances[i]);
        return;
    }
    buf_putf(out, "\"%.*s%s\"", (int)(b.len < 24 ? b.len : 24), (const char *)b.at,
             b.len > 24 ? "..." : "");
}

static const char *kind_name(enum linear_kind kind)
{
    switch (kind) {
    case LINEAR_READ: return "read";
    case LINEAR_WRITE: return "write";
    case LINEAR_WRITE_NEW: return "write if absent";
    case LINEAR_WRITE_EQUAL: return "write if equal";
    case LINEAR_WRITE_WATCHED: return "write if unchanged";
    case LINEAR_SWAP: return "swap";
    case LINEAR_APPEND: return "append";
    case LINEAR_ADD: return "add";
    case LINEAR_REMOVE: return "remove";
    case LINEAR_TOUCH: return "touch";
    case LINEAR_TRANSFER: return "transfer";
    }
    check(false);
    return "";
}

static void tell_answer(struct buf *out, const struct linear_values *v,
                        const struct linear_op *op)
{
    switch (op->kind) {
    case LINEAR_READ:
    case LINEAR_SWAP:
    case LINEAR_TRANSFER: tell_value(out, v, op->out); break;
    case LINEAR_APPEND:
    case LINEAR_ADD: buf_putf(out, "%" PRId64, op->number); break;
    case LINEAR_WRITE: buf_putf(out, "ok"); break;
    case LINEAR_WRITE_NEW:
    case LINEAR_WRITE_EQUAL:
    case LINEAR_WRITE_WATCHED:
    case LINEAR_REMOVE:
    case LINEAR_TOUCH: buf_putf(out, "%s", op->yes ? "yes" : "no"); break;
    }
}

void linear_tell(struct buf *out, const struct linear_values *values,
                 const struct linear_op *op)
{
    buf_putf(out, "%10.3f ", (double)op->call / 1e6);
    if (op->unknown)
        buf_putf(out, "%10s", "?");
    else
        buf_putf(out, "%10.3f", (double)op->done / 1e6);
    buf_putf(out, " ms  client %-2" PRIu32 " %s", op->client, kind_name(op->kind));
    if (op->a != 0) buf_putf(out, " ");
    if (op->a != 0) tell_value(out, values, op->a);
    if (op->b != 0) buf_putf(out, " -> ");
    if (op->b != 0) tell_value(out, values, op->b);
    if (op->n != 0) buf_putf(out, " %" PRId64, op->n);
    if (op->kind == LINEAR_TRANSFER) buf_putf(out, " from %u to %u", op->from, op->to);
    buf_putf(out, ": ");
    if (op->unknown)
        buf_putf(out, "unknown");
    else
        tell_answer(out, values, op);
    buf_putf(out, "\n");
}
