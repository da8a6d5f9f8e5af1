"""The conservative gRPC transport: grpcio's asyncio server under the method table. The one file that knows `grpc`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from engine import Clock, Deadline, ServerSpec, Spec, SpecError, VireoError
from serving.auth import Authenticator
from serving.listener import listener
from serving.methods import Method, MethodTable
from serving.metrics import CallCounter
from serving.status import grpc_code, grpc_name, told, trailing_metadata
from serving.tls import load_tls
from serving.unix_socket import UnixSocket

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_GRACE_S = 1.0
_OPTIONS = (
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class _GrpcCall:
    """A `methods.Call` over a grpcio context; what a method does not ask for is not computed."""

    __slots__ = ("_clock", "_context", "received_ns")

    def __init__(self, context: Any, clock: Clock) -> None:  # noqa: ANN401  grpcio's servicer context
        self._context = context
        self._clock = clock
        self.received_ns = clock()

    @property
    def deadline(self) -> Deadline:
        remaining_s = self._context.time_remaining()
        return Deadline.NEVER if remaining_s is None else Deadline.after(remaining_s, self._clock())

    def metadata(self) -> Mapping[str, str]:
        return {key: value for key, value in self._context.invocation_metadata() or () if isinstance(value, str)}

    def trail(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._context.set_trailing_metadata((*(self._context.trailing_metadata() or ()), *pairs))


class _Handlers(grpc.GenericRpcHandler):
    """Looks a path up in handlers made once."""

    def __init__(self, methods: MethodTable, wrap: Callable[[Method], Any]) -> None:
        self._handlers = {path: wrap(method) for path, method in methods.items()}

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401
        return self._handlers.get(handler_call_details.method)


class GrpcServer:
    """Serves a method table on a port, on a Unix domain socket, or on both."""

    def __init__(
        self, spec: Spec, methods: MethodTable, authenticator: Authenticator, counter: CallCounter, clock: Clock
    ) -> None:
        self._authenticator = authenticator
        self._counter = counter
        self._clock = clock
        size = spec.server.message_bytes_max
        shared = ("grpc.so_reuseport", int(spec.server.share_ports))
        options = [*_OPTIONS, shared, ("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Handlers(methods, self._wrap),))
        self._spec = spec
        self._unix: UnixSocket | None = None

    def _bind(self, server: ServerSpec, port: int) -> int:
        host = server.host.strip("[]")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            listener(host, port, shared=server.share_ports).close()  # grpcio does not say why it cannot
            return self._add(address)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SpecError(f"server.grpc_port: cannot listen on {address}: {reason}") from error

    def _bind_unix(self, path: Path) -> None:
        self._unix = UnixSocket(path)
        self._unix.listen(1).close()  # grpcio does not say why it cannot
        with self._unix.binding():
            self._add(f"unix:{quote(str(path))}")

    def _add(self, address: str) -> int:
        if self._spec.server.tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, _credentials(self._spec))

    async def start(self) -> int | None:
        """Begins to answer where the spec says; the port, None where it names none. Raises SpecError."""
        server = self._spec.server
        port = None if server.grpc_port is None else self._bind(server, server.grpc_port)
        if server.unix_socket is not None:
            self._bind_unix(self._spec.path(server.unix_socket))
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Takes no new calls; those open may finish within `_GRACE_S`, then they are cancelled."""
        await self._server.stop(_GRACE_S)
        if self._unix is not None:
            self._unix.remove()

    def _wrap(self, method: Method) -> Any:  # noqa: ANN401  grpcio's method handler
        if method.unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method))
        return grpc.stream_stream_rpc_method_handler(self._stream(method))

    def _unary(self, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        handler = method.unary
        assert handler is not None
        locked = self._authenticator.required and not method.open_to_all
        succeeded = self._counter.of(method.path, "OK")

        async def serve(message: bytes, context: Any) -> bytes:  # noqa: ANN401
            call = _GrpcCall(context, self._clock)
            try:
                if locked:
                    self._authenticator.check(call.metadata())
                answer = await handler(call, message)
            except Exception as error:
                return await self._abort(method, context, error)
            succeeded()
            return answer

        return serve

    def _stream(self, method: Method) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        handler = method.stream
        assert handler is not None
        locked = self._authenticator.required and not method.open_to_all
        succeeded = self._counter.of(method.path, "OK")

        async def serve(messages: AsyncIterator[bytes], context: Any) -> None:  # noqa: ANN401
            call = _GrpcCall(context, self._clock)
            try:
                if locked:
                    self._authenticator.check(call.metadata())
                async with aclosing(handler(call, messages)) as answers:
                    async for answer in answers:
                        await context.write(answer)
            except grpc.aio.InternalError:  # the caller left while an answer was on its way
                return
            except Exception as error:
                await self._abort(method, context, error)
                return
            succeeded()

        return serve

    async def _abort(self, method: Method, context: Any, error: Exception) -> bytes:  # noqa: ANN401
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = error if isinstance(error, VireoError) else self._counter.fault(method.path, error)
        self._counter.of(method.path, grpc_name(known))()
        try:
            await context.abort(_CODES[grpc_code(known)], told(known), tuple(trailing_metadata(known)))
        except grpc.aio.InternalError:  # the caller has left: there is nobody to tell, and nothing to log
            pass
        except grpc.aio.AbortError as aborted:  # grpcio keeps it, and with its frames it would keep the call
            aborted.with_traceback(None).__context__ = None
        return b""  # which grpcio, seeing that the call was aborted, does not send


def _credentials(spec: Spec) -> Any:  # noqa: ANN401  grpcio's credentials
    tls = spec.server.tls
    assert tls is not None
    load_tls(spec)  # grpcio does not say why it cannot
    certificate, key = (spec.path(each).read_bytes() for each in (tls.certificate, tls.key))
    client_ca = spec.path(tls.client_ca).read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([(key, certificate)], client_ca, client_ca is not None)
