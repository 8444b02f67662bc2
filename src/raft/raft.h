/* SPDX-License-Identifier: Apache-2.0 */
/* raft - the ordered core: one replica of one group's log.  A core: no I/O.
 *
 * It decides what the log is and what of it is committed.  Entries are opaque; applying them
 * is the caller's.  Leader-follower keyspaces are this core with other settings (`ack`,
 * `elect`), so there is no second protocol.
 *
 *     raft_step(event)  ─┐                  ┌─► entries and state to make durable (one mark)
 *     raft_propose(...)  ├──► struct raft ──┼─► messages, each with the mark it must wait for
 *     raft_turn_end()   ─┘                  └─► commit, confirmed read rounds, role
 *
 * Events only change state; raft_turn_end() derives what leaves: one append, one message
 * per peer, one read round.  What it says lies in `out` until the next call.
 *
 * Units    instants in ns since this server started; indexes from 1
 * Order    whatever must be durable first is data: a message with after.v > the newest
 *          durable mark is held by the caller, in order, until RAFT_DURABLE reports it.
 *          Marks are never used twice, so a late completion of an overwritten append can't
 *          be taken for that of the entry that stands there now (A-B-A).
 * Errors   none: trouble arrives as an event, or does not arrive.  Messages of peers are
 *          outside data: an impossible one is ignored and counted in raft_info.refused.
 * Owner    event and payloads are borrowed for the call; entries are copied into the log
 * Limits   RAFT_PEERS_MAX members; log_bytes_max of entries in memory, inflight windows by
 *          count and bytes per follower; uncommitted_bytes_max at the leader
 * Source   [RAFT] Ongaro, Ousterhout 2014; [THESIS] Ongaro 2014 (PreVote 9.6, ReadIndex
 *          6.4, leases 6.4.1, transfer 3.10, joint consensus 4.3); CheckQuorum after etcd.
 *          Ours differs: the term carries an epoch above it (base/ids.h), read rounds are
 *          numbered and ride on every append, and a replica whose log is doubtful counts
 *          for nothing until the leader has proved it whole (raft_repair below).
 *
 * Snapshots the core decides when and to whom; the caller moves the bytes.  A leader whose log
 *           no longer reaches back to a follower's next entry names it in snapshots_wanted
 *           (once, until RAFT_SNAPSHOT_SENT).  The caller answers RAFT_SNAPSHOT_READY with the
 *           snapshot's (index, term), sends RAFT_SNAPSHOT messages itself, paced by the
 *           replies, and tells how it ended with RAFT_SNAPSHOT_SENT.  While it runs the log
 *           from the snapshot's index on is kept (up to log bounds), so that the follower
 *           connects.  Every RAFT_SNAPSHOT and its reply is stepped through RAFT_RECV first,
 *           which judges term and leader; the receiver takes the bytes in only if then
 *           raft_snapshot_welcome(), and reports RAFT_INSTALLED when its store has switched.
 *
 * Repair    a replica that lost part of its log to damage starts with `doubtful`: it neither
 *           votes nor campaigns, and every answer of it says so, so that a leader counts it
 *           neither for commits, nor for its quorum of contacts, nor for read rounds.  It is
 *           cleared by the leader, in an append, when the replica holds everything that was
 *           committed when the leader heard of the doubt, and every other voter has answered
 *           in the leader's term since: then no vote or acknowledgement that it may have
 *           forgotten can matter any more.
 *           One that lost entries and does not know it (an old copy of its disk came back) is
 *           found out by a leader to which it had acknowledged them, once it refuses an append
 *           that left after the acknowledgement had come.  From then on it is doubtful: the
 *           leader's appends tell it, and it starts to say so itself.  What it had promised to
 *           nobody who still leads can't be told this way.
 * Power     under rules.memory a power cut takes the log's tail, never term or vote, which are
 *           always synced.  A replica whose boot is another than that of its state starts
 *           `rebooted`: doubtful, but its vote is good for one thing: a candidate that every
 *           single voter grants wins, for then the longest log there is wins.  Fewer than all
 *           is a quorum only of voters that lost nothing.  What such an election finds is the
 *           truth from then on; that something may be missing is counted (power_losses).
 * Epochs    only the meta shard raises a group's epoch, when it has to be led without the consent
 *           of a majority (FORCE).  RAFT_EPOCH fences: older terms are refused, and nobody is
 *           elected whose log has no entry of the new epoch, so nobody at all, until RAFT_DECREE
 *           names who leads it first, and with whom.  A replica that had committed what that
 *           one did not have can't follow it: it is `apart`, and must be made anew.  What it
 *           had beyond the place up to which the logs are one is discarded; where that can't be
 *           found any more, all that its log still holds.
 * Lag       a follower's state is no older than the sending of its own newest message that the
 *           leader has echoed, once what the leader held by then is applied here.  It is a
 *           difference of two readings of one clock.  A leader that is cut off echoes for an
 *           election timeout at most.
 */
