/* SPDX-License-Identifier: Apache-2.0 */
#include "server/request_run.h"

static_assert((int)FORWARD_ONCE_MAX == (int)SHARD_ONCE_MAX, "an id travels whole");

void decoded_free(struct server *s, struct decoded *d)
{
    mem_free(s->mem, d->commands, d->n * sizeof *d->commands);
    mem_free(s->mem, d->args, d->n * sizeof *d->args);
    mem_free(s->mem, d->n_args, d->n * sizeof *d->n_args);
    mem_free(s->mem, d->flat, d->n_flat * sizeof *d->flat);
    mem_free(s->mem, d->watches, d->n_watches * sizeof *d->watches);
}

bool decode(struct server *s, struct forward f, struct decoded *d)
{
    *d = (struct decoded){.n = f.n_commands, .n_watches = f.n_watches};
    struct forward count = f;
    struct forward_watch w;
    for (uint32_t i = 0; i < f.n_watches; i++)
        forward_next_watch(&count, &w);
    struct bytes one[64];
    for (uint32_t i = 0; i < f.n_commands; i++) {
        const uint32_t n = forward_peek_args(&count);
        d->n_flat += n;
        struct bytes *at = n <= 64 ? one : mem_alloc(s->mem, n * sizeof *at);
        forward_next_command(&count, at);
        if (at != one) mem_free(s->mem, at, n * sizeof *at);
    }
    d->commands = mem_zero(s->mem, d->n * sizeof *d->commands);
    d->args = mem_zero(s->mem, d->n * sizeof *d->args);
    d->n_args = mem_zero(s->mem, d->n * sizeof *d->n_args);
    d->flat = mem_zero(s->mem, d->n_flat * sizeof *d->flat);
    d->watches = mem_zero(s->mem, d->n_watches * sizeof *d->watches);

    for (uint32_t i = 0; i < d->n_watches; i++) {
        forward_next_watch(&f, &w);
        d->watches[i] = (struct shard_watch){w.key, w.change};
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        d->n_args[i] = forward_peek_args(&f);
        d->args[i] = d->flat + used;
        forward_next_command(&f, d->flat + used);
        used += d->n_args[i];
        const struct command *container;
        if (d->n_args[i] == 0) return false;
        d->commands[i] = command_find(d->args[i], d->n_args[i], &container);
        if (d->commands[i] == NULL || !command_arity_ok(d->commands[i], d->n_args[i]) ||
            !(d->commands[i]->flags & (CF_SHARD | CF_FANOUT)))
            return false;
    }
    return true;
}

static bool key_is_of(const struct server *s, struct group_id group, struct bytes key)
{
    const struct meta_shard *shard = meta_route(&s->meta, key);
    return shard != NULL && shard->group.v == group.v;
}

/* Whoever sent this may not know yet that a keyspace was made or dropped: a key is served by
 * the shard that the newest map known here names, and by no other. */
static bool belongs_here(struct server *s, struct group_id group, const struct decoded *d)
{
    for (uint32_t i = 0; i < d->n_watches; i++)
        if (!key_is_of(s, group, d->watches[i].key)) return false;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t at[64];
        const uint32_t n = command_keys(d->commands[i], d->n_args[i], at, 64);
        uint32_t *all = n <= 64 ? at : mem_alloc(s->mem, n * sizeof *all);
        if (n > 64) command_keys(d->commands[i], d->n_args[i], all, n);
        bool here = true;
        for (uint32_t k = 0; k < n && here; k++)
            here = key_is_of(s, group, d->args[i][all[k]]);
        if (all != at) mem_free(s->mem, all, n * sizeof *all);
        if (!here) return false;
    }
    return true;
}

/* Of one key more; false: it lies apart from those before. */
static bool key_joins(const struct server *s, struct bytes key, bool *any,
                      struct group_id *group)
{
    const struct meta_shard *shard = meta_route(&s->meta, key);
    if (shard == NULL) return true;
    if (*any && shard->group.v != group->v) return false;
    *any = true;
    *group = shard->group;
    return true;
}

bool keys_group(const struct server *s, const struct decoded *d, struct group_id *group)
{
    bool any = false, together = true;
    for (uint32_t i = 0; i < d->n_watches && together; i++)
        together = key_joins(s, d->watches[i].key, &any, group);
    for (uint32_t i = 0; i < d->n && together; i++) {
        uint32_t at[64];
        const uint32_t n = command_keys(d->commands[i], d->n_args[i], at, 64);
        uint32_t *all = n <= 64 ? at : mem_alloc(s->mem, n * sizeof *all);
        if (n > 64) command_keys(d->commands[i], d->n_args[i], all, n);
        for (uint32_t k = 0; k < n && together; k++)
            together = key_joins(s, d->args[i][all[k]], &any, group);
        if (all != at) mem_free(s->mem, all, n * sizeof *all);
    }
    return together;
}

