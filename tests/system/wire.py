# SPDX-License-Identifier: Apache-2.0
"""A client of our own for RESP2 and RESP3: it shows every reply as it was sent.

    simple string   str            integer   int           null        None
    bulk string     bytes          array     list          error       Error
    map             dict           set       list          double      float
    boolean         bool           verbatim  bytes         big number  int
"""
import socket
import time


class Error(str):
    """An error reply.  It is equal to its text."""

    @property
    def code(self):
        return self.split(" ", 1)[0]


class Closed(Exception):
    """The server has closed the connection."""


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        if isinstance(arg, str):
            arg = arg.encode()
        elif isinstance(arg, (int, float)):
            arg = str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(parts)


class Conn:
    def __init__(self, port, resp=2, timeout=15.0, password=None, receive_bytes=None,
                 host="127.0.0.1"):
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = bytearray()
        self.at = 0
        if password is not None:
            assert self("AUTH", password) == "OK"
        if resp != 2:
            assert isinstance(self("HELLO", resp), dict)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # ---- out ----

    def send(self, *args):
        self.sock.sendall(encode(*args))

    def send_raw(self, data):
        self.sock.sendall(data)

    def __call__(self, *args):
        self.send(*args)
        return self.read()

    def pipeline(self, commands):
        self.send_raw(b"".join(encode(*c) for c in commands))
        return [self.read() for _ in commands]

    def transaction(self, *commands):
        """MULTI, the commands, EXEC; the reply of EXEC."""
        return self.pipeline([("MULTI",), *commands, ("EXEC",)])[-1]

    # ---- in ----

    def _more(self):
        if self.at > 65536:
            del self.buf[:self.at]
            self.at = 0
        data = self.sock.recv(262144)
        if not data:
            raise Closed()
        self.buf += data

    def _line(self):
        while True:
            end = self.buf.find(b"\r\n", self.at)
            if end >= 0:
                line = bytes(self.buf[self.at:end])
                self.at = end + 2
                return line
            self._more()

    def _bytes(self, n):
        while len(self.buf) - self.at < n + 2:
            self._more()
        data = bytes(self.buf[self.at:self.at + n])
        assert self.buf[self.at + n:self.at + n + 2] == b"\r\n"
        self.at += n + 2
        return data

    def read(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Error(rest.decode())
        if kind in (b":", b"("):
            return int(rest)
        if kind == b"_":
            return None
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        n = int(rest)
        if kind in (b"$", b"="):
            if n < 0:
                return None
            return self._bytes(n) if kind == b"$" else self._bytes(n)[4:]
        if kind in (b"*", b">"):
            return None if n < 0 else [self.read() for _ in range(n)]
        if kind == b"~":
            return [self.read() for _ in range(n)]
        if kind == b"%":
            return {self.read(): self.read() for _ in range(n)}
        raise AssertionError(f"not RESP: {line!r}")

    def is_closed(self, within_s=5.0):
        """Whether the server closes the connection, whatever it says before."""
        deadline = time.monotonic() + within_s
        try:
            while time.monotonic() < deadline:
                self.sock.settimeout(max(0.01, deadline - time.monotonic()))
                if not self.sock.recv(65536):
                    return True
        except socket.timeout:
            return False
        except ConnectionError:
            return True
        return False


def table(reply):
    """A reply of names and values as a dict of str keys: a map, or the flat list of RESP2."""
    if isinstance(reply, dict):
        pairs = reply.items()
    else:
        assert isinstance(reply, list) and len(reply) % 2 == 0, reply
        pairs = zip(reply[::2], reply[1::2])
    return {text(k): v for k, v in pairs}


def text(value):
    return value.decode() if isinstance(value, bytes) else value
