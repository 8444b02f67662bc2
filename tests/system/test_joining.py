# SPDX-License-Identifier: Apache-2.0
"""Servers join while clients write; those that must not join are told why."""
import os
import shutil
import time

import pytest

from cluster import Cluster, free_port, wait_until
from load import Load
from wire import Error


def test_one_server_grows_to_three_without_a_failed_write(make_cluster):
    cluster = make_cluster(1)
    with Load([cluster[0]], threads=4) as load:
        load.wait_acked(100)
        cluster.add()
        load.wait_acked(50)
        cluster.add()
        cluster.wait_ready()
        load.wait_acked(200)
    assert not load.unknown, load.errors
    assert not load.errors, load.errors
    for s in cluster.servers:
        load.check(s)
    cluster.wait_equal_digests()
    # And what was promised holds: the first one may go.
    cluster[0].kill9()
    cluster.wait_writes(cluster[1])
    load.check(cluster[2])


def test_growth_to_five_keeps_three_voters_and_serves_everywhere(make_cluster):
    cluster = make_cluster(5)
    for s in cluster.servers:
        assert s.ask("SET", f"from-{s.name}", "1") == "OK"
    for s in cluster.servers:
        for other in cluster.servers:
            assert s.ask("GET", f"from-{other.name}") == b"1"
    rows, = cluster.own_shards("default").values()
    assert sorted(r["role"] for r in rows if r["own"]) == ["follower", "follower", "leader"]


def test_replicas_spread_over_zones(make_cluster):
    cluster = make_cluster(6, zones=["a", "a", "a", "b", "b", "c"])
    for name in "pqr":
        assert cluster[0].ask("KEYSPACE", "CREATE", name, "MODE", "raft", "SHARDS", "4") == "OK"
    cluster.wait_ready()
    zone = {s.name: s.zone for s in cluster.servers}
    for name in "pqr":
        for rows in cluster.own_shards(name).values():
            assert {zone[r["name"]] for r in rows} == {"a", "b", "c"}, rows


def test_replicas_move_when_a_new_zone_joins(make_cluster):
    """Under load; and once they lie well they stay where they are."""
    cluster = make_cluster(3, zones=["a", "a", "b"])

    def placed():
        rows, = cluster.own_shards("default").values()
        return {r["name"] for r in rows if r["own"] and r["role"] in ("leader", "follower")}
    assert placed() == {"s1", "s2", "s3"}
    with Load(cluster.servers, threads=3) as load:
        load.wait_acked(100)
        cluster.add(zone="c")
        wait_until(lambda: {"s3", "s4"} < placed() and len(placed()) == 3, 10)
        load.wait_acked(100)
    settled = placed()
    for s in cluster.servers:
        load.check(s)
    time.sleep(2)
    assert placed() == settled


def test_replicas_and_leads_spread_over_a_server_that_joins(make_cluster):
    """R117: a share of both moves, a few at a time, without a write lost."""
    cluster = make_cluster(3)
    assert cluster[0].ask("KEYSPACE", "CREATE", "wide", "MODE", "raft", "SHARDS", "11") == "OK"
    with Load(cluster.servers, threads=3, prefix="wide:") as load:
        load.wait_acked(100)
        cluster.add()

        def spread():
            rows = [r for shard in cluster.own_shards().values() for r in shard
                    if r["own"] and r["keyspace"] != "(meta)"]
            held = [sum(r["name"] == s.name for r in rows) for s in cluster.servers]
            leads = [sum(r["name"] == s.name and r["role"] == "leader" for r in rows)
                     for s in cluster.servers]
            print(held, leads)
            return held == [9, 9, 9, 9] and max(leads) - min(leads) <= 1 and sum(leads) == 12
        wait_until(spread, 60, "12 shards on 4 servers", 0.5)
        load.wait_acked(100)
    for s in cluster.servers:
        load.check(s)
    assert not load.unknown, load.errors


def test_a_second_server_alone_does_not_make_the_first_depend_on_it(make_cluster):
    """Of two, the second is a learner: its death stops nobody."""
    cluster = make_cluster(2)
    assert cluster[1].ask("SET", "a", "1") == "OK"
    cluster[1].kill9()
    with Load([cluster[0]], threads=1) as load:
        load.wait_acked(50)
    assert not load.errors, load.errors


def test_joining_through_a_follower(make_cluster):
    cluster = make_cluster(3)
    follower = cluster.followers()[0]
    s = cluster.new_server()
    s.start(join=follower.advertised)
    cluster.wait_ready()
    assert s.ask("SET", "a", "1") == "OK"


