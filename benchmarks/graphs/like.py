"""The graph that does what the stack beside it does, and no more: three feature views, their join, the same model file.

Its requests are the stack's own but for the name they call. Unlike the stack's its features move: each scored transaction is
appended to the log that the views read. The whole fraud decision (`benchmarks.workloads.fraud`) does a good deal more.
"""

import time
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
from tritonclient.grpc import service_pb2

from benchmarks.features.views import TILES, windowed
from benchmarks.graphs.running import Declared, write_frames
from benchmarks.graphs.stack_case import StackCase
from benchmarks.servers import ROWS_MAX
from protos.vireo.v1 import features_pb2, features_pb2_grpc

GRAPH, LOG, ASSEMBLE, AMOUNT = "decide", "events", "assemble", "raw_0"
EVENTS_EACH = 8
"""Events of each entity that the views have seen before the first request."""

SECOND_US = 1_000_000
PUSH_S_MAX = 60.0


def like_spec(case: StackCase, out: Path, *, records: bool = True) -> Declared:
    """Everything in one file. `records`: scored transactions are appended to the log."""
    columns: Declared = {each.name: {"type": "int64", "nullable": False} for each in case.entities}
    schema = {**columns, "at": {"type": "timestamp", "nullable": False}, "amount": "float64"}
    views = {each.name: view(each.name, len(each.features)) for each in case.entities}
    return {
        "repository": {"path": str(case.model_file.parents[2].resolve())},
        "models": {case.model: {"batching": {"rows_max": ROWS_MAX}, "versions": {"specific": [case.version]}}},
        "logs": {LOG: {"schema": schema, "local": {"path": str((out / "events").resolve()), "durability": "os"}}},
        "feature_views": views,
        "functions": {ASSEMBLE: assemble(case)},
        "graphs": {GRAPH: graph(case, records=records)},
    }


def view(entity: str, width: int) -> Declared:
    """As many windowed aggregations of the amount as the stack has features of the entity."""
    features = dict(list(windowed("amount", TILES).items())[:width])
    assert len(features) == width
    return {"source": LOG, "entity": entity, "event_time": "at", "features": features}


def assemble(case: StackCase) -> Declared:
    """The join, of benchmarks.graphs.functions."""
    wide = {each.name: {"datatype": "FP64", "shape": [-1, len(each.features)]} for each in case.entities}
    return {
        "call": "benchmarks.graphs.functions:assemble",
        "batchable": True,
        "inputs": {**wide, **{name: {"datatype": "FP32", "shape": [-1]} for name in case.raw}},
        "outputs": {"row": {"datatype": "FP32", "shape": [-1, case.rows.shape[1]]}},
    }


def graph(case: StackCase, *, records: bool) -> Declared:
    """From the request's scalars to the score."""
    keys = [each.name for each in case.entities]
    nodes: Declared = {f"{key}_features": {"call": key, "inputs": {key: key}} for key in keys}
    wired = {**{key: f"{key}_features.features" for key in keys}, **{name: name for name in case.raw}}
    nodes["row"] = {"call": ASSEMBLE, "inputs": wired}
    nodes["score"] = {"call": case.model, "inputs": {case.input: "row.row"}}
    inputs = {
        **{name: {"datatype": "FP32", "shape": [-1]} for name in case.raw},
        **{key: {"datatype": "INT64", "shape": [-1]} for key in keys},
    }
    made: Declared = {"inputs": inputs, "nodes": nodes, "outputs": {case.output: f"score.{case.output}"}}
    if records:
        columns = {**{key: key for key in keys}, "at": "$time", "amount": AMOUNT}
        made["records"] = {"event": {"log": LOG, "columns": columns}}
    return made


def like_frames(case: StackCase, out: Path) -> Path:
    """The stack's requests, calling the graph."""
    asked = [service_pb2.ModelInferRequest.FromString(each) for each in case.messages]
    for each in asked:
        each.model_name = GRAPH
    return write_frames(out / "like.frames", [each.SerializeToString(deterministic=True) for each in asked])


def fill(case: StackCase, port: int, seed: int) -> None:
    """Pushes EVENTS_EACH events of every identity, and waits until the views show them."""
    rng = np.random.default_rng(seed)
    count = len(case.entities[0].values)
    identities = np.tile(np.arange(count), EVENTS_EACH)
    now_us = int(time.time() * SECOND_US)
    at_us = np.sort(now_us - rng.integers(0, 60 * SECOND_US, len(identities)))
    batch = pa.record_batch(
        {
            **{each.name: rng.permutation(identities) for each in case.entities},
            "at": pa.array(at_us).cast(pa.timestamp("us", "UTC")),
            "amount": rng.lognormal(3.0, 1.0, len(identities)),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    names = [each.name for each in case.entities]
    request = features_pb2.PushRequest(log=LOG, arrow=sink.getvalue().to_pybytes(), wait_for=names, wait_ms=30_000)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = features_pb2_grpc.FeaturesStub(channel)  # type: ignore[no-untyped-call]
        pending = stub.Push(request, timeout=PUSH_S_MAX).pending
    assert not pending, f"{pending} have not caught up"
