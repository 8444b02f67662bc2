/* SPDX-License-Identifier: Apache-2.0 */
/* client - connections of clients: bytes in, commands one after the other, answers out in
 * their order.
 *
 * A client that is not served in full (too many commands for one turn, a command that
 * waits, too much owed to it) keeps what is not parsed in `in`; when that grows its
 * reading stops, and the other end's TCP does the rest.
 *
 * C1  a client that is `gone` is in no list of clients; it is freed once neither the
 *     world (bytes of a SEND) nor `dirty` nor `going_on` has it
 * C2  only a client's first answer is in flight */
#include "server/server_state.h"

#include <stddef.h>
#include <stdio.h>

enum {
    RECEIVE_BYTES = 64 * 1024,
    SPACE_MIN_BYTES = 16 * 1024,
    SPACE_WHOLE_BYTES = 16 << 20, /* a value to this size is read into one reservation */
    IN_KEPT_BYTES = 64 * 1024,
    TURN_COMMANDS_MAX = 2000,
    TURN_BYTES_MAX = 4 << 20,
    SEND_JOIN_BYTES = 64 * 1024, /* answers are joined into one send up to this */
    FILLING_MAX = 1024,          /* requests of one client that others are to answer */
    ASKED_BYTES_MAX = 64 << 20,  /* and how long they may be, but for the last */
    TLS_HANDSHAKE = 0x16,
};

/* ---- life ---- */

static struct client *client_find(const struct server *s, struct conn_id conn)
{
    struct client *c = hmap_find(&s->clients, conn.v);
    return c == NULL || c->gone ? NULL : c;
}

static void answers_of_client_free(struct server *s, struct client *c)
{
    while (c->answers != NULL) {
        struct answer *a = c->answers;
        c->answers = a->next;
        a->client = NULL;
        answer_free(s, a);
    }
    c->last_answer = NULL;
}

static void client_free(struct server *s, struct client *c)
{
    answers_of_client_free(s, c);
    hmap_remove(&s->clients, c->conn.v);
    mem_free(s->mem, c, sizeof *c);
}

static void client_release(struct server *s, struct client *c) /* C1 */
{
    if (c->gone && !c->send_busy && !c->dirty && !c->going_on) client_free(s, c);
}

/* Requests that are under way keep their answers, as orphans. */
static void answers_leave(struct server *s, struct client *c)
{
    struct answer *a = c->answers;

    c->answers = NULL;
    c->last_answer = NULL;
    c->n_filling = 0;
    c->n_open = 0;
    while (a != NULL) {
        struct answer *next = a->next;
        a->next = NULL;
        if (a->in_flight && c->send_busy) {
            c->answers = a;
        } else {
            a->client = NULL;
            a->orphan = true;
            if (a->state == ANSWER_READY) answer_free(s, a);
        }
        a = next;
    }
}

static void client_remove(struct server *s, struct client *c)
{
    check(!c->gone);

    c->gone = true;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->first_client = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        s->last_client = c->prev;
    s->n_clients--;
    if (s->receiving == c) s->receiving = NULL;

    answers_leave(s, c);
    backup_end(s, c);
    request_client_gone(s, c);
    resp_parser_free(&c->parser);
    buf_free(&c->in);
    buf_free(&c->queue);
    buf_free(&c->watches);
    mem_free(s->mem, c->positions, c->positions_cap * sizeof *c->positions);
    client_release(s, c);
}

/* Answers that requests were to fill, and whose clients have gone already. */
static void orphans_free(struct server *s)
{
    for (uint32_t i = 0; i < s->timers.count; i++) {
        struct request *r = (struct request *)(void *)((char *)s->timers.nodes[i] -
                                                       offsetof(struct request, timer));
        if (r->answer != NULL && r->answer->client == NULL) answer_free(s, r->answer);
        r->answer = NULL;
    }
}

/* A request behind a gate has no timer: it gets one, by which requests_free() finds it.
 */
