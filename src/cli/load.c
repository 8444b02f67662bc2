/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/load.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum {
    BATCH_KEYS = 10000, /* and syncs of the log that overlap */
    BATCH_BYTES = 4 << 20,
    PAUSE_MS = 200,
    NAMED_MAX = 5,
};

struct item { /* a key of a batch; its parts lie in the batch's text */
    size_t key_at, key_len, value_at, value_len;
    int64_t deadline_ms;
    enum { UNSET = 0, IS_THERE, LOOKS_SAME, IS_DONE } state;
};

struct load_batch {
    struct buf text, commands;
    struct item items[BATCH_KEYS];
    uint32_t n;
};

enum outcome_of_try { TRY_DONE = 1, TRY_AGAIN, TRY_FAILED };

/* ---- telling ---- */

const char *load_key_text(struct bytes key, char text[LOAD_KEY_TEXT])
{
    size_t len = 0;

    for (size_t i = 0; i < key.len && i < LOAD_KEY_SHOWN; i++) {
        const uint8_t c = key.at[i];
        if (c >= ' ' && c < 0x7f && c != '\\')
            text[len++] = (char)c;
        else
            len += (size_t)snprintf(text + len, 5, "\\x%02x", c);
    }
    snprintf(text + len, 4, "%s", key.len > LOAD_KEY_SHOWN ? "..." : "");
    return text;
}

static bool fail(struct load *l, const char *text)
{
    progress_hide(l->progress);
    trouble("%s", text);
    return false;
}

static void count(struct load *l, uint64_t *kind, int64_t deadline_ms)
{
    ++*kind;
    if (deadline_ms == 0) l->tally->plain++;
    l->moved_ms = clock_ms();
}

static void conflict(struct load *l, struct bytes key)
{
    char text[LOAD_KEY_TEXT];

    l->tally->conflicts++;
    l->moved_ms = clock_ms();
    if (l->named++ >= NAMED_MAX) return;
    progress_hide(l->progress);
    fprintf(stderr,
            "sennit: key '%s' is there already, with another value or deadline; it was "
            "left as it is%s\n",
            load_key_text(key, text),
            l->named == NAMED_MAX ? " (further ones are counted only)" : "");
}

/* ---- when it does not work ---- */

/* Waits a little and connects again if need be; false: nothing has gone on for too long. */
static bool have_patience(struct load *l)
{
    do {
        if (clock_ms() - l->moved_ms >= LOAD_TRY_MS) {
            progress_hide(l->progress);
            trouble("nothing went on for %d s: %s", LOAD_TRY_MS / 1000, l->link->error);
            return false;
        }
        sleep_ms(PAUSE_MS);
    } while (!l->link->open && !link_again(l->link));
    return true;
}

static enum outcome_of_try lost(struct load *l)
{
    snprintf(l->link->error, sizeof l->link->error, "%s", l->link->client.error);
    link_close(l->link);
    return TRY_AGAIN;
}

static enum outcome_of_try refused(struct load *l, const struct value *reply,
                                   struct bytes key)
{
    char text[LOAD_KEY_TEXT];

    snprintf(l->link->error, sizeof l->link->error, "%.*s", (int)reply->text.len,
             (const char *)reply->text.at);
    if (is_passing(reply)) return TRY_AGAIN;
    progress_hide(l->progress);
    trouble("key '%s' could not be set: %s", load_key_text(key, text), l->link->error);
    return TRY_FAILED;
}

/* ---- commands ---- */

static void put_arg(struct buf *out, struct bytes arg)
{
    buf_putf(out, "$%zu\r\n", arg.len);
    buf_put(out, arg.at, arg.len);
    buf_put(out, "\r\n", 2);
}

static void put_number(struct buf *out, int64_t v)
{
    char text[I64_TEXT_MAX];

    put_arg(out, (struct bytes){(const uint8_t *)text, format_i64(text, v)});
}

static void put_look(struct buf *out, const char *name, struct bytes key)
{
    buf_putf(out, "*2\r\n");
    put_arg(out, bytes_of_str(name));
    put_arg(out, key);
}

/* Up to where the value comes, and from there on. */
static void put_set_begin(const struct load *l, struct buf *out, struct bytes key,
                          int64_t deadline_ms)
{
    buf_putf(out, "*%d\r\n", 3 + 2 * (deadline_ms != 0) + !l->overwrite);
    put_arg(out, BYTES_OF("SET"));
    put_arg(out, key);
}

static void put_set_end(const struct load *l, struct buf *out, int64_t deadline_ms)
{
    if (deadline_ms != 0) {
        put_arg(out, BYTES_OF("PXAT"));
        put_number(out, deadline_ms);
    }
    if (!l->overwrite) put_arg(out, BYTES_OF("NX"));
}

