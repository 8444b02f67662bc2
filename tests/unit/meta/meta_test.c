/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/prng.h"
#include "meta/record.h"
#include "meta_world.h"

/* Every item there is, as effects in the order of ids. */
static void put_all(const struct meta *m, struct buf *out)
{
    record_put_cluster(out, &m->cluster, false);
    for (uint32_t i = 0; i < m->n_servers; i++)
        record_put_server(out, m->servers[i], false);
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        record_put_keyspace(out, m->keyspaces[i], false);
    for (uint32_t i = 0; i < m->n_shards; i++)
        record_put_shard(out, m->shards[i], false);
}

static void assert_same(const struct meta *a, const struct meta *b)
{
    struct buf x = buf_new(a->mem), y = buf_new(a->mem);

    put_all(a, &x);
    put_all(b, &y);
    assert_true(bytes_equal(buf_bytes(&x), buf_bytes(&y)));
    buf_free(&x);
    buf_free(&y);

    for (uint32_t i = 0; i < a->n_keyspaces; i++) {
        const struct meta_keyspace *k = a->keyspaces[i];
        const struct bytes name = {(const uint8_t *)k->name.at, k->name.len};
        assert_ptr_equal(meta_keyspace_named(a, name), k);
        assert_int_equal(meta_keyspace_named(b, name)->id, k->id);
        for (uint32_t s = 0; s <= k->policy.shards; s++) {
            const struct meta_shard *u = meta_shard_of(a, k->id, s);
            const struct meta_shard *v = meta_shard_of(b, k->id, s);
            assert_int_equal(u == NULL, v == NULL);
            if (u != NULL) assert_int_equal(u->group.v, v->group.v);
        }
    }
}

/* As a server does that starts: every item there is, in an order that means nothing. */
static void rebuild(const struct meta *from, struct meta *m, struct prng *p)
{
    enum { ITEMS_MAX = 4096 };
    static struct bytes items[ITEMS_MAX];
    struct buf all = buf_new(from->mem);
    uint32_t n = 0;

    put_all(from, &all);
    struct cursor c = cursor_of(buf_bytes(&all));
    struct effect e;
    for (const uint8_t *start = c.at; effect_decode(&c, &e) == EFFECT_OK; start = c.at) {
        assert_true(n < ITEMS_MAX);
        items[n++] = (struct bytes){start, (size_t)(c.at - start)};
    }
    for (; n > 0; n--) {
        const uint64_t pick = prng_below(p, n);
        struct cursor item = cursor_of(items[pick]);
        items[pick] = items[n - 1];
        assert_int_equal(effect_decode(&item, &e), EFFECT_OK);
        assert_true(meta_apply(m, &e));
    }
    buf_free(&all);
}

static void a_view_of_effects_is_the_view_of_what_is_there(void **state)
{
    (void)state;
    struct prng p = prng_seed(3);
    struct meta_world w;
    struct meta again;

    meta_world_found(&w, "a");
    meta_world_join(&w, "b");
    meta_world_command(&w, "KEYSPACE CREATE one MODE raft SHARDS 5");
    meta_world_command(&w, "KEYSPACE CREATE two MODE raft SHARDS 64 REPLICAS 1");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE DROP one");
    meta_world_join(&w, "c");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE CREATE one MODE raft SHARDS 3");
    meta_world_command(&w, "KEYSPACE ALTER two REPLICAS 3 READ any");
    meta_world_plan(&w);

    for (int i = 0; i < 5; i++) {
        meta_init(&again, &w.mem, META_FEATURE);
        rebuild(&w.meta, &again, &p);
        assert_same(&w.meta, &again);
        meta_free(&again);
    }

    /* The log from its start, as a server that follows from afar. */
    struct cursor c = cursor_of(buf_bytes(&w.log));
    struct effect e;
    meta_init(&again, &w.mem, META_FEATURE);
    while (effect_decode(&c, &e) == EFFECT_OK)
        assert_true(meta_apply(&again, &e));
    assert_same(&w.meta, &again);
    assert_int_equal(again.version, w.meta.version);
    meta_free(&again);
    meta_world_free(&w);
}

