# SPDX-License-Identifier: Apache-2.0
"""How long nobody can write when the leader is lost, and when it is asked to hand over.

A client writes a counter every 5 ms through a server that survives.  An outage is the longest time
between two acknowledged writes, around the fault.  What was acknowledged must be there afterwards.
"""
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import redis

from systems import Cluster, quietly, say, wait_until

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "system"))
import netns  # noqa: E402  pylint: disable=wrong-import-position

KEY = "failover-count"
PACE_S = 0.005
GIVE_UP_S = 30


class Writer:
    """Counts up in one key; acked is a list of (began, answered, number)."""

    def __init__(self, server, number):
        self.server, self.number = server, number
        self.acked, self.errors = [], []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        client = self.server.client(10)
        while not self.ended.is_set():
            began = time.monotonic()
            self.number += 1
            try:
                client.set(KEY, self.number)
                self.acked.append((began, time.monotonic(), self.number))
            except redis.RedisError as e:
                self.errors.append(str(e).split(" ")[0])
                if isinstance(e, (redis.ConnectionError, redis.TimeoutError)):
                    client.close()
            self.ended.wait(max(0.0, PACE_S - (time.monotonic() - began)))

    def writes_again(self, since):
        return any(began > since for began, _, _ in self.acked[-50:])

    def end(self):
        self.ended.set()
        self.thread.join(GIVE_UP_S)

    def outage_s(self, since):
        times = [answered for _, answered, _ in self.acked if answered >= since - 0.1]
        return max(b - a for a, b in zip(times, times[1:]))


def kill(_cluster, leader):
    leader.stop(signal.SIGKILL)


def stand_still(_cluster, leader):
    os.kill(leader.pid, signal.SIGSTOP)


def cut_off(cluster, leader):
    cluster.network.isolate(leader.name, [s.name for s in cluster.servers if s is not leader])


def mend(cluster, leader):
    if leader.process is None:
        leader.start()
    else:
        os.kill(leader.pid, signal.SIGCONT)
    if cluster.network is not None:
        cluster.network.heal()


def value_at(server):
    with server.client() as c:
        return int(c.get(KEY) or 0)


def settled_leader(cluster):
    """The leader, when it has been the same for a second: leaders are spread after a fault."""
    leader, since = cluster.wait_leader(), time.monotonic()
    while time.monotonic() < since + 1.0:
        time.sleep(0.1)
        now = cluster.wait_leader()
        if now is not leader:
            leader, since = now, time.monotonic()
    return leader


def fail(cluster, fault):
    """One leader is lost; the cluster is whole again afterwards."""
    leader = settled_leader(cluster)
    survivor = next(s for s in cluster.servers if s is not leader)
    writer = Writer(survivor, value_at(survivor))
    time.sleep(0.5)
    began = time.monotonic()
    fault(cluster, leader)
    since = time.monotonic()
    wait_until(lambda: writer.writes_again(since), GIVE_UP_S, "a write after the leader was lost")
    time.sleep(0.2)
    writer.end()
    kept = value_at(survivor)
    mend(cluster, leader)
    wait_until(cluster.is_whole, 60, "three voters again")
    wait_until(lambda: value_at(leader) == kept, 30, f"{leader.name} with what was written")
    return {"outage_s": writer.outage_s(began), "errors": writer.errors,
            "lost": kept < writer.acked[-1][2]}


class Load:
    """SETs of 50 clients as fast as they go; redis-benchmark ends at the first error."""

    def __init__(self, server):
        self.output = tempfile.TemporaryFile("w+")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["redis-benchmark", "-h", server.host, "-p", str(server.port), "-t", "set", "-c", "50",
             "-r", "100000", "-d", "100", "-n", "100000000", "-q"],
            stdout=self.output, stderr=subprocess.STDOUT)

    def end(self):
        if self.process.poll() is not None:
            self.output.seek(0)
            raise SystemExit("failover.py: the load beside a FAILOVER ended: "
                             f"{self.output.read()[-300:]}")
        self.process.kill()
        self.process.wait()
        self.output.close()


def hand_over(cluster, load):
    """FAILOVER to a follower, with the client at a third server."""
    leader = settled_leader(cluster)
    target, third = [s for s in cluster.servers if s is not leader]
    beside = load(third) if load else None
    writer = Writer(third, value_at(third))
    time.sleep(0.5)
    began = time.monotonic()
    with leader.client() as c:
        c.execute_command("FAILOVER", "default", "TO", target.name)
    wait_until(lambda: cluster.leader() is target, 10, f"{target.name} as leader")
    time.sleep(0.3)
    writer.end()
    if beside:
        beside.end()
    return {"outage_s": writer.outage_s(began), "errors": writer.errors,
            "lost": value_at(third) < writer.acked[-1][2]}


def measure(args, directory, mode, result):
    """mode: the options of the keyspace default, as MODE primary ACK 1."""
    reason = netns.skip_reason()
    network = None if reason else netns.Namespaces()
    rows = [("kill -9", fail, kill), ("SIGSTOP", fail, stand_still)]
    if network is not None:
        rows.append(("cut off", fail, cut_off))
    rows += [("FAILOVER TO", hand_over, None), ("under load", hand_over, Load)]
    place = os.path.join(directory, "failover-" + mode.split()[0])
    try:
        cluster = Cluster(place, args.sennit, options=f"MODE {mode}", network=network)
        say(f"\nno write acknowledged, MODE {mode}, a client at a server that stays, "
            f"{args.failovers} times each")
        found = result.setdefault("failover", {}).setdefault(mode, {})
        for name, action, fault in rows:
            found[name] = [action(cluster, fault) for _ in range(args.failovers)]
            tell(name, found[name])
        if reason:
            say(f"  cut off: not measured, {reason}")
        cluster.stop()
    finally:
        if network is not None:
            with quietly():
                network.close()


def tell(name, tries):
    took = sorted(t["outage_s"] for t in tries)
    say(f"  {name:<12} {took[0]:6.3f} .. {took[-1]:6.3f} s, median "
        f"{statistics.median(took):6.3f} s; {sum(len(t['errors']) for t in tries)} errors seen, "
        f"{sum(t['lost'] for t in tries)} acknowledged writes lost")
