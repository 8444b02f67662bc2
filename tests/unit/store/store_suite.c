/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/prng.h"
#include "data/copy.h"
#include "mem_test_alloc.h"
#include "store/export.h"
#include "store/store_state.h"
#include "store_suite.h"

enum { USER_KEYS = 160, KEYS = USER_KEYS + 16, LONG_KEYS_FROM = 130 };
enum { QUEUE_MAX = 4096, VALUE_LARGEST = 3 << 20 };

/* ---- the keys there can be ---- */

struct key {
    uint8_t *at;
    size_t len;
    uint64_t place;
};

static struct key keys[KEYS]; /* in the order of places: system items are the last */

static bool is_system(uint32_t k)
{
    return k >= USER_KEYS;
}

static int by_place(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return bytes_compare((struct bytes){x->at, x->len}, (struct bytes){y->at, y->len});
}

/* Pairs with the same slot and the same 48 bits of hash, found by trying 2^26 keys. */
static const char *const twins[] = {
    "{c}01821225", "{c}0385b11f", "{c}0218f1b3", "{c}02bb2f89",
    "{c}01fe56d5", "{c}02bafc6e", "{c}01674950", "{c}024aa04f",
};
enum { N_TWINS = sizeof twins / sizeof twins[0] };

static void make_keys(void)
{
    struct prng rng = prng_seed(7);

    for (uint32_t i = 0; i < KEYS; i++) {
        size_t len = i == N_TWINS ? 0 : prng_range(&rng, 1, 40);
        if (i < N_TWINS) len = strlen(twins[i]);
        if (i >= LONG_KEYS_FROM) len = prng_range(&rng, 399, i % 4 == 0 ? KEY_MAX : 1200);
        if (i == USER_KEYS - 1) len = KEY_MAX;
        if (is_system(i)) len = i == KEYS - 1 ? SYSTEM_KEY_MAX : prng_range(&rng, 2, 60);
        keys[i].len = len;
        keys[i].at = malloc(len + 1);
        if (i < N_TWINS)
            memcpy(keys[i].at, twins[i], len);
        else
            for (size_t j = 0; j < len; j++)
                keys[i].at[j] = (uint8_t)prng_next(&rng); /* zeros and all */
        if (i >= N_TWINS && len > 1) keys[i].at[len - 1] = (uint8_t)i;
        /* Long keys that differ only beyond where they are cut. */
        if (i > LONG_KEYS_FROM && i % 2 == 0 && !is_system(i))
            memcpy(keys[i].at, keys[i - 1].at, 399);
        if (is_system(i)) keys[i].at[0] = (uint8_t)(1 + i % 3); /* its kind */
        const struct bytes key = {keys[i].at, len};
        keys[i].place = is_system(i) ? system_place_of(key).v : key_place_of(key).v;
    }
    qsort(keys, KEYS, sizeof keys[0], by_place);
}

static void free_keys(void)
{
    for (uint32_t i = 0; i < KEYS; i++)
        free(keys[i].at);
}

static struct bytes key_bytes(uint32_t k)
{
    return (struct bytes){keys[k].at, keys[k].len};
}

/* ---- the model ---- */

struct cell {
    bool there;
    bool staged; /* by an entry that is not committed */
    int64_t deadline_ms;
    uint64_t change;
    uint32_t seed;
    size_t len;
};

struct model {
    struct cell cells[KEYS];
    uint64_t index, count, system;
};

struct staged {
    uint64_t index;
    enum effect_kind kind;
    uint32_t key;
    uint32_t seed;
    size_t len;
    int64_t deadline_ms;
    bool created;
};

static uint8_t value_room[VALUE_LARGEST];

static struct bytes value_of(uint32_t seed, size_t len)
{
    uint64_t v = seed;

    for (size_t i = 0; i < len; i += 8) {
        v = v * UINT64_C(6364136223846793005) + 1442695040888963407;
        memcpy(value_room + i, &v, len - i < 8 ? len - i : 8);
    }
    return (struct bytes){value_room, len};
}

static void model_do(struct model *m, const struct staged *op)
{
    struct cell *c = &m->cells[op->key];

    switch (op->kind) {
    case EFFECT_PUT:
    case EFFECT_ADD:
        if (is_system(op->key))
            m->system += op->created;
        else
            m->count += op->created;
        *c = (struct cell){true, false, op->deadline_ms, op->index, op->seed, op->len};
        break;
    case EFFECT_DEADLINE:
        if (!c->there) break;
        c->deadline_ms = op->deadline_ms;
        c->change = op->index;
        break;
    case EFFECT_CLEAR:
        if (is_system(op->key))
            m->system--;
        else
            m->count--;
        c->there = false;
        break;
    case EFFECT_WIPE:
        m->count = 0;
        memset(m->cells, 0, USER_KEYS * sizeof m->cells[0]);
        break;
    case EFFECT_REMOVE:
    case EFFECT_KIND_END: abort();
    }
    m->index = op->index;
}

/* ---- a store beside its model ---- */

struct world {
    struct suite_engine engine;
    struct mem mem;
    struct store *store;
    struct group_id group;
    struct model base, frozen, committed, newest;
    bool has_frozen, has_base;
    struct staged *queue;
    uint32_t queued;
    bool wipe_staged;
    struct prng rng;
    int64_t now_ms;
};

static void open_store(struct world *w)
{
    const struct store_config config = {w->group, w->engine.kv, &w->mem};
    bool found;

    w->store = store_open(&config, &found);
    assert_int_equal(found, w->has_base);
}

static struct world *world_new(const struct suite_engine *engine, uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);

    w->engine = *engine;
    w->engine.open(&w->engine);
    w->mem = mem_for_test();
    w->group.v = 3;
    w->rng = prng_seed(seed);
    w->now_ms = 1000;
    w->queue = malloc(QUEUE_MAX * sizeof *w->queue);
    open_store(w);
    return w;
}

