/* SPDX-License-Identifier: Apache-2.0 */
/* CLIENT and its subcommands: what Redis tells about connections, told of ours. */
#include "server/server_state.h"

#include "base/text.h"

static bool is_plain(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] < '!' || text.at[i] > '~') return false;
    return true;
}

static void keep(char to[CLIENT_NAME_MAX + 1], struct bytes text)
{
    if (text.len > 0) memcpy(to, text.at, text.len);
    to[text.len] = 0;
}

bool session_name_set(struct server *s, struct client *c, struct bytes name)
{
    if (!is_plain(name)) {
        session_error(s, c,
                      "ERR Client names cannot contain spaces, newlines or special "
                      "characters.");
        return false;
    }
    if (name.len > CLIENT_NAME_MAX) {
        session_error(s, c, "ERR Client names cannot be longer than 64 bytes.");
        return false;
    }
    keep(c->name, name);
    return true;
}

static void setinfo(struct server *s, struct client *c, const struct bytes *args)
{
    const bool is_name = bytes_equal_nocase(args[2], "lib-name");

    if (!is_name && !bytes_equal_nocase(args[2], "lib-ver")) {
        struct reply r = answer_now(c);
        reply_errorf(&r, "ERR Unrecognized option '%.*s'",
                     (int)(args[2].len < 64 ? args[2].len : 64),
                     (const char *)args[2].at);
        answer_now_done(s, c);
        return;
    }
    if (!is_plain(args[3]) || args[3].len > CLIENT_NAME_MAX) {
        session_error(s, c,
                      is_name ? "ERR lib-name cannot contain spaces, newlines or special "
                                "characters, nor be longer than 64 bytes."
                              : "ERR lib-ver cannot contain spaces, newlines or special "
                                "characters, nor be longer than 64 bytes.");
        return;
    }
    keep(is_name ? c->lib_name : c->lib_ver, args[3]);
    session_simple(s, c, "OK");
}

/* ---- LIST, INFO ---- */

static uint32_t answers_count(const struct client *c)
{
    uint32_t n = 0;

    for (const struct answer *a = c->answers; a != NULL; a = a->next)
        n++;
    return n;
}

static void line(const struct server *s, const struct client *c, struct buf *out)
{
    const unsigned long long age = (s->now.ns - c->born.ns) / SEC_NS;
    const unsigned long long idle = (s->now.ns - c->active.ns) / SEC_NS;
    const struct bytes laddr = s->config.advertise_client;
    char flags[4] = "N";

    if (c->multi)
        flags[0] = 'x';
    else if (c->held || c->draining)
        flags[0] = 'b';
    else if (c->closing)
        flags[0] = 'c';
    else if (c->local)
        flags[0] = 'U';
    buf_putf(out,
             "id=%llu addr=%s laddr=%.*s fd=%llu name=%s age=%llu idle=%llu flags=%s ",
             (unsigned long long)c->number, c->address, (int)laddr.len,
             laddr.len > 0 ? (const char *)laddr.at : "", (unsigned long long)c->conn.v,
             c->name, age, idle, flags);
    buf_putf(out,
             "db=0 sub=0 psub=0 ssub=0 multi=%d qbuf=%zu qbuf-free=%zu argv-mem=0 "
             "multi-mem=%zu rbs=0 rbp=0 obl=0 oll=%u omem=%llu tot-mem=%llu ",
             c->multi ? (int)c->n_queued : -1, c->in.len - c->in_at,
             c->in.cap - c->in.len, c->queue.len, answers_count(c),
             (unsigned long long)c->owed_bytes,
             (unsigned long long)sizeof *c + c->in.cap + c->queue.cap + c->owed_bytes);
    buf_putf(out,
             "events=%s cmd=%s user=default redir=-1 resp=%u lib-name=%s lib-ver=%s\n",
             c->send_busy ? "rw" : "r",
             c->last_command == NULL ? "NULL" : c->last_command->name, c->resp,
             c->lib_name, c->lib_ver);
}

static bool is_listed(const struct client *c, const struct bytes *ids, uint32_t n_ids)
{
    if (n_ids == 0) return true;
    for (uint32_t i = 0; i < n_ids; i++) {
        int64_t id;
        if (parse_i64(ids[i], &id) && id >= 0 && (uint64_t)id == c->number) return true;
    }
    return false;
}

static void reply_lines(struct server *s, struct client *c, const struct bytes *ids,
                        uint32_t n_ids)
{
    struct buf text = buf_new(s->mem);

    for (const struct client *o = s->first_client; o != NULL; o = o->next)
        if (is_listed(o, ids, n_ids)) line(s, o, &text);
    struct reply r = answer_now(c);
    reply_verbatim(&r, "txt", buf_bytes(&text));
    answer_now_done(s, c);
    buf_free(&text);
}

/* Whether TYPE means our clients, which are all normal; false with *known false: no type.
 */
