# SPDX-License-Identifier: Apache-2.0
"""P32: a cluster of the previous commit's build becomes one of this build, server by server,
under load; and back, where that is allowed."""
import os
import re
import shutil
import subprocess

import pytest

from cluster import ROOT, SENNIT, wait_until
from load import Load, RedisPyLoad
from test_histories import KEYS, History
from wire import table, text

# What a client may see while a server is restarted: it is gone, or its lead is.
AT_A_RESTART = {"NOLEADER", "NOQUORUM", "UNCERTAIN", "Closed", "ConnectionError",
                "ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError"}


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, check=False)


def previous_commit():
    """The one before what is tested: that is HEAD, or what is not committed yet."""
    changed = git("status", "--porcelain", "--", "src", "meson.build")
    commit = git("rev-parse", "--verify", "--quiet", "HEAD" if changed.stdout else "HEAD^")
    if commit.returncode != 0:
        pytest.skip("there is no commit before this one (no repository, or a shallow one)")
    return commit.stdout.strip()


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The previous commit's program, as it is shipped but for what debuggers read."""
    given = os.environ.get("SENNIT_OLD")
    if given:
        return os.path.abspath(given)
    source = str(tmp_path_factory.mktemp("previous"))
    archive = subprocess.run(["git", "-C", ROOT, "archive", previous_commit()],
                             capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    env = {**os.environ, "CC": "ccache gcc" if shutil.which("ccache") else "gcc",
           "CCACHE_BASEDIR": source, "CCACHE_NOHASHDIR": "1"}
    for command in (["meson", "setup", "build", "-Ddebug=false", "-Dwerror=false"],
                    ["ninja", "-C", "build", "sennit"]):
        made = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True,
                              check=False)
        assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]
    return os.path.join(source, "build", "sennit")


def level_of(cluster, server):
    """Of the cluster, as that server has it."""
    info = cluster.ask(server, "CLUSTER", "INFO").decode()
    found = re.search(r"cluster_feature_level:(\d+)", info)
    return int(found[1]) if found else 1  # before it was shown there was one only


def spoken_by(cluster, server):
    """The newest level that its program speaks."""
    rows = [{k: text(v) for k, v in table(r).items()}
            for r in cluster.ask(server, "SERVER", "LIST")]
    return next(r.get("level", 1) for r in rows if r["name"] == server.name)


def replace(cluster, server, binary):
    assert server.terminate() == 0, server.log_text()[-2000:]
    server.binary = binary
    cluster.restart(server)
    cluster.wait_ready()


@pytest.fixture
def upgrading(make_cluster, old):
    """Three servers of the old build, with a keyspace of each strategy."""
    cluster = make_cluster(3, binary=old)
    assert cluster[0].ask("KEYSPACE", "CREATE", "semi", "MODE", "primary", "ACK", "1") == "OK"
    cluster.wait_ready()
    return cluster


class Loads:
    """Writers of both keyspaces by two clients, and histories of a few keys."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.writers = [Load(cluster.servers, threads=2, pause_s=0.002),
                        Load(cluster.servers, threads=2, pause_s=0.002, prefix="semi:w"),
                        RedisPyLoad(cluster.servers, threads=1, prefix="semi:p")]
        self.history = History(cluster, KEYS, clients=3, seed=32)

    def __enter__(self):
        for load in (*self.writers, self.history):
            load.__enter__()
        return self

    def __exit__(self, *why):
        for load in (*self.writers, self.history):
            load.__exit__(*why)

    def go_on(self):
        for load in self.writers:
            load.wait_acked(50)

    def check(self):
        """Nothing that was acknowledged is lost, and no error was any but a restart's."""
        for load in self.writers:
            for s in self.cluster.servers:
                load.check(s)
            print(f"{load.prefix}: {len(load.acked)} acknowledged, {load.errors}")
            assert set(load.errors) <= AT_A_RESTART, load.errors
        self.history.check()
        for keyspace in ("default", "semi"):
            self.cluster.wait_equal_digests(keyspace)


def test_P32_upgraded_one_by_one_under_load_nothing_is_lost(upgrading, old):
    cluster = upgrading
    before = level_of(cluster, cluster[0])
    with Loads(cluster) as loads:
        loads.go_on()
        replace(cluster, cluster[0], SENNIT)
        loads.go_on()
        replace(cluster, cluster[0], old)  # thought better of it: not all are upgraded
        loads.go_on()
        for s in cluster.servers:
            # Raised by the last one, and not before.
            assert [level_of(cluster, x) for x in cluster.servers] == [before] * 3
            replace(cluster, s, SENNIT)
            loads.go_on()
        after = spoken_by(cluster, cluster[0])
        assert after >= before
        wait_until(lambda: {level_of(cluster, s) for s in cluster.servers} == {after}, 10,
                   f"the level has risen from {before} to {after}")
        if after == before:  # then there is a way back
            for s in cluster.servers:
                replace(cluster, s, old)
                loads.go_on()
                assert level_of(cluster, s) == before
    loads.check()
    if after > before:
        is_refused(cluster, cluster[1], old)


def is_refused(cluster, server, old):
    """The older build says why it does not start; nothing of it is harmed."""
    assert server.terminate() == 0
    server.binary = old
    server.start()
    assert server.process.wait(10) == 1
    assert "newer version" in server.log_text().splitlines()[-1]
    server.binary = SENNIT
    cluster.restart(server)
    cluster.wait_ready()
    assert server.ask("SET", "a", "1") == "OK"
