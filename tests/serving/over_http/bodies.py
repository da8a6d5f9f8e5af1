"""Inference bodies, right and wrong, and what is expected in answer to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from tritonclient.http import InferInput
from tritonclient.utils import serialize_byte_tensor

from engine import Array
from tests.serving.calls import pair
from tests.serving.over_http.wire import Answer, request

HEADER_LENGTH = "Inference-Header-Content-Length"
LEFT, RIGHT = pair()
SIMPLE = "/v2/models/simple/infer"


def given(name: str, array: Array, datatype: str, *, binary: bool = True) -> InferInput:
    """An input of tritonclient over a whole array."""
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def simple_inputs(left: Array, right: Array, datatype: str = "INT32", *, binary: bool = True) -> list[InferInput]:
    """Inputs of `simple`."""
    return [given(f"INPUT{index}", each, datatype, binary=binary) for index, each in enumerate((left, right))]


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """An input or output as JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data, **more}


def asking(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A whole body."""
    return {"inputs": list(inputs), **more}


def as_json(name: str, array: Array) -> dict[str, Any]:
    """An INT32 input as JSON."""
    return tensor(name, "INT32", array.shape, array.ravel().tolist())


def simple_body(left: Array = LEFT, right: Array = RIGHT, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A right body for `simple`."""
    return asking(as_json("INPUT0", left), as_json("INPUT1", right), **more)


def binary_body(body: dict[str, Any], *raws: bytes) -> tuple[bytes, str]:
    """(body with raw contents behind its JSON, the value of its length header)."""
    header = json.dumps(body).encode()
    return header + b"".join(raws), str(len(header))


def raw_input(name: str, datatype: str, shape: Sequence[int], size: object) -> dict[str, Any]:
    """An input whose content follows the JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


def simple_binary(left: Array = LEFT, right: Array = RIGHT) -> tuple[bytes, str]:
    """A right body for `simple`, in binary."""
    inputs = [raw_input(f"INPUT{i}", "INT32", each.shape, each.nbytes) for i, each in enumerate((left, right))]
    return binary_body(asking(*inputs), left.tobytes(), right.tobytes())


def raw_content(values: Array) -> bytes:
    """The raw content of an array, serialized as tritonclient does."""
    return bytes(serialize_byte_tensor(values).item()) if values.dtype == object else values.tobytes()


GOOD_REQUEST = request("POST", SIMPLE, json.dumps(simple_body()).encode())
SUMS = [(LEFT + RIGHT).ravel().tolist(), (LEFT - RIGHT).ravel().tolist()]


def is_right(answer: Answer | httpx.Response) -> bool:
    """Whether `answer` is the right one to `GOOD_REQUEST`."""
    got = answer.json()["outputs"]
    return (answer.status if isinstance(answer, Answer) else answer.status_code) == 200 and [
        each["data"] for each in got
    ] == SUMS


def check_refused(answer: Answer | httpx.Response, status: int, *words: str) -> None:
    """`answer` has `status` and an error in our form, whose message has every one of `words`."""
    got = answer.status if isinstance(answer, Answer) else answer.status_code
    told = answer.json()
    assert got == status, f"{got}: {told}"
    assert set(told) == {"error", "code"}
    for word in words:
        assert word in told["error"], f"{word!r} is not in {told['error']!r}"


def values_of(response: httpx.Response, output: int = 0) -> Any:  # noqa: ANN401
    """The JSON data of an output."""
    assert response.status_code == 200, response.text
    return response.json()["outputs"][output]["data"]


def numbers(*values: float) -> dict[str, Any]:
    """A body for the functions of one FP32 input, a row for each value."""
    return asking(tensor("x", "FP32", (len(values), 1), list(values)))


def triton_numbers(*values: float) -> list[InferInput]:
    """The same for tritonclient."""
    return [given("x", np.array(values, np.float32).reshape(-1, 1), "FP32")]
