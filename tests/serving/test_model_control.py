"""Loading, unloading, versions and configurations, while others call."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

from tests.engine import onnx_models
from tests.fakes import PATIENCE_S
from tests.serving.calls import given, refused, stub_of
from tests.serving.models import MEETING, SERVER, simple, write_model, write_versions
from tests.serving.servers import ServerHere, eventually

Start = Callable[[str], ServerHere]
ROW = np.array([[1.0, 2.0]], np.float32)
EXPLICIT = SERVER + "repository: {path: models, control: explicit, load: [%s]}\n"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder of models."""
    return tmp_path / "models"


@pytest.fixture
def connect_to(start: Start) -> Iterator[Callable[[str], InferenceServerClient]]:
    """Starts a server and gives a client of it."""
    made: list[InferenceServerClient] = []

    def connect(text: str) -> InferenceServerClient:
        made.append(InferenceServerClient(start(text).address))
        return made[-1]

    yield connect
    for each in made:
        each.close()


ConnectTo = Callable[[str], InferenceServerClient]


def _factor(client: InferenceServerClient, model: str = "m", version: str = "") -> float:
    result = client.infer(model, [given("x", ROW, "FP32")], model_version=version)
    (factor,) = set((result.as_numpy("y") / ROW).ravel().tolist())
    return float(factor)


def _index(client: InferenceServerClient, model: str = "m") -> dict[str, tuple[str, str]]:
    listed = client.get_model_repository_index().models
    return {each.version: (each.state, each.reason) for each in listed if each.name == model}


# Who may.


@pytest.mark.parametrize("control", ["none", "poll"])
def test_control_is_off_unless_the_spec_turns_it_on(connect_to: ConnectTo, models: Path, control: str) -> None:
    write_versions(models, "m", 1)
    client = connect_to(SERVER + f"repository: {{path: models, control: {control}}}\n")
    for call in (client.load_model, client.unload_model):
        with refused("FAILED_PRECONDITION", f"model control is off: repository.control is '{control}'", "'explicit'"):
            call("m")
    assert _factor(client) == 1.0


def test_control_is_off_without_a_repository(connect_to: ConnectTo) -> None:
    client = connect_to(SERVER + MEETING.replace("meeting", "double"))
    with refused("FAILED_PRECONDITION", "model control is off"):
        client.load_model("double")


# Loading.


