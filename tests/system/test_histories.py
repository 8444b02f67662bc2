# SPDX-License-Identifier: Apache-2.0
"""Clients on few keys, while servers are killed and cut off: is what they saw linearizable?"""
import random
import threading
import time

import pytest

from linear import Op, violation
from wire import Closed, Error

APPLIED_NOT = ("NOLEADER", "NOQUORUM", "STALE", "FULL")


# ---- the checker itself ----

def op(kind, value, begin, end, **kwargs):
    return Op(kind, value, begin, end, **kwargs)


@pytest.mark.parametrize("ops", [
    [],
    [op("write", "1", 0, 1), op("read", "1", 2, 3)],
    [op("write", "1", 0, 5), op("read", None, 1, 2), op("read", "1", 3, 4)],
    [op("write", "1", 0, 1, unknown=True), op("read", None, 2, 3), op("read", "1", 4, 5)],
    [op("write", "1", 0, 3), op("write", "2", 0, 3), op("read", "1", 4, 5)],
    [op("write", "1", 0, 1), op("cas", ("1", "2"), 2, 3, result=True),
     op("cas", ("1", "3"), 2, 3, result=False), op("read", "2", 4, 5)],
    [op("incr", 1, 0, 5, result=2), op("incr", 1, 0, 5, result=1)],
    [op("incr", 1, 0, 1, unknown=True), op("incr", 1, 2, 3, result=2)],
    [op("incr", 1, 0, 1, unknown=True), op("incr", 1, 2, 3, result=1),
     op("incr", 1, 2, 3, unknown=True), op("incr", 1, 4, 5, result=4)],
    [op("write", "1", 0, 1), op("cas", ("1", "2"), 2, 3, unknown=True),
     op("cas", ("2", "3"), 4, 5, unknown=True), op("read", "3", 6, 7)],
    [op("write", "1", 0, 1), op("cas", ("1", "2"), 2, 3, unknown=True), op("read", "1", 4, 5)],
])
def test_the_checker_accepts(ops):
    assert violation(ops) is None


@pytest.mark.parametrize("ops", [
    [op("write", "1", 0, 1), op("read", None, 2, 3)],                       # stale
    [op("read", "1", 0, 1), op("write", "1", 2, 3)],                        # from the future
    [op("write", "1", 0, 5), op("read", "1", 1, 2), op("read", None, 3, 4)],  # goes back
    [op("write", "1", 0, 1), op("write", "2", 2, 3), op("read", "1", 4, 5)],  # lost update
    [op("write", "1", 0, 1, unknown=True), op("read", "1", 2, 3), op("read", None, 4, 5)],
    [op("cas", ("1", "2"), 0, 1, result=True)],
    [op("write", "1", 0, 1), op("cas", ("1", "2"), 2, 3, result=True),
     op("cas", ("1", "3"), 2, 3, result=True)],
    [op("incr", 1, 0, 1, result=1), op("incr", 1, 2, 3, result=1)],
    [op("incr", 1, 0, 1, result=1), op("incr", 1, 2, 3, result=3)],
    [op("incr", 1, 0, 1, result=1), op("incr", 1, 2, 3, result=3),
     op("incr", 1, 4, 5, unknown=True)],
    [op("write", "1", 0, 1), op("cas", ("2", "3"), 2, 3, unknown=True), op("read", "3", 4, 5)],
])
def test_the_checker_refuses(ops):
    assert violation(ops) is not None


def test_the_checker_is_quick_with_many_unknown_outcomes():
    """As in a storm on a busy machine: a search that tries all of their subsets never ends."""
    rng = random.Random(1)
    counter, register, count, value = [], [], 0, None
    for i in range(600):
        if i % 3 == 0:
            counter.append(op("incr", 1, i, 0, unknown=True))
            register.append(op("cas", (value, f"u{i}"), i, 0, unknown=True))
            count += rng.random() < 0.5
        else:
            count += 1
            counter.append(op("incr", 1, i, i + 2.5, result=count))
            value = str(i)
            register.append(op("write", value, i, i + 0.5))
    assert violation(counter) is None
    assert violation(register) is None


# ---- recording ----

