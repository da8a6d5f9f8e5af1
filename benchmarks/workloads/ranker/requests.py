"""Requests to rank candidates: one user's features beside those of 100 items, as gRPC messages.

The first half of a row is the user and the moment, alike in all rows of a request; the second is the item, drawn from
a catalogue that all requests share.
"""

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.load.frames import join_frames
from benchmarks.workloads.ranker.network import INPUT, MODEL, SIZES, Matrix

CANDIDATES = 100
BATCH_REQUESTS_MAX = 8
"""Requests in a batch: beyond, no server gains, as joining rows costs as much as it saves."""

REQUESTS = 256
ITEMS = 5000
FEATURES = SIZES[0]


def candidate_rows(*, count: int, seed: int) -> Matrix:
    """`count` requests: FP32 [count, CANDIDATES, FEATURES], every one different."""
    rng = np.random.default_rng(seed)
    half = FEATURES // 2
    items = rng.normal(size=(ITEMS, FEATURES - half)).astype(np.float32)
    made = np.empty((count, CANDIDATES, FEATURES), np.float32)
    for request in made:
        request[:, :half] = rng.normal(size=half)
        request[:, half:] = items[rng.choice(ITEMS, CANDIDATES, replace=False)]
    return made


def infer_message(rows: Matrix, model: str = MODEL) -> bytes:
    """A serialised ModelInferRequest for these candidates; no version, so the server chooses."""
    call = service_pb2.ModelInferRequest(model_name=model)
    call.inputs.add(name=INPUT, datatype="FP32", shape=rows.shape)
    call.raw_input_contents.append(rows.astype("<f4").tobytes())
    message: bytes = call.SerializeToString(deterministic=True)
    return message


def request_frames(*, count: int = REQUESTS, seed: int, model: str = MODEL) -> bytes:
    """A frames file of `count` different requests."""
    return join_frames(infer_message(rows, model) for rows in candidate_rows(count=count, seed=seed))
