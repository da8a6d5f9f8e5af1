"""The ranker's file says what its numpy twin says, and its requests are many and different."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.load.frames import message_of, read_frames
from benchmarks.workloads.ranker.inputs import RankerInputs, ranker_inputs
from benchmarks.workloads.ranker.network import (
    INPUT,
    MODEL,
    OUTPUT,
    WIDE,
    WIDE_SIZES,
    Layer,
    Matrix,
    make_network,
    scores,
    to_onnx,
)
from benchmarks.workloads.ranker.requests import CANDIDATES, FEATURES, REQUESTS, candidate_rows
from engine.servables.onnx import OnnxOptions, load_onnx


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> RankerInputs:
    return ranker_inputs(tmp_path_factory.mktemp("ranker"), seed=3)


def said_by(model: bytes | str, rows: Matrix) -> Matrix:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: Matrix = session.run([OUTPUT], {INPUT: rows})[0]
    return found


def test_exported_network_says_what_the_direct_computation_says(inputs: RankerInputs) -> None:
    rows = candidate_rows(count=4, seed=9).reshape(-1, FEATURES)
    direct = scores(make_network(seed=3), rows)
    np.testing.assert_allclose(said_by(str(inputs.model_file), rows), direct, rtol=0, atol=1e-6)
    assert direct.std() > 0.1  # scores differ, or agreeing would prove nothing


def test_wide_network_is_asked_by_its_own_name_and_says_what_the_direct_computation_says(tmp_path: Path) -> None:
    wide = ranker_inputs(tmp_path, seed=3, model=WIDE)
    call = service_pb2.ModelInferRequest.FromString(message_of(read_frames(wide.frames)[0]))
    assert call.model_name == wide.model_file.parent.parent.name == WIDE
    rows = candidate_rows(count=1, seed=9).reshape(-1, FEATURES)
    direct = scores(make_network(sizes=WIDE_SIZES, seed=3), rows)
    np.testing.assert_allclose(said_by(str(wide.model_file), rows), direct, rtol=0, atol=1e-6)


def test_one_layer_by_hand() -> None:
    layer = Layer(np.array([[1.0], [2.0]], np.float32), np.array([-4.0], np.float32))
    rows = np.array([[2.0, 1.0], [0.0, 2.0]], np.float32)
    for found in (scores([layer], rows), said_by(to_onnx([layer]).SerializeToString(), rows)):
        np.testing.assert_allclose(found, [[0.5], [0.5]], atol=1e-7)


def test_every_request_ranks_different_candidates_of_one_user(inputs: RankerInputs) -> None:
    calls = [service_pb2.ModelInferRequest.FromString(message_of(frame)) for frame in read_frames(inputs.frames)]
    assert len({call.raw_input_contents[0] for call in calls}) == len(calls) == REQUESTS >= 256
    for call in calls[:3]:
        (tensor,) = call.inputs
        assert (call.model_name, tensor.name, tensor.datatype) == (MODEL, INPUT, "FP32")
        assert list(tensor.shape) == [CANDIDATES, FEATURES]
        rows = np.frombuffer(call.raw_input_contents[0], np.float32).reshape(tensor.shape)
        assert len(np.unique(rows[:, : FEATURES // 2], axis=0)) == 1
        assert len(np.unique(rows[:, FEATURES // 2 :], axis=0)) == CANDIDATES


def test_same_seed_makes_the_same_files(inputs: RankerInputs, tmp_path: Path) -> None:
    again, other = ranker_inputs(tmp_path / "again", seed=3), ranker_inputs(tmp_path / "other", seed=4)
    assert again.frames.read_bytes() == inputs.frames.read_bytes() != other.frames.read_bytes()
    assert again.model_file.read_bytes() == inputs.model_file.read_bytes() != other.model_file.read_bytes()


def test_engine_batches_the_ranker(inputs: RankerInputs) -> None:
    servable = load_onnx(inputs.model_file, OnnxOptions())
    assert servable.signature.batchable
    assert [each.shape for each in servable.signature.outputs] == [(-1, 1)]
    servable.close()
