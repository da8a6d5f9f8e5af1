"""`grpc.health.v1.Health` over the engine: the empty service name and the inference service follow readiness.

Watch sends a status at once and then each change, seen within `_WATCH_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from grpc_health.v1 import health_pb2 as pb

from engine import Engine, InvalidArgument, NotFound, quoted
from serving.codec import parse
from serving.methods import Call, Method

SERVICE: Final = "grpc.health.v1.Health"
_WATCH_S: Final = 0.25


class HealthService:
    """Answers for the services in `names`."""

    def __init__(self, engine: Engine, names: tuple[str, ...]) -> None:
        self._engine = engine
        self._names = ("", *names)

    def methods(self) -> list[Method]:
        """Check and Watch (grpcio's package of this protocol has no List yet); open to all, since probes carry no credentials."""
        return [
            Method(f"/{SERVICE}/Check", unary=self._check, open_to_all=True),
            Method(f"/{SERVICE}/Watch", stream=self._watch, open_to_all=True),
        ]

    def _status(self) -> int:
        status: int = pb.HealthCheckResponse.SERVING if self._engine.ready else pb.HealthCheckResponse.NOT_SERVING
        return status

    async def _check(self, call: Call, message: bytes) -> bytes:
        name = parse(pb.HealthCheckRequest, message).service
        if name not in self._names:
            raise NotFound(f"unknown service {quoted(name)}")
        encoded: bytes = pb.HealthCheckResponse(status=self._status()).SerializeToString()
        return encoded

    async def _watch(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        message = await anext(messages, None)
        if message is None:
            raise InvalidArgument("Watch needs a HealthCheckRequest; the stream ended without one")
        name = parse(pb.HealthCheckRequest, message).service
        sent: int | None = None
        while True:
            status = self._status() if name in self._names else pb.HealthCheckResponse.SERVICE_UNKNOWN
            if status != sent:
                sent = status
                yield pb.HealthCheckResponse(status=status).SerializeToString()
            await asyncio.sleep(_WATCH_S)
