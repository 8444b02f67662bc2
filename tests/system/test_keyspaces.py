# SPDX-License-Identifier: Apache-2.0
"""Keyspaces come and go while their keys are in use: none is hidden, none reappears."""
import json
import random
import threading
import time

import pytest

from cluster import Cluster, run, wait_until
from wire import Closed, Conn, Error

HIDDEN = 200_000


def create(server, name, *options, timeout=60):
    """The reply; an exception's name if there is none."""
    try:
        with Conn(server.port, timeout=timeout) as c:
            return c("KEYSPACE", "CREATE", name, "MODE", "raft", *options)
    except (OSError, Closed) as e:
        return Error(type(e).__name__)


def settled(server, name):
    """Whether a keyspace is there or not, and not in between."""
    reply = server.ask("KEYSPACE", "INFO", name)
    if isinstance(reply, Error):
        assert reply.code == "NOKEYSPACE", reply
        return "gone"
    state = reply[reply.index(b"state") + 1]
    return state.decode() if state == b"active" else None


def fill(server, prefix, n=HIDDEN):
    with server.conn() as c:
        for i in range(0, n, 1000):
            keys = [x for k in range(i, i + 1000) for x in (f"{prefix}:{k}", "v")]
            assert c("MSET", *keys) == "OK"


class Writer(threading.Thread):
    """New keys of one prefix by one server, until told to stop; what was acknowledged."""

    def __init__(self, server, name, number):
        super().__init__()
        self.server, self.name_of, self.number = server, name, number
        self.acked, self.odd, self.stop = [], [], False
        self.start()

    def run(self):
        with self.server.conn() as c:
            i = 0
            while not self.stop:
                key = f"{{{self.name_of}:{self.number}}}{i}" if i % 2 else \
                      f"{self.name_of}:{self.number}-{i}"
                reply = c("SET", key, str(i))
                i += 1
                if reply == "OK":
                    self.acked.append((key, str(i - 1).encode(), time.monotonic()))
                else:
                    self.odd.append(reply)


def test_a_keyspace_that_comes_hides_no_key_that_was_acknowledged(make_cluster):
    """Whoever wrote first: the keys are counted, or they are in the new keyspace."""
    cluster = make_cluster(3)
    rng = random.Random(5)
    ends = {"OK": 0, "KEYSEXIST": 0}
    for turn in range(16):
        name = f"race{turn}"
        writers = []
        start_writers_first = turn % 2 == 0
        if not start_writers_first:
            maker = threading.Thread(target=lambda: replies.append(
                create(cluster[turn % 3], name, "SHARDS", "8")))
            replies = []
            maker.start()
            time.sleep(rng.random() * 0.02)
        writers = [Writer(cluster[i], name, i) for i in range(3)]
        if start_writers_first:
            time.sleep(rng.random() * 0.003)
            replies = [create(cluster[turn % 3], name, "SHARDS", "8")]
        else:
            maker.join()
        time.sleep(0.1)
        for w in writers:
            w.stop = True
        for w in writers:
            w.join()
        acked = [a for w in writers for a in w.acked]
        assert not [o for w in writers for o in w.odd]
        reply = replies[0]
        ends["OK" if reply == "OK" else reply.code] += 1
        with cluster[(turn + 1) % 3].conn() as c:
            got = c.pipeline([("GET", key) for key, _, _ in acked])
            assert got == [value for _, value, _ in acked]
            if reply == "OK":
                assert c("KEYSPACE", "DROP", name) == "OK"
                assert c("KEYS", f"*{name}:*") == []
            else:
                assert 1 <= int(reply.split()[1]) <= len(acked)
    assert min(ends.values()) > 0, ends
    cluster.wait_equal_digests()


@pytest.fixture(scope="module")
def hidden():
    """Three servers that hold many keys of a name that is no keyspace."""
    with Cluster(3, args=["--request-timeout", "2s"]) as cluster:
        fill(cluster[0], "old")
        yield cluster


def test_many_hidden_keys_are_counted_while_others_are_served(hidden):
    with hidden[1].conn(timeout=60) as c, hidden[2].conn() as other:
        c.send("KEYSPACE", "CREATE", "old", "MODE", "raft")
        c.sock.setblocking(False)
        served, reply = 0, b""
        while not reply.endswith(b"\r\n"):
            assert other("SET", "another", "1") == "OK"
            assert other("GET", "old:7") == b"v"  # reads go on
            served += 1
            try:
                reply += c.sock.recv(1000)
            except BlockingIOError:
                continue
        assert reply.startswith(b"-KEYSEXIST %d keys of default begin" % HIDDEN), reply
        assert served > 3
        assert other("SET", "old:x", "1") == "OK"  # open again
        assert other("DEL", "old:x") == 1
        assert settled(hidden[0], "old") == "gone"