static void world_free(struct world *w)
{
    store_free(w->store);
    assert_int_equal(w->mem.used, 0);
    w->engine.close(&w->engine);
    free(w->queue);
    free(w);
}

static int run(struct world *w, struct kv_job *job)
{
    return w->engine.run(&w->engine, job);
}

/* A job that does all of its work and then is rolled back. */
struct failing {
    struct kv_job kv;
    struct kv_job *inner;
};

static int run_failing(struct kv_job *kv, struct kv_txn *txn)
{
    struct failing *f = (struct failing *)kv;

    assert_int_equal(f->inner->run(f->inner, txn), 0);
    return ENOSPC;
}

static void fail_job(struct world *w, struct store *s, struct kv_job *job)
{
    struct failing f = {{run_failing, job->writes, job->ops, 0}, job};

    assert_int_equal(run(w, &f.kv), ENOSPC);
    store_job_done(s, job, ENOSPC);
}

static void do_job(struct world *w, struct store *s, struct kv_job *job)
{
    assert_non_null(job);
    assert_int_equal(run(w, job), 0);
    store_job_done(s, job, 0);
}

static struct store_base base_of(const struct model *m)
{
    return (struct store_base){{m->index}, {m->index / 100}, BYTES_OF("members")};
}

static void check_base(const struct world *w)
{
    const struct store_base base = store_base(w->store);

    assert_int_equal(base.index.v, w->base.index);
    assert_int_equal(base.term.v, w->base.index / 100);
    assert_int_equal(base.extra.len, w->has_base ? 7 : 0);
}

/* ---- doing the same to both ---- */

static struct staged random_op(struct world *w, uint64_t index)
{
    struct prng *rng = &w->rng;
    struct staged op = {.index = index, .key = (uint32_t)prng_below(rng, KEYS)};
    const struct cell *c = &w->newest.cells[op.key];
    const uint64_t dice = prng_below(rng, 1000);

    op.seed = (uint32_t)prng_next(rng);
    op.len = prng_below(rng, dice % 10 == 0 ? 20000 : 100);
    if (dice % 200 == 107)
        op.len = prng_range(rng, (1 << 20) - 1,
                            prng_chance(rng, 500) ? 1 << 20 : VALUE_LARGEST);
    if (prng_chance(rng, 400)) op.deadline_ms = w->now_ms + (int64_t)prng_below(rng, 50);
    op.created = !c->there;
    if (is_system(op.key)) {
        op.len = prng_below(rng, dice % 10 == 0 ? SYSTEM_VALUE_MAX + 1 : 100);
        op.deadline_ms = 0;
        op.kind = dice < 350 && c->there ? EFFECT_CLEAR : EFFECT_PUT;
    } else if (dice < 4)
        op.kind = EFFECT_WIPE;
    else if (dice < 250 && c->there)
        op.kind = EFFECT_CLEAR;
    else if (dice < 400 && c->there)
        op.kind = EFFECT_DEADLINE;
    else
        op.kind = dice < 500 ? EFFECT_ADD : EFFECT_PUT;
    return op;
}

static struct effect effect_of(const struct staged *op)
{
    const bool has_value = op->kind == EFFECT_PUT || op->kind == EFFECT_ADD;
    const bool wipes = op->kind == EFFECT_WIPE;
    const int system = is_system(op->key) && !wipes ? EFFECT_SYSTEM : 0;

    return (struct effect){
        .kind = op->kind,
        .flags = (uint8_t)((has_value && op->created ? EFFECT_CREATED : 0) | system),
        .type = has_value ? ITEM_STRING : ITEM_NONE,
        .key = wipes ? (struct bytes){NULL, 0} : key_bytes(op->key),
        .deadline_ms = op->deadline_ms,
        .value = has_value ? value_of(op->seed, op->len) : (struct bytes){NULL, 0},
    };
}

static void stage(struct world *w, struct staged op)
{
    const struct effect e = effect_of(&op);

    assert_true(w->queued < QUEUE_MAX);
    store_stage(w->store, (struct log_index){op.index}, &e);
    w->queue[w->queued++] = op;
    model_do(&w->newest, &op);
    w->newest.cells[op.key].staged = true;
    if (op.kind == EFFECT_WIPE) w->wipe_staged = true;
}

/* The newest state is what is committed, and then the queue over it. */
static void restage(struct world *w)
{
    w->newest = w->committed;
    w->wipe_staged = false;
    for (uint32_t i = 0; i < w->queued; i++) {
        model_do(&w->newest, &w->queue[i]);
        w->newest.cells[w->queue[i].key].staged = true;
        if (w->queue[i].kind == EFFECT_WIPE) w->wipe_staged = true;
    }
}

static void commit(struct world *w, uint64_t upto)
{
    uint32_t n = 0;

    store_commit(w->store, (struct log_index){upto});
    while (n < w->queued && w->queue[n].index <= upto)
        model_do(&w->committed, &w->queue[n++]);
    memmove(w->queue, w->queue + n, (w->queued - n) * sizeof *w->queue);
    w->queued -= n;
    restage(w);
}

static void drop(struct world *w)
{
    store_drop_staged(w->store);
    w->queued = 0;
    restage(w);
}

static void apply(struct world *w, struct staged op)
{
    const struct effect e = effect_of(&op);

    store_apply(w->store, (struct log_index){op.index}, &e);
    model_do(&w->committed, &op);
    restage(w);
}

static struct kv_job *begin_checkpoint(struct world *w)
{
    const struct store_base base = base_of(&w->committed);

