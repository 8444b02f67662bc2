/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/roam.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "sim/answer.h"

enum {
    REPEATERS = 3,
    COUNTERS = 3,
    WORDS_PER_TEXT = 150,
    WORD_MAX = 16,
    TOKEN_MAX = 400,
    WAITS_MAX = 8,
    WATCHED_KEYS = 3,
};

enum wait_kind {
    WAIT_OK = 1,  /* +OK, or +QUEUED, which may be refused */
    WAIT_APPEND,  /* the answer of a request with an id */
    WAIT_TEXT,    /* a text, whole */
    WAIT_COUNT,   /* INCR */
    WAIT_READ,    /* GET of a counter */
    WAIT_TOKEN,   /* SESSION TOKEN */
    WAIT_RESUMED, /* SESSION RESUME */
    WAIT_WATCHED, /* GET behind WATCH */
    WAIT_EXEC,
};

enum watch_step { STEP_WATCH = 0, STEP_READ, STEP_EXEC };

struct wait {
    enum wait_kind kind;
    uint32_t counter;
};

struct word {
    char at[WORD_MAX];
    int64_t told; /* where it ends, by the first answer; 0: never told */
};

struct text {
    struct word words[WORDS_PER_TEXT];
    uint32_t n;
    bool read_asked, read;
    struct buf whole;
};

struct roamer {
    struct roamers *all;
    uint32_t index;
    struct prng prng;
    struct net_stream *stream; /* NULL: not connected */
    bool up;
    uint32_t target, conns;
    uint64_t dialed_ns, asked_ns;
    struct buf in, out;
    struct wait waits[WAITS_MAX];
    uint32_t n_waits;
    /* A repeater's request. */
    bool open;
    uint32_t serial, text, word, asked;
    uint64_t first_ns;
    uint32_t reads; /* WAIT_TEXT: which */
    /* A roamer's session. */
    char token[TOKEN_MAX];
    int64_t seen[COUNTERS], covered[COUNTERS]; /* covered: by the token */
    bool lost; /* what it has seen is no more: another one is to begin */
    /* A watcher's transaction. */
    enum watch_step step;
    uint32_t key;
    char read[WORD_MAX]; /* who set what it has read */
    uint64_t hold_until_ns;
};

struct roamers {
    struct world *world;
    struct roamer list[ROAMERS_MAX];
    struct text **texts;
    uint32_t n_texts, texts_cap;
    bool asking, finishing;
    uint64_t patience_ns; /* a request is not repeated later than this */
    struct {
        char by[WORD_MAX]; /* who set the watched key, of what is committed */
        bool known;
    } last[WATCHED_KEYS];
};

static void on_tick(void *ctx, uint64_t index, uint64_t unused);

static bool watches(const struct roamers *rs)
{
    return (rs->world->plan->traits & PLAN_WATCHERS) != 0;
}

static bool repeats(const struct roamer *r)
{
    return r->index < REPEATERS && !watches(r->all);
}

/* The last one goes where an answer may be lost with the primary; then its session has to be
 * told so. */
static bool is_loose(const struct roamer *r)
{
    return r->index == ROAMERS_MAX - 1 || watches(r->all);
}

static void expect(struct roamer *r, enum wait_kind kind, uint32_t counter)
{
    check(r->n_waits < WAITS_MAX);
    r->waits[r->n_waits++] = (struct wait){kind, counter};
    r->asked_ns = r->all->world->time.now_ns;
}

static void flush(struct roamer *r)
{
    if (r->stream == NULL || !r->up || r->out.len == 0) return;
    const size_t taken = net_send(&r->all->world->net, r->stream, 0, buf_bytes(&r->out));
    buf_cut_front(&r->out, taken);
}

/* ---- a repeater asks ---- */

static struct text *text_now(struct roamers *rs)
{
    struct mem *mem = &rs->world->mem;

    if (rs->n_texts > 0 && rs->texts[rs->n_texts - 1]->n < WORDS_PER_TEXT)
        return rs->texts[rs->n_texts - 1];
    if (rs->n_texts == rs->texts_cap) {
        const uint32_t cap = rs->texts_cap > 0 ? rs->texts_cap * 2 : 16;
        rs->texts = mem_resize(mem, rs->texts, rs->texts_cap * sizeof(struct text *),
                               cap * sizeof(struct text *));
        rs->texts_cap = cap;
    }
    struct text *t = mem_zero(mem, sizeof *t);
    t->whole = buf_new(mem);
    rs->texts[rs->n_texts++] = t;
    return t;
}

