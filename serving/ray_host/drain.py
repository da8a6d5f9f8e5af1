"""`vireo drain-node APP.yaml`: this machine is about to go; what runs on it comes up elsewhere before it ends here.

For the preStop hook of a cluster's pods. Returns when the time is over, whatever came of it: only then may the pod be ended.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import ray

from engine import FailedPrecondition, Spec, Unavailable, VireoError
from serving.ray_host.application import shutdown_s

log = logging.getLogger("vireo.ray")

_ASK_S: Final = 20.0
"""So long a cluster may take to hear it."""
_WARMING: Final = 0.5
"""Of the time there is, for others to come up; then replicas here finish what is in them even if there are no others yet."""


def drain_node(spec: Spec, within_s: float, node: str | None = None) -> None:
    """Asks Ray to drain `node`, by default this machine's, which is gone in `within_s` seconds, and waits until then. Raises
    Unavailable where no cluster answers, FailedPrecondition where it refuses, or this machine is not one node of it.
    """
    end = time.monotonic() + within_s
    try:
        _ask(node or _node_here(), round(told_s(within_s, shutdown_s(spec))))
    except VireoError as error:
        log.error("the cluster is not told that this node ends: %s", error.message)
        raise
    finally:
        time.sleep(max(0.0, end - time.monotonic()))


def told_s(within_s: float, shutdown_s: float) -> float:
    """What Ray is to be told of a node that has `within_s`. Serve ends replicas as long before that as they may take to shut
    down, whether others are up or not; told no more than that, it would end them at once.
    """
    return _WARMING * within_s + shutdown_s


def node_of(nodes: Iterable[Mapping[str, Any]], address: str) -> str:
    """The id of the one node that is alive at `address`, among what `ray.nodes` tells. Raises FailedPrecondition."""
    found = [str(each["NodeID"]) for each in nodes if each["Alive"] and each["NodeManagerAddress"] == address]
    if len(found) != 1:
        raise FailedPrecondition(
            f"{address} is {len(found)} nodes of the cluster, expected one: {', '.join(found) or 'none'}"
        )
    return found[0]


def _node_here() -> str:
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise Unavailable(f"the cluster does not answer: {error}") from error
    try:
        return node_of(ray.nodes(), ray.util.get_node_ip_address())
    finally:
        ray.shutdown()


def _ask(node: str, left_s: int) -> None:
    """By the command that Ray's own autoscaler goes by, too; there is no other way that is public."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the machine is taken away"]
    command += ["--deadline-remaining-seconds", str(left_s)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_ASK_S)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"node {node}: the cluster did not answer in {_ASK_S:g} s") from error
    except (subprocess.CalledProcessError, OSError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise FailedPrecondition(f"node {node} is not drained: {told.strip().splitlines()[-1]}") from error
