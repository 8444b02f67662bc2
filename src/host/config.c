/* SPDX-License-Identifier: Apache-2.0 */
#include "host/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "host/log.h"

enum option_kind {
    OPTION_NAME = 1, /* [A-Za-z0-9_.-]{1,64} */
    OPTION_PATH,
    OPTION_ENDPOINT,
    OPTION_ENDPOINT_OFF, /* or "off" */
    OPTION_SIZE,
    OPTION_COUNT,
    OPTION_DURATION,
    OPTION_LEVEL,
    OPTION_SWITCH, /* a flag without a value; yes or no in a file */
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t at;
    uint64_t least, most; /* of a number, and how an operator writes them */
    const char *range;
};

#define AT(field) offsetof(struct config, field)
static const struct option options[] = {
    {"name", OPTION_NAME, AT(name), 0, 0, NULL},
    {"data", OPTION_PATH, AT(data), 0, 0, NULL},
    {"client", OPTION_ENDPOINT, AT(client), 0, 0, NULL},
    {"peer", OPTION_ENDPOINT, AT(peer), 0, 0, NULL},
    {"http", OPTION_ENDPOINT_OFF, AT(http), 0, 0, NULL},
    {"join", OPTION_ENDPOINT, AT(join), 0, 0, NULL},
    {"zone", OPTION_NAME, AT(zone), 0, 0, NULL},
    {"config", OPTION_PATH, AT(config_file), 0, 0, NULL},
    {"advertise-client", OPTION_ENDPOINT, AT(advertise_client), 0, 0, NULL},
    {"advertise-peer", OPTION_ENDPOINT, AT(advertise_peer), 0, 0, NULL},
    {"password-file", OPTION_PATH, AT(password_file), 0, 0, NULL},
    {"cluster-secret-file", OPTION_PATH, AT(secret_file), 0, 0, NULL},
    {"memory", OPTION_SIZE, AT(memory_bytes), UINT64_C(64) << 20, SERVER_BYTES_MAX,
     "from 64mb to 16384gb"},
    {"maxclients", OPTION_COUNT, AT(clients_max), 1, SERVER_CLIENTS_MAX,
     "from 1 to 1000000"},
    {"request-timeout", OPTION_DURATION, AT(request_timeout_ns), SERVER_TIMEOUT_MIN_NS,
     SERVER_TIMEOUT_MAX_NS, "from 10ms to 1h"},
    {"log-level", OPTION_LEVEL, AT(log_level), 0, 0, NULL},
    {"wal-keep", OPTION_SIZE, AT(wal_keep_bytes), 0, SERVER_BYTES_MAX, "at most 16384gb"},
    {"max-clock-skew", OPTION_DURATION, AT(max_clock_skew_ns), MS_NS, SERVER_SKEW_MAX_NS,
     "from 1ms to 24h"},
    {"replace-after", OPTION_DURATION, AT(replace_after_ns), SERVER_REPLACE_MIN_NS,
     SERVER_REPLACE_MAX_NS, "from 1s to 8784h"},
    {"transfer-rate", OPTION_SIZE, AT(transfer_bytes_per_s), 0, SERVER_BYTES_MAX,
     "at most 16384gb"},
    {"insecure", OPTION_SWITCH, AT(insecure), 0, 0, NULL},
};
#undef AT
enum { OPTIONS = sizeof options / sizeof options[0] };

/* An option and the place that named it: "sennit.conf:12" or "--name". */
struct place {
    const struct option *option;
    const char *where;
};

PRINTF_LIKE(2, 3)
static bool refuse(struct config_error *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return false;
}

void config_default(struct config *c)
{
    const struct server_limits limits = server_limits_default();

    *c = (struct config){
        .data = "./sennit-data",
        .client = {"127.0.0.1", 6379},
        .clients_max = limits.clients_max,
        .request_timeout_ns = limits.request_timeout_ns,
        .wal_keep_bytes = limits.wal_keep_bytes,
        .max_clock_skew_ns = limits.max_clock_skew_ms * MS_NS,
        .replace_after_ns = limits.replace_after_ns,
        .transfer_bytes_per_s = limits.transfer_bytes_per_s,
        .log_level = LOG_INFO,
    };
}

