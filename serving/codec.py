"""Open Inference Protocol messages to and from requests and responses. Pure; it knows no transport.

The message classes are tritonclient's: a second copy of protobuf package `inference` in one process fails to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from engine import (
    INTERACTIVE,
    Clock,
    Deadline,
    InvalidArgument,
    Layout,
    Parameter,
    Request,
    Response,
    Tensor,
    Unimplemented,
    datatype_named,
    limits,
    quoted,
)
from serving.asked import priority_of

_TYPED_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where typed content of a datatype lives; FP16 and BF16 have none and travel raw only."""


MARKS_PARAMETER: Final = "vireo_marks"
"""The parameter of an answer that says where it is less than it might be."""


def parse(kind: Any, message: bytes) -> Any:  # noqa: ANN401  protobuf classes are dynamic
    """`message` as a `kind`; InvalidArgument where it is not one."""
    try:
        return kind.FromString(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"not a valid {kind.DESCRIPTOR.name} message: {error}") from error


def check_name(kind: str, name: str) -> str:
    """`name`, if it is not absurdly long."""
    if len(name) > limits.NAME_CHARS_MAX:
        raise InvalidArgument(
            f"{kind} name {quoted(name)} is too long, at most {limits.NAME_CHARS_MAX} characters are allowed"
        )
    return name


