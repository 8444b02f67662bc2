# SPDX-License-Identifier: Apache-2.0
"""Clients that people use do their usual work with one server, and with each of three."""
import os
import re
import subprocess
import threading

import pytest
import redis
import redis.cluster
from redis.lock import Lock

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(params=[("one", 0), ("three", 0), ("three", 1), ("three", 2)],
                ids=lambda p: f"{p[0]}{p[1]}")
def server(request):
    where, entry = request.param
    return request.getfixturevalue(where)[entry]


@pytest.fixture
def py(server):
    client = server.redis(decode_responses=True)
    client.flushall()
    yield client
    client.close()


# ---- redis-py ----

def test_redis_py_reads_and_writes(py):
    assert py.set("a", "ü") is True
    assert py.get("a") == "ü"
    assert py.set("b", 1, ex=100, nx=True) is True
    assert py.set("b", 1, nx=True) is None
    assert 98 <= py.ttl("b") <= 100
    assert py.incr("b", 41) == 42
    assert py.incrbyfloat("b", 0.5) == 42.5
    assert py.mset({"c": 1, "d": 2}) is True
    assert py.mget("c", "d", "none") == ["1", "2", None]
    assert py.getex("c", ex=10) == "1"
    assert py.exists("a", "b", "none") == 2
    assert py.delete("a", "none") == 1
    assert py.dbsize() == 3
    assert py.ping() is True
    assert py.info()["redis_version"].startswith("7.")
    assert py.config_get("maxclients") == {"maxclients": "10000"}
    assert py.client_setname("x") is True
    assert py.client_getname() == "x"
    assert any(c["name"] == "x" for c in py.client_list())
    assert py.execute_command("KEYSPACE", "LIST") == ["default"]
    with pytest.raises(redis.ResponseError, match="not an integer"):
        py.incr("b")


def test_redis_py_pipelines_and_transactions(py):
    with py.pipeline(transaction=False) as p:
        for i in range(1000):
            p.set(f"p{i}", i).get(f"p{i}")
        replies = p.execute()
    assert replies == [x for i in range(1000) for x in (True, str(i))]
    with py.pipeline() as p:
        assert p.incr("n").incr("n").get("n").execute() == [1, 2, "2"]

    def double(p):
        value = int(p.get("n"))
        p.multi()
        p.set("n", value * 2)
    assert py.transaction(double, "n") == [True]
    assert py.get("n") == "4"
    with py.pipeline() as p:
        p.watch("n")
        py.set("n", "5")
        p.multi()
        p.set("n", "6")
        with pytest.raises(redis.WatchError):
            p.execute()
    assert py.get("n") == "5"


def test_redis_py_scans(py):
    with py.pipeline(transaction=False) as p:
        for i in range(3000):
            p.set(f"s{i}", i)
        p.execute()
    assert set(py.scan_iter("s*", count=100)) == {f"s{i}" for i in range(3000)}
    assert set(py.scan_iter("s1?")) == {f"s1{i}" for i in range(10)}
    assert len(py.keys("s*")) == 3000
    assert py.randomkey().startswith("s")


def test_transactions_of_several_clients_lose_no_update(py, server):
    """Ten clients add to one key by WATCH, GET, MULTI, SET, EXEC."""
    py.set("n", 0)

    def work():
        with server.redis(decode_responses=True) as client:
            for _ in range(10):
                client.transaction(
                    lambda p: (lambda v: (p.multi(), p.set("n", v + 1)))(int(p.get("n"))), "n")
    threads = [threading.Thread(target=work) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert py.get("n") == "100"


class LockWithoutScripts(Lock):
    """redis-py releases locks by Lua; sennit compares with SET IFEQ."""

    def register_scripts(self):
        pass

    def do_release(self, expected_token):
        gone = self.redis.execute_command("SET", self.name, "", "IFEQ", expected_token, "PX", 1)
        if not gone:
            raise redis.exceptions.LockNotOwnedError("no longer owned")


def test_redis_py_lock_excludes(py, server):
    inside, most, done = [], [], []

    def work():
        with server.redis() as client:
            for _ in range(5):
                with LockWithoutScripts(client, "lock", timeout=10, sleep=0.002):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
    threads = [threading.Thread(target=work) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(done) == 25 and max(most) == 1


def test_redis_py_lock_with_lua_is_refused_clearly(py):
    """The lock of redis-py as it stands needs EVALSHA, which this version does not have."""
    lock = py.lock("plain-lock", timeout=1)
    assert lock.acquire()
    with pytest.raises(redis.ResponseError, match="unknown command"):
        lock.release()


def use_cluster_client(server, **kwargs):
    client = redis.cluster.RedisCluster("127.0.0.1", server.port, **kwargs)
    for i in range(200):
        assert client.set(f"rc{i}", i) is True
    assert [client.get(f"rc{i}") for i in range(200)] == [str(i).encode() for i in range(200)]
    assert client.mset_nonatomic({f"rc{i}": 0 for i in range(20)})
    client.close()


def test_redis_py_in_cluster_mode(server):
    use_cluster_client(server)


def test_redis_py_in_cluster_mode_reads_from_replicas(server):
    use_cluster_client(server, read_from_replicas=True)


# ---- Node.js ----

def run_node(server, script, what):
    done = subprocess.run(["node", os.path.join(HERE, script), what, str(server.port)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script,what", [
    ("ioredis.js", "plain"), ("node_redis.js", "plain"), ("ioredis.js", "cluster"),
    ("node_redis.js", "cluster")])
def test_node_clients(server, script, what):
    run_node(server, script, what)


def test_node_redis_in_cluster_mode_reads_from_replicas(three):
    run_node(three[0], "node_redis.js", "replicas")


def test_ioredis_asks_a_sentinel(three):
    run_node(three[1], "ioredis.js", "sentinel")


# ---- redis-cli, redis-benchmark ----

def cli(server, *args, stdin=None):
    done = subprocess.run(["redis-cli", "-p", str(server.port), *args], input=stdin,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_redis_cli(server):
    assert cli(server, "SET", "cli", "1") == "OK\n"
    assert cli(server, "INCR", "cli") == "2\n"
    assert cli(server, "-3", "HELLO", "3").startswith("server")
    assert cli(server, stdin="SET a 1\nGET a\nMULTI\nINCR a\nEXEC\n") == "OK\n1\nOK\nQUEUED\n2\n"
    assert "ERR unknown command" in cli(server, "NOSUCH")
    assert cli(server, "--no-auth-warning", "-r", "3", "INCR", "cli") == "3\n4\n5\n"
    assert "cli" in cli(server, "--scan", "--pattern", "cl*")
    keys = "".join(f"SET pipe{i} {i}\r\n" for i in range(1000))
    assert "errors: 0, replies: 1000" in cli(server, "--pipe", stdin=keys)
    assert cli(server, "GET", "pipe999") == "999\n"
    assert cli(server, "-c", "GET", "pipe1") == "1\n"  # no redirection loop
    assert "cluster_state:ok" in cli(server, "CLUSTER", "INFO")


@pytest.mark.parametrize("pipeline,requests", [(1, 6000), (16, 40000)])
def test_redis_benchmark_runs_to_its_end(server, pipeline, requests):
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-t", "set,get,incr", "-P", str(pipeline),
         "-n", str(requests), "-c", "50", "-r", "10000", "--csv"],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr
    rates = dict(re.findall(r'^"(SET|GET|INCR)","([0-9.]+)"', done.stdout, re.M))
    assert set(rates) == {"SET", "GET", "INCR"}, done.stdout
    print(f"requests per second, -P {pipeline}: {rates}")
