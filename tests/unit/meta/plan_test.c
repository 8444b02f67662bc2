/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "base/prng.h"
#include "meta/record.h"
#include "meta_world.h"

/* Group 0 is the meta shard, group 1 that of default. */
static void a_cluster_grows_from_one_to_five(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    assert_int_equal(meta_world_plan(&w), 0);
    assert_string_equal(meta_world_members(&w, 0), "1");
    assert_string_equal(meta_world_members(&w, 1), "1");

    meta_world_join(&w, "");
    assert_int_equal(meta_world_plan(&w), 2);
    assert_string_equal(meta_world_members(&w, 0), "1 | 2");
    assert_string_equal(meta_world_members(&w, 1), "1 | 2");

    meta_world_join(&w, "");
    assert_int_equal(meta_world_plan(&w), 2);
    assert_string_equal(meta_world_members(&w, 0), "1 2 3");
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");

    meta_world_join(&w, "");
    assert_int_equal(meta_world_plan(&w), 0); /* it follows without being named */
    assert_string_equal(meta_world_members(&w, 0), "1 2 3 | 4");
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");

    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 0), "1 2 3 4 5");
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");

    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 0), "1 2 3 4 5 | 6");
    assert_int_equal(meta_world_plan(&w), 0);
    meta_world_free(&w);
}

static void one_step_changes_one_shard_and_the_meta_shard_first(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    assert_true(meta_plan(&w.meta, NULL, &w.planner, &(struct meta_change){&w.effects}));
    meta_world_commit(&w);
    assert_string_equal(meta_world_members(&w, 0), "1 | 2");
    assert_string_equal(meta_world_members(&w, 1), "1");
    meta_world_free(&w);
}

static void an_even_number_of_replicas_is_voters_and_a_learner(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    for (int i = 0; i < 4; i++)
        meta_world_join(&w, "");
    meta_world_command(&w, "KEYSPACE ALTER default REPLICAS 2");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 | 2");
    meta_world_command(&w, "KEYSPACE ALTER default REPLICAS 4");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3 | 4");
    meta_world_command(&w, "KEYSPACE ALTER default REPLICAS 5");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3 4 5");
    meta_world_command(&w, "KEYSPACE ALTER default REPLICAS 1 LEARNERS 2");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 | 2 3");
    meta_world_free(&w);
}

static void replicas_spread_over_zones(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "a");
    meta_world_join(&w, "a");
    meta_world_join(&w, "a");
    meta_world_join(&w, "b");
    meta_world_join(&w, "c");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 4 5");

    /* 2 and 3 hold less, but a zone that is lost must not take two of three with it. */
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 30");
    uint32_t held[6] = {0};
    for (uint32_t i = 0; i < 30; i++) {
        const struct meta_shard *s = meta_shard_of(&w.meta, 2, i);
        uint32_t in_a = 0;
        assert_int_equal(s->n_voters, 3);
        for (uint8_t v = 0; v < 3; v++) {
            in_a += s->voters[v].v <= 3;
            held[s->voters[v].v]++;
        }
        assert_int_equal(in_a, 1);
    }
    assert_int_equal(held[1] + held[2] + held[3], 30);
    for (uint32_t id = 1; id <= 3; id++)
        assert_in_range(held[id], 9, 11);
    meta_world_free(&w);
}