static void gated_free(struct server *s, struct slot *slot)
{
    while (slot->gated != NULL) {
        struct answer *a = slot->gated;
        slot->gated = a->gate_next;
        a->gate_next = NULL;
        if (a->request != NULL) heap_set(&s->timers, &a->request->timer, s->now.ns);
        if (a->client == NULL) answer_free(s, a);
    }
    slot->gated_end = &slot->gated;
}

void clients_free(struct server *s)
{
    uint64_t at = 0, key;
    void *value;

    fanouts_free(s);
    keyspaces_free(s);
    force_free(s);
    gathers_free(s);
    backups_free(s);
    for (uint32_t i = 0; i < s->n_slots; i++)
        gated_free(s, s->all_slots[i]);
    orphans_free(s);
    s->dirty_clients = NULL;
    s->going_on = NULL;
    while (hmap_next(&s->clients, &at, &key, &value)) {
        struct client *c = value;
        c->send_busy = c->dirty = c->going_on = false;
        answers_of_client_free(s, c);
        if (c->gone)
            client_release(s, c);
        else
            client_remove(s, c);
        at = 0; /* the table has changed */
    }
    if (s->receive != NULL) mem_free(s->mem, s->receive, RECEIVE_BYTES);
    s->receive = NULL;
    answers_free(s);
}

static void drop(struct server *s, struct client *c, enum server_log_level level,
                 const char *why)
{
    if (c->dropped || c->gone) return;
    c->dropped = true;
    c->why = why;
    server_log(s, level, "client %llu at %s is disconnected: %s",
               (unsigned long long)c->number, c->address, why);
    client_touch(s, c);
}

void client_drop(struct server *s, struct client *c, const char *why)
{
    drop(s, c, LOG_WARNING, why);
}

/* The last thing that is said; what came before it is answered first. */
static void say_and_close(struct server *s, struct client *c, const char *error)
{
    struct reply r = answer_now(c);

    reply_error(&r, error);
    answer_now_done(s, c);
    c->closing = true;
}

static void client_link(struct server *s, struct client *c)
{
    c->prev = s->last_client;
    if (s->last_client != NULL)
        s->last_client->next = c;
    else
        s->first_client = c;
    s->last_client = c;
    s->n_clients++;
    hmap_put(&s->clients, c->conn.v, c);
}

void server_client_open(struct server *s, struct conn_id conn, struct bytes address,
                        bool is_local_socket)
{
    struct client *c = mem_zero(s->mem, sizeof *c);
    const size_t len = address.len < sizeof c->address ? address.len
                                                       : sizeof c->address - 1;

    c->conn = conn;
    c->number = ++s->next_client;
    c->server = s;
    c->in = buf_new(s->mem);
    c->queue = buf_new(s->mem);
    c->watches = buf_new(s->mem);
    resp_parser_init(&c->parser, s->mem);
    c->local = is_local_socket;
    if (len > 0) memcpy(c->address, address.at, len);
    c->resp = 2;
    c->authenticated = s->config.password.len == 0;
    c->born = c->active = s->now;
    client_link(s, c);
    s->stats.connections++;

    if (s->n_clients > s->config.limits.clients_max) {
        s->stats.rejected++;
        say_and_close(s, c, "ERR max number of clients reached");
    }
}

void server_client_closed(struct server *s, struct conn_id conn)
{
    struct client *c = hmap_find(&s->clients, conn.v);

    if (c == NULL) return;
    c->send_busy = false;
    if (c->gone)
        client_release(s, c);
    else
        client_remove(s, c);
}

/* ---- lists ---- */

void client_touch(struct server *s, struct client *c)
{
    if (c->dirty || c->gone) return;
    c->dirty = true;
    c->dirty_next = NULL;
    if (s->dirty_clients == NULL) s->dirty_clients_end = &s->dirty_clients;
    *s->dirty_clients_end = c;
    s->dirty_clients_end = &c->dirty_next;
}

