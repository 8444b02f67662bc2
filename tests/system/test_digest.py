# SPDX-License-Identifier: Apache-2.0
"""KEYSPACE DIGEST and SHARD LIST tell of every replica, whichever server is asked."""
import time

import pytest

from cluster import wait_until
from wire import table, text


def digest_rows(cluster, server, keyspace="default"):
    """shard -> rows, as that server gathers them."""
    reply = cluster.ask(server, "KEYSPACE", "DIGEST", keyspace)
    assert isinstance(reply, list), reply
    shards = {}
    for row in reply:
        row = {k: text(v) for k, v in table(row).items()}
        shards.setdefault(row["shard"], []).append(row)
    return shards


def are_equal(rows, n=3):
    return (len(rows) == n and not any(r["trouble"] for r in rows) and
            len({r["server"] for r in rows}) == n and
            len({(r["position"], r["digest"], r["keys"]) for r in rows}) == 1)


def wait_equal(cluster, server, keyspace="default", n_shards=1):
    """Followers hear of the last commit a heartbeat later: soon all are at one position."""
    def equal():
        shards = digest_rows(cluster, server, keyspace)
        return shards if len(shards) == n_shards and all(map(are_equal, shards.values())) \
            else None
    return wait_until(equal, 15, f"equal digests, as {server.name} tells", 0.1)


def write(cluster, server, n, prefix=""):
    with server.conn() as c:
        for i in range(n):
            assert c("SET", f"{prefix}k{i}", f"value {i}") == "OK"


def test_each_server_tells_the_same_of_all_replicas(three):
    write(three, three[0], 200)
    told = [wait_equal(three, s) for s in three.servers]
    (rows,) = told[0].values()
    assert {r["name"] for r in rows} == {s.name for s in three.servers}
    assert all(len(r["digest"]) == 16 and r["position"] > 0 for r in rows)
    assert told[1:] == told[:1] * 2
    before = rows[0]
    assert three.ask(three[1], "SET", "k0", "another value") == "OK"
    (rows,) = wait_equal(three, three[2]).values()
    assert rows[0]["position"] > before["position"]
    assert rows[0]["digest"] != before["digest"] and rows[0]["keys"] == before["keys"]


def test_a_digest_has_a_row_for_every_replica_of_every_shard(three):
    at = three[0]
    assert three.ask(at, "KEYSPACE", "CREATE", "many", "MODE", "raft", "SHARDS", "8") == "OK"
    wait_until(lambda: three.ask(at, "SET", "many:ready", "1") == "OK", 20)
    write(three, at, 100, "many:")
    for s in three.servers:
        shards = wait_equal(three, s, "many", 8)
        assert sum(rows[0]["keys"] for rows in shards.values()) == 101
    assert three.ask(at, "KEYSPACE", "DROP", "many") == "OK"


def test_a_digest_under_writes_never_differs_at_one_position(three):
    with three[0].conn() as writer, three[1].conn(timeout=70) as asker:
        for i in range(15):
            for j in range(20):
                writer.send("SET", f"busy{j}", i)
            asker.send("KEYSPACE", "DIGEST", "default")
            for _ in range(20):
                assert writer.read() == "OK"
            found = {}
            for row in map(table, asker.read()):
                assert text(row["trouble"]) == ""
                digest = found.setdefault(row["position"], row["digest"])
                assert row["digest"] == digest


def test_who_asks_meanwhile_is_told_of_its_own_writes(three):
    """Gathers are shared, but not one that had begun before the question."""
    (rows,) = wait_equal(three, three[0]).values()
    position = rows[0]["position"]
    conns = [s.conn(timeout=70) for s in three.servers for _ in range(4)]
    for i, c in enumerate(conns):
        assert c("SET", f"asker{i}", i) == "OK"
        c.send("KEYSPACE", "DIGEST", "default")
    for c in conns:
        reply = [table(row) for row in c.read()]
        position += 1  # its own write's, or more: each is one entry
        assert len(reply) == 3 and max(row["position"] for row in reply) >= position
        c.close()


def test_a_pipeline_of_questions_is_answered_in_order(three):
    with three[1].conn(timeout=70) as c:
        for i in range(30):
            c.send("SHARD", "LIST", "default")
            c.send("SET", f"pipe{i}", i)
            c.send("KEYSPACE", "DIGEST", "default")
            c.send("ECHO", i)
        for i in range(30):
            assert len(c.read()) == 3
            assert c.read() == "OK"
            assert all("digest" in table(row) for row in c.read())
            assert c.read() == str(i).encode()


