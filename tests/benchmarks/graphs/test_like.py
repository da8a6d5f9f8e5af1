"""Our graph that is like the stack: the same model's answer, of features that move as it is asked."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs import like
from benchmarks.graphs.functions import assemble
from benchmarks.graphs.running import serve
from benchmarks.graphs.stack_case import StackCase, stack_case
from tests.benchmarks.graphs.small import small_inputs

SEED = 5


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


def test_the_score_is_the_models_own_of_the_row_and_later_rows_count_the_scored_event(
    case: StackCase, port: int
) -> None:
    raws, rows, scores = len(case.raw), [], []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = service_pb2.ModelInferRequest.FromString(case.messages[0])
        asked.model_name = like.GRAPH
        for _ in range(20):
            answer = stub.ModelInfer(asked, timeout=10.0)
            found = {each.name: raw for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
            rows.append(np.frombuffer(found["row"], "<f4"))
            scores.append(np.frombuffer(found[case.output], "<f4")[0])
    seen = StackCase(
        **{name: getattr(case, name) for name in StackCase.__slots__ if name != "rows"}, rows=np.stack(rows)
    )
    assert np.allclose(seen.scores(), scores, atol=1e-6)
    assert np.array_equal(seen.rows[:, :raws], np.repeat(case.rows[:1, :raws], 20, axis=0))
    assert seen.rows[-1, raws] > 0
