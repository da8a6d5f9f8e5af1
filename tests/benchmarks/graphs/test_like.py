"""Our graph that is like the stack: the same model's answer, of features that move as it is asked."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs import like
from benchmarks.graphs.functions import assemble
from benchmarks.graphs.running import serve
from benchmarks.graphs.stack_case import RAW_COLUMNS, StackCase, stack_case
from tests.benchmarks.graphs.small import small_inputs
from tests.fakes import PATIENCE_S

SEED = 5
DAY_COUNT = RAW_COLUMNS + 12
"""The card's events of 24 hours, its first feature over the third window."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> StackCase:
    return stack_case(small_inputs(tmp_path_factory.mktemp("fraud")), SEED)


@pytest.fixture(scope="module")
def port(case: StackCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served") / "app"
    spec = like.like_spec(case, folder)
    spec["graphs"][like.GRAPH]["outputs"]["row"] = "row.row"
    with serve(spec, folder, like.GRAPH, core=None) as server:
        like.fill(case, server.grpc_port, SEED)
        yield server.grpc_port


def test_the_row_is_what_came_with_the_request_and_then_the_features(case: StackCase) -> None:
    raw = {name: case.rows[:, at] for at, name in enumerate(case.raw)}
    keys = [
        np.frombuffer(service_pb2.ModelInferRequest.FromString(each).raw_input_contents[-1], "<i8")
        for each in case.messages
    ]
    assert len(keys) == len(case.rows)
    start = len(case.raw)
    given: dict[str, Any] = {**raw}
    for entity in case.entities:
        given[entity.name] = case.rows[:, start : start + len(entity.features)].astype(np.float64)
        start += len(entity.features)
    assert np.array_equal(assemble(**given)["row"], case.rows)


def test_the_score_is_the_models_own_of_the_row_and_scored_events_are_counted_in_later_rows(
    case: StackCase, port: int
) -> None:
    rows: list[npt.NDArray[np.float32]] = []
    scores: list[float] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = service_pb2.ModelInferRequest.FromString(case.messages[0])
        asked.model_name = like.GRAPH
        until_s = time.monotonic() + PATIENCE_S
        while len(rows) < 20 or rows[-1][DAY_COUNT] < rows[0][DAY_COUNT] + 10:
            answer = stub.ModelInfer(asked, timeout=10.0)
            found = {each.name: raw for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
            rows.append(np.frombuffer(found["row"], "<f4"))
            scores.append(float(np.frombuffer(found[case.output], "<f4")[0]))
            assert time.monotonic() < until_s, "scored events do not reach the features"
    seen = StackCase(
        **{name: getattr(case, name) for name in StackCase.__slots__ if name != "rows"}, rows=np.stack(rows)
    )
    assert np.allclose(seen.scores(), scores, atol=1e-6)
    assert (seen.rows[:, :RAW_COLUMNS] == case.rows[0, :RAW_COLUMNS]).all()
    assert rows[0][DAY_COUNT] >= like.EVENTS_EACH