static void request_new_one(struct roamer *r)
{
    struct text *t = text_now(r->all);

    r->open = true;
    r->serial++;
    r->asked = 0;
    r->first_ns = r->all->world->time.now_ns;
    r->text = r->all->n_texts - 1;
    r->word = t->n++;
    snprintf(t->words[r->word].at, WORD_MAX, "%" PRIu32 "-%" PRIu32 ".", r->index,
             r->serial);
}

/* The same bytes at every try; every fourth is a transaction. */
static void ask(struct roamer *r)
{
    struct world *w = r->all->world;
    const char *word = r->all->texts[r->text]->words[r->word].at;
    const bool exec = r->serial % 4 == 0;

    world_say(w, "     roamer %u asks %s of s%u, try %u", r->index, word, r->target + 1,
              r->asked);
    buf_putf(&r->out, "CLIENT REQUEST id-%s\r\n", word);
    expect(r, WAIT_OK, 0);
    if (exec) {
        buf_putf(&r->out, "MULTI\r\n");
        expect(r, WAIT_OK, 0);
    }
    buf_putf(&r->out, "APPEND text%" PRIu32 " %s\r\n", r->text, word);
    if (exec) {
        expect(r, WAIT_OK, 0);
        buf_putf(&r->out, "EXEC\r\n");
    }
    expect(r, WAIT_APPEND, 0);
    w->report.marks[MARK_repeats] += r->asked++ > 0;
}

/* Once nobody asks any more: what is told after a text was read need not be in it. */
static void read_text(struct roamer *r)
{
    struct roamers *rs = r->all;

    for (uint32_t i = 0; i < REPEATERS; i++)
        if (rs->list[i].open) return;
    for (uint32_t i = 0; i < rs->n_texts; i++) {
        if (rs->texts[i]->read_asked) continue;
        rs->texts[i]->read_asked = true;
        r->reads = i;
        buf_putf(&r->out, "GET text%" PRIu32 "\r\n", i);
        expect(r, WAIT_TEXT, 0);
        return;
    }
}

static void tick_repeater(struct roamer *r)
{
    struct roamers *rs = r->all;
    const uint64_t now = rs->world->time.now_ns;

    if (r->n_waits > 0) return;
    /* What was asked too long ago may be forgotten: it stays unknown. */
    if (r->open && now > r->first_ns + rs->patience_ns) r->open = false;
    if (!r->open && rs->asking) request_new_one(r);
    if (r->open)
        ask(r);
    else if (rs->finishing)
        read_text(r);
}

/* ---- a roamer asks ---- */

static void begin_session(struct roamer *r)
{
    if (r->token[0] == 0) {
        buf_putf(&r->out, "SESSION TOKEN\r\n"); /* this begins one */
        expect(r, WAIT_TOKEN, 0);
        return;
    }
    buf_putf(&r->out, "SESSION RESUME %s\r\n", r->token);
    expect(r, WAIT_RESUMED, 0);
    r->all->world->report.marks[MARK_resumed]++;
}

static void tick_roamer(struct roamer *r)
{
    if (r->n_waits > 0 || !r->all->asking) return;
    for (uint64_t n = prng_range(&r->prng, 1, 3); n > 0; n--) {
        const uint32_t counter = (uint32_t)prng_below(&r->prng, COUNTERS);
        const bool reads = prng_chance(&r->prng, 650);
        buf_putf(&r->out, "%s %s:c%" PRIu32 "\r\n", reads ? "GET" : "INCR",
                 is_loose(r) ? "loose" : "any", counter);
        expect(r, reads ? WAIT_READ : WAIT_COUNT, counter);
    }
    if (!prng_chance(&r->prng, 500)) return;
    buf_putf(&r->out, "SESSION TOKEN\r\n");
    expect(r, WAIT_TOKEN, 0);
}

/* ---- a watcher asks ---- */

