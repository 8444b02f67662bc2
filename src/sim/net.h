/* SPDX-License-Identifier: Apache-2.0 */
/* net - connections between machines and clients, as TCP gives them: bytes of one direction
 * arrive in order, whole and once, or not at all, after delays; a link may be cut in one
 * direction, and then bytes wait and arrive late, or the connection breaks.
 *
 * One thing is not TCP's: while frames are tampered with, whole frames between servers that
 * carry nothing but messages of the ordered core are dropped, doubled, or overtaken by later
 * ones.  The core must stand it.  Frames with forwarded requests are left alone: that they
 * come once is what the stream promises.
 *
 * Owner    streams live as long as the net
 */
#pragma once

#include "base/buf.h"
#include "base/prng.h"
#include "sim/report.h"
#include "sim/timeline.h"

enum { NET_NODES_MAX = 16 };

struct net_chunk;

struct net_pipe {
    struct net_chunk *head, *tail; /* on their way */
    uint64_t on_way, arrival_ns;   /* bytes; of the newest chunk */
    uint64_t held_since_ns;        /* the link is cut and the first chunk waits */
    bool held, ended, deaf; /* ended: nothing more is sent.  deaf: nobody receives */
    bool sender_waits;
    struct buf readable; /* arrived, not yet read */
    bool end_arrived;
    struct buf frames; /* begun by the sender, not yet whole */
    struct buf late;   /* a frame to be overtaken */
    uint32_t late_by;  /* frames that still go first */
};

struct net_end {
    uint32_t node;
    uint64_t life; /* of the process, or 0 for a client */
    struct conn_id conn;
    bool open; /* told of, and not closed since */
};

struct net_stream {
    uint64_t id;              /* from 1 */
    bool peer;                /* between servers */
    struct net_end ends[2];   /* [0] dialed */
    struct net_pipe pipes[2]; /* [i]: from ends[i] */
};

enum net_answer { NET_ACCEPTED = 1, NET_REFUSED, NET_NOBODY };

/* What the net tells its user; side: which end of the stream hears it. */
struct net_user {
    void *ctx;
    /* Someone dials: fill stream->ends[1].life and .conn and say yes, or refuse. */
    enum net_answer (*accept)(void *ctx, struct net_stream *s);
    void (*opened)(void *ctx, struct net_stream *s, int side);
    void (*failed)(void *ctx, struct net_stream *s, const char *why); /* to the dialer */
    void (*readable)(void *ctx, struct net_stream *s, int side);
    void (*writable)(void *ctx, struct net_stream *s, int side);
    void (*closed)(void *ctx, struct net_stream *s, int side);
    bool (*has_power)(void *ctx, uint32_t node);
};
struct net {
    struct mem *mem;
    struct timeline *time;
    struct prng prng;
    struct net_user user;
    uint64_t *marks;
    uint64_t low_ns, high_ns;
    uint64_t window_bytes;
    bool by_frames; /* streams between servers are cut into frames, so that */
    uint32_t frames_per_thousand; /* so many of them can be tampered with, now */
    uint32_t cut[NET_NODES_MAX][NET_NODES_MAX]; /* how many faults cut this direction */
    uint32_t slow[NET_NODES_MAX];               /* factor; 1: none */
    struct net_stream **streams;
    uint64_t n_streams, cap;
};

void net_init(struct net *n, struct mem *mem, struct timeline *time, uint64_t seed);
void net_free(struct net *n);

struct net_stream *net_dial(struct net *n, uint32_t node, uint64_t life,
                            struct conn_id conn, uint32_t target, bool peer);
size_t net_send(struct net *n, struct net_stream *s, int side,
                struct bytes bytes); /* taken */
/* Takes what was read from the front of what is readable at this side. */
void net_took(struct net *n, struct net_stream *s, int side, size_t len);
void net_close(struct net *n, struct net_stream *s, int side); /* after what was sent */
/* Both ends hear of it soon; what is on its way may be lost. */
void net_break(struct net *n, struct net_stream *s);
/* A process is gone: killed (its system says so) or without power (nobody says anything). */
void net_life_ended(struct net *n, uint32_t node, uint64_t life, bool power);

void net_cut(struct net *n, uint32_t from, uint32_t to);
void net_mend(struct net *n, uint32_t from, uint32_t to);
void net_break_all_of(struct net *n, uint32_t node);

static inline struct buf *net_readable(struct net_stream *s, int side)
{
    return &s->pipes[1 - side].readable;
}
