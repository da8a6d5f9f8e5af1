"""From a spec to an application of Ray Serve: its deployments, with their sizes and their places. The owner of Ray's API."""

from __future__ import annotations

from typing import Any, Final

from ray import serve
from ray.serve import Application

from engine import Spec, spec_as_plain
from serving.ray_host.replica import Replica

INGRESS: Final = "ingress"
_CALLS_MAX: Final = 100_000
"""Ray's own queue backs off where a bound is met, at 5 calls a second; the engine queues and sheds in its place."""
_END_S: Final = 10.0
"""Over the spec's bound for the drain: for what the engine does after it."""
_IDLE_POLL_S: Final = 0.1


def application(spec: Spec) -> Application:
    """The application that serves `spec`."""
    config = {"spec": spec_as_plain(spec), "folder": str(spec.folder.resolve())}
    return _deployment(INGRESS, spec, config).bind()


def _deployment(name: str, spec: Spec, config: dict[str, Any]) -> Any:  # noqa: ANN401  whose class Ray makes
    return serve.deployment(
        name=name,
        num_replicas=1,
        user_config=config,
        max_ongoing_requests=_CALLS_MAX,
        max_surge_percent=100,  # a new replica is warmed before an old one is drained
        rolling_update_percentage=1.0,
        graceful_shutdown_wait_loop_s=_IDLE_POLL_S,
        graceful_shutdown_timeout_s=spec.server.drain_s + _END_S,
        ray_actor_options={"num_cpus": 1},
    )(Replica)


def cpus_of(spec: Spec) -> int:
    """Cores that the application asks its cluster for."""
    return 1
