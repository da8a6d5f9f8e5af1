"""One application on a Ray cluster, from the driver's side: deployed, asked, changed, ended.

To Serve it is several applications: the ingress, and each deployment apart. An update brings up what is new, an ingress always
among it, beside what serves; then the one or the other is ended. So whatever fails leaves what served as it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import ActorUnavailableError, RayError
from ray.serve import RunTarget
from ray.serve.exceptions import RayServeException

from engine import INGRESS, FailedPrecondition, ServerSpec, Spec, SpecError, Unavailable, quoted
from serving.listener import listener
from serving.ray_host.application import Apart, apart, cpus_of, ingress

log = logging.getLogger("vireo.ray")

_POLL_S: Final = 0.2
_ANSWER_S: Final = 10.0
"""So long a replica may take to say where it listens."""
_END_S: Final = 30.0
"""Over the spec's bound for the drain: until an application has ended, whose replicas Serve kills in the end."""


class Cluster:
    """Owns the application; the cluster too, where it was started here. To be used on one event loop."""

    def __init__(self, spec: Spec) -> None:
        self._reserved: list[socket.socket] = []
        self.spec = replace(spec, server=self._with_ports(spec.server))
        """As it was applied last; its ports are the same for all replicas of a machine, and for those that take their place."""
        self._doors = ""
        """The application of the ingress that answers."""
        self._serving = set[str]()
        """It, and those that it calls."""
        self._there = set[str]()
        """Those, and what is to be ended yet."""
        self._own = "RAY_ADDRESS" not in os.environ
        self._changing = asyncio.Lock()
        self._over = threading.Event()

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
        """Deploys the application; returns when every replica is warmed. What another command that was killed has left of an
        application of this name is taken over. Raises SpecError, FailedPrecondition, Unavailable.
        """
        await asyncio.to_thread(serve.start, proxy_location="Disabled")  # callers come to our own ports
        found = (await asyncio.to_thread(serve.status)).applications
        ours = {name: each.status for name, each in found.items() if name.startswith(f"{self.spec.server.name}:")}
        self._there, self._serving = set(ours), {name for name, status in ours.items() if status == "RUNNING"}
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
        """Serves `spec`, or goes on with what was served."""
        async with self._changing:
            running = await asyncio.to_thread(_running, self._serving)
            parts = apart(spec, running)
            doors = f"{spec.server.name}:{INGRESS}-{secrets.token_hex(4)}"
            wanted = {doors, *(each.name for each in parts.values())}
            new = wanted - self._serving
            self._there |= new
            try:
                await asyncio.to_thread(self._deploy, spec, parts, doors, new, running)
            except RayError as error:
                raise Unavailable(f"application {quoted(spec.server.name)}: the cluster has ended: {error}") from error
            except (RuntimeError, KeyError, RayServeException) as error:
                raise FailedPrecondition(f"application {quoted(spec.server.name)} is not served: {error}") from error
            else:
                self._doors, self._serving = doors, wanted
            finally:
                await self._end(self._there - self._serving, spec.server.drain_s)

    def _deploy(
        self, spec: Spec, parts: Mapping[str, Apart], doors: str, new: Collection[str], running: Mapping[str, int]
    ) -> None:
        """Returns when all of `new` is warmed. All of it starts at once: the ingress waits for what it calls."""
        if targets := [RunTarget(each.application, each.name, None) for each in parts.values() if each.name in new]:
            serve.run_many(targets, wait_for_applications_running=False)
        handles = {name: serve.get_deployment_handle(name, each.name) for name, each in parts.items()}
        serve.run_many([RunTarget(ingress(spec, handles, running), doors, None)], wait_for_applications_running=False)
        left = set(new)
        while left:
            if self._over.wait(_POLL_S):
                raise RuntimeError("it was ended before it was there")
            left -= _warmed(left)

    async def _end(self, names: Iterable[str], drain_s: float) -> None:
        """First who calls, then what was called. What cannot be ended now is left for the next time."""
        doors = {each for each in names if each.startswith(f"{self.spec.server.name}:{INGRESS}-")}
        for each in (doors, set(names) - doors):
            ended = await asyncio.gather(*(asyncio.to_thread(_ended, name, drain_s + _END_S) for name in each))
            self._there -= {name for name, has in zip(each, ended, strict=True) if has}

    async def apply(self, spec: Spec) -> None:
        """Serves what `spec` says from now on, without failing a request: new replicas are warmed before old ones drain. Its
        `server` section is for the next start. Raises FailedPrecondition where it cannot be served.
        """
        changed = replace(spec, server=self.spec.server)
        await self._run(changed)
        self.spec = changed

    async def replicas(self) -> list[dict[str, Any]]:
        """What each replica of the ingress says of itself: see `Replica.report`."""
        handle = serve.get_deployment_handle(INGRESS, self._doors)
        found: list[dict[str, Any]] = await handle.broadcast("report").results_async(timeout_s=_ANSWER_S)
        return found

    async def stop(self) -> None:
        """Lets the replicas finish what is in flight, and ends what was started here."""
        if not ray.is_initialized():
            return
        self._over.set()
        async with self._changing:
            await self._end(self._there, self.spec.server.drain_s)
            if self._own:
                await serve.shutdown_async()
            await asyncio.to_thread(ray.shutdown)


def _running(applications: Iterable[str]) -> dict[str, int]:
    """Replicas of each deployment."""
    found = serve.status().applications
    deployments = [each for name in applications if name in found for each in found[name].deployments.items()]
    return {name: each.replica_states.get("RUNNING", 0) for name, each in deployments}


def _warmed(applications: Iterable[str]) -> set[str]:
    """Those that answer. Raises RuntimeError where one cannot be served."""
    found = serve.status().applications
    for name in applications:
        if name not in found or found[name].status == "DEPLOY_FAILED":
            told = (
                [f"{of}: {_reason(each.message)}" for of, each in found[name].deployments.items()]
                if name in found
                else []
            )
            raise RuntimeError("; ".join(told) or f"{name} is not there any more")
    return {name for name in applications if found[name].status == "RUNNING"}


def _reason(message: str) -> str:
    """What was raised, of the traces that Serve tells around it; these are logged."""
    *trace, last = message.strip().splitlines() or [""]
    if not trace:
        return last
    log.info("%s", message)
    return re.sub(r"^engine\.errors\.\w+: ", "", last)


def _ended(name: str, within_s: float) -> bool:
    """Whether an application has ended, which drains first."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            serve.delete(name)
        except TimeoutError:  # Serve waits for a minute
            continue
        except ActorUnavailableError:  # its controller is being replaced
            time.sleep(_POLL_S)
            continue
        except (RayError, RayServeException):  # the cluster has ended, or is about to
            return False
        return True
    return False
