/* SPDX-License-Identifier: Apache-2.0 */
/* CONFIG: the settings, under the names that Redis' clients and tools ask for where there
 * is one of the same meaning, and what the design fixes told as the constant it is.  What
 * the world owns (log level, paths) is asked of it. */
#include "server/server_state.h"

#include <stdio.h>

#include "base/text.h"

enum setting_kind {
    SETTING_FIXED = 1, /* `text` */
    SETTING_WORLD,     /* the world's: told and taken by it */
    SETTING_COUNT,     /* a plain number */
    SETTING_BYTES,     /* a size */
    SETTING_NS,        /* ns inside; told in ms, taken in ms or with a unit */
};

enum setting_id {
    NONE,
    CLIENTS,
    OUTPUT_MAX,
    OUTPUT_PAUSE,
    INPUT_MAX,
    VALUE_MAX_ID,
    TABLE,
    LOG_CHECKPOINT,
    TIMEOUT,
    REPLACE,
    TRANSFER,
    SKEW,
    MEMORY,
    PORT,
};

struct setting {
    const char *name;
    enum setting_kind kind;
    const char *text;
    enum setting_id id;
    bool may_set;
    uint64_t least, most; /* of a number; of SETTING_NS in ms */
};

static const struct setting settings[] = {
    {"appendfsync", SETTING_FIXED, "always", NONE, false, 0, 0},
    {"appendonly", SETTING_FIXED, "yes", NONE, false, 0, 0},
    {"bind", SETTING_WORLD, NULL, NONE, false, 0, 0},
    {"client-output-bytes-max", SETTING_BYTES, NULL, OUTPUT_MAX, true, 1 << 20,
     SERVER_BYTES_MAX},
    {"client-output-pause-bytes", SETTING_BYTES, NULL, OUTPUT_PAUSE, true, 16 << 10,
     1 << 30},
    {"client-query-buffer-limit", SETTING_BYTES, NULL, INPUT_MAX, true, 1 << 20,
     2 * VALUE_MAX},
    {"cluster-enabled", SETTING_FIXED, "yes", NONE, false, 0, 0},
    {"databases", SETTING_FIXED, "1", NONE, false, 0, 0},
    {"dir", SETTING_WORLD, NULL, NONE, false, 0, 0},
    {"log-bytes-checkpoint", SETTING_BYTES, NULL, LOG_CHECKPOINT, true, 1 << 20,
     SERVER_BYTES_MAX},
    {"loglevel", SETTING_WORLD, NULL, NONE, true, 0, 0},
    {"log-level", SETTING_WORLD, NULL, NONE, true, 0, 0},
    {"max-clock-skew", SETTING_COUNT, NULL, SKEW, true, 1, SERVER_SKEW_MAX_NS / MS_NS},
    {"maxclients", SETTING_COUNT, NULL, CLIENTS, true, 1, SERVER_CLIENTS_MAX},
    {"maxmemory", SETTING_BYTES, NULL, MEMORY, true, 0, SERVER_BYTES_MAX},
    {"maxmemory-policy", SETTING_FIXED, "noeviction", NONE, false, 0, 0},
    {"notify-keyspace-events", SETTING_FIXED, "", NONE, false, 0, 0},
    {"port", SETTING_COUNT, NULL, PORT, false, 0, 0},
    {"proto-max-bulk-len", SETTING_BYTES, NULL, VALUE_MAX_ID, true, 1 << 20, VALUE_MAX},
    {"replace-after", SETTING_NS, NULL, REPLACE, true, SERVER_REPLACE_MIN_NS / MS_NS,
     SERVER_REPLACE_MAX_NS / MS_NS},
    {"request-timeout", SETTING_NS, NULL, TIMEOUT, true, SERVER_TIMEOUT_MIN_NS / MS_NS,
     SERVER_TIMEOUT_MAX_NS / MS_NS},
    {"save", SETTING_FIXED, "", NONE, false, 0, 0},
    {"table-bytes-max", SETTING_BYTES, NULL, TABLE, true, 1 << 20, SERVER_BYTES_MAX},
    {"timeout", SETTING_FIXED, "0", NONE, false, 0, 0},
    {"transfer-rate", SETTING_BYTES, NULL, TRANSFER, true, 0, SERVER_BYTES_MAX},
};
enum { SETTINGS = sizeof settings / sizeof settings[0], VALUE_TEXT_MAX = 4096 };

