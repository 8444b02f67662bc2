/* SPDX-License-Identifier: Apache-2.0 */
/* Small random clusters of cores: a network that loses, doubles, delays and cuts, disks
 * that finish late, crashes that lose what was not durable, damaged logs, membership
 * changes, transfers, reads.  What must hold is checked as it happens, and mutants of the
 * core show that the checks see: those that a storm brings about too seldom are caught in
 * the tests of the core alone. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "mem_test_alloc.h"
#include "raft/raft_state.h"

enum {
    NODES_MAX = 5,
    LOG_MAX = 3000,
    PAYLOAD_MAX = 64,
    WIRE_MAX = 600,
    HELD_MAX = 4000,
    WRITES_MAX = 400,
    READS_MAX = 64,
    TERMS_MAX = 4000,
};

struct disk_entry {
    struct term term;
    enum raft_entry_kind kind;
    uint8_t len;
    uint8_t payload[PAYLOAD_MAX];
};

struct disk {
    struct raft_state state;
    uint64_t base, last;
    struct term base_term;
    struct raft_config config;
    struct disk_entry *log; /* by index */
};

struct write { /* on its way to the disk */
    uint64_t mark, done_at;
    bool has_state;
    struct raft_state state;
    uint64_t from, upto;
    struct disk_entry *entries;
};

struct packet {
    uint64_t at;
    uint32_t from, to;
    uint64_t after; /* held: the mark it waits for */
    struct buf bytes;
};

struct read {
    uint64_t round, seen;
    struct term term;
};

struct node {
    struct raft *raft;
    struct disk disk;
    uint64_t wake, offset, rate, up_at, applied; /* rate: of its clock, in thousandths */
    struct write writes[WRITES_MAX];
    uint32_t n_writes;
    struct packet held[HELD_MAX];
    uint32_t n_held;
    struct read reads[READS_MAX], follower_reads[READS_MAX];
    uint32_t n_reads, n_follower_reads;
    bool dirty;
    uint64_t confirmed_told;
};

struct plan {
    uint32_t nodes, voters;
    uint32_t loss, dup; /* per thousand */
    uint64_t net_ns, disk_ns;
    uint32_t crash, damage, cut, change, transfer, propose, read, compact, lost;
    bool lease;
    uint64_t log_bytes_max;
};

struct world {
    struct mem mem;
    struct prng prng;
    struct plan plan;
    struct raft_settings settings;
    struct node nodes[NODES_MAX + 1];
    bool cut[NODES_MAX + 1][NODES_MAX + 1];
    struct packet wire[WIRE_MAX];
    uint32_t n_wire;
    uint64_t now, value;
    uint64_t n_committed;
    struct term committed_term[LOG_MAX];
    uint64_t committed_hash[LOG_MAX];
    struct raft_config committed_config[LOG_MAX];
    uint64_t leader_term[TERMS_MAX];
    uint32_t leader_of[TERMS_MAX];
    uint32_t n_leaders;
    bool calm;
    uint32_t reads_done, snapshots, loads, joints, cleared, follower_reads_done,
        lease_reads;
    uint32_t transfers_done;
    char wrong[200];
};

static jmp_buf broken;
static bool break_is_caught;
static char break_text[200];

_Noreturn void check_failed(const char *what, const char *file, int line)
{
    snprintf(break_text, sizeof break_text, "%s:%d: check failed: %s", file, line, what);
    if (break_is_caught) longjmp(broken, 1);
    fprintf(stderr, "%s\n", break_text);
    abort();
}

#define WRONG(w, ...)                                                                    \
    do {                                                                                 \
        if ((w)->wrong[0] == 0) snprintf((w)->wrong, sizeof(w)->wrong, __VA_ARGS__);     \
    } while (0)

static uint64_t chance(struct world *w, uint32_t per_100k)
{
    return prng_below(&w->prng, 100000) < per_100k;
}

static struct instant node_now(const struct world *w, const struct node *n)
{
    return (struct instant){w->now / 1000 * n->rate + n->offset};
}

/* The first moment of the world at which a node's clock is past `at`. */
static uint64_t moment_of(const struct node *n, struct instant at)
{
    return at.ns > n->offset ? ((at.ns - n->offset) / n->rate + 1) * 1000 : 0;
}

/* --- checks --- */

static uint64_t entry_hash(enum raft_entry_kind kind, struct bytes payload)
{
    return hash64_seed(payload, (uint64_t)kind);
}

static void check_commit(struct world *w, uint32_t id, uint64_t commit)
{
    struct node *n = &w->nodes[id];

    for (uint64_t i = n->applied + 1; i <= commit; i++) {
        struct raft_entry e;
        if (!raft_entry_at(n->raft, (struct log_index){i}, &e)) {
            WRONG(w, "n%u: committed entry %lu is not in memory", id, (unsigned long)i);
            return;
        }
        const uint64_t hash = entry_hash(e.kind, e.payload);
        if (i <= w->n_committed) {
            if (w->committed_term[i].v != e.term.v || w->committed_hash[i] != hash)
                WRONG(w, "n%u: entry %lu committed twice, differently", id,
                      (unsigned long)i);
            continue;
        }
        w->n_committed = i;
        w->committed_term[i] = e.term;
        w->committed_hash[i] = hash;
        w->committed_config[i] = w->committed_config[i - 1];
        if (e.kind == RAFT_CONFIG &&
            !raft_config_decode(e.payload, &w->committed_config[i]))
            WRONG(w, "config does not decode");
        if (e.kind == RAFT_CONFIG && w->committed_config[i].n_old > 0) w->joints++;
    }
    if (commit < n->applied) WRONG(w, "n%u: commit went back", id);
    if (n->raft->accusations > 0 && !w->settings.bug_ack_before_durable)
        WRONG(w, "n%u: a peer that lost nothing is said to have", id);
}

