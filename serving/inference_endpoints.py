"""The Open Inference Protocol over HTTP (`/v2/...`), as Triton and KServe speak it, as a table of endpoints.

Descriptions are those of the gRPC service, turned into JSON: the two fronts cannot disagree.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from engine import Engine, InvalidArgument, Response, Tensor, TensorSpec, Unavailable, Unimplemented, quoted
from serving.account import Account, Accounts, accounted
from serving.asked import asked_by
from serving.codec import check_name, parse_version, sooner
from serving.dispatch import Dispatch
from serving.http_app import JSON, Endpoint, Handler, HttpCall, Reply, json_reply
from serving.inference_service import InferenceService
from serving.json_body import decoded
from serving.json_codec import InferBody, Wanted, decode_body, encode_body, raw_body
from serving.ledger import MARKS, SERVER_TIMING, brief_timing, encode_marks, server_timing

BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
MODEL = "/v2/models/{model}"
VERSIONED = "/v2/models/{model}/versions/{version}"


class InferenceEndpoints:
    """The endpoints over one engine."""

    def __init__(self, dispatch: Dispatch, service: InferenceService, accounts: Accounts) -> None:
        self._dispatch = dispatch
        self._accounts = accounts
        self._engine: Engine = dispatch.engine
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint, the busiest first."""
        return [
            *_both("POST", "/infer", self._infer, "Run a model", takes="InferRequest"),
            *_both("GET", "/ready", self._model_ready, "Whether a model answers", open_to_all=True),
            *_both("GET", "/config", self._config, "A model's configuration in force"),
            *_both("GET", "/stats", self._statistics, "Counts and times by stage of a model"),
            Endpoint("GET", "/v2/models/stats", self._statistics, "Counts and times by stage of every model"),
            *_both("GET", "", self._model, "A model's tensors and versions"),
            Endpoint("GET", "/v2/health/live", self._live, "Whether the server runs", open_to_all=True),
            Endpoint("GET", "/v2/health/ready", self._ready, "Whether every wanted model answers", open_to_all=True),
            Endpoint("GET", "/v2", self._server, "The server's name, version and protocol extensions"),
            Endpoint("GET", "/v2/models", self._models, "The names of the models that answer"),
            _control("/v2/repository/index", self._index, "Every model version known and its state", "IndexRequest"),
            _control("/v2/repository/models/{model}/load", self._load, "Load a model, or what is new of it"),
            _control("/v2/repository/models/{model}/unload", self._unload, "Take a model out of service"),
            *(Endpoint(method, path, _refuse, "Not offered", offered=False) for method, path in _NOT_OFFERED),
        ]

    # Inference.

    async def _infer(self, call: HttpCall) -> Reply:
        deadline = call.deadline
        body = await call.body()
        header_bytes = call.whole_number(HEADER_LENGTH)
        model, version = _target(call)
        asked = self._raw(model, version, body) if header_bytes == 0 else decode_body(body, header_bytes)
        if asked.parameters:
            deadline = sooner(deadline, asked.parameters, self._engine.clock)
        request = asked.request(model, version, deadline)
        account = self._accounts.open(request, asked_by(call.headers()), call.received_ns)
        work = self._dispatch.infer(request, enforce_deadline=True, gone=call.gone)
        return _answer(await accounted(account, work), asked.wanted, account)

    def _raw(self, model: str, version: int | None, body: bytes) -> InferBody:
        """A body without any JSON: the one input's content, one row where the model batches."""
        signature = self._engine.describe(model, version).signature
        if len(signature.inputs) != 1:
            raise InvalidArgument(
                f"model {quoted(model)} has {len(signature.inputs)} inputs: a body of raw content alone needs exactly 1"
            )
        spec = signature.inputs[0]
        return raw_body(spec.name, _raw_tensor(spec, body, signature.batchable))

    # Descriptions.

    async def _live(self, call: HttpCall) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, call: HttpCall) -> Reply:
        ready = self._engine.ready
        return json_reply({"ready": ready}, status=200 if ready else 503)

    async def _model_ready(self, call: HttpCall) -> Reply:
        model, version = _target(call)
        if not self._engine.is_ready(model, version):
            raise Unavailable(f"model {quoted(model)} is not ready")
        return json_reply({"name": model, "ready": True})

    async def _server(self, call: HttpCall) -> Reply:
        return _described(self._service.describe_server())

    async def _models(self, call: HttpCall) -> Reply:
        return json_reply({"models": sorted({name for name, _, _ in self._engine.statistics()})})

    async def _model(self, call: HttpCall) -> Reply:
        return _described(self._service.describe_model(*_named(call)))

    async def _config(self, call: HttpCall) -> Reply:
        return json_reply(message_json(self._service.describe_config(*_named(call)).config))

    async def _statistics(self, call: HttpCall) -> Reply:
        return _described(self._service.describe_statistics(*_named(call)))

    # The repository.

    async def _index(self, call: HttpCall) -> Reply:
        asked = _parsed(await call.body(), _IndexBody)
        return json_reply([message_json(each) for each in self._service.describe_index(asked.ready).models])

    async def _load(self, call: HttpCall) -> Reply:
        asked = _parsed(await call.body(), _ControlBody)
        await self._service.load(call.path["model"], asked.parameters)
        return json_reply({})

    async def _unload(self, call: HttpCall) -> Reply:
        asked = _parsed(await call.body(), _ControlBody)
        await self._service.unload(call.path["model"], asked.parameters)
        return json_reply({})


