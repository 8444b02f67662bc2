/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/policy.h"

#include "base/text.h"

enum { OPTION_TEXT_MAX = 64 }; /* of what a client sent, as far as errors repeat it */

enum option {
    OPTION_MODE,
    OPTION_REPLICAS,
    OPTION_LEARNERS,
    OPTION_SHARDS,
    OPTION_ACK,
    OPTION_DURABILITY,
    OPTION_FAILOVER,
    OPTION_READ,
    OPTION_MAXLAG,
    OPTION_CONFLICT,
    OPTION_STRICT,
    OPTION_MAXMEMORY,
    OPTION_EVICT,
    OPTION_SCRIPT,
    OPTION_END,
};

#define IN(mode) (1u << MODE_##mode)
static const struct option_row {
    const char *name;
    uint8_t modes;
    const char *modes_text;
} options[OPTION_END] = {
    [OPTION_MODE] = {"MODE", UINT8_MAX, ""},
    [OPTION_REPLICAS] = {"REPLICAS", UINT8_MAX, ""},
    [OPTION_LEARNERS] = {"LEARNERS", IN(PRIMARY) | IN(RAFT), "MODE primary or raft"},
    [OPTION_SHARDS] = {"SHARDS", UINT8_MAX, ""},
    [OPTION_ACK] = {"ACK", IN(PRIMARY), "MODE primary; raft always waits for a majority"},
    [OPTION_DURABILITY] = {"DURABILITY", IN(PRIMARY) | IN(MULTI),
                           "MODE primary or multi; raft is always fsync"},
    [OPTION_FAILOVER] = {"FAILOVER", IN(PRIMARY), "MODE primary; raft always elects"},
    [OPTION_READ] = {"READ", IN(PRIMARY) | IN(RAFT), "MODE primary or raft"},
    [OPTION_MAXLAG] = {"MAXLAG", IN(PRIMARY) | IN(RAFT), "MODE primary or raft"},
    [OPTION_CONFLICT] = {"CONFLICT", IN(MULTI), "MODE multi"},
    [OPTION_STRICT] = {"STRICT", IN(MULTI), "MODE multi"},
    [OPTION_MAXMEMORY] = {"MAXMEMORY", UINT8_MAX, ""},
    [OPTION_EVICT] = {"EVICT", UINT8_MAX, ""},
    [OPTION_SCRIPT] = {"SCRIPT", IN(MULTI), "MODE multi"},
};
#undef IN

/* Names in the order of their enums, from 1. */
static const char *const mode_names[] = {NULL, "primary", "raft", "paxos", "multi"};
static const char *const read_names[] = {NULL, "linearizable", "lease", "leader", "any"};
static const char *const durability_names[] = {NULL, "fsync", "memory"};
static const char *const failover_names[] = {NULL, "auto", "manual"};
static_assert(sizeof mode_names / sizeof *mode_names == MODE_END, "a name per mode");
static_assert(sizeof read_names / sizeof *read_names == READ_END, "a name per read");
static_assert(sizeof durability_names / sizeof *durability_names == DURABILITY_END, "");
static_assert(sizeof failover_names / sizeof *failover_names == FAILOVER_END, "");

const char *policy_mode_name(enum policy_mode mode)
{
    check(mode >= MODE_PRIMARY && mode < MODE_END);
    return mode_names[mode];
}

const char *policy_read_name(enum policy_read read)
{
    check(read >= READ_LINEARIZABLE && read < READ_END);
    return read_names[read];
}

const char *policy_durability_name(enum policy_durability durability)
{
    check(durability >= DURABILITY_FSYNC && durability < DURABILITY_END);
    return durability_names[durability];
}

const char *policy_failover_name(enum policy_failover failover)
{
    check(failover >= FAILOVER_AUTO && failover < FAILOVER_END);
    return failover_names[failover];
}

struct policy policy_default(enum policy_mode mode)
{
    check(mode >= MODE_PRIMARY && mode < MODE_END);

    const bool at_any_replica = mode == MODE_PRIMARY || mode == MODE_MULTI;
    return (struct policy){
        .mode = mode,
        .read = at_any_replica ? READ_ANY : READ_LINEARIZABLE,
        .durability = DURABILITY_FSYNC,
        .failover = FAILOVER_AUTO,
        .ack = ACK_ASYNC,
        .replicas = 3,
        .shards = 1,
    };
}

/* A leader that was paused or cut off has a state as old as that, and does not know.  Who bounds
 * the age of what a replica answers bounds that of the leader's answers too. */
