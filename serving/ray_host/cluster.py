"""One application on a Ray cluster, from the driver's side: deployed, asked, changed, ended."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import RunTarget
from ray.serve.exceptions import RayServeException

from engine import INGRESS, FailedPrecondition, ServerSpec, Spec, SpecError, Unavailable, quoted
from serving.listener import listener
from serving.ray_host.application import Apart, apart, cpus_of, ingress

_LEFT_POLL_S: Final = 0.2
_ANSWER_S: Final = 10.0
"""So long a replica may take to say where it listens."""


class Cluster:
    """Owns the application; the cluster too, where it was started here. To be used on one event loop."""

    def __init__(self, spec: Spec) -> None:
        self._reserved: list[socket.socket] = []
        self.spec = replace(spec, server=self._with_ports(spec.server))
        """As it was applied last; its ports are the same for all replicas of a machine, and for those that take their place."""
        self._name = spec.server.name
        self._parts: list[str] = []
        """Applications of the deployments apart."""
        self._own = "RAY_ADDRESS" not in os.environ

    def _with_ports(self, server: ServerSpec) -> ServerSpec:
        """`server`, with ports that are free here where it asks for any. They stay reserved."""
        return replace(
            server,
            grpc_port=self._port(server.host, server.grpc_port),
            http_port=self._port(server.host, server.http_port),
            flight_port=self._port(server.host, server.flight_port),
        )

    def _port(self, host: str, port: int | None) -> int | None:
        if port != 0:
            return port
        try:
            self._reserved.append(listener(host.strip("[]"), 0, shared=True))
        except OSError as error:
            raise SpecError(f"server.host: no port of {host} can be had: {error.strerror or error}") from error
        found: int = self._reserved[-1].getsockname()[1]
        return found

    async def start(self) -> None:
        """Deploys the application; returns when every replica is warmed. Raises SpecError, FailedPrecondition."""
        await asyncio.to_thread(serve.start, proxy_location="Disabled")  # callers come to our own ports
        await self._run(self.spec)

    async def connect(self) -> None:
        """Joins the cluster, or starts one, and Ray takes the signals of this process. Raises Unavailable where none is there."""
        try:
            await asyncio.to_thread(self._connect)
        except ConnectionError as error:
            raise Unavailable(f"--host ray: the cluster does not answer: {error}") from error

    def _connect(self) -> None:
        if self._own:
            needed = cpus_of(self.spec)
            cpus = max(needed, os.cpu_count() or 1)  # on one machine they are shared out, not kept apart
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(log_to_driver=False)

    async def _run(self, spec: Spec) -> None:
        """First what is called, then who calls it; what nobody calls any more goes last."""
        parts = apart(spec)
        before, new = set(self._parts), [each for each in parts.values() if each.name not in self._parts]
        self._parts += [each.name for each in new]
        try:
            await asyncio.to_thread(self._deploy, spec, parts, new)
        except RuntimeError as error:
            names = [each.name for each in new]
            told = await asyncio.to_thread(self._why_not, [self._name, *names])
            await asyncio.to_thread(self._delete, names)
            raise FailedPrecondition(f"application {quoted(self._name)} is not served: {told or error}") from error
        except RayError as error:
            raise Unavailable(f"application {quoted(self._name)}: the cluster has ended: {error}") from error
        if left := before - {each.name for each in parts.values()}:
            await asyncio.to_thread(self._until_callers_left, spec.server.drain_s + _ANSWER_S)
            await asyncio.to_thread(self._delete, left)

    def _deploy(self, spec: Spec, parts: Mapping[str, Apart], new: Sequence[Apart]) -> None:
        if new:
            serve.run_many([RunTarget(each.application, each.name, route_prefix=None) for each in new])
        handles = {name: serve.get_deployment_handle(name, each.name) for name, each in parts.items()}
        serve.run(ingress(spec, handles), name=self._name, route_prefix=None)

    def _until_callers_left(self, within_s: float) -> None:
        """Returns when the replicas of the ingress that were before have drained; they call by the handles they have."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            states = serve.status().applications[self._name].deployments[INGRESS].replica_states
            if not any(count for state, count in states.items() if state != "RUNNING"):
                return
            time.sleep(_LEFT_POLL_S)

    def _delete(self, names: Iterable[str]) -> None:
        for each in names:
            with suppress(RayServeException):  # it has not come so far
                serve.delete(each)
            self._parts.remove(each)

    def _why_not(self, names: Iterable[str]) -> str:
        found = serve.status().applications
        deployments = [each for name in names if name in found for each in found[name].deployments.items()]
        return "; ".join(f"{name}: {each.message}" for name, each in deployments if each.message)

    async def apply(self, spec: Spec) -> None:
        """Serves what `spec` says from now on, without failing a request: new replicas are warmed before old ones drain. Its
        `server` section is for the next start. Raises FailedPrecondition where it cannot be served.
        """
        changed = replace(spec, server=self.spec.server)
        await self._run(changed)
        self.spec = changed

    async def replicas(self) -> list[dict[str, Any]]:
        """What each replica of the ingress says of itself: see `Replica.report`."""
        handle = serve.get_deployment_handle(INGRESS, self._name)
        found: list[dict[str, Any]] = await handle.broadcast("report").results_async(timeout_s=_ANSWER_S)
        return found

    async def stop(self) -> None:
        """Lets the replicas finish what is in flight, and ends what was started here."""
        if not ray.is_initialized():
            return
        with suppress(RayServeException):  # it has not come so far
            await asyncio.to_thread(serve.delete, self._name)
        await asyncio.to_thread(self._delete, list(self._parts))
        if self._own:
            await serve.shutdown_async()
        await asyncio.to_thread(ray.shutdown)
