/* SPDX-License-Identifier: Apache-2.0 */
/* answer - what is owed to someone, and the gate it waits for.
 *
 * A pipeline of commands to one shard shares one answer: replies are appended, the gate
 * is the most that any of them needs.  What a lost gate costs is then the same for all of
 * them: as many errors as there were replies. */
#include "server/server_state.h"

enum {
    FREE_ANSWERS_MAX = 4096,
    FREE_ANSWER_BYTES_MAX = 4096,         /* a buffer larger than that is given back */
    ANSWER_EXTEND_BYTES_MAX = 256 * 1024, /* a longer one is not appended to */
};

/* ---- life ---- */

static struct answer *answer_take(struct server *s)
{
    struct answer *a = s->free_answers;

    if (a == NULL) {
        a = mem_zero(s->mem, sizeof *a);
        a->bytes = buf_new(s->mem);
        return a;
    }
    s->free_answers = a->next;
    s->n_free_answers--;
    const struct buf bytes = a->bytes;
    *a = (struct answer){.bytes = bytes};
    return a;
}

void answer_free(struct server *s, struct answer *a)
{
    check(a->client == NULL);
    check(a->gate_next == NULL);

    far_drop(&a->far);
    if (a->bytes.cap > FREE_ANSWER_BYTES_MAX) buf_free(&a->bytes);
    if (s->n_free_answers == FREE_ANSWERS_MAX) {
        buf_free(&a->bytes);
        mem_free(s->mem, a, sizeof *a);
        return;
    }
    a->bytes.len = 0;
    a->next = s->free_answers;
    s->free_answers = a;
    s->n_free_answers++;
}

void answers_free(struct server *s)
{
    while (s->free_answers != NULL) {
        struct answer *a = s->free_answers;
        s->free_answers = a->next;
        buf_free(&a->bytes);
        mem_free(s->mem, a, sizeof *a);
    }
    s->n_free_answers = 0;
}

static bool mutes(const struct client *c)
{
    return c->reply_off || c->reply_skip;
}

static struct answer *append(struct client *c, enum answer_state state)
{
    struct answer *a = answer_take(c->server);

    a->state = state;
    a->client = c;
    a->mute = mutes(c);
    if (c->last_answer == NULL)
        c->answers = a;
    else
        c->last_answer->next = a;
    c->last_answer = a;
    c->n_filling += state == ANSWER_FILLING;
    c->n_open += state != ANSWER_READY;
    return a;
}

struct answer *answer_open(struct client *c)
{
    return append(c, ANSWER_FILLING);
}

struct answer *answer_for_request(struct server *s, struct request *r)
{
    struct answer *a = answer_take(s);

    a->request = r;
    return a;
}

/* ---- filling ---- */

static void count(struct answer *a)
{
    if (a->client == NULL) return;
    if (a->mute && a->state == ANSWER_READY) {
        a->bytes.len = 0;
        far_drop(&a->far);
    }
    a->client->owed_bytes += answer_len(a);
    a->client->owed_bytes -= a->counted;
    a->counted = answer_len(a);
}

/* The answer leaves the state FILLING. */
static void filled(struct server *s, struct answer *a)
{
    struct client *c = a->client;

    if (a->state != ANSWER_FILLING || c == NULL) return;
    check(c->n_filling > 0);
    c->n_filling--;
    c->asked_bytes -= a->asked;
    a->asked = 0;
    if (c->choked) client_touch(s, c);
}

static void closed(struct server *s, struct client *c)
{
    check(c->n_open > 0);
    c->n_open--;
    if (c->n_open > 0 || !c->draining) return;
    c->draining = false;
    client_go_on(s, c);
}

static void to_request(struct server *s, struct answer *a, enum outcome o)
{
    struct request *r = a->request;

    a->request = NULL;
    request_gate_result(s, r, a, o);
    answer_free(s, a);
}

void answer_ready(struct server *s, struct answer *a)
{
    check(a->state != ANSWER_READY);

    if (a->replies == 0) a->replies = 1;
    if (a->request != NULL) {
        to_request(s, a, OUTCOME_NONE);
        return;
    }
    filled(s, a);
    a->state = ANSWER_READY;
    if (a->client == NULL) {
        answer_free(s, a);
        return;
    }
    count(a);
    closed(s, a->client);
    client_touch(s, a->client);
}

void answer_error(struct server *s, struct answer *a, enum outcome o)
{
    check(a->state != ANSWER_READY);
    check(a->sent == 0);

    if (a->request != NULL) {
        to_request(s, a, o);
        return;
    }
    if (a->replies == 0) a->replies = 1;
    a->bytes.len = 0;
    far_drop(&a->far);
    struct reply r = {&a->bytes, 2}; /* errors read the same in both versions */
    for (uint32_t i = 0; i < a->replies; i++)
        reply_error(&r, outcome_row(o)->text);
    s->stats.error_replies += a->replies;
    answer_ready(s, a);
}

/* ---- replies that need no gate ---- */

/* Whether one more reply may be written behind those of the client's last answer. */
static bool may_extend(const struct client *c, const struct answer *a)
{
    return !a->in_flight && a->mute == mutes(c) &&
           answer_len(a) < ANSWER_EXTEND_BYTES_MAX;
}

struct reply answer_now(struct client *c)
{
    struct answer *a = c->last_answer;