/* A change for others to have read. */
static void set_blindly(struct roamer *r)
{
    const uint32_t key = (uint32_t)prng_below(&r->prng, WATCHED_KEYS);

    buf_putf(&r->out, "SET own:w%" PRIu32 " %" PRIu32 "-%" PRIu32 "<*\r\n", key, r->index,
             ++r->serial);
    expect(r, WAIT_OK, 0);
}

static void tick_watcher(struct roamer *r)
{
    const uint64_t now = r->all->world->time.now_ns;

    if (r->n_waits > 0 || !r->all->asking || now < r->hold_until_ns) return;
    switch (r->step) {
    case STEP_WATCH:
        if (prng_chance(&r->prng, 500)) {
            set_blindly(r);
            return;
        }
        r->key = (uint32_t)prng_below(&r->prng, WATCHED_KEYS);
        buf_putf(&r->out, "WATCH own:w%" PRIu32 "\r\n", r->key);
        expect(r, WAIT_OK, 0);
        break;
    case STEP_READ:
        buf_putf(&r->out, "GET own:w%" PRIu32 "\r\n", r->key);
        expect(r, WAIT_WATCHED, 0);
        break;
    case STEP_EXEC:
        buf_putf(&r->out, "MULTI\r\nSET own:w%" PRIu32 " %" PRIu32 "-%" PRIu32 "<%s\r\n",
                 r->key, r->index, ++r->serial, r->read);
        buf_putf(&r->out, "EXEC\r\n");
        expect(r, WAIT_OK, 0);
        expect(r, WAIT_OK, 0);
        expect(r, WAIT_EXEC, 0);
        break;
    }
    /* Time for others to change the key, and then for an election. */
    static const uint64_t late_ms[] = {
        [STEP_WATCH] = 1000, [STEP_READ] = 3000, [STEP_EXEC] = 100};
    const uint64_t most_ms = prng_chance(&r->prng, 600) ? late_ms[r->step] : 100;
    r->hold_until_ns = now + prng_below(&r->prng, most_ms * MS_NS);
    r->step = r->step == STEP_EXEC ? STEP_WATCH : r->step + 1;
}

/* "who<whom it read": the first, or "0" of what is not there. */
static void who_set(struct bytes value, char out[WORD_MAX])
{
    const uint8_t *end = value.len == 0 ? NULL : memchr(value.at, '<', value.len);

    if (end == NULL)
        snprintf(out, WORD_MAX, "0");
    else
        snprintf(out, WORD_MAX, "%.*s", (int)(end - value.at), (const char *)value.at);
}

static void set_committed(struct roamers *rs, uint32_t key, struct bytes value)
{
    const uint8_t *mark = memchr(value.at, '<', value.len);

    check(key < WATCHED_KEYS && mark != NULL);
    const struct bytes read = {mark + 1, (size_t)(value.at + value.len - (mark + 1))};
    if (rs->last[key].known && !bytes_equal(read, BYTES_OF("*")) &&
        !bytes_equal(read, bytes_of_str(rs->last[key].by)))
        world_fail(rs->world,
                   "own:w%" PRIu32
                   ": %.*s was committed behind %s: EXEC passed over a change (O4)",
                   key, (int)value.len, (const char *)value.at, rs->last[key].by);
    who_set(value, rs->last[key].by);
    rs->last[key].known = true;
}

void roamers_committed(struct world *w, const struct raft_entry *e)
{
    static const char prefix[] = "own:w";
    const size_t len = sizeof prefix - 1;
    struct roamers *rs = w->roamers;
    struct effect effect;

    if (rs == NULL || !watches(rs)) return;
    for (uint32_t i = 0; e == NULL && i < WATCHED_KEYS; i++)
        rs->last[i].known = false;
    if (e == NULL || e->kind != RAFT_COMMAND) return;
    struct cursor in = cursor_of(e->payload);
    while (effect_decode(&in, &effect) == EFFECT_OK)
        if (effect.kind == EFFECT_PUT && effect.key.len == len + 1 &&
            memcmp(effect.key.at, prefix, len) == 0)
            set_committed(rs, effect.key.at[len] - '0', effect.value);
}

/* ---- answers ---- */

static bool starts(struct bytes b, const char *word)
{
    const size_t len = strlen(word);

    return b.len >= len && memcmp(b.at, word, len) == 0;
}