void client_go_on(struct server *s, struct client *c)
{
    if (c->going_on || c->gone) return;
    c->going_on = true;
    c->going_next = NULL;
    if (s->going_on == NULL) s->going_on_end = &s->going_on;
    *s->going_on_end = c;
    s->going_on_end = &c->going_next;
    client_touch(s, c); /* its reading may have to go on, too */
}

void client_let_go(struct server *s, struct client *c)
{
    if (c == NULL) return;
    c->held = false;
    client_go_on(s, c);
}

/* ---- bytes in ---- */

static size_t unread(const struct client *c)
{
    return c->in.len - c->in_at;
}

static bool may_parse(const struct client *c)
{
    return !(c->held || c->draining || c->choked || c->closing || c->dropped || c->gone);
}

/* Room for what is missing of a large value, but no more at once than has come already:
 * an announced length is a promise of a stranger. */
static size_t space_wanted(const struct client *c)
{
    const size_t have = unread(c);
    const size_t missing = c->want > have ? c->want - have : 0;

    if (missing <= SPACE_MIN_BYTES) return SPACE_MIN_BYTES;
    if (missing <= SPACE_WHOLE_BYTES) return missing;
    return have > SPACE_WHOLE_BYTES && have < missing ? have : SPACE_WHOLE_BYTES;
}

uint8_t *server_client_space(struct server *s, struct conn_id conn, size_t *room)
{
    struct client *c = client_find(s, conn);

    if (s->receive == NULL) s->receive = mem_alloc(s->mem, RECEIVE_BYTES);
    s->receiving = c;
    *room = RECEIVE_BYTES;
    if (c == NULL || c->closing || c->dropped || unread(c) == 0) return s->receive;

    const size_t more = space_wanted(c);
    if (more > RECEIVE_BYTES && !mem_room(s->mem, more)) {
        say_and_close(s, c, outcome_row(OUTCOME_FULL_MEMORY)->text);
        return s->receive;
    }
    s->receiving = NULL;
    if (c->in_at > 0) buf_cut_front(&c->in, c->in_at);
    c->in_at = 0;
    buf_reserve(&c->in, more);
    *room = c->in.cap - c->in.len;
    return c->in.at + c->in.len;
}

static void protocol_error(struct server *s, struct client *c, const char *error)
{
    char text[128];

    server_log(s, LOG_DEBUG, "client %llu at %s: %s", (unsigned long long)c->number,
               c->address, error);
    snprintf(text, sizeof text, "ERR %s", error);
    say_and_close(s, c, text);
}

static bool is_tls_hello(const struct client *c, struct bytes run)
{
    return c->commands_total == 0 && run.len >= 2 && run.at[0] == TLS_HANDSHAKE &&
           run.at[1] == 3;
}

static struct resp_limits limits_of(const struct server *s, const struct client *c)
{
    const uint64_t most = s->config.limits.value_bytes_max;

    if (UNLIKELY(!c->authenticated))
        return (struct resp_limits){RESP_UNAUTH_BULK_MAX, RESP_UNAUTH_ARGS_MAX,
                                    64 * 1024};
    return (struct resp_limits){most, FORWARD_ARGS_MAX, 64 * 1024};
}

/* What a client may have under way, and what it may be owed, is bounded: past two
 * halves of the bounds nothing more is begun for it, until it is under one. */
static bool is_past(const struct server *s, const struct client *c, uint32_t halves)
{
    return c->owed_bytes > s->config.limits.client_output_pause_bytes / 2 * halves ||
           c->n_filling >= FILLING_MAX / 2 * halves ||
           c->asked_bytes > (uint64_t)ASKED_BYTES_MAX / 2 * halves;
}

static void note_asked(struct client *c, size_t len)
{
    struct answer *a = c->last_answer;

    if (a == NULL || a->state != ANSWER_FILLING || a->asked > 0) return;
    a->asked = len;
    c->asked_bytes += len;
}