enum policy_read policy_read_at_leader(const struct policy *p)
{
    return p->read == READ_ANY && p->maxlag_ms > 0 ? READ_LEASE : p->read;
}

/* ---- reading ---- */

static int shown(struct bytes b)
{
    return (int)(b.len < OPTION_TEXT_MAX ? b.len : OPTION_TEXT_MAX);
}

/* 0: none of the names. */
static uint8_t name_index(const char *const *names, uint8_t n_names, struct bytes value)
{
    for (uint8_t i = 1; i < n_names; i++)
        if (bytes_equal_nocase(value, names[i])) return i;
    return 0;
}

static bool take_name(enum option o, const char *const *names, uint8_t n_names,
                      struct bytes value, uint8_t *out, struct buf *why)
{
    const uint8_t i = name_index(names, n_names, value);

    if (i != 0) {
        *out = i;
        return true;
    }
    buf_putf(why, "BADPOLICY %s '%.*s' is not known; it is", options[o].name,
             shown(value), (const char *)value.at);
    for (uint8_t k = 1; k < n_names; k++)
        buf_putf(why, "%s %s", k == 1 ? "" : k + 1 == n_names ? " or" : ",", names[k]);
    return false;
}

static bool take_number(enum option o, int64_t least, int64_t most, struct bytes value,
                        int64_t *out, struct buf *why)
{
    int64_t v;

    if (parse_i64(value, &v) && v >= least && v <= most) {
        *out = v;
        return true;
    }
    buf_putf(why, "BADPOLICY %s '%.*s' is not a number from %lld to %lld",
             options[o].name, shown(value), (const char *)value.at, (long long)least,
             (long long)most);
    return false;
}

static bool take_ack(struct policy *p, struct bytes value, struct buf *why)
{
    int64_t v;

    if (bytes_equal_nocase(value, "async")) {
        p->ack = ACK_ASYNC;
    } else if (bytes_equal_nocase(value, "all")) {
        p->ack = ACK_ALL;
    } else if (parse_i64(value, &v) && v >= 1 && v < POLICY_REPLICAS_MAX) {
        p->ack = (uint8_t)v;
    } else {
        buf_putf(why, "BADPOLICY ACK '%.*s' is not async, all or a number from 1 to %d",
                 shown(value), (const char *)value.at, POLICY_REPLICAS_MAX - 1);
        return false;
    }
    return true;
}

static bool take_evict(struct bytes value, struct buf *why)
{
    if (bytes_equal_nocase(value, "none")) return true;
    if (bytes_equal_nocase(value, "lru"))
        buf_putf(why, "BADPOLICY EVICT lru is not available in this version; use none");
    else
        buf_putf(why, "BADPOLICY EVICT '%.*s' is not known; it is none or lru",
                 shown(value), (const char *)value.at);
    return false;
}

static bool take_maxmemory(struct policy *p, struct bytes value, struct buf *why)
{
    if (parse_size(value, &p->maxmemory_bytes)) return true;
    buf_putf(why, "BADPOLICY MAXMEMORY '%.*s' is not a size such as 0, 64mb or 2gb",
             shown(value), (const char *)value.at);
    return false;
}

/* MODE is read before all others: it says where the others start from. */
static bool take_option(struct policy *p, enum option o, struct bytes value,
                        struct buf *why)
{
    int64_t n = 0;
    uint8_t name = 0;

    switch (o) {
    case OPTION_REPLICAS:
        if (!take_number(o, 1, POLICY_REPLICAS_MAX, value, &n, why)) return false;
        p->replicas = (uint8_t)n;
        return true;
    case OPTION_LEARNERS:
        if (!take_number(o, 0, POLICY_LEARNERS_MAX, value, &n, why)) return false;
        p->learners = (uint8_t)n;
        return true;
    case OPTION_SHARDS:
        if (!take_number(o, 1, POLICY_SHARDS_MAX, value, &n, why)) return false;
        p->shards = (uint16_t)n;
        return true;
    case OPTION_MAXLAG:
        if (!take_number(o, 0, POLICY_MAXLAG_MAX, value, &n, why)) return false;
        p->maxlag_ms = (uint64_t)n;
        return true;
    case OPTION_DURABILITY:
        if (!take_name(o, durability_names, DURABILITY_END, value, &name, why))
            return false;
        p->durability = (enum policy_durability)name;
        return true;
    case OPTION_FAILOVER:
        if (!take_name(o, failover_names, FAILOVER_END, value, &name, why)) return false;
        p->failover = (enum policy_failover)name;
        return true;
    case OPTION_READ:
        if (!take_name(o, read_names, READ_END, value, &name, why)) return false;
        p->read = (enum policy_read)name;
        return true;
    case OPTION_ACK: return take_ack(p, value, why);
    case OPTION_MAXMEMORY: return take_maxmemory(p, value, why);
    case OPTION_EVICT: return take_evict(value, why);
    case OPTION_MODE: return true;
    case OPTION_CONFLICT: /* they belong to a mode that was refused before */
    case OPTION_STRICT:
    case OPTION_SCRIPT:
    case OPTION_END: break;
    }
    check(false);
    return false;
}

