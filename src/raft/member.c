/* SPDX-License-Identifier: Apache-2.0 */
/* Membership: which config is in force, who counts, and how a change goes through its
 * joint phase [RAFT 6, THESIS 4.3].
 *
 * A config is in force from the moment it is appended, and is given up when its entry is
 * truncated.  So the configs of the log are kept as a list beside it, the base's first.
 *
 *     {V}  --RAFT_CHANGE-->  {V', old V}  --committed by both-->  {V'}
 */
#include "raft/raft_state.h"

#include <string.h>

const struct raft_members *raft_member_config(const struct raft *raft)
{
    return &raft->configs[raft->n_configs - 1].config;
}

struct log_index raft_member_config_index(const struct raft *raft)
{
    return raft->configs[raft->n_configs - 1].index;
}

bool raft_member_is_joint(const struct raft *raft)
{
    return raft_member_config(raft)->n_old > 0;
}

bool raft_member_is_alone(const struct raft *raft)
{
    const struct raft_members *c = raft_member_config(raft);

    return c->n_old == 0 && c->n_voters == 1 && c->voters[0].v == raft->settings.self.v;
}

struct raft_progress *raft_member_find(struct raft *raft, struct server_id id)
{
    for (uint32_t i = 0; i < raft->n_peers; i++)
        if (raft->peers[i].id.v == id.v) return &raft->peers[i];
    return NULL;
}

/* --- counting --- */

/* A voting set with its rules. */
struct set {
    const struct server_id *ids;
    uint32_t n;
    const struct raft_rules *rules;
};

static struct set voters_of(const struct raft_members *c)
{
    return (struct set){c->voters, c->n_voters, &c->rules};
}

static struct set old_of(const struct raft_members *c)
{
    return (struct set){c->old, c->n_old, &c->old_rules};
}

/* How many of a set must agree; contact, too, must meet every set that could elect. */
static uint32_t needed(const struct raft *raft, enum raft_count what,
                       const struct set *set)
{
    uint32_t copies = set->rules->copies > 0 ? set->rules->copies : set->n / 2 + 1;

    if (what == RAFT_COUNT_MATCH && raft->settings.bug_commit_quorum_one_short &&
        copies > 1)
        copies--;
    return copies;
}

static uint32_t needed_votes(const struct raft *raft, const struct set *set)
{
    if (set->rules->copies == 0 || raft->settings.bug_elect_majority)
        return set->n / 2 + 1;
    return set->n - set->rules->copies + 1;
}

static uint64_t value_of(const struct raft *raft, enum raft_count what,
                         struct server_id id)
{
    const struct raft_progress *peer = NULL;

    if (id.v == raft->settings.self.v) {
        switch (what) {
        case RAFT_COUNT_MATCH: return raft->durable.v;
        case RAFT_COUNT_ROUND: return raft->round;
        case RAFT_COUNT_LEASE:
        case RAFT_COUNT_HEARD: return raft->now.ns;
        }
    }
    for (uint32_t i = 0; i < raft->n_peers; i++)
        if (raft->peers[i].id.v == id.v) peer = &raft->peers[i];
    if (peer == NULL) return 0;
    if (peer->doubtful && !raft->settings.bug_doubtful_counts) return 0;
    switch (what) {
    case RAFT_COUNT_MATCH: return peer->match.v;
    case RAFT_COUNT_ROUND: return peer->round_heard;
    case RAFT_COUNT_LEASE: return peer->lease_ns;
    case RAFT_COUNT_HEARD: return peer->heard.ns;
    }
    return 0;
}

static void sort_in(uint64_t *sorted, uint32_t n, uint64_t v)
{
    for (; n > 0 && sorted[n - 1] < v; n--)
        sorted[n] = sorted[n - 1];
    sorted[n] = v;
}

/* The highest value that as many of the set as are needed have reached. */
static uint64_t reached(const struct raft *raft, enum raft_count what,
                        const struct set *set)
{
    uint64_t sorted[RAFT_VOTERS_MAX];

    for (uint32_t i = 0; i < set->n; i++)
        sort_in(sorted, i, value_of(raft, what, set->ids[i]));
    return sorted[needed(raft, what, set) - 1];
}