def test_only_the_models_named_are_loaded_at_the_start(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    write_versions(models, "n", 1)
    client = connect_to(EXPLICIT % "n")
    assert client.is_server_ready()
    assert client.is_model_ready("n")
    assert not client.is_model_ready("m")
    assert _index(client) == {"": ("UNAVAILABLE", "not loaded")}
    with refused("UNAVAILABLE", "model 'm' is not ready: not loaded"):
        _factor(client)


def test_load_and_unload_go_both_ways(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "")
    for _ in range(3):
        client.load_model("m")
        assert client.is_model_ready("m")
        assert _factor(client) == 1.0
        client.unload_model("m", unload_dependents=True)
        assert not client.is_model_ready("m")
        with refused("UNAVAILABLE", "model 'm' is not ready"):
            _factor(client)
        with refused("UNAVAILABLE", "model 'm' is not ready"):
            client.get_model_metadata("m")


def test_index_of_ready_models_leaves_out_the_others(start: Start, models: Path) -> None:
    write_versions(models, "m", 1)
    write_versions(models, "n", 1)
    with stub_of(start(EXPLICIT % "n").address) as stub:
        asked = [service_pb2.RepositoryIndexRequest(ready=ready) for ready in (True, False)]
        listed = [[each.name for each in stub.RepositoryIndex(request).models] for request in asked]
    assert listed == [["n"], ["m", "n"]]


def test_what_cannot_be_loaded_or_unloaded_is_named(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "m" + MEETING.replace("meeting", "double"))
    for name in ("gone", "../models/m", "m/1", ".", "", "m\0", "ü" * 80):
        with refused("NOT_FOUND", "is not in the repository"):
            client.load_model(name)
        with refused("NOT_FOUND", "is not loaded"):
            client.unload_model(name)
    with refused("FAILED_PRECONDITION", "'double' is a function of the spec; it cannot be unloaded"):
        client.unload_model("double")
    with refused("INVALID_ARGUMENT", "model name", "at most 256"):
        client.load_model("m" * 300)


def test_errors_have_the_words_that_scripts_written_for_triton_look_for(connect_to: ConnectTo, models: Path) -> None:
    write_model(models, "simple", simple())
    client = connect_to(EXPLICIT % '"*"')
    with pytest.raises(InferenceServerException) as unknown:
        client.get_model_metadata("wrong_model_name")
    assert unknown.value.message().startswith("Request for unknown model")
    for name, config in (("wrong_model_name", None), ("simple", '"x": {{')):
        with pytest.raises(InferenceServerException, match="failed to load"):
            client.load_model(name, config=config)


def test_load_parameters_other_than_the_configuration_are_refused(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "m")
    with refused("UNIMPLEMENTED", "load parameter 'file:1/model.onnx' is not supported; known: 'config'"):
        client.load_model("m", config="{}", files={"file:1/model.onnx": b"bytes"})
    assert _factor(client) == 1.0


# Versions.


def test_new_version_takes_over_and_a_removed_one_goes(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "m")
    write_versions(models, "m", 2)
    client.load_model("m")
    assert _factor(client) == 2.0
    assert list(client.get_model_metadata("m").versions) == ["2"]
    assert not client.is_model_ready("m", "1")
    os.rename(models / "m" / "2", models / "gone")
    client.load_model("m")
    assert _factor(client) == 1.0


@pytest.mark.parametrize(
    ("versions", "ready"),
    [
        ("all", ["1", "2", "3", "10"]),
        ("{latest: 2}", ["3", "10"]),
        ("{specific: [1, 3]}", ["1", "3"]),
        ("{specific: [3, 7]}", ["3"]),
        ("null", ["10"]),
    ],
)
def test_version_policy_of_the_spec_chooses(
    connect_to: ConnectTo, models: Path, versions: str, ready: list[str]
) -> None:
    write_versions(models, "m", 1, 2, 3, 10)
    client = connect_to(EXPLICIT % "m" + f"models: {{m: {{versions: {versions}}}}}")
    assert list(client.get_model_metadata("m").versions) == ready
    assert _factor(client) == float(ready[-1])
    for version in ready:
        assert _factor(client, version=version) == float(version)


@pytest.mark.parametrize(
    ("policy", "ready"),
    [
        ("{ all {} }", ["1", "2", "3"]),
        ("{ latest { num_versions: 2 } }", ["2", "3"]),
        ("{ specific { versions: [2] } }", ["2"]),
    ],
)
def test_version_policy_of_the_configuration_chooses_too(
    connect_to: ConnectTo, models: Path, policy: str, ready: list[str]
) -> None:
    write_versions(models, "m", 1, 2, 3)
    (models / "m" / "config.pbtxt").write_text(f"version_policy: {policy}")
    client = connect_to(EXPLICIT % "m")
    assert list(client.get_model_metadata("m").versions) == ready


def test_broken_new_version_leaves_the_old_one_serving_and_the_index_says_why(
    connect_to: ConnectTo, models: Path
) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "m")
    (models / "m" / "2").mkdir()
    (models / "m" / "2" / "model.onnx").write_bytes(b"no model")
    with refused("FAILED_PRECONDITION", "model 'm' version 2", "not an ONNX file"):
        client.load_model("m")
    assert _factor(client) == 1.0
    assert client.is_model_ready("m")
    assert client.is_server_ready(), "the model answers"
    index = _index(client)
    assert index["1"] == ("READY", "")
    assert index["2"][0] == "UNAVAILABLE"
    assert "not an ONNX file" in index["2"][1]
    write_versions(models, "m", 2)
    client.load_model("m")
    assert _factor(client) == 2.0


