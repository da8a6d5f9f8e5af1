"""The frames: different real test rows, readable as gRPC messages and as HTTP requests."""

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.fraud_inputs import INPUT, MODEL, fraud_inputs
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.tensor_body import infer_requests
from benchmarks.workloads.fraud.requests import request_frames
from tests.benchmarks.workloads.fraud.built import Build

REQUESTS = 1024


def test_frames_hold_different_rows_of_days_that_no_model_was_trained_on(build: Build) -> None:
    calls = [
        service_pb2.ModelInferRequest.FromString(message_of(frame))
        for frame in read_frames(fraud_inputs(build.folder).frames)
    ]
    rows = {call.raw_input_contents[0] for call in calls}
    assert len(calls) == len(rows) == build.summary.requests == REQUESTS
    late = build.matrix[build.transactions.day >= build.summary.shared_test_days[0]]
    assert rows <= {row.tobytes() for row in late}


def test_every_frame_is_one_row_for_the_model(build: Build) -> None:
    for frame in read_frames(build.folder / "requests.frames"):
        call = service_pb2.ModelInferRequest.FromString(message_of(frame))
        (tensor,) = call.inputs
        assert (call.model_name, call.model_version) == (MODEL, "")
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == (INPUT, "FP32", [1, build.matrix.shape[1]])
        assert len(call.raw_input_contents[0]) == 4 * build.matrix.shape[1]


def test_frames_can_travel_over_http(build: Build) -> None:
    requests = infer_requests(read_frames(build.folder / "requests.frames"), authority="127.0.0.1:1")
    assert len(requests) == REQUESTS
    assert requests[0].startswith(f"POST /v2/models/{MODEL}/infer HTTP/1.1".encode())


def test_too_few_different_rows_are_refused() -> None:
    matrix = np.zeros((5, 3), np.float32)
    matrix[4] = 1
    with pytest.raises(ValueError, match="2 different rows, 3 wanted"):
        request_frames(matrix, np.arange(5), count=3, seed=0)