uint64_t raft_member_quorum(const struct raft *raft, enum raft_count what)
{
    const struct raft_members *c = raft_member_config(raft);

    if (c->n_voters == 0) return 0;
    const struct set voters = voters_of(c), old = old_of(c);
    const uint64_t v = reached(raft, what, &voters);
    if (c->n_old == 0 || raft->settings.bug_joint_one_majority) return v;
    const uint64_t v_old = reached(raft, what, &old);
    return v < v_old ? v : v_old;
}

/* --- answering early --- */

/* What `ack` followers of the set hold, and this leader too.  A leader that is not of the set leads
 * only until the change that leaves it out is committed: its own copy counts for nothing. */
static uint64_t acked_by(const struct raft *raft, const struct raft_members *c,
                         const struct set *set)
{
    const struct server_id self = raft->settings.self;
    uint64_t sorted[2 * RAFT_PEERS_MAX];
    uint64_t own = raft->commit.v;
    uint32_t n = 0;

    if (!set->rules->early) return raft->commit.v;
    for (uint32_t i = 0; i < set->n; i++) {
        if (set->ids[i].v == self.v) {
            own = raft->durable.v;
            continue;
        }
        sort_in(sorted, n, value_of(raft, RAFT_COUNT_MATCH, set->ids[i]));
        n++;
    }
    for (uint16_t i = 0; set->n == 1 && i < c->n_learners; i++)
        if (c->learners[i].v != self.v) {
            sort_in(sorted, n, value_of(raft, RAFT_COUNT_MATCH, c->learners[i]));
            n++;
        }

    uint32_t k = set->rules->ack == RAFT_ACK_ALL ? n : set->rules->ack;
    if (raft->settings.bug_ack_counts_self && k > 0) k--;
    if (k > n) return 0;
    if (k == 0 || own < sorted[k - 1]) return own;
    return sorted[k - 1];
}

/* While a change of the rules is not committed the stricter ones hold: no answer is weaker
 * than what was in force when it was asked for. */
uint64_t raft_member_acked(const struct raft *raft)
{
    uint64_t acked = UINT64_MAX;

    for (uint32_t i = raft->n_configs; i > 0; i--) {
        const struct raft_members *c = &raft->configs[i - 1].config;
        const struct set voters = voters_of(c), old = old_of(c);
        const uint64_t v = acked_by(raft, c, &voters);
        const uint64_t v_old = c->n_old > 0 ? acked_by(raft, c, &old) : UINT64_MAX;
        if (v < acked) acked = v;
        if (v_old < acked) acked = v_old;
        if (raft->configs[i - 1].index.v <= raft->commit.v) break;
    }
    return acked;
}

const struct raft_rules *raft_member_rules(const struct raft *raft)
{
    return &raft_member_config(raft)->rules;
}

/* A promise that nobody could keep is not made: the followers that have gone are missed before
 * the write, not after it.  A follower that is not heard may still come back in time, and one
 * that is heard may go: so this spares the client an UNCERTAIN, and decides nothing. */
bool raft_member_can_ack(const struct raft *raft)
{
    const struct raft_members *c = raft_member_config(raft);
    const bool alone = c->n_voters == 1;
    uint32_t heard = 0, all = 0;

    if (!c->rules.early || c->rules.ack == 0) return true;
    for (uint32_t i = 0; i < raft->n_peers; i++) {
        const struct raft_progress *peer = &raft->peers[i];
        if (!peer->voter && !alone) continue;
        all++;
        heard += !peer->doubtful &&
                 ((raft->quiet && !peer->gone) ||
                  raft->now.ns < peer->heard.ns + raft->settings.election_ns);
    }
    return heard >= (c->rules.ack == RAFT_ACK_ALL ? all : c->rules.ack);
}

/* --- votes --- */

/* Votes of those that lost nothing, or every single vote: see Power in raft.h. */
static enum raft_tally tally(const struct raft *raft, const struct set *set, bool *unsure)
{
    const uint32_t need = needed_votes(raft, set);
    const bool all_sure = raft->settings.bug_reboot_ignored;
    uint32_t granted = 0, sure = 0, open = 0;

