"""The JSON form of inference, with the binary tensor data extension: bodies to requests, responses to bodies. Pure.

A body is a JSON header, and after it the raw content of those tensors that say `binary_data_size`, in their order. Like
Triton, NaN and the infinities are read and written as the literals NaN, Infinity and -Infinity, which JSON lacks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson

from engine import (
    BYTES,
    INTERACTIVE,
    Array,
    Deadline,
    InvalidArgument,
    Parameter,
    Request,
    Response,
    Tensor,
    datatype_named,
    decodable,
    limits,
    quoted,
)
from serving.asked import priority_of
from serving.codec import MARKS_PARAMETER, check_id, check_parameters, check_tensor_counts, requested_outputs

Parameters = dict[str, Parameter]


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: Parameters | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_NUMBERS = {bool, int, float}
_decode = msgspec.json.Decoder(decodable(_Body)).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs the caller wants as raw content after the JSON: those in `binary` as it says, the rest by default."""

    by_default: bool = False
    binary: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferBody:
    """A decoded inference body; the request lacks its model and deadline, which travel elsewhere."""

    inputs: Mapping[str, Tensor]
    id: str
    outputs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    wanted: Wanted

    def request(self, model: str, version: int | None, deadline: Deadline) -> Request:
        """The whole request. Raises InvalidArgument."""
        priority = priority_of(self.parameters) if self.parameters else INTERACTIVE
        return Request(model, self.inputs, version, self.id, self.outputs, deadline, self.parameters, None, priority)


def decode_body(body: bytes, header_bytes: int | None) -> InferBody:
    """What an inference body says; `header_bytes` is the length of its JSON part, None where it is all JSON.

    Raises InvalidArgument naming the input at fault.
    """
    if header_bytes is not None and header_bytes > len(body):
        raise InvalidArgument(
            f"Inference-Header-Content-Length is {header_bytes}, but the whole body has {len(body)} bytes"
        )
    header = body if header_bytes is None else body[:header_bytes]
    parsed = _parse(header)
    check_tensor_counts(len(parsed.inputs), len(parsed.outputs or ()))
    parameters = parsed.parameters or {}
    outputs = parsed.outputs or []
    return InferBody(
        _inputs(parsed.inputs, memoryview(body)[len(header) :]),
        check_id(parsed.id or ""),
        requested_outputs([_output_name(each) for each in outputs]),
        parameters,
        Wanted(
            _flag("request", parameters, "binary_data_output", False),
            {
                each.name: _flag(f"output {quoted(each.name)}", each.parameters, "binary_data", False)
                for each in outputs
                if each.parameters and "binary_data" in each.parameters
            },
        ),
    )


def _parse(header: bytes) -> _Body:
    try:
        return _decode(header)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"request body: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"NaN" in header or b"Infinity" in header:
            return _parse_with_literals(header)
        raise InvalidArgument(f"request body: malformed JSON: {error}") from error


def _parse_with_literals(header: bytes) -> _Body:
    try:
        parsed = json.loads(header.decode())
        if b"\\ud" in header.lower():
            json.dumps(parsed, ensure_ascii=False).encode()  # UnicodeEncodeError for half a surrogate pair
        return msgspec.convert(parsed, decodable(_Body))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"request body: malformed JSON: {error}") from error


def _flag(where: str, parameters: Parameters | None, key: str, default: bool) -> bool:
    value = (parameters or {}).get(key, default)
    if not isinstance(value, bool):
        raise InvalidArgument(f"{where}: parameter {quoted(key)} must be true or false, got {quoted(str(value))}")
    return value


def _output_name(output: _Output) -> str:
    check_parameters("output", output.name, output.parameters or {})
    return output.name


def _inputs(inputs: Sequence[_Input], raw: memoryview) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    at = 0
    for each in inputs:
        if each.name in found:
            raise InvalidArgument(f"input {quoted(each.name)} is given more than once")
        parameters = each.parameters or {}
        check_parameters("input", each.name, parameters)
        size = _raw_bytes(each.name, parameters)
        found[each.name] = _from_json(each) if size is None else _from_raw(each, size, raw[at:])
        at += size or 0
    if at != len(raw):
        raise InvalidArgument(
            f"{len(raw)} bytes follow the JSON header, but the inputs' binary_data_size add up to {at}"
        )
    return found