/* Carries out the commands of a run, within bounds; returns how many bytes were used. */
static size_t commands_run(struct server *s, struct client *c, struct bytes run)
{
    size_t at = 0;

    c->want = 0;
    for (uint32_t n = 0; at < run.len && may_parse(c); n++) {
        if (n == TURN_COMMANDS_MAX || at >= TURN_BYTES_MAX) {
            client_go_on(s, c);
            break;
        }
        const struct resp_limits limits = limits_of(s, c);
        const struct bytes rest = {run.at + at, run.len - at};
        struct resp_parsed parsed;
        switch (resp_parse(&c->parser, &limits, rest, &parsed)) {
        case RESP_MORE: c->want = parsed.want; return at;
        case RESP_NOTHING: at += parsed.used; continue;
        case RESP_BROKEN: protocol_error(s, c, parsed.error); return run.len;
        case RESP_COMMAND: break;
        }
        if (UNLIKELY(c->n_open > 0) &&
            session_waits_for_all(c, parsed.args, parsed.n_args)) {
            c->draining = true; /* and is parsed once more then */
            return at;
        }
        at += parsed.used;
        if (s->lent != NULL) s->lent_at = (size_t)(rest.at - s->lent->bytes.at);
        session_command(s, c, parsed.args, parsed.n_args);
        note_asked(c, parsed.used);
        if (UNLIKELY(is_past(s, c, 2))) c->choked = true;
    }
    return at;
}

/* Who keeps a large value keeps all that it came in; what comes behind it is copied out. */
static void in_run_lent(struct server *s, struct client *c)
{
    struct block *lent = block_take(&c->in);
    const struct buf *in = &lent->bytes;

    s->lent = lent;
    c->in_at += commands_run(s, c, (struct bytes){in->at + c->in_at, in->len - c->in_at});
    s->lent = NULL;
    if (block_untake(lent, &c->in)) return;
    buf_put(&c->in, in->at + c->in_at, in->len - c->in_at);
    c->in_at = 0;
    block_unref(lent);
}

static void in_run(struct server *s, struct client *c)
{
    if (unread(c) == 0 || !may_parse(c)) return;

    if (unread(c) >= BLOCK_BYTES_MIN)
        in_run_lent(s, c);
    else
        c->in_at += commands_run(s, c, (struct bytes){c->in.at + c->in_at, unread(c)});
    if (unread(c) > 0) return;
    c->in.len = c->in_at = 0;
    if (c->in.cap > IN_KEPT_BYTES) buf_free(&c->in);
}

static void received(struct server *s, struct client *c, struct bytes run)
{
    if (UNLIKELY(is_tls_hello(c, run))) {
        drop(s, c, LOG_WARNING,
             "it speaks TLS, which this port does not; connect to it in plain text");
        return;
    }
    const size_t used = may_parse(c) ? commands_run(s, c, run) : 0;
    if (used < run.len) buf_put(&c->in, run.at + used, run.len - used);
}

void server_client_data(struct server *s, struct conn_id conn, size_t len)
{
    struct client *c = client_find(s, conn);
    const bool shared = s->receiving != NULL && s->receiving == c;

    s->receiving = NULL;
    if (c == NULL || c->closing || c->dropped) return;
    s->stats.bytes_in += len;
    c->active = s->now;
    if (shared) {
        check(len <= RECEIVE_BYTES);
        check(unread(c) == 0);
        received(s, c, (struct bytes){s->receive, len});
    } else {
        check(len <= c->in.cap - c->in.len);
        c->in.len += len;
        in_run(s, c);
    }
    if (unread(c) > s->config.limits.client_input_bytes_max)
        client_drop(s, c, "a command is longer than client-query-buffer-limit");
    if (!may_parse(c)) client_touch(s, c);
}

/* ---- bytes out ---- */

static struct answer *first_take(struct client *c)
{
    struct answer *a = c->answers;

    c->answers = a->next;
    if (c->answers == NULL) c->last_answer = NULL;
    c->owed_bytes -= a->counted;
    a->client = NULL;
    a->next = NULL;
    return a;
}

static bool is_ready(const struct answer *a)
{
    return a != NULL && a->state == ANSWER_READY;
}

