/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot coming in.  What arrives is from outside: each record is checked here, on
 * the loop, before a job sees it, and a bad one ends the install and not the process. */
#include "base/check.h"
#include "base/hash.h"
#include "store/store_state.h"

enum { BATCH_BYTES = 1 << 20 };

static void drop_taken(struct store *s)
{
    buf_free(&s->taken.records);
}

/* Inactive, with no bytes; what a job holds in `taken` stays until it is done. */
static void clear(struct store *s)
{
    struct buf in = s->install.in;

    buf_free(&in);
    root_free(&s->install.root, s->config.mem);
    s->install = (struct install){.number = s->install.number, .in = in};
    if (s->job.kind != JOB_INSTALL) drop_taken(s);
}

void install_free(struct store *s)
{
    clear(s);
    drop_taken(s); /* a job that has it will never run */
}

void store_install_begin(struct store *s, const struct store_base *base)
{
    clear(s);
    s->install.active = true;
    s->install.number++;
    root_set_base(&s->install.root, s->config.mem, base);
    s->installed = false;
}

void store_install_abort(struct store *s)
{
    clear(s);
}

uint64_t store_install_offset(const struct store *s)
{
    return s->install.offset;
}

/* ---- checking ---- */

static bool take_head(struct install *in, struct cursor c)
{
    uint8_t format;
    uint64_t index, term;

    if (in->headed) return false;
    if (!get_u8(&c, &format) || format != STREAM_FORMAT) return false;
    if (!get_u64(&c, &index) || !get_u64(&c, &term) || cursor_left(&c) != 0) return false;
    in->headed = true;
    return index == in->root.index.v && term == in->root.term.v;
}

static bool is_after_last(const struct install *in, const struct stream_spot *at)
{
    if (!in->any || at->place > in->place) return true;
    const struct bytes last = {in->suffix, in->suffix_len};
    return at->place == in->place && bytes_compare(at->suffix, last) > 0;
}

/* Whether the record may lie at that place: by its key, and, for a system item, by what
 * these may be. */
static bool is_placed(uint64_t place, struct bytes key, const struct record *r)
{
    if (!key_place_is_system((struct key_place){place}))
        return place == key_place_of(key).v;
    if (key.len == 0 || key.len > SYSTEM_KEY_MAX || r->flags != 0) return false;
    if (r->length > SYSTEM_VALUE_MAX || r->deadline_ms != 0) return false;
    return place == system_place_of(key).v;
}

static bool take_item(struct install *in, struct bytes body)
{
    struct stream_spot at;
    struct record r;
    uint8_t room[SUFFIX_MAX];

    if (!in->headed || in->pieces_seen != in->pieces) return false;
    if (!stream_spot_decode(body, &at) || !record_decode(at.rest, &r)) return false;

    const bool is_long = (r.flags & RECORD_LONG_KEY) != 0;
    const struct bytes key = is_long ? r.key : at.suffix;
    if (!is_long && key.len > STORE_KEY_INLINE) return false;
    if (!bytes_equal(at.suffix, suffix_of(key, room))) return false;
    if (!is_placed(at.place, key, &r) || !is_after_last(in, &at)) return false;

    in->any = true;
    if (key_place_is_system((struct key_place){at.place}))
        in->counts.system++;
    else
        in->counts.keys++;
    in->place = at.place;
    in->suffix_len = (uint32_t)at.suffix.len;
    if (at.suffix.len > 0) memcpy(in->suffix, at.suffix.at, at.suffix.len);
    in->length = r.length;
    in->pieces = (r.flags & RECORD_PIECES) != 0 ? piece_count(r.length) : 0;
    in->pieces_seen = 0;
    return true;
}

static bool take_piece(struct install *in, struct bytes body)
{
    const struct bytes last = {in->suffix, in->suffix_len};
    struct stream_spot at;

    if (in->pieces_seen == in->pieces || !stream_spot_decode(body, &at)) return false;
    if (at.place != in->place || !bytes_equal(at.suffix, last)) return false;
    if (at.rest.len < 4 || load_u32le(at.rest.at) != in->pieces_seen) return false;
    if (at.rest.len - 4 != piece_len(in->length, in->pieces_seen)) return false;
    in->pieces_seen++;
    return true;
}

static bool take_end(struct install *in, struct cursor c)
{
    struct counts end;

    if (!in->headed || in->pieces_seen != in->pieces) return false;
    if (!get_u64(&c, &end.keys) || !get_u64(&c, &end.system)) return false;
    if (cursor_left(&c) != 0) return false;
    in->ended = true;
    in->root.keys = end.keys;
    in->root.system = end.system;
    return end.keys == in->counts.keys && end.system == in->counts.system;
}

static bool take_record(struct install *in, struct bytes body)
{
    struct cursor c = cursor_of(body);
    uint8_t kind;

    if (in->ended || !get_u8(&c, &kind)) return false;
    switch (kind) {
    case STREAM_HEAD: return take_head(in, c);
    case STREAM_ITEM: return take_item(in, body);
    case STREAM_PIECE: return take_piece(in, body);
    case STREAM_END: return take_end(in, c);
    default: return false; /* a byte from outside */
    }
}

