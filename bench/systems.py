# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured: processes of sennit and of Redis, alone and as clusters."""
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time

import redis

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


class Server:
    """One process and its place: a port, a data directory, a log."""

    live = []

    def __init__(self, name, directory, network=None):
        self.name = name
        self.network = network  # where it has an address of its own, or None
        self.host = network.host(name) if network else "127.0.0.1"
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
            place = self.network.place(self.name) if self.network else []
            self.process = subprocess.Popen(place + self.command(), stdout=log, stderr=log,
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
        return redis.Redis(host=self.host, port=self.port, socket_timeout=timeout_s,
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

    def own_bytes(self):
        """Of memory that is not a file's, its children's included; shared pages count once."""
        children = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True,
                                  check=False).stdout.split()
        total = 0
        for pid in [str(self.pid)] + children:
            with quietly(), open(f"/proc/{pid}/smaps_rollup") as f:
                total += sum(int(line.split()[1]) * 1024 for line in f
                             if line.startswith("Pss_Anon:"))
        return total

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
    def __init__(self, name, directory, binary, join=None, network=None, flags=()):
        super().__init__(name, directory, network)
        self.binary, self.join, self.flags = binary, join, list(flags)

    def command(self):
        words = [self.binary, "server", "--name", self.name, "--data", self.data,
                 "--client", f"{self.host}:{self.port}", "--http", "off"] + self.flags
        if self.network is not None:
            words += ["--insecure"]
        if self.join is not None:
            words += ["--join", f"{self.join.host}:{self.join.port + 10000}"]
        return words


class Redis(Server):
    def __init__(self, name, directory, binary, primary=None, fsync="always"):
        super().__init__(name, directory)
        self.binary, self.primary, self.fsync = binary, primary, fsync

    def command(self):
        words = [self.binary, "--port", str(self.port), "--dir", self.data, "--bind",
                 "127.0.0.1", "--appendonly", "yes", "--appendfsync", self.fsync, "--save", "",
                 "--daemonize", "no", "--repl-diskless-sync-delay", "0"]
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


def redis_with_replicas(directory, binary, fsync="always", count=2):
    """A primary and the replicas that follow it."""
    primary = Redis("primary", directory, binary, fsync=fsync)
    primary.start()
    servers = [primary]
    for i in range(count):
        replica = Redis(f"replica{i + 1}", directory, binary, primary, fsync)
        replica.start()
        servers.append(replica)

    def linked():
        with primary.client() as c:
            return c.info("replication")["connected_slaves"] == count
    wait_until(linked, 30, "the replicas of redis")
    return servers


class Cluster:
    """Servers of sennit that know each other; `options` are those of the keyspace default."""

    def __init__(self, directory, binary, count=3, options="", network=None, flags=()):
        self.directory, self.binary, self.network = directory, binary, network
        self.flags = flags
        self.servers = []
        for _ in range(count):
            self.add()
        if options:
            with self.servers[0].client(60) as c:
                c.execute_command("KEYSPACE", "ALTER", "default", *options.split())
        wait_until(lambda: self.is_whole(count), 60, f"a shard with {count} voters")

    def add(self):
        """Starts one more; returns it as soon as it answers."""
        join = next((s for s in self.servers if s.process is not None), None)
        s = Sennit(f"s{len(self.servers) + 1}", self.directory, self.binary, join, self.network,
                   self.flags)
        self.servers.append(s)
        s.start()
        return s

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

    def voters(self):
        """The names of those who are leader or follower, and not in trouble; a leader's view."""
        for s, rows in self.views():
            good = {text(r["name"]): text(r["role"]) for r in rows
                    if text(r["role"]) in ("leader", "follower") and not r["trouble"]}
            if good.get(s.name) == "leader":
                return set(good)
        return set()

    def is_whole(self, count=3):
        return len(self.voters()) == count

    def wait_leader(self, within_s=30):
        return wait_until(self.leader, within_s, "a leader")

    def stop(self):
        for s in self.servers:
            s.stop(signal.SIGKILL)
