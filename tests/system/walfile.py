# SPDX-License-Identifier: Apache-2.0
"""Reads the segments of a stopped server's log, to damage them at a chosen place.

The layout is that of src/wal/wal.h."""
import os
import struct

HEAD, RECORD_HEAD = 64, 64
MAGIC = b"SNTWAL\0\1"
KIND = 0x0f  # the other bits of that byte are marks
ENTRY, STATE, BASE, FORGET, MARK = 1, 2, 3, 4, 5


class Record:
    def __init__(self, path, offset, raw):
        self.path, self.offset = path, offset
        self.lsn, self.watermark, self.length, self.group = struct.unpack_from("<QQII", raw, 16)
        self.index, self.term, kind = struct.unpack_from("<QQB", raw, 40)
        self.kind = kind & KIND

    @property
    def size(self):
        return RECORD_HEAD + (self.length + 7) // 8 * 8

    @property
    def body_at(self):
        return self.offset + RECORD_HEAD


def segments(server):
    """Paths in the order of the log."""
    found = []
    wal = os.path.join(server.data, "wal")
    for name in os.listdir(wal):
        path = os.path.join(wal, name)
        with open(path, "rb") as f:
            head = f.read(HEAD)
        if head[:8] == MAGIC:
            found.append((struct.unpack_from("<Q", head, 16)[0], path))
    return [path for _, path in sorted(found)]


def records(path):
    """Those of the segment's present life."""
    with open(path, "rb") as f:
        data = f.read()
    base = struct.unpack_from("<Q", data, 24)[0]
    found, at = [], HEAD
    while at + RECORD_HEAD <= len(data):
        r = Record(path, at, data[at:at + RECORD_HEAD])
        if r.lsn != base + at - HEAD or r.kind not in range(1, 6) or \
                at + r.size > len(data):
            break
        found.append(r)
        at += r.size
    return found


def all_records(server):
    return [r for path in segments(server) for r in records(path)]


def entries(server, group=None):
    return [r for r in all_records(server)
            if r.kind == ENTRY and (group is None or r.group == group)]


def flip(path, offset, mask=0x40):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ mask]))


def zero_from(path, offset):
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(bytes(size - offset))
