/* SPDX-License-Identifier: Apache-2.0 */
#include "meta_world.h"

#include <stdio.h>

#include "mem_test_alloc.h"
#include "meta/record.h"

enum { ARGS_MAX = 32, STEPS_MAX = 5000 };

void meta_world_commit(struct meta_world *w)
{
    struct cursor c = cursor_of(buf_bytes(&w->effects));
    struct effect e;
    enum effect_result r;

    while ((r = effect_decode(&c, &e)) == EFFECT_OK)
        check(meta_apply(&w->meta, &e));
    check(r == EFFECT_END);
    buf_put(&w->log, w->effects.at, w->effects.len);
    w->effects.len = 0;
}

void meta_world_found(struct meta_world *w, const char *zone)
{
    *w = (struct meta_world){.mem = mem_for_test()};
    w->log = w->effects = w->text = buf_new(&w->mem);
    meta_init(&w->meta, &w->mem, META_FEATURE);

    struct meta_server founder = {.id = {1}};
    meta_text_set(&founder.name, BYTES_OF("n1"));
    meta_text_set(&founder.client, BYTES_OF("h1:6379"));
    meta_text_set(&founder.peer, BYTES_OF("h1:16379"));
    meta_text_set(&founder.zone, bytes_of_str(zone));
    meta_found(&(struct meta_change){&w->effects}, (struct cluster_id){77}, META_FEATURE,
               &founder);
    meta_world_commit(w);
}

void meta_world_free(struct meta_world *w)
{
    meta_free(&w->meta);
    buf_free(&w->log);
    buf_free(&w->effects);
    buf_free(&w->text);
    check(w->mem.used == 0);
}

struct server_id meta_world_join(struct meta_world *w, const char *zone)
{
    char name[32], client[32], peer[32];
    struct server_id id;
    const char *why;

    snprintf(name, sizeof name, "n%u", w->meta.cluster.next_server);
    snprintf(client, sizeof client, "h%u:6379", w->meta.cluster.next_server);
    snprintf(peer, sizeof peer, "h%u:16379", w->meta.cluster.next_server);
    const struct meta_joiner joiner = {bytes_of_str(name),
                                       bytes_of_str(client),
                                       bytes_of_str(peer),
                                       bytes_of_str(zone),
                                       {1}};
    check(meta_join(&w->meta, &joiner, &(struct meta_change){&w->effects}, &id, &why));
    meta_world_commit(w);
    return id;
}

const char *meta_world_command(struct meta_world *w, const char *line)
{
    struct bytes args[ARGS_MAX];
    uint32_t n_args = 0;

    while (*line != '\0') {
        const size_t len = strcspn(line, " ");
        check(n_args < ARGS_MAX);
        if (len > 0) args[n_args++] = (struct bytes){(const uint8_t *)line, len};
        line += len + (line[len] == ' ');
    }
    w->text.len = 0;
    const struct meta_judge judge = {meta_world_health, w};
    struct meta_change change = {&w->effects};
    struct reply reply = {&w->text, 2};
    if (bytes_equal(args[0], BYTES_OF("SERVER")))
        meta_server_command(&w->meta, &judge, args, n_args, &change, &reply);
    else
        meta_command(&w->meta, args, n_args, &change, &reply);
    check(w->text.len > 0);
    if (w->text.at[0] == '-') check(w->effects.len == 0);
    meta_world_commit(w);
    if (!w->unsettled) meta_world_settle(w);
    buf_put_u8(&w->text, 0);
    return (const char *)w->text.at;
}

static bool closed(void *ctx, const struct meta_keyspace *k, const struct meta_shard *s,
                   uint64_t *keys)
{
    const struct meta_world *w = ctx;

    check(s->keyspace == meta_closes(k));
    *keys = k->state == KEYSPACE_CREATING ? w->hidden : 0;
    return s->group.v != w->open.v;
}

uint32_t meta_world_settle(struct meta_world *w)
{
    const struct meta_judge judge = {meta_world_health, w};
    uint32_t steps = 0;

    while (meta_settle(&w->meta, &judge, closed, w, &(struct meta_change){&w->effects})) {
        meta_world_commit(w);
        check(++steps < STEPS_MAX);
    }
    check(w->effects.len == 0);
    return steps;
}

enum meta_health meta_world_health(void *ctx, struct server_id id)
{
    const struct meta_world *w = ctx;

    if (id.v >= 32) return HEALTH_ALIVE;
    if (w->lost & 1u << id.v) return HEALTH_LOST;
    return w->silent & 1u << id.v ? HEALTH_SILENT : HEALTH_ALIVE;
}

/* As if each leader got its membership to the target at once. */
void meta_world_arrive(struct meta_world *w)
{
    for (uint32_t i = 0; i < w->meta.n_shards; i++) {
        const struct meta_shard *s = w->meta.shards[i];
        (void)meta_arrived(&w->meta, s->group, s->version,
                           &(struct meta_change){&w->effects});
        meta_world_commit(w);
    }
}

uint32_t meta_world_plan(struct meta_world *w)
{
    uint32_t steps = 0;

    const struct meta_judge judge = {meta_world_health, w};

    meta_world_arrive(w);
    do {
        if (!meta_plan(&w->meta, &judge, &w->planner, &(struct meta_change){&w->effects}))
            continue; /* a part of the round that found nothing */
        meta_world_commit(w);
        meta_world_arrive(w);
        check(++steps < STEPS_MAX);
    } while (!w->planner.rests);
    check(w->effects.len == 0);
    return steps;
}

const char *meta_world_members(struct meta_world *w, uint32_t group)
{
    const struct meta_shard *s = meta_shard(&w->meta, (struct group_id){group});

    struct meta_target t;

    check(s != NULL);
    meta_target_of(&w->meta, s, &t);
    w->text.len = 0;
    for (uint32_t i = 0; i < t.n_voters; i++)
        buf_putf(&w->text, "%s%u", i > 0 ? " " : "", t.voters[i].v);
    for (uint32_t i = 0; i < t.n_learners; i++)
        buf_putf(&w->text, "%s%u", i > 0 ? " " : " | ", t.learners[i].v);
    buf_put_u8(&w->text, 0);
    return (const char *)w->text.at;
}
