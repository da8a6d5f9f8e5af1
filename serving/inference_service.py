"""`inference.GRPCInferenceService` as Triton speaks it, as a table of methods on message bytes. It knows no transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from tritonclient.grpc import service_pb2 as pb

from engine import (
    Cancelled,
    Deadline,
    Engine,
    Internal,
    InvalidArgument,
    Job,
    Layout,
    ModelStatistics,
    NotFound,
    Parameter,
    Request,
    TensorSpec,
    Unimplemented,
    VireoError,
    limits,
    quoted,
)
from serving.codec import (
    ResponseHeads,
    check_name,
    decode_parameters,
    decode_request,
    encode_response,
    parse,
    parse_version,
)
from serving.dispatch import Begun, Dispatch
from serving.methods import Call, Exchange, Method
from serving.model_config import describe_config
from serving.status import told

if TYPE_CHECKING:
    from typing_extensions import Buffer

_COPIED_BYTES_MAX: Final = 4096
"""Copying so much takes a tenth of the time that making a view does."""

Decode = Callable[["Buffer", Deadline], Request]

log = logging.getLogger("vireo.serving")

SERVICE: Final = "inference.GRPCInferenceService"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
_OFFERED_ELSEWHERE: Final = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip


class InferenceService:
    """The service's methods over one engine. Synchronous answers are built by `describe_*`, which other fronts share."""

    def __init__(self, dispatch: Dispatch, decode: Decode | None = None) -> None:
        """`decode` reads a ModelInferRequest quickly, for transports that need no task to answer it."""
        self._dispatch = dispatch
        self._engine: Engine = dispatch.engine
        self._decode = decode
        self._heads = ResponseHeads()

    def methods(self) -> list[Method]:
        """Every method of the service."""
        plain: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True)),
            "ServerReady": (pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=self._engine.ready)),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, lambda _: self.describe_server()),
            "ModelMetadata": (pb.ModelMetadataRequest, lambda m: self.describe_model(m.name, m.version)),
            "ModelConfig": (pb.ModelConfigRequest, lambda m: self.describe_config(m.name, m.version)),
            "ModelStatistics": (pb.ModelStatisticsRequest, lambda m: self.describe_statistics(m.name, m.version)),
            "RepositoryIndex": (pb.RepositoryIndexRequest, lambda m: self.describe_index(m.ready)),
        }
        return [
            Method(_path("ModelInfer"), unary=self._infer, direct=self._infer_direct if self._decode else None),
            Method(_path("ModelStreamInfer"), stream=self._stream_infer),
            Method(_path("RepositoryModelLoad"), unary=self._load),
            Method(_path("RepositoryModelUnload"), unary=self._unload),
            *(Method(_path(name), unary=_answering(kind, answer)) for name, (kind, answer) in plain.items()),
            *(Method(_path(name), unary=_refusing(name)) for name in _OFFERED_ELSEWHERE),
        ]

    # Inference.

    async def _infer(self, call: Call, message: bytes) -> bytes:
        request = decode_request(parse(pb.ModelInferRequest, message), call.deadline, self._engine.clock)
        response = await self._dispatch.infer(request)
        encoded: bytes = encode_response(response).SerializeToString()
        return encoded

    def _infer_direct(self, call: Exchange, message: Buffer) -> None:
        assert self._decode is not None
        request = self._decode(message, call.deadline)
        answering = _Answering(self._dispatch, call, self._heads, request.layout)
        call.on_gone(answering.cancel)
        self._dispatch.begin(request, answering, alone=call.alone)

    def _stream_infer(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        return _InferStream(self._dispatch, call).run(messages)

    # Descriptions.

    def _model_ready(self, message: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        name, number = check_name("model", message.name), parse_version(message.version)
        try:
            ready = self._engine.is_ready(name, number)
        except NotFound:  # as Triton answers: clients wait for a version by asking before it is there
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    def describe_server(self) -> pb.ServerMetadataResponse:
        """Name, version and the protocol extensions offered."""
        return pb.ServerMetadataResponse(
            name=self._engine.spec.server.name, version=version("vireo"), extensions=EXTENSIONS
        )

    def describe_model(self, name: str, model_version: str) -> pb.ModelMetadataResponse:
        """Tensors and ready versions of a model. Raises NotFound, Unavailable, InvalidArgument."""
        model = self._engine.describe(check_name("model", name), parse_version(model_version))
        message = pb.ModelMetadataResponse(
            name=model.name, versions=[str(each) for each in model.ready_versions], platform=model.traits.platform
        )
        for side, specs in ((message.inputs, model.signature.inputs), (message.outputs, model.signature.outputs)):
            for spec in specs:
                side.add(**_tensor_metadata(spec))
        return message

    def describe_config(self, name: str, model_version: str) -> pb.ModelConfigResponse:
        """The configuration in force. Raises NotFound, Unavailable, InvalidArgument."""
        model = self._engine.describe(check_name("model", name), parse_version(model_version))
        return pb.ModelConfigResponse(config=describe_config(model))

    def describe_statistics(self, name: str, model_version: str) -> pb.ModelStatisticsResponse:
        """Counts and times by stage, of one model or all. Raises NotFound, Unavailable, InvalidArgument."""
        rows = self._engine.statistics(check_name("model", name) or None, parse_version(model_version))
        return pb.ModelStatisticsResponse(model_stats=[_statistics(*row) for row in rows])

    def describe_index(self, ready_only: bool) -> pb.RepositoryIndexResponse:
        """Every model version known, with its state and, where it failed, why."""
        message = pb.RepositoryIndexResponse()
        for entry in self._engine.index():
            state = entry.state if entry.state in ("READY", "LOADING") else "UNAVAILABLE"
            if not ready_only or state == "READY":
                number = "" if entry.version is None else str(entry.version)
                message.models.add(name=entry.name, version=number, state=state, reason=entry.reason)
        return message

    # Model control. Loading blocks for as long as it takes, so it leaves the event loop.

    async def _load(self, call: Call, message: bytes) -> bytes:
        request = parse(pb.RepositoryModelLoadRequest, message)
        await self.load(request.model_name, decode_parameters(request.parameters))
        return pb.RepositoryModelLoadResponse().SerializeToString()  # type: ignore[no-any-return]

    async def load(self, name: str, parameters: Mapping[str, Parameter]) -> None:
        """Loads a model, or what is new of it. The one parameter, `config`, is JSON in place of its config.pbtxt."""
        _check_known("load", parameters, "config")
        config = parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise InvalidArgument(f"load parameter 'config' must be JSON text, got {quoted(str(config))}")
        await asyncio.to_thread(self._engine.load, check_name("model", name), config)

    async def _unload(self, call: Call, message: bytes) -> bytes:
        request = parse(pb.RepositoryModelUnloadRequest, message)
        await self.unload(request.model_name, decode_parameters(request.parameters))
        return pb.RepositoryModelUnloadResponse().SerializeToString()  # type: ignore[no-any-return]

    async def unload(self, name: str, parameters: Mapping[str, Parameter]) -> None:
        """Takes a model out of service. `unload_dependents` is accepted: no model depends on another here."""
        _check_known("unload", parameters, "unload_dependents")
        await asyncio.to_thread(self._engine.unload, check_name("model", name))


def _check_known(call: str, parameters: Mapping[str, Parameter], known: str) -> None:
    for key in parameters:
        if key != known:
            raise Unimplemented(f"{call} parameter {quoted(key)} is not supported; known: {quoted(known)}")


class _Answering(Begun):
    """Answers an exchange with what the engine made of its request."""

    __slots__ = ("_call", "_heads", "_layout")

    def __init__(self, dispatch: Dispatch, call: Exchange, heads: ResponseHeads, layout: Layout | None) -> None:
        super().__init__(dispatch)
        self._call = call
        self._heads = heads
        self._layout = layout

    def settle(self, job: Job) -> None:
        """See `dispatch.Begun`."""
        response = job.response
        if response is None:
            self._call.fail(job.error or Cancelled("the request ended without an answer"))
            return
        raws = [
            each.to_bytes() if each.array.nbytes <= _COPIED_BYTES_MAX else each.to_raw()
            for each in response.outputs.values()
        ]
        self._call.answer(self._heads.of(response, self._layout), response.id, raws)


class _InferStream:
    """One bidirectional stream: requests are computed side by side, answered in the order they came.

    A model that gives many responses sends each as it comes, and holds no other request back. An error answers its own
    request; the stream goes on.
    """

    def __init__(self, dispatch: Dispatch, call: Call) -> None:
        self._dispatch = dispatch
        self._deadline = call.deadline
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue(limits.STREAM_PARTS_MAX)
        self._room = asyncio.Semaphore(limits.STREAM_REQUESTS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        reader = asyncio.create_task(self._read(messages))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
            await reader
        finally:
            for task in (reader, *self._tasks):
                task.cancel()

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        last: asyncio.Task[None] | None = None  # of those that answer in the order they came
        try:
            async for message in messages:
                await self._room.acquire()
                last = self._begin(message, last)
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            raise  # nobody takes answers any more, not even the one that ends them
        except Exception:
            await self._answers.put(None)
            raise
        await self._answers.put(None)

    def _begin(self, message: bytes, last: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
        request_id, many = "", False
        try:
            parsed = parse(pb.ModelInferRequest, message)
            request_id = parsed.id[: limits.ID_CHARS_MAX]
            request = decode_request(parsed, self._deadline, self._dispatch.engine.clock)
            many = self._dispatch.engine.streams(request.model, request.version)
        except VireoError as error:
            work = self._in_turn(_stream_error(error, request_id), last)
        else:
            work = self._answer_parts(request) if many else self._answer(request, last)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return last if many else task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _answer(self, request: Request, last: asyncio.Task[None] | None) -> None:
        try:
            response = await self._dispatch.infer(request)
            answer = _stream_answer(encode_response(response), final=True)
        except Exception as error:
            answer = _stream_error(error, request.id)
        await self._in_turn(answer, last)

    async def _in_turn(self, answer: bytes, last: asyncio.Task[None] | None) -> None:
        if last is not None:
            await asyncio.wait([last])
        await self._answers.put(answer)

    async def _answer_parts(self, request: Request) -> None:
        end = pb.ModelInferResponse(model_name=request.model, id=request.id)
        try:
            async for response in self._dispatch.stream(request):
                end.model_version = str(response.version)
                await self._answers.put(_stream_answer(encode_response(response), final=False))
        except Exception as error:
            await self._answers.put(_stream_error(error, request.id))
        else:
            if request.parameters.get("triton_enable_empty_final_response"):
                await self._answers.put(_stream_answer(end, final=True))


def _stream_answer(message: pb.ModelInferResponse, *, final: bool) -> bytes:
    message.parameters["triton_final_response"].bool_param = final
    encoded: bytes = pb.ModelStreamInferResponse(infer_response=message).SerializeToString()
    return encoded


def _stream_error(error: Exception, request_id: str) -> bytes:
    """An answer in place of a response; every request gets one, whatever happens."""
    if not isinstance(error, VireoError):
        log.error("unexpected error in %s", _path("ModelStreamInfer"), exc_info=error)
        error = Internal(f"internal error: {type(error).__name__}")
    message = pb.ModelStreamInferResponse(error_message=told(error))
    message.infer_response.id = request_id
    encoded: bytes = message.SerializeToString()
    return encoded


def _path(name: str) -> str:
    return f"/{SERVICE}/{name}"


def _answering(kind: Any, answer: Callable[[Any], Any]) -> Callable[[Call, bytes], Any]:  # noqa: ANN401
    async def handler(call: Call, message: bytes) -> bytes:
        encoded: bytes = answer(parse(kind, message)).SerializeToString()
        return encoded

    return handler


def _refusing(name: str) -> Callable[[Call, bytes], Any]:
    async def handler(call: Call, message: bytes) -> bytes:
        raise Unimplemented(f"{name} is not supported by this server")

    return handler


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": spec.shape}


def _statistics(name: str, number: int, counted: ModelStatistics) -> pb.ModelStatistics:
    with counted.lock:
        message = pb.ModelStatistics(
            name=name,
            version=str(number),
            last_inference=counted.last_inference_ms,
            inference_count=counted.rows,
            execution_count=counted.executions,
        )
        for field, duration in (
            ("success", counted.success),
            ("fail", counted.fail),
            ("queue", counted.queue),
            ("compute_input", counted.stages.input),
            ("compute_infer", counted.stages.compute),
            ("compute_output", counted.stages.output),
        ):
            _set_duration(getattr(message.inference_stats, field), duration)
        for size, batch in sorted(counted.by_batch_size.items()):
            row = message.batch_stats.add(batch_size=size)
            _set_duration(row.compute_input, batch.input)
            _set_duration(row.compute_infer, batch.compute)
            _set_duration(row.compute_output, batch.output)
    return message


def _set_duration(message: Any, duration: Any) -> None:  # noqa: ANN401
    message.count, message.ns = duration.count, duration.total_ns
