"""The native rival's environment and command line, and its answer where it is installed."""

from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.native_front import (
    INSTALL,
    FrontEnvironment,
    made_of,
    server_command,
    start_native_front,
    wanted,
)
from benchmarks.workloads.ranker.network import make_network, to_onnx

FEATURES = 4


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    file = tmp_path / "ranker.onnx"
    file.write_bytes(to_onnx(make_network(sizes=(FEATURES, 3, 1), seed=1)).SerializeToString())
    return file


def test_an_environment_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match=INSTALL):
        FrontEnvironment(tmp_path / "nothing").check_installed()


def test_an_environment_made_of_other_versions_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "complete").write_text(made_of().replace("pygrpc-native==", "pygrpc-native==0."))
    assert not FrontEnvironment(tmp_path).installed
    (tmp_path / "complete").write_text(made_of())
    assert FrontEnvironment(tmp_path).installed


def test_the_rival_runs_the_model_with_the_versions_installed_here() -> None:
    assert f"onnxruntime=={onnxruntime.__version__}" in wanted()
    assert f"numpy=={np.__version__}" in wanted()


def test_the_rival_sees_nothing_of_ours(tmp_path: Path, model_file: Path) -> None:
    command = server_command(FrontEnvironment(tmp_path), model_file=model_file, port=1)
    assert command[:2] == [str(tmp_path / "bin" / "python"), "-I"]


@pytest.mark.skipif(not FrontEnvironment().installed, reason=f"needs '{INSTALL}'")
def test_the_rival_answers_what_the_model_says(tmp_path: Path, model_file: Path) -> None:
    rows = np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)
    session = onnxruntime.InferenceSession(str(model_file))
    name = session.get_inputs()[0].name
    request = service_pb2.ModelInferRequest(model_name="ranker", id="7", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name=name, datatype="FP32", shape=rows.shape)
    with (
        start_native_front(model_file=model_file, out=tmp_path, model="ranker") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert answer.id == "7"
    expected = session.run(None, {name: rows})[0]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tobytes() == expected.tobytes()
