/* SPDX-License-Identifier: Apache-2.0 */
#include "host/config.h"

#include <string.h>

#include "unit.h"

static bool from_args(struct config *c, struct config_error *why, int n,
                      const char *const *args)
{
    config_default(c);
    return config_parse_args(c, n, args, why) && config_finish(c, why);
}

#define ARGS(...)                                                                        \
    (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)),                  \
        (const char *const[])                                                            \
    {                                                                                    \
        __VA_ARGS__                                                                      \
    }

static bool from_text(struct config *c, struct config_error *why, const char *text)
{
    config_default(c);
    return config_parse_text(c, bytes_of_str(text), "sennit.conf", why);
}

static void without_flags_it_is_a_server_on_loopback(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    config_default(&c);
    assert_true(config_finish(&c, &why));
    assert_string_equal(c.client.host, "127.0.0.1");
    assert_int_equal(c.client.port, 6379);
    assert_int_equal(c.peer.port, 16379);
    assert_string_equal(c.data, "./sennit-data");
    assert_int_equal(c.clients_max, 10000);
    assert_int_equal(c.advertise_client.port, 6379);
    assert_int_equal(c.advertise_peer.port, 16379);
    assert_int_equal(c.log_level, LOG_INFO);
}

static void flags_are_taken_in_both_forms(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    assert_true(from_args(&c, &why,
                          ARGS("--name", "a.b_c-1", "--client=[::1]:7000", "--memory=1gb",
                               "--request-timeout", "250ms", "--log-level", "debug",
                               "--http", "off", "--join", "db2:17001")));
    assert_string_equal(c.name, "a.b_c-1");
    assert_string_equal(c.client.host, "::1");
    assert_int_equal(c.peer.port, 17000);
    assert_string_equal(c.peer.host, "::1");
    assert_int_equal(c.memory_bytes, UINT64_C(1) << 30);
    assert_int_equal(c.request_timeout_ns, 250 * MS_NS);
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_true(c.http_off);
    assert_string_equal(c.join.host, "db2");
}

static void a_flag_beats_the_file(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    /* A # behind a value is part of the value, which then is no name. */
    assert_false(from_text(&c, &why, "zone=east # here\n"));
    assert_true(from_text(&c, &why, "# first\n\nname = from-file\r\n zone =east\n"));
    assert_true(config_parse_args(&c, ARGS("--name", "from-flag"), &why));
    assert_string_equal(c.name, "from-flag");
    assert_string_equal(c.zone, "east");
}

static void an_unknown_name_is_told_with_its_line(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    assert_false(from_text(&c, &why, "name = a\n\nmaxclient = 5\n"));
    assert_non_null(strstr(why.text, "sennit.conf:3"));
    assert_non_null(strstr(why.text, "did you mean maxclients?"));
    assert_false(from_text(&c, &why, "just words"));
    assert_non_null(strstr(why.text, "sennit.conf:1"));
    assert_false(from_text(&c, &why, "config = other\n"));
}

static void wrong_flags_are_told(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    assert_false(from_args(&c, &why, ARGS("--clinet", "x")));
    assert_non_null(strstr(why.text, "did you mean client?"));
    assert_false(from_args(&c, &why, ARGS("stray")));
    assert_false(from_args(&c, &why, ARGS("--name")));
    assert_non_null(strstr(why.text, "needs a value"));
    assert_false(from_args(&c, &why, ARGS("--name", "has space")));
    assert_false(from_args(&c, &why, ARGS("--maxclients", "0")));
    assert_false(from_args(&c, &why, ARGS("--memory", "1mb")));
    assert_false(from_args(&c, &why, ARGS("--memory", "lots")));
    assert_false(from_args(&c, &why, ARGS("--request-timeout", "5 s")));
    assert_false(from_args(&c, &why, ARGS("--log-level", "loud")));
    assert_false(from_args(&c, &why, ARGS("--insecure=perhaps")));
    assert_false(from_args(&c, &why, ARGS("--client", "127.0.0.1:60000")));
    assert_non_null(strstr(why.text, "--peer"));
    assert_false(from_args(&c, &why, ARGS("--peer", "127.0.0.1:6379")));
    assert_false(from_args(&c, &why, ARGS("--join", "127.0.0.1:16379")));
}

