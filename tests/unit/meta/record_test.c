/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "meta/record.h"

static struct mem mem;
static struct buf effects;

static int set_up(void **state)
{
    (void)state;
    mem = mem_for_test();
    effects = buf_new(&mem);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_free(&effects);
    return mem.used == 0 ? 0 : -1;
}

/* The one effect that was written since the last call. */
static struct effect written(const char *key, bool fresh)
{
    struct cursor c = cursor_of(buf_bytes(&effects));
    struct effect e;

    assert_int_equal(effect_decode(&c, &e), EFFECT_OK);
    assert_int_equal(effect_decode(&c, &(struct effect){.kind = 0}), EFFECT_END);
    assert_true(bytes_equal(e.key, bytes_of_str(key)));
    assert_int_equal(e.kind, EFFECT_PUT);
    assert_int_equal(e.flags, fresh ? EFFECT_CREATED : 0);
    effects.len = 0;
    return e;
}

/* Every prefix is refused, and so is one byte more or another version. */
#define ASSERT_ONLY_WHOLE(value, decode, type)                                           \
    do {                                                                                 \
        uint8_t copy_[1200];                                                             \
        type out_, before_;                                                              \
        memset(&out_, 0x5a, sizeof out_);                                                \
        memcpy(&before_, &out_, sizeof out_);                                            \
        assert_true((value).len < sizeof copy_);                                         \
        memcpy(copy_, (value).at, (value).len);                                          \
        copy_[(value).len] = 0;                                                          \
        for (size_t len_ = 0; len_ < (value).len; len_++)                                \
            assert_false(decode((struct bytes){copy_, len_}, &out_));                    \
        assert_false(decode((struct bytes){copy_, (value).len + 1}, &out_));             \
        copy_[0] = 2;                                                                    \
        assert_false(decode((struct bytes){copy_, (value).len}, &out_));                 \
        assert_memory_equal(&out_, &before_, sizeof out_);                               \
    } while (0)

static void a_cluster_comes_back(void **state)
{
    (void)state;
    const struct meta_cluster sent = {{7}, 1, 2, 3, 4};
    struct meta_cluster got;

    record_put_cluster(&effects, &sent, true);
    const struct effect e = written("c", true);
    assert_true(record_cluster_decode(e.value, &got));
    assert_true(got.id.v == 7);
    assert_int_equal(got.feature, 1);
    assert_int_equal(got.next_server, 2);
    assert_int_equal(got.next_keyspace, 3);
    assert_int_equal(got.next_group, 4);
    ASSERT_ONLY_WHOLE(e.value, record_cluster_decode, struct meta_cluster);
}

static void a_server_comes_back(void **state)
{
    (void)state;
    struct meta_server sent, got;

    memset(&sent, 0, sizeof sent);
    memset(&got, 0, sizeof got);
    sent.id.v = 12;
    sent.state = SERVER_LEAVING;
    meta_text_set(&sent.name, BYTES_OF("n12"));
    meta_text_set(&sent.client, BYTES_OF("[::1]:6379"));
    meta_text_set(&sent.peer, BYTES_OF("[::1]:16379"));
    meta_text_set(&sent.zone, BYTES_OF(""));
    record_put_server(&effects, &sent, false);
    const struct effect e = written("s/12", false);
    assert_true(record_server_decode(e.value, &got));
    assert_int_equal(got.id.v, 12);
    assert_int_equal(got.state, SERVER_LEAVING);
    assert_string_equal(got.name.at, "n12");
    assert_string_equal(got.client.at, "[::1]:6379");
    assert_string_equal(got.peer.at, "[::1]:16379");
    assert_int_equal(got.zone.len, 0);
    ASSERT_ONLY_WHOLE(e.value, record_server_decode, struct meta_server);
}

static void a_keyspace_comes_back(void **state)
{
    (void)state;
    struct meta_keyspace sent = {.id = 3,
                                 .state = KEYSPACE_REFUSED,
                                 .hidden = UINT64_C(1) << 40},
                         got;

    meta_text_set(&sent.name, BYTES_OF("Cart_v2.x-y"));
    sent.policy = policy_default(MODE_RAFT);
    record_put_keyspace(&effects, &sent, true);
    const struct effect e = written("k/Cart_v2.x-y", true);
    assert_true(record_keyspace_decode(e.value, &got));
    assert_int_equal(got.id, 3);
    assert_string_equal(got.name.at, "Cart_v2.x-y");
    assert_int_equal(got.state, KEYSPACE_REFUSED);
    assert_true(got.hidden == sent.hidden);
    struct buf again = buf_new(&mem);
    record_put_keyspace(&again, &got, true);
    assert_true(bytes_equal(buf_bytes(&again), (struct bytes){effects.at, again.len}));
    buf_free(&again);
    ASSERT_ONLY_WHOLE(e.value, record_keyspace_decode, struct meta_keyspace);
}