    if (!w->has_frozen) w->frozen = w->committed;
    struct kv_job *job = store_checkpoint(w->store, &base);
    assert_non_null(job);
    w->has_frozen = true;
    return job;
}

static void end_checkpoint(struct world *w)
{
    w->base = w->frozen;
    w->has_frozen = false;
    w->has_base = true;
}

static void checkpoint(struct world *w)
{
    do_job(w, w->store, begin_checkpoint(w));
    end_checkpoint(w);
}

/* What was not in a checkpoint is gone; the log would bring it back. */
static void crash(struct world *w)
{
    store_free(w->store);
    w->engine.reopen(&w->engine);
    open_store(w);
    w->has_frozen = false;
    w->queued = 0;
    w->committed = w->base;
    restage(w);
}

static void sweep(struct world *w, struct store *s)
{
    for (struct kv_job *job; (job = store_sweep(s)) != NULL;)
        do_job(w, s, job);
}

static uint64_t digest_of(struct world *w, struct store *s, uint64_t *n)
{
    struct store_base base;
    uint64_t digest;

    do_job(w, s, store_digest(s));
    assert_true(store_digest_result(s, &base, &digest, n));
    assert_int_equal(base.index.v, store_base(s).index.v);
    return digest;
}

/* ---- comparing ---- */

/* A value that was left out is read, whole and in part. */
static void same_far_value(struct store *s, uint32_t k, struct bytes value)
{
    struct mem mem = mem_for_test();
    struct buf read = buf_new(&mem);
    const uint64_t from = value.len / 3, len = value.len / 2;

    store_read(s, key_bytes(k), 0, value.len, &read);
    assert_true(bytes_equal(buf_bytes(&read), value));
    read.len = 0;
    store_read(s, key_bytes(k), from, len, &read);
    assert_true(bytes_equal(buf_bytes(&read), (struct bytes){value.at + from, len}));
    buf_free(&read);
}

static void same_item(struct store *s, uint32_t k, const struct cell *c,
                      const struct item *item)
{
    const struct bytes value = value_of(c->seed, c->len);

    assert_int_equal(item->type, ITEM_STRING);
    assert_int_equal(item->deadline_ms, c->deadline_ms);
    assert_int_equal(item->change.v, c->change);
    assert_int_equal(item->value.len, value.len);
    if (item->value.at != NULL || value.len == 0)
        assert_true(bytes_equal(item->value, value));
    else
        same_far_value(s, k, value);
}

static void compare_finds(struct store *s, const struct model *m)
{
    for (uint32_t k = 0; k < KEYS; k++) {
        struct item item;
        assert_int_equal(is_system(k) ? store_find_system(s, key_bytes(k), &item)
                                      : store_find(s, key_bytes(k), &item),
                         m->cells[k].there);
        if (m->cells[k].there) same_item(s, k, &m->cells[k], &item);
    }
    assert_int_equal(store_count(s), m->count);
    assert_int_equal(store_count_system(s), m->system);
}

static void compare_walk_over(struct store *s, const struct model *m, uint32_t first,
                              uint32_t end, struct key_place from)
{
    uint32_t skip = 0;

    for (uint32_t k = first; k < end; k++) {
        struct key_place place;
        struct bytes key;
        struct item item;

        if (!m->cells[k].there) continue;
        assert_true(store_walk(s, from, skip, &place, &key, &item));
        assert_int_equal(place.v, keys[k].place);
        assert_true(bytes_equal(key, key_bytes(k)));
        same_item(s, k, &m->cells[k], &item);
        skip = place.v == from.v ? skip + 1 : 1;
        from = place;
    }
    struct key_place place;
    struct bytes key;
    struct item item;
    assert_false(store_walk(s, from, skip, &place, &key, &item));
}

static void compare_walk(struct store *s, const struct model *m)
{
    compare_walk_over(s, m, 0, USER_KEYS, (struct key_place){0});
    compare_walk_over(s, m, USER_KEYS, KEYS, system_kind_place(0));
}

/* The engine holds what the checkpoint should, and nothing that nobody would sweep. */
static void compare_engine(struct world *w)
{
    const struct kv kv = w->engine.kv;
    struct kv_reader *r = kv.ops->reader_open(kv.engine);
    uint32_t kinds[256] = {0}, pieces = 0, deadlines = 0;
    struct bytes key, value;

    for (uint32_t k = 0; k < KEYS; k++) {
        const struct cell *c = &w->base.cells[k];
        if (c->there && c->len > STORE_PIECE_BYTES) pieces += piece_count(c->len);
        if (c->there && c->deadline_ms > 0) deadlines++;
    }
    bool any = kv.ops->seek(r, BYTES_OF("A"), &key, &value);
    for (; any; any = kv.ops->next(r, &key, &value))
        kinds[key.at[0]]++;
    assert_int_equal(kinds['R'], 1);
    assert_int_equal(kinds['G'], 1); /* the next generation, none that is dead */
    assert_int_equal(kinds['D'], w->base.count + w->base.system);
    assert_int_equal(kinds['P'], pieces);
    assert_int_equal(kinds['T'], deadlines);
    kv.ops->reader_close(kv.engine, r);
}

static bool may_be_due(const struct world *w, uint32_t k)
{
    const struct cell *c = &w->committed.cells[k];

    return c->there && c->deadline_ms > 0 && !w->wipe_staged &&
           !w->newest.cells[k].staged;
}

static uint32_t key_named(struct bytes key)
{
    for (uint32_t k = 0; k < KEYS; k++)
        if (bytes_equal(key_bytes(k), key)) return k;
    abort();
}

