/* SPDX-License-Identifier: Apache-2.0 */
/* meta - the state that all servers share: servers, keyspaces, shards and where their
 * replicas should be.  Pure: a view built from items, and functions that plan changes to it.
 *
 * The meta shard is group 0, an ordered shard like any other: its state are items in its
 * store, its entries are effects, its snapshots and digests those of every shard.  The keys:
 *
 *   "c"         struct meta_cluster          "s/<id>"   struct meta_server
 *   "k/<name>"  struct meta_keyspace         "g/<id>"   struct meta_shard
 *
 * with values of one version byte (1), then the fields in order.  Every server keeps a view
 * (struct meta) by meta_apply() of each effect of group 0 that commits.  The meta leader
 * evaluates changes one at a time, against the committed view: meta_command() and
 * meta_plan() write effects; nothing else changes the state.
 *
 * Placement is a target.  A shard's record says who should be voter and learner; the
 * shard's own leader moves its Raft membership there, one safe step at a time
 * (meta_next_config()), and says so when it has arrived (meta_arrived()).  Who was in an
 * earlier target and has not been seen to be out is in `old`: a server is forgotten only
 * when no shard has it in either.
 */
#pragma once

#include "base/hmap.h"
#include "base/ids.h"
#include "data/effect.h"
#include "meta/policy.h"
#include "raft/raft.h"
#include "resp/reply.h"

enum {
    META_NAME_MAX = 64,
    META_ADDRESS_MAX = 255,
    META_GROUP = 0,
    META_FEATURE = 1, /* the newest feature level that this version speaks */
    META_SERVERS_MAX = RAFT_PEERS_MAX, /* all of them follow the meta shard */
    META_REPLICAS_MAX = 16,            /* of a shard, as its record names them */
};

struct meta_text { /* a short text with its length; zero terminated too */
    uint8_t len;
    char at[META_ADDRESS_MAX + 1];
};

/* A feature level says which kinds of entries, records and message fields there may be.  The
 * cluster's is one that every member speaks: the meta leader raises it when the last of them
 * does (meta_raise()), and it never falls, since what is written stays.  So who adds a kind adds
 * one to META_FEATURE, and writes that kind only while the cluster's level is no lower. */
struct meta_cluster {
    struct cluster_id id;
    uint32_t feature;
    uint32_t next_server, next_keyspace, next_group;
};

/*          SERVER DRAIN            SERVER REMOVE
 *   ACTIVE ────────────► DRAINING ─────────────► LEAVING ──► its record is gone
 *     ▲  └──────────────────┼───────────────────────┘ ▲
 *     └──── SERVER ACTIVATE ┴─────────────────────────┘
 */
enum meta_server_state {
    SERVER_ACTIVE = 1,
    SERVER_LEAVING,  /* as DRAINING, and it is forgotten when it holds nothing more */
    SERVER_DRAINING, /* is given nothing, and what it has goes to others */
    SERVER_STATE_END
};

struct meta_server {
    struct server_id id;
    enum meta_server_state state;
    struct meta_text name, client, peer, zone;
    struct incarnation joined;  /* the life in which it asked for its id */
    bool shrink;                /* draining: also where nobody can take its place */
    struct server_id successor; /* draining: who takes its place if it can; 0: whoever */
};

enum meta_keyspace_state { /* settle.c tells how one comes of the other */
                           KEYSPACE_CREATING =
                               1, /* no shards yet; its keys are default's, which refuses writes */
                           KEYSPACE_ACTIVE,
                           KEYSPACE_REFUSED, /* it would have hidden keys; its removal follows in the same entry */
                           KEYSPACE_DROPPING, /* its keys are still routed to its shards, which refuse them */
                           KEYSPACE_STATE_END
};

struct meta_keyspace {
    uint32_t id;
    enum meta_keyspace_state state;
    uint64_t hidden; /* REFUSED: how many keys of default it would have hidden */
    struct meta_text name;
    struct policy policy;
};