static bool take_mode(struct policy *p, bool create, struct bytes value, struct buf *why)
{
    uint8_t name = 0;

    if (!take_name(OPTION_MODE, mode_names, MODE_END, value, &name, why)) return false;

    const enum policy_mode mode = (enum policy_mode)name;
    if (mode == MODE_PAXOS || mode == MODE_MULTI) {
        buf_putf(why, "BADPOLICY MODE %s is not available in this version; use raft",
                 mode_names[mode]);
        return false;
    }
    if (!create && mode == p->mode) return true;

    /* What both modes know stays as it was; the rest starts from the new mode's own. */
    const struct policy old = *p;
    *p = policy_default(mode);
    if (create) return true;
    p->replicas = old.replicas;
    p->learners = old.learners;
    p->shards = old.shards;
    p->maxmemory_bytes = old.maxmemory_bytes;
    return true;
}

static enum option option_named(struct bytes name)
{
    for (enum option o = OPTION_MODE; o < OPTION_END; o++)
        if (bytes_equal_nocase(name, options[o].name)) return o;
    return OPTION_END;
}

/* Puts each value at its option's place; a value with no run of bytes was not given. */
static bool sort_out(const struct bytes *args, uint32_t n_args,
                     struct bytes values[OPTION_END], uint32_t *given, struct buf *why)
{
    for (uint32_t i = 0; i < n_args; i += 2) {
        const enum option o = option_named(args[i]);

        if (o == OPTION_END) {
            buf_putf(why, "BADPOLICY the option '%.*s' is not known", shown(args[i]),
                     (const char *)args[i].at);
            return false;
        }
        if (i + 1 == n_args) {
            buf_putf(why, "BADPOLICY %s lacks its value", options[o].name);
            return false;
        }
        if (*given & 1u << o) {
            buf_putf(why, "BADPOLICY %s is given twice", options[o].name);
            return false;
        }
        *given |= 1u << o;
        values[o] = args[i + 1];
    }
    return true;
}

/* Options that are right each for itself may still not fit each other. */
static bool fit_together(const struct policy *p, struct buf *why)
{
    if (p->mode == MODE_PRIMARY && p->read == READ_LINEARIZABLE) {
        buf_putf(why, "BADPOLICY READ linearizable belongs to MODE raft");
        return false;
    }
    if (p->maxlag_ms > 0 && p->read != READ_ANY) {
        buf_putf(why,
                 "BADPOLICY MAXLAG bounds READ any, and READ is %s; "
                 "give READ any or MAXLAG 0",
                 read_names[p->read]);
        return false;
    }
    if (p->ack != ACK_ALL && p->ack >= p->replicas) {
        buf_putf(why, "BADPOLICY ACK %u needs REPLICAS %u, and REPLICAS is %u", p->ack,
                 p->ack + 1u, p->replicas);
        return false;
    }
    return true;
}

static bool allowed_here(const struct policy *p, bool create, uint32_t given,
                         struct buf *why)
{
    if (!create && given & 1u << OPTION_SHARDS) {
        buf_putf(why, "BADPOLICY SHARDS is set by CREATE and can't be altered");
        return false;
    }
    for (enum option o = OPTION_MODE; o < OPTION_END; o++) {
        if (!(given & 1u << o) || options[o].modes & 1u << p->mode) continue;
        buf_putf(why, "BADPOLICY %s belongs to %s", options[o].name,
                 options[o].modes_text);
        return false;
    }
    return true;
}

