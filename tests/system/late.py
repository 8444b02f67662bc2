# SPDX-License-Identifier: Apache-2.0
"""late.py SECONDS - hold back the packets that reach the network namespace this runs in.

    iptables -j NFQUEUE ──► the kernel's queue 0 ──► after SECONDS ± a fifth, in order
                                  │    ▲
                  a packet's number    all up to this number may go on

The kernel keeps the packets; only their numbers come here.  As netem, but it needs no module
that kernels leave out.  Says "ready" when the queue is open; at the end of its input it lets
all go on, and ends.

Source: linux/netfilter/nfnetlink_queue.h; numbers in network order, but for netlink's own.
"""
import collections
import random
import select
import socket
import struct
import sys
import time

QUEUE = 0
NETLINK_NETFILTER, SOL_NETLINK, NETLINK_NO_ENOBUFS, SO_RCVBUFFORCE = 12, 270, 5, 33
NLMSG_ERROR, NLM_F_REQUEST, NLM_F_ACK = 2, 1, 4
PACKET, VERDICT_BATCH, CONFIG = 0x300, 0x303, 0x302  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_*
CFG_CMD, CFG_PARAMS, CFG_QUEUE_MAXLEN, CFG_MASK, CFG_FLAGS = 1, 2, 3, 4, 5
CMD_BIND, COPY_META, FLAG_GSO = 1, 1, 4
VERDICT_HDR, NF_ACCEPT = 2, 1
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
PACKETS_MAX = 100000
RECEIVE_BYTES = 8 << 20


def message(kind, flags, *attributes):
    body = struct.pack(">BBH", socket.AF_UNSPEC, 0, QUEUE)
    for attribute, payload in attributes:
        body += struct.pack("=HH", 4 + len(payload), attribute) + payload
        body += bytes(-len(payload) % 4)
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def packets(data):
    """The numbers of the packets that one datagram tells of.  OSError: what it refuses."""
    while data:
        length, kind, *_ = HEADER.unpack_from(data)
        if kind == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", data, HEADER.size)
            if error != 0:
                raise OSError(-error, "the kernel's packet queue refuses")
        elif kind == PACKET:  # its first attribute is the packet's header, that with its number
            yield struct.unpack_from(">I", data, HEADER.size + 4 + 4)[0]
        data = data[length + (-length % 4):]


def open_queue():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    s.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)  # what is too much is lost, as on a link
    for attributes in (
            [(CFG_CMD, struct.pack(">BBH", CMD_BIND, 0, socket.AF_INET))],
            [(CFG_PARAMS, struct.pack(">IB", 0, COPY_META)),
             (CFG_QUEUE_MAXLEN, struct.pack(">I", PACKETS_MAX)),
             (CFG_FLAGS, struct.pack(">I", FLAG_GSO)), (CFG_MASK, struct.pack(">I", FLAG_GSO))]):
        s.send(message(CONFIG, NLM_F_ACK, *attributes))
        list(packets(s.recv(65536)))
    s.setblocking(False)
    return s


def release(s, number):
    """All up to it."""
    verdict = struct.pack(">II", NF_ACCEPT, number)
    s.send(message(VERDICT_BATCH, 0, (VERDICT_HDR, verdict)))


def received(s):
    try:
        while True:
            yield from packets(s.recv(65536))
    except BlockingIOError:
        return


def serve(s, seconds):
    held = collections.deque()  # (when it goes on, number)
    latest = 0.0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        readable, _, _ = select.select([s, sys.stdin], [], [], wait)
        now = time.monotonic()
        for number in received(s):
            latest = max(latest, now + seconds * random.uniform(0.8, 1.2))
            held.append((latest, number))
        is_over = sys.stdin in readable
        number = None
        while held and (held[0][0] <= now or is_over):
            number = held.popleft()[1]
        if number is not None:
            release(s, number)
        if is_over:
            return


if __name__ == "__main__":
    with open_queue() as queue:
        print("ready", flush=True)
        serve(queue, float(sys.argv[1]))