static bool is_integer(const struct value *v, int64_t n)
{
    return v->kind == VALUE_INTEGER && v->integer == n;
}

/* As Redis does, in its millisecond a key still lives. */
static bool still_lives(const struct load *l, int64_t deadline_ms)
{
    return deadline_ms == 0 || deadline_ms > l->clock_offset_ms + (int64_t)clock_ms();
}

/* What PEXPIRETIME says of a key with this deadline. */
static int64_t told_deadline(int64_t deadline_ms)
{
    return deadline_ms == 0 ? -1 : deadline_ms;
}

enum { NO_KEY = -2 };

/* ---- a batch ---- */

static struct bytes key_of(const struct load_batch *b, const struct item *item)
{
    return (struct bytes){b->text.at + item->key_at, item->key_len};
}

static struct bytes value_in(const struct load_batch *b, const struct item *item)
{
    return (struct bytes){b->text.at + item->value_at, item->value_len};
}

static void batch_add(struct load_batch *b, const struct copy_record *r)
{
    struct item *item = &b->items[b->n++];

    *item = (struct item){.key_at = b->text.len,
                          .key_len = r->key.len,
                          .value_at = b->text.len + r->key.len,
                          .value_len = r->value.len,
                          .deadline_ms = r->deadline_ms};
    buf_put(&b->text, r->key.at, r->key.len);
    buf_put(&b->text, r->value.at, r->value.len);
}

static bool send_commands(struct load *l)
{
    return client_send(&l->link->client, buf_bytes(&l->batch->commands));
}

/* Sets those that are not set yet; one that is there is left to be compared. */
static enum outcome_of_try batch_set(struct load *l)
{
    struct load_batch *b = l->batch;
    enum outcome_of_try result = TRY_DONE;
    const struct value *reply;

    b->commands.len = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct item *item = &b->items[i];
        if (item->state != UNSET) continue;
        put_set_begin(l, &b->commands, key_of(b, item), item->deadline_ms);
        put_arg(&b->commands, value_in(b, item));
        put_set_end(l, &b->commands, item->deadline_ms);
    }
    if (!send_commands(l)) return lost(l);
    for (uint32_t i = 0; i < b->n; i++) {
        struct item *item = &b->items[i];
        if (item->state != UNSET) continue;
        if (!client_receive(&l->link->client, &reply)) return lost(l);
        if (reply->kind == VALUE_ERROR) {
            const enum outcome_of_try one = refused(l, reply, key_of(b, item));
            if (one == TRY_FAILED) return one;
            result = one;
        } else if (reply->kind == VALUE_NULL) {
            item->state = IS_THERE;
        } else {
            item->state = IS_DONE;
            count(l, &l->tally->set, item->deadline_ms);
        }
    }
    return result;
}

/* Of one that is there: length and deadline, before its value is asked for. */
static enum outcome_of_try look_at(struct load *l, struct item *item)
{
    const struct bytes key = key_of(l->batch, item);
    const struct value *reply;

    if (!client_receive(&l->link->client, &reply)) return lost(l);
    const bool passing = is_passing(reply);
    const bool fits = is_integer(reply, (int64_t)item->value_len);
    if (!client_receive(&l->link->client, &reply)) return lost(l);
    if (passing || is_passing(reply)) return TRY_AGAIN;
    if (is_integer(reply, NO_KEY)) { /* gone again since */
        item->state = still_lives(l, item->deadline_ms) ? UNSET : IS_DONE;
        if (item->state == IS_DONE) count(l, &l->tally->expired, 1);
        return item->state == IS_DONE ? TRY_DONE : TRY_AGAIN;
    }
    if (fits && is_integer(reply, told_deadline(item->deadline_ms))) {
        item->state = LOOKS_SAME;
        return TRY_DONE;
    }
    item->state = IS_DONE;
    conflict(l, key);
    return TRY_DONE;
}

static enum outcome_of_try compare_value(struct load *l, struct item *item)
{
    const struct value *reply;

    if (!client_receive(&l->link->client, &reply)) return lost(l);
    item->state = IS_THERE;
    if (is_passing(reply)) return TRY_AGAIN;
    if (reply->kind == VALUE_NULL) { /* gone, and may be set now */
        item->state = UNSET;
        return TRY_AGAIN;
    }
    item->state = IS_DONE;
    if (reply->kind == VALUE_BULK && bytes_equal(reply->text, value_in(l->batch, item)))
        count(l, &l->tally->there, item->deadline_ms);
    else
        conflict(l, key_of(l->batch, item));
    return TRY_DONE;
}

static enum outcome_of_try batch_ask(struct load *l, int state, const char *const *looks,
                                     uint32_t n_looks,
                                     enum outcome_of_try (*take)(struct load *l,
                                                                 struct item *item))
{
    struct load_batch *b = l->batch;
    enum outcome_of_try result = TRY_DONE;

