# SPDX-License-Identifier: Apache-2.0
"""Damage on disk is found, told, and repaired from the others; it is never acted upon."""
import os
import time

import pytest

import walfile
from cluster import wait_until
from load import Load, seconds_until_write
from wire import Error


def group_of(cluster, keyspace="default"):
    return int(cluster.shard_rows(None, keyspace)[0]["shard"])


def write_some(cluster, n=300, prefix="d"):
    with Load(cluster.servers, threads=3, prefix=prefix) as load:
        load.wait_acked(n)
    time.sleep(0.3)  # the log is quiet: its mark says that all of this is durable
    return load


def flip_in_the_middle(cluster, server, group):
    found = walfile.entries(server, group)
    assert len(found) > 100
    victim = found[len(found) // 2]
    assert victim.length > 8
    walfile.flip(victim.path, victim.body_at + victim.length // 2)


def test_a_damaged_follower_is_repaired_by_its_peers(make_cluster):
    """R102: one bit of an acknowledged record in the middle."""
    cluster = make_cluster(3)
    group = group_of(cluster)
    load = write_some(cluster)
    victim = cluster.followers()[0]
    victim.kill9()
    flip_in_the_middle(cluster, victim, group)
    cluster.restart(victim)
    wait_until(lambda: "the log is damaged in file" in victim.log_text(), 5)
    cluster.wait_ready()
    cluster.wait_equal_digests()
    load.check(victim)
    # It is whole again: now it counts, without the server that was the leader.
    cluster.leader().kill9()
    seconds_until_write(victim)
    load.check(victim)


def test_a_damaged_server_does_not_vote(make_cluster):
    """R102, R103: with one healthy server it makes no majority; its log may have forgotten."""
    cluster = make_cluster(3)
    group = group_of(cluster)
    load = write_some(cluster)
    victim, healthy = cluster.followers()
    leader = cluster.leader()
    for s in (victim, leader):
        s.kill9()
    flip_in_the_middle(cluster, victim, group)
    healthy.kill9()
    victim.start()
    healthy.start()
    wait_until(lambda: "the log is damaged in file" in victim.log_text(), 10)
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        for s in (healthy, victim):
            try:
                reply = s.ask("SET", "damaged", "1")
            except OSError:
                continue  # it does not serve before it knows the cluster
            assert isinstance(reply, Error), "a damaged server has voted"
    leader.start()
    cluster.wait_ready()
    cluster.wait_equal_digests()
    for s in cluster.servers:
        load.check(s)


def test_damage_at_every_kind_of_place_is_repaired(make_cluster):
    """Heads and bodies of records, the head of the segment, the newest synced record."""
    cluster = make_cluster(3)
    group = group_of(cluster)
    load = write_some(cluster)
    for place in ("record head", "record body", "segment head", "newest entry", "many"):
        victim = cluster.followers()[0]
        victim.kill9()
        found = walfile.entries(victim, group)
        middle = found[len(found) // 3]
        if place == "record head":
            walfile.flip(middle.path, middle.offset + 40)
        elif place == "record body":
            walfile.flip(middle.path, middle.body_at)
        elif place == "segment head":
            walfile.flip(walfile.segments(victim)[-1], 20)
        elif place == "newest entry":
            walfile.flip(found[-1].path, found[-1].body_at + 1)
        else:
            for r in found[10:-10:7]:
                walfile.flip(r.path, r.offset + 17)
        print(place)
        cluster.restart(victim)
        cluster.wait_ready()
        cluster.wait_equal_digests()
        load.check(victim)
        more = write_some(cluster, 60, f"after-{place[:8]}")
        more.check(victim)


def test_a_server_alone_with_damage_is_read_only_and_says_what_to_do(make_cluster):
    cluster = make_cluster(1)
    s = cluster[0]
    group = group_of(cluster)
    load = write_some(cluster)
    s.kill9()
    found = walfile.entries(s, group)
    last = found[-1]
    walfile.flip(found[len(found) // 2].path, found[len(found) // 2].body_at + 3)
    cluster.restart(s, within_s=5)
    assert "the log is damaged in file" in s.log_text()
    reply = wait_until(lambda: s.ask("SET", "a", "1"), 5)
    assert isinstance(reply, Error) and reply.code == "READONLY", reply
    assert "sennit recover" in reply
    key = next(iter(load.acked))
    assert not isinstance(s.ask("GET", key), Error)
    assert last.index > 0
    # It stays so: a restart does not forget the damage.
    s.kill9()
    cluster.restart(s)
    reply = wait_until(lambda: s.ask("SET", "a", "1"), 5)
    assert isinstance(reply, Error) and reply.code == "READONLY", reply


def test_a_torn_last_record_is_cut_wherever_it_is_torn(make_cluster):
    """R101: what was written before it stays, and the server goes on."""
    cluster = make_cluster(1)
    s = cluster[0]
    with s.conn() as c:
        for i in range(100):
            assert c("SET", f"k{i}", f"{i}" * 20) == "OK"
    for part in (0, 1, 63, 64, 80, -1):
        key, n = f"torn{part}", 100
        with s.conn() as c:
            c("SET", key, "x" * 200)
        s.kill9()
        group = next(r.group for r in reversed(walfile.all_records(s))
                     if r.kind == walfile.ENTRY)
        last = walfile.entries(s, group)[-1]
        cut = last.offset + (part if part >= 0 else last.size - 1)
        walfile.zero_from(last.path, cut)
        cluster.restart(s)
        cluster.wait_writes(s)
        with s.conn() as c:
            assert c("GET", key) in (None, b"x" * 200)
            assert [c("GET", f"k{i}") for i in range(n)] == \
                [(f"{i}" * 20).encode() for i in range(n)]


@pytest.mark.parametrize("part", [0, 1, 63, 64, 80, -1])
def test_a_log_file_that_lost_its_end_is_repaired_by_the_peers(make_cluster, part):
    """R101, R102: no crash makes a file shorter, so what is missing may have been
    acknowledged.  The server does not count until the others have made it whole."""
    cluster = make_cluster(3)
    group = group_of(cluster)
    load = write_some(cluster)
    victim = cluster.followers()[0]
    victim.kill9()
    last = walfile.entries(victim, group)[-1]
    os.truncate(last.path, last.offset + (part if part >= 0 else last.size - 1))
    cluster.restart(victim)
    wait_until(lambda: "the log is damaged in file" in victim.log_text(), 5)
    cluster.wait_ready()
    cluster.wait_equal_digests()
    load.check(victim)
    cluster.leader().kill9()
    seconds_until_write(victim)
    load.check(victim)


def test_alone_with_a_log_that_lost_its_end_a_server_keeps_what_is_left(make_cluster):
    """Every whole record is still read, to the one that ends where the file does; but
    nobody can say whether that was the last, so it takes no more writes."""
    cluster = make_cluster(1)
    s = cluster[0]
    with s.conn() as c:
        for i in range(100):
            assert c("SET", f"k{i}", f"{i}" * 20) == "OK"
    s.kill9()
    found = walfile.entries(s)
    cut = found[-1]
    os.truncate(cut.path, cut.offset)
    cluster.restart(s)
    reply = wait_until(lambda: s.ask("SET", "a", "1"), 5)
    assert isinstance(reply, Error) and reply.code == "READONLY", reply
    assert [s.ask("GET", f"k{i}") for i in range(99)] == \
        [(f"{i}" * 20).encode() for i in range(99)]


def test_a_log_file_cut_behind_its_last_record_has_lost_nothing(make_cluster):
    cluster = make_cluster(1)
    s = cluster[0]
    load = write_some(cluster)
    s.kill9()
    last = walfile.all_records(s)[-1]
    os.truncate(last.path, last.offset + last.size + walfile.RECORD_HEAD)
    cluster.restart(s)
    cluster.wait_writes(s)
    load.check(s)


def test_a_store_that_cannot_be_read_ends_the_process_and_says_so(make_cluster):
    cluster = make_cluster(1)
    s = cluster[0]
    s.kill9()
    os.truncate(os.path.join(s.data, "store", "data.mdb"), 8192)  # its two heads alone
    s.start()
    assert s.process.wait(15) == 1
    assert "the store cannot be read" in s.log_text()


def test_junk_behind_the_end_of_the_log_is_no_matter(make_cluster):
    cluster = make_cluster(1)
    s = cluster[0]
    load = write_some(cluster)
    s.kill9()
    last = walfile.all_records(s)[-1]
    with open(last.path, "r+b") as f:
        f.seek(last.offset + last.size)
        f.write(os.urandom(4096))
    cluster.restart(s)
    cluster.wait_writes(s)
    load.check(s)


def test_a_missing_segment_is_refused_by_name(make_cluster):
    """R111: a gap in the log is not stepped over."""
    cluster = make_cluster(1, args=["--wal-keep", "1gb"])
    s = cluster[0]
    with s.conn() as c:
        for i in range(150):
            assert c("SET", f"k{i % 5}", b"x" * 1000000) == "OK"
    s.kill9()
    paths = walfile.segments(s)
    assert len(paths) >= 3, paths
    os.remove(paths[-2])
    s.start()
    assert s.process.wait(15) == 1
    assert "the log can't be opened" in s.log_text()


def lose_data(server, suffix=".lost"):
    os.rename(server.data, server.data + suffix)


def test_a_server_that_lost_its_data_cannot_help_to_lose_writes(make_cluster):
    """R97: amnesia.  s3 lacks the writes, s2 has forgotten them: together they are no
    majority that may go on without s1."""
    cluster = make_cluster(3)
    s1 = cluster.leader()
    s2, s3 = cluster.others(s1)
    s3.kill9()
    with Load([s1], threads=3) as load:
        load.wait_acked(300)
    for s in (s2, s1):
        s.kill9()
    lose_data(s2)
    s3.start()
    s2.start(join=s3.advertised)
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        for s in (s2, s3):
            try:
                reply = s.ask("SET", "amnesia", "1")
            except OSError:
                continue
            assert isinstance(reply, Error), "a server that lost its data has voted"
    s1.start()
    wait_until(lambda: s1.ask("SET", "back", "1") == "OK", 20)
    for s in (s1, s3):
        load.check(s)


def test_a_server_that_lost_its_data_is_told_no_or_made_whole(make_cluster):
    """R97: with all others there.  What must not be is a server that hangs."""
    cluster = make_cluster(3)
    load = write_some(cluster)
    victim = cluster.followers()[0]
    victim.kill9()
    lose_data(victim)
    victim.start(join=cluster.others(victim)[0].advertised)

    def settled():
        if not victim.is_running:
            assert victim.process.returncode == 1
            return "the cluster refuses this server" in victim.log_text()
        return cluster.ask(victim, "GET", "d0:1") is not None
    wait_until(settled, 15)
    if victim.is_running:
        cluster.wait_ready()
        cluster.wait_equal_digests()
    for s in cluster.servers:
        if s.is_running:
            load.check(s)


def empty_log(server):
    for path in walfile.segments(server):
        os.unlink(path)


def test_a_log_folder_that_was_emptied_is_missed(make_cluster):
    """The votes and the entries that were in it are gone: the store says that there were some."""
    cluster = make_cluster(3)
    load = write_some(cluster)
    victim = cluster.followers()[0]
    victim.terminate()  # its checkpoint is of all of it
    empty_log(victim)
    cluster.restart(victim)
    assert "the log does not know shard" in victim.log_text()
    cluster.wait_ready()
    cluster.wait_equal_digests()
    load.check(victim)


def test_a_server_alone_without_its_log_is_read_only(make_cluster):
    cluster = make_cluster(1)
    s = cluster[0]
    load = write_some(cluster)
    s.terminate()
    empty_log(s)
    cluster.restart(s, within_s=5)
    reply = wait_until(lambda: s.ask("SET", "a", "1"), 5)
    assert isinstance(reply, Error) and reply.code == "READONLY", reply
    assert not isinstance(s.ask("GET", next(iter(load.acked))), Error)
