/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/command.h"

#include "naive_view.h"
#include "unit.h"

enum { KEYS = 100, KEY_TEXT_MAX = 16 };

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

static void fill(struct naive *n)
{
    for (int i = 0; i < KEYS; i++) {
        char key[KEY_TEXT_MAX];
        snprintf(key, sizeof key, "k%d", i);
        naive_set(n, key, ITEM_STRING, "v", 0);
    }
}

/* Of a reply "*2 $n place *m $2 k1 ...": the place, and which of the keys were in it. */
static void reply_read(const char *reply, char *place, int seen[KEYS])
{
    char text[NAIVE_TEXT_MAX], *word;
    int words = 0;

    snprintf(text, sizeof text, "%s", reply);
    for (word = strtok(text, " "); word != NULL; word = strtok(NULL, " "), words++) {
        if (words == 2) snprintf(place, 32, "%s", word);
        if (words > 3 && word[0] == 'k') seen[strtol(word + 1, NULL, 10)]++;
    }
}

/* Walks by `line` (with the place as %s); how many calls it took. */
static int walk_all(struct naive *n, const char *line, int seen[KEYS])
{
    char place[32] = "0";
    int calls = 0;

    memset(seen, 0, KEYS * sizeof *seen);
    while (strcmp(place, "end") != 0) {
        struct buf call = buf_new(&n->mem);
        buf_putf(&call, "%.*s%s%s", (int)(strchr(line, '%') - line), line, place,
                 strchr(line, '%') + 1);
        buf_put_u8(&call, 0);
        naive_run(n, (const char *)call.at);
        buf_free(&call);
        assert_string_equal(n->effects, "");
        reply_read(n->reply, place, seen);
        if (strcmp(place, "end") != 0)
            assert_int_equal(strtoull(place, NULL, 10) % 1024, 0);
        calls++;
        assert_true(calls <= KEYS + 1);
    }
    return calls;
}

static void every_key_comes_once(void **state)
{
    struct naive *n = *state;
    int seen[KEYS];

    fill(n);
    const int calls = walk_all(n, "SCAN %", seen);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(calls, 10);
    assert_int_equal(walk_all(n, "SCAN % COUNT 1", seen), KEYS);
    assert_int_equal(walk_all(n, "SCAN % COUNT 1000", seen), 1);
    n->steps_max = 50;
    assert_int_equal(walk_all(n, "SCAN % COUNT 1000", seen), 2);
    assert_int_equal(walk_all(n, "KEYS % *", seen), 2);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 1);
}

static void keys_in_one_place_come_in_one_call(void **state)
{
    struct naive *n = *state;
    int seen[KEYS];

    fill(n);
    n->crowded = true;
    assert_int_equal(walk_all(n, "SCAN % COUNT 1", seen), 1);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 1);
    n->steps_max = 1;
    assert_int_equal(walk_all(n, "KEYS % *", seen), 1);
    expect(n, "SCAN 80740353", "*2 $3 end *0", ""); /* behind the place */
}

static void a_walk_keeps_to_pattern_and_type(void **state)
{
    struct naive *n = *state;
    int seen[KEYS], sum = 0;

    fill(n);
    walk_all(n, "SCAN % MATCH k1? TYPE STRING", seen);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], i >= 10 && i < 20);
    walk_all(n, "SCAN % TYPE hash", seen);
    for (int i = 0; i < KEYS; i++)
        sum += seen[i];
    assert_int_equal(sum, 0);
    walk_all(n, "KEYS % k1?", seen);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], i >= 10 && i < 20);
}

static void a_walk_passes_over_what_is_past_its_deadline(void **state)
{
    struct naive *n = *state;
    naive_set(n, "k1", ITEM_STRING, "v", 5);
    expect(n, "SCAN 0", "*2 $3 end *0", "");
    expect(n, "KEYS 0 *", "*2 $3 end *0", "");
    expect(n, "RANDOMKEY", "$-1", "");
    naive_set(n, "k2", ITEM_STRING, "v", 0);
    expect(n, "SCAN 0", "*2 $3 end *1 $2 k2", "");
    expect(n, "RANDOMKEY", "$2 k2", "");
}

static void wrong_options_are_refused(void **state)
{
    struct naive *n = *state;
    expect(n, "SCAN x", "-ERR invalid cursor", "");
    expect(n, "SCAN -1", "-ERR invalid cursor", "");
    expect(n, "SCAN 0 COUNT 0", "-ERR syntax error", "");
    expect(n, "SCAN 0 COUNT x", "-ERR value is not an integer or out of range", "");
    expect(n, "SCAN 0 COUNT", "-ERR syntax error", "");
    expect(n, "SCAN 0 MATCH", "-ERR syntax error", "");
    expect(n, "SCAN 0 WHAT x", "-ERR syntax error", "");
    expect(n, "SCAN 9223372036854775807", "*2 $3 end *0", "");
}

/* With a fair choice of 20 keys each is drawn 100 times in 2000; a quarter of that to
 * three times as often is allowed. */
static void randomkey_is_about_fair(void **state)
{
    struct naive *n = *state;
    int drawn[20] = {0};

    expect(n, "RANDOMKEY", "$-1", "");
    for (int i = 0; i < 20; i++) {
        char key[32];
        snprintf(key, sizeof key, "{tag}%d", i); /* one slot: a narrow shard */
        naive_set(n, key, ITEM_STRING, "v", 0);
    }
    for (int i = 0; i < 2000; i++) {
        naive_run(n, "RANDOMKEY");
        const char *digits = strchr(n->reply, '}');
        assert_non_null(digits);
        drawn[strtol(digits + 1, NULL, 10)]++;
    }
    for (int i = 0; i < 20; i++)
        assert_in_range((unsigned)drawn[i], 25, 300);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_key_comes_once),
        TEST(keys_in_one_place_come_in_one_call),
        TEST(a_walk_keeps_to_pattern_and_type),
        TEST(a_walk_passes_over_what_is_past_its_deadline),
        TEST(wrong_options_are_refused),
        TEST(randomkey_is_about_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