def _raw_bytes(name: str, parameters: Parameters) -> int | None:
    size = parameters.get("binary_data_size")
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 0):
        return size
    raise InvalidArgument(
        f"input {quoted(name)}: binary_data_size must be a whole number from 0, got {quoted(str(size))}"
    )


def _from_raw(each: _Input, size: int, raw: memoryview) -> Tensor:
    if each.data is not msgspec.UNSET:
        raise InvalidArgument(f"input {quoted(each.name)} has both data and binary_data_size")
    if size > len(raw):
        raise InvalidArgument(f"input {quoted(each.name)}: binary_data_size is {size}, but {len(raw)} bytes are left")
    return Tensor.from_raw(each.name, datatype_named(each.datatype, of=each.name), each.shape, raw[:size])


def _from_json(each: _Input) -> Tensor:
    if not isinstance(each.data, list):
        got = "neither data nor binary_data_size" if each.data is msgspec.UNSET else f"a {type(each.data).__name__}"
        raise InvalidArgument(f"input {quoted(each.name)}: expected a list as data, got {got}")
    datatype = datatype_named(each.datatype, of=each.name)
    data = _flat(each.name, each.data)
    if datatype is not BYTES:
        _check_numbers(each.name, data)
    return Tensor.from_values(each.name, datatype, each.shape, data)


def _flat(name: str, data: list[Any]) -> list[Any]:
    """Nested lists as one, row-major; the protocol allows either form."""
    depth = 0
    while list in (kinds := set(map(type, data))):
        depth += 1
        if depth > limits.TENSOR_DIMENSIONS_MAX or len(kinds) > 1 or len(set(map(len, data))) > 1:
            raise InvalidArgument(f"input {quoted(name)}: data is nested unevenly or too deep")
        data = list(itertools.chain.from_iterable(data))
    return data


def _check_numbers(name: str, data: list[Any]) -> None:
    """Refuses what numpy would otherwise make an array of: of one long text, one as wide as that for each element."""
    odd = set(map(type, data)) - _NUMBERS
    if odd:
        index, value = next((index, value) for index, value in enumerate(data) if type(value) in odd)
        got = "null" if value is None else f"a {type(value).__name__}"
        raise InvalidArgument(f"input {quoted(name)}: element {index} of data must be a number, got {got}")


def raw_body(name: str, tensor: Tensor) -> InferBody:
    """A body that is nothing but the raw content of the model's one input; all outputs are wanted raw."""
    return InferBody({name: tensor}, "", (), {}, Wanted(by_default=True))


def encode_body(response: Response, wanted: Wanted) -> tuple[bytes, int | None]:
    """(body, length of its JSON part), the latter None where there is nothing after it."""
    header: dict[str, Any] = {"model_name": response.model, "model_version": str(response.version)}
    if response.id:
        header["id"] = response.id
    if response.marks:
        header["parameters"] = {MARKS_PARAMETER: "; ".join(response.marks)}
    outputs: list[dict[str, Any]] = []
    raws: list[bytes | memoryview] = []
    for name, tensor in response.outputs.items():
        output: dict[str, Any] = {"name": name, "datatype": tensor.datatype.name, "shape": tensor.array.shape}
        if wanted.binary.get(name, wanted.by_default):
            raws.append(tensor.to_raw())
            output["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            output["data"] = _json_data(name, tensor)
        outputs.append(output)
    header["outputs"] = outputs
    encoded = _dumps(header)
    return (b"".join([encoded, *raws]), len(encoded)) if raws else (encoded, None)


def _json_data(name: str, tensor: Tensor) -> Array | list[str]:
    if tensor.datatype is BYTES:
        try:
            return [each.decode() for each in tensor.array.reshape(-1)]
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                f"output {quoted(name)} is not UTF-8 and cannot be JSON; ask for it with binary_data: true"
            ) from error
    return np.ascontiguousarray(tensor.values).reshape(-1)


def _dumps(header: dict[str, Any]) -> bytes:
    arrays = [each["data"] for each in header["outputs"] if isinstance(each.get("data"), np.ndarray)]
    if all(each.dtype.kind != "f" or np.isfinite(each).all() for each in arrays):
        return orjson.dumps(header, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(header, default=np.ndarray.tolist, separators=(",", ":")).encode()
