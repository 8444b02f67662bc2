# SPDX-License-Identifier: Apache-2.0
"""Many shards on each of three servers, and many clients of one."""
import resource
import selectors
import socket
import time

import pytest

from cluster import RETRYABLE, wait_until
from wire import encode

SHARD_BYTES = 10_000  # of an idle one, on each server that has a replica


def keyspaces(cluster, shards):
    """shards in all, in keyspaces of at most 1024."""
    made = []
    while shards > 0:
        n = min(shards, 1024)
        made.append((f"k{len(made)}", n))
        assert cluster[0].ask("KEYSPACE", "CREATE", made[-1][0], "MODE", "raft",
                              "SHARDS", n) == "OK"
        shards -= n
    return made


def number(server, name):
    return int(server.info()[name])


def all_silent(servers):
    """Every replica but those of the meta shard and default, which others may ask for."""
    def silent(s):
        info = s.info()
        held = int(info["shards_led"]) + int(info["shards_followed"])
        return int(info["shards_silent"]) >= held - 2
    return all(silent(s) for s in servers)


def write_everywhere(server, made, value, within_s):
    """A key for about each shard, asked again while the answer says that nothing was done."""
    left = [f"{name}:{i}" for name, n in made for i in range(n)]
    deadline = time.monotonic() + within_s
    while left:
        assert time.monotonic() < deadline, f"{len(left)} keys are not served"
        with server.redis(socket_timeout=60) as r:
            pipe = r.pipeline(transaction=False)
            for key in left:
                pipe.set(key, value)
            answers = pipe.execute(raise_on_error=False)
        for a in answers:
            assert a is True or str(a).startswith(RETRYABLE + ("the outcome", "no leader")) or \
                "UNCERTAIN" in repr(a) or "NOLEADER" in repr(a) or "NOQUORUM" in repr(a), a
        left = [key for key, a in zip(left, answers) if a is not True]
        time.sleep(0.1 if left else 0)


def many_shards(cluster, shards, within_s):
    before = [number(s, "used_memory") for s in cluster.servers]
    made = keyspaces(cluster, shards)
    wait_until(lambda: sum(number(s, "shards_led") for s in cluster.servers) >= shards + 2,
               within_s, "every shard has a leader", 0.5)
    wait_until(lambda: all_silent(cluster.servers), within_s, "all are silent", 0.5)
    for s, was in zip(cluster.servers, before):
        per_shard = (number(s, "used_memory") - was) / shards
        print(f"{s.name}: {per_shard:.0f} bytes for each shard")
        assert per_shard < SHARD_BYTES

    # R114: nothing is said for each of them.  Beats, their answers, sweeps and this are turns.
    turns = number(cluster[0], "loop_turns")
    time.sleep(5)
    assert number(cluster[0], "loop_turns") - turns < 5 * 100

    write_everywhere(cluster[1], made, "1", within_s)
    wait_until(lambda: all_silent(cluster.servers), within_s, "silent again", 0.5)

    # R114: the death of a server that led a third of them wakes the rest, and they elect.
    cluster[0].kill9()
    write_everywhere(cluster[1], made, "2", within_s)
    rest = cluster.servers[1:]
    wait_until(lambda: sum(number(s, "shards_led") for s in rest) >= shards + 2, within_s,
               "every shard has a leader among the two", 0.5)
    wait_until(lambda: all_silent(rest), within_s, "silent without the third", 0.5)

    # and its return brings them up to date
    cluster[0].start()
    wait_until(lambda: cluster[0].ask("PING") == "PONG", 60)
    wait_until(lambda: all_silent(cluster.servers), within_s, "silent with the third", 0.5)
    rows = [r for r in cluster.shard_rows(cluster[1]) if r["keyspace"] != "(meta)"]
    assert len(rows) == 3 * (shards + 1)
    assert all(int(r["lag"]) == 0 for r in rows), [r for r in rows if int(r["lag"]) != 0][:3]


def test_R114_600_shards_fall_silent_and_wake(make_cluster):
    many_shards(make_cluster(3), 600, 40)


@pytest.mark.long
def test_R114_10240_shards_fall_silent_and_wake(make_cluster):
    many_shards(make_cluster(3), 10240, 240)


def test_10000_clients(make_cluster):
    n = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n + 600:
        pytest.skip(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (n + 600, hard))
    try:
        s = make_cluster(1)[0]
        ten_thousand(s, n)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ten_thousand(s, n):
    before = s.rss_bytes()
    socks = []
    try:
        for _ in range(n):
            socks.append(socket.create_connection(("127.0.0.1", s.port), timeout=30))
        for i, sock in enumerate(socks):
            sock.sendall(encode("SET", f"c{i}", i) + encode("GET", f"c{i}"))
        for i, sock in enumerate(socks):
            want = b"+OK\r\n$%d\r\n%d\r\n" % (len(str(i)), i)
            got = b""
            while len(got) < len(want):
                more = sock.recv(100)
                assert more, f"client {i} was disconnected after {got!r}"
                got += more
            assert got == want
        per_client = (s.rss_bytes() - before) / n
        print(f"{per_client:.0f} bytes for each client")
        assert per_client < 20_000
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as one_more:
            assert one_more.recv(100).startswith(b"-ERR max number of clients reached")
        with selectors.DefaultSelector() as ready:  # nobody was told anything else
            for sock in socks:
                ready.register(sock, selectors.EVENT_READ)
            assert ready.select(0.2) == []
    finally:
        for sock in socks:
            sock.close()
    wait_until(lambda: s.ask("PING") == "PONG")