static void check_leader(struct world *w, uint32_t id)
{
    struct raft_info info;

    raft_info(w->nodes[id].raft, &info);
    if (info.role != RAFT_LEADER) return;
    for (uint32_t i = 0; i < w->n_leaders; i++) {
        if (w->leader_term[i] != info.term.v) continue;
        if (w->leader_of[i] != id)
            WRONG(w, "two leaders in term %lu", (unsigned long)info.term.v);
        return;
    }
    if (w->n_leaders == TERMS_MAX) return;
    w->leader_term[w->n_leaders] = info.term.v;
    w->leader_of[w->n_leaders++] = id;
    for (uint64_t i = info.base.v + 1; i <= w->n_committed; i++) {
        const struct term t = raft_term_at(w->nodes[id].raft, (struct log_index){i});
        if (t.v == w->committed_term[i].v) continue;
        WRONG(w, "leader %u of term %lu lacks committed entry %lu", id,
              (unsigned long)info.term.v, (unsigned long)i);
        return;
    }
}

static bool same_config(const struct raft_config *a, const struct raft_config *b)
{
    return a->n_voters == b->n_voters && a->n_old == b->n_old &&
           a->n_learners == b->n_learners &&
           memcmp(a->voters, b->voters, a->n_voters * sizeof a->voters[0]) == 0 &&
           memcmp(a->old, b->old, a->n_old * sizeof a->old[0]) == 0 &&
           memcmp(a->learners, b->learners, a->n_learners * sizeof a->learners[0]) == 0;
}

/* Equal term at an index means equal logs up to there; and the configs in force at what
 * is committed are the same. */
static void check_logs(struct world *w, uint32_t a, uint32_t b)
{
    struct raft *ra = w->nodes[a].raft, *rb = w->nodes[b].raft;
    struct raft_info ia, ib;
    bool met = false;

    if (ra == NULL || rb == NULL || a == b) return;
    raft_info(ra, &ia);
    raft_info(rb, &ib);
    const uint64_t from = ia.base.v > ib.base.v ? ia.base.v : ib.base.v;
    uint64_t i = ia.last.v < ib.last.v ? ia.last.v : ib.last.v;
    for (; i > from; i--) {
        const struct log_index at = {i};
        struct raft_entry ea, eb;
        if (raft_term_at(ra, at).v != raft_term_at(rb, at).v) {
            if (met) WRONG(w, "logs of n%u and n%u differ below a match", a, b);
            continue;
        }
        met = true;
        if (raft_entry_at(ra, at, &ea) && raft_entry_at(rb, at, &eb) &&
            entry_hash(ea.kind, ea.payload) != entry_hash(eb.kind, eb.payload))
            WRONG(w, "n%u and n%u: entry %lu differs", a, b, (unsigned long)i);
    }
    struct raft_config config;
    if (raft_config_at(ra, ia.commit, &config) && ia.commit.v <= w->n_committed &&
        !same_config(&config, &w->committed_config[ia.commit.v]))
        WRONG(w, "n%u: wrong config at its commit", a);
}

/* --- disk --- */

static void write_free(struct world *w, struct write *wr)
{
    (void)w;
    free(wr->entries);
    wr->entries = NULL;
}

static void write_apply(struct node *n, const struct write *wr)
{
    if (wr->has_state) n->disk.state = wr->state;
    if (wr->from == 0) return;
    for (uint64_t i = wr->from; i <= wr->upto; i++) {
        n->disk.log[i] = wr->entries[i - wr->from];
        n->disk.last = i;
    }
    if (wr->upto < wr->from) n->disk.last = wr->from - 1;
    if (n->disk.last < n->disk.base) n->disk.last = n->disk.base;
}

static void write_take(struct world *w, struct node *n, const struct raft_out *out)
{
    if (out->mark == 0) return;
    check(n->n_writes < WRITES_MAX);

    struct write *wr = &n->writes[n->n_writes++];
    const uint64_t delay = prng_below(&w->prng, w->plan.disk_ns + 1);
    uint64_t done_at = w->now + delay;
    if (n->n_writes > 1 && n->writes[n->n_writes - 2].done_at > done_at)
        done_at = n->writes[n->n_writes - 2].done_at;
    *wr = (struct write){.mark = out->mark,
                         .done_at = done_at,
                         .has_state = out->write_state,
                         .state = out->state,
                         .from = out->append_from.v,
                         .upto = out->append_upto.v};
    if (wr->from == 0) return;
    wr->entries = calloc(wr->upto - wr->from + 1, sizeof *wr->entries);
    for (uint64_t i = wr->from; i <= wr->upto; i++) {
        struct raft_entry e;
        const bool found = raft_entry_at(n->raft, (struct log_index){i}, &e);
        struct disk_entry *d = &wr->entries[i - wr->from];
        check(found && e.payload.len <= PAYLOAD_MAX);
        d->term = e.term;
        d->kind = e.kind;
        d->len = (uint8_t)e.payload.len;
        memcpy(d->payload, e.payload.at, e.payload.len);
    }
}