    for (uint32_t i = 0; i < set->n; i++) {
        if (set->ids[i].v == raft->settings.self.v) {
            granted++;
            sure += !raft->state.rebooted || all_sure;
            continue;
        }
        for (uint32_t p = 0; p < raft->n_peers; p++) {
            if (raft->peers[p].id.v != set->ids[i].v) continue;
            granted += raft->peers[p].granted;
            sure += raft->peers[p].granted && (!raft->peers[p].unsure || all_sure);
            open += !raft->peers[p].answered;
        }
    }
    *unsure = *unsure || sure < need;
    if (sure >= need || granted == set->n) return RAFT_TALLY_WON;
    return sure + open >= need || granted + open == set->n ? RAFT_TALLY_OPEN
                                                           : RAFT_TALLY_LOST;
}

static enum raft_tally tally_all(const struct raft *raft, bool *unsure)
{
    const struct raft_members *c = raft_member_config(raft);
    const struct set new_set = voters_of(c), old_set = old_of(c);
    const enum raft_tally new = tally(raft, &new_set, unsure);

    if (c->n_old == 0 || raft->settings.bug_joint_one_majority) return new;
    const enum raft_tally old = tally(raft, &old_set, unsure);
    if (new == RAFT_TALLY_LOST || old == RAFT_TALLY_LOST) return RAFT_TALLY_LOST;
    return new == RAFT_TALLY_WON ? old : new;
}

enum raft_tally raft_member_tally(const struct raft *raft)
{
    bool unsure = false;

    return tally_all(raft, &unsure);
}

bool raft_member_is_unsure(const struct raft *raft)
{
    bool unsure = false;

    return tally_all(raft, &unsure) == RAFT_TALLY_WON && unsure;
}

/* --- the table of peers --- */

static void add_peer(struct raft *raft, struct raft_progress *fresh, uint32_t *n,
                     struct server_id id)
{
    check(fresh != NULL);
    if (id.v == raft->settings.self.v) return;
    for (uint32_t i = 0; i < *n; i++)
        if (fresh[i].id.v == id.v) return;

    const struct raft_progress *known = raft_member_find(raft, id);
    fresh[*n] = known != NULL ? *known : (struct raft_progress){.id = id};
    (*n)++;
}

static void window_free(struct raft *raft, struct raft_progress *peer)
{
    mem_free(raft->mem, peer->inflight, peer->inflight_cap * sizeof *peer->inflight);
    peer->inflight = NULL;
    peer->inflight_cap = peer->inflight_head = peer->inflight_count = 0;
}

/* What ends with a member that is none any more.  It may still hold a TIMEOUT_NOW, and
 * nobody will hear of it. */
static void peer_leaves(struct raft *raft, struct raft_progress *peer)
{
    if (peer->lease_barrier > peer->round_heard) raft->lease_void = true;
    raft->n_snapshotting -= peer->snapshotting;
    window_free(raft, peer);
}

static void rebuild_peers(struct raft *raft)
{
    const struct raft_members *c = raft_member_config(raft);
    const uint32_t n_most = (uint32_t)c->n_voters + c->n_old + c->n_learners;
    const uint32_t n_before = raft->n_peers;
    struct raft_progress *fresh = NULL;
    uint32_t n = 0;

    if (n_most > 0) fresh = mem_zero(raft->mem, n_most * sizeof *fresh);
    for (uint16_t i = 0; i < c->n_voters; i++)
        add_peer(raft, fresh, &n, c->voters[i]);
    for (uint16_t i = 0; i < c->n_old; i++)
        add_peer(raft, fresh, &n, c->old[i]);
    for (uint16_t i = 0; i < c->n_learners; i++)
        add_peer(raft, fresh, &n, c->learners[i]);
    fresh = mem_resize(raft->mem, fresh, n_most * sizeof *fresh, n * sizeof *fresh);
    for (uint32_t i = 0; i < n; i++) {
        const bool is_new = raft_member_find(raft, fresh[i].id) == NULL;
        fresh[i].voter = raft_members_has_voter(c, fresh[i].id);
        fresh[i].learner = !fresh[i].voter;
        if (is_new && raft->role == RAFT_LEADER)
            raft_replicate_reset_peer(raft, &fresh[i]);
    }
    for (uint32_t i = 0; i < n_before; i++)
        if (!raft_members_has(c, raft->peers[i].id)) peer_leaves(raft, &raft->peers[i]);
    mem_free(raft->mem, raft->peers, n_before * sizeof *raft->peers);
    raft->peers = fresh;
    raft->n_peers = n;
}

