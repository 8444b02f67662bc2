/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/grid.h"
#include "cli/json.h"
#include "cli/look.h"
#include "cli/units.h"
#include "cli/watch.h"

enum {
    WATCH_MS = 1000,
    WATCH_TIMEOUT_MS = 3000, /* SHARD LIST may wait a second for who is silent */
    NOTES_SHOWN = 12,
    ROWS_SHOWN = 48, /* of shards that are well: more are for --all */
};

static const char help[] =
    "usage: sennit status [--json] [--watch [SECONDS]] [--all]\n\n"
    "  Servers, keyspaces and shards on one screen.  What needs attention stands at the\n"
    "  top: red wants somebody to do something, yellow to look at it.\n\n"
    "  --watch [SECONDS]        again each second, or so often, in place; Ctrl-C ends "
    "it.\n"
    "                           When the server that it asks goes it asks another one\n"
    "  --all                    all shards, also when there are many and they are well\n"
    "  --json                   for programs: one object with servers, keyspaces, "
    "shards\n"
    "                           and what needs attention; with --watch one a "
    "line\n" HELP_COLOR HELP_SERVER "\n"
    "examples: how is it, watch a failover, which shards have trouble?\n"
    "  sennit status\n"
    "  sennit status --watch 0.5 --server 10.0.0.2:6379\n"
    "  sennit status --json | jq '.shards[] | select(.trouble != \"\")'\n";

struct wish {
    struct target target;
    bool json, watch, all, coloured;
    unsigned pause_ms;
};

/* ---- for people ---- */

/* How fast a count of a server grows; "": not known yet. */
static struct bytes rate_of(const struct look *l, const struct look *before,
                            const struct look_server *s, const char *field,
                            char text[UNIT_TEXT_MAX])
{
    for (uint32_t i = 0; before != NULL && i < before->n_servers; i++) {
        const struct look_server *then = &before->servers[i];
        if (!bytes_equal(then->name, s->name) || then->info.reply == NULL) continue;
        const uint64_t now = look_number(s, field), old = look_number(then, field);
        if (s->info.reply == NULL || now < old || l->at_ms <= before->at_ms) break;
        return bytes_of_str(rate_text(
            (double)(now - old) * 1000 / (double)(l->at_ms - before->at_ms), text));
    }
    return BYTES_OF("");
}

static void put_server(struct grid *g, const struct look *l, const struct look *before,
                       const struct look_server *s)
{
    const struct bytes member = row_text(s->row, "state");
    const bool stays = bytes_equal(member, BYTES_OF("active"));
    const uint64_t up_s = look_number(s, "uptime_in_seconds");
    char text[UNIT_TEXT_MAX];

    grid_put(g, s->name, TONE_PLAIN);
    grid_put(g, s->address, TONE_PLAIN);
    grid_put(g, s->connected ? BYTES_OF("connected") : BYTES_OF("not reachable"),
             s->connected ? TONE_PLAIN : TONE_BAD);
    grid_put(g, member, stays ? TONE_PLAIN : TONE_WARN);
    grid_put(g, row_text(s->row, "zone"), TONE_PLAIN);
    grid_put(g, row_text(s->row, "replicas"), TONE_PLAIN);
    grid_put(g, row_text(s->row, "leads"), TONE_PLAIN);
    grid_put(g, stays ? BYTES_OF("") : row_text(s->row, "to-go"), TONE_WARN);
    grid_put(g,
             row_number(s->row, "level") > 0 ? row_text(s->row, "level") : BYTES_OF(""),
             TONE_PLAIN);
    if (s->info.reply == NULL) {
        for (int i = 0; i < 5; i++)
            grid_put(g, BYTES_OF(""), TONE_PLAIN);
        return;
    }
    grid_putf(g, TONE_PLAIN, "%llu",
              (unsigned long long)look_number(s, "connected_clients"));
    grid_put(g, rate_of(l, before, s, "total_commands_processed", text), TONE_PLAIN);
    grid_putf(g, TONE_PLAIN, "%s", size_text(look_number(s, "used_memory"), text));
    grid_putf(g, TONE_PLAIN, "%s", time_text(up_s * 1000, text));
    const uint64_t files = look_number(s, "rollback_files");
    if (files > 0)
        grid_putf(g, TONE_WARN, "%llu", (unsigned long long)files);
    else
        grid_put(g, BYTES_OF(""), TONE_PLAIN);
}

