/* SPDX-License-Identifier: Apache-2.0 */
/* COMMAND and its subcommands: the table, told as Redis 7.2 tells its own.
 *
 * Two things differ on purpose.  The command tips (which requests a client shall send to
 * every shard, and how to combine the answers) are left empty: a sennit server does that
 * itself, and a client that did it too would count every key several times.  Flags that
 * have no meaning here (noscript, stale, ...) are not claimed. */
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/command.h"
#include "data/synopsis.h"

enum {
    NAMES_MAX = 8,
    ASKED_MAX = 1024, /* names: each may be answered a thousand times its length */
};

struct names {
    const char *at[NAMES_MAX];
    uint32_t n;
};

static void name_add(struct names *names, bool when, const char *name)
{
    if (!when) return;
    check(names->n < NAMES_MAX);
    names->at[names->n++] = name;
}

static bool is_sub(const struct command *c)
{
    return memchr(c->name, '|', strlen(c->name)) != NULL;
}

/* How many rows after c are its subcommands. */
static uint32_t subs_count(const struct command *c)
{
    uint32_t n = 0;

    if (is_sub(c)) return 0;
    while (c->id + n + 1u < COMMAND_END &&
           is_sub(command_row((enum command_id)(c->id + n + 1u))))
        n++;
    return n;
}

static uint32_t tops_count(void)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i < COMMAND_END; i++)
        n += !is_sub(command_row((enum command_id)i));
    return n;
}

static struct names flag_names(const struct command *c)
{
    struct names names = {.n = 0};

    name_add(&names, c->flags & CF_WRITE, "write");
    name_add(&names, c->flags & CF_READ, "readonly");
    name_add(&names, c->flags & CF_DENYOOM, "denyoom");
    name_add(&names, c->flags & CF_ADMIN, "admin");
    name_add(&names, c->flags & CF_LOADING, "loading");
    name_add(&names, c->flags & CF_FAST, "fast");
    name_add(&names, c->flags & CF_NOAUTH, "no_auth");
    name_add(&names, c->flags & CF_NOMULTI, "no_multi");
    return names;
}

static bool in_group(const struct command *c, const char *group)
{
    return strcmp(c->group, group) == 0;
}

static struct names category_names(const struct command *c)
{
    const bool string = in_group(c, "string");
    const bool evaluated = (c->flags & (CF_SHARD | CF_FANOUT)) != 0;
    struct names names = {.n = 0};

    name_add(&names, evaluated && !string, "@keyspace");
    name_add(&names, c->flags & CF_READ, "@read");
    name_add(&names, c->flags & CF_WRITE, "@write");
    name_add(&names, string, "@string");
    name_add(&names, c->flags & CF_ADMIN, "@admin");
    name_add(&names, c->flags & CF_FAST, "@fast");
    name_add(&names, !(c->flags & CF_FAST), "@slow");
    name_add(&names, c->flags & (CF_DANGEROUS | CF_ADMIN), "@dangerous");
    name_add(&names, in_group(c, "connection") && !(c->flags & CF_CONTAINER),
             "@connection");
    name_add(&names, in_group(c, "transactions"), "@transaction");
    return names;
}

static void reply_names(struct reply *r, const struct names *names)
{
    reply_set(r, names->n);
    for (uint32_t i = 0; i < names->n; i++)
        reply_simple(r, names->at[i]);
}

static bool asks_too_many(struct reply *r, uint32_t n_args)
{
    if (n_args - 2 <= ASKED_MAX) return false;
    reply_errorf(r, "ERR more than %d commands are asked for; ask for fewer at once",
                 ASKED_MAX);
    return true;
}

/* ---- COMMAND INFO ---- */

struct key_spec {
    struct names flags;
    int index, last, step;
};

static void reply_key_spec(struct reply *r, const struct key_spec *spec)
{
    reply_map(r, 3);
    reply_bulk_str(r, "flags");
    reply_names(r, &spec->flags);

    reply_bulk_str(r, "begin_search");
    reply_map(r, 2);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, "index");
    reply_bulk_str(r, "spec");
    reply_map(r, 1);
    reply_bulk_str(r, "index");
    reply_int(r, spec->index);

    reply_bulk_str(r, "find_keys");
    reply_map(r, 2);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, "range");
    reply_bulk_str(r, "spec");
    reply_map(r, 3);
    reply_bulk_str(r, "lastkey");
    reply_int(r, spec->last);
    reply_bulk_str(r, "keystep");
    reply_int(r, spec->step);
    reply_bulk_str(r, "limit");
    reply_int(r, 0);
}

/* `changes`: whether UPDATE and INSERT are about these keys. */
static struct names key_flag_names(uint32_t flags, bool changes)
{
    struct names names = {.n = 0};

