# SPDX-License-Identifier: Apache-2.0
"""Servers go: drained, removed, replaced, lost; and those that must not come back."""
import json
import re
import shutil

import pytest

from cluster import run, wait_until
from load import Load
from wire import Error, table, text


def servers(cluster, asked=None):
    """name -> row of SERVER LIST."""
    reply = (asked or cluster.any_running()).ask("SERVER", "LIST")
    assert isinstance(reply, list), reply
    rows = [{k: text(v) for k, v in table(row).items()} for row in reply]
    return {r["name"]: r for r in rows}


def holders(cluster, keyspace="default"):
    """Who holds a voter, as the replicas tell themselves."""
    return {r["name"] for rows in cluster.own_shards(keyspace).values() for r in rows
            if r["own"] and r["role"] in ("leader", "follower")}


def sennit(cluster, *args, asked=None):
    server = asked or cluster.any_running()
    return run(*args, "--server", f"127.0.0.1:{server.port}", timeout=90)


@pytest.fixture(name="four")
def four_servers(make_cluster):
    cluster = make_cluster(4)
    assert cluster[0].ask("KEYSPACE", "CREATE", "wide", "MODE", "raft", "SHARDS", "4") == "OK"
    cluster.wait_ready()
    return cluster


def check_all(cluster, load):
    for s in cluster.servers:
        if s.is_running:
            load.check(s)


def test_a_server_drains_under_load_and_takes_replicas_again(four):
    leader = four.leader()
    with Load([s for s in four.servers if s is not leader], threads=3, prefix="wide:") as load:
        load.wait_acked(100)
        done = sennit(four, "cluster", "drain", leader.name)
        assert done.returncode == 0, done
        assert f"{leader.name} holds nothing any more" in done.stdout
        load.wait_acked(100)
    assert not load.errors, load.errors
    check_all(four, load)
    row = servers(four)[leader.name]
    assert (row["state"], int(row["replicas"]), int(row["leads"])) == ("drained", 0, 0)
    for keyspace in ("default", "wide"):  # what nobody needs any more goes within seconds
        wait_until(lambda k=keyspace: leader.name not in holders(four, k), 10)
    screen = sennit(four, "status").stdout
    assert re.search(rf"^\s*{leader.name} .*\bdrained\b", screen, re.M), screen
    rows = json.loads(sennit(four, "status", "--json").stdout)["servers"]
    assert {r["name"]: (r["state"], r["to_go"]) for r in rows}[leader.name] == ("drained", 0)
    assert leader.ask("SET", "a", "1") == "OK"  # it still serves, by others' hands
    assert sennit(four, "cluster", "activate", leader.name).returncode == 0
    wait_until(lambda: int(servers(four)[leader.name]["replicas"]) >= 3, 30)


def test_a_removed_server_ends_and_can_not_come_back(four):
    """R93: it is told, and says so; nobody else is disturbed; nothing is lost."""
    gone = four.leader()
    asked = four.others(gone)[0]
    with Load(four.others(gone), threads=3, prefix="wide:") as load:
        load.wait_acked(100)
        done = sennit(four, "cluster", "remove", gone.name, asked=asked)
        assert done.returncode == 0, done
        assert f"{gone.name} is no member any more" in done.stdout
        assert gone.process.wait(10) == 1
        load.wait_acked(100)
        assert "was removed from the cluster" in gone.log_text()
        gone.start()
        assert gone.process.wait(20) == 1
        load.wait_acked(50)
    assert not load.errors, load.errors
    check_all(four, load)
    assert gone.name not in servers(four, asked)
    shutil.rmtree(gone.data)  # its name is free again, its number is not
    gone.start(join=asked.advertised)
    wait_until(lambda: gone.ask("PING") == "PONG", 20)
    assert int(servers(four, asked)[gone.name]["id"]) == 5
    four.wait_ready()
    check_all(four, load)


def test_a_dead_server_is_removed_and_told_when_it_returns(four):
    dead = four.followers("wide")[0]
    asked = four.others(dead)[0]
    with Load(four.others(dead), threads=3, prefix="wide:") as load:
        load.wait_acked(100)
        dead.kill9()
        done = sennit(four, "cluster", "remove", dead.name, asked=asked)
        assert done.returncode == 0, done
        load.wait_acked(100)
    assert dead.name not in servers(four, asked)
    check_all(four, load)
    dead.start()
    assert dead.process.wait(20) == 1
    assert "was removed from the cluster" in dead.log_text()
    four.servers.remove(dead)
    four.wait_ready()


