# SPDX-License-Identifier: Apache-2.0
"""Commands about the connection, the server, the cluster and keyspaces."""
import time

import pytest

from cluster import Cluster, wait_until
from wire import Closed, Conn, Error, table, text

SYNTAX = "ERR syntax error"
MB = 1 << 20


@pytest.fixture(params=[("one", 0, 2), ("one", 0, 3), ("three", 0, 3), ("three", 1, 2),
                        ("three", 2, 3)], ids=lambda p: f"{p[0]}{p[1]}-resp{p[2]}")
def at(request):
    """A cluster, one of its servers, and a connection to it."""
    where, entry, resp = request.param
    cluster = request.getfixturevalue(where)
    server = cluster[entry]
    conn = server.conn(resp)
    conn.resp, conn.server, conn.cluster = resp, server, cluster
    yield conn
    conn.close()


# ---- the connection ----

def test_ping_echo_time(at):
    assert at("PING") == "PONG"
    assert at("PING", "hello") == b"hello"
    assert at("ECHO", "hello") == b"hello"
    assert at("PING", "a", "b") == "ERR wrong number of arguments for 'ping' command"
    seconds, micros = at("TIME")
    assert abs(int(seconds) - time.time()) < 5
    assert 0 <= int(micros) < 1000000


def test_what_cluster_clients_send_and_ask(at):
    for name in ("READONLY", "READWRITE"):
        assert at(name) == "OK"
        assert at(name, "a") == f"ERR wrong number of arguments for '{name.lower()}' command"
    assert "cluster_enabled:1\r\n" in text(at("INFO", "cluster"))
    assert table(at("CONFIG", "GET", "cluster-enabled"))["cluster-enabled"] == b"yes"


def test_quit_and_reset(at):
    at("MULTI")
    at("CLIENT", "SETNAME", "x")
    assert at("RESET") == "RESET"
    assert at("CLIENT", "GETNAME") is None
    assert at("EXEC") == "ERR EXEC without MULTI"
    assert at("QUIT") == "OK"
    assert at.is_closed()


def test_hello(at):
    with at.server.conn() as c:
        assert table(c("HELLO"))["proto"] == 2
        hello = c("HELLO", "3", "SETNAME", "me")
        assert isinstance(hello, dict)
        assert hello[b"proto"] == 3
        assert c("CLIENT", "GETNAME") == b"me"
        assert isinstance(c("HELLO", "2"), list)
        assert c("HELLO", "4") == "NOPROTO unsupported protocol version"
        assert c("HELLO", "x") == "ERR Protocol version is not an integer or out of range"
        assert isinstance(c("HELLO", "3", "AUTH", "nobody", "x"), Error)
        assert c("GET", "nothing") is None


def test_select_knows_one_database(at):
    assert at("SELECT", "0") == "OK"
    assert at("SELECT", "1") == "ERR DB index is out of range"
    assert at("SELECT", "x") == "ERR value is not an integer or out of range"


def test_auth_without_a_password_configured(at):
    assert at("AUTH", "x").startswith("ERR AUTH <password> called without any password")


def test_client_names_and_ids(at):
    with at.server.conn(at.resp) as other:
        assert at("CLIENT", "ID") != other("CLIENT", "ID")
    assert at("CLIENT", "GETNAME") is None
    assert at("CLIENT", "SETNAME", "worker-1") == "OK"
    assert at("CLIENT", "GETNAME") == b"worker-1"
    assert isinstance(at("CLIENT", "SETNAME", "two words"), Error)
    assert at("CLIENT", "SETINFO", "LIB-NAME", "test") == "OK"
    assert at("CLIENT", "SETINFO", "LIB-VER", "1.0") == "OK"
    assert isinstance(at("CLIENT", "SETINFO", "NOPE", "1.0"), Error)
    info = text(at("CLIENT", "INFO"))
    assert "name=worker-1" in info
    assert f"id={at('CLIENT', 'ID')}" in info
    assert "worker-1" in text(at("CLIENT", "LIST"))
    assert "worker-1" in text(at("CLIENT", "LIST", "ID", at("CLIENT", "ID")))
    assert at("CLIENT", "NO-EVICT", "on") == "OK"
    assert at("CLIENT", "NO-EVICT", "maybe") == SYNTAX
    assert at("CLIENT", "NOPE") == "ERR unknown subcommand 'NOPE'. Try CLIENT HELP."
    assert at("CLIENT") == "ERR wrong number of arguments for 'client' command"