class _IndexBody(msgspec.Struct):
    ready: bool = False


class _ControlBody(msgspec.Struct):
    parameters: dict[str, bool | int | float | str] = {}


def _parsed(body: bytes, kind: type[Any]) -> Any:  # noqa: ANN401
    """`body` as a `kind`; an empty one is its defaults."""
    return decoded(body, kind) if body.strip() else kind()


def _control(path: str, handler: Handler, summary: str, takes: str = "ControlRequest") -> Endpoint:
    return Endpoint("POST", path, handler, summary, takes=takes)


def _both(
    method: str, tail: str, handler: Handler, summary: str, *, open_to_all: bool = False, takes: str | None = None
) -> list[Endpoint]:
    return [
        Endpoint(method, f"{of}{tail}", handler, f"{summary}, {which}", open_to_all, takes)
        for of, which in ((MODEL, "newest version"), (VERSIONED, "one version"))
    ]


_NOT_OFFERED = (
    *(
        (method, f"/v2/{kind}{tail}")
        for kind in ("systemsharedmemory", "cudasharedmemory")
        for method, tail in (
            ("GET", "/status"),
            ("GET", "/region/{region}/status"),
            ("POST", "/unregister"),
            ("POST", "/region/{region}/register"),
            ("POST", "/region/{region}/unregister"),
        )
    ),
    *((method, f"{of}/trace/setting") for of in ("/v2", MODEL) for method in ("GET", "POST")),
    *((method, "/v2/logging") for method in ("GET", "POST")),
)


async def _refuse(call: HttpCall) -> Reply:
    raise Unimplemented("this server offers no shared memory, tracing settings or logging settings")


def _named(call: HttpCall) -> tuple[str, str]:
    return call.path.get("model", ""), call.path.get("version", "")


def _target(call: HttpCall) -> tuple[str, int | None]:
    model, version = _named(call)
    return check_name("model", model), parse_version(version)


def _raw_tensor(spec: TensorSpec, body: bytes, batchable: bool) -> Tensor:
    """The whole body as one tensor: one row where there are rows, the one other free dimension filled."""
    if spec.datatype.size is None:
        content = len(body).to_bytes(4, "little") + body
        return Tensor.from_raw(spec.name, spec.datatype, [1] * len(spec.shape), content)
    shape = [1 if batchable and index == 0 else size for index, size in enumerate(spec.shape)]
    free = [index for index, size in enumerate(shape) if size < 0]
    if len(free) > 1:
        raise InvalidArgument(f"input {quoted(spec.name)}: raw content alone cannot fill shape {list(spec.shape)}")
    if free:
        shape[free[0]] = 1
        bytes_each = spec.datatype.size * math.prod(shape)
        shape[free[0]] = len(body) // bytes_each if bytes_each else 0
    return Tensor.from_raw(spec.name, spec.datatype, shape, body)


def _answer(response: Response, wanted: Wanted, account: Account | None) -> Reply:
    try:
        body, header_bytes = encode_body(response, wanted)
    except InvalidArgument as error:
        if account is not None:
            account.failed(error)
        raise
    headers = [] if header_bytes is None else [(HEADER_LENGTH, str(header_bytes))]
    if response.marks:
        headers.append((MARKS, encode_marks(response.marks)))
    if account is None:
        headers.append((SERVER_TIMING, brief_timing(response.ledger)))
    else:
        headers += account.answered(response)
        headers.append((SERVER_TIMING, server_timing(account.timeline)))
    return Reply(body, JSON if header_bytes is None else BINARY, headers=tuple(headers), packable=True)


def _described(message: Any) -> Reply:  # noqa: ANN401  a protobuf message
    return json_reply(message_json(message))


def message_json(message: Any) -> dict[str, Any]:  # noqa: ANN401
    """A protobuf message as JSON the way Triton writes it: its own field names, every number a number."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(message.DESCRIPTOR, found)


_WIDE = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}


def _with_numbers(descriptor: Any, found: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Protobuf's JSON writes 64-bit integers as text; no client of this protocol expects that."""
    for name, value in found.items():
        field = descriptor.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.cpp_type in _WIDE:
            found[name] = [int(each) for each in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None:
            for each in value if isinstance(value, list) else [value]:
                _with_numbers(field.message_type, each)
    return found
