#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py - sennit and Redis side by side on one machine, in one run.

The two take turns, round after round, so that whatever else the machine does hits both.
What is told are medians over the rounds, and their ratio.  See bench/README.md.
"""
import argparse
import contextlib
import csv
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import redis

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VALUE_BYTES = 100
TICKS = os.sysconf("SC_CLK_TCK")


def say(text=""):
    print(text, flush=True)


def quietly(*kinds):
    return contextlib.suppress(*(kinds or (OSError, redis.RedisError)))


def free_port():
    """Below the range from which the kernel draws, with the port 10,000 above it free too."""
    while True:
        port = random.randrange(12000, 22000)
        try:
            for p in (port, port + 10000):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
            return port
        except OSError:
            continue


def wait_until(condition, within_s, what):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with quietly():
            found = condition()
            if found:
                return found
        time.sleep(0.01)
    raise SystemExit(f"compare.py: {what} did not happen within {within_s} s")


# ---- processes ----

class Server:
    """One process and its place: a port, a data directory, a log."""

    live = []

    def __init__(self, name, directory):
        self.name = name
        self.port = free_port()
        self.data = os.path.join(directory, name)
        self.log = os.path.join(directory, name + ".log")
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self, within_s=60):
        """Returns the seconds until it answered."""
        os.makedirs(self.data, exist_ok=True)
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        Server.live.append(self)
        wait_until(self.answers, within_s, f"an answer of {self.name} (log: {self.log})")
        return time.monotonic() - began

    def answers(self):
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as log:
                sys.stderr.write(log.read()[-2000:])
            raise SystemExit(f"compare.py: {self.name} ended, code {self.process.returncode}")
        with self.client() as c:
            return c.ping()

    def client(self, timeout_s=15):
        return redis.Redis(port=self.port, socket_timeout=timeout_s,
                           single_connection_client=True)

    @property
    def pid(self):
        return self.process.pid

    def stop(self, number=signal.SIGTERM):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        Server.live.remove(self)

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """Bytes resident: of its own, and of files that it has mapped."""
        found = {}
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                name, _, rest = line.partition(":")
                if name in ("RssAnon", "RssFile"):
                    found[name] = int(rest.split()[0]) * 1024
        return found


class Sennit(Server):
    def __init__(self, name, directory, binary, join=None):
        super().__init__(name, directory)
        self.binary, self.join = binary, join

    def command(self):
        words = [self.binary, "server", "--name", self.name, "--data", self.data,
                 "--client", f"127.0.0.1:{self.port}", "--http", "off"]
        if self.join is not None:
            words += ["--join", f"127.0.0.1:{self.join.port + 10000}"]
        return words


class Redis(Server):
    def __init__(self, name, directory, binary, primary=None):
        super().__init__(name, directory)
        self.binary, self.primary = binary, primary

    def command(self):
        words = [self.binary, "--port", str(self.port), "--dir", self.data, "--bind",
                 "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                 "--daemonize", "no"]
        if self.primary is not None:
            words += ["--replicaof", "127.0.0.1", str(self.primary.port)]
        return words


def text(x):
    return x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x)


def as_pairs(row):
    """A map of RESP2 (name, value, name, value ...) as a dict."""
    if isinstance(row, dict):
        return {text(k): v for k, v in row.items()}
    return {text(row[i]): row[i + 1] for i in range(0, len(row) - 1, 2)}


class Cluster:
    """Three servers of sennit."""

    def __init__(self, directory, binary):
        self.servers = []
        for i in range(3):
            join = self.servers[0] if i > 0 else None
            s = Sennit(f"s{i + 1}", directory, binary, join)
            s.start()
            self.servers.append(s)
        wait_until(self.is_whole, 60, "a shard with three voters")

    def views(self):
        """What SHARD LIST says of the shard of `default`, by everyone who answers."""
        for s in self.servers:
            if s.process is None:
                continue
            with quietly(), s.client(5) as c:
                rows = c.execute_command("SHARD", "LIST", "default")
                yield s, [as_pairs(row) for row in rows]

    def leader(self):
        """The server that says of itself that it leads; None while nobody does."""
        for s, rows in self.views():
            if any(text(r["name"]) == s.name and text(r["role"]) == "leader" for r in rows):
                return s
        return None

    def is_whole(self):
        """The leader sees three voters, none of them in trouble."""
        for _, rows in self.views():
            good = [r for r in rows if text(r["role"]) in ("leader", "follower")
                    and not r["trouble"]]
            if len(good) == 3:
                return True
        return False

    def wait_leader(self, within_s=30):
        return wait_until(self.leader, within_s, "a leader")

    def stop(self):
        for s in self.servers:
            s.stop(signal.SIGKILL)


# ---- load ----

def load(server, first, keys):
    """Sets keys first .. first + keys - 1, named as redis-benchmark names them."""
    value = b"x" * VALUE_BYTES
    head = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:"
    tail = b"\r\n$%d\r\n%s\r\n" % (VALUE_BYTES, value)
    step = 1000
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as s:
        replies = s.makefile("rb")
        for at in range(first, first + keys, step):
            n = min(step, first + keys - at)
            s.sendall(b"".join(head + b"%012d" % i + tail for i in range(at, at + n)))
            got = replies.read(5 * n)
            if got != b"+OK\r\n" * n:
                raise SystemExit(f"compare.py: loading failed: {got[:200]!r}")


def benchmark(port, test, clients, pipeline, keys, n):
    """One run of redis-benchmark; its line of numbers."""
    words = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", test, "-c",
             str(clients), "-P", str(pipeline), "-r", str(keys), "-d", str(VALUE_BYTES), "-n",
             str(n), "--csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if done.returncode != 0 or not rows or "rps" not in rows[0]:
        raise SystemExit(f"compare.py: redis-benchmark: {done.stdout} {done.stderr}")
    return {k: float(v) for k, v in rows[0].items() if k != "test"}


class Case:
    """A load that two or more systems take in turn."""

    def __init__(self, title, test, clients, pipeline, keys, systems):
        self.title, self.test, self.clients = title, test, clients
        self.pipeline, self.keys = pipeline, keys
        self.systems = systems  # name -> (port, servers whose CPU time counts)
        self.n = {}
        self.runs = {name: [] for name in systems}

    def calibrate(self, name, seconds):
        port = self.systems[name][0]
        n = 100 * self.clients * self.pipeline if self.clients > 1 else 300
        rps = benchmark(port, self.test, self.clients, self.pipeline, self.keys,
                        min(n, 40000))["rps"]
        self.n[name] = max(200, int(rps * seconds))

    def turn(self, name, seconds):
        port, servers = self.systems[name]
        if name not in self.n:
            self.calibrate(name, seconds)
        before = sum(s.cpu_s() for s in servers)
        run = benchmark(port, self.test, self.clients, self.pipeline, self.keys, self.n[name])
        used = sum(s.cpu_s() for s in servers) - before
        run["cpu_us_per_op"] = used * 1e6 / self.n[name]
        self.runs[name].append(run)

    def median(self, name, what):
        return statistics.median(r[what] for r in self.runs[name])


def take_turns(cases, rounds, seconds):
    for number in range(rounds):
        for case in cases:
            names = list(case.systems)
            for name in names if number % 2 == 0 else reversed(names):
                case.turn(name, seconds)


# ---- the machine itself ----

def sync_floor(directory, times):
    """Seconds that fdatasync of 4 KB takes, over blocks that were written before."""
    path = os.path.join(directory, "floor")
    block = os.urandom(4096)
    blocks = 256
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"\0" * 4096 * blocks, 0)
        os.fsync(fd)
        took = []
        for i in range(times):
            began = time.perf_counter()
            os.pwrite(fd, block, i % blocks * 4096)
            os.fdatasync(fd)
            took.append(time.perf_counter() - began)
    finally:
        os.close(fd)
        os.unlink(path)
    return took


def echo(listener, times):
    conn, _ = listener.accept()
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(times):
        conn.sendall(conn.recv(64))


def loopback_floor(times):
    """Seconds that a byte to another process and back takes, Python's own share included."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = multiprocessing.Process(target=echo, args=(listener, times))
        other.start()
        took = []
        with socket.create_connection(listener.getsockname()) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(times):
                began = time.perf_counter()
                s.sendall(b"x")
                s.recv(64)
                took.append(time.perf_counter() - began)
        other.join()
    return took


