# SPDX-License-Identifier: Apache-2.0
"""A network between servers that can be cut and slowed: a TCP proxy in front of each peer port.

Every server tells the others the address of its proxy (--advertise-peer), so each connection
between two servers runs through here.  Who dialed is found through /proc: which process has
the other end open.  A cut direction is a black hole: bytes are held, as by a network that
loses every packet, and go on when it heals.
"""
import asyncio
import glob
import os
import threading

READ_BYTES = 65536


def _inode_of(port, to_port):
    """The socket inode of the connection from 127.0.0.1:port to 127.0.0.1:to_port."""
    local, remote = f"0100007F:{port:04X}", f"0100007F:{to_port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as f:
        for line in f:
            field = line.split()
            if field[1] == local and field[2] == remote:
                return field[9]
    return None


class Network:
    is_proxy = True

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.pid_of = {}   # name -> pid; kept by the cluster
        self.cuts = set()  # (from, to)
        self.delays = {}   # (from, to) -> seconds
        self.servers = []
        self.tasks = set()
        self.changed = None
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        self.changed = asyncio.Event()
        self.loop.call_soon(started.set)
        self.loop.run_forever()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def listen(self, name, port, to_port):
        """Connections to `port` go to the server `name`, which listens at `to_port`."""
        async def begin():
            async def accept(reader, writer):
                self.tasks.add(asyncio.current_task())
                await self._serve(name, port, to_port, reader, writer)
            self.servers.append(await asyncio.start_server(accept, "127.0.0.1", port))
        self._call(begin())

    def close(self):
        async def end():
            for server in self.servers:
                server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(0)
        self._call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def host(self, _name):
        return "127.0.0.1"

    def place(self, _name):
        return []

    # ---- what the tests do ----

    def _change(self, act):
        async def run():
            act()
            old, self.changed = self.changed, asyncio.Event()
            old.set()
        self._call(run())

    def cut(self, *pairs):
        """Bytes of (from, to) no longer arrive."""
        self._change(lambda: self.cuts.update(pairs))

    def isolate(self, name, others, inbound=True, outbound=True):
        pairs = [(o, name) for o in others if inbound] + [(name, o) for o in others if outbound]
        self.cut(*pairs)

    def heal(self):
        self._change(lambda: (self.cuts.clear(), self.delays.clear()))

    def delay(self, seconds, *pairs):
        self._change(lambda: self.delays.update({p: seconds for p in pairs}))

    # ---- one connection ----

    def _dialer(self, inode):
        for name, pid in list(self.pid_of.items()):
            for fd in glob.glob(f"/proc/{pid}/fd/*"):
                try:
                    if os.readlink(fd) == f"socket:[{inode}]":
                        return name
                except OSError:
                    continue
        return None

    async def _serve(self, name, port, to_port, reader, writer):
        out = None
        try:
            dialer = self._dialer(_inode_of(writer.get_extra_info("peername")[1], port))
            if dialer is None:
                return
            in_from, out = await asyncio.open_connection("127.0.0.1", to_port)
            there = asyncio.ensure_future(self._pump((dialer, name), reader, out))
            back = asyncio.ensure_future(self._pump((name, dialer), in_from, writer))
            self.tasks.update((there, back))
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            back.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, out):
                if end is not None:
                    end.close()

    async def _pump(self, pair, reader, writer):
        queue = asyncio.Queue(maxsize=64)

        async def send():
            while True:
                due, data = await queue.get()
                while True:
                    wait = due - self.loop.time()
                    if pair in self.cuts:
                        await self.changed.wait()
                    elif wait > 0:
                        await asyncio.sleep(wait)
                    else:
                        break
                if data is None:
                    return
                writer.write(data)
                await writer.drain()

        sender = asyncio.ensure_future(send())
        self.tasks.add(sender)
        try:
            while True:
                data = await reader.read(READ_BYTES)
                await queue.put((self.loop.time() + self.delays.get(pair, 0.0), data or None))
                if not data:
                    break
            await sender
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            sender.cancel()
