# SPDX-License-Identifier: Apache-2.0
"""Many connections, long pipelines, slow readers: bounded, and told."""
import resource
import socket
import threading
import time
from collections import deque

import pytest

from cluster import wait_until
from load import fill
from wire import Conn, Error, encode

MB = 1 << 20


@pytest.mark.parametrize("where,entry", [("one", 0), ("three", 0), ("three", 1), ("three", 2)])
def test_a_pipeline_of_10000_whose_answers_are_read_late(request, where, entry):
    s = request.getfixturevalue(where)[entry]
    with Conn(s.port, timeout=60) as c:
        c.send_raw(b"".join(encode("SET", f"p{i}", i) + encode("GET", f"p{i}")
                            for i in range(5000)))
        time.sleep(1)
        for i in range(5000):
            assert c.read() == "OK"
            assert c.read() == str(i).encode()


def test_a_pipeline_larger_than_all_buffers(one):
    """The client goes on sending without reading: the server pauses it, and loses nothing."""
    s = one[0]
    s.ask("SET", "value", b"x" * 10000)
    n = 20000
    with Conn(s.port, timeout=60) as c:
        data = encode("GET", "value") * n
        c.sock.setblocking(False)
        sent, received, rss = 0, 0, 0
        deadline = time.monotonic() + 60
        while received < n * 10010 and time.monotonic() < deadline:
            try:
                sent += c.sock.send(data[sent:sent + 65536]) if sent < len(data) else 0
            except BlockingIOError:
                pass
            try:
                received += len(c.sock.recv(1 << 20))
            except BlockingIOError:
                time.sleep(0.001)
            rss = max(rss, s.rss_bytes()) if received % 50 == 0 else rss
    assert received == n * (len(b"$10000\r\n\r\n") + 10000)


def test_a_slow_reader_does_not_fill_memory(one):
    """It asks for 2 GB and reads nothing: its requests are no longer read, memory is bounded,
    and other clients are served."""
    s = one[0]
    s.ask("SET", "big", b"x" * MB)
    before = s.rss_bytes()
    with Conn(s.port, receive_bytes=4096, timeout=5) as c:
        data = encode("GET", "big") * 2000
        c.sock.setblocking(False)
        sent, most = 0, 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                sent += c.sock.send(data[sent:sent + 65536]) if sent < len(data) else 0
            except BlockingIOError:
                pass
            most = max(most, s.rss_bytes())
            time.sleep(0.005)
            assert s.ask("PING") == "PONG"
        print(f"{(most - before) / MB:.0f} MB for the slow reader")
        assert most < before + 200 * MB


def test_a_reader_that_is_owed_too_much_is_disconnected_with_the_reason_in_the_log(one):
    """A single command can owe more than the bound: KEYS of many long names."""
    s = one[0]
    assert s.ask("CONFIG", "SET", "client-output-bytes-max", str(20 * MB)) == "OK"
    try:
        s.ask("SET", "big", b"x" * (30 * MB))
        with Conn(s.port, receive_bytes=4096, timeout=10) as c:
            c.send_raw(encode("GET", "big") * 3)
            wait_until(lambda: "is disconnected: more is owed to it" in s.log_text(), 10)
    finally:
        s.ask("CONFIG", "SET", "client-output-bytes-max", str(1024 * MB))
        s.ask("DEL", "big")


def test_an_answer_longer_than_memory_is_refused_before_it_is_built(make_cluster):
    """A request of a few KB asks for GB: an error, and others are not held up for long."""
    s = make_cluster(1, args=["--memory", "200mb"])[0]
    value = b"x" * (4 * MB)
    assert s.ask("SET", "k", value) == "OK"
    asked = [("MGET", *["k"] * 250), ("GETRANGE", "k", 0, -1)]
    with s.conn(timeout=60) as c, s.conn(timeout=60) as d:
        c.send(*asked[0])
        began = time.monotonic()
        assert d("PING") == "PONG"
        print(f"another client waited {time.monotonic() - began:.2f} s")
        assert c.read().code == "FULL"
        assert s.rss_bytes() < 300 * MB
        assert c.transaction(*asked[1:] * 250)[-1].code == "FULL"
        assert s.rss_bytes() < 500 * MB
        c("DEL", "none")
        wait_until(lambda: c("MGET", "k", "k") == [value, value], 20)
    with s.conn(timeout=60) as c:
        names = ["get"] * 1000000
        assert c("COMMAND", "INFO", *names).code == "ERR"
        assert c("COMMAND", "DOCS", *names).code == "ERR"
    assert s.ask("PING") == "PONG"


