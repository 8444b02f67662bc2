/* SPDX-License-Identifier: Apache-2.0 */
/* session - what a command is, whether this connection may send it now, and the commands
 * about the connection: HELLO, AUTH, MULTI, WATCH, WAIT ...
 *
 * A command whose result changes how later ones are understood (WATCH, WAIT, KEYSPACE
 * ...) holds the client: nothing more is parsed until it is done. */
#include "server/failover.h"

#include <stdio.h>

#include "base/text.h"

enum { UNKNOWN_TEXT_MAX = 128, WAIT_PIECE_MS = 2000, QUEUE_KEPT_BYTES = 16 * 1024 };

/* ---- replies ---- */

/* Of a command that was not queued: the transaction lives on. */
static void plain_error(struct server *s, struct client *c, const char *text)
{
    struct reply r = answer_now(c);

    reply_error(&r, text);
    s->stats.error_replies++;
    answer_now_done(s, c);
}

void session_error(struct server *s, struct client *c, const char *text)
{
    if (c->multi) c->multi_broken = true;
    plain_error(s, c, text);
}

void session_outcome(struct server *s, struct client *c, enum outcome o)
{
    session_error(s, c, outcome_row(o)->text);
}

void session_simple(struct server *s, struct client *c, const char *text)
{
    struct reply r = answer_now(c);

    reply_simple(&r, text);
    answer_now_done(s, c);
}

static void hold(struct client *c)
{
    c->held = true;
}

/* ---- what is not a command ---- */

static void unknown_subcommand(struct server *s, struct client *c,
                               const struct command *container, const struct bytes *args,
                               uint32_t n_args)
{
    char text[320], upper[32];
    size_t len = 0;

    for (; container->name[len] != 0 && len + 1 < sizeof upper; len++) {
        const char l = container->name[len];
        upper[len] = l >= 'a' && l <= 'z' ? (char)(l - 'a' + 'A') : l;
    }
    upper[len] = 0;
    if (n_args < 2) {
        snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command",
                 container->name);
    } else {
        const int n = (int)(args[1].len < UNKNOWN_TEXT_MAX ? args[1].len
                                                           : UNKNOWN_TEXT_MAX);
        snprintf(text, sizeof text, "ERR unknown subcommand '%.*s'. Try %s HELP.", n,
                 (const char *)args[1].at, upper);
    }
    session_error(s, c, text);
}

/* A browser was made to send an HTTP request here: what follows in its body must not be
 * taken for commands. */
static bool is_http(const struct bytes *args)
{
    return bytes_equal_nocase(args[0], "post") || bytes_equal_nocase(args[0], "host:");
}

static void unknown_command(struct server *s, struct client *c, const struct bytes *args,
                            uint32_t n_args)
{
    if (is_http(args)) {
        client_drop(s, c,
                    "it speaks HTTP; somebody may be using a browser of yours to send "
                    "commands here (cross-protocol scripting)");
        return;
    }
    struct buf text = buf_new(s->mem);
    const size_t len = args[0].len < UNKNOWN_TEXT_MAX ? args[0].len : UNKNOWN_TEXT_MAX;
    buf_putf(&text, "ERR unknown command '%.*s', with args beginning with: ", (int)len,
             (const char *)args[0].at);
    size_t used = 0;
    for (uint32_t i = 1; i < n_args && used < UNKNOWN_TEXT_MAX; i++) {
        const size_t room = UNKNOWN_TEXT_MAX - used;
        const size_t take = args[i].len < room ? args[i].len : room;
        buf_putf(&text, "'%.*s' ", (int)take, (const char *)args[i].at);
        used += take + 3;
    }
    buf_put_u8(&text, 0);
    session_error(s, c, (const char *)text.at);
    buf_free(&text);
}

static void wrong_arity(struct server *s, struct client *c, const struct command *command)
{
    char text[128];

    snprintf(text, sizeof text, outcome_row(OUTCOME_ARITY)->text, command->name);
    session_error(s, c, text);
}

/* ---- AUTH, HELLO ---- */

/* Takes as long whatever the bytes are, so that its time tells nothing about them. */
static bool secrets_equal(struct bytes given, struct bytes secret)
{
    uint32_t differ = given.len != secret.len;

    for (size_t i = 0; i < given.len; i++)
        differ |= (uint32_t)(given.at[i] ^
                             (secret.len > 0 ? secret.at[i % secret.len] : 0));
    return differ == 0;
}

