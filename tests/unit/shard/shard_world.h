/* SPDX-License-Identifier: Apache-2.0 */
/* shard_world - replicas of one shard, each over a log on a disk that forgets (wal_disk.h)
 * and an engine in memory, with messages between them that a test can hold, drop, double
 * and spoil. */
#pragma once

#include "unit.h"

#include "shard/shard_state.h"
#include "store/kv_memory.h"
#include "wal/wal_disk.h"

enum { REPLICAS_MAX = 4, PACKETS_MAX = 4096, EFFECTS_MAX = 4096 };

struct packet {
    uint32_t from, to;
    struct buf bytes;
};

struct replica {
    uint32_t id;
    struct mem mem;
    struct world *log;
    struct kv_memory *kv;
    struct shard *shard; /* NULL: down */
    struct shard_counts counts;
    struct kv_job *job;
    struct instant wake;
    int64_t wall_ms; /* added to what the others think the time is */
    bool disk_held;  /* ops wait */
    bool jobs_held;
    int job_error; /* of each job, until it is 0 again */
    struct server_id accused;
    uint32_t loads;
    /* What was applied: the numbers that INCR left, in order. */
    int64_t effects[EFFECTS_MAX];
    uint32_t n_effects, n_resets;
};

struct shards {
    struct replica at[REPLICAS_MAX + 1]; /* by id */
    uint32_t n;
    struct mem mem;
    struct instant now;
    struct wall wall;
    bool cut[REPLICAS_MAX + 1][REPLICAS_MAX + 1];
    struct packet wire[PACKETS_MAX];
    uint32_t n_wire;
    /* How many times a message is delivered; it may be spoiled, too.  NULL: once. */
    uint32_t (*passes)(struct shards *w, uint32_t from, struct raft_msg *m);
    uint64_t passed; /* the test's own */
    uint64_t log_keep_bytes;
    struct shard_rate rate; /* of what each leader's snapshots may take */
    uint32_t once_max;
    uint64_t once_keep_ns;
    const char *once; /* the id of what is asked next, and until it is NULL again */
    struct shard_position position; /* likewise, what it must see; index 0: nothing */
    /* Of the last ask. */
    struct buf reply;
    struct shard_gate gate;
};

/* `n` replicas, the first `founders` of them founded as the voters; the others are empty. */
struct shards *shards_new(uint32_t n, uint32_t founders);
void shards_free(struct shards *w);
void shards_run(struct shards *w, uint64_t ms);
void shards_pump(struct shards *w);     /* turns and messages, while time stands still */
uint32_t shards_lead(struct shards *w); /* runs until one leads; its id */
uint32_t shards_follower(const struct shards *w, uint32_t leader, uint32_t nth);
void shards_isolate(struct shards *w, uint32_t id, bool cut); /* both ways */
void shards_crash(struct shards *w, uint32_t id); /* what is not durable is lost */
void shards_start(struct shards *w, uint32_t id, bool doubt);

/* Words of `line`; several lines are one EXEC. */
enum shard_refusal shards_ask(struct shards *w, uint32_t id, const char *line);
enum shard_refusal shards_exec(struct shards *w, uint32_t id, const char *const *lines,
                               uint32_t n, const struct shard_watch *watches,
                               uint32_t n_watches);
enum shard_refusal shards_watch(struct shards *w, uint32_t id, struct bytes key,
                                struct log_index *change);
/* The same as an ask, and it has to be taken and answered so (NULL: somehow). */
void shards_expect(struct shards *w, uint32_t id, const char *line, const char *reply);
enum shard_gate_state shards_gate(const struct shards *w, uint32_t id);
/* What this replica has committed, as GET answers it: "$1\r\nv\r\n", or "closed". */
const char *shards_committed(struct shards *w, uint32_t id, const char *key);
struct raft_info shards_info(const struct shards *w, uint32_t id);
uint64_t shards_digest(struct shards *w, uint32_t id);
void shards_assert_equal(struct shards *w); /* all that are up hold the same */
void shards_config(struct shards *w, uint32_t leader, uint32_t voters, uint32_t learner);
