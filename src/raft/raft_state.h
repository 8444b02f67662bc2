/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the ordered core, and what is always true of it between calls.
 *
 * I1   base <= applied <= commit <= last         nothing is applied that is not committed
 * I2   base <= durable <= last                   durable speaks of the entries that stand now
 * I3   outstanding marks rise, and no entry that one of them covers lies above last
 * I4   a leader's log ends in its own term's entries from noop_index on
 * I5   term of the last entry <= term            nobody writes in a term that is not its own
 * I6   a follower has acknowledged nothing above `verified`, and verified <= last
 * I7   match < next <= last + 1 for every peer of a leader
 * I8   a candidate or leader voted for itself; it is not doubtful, but a candidate may be
 *      rebooted, and who is rebooted is doubtful
 * I9   the configs lie in the order of their indexes, the first at or below base, the others
 *      above it, none above last
 * I10  a peer's windows hold what was sent and not answered: no more than inflight_max
 * I11  a quiet replica leads or follows a known leader, and all that it holds is durable and
 *      committed; nothing of it is on its way to disk
 * I12  a quiet leader has committed in its term, no read waits for a round, and every member
 *      whose server is not away holds all of its log
 *
 * For src/raft, its tests and the simulator's checkers only.
 */
#pragma once

#include "base/prng.h"
#include "raft/log.h"
#include "raft/raft.h"

enum {
    RAFT_QUEUE_MAX = 256, /* answers of one turn */
    RAFT_STAMPS_MAX = 4,
    RAFT_STUCK_TIMEOUTS = 4, /* a leader whose disk is silent for so long steps down */
    /* Copied in one turn before sending waits for the next. */
    RAFT_TURN_BYTES = 4 << 20,
    /* A large entry whose follower says nothing of it is sent again after two election
     * timeouts and this for each of its bytes (1 MB/s): by then the slowest link has
     * brought it.  Losses that can be seen are mended long before. */
    RAFT_LOST_TIMEOUTS = 2,
    RAFT_LOST_NS_PER_BYTE = 1000,
    RAFT_NOTIFY_PARTS =
        10, /* a commit is told after this part of a heartbeat at latest */
    RAFT_NOTICES_NS =
        300000, /* where it is told at once, the next such message waits so long */
};

/* Every `next` is a promise of what to send; only `match` is a fact. */
enum raft_flow {
    RAFT_FLOW_PROBE = 0, /* one message at a time, until the logs are known to meet */
    RAFT_FLOW_PIPELINE,  /* optimistic: next moves when sent */
    RAFT_FLOW_SNAPSHOT,  /* the log does not reach back: heartbeats only */
};

struct raft_inflight {
    struct log_index last;
    uint64_t bytes;
};

/* What is known of another member; rebuilt with each config, kept for those that stay. */
struct raft_progress {
    struct server_id id;
    bool voter, learner; /* voter: of either set */

    /* as candidate */
    bool answered, granted, unsure; /* unsure: granted by one that is rebooted */

    /* as leader */
    enum raft_flow flow;
    struct log_index match, next;
    struct log_index told;  /* the highest commit sent */
    struct instant noticed; /* when an empty message was sent */
    bool probe_sent;
    bool send_now; /* something has to be said although there are no entries */
    struct raft_inflight *inflight; /* a ring, grown as it fills up to inflight_max */
    uint32_t inflight_head, inflight_count, inflight_cap;
    uint64_t inflight_bytes;
    struct log_index large;    /* the newest large entry sent: on its way while > match */
    struct instant large_lost; /* it counts as lost from here on */
    struct instant heard;      /* its last answer in this term */
    uint64_t stamp_ns;         /* of its newest answer, by its own clock; 0: none */
    struct instant sent;       /* our last append */
    uint64_t round_sent, round_heard;
    uint64_t lease_ns;      /* latest sending time of an append under lease it answered */
    uint64_t lease_barrier; /* no lease before it has answered this round: until then it
                                * may hold a TIMEOUT_NOW of an abandoned transfer */

