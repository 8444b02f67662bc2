/* SPDX-License-Identifier: Apache-2.0 */
/* Who leads where no majority is asked. */
#include "unit.h"

#include "meta/record.h"
#include "meta_world.h"

static const struct meta_shard *first_of(const struct meta_world *w, const char *name)
{
    const struct meta_keyspace *k = meta_keyspace_named(&w->meta, bytes_of_str(name));

    assert_non_null(k);
    return meta_shard_of(&w->meta, k->id, 0);
}

struct scene {
    struct meta_world w;
    struct meta_change change;
};

/* Keyspace "p" with three members, one of them its voter. */
static void scene_open(struct scene *s)
{
    meta_world_found(&s->w, "");
    (void)meta_world_join(&s->w, "");
    (void)meta_world_join(&s->w, "");
    (void)meta_world_command(&s->w, "KEYSPACE CREATE p MODE primary FAILOVER manual");
    (void)meta_world_plan(&s->w);
    assert_int_equal(first_of(&s->w, "p")->n_voters, 1);
    assert_int_equal(first_of(&s->w, "p")->n_learners, 2);
    s->change = (struct meta_change){&s->w.effects};
}

static void scene_close(struct scene *s)
{
    meta_world_free(&s->w);
}

static void the_longest_log_of_the_newest_term_is_named(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const uint32_t keyspace = first_of(&s.w, "p")->keyspace;
    const struct group_id group = first_of(&s.w, "p")->group;

    assert_true(meta_force(&s.w.meta, keyspace, (struct server_id){0}, &s.change));
    meta_world_commit(&s.w);
    assert_int_equal(first_of(&s.w, "p")->epoch, 1);
    assert_int_equal(first_of(&s.w, "p")->decree, DECREE_FENCED);

    const struct meta_fenced reports[] = {
        {{9}, {90}, {900}, false}, /* no member */
        {{1}, {3}, {99}, false},   /* P12: longer, of an older term */
        {{2}, {4}, {50}, false},
        {{3}, {4}, {51}, false},
    };
    assert_false(
        meta_decree(&s.w.meta, group, 2, reports, 4, &s.change)); /* another epoch */
    assert_false(meta_decree(&s.w.meta, group, 1, reports, 1, &s.change));
    assert_true(meta_decree(&s.w.meta, group, 1, reports, 4, &s.change));
    meta_world_commit(&s.w);
    const struct meta_shard *shard = first_of(&s.w, "p");
    assert_int_equal(shard->decree, DECREE_NAMED);
    assert_int_equal(shard->named.v, 3);
    assert_int_equal(shard->n_voters, 1);
    assert_int_equal(shard->voters[0].v, 3);
    assert_int_equal(shard->n_learners, 2);
    assert_false(meta_decree(&s.w.meta, group, 1, reports, 4, &s.change)); /* once */
    scene_close(&s);
}

static void among_equals_the_wanted_one_is_named(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const struct meta_fenced reports[] = {
        {{1}, {4}, {50}, false}, {{2}, {4}, {50}, false}, {{3}, {4}, {49}, false}};
    const struct group_id group = first_of(&s.w, "p")->group;

    for (uint32_t wanted = 1; wanted <= 3; wanted++) {
        assert_true(meta_force(&s.w.meta, first_of(&s.w, "p")->keyspace,
                               (struct server_id){wanted}, &s.change));
        meta_world_commit(&s.w);
        assert_true(meta_decree(&s.w.meta, group, wanted, reports, 3, &s.change));
        meta_world_commit(&s.w);
        assert_int_equal(first_of(&s.w, "p")->named.v, wanted == 2 ? 2 : 1);
        assert_int_equal(first_of(&s.w, "p")->lead.v,
                         wanted); /* and gets the lead in the end */
    }
    scene_close(&s);
}