def test_an_answer_between_servers_is_bounded_too(three):
    """One that were too long for a message would end the connection, or the leader."""
    leader = three.leader()
    value = b"x" * (60 * MB)
    with three.others(leader)[0].conn(timeout=60) as c:
        assert c("SET", "{k}1", value) == "OK"
        reply = c("MGET", *["{k}1"] * 10)
        assert reply.code in ("ERR", "FULL"), reply
        assert c("GET", "{k}1") == value
        assert c("DEL", "{k}1") == 1
    assert leader.is_running


def test_what_is_watched_and_queued_is_bounded(make_cluster):
    """Keys of 64 KB, watched by the thousand; EXEC would send them all in one request."""
    s = make_cluster(1, args=["--memory", "128mb"])[0]
    with s.conn(timeout=60) as c:
        assert c("CONFIG", "SET", "client-query-buffer-limit", 8 * MB) == "OK"
        keys = [f"{i:04}" + "k" * 65000 for i in range(200)]
        replies = [c("WATCH", f"{{a}}{key}") for key in keys]
        assert replies[0] == "OK"
        assert "client-query-buffer-limit" in replies[-1]
        assert c("MULTI") == "OK"
        assert c("GET", "{a}1") == "QUEUED"
        assert "client-query-buffer-limit" in c("GET", "{a}" + keys[0])
        assert c("EXEC").code == "EXECABORT"
        assert c("WATCH", "{a}1") == "OK"
        assert c.transaction(("GET", "{a}1"),) == [None]
    assert s.ask("CONFIG", "SET", "client-query-buffer-limit", 1024 * MB) == "OK"
    conns = [s.conn(timeout=60) for _ in range(4)]
    codes = set()
    for c in conns:
        for _ in range(20):
            reply = c("WATCH", *[f"{{a}}{key}" for key in keys[:60]])
            codes.add(reply if reply == "OK" else reply.code)
    assert codes == {"OK", "FULL"}
    assert s.rss_bytes() < 400 * MB
    for c in conns:
        assert c("UNWATCH") == "OK"
        c.close()
    wait_until(lambda: s.ask("SET", "after", 1) == "OK", 20)


def test_connections_to_the_peer_port_do_not_use_up_descriptors(make_cluster):
    """Whoever reaches it can connect, before any secret is asked for.  The log still gets its
    files, members still connect, and a server still joins."""
    cluster = make_cluster(1)
    s = cluster[0]
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (640, 640))
    held = deque(maxlen=640)
    ended = threading.Event()

    def knock():
        while not ended.is_set():
            try:
                held.append(socket.create_connection(("127.0.0.1", s.peer_port), timeout=5))
            except OSError:
                time.sleep(0.01)
            if len(held) == 640:
                time.sleep(0.002)
    knocker = threading.Thread(target=knock)
    knocker.start()
    try:
        wait_until(lambda: len(held) == 640, 30)
        most = 0
        with s.conn(timeout=60) as c:
            for i in range(160):
                assert c("SET", f"k{i}", b"x" * MB) == "OK"
                most = max(most, s.sockets())
        print(f"{most} sockets at most")
        assert most < 400
        cluster.add()
        cluster.wait_ready(within_s=60)
    finally:
        ended.set()
        knocker.join()
    for c in held:
        c.close()
    assert s.is_running


def connections(s, n):
    conns = []
    try:
        for _ in range(n):
            c = socket.create_connection(("127.0.0.1", s.port), timeout=30)
            conns.append(c)
        for rounds in range(3):
            for i, c in enumerate(conns):
                c.sendall(encode("SET", f"c{i}", rounds))
            for c in conns:
                assert c.recv(100) == b"+OK\r\n"
        assert s.info()["connected_clients"] == str(n + 1)
    finally:
        for c in conns:
            c.close()
    wait_until(lambda: s.info()["connected_clients"] == "1", 20)


def test_1000_connections(one):
    connections(one[0], 1000)