    b->commands.len = 0;
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t k = 0; k < n_looks && (int)b->items[i].state == state; k++)
            put_look(&b->commands, looks[k], key_of(b, &b->items[i]));
    if (!send_commands(l)) return lost(l);
    for (uint32_t i = 0; i < b->n; i++) {
        if ((int)b->items[i].state != state) continue;
        if (take(l, &b->items[i]) != TRY_DONE) result = TRY_AGAIN;
        if (!l->link->open) return TRY_AGAIN;
    }
    return result;
}

/* What LOOKS_SAME, and was not compared because the connection was lost, IS_THERE still. */
static enum outcome_of_try batch_compare(struct load *l)
{
    static const char *const looks[] = {"STRLEN", "PEXPIRETIME"}, *const gets[] = {"GET"};
    struct load_batch *b = l->batch;

    const enum outcome_of_try first = batch_ask(l, IS_THERE, looks, 2, look_at);
    const enum outcome_of_try second =
        l->link->open ? batch_ask(l, LOOKS_SAME, gets, 1, compare_value) : TRY_AGAIN;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->items[i].state == LOOKS_SAME) b->items[i].state = IS_THERE;
    return first == TRY_DONE ? second : TRY_AGAIN;
}

static bool batch_run(struct load *l)
{
    struct load_batch *b = l->batch;
    enum outcome_of_try result = TRY_DONE;

    l->moved_ms = clock_ms();
    while (b->n > 0) {
        result = batch_set(l);
        if (result == TRY_FAILED) return false;
        if (l->link->open) {
            const enum outcome_of_try compared = batch_compare(l);
            if (result == TRY_DONE) result = compared;
        }
        if (result == TRY_DONE) break;
        if (!have_patience(l)) return false;
    }
    b->n = 0;
    b->text.len = 0;
    return true;
}

/* ---- a large value ---- */

struct large {
    struct copy_source *source;
    struct copy_mark pieces; /* where its pieces begin */
    struct bytes key;
    uint64_t length;
    int64_t deadline_ms;
};

static bool next_piece(struct load *l, struct large *v, struct bytes *out)
{
    struct copy_record record;
    bool end;

    if (!copy_source_next(v->source, &record, &end)) return fail(l, l->dir->error);
    check(!end && record.kind == COPY_PIECE); /* it was checked before */
    *out = record.value;
    return true;
}

/* *sent false: the connection broke on the way. */
static bool send_large(struct load *l, struct large *v, bool *sent)
{
    struct client *c = &l->link->client;
    struct buf *text = &l->batch->commands;

    text->len = 0;
    put_set_begin(l, text, v->key, v->deadline_ms);
    buf_putf(text, "$%llu\r\n", (unsigned long long)v->length);
    *sent = client_send(c, buf_bytes(text));
    for (uint64_t left = v->length; left > 0;) {
        struct bytes piece;
        if (!next_piece(l, v, &piece)) return false;
        *sent = *sent && client_send(c, piece);
        left -= piece.len;
    }
    text->len = 0;
    buf_put(text, "\r\n", 2);
    put_set_end(l, text, v->deadline_ms);
    *sent = *sent && client_send(c, buf_bytes(text));
    return true;
}

/* Of a key that is there: is it the same?  Leaves the source behind the value. */
static enum outcome_of_try compare_pieces(struct load *l, struct large *v, bool *same)
{
    struct client *c = &l->link->client;
    struct buf *text = &l->batch->commands;
    const struct value *reply;
    enum outcome_of_try result = TRY_DONE;

    if (!copy_source_seek(v->source, &v->pieces)) {
        fail(l, l->dir->error);
        return TRY_FAILED;
    }
    for (uint64_t at = 0; at < v->length;) {
        struct bytes piece;
        if (!next_piece(l, v, &piece)) return TRY_FAILED;
        text->len = 0;
        buf_putf(text, "*4\r\n");
        put_arg(text, BYTES_OF("GETRANGE"));
        put_arg(text, v->key);
        put_number(text, (int64_t)at);
        at += piece.len;
        put_number(text, (int64_t)at - 1);
        if (!*same || result != TRY_DONE) continue;
        if (!client_send(c, buf_bytes(text)) || !client_receive(c, &reply))
            result = lost(l);
        else if (is_passing(reply))
            result = TRY_AGAIN;
        else
            *same = reply->kind == VALUE_BULK && bytes_equal(reply->text, piece);
        if (result == TRY_DONE) l->moved_ms = clock_ms();
    }
    return result;
}

static enum outcome_of_try compare_large(struct load *l, struct large *v)
{
    struct client *c = &l->link->client;
    struct buf *text = &l->batch->commands;
    const struct value *reply;

