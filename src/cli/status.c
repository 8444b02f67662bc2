/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/grid.h"

enum { WATCH_S = 1, NODE_FIELDS = 8 };

static const char help[] =
    "usage: sennit status [--json] [--watch]\n\n"
    "  --json                   for programs: one object with servers, keyspaces, "
    "shards\n"
    "  --watch                  again each second, until Ctrl-C\n"
    "  --server HOST:PORT       any server of the cluster (127.0.0.1:6379)\n"
    "  --password-file FILE\n\n"
    "example: which shards have trouble?\n"
    "  sennit status --json | jq '.shards[] | select(.trouble != \"\")'\n";

/* What one look at the cluster gives: each reply in a client of its own, which holds it. */
struct look {
    struct client nodes, cluster, servers, shards, names, *infos;
    const struct value *nodes_reply, *cluster_reply, *servers_reply, *shards_reply,
        *names_reply, **info_replies;
    uint32_t n_keyspaces;
};

/* ---- asking ---- */

static bool ask(const struct target *t, struct client *c, int n, const char *const *args,
                const struct value **reply)
{
    if (!target_open(t, c)) return false;
    if (!client_call(c, n, args, reply))
        trouble("%s: %s", args[0], c->error);
    else if ((*reply)->kind == VALUE_ERROR)
        trouble("%s: %.*s", args[0], (int)(*reply)->text.len,
                (const char *)(*reply)->text.at);
    else
        return true;
    client_close(c);
    return false;
}

/* KEYSPACE LIST gives names, or maps that hold a name. */
static struct bytes keyspace_name(const struct value *element)
{
    if (element->kind != VALUE_ARRAY) return element->text;
    const struct value *name = value_of(element, "name");
    if (name == NULL && element->n > 0) name = value_at(element, 0);
    return value_text(name);
}

static bool ask_keyspaces(const struct target *t, struct look *l)
{
    const uint32_t n = l->names_reply->kind == VALUE_ARRAY ? l->names_reply->n : 0;

    l->infos = calloc(n + 1, sizeof *l->infos);
    l->info_replies = calloc(n + 1, sizeof *l->info_replies);
    check(l->infos != NULL && l->info_replies != NULL);
    for (uint32_t i = 0; i < n; i++) {
        const struct bytes name = keyspace_name(value_at(l->names_reply, i));
        char text[CONFIG_NAME_MAX + 1];

        snprintf(text, sizeof text, "%.*s", (int)name.len, (const char *)name.at);
        const char *const args[] = {"KEYSPACE", "INFO", text};
        if (!ask(t, &l->infos[i], 3, args, &l->info_replies[i])) return false;
        l->n_keyspaces++;
    }
    return true;
}

static void look_end(struct look *l)
{
    client_close(&l->nodes);
    client_close(&l->cluster);
    client_close(&l->servers);
    client_close(&l->shards);
    client_close(&l->names);
    for (uint32_t i = 0; i < l->n_keyspaces; i++)
        client_close(&l->infos[i]);
    free(l->infos);
    free(l->info_replies);
}

static bool look_begin(const struct target *t, struct look *l)
{
    static const char *const nodes[] = {"CLUSTER", "NODES"};
    static const char *const cluster[] = {"CLUSTER", "INFO"};
    static const char *const servers[] = {"SERVER", "LIST"};
    static const char *const shards[] = {"SHARD", "LIST"};
    static const char *const names[] = {"KEYSPACE", "LIST"};

    *l = (struct look){.nodes = {.fd = -1},
                       .cluster = {.fd = -1},
                       .servers = {.fd = -1},
                       .shards = {.fd = -1},
                       .names = {.fd = -1}};
    if (ask(t, &l->nodes, 2, nodes, &l->nodes_reply) &&
        ask(t, &l->cluster, 2, cluster, &l->cluster_reply) &&
        ask(t, &l->servers, 2, servers, &l->servers_reply) &&
        ask(t, &l->shards, 2, shards, &l->shards_reply) &&
        ask(t, &l->names, 2, names, &l->names_reply) && ask_keyspaces(t, l))
        return true;
    look_end(l);
    return false;
}

/* ---- CLUSTER NODES: one line a server, fields separated by spaces ---- */

struct node {
    struct bytes id, address, name, flags, link;
};

