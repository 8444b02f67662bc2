# SPDX-License-Identifier: Apache-2.0
"""Servers as processes: start them, join them, hurt them, and always end them."""
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import redis

from partition import Network
from wire import Conn, Error, table, text

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SENNIT = os.path.abspath(os.environ.get("SENNIT", os.path.join(ROOT, "build", "sennit")))

# Answers that say that nothing was applied and the same may be sent again.
RETRYABLE = ("NOLEADER", "NOQUORUM", "STALE", "TXNABORT", "LOADING", "TRYAGAIN")

live = []  # clusters that a failing test should show the logs of


given = set()


def worker_ports():
    """Below the range from which the kernel picks ports for others; tests that run side by side
    have a part of it each."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    each = 20000 // count
    return range(12000 + number * each, 12000 + (number + 1) * each)


def free_port():
    """Free now, and not given out before, since that one may not be listened on yet."""
    while True:
        port = random.choice(worker_ports())
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in given:
            given.add(port)
            return port


def wait_until(condition, within_s=20.0, what="", every_s=0.02):
    """The first true answer of condition(), which may fail meanwhile."""
    deadline = time.monotonic() + within_s
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (OSError, redis.RedisError, AssertionError) as e:
            last = e
        time.sleep(every_s)
    raise AssertionError(f"not within {within_s} s: {what or condition}; last: {last!r}")


def run(*args, timeout=30, **kwargs):
    """The binary with these arguments, to its end."""
    return subprocess.run([SENNIT, *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, check=False, **kwargs)


class Server:
    """One process, or the place of one: ports, data directory, log."""

    def __init__(self, name, directory, zone=None, args=(), network=None, binary=SENNIT):
        self.name = name
        self.binary = binary
        self.host = network.host(name) if network is not None else "127.0.0.1"
        self.port = free_port()
        self.peer_port = free_port()
        self.proxy_port = free_port() if network is not None and network.is_proxy else None
        self.data = os.path.join(directory, name)
        self.log = os.path.join(directory, name + ".log")
        self.zone = zone
        self.args = list(args)
        self.env = {}
        self.network = network
        self.process = None
        self.paused = False
        if self.proxy_port is not None:
            network.listen(name, self.proxy_port, self.peer_port)

    @property
    def advertised(self):
        return f"{self.host}:{self.proxy_port or self.peer_port}"

    def command(self, join=None):
        command = [self.binary, "server", "--name", self.name, "--data", self.data,
                   "--client", f"{self.host}:{self.port}",
                   "--peer", f"{self.host}:{self.peer_port}", "--http", "off"]
        if self.proxy_port is not None:
            command += ["--advertise-peer", self.advertised]
        if self.zone is not None:
            command += ["--zone", self.zone]
        if join is not None:
            command += ["--join", join]
        if self.network is not None:
            command = self.network.place(self.name) + command
        return command + self.args

    def start(self, join=None):
        assert not self.is_running
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(join), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            env={**os.environ, **self.env})
        if self.network is not None:
            self.network.pid_of[self.name] = self.process.pid
        return self

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def kill9(self):
        self.process.kill()
        self.process.wait(10)

    def terminate(self, within_s=15):
        """SIGTERM; the exit code."""
        self.resume()
        self.process.terminate()
        return self.process.wait(within_s)

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused and self.is_running:
            os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def end(self):
        if self.is_running:
            self.process.kill()
            self.process.wait(10)

    # ---- clients ----

    def conn(self, resp=2, **kwargs):
        return Conn(self.port, resp, host=self.host, **kwargs)

    def redis(self, **kwargs):
        kwargs.setdefault("socket_timeout", 15)
        kwargs.setdefault("socket_connect_timeout", 5)
        return redis.Redis(self.host, self.port, **kwargs)

    def ask(self, *args):
        with self.conn() as c:
            return c(*args)

    # ---- what the system says about it ----

    def rss_bytes(self):
        """Of its own: pages of the store that it has mapped are the kernel's to take back."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return next(int(l.split()[1]) for l in f if l.startswith("RssAnon:")) << 10

    def sockets(self):
        folder = f"/proc/{self.pid}/fd"
        count = 0
        for fd in os.listdir(folder):
            try:
                count += os.readlink(os.path.join(folder, fd)).startswith("socket:")
            except OSError:
                continue
        return count

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def info(self):
        reply = self.ask("INFO")
        assert isinstance(reply, bytes), reply
        lines = [l for l in reply.decode().splitlines() if l and not l.startswith("#")]
        return dict(line.split(":", 1) for line in lines)


