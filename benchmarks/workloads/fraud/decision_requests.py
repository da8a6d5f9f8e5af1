"""Transactions as calls of the graph: what a payment front would send, over gRPC or HTTP."""

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.load.frames import join_frames
from benchmarks.workloads.fraud.application import GRAPH
from benchmarks.workloads.fraud.devices import devices_of
from benchmarks.workloads.fraud.transactions import Transactions
from benchmarks.workloads.fraud.view_features import times_us

FRAMES_MAX = 16_384
DATATYPES = {np.dtype(np.int64): "INT64", np.dtype(np.float64): "FP64"}

Columns = dict[str, NDArray[np.int64] | NDArray[np.float64]]


def decision_inputs(transactions: Transactions) -> Columns:
    """The graph's inputs, a row for each of all transactions."""
    numbers = np.arange(len(transactions))
    return {
        "transaction": numbers,
        "customer": transactions.customer,
        "terminal": transactions.terminal,
        "device": devices_of(transactions.customer, numbers),
        "amount": transactions.amount_cents / 100,
        "latitude": transactions.terminal_latitude,
        "longitude": transactions.terminal_longitude,
        "at": times_us(transactions),
    }


def decision_message(inputs: Columns, row: int) -> bytes:
    """A serialised ModelInferRequest for one transaction."""
    call = service_pb2.ModelInferRequest(model_name=GRAPH)
    for name, column in inputs.items():
        call.inputs.add(name=name, datatype=DATATYPES[column.dtype], shape=[1])
        call.raw_input_contents.append(column[row : row + 1].tobytes())
    message: bytes = call.SerializeToString(deterministic=True)
    return message


def decision_frames(transactions: Transactions, rows: NDArray[np.int64]) -> bytes:
    """A frames file of the first of `rows`, at most FRAMES_MAX, in order."""
    inputs = decision_inputs(transactions)
    return join_frames(decision_message(inputs, row) for row in rows[:FRAMES_MAX].tolist())
