/* SPDX-License-Identifier: Apache-2.0 */
#include "data/synopsis.h"

#include <string.h>

#include "base/check.h"

enum { DEPTH_MAX = 8, TOKEN_TEXT_MAX = 32 };

/* A group that is open: the nodes of its current alternative start at `alternative`. */
struct frame {
    uint32_t from, alternative, alternatives;
    struct bytes token;
    bool repeats;
};

struct reader {
    struct synopsis *s;
    const char *at;
    struct frame frames[DEPTH_MAX];
    uint32_t depth;
};

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_mark(char c)
{
    return c == 0 || c == ' ' || c == '[' || c == ']' || c == '<' || c == '>' || c == '|';
}

static void skip_spaces(struct reader *r)
{
    while (*r->at == ' ')
        r->at++;
}

static struct bytes word_read(struct reader *r)
{
    const char *start = r->at;

    while (!is_mark(*r->at))
        r->at++;
    const struct bytes word = {(const uint8_t *)start, (size_t)(r->at - start)};
    skip_spaces(r);
    return word;
}

static void node_add(struct synopsis *s, uint32_t at, const struct synopsis_node *node)
{
    check(s->n < SYNOPSIS_NODES_MAX);
    memmove(&s->nodes[at + 1], &s->nodes[at], (s->n - at) * sizeof *s->nodes);
    s->nodes[at] = *node;
    s->n++;
}

/* Items that start at `from`, not counting what is inside of them. */
static uint32_t items_count(const struct synopsis *s, uint32_t from)
{
    uint32_t n = 0;

    for (uint32_t i = from; i < s->n; i += s->nodes[i].size)
        n++;
    return n;
}

/* The start of the last k items of those from `from` on. */
static uint32_t items_last(const struct synopsis *s, uint32_t from, uint32_t k)
{
    for (uint32_t skip = items_count(s, from) - k; skip > 0; skip--)
        from += s->nodes[from].size;
    return from;
}

static void items_wrap(struct synopsis *s, uint32_t from, enum synopsis_kind kind)
{
    const struct synopsis_node parent = {
        .kind = kind, .children = items_count(s, from), .size = s->n - from + 1};
    node_add(s, from, &parent);
}

static void alternative_end(struct reader *r)
{
    struct frame *f = &r->frames[r->depth];

    if (items_count(r->s, f->alternative) > 1)
        items_wrap(r->s, f->alternative, SYNOPSIS_BLOCK);
    f->alternatives++;
    f->alternative = r->s->n;
}

/* "x y [x y ...]": whether the group at `group` says again what stands before it; if so
 * it becomes a mark on that. */
static bool repeat_fold(struct synopsis *s, uint32_t from, uint32_t group)
{
    const struct synopsis_node *g = &s->nodes[group];
    const bool block = g->kind == SYNOPSIS_BLOCK;
    const uint32_t k = block ? g->children : 1, first = group + block;
    const uint32_t n_group = s->n - first;

    if (n_group > group - from) return false;
    const uint32_t start = group - n_group;
    for (uint32_t i = 0; i < n_group; i++)
        if (!bytes_equal(s->nodes[start + i].name, s->nodes[first + i].name))
            return false;

    s->n = group;
    if (k > 1) items_wrap(s, start, SYNOPSIS_BLOCK);
    s->nodes[start].multiple = true;
    return true;
}

static void group_open(struct reader *r, struct bytes token)
{
    check(r->depth + 1 < DEPTH_MAX);
    r->at++;
    skip_spaces(r);
    r->frames[++r->depth] = (struct frame){
        .from = r->s->n, .alternative = r->s->n, .token = token};
}

static void group_close(struct reader *r, bool optional)
{
    const struct frame *f = &r->frames[r->depth];
    struct synopsis *s = r->s;

    check(r->depth > 0);
    alternative_end(r);
    if (f->alternatives > 1) items_wrap(s, f->from, SYNOPSIS_ONEOF);
    check(f->from < s->n);

    struct synopsis_node *node = &s->nodes[f->from];
    const uint32_t from = f->from;
    const bool repeats = f->repeats;
    if (f->token.len > 0) node->token = f->token;
    r->at++;
    skip_spaces(r);
    r->depth--;
    if (repeats && repeat_fold(s, r->frames[r->depth].alternative, from)) return;
    node->multiple |= repeats;
    node->optional |= optional;
}

static void word_add(struct reader *r)
{
    const bool token = is_upper(*r->at);
    struct synopsis_node node = {
        .kind = token ? SYNOPSIS_TOKEN : SYNOPSIS_ARG, .name = word_read(r), .size = 1};

    if (token) {
        node.token = node.name;
        node.name = (struct bytes){NULL, 0};
        if (*r->at == '<') {
            group_open(r, node.token);
            return;
        }
        if (!is_mark(*r->at) && !is_upper(*r->at) && *r->at != '.') {
            node.kind = SYNOPSIS_ARG;
            node.name = word_read(r);
        }
    }
    node_add(r->s, r->s->n, &node);
}

