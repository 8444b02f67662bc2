# SPDX-License-Identifier: Apache-2.0
"""sennit recover: a majority is lost for good, and a survivor goes on alone."""
import re
import shutil

import walfile
from cluster import run, wait_until
from load import Load
from wire import Error


def recover(server, *args):
    return run("recover", "--data", server.data, *args)


def lose_majority(cluster, threads=3):
    """Under load, so that the survivor may lack what was acknowledged last; all are stopped."""
    assert cluster[0].ask("KEYSPACE", "CREATE", "wide", "MODE", "raft", "SHARDS", "3") == "OK"
    cluster.wait_ready()
    with Load(cluster.servers, threads=threads, prefix="wide:") as load:
        load.wait_acked(300)
    for s in cluster.servers:
        s.kill9()
    return load


def test_a_survivor_becomes_a_cluster_of_one(make_cluster):
    cluster = make_cluster(3)
    load = lose_majority(cluster)
    survivor, *dead = cluster.servers
    look = recover(survivor)
    assert look.returncode == 0, look
    assert "nothing was changed" in look.stdout and "--yes" in look.stdout
    told = re.findall(r"shard (\d+) of (\S+): voter, up to position (\d+)", look.stdout)
    assert sorted(k for _, k, _ in told) == ["(meta)", "default", "wide", "wide", "wide"]
    assert "writes behind position" in look.stdout and "s2, s3" in look.stdout
    done = recover(survivor, "--yes")
    assert done.returncode == 0 and "cluster of one now" in done.stdout, done
    cluster.restart(survivor)
    cluster.wait_writes(survivor, "wide:probe")
    lost = 0
    with survivor.conn() as c:
        for key, value in load.acked.items():
            lost += c("GET", key) != value.encode()
    assert lost <= 3, lost  # one a client: what it had not heard of when all was killed
    assert [n["name"] for n in cluster.nodes(survivor)] == [survivor.name]

    # It is a cluster as any other: a new server joins, under a number of its own.
    cluster.servers = [survivor]
    for s in dead:
        shutil.rmtree(s.data)
        s.start(join=survivor.advertised)
        cluster.servers.append(s)
    cluster.wait_ready()
    assert int(re.search(r"joined the cluster as server (\d+)", dead[0].log_text()[-2000:])[1])
    cluster.wait_equal_digests("wide")
    survivor.kill9()
    cluster.wait_writes(dead[0], "wide:probe2")


def test_members_of_the_old_cluster_are_refused(make_cluster):
    """Those that come back neither join nor end the survivor; they end, and have no say though
    they are a majority of what was."""
    cluster = make_cluster(3)
    lose_majority(cluster)
    survivor, *others = cluster.servers
    assert recover(survivor, "--yes").returncode == 0
    cluster.restart(survivor)
    cluster.wait_writes(survivor, "a")
    assert survivor.ask("SET", "a", "after") == "OK"
    for other in others:
        other.start()
    for other in others:
        assert other.process.wait(20) == 1
        assert "recovered without this server" in other.log_text()
    assert "recovered without it" in survivor.log_text()
    assert survivor.ask("GET", "a") == b"after"
    assert survivor.ask("SET", "a", "more") == "OK"
    assert len(cluster.nodes(survivor)) == 1


def test_a_recovery_that_was_interrupted_is_run_again(make_cluster):
    """It removes the log last: with a log, a start is refused, and recover ends it."""
    cluster = make_cluster(3)
    lose_majority(cluster)
    survivor = cluster[0]
    shutil.copytree(survivor.data + "/wal", survivor.data + "/wal-kept")
    assert recover(survivor, "--yes").returncode == 0
    shutil.rmtree(survivor.data + "/wal")
    shutil.move(survivor.data + "/wal-kept", survivor.data + "/wal")
    survivor.start()
    assert survivor.process.wait(20) == 1
    assert "not finished" in survivor.log_text()
    assert recover(survivor, "--yes").returncode == 0
    cluster.restart(survivor)
    cluster.wait_writes(survivor, "a")
    assert recover(survivor).returncode != 0  # it runs


def test_shards_without_a_replica_here_begin_again_empty(make_cluster):
    cluster = make_cluster(4)
    assert cluster[0].ask("KEYSPACE", "CREATE", "wide", "MODE", "raft", "SHARDS", "8") == "OK"
    cluster.wait_ready()
    for i in range(200):
        assert cluster[0].ask("SET", f"wide:{i}", i) == "OK"
    for s in cluster.servers:
        assert s.terminate() == 0
    survivor = cluster[3]
    done = recover(survivor, "--yes")
    assert done.returncode == 0, done
    gone = set(re.findall(r"shard (\d+) of wide: no replica here: ALL of it is lost",
                          done.stdout))
    cluster.restart(survivor)
    cluster.wait_writes(survivor, "wide:probe")
    with survivor.conn() as c:
        there = sum(c("GET", f"wide:{i}") == str(i).encode() for i in range(200))
        assert all(c("SET", f"wide:{i}", "new") == "OK" for i in range(200))
    assert (there < 200) == bool(gone) and there > 0, (there, gone)


def test_a_damaged_server_alone_writes_again(make_cluster):
    """What its READONLY names: the way out of a damaged log that nobody can repair."""
    cluster = make_cluster(1)
    s = cluster[0]
    with s.conn() as c:
        for i in range(300):
            assert c("SET", f"k{i}", f"{i}" * 20) == "OK"
    s.kill9()
    group = next(r.group for r in reversed(walfile.all_records(s)) if r.kind == walfile.ENTRY)
    entry = walfile.entries(s, group)[150]
    walfile.flip(entry.path, entry.offset + entry.size // 2)
    cluster.restart(s)
    wait_until(lambda: isinstance(s.ask("SET", "a", "1"), Error), 20)
    assert s.terminate() == 0
    done = recover(s, "--yes")
    assert done.returncode == 0 and "DAMAGED" in done.stdout, done
    cluster.restart(s)
    cluster.wait_writes(s)
    with s.conn() as c:
        assert c("GET", "k0") == b"0" * 20
        assert c("SET", "k299", "again") == "OK"
