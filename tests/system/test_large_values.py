# SPDX-License-Identifier: Apache-2.0
"""Values of up to 512 MB: written, replicated, read and kept, while all else goes on."""
import os
import threading
import time

import pytest

from cluster import wait_until
from wire import Closed, Conn, Error

MB = 1 << 20
LONG_S = 300  # a machine on which other tests run


def large(mb):
    return os.urandom(MB) * mb


class Small:
    """One client that writes small values all the time, and notes what it was told."""

    def __init__(self, server):
        self.server = server
        self.errors, self.writes, self.longest_s = [], 0, 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(LONG_S)
        assert not self.thread.is_alive()

    def _work(self):
        with self.server.conn(timeout=LONG_S) as c:
            while not self.stopping.is_set():
                begun = time.monotonic()
                reply = c("SET", "small", self.writes)
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                self.writes += 1
                if reply != "OK":
                    self.errors.append(reply)
                time.sleep(0.005)


LENGTHS = [32, pytest.param(512, marks=pytest.mark.long)]


@pytest.mark.parametrize("mb", LENGTHS)
def test_a_large_value_on_one_server(make_cluster, mb):
    cluster = make_cluster(1)
    s = cluster[0]
    value = large(mb)
    with s.conn(timeout=LONG_S) as c:
        with Small(s) as small:
            assert c("SET", "large", value) == "OK"
        assert not small.errors, small.errors[0]
        assert small.longest_s < 30
        assert c("STRLEN", "large") == len(value)
        assert c("GET", "large") == value
        assert c("GETRANGE", "large", 5 * MB, 5 * MB + 9) == value[5 * MB:5 * MB + 10]
        assert c("EXPIRE", "large", 100000) == 1
        if mb == 512:
            assert c("APPEND", "large", "x") == \
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    s.kill9()
    s.start()
    wait_until(lambda: cluster.ask(s, "PING") == "PONG", 60)
    with s.conn(timeout=LONG_S) as c:
        assert c("GET", "large") == value
        assert c("SETRANGE", "large", 3, "new") == len(value)
        assert c("GETRANGE", "large", 0, 9) == value[:3] + b"new" + value[6:10]
        assert c("DEL", "large") == 1
    wait_until(lambda: int(s.info()["used_memory"]) < 200 * MB, 30)


@pytest.mark.parametrize("mb", LENGTHS)
def test_a_large_value_on_three_servers(make_cluster, mb):
    """With default flags: the leader stays, small writes go on, each server answers it."""
    cluster = make_cluster(3)
    leader, follower = cluster.leader(), cluster.followers()[0]
    terms = {r["shard"]: r["term"] for r in cluster.shard_rows()}
    value = large(mb)
    with Small(leader) as small, follower.conn(timeout=LONG_S) as c:
        assert c("SET", "large", value) == "OK"
        assert c("STRLEN", "large") == len(value)
    assert not small.errors, small.errors[0]
    assert small.longest_s < 60
    for s in cluster.servers:
        for resp in (2, 3):
            with s.conn(resp=resp, timeout=LONG_S) as c:
                assert c("GET", "large") == value
    with leader.conn(timeout=LONG_S) as c:
        assert c("SET", "large", value[::-1]) == "OK"
    cluster.wait_equal_digests(within_s=LONG_S)
    assert cluster.leader() is leader
    assert terms == {r["shard"]: r["term"] for r in cluster.shard_rows()}
    assert cluster[0].ask("DEL", "large") == 1


@pytest.mark.parametrize("mb", [100, pytest.param(512, marks=pytest.mark.long)])
@pytest.mark.parametrize("after_s", [0.1, 0.6])
def test_a_leader_killed_in_the_middle_leaves_all_or_nothing(make_cluster, mb, after_s):
    cluster = make_cluster(3)
    leader = cluster.leader()
    old, new = large(1), large(mb)
    with leader.conn() as c:
        assert c("SET", "large", old) == "OK"
    told = []

    def write():
        try:
            with leader.conn(timeout=LONG_S) as c:
                told.append(c("SET", "large", new))
        except (OSError, Closed):
            pass
    t = threading.Thread(target=write)
    t.start()
    time.sleep(after_s)
    leader.kill9()
    t.join()
    follower = cluster.wait_leader(other_than=leader, server=cluster.others(leader)[0])
    with follower.conn(timeout=LONG_S) as c:
        found = c("GET", "large")
    assert found in ((new,) if told == ["OK"] else (old, new))
    leader.start()
    cluster.wait_ready()
    cluster.wait_equal_digests(within_s=LONG_S)
    for s in cluster.servers:
        with s.conn(timeout=LONG_S) as c:
            assert c("GET", "large") == found


def test_what_follows_a_large_request_does_not_pass_it(make_cluster):
    """A request to the leader elsewhere travels in pieces, a small one does not."""
    cluster = make_cluster(3)
    value = large(20)
    with cluster.followers()[0].conn(timeout=LONG_S) as c:
        assert c.pipeline([("SET", "k", value), ("SET", "k", "small"), ("APPEND", "k", "er"),
                           ("GET", "k")]) == ["OK", "OK", 7, b"smaller"]
        assert c.pipeline([("SET", "k", value), ("STRLEN", "k"), ("SET", "k", value[:MB]),
                           ("STRLEN", "k")]) == ["OK", 20 * MB, "OK", MB]
    with cluster.leader().conn(timeout=LONG_S) as c:
        assert c.pipeline([("SET", "a", value), ("SET", "b", value[1:]), ("SET", "c", "1"),
                           ("MSET", "d", value[2:], "e", value[3:], "f", "2")]) == ["OK"] * 4
        assert c("MGET", "a", "b", "c", "d", "e", "f") == \
            [value, value[1:], b"1", value[2:], value[3:], b"2"]
        assert c.transaction(("SET", "a", value[4:]), ("COPY", "a", "g"), ("APPEND", "g", "x"),
                             ("SET", "h", "3"), ("GET", "g")) == \
            ["OK", 1, 20 * MB - 3, "OK", value[4:] + b"x"]
    cluster.wait_equal_digests()


def test_more_large_values_than_memory_are_refused(make_cluster):
    """Each client is told, by an error or in the middle of sending; the server lives on."""
    s = make_cluster(1, args=["--memory", "512mb"])[0]
    value = large(100)
    replies, most = [], []

    def write(i):
        try:
            with Conn(s.port, timeout=LONG_S) as c:
                replies.append(c("SET", f"large{i}", value))
        except (OSError, Closed):
            replies.append("closed")
    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        most.append(s.rss_bytes())
        time.sleep(0.05)
    assert s.is_running
    assert len(replies) == 12
    for reply in replies:
        assert reply in ("OK", "closed") or (isinstance(reply, Error) and reply.code == "FULL")
    assert replies.count("OK") < 12, replies
    assert max(most) < 1500 * MB
    wait_until(lambda: s.ask("SET", "small", "1") == "OK", 30)
    with Conn(s.port, timeout=LONG_S) as c:
        assert c("SET", "large", value) == "OK"


def test_a_new_server_gets_a_large_value_in_its_snapshot(make_cluster):
    cluster = make_cluster(1)
    value = large(80)
    with cluster[0].conn(timeout=LONG_S) as c:
        assert c("SET", "large", value) == "OK"
        for i in range(300):
            assert c("SET", f"fill{i}", value[:MB]) == "OK"
    cluster.add()
    cluster.add()
    cluster.wait_ready(within_s=LONG_S)
    cluster.wait_equal_digests(within_s=LONG_S)
    for s in cluster.servers:
        with s.conn(timeout=LONG_S) as c:
            assert c("GET", "large") == value