    bool doubtful, clearing;
    bool accused; /* our appends tell it of its doubt, which it does not know yet */
    struct instant matched;      /* when `match` was last raised */
    struct instant cleared;      /* while clearing: since when our appends say so */
    struct log_index doubt_last; /* our last when we heard of the doubt ... */
    uint64_t doubt_round;        /* ... and the first round sent since */

    bool snapshotting;    /* the caller is at it, or has been asked */
    bool snapshot_wanted; /* to be asked at the end of this turn */
    bool snapshot_ready;
    struct instant snapshot_after; /* not before this, after one that failed */
    struct log_index snapshot_index;

    /* its reads: the one that waits for a round, and the ones that came since */
    uint64_t read_number, read_round;
    uint64_t read_number_next, read_round_next;

    bool gone; /* no connection to its server, as far as we were told; in every role */
};

struct raft_write {
    uint64_t mark;
    struct log_index upto; /* entries this write completes; lowered by truncation */
    struct instant at;     /* since when the disk is silent about it */
};

struct raft_stamp {
    uint64_t at_ns;
    struct log_index last;
};

struct raft_config_at {
    struct log_index index;
    struct server_id *ids; /* that `config` shows, in one run */
    struct raft_members config;
};

/* The answer to the appends of this turn: one for all of them. */
struct raft_ack {
    bool due, reject;            /* what was matched; what was refused */
    bool at_once;                /* a heartbeat or a new round: no waiting for the disk */
    struct log_index prev, hint; /* reject */
    struct term hint_term;
    uint64_t round, sent_ns;
    uint8_t flags;
};

struct raft {
    struct raft_settings settings;
    struct mem *mem;
    struct prng prng;
    struct instant now;

    struct raft_state state;
    bool state_dirty;
    uint64_t state_mark; /* the write that makes `state` durable */

    enum raft_role role;
    struct server_id leader;
    struct log log;
    struct log_index commit, applied, durable;
    struct log_index unwritten; /* first entry not yet given out to be written; 0: none */
    struct log_index verified;  /* matches the log of the leader of this term */

    struct raft_write *writes; /* outstanding, a ring */
    uint32_t writes_head, n_writes, writes_cap;
    uint64_t mark, mark_durable;

    struct raft_config_at *configs;
    uint32_t n_configs, configs_cap;

    struct raft_progress *peers; /* as many as there are */
    uint32_t n_peers;
    uint32_t n_snapshotting; /* of them */

    /* elections */
    struct instant deadline; /* of the election timer */
    struct instant leader_heard;
    bool leader_lost;        /* its connection broke */
    uint64_t promised_until; /* no vote before this: a lease may rest on it */
    bool transfer_vote;      /* this candidacy was asked for by the leader */
    uint64_t round_seen;     /* the highest of this leader, in this term */

    /* as leader */
    struct log_index acked; /* of this leadership */
    struct log_index noop_index;
    struct instant led_since;
    uint64_t uncommitted_bytes;  /* of these ... */
    uint64_t uncommitted_blocks; /* ... in blocks: bounded by memory, not by count */
    struct log_index counted;    /* entries up to here are out of uncommitted_bytes */
    struct server_id transfer_to;
    bool transfer_sent;
    struct instant transfer_until;
    bool lease_void; /* for the rest of this term */
    bool lease_used;
    uint64_t round, confirmed;
    bool round_wanted;

    /* loaded entries: lent to messages, never part of the log in memory */
    bool load_asked, load_out;
    struct raft_load load;
    struct server_id load_peer;
    struct raft_entry *loaded;
    uint32_t n_loaded, loaded_cap;
    struct buf loaded_bytes;
    struct block *loaded_block; /* instead of loaded_bytes, when it is much */

