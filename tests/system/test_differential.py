# SPDX-License-Identifier: Apache-2.0
"""The same random commands to redis-server and to sennit give the same replies."""
import random
import socket
import subprocess

import pytest

from cluster import free_port, wait_until
from wire import Conn, Error

KEYS = [f"{{d}}{i}" for i in range(6)]
VALUES = ["", "0", "1", "-1", "42", "3.14", "abc", "9223372036854775807",
          "-9223372036854775808", "9223372036854775808", " 1", "1e3", "0x10", "\0\xff", "a" * 100,
          "1.0e-5", "-0", "+5", "inf", "nan", "10000000000000000000000"]
FAR = ["4102444800", "4102444801", "5000000000"]        # seconds, in 2100 and later
FAR_MS = ["4102444800123", "4102444801999", "5000000000000"]


class Relative:
    """Times to live, no two nearly equal: what GT and LT say must not hang on a millisecond."""

    @staticmethod
    def s(r):
        return str(r.randrange(1000, 2000000))

    @staticmethod
    def ms(r):
        return str(r.randrange(1000000, 2000000000))


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory):
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no",
         "--dir", str(tmp_path_factory.mktemp("redis"))],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: not socket.create_connection(("127.0.0.1", port)).close(), 10)
    yield port
    process.kill()
    process.wait(10)


def expiry_option(r):
    return r.choice([[], ["NX"], ["XX"], ["GT"], ["LT"], ["NX", "XX"], ["GT", "LT"], ["ZZ"],
                     ["XX", "GT"], ["nx"]])


def set_options(r):
    options = []
    for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
        options += r.choice([["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EX", Relative.s(r)],
                             ["PX", Relative.ms(r)], ["EXAT", r.choice(FAR)],
                             ["PXAT", r.choice(FAR_MS)], ["EX", "0"], ["EX", "abc"], ["EX"],
                             ["BOGUS"], ["EX", "9223372036854775807"]])
    return options


def number(r):
    return r.choice(VALUES + [str(r.randrange(-20, 20)) for _ in range(20)])