def test_client_kill(at):
    with at.server.conn(at.resp) as other:
        number = other("CLIENT", "ID")
        assert at("CLIENT", "KILL", "ID", number) == 1
        assert other.is_closed()
    assert at("CLIENT", "KILL", "ID", number) == 0
    assert at("CLIENT", "KILL", "1.2.3.4:5") == "ERR No such client"
    with at.server.conn(at.resp) as other:
        address = next(w for w in text(other("CLIENT", "INFO")).split()
                       if w.startswith("addr="))[5:]
        assert at("CLIENT", "KILL", address) == "OK"
        assert other.is_closed()


def test_client_reply(at):
    with at.server.conn(at.resp) as c:
        c.send("CLIENT", "REPLY", "OFF")
        c.send("SET", "reply-off", "1")
        c.send("CLIENT", "REPLY", "ON")
        assert c.read() == "OK"
        assert c("GET", "reply-off") == b"1"
        c.send("CLIENT", "REPLY", "SKIP")
        c.send("PING")
        assert c("ECHO", "x") == b"x"


def test_pipelined_quit_answers_what_came_before(at):
    with at.server.conn(at.resp) as c:
        c.send("SET", "before-quit", "1")
        c.send("GET", "before-quit")
        c.send("QUIT")
        assert [c.read(), c.read(), c.read()] == ["OK", b"1", "OK"]
        with pytest.raises(Closed):
            c.read()


def test_inline_commands(at):
    with at.server.conn() as c:
        c.send_raw(b"SET inline \"a b\"\r\nGET inline\r\n\r\nPING\n")
        assert [c.read(), c.read(), c.read()] == ["OK", b"a b", "PONG"]


# ---- the server ----

def test_unknown_commands(at):
    assert at("NOSUCH", "a", "b") == \
        "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "
    assert at("NOSUCH") == "ERR unknown command 'NOSUCH', with args beginning with: "
    for missing in ("LPUSH", "HSET", "EVAL", "SUBSCRIBE", "VGET"):
        assert isinstance(at(missing, "a", "b", "c"), Error)
    assert at("PING") == "PONG"