    name_add(&names, flags & CF_KEY_RO, "RO");
    name_add(&names, flags & CF_KEY_RW, "RW");
    name_add(&names, flags & CF_KEY_OW, "OW");
    name_add(&names, flags & CF_KEY_RM, "RM");
    name_add(&names, flags & CF_KEY_ACCESS, "access");
    name_add(&names, changes && (flags & CF_KEY_UPDATE), "update");
    name_add(&names, changes && (flags & CF_KEY_INSERT), "insert");
    name_add(&names, flags & CF_KEY_DELETE, "delete");
    return names;
}

static void reply_key_specs(struct reply *r, const struct command *c)
{
    if (c->first_key == 0) {
        reply_set(r, 0);
        return;
    }
    const bool pair = c->first_key == 1 && c->last_key == 2;
    const struct key_spec first = {
        .flags = key_flag_names(c->flags, !pair),
        .index = c->first_key,
        .last = c->last_key < 0 ? c->last_key : 0,
        .step = c->step,
    };
    const uint32_t target_flags = CF_KEY_OW |
                                  (c->flags & (uint32_t)(CF_KEY_UPDATE | CF_KEY_INSERT));
    const struct key_spec target = {
        .flags = key_flag_names(target_flags, true), .index = 2, .step = 1};

    reply_set(r, pair ? 2 : 1);
    reply_key_spec(r, &first);
    if (pair) reply_key_spec(r, &target);
}

/* The first nine elements of ten; the tenth holds the subcommands. */
static void reply_info_head(struct reply *r, const struct command *c)
{
    const struct names flags = flag_names(c);
    const struct names categories = category_names(c);

    reply_array(r, 10);
    reply_bulk_str(r, c->name);
    reply_int(r, c->arity);
    reply_names(r, &flags);
    reply_int(r, c->first_key);
    reply_int(r, c->last_key);
    reply_int(r, c->step);
    reply_names(r, &categories);
    reply_set(r, 0);
    reply_key_specs(r, c);
}

static void reply_info(struct reply *r, const struct command *c)
{
    const uint32_t subs = subs_count(c);

    reply_info_head(r, c);
    if (subs == 0) {
        reply_set(r, 0);
        return;
    }
    reply_array(r, subs);
    for (uint32_t i = 1; i <= subs; i++) {
        reply_info_head(r, command_row((enum command_id)(c->id + i)));
        reply_set(r, 0);
    }
}

static void reply_info_all(struct reply *r)
{
    reply_array(r, tops_count());
    for (uint32_t i = 1; i < COMMAND_END; i++) {
        const struct command *c = command_row((enum command_id)i);
        if (!is_sub(c)) reply_info(r, c);
    }
}

/* By a name as COMMAND gives it: "get", "config|get". */
static const struct command *row_by_name(struct bytes name)
{
    const uint8_t *bar = name.len > 0 ? memchr(name.at, '|', name.len) : NULL;
    struct bytes words[2] = {name, {NULL, 0}};
    const struct command *container;

    if (bar != NULL) {
        words[0].len = (size_t)(bar - name.at);
        words[1] = (struct bytes){bar + 1, name.len - words[0].len - 1};
    }
    const struct command *c = command_find(words, bar != NULL ? 2 : 1, &container);
    if (c == NULL && bar == NULL) return container;
    return bar != NULL && c != NULL && !is_sub(c) ? NULL : c;
}

static void info(struct reply *r, const struct bytes *args, uint32_t n_args)
{
    if (n_args == 2) {
        reply_info_all(r);
        return;
    }
    if (asks_too_many(r, n_args)) return;
    reply_array(r, n_args - 2);
    for (uint32_t i = 2; i < n_args; i++) {
        const struct command *c = row_by_name(args[i]);
        if (c == NULL)
            reply_null(r);
        else
            reply_info(r, c);
    }
}

/* ---- COMMAND DOCS ---- */

static void reply_doc_field(struct reply *r, const char *field, const char *text)
{
    reply_bulk_str(r, field);
    reply_bulk_str(r, text);
}

static void reply_doc_head(struct reply *r, const struct command *c, uint32_t subs)
{
    const bool takes = c->arguments[0] != 0;

    reply_bulk_str(r, c->name);
    reply_map(r, 4u + takes + (subs > 0));
    reply_doc_field(r, "summary", c->summary);
    reply_doc_field(r, "since", c->since);
    reply_doc_field(r, "group", c->group);
    reply_doc_field(r, "complexity", c->complexity);
    if (takes) {
        struct synopsis synopsis;
        synopsis_read(&synopsis, c->arguments);
        reply_bulk_str(r, "arguments");
        synopsis_reply(r, &synopsis);
    }
}

