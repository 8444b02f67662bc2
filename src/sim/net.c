/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/net.h"

#include "wire/frame.h"

struct net_chunk {
    struct net_chunk *next;
    uint64_t arrives_ns;
    size_t len;
    bool end; /* nothing follows: the connection is closed */
    uint8_t bytes[];
};

void net_init(struct net *n, struct mem *mem, struct timeline *time, uint64_t seed)
{
    memset(n, 0, sizeof *n);
    n->mem = mem;
    n->time = time;
    n->prng = prng_seed(seed);
    n->window_bytes = 256 * 1024;
    for (uint32_t i = 0; i < NET_NODES_MAX; i++)
        n->slow[i] = 1;
}

static void chunks_drop(struct net *n, struct net_pipe *p)
{
    while (p->head != NULL) {
        struct net_chunk *c = p->head;
        p->head = c->next;
        mem_free(n->mem, c, sizeof *c + c->len);
    }
    p->tail = NULL;
    p->on_way = 0;
}

void net_free(struct net *n)
{
    for (uint64_t i = 0; i < n->n_streams; i++) {
        struct net_stream *s = n->streams[i];
        for (int side = 0; side < 2; side++) {
            chunks_drop(n, &s->pipes[side]);
            buf_free(&s->pipes[side].readable);
            buf_free(&s->pipes[side].frames);
            buf_free(&s->pipes[side].late);
        }
        mem_free(n->mem, s, sizeof *s);
    }
    mem_free(n->mem, n->streams, n->cap * sizeof *n->streams);
}

static bool is_cut(const struct net *n, uint32_t from, uint32_t to)
{
    return n->cut[from][to] > 0;
}

/* Mostly near the low end; one in a hundred is far out. */
static uint64_t delay(struct net *n, uint32_t from, uint32_t to)
{
    const uint64_t a = prng_range(&n->prng, n->low_ns, n->high_ns);
    const uint64_t b = prng_range(&n->prng, n->low_ns, n->high_ns);
    uint64_t d = a < b ? a : b;

    if (prng_chance(&n->prng, 10)) d += n->high_ns * prng_below(&n->prng, 10);
    return d * n->slow[from] * n->slow[to];
}

static struct net_stream *stream_of(const struct net *n, uint64_t id)
{
    check(id > 0 && id <= n->n_streams);
    return n->streams[id - 1];
}

/* ---- delivery ---- */

static void on_arrival(void *ctx, uint64_t id, uint64_t side);

static void schedule(struct net *n, struct net_stream *s, int side, uint64_t at_ns)
{
    timeline_at(n->time, at_ns, on_arrival, n, s->id, (uint64_t)side);
}

/* The sender's system gives up on bytes that nobody acknowledges. */
static void on_patience_over(void *ctx, uint64_t id, uint64_t side)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);
    const struct net_pipe *p = &s->pipes[side];

    if (!p->held || n->time->now_ns < p->held_since_ns + 8 * SEC_NS) return;
    net_break(n, s);
}

static void hold(struct net *n, struct net_stream *s, int side)
{
    struct net_pipe *p = &s->pipes[side];

    if (p->held) return;
    p->held = true;
    p->held_since_ns = n->time->now_ns;
    const uint64_t patience = prng_range(&n->prng, 8 * SEC_NS, 40 * SEC_NS);
    timeline_at(n->time, n->time->now_ns + patience, on_patience_over, n, s->id,
                (uint64_t)side);
}

static void end_of_bytes(struct net *n, struct net_stream *s, int side)
{
    s->pipes[side].end_arrived = true;
    if (s->ends[1 - side].open) n->user.closed(n->user.ctx, s, 1 - side);
}