const struct policy *policy_of_group(const struct server *s, struct group_id group)
{
    const struct meta_shard *shard = meta_shard(&s->meta, group);
    const struct meta_keyspace *k = shard == NULL
                                        ? NULL
                                        : meta_keyspace(&s->meta, shard->keyspace);
    return k == NULL ? NULL : &k->policy;
}

static enum policy_read read_at_leader(const struct server *s, struct group_id group)
{
    const struct policy *policy = policy_of_group(s, group);
    return policy == NULL ? READ_LINEARIZABLE : policy_read_at_leader(policy);
}

bool request_has_room(const struct server *s, const struct bytes *args, uint32_t n_args)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; s->lent == NULL && i < n_args; i++)
        if (args[i].len >= BLOCK_BYTES_MIN) bytes += args[i].len;
    return mem_room(s->mem, bytes);
}

struct shard_request shard_request_of(const struct server *s, const struct decoded *d,
                                      const struct request *r)
{
    return (struct shard_request){
        .commands = d->commands,
        .args = d->args,
        .n_args = d->n_args,
        .n_commands = d->n,
        .watches = d->watches,
        .n_watches = d->n_watches,
        .now = s->wall,
        .at = s->now,
        .exec = r->kind == FORWARD_EXEC,
        .lent = s->lent,
        .lent_at = s->lent_at,
        .memory_full = !request_has_room(s, d->flat, d->n_flat),
        .log_full = s->wal_full,
        .log_behind = !wal_room(s->wal),
        .read = read_at_leader(s, r->group),
    };
}

enum shard_refusal run_commands(struct server *s, struct slot *slot, struct request *r,
                                struct forward f, struct shard_position position,
                                struct answer *a, struct shard_gate *gate)
{
    struct decoded d;
    enum shard_refusal refusal = SHARD_TAKEN;
    struct reply reply = {&a->bytes, r->resp};
    if (decode(s, f, &d)) {
        struct shard_request q = shard_request_of(s, &d, r);
        if (r->origin == FROM_CLIENT || r->origin == FROM_PEER) q.far = &a->far;
        q.once = f.once;
        q.position = position;
        refusal = belongs_here(s, r->group, &d) ? shard_run(slot->shard, &q, &reply, gate)
                                                : SHARD_CLOSED;
    } else {
        *gate = (struct shard_gate){0};
        reply_error(&reply,
                    "ERR this server does not know that command; the servers' versions "
                    "differ");
    }
    decoded_free(s, &d);
    return refusal;
}

enum shard_refusal run_watch(struct server *s, struct slot *slot, struct forward f,
                             struct shard_position position, struct answer *a,
                             struct shard_gate *gate)
{
    const uint32_t n = f.n_watches;
    enum shard_refusal refusal = SHARD_TAKEN;
    struct shard_watch *watches = mem_zero(s->mem, n * sizeof *watches);
    struct log_index *changes = mem_zero(s->mem, n * sizeof *changes);
    for (uint32_t i = 0; i < n; i++) {
        struct forward_watch w;
        forward_next_watch(&f, &w);
        watches[i].key = w.key;
        if (!key_is_of(s, slot->group, w.key)) refusal = SHARD_CLOSED;
    }
    const struct shard_request q = {
        .watches = watches, .n_watches = n, .position = position, .now = s->wall};
    if (refusal == SHARD_TAKEN) refusal = shard_watch(slot->shard, &q, changes, gate);
    for (uint32_t i = 0; refusal == SHARD_TAKEN && i < n; i++)
        buf_put_u64(&a->bytes, changes[i].v);
    mem_free(s->mem, watches, n * sizeof *watches);
    mem_free(s->mem, changes, n * sizeof *changes);
    return refusal;
}

/* One change of the meta shard at a time: each is evaluated against what is committed. */
enum shard_refusal run_meta(struct server *s, struct slot *slot, struct request *r,
                            struct forward f, struct answer *a, struct shard_gate *gate)
{
    if (!shard_leads(slot->shard)) {
        const struct shard_request none = {.n_commands = 0};
        struct reply unused = {&a->bytes, 2};
        return shard_run(slot->shard, &none, &unused, gate);
    }
    if (store_has_staged(shard_store(slot->shard)) || !s->meta.founded) return SHARD_BUSY;
    if (f.n_commands != 1) return SHARD_NOT_LEADER;

    const uint32_t n = forward_peek_args(&f);
    struct bytes *args = mem_zero(s->mem, n * sizeof *args);
    forward_next_command(&f, args);
    struct buf effects = buf_new(s->mem);
    struct reply reply = {&a->bytes, r->resp};
    struct meta_change change = {&effects};
    reconcile_evaluate(s, args, n, &change, &reply);
    enum shard_refusal refusal = SHARD_TAKEN;
    *gate = (struct shard_gate){0};
    if (effects.len > 0)
        refusal = shard_propose_effects(slot->shard, buf_bytes(&effects), gate);
    if (refusal != SHARD_TAKEN) a->bytes.len = 0;
    buf_free(&effects);
    mem_free(s->mem, args, n * sizeof *args);
    return refusal;
}