static void print_servers(FILE *out, const struct look *l, const struct look *before,
                          bool coloured)
{
    static const struct grid_column columns[] = {
        {"SERVER", false}, {"CLIENTS AT", false}, {"STATE", false},   {"MEMBER", false},
        {"ZONE", false},   {"REPLICAS", true},    {"LEADS", true},    {"TO GO", true},
        {"LEVEL", true},   {"CLIENTS", true},     {"COMMANDS", true}, {"MEMORY", true},
        {"UP", true},      {"ROLLBACK", true}};
    struct grid g = grid_new(columns, sizeof columns / sizeof columns[0]);

    for (uint32_t i = 0; i < l->n_servers; i++)
        put_server(&g, l, before, &l->servers[i]);
    grid_print(&g, out, coloured);
    grid_free(&g);
}

static void put_policy(struct grid *g, const struct value *info)
{
    const bool primary = bytes_equal(row_text(info, "mode"), BYTES_OF("primary"));
    const struct bytes state = row_text(info, "state");
    const int64_t maxlag = row_number(info, "maxlag"),
                  learners = row_number(info, "learners"),
                  unsettled = row_number(info, "unsettled");
    char text[UNIT_TEXT_MAX];

    grid_put(g, row_text(info, "name"), TONE_PLAIN);
    grid_put(g, row_text(info, "mode"), TONE_PLAIN);
    grid_put(g, primary ? row_text(info, "ack") : BYTES_OF("majority"), TONE_PLAIN);
    grid_put(g, primary ? row_text(info, "durability") : BYTES_OF("fsync"), TONE_PLAIN);
    grid_put(g, row_text(info, "failover"), TONE_PLAIN);
    grid_put(g, row_text(info, "read"), TONE_PLAIN);
    grid_put(g,
             maxlag > 0 ? bytes_of_str(time_text((uint64_t)maxlag, text)) : BYTES_OF(""),
             TONE_PLAIN);
    grid_put(g, row_text(info, "replicas"), TONE_PLAIN);
    grid_put(g, learners > 0 ? row_text(info, "learners") : BYTES_OF(""), TONE_PLAIN);
    grid_put(g, row_text(info, "shards"), TONE_PLAIN);
    grid_put(g, unsettled > 0 ? row_text(info, "unsettled") : BYTES_OF(""), TONE_WARN);
    grid_put(g, bytes_equal(state, BYTES_OF("active")) ? BYTES_OF("") : state, TONE_WARN);
}

static void print_keyspaces(FILE *out, const struct look *l, bool coloured)
{
    static const struct grid_column columns[] = {
        {"KEYSPACE", false}, {"MODE", false},  {"ACK", false},      {"DURABILITY", false},
        {"FAILOVER", false}, {"READ", false},  {"MAXLAG", true},    {"REPLICAS", true},
        {"LEARNERS", true},  {"SHARDS", true}, {"UNSETTLED", true}, {"STATE", false}};
    struct grid g = grid_new(columns, sizeof columns / sizeof columns[0]);

    for (uint32_t i = 0; i < l->n_keyspaces; i++)
        put_policy(&g, l->infos[i].reply);
    grid_print(&g, out, coloured);
    grid_free(&g);
}

static bool row_is_well(const struct value *row)
{
    const struct bytes role = row_text(row, "role");

    return row_text(row, "trouble").len == 0 && row_number(row, "lag") < LAG_WARN &&
           row_number(row, "leader") > 0 && !bytes_equal(role, BYTES_OF("candidate")) &&
           !bytes_equal(role, BYTES_OF("unknown"));
}

static void put_number(struct grid *g, const struct value *row, const char *name,
                       int64_t from, enum grid_tone tone)
{
    const int64_t v = row_number(row, name);

    grid_put(g, v >= from ? row_text(row, name) : BYTES_OF(""), tone);
}

static void put_replica(struct grid *g, const struct value *row)
{
    const struct bytes role = row_text(row, "role");
    const bool behind = row_number(row, "lag") >= LAG_WARN;
    char text[UNIT_TEXT_MAX];

    grid_put(g, row_text(row, "shard"), TONE_PLAIN);
    grid_put(g, row_text(row, "keyspace"), TONE_PLAIN);
    grid_put(g, row_text(row, "slots"), TONE_PLAIN);
    grid_put(g, row_text(row, "name"), TONE_PLAIN);
    grid_put(g, role,
             bytes_equal(role, BYTES_OF("unknown")) ||
                     bytes_equal(role, BYTES_OF("candidate"))
                 ? TONE_WARN
                 : TONE_PLAIN);
    put_number(g, row, "epoch", 1, TONE_PLAIN);
    put_number(g, row, "term", 1, TONE_PLAIN);
    put_number(g, row, "applied", 0, TONE_PLAIN);
    put_number(g, row, "lag", 0, behind ? TONE_WARN : TONE_PLAIN);
    const int64_t keys = row_number(row, "keys");
    grid_put(g, keys >= 0 ? bytes_of_str(count_text((uint64_t)keys, text)) : BYTES_OF(""),
             TONE_PLAIN);
    grid_put(g, row_text(row, "trouble"), TONE_BAD);
}