static void compare_due(struct world *w)
{
    struct bytes key;
    struct wall next;
    int64_t least = INT64_MAX;

    for (uint32_t k = 0; k < KEYS; k++)
        if (may_be_due(w, k) && w->committed.cells[k].deadline_ms < least)
            least = w->committed.cells[k].deadline_ms;
    const bool any = store_next_deadline(w->store, &next);
    if (least < INT64_MAX) assert_true(any && next.ms <= least);

    assert_int_equal(store_due(w->store, (struct wall){w->now_ms}, &key),
                     least <= w->now_ms);
    if (least > w->now_ms) return;
    const uint32_t k = key_named(key);
    assert_true(may_be_due(w, k));
    assert_true(w->committed.cells[k].deadline_ms <= w->now_ms);
}

static void compare(struct world *w)
{
    store_verify(w->store);
    compare_finds(w->store, &w->newest);
    compare_walk(w->store, &w->newest);
    compare_due(w);
    check_base(w);
    assert_int_equal(store_has_staged(w->store), w->queued > 0);
}

/* ---- claims ---- */

static const struct suite_engine *suite;

static uint64_t top(const struct world *w)
{
    return w->queued > 0 ? w->queue[w->queued - 1].index : w->committed.index;
}

/* Deletes all that is due, as a leader would. */
static void expire(struct world *w)
{
    struct bytes key;
    uint32_t left = 2 * KEYS;

    while (store_due(w->store, (struct wall){w->now_ms}, &key)) {
        assert_true(left-- > 0);
        stage(w, (struct staged){
                     .index = top(w) + 1, .kind = EFFECT_CLEAR, .key = key_named(key)});
    }
}

static void random_step(struct world *w)
{
    struct prng *rng = &w->rng;
    const uint64_t dice = prng_below(rng, 100);

    if (dice < 45) {
        const uint64_t index = top(w) + 1;
        for (uint64_t n = prng_range(rng, 1, 4); n > 0; n--)
            stage(w, random_op(w, index));
    } else if (dice < 60) {
        commit(w, prng_range(rng, w->committed.index, top(w)));
    } else if (dice < 64) {
        drop(w);
    } else if (dice < 82) {
        commit(w, UINT64_MAX);
        for (uint64_t n = prng_range(rng, 1, 6); n > 0; n--)
            apply(w, random_op(w, top(w) + 1));
    } else if (dice < 90) {
        w->now_ms += (int64_t)prng_below(rng, 30);
        expire(w);
    } else {
        compare(w);
    }
}

static void random_job(struct world *w)
{
    struct prng *rng = &w->rng;
    struct kv_job *job = begin_checkpoint(w);
    const uint64_t during = prng_below(rng, 12);
    const uint64_t end = prng_below(rng, 10);

    assert_null(store_checkpoint(w->store, &(struct store_base){0}));
    for (uint64_t i = 0; i < during; i++)
        random_step(w);
    store_renew(w->store);
    compare(w);
    if (end == 0) {
        fail_job(w, w->store, job);
    } else if (end == 1) { /* it is on disk, and nobody was told */
        assert_int_equal(run(w, job), 0);
        for (uint64_t i = 0; i < during; i++)
            random_step(w);
        store_job_done(w->store, job, EIO);
        end_checkpoint(w);
        crash(w);
    } else {
        assert_int_equal(run(w, job), 0);
        for (uint64_t i = 0; i < during; i++)
            random_step(w);
        store_job_done(w->store, job, 0);
        end_checkpoint(w);
    }
}

static void a_store_is_its_model_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct world *w = world_new(suite, seed);
        for (int i = 0; i < suite->rounds; i++) {
            const uint64_t dice = prng_below(&w->rng, 100);

            if (dice < 6)
                random_job(w);
            else if (dice < 7)
                crash(w);
            else if (dice < 9)
                sweep(w, w->store);
            else
                random_step(w);
        }
        compare(w);
        if (w->has_frozen) checkpoint(w); /* one that had failed */
        checkpoint(w);
        sweep(w, w->store);
        compare_engine(w);
        compare(w);
        world_free(w);
    }
}

static void put(struct world *w, uint32_t key, size_t len, int64_t deadline_ms)
{
    apply(w, (struct staged){.index = top(w) + 1,
                             .kind = EFFECT_PUT,
                             .key = key,
                             .seed = key + 1,
                             .len = len,
                             .deadline_ms = deadline_ms,
                             .created = !w->newest.cells[key].there});
}

static void what_is_staged_is_seen_and_can_be_forgotten(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 1);

    for (uint32_t k = 0; k < 40; k++)
        put(w, k, 10, 0);
    checkpoint(w);
    stage(w, (struct staged){.index = 41, .kind = EFFECT_CLEAR, .key = 1});
    stage(w, (struct staged){.index = 42, .kind = EFFECT_WIPE});
    stage(w, (struct staged){.index = 43,
                             .kind = EFFECT_PUT,
                             .key = 2,
                             .seed = 9,
                             .len = 5,
                             .created = true});
    assert_int_equal(store_count(w->store), 1);
    compare(w);
    checkpoint(w); /* sees nothing of that */
    drop(w);
    assert_int_equal(store_count(w->store), 40);
    compare(w);
    crash(w);
    compare(w);
    world_free(w);
}

static void a_wipe_is_one_write_and_what_it_leaves_is_swept(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 1);

    for (uint32_t k = 0; k < USER_KEYS; k++)
        put(w, k, k % 20 == 0 ? 2 << 20 : 50, k % 3 == 0 ? 5000 + k : 0);
    for (uint32_t k = USER_KEYS; k < KEYS - 2; k++)
        put(w, k, k == USER_KEYS ? SYSTEM_VALUE_MAX : 50, 0);
    checkpoint(w);
    assert_null(store_sweep(w->store));
    put(w, KEYS - 2, 50, 0);
    apply(w, (struct staged){.index = top(w) + 1, .kind = EFFECT_WIPE});
    put(w, 5, 50, 0);
    put(w, KEYS - 1, 50, 0);
    assert_int_equal(store_count(w->store), 1); /* system items stay */
    assert_int_equal(store_count_system(w->store), KEYS - USER_KEYS);
    compare(w);
    checkpoint(w);
    compare(w);
    sweep(w, w->store);
    compare_engine(w);
    compare(w);
    crash(w);
    assert_null(store_sweep(w->store));
    compare(w);
    world_free(w);
}