static uint64_t number_of(const struct server *s, enum setting_id id)
{
    const struct server_limits *l = &s->config.limits;

    switch (id) {
    case NONE: break;
    case CLIENTS: return l->clients_max;
    case OUTPUT_MAX: return l->client_output_bytes_max;
    case OUTPUT_PAUSE: return l->client_output_pause_bytes;
    case INPUT_MAX: return l->client_input_bytes_max;
    case VALUE_MAX_ID: return l->value_bytes_max;
    case TABLE: return l->table_bytes_max;
    case LOG_CHECKPOINT: return l->log_bytes_checkpoint;
    case TIMEOUT: return l->request_timeout_ns;
    case REPLACE: return l->replace_after_ns;
    case TRANSFER: return l->transfer_bytes_per_s;
    case SKEW: return l->max_clock_skew_ms;
    case MEMORY: return s->mem->limit;
    case PORT: return s->config.client_port;
    }
    return 0;
}

static void number_set(struct server *s, enum setting_id id, uint64_t v)
{
    struct server_limits *l = &s->config.limits;

    switch (id) {
    case NONE:
    case PORT: return;
    case CLIENTS: l->clients_max = (uint32_t)v; return;
    case OUTPUT_MAX: l->client_output_bytes_max = v; return;
    case OUTPUT_PAUSE: l->client_output_pause_bytes = v; return;
    case INPUT_MAX: l->client_input_bytes_max = v; return;
    case VALUE_MAX_ID: l->value_bytes_max = v; return;
    case TABLE: l->table_bytes_max = v; return;
    case LOG_CHECKPOINT: l->log_bytes_checkpoint = v; return;
    case TIMEOUT: l->request_timeout_ns = v; return;
    case REPLACE: l->replace_after_ns = v; return;
    case TRANSFER: l->transfer_bytes_per_s = s->transfer_rate.bytes_per_s = v; return;
    case SKEW: l->max_clock_skew_ms = v; return;
    case MEMORY: s->mem->limit = (size_t)v; return;
    }
}

/* ---- GET ---- */

static bool value_text(const struct server *s, const struct setting *at, char *out,
                       size_t room)
{
    switch (at->kind) {
    case SETTING_FIXED: snprintf(out, room, "%s", at->text); return true;
    case SETTING_WORLD:
        return s->config.config_get != NULL &&
               s->config.config_get(s->config.world, at->name, out, room);
    case SETTING_COUNT:
    case SETTING_BYTES:
        snprintf(out, room, "%llu", (unsigned long long)number_of(s, at->id));
        return true;
    case SETTING_NS:
        snprintf(out, room, "%llu", (unsigned long long)(number_of(s, at->id) / MS_NS));
        return true;
    }
    return false;
}

static struct bytes lowered(struct bytes text, uint8_t *out, size_t room)
{
    const size_t len = text.len < room ? text.len : room;

    for (size_t i = 0; i < len; i++)
        out[i] = text.at[i] >= 'A' && text.at[i] <= 'Z' ? (uint8_t)(text.at[i] + 32)
                                                        : text.at[i];
    return (struct bytes){out, len};
}

static bool is_asked(const struct setting *at, const struct bytes *patterns, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint8_t lower[128];
        if (glob_match(lowered(patterns[i], lower, sizeof lower), bytes_of_str(at->name)))
            return true;
    }
    return false;
}

static void get(struct server *s, const struct bytes *patterns, uint32_t n_patterns,
                struct reply *r)
{
    struct buf text = buf_new(s->mem);
    struct reply found = {&text, r->version};
    uint32_t n = 0;

