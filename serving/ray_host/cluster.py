"""One application on a Ray cluster, from the driver's side: deployed, asked, changed, ended."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from engine import INGRESS, FailedPrecondition, ServerSpec, Spec, SpecError, Unavailable, quoted
from serving.listener import listener
from serving.ray_host.application import application, cpus_of

_ANSWER_S: Final = 10.0
"""So long a replica may take to say where it listens."""


class Cluster:
    """Owns the application; the cluster too, where it was started here. To be used on one event loop."""

    def __init__(self, spec: Spec) -> None:
        self._reserved: list[socket.socket] = []
        self.spec = replace(spec, server=self._with_ports(spec.server))
        """As it was applied last; its ports are the same for all replicas of a machine, and for those that take their place."""
        self._name = spec.server.name
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
        made = application(spec)
        try:
            await asyncio.to_thread(serve.run, made, name=self._name, route_prefix=None)
        except RuntimeError as error:
            told = await asyncio.to_thread(self._why_not)
            raise FailedPrecondition(f"application {quoted(self._name)} is not served: {told or error}") from error
        except RayError as error:
            raise Unavailable(f"application {quoted(self._name)}: the cluster has ended: {error}") from error

    def _why_not(self) -> str:
        found = serve.status().applications.get(self._name)
        deployments = {} if found is None else found.deployments
        return "; ".join(f"{name}: {each.message}" for name, each in deployments.items() if each.message)

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
        if self._own:
            await serve.shutdown_async()
        await asyncio.to_thread(ray.shutdown)
