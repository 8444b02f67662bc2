/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/checks.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/hash.h"
#include "sim/client.h"
#include "sim/roam.h"

enum {
    GROUPS_MAX = 256,
    VERIFY_EVERY = 16,
    EPOCHS_MAX = 16,
    RECENT_MAX = 128,
    ENTRY_BYTES = 64,
};

struct committed {
    struct term term;
    struct term in; /* that of the replica which knew of the commit first */
    uint64_t hash;  /* of kind and payload; 0: not seen */
    uint64_t bytes;
    uint32_t by; /* machine that was first */
};

struct moment_of_commit {
    uint64_t at_ns, index;
};

struct log_end {
    struct term term;
    struct log_index index;
};

/* What was committed in an epoch.  It begins with what its first leader had, which need not be
 * all that was committed before: that is what FORCE and recovery may give up. */
struct history {
    uint32_t epoch;
    bool own;                  /* something was committed in this epoch itself */
    struct log_end before;     /* of what its first leader had of older epochs */
    struct committed *entries; /* by index, from 1 */
    uint64_t n, cap;
};

struct group_check {
    struct group_id group;
    struct hmap leaders;               /* term -> machine + 1 */
    struct history epochs[EPOCHS_MAX]; /* those that had a leader, oldest first */
    uint32_t n_epochs;
    struct moment_of_commit recent[RECENT_MAX]; /* a ring, by time; only with MAXLAG */
    uint64_t n_recent;
};

struct replica_check {
    bool seen; /* in this life */
    struct log_index commit, base, checked;
    struct log_index held[PLAN_MACHINES_MAX]; /* by a follower that answers and finds the
                                               * rest in this leader's log; 0: not so */
    uint32_t epoch;                           /* when it was looked at last ... */
    struct log_end last;                      /* ... and how far its log went */
    struct term led;                          /* the newest term it led ... */
    struct term committed;                    /* ... and in which it committed */
    bool joint;
    struct log_index config_index;
    bool doubtful; /* outlives the life */
    bool quiet;
    uint64_t woke_ns;   /* when it was silent last; 0: counted */
    uint64_t orphan_ns; /* since when it is silent and nobody leads so; 0: not so */
};

struct checks {
    struct group_check groups[GROUPS_MAX];
    uint32_t n_groups;
    struct replica_check replicas[PLAN_MACHINES_MAX][GROUPS_MAX];
    struct server_id ids[PLAN_MACHINES_MAX]; /* 0: not joined yet */
    uint64_t turns[PLAN_MACHINES_MAX];
    uint32_t level; /* the highest that a server has known */
};

struct checks *checks_new(struct world *w)
{
    return mem_zero(&w->mem, sizeof(struct checks));
}

static uint32_t group_of(struct world *w, struct group_id group)
{
    struct checks *c = w->checks;

    for (uint32_t i = 0; i < c->n_groups; i++)
        if (c->groups[i].group.v == group.v) return i;
    check(c->n_groups < GROUPS_MAX);
    c->groups[c->n_groups] = (struct group_check){.group = group,
                                                  .leaders = hmap_new(&w->mem)};
    return c->n_groups++;
}

void checks_life_begins(struct world *w, uint32_t machine)
{
    for (uint32_t i = 0; i < GROUPS_MAX; i++) {
        struct replica_check *r = &w->checks->replicas[machine][i];
        *r = (struct replica_check){.doubtful = r->doubtful};
    }
}

void checks_wiped(struct world *w, uint32_t machine)
{
    w->checks->ids[machine].v = 0;
    memset(w->checks->replicas[machine], 0, sizeof w->checks->replicas[machine]);
}

void checks_life_ends(struct world *w, uint32_t machine)
{
    checks_life_begins(w, machine);
}

void checks_log_line(struct world *w, uint32_t machine, const char *text)
{
    (void)machine;
    if (strstr(text, "not written whole") != NULL) w->report.marks[MARK_torn_tails]++;
}

/* ---- epochs ---- */

static struct history *history_of(struct group_check *g, uint32_t epoch)
{
    for (uint32_t i = 0; i < g->n_epochs; i++)
        if (g->epochs[i].epoch == epoch) return &g->epochs[i];
    return NULL;
}

static const struct history *newest_history(const struct group_check *g)
{
    static const struct history none = {.epoch = 0};

    return g->n_epochs > 0 ? &g->epochs[g->n_epochs - 1] : &none;
}