/* ---- endpoints ---- */

static bool is_host_byte(uint8_t c, bool bracketed)
{
    if (c >= '0' && c <= '9') return true;
    if (bracketed && (c == ':' || c == '%')) return true;
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
           c == '_';
}

bool endpoint_parse(struct bytes text, struct endpoint *out)
{
    const bool bracketed = text.len > 0 && text.at[0] == '[';
    size_t colon = text.len;
    int64_t port;

    while (colon > 0 && text.at[colon - 1] != ':')
        colon--;
    if (colon == 0) return false;
    if (!parse_i64((struct bytes){text.at + colon, text.len - colon}, &port))
        return false;
    if (port < 1 || port > UINT16_MAX) return false;

    struct bytes host = {text.at, colon - 1};
    if (bracketed) {
        if (host.len < 2 || host.at[host.len - 1] != ']') return false;
        host = (struct bytes){host.at + 1, host.len - 2};
        /* Only what has colons is written with them, and read back as it was. */
        if (host.len == 0 || memchr(host.at, ':', host.len) == NULL) return false;
    }
    if (host.len == 0 || host.len > CONFIG_HOST_MAX) return false;
    for (size_t i = 0; i < host.len; i++)
        if (!is_host_byte(host.at[i], bracketed)) return false;

    memset(out, 0, sizeof *out);
    memcpy(out->host, host.at, host.len);
    out->port = (uint16_t)port;
    return true;
}

void endpoint_text(const struct endpoint *e, char text[CONFIG_ENDPOINT_TEXT])
{
    const char *format = strchr(e->host, ':') != NULL ? "[%s]:%u" : "%s:%u";

    snprintf(text, CONFIG_ENDPOINT_TEXT, format, e->host, (unsigned)e->port);
}

/* 127.0.0.0/8 only as four numbers: "127.example.org" is a name like any other. */
bool endpoint_is_loopback(const struct endpoint *e)
{
    if (bytes_equal_nocase(bytes_of_str(e->host), "localhost")) return true;
    if (strcmp(e->host, "::1") == 0) return true;
    return strncmp(e->host, "127.", 4) == 0 &&
           strspn(e->host, "0123456789.") == strlen(e->host);
}

bool endpoint_is_wildcard(const struct endpoint *e)
{
    /* "0" and "0:0::0" are other ways to write them, and no host has such a name. */
    return e->host[0] != 0 && strspn(e->host, "0.:") == strlen(e->host);
}

/* ---- values ---- */

static bool set_name(const struct place *p, struct bytes v, char *out,
                     struct config_error *why)
{
    bool good = v.len > 0 && v.len <= CONFIG_NAME_MAX;

    for (size_t i = 0; good && i < v.len; i++)
        good = is_host_byte(v.at[i], false);
    if (!good)
        return refuse(why, "%s: %s must be 1 to %d letters, digits, '_', '.' or '-'",
                      p->where, p->option->name, CONFIG_NAME_MAX);
    memcpy(out, v.at, v.len);
    out[v.len] = 0;
    return true;
}

static bool set_path(const struct place *p, struct bytes v, char *out,
                     struct config_error *why)
{
    if (v.len == 0 || v.len > CONFIG_PATH_MAX || memchr(v.at, 0, v.len) != NULL)
        return refuse(why, "%s: %s must be a path of 1 to %d bytes", p->where,
                      p->option->name, CONFIG_PATH_MAX);
    memcpy(out, v.at, v.len);
    out[v.len] = 0;
    return true;
}

