/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/disaster.h"

#include "sim/checks.h"

/* ---- who is lost ---- */

static uint32_t some_survivor(struct world *w)
{
    const uint32_t from = (uint32_t)prng_below(&w->faults, DISASTER_MEMBERS);

    for (uint32_t i = 0; i < DISASTER_MEMBERS; i++) {
        const uint32_t at = (from + i) % DISASTER_MEMBERS;
        if (w->machines[at].life != NULL && w->machines[at].life->ready) return at;
    }
    return from;
}

static void on_lost(void *ctx, uint64_t was_cut, uint64_t unused)
{
    struct world *w = ctx;

    (void)unused;
    w->lost_ns = w->time.now_ns + SEC_NS; /* answers may be under way */
    for (uint32_t i = 0; i < DISASTER_MEMBERS; i++) {
        struct machine *m = &w->machines[i];
        if (i == w->survivor) continue;
        if (was_cut != 0) net_mend(&w->net, i, w->survivor);
        if (was_cut != 0) net_mend(&w->net, w->survivor, i);
        m->away++;
        m->removed = true;
        m->started = m->wanted = false;
        world_kill(w, i, true);
    }
}

/* Often the survivor is cut off before, so that it lacks what the others acknowledged last. */
void disaster_begins(struct world *w, uint64_t number)
{
    const uint64_t cuts = prng_below(&w->faults, 2);
    const uint64_t wait_ns = cuts * prng_range(&w->faults, 100 * MS_NS, 4500 * MS_NS);

    w->cut_ns = w->time.now_ns - 6 * SEC_NS; /* it may have been cut off before */
    w->survivor = some_survivor(w);
    w->old_returning = (uint32_t)w->story.faults[number].n;
    for (uint32_t i = 0; i < DISASTER_MEMBERS && cuts != 0; i++) {
        if (i == w->survivor) continue;
        net_cut(&w->net, i, w->survivor);
        net_cut(&w->net, w->survivor, i);
    }
    timeline_at(&w->time, w->time.now_ns + wait_ns, on_lost, w, cuts, 0);
}

/* ---- what survives ---- */

static bool may_be_told(const struct shard *s)
{
    struct raft_info info;

    raft_info(shard_raft(s), &info);
    return info.role != RAFT_LEADER && info.durable.v == info.last.v;
}

static void note_shard(struct world *w, struct shard *s)
{
    struct store *store = shard_store(s);
    struct key_place from = {0}, place;
    struct raft_entry e;
    struct raft_info info;
    struct bytes key;
    struct item item;
    uint64_t keys = 0;

    for (uint32_t skip = 0; store_walk(store, from, skip, &place, &key, &item); keys++) {
        if (item.value.at != NULL) buf_put(&w->survived, item.value.at, item.value.len);
        if (item.value.at == NULL)
            store_read(store, key, 0, item.value.len, &w->survived);
        buf_put_u8(&w->survived, 0);
        skip = keys > 0 && place.v == from.v ? skip + 1 : 1;
        from = place;
    }
    raft_info(shard_raft(s), &info);
    for (uint64_t i = info.applied.v + 1; i <= info.durable.v; i++)
        if (raft_entry_at(shard_raft(s), (struct log_index){i}, &e))
            buf_put(&w->survived, e.payload.at, e.payload.len);
}

static bool note_survived(struct world *w, const struct life *l)
{
    for (uint32_t i = 0; server_shard(l->server, i) != NULL; i++)
        if (!may_be_told(server_shard(l->server, i))) return false;
    for (uint32_t i = 0; server_shard(l->server, i) != NULL; i++)
        if (shard_group(server_shard(l->server, i)).v != 0)
            note_shard(w, server_shard(l->server, i));
    return true;
}

bool disaster_lost(struct world *w, struct bytes value, uint64_t answered_ns)
{
    const struct bytes all = buf_bytes(&w->survived);

    if (answered_ns > w->lost_ns || answered_ns < w->cut_ns) return false;
    for (size_t i = 0; value.len > 0 && i + value.len <= all.len; i++)
        if (memcmp(all.at + i, value.at, value.len) == 0) return false;
    w->report.marks[MARK_gone]++;
    return true;
}

/* ---- sennit recover ---- */

