# SPDX-License-Identifier: Apache-2.0
"""Every command on keys: its options, replies and error texts, those of Redis 7.2.

Each test runs against a server alone and against each of three, in RESP2 and RESP3, in the
keyspace default and in one of 8 shards; in RESP3 also in one of 8 shards of MODE primary, whose
reads each server answers from its own replica.
"""
import itertools
import time

import pytest

from cluster import Cluster, wait_until
from wire import Error, table

NOT_INT = "ERR value is not an integer or out of range"
OVERFLOW = "ERR increment or decrement would overflow"
SYNTAX = "ERR syntax error"
NOT_FLOAT = "ERR value is not a valid float"
CROSSSLOT = "CROSSSLOT Keys in request don't live in the same shard; give them one {hash tag}"

PLACES = [("one", 0), ("three", 0), ("three", 1), ("three", 2)]
MODES = {"default": "raft", "k8": "raft", "p8": "primary"}
KITS = [(place, resp, keyspace) for place, resp, keyspace in
        itertools.product(PLACES, (2, 3), MODES) if keyspace != "p8" or resp == 3]
numbers = itertools.count()


def with_k8(cluster):
    for name, mode in MODES.items():
        if name != "default":
            assert cluster[0].ask("KEYSPACE", "CREATE", name, "MODE", mode,
                                  "SHARDS", "8") == "OK"
    cluster.wait_ready()
    return cluster


@pytest.fixture(scope="module")
def one():
    with Cluster(1) as cluster:
        yield with_k8(cluster)


@pytest.fixture(scope="module")
def three():
    with Cluster(3) as cluster:
        yield with_k8(cluster)


class Kit:
    """A connection, and keys that no other test uses."""

    def __init__(self, cluster, entry, resp, keyspace):
        self.cluster, self.entry, self.resp, self.keyspace = cluster, entry, resp, keyspace
        self.tag = f"t{next(numbers)}"
        self.c = self.conn()

    def conn(self):
        return self.cluster[self.entry].conn(self.resp)

    def k(self, name):
        if self.keyspace == "default":
            return f"{self.tag}:{name}"
        return f"{self.keyspace}:{{{self.tag}}}{name}"


@pytest.fixture(params=KITS, ids=lambda p: f"{p[0][0]}{p[0][1]}-resp{p[1]}-{p[2]}")
def kit(request):
    (where, entry), resp, keyspace = request.param
    made = Kit(request.getfixturevalue(where), entry, resp, keyspace)
    yield made
    made.c.close()


def arity(name):
    return f"ERR wrong number of arguments for '{name}' command"


# ---- strings ----

def test_get_and_set(kit):
    c, a = kit.c, kit.k("a")
    assert c("GET", a) is None
    assert c("SET", a, "1") == "OK"
    assert c("GET", a) == b"1"
    assert c("SET", a, b"\0\r\n\xff") == "OK"
    assert c("GET", a) == b"\0\r\n\xff"
    assert c("SET", a, "") == "OK"
    assert c("GET", a) == b""
    assert c("get", a) == b""
    assert c("GET") == arity("get")
    assert c("GET", a, a) == arity("get")
    assert c("SET", a) == arity("set")


def test_set_nx_xx_get(kit):
    c, a = kit.c, kit.k("a")
    assert c("SET", a, "1", "XX") is None
    assert c("SET", a, "1", "NX") == "OK"
    assert c("SET", a, "2", "NX") is None
    assert c("SET", a, "2", "xx") == "OK"
    assert c("SET", a, "3", "GET") == b"2"
    assert c("SET", a, "4", "NX", "GET") == b"3"
    assert c("GET", a) == b"3"
    assert c("SET", kit.k("b"), "1", "GET") is None
    assert c("SET", kit.k("c"), "1", "NX", "GET") is None
    assert c("GET", kit.k("c")) == b"1"
    assert c("SET", a, "5", "NX", "XX") == SYNTAX
    assert c("SET", a, "5", "NOPE") == SYNTAX
    assert c("GET", a) == b"3"


