"""The embedded host: one Engine and its fronts in this process, from start to a graceful end."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from engine import Clock, Engine, Link, Spec, SpecError, limits
from serving.account import Accounts
from serving.auth import check_exposure, load_authenticator
from serving.dispatch import Dispatch
from serving.graph_metrics import GraphsCollector
from serving.grpc_server import GrpcServer
from serving.health_service import SERVICE as HEALTH
from serving.health_service import HealthService
from serving.http_app import HttpApp
from serving.http_server import HttpServer
from serving.inference_endpoints import InferenceEndpoints
from serving.inference_service import SERVICE as INFERENCE
from serving.inference_service import InferenceService
from serving.methods import Method
from serving.metrics import CallCounter, Collector, EngineCollector, Exposition, Gauges
from serving.model_config import read_config
from serving.operations_endpoints import OperationsEndpoints
from serving.reflection_service import ReflectionService
from serving.transport import transport_of
from serving.triton_metrics import TritonCollector

if TYPE_CHECKING:
    from serving.features_fronts import FeaturesFronts
    from serving.language_fronts import LanguageFronts
    from serving.native.server import NativeServer
    from serving.tracing import Tracing
    from serving.vectors_fronts import VectorsFronts

log = logging.getLogger("vireo.serving")

_NO_LINKS: Mapping[str, Link] = {}

_GC_THRESHOLDS = (10_000, 20, 20)
"""A turn of the loop makes thousands of objects and drops them without a cycle; Python's own 700 would have the collector
look through them again and again, for a twentieth of all CPU."""


def new_engine(spec: Spec, links: Mapping[str, Link] = _NO_LINKS) -> Engine:
    """An engine that understands `config.pbtxt`, not yet started. `links`: see `Engine`."""
    return Engine(spec, read_config=read_config, links=links)


def _tracing(spec: Spec, clock: Clock) -> Tracing | None:
    if spec.server.tracing is None:
        return None
    try:
        from serving.tracing import Tracing
    except ImportError as error:
        raise SpecError(str(error)) from error
    return Tracing(spec, clock)


class Front(Protocol):
    """Something that listens."""

    async def stop(self) -> None:
        """Takes nothing new; what is open may finish shortly, then it is ended."""


class EmbeddedHost:
    """Runs the fronts a spec asks for over one engine, on the running event loop."""

    def __init__(self, spec: Spec, links: Mapping[str, Link] = _NO_LINKS) -> None:
        """`links`: see `Engine`."""
        check_exposure(spec.server)
        self.transport = transport_of(spec.server)
        self._spec = spec
        self._authenticator = load_authenticator(spec)
        self.engine = new_engine(spec, links)
        self._counter = CallCounter()
        self._gauges = Gauges()
        self._fronts: list[Front] = []
        self._native: NativeServer | None = None
        self._features: FeaturesFronts | None = None
        self._vectors: VectorsFronts | None = None
        self._language: LanguageFronts | None = None
        self.tracing = _tracing(spec, self.engine.clock)
        self._accounts = Accounts(self.engine.clock, self.tracing)
        self.flight_port: int | None = None
        self.grpc_port: int | None = None
        self.http_port: int | None = None

    @property
    def dispatch(self) -> Dispatch:
        """What the fronts submit to, once this has started. For the loop's thread."""
        return self._dispatch

    async def start(self) -> None:
        """Opens the ports, then loads the models: probes are answered meanwhile, requests refused as unavailable."""
        self._prepare()
        try:
            await self.open()
            await self._load()
        except BaseException:
            await self._close_fronts()
            raise

    async def load(self) -> None:
        """The first half of `start` where other servers have the same ports: until `open` nobody comes to this one."""
        self._prepare()
        await self._load()

    def _prepare(self) -> None:
        sys.setswitchinterval(limits.INTERPRETER_SWITCH_S_MAX)  # a model may load on another thread
        dispatch = self._dispatch = Dispatch(self.engine)
        self.engine.home.bind(asyncio.get_running_loop())
        self._gauges.add("vireo_requests_in_flight", lambda: dispatch.in_flight)
        if self._spec.logs or self._spec.feature_views:
            from serving.features_fronts import FeaturesFronts  # which loads Arrow

            self._features = FeaturesFronts(self._dispatch)
        if self._spec.vectors is not None:
            from serving.vectors_fronts import VectorsFronts  # which loads Arrow

            self._vectors = VectorsFronts(self._dispatch)
        if self._spec.language_models:
            from serving.language_fronts import LanguageFronts  # whose messages protobuf need not load without

            self._language = LanguageFronts(self._dispatch)

    async def _load(self) -> None:
        await asyncio.to_thread(self.engine.start)
        gc.collect()
        gc.freeze()  # what lives as long as the server is not looked through again and again
        gc.set_threshold(*_GC_THRESHOLDS)

    async def open(self) -> None:
        """Opens the ports. Raises SpecError where one cannot be had."""
        if self.transport.native:
            await self._open_native()
        else:
            if self._spec.server.transport == "auto":
                log.warning("gRPC is served by grpcio, slower: %s", self.transport.why_not)
            await self._open_apart()
        await self._open_flight()

    async def _open_native(self) -> None:
        """One server for every protocol, on each port."""
        from serving.native import _wire
        from serving.native.calls import Surroundings
        from serving.native.infer_plans import RequestPlans
        from serving.native.server import NativeServer

        server, clock = self._spec.server, self.engine.clock
        service = InferenceService(self._dispatch, self._accounts, RequestPlans(clock).decode)
        app = self._app(service)
        http = HttpServer(self._spec, app)
        await http.start_unbound()
        loop = asyncio.get_running_loop()
        around = Surroundings(self._authenticator, self._counter, clock, server.message_bytes_max, loop)
        methods = {method.path: method for method in self._methods(service)}
        native = NativeServer(self._spec, methods, around, app, http.protocol, self._dispatch.flush)
        self._native = native
        self._fronts += [native, http]
        self._gauges.add("vireo_connections", native.connections, protocol="http2")
        self._gauges.add("vireo_connections", http.connections, protocol="http1")
        self._gauges.add("vireo_connections", native.undecided, protocol="unknown")
        self._gauges.add("vireo_streams", native.streams)
        self._gauges.add("vireo_message_bytes", _wire.message_bytes)
        if server.grpc_port is not None:
            self.grpc_port = await native.listen("grpc_port", server.grpc_port)
        if server.http_port and server.http_port == server.grpc_port:
            self.http_port = self.grpc_port
        elif server.http_port is not None:
            self.http_port = await native.listen("http_port", server.http_port)
        if server.unix_socket is not None:
            await native.listen_unix(self._spec.path(server.unix_socket))

    async def _open_apart(self) -> None:
        """gRPC by grpcio, also on the Unix domain socket, HTTP by uvicorn, each on a port of its own."""
        server = self._spec.server
        service = InferenceService(self._dispatch, self._accounts)
        if server.grpc_port is not None or server.unix_socket is not None:
            methods = {method.path: method for method in self._methods(service)}
            grpc = GrpcServer(self._spec, methods, self._authenticator, self._counter, self.engine.clock)
            self._fronts.append(grpc)
            self.grpc_port = await grpc.start()
        if server.http_port is not None:
            http = HttpServer(self._spec, self._app(service))
            self._fronts.append(http)
            self._gauges.add("vireo_connections", http.connections, protocol="http1")
            self.http_port = await http.start()

    async def _open_flight(self) -> None:
        if self._spec.server.flight_port is not None:
            from serving.flight_server import FlightFront

            front = FlightFront(self._spec, self.engine, self._authenticator)
            self.flight_port = await front.start()
            self._fronts.append(front)

    def _methods(self, service: InferenceService) -> list[Method]:
        more = self._more()
        names = (INFERENCE, *(each.name for each in more))
        return [
            *service.methods(),
            *(method for each in more for method in each.methods()),
            *HealthService(self.engine, names).methods(),
            *ReflectionService([*names, HEALTH]).methods(),
        ]

    def _more(self) -> list[FeaturesFronts | VectorsFronts | LanguageFronts]:
        return [each for each in (self._features, self._vectors, self._language) if each is not None]

    def _app(self, service: InferenceService) -> HttpApp:
        described = InferenceEndpoints(self._dispatch, service, self._accounts).endpoints()
        collectors: list[Collector] = [
            EngineCollector(self.engine, self._counter),
            GraphsCollector(self.engine),
            TritonCollector(self.engine),
            self._gauges,
        ]
        for each in self._more():
            described += each.endpoints()
            collectors.append(each.collector())
        operations = OperationsEndpoints(self.engine, Exposition(*collectors), described).endpoints()
        bytes_max = self._spec.server.message_bytes_max
        return HttpApp([*described, *operations], self._authenticator, self._counter, self.engine.clock, bytes_max)

    async def apply(self, spec: Spec) -> None:
        """Serves what `spec` says from now on, without failing a request; its `server` section is for the next start.

        Raises SpecError where it is wrong in a way that shows before anything is loaded; what was served stays.
        """
        if self._features is None and (spec.logs or spec.feature_views):
            raise SpecError("logs and feature_views: the server was started without any; they need a restart")
        if self._vectors is None and spec.vectors is not None:
            raise SpecError("vectors: the server was started without any; they need a restart")
        if self._language is None and spec.language_models:
            raise SpecError("language_models: the server was started without any; they need a restart")
        await asyncio.to_thread(self.engine.apply, replace(spec, server=self._spec.server))

    async def leave(self) -> bool:
        """As `stop`, where callers have another server to go to: no call is refused until they have been asked to go there, and
        those in flight have been answered.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._spec.server.drain_s
        if self._native is not None:
            self._native.announce_end()
            await asyncio.sleep(limits.LEAVE_S)
            await self._native.finish(max(0.0, end - loop.time()))
        await self._dispatch.drained(max(0.0, end - loop.time()))
        await self._close_fronts()
        return await self._end(max(0.0, end - loop.time()))

    async def stop(self) -> bool:
        """Takes no new work, finishes what is in flight within the spec's bound, closes everything.

        False where a model is still being loaded, by a daemon thread that nothing can stop.
        """
        return await self._end(self._spec.server.drain_s)

    async def _end(self, drain_s: float) -> bool:
        self.engine.stop_accepting()
        await self._dispatch.drained(drain_s)
        await self._close_fronts()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close, limits.TRACING_END_S_MAX)
        return await asyncio.to_thread(self.engine.close, drain_s)

    async def _close_fronts(self) -> None:
        while self._fronts:
            await self._fronts.pop(0).stop()
        for each in self._more():
            each.close()