static void on_arrival(void *ctx, uint64_t id, uint64_t from_side)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);
    const int side = (int)from_side;
    struct net_pipe *p = &s->pipes[side];
    bool news = false, ended = false;

    if (p->head == NULL || p->held) return;
    if (is_cut(n, s->ends[side].node, s->ends[1 - side].node)) {
        hold(n, s, side);
        return;
    }
    while (p->head != NULL && p->head->arrives_ns <= n->time->now_ns && !ended) {
        struct net_chunk *c = p->head;
        p->head = c->next;
        if (p->head == NULL) p->tail = NULL;
        p->on_way -= c->len;
        if (!p->deaf) buf_put(&p->readable, c->bytes, c->len);
        news = news || c->len > 0;
        ended = c->end;
        mem_free(n->mem, c, sizeof *c + c->len);
    }
    if (news && !p->deaf && s->ends[1 - side].open)
        n->user.readable(n->user.ctx, s, 1 - side);
    if (ended)
        end_of_bytes(n, s, side);
    else if (p->deaf && news && n->user.has_power(n->user.ctx, s->ends[1 - side].node))
        net_break(n, s); /* the other system answers that nobody is there */
}

static void put_on_way(struct net *n, struct net_stream *s, int side, const uint8_t *at,
                       size_t len, bool end)
{
    struct net_pipe *p = &s->pipes[side];
    struct net_chunk *c = mem_alloc(n->mem, sizeof *c + len);
    const uint64_t arrives = n->time->now_ns +
                             delay(n, s->ends[side].node, s->ends[1 - side].node);

    c->next = NULL;
    c->len = len;
    c->end = end;
    c->arrives_ns = arrives > p->arrival_ns ? arrives : p->arrival_ns;
    if (len > 0) memcpy(c->bytes, at, len);
    p->arrival_ns = c->arrives_ns;
    p->on_way += len;
    if (p->tail != NULL)
        p->tail->next = c;
    else
        p->head = c;
    p->tail = c;
    schedule(n, s, side, c->arrives_ns);
}

/* In pieces of any size now and then: no reader may rely on whole anything. */
static void send_raw(struct net *n, struct net_stream *s, int side, struct bytes b)
{
    while (b.len > 0) {
        size_t len = b.len;
        if (len > 1 && prng_chance(&n->prng, 150))
            len = (size_t)prng_range(&n->prng, 1, len < 4096 ? len : 4096);
        put_on_way(n, s, side, b.at, len, false);
        b = (struct bytes){b.at + len, b.len - len};
    }
}

/* ---- frames ---- */

/* Nothing in it but messages of the ordered core? */
static bool may_be_tampered(struct bytes whole)
{
    struct frame f;
    size_t used, want;
    struct message m;

    if (frame_decode(whole, &used, &want, &f) != FRAME_OK) return false;
    if (f.kind != FRAME_BATCH) return false;
    struct cursor c = cursor_of(f.body);
    for (;;) {
        const enum message_result r = message_decode(&c, &m);
        if (r != MESSAGE_OK) return r == MESSAGE_END;
        if (m.kind != MESSAGE_RAFT) return false;
    }
}

static void late_goes(struct net *n, struct net_stream *s, int side)
{
    struct net_pipe *p = &s->pipes[side];

    if (p->late.len == 0) return;
    send_raw(n, s, side, buf_bytes(&p->late));
    p->late.len = 0;
}

static void send_frame(struct net *n, struct net_stream *s, int side, struct bytes whole)
{
    struct net_pipe *p = &s->pipes[side];
    const bool tamper = prng_chance(&n->prng, n->frames_per_thousand) &&
                        may_be_tampered(whole);

    if (p->late.len > 0 && p->late_by-- == 0) late_goes(n, s, side);
    if (!tamper) {
        send_raw(n, s, side, whole);
        return;
    }
    switch (prng_below(&n->prng, 3)) {
    case 0: n->marks[MARK_frames_dropped]++; break;
    case 1:
        n->marks[MARK_frames_doubled]++;
        send_raw(n, s, side, whole);
        send_raw(n, s, side, whole);
        break;
    default:
        late_goes(n, s, side);
        n->marks[MARK_frames_late]++;
        buf_put(&p->late, whole.at, whole.len);
        p->late_by = (uint32_t)prng_range(&n->prng, 1, 4);
    }
}

static void send_framed(struct net *n, struct net_stream *s, int side, struct bytes b)
{
    struct net_pipe *p = &s->pipes[side];

    buf_put(&p->frames, b.at, b.len);
    size_t done = 0;
    while (p->frames.len - done >= 4) {
        const uint32_t len = load_u32le(p->frames.at + done);
        if (len < FRAME_HEAD || p->frames.len - done < len) break;
        send_frame(n, s, side, (struct bytes){p->frames.at + done, len});
        done += len;
    }
    buf_cut_front(&p->frames, done);
}

