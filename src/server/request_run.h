/* SPDX-License-Identifier: Apache-2.0 */
/* request_run - a prepared request, decoded and evaluated at the shard that leads here.
 * Internal to src/server: request.c decides what is evaluated, and where. */
#pragma once

#include "server/server_state.h"

struct decoded { /* the commands of a request, for struct shard_request */
    const struct command **commands;
    const struct bytes **args;
    uint32_t *n_args;
    struct bytes *flat;
    struct shard_watch *watches;
    uint32_t n_flat, n, n_watches;
};

/* False: a command that this build does not know, or its arguments make no sense: a peer of
 * another version, since every server checks before it forwards.  To be freed either way. */
bool decode(struct server *s, struct forward f, struct decoded *d);
void decoded_free(struct server *s, struct decoded *d);
/* The group that all keys of it lie in by the view of now; it stays as it was where the view
 * has none.  False: they lie apart. */
bool keys_group(const struct server *s, const struct decoded *d, struct group_id *group);
/* NULL: the view has no such group, or it is the meta shard. */
const struct policy *policy_of_group(const struct server *s, struct group_id group);
/* Whether memory has room for the large ones among these. */
bool request_has_room(const struct server *s, const struct bytes *args, uint32_t n_args);
struct shard_request shard_request_of(const struct server *s, const struct decoded *d,
                                      const struct request *r);

/* Each writes the reply into `a` and the gate, or refuses and leaves both alone. */
enum shard_refusal run_commands(struct server *s, struct slot *slot, struct request *r,
                                struct forward f, struct shard_position position,
                                struct answer *a, struct shard_gate *gate);
enum shard_refusal run_watch(struct server *s, struct slot *slot, struct forward f,
                             struct shard_position position, struct answer *a,
                             struct shard_gate *gate);
enum shard_refusal run_meta(struct server *s, struct slot *slot, struct request *r,
                            struct forward f, struct answer *a, struct shard_gate *gate);