static struct committed *committed_at(struct world *w, struct history *h, uint64_t index)
{
    if (index > h->cap) {
        uint64_t cap = h->cap > 0 ? h->cap * 2 : 256;
        while (cap < index)
            cap *= 2;
        h->entries = mem_resize(&w->mem, h->entries, h->cap * sizeof *h->entries,
                                cap * sizeof *h->entries);
        memset(h->entries + h->cap, 0, (cap - h->cap) * sizeof *h->entries);
        h->cap = cap;
    }
    if (index > h->n) h->n = index;
    return &h->entries[index - 1];
}

static bool is_longer(struct log_end a, struct log_end b)
{
    if (a.term.v != b.term.v) return a.term.v > b.term.v;
    return a.index.v > b.index.v;
}

/* Of what is older than `epoch` in this log. */
static struct log_end end_before(uint32_t epoch, const struct raft *raft,
                                 const struct raft_info *info)
{
    struct log_index at = info->last;

    while (at.v > info->base.v && term_epoch(raft_term_at(raft, at)) >= epoch)
        at.v--;
    return (struct log_end){raft_term_at(raft, at), at};
}

/* The newest epoch before `epoch` that wrote something into its first leader's log. */
static const struct history *history_before(const struct group_check *g, uint32_t epoch,
                                            struct log_end before)
{
    const struct history *found = NULL;
    const uint32_t newest = term_epoch(before.term);

    for (uint32_t i = 0; i < g->n_epochs; i++)
        if (g->epochs[i].epoch < epoch && g->epochs[i].epoch <= newest)
            found = &g->epochs[i];
    return found;
}

/* Its history is that of the epoch before as far as the first leader's log follows it.  Once
 * more, if that one ended before it had committed anything, and comes back with less. */
static void epoch_begins(struct world *w, uint32_t machine, struct group_check *g,
                         const struct raft *raft, const struct raft_info *info)
{
    const uint32_t epoch = term_epoch(info->term);
    struct history *h = history_of(g, epoch);

    if (h != NULL && h->own) return;
    if (h == NULL) {
        uint32_t at = g->n_epochs++;
        check(g->n_epochs <= EPOCHS_MAX);
        for (; at > 0 && g->epochs[at - 1].epoch > epoch; at--)
            g->epochs[at] = g->epochs[at - 1];
        g->epochs[at] = (struct history){.epoch = epoch};
        h = &g->epochs[at];
    }
    const struct log_end end = end_before(epoch, raft, info);
    const struct history *before = history_before(g, epoch, end);
    if (is_longer(end, h->before)) h->before = end;
    h->n = 0;
    for (uint64_t i = 1; before != NULL && i <= before->n && i <= info->last.v; i++) {
        const struct committed *c = &before->entries[i - 1];
        const struct term term = raft_term_at(raft, (struct log_index){i});
        if (i > info->base.v && c->term.v != term.v) break;
        *committed_at(w, h, i) = *c;
        /* What was recovered was brought into a store, as if in a term of the new epoch. */
        if (i == info->base.v)
            *committed_at(w, h,
                          i) = (struct committed){.term = term, .in = c->in, .by = c->by};
    }
    if (epoch == 0 || g->group.v == 0) return;
    w->report.marks[MARK_epochs]++;
    faults_moment(w, MOMENT_EPOCH, machine);
}

uint32_t checks_epoch(const struct world *w, struct group_id group)
{
    const struct checks *c = w->checks;

    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct group_check *g = &c->groups[i];
        if (g->group.v == group.v && g->n_epochs > 0)
            return g->epochs[g->n_epochs - 1].epoch;
    }
    return 0;
}

/* ---- K2 ---- */

/* Whose leader said that this is committed: of the epoch that the replica is in, or, if it came
 * into that in this very turn, perhaps of the one before.  One that is fenced and follows nobody
 * may still find that it had been the only voter. */
static struct history *history_here(struct group_check *g, const struct replica_check *r,
                                    const struct raft *raft, const struct raft_info *info,
                                    uint64_t index)
{
    const uint32_t epoch = term_epoch(info->term);
    struct history *h = history_of(g, epoch);

    if (term_epoch(info->last_term) < epoch && info->leader.v == 0)
        return history_of(g, term_epoch(info->last_term));
    if (!r->seen || r->epoch == epoch) return h;
    const struct term here = raft_term_at(raft, (struct log_index){index});
    if (h != NULL && index <= h->n && h->entries[index - 1].term.v == here.v) return h;
    struct history *before = history_of(g, r->epoch);
    return before != NULL ? before : h;
}