/* --- network --- */

static void packet_post(struct world *w, uint32_t from, uint32_t to, struct bytes bytes)
{
    const struct plan *p = &w->plan;
    uint32_t copies = 1;

    if (w->cut[from][to] && !w->calm) return;
    if (!w->calm && prng_chance(&w->prng, p->loss)) return;
    if (!w->calm && prng_chance(&w->prng, p->dup)) copies = 2;
    while (copies-- > 0) {
        if (w->n_wire == WIRE_MAX) return;
        uint64_t delay = 50000 + prng_below(&w->prng, p->net_ns);
        if (!w->calm && prng_chance(&w->prng, 20)) delay *= 10;
        struct packet *k = &w->wire[w->n_wire++];
        *k = (struct packet){
            .at = w->now + delay, .from = from, .to = to, .bytes = buf_new(&w->mem)};
        buf_put(&k->bytes, bytes.at, bytes.len);
    }
}

static void held_release(struct world *w, uint32_t id, uint64_t mark)
{
    struct node *n = &w->nodes[id];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n->n_held; i++) {
        struct packet *k = &n->held[i];
        if (k->after <= mark) {
            packet_post(w, id, k->to, buf_bytes(&k->bytes));
            buf_free(&k->bytes);
        } else {
            n->held[kept++] = *k;
        }
    }
    n->n_held = kept;
}

static void send_all(struct world *w, uint32_t id, const struct raft_out *out)
{
    struct node *n = &w->nodes[id];

    for (uint32_t i = 0; i < out->n_msgs; i++) {
        const struct raft_msg *m = &out->msgs[i];
        check(n->n_held < HELD_MAX);
        struct packet *k = &n->held[n->n_held++];
        *k = (struct packet){
            .from = id, .to = m->to.v, .after = m->after, .bytes = buf_new(&w->mem)};
        raft_msg_encode(&k->bytes, m);
    }
    held_release(w, id, n->raft->mark_durable);
}

/* --- nodes --- */

static void step(struct world *w, uint32_t id, struct raft_event e)
{
    struct node *n = &w->nodes[id];

    e.now = node_now(w, n);
    raft_step(n->raft, &e);
    n->dirty = true;
}

static void send_snapshot(struct world *w, uint32_t id, struct server_id to)
{
    struct node *n = &w->nodes[id];
    struct raft_config config;
    const struct log_index at = {n->applied};
    struct buf data = buf_new(&w->mem), bytes = buf_new(&w->mem);

    w->snapshots++;
    if (!raft_config_at(n->raft, at, &config)) WRONG(w, "no config at applied");
    step(w, id,
         (struct raft_event){.kind = RAFT_SNAPSHOT_READY,
                             .peer = to,
                             .index = at,
                             .term = raft_term_at(n->raft, at)});
    raft_config_encode(&data, &config);
    const struct raft_msg m = {
        .kind = RAFT_SNAPSHOT,
        .flags = RAFT_DONE,
        .from = {id},
        .to = to,
        .term = n->raft->state.term,
        .index = at,
        .log_term = raft_term_at(n->raft, at),
        .data = buf_bytes(&data),
    };
    raft_msg_encode(&bytes, &m);
    packet_post(w, id, to.v, buf_bytes(&bytes));
    step(w, id,
         (struct raft_event){
             .kind = RAFT_SNAPSHOT_SENT, .peer = to, .ok = prng_chance(&w->prng, 800)});
    buf_free(&data);
    buf_free(&bytes);
}

static void load(struct world *w, uint32_t id, struct raft_load wanted)
{
    struct node *n = &w->nodes[id];
    struct raft_entry entries[16];
    uint32_t count = 0;

    w->loads++;
    for (uint64_t i = wanted.from.v; i <= wanted.upto.v && count < 16; i++) {
        if (i > n->disk.last || i <= n->disk.base) break;
        const struct disk_entry *d = &n->disk.log[i];
        entries[count++] = (struct raft_entry){
            {i}, d->term, d->kind, {d->payload, d->len}, NULL};
    }
    step(
        w, id,
        (struct raft_event){.kind = RAFT_LOADED, .entries = entries, .n_entries = count});
}

