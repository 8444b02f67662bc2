/* SPDX-License-Identifier: Apache-2.0 */
#include "naive_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mem_test_alloc.h"
#include "resp/parse.h"

static struct bytes owned(struct bytes b)
{
    uint8_t *at = malloc(b.len > 0 ? b.len : 1);
    check(at != NULL);
    if (b.len > 0) memcpy(at, b.at, b.len);
    return (struct bytes){at, b.len};
}

static void take_back(struct naive *n)
{
    for (int i = 0; i < 2; i++) {
        free(n->lent[i]);
        n->lent[i] = NULL;
    }
}

static struct bytes lend(struct naive *n, int which, struct bytes b)
{
    const struct bytes copy = owned(b);
    n->lent[which] = (void *)(uintptr_t)copy.at;
    return copy;
}

static struct naive_entry *entry_find(struct naive *n, struct bytes key)
{
    for (size_t i = 0; i < n->n; i++)
        if (bytes_equal(n->entries[i].key, key)) return &n->entries[i];
    return NULL;
}

static void entry_remove(struct naive *n, struct naive_entry *e)
{
    free((void *)(uintptr_t)e->key.at);
    free((void *)(uintptr_t)e->value.at);
    *e = n->entries[--n->n];
}

static struct naive_entry *entry_add(struct naive *n, struct bytes key)
{
    if (n->n == n->cap) {
        n->cap = n->cap > 0 ? n->cap * 2 : 8;
        n->entries = realloc(n->entries, n->cap * sizeof *n->entries);
        check(n->entries != NULL);
    }
    n->entries[n->n] = (struct naive_entry){.key = owned(key),
                                            .value = owned(BYTES_OF(""))};
    return &n->entries[n->n++];
}

static void item_of(struct naive *n, const struct naive_entry *e, struct item *out)
{
    *out = (struct item){
        .type = e->type, .deadline_ms = e->deadline_ms, .value = lend(n, 1, e->value)};
    if (e->value.len > NAIVE_FAR) out->value.at = NULL;
}

static void on_read(void *ctx, struct bytes key, uint64_t from, uint64_t len,
                    struct buf *out)
{
    const struct naive_entry *e = entry_find(ctx, key);

    check(e != NULL && e->value.len > NAIVE_FAR);
    check(from <= e->value.len && len <= e->value.len - from);
    buf_put(out, e->value.at + from, len);
}

static bool on_find(void *ctx, struct bytes key, struct item *out)
{
    struct naive *n = ctx;
    const struct naive_entry *e = entry_find(n, key);

    take_back(n);
    if (e == NULL) return false;
    item_of(n, e, out);
    return true;
}

/* A block of its own, as what is read bit by bit would come to be. */
static struct block *on_share(void *ctx, struct bytes key, const struct item *item)
{
    struct naive *n = ctx;
    struct buf whole = buf_new(&n->mem);

    on_read(ctx, key, 0, item->value.len, &whole);
    return block_take(&whole);
}

static uint64_t place_of(const struct naive *n, struct bytes key)
{
    return n->crowded ? UINT64_C(77) << 20 : key_place_of(key).v;
}

/* The k-th key from `from` on, in order of place and then of bytes. */
static const struct naive_entry *nth(const struct naive *n, uint64_t from, uint32_t k)
{
    for (size_t i = 0; i < n->n; i++) {
        const struct bytes key = n->entries[i].key;
        const uint64_t at = place_of(n, key);
        uint32_t before = 0;

        if (at < from) continue;
        for (size_t j = 0; j < n->n; j++) {
            const uint64_t other = place_of(n, n->entries[j].key);
            before += other >= from &&
                      (other < at ||
                       (other == at && bytes_compare(n->entries[j].key, key) < 0));
        }
        if (before == k) return &n->entries[i];
    }
    return NULL;
}

static bool on_walk(void *ctx, struct key_place from, uint32_t skip,
                    struct key_place *place, struct bytes *key, struct item *out)
{
    struct naive *n = ctx;

    take_back(n);
    const struct naive_entry *e = nth(n, from.v, skip);
    if (e == NULL) return false;
    place->v = place_of(n, e->key);
    *key = lend(n, 0, e->key);
    item_of(n, e, out);
    return true;
}

static uint64_t on_count(void *ctx)
{
    const struct naive *n = ctx;
    return n->n;
}

static void tell(struct naive *n, const char *word, struct bytes key)
{
    const size_t len = strlen(n->effects);
    snprintf(n->effects + len, sizeof n->effects - len, "%s%s%s%.*s", len > 0 ? "; " : "",
             word, key.len > 0 ? " " : "", (int)key.len, (const char *)key.at);
}

static void tell_number(struct naive *n, const char *word, int64_t v)
{
    const size_t len = strlen(n->effects);
    snprintf(n->effects + len, sizeof n->effects - len, " %s%lld", word, (long long)v);
}

static void tell_more(struct naive *n, const char *word, struct bytes more)
{
    const size_t len = strlen(n->effects);
    snprintf(n->effects + len, sizeof n->effects - len, " %s%.*s", word, (int)more.len,
             (const char *)more.at);
}