static void check_committed(struct world *w, uint32_t machine,
                            const struct group_check *g, struct history *h,
                            const struct raft *raft, struct term in, uint64_t index)
{
    struct raft_entry e;
    const struct log_index at = {index};
    const struct term term = raft_term_at(raft, at);
    uint64_t hash = 0;

    if (term.v == 0) return; /* below its base */
    if (h == NULL)
        world_fail(w,
                   "group %" PRIu32 ", index %" PRIu64
                   ": s%u has it committed in epoch %u, "
                   "which has had no leader (K2)",
                   g->group.v, index, machine + 1, term_epoch(in));
    struct committed *c = committed_at(w, h, index);
    h->own = h->own || term_epoch(term) == h->epoch;
    if (raft_entry_at(raft, at, &e)) {
        hash = hash64_seed(e.payload, (uint64_t)e.kind) | 1;
        c->bytes = e.payload.len + ENTRY_BYTES;
    }
    if (c->term.v == 0) {
        roamers_committed(w, hash == 0 ? NULL : &e);
        *c = (struct committed){term, in, hash, c->bytes, machine};
        return;
    }
    if (c->term.v != term.v)
        world_fail(w,
                   "group %" PRIu32 ", index %" PRIu64
                   ": s%u has an entry of term %" PRIu64
                   " committed, s%u had one of term %" PRIu64 " (K2)",
                   g->group.v, index, machine + 1, term.v, c->by + 1, c->term.v);
    if (c->hash != 0 && hash != 0 && c->hash != hash)
        world_fail(w,
                   "group %" PRIu32 ", index %" PRIu64
                   ": s%u and s%u committed different "
                   "entries in term %" PRIu64 " (K2)",
                   g->group.v, index, machine + 1, c->by + 1, term.v);
    if (c->hash == 0) c->hash = hash;
}

/* ---- K1, K3 ---- */

static void check_complete(struct world *w, uint32_t machine, struct group_check *g,
                           const struct raft *raft, const struct raft_info *info)
{
    const struct history *h = history_of(g, term_epoch(info->term));
    uint64_t index = h->n;

    /* What later terms committed before this one noticed that it won is not its concern, also
     * when the entry itself is older. */
    while (index > 0 && h->entries[index - 1].in.v >= info->term.v)
        index--;
    if (index == 0 || index < info->base.v) return;
    const struct term term = raft_term_at(raft, (struct log_index){index});
    if (info->last.v < index || term.v != h->entries[index - 1].term.v)
        world_fail(w,
                   "group %" PRIu32 ": s%u leads term %" PRIu64
                   " without the entry that was "
                   "committed at %" PRIu64 " (its log ends at %" PRIu64 ") (K3)",
                   g->group.v, machine + 1, info->term.v, index, info->last.v);
}

static void check_leader(struct world *w, uint32_t machine, struct group_check *g,
                         struct replica_check *r, const struct raft *raft,
                         const struct raft_info *info)
{
    void *found = hmap_find(&g->leaders, info->term.v);

    if (found == NULL)
        (void)hmap_put(&g->leaders, info->term.v, (void *)(uintptr_t)(machine + 1));
    else if ((uintptr_t)found != machine + 1)
        world_fail(w, "group %" PRIu32 ": s%u and s%u both lead term %" PRIu64 " (K1)",
                   g->group.v, machine + 1, (unsigned)(uintptr_t)found, info->term.v);
    if (r->led.v == info->term.v) return;
    r->led = info->term;
    epoch_begins(w, machine, g, raft, info);
    if (g->group.v != 0) faults_moment(w, MOMENT_LEADS, machine);
    w->report.marks[MARK_elections]++;
    world_say(w, "     s%u leads group %" PRIu32 " in term %" PRIu64 ", last %" PRIu64,
              machine + 1, g->group.v, info->term.v, info->last.v);
    check_complete(w, machine, g, raft, info);
}

/* ---- after a turn ---- */

static void put_ids(struct buf *out, const struct server_id *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        buf_putf(out, " %" PRIu32, ids[i].v);
}

static void tell_config(struct world *w, uint32_t machine, const struct group_check *g,
                        const struct raft_info *info)
{
    const struct raft_members *c = &info->config;

    if (!w->verbose) return;
    struct buf text = buf_new(&w->mem);
    put_ids(&text, c->voters, c->n_voters);
    buf_putf(&text, "; old");
    put_ids(&text, c->old, c->n_old);
    buf_putf(&text, "; learners");
    put_ids(&text, c->learners, c->n_learners);
    buf_putf(&text, "; early %d ack %u", c->rules.early, c->rules.ack);
    world_say(w, "     s%u: group %" PRIu32 " membership at %" PRIu64 ":%.*s",
              machine + 1, g->group.v, info->config_index.v, (int)text.len,
              (const char *)text.at);
    buf_free(&text);
}

static void note(struct world *w, uint32_t machine, const struct group_check *g,
                 struct replica_check *r, const struct raft_info *info)
{
    uint64_t *marks = w->report.marks;

