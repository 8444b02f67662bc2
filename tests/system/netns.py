# SPDX-License-Identifier: Apache-2.0
"""A network between servers that the kernel makes: each in a namespace of its own.

    this process ── bridge 10.x.y.254 ──┬── veth ── namespace of s1, 10.x.y.1
                                        ├── veth ── namespace of s2, 10.x.y.2
                                        └── ...

Cuts and losses are packets that iptables drops where they arrive, or where they leave, in the
namespace of a server; only those between servers, so a server that is cut off still hears its
clients.  TCP sends again what was lost, notices late or not at all, and finds old connections
alive when the network is back: what the proxies of partition.py can't show.  Delayed packets
wait in a queue of the kernel, where they arrive, until late.py tells it to let them go on.

The same calls as partition.Network, but that a delay is of all that reaches a server.  Needs
root, ip, iptables, tc; skip_reason() says what is missing.  Delays need NFQUEUE, which a kernel
may lack.
"""
import itertools
import os
import random
import re
import shutil
import subprocess
import sys

LATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "late.py")

made = itertools.count()


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def skip_reason():
    """None, or why there can be no namespaces here."""
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    for tool in ("ip", "iptables", "tc"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    try:
        with Namespaces() as network:
            network.host("probe")
            network.lose(0.5, ("probe", "probe"))
    except OSError as e:
        return f"no network namespaces here: {e}"
    return None


def no_delay_reason():
    """None, or why packets can't be late where there are namespaces."""
    try:
        with Namespaces() as network:
            network.host("probe")
            network.delay(0.1, "probe")
    except OSError as e:
        return f"no late packets here: {e}"
    return None


def sweep():
    """What test processes that were killed have left."""
    for line in run("ip", "netns", "list").splitlines():
        name = re.match(r"snt(\d+)-", line)
        if name and not os.path.exists(f"/proc/{name[1]}"):
            run("ip", "netns", "delete", line.split()[0])
    for line in run("ip", "-o", "link", "show", "type", "bridge").splitlines():
        name = re.search(r"\bsnb(\d+)x\d+", line)
        if name and not os.path.exists(f"/proc/{name[1]}"):
            run("ip", "link", "delete", name[0])


class Namespaces:
    is_proxy = False

    def __init__(self):
        sweep()
        number = next(made)
        self.prefix = f"snt{os.getpid()}-{number}-"
        self.bridge = f"snb{os.getpid()}x{number}"
        self.net = self._free_net()
        self.number_of = {}  # name -> last number of its address
        self.pid_of = {}     # kept by the cluster
        self.late = {}       # name -> the process that delays what reaches it
        run("ip", "link", "add", self.bridge, "type", "bridge")
        try:
            run("ip", "address", "add", f"{self.net}.254/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
        except OSError:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _free_net():
        taken = run("ip", "-4", "-o", "address")
        while True:
            net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
            if f" {net}." not in taken:
                return net

    def close(self):
        """A namespace takes its end of the veth with it, and that the other end."""
        for name in list(self.late):
            self._end_delay(name)
        for name in self.number_of:
            run("ip", "netns", "delete", self.prefix + name)
        self.number_of = {}
        run("ip", "link", "delete", self.bridge)

    def _in(self, name, *args):
        return run("ip", "netns", "exec", self.prefix + name, *args)

    # ---- for the cluster ----

    def host(self, name):
        """The address of a server; its namespace is made when first asked for."""
        if name not in self.number_of:
            number = len(self.number_of) + 1
            outside = f"{self.bridge}v{number}"
            run("ip", "netns", "add", self.prefix + name)
            self.number_of[name] = number
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0",
                "netns", self.prefix + name)
            run("ip", "link", "set", outside, "master", self.bridge, "up")
            self._in(name, "ip", "link", "set", "lo", "up")
            self._in(name, "ip", "address", "add", f"{self.net}.{number}/24", "dev", "eth0")
            self._in(name, "ip", "link", "set", "eth0", "up")
        return f"{self.net}.{self.number_of[name]}"

    def place(self, name):
        """What a server's command begins with; `ip` gives its process to the command."""
        return ["ip", "netns", "exec", self.prefix + name]

    # ---- what the tests do ----

    def cut(self, *pairs):
        """Packets of (from, to) do not arrive."""
        for sender, receiver in pairs:
            self._in(receiver, "iptables", "-A", "INPUT", "-s", self.host(sender), "-j", "DROP")

    def isolate(self, name, others, inbound=True, outbound=True):
        for other in others:
            if inbound:
                self.cut((other, name))
            if outbound:
                self._in(name, "iptables", "-A", "OUTPUT", "-d", self.host(other), "-j", "DROP")

    def lose(self, share, *pairs):
        """Of the packets of (from, to), that share."""
        for sender, receiver in pairs:
            self._in(receiver, "iptables", "-A", "INPUT", "-s", self.host(sender),
                     "-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}",
                     "-j", "DROP")

    def delay(self, seconds, name):
        """What reaches that server is late by so much, give or take a fifth, and in order.
        Not what leaves it: TCP sends little while its own host still holds what it sent."""
        self._end_delay(name)
        late = subprocess.Popen(  # pylint: disable=consider-using-with
            [*self.place(name), sys.executable, LATE, str(seconds)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.late[name] = late
        if late.stdout.readline() != "ready\n":
            self._end_delay(name)
        # Before the chains that cut and lose: a packet may be late and lost.
        self._in(name, "iptables", "-t", "mangle", "-A", "INPUT", "-i", "eth0", "-j", "NFQUEUE")

    def _end_delay(self, name):
        """What is held goes on; new packets do so before, so that none is lost."""
        late = self.late.pop(name, None)
        if late is None:
            return
        self._in(name, "iptables", "-t", "mangle", "-F", "INPUT")
        try:
            _, errors = late.communicate(timeout=10)
        finally:
            late.kill()
        if late.returncode != 0:
            raise OSError(f"late.py in {name} ended with {late.returncode}: {errors.strip()}")

    def narrow(self, kbit, name):
        """What leaves that server queues for a link that carries so little."""
        self._in(name, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
                 f"{kbit}kbit", "burst", "16kb", "latency", "300ms")

    def heal(self):
        for name in self.number_of:
            self._in(name, "iptables", "-F")
            self._end_delay(name)
            if "tbf" in self._in(name, "tc", "qdisc", "show", "dev", "eth0"):
                self._in(name, "tc", "qdisc", "delete", "dev", "eth0", "root")
