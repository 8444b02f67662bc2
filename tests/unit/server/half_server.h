/* SPDX-License-Identifier: Apache-2.0 */
/* half_server - what client.c and answer.c call of the other files of src/server, played
 * by the test: commands are noted and answered as the test says, actions are kept in a
 * list, gates open when the test says so. */
#pragma once

#include "server/server_state.h"

enum { HALF_ACTIONS_MAX = 4096 };

struct half {
    struct mem mem;
    struct server s;
    struct slot slot;
    struct server_action actions[HALF_ACTIONS_MAX];
    uint32_t n_actions;
    /* Gates: what is committed, in which term. */
    struct term term;
    struct log_index applied;
    /* The last result that a request was given. */
    uint32_t n_results;
    struct request *result_of;
    enum outcome result;
    uint32_t n_commands;
    bool hold; /* the next command holds its client, and is answered by nobody */
    struct answer *held;
};

extern struct half *half; /* of the test that runs */

struct half *half_new(void);
void half_free(struct half *h);
/* A turn's end, and the world obeying: takes at most `most` bytes of each SEND; what was
 * taken is appended to `out`. */
bool half_turn(struct half *h, struct buf *out, size_t most);
struct client *half_client(struct half *h, uint64_t conn);
void half_data(struct half *h, uint64_t conn, struct bytes data);
uint32_t half_count(const struct half *h,
                    enum server_action_kind kind); /* of the last turn */