    if (r->seen && info->base.v > 1 && info->base.v > r->commit.v) {
        marks[MARK_snapshots]++;
        world_say(w, "     s%u took a snapshot of group %" PRIu32 " at %" PRIu64,
                  machine + 1, g->group.v, info->base.v);
    }
    if (r->seen && info->config_index.v > r->config_index.v) {
        marks[MARK_config_changes]++;
        tell_config(w, machine, g, info);
    }
    if (info->doubtful != r->doubtful) {
        marks[info->rebooted   ? MARK_rebooted
              : info->doubtful ? MARK_doubtful
                               : MARK_repaired]++;
        world_say(w, "     s%u: group %" PRIu32 " is %s", machine + 1, g->group.v,
                  info->doubtful ? "doubtful" : "whole again");
    }
    if (r->seen && info->quiet != r->quiet) {
        marks[info->quiet ? MARK_silences : MARK_wakes]++;
        r->woke_ns = info->quiet ? 0 : w->time.now_ns;
    }
    /* Before its own timer could have run out. */
    if (r->woke_ns != 0 && info->role == RAFT_PRECANDIDATE) {
        marks[MARK_bereaved] += w->time.now_ns < r->woke_ns + 900 * MS_NS;
        r->woke_ns = 0;
    }
    r->quiet = info->quiet;
    r->doubtful = info->doubtful;
    r->config_index = info->config_index;
}

static void tell_moments(struct world *w, uint32_t machine, struct replica_check *r,
                         const struct raft_info *info)
{
    if (info->transferring) faults_moment(w, MOMENT_TRANSFER, machine);
    if (info->joint && !r->joint) faults_moment(w, MOMENT_JOINT, machine);
    if (r->committed.v != info->term.v && info->commit.v > r->commit.v && r->seen) {
        r->committed = info->term;
        faults_moment(w, MOMENT_COMMITS, machine);
    }
}

/* ---- K7 ---- */

static const struct machine *machine_of(const struct world *w, struct server_id id);

static bool leads_in(const struct world *w, struct server_id id, struct group_id group,
                     struct term term)
{
    const struct machine *m = machine_of(w, id);
    const struct shard *s = m == NULL ? NULL : world_replica(m, group);
    struct raft_info info;

    if (s == NULL) return false;
    raft_info(shard_raft(s), &info);
    return info.role == RAFT_LEADER && info.term.v == term.v;
}

/* R115: who is silent is led, and a leader that was deposed, or died, is not believed in for
 * much longer than an election timeout. */
static void check_silence(struct world *w, uint32_t machine, struct group_id group,
                          struct replica_check *r, const struct raft_info *info)
{
    enum { ORPHAN_MS = 2500 };

    if (!info->quiet || leads_in(w, info->leader, group, info->term)) {
        r->orphan_ns = 0;
        return;
    }
    if (r->orphan_ns == 0) r->orphan_ns = w->time.now_ns;
    if (w->time.now_ns > r->orphan_ns + ORPHAN_MS * MS_NS)
        world_fail(w,
                   "group %" PRIu32 ": s%u is silent, and server %" PRIu32
                   " does not lead term %" PRIu64 " any more (K7)",
                   group.v, machine + 1, info->leader.v, info->term.v);
}

/* ---- K8 ---- */

static void check_level(struct world *w, uint32_t machine)
{
    struct checks *c = w->checks;
    const uint32_t level = server_feature(w->machines[machine].life->server);

    if (level <= c->level) return;
    w->report.marks[MARK_raised] += c->level != 0;
    c->level = level;
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (!m->started || m->feature >= level) continue;
        if (w->time.now_ns < m->put_back_until_ns) continue;
        world_fail(w,
                   "the level is %" PRIu32 ", and s%" PRIu32 " speaks %" PRIu32 " (K8)",
                   level, i + 1, m->feature);
    }
}

/* ---- K9 ---- */

static void note_commit(const struct world *w, struct group_check *g)
{
    const uint64_t known = g->n_recent > 0
                               ? g->recent[(g->n_recent - 1) % RECENT_MAX].index
                               : 0;

    const uint64_t n = newest_history(g)->n;
    if (w->plan->maxlag_ms == 0 || n == known) return;
    g->recent[g->n_recent++ % RECENT_MAX] = (struct moment_of_commit){w->time.now_ns, n};
}

static uint64_t committed_by(const struct group_check *g, uint64_t time_ns)
{
    const uint64_t n = g->n_recent < RECENT_MAX ? g->n_recent : RECENT_MAX;

    for (uint64_t i = 1; i <= n; i++) {
        const struct moment_of_commit *c = &g->recent[(g->n_recent - i) % RECENT_MAX];
        if (c->at_ns <= time_ns) return c->index;
    }
    return 0;
}