static void replicas_lie_evenly_on_servers(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    for (int i = 0; i < 5; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 64");
    uint32_t held[7] = {0};
    for (uint32_t i = 0; i < w.meta.n_shards; i++) {
        const struct meta_shard *s = w.meta.shards[i];
        for (uint8_t v = 0; v < s->n_voters && s->keyspace != 0; v++)
            held[s->voters[v].v]++;
    }
    for (uint32_t id = 1; id <= 6; id++)
        assert_in_range(held[id], 65 * 3 / 6, 65 * 3 / 6 + 1);
    meta_world_free(&w);
}

static void founders_are_spread_and_stay_who_they_were(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t founded[5] = {0};

    meta_world_found(&w, "");
    for (int i = 0; i < 2; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 8");
    for (uint32_t i = 0; i < w.meta.n_shards; i++)
        if (w.meta.shards[i]->keyspace != 0) founded[w.meta.shards[i]->founder.v]++;
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(founded[id], 3);

    const struct meta_shard *s = meta_shard_of(&w.meta, 2, 0);
    const uint32_t founder = s->founder.v;
    meta_world_command(&w, "KEYSPACE ALTER cart REPLICAS 1");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_int_equal(s->n_voters, 1);
    assert_int_equal(s->founder.v, founder);
    meta_world_free(&w);
}

/* Who begins it is told by the record that came first: its voters stay, whoever is lost. */
static void a_shard_that_has_not_begun_keeps_its_first_voters(void **state)
{
    (void)state;
    struct meta_world w;
    const struct meta_judge judge = {meta_world_health, &w};

    meta_world_found(&w, "");
    for (int i = 0; i < 3; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE primary");
    const struct meta_shard *s = meta_shard_of(&w.meta, 2, 0);
    assert_true(meta_unborn(s));
    w.lost = 1u << s->founder.v;
    const struct meta_shard before = *s;
    while (meta_plan(&w.meta, &judge, &w.planner, &(struct meta_change){&w.effects}))
        meta_world_commit(&w);
    assert_true(meta_unborn(s));
    assert_memory_equal(s->voters, before.voters, sizeof s->voters);
    assert_non_null(strstr(meta_world_command(&w, "KEYSPACE ALTER cart ACK 1"),
                           "-ERR keyspace 'cart' has shards that have not begun yet"));
    assert_false(
        meta_move_voter(&w.meta, 2, before.voters[0], &(struct meta_change){&w.effects}));

    meta_world_plan(&w); /* the others began it */
    assert_false(meta_unborn(s));
    for (uint32_t i = 0; i < 3; i++)
        assert_int_not_equal(s->voters[i].v, before.founder.v);
    assert_string_equal(meta_world_command(&w, "KEYSPACE ALTER cart ACK 1"), ":2\r\n");
    meta_world_free(&w);
}

static void a_silent_server_keeps_what_it_has_and_gets_nothing(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    w.silent = 1u << 3;
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 0), "1 | 2 3"); /* all follow meta */
    assert_string_equal(meta_world_members(&w, 1), "1 | 2");

    w.silent = 0;
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    w.silent = 1u << 2 | 1u << 3;
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 0), "1 2 3 | 4");
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    meta_world_free(&w);
}

static void leave(struct meta_world *w, uint32_t id)
{
    struct meta_server s = *meta_server(&w->meta, (struct server_id){id});

    s.state = SERVER_LEAVING;
    record_put_server(&w->effects, &s, false);
    meta_world_commit(w);
}

static void a_leaving_server_is_replaced_once_there_is_another(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    leave(&w, 1);
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    assert_int_not_equal(meta_shard(&w.meta, (struct group_id){1})->lead.v, 1);
    assert_non_null(meta_server(&w.meta, (struct server_id){1}));
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 0), "2 3 4");
    assert_string_equal(meta_world_members(&w, 1), "2 3 4");
    assert_true(meta_was_removed(&w.meta, (struct server_id){1}));
    assert_false(meta_was_removed(&w.meta, (struct server_id){5}));
    meta_world_free(&w);
}

/* Whatever happens, planning ends, rests, and leaves every shard with a voter. */
static void any_history_comes_to_rest(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct prng p = prng_seed(seed);
        struct meta_world w;
        char line[96];

        meta_world_found(&w, "z0");
        for (int i = 0; i < 40; i++) {
            const uint64_t what = prng_below(&p, 6);
            const unsigned a = (unsigned)prng_below(&p, 5),
                           b = (unsigned)prng_below(&p, 9);
            const char zone[] = {'z', (char)('0' + a % 4), '\0'};
            if (what == 0 && w.meta.n_servers < 16) meta_world_join(&w, zone);
            snprintf(line, sizeof line, "KEYSPACE ALTER default REPLICAS %u LEARNERS %u",
                     a + 1, b);
            if (what == 1) meta_world_command(&w, line);
            snprintf(line, sizeof line,
                     "KEYSPACE CREATE k%u MODE raft SHARDS %u REPLICAS %u", a, b + 1,
                     a + 1);
            if (what == 2) meta_world_command(&w, line);
            snprintf(line, sizeof line, "KEYSPACE DROP k%u", a);
            if (what == 3) meta_world_command(&w, line);
            if (what == 4) w.silent = (uint32_t)prng_next(&p);
            if (what == 5 && i > 30)
                leave(&w, w.meta.servers[prng_below(&p, w.meta.n_servers)]->id.v);
            meta_world_plan(&w);
            for (uint32_t s = 0; s < w.meta.n_shards; s++)
                assert_int_equal(w.meta.shards[s]->n_voters % 2, 1);
        }
        meta_world_free(&w);
    }
}

/* ---- zones, evenness, leads ---- */

