/* SPDX-License-Identifier: Apache-2.0 */
/* How keyspaces come and go, and who owns their keys meanwhile. */
#include "unit.h"

#include "meta_world.h"

#include "meta/record.h"

static uint32_t group_of(const struct meta_world *w, const char *key)
{
    const struct meta_shard *s = meta_route(&w->meta, bytes_of_str(key));

    check(s != NULL);
    return s->group.v;
}

static enum meta_keyspace_state state_of(const struct meta_world *w, const char *name)
{
    const struct meta_keyspace *k = meta_keyspace_named(&w->meta, bytes_of_str(name));

    return k == NULL ? 0 : k->state;
}

static void keys_are_defaults_until_all_its_shards_are_closed(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    w.unsettled = true;
    assert_string_equal(meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 4"),
                        ":2\r\n");
    assert_int_equal(state_of(&w, "cart"), KEYSPACE_CREATING);
    assert_int_equal(w.meta.n_shards, 2);
    assert_int_equal(group_of(&w, "cart:1"), GROUP_DEFAULT);
    assert_int_equal(group_of(&w, "{cart:1}"), GROUP_DEFAULT);
    w.open.v = GROUP_DEFAULT;
    assert_int_equal(meta_world_settle(&w), 0);
    w.open.v = 0;
    assert_int_equal(meta_world_settle(&w), 1);
    assert_int_equal(state_of(&w, "cart"), KEYSPACE_ACTIVE);
    assert_int_equal(w.meta.n_shards, 6);
    assert_true(group_of(&w, "cart:1") > GROUP_DEFAULT);
    assert_true(group_of(&w, "{cart:1}") > GROUP_DEFAULT);
    assert_int_equal(group_of(&w, "carts:1"), GROUP_DEFAULT);
    meta_world_free(&w);
}

/* Of three servers one is silent, and of four. */
static void shards_of_a_new_keyspace_can_begin_while_a_server_is_silent(void **state)
{
    (void)state;
    for (uint32_t servers = 3; servers <= 4; servers++) {
        struct meta_world w;
        meta_world_found(&w, "");
        for (uint32_t i = 1; i < servers; i++)
            meta_world_join(&w, "");
        meta_world_plan(&w);
        w.silent = 1u << 3;
        meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 6");
        for (uint32_t i = 0; i < 6; i++) {
            const struct meta_shard *s = meta_shard_of(&w.meta, 2, i);
            uint32_t silent = 0;
            assert_int_equal(s->n_voters, 3); /* not fewer copies than was asked for */
            for (uint32_t v = 0; v < 3; v++)
                silent += s->voters[v].v == 3;
            assert_int_equal(silent, servers == 3);
            assert_int_not_equal(s->founder.v, 3);
            assert_int_equal(s->lead.v, s->founder.v);
        }
        meta_world_free(&w);
    }
}

static void voters_of_a_new_shard_are_not_mostly_silent_ones(void **state)
{
    (void)state;
    struct meta_world w;
    meta_world_found(&w, "");
    for (uint32_t i = 0; i < 4; i++)
        meta_world_join(&w, "");
    w.silent = 1u << 2 | 1u << 3 | 1u << 4;
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft REPLICAS 5");
    assert_int_equal(meta_shard_of(&w.meta, 2, 0)->n_voters, 3);
    w.silent |= 1u << 5;
    meta_world_command(&w, "KEYSPACE CREATE one MODE raft REPLICAS 5");
    assert_int_equal(meta_shard_of(&w.meta, 3, 0)->n_voters, 1);
    assert_int_equal(meta_shard_of(&w.meta, 3, 0)->voters[0].v, 1);
    meta_world_free(&w);
}

