# SPDX-License-Identifier: Apache-2.0
"""Disk full, memory full: writes are refused with FULL, reads go on, and it ends by itself
when there is room again."""
import os
import subprocess
import time

import pytest

from cluster import Server, wait_until
from load import Load
from wire import Closed, Conn, Error

NEEDS_ROOT = "mounting a small file system needs root"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of so many MB."""
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    mounted = []

    def make(megabytes):
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path],
                       check=True)
        mounted.append(path)
        return str(path)
    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


def fill_up(server, limit_mb=2000):
    """Writes 1 MB values under new names until one is refused."""
    value = b"x" * 1000000
    with Conn(server.port, timeout=30) as c:
        for i in range(limit_mb):
            reply = c("SET", f"fill{i}", value)
            if reply != "OK":
                return i, reply
    raise AssertionError("it is never full")


def check_full_and_recovery(server, free_some):
    with server.conn() as c:
        assert c("SET", "early", "1") == "OK"
    n, reply = fill_up(server)
    print(f"full after {n} MB: {reply}")
    assert isinstance(reply, Error) and reply.code == "FULL", reply
    assert n > 5
    assert server.is_running
    with server.conn() as c:
        assert c("GET", "early") == b"1"
        assert c("STRLEN", "fill0") == 1000000
        assert c("PING") == "PONG"
        again = c("SET", "fill-more", b"x" * 1000000)
        assert isinstance(again, Error) and again.code == "FULL"
    free_some()
    wait_until(lambda: server.ask("SET", "later", "1") == "OK", 20, "writes go on")
    with server.conn() as c:
        assert c("EXISTS", *[f"fill{i}" for i in range(n)]) == n
        assert c("EXISTS", "fill-more") == 0
        c("DEL", *[f"fill{i}" for i in range(n)])
    assert server.is_running


def with_ballast(disk, megabytes):
    path = os.path.join(disk, "ballast")
    with open(path, "wb") as f:
        f.write(bytes(megabytes << 20))
    return lambda: os.remove(path)


def test_a_full_disk_of_the_only_server(make_cluster, small_disk):
    disk = small_disk(600)
    free_some = with_ballast(disk, 250)
    cluster = make_cluster(0, directory=disk)
    cluster.add()
    check_full_and_recovery(cluster[0], free_some)
    assert cluster[0].terminate() == 0
    cluster.restart(cluster[0])
    assert cluster[0].ask("GET", "later") == b"1"


def test_a_full_disk_of_one_of_three_does_not_stop_the_others(make_cluster, small_disk):
    """R109: the one leaves the quorum, and returns when there is room for what it must hold (450 MB)
    and the log that it has: this makes way for the checkpoint."""
    disk = small_disk(700)
    cluster = make_cluster(2)
    third = Server("s3", disk)
    cluster.servers.append(third)
    third.start(join=cluster[0].advertised)
    cluster.wait_ready()
    free_some = with_ballast(disk, 320)
    leader = cluster.leader()
    if leader is third:
        assert third.ask("FAILOVER", "default", "TO", "s1") == "OK"
        leader = cluster.wait_leader(other_than=third)
    value = b"x" * 1000000
    with Conn(leader.port, timeout=30) as c:
        for i in range(450):
            assert c("SET", f"fill{i}", value) == "OK"
    assert third.is_running
    wait_until(lambda: "errno 28" in third.log_text(), 20, "its disk is full")
    with Load([leader], threads=2) as load:
        load.wait_acked(100)
    assert not load.errors
    free_some()
    with Conn(leader.port, timeout=30) as c:
        c("DEL", *[f"fill{i}" for i in range(450)])
    cluster.wait_equal_digests(within_s=60)
    load.check(third)


def test_memory_is_bounded_and_told(make_cluster):
    cluster = make_cluster(1, args=["--memory", "128mb"])
    s = cluster[0]
    refused, most = 0, 0
    c = Conn(s.port, timeout=60)
    for i in range(600):
        try:
            reply = c("SET", f"m{i}", b"x" * 1000000)
            assert reply == "OK" or reply.code in ("FULL", "NOQUORUM"), reply
        except (OSError, Closed):  # closed in the middle of a request that had no room
            reply = None
            c = Conn(s.port, timeout=60)
        refused += reply != "OK"
        most = max(most, s.rss_bytes())
    c.close()
    print(f"{refused} of 600 MB refused; {most >> 20} MB resident at most")
    assert s.is_running
    assert most < 300 << 20
    wait_until(lambda: s.ask("SET", "after", "1") == "OK", 20)
    assert int(s.info()["used_memory"]) < 200 << 20


def test_a_value_larger_than_memory_is_refused_not_fatal(make_cluster):
    s = make_cluster(1, args=["--memory", "64mb"])[0]
    with Conn(s.port, timeout=30) as c:
        try:
            c.send("SET", "large", b"x" * (100 << 20))
            reply = c.read()
            assert isinstance(reply, Error) and reply.code == "FULL", reply
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed while we were still sending
    time.sleep(0.2)
    assert s.ask("SET", "small", "1") == "OK"
