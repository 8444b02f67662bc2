#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py - sennit and Redis side by side on one machine, in one run.

The two take turns, round after round, so that whatever else the machine does hits both.
What is told are medians over the rounds, and their ratio.  See bench/README.md.
"""
import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import failover
import followers
from loads import VALUE_BYTES, Case, load, record, take_turns, tell
from systems import (Cluster, Redis, Sennit, Server, redis_with_replicas, say, wait_until)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


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


# ---- the parts of the run ----

def measure_floor(args, directory, result):
    result["floor"] = {
        "fdatasync_4k": followers.micros(sync_floor(directory, 500)),
        "loopback": followers.micros(loopback_floor(5000)),
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


def measure_three(args, directory, result):
    cluster = Cluster(directory, args.sennit)
    servers = redis_with_replicas(directory, args.redis)
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
    cluster.stop()


def measure_failover(args, directory, result):
    for mode in ("raft", "primary ACK 1"):
        failover.measure(args, directory, mode, result)


def measure_idle(cluster, result):
    time.sleep(2)
    before, began = [s.cpu_s() for s in cluster.servers], time.monotonic()
    time.sleep(3)
    took = time.monotonic() - began
    used = [(s.cpu_s() - b) / took * 100 for s, b in zip(cluster.servers, before)]
    result["idle_cpu_percent"] = used
    say(f"\nidle servers use {max(used):.1f} % of a processor at most")


PARTS = {"one": measure_one, "three": measure_three, "followers": followers.measure,
         "sync": followers.measure_sync, "failover": measure_failover}


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
    p.add_argument("--quick", action="store_true", help="about five minutes (the default)")
    p.add_argument("--full", action="store_true", help="more and longer rounds")
    p.add_argument("--rounds", type=int, help="turns of each system (3; full: 7)")
    p.add_argument("--seconds", type=float, help="of each turn (1; full: 4)")
    p.add_argument("--failovers", type=int, help="leaders lost of each kind (3; full: 20)")
    p.add_argument("--only", choices=PARTS, help="only this part")
    p.add_argument("--dir", help="where the data directories are made (the system's default)")
    p.add_argument("--json", metavar="FILE", help="also all numbers, for programs")
    args = p.parse_args()
    args.rounds = args.rounds or (7 if args.full else 3)
    args.seconds = args.seconds or (4.0 if args.full else 1.0)
    args.failovers = args.failovers or (20 if args.full else 3)
    args.keys = 1000000
    args.keys_three = 1000000 if args.full else 100000
    args.keys_sync = 5000000 if args.full else 500000
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
        for name in [args.only] if args.only else PARTS:
            PARTS[name](args, directory, result)
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
