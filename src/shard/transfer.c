/* SPDX-License-Identifier: Apache-2.0 */
/* transfer - a checkpoint on its way to a follower that the log no longer reaches.
 *
 * The sender keeps the bytes that are not yet acknowledged, so a piece is sent again from
 * memory; when the follower turns out to have begun anew (it restarted), the transfer begins
 * anew too, and is counted.  The receiver takes pieces in order only and answers with the
 * offset it wants next.  It is waited for as long as it answers, for its disk may have much to
 * do for other groups; one that is silent is given up.  The first bytes of a stream are the
 * membership as of the snapshot: a blob before the store's own stream.
 */
#include "shard/shard_internal.h"

enum { RESEND_MS = 1000, GIVE_UP_MS = 20000 };

/* ---- sender ---- */

static struct shard_sender *sender_of(struct shard *s, struct server_id to)
{
    for (uint32_t i = 0; i < s->n_senders; i++)
        if (s->senders[i].to.v == to.v) return &s->senders[i];
    return NULL;
}

/* As many as the core has under way at most. */
static struct shard_sender *sender_free(struct shard *s)
{
    if (s->n_senders == 0) {
        s->n_senders = RAFT_SNAPSHOTS_MAX;
        s->senders = mem_zero(s->config.mem, s->n_senders * sizeof *s->senders);
        for (uint32_t i = 0; i < s->n_senders; i++)
            s->senders[i].window = buf_new(s->config.mem);
    }
    return sender_of(s, (struct server_id){0});
}

static void sender_rewind(struct shard *s, struct shard_sender *x)
{
    if (x->snap != NULL) store_snapshot_close(x->snap);
    x->snap = store_snapshot_open(s->store);
    x->acked = x->sent = 0;
    x->end_read = false;
    x->window.len = 0;
    if (x->snap == NULL) {
        s->want_checkpoint = true;
        return;
    }
    buf_put_blob(&x->window, store_snapshot_base(x->snap).extra);
    x->resend.ns = s->now.ns + RESEND_MS * MS_NS;
}

static void sender_end(struct shard *s, struct shard_sender *x, bool ok)
{
    struct raft_event ev = {.kind = RAFT_SNAPSHOT_SENT, .now = s->now};
    ev.peer = x->to;
    ev.ok = ok;
    if (x->snap != NULL) store_snapshot_close(x->snap);
    x->snap = NULL;
    x->to.v = 0;
    buf_free(&x->window);
    raft_step(s->raft, &ev);
}

static void sender_start(struct shard *s, struct shard_sender *x)
{
    sender_rewind(s, x);
    if (x->snap == NULL) return;
    const struct store_base base = store_snapshot_base(x->snap);
    struct raft_event ev = {.kind = RAFT_SNAPSHOT_READY, .now = s->now};
    ev.peer = x->to;
    ev.index = base.index;
    ev.term = base.term;
    raft_step(s->raft, &ev);
    if (s->config.counts != NULL) s->config.counts->snapshots_sent++;
}

void transfer_wanted(struct shard *s, struct server_id to)
{
    if (sender_of(s, to) != NULL) return;
    struct shard_sender *x = sender_free(s);
    if (x == NULL) { /* those of members that are none any more are not ended yet */
        const struct raft_event ev = {
            .kind = RAFT_SNAPSHOT_SENT, .now = s->now, .peer = to};
        raft_step(s->raft, &ev);
        return;
    }
    x->to = to;
    x->heard = s->now;
    x->snap = NULL;
    /* A checkpoint that the kept log still connects to serves; else a new one is made. */
    if (store_base(s->store).index.v != 0)
        sender_start(s, x);
    else
        s->want_checkpoint = true;
}

void transfer_ready(struct shard *s)
{
    for (uint32_t i = 0; i < s->n_senders; i++)
        if (s->senders[i].to.v != 0 && s->senders[i].snap == NULL)
            sender_start(s, &s->senders[i]);
}