def test_new_version_that_always_fails_does_not_replace_one_that_works(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(EXPLICIT % "m")
    write_model(models, "m", _always_fails(), version=2)
    with refused("FAILED_PRECONDITION", "model 'm' version 2", "warm-up"):
        client.load_model("m")
    assert _factor(client) == 1.0


def _always_fails() -> ModelProto:
    """Every shape of its input is known, and yet nothing can be computed: 2 numbers a row are no rows of 5."""
    shape = numpy_helper.from_array(np.array([-1, 5], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    kind = onnx_models.FLOAT
    return onnx_models.graph(nodes, {"x": (kind, ["batch", 2])}, {"y": (kind, ["batch", None])}, [shape])


# Configurations.


def test_configuration_given_at_load_stands_in_for_the_file(connect_to: ConnectTo, models: Path) -> None:
    write_model(models, "simple", simple(), "max_batch_size: 8")
    client = connect_to(EXPLICIT % "simple")
    assert client.get_model_config("simple").config.max_batch_size == 8
    client.load_model("simple", config=json.dumps({"max_batch_size": 2, "backend": "onnxruntime"}))
    assert client.get_model_config("simple").config.max_batch_size == 2
    wide = np.zeros((3, 16), np.int32)
    with refused("INVALID_ARGUMENT", "3 rows, at most 2"):
        client.infer("simple", [given(f"INPUT{index}", wide, "INT32") for index in range(2)])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("not json", "config: "),
        ('{"max_batch_sise": 1}', "max_batch_sise"),
        ('{"max_batch_size": "many"}', "max_batch_size"),
        ('{"max_batch_size": -1}', "expected 0 or more"),
        ('{"backend": "pytorch"}', "'pytorch' is not supported"),
        ('{"ensemble_scheduling": {"step": []}}', "the ensemble has no steps"),
        ('{"input": [{"name": "INPUT9", "data_type": "TYPE_INT32", "dims": [16]}]}', "has no input 'INPUT9'"),
        ('{"output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1, 16]}]}', "is FP32, in the model file"),
        ('{"' + "x" * 100_000 + '": 1}', "config: "),
    ],
)
def test_configuration_that_is_wrong_is_refused_and_the_old_one_stays(
    connect_to: ConnectTo, models: Path, config: str, words: str
) -> None:
    write_model(models, "simple", simple(), "max_batch_size: 8")
    client = connect_to(EXPLICIT % "simple")
    with refused("FAILED_PRECONDITION", words):
        client.load_model("simple", config=config)
    assert client.get_model_config("simple").config.max_batch_size == 8
    assert client.is_model_ready("simple")


def test_configuration_file_that_is_wrong_keeps_its_model_alone_from_serving(
    connect_to: ConnectTo, models: Path
) -> None:
    write_versions(models, "good", 1)
    write_model(models, "bad", onnx_models.affine(), "max_batch_size: many")
    client = connect_to(EXPLICIT % "'*'")
    assert not client.is_server_ready()
    ((state, reason),) = _index(client, "bad").values()
    assert state == "UNAVAILABLE"
    assert "config.pbtxt" in reason
    assert _factor(client, "good") == 1.0
    with refused("UNAVAILABLE", "model 'bad' is not ready", "config.pbtxt"):
        _factor(client, "bad")


def test_folder_whose_name_is_no_text_is_left_out(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    os.mkdir(os.fsencode(models) + b"/\xff\xfe")
    client = connect_to(EXPLICIT % "'*'")
    assert {each.name for each in client.get_model_repository_index().models} == {"m"}
    assert _factor(client) == 1.0


# While others call.


def test_polled_repository_follows_its_folder(connect_to: ConnectTo, models: Path) -> None:
    write_versions(models, "m", 1)
    client = connect_to(SERVER + "repository: {path: models, control: poll, poll_s: 0.05}\n")
    assert _factor(client) == 1.0
    write_versions(models, "incoming", 2)
    os.rename(models / "incoming" / "2", models / "m" / "2")
    eventually(lambda: client.is_model_ready("m", "2"), "version 2 is there")
    eventually(lambda: _factor(client) == 2.0, "version 2 answers")


def test_swap_of_versions_under_load_fails_no_request_and_mixes_none(start: Start, models: Path) -> None:
    write_versions(models, "m", 1)
    server = start(EXPLICIT % "m")
    stop, wrong, served = threading.Event(), list[object](), set[str]()

    def call() -> None:
        with InferenceServerClient(server.address) as client:
            while not stop.is_set():
                try:
                    result = client.infer("m", [given("x", ROW, "FP32")])
                except InferenceServerException as error:
                    wrong.append(error)
                    return
                version = result.get_response().model_version
                served.add(version)
                if not np.array_equal(result.as_numpy("y"), ROW * float(version)):
                    wrong.append((version, result.as_numpy("y")))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for each in callers:
        each.start()
    with InferenceServerClient(server.address) as control:
        for version in range(2, 12):
            write_versions(models, "m", version)
            control.load_model("m")
            assert _factor(control) == version
            eventually(lambda version=version: str(version) in served or wrong, f"callers meet version {version}")  # type: ignore[misc]
    stop.set()
    for each in callers:
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert wrong == []
    assert served >= {str(version) for version in range(2, 12)}


def test_unload_lets_a_request_in_flight_finish(start: Start, models: Path) -> None:
    """A model of the repository cannot be held at a gate, so many requests race with the unloading."""
    write_versions(models, "m", 1)
    server = start(EXPLICIT % "m")
    with stub_of(server.address) as stub, InferenceServerClient(server.address) as control:
        request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[ROW.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        for _ in range(5):
            control.load_model("m")
            calls = [stub.ModelInfer.future(request) for _ in range(100)]
            control.unload_model("m")
            outcomes = [each.exception(PATIENCE_S) for each in calls]
            assert {each.code().name for each in outcomes if each is not None} <= {"UNAVAILABLE"}