/* How an epoch begins that an operator asked for (FORCE):
 *
 *     NONE ──FORCE──► FENCED ──reports──► NAMED ──FORCE──► FENCED, of the next epoch
 *
 * FENCED: no replica that sees this follows a leader of an older epoch, or is elected, and each
 * says how far its log goes.  NAMED: the one that had the longest of those logs leads the epoch
 * first, alone as voter (raft.h, Epochs); the planner gives it others.  Whoever leads the meta shard decides, so a change
 * of that leader costs the reports, which are made again. */
enum { META_HEARD_ENOUGH = 0x80 };
enum meta_decree { DECREE_NONE = 0, DECREE_FENCED, DECREE_NAMED, DECREE_END };

struct meta_shard {
    struct group_id group;
    uint32_t keyspace; /* id; 0: the meta shard itself */
    uint16_t slot_first, slot_last;
    uint32_t epoch;
    struct server_id
        founder;           /* of the first record's voters: stands first in the new group;
                                 * never changed (server 1 for meta).  See meta_unborn() */
    uint64_t version;      /* counts targets, from 0; a membership names its own */
    bool settled;          /* its leader has said that the membership is this target */
    struct server_id lead; /* who should lead; 0: whoever */
    bool pinned;           /* by an operator: `lead` is not balanced */
    enum meta_decree decree; /* of `epoch` */
    struct server_id named;  /* NAMED: who leads it first */
    uint8_t heard;           /* NAMED: replicas that answered before it was decided, and
                               * META_HEARD_ENOUGH if these are sure to include every
                               * acknowledged write */
    uint8_t n_voters, n_learners, n_old;
    struct server_id voters[META_REPLICAS_MAX], learners[META_REPLICAS_MAX];
    struct server_id old[META_REPLICAS_MAX]; /* may hold a replica that is to go */
    uint64_t changed; /* not of the record: the view's version when it changed last */
};

struct meta {
    struct mem *mem;
    uint32_t speaks; /* the newest level that may be read here */
    struct meta_cluster cluster;
    bool founded;                 /* the cluster record is there */
    struct meta_server **servers; /* by id */
    uint32_t n_servers;
    struct meta_keyspace **keyspaces; /* by id */
    uint32_t n_keyspaces;
    struct meta_shard **shards; /* by group */
    uint32_t n_shards;
    uint64_t version;        /* counts changes; routing caches compare it */
    uint64_t version_others; /* when anything but a shard changed last */
    uint64_t
        version_keyspaces; /* when a keyspace did: keys may be another shard's since */
    struct hmap by_name, by_group;
    struct hmap by_keyspace; /* id: its shards in order of slots, for meta_route() */
};

void meta_init(struct meta *m, struct mem *mem, uint32_t speaks);
void meta_free(struct meta *m);
/* False: an effect that this build cannot read; the caller stops rather than guess. */
MUST_USE bool meta_apply(struct meta *m, const struct effect *e);

/* ---- looking up ---- */
const struct meta_server *meta_server(const struct meta *m, struct server_id id);
const struct meta_server *meta_server_named(const struct meta *m, struct bytes name);
const struct meta_keyspace *meta_keyspace_named(const struct meta *m, struct bytes name);
const struct meta_keyspace *meta_keyspace(const struct meta *m, uint32_t id);
const struct meta_shard *meta_shard(const struct meta *m, struct group_id group);
/* The text of a key before its first ':', a leading '{' skipped: what names its keyspace.
 * False: there is none, or it is longer than a name can be. */
bool meta_key_prefix(struct bytes key, struct bytes *name);
/* The keyspace of a key: the one that its prefix names, if there is one that has its shards,
 * else default.  Hot path. */
const struct meta_keyspace *meta_keyspace_of(const struct meta *m, struct bytes key);
const struct meta_shard *meta_route(const struct meta *m, struct bytes key);
/* The i-th shard of a keyspace in order of slots, NULL past the last. */
const struct meta_shard *meta_shard_of(const struct meta *m, uint32_t keyspace,
                                       uint32_t i);
bool meta_server_has(const struct meta_shard *s, struct server_id id);
/* ... or was a member, and has not been seen to be out. */
bool meta_server_may_have(const struct meta_shard *s, struct server_id id);
/* It is not known yet that its group has begun.  Each of its first voters begins it by itself, in the
 * same state: empty, with the voters and rules of this record.  So these stay as they are until its
 * leader has said that it is settled, and from then on nobody begins it any more. */