def test_clients_that_vanish_while_digests_are_gathered_leave_nothing_behind(three):
    for _ in range(20):
        for s in three.servers:
            for question in (("KEYSPACE", "DIGEST", "default"), ("SHARD", "LIST")):
                c = s.conn()
                c.send(*question)
                c.close()
    for s in three.servers:
        wait_equal(three, s)


def test_the_list_of_shards_knows_every_replicas_position(three):
    write(three, three[0], 50)
    at = wait_equal(three, three[0])

    def all_known(server):
        rows = three.shard_rows(server, "default")
        (digests,) = at.values()
        assert len(rows) == 3 and not any(r["trouble"] for r in rows)
        assert sorted(r["role"] for r in rows) == ["follower", "follower", "leader"]
        assert len({r["term"] for r in rows}) == 1 and len({r["leader"] for r in rows}) == 1
        return all(r["applied"] == r["commit"] == digests[0]["position"] and
                   r["lag"] == 0 and r["keys"] == digests[0]["keys"] for r in rows)
    for s in three.servers:
        wait_until(lambda s=s: all_known(s), 10, f"{s.name} knows all replicas")
        meta = [r for r in three.shard_rows(s) if r["keyspace"] == "(meta)"]
        assert len(meta) == 3 and all(r["applied"] > 0 for r in meta)


def test_a_lost_servers_rows_say_so(make_cluster):
    cluster = make_cluster(3)
    write(cluster, cluster[0], 20)
    wait_equal(cluster, cluster[0])
    victim = cluster.followers()[0]
    others = cluster.others(victim)
    victim.kill9()
    for s in others:
        begin = time.monotonic()
        (rows,) = digest_rows(cluster, s).values()
        assert time.monotonic() - begin < 10
        assert len(rows) == 3
        (lost,) = [r for r in rows if r["name"] == victim.name]
        assert lost["digest"] == "" and lost["position"] == -1
        assert lost["trouble"].startswith("did not answer")
        assert all(len(r["digest"]) == 16 for r in rows if r is not lost)

        (lost,) = [r for r in cluster.shard_rows(s, "default") if r["name"] == victim.name]
        assert lost["trouble"].startswith("did not answer") and lost["keys"] == -1
    cluster.restart(victim)
    cluster.wait_ready()
    for s in cluster.servers:
        wait_equal(cluster, s)


def test_a_silent_server_is_waited_for_once_and_not_for_long(make_cluster):
    """Paused, its connections stay; only time tells that it does not answer."""
    cluster = make_cluster(3)
    victim = cluster.followers()[0]
    at = cluster.others(victim)[0]
    victim.pause()
    took = []
    for _ in range(3):
        begin = time.monotonic()
        rows = cluster.shard_rows(at, "default")
        took.append(time.monotonic() - begin)
        (silent,) = [r for r in rows if r["name"] == victim.name]
        assert silent["trouble"].startswith("did not answer") and silent["keys"] == -1
    assert took[0] < 5 and min(took[1:]) < 0.9, took
    begin = time.monotonic()
    (rows,) = digest_rows(cluster, at).values()
    assert time.monotonic() - begin < 10
    assert [bool(r["digest"]) for r in rows].count(True) == 2
    victim.resume()
    wait_equal(cluster, at)


@pytest.mark.parametrize("dies", ["the asked", "another"])
def test_a_server_that_dies_while_digests_are_gathered(make_cluster, dies):
    cluster = make_cluster(3)
    write(cluster, cluster[0], 20)
    asked, other = cluster[0], cluster[1]
    conns = [asked.conn(timeout=30) for _ in range(8)]
    for c in conns:
        c.send("KEYSPACE", "DIGEST", "default")
        c.send("SHARD", "LIST")
    (asked if dies == "the asked" else other).kill9()
    if dies == "another":
        for c in conns:
            assert isinstance(c.read(), list) and isinstance(c.read(), list)
    for c in conns:
        c.close()
    cluster.restart(asked if dies == "the asked" else other)
    cluster.wait_ready()
    for s in cluster.servers:
        wait_equal(cluster, s)