static void what_is_due_is_named_until_it_is_dealt_with(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 1);
    struct bytes key, again;
    struct wall at;

    assert_false(store_next_deadline(w->store, &at));
    for (uint32_t k = 0; k < USER_KEYS; k++)
        put(w, k, 10, 2000 + k % 7);
    assert_true(store_next_deadline(w->store, &at));
    assert_int_equal(at.ms, 2000);
    assert_false(store_due(w->store, (struct wall){1999}, &key));
    assert_true(store_due(w->store, (struct wall){2000}, &key));
    assert_true(store_due(w->store, (struct wall){2000}, &again));
    assert_true(bytes_equal(key, again));

    checkpoint(w);
    w->now_ms = 2003;
    expire(w);
    compare(w);
    drop(w); /* leadership was lost: all of it is due again */
    compare(w);
    expire(w);
    commit(w, UINT64_MAX);
    compare(w);
    checkpoint(w);
    crash(w);
    w->now_ms = 2007;
    expire(w);
    commit(w, UINT64_MAX);
    assert_int_equal(store_count(w->store), 0);
    assert_false(store_next_deadline(w->store, &at));
    world_free(w);
}

/* ---- snapshots ---- */

struct transfer {
    struct world *w;
    struct store *to;
    struct store_snapshot *from;
    uint64_t offset;
    bool end;
};

static const struct group_id copy_group = {4};

static struct store *open_copy(struct world *w, bool expect)
{
    const struct store_config config = {copy_group, w->engine.kv, &w->mem};
    bool found;
    struct store *s = store_open(&config, &found);

    assert_int_equal(found, expect);
    return s;
}

static struct transfer transfer_begin(struct world *w, struct store *to)
{
    struct transfer t = {.w = w, .to = to, .from = store_snapshot_open(w->store)};

    assert_non_null(t.from);
    const struct store_base base = store_snapshot_base(t.from);
    assert_int_equal(base.index.v, w->base.index);
    store_install_begin(to, &base);
    return t;
}

/* One piece, now and then asked for twice; false: all is taken. */
static bool transfer_step(struct transfer *t)
{
    struct buf out = buf_new(&t->w->mem), again = buf_new(&t->w->mem);
    const size_t max = prng_range(&t->w->rng, 1,
                                  prng_chance(&t->w->rng, 900) ? 262144 : 40);
    bool end;

    assert_false(t->end);
    store_snapshot_read(t->from, t->offset, max, &out, &t->end);
    if (prng_chance(&t->w->rng, 300)) {
        store_snapshot_read(t->from, t->offset, max, &again, &end);
        assert_true(bytes_equal(buf_bytes(&out), buf_bytes(&again)));
        assert_int_equal(end, t->end);
    }
    assert_true(out.len == max || t->end);
    assert_int_equal(store_install_offset(t->to), t->offset);
    const enum store_install_result r = store_install_take(t->to, buf_bytes(&out));
    assert_int_equal(r, t->end ? STORE_INSTALL_WHOLE : STORE_INSTALL_MORE);
    t->offset += out.len;
    buf_free(&out);
    buf_free(&again);
    return !t->end;
}

static void transfer_end(struct transfer *t)
{
    store_snapshot_close(t->from);
}

static void transfer_all(struct world *w, struct store *to)
{
    struct transfer t = transfer_begin(w, to);

    for (bool more = true; more;) {
        more = transfer_step(&t);
        for (struct kv_job *job; (job = store_install_job(to)) != NULL;) {
            assert_false(store_installed(to));
            if (prng_chance(&w->rng, 200))
                fail_job(w, to, job);
            else
                do_job(w, to, job);
        }
    }
    assert_true(store_installed(to));
    assert_false(store_installed(to));
    transfer_end(&t);
}

static void fill(struct world *w)
{
    for (int i = 0; i < 600; i++) {
        struct staged op = random_op(w, top(w) + 1);
        if (op.kind != EFFECT_WIPE) apply(w, op);
        if (i % 200 == 100) checkpoint(w);
    }
    put(w, USER_KEYS - 1, VALUE_LARGEST, 0);
    checkpoint(w);
}

static void a_snapshot_makes_an_equal_replica(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 5);
    assert_null(store_snapshot_open(w->store));
    fill(w);
    struct store *copy = open_copy(w, false);
    uint64_t n, n_copy;

    transfer_all(w, copy);
    compare_finds(copy, &w->base);
    compare_walk(copy, &w->base);
    assert_int_equal(digest_of(w, copy, &n_copy), digest_of(w, w->store, &n));
    assert_int_equal(n, n_copy);
    assert_int_equal(n, store_count(w->store));

    /* And again over what it has, which is then swept; the copy has a life of its own. */
    put(w, 3, 77, 0);
    checkpoint(w);
    assert_true(digest_of(w, w->store, &n) != digest_of(w, copy, &n_copy));
    transfer_all(w, copy);
    sweep(w, copy);
    sweep(w, w->store);
    compare_finds(copy, &w->base);
    assert_int_equal(digest_of(w, copy, &n_copy), digest_of(w, w->store, &n));
    compare(w);

    store_free(copy);
    crash(w);
    copy = open_copy(w, true);
    compare_walk(copy, &w->base);
    do_job(w, copy, store_drop(copy));
    assert_int_equal(store_count(copy), 0);
    sweep(w, w->store);
    store_free(copy);
    store_free(open_copy(w, false));
    compare_engine(w);
    compare(w);
    world_free(w);
}

