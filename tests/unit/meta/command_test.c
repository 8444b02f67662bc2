/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "meta_world.h"

#include "meta/record.h"

static void assert_reply(struct meta_world *w, const char *line, const char *expected)
{
    assert_string_equal(meta_world_command(w, line), expected);
}

static void a_new_cluster_has_one_server_and_default(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "z");
    assert_true(w.meta.founded);
    assert_true(w.meta.cluster.id.v == 77);
    assert_int_equal(w.meta.n_servers, 1);
    assert_string_equal(w.meta.servers[0]->zone.at, "z");
    assert_int_equal(w.meta.n_shards, 2);
    assert_reply(&w, "KEYSPACE LIST", "*1\r\n$7\r\ndefault\r\n");
    assert_reply(&w, "keyspace info default",
                 "*20\r\n$4\r\nname\r\n$7\r\ndefault\r\n$4\r\nmode\r\n$4\r\nraft\r\n"
                 "$5\r\nstate\r\n$6\r\nactive\r\n$8\r\nreplicas\r\n:3\r\n"
                 "$8\r\nlearners\r\n:0\r\n$6\r\nshards\r\n:1\r\n"
                 "$9\r\nunsettled\r\n:1\r\n"
                 "$4\r\nread\r\n$12\r\nlinearizable\r\n$6\r\nmaxlag\r\n:0\r\n"
                 "$9\r\nmaxmemory\r\n:0\r\n");
    meta_world_free(&w);
}

static void keyspaces_come_change_and_go(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    assert_reply(&w, "KEYSPACE CREATE cart MODE raft SHARDS 4 REPLICAS 5", ":2\r\n");
    assert_reply(&w, "KEYSPACE LIST", "*2\r\n$7\r\ndefault\r\n$4\r\ncart\r\n");
    assert_reply(&w, "KEYSPACE ALTER cart READ any MAXLAG 100", ":2\r\n");
    assert_reply(
        &w, "KEYSPACE ALTER cart MAXMEMORY 1gb",
        "-BADPOLICY MAXMEMORY of a keyspace is not available in this version; use 0, and "
        "--memory for the server\r\n");
    assert_reply(&w, "KEYSPACE ALTER cart READ any", ":2\r\n");
    const struct meta_keyspace *k = meta_keyspace_named(&w.meta, BYTES_OF("cart"));
    assert_int_equal(k->policy.read, READ_ANY);
    assert_int_equal(k->policy.replicas, 5);
    assert_int_equal(w.meta.n_shards, 6);

    const uint32_t id = k->id, next_group = w.meta.cluster.next_group;
    assert_reply(&w, "KEYSPACE DROP cart", ":2\r\n");
    assert_int_equal(w.meta.n_shards, 2);
    assert_reply(&w, "KEYSPACE CREATE cart MODE raft", ":3\r\n");
    k = meta_keyspace_named(&w.meta, BYTES_OF("cart"));
    assert_true(k->id > id); /* ids are not used again */
    assert_int_equal(meta_shard_of(&w.meta, k->id, 0)->group.v, next_group);
    assert_reply(&w, "KEYSPACE ALTER default REPLICAS 1", ":1\r\n");
    meta_world_arrive(&w); /* that it has begun is known */
    const struct meta_shard *shard = meta_shard(&w.meta, (struct group_id){1});
    const uint64_t version = shard->version;
    assert_reply(&w, "KEYSPACE ALTER default MODE primary ACK async", ":1\r\n");
    shard = meta_shard(&w.meta, (struct group_id){1});
    assert_int_equal(shard->version,
                     version + 1); /* told to its leader, and waited for */
    assert_false(shard->settled);
    meta_world_free(&w);
}

static void a_new_keyspace_is_placed_on_the_servers_there_are(void **state)
{
    (void)state;
    struct meta_world w;

    meta_world_found(&w, "");
    meta_world_join(&w, "");
    meta_world_join(&w, "");
    meta_world_command(&w, "KEYSPACE CREATE a MODE raft");
    assert_string_equal(meta_world_members(&w, 2), "1 2 3");
    meta_world_command(&w, "KEYSPACE CREATE b MODE raft REPLICAS 1 LEARNERS 1");
    assert_int_equal(meta_shard(&w.meta, (struct group_id){3})->n_voters, 1);
    assert_int_equal(meta_shard(&w.meta, (struct group_id){3})->n_learners, 1);
    meta_world_command(&w, "KEYSPACE CREATE c MODE raft REPLICAS 5");
    assert_string_equal(meta_world_members(&w, 4), "1 2 3");
    meta_world_free(&w);
}

