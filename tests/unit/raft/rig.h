/* SPDX-License-Identifier: Apache-2.0 */
/* rig - one core on a bench: events go in by hand, and what a turn gave lies in `out`. */
#pragma once

#include "unit.h"

#include "mem_test_alloc.h"
#include "raft/raft_state.h"

enum { RIG_MSGS_MAX = 64 };

struct rig {
    struct mem mem;
    struct raft *raft;
    struct instant now;
    struct raft_out out;
};

struct raft_settings rig_settings(void);   /* election 1 s, heartbeat 100 ms */
struct raft_config rig_voters(uint32_t n); /* 1 .. n */
void rig_open(struct rig *rig, uint32_t self, struct raft_settings settings,
              struct raft_start start);
void rig_open_voter(struct rig *rig, uint32_t self,
                    uint32_t voters); /* the usual, fresh */
void rig_close(struct rig *rig);

/* Each steps and ends the turn. */
void rig_step(struct rig *rig, struct raft_event event);
void rig_recv(struct rig *rig, struct raft_msg msg); /* `to` is filled in */
void rig_turn(struct rig *rig);
void rig_tick_after(struct rig *rig, uint64_t ns);
void rig_durable(struct rig *rig); /* all that was given out */
void rig_apply(struct rig *rig);   /* all that is committed */

const struct raft_msg *rig_sent(const struct rig *rig, enum raft_msg_kind kind,
                                uint32_t to);
uint32_t rig_count(const struct rig *rig, enum raft_msg_kind kind);
struct raft_info rig_info(const struct rig *rig);
struct raft_peer rig_peer(const struct rig *rig, uint32_t id);

/* Lets the timer run out and gives it every vote; its log is durable, nothing
 * acknowledged. */
void rig_elect(struct rig *rig);
/* The same, and its no-op is committed and applied. */
void rig_lead(struct rig *rig);
void rig_ack(struct rig *rig, uint32_t from, uint64_t match); /* of the newest round */
struct log_index rig_propose(struct rig *rig,
                             const char *text); /* without a turn's end */

/* An append of `n` entries of the given terms behind (prev, prev_term). */
void rig_append(struct rig *rig, uint32_t from, uint64_t term, uint64_t prev,
                uint64_t prev_term, const uint64_t *terms, uint32_t n, uint64_t commit);
#define TERMS(...) (const uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / 8
#define NO_ENTRIES NULL, 0
/* One entry behind (prev, prev_term): a membership. */
void rig_append_config(struct rig *rig, uint32_t from, uint64_t term, uint64_t prev,
                       uint64_t prev_term, const struct raft_config *config,
                       uint64_t commit);
/* The answer to an append behind `prev` by one whose log does not connect there. */
struct raft_msg rig_refusal(const struct rig *rig, uint32_t from, uint64_t prev,
                            uint64_t hint, uint64_t hint_term);
void rig_restore(struct rig *rig, const uint64_t *terms,
                 uint32_t n); /* right after open */