/* By the time of the world: what the replica's own clock tells it is not asked. */
static void check_lag(struct world *w, uint32_t machine, const struct group_check *g,
                      const struct shard *s)
{
    const uint64_t lag_ns = w->plan->maxlag_ms * MS_NS;
    const struct machine *m = &w->machines[machine];

    if (lag_ns == 0 || w->time.now_ns < lag_ns) return;
    if (!shard_is_fresh(s, world_instant(m), lag_ns)) return;
    const uint64_t committed = committed_by(g, w->time.now_ns - lag_ns);
    if (shard_applied(s).v < committed)
        world_fail(
            w,
            "group %" PRIu32 ": s%u takes itself for fresh and has applied %" PRIu64
            " of %" PRIu64 " that were committed %" PRIu32 " ms ago (K9)",
            g->group.v, machine + 1, shard_applied(s).v, committed, w->plan->maxlag_ms);
}

/* ---- K10 ---- */

/* The log keeps entries by the mean of their sizes, and files whole, of all groups and with
 * what else is written: so the part of its bound that is sure to be there is asked for. */
enum { KEEP_PART = 2 };

/* What it lacks of the leader's log; false: it can't be told. */
static bool lacks_bytes(const struct group_check *g, const struct raft_info *leader,
                        struct log_index held, uint64_t *bytes)
{
    const struct history *h = newest_history(g);

    *bytes = leader->uncommitted_bytes;
    for (uint64_t i = held.v + 1; i <= h->n; i++) {
        if (h->entries[i - 1].bytes == 0) return false;
        *bytes += h->entries[i - 1].bytes;
    }
    return true;
}

static void check_snapshot(struct world *w, uint32_t machine, const struct group_check *g,
                           const struct raft_info *leader, struct log_index held,
                           const struct machine *to)
{
    const uint64_t keeps = w->machines[machine].limits.wal_keep_bytes;
    uint64_t bytes;

    if (held.v == 0 || !lacks_bytes(g, leader, held, &bytes)) return;
    if (bytes >= keeps / KEEP_PART) return;
    world_fail(w,
               "group %" PRIu32 ": s%u sends %s a snapshot, which answers, has %" PRIu64
               ", and lacks %" PRIu64 " bytes of a log that keeps %" PRIu64 " (K10)",
               g->group.v, machine + 1, to->name, held.v, bytes, keeps);
}

static void check_snapshots(struct world *w, uint32_t machine,
                            const struct group_check *g, struct replica_check *r,
                            const struct raft *raft, const struct raft_info *info)
{
    struct raft_peer peer;

    if (info->role != RAFT_LEADER) memset(r->held, 0, sizeof r->held);
    for (uint32_t i = 0; raft_peer(raft, i, &peer); i++) {
        const struct machine *to = machine_of(w, peer.id);
        if (to == NULL) continue;
        struct log_index *held = &r->held[to->index];
        const bool sound = peer.active && !peer.doubtful;
        if (sound && peer.snapshotting) check_snapshot(w, machine, g, info, *held, to);
        *held = peer.match;
        if (!sound || peer.snapshotting || peer.match.v < info->base.v) held->v = 0;
    }
}

/* ---- K12 ---- */

/* P5: who is fenced and not led takes nothing, and who is led takes what its leader sends. */
static void check_fence(struct world *w, uint32_t machine, struct group_check *g,
                        const struct replica_check *r, const struct raft_info *info)
{
    const uint32_t epoch = term_epoch(info->term);
    const struct log_end last = {info->last_term, info->last};
    const struct history *h = history_of(g, epoch);

    if (!r->seen || r->epoch != epoch || term_epoch(last.term) >= epoch) return;
    if (!is_longer(last, r->last) || (h != NULL && !is_longer(last, h->before))) return;
    world_fail(w,
               "group %" PRIu32 ": s%u is in epoch %" PRIu32 " and took entry %" PRIu64
               " of term %" PRIu64 ", which that epoch's first leader never had (K12)",
               g->group.v, machine + 1, epoch, last.index.v, last.term.v);
}

