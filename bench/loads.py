# SPDX-License-Identifier: Apache-2.0
"""Loads that systems take in turn, and how they are told."""
import csv
import selectors
import socket
import statistics
import subprocess
import time

from systems import say

VALUE_BYTES = 100


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