@pytest.mark.parametrize("of", [None, "default"])  # None: of the first shard, the meta shard
@pytest.mark.parametrize("name", ["old", "new"])
def test_kill9_of_a_leader_in_the_middle_ends_in_one_of_two_ways(hidden, of, name):
    rng = random.Random(f"{of} {name}")
    for turn in range(3):
        leader = hidden.wait_leader(of)
        other = hidden.others(leader)[turn % 2]
        keyspace = name if name == "old" else f"{name}-{turn}-{of}"
        replies = []
        maker = threading.Thread(target=lambda o=other, k=keyspace: replies.append(create(o, k)))
        maker.start()
        time.sleep(rng.random() * (0.2 if name == "old" else 0.01))
        leader.kill9()
        maker.join()
        hidden.restart(leader)
        hidden.wait_ready()
        reply = replies[0]
        if isinstance(reply, Error):
            assert reply.code in ("KEYSEXIST", "UNCERTAIN", "NOLEADER", "NOQUORUM"), reply
        ends = [wait_until(lambda s=s, k=keyspace: settled(s, k), 20, "it is there or gone")
                for s in hidden.servers]
        assert len(set(ends)) == 1
        if name == "old":
            assert ends[0] == "gone"
            assert reply != "OK"
            assert reply.code != "KEYSEXIST" or reply.split()[1] == str(HIDDEN)
            assert other.ask("GET", "old:7") == b"v"
        elif not isinstance(reply, Error):
            assert ends[0] == "active"
        key = f"{keyspace}:again"
        wait_until(lambda o=other, k=key: o.ask("SET", k, "1") == "OK", 20, "a write")
        for s in hidden.servers:
            assert s.ask("GET", key) == b"1"
        assert other.ask("DEL", key) == 1


def test_what_is_dropped_does_not_come_back(three):
    with three[0].conn() as a, three[2].conn() as b:
        for turn in range(10):
            assert a("KEYSPACE", "CREATE", "gone", "MODE", "raft", "SHARDS", "8") == "OK"
            for i in range(20):
                assert b("SET", f"gone:{i}", str(turn)) == "OK"
            assert b("KEYSPACE", "DROP", "gone") == "OK"
            assert a.pipeline([("GET", f"gone:{i}") for i in range(20)]) == [None] * 20
            assert b("SET", "gone:1", "default") == "OK"
            assert a("KEYSPACE", "CREATE", "gone", "MODE", "raft").startswith("KEYSEXIST 1 ")
            assert a("GET", "gone:1") == b"default"
            assert a("DEL", "gone:1") == 1


@pytest.mark.parametrize("down", [0, 1, 2])
def test_shards_begin_without_a_server_that_is_down(make_cluster, down):
    """The one that is down would lead a third of them."""
    cluster = make_cluster(3)
    cluster[down].kill9()
    up = cluster[(down + 1) % 3]
    wait_until(lambda: up.ask("SET", "x", "1") == "OK", 20, "a leader of default")
    for pause in (0, 5):  # before it is missed, and after
        time.sleep(pause)
        name = f"short{pause}"
        assert up.ask("KEYSPACE", "CREATE", name, "MODE", "raft", "SHARDS", "6") == "OK"
        for i in range(60):
            wait_until(lambda i=i, n=name: up.ask("SET", f"{n}:{i}", "1") == "OK", 20,
                       "a shard's leader")
    assert up.ask("KEYSPACE", "DROP", "short0") == "OK"
    cluster[down].start()
    wait_until(lambda: cluster[down].ask("GET", "short5:1") == b"1", 20, "its return")
    wait_until(lambda: len(cluster.shard_rows(up, "short5")) == 18, 20, "its copies")


def test_a_drop_loses_nothing_that_was_acknowledged_behind_it(three):
    """A write that is acknowledged after the DROP is in default, whichever server took it."""
    for turn in range(6):
        name = f"drop{turn}"
        assert three[0].ask("KEYSPACE", "CREATE", name, "MODE", "raft", "SHARDS", "2") == "OK"
        writers = [Writer(three[i], name, i) for i in range(3)]
        time.sleep(0.05)
        assert three[turn % 3].ask("KEYSPACE", "DROP", name) == "OK"
        dropped = time.monotonic()
        time.sleep(0.1)
        for w in writers:
            w.stop = True
        for w in writers:
            w.join()
        assert not [o for w in writers for o in w.odd]
        behind = [(k, v) for w in writers for k, v, at in w.acked[:] if at > dropped]
        # the first of each may have been under way when the DROP was answered
        first = {w.acked[i][0] for w in writers
                 for i in range(len(w.acked)) if w.acked[i][2] > dropped
                 and (i == 0 or w.acked[i - 1][2] <= dropped)}
        sure = [(k, v) for k, v in behind if k not in first]
        assert sure
        with three[(turn + 1) % 3].conn() as c:
            assert c.pipeline([("GET", k) for k, _ in sure]) == [v for _, v in sure]