void transfer_peer_lost(struct shard *s, struct server_id peer)
{
    struct shard_sender *x = sender_of(s, peer);
    if (x == NULL) return;
    if (s->lead_term.v == 0) {
        sender_end(s, x, false);
        return;
    }
    x->sent = x->acked; /* what was under way is sent again once there is a way */
}

void transfer_end_all(struct shard *s)
{
    for (uint32_t i = 0; i < s->n_senders; i++) {
        if (s->senders[i].snap != NULL) store_snapshot_close(s->senders[i].snap);
        buf_free(&s->senders[i].window);
    }
}

void transfer_reply(struct shard *s, const struct raft_msg *m)
{
    struct shard_sender *x = sender_of(s, m->from);
    if (x == NULL || x->snap == NULL) return;
    if (m->index.v != store_snapshot_base(x->snap).index.v)
        return; /* of an earlier one */
    x->heard = s->now;
    if (m->flags & RAFT_REJECT) {
        sender_end(s, x, false);
        return;
    }
    if (m->flags & RAFT_DONE) {
        sender_end(s, x, true);
        return;
    }
    if (m->offset < x->acked) { /* it began anew */
        if (s->config.counts != NULL) s->config.counts->snapshots_restarted++;
        sender_rewind(s, x);
        return;
    }
    const uint64_t held = x->acked + x->window.len;
    if (m->offset > held || m->offset == x->acked) return;
    buf_cut_front(&x->window, m->offset - x->acked);
    x->acked = m->offset;
    if (x->sent < x->acked) x->sent = x->acked;
    x->resend.ns = s->now.ns + RESEND_MS * MS_NS;
}

/* The store's own stream begins behind the membership blob. */
static uint64_t stream_offset(const struct shard_sender *x)
{
    const struct bytes extra = store_snapshot_base(x->snap).extra;
    uint64_t head = extra.len + 1;
    for (uint64_t v = extra.len; v >= 0x80; v >>= 7)
        head++;
    return x->acked + x->window.len - head;
}

static void fill_window(struct shard *s, struct shard_sender *x)
{
    const size_t piece = s->config.snapshot_piece_bytes;
    while (!x->end_read && x->window.len + piece <= piece * s->config.snapshot_pieces_max)
        store_snapshot_read(x->snap, stream_offset(x), piece, &x->window, &x->end_read);
}

/* ---- the bound of what leaves ---- */

enum { RATE_PARTS = 10 }; /* of a second: what may go at once */

static uint64_t rate_burst(const struct shard *s)
{
    const uint64_t piece = s->config.snapshot_piece_bytes;
    const uint64_t part = s->config.rate->bytes_per_s / RATE_PARTS;

    return part > piece ? part : piece;
}

static void rate_fill(struct shard *s)
{
    struct shard_rate *r = s->config.rate;
    const uint64_t burst = rate_burst(s);
    uint64_t ns = s->now.ns - r->at.ns;

    if (ns > SEC_NS) ns = SEC_NS;
    const uint64_t more = ns * (r->bytes_per_s / 1000) / MS_NS;
    if (more == 0 && r->at.ns != 0) return; /* what is left of a byte is not lost */
    r->bytes = r->bytes + more < burst ? r->bytes + more : burst;
    r->at = s->now;
}

/* False: not now; transfer_wake() says when. */
static bool rate_take(struct shard *s, uint64_t bytes)
{
    struct shard_rate *r = s->config.rate;

    if (r == NULL || r->bytes_per_s == 0) return true;
    rate_fill(s);
    if (r->bytes < bytes) return false;
    r->bytes -= bytes;
    return true;
}