static struct bytes take_until(struct bytes *b, char mark)
{
    const uint8_t *end = b->len > 0 ? memchr(b->at, mark, b->len) : NULL;
    const size_t len = end != NULL ? (size_t)(end - b->at) : b->len;
    const struct bytes taken = {b->at, len};

    const size_t gone = len + (end != NULL);
    *b = (struct bytes){b->at + gone, b->len - gone};
    return taken;
}

static bool next_node(struct bytes *text, struct node *out)
{
    while (text->len > 0) {
        struct bytes line = take_until(text, '\n');
        struct bytes fields[NODE_FIELDS] = {{0}};
        if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
        if (line.len == 0) continue;
        for (size_t i = 0; i < NODE_FIELDS; i++)
            fields[i] = take_until(&line, ' ');
        /* host:port@peer-port,name */
        struct bytes at = fields[1];
        const struct bytes client = take_until(&at, '@');
        take_until(&at, ',');
        *out = (struct node){fields[0], client, take_until(&at, ','), fields[2],
                             fields[7]};
        return true;
    }
    return false;
}

static bool has_word(struct bytes list, const char *word)
{
    while (list.len > 0)
        if (bytes_equal_nocase(take_until(&list, ','), word)) return true;
    return false;
}

static bool node_is_well(const struct node *node)
{
    return bytes_equal(node->link, BYTES_OF("connected")) &&
           !has_word(node->flags, "fail") && !has_word(node->flags, "fail?");
}

/* Its row of SERVER LIST; NULL: it has come or gone between the two questions. */
static const struct value *row_of(const struct look *l, struct bytes name)
{
    for (uint32_t i = 0; l->servers_reply->kind == VALUE_ARRAY && i < l->servers_reply->n;
         i++) {
        const struct value *row = value_at(l->servers_reply, i);
        if (bytes_equal(value_text(value_of(row, "name")), name)) return row;
    }
    return NULL;
}

/* The cluster's feature level, of the lines of CLUSTER INFO; empty: an older server was asked. */
static struct bytes level_of(const struct look *l)
{
    struct bytes text = value_text(l->cluster_reply);

    while (text.len > 0) {
        struct bytes line = take_until(&text, '\n');
        const struct bytes name = take_until(&line, ':');
        if (bytes_equal(name, BYTES_OF("cluster_feature_level")))
            return take_until(&line, '\r');
    }
    return (struct bytes){NULL, 0};
}

static struct bytes field_of(const struct value *row, const char *name)
{
    return value_text(row == NULL ? NULL : value_of(row, name));
}

/* ---- for people ---- */

static void print_nodes(const struct look *l, bool coloured)
{
    static const char *const heads[] = {"SERVER", "CLIENTS AT", "STATE",
                                        "MEMBER", "REPLICAS",   "LEADS",
                                        "TO GO",  "LEVEL",      "ID"};
    struct grid t = grid_new(9, heads);
    struct bytes text = value_text(l->nodes_reply);
    struct node node;

    while (next_node(&text, &node)) {
        const bool well = node_is_well(&node);
        grid_put(&t, node.name, TONE_PLAIN);
        grid_put(&t, node.address, TONE_PLAIN);
        grid_put(&t, well ? BYTES_OF("connected") : BYTES_OF("not reachable"),
                 well ? TONE_GOOD : TONE_BAD);
        const struct value *row = row_of(l, node.name);
        const struct bytes member = field_of(row, "state");
        const bool stays = bytes_equal(member, BYTES_OF("active"));
        grid_put(&t, member, stays ? TONE_PLAIN : TONE_BAD);
        grid_put(&t, field_of(row, "replicas"), TONE_PLAIN);
        grid_put(&t, field_of(row, "leads"), TONE_PLAIN);
        grid_put(&t, stays ? BYTES_OF("") : field_of(row, "to-go"), TONE_PLAIN);
        const struct value *level = row == NULL ? NULL : value_of(row, "level");
        const bool known = level != NULL && level->integer > 0;
        grid_put(&t, value_text(known ? level : NULL), TONE_PLAIN);
        if (node.id.len > 8) node.id.len = 8;
        grid_put(&t, node.id, TONE_PLAIN);
    }
    grid_print(&t, stdout, coloured);
    grid_free(&t);
}