def test_a_joiner_waits_for_a_member_that_is_not_there_yet(make_cluster):
    cluster = make_cluster(1)
    first = cluster[0]
    first.kill9()
    s = cluster.new_server()
    s.start(join=first.advertised)
    time.sleep(1.5)
    assert s.is_running
    first.start()
    cluster.wait_ready()
    assert s.ask("SET", "a", "1") == "OK"


def test_join_is_ignored_when_there_are_data(make_cluster):
    cluster = make_cluster(3)
    s = cluster[2]
    assert s.terminate() == 0
    s.start(join=f"127.0.0.1:{free_port()}")  # nobody is there
    cluster.wait_ready()


@pytest.mark.parametrize("port", ["port", "peer_port"])
def test_a_changed_address_is_told_to_the_others(make_cluster, port):
    cluster = make_cluster(3)
    s = cluster[2]
    assert s.terminate() == 0
    setattr(s, port, free_port())
    s.start()
    cluster.wait_ready(5)
    wait_until(lambda: any(n["address"].startswith(f"127.0.0.1:{s.port}@{s.peer_port},")
                           for n in cluster.nodes(cluster[0])), 3)
    cluster.wait_equal_digests()


# ---- those that must not join ----

def refused(cluster, server, within_s=15):
    """It ends with code 1 or 2; its log."""
    code = server.process.wait(within_s)
    cluster.servers.remove(server)
    assert code in (1, 2), code
    return server.log_text()


def test_a_name_in_use_is_refused(make_cluster):
    cluster = make_cluster(3)
    s = cluster.new_server(name="s2")
    s.data += "-other"
    s.log += "-other"
    s.start(join=cluster[0].advertised)
    text = refused(cluster, s)
    assert "the cluster refuses this server" in text and "s2" in text, text
    cluster.wait_ready()


def test_a_member_of_another_cluster_is_refused(make_cluster, tmp_path):
    cluster = make_cluster(3)
    with Cluster(1, directory=str(tmp_path)) as other:
        other[0].ask("SET", "a", "other")
        assert other[0].terminate() == 0
        # Its data, under a name and at the address of one of ours.
        victim = cluster[2]
        assert victim.terminate() == 0
        shutil.move(victim.data, victim.data + ".ours")
        shutil.copytree(other[0].data, victim.data)
        victim.name = "s1"
        victim.start()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and victim.is_running:
            for s in cluster.servers[:2]:
                assert s.ask("GET", "a") is None
            time.sleep(0.1)
        assert all("refused" in s.log_text() or "refuses" in s.log_text()
                   for s in cluster.servers[:2])
        assert cluster[0].ask("SET", "b", "1") == "OK"


def test_a_wrong_cluster_secret_is_refused(make_cluster, tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("one secret\n")
    wrong.write_text("another secret\n")
    cluster = make_cluster(3, args=["--cluster-secret-file", right])
    assert cluster[0].ask("SET", "a", "1") == "OK"
    for args in (["--cluster-secret-file", wrong], []):
        s = cluster.new_server(args=args)
        s.start(join=cluster[0].advertised)
        time.sleep(2)
        if s.is_running:  # it may go on trying, but is not let in
            s.kill9()
        cluster.servers.remove(s)
        assert "secret" in s.log_text(), s.log_text()
    assert len(cluster.nodes(cluster[0])) == 3
    assert cluster[1].ask("GET", "a") == b"1"


def test_joining_what_is_no_server_goes_on_trying_and_says_so(make_cluster):
    cluster = make_cluster(1)
    s = cluster.new_server()
    s.start(join=f"127.0.0.1:{cluster[0].port}")  # the client port of a member
    time.sleep(2.5)
    alive = s.is_running
    text = s.log_text()
    if alive:
        s.kill9()
    cluster.servers.remove(s)
    assert f"127.0.0.1:{cluster[0].port}" in text, text
    assert cluster[0].ask("SET", "a", "1") == "OK"


def test_a_dead_member_does_not_stop_a_join(make_cluster):
    cluster = make_cluster(3)
    cluster.followers()[0].kill9()
    s = cluster.new_server()
    s.start(join=cluster.leader().advertised)
    wait_until(lambda: s.ask("SET", "a", "1") == "OK", 20)


def test_errors_of_keyspaces_are_the_same_everywhere(make_cluster):
    cluster = make_cluster(3)
    replies = {s.ask("KEYSPACE", "CREATE", "default", "MODE", "raft") for s in cluster.servers}
    assert len(replies) == 1
    assert isinstance(replies.pop(), Error)


def test_data_directories_hold_no_world_readable_files(make_cluster):
    cluster = make_cluster(1)
    for folder, _, files in os.walk(cluster[0].data):
        for name in files:
            mode = os.stat(os.path.join(folder, name)).st_mode
            assert mode & 0o077 == 0, (name, oct(mode))
