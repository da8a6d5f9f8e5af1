"""HTTP bodies derived from gRPC messages carry the same tensors."""

import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.load.tensor_body import infer_request


def message(version: str = "") -> bytes:
    call = service_pb2.ModelInferRequest(model_name="fraud", model_version=version)
    call.inputs.add(name="features", datatype="FP32", shape=[1, 3])
    call.raw_input_contents.append(np.arange(3, dtype=np.float32).tobytes())
    return bytes(call.SerializeToString())


def test_body_holds_a_json_header_and_then_the_raw_tensor() -> None:
    head, body = infer_request(message(), authority="host:8000").split(b"\r\n\r\n", 1)
    fields = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    size = int(fields[b"Inference-Header-Content-Length"])
    header = json.loads(body[:size])
    assert head.startswith(b"POST /v2/models/fraud/infer HTTP/1.1\r\n")
    assert int(fields[b"Content-Length"]) == len(body)
    assert header["inputs"] == [
        {"name": "features", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    ]
    assert header["parameters"] == {"binary_data_output": True}
    assert np.array_equal(np.frombuffer(body[size:], np.float32), np.arange(3))


def test_version_is_part_of_the_path() -> None:
    assert b"POST /v2/models/fraud/versions/2/infer " in infer_request(message("2"), authority="host:8000")


def test_tensors_outside_raw_contents_are_refused() -> None:
    call = service_pb2.ModelInferRequest(model_name="fraud")
    call.inputs.add(name="features", datatype="FP32", shape=[1])
    with pytest.raises(ValueError, match="raw_input_contents"):
        infer_request(call.SerializeToString(), authority="host")
