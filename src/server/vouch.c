/* SPDX-License-Identifier: Apache-2.0 */
/* vouch - servers speak for their groups that have fallen silent.
 *
 * A silent group (src/raft/quiet.c) sends nothing, so its followers can't tell a leader with
 * nothing to say from a dead one.  The leader's server says it for all of them at once: a beat
 * with the sum of what it vouches for on this connection, a set of (group, term).
 *
 * Both ends keep that set, changed by the same messages of one stream: an append with
 * RAFT_QUIET adds its group in its term, WAKE takes it out.  A beat counts only when its sum is
 * that of the receiver's set.  So a server that began anew, a leader that was deposed in the
 * meantime, or a message that was lost makes the sums differ, and a life alone keeps no leader.
 *
 *   leader's server                          follower's server
 *   QUIET append of a group         ──►      (group, term) added
 *   BEAT (sum), now and then        ──►      the same sum: all of the set is led
 *                                   ◄──      an empty batch: the beat's answer
 *   WAKE of a group                 ──►      taken out, and its replica wakes
 *                                   ◄──      DENY: no beat fitted for an election timeout, or
 *                                            none came; my set is empty and all of it awake
 *
 * What a connection vouched for ends with it, on both sides.
 *
 *   QUIET body: u8 kind (1 beat, 2 wake, 3 deny), u64 sum (of a beat, else 0)
 */
#include "server/server_state.h"

enum { VOUCH_BEAT = 1, VOUCH_WAKE, VOUCH_DENY, BEATS_PER_ELECTION = 4 };

/* ---- the sets ---- */

/* A term is never 0, so it is its own place in a map. */
static_assert(sizeof(void *) >= sizeof(uint64_t), "a term fits into a pointer");

static void *from_term(struct term term)
{
    return (void *)(uintptr_t)term.v;
}

static struct term to_term(const void *value)
{
    return (struct term){(uint64_t)(uintptr_t)value};
}

static uint64_t digest_of(struct group_id group, struct term term)
{
    uint8_t at[12];

    store_u32le(at, group.v);
    store_u64le(at + 4, term.v);
    return hash64((struct bytes){at, sizeof at});
}

void vouches_init(struct vouches *v, struct mem *mem)
{
    *v = (struct vouches){.terms = hmap_new(mem)};
}

void vouches_free(struct vouches *v)
{
    hmap_free(&v->terms);
    v->sum = 0;
}

static bool take_out(struct vouches *v, struct group_id group)
{
    const void *was = hmap_remove(&v->terms, group.v);

    if (was == NULL) return false;
    v->sum -= digest_of(group, to_term(was));
    return true;
}

static void put_in(struct vouches *v, struct group_id group, struct term term)
{
    take_out(v, group);
    hmap_put(&v->terms, group.v, from_term(term));
    v->sum += digest_of(group, term);
}

static bool is_empty(const struct vouches *v)
{
    return v->terms.count == 0;
}

/* The set, which is empty from here on; the caller frees what it gets. */
static struct vouches take_all(struct vouches *v)
{
    const struct vouches all = *v;

    vouches_init(v, all.terms.mem);
    return all;
}

/* ---- saying ---- */

static bool say(struct server *s, struct server_id to, struct group_id group,
                uint8_t kind, uint64_t sum)
{
    size_t start;
    struct buf *body = peer_say(s, to, group, MESSAGE_QUIET, &start);

    if (body == NULL) return false;
    buf_put_u8(body, kind);
    buf_put_u64(body, sum);
    peer_said(s, to, start);
    return true;
}

void vouch_said(struct server *s, struct slot *slot, const struct raft_msg *msg)
{
    struct peer *p = peer_find(s, msg->to);

    check(p != NULL && p->way != NULL); /* it was just said to it */
    slot->vouched = true;
    if (is_empty(&p->way->out_vouches)) p->way->beat_at = s->now;
    put_in(&p->way->out_vouches, slot->group, msg->term);
}

/* The group is silent no more, or not led from here.  Before what it has to say now. */
void vouch_end(struct server *s, struct slot *slot)
{
    uint64_t at = 0, key;
    void *value;

    if (!slot->vouched) return;
    slot->vouched = false;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (!take_out(&c->out_vouches, slot->group)) continue;
        (void)say(s, c->id, slot->group, VOUCH_WAKE, 0); /* lost: the next sum tells */
    }
}

/* ---- hearing ---- */

static struct shard *shard_at(const struct server *s, struct group_id group,
                              struct slot **slot)
{
    *slot = server_slot_find(s, group);
    if (*slot == NULL || (*slot)->retiring != RETIRE_NOT) return NULL;
    return (*slot)->shard;
}

static void silent(struct server *s, struct group_id group, struct server_id peer)
{
    struct slot *slot;
    struct shard *shard = shard_at(s, group, &slot);

    if (shard != NULL && shard_peer_silent(shard, peer, s->now)) slot_touch(s, slot);
}