/* An error that a client may be told at any time; any other is a failure. */
static void take_error(struct roamer *r, struct bytes text)
{
    static const char *const may_be[] = {"UNCERTAIN ", "NOLEADER ", "NOQUORUM ",
                                         "FULL ",      "STALE ",    "EXECABORT ",
                                         "READONLY ",  "LOADING "};

    if (is_loose(r) && starts(text, "LOST ")) {
        r->lost = true;
        return;
    }
    if (watches(r->all)) r->lost = true; /* it begins anew */
    if (starts(text, "STALE ")) r->all->world->report.marks[MARK_stale]++;
    for (uint32_t i = 0; i < sizeof may_be / sizeof may_be[0]; i++)
        if (starts(text, may_be[i])) return;
    world_fail(r->all->world, "a roamer was answered: %.*s",
               (int)(text.len < 200 ? text.len : 200), (const char *)text.at);
}

static void take_append(struct roamer *r, const struct answer_read *a)
{
    const struct answer_part *p = &a->parts[a->n > 1 ? 1 : 0];
    struct world *w = r->all->world;
    struct word *word = &r->all->texts[r->text]->words[r->word];

    if (p->type == '-') {
        take_error(r, p->b);
        return;
    }
    if (p->type != ':') world_fail(w, "a request has an odd answer");
    world_say(w, "     roamer %u: %s ends at %" PRId64, r->index, word->at, p->n);
    if (word->told != 0 && word->told != p->n)
        world_fail(w,
                   "request %s of text%u was answered %" PRId64 " first and %" PRId64
                   " again (O2)",
                   word->at, r->text, word->told, p->n);
    word->told = p->n;
    if (!prng_chance(&r->prng, 300)) r->open = false;
}

static void take_text(struct roamer *r, const struct answer_part *p)
{
    struct text *t = r->all->texts[r->reads];

    if (p->type == '-') {
        t->read_asked = false; /* somebody asks again */
        take_error(r, p->b);
        return;
    }
    if (p->type == '$') buf_put(&t->whole, p->b.at, p->b.len);
    t->read = true;
}

static void take_counter(struct roamer *r, const struct wait *wait,
                         const struct answer_part *p)
{
    struct world *w = r->all->world;
    int64_t *seen = &r->seen[wait->counter];
    int64_t v = p->type == ':' ? p->n : 0;

    if (p->type == '-') {
        take_error(r, p->b);
        return;
    }
    if (p->type == '$' && !parse_i64(p->b, &v)) world_fail(w, "an odd counter");
    world_say(w, "     roamer %u at s%u: c%u is %" PRId64, r->index, r->target + 1,
              wait->counter, v);
    if (v < *seen || (wait->kind == WAIT_COUNT && v == *seen))
        world_fail(w,
                   "a session that was told %" PRId64 " of %s:c%u is told %" PRId64
                   " by s%u (O3)",
                   *seen, is_loose(r) ? "loose" : "any", wait->counter, v, r->target + 1);
    *seen = v;
}

static void take_token(struct roamer *r, const struct answer_part *p)
{
    if (p->type != '$' || p->b.len >= TOKEN_MAX)
        world_fail(r->all->world, "no token was given");
    memcpy(r->token, p->b.at, p->b.len);
    r->token[p->b.len] = 0;
    memcpy(r->covered, r->seen, sizeof r->seen);
}

static void take_watched(struct roamer *r, const struct answer_part *p)
{
    if (p->type == '-')
        take_error(r, p->b);
    else
        who_set(p->type == '$' ? p->b : (struct bytes){NULL, 0}, r->read);
    world_say(r->all->world, "     watcher %u at s%u: w%" PRIu32 " is by %s", r->index,
              r->target + 1, r->key, r->read);
}

static void take_exec(struct roamer *r, const struct answer_part *p)
{
    uint64_t *marks = r->all->world->report.marks;

    world_say(r->all->world, "     watcher %u at s%u: %" PRIu32 "<%s of w%" PRIu32 ": %c",
              r->index, r->target + 1, r->serial, r->read, r->key, p->type);
    if (p->type == '-')
        take_error(r, p->b);
    else
        marks[p->type == '_' ? MARK_watches_broken : MARK_transactions]++;
}