@pytest.mark.long
def test_9000_connections(make_cluster):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    try:
        connections(make_cluster(1)[0], 9000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_maxclients(make_cluster):
    s = make_cluster(1, args=["--maxclients", "20"])[0]
    wait_until(lambda: s.info()["connected_clients"] == "1", 5)
    conns = [s.conn() for _ in range(20)]
    for c in conns:
        assert c("PING") == "PONG"
    with s.conn() as c:
        assert c.read() == "ERR max number of clients reached"
        assert c.is_closed()
    for c in conns:
        assert c("PING") == "PONG"
        c.close()
    wait_until(lambda: s.ask("PING") == "PONG", 5)


def test_a_transaction_of_10000_commands(three):
    for s in three.servers:
        with s.conn(timeout=60) as c:
            replies = c.pipeline([("MULTI",)] + [("INCR", "t10000")] * 10000 + [("EXEC",)])
            result = replies[-1]
            assert isinstance(result, list) and len(result) == 10000, result
            assert result == list(range(result[0], result[0] + 10000))


def test_mset_of_many_keys(three):
    """One command, one entry, atomic; larger than what one message holds."""
    with three.followers()[0].conn(timeout=60) as c:
        args = [x for i in range(50000) for x in (f"many{i}", b"x" * 100)]
        assert c("MSET", *args) == "OK"
        assert c("EXISTS", *args[::2]) == 50000
        assert c("DEL", *args[::2]) == 50000


def test_flushall_and_dbsize_of_many_keys(three):
    fill(three[0], 100000)
    with three[1].conn(timeout=60) as c:
        n = c("DBSIZE")
        assert n >= 100000
        assert len(c("KEYS", "f*")) == 100000
        began = time.monotonic()
        assert c("FLUSHALL") == "OK"
        print(f"FLUSHALL of {n} keys: {time.monotonic() - began:.2f} s")
        assert c("DBSIZE") == 0
    three.wait_equal_digests()


def test_large_parts_of_an_answer_come_through_every_server(three):
    """Where the leader alone may read, the others ask it for what they put together."""
    keys = [f"led:{i:06}" + "x" * 80 for i in range(6000)]
    assert three[0].ask("KEYSPACE", "CREATE", "led", "MODE", "raft", "READ", "leader") == "OK"
    with three[0].conn(timeout=60) as c:
        wait_until(lambda: c("SET", "led:first", "v") == "OK", what="it is served")
        assert c.pipeline([("SET", k, "v") for k in keys]) == ["OK"] * len(keys)
    watched = [f"led:{i}{{a}}" for i in range(33000)]  # 8 bytes of answer each
    for s in three.servers:
        with s.conn(timeout=60) as c:
            assert len(c("KEYS", "led:*")) == len(keys) + 1
            found = c("SCAN", "0", "MATCH", "led:*", "COUNT", "5000")
            assert not isinstance(found, Error), found
            assert c("WATCH", *watched) == "OK"
            assert c.transaction(("DEL", watched[0])) == [0]
    assert three[0].ask("KEYSPACE", "DROP", "led") == "OK"


def test_many_shards(make_cluster):
    """Hundreds of groups on three servers: they all get leaders, and idle ones cost little."""
    cluster = make_cluster(3)
    assert cluster[0].ask("KEYSPACE", "CREATE", "wide", "MODE", "raft", "SHARDS", "256") == "OK"
    cluster.wait_ready(60)
    with cluster[1].conn(timeout=30) as c:
        replies = c.pipeline([("SET", f"wide:{i}", i) for i in range(2000)])
        assert set(replies) == {"OK"}
        assert c("DBSIZE") == 2000
    time.sleep(1)

    def cpu_s():
        ticks = 0
        for s in cluster.servers:
            with open(f"/proc/{s.pid}/stat", encoding="ascii") as f:
                field = f.read().rsplit(")", 1)[1].split()
            ticks += int(field[11]) + int(field[12])
        return ticks / 100
    before = cpu_s()
    time.sleep(3)
    used = (cpu_s() - before) / 3
    print(f"{used * 100:.0f} % of a CPU for 3 servers with 257 idle shards")
    assert used < 0.5
    cluster[0].kill9()
    cluster.wait_writes(cluster[1], key="wide:after")
    with cluster[1].conn(timeout=30) as c:
        wait_until(lambda: not any(isinstance(r, Error) for r in c.pipeline(
            [("GET", f"wide:{i}") for i in range(2000)])), 30, "all shards have leaders")
