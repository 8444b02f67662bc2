/* SPDX-License-Identifier: Apache-2.0 */
/* policy - what a keyspace promises: MODE and its options (spec, section 4). */
#pragma once

#include "base/buf.h"

enum policy_mode { MODE_PRIMARY = 1, MODE_RAFT, MODE_PAXOS, MODE_MULTI, MODE_END };
enum policy_read { READ_LINEARIZABLE = 1, READ_LEASE, READ_LEADER, READ_ANY, READ_END };
enum policy_durability { DURABILITY_FSYNC = 1, DURABILITY_MEMORY, DURABILITY_END };
enum policy_failover { FAILOVER_AUTO = 1, FAILOVER_MANUAL, FAILOVER_END };
enum { ACK_ASYNC = 0, ACK_ALL = 255 }; /* else the number of followers */

struct policy {
    enum policy_mode mode;
    enum policy_read read;
    enum policy_durability durability;
    enum policy_failover failover;
    uint8_t ack;
    uint8_t replicas, learners;
    uint16_t shards;
    uint64_t maxlag_ms;
    uint64_t maxmemory_bytes;
};

enum { POLICY_REPLICAS_MAX = 5, POLICY_LEARNERS_MAX = 8, POLICY_SHARDS_MAX = 1024 };
#define POLICY_MAXLAG_MAX INT64_C(31536000000) /* ms: a year */

struct policy policy_default(enum policy_mode mode);
/* Reads "MODE raft SHARDS 8 ..." into p, which holds what the options change.  On refusal
 * returns false and writes an error reply's text (code first) to `why`. */
MUST_USE bool policy_parse(struct policy *p, bool create, const struct bytes *args,
                           uint32_t n_args, struct buf *why);
/* As options in the order of the spec: "MODE raft REPLICAS 3 ...". */
void policy_print(struct buf *out, const struct policy *p);
/* What the leader has to prove before it answers a read. */
enum policy_read policy_read_at_leader(const struct policy *p);
const char *policy_mode_name(enum policy_mode mode);
const char *policy_read_name(enum policy_read read);
const char *policy_durability_name(enum policy_durability durability);
const char *policy_failover_name(enum policy_failover failover);
void policy_encode(struct buf *out, const struct policy *p);
MUST_USE bool policy_decode(struct cursor *in, struct policy *out);
