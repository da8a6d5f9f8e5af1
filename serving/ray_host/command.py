"""`vireo serve APP.yaml --host ray`: runs the application on a Ray cluster until SIGTERM, then drains it.

The cluster is the one that RAY_ADDRESS names; without it one is started on this machine, and ended with the command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine import Spec, SpecError, VireoError
from serving.auth import check_exposure
from serving.explain import places
from serving.transport import transport_of

if TYPE_CHECKING:
    from serving.ray_host.cluster import Cluster

log = logging.getLogger("vireo.serving")

SETTINGS: Final[Mapping[str, str]] = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # a hop between replicas in 0.9 ms instead of 2.5
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # the doors are ours; Ray's own would hold each replica for half a minute at its end
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Of the cluster that is started here, where the environment says nothing else: Ray reads them when it is imported."""


def run_on_ray(app: Path, load: Callable[[Path], Spec], adjust: Callable[[Spec], Spec]) -> None:
    """Serves `app`, read by `load`, its server section changed by `adjust`, until SIGTERM or SIGINT; SIGHUP applies it anew.

    Raises SpecError where Ray is not installed or the spec is wrong, FailedPrecondition where the deployments do not start.
    """
    spec = adjust(load(app))
    check_exposure(spec.server)
    transport_of(spec.server)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from serving.ray_host.cluster import Cluster
    except ImportError as error:
        raise SpecError(f"--host ray: {error}; pip install 'vireo[ray]'") from error
    asyncio.run(_serve(Cluster(spec), lambda: adjust(load(app)), app))


async def _serve(cluster: Cluster, read: Callable[[], Spec], app: Path) -> None:
    stop, changed = asyncio.Event(), asyncio.Event()
    _listen(stop, changed)
    await cluster.connect()
    _listen(stop, changed)  # Ray's own handlers end the process at once
    stopping, starting = asyncio.create_task(stop.wait()), asyncio.create_task(cluster.start())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        starting.result()
        await _tell(cluster)
        while not stop.is_set():
            waiting = asyncio.create_task(changed.wait())
            await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if changed.is_set() and not stop.is_set():
                changed.clear()
                await _apply(cluster, read, app)
    finally:
        stopping.cancel()
        await cluster.stop()
        with suppress(VireoError):
            await starting  # which may have been ended in the middle


def _listen(stop: asyncio.Event, changed: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    loop.add_signal_handler(signal.SIGHUP, changed.set)


async def _tell(cluster: Cluster) -> None:
    """One line a replica, as the embedded host's."""
    for each in await cluster.replicas():
        server = replace(
            cluster.spec.server, host=each["host"], grpc_port=each["grpc"], http_port=each["http"], flight_port=each["flight"]
        )  # fmt: skip
        where = places(replace(cluster.spec, server=server), transport_of(cluster.spec.server))
        print(f"vireo: serving {where}, by Ray replica {each['replica']}", flush=True)


async def _apply(cluster: Cluster, read: Callable[[], Spec], app: Path) -> None:
    try:
        await cluster.apply(read())
    except VireoError as error:
        log.error("%s is not applied: %s", app, error.message)
        return
    for name, problem in _problems(await cluster.replicas()).items():
        log.error("%s: %s: %s", app, name, problem)
    log.info("%s is applied", app)


def _problems(replicas: list[dict[str, Any]]) -> dict[str, str]:
    return {name: problem for each in replicas for name, problem in each["problems"].items()}