    if (a == NULL || a->state != ANSWER_READY || !may_extend(c, a))
        a = append(c, ANSWER_READY);
    a->mark = a->bytes.len;
    return (struct reply){&a->bytes, c->resp};
}

void answer_now_done(struct server *s, struct client *c)
{
    struct answer *a = c->last_answer;

    check(a != NULL && a->state == ANSWER_READY);
    a->replies++;
    count(a);
    client_touch(s, c);
}

/* ---- gates ---- */

struct answer *answer_for_gate(struct client *c, struct slot *slot)
{
    struct answer *a = c->last_answer;

    if (a == NULL || a->state == ANSWER_FILLING || !may_extend(c, a) ||
        (a->state == ANSWER_GATED && a->slot != slot))
        a = append(c, ANSWER_FILLING);
    a->mark = a->bytes.len;
    return a;
}

/* The reply just written can't share the fate of those before it. */
static struct answer *split(struct answer *a)
{
    struct answer *next = append(a->client, ANSWER_FILLING);

    check(a->mark <= a->bytes.len);
    buf_put(&next->bytes, a->bytes.at + a->mark, a->bytes.len - a->mark);
    next->mute = a->mute;
    if (a->far.block != NULL && a->far.at >= a->mark) {
        next->far = a->far;
        next->far.at -= a->mark;
        a->far = (struct far){0};
    }
    a->bytes.len = a->mark;
    count(a);
    return next;
}

static enum shard_gate_state gate_state(const struct slot *slot,
                                        const struct shard_gate *gate)
{
    if (gate->term.v == 0) return GATE_OPEN;
    return slot->shard == NULL ? GATE_LOST : shard_gate(slot->shard, gate);
}

static void lost(struct server *s, struct answer *a)
{
    if (a->gate.wrote) s->stats.uncertain += a->replies;
    answer_error(s, a, a->gate.wrote ? OUTCOME_UNCERTAIN : OUTCOME_NOLEADER);
}

/* What the client is told now it has seen. */
static void note(struct answer *a, const struct slot *slot, const struct shard_gate *gate)
{
    if (a->client == NULL || gate->saw.v == 0 || slot->shard == NULL) return;
    client_note(a->client, slot->group, shard_position_at(slot->shard, gate->saw),
                gate->wrote);
}

static void gate_begin(struct server *s, struct answer *a, struct slot *slot,
                       const struct shard_gate *gate, enum shard_gate_state state)
{
    a->gate = *gate;
    a->replies = 1;
    if (state == GATE_OPEN) {
        note(a, slot, gate);
        answer_ready(s, a);
        return;
    }
    if (state == GATE_LOST) {
        lost(s, a);
        return;
    }
    filled(s, a);
    a->state = ANSWER_GATED;
    a->slot = slot;
    a->deadline = server_deadline(s, gate->ahead_bytes);
    a->gate_next = NULL;
    slot_watch(s, slot);
    if (slot->gated == NULL) slot->gated_end = &slot->gated;
    *slot->gated_end = a;
    slot->gated_end = &a->gate_next;
    count(a);
}

void answer_gate(struct server *s, struct answer *a, struct slot *slot,
                 const struct shard_gate *gate)
{
    const enum shard_gate_state state = gate_state(slot, gate);

    if (a->state == ANSWER_READY && state == GATE_OPEN) {
        a->replies++;
        count(a);
        client_touch(s, a->client);
        note(a, slot, gate);
        return;
    }
    if (a->state == ANSWER_GATED && state != GATE_LOST &&
        (gate->term.v == 0 || gate->term.v == a->gate.term.v)) {
        if (gate->index.v > a->gate.index.v) a->gate.index = gate->index;
        if (gate->round > a->gate.round) a->gate.round = gate->round;
        if (gate->saw.v > a->gate.saw.v) a->gate.saw = gate->saw;
        a->gate.wrote |= gate->wrote;
        if (gate->ahead_bytes >= BLOCK_BYTES_MIN)
            a->deadline = server_deadline(s, gate->ahead_bytes);
        a->replies++;
        count(a);
        return;
    }
    if (a->state != ANSWER_FILLING) a = split(a);
    gate_begin(s, a, slot, gate, state);
}

/* Out of the slot's list, in which `at` points to it. */
static struct answer *gate_take(struct slot *slot, struct answer **at)
{
    struct answer *a = *at;

    *at = a->gate_next;
    if (*at == NULL) slot->gated_end = at;
    a->gate_next = NULL;
    return a;
}

void answers_check(struct server *s, struct slot *slot)
{
    struct answer **at = &slot->gated;

    while (*at != NULL) {
        const enum shard_gate_state state = gate_state(slot, &(*at)->gate);
        if (state == GATE_WAITS) {
            at = &(*at)->gate_next;
            continue;
        }
        struct answer *a = gate_take(slot, at);
        if (state == GATE_LOST) {
            lost(s, a);
            continue;
        }
        note(a, slot, &a->gate);
        answer_ready(s, a);
    }
}

void answers_expire(struct server *s, struct slot *slot)
{
    struct answer **at = &slot->gated;

    while (*at != NULL) {
        if ((*at)->deadline.ns > s->now.ns) {
            at = &(*at)->gate_next;
            continue;
        }
        struct answer *a = gate_take(slot, at);
        if (a->gate.wrote) s->stats.uncertain += a->replies;
        answer_error(s, a, a->gate.wrote ? OUTCOME_UNCERTAIN_LATE : OUTCOME_NOQUORUM);
    }
}