static bool set_endpoint(const struct place *p, struct bytes v, struct endpoint *out,
                         struct config_error *why)
{
    if (endpoint_parse(v, out)) return true;
    return refuse(why,
                  "%s: %s must be HOST:PORT, such as 127.0.0.1:6379 or [::1]:6379 "
                  "(0.0.0.0:6379 for all addresses), not '%.*s'",
                  p->where, p->option->name, (int)(v.len < 200 ? v.len : 200),
                  (const char *)v.at);
}

static bool in_range(const struct place *p, uint64_t v, struct config_error *why)
{
    if (v >= p->option->least && v <= p->option->most) return true;
    return refuse(why, "%s: %s must be %s", p->where, p->option->name, p->option->range);
}

static bool set_number(const struct place *p, struct bytes v, uint64_t *out,
                       struct config_error *why)
{
    const char *form = "";
    int64_t count = 0;

    switch (p->option->kind) {
    case OPTION_SIZE:
        if (parse_size(v, out)) return in_range(p, *out, why);
        form = "a size, such as 512mb or 2gb";
        break;
    case OPTION_DURATION:
        if (parse_duration(v, out)) return in_range(p, *out, why);
        form = "a time, such as 500ms, 5s or 10m";
        break;
    case OPTION_COUNT:
        if (parse_i64(v, &count) && count > 0) {
            *out = (uint64_t)count;
            return in_range(p, *out, why);
        }
        form = "a number above 0";
        break;
    case OPTION_NAME:
    case OPTION_PATH:
    case OPTION_ENDPOINT:
    case OPTION_ENDPOINT_OFF:
    case OPTION_LEVEL:
    case OPTION_SWITCH: check(false); break;
    }
    return refuse(why, "%s: %s must be %s, not '%.*s'", p->where, p->option->name, form,
                  (int)(v.len < 200 ? v.len : 200), (const char *)v.at);
}

static bool set_switch(const struct place *p, struct bytes v, bool *out,
                       struct config_error *why)
{
    const bool yes = bytes_equal_nocase(v, "yes");

    if (!yes && !bytes_equal_nocase(v, "no"))
        return refuse(why, "%s: %s must be yes or no", p->where, p->option->name);
    *out = yes;
    return true;
}

static bool set_option(struct config *c, const struct place *p, struct bytes v,
                       struct config_error *why)
{
    void *field = (char *)c + p->option->at;

    switch (p->option->kind) {
    case OPTION_NAME: return set_name(p, v, field, why);
    case OPTION_PATH: return set_path(p, v, field, why);
    case OPTION_ENDPOINT: return set_endpoint(p, v, field, why);
    case OPTION_ENDPOINT_OFF:
        c->http_off = bytes_equal_nocase(v, "off");
        return c->http_off || set_endpoint(p, v, field, why);
    case OPTION_SIZE:
    case OPTION_COUNT:
    case OPTION_DURATION: return set_number(p, v, field, why);
    case OPTION_LEVEL:
        if (log_level_parse(v, field)) return true;
        return refuse(why, "%s: log-level must be debug, info, warn or error", p->where);
    case OPTION_SWITCH: return set_switch(p, v, field, why);
    }
    check(false);
    return false;
}

static const struct option *find_option(struct bytes name)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (bytes_equal(name, bytes_of_str(options[i].name))) return &options[i];
    return NULL;
}

/* ---- hints ---- */

enum { NEAR_MAX = 32 };

/* Levenshtein distance; words longer than NEAR_MAX are as far as can be. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t row[NEAR_MAX + 1];

    if (n > NEAR_MAX || m > NEAR_MAX) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *config_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t best = strlen(word) / 3 + 2; /* so far off, and a hint would only puzzle */

    for (size_t i = 0; i < n; i++) {
        const size_t d = distance(word, names[i]);
        if (d >= best) continue;
        best = d;
        nearest = names[i];
    }
    return nearest;
}