/* ---- a backup ---- */

static uint32_t key_index(struct bytes key)
{
    uint32_t k = 0;

    while (k < KEYS && !bytes_equal(key_bytes(k), key))
        k++;
    assert_true(k < KEYS);
    return k;
}

/* The value that the reader has come to must be that of the model, piece by piece. */
static void check_value(const struct cell *c, uint64_t at, struct bytes piece)
{
    const struct bytes whole = value_of(c->seed, c->len);

    assert_true(at + piece.len <= whole.len);
    assert_true(piece.len == 0 || memcmp(whole.at + at, piece.at, piece.len) == 0);
}

static void check_record(struct model *m, const struct copy_record *r, uint32_t *k,
                         uint64_t *at)
{
    switch (r->kind) {
    case COPY_HEAD:
        assert_int_equal(r->of.group.v, 3);
        assert_int_equal(r->of.index.v, m->index);
        assert_int_equal(r->of.term.v, m->index / 100);
        return;
    case COPY_KEY:
        *k = key_index(r->key);
        *at = 0;
        assert_false(is_system(*k));
        assert_true(m->cells[*k].there);
        m->cells[*k].there = false; /* once */
        assert_int_equal(r->type, ITEM_STRING);
        assert_int_equal(r->deadline_ms, m->cells[*k].deadline_ms);
        assert_int_equal(r->length, m->cells[*k].len);
        break;
    case COPY_PIECE: break;
    case COPY_END: assert_int_equal(r->keys, m->count); return;
    }
    check_value(&m->cells[*k], *at, r->value);
    *at += r->value.len;
}

/* As of the checkpoint it was opened at, whatever becomes of the shard meanwhile. */
static void an_export_holds_each_key_once_and_no_more(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 11);
    assert_null(store_export_open(&w->mem, w->engine.kv, w->group));
    fill(w);
    struct model m = w->base;
    struct store_export *x = store_export_open(&w->mem, w->engine.kv, w->group);
    assert_int_equal(store_export_base(x).index.v, m.index);
    assert_int_equal(store_export_keys(x), m.count);
    apply(w, (struct staged){.index = w->committed.index + 1, .kind = EFFECT_WIPE});
    put(w, 5, 99, 0);
    checkpoint(w);
    sweep(w, w->store);

    struct copy_reader reader = {0};
    struct buf piece = buf_new(&w->mem);
    uint32_t k = 0;
    uint64_t at = 0;
    while (store_export_read(x, 1 << 20, &piece)) {
        assert_true(piece.len <= 1 << 20);
        struct bytes in = buf_bytes(&piece);
        while (in.len > 0) {
            struct copy_record record;
            size_t used = 0;
            assert_int_equal(copy_read(&reader, in, &record, &used), COPY_READ);
            check_record(&m, &record, &k, &at);
            in = (struct bytes){in.at + used, in.len - used};
        }
        piece.len = 0;
    }
    assert_true(reader.ended);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_true(is_system(i) || !m.cells[i].there);
    buf_free(&piece);
    store_export_close(x);
    world_free(w);
}

/* A replica by log and one by snapshot and log, with other checkpoints in between. */
static void equal_logs_give_equal_digests(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 6);
    fill(w);
    struct store *copy = open_copy(w, false);
    transfer_all(w, copy);

    for (int i = 0; i < 300; i++) {
        const struct staged op = random_op(w, top(w) + 1);
        const struct effect e = effect_of(&op);
        store_apply(copy, (struct log_index){op.index}, &e);
        apply(w, op);
        if (i % 70 == 50) checkpoint(w);
    }
    checkpoint(w);
    const struct store_base base = base_of(&w->committed);
    do_job(w, copy, store_checkpoint(copy, &base));
    uint64_t n, n_copy;
    assert_int_equal(digest_of(w, copy, &n_copy), digest_of(w, w->store, &n));
    assert_int_equal(n, n_copy);
    store_free(copy);
    world_free(w);
}

static void a_crash_while_a_snapshot_arrives_leaves_the_old_state(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 8);
    fill(w);
    struct store *copy = open_copy(w, false);
    transfer_all(w, copy);
    const struct model was = w->base;
    fill(w);

    struct transfer t = transfer_begin(w, copy);
    int batches = 0;
    while (batches < 2 && transfer_step(&t)) {
        struct kv_job *job = store_install_job(copy);
        if (job == NULL) continue;
        do_job(w, copy, job);
        batches++;
        assert_null(store_sweep(copy)); /* what is arriving is not swept, */
        sweep(w, w->store);             /* and not by others */
    }
    assert_int_equal(batches, 2);
    transfer_end(&t);
    compare_walk(copy, &was);
    store_free(copy);
    crash(w);

    copy = open_copy(w, true);
    compare_walk(copy, &was);
    assert_null(
        store_sweep(w->store)); /* it may still be arriving, for all this one knows */
    struct kv_job *job = store_sweep(copy);
    do_job(w, copy, job);
    sweep(w, copy);
    compare_walk(copy, &was);
    store_free(copy);
    world_free(w);
}

static void an_install_can_be_given_up_under_way(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 9);
    fill(w);
    struct store *copy = open_copy(w, false);
    struct transfer t = transfer_begin(w, copy);
    struct kv_job *job = NULL;

    while (job == NULL && transfer_step(&t))
        job = store_install_job(copy);
    assert_non_null(job);
    store_install_abort(copy);
    transfer_end(&t);
    assert_int_equal(run(w, job), 0);
    store_job_done(copy, job, 0);
    assert_false(store_installed(copy));
    sweep(w, copy);
    compare_engine(w);
    transfer_all(w, copy);
    compare_walk(copy, &w->base);
    store_free(copy);
    world_free(w);
}