static void print_shards(FILE *out, const struct look *l, const struct wish *w)
{
    static const struct grid_column columns[] = {
        {"SHARD", true}, {"KEYSPACE", false}, {"SLOTS", false},  {"SERVER", false},
        {"ROLE", false}, {"EPOCH", true},     {"TERM", true},    {"APPLIED", true},
        {"LAG", true},   {"KEYS", true},      {"TROUBLE", false}};
    struct grid g = grid_new(columns, sizeof columns / sizeof columns[0]);
    const uint32_t n = l->shards.reply->kind == VALUE_ARRAY ? l->shards.reply->n : 0;
    const struct value *row = l->shards.reply + 1;
    uint32_t left_out = 0;

    for (uint32_t i = 0; i < n; i++, row += row->span) {
        if (n > ROWS_SHOWN && !w->all && row_is_well(row))
            left_out++;
        else
            put_replica(&g, row);
    }
    if (left_out < n) grid_print(&g, out, w->coloured);
    if (left_out > 0)
        fprintf(out, "  %u replicas of %u are well and not shown; --all shows them\n",
                left_out, n);
    grid_free(&g);
}

static void print_notes(FILE *out, const struct look *l, bool coloured)
{
    for (uint32_t i = 0; i < l->n_notes && i < NOTES_SHOWN; i++) {
        tone_set(out, coloured, l->notes[i].tone);
        fprintf(out, "  ! %s", l->notes[i].text);
        tone_set(out, coloured, TONE_PLAIN);
        fputc('\n', out);
    }
    if (l->n_notes > NOTES_SHOWN)
        fprintf(out, "  ! and %u more\n", l->n_notes - NOTES_SHOWN);
    if (l->n_notes > 0) fputc('\n', out);
}

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

static void print_screen(FILE *out, const struct wish *w, const struct link *link,
                         const struct look *l, const struct look *before)
{
    char from[CONFIG_ENDPOINT_TEXT], named[CONFIG_ENDPOINT_TEXT], took[UNIT_TEXT_MAX];

    endpoint_text(&link->servers[link->at], from);
    fprintf(out,
            "%u of %u servers connected, %u keyspace%s, %u shard%s, feature level %llu: ",
            l->n_connected, l->n_servers, l->n_keyspaces, plural(l->n_keyspaces),
            l->n_shards, plural(l->n_shards), (unsigned long long)look_level(l));
    if (l->n_notes == 0)
        fputs("all is well", out);
    else
        fprintf(out, "%u thing%s to look at", l->n_notes, plural(l->n_notes));
    fprintf(out, " (told by %s in %s", from, time_text(l->took_ms, took));
    if (link->at != 0) {
        endpoint_text(&w->target.server, named);
        fprintf(out, "; %s does not answer", named);
    }
    fputs(")\n\n", out);
    print_notes(out, l, w->coloured);
    print_servers(out, l, before, w->coloured);
    fputc('\n', out);
    print_keyspaces(out, l, w->coloured);
    fputc('\n', out);
    print_shards(out, l, w);
}

/* ---- for programs ---- */

static void json_server(FILE *out, const struct look_server *s)
{
    fputc('{', out);
    json_field(out, "name", s->name);
    json_field(out, "address", s->address);
    json_field(out, "id", s->id);
    json_field(out, "flags", s->flags);
    json_field(out, "state", row_text(s->row, "state"));
    json_field(out, "zone", row_text(s->row, "zone"));
    fprintf(out, "\"to_go\":%lld,\"rollback_files\":%llu,\"rollback_entries\":%llu,",
            (long long)row_number(s->row, "to-go"),
            (unsigned long long)look_number(s, "rollback_files"),
            (unsigned long long)look_number(s, "rollback_entries"));
    fprintf(out, "\"level\":%lld,\"used_memory\":%llu,\"connected\":%s}",
            (long long)row_number(s->row, "level"),
            (unsigned long long)look_number(s, "used_memory"),
            s->connected ? "true" : "false");
}

