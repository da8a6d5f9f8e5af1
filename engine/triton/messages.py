"""Messages of the Open Inference Protocol as a client of Triton writes and reads them. The owner of tritonclient's protobufs.

A request is put together of pieces: what all requests of one shape have in common is serialised once, the rest is appended, which
the encoding allows (fields of a message may come in any order, and messages be concatenated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any
from urllib.parse import unquote

from engine.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ModelLoadError,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    quoted,
)
from engine.limits import LAYOUTS_MAX
from engine.request import Layout
from engine.servables.servable import Tensors
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import DATATYPES, Buffer, Tensor
from engine.triton.forms import RAW_INPUTS, AnswerForm, RequestForm, timeout_parameter, varint
from engine.triton.shared_request import NAME, Places, SharedRequest
from engine.triton.statistics import ServerCounts

SERVICE = "/inference.GRPCInferenceService/"
_FORM_BYTES_MAX = 1 << 16
"""Larger answers are read each by itself: that costs next to nothing then."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def _protobufs() -> Any:  # noqa: ANN401
    from tritonclient.grpc import service_pb2

    return service_pb2


def framed(message: bytes) -> bytes:
    """One message as gRPC frames it, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class RequestWriter:
    """Writes requests for one model. Any thread. `shared_bytes_min`: tensors of so many bytes together may lie in memory that a
    server shares, None for never."""

    def __init__(
        self,
        model: str,
        version: int | None,
        signature: Signature,
        *,
        decoupled: bool,
        shared_bytes_min: int | None = None,
    ) -> None:
        self._model, self._version = model, "" if version is None else str(version)
        self._signature, self._decoupled, self._shared_bytes_min = signature, decoupled, shared_bytes_min
        self._heads: dict[tuple[Shapes, tuple[str, ...]], tuple[bytes, _SharedHead | None]] = {}
        self._of_layouts: dict[Layout, RequestForm] = {}
        _protobufs()

    def write(
        self,
        inputs: Tensors,
        outputs: Sequence[str],
        timeout_us: int | None,
        layout: Layout | None = None,
        *,
        whole: bool = False,
    ) -> bytes | SharedRequest:
        """The framed request; unless it is to be `whole`, what makes one for each server where its tensors are large."""
        pieces = None if layout is None else self._of_layouts.get(layout)
        if pieces is not None:
            return pieces.joined(inputs, timeout_us)
        head, shared = self._heads_of(inputs, outputs)
        if shared is not None and not whole:
            return self._shared(shared, inputs, outputs, timeout_us)
        parts = [b"", head]
        if timeout_us is not None:
            parts.append(timeout_parameter(timeout_us))
        for each in inputs.values():
            raw = each.to_bytes()
            parts += (RAW_INPUTS, varint(len(raw)), raw)
        parts[0] = b"\0" + sum(map(len, parts)).to_bytes(4, "big")
        if layout is not None and shared is None and inputs:
            self._learn(layout, head, inputs)
        return b"".join(parts)

    def _heads_of(self, inputs: Tensors, outputs: Sequence[str]) -> tuple[bytes, _SharedHead | None]:
        key = (tuple([(name, each.array.shape) for name, each in inputs.items()]), tuple(outputs))
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) >= LAYOUTS_MAX:
                self._heads.clear()
            found = self._heads[key] = self._head(inputs, outputs, None), self._shared_head(inputs, outputs)
        return found

    def _learn(self, layout: Layout, head: bytes, inputs: Tensors) -> None:
        if any(each.datatype.size is None for each in inputs.values()):
            return
        if len(self._of_layouts) >= LAYOUTS_MAX:
            self._of_layouts.clear()
        sizes = [each.array.nbytes for each in inputs.values()]
        self._of_layouts[layout] = RequestForm(head, sizes)

    def _shared(
        self, head: _SharedHead, inputs: Tensors, outputs: Sequence[str], timeout_us: int | None
    ) -> SharedRequest:
        rest = [] if timeout_us is None else [timeout_parameter(timeout_us)]
        for name, each in inputs.items():
            if name not in head.places.inputs:
                raw = each.to_bytes()
                rest += (RAW_INPUTS, varint(len(raw)), raw)
        placed = [inputs[name] for name in head.places.inputs]
        whole = partial(self.whole, inputs, outputs, timeout_us)
        return SharedRequest(head.places, placed, head.message, b"".join(rest), whole)

    def whole(self, inputs: Tensors, outputs: Sequence[str], timeout_us: int | None) -> bytes:
        """The framed request with all tensors in it."""
        body = self.write(inputs, outputs, timeout_us, whole=True)
        assert isinstance(body, bytes)
        return body

    def _shared_head(self, inputs: Tensors, outputs: Sequence[str]) -> _SharedHead | None:
        """None where the tensors whose sizes their shapes tell are too small."""
        if self._shared_bytes_min is None:
            return None
        sized = [(name, each.array.nbytes) for name, each in inputs.items() if each.datatype.size and each.array.size]
        rows = next((each.array.shape[0] for each in inputs.values()), 0) if self._signature.batchable else None
        wanted = outputs or self._signature.output_names
        answers = [(each.name, _size(each, rows)) for each in self._signature.outputs if each.name in wanted]
        places = Places.of(sized, [(name, size) for name, size in answers if size])
        if places.size < self._shared_bytes_min:
            return None
        return _SharedHead(self._head(inputs, outputs, places), places)

    def _head(self, inputs: Tensors, outputs: Sequence[str], places: Places | None) -> bytes:
        message = _protobufs().ModelInferRequest(model_name=self._model, model_version=self._version)
        for name, each in inputs.items():
            told = message.inputs.add(name=name, datatype=each.datatype.name, shape=each.array.shape)
            if places is not None and name in places.inputs:
                _place(told, places.inputs[name])
        for name in outputs or self._signature.output_names:
            told = message.outputs.add(name=name)
            if places is not None and name in places.outputs:
                _place(told, places.outputs[name])
        if self._decoupled:
            message.parameters["triton_enable_empty_final_response"].bool_param = True
        return bytes(message.SerializeToString())


@dataclass(frozen=True, slots=True)
class _SharedHead:
    message: bytes
    places: Places


def _size(spec: TensorSpec, rows: int | None) -> int:
    """Bytes of an output of so many rows; 0 where they are not known before it is there."""
    fixed = spec.shape if rows is None else (rows, *spec.shape[1:])
    return 0 if ANY in fixed else prod(fixed) * (spec.datatype.size or 0)


def _place(tensor: Any, place: tuple[int, int]) -> None:  # noqa: ANN401
    start, stop = place
    tensor.parameters["shared_memory_region"].string_param = NAME
    tensor.parameters["shared_memory_offset"].int64_param = start
    tensor.parameters["shared_memory_byte_size"].int64_param = stop - start


class ResponseReader:
    """Reads answers of one model. Any thread."""

    def __init__(self, model: str, signature: Signature) -> None:
        self._model, self._signature = model, signature
        self._forms: dict[tuple[int, Sequence[str]], AnswerForm] = {}
        self._specs = {each.name: each for each in signature.outputs}
        self._response = _protobufs().ModelInferResponse
        self._streamed = _protobufs().ModelStreamInferResponse

    def read(self, body: bytes, outputs: Sequence[str]) -> Tensors:
        """The tensors of one message. Raises Internal where they are not what the model promises."""
        wanted = tuple(outputs) or self._signature.output_names
        key = (len(body), wanted)
        form = self._forms.get(key)
        if form is not None and (found := form.read(body)) is not None:
            return found
        message = self._response.FromString(body)
        tensors = self._tensors(message, message.raw_output_contents, wanted)
        if [each.name for each in message.outputs] == list(wanted):  # a server may tell them in an order of its own
            self._remember(key, body, message.raw_output_contents, tensors)
        return tensors

    def _remember(self, key: tuple[int, Sequence[str]], body: bytes, raws: Sequence[bytes], tensors: Tensors) -> None:
        """Learns the form of an answer of the wanted tensors in their order, where they are at its end."""
        if not raws or len(raws) != len(tensors) or len(body) > _FORM_BYTES_MAX:
            return
        head = body[: len(body) - sum(len(raw) + 1 + len(varint(len(raw))) for raw in raws)]
        places = [
            (self._specs[name], each.shape, len(raw)) for raw, (name, each) in zip(raws, tensors.items(), strict=True)
        ]
        if len(self._forms) >= LAYOUTS_MAX:
            self._forms.clear()
        form = AnswerForm(head, places)
        if form.read(body) is not None:
            self._forms[key] = form

    def read_streamed(self, body: bytes, outputs: Sequence[str]) -> tuple[Tensors | None, bool]:
        """The tensors of one message of a stream, if it has any, and whether it is the last. Raises as `read`, and what the
        model failed with."""
        message = self._streamed.FromString(body)
        if message.error_message:
            raise Internal(f"Triton: {message.error_message}")
        answer = message.infer_response
        last = "triton_final_response" in answer.parameters and answer.parameters["triton_final_response"].bool_param
        if last and not answer.outputs:
            return None, True
        return self._tensors(answer, answer.raw_output_contents, outputs or self._signature.output_names), last

    def read_shared(self, request: SharedRequest, body: bytes, outputs: Sequence[str]) -> Tensors:
        """The tensors of the message that answers `request`, out of the region where they are there. Raises as `read`."""
        region, places = request.region, request.places.outputs
        if region is None:
            return self.read(body, outputs)
        message = self._response.FromString(body)
        raws: list[Buffer] = list(message.raw_output_contents)
        for index, told in enumerate(message.outputs[: len(raws)]):
            if told.name in places:
                start, stop = places[told.name]
                raws[index] = region.contents[start:stop].copy().data
        return self._tensors(message, raws, outputs or self._signature.output_names)

    def _tensors(self, message: Any, raws: Sequence[Buffer], wanted: Sequence[str]) -> Tensors:  # noqa: ANN401
        found: dict[str, Tensor] = {}
        if len(raws) != len(message.outputs):
            raise Internal(f"Triton answered {len(message.outputs)} outputs with {len(raws)} raw contents")
        for told, raw in zip(message.outputs, raws, strict=True):
            name = told.name
            spec = self._specs.get(name)
            if spec is None or spec.datatype.name != told.datatype or not spec.takes(shape := tuple(told.shape)):
                promised = "nothing" if spec is None else f"{spec.datatype} of {list(spec.shape)}"
                raise Internal(
                    f"Triton answered output {quoted(name)} with {told.datatype} of {list(told.shape)}, where model "
                    f"{quoted(self._model)} promised {promised}"
                )
            try:
                found[name] = Tensor.from_raw(name, spec.datatype, shape, raw)
            except InvalidArgument as error:
                raise Internal(f"Triton answered output {error.message.removeprefix('input ')}") from error
        try:
            return {name: found[name] for name in wanted}
        except KeyError as error:
            raise Internal(f"Triton answered without output {error}") from error


def request_of(method: str, **fields: str | int) -> bytes:
    """The framed request of a call other than for inference, with these fields."""
    return framed(getattr(_protobufs(), f"{method}Request")(**fields).SerializeToString())


def ask(method: str, model: str = "", version: int | None = None) -> bytes:
    """The framed request of a call that names a model and its version and nothing else."""
    return request_of(
        method, **({} if not model else {"name": model, "version": "" if version is None else str(version)})
    )


def answered(method: str, body: bytes) -> Any:  # noqa: ANN401
    """The message that answers a call of `method`."""
    return getattr(_protobufs(), f"{method}Response").FromString(body)


def shares_memory(metadata: Any) -> bool:  # noqa: ANN401
    """Whether a server of such metadata maps regions and keeps one that is in use: Triton before 2.50 crashes when it is told to
    let go of that."""
    numbers = [int(each) for each in metadata.version.split(".")[:2] if each.isdecimal()]
    return "system_shared_memory" in metadata.extensions and numbers >= [2, 50]


def regions_in(status: Any) -> list[str]:  # noqa: ANN401
    """Names of the regions that a server has mapped, of anybody."""
    return list(status.regions)


def forgot_region(error: VireoError) -> bool:
    """Whether a server says that it has no such region."""
    return "Unable to find shared memory region" in error.message


def signature_of(metadata: Any, config: Any) -> Signature:  # noqa: ANN401
    """What a model takes and gives, of its metadata and configuration on a server. Raises ModelLoadError."""
    rows_max = int(config.max_batch_size)
    optional = {each.name for each in config.input if each.optional}

    def spec(each: Any) -> TensorSpec:  # noqa: ANN401
        datatype = DATATYPES.get(each.datatype)
        if datatype is None:
            raise ModelLoadError(
                f"tensor {quoted(each.name)} is {quoted(each.datatype)}, which is not a known datatype"
            )
        return TensorSpec(each.name, datatype, tuple(int(size) for size in each.shape), each.name in optional)

    return Signature(
        tuple(spec(each) for each in metadata.inputs),
        tuple(spec(each) for each in metadata.outputs),
        rows_max > 0,
        rows_max or None,
    )


def counts_of(body: bytes) -> ServerCounts:
    """What the answer to ModelStatistics counts, of all versions in it. Raises ValueError where it is none."""
    try:
        versions = _protobufs().ModelStatisticsResponse.FromString(body).model_stats
    except Exception as error:  # protobuf's own, of which there are two by implementation
        raise ValueError(f"no statistics: {error}") from error
    return ServerCounts.of_all(_version_counts(each) for each in versions)


def _version_counts(message: Any) -> ServerCounts:  # noqa: ANN401
    stages = message.inference_stats
    return ServerCounts(
        requests=int(stages.success.count),
        failed=int(stages.fail.count),
        rows=int(message.inference_count),
        executions=int(message.execution_count),
        queue_ns=int(stages.queue.ns),
        input_ns=int(stages.compute_input.ns),
        compute_ns=int(stages.compute_infer.ns),
        output_ns=int(stages.compute_output.ns),
        batches={int(each.batch_size): int(each.compute_infer.count) for each in message.batch_stats},
    )


_ERRORS: Mapping[str, type[VireoError]] = {
    "1": Cancelled,
    "3": InvalidArgument,
    "4": DeadlineExceeded,
    "5": NotFound,
    "7": Unauthenticated,
    "8": ResourceExhausted,
    "9": FailedPrecondition,
    "12": Unimplemented,
    "13": Internal,
    "14": Unavailable,
    "15": DataLoss,
    "16": Unauthenticated,
}
"""What a server means by gRPC's status codes; PERMISSION_DENIED is a matter of credentials."""


def error_of(status: Mapping[str, str]) -> VireoError:
    """The error that trailers tell; Internal where they tell none that is known."""
    told = unquote(status.get("grpc-message", "")) or "no reason given"
    code = status.get("grpc-status", "")
    kind = _ERRORS.get(code)
    if kind is None:
        http = f"HTTP {status.get(':status', 'nothing')}"
        return Internal(f"Triton answered with {f'gRPC status {code}' if code else http}: {told}")
    return kind(f"Triton: {told}")
