# SPDX-License-Identifier: Apache-2.0
"""CLIENT REQUEST: a request with an id is carried out once.  SESSION: a connection sees no less
than another one did."""
import threading
import time

import pytest
import redis

from cluster import wait_until
from wire import Closed, Conn, Error

QUICK = ["--request-timeout", "2s"]


def once(c, request, *command):
    assert c("CLIENT", "REQUEST", request) == "OK"
    return c(*command)


def until_answered(servers, request, *command, within_s=30):
    """As a client should: the same id, at one server after the other."""
    end = time.monotonic() + within_s
    tries = 0
    while time.monotonic() < end:
        server = servers[tries % len(servers)]
        tries += 1
        try:
            with Conn(server.port, timeout=5) as c:
                reply = once(c, request, *command)
        except (OSError, Closed):
            time.sleep(0.05)
            continue
        if not isinstance(reply, Error):
            return reply
        assert reply.code in ("UNCERTAIN", "NOLEADER", "NOQUORUM"), reply
    raise AssertionError(f"{command} was not answered")


# ---- CLIENT REQUEST ----

def test_a_repeat_gets_the_first_answer_at_every_server(three):
    with three[0].conn() as a, three[1].conn() as b, three[2].conn() as c:
        assert a("DEL", "n") in (0, 1)
        assert once(a, "r1", "INCRBY", "n", 5) == 5
        assert once(b, "r1", "INCRBY", "n", 5) == 5
        assert once(c, b"\0binary\xff", "INCRBY", "n", 5) == 10
        assert once(a, b"\0binary\xff", "INCRBY", "n", 5) == 10
        assert a("INCRBY", "n", 5) == 15  # for the next command only
        assert once(b, "r2", "INCRBY", "n", 1) == 16
        assert "was used for another command" in once(c, "r2", "INCRBY", "n", 2)
        assert c("GET", "n") == b"16"


def test_a_large_request_is_carried_out_once(three):
    """It is forwarded in pieces, and told from another one by all of its bytes."""
    value = b"x" * (20 << 20)
    with three[0].conn(timeout=60) as a, three[1].conn(timeout=60) as b, \
            three[2].conn(timeout=60) as c:
        assert a("DEL", "large") in (0, 1)
        for conn in (a, b, c, a):
            assert once(conn, "large-1", "APPEND", "large", value) == len(value)
        for conn in (a, b, c):
            reply = once(conn, "large-1", "APPEND", "large", value[:-1] + b"y")
            assert "was used for another command" in reply
        assert b("STRLEN", "large") == len(value)
        assert b("DEL", "large") == 1


def test_redis_py_repeats_with_an_id(three):
    for server in three.servers:
        with server.redis(decode_responses=True) as py:
            with py.pipeline(transaction=False) as p:
                p.execute_command("CLIENT", "REQUEST", "py-1")
                p.incr("py")
                assert p.execute() == ["OK", 1]
    with three[0].redis(single_connection_client=True) as py:
        py.execute_command("CLIENT", "REQUEST", "py-2")
        with pytest.raises(redis.ResponseError, match="not carried out"):
            py.execute_command("FLUSHALL")
        assert py.get("py") == b"1"


def test_exec_has_one_id(three):
    for server in three.servers:
        with server.conn() as c:
            assert once(c, "exec-1", "MULTI") == "OK"
            assert c("INCR", "{x}a") == "QUEUED"
            assert c("INCR", "{x}b") == "QUEUED"
            assert c("EXEC") == [1, 1]
            assert c("GET", "{x}a") == b"1"
            assert once(c, "exec-2", "MULTI") == "OK"
            assert c("DISCARD") == "OK"
            assert isinstance(c("INCR", "{x}c"), int)  # the id went with it