def test_command(at):
    every = at("COMMAND")
    assert len(every) == at("COMMAND", "COUNT") > 60
    names = {text(n) for n in at("COMMAND", "LIST")}
    assert {"get", "set", "multi", "keyspace", "shard"} <= names
    get, none = at("COMMAND", "INFO", "get", "nosuch")
    assert text(get[0]) == "get" and get[1] == 2 and get[3:6] == [1, 1, 1]
    assert {"readonly", "fast"} <= {text(f) for f in get[2]}
    assert none is None
    docs = table(at("COMMAND", "DOCS", "set"))
    assert b"summary" in docs["set"]
    assert at("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert at("COMMAND", "GETKEYS", "GET", "a") == [b"a"]
    assert isinstance(at("COMMAND", "GETKEYS", "PING", "x"), Error)
    assert {text(n) for n in at("COMMAND", "LIST", "FILTERBY", "PATTERN", "mset*")} == \
        {"mset", "msetnx"}


def test_config(at):
    assert table(at("CONFIG", "GET", "maxclients"))["maxclients"] == b"10000"
    assert at("CONFIG", "GET", "nosuch") in ([], {})
    assert len(table(at("CONFIG", "GET", "*"))) > 3
    assert at("CONFIG", "SET", "loglevel", "debug") == "OK"
    assert table(at("CONFIG", "GET", "loglevel"))["loglevel"] in (b"debug", b"verbose")
    assert at("CONFIG", "SET", "loglevel", "info") == "OK"
    assert isinstance(at("CONFIG", "SET", "loglevel", "nosuch"), Error)
    assert isinstance(at("CONFIG", "SET", "nosuch", "1"), Error)
    # redis-benchmark asks for these.
    at("CONFIG", "GET", "save")
    at("CONFIG", "GET", "appendonly")
    assert at("CONFIG", "RESETSTAT") == "OK"


def test_info(at):
    info = at.server.info()
    assert info["redis_version"].startswith("7.")
    assert info["tcp_port"] == str(at.server.port)
    assert int(info["connected_clients"]) >= 1
    assert int(info["process_id"]) == at.server.pid
    assert int(info["used_memory"]) > 0
    assert info["role"] in ("master", "slave")
    sections = text(at("INFO", "server", "clients"))
    assert "# Server" in sections and "# Clients" in sections and "# Memory" not in sections


def test_info_counts_what_is_found_and_what_is_not(make_cluster):
    server = make_cluster(1)[0]

    def counts():
        info = server.info()
        return [int(info[f]) for f in ("keyspace_hits", "keyspace_misses", "expired_keys")]
    assert counts() == [0, 0, 0]
    server.ask("SET", "a", "1")
    server.ask("GET", "a")
    server.ask("GET", "b")
    server.ask("EXISTS", "a", "a", "b")
    assert counts() == [3, 2, 0]
    server.ask("INCR", "a")
    assert counts() == [3, 2, 0]
    server.ask("SET", "c", "1", "PX", "50")
    wait_until(lambda: counts()[2] == 1, 5)
    server.ask("GET", "c")
    assert counts() == [3, 3, 1]
    assert server.ask("CONFIG", "RESETSTAT") == "OK"
    assert counts() == [0, 0, 0]


def test_role(at):
    role = at("ROLE")
    assert text(role[0]) in ("master", "slave")


# ---- the cluster, in Redis Cluster's words ----

def test_cluster_nodes_name_all_servers(at):
    nodes = at.cluster.nodes(at.server)
    assert sorted(n["address"].split("@")[0] for n in nodes) == \
        sorted(f"127.0.0.1:{s.port}" for s in at.cluster.servers)
    me = [n for n in nodes if "myself" in n["flags"]]
    assert len(me) == 1
    assert me[0]["id"] == text(at("CLUSTER", "MYID"))
    assert len(me[0]["id"]) == 40
    assert me[0]["address"].startswith(f"127.0.0.1:{at.server.port}@")


def test_cluster_info(at):
    info = dict(l.split(":", 1) for l in text(at("CLUSTER", "INFO")).split("\r\n") if l)
    assert info["cluster_state"] == "ok"
    assert info["cluster_slots_assigned"] == "16384"
    assert info["cluster_known_nodes"] == str(len(at.cluster))


def test_cluster_slots_and_shards_cover_all_slots(at):
    ports = {s.port for s in at.cluster.servers}
    covered = []
    for first, last, *nodes in at("CLUSTER", "SLOTS"):
        covered += range(first, last + 1)
        assert nodes[0][0] == b"127.0.0.1"
        assert {n[1] for n in nodes} <= ports
        assert len({n[1] for n in nodes}) == len(nodes)
    assert sorted(covered) == list(range(16384))
    covered = []
    for shard in at("CLUSTER", "SHARDS"):
        shard = table(shard)
        slots = shard["slots"]
        for first, last in zip(slots[::2], slots[1::2]):
            covered += range(first, last + 1)
        nodes = [table(n) for n in shard["nodes"]]
        assert [text(n["role"]) for n in nodes].count("master") == 1
    assert sorted(covered) == list(range(16384))


@pytest.mark.parametrize("key,slot", [
    ("foo", 12182), ("bar", 5061), ("", 0), ("123456789", 12739), ("{foo}bar", 12182),
    ("x{foo}bar", 12182), ("{}foo", 9500), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)])
def test_keyslot_is_that_of_redis_cluster(one, key, slot):
    assert one[0].ask("CLUSTER", "KEYSLOT", key) == slot