bool policy_parse(struct policy *p, bool create, const struct bytes *args,
                  uint32_t n_args, struct buf *why)
{
    struct bytes values[OPTION_END] = {{NULL, 0}};
    struct policy next = *p;
    uint32_t given = 0;

    if (!sort_out(args, n_args, values, &given, why)) return false;
    if (create && !(given & 1u << OPTION_MODE)) {
        buf_putf(why, "BADPOLICY MODE is missing; give MODE raft");
        return false;
    }
    if (given == 0) {
        buf_putf(why, "BADPOLICY no option is given, so there is nothing to alter");
        return false;
    }
    if (given & 1u << OPTION_MODE)
        if (!take_mode(&next, create, values[OPTION_MODE], why)) return false;
    if (!allowed_here(&next, create, given, why)) return false;
    for (enum option o = OPTION_MODE; o < OPTION_END; o++)
        if (given & 1u << o && !take_option(&next, o, values[o], why)) return false;
    if (!fit_together(&next, why)) return false;

    *p = next;
    return true;
}

/* ---- writing ---- */

static void print_primary(struct buf *out, const struct policy *p)
{
    if (p->ack == ACK_ASYNC)
        buf_putf(out, " ACK async");
    else if (p->ack == ACK_ALL)
        buf_putf(out, " ACK all");
    else
        buf_putf(out, " ACK %u", p->ack);
    buf_putf(out, " DURABILITY %s FAILOVER %s", durability_names[p->durability],
             failover_names[p->failover]);
}

void policy_print(struct buf *out, const struct policy *p)
{
    const bool ordered = p->mode == MODE_PRIMARY || p->mode == MODE_RAFT;

    buf_putf(out, "MODE %s REPLICAS %u", policy_mode_name(p->mode), p->replicas);
    if (ordered) buf_putf(out, " LEARNERS %u", p->learners);
    buf_putf(out, " SHARDS %u", p->shards);
    if (p->mode == MODE_PRIMARY) print_primary(out, p);
    if (p->mode == MODE_MULTI)
        buf_putf(out, " DURABILITY %s", durability_names[p->durability]);
    if (ordered)
        buf_putf(out, " READ %s MAXLAG %llu", policy_read_name(p->read),
                 (unsigned long long)p->maxlag_ms);
    buf_putf(out, " MAXMEMORY %llu", (unsigned long long)p->maxmemory_bytes);
}

static bool in_range(const struct policy *p)
{
    return p->mode >= MODE_PRIMARY && p->mode < MODE_END &&
           p->read >= READ_LINEARIZABLE && p->read < READ_END &&
           p->durability >= DURABILITY_FSYNC && p->durability < DURABILITY_END &&
           p->failover >= FAILOVER_AUTO && p->failover < FAILOVER_END &&
           (p->ack == ACK_ALL || p->ack < POLICY_REPLICAS_MAX) && p->replicas > 0 &&
           p->replicas <= POLICY_REPLICAS_MAX && p->learners <= POLICY_LEARNERS_MAX &&
           p->shards > 0 && p->shards <= POLICY_SHARDS_MAX;
}

void policy_encode(struct buf *out, const struct policy *p)
{
    check(in_range(p));

    buf_put_u8(out, (uint8_t)p->mode);
    buf_put_u8(out, (uint8_t)p->read);
    buf_put_u8(out, (uint8_t)p->durability);
    buf_put_u8(out, (uint8_t)p->failover);
    buf_put_u8(out, p->ack);
    buf_put_u8(out, p->replicas);
    buf_put_u8(out, p->learners);
    buf_put_u16(out, p->shards);
    buf_put_u64(out, p->maxlag_ms);
    buf_put_u64(out, p->maxmemory_bytes);
}

bool policy_decode(struct cursor *in, struct policy *out)
{
    struct cursor c = *in;
    uint8_t mode, read, durability, failover;
    struct policy p = {0};

    if (!get_u8(&c, &mode) || !get_u8(&c, &read)) return false;
    if (!get_u8(&c, &durability) || !get_u8(&c, &failover)) return false;
    if (!get_u8(&c, &p.ack) || !get_u8(&c, &p.replicas)) return false;
    if (!get_u8(&c, &p.learners) || !get_u16(&c, &p.shards)) return false;
    if (!get_u64(&c, &p.maxlag_ms) || !get_u64(&c, &p.maxmemory_bytes)) return false;

    p.mode = (enum policy_mode)mode;
    p.read = (enum policy_read)read;
    p.durability = (enum policy_durability)durability;
    p.failover = (enum policy_failover)failover;
    if (!in_range(&p)) return false;
    *out = p;
    *in = c;
    return true;
}