static void assert_same_shard(const struct meta_shard *a, const struct meta_shard *b)
{
    assert_int_equal(a->group.v, b->group.v);
    assert_int_equal(a->keyspace, b->keyspace);
    assert_int_equal(a->slot_first, b->slot_first);
    assert_int_equal(a->slot_last, b->slot_last);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->founder.v, b->founder.v);
    assert_int_equal(a->n_voters, b->n_voters);
    assert_int_equal(a->n_learners, b->n_learners);
    assert_memory_equal(a->voters, b->voters, sizeof a->voters);
    assert_memory_equal(a->learners, b->learners, sizeof a->learners);
}

static bool shard_decodes(const struct meta_shard *s)
{
    struct meta_shard got;

    effects.len = 0;
    record_put_shard(&effects, s, false);
    struct cursor c = cursor_of(buf_bytes(&effects));
    struct effect e;
    assert_int_equal(effect_decode(&c, &e), EFFECT_OK);
    const bool ok = record_shard_decode(e.value, &got);
    effects.len = 0;
    return ok;
}

static void a_shard_comes_back_if_its_members_make_sense(void **state)
{
    (void)state;
    const struct meta_shard sent = {.group = {4000000000},
                                    .keyspace = 2,
                                    .slot_first = 8192,
                                    .slot_last = 16383,
                                    .epoch = 5,
                                    .founder = {7},
                                    .n_voters = 3,
                                    .voters = {{1}, {2}, {3}},
                                    .n_learners = 2,
                                    .learners = {{4}, {9}}};
    struct meta_shard got, s;

    record_put_shard(&effects, &sent, true);
    const struct effect e = written("g/4000000000", true);
    assert_true(record_shard_decode(e.value, &got));
    assert_same_shard(&got, &sent);
    ASSERT_ONLY_WHOLE(e.value, record_shard_decode, struct meta_shard);

    assert_true(shard_decodes(&sent));
    s = sent, s.learners[0].v = 3; /* twice the same server */
    assert_false(shard_decodes(&s));
    s = sent, s.voters[1].v = 0;
    assert_false(shard_decodes(&s));
    s = sent, s.n_voters = 0;
    assert_false(shard_decodes(&s));
    s = sent, s.founder.v = 0;
    assert_false(shard_decodes(&s));
    s = sent, s.slot_last = 8191;
    assert_false(shard_decodes(&s));
    s = sent, s.slot_last = 16384;
    assert_false(shard_decodes(&s));
    s = sent, s.keyspace = 0; /* only group 0 belongs to none */
    assert_false(shard_decodes(&s));
}

static void keys_have_one_form(void **state)
{
    (void)state;
    struct record_key k = {.id = 1234};
    const char *const wrong[] = {
        "",      "d",  "cc",   "c/1", "s/", "s/0",   "s/01",  "s/-1",   "s/4294967296",
        "s/x",   "g/", "g/+1", "x/1", "k/", "k/a b", "k/a:b", "k/\xff", "s1",
        "kname",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(record_key_decode(bytes_of_str(wrong[i]), &k));
        assert_int_equal(k.id, 1234);
    }
    assert_true(record_key_decode(BYTES_OF("c"), &k));
    assert_int_equal(k.kind, RECORD_CLUSTER);
    assert_true(record_key_decode(BYTES_OF("s/4294967295"), &k));
    assert_int_equal(k.kind, RECORD_SERVER);
    assert_true(k.id == UINT32_MAX);
    assert_true(record_key_decode(BYTES_OF("g/0"), &k));
    assert_int_equal(k.kind, RECORD_SHARD);
    assert_true(record_key_decode(BYTES_OF("k/default"), &k));
    assert_int_equal(k.kind, RECORD_KEYSPACE);
    assert_true(bytes_equal(k.name, BYTES_OF("default")));
}

static void names_are_1_to_64_of_the_allowed_characters(void **state)
{
    (void)state;
    char name[65];

    memset(name, 'a', sizeof name);
    assert_true(meta_name_good((struct bytes){(const uint8_t *)name, 64}));
    assert_false(meta_name_good((struct bytes){(const uint8_t *)name, 65}));
    assert_false(meta_name_good(BYTES_OF("")));
    for (int c = 0; c < 256; c++) {
        const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        name[0] = (char)c;
        assert_int_equal(meta_name_good((struct bytes){(const uint8_t *)name, 2}), good);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_comes_back),
        cmocka_unit_test(a_server_comes_back),
        cmocka_unit_test(a_keyspace_comes_back),
        cmocka_unit_test(a_shard_comes_back_if_its_members_make_sense),
        cmocka_unit_test(keys_have_one_form),
        cmocka_unit_test(names_are_1_to_64_of_the_allowed_characters),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