/* The policy of a keyspace on one line: all that its map says but its name and mode. */
static struct bytes policy_text(const struct value *info, char *out, size_t room)
{
    size_t len = 0;

    for (uint32_t i = 0; info->kind == VALUE_ARRAY && i + 1 < info->n; i += 2) {
        const struct bytes name = value_text(value_at(info, i));
        const struct value *content = value_at(info, i + 1);
        if (content->kind == VALUE_ARRAY || bytes_equal_nocase(name, "name") ||
            bytes_equal_nocase(name, "mode"))
            continue;
        const struct bytes text = value_text(content);
        const int more = snprintf(
            out + len, room - len, "%s%.*s=%.*s", len > 0 ? " " : "", (int)name.len,
            (const char *)name.at, (int)text.len, (const char *)text.at);
        if (more < 0 || (size_t)more >= room - len) break;
        len += (size_t)more;
    }
    return (struct bytes){(const uint8_t *)out, len};
}

static void print_keyspaces(const struct look *l, bool coloured)
{
    enum { LINE_MAX = 400 };
    static const char *const heads[] = {"KEYSPACE", "MODE", "POLICY"};
    struct grid t = grid_new(3, heads);
    char *lines = malloc((l->n_keyspaces + 1) * (size_t)LINE_MAX);

    check(lines != NULL);
    for (uint32_t i = 0; i < l->n_keyspaces; i++) {
        const struct value *info = l->info_replies[i];
        check(info != NULL);
        grid_put(&t, keyspace_name(value_at(l->names_reply, i)), TONE_PLAIN);
        grid_put(&t, value_text(value_of(info, "mode")), TONE_PLAIN);
        grid_put(&t, policy_text(info, lines + i * (size_t)LINE_MAX, LINE_MAX),
                 TONE_PLAIN);
    }
    grid_print(&t, stdout, coloured);
    grid_free(&t);
    free(lines);
}

static const char *const shard_keys[] = {"shard",   "keyspace", "slots",  "server",
                                         "name",    "role",     "leader", "term",
                                         "applied", "commit",   "lag",    "trouble"};
enum { SHARD_KEYS = sizeof shard_keys / sizeof shard_keys[0] };

static void print_shards(const struct look *l, bool coloured)
{
    static const char *const heads[] = {"SHARD",   "KEYSPACE", "SLOTS",  "SERVER",
                                        "NAME",    "ROLE",     "LEADER", "TERM",
                                        "APPLIED", "COMMIT",   "LAG",    "TROUBLE"};
    struct grid t = grid_new(SHARD_KEYS, heads);

    for (uint32_t i = 0; l->shards_reply->kind == VALUE_ARRAY && i < l->shards_reply->n;
         i++) {
        const struct value *shard = value_at(l->shards_reply, i);
        const struct bytes role = value_text(value_of(shard, "role"));
        for (size_t k = 0; k < SHARD_KEYS; k++) {
            enum table_tone tone = TONE_PLAIN;
            if (k == SHARD_KEYS - 1) tone = TONE_BAD;
            if (strcmp(shard_keys[k], "role") == 0 && bytes_equal_nocase(role, "leader"))
                tone = TONE_GOOD;
            const struct value *cell = value_of(shard, shard_keys[k]);
            /* Below 0: the server that was asked does not know it of another. */
            const bool known = cell == NULL || cell->kind != VALUE_INTEGER ||
                               cell->integer >= 0;
            grid_put(&t, value_text(known ? cell : NULL), tone);
        }
    }
    grid_print(&t, stdout, coloured);
    grid_free(&t);
}

static void print_screen(const struct target *target, const struct look *l)
{
    const bool coloured = isatty(STDOUT_FILENO) != 0 && getenv("NO_COLOR") == NULL;
    char from[CONFIG_ENDPOINT_TEXT];
    struct bytes text = value_text(l->nodes_reply);
    struct node node;
    unsigned servers = 0, well = 0;

    while (next_node(&text, &node)) {
        servers++;
        well += node_is_well(&node);
    }
    endpoint_text(&target->server, from);
    const struct bytes level = level_of(l);
    printf(
        "%u of %u servers connected, %u keyspaces, feature level %.*s (told by %s)\n\n",
        well, servers, l->n_keyspaces, (int)level.len, (const char *)level.at, from);
    print_nodes(l, coloured);
    putchar('\n');
    print_keyspaces(l, coloured);
    putchar('\n');
    print_shards(l, coloured);
}