static void numbers_have_bounds(void **state)
{
    static const char *const names[] = {
        "--memory",         "--maxclients",    "--request-timeout", "--wal-keep",
        "--max-clock-skew", "--replace-after", "--transfer-rate"};
    static const char *const wrong[] = {"-1", "9223372036854775807",
                                        "18446744073709551615"};
    struct config c;
    struct config_error why;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            assert_false(from_args(&c, &why, ARGS(names[i], wrong[k])));
            assert_non_null(strstr(why.text, names[i]));
        }
    assert_false(from_args(&c, &why, ARGS("--request-timeout", "0")));
    assert_non_null(strstr(why.text, "from 10ms to 1h"));
    assert_false(from_args(&c, &why, ARGS("--request-timeout", "61m")));
    assert_true(from_args(&c, &why, ARGS("--request-timeout", "1h")));
    assert_false(from_args(&c, &why, ARGS("--replace-after", "0")));
    assert_true(from_args(&c, &why, ARGS("--replace-after", "8784h")));
    assert_true(from_args(&c, &why, ARGS("--transfer-rate", "0")));
    assert_true(from_args(&c, &why, ARGS("--memory", "16384gb")));
    assert_false(from_text(&c, &why, "replace-after = 8785h\n"));
    assert_non_null(strstr(why.text, "sennit.conf:1"));
}

static void what_is_reachable_from_outside_wants_a_secret(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    assert_false(from_args(&c, &why, ARGS("--client", "10.0.0.1:6379")));
    assert_non_null(strstr(why.text, "--password-file"));
    assert_false(
        from_args(&c, &why, ARGS("--client", "10.0.0.1:6379", "--password-file", "p")));
    assert_non_null(strstr(why.text, "--cluster-secret-file"));
    assert_true(from_args(&c, &why,
                          ARGS("--client", "10.0.0.1:6379", "--password-file", "p",
                               "--cluster-secret-file", "s")));
    assert_true(from_args(&c, &why, ARGS("--client", "10.0.0.1:6379", "--insecure")));
    assert_false(from_args(&c, &why, ARGS("--client", "127.example.org:6379")));
    assert_true(from_args(&c, &why, ARGS("--client", "127.0.0.5:6379")));
    assert_true(from_args(&c, &why, ARGS("--client", "localhost:6379")));
    assert_false(from_args(&c, &why, ARGS("--advertise-client", "0.0.0.0:6379")));
}

static bool from_args_on(const char *machine, struct config *c, struct config_error *why,
                         int n, const char *const *args)
{
    config_default(c);
    memcpy(c->machine, machine, strlen(machine) + 1);
    return config_parse_args(c, n, args, why) && config_finish(c, why);
}

static void who_listens_everywhere_is_told_of_by_name(void **state)
{
    struct config c;
    struct config_error why;

    (void)state;
    assert_true(
        from_args_on("db1", &c, &why, ARGS("--insecure", "--client", "0.0.0.0:7000")));
    assert_string_equal(c.client.host, "0.0.0.0");
    assert_string_equal(c.advertise_client.host, "db1");
    assert_int_equal(c.advertise_client.port, 7000);
    assert_string_equal(c.peer.host, "0.0.0.0");
    assert_string_equal(c.advertise_peer.host, "db1");
    assert_int_equal(c.advertise_peer.port, 17000);

    assert_true(
        from_args_on("db1", &c, &why, ARGS("--insecure", "--peer", "[::]:17000")));
    assert_string_equal(c.advertise_client.host, "127.0.0.1");
    assert_string_equal(c.advertise_peer.host, "db1");

    /* What the operator says goes before, with a name or without. */
    assert_true(
        from_args_on("", &c, &why,
                     ARGS("--insecure", "--client", "0.0.0.0:7000", "--advertise-client",
                          "10.0.0.1:7001", "--advertise-peer", "10.0.0.1:17001")));
    assert_string_equal(c.advertise_client.host, "10.0.0.1");
    assert_int_equal(c.advertise_peer.port, 17001);
}