static void a_replica_moves_to_a_zone_that_has_none(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "a");
    meta_world_join(&w, "a");
    meta_world_join(&w, "b");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    w.silent = 1u << 4;
    meta_world_join(&w, "c");
    meta_world_plan(&w); /* not to one that is not there */
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    w.silent = 0;
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "2 3 4");
    assert_string_equal(meta_world_members(&w, 0), "2 3 4 | 1");
    for (uint32_t silent = 0; silent < 32; silent += 2) { /* and nothing undoes it */
        w.silent = silent;
        assert_int_equal(meta_world_plan(&w), 0);
    }
    meta_world_free(&w);
}

static void held_by(const struct meta_world *w, uint32_t held[RAFT_PEERS_MAX + 1],
                    uint32_t leads[RAFT_PEERS_MAX + 1])
{
    for (uint32_t i = 0; i <= RAFT_PEERS_MAX; i++)
        held[i] = leads[i] = 0;
    for (uint32_t i = 0; i < w->meta.n_shards; i++) {
        const struct meta_shard *s = w->meta.shards[i];
        if (s->keyspace == 0) continue;
        for (uint8_t v = 0; v < s->n_voters; v++)
            held[s->voters[v].v]++;
        leads[s->lead.v]++;
    }
}

static void replicas_and_leads_move_to_servers_that_join(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t held[RAFT_PEERS_MAX + 1], leads[RAFT_PEERS_MAX + 1];

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 29");
    for (int i = 0; i < 3; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    held_by(&w, held, leads);
    for (uint32_t id = 1; id <= 6; id++) {
        assert_int_equal(held[id], 15); /* 30 shards, 3 replicas, 6 servers */
        assert_int_equal(leads[id], 5);
    }
    assert_int_equal(meta_world_plan(&w), 0);
    meta_world_free(&w);
}

static void few_shards_are_moved_at_once_without_need(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t moving = 0;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 20");
    meta_world_join(&w, "");
    meta_world_plan(&w); /* all of it is settled now */
    meta_world_join(&w, "");
    while (meta_plan(&w.meta, NULL, &w.planner, &(struct meta_change){&w.effects}))
        meta_world_commit(&w); /* but nobody arrives any more */
    for (uint32_t i = 0; i < w.meta.n_shards; i++)
        moving += !w.meta.shards[i]->settled;
    assert_in_range(moving, 1, 4);
    meta_world_free(&w);
}

/* The meta leader does nothing else meanwhile.  Numbers, not times: work is servers looked at. */
static void a_call_is_short_however_many_shards_there_are(void **state)
{
    (void)state;
    enum { SERVERS = 40, SHARDS_EACH = 1024, KEYSPACES = 8, WORK_MAX = 1 << 18 };
    struct meta_world w;
    const struct meta_judge judge = {meta_world_health, &w};
    char line[80];
    uint32_t calls = 0, n_changed = 0;

    meta_world_found(&w, "");
    for (int i = 1; i < SERVERS; i++)
        meta_world_join(&w, "");
    for (int i = 0; i < KEYSPACES; i++) {
        snprintf(line, sizeof line, "KEYSPACE CREATE k%d MODE raft SHARDS %d", i,
                 SHARDS_EACH);
        meta_world_command(&w, line);
    }
    meta_world_plan(&w);
    assert_false(
        meta_plan(&w.meta, &judge, &w.planner, &(struct meta_change){&w.effects}));
    assert_int_equal(w.planner.looked, 0);

    meta_world_join(&w, "");
    do {
        const uint64_t before = w.meta.version;
        if (meta_plan(&w.meta, &judge, &w.planner, &(struct meta_change){&w.effects}))
            meta_world_commit(&w);
        n_changed += (uint32_t)(w.meta.version - before);
        assert_true(w.planner.looked <= WORK_MAX / w.meta.n_servers + 1);
        meta_world_arrive(&w);
        assert_true(++calls < 1000);
    } while (!w.planner.rests);
    const uint32_t fair = (SHARDS_EACH * KEYSPACES + 1) * 3 / (SERVERS + 1);
    uint32_t held[RAFT_PEERS_MAX + 1], leads[RAFT_PEERS_MAX + 1];
    held_by(&w, held, leads);
    for (uint32_t id = 1; id <= SERVERS + 1; id++) {
        assert_in_range(held[id], fair - 1, fair + 2);
        assert_in_range(leads[id], fair / 3 - 3, fair / 3 + 3);
    }
    assert_true(n_changed >= fair - 1);
    assert_true(calls < n_changed / 4); /* many changes with each */
    meta_world_free(&w);
}

static void a_lead_that_an_operator_gave_is_not_balanced(void **state)
{
    (void)state;
    struct meta_world w;
    const struct meta_shard *s;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 8");
    for (uint32_t i = 0; (s = meta_shard_of(&w.meta, 2, i)) != NULL; i++) {
        (void)meta_prefer(&w.meta, s->group, (struct server_id){2},
                          &(struct meta_change){&w.effects});
        meta_world_commit(&w);
    }
    meta_world_plan(&w);
    for (uint32_t i = 0; (s = meta_shard_of(&w.meta, 2, i)) != NULL; i++)
        assert_int_equal(s->lead.v, 2);
    assert_false(meta_prefer(&w.meta, (struct group_id){2}, (struct server_id){9},
                             &(struct meta_change){&w.effects}));
    meta_world_join(&w, "");
    meta_world_command(&w, "SERVER DRAIN n2");
    meta_world_plan(&w);
    for (uint32_t i = 0; (s = meta_shard_of(&w.meta, 2, i)) != NULL; i++)
        assert_int_not_equal(s->lead.v, 2);
    meta_world_free(&w);
}

/* ---- servers that are lost ---- */

static void a_lost_server_is_replaced_if_there_is_another(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    for (int i = 0; i < 2; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    w.lost = 1u << 2;
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3"); /* nobody could */
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 3 4");
    assert_string_equal(meta_world_members(&w, 0), "1 3 4 | 2");
    w.lost = 0; /* it comes back: a member like any other, without its replicas */
    assert_int_equal(meta_world_plan(&w), 0);
    meta_world_free(&w);
}

static void a_lost_server_is_waited_for_where_zones_would_suffer(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "a");
    meta_world_join(&w, "b");
    meta_world_join(&w, "c");
    meta_world_join(&w, "a");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    w.lost = 1u << 3;
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    meta_world_join(&w, "c");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 5");
    meta_world_free(&w);
}

/* ---- SERVER ---- */

static bool says(const char *reply, const char *words)
{
    return strstr(reply, words) != NULL;
}

static void a_server_drains_and_is_active_again(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    for (int i = 0; i < 3; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_command(&w, "SERVER DRAIN n2"), "+OK\r\n");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 3 4");
    assert_string_equal(meta_world_members(&w, 0), "1 3 4 | 2"); /* it still follows */
    assert_int_equal(meta_held(&w.meta, (struct server_id){2}), 0);
    assert_non_null(meta_server(&w.meta, (struct server_id){2}));
    assert_string_equal(meta_world_command(&w, "SERVER ACTIVATE n2"), "+OK\r\n");
    meta_world_command(&w, "KEYSPACE ALTER default REPLICAS 4");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 3 4 | 2");
    meta_world_free(&w);
}

static void a_server_is_forgotten_only_when_nobody_has_it(void **state)
{
    (void)state;
    struct meta_world w;
    struct meta_change change;

    meta_world_found(&w, "");
    for (int i = 0; i < 3; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "SERVER REMOVE n1");
    change.effects = &w.effects;
    while (meta_plan(&w.meta, NULL, &w.planner,
                     &change)) /* targets move, but no membership yet */
        meta_world_commit(&w);
    assert_string_equal(meta_world_members(&w, 1), "2 3 4");
    assert_int_equal(meta_held(&w.meta, (struct server_id){1}), 1);
    assert_non_null(meta_server(&w.meta, (struct server_id){1}));

    /* An arrival at an older target says nothing. */
    assert_false(meta_arrived(&w.meta, (struct group_id){1},
                              meta_shard(&w.meta, (struct group_id){1})->version - 1,
                              &change));
    meta_world_arrive(&w);
    meta_world_plan(&w);
    assert_null(meta_server(&w.meta, (struct server_id){1}));
    assert_string_equal(meta_world_members(&w, 0), "2 3 4");
    assert_true(meta_world_join(&w, "").v == 5); /* the id does not return */
    meta_world_free(&w);
}

static void fewer_voters_are_for_an_operator_to_say(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    assert_true(says(meta_world_command(&w, "SERVER REMOVE n1"), "last server"));
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_true(says(meta_world_command(&w, "SERVER REMOVE n3"), "say SHRINK"));
    assert_true(says(meta_world_command(&w, "SERVER DRAIN n3 x"), "syntax"));
    assert_true(says(meta_world_command(&w, "SERVER REMOVE nobody"), "no server"));
    w.silent = 1u << 1 | 1u << 2;
    assert_true(says(meta_world_command(&w, "SERVER REMOVE n3 SHRINK"), "majority"));
    w.silent = 1u << 3; /* a dead one can go */
    assert_string_equal(meta_world_command(&w, "SERVER REMOVE n3 SHRINK"), "+OK\r\n");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 | 2");
    assert_string_equal(meta_world_members(&w, 0), "1 | 2");
    assert_null(meta_server(&w.meta, (struct server_id){3}));
    meta_world_free(&w);
}

static void a_server_takes_the_place_of_another(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    for (int i = 0; i < 4; i++)
        meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    w.silent = 1u << 5;
    assert_true(says(meta_world_command(&w, "SERVER REPLACE n2 n5"), "take over"));
    w.silent = 0;
    assert_true(says(meta_world_command(&w, "SERVER REPLACE n2 n2"), "take over"));
    assert_string_equal(meta_world_command(&w, "SERVER REPLACE n2 n5"), "+OK\r\n");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 1), "1 3 5"); /* not 4 */
    assert_null(meta_server(&w.meta, (struct server_id){2}));
    meta_world_free(&w);
}

