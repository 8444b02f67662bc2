/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/link.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/text.h"

void sleep_ms(unsigned ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&left, NULL);
}

uint64_t clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool is_code(const struct value *reply, const char *code)
{
    const size_t len = strlen(code);

    return reply->kind == VALUE_ERROR && reply->text.len > len &&
           memcmp(reply->text.at, code, len) == 0 && reply->text.at[len] == ' ';
}

bool is_passing(const struct value *reply)
{
    static const char *const codes[] = {"NOLEADER", "NOQUORUM", "UNCERTAIN",  "STALE",
                                        "LOADING",  "TRYAGAIN", "CLUSTERDOWN"};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (is_code(reply, codes[i])) return true;
    return false;
}

/* ---- connecting ---- */

static void lose(struct link *l)
{
    if (l->open) client_close(&l->client);
    l->open = false;
}

static bool connect_at(struct link *l, uint32_t at)
{
    lose(l);
    if (!client_open(&l->client, &l->servers[at], l->timeout_ms, &l->target.password)) {
        snprintf(l->error, sizeof l->error, "%s", l->client.error);
        client_close(&l->client);
        return false;
    }
    l->open = true;
    l->at = at;
    return true;
}

static uint32_t server_add(struct link *l, const struct endpoint *e)
{
    uint32_t i = 0;

    while (i < l->n_servers &&
           (l->servers[i].port != e->port || strcmp(l->servers[i].host, e->host) != 0))
        i++;
    if (i == LINK_SERVERS_MAX) return 0;
    if (i == l->n_servers) l->servers[l->n_servers++] = *e;
    return i;
}

/* A line of CLUSTER NODES: id host:port@... */
static void learn_line(struct link *l, struct bytes line)
{
    const uint8_t *space = line.len > 0 ? memchr(line.at, ' ', line.len) : NULL;
    if (space == NULL) return;

    const size_t gone = (size_t)(space - line.at) + 1;
    struct bytes address = {line.at + gone, line.len - gone};
    const uint8_t *mark = address.len > 0 ? memchr(address.at, '@', address.len) : NULL;
    struct endpoint e;
    if (mark == NULL) return;
    address.len = (size_t)(mark - address.at);
    if (endpoint_parse(address, &e)) server_add(l, &e);
}

void link_learn(struct link *l, struct bytes text)
{
    while (text.len > 0) {
        const uint8_t *end = memchr(text.at, '\n', text.len);
        const size_t len = end == NULL ? text.len : (size_t)(end - text.at);
        learn_line(l, (struct bytes){text.at, len});
        const size_t gone = end == NULL ? len : len + 1;
        text = (struct bytes){text.at + gone, text.len - gone};
    }
}

static bool learn(struct link *l)
{
    static const char *const nodes[] = {"CLUSTER", "NODES"};
    const struct value *reply = link_ask(l, 2, nodes);

    if (reply != NULL) link_learn(l, value_text(reply));
    return reply != NULL;
}

bool link_open(struct link *l, const struct target *target, unsigned timeout_ms)
{
    *l = (struct link){.target = *target,
                       .servers = {target->server},
                       .n_servers = 1,
                       .timeout_ms = timeout_ms};
    if (connect_at(l, 0)) return learn(l);
    snprintf(l->error, sizeof l->error,
             "%s; is a server running there? (--server HOST:PORT names another one)",
             l->client.error);
    return false;
}

void link_close(struct link *l)
{
    lose(l);
}

bool link_again(struct link *l)
{
    const uint32_t first = l->at;

    for (uint32_t i = 0; i < l->n_servers; i++)
        if (connect_at(l, (first + i) % l->n_servers)) return true;
    return false;
}

bool link_move(struct link *l, struct bytes address)
{
    struct endpoint e;

    if (!endpoint_parse(address, &e)) {
        snprintf(l->error, sizeof l->error, "a server named an address that is none");
        return false;
    }
    return connect_at(l, server_add(l, &e));
}

/* ---- asking ---- */

const struct value *link_call(struct link *l, int n, const char *const *args)
{
    const struct value *reply;

    if (client_call(&l->client, n, args, &reply)) return reply;
    snprintf(l->error, sizeof l->error, "%s: %s", args[0], l->client.error);
    lose(l);
    return NULL;
}

const struct value *link_ask(struct link *l, int n, const char *const *args)
{
    const struct value *reply = link_call(l, n, args);

    if (reply == NULL || reply->kind != VALUE_ERROR) return reply;
    if (is_code(reply, "NOAUTH")) {
        snprintf(l->error, sizeof l->error,
                 "the server wants a password (NOAUTH); see --password-file");
        return NULL;
    }
    snprintf(l->error, sizeof l->error, "%s: %.*s", args[0], (int)reply->text.len,
             (const char *)reply->text.at);
    return NULL;
}

/* ---- the layout ---- */

static bool odd_reply(struct link *l, const char *what)
{
    snprintf(l->error, sizeof l->error,
             "the server answers %s in a way that this version does not understand",
             what);
    return false;
}