def micros(took):
    took = sorted(took)
    return {"p50_us": took[len(took) // 2] * 1e6, "p99_us": took[len(took) * 99 // 100] * 1e6}


# ---- the parts of the run ----

def measure_floor(args, directory, result):
    result["floor"] = {
        "fdatasync_4k": micros(sync_floor(directory, 500)),
        "loopback": micros(loopback_floor(5000)),
    }
    say("the machine's floor")
    for name, f in result["floor"].items():
        say(f"  {name:<14} {f['p50_us']:8.0f} us median {f['p99_us']:8.0f} us p99")


def measure_memory(pair, keys, result):
    """Fills both with the keys that the loads then use."""
    found = result.setdefault("memory", {})
    for name, server in pair.items():
        before = server.memory()
        began = time.monotonic()
        load(server, 0, keys)
        took = time.monotonic() - began
        time.sleep(1)
        after = server.memory()
        found[name] = {
            "keys": keys, "load_s": took,
            "own_bytes_per_key": (after["RssAnon"] - before["RssAnon"]) / keys,
            "mapped_bytes_per_key": (after["RssFile"] - before["RssFile"]) / keys,
        }
    say(f"\nmemory after {keys} keys of 16 bytes with values of {VALUE_BYTES}")
    for name, m in found.items():
        say(f"  {name:<10} {m['own_bytes_per_key']:6.0f} B/key of its own, "
            f"{m['mapped_bytes_per_key']:6.0f} B/key of mapped files")


def measure_restart(pair, keys, result):
    found = result.setdefault("restart", [])
    say(f"\nfrom the start of the process to the first answer, {keys} keys")
    for how, number in (("SIGTERM", signal.SIGTERM), ("kill -9", signal.SIGKILL)):
        for name, server in pair.items():
            server.stop(number)
            began = time.monotonic()
            server.start()
            last = "key:%012d" % (keys - 1)

            def holds(server=server, last=last):
                with server.client() as c:
                    return c.get(last) is not None
            wait_until(holds, 120, f"the last key in {name}")
            took = time.monotonic() - began
            found.append({"system": name, "keys": keys, "after": how, "seconds": took})
            say(f"  {name:<10} after {how:<8} {took:7.2f} s")


def measure_one(args, directory, result):
    pair = {"sennit": Sennit("one", directory, args.sennit),
            "redis": Redis("redis", directory, args.redis)}
    for s in pair.values():
        s.start()
    measure_memory(pair, args.keys, result)
    measure_restart(pair, args.keys, result)
    systems = {name: (s.port, [s]) for name, s in pair.items()}
    cases = [Case(f"{test.upper()}, pipeline {p}", test, 50, p, args.keys, systems)
             for test in ("set", "get") for p in (1, 16)]
    cases.append(Case("SET, one client", "set", 1, 1, args.keys, systems))
    take_turns(cases, args.rounds, args.seconds)
    tell("one server, 50 clients; redis: appendfsync always", cases)
    result["one"] = record(cases)
    if args.full:
        load(pair["sennit"], args.keys, 4 * args.keys)
        load(pair["redis"], args.keys, 4 * args.keys)
        measure_restart(pair, 5 * args.keys, result)
    for s in pair.values():
        s.stop(signal.SIGKILL)


def redis_with_replicas(args, directory):
    primary = Redis("primary", directory, args.redis)
    primary.start()
    servers = [primary]
    for i in range(2):
        replica = Redis(f"replica{i + 1}", directory, args.redis, primary)
        replica.start()
        servers.append(replica)

    def linked():
        with primary.client() as c:
            return c.info("replication")["connected_slaves"] == 2
    wait_until(linked, 30, "two replicas of redis")
    return servers


def measure_three(args, directory, result):
    cluster = Cluster(directory, args.sennit)
    servers = redis_with_replicas(args, directory)
    leader = cluster.wait_leader()
    load(leader, 0, args.keys_three)
    load(servers[0], 0, args.keys_three)
    follower = next(s for s in cluster.servers if s is not leader)
    at_leader = {"sennit": (leader.port, cluster.servers),
                 "redis": (servers[0].port, servers)}
    at_follower = {"sennit": (follower.port, cluster.servers),
                   "redis": (servers[1].port, servers)}
    keys = args.keys_three
    cases = [Case(f"{test.upper()}, {c} clients", test, c, 1, keys, at_leader)
             for test in ("set", "get") for c in (50, 256)]
    cases.append(Case("SET, one client", "set", 1, 1, keys, at_leader))
    cases.append(Case("GET, 50, at a follower", "get", 50, 1, keys, at_follower))
    cases.append(Case("SET, 50, at a follower", "set", 50, 1, keys,
                      {"sennit": at_follower["sennit"]}))
    take_turns(cases, args.rounds, args.seconds)
    for s in servers:
        s.stop(signal.SIGKILL)
    tell("three servers; redis: a primary and two replicas, which it does not wait for", cases)
    result["three"] = record(cases)
    measure_idle(cluster, result)
    measure_failover(args, cluster, result)
    cluster.stop()


def measure_idle(cluster, result):
    time.sleep(2)
    before, began = [s.cpu_s() for s in cluster.servers], time.monotonic()
    time.sleep(3)
    took = time.monotonic() - began
    used = [(s.cpu_s() - b) / took * 100 for s, b in zip(cluster.servers, before)]
    result["idle_cpu_percent"] = used
    say(f"\nidle servers use {max(used):.1f} % of a processor at most")


def write_until(port, stop_at, acked, errors):
    """A write every 5 ms through one server; (time, number) of each that was acknowledged."""
    client = redis.Redis(port=port, socket_timeout=10, single_connection_client=True)
    number = acked[-1][1] if acked else 0
    while time.monotonic() < stop_at:
        began = time.monotonic()
        number += 1
        try:
            client.set("failover-count", number)
            acked.append((time.monotonic(), number))
        except redis.RedisError as e:
            errors.append(str(e).split(" ")[0])
            if isinstance(e, (redis.ConnectionError, redis.TimeoutError)):
                client.close()
        time.sleep(max(0.0, 0.005 - (time.monotonic() - began)))
    return number


def fail_over(cluster):
    """Kills the leader while a client writes through a survivor."""
    leader = cluster.wait_leader()
    survivor = next(s for s in cluster.servers if s is not leader)
    acked, errors = [], []
    write_until(survivor.port, time.monotonic() + 1.0, acked, errors)
    killed = time.monotonic()
    leader.stop(signal.SIGKILL)
    while time.monotonic() < killed + 30 and (not acked or acked[-1][0] < killed + 1.0):
        write_until(survivor.port, time.monotonic() + 1.0, acked, errors)
        if acked and max_gap(acked, killed) > 0.05 and acked[-1][0] > killed + 3.0:
            break
    write_until(survivor.port, time.monotonic() + 3.0, acked, errors)
    with survivor.client() as c:
        kept = int(c.get("failover-count"))
    lost = kept < acked[-1][1]
    leader.start()

    def back():
        with leader.client() as c:
            return int(c.get("failover-count")) == kept
    wait_until(back, 30, f"{leader.name} back with what was written")
    wait_until(cluster.is_whole, 30, "three voters again")
    return {"outage_s": max_gap(acked, killed), "errors": errors, "lost": lost}


def max_gap(acked, since):
    times = [t for t, _ in acked if t >= since - 0.1]
    return max((b - a for a, b in zip(times, times[1:])), default=0.0)


def measure_failover(args, cluster, result):
    tries = [fail_over(cluster) for _ in range(args.failovers)]
    result["failover"] = tries
    took = sorted(t["outage_s"] for t in tries)
    errors = sum(len(t["errors"]) for t in tries)
    say(f"\nfailover: kill -9 of the leader, a write each 5 ms through a survivor, "
        f"{len(tries)} times")
    say(f"  without an acknowledged write for {took[0]:.2f} .. {took[-1]:.2f} s, "
        f"median {statistics.median(took):.2f} s")
    say(f"  errors seen by the client: {errors}; acknowledged writes lost: "
        f"{sum(t['lost'] for t in tries)}")


# ---- telling ----

def record(cases):
    return [{"title": c.title, "test": c.test, "clients": c.clients, "pipeline": c.pipeline,
             "runs": c.runs} for c in cases]


def tell(title, cases):
    say(f"\n{title}")
    say(f"  {'':<24}{'sennit':>10}{'redis':>10}{'ratio':>8}   "
        f"{'p50 ms':>13}   {'p99 ms':>13}   {'CPU us/op':>13}")
    for c in cases:
        both = "redis" in c.systems
        row = f"  {c.title:<24}{c.median('sennit', 'rps'):>10.0f}"
        if both:
            ratio = c.median("sennit", "rps") / c.median("redis", "rps")
            row += f"{c.median('redis', 'rps'):>10.0f}{ratio:>8.2f}"
        else:
            row += " " * 18
        for what, digits in (("p50_latency_ms", 2), ("p99_latency_ms", 2),
                             ("cpu_us_per_op", 1)):
            a = f"{c.median('sennit', what):.{digits}f}"
            b = f"{c.median('redis', what):.{digits}f}" if both else ""
            row += f"   {a:>6} {b:>6}"
        say(row)
    say("  (each pair of columns: sennit, redis; medians; CPU of all servers together)")


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f
                      if line.startswith("model name")), platform.machine())
    return {"cpu": model, "processors": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg()}