static void finish_reads(struct world *w, uint32_t id, const struct raft_out *out)
{
    struct node *n = &w->nodes[id];
    const struct term term = n->raft->state.term;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n->n_reads; i++) {
        const struct read *r = &n->reads[i];
        if (n->raft->role != RAFT_LEADER || r->term.v != term.v) continue;
        if (r->round > out->confirmed_round) {
            n->reads[kept++] = *r;
            continue;
        }
        w->reads_done++;
        if (out->commit.v < r->seen)
            WRONG(w, "n%u: stale read: %lu of %lu", id, (unsigned long)out->commit.v,
                  (unsigned long)r->seen);
    }
    n->n_reads = kept;
    for (uint32_t d = 0; d < out->n_reads; d++) {
        kept = 0;
        for (uint32_t i = 0; i < n->n_follower_reads; i++) {
            const struct read *r = &n->follower_reads[i];
            if (r->round > out->reads[d].round) {
                n->follower_reads[kept++] = *r;
                continue;
            }
            if (out->reads[d].index.v == 0) continue;
            w->follower_reads_done++;
            if (out->reads[d].index.v < r->seen) WRONG(w, "n%u: stale follower read", id);
        }
        n->n_follower_reads = kept;
    }
}

static void turn_end(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    struct raft_out out;

    n->dirty = false;
    raft_turn_end(n->raft, node_now(w, n), &out);
    check_commit(w, id, out.commit.v);
    if (out.role_changed) check_leader(w, id);
    write_take(w, n, &out);
    send_all(w, id, &out);
    finish_reads(w, id, &out);
    n->wake = moment_of(n, out.wake);
    if (out.commit.v > n->applied) {
        n->applied = out.commit.v;
        step(w, id, (struct raft_event){.kind = RAFT_APPLIED, .index = {n->applied}});
    }
    for (uint32_t i = 0; i < out.n_snapshots_wanted; i++)
        send_snapshot(w, id, out.snapshots_wanted[i]);
    if (out.load_wanted) load(w, id, out.load);
}

static void start(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    struct raft_settings s = w->settings;
    const struct raft_start begin = {
        .state = n->disk.state,
        .base = {n->disk.base},
        .base_term = n->disk.base_term,
        .config = n->disk.config,
        .now = node_now(w, n),
    };

    s.self.v = id;
    s.mem = &w->mem;
    s.seed = prng_next(&w->prng);
    n->raft = raft_new(&s, &begin);
    n->applied = n->disk.base;
    for (uint64_t i = n->disk.base + 1; i <= n->disk.last; i++) {
        const struct disk_entry *d = &n->disk.log[i];
        raft_restore(n->raft, &(struct raft_entry){
                                  {i}, d->term, d->kind, {d->payload, d->len}, NULL});
    }
    n->n_reads = n->n_follower_reads = 0;
    n->dirty = true;
}

static void drop_wire(struct world *w, uint32_t to, bool from_too)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < w->n_wire; i++) {
        if (w->wire[i].to == to || (from_too && w->wire[i].from == to))
            buf_free(&w->wire[i].bytes);
        else
            w->wire[kept++] = w->wire[i];
    }
    w->n_wire = kept;
}

static void do_cut(struct world *w);

static void crash(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    const bool all_lost = prng_chance(&w->prng, 500);

    /* Some of what was being written may have arrived, in order. */
    for (uint32_t i = 0; i < n->n_writes; i++) {
        static bool lost;
        if (i == 0) lost = all_lost;
        lost = lost || prng_chance(&w->prng, 500);
        if (!lost) write_apply(n, &n->writes[i]);
        write_free(w, &n->writes[i]);
    }
    n->n_writes = 0;
    for (uint32_t i = 0; i < n->n_held; i++)
        buf_free(&n->held[i].bytes);
    n->n_held = 0;
    raft_free(n->raft);
    n->raft = NULL;
    n->up_at = w->now + prng_below(&w->prng, 600 * MS_NS);
    bool damaged = false;
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        damaged = damaged || w->nodes[i].disk.state.doubtful;
    const bool damage = !damaged && chance(w, w->plan.damage);
    drop_wire(w, id, damage);
    if (damage) { /* the tail and what was promised since */
        uint64_t less = prng_below(&w->prng, 6);
        while (less-- > 0 && n->disk.last > n->disk.base)
            n->disk.last--;
        if (prng_chance(&w->prng, 500) && n->disk.state.term.v > 1) {
            n->disk.state.term.v -= 1;
            if (n->disk.last > n->disk.base &&
                n->disk.log[n->disk.last].term.v > n->disk.state.term.v)
                n->disk.state.term.v += 1;
            n->disk.state.vote.v = 0;
        }
        n->disk.state.doubtful = true;
        /* The most dangerous moment: it is back at once, and who has the rest is cut
         * off. */
        do_cut(w);
        n->up_at = w->now + MS_NS;
    }
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        if (w->nodes[i].raft != NULL && prng_chance(&w->prng, 500))
            step(w, i, (struct raft_event){.kind = RAFT_PEER_LOST, .peer = {id}});
}

static void install(struct world *w, uint32_t id, const struct raft_msg *m)
{
    struct node *n = &w->nodes[id];
    struct raft_config config;

    if (!raft_config_decode(m->data, &config)) {
        WRONG(w, "snapshot config");
        return;
    }
    step(w, id,
         (struct raft_event){.kind = RAFT_INSTALLED,
                             .index = m->index,
                             .term = m->log_term,
                             .config = &config});
    struct raft_info info;
    raft_info(n->raft, &info);
    n->applied = m->index.v;
    /* The store's switch is durable at once, and the log's beginning with it. */
    const bool kept = info.last.v > m->index.v;
    if (!kept || n->disk.last < m->index.v) n->disk.last = m->index.v;
    n->disk.base = m->index.v;
    n->disk.base_term = m->log_term;
    n->disk.config = config;
    for (uint32_t i = 0; i < n->n_writes && !kept; i++)
        if (n->writes[i].from > 0) {
            write_free(w, &n->writes[i]);
            n->writes[i].from = 0;
        }
}

