/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <string.h>

struct raft_settings rig_settings(void)
{
    return (struct raft_settings){
        .election_ns = SEC_NS,
        .heartbeat_ns = 100 * MS_NS,
        .drift_ns = 50 * MS_NS,
        .append_entries_max = 64,
        .append_bytes_max = 1 << 20,
        .inflight_max = 8,
        .inflight_bytes_max = 1 << 20,
        .uncommitted_bytes_max = 1 << 20,
        .log_bytes_max = 1 << 20,
        .seed = 1,
    };
}

struct raft_config rig_voters(uint32_t n)
{
    struct raft_config c = {0};

    for (uint32_t i = 1; i <= n; i++)
        c.voters[c.n_voters++].v = i;
    return c;
}

void rig_open(struct rig *rig, uint32_t self, struct raft_settings settings,
              struct raft_start start)
{
    *rig = (struct rig){.mem = mem_for_test(), .now = {SEC_NS}};
    settings.self.v = self;
    settings.mem = &rig->mem;
    start.now = rig->now;
    rig->raft = raft_new(&settings, &start);
}

void rig_open_voter(struct rig *rig, uint32_t self, uint32_t voters)
{
    rig_open(rig, self, rig_settings(),
             (struct raft_start){.config = rig_voters(voters)});
    rig_turn(rig);
}

void rig_close(struct rig *rig)
{
    raft_free(rig->raft);
    assert_int_equal(rig->mem.used, 0);
}

void rig_turn(struct rig *rig)
{
    raft_turn_end(rig->raft, rig->now, &rig->out);
    raft_verify(rig->raft);
}

void rig_step(struct rig *rig, struct raft_event event)
{
    event.now = rig->now;
    raft_step(rig->raft, &event);
    rig_turn(rig);
}

void rig_recv(struct rig *rig, struct raft_msg msg)
{
    msg.to = rig->raft->settings.self;
    rig_step(rig, (struct raft_event){.kind = RAFT_RECV, .msg = &msg});
}

void rig_tick_after(struct rig *rig, uint64_t ns)
{
    rig->now.ns += ns;
    rig_step(rig, (struct raft_event){.kind = RAFT_TICK});
}

void rig_durable(struct rig *rig)
{
    rig_step(rig, (struct raft_event){.kind = RAFT_DURABLE, .mark = rig->raft->mark});
}

void rig_apply(struct rig *rig)
{
    rig_step(rig, (struct raft_event){.kind = RAFT_APPLIED, .index = rig->out.commit});
}

const struct raft_msg *rig_sent(const struct rig *rig, enum raft_msg_kind kind,
                                uint32_t to)
{
    const struct raft_msg *found = NULL;

    for (uint32_t i = 0; i < rig->out.n_msgs; i++)
        if (rig->out.msgs[i].kind == kind && (to == 0 || rig->out.msgs[i].to.v == to))
            found = &rig->out.msgs[i];
    return found;
}

uint32_t rig_count(const struct rig *rig, enum raft_msg_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < rig->out.n_msgs; i++)
        count += rig->out.msgs[i].kind == kind;
    return count;
}

struct raft_info rig_info(const struct rig *rig)
{
    struct raft_info info;

    raft_info(rig->raft, &info);
    return info;
}

struct raft_peer rig_peer(const struct rig *rig, uint32_t id)
{
    struct raft_peer peer;

    if (raft_peer_of(rig->raft, (struct server_id){id}, &peer)) return peer;
    return (struct raft_peer){0};
}

static void grant(struct rig *rig, enum raft_msg_kind kind, struct term term)
{
    const struct raft_members *c = raft_member_config(rig->raft);
    const enum raft_role role = rig->raft->role;

    for (uint32_t id = 1; id <= 16 && rig->raft->role == role; id++) {
        if (!raft_members_has_voter(c, (struct server_id){id})) continue;
        if (id == rig->raft->settings.self.v) continue;
        rig_recv(rig, (struct raft_msg){.kind = kind, .from = {id}, .term = term});
    }
}

