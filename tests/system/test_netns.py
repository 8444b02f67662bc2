# SPDX-License-Identifier: Apache-2.0
"""Three servers, each with a network of its own: partitions, loss, late and narrow links as the
kernel makes them, under redis-py, ioredis and clients whose histories are checked."""
import random
import time

import pytest

import netns
from cluster import Cluster, wait_until
from load import Load, NodeLoad, RedisPyLoad, rolled_back, seconds_until_write
from test_histories import History, keys_of
from wire import Error

REASON = netns.skip_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
ON_TIME = REASON or netns.no_delay_reason()
can_be_late = pytest.mark.skipif(ON_TIME is not None, reason=str(ON_TIME))

ARGS = ["--insecure", "--request-timeout", "3s"]
RAFT = ("MODE", "raft")
LINEARIZABLE = {  # what is linearizable whatever happens
    "raft": RAFT,
    "ack1": ("MODE", "primary", "ACK", "1", "READ", "lease"),
    "memory": ("MODE", "primary", "ACK", "1", "READ", "lease", "DURABILITY", "memory"),
    "all": ("MODE", "primary", "ACK", "all", "READ", "lease"),
}
ASYNC = {"async": ("MODE", "primary"),
         "lazy": ("MODE", "primary", "DURABILITY", "memory")}


@pytest.fixture
def three():
    with Cluster(3, args=ARGS, network=netns.Namespaces()) as cluster:
        yield cluster


def create(cluster, *options):
    assert cluster[0].ask("KEYSPACE", "CREATE", "p", *options) == "OK"
    cluster.wait_ready()
    return cluster


def wait_whole(cluster):
    cluster.wait_ready(60)
    cluster.wait_equal_digests("p")


def trouble(cluster, r, kinds):
    """One thing that happens, and ends."""
    kind = r.choice(kinds)
    victim = cluster.leader("p") if r.random() < 0.7 else r.choice(cluster.servers)
    victim = victim or cluster[0]
    others = [s.name for s in cluster.others(victim)]
    duration = r.uniform(1.0, 3.0)
    print(f"{time.monotonic():.1f}: {kind} {victim.name} for {duration:.1f} s")
    if kind == "kill":
        victim.kill9()
        time.sleep(duration / 2)
        cluster.restart(victim)
        return
    if kind == "pause":
        victim.pause()
        time.sleep(duration)
        victim.resume()
        return
    if kind == "alone":
        cluster.isolate(victim)
    elif kind == "deaf":
        cluster.isolate(victim, outbound=False)
    elif kind == "mute":
        cluster.isolate(victim, inbound=False)
    elif kind == "one link":
        cluster.network.cut((victim.name, others[0]), (others[0], victim.name))
    elif kind == "loss":
        pairs = [(a, b) for a in others for b in (victim.name,)]
        cluster.network.lose(0.3, *pairs, *[(b, a) for a, b in pairs])
    elif kind == "late":
        cluster.network.delay(r.uniform(0.02, 0.3), victim.name)
    else:
        cluster.network.narrow(200, victim.name)
    time.sleep(duration)
    cluster.heal()


NETWORK = ["alone", "deaf", "mute", "one link", "loss", "narrow"] + ["late"] * (ON_TIME is None)
PROCESSES = ["kill", "pause"]


def courses(policies, always):
    """One of them always, the others in long runs only."""
    return [pytest.param(p, marks=[] if p == always else [pytest.mark.long]) for p in policies]


@pytest.mark.parametrize("policy", courses(LINEARIZABLE, "ack1"))
def test_histories_stay_linearizable(three, policy):
    """R16, R17, R26, R51: reads and writes at all servers, each trouble once."""
    cluster = create(three, *LINEARIZABLE[policy])
    r = random.Random(7)
    kinds = NETWORK + PROCESSES
    r.shuffle(kinds)
    with History(cluster, keys_of("p"), clients=6, seed=7) as history:
        for kind in kinds:
            time.sleep(0.5)
            trouble(cluster, r, [kind])
        cluster.wait_ready(60)
        cluster.wait_writes(key="p:ready")
        cluster.wait_equal_digests("p")
        time.sleep(0.5)
    history.check()


