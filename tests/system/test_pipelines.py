# SPDX-License-Identifier: Apache-2.0
"""What one connection asks of one shard takes effect in the order asked, also at a server that
has to ask the leader, and while leaders change."""
import threading
import time

from cluster import wait_until
from wire import Error


def test_a_read_past_its_keys_deadline_comes_before_the_write_behind_it(three):
    """A follower asks the leader about such a read, and has begun to answer it itself."""
    follower = three.followers()[0]
    with follower.conn() as c, three.wait_leader().conn() as leader:
        for i in range(40):
            assert leader("SET", f"past{i}", "a", "PX", 30) == "OK"
            time.sleep(0.032)
            replies = c.pipeline([("GET", f"past{i}"), ("SET", f"past{i}", "b")])
            assert replies[0] in (None, b"a") and replies[1] == "OK", replies


def test_a_stream_of_writes_keeps_its_order_through_a_paused_leader(make_cluster):
    """The old leader wakes and refuses what was sent to it, while later writes wait for the new
    one.  What is answered UNCERTAIN may come later, or never."""
    count = 1200
    with make_cluster(3) as cluster:
        refused = 0
        for turn in range(3):
            leader = cluster.wait_leader()
            asked, other = cluster.others(leader)
            replies = []
            with asked.conn(timeout=30) as c:
                reader = threading.Thread(
                    target=lambda: replies.extend(c.read() for _ in range(count)))
                reader.start()
                for i in range(count):
                    c.send("APPEND", f"stream{turn}", f"{i},")
                    time.sleep(0.002)
                    if i == 100:
                        leader.pause()
                    if leader.paused and cluster.leader(server=other) not in (None, leader):
                        time.sleep(0.2)
                        leader.resume()
                reader.join(40)
            leader.resume()
            assert len(replies) == count
            value = wait_until(lambda: other.ask("GET", f"stream{turn}"), what="its value")
            order = [int(n) for n in value.split(b",") if n]
            told = [n for n in order if not isinstance(replies[n], Error)]
            assert told == sorted(told)
            assert set(told) >= {i for i, r in enumerate(replies) if not isinstance(r, Error)}
            refused += len(replies) - len(told)
        print(f"{refused} of {3 * count} writes were not acknowledged")
