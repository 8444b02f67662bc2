/* SPDX-License-Identifier: Apache-2.0 */
/* report - what this server says of its own replicas, to itself and to other servers. */
#include "server/report.h"

enum { DIGESTS_WAIT_MS = 60000 };

struct digest_one {
    struct group_id group;
    struct log_index wanted; /* nothing older will do */
    struct report_row row;
    bool known;
};

struct digests {
    uint32_t keyspace;
    struct digest_one *all;
    uint32_t n, cap;
    struct instant deadline;
    struct server_id peer; /* who waits for them, in s->digests; gather.c keeps its own */
    uint64_t peer_id;
    struct digests *next;
};

static bool is_of(const struct meta_shard *shard, uint32_t keyspace)
{
    return keyspace == REPORT_ALL || shard->keyspace == keyspace;
}

/* With a replica here that is to stay. */
static struct slot *slot_kept(const struct server *s, struct group_id group)
{
    struct slot *slot = server_slot_find(s, group);

    return slot == NULL || slot->shard == NULL || slot->retiring != RETIRE_NOT ? NULL
                                                                               : slot;
}

/* How many replicas of a keyspace are here. */
static uint32_t count_here(const struct server *s, uint32_t keyspace)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->meta.n_shards; i++)
        n += is_of(s->meta.shards[i], keyspace) &&
             slot_kept(s, s->meta.shards[i]->group) != NULL;
    return n < REPORT_ROWS_MAX ? n : REPORT_ROWS_MAX;
}

/* ---- replicas ---- */

static enum report_role role_of(const struct raft_info *info, struct server_id self)
{
    switch (info->role) {
    case RAFT_LEADER: return REPORT_LEADER;
    case RAFT_PRECANDIDATE:
    case RAFT_CANDIDATE: return REPORT_CANDIDATE;
    case RAFT_FOLLOWER: break;
    }
    return raft_members_has_voter(&info->config, self) ? REPORT_FOLLOWER : REPORT_LEARNER;
}

static struct report_row replica_here(const struct server *s, const struct slot *slot)
{
    const char *trouble = shard_trouble(slot->shard);
    struct raft_info info;

    raft_info(shard_raft(slot->shard), &info);
    return (struct report_row){
        .group = slot->group,
        .role = role_of(&info, s->identity.server),
        .leader = info.leader,
        .term = info.term,
        .applied = shard_applied(slot->shard),
        .commit = info.commit,
        .keys = store_count(shard_store(slot->shard)),
        .trouble = bytes_of_str(trouble == NULL ? "" : trouble),
    };
}

uint32_t report_replicas(struct server *s, uint32_t keyspace, struct report_row **rows)
{
    const uint32_t cap = count_here(s, keyspace);
    uint32_t n = 0;

    *rows = cap == 0 ? NULL : mem_alloc(s->mem, cap * sizeof **rows);
    for (uint32_t i = 0; i < s->meta.n_shards && n < cap; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        const struct slot *slot = slot_kept(s, shard->group);
        if (slot == NULL || !is_of(shard, keyspace)) continue;
        (*rows)[n++] = replica_here(s, slot);
    }
    check(n == cap);
    return n;
}

void report_rows_free(struct server *s, struct report_row *rows, uint32_t n)
{
    mem_free(s->mem, rows, n * sizeof *rows);
}

/* ---- digests ---- */

static void digest_want(struct server *s, struct slot *slot)
{
    shard_want_digest(slot->shard);
    slot_touch(s, slot);
}

struct digests *digests_begin(struct server *s, uint32_t keyspace)
{
    struct digests *d = mem_zero(s->mem, sizeof *d);

    d->keyspace = keyspace;
    d->deadline.ns = s->now.ns + DIGESTS_WAIT_MS * MS_NS;
    d->cap = count_here(s, keyspace);
    if (d->cap > 0) d->all = mem_zero(s->mem, d->cap * sizeof *d->all);
    for (uint32_t i = 0; i < s->meta.n_shards && d->n < d->cap; i++) {
        const struct meta_shard *shard = s->meta.shards[i];
        struct slot *slot = slot_kept(s, shard->group);
        if (slot == NULL || !is_of(shard, keyspace)) continue;
        d->all[d->n++] = (struct digest_one){.group = shard->group,
                                             .wanted = shard_applied(slot->shard)};
        digest_want(s, slot);
    }
    return d;
}

