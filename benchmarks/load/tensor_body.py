"""HTTP bodies of the Open Inference Protocol made from gRPC frames: both protocols carry the same rows. Pure.

The binary tensor extension puts a JSON header before the raw tensors and says the header's length in
`Inference-Header-Content-Length`; the answer comes back the same way.
"""

import json
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from benchmarks.load.frames import message_of


def infer_requests(frames: Sequence[bytes], *, authority: str) -> list[bytes]:
    """Whole HTTP/1.1 requests, head and body, one for each frame that holds a ModelInferRequest."""
    return [infer_request(message_of(frame), authority=authority) for frame in frames]


def infer_request(message: bytes, *, authority: str) -> bytes:
    """One POST to `/v2/models/NAME[/versions/V]/infer` with the tensors of a serialised ModelInferRequest.

    Raises ValueError for tensors that are not in `raw_input_contents`.
    """
    call = service_pb2.ModelInferRequest.FromString(message)
    if len(call.raw_input_contents) != len(call.inputs):
        raise ValueError("the frames must carry their tensors in raw_input_contents")
    header = json.dumps(tensor_header(call), separators=(",", ":")).encode()
    body = header + b"".join(call.raw_input_contents)
    version = f"/versions/{call.model_version}" if call.model_version else ""
    head = (
        f"POST /v2/models/{call.model_name}{version}/infer HTTP/1.1\r\n"
        f"Host: {authority}\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def tensor_header(call: Any) -> dict[str, Any]:  # noqa: ANN401 - protobuf messages are untyped here
    """The JSON part: names, shapes, datatypes and byte counts of the inputs; every output asked for as raw bytes."""
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": len(raw)},
        }
        for tensor, raw in zip(call.inputs, call.raw_input_contents, strict=True)
    ]
    header: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if call.outputs:
        header["outputs"] = [{"name": o.name, "parameters": {"binary_data": True}} for o in call.outputs]
    return header