class History:
    """Clients that work on the keys, each with one operation at a time."""

    def __init__(self, cluster, keys, clients, seed, pause_s=0.02):
        self.cluster, self.keys, self.pause_s = cluster, keys, pause_s
        self.ops = {k: [] for k in keys}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(i, random.Random(seed + i)),
                                         daemon=True) for i in range(clients)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()

    def _request(self, r, key, number):
        kind = r.choice(["write", "read", "read", "cas"])
        if key.endswith("counter"):
            kind = r.choice(["incr", "incr", "read"])
        if kind == "write":
            return kind, f"{number}", ("SET", key, f"{number}")
        if kind == "cas":
            with self.lock:
                seen = [o.value for o in self.ops[key][-8:] if o.kind in ("write", "read")]
            old = r.choice([v for v in seen if v is not None] or ["0"])
            return kind, (old, f"{number}"), ("SET", key, f"{number}", "IFEQ", old)
        return (kind, 1, ("INCR", key)) if kind == "incr" else (kind, None, ("GET", key))

    def _work(self, client, r):
        conn, number = None, client * 1000000
        while not self.stopping.is_set():
            key = r.choice(self.keys)
            number += 1
            if conn is None:
                try:
                    conn = r.choice(self.cluster.servers).conn(timeout=8)
                except OSError:
                    time.sleep(0.05)
                    continue
            kind, value, request = self._request(r, key, number)
            begin = time.monotonic()
            try:
                reply = conn(*request)
            except (OSError, Closed):
                reply = None
                conn.close()
                conn = None
                self._keep(key, Op(kind, value, begin, 0, unknown=True))
                continue
            end = time.monotonic()
            if isinstance(reply, Error):
                assert reply.code in (*APPLIED_NOT, "UNCERTAIN"), reply
                if reply.code == "UNCERTAIN":
                    self._keep(key, Op(kind, value, begin, 0, unknown=True))
                if r.random() < 0.3:
                    conn.close()
                    conn = None
            elif kind == "read":
                self._keep(key, Op(kind, reply and reply.decode(), begin, end))
            elif kind == "cas":
                self._keep(key, Op(kind, value, begin, end, result=reply == "OK"))
            else:
                self._keep(key, Op(kind, value, begin, end, result=reply))
            time.sleep(self.pause_s * r.random())

    def _keep(self, key, one):
        with self.lock:
            self.ops[key].append(one)

    def check(self):
        for key, ops in self.ops.items():
            known = sum(not o.unknown for o in ops)
            print(f"{key}: {known} operations, {len(ops) - known} of unknown outcome")
            assert known > 50, "the history is too thin to show anything"
            bad = violation(ops)
            assert bad is None, f"{key} is not linearizable around:\n" + \
                "\n".join(map(repr, bad))
        self.check_counters()

    def check_counters(self):
        """Acknowledged increments are never lost, and none is counted twice."""
        for key in self.keys:
            if not key.endswith("counter"):
                continue
            acked = [o.result for o in self.ops[key] if o.kind == "incr" and not o.unknown]
            unknown = sum(o.kind == "incr" and o.unknown for o in self.ops[key])
            assert len(set(acked)) == len(acked), "one number was given twice"
            final = int(self.cluster.any_running().ask("GET", key) or 0)
            assert len(acked) <= final <= len(acked) + unknown


KEYS = ["a", "b", "n-counter"]


def keys_of(keyspace):
    return KEYS if keyspace == "default" else [f"{keyspace}:{k}" for k in KEYS]


def settle(cluster, *keyspaces):
    cluster.wait_ready()
    cluster.wait_writes()
    for k in keyspaces:
        cluster.wait_equal_digests(k)


def test_history_without_faults(make_cluster):
    cluster = make_cluster(3)
    with History(cluster, KEYS, clients=6, seed=1) as history:
        time.sleep(2)
    history.check()


SEEDS = [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]


@pytest.mark.parametrize("seed", SEEDS)
def test_history_with_kills(make_cluster, seed):
    cluster = make_cluster(3)
    r = random.Random(seed)
    with History(cluster, KEYS, clients=6, seed=seed) as history:
        for _ in range(4):
            time.sleep(r.uniform(0.3, 1.0))
            victim = cluster.leader() if r.random() < 0.7 else r.choice(cluster.servers)
            victim = victim or cluster[0]
            victim.kill9()
            time.sleep(r.uniform(0.0, 2.5))
            cluster.restart(victim)
        time.sleep(1)
        settle(cluster, "default")
    history.check()