/* ---- for programs ---- */

static void json_text(struct bytes b)
{
    putchar('"');
    for (size_t i = 0; i < b.len; i++) {
        const uint8_t c = b.at[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* A number stays one; of what is nested its parts' text is given as a list. */
static void json_value(const struct value *v)
{
    if (v == NULL || v->kind == VALUE_NULL) {
        fputs("null", stdout);
    } else if (v->kind == VALUE_INTEGER) {
        printf("%lld", (long long)v->integer);
    } else if (v->kind == VALUE_ARRAY) {
        putchar('[');
        for (uint32_t i = 0; i < v->n; i++) {
            if (i > 0) putchar(',');
            json_text(value_text(value_at(v, i)));
        }
        putchar(']');
    } else {
        json_text(v->text);
    }
}

static void json_map(const struct value *map)
{
    putchar('{');
    for (uint32_t i = 0; map->kind == VALUE_ARRAY && i + 1 < map->n; i += 2) {
        if (i > 0) putchar(',');
        json_text(value_text(value_at(map, i)));
        putchar(':');
        json_value(value_at(map, i + 1));
    }
    putchar('}');
}

static void json_field(const char *name, struct bytes text)
{
    json_text(bytes_of_str(name));
    putchar(':');
    json_text(text);
    putchar(',');
}

static void json_number(const char *name, const struct value *row, const char *field)
{
    json_text(bytes_of_str(name));
    putchar(':');
    json_value(row == NULL ? NULL : value_of(row, field));
    putchar(',');
}

static void print_json(const struct look *l)
{
    struct bytes text = value_text(l->nodes_reply);
    struct node node;

    const struct bytes level = level_of(l);

    printf("{\"level\":%.*s,\"servers\":[", level.len > 0 ? (int)level.len : 4,
           level.len > 0 ? (const char *)level.at : "null");
    for (bool first = true; next_node(&text, &node); first = false) {
        fputs(first ? "{" : ",{", stdout);
        json_field("name", node.name);
        json_field("address", node.address);
        json_field("id", node.id);
        json_field("flags", node.flags);
        json_field("state", field_of(row_of(l, node.name), "state"));
        json_field("zone", field_of(row_of(l, node.name), "zone"));
        json_number("to_go", row_of(l, node.name), "to-go");
        json_number("level", row_of(l, node.name), "level");
        printf("\"connected\":%s}", node_is_well(&node) ? "true" : "false");
    }
    fputs("],\"keyspaces\":[", stdout);
    for (uint32_t i = 0; i < l->n_keyspaces; i++) {
        fputs(i > 0 ? ",{" : "{", stdout);
        json_field("name", keyspace_name(value_at(l->names_reply, i)));
        fputs("\"policy\":", stdout);
        json_map(l->info_replies[i]);
        putchar('}');
    }
    fputs("],\"shards\":[", stdout);
    for (uint32_t i = 0; l->shards_reply->kind == VALUE_ARRAY && i < l->shards_reply->n;
         i++) {
        if (i > 0) putchar(',');
        json_map(value_at(l->shards_reply, i));
    }
    fputs("]}\n", stdout);
}

int command_status(int n, const char *const *args)
{
    static const char *const flags[] = {"--json", "--watch", "--server",
                                        "--password-file"};
    struct target target = target_default();
    bool json = false, watch = false;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        const int taken = target_option(&target, n, args, &i);
        if (taken < 0) return 2;
        if (taken > 0) continue;
        if (strcmp(args[i], "--json") == 0)
            json = true;
        else if (strcmp(args[i], "--watch") == 0)
            watch = true;
        else
            return unknown_flag("status", args[i], flags, 4);
    }
    for (;;) {
        struct look l;
        const bool seen = look_begin(&target, &l);

        if (!seen && !watch) return 1;
        if (watch && !json && isatty(STDOUT_FILENO)) fputs("\033[H\033[2J", stdout);
        if (seen && json) print_json(&l);
        if (seen && !json) print_screen(&target, &l);
        if (seen) look_end(&l);
        fflush(stdout);
        if (!watch) return 0;
        sleep(WATCH_S);
    }
}