#pragma once

#include "base/block.h"
#include "base/ids.h"

/* Members of a group in all, learners included; voters of one set; and followers that are
 * sent a snapshot at the same time. */
enum { RAFT_PEERS_MAX = 512, RAFT_VOTERS_MAX = 16, RAFT_SNAPSHOTS_MAX = 8 };

enum raft_entry_kind {
    RAFT_NOOP = 1, /* the leader's first entry of its term */
    RAFT_COMMAND,  /* opaque */
    RAFT_CONFIG,   /* membership, raft_config_encode() */
};

struct raft_entry {
    struct log_index index;
    struct term term;
    enum raft_entry_kind kind;
    struct bytes payload; /* given out: good until the next call that changes the log */
    struct block
        *block; /* that a large payload lies in, and may be kept by; NULL: none */
};

/* What a commit, an election and an answer need.  Leader-follower keyspaces differ from
 * consensus in nothing but these. */
struct raft_rules {
    /* Answers may leave before the commit, once `ack` followers hold the entry (ACK): learners
     * count only beside a single voter, which nobody can be elected instead of. */
    bool early;
    uint8_t ack; /* RAFT_ACK_ALL: all of them */
    /* An entry counts as held once it is written, before it is synced (DURABILITY memory). */
    bool memory;
    /* Copies that a commit needs, the leader's own among them, when a minority is to do; then
     * an election needs n - copies + 1 votes, so that it meets one of them.  0: a majority. */
    uint8_t copies;
};
enum { RAFT_ACK_ALL = 255 };

/* Membership.  Joint while n_old > 0: decisions need both sets, each by its own rules.  `version`
 * says which plan of the caller's it follows: a change to an older one is refused, so that a
 * leader whose plan is old can't undo what a leader before it has done.  With room for the most
 * there can be: what a config is made in, and decoded to. */
struct raft_config {
    uint64_t version;
    uint16_t n_voters, n_old, n_learners;
    struct server_id voters[RAFT_VOTERS_MAX], old[RAFT_VOTERS_MAX],
        learners[RAFT_PEERS_MAX];
    struct raft_rules rules, old_rules;
};
bool raft_rules_equal(const struct raft_rules *a, const struct raft_rules *b);
void raft_config_encode(struct buf *out, const struct raft_config *c);
MUST_USE bool raft_config_decode(struct bytes in, struct raft_config *out);

/* The same as a group keeps it, no larger than it is: a view of what its owner holds. */
struct raft_members {
    uint64_t version;
    uint16_t n_voters, n_old, n_learners;
    const struct server_id *voters, *old, *learners;
    struct raft_rules rules, old_rules;
};
struct raft_members raft_config_members(const struct raft_config *c);
void raft_members_config(const struct raft_members *m, struct raft_config *out);
bool raft_members_has_voter(const struct raft_members *m, struct server_id id);
bool raft_members_has(const struct raft_members *m, struct server_id id);

enum raft_msg_kind {
    RAFT_APPEND = 1,
    RAFT_APPEND_REPLY,
    RAFT_PREVOTE,
    RAFT_PREVOTE_REPLY,
    RAFT_VOTE,
    RAFT_VOTE_REPLY,
    RAFT_TIMEOUT_NOW,
    RAFT_SNAPSHOT, /* a piece of a snapshot */
    RAFT_SNAPSHOT_REPLY,
    RAFT_READ_INDEX, /* from a follower: the reads that wait there, as one round */
    RAFT_READ_INDEX_REPLY,
    RAFT_MSG_KIND_END,
};

enum raft_msg_flag {
    RAFT_REJECT = 1,   /* replies */
    RAFT_DOUBTFUL = 2, /* replies: the sender's log is not to be relied on.  APPEND: the
                         * receiver's, which lacks what it acknowledged in this term */
    RAFT_CLEARED = 4,  /* APPEND: the receiver's log is whole again */
    RAFT_TRANSFER = 8, /* VOTE: the leader itself asked for it, ignore that it is heard */
    RAFT_DONE = 16,    /* SNAPSHOT: the last piece */
    RAFT_LEASE = 32, /* APPEND: the leader serves reads under its lease, and asks for the
                         * promise that goes with it; echoed by the reply */
    RAFT_QUIET =
        64, /* APPEND: the last one until something happens (quiet.c).  The caller
                         * vouches for the leader in this term from here on */
};