static void take_answer(struct roamer *r, const struct answer_read *a)
{
    const struct answer_part *p = &a->parts[0];

    if (r->n_waits == 0) world_fail(r->all->world, "an answer to nothing");
    const struct wait wait = r->waits[0];
    memmove(r->waits, r->waits + 1, --r->n_waits * sizeof wait);
    switch (wait.kind) {
    case WAIT_OK:
        if (p->type == '-') take_error(r, p->b);
        break;
    case WAIT_APPEND: take_append(r, a); break;
    case WAIT_TEXT: take_text(r, p); break;
    case WAIT_COUNT:
    case WAIT_READ: take_counter(r, &wait, p); break;
    case WAIT_TOKEN: take_token(r, p); break;
    case WAIT_WATCHED: take_watched(r, p); break;
    case WAIT_EXEC: take_exec(r, p); break;
    case WAIT_RESUMED:
        if (p->type != '+') world_fail(r->all->world, "a session was not resumed");
        break;
    }
}

static void take_bytes(struct roamer *r)
{
    struct answer_read a;
    struct buf *arrived = net_readable(r->stream, 0);

    buf_put(&r->in, arrived->at, arrived->len);
    net_took(&r->all->world->net, r->stream, 0, arrived->len);
    while (answer_take(buf_bytes(&r->in), &a) == ANSWER_WHOLE) {
        take_answer(r, &a);
        buf_cut_front(&r->in, a.used);
    }
}

/* ---- connections ---- */

/* What was asked may have happened; what a session saw since its last token is not its. */
static void give_up(struct roamer *r)
{
    for (uint32_t i = 0; i < r->n_waits; i++)
        if (r->waits[i].kind == WAIT_TEXT) r->all->texts[r->reads]->read_asked = false;
    r->n_waits = 0;
    r->step = STEP_WATCH;
    r->in.len = r->out.len = 0;
    if (r->stream != NULL && r->up) net_close(&r->all->world->net, r->stream, 0);
    r->stream = NULL;
    r->up = false;
    memcpy(r->seen, r->covered, sizeof r->seen);
}

void roamers_stream(struct world *w, struct net_stream *s, enum input_kind kind)
{
    struct roamer *r = &w->roamers->list[s->ends[0].node - ROAM_NODE];

    if (r->stream != s) { /* one given up before it was there */
        if (kind == INPUT_OPEN) net_close(&w->net, s, 0);
        return;
    }
    switch (kind) {
    case INPUT_OPEN:
        r->up = true;
        if (!repeats(r) && !watches(r->all)) begin_session(r);
        flush(r);
        break;
    case INPUT_READ: take_bytes(r); break;
    case INPUT_WRITABLE: flush(r); break;
    case INPUT_CLOSED:
        take_bytes(r);
        give_up(r);
        break;
    case INPUT_DIAL_FAILED:
        r->stream = NULL;
        give_up(r);
        break;
    case INPUT_WAL_DONE:
    case INPUT_JOB_DONE:
    case INPUT_ROLLBACK_DONE: check(false); break;
    }
}

static void dial(struct roamer *r)
{
    struct world *w = r->all->world;

    r->target = (r->target + 1 + (uint32_t)prng_below(&r->prng, w->plan->machines - 1)) %
                w->plan->machines;
    /* Who watches at a primary that is cut off is told most of what nobody else will have. */
    const int leader = world_leader(w, world_first_group(w));
    if (watches(r->all) && leader >= 0 && prng_chance(&r->prng, 500))
        r->target = (uint32_t)leader;
    r->dialed_ns = w->time.now_ns;
    r->stream = net_dial(&w->net, ROAM_NODE + r->index, 0, (struct conn_id){++r->conns},
                         r->target, false);
}

static void forget_session(struct roamer *r)
{
    r->lost = false;
    r->token[0] = 0;
    memset(r->covered, 0, sizeof r->covered);
    r->all->world->report.marks[MARK_sessions_lost]++;
    give_up(r);
}

static bool is_stuck(const struct roamer *r)
{
    const uint64_t now = r->all->world->time.now_ns;

    if (r->n_waits > 0) return now > r->asked_ns + 7 * SEC_NS;
    return r->stream != NULL && !r->up && now > r->dialed_ns + 3 * SEC_NS;
}