@pytest.mark.parametrize("seed", SEEDS)
def test_history_with_partitions(make_cluster, seed):
    """R16, R17, R51: cuts of all shapes, both ways and one way."""
    cluster = make_cluster(3, partitions=True)
    r = random.Random(seed)
    names = [s.name for s in cluster.servers]
    pairs = [(a, b) for a in names for b in names if a != b]
    with History(cluster, KEYS, clients=6, seed=seed) as history:
        for _ in range(4):
            time.sleep(r.uniform(0.3, 0.8))
            shape = r.choice(["leader", "leader-in", "leader-out", "random"])
            leader = cluster.leader() or cluster[0]
            if shape == "random":
                cluster.network.cut(*r.sample(pairs, r.randrange(1, 5)))
            else:
                cluster.isolate(leader, shape != "leader-out", shape != "leader-in")
            time.sleep(r.uniform(1.0, 3.0))
            cluster.heal()
        settle(cluster, "default")
    history.check()


def test_history_with_pauses(make_cluster):
    """R26: processes that stop for a while and go on as if nothing had been."""
    cluster = make_cluster(3)
    r = random.Random(3)
    with History(cluster, KEYS, clients=6, seed=3) as history:
        for _ in range(3):
            time.sleep(r.uniform(0.3, 0.8))
            victim = cluster.leader() or cluster[0]
            victim.pause()
            time.sleep(r.uniform(0.5, 3.0))
            victim.resume()
        settle(cluster, "default")
    history.check()


def test_history_with_handovers(make_cluster):
    """R59, R99: the lead moves to and fro under load; leases end with it."""
    cluster = make_cluster(3)
    with History(cluster, KEYS, clients=6, seed=4) as history:
        for i in range(12):
            time.sleep(0.2)
            leader = cluster.leader()
            if leader is not None:
                leader.ask("FAILOVER", "default", "TO", cluster[i % 3].name)
        settle(cluster, "default")
    history.check()


@pytest.mark.parametrize("read", [
    "lease", pytest.param("leader", marks=pytest.mark.long)])
def test_history_of_other_reads_while_the_leader_changes(make_cluster, read):
    """READ lease stays linearizable while clocks tick alike; READ leader without faults."""
    cluster = make_cluster(3)
    assert cluster[0].ask("KEYSPACE", "CREATE", "r", "MODE", "raft", "READ", read) == "OK"
    cluster.wait_ready()
    with History(cluster, keys_of("r"), clients=6, seed=5) as history:
        for _ in range(3):
            time.sleep(0.7)
            if read == "lease":
                victim = cluster.leader("r") or cluster[0]
                victim.pause()
                time.sleep(2.0)
                victim.resume()
        settle(cluster, "r")
    history.check()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_long_history_with_everything(make_cluster, seed):
    cluster = make_cluster(3, partitions=True)
    r = random.Random(seed)
    names = [s.name for s in cluster.servers]
    pairs = [(a, b) for a in names for b in names if a != b]
    with History(cluster, KEYS, clients=8, seed=seed) as history:
        for _ in range(15):
            time.sleep(r.uniform(0.2, 1.0))
            what = r.choice(["kill", "pause", "cut", "failover", "term"])
            victim = r.choice([cluster[0], cluster[1], cluster[2], cluster.leader() or cluster[0]])
            if what == "kill":
                victim.kill9()
                time.sleep(r.uniform(0.0, 2.0))
                cluster.restart(victim)
            elif what == "term":
                assert victim.terminate() == 0
                cluster.restart(victim)
            elif what == "pause":
                victim.pause()
                time.sleep(r.uniform(0.2, 3.0))
                victim.resume()
            elif what == "cut":
                cluster.network.cut(*r.sample(pairs, r.randrange(1, 6)))
                time.sleep(r.uniform(0.5, 3.0))
                cluster.heal()
            else:
                cluster[r.randrange(3)].ask("FAILOVER", "default", "TO", victim.name)
        settle(cluster, "default")
    history.check()