static void deliver(struct world *w, struct packet k)
{
    struct raft_entry entries[64];
    struct raft_msg m;
    struct node *n = &w->nodes[k.to];

    if (n->raft != NULL && (w->calm || !w->cut[k.from][k.to])) {
        if (!raft_msg_decode(buf_bytes(&k.bytes), &m, entries, 64)) {
            WRONG(w, "a message does not decode");
        } else {
            step(w, k.to, (struct raft_event){.kind = RAFT_RECV, .msg = &m});
            if (m.kind == RAFT_SNAPSHOT && raft_snapshot_welcome(n->raft, &m))
                install(w, k.to, &m);
        }
    }
    buf_free(&k.bytes);
}

/* --- what people do --- */

static void do_read(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    struct raft_info info;
    const enum raft_read_mode mode = w->plan.lease && prng_chance(&w->prng, 700)
                                         ? RAFT_READ_LEASE
                                         : RAFT_READ_ROUND;

    raft_info(n->raft, &info);
    const bool leads = info.role == RAFT_LEADER;
    if (leads && n->n_reads == READS_MAX) return;
    if (!leads && n->n_follower_reads == READS_MAX) return;
    const uint64_t round = raft_read(n->raft, mode, node_now(w, n));
    const struct read r = {round, w->n_committed, info.term};
    n->dirty = true;
    if (!leads) {
        n->follower_reads[n->n_follower_reads++] = r;
    } else if (round == 0) {
        w->lease_reads++;
        if (info.commit.v < w->n_committed) WRONG(w, "n%u: stale lease read", id);
    } else {
        n->reads[n->n_reads++] = r;
    }
}

static void do_change(struct world *w, uint32_t id)
{
    struct raft_config c = {0};
    /* With damage about, three at least: one or two could not clear a doubtful one. */
    const uint32_t least = w->plan.damage > 0 ? 3 : 1;
    const uint32_t voters = least +
                            (uint32_t)prng_below(&w->prng, w->plan.nodes - least + 1);
    uint32_t order[NODES_MAX];

    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        const uint32_t j = (uint32_t)prng_below(&w->prng, i + 1);
        order[i] = order[j];
        order[j] = i + 1;
    }
    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        if (i < voters)
            c.voters[c.n_voters++].v = order[i];
        else if (prng_chance(&w->prng, 500))
            c.learners[c.n_learners++].v = order[i];
    }
    step(w, id, (struct raft_event){.kind = RAFT_CHANGE, .config = &c});
}

static void do_compact(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    const uint64_t keep = prng_below(&w->prng, 4);
    struct raft_config config;

    if (n->applied <= n->disk.base ||
        !raft_config_at(n->raft, (struct log_index){n->applied}, &config))
        return;
    n->disk.base_term = raft_term_at(n->raft, (struct log_index){n->applied});
    n->disk.config = config;
    n->disk.base = n->applied;
    if (n->disk.last < n->disk.base) n->disk.last = n->disk.base;
    step(
        w, id,
        (struct raft_event){.kind = RAFT_COMPACT, .index = {n->applied}, .keep = {keep}});
}

static void do_cut(struct world *w)
{
    const uint32_t shape = (uint32_t)prng_below(&w->prng, 4);

    for (uint32_t a = 1; a <= w->plan.nodes; a++)
        for (uint32_t b = 1; b <= w->plan.nodes; b++)
            w->cut[a][b] = false;
    if (shape == 0) return;
    const uint64_t sides = prng_next(&w->prng);
    for (uint32_t a = 1; a <= w->plan.nodes; a++) {
        for (uint32_t b = 1; b <= w->plan.nodes; b++) {
            if (shape < 3) w->cut[a][b] = (sides >> a & 1) != (sides >> b & 1);
            if (shape == 3) w->cut[a][b] = prng_chance(&w->prng, 250);
        }
    }
}

static void disturb(struct world *w)
{
    const struct plan *p = &w->plan;
    const uint32_t id = 1 + (uint32_t)prng_below(&w->prng, p->nodes);
    struct node *n = &w->nodes[id];

    if (chance(w, p->cut)) do_cut(w);
    if (n->raft == NULL) return;
    if (chance(w, p->crash)) {
        crash(w, id);
        return;
    }
    if (chance(w, p->propose) && raft_may_propose(n->raft) == RAFT_PROPOSED &&
        n->raft->log.last.v < LOG_MAX - 40) {
        uint32_t count = 1 + (uint32_t)prng_below(&w->prng, 4);
        while (count-- > 0) {
            const uint64_t v = ++w->value;
            raft_propose(n->raft, (struct bytes){(const uint8_t *)&v, sizeof v}, NULL);
        }
        n->dirty = true;
    }
    if (chance(w, p->read)) do_read(w, id);
    if (chance(w, p->change) && n->raft->role == RAFT_LEADER) do_change(w, id);
    if (chance(w, p->transfer) && n->raft->role == RAFT_LEADER) {
        step(w, id,
             (struct raft_event){.kind = RAFT_TRANSFER_TO,
                                 .peer = {(uint32_t)prng_below(&w->prng, p->nodes + 1)}});
        w->transfers_done++;
    }
    if (chance(w, p->compact)) do_compact(w, id);
    if (chance(w, p->lost))
        step(w, id,
             (struct raft_event){.kind = RAFT_PEER_LOST,
                                 .peer = {1 + (uint32_t)prng_below(&w->prng, p->nodes)}});
}