static void reply_doc(struct reply *r, const struct command *c)
{
    const uint32_t subs = subs_count(c);

    reply_doc_head(r, c, subs);
    if (subs == 0) return;
    reply_bulk_str(r, "subcommands");
    reply_map(r, subs);
    for (uint32_t i = 1; i <= subs; i++)
        reply_doc_head(r, command_row((enum command_id)(c->id + i)), 0);
}

static void docs(struct reply *r, const struct bytes *args, uint32_t n_args)
{
    if (n_args == 2) {
        reply_map(r, tops_count());
        for (uint32_t i = 1; i < COMMAND_END; i++) {
            const struct command *c = command_row((enum command_id)i);
            if (!is_sub(c)) reply_doc(r, c);
        }
        return;
    }
    if (asks_too_many(r, n_args)) return;
    uint32_t known = 0;
    for (uint32_t i = 2; i < n_args; i++)
        known += row_by_name(args[i]) != NULL;
    reply_map(r, known);
    for (uint32_t i = 2; i < n_args; i++) {
        const struct command *c = row_by_name(args[i]);
        if (c != NULL) reply_doc(r, c);
    }
}

/* ---- COMMAND LIST, GETKEYS ---- */

enum list_filter { LIST_ALL, LIST_MODULE, LIST_CATEGORY, LIST_PATTERN };

static bool list_wants(const struct command *c, enum list_filter filter, struct bytes by)
{
    switch (filter) {
    case LIST_ALL: return true;
    case LIST_MODULE: return false;
    case LIST_PATTERN: return glob_match(by, bytes_of_str(c->name));
    case LIST_CATEGORY: break;
    }
    const struct names names = category_names(c);
    for (uint32_t i = 0; i < names.n; i++)
        if (bytes_equal_nocase(by, names.at[i] + 1)) return true;
    return false;
}

static void list(struct reply *r, const struct bytes *args, uint32_t n_args)
{
    const struct bytes by = n_args == 5 ? args[4] : (struct bytes){NULL, 0};
    enum list_filter filter = LIST_ALL;
    bool sound = n_args == 2;

    if (n_args == 5 && bytes_equal_nocase(args[2], "filterby")) {
        if (bytes_equal_nocase(args[3], "module")) filter = LIST_MODULE;
        if (bytes_equal_nocase(args[3], "aclcat")) filter = LIST_CATEGORY;
        if (bytes_equal_nocase(args[3], "pattern")) filter = LIST_PATTERN;
        sound = filter != LIST_ALL;
    }
    if (!sound) {
        reply_error(r, outcome_row(OUTCOME_SYNTAX)->text);
        return;
    }

    uint32_t n = 0;
    for (uint32_t i = 1; i < COMMAND_END; i++)
        n += list_wants(command_row((enum command_id)i), filter, by);
    reply_array(r, n);
    for (uint32_t i = 1; i < COMMAND_END; i++) {
        const struct command *c = command_row((enum command_id)i);
        if (list_wants(c, filter, by)) reply_bulk_str(r, c->name);
    }
}

static void getkeys(struct reply *r, const struct bytes *args, uint32_t n_args)
{
    const struct bytes *call = args + 2;
    const uint32_t n_call = n_args - 2;
    const struct command *container;
    const struct command *c = command_find(call, n_call, &container);

    if (c == NULL) {
        reply_error(r, "ERR Invalid command specified");
    } else if (c->first_key == 0) {
        reply_error(r, "ERR The command has no key arguments");
    } else if (!command_arity_ok(c, n_call)) {
        reply_error(r, "ERR Invalid number of arguments specified for command");
    } else {
        const uint32_t n = command_keys(c, n_call, NULL, 0);
        reply_array(r, n);
        for (uint32_t i = 0; i < n; i++)
            reply_bulk(r, call[c->first_key + (int64_t)i * c->step]);
    }
}

void command_reply(struct reply *r, const struct command *which, const struct bytes *args,
                   uint32_t n_args)
{
    check(command_arity_ok(which, n_args));

    if (which->id == COMMAND_COMMAND_COUNT)
        reply_int(r, tops_count());
    else if (which->id == COMMAND_COMMAND_LIST)
        list(r, args, n_args);
    else if (which->id == COMMAND_COMMAND_INFO)
        info(r, args, n_args);
    else if (which->id == COMMAND_COMMAND_DOCS)
        docs(r, args, n_args);
    else if (which->id == COMMAND_COMMAND_GETKEYS)
        getkeys(r, args, n_args);
    else
        reply_info_all(r);
}
