/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/look.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/units.h"

enum { INFO_TIMEOUT_MS = 1000, NODE_FIELDS = 8 };

/* ---- texts ---- */

static struct bytes take_until(struct bytes *b, char mark)
{
    const uint8_t *end = b->len > 0 ? memchr(b->at, mark, b->len) : NULL;
    const size_t len = end != NULL ? (size_t)(end - b->at) : b->len;
    const struct bytes taken = {b->at, len};

    const size_t gone = len + (end != NULL);
    *b = (struct bytes){b->at + gone, b->len - gone};
    return taken;
}

static bool has_word(struct bytes list, const char *word)
{
    while (list.len > 0)
        if (bytes_equal_nocase(take_until(&list, ','), word)) return true;
    return false;
}

struct bytes row_text(const struct value *row, const char *name)
{
    return value_text(row == NULL ? NULL : value_of(row, name));
}

int64_t row_number(const struct value *row, const char *name)
{
    const struct value *v = row == NULL ? NULL : value_of(row, name);

    return v != NULL && v->kind == VALUE_INTEGER ? v->integer : -1;
}

/* Of lines such as INFO's. */
static uint64_t number_in(struct bytes text, const char *field)
{
    int64_t v;

    while (text.len > 0) {
        struct bytes line = take_until(&text, '\n');
        const struct bytes name = take_until(&line, ':');
        if (!bytes_equal(name, bytes_of_str(field))) continue;
        if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
        return parse_i64(line, &v) && v > 0 ? (uint64_t)v : 0;
    }
    return 0;
}

uint64_t look_number(const struct look_server *s, const char *field)
{
    return number_in(value_text(s->info.reply), field);
}

uint64_t look_level(const struct look *l)
{
    return number_in(value_text(l->cluster.reply), "cluster_feature_level");
}

/* ---- asking ---- */

static bool keep(struct link *link, int n, const char *const *args, struct kept *out)
{
    if (link_ask(link, n, args) == NULL) return false;
    client_take(&link->client, out);
    return true;
}

static bool keep_pair(struct link *link, const char *container, const char *sub,
                      struct kept *out)
{
    const char *const args[] = {container, sub};

    return keep(link, 2, args, out);
}

static uint32_t n_rows(const struct kept *k)
{
    return k->reply != NULL && k->reply->kind == VALUE_ARRAY ? k->reply->n : 0;
}

static bool take_keyspaces(struct look *l, struct link *link)
{
    const uint32_t n = n_rows(&l->names);

    l->infos = calloc(n + 1, sizeof *l->infos);
    check(l->infos != NULL);
    for (uint32_t i = 0; i < n; i++) {
        const struct bytes name = value_text(value_at(l->names.reply, i));
        char text[CONFIG_NAME_MAX + 1];

        snprintf(text, sizeof text, "%.*s", (int)name.len, (const char *)name.at);
        const char *const args[] = {"KEYSPACE", "INFO", text};
        if (keep(link, 3, args, &l->infos[l->n_keyspaces]))
            l->n_keyspaces++;
        else if (!link->open || strstr(link->error, "NOKEYSPACE") == NULL)
            return false; /* else it was dropped meanwhile */
    }
    return true;
}

/* A line of CLUSTER NODES: id host:port@peer-port,name flags ... link; false: it is none. */
static bool read_node(struct bytes line, struct look_server *out)
{
    struct bytes fields[NODE_FIELDS] = {{0}};

    if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
    if (line.len == 0) return false;
    for (size_t i = 0; i < NODE_FIELDS; i++)
        fields[i] = take_until(&line, ' ');
    struct bytes at = fields[1];
    const struct bytes client = take_until(&at, '@');
    take_until(&at, ',');
    *out = (struct look_server){.id = fields[0],
                                .address = client,
                                .name = take_until(&at, ','),
                                .flags = fields[2]};
    out->connected = bytes_equal(fields[7], BYTES_OF("connected")) &&
                     !has_word(fields[2], "fail") && !has_word(fields[2], "fail?");
    return true;
}

static const struct value *member_of(const struct look *l, struct bytes name)
{
    for (uint32_t i = 0; i < n_rows(&l->members); i++) {
        const struct value *row = value_at(l->members.reply, i);
        if (bytes_equal(row_text(row, "name"), name)) return row;
    }
    return NULL;
}