/* True: it is there, or will never be. */
static bool digest_look(struct server *s, struct digest_one *one)
{
    struct slot *slot = slot_kept(s, one->group);
    struct report_row row = {.group = one->group};

    if (one->known || slot == NULL) return true;
    if (!shard_digest(slot->shard, &row.applied, &row.digest, &row.keys)) return false;
    one->known = row.applied.v >= one->wanted.v;
    if (one->known)
        one->row = row;
    else
        digest_want(s, slot); /* that was an older one, asked for by another */
    return one->known;
}

bool digests_ready(struct server *s, struct digests *d)
{
    bool all = true;

    for (uint32_t i = 0; i < d->n; i++)
        all = digest_look(s, &d->all[i]) && all;
    return all || s->now.ns >= d->deadline.ns;
}

uint32_t digests_rows(struct server *s, const struct digests *d, struct report_row **rows)
{
    uint32_t cap = 0, n = 0;

    for (uint32_t i = 0; i < d->n; i++)
        cap += d->all[i].known;
    *rows = cap == 0 ? NULL : mem_alloc(s->mem, cap * sizeof **rows);
    for (uint32_t i = 0; i < d->n; i++)
        if (d->all[i].known) (*rows)[n++] = d->all[i].row;
    return n;
}

void digests_free(struct server *s, struct digests *d)
{
    mem_free(s->mem, d->all, d->cap * sizeof *d->all);
    mem_free(s->mem, d, sizeof *d);
}

/* ---- to other servers ---- */

static void say(struct server *s, struct server_id to, const struct report *head,
                const struct report_row *rows)
{
    size_t start;
    struct buf *body = peer_say(s, to, (struct group_id){META_GROUP}, MESSAGE_REPORT,
                                &start);

    if (body == NULL) return; /* who asked knows by the time that passes */
    report_encode(body, head);
    for (uint32_t i = 0; i < head->n_rows; i++)
        report_put_row(body, head->kind, &rows[i]);
    peer_said(s, to, start);
}

static void say_replicas(struct server *s, struct server_id to, const struct report *ask)
{
    struct report_row *rows;
    const uint32_t n = report_replicas(s, ask->keyspace, &rows);

    say(s, to, &(struct report){.kind = REPORT_REPLICAS, .id = ask->id, .n_rows = n},
        rows);
    report_rows_free(s, rows, n);
}

static void say_digests(struct server *s, const struct digests *d)
{
    struct report_row *rows;
    const uint32_t n = digests_rows(s, d, &rows);

    say(s, d->peer,
        &(struct report){.kind = REPORT_DIGESTS, .id = d->peer_id, .n_rows = n}, rows);
    report_rows_free(s, rows, n);
}

/* A server has one question about a keyspace at a time: a newer one means that it has
 * given up on the older one, or lives again. */
static void take_digests(struct server *s, struct server_id from,
                         const struct report *ask)
{
    struct digests **at = &s->digests;

    while (*at != NULL) {
        struct digests *old = *at;
        if (old->peer.v == from.v && old->keyspace == ask->keyspace) {
            *at = old->next;
            digests_free(s, old);
        } else {
            at = &old->next;
        }
    }
    *at = digests_begin(s, ask->keyspace);
    (*at)->peer = from;
    (*at)->peer_id = ask->id;
    say(s, from, &(struct report){.kind = REPORT_TAKEN, .id = ask->id}, NULL);
}

bool report_message(struct server *s, struct server_id from, struct bytes body)
{
    struct report r;

    if (!report_decode(body, &r)) return false;
    switch (r.kind) {
    case REPORT_ASK_REPLICAS: say_replicas(s, from, &r); return true;
    case REPORT_ASK_DIGESTS: take_digests(s, from, &r); return true;
    case REPORT_TAKEN:
    case REPORT_REPLICAS:
    case REPORT_DIGESTS: gather_answer(s, from, &r); return true;
    case REPORT_KIND_END: break;
    }
    return false;
}

void reports_turn(struct server *s)
{
    struct digests **at = &s->digests;

    while (*at != NULL) {
        struct digests *d = *at;
        if (!digests_ready(s, d)) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        say_digests(s, d);
        digests_free(s, d);
    }
}

void reports_free(struct server *s)
{
    while (s->digests != NULL) {
        struct digests *d = s->digests;
        s->digests = d->next;
        digests_free(s, d);
    }
}