/* Checks the next record; *more: it was there whole. */
static bool check_next(struct install *in, bool *more)
{
    const uint8_t *at = in->in.at + in->checked;
    const size_t left = in->in.len - in->checked;

    *more = false;
    if (left < 4) return true;
    const uint32_t len = load_u32le(at);
    if (len == 0 || len > STREAM_BODY_MAX) return false;
    if (left < STREAM_FRAME + (size_t)len) return true;

    const struct bytes body = {at + 4, len};
    in->chain = hash64_seed(body, in->chain);
    if (load_u64le(at + 4 + len) != in->chain) return false;
    if (!take_record(in, body)) return false;
    in->checked += STREAM_FRAME + (size_t)len;
    *more = true;
    return true;
}

static bool has_job(const struct store *s)
{
    const struct install *in = &s->install;

    if (!in->active || in->broken) return false;
    if (s->taken.records.len > 0 && s->taken.number == in->number) return true;
    return in->checked >= BATCH_BYTES || in->ended;
}

enum store_install_result store_install_take(struct store *s, struct bytes piece)
{
    struct install *in = &s->install;
    check(in->active);
    if (in->broken) return STORE_INSTALL_BROKEN;
    if (in->ended && piece.len > 0) in->broken = true;
    check(in->ended || !has_job(s));

    buf_put(&in->in, piece.at, piece.len);
    in->offset += piece.len;
    for (bool more = in->in.len > 0; more && !in->broken;)
        in->broken = !check_next(in, &more);
    if (in->ended && in->checked != in->in.len) in->broken = true;
    if (in->broken) return STORE_INSTALL_BROKEN;
    return in->ended ? STORE_INSTALL_WHOLE : STORE_INSTALL_MORE;
}

/* ---- writing ---- */

static int write_records(const struct batch *b, struct bytes records)
{
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < records.len;) {
        const uint32_t len = load_u32le(records.at + at);
        const struct bytes body = {records.at + at + 4, len};
        const uint8_t kind = body.at[0];
        struct stream_spot spot;

        if (kind == STREAM_ITEM || kind == STREAM_PIECE) {
            check(stream_spot_decode(body, &spot));
            rc = kind == STREAM_ITEM ? batch_put_item(b, &spot)
                                     : batch_put_piece(b, &spot);
        }
        at += STREAM_FRAME + (size_t)len;
    }
    return rc;
}

/* The new generation becomes the shard's, the old one is dead: one small write. */
static int write_switch(struct job *job, const struct batch *b)
{
    struct ekey key;

    ekey_dead_gen(&key, job->gen_new);
    int rc = b->ops->remove(b->txn, ekey_bytes(&key));
    if (rc == 0 && job->gen != 0) rc = batch_gen_mark(b, job->gen, GEN_DEAD, job->group);
    job->root.gen = job->gen_new;
    return rc == 0 ? batch_put_root(b, job->group, &job->root) : rc;
}

static int install_run(struct kv_job *kv, struct kv_txn *txn)
{
    struct job *job = (struct job *)kv;
    struct batch b = {.txn = txn, .ops = kv->ops, .fresh = true};
    int rc = 0;

    job->gen_new = job->gen_spared;
    if (job->gen_new == 0) {
        /* Marked from the first batch on, so that a crash leaves nothing unswept. */
        rc = batch_gen_new(&b, &job->gen_new);
        if (rc == 0) rc = batch_gen_mark(&b, job->gen_new, GEN_HALF, job->group);
    }
    b.gen = job->gen_new;
    if (rc == 0) rc = write_records(&b, job->taken);
    return rc == 0 && job->last ? write_switch(job, &b) : rc;
}

struct kv_job *store_install_job(struct store *s)
{
    struct install *in = &s->install;
    struct taken *taken = &s->taken;
    if (store_busy(s) || !has_job(s)) return NULL;

    if (taken->records.len == 0 || taken->number != in->number) {
        drop_taken(s);
        taken->records = in->in;
        taken->number = in->number;
        taken->last = in->ended;
        in->in = buf_new(s->config.mem);
        buf_put(&in->in, taken->records.at + in->checked,
                taken->records.len - in->checked);
        taken->records.len = in->checked;
        in->checked = 0;
    }
    struct kv_job *kv = job_begin(s, JOB_INSTALL, install_run);
    s->job.taken = buf_bytes(&taken->records);
    s->job.last = taken->last;
    root_copy(&s->job.root, s->config.mem, &in->root);
    return kv;
}

void install_done(struct store *s, int error)
{
    struct install *in = &s->install;
    const bool given_up = !in->active || s->taken.number != in->number;

    if (error != 0) {
        if (given_up) drop_taken(s);
        return;
    }
    drop_taken(s);
    if (!given_up) in->gen = s->job.gen_new;
    if (!s->job.last) return;
    /* Even if it was given up meanwhile: the switch is on disk and thus a fact. */
    state_replace(s, &s->job.root);
    s->installed = true;
    if (!given_up) clear(s);
}

bool store_installed(struct store *s)
{
    const bool installed = s->installed;

    s->installed = false;
    return installed;
}