bool meta_unborn(const struct meta_shard *s);
bool meta_has_unborn(const struct meta *m, uint32_t keyspace); /* one of its shards */

/* Who should be a member of a shard's group: its record's voters and learners, and as learners
 * of the meta shard all other servers there are, which its record does not repeat. */
struct meta_target {
    uint64_t version;
    uint32_t n_voters, n_learners;
    struct server_id voters[META_REPLICAS_MAX], learners[META_SERVERS_MAX];
};
void meta_target_of(const struct meta *m, const struct meta_shard *s,
                    struct meta_target *out);

/* ---- changes, at the meta leader ---- */
struct meta_joiner {
    struct bytes name, client, peer, zone;
    struct incarnation life;
};

/* How a server seems to the meta leader. */
enum meta_health {
    HEALTH_ALIVE = 1, /* heard lately */
    HEALTH_SILENT,
    HEALTH_LOST, /* silent for so long that its replicas are to be made elsewhere */
};
struct meta_judge { /* NULL: all are alive */
    enum meta_health (*health)(void *ctx, struct server_id id);
    void *ctx;
};
/* What changes are written to: encoded effects, one entry's payload. */
struct meta_change {
    struct buf *effects;
};

/* The first entry of a new cluster: cluster, server 1, meta shard, keyspace default. */
void meta_found(struct meta_change *out, struct cluster_id id, uint32_t feature,
                const struct meta_server *founder);
/* KEYSPACE CREATE, ALTER and DROP: writes effects and a reply, or only an error reply.  The change
 * is only begun when they are committed: the reply is the keyspace's id, by which the end can be
 * told in the view (of ALTER: when all its shards are settled).  LIST and INFO: only a reply, from
 * the view. */
void meta_command(const struct meta *m, const struct bytes *args, uint32_t n_args,
                  struct meta_change *out, struct reply *reply);
/* The keyspace (id) whose shards must close themselves for `k` to go on; 0: none. */
uint32_t meta_closes(const struct meta_keyspace *k);
/* Whether shard `s` is known to be closed for the sake of `k`, and how many keys of k's name
 * it has. */
typedef bool meta_closed_fn(void *ctx, const struct meta_keyspace *k,
                            const struct meta_shard *s, uint64_t *keys);
/* The next keyspace that is being created or dropped and whose shards are all closed: made
 * active, refused, or gone.  One call settles one.  True when effects were written. */
bool meta_settle(const struct meta *m, const struct meta_judge *judge,
                 meta_closed_fn *closed, void *ctx, struct meta_change *out);
/* A join: effects and the id given, or false and why (name in use with another address...).
 * The same life that asks again, since the answer was lost, gets the same id.  Another life
 * without a memory of its own (its disk was lost) never gets the old id back, for it has
 * forgotten what it promised under it: it is given a new one if no shard but the meta shard's
 * learners ever counted on the old, and is refused else. */
bool meta_join(const struct meta *m, const struct meta_joiner *joiner,
               struct meta_change *out, struct server_id *id, const char **why);
/* The cluster's feature level becomes what all members speak; 0: of that one it is not known.
 * True when effects were written, false when one holds it up or it is so already. */
bool meta_raise(const struct meta *m, uint32_t (*speaks)(void *ctx, struct server_id id),
                void *ctx, struct meta_change *out);
/* The record of server `self` brought up to what it was started with (addresses, zone):
 * true when effects were written, false when it is so already or has no record. */
bool meta_update_self(const struct meta *m, struct server_id self, struct bytes client,
                      struct bytes peer, struct bytes zone, struct meta_change *out);
/* The next step towards what should be: targets of shards that are short of REPLICAS or
 * LEARNERS or have members that drain or are lost, the meta shard's own to 3 (5 with 5 or more
 * servers); then, a few at a time, moves that spread over zones and evenly over servers; then
 * who should lead.  Only servers that are alive are given new replicas.  Voters are 1, 3 or 5;
 * what an even REPLICAS asks for beyond them is a learner.  All servers follow the meta shard,
 * as learners if not voters.  One call looks at some shards, in turn, and writes the changes of a
 * few, or forgets one server; and returns at once while nothing has changed since it found nothing
 * to do.  True when effects were written: they are to be applied before the next call. */