static void print_json(FILE *out, const struct look *l)
{
    fprintf(out, "{\"level\":%llu,\"servers\":[", (unsigned long long)look_level(l));
    for (uint32_t i = 0; i < l->n_servers; i++) {
        if (i > 0) fputc(',', out);
        json_server(out, &l->servers[i]);
    }
    fputs("],\"keyspaces\":[", out);
    for (uint32_t i = 0; i < l->n_keyspaces; i++) {
        fputs(i > 0 ? ",{" : "{", out);
        json_field(out, "name", row_text(l->infos[i].reply, "name"));
        fputs("\"policy\":", out);
        json_map(out, l->infos[i].reply);
        fputc('}', out);
    }
    fputs("],\"attention\":[", out);
    for (uint32_t i = 0; i < l->n_notes; i++) {
        if (i > 0) fputc(',', out);
        json_text(out, bytes_of_str(l->notes[i].text));
    }
    fputs("],\"shards\":", out);
    json_rows(out, l->shards.reply);
    fputs("}\n", out);
}

/* ---- once, or again and again ---- */

static void print_look(FILE *out, const struct wish *w, const struct link *link,
                       const struct look *l, const struct look *before)
{
    if (w->json)
        print_json(out, l);
    else
        print_screen(out, w, link, l, before);
}

static int look_once(const struct wish *w, struct link *link)
{
    struct look l;

    if (!link_open(link, &w->target, CALL_TIMEOUT_MS) || !look_take(&l, link))
        return trouble("%s", link->error);
    print_look(stdout, w, link, &l, NULL);
    look_free(&l);
    return 0;
}

static void print_nobody(FILE *out, const struct wish *w, const struct link *link)
{
    if (w->json) {
        fputs("{\"error\":", out);
        json_text(out, bytes_of_str(link->error));
        fputs("}\n", out);
        return;
    }
    tone_set(out, w->coloured, TONE_BAD);
    fprintf(out, "no server answers: %s", link->error);
    tone_set(out, w->coloured, TONE_PLAIN);
    fprintf(out, "\n\ntrying again, also at the %u other%s that it told of\n",
            link->n_servers - 1, plural(link->n_servers - 1));
}

/* Of this server or, when it does not tell, of the next one that does. */
static bool look_somewhere(struct link *link, struct look *l)
{
    for (uint32_t i = 0; i < link->n_servers; i++) {
        if ((link->open || link_again(link)) && look_take(l, link)) return true;
        link_close(link);
        link->at = (link->at + 1) % link->n_servers;
    }
    return false;
}

static int look_again_and_again(const struct wish *w, struct link *link)
{
    struct look before = {.n_servers = 0}, now;
    struct watch watch;

    /* The first time it must be there: a wrong address is told, and not watched. */
    if (!link_open(link, &w->target, WATCH_TIMEOUT_MS)) return trouble("%s", link->error);
    watch_begin(&watch, !w->json && isatty(STDOUT_FILENO) != 0);
    for (bool known = false;;) {
        const bool seen = look_somewhere(link, &now);
        FILE *out = watch_frame(&watch);
        if (seen)
            print_look(out, w, link, &now, known ? &before : NULL);
        else
            print_nobody(out, w, link);
        if (!w->json && !watch.in_place) fputc('\n', out);
        watch_show(&watch, w->pause_ms);
        if (!seen) continue;
        look_free(&before);
        before = now;
        known = true;
    }
}

static int read_pause(struct wish *w, const struct words *words)
{
    if (words->n == 0) return 0;
    char *end = NULL;
    const double s = w->watch ? strtod(words->all[0], &end) : 0;

    if (!w->watch || words->n > 1)
        return wrong_use("status: unknown argument '%s'; `sennit status --help` lists "
                         "what there is",
                         words->all[words->n - 1]);
    if (end == words->all[0] || *end != 0 || !(s >= 0.1 && s <= 3600))
        return wrong_use("status: --watch takes seconds, from 0.1 to 3600, and not '%s'",
                         words->all[0]);
    w->pause_ms = (unsigned)(s * 1000);
    return 0;
}

int command_status(int n, const char *const *args)
{
    static struct link link; /* large */
    struct wish w = {.target = target_default(), .pause_ms = WATCH_MS};
    const char *color = NULL;
    const struct option options[] = {
        {"--json", .set = &w.json},
        {"--watch", .set = &w.watch},
        {"--all", .set = &w.all},
        {"--color", .value = &color, .wants = "auto, always or never"}};
    const struct grammar grammar = {"status", options, 4, &w.target};
    struct words words;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    int wrong = read_words(&grammar, n, args, &words);
    if (wrong == 0) wrong = read_pause(&w, &words);
    if (wrong == 0) wrong = color_choose("status", color, &w.coloured);
    if (wrong != 0) return wrong;
    const int code = w.watch ? look_again_and_again(&w, &link) : look_once(&w, &link);
    link_close(&link);
    return code;
}
