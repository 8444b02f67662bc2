# SPDX-License-Identifier: Apache-2.0
"""sennit up, status, keyspace, cluster: what they print and how they end."""
import fcntl
import json
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from cluster import SENNIT, free_port, run, wait_until
from wire import Conn

SUBCOMMANDS = ["server", "up", "status", "keyspace", "cluster", "recover", "backup", "restore"]


def test_version_and_help():
    version = run("--version")
    assert version.returncode == 0
    assert re.fullmatch(r"sennit \d+\.\d+\.\d+\n", version.stdout)
    usage = run("--help")
    assert usage.returncode == 0 and usage.stderr == ""
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in usage.stdout


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(name):
    done = run(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: sennit {name}")
    assert "example" in done.stdout


@pytest.mark.parametrize("args,words", [
    ([], ["usage: sennit"]),
    (["nosuch"], ["unknown command 'nosuch'", "--help"]),
    (["statsu"], ["did you mean `sennit status`?"]),
    (["up", "--nosuch"], ["unknown argument '--nosuch'"]),
    (["up", "--nodes", "0"], ["--nodes must be from 1"]),
    (["up", "--nodes"], ["--nodes needs a value"]),
    (["up", "--port", "x"], ["--port must be"]),
    (["status", "--server", "nowhere"], ["--server must be HOST:PORT"]),
    (["keyspace"], ["which of create, alter, drop, list, info?", "--help"]),
    (["keyspace", "nosuch"], ["unknown argument 'nosuch'"]),
    (["keyspace", "create", "x"], ["wrong number of arguments", "create NAME MODE"]),
    (["keyspace", "info"], ["wrong number of arguments"]),
    (["cluster"], ["--help"]),
    (["cluster", "join", "127.0.0.1:1"], ["--join 127.0.0.1:1"]),
    (["cluster", "dran", "s1"], ["did you mean", "drain"]),
    (["cluster", "drain"], ["wrong number of arguments", "drain NAME"]),
    (["cluster", "activate", "s1", "--shrink"], ["--shrink is for drain and remove"]),
    (["cluster", "drain", "s1", "--force"], ["--force is for failover"]),
    (["cluster", "list", "--json=yes"], ["--json takes no value"]),
    (["cluster", "list", "--color", "blue"], ["auto, always or never"]),
    (["status", "5"], ["unknown argument '5'"]),
    (["status", "--watch", "0"], ["from 0.1 to 3600"]),
    (["status", "--watch", "1x"], ["from 0.1 to 3600"]),
    (["status", "--whatch"], ["did you mean --watch?"]),
    (["recover", "--data"], ["--data needs a value"]),
    (["recover", "--data", "/nonexistent"], ["no data directory"]),
    (["backup"], ["into which directory?"]),
    (["backup", "--keyspace"], ["--keyspace needs a name"]),
    (["backup", "--verfy", "x"], ["did you mean --verify?"]),
    (["backup", "x", "y"], ["one directory"]),
    (["backup", "--verify", "--keyspace", "a", "x"], ["leave out --keyspace"]),
    (["restore"], ["from which directory?"]),
    (["restore", "--overwrit", "x"], ["did you mean --overwrite?"]),
    (["restore", "--overwrite", "--continue", "x"], ["give one"]),
    (["restore", "x", "--server", "nowhere"], ["--server must be HOST:PORT"]),
])
def test_wrong_use_ends_with_2_and_says_how(args, words):
    done = run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize("args", [["status"], ["keyspace", "list"]])
def test_no_server_ends_with_1_and_says_so(args):
    port = free_port()
    done = run(*args, "--server", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr and "refused" in done.stderr
    assert "--server HOST:PORT" in done.stderr


def test_status(three):
    at = ["--server", f"127.0.0.1:{three[1].port}"]
    done = run("status", *at)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 servers connected" in done.stdout
    for s in three.servers:
        assert s.name in done.stdout and f"127.0.0.1:{s.port}" in done.stdout
    assert "default" in done.stdout and "leader" in done.stdout
    assert "\033" not in done.stdout
    seen = json.loads(run("status", "--json", *at).stdout)
    assert {s["name"] for s in seen["servers"]} == {"s1", "s2", "s3"}
    assert all(s["connected"] for s in seen["servers"])
    assert seen["level"] > 0 and all(s["level"] == seen["level"] for s in seen["servers"])
    assert [k["name"] for k in seen["keyspaces"]] == ["default"]
    assert seen["keyspaces"][0]["policy"]["mode"] == "raft"
    rows = [r for r in seen["shards"] if r["keyspace"] == "default"]
    assert len(rows) == 3 and [r["role"] for r in rows].count("leader") == 1


def test_status_shows_what_is_dead(make_cluster):
    cluster = make_cluster(3)
    victim = cluster.followers()[0]
    victim.kill9()
    at = ["--server", f"127.0.0.1:{cluster.leader(server=cluster.others(victim)[0]).port}"]

    def told():
        done = run("status", *at)
        return "2 of 3 servers connected" in done.stdout and "not reachable" in done.stdout
    wait_until(told, 10, every_s=0.2)
    seen = json.loads(run("status", "--json", *at).stdout)
    assert [s["name"] for s in seen["servers"] if not s["connected"]] == [victim.name]


class Watch:
    """sennit status --watch; its lines, and what it says when it is interrupted."""

    def __init__(self, server, *args):
        self.process = subprocess.Popen(
            [SENNIT, "status", "--watch", "0.2", *args, "--server", f"127.0.0.1:{server.port}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=10)

    def line(self):
        return self.process.stdout.readline()

    def look(self):
        return json.loads(self.line())

    def until(self, condition, frames=100):
        """The first look of which it is true."""
        for _ in range(frames):
            look = self.look()
            if condition(look):
                return look
        raise AssertionError(f"not in {frames} frames; the last: {look}")


def test_watch_prints_an_object_a_line_and_ends_with_ctrl_c(three):
    with Watch(three[0], "--json") as watch:
        for _ in range(2):
            look = watch.look()
            assert len(look["servers"]) == 3 and look["attention"] == []
        watch.process.send_signal(signal.SIGINT)
        rest, errors = watch.process.communicate(timeout=10)
        assert watch.process.returncode == 0 and errors == ""
        for line in rest.splitlines():  # whole ones only
            assert len(json.loads(line)["servers"]) == 3


def test_watch_without_a_terminal_prints_frames_one_after_the_other(three):
    with Watch(three[0]) as watch:
        frames, text = 0, ""
        while frames < 2:
            text += watch.line()
            frames = text.count("3 of 3 servers connected")
        watch.process.send_signal(signal.SIGTERM)
        rest, errors = watch.process.communicate(timeout=10)
        assert watch.process.returncode == 0 and errors == ""
        assert "\033" not in text + rest


def test_watch_goes_on_through_the_others(make_cluster):
    """The server that it asks dies, then a second one, then all; and they come back."""
    cluster = make_cluster(3)
    first, second, third = cluster.servers
    with Watch(first, "--json") as watch:
        assert all(s["connected"] for s in watch.look()["servers"])
        first.kill9()
        look = watch.until(lambda l: any("not reachable" in a for a in l.get("attention", [])))
        assert [s["name"] for s in look["servers"] if not s["connected"]] == [first.name]
        second.kill9()
        watch.until(lambda l: any("of default has no leader" in a
                                  for a in l.get("attention", [])))
        third.kill9()
        assert "refused" in watch.until(lambda l: "error" in l)["error"]
        for s in cluster.servers:
            s.start()
        watch.until(lambda l: l.get("attention") == [], 400)


def on_a_terminal(*args, env=None, seconds=0.0, rows=40):
    """What the command writes to a terminal, and its exit code; interrupted if seconds are given."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 200, 0, 0))
    process = subprocess.Popen([SENNIT, *args], stdin=side, stdout=side, stderr=side,
                               env={**os.environ, "TERM": "xterm", **(env or {})})
    os.close(side)
    if seconds:
        threading.Timer(seconds, process.send_signal, (signal.SIGINT,)).start()
    text = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        text += part
    os.close(main)
    return text.decode(), process.wait(10)


def test_colours_are_for_terminals_and_for_trouble(make_cluster):
    cluster = make_cluster(3)
    at = ["--server", f"127.0.0.1:{cluster[0].port}"]
    red, dim = "\033[31m", "\033[2m"
    wait_until(lambda: "all is well" in run("status", *at).stdout, 20)
    text, code = on_a_terminal("status", *at)
    assert code == 0 and dim in text and red not in text
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in on_a_terminal("status", *at, env=env)[0]
    assert "\033" not in on_a_terminal("status", "--color", "never", *at)[0]
    assert dim in run("cluster", "list", "--color", "always", *at).stdout
    cluster[2].kill9()
    wait_until(lambda: red in on_a_terminal("status", *at)[0], 10)
    assert f"{red}  ! {cluster[2].name} is not reachable" in on_a_terminal("status", *at)[0]
    assert red in run("cluster", "list", "--color=always", *at).stdout


def test_watch_on_a_terminal_stays_in_the_window_and_puts_it_right(three):
    at = ["--server", f"127.0.0.1:{three[0].port}"]
    text, code = on_a_terminal("status", "--watch", "0.1", *at, seconds=1.5, rows=10)
    assert code == 0
    frames = text.split("\033[H")
    assert len(frames) > 3 and "servers connected" in frames[2]
    assert all(f.count("\n") <= 10 for f in frames[2:-1])
    assert text.startswith("\033[?25l") and text.rstrip().endswith("\033[?25h")


def test_status_shows_what_was_discarded(make_cluster):
    """An ACK async primary that was replaced has kept what it had alone."""
    cluster = make_cluster(3, partitions=True)
    assert cluster[0].ask("KEYSPACE", "CREATE", "p", "MODE", "primary", "ACK", "async") == "OK"
    cluster.wait_ready()
    leader = cluster.wait_leader("p")
    other = cluster.others(leader)[0]
    cluster.isolate(leader)
    assert leader.ask("SET", "p:alone", "1") == "OK"
    cluster.wait_leader("p", server=other, other_than=leader)
    wait_until(lambda: other.ask("SET", "p:new", "1") == "OK", 20)
    cluster.heal()

    def told():
        look = json.loads(run("status", "--json", "--server", f"127.0.0.1:{other.port}").stdout)
        return [a for a in look["attention"] if f"{leader.name} holds discarded writes in 1 file" in a]
    wait_until(told, 20, every_s=0.3)


def grid_rows(text):
    """The first grid of a screen: its rows by their heads, which no cell with blanks upsets."""
    lines = text.splitlines()
    heads = [(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+( \S+)*", lines[0])]
    rows = []
    for line in lines[1:]:
        cells = [(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+( \S+)*", line)]
        rows.append({head: cell for head, at, end in heads for cell, a, e in cells
                     if a < end and at < e})
    return rows


def test_columns_are_aligned(three):
    lines = run("cluster", "list", "--server", f"127.0.0.1:{three[0].port}").stdout.splitlines()
    assert len(lines) == 4
    left = [m.start() for m in re.finditer(r"(?<=  )\S", lines[0])]
    for line in lines[1:]:
        assert line == line.rstrip() and line.startswith("  ")
        assert line[left[0]] != " " and line[left[1]] != " "
    assert {len(line) for line in lines} == {len(lines[0])}  # numbers end where their head does


@pytest.mark.parametrize("family,names", [
    ("cluster", ["list", "drain", "activate", "remove", "replace", "failover", "join"]),
    ("keyspace", ["create", "alter", "drop", "list", "info"])])
def test_each_of_a_family_has_help_with_an_example(family, names):
    whole = run(family, "--help").stdout
    for name in names:
        assert f"sennit {family} {name}" in whole
        done = run(family, name, "--help")
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.startswith(f"usage: sennit {family} {name}")
        assert "example" in done.stdout and "--server HOST:PORT" in done.stdout
        assert all(len(line) <= 90 for line in done.stdout.splitlines())


def test_cluster_list_for_programs_and_an_order_that_cannot_be(three):
    at = ["--server", f"127.0.0.1:{three[1].port}"]
    rows = json.loads(run("cluster", "list", "--json", *at).stdout)
    assert {r["name"] for r in rows} == {"s1", "s2", "s3"}
    assert all(r["state"] == "active" and r["reachable"] == 1 for r in rows)
    done = run("cluster", "failover", "default", "s2", "--json", *at)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"] is True
    done = run("cluster", "failover", "nosuch", *at)
    assert done.returncode == 1 and done.stdout == ""
    assert "NOKEYSPACE" in done.stderr and "sennit keyspace list" in done.stderr


def test_keyspace_commands(three):
    at = ["--server", f"127.0.0.1:{three[2].port}"]
    done = run("keyspace", "create", "shop", "MODE", "raft", "SHARDS", "2", *at)
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    done = run("keyspace", "list", *at)
    rows = grid_rows(done.stdout)
    assert done.returncode == 0 and {r["KEYSPACE"] for r in rows} >= {"default", "shop"}
    assert next(r for r in rows if r["KEYSPACE"] == "shop")["SHARDS"] == "2"
    listed = json.loads(run("keyspace", "list", "--json", *at).stdout)
    assert [(k["mode"], k["shards"]) for k in listed if k["name"] == "shop"] == [("raft", 2)]
    done = run("keyspace", "info", "shop", *at)
    assert done.returncode == 0
    info = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert info["mode"] == "raft" and info["shards"] == "2"
    assert json.loads(run("keyspace", "info", "shop", "--json", *at).stdout)["shards"] == 2
    assert run("keyspace", "alter", "shop", "READ", "any", *at).returncode == 0
    assert "any" in run("keyspace", "info", "shop", *at).stdout
    done = run("keyspace", "create", "shop", "MODE", "raft", *at)
    assert done.returncode == 1 and "exists already" in done.stderr and done.stdout == ""
    done = run("keyspace", "create", "x", "MODE", "nosuch", *at)
    assert done.returncode == 1 and "BADPOLICY" in done.stderr
    assert run("keyspace", "drop", "shop", *at).returncode == 0
    done = run("keyspace", "info", "shop", *at)
    assert done.returncode == 1 and "NOKEYSPACE" in done.stderr


def test_a_password_file_is_used(make_cluster, tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("secret\n")
    wrong.write_text("other\n")
    s = make_cluster(1, args=["--password-file", right], password="secret")[0]
    at = ["--server", f"127.0.0.1:{s.port}"]
    assert run("status", *at, "--password-file", right).returncode == 0
    done = run("status", *at, "--password-file", wrong)
    assert done.returncode == 1 and "password" in done.stderr
    done = run("status", *at)
    assert done.returncode == 1 and "NOAUTH" in done.stderr


# ---- sennit up ----

class Up:
    """sennit up as a process; its servers end with it."""

    def __init__(self, directory, port, nodes=3):
        self.port = port
        self.out = os.path.join(directory, "up.out")
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [SENNIT, "up", "--nodes", str(nodes), "--dir", os.path.join(directory, "c"),
                 "--port", str(port)], stdout=out, stderr=subprocess.STDOUT)

    def text(self):
        with open(self.out, encoding="utf-8") as f:
            return f.read()

    def wait_ready(self, nodes=3):
        def ready():
            assert self.process.poll() is None, self.text()
            return f"{nodes} servers are ready" in self.text() or \
                nodes == 1 and "1 server is ready" in self.text()
        wait_until(ready, 60, every_s=0.05)
        time.sleep(0.2)

    def pids(self):
        return [int(p) for p in re.findall(r"^ *s\d+ +\S+ +(\d+)", self.text(), re.M)]

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(20)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


def ports_for(nodes):
    """A port that is free with those behind it, and so are those 10000 above, which must lie
    below the range that the kernel gives to clients."""
    while True:
        port = random.randrange(12000, 22000)
        try:
            for p in [port + i for i in range(nodes)]:
                for each in (p, p + 10000):
                    with socket.socket() as s:
                        s.bind(("127.0.0.1", each))
            return port
        except OSError:
            continue


@pytest.fixture
def up(tmp_path):
    made = []

    def make(**kwargs):
        port = made[0].port if made else ports_for(kwargs.get("nodes", 3))
        made.append(Up(str(tmp_path), port, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.end()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_up_starts_is_used_stops_and_comes_back(up):
    first = up()
    first.wait_ready()
    pids = first.pids()
    assert len(pids) == 3
    for command in re.findall(r"redis-cli -p \d+ SET \S+ hello", first.text()):
        done = subprocess.run(command.split(), capture_output=True, text=True, timeout=15,
                              check=False)
        assert done.stdout == "OK\n", (command, done.stdout)
    assert "redis-cli" in first.text() and "greeting" in first.text()
    done = run("status", "--server", f"127.0.0.1:{first.port}")
    assert "3 of 3 servers connected" in done.stdout
    with Conn(first.port + 2) as c:
        assert c("GET", "greeting") == b"hello"
    assert first.stop() == 0, first.text()
    assert not any(is_alive(p) for p in pids)
    second = up()
    second.wait_ready()
    with Conn(second.port + 1) as c:
        wait_until(lambda: c("GET", "greeting") == b"hello", 10)
        assert b"bank" in c("KEYSPACE", "LIST")
        assert c("GET", "bank:alice") == b"hello"
    assert second.stop(signal.SIGTERM) == 0, second.text()


def test_what_the_screen_of_up_says_is_true_at_once(up):
    """It suggests to kill -9 a server: every shard goes on without it."""
    one = up()
    wait_until(lambda: "Ctrl-C stops it" in one.text(), 60, every_s=0.005)
    pid = int(re.search(r"kill -9 (\d+),", one.text()).group(1))
    assert pid == one.pids()[0]
    os.kill(pid, signal.SIGKILL)
    keys = re.findall(r"redis-cli -p \d+ SET (\S+) hello", one.text())
    assert len(keys) >= 2
    with Conn(one.port + 1) as c:
        for key in keys:
            wait_until(lambda key=key: c("SET", key, "1") == "OK", 5, key)


def test_up_suggests_no_kill_that_would_stop_it(up):
    two = up(nodes=2)
    wait_until(lambda: "Ctrl-C stops it" in two.text(), 60)
    assert "2 servers are ready" in two.text() and "kill -9" not in two.text()
    assert "fewer voters" not in two.text()


def test_up_goes_on_without_one_and_says_so(up):
    one = up()
    one.wait_ready()
    os.kill(one.pids()[0], signal.SIGKILL)
    wait_until(lambda: "2 of 3 servers go on" in one.text(), 10)
    assert "s1" in one.text() and "signal 9" in one.text()
    with Conn(one.port + 1) as c:
        wait_until(lambda: c("SET", "a", "1") == "OK", 10)
    one.stop()


def test_servers_end_when_up_is_killed(up):
    one = up()
    one.wait_ready()
    pids = one.pids()
    one.process.kill()
    one.process.wait(5)
    wait_until(lambda: not any(is_alive(p) for p in pids), 15)


def test_up_with_a_port_in_use_says_so_and_leaves_nothing_behind(up, one):
    process = subprocess.run([SENNIT, "up", "--nodes", "2", "--port", str(one[0].port - 1),
                              "--dir", os.path.join(one.directory, "up")],
                             capture_output=True, text=True, timeout=90, check=False)
    assert process.returncode == 1
    assert "in use" in process.stdout + process.stderr
    assert one[0].ask("PING") == "PONG"


def test_up_of_one(up):
    alone = up(nodes=1)
    alone.wait_ready(1)
    with Conn(alone.port) as c:
        assert c("SET", "a", "1") == "OK"
    assert alone.stop() == 0