static void put(struct naive *n, const struct effect *e)
{
    struct naive_entry *entry = entry_find(n, e->key);

    check((entry == NULL) == ((e->flags & EFFECT_CREATED) != 0));
    if (entry == NULL) entry = entry_add(n, e->key);
    free((void *)(uintptr_t)entry->value.at);
    entry->value = owned(e->value);
    entry->type = e->type;
    entry->deadline_ms = e->deadline_ms;

    tell(n, e->kind == EFFECT_PUT ? "put" : "add", e->key);
    if (e->kind == EFFECT_ADD) tell_number(n, "", e->delta);
    tell_more(n, "", e->value);
    if (e->deadline_ms != 0) tell_number(n, "until ", e->deadline_ms);
    if (e->flags & EFFECT_CREATED) tell_more(n, "new", BYTES_OF(""));
}

static void apply(struct naive *n, const struct effect *e)
{
    struct naive_entry *entry = entry_find(n, e->key);

    switch (e->kind) {
    case EFFECT_PUT:
    case EFFECT_ADD: put(n, e); break;
    case EFFECT_DEADLINE:
        check(entry != NULL);
        entry->deadline_ms = e->deadline_ms;
        tell(n, "deadline", e->key);
        tell_number(n, "", e->deadline_ms);
        break;
    case EFFECT_CLEAR:
        check(entry != NULL);
        check(!(e->flags & EFFECT_EXPIRED) ||
              (entry->deadline_ms != 0 && entry->deadline_ms < n->now.ms));
        entry_remove(n, entry);
        tell(n, e->flags & EFFECT_EXPIRED ? "expired" : "clear", e->key);
        break;
    case EFFECT_WIPE:
        while (n->n > 0)
            entry_remove(n, &n->entries[0]);
        tell(n, "wipe", BYTES_OF(""));
        break;
    case EFFECT_REMOVE:
    case EFFECT_KIND_END: check(false);
    }
}

static void on_emit(void *ctx, const struct effect *effect)
{
    struct naive *n = ctx;
    struct buf coded = buf_new(&n->mem);
    struct effect back;

    take_back(n);
    check(!n->replica);
    effect_encode(&coded, effect);
    struct cursor in = cursor_of(buf_bytes(&coded));
    check(effect_decode(&in, &back) == EFFECT_OK);
    check(effect_decode(&in, &back) == EFFECT_END);
    apply(n, &back);
    buf_free(&coded);
}

void naive_init(struct naive *n)
{
    *n = (struct naive){
        .mem = mem_for_test(),
        .prng = prng_seed(1),
        .now = {1000000},
        .version = 2,
        .steps_max = 1000,
    };
    n->view = (struct view){n, on_find, on_emit, on_walk, on_count, on_read, on_share};
}

void naive_free(struct naive *n)
{
    take_back(n);
    while (n->n > 0)
        entry_remove(n, &n->entries[0]);
    free(n->entries);
    check(n->mem.used == 0);
}

void naive_set(struct naive *n, const char *key, enum item_type type, const char *value,
               int64_t deadline_ms)
{
    struct naive_entry *e = entry_find(n, bytes_of_str(key));

    if (e == NULL) e = entry_add(n, bytes_of_str(key));
    free((void *)(uintptr_t)e->value.at);
    e->value = owned(bytes_of_str(value));
    e->type = type;
    e->deadline_ms = deadline_ms;
}

static void keep_reply(struct naive *n, const struct buf *out)
{
    size_t len = 0;

    for (size_t i = 0; i < out->len && len < sizeof n->reply - 1; i++) {
        if (out->at[i] == '\r') continue;
        n->reply[len++] = out->at[i] == '\n' ? ' ' : (char)out->at[i];
    }
    if (len > 0 && n->reply[len - 1] == ' ') len--;
    n->reply[len] = 0;
}

void naive_run_args(struct naive *n, const struct bytes *args, uint32_t n_args)
{
    struct buf out = buf_new(&n->mem);
    struct reply reply = {&out, n->version};
    const struct command *container, *c = command_find(args, n_args, &container);

    check(c != NULL);
    n->effects[0] = 0;
    if (c->flags & (CF_SHARD | CF_FANOUT)) {
        const struct command_call call = {
            .command = c,
            .args = args,
            .n_args = n_args,
            .now = n->now,
            .prng = &n->prng,
            .view = &n->view,
            .reply = &reply,
            .reply_from = n->reply_from,
            .may_write = !n->replica,
            .steps_max = n->steps_max,
        };
        command_run(&call);
    } else {
        command_reply(&reply, c, args, n_args);
    }
    take_back(n);
    keep_reply(n, &out);
    buf_free(&out);
}

void naive_run(struct naive *n, const char *line)
{
    static const struct resp_limits limits = {
        .bulk_max = 1 << 30, .args_max = 1000, .inline_max = 1 << 20};
    struct buf in = buf_new(&n->mem);
    struct resp_parser p;
    struct resp_parsed got;

    buf_putf(&in, "%s\n", line);
    resp_parser_init(&p, &n->mem);
    check(resp_parse(&p, &limits, buf_bytes(&in), &got) == RESP_COMMAND);
    naive_run_args(n, got.args, got.n_args);
    resp_parser_free(&p);
    buf_free(&in);
}