void rig_elect(struct rig *rig)
{
    const struct term term = {rig->raft->state.term.v + 1};

    rig_tick_after(rig, 3 * SEC_NS);
    if (rig->raft->role == RAFT_PRECANDIDATE) grant(rig, RAFT_PREVOTE_REPLY, term);
    if (rig->raft->role == RAFT_CANDIDATE) grant(rig, RAFT_VOTE_REPLY, term);
    assert_int_equal(rig->raft->role, RAFT_LEADER);
    rig_durable(rig);
}

void rig_ack(struct rig *rig, uint32_t from, uint64_t match)
{
    rig_recv(rig, (struct raft_msg){
                      .kind = RAFT_APPEND_REPLY,
                      .from = {from},
                      .term = rig->raft->state.term,
                      .index = {match},
                      .round = rig->raft->round,
                      .sent_ns = rig->now.ns,
                  });
}

void rig_lead(struct rig *rig)
{
    rig_elect(rig);
    const uint64_t last = rig->raft->log.last.v;
    for (uint32_t i = rig->raft->n_peers; i-- > 0;)
        rig_ack(rig, rig->raft->peers[i].id.v, last);
    rig_turn(rig);
    assert_int_equal(rig->out.commit.v, last);
    rig_apply(rig);
    assert_true(rig_info(rig).ready);
}

struct log_index rig_propose(struct rig *rig, const char *text)
{
    return raft_propose(rig->raft, bytes_of_str(text), NULL);
}

void rig_append(struct rig *rig, uint32_t from, uint64_t term, uint64_t prev,
                uint64_t prev_term, const uint64_t *terms, uint32_t n, uint64_t commit)
{
    struct raft_entry entries[RIG_MSGS_MAX];

    check(n <= RIG_MSGS_MAX);
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (struct raft_entry){
            {prev + 1 + i}, {terms[i]}, RAFT_COMMAND, BYTES_OF("entry"), NULL};
    rig_recv(rig, (struct raft_msg){
                      .kind = RAFT_APPEND,
                      .from = {from},
                      .term = {term},
                      .index = {prev},
                      .log_term = {prev_term},
                      .commit = {commit},
                      .round = 1,
                      .sent_ns = 1,
                      .n_entries = n,
                      .entries = n > 0 ? entries : NULL,
                  });
}

void rig_append_config(struct rig *rig, uint32_t from, uint64_t term, uint64_t prev,
                       uint64_t prev_term, const struct raft_config *config,
                       uint64_t commit)
{
    struct buf encoded = buf_new(&rig->mem);

    raft_config_encode(&encoded, config);
    const struct raft_entry e = {
        {prev + 1}, {term}, RAFT_CONFIG, buf_bytes(&encoded), NULL};
    rig_recv(rig, (struct raft_msg){.kind = RAFT_APPEND,
                                    .from = {from},
                                    .term = {term},
                                    .index = {prev},
                                    .log_term = {prev_term},
                                    .commit = {commit},
                                    .n_entries = 1,
                                    .entries = &e});
    buf_free(&encoded);
}

struct raft_msg rig_refusal(const struct rig *rig, uint32_t from, uint64_t prev,
                            uint64_t hint, uint64_t hint_term)
{
    return (struct raft_msg){.kind = RAFT_APPEND_REPLY,
                             .flags = RAFT_REJECT,
                             .from = {from},
                             .term = rig->raft->state.term,
                             .index = {prev},
                             .commit = {hint},
                             .log_term = {hint_term},
                             .round = rig->raft->round};
}

void rig_restore(struct rig *rig, const uint64_t *terms, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        raft_restore(rig->raft,
                     &(struct raft_entry){
                         {i + 1}, {terms[i]}, RAFT_COMMAND, BYTES_OF("old"), NULL});
    rig_turn(rig);
}
