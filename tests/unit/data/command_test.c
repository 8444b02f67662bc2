/* SPDX-License-Identifier: Apache-2.0 */
#include "data/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naive_view.h"
#include "unit.h"

static int setup(void **state)
{
    struct naive *n = calloc(1, sizeof *n);
    naive_init(n);
    *state = n;
    return 0;
}

static int teardown(void **state)
{
    naive_free(*state);
    free(*state);
    return 0;
}

/* The command of up to two words; *container as command_find() sets it. */
static const struct command *find(const char *word, const char *sub,
                                  const struct command **container)
{
    const struct bytes args[] = {bytes_of_str(word),
                                 bytes_of_str(sub != NULL ? sub : "")};
    return command_find(args, sub != NULL ? 2 : 1, container);
}

/* A row that is not found means that command_index.inc is older than command.def. */
static void every_row_is_found_by_its_name(void **state)
{
    (void)state;
    for (int i = 1; i < COMMAND_END; i++) {
        const struct command *c = command_row((enum command_id)i), *container;
        char name[64], *sub;

        snprintf(name, sizeof name, "%s", c->name);
        for (char *at = name; *at != 0; at++)
            if (at != name && at[-1] != '|' && *at >= 'a' && *at <= 'z' && i % 2 == 0)
                *at = (char)(*at - 'a' + 'A');
        sub = strchr(name, '|');
        if (sub != NULL) *sub++ = 0;
        const struct command *found = find(name, sub, &container);
        if (c->flags & CF_CONTAINER) {
            assert_null(found);
            assert_ptr_equal(container, c);
        } else {
            assert_ptr_equal(found, c);
            assert_null(container);
        }
    }
}

static void what_is_not_there_is_not_found(void **state)
{
    (void)state;
    const char *const names[] = {
        "",     "g",      "ge",
        "gett", "gex",    "config|get",
        "foo",  "GE\x14", "a name that is longer than any command has ever been"};
    const struct command *container;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_null(find(names[i], NULL, &container));
        assert_null(container);
    }
    assert_null(command_find(NULL, 0, &container));
    assert_null(find("config", "nosuch", &container));
    assert_int_equal(container->id, COMMAND_CONFIG);
    assert_null(find("command", "nosuch", &container));
    assert_int_equal(container->id, COMMAND_COMMAND);
    assert_int_equal(find("command", NULL, &container)->id, COMMAND_COMMAND);
    assert_int_equal(find("get", "x", &container)->id, COMMAND_GET);
}

static void the_table_is_sound(void **state)
{
    (void)state;
    for (int i = 1; i < COMMAND_END; i++) {
        const struct command *c = command_row((enum command_id)i);
        const uint32_t kinds = CF_KEY_RO | CF_KEY_RW | CF_KEY_OW | CF_KEY_RM;

        assert_int_equal(c->id, i);
        assert_int_not_equal(c->arity, 0);
        assert_int_equal(c->first_key != 0, (c->flags & kinds) != 0);
        assert_int_equal(c->first_key != 0, c->step != 0);
        assert_true(!(c->flags & CF_WRITE) || !(c->flags & CF_READ));
        assert_true(!(c->flags & CF_SHARD) || c->first_key != 0);
        assert_true(!(c->flags & CF_FANOUT) || c->first_key == 0);
        assert_true((c->flags & (CF_SHARD | CF_FANOUT)) == 0 ||
                    (c->flags & (CF_WRITE | CF_READ)) != 0);
        assert_true(c->summary[0] != 0 && c->group[0] != 0 && c->since[0] != 0);
    }
}

static void arity_and_keys_are_as_redis_counts_them(void **state)
{
    (void)state;
    const struct command *get = command_row(COMMAND_GET),
                         *mset = command_row(COMMAND_MSET);
    uint32_t at[4];

    assert_true(command_arity_ok(get, 2));
    assert_false(command_arity_ok(get, 1));
    assert_false(command_arity_ok(get, 3));
    assert_true(command_arity_ok(mset, 3));
    assert_true(command_arity_ok(mset, 300));
    assert_false(command_arity_ok(mset, 2));

    assert_int_equal(command_keys(get, 2, at, 4), 1);
    assert_int_equal(at[0], 1);
    assert_int_equal(command_keys(mset, 7, at, 2), 3);
    assert_int_equal(at[1], 3);
    assert_int_equal(command_keys(command_row(COMMAND_RENAME), 3, at, 4), 2);
    assert_int_equal(at[1], 2);
    assert_int_equal(command_keys(command_row(COMMAND_COPY), 6, at, 4), 2);
    assert_int_equal(command_keys(command_row(COMMAND_DEL), 4, at, 4), 3);
    assert_int_equal(command_keys(command_row(COMMAND_PING), 2, at, 4), 0);
}

#define SPEC(flags, index, last, step)                                                   \
    "*6 $5 flags " flags                                                                 \
    " $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :" index                  \
    " $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :" last                     \
    " $7 keystep :" step " $5 limit :0"

