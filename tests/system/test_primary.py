# SPDX-License-Identifier: Apache-2.0
"""Leader-follower keyspaces: what each level promises, and what is told of what it loses."""
import os
import shutil
import threading
import time

import pytest
import redis

from cluster import wait_until
from load import Load, rolled_back, seconds_until_write
from wire import Closed, Error, table

QUICK = ["--request-timeout", "2s"]
CUT_OFF = ("NOQUORUM", "NOLEADER", "UNCERTAIN")
ELECTION_S = 1.0  # the election timeout is at least this, and less than twice this
LEVELS = [("async", "fsync"), ("1", "memory"),
          *[pytest.param(*level, marks=pytest.mark.long)
            for level in (("1", "fsync"), ("all", "fsync"), ("async", "memory"))]]


def with_primary(cluster, *options):
    """The keyspace p of MODE primary, whole."""
    assert cluster[0].ask("KEYSPACE", "CREATE", "p", "MODE", "primary", *options) == "OK"
    if "manual" in options:
        cluster.voters["p"] = 1
    cluster.wait_ready()
    return cluster


def reply_of(server, *args, timeout=12):
    """The reply; an exception's name if there is none."""
    try:
        with server.conn(timeout=timeout) as c:
            return c(*args)
    except (OSError, Closed) as e:
        return Error(type(e).__name__)


def kill_all(cluster):
    for s in cluster.servers:
        s.process.kill()
    for s in cluster.servers:
        s.process.wait(10)


def wait_whole(cluster, keyspace="p"):
    cluster.wait_ready()
    cluster.wait_equal_digests(keyspace)


def acked_alone(server, n, tag):
    """key -> value of what a primary acknowledges that nobody hears any more."""
    with server.conn() as c:
        items = {f"p:{tag}{i}": f"v{i}" for i in range(n)}
        replies = c.pipeline([("SET", k, v) for k, v in items.items()])
    assert replies == ["OK"] * n, [r for r in replies if r != "OK"][:3]
    return items


def check_reported(cluster, server, items):
    """All of them are in rollback/ of that server, which has counted them, and nowhere else."""
    kept = rolled_back(cluster)
    assert all(v in kept.get(k, ()) for k, v in items.items()), "not all is in rollback/"
    info = server.info()
    assert int(info["rollback_entries"]) >= len(items)
    assert int(info["rollback_files"]) >= 1
    assert "rollback/" in server.log_text()
    for s in cluster.servers:
        with s.conn() as c:
            assert set(c.pipeline([("GET", k) for k in items])) == {None}


# ---- what a failover costs ----

def test_async_loses_what_nobody_else_had_and_reports_it(make_cluster):
    """P1: the primary dies behind the answers, before anybody else has the writes."""
    cluster = with_primary(make_cluster(3, partitions=True))
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    assert primary.ask("SET", "p:safe", "1") == "OK"
    cluster.wait_equal_digests("p")
    cluster.isolate(primary)
    lost = acked_alone(primary, 50, "lost")
    primary.kill9()
    cluster.wait_leader("p", rest[0], other_than=primary)
    seconds_until_write(rest[0], "p:after")
    cluster.heal()
    cluster.restart(primary)
    wait_whole(cluster)
    check_reported(cluster, primary, lost)
    for s in cluster.servers:
        assert s.ask("GET", "p:safe") == b"1"
    # It is told once: a later start finds no second file.
    files = primary.info()["rollback_files"]
    primary.kill9()
    cluster.restart(primary)
    wait_whole(cluster)
    assert primary.info()["rollback_files"] == files


@pytest.mark.long
def test_async_reports_also_when_the_primary_is_rebuilt_whole(make_cluster):
    """P1, P19: the others' logs no longer reach back to where it left them."""
    cluster = with_primary(make_cluster(3, partitions=True, args=["--wal-keep", "64mb"]))
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    cluster.isolate(primary)
    lost = acked_alone(primary, 20, "lost")
    primary.kill9()
    leader = cluster.wait_leader("p", rest[0], other_than=primary)
    with leader.conn(timeout=60) as c:
        for start in range(0, 330 * 2, 8):
            many = [("SET", f"p:big{i % 40}", b"x" * 500000) for i in range(start, start + 8)]
            assert set(c.pipeline(many)) == {"OK"}
    cluster.heal()
    cluster.network.delay(0.2, (leader.name, primary.name))
    primary.start()
    wait_until(lambda: is_sent_a_snapshot(cluster, leader, primary), 20, "it is rebuilt", 0.01)
    cluster.heal()
    cluster.wait_ready(90)
    cluster.wait_equal_digests("p", within_s=60)
    check_reported(cluster, primary, lost)