    text->len = 0;
    put_look(text, "STRLEN", v->key);
    put_look(text, "PEXPIRETIME", v->key);
    if (!client_send(c, buf_bytes(text)) || !client_receive(c, &reply)) return lost(l);
    const bool passing = is_passing(reply);
    bool same = is_integer(reply, (int64_t)v->length);
    if (!client_receive(c, &reply)) return lost(l);
    if (passing || is_passing(reply) || is_integer(reply, NO_KEY)) return TRY_AGAIN;
    same = same && is_integer(reply, told_deadline(v->deadline_ms));
    const enum outcome_of_try result = compare_pieces(l, v, &same);
    if (result != TRY_DONE) return result;
    if (same)
        count(l, &l->tally->there, v->deadline_ms);
    else
        conflict(l, v->key);
    return TRY_DONE;
}

static enum outcome_of_try set_large(struct load *l, struct large *v)
{
    const struct value *reply;
    bool sent;

    if (!copy_source_seek(v->source, &v->pieces)) {
        fail(l, l->dir->error);
        return TRY_FAILED;
    }
    if (!send_large(l, v, &sent)) return TRY_FAILED;
    /* If it was not sent whole, the server may have said why. */
    if (!client_receive(&l->link->client, &reply)) return lost(l);
    if (reply->kind == VALUE_ERROR) {
        const enum outcome_of_try result = refused(l, reply, v->key);
        if (!sent) link_close(l->link);
        return result;
    }
    if (!sent) return lost(l);
    if (reply->kind == VALUE_NULL) return compare_large(l, v);
    count(l, &l->tally->set, v->deadline_ms);
    return TRY_DONE;
}

static bool load_large(struct load *l, struct copy_source *source,
                       const struct copy_record *r)
{
    struct buf key = buf_new(l->mem);
    struct large v = {.source = source,
                      .pieces = source->at,
                      .length = r->length,
                      .deadline_ms = r->deadline_ms};
    enum outcome_of_try result;

    buf_put(&key, r->key.at, r->key.len);
    v.key = buf_bytes(&key);
    l->moved_ms = clock_ms();
    do {
        result = set_large(l, &v);
    } while (result == TRY_AGAIN && have_patience(l));
    buf_free(&key);
    return result == TRY_DONE;
}

static bool skip_large(struct load *l, struct copy_source *source, uint64_t length)
{
    struct large v = {.source = source};

    while (length > 0) {
        struct bytes piece;
        if (!next_piece(l, &v, &piece)) return false;
        length -= piece.len;
    }
    return true;
}

/* ---- a shard ---- */

static bool load_key(struct load *l, struct copy_source *source,
                     const struct copy_record *r)
{
    struct load_batch *b = l->batch;
    const bool large = r->length > COPY_PIECE_BYTES;

    if (!still_lives(l, r->deadline_ms)) {
        l->tally->expired++;
        return !large || skip_large(l, source, r->length);
    }
    if (large) return load_large(l, source, r);
    batch_add(b, r);
    return (b->n < BATCH_KEYS && b->text.len < BATCH_BYTES) || batch_run(l);
}

bool load_shard(struct load *l, const struct copy_shard *shard)
{
    struct copy_source source;
    struct copy_record record;
    uint64_t told = 0;
    bool end = false;

    if (!copy_source_open(&source, l->dir, shard)) {
        copy_source_close(&source);
        return fail(l, l->dir->error);
    }
    bool good = true;
    while (good && !end) {
        good = copy_source_next(&source, &record, &end) || fail(l, l->dir->error);
        if (!good || end) break;
        const bool is_key = record.kind == COPY_KEY;
        if (is_key) good = load_key(l, &source, &record);
        progress_add(l->progress, is_key, source.at.offset - told);
        told = source.at.offset;
    }
    copy_source_close(&source);
    return good && batch_run(l);
}

/* ---- life ---- */

bool load_begin(struct load *l)
{
    static const char *const args[] = {"TIME"};
    const struct value *reply = link_ask(l->link, 1, args);
    int64_t s, us;

    l->batch = NULL;
    if (reply == NULL) return fail(l, l->link->error);
    if (reply->kind != VALUE_ARRAY || reply->n != 2 ||
        !parse_i64(value_text(value_at(reply, 0)), &s) ||
        !parse_i64(value_text(value_at(reply, 1)), &us))
        return fail(l, "the server answers TIME in a way that this version does not "
                       "understand");
    l->clock_offset_ms = s * 1000 + us / 1000 - (int64_t)clock_ms();
    l->batch = mem_zero(l->mem, sizeof *l->batch);
    l->batch->text = buf_new(l->mem);
    l->batch->commands = buf_new(l->mem);
    return true;
}

void load_end(struct load *l)
{
    if (l->batch == NULL) return;
    buf_free(&l->batch->text);
    buf_free(&l->batch->commands);
    mem_free(l->mem, l->batch, sizeof *l->batch);
    l->batch = NULL;
}