def test_ids_that_are_none(one):
    with one[0].conn() as c:
        for wrong in ("", "x" * 129):
            assert "1 to 128 bytes" in c("CLIENT", "REQUEST", wrong)
        assert once(c, "y" * 128, "INCR", "ids") == 1
        assert c("CLIENT", "REQUEST", "gone") == "OK"
        assert c("PING") == "PONG"
        assert c("INCR", "ids") == 2
        assert once(c, "gone", "INCR", "ids") == 3
        assert c("MULTI") == "OK"
        assert isinstance(c("CLIENT", "REQUEST", "late"), Error)
        assert c("EXEC").code == "EXECABORT"
        assert once(c, "ks", "KEYSPACE", "CREATE", "never", "MODE", "raft").code == "ERR"
        assert c("KEYSPACE", "LIST") == [b"default"]


def test_ids_are_invisible_and_outlive_flush_and_restart(make_cluster):
    cluster = make_cluster(1)
    with cluster[0].conn() as c:
        for i in range(100):
            assert once(c, f"id-{i}", "SET", "key", i) == "OK"
        assert c("DBSIZE") == 1
        assert c("KEYS", "*") == [b"key"]
        assert c("SCAN", 0, "COUNT", 1000) == [b"0", [b"key"]]
        assert c("RANDOMKEY") == b"key"
        assert c("FLUSHALL") == "OK"
        assert c("DBSIZE") == 0
        assert c("RANDOMKEY") is None
        assert once(c, "id-7", "SET", "key", 7) == "OK"
        assert c("GET", "key") is None  # carried out before
    cluster[0].kill9()
    cluster.restart(cluster[0])
    with cluster[0].conn() as c:
        assert once(c, "id-99", "SET", "key", 99) == "OK"
        assert c("GET", "key") is None


def test_an_answer_too_long_to_keep(one):
    with one[0].conn() as c:
        assert c("SET", "long", "x" * 10000) == "OK"
        assert once(c, "long-1", "GETDEL", "long") == b"x" * 10000
        assert once(c, "long-1", "GETDEL", "long").code == "DONE"


def test_kill9_of_the_leader_between_write_and_answer(make_cluster):
    """R63: counters that many clients raise with ids, while leaders die, are exact."""
    cluster = make_cluster(3, args=QUICK)
    done = threading.Event()
    told = {}

    def work(name):
        serial = 0
        while not done.is_set():
            serial += 1
            told[name] = serial
            servers = cluster.servers[name % 3:] + cluster.servers[:name % 3]
            # The first answer, though nobody may ever have got it.
            assert until_answered(servers, f"{name}/{serial}", "INCR", f"n{name}") == serial

    failures = []

    def guarded(name):
        try:
            work(name)
        except BaseException as e:  # noqa: BLE001
            failures.append(e)
            raise
    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for _ in range(4):
        time.sleep(1)
        victim = cluster.wait_leader()
        victim.kill9()
        time.sleep(0.5)
        cluster.restart(victim)
        cluster.wait_ready()
    done.set()
    for t in threads:
        t.join(40)
        assert not t.is_alive()
    assert not failures
    for name, serial in told.items():
        assert cluster[0].ask("GET", f"n{name}") == str(serial).encode()
    cluster.wait_equal_digests()


# ---- SESSION ----

def test_a_session_goes_on_elsewhere(make_cluster):
    """P24: a token makes another server as new as it says."""
    cluster = make_cluster(3)
    assert cluster[0].ask("KEYSPACE", "CREATE", "any", "MODE", "raft", "READ", "any") == "OK"
    token = None
    for i in range(200):
        with cluster[i % 3].conn() as c:
            if token is not None:
                assert c("SESSION", "RESUME", token) == "OK"
                assert c("GET", "any:n") == str(i).encode()  # not a moment older
            assert c("INCR", "any:n") == i + 1
            token = c("SESSION", "TOKEN")
            assert token.isalnum() and len(token) < 200


