# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cluster as clusters  # noqa: E402

LOG_TAIL_LINES = 40


def pytest_configure(config):
    config.addinivalue_line("markers", "long: only with SENNIT_LONG=1 (scripts/test.sh --long)")


def pytest_collection_modifyitems(config, items):
    """What is long is left out visibly: as deselected, in the count of the last line."""
    if os.environ.get("SENNIT_LONG") == "1":
        return
    left_out = [i for i in items if i.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if not i.get_closest_marker("long")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for cluster in clusters.live:
            for s in cluster.servers:
                state = "runs" if s.is_running else "has ended"
                if s.process is not None and not s.is_running:
                    state += f" with {s.process.returncode}"
                tail = "\n".join(s.log_text().splitlines()[-LOG_TAIL_LINES:])
                report.sections.append((f"{s.name}, port {s.port}, {state}", tail))
    if call.when == "teardown":
        for cluster in list(clusters.live):
            if not any(s.is_running for s in cluster.servers):
                cluster.close()  # one that did not come up; its logs have been shown


@pytest.fixture
def make_cluster():
    """Clusters of this test alone; it need not end them."""
    made = []

    def make(*args, **kwargs):
        made.append(clusters.Cluster(*args, **kwargs))
        return made[-1]
    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="module")
def one():
    """One server, shared by the tests of a module."""
    with clusters.Cluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three():
    """Three servers, shared by the tests of a module."""
    with clusters.Cluster(3) as cluster:
        yield cluster


class WallClock:
    """The time of day of one server: clock.c reads the offset from a file that it keeps."""

    def __init__(self, shim, server):
        self.file = server.log + ".clock"
        self.seconds = 0
        self.jump(0)
        server.env.update(LD_PRELOAD=shim, CLOCK_OFFSET_FILE=self.file)

    def jump(self, seconds):
        self.seconds += seconds
        with open(self.file, "r+b" if os.path.exists(self.file) else "w+b") as f:
            f.write(self.seconds.to_bytes(8, sys.byteorder, signed=True))


@pytest.fixture(scope="session")
def wall_clock_shim(tmp_path_factory):
    if b"__asan_init" in open(clusters.SENNIT, "rb").read():
        pytest.skip("the sanitizers' runtime must be loaded first")
    shim = str(tmp_path_factory.mktemp("clock") / "clock.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    return shim


@pytest.fixture
def wall_clock(wall_clock_shim):
    """wall_clock(server), before it is started: its own time of day."""
    return lambda server: WallClock(wall_clock_shim, server)