def is_sent_a_snapshot(cluster, leader, server):
    return any(row["name"] == server.name and row["trouble"] == "it is sent a snapshot"
               for row in cluster.shard_rows(leader, "p"))


@pytest.mark.parametrize("ack,durability", LEVELS)
def test_kill9_of_each_primary_under_load(make_cluster, ack, durability):
    """P1, P29: with ACK 1 or more nothing is lost, whatever the DURABILITY; with async what
    is lost is in rollback/."""
    cluster = with_primary(make_cluster(3), "ACK", ack, "DURABILITY", durability)
    with Load(cluster.servers, threads=4, prefix="p:w") as load:
        for _ in range(3):
            load.wait_acked(100)
            primary = cluster.wait_leader("p")
            primary.kill9()
            if ack != "all":
                load.wait_acked(50)
            cluster.restart(primary)
            cluster.wait_ready()
        load.wait_acked(50)
    wait_whole(cluster)
    for s in cluster.servers:
        lost = load.check(s, rolled_back(cluster) if ack == "async" else None)
    print(f"{len(load.acked)} acknowledged, {lost} of them rolled back; {load.errors}")


@pytest.mark.parametrize("ack,durability", LEVELS)
def test_kill9_of_all_loses_nothing(make_cluster, ack, durability):
    """P29: processes that die leave their writes with the operating system."""
    cluster = with_primary(make_cluster(3), "ACK", ack, "DURABILITY", durability)
    with Load(cluster.servers, threads=4, prefix="p:w", batch=5) as load:
        load.wait_acked(300)
        kill_all(cluster)
    for s in cluster.servers:
        s.start()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s, rolled_back(cluster) if ack == "async" else None)
    assert all(int(s.info()["power_losses"]) == 0 for s in cluster.servers)


@pytest.mark.parametrize("ack", ["async", "1"])
def test_an_isolated_primary_stops_acknowledging(make_cluster, ack):
    """P3: what it took in meanwhile gives way, and is kept aside."""
    cluster = with_primary(make_cluster(3, partitions=True, args=QUICK), "ACK", ack)
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    cluster.wait_equal_digests("p")
    cluster.isolate(primary)
    with Load([primary], threads=2, prefix="p:alone", pause_s=0.005) as alone:
        seconds_until_write(rest[0], "p:probe")
        time.sleep(2 * ELECTION_S)
        acked = len(alone.acked)
        time.sleep(ELECTION_S)
        assert len(alone.acked) == acked, "it acknowledges without a majority"
    assert set(alone.errors) <= set(CUT_OFF), alone.errors
    assert alone.errors.get("NOLEADER", 0) + alone.errors.get("NOQUORUM", 0) > 0
    assert (acked > 0) == (ack == "async")
    cluster.heal()
    wait_whole(cluster)
    if acked:
        check_reported(cluster, primary, alone.acked)
    alone.check(rest[0], rolled_back(cluster))
    # A write of unknown outcome may have happened or not, but leaves its trace all the same.
    kept = rolled_back(cluster)
    for key in alone.unknown:
        assert rest[0].ask("GET", key) is not None or key in kept


@pytest.mark.parametrize("ack", ["async", "1"])
def test_a_paused_primary_wakes_with_writes_queued(make_cluster, ack):
    """P4: SIGSTOP past the election; whatever it answers is there or is told."""
    cluster = with_primary(make_cluster(3), "ACK", ack)
    primary = cluster.wait_leader("p")
    other = cluster.others(primary)[0]
    assert primary.ask("SET", "p:a", "old") == "OK"
    queued = [primary.conn(timeout=30) for _ in range(4)]
    for c in queued:
        assert c("PING") == "PONG"
    primary.pause()
    for i, c in enumerate(queued):
        c.send("SET", f"p:queued{i}", "1")
    cluster.wait_leader("p", other, other_than=primary)
    seconds_until_write(other, "p:a-probe")
    assert reply_of(other, "SET", "p:a", "new") == "OK"
    time.sleep(ELECTION_S)
    primary.resume()
    replies = [c.read() for c in queued]
    for c in queued:
        c.close()
    wait_whole(cluster)
    kept = rolled_back(cluster)
    print(replies)
    for i, reply in enumerate(replies):
        there = other.ask("GET", f"p:queued{i}") == b"1"
        if reply == "OK":
            assert there or (ack == "async" and f"p:queued{i}" in kept)
        else:
            assert reply.code in CUT_OFF, reply
    for s in cluster.servers:
        assert s.ask("GET", "p:a") == b"new"