/* " (did you mean X?)", or nothing. */
static void hint_text(struct bytes name, char *out, size_t out_bytes)
{
    const char *names[OPTIONS];
    char word[NEAR_MAX + 1] = {0};

    out[0] = 0;
    if (name.len > NEAR_MAX || name.len == 0) return;
    memcpy(word, name.at, name.len);
    for (size_t i = 0; i < OPTIONS; i++)
        names[i] = options[i].name;
    const char *nearest = config_nearest(word, names, OPTIONS);
    if (nearest != NULL) snprintf(out, out_bytes, " (did you mean %s?)", nearest);
}

/* ---- files ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct bytes trim(struct bytes b)
{
    while (b.len > 0 && is_blank(b.at[b.len - 1]))
        b.len--;
    while (b.len > 0 && is_blank(b.at[0])) {
        b.at++;
        b.len--;
    }
    return b;
}

static bool parse_line(struct config *c, struct bytes line, const char *where,
                       struct config_error *why)
{
    struct bytes name = line, value;
    char hint[64];

    name.len = 0;
    while (name.len < line.len && line.at[name.len] != '=')
        name.len++;
    if (name.len == line.len)
        return refuse(why, "%s: a line must be `name = value`, or a # comment", where);
    value = trim((struct bytes){line.at + name.len + 1, line.len - name.len - 1});
    name = trim(name);

    const struct option *option = find_option(name);
    if (option == NULL) {
        hint_text(name, hint, sizeof hint);
        return refuse(why, "%s: unknown name '%.*s'%s; `sennit server --help` lists them",
                      where, (int)(name.len < 100 ? name.len : 100),
                      (const char *)name.at, hint);
    }
    if (strcmp(option->name, "config") == 0)
        return refuse(why, "%s: a config file cannot name another one", where);
    const struct place place = {option, where};
    return set_option(c, &place, value, why);
}

bool config_parse_text(struct config *c, struct bytes text, const char *path,
                       struct config_error *why)
{
    unsigned number = 0;

    for (size_t at = 0; at < text.len;) {
        const uint8_t *end = memchr(text.at + at, '\n', text.len - at);
        const size_t len = end != NULL ? (size_t)(end - text.at) - at : text.len - at;
        const struct bytes line = trim((struct bytes){text.at + at, len});
        char where[256];

        at += len + 1;
        snprintf(where, sizeof where, "%.200s:%u", path, ++number);
        if (line.len == 0 || line.at[0] == '#') continue;
        if (line.len > CONFIG_LINE_MAX)
            return refuse(why, "%s: the line is longer than %d bytes", where,
                          CONFIG_LINE_MAX);
        if (!parse_line(c, line, where, why)) return false;
    }
    return true;
}

/* ---- flags ---- */

/* One flag at args[*i]; *i moves to its last word. */
static bool parse_flag(struct config *c, int n, const char *const *args, int *i,
                       struct config_error *why)
{
    const char *arg = args[*i];
    char where[NEAR_MAX + 8], hint[64];

    if (strncmp(arg, "--", 2) != 0)
        return refuse(
            why, "'%.200s': flags begin with --; `sennit server --help` lists them", arg);

    const char *equals = strchr(arg, '=');
    const struct bytes name = {(const uint8_t *)arg + 2, equals != NULL
                                                             ? (size_t)(equals - arg) - 2
                                                             : strlen(arg) - 2};
    const struct option *option = find_option(name);
    if (option == NULL) {
        hint_text(name, hint, sizeof hint);
        return refuse(why, "unknown flag '%.200s'%s; `sennit server --help` lists them",
                      arg, hint);
    }
    snprintf(where, sizeof where, "--%s", option->name);
    const struct place place = {option, where};
    if (option->kind == OPTION_SWITCH && equals == NULL)
        return set_option(c, &place, BYTES_OF("yes"), why);
    if (equals != NULL) return set_option(c, &place, bytes_of_str(equals + 1), why);
    if (*i + 1 >= n) return refuse(why, "%s needs a value", where);
    *i += 1;
    return set_option(c, &place, bytes_of_str(args[*i]), why);
}

bool config_parse_args(struct config *c, int n, const char *const *args,
                       struct config_error *why)
{
    for (int i = 0; i < n; i++)
        if (!parse_flag(c, n, args, &i, why)) return false;
    return true;
}