static uint32_t all_but_shard_3(void *ctx, const struct meta_shard *shard)
{
    (void)ctx;
    return shard->group.v == 3 ? 0 : shard->epoch + 1;
}

static void a_survivor_is_alone_with_what_it_has(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 3"); /* groups 2 to 4 */
    for (uint32_t group = 2; group <= 3; group++) { /* FORCE was under way, and over */
        struct meta_shard s = *meta_shard(&w.meta, (struct group_id){group});
        s.decree = group == 2 ? DECREE_FENCED : DECREE_NAMED;
        record_put_shard(&w.effects, &s, false);
    }
    meta_world_commit(&w);
    meta_recover(&w.meta, (struct server_id){2}, (struct cluster_id){99}, all_but_shard_3,
                 NULL, &(struct meta_change){&w.effects});
    meta_world_commit(&w);
    assert_int_equal(w.meta.cluster.id.v, 99);
    assert_int_equal(w.meta.n_servers, 1);
    assert_true(meta_was_removed(&w.meta, (struct server_id){1}));
    for (uint32_t i = 0; i < w.meta.n_shards; i++)
        assert_string_equal(meta_world_members(&w, w.meta.shards[i]->group.v), "2");
    for (uint32_t i = 0; i < w.meta.n_shards; i++)
        assert_int_equal(w.meta.shards[i]->decree, DECREE_NONE);
    assert_true(meta_unborn(meta_shard_of(&w.meta, 2, 1)));
    assert_null(meta_shard(&w.meta, (struct group_id){3}));
    const struct meta_shard *lost = meta_shard_of(&w.meta, 2, 1);
    assert_int_equal(lost->group.v, 5);
    assert_int_equal(lost->founder.v, 2);
    assert_int_equal(lost->epoch, 0);
    assert_int_equal(meta_shard_of(&w.meta, 2, 0)->epoch, 1);
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    assert_string_equal(meta_world_members(&w, 5), "2 4 5");
    meta_world_free(&w);
}