def test_shard_list(at):
    rows = at.cluster.shard_rows(at.server, "default")
    assert len(rows) == len(at.cluster)
    assert [r["role"] for r in rows].count("leader") == 1
    mine = next(r for r in rows if r["name"] == at.server.name)
    assert mine["role"] in ("leader", "follower") and mine["trouble"] == ""
    assert mine["applied"] <= mine["commit"] and mine["slots"] == "0-16383"
    assert {r["name"] for r in rows} == {s.name for s in at.cluster.servers}
    assert all(r["keyspace"] == "default" for r in rows)
    assert {r["keyspace"] for r in at.cluster.shard_rows(at.server)} >= {"default", "(meta)"}
    assert at("SHARD", "LIST", "nosuch").startswith("NOKEYSPACE")


# ---- keyspaces ----

def test_keyspaces_are_made_changed_and_dropped(at):
    name = f"ks{at.resp}{at.server.port}"
    assert at("KEYSPACE", "CREATE", name, "MODE", "raft", "SHARDS", "3") == "OK"
    assert name in [text(n) for n in at("KEYSPACE", "LIST")]
    info = {k.lower(): v for k, v in table(at("KEYSPACE", "INFO", name)).items()}
    assert text(info["mode"]) == "raft" and int(info["shards"]) == 3
    for s in at.cluster.servers:
        with s.conn() as c:
            wait_until(lambda c=c: name in [text(n) for n in c("KEYSPACE", "LIST")])
    at.cluster.wait_ready()
    assert at("SET", name + ":a", "1") == "OK"
    assert at("GET", name + ":a") == b"1"
    assert len(at.cluster.own_shards(name)) == 3
    at.cluster.wait_equal_digests(name)
    assert at("KEYSPACE", "ALTER", name, "READ", "any") == "OK"
    info = {k.lower(): v for k, v in table(at("KEYSPACE", "INFO", name)).items()}
    assert text(info["read"]) == "any"
    assert at("GET", name + ":a") == b"1"
    assert isinstance(at("KEYSPACE", "CREATE", name, "MODE", "raft"), Error)
    assert at("KEYSPACE", "DROP", name) == "OK"
    assert at("KEYSPACE", "DROP", name).startswith("NOKEYSPACE")
    assert at("KEYSPACE", "INFO", name).startswith("NOKEYSPACE")
    assert at("KEYSPACE", "DIGEST", name).startswith("NOKEYSPACE")
    assert at("GET", name + ":a") is None  # a key of default now
    assert name not in [text(n) for n in at("KEYSPACE", "LIST")]


def test_a_keyspace_made_again_is_empty(at):
    name = f"again{at.resp}{at.server.port}"
    for _ in range(2):
        assert at("KEYSPACE", "CREATE", name, "MODE", "raft") == "OK"
        wait_until(lambda: at("SET", name + ":first", "1", "GET") in (None, b"1"))
        assert at("GET", name + ":other") is None
        assert at("SET", name + ":other", "1") == "OK"
        assert at("KEYSPACE", "DROP", name) == "OK"


@pytest.mark.parametrize("args,code", [
    (("CREATE", "x y", "MODE", "raft"), "ERR"),
    (("CREATE", "a" * 65, "MODE", "raft"), "ERR"),
    (("CREATE", "x", "MODE", "nosuch"), "BADPOLICY"),
    (("CREATE", "x", "REPLICAS", "3"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "REPLICAS", "0"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "SHARDS", "0"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "SHARDS", "x"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "NOSUCH", "1"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "ACK", "1"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "CONFLICT", "lww"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "SHARDS"), "BADPOLICY"),
    (("CREATE", "x", "MODE", "raft", "SHARDS", "2", "SHARDS", "2"), "BADPOLICY"),
    (("CREATE", "default", "MODE", "raft"), "ERR"),
    (("DROP", "default"), "ERR"),
    (("ALTER", "default", "SHARDS", "4"), "BADPOLICY"),
    (("ALTER", "default", "MODE", "multi"), "BADPOLICY"),
    (("ALTER", "nosuch", "READ", "any"), "NOKEYSPACE"),
    (("CREATE", "x"), "ERR"),
    (("NOSUCH",), "ERR"),
])
def test_wrong_keyspace_commands_are_refused(three, args, code):
    reply = three[1].ask("KEYSPACE", *args)
    assert isinstance(reply, Error) and reply.code == code, reply
    assert three[0].ask("KEYSPACE", "INFO", "x").startswith("NOKEYSPACE")


