"""From a spec to applications of Ray Serve: its deployments, with their sizes and their places.

All of it is one application where Serve's own tools deploy it. Where we do, the ingress is one and each deployment apart one of
its own, named for what it serves: an update leaves alone what it does not change, and what it changes comes up beside the old,
with as many replicas as that has, which those who call it keep until they are gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingPolicy
from ray.serve.handle import DeploymentHandle

from engine import INGRESS, AutoscalingSpec, DeploymentSpec, ShardSpec, Spec, fingerprint_of, shard_name, spec_as_plain
from serving.ray_host.replica import Replica
from serving.ray_host.scaling import WINDOW_S, QueuePolicy

_CALLS_MAX: Final = 100_000
"""Ray's own queue backs off where a bound is met, at 5 calls a second; the engine queues and sheds in its place."""
_END_S: Final = 10.0
"""Over the spec's bound for the drain: for what the engine does after it."""
_IDLE_POLL_S: Final = 0.1
_MEASURED_S: Final = 2.0
"""How often replicas tell the controller what they measure."""
_ALONE: Final = DeploymentSpec()
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


def application(spec: Spec) -> Application:
    """The application that serves `spec`: the ingress, with its doors, and each deployment of its placement."""
    return ingress(spec, {name: each.application for name, each in apart(spec).items()})


@dataclass(frozen=True, slots=True)
class Apart:
    """A deployment, or one shard of it, as an application of its own. Its `name` is the same as long as it serves the same."""

    application: Application
    name: str


def apart(spec: Spec, running: Mapping[str, int] = _NONE) -> dict[str, Apart]:
    """Each deployment but the ingress, and each shard of those that have shards. `running`: replicas of each that serve now; one
    that takes their place begins with as many, where their number is not fixed.
    """
    found = dict[str, Apart]()
    for name, each in spec.placement.items():
        if each.shards is not None:
            for number in range(each.shards):
                part = shard_name(name, number, each.shards)
                found[part] = _apart(spec, name, part, ShardSpec(number, each.shards), running)
        elif name != INGRESS:
            found[name] = _apart(spec, name, name, None, running)
    return found


def _apart(spec: Spec, deployment: str, name: str, shard: ShardSpec | None, running: Mapping[str, int]) -> Apart:
    """`name`: of the deployment, or of its `shard`."""
    declared = spec.placement[deployment]
    told = fingerprint_of((spec_as_plain(spec.part(deployment, shard)), declared, spec.folder))
    made = _deployment(name, declared, spec, running.get(name, 0))
    return Apart(made.bind(deployment, {}, shard), f"{spec.server.name}:{name}-{told}")


def ingress(
    spec: Spec, handles: Mapping[str, Application | DeploymentHandle], running: Mapping[str, int] = _NONE
) -> Application:
    """The ingress, which calls the others by `handles`; `running`: see `apart`."""
    shared = replace(spec, server=replace(spec.server, share_ports=True))  # with the replica that takes its place
    made = _deployment(INGRESS, spec.placement.get(INGRESS, _ALONE), shared, running.get(INGRESS, 0))
    return made.bind(INGRESS, dict(handles))


def _deployment(name: str, declared: DeploymentSpec, spec: Spec, running: int) -> Any:  # noqa: ANN401  whose class Ray makes
    options: dict[str, Any] = {"num_cpus": declared.cpus, "num_gpus": declared.gpus}
    if declared.node_labels:
        options["label_selector"] = dict(declared.node_labels)
    return serve.deployment(
        name=name,
        user_config={"spec": spec_as_plain(spec), "folder": str(spec.folder.resolve())},
        max_ongoing_requests=_CALLS_MAX,
        max_surge_percent=100,  # a new replica is warmed before an old one is drained
        rolling_update_percentage=1.0,
        graceful_shutdown_wait_loop_s=_IDLE_POLL_S,
        graceful_shutdown_timeout_s=shutdown_s(spec),
        ray_actor_options=options,
        **_size(declared, running),
    )(Replica)


def shutdown_s(spec: Spec) -> float:
    """Seconds that a replica may take to shut down."""
    return spec.server.drain_s + _END_S


def _size(declared: DeploymentSpec, running: int) -> dict[str, Any]:
    scaling = declared.autoscaling
    if scaling is None:
        return {"num_replicas": declared.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": scaling.replicas_min,
            # at least one: what cannot be served shows at once, not with the first call
            "initial_replicas": max(1, scaling.replicas_min, min(running, scaling.replicas_max)),
            "max_replicas": scaling.replicas_max,
            "look_back_period_s": WINDOW_S,
            "metrics_interval_s": _MEASURED_S,
            "policy": AutoscalingPolicy(policy_function=QueuePolicy, policy_kwargs=_bounds(scaling)),
            "upscale_delay_s": 0.0,  # the policy waits where that is of use
            "downscale_delay_s": 0.0,
        }
    }


def _bounds(scaling: AutoscalingSpec) -> dict[str, float | None]:
    return {
        "queue_wait_ms": scaling.queue_wait_ms,
        "misses_max": scaling.misses_max,
        "calls_target": scaling.calls_target,
        "calm_s": scaling.calm_s,
    }


def cpus_of(spec: Spec) -> int:
    """Cores that the application asks its cluster for at most, also while an update has old replicas beside new ones."""
    declared = [
        spec.placement.get(INGRESS, _ALONE),
        *(each for name, each in spec.placement.items() if name != INGRESS),
    ]
    return math.ceil(2 * sum(each.cpus * each.replicas_max * (each.shards or 1) for each in declared))