static void check_replica(struct world *w, uint32_t machine, const struct shard *s)
{
    const uint32_t at = group_of(w, shard_group(s));
    struct group_check *g = &w->checks->groups[at];
    struct replica_check *r = &w->checks->replicas[machine][at];
    const struct raft *raft = shard_raft(s);
    struct raft_info info;

    raft_info(raft, &info);
    /* Nothing at all: it was retired here, and placed here anew. */
    if (info.last.v == 0) *r = (struct replica_check){0};
    if (r->seen && info.commit.v < r->commit.v)
        world_fail(
            w, "s%u, group %" PRIu32 ": commit went from %" PRIu64 " to %" PRIu64 " (K4)",
            machine + 1, g->group.v, r->commit.v, info.commit.v);
    if (info.applied.v > info.commit.v)
        world_fail(w,
                   "s%u, group %" PRIu32 ": applied %" PRIu64 " beyond commit %" PRIu64
                   " (K4)",
                   machine + 1, g->group.v, info.applied.v, info.commit.v);
    note(w, machine, g, r, &info);
    check_silence(w, machine, g->group, r, &info);
    check_fence(w, machine, g, r, &info);
    if (info.role == RAFT_LEADER) check_leader(w, machine, g, r, raft, &info);
    if (!r->seen) r->checked = info.base;
    for (uint64_t i = r->checked.v + 1; i <= info.commit.v; i++)
        check_committed(w, machine, g, history_here(g, r, raft, &info, i), raft,
                        info.term, i);
    if (info.commit.v > r->checked.v) r->checked = info.commit;
    note_commit(w, g);
    check_lag(w, machine, g, s);
    if (info.role == RAFT_LEADER && g->group.v != 0) tell_moments(w, machine, r, &info);
    check_snapshots(w, machine, g, r, raft, &info);
    r->joint = info.joint;
    r->commit = info.commit;
    r->base = info.base;
    r->epoch = term_epoch(info.term);
    r->last = (struct log_end){info.last_term, info.last};
    r->seen = true;
}

/* ---- K11 ---- */

static void check_identity(struct world *w, uint32_t machine)
{
    const struct server_id self = server_self(w->machines[machine].life->server);
    struct server_id *ids = w->checks->ids;

    if (self.v == ids[machine].v) return;
    if (ids[machine].v != 0)
        world_fail(w, "s%u was server %" PRIu32 " and is server %" PRIu32 " (K11)",
                   machine + 1, ids[machine].v, self.v);
    for (uint32_t i = 0; i < w->plan->machines; i++)
        if (ids[i].v == self.v)
            world_fail(w, "s%u and s%u both are server %" PRIu32 " (K11)", i + 1,
                       machine + 1, self.v);
    ids[machine] = self;
    if (machine > 0) w->report.marks[MARK_joins]++;
}

void checks_after_turn(struct world *w, uint32_t machine)
{
    const struct machine *m = &w->machines[machine];
    struct checks *c = w->checks;

    for (uint32_t i = 0;; i++) {
        const struct shard *s = server_shard(m->life->server, i);
        if (s == NULL) break;
        check_replica(w, machine, s);
    }
    check_level(w, machine);
    if (c->turns[machine]++ % VERIFY_EVERY == 0 && m->life->ready)
        server_verify(m->life->server);
    check_identity(w, machine);
}

/* ---- K6 ---- */

static const struct machine *machine_of(const struct world *w, struct server_id id)
{
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (m->life != NULL && server_self(m->life->server).v == id.v) return m;
    }
    return NULL;
}

static bool tell(struct buf *why, const char *format, ...) PRINTF_LIKE(2, 3);
static bool tell(struct buf *why, const char *format, ...)
{
    char text[200];
    va_list args;

    if (why == NULL) return false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    why->len = 0;
    buf_putf(why, "%s", text);
    return false;
}

static bool member_is_up(struct world *w, struct group_id group, struct server_id id,
                         const struct raft_info *leader, struct buf *why)
{
    const struct machine *m = machine_of(w, id);
    struct raft_info info;

    if (m == NULL) return tell(why, "group %u: server %u is nobody", group.v, id.v);
    const struct shard *s = world_replica(m, group);
    if (s == NULL) return tell(why, "group %u: %s has no replica", group.v, m->name);
    raft_info(shard_raft(s), &info);
    if (info.doubtful) return tell(why, "group %u: %s is doubtful", group.v, m->name);
    if (info.applied.v != leader->commit.v)
        return tell(why, "group %u: %s applied %" PRIu64 " of %" PRIu64, group.v, m->name,
                    info.applied.v, leader->commit.v);
    if (info.term.v != leader->term.v)
        return tell(why, "group %u: %s is in another term", group.v, m->name);
    return true;
}

/* What has moved elsewhere, or was left behind by an epoch, is given up, and perhaps kept aside. */
static bool strangers_gone(struct world *w, struct group_id group,
                           const struct raft_info *leader, struct buf *why)
{
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (world_replica(m, group) == NULL ||
            raft_members_has(&leader->config, server_self(m->life->server)))
            continue;
        return tell(why, "group %u: %s has a replica that is to go", group.v, m->name);
    }
    return true;
}