static void command_info_has_ten_elements(void **state)
{
    struct naive *n = *state;
    expect(n, "COMMAND INFO get nosuch",
           "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 "
           "*1 " SPEC("*2 +RO +access", "1", "0", "1") " *0 $-1",
           "");
    expect(n, "COMMAND INFO mset",
           "*1 *10 $4 mset :-3 *2 +write +denyoom :1 :-1 :2 *3 +@write +@string +@slow "
           "*0 *1 " SPEC("*2 +OW +update", "1", "-1", "2") " *0",
           "");
    expect(n, "COMMAND INFO copy",
           "*1 *10 $4 copy :-3 *2 +write +denyoom :1 :2 :1 *3 +@keyspace +@write +@slow "
           "*0 *2 " SPEC("*2 +RO +access", "1", "0", "1") " " SPEC("*2 +OW +update", "2",
                                                                   "0", "1") " *0",
           "");
    expect(n, "COMMAND INFO shard",
           "*1 *10 $5 shard :-2 *0 :0 :0 :0 *1 +@slow *0 *0 *1 "
           "*10 $10 shard|list :-2 *1 +no_multi :0 :0 :0 *1 +@slow *0 *0 *0",
           "");
    n->version = 3;
    expect(
        n, "COMMAND INFO client|id get|x",
        "*2 *10 $9 client|id :2 ~1 +loading :0 :0 :0 ~2 +@slow +@connection ~0 ~0 ~0 _",
        "");
}

static void command_docs_are_maps(void **state)
{
    struct naive *n = *state;
    expect(n, "COMMAND DOCS strlen nosuch",
           "*2 $6 strlen *10 $7 summary $30 The length of a value in bytes "
           "$5 since $5 2.2.0 $5 group $6 string $10 complexity $4 O(1) "
           "$9 arguments *1 *6 $4 name $3 key $4 type $3 key $14 key_spec_index :0",
           "");
    n->version = 3;
    expect(
        n, "COMMAND DOCS shard",
        "%1 $5 shard %5 $7 summary $12 About shards $5 since $10 sennit 0.1 "
        "$5 group $7 cluster $10 complexity $13 by subcommand $11 subcommands %1 "
        "$10 shard|list %5 $7 summary $79 The shards: slots, replicas, leader, epoch, "
        "term, position, lag, rules in force $5 since $10 sennit 0.1 $5 group $7 cluster "
        "$10 complexity $15 O(N), N: shards "
        "$9 arguments *1 %3 $4 name $8 keyspace $4 type $6 string $5 flags ~1 +optional",
        "");
}

static void command_lists_and_counts(void **state)
{
    struct naive *n = *state;
    int tops = 0;
    char count[32];

    for (int i = 1; i < COMMAND_END; i++)
        tops += strchr(command_row((enum command_id)i)->name, '|') == NULL;
    snprintf(count, sizeof count, ":%d", tops);
    expect(n, "COMMAND COUNT", count, "");
    expect(n, "COMMAND LIST FILTERBY PATTERN config*",
           "*4 $6 config $10 config|get $10 config|set $16 config|resetstat", "");
    expect(n, "COMMAND LIST FILTERBY ACLCAT transaction",
           "*5 $5 multi $4 exec $7 discard $5 watch $7 unwatch", "");
    expect(n, "COMMAND LIST FILTERBY ACLCAT nosuch", "*0", "");
    expect(n, "COMMAND LIST FILTERBY MODULE m", "*0", "");
    expect(n, "COMMAND LIST FILTERBY x y", "-ERR syntax error", "");
    expect(n, "COMMAND LIST x", "-ERR syntax error", "");
    naive_run(n, "COMMAND");
    snprintf(count, sizeof count, "*%d *10 $3 get ", tops);
    assert_memory_equal(n->reply, count, strlen(count));
    naive_run(n, "COMMAND LIST");
    snprintf(count, sizeof count, "*%d $3 get ", COMMAND_END - 1);
    assert_memory_equal(n->reply, count, strlen(count));
}

static void command_tells_so_many_at_once(void **state)
{
    struct naive *n = *state;
    struct bytes args[1027];

    for (uint32_t i = 0; i < 1027; i++)
        args[i] = BYTES_OF("get");
    args[0] = BYTES_OF("COMMAND");
    for (int docs = 0; docs < 2; docs++) {
        args[1] = docs ? BYTES_OF("DOCS") : BYTES_OF("INFO");
        naive_run_args(n, args, 1026);
        assert_memory_equal(n->reply, "*1024 ", docs ? 1 : 6);
        naive_run_args(n, args, 1027);
        assert_string_equal(
            n->reply,
            "-ERR more than 1024 commands are asked for; ask for fewer at once");
    }
}

static void command_getkeys_finds_the_keys(void **state)
{
    struct naive *n = *state;
    expect(n, "COMMAND GETKEYS mset a b c d", "*2 $1 a $1 c", "");
    expect(n, "COMMAND GETKEYS set a b", "*1 $1 a", "");
    expect(n, "COMMAND GETKEYS nosuch a", "-ERR Invalid command specified", "");
    expect(n, "COMMAND GETKEYS ping a", "-ERR The command has no key arguments", "");
    expect(n, "COMMAND GETKEYS get",
           "-ERR Invalid number of arguments specified for command", "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_row_is_found_by_its_name),
        TEST(what_is_not_there_is_not_found),
        TEST(the_table_is_sound),
        TEST(arity_and_keys_are_as_redis_counts_them),
        TEST(command_info_has_ten_elements),
        TEST(command_docs_are_maps),
        TEST(command_lists_and_counts),
        TEST(command_tells_so_many_at_once),
        TEST(command_getkeys_finds_the_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