def version_of(words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def parse_args():
    p = argparse.ArgumentParser(description="sennit and redis-server side by side")
    p.add_argument("--sennit", default=os.path.join(ROOT, "build", "sennit"))
    p.add_argument("--redis", default=shutil.which("redis-server") or "redis-server")
    p.add_argument("--quick", action="store_true", help="about three minutes (the default)")
    p.add_argument("--full", action="store_true", help="more and longer rounds")
    p.add_argument("--rounds", type=int, help="turns of each system (3; full: 7)")
    p.add_argument("--seconds", type=float, help="of each turn (1; full: 4)")
    p.add_argument("--failovers", type=int, help="leaders killed (3; full: 10)")
    p.add_argument("--only", choices=("one", "three"), help="only this part")
    p.add_argument("--dir", help="where the data directories are made (the system's default)")
    p.add_argument("--json", metavar="FILE", help="also all numbers, for programs")
    args = p.parse_args()
    args.rounds = args.rounds or (7 if args.full else 3)
    args.seconds = args.seconds or (4.0 if args.full else 1.0)
    args.failovers = args.failovers or (10 if args.full else 3)
    args.keys = 1000000
    args.keys_three = 1000000 if args.full else 100000
    for program in (args.sennit, args.redis):
        if not os.access(program, os.X_OK):
            p.error(f"{program} is not there; build with scripts/build.sh, and install the "
                    "rest with scripts/deps.sh")
    return args


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = tempfile.mkdtemp(prefix="sennit-compare-", dir=args.dir)
    result = {"machine": machine(), "sennit": version_of([args.sennit, "--version"]),
              "redis": version_of([args.redis, "--version"]), "rounds": args.rounds,
              "seconds": args.seconds, "value_bytes": VALUE_BYTES}
    began = time.monotonic()
    try:
        say(f"{result['sennit']} and {result['redis'].split(' sha')[0]} on "
            f"{result['machine']['processors']} x {result['machine']['cpu']}; "
            f"medians of {args.rounds} rounds of {args.seconds:g} s; data in {directory}\n")
        measure_floor(args, directory, result)
        if args.only != "three":
            measure_one(args, directory, result)
        if args.only != "one":
            measure_three(args, directory, result)
        result["took_s"] = time.monotonic() - began
        say(f"\n{result['took_s']:.0f} s in all")
        if args.json:
            with open(args.json, "w") as f:
                json.dump(result, f, indent=1)
                f.write("\n")
    finally:
        for server in list(Server.live):
            server.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
