"""One Ray cluster for all tests of the Ray host: several nodes' worth of cores on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from serving.ray_host.command import SETTINGS
from tests.serving import functions
from tests.serving.servers import PROJECT, ServerProcess, eventually

CORES = 16
"""Ray's word for how much may be placed, not what this machine has."""
DOORS = "doors"
"""The pool, by label, of the node that lives as long as the cluster."""
START_S = 240.0
"""A cluster starts many processes, each of which imports Ray."""

OnRay = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the function `meeting` of any replica meets the test."""
    return tmp_path_factory.mktemp("meeting")


def _started(head: dict[str, Any]) -> Cluster:
    """Ray waits for its node for 30 s, which is not enough where nothing of it was read from this disk before."""
    try:
        return Cluster(initialize_head=True, head_node_args=head)
    except Exception:
        return Cluster(initialize_head=True, head_node_args=head)


@pytest.fixture(scope="session")
def cluster(meeting: Path) -> Iterator[Cluster]:
    """A cluster of one node, to which tests may add others."""
    with pytest.MonkeyPatch.context() as patched:
        environment = {
            **SETTINGS, "PYTHONPATH": str(PROJECT), functions.MEETING_VARIABLE: str(meeting),
            "RAY_health_check_period_ms": "1000",  # a node is lost after five that failed
            "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",  # of what cannot start
        }  # fmt: skip
        for name, value in environment.items():
            patched.setenv(name, value)
        head = {"num_cpus": CORES, "include_dashboard": False, "labels": {"pool": DOORS}}
        made = _started(head)
        yield made
        made.shutdown()


@pytest.fixture(scope="session")
def ending(cluster: Cluster) -> Iterator[list[ServerProcess]]:
    """Servers that were told to end, which nobody waits for before the last test."""
    found: list[ServerProcess] = []
    yield found
    for each in found:
        with suppress(subprocess.TimeoutExpired):
            each.wait(START_S)
        each.kill()


@pytest.fixture(scope="module")
def on_ray(cluster: Cluster, ending: list[ServerProcess]) -> Iterator[OnRay]:
    """Runs `vireo serve --host ray` on the cluster; what the tests of one module have started ends with them."""
    started: list[ServerProcess] = []

    def serve(app: Path, *arguments: str) -> ServerProcess:
        environment = {"RAY_ADDRESS": cluster.address, **os.environ}
        made = ServerProcess(app, "--host", "ray", *arguments, environment=environment, patience_s=START_S)
        started.append(made)
        return made

    yield serve
    for each in started:
        each.signal(signal.SIGTERM)
    ending += started


def replicas_of(application: str, deployment: str) -> list[int]:
    """Processes of Ray's replicas of a deployment, which their title names."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                title = (each / "cmdline").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if title.startswith(f"ray::ServeReplica:{application}:{deployment}"):
                found.append(int(each.name))
    return found


def until_replaced(application: str, deployment: str, process: int, replicas: int = 2) -> None:
    """Returns when there are so many replicas beside `process`, which is no more."""
    eventually(
        lambda: len(set(replicas_of(application, deployment)) - {process}) == replicas,
        "another takes its place",
        START_S,
    )