/* With everything acknowledged but its end not, an empty last piece asks again. */
static void send_pieces(struct shard *s, struct shard_sender *x, bool ask_again)
{
    const struct store_base base = store_snapshot_base(x->snap);
    const uint64_t held = x->acked + x->window.len;
    ask_again = ask_again && x->end_read && x->acked == held;
    while (x->sent < held || ask_again) {
        ask_again = false;
        const uint64_t left = held - x->sent;
        const uint64_t len = left < s->config.snapshot_piece_bytes
                                 ? left
                                 : s->config.snapshot_piece_bytes;
        const bool last = x->end_read && x->sent + len == held;
        x->paced = !rate_take(s, len);
        if (x->paced) return;
        const struct raft_msg m = {
            .kind = RAFT_SNAPSHOT,
            .flags = last ? RAFT_DONE : 0,
            .from = s->config.self,
            .to = x->to,
            .term = s->lead_term,
            .index = base.index,
            .log_term = base.term,
            .offset = x->sent,
            .data = {x->window.at + (x->sent - x->acked), len},
        };
        shard_say(s, &m);
        x->sent += len;
    }
}

void transfer_turn(struct shard *s)
{
    if (s->lead_term.v == 0) return;
    for (uint32_t i = 0; i < s->n_senders; i++) {
        struct shard_sender *x = &s->senders[i];
        if (x->to.v == 0) continue;
        if (s->now.ns > x->heard.ns + GIVE_UP_MS * MS_NS) {
            sender_end(s, x, false);
            continue;
        }
        if (x->snap == NULL) continue;
        const bool again = s->now.ns >= x->resend.ns;
        if (again) {
            x->sent = x->acked;
            x->resend.ns = s->now.ns + RESEND_MS * MS_NS;
        }
        fill_window(s, x);
        send_pieces(s, x, again);
    }
}

struct instant transfer_wake(const struct shard *s)
{
    struct instant wake = {0};
    for (uint32_t i = 0; i < s->n_senders; i++) {
        const struct shard_sender *x = &s->senders[i];
        if (x->to.v == 0) continue;
        uint64_t at = x->snap != NULL ? x->resend.ns
                                      : x->heard.ns + GIVE_UP_MS * MS_NS + 1;
        if (x->snap != NULL && x->paced) at = s->now.ns + SEC_NS / RATE_PARTS / 4;
        if (wake.ns == 0 || at < wake.ns) wake.ns = at;
    }
    return wake;
}

/* ---- receiver ---- */

static void answer_with(struct shard *s, struct server_id to,
                        const struct store_base *base, uint64_t offset, uint8_t flags)
{
    struct raft_info info;
    raft_info(s->raft, &info);
    const struct raft_msg m = {
        .kind = RAFT_SNAPSHOT_REPLY,
        .flags = (uint8_t)(flags | (info.doubtful ? RAFT_DOUBTFUL : 0)),
        .from = s->config.self,
        .to = to,
        .term = info.term,
        .index = base->index,
        .log_term = base->term,
        .offset = offset,
    };
    shard_say(s, &m);
}

static void answer(struct shard *s, uint8_t flags)
{
    const struct shard_install *in = &s->install;

    answer_with(s, in->from, &in->base, in->received, flags);
}

/* Nothing of it is here: from the start, please. */
static void answer_anew(struct shard *s, const struct raft_msg *m)
{
    const struct store_base base = {.index = m->index, .term = m->log_term};

    answer_with(s, m->from, &base, 0, 0);
}

static void install_abort(struct shard *s)
{
    store_install_abort(s->store);
    s->install.active = false;
    s->install.whole = false;
    s->install.backlog.len = 0;
}

void transfer_overtaken(struct shard *s, struct log_index commit)
{
    struct raft_entry e;
    if (!s->install.active || s->job != NULL || commit.v <= s->applied.v) return;
    /* The next entry is here: a leader whose log reaches back has come, and nobody may send
     * the rest of the snapshot any more. */
    if (raft_entry_at(s->raft, (struct log_index){s->applied.v + 1}, &e))
        install_abort(s);
}

/* The membership comes first; with it the store can begin. */
static bool install_begin(struct shard *s, const struct raft_msg *m, struct bytes *rest)
{
    struct shard_install *in = &s->install;
    struct cursor c = cursor_of(m->data);
    struct bytes extra;
    struct raft_config config;
    if (!get_blob(&c, &extra) || !raft_config_decode(extra, &config)) return false;
    in->extra.len = 0;
    buf_put(&in->extra, extra.at, extra.len);
    in->active = true;
    in->whole = false;
    in->from = m->from;
    in->base = (struct store_base){m->index, m->log_term, buf_bytes(&in->extra)};
    in->backlog.len = 0;
    in->received = m->data.len;
    *rest = (struct bytes){c.at, cursor_left(&c)};
    store_install_begin(s->store, &in->base);
    return true;
}