static void an_effect_that_cannot_be_read_changes_nothing(void **state)
{
    (void)state;
    struct meta_world w;
    struct buf b;

    meta_world_found(&w, "");
    const uint64_t version = w.meta.version;
    const struct effect wrong[] = {
        {.kind = EFFECT_WIPE},
        {.kind = EFFECT_CLEAR, .key = BYTES_OF("c")},
        {.kind = EFFECT_CLEAR, .key = BYTES_OF("x/1")},
        {.kind = EFFECT_PUT,
         .type = ITEM_STRING,
         .key = BYTES_OF("s/2"),
         .value = BYTES_OF("\1")},
        {.kind = EFFECT_PUT,
         .type = ITEM_STRING,
         .key = BYTES_OF("s/2"),
         .field = BYTES_OF("f")},
        {.kind = EFFECT_DEADLINE, .key = BYTES_OF("s/1"), .deadline_ms = 1},
        {.kind = EFFECT_REMOVE, .key = BYTES_OF("s/1")},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(meta_apply(&w.meta, &wrong[i]));

    /* A record under the key of another. */
    b = buf_new(&w.mem);
    record_put_server(&b, w.meta.servers[0], false);
    struct cursor c = cursor_of(buf_bytes(&b));
    struct effect e;
    assert_int_equal(effect_decode(&c, &e), EFFECT_OK);
    e.key = BYTES_OF("s/2");
    assert_false(meta_apply(&w.meta, &e));

    /* A newer feature level than this build knows. */
    b.len = 0;
    struct meta_cluster cluster = w.meta.cluster;
    cluster.feature = META_FEATURE + 1;
    record_put_cluster(&b, &cluster, false);
    c = cursor_of(buf_bytes(&b));
    assert_int_equal(effect_decode(&c, &e), EFFECT_OK);
    assert_false(meta_apply(&w.meta, &e));

    /* Two names for one id. */
    b.len = 0;
    struct meta_keyspace k = *w.meta.keyspaces[0];
    meta_text_set(&k.name, BYTES_OF("other"));
    record_put_keyspace(&b, &k, true);
    c = cursor_of(buf_bytes(&b));
    assert_int_equal(effect_decode(&c, &e), EFFECT_OK);
    assert_false(meta_apply(&w.meta, &e));
    buf_free(&b);

    assert_int_equal(w.meta.version, version);
    assert_int_equal(w.meta.n_servers, 1);
    assert_int_equal(w.meta.n_keyspaces, 1);
    meta_world_free(&w);
}

static uint32_t spoken(void *ctx, struct server_id id)
{
    const uint32_t *levels = ctx;
    return levels[id.v];
}

static bool raise(struct meta_world *w, uint32_t *levels)
{
    return meta_raise(&w->meta, spoken, levels, &(struct meta_change){&w->effects});
}

/* P32 */
static void the_level_rises_when_all_members_speak_it_and_never_falls(void **state)
{
    uint32_t levels[] = {0, 1, 1, 1, 9};
    struct meta_world w;
    (void)state;

    meta_world_found(&w, "a");
    meta_world_join(&w, "b");
    meta_world_join(&w, "c"); /* 4 is no member */
    w.meta.speaks = 3;
    assert_int_equal(w.meta.cluster.feature, META_FEATURE);
    assert_false(raise(&w, levels)); /* it is so already */
    levels[1] = levels[3] = 2;
    assert_false(raise(&w, levels)); /* the last one */
    levels[2] = 0;
    assert_false(raise(&w, levels)); /* it is being started: who knows as what */
    levels[2] = 3;
    const struct meta_cluster before = w.meta.cluster;
    assert_true(raise(&w, levels));
    meta_world_commit(&w);
    assert_int_equal(w.meta.cluster.feature, 2);
    assert_int_equal(w.meta.cluster.id.v, before.id.v);
    assert_int_equal(w.meta.cluster.next_server, before.next_server);
    assert_int_equal(w.meta.cluster.next_group, before.next_group);
    assert_false(raise(&w, levels));
    levels[1] = 1;
    assert_false(raise(&w, levels));

    /* Two at a time, and one that joins. */
    levels[1] = levels[3] = 3;
    levels[4] = 1;
    meta_world_join(&w, "d");
    assert_false(raise(&w, levels));
    levels[4] = 3;
    assert_true(raise(&w, levels));
    meta_world_commit(&w);
    assert_int_equal(w.meta.cluster.feature, 3);
    meta_world_free(&w);
}

static uint32_t keyspace_of(const struct meta_world *w, const char *key)
{
    return meta_keyspace_of(&w->meta, bytes_of_str(key))->id;
}

static void a_key_is_in_the_keyspace_of_its_prefix(void **state)
{
    (void)state;
    struct meta_world w;
    char line[160], name[65];

    meta_world_found(&w, "");
    assert_int_equal(keyspace_of(&w, "cart:1"), 1);
    meta_world_command(&w, "KEYSPACE CREATE cart MODE raft");
    memset(name, 'n', 64);
    name[64] = '\0';
    snprintf(line, sizeof line, "KEYSPACE CREATE %s MODE raft", name);
    meta_world_command(&w, line);

    assert_int_equal(keyspace_of(&w, "cart:1"), 2);
    assert_int_equal(keyspace_of(&w, "{cart:1}:items"), 2);
    assert_int_equal(keyspace_of(&w, "cart:"), 2);
    assert_int_equal(keyspace_of(&w, "cart:a:b"), 2);
    assert_int_equal(keyspace_of(&w, "cart"), 1);
    assert_int_equal(keyspace_of(&w, "Cart:1"), 1);
    assert_int_equal(keyspace_of(&w, "carts:1"), 1);
    assert_int_equal(keyspace_of(&w, "{{cart:1"), 1);
    assert_int_equal(keyspace_of(&w, ":cart"), 1);
    assert_int_equal(keyspace_of(&w, ""), 1);
    assert_int_equal(keyspace_of(&w, "{"), 1);
    assert_int_equal(keyspace_of(&w, "default:x"), 1);
    snprintf(line, sizeof line, "%s:1", name);
    assert_int_equal(keyspace_of(&w, line), 3);
    snprintf(line, sizeof line, "{%s:1", name);
    assert_int_equal(keyspace_of(&w, line), 3);
    snprintf(line, sizeof line, "%sn:1", name);
    assert_int_equal(keyspace_of(&w, line), 1);

    meta_world_command(&w, "KEYSPACE DROP cart");
    assert_int_equal(keyspace_of(&w, "cart:1"), 1);
    assert_null(meta_keyspace_named(&w.meta, BYTES_OF("cart")));
    meta_world_free(&w);
}

static void a_key_is_routed_to_the_shard_of_its_slot(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 3, 8, 1000, 1024};

    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        struct meta_world w;
        char text[64];

        meta_world_found(&w, "");
        snprintf(text, sizeof text, "KEYSPACE CREATE k MODE raft SHARDS %u", counts[n]);
        assert_string_equal(meta_world_command(&w, text), ":2\r\n");

        uint32_t next = 0; /* every slot in one shard, in order */
        for (uint32_t i = 0; i < counts[n]; i++) {
            const struct meta_shard *s = meta_shard_of(&w.meta, 2, i);
            assert_non_null(s);
            assert_int_equal(s->slot_first, next);
            assert_in_range(s->slot_last - s->slot_first + 1, SLOTS / counts[n],
                            SLOTS / counts[n] + 1);
            next = s->slot_last + 1u;
        }
        assert_int_equal(next, SLOTS);
        assert_null(meta_shard_of(&w.meta, 2, counts[n]));

        for (int i = 0; i < 5000; i++) {
            snprintf(text, sizeof text, "k:%d", i);
            const uint16_t slot = key_slot(bytes_of_str(text));
            const struct meta_shard *s = meta_route(&w.meta, bytes_of_str(text));
            assert_int_equal(s->keyspace, 2);
            assert_in_range(slot, s->slot_first, s->slot_last);
            assert_ptr_equal(meta_shard(&w.meta, s->group), s);
        }
        assert_int_equal(meta_route(&w.meta, BYTES_OF("other"))->group.v, 1);
        meta_world_free(&w);
    }
}