def test_set_with_deadlines(kit):
    c, a = kit.c, kit.k("a")
    now = time.time()
    assert c("SET", a, "1", "EX", "100") == "OK"
    assert 98 <= c("TTL", a) <= 100
    assert c("SET", a, "1", "PX", "100000") == "OK"
    assert 98000 <= c("PTTL", a) <= 100000
    assert c("SET", a, "1", "EXAT", int(now) + 50) == "OK"
    assert c("EXPIRETIME", a) == int(now) + 50
    assert c("SET", a, "1", "PXAT", int(now * 1000) + 50000) == "OK"
    assert c("PEXPIRETIME", a) == int(now * 1000) + 50000
    assert c("SET", a, "2", "KEEPTTL") == "OK"
    assert c("PEXPIRETIME", a) == int(now * 1000) + 50000
    assert c("SET", a, "3") == "OK"
    assert c("TTL", a) == -1
    assert c("SET", a, "1", "EX", "0") == "ERR invalid expire time in 'set' command"
    assert c("SET", a, "1", "PX", "-5") == "ERR invalid expire time in 'set' command"
    assert c("SET", a, "1", "EX", "9223372036854775807") == \
        "ERR invalid expire time in 'set' command"
    assert c("SET", a, "1", "EX", "abc") == NOT_INT
    assert c("SET", a, "1", "EX") == SYNTAX
    assert c("SET", a, "1", "EX", "5", "PX", "5") == SYNTAX
    assert c("SET", a, "1", "EX", "5", "KEEPTTL") == SYNTAX
    assert c("GET", a) == b"3"
    assert c("SET", a, "old", "PXAT", "1") == "OK"
    assert c("GET", a) is None


def test_set_ifeq(kit):
    c, a = kit.c, kit.k("a")
    assert c("SET", a, "2", "IFEQ", "1") is None
    assert c("EXISTS", a) == 0
    c("SET", a, "1")
    assert c("SET", a, "2", "IFEQ", "1") == "OK"
    assert c("SET", a, "3", "IFEQ", "1") is None
    assert c("SET", a, "3", "IFEQ", "1", "GET") == b"2"
    assert c("GET", a) == b"2"
    assert c("SET", a, "3", "IFEQ", "2", "NX") == SYNTAX
    assert c("SET", a, "3", "IFEQ") == SYNTAX


def test_a_key_expires(kit):
    c, a = kit.c, kit.k("a")
    assert c("SET", a, "1", "PX", "400") == "OK"
    assert c("GET", a) == b"1"
    time.sleep(0.45)
    assert c("GET", a) is None
    assert c("EXISTS", a) == 0
    assert c("TTL", a) == -2
    assert c("SET", a, "2", "NX") == "OK"


def test_setnx_setex_psetex(kit):
    c, a = kit.c, kit.k("a")
    assert c("SETNX", a, "1") == 1
    assert c("SETNX", a, "2") == 0
    assert c("GET", a) == b"1"
    assert c("SETEX", a, "100", "2") == "OK"
    assert 98 <= c("TTL", a) <= 100
    assert c("PSETEX", a, "90000", "3") == "OK"
    assert 88000 <= c("PTTL", a) <= 90000
    assert c("GET", a) == b"3"
    assert c("SETEX", a, "0", "2") == "ERR invalid expire time in 'setex' command"
    assert c("PSETEX", a, "-1", "2") == "ERR invalid expire time in 'psetex' command"
    assert c("SETEX", a, "x", "2") == NOT_INT
    assert c("SETEX", a, "1") == arity("setex")


