/* SPDX-License-Identifier: Apache-2.0 */
/* keyspace - KEYSPACE CREATE, ALTER and DROP, as the client that asked for them sees them.
 *
 * The meta leader only begins a CREATE or DROP, and answers with the keyspace's id; shards
 * close themselves (closing.c), and the end shows in the view, here as everywhere.  So who
 * waits hears it although leaders change meanwhile.  A refusal is in the view for an instant
 * only: the last ones are kept for those whose answer comes a little later. */
#include "server/server_state.h"

#include <stdio.h>

#include "base/text.h"

enum { WAIT_TIMEOUTS = 4 }; /* request timeouts that an answer waits for the end */

struct keyspace_wait {
    struct answer *answer;
    uint32_t keyspace; /* id */
    enum keyspace_change { CHANGE_CREATE = 1, CHANGE_ALTER, CHANGE_DROP } change;
    struct instant deadline;
    struct keyspace_wait *next;
};

static void end_error(struct server *s, struct answer *a, const char *text)
{
    struct reply r = {&a->bytes, 2};

    reply_error(&r, text);
    answer_ready(s, a);
}

static void end_ok(struct server *s, struct answer *a)
{
    struct reply r = {&a->bytes, 2};

    reply_ok(&r);
    answer_ready(s, a);
}

/* ---- the end ---- */

void keyspaces_note(struct server *s, const struct effect *e)
{
    const struct bytes prefix = BYTES_OF("k/");

    if (e->kind != EFFECT_PUT || e->key.len <= prefix.len) return;
    if (memcmp(e->key.at, prefix.at, prefix.len) != 0) return;
    const struct bytes name = {e->key.at + prefix.len, e->key.len - prefix.len};
    const struct meta_keyspace *k = meta_keyspace_named(&s->meta, name);
    if (k == NULL || k->state != KEYSPACE_REFUSED) return;
    s->refused[s->n_refused++ % KEYSPACES_REFUSED_KEPT] = (struct keyspace_refused){
        k->id, k->hidden};
}

static const struct keyspace_refused *refusal_of(const struct server *s, uint32_t id)
{
    for (uint32_t i = 0; i < KEYSPACES_REFUSED_KEPT; i++)
        if (s->refused[i].keyspace == id) return &s->refused[i];
    return NULL;
}

static void end_create(struct server *s, struct keyspace_wait *w,
                       const struct meta_keyspace *k)
{
    const struct keyspace_refused *refused = refusal_of(s, w->keyspace);
    char text[160];

    if (k != NULL) {
        end_ok(s, w->answer);
    } else if (refused != NULL) {
        snprintf(text, sizeof text,
                 "KEYSEXIST %llu keys of default begin with this name; "
                 "delete or move them first",
                 (unsigned long long)refused->keys);
        end_error(s, w->answer, text);
    } else {
        end_error(
            s, w->answer,
            "UNCERTAIN the keyspace is gone: keys of default begin with its name, or "
            "it was dropped again");
    }
}

static bool all_settled(const struct server *s, uint32_t keyspace)
{
    const struct meta_shard *shard;

    for (uint32_t i = 0; (shard = meta_shard_of(&s->meta, keyspace, i)) != NULL; i++)
        if (!shard->settled) return false;
    return true;
}

static bool has_ended(const struct server *s, const struct keyspace_wait *w,
                      const struct meta_keyspace *k)
{
    switch (w->change) {
    case CHANGE_CREATE:
        if (k == NULL) return true;
        if (k->state == KEYSPACE_CREATING) return false;
        /* It is made; one that lacks a majority now is not waited for. */
        return !meta_has_unborn(&s->meta, w->keyspace) || s->now.ns >= w->deadline.ns;
    case CHANGE_ALTER: return k == NULL || all_settled(s, w->keyspace);
    case CHANGE_DROP: return k == NULL;
    }
    return true;
}

/* True: it is answered. */
static bool wait_step(struct server *s, struct keyspace_wait *w)
{
    const struct meta_keyspace *k = meta_keyspace(&s->meta, w->keyspace);
    const bool ends = has_ended(s, w, k);

    if (!ends && w->answer->client != NULL && s->now.ns < w->deadline.ns) return false;
    client_let_go(s, w->answer->client);
    if (!ends && w->change == CHANGE_ALTER)
        end_error(
            s, w->answer,
            "UNCERTAIN the change is decided, and not in force in every shard yet; it "
            "goes on, and until then the stricter rules hold");
    else if (!ends)
        end_error(s, w->answer,
                  "UNCERTAIN not all shards have closed themselves in time; it goes on, "
                  "and KEYSPACE INFO shows how it ends");
    else if (w->change == CHANGE_CREATE)
        end_create(s, w, k);
    else
        end_ok(s, w->answer);
    return true;
}

void keyspaces_turn(struct server *s)
{
    struct keyspace_wait **at = &s->keyspace_waits;

    while (*at != NULL) {
        struct keyspace_wait *w = *at;
        if (!wait_step(s, w)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        mem_free(s->mem, w, sizeof *w);
    }
}

/* ---- the beginning ---- */

static bool reads_as_id(struct bytes reply, uint32_t *id)
{
    int64_t v;

    if (reply.len < 4 || reply.at[0] != ':') return false;
    if (!parse_i64((struct bytes){reply.at + 1, reply.len - 3}, &v)) return false;
    if (v <= 0 || v > UINT32_MAX) return false;
    *id = (uint32_t)v;
    return true;
}

static void begun(struct server *s, struct request *r, const struct forward_reply *reply,
                  enum outcome o, enum keyspace_change change)
{
    struct answer *a = r->answer;
    uint32_t id;

    if (o != OUTCOME_NONE || !reads_as_id(reply->bytes, &id)) {
        client_let_go(s, a->client);
        if (o != OUTCOME_NONE) {
            answer_error(s, a, o);
            return;
        }
        buf_put(&a->bytes, reply->bytes.at, reply->bytes.len);
        answer_ready(s, a);
        return;
    }
    struct keyspace_wait *w = mem_zero(s->mem, sizeof *w);
    w->answer = a;
    w->keyspace = id;
    w->change = change;
    w->deadline.ns = s->now.ns + WAIT_TIMEOUTS * s->config.limits.request_timeout_ns;
    w->next = s->keyspace_waits;
    s->keyspace_waits = w;
}

static void create_begun(struct server *s, struct request *r,
                         const struct forward_reply *reply, enum outcome o)
{
    begun(s, r, reply, o, CHANGE_CREATE);
}

static void drop_begun(struct server *s, struct request *r,
                       const struct forward_reply *reply, enum outcome o)
{
    begun(s, r, reply, o, CHANGE_DROP);
}

static void altered(struct server *s, struct request *r,
                    const struct forward_reply *reply, enum outcome o)
{
    begun(s, r, reply, o, CHANGE_ALTER);
}

void keyspace_change(struct server *s, struct client *c, const struct command *command,
                     const struct bytes *args, uint32_t n_args)
{
    struct request *r = request_to_meta(s, c->resp, args, n_args);

    r->done = command->id == COMMAND_KEYSPACE_CREATE ? create_begun
              : command->id == COMMAND_KEYSPACE_DROP ? drop_begun
                                                     : altered;
    r->answer = answer_open(c);
    c->held = true;
    request_submit(s, r);
}

void keyspaces_free(struct server *s)
{
    while (s->keyspace_waits != NULL) {
        struct keyspace_wait *w = s->keyspace_waits;
        s->keyspace_waits = w->next;
        if (w->answer->client == NULL) answer_free(s, w->answer);
        mem_free(s->mem, w, sizeof *w);
    }
}