def test_a_keyspace_may_not_hide_keys(three):
    with three[2].conn() as c:
        c("MSET", "{hidden:1}", "1", "hidden:2", "2")
        reply = c("KEYSPACE", "CREATE", "hidden", "MODE", "raft")
        assert reply == "KEYSEXIST 2 keys of default begin with this name; delete or move " \
                        "them first"
        assert c("GET", "hidden:2") == b"2"
        c("DEL", "hidden:2", "{hidden:1}")
        assert c("KEYSPACE", "CREATE", "hidden", "MODE", "raft") == "OK"


def test_keyspaces_survive_a_restart():
    with Cluster(1) as cluster:
        s = cluster[0]
        assert s.ask("KEYSPACE", "CREATE", "kept", "MODE", "raft", "SHARDS", "4") == "OK"
        cluster.wait_ready()
        for i in range(20):
            assert s.ask("SET", f"kept:{i}", i) == "OK"
        s.kill9()
        cluster.restart(s)
        cluster.wait_writes(s)
        assert [s.ask("GET", f"kept:{i}") for i in range(20)] == \
            [str(i).encode() for i in range(20)]
        assert len(cluster.own_shards("kept")) == 4


# ---- passwords ----

def test_a_password_is_required(make_cluster, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    s = make_cluster(1, args=["--password-file", secret], password="open sesame")[0]
    with s.conn() as c:
        for command in (("GET", "a"), ("PING",), ("CONFIG", "GET", "*"), ("CLUSTER", "NODES")):
            assert c(*command) == "NOAUTH Authentication required.", command
        assert c("AUTH", "wrong") == \
            "WRONGPASS invalid username-password pair or user is disabled."
        assert c("GET", "a") == "NOAUTH Authentication required."
        assert c("HELLO", "3").startswith("NOAUTH HELLO must be called")
        assert isinstance(c("HELLO", "3", "AUTH", "default", "open sesame"), dict)
        assert c("GET", "a") is None
    with s.conn() as c:
        assert c("AUTH", "default", "open sesame") == "OK"
        assert c("SET", "a", "1") == "OK"
        c("RESET")
        assert c("GET", "a") == "NOAUTH Authentication required."
    with Conn(s.port) as c:  # large things are not taken from strangers
        c.send_raw(b"*1\r\n$100000000\r\n")
        assert c.is_closed() or isinstance(c.read(), Error)


NUMBERS = ["client-output-bytes-max", "client-output-pause-bytes", "client-query-buffer-limit",
           "log-bytes-checkpoint", "max-clock-skew", "maxclients", "maxmemory",
           "proto-max-bulk-len", "replace-after", "request-timeout", "table-bytes-max",
           "transfer-rate"]


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_that_config_set_takes_breaks_anything(one, name):
    s = one[0]
    before = s.ask("CONFIG", "GET", name)[1]
    try:
        for v in (2**63 - 1, 2**63, 2**62, -1, 0, "8589934592gb"):
            reply = s.ask("CONFIG", "SET", name, v)
            took = reply == "OK"
            assert took or reply.code == "ERR"
            assert not took or v == 0, "no bound"
            with s.conn() as c:
                assert c("PING") == "PONG"
                reply = c("SET", "number", "x" * 100)
                assert reply == "OK" or reply.code == "FULL"
            assert s.ask("CONFIG", "SET", name, before) == "OK"
    finally:
        s.ask("CONFIG", "SET", name, before)


def test_a_value_longer_than_512_mb_is_refused_whatever_is_set(one):
    s = one[0]
    assert s.ask("CONFIG", "SET", "proto-max-bulk-len", "1gb").code == "ERR"
    with s.conn() as c:
        c.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$537919488\r\n")
        assert c.read() == "ERR Protocol error: invalid bulk length"


def test_info_tells_of_the_process_and_the_machine(one):
    info = one[0].info()
    assert info["os"].startswith("Linux ")
    assert int(info["used_memory_rss"]) > MB
    assert float(info["used_cpu_user"]) + float(info["used_cpu_sys"]) > 0
    assert info["aof_last_write_status"] == "ok"