struct meta_planner {        /* zeroed at first: what a call leaves to the next */
    uint64_t health, others; /* hash, and version_others, which the round is for */
    uint64_t version;        /* the view's when the round began */
    uint32_t step, at,
        left;        /* of the round: at which shard next, and how many are left */
    uint32_t looked; /* shards that the last call looked at */
    bool rests;      /* a round found nothing to do */
};
bool meta_plan(const struct meta *m, const struct meta_judge *judge,
               struct meta_planner *planner, struct meta_change *out);
/* The leader of a group has seen its membership become the target of this version. */
bool meta_arrived(const struct meta *m, struct group_id group, uint64_t version,
                  struct meta_change *out);
/* An operator wants this server to lead the group, for as long as it can. */
bool meta_prefer(const struct meta *m, struct group_id group, struct server_id lead,
                 struct meta_change *out);
/* FORCE: every shard of the keyspace is fenced; `lead` is to lead in the end, 0: whoever.
 * False, and nothing is changed: there is no such keyspace, a shard has no replica on `lead`, or
 * an epoch number is left for none of its shards. */
bool meta_force(const struct meta *m, uint32_t keyspace, struct server_id lead,
                struct meta_change *out);
/* Of a fenced shard: what `n` replicas have reported.  The longest log leads, be it of one that is
 * to go: on the way to a target the voters may be those of before. */
struct meta_fenced {
    struct server_id id;
    struct term last_term;
    struct log_index last;
    bool doubtful; /* its log may lack what it acknowledged */
};
bool meta_decree(const struct meta *m, struct group_id group, uint32_t epoch,
                 const struct meta_fenced *reports, uint32_t n, struct meta_change *out);
/* FAILOVER manual: another member is to be the one voter.  False, and nothing is changed: that
 * is not the keyspace's policy (any more), or a shard has no replica there. */
bool meta_move_voter(const struct meta *m, uint32_t keyspace, struct server_id to,
                     struct meta_change *out);
/* Replicas that must have answered for nothing that was acknowledged to be lost. */
uint32_t meta_force_needs(const struct policy *policy, const struct meta_shard *s);
/* SERVER DRAIN|REMOVE|REPLACE|ACTIVATE, as meta_command(). */
void meta_server_command(const struct meta *m, const struct meta_judge *judge,
                         const struct bytes *args, uint32_t n_args,
                         struct meta_change *out, struct reply *reply);
/* sennit recover: `self` alone, in a new cluster, with every shard that it has a replica of
 * (`epoch` gives the epoch that begins, 0: it has none); the others begin anew, empty. */
void meta_recover(const struct meta *m, struct server_id self, struct cluster_id id,
                  uint32_t (*epoch)(void *ctx, const struct meta_shard *shard), void *ctx,
                  struct meta_change *out);
/* Shards of which it holds a replica, or may still hold one. */
uint32_t meta_held(const struct meta *m, struct server_id id);
/* It was a member, and is none any more: ids are not given twice. */
bool meta_was_removed(const struct meta *m, struct server_id id);
/* What a policy asks of a shard with so many voters; NULL, the meta shard: consensus. */
struct raft_rules meta_rules(const struct policy *policy, uint32_t n_voters);
/* The next membership that moves `now` towards a shard's target: learners first, and voters
 * in one joint step once `caught_up` says so of every one that is added.  The rules come with
 * the voters, or last.  False: nothing to do. */
bool meta_next_config(const struct meta_target *target, const struct policy *policy,
                      const struct raft_members *now,
                      bool (*caught_up)(void *ctx, struct server_id id), void *ctx,
                      struct raft_config *next);
/* Whether the membership and its rules are the target, and follow this very version of it. */
bool meta_config_is(const struct meta_target *target, const struct policy *policy,
                    const struct raft_members *now);