    /* How old our state can be: stamps of ours that the leader echoed, oldest first, with what
     * must be applied until they count. */
    struct raft_stamp stamps[RAFT_STAMPS_MAX];
    uint32_t n_stamps;
    uint64_t fresh_ns;
    struct log_index leader_last;

    struct raft_entry
        *discarded; /* payloads as offsets into discarded_bytes until given */
    uint32_t n_discarded, discarded_cap;
    struct buf discarded_bytes;
    bool discarded_given;

    /* as follower */
    struct raft_ack ack;
    uint64_t read_asked, read_answered; /* numbers: those in between wait */
    bool read_to_send;
    struct instant read_since, read_sent;
    struct raft_read_done read_done; /* of this turn; round 0: none */
    uint64_t read_refused;
    struct raft_read_done reads_out[2];

    uint64_t turn_bytes; /* appended and sent since the last turn ended */
    bool held_back;      /* entries wait for the next turn because of it */

    struct raft_msg *queue, *msgs;
    uint32_t n_queue, queue_cap, n_msgs, msgs_cap;

    bool lost_entries,
        other_history; /* while a start finds out what there is: restore.c */

    enum raft_role told_role;
    struct server_id told_leader;
    struct term told_term;
    /* quiet.c */
    bool quiet;
    bool woken;             /* in this turn */
    struct instant busy_at; /* leader: when something was last asked of the group */

    struct server_id accused; /* of this turn; 0: nobody */
    bool apart;               /* see Epochs in raft.h; no append is taken in any more */
    struct log_index apart_from, apart_upto; /* see raft_out */
    uint64_t elections, refused, accusations, power_losses;
};

/* raft.c */
void raft_enqueue(struct raft *raft, const struct raft_msg *msg);
struct raft_msg *raft_emit(struct raft *raft);
struct log_index raft_append(struct raft *raft, enum raft_entry_kind kind,
                             struct term term, struct bytes payload, struct block *block);
void raft_truncate(struct raft *raft, struct log_index last);
/* What lies in memory above `kept` is to be kept aside by the caller: see raft_out.discarded. */
void raft_note_discarded(struct raft *raft, struct log_index kept);
void raft_reset_log(struct raft *raft, struct log_index base, struct term base_term);
uint64_t raft_mark_of(const struct raft *raft, struct log_index index);
bool raft_is_ready(const struct raft *raft); /* an entry of its own term is committed */

/* restore.c: what a start finds */
void raft_keep_still(struct raft *raft);
void raft_own_up_to_term(struct raft *raft, struct term term);

/* elect.c */
void raft_elect_follow(struct raft *raft, struct term term, struct server_id leader);
void raft_elect_leader_heard(struct raft *raft, const struct raft_msg *msg);
void raft_elect_reset_timer(struct raft *raft);
void raft_elect_step_down(struct raft *raft);
void raft_elect_on_tick(struct raft *raft);
void raft_elect_on_leader_lost(struct raft *raft);
bool raft_elect_refuses(const struct raft *raft, const struct raft_msg *msg);
void raft_elect_on_prevote(struct raft *raft, const struct raft_msg *msg);
void raft_elect_on_vote(struct raft *raft, const struct raft_msg *msg);
void raft_elect_on_reply(struct raft *raft, const struct raft_msg *msg);
void raft_elect_on_decree(struct raft *raft, const struct raft_event *event);
bool raft_elect_begun(const struct raft *raft); /* our log has an entry of this epoch */
void raft_elect_on_timeout_now(struct raft *raft, const struct raft_msg *msg);
bool raft_elect_may_campaign(const struct raft *raft);
bool raft_elect_leads_at_once(const struct raft *raft);