class Cluster:
    """n servers that have joined each other.  Use it as a context."""

    def __init__(self, n=1, zones=None, args=(), partitions=False, directory=None,
                 password=None, network=None, binary=SENNIT):
        self.own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="sennit-test-")
        self.args = list(args)
        self.password = password
        self.binary = binary
        self.network = network or (Network() if partitions else None)
        self.servers = []
        self.voters = {}  # keyspace -> how many it has, where they are not as usual
        live.append(self)
        try:
            for i in range(n):
                self.add(zone=zones[i] if zones else None)
            if n > 0:
                self.wait_ready()
        except BaseException:
            self.close(keep=True)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getitem__(self, i):
        return self.servers[i]

    def __len__(self):
        return len(self.servers)

    def close(self, keep=False):
        for s in self.servers:
            s.end()
        if self.network is not None:
            self.network.close()
            self.network = None
        if keep:
            return
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if self in live:
            live.remove(self)

    # ---- growing ----

    def new_server(self, zone=None, args=None, name=None):
        s = Server(name or f"s{len(self.servers) + 1}", self.directory, zone,
                   self.args if args is None else args, self.network, self.binary)
        self.servers.append(s)
        return s

    def add(self, zone=None, args=None):
        """One more server, started and joined to the first one that runs."""
        member = next((s for s in self.servers if s.is_running), None)
        s = self.new_server(zone, args)
        s.start(join=member.advertised if member is not None else None)
        wait_until(lambda: self.ask(s, "PING") == "PONG", 30, f"{s.name} serves")
        return s

    def wait_ready(self, within_s=40):
        """Every server knows every other; each shard has its leader and all its voters."""
        running = [s for s in self.servers if s.is_running]

        def ready():
            for s in running:
                nodes = self.nodes(s)
                if len(nodes) != len(self.servers):
                    return False
                if sum(n["link"] == "connected" for n in nodes) < len(running):
                    return False
            shards = self.own_shards()
            return shards and all(self.is_whole(rows) for rows in shards.values())
        wait_until(ready, within_s, "the cluster is ready", 0.05)

    def is_whole(self, rows):
        """Of one shard: what each of its replicas says of itself, and its leader of others."""
        voters = [r for r in rows if r["own"] and r["role"] in ("leader", "follower")]
        n = len(self.servers)
        wanted = 1 if n < 3 else 5 if n >= 5 and rows[0]["keyspace"] == "(meta)" else 3
        wanted = self.voters.get(rows[0]["keyspace"], wanted)
        return (len(voters) == wanted and
                [r["role"] for r in voters].count("leader") == 1 and
                all(r["leader"] for r in rows) and
                not any(r["trouble"] for r in rows))

    # ---- asking ----

    def ask(self, server, *args):
        with server.conn(password=self.password) as c:
            return c(*args)

    def any_running(self):
        return next(s for s in self.servers if s.is_running and not s.paused)

    def nodes(self, server):
        """CLUSTER NODES as that server tells it."""
        reply = self.ask(server, "CLUSTER", "NODES")
        assert isinstance(reply, bytes), reply
        nodes = []
        for line in reply.decode().splitlines():
            field = line.split(" ")
            nodes.append({"id": field[0], "address": field[1], "name": field[1].split(",")[-1],
                          "flags": field[2].split(","), "link": field[7],
                          "slots": field[8:]})
        return nodes

    def shard_rows(self, server=None, keyspace=None):
        args = ("SHARD", "LIST") + ((keyspace,) if keyspace else ())
        reply = self.ask(server or self.any_running(), *args)
        assert isinstance(reply, list), reply
        return [{k: text(v) for k, v in table(row).items()} for row in reply]

    def own_shards(self, keyspace=None):
        """shard -> rows: each running server's of its own replicas, and the leader's of all."""
        shards = {}
        for s in self.servers:
            if not s.is_running or s.paused:
                continue
            rows = self.shard_rows(s, keyspace)
            led = {r["shard"] for r in rows if r["name"] == s.name and r["role"] == "leader"}
            for r in rows:
                r["own"] = r["name"] == s.name
                if r["own"] or r["shard"] in led:
                    shards.setdefault(r["shard"], []).append(r)
        return shards

    def leader(self, keyspace="default", server=None):
        """The server that leads the (first) shard of a keyspace, None if none is known."""
        for row in self.shard_rows(server, keyspace):
            if row["role"] == "leader":
                return next(s for s in self.servers if s.name == row["name"])
        return None

    def wait_leader(self, keyspace="default", server=None, other_than=None, within_s=15):
        def found():
            leader = self.leader(keyspace, server)
            return leader if leader is not other_than else None
        return wait_until(found, within_s, f"a leader of {keyspace}")

    def followers(self, keyspace="default"):
        leader = self.wait_leader(keyspace)
        return [s for s in self.servers if s is not leader]

    def digests(self, keyspace="default"):
        """shard -> {server: (position, digest)}, of the replicas that each running server got
        an answer from."""
        found = {}
        for s in self.servers:
            if not s.is_running or s.paused:
                continue
            reply = self.ask(s, "KEYSPACE", "DIGEST", keyspace)
            assert isinstance(reply, list), reply
            for row in map(table, reply):
                by_replica = found.setdefault(row["shard"], {})
                if row["digest"]:  # empty: it did not answer
                    by_replica[row["server"]] = (row["position"], text(row["digest"]))
        return found

    def wait_equal_digests(self, keyspace="default", replicas=None, within_s=30):
        """All replicas of each shard get to the same position with the same hash."""
        wanted = replicas or min(3, sum(s.is_running for s in self.servers))

        def equal():
            shards = self.digests(keyspace)
            if not shards:
                return False
            for by_replica in shards.values():
                if len(by_replica) < wanted or len(set(by_replica.values())) != 1:
                    return False
            return True
        try:
            wait_until(equal, within_s, "equal digests", 0.1)
        except AssertionError:
            raise AssertionError(f"the replicas differ: {self.digests(keyspace)}") from None

    def wait_writes(self, server=None, key="ready", within_s=20):
        """A write succeeds; the seconds that took."""
        begin = time.monotonic()
        wait_until(lambda: self.ask(server or self.any_running(), "SET", key, "1") == "OK",
                   within_s, "a write succeeds", 0.01)
        return time.monotonic() - begin

    # ---- hurting ----

    def others(self, server):
        return [s for s in self.servers if s is not server]

    def isolate(self, server, inbound=True, outbound=True):
        self.network.isolate(server.name, [s.name for s in self.others(server)],
                             inbound, outbound)

    def heal(self):
        self.network.heal()

    def restart(self, server, within_s=30):
        """Starts a server that has ended; the seconds until it answers."""
        begin = time.monotonic()
        server.start()
        wait_until(lambda: self.ask(server, "PING") == "PONG", within_s,
                   f"{server.name} serves again", 0.005)
        return time.monotonic() - begin


def is_retryable(reply):
    return isinstance(reply, Error) and reply.code in RETRYABLE