/* ---- targets and memberships together ---- */

struct groups { /* what the leaders make of the targets */
    struct meta_world *w;
    struct raft_config config[64]; /* by group */
    uint32_t n, down;              /* bit per server id: stopped */
};

static bool is_up(void *ctx, struct server_id id)
{
    const struct groups *g = ctx;

    return !(g->down & 1u << id.v);
}

static bool next_config(const struct meta_target *target, const struct raft_config *now,
                        bool (*caught_up)(void *ctx, struct server_id id), void *ctx,
                        struct raft_config *next)
{
    const struct raft_members members = raft_config_members(now);
    return meta_next_config(target, NULL, &members, caught_up, ctx, next);
}

static bool config_is(const struct meta_target *target, const struct raft_config *now)
{
    const struct raft_members members = raft_config_members(now);

    return meta_config_is(target, NULL, &members);
}

static bool has_member(const struct raft_config *c, struct server_id id)
{
    const struct raft_members members = raft_config_members(c);

    return raft_members_has(&members, id);
}

static bool has_majority(const struct groups *g, const struct server_id *ids, uint32_t n)
{
    uint32_t up = 0;

    for (uint32_t i = 0; i < n; i++)
        up += !(g->down & 1u << ids[i].v);
    return up > n / 2;
}

/* The leaders of all groups that have one take a step.  What they may do must leave a majority
 * of the new voters that is there and has the data, whoever is down. */