    for (uint32_t i = 0; i < SETTINGS; i++) {
        char value[VALUE_TEXT_MAX];
        if (!is_asked(&settings[i], patterns, n_patterns)) continue;
        if (!value_text(s, &settings[i], value, sizeof value)) continue;
        reply_bulk_str(&found, settings[i].name);
        reply_bulk_str(&found, value);
        n++;
    }
    reply_map(r, n);
    buf_put(r->out, text.at, text.len);
    buf_free(&text);
}

/* ---- SET ---- */

static const struct setting *setting_named(struct bytes name)
{
    for (uint32_t i = 0; i < SETTINGS; i++)
        if (bytes_equal_nocase(name, settings[i].name)) return &settings[i];
    return NULL;
}

static bool number_read(const struct setting *at, struct bytes value, uint64_t *out)
{
    int64_t plain;

    if (parse_i64(value, &plain)) {
        if (plain < 0) return false;
        *out = (uint64_t)plain;
    } else if (at->kind == SETTING_BYTES) {
        if (!parse_size(value, out)) return false;
    } else if (at->kind == SETTING_NS) {
        if (!parse_duration(value, out)) return false;
        *out /= MS_NS;
    } else {
        return false;
    }
    if (*out < at->least || *out > at->most) return false;
    if (at->kind == SETTING_NS) *out *= MS_NS;
    return true;
}

/* NULL, or why this value can't be taken. */
static const char *refusal(const struct server *s, const struct setting *at,
                           struct bytes value)
{
    char now[VALUE_TEXT_MAX];
    uint64_t v;

    /* Tools set what they expect anyway: the value that is in force is always taken. */
    if (value_text(s, at, now, sizeof now) && bytes_equal(value, bytes_of_str(now)))
        return NULL;
    if (!at->may_set) return "can't set immutable config";
    if (at->kind == SETTING_WORLD) return NULL;
    if (!number_read(at, value, &v))
        return "argument couldn't be parsed or is out of range";
    return NULL;
}

static void refuse(struct reply *r, const char *name, const char *why)
{
    reply_errorf(r, "ERR CONFIG SET failed (possibly related to argument '%s') - %s",
                 name, why);
}

/* All or none: every value is looked at before the first is set. */
static void set(struct server *s, const struct bytes *pairs, uint32_t n, struct reply *r)
{
    if (n % 2 != 0) {
        reply_errorf(r, outcome_row(OUTCOME_ARITY)->text, "config|set");
        return;
    }
    for (uint32_t i = 0; i < n; i += 2) {
        const struct setting *at = setting_named(pairs[i]);
        if (at == NULL) {
            reply_errorf(
                r, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                (int)(pairs[i].len < 128 ? pairs[i].len : 128),
                (const char *)pairs[i].at);
            return;
        }
        const char *why = refusal(s, at, pairs[i + 1]);
        if (why != NULL) {
            refuse(r, at->name, why);
            return;
        }
    }
    for (uint32_t i = 0; i < n; i += 2) {
        const struct setting *at = setting_named(pairs[i]);
        uint64_t v;
        if (!at->may_set) continue;
        if (at->kind != SETTING_WORLD) {
            if (number_read(at, pairs[i + 1], &v)) number_set(s, at->id, v);
        } else if (s->config.config_set == NULL ||
                   !s->config.config_set(s->config.world, at->name, pairs[i + 1])) {
            refuse(r, at->name, "argument must be one of its known values");
            return;
        }
    }
    reply_ok(r);
}

void admin_config(struct server *s, const struct command *command,
                  const struct bytes *args, uint32_t n_args, struct reply *r)
{
    if (command->id == COMMAND_CONFIG_GET) {
        get(s, args + 2, n_args - 2, r);
    } else if (command->id == COMMAND_CONFIG_SET) {
        set(s, args + 2, n_args - 2, r);
    } else {
        s->stats = (struct server_stats){0};
        s->counts = (struct shard_counts){0};
        reply_ok(r);
    }
}
