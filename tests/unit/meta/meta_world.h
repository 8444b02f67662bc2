/* SPDX-License-Identifier: Apache-2.0 */
/* meta_world - a view that obeys the effects written for it, as a server's would. */
#pragma once

#include "meta/meta.h"

struct meta_world {
    struct mem mem;
    struct buf log;     /* the effects of all changes, in order */
    struct buf effects; /* of the change at hand */
    struct buf text;    /* of the last reply */
    struct meta meta;
    struct meta_planner planner;
    bool unsettled;       /* keyspaces that are begun stay so until meta_world_settle() */
    uint64_t hidden;      /* keys that each shard of default says it has, of any name */
    struct group_id open; /* this one does not say that it is closed; 0: all do */
    uint32_t silent, lost; /* bit per server id: not heard of lately, for long */
};

void meta_world_found(struct meta_world *w, const char *zone);
void meta_world_free(struct meta_world *w);
/* Applies what was written to `effects`. */
void meta_world_commit(struct meta_world *w);
struct server_id meta_world_join(struct meta_world *w, const char *zone);
/* A command as one would type it; its reply, applied when it is no error, and settled. */
const char *meta_world_command(struct meta_world *w, const char *line);
/* meta_settle() until it rests; how many steps that took. */
uint32_t meta_world_settle(struct meta_world *w);
enum meta_health meta_world_health(void *ctx, struct server_id id);
void meta_world_arrive(struct meta_world *w);
/* meta_plan() until it rests, each target reached at once; how many steps that took. */
uint32_t meta_world_plan(struct meta_world *w);
/* "1 2 3 | 4": voters and learners of a group. */
const char *meta_world_members(struct meta_world *w, uint32_t group);