/* --- time --- */

static void run_disk(struct world *w, uint32_t id)
{
    struct node *n = &w->nodes[id];
    const bool was_doubtful = n->disk.state.doubtful;

    while (n->n_writes > 0 && n->writes[0].done_at <= w->now) {
        struct write wr = n->writes[0];
        memmove(n->writes, n->writes + 1, --n->n_writes * sizeof n->writes[0]);
        write_apply(n, &wr);
        write_free(w, &wr);
        step(w, id, (struct raft_event){.kind = RAFT_DURABLE, .mark = wr.mark});
        held_release(w, id, wr.mark);
    }
    if (was_doubtful && !n->disk.state.doubtful) w->cleared++;
}

static uint64_t next_moment(const struct world *w)
{
    uint64_t at = UINT64_MAX;

    for (uint32_t i = 0; i < w->n_wire; i++)
        if (w->wire[i].at < at) at = w->wire[i].at;
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        const struct node *n = &w->nodes[i];
        const uint64_t wake = n->raft != NULL ? n->wake : n->up_at;
        if (wake < at) at = wake;
        if (n->raft != NULL && n->n_writes > 0 && n->writes[0].done_at < at)
            at = n->writes[0].done_at;
    }
    return at > w->now ? at : w->now;
}

static void moment(struct world *w)
{
    for (uint32_t i = 0; i < w->n_wire; i++) {
        if (w->wire[i].at > w->now) continue;
        const struct packet k = w->wire[i];
        w->wire[i--] = w->wire[--w->n_wire];
        deliver(w, k);
    }
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        struct node *n = &w->nodes[i];
        if (n->raft == NULL) {
            if (n->up_at <= w->now) start(w, i);
            continue;
        }
        run_disk(w, i);
        if (n->wake <= w->now) step(w, i, (struct raft_event){.kind = RAFT_TICK});
    }
    if (!w->calm) disturb(w);
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        if (w->nodes[i].raft != NULL && w->nodes[i].dirty) turn_end(w, i);
}

static void run_until(struct world *w, uint64_t end)
{
    uint32_t still = 0;

    while (w->now < end && w->wrong[0] == 0) {
        uint64_t next = next_moment(w);
        still = next == w->now ? still + 1 : 0;
        if (still > 2000) {
            WRONG(w, "time stands still");
            return;
        }
        if (!w->calm && next > w->now + MS_NS) next = w->now + MS_NS;
        w->now = next;
        moment(w);
        if (prng_chance(&w->prng, 100))
            check_logs(w, 1 + (uint32_t)prng_below(&w->prng, w->plan.nodes),
                       1 + (uint32_t)prng_below(&w->prng, w->plan.nodes));
    }
}

/* --- a run --- */

static struct plan plan_of(uint64_t seed)
{
    struct prng p = prng_seed(seed * 7919);
    struct plan plan = {
        .nodes = prng_chance(&p, 500) ? 5 : 3,
        .voters = 3,
        .loss = (uint32_t)prng_below(&p, 200),
        .dup = (uint32_t)prng_below(&p, 200),
        .net_ns = (1 + prng_below(&p, 20)) * MS_NS,
        .disk_ns = (1 + prng_below(&p, 30)) * MS_NS,
        .crash = (uint32_t)prng_below(&p, 1200),
        .damage = prng_chance(&p, 400) ? 30000 : 0,
        .cut = (uint32_t)prng_below(&p, 1500),
        .change = prng_chance(&p, 600) ? 20000 : 0,
        .transfer = prng_chance(&p, 600) ? 2500 : 0,
        .propose = 20000,
        .read = 30000,
        .compact = prng_chance(&p, 500) ? 4000 : 200,
        .lost = (uint32_t)prng_below(&p, 400),
        .lease = prng_chance(&p, 600),
        .log_bytes_max = prng_chance(&p, 500) ? 600 : 1 << 20,
    };
    if (plan.nodes == 5 && prng_chance(&p, 500)) plan.voters = 5;
    return plan;
}

/* What brings a rare order of events about more often. */
static struct plan storm_of(uint64_t seed)
{
    struct plan plan = plan_of(seed);

    plan.crash = 1500;
    plan.cut = 2000;
    plan.disk_ns = 60 * MS_NS;
    plan.loss = 50;
    plan.change = 6000;
    plan.transfer = 2500;
    plan.damage = 30000;
    return plan;
}

/* R43: a third of what is sent is lost, half of it comes twice, and late. */
static struct plan lossy_of(uint64_t seed)
{
    struct plan plan = plan_of(seed);