def test_transactions_and_watches_meet_a_keyspace_that_comes(three):
    with three[0].conn() as a, three[1].conn() as b:
        # queued for default, carried out in the keyspace
        assert a("MULTI") == "OK"
        assert a("SET", "moved:{t}1", "1") == "QUEUED"
        assert a("SET", "moved:{t}2", "2") == "QUEUED"
        assert b("KEYSPACE", "CREATE", "moved", "MODE", "raft", "SHARDS", "4") == "OK"
        assert a("EXEC") == ["OK", "OK"]
        assert b("MGET", "moved:{t}1", "moved:{t}2") == [b"1", b"2"]
        assert b("KEYSPACE", "DROP", "moved") == "OK"
        assert b("GET", "moved:{t}1") is None

        # watched in default: the position there says nothing of another shard's log
        assert a("WATCH", "seen:1") == "OK"
        assert a("MULTI") == "OK"
        assert a("SET", "seen:1", "1") == "QUEUED"
        assert b("KEYSPACE", "CREATE", "seen", "MODE", "raft") == "OK"
        assert a("EXEC") is None
        assert b("GET", "seen:1") is None
        assert b("KEYSPACE", "DROP", "seen") == "OK"


def test_adopt_is_refused_by_its_name(three):
    reply = three[0].ask("KEYSPACE", "CREATE", "adopted", "MODE", "raft", "ADOPT")
    assert reply.code == "BADPOLICY" and "ADOPT" in reply, reply


# ---- what a keyspace asks for, and the rules in force ----

def rules(cluster, at, name):
    """(ack, durability, copies, settled), which all rows of its one shard must tell alike."""
    (told,) = {tuple(r[k] for k in ("ack", "durability", "copies", "settled"))
               for r in cluster.shard_rows(at, name)}
    return told


def unsettled(server, name):
    reply = server.ask("KEYSPACE", "INFO", name)
    return reply[reply.index(b"unsettled") + 1]


def test_the_rules_in_force_are_told_while_an_alter_goes_on(make_cluster):
    """Of five servers three hold the keyspace; with two of those away the change is decided by
    the meta shard, and cannot come into force."""
    cluster = make_cluster(5, args=["--request-timeout", "1s"])
    assert cluster[0].ask("KEYSPACE", "CREATE", "p", "MODE", "primary", "ACK", "async",
                          "DURABILITY", "memory") == "OK"
    cluster.voters["p"] = 3
    cluster.wait_ready()
    leader = cluster.leader("p")
    held = {r["name"] for r in cluster.shard_rows(leader, "p")}
    followers = [s for s in cluster.others(leader) if s.name in held]
    bare = next(s for s in cluster.servers if s.name not in held)
    for s in cluster.servers:
        wait_until(lambda s=s: rules(cluster, s, "p") == ("async", "memory", 2, 1), 20)
    assert unsettled(leader, "p") == 0
    for s in followers:
        s.pause()

    def altered():  # again, if one of the two led the meta shard
        with leader.conn(timeout=30) as c:
            c("KEYSPACE", "ALTER", "p", "ACK", "1", "DURABILITY", "fsync")
        return unsettled(leader, "p") == unsettled(bare, "p") == 1
    wait_until(altered, 60, "the change is decided")
    assert rules(cluster, bare, "p") == ("", "", -1, 0)
    assert rules(cluster, leader, "p")[3] == 0
    told = json.loads(run("status", "--json", "--server", f"127.0.0.1:{leader.port}").stdout)
    assert any("of p follows ACK" in a and "until ACK 1, DURABILITY fsync is in force" in a
               for a in told["attention"]), told["attention"]
    for s in followers:
        s.resume()
    for s in cluster.servers:
        wait_until(lambda s=s: rules(cluster, s, "p") == ("1", "fsync", 2, 1), 20,
                   "the new rules are in force")
    assert unsettled(bare, "p") == 0


def test_raft_follows_a_majority_on_disk(three):
    wait_until(lambda: rules(three, three[1], "default") == ("majority", "fsync", 2, 1), 20)