/* ---- the whole ---- */

static bool derive_peer(struct config *c, struct config_error *why)
{
    if (c->peer.host[0] != 0) return true;
    if (c->client.port + CONFIG_PEER_OFFSET > UINT16_MAX)
        return refuse(
            why,
            "client port %u leaves no room for the usual peer port, %d above it: "
            "name one with --peer HOST:PORT",
            (unsigned)c->client.port, CONFIG_PEER_OFFSET);
    c->peer = c->client;
    c->peer.port = (uint16_t)(c->client.port + CONFIG_PEER_OFFSET);
    return true;
}

static bool check_exposure(const struct config *c, struct config_error *why)
{
    if (c->insecure) return true;
    if (c->password_file[0] == 0 && !endpoint_is_loopback(&c->client))
        return refuse(why,
                      "--client %s is reachable from other machines, and there is no "
                      "password: give --password-file FILE, or --insecure if the network "
                      "itself is safe",
                      c->client.host);
    if (c->secret_file[0] == 0 && !endpoint_is_loopback(&c->peer))
        return refuse(
            why,
            "--peer %s is reachable from other machines, and there is no cluster "
            "secret: give --cluster-secret-file FILE (the same on every server), "
            "or --insecure if the network itself is safe",
            c->peer.host);
    return true;
}

static bool check_values(const struct config *c, struct config_error *why)
{
    const bool same_host = strcmp(c->client.host, c->peer.host) == 0 ||
                           endpoint_is_wildcard(&c->client) ||
                           endpoint_is_wildcard(&c->peer);

    if (same_host && c->client.port == c->peer.port)
        return refuse(why,
                      "clients and peers cannot share port %u: change --client or --peer",
                      (unsigned)c->client.port);
    if (c->join.host[0] != 0 && c->join.port == c->peer.port &&
        strcmp(c->join.host, c->peer.host) == 0)
        return refuse(why, "--join names this server itself: give the peer address of "
                           "another member, or leave it out to start a cluster of one");
    return true;
}

/* A name that means this machine on others, too: "localhost" is each one's own, and an unset
 * name, which Linux gives as "(none)", is nobody's. */
static bool machine_has_name(const struct config *c)
{
    struct endpoint named = {.port = 1};
    struct endpoint parsed;
    char text[CONFIG_ENDPOINT_TEXT];

    memcpy(named.host, c->machine, sizeof named.host);
    endpoint_text(&named, text);
    return endpoint_parse(bytes_of_str(text), &parsed) && !endpoint_is_loopback(&named) &&
           !endpoint_is_wildcard(&named);
}

/* What others dial, unless the operator has said it: what is listened on.  Nobody can dial
 * all addresses; the name of this machine is the best guess there is then, and in a
 * container usually the right one. */
static bool derive_advertised(const struct config *c, const char *option,
                              const struct endpoint *listened, struct endpoint *told,
                              struct config_error *why)
{
    if (endpoint_is_wildcard(told))
        return refuse(why,
                      "--advertise-%s %s: nobody can dial all addresses: give it one "
                      "address of this machine, or its name",
                      option, told->host);
    if (told->host[0] != 0) return true;
    *told = *listened;
    if (!endpoint_is_wildcard(listened)) return true;
    if (!machine_has_name(c))
        return refuse(why,
                      "--%s %s: nobody can dial all addresses, and this machine has no "
                      "name that others can: give --advertise-%s HOST:PORT",
                      option, listened->host, option);
    memcpy(told->host, c->machine, sizeof told->host);
    return true;
}

bool config_finish(struct config *c, struct config_error *why)
{
    if (!derive_peer(c, why)) return false;
    if (!check_exposure(c, why) || !check_values(c, why)) return false;
    return derive_advertised(c, "client", &c->client, &c->advertise_client, why) &&
           derive_advertised(c, "peer", &c->peer, &c->advertise_peer, why);
}