static void leaders_step(struct groups *g)
{
    struct meta_world *w = g->w;

    for (uint32_t i = 0; i < w->meta.n_shards; i++) {
        const struct meta_shard *s = w->meta.shards[i];
        assert_true(s->group.v < 64);
        struct raft_config *c = &g->config[s->group.v], next;
        if (c->n_voters == 0) {
            c->n_voters = s->n_voters;
            memcpy(c->voters, s->voters, sizeof c->voters);
        }
        if (!has_majority(g, c->voters, c->n_voters)) continue;
        struct meta_target target;
        meta_target_of(&w->meta, s, &target);
        if (next_config(&target, c, is_up, g, &next)) {
            for (uint8_t v = 0; v < next.n_voters; v++)
                assert_true(has_member(c, next.voters[v]));
            if (!has_majority(g, next.voters, next.n_voters))
                continue; /* it would hang */
            *c = next;
        } else if (config_is(&target, c)) {
            (void)meta_arrived(&w->meta, s->group, s->version,
                               &(struct meta_change){&w->effects});
            meta_world_commit(w);
        }
    }
}

static void any_server_that_was_forgotten_is_needed_by_nobody(const struct groups *g)
{
    const struct meta *m = &g->w->meta;

    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct raft_config *c = &g->config[m->shards[i]->group.v];
        for (uint8_t v = 0; v < c->n_voters; v++)
            assert_non_null(meta_server(m, c->voters[v]));
        for (uint8_t l = 0; l < c->n_learners && m->shards[i]->keyspace != 0; l++)
            assert_non_null(meta_server(m, c->learners[l]));
    }
}

static void something_happens(struct groups *g, struct prng *p)
{
    static const char *const words[] = {"DRAIN", "REMOVE", "ACTIVATE"};
    struct meta_world *w = g->w;
    const struct meta_server *s = w->meta.servers[prng_below(p, w->meta.n_servers)];
    const struct meta_server *t = w->meta.servers[prng_below(p, w->meta.n_servers)];
    const uint64_t what = prng_below(p, 7);
    const char zone[] = {'z', (char)('0' + prng_below(p, 3)), 0};
    char line[600];

    if (what == 0 && w->meta.n_servers < 9 && w->meta.cluster.next_server < 30)
        meta_world_join(w, zone);
    if (what == 1) {
        g->down = prng_below(p, 2) ? 0 : 1u << s->id.v;
        w->silent = g->down;
        w->lost = prng_below(p, 2) ? g->down : 0;
    }
    snprintf(line, sizeof line, "SERVER %s %s%s", words[prng_below(p, 3)], s->name.at,
             prng_below(p, 3) == 0 ? " SHRINK" : "");
    if (what == 2 || what == 3) meta_world_command(w, line);
    snprintf(line, sizeof line, "SERVER REPLACE %s %s", s->name.at, t->name.at);
    if (what == 4) meta_world_command(w, line);
    snprintf(line, sizeof line, "KEYSPACE ALTER wide REPLICAS %u",
             (unsigned)prng_range(p, 1, 5));
    if (what == 5) meta_world_command(w, line);
}

static void one_step(struct groups *g, struct prng *p)
{
    const struct meta_judge judge = {meta_world_health, g->w};

    if (prng_below(p, 2) == 0) leaders_step(g);
    if (meta_plan(&g->w->meta, &judge, &g->w->planner,
                  &(struct meta_change){&g->w->effects}))
        meta_world_commit(g->w);
    any_server_that_was_forgotten_is_needed_by_nobody(g);
}

/* Whatever joins, drains, goes, and is down meanwhile: nobody is forgotten who is needed, no
 * group gets voters without the data or without a majority, and in the end all is as it should
 * be: who was to go has gone, if the others can do without. */
static void any_coming_and_going_ends_well(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++) {
        struct prng p = prng_seed(seed);
        struct meta_world w;
        struct groups g = {.w = &w};

        meta_world_found(&w, "z0");
        leaders_step(&g);
        meta_world_command(&w, "KEYSPACE CREATE wide MODE raft SHARDS 5");
        for (int i = 0; i < 300; i++) {
            if (prng_below(&p, 4) == 0) something_happens(&g, &p);
            one_step(&g, &p);
        }
        g.down = w.silent = w.lost = 0;
        for (int i = 0; i < 400; i++)
            one_step(&g, &p);
        assert_false(
            meta_plan(&w.meta, NULL, &w.planner, &(struct meta_change){&w.effects}));
        for (uint32_t i = 0; i < w.meta.n_shards; i++) {
            const struct meta_shard *s = w.meta.shards[i];
            assert_true(s->settled && s->n_old == 0);
            struct meta_target target;
            meta_target_of(&w.meta, s, &target);
            assert_true(config_is(&target, &g.config[s->group.v]));
            assert_int_equal(s->n_voters % 2, 1);
        }
        for (uint32_t i = 0; i < w.meta.n_servers; i++)
            if (w.meta.servers[i]->state == SERVER_LEAVING)
                assert_true(meta_held(&w.meta, w.meta.servers[i]->id) > 0);
        meta_world_free(&w);
    }
}

