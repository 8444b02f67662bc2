/* SPDX-License-Identifier: Apache-2.0 */
/* The input is what peers send: messages, each behind its length.  What decodes encodes
 * to the same bytes; and whatever it says, a follower, a leader and a candidate that take
 * it in stay sound: a peer may be wrong, and must not be able to end us. */
#include <stdint.h>

#include "mem_test_alloc.h"
#include "raft/raft.h"

enum { ENTRIES_MAX = 64, CORES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void turn(struct raft *raft, struct raft_event event)
{
    struct raft_out out;

    raft_step(raft, &event);
    raft_turn_end(raft, event.now, &out);
    if (out.mark > 0) {
        raft_step(raft, &(struct raft_event){
                            .kind = RAFT_DURABLE, .now = event.now, .mark = out.mark});
        raft_turn_end(raft, event.now, &out);
    }
}

static void hear(struct raft *raft, struct instant now, const struct raft_msg *msg)
{
    turn(raft, (struct raft_event){.kind = RAFT_RECV, .now = now, .msg = msg});
}

/* Server 1 of three, as far on its way to leadership as the votes of server 2 bring
 * it. */
static struct raft *core_new(struct mem *mem, uint32_t votes)
{
    const struct raft_settings settings = {
        .self = {1},
        .election_ns = SEC_NS,
        .heartbeat_ns = SEC_NS / 10,
        .append_entries_max = 16,
        .append_bytes_max = 4096,
        .inflight_max = 4,
        .inflight_bytes_max = 4096,
        .uncommitted_bytes_max = 4096,
        .log_bytes_max = 4096,
        .seed = 7,
        .mem = mem,
    };
    const struct raft_start start = {
        .config = {.voters = {{1}, {2}, {3}}, .n_voters = 3},
        .now = {SEC_NS},
    };
    const struct instant now = {10 * SEC_NS};
    struct raft *raft = raft_new(&settings, &start);
    const struct raft_entry entry = {{1}, {1}, RAFT_COMMAND, BYTES_OF("one"), NULL};

    hear(raft, start.now,
         &(struct raft_msg){.kind = RAFT_APPEND,
                            .from = {2},
                            .to = {1},
                            .term = {1},
                            .n_entries = 1,
                            .entries = &entry,
                            .commit = {1}});
    if (votes == 0) return raft;
    turn(raft, (struct raft_event){.kind = RAFT_TICK, .now = now});
    hear(raft, now,
         &(struct raft_msg){
             .kind = RAFT_PREVOTE_REPLY, .from = {2}, .to = {1}, .term = {2}});
    if (votes == 1) return raft;
    hear(
        raft, now,
        &(struct raft_msg){.kind = RAFT_VOTE_REPLY, .from = {2}, .to = {1}, .term = {2}});
    return raft;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem = mem_for_test();
    struct cursor in = {data, data + size};
    struct raft *cores[CORES];
    struct instant now = {20 * SEC_NS};
    struct bytes one;

    for (uint32_t i = 0; i < CORES; i++)
        cores[i] = core_new(&mem, i);
    while (get_blob(&in, &one)) {
        struct raft_entry entries[ENTRIES_MAX];
        struct raft_msg msg;
        if (!raft_msg_decode(one, &msg, entries, ENTRIES_MAX)) continue;

        struct buf again = buf_new(&mem);
        raft_msg_encode(&again, &msg);
        check(bytes_equal(buf_bytes(&again), one));
        buf_free(&again);

        now.ns += SEC_NS / 10;
        msg.to.v = 1;
        for (uint32_t i = 0; i < CORES; i++)
            hear(cores[i], now, &msg);
    }
    for (uint32_t i = 0; i < CORES; i++)
        raft_free(cores[i]);
    check(mem.used == 0);
    return 0;
}
