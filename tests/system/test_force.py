# SPDX-License-Identifier: Apache-2.0
"""FAILOVER FORCE, and FAILOVER manual: who leads is an operator's word."""
import json
import pathlib
import time

import pytest

from cluster import wait_until
from wire import Error, text


def ask(server, *args):
    """With time for an order that waits for servers which do not answer."""
    with server.conn(timeout=30) as c:
        return text(c(*args))


def rows(cluster, asked, keyspace):
    return cluster.shard_rows(asked, keyspace)


def with_role(cluster, asked, keyspace, role):
    """Servers that have this role in the keyspace's one shard."""
    names = [r["name"] for r in rows(cluster, asked, keyspace) if r["role"] == role]
    return [s for s in cluster.servers if s.name in names]


def make_manual(cluster, name="m"):
    assert ask(cluster[0], "KEYSPACE", "CREATE", name, "MODE", "primary", "FAILOVER", "manual",
                          "DURABILITY", "fsync") == "OK"
    wait_until(lambda: len(with_role(cluster, cluster[0], name, "learner")) == 2,
               what="two followers")
    return wait_until(lambda: with_role(cluster, cluster[0], name, "leader"), what="a primary")[0]


def rolled_back(server):
    """Key and value of every change that a server has kept aside."""
    found = {}
    for file in sorted(pathlib.Path(server.data, "rollback").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            change = json.loads(line)
            found[change["key"]] = change.get("value")
    return found


def test_nobody_is_elected_where_failover_is_manual(make_cluster):
    cluster = make_cluster(4)
    primary = make_manual(cluster)
    other = cluster.others(primary)[0]
    assert ask(other, "SET", "m:a", "1") == "OK"
    wait_until(lambda: ask(other, "GET", "m:a") == "1", what="it has arrived")
    follower = with_role(cluster, primary, "m", "learner")[0]
    # Until it holds anything its reads are the primary's.
    wait_until(lambda: len({r["applied"] for r in rows(cluster, primary, "m")}) == 1,
               what="the followers have what the primary has")
    assert ask(follower, "GET", "m:a") == "1"
    primary.kill9()
    time.sleep(4)
    reply = ask(other, "SET", "m:a", "2")
    assert isinstance(reply, Error) and reply.code in ("NOLEADER", "NOQUORUM")
    assert ask(follower, "GET", "m:a") == "1"  # READ any goes on without the primary
    cluster.restart(primary)
    wait_until(lambda: ask(other, "SET", "m:a", "3") == "OK", what="the primary is back")


def test_the_one_voter_moves_without_loss(make_cluster):
    """P14: planned; the new primary has everything before it leads."""
    cluster = make_cluster(3)
    primary = make_manual(cluster)
    for i in range(200):
        assert ask(primary, "SET", f"m:{i}", str(i)) == "OK"
    target = cluster.others(primary)[0]
    assert ask(primary, "FAILOVER", "m", "TO", target.name) == "OK"
    assert with_role(cluster, primary, "m", "leader") == [target]
    assert ask(target, "GET", "m:199") == "199"
    assert ask(primary, "SET", "m:after", "1") == "OK"


def test_force_promotes_who_has_most_and_says_what_may_be_lost(make_cluster):
    """P8, P13: the primary is gone for good; its epoch is over when it comes back."""
    cluster = make_cluster(4)
    primary = make_manual(cluster)
    others = cluster.others(primary)
    for i in range(100):
        assert ask(primary, "SET", f"m:{i}", str(i)) == "OK"
    wait_until(lambda: all(ask(s, "GET", "m:99") == "99" for s in others),
               what="followers have it")
    assert {r["epoch"] for r in rows(cluster, others[0], "m")} == {0}
    primary.kill9()
    reply = ask(others[0], "FAILOVER", "m", "FORCE")
    assert reply.startswith("OK but acknowledged writes may be lost: 2 replicas"), reply
    wait_until(lambda: ask(others[0], "SET", "m:new", "1") == "OK", what="a new primary")
    (leader,) = [r for r in rows(cluster, others[0], "m") if r["role"] == "leader"]
    assert leader["epoch"] == 1 and 0 < leader["term"] < 100  # two numbers, not one packed
    wait_until(lambda: ask(others[1], "GET", "m:99") == "99", what="the other follows")
    cluster.restart(primary)
    wait_until(lambda: ask(primary, "GET", "m:new") == "1", what="the old one follows")
    cluster.wait_equal_digests()


def test_what_only_the_old_primary_had_is_kept_aside(make_cluster):
    """P1, P3: written while it was alone, answered, and overtaken by the new epoch."""
    cluster = make_cluster(4)
    primary = make_manual(cluster)
    followers = with_role(cluster, primary, "m", "learner")
    asked = next(s for s in cluster.servers if s is not primary and s not in followers)
    assert ask(primary, "SET", "m:both", "1") == "OK"
    wait_until(lambda: all(ask(f, "GET", "m:both") == "1" for f in followers), what="followers")
    for f in followers:
        f.kill9()
    for i in range(20):
        assert ask(primary, "SET", f"m:only-{i}", f"v{i}") == "OK"
    primary.kill9()
    for f in followers:
        cluster.restart(f)
    wait_until(lambda: ask(followers[0], "PING") == "PONG", what="followers are back")
    time.sleep(1)
    reply = ask(asked, "FAILOVER", "m", "FORCE")
    assert reply.startswith("OK but acknowledged writes may be lost"), reply
    wait_until(lambda: ask(asked, "SET", "m:new", "1") == "OK", what="a new primary")
    cluster.restart(primary)
    wait_until(lambda: ask(primary, "GET", "m:new") == "1", within_s=30,
               what="the old one is made anew")
    assert ask(primary, "GET", "m:only-3") is None
    wanted = {f"m:only-{i}": f"v{i}" for i in range(20)}
    wait_until(lambda: wanted.items() <= rolled_back(primary).items(),
               what="what it had is kept aside")
    cluster.wait_equal_digests()


def test_nothing_goes_before_it_is_kept_aside(make_cluster):
    """rollback/ can't be written at first: the copy that holds the same stays until it can."""
    cluster = make_cluster(4)
    primary = make_manual(cluster)
    followers = with_role(cluster, primary, "m", "learner")
    asked = next(s for s in cluster.servers if s is not primary and s not in followers)
    for f in followers:
        f.kill9()
    wanted = {f"m:only-{i}": f"v{i}" for i in range(20)}
    for key, value in wanted.items():
        assert ask(primary, "SET", key, value) == "OK"
    primary.kill9()
    for f in followers:
        cluster.restart(f)
    wait_until(lambda: ask(followers[0], "PING") == "PONG", what="followers are back")
    time.sleep(1)
    assert ask(asked, "FAILOVER", "m", "FORCE").startswith("OK")
    wait_until(lambda: ask(asked, "SET", "m:new", "1") == "OK", what="a new primary")

    in_the_way = pathlib.Path(primary.data, "rollback")
    in_the_way.write_text("")
    for _ in range(2):  # a restart in between changes nothing
        cluster.restart(primary)
        said = "could not be written: Not a directory"
        wait_until(lambda: primary.log_text().count(said) > 0, within_s=20, what="it is told")
        time.sleep(3)
        assert "is no longer kept here" not in primary.log_text()
        primary.kill9()
    cluster.restart(primary)
    time.sleep(2)
    in_the_way.unlink()
    wait_until(lambda: wanted.items() <= rolled_back(primary).items(),
               what="what it had is kept aside")
    wait_until(lambda: ask(primary, "GET", "m:new") == "1", within_s=30,
               what="the old one is made anew")
    assert "is written now" in primary.log_text()
    assert int(primary.info()["rollback_files"]) == len(list(in_the_way.glob("*.jsonl")))
    cluster.wait_equal_digests()


def test_force_where_a_majority_of_voters_is_gone(make_cluster):
    cluster = make_cluster(5)
    assert ask(cluster[0], "KEYSPACE", "CREATE", "p", "MODE", "primary", "ACK", "1") == "OK"
    wait_until(lambda: sum(r["role"] in ("leader", "follower") for r in rows(cluster, cluster[0], "p")) == 3,
               what="three voters")
    members = [s for s in cluster.servers if s.name in [r["name"] for r in rows(cluster, cluster[0], "p")]]
    asked = next(s for s in cluster.servers if s not in members)
    wait_until(lambda: ask(asked, "SET", "p:a", "1") == "OK", what="a leader")
    leader = with_role(cluster, asked, "p", "leader")[0]
    gone = [leader, next(s for s in members if s is not leader)]
    for s in gone:
        s.kill9()
    wait_until(lambda: isinstance(ask(asked, "SET", "p:a", "2"), Error), what="no majority")
    reply = ask(asked, "FAILOVER", "p", "FORCE")
    assert "acknowledged writes may be lost: 1 replicas" in reply, reply
    wait_until(lambda: ask(asked, "SET", "p:a", "3") == "OK", what="a primary")
    for s in gone:
        cluster.restart(s)
    wait_until(lambda: ask(gone[0], "GET", "p:a") == "3", within_s=30, what="they follow")
    cluster.wait_equal_digests()


@pytest.mark.parametrize("words,text", [
    (("nothere", "FORCE"), "NOKEYSPACE"),
    (("default", "TO", "nobody", "FORCE"), "no server has that name"),
    (("default", "FORCED"), "syntax"),
])
def test_what_can_not_be_forced_is_said(make_cluster, words, text):
    cluster = make_cluster(1)
    reply = ask(cluster[0], "FAILOVER", *words)
    assert isinstance(reply, Error) and text in str(reply)
