/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "mem_test_alloc.h"
#include "meta/policy.h"

enum { ARGS_MAX = 32 };

static struct mem mem;
static struct buf why, text;

static int set_up(void **state)
{
    (void)state;
    mem = mem_for_test();
    why = text = buf_new(&mem);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_free(&why);
    buf_free(&text);
    return mem.used == 0 ? 0 : -1;
}

/* As encoded: structs may differ in what lies between their fields. */
static void assert_same(const struct policy *a, const struct policy *b)
{
    struct buf x = buf_new(&mem), y = buf_new(&mem);

    policy_encode(&x, a);
    policy_encode(&y, b);
    assert_true(bytes_equal(buf_bytes(&x), buf_bytes(&y)));
    buf_free(&x);
    buf_free(&y);
}

static bool parse(struct policy *p, bool create, const char *line)
{
    struct bytes args[ARGS_MAX];
    uint32_t n = 0;

    while (*line != '\0') {
        const size_t len = strcspn(line, " ");
        args[n++] = (struct bytes){(const uint8_t *)line, len};
        line += len + (line[len] == ' ');
    }
    why.len = 0;
    return policy_parse(p, create, args, n, &why);
}

static void assert_prints(const struct policy *p, const char *expected)
{
    text.len = 0;
    policy_print(&text, p);
    buf_put_u8(&text, 0);
    assert_string_equal((const char *)text.at, expected);
}

static void assert_refused(const struct policy *from, bool create, const char *line,
                           const char *expected)
{
    struct policy p = *from;

    assert_false(parse(&p, create, line));
    assert_same(&p, from);
    buf_put_u8(&why, 0);
    assert_string_equal((const char *)why.at, expected);
}

static void options_are_read_and_printed(void **state)
{
    (void)state;
    struct policy p = policy_default(MODE_RAFT);

    assert_prints(&p,
                  "MODE raft REPLICAS 3 LEARNERS 0 SHARDS 1 READ linearizable MAXLAG 0 "
                  "MAXMEMORY 0");
    assert_true(parse(&p, true,
                      "mode RAFT shards 8 replicas 5 learners 2 read any "
                      "maxlag 250 maxmemory 64mb evict none"));
    assert_prints(&p, "MODE raft REPLICAS 5 LEARNERS 2 SHARDS 8 READ any MAXLAG 250 "
                      "MAXMEMORY 67108864");
    assert_true(parse(&p, true, "ACK 2 DURABILITY memory FAILOVER manual MODE primary"));
    assert_prints(&p,
                  "MODE primary REPLICAS 3 LEARNERS 0 SHARDS 1 ACK 2 DURABILITY memory "
                  "FAILOVER manual READ any MAXLAG 0 MAXMEMORY 0");
    assert_true(parse(&p, true, "MODE primary ACK all READ lease"));
    assert_int_equal(p.ack, ACK_ALL);
    assert_int_equal(p.read, READ_LEASE);
}

static void what_is_printed_is_read_again(void **state)
{
    (void)state;
    const char *const lines[] = {"MODE raft", "MODE raft READ any MAXLAG 9 SHARDS 1024",
                                 "MODE primary ACK async REPLICAS 1",
                                 "MODE primary ACK all LEARNERS 8"};

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct policy p = policy_default(MODE_RAFT), again = p;
        assert_true(parse(&p, true, lines[i]));
        text.len = 0;
        policy_print(&text, &p);
        buf_put_u8(&text, 0);
        assert_true(parse(&again, true, (const char *)text.at));
        assert_same(&p, &again);
    }
}

static void who_bounds_the_age_of_reads_bounds_the_leaders_too(void **state)
{
    (void)state;
    struct policy p = policy_default(MODE_PRIMARY);

    assert_int_equal(policy_read_at_leader(&p), READ_ANY);
    assert_true(parse(&p, false, "MAXLAG 10"));
    assert_int_equal(policy_read_at_leader(&p), READ_LEASE);
    assert_true(parse(&p, false, "MAXLAG 0 READ leader"));
    assert_int_equal(policy_read_at_leader(&p), READ_LEADER);
}

static void alter_changes_only_what_it_names(void **state)
{
    (void)state;
    struct policy p = policy_default(MODE_RAFT);

    assert_true(parse(&p, true, "MODE raft SHARDS 8 REPLICAS 5 READ any MAXLAG 10"));
    assert_true(parse(&p, false, "REPLICAS 3"));
    assert_int_equal(p.shards, 8);
    assert_int_equal(p.maxlag_ms, 10);
    assert_int_equal(p.replicas, 3);

    /* Another mode: what both know stays, the rest is that mode's default. */
    assert_true(parse(&p, false, "MODE primary ACK 1"));
    assert_prints(&p,
                  "MODE primary REPLICAS 3 LEARNERS 0 SHARDS 8 ACK 1 DURABILITY fsync "
                  "FAILOVER auto READ any MAXLAG 0 MAXMEMORY 0");
    assert_true(parse(&p, false, "MODE raft"));
    assert_int_equal(p.ack, ACK_ASYNC);
    assert_int_equal(p.read, READ_LINEARIZABLE);
    assert_true(parse(&p, false, "MODE raft READ leader"));
    assert_int_equal(p.read, READ_LEADER);
}