/* ---- the ends ---- */

size_t net_send(struct net *n, struct net_stream *s, int side, struct bytes bytes)
{
    struct net_pipe *p = &s->pipes[side];
    const uint64_t held = p->on_way + p->readable.len;
    const uint64_t room = held < n->window_bytes ? n->window_bytes - held : 0;
    const size_t len = bytes.len < room ? bytes.len : (size_t)room;

    p->sender_waits = len < bytes.len;
    if (len == 0 || p->ended) return len;
    const struct bytes taken = {bytes.at, len};
    if (s->peer && n->by_frames)
        send_framed(n, s, side, taken);
    else
        send_raw(n, s, side, taken);
    return len;
}

void net_took(struct net *n, struct net_stream *s, int side, size_t len)
{
    struct net_pipe *p = &s->pipes[1 - side];

    buf_cut_front(&p->readable, len);
    if (!p->sender_waits || p->on_way + p->readable.len >= n->window_bytes) return;
    p->sender_waits = false;
    if (s->ends[1 - side].open) n->user.writable(n->user.ctx, s, 1 - side);
}

static void go_deaf(struct net *n, struct net_stream *s, int side)
{
    struct net_pipe *p = &s->pipes[1 - side];

    s->ends[side].open = false;
    p->deaf = true;
    buf_free(&p->readable);
    p->readable.mem = n->mem;
}

void net_close(struct net *n, struct net_stream *s, int side)
{
    struct net_pipe *p = &s->pipes[side];

    go_deaf(n, s, side);
    if (p->ended) return;
    send_raw(n, s, side, buf_bytes(&p->frames));
    p->frames.len = 0;
    p->ended = true;
    put_on_way(n, s, side, NULL, 0, true);
}

static void on_reset(void *ctx, uint64_t id, uint64_t side)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);

    if (s->ends[side].open) n->user.closed(n->user.ctx, s, (int)side);
}

void net_break(struct net *n, struct net_stream *s)
{
    if (s->pipes[0].ended && s->pipes[1].ended) return;
    n->marks[MARK_streams_broken]++;
    for (int side = 0; side < 2; side++) {
        struct net_pipe *p = &s->pipes[side];
        p->ended = true;
        /* What has not arrived by now never will. */
        chunks_drop(n, p);
        const uint64_t soon = n->time->now_ns +
                              delay(n, s->ends[0].node, s->ends[1].node);
        timeline_at(n->time, soon, on_reset, n, s->id, (uint64_t)(1 - side));
    }
}

void net_life_ended(struct net *n, uint32_t node, uint64_t life, bool power)
{
    for (uint64_t i = 0; i < n->n_streams; i++) {
        struct net_stream *s = n->streams[i];
        for (int side = 0; side < 2; side++) {
            const struct net_end *e = &s->ends[side];
            if (e->node != node || e->life != life) continue;
            if (s->pipes[side].ended && !e->open) continue;
            if (!power) {
                /* Its system closes what it held: after the bytes, or at once. */
                if (prng_chance(&n->prng, 500)) {
                    net_close(n, s, side);
                } else {
                    go_deaf(n, s, side);
                    net_break(n, s);
                }
                continue;
            }
            go_deaf(n, s, side);
            s->pipes[side].ended = true;
            /* The other end learns by its own patience, or when it sends to a machine that
             * is up again (on_arrival). */
            const uint64_t patience = prng_range(&n->prng, 2 * SEC_NS, 20 * SEC_NS);
            timeline_at(n->time, n->time->now_ns + patience, on_reset, n, s->id,
                        (uint64_t)(1 - side));
        }
    }
}

/* ---- dialing ---- */

static void on_dial_failed(void *ctx, uint64_t id, uint64_t refused)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);

    n->user.failed(n->user.ctx, s, refused != 0 ? "connection refused" : "timed out");
}

static void on_dialer_opened(void *ctx, uint64_t id, uint64_t unused)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);

    (void)unused;
    if (s->pipes[0].ended) return; /* given up meanwhile */
    s->ends[0].open = true;
    n->user.opened(n->user.ctx, s, 0);
    if (s->pipes[1].readable.len > 0) n->user.readable(n->user.ctx, s, 0);
    if (s->pipes[1].end_arrived || s->pipes[1].ended) on_reset(n, id, 0);
}