def test_getset_getdel_getex(kit):
    c, a = kit.c, kit.k("a")
    assert c("GETSET", a, "1") is None
    assert c("GETSET", a, "2") == b"1"
    assert c("GETDEL", a) == b"2"
    assert c("GETDEL", a) is None
    assert c("GETEX", a) is None
    c("SET", a, "1", "EX", "100")
    assert c("GETSET", a, "2") == b"1"
    assert c("TTL", a) == -1
    assert c("GETEX", a, "EX", "50") == b"2"
    assert 48 <= c("TTL", a) <= 50
    assert c("GETEX", a) == b"2"
    assert 48 <= c("TTL", a) <= 50
    assert c("GETEX", a, "PERSIST") == b"2"
    assert c("TTL", a) == -1
    assert c("GETEX", a, "PX", "70000") == b"2"
    assert 68000 <= c("PTTL", a) <= 70000
    at = int(time.time()) + 60
    assert c("GETEX", a, "EXAT", at) == b"2"
    assert c("EXPIRETIME", a) == at
    assert c("GETEX", a, "PXAT", at * 1000 + 7) == b"2"
    assert c("PEXPIRETIME", a) == at * 1000 + 7
    assert c("GETEX", a, "EX", "0") == "ERR invalid expire time in 'getex' command"
    assert c("GETEX", a, "EX", "5", "PERSIST") == SYNTAX
    assert c("GETEX", a, "NX") == SYNTAX
    assert c("GETEX", a, "PXAT", "1") == b"2"
    assert c("EXISTS", a) == 0


def test_mget_mset_msetnx(kit):
    c, a, b, d = kit.c, kit.k("a"), kit.k("b"), kit.k("d")
    assert c("MSET", a, "1", b, "2") == "OK"
    assert c("MGET", a, b, d, a) == [b"1", b"2", None, b"1"]
    assert c("MSETNX", d, "3", a, "9") == 0
    assert c("MGET", a, d) == [b"1", None]
    assert c("MSETNX", d, "3", kit.k("e"), "4") == 1
    assert c("MGET", d, kit.k("e")) == [b"3", b"4"]
    assert c("MSET", a, "1", a, "2") == "OK"
    assert c("GET", a) == b"2"
    assert c("MSET", a, "1", b) == arity("mset")
    assert c("MSETNX", a, "1", b) == arity("msetnx")
    assert c("MSET") == arity("mset")
    assert c("MGET") == arity("mget")
    assert c("MSET", a, "1", "EX", "100") == "OK" if kit.keyspace == "default" else True


def test_append_strlen_ranges(kit):
    c, a = kit.c, kit.k("a")
    assert c("STRLEN", a) == 0
    assert c("APPEND", a, "Hello") == 5
    assert c("APPEND", a, " World") == 11
    assert c("STRLEN", a) == 11
    assert c("GETRANGE", a, "0", "4") == b"Hello"
    assert c("GETRANGE", a, "-5", "-1") == b"World"
    assert c("SUBSTR", a, "0", "-1") == b"Hello World"
    assert c("GETRANGE", a, "5", "1") == b""
    assert c("GETRANGE", a, "100", "200") == b""
    assert c("GETRANGE", a, "-100", "2") == b"Hel"
    assert c("GETRANGE", kit.k("none"), "0", "-1") == b""
    assert c("GETRANGE", a, "x", "1") == NOT_INT
    assert c("SETRANGE", a, "6", "Redis") == 11
    assert c("GET", a) == b"Hello Redis"
    assert c("SETRANGE", kit.k("b"), "3", "x") == 4
    assert c("GET", kit.k("b")) == b"\0\0\0x"
    assert c("SETRANGE", kit.k("d"), "3", "") == 0
    assert c("EXISTS", kit.k("d")) == 0
    assert c("SETRANGE", a, "-1", "x") == "ERR offset is out of range"
    assert c("SETRANGE", a, "536870912", "x") == \
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    c("SET", a, "1", "EX", "100")
    assert c("APPEND", a, "2") == 2
    assert 98 <= c("TTL", a) <= 100


