"""Questions as HTTP bodies, JSON or with binary tensors, and answers read back."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.soak.grpc_form import DTYPES, array_of, raw_of
from benchmarks.soak.outcome import WRONG, Outcome
from benchmarks.soak.questions import Array, Question, Tensor

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Body:
    """What is posted."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


def path_of(question: Question) -> str:
    """Where the question is posted."""
    return f"/v2/models/{question.model}/infer"


def json_body(question: Question) -> Body:
    """All of it JSON."""
    inputs = [{**_about(name, tensor), "data": values_of(tensor.array)} for name, tensor in question.inputs.items()]
    return Body(json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"})


def values_of(array: Array) -> list[Any]:
    """The values in row-major order, strings as text."""
    flat: list[Any] = array.reshape(-1).tolist()
    return [each.decode() if isinstance(each, bytes) else each for each in flat]


def binary_body(question: Question) -> Body:
    """A JSON header, then the tensors' content; the answer is to come likewise."""
    raws = [raw_of(each) for each in question.inputs.values()]
    inputs = [
        {**_about(name, tensor), "parameters": {"binary_data_size": len(raw)}}
        for (name, tensor), raw in zip(question.inputs.items(), raws, strict=True)
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Body(header + b"".join(raws), headers)


def _about(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}


def judge_body(question: Question, body: bytes, header_bytes: int | None) -> Outcome:
    """OK where `body` is the right answer; `header_bytes` is the length of its JSON part, None where it is all JSON."""
    try:
        header = json.loads(body if header_bytes is None else body[:header_bytes])
        (output,) = header["outputs"]
        raw = None if header_bytes is None else body[header_bytes:]
        answer = _array(output, raw)
    except (ValueError, KeyError) as error:
        return Outcome(WRONG, False, f"{question.model}: {type(error).__name__} {error} in {body[:200]!r}")
    right = output["name"] == question.output and question.is_right(answer)
    return Outcome("OK", True) if right else Outcome(WRONG, False, f"{question.model}: {body[:200]!r}")


def _array(output: dict[str, Any], raw: bytes | None) -> Array:
    datatype, shape = output["datatype"], output["shape"]
    if raw is not None:
        return array_of(datatype, shape, raw)
    if datatype == "BYTES":
        return np.array([each.encode() for each in output["data"]], object).reshape(shape)
    return np.array(output["data"], DTYPES[datatype]).reshape(shape)