struct raft_msg {
    enum raft_msg_kind kind;
    uint8_t flags;
    struct server_id from, to;
    struct term term;
    struct log_index
        index;            /* APPEND: prev.  REPLY: match, or with REJECT the refused prev.
                              * VOTE: last.  SNAPSHOT: its index.  READ_INDEX_REPLY: index */
    struct term log_term; /* of `index`; with REJECT: term of hint */
    struct log_index commit; /* APPEND; REPLY REJECT: hint, the index to try next */
    uint64_t round;          /* APPEND: read round, echoed by its reply.  READ_INDEX: the
                              * follower's own number, echoed */
    uint64_t offset;   /* SNAPSHOT and its reply: position in the snapshot's stream */
    uint64_t sent_ns;  /* APPEND: the leader's clock, echoed: leases count from it */
    uint64_t stamp_ns; /* APPEND_REPLY: the follower's clock, echoed by later appends */
    struct log_index
        last;           /* APPEND with stamp_ns: the leader's last entry by then.  Who has
                              * applied it lags behind by the time since the stamp */
    uint32_t n_entries; /* APPEND: entries index+1 .. index+n_entries */
    const struct raft_entry *entries;
    struct bytes data; /* SNAPSHOT: config (first piece) and bytes of the state */
    uint64_t after;    /* hold until this mark is durable; 0: send at once */
};

/* The body of messages between servers; see docs/wire.md.  Decoding puts entries into
 * `entries`, at most `max`; runs are borrowed from the input. */
void raft_msg_encode(struct buf *out, const struct raft_msg *m);
/* The same without the payload of an entry in a block, if that is all the message brings:
 * returns the entry, and *at is where in `out` its payload belongs.  NULL: it is whole. */
const struct raft_entry *raft_msg_encode_around(struct buf *out, const struct raft_msg *m,
                                                size_t *at);
MUST_USE bool raft_msg_decode(struct bytes in, struct raft_msg *out,
                              struct raft_entry *entries, uint32_t max);