static bool authenticate(struct server *s, struct client *c, struct bytes user,
                         struct bytes password)
{
    const struct bytes secret = s->config.password;
    const bool right = secret.len == 0 || secrets_equal(password, secret);

    if (!right || !bytes_equal(user, BYTES_OF("default"))) {
        server_log(s, LOG_WARNING, "client %llu at %s gave a wrong user or password",
                   (unsigned long long)c->number, c->address);
        session_error(s, c,
                      "WRONGPASS invalid username-password pair or user is disabled.");
        return false;
    }
    c->authenticated = true;
    return true;
}

static void auth(struct server *s, struct client *c, const struct bytes *args,
                 uint32_t n_args)
{
    if (n_args > 3) {
        session_outcome(s, c, OUTCOME_SYNTAX);
        return;
    }
    if (n_args == 2 && s->config.password.len == 0) {
        session_error(s, c,
                      "ERR AUTH <password> called without any password configured for "
                      "the default user. Are you sure your configuration is correct?");
        return;
    }
    const struct bytes user = n_args == 3 ? args[1] : BYTES_OF("default");
    if (authenticate(s, c, user, args[n_args - 1])) session_simple(s, c, "OK");
}

struct hello_options {
    int64_t version;
    bool auth, named;
    struct bytes user, password, name;
};

/* NULL, or what is wrong. */
static const char *hello_read(const struct bytes *args, uint32_t n_args,
                              struct hello_options *o)
{
    if (n_args < 2) return NULL;
    if (!parse_i64(args[1], &o->version))
        return "ERR Protocol version is not an integer or out of range";
    if (o->version < 2 || o->version > 3) return "NOPROTO unsupported protocol version";
    for (uint32_t i = 2; i < n_args; i++) {
        const uint32_t left = n_args - 1 - i;
        if (bytes_equal_nocase(args[i], "auth") && left >= 2) {
            o->auth = true;
            o->user = args[i + 1];
            o->password = args[i + 2];
            i += 2;
        } else if (bytes_equal_nocase(args[i], "setname") && left >= 1) {
            o->named = true;
            o->name = args[i + 1];
            i += 1;
        } else {
            return "ERR Syntax error in HELLO option";
        }
    }
    return NULL;
}

static void reply_field(struct reply *r, const char *field, const char *value)
{
    reply_bulk_str(r, field);
    reply_bulk_str(r, value);
}

static void hello(struct server *s, struct client *c, const struct bytes *args,
                  uint32_t n_args)
{
    struct hello_options o = {.version = c->resp};
    const char *wrong = hello_read(args, n_args, &o);

    if (wrong != NULL) {
        session_error(s, c, wrong);
        return;
    }
    if (o.auth && !authenticate(s, c, o.user, o.password)) return;
    if (!c->authenticated) {
        session_error(s, c,
                      "NOAUTH HELLO must be called with the client already "
                      "authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
                      "option can be used to authenticate the client and select the "
                      "RESP protocol version at the same time");
        return;
    }
    if (o.named && !session_name_set(s, c, o.name)) return;
    c->resp = (uint8_t)o.version;

    struct reply r = answer_now(c);
    reply_map(&r, 7);
    reply_field(&r, "server", "sennit");
    reply_field(&r, "version", REDIS_VERSION);
    reply_bulk_str(&r, "proto");
    reply_int(&r, c->resp);
    reply_bulk_str(&r, "id");
    reply_int(&r, (int64_t)c->number);
    reply_field(&r, "mode", "standalone");
    reply_field(&r, "role", "master");
    reply_bulk_str(&r, "modules");
    reply_array(&r, 0);
    answer_now_done(s, c);
}

/* ---- MULTI ---- */

static void unwatch(struct client *c)
{
    c->watches.len = 0;
    c->n_watches = 0;
}

static void discard(struct client *c)
{
    c->multi = c->multi_broken = false;
    c->queue_writes = false;
    c->n_queued = 0;
    c->once_len = 0;
    c->queue.len = 0;
    if (c->queue.cap > QUEUE_KEPT_BYTES) buf_free(&c->queue);
    unwatch(c);
}