/* The READY answers behind the first, as far as they are worth the copy. */
static void join(struct server *s, struct client *c)
{
    struct answer *first = c->answers;

    while (is_ready(first->next)) {
        struct answer *a = first->next;
        if (answer_len(first) + answer_len(a) > SEND_JOIN_BYTES) return;
        buf_put(&first->bytes, a->bytes.at, a->bytes.len);
        first->counted += a->counted;
        first->replies += a->replies;
        first->next = a->next;
        if (c->last_answer == a) c->last_answer = first;
        a->client = NULL;
        answer_free(s, a);
    }
}

/* What is to be sent next and is there. */
static struct bytes answer_run(const struct answer *a)
{
    const struct far *far = &a->far;

    if (far->block == NULL)
        return (struct bytes){a->bytes.at + a->sent, a->bytes.len - a->sent};
    if (a->sent < far->at)
        return (struct bytes){a->bytes.at + a->sent, far->at - a->sent};
    const uint64_t in = a->sent - far->at;
    if (in < far->len)
        return (struct bytes){far->block->bytes.at + far->from + in, far_there(far) - in};
    const uint64_t at = a->sent - far->len;
    return (struct bytes){a->bytes.at + at, a->bytes.len - at};
}

void client_flush(struct server *s, struct client *c)
{
    if (c->send_busy) return;
    while (is_ready(c->answers) && c->answers->sent == answer_len(c->answers))
        answer_free(s, first_take(c)); /* muted */
    struct answer *a = c->answers;
    if (!is_ready(a)) return;

    if (!a->in_flight) join(s, c);
    const struct bytes run = answer_run(a);
    if (run.len == 0) { /* it is still being read */
        client_go_on(s, c);
        return;
    }
    a->given = a->sent + run.len;
    struct server_action *send = server_act(s, SERVER_SEND);
    send->conn = c->conn;
    send->bytes = run;
    send->more = a->given < answer_len(a) || is_ready(a->next);
    a->in_flight = true; /* C2 */
    c->send_busy = true;
}

static void sent(struct server *s, struct client *c, size_t taken)
{
    struct answer *a = c->answers;

    check(a != NULL && a->in_flight);
    check(taken <= a->given - a->sent);
    a->sent += taken;
    c->active = s->now;
    if (a->sent < a->given) return; /* the rest once more can be taken */

    c->send_busy = false;
    if (a->sent < answer_len(a)) {
        client_touch(s, c);
        return;
    }
    answer_free(s, first_take(c));
    if (c->choked || c->closing || is_ready(c->answers)) client_touch(s, c);
}

bool client_sent(struct server *s, struct conn_id conn, size_t taken)
{
    struct client *c = hmap_find(&s->clients, conn.v);

    if (c == NULL) return false;
    if (!c->send_busy) return true;
    s->stats.bytes_out += taken;
    if (c->gone) {
        c->send_busy = false;
        client_release(s, c);
    } else {
        sent(s, c, taken);
    }
    return true;
}

bool client_writable(struct server *s, struct conn_id conn)
{
    struct client *c = hmap_find(&s->clients, conn.v);

    if (c == NULL) return false;
    if (c->gone || !c->send_busy) return true;
    c->send_busy = false;
    client_touch(s, c);
    return true;
}

/* ---- the turn ---- */

static void client_close(struct server *s, struct client *c, const char *why)
{
    struct server_action *close = server_act(s, SERVER_CLOSE);

    close->conn = c->conn;
    close->text = why;
    client_remove(s, c);
}

/* Reading stops when what comes could only be kept, and goes on when it can be used. */
static void reading_adjust(struct server *s, struct client *c)
{
    const bool waits = !may_parse(c) || c->going_on;
    const bool pause = c->closing || c->choked || (waits && unread(c) >= RECEIVE_BYTES);

    if (pause == c->paused) return;
    c->paused = pause;
    server_act(s, pause ? SERVER_PAUSE : SERVER_RESUME)->conn = c->conn;
}