static bool type_is_normal(struct bytes type, bool *known)
{
    const bool normal = bytes_equal_nocase(type, "normal");

    *known = normal || bytes_equal_nocase(type, "master") ||
             bytes_equal_nocase(type, "replica") || bytes_equal_nocase(type, "slave") ||
             bytes_equal_nocase(type, "pubsub");
    return normal;
}

static void unknown_type(struct server *s, struct client *c, struct bytes type)
{
    struct reply r = answer_now(c);

    reply_errorf(&r, "ERR Unknown client type '%.*s'",
                 (int)(type.len < 64 ? type.len : 64), (const char *)type.at);
    answer_now_done(s, c);
}

static void list(struct server *s, struct client *c, const struct bytes *args,
                 uint32_t n_args)
{
    if (n_args == 2) {
        reply_lines(s, c, NULL, 0);
    } else if (n_args == 4 && bytes_equal_nocase(args[2], "type")) {
        bool known;
        const bool normal = type_is_normal(args[3], &known);
        if (!known) {
            unknown_type(s, c, args[3]);
            return;
        }
        static const struct bytes nobody = {(const uint8_t *)"0", 1};
        reply_lines(s, c, normal ? NULL : &nobody, normal ? 0 : 1);
    } else if (n_args > 3 && bytes_equal_nocase(args[2], "id")) {
        for (uint32_t i = 3; i < n_args; i++) {
            int64_t id;
            if (parse_i64(args[i], &id) && id > 0) continue;
            session_error(s, c, "ERR Invalid client ID");
            return;
        }
        reply_lines(s, c, args + 3, n_args - 3);
    } else {
        session_outcome(s, c, OUTCOME_SYNTAX);
    }
}

static void info(struct server *s, struct client *c)
{
    struct buf text = buf_new(s->mem);

    line(s, c, &text);
    struct reply r = answer_now(c);
    reply_verbatim(&r, "txt", buf_bytes(&text));
    answer_now_done(s, c);
    buf_free(&text);
}

/* ---- KILL ---- */

struct kill {
    bool by_id, by_address, by_local, skip_me, nobody, by_age;
    int64_t id, age_s;
    struct bytes address, local;
};

/* NULL, or what is wrong; an unknown TYPE is left in *type. */
static const char *kill_option(struct kill *k, struct bytes name, struct bytes value,
                               struct bytes *type)
{
    if (bytes_equal_nocase(name, "id")) {
        if (!parse_i64(value, &k->id) || k->id < 1)
            return "ERR client-id should be greater than 0";
        k->by_id = true;
    } else if (bytes_equal_nocase(name, "addr")) {
        k->by_address = true;
        k->address = value;
    } else if (bytes_equal_nocase(name, "laddr")) {
        k->by_local = true;
        k->local = value;
    } else if (bytes_equal_nocase(name, "type")) {
        bool known;
        if (!type_is_normal(value, &known)) k->nobody = true;
        if (!known) *type = value;
    } else if (bytes_equal_nocase(name, "user")) {
        if (!bytes_equal(value, BYTES_OF("default"))) return "ERR No such user";
    } else if (bytes_equal_nocase(name, "maxage")) {
        if (!parse_i64(value, &k->age_s)) return outcome_row(OUTCOME_NOT_INT)->text;
        k->by_age = true;
    } else if (bytes_equal_nocase(name, "skipme")) {
        if (bytes_equal_nocase(value, "yes"))
            k->skip_me = true;
        else if (bytes_equal_nocase(value, "no"))
            k->skip_me = false;
        else
            return outcome_row(OUTCOME_SYNTAX)->text;
    } else {
        return outcome_row(OUTCOME_SYNTAX)->text;
    }
    return NULL;
}

static bool is_meant(const struct server *s, const struct kill *k, const struct client *c)
{
    if (k->nobody || c->dropped) return false;
    if (k->by_id && (uint64_t)k->id != c->number) return false;
    if (k->by_address && !bytes_equal(k->address, bytes_of_str(c->address))) return false;
    if (k->by_local && !bytes_equal(k->local, s->config.advertise_client)) return false;
    if (k->by_age && (int64_t)((s->now.ns - c->born.ns) / SEC_NS) < k->age_s)
        return false;
    return true;
}

/* The one that asks hears the answer first. */
static uint32_t kill_all(struct server *s, struct client *me, const struct kill *k)
{
    uint32_t n = 0;

    for (struct client *c = s->first_client; c != NULL; c = c->next) {
        if (!is_meant(s, k, c) || (c == me && k->skip_me)) continue;
        if (c == me)
            c->closing = true;
        else
            client_drop(s, c, "CLIENT KILL");
        n++;
    }
    return n;
}

static void kill_old_form(struct server *s, struct client *c, struct bytes address)
{
    const struct kill k = {.by_address = true, .address = address};

    if (kill_all(s, c, &k) == 0)
        session_error(s, c, "ERR No such client");
    else
        session_simple(s, c, "OK");
}

