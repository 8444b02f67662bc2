# SPDX-License-Identifier: Apache-2.0
"""MODE primary with two followers beside a Redis primary with two replicas.

Both write their log every second and answer before a follower has the write, unless a level is
named: ACK 1 of sennit beside SET and WAIT 1 of Redis.
"""
import multiprocessing
import os
import selectors
import signal
import socket
import statistics
import time

from loads import VALUE_BYTES, Case, load, record, take_turns, tell
from systems import Cluster, Redis, redis_with_replicas, say, wait_until

ASYNC = "MODE primary ACK async DURABILITY memory"
WRITES_A_SECOND = 20000


def words(*args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


# ---- loads of our own ----

def round_trips(server, request, reply_bytes, connections, seconds):
    """Each connection sends the request again when it is answered; seconds of each answer."""
    selector = selectors.DefaultSelector()
    sent = {}
    for _ in range(connections):
        s = socket.create_connection((server.host, server.port), timeout=10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(s, selectors.EVENT_READ)
        sent[s] = time.perf_counter()
        s.sendall(request)
    took, parts = [], dict.fromkeys(sent, b"")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key, _ in selector.select(1):
            s = key.fileobj
            parts[s] += s.recv(4096)
            if not parts[s].startswith(b"+OK"[:len(parts[s])]):
                raise SystemExit(f"compare.py: {server.name} answered {parts[s][:200]!r}")
            if len(parts[s]) < reply_bytes:
                continue
            now = time.perf_counter()
            took.append(now - sent[s])
            parts[s], sent[s] = b"", now
            s.sendall(request)
    for s in sent:
        s.close()
    return took


def paced_writes(host, port, keys, rate, until_s, counted):
    """rate writes a second, a batch each 2 ms; adds what was answered to `counted`."""
    batch = max(1, rate // 500)
    value = b"y" * VALUE_BYTES
    with socket.create_connection((host, port), timeout=60) as s:
        replies = s.makefile("rb")
        began = time.monotonic()
        number = 0
        while time.monotonic() < until_s:
            s.sendall(b"".join(words("SET", b"key:%012d" % ((number + i) * 7919 % keys), value)
                               for i in range(batch)))
            if replies.read(5 * batch) != b"+OK\r\n" * batch:
                raise SystemExit("compare.py: a paced write failed")
            number += batch
            counted.value = number
            time.sleep(max(0.0, began + number / rate - time.monotonic()))


class Pace:
    """paced_writes in a process of its own, while it is entered."""

    def __init__(self, server, keys, rate):
        self.rate, self.counted, self.began = rate, multiprocessing.Value("q", 0), 0.0
        self.process = multiprocessing.Process(
            target=paced_writes, args=(server.host, server.port, keys, rate,
                                       time.monotonic() + 600, self.counted), daemon=True)

    def __enter__(self):
        if self.rate > 0:
            self.process.start()
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        if self.rate > 0:
            self.process.terminate()
            self.process.join()

    def reached(self):
        return self.counted.value / max(1e-9, time.monotonic() - self.began)


# ---- what is measured ----

def micros(took):
    took = sorted(took)
    return {"p50_us": took[len(took) // 2] * 1e6, "p99_us": took[len(took) * 99 // 100] * 1e6,
            "n": len(took)}


def measure_sets(args, pair, result):
    """pair: name -> the servers, the one that takes writes first."""
    systems = {name: (servers[0].port, servers) for name, servers in pair.items()}
    cases = [Case(f"SET, pipeline {p}", "set", 50, p, args.keys_three, systems)
             for p in (1, 16)]
    take_turns(cases, args.rounds, args.seconds)
    tell("a primary with two followers, 50 clients; ACK async DURABILITY memory; redis: "
         "appendfsync everysec", cases)
    result["sets"] = record(cases)
    return cases[0]


def visible(writer, reader, seconds):
    """Seconds from the answer to a write until a reader at the other server sees it."""
    took = []
    with writer.client() as w, reader.client() as r:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            w.set("seen", number)
            answered = time.perf_counter()
            while int(r.get("seen") or 0) < number:
                if time.perf_counter() - answered > 10:
                    raise SystemExit(f"compare.py: {reader.name} does not see a write")
            took.append(time.perf_counter() - answered)
            time.sleep(0.003)
    return took


def measure_visible(args, pair, half, result):
    found = {name: [] for name in pair}
    for number in range(args.rounds):
        for name in list(pair) if number % 2 == 0 else list(pair)[::-1]:
            primary, follower = pair[name][0], pair[name][1]
            with Pace(primary, args.keys_three, half):
                time.sleep(0.3)
                found[name] += visible(primary, follower, max(2.0, args.seconds))
    say(f"\nfrom the answer until a follower shows it, {half} writes a second meanwhile")
    result["visible"] = {name: micros(took) for name, took in found.items()}
    for name, f in result["visible"].items():
        say(f"  {name:<10} p50 {f['p50_us']:7.0f} us   p99 {f['p99_us']:7.0f} us   of {f['n']}")


def measure_waits(args, pair, result):
    """A write that one follower has: ACK 1, and SET with WAIT 1 0 in one packet."""
    value = b"x" * VALUE_BYTES
    one = words("SET", "key:000000000001", value)
    requests = {"sennit": (one, 5), "redis": (one + words("WAIT", 1, 0), 9)}
    with pair["sennit"][0].client(60) as c:
        c.execute_command("KEYSPACE", "ALTER", "default", "ACK", 1)
    rows = {}
    for clients in (1, 50):
        runs = {name: [] for name in pair}
        for number in range(args.rounds):
            for name in list(pair) if number % 2 == 0 else list(pair)[::-1]:
                took = round_trips(pair[name][0], *requests[name], clients, args.seconds)
                runs[name].append({"rps": len(took) / args.seconds, **micros(took)})
        rows[clients] = runs
    result["waits"] = rows
    say("\na write that a follower has: ACK 1; redis: SET and WAIT 1 (one client in Python, which "
        "is part of it)")
    for clients, runs in rows.items():
        rps = {n: statistics.median(r["rps"] for r in runs[n]) for n in runs}
        for name in runs:
            p50, p99 = (statistics.median(r[p] for r in runs[name])
                        for p in ("p50_us", "p99_us"))
            say(f"  {clients:>2} clients  {name:<8}{rps[name]:>8.0f}/s   p50 {p50:6.0f} us   "
                f"p99 {p99:6.0f} us" + (f"   ratio {rps['sennit'] / rps['redis']:.2f}"
                                        if name == "sennit" else ""))


class SennitSync:
    """A follower is lost for good, and a server that joins takes its place."""

    name = "sennit"

    def __init__(self, args, directory):
        self.cluster = Cluster(directory, args.sennit, options=ASYNC,
                               flags=("--replace-after", "1s"))
        self.primary = self.cluster.wait_leader()
        self.last = next(s for s in self.cluster.servers if s is not self.primary)

    def lose_last(self):
        self.last.stop(signal.SIGKILL)
        time.sleep(2)

    def begin(self):
        self.last = self.cluster.add()

    def is_done(self):
        return self.last.name in self.cluster.voters()

    def stop(self):
        self.cluster.stop()


class RedisSync:
    """A replica is lost for good, and an empty one follows in its place."""

    name = "redis"

    def __init__(self, args, directory):
        self.directory, self.binary = directory, args.redis
        self.servers = redis_with_replicas(directory, self.binary, "everysec")
        self.primary, self.last = self.servers[0], self.servers[-1]

    def lose_last(self):
        self.last.stop(signal.SIGKILL)

    def begin(self):
        self.last = Redis(f"replica{len(self.servers)}", self.directory, self.binary,
                          self.primary, "everysec")
        self.servers.append(self.last)
        self.last.start()

    def is_done(self):
        with self.last.client() as c:
            info = c.info("replication")
        return info["master_link_status"] == "up" and not info["master_sync_in_progress"]

    def stop(self):
        for s in self.servers:
            s.stop(signal.SIGKILL)


def sync_once(system, keys, rate):
    primary = system.primary
    before = peak = primary.own_bytes()
    last = "key:%012d" % (keys - 1)
    with Pace(primary, keys, rate) as pace:
        time.sleep(0.5 if rate else 0)
        began, cpu = time.monotonic(), primary.cpu_s()
        system.begin()

        def is_ready():
            nonlocal peak
            peak = max(peak, primary.own_bytes())
            time.sleep(0.1)
            if not system.is_done():
                return False
            with system.last.client() as c:
                return c.get(last) is not None
        wait_until(is_ready, 600, f"a new copy of {system.name}")
        took = time.monotonic() - began
        return {"seconds": took, "extra_bytes": peak - before, "cpu_s": primary.cpu_s() - cpu,
                "writes_a_second": pace.reached() if rate else 0}


def measure_sync(args, directory, result):
    found = result["sync"] = {"keys": args.keys_sync}
    say(f"\na new follower of {args.keys_sync} keys, from its start until it follows and answers")
    for kind in (SennitSync, RedisSync):
        system = kind(args, os.path.join(directory, "sync"))
        load(system.primary, 0, args.keys_sync)
        time.sleep(3)
        rows = found[system.name] = []
        for rate in (0, WRITES_A_SECOND):
            system.lose_last()
            rows.append(sync_once(system, args.keys_sync, rate))
            r = rows[-1]
            say(f"  {system.name:<8} {rate:>6} writes/s asked, {r['writes_a_second']:6.0f} done: "
                f"{r['seconds']:6.1f} s; {r['extra_bytes'] / 1e6:6.0f} MB more at the primary, "
                f"{r['cpu_s']:5.1f} s of its CPU")
        system.stop()


def measure(args, directory, result):
    """The parts in turn; each starts and ends its own servers."""
    found = result["followers"] = {}
    place = os.path.join(directory, "followers")
    cluster = Cluster(place, args.sennit, options=ASYNC)
    leader = cluster.wait_leader()
    pair = {"sennit": [leader] + [s for s in cluster.servers if s is not leader],
            "redis": redis_with_replicas(place, args.redis, "everysec")}
    for servers in pair.values():
        load(servers[0], 0, args.keys_three)
    case = measure_sets(args, pair, found)
    half = int(min(case.median(name, "rps") for name in pair) / 2)
    measure_visible(args, pair, half, found)
    measure_waits(args, pair, found)
    cluster.stop()
    for s in pair["redis"]:
        s.stop(signal.SIGKILL)