/* "MODE raft REPLICAS 3 ...": what KEYSPACE CREATE takes of what INFO tells. */
static bool policy_read(struct link *l, const struct value *info, struct copy_keyspace *k)
{
    static const char *const options[] = {
        "MODE", "REPLICAS", "LEARNERS", "SHARDS", "ACK",       "DURABILITY", "FAILOVER",
        "READ", "MAXLAG",   "CONFLICT", "STRICT", "MAXMEMORY", "EVICT"};
    size_t len = 0;

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const struct bytes v = value_text(value_of(info, options[i]));
        if (v.len == 0) continue;
        if (memchr(v.at, ' ', v.len) != NULL) return odd_reply(l, "KEYSPACE INFO");
        const int more = snprintf(k->policy + len, sizeof k->policy - len, "%s%s %.*s",
                                  len > 0 ? " " : "", options[i], (int)v.len,
                                  (const char *)v.at);
        if (more < 0 || (size_t)more >= sizeof k->policy - len)
            return odd_reply(l, "KEYSPACE INFO");
        len += (size_t)more;
    }
    const struct bytes state = value_text(value_of(info, "state"));
    if (state.len == 0 || bytes_equal(state, BYTES_OF("active"))) return len > 0;
    snprintf(l->error, sizeof l->error,
             "keyspace %s is just being made or dropped; try again", k->name);
    return false;
}

static bool keyspaces_read(struct link *l, struct manifest *m)
{
    static const char *const list[] = {"KEYSPACE", "LIST"};
    const struct value *names = link_ask(l, 2, list);
    if (names == NULL) return false;
    if (names->kind != VALUE_ARRAY) return odd_reply(l, "KEYSPACE LIST");

    for (uint32_t i = 0; i < names->n; i++) {
        const struct bytes name = value_text(value_at(names, i));
        if (name.len == 0 || name.len > MANIFEST_NAME_MAX)
            return odd_reply(l, "KEYSPACE LIST");
        memcpy(manifest_add_keyspace(m)->name, name.at, name.len);
    }
    for (uint32_t i = 0; i < m->n_keyspaces; i++) {
        const char *const info[] = {"KEYSPACE", "INFO", m->keyspaces[i].name};
        const struct value *reply = link_ask(l, 3, info);
        if (reply == NULL || !policy_read(l, reply, &m->keyspaces[i])) return false;
    }
    return true;
}

static bool slots_of(struct bytes text, uint32_t *first, uint32_t *last)
{
    const uint8_t *dash = text.len > 0 ? memchr(text.at, '-', text.len) : NULL;
    int64_t a, b;

    if (dash == NULL) return false;
    const size_t len = (size_t)(dash - text.at);
    if (!parse_i64((struct bytes){text.at, len}, &a)) return false;
    if (!parse_i64((struct bytes){dash + 1, text.len - len - 1}, &b)) return false;
    if (a < 0 || a > b || b >= SLOTS) return false;
    *first = (uint32_t)a;
    *last = (uint32_t)b;
    return true;
}

static int64_t integer_of(const struct value *row, const char *name)
{
    const struct value *v = value_of(row, name);

    return v != NULL && v->kind == VALUE_INTEGER ? v->integer : -1;
}

/* Of the replicas of a shard, which come one after the other, the leader's keys count. */
static bool row_read(struct link *l, const struct value *row, struct manifest *m)
{
    const struct bytes keyspace = value_text(value_of(row, "keyspace"));
    const int64_t shard = integer_of(row, "shard"), keys = integer_of(row, "keys");
    const uint32_t at = manifest_keyspace(m, keyspace);
    struct copy_shard *s = m->n_shards == 0 ? NULL : &m->shards[m->n_shards - 1];

    if (bytes_equal(keyspace, BYTES_OF("(meta)"))) return true;
    if (shard < 0 || shard > UINT32_MAX || at == m->n_keyspaces)
        return odd_reply(l, "SHARD LIST");
    if (s == NULL || s->shard != (uint32_t)shard) {
        s = manifest_add_shard(m);
        s->shard = (uint32_t)shard;
        s->keyspace = at;
        if (!slots_of(value_text(value_of(row, "slots")), &s->slot_first, &s->slot_last))
            return odd_reply(l, "SHARD LIST");
    }
    if (keys > 0 && bytes_equal(value_text(value_of(row, "role")), BYTES_OF("leader")))
        s->keys = (uint64_t)keys;
    return true;
}

/* The shards of each keyspace hold every slot. */
static bool is_whole(struct link *l, const struct manifest *m)
{
    for (uint32_t k = 0; k < m->n_keyspaces; k++) {
        uint32_t slots = 0;
        for (uint32_t i = 0; i < m->n_shards; i++)
            if (m->shards[i].keyspace == k)
                slots += m->shards[i].slot_last - m->shards[i].slot_first + 1;
        if (slots == SLOTS) continue;
        snprintf(l->error, sizeof l->error,
                 "the server does not tell of all shards of keyspace %s; try again",
                 m->keyspaces[k].name);
        return false;
    }
    return true;
}

bool link_layout(struct link *l, struct mem *mem, struct manifest *out)
{
    static const char *const shards[] = {"SHARD", "LIST"};

    *out = manifest_new(mem);
    const bool known = keyspaces_read(l, out);
    const struct value *rows = known ? link_ask(l, 2, shards) : NULL;
    bool good = rows != NULL && rows->kind == VALUE_ARRAY;
    const struct value *row = good ? rows + 1 : NULL;
    for (uint32_t i = 0; good && i < rows->n; i++, row += row->span)
        good = row_read(l, row, out);
    good = good && is_whole(l, out);
    if (!good) manifest_free(out);
    return good;
}