static void client_turn_end(struct server *s, struct client *c)
{
    const struct server_limits *limits = &s->config.limits;

    if (c->owed_bytes > limits->client_output_bytes_max)
        client_drop(s, c,
                    "more is owed to it than client-output-bytes-max; it must read "
                    "its answers faster");
    if (c->dropped) {
        client_close(s, c, c->why);
        return;
    }
    client_flush(s, c);
    if (c->closing && c->answers == NULL && !c->send_busy) {
        client_close(s, c, "closed as asked or after an error");
        return;
    }
    if (c->choked && !is_past(s, c, 1)) {
        c->choked = false;
        client_go_on(s, c);
    }
    reading_adjust(s, c);
}

/* Those that must go on again wait for the next turn. */
static void clients_go_on(struct server *s)
{
    struct client *c = s->going_on;

    s->going_on = NULL;
    while (c != NULL) {
        struct client *next = c->going_next;
        c->going_on = false;
        if (c->gone) {
            client_release(s, c);
        } else {
            in_run(s, c);
            client_touch(s, c);
        }
        c = next;
    }
}

bool clients_turn_end(struct server *s)
{
    const uint32_t n_dirty = s->n_dirty;

    clients_go_on(s);
    fanouts_turn(s);
    keyspaces_turn(s);
    gathers_turn(s);
    backups_turn(s);
    while (s->dirty_clients != NULL) {
        struct client *c = s->dirty_clients;
        s->dirty_clients = c->dirty_next;
        c->dirty = false;
        if (c->gone)
            client_release(s, c);
        else
            client_turn_end(s, c);
    }
    return s->going_on != NULL || s->fanouts != NULL || s->n_dirty > n_dirty;
}

/* ---- what a client has seen ---- */

static struct client_position *position_get(struct client *c, struct group_id group)
{
    struct mem *mem = c->server->mem;

    for (uint32_t i = 0; i < c->n_positions; i++)
        if (c->positions[i].group.v == group.v) return &c->positions[i];
    if (c->n_positions == c->positions_cap) {
        const uint32_t cap = c->positions_cap == 0 ? 4 : c->positions_cap * 2;
        c->positions = mem_resize(mem, c->positions,
                                  c->positions_cap * sizeof *c->positions,
                                  cap * sizeof *c->positions);
        c->positions_cap = cap;
    }
    struct client_position *p = &c->positions[c->n_positions++];
    *p = (struct client_position){.group = group};
    return p;
}

/* Along a log terms never fall, so of two positions the one of the later term is later. */
static bool is_later(const struct shard_position *a, const struct shard_position *b)
{
    if (a->term.v != b->term.v) return a->term.v > b->term.v;
    return a->index.v > b->index.v || (a->index.v == b->index.v && a->settled);
}

void client_note(struct client *c, struct group_id group, struct shard_position seen,
                 bool wrote)
{
    if (seen.index.v == 0) return;

    struct client_position *p = position_get(c, group);
    if (is_later(&seen, &p->seen)) p->seen = seen;
    if (wrote) p->wrote = seen.index;
}

struct shard_position client_position(const struct client *c, struct group_id group)
{
    for (uint32_t i = 0; i < c->n_positions; i++)
        if (c->positions[i].group.v == group.v) return c->positions[i].seen;
    return (struct shard_position){0};
}

/* Without SESSION a connection still sees what it was told, as long as there is any replica
 * that has it.  From WATCH to EXEC it is in a session with the shard: what it reads in between
 * is of a log that goes on from where WATCH found it, and so are the changes that EXEC
 * compares.  WATCH asks a leader for all that it has, and so is later than anything before. */
bool client_in_session(const struct client *c, struct group_id group)
{
    const bool watches = c->n_watches > 0 && c->queue_group.v == group.v &&
                         c->server->config.mutant.server != 6;

    return c->session || watches;
}

/* What an answer has to show at the least; else it is an error, or of EXEC nil. */
struct shard_position client_must_see(const struct client *c, struct group_id group)
{
    if (!client_in_session(c, group)) return (struct shard_position){0};
    return client_position(c, group);
}
