/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: each names the story it is told in. */
#pragma once

#include "shard/shard_state.h"

/* close.c */
void close_rebuild(struct shard *s);                      /* the state was replaced */
void close_note(struct shard *s, const struct effect *e); /* staged or applied */
bool close_is_sound(const struct shard *s);               /* S5 */
bool close_refuses(struct shard *s, const struct shard_request *q);

/* checkpoint.c */
void checkpoint_turn(struct shard *s, struct shard_out *out);
void checkpoint_done(struct shard *s, int error);

/* transfer.c: snapshots to and from other replicas */
void transfer_wanted(struct shard *s, struct server_id to);
void transfer_ready(struct shard *s); /* a checkpoint has been made */
void transfer_reply(struct shard *s, const struct raft_msg *m);
void transfer_peer_lost(struct shard *s, struct server_id peer);
void transfer_turn(struct shard *s); /* pieces that may leave, as messages */
void transfer_receive(struct shard *s, const struct raft_msg *m);
void transfer_install_turn(struct shard *s, struct shard_out *out);
void transfer_install_done(struct shard *s, int error);
/* The log brought more than what applies before the snapshot that was arriving: without it. */
void transfer_overtaken(struct shard *s, struct log_index commit);
void transfer_end_all(struct shard *s);
struct instant transfer_wake(const struct shard *s);

/* evaluate.c: one more effect of the request that is being evaluated */
void shard_emit(struct shard *s, const struct effect *e);

/* once.c: requests with an id */
/* If it was carried out before, its answer is written again, or an error that says why not. */
bool once_again(struct shard *s, const struct shard_request *q, struct reply *reply);
bool once_room(const struct shard *s);
void once_record(struct shard *s, const struct shard_request *q, uint8_t resp,
                 struct bytes answer);
void once_age(struct shard *s, struct instant now);
void once_sweep(struct shard *s);

/* shard.c */
void shard_say(struct shard *s,
               const struct raft_msg *m); /* one more message of this turn */