static void kill_clients(struct server *s, struct client *c, const struct bytes *args,
                         uint32_t n_args)
{
    struct kill k = {.skip_me = true};
    struct bytes type = {NULL, 0};

    if (n_args == 3) {
        kill_old_form(s, c, args[2]);
        return;
    }
    const char *wrong = n_args % 2 == 0 ? NULL : outcome_row(OUTCOME_SYNTAX)->text;
    for (uint32_t i = 2; wrong == NULL && i + 1 < n_args; i += 2)
        wrong = kill_option(&k, args[i], args[i + 1], &type);
    if (wrong != NULL) {
        session_error(s, c, wrong);
        return;
    }
    if (type.at != NULL) {
        unknown_type(s, c, type);
        return;
    }
    const uint32_t n = kill_all(s, c, &k);
    struct reply r = answer_now(c);
    reply_int(&r, n);
    answer_now_done(s, c);
}

/* ---- the rest ---- */

static void set_reply(struct server *s, struct client *c, struct bytes mode)
{
    if (bytes_equal_nocase(mode, "on")) {
        c->reply_off = c->reply_skip = false;
        session_simple(s, c, "OK");
    } else if (bytes_equal_nocase(mode, "off")) {
        c->reply_off = true;
    } else if (bytes_equal_nocase(mode, "skip")) {
        if (!c->reply_off) c->reply_skip_next = true;
    } else {
        session_outcome(s, c, OUTCOME_SYNTAX);
    }
}

static void set_flag(struct server *s, struct client *c, bool *flag, struct bytes mode)
{
    const bool on = bytes_equal_nocase(mode, "on");

    if (!on && !bytes_equal_nocase(mode, "off")) {
        session_outcome(s, c, OUTCOME_SYNTAX);
        return;
    }
    *flag = on;
    session_simple(s, c, "OK");
}

static void help(struct server *s, struct client *c)
{
    struct reply r = answer_now(c);
    uint32_t n = 0;

    for (uint32_t id = COMMAND_CLIENT + 1; id <= COMMAND_CLIENT_HELP; id++)
        n += 2;
    reply_array(&r, n + 1u);
    reply_simple(&r, "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (uint32_t id = COMMAND_CLIENT + 1; id <= COMMAND_CLIENT_HELP; id++) {
        const struct command *row = command_row((enum command_id)id);
        char text[256];
        size_t len = 0;
        for (const char *at = row->name + sizeof "client"; *at != 0 && len < 32; at++)
            text[len++] = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
        text[len++] = ' ';
        for (const char *at = row->arguments; *at != 0 && len + 1 < sizeof text; at++)
            text[len++] = *at;
        text[len] = 0;
        reply_simple(&r, text);
        len = 0;
        for (; len < 4; len++)
            text[len] = ' ';
        for (const char *at = row->summary; *at != 0 && len + 1 < sizeof text; at++)
            text[len++] = *at;
        text[len] = 0;
        reply_simple(&r, text);
    }
    answer_now_done(s, c);
}

static void reply_number(struct server *s, struct client *c)
{
    struct reply r = answer_now(c);

    reply_int(&r, (int64_t)c->number);
    answer_now_done(s, c);
}

static void reply_name(struct server *s, struct client *c)
{
    struct reply r = answer_now(c);

    if (c->name[0] == 0)
        reply_null(&r);
    else
        reply_bulk_str(&r, c->name);
    answer_now_done(s, c);
}

static void request_id(struct server *s, struct client *c, struct bytes id)
{
    if (id.len == 0 || id.len > FORWARD_ONCE_MAX) {
        session_error(s, c, "ERR a request id is 1 to 128 bytes");
        return;
    }
    memcpy(c->once, id.at, id.len);
    c->once_len = (uint8_t)id.len;
    c->once_fresh = true;
    session_simple(s, c, "OK");
}

void session_client_command(struct server *s, struct client *c,
                            const struct command *command, const struct bytes *args,
                            uint32_t n_args)
{
    switch ((int)command->id) {
    case COMMAND_CLIENT_ID: reply_number(s, c); return;
    case COMMAND_CLIENT_GETNAME: reply_name(s, c); return;
    case COMMAND_CLIENT_SETNAME:
        if (session_name_set(s, c, args[2])) session_simple(s, c, "OK");
        return;
    case COMMAND_CLIENT_SETINFO: setinfo(s, c, args); return;
    case COMMAND_CLIENT_INFO: info(s, c); return;
    case COMMAND_CLIENT_LIST: list(s, c, args, n_args); return;
    case COMMAND_CLIENT_KILL: kill_clients(s, c, args, n_args); return;
    case COMMAND_CLIENT_REPLY: set_reply(s, c, args[2]); return;
    case COMMAND_CLIENT_NO_EVICT: set_flag(s, c, &c->no_evict, args[2]); return;
    case COMMAND_CLIENT_NO_TOUCH: set_flag(s, c, &c->no_touch, args[2]); return;
    case COMMAND_CLIENT_REQUEST: request_id(s, c, args[2]); return;
    case COMMAND_CLIENT_HELP: help(s, c); return;
    }
    check(false);
}
