"""gRPC server reflection (v1alpha, which stock tools speak) as a method on message bytes, over grpcio's own servicer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any, Final

from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha._async import ReflectionServicer

from serving.codec import parse
from serving.methods import Call, Method

SERVICE: Final = "grpc.reflection.v1alpha.ServerReflection"
SERVICE_V1: Final = "grpc.reflection.v1.ServerReflection"
"""The same messages under the later name: the two protocols are identical on the wire."""


class ReflectionService:
    """Describes the services in `names`, whose descriptors are in protobuf's default pool."""

    def __init__(self, names: Iterable[str]) -> None:
        self._servicer: Any = ReflectionServicer([*names, SERVICE])

    def methods(self) -> list[Method]:
        """The one streaming method, under both names."""
        return [Method(f"/{name}/ServerReflectionInfo", stream=self._info) for name in (SERVICE, SERVICE_V1)]

    async def _info(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async def requests() -> AsyncIterator[Any]:
            async for message in messages:
                yield parse(pb.ServerReflectionRequest, message)

        async for response in self._servicer.ServerReflectionInfo(requests(), None):
            yield response.SerializeToString()