# ---- who may win ----

def test_an_emptied_primary_that_is_quick_does_not_win(make_cluster):
    """P9, P10: its data directory is gone, its name and address are the same."""
    cluster = with_primary(make_cluster(3), "ACK", "1")
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    with Load([primary], threads=3, prefix="p:w") as load:
        load.wait_acked(200)
    primary.kill9()
    shutil.rmtree(primary.data)
    primary.start(join=rest[0].advertised)
    seconds_until_write(rest[0], "p:after")
    assert cluster.leader("p", rest[0]) in rest
    time.sleep(2 * ELECTION_S)
    for s in rest:
        load.check(s)
    if primary.is_running:  # taken in as a new one; or refused, and it has ended
        wait_until(lambda: primary.ask("GET", "p:after") == b"1", 20)
        load.check(primary)
    else:
        assert "refuses this server" in primary.log_text()


def test_an_old_copy_of_a_disk_does_not_win(make_cluster):
    """P9, P10: with the fuller one there, the fuller one leads, and nothing is taken back."""
    cluster = with_primary(make_cluster(3), "ACK", "1")
    primary = cluster.wait_leader("p")
    old, full = cluster.others(primary)
    assert primary.ask("SET", "p:first", "1") == "OK"
    assert old.terminate() == 0
    shutil.copytree(old.data, old.data + ".copy")
    cluster.restart(old)
    cluster.wait_ready()
    with Load([cluster.wait_leader("p")], threads=3, prefix="p:w") as load:
        load.wait_acked(300)
    cluster.wait_equal_digests("p")
    kill_all(cluster)
    shutil.rmtree(old.data)
    os.rename(old.data + ".copy", old.data)
    old.start()
    full.start()
    seconds_until_write(full, "p:probe")
    assert cluster.leader("p", full) is full
    primary.start()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def test_who_lacks_what_was_acknowledged_stays_down(make_cluster):
    """P8: two of three went on, and died; the third comes back first, and is not elected."""
    cluster = with_primary(make_cluster(3, args=QUICK), "ACK", "1")
    primary = cluster.wait_leader("p")
    behind, other = cluster.others(primary)
    assert primary.ask("SET", "p:old", "1") == "OK"
    cluster.wait_equal_digests("p")
    behind.kill9()
    with Load([primary], threads=3, prefix="p:w") as load:
        load.wait_acked(200)
    kill_all(cluster)
    behind.start()
    wait_until(lambda: behind.ask("GET", "p:old") == b"1", 15)
    reply = reply_of(behind, "SET", "p:no", "1")
    assert isinstance(reply, Error) and reply.code in CUT_OFF, reply
    other.start()
    seconds_until_write(behind, "p:probe")
    assert cluster.leader("p", behind) is other
    primary.start()
    wait_whole(cluster)
    for s in cluster.servers:
        load.check(s)


def test_one_that_was_only_just_added_is_not_elected(make_cluster):
    """P11: of two servers one is a learner; alone it reads, and leads nothing."""
    cluster = with_primary(make_cluster(2, args=QUICK))
    first = cluster.wait_leader("p")
    second, = cluster.others(first)
    assert first.ask("SET", "p:a", "1") == "OK"
    wait_until(lambda: second.ask("GET", "p:a") == b"1")
    first.kill9()
    time.sleep(2.5 * ELECTION_S)
    reply = reply_of(second, "SET", "p:a", "2")
    assert isinstance(reply, Error) and reply.code in CUT_OFF, reply
    assert second.ask("GET", "p:a") == b"1"


