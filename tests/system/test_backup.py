# SPDX-License-Identifier: Apache-2.0
"""sennit backup and restore: what was acknowledged is in the copy, one position per shard, and
comes back whole; what is not whole is never taken for a copy."""
import json
import os
import pty
import random
import re
import shutil
import subprocess
import threading
import time

import pytest

from cluster import SENNIT, run, wait_until
from load import fill
from test_full import small_disk  # noqa: F401
from wire import Closed, Conn, Error, table, text

FAR = 4102444800000  # 2100, as a deadline in ms


def backup(server, path, *args, **kwargs):
    return run("backup", "--server", f"127.0.0.1:{server.port}", *args, path, timeout=120,
               **kwargs)


def restore(server, path, *args, **kwargs):
    return run("restore", "--server", f"127.0.0.1:{server.port}", *args, path, timeout=120,
               **kwargs)


def good(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


def told(done, *words, code=1):
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr
    return done


def verify(path):
    return run("backup", "--verify", path)


def everything(server):
    """key -> (value, deadline) of the whole cluster."""
    found = {}
    with server.conn(timeout=60) as c:
        cursor, keys = b"0", []
        while True:
            cursor, more = c("SCAN", cursor, "COUNT", 1000)
            keys += more
            if cursor == b"0":
                break
        for i in range(0, len(keys), 500):
            part = keys[i:i + 500]
            values = c.pipeline([("GET", k) for k in part])
            deadlines = c.pipeline([("PEXPIRETIME", k) for k in part])
            found.update(zip(part, zip(values, deadlines)))
    return found


def policy(server, name):
    info = {k: text(v) for k, v in table(server.ask("KEYSPACE", "INFO", name)).items()}
    return {k: v for k, v in info.items() if k != "state"}


def shard_file(path):
    """The largest one."""
    files = [os.path.join(path, f) for f in os.listdir(path) if f.startswith("shard-")]
    return max(files, key=os.path.getsize)


@pytest.fixture(scope="module")
def source(three):
    """A cluster with some of everything, and what it holds."""
    rng = random.Random(5)
    with three[0].conn(timeout=60) as c:
        assert c("KEYSPACE", "CREATE", "bank", "MODE", "raft", "SHARDS", "4", "READ", "any",
                 "MAXLAG", "5000") == "OK"
        assert c("KEYSPACE", "CREATE", "cache", "MODE", "primary", "ACK", "async", "DURABILITY",
                 "memory") == "OK"
        assert c("KEYSPACE", "CREATE", "empty", "MODE", "raft", "SHARDS", "2") == "OK"
        assert c("KEYSPACE", "ALTER", "default", "READ", "lease") == "OK"
        for prefix in ("", "bank:", "cache:", "{bank:"):
            for i in range(300):
                key = prefix.encode() + rng.randbytes(rng.randrange(0 if prefix else 1, 40))
                args = ("PXAT", FAR + i) if i % 3 == 0 else ()
                value = rng.randbytes(rng.choice([0, 1, 10, 100, 5000]))
                assert c("SET", key, value, *args) == "OK"
        assert c("SET", b"long" * 16000, b"key") == "OK"
        assert c("SET", "piece", rng.randbytes(256 * 1024)) == "OK"
        assert c("SET", "more", rng.randbytes(256 * 1024 + 1), "PXAT", FAR) == "OK"
        assert c("SET", "run", rng.randbytes((1 << 20) - 3)) == "OK"
        assert c("SET", "bank:pieces", rng.randbytes((5 << 20) + 7), "PXAT", FAR) == "OK"
    three.wait_equal_digests("bank")
    three.wait_equal_digests("cache")
    return three, everything(three[0])


@pytest.fixture(scope="module")
def copy(source, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("copy") / "copy")
    good(backup(source[0][0], path))
    return path


# ---- there and back ----

@pytest.mark.parametrize("servers", [1, 3])
def test_all_comes_back(make_cluster, source, copy, servers):
    """One copy, into clusters of another size."""
    good(verify(copy))
    target = make_cluster(servers)
    good(restore(target[0], copy))
    for name in ("default", "bank", "cache"):
        target.wait_equal_digests(name, replicas=servers)
    assert everything(target[servers - 1]) == source[1]
    for name in ("default", "bank", "cache", "empty"):
        assert policy(target[0], name) == policy(source[0][0], name)
    # And what is copied there is the same again.
    again = copy + f"-{servers}"
    good(backup(target[0], again))
    counts = [[l.split(" keys ")[1].split(" size ")[0] for l in
               open(os.path.join(p, "manifest"), encoding="ascii") if l.startswith("shard")]
              for p in (copy, again)]
    assert counts[0] == counts[1]


def test_any_server_gives_all_and_the_summary_is_for_programs(source, copy, tmp_path):
    """Each shard's copy comes from its leader, whichever server is asked first."""
    cluster, held = source
    for s in cluster.servers:
        done = good(backup(s, tmp_path / s.name, "--json"))
        told_of = json.loads(done.stdout)
        assert told_of["keys"] == len(held)
        assert told_of["bytes"] == sum(len(v) for v, _ in held.values())
        assert told_of["keyspaces"] == ["default", "bank", "cache", "empty"]
        assert len(told_of["shards"]) == 8
        assert json.loads(good(run("backup", "--verify", "--json",
                                   tmp_path / s.name)).stdout)["keys"] == len(held)


def test_one_keyspace_with_another_number_of_shards(make_cluster, source, copy, tmp_path):
    cluster, held = source
    only = tmp_path / "bank"
    good(backup(cluster[1], only, "--keyspace", "bank"))
    target = make_cluster(1)
    assert target[0].ask("KEYSPACE", "CREATE", "bank", "MODE", "raft", "SHARDS", "7") == "OK"
    done = restore(target[0], only, "--json")
    assert done.returncode == 0 and "keeps its policy" in done.stderr
    tally = json.loads(done.stdout)
    bank = {k: v for k, v in held.items() if re.match(rb"\{?bank:", k)}
    assert tally["restored"] == len(bank) and tally["conflicts"] == 0
    assert everything(target[0]) == bank
    told(backup(cluster[1], tmp_path / "x", "--keyspace", "nosuch"), "no keyspace 'nosuch'")
    assert not os.path.exists(tmp_path / "x")
    told(restore(target[0], only, "--keyspace", "cache"), "holds no keyspace 'cache'")


def test_what_has_expired_is_left_out(make_cluster, tmp_path):
    cluster = make_cluster(1)
    with cluster[0].conn() as c:
        assert c("MSET", "a", "1", "b", "2") == "OK"
        assert c("SET", "soon", "x", "PX", "1500") == "OK"
        good(backup(cluster[0], tmp_path / "copy"))
        wait_until(lambda: c("DBSIZE") == 2, 10, "it expires")
        c("FLUSHALL")
    done = good(restore(cluster[0], tmp_path / "copy", "--json"))
    assert json.loads(done.stdout)["expired"] == 1
    assert set(everything(cluster[0])) == {b"a", b"b"}


# ---- under load ----

class Bank:
    """Accounts, in groups that lie in one shard each; money is moved within a group."""

    GROUPS, ACCOUNTS, EACH = 12, 20, 100

    def __init__(self, servers):
        self.servers = servers
        self.stopping = threading.Event()
        self.moved = 0
        self.acked = []
        with servers[0].conn() as c:
            for g in range(self.GROUPS):
                assert c("MSET", *[x for i in range(self.ACCOUNTS)
                                   for x in (self.key(g, i), self.EACH)]) == "OK"
        self.threads = [threading.Thread(target=self.work, args=(n,), daemon=True)
                        for n in range(4)]

    @staticmethod
    def key(group, i):
        return f"bank:{{{group}}}:{i}"

    def work(self, n):
        rng = random.Random(n)
        c, done = None, 0
        while not self.stopping.is_set():
            try:
                if c is None:
                    c = rng.choice([s for s in self.servers if s.is_running]).conn(timeout=5)
                g = rng.randrange(self.GROUPS)
                a, b = rng.sample(range(self.ACCOUNTS), 2)
                log = f"bank:{{{g}}}:log:{n}:{done}"
                reply = c.transaction(("DECR", self.key(g, a)), ("INCR", self.key(g, b)),
                                      ("SET", log, "x" * 100))
                if isinstance(reply, list):
                    self.moved += 1
                    self.acked.append(log.encode())
                done += 1
            except (OSError, Closed):
                c = None
                time.sleep(0.05)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join(30)

    def check(self, held, acked):
        """Of what a copy held: no transfer by half, and nothing acknowledged is missing."""
        for g in range(self.GROUPS):
            money = [int(held[self.key(g, i).encode()][0]) for i in range(self.ACCOUNTS)]
            assert sum(money) == self.EACH * self.ACCOUNTS, (g, money)
        missing = [k for k in acked if k not in held]
        assert not missing, missing[:5]


def copy_under_load(cluster, path, mode, hurt=None):
    assert cluster[0].ask("KEYSPACE", "CREATE", "bank", *mode, "SHARDS", "5") == "OK"
    with Bank(cluster.servers) as bank:
        wait_until(lambda: bank.moved > 200, 20, "money moves")
        acked = list(bank.acked)
        process = subprocess.Popen([SENNIT, "backup", "--server",
                                    f"127.0.0.1:{cluster[1].port}", path],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if hurt is not None:
            hurt(process)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        before = bank.moved
        wait_until(lambda: bank.moved > before + 50, 20, "money still moves")
    return bank, acked


@pytest.mark.parametrize("mode", [("MODE", "raft"), ("MODE", "primary", "ACK", "async")],
                         ids=["raft", "async"])
def test_a_copy_under_load_is_of_one_position_per_shard(make_cluster, tmp_path, mode):
    """EXEC is there as a whole or not at all, and all is there that was acknowledged before."""
    bank, acked = copy_under_load(make_cluster(3), tmp_path / "copy", mode)
    target = make_cluster(1)
    good(restore(target[0], tmp_path / "copy"))
    bank.check(everything(target[0]), acked)


def test_a_leader_that_dies_in_the_middle_costs_its_shards_copy_only(make_cluster, tmp_path):
    cluster = make_cluster(3)
    fill(cluster[0], 150000, value_bytes=1000)
    path = tmp_path / "copy"
    leader = cluster.leader()

    def hurt(process):
        wait_until(lambda: (path / "shard-1.copy").exists() and
                   (path / "shard-1.copy").stat().st_size > 0, 30, "its copy has begun", 0.002)
        leader.kill9()
        assert process.poll() is None
    cluster.servers.sort(key=lambda s: s is leader)  # another one is asked
    bank, acked = copy_under_load(cluster, path, ("MODE", "raft"), hurt)
    good(verify(path))
    target = make_cluster(1)
    good(restore(target[0], path))
    held = everything(target[0])
    bank.check(held, acked)
    assert all(f"f{i}".encode() in held for i in range(150000))


def test_the_only_server_dies_in_the_middle_and_no_copy_is_left(make_cluster, tmp_path):
    cluster = make_cluster(1)
    fill(cluster[0], 150000, value_bytes=1000)
    path = tmp_path / "copy"
    process = subprocess.Popen([SENNIT, "backup", "--server", f"127.0.0.1:{cluster[0].port}",
                                path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (path / "shard-1.copy").exists(), 30, "it has begun", 0.002)
    cluster[0].kill9()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "shard 1 of keyspace default can't be copied" in err
    assert "no backup was made" in err
    assert not path.exists()


def test_a_copy_that_is_killed_is_none(make_cluster, tmp_path):
    cluster = make_cluster(1)
    fill(cluster[0], 100000, value_bytes=1000)
    path = tmp_path / "copy"
    process = subprocess.Popen([SENNIT, "backup", "--server", f"127.0.0.1:{cluster[0].port}",
                                path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: (path / "shard-1.copy").exists(), 30, "it has begun", 0.002)
    process.kill()
    process.wait(10)
    told(verify(path), "was not finished")
    told(restore(cluster[0], path, "--continue"), "was not finished")
    told(backup(cluster[0], path), "holds a backup that was not finished")


# ---- interrupted restores ----

def begun(cluster, path, *args):
    process = subprocess.Popen([SENNIT, "restore", "--server",
                                f"127.0.0.1:{cluster[0].port}", *args, path],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def some_are_there():
        n = cluster[0].ask("DBSIZE")
        return isinstance(n, int) and 0 < n
    wait_until(some_are_there, 30, "it has begun", 0.002)
    return process


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A copy of 300,000 keys."""
    from cluster import Cluster
    path = str(tmp_path_factory.mktemp("many") / "copy")
    with Cluster(1) as cluster:
        fill(cluster[0], 300000, value_bytes=100)
        good(backup(cluster[0], path))
    return path


def test_an_interrupted_restore_goes_on(make_cluster, many):
    cluster = make_cluster(1)
    process = begun(cluster, many)
    process.kill()
    process.wait(10)
    n = cluster[0].ask("DBSIZE")
    assert 0 < n < 300000
    told(restore(cluster[0], many), "keyspace default of this cluster holds", "--continue")
    tally = json.loads(good(restore(cluster[0], many, "--continue", "--json")).stdout)
    assert tally["restored"] + tally["there"] == 300000 and tally["there"] >= n
    assert cluster[0].ask("DBSIZE") == 300000


@pytest.mark.parametrize("servers", [1, 3])
def test_a_server_that_dies_while_it_is_restored_into(make_cluster, many, servers):
    """SETs whose outcome is not known are repeated; none is lost or taken for a conflict."""
    cluster = make_cluster(servers)
    leader = cluster.leader()
    process = begun(cluster, many, "--json")
    leader.kill9()
    time.sleep(0.5)
    cluster.restart(leader)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    tally = json.loads(out)
    assert tally["restored"] + tally["there"] == 300000 and tally["conflicts"] == 0
    assert cluster[0].ask("DBSIZE") == 300000


# ---- what is there already ----

def test_keys_of_others_are_neither_replaced_nor_hidden(make_cluster, source, copy):
    cluster = make_cluster(1)
    some = sorted(k for k in source[1] if k.startswith(b"cache:"))
    with cluster[0].conn() as c:
        assert c("SET", some[0], "mine") == "OK"
    told(restore(cluster[0], copy, "--continue"), "KEYSEXIST 1 keys of default")
    with cluster[0].conn() as c:
        assert c("DEL", some[0]) == 1
        assert c("KEYSPACE", "CREATE", "cache", "MODE", "raft") == "OK"
        assert c("SET", some[0], "mine") == "OK"
        assert c("SET", "bank:pieces", "mine") == "OK"
        assert c("SET", "own", "mine") == "OK"
        assert c("SET", some[1], source[1][some[1]][0], "PXAT", FAR - 1) == "OK"
    told(restore(cluster[0], copy, "--keyspace", "cache"), "holds 2 keys", "--overwrite")
    told(restore(cluster[0], copy, "--keyspace", "cache", "--continue"), "2 keys were there",
         "was left as it is")
    with cluster[0].conn() as c:
        assert c("GET", some[0]) == b"mine"
        assert c("PEXPIRETIME", some[1]) == FAR - 1
        assert c("GET", "own") == b"mine"
    done = restore(cluster[0], copy, "--keyspace", "cache", "--overwrite")
    assert done.returncode == 0, done.stderr
    held = everything(cluster[0])
    assert all(held[k] == source[1][k] for k in some)
    assert held[b"own"] == (b"mine", -1)


def test_a_large_value_that_differs_is_left(make_cluster, source, copy):
    cluster = make_cluster(1)
    value = bytearray(source[1][b"bank:pieces"][0])
    value[-1] ^= 1
    with cluster[0].conn() as c:
        assert c("KEYSPACE", "CREATE", "bank", "MODE", "raft") == "OK"
        assert c("SET", "bank:pieces", bytes(value), "PXAT", FAR) == "OK"
    told(restore(cluster[0], copy, "--keyspace", "bank", "--continue"), "bank:pieces")
    assert cluster[0].ask("GET", "bank:pieces") == bytes(value)
    restore(cluster[0], copy, "--keyspace", "bank", "--overwrite")
    done = restore(cluster[0], copy, "--keyspace", "bank", "--continue", "--json")
    assert done.returncode == 0
    tally = json.loads(done.stdout)
    assert tally["restored"] == 0 and tally["there"] > 500


def test_a_key_that_would_change_its_keyspace_is_refused(make_cluster, tmp_path):
    first, second = make_cluster(1), make_cluster(1)
    assert first[0].ask("SET", "cart:1", "x") == "OK"
    good(backup(first[0], tmp_path / "copy"))
    assert second[0].ask("KEYSPACE", "CREATE", "cart", "MODE", "raft") == "OK"
    told(restore(second[0], tmp_path / "copy"), "'cart:1'", "keyspace cart", "nothing was")
    assert second[0].ask("DBSIZE") == 0


# ---- what is no copy ----

def damaged(copy, tmp_path, change):
    path = str(tmp_path / "damaged")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(copy, path)
    change(path)
    return path


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x10]))


def swap(path):
    empty = [os.path.join(path, f) for f in os.listdir(path)
             if f.startswith("shard-") and os.path.getsize(os.path.join(path, f)) < 100]
    os.rename(empty[0], empty[0] + ".x")
    os.rename(empty[1], empty[0])
    os.rename(empty[0] + ".x", empty[1])


def newer(path):
    with open(os.path.join(path, "manifest"), "r+b") as f:
        text_of = f.read().replace(b"sennit-backup 1", b"sennit-backup 2")
        f.seek(0)
        f.write(text_of)


@pytest.mark.parametrize("change,words", [
    (lambda p: flip(shard_file(p), 3), ["is damaged"]),
    (lambda p: flip(shard_file(p), 40), ["is damaged"]),
    (lambda p: flip(shard_file(p), os.path.getsize(shard_file(p)) // 2), ["from byte"]),
    (lambda p: flip(shard_file(p), os.path.getsize(shard_file(p)) - 1), ["is damaged"]),
    (lambda p: os.truncate(shard_file(p), os.path.getsize(shard_file(p)) - 8), ["bytes, and"]),
    (lambda p: os.remove(shard_file(p)), ["No such file"]),
    (swap, ["another shard or position"]),
    (lambda p: flip(os.path.join(p, "manifest"), 200), ["manifest is damaged"]),
    (lambda p: os.truncate(os.path.join(p, "manifest"), 300), ["manifest is damaged"]),
    (lambda p: open(os.path.join(p, "manifest"), "w").close(), ["something else"]),
    (lambda p: os.remove(os.path.join(p, "manifest")), ["was not finished"]),
    (newer, ["newer format"]),
])
def test_damage_is_told_before_anything_is_restored(source, copy, tmp_path, change, words):
    path = damaged(copy, tmp_path, change)
    told(verify(path), *words)
    told(restore(source[0][0], path, "--overwrite"), *words)
    assert everything(source[0][0]) == source[1]


def test_what_is_no_copy_is_told(one, copy, tmp_path):
    told(verify(tmp_path / "nosuch"), "No such file")
    told(verify(tmp_path), "is no backup")
    told(restore(one[0], tmp_path), "is no backup")
    told(backup(one[0], copy), "holds a backup already")
    (tmp_path / "file").write_text("x")
    told(backup(one[0], tmp_path), "is not empty")
    told(backup(one[0], tmp_path / "no" / "parent"), "cannot make")
    told(backup(one[0], tmp_path / "file"), "cannot open")
    good(verify(copy))


def test_nobody_answers(tmp_path):
    done = run("backup", "--server", "127.0.0.1:1", tmp_path / "copy")
    told(done, "cannot reach", "--server")
    assert not (tmp_path / "copy").exists()


def test_a_password_is_needed_and_given(make_cluster, tmp_path):
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    cluster = make_cluster(1, args=["--password-file", str(tmp_path / "password")],
                           password="secret")
    copy_path = tmp_path / "copy"
    told(backup(cluster[0], copy_path), "wants a password")
    told(backup(cluster[0], copy_path, "--password-file", tmp_path / "wrong"), "was refused")
    good(backup(cluster[0], copy_path, "--password-file", tmp_path / "password"))
    told(restore(cluster[0], copy_path), "wants a password")
    good(restore(cluster[0], copy_path, "--password-file", tmp_path / "password"))


def test_a_full_disk_leaves_no_copy(one, small_disk):  # noqa: F811
    disk = small_disk(8)
    fill(one[0], 20000, value_bytes=1000, prefix="full")
    told(backup(one[0], os.path.join(disk, "copy")), "No space left", "no backup was made")
    assert os.listdir(disk) == []


# ---- on a terminal ----

def test_progress_is_shown_on_a_terminal_only(one, many, tmp_path):
    main, end = pty.openpty()
    process = subprocess.Popen([SENNIT, "restore", "--server", f"127.0.0.1:{one[0].port}",
                                "--continue", many], stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    seen = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(main)
    assert process.wait(60) == 0
    assert re.search(rb"restored [0-9.]+ [KM]B, [0-9]+ keys", seen), seen
    assert re.search(rb"MB/s, [0-9]+ %, [0-9]+ s left", seen), seen
    assert seen.endswith(b"\r\x1b[K")


# ---- the protocol ----

def test_only_the_leader_gives_copies_and_says_where_it_is(three):
    leader = three.wait_leader()
    for s in three.servers:
        reply = s.ask("BACKUP", "BEGIN", "1")
        if s is leader:
            head = {k: text(v) for k, v in table(reply).items()}
            assert head["keyspace"] == "default" and head["slots"] == "0-16383"
        else:
            assert reply == f"MOVED 0 127.0.0.1:{leader.port}"


def test_a_copy_belongs_to_its_connection(three):
    leader = three.wait_leader()
    with leader.conn() as c:
        reply = c("BACKUP", "NEXT")
        assert isinstance(reply, Error) and "no copy has been begun" in reply
        for wrong in ("0", "99999", "-1", "x", str(1 << 32)):
            reply = c("BACKUP", "BEGIN", wrong)
            assert isinstance(reply, Error) and "no such shard" in reply
        assert isinstance(c("BACKUP", "BEGIN", "1"), list)
        assert c("BACKUP", "NEXT")[5:13] == b"SNTCOPY\0"
        assert isinstance(c("BACKUP", "BEGIN", "1"), list)  # anew
        assert c("BACKUP", "NEXT")[5:13] == b"SNTCOPY\0"
        assert c("BACKUP", "END") == "OK"
        assert isinstance(c("BACKUP", "NEXT"), Error)
        assert isinstance(c("BACKUP", "BEGIN", "1"), list)
        assert c("RESET") == "RESET"
        assert isinstance(c("BACKUP", "NEXT"), Error)


def test_copies_at_a_time_are_bounded_and_end_with_their_connections(three):
    leader = three.wait_leader()
    conns = [leader.conn(timeout=30) for _ in range(8)]
    for c in conns:
        assert isinstance(c("BACKUP", "BEGIN", "1"), list)
    with leader.conn() as c:
        reply = c("BACKUP", "BEGIN", "1")
        assert isinstance(reply, Error) and reply.code == "FULL"
        for other in conns:
            other.close()
        wait_until(lambda: isinstance(c("BACKUP", "BEGIN", "1"), list), 10, "there is room")


def test_one_who_leaves_while_it_begins(three):
    leader = three.wait_leader()
    for _ in range(30):
        with leader.conn() as c:
            c.send_raw(b"*3\r\n$6\r\nBACKUP\r\n$5\r\nBEGIN\r\n$1\r\n1\r\n"
                       b"*2\r\n$6\r\nBACKUP\r\n$4\r\nNEXT\r\n" * 3)
    assert leader.ask("PING") == "PONG"
    assert leader.is_running


def test_no_majority_no_copy(make_cluster):
    """A leader that cannot tell whether it is still one gives nothing."""
    cluster = make_cluster(3, args=["--request-timeout", "1s"])
    leader = cluster.wait_leader()
    for s in cluster.others(leader):
        s.pause()
    reply = leader.ask("BACKUP", "BEGIN", "1")
    assert isinstance(reply, Error) and reply.code in ("NOQUORUM", "NOLEADER"), reply
    for s in cluster.others(leader):
        s.resume()


@pytest.mark.long
def test_a_value_of_100_mb(make_cluster, tmp_path):
    first, second = make_cluster(3), make_cluster(3)
    value = random.Random(1).randbytes(100 << 20)
    with first[0].conn(timeout=120) as c:
        assert c("SET", "large", value, "PXAT", FAR) == "OK"
    good(backup(first[0], tmp_path / "copy"))
    good(restore(second[0], tmp_path / "copy"))
    with second[0].conn(timeout=120) as c:
        assert c("GET", "large") == value
        assert c("PEXPIRETIME", "large") == FAR
    good(restore(second[0], tmp_path / "copy", "--continue"))