/* ---- meta_next_config ---- */

static bool yes(void *ctx, struct server_id id)
{
    (void)ctx;
    (void)id;
    return true;
}

static void a_leader_does_not_go_back_behind_a_target_that_was_followed(void **state)
{
    (void)state;
    const struct meta_target target = {
        .version = 4, .n_voters = 3, .voters = {{1}, {2}, {3}}};
    struct raft_config c = {.version = 5, .n_voters = 1, .voters = {{1}}}, next;

    assert_false(next_config(&target, &c, yes, NULL, &next));
    c.version = 4;
    assert_true(next_config(&target, &c, yes, NULL, &next));
    c = (struct raft_config){.version = 3, .n_voters = 3, .voters = {{1}, {2}, {3}}};
    assert_false(config_is(&target, &c));
    assert_true(next_config(&target, &c, yes, NULL, &next)); /* only to say so */
    assert_true(config_is(&target, &next));
    assert_false(next_config(&target, &next, yes, NULL, &c));
}

static bool all_but(void *ctx, struct server_id id)
{
    return id.v != *(const uint32_t *)ctx;
}

static bool is_voter(const struct raft_config *c, uint32_t id)
{
    const struct raft_members members = raft_config_members(c);
    return raft_members_has_voter(&members, (struct server_id){id});
}

static bool is_member(const struct raft_config *c, uint32_t id)
{
    const struct raft_members members = raft_config_members(c);
    return raft_members_has(&members, (struct server_id){id});
}

static bool in_target_voters(const struct meta_target *target, struct server_id id)
{
    for (uint32_t i = 0; i < target->n_voters; i++)
        if (target->voters[i].v == id.v) return true;
    return false;
}

static void new_voters_come_as_learners_then_move_in_one_step(void **state)
{
    (void)state;
    const struct meta_target target = {
        .n_voters = 3, .voters = {{1}, {2}, {3}}, .n_learners = 1, .learners = {{4}}};
    struct raft_config c = {.n_voters = 1, .voters = {{1}}}, next;
    uint32_t behind = 3;

    assert_true(next_config(&target, &c, all_but, &behind, &next));
    assert_int_equal(next.n_voters, 1);
    assert_int_equal(next.n_learners, 3);
    c = next;
    next.n_voters = 9;
    assert_false(next_config(&target, &c, all_but, &behind, &next));
    assert_int_equal(next.n_voters, 9);

    behind = 4; /* a learner need not have caught up for the voters to move */
    assert_true(next_config(&target, &c, all_but, &behind, &next));
    assert_int_equal(next.n_old, 0);
    assert_int_equal(next.n_voters, 3);
    assert_int_equal(next.n_learners, 1);
    assert_int_equal(next.learners[0].v, 4);
    c = next;
    assert_false(next_config(&target, &c, yes, NULL, &next));
}

static void nothing_is_asked_for_in_a_joint_phase(void **state)
{
    (void)state;
    const struct meta_target target = {.n_voters = 3, .voters = {{1}, {2}, {3}}};
    const struct raft_config c = {
        .n_voters = 1, .voters = {{1}}, .n_old = 1, .old = {{2}}};
    struct raft_config next;

    assert_false(next_config(&target, &c, yes, NULL, &next));
}