/* Whatever bit a peer gets wrong, the install ends and the state stays. */
static void a_damaged_stream_is_refused(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 10);
    for (uint32_t k = 0; k < KEYS; k++)
        if (k % 6 == 0 && keys[k].len < 1000)
            put(w, k, 30, k % 4 == 0 && !is_system(k) ? 100 : 0);
    checkpoint(w);
    struct store *copy = open_copy(w, false);
    struct store_snapshot *from = store_snapshot_open(w->store);
    const struct store_base base = store_snapshot_base(from);
    struct buf stream = buf_new(&w->mem);
    bool end;

    store_snapshot_read(from, 0, 1 << 20, &stream, &end);
    assert_true(end);
    for (size_t at = 0; at < stream.len; at++) {
        stream.at[at] ^= (uint8_t)(1u << (at % 8));
        store_install_begin(copy, &base);
        assert_int_not_equal(store_install_take(copy, buf_bytes(&stream)),
                             STORE_INSTALL_WHOLE);
        assert_null(store_install_job(copy));
        stream.at[at] ^= (uint8_t)(1u << (at % 8));
    }
    struct store_base other = base;
    other.index.v++;
    store_install_begin(copy, &other);
    assert_int_equal(store_install_take(copy, buf_bytes(&stream)), STORE_INSTALL_BROKEN);
    store_install_begin(copy, &base);
    assert_int_equal(store_install_take(copy, buf_bytes(&stream)), STORE_INSTALL_WHOLE);
    assert_int_equal(store_install_take(copy, BYTES_OF("x")), STORE_INSTALL_BROKEN);
    store_snapshot_close(from);
    buf_free(&stream);
    store_free(copy);
    world_free(w);
}

/* The chain of checksums made right again over whatever the records say now. */
static void seal_stream(struct buf *stream)
{
    uint64_t chain = 0;

    for (size_t at = 0; at + 4 <= stream->len;) {
        const uint32_t len = load_u32le(stream->at + at);
        chain = hash64_seed((struct bytes){stream->at + at + 4, len}, chain);
        store_u64le(stream->at + at + 4 + len, chain);
        at += 12 + (size_t)len;
    }
}

/* A peer that lies with good checksums gets refused, or is believed whole: what it says
 * is then a state that can be read. */
static void a_stream_that_lies_does_no_harm(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 12);
    for (uint32_t k = 0; k < KEYS; k++)
        if (k % 5 == 0 && keys[k].len < 1000)
            put(w, k, 12, k % 4 == 0 && !is_system(k) ? 100 : 0);
    checkpoint(w);
    struct store *copy = open_copy(w, false);
    struct store_snapshot *from = store_snapshot_open(w->store);
    const struct store_base base = store_snapshot_base(from);
    struct buf good = buf_new(&w->mem), bad = buf_new(&w->mem);
    bool end;
    uint32_t refused = 0, tries = 0;

    store_snapshot_read(from, 0, 1 << 20, &good, &end);
    for (size_t at = 0; at < good.len; at += 12 + load_u32le(good.at + at)) {
        const uint32_t len = load_u32le(good.at + at);
        for (uint32_t i = 0; i < len; i++) {
            bad.len = 0;
            buf_put(&bad, good.at, good.len);
            bad.at[at + 4 + i] ^= (uint8_t)prng_range(&w->rng, 1, 255);
            seal_stream(&bad);
            store_install_begin(copy, &base);
            tries++;
            if (store_install_take(copy, buf_bytes(&bad)) == STORE_INSTALL_BROKEN) {
                refused++;
                assert_null(store_install_job(copy));
                continue;
            }
            if (i % 16 == 0) do_job(w, copy, store_install_job(copy));
            struct key_place place;
            struct bytes key;
            struct item item;
            (void)store_walk(copy, (struct key_place){0}, 1, &place, &key, &item);
        }
    }
    assert_true(refused > tries / 4);
    assert_true(refused < tries); /* a value's bytes are anybody's */
    store_snapshot_close(from);
    buf_free(&good);
    buf_free(&bad);
    store_free(copy);
    world_free(w);
}

/* ---- the engine by itself ---- */

enum { KV_KEYS = 60, KV_READERS = 4 };

struct kv_state {
    uint32_t seed[KV_KEYS]; /* of the value; 0: not there */
};

struct kv_trial {
    struct kv_job kv;
    struct prng *rng;
    struct kv_state *now;
    int error;
};

static struct bytes kv_key(uint32_t k, uint8_t room[KV_KEY_MAX])
{
    const size_t len = k % 7 == 0 ? KV_KEY_MAX : 2 + k % 3;

    memset(room, (int)k, len);
    room[0] = (uint8_t)(k / 8); /* some are prefixes of others */
    return (struct bytes){room, len};
}

static int kv_order(const void *a, const void *b)
{
    uint8_t room_a[KV_KEY_MAX], room_b[KV_KEY_MAX];

    return bytes_compare(kv_key(*(const uint32_t *)a, room_a),
                         kv_key(*(const uint32_t *)b, room_b));
}

static size_t kv_len(uint32_t seed)
{
    return seed % 9 == 0 ? 0 : seed % 5000;
}