void session_reset(struct server *s, struct client *c)
{
    discard(c);
    backup_end(s, c);
    c->resp = 2;
    c->authenticated = s->config.password.len == 0;
    c->reply_off = c->reply_skip = c->reply_skip_next = false;
    c->no_evict = c->no_touch = false;
    c->session = false;
    c->n_positions = 0;
    c->name[0] = 0;
}

/* Everything that EXEC takes must lie in one shard, whose log has it as one entry. */
static bool joins_group(const struct client *c, struct group_id group)
{
    return (c->n_queued == 0 && c->n_watches == 0) || c->queue_group.v == group.v;
}

/* EXEC takes watches and commands in one request.  NULL, or why so many arguments more may not
 * be kept for it; each is counted with what stands before it. */
static const char *exec_refusal(const struct server *s, const struct client *c,
                                const struct bytes *args, uint32_t n_args, uint32_t flags)
{
    enum { BEFORE_ARG = 16, FREE_BYTES = 1 << 20 };
    const uint64_t before = c->queue.len + c->watches.len;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < n_args; i++)
        bytes += args[i].len + BEFORE_ARG;
    if (before + bytes > s->config.limits.client_input_bytes_max)
        return "ERR what is watched and queued is longer than client-query-buffer-limit";
    const bool needs_room = (flags & CF_DENYOOM) != 0 || before + bytes > FREE_BYTES;
    if (needs_room && !mem_room(s->mem, bytes))
        return outcome_row(OUTCOME_FULL_MEMORY)->text;
    return NULL;
}

static void queue(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args)
{
    struct slot *slot;
    const struct meta_keyspace *keyspace;
    enum outcome o;

    if (!(command->flags & CF_SHARD)) {
        char text[160];
        snprintf(text, sizeof text,
                 "ERR '%s' can't be part of a transaction, only commands on keys can",
                 command->name);
        session_error(s, c, text);
        return;
    }
    if (!request_route(s, command, args, n_args, &slot, &keyspace, &o)) {
        session_outcome(s, c, o == OUTCOME_NONE ? OUTCOME_SYNTAX : o);
        return;
    }
    if (!joins_group(c, slot->group)) {
        session_outcome(s, c, OUTCOME_CROSSSLOT);
        return;
    }
    const char *why = exec_refusal(s, c, args, n_args, command->flags);
    if (c->n_queued == FORWARD_COMMANDS_MAX) why = "ERR too many commands are queued";
    if (why != NULL) {
        session_error(s, c, why);
        return;
    }
    if (c->n_queued == 0 && c->n_watches == 0) c->queue_routed = s->meta.version;
    c->queue_group = slot->group;
    forward_put_command(&c->queue, args, n_args);
    c->n_queued++;
    c->queue_writes |= (command->flags & CF_WRITE) != 0;
    session_simple(s, c, "QUEUED");
}

static void multi(struct server *s, struct client *c)
{
    if (c->multi) {
        plain_error(s, c, "ERR MULTI calls can not be nested");
        return;
    }
    c->multi = true;
    c->multi_broken = false;
    session_simple(s, c, "OK");
}

static enum policy_read read_of(const struct server *s, struct group_id group)
{
    const struct meta_shard *shard = meta_shard(&s->meta, group);
    const struct meta_keyspace *k = shard == NULL
                                        ? NULL
                                        : meta_keyspace(&s->meta, shard->keyspace);
    return k == NULL ? READ_LINEARIZABLE : k->policy.read;
}

static void exec_submit(struct server *s, struct client *c)
{
    struct request *r = request_new(s, FORWARD_EXEC, c->queue_group, c->resp);
    const struct forward f = {
        .kind = FORWARD_EXEC,
        .resp = c->resp,
        .once = client_once(c),
        .n_watches = c->n_watches,
        .n_commands = c->n_queued,
    };

    forward_encode(&r->body, &f);
    buf_put(&r->body, c->watches.at, c->watches.len);
    buf_put(&r->body, c->queue.at, c->queue.len);
    r->origin = FROM_CLIENT;
    r->client = c->conn;
    r->writes = c->queue_writes;
    r->reads_only = !c->queue_writes;
    r->read = read_of(s, c->queue_group);
    r->routed = c->queue_routed;
    if (c->n_watches > 0) r->position = client_must_see(c, r->group);
    r->answer = answer_open(c);
    r->answer->pending = r;
    if (r->routed < s->meta.version_keyspaces) c->none_older = r->routed;
    discard(c);
    request_submit(s, r);
    c->routed = s->meta.version;
}