    plan.loss = 300;
    plan.dup = 500;
    plan.net_ns = 30 * MS_NS;
    plan.crash = plan.cut = plan.damage = plan.change = plan.lost = 0;
    return plan;
}

enum weather { WEATHER_USUAL = 0, WEATHER_STORM, WEATHER_LOSSY, WEATHER_CLOCKS };

static struct world *world_new(uint64_t seed, struct raft_settings settings,
                               enum weather weather)
{
    struct world *w = calloc(1, sizeof *w);

    w->mem = mem_for_test();
    w->prng = prng_seed(seed);
    switch (weather) {
    case WEATHER_USUAL: w->plan = plan_of(seed); break;
    case WEATHER_STORM: w->plan = storm_of(seed); break;
    case WEATHER_LOSSY: w->plan = lossy_of(seed); break;
    case WEATHER_CLOCKS:
        w->plan = plan_of(seed);
        w->plan.lease = false; /* leases rest on clocks within drift_ns */
        break;
    }
    w->settings = settings;
    w->settings.log_bytes_max = w->plan.log_bytes_max;
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        struct node *n = &w->nodes[i];
        n->offset = prng_below(&w->prng, 1000) * SEC_NS;
        n->rate = prng_range(&w->prng, 980, 1020); /* within drift_ns of each other */
        if (weather == WEATHER_CLOCKS) n->rate = prng_range(&w->prng, 500, 2000);
        n->disk.log = calloc(LOG_MAX, sizeof *n->disk.log);
        for (uint32_t v = 1; v <= w->plan.voters; v++)
            n->disk.config.voters[n->disk.config.n_voters++].v = v;
        if (i == 1) w->committed_config[0] = n->disk.config;
        start(w, i);
    }
    return w;
}

static void world_free(struct world *w)
{
    for (uint32_t i = 0; i < w->n_wire; i++)
        buf_free(&w->wire[i].bytes);
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        struct node *n = &w->nodes[i];
        for (uint32_t j = 0; j < n->n_writes; j++)
            write_free(w, &n->writes[j]);
        for (uint32_t j = 0; j < n->n_held; j++)
            buf_free(&n->held[j].bytes);
        if (n->raft != NULL) raft_free(n->raft);
        free(n->disk.log);
    }
    if (w->mem.used != 0) WRONG(w, "memory is left");
    free(w);
}

/* Once the weather clears there is a leader, it commits, and all members get there. */
static void calm_down(struct world *w)
{
    uint32_t leader = 0;

    w->calm = true;
    run_until(w, w->now + 3000 * MS_NS);
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        if (w->nodes[i].raft != NULL && w->nodes[i].raft->role == RAFT_LEADER) leader = i;
    if (w->wrong[0] != 0) return;
    if (leader == 0) {
        WRONG(w, "no leader in calm weather");
        return;
    }
    struct raft *raft = w->nodes[leader].raft;
    const uint64_t v = ++w->value;
    const struct log_index at = raft_propose(raft, (struct bytes){(const uint8_t *)&v, 8},
                                             NULL);
    w->nodes[leader].dirty = true;
    run_until(w, w->now + 1000 * MS_NS);
    if (w->wrong[0] != 0) return;
    struct raft_info info;
    raft_info(raft, &info);
    if (at.v == 0 || info.commit.v < at.v || info.joint)
        WRONG(w, "no commit in calm weather");
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        struct raft_info of;
        raft_info(w->nodes[i].raft, &of);
        if (raft_members_has(&info.config, (struct server_id){i}) && of.commit.v < at.v)
            WRONG(w, "n%u is left behind at %lu of %lu", i, (unsigned long)of.commit.v,
                  (unsigned long)at.v);
        if (raft_members_has(&info.config, (struct server_id){i}) && of.doubtful)
            WRONG(w, "n%u is doubtful for ever", i);
        check_logs(w, i, leader);
    }
}

static struct raft_settings usual(void)
{
    return (struct raft_settings){
        .election_ns = 100 * MS_NS,
        .heartbeat_ns = 20 * MS_NS,
        .drift_ns = 5 * MS_NS,
        .append_entries_max = 8,
        .append_bytes_max = 500,
        .inflight_max = 4,
        .inflight_bytes_max = 2000,
        .uncommitted_bytes_max = 4000,
    };
}

static struct {
    uint64_t commits, reads, follower_reads, lease_reads, snapshots, loads, joints,
        cleared;
    uint64_t leaders;
} seen;

/* False: something was wrong, and `text` says what. */
static bool run_seed(uint64_t seed, struct raft_settings settings, enum weather weather,
                     char text[200])
{
    struct world *w = world_new(seed, settings, weather);

    run_until(w, 6000 * MS_NS);
    if (w->wrong[0] == 0) calm_down(w);
    memcpy(text, w->wrong, 200);
    const bool fine = w->wrong[0] == 0;
    seen.commits += w->n_committed;
    seen.reads += w->reads_done;
    seen.follower_reads += w->follower_reads_done;
    seen.lease_reads += w->lease_reads;
    seen.snapshots += w->snapshots;
    seen.loads += w->loads;
    seen.joints += w->joints;
    seen.cleared += w->cleared;
    seen.leaders += w->n_leaders;
    world_free(w);
    return fine;
}