def test_a_server_takes_the_place_of_a_dead_one(make_cluster):
    cluster = make_cluster(5)
    rows, = cluster.own_shards("default").values()
    held = {r["name"] for r in rows if r["own"]}
    old = next(s for s in cluster.servers if s.name in held and s is not cluster.leader())
    new = [s for s in cluster.servers if s.name not in held][1]
    with Load(cluster.others(old), threads=3) as load:
        load.wait_acked(100)
        old.kill9()
        done = sennit(cluster, "cluster", "replace", old.name, new.name)
        assert done.returncode == 0, done
        load.wait_acked(50)
    check_all(cluster, load)
    cluster.servers.remove(old)
    wait_until(lambda: holders(cluster) == held - {old.name} | {new.name}, 10)


def test_fewer_voters_are_said_or_refused(make_cluster):
    """3 to 2: one voter and a learner, if the operator says so; then 2 to 1."""
    cluster = make_cluster(3)
    gone = cluster.followers()[0]
    rest = cluster.others(gone)
    done = sennit(cluster, "cluster", "remove", gone.name, asked=rest[0])
    assert done.returncode == 1 and "SHRINK" in done.stderr, done
    with Load(rest, threads=2) as load:
        load.wait_acked(50)
        done = sennit(cluster, "cluster", "remove", gone.name, "--shrink", asked=rest[0])
        assert done.returncode == 0, done
        load.wait_acked(50)
    assert not load.errors, load.errors
    gone.process.wait(10)
    cluster.servers.remove(gone)
    cluster.wait_ready()
    check_all(cluster, load)
    last = cluster.leader()
    done = sennit(cluster, "cluster", "remove", cluster.others(last)[0].name, asked=last)
    assert done.returncode == 0, done
    assert last.ask("SET", "a", "1") == "OK"
    load.check(last)
    done = sennit(cluster, "cluster", "remove", last.name, asked=last)
    assert done.returncode == 1 and "last server" in done.stderr, done


def test_errors_of_server_commands_say_what_to_do(four):
    for s in four.servers:
        for command, words in ((("DRAIN", "nobody"), "SERVER LIST"),
                               (("REPLACE", "s1", "s1"), "take over"),
                               (("REMOVE", "s1", "now"), "syntax"),
                               (("REMOVE",), "arguments"), (("NOSUCH",), "unknown")):
            reply = s.ask("SERVER", *command)
            assert isinstance(reply, Error) and words in reply, reply


def test_a_lost_server_is_replaced_by_itself(make_cluster):
    """--replace-after; when it returns it is a member like any other, without its replicas."""
    cluster = make_cluster(4, args=["--replace-after", "3s"])
    rows, = cluster.own_shards("default").values()
    held = {r["name"] for r in rows if r["own"]}
    lost = next(s for s in cluster.servers if s.name in held and s is not cluster.leader())
    spare = next(s for s in cluster.servers if s.name not in held)
    with Load(cluster.others(lost), threads=3) as load:
        load.wait_acked(100)
        lost.kill9()
        wait_until(lambda: spare.name in holders(cluster), 30)
        load.wait_acked(50)
    check_all(cluster, load)
    cluster.restart(lost)
    cluster.wait_ready()
    wait_until(lambda: holders(cluster) == held - {lost.name} | {spare.name}, 10)
    load.check(lost)


# ---- identities ----

def test_a_founder_that_lost_its_disk_is_told_by_its_cluster(make_cluster):
    """It would found a second cluster under the old name and address: it ends, and says why."""
    cluster = make_cluster(3)
    founder = cluster[0]
    assert cluster[1].ask("SET", "a", "1") == "OK"
    founder.kill9()
    shutil.rmtree(founder.data)
    founder.start()
    assert founder.process.wait(30) == 1
    log = founder.log_text()
    assert "a member of another cluster" in log and "sennit cluster remove s1" in log, log
    founder.start(join=cluster[1].advertised)  # nor does it get its old number back
    assert founder.process.wait(30) == 1 or founder.log_text()
    assert cluster[1].ask("GET", "a") == b"1"


def test_a_copied_data_directory_does_not_run_twice(make_cluster, tmp_path):
    cluster = make_cluster(3)
    original = cluster.followers()[0]
    original.terminate()
    copy = cluster.new_server(name=original.name)
    copy.data = str(tmp_path / "copy")
    copy.log = str(tmp_path / "copy.log")
    shutil.copytree(original.data, copy.data)
    cluster.restart(original)
    cluster.servers.remove(copy)
    cluster.wait_ready()
    with Load(cluster.servers, threads=2) as load:
        copy.start()
        assert copy.process.wait(40) == 1
        load.wait_acked(50)
    assert "another process with this server's identity" in copy.log_text()
    assert original.is_running
    check_all(cluster, load)
    cluster.wait_ready()