static void on_dial_arrives(void *ctx, uint64_t id, uint64_t unused)
{
    struct net *n = ctx;
    struct net_stream *s = stream_of(n, id);
    const uint32_t a = s->ends[0].node, b = s->ends[1].node;
    const uint64_t now = n->time->now_ns;

    (void)unused;
    if (is_cut(n, a, b) || is_cut(n, b, a)) {
        timeline_at(n->time, now + 3 * SEC_NS, on_dial_failed, n, id, 0);
        return;
    }
    const enum net_answer answer = n->user.accept(n->user.ctx, s);
    if (answer == NET_NOBODY) {
        timeline_at(n->time, now + 3 * SEC_NS, on_dial_failed, n, id, 0);
        return;
    }
    if (answer == NET_REFUSED) {
        timeline_at(n->time, now + delay(n, b, a), on_dial_failed, n, id, 1);
        return;
    }
    s->ends[1].open = true;
    n->user.opened(n->user.ctx, s, 1);
    uint64_t at = now + delay(n, b, a);
    if (prng_chance(&n->prng, 20)) at += prng_below(&n->prng, 3 * SEC_NS);
    s->pipes[1].arrival_ns = at;
    timeline_at(n->time, at, on_dialer_opened, n, id, 0);
    if (s->pipes[0].end_arrived) n->user.closed(n->user.ctx, s, 1);
}

struct net_stream *net_dial(struct net *n, uint32_t node, uint64_t life,
                            struct conn_id conn, uint32_t target, bool peer)
{
    if (n->n_streams == n->cap) {
        const uint64_t cap = n->cap > 0 ? n->cap * 2 : 64;
        n->streams = mem_resize(n->mem, n->streams, n->cap * sizeof *n->streams,
                                cap * sizeof *n->streams);
        n->cap = cap;
    }
    struct net_stream *s = mem_zero(n->mem, sizeof *s);
    n->streams[n->n_streams++] = s;
    s->id = n->n_streams;
    s->peer = peer;
    s->ends[0] = (struct net_end){.node = node, .life = life, .conn = conn};
    s->ends[1] = (struct net_end){.node = target};
    for (int side = 0; side < 2; side++) {
        s->pipes[side].readable = buf_new(n->mem);
        s->pipes[side].frames = buf_new(n->mem);
        s->pipes[side].late = buf_new(n->mem);
    }
    timeline_at(n->time, n->time->now_ns + delay(n, node, target), on_dial_arrives, n,
                s->id, 0);
    return s;
}

/* ---- faults ---- */

void net_cut(struct net *n, uint32_t from, uint32_t to)
{
    n->cut[from][to]++;
    n->marks[MARK_links_cut]++;
}

void net_mend(struct net *n, uint32_t from, uint32_t to)
{
    check(n->cut[from][to] > 0);
    if (--n->cut[from][to] > 0) return;
    for (uint64_t i = 0; i < n->n_streams; i++) {
        struct net_stream *s = n->streams[i];
        for (int side = 0; side < 2; side++) {
            struct net_pipe *p = &s->pipes[side];
            if (!p->held || s->ends[side].node != from || s->ends[1 - side].node != to)
                continue;
            p->held = false;
            if (prng_chance(&n->prng, 150)) {
                net_break(n, s);
                continue;
            }
            /* The next time the sender's system tries. */
            const uint64_t at = n->time->now_ns + prng_below(&n->prng, 400 * MS_NS);
            for (struct net_chunk *c = p->head; c != NULL; c = c->next) {
                if (c->arrives_ns < at) c->arrives_ns = at;
                schedule(n, s, side, c->arrives_ns);
            }
            if (p->arrival_ns < at) p->arrival_ns = at;
        }
    }
}

void net_break_all_of(struct net *n, uint32_t node)
{
    const uint64_t count = n->n_streams;

    for (uint64_t i = 0; i < count; i++) {
        struct net_stream *s = n->streams[i];
        const bool there = s->ends[0].node == node || s->ends[1].node == node;
        if (there && s->ends[0].open && s->ends[1].open) net_break(n, s);
    }
}