static void who_is_not_in_the_target_goes_last(void **state)
{
    (void)state;
    const struct meta_target target = {
        .n_voters = 3, .voters = {{2}, {3}, {4}}, .n_learners = 1, .learners = {{5}}};
    struct raft_config c = {.n_voters = 3,
                            .voters = {{1}, {2}, {5}},
                            .n_learners = 2,
                            .learners = {{3}, {9}}};
    struct raft_config next;

    assert_true(next_config(&target, &c, yes, NULL, &next));
    assert_int_equal(next.n_learners, 3); /* 4 comes, 9 is still there */
    c = next;
    assert_true(next_config(&target, &c, yes, NULL, &next));
    assert_int_equal(next.n_voters, 3);
    assert_true(is_voter(&next, 4));
    assert_false(is_member(&next, 1));
    assert_true(is_member(&next, 5)); /* a learner now */
    assert_true(is_member(&next, 9));
    c = next;
    assert_true(next_config(&target, &c, yes, NULL, &next));
    assert_int_equal(next.n_learners, 1);
    assert_int_equal(next.learners[0].v, 5);
    c = next;
    assert_false(next_config(&target, &c, yes, NULL, &next));
}

static void any_membership_reaches_any_target(void **state)
{
    (void)state;
    struct prng p = prng_seed(5);

    for (int round = 0; round < 3000; round++) {
        struct meta_target target = {.n_voters = 0};
        struct raft_config c = {.n_voters = 0}, next;
        const uint32_t most[] = {1, 3, 5};
        const uint32_t n_voters = most[prng_below(&p, 3)], old = most[prng_below(&p, 3)];

        for (uint32_t id = 1; id <= 16; id++) {
            const uint64_t a = prng_below(&p, 16), b = prng_below(&p, 16);
            if (target.n_voters < n_voters && a < 6)
                target.voters[target.n_voters++].v = id;
            else if (a < 9 && target.n_learners < 8)
                target.learners[target.n_learners++].v = id;
            if (c.n_voters < old && b < 6)
                c.voters[c.n_voters++].v = id;
            else if (b < 9)
                c.learners[c.n_learners++].v = id;
        }
        if (target.n_voters == 0 || c.n_voters == 0) continue;

        uint32_t steps = 0;
        while (next_config(&target, &c, yes, NULL, &next)) {
            assert_int_equal(next.n_old, 0);
            assert_true(next.n_voters > 0);
            assert_true(next.n_voters + next.n_learners <= RAFT_PEERS_MAX);
            for (uint16_t i = 0; i < next.n_voters; i++)
                assert_true(is_member(&c, next.voters[i].v));
            c = next;
            assert_true(++steps < 6);
        }
        assert_int_equal(c.n_voters, target.n_voters);
        assert_int_equal(c.n_learners, target.n_learners);
        for (uint16_t i = 0; i < c.n_voters; i++)
            assert_true(in_target_voters(&target, c.voters[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_grows_from_one_to_five),
        cmocka_unit_test(one_step_changes_one_shard_and_the_meta_shard_first),
        cmocka_unit_test(an_even_number_of_replicas_is_voters_and_a_learner),
        cmocka_unit_test(replicas_spread_over_zones),
        cmocka_unit_test(replicas_lie_evenly_on_servers),
        cmocka_unit_test(founders_are_spread_and_stay_who_they_were),
        cmocka_unit_test(a_shard_that_has_not_begun_keeps_its_first_voters),
        cmocka_unit_test(a_silent_server_keeps_what_it_has_and_gets_nothing),
        cmocka_unit_test(a_leaving_server_is_replaced_once_there_is_another),
        cmocka_unit_test(any_history_comes_to_rest),
        cmocka_unit_test(a_replica_moves_to_a_zone_that_has_none),
        cmocka_unit_test(replicas_and_leads_move_to_servers_that_join),
        cmocka_unit_test(few_shards_are_moved_at_once_without_need),
        cmocka_unit_test(a_call_is_short_however_many_shards_there_are),
        cmocka_unit_test(a_lead_that_an_operator_gave_is_not_balanced),
        cmocka_unit_test(a_lost_server_is_replaced_if_there_is_another),
        cmocka_unit_test(a_lost_server_is_waited_for_where_zones_would_suffer),
        cmocka_unit_test(a_server_drains_and_is_active_again),
        cmocka_unit_test(a_server_is_forgotten_only_when_nobody_has_it),
        cmocka_unit_test(fewer_voters_are_for_an_operator_to_say),
        cmocka_unit_test(a_server_takes_the_place_of_another),
        cmocka_unit_test(a_survivor_is_alone_with_what_it_has),
        cmocka_unit_test(any_coming_and_going_ends_well),
        cmocka_unit_test(a_leader_does_not_go_back_behind_a_target_that_was_followed),
        cmocka_unit_test(new_voters_come_as_learners_then_move_in_one_step),
        cmocka_unit_test(nothing_is_asked_for_in_a_joint_phase),
        cmocka_unit_test(who_is_not_in_the_target_goes_last),
        cmocka_unit_test(any_membership_reaches_any_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
