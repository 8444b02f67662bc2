# SPDX-License-Identifier: Apache-2.0
"""A replica too far behind for the log gets a snapshot, and then the log, under load."""
import time

import pytest

from load import Load, fill
from wire import Conn

KEEP = ["--wal-keep", "64mb"]


def write_past_the_log(server, megabytes=330):
    """Overwrites the same keys until the log must have been cut."""
    value = b"x" * 500000
    with Conn(server.port, timeout=60) as c:
        for start in range(0, megabytes * 2, 8):
            replies = c.pipeline([("SET", f"big{i % 40}", value)
                                  for i in range(start, start + 8)])
            assert set(replies) == {"OK"}, replies


def snapshots(servers, what):
    return sum(int(s.info()[f"snapshots_{what}"]) for s in servers)


def test_a_follower_behind_the_log_catches_up_under_load(make_cluster):
    """R47, R50, P20: snapshot, then log, and no second snapshot for the writes meanwhile."""
    cluster = make_cluster(3, args=KEEP)
    fill(cluster[0], 20000, prefix="before")
    victim = cluster.followers()[0]
    rest = cluster.others(victim)
    victim.kill9()
    write_past_the_log(cluster.leader(server=rest[0]))
    sent_before = snapshots(rest, "sent")
    with Load(rest, threads=3, value_bytes=1000) as load:
        load.wait_acked(50)
        began = time.monotonic()
        cluster.restart(victim)
        cluster.wait_ready(90)
        print(f"caught up after {time.monotonic() - began:.1f} s under load")
        load.wait_acked(200)
    cluster.wait_equal_digests(within_s=60)
    load.check(victim)
    assert snapshots([victim], "installed") >= 1
    assert snapshots(rest, "sent") == sent_before + snapshots([victim], "installed")
    assert snapshots(rest, "restarted") == 0
    with Conn(victim.port) as c:
        assert c("GET", "big7") == b"x" * 500000
        assert c("GET", "before19999") == b"x" * 100
    # Whole and trusted: with the leader dead it makes the majority.
    cluster.leader().kill9()
    with Load([s for s in cluster.servers if s.is_running], threads=2, prefix="z") as load:
        load.wait_acked(50)


def test_a_new_server_gets_what_is_no_longer_in_the_log(make_cluster):
    cluster = make_cluster(1, args=KEEP)
    first = cluster[0]
    fill(first, 50000)
    write_past_the_log(first)
    with Load([first], threads=3, value_bytes=500) as load:
        load.wait_acked(50)
        cluster.add()
        cluster.add()
        cluster.wait_ready(90)
        load.wait_acked(100)
    assert not load.errors, load.errors
    cluster.wait_equal_digests(within_s=60)
    for s in cluster.servers:
        load.check(s)
        with Conn(s.port) as c:
            assert c("GET", "f49999") == b"x" * 100


def test_a_snapshot_survives_the_death_of_its_receiver(make_cluster):
    """R79, R80: killed in the middle of it, started again, several times."""
    cluster = make_cluster(3, args=KEEP)
    fill(cluster[0], 100000, value_bytes=500)
    victim = cluster.followers()[0]
    victim.kill9()
    write_past_the_log(cluster.leader(server=cluster.others(victim)[0]))
    for pause in (0.05, 0.3, 0.8):
        victim.start()
        time.sleep(pause)
        victim.kill9()
    cluster.restart(victim, 60)
    cluster.wait_ready(90)
    cluster.wait_equal_digests(within_s=60)


@pytest.mark.long
@pytest.mark.parametrize("deaths", [2, 4])
def test_a_snapshot_survives_the_death_of_its_sender(make_cluster, deaths):
    cluster = make_cluster(3, args=KEEP)
    fill(cluster[0], 100000, value_bytes=500)
    victim = cluster.followers()[0]
    victim.kill9()
    write_past_the_log(cluster.leader(server=cluster.others(victim)[0]))
    victim.start()
    for _ in range(deaths):
        time.sleep(0.3)
        leader = cluster.leader(server=cluster.others(victim)[0])
        if leader is None or leader is victim:
            continue
        leader.kill9()
        time.sleep(0.2)
        leader.start()
        cluster.wait_leader(server=next(s for s in cluster.others(victim) if s is not leader))
    cluster.wait_ready(90)
    cluster.wait_equal_digests(within_s=60)