static void on_tick(void *ctx, uint64_t index, uint64_t unused)
{
    struct world *w = ctx;
    struct roamer *r = &w->roamers->list[index];

    (void)unused;
    /* Some do not wait for the answer, and some have had enough of a server. */
    const bool impatient = r->n_waits > 0 && prng_chance(&r->prng, 30);
    if (r->lost && r->n_waits == 0) forget_session(r);
    const bool free = r->n_waits == 0 && r->step == STEP_WATCH;
    const bool moves = free && r->up && prng_chance(&r->prng, 200);
    if (is_stuck(r) || impatient || moves) give_up(r);
    if (r->stream == NULL)
        dial(r);
    else if (r->up && watches(r->all))
        tick_watcher(r);
    else if (r->up && repeats(r))
        tick_repeater(r);
    else if (r->up)
        tick_roamer(r);
    flush(r);
    timeline_at(&w->time, w->time.now_ns + prng_range(&r->prng, 2 * MS_NS, 150 * MS_NS),
                on_tick, w, index, 0);
}

/* ---- the whole ---- */

struct roamers *roamers_new(struct world *w)
{
    if ((w->plan->traits & (PLAN_ROAMERS | PLAN_WATCHERS)) == 0) return NULL;

    struct roamers *rs = mem_zero(&w->mem, sizeof *rs);
    rs->world = w;
    /* A repeat may be under way for long: in a link that is cut, in a server that stands. */
    rs->patience_ns = w->machines[0].limits.once_keep_ns / 5;
    for (uint32_t i = 0; i < ROAMERS_MAX; i++) {
        struct roamer *r = &rs->list[i];
        r->all = rs;
        r->index = i;
        r->prng = prng_for(w->seed, PRNG_CLIENTS + 100 + i);
        r->in = buf_new(&w->mem);
        r->out = buf_new(&w->mem);
    }
    return rs;
}

void roamers_begin(struct world *w)
{
    if (w->roamers == NULL) return;
    w->roamers->asking = true;
    for (uint32_t i = 0; i < ROAMERS_MAX; i++)
        timeline_at(&w->time, w->time.now_ns, on_tick, w, i, 0);
}

void roamers_finish(struct world *w)
{
    if (w->roamers == NULL) return;
    w->roamers->asking = false;
    w->roamers->finishing = true;
}

bool roamers_finished(struct world *w)
{
    const struct roamers *rs = w->roamers;

    if (rs == NULL) return true;
    for (uint32_t i = 0; i < ROAMERS_MAX; i++)
        if (rs->list[i].open || rs->list[i].n_waits > 0) return false;
    for (uint32_t i = 0; i < rs->n_texts; i++)
        if (!rs->texts[i]->read) return false;
    return true;
}

/* Where the word ends in the text, 0: nowhere; *times: how often it is there. */
static int64_t place_of(const struct text *t, const char *word, uint32_t *times)
{
    const size_t len = strlen(word);
    int64_t end = 0;

    *times = 0;
    for (size_t at = 0; at + len <= t->whole.len; at++) {
        if (memcmp(t->whole.at + at, word, len) != 0) continue;
        if (at > 0 && t->whole.at[at - 1] != '.') continue;
        ++*times;
        end = (int64_t)(at + len);
    }
    return end;
}

void roamers_judge(struct world *w)
{
    const struct roamers *rs = w->roamers;
    uint64_t told = 0;

    for (uint32_t i = 0; rs != NULL && i < rs->n_texts; i++) {
        const struct text *t = rs->texts[i];
        for (uint32_t k = 0; k < t->n; k++) {
            const struct word *word = &t->words[k];
            uint32_t times;
            const int64_t end = place_of(t, word->at, &times);
            if (times > 1 || (word->told != 0 && (times == 0 || word->told != end)))
                world_fail(w,
                           "request %s was answered %" PRId64 "; text%u has its word %u "
                           "times, up to %" PRId64 " (O1)",
                           word->at, word->told, i, times, end);
            told += word->told != 0;
        }
    }
    w->report.marks[MARK_once] += told;
    const int leader = world_leader(w, world_first_group(w));
    if (rs == NULL || leader < 0) return;
    struct shard *s = world_replica(&w->machines[leader], world_first_group(w));
    w->report.marks[MARK_forgotten] += store_count_system(shard_store(s)) < told;
}