static void nobody_is_told_to_dial_all_addresses(void **state)
{
    static const char *const nameless[] = {"",    "localhost", "(none)",
                                           "a b", "127.0.0.1", "0.0.0.0"};
    static const char *const all[] = {"0.0.0.0:7000", "0:7000", "[::]:7000",
                                      "[0::0]:7000"};
    struct config c;
    struct config_error why;

    (void)state;
    for (size_t i = 0; i < sizeof nameless / sizeof nameless[0]; i++) {
        assert_false(from_args_on(nameless[i], &c, &why,
                                  ARGS("--insecure", "--client", "0.0.0.0:7000")));
        assert_non_null(strstr(why.text, "--advertise-client"));
        assert_false(from_args_on(nameless[i], &c, &why,
                                  ARGS("--insecure", "--peer", "[::]:17000")));
        assert_non_null(strstr(why.text, "--advertise-peer"));
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_true(
            from_args_on("db1", &c, &why, ARGS("--insecure", "--client", all[i])));
        assert_string_equal(c.advertise_client.host, "db1");
        assert_false(from_args_on("db1", &c, &why, ARGS("--advertise-client", all[i])));
        assert_false(from_args_on("db1", &c, &why, ARGS("--advertise-peer", all[i])));
    }
}

static void an_endpoint_is_a_host_and_a_port(void **state)
{
    static const char *const wrong[] = {
        "",        "6379",    ":6379",      "host:",    "host:0",    "host:65536",
        "host:1x", "host: 1", "a b:1",      "::1:6379", "[::1]6379", "[::1:6379",
        "[]:1",    "host:-1", "host:00001", "h\tost:1", "[fe80::1]", "a/b:1",
    };
    struct endpoint e = {"kept", 9};
    char text[CONFIG_ENDPOINT_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(endpoint_parse(bytes_of_str(wrong[i]), &e));
        assert_string_equal(e.host, "kept");
    }
    assert_true(endpoint_parse(bytes_of_str("[fe80::1%eth0]:1"), &e));
    endpoint_text(&e, text);
    assert_string_equal(text, "[fe80::1%eth0]:1");
    assert_true(endpoint_parse(bytes_of_str("db-1.example.org:65535"), &e));
    endpoint_text(&e, text);
    assert_string_equal(text, "db-1.example.org:65535");
}

static void a_long_value_is_refused_whole(void **state)
{
    static char path[CONFIG_PATH_MAX + 2], host[CONFIG_HOST_MAX + 4];
    struct config c;
    struct config_error why;

    (void)state;
    memset(path, 'p', sizeof path - 1);
    assert_false(from_args(&c, &why, ARGS("--data", path)));
    path[CONFIG_PATH_MAX] = 0;
    assert_true(from_args(&c, &why, ARGS("--data", path)));
    memset(host, 'h', CONFIG_HOST_MAX + 1);
    memcpy(host + CONFIG_HOST_MAX + 1, ":1", 3);
    assert_false(from_args(&c, &why, ARGS("--client", host, "--insecure")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_flags_it_is_a_server_on_loopback),
        cmocka_unit_test(flags_are_taken_in_both_forms),
        cmocka_unit_test(a_flag_beats_the_file),
        cmocka_unit_test(an_unknown_name_is_told_with_its_line),
        cmocka_unit_test(wrong_flags_are_told),
        cmocka_unit_test(numbers_have_bounds),
        cmocka_unit_test(what_is_reachable_from_outside_wants_a_secret),
        cmocka_unit_test(who_listens_everywhere_is_told_of_by_name),
        cmocka_unit_test(nobody_is_told_to_dial_all_addresses),
        cmocka_unit_test(an_endpoint_is_a_host_and_a_port),
        cmocka_unit_test(a_long_value_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