enum raft_role { RAFT_FOLLOWER = 0, RAFT_PRECANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* What is made durable as one record: a vote is never without its term. */
struct raft_state {
    struct term term;
    struct server_id vote; /* 0: none */
    bool doubtful;
    bool rebooted; /* doubtful for no other reason than a power cut: see Power */
    uint64_t boot; /* the machine's, in which this was written */
};
void raft_state_encode(struct buf *out, const struct raft_state *s);
MUST_USE bool raft_state_decode(struct bytes in, struct raft_state *out);

enum raft_read_mode { RAFT_READ_ROUND = 1, RAFT_READ_LEASE };

struct raft_settings {
    struct server_id self;
    uint64_t
        election_ns; /* base election timeout, at least 1 s in the product; drawn from
                              * [election_ns, 2 election_ns) each time */
    uint64_t heartbeat_ns;
    uint64_t
        quiet_after_ns; /* a group with nothing to do for so long falls silent; 0: none */
    uint32_t
        spread; /* the same at all replicas of a group, another from group to group: who
                      * stands first when a leader is lost */
    uint64_t drift_ns; /* taken off a lease: the most that clocks may drift within it */
    uint32_t append_entries_max; /* of one message */
    uint64_t append_bytes_max;
    uint32_t inflight_max; /* messages on their way to one follower */
    uint64_t inflight_bytes_max;
    uint64_t uncommitted_bytes_max;
    uint64_t log_bytes_max; /* entries kept in memory */
    uint64_t seed;
    struct mem *mem;
    uint64_t boot; /* another number after each start of the machine; 0: not known */
    /* mutants: each is one safety rule broken, all false in the product */
    bool bug_commit_quorum_one_short, bug_vote_before_durable, bug_commit_old_term,
        bug_stale_read_round, bug_lease_through_transfer, bug_snapshot_drops_config,
        bug_vote_shorter_log, bug_doubtful_counts, bug_ack_before_durable,
        bug_joint_one_majority, bug_no_truncate, bug_vote_bare_index, bug_elect_majority,
        bug_ack_counts_self, bug_reboot_ignored, bug_epoch_elects, bug_quiet_never_wakes,
        bug_cut_past_followers, bug_old_epoch_accepted;
};

/* What a start finds: the durable state, the snapshot below the log, and the log. */
struct raft_start {
    struct raft_state state;
    struct log_index base; /* the store holds everything up to here, committed */
    struct term base_term;
    struct raft_config config; /* as of base */
    bool founder;              /* of a new group: stands soon, for nobody else will */
    struct instant now;
};

enum raft_event_kind {
    RAFT_TICK = 1,    /* time has passed */
    RAFT_RECV,        /* msg */
    RAFT_DURABLE,     /* everything up to `mark` is on disk; with the same mark once more:
                          * the disk is at work */
    RAFT_UNSENT,      /* messages to `peer` were dropped on our side: back to probing */
    RAFT_PEER_LOST,   /* the connection to `peer` broke: back to probing; from the leader:
                          * PreVote at once */
    RAFT_PEER_UP,     /* there is a connection to `peer` again */
    RAFT_WAKE,        /* `peer` no longer vouches for its leading, silent, this group */
    RAFT_SILENT,      /* nothing is heard of `peer`, which leads this silent group, or for
                          * whose silent group this server vouches */
    RAFT_CHANGE,      /* propose `config` as the new membership; learners first is the
                          * caller's care, the joint phase is ours */
    RAFT_TRANSFER_TO, /* hand leadership to `peer`; 0: to the fullest voter */
    RAFT_COMPACT,     /* the store's checkpoint holds everything up to `index`: entries up
                          * to index - keep may go from the log */
    RAFT_SNAPSHOT_READY, /* the snapshot asked for by want_snapshot[peer] exists at (index, term) */
    RAFT_SNAPSHOT_SENT, /* how it ended for `peer`: ok or not */
    RAFT_INSTALLED,     /* our store now is the snapshot (index, term, config) */
    RAFT_LOADED,        /* entries asked for by out->load, or that they are gone (n 0) */
    RAFT_APPLIED,       /* the caller has applied up to `index` */
    RAFT_EPOCH,         /* the meta shard raised the group's epoch to that of `term` */
    RAFT_DECREE, /* it named this replica to lead that epoch first, with `config` as membership */
};

struct raft_event {
    enum raft_event_kind kind;
    struct instant now;
    const struct raft_msg *msg;
    uint64_t mark;
    struct server_id peer;
    struct log_index index, keep;
    struct term term;
    const struct raft_config *config;
    const struct raft_entry *entries;
    uint32_t n_entries;
    bool ok;
};

struct raft_load { /* entries to bring back from disk for a follower that is behind */
    struct log_index from, upto;
    uint64_t bytes_max;
};

struct
    raft_read_done { /* a follower's round: reads numbered up to `round` may be answered */
    uint64_t round;
    struct log_index index; /* once this is applied; 0: refused, no leader */
};

struct raft_out {
    /* To the log, in this order, then report RAFT_DURABLE with `mark`. */
    bool write_state; /* state, as one record */
    struct raft_state state;
    struct log_index append_from,
        append_upto; /* raft_entry_at(); 0, 0: none.  Ends what was
                                                * there from append_from on */
    uint64_t mark;   /* 0: nothing to write */
    bool lazy;       /* the mark counts as durable once written, before it is synced */

