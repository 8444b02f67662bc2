# SPDX-License-Identifier: Apache-2.0
"""Clients that write while servers are hurt, and remember what they were told."""
import glob
import json
import os
import socket
import subprocess
import threading
import time

import redis

from wire import Closed, Error

# What an answer of each code means for a write: nothing was applied.
NOT_APPLIED = ("NOLEADER", "NOQUORUM", "FULL", "READONLY", "LOADING", "ERR")


class Load:
    """Threads that write each key once, so that no later write covers a loss.

        acked     key -> value that was acknowledged
        unknown   keys whose write may or may not have happened
        refused   keys whose write was refused: they must not be there
        gaps      (from, seconds): the longest time without an acknowledgement, per thread
    """

    def __init__(self, servers, threads=4, prefix="w", value_bytes=16, pause_s=0.0, batch=1,
                 spread=True):
        self.servers = list(servers)
        self.prefix = prefix
        self.value = "v" * max(0, value_bytes - 10)
        self.pause_s = pause_s
        self.batch = batch
        self.spread = spread
        self.acked, self.unknown, self.refused = {}, set(), set()
        self.errors = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(i,), daemon=True)
                        for i in range(threads)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()

    def wait_acked(self, more, within_s=20):
        """Until so many more writes have been acknowledged."""
        goal, deadline = len(self.acked) + more, time.monotonic() + within_s
        while len(self.acked) < goal:
            assert time.monotonic() < deadline, \
                f"only {len(self.acked)} of {goal} writes in {within_s} s; {self.errors}"
            time.sleep(0.005)

    def _note(self, reply, key, value):
        with self.lock:
            if reply == "OK":
                self.acked[key] = value
                return
            code = reply.code if isinstance(reply, Error) else type(reply).__name__
            self.errors[code] = self.errors.get(code, 0) + 1
            if code in NOT_APPLIED:
                self.refused.add(key)
            else:
                self.unknown.add(key)

    def _work(self, i):
        n, at, conn = 0, i, None
        while not self.stopping.is_set():
            try:
                if conn is None:
                    conn = self.servers[at % len(self.servers)].conn(timeout=12)
            except OSError:
                at += self.spread
                time.sleep(0.02)
                continue
            batch = []
            for _ in range(self.batch):
                n += 1
                batch.append((f"{self.prefix}{i}:{n}", f"{n}{self.value}"))
            done = 0
            try:
                conn.send_raw(b"".join(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
                    (len(k), k.encode(), len(v), v.encode()) for k, v in batch))
                for k, v in batch:
                    reply = conn.read()
                    self._note(reply, k, v)
                    done += 1
                if isinstance(reply, Error):
                    time.sleep(0.01)
            except (OSError, Closed) as e:
                for k, v in batch[done:]:
                    self._note(e, k, v)
                conn.close()
                conn = None
                at += self.spread
            if self.pause_s:
                time.sleep(self.pause_s)
        if conn is not None:
            conn.close()

    def check(self, server, rolled_back=None):
        """All that was acknowledged is there, and nothing that was refused.  With what
        rolled_back() gave: what is not there is there with its value.  How many that were."""
        missing, wrong, revived = [], [], []
        found = 0
        with server.conn(timeout=60) as c:
            items = sorted(self.acked.items())
            for start in range(0, len(items), 500):
                part = items[start:start + 500]
                for (k, v), got in zip(part, c.pipeline([("GET", k) for k, _ in part])):
                    if isinstance(got, Error):
                        raise AssertionError(f"GET {k}: {got}")
                    if got is None and v in (rolled_back or {}).get(k, ()):
                        found += 1
                    elif got is None:
                        missing.append(k)
                    elif got != v.encode():
                        wrong.append((k, got))
            refused = sorted(self.refused)
            for start in range(0, len(refused), 500):
                part = refused[start:start + 500]
                revived += [k for k, got in zip(part, c.pipeline([("GET", k) for k in part]))
                            if got is not None]
        assert not missing, f"{len(missing)} of {len(items)} acknowledged writes are lost, " \
            f"such as {missing[:5]}"
        assert not wrong, f"wrong values: {wrong[:5]}"
        assert not revived, f"refused, and there all the same: {revived[:5]}"
        return found


class RedisPyLoad(Load):
    """The same by redis-py as it comes: who hears of trouble connects to the next server."""

    def _work(self, i):
        n, at, client = 0, i, None
        while not self.stopping.is_set():
            if client is None:
                s = self.servers[at % len(self.servers)]
                client = redis.Redis(s.host, s.port, socket_timeout=8, socket_connect_timeout=2)
            n += 1
            key, value = f"{self.prefix}{i}:{n}", f"{n}{self.value}"
            try:
                reply = "OK" if client.set(key, value) else None
            except redis.ConnectionError as e:
                # redis-py may have sent it once or not at all: both are possible here.
                reply = e
                client.close()
                client, at = None, at + self.spread
            except redis.RedisError as e:
                reply = Error(e)
                if isinstance(e, redis.TimeoutError):
                    client.close()
                    client, at = None, at + self.spread
                time.sleep(0.01)
            self._note(reply, key, value)
            if self.pause_s:
                time.sleep(self.pause_s)
        if client is not None:
            client.close()


class NodeLoad(Load):
    """The same by ioredis, in a process of Node.js: node_load.js prints what it was told."""

    def __enter__(self):
        here = os.path.dirname(os.path.abspath(__file__))
        hosts = [f"{s.host}:{s.port}" for s in self.servers]
        self.process = subprocess.Popen(
            ["node", os.path.join(here, "node_load.js"), self.prefix, self.value,
             str(len(self.threads)), *hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self._read, daemon=True)]
        return super().__enter__()

    def stop(self):
        if not self.stopping.is_set():
            self.process.stdin.close()
        super().stop()
        assert self.process.wait(10) == 0, self.process.stderr.read()

    def _read(self):
        for line in self.process.stdout:
            key, value, reply = line.rstrip("\n").split(" ", 2)
            self._note("OK" if reply == "OK" else Error(reply), key, value)


def rolled_back(cluster):
    """key -> values that its servers have put aside in rollback/."""
    found = {}
    for s in cluster.servers:
        for path in glob.glob(os.path.join(s.data, "rollback", "*.jsonl")):
            with open(path, encoding="ascii") as f:
                for change in map(json.loads, f):
                    if change["change"] == "put":
                        found.setdefault(change["key"], set()).add(change["value"])
    return found


def seconds_until_write(server, key="probe", within_s=20, patience_s=0.5):
    """How long until a write through this server is acknowledged.  One that waits for a
    leader that is gone may wait for long: after `patience_s` another one is tried."""
    begin = time.monotonic()
    while time.monotonic() - begin < within_s:
        try:
            with server.conn(timeout=patience_s) as c:
                while time.monotonic() - begin < within_s:
                    if c("SET", key, "1") == "OK":
                        return time.monotonic() - begin
                    time.sleep(0.005)
        except (OSError, Closed, socket.timeout):
            time.sleep(0.01)
    raise AssertionError(f"no write in {within_s} s through {server.name}")


def fill(server, n, value_bytes=100, prefix="f", batch=1000):
    """n keys, pipelined."""
    value = "x" * value_bytes
    with server.conn(timeout=60) as c:
        for start in range(0, n, batch):
            many = [("SET", f"{prefix}{i}", value) for i in range(start, min(n, start + batch))]
            replies = c.pipeline(many)
            assert all(r == "OK" for r in replies), next(r for r in replies if r != "OK")
