"""Every call of the unmodified `tritonclient.http`, against Triton's own example models."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from engine import BF16, DATATYPES, Array
from tests.serving.calls import as_strings, pair
from tests.serving.models import SPEC, edge_values, identity_of, write_repository, write_versions
from tests.serving.over_http.bodies import given, simple_inputs, triton_numbers
from tests.serving.servers import ServerHere

pytestmark = pytest.mark.usefixtures("http1")

ALGORITHMS = ["gzip", "deflate"]


def _refused(status: str, *words: str) -> Any:  # noqa: ANN401  pytest's context manager
    pattern = rf"(?s)^\[{status}\] .*" + ".*".join(words)
    return pytest.raises(InferenceServerException, match=pattern)


# The server.


def test_server_is_live_and_ready(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()


def test_server_metadata_has_the_name_the_spec_gives_and_the_extensions(triton: InferenceServerClient) -> None:
    metadata = triton.get_server_metadata()
    assert (metadata["name"], metadata["version"]) == ("vireo-under-test", version("vireo"))
    assert {"model_repository", "model_configuration", "statistics", "binary_tensor_data"} <= set(
        metadata["extensions"]
    )


# Models.


def test_ready_models_are_ready_and_unknown_ones_are_not(triton: InferenceServerClient) -> None:
    assert triton.is_model_ready("simple")
    assert triton.is_model_ready("simple", "1")
    assert not triton.is_model_ready("simple", "2")
    assert not triton.is_model_ready("no-such-model")


def test_model_metadata_names_tensors_with_the_batch_dimension(triton: InferenceServerClient) -> None:
    sides = {
        f"{side}s": [{"name": f"{side.upper()}{index}", "datatype": "INT32", "shape": [-1, 16]} for index in range(2)]
        for side in ("input", "output")
    }
    expected = {"name": "simple", "versions": ["1"], "platform": "onnxruntime_onnx", **sides}
    assert triton.get_model_metadata("simple") == expected
    assert triton.get_model_metadata("simple", "1") == expected


def test_model_config_has_numbers_where_triton_has_numbers(triton: InferenceServerClient) -> None:
    config = triton.get_model_config("simple")
    assert (config["name"], config["platform"], config["backend"]) == ("simple", "onnxruntime_onnx", "onnxruntime")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [16])
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert triton.get_model_config("versions", "3")["version_policy"] == {"specific": {"versions": [2, 3]}}


def test_repository_index_lists_every_version_and_its_state(triton: InferenceServerClient) -> None:
    listed = triton.get_model_repository_index()
    states = {(each["name"], each["version"]): each["state"] for each in listed}
    assert states["simple", "1"] == states["versions", "2"] == states["versions", "3"] == "READY"
    assert ("versions", "1") not in states


def _string_inputs(left: Array, right: Array) -> list[InferInput]:
    return simple_inputs(as_strings(left), as_strings(right), "BYTES")


def test_statistics_count_requests_rows_and_executions(triton: InferenceServerClient) -> None:
    def counted() -> tuple[int, int, int]:
        (each,) = triton.get_inference_statistics("simple_string", "1")["model_stats"]
        return each["inference_count"], each["execution_count"], each["inference_stats"]["success"]["count"]

    before = counted()
    triton.infer("simple_string", _string_inputs(*pair(3)))
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [3, 1, 1]
    names = {each["name"] for each in triton.get_inference_statistics()["model_stats"]}
    assert {"simple", "double", "versions"} <= names


# Inference.


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_as_it_was_sent(
    triton: InferenceServerClient, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    values: Any = edge_values(datatype)
    if DATATYPES[datatype] is BF16:
        values = values.view(ml_dtypes.bfloat16)
        binary_in = True  # the client refuses to send BF16 as JSON
    if not (binary_in and binary_out) and DATATYPES[datatype] is BF16:
        values = np.array([[0, 1], [-2, 0.5]], ml_dtypes.bfloat16)
    inputs = [given("x", values, datatype, binary=binary_in)]
    result = triton.infer(identity_of(datatype), inputs, outputs=[InferRequestedOutput("y", binary_data=binary_out)])
    got = result.as_numpy("y")
    assert got.dtype == values.dtype
    if datatype == "BYTES" and not binary_out:
        got = np.array([each.encode() if isinstance(each, str) else each for each in got.ravel()], object)
        got = got.reshape(values.shape)
    np.testing.assert_array_equal(got, values)
    assert ("data" in result.get_output("y")) is not binary_out


@pytest.mark.parametrize("binary", [True, False])
def test_simple_adds_and_subtracts(triton: InferenceServerClient, binary: bool) -> None:
    left, right = pair(8)
    result = triton.infer("simple", simple_inputs(left, right, binary=binary))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)
    response = result.get_response()
    assert (response["model_name"], response["model_version"], "id" in response) == ("simple", "1", False)


def test_one_input_may_be_json_and_the_other_binary(triton: InferenceServerClient) -> None:
    left, right = pair(2)
    for first in (True, False):
        inputs = [
            given("INPUT0", left, "INT32", binary=first),
            given("INPUT1", right, "INT32", binary=not first),
        ]
        np.testing.assert_array_equal(triton.infer("simple", inputs).as_numpy("OUTPUT0"), left + right)


@pytest.mark.parametrize("binary", [True, False])
def test_simple_string_adds_and_subtracts_numbers_written_out(triton: InferenceServerClient, binary: bool) -> None:
    left, right = np.arange(32).reshape(2, 16), np.ones((2, 16), int)
    inputs = simple_inputs(as_strings(left), as_strings(right), "BYTES", binary=binary)
    result = triton.infer("simple_string", inputs)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), as_strings(left + right))


def test_simple_identity_gives_back_any_text(triton: InferenceServerClient) -> None:
    text = np.array([[b"", "grün ☃".encode(), b"a\0b", b"x" * 100_000]], object)
    result = triton.infer("simple_identity", [given("INPUT0", text, "BYTES")])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), text)


@pytest.mark.parametrize("binary", [(True, False), (False, True), (True, True), (False, False)])
def test_each_output_comes_in_the_form_asked_for(triton: InferenceServerClient, binary: tuple[bool, bool]) -> None:
    left, right = pair(2)
    outputs = [InferRequestedOutput(f"OUTPUT{index}", binary_data=each) for index, each in enumerate(binary)]
    result = triton.infer("simple", simple_inputs(left, right), outputs=outputs)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)
    assert ["data" not in result.get_output(f"OUTPUT{index}") for index in range(2)] == list(binary)


@pytest.mark.parametrize("names", [["OUTPUT1"], ["OUTPUT1", "OUTPUT0"], ["OUTPUT0", "OUTPUT1"], []])
def test_requested_outputs_come_alone_and_in_their_order(triton: InferenceServerClient, names: list[str]) -> None:
    left, right = pair()
    outputs = [InferRequestedOutput(each) for each in names] or None
    result = triton.infer("simple", simple_inputs(left, right), outputs=outputs)
    got = [each["name"] for each in result.get_response()["outputs"]]
    assert got == (names or ["OUTPUT0", "OUTPUT1"])
    for name in got:
        np.testing.assert_array_equal(result.as_numpy(name), left + right if name == "OUTPUT0" else left - right)


@pytest.mark.parametrize("request_id", ["1", "a" * 4096, "ä ☃ '\"\n"])
@pytest.mark.parametrize("binary", [True, False])
def test_request_id_comes_back(triton: InferenceServerClient, request_id: str, binary: bool) -> None:
    if not request_id.isascii() and binary:
        pytest.skip("the client counts characters of the JSON, where bytes are meant")
    result = triton.infer("simple", simple_inputs(*pair(), binary=binary), request_id=request_id)
    assert result.get_response()["id"] == request_id


def test_parameters_priority_timeout_and_sequence_are_accepted(triton: InferenceServerClient) -> None:
    left, right = pair()
    result = triton.infer(
        "simple",
        simple_inputs(left, right),
        priority=3,
        timeout=20_000_000,
        sequence_id=(1 << 64) - 1,
        sequence_start=True,
        sequence_end=True,
        parameters={"word": "w", "whole": 3, "truth": True, "real": 0.5},
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


@pytest.mark.parametrize("response_algorithm", [*ALGORITHMS, None])
@pytest.mark.parametrize("request_algorithm", [*ALGORITHMS, None])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_requests_and_responses_are_understood(
    triton: InferenceServerClient, request_algorithm: str | None, response_algorithm: str | None, binary: bool
) -> None:
    left, right = pair(8)
    result = triton.infer(
        "simple",
        simple_inputs(left, right, binary=binary),
        outputs=[InferRequestedOutput(f"OUTPUT{index}", binary_data=binary) for index in range(2)],
        request_compression_algorithm=request_algorithm,
        response_compression_algorithm=response_algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


def test_prepared_bodies_and_their_results_fit(triton: InferenceServerClient) -> None:
    left, right = pair()
    body, size = InferenceServerClient.generate_request_body(simple_inputs(left, right))
    headers = {"Inference-Header-Content-Length": str(size), "Content-Encoding": "deflate"}
    response = triton._post("v2/models/simple/infer", zlib.compress(body), headers, None)
    length = int(response.get("Inference-Header-Content-Length"))
    result = InferenceServerClient.parse_response_body(response.read(), header_length=length)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


def test_async_infer_answers_each_request_with_its_own_result(triton: InferenceServerClient) -> None:
    asked = [pair(seed=seed) for seed in range(40)]
    waiting = [
        triton.async_infer("simple", simple_inputs(*each), request_id=str(index)) for index, each in enumerate(asked)
    ]
    for index, ((left, right), each) in enumerate(zip(asked, waiting, strict=True)):
        result = each.get_result()
        assert result.get_response()["id"] == str(index)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


def test_newest_version_answers_unless_one_is_named(triton: InferenceServerClient) -> None:
    x: Array = np.array([[1.0, 2.0]], np.float32)
    for asked, factor in (("", 3), ("2", 2), ("3", 3)):
        result = triton.infer("versions", [given("x", x, "FP32")], model_version=asked)
        np.testing.assert_array_equal(result.as_numpy("y"), x * factor)
        assert result.get_response()["model_version"] == str(factor)


def test_streaming_model_is_answered_where_it_gives_one_response(triton: InferenceServerClient) -> None:
    one = triton.infer("countdown", [given("x", np.array([1], np.float32), "FP32")])
    assert one.as_numpy("y").tolist() == [1.0]
    with _refused("501", "more than one response"):
        triton.infer("countdown", [given("x", np.array([2], np.float32), "FP32")])


# Model control.


def test_models_are_loaded_and_unloaded(start: Callable[[str], ServerHere], tmp_path: Path) -> None:
    write_repository(tmp_path / "models")
    server = start(SPEC)
    with InferenceServerClient(f"127.0.0.1:{server.host.http_port}") as client:
        client.unload_model("simple")
        assert not client.is_model_ready("simple")
        with _refused("503", "simple"):
            client.infer("simple", simple_inputs(*pair()))
        client.load_model("simple")
        assert client.is_model_ready("simple")
        write_versions(tmp_path / "models", "versions", 4)
        client.load_model("versions")
        assert _ready_versions(client) == {"3", "4"}, "the newest two, as the spec says"
        client.load_model("versions", config='{"version_policy": {"specific": {"versions": [1]}}}')
        assert _ready_versions(client) == {"3", "4"}, "the spec's word counts, not a client's"


def _ready_versions(client: InferenceServerClient) -> set[str]:
    listed = client.get_model_repository_index()
    return {each["version"] for each in listed if (each["name"], each["state"]) == ("versions", "READY")}


def test_loading_what_does_not_exist_is_refused(triton: InferenceServerClient) -> None:
    with _refused("404", "no-such-model"):
        triton.load_model("no-such-model")
    with _refused("404", "no-such-model"):
        triton.unload_model("no-such-model")


def test_models_sent_as_files_are_refused(triton: InferenceServerClient) -> None:
    with _refused("501", "'file:1/model.onnx'"):
        triton.load_model("simple", config="{}", files={"file:1/model.onnx": base64.b64encode(b"model")})
    assert triton.is_model_ready("simple")


# What is not offered.


def test_classification_is_refused(triton: InferenceServerClient) -> None:
    with _refused("501", "output 'OUTPUT0'", "'classification'"):
        triton.infer("simple", simple_inputs(*pair()), outputs=[InferRequestedOutput("OUTPUT0", class_count=3)])


def test_shared_memory_of_any_tensor_is_refused(triton: InferenceServerClient) -> None:
    there = InferInput("INPUT0", [1, 16], "INT32")
    there.set_shared_memory("region", 64)
    here = given("INPUT1", pair()[1], "INT32")
    for inputs in ([there, here], [here, there]):
        with _refused("501", "input 'INPUT0'", "'shared_memory_region'"):
            triton.infer("simple", inputs)
    output = InferRequestedOutput("OUTPUT1")
    output.set_shared_memory("region", 64)
    with _refused("501", "output 'OUTPUT1'", "'shared_memory_region'"):
        triton.infer("simple", simple_inputs(*pair()), outputs=[output])


def test_calls_of_extensions_not_offered_say_so(triton: InferenceServerClient) -> None:
    calls: list[Callable[[], object]] = [
        triton.get_trace_settings,
        lambda: triton.get_trace_settings("simple"),
        lambda: triton.update_trace_settings(settings={"trace_rate": "1"}),
        lambda: triton.update_trace_settings("simple", settings={"trace_rate": "1"}),
        triton.get_log_settings,
        lambda: triton.update_log_settings({"log_info": True}),
        triton.get_system_shared_memory_status,
        lambda: triton.get_system_shared_memory_status("region"),
        lambda: triton.register_system_shared_memory("region", "/key", 8),
        triton.unregister_system_shared_memory,
        lambda: triton.unregister_system_shared_memory("region"),
        triton.get_cuda_shared_memory_status,
        lambda: triton.register_cuda_shared_memory("region", b"handle", 0, 8),
        triton.unregister_cuda_shared_memory,
    ]
    for call in calls:
        with _refused("501", "this server offers no shared memory"):
            call()


def test_function_is_served_like_any_model(triton: InferenceServerClient) -> None:
    text = np.array([[b"abc"], [b""]], object)
    result = triton.infer("shout", [given("text", text, "BYTES")])
    np.testing.assert_array_equal(result.as_numpy("loud"), np.array([[b"ABC"], [b""]], object))
    with _refused("400", "'gated'", "input 'x'", "expected shape"):
        triton.infer("gated", [given("x", np.zeros((1, 2), np.float32), "FP32")])
    assert triton_numbers(1.0)[0].shape() == [1, 1]