def test_counting(kit):
    c, a = kit.c, kit.k("a")
    assert c("INCR", a) == 1
    assert c("INCRBY", a, "41") == 42
    assert c("DECR", a) == 41
    assert c("DECRBY", a, "50") == -9
    assert c("INCRBY", a, "-1") == -10
    assert c("GET", a) == b"-10"
    assert c("INCRBY", a, "x") == NOT_INT
    assert c("INCRBY", a, "1.5") == NOT_INT
    assert c("INCRBY", a, "9223372036854775808") == NOT_INT
    assert c("INCR", a, "1") == arity("incr")
    c("SET", a, "9223372036854775807")
    assert c("INCR", a) == OVERFLOW
    assert c("GET", a) == b"9223372036854775807"
    c("SET", a, "-9223372036854775808")
    assert c("DECR", a) == OVERFLOW
    assert c("DECRBY", a, "-9223372036854775808") == "ERR decrement would overflow"
    for bad in ("x", " 1", "1 ", "", "01", "+1", "1.0"):
        c("SET", a, bad)
        assert c("INCR", a) == NOT_INT, bad
    c("SET", a, "5", "EX", "100")
    assert c("INCR", a) == 6
    assert 98 <= c("TTL", a) <= 100


def test_incrbyfloat(kit):
    c, a = kit.c, kit.k("a")
    assert c("INCRBYFLOAT", a, "1.5") == b"1.5"
    assert c("INCRBYFLOAT", a, "-0.5") == b"1"
    assert c("GET", a) == b"1"
    assert c("INCRBYFLOAT", a, "0.1") == b"1.1"
    assert c("INCRBYFLOAT", a, "1e3") == b"1001.09999999999999998"
    assert c("INCRBYFLOAT", a, "5.0e-2") == b"1001.14999999999999997"
    assert c("INCRBYFLOAT", a, "x") == NOT_FLOAT
    assert c("INCRBYFLOAT", a, "nan") == NOT_FLOAT
    assert c("INCRBYFLOAT", a, "inf") == "ERR increment would produce NaN or Infinity"
    c("SET", a, "abc")
    assert c("INCRBYFLOAT", a, "1") == NOT_FLOAT
    c("SET", a, "3.0e3")
    assert c("INCRBYFLOAT", a, "200") == b"3200"


# ---- keys ----

def test_del_exists_type_touch(kit):
    c, a, b = kit.c, kit.k("a"), kit.k("b")
    c("MSET", a, "1", b, "2")
    assert c("EXISTS", a, b, a, kit.k("none")) == 3
    assert c("TOUCH", a, b, kit.k("none")) == 2
    assert c("TYPE", a) == "string"
    assert c("TYPE", kit.k("none")) == "none"
    assert c("DEL", a, a, kit.k("none")) == 1
    assert c("UNLINK", a, b) == 1
    assert c("EXISTS", a) == 0
    for name in ("del", "unlink", "exists", "touch", "type"):
        assert c(name) == arity(name)


def test_expire_and_its_options(kit):
    c, a = kit.c, kit.k("a")
    assert c("EXPIRE", a, "100") == 0
    c("SET", a, "1")
    assert c("TTL", a) == -1
    assert c("EXPIRETIME", a) == -1
    assert c("EXPIRE", a, "100", "XX") == 0
    assert c("EXPIRE", a, "100", "GT") == 0  # no deadline is later than any
    assert c("EXPIRE", a, "100", "LT") == 1
    assert c("EXPIRE", a, "200", "NX") == 0
    assert c("EXPIRE", a, "50", "GT") == 0
    assert c("EXPIRE", a, "200", "GT") == 1
    assert 198 <= c("TTL", a) <= 200
    assert c("EXPIRE", a, "300", "LT") == 0
    assert c("PEXPIRE", a, "150000", "LT") == 1
    assert 148000 <= c("PTTL", a) <= 150000
    assert c("EXPIRE", a, "100", "XX") == 1
    assert c("PERSIST", a) == 1
    assert c("PERSIST", a) == 0
    assert c("PERSIST", kit.k("none")) == 0
    assert c("EXPIRE", a, "100", "NX") == 1
    at = int(time.time()) + 500
    assert c("EXPIREAT", a, at) == 1
    assert c("EXPIRETIME", a) == at
    assert c("PEXPIREAT", a, at * 1000 + 9, "XX") == 1
    assert c("PEXPIRETIME", a) == at * 1000 + 9
    assert c("EXPIRE", a, "1", "NX", "XX") == \
        "ERR NX and XX, GT or LT options at the same time are not compatible"
    assert c("EXPIRE", a, "1", "GT", "LT") == \
        "ERR GT and LT options at the same time are not compatible"
    assert c("EXPIRE", a, "1", "YY") == "ERR Unsupported option YY"
    assert c("EXPIRE", a, "x") == NOT_INT
    assert c("EXPIRE", a, "9223372036854775807") == "ERR invalid expire time in 'expire' command"
    assert c("TTL", kit.k("none")) == -2
    assert c("PTTL", kit.k("none")) == -2
    assert c("EXPIRETIME", kit.k("none")) == -2
    assert c("PEXPIRETIME", kit.k("none")) == -2


