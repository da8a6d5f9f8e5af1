"""Questions as gRPC messages, and answers read back."""

from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from benchmarks.soak.outcome import WRONG, Outcome
from benchmarks.soak.questions import Array, Question, Tensor

DTYPES: dict[str, str] = {"FP32": "<f4", "INT32": "<i4"}


def request_of(question: Question, request_id: str = "") -> Any:  # noqa: ANN401  a protobuf message
    """The ModelInferRequest."""
    request = service_pb2.ModelInferRequest(model_name=question.model, id=request_id)
    for name, tensor in question.inputs.items():
        request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.array.shape)
        request.raw_input_contents.append(raw_of(tensor))
    return request


def raw_of(tensor: Tensor) -> bytes:
    """The tensor's content as it travels."""
    if tensor.datatype == "BYTES":
        return bytes(serialize_byte_tensor(tensor.array).item())
    return tensor.array.astype(DTYPES[tensor.datatype]).tobytes()


def array_of(datatype: str, shape: list[int], raw: bytes) -> Array:
    """What `raw` says. Raises ValueError where it does not fill the shape."""
    if datatype == "BYTES":
        return np.asarray(deserialize_bytes_tensor(raw)).reshape(shape)
    return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)


def judge(question: Question, response: Any, request_id: str = "") -> Outcome:  # noqa: ANN401  a protobuf message
    """OK where `response` is the right answer to `question`."""
    if response.model_name != question.model or response.id != request_id or len(response.outputs) != 1:
        return Outcome(WRONG, False, f"{question.model}: {str(response)[:200]}")
    output = response.outputs[0]
    try:
        answer = array_of(output.datatype, list(output.shape), response.raw_output_contents[0])
    except (ValueError, IndexError) as error:
        return Outcome(WRONG, False, f"{question.model}: {error}")
    right = output.name == question.output and question.is_right(answer)
    return Outcome("OK", True) if right else Outcome(WRONG, False, f"{question.model}: shape {list(output.shape)}")