static uint64_t seeds(void)
{
    const char *text = getenv("RAFT_SEEDS");

    return text != NULL ? strtoull(text, NULL, 10) : 200;
}

static void clusters_keep_their_promises(void **state)
{
    char text[200];
    const char *one = getenv("RAFT_SEED");

    (void)state;
    memset(&seen, 0, sizeof seen);
    for (uint64_t seed = 1; seed <= seeds(); seed++) {
        if (one != NULL && seed != strtoull(one, NULL, 10)) continue;
        const enum weather weather = seed % 4 == 0 ? WEATHER_STORM : WEATHER_USUAL;
        if (!run_seed(seed, usual(), weather, text)) {
            print_error("seed %lu: %s\n", (unsigned long)seed, text);
            fail();
        }
    }
    print_message("commits %lu leaders %lu reads %lu follower reads %lu lease reads %lu "
                  "snapshots %lu loads %lu joints %lu cleared %lu\n",
                  (unsigned long)seen.commits, (unsigned long)seen.leaders,
                  (unsigned long)seen.reads, (unsigned long)seen.follower_reads,
                  (unsigned long)seen.lease_reads, (unsigned long)seen.snapshots,
                  (unsigned long)seen.loads, (unsigned long)seen.joints,
                  (unsigned long)seen.cleared);
    if (one != NULL) return;
    /* A storm that never reaches these shows nothing about them. */
    assert_true(seen.commits > 0 && seen.reads > 0 && seen.follower_reads > 0);
    assert_true(seen.lease_reads > 0 && seen.snapshots > 0 && seen.loads > 0);
    assert_true(seen.joints > 0 && seen.cleared > 0);
}

/* R43: nothing is violated, there is progress all the while, and calm comes after. */
static void R43_loss_doubling_and_delay_cost_nothing_but_time(void **state)
{
    char text[200];

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        memset(&seen, 0, sizeof seen);
        if (!run_seed(seed, usual(), WEATHER_LOSSY, text)) {
            print_error("seed %lu: %s\n", (unsigned long)seed, text);
            fail();
        }
        assert_true(seen.commits > 20 && seen.reads > 0);
    }
}

/* R25: clocks at half and at twice the rate cost elections at most.  (There is no wall clock
 * in the core that could jump.) */
static void R25_clocks_of_other_rates_cost_elections_at_most(void **state)
{
    char text[200];

    (void)state;
    memset(&seen, 0, sizeof seen);
    for (uint64_t seed = 1; seed <= 30; seed++) {
        if (!run_seed(seed, usual(), WEATHER_CLOCKS, text)) {
            print_error("seed %lu: %s\n", (unsigned long)seed, text);
            fail();
        }
    }
    assert_true(seen.commits > 1000 && seen.reads > 1000 && seen.leaders > 60);
}

/* A mutant must be found out by a checker, or by a check of the core itself. */
static void assert_caught(struct raft_settings settings)
{
    volatile uint64_t seed = 1;
    volatile bool caught = false;
    char text[200] = "";

    break_is_caught = true;
    for (; seed <= 3000 && !caught; seed++) {
        if (setjmp(broken) != 0) {
            caught = true;
            memcpy(text, break_text, sizeof text);
        } else {
            const enum weather weather = seed % 2 == 0 ? WEATHER_STORM : WEATHER_USUAL;
            caught = !run_seed(seed, settings, weather, text);
        }
    }
    break_is_caught = false;
    print_message("seed %lu: %s\n", (unsigned long)(seed - 1), text);
    assert_true(caught);
}

#define MUTANT(name)                                                                     \
    static void name##_is_caught(void **state)                                           \
    {                                                                                    \
        struct raft_settings s = usual();                                                \
        (void)state;                                                                     \
        s.name = true;                                                                   \
        assert_caught(s);                                                                \
    }

MUTANT(bug_commit_quorum_one_short)
MUTANT(bug_vote_before_durable)
MUTANT(bug_stale_read_round)
MUTANT(bug_lease_through_transfer)
MUTANT(bug_snapshot_drops_config)
MUTANT(bug_vote_shorter_log)
MUTANT(bug_ack_before_durable)
MUTANT(bug_no_truncate)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_keep_their_promises),
        cmocka_unit_test(R25_clocks_of_other_rates_cost_elections_at_most),
        cmocka_unit_test(R43_loss_doubling_and_delay_cost_nothing_but_time),
        cmocka_unit_test(bug_commit_quorum_one_short_is_caught),
        cmocka_unit_test(bug_vote_before_durable_is_caught),
        cmocka_unit_test(bug_stale_read_round_is_caught),
        cmocka_unit_test(bug_lease_through_transfer_is_caught),
        cmocka_unit_test(bug_snapshot_drops_config_is_caught),
        cmocka_unit_test(bug_vote_shorter_log_is_caught),
        cmocka_unit_test(bug_ack_before_durable_is_caught),
        cmocka_unit_test(bug_no_truncate_is_caught),
    };
    /* RAFT_SEEDS=n runs more of the storm, RAFT_SEED=n one seed, and no mutants. */
    if (getenv("RAFT_SEEDS") != NULL) cmocka_set_test_filter("clusters*");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