void vouch_heard(struct server *s, struct peer_conn *c, struct slot *slot,
                 const struct raft_msg *msg)
{
    if (msg->kind != RAFT_APPEND || !(msg->flags & RAFT_QUIET)) return;
    const void *known = hmap_find(&c->in_vouches.terms, slot->group.v);
    if (known != NULL && to_term(known).v > msg->term.v) return; /* late */
    if (is_empty(&c->in_vouches)) c->vouched_at = s->now;
    put_in(&c->in_vouches, slot->group, msg->term);
}

static void wake(struct server *s, struct peer_conn *c, struct group_id group)
{
    struct slot *slot;
    struct shard *shard = shard_at(s, group, &slot);

    take_out(&c->in_vouches, group);
    if (shard != NULL && shard_wake(shard, c->id, s->now)) slot_touch(s, slot);
}

/* All that this server vouches for on a connection is awake again; while it stands, the other
 * side is told so for each. */
static void wake_led(struct server *s, struct peer_conn *c, bool tell)
{
    struct vouches all = take_all(&c->out_vouches);
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&all.terms, &at, &key, &value)) {
        const struct group_id group = {(uint32_t)key};
        if (tell) (void)say(s, c->id, group, VOUCH_WAKE, 0);
        silent(s, group, c->id);
    }
    vouches_free(&all);
}

static void wake_followed(struct server *s, struct peer_conn *c)
{
    struct vouches all = take_all(&c->in_vouches);
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&all.terms, &at, &key, &value))
        silent(s, (struct group_id){(uint32_t)key}, c->id);
    vouches_free(&all);
}

bool vouch_message(struct server *s, struct peer_conn *c, struct group_id group,
                   struct bytes body)
{
    struct cursor in = cursor_of(body);
    uint8_t kind;
    uint64_t sum;

    if (!get_u8(&in, &kind) || !get_u64(&in, &sum) || cursor_left(&in) != 0) return false;
    switch (kind) {
    case VOUCH_BEAT:
        if (sum == c->in_vouches.sum)
            c->vouched_at = s->now;
        else
            s->stats.vouches_differ++;
        c->pong_due = true;
        return true;
    case VOUCH_WAKE: wake(s, c, group); return true;
    case VOUCH_DENY: {
        struct peer *p = peer_find(s, c->id);
        if (p != NULL && p->way != NULL) wake_led(s, p->way, true);
        return true;
    }
    }
    return false;
}

void vouch_conn_lost(struct server *s, struct peer_conn *c)
{
    wake_led(s, c, false);
    wake_followed(s, c);
}

/* ---- time ---- */

static uint64_t beat_ns(const struct server *s)
{
    return s->config.limits.election_ns / BEATS_PER_ELECTION;
}

static bool is_stale(const struct server *s, struct instant since)
{
    return s->now.ns >= since.ns + s->config.limits.election_ns;
}

/* Before the shards are stepped: what is lost wakes them. */
void vouch_turn(struct server *s)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (!is_empty(&c->out_vouches) && is_stale(s, c->heard)) wake_led(s, c, true);
        if (is_empty(&c->in_vouches) || !is_stale(s, c->vouched_at)) continue;
        if (s->config.mutant.server == 2) { /* a beat missed is no matter */
            c->vouched_at = s->now;
            continue;
        }
        s->stats.vouches_lost++;
        wake_followed(s, c);
        (void)say(s, c->id, (struct group_id){0}, VOUCH_DENY, 0);
    }
}

/* At the end of the turn, so that a beat speaks of all that the turn has said. */
void vouch_beats(struct server *s)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (is_empty(&c->out_vouches) || s->now.ns < c->beat_at.ns) continue;
        c->beat_at.ns = s->now.ns + beat_ns(s);
        (void)say(s, c->id, (struct group_id){0}, VOUCH_BEAT, c->out_vouches.sum);
    }
}

struct instant vouch_wake(const struct server *s)
{
    struct instant wake = {0};
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *c = value;
        const uint64_t stale_ns = c->vouched_at.ns + s->config.limits.election_ns;
        if (!is_empty(&c->out_vouches) && (wake.ns == 0 || c->beat_at.ns < wake.ns))
            wake = c->beat_at;
        if (!is_empty(&c->in_vouches) && (wake.ns == 0 || stale_ns < wake.ns))
            wake.ns = stale_ns;
    }
    return wake;
}

/* V4 */
void vouch_verify(const struct server *s, const struct slot *slot)
{
    struct raft_info info;
    uint64_t at = 0, key;
    void *value;
    bool found = false;

    raft_info(shard_raft(slot->shard), &info);
    if (!info.quiet || info.role == RAFT_LEADER || slot->retiring != RETIRE_NOT) return;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *c = value;
        const void *term = hmap_find(&c->in_vouches.terms, slot->group.v);
        found = found || (c->id.v == info.leader.v && term != NULL &&
                          to_term(term).v == info.term.v);
    }
    check(found);
}