def foreign_load(cluster):
    return (RedisPyLoad(cluster.servers, threads=3, prefix="p:py", pause_s=0.002),
            NodeLoad(cluster.servers, threads=3, prefix="p:node"),
            Load(cluster.servers, threads=2, prefix="p:own", pause_s=0.002))


@pytest.mark.parametrize("policy", courses({**ASYNC, **LINEARIZABLE}, "async"))
def test_foreign_clients_lose_nothing_without_a_trace(three, policy):
    """P1, P3, P19: ACK async: what was acknowledged is there or in rollback/; else it is
    there.  redis-py and ioredis go to another server when theirs is gone."""
    options = {**ASYNC, **LINEARIZABLE}[policy]
    cluster = create(three, *options)
    r = random.Random(11)
    kinds = NETWORK + PROCESSES
    r.shuffle(kinds)
    loads = foreign_load(cluster)
    with loads[0], loads[1], loads[2]:
        for kind in kinds:
            time.sleep(0.5)
            trouble(cluster, r, [kind])
        cluster.wait_ready(60)
        for load in loads:
            load.wait_acked(20)
    wait_whole(cluster)
    kept = rolled_back(cluster)
    for load in loads:
        for s in cluster.servers:
            lost = load.check(s, kept if policy in ASYNC else None)
        print(f"{load.prefix}: {len(load.acked)} acknowledged, {lost} of them rolled back; "
              f"{load.errors}")


def test_an_isolated_primary_gives_its_answers_up_with_a_trace(three):
    """P3: its clients reach it all the time; the others go on without it."""
    cluster = create(three, *ASYNC["async"])
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    cluster.wait_equal_digests("p")
    cluster.isolate(primary)
    with RedisPyLoad([primary], threads=2, prefix="p:alone", pause_s=0.01) as load:
        seconds_until_write(rest[0], "p:probe")
        wait_until(lambda: load.errors.get("NOLEADER") or load.errors.get("NOQUORUM") or
                   load.errors.get("UNCERTAIN"), 15, "the cut off primary says no")
        acked = len(load.acked)
        time.sleep(2)
        assert len(load.acked) == acked > 0
    cluster.heal()
    wait_whole(cluster)
    for s in cluster.servers:
        assert load.check(s, rolled_back(cluster)) == acked
    assert int(primary.info()["rollback_entries"]) >= acked


def test_a_flapping_link_resumes_from_the_log(three):
    """P19: away and back, again and again, while others write."""
    cluster = create(three, *LINEARIZABLE["ack1"])
    primary = cluster.wait_leader("p")
    follower = cluster.others(primary)[0]
    snapshots = 0
    with Load([primary], threads=3, prefix="p:w", value_bytes=200) as load:
        load.wait_acked(100)
        for i in range(12):
            cluster.network.cut((primary.name, follower.name), (follower.name, primary.name))
            time.sleep(0.1 + 0.1 * (i % 4))
            cluster.heal()
            load.wait_acked(20)
            snapshots += is_sent_a_snapshot(cluster, primary, follower)
    assert not load.errors, load.errors
    assert cluster.leader("p") is primary
    assert snapshots == 0
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def is_sent_a_snapshot(cluster, leader, server):
    return any(row["name"] == server.name and row["trouble"] == "it is sent a snapshot"
               for row in cluster.shard_rows(leader, "p"))