static uint32_t machines_started(const struct world *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->plan->machines; i++)
        n += w->machines[i].started;
    return n;
}

static bool replicas_vary(const struct plan *plan)
{
    for (uint32_t i = 0; i < PLAN_FAULTS_MAX; i++)
        if (plan->faults[i].kind == FAULT_REPLICAS || plan->faults[i].kind == FAULT_ALTER)
            return true;
    return false;
}

/* Of a keyspace that was dropped: nobody has any of it. */
static bool is_dropped(struct world *w, struct group_id group)
{
    for (uint32_t i = 0; i < w->plan->machines; i++)
        if (world_replica(&w->machines[i], group) != NULL) return false;
    return true;
}

static bool group_converged(struct world *w, struct group_id group, struct buf *why)
{
    const int leader = world_leader(w, group);
    struct raft_info info;

    if (is_dropped(w, group)) return true;
    if (leader < 0) return tell(why, "group %u has no leader", group.v);
    const struct shard *s = world_replica(&w->machines[leader], group);
    raft_info(shard_raft(s), &info);
    if (!info.ready) return tell(why, "group %u: its leader is not ready", group.v);
    if (info.joint || !info.config_committed)
        return tell(why, "group %u: its membership is half changed", group.v);
    if (info.commit.v != info.last.v || info.applied.v != info.last.v)
        return tell(why, "group %u: the leader has committed %" PRIu64 " of %" PRIu64,
                    group.v, info.commit.v, info.last.v);
    const uint32_t servers = machines_started(w);
    const bool one = group.v == world_first_group(w).v && clients_one_voter(w);
    const uint32_t wanted = servers < 3 || one ? 1 : 3;
    const bool varies = replicas_vary(w->plan) && group.v != 0 && w->storm_ns > 0;
    if (!varies && info.config.n_voters < wanted)
        return tell(why, "group %u has %u voters", group.v, info.config.n_voters);
    if (group.v == 0 && info.config.n_voters + info.config.n_learners < servers)
        return tell(why, "the meta shard is not followed by every server");
    for (uint32_t i = 0; i < info.config.n_voters; i++)
        if (!member_is_up(w, group, info.config.voters[i], &info, why)) return false;
    for (uint32_t i = 0; i < info.config.n_learners; i++)
        if (!member_is_up(w, group, info.config.learners[i], &info, why)) return false;
    return strangers_gone(w, group, &info, why);
}

static bool level_converged(const struct world *w, struct buf *why)
{
    uint32_t spoken = UINT32_MAX;

    for (uint32_t i = 0; i < w->plan->machines; i++)
        if (w->machines[i].started && w->machines[i].feature < spoken)
            spoken = w->machines[i].feature;
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (!m->started || server_feature(m->life->server) == spoken) continue;
        return tell(why, "all speak level %u, and %s knows of %u", spoken, m->name,
                    server_feature(m->life->server));
    }
    return true;
}

bool checks_converged(struct world *w, struct buf *why)
{
    const struct checks *c = w->checks;

    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (!m->started) continue;
        if (m->life == NULL) return tell(why, "%s is down", m->name);
        if (!m->life->ready) return tell(why, "%s is not ready", m->name);
        if (server_self(m->life->server).v == 0)
            return tell(why, "%s has not joined", m->name);
        if (server_unsettled(m->life->server))
            return tell(why, "%s sees a keyspace that is neither there nor gone",
                        m->name);
    }
    if (c->n_groups < 2) return tell(why, "no shard has been seen yet");
    for (uint32_t i = 0; i < c->n_groups; i++)
        if (!group_converged(w, c->groups[i].group, why)) return false;
    return level_converged(w, why);
}

bool checks_holds_nothing(struct world *w, uint32_t machine)
{
    const struct checks *c = w->checks;

    for (uint32_t i = 0; i < c->n_groups; i++) {
        const int leader = world_leader(w, c->groups[i].group);
        struct raft_info info;
        if (c->groups[i].group.v == 0) continue;
        if (leader < 0) return false;
        raft_info(shard_raft(world_replica(&w->machines[leader], c->groups[i].group)),
                  &info);
        if (raft_members_has(&info.config, c->ids[machine])) return false;
    }
    return true;
}

bool checks_led(struct world *w)
{
    const struct checks *c = w->checks;

    for (uint32_t i = 0; i < c->n_groups; i++)
        if (world_leader(w, c->groups[i].group) < 0) return false;
    return true;
}

/* ---- K5 ---- */