def test_a_deadline_in_the_past_deletes(kit):
    c, a = kit.c, kit.k("a")
    for command in (("EXPIRE", a, "-1"), ("PEXPIRE", a, "0"), ("EXPIREAT", a, "1"),
                    ("PEXPIREAT", a, "1")):
        c("SET", a, "1")
        assert c(*command) == 1
        assert c("EXISTS", a) == 0


def test_rename_and_copy(kit):
    c, a, b = kit.c, kit.k("a"), kit.k("b")
    assert c("RENAME", a, b) == "ERR no such key"
    c("SET", a, "1", "EX", "100")
    c("SET", b, "2")
    assert c("RENAMENX", a, b) == 0
    assert c("RENAME", a, b) == "OK"
    assert c("MGET", a, b) == [None, b"1"]
    assert 98 <= c("TTL", b) <= 100
    assert c("RENAMENX", b, a) == 1
    assert c("RENAME", a, a) == "OK"
    assert c("RENAMENX", kit.k("none"), b) == "ERR no such key"
    assert c("COPY", a, b) == 1
    assert 98 <= c("TTL", b) <= 100
    c("SET", a, "5")
    assert c("COPY", a, b) == 0
    assert c("COPY", a, b, "REPLACE") == 1
    assert c("GET", b) == b"5"
    assert c("TTL", b) == -1
    assert c("COPY", kit.k("none"), b) == 0
    assert c("COPY", a, b, "NOPE") == SYNTAX
    assert c("COPY", a, a) == "ERR source and destination objects are the same"
    assert c("COPY", a, b, "DB", "0", "REPLACE") == 1
    assert c("COPY", a, b, "DB", "1", "REPLACE") == "ERR DB index is out of range"


def scan_all(c, *args):
    """Every key that a whole SCAN gives, each as often as it does."""
    cursor, found = b"0", []
    for _ in range(100000):
        cursor, keys = c("SCAN", cursor, *args)
        found += keys
        if cursor == b"0":
            return found
    raise AssertionError("SCAN does not end")


def test_scan_and_keys(kit):
    c = kit.c
    names = sorted(kit.k(f"n{i}").encode() for i in range(60))
    c.pipeline([("SET", n, "1") for n in names])
    pattern = kit.k("n*").replace("{", "\\{")
    assert sorted(c("KEYS", pattern)) == names
    assert sorted(set(scan_all(c, "MATCH", pattern))) == names
    assert sorted(set(scan_all(c, "MATCH", pattern, "COUNT", "3"))) == names
    assert sorted(set(scan_all(c, "MATCH", pattern, "COUNT", "10000", "TYPE", "string"))) == \
        names
    assert scan_all(c, "MATCH", pattern, "TYPE", "hash") == []
    assert sorted(c("KEYS", kit.k("n[1-2]").replace("{", "\\{"))) == \
        [kit.k("n1").encode(), kit.k("n2").encode()]
    assert sorted(c("KEYS", kit.k("n?").replace("{", "\\{"))) == \
        sorted(kit.k(f"n{i}").encode() for i in range(10))
    assert c("SCAN", "x") == "ERR invalid cursor"
    assert c("SCAN", "0", "COUNT", "0") == SYNTAX
    assert c("SCAN", "0", "COUNT", "x") == NOT_INT
    assert c("SCAN", "0", "NOPE") == SYNTAX
    assert c("KEYS") == arity("keys")
    c("DEL", *names)
    assert c("KEYS", pattern) == []