def command(r):
    """One random command; most make sense."""
    k, k2, v = r.choice(KEYS), r.choice(KEYS), r.choice(VALUES + [str(r.randrange(100))] * 10)
    many = r.choices(KEYS, k=r.randrange(1, 4))
    return r.choice([
        lambda: ["GET", k],
        lambda: ["SET", k, v] + set_options(r),
        lambda: ["SETNX", k, v],
        lambda: ["SETEX", k, r.choice([Relative.s(r)] * 3 + ["0", "-1", "x"]), v],
        lambda: ["PSETEX", k, r.choice([Relative.ms(r), "0", "9999999999999999999"]), v],
        lambda: ["GETSET", k, v],
        lambda: ["GETDEL", k],
        lambda: ["GETEX", k] + r.choice([[], ["EX", Relative.s(r)], ["PX", Relative.ms(r)],
                                         ["PERSIST"],
                                         ["EXAT", FAR[0]], ["PXAT", "1"], ["EX", "0"],
                                         ["NX"], ["EX", "1", "PERSIST"]]),
        lambda: ["MGET"] + many,
        lambda: ["MSET"] + [x for m in many for x in (m, v)],
        lambda: ["MSETNX"] + [x for m in many for x in (m, v)],
        lambda: ["MSET", k, v, k2],
        lambda: ["APPEND", k, v],
        lambda: ["STRLEN", k],
        lambda: [r.choice(["GETRANGE", "SUBSTR"]), k, number(r), number(r)],
        lambda: ["SETRANGE", k, r.choice(["0", "3", "10", "-1", "x", "536870912"]), v],
        lambda: [r.choice(["INCR", "DECR"]), k],
        lambda: [r.choice(["INCRBY", "DECRBY"]), k, number(r)],
        lambda: ["INCRBYFLOAT", k, number(r)],
        lambda: [r.choice(["DEL", "UNLINK", "EXISTS", "TOUCH"])] + many,
        lambda: ["TYPE", k],
        lambda: ["EXPIRE", k, r.choice([Relative.s(r)] * 3 + ["-1", "x",
                                                         "9223372036854775807"])] +
        expiry_option(r),
        lambda: ["PEXPIRE", k, r.choice([Relative.ms(r)] * 3 + ["0"])] + expiry_option(r),
        lambda: ["EXPIREAT", k, r.choice(FAR + ["1"])] + expiry_option(r),
        lambda: ["PEXPIREAT", k, r.choice(FAR_MS + ["1"])] + expiry_option(r),
        lambda: [r.choice(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"]), k],
        lambda: [r.choice(["RENAME", "RENAMENX"]), k, k2],
        lambda: ["COPY", k, k2] + r.choice([[], ["REPLACE"], ["DB", "0"], ["BOGUS"],
                                            ["DB", "0", "REPLACE"], ["DB", "x"]]),
        lambda: ["DBSIZE"],
        lambda: ["KEYS", r.choice(["*", "{d}[1-3]", "*4", "{d}?", "nosuch", "{d}[^0]"])],
        lambda: ["SCAN", "0", "COUNT", "1000"] + r.choice([[], ["MATCH", "*[0-2]"],
                                                          ["TYPE", "string"]]),
        lambda: ["FLUSHALL"] if r.random() < 0.1 else ["DBSIZE"],
        lambda: r.choice([["GET"], ["SET", k], ["NOSUCH", k, v], ["INCR", k, "1"],
                          ["CLIENT", "NOSUCH"], ["ECHO"], ["TTL"], ["SELECT", "x"],
                          ["SUBSTR", k], ["RENAME", k]]
                         if r.random() < 0.3 else [["ECHO", v]]),
    ])()


KEY_COMMANDS = {"DBSIZE", "KEYS", "SCAN", "FLUSHALL", "ECHO", "NOSUCH", "CLIENT", "SELECT"}


def script(r, n):
    """Commands, some of them in transactions and behind WATCH."""
    commands = []
    while len(commands) < n:
        if r.random() < 0.9:
            commands.append(command(r))
            continue
        if r.random() < 0.3:
            commands.append(["WATCH"] + r.choices(KEYS, k=2))
            if r.random() < 0.3:
                commands.append(["SET", r.choice(KEYS), "changed"])
        commands.append(["MULTI"])
        inside = [command(r) for _ in range(r.randrange(1, 6))]
        commands += [c for c in inside if c[0] not in KEY_COMMANDS]
        commands.append(r.choice([["EXEC"], ["EXEC"], ["EXEC"], ["DISCARD"]]))
    return commands


def settled(cmd, reply):
    """The reply with what may differ taken out: order of keys, and time that passes."""
    name = cmd[0]
    if name == "KEYS" and isinstance(reply, list):
        return sorted(reply)
    if name == "SCAN" and isinstance(reply, list):
        return [reply[0], sorted(reply[1])]
    if name in ("TTL", "PTTL") and isinstance(reply, int) and reply > 0:
        return reply // (10 if name == "TTL" else 10000)
    if name in ("EXPIRETIME", "PEXPIRETIME") and isinstance(reply, int) and reply > 0:
        return reply // (10 if name == "EXPIRETIME" else 10000)
    return reply


def is_near(a, b):
    return a == b or (isinstance(a, int) and isinstance(b, int) and a > 0 and abs(a - b) == 1)


def compare(commands, theirs, ours):
    queued, inside = [], False
    for i, cmd in enumerate(commands):
        a, b = theirs[i], ours[i]
        if cmd[0] == "EXEC" and isinstance(a, list) and isinstance(b, list):
            pairs = list(zip(queued, a, b)) if len(a) == len(b) == len(queued) else \
                [(cmd, a, b)]
        else:
            pairs = [(cmd, a, b)]
        for one, x, y in pairs:
            x, y = settled(one, x), settled(one, y)
            assert type(x) is type(y) and (x == y or one[0].endswith(("TTL", "TIME")) and
                                           is_near(x, y)), \
                f"{one}: redis {x!r}, sennit {y!r}; before: {commands[max(0, i - 8):i]}"
        if cmd[0] == "MULTI":
            queued, inside = [], True
        elif cmd[0] in ("EXEC", "DISCARD"):
            inside = False
        elif inside and b == "QUEUED":
            queued.append(cmd)


@pytest.mark.parametrize("where,entry,resp", [("one", 0, 2), ("one", 0, 3), ("three", 0, 2),
                                              ("three", 1, 3), ("three", 2, 2)])
@pytest.mark.parametrize("seed", range(8))
def test_random_commands_are_answered_as_redis_answers_them(request, redis_port, where, entry,
                                                            resp, seed):
    r = random.Random(seed * 100 + entry * 10 + resp)
    commands = [["FLUSHALL"]] + script(r, 800)
    server = request.getfixturevalue(where)[entry]
    replies = []
    for port in (redis_port, server.port):
        with Conn(port, resp, timeout=60) as c:
            replies.append(c.pipeline(commands) if seed % 2 else [c(*cmd) for cmd in commands])
    compare(commands, *replies)


def test_the_comparison_notices_a_difference():
    commands = [["GET", "a"], ["MULTI"], ["GET", "b"], ["EXEC"]]
    theirs = [b"1", "OK", "QUEUED", [b"2"]]
    compare(commands, theirs, list(theirs))
    for wrong in ([b"2", "OK", "QUEUED", [b"2"]], [b"1", "OK", "QUEUED", [None]],
                  [Error("1"), "OK", "QUEUED", [b"2"]]):
        with pytest.raises(AssertionError):
            compare(commands, theirs, wrong)