static void one_that_would_hide_keys_is_refused_with_their_number(void **state)
{
    (void)state;
    struct meta_world w;
    struct effect e;
    struct meta_keyspace k;

    meta_world_found(&w, "");
    w.hidden = 7;
    w.unsettled = true;
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft");
    const size_t before = w.log.len;
    assert_int_equal(meta_world_settle(&w), 1);
    assert_int_equal(state_of(&w, "cart"), 0);
    assert_int_equal(w.meta.n_shards, 2);
    assert_int_equal(group_of(&w, "cart:1"), GROUP_DEFAULT);

    /* one entry: it says how many, and is gone */
    struct cursor in = cursor_of((struct bytes){w.log.at + before, w.log.len - before});
    assert_int_equal(effect_decode(&in, &e), EFFECT_OK);
    assert_true(record_keyspace_decode(e.value, &k));
    assert_int_equal(k.state, KEYSPACE_REFUSED);
    assert_int_equal(k.hidden, 7);
    assert_int_equal(effect_decode(&in, &e), EFFECT_OK);
    assert_int_equal(e.kind, EFFECT_CLEAR);
    assert_int_equal(effect_decode(&in, &e), EFFECT_END);

    w.hidden = 0;
    assert_string_equal(meta_world_command(&w, "KEYSPACE CREATE cart MODE raft"),
                        ":3\r\n"); /* ids are not used again */
    assert_int_equal(meta_world_settle(&w), 1);
    assert_int_equal(state_of(&w, "cart"), KEYSPACE_ACTIVE);
    meta_world_free(&w);
}

static void a_dropped_one_keeps_its_keys_until_all_its_shards_are_closed(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 4");
    w.unsettled = true;
    assert_string_equal(meta_world_command(&w, "KEYSPACE DROP cart"), ":2\r\n");
    assert_int_equal(state_of(&w, "cart"), KEYSPACE_DROPPING);
    assert_true(group_of(&w, "cart:1") > GROUP_DEFAULT);
    w.open.v = GROUP_DEFAULT + 3;
    assert_int_equal(meta_world_settle(&w), 0);

    assert_string_equal(meta_world_command(&w, "KEYSPACE CREATE cart MODE raft"),
                        "-ERR keyspace 'cart' is still being dropped; try again\r\n");
    assert_string_equal(meta_world_command(&w, "KEYSPACE ALTER cart READ any"),
                        "-ERR keyspace 'cart' is being dropped\r\n");
    assert_string_equal(meta_world_command(&w, "KEYSPACE DROP cart"), ":2\r\n");
    w.open.v = 0;
    assert_int_equal(meta_world_settle(&w), 1);
    assert_int_equal(state_of(&w, "cart"), 0);
    assert_int_equal(w.meta.n_shards, 2);
    assert_int_equal(group_of(&w, "cart:1"), GROUP_DEFAULT);
    meta_world_free(&w);
}

static void one_that_is_being_created_can_not_be_dropped(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    w.unsettled = true;
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft SHARDS 4");
    assert_string_equal(meta_world_command(&w, "KEYSPACE DROP cart"),
                        "-ERR keyspace 'cart' is still being created; try again\r\n");
    assert_int_equal(meta_world_settle(&w), 1);
    assert_string_equal(meta_world_command(&w, "KEYSPACE DROP cart"), ":2\r\n");
    assert_int_equal(meta_world_settle(&w), 1);
    assert_int_equal(w.meta.n_shards, 2);
    meta_world_free(&w);
}

static void several_at_a_time_get_shards_of_their_own(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    w.unsettled = true;
    meta_world_command(&w, "KEYSPACE CREATE a MODE raft SHARDS 2");
    meta_world_command(&w, "KEYSPACE CREATE b MODE raft SHARDS 3");
    assert_int_equal(meta_world_settle(&w), 2);
    assert_int_equal(w.meta.n_shards, 7);
    assert_int_equal(group_of(&w, "a:1"), GROUP_DEFAULT + 2);
    assert_int_equal(meta_shard(&w.meta, (struct group_id){4})->keyspace, 3);
    meta_world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_defaults_until_all_its_shards_are_closed),
        cmocka_unit_test(shards_of_a_new_keyspace_can_begin_while_a_server_is_silent),
        cmocka_unit_test(voters_of_a_new_shard_are_not_mostly_silent_ones),
        cmocka_unit_test(one_that_would_hide_keys_is_refused_with_their_number),
        cmocka_unit_test(a_dropped_one_keeps_its_keys_until_all_its_shards_are_closed),
        cmocka_unit_test(one_that_is_being_created_can_not_be_dropped),
        cmocka_unit_test(several_at_a_time_get_shards_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