static int kv_trial_run(struct kv_job *kv, struct kv_txn *txn)
{
    struct kv_trial *t = (struct kv_trial *)kv;
    uint8_t room[KV_KEY_MAX];

    for (uint32_t i = 0; i < 40; i++) {
        const uint32_t k = (uint32_t)prng_below(t->rng, KV_KEYS);
        const struct bytes key = kv_key(k, room);
        struct bytes value, at;

        assert_int_equal(kv->ops->txn_get(txn, key, &value), t->now->seed[k] != 0);
        if (t->now->seed[k] != 0) assert_int_equal(value.len, kv_len(t->now->seed[k]));
        if (t->now->seed[k] != 0) {
            assert_true(kv->ops->txn_seek(txn, key, &at, &value));
            assert_true(bytes_equal(at, key));
        }
        t->now->seed[k] = prng_chance(t->rng, 400)
                              ? 0
                              : (uint32_t)prng_range(t->rng, 1, 1 << 20);
        const int rc = t->now->seed[k] == 0
                           ? kv->ops->remove(txn, key)
                           : kv->ops->put(
                                 txn, key,
                                 value_of(t->now->seed[k], kv_len(t->now->seed[k])));
        assert_int_equal(rc, 0);
    }
    return t->error;
}

static void kv_compare(const struct kv *kv, struct kv_reader *r,
                       const struct kv_state *was)
{
    uint32_t sorted[KV_KEYS];
    uint8_t room[KV_KEY_MAX];
    struct bytes key, value;

    for (uint32_t k = 0; k < KV_KEYS; k++)
        sorted[k] = k;
    qsort(sorted, KV_KEYS, sizeof sorted[0], kv_order);
    bool any = kv->ops->seek(r, (struct bytes){(const uint8_t *)"", 1}, &key, &value);
    for (uint32_t i = 0; i < KV_KEYS; i++) {
        const uint32_t k = sorted[i];
        struct bytes got;
        assert_int_equal(kv->ops->get(r, kv_key(k, room), &got), was->seed[k] != 0);
        if (was->seed[k] == 0) continue;
        assert_true(any);
        assert_true(bytes_equal(key, kv_key(k, room)));
        assert_true(bytes_equal(value, value_of(was->seed[k], kv_len(was->seed[k]))));
        assert_true(bytes_equal(value, got));
        any = kv->ops->next(r, &key, &value);
    }
    assert_false(any);
}

static void a_reader_sees_one_commit_until_it_is_renewed(void **state)
{
    (void)state;
    struct suite_engine e = *suite;
    struct prng rng = prng_seed(13);
    struct kv_state now = {{0}}, seen[KV_READERS] = {{{0}}};
    struct kv_reader *readers[KV_READERS];

    e.open(&e);
    for (uint32_t i = 0; i < KV_READERS; i++)
        readers[i] = e.kv.ops->reader_open(e.kv.engine);
    for (int turn = 0; turn < 200; turn++) {
        const struct kv_state before = now;
        struct kv_trial t = {{kv_trial_run, true, e.kv.ops, 0}, &rng, &now, 0};

        if (turn % 5 == 4) t.error = EIO;
        assert_int_equal(e.run(&e, &t.kv), t.error);
        if (t.error != 0) now = before;
        const uint32_t i = (uint32_t)prng_below(&rng, KV_READERS);
        if (prng_chance(&rng, 300)) {
            e.kv.ops->reader_close(e.kv.engine, readers[i]);
            readers[i] = e.kv.ops->reader_open(e.kv.engine);
        } else {
            e.kv.ops->reader_renew(e.kv.engine, readers[i]);
        }
        seen[i] = now;
        for (uint32_t r = 0; r < KV_READERS; r++)
            kv_compare(&e.kv, readers[r], &seen[r]);
    }
    for (uint32_t i = 0; i < KV_READERS; i++)
        e.kv.ops->reader_close(e.kv.engine, readers[i]);
    e.reopen(&e);
    struct kv_reader *r = e.kv.ops->reader_open(e.kv.engine);
    kv_compare(&e.kv, r, &now);
    e.kv.ops->reader_close(e.kv.engine, r);
    e.close(&e);
}

static void memory_is_given_back(void **state)
{
    (void)state;
    struct world *w = world_new(suite, 11);

    const uint64_t empty = store_table_bytes(w->store);
    for (uint32_t i = 0, k = 0; i < 3000; k = (k + 1) % KEYS) {
        if (keys[k].len > 100) continue;
        put(w, k, 1000, 0);
        i++;
    }
    assert_true(store_table_bytes(w->store) > 3000 * 1000);
    assert_true(store_table_bytes(w->store) < 2 * 3000 * 1200);
    checkpoint(w);
    assert_true(store_table_bytes(w->store) <= empty);
    for (int i = 0; i < 100; i++)
        store_commit(w->store, (struct log_index){UINT64_MAX});
    assert_true(w->mem.used < 64 << 10);
    world_free(w);
}

static int setup(void **state)
{
    (void)state;
    make_keys();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free_keys();
    return 0;
}

int suite_run(const struct suite_engine *engine, const char *name)
{
    suite = engine;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_sees_one_commit_until_it_is_renewed),
        cmocka_unit_test(a_store_is_its_model_whatever_happens),
        cmocka_unit_test(what_is_staged_is_seen_and_can_be_forgotten),
        cmocka_unit_test(a_wipe_is_one_write_and_what_it_leaves_is_swept),
        cmocka_unit_test(what_is_due_is_named_until_it_is_dealt_with),
        cmocka_unit_test(a_snapshot_makes_an_equal_replica),
        cmocka_unit_test(an_export_holds_each_key_once_and_no_more),
        cmocka_unit_test(equal_logs_give_equal_digests),
        cmocka_unit_test(a_crash_while_a_snapshot_arrives_leaves_the_old_state),
        cmocka_unit_test(an_install_can_be_given_up_under_way),
        cmocka_unit_test(a_damaged_stream_is_refused),
        cmocka_unit_test(a_stream_that_lies_does_no_harm),
        cmocka_unit_test(memory_is_given_back),
    };
    return cmocka_run_group_tests_name(name, tests, setup, teardown);
}