def test_a_replica_that_is_behind_says_stale(make_cluster):
    cluster = make_cluster(3, partitions=True, args=QUICK)
    assert cluster[0].ask("KEYSPACE", "CREATE", "any", "MODE", "raft", "READ", "any") == "OK"
    assert cluster[0].ask("SET", "any:k", "old") == "OK"
    leader = cluster.leader("any")
    behind = cluster.others(leader)[0]
    wait_until(lambda: behind.ask("GET", "any:k") == b"old", 10, "it has the first")
    cluster.isolate(behind)
    with leader.conn() as c:
        assert c("SET", "any:k", "new") == "OK"
        token = c("SESSION", "TOKEN")
    with behind.conn() as c:
        assert c("GET", "any:k") == b"old"  # any means any
        assert c("SESSION", "RESUME", token) == "OK"
        assert c("GET", "any:k").code == "STALE"
        answers = []
        asking = threading.Thread(target=lambda: answers.append(c("GET", "any:k")))
        asking.start()
        time.sleep(0.3)
        cluster.heal()
        asking.join(10)
        assert answers == [b"new"]  # it waited
        assert c("RESET") == "RESET"


def test_what_a_failover_discarded_is_not_older_data(make_cluster):
    """P24: a primary that answers at once is cut off, answers, and dies."""
    cluster = make_cluster(3, partitions=True, args=QUICK)
    assert cluster[0].ask("KEYSPACE", "CREATE", "loose", "MODE", "primary", "ACK", "async",
                          "READ", "any") == "OK"
    assert cluster[0].ask("SET", "loose:k", "old") == "OK"
    old = cluster.wait_leader("loose")
    wait_until(lambda: all(s.ask("GET", "loose:k") == b"old" for s in cluster.servers), 10,
               "all have the first")
    with old.conn() as c:
        cluster.isolate(old)
        assert c("SET", "loose:k", "new") == "OK"
        token = c("SESSION", "TOKEN")
    old.kill9()
    others = cluster.others(old)
    cluster.wait_leader("loose", server=others[0], other_than=old)
    for s in others:
        with s.conn() as c:
            assert c("GET", "loose:k") == b"old"  # without a session
            assert c("SESSION", "RESUME", token) == "OK"
            assert c("GET", "loose:k").code == "LOST"
            assert c("SET", "loose:k", "mine").code == "LOST"  # nothing was applied
            assert c("GET", "elsewhere") is None  # other shards are not concerned
            assert c("RESET") == "RESET"
            assert c("GET", "loose:k") == b"old"


def test_reads_count_as_seen(three):
    """What a session has read at the leader it finds at every replica."""
    assert three[0].ask("KEYSPACE", "CREATE", "seen", "MODE", "raft", "READ", "any") == "OK"
    leader = three.wait_leader("seen")
    for i in range(50):
        with leader.conn() as writer, leader.conn() as reader:
            assert writer("SET", "seen:k", i) == "OK"
            assert reader("GET", "seen:k") == str(i).encode()
            token = reader("SESSION", "TOKEN")
        with three.others(leader)[i % 2].conn() as c:
            assert c("SESSION", "RESUME", token) == "OK"
            assert c("GET", "seen:k") == str(i).encode()
            assert c("DBSIZE") >= 1


def test_tokens_that_are_none(make_cluster, one):
    other = make_cluster(1)
    with one[0].conn() as c, other[0].conn() as stranger:
        assert c("SET", "a", 1) == "OK"
        token = c("SESSION", "TOKEN")
        assert "another cluster" in stranger("SESSION", "RESUME", token)
        for wrong in (b"", b"0", token[:-2], token + b"00", token.upper() + b"G", b"00" * 40,
                      b"0" * 100000):
            assert "no session token" in c("SESSION", "RESUME", wrong)
        for at in range(len(token)):
            mangled = bytearray(token)
            mangled[at] = ord("0") if mangled[at] != ord("0") else ord("1")
            assert "no session token" in c("SESSION", "RESUME", bytes(mangled))
        assert c("SESSION", "RESUME", token) == "OK"
        assert c("GET", "a") == b"1"
        assert c("MULTI") == "OK"
        assert isinstance(c("SESSION", "TOKEN"), Error)
        assert c("DISCARD") == "OK"
        assert c("WATCH", "a") == "OK"
        assert "before WATCH" in c("SESSION", "RESUME", token)
        assert c("SESSION", "TOKEN")
        assert c("UNWATCH") == "OK"
        assert c("SESSION", "RESUME", token) == "OK"
        with one[0].conn() as fresh:
            assert fresh("SESSION", "RESUME", fresh("SESSION", "TOKEN")) == "OK"
