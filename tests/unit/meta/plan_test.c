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
    assert_true(meta_plan(&w.meta, NULL, NULL, &(struct meta_change){&w.effects}));
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
    assert_int_equal(meta_world_plan(&w), 0);
    assert_string_equal(meta_world_members(&w, 1), "1 2 3");
    meta_world_join(&w, "");
    meta_world_plan(&w);
    /* and follows the meta shard as long as it is a server */
    assert_string_equal(meta_world_members(&w, 0), "2 3 4 | 1");
    assert_string_equal(meta_world_members(&w, 1), "2 3 4");
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
                leave(&w, (uint32_t)prng_range(&p, 1, w.meta.n_servers));
            meta_world_plan(&w);
            for (uint32_t s = 0; s < w.meta.n_shards; s++)
                assert_int_equal(w.meta.shards[s]->n_voters % 2, 1);
        }
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

static bool all_but(void *ctx, struct server_id id)
{
    return id.v != *(const uint32_t *)ctx;
}

static bool next_config(const struct meta_target *target, const struct raft_config *now,
                        bool (*caught_up)(void *ctx, struct server_id id), void *ctx,
                        struct raft_config *next)
{
    const struct raft_members members = raft_config_members(now);
    return meta_next_config(target, NULL, &members, caught_up, ctx, next);
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
        cmocka_unit_test(a_silent_server_keeps_what_it_has_and_gets_nothing),
        cmocka_unit_test(a_leaving_server_is_replaced_once_there_is_another),
        cmocka_unit_test(any_history_comes_to_rest),
        cmocka_unit_test(new_voters_come_as_learners_then_move_in_one_step),
        cmocka_unit_test(nothing_is_asked_for_in_a_joint_phase),
        cmocka_unit_test(who_is_not_in_the_target_goes_last),
        cmocka_unit_test(any_membership_reaches_any_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