def test_many_primaries_die_at_once(make_cluster):
    """P18: of 64 shards all that one server led; each has a new primary soon."""
    cluster = with_primary(make_cluster(3), "SHARDS", "64", "ACK", "1")
    keys = [f"p:k{i}" for i in range(2000)]
    with cluster[0].conn() as c:
        assert set(c.pipeline([("SET", k, k) for k in keys])) == {"OK"}

    def led_by(server):
        return sum(r["role"] == "leader" for r in cluster.shard_rows(server, "p")
                   if r["name"] == server.name)
    victim = max(cluster.servers, key=led_by)
    print(f"{victim.name} leads {led_by(victim)} of 64")
    assert led_by(victim) > 0
    victim.kill9()
    began = time.monotonic()
    rest = cluster.others(victim)
    with rest[0].conn(timeout=30) as c:
        assert set(c.pipeline([("SET", f"{k}:again", k) for k in keys])) == {"OK"}
    print(f"all written {time.monotonic() - began:.1f} s after the death")
    assert sum(map(led_by, rest)) == 64
    for s in rest:
        with s.conn(timeout=30) as c:
            assert c.pipeline([("GET", k) for k in keys]) == [k.encode() for k in keys]


def test_primaries_go_on_when_the_meta_shard_has_no_majority(make_cluster):
    """P30: it names who is to hold what; who leads, the holders settle among themselves.  Three
    hold p, all five are the meta shard's voters."""
    cluster = with_primary(make_cluster(5, args=QUICK), "ACK", "1")
    names = {r["name"] for r in cluster.shard_rows(cluster[0], "p")}
    holders = [s for s in cluster.servers if s.name in names]
    rest = [s for s in cluster.servers if s not in holders]
    assert len(holders) == 3
    primary = cluster.wait_leader("p")
    follower = next(s for s in holders if s is not primary)
    last = next(s for s in holders if s not in (primary, follower))
    with Load([primary], threads=2, prefix="p:w") as load:
        load.wait_acked(50)
        for s in (*rest, follower):
            s.kill9()
        time.sleep(2.5 * ELECTION_S)
        load.wait_acked(50)
        assert not load.errors, load.errors
    reply = reply_of(primary, "KEYSPACE", "ALTER", "p", "MAXLAG", "60000")
    assert isinstance(reply, Error), reply
    for s in (primary, last):
        assert s.ask("GET", "p:w0:1") is not None
    for s in (*rest, follower):
        s.start()
    wait_until(lambda: primary.ask("SET", "p:after", "1") == "OK", 20)
    load.check(primary)


def test_primary_and_meta_leader_die_together(make_cluster):
    """P17: two elections at once, each of its own group of five."""
    cluster = make_cluster(5, args=QUICK)
    cluster.voters["p"] = 5
    with_primary(cluster, "REPLICAS", "5", "ACK", "2")
    primary = cluster.wait_leader("p")
    name = next(r["name"] for r in cluster.shard_rows()
                if r["keyspace"] == "(meta)" and r["role"] == "leader")
    meta = next(s for s in cluster.servers if s.name == name)
    load = Load([primary], threads=3, prefix="p:w")
    with load:
        load.wait_acked(100)
        for s in {primary.name: primary, meta.name: meta}.values():
            s.process.kill()
    left = next(s for s in cluster.servers if s not in (primary, meta))
    took = seconds_until_write(left, "p:probe", 30)
    print(f"writes go on after {took:.2f} s")
    wait_until(lambda: left.ask("KEYSPACE", "ALTER", "p", "MAXLAG", "60000") == "OK", 20)
    load.check(cluster.leader("p", left))


def test_one_entry_larger_than_any_buffer(make_cluster):
    """P21: a follower that was away takes it in, and no second time."""
    cluster = with_primary(make_cluster(3), "ACK", "1")
    primary = cluster.wait_leader("p")
    away = cluster.others(primary)[0]
    away.kill9()
    huge = b"x" * 40_000_000  # UNCERTAIN where a busy machine elects somebody else meanwhile
    wait_until(lambda: reply_of(primary, "SET", "p:huge", huge, timeout=60) == "OK", 60)
    wait_until(lambda: reply_of(primary, "SET", "p:small", "1") == "OK", 20)
    away.start()
    wait_whole(cluster)
    assert away.ask("STRLEN", "p:huge") == 40_000_000
    assert away.ask("GET", "p:small") == b"1"


# ---- levels ----