static void exec(struct server *s, struct client *c)
{
    if (!c->multi) {
        plain_error(s, c, "ERR EXEC without MULTI");
        return;
    }
    if (c->multi_broken) {
        discard(c);
        plain_error(s, c, outcome_row(OUTCOME_EXECABORT)->text);
        return;
    }
    if (c->n_queued == 0 && c->n_watches == 0) {
        discard(c);
        struct reply r = answer_now(c);
        reply_array(&r, 0);
        answer_now_done(s, c);
        return;
    }
    exec_submit(s, c);
}

/* ---- WATCH ---- */

static bool is_error(struct bytes reply)
{
    /* A position that ends in this byte would be the 2^59th entry. */
    return reply.len > 0 && reply.at[reply.len - 1] == '\n';
}

/* If the keys have meanwhile become another shard's than those watched before, EXEC is sent
 * where those were, and answered that they have changed. */
static void watches_keep(struct client *c, const struct request *r, struct forward f,
                         struct bytes changes)
{
    struct cursor in = cursor_of(changes);

    if (c->n_watches == 0) {
        c->queue_routed = r->routed;
        c->queue_group = r->group;
    }
    for (uint32_t i = 0; i < f.n_watches; i++) {
        struct forward_watch w;
        uint64_t change;
        forward_next_watch(&f, &w);
        if (!get_u64(&in, &change)) return;
        w.change.v = change;
        forward_put_watch(&c->watches, &w);
        c->n_watches++;
    }
}

static void watched(struct server *s, struct request *r,
                    const struct forward_reply *reply, enum outcome o)
{
    struct answer *a = r->answer;
    struct client *c = a->client;
    struct forward f;

    client_let_go(s, c);
    if (o != OUTCOME_NONE) {
        answer_error(s, a, o);
        return;
    }
    const bool ok = forward_decode(buf_bytes(&r->body), &f);
    check(ok);
    if (is_error(reply->bytes)) {
        buf_put(&a->bytes, reply->bytes.at, reply->bytes.len);
    } else if (reply->bytes.len != f.n_watches * sizeof(uint64_t)) {
        answer_error(s, a, OUTCOME_NOLEADER);
        return;
    } else {
        if (c != NULL) {
            const struct forward_position *seen = &reply->position;
            client_note(c, r->group,
                        (struct shard_position){seen->index, seen->term, seen->settled},
                        false);
            watches_keep(c, r, f, reply->bytes);
        }
        buf_put(&a->bytes, "+OK\r\n", 5);
    }
    answer_ready(s, a);
}