static void what_it_takes_to_be_sure(void **state)
{
    struct policy p = policy_default(MODE_PRIMARY);
    struct meta_shard s = {.settled = true, .n_voters = 3};
    (void)state;
    assert_int_equal(meta_force_needs(&p, &s), 3);
    p.ack = 1;
    assert_int_equal(meta_force_needs(&p, &s), 2);
    p.ack = ACK_ALL;
    assert_int_equal(meta_force_needs(&p, &s), 1);
    s.n_learners = 2; /* they acknowledge nothing */
    assert_int_equal(meta_force_needs(&p, &s), 3);
    p = policy_default(MODE_RAFT);
    assert_int_equal(meta_force_needs(&p, &s), 4);
    s.n_learners = 0;
    assert_int_equal(meta_force_needs(&p, &s), 2);
    s.settled = false; /* another membership, perhaps of a voter alone */
    s.n_old = 1;
    assert_int_equal(meta_force_needs(&p, &s), 4);
}

static void a_decree_notes_whether_enough_were_heard(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 3; n++) {
        struct scene s;
        scene_open(&s);
        const uint32_t keyspace = first_of(&s.w, "p")->keyspace;
        const struct group_id group = first_of(&s.w, "p")->group;
        const struct meta_fenced reports[] = {
            {{1}, {4}, {50}, false}, {{2}, {4}, {50}, false}, {{3}, {4}, {49}, false}};

        (void)meta_arrived(&s.w.meta, group, first_of(&s.w, "p")->version, &s.change);
        meta_world_commit(&s.w);
        assert_true(meta_force(&s.w.meta, keyspace, (struct server_id){0}, &s.change));
        meta_world_commit(&s.w);
        assert_true(meta_decree(&s.w.meta, group, 1, reports, n, &s.change));
        meta_world_commit(&s.w);
        assert_int_equal(first_of(&s.w, "p")->heard, n == 3 ? 3 | META_HEARD_ENOUGH : n);
        scene_close(&s);
    }
}

/* A target of servers that hold nothing yet; who has the writes is on its way out. */
static void who_is_to_go_may_have_the_longest_log(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 2; n++) {
        struct scene s;
        scene_open(&s);
        struct meta_shard shard = *first_of(&s.w, "p");
        shard.n_voters = shard.n_learners = shard.n_old = 1;
        shard.voters[0].v = 2;
        shard.learners[0].v = 3;
        shard.old[0].v = 1;
        shard.settled = false;
        record_put_shard(s.change.effects, &shard, false);
        meta_world_commit(&s.w);
        const struct meta_fenced reports[] = {
            {{1}, {4}, {50}, false}, {{2}, {0}, {0}, false}, {{3}, {0}, {0}, false}};

        (void)meta_force(&s.w.meta, shard.keyspace, (struct server_id){0}, &s.change);
        meta_world_commit(&s.w);
        assert_true(meta_decree(&s.w.meta, shard.group, 1, reports, n + 1, &s.change));
        meta_world_commit(&s.w);
        const struct meta_shard *now = first_of(&s.w, "p");
        assert_int_equal(now->named.v, 1);
        assert_string_equal(meta_world_members(&s.w, shard.group.v), "1 | 2 3");
        assert_int_equal(now->n_old, 0);
        assert_int_equal(now->heard, n == 2 ? 3 | META_HEARD_ENOUGH : 2);
        scene_close(&s);
    }
}

static void a_doubtful_log_may_lead_and_makes_nothing_sure(void **state)
{
    (void)state;
    for (uint32_t doubtful = 0; doubtful <= 1; doubtful++) {
        struct scene s;
        scene_open(&s);
        const uint32_t keyspace = first_of(&s.w, "p")->keyspace;
        const struct group_id group = first_of(&s.w, "p")->group;
        const struct meta_fenced reports[] = {
            {{1}, {4}, {49}, false}, {{2}, {4}, {50}, doubtful}, {{3}, {4}, {48}, false}};

        meta_world_arrive(&s.w);
        assert_true(meta_force(&s.w.meta, keyspace, (struct server_id){0}, &s.change));
        meta_world_commit(&s.w);
        assert_true(meta_decree(&s.w.meta, group, 1, reports, 3, &s.change));
        meta_world_commit(&s.w);
        assert_int_equal(first_of(&s.w, "p")->named.v, 2);
        assert_int_equal(first_of(&s.w, "p")->heard,
                         doubtful ? 3 : 3 | META_HEARD_ENOUGH);
        scene_close(&s);
    }
}