def test_ack_without_its_followers_is_no_quiet_downgrade(make_cluster):
    """P22: NOQUORUM before, UNCERTAIN in flight, and never OK."""
    cluster = with_primary(make_cluster(3, args=QUICK), "ACK", "2")
    primary = cluster.wait_leader("p")
    away, stays = cluster.others(primary)
    assert primary.ask("SET", "p:a", "1") == "OK"
    away.pause()
    replies = []
    deadline = time.monotonic() + 15
    while not replies or replies[-1].code != "NOQUORUM":
        replies.append(reply_of(primary, "SET", f"p:n{len(replies)}", "1"))
        assert isinstance(replies[-1], Error), "acknowledged with one follower of two"
        assert replies[-1].code in ("UNCERTAIN", "NOQUORUM"), replies[-1]
        assert time.monotonic() < deadline, replies
    assert replies[0].code == "UNCERTAIN", replies
    assert reply_of(stays, "SET", "p:forwarded", "1").code == "NOQUORUM"
    assert cluster.leader("p", primary) is primary
    away.resume()
    wait_until(lambda: primary.ask("SET", "p:again", "1") == "OK", 15)
    wait_whole(cluster)
    # What was refused before it was begun is not there; what was uncertain was applied.
    assert primary.ask("GET", f"p:n{len(replies) - 1}") is None
    assert primary.ask("GET", "p:forwarded") is None
    assert primary.ask("GET", "p:n0") == b"1"


@pytest.mark.parametrize("options", [
    ("ACK", "1", "FAILOVER", "manual"), pytest.param(("ACK", "1"), marks=pytest.mark.long),
    pytest.param(("ACK", "all", "DURABILITY", "memory"), marks=pytest.mark.long)])
def test_with_all_followers_gone_nothing_is_acknowledged(make_cluster, options):
    """P22, P23: also where the primary goes on alone, which is what manual allows."""
    cluster = with_primary(make_cluster(3, args=QUICK), *options)
    primary = cluster.wait_leader("p")
    assert primary.ask("MSET", "p:a", "1", "p:b", "1") == "OK"
    for s in cluster.others(primary):
        s.kill9()
    seen = []
    deadline = time.monotonic() + 15
    while "NOQUORUM" not in seen and "NOLEADER" not in seen:
        reply = reply_of(primary, "SET", "p:a", "2")
        assert isinstance(reply, Error) and reply.code in CUT_OFF, reply
        seen.append(reply.code)
        assert time.monotonic() < deadline, seen
    assert reply_of(primary, "GET", "p:b") == b"1", "READ any goes on alone"
    # The value of a write that is not acknowledged is nobody's to see while its primary leads.
    read = reply_of(primary, "GET", "p:a")
    assert read == b"1" or isinstance(read, Error) and read.code in CUT_OFF, read
    for s in cluster.others(primary):
        s.start()
    cluster.wait_ready()
    wait_until(lambda: primary.ask("SET", "p:a", "3") == "OK", 15)


def test_manual_failover_elects_nobody_and_goes_on_alone(make_cluster):
    """FAILOVER manual: one voter.  Without followers it goes on; without it nobody does."""
    cluster = with_primary(make_cluster(3, args=QUICK), "FAILOVER", "manual")
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    with Load([primary], threads=2, prefix="p:w") as load:
        load.wait_acked(100)
        for s in rest:
            s.kill9()
        load.wait_acked(300)
    assert not load.errors, load.errors
    for s in rest:
        s.start()
    wait_whole(cluster)
    with Load([primary], threads=2, prefix="p:x") as more:
        more.wait_acked(100)
        primary.kill9()
    time.sleep(4 * ELECTION_S)
    for s in rest:
        assert cluster.leader("p", s) in (None, primary)
        reply = reply_of(s, "SET", "p:no", "1")
        assert isinstance(reply, Error) and reply.code in CUT_OFF, reply
        assert s.ask("GET", "p:w0:1") is not None, "READ any goes on at a follower"
    cluster.restart(primary)
    wait_whole(cluster)
    assert cluster.leader("p") is primary
    for s in cluster.servers:
        load.check(s)
        more.check(s)


