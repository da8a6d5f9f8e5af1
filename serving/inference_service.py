"""`inference.GRPCInferenceService` as Triton speaks it, as a table of methods on message bytes. It knows no transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from tritonclient.grpc import service_pb2 as pb

from engine import (
    Cancelled,
    Deadline,
    Engine,
    InvalidArgument,
    Job,
    Layout,
    ModelStatistics,
    NotFound,
    Parameter,
    Request,
    ServerCounts,
    TensorSpec,
    Unimplemented,
    quoted,
)
from serving.account import Account, Accounts, accounted
from serving.asked import asked_by
from serving.codec import (
    ResponseHeads,
    check_name,
    decode_parameters,
    decode_request,
    encode_marks,
    encode_response,
    parse,
    parse_version,
)
from serving.dispatch import Begun, Dispatch
from serving.infer_stream import InferStream
from serving.methods import Call, Exchange, Method, answering
from serving.model_config import describe_config

if TYPE_CHECKING:
    from typing_extensions import Buffer

_COPIED_BYTES_MAX: Final = 4096
"""Copying so much takes a tenth of the time that making a view does."""

Decode = Callable[["Buffer", Deadline], Request]

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

    def __init__(self, dispatch: Dispatch, accounts: Accounts, decode: Decode | None = None) -> None:
        """`decode` reads a ModelInferRequest quickly, for transports that need no task to answer it."""
        self._dispatch = dispatch
        self._accounts = accounts
        self._draws = None if accounts.tracing is None else accounts.tracing.draws
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
            *(Method(_path(name), unary=answering(kind, answer)) for name, (kind, answer) in plain.items()),
            *(Method(_path(name), unary=_refusing(name)) for name in _OFFERED_ELSEWHERE),
        ]

    # Inference.

    async def _infer(self, call: Call, message: bytes) -> bytes:
        request = decode_request(parse(pb.ModelInferRequest, message), call.deadline, self._engine.clock)
        account = self._accounts.open(request, asked_by(call.metadata()), call.received_ns)
        response = await accounted(account, self._dispatch.infer(request))
        encoded: bytes = encode_response(response).SerializeToString()
        if account is not None:
            call.trail(account.answered(response))
        return encoded

    def _infer_direct(self, call: Exchange, message: Buffer) -> None:
        assert self._decode is not None
        request = self._decode(message, call.deadline)
        if call.asks or (self._draws is not None and self._draws()):
            self._begin_asking(call, request)
            return
        answering = _Answering(self._dispatch, call, self._heads, request.layout)
        call.on_gone(answering.cancel)
        self._dispatch.begin(request, answering, alone=call.alone)

    def _begin_asking(self, call: Exchange, request: Request) -> None:
        asked = asked_by(call.asked()) if call.asks else None
        account = self._accounts.open(request, asked, call.received_ns, drawn=not call.asks)
        if account is None:
            answering = _Answering(self._dispatch, call, self._heads, request.layout)
        else:
            answering = _AccountedAnswering(self._dispatch, call, self._heads, request.layout)
            answering.account = account
        call.on_gone(answering.cancel)
        try:
            self._dispatch.begin(request, answering, alone=call.alone)
        except Exception as error:
            if account is not None:
                account.failed(error)
            raise

    def _stream_infer(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        return InferStream(self._dispatch, call, self._accounts).run(messages)

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
        servers = self._engine.triton_statistics()
        message = pb.ModelStatisticsResponse()
        for model, number, counted in rows:
            row = _statistics(model, number, counted)
            told = [each.counts for each in servers if each.model == model and each.counts is not None]
            if told:
                _set_stages(row, ServerCounts.of_all(told))
            message.model_stats.append(row)
        return message

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
    account: Account | None = None

    def __init__(self, dispatch: Dispatch, call: Exchange, heads: ResponseHeads, layout: Layout | None) -> None:
        self._dispatch = dispatch  # as in `super().__init__`, whose call would take as long as all of this
        self._over = False
        self.job = None
        self._call = call
        self._heads = heads
        self._layout = layout

    def settle(self, job: Job) -> None:
        """See `dispatch.Begun`."""
        response = job.response
        account = self.account
        if response is None:
            error = job.error or Cancelled("the request ended without an answer")
            if account is not None:
                account.failed(error)
            self._call.fail(error)
            return
        raws = [
            each.to_bytes() if each.array.nbytes <= _COPIED_BYTES_MAX else each.to_raw()
            for each in response.outputs.values()
        ]
        head = self._heads.of(response, self._layout)
        if response.marks:
            head += encode_marks(response)
        if account is not None:
            self._call.trail(account.answered(response))
        self._call.answer(head, response.id, raws)


class _AccountedAnswering(_Answering):
    """One that also tells where the time went."""

    __slots__ = ("account",)

    def cancel(self) -> None:
        """See `dispatch.Begun`."""
        if self.account is not None and not self._over:
            self.account.dropped()
        super().cancel()


def _path(name: str) -> str:
    return f"/{SERVICE}/{name}"


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


def _set_stages(message: pb.ModelStatistics, there: ServerCounts) -> None:
    """Batches and stages of a model on Triton are its servers': here a request only waits for them."""
    message.execution_count = there.executions
    stages = message.inference_stats
    for field, total_ns in (
        (stages.queue, there.queue_ns),
        (stages.compute_input, there.input_ns),
        (stages.compute_infer, there.compute_ns),
        (stages.compute_output, there.output_ns),
    ):
        field.count, field.ns = there.requests, total_ns
    del message.batch_stats[:]
    for size, count in sorted(there.batches.items()):
        message.batch_stats.add(batch_size=size).compute_infer.count = count


def _set_duration(message: Any, duration: Any) -> None:  # noqa: ANN401
    message.count, message.ns = duration.count, duration.total_ns