/* --- the list of configs --- */

static struct server_id *put_ids(struct server_id *at, const struct server_id *ids,
                                 uint16_t n)
{
    if (n == 0) return at;
    check(at != NULL);
    memcpy(at, ids, n * sizeof *at);
    return at + n;
}

static uint32_t ids_of(const struct raft_members *m)
{
    return (uint32_t)m->n_voters + m->n_old + m->n_learners;
}

static struct raft_config_at config_new(struct raft *raft, struct log_index index,
                                        const struct raft_config *config)
{
    struct raft_config_at at = {.index = index, .config = raft_config_members(config)};
    const uint32_t n = ids_of(&at.config);

    at.config.voters = at.config.old = at.config.learners = NULL;
    if (n == 0) return at;
    at.ids = mem_alloc(raft->mem, n * sizeof *at.ids);
    at.config.voters = at.ids;
    at.config.old = put_ids(at.ids, config->voters, config->n_voters);
    at.config.learners = put_ids(at.ids + config->n_voters, config->old, config->n_old);
    put_ids(at.ids + config->n_voters + config->n_old, config->learners,
            config->n_learners);
    return at;
}

static void config_free(struct raft *raft, struct raft_config_at *at)
{
    mem_free(raft->mem, at->ids, ids_of(&at->config) * sizeof *at->ids);
}

static void push(struct raft *raft, struct log_index index,
                 const struct raft_config *config)
{
    if (raft->n_configs == raft->configs_cap) {
        const uint32_t cap = raft->configs_cap + 1; /* seldom more than one or two */
        raft->configs = mem_resize(raft->mem, raft->configs,
                                   raft->configs_cap * sizeof *raft->configs,
                                   cap * sizeof *raft->configs);
        raft->configs_cap = cap;
    }
    raft->configs[raft->n_configs++] = config_new(raft, index, config);
}

void raft_member_init(struct raft *raft, const struct raft_config *config)
{
    push(raft, raft->log.base, config);
    rebuild_peers(raft);
}

void raft_member_free(struct raft *raft)
{
    for (uint32_t i = 0; i < raft->n_peers; i++)
        window_free(raft, &raft->peers[i]);
    mem_free(raft->mem, raft->peers, raft->n_peers * sizeof *raft->peers);
    for (uint32_t i = 0; i < raft->n_configs; i++)
        config_free(raft, &raft->configs[i]);
    mem_free(raft->mem, raft->configs, raft->configs_cap * sizeof *raft->configs);
}

void raft_member_appended(struct raft *raft, const struct raft_entry *entry)
{
    struct raft_config config;
    const bool sound = raft_config_decode(entry->payload, &config);

    check(sound); /* what comes from outside was looked at before it was appended */
    push(raft, entry->index, &config);
    rebuild_peers(raft);
}

void raft_member_truncated(struct raft *raft)
{
    const uint32_t before = raft->n_configs;

    while (raft->n_configs > 1 &&
           raft->configs[raft->n_configs - 1].index.v > raft->log.last.v)
        config_free(raft, &raft->configs[--raft->n_configs]);
    if (raft->n_configs != before) rebuild_peers(raft);
}

void raft_member_compacted(struct raft *raft)
{
    uint32_t keep = 0; /* the one in force at the base becomes the base's */

    while (keep + 1 < raft->n_configs &&
           raft->configs[keep + 1].index.v <= raft->log.base.v)
        config_free(raft, &raft->configs[keep++]);
    raft->n_configs -= keep;
    memmove(raft->configs, raft->configs + keep, raft->n_configs * sizeof *raft->configs);
}

/* The log begins behind a snapshot now, and what it kept above it has its newer
 * configs. */
void raft_member_installed(struct raft *raft, const struct raft_config *config)
{
    uint32_t kept = 0;

    for (uint32_t i = 1; i < raft->n_configs; i++) {
        const struct log_index at = raft->configs[i].index;
        if (at.v > raft->log.base.v && at.v <= raft->log.last.v)
            raft->configs[1 + kept++] = raft->configs[i];
        else
            config_free(raft, &raft->configs[i]);
    }
    raft->n_configs = 1 + kept;
    raft->configs[0].index = raft->log.base;
    if (!raft->settings.bug_snapshot_drops_config) {
        config_free(raft, &raft->configs[0]);
        raft->configs[0] = config_new(raft, raft->log.base, config);
    }
    rebuild_peers(raft);
}