static void an_empty_view_routes_nowhere(void **state)
{
    (void)state;
    struct meta_world w;
    struct meta m;

    meta_world_found(&w, "");
    meta_init(&m, &w.mem, META_FEATURE);
    assert_null(meta_route(&m, BYTES_OF("k")));
    assert_null(meta_keyspace_of(&m, BYTES_OF("k:1")));
    assert_null(meta_server(&m, (struct server_id){1}));
    assert_null(meta_shard(&m, (struct group_id){0}));
    assert_null(meta_shard_of(&m, 1, 0));
    assert_false(meta_plan(&m, NULL, &(struct meta_planner){0},
                           &(struct meta_change){&w.effects}));
    meta_free(&m);
    meta_world_free(&w);
}

static void pointers_to_records_stay_good_while_others_come_and_go(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    const struct meta_shard *shard = meta_shard(&w.meta, (struct group_id){1});
    const struct meta_server *server = meta_server(&w.meta, (struct server_id){1});
    for (int i = 0; i < 12; i++)
        meta_world_join(&w, "");
    meta_world_command(&w, "KEYSPACE CREATE k MODE raft SHARDS 200");
    meta_world_plan(&w);
    meta_world_command(&w, "KEYSPACE DROP k");
    assert_ptr_equal(meta_shard(&w.meta, (struct group_id){1}), shard);
    assert_ptr_equal(meta_server(&w.meta, (struct server_id){1}), server);
    assert_int_equal(shard->n_voters, 3);
    meta_world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_of_effects_is_the_view_of_what_is_there),
        cmocka_unit_test(the_level_rises_when_all_members_speak_it_and_never_falls),
        cmocka_unit_test(an_effect_that_cannot_be_read_changes_nothing),
        cmocka_unit_test(a_key_is_in_the_keyspace_of_its_prefix),
        cmocka_unit_test(a_key_is_routed_to_the_shard_of_its_slot),
        cmocka_unit_test(an_empty_view_routes_nowhere),
        cmocka_unit_test(pointers_to_records_stay_good_while_others_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