static void the_one_voter_moves_to_a_member(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const uint32_t keyspace = first_of(&s.w, "p")->keyspace;
    const uint64_t version = first_of(&s.w, "p")->version;
    const struct server_id to = first_of(&s.w, "p")->learners[0];

    assert_false(meta_move_voter(&s.w.meta, keyspace, (struct server_id){7}, &s.change));
    s.w.effects.len = 0;
    assert_true(meta_move_voter(&s.w.meta, keyspace, to, &s.change));
    meta_world_commit(&s.w);
    const struct meta_shard *shard = first_of(&s.w, "p");
    assert_int_equal(shard->voters[0].v, to.v);
    assert_int_equal(shard->n_learners, 2);
    assert_int_equal(shard->version, version + 1);
    assert_false(shard->settled);
    assert_true(meta_move_voter(&s.w.meta, keyspace, to, &s.change)); /* it is there */
    assert_int_equal(s.w.effects.len, 0);
    scene_close(&s);
}

static void all_shards_are_given_to_another_or_none(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    (void)meta_world_command(&s.w,
                             "KEYSPACE CREATE q MODE primary FAILOVER manual SHARDS 2");
    (void)meta_world_plan(&s.w);
    const uint32_t q = first_of(&s.w, "q")->keyspace;
    const struct server_id to = first_of(&s.w, "q")->learners[0];
    struct meta_shard *second = NULL;
    for (uint32_t i = 0; i < s.w.meta.n_shards; i++)
        if (s.w.meta.shards[i] == meta_shard_of(&s.w.meta, q, 1))
            second = s.w.meta.shards[i];
    assert_non_null(second);
    const struct meta_shard was = *second;

    s.w.effects.len = 0;
    second->n_voters = 1;
    second->n_learners = 0; /* this view's second shard is elsewhere */
    second->voters[0].v = 9;
    assert_false(meta_move_voter(&s.w.meta, q, to, &s.change));
    assert_false(meta_force(&s.w.meta, q, to, &s.change));
    assert_int_equal(s.w.effects.len, 0);

    *second = was;
    assert_true(meta_move_voter(&s.w.meta, q, to, &s.change));
    meta_world_commit(&s.w);
    assert_int_equal(first_of(&s.w, "q")->voters[0].v, to.v);
    assert_int_equal(meta_shard_of(&s.w.meta, q, 1)->voters[0].v, to.v);
    scene_close(&s);
}

static void only_the_voter_of_FAILOVER_manual_moves(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const struct meta_shard *p = first_of(&s.w, "p");
    const uint32_t keyspace = p->keyspace;
    const struct server_id to = p->learners[0];

    (void)meta_world_command(&s.w, "KEYSPACE ALTER p FAILOVER auto");
    s.w.effects.len = 0;
    assert_false(meta_move_voter(&s.w.meta, keyspace, to, &s.change));
    assert_false(meta_move_voter(&s.w.meta, 999, to, &s.change));
    assert_int_equal(s.w.effects.len, 0);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_log_of_the_newest_term_is_named),
        cmocka_unit_test(among_equals_the_wanted_one_is_named),
        cmocka_unit_test(what_it_takes_to_be_sure),
        cmocka_unit_test(a_decree_notes_whether_enough_were_heard),
        cmocka_unit_test(who_is_to_go_may_have_the_longest_log),
        cmocka_unit_test(a_doubtful_log_may_lead_and_makes_nothing_sure),
        cmocka_unit_test(the_one_voter_moves_to_a_member),
        cmocka_unit_test(all_shards_are_given_to_another_or_none),
        cmocka_unit_test(only_the_voter_of_FAILOVER_manual_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
