"""What runs in each replica: an engine with its doors, from the first configuration to the drain. Called by Ray Serve alone."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from engine import (
    INGRESS,
    Described,
    DescribedLanguage,
    Engine,
    FailedPrecondition,
    FollowedCollection,
    ModelLoadError,
    NotFound,
    ShardSpec,
    Spec,
    VireoError,
    monotonic,
    spec_of_plain,
)
from serving.embedded import EmbeddedHost
from serving.features_reads import Followed, seen
from serving.language_calls import LanguageCalls
from serving.ray_host.hop import (
    Message,
    description_message,
    error_message,
    generation_of,
    head_message,
    language_message,
    request_of,
    response_message,
)
from serving.ray_host.link import RayLink
from serving.ray_host.load import LoadMeter
from serving.ray_host.together import Together

log = logging.getLogger("vireo.ray")

_WARMED_POLL_S: Final = 0.2
_EVERYWHERE: Final = ("0.0.0.0", "::")


class Replica:
    """A copy of one deployment. Ray Serve makes it, gives it its configuration, asks after its health and ends it.

    A configuration is a mapping: `spec`, as `spec_as_plain` gives it, and `folder`, where its relative paths start. The
    first one starts the engine; the replica takes part once all of it is warmed. Each later one is applied to the running
    engine as `EmbeddedHost.apply` does, so that no request fails for it.
    """

    def __init__(
        self, deployment: str = INGRESS, handles: Mapping[str, DeploymentHandle] = MappingProxyType({}),
        shard: ShardSpec | None = None,
    ) -> None:  # fmt: skip
        """`deployment`: its own name in the placement, `shard`: which of it; `handles`: of deployments that it calls."""
        self._deployment, self._handles, self._shard = deployment, handles, shard
        self._running: EmbeddedHost | None = None
        self._refused: str | None = None
        self._config: Mapping[str, Any] | None = None
        """The last one that was followed."""
        self._meter: LoadMeter | None = None

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Serves what `config` says. Raises VireoError where it cannot be started; a running one keeps what it has."""
        if config == self._config:  # Serve says it again to replicas that it numbers anew when others go
            return
        await self._follow(config)
        self._config = config

    async def _follow(self, config: Mapping[str, Any]) -> None:
        folder = Path(config["folder"])
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))  # where the modules of functions are looked for first
        spec = spec_of_plain(config["spec"], folder=folder)
        if self._deployment != INGRESS:
            spec = spec.part(self._deployment, self._shard)
        if self._running is None:
            await self._start(spec)
            return
        host = self._host()
        # Who calls has the former declarations until it is told of the new ones, and the requests in it longer.
        release = host.engine.hold()
        self._refused = None
        try:
            await host.apply(spec)
        except VireoError as error:
            log.error("%s is not applied: %s", spec.server.name, error.message)
            self._refused = error.message
        finally:  # what is new may take longer to load than a drain
            asyncio.get_running_loop().call_later(spec.server.drain_s, release)

    async def _start(self, spec: Spec) -> None:
        """On this loop, as Ray's calls are: a hop that changes threads takes a third longer."""
        links = {name: RayLink(name, handle, monotonic) for name, handle in self._handles.items()}
        host = EmbeddedHost(spec, links)
        try:
            await host.load()
            await _warmed(host)
            await (
                host.open()
            )  # not before: replicas of one machine have the same ports, and callers come to each at once
        except BaseException:
            await host.stop()
            raise
        self._running = host

    def _host(self) -> EmbeddedHost:
        assert self._running is not None
        return self._running

    async def check_health(self) -> None:
        """Returns: where the loop that serves turns no more it does not, and Ray replaces the replica."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """See `QueuePolicy`: asked by Ray Serve every few seconds, where the number of replicas is not fixed."""
        if self._running is None:
            return {}
        if self._meter is None:  # where nobody asks nothing is measured
            self._meter = LoadMeter(self._running.dispatch)
            return {}
        return self._meter.read()

    async def report(self) -> dict[str, Any]:
        """What this replica says of itself: its name and process, its address with the port of each front or None, and what of
        the configuration is not served and why.
        """
        host = self._host()
        problems = host.engine.problems() if self._refused is None else {"the spec": self._refused}
        address = host.engine.spec.server.host
        return {
            "replica": serve.get_replica_context().replica_id.unique_id, "pid": os.getpid(),
            "host": ray.util.get_node_ip_address() if address.strip("[]") in _EVERYWHERE else address,
            "grpc": host.grpc_port, "http": host.http_port, "flight": host.flight_port, "problems": problems,
        }  # fmt: skip

    # Of the deployments that are called by others.

    async def describe(self, name: str, version: int, declared: str | None = None) -> Message | None:
        """What servable `name` takes and gives; None where it is not yet what is `declared`."""
        engine = self._host().engine
        if declared is not None and not engine.has(name, version, declared):
            if self._refused is not None:
                return error_message(FailedPrecondition(f"{self._deployment}: {self._refused}"))
            if declared != engine.spec.declared(name):
                return None
        try:
            found = engine.describe(name, version)
        except NotFound as error:
            return error_message(error) if declared is None else None
        except VireoError as error:
            return error_message(error)
        return description_message(Described(found.signature, found.streams))

    async def call(self, message: Message) -> Message:
        """The response to a request, or its error, by its deadline; cancelled, the work is dropped."""
        try:
            request = request_of(message, monotonic)
            return response_message(await self._host().dispatch.infer(request, enforce_deadline=True))
        except VireoError as error:
            return error_message(error)

    async def together(self, declared: str, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """The responses to requests to one servable that is `declared` so, or their errors, once all of them have ended; None
        where none here is declared so. Cancelled, the work of all is dropped.
        """
        dispatch = self._host().dispatch
        engine = dispatch.engine
        name, version, *_ = messages[0]
        if not engine.has(name, version, declared):
            return None
        requests = [request_of(each, monotonic) for each in messages]
        try:
            for each in requests:
                if each.after:  # it came alone
                    await seen(_followed(engine, name), each.after, each.deadline, monotonic)
        except VireoError as error:
            return (error_message(error),)
        return await Together(dispatch, declared).answers(requests)

    async def stream(self, message: Message) -> AsyncIterator[Message]:
        """The responses to a request, one by one, at the end perhaps an error."""
        try:
            async for each in self._host().dispatch.stream(request_of(message, monotonic)):
                yield response_message(each)
        except VireoError as error:
            yield error_message(error)

    async def describe_language(self, name: str, declared: str) -> Message | None:
        """What language model `name` answers, and by which names; None where it is not yet what is `declared`."""
        engine = self._host().engine
        models = engine.language_models
        if declared != engine.spec.declared(name):
            return error_message(FailedPrecondition(f"{self._deployment}: {self._refused}")) if self._refused else None
        try:
            kinds = frozenset(models.kinds(name))
        except VireoError as error:
            return error_message(error)
        cards = tuple(each for each in models.cards() if name in (each.id, each.parent))
        return language_message(DescribedLanguage(kinds, cards))

    async def generate(self, message: Message) -> AsyncIterator[Message | bytes]:
        """The head of a language model's answer, once its first bytes are there, then its chunks; at the end perhaps an error."""
        try:
            answer = await LanguageCalls(self._host().dispatch).begin(generation_of(message, monotonic))
            yield head_message(answer)
            if not isinstance(answer.body, bytes):
                async with aclosing(answer.body) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except VireoError as error:
            yield error_message(error)

    async def __del__(self) -> None:
        """Called by Ray Serve before it ends the process."""
        if self._running is not None:
            host, self._running = self._running, None
            if self._meter is not None:
                self._meter.close()
            await host.leave()


def _followed(engine: Engine, name: str) -> Followed:
    """The view or collection that a servable answers from. Raises VireoError."""
    if name not in engine.spec.collection_shards:
        return engine.features.view(name)
    found = engine.vectors.collection(name)
    assert isinstance(found, FollowedCollection), "shards follow topics"
    return found


async def _warmed(host: EmbeddedHost) -> None:
    """Returns when every servable of the spec answers. Raises ModelLoadError where one cannot."""
    engine = host.engine
    while not engine.ready:
        failed = {each.name: each.reason for each in engine.index() if each.state == "FAILED" or each.version is None}
        failed |= engine.language_models.problems()
        if failed:
            raise ModelLoadError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
        await asyncio.sleep(_WARMED_POLL_S)  # what is restored from a log takes its time