def test_a_keyspace_moves_between_its_levels_under_load(make_cluster):
    """P33: async, ACK 1, raft and back, with kill -9 of the leader at each that keeps all."""
    cluster = with_primary(make_cluster(3))
    steps = [("MODE", "primary", "ACK", "1"), ("MODE", "raft"),
             ("MODE", "primary", "ACK", "1", "DURABILITY", "memory"),
             ("MODE", "raft"), ("MODE", "primary", "ACK", "1", "READ", "lease")]
    kept = []
    with Load(cluster.servers, threads=3, prefix="p:all") as through:
        through.wait_acked(100)
        for i, step in enumerate(steps):
            wait_until(lambda s=step: cluster[0].ask("KEYSPACE", "ALTER", "p", *s) == "OK")
            cluster.wait_ready()
            time.sleep(ELECTION_S)  # it takes effect in the shard's log, soon after the answer
            with Load(cluster.servers, threads=2, prefix=f"p:s{i}-") as load:
                load.wait_acked(50)
                leader = cluster.wait_leader("p")
                leader.kill9()
                load.wait_acked(50)
                cluster.restart(leader)
                cluster.wait_ready()
            kept.append(load)
    wait_whole(cluster)
    for s in cluster.servers:
        for load in kept:
            load.check(s)
    lost = through.check(cluster[0], rolled_back(cluster))
    assert lost == 0, "it began with async, and no leader died before ACK 1 was in force"



# ---- reads ----

@pytest.mark.parametrize("ack", ["async", pytest.param("1", marks=pytest.mark.long)])
def test_a_connection_sees_its_own_writes_at_any_server(make_cluster, ack):
    """READ any: from the own replica, once it has them."""
    cluster = with_primary(make_cluster(3), "ACK", ack)
    with Load(cluster.servers, threads=3, prefix="p:noise"):
        for s in cluster.servers:
            with s.conn() as c:
                for i in range(100):
                    assert c("SET", f"p:own{s.name}", i) == "OK"
                    assert c("GET", f"p:own{s.name}") == b"%d" % i
                for i in range(100):
                    replies = c.pipeline([("INCR", f"p:n{s.name}"), ("GET", f"p:n{s.name}")])
                    assert replies == [i + 1, b"%d" % (i + 1)]


@pytest.mark.parametrize("options", [("MODE", "primary"), ("MODE", "raft", "READ", "any")])
def test_no_update_is_lost_between_watch_and_exec(make_cluster, options):
    """READ any: what is read behind WATCH is no older than what EXEC compares with."""
    cluster = make_cluster(3)
    assert cluster[0].ask("KEYSPACE", "CREATE", "p", *options) == "OK"
    cluster.wait_ready()
    assert cluster[0].ask("SET", "p:n", "0") == "OK"
    cluster.wait_equal_digests("p")
    done, wrong, until = [0] * 6, [], time.monotonic() + 2

    def work(i):
        with cluster[i % 3].conn() as c:
            while time.monotonic() < until:
                c("WATCH", "p:n")
                n = int(c("GET", "p:n"))
                result = c.transaction(("SET", "p:n", n + 1))
                done[i] += result == ["OK"]
                again = int(c("GET", "p:n"))
                if result not in (["OK"], None) or again < n + (result == ["OK"]):
                    wrong.append((n, result, again))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:5]
    cluster.wait_equal_digests("p")
    assert int(cluster[0].ask("GET", "p:n")) == sum(done) > 0


def test_reads_go_on_without_primary_and_without_majority(make_cluster):
    cluster = with_primary(make_cluster(3, args=QUICK))
    assert cluster[0].ask("SET", "p:a", "1") == "OK"
    cluster.wait_equal_digests("p")
    primary = cluster.wait_leader("p")
    left, other = cluster.others(primary)
    primary.kill9()
    for _ in range(20):
        assert left.ask("GET", "p:a") == b"1"
    other.kill9()
    time.sleep(2 * ELECTION_S)
    assert left.ask("GET", "p:a") == b"1"
    reply = reply_of(left, "SET", "p:a", "2")
    assert isinstance(reply, Error) and reply.code in CUT_OFF, reply
    assert left.ask("GET", "p:a") == b"1"


def is_stale(server):
    reply = reply_of(server, "GET", "p:a")
    return isinstance(reply, Error) and reply.code == "STALE"


def test_maxlag_bounds_what_a_follower_may_answer(make_cluster):
    """A follower cut off says STALE; an idle keyspace is no old one."""
    cluster = with_primary(make_cluster(3, partitions=True, args=QUICK), "MAXLAG", "1500")
    primary = cluster.wait_leader("p")
    alone, other = cluster.others(primary)
    assert primary.ask("KEYSPACE", "ALTER", "default", "READ", "any") == "OK"
    assert primary.ask("SET", "p:a", "1") == "OK"
    time.sleep(3)  # nothing is written: heartbeats vouch for it
    for s in cluster.servers:
        with s.conn() as c:
            assert set(c.pipeline([("GET", "p:a")] * 50)) == {b"1"}
    cluster.isolate(alone)
    wait_until(lambda: is_stale(alone), 15, "the follower cut off says so")
    assert primary.ask("SET", "p:a", "2") == "OK"
    for _ in range(3):
        assert is_stale(alone)
    for command in (("DBSIZE",), ("KEYS", "*")):
        reply = reply_of(alone, *command)
        assert isinstance(reply, Error) and reply.code == "STALE", (command, reply)
    assert other.ask("GET", "p:a") == b"2" or wait_until(
        lambda: other.ask("GET", "p:a") == b"2", 5)
    cluster.heal()
    wait_until(lambda: alone.ask("GET", "p:a") == b"2", 15)