def parse_version(text: str) -> int | None:
    """A version as the protocol writes it: empty for the newest."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidArgument(f"model version {quoted(text)} is not a whole number")
    return int(text)


def decode_request(message: pb.ModelInferRequest, deadline: Deadline, clock: Clock) -> Request:
    """The request in a ModelInferRequest. Raises InvalidArgument naming the input at fault."""
    outputs = message.outputs
    check_tensor_counts(len(message.inputs), len(outputs))
    parameters = decode_parameters(message.parameters) if message.parameters else {}
    return Request(
        check_name("model", message.model_name),
        _inputs(message),
        parse_version(message.model_version),
        check_id(message.id),
        requested_outputs([_output_name(each) for each in outputs]) if outputs else (),
        sooner(deadline, parameters, clock) if parameters else deadline,
        parameters,
        None,
        priority_of(parameters) if parameters else INTERACTIVE,
    )


def check_tensor_counts(inputs: int, outputs: int) -> None:
    """Refuses absurdly many inputs or requested outputs."""
    if inputs > limits.INPUTS_MAX or outputs > limits.INPUTS_MAX:
        raise InvalidArgument(f"{inputs} inputs and {outputs} outputs, at most {limits.INPUTS_MAX} of each")


def check_id(request_id: str) -> str:
    """`request_id`, if it is not absurdly long."""
    if len(request_id) > limits.ID_CHARS_MAX:
        raise InvalidArgument(f"request id has {len(request_id)} characters, at most {limits.ID_CHARS_MAX} are allowed")
    return request_id


def sooner(deadline: Deadline, parameters: Mapping[str, Parameter], clock: Clock) -> Deadline:
    """`deadline`, or the one that a request's `timeout` parameter (microseconds; 0 for none) sets, if that is sooner."""
    timeout_us = parameters.get("timeout", 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or not 0 <= timeout_us < 1 << 64:
        raise InvalidArgument(
            f"parameter 'timeout' must be a whole number of microseconds, got {quoted(str(timeout_us))}"
        )
    return min(deadline, Deadline.after(timeout_us / 1e6, clock())) if timeout_us else deadline


def requested_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each at most once."""
    if len(set(names)) < len(names):
        raise InvalidArgument(f"output {quoted(_first_twice(names))} is requested more than once")
    return tuple(names)


def _output_name(output: Any) -> str:  # noqa: ANN401
    if output.parameters:
        check_parameters("output", output.name, output.parameters)
    return str(output.name)


def check_parameters(kind: str, name: str, parameters: Mapping[str, Any]) -> None:
    """Refuses parameters that would change what a tensor means and that this server does not act on."""
    for key in parameters:
        if key.startswith("shared_memory") or key == "classification":
            raise Unimplemented(f"{kind} {quoted(name)}: parameter {quoted(key)} is not supported")


def _inputs(message: pb.ModelInferRequest) -> dict[str, Tensor]:
    given, raws = message.inputs[:], message.raw_input_contents[:]  # lists: iterating over protobuf's own is slow
    if not raws:
        inputs = {each.name: _typed(each) for each in given}
    elif len(raws) == len(given):
        inputs = {each.name: _raw(each, raw) for each, raw in zip(given, raws, strict=True)}
    else:
        for each in given:  # one in shared memory has no content here
            check_parameters("input", each.name, each.parameters)
        raise InvalidArgument(f"{len(given)} inputs but {len(raws)} raw contents: one for each is needed")
    if len(inputs) < len(given):
        raise InvalidArgument(f"input {quoted(_first_twice([each.name for each in given]))} is given more than once")
    return inputs


def _first_twice(names: Sequence[str]) -> str:
    return next(each for each in names if names.count(each) > 1)


def _raw(each: Any, raw: bytes) -> Tensor:  # noqa: ANN401
    name = each.name
    if each.parameters:
        check_parameters("input", name, each.parameters)
    if each.HasField("contents"):
        raise InvalidArgument(f"input {quoted(name)} has both typed and raw contents")
    return Tensor.from_raw(name, datatype_named(each.datatype, of=name), each.shape[:], raw)


def _typed(each: Any) -> Tensor:  # noqa: ANN401
    if each.parameters:
        check_parameters("input", each.name, each.parameters)
    datatype = datatype_named(each.datatype, of=each.name)
    field = _TYPED_FIELDS.get(datatype.name)
    if field is None:
        raise InvalidArgument(f"input {quoted(each.name)}: {datatype} has no typed contents; send it raw")
    filled = [found.name for found, _ in each.contents.ListFields()]
    if filled not in ([], [field]):
        raise InvalidArgument(f"input {quoted(each.name)}: {each.datatype} travels in {field}, got {', '.join(filled)}")
    values = getattr(each.contents, field)
    return Tensor.from_values(each.name, datatype, each.shape[:], values)


def decode_parameters(parameters: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters by name, each as the value it was set to; one with none set is left out."""
    found = {}
    for key, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        if which is not None:
            found[key] = getattr(value, which)
    return found


class ResponseHeads:
    """What a ModelInferResponse says besides its id and its raw contents, encoded once for all requests of a layout."""

    def __init__(self) -> None:
        self._heads: dict[Layout, tuple[object, bytes]] = {}

    def of(self, response: Response, layout: Layout | None) -> bytes:
        """The encoded fields of `response` but for id and raw contents; the wire lets these follow in any order."""
        outputs = response.outputs
        said = (response.version, *outputs, *[(each.datatype, each.array.shape) for each in outputs.values()])
        known = None if layout is None else self._heads.get(layout)
        if known is not None and known[0] == said:
            return known[1]
        head = _encode_head(response)
        if layout is not None:
            if len(self._heads) >= limits.LAYOUTS_MAX:
                self._heads.clear()
            self._heads[layout] = (said, head)
        return head


def _encode_head(response: Response) -> bytes:
    message = pb.ModelInferResponse(model_name=response.model, model_version=str(response.version))
    for name, tensor in response.outputs.items():
        message.outputs.add(name=name, datatype=tensor.datatype.name, shape=tensor.array.shape)
    encoded: bytes = message.SerializeToString()
    return encoded


def encode_marks(response: Response) -> bytes:
    """The marks of `response` as the parameter of a ModelInferResponse, encoded, to follow its head; empty for none."""
    message = pb.ModelInferResponse()
    _set_marks(message, response)
    encoded: bytes = message.SerializeToString()
    return encoded


def _set_marks(message: pb.ModelInferResponse, response: Response) -> None:
    if response.marks:
        message.parameters[MARKS_PARAMETER].string_param = "; ".join(response.marks)


def encode_response(response: Response) -> pb.ModelInferResponse:
    """A ModelInferResponse with raw contents, as Triton answers."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=str(response.version), id=response.id)
    for name, tensor in response.outputs.items():
        message.outputs.add(name=name, datatype=tensor.datatype.name, shape=tensor.array.shape)
        message.raw_output_contents.append(tensor.to_bytes())
    _set_marks(message, response)
    return message