static void refusals_name_their_reason(void **state)
{
    (void)state;
    struct meta_world w;
    char line[120] = "KEYSPACE CREATE ";

    meta_world_found(&w, "");
    meta_world_command(&w, "KEYSPACE CREATE x MODE raft");
    const struct {
        const char *line, *reply;
    } cases[] = {
        {"KEYSPACE", "-ERR wrong number of arguments for 'keyspace' command\r\n"},
        {"KEYSPACE CREATE",
         "-ERR wrong number of arguments for 'keyspace|create' command\r\n"},
        {"KEYSPACE LIST x",
         "-ERR wrong number of arguments for 'keyspace|list' command\r\n"},
        {"KEYSPACE EAT x",
         "-ERR unknown subcommand 'EAT' of KEYSPACE; it has CREATE, ALTER, "
         "DROP, LIST and INFO\r\n"},
        {"KEYSPACE CREATE x MODE raft", "-ERR keyspace 'x' exists already\r\n"},
        {"KEYSPACE CREATE default MODE raft",
         "-ERR keyspace 'default' exists already\r\n"},
        {"KEYSPACE CREATE a:b MODE raft", "-ERR a keyspace's name is 1 to 64 of the "
                                          "characters A-Z a-z 0-9 _ . -\r\n"},
        {"KEYSPACE CREATE y", "-BADPOLICY MODE is missing; give MODE raft\r\n"},
        {"KEYSPACE CREATE y MODE paxos", "-BADPOLICY MODE paxos is not available in this "
                                         "version; use raft\r\n"},
        {"KEYSPACE CREATE y MODE primary ACK 3",
         "-BADPOLICY ACK 3 needs REPLICAS 4, and REPLICAS is 3\r\n"},
        {"KEYSPACE ALTER x SHARDS 2", "-BADPOLICY SHARDS is set by CREATE and can't be "
                                      "altered\r\n"},
        {"KEYSPACE ALTER y REPLICAS 1", "-NOKEYSPACE there is no keyspace 'y'; KEYSPACE "
                                        "LIST shows those there are\r\n"},
        {"KEYSPACE DROP y", "-NOKEYSPACE there is no keyspace 'y'; KEYSPACE LIST shows "
                            "those there are\r\n"},
        {"KEYSPACE INFO y", "-NOKEYSPACE there is no keyspace 'y'; KEYSPACE LIST shows "
                            "those there are\r\n"},
        {"KEYSPACE DROP default", "-ERR keyspace 'default' can't be dropped\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_reply(&w, cases[i].line, cases[i].reply);

    memset(line + 16, 'n', 65);
    strcpy(line + 16 + 65, " MODE raft");
    assert_int_equal(meta_world_command(&w, line)[0], '-');
    assert_int_equal(w.meta.n_keyspaces, 2);
    meta_world_free(&w);
}

static void what_a_cluster_holds_is_bounded(void **state)
{
    (void)state;
    struct meta_world w;
    char line[64];

    meta_world_found(&w, "");
    for (unsigned i = 0; i < 15; i++) {
        snprintf(line, sizeof line, "KEYSPACE CREATE k%u MODE raft SHARDS 1024", i);
        assert_int_equal(meta_world_command(&w, line)[0], ':');
    }
    assert_reply(&w, "KEYSPACE CREATE k15 MODE raft SHARDS 1024",
                 "-FULL a cluster holds 1024 keyspaces and 16384 shards at most\r\n");
    meta_world_free(&w);
}

struct call {
    const char *name, *client, *peer, *zone;
    uint64_t life;
};

static bool join(struct meta_world *w, struct call c, uint32_t *id)
{
    struct server_id got = {0};
    const char *why = NULL;
    const struct meta_joiner joiner = {bytes_of_str(c.name),
                                       bytes_of_str(c.client),
                                       bytes_of_str(c.peer),
                                       bytes_of_str(c.zone),
                                       {c.life}};
    const bool ok = meta_join(&w->meta, &joiner, &(struct meta_change){&w->effects}, &got,
                              &why);

    assert_int_equal(ok, why == NULL);
    if (!ok) assert_int_equal(w->effects.len, 0);
    meta_world_commit(w);
    *id = got.v;
    return ok;
}

static void a_server_that_asks_again_gets_the_same_id(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t id;

    meta_world_found(&w, "");
    assert_true(join(&w, (struct call){"b", "h2:1", "h2:2", "z", 1}, &id));
    assert_int_equal(id, 2);
    assert_true(join(&w, (struct call){"b", "h2:9", "h2:2", "y", 1}, &id));
    assert_int_equal(id, 2);
    assert_int_equal(w.meta.n_servers, 2);
    assert_string_equal(w.meta.servers[1]->client.at, "h2:9");
    assert_string_equal(w.meta.servers[1]->zone.at, "y");
    assert_true(join(&w, (struct call){"c", "h3:1", "h3:2", "", 1}, &id));
    assert_int_equal(id, 3);
    meta_world_free(&w);
}

/* R97: a life that remembers nothing never gets the id under which it voted. */
static void a_server_that_lost_its_disk_never_gets_its_old_id(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t id;

    meta_world_found(&w, "");
    assert_true(join(&w, (struct call){"b", "h2:1", "h2:2", "", 7}, &id));
    assert_int_equal(id, 2);
    assert_true(join(&w, (struct call){"b", "h2:1", "h2:2", "", 8}, &id));
    assert_int_equal(id, 3);
    assert_int_equal(w.meta.n_servers, 2);
    assert_null(meta_server(&w.meta, (struct server_id){2}));

    struct meta_shard shard = *meta_shard(&w.meta, (struct group_id){1});
    shard.learners[shard.n_learners++] = (struct server_id){3};
    record_put_shard(&w.effects, &shard, false);
    meta_world_commit(&w);
    assert_false(join(&w, (struct call){"b", "h2:1", "h2:2", "", 9}, &id));
    assert_true(join(&w, (struct call){"b", "h2:1", "h2:2", "", 8}, &id));
    assert_int_equal(id, 3);
    meta_world_free(&w);
}

static void a_server_brings_its_own_record_up_to_date(void **state)
{
    (void)state;
    struct meta_world w;
    struct meta_change change = {&w.effects};
    const struct bytes client = BYTES_OF("new:1"), peer = BYTES_OF("new:2");
    const struct bytes zone = BYTES_OF("z");

    meta_world_found(&w, "z");
    assert_false(
        meta_update_self(&w.meta, (struct server_id){9}, client, peer, zone, &change));
    assert_true(
        meta_update_self(&w.meta, (struct server_id){1}, client, peer, zone, &change));
    meta_world_commit(&w);
    assert_string_equal(w.meta.servers[0]->name.at, "n1");
    assert_string_equal(w.meta.servers[0]->client.at, "new:1");
    assert_string_equal(w.meta.servers[0]->peer.at, "new:2");
    assert_false(
        meta_update_self(&w.meta, (struct server_id){1}, client, peer, zone, &change));
    assert_int_equal(w.effects.len, 0);
    meta_world_free(&w);
}

static void a_join_that_is_not_right_is_refused(void **state)
{
    (void)state;
    struct meta_world w;
    uint32_t id;

    meta_world_found(&w, "");
    assert_false(join(&w, (struct call){"n1", "h2:1", "h2:2", "", 1}, &id));
    assert_false(join(&w, (struct call){"b", "h2:1", "h1:16379", "", 1}, &id));
    assert_false(join(&w, (struct call){"", "h2:1", "h2:2", "", 1}, &id));
    assert_false(join(&w, (struct call){"a b", "h2:1", "h2:2", "", 1}, &id));
    assert_false(join(&w, (struct call){"b", "", "h2:2", "", 1}, &id));
    assert_false(join(&w, (struct call){"b", "h2:1", "", "", 1}, &id));
    while (w.meta.n_servers < META_SERVERS_MAX)
        meta_world_join(&w, "");
    assert_false(join(&w, (struct call){"b", "x:1", "x:2", "", 1}, &id));
    assert_int_equal(w.meta.n_servers, META_SERVERS_MAX);
    meta_world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_cluster_has_one_server_and_default),
        cmocka_unit_test(keyspaces_come_change_and_go),
        cmocka_unit_test(a_new_keyspace_is_placed_on_the_servers_there_are),
        cmocka_unit_test(refusals_name_their_reason),
        cmocka_unit_test(what_a_cluster_holds_is_bounded),
        cmocka_unit_test(a_server_that_asks_again_gets_the_same_id),
        cmocka_unit_test(a_server_that_lost_its_disk_never_gets_its_old_id),
        cmocka_unit_test(a_server_brings_its_own_record_up_to_date),
        cmocka_unit_test(a_join_that_is_not_right_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