static void refusals_say_what_to_do(void **state)
{
    (void)state;
    const struct policy raft = policy_default(MODE_RAFT);
    const struct {
        const char *line, *why;
    } cases[] = {
        {"SHARDS 8", "BADPOLICY MODE is missing; give MODE raft"},
        {"MODE paxos", "BADPOLICY MODE paxos is not available in this version; use raft"},
        {"MODE multi CONFLICT lww",
         "BADPOLICY MODE multi is not available in this version; use raft"},
        {"MODE redis",
         "BADPOLICY MODE 'redis' is not known; it is primary, raft, paxos or multi"},
        {"MODE raft ACK 1",
         "BADPOLICY ACK belongs to MODE primary; raft always waits for a majority"},
        {"MODE raft DURABILITY fsync",
         "BADPOLICY DURABILITY belongs to MODE primary or multi; raft is always fsync"},
        {"MODE raft FAILOVER auto",
         "BADPOLICY FAILOVER belongs to MODE primary; raft always elects"},
        {"MODE raft CONFLICT crdt", "BADPOLICY CONFLICT belongs to MODE multi"},
        {"MODE raft STRICT no", "BADPOLICY STRICT belongs to MODE multi"},
        {"MODE raft SCRIPT x", "BADPOLICY SCRIPT belongs to MODE multi"},
        {"MODE raft REPLICAS 6", "BADPOLICY REPLICAS '6' is not a number from 1 to 5"},
        {"MODE raft REPLICAS 0", "BADPOLICY REPLICAS '0' is not a number from 1 to 5"},
        {"MODE raft REPLICAS three",
         "BADPOLICY REPLICAS 'three' is not a number from 1 to 5"},
        {"MODE raft SHARDS 1025",
         "BADPOLICY SHARDS '1025' is not a number from 1 to 1024"},
        {"MODE raft LEARNERS 9", "BADPOLICY LEARNERS '9' is not a number from 0 to 8"},
        {"MODE raft SHARDS 2 shards 2", "BADPOLICY SHARDS is given twice"},
        {"MODE raft MODE raft", "BADPOLICY MODE is given twice"},
        {"MODE raft SHARDS", "BADPOLICY SHARDS lacks its value"},
        {"MODE raft COLOUR red", "BADPOLICY the option 'COLOUR' is not known"},
        {"MODE raft READ mostly", "BADPOLICY READ 'mostly' is not known; it is "
                                  "linearizable, lease, leader or any"},
        {"MODE raft READ any MAXLAG 9223372036854775807",
         "BADPOLICY MAXLAG '9223372036854775807' is not a number from 0 to 31536000000"},
        {"MODE raft MAXLAG 5", "BADPOLICY MAXLAG bounds READ any, and READ is "
                               "linearizable; give READ any or MAXLAG 0"},
        {"MODE raft MAXMEMORY much",
         "BADPOLICY MAXMEMORY 'much' is not a size such as 0, 64mb or 2gb"},
        {"MODE raft EVICT lru",
         "BADPOLICY EVICT lru is not available in this version; use none"},
        {"MODE primary READ linearizable",
         "BADPOLICY READ linearizable belongs to MODE raft"},
        {"MODE primary ACK 3", "BADPOLICY ACK 3 needs REPLICAS 4, and REPLICAS is 3"},
        {"MODE primary ACK 9",
         "BADPOLICY ACK '9' is not async, all or a number from 1 to 4"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(&raft, true, cases[i].line, cases[i].why);
    assert_refused(&raft, false, "SHARDS 1",
                   "BADPOLICY SHARDS is set by CREATE and can't be altered");
    assert_refused(&raft, false, "",
                   "BADPOLICY no option is given, so there is nothing to alter");
}

static void bytes_come_back_or_are_refused_whole(void **state)
{
    (void)state;
    struct policy p = policy_default(MODE_RAFT), got;

    assert_true(parse(&p, true,
                      "MODE primary ACK all READ any MAXLAG 77 SHARDS 300 "
                      "MAXMEMORY 5gb LEARNERS 1"));
    text.len = 0;
    policy_encode(&text, &p);
    struct cursor c = cursor_of(buf_bytes(&text));
    assert_true(policy_decode(&c, &got));
    assert_int_equal(cursor_left(&c), 0);
    assert_same(&p, &got);

    struct policy before;
    memset(&got, 0x5a, sizeof got);
    memcpy(&before, &got, sizeof before);
    for (size_t len = 0; len < text.len; len++) {
        c = cursor_of((struct bytes){text.at, len});
        assert_false(policy_decode(&c, &got));
        assert_ptr_equal(c.at, text.at);
        assert_memory_equal(&got, &before, sizeof got);
    }
    for (size_t i = 0; i < 7; i++) { /* the one-byte fields, past what they may hold */
        const uint8_t was = text.at[i];
        text.at[i] = 99;
        c = cursor_of(buf_bytes(&text));
        assert_false(policy_decode(&c, &got));
        text.at[i] = was;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_and_printed),
        cmocka_unit_test(what_is_printed_is_read_again),
        cmocka_unit_test(who_bounds_the_age_of_reads_bounds_the_leaders_too),
        cmocka_unit_test(alter_changes_only_what_it_names),
        cmocka_unit_test(refusals_say_what_to_do),
        cmocka_unit_test(bytes_come_back_or_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
