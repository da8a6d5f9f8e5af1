"""The embedded host: one Engine and its fronts in this process, from start to a graceful end."""

from __future__ import annotations

import asyncio
import logging
import sys

from engine import Engine, Spec
from serving.auth import check_exposure, load_authenticator
from serving.dispatch import Dispatch
from serving.grpc_server import GrpcServer
from serving.health_service import SERVICE as HEALTH
from serving.health_service import HealthService
from serving.http_app import HttpApp
from serving.http_server import HttpServer
from serving.inference_endpoints import InferenceEndpoints
from serving.inference_service import SERVICE as INFERENCE
from serving.inference_service import InferenceService
from serving.methods import Method
from serving.metrics import CallCounter, EngineCollector, Exposition
from serving.model_config import read_config
from serving.operations_endpoints import OperationsEndpoints
from serving.reflection_service import ReflectionService

log = logging.getLogger("vireo.serving")

_SWITCH_S = 0.0005
"""A thread that loads a model gives up the GIL this often; Python's own 5 ms would show in callers' p99."""


def new_engine(spec: Spec) -> Engine:
    """An engine that understands `config.pbtxt`, not yet started."""
    return Engine(spec, read_config=read_config)


class EmbeddedHost:
    """Runs the fronts a spec asks for over one engine, on the running event loop."""

    def __init__(self, spec: Spec) -> None:
        check_exposure(spec.server)
        self._spec = spec
        self._authenticator = load_authenticator(spec)
        self.engine = new_engine(spec)
        self._counter = CallCounter()
        self.grpc_port: int | None = None
        self.http_port: int | None = None

    async def start(self) -> None:
        """Loads the models, then opens the ports."""
        sys.setswitchinterval(_SWITCH_S)
        await asyncio.to_thread(self.engine.start)
        self._dispatch = Dispatch(self.engine)
        service = InferenceService(self._dispatch)
        if self._spec.server.grpc_port is not None:
            methods = {method.path: method for method in self._methods(service)}
            self._grpc = GrpcServer(self._spec, methods, self._authenticator, self._counter, self.engine.clock)
            await self._grpc.start()
            self.grpc_port = self._grpc.port
        if self._spec.server.http_port is not None:
            self._http = HttpServer(self._spec, self._app(service))
            await self._http.start()
            self.http_port = self._http.port

    def _methods(self, service: InferenceService) -> list[Method]:
        reflection = ReflectionService([INFERENCE, HEALTH])
        return [*service.methods(), *HealthService(self.engine, (INFERENCE,)).methods(), *reflection.methods()]

    def _app(self, service: InferenceService) -> HttpApp:
        inference = InferenceEndpoints(self._dispatch, service).endpoints()
        exposition = Exposition(EngineCollector(self.engine, self._counter))
        operations = OperationsEndpoints(self.engine, exposition, inference).endpoints()
        bytes_max = self._spec.server.message_bytes_max
        return HttpApp([*inference, *operations], self._authenticator, self._counter, self.engine.clock, bytes_max)

    async def stop(self) -> None:
        """Takes no new work, finishes what is in flight within the spec's bound, closes everything."""
        drain_s = self._spec.server.drain_s
        self.engine.stop_accepting()
        await self._dispatch.drained(drain_s)
        if self.grpc_port is not None:
            await self._grpc.stop(1.0)
        if self.http_port is not None:
            await self._http.stop()
        await asyncio.to_thread(self.engine.close, drain_s)