/* Its INFO; a server that is said to be there, and does not give it, is not there. */
static void take_info(struct look_server *s, const struct link *link)
{
    static const char *const args[] = {"INFO"};
    const struct value *reply;
    struct endpoint e;
    struct client c;

    if (!s->connected || !endpoint_parse(s->address, &e)) return;
    s->connected = client_open(&c, &e, INFO_TIMEOUT_MS, &link->target.password) &&
                   client_call(&c, 1, args, &reply);
    if (s->connected) client_take(&c, &s->info);
    client_close(&c);
}

static void take_servers(struct look *l, const struct link *link)
{
    struct bytes text = value_text(l->nodes.reply);

    while (text.len > 0) {
        const struct bytes line = take_until(&text, '\n');
        l->servers = realloc(l->servers, (l->n_servers + 1) * sizeof *l->servers);
        check(l->servers != NULL);
        struct look_server *s = &l->servers[l->n_servers];
        if (!read_node(line, s)) continue;
        l->n_servers++;
        s->row = member_of(l, s->name);
        take_info(s, link);
        l->n_connected += s->connected;
    }
}

/* ---- what needs attention ---- */

PRINTF_LIKE(3, 4)
static void note(struct look *l, enum grid_tone tone, const char *format, ...)
{
    struct look_note n = {.tone = tone};
    va_list args;

    va_start(args, format);
    vsnprintf(n.text, sizeof n.text, format, args);
    va_end(args);
    l->notes = realloc(l->notes, (l->n_notes + 1) * sizeof *l->notes);
    check(l->notes != NULL);
    uint32_t at = l->n_notes++;
    for (; at > 0 && l->notes[at - 1].tone < tone; at--)
        l->notes[at] = l->notes[at - 1];
    l->notes[at] = n;
}

static void note_server(struct look *l, const struct look_server *s)
{
    const struct bytes state = row_text(s->row, "state");
    const unsigned long long discarded = look_number(s, "rollback_entries"),
                             files = look_number(s, "rollback_files");

    if (!s->connected)
        note(l, TONE_BAD, "%.*s is not reachable at %.*s", (int)s->name.len,
             (const char *)s->name.at, (int)s->address.len, (const char *)s->address.at);
    if (state.len > 0 && !bytes_equal(state, BYTES_OF("active")) &&
        !bytes_equal(state, BYTES_OF("drained")))
        note(l, TONE_WARN, "%.*s is %.*s, %lld shards to go", (int)s->name.len,
             (const char *)s->name.at, (int)state.len, (const char *)state.at,
             (long long)row_number(s->row, "to-go"));
    if (files > 0)
        note(l, TONE_WARN,
             "%.*s holds discarded writes in %llu file%s of its rollback/ (%llu since it "
             "started)",
             (int)s->name.len, (const char *)s->name.at, files, files == 1 ? "" : "s",
             discarded);
}

static const struct value *info_of(const struct look *l, struct bytes keyspace)
{
    for (uint32_t i = 0; i < l->n_keyspaces; i++)
        if (bytes_equal(row_text(l->infos[i].reply, "name"), keyspace))
            return l->infos[i].reply;
    return NULL;
}

static bool is_reachable(const struct look *l, struct bytes name)
{
    for (uint32_t i = 0; i < l->n_servers; i++)
        if (bytes_equal(l->servers[i].name, name)) return l->servers[i].connected;
    return false;
}

/* A replica whose server is not reachable has been told with it. */
static void note_replica(struct look *l, const struct value *row)
{
    const struct bytes name = row_text(row, "name"), trouble = row_text(row, "trouble");
    const struct bytes keyspace = row_text(row, "keyspace");
    const int64_t lag = row_number(row, "lag"), shard = row_number(row, "shard");
    char text[UNIT_TEXT_MAX];

    if (!is_reachable(l, name)) return;
    if (trouble.len > 0)
        note(l, TONE_WARN, "shard %lld of %.*s at %.*s: %.*s", (long long)shard,
             (int)keyspace.len, (const char *)keyspace.at, (int)name.len,
             (const char *)name.at, (int)trouble.len, (const char *)trouble.at);
    else if (lag >= LAG_WARN)
        note(l, TONE_WARN, "shard %lld of %.*s at %.*s is behind by %s entries",
             (long long)shard, (int)keyspace.len, (const char *)keyspace.at,
             (int)name.len, (const char *)name.at, count_text((uint64_t)lag, text));
}