static void dots_read(struct reader *r)
{
    struct frame *f = &r->frames[r->depth];

    word_read(r);
    if (*r->at == ']') {
        f->repeats = true;
        return;
    }
    check(f->alternative < r->s->n);
    r->s->nodes[items_last(r->s, f->alternative, 1)].multiple = true;
}

void synopsis_read(struct synopsis *s, const char *text)
{
    struct reader r = {.s = s, .at = text};

    s->n = 0;
    skip_spaces(&r);
    while (*r.at != 0) {
        switch (*r.at) {
        case '[':
        case '<': group_open(&r, (struct bytes){NULL, 0}); break;
        case ']': group_close(&r, true); break;
        case '>': group_close(&r, false); break;
        case '.': dots_read(&r); break;
        case '|':
            alternative_end(&r);
            r.at++;
            skip_spaces(&r);
            break;
        default: word_add(&r); break;
        }
    }
    check(r.depth == 0);
}

/* ---- the reply ---- */

struct arg_type {
    const char *name, *type;
};

/* The first entry that the name begins with; what is not here is a string. */
static const struct arg_type arg_types[] = {
    {"unix-time", "unix-time"},
    {"pattern", "pattern"},
    {"seconds", "integer"},
    {"milliseconds", "integer"},
    {"start", "integer"},
    {"end", "integer"},
    {"offset", "integer"},
    {"cursor", "integer"},
    {"count", "integer"},
    {"destination-db", "integer"},
    {"index", "integer"},
    {"numreplicas", "integer"},
    {"timeout", "integer"},
    {"protover", "integer"},
    {"client-id", "integer"},
    {"keyspace", "string"},
    {"key", "key"},
    {"newkey", "key"},
    {"source", "key"},
    {"destination", "key"},
    {"decrement", "integer"},
};

static const char *type_of(const struct synopsis_node *node)
{
    if (node->kind == SYNOPSIS_TOKEN) return "pure-token";
    if (node->kind == SYNOPSIS_ONEOF) return "oneof";
    if (node->kind == SYNOPSIS_BLOCK) return "block";
    for (size_t i = 0; i < sizeof arg_types / sizeof *arg_types; i++) {
        const size_t len = strlen(arg_types[i].name);
        if (node->name.len >= len && memcmp(node->name.at, arg_types[i].name, len) == 0)
            return arg_types[i].type;
    }
    return "string";
}

static void reply_name(struct reply *r, const struct synopsis_node *node)
{
    /* A group bears the name of its token or of what it begins with. */
    while (node->name.len == 0 && node->token.len == 0)
        node++;
    if (node->name.len > 0) {
        reply_bulk(r, node->name);
        return;
    }
    uint8_t text[TOKEN_TEXT_MAX];
    check(node->token.len <= sizeof text);
    for (size_t i = 0; i < node->token.len; i++) {
        const uint8_t c = node->token.at[i];
        text[i] = is_upper((char)c) ? (uint8_t)(c - 'A' + 'a') : c;
    }
    reply_bulk(r, (struct bytes){text, node->token.len});
}

static void reply_node(struct reply *r, const struct synopsis_node *node)
{
    const char *type = type_of(node);
    const bool key = strcmp(type, "key") == 0;
    const bool second = key && node->name.at[0] != 'k' && node->name.at[0] != 's';
    const bool marked = node->optional || node->multiple;

    reply_map(r, 2u + key + (node->token.len > 0) + marked + (node->children > 0));
    reply_bulk_str(r, "name");
    reply_name(r, node);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, type);
    if (key) {
        reply_bulk_str(r, "key_spec_index");
        reply_int(r, second);
    }
    if (node->token.len > 0) {
        reply_bulk_str(r, "token");
        reply_bulk(r, node->token);
    }
    if (marked) {
        reply_bulk_str(r, "flags");
        reply_set(r, (uint64_t)node->optional + node->multiple);
        if (node->optional) reply_simple(r, "optional");
        if (node->multiple) reply_simple(r, "multiple");
    }
    if (node->children > 0) {
        reply_bulk_str(r, "arguments");
        reply_array(r, node->children);
    }
}

/* "arguments" is the last field of a map, so that writing the nodes one after the other
 * nests them. */
void synopsis_reply(struct reply *r, const struct synopsis *s)
{
    reply_array(r, items_count(s, 0));
    for (uint32_t i = 0; i < s->n; i++)
        reply_node(r, &s->nodes[i]);
}