static void on_again(void *ctx, uint64_t machine, uint64_t unused)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[machine];

    (void)unused;
    if (m->life != NULL) return;
    m->power = true;
    world_start(w, m->index);
}

static void on_interrupted(void *ctx, uint64_t machine, uint64_t power)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[machine];

    if (!m->recovering || m->life == NULL) return;
    w->report.marks[MARK_interrupted]++;
    world_kill(w, m->index, power != 0);
    timeline_at(&w->time, w->time.now_ns + SEC_NS, on_again, w, machine, 0);
}

static void on_recovery(void *ctx, uint64_t unused, uint64_t unused_too)
{
    (void)unused;
    (void)unused_too;
    disaster_recovers(ctx);
}

void disaster_recovers(struct world *w)
{
    struct machine *m = &w->machines[w->survivor];

    if (m->life == NULL || !m->life->ready || !note_survived(w, m->life)) {
        timeline_at(&w->time, w->time.now_ns + 200 * MS_NS, on_recovery, w, 0, 0);
        return;
    }
    world_kill(w, m->index, false);
    m->recovering = true;
    world_start(w, m->index);
    if (prng_chance(&w->faults, 600))
        timeline_at(&w->time, w->time.now_ns + prng_below(&w->faults, 60 * MS_NS),
                    on_interrupted, w, m->index, prng_below(&w->faults, 2));
}

/* ---- and after ---- */

static void on_new_machine(void *ctx, uint64_t machine, uint64_t unused)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[machine];

    (void)unused;
    if (m->started) return;
    if (m->away > 0) world_wipe(w, m->index);
    m->away = 0;
    m->removed = false;
    m->power = true;
    world_start(w, m->index);
}

/* While the survivor is there to be heard: without it a majority of old ones would be right to
 * think itself the cluster. */
static void on_old_machine(void *ctx, uint64_t machine, uint64_t unused)
{
    struct world *w = ctx;
    struct machine *m = &w->machines[machine];
    const struct life *there = w->machines[w->survivor].life;

    (void)unused;
    if (there == NULL || !there->ready) {
        timeline_at(&w->time, w->time.now_ns + 200 * MS_NS, on_old_machine, w, machine,
                    0);
        return;
    }
    m->away = 0;
    m->outcast = m->power = true;
    world_start(w, m->index);
}

static void goes_on(struct world *w, struct machine *m)
{
    m->recovering = false;
    w->recovered_ns = w->time.now_ns;
    w->report.marks[MARK_recovered]++;
    for (uint32_t i = 0; i < w->plan->machines; i++) {
        const uint64_t soon = w->time.now_ns + prng_below(&w->faults, 3 * SEC_NS);
        const bool old = i < DISASTER_MEMBERS && w->old_returning > 0;
        if (i == w->survivor) continue;
        timeline_at(&w->time, old ? soon + 3 * SEC_NS : soon,
                    old ? on_old_machine : on_new_machine, w, i, 0);
        if (old) w->old_returning--;
    }
}

/* Its last step is the host's: the files of the log go, the newest last or not at all. */
static void recovery_ended(struct machine *m, int code, const char *why)
{
    static struct wal_file files[DISK_FILES_MAX];
    struct world *w = m->world;
    const uint32_t n = disk_list(&m->disk, files, DISK_FILES_MAX);
    const bool whole = prng_chance(&w->faults, 700);
    const uint32_t upto = whole ? n : (uint32_t)prng_below(&w->faults, n + 1);

    if (code != 0) world_fail(w, "recovery of %s ended with %d: %s", m->name, code, why);
    world_kill(w, m->index, false);
    for (uint32_t i = 0; i < upto; i++)
        (void)disk_remove(&m->disk, files[i].file);
    if (upto == n) {
        disk_sync_folder(&m->disk);
        goes_on(w, m);
    }
    timeline_at(&w->time, w->time.now_ns + SEC_NS, on_again, w, m->index, 0);
}

bool disaster_exit(struct machine *m, int code, const char *why)
{
    if (m->recovering) {
        recovery_ended(m, code, why);
        return true;
    }
    if (!m->outcast || strstr(why, "recovered without this server") == NULL) return false;
    m->world->report.marks[MARK_outcasts]++;
    m->started = m->wanted = false;
    world_kill(m->world, m->index, false);
    return true;
}