static void note_leaderless(struct look *l, const struct value *row)
{
    const struct bytes keyspace = row_text(row, "keyspace");
    const struct value *info = info_of(l, keyspace);
    const bool reads = bytes_equal(row_text(info, "read"), BYTES_OF("any"));

    if (bytes_equal(keyspace, BYTES_OF("(meta)")))
        note(l, TONE_BAD,
             "no majority of the servers: keyspaces and members can't be changed");
    else if (bytes_equal(row_text(info, "failover"), BYTES_OF("manual")))
        note(l, TONE_BAD,
             "shard %lld of %.*s has no primary: reads only, until FAILOVER %.*s names "
             "one",
             (long long)row_number(row, "shard"), (int)keyspace.len,
             (const char *)keyspace.at, (int)keyspace.len, (const char *)keyspace.at);
    else
        note(l, TONE_BAD, "shard %lld of %.*s has no leader: %s",
             (long long)row_number(row, "shard"), (int)keyspace.len,
             (const char *)keyspace.at,
             reads ? "reads only" : "neither reads nor writes");
}

/* What the keyspace asks for, and what the shard follows meanwhile. */
static void note_rules(struct look *l, const struct value *row)
{
    const struct bytes keyspace = row_text(row, "keyspace"), ack = row_text(row, "ack"),
                       durability = row_text(row, "durability");
    const struct value *info = info_of(l, keyspace);
    const bool primary = bytes_equal(row_text(info, "mode"), BYTES_OF("primary"));
    const struct bytes ack_asked = primary ? row_text(info, "ack") : BYTES_OF("majority"),
                       asked = primary ? row_text(info, "durability") : BYTES_OF("fsync");

    if (info == NULL || (bytes_equal(ack, ack_asked) && bytes_equal(durability, asked)))
        return;
    if (ack.len == 0)
        note(l, TONE_WARN, "shard %lld of %.*s does not follow its new rules yet",
             (long long)row_number(row, "shard"), (int)keyspace.len,
             (const char *)keyspace.at);
    else
        note(l, TONE_WARN,
             "shard %lld of %.*s follows ACK %.*s, DURABILITY %.*s until ACK %.*s, "
             "DURABILITY %.*s is in force",
             (long long)row_number(row, "shard"), (int)keyspace.len,
             (const char *)keyspace.at, (int)ack.len, (const char *)ack.at,
             (int)durability.len, (const char *)durability.at, (int)ack_asked.len,
             (const char *)ack_asked.at, (int)asked.len, (const char *)asked.at);
}

/* The rows of a shard come one after the other. */
static void note_shards(struct look *l)
{
    const uint32_t n = n_rows(&l->shards);
    const struct value *row = n > 0 ? l->shards.reply + 1 : NULL;

    for (uint32_t i = 0; i < n;) {
        const struct value *first = row;
        const int64_t shard = row_number(first, "shard");
        bool led = false;
        for (; i < n && row_number(row, "shard") == shard; i++, row += row->span) {
            led |= bytes_equal(row_text(row, "role"), BYTES_OF("leader")) &&
                   is_reachable(l, row_text(row, "name"));
            note_replica(l, row);
        }
        l->n_shards++;
        if (!led) note_leaderless(l, first);
        note_rules(l, first);
    }
}

/* ---- all of it ---- */

bool look_take(struct look *l, struct link *link)
{
    *l = (struct look){.at_ms = clock_ms()};
    if (!keep_pair(link, "CLUSTER", "NODES", &l->nodes) ||
        !keep_pair(link, "CLUSTER", "INFO", &l->cluster) ||
        !keep_pair(link, "SERVER", "LIST", &l->members) ||
        !keep_pair(link, "SHARD", "LIST", &l->shards) ||
        !keep_pair(link, "KEYSPACE", "LIST", &l->names) || !take_keyspaces(l, link)) {
        look_free(l);
        return false;
    }
    link_learn(link, value_text(l->nodes.reply));
    take_servers(l, link);
    for (uint32_t i = 0; i < l->n_servers; i++)
        note_server(l, &l->servers[i]);
    note_shards(l);
    l->took_ms = clock_ms() - l->at_ms;
    return true;
}

void look_free(struct look *l)
{
    for (uint32_t i = 0; i < l->n_servers; i++)
        kept_free(&l->servers[i].info);
    for (uint32_t i = 0; i < l->n_keyspaces; i++)
        kept_free(&l->infos[i]);
    kept_free(&l->nodes);
    kept_free(&l->cluster);
    kept_free(&l->members);
    kept_free(&l->shards);
    kept_free(&l->names);
    free(l->servers);
    free(l->infos);
    free(l->notes);
    *l = (struct look){.n_servers = 0};
}