@pytest.mark.parametrize("hours", [1, pytest.param(-1, marks=pytest.mark.long)])
def test_maxlag_is_not_fooled_by_the_time_of_day(make_cluster, wall_clock, hours):
    """A follower's wall clock jumps: it answers as before, and is stale as before."""
    cluster = make_cluster(0, partitions=True, args=QUICK)
    clocks = []
    for _ in range(3):
        s = cluster.new_server()
        clocks.append(wall_clock(s))
        s.start(join=cluster[0].advertised if len(cluster) > 1 else None)
        wait_until(lambda s=s: s.ask("PING") == "PONG", 30)
    cluster.wait_ready()
    with_primary(cluster, "MAXLAG", "1500")
    primary = cluster.wait_leader("p")
    alone = cluster.others(primary)[0]
    clock = clocks[cluster.servers.index(alone)]
    assert primary.ask("SET", "p:a", "1") == "OK"
    wait_until(lambda: alone.ask("GET", "p:a") == b"1")
    clock.jump(hours * 3600)
    told = alone.ask("TIME")
    assert abs(int(told[0]) - time.time() - hours * 3600) < 60, "the clock has not jumped"
    forwarded = int(alone.info()["forwarded_requests"])
    for _ in range(20):
        assert alone.ask("GET", "p:a") == b"1"
        time.sleep(0.05)
    assert int(alone.info()["forwarded_requests"]) == forwarded, "it took itself for stale"
    cluster.isolate(alone)
    wait_until(lambda: is_stale(alone), 15)
    clock.jump(-hours * 3600)
    assert is_stale(alone)
    cluster.heal()
    wait_until(lambda: alone.ask("GET", "p:a") == b"1", 15)


def test_followers_remove_nothing_by_themselves(make_cluster):
    """P27: expiry is a delete of the primary's; a follower only hides what is due."""
    cluster = with_primary(make_cluster(3, args=QUICK), "FAILOVER", "manual")
    primary = cluster.wait_leader("p")
    rest = cluster.others(primary)
    with primary.conn() as c:
        c.pipeline([("SET", f"p:e{i}", "1", "PX", "700") for i in range(50)])
    cluster.wait_equal_digests("p")
    before = {s.name: position(cluster, s) for s in rest}
    primary.pause()
    time.sleep(1.5)
    for s in rest:
        with s.conn() as c:
            assert set(c.pipeline([("GET", f"p:e{i}") for i in range(50)])) == {None}
        assert position(cluster, s) == before[s.name], "a follower has changed by itself"
    primary.resume()
    wait_until(lambda: all(position(cluster, s) != before[s.name] for s in rest), 15)
    wait_whole(cluster)
    for s in cluster.servers:
        assert s.ask("GET", "p:e0") is None


def position(cluster, server):
    """(position, digest) of a server's own replica of p."""
    own = next(r["server"] for r in cluster.shard_rows(server, "p") if r["name"] == server.name)
    return next((row["position"], row["digest"])
                for row in map(table, server.ask("KEYSPACE", "DIGEST", "p"))
                if row["server"] == own)


# ---- as Redis clients see it ----

def test_redis_py_asks_for_role_info_and_copies(make_cluster):
    cluster = with_primary(make_cluster(3))
    for s in cluster.servers:
        client = s.redis()
        assert client.set("p:a", s.name) is True
        assert client.wait(2, 5000) == 2
        assert client.wait(3, 100) == 2, "a count, not a promise"
        role = client.role()
        assert role[0] == b"master" and len(role[2]) == 2
        info = client.info("replication")
        assert info["role"] == "master" and info["connected_slaves"] == 2
        assert info["rollback_entries"] == 0 and info["rollback_files"] == 0
        assert info["power_losses"] == 0
        client.close()