static void watch(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args)
{
    struct slot *slot;
    const struct meta_keyspace *keyspace;
    enum outcome o;

    if (c->multi) {
        plain_error(s, c, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    if (!request_route(s, command, args, n_args, &slot, &keyspace, &o)) {
        session_outcome(s, c, o == OUTCOME_NONE ? OUTCOME_SYNTAX : o);
        return;
    }
    if (!joins_group(c, slot->group)) {
        session_outcome(s, c, OUTCOME_CROSSSLOT);
        return;
    }
    if (n_args - 1 > FORWARD_COMMANDS_MAX - c->n_watches) {
        session_error(s, c, "ERR too many keys are watched");
        return;
    }
    const char *why = exec_refusal(s, c, args + 1, n_args - 1, command->flags);
    if (why != NULL) {
        session_error(s, c, why);
        return;
    }
    struct request *r = request_new(s, FORWARD_WATCH, slot->group, 2);
    const struct forward f = {.kind = FORWARD_WATCH, .resp = 2, .n_watches = n_args - 1};
    forward_encode(&r->body, &f);
    for (uint32_t i = 1; i < n_args; i++) {
        const struct forward_watch w = {.key = args[i]};
        forward_put_watch(&r->body, &w);
    }
    r->origin = FROM_SERVER;
    r->client = c->conn;
    r->done = watched;
    r->reads_only = true;
    r->read = READ_LINEARIZABLE;
    r->position = client_must_see(c, r->group);
    r->answer = answer_open(c);
    hold(c);
    request_submit(s, r);
}

/* ---- WAIT ---- */

static void wait_next(struct server *s, struct client *c, struct answer *a);

/* The number of an integer reply; false: it is none. */
static bool integer_read(struct bytes reply, int64_t *out)
{
    if (reply.len < 4 || reply.at[0] != ':') return false;
    return parse_i64((struct bytes){reply.at + 1, reply.len - 3}, out);
}

static void waited(struct server *s, struct request *r, const struct forward_reply *reply,
                   enum outcome o)
{
    struct answer *a = r->answer;
    struct client *c = a->client;
    int64_t copies;

    if (c == NULL || o != OUTCOME_NONE || !integer_read(reply->bytes, &copies)) {
        client_let_go(s, c);
        if (o == OUTCOME_NONE && c != NULL) {
            buf_put(&a->bytes, reply->bytes.at, reply->bytes.len);
            answer_ready(s, a);
        } else {
            answer_error(s, a, o == OUTCOME_NONE ? OUTCOME_NOLEADER : o);
        }
        return;
    }
    const bool late = c->wait.deadline.ns != 0 && s->now.ns >= c->wait.deadline.ns;
    if (copies >= c->wait.wanted || late) {
        if (copies < c->wait.copies) c->wait.copies = copies;
        c->wait.at++;
    }
    wait_next(s, c, a);
}

static int64_t wait_piece_ms(const struct server *s, const struct client *c)
{
    if (c->wait.deadline.ns == 0) return WAIT_PIECE_MS;
    if (c->wait.deadline.ns <= s->now.ns) return 1;
    const uint64_t left_ms = (c->wait.deadline.ns - s->now.ns + MS_NS - 1) / MS_NS;
    return left_ms < WAIT_PIECE_MS ? (int64_t)left_ms : WAIT_PIECE_MS;
}

/* The groups that this connection has written to, one after the other; each in pieces of
 * time, so that nothing waits long for a client that has gone. */
static void wait_next(struct server *s, struct client *c, struct answer *a)
{
    while (c->wait.at < c->n_positions && c->positions[c->wait.at].wrote.v == 0)
        c->wait.at++;
    if (c->wait.at == c->n_positions) {
        struct reply reply = {&a->bytes, c->resp};
        reply_int(&reply, c->wait.copies);
        client_let_go(s, c);
        answer_ready(s, a);
        return;
    }
    const struct client_position at = c->positions[c->wait.at];
    char wanted[I64_TEXT_MAX], piece[I64_TEXT_MAX];
    const int64_t ms = wait_piece_ms(s, c);
    const struct bytes args[3] = {
        BYTES_OF("WAIT"),
        {(const uint8_t *)wanted, format_i64(wanted, c->wait.wanted)},
        {(const uint8_t *)piece, format_i64(piece, ms)},
    };
    const struct forward f = {
        .kind = FORWARD_WAIT, .resp = 2, .n_watches = 1, .n_commands = 1};
    const struct forward_watch w = {.change = at.wrote};
    struct request *r = request_new(s, FORWARD_WAIT, at.group, 2);
    forward_encode(&r->body, &f);
    forward_put_watch(&r->body, &w);
    forward_put_command(&r->body, args, 3);
    r->origin = FROM_SERVER;
    r->client = c->conn;
    r->done = waited;
    r->reads_only = true;
    r->read = READ_LINEARIZABLE;
    r->answer = a;
    r->deadline.ns += (uint64_t)ms * MS_NS;
    request_submit(s, r);
}

/* With nothing written every copy there is holds all of it. */
static int64_t copies_there_are(const struct server *s)
{
    const struct meta_keyspace *k = meta_keyspace_named(&s->meta, BYTES_OF("default"));
    const struct meta_shard *shard = k == NULL ? NULL : meta_shard_of(&s->meta, k->id, 0);
    return shard == NULL ? 0 : shard->n_voters + shard->n_learners - 1;
}

static void wait(struct server *s, struct client *c, const struct bytes *args)
{
    int64_t wanted, ms;

    if (!parse_i64(args[1], &wanted) || !parse_i64(args[2], &ms) ||
        ms > INT64_MAX / 1000000) {
        session_outcome(s, c, OUTCOME_NOT_INT);
        return;
    }
    if (ms < 0) {
        session_error(s, c, "ERR timeout is negative");
        return;
    }
    c->wait.at = 0;
    c->wait.wanted = wanted > 0 ? wanted : 0;
    bool wrote = false;
    for (uint32_t i = 0; i < c->n_positions; i++)
        wrote = wrote || c->positions[i].wrote.v != 0;
    c->wait.copies = wrote ? INT64_MAX : copies_there_are(s);
    c->wait.deadline.ns = ms == 0 ? 0 : s->now.ns + (uint64_t)ms * MS_NS;
    struct answer *a = answer_open(c);
    hold(c);
    wait_next(s, c, a);
}

/* ---- KEYSPACE, SERVER ---- */

static void keyspace_look(struct server *s, struct client *c, const struct bytes *args,
                          uint32_t n_args)
{
    struct buf effects = buf_new(s->mem);
    struct meta_change change = {&effects};
    struct reply r = answer_now(c);

    meta_command(&s->meta, args, n_args, &change, &r);
    answer_now_done(s, c);
    check(effects.len == 0);
    buf_free(&effects);
}

/* ---- the rest ---- */

static void ping(struct server *s, struct client *c, const struct command *command,
                 const struct bytes *args, uint32_t n_args)
{
    if (n_args > 2) {
        wrong_arity(s, c, command);
        return;
    }
    if (n_args == 1) {
        session_simple(s, c, "PONG");
        return;
    }
    struct reply r = answer_now(c);
    reply_bulk(&r, args[1]);
    answer_now_done(s, c);
}

static void select_db(struct server *s, struct client *c, struct bytes index)
{
    int64_t v;

    if (!parse_i64(index, &v))
        session_outcome(s, c, OUTCOME_NOT_INT);
    else if (v != 0)
        session_outcome(s, c, OUTCOME_DB_INDEX);
    else
        session_simple(s, c, "OK");
}

static void discard_command(struct server *s, struct client *c)
{
    if (!c->multi) {
        plain_error(s, c, "ERR DISCARD without MULTI");
        return;
    }
    discard(c);
    session_simple(s, c, "OK");
}

static void admin(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args)
{
    struct reply r = answer_now(c);

    admin_command(s, c, command, args, n_args, &r);
    answer_now_done(s, c);
}

static void other(struct server *s, struct client *c, const struct command *command,
                  const struct bytes *args, uint32_t n_args)
{
    switch ((int)command->id) { /* of all the commands, those about the connection */
    case COMMAND_PING: ping(s, c, command, args, n_args); return;
    case COMMAND_ECHO: ping(s, c, command, args, n_args); return;
    case COMMAND_SELECT: select_db(s, c, args[1]); return;
    case COMMAND_AUTH: auth(s, c, args, n_args); return;
    case COMMAND_HELLO: hello(s, c, args, n_args); return;
    case COMMAND_MULTI: multi(s, c); return;
    case COMMAND_EXEC: exec(s, c); return;
    case COMMAND_DISCARD: discard_command(s, c); return;
    case COMMAND_WATCH: watch(s, c, command, args, n_args); return;
    case COMMAND_WAIT: wait(s, c, args); return;
    case COMMAND_UNWATCH:
        unwatch(c);
        session_simple(s, c, "OK");
        return;
    case COMMAND_READONLY:
    case COMMAND_READWRITE: session_simple(s, c, "OK"); return;
    case COMMAND_QUIT:
        session_simple(s, c, "OK");
        c->closing = true;
        return;
    case COMMAND_RESET:
        session_reset(s, c);
        session_simple(s, c, "RESET");
        return;
    case COMMAND_FAILOVER: failover_begin(s, c, args, n_args); return;
    case COMMAND_KEYSPACE_CREATE:
    case COMMAND_KEYSPACE_ALTER:
    case COMMAND_KEYSPACE_DROP:
    case COMMAND_SERVER_DRAIN:
    case COMMAND_SERVER_REMOVE:
    case COMMAND_SERVER_REPLACE:
    case COMMAND_SERVER_ACTIVATE: keyspace_change(s, c, command, args, n_args); return;
    case COMMAND_KEYSPACE_LIST:
    case COMMAND_KEYSPACE_INFO: keyspace_look(s, c, args, n_args); return;
    case COMMAND_KEYSPACE_DIGEST: admin_digest(s, c, args[2]); return;
    case COMMAND_SHARD_LIST: admin_shard_list(s, c, args, n_args); return;
    case COMMAND_SESSION_TOKEN: token_give(s, c); return;
    case COMMAND_SESSION_RESUME: token_resume(s, c, args[2]); return;
    case COMMAND_BACKUP_BEGIN:
    case COMMAND_BACKUP_NEXT:
    case COMMAND_BACKUP_END: backup_command(s, c, command, args); return;
    }
    if (command->id >= COMMAND_CLIENT && command->id <= COMMAND_CLIENT_HELP)
        session_client_command(s, c, command, args, n_args);
    else
        admin(s, c, command, args, n_args);
}

/* Inside MULTI these are carried out, all others queued. */
static bool is_of_multi(const struct command *command)
{
    switch ((int)command->id) {
    case COMMAND_EXEC:
    case COMMAND_DISCARD:
    case COMMAND_MULTI:
    case COMMAND_WATCH:
    case COMMAND_QUIT:
    case COMMAND_RESET: return true;
    }
    return false;
}

bool session_waits_for_all(const struct client *c, const struct bytes *args,
                           uint32_t n_args)
{
    const struct command *container;
    const struct command *command = command_find(args, n_args, &container);

    if (command == NULL || c->multi) return false;
    if (command->flags & CF_FANOUT) return true;
    switch ((int)command->id) {
    case COMMAND_WATCH:
    case COMMAND_WAIT:
    case COMMAND_FAILOVER:
    case COMMAND_KEYSPACE_CREATE:
    case COMMAND_KEYSPACE_ALTER:
    case COMMAND_KEYSPACE_DROP:
    case COMMAND_KEYSPACE_DIGEST:
    case COMMAND_SERVER_DRAIN:
    case COMMAND_SERVER_REMOVE:
    case COMMAND_SERVER_REPLACE:
    case COMMAND_SERVER_ACTIVATE:
    case COMMAND_SESSION_TOKEN:
    case COMMAND_SESSION_RESUME:
    case COMMAND_SHARD_LIST:
    case COMMAND_BACKUP_BEGIN: return true;
    }
    return false;
}

/* The id of CLIENT REQUEST is for the command that comes next, or, if that is MULTI, for the
 * EXEC that ends it. */
static void once_step(struct client *c)
{
    if (!c->once_fresh && !c->multi) c->once_len = 0;
    c->once_fresh = false;
}

/* What would be carried out twice although an id was given. */
static bool is_never_once(const struct command *command)
{
    return (command->flags & (CF_WRITE | CF_ADMIN)) != 0 &&
           (command->flags & CF_SHARD) == 0;
}

static void refuse_once(struct server *s, struct client *c, const struct command *command)
{
    char text[192];

    snprintf(
        text, sizeof text,
        "ERR CLIENT REQUEST is for commands on keys and for MULTI and EXEC; '%s' was "
        "not carried out",
        command->name);
    session_error(s, c, text);
}

void session_command(struct server *s, struct client *c, const struct bytes *args,
                     uint32_t n_args)
{
    const struct command *container;
    const struct command *command = command_find(args, n_args, &container);

    c->reply_skip = c->reply_skip_next;
    c->reply_skip_next = false;
    once_step(c);
    c->commands_total++;
    s->stats.commands++;
    if (UNLIKELY(command == NULL)) {
        if (container != NULL)
            unknown_subcommand(s, c, container, args, n_args);
        else
            unknown_command(s, c, args, n_args);
        return;
    }
    c->last_command = command;
    if (UNLIKELY(!command_arity_ok(command, n_args)))
        wrong_arity(s, c, command);
    else if (UNLIKELY(!c->authenticated) && !(command->flags & CF_NOAUTH))
        session_outcome(s, c, OUTCOME_NOAUTH);
    else if (UNLIKELY(c->once_len > 0) && !c->multi && is_never_once(command))
        refuse_once(s, c, command);
    else if (UNLIKELY(c->multi) && !is_of_multi(command))
        queue(s, c, command, args, n_args);
    else if (LIKELY(command->flags & CF_SHARD))
        request_command(s, c, command, args, n_args);
    else if (command->flags & CF_FANOUT)
        fanout_begin(s, c, command, args, n_args);
    else
        other(s, c, command, args, n_args);
}