bool raft_config_at(const struct raft *raft, struct log_index index,
                    struct raft_config *out)
{
    uint32_t i = raft->n_configs;

    if (index.v < raft->log.base.v || index.v > raft->log.last.v) return false;
    while (i > 1 && raft->configs[i - 1].index.v > index.v)
        i--;
    raft_members_config(&raft->configs[i - 1].config, out);
    return true;
}

/* --- changes --- */

static void propose(struct raft *raft, const struct raft_config *config)
{
    struct buf encoded = buf_new(raft->mem);

    raft_config_encode(&encoded, config);
    raft_append(raft, RAFT_CONFIG, raft->state.term, buf_bytes(&encoded), NULL);
    buf_free(&encoded);
}

static bool same_ids(const struct server_id *a, uint16_t n_a, const struct server_id *b,
                     uint16_t n_b)
{
    if (n_a != n_b) return false;
    for (uint16_t i = 0; i < n_a; i++) {
        bool found = false;
        for (uint16_t j = 0; j < n_b; j++)
            found = found || a[i].v == b[j].v;
        if (!found) return false;
    }
    return true;
}

/* As if it came from outside: the caller's wish is put through the decoder's checks. */
static bool wish_is_sound(const struct raft *raft, const struct raft_config *config)
{
    struct buf encoded = buf_new(raft->mem);
    struct raft_config decoded;

    if (config->n_voters > RAFT_VOTERS_MAX || config->n_old > RAFT_VOTERS_MAX ||
        config->n_learners > RAFT_PEERS_MAX)
        return false;
    raft_config_encode(&encoded, config);
    const bool sound = raft_config_decode(buf_bytes(&encoded), &decoded);
    buf_free(&encoded);
    return sound;
}

/* Refused while another change is under way, and until the leader has committed in its
 * own term: without that, two changes of two leaders can have majorities that do not meet
 * (the erratum of 2015 to [THESIS 4.1]). */
void raft_member_on_change(struct raft *raft, const struct raft_config *config)
{
    const struct raft_members *current = raft_member_config(raft);

    if (raft->role != RAFT_LEADER || raft->transfer_to.v != 0) return;
    raft_quiet_busy(raft);
    if (!raft_is_ready(raft) || raft_member_is_joint(raft)) return;
    if (raft_member_config_index(raft).v > raft->commit.v) return;
    if (config == NULL || config->n_voters == 0 || config->n_old > 0) return;
    if (config->version < current->version) return;

    /* Who decides changes only through a joint phase; what an answer needs, at once. */
    const bool same_quorums = same_ids(config->voters, config->n_voters, current->voters,
                                       current->n_voters) &&
                              config->rules.copies == current->rules.copies;
    if (same_quorums && config->version == current->version &&
        raft_rules_equal(&config->rules, &current->rules) &&
        same_ids(config->learners, config->n_learners, current->learners,
                 current->n_learners))
        return;
    struct raft_config next = *config;
    if (!same_quorums) {
        memcpy(next.old, current->voters, current->n_voters * sizeof *next.old);
        next.n_old = current->n_voters;
        next.old_rules = current->rules;
    }
    if (wish_is_sound(raft, &next)) propose(raft, &next);
}

/* By decree, so not through a joint phase: those it leaves out are not asked. */
void raft_member_on_decree(struct raft *raft, const struct raft_config *config)
{
    if (wish_is_sound(raft, config)) propose(raft, config);
}

void raft_member_leave_joint(struct raft *raft)
{
    if (raft->role != RAFT_LEADER || !raft_member_is_joint(raft)) return;
    if (!raft_is_ready(raft) || raft_member_config_index(raft).v > raft->commit.v) return;

    struct raft_config next;
    raft_members_config(raft_member_config(raft), &next);
    next.n_old = 0;
    next.old_rules = (struct raft_rules){0};
    propose(raft, &next);
}

bool raft_member_is_out(const struct raft *raft)
{
    return !raft_member_is_joint(raft) &&
           raft_member_config_index(raft).v <= raft->commit.v &&
           !raft_members_has_voter(raft_member_config(raft), raft->settings.self);
}