/* Keys, and behind them what the shard knows of itself. */
static uint64_t digest_from(struct world *w, struct shard *s, struct key_place from,
                            uint64_t digest, uint64_t *keys)
{
    struct store *store = shard_store(s);
    struct key_place place;
    uint32_t skip = 0;
    struct bytes key;
    struct item item;
    struct buf whole = buf_new(&w->mem);

    *keys = 0;
    while (store_walk(store, from, skip, &place, &key, &item)) {
        whole.len = 0;
        if (item.value.at == NULL && item.value.len > 0) {
            store_read(store, key, 0, item.value.len, &whole);
            item.value = buf_bytes(&whole);
        }
        const uint64_t of_value = hash64_seed(item.value, (uint64_t)item.type);
        const uint64_t parts[5] = {digest, hash64(key), of_value,
                                   (uint64_t)item.deadline_ms, item.change.v};
        digest = hash64((struct bytes){(const uint8_t *)parts, sizeof parts});
        skip = *keys > 0 && place.v == from.v ? skip + 1 : 1;
        from = place;
        (*keys)++;
    }
    buf_free(&whole);
    return digest;
}

static uint64_t digest_of(struct world *w, struct shard *s, uint64_t *keys)
{
    uint64_t items;
    const uint64_t digest = digest_from(w, s, system_kind_place(0), 1, &items);

    return digest_from(w, s, (struct key_place){0}, digest, keys);
}

void checks_digests(struct world *w)
{
    const struct checks *c = w->checks;

    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct group_id group = c->groups[i].group;
        uint64_t at[PLAN_MACHINES_MAX], digests[PLAN_MACHINES_MAX],
            keys[PLAN_MACHINES_MAX];
        for (uint32_t k = 0; k < w->plan->machines; k++) {
            struct shard *s = world_replica(&w->machines[k], group);
            at[k] = 0;
            if (s == NULL) continue;
            at[k] = shard_applied(s).v;
            digests[k] = digest_of(w, s, &keys[k]);
            for (uint32_t j = 0; j < k; j++)
                if (at[j] == at[k] && at[j] != 0 && digests[j] != digests[k])
                    world_fail(w,
                               "group %" PRIu32 ": s%u and s%u applied %" PRIu64
                               " and hold different states, %" PRIu64 " and %" PRIu64
                               " keys (K5)",
                               group.v, j + 1, k + 1, at[k], keys[j], keys[k]);
        }
    }
}

/* ---- telling ---- */

static void tell_replica(struct buf *out, const struct machine *m, const struct shard *s)
{
    static const char *const roles[] = {"follows", "asks before standing", "stands",
                                        "leads"};
    struct raft_info i;

    raft_info(shard_raft(s), &i);
    buf_putf(out,
             "  %s group %" PRIu32 " %s term %" PRIu64 " base %" PRIu64 " last %" PRIu64
             " commit %" PRIu64 " applied %" PRIu64 " durable %" PRIu64 "%s%s; voters",
             m->name, shard_group(s).v, roles[i.role], i.term.v, i.base.v, i.last.v,
             i.commit.v, i.applied.v, i.durable.v, i.ready ? " ready" : "",
             i.doubtful ? " doubtful" : "");
    for (uint32_t k = 0; k < i.config.n_voters; k++)
        buf_putf(out, " %" PRIu32, i.config.voters[k].v);
    if (i.config.n_old > 0) buf_putf(out, "; old");
    for (uint32_t k = 0; k < i.config.n_old; k++)
        buf_putf(out, " %" PRIu32, i.config.old[k].v);
    if (i.config.n_learners > 0) buf_putf(out, "; learners");
    for (uint32_t k = 0; k < i.config.n_learners; k++)
        buf_putf(out, " %" PRIu32, i.config.learners[k].v);
    struct raft_peer peer;
    for (uint32_t k = 0; raft_peer(shard_raft(s), k, &peer); k++)
        buf_putf(out, "; %" PRIu32 " has %" PRIu64 " next %" PRIu64 "%s%s%s", peer.id.v,
                 peer.match.v, peer.next.v, peer.active ? "" : " silent",
                 peer.probing ? " probing" : "",
                 peer.snapshotting ? " snapshotting" : "");
    buf_putf(out, "\n");
}

void checks_tell(struct world *w, struct buf *out)
{
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const struct machine *m = &w->machines[i];
        if (m->life == NULL) {
            buf_putf(out, "  %s is down\n", m->name);
            continue;
        }
        buf_putf(out, "  %s is server %" PRIu32 "%s\n", m->name,
                 server_self(m->life->server).v, m->life->ready ? ", ready" : "");
        for (uint32_t k = 0;; k++) {
            const struct shard *s = server_shard(m->life->server, k);
            if (s == NULL) break;
            tell_replica(out, m, s);
        }
    }
}