static bool same_install(const struct shard_install *in, const struct raft_msg *m)
{
    return in->active && in->from.v == m->from.v && in->base.index.v == m->index.v &&
           in->base.term.v == m->log_term.v;
}

void transfer_receive(struct shard *s, const struct raft_msg *m)
{
    struct shard_install *in = &s->install;
    struct bytes bytes = m->data;
    if (!same_install(in, m)) {
        if (s->job == NULL && in->active) install_abort(s);
        if (s->job != NULL || m->offset != 0) {
            answer_anew(s, m);
            return;
        }
        if (!install_begin(s, m, &bytes)) return;
    } else {
        if (m->offset != in->received || in->whole) {
            answer(s, 0);
            return;
        }
        in->received += m->data.len;
    }
    buf_put(&in->backlog, bytes.at, bytes.len);
    /* No answer while a batch is being written: it paces the sender.  One that has sent all
     * asks only whether we live. */
    if (m->data.len == 0 || in->backlog.len <= s->config.snapshot_piece_bytes)
        answer(s, 0);
}

/* Feeds what has arrived to the store while it has no batch to write. */
static void feed(struct shard *s)
{
    struct shard_install *in = &s->install;
    if (in->backlog.len == 0 || in->whole) return;
    const bool paced = in->backlog.len > s->config.snapshot_piece_bytes;
    switch (store_install_take(s->store, buf_bytes(&in->backlog))) {
    case STORE_INSTALL_MORE: break;
    case STORE_INSTALL_WHOLE: in->whole = true; break;
    case STORE_INSTALL_BROKEN:
        answer(s, RAFT_REJECT);
        install_abort(s);
        return;
    }
    in->backlog.len = 0;
    if (paced) answer(s, 0);
}

void transfer_install_turn(struct shard *s, struct shard_out *out)
{
    struct shard_install *in = &s->install;
    if (!in->active || s->job != NULL) return;
    if (s->retry_at.ns > s->now.ns) return;
    s->retry_at.ns = 0;
    struct kv_job *job = store_install_job(s->store);
    if (job == NULL) {
        feed(s);
        if (!in->active) return;
        job = store_install_job(s->store);
    }
    if (job == NULL) return;
    s->job = job;
    s->job_kind = SHARD_JOB_INSTALL;
    out->job = job;
}

void transfer_install_done(struct shard *s, int error)
{
    struct shard_install *in = &s->install;
    if (!in->active) return;
    if (error != 0) {
        /* Nothing was lost: the old state stands, and the sender begins again. */
        s->disk_full = true;
        s->retry_at.ns = s->now.ns + SEC_NS;
        answer(s, RAFT_REJECT);
        install_abort(s);
        return;
    }
    s->disk_full = false;
    if (!store_installed(s->store)) return;
    close_rebuild(s);

    struct raft_config config;
    const bool ok = raft_config_decode(in->base.extra, &config);
    check(ok);
    struct raft_event ev = {.kind = RAFT_INSTALLED, .now = s->now};
    ev.index = in->base.index;
    ev.term = in->base.term;
    ev.config = &config;
    raft_step(s->raft, &ev);
    s->applied = in->base.index;
    s->applied_term = in->base.term;
    /* Now: by the time it is written there may be entries that followed the snapshot. */
    struct raft_info info;
    raft_info(s->raft, &info);
    s->log_base_wanted = true;
    if (s->config.counts != NULL) s->config.counts->snapshots_installed++;
    s->log_base_clears = info.last.v == in->base.index.v;
    answer(s, RAFT_DONE);
    in->active = false;
    if (s->config.on_reset != NULL) s->config.on_reset(s->config.ctx);
}