/* member.c */
enum raft_count {
    RAFT_COUNT_MATCH = 1,
    RAFT_COUNT_ROUND,
    RAFT_COUNT_LEASE,
    RAFT_COUNT_HEARD
};
enum raft_tally { RAFT_TALLY_OPEN = 0, RAFT_TALLY_WON, RAFT_TALLY_LOST };
const struct raft_members *raft_member_config(const struct raft *raft);
struct log_index raft_member_config_index(const struct raft *raft);
bool raft_member_is_joint(const struct raft *raft);
bool raft_member_is_alone(const struct raft *raft);
uint64_t raft_member_quorum(const struct raft *raft, enum raft_count what);
enum raft_tally raft_member_tally(const struct raft *raft);
/* The election just won was won by every vote, for want of enough that are sure. */
bool raft_member_is_unsure(const struct raft *raft);
const struct raft_rules *raft_member_rules(const struct raft *raft);
uint64_t raft_member_acked(const struct raft *raft); /* leader */
bool raft_member_can_ack(
    const struct raft *raft); /* enough of those asked for are heard */
struct raft_progress *raft_member_find(struct raft *raft, struct server_id id);
void raft_member_init(struct raft *raft, const struct raft_config *config);
void raft_member_free(struct raft *raft);
void raft_member_appended(struct raft *raft, const struct raft_entry *entry);
void raft_member_truncated(struct raft *raft);
void raft_member_compacted(struct raft *raft);
void raft_member_installed(struct raft *raft, const struct raft_config *config);
void raft_member_on_change(struct raft *raft, const struct raft_config *config);
void raft_member_leave_joint(struct raft *raft);
void raft_member_on_decree(struct raft *raft, const struct raft_config *config);
bool raft_member_is_out(const struct raft *raft); /* its removal is committed */

/* replicate.c: the leader's side */
void raft_replicate_lead(struct raft *raft);
void raft_replicate_reset_peer(struct raft *raft, struct raft_progress *peer);
void raft_replicate_on_reply(struct raft *raft, const struct raft_msg *msg);
void raft_replicate_on_peer_lost(struct raft *raft, struct server_id id);
void raft_replicate_on_snapshot_ready(struct raft *raft, const struct raft_event *event);
void raft_replicate_on_snapshot_sent(struct raft *raft, const struct raft_event *event);
void raft_replicate_on_loaded(struct raft *raft, const struct raft_event *event);
void raft_replicate_on_tick(struct raft *raft);
void raft_replicate_transfer(struct raft *raft, struct server_id id);
void raft_replicate_transfer_end(struct raft *raft);
void raft_replicate_hand_over(struct raft *raft);
void raft_replicate_commit(struct raft *raft);
void raft_replicate_send(struct raft *raft, struct raft_out *out);
struct instant raft_replicate_wake(const struct raft *raft);

/* quiet.c */
void raft_quiet_busy(struct raft *raft);
void raft_quiet_wake(struct raft *raft);
void raft_quiet_turn(struct raft *raft);
void raft_quiet_on_message(struct raft *raft, const struct raft_msg *msg);
void raft_quiet_on_peer_up(struct raft *raft, struct server_id id);
void raft_quiet_on_silent(struct raft *raft, struct server_id id);
bool raft_quiet_is_due(const struct raft *raft);
bool raft_quiet_tells(const struct raft *raft, const struct raft_progress *peer);
void raft_quiet_follow(struct raft *raft, const struct raft_msg *msg);
void raft_quiet_verify(const struct raft *raft);

/* follow.c: the follower's side */
void raft_follow_on_append(struct raft *raft, const struct raft_msg *msg);
void raft_follow_on_snapshot(struct raft *raft, const struct raft_msg *msg);
void raft_follow_on_installed(struct raft *raft, const struct raft_event *event);
void raft_follow_send(struct raft *raft);
void raft_follow_applied(struct raft *raft); /* a stamp may count now */

/* read.c */
void raft_read_on_request(struct raft *raft, const struct raft_msg *msg);
void raft_read_on_answer(struct raft *raft, const struct raft_msg *msg);
void raft_read_refuse(struct raft *raft);
void raft_read_confirm(struct raft *raft);
void raft_read_send(struct raft *raft);
void raft_read_give(struct raft *raft, struct raft_out *out);
