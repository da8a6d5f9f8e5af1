"""Requests to score real transactions: gRPC messages of the Open Inference Protocol, one row each."""

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.fraud_inputs import INPUT, MODEL
from benchmarks.load.frames import join_frames

Matrix = NDArray[np.float32]


def infer_message(row: Matrix) -> bytes:
    """A serialised ModelInferRequest for one row of features; no version, so the server chooses."""
    call = service_pb2.ModelInferRequest(model_name=MODEL)
    call.inputs.add(name=INPUT, datatype="FP32", shape=[1, len(row)])
    call.raw_input_contents.append(row.astype("<f4").tobytes())
    message: bytes = call.SerializeToString(deterministic=True)
    return message


def request_frames(matrix: Matrix, rows: NDArray[np.int64], *, count: int, seed: int) -> bytes:
    """A frames file of `count` different ones of `rows`, drawn at random. Raises ValueError when there are too few."""
    different = rows[np.sort(np.unique(matrix[rows], axis=0, return_index=True)[1])]
    if len(different) < count:
        raise ValueError(f"{len(different)} different rows, {count} wanted")
    drawn = np.random.default_rng(seed).choice(different, count, replace=False)
    return join_frames(infer_message(row) for row in matrix[drawn])
