# SPDX-License-Identifier: Apache-2.0
import os
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