def test_clients_that_know_no_sentinel_reconnect_and_go_on(make_cluster):
    """P32: any server will do; each in turn is killed under redis-py."""
    cluster = with_primary(make_cluster(3), "ACK", "1")
    at, written = 0, {}
    client = cluster[0].redis(socket_timeout=5)
    for round_ in range(3):
        cluster.wait_leader("p").kill9()
        deadline = time.monotonic() + 30
        while len(written) < 20 * (round_ + 1):
            assert time.monotonic() < deadline
            key = f"p:r{len(written)}"
            try:
                client.set(key, "1")
                written[key] = "1"
            except redis.ConnectionError:
                at += 1
                client = cluster[at % 3].redis(socket_timeout=5)
            except redis.RedisError:
                time.sleep(0.05)
        for s in cluster.servers:
            if not s.is_running:
                cluster.restart(s)
        cluster.wait_ready()
    wait_whole(cluster)
    for s in cluster.servers:
        assert s.redis().mget(list(written)) == [b"1"] * len(written)


def write_on(client, written, n, within_s=30):
    """n more writes, tried again until they are acknowledged."""
    deadline, upto = time.monotonic() + within_s, len(written) + n
    while len(written) < upto:
        assert time.monotonic() < deadline
        key = f"p:n{len(written)}"
        try:
            client.set(key, "1")
            written[key] = "1"
        except redis.RedisError:
            time.sleep(0.05)


def test_clients_that_ask_sentinels_find_the_next_leader(make_cluster):
    """redis-py's Sentinel and what it asks, with each server as a sentinel at its client port."""
    cluster = with_primary(make_cluster(3), "ACK", "1")
    sentinel = redis.sentinel.Sentinel([(s.host, s.port) for s in cluster.servers],
                                       min_other_sentinels=2, socket_timeout=5)
    client, written = sentinel.master_for("p", socket_timeout=5), {}
    for _ in range(2):
        leader = cluster.wait_leader("p")
        assert wait_until(lambda leader=leader: sentinel.discover_master("p") ==
                          (leader.host, leader.port), 5)
        write_on(client, written, 20)
        replicas = {tuple(a) for a in sentinel.discover_slaves("p")}
        assert replicas == {(s.host, s.port) for s in cluster.servers if s is not leader}
        leader.kill9()
        write_on(client, written, 20)
        assert sentinel.discover_master("p") != (leader.host, leader.port)
        cluster.restart(leader)
        cluster.wait_ready()
    with pytest.raises(redis.sentinel.MasterNotFoundError):
        sentinel.discover_master("nosuch")
    reader = sentinel.slave_for("p", socket_timeout=5)
    wait_until(lambda: reader.get(list(written)[-1]) == b"1", 5)
    assert client.mget(list(written)) == [b"1"] * len(written)


def test_what_sentinel_commands_answer(make_cluster):
    cluster = with_primary(make_cluster(3), "ACK", "1")
    leader = cluster.wait_leader("p")
    for s in cluster.servers:
        wait_until(lambda s=s: s.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "p") ==
                   [leader.host.encode(), str(leader.port).encode()], 5)
        assert s.ask("SENTINEL", "get-master-addr-by-name", "nosuch") is None
        assert "KEYSPACE LIST" in s.ask("SENTINEL", "REPLICAS", "nosuch")
        row = as_map(s.ask("SENTINEL", "MASTER", "p"))
        assert (row["name"], row["flags"], row["num-slaves"]) == ("p", "master", "2")
        assert (row["port"], row["num-other-sentinels"]) == (str(leader.port), "2")
        names = [as_map(m)["name"] for m in s.ask("SENTINEL", "MASTERS")]
        assert sorted(names) == ["default", "p"]
        ports = {as_map(m)["port"] for m in s.ask("SENTINEL", "SENTINELS", "p")}
        assert ports == {str(o.port) for o in cluster.servers if o is not s}
        assert len(s.ask("SENTINEL", "MYID")) == 40
    other = next(s for s in cluster.servers if s is not leader)
    other.kill9()
    wait_until(lambda: "s_down" in [as_map(r)["flags"] for r in
                                    leader.ask("SENTINEL", "SLAVES", "p")
                                    if as_map(r)["port"] == str(other.port)][0], 10)


def as_map(row):
    text = [x.decode() for x in row]
    return dict(zip(text[::2], text[1::2]))
