# SPDX-License-Identifier: Apache-2.0
"""Whatever a socket sends: a clear error or a closed connection, and the server lives on,
with its memory and its sockets as before."""
import os
import random
import socket
import struct
import time

import pytest

from cluster import wait_until
from wire import Closed, Conn, Error, encode

MB = 1 << 20


@pytest.fixture(autouse=True)
def it_lives_on(one):
    """Behind each test: it answers, holds no socket and no memory more than before."""
    s = one[0]
    sockets, rss = s.sockets(), s.rss_bytes()
    yield
    assert s.is_running
    assert s.ask("SET", "alive", "1") == "OK"
    wait_until(lambda: s.sockets() <= sockets + 1, 5, f"{sockets} sockets again")
    wait_until(lambda: s.rss_bytes() < rss + 160 * MB, 15, "memory is given back", 0.1)


def first_reply(c):
    """The first reply, or None if the connection is just closed."""
    try:
        return c.read()
    except (Closed, ConnectionError):
        return None


@pytest.mark.parametrize("data,error", [
    (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
    (b"*99999999999\r\n", "ERR Protocol error: invalid multibulk length"),
    (b"*10000000\r\n", "ERR Protocol error: invalid multibulk length"),
    (b"*3\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*3\r\n$x\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9999999999\r\n",
     "ERR Protocol error: invalid bulk length"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870913\r\n",
     "ERR Protocol error: invalid bulk length"),
    (b"*1\r\n:3\r\n", "ERR Protocol error: expected '$', got ':'"),
    (b"*2\r\n*1\r\n", "ERR Protocol error: expected '$', got '*'"),
    (b"GET \"unbalanced\r\n", "ERR Protocol error: unbalanced quotes in request"),
    (b"GET 'a'b\r\n", "ERR Protocol error: unbalanced quotes in request"),
], ids=lambda v: v[:24] if isinstance(v, bytes) else "")
def test_malformed_requests(one, data, error):
    with one[0].conn() as c:
        c.send_raw(encode("PING") + data)
        assert c.read() == "PONG"
        reply = first_reply(c)
        assert isinstance(reply, Error) and reply.startswith("ERR Protocol error"), reply
        assert reply == error
        assert c.is_closed()


@pytest.mark.parametrize("data", [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\r\n", b"\n", b"   \r\n"])
def test_empty_requests_are_nothing(one, data):
    with one[0].conn() as c:
        c.send_raw(data * 100)
        assert c("PING") == "PONG"


def test_an_endless_inline_line(one):
    with one[0].conn() as c:
        try:
            for _ in range(100):
                c.send_raw(b"a" * 65536)
        except ConnectionError:
            return
        assert first_reply(c) in (None, "ERR Protocol error: too big inline request")
        assert c.is_closed()


def test_an_endless_length_line(one):
    with one[0].conn() as c:
        try:
            for _ in range(100):
                c.send_raw(b"*" + b"1" * 65536)
        except ConnectionError:
            return
        reply = first_reply(c)
        assert reply is None or reply.startswith("ERR Protocol error"), reply
        assert c.is_closed()


def test_a_request_byte_by_byte(one):
    with one[0].conn() as c:
        for byte in encode("SET", "slowly", "value") + b"get slowly\r\n":
            c.send_raw(bytes([byte]))
        assert [c.read(), c.read()] == ["OK", b"value"]


def test_a_request_that_never_ends(one):
    """Many connections that stop in the middle: nothing is held back for what they announced."""
    s = one[0]
    before = s.rss_bytes()
    conns = [s.conn() for _ in range(50)]
    for c in conns:
        c.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500000000\r\nabc")
    time.sleep(0.3)
    assert s.rss_bytes() < before + 64 * MB
    assert s.ask("PING") == "PONG"
    for c in conns:
        c.close()


def test_random_bytes(one):
    r = random.Random(1)
    for i in range(60):
        with one[0].conn() as c:
            data = r.randbytes(r.choice([1, 10, 1000, 70000]))
            if i % 3 == 0:
                data = b"*" + data
            if i % 3 == 1:
                data = b"*3\r\n$3\r\nSET\r\n$" + data
            try:
                c.send_raw(data)
                c.sock.shutdown(socket.SHUT_WR)
                assert c.is_closed()
            except ConnectionError:
                pass


def test_broken_copies_of_right_requests(one):
    r = random.Random(2)
    right = b"".join(encode("SET", f"k{i}", "v" * i) + encode("GET", f"k{i}") for i in range(20))
    for _ in range(100):
        data = bytearray(right)
        for _ in range(r.randrange(1, 6)):
            at = r.randrange(len(data))
            if r.random() < 0.5:
                data[at] = r.randrange(256)
            else:
                del data[at:at + r.randrange(1, 30)]
        with one[0].conn() as c:
            try:
                c.send_raw(bytes(data))
                c.sock.shutdown(socket.SHUT_WR)
                assert c.is_closed()
            except ConnectionError:
                pass


def test_a_tls_hello_is_closed_with_the_reason_in_the_log(one):
    with one[0].conn() as c:
        c.send_raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500))
        assert c.is_closed()
    wait_until(lambda: "speaks TLS" in one[0].log_text(), 5)


@pytest.mark.parametrize("request_text", [
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n"])
def test_an_http_request_is_cut_off(one, request_text):
    with one[0].conn() as c:
        c.send_raw(request_text)
        assert c.is_closed()
    assert one[0].ask("GET", "evil") is None
    wait_until(lambda: "HTTP" in one[0].log_text(), 5)


def test_keys_and_values_at_their_bounds(one):
    with one[0].conn(timeout=60) as c:
        key = "k" * 65536
        assert c("SET", key, "1") == "OK"
        assert c("GET", key) == b"1"
        assert c("DEL", key) == 1
        long = "ERR the key is longer than 65536 bytes, the most that sennit takes; use a " \
               "shorter key"
        assert c("SET", key + "k", "1") == long
        assert c("GET", key + "k") == long
        assert c("PING") == "PONG"
        for name in ("", " ", "\0", "\r\n", "ü", "{", "}", "{}", ":", "{:"):
            assert c("SET", name, "v") == "OK"
            assert c("GET", name) == b"v"
            assert c("DEL", name) == 1


def test_a_value_of_100_mb(one):
    value = os.urandom(MB) * 100
    with one[0].conn(timeout=120) as c:
        assert c("SET", "large", value) == "OK"
        assert c("STRLEN", "large") == len(value)
        assert c("GETRANGE", "large", 50 * MB, 50 * MB + 9) == value[50 * MB:50 * MB + 10]
        assert c("GET", "large") == value
        assert c("DEL", "large") == 1
    wait_until(lambda: int(one[0].info()["used_memory"]) < 200 * MB, 20)


def test_huge_arguments_of_commands(one):
    with one[0].conn() as c:
        for command in (("SETRANGE", "a", "536870911", "xx"), ("SETRANGE", "a", "-1", "x"),
                        ("INCRBY", "a", "99999999999999999999"), ("GETRANGE", "a", "x", "1"),
                        ("EXPIRE", "a", "1e5"), ("SET", "a", "1", "EX", "1" * 400),
                        ("SCAN", "9" * 400), ("CLIENT", "KILL", "ID", "x"),
                        ("WAIT", "9" * 30, "1"), ("SELECT", "9" * 30),
                        ("CLUSTER", "KEYSLOT"), ("COMMAND", "INFO", "x" * 10000),
                        ("N" * 10000, "x"), ("CONFIG", "SET", "maxclients", "-5")):
            reply = c(*command)
            assert isinstance(reply, (Error, list)), (command[0], reply)
            assert len(str(reply)) < 1000
        assert len(c("MGET", *["a"] * 50000)) == 50000
        assert c("PING") == "PONG"


def test_many_connections_that_do_nothing_or_vanish(one):
    s = one[0]
    for _ in range(300):
        socket.create_connection(("127.0.0.1", s.port)).close()
    for _ in range(100):  # closed hard, with requests on the way
        c = Conn(s.port)
        c.send_raw(encode("SET", "gone", "x" * 1000) * 50)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    assert s.ask("PING") == "PONG"


# ---- the peer port ----

@pytest.mark.parametrize("data", [
    b"\0" * 4096, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", encode("PING") * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    struct.pack("<II", 0, 0xffffffff) + b"\0" * 100, struct.pack("<II", 0, 16 << 20) * 20, b"x"],
    ids=["zeros", "ones", "http", "resp", "tls", "endless", "large", "one-byte"])
def test_junk_on_the_peer_port(one, data):
    s = one[0]
    with socket.create_connection(("127.0.0.1", s.peer_port), timeout=10) as c:
        try:
            c.sendall(data)
            if len(data) > 100:
                assert_closed(c)
        except ConnectionError:
            pass
    assert s.ask("PING") == "PONG"


def assert_closed(sock, within_s=8):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if not sock.recv(65536):
                return
        except ConnectionError:
            return
    raise AssertionError("the peer port goes on listening to junk")


def test_random_bytes_on_the_peer_port(three):
    r = random.Random(3)
    leader = three.leader()
    for s in three.servers:
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", s.peer_port), timeout=10) as c:
                try:
                    c.sendall(r.randbytes(r.choice([1, 50, 5000])))
                except ConnectionError:
                    pass
    assert three[1].ask("SET", "a", "1") == "OK"
    assert three.leader() is leader
    three.wait_ready()


def test_silent_connections_to_the_peer_port_are_closed(one):
    conns = [socket.create_connection(("127.0.0.1", one[0].peer_port), timeout=12)
             for _ in range(20)]
    for c in conns:
        assert_closed(c, 12)
        c.close()