@pytest.mark.long
def test_a_follower_away_too_long_is_rebuilt_once(make_cluster):
    """P19, P20: cut off until the log no longer reaches back to it; then a snapshot and the
    log, under writes, and no second snapshot."""
    cluster = make_cluster(3, args=[*ARGS, "--wal-keep", "64mb"], network=netns.Namespaces())
    create(cluster, *LINEARIZABLE["ack1"])
    primary = cluster.wait_leader("p")
    follower = cluster.others(primary)[0]
    cluster.isolate(follower)
    with primary.conn(timeout=60) as c:
        for start in range(0, 330 * 2, 8):
            many = [("SET", f"p:big{i % 40}", b"x" * 500000) for i in range(start, start + 8)]
            assert set(c.pipeline(many)) == {"OK"}
    with Load([primary], threads=3, prefix="p:w", value_bytes=1000, pause_s=0.002) as load:
        cluster.network.heal()
        cluster.network.narrow(200000, primary.name)
        wait_until(lambda: is_sent_a_snapshot(cluster, primary, follower), 30, "a snapshot",
                   0.01)
        wait_until(lambda: not is_sent_a_snapshot(cluster, primary, follower), 60, "its end",
                   0.01)
        again = 0
        for _ in range(100):
            again += is_sent_a_snapshot(cluster, primary, follower)
            time.sleep(0.02)
        assert again == 0, "one snapshot follows the other"
        load.wait_acked(50)
    cluster.heal()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def delay_all(cluster, seconds):
    for s in cluster.servers:
        cluster.network.delay(seconds, s.name)
    began = time.monotonic()
    assert cluster[0].ask("PING") == "PONG"  # two of its packets wait for others: SYN and PING
    assert time.monotonic() - began >= 2 * 0.8 * seconds


@can_be_late
def test_delays_are_no_failures(three):
    """R43: 80 ms each way, give or take: slower, and nobody is deposed."""
    cluster = create(three, *LINEARIZABLE["ack1"])
    leader = cluster.wait_leader("p")
    delay_all(cluster, 0.08)
    with Load(cluster.servers, threads=6, prefix="p:w") as load:
        load.wait_acked(50)
        time.sleep(3)
    assert cluster.leader("p") is leader
    assert not load.errors, load.errors
    cluster.heal()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


@can_be_late
def test_a_leader_behind_late_and_lossy_links_is_replaced(three):
    """R43: 40 ms each way, one packet in twenty lost between the others; it is cut off, and
    another takes over; all is whole again while the links are still late."""
    cluster = create(three, *LINEARIZABLE["ack1"])
    leader = cluster.wait_leader("p")
    rest = cluster.others(leader)
    delay_all(cluster, 0.04)
    cluster.network.lose(0.05, *[(a.name, b.name) for a in rest for b in rest if a is not b])
    with Load(rest, threads=3, prefix="p:w") as load:
        load.wait_acked(20)
        cluster.isolate(leader)
        cluster.wait_leader("p", rest[0], other_than=leader)
        load.wait_acked(20)
    cluster.heal()
    delay_all(cluster, 0.04)
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def test_lossy_links_lose_no_acknowledged_write(three):
    """R51: every link loses 20 %: nobody is told OK for what is not there."""
    cluster = create(three, *LINEARIZABLE["ack1"])
    names = [s.name for s in cluster.servers]
    cluster.network.lose(0.2, *[(a, b) for a in names for b in names if a != b])
    with Load(cluster.servers, threads=4, prefix="p:w", pause_s=0.005) as load:
        time.sleep(6)
    assert len(load.acked) > 0, load.errors
    cluster.heal()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def test_maxlag_under_a_cut_that_nobody_closes(three):
    """A follower that is only deaf says STALE as one cut off both ways."""
    cluster = create(three, "MODE", "primary", "MAXLAG", "1500")
    primary = cluster.wait_leader("p")
    deaf = cluster.others(primary)[0]
    assert primary.ask("SET", "p:a", "1") == "OK"
    wait_until(lambda: deaf.ask("GET", "p:a") == b"1")
    cluster.isolate(deaf, outbound=False)

    def is_stale():
        reply = deaf.ask("GET", "p:a")
        return isinstance(reply, Error) and reply.code == "STALE"
    wait_until(is_stale, 20)
    cluster.heal()
    wait_until(lambda: primary.ask("SET", "p:a", "2") == "OK")
    wait_until(lambda: deaf.ask("GET", "p:a") == b"2", 20)