def test_dbsize_randomkey_flush(kit):
    c = kit.c
    assert c("FLUSHALL") == "OK"
    assert c("DBSIZE") == 0
    assert c("RANDOMKEY") is None
    assert c("KEYS", "*") == []
    assert c("SCAN", "0", "COUNT", "1000")[1] == []
    c("MSET", kit.k("a"), "1", kit.k("b"), "2")
    assert c("SET", "elsewhere", "3") == "OK"
    assert c("SET", "k8:elsewhere", "3") == "OK"
    assert c("DBSIZE") == 4
    assert c("RANDOMKEY") in [kit.k("a").encode(), kit.k("b").encode(), b"elsewhere",
                              b"k8:elsewhere"]
    assert len(c("KEYS", "*")) == 4
    assert len(set(scan_all(c))) == 4
    assert c("FLUSHDB", "ASYNC") == "OK"
    assert c("DBSIZE") == 0
    assert c("GET", kit.k("a")) is None
    c("SET", kit.k("a"), "1")
    assert c("FLUSHALL", "SYNC") == "OK"
    assert c("EXISTS", kit.k("a")) == 0
    assert c("FLUSHALL", "NOPE") == SYNTAX


def test_keys_of_several_shards_are_refused_together(kit):
    if kit.keyspace == "default":
        one, two = kit.k("a"), f"k8:{kit.tag}"  # another keyspace is another shard
    else:
        names = [f"k8:{kit.tag}:{i}" for i in range(2)]
        for i in range(2, 100):  # two names whose slots are in different eighths
            slots = [kit.c("CLUSTER", "KEYSLOT", n) * 8 // 16384 for n in names]
            if slots[0] != slots[1]:
                break
            names[1] = f"k8:{kit.tag}:{i}"
        one, two = names
    c = kit.c
    assert c("MSET", one, "1", two, "2") == CROSSSLOT
    assert c("MGET", one, two) == CROSSSLOT
    assert c("DEL", one, two) == CROSSSLOT
    assert c("RENAME", one, two) == CROSSSLOT
    assert c("EXISTS", one) == 0
    reply = c.pipeline([("MULTI",), ("SET", one, "1"), ("SET", two, "2"), ("EXEC",)])
    assert any(r == CROSSSLOT for r in reply), reply
    assert isinstance(reply[-1], Error), reply
    assert c("EXISTS", one) == 0


# ---- transactions ----

def test_a_transaction_is_carried_out_at_exec(kit):
    c, a, b = kit.c, kit.k("a"), kit.k("b")
    assert c("MULTI") == "OK"
    assert c("SET", a, "1") == "QUEUED"
    assert c("INCR", a) == "QUEUED"
    with kit.conn() as other:
        assert other("GET", a) is None
    assert c("GET", a) == "QUEUED"
    assert c("GET", b) == "QUEUED"
    assert c("EXEC") == ["OK", 2, b"2", None]
    assert c.transaction() == []
    assert c.transaction(("GET", a)) == [b"2"]
    assert c("EXEC") == "ERR EXEC without MULTI"
    assert c("DISCARD") == "ERR DISCARD without MULTI"
    c("MULTI")
    assert c("MULTI") == "ERR MULTI calls can not be nested"
    assert c("SET", a, "9") == "QUEUED"
    assert c("DISCARD") == "OK"
    assert c("GET", a) == b"2"


def test_an_error_while_queueing_aborts_the_transaction(kit):
    c, a = kit.c, kit.k("a")
    c("MULTI")
    assert c("SET", a, "1") == "QUEUED"
    assert isinstance(c("NOSUCH"), Error)
    assert c("SET", a) == arity("set")
    assert c("EXEC") == "EXECABORT Transaction discarded because of previous errors."
    assert c("GET", a) is None


def test_an_error_at_exec_leaves_the_others(kit):
    c, a = kit.c, kit.k("a")
    reply = c.transaction(("SET", a, "x"), ("INCR", a), ("APPEND", a, "y"))
    assert reply == ["OK", NOT_INT, 2]
    assert c("GET", a) == b"xy"


def test_watch(kit):
    c, a, b = kit.c, kit.k("a"), kit.k("b")
    with kit.conn() as other:
        c("SET", a, "1")
        assert c("WATCH", a, b) == "OK"
        assert c.transaction(("SET", a, "2")) == ["OK"]
        c("WATCH", a)
        other("SET", a, "3")
        assert c.transaction(("SET", a, "4")) is None
        assert c("GET", a) == b"3"
        c("WATCH", b)
        other("SET", b, "1")
        assert c.transaction(("SET", a, "4")) is None
        c("WATCH", a)
        other("DEL", a)
        assert c.transaction(("SET", a, "5")) is None
        c("WATCH", a)
        other("SET", a, "6")
        assert c("UNWATCH") == "OK"
        assert c.transaction(("SET", a, "7")) == ["OK"]
        c("WATCH", a)
        other("SET", a, "8")
        c("MULTI")
        assert c("DISCARD") == "OK"
        assert c.transaction(("SET", a, "9")) == ["OK"]  # watches end with DISCARD
        c("SET", a, "1", "PX", "50")
        c("WATCH", a)
        time.sleep(0.1)
        assert c.transaction(("SET", a, "10")) is None
        c("MULTI")
        assert c("WATCH", a) == "ERR WATCH inside MULTI is not allowed"
        c("DISCARD")
        assert c("WATCH") == arity("watch")


def test_a_pipeline_is_answered_in_order(kit):
    c = kit.c
    commands = []
    for i in range(300):
        commands += [("SET", kit.k(f"p{i}"), i), ("GET", kit.k(f"p{i}")), ("PING", i)]
    replies = c.pipeline(commands)
    for i in range(300):
        assert replies[3 * i:3 * i + 3] == ["OK", str(i).encode(), str(i).encode()]


def test_what_one_server_acknowledged_every_server_shows(kit):
    """At once; where each answers from its own replica (READ any): soon."""
    a = kit.k("a")
    for i in range(5):
        assert kit.c("SET", a, i) == "OK"
        for s in kit.cluster.servers:
            with s.conn(kit.resp) as c:
                if kit.keyspace == "p8":
                    wait_until(lambda: c("GET", a) == str(i).encode(), 5)
                assert c("GET", a) == str(i).encode()


def test_wait_counts_replicas(kit):
    c, n = kit.c, len(kit.cluster)
    c("SET", kit.k("a"), "1")
    assert c("WAIT", n - 1, "5000") == n - 1
    began = time.monotonic()
    assert c("WAIT", n, "200") == n - 1
    assert 0.15 < time.monotonic() - began < 3
    assert isinstance(c("WAIT", "-1", "10"), (int, Error))
    assert c("WAIT", "x", "10") == NOT_INT


def test_digests_of_all_replicas_are_equal(kit):
    kit.c("SET", kit.k("a"), "1")
    kit.cluster.wait_equal_digests(kit.keyspace)


def test_expired_keys_leave_by_themselves(kit):
    """R68, P27: the leader logs the delete; nobody need look at the key."""
    c = kit.c
    c("FLUSHALL")
    c.pipeline([("SET", kit.k(f"e{i}"), "1", "PX", "50") for i in range(50)])
    deadline = time.monotonic() + 10
    while c("DBSIZE") > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert c("DBSIZE") == 0
    kit.cluster.wait_equal_digests(kit.keyspace)


def test_info_of_a_keyspace(kit):
    info = table(kit.c("KEYSPACE", "INFO", kit.keyspace))
    assert {k: v for k, v in info.items() if k.lower() == "mode"} == \
        {"mode": MODES[kit.keyspace].encode()}