    const struct raft_msg *msgs;
    uint32_t n_msgs;
    struct log_index commit; /* entries up to here may be applied */
    struct log_index acked;  /* leader: answers that saw no more than this may leave */
    /* Entries that were here, are not known to be committed, and have gone: another leader's
     * took their place.  Only of groups whose answers leave early, for a client may have been
     * told of them.  To be kept aside before RAFT_DURABLE of this turn's mark. */
    const struct raft_entry *discarded;
    uint32_t n_discarded;
    uint64_t
        confirmed_round; /* leader: reads of rounds up to here may be answered, in the
                                 * term that they were taken in */
    const struct raft_read_done *reads; /* follower */
    uint32_t n_reads;
    bool load_wanted;
    struct raft_load load;
    uint32_t n_snapshots_wanted; /* peers that need a snapshot begun */
    struct server_id snapshots_wanted[RAFT_SNAPSHOTS_MAX];
    bool role_changed;
    bool
        apart; /* what is committed here is not what this epoch's leader has: see Epochs */
    struct log_index apart_from,
        apart_upto; /* with apart: of what is discarded, entries that are no longer in memory */
    bool quiet; /* nothing to do until an event: see RAFT_QUIET */
    struct server_id
        accused;         /* leader: found just now to lack what it acknowledged to us */
    struct instant wake; /* RAFT_TICK at this time; 0: not needed */
};

struct raft; /* whole in raft_state.h */

struct raft *raft_new(const struct raft_settings *settings,
                      const struct raft_start *start);
void raft_free(struct raft *raft);
/* At start only, in order: an entry found on disk above the base (later ones win). */
void raft_restore(struct raft *raft, const struct raft_entry *entry);

/* The durable term and vote found on disk; the newest wins. */
void raft_restore_state(struct raft *raft, const struct raft_state *state);
/* The log was cut to begin behind (index, term) by a snapshot, and with `clears` ended there
 * too; with a base below it the store is older than the log says: then doubtful. */
void raft_restore_base(struct raft *raft, struct log_index index, struct term term,
                       bool clears);
/* The log on disk may lack entries: see Repair. */
void raft_doubt(struct raft *raft);
/* All has been restored.  In a group of which this is the only voter everything that was found
 * is committed, also when more of it was lost. */
void raft_restored(struct raft *raft);

void raft_step(struct raft *raft, const struct raft_event *event);
void raft_turn_end(struct raft *raft, struct instant now, struct raft_out *out);

/* Gives back the room that only a group with something to say needs, when it has fallen
 * silent; what the last turn gave is void then. */
void raft_rest(struct raft *raft);

enum raft_propose_result {
    RAFT_PROPOSED = 0,
    RAFT_NOT_LEADER,
    RAFT_TRANSFERRING, /* leadership is being handed over: nothing was taken */
    RAFT_FULL,         /* uncommitted_bytes_max reached */
    RAFT_LONELY, /* fewer followers are heard than must hold an entry before it is answered */
};
/* Whether a proposal would be taken now; asked before a command is evaluated. */
enum raft_propose_result raft_may_propose(const struct raft *raft);
/* Appends at the leader; returns its index, or 0 when it does not lead or hands over.  Copies
 * the payload. */
uint64_t raft_uncommitted_bytes(const struct raft *raft); /* at the leader */
struct log_index raft_propose(struct raft *raft, struct bytes payload,
                              struct block *block);

/* Leader: the round that a read taken now must wait for (raft_out.confirmed_round); 0 when
 * no round is needed: a valid lease in RAFT_READ_LEASE, or a group of one voter.  Follower:
 * the number that raft_out.reads will give, asked of the leader in one message per turn. */
uint64_t raft_read(struct raft *raft, enum raft_read_mode mode, struct instant now);
bool raft_lease_valid(const struct raft *raft,
                      struct instant now); /* check after reading too */

struct raft_info {
    enum raft_role role;
    struct term term;
    struct server_id leader; /* 0: none known */
    bool ready; /* leader: an entry of its own term is committed and applied */
    bool doubtful, transferring, joint, quiet;
    struct log_index first, last, commit, applied, durable, base;
    struct raft_members
        config; /* the newest in the log, in force; good until the next call
                                 * that changes the log */
    struct log_index config_index;
    bool config_committed;
    uint64_t uncommitted_bytes, log_bytes, elections, refused;
    uint64_t accusations;        /* of peers that lost what they had acknowledged to us */
    struct instant leader_heard; /* follower: last message of the leader */
    struct log_index acked;
    struct term last_term; /* of the entry at `last` */
    bool rebooted, apart;
    bool state_durable;    /* the term in force is on disk */
    uint64_t power_losses; /* elections won by all, after a power cut of too many */
    uint64_t fresh_ns; /* this state held all that was acknowledged then; 0: not known */
    struct log_index leader_last; /* the highest that the leader was heard to have */
};
void raft_info(const struct raft *raft, struct raft_info *out);

struct raft_peer {
    struct server_id id;
    bool voter, learner, active, probing, snapshotting, doubtful;
    bool
        accused; /* doubtful because it lacks what it acknowledged, and not aware of it yet */
    struct log_index match, next;
    struct instant heard;
};
/* Leader: what it knows of its i-th peer; false past the last, and at who does not lead. */
bool raft_peer(const struct raft *raft, uint32_t i, struct raft_peer *out);
bool raft_peer_of(const struct raft *raft, struct server_id id, struct raft_peer *out);

/* An entry in memory, or false.  Every index > applied and <= commit is in memory. */
bool raft_entry_at(const struct raft *raft, struct log_index index,
                   struct raft_entry *out);
/* Whether the bytes of this RAFT_SNAPSHOT message, just stepped, are to be taken in. */
bool raft_snapshot_welcome(const struct raft *raft, const struct raft_msg *msg);
/* Term of an index between base and last; 0 elsewhere. */
struct term raft_term_at(const struct raft *raft, struct log_index index);
/* The membership in force at an applied index, to be kept with a checkpoint. */
bool raft_config_at(const struct raft *raft, struct log_index index,
                    struct raft_config *out);

void raft_verify(const struct raft *raft);
