"""Every unary call of the unmodified `tritonclient.grpc`, against Triton's own example models."""

from __future__ import annotations

from importlib.metadata import version

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2

from tests.fakes import PATIENCE_S
from tests.serving.calls import AS_BYTES, Answers, as_strings, given, pair, refused, simple_inputs, status_of
from tests.serving.models import identity_of
from tests.serving.servers import ServerHere

# The server.


def test_server_is_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def test_server_metadata_has_the_name_the_spec_gives_and_the_extensions(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("vireo-under-test", version("vireo"))
    assert {"model_repository", "model_configuration", "statistics", "binary_tensor_data"} <= set(metadata.extensions)
    assert client.get_server_metadata(as_json=True)["name"] == "vireo-under-test"


# Models.


def test_ready_models_are_ready_and_unknown_ones_are_not(client: InferenceServerClient) -> None:
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("simple", "2"), "a client that waits for a version asks before it is there"
    assert not client.is_model_ready("no-such-model")


def test_model_metadata_names_tensors_with_the_batch_dimension(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("simple")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("simple", ["1"], "onnxruntime_onnx")
    expected = [(f"{side}{index}", "INT32", [-1, 16]) for side in ("INPUT", "OUTPUT") for index in range(2)]
    tensors = [*metadata.inputs, *metadata.outputs]
    assert [(each.name, each.datatype, list(each.shape)) for each in tensors] == expected


def test_model_metadata_as_json_is_what_triton_gives(client: InferenceServerClient) -> None:
    tensors = {
        f"{side}s": [{"name": f"{side.upper()}0", "datatype": "BYTES", "shape": ["-1", "-1"]}]
        for side in ("input", "output")
    }
    expected = {"name": "simple_identity", "versions": ["1"], "platform": "onnxruntime_onnx", **tensors}
    assert client.get_model_metadata("simple_identity", "1", as_json=True) == expected


def test_model_config_is_the_configured_one(client: InferenceServerClient) -> None:
    config = client.get_model_config("simple").config
    assert (config.name, config.platform, config.backend) == ("simple", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 8
    assert [(each.name, list(each.dims)) for each in config.input] == [("INPUT0", [16]), ("INPUT1", [16])]
    assert config.HasField("dynamic_batching")


def test_model_config_of_a_model_without_one_is_inferred(client: InferenceServerClient) -> None:
    config = client.get_model_config(identity_of("BYTES"), as_json=True)["config"]
    assert config["max_batch_size"] == 64
    assert config["input"] == [{"name": "x", "data_type": "TYPE_STRING", "dims": ["2"]}]
    assert config["backend"] == "onnxruntime"


def test_model_config_of_a_function_says_python(client: InferenceServerClient) -> None:
    config = client.get_model_config("countdown").config
    assert (config.backend, config.max_batch_size, list(config.input[0].dims)) == ("python", 0, [1])


def test_streaming_function_is_announced_as_decoupled(client: InferenceServerClient) -> None:
    assert client.get_model_config("countdown").config.model_transaction_policy.decoupled
    assert not client.get_model_config("double").config.model_transaction_policy.decoupled


def test_repository_index_lists_every_version_and_its_state(client: InferenceServerClient) -> None:
    entries = {(each.name, each.version): each.state for each in client.get_model_repository_index().models}
    assert entries["simple", "1"] == entries["versions", "2"] == entries["versions", "3"] == "READY"
    assert entries["double", "1"] == "READY"
    assert ("versions", "1") not in entries
    listed = client.get_model_repository_index(as_json=True)["models"]
    assert {"name": "simple", "version": "1", "state": "READY"} in listed


def test_statistics_count_requests_rows_and_executions(client: InferenceServerClient) -> None:
    def counted() -> tuple[int, int, int]:
        (each,) = client.get_inference_statistics("simple_string", "1").model_stats
        return each.inference_count, each.execution_count, each.inference_stats.success.count

    before = counted()
    left, right = pair(3)
    client.infer("simple_string", simple_inputs(as_strings(left), as_strings(right), "BYTES"))
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [3, 1, 1]
    (stats,) = client.get_inference_statistics("simple_string").model_stats
    assert stats.last_inference > 1_600_000_000_000, "milliseconds since the epoch"
    assert 3 in {each.batch_size for each in stats.batch_stats}
    timed = stats.inference_stats
    for stage in (timed.success, timed.queue, timed.compute_input, timed.compute_infer, timed.compute_output):
        assert stage.count == timed.success.count
    stages_ns = timed.queue.ns + timed.compute_input.ns + timed.compute_infer.ns + timed.compute_output.ns
    assert 0 < stages_ns <= timed.success.ns


def test_statistics_of_every_model_come_without_a_name(client: InferenceServerClient) -> None:
    listed = client.get_inference_statistics(as_json=True)["model_stats"]
    assert {"simple", "simple_string", "double"} <= {each["name"] for each in listed}
    assert [each["version"] for each in listed if each["name"] == "versions"] == ["2", "3"]


# Inference.


def test_simple_adds_and_subtracts(client: InferenceServerClient) -> None:
    left, right = pair(8)
    result = client.infer("simple", simple_inputs(left, right))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("simple", "1", "")
    assert len(response.raw_output_contents) == 2


def test_simple_string_adds_and_subtracts_numbers_written_out(client: InferenceServerClient) -> None:
    left, right = np.arange(32).reshape(2, 16), np.ones((2, 16), int)
    result = client.infer("simple_string", simple_inputs(as_strings(left), as_strings(right), "BYTES"))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), as_strings(left + right))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), as_strings(left - right))


def test_simple_identity_gives_back_any_text(client: InferenceServerClient) -> None:
    text = np.array([[b"", "grün ☃".encode(), b"a\0b", b"x" * 100_000]], object)
    result = client.infer("simple_identity", [given("INPUT0", text, "BYTES")])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), text)


def test_function_over_text_answers_text(client: InferenceServerClient) -> None:
    result = client.infer("shout", [given("text", np.array([[b"abc"], [b""]], object), "BYTES")])
    np.testing.assert_array_equal(result.as_numpy("loud"), np.array([[b"ABC"], [b""]], object))


def test_result_as_json_has_every_field(client: InferenceServerClient) -> None:
    response = client.infer("simple", simple_inputs(*pair()), request_id="j").get_response(as_json=True)
    assert response["id"] == "j"
    assert response["outputs"][0] == {"name": "OUTPUT0", "datatype": "INT32", "shape": ["1", "16"]}


@pytest.mark.parametrize("names", [["OUTPUT1"], ["OUTPUT1", "OUTPUT0"], ["OUTPUT0", "OUTPUT1"], []])
def test_requested_outputs_come_alone_and_in_their_order(client: InferenceServerClient, names: list[str]) -> None:
    left, right = pair()
    outputs = [InferRequestedOutput(each) for each in names] or None
    result = client.infer("simple", simple_inputs(left, right), outputs=outputs)
    got = [each.name for each in result.get_response().outputs]
    assert got == (names or ["OUTPUT0", "OUTPUT1"])
    for name in got:
        np.testing.assert_array_equal(result.as_numpy(name), left + right if name == "OUTPUT0" else left - right)


@pytest.mark.parametrize("request_id", ["1", "a" * 4096, "ä ☃ '\"\n"])
def test_request_id_comes_back(client: InferenceServerClient, request_id: str) -> None:
    assert client.infer("simple", simple_inputs(*pair()), request_id=request_id).get_response().id == request_id


def test_parameters_priority_timeout_and_sequence_are_accepted(client: InferenceServerClient) -> None:
    left, right = pair()
    result = client.infer(
        "simple",
        simple_inputs(left, right),
        priority=3,
        timeout=20_000_000,
        sequence_id=7,
        sequence_start=True,
        sequence_end=True,
        parameters={"word": "w", "whole": 3, "truth": True, "real": 0.5},
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_understood(client: InferenceServerClient, algorithm: str) -> None:
    zeros = np.zeros((8, 16), np.int32)
    result = client.infer("simple", simple_inputs(zeros, zeros), compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), zeros)


def test_async_infer_answers_on_its_callback(client: InferenceServerClient) -> None:
    answers, asked = Answers(), {str(seed): pair(seed=seed) for seed in range(20)}
    for name, (left, right) in asked.items():
        client.async_infer("simple", simple_inputs(left, right), answers, request_id=name)
    results = answers.wait(20)
    assert sorted(each.get_response().id for each in results) == sorted(asked)
    for result in results:
        left, right = asked[result.get_response().id]
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


def test_inputs_may_be_set_again_for_the_next_request(client: InferenceServerClient) -> None:
    inputs = simple_inputs(*pair())
    for seed in range(3):
        left, right = pair(seed=seed)
        inputs[0].set_data_from_numpy(left)
        inputs[1].set_data_from_numpy(right)
        np.testing.assert_array_equal(client.infer("simple", inputs).as_numpy("OUTPUT0"), left + right)


# Versions.


def test_newest_version_answers_unless_one_is_named(client: InferenceServerClient) -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    for asked, factor in (("", 3), ("2", 2), ("3", 3)):
        result = client.infer("versions", [given("x", x, "FP32")], model_version=asked)
        np.testing.assert_array_equal(result.as_numpy("y"), x * factor)
        assert result.get_response().model_version == str(factor)


def test_version_beyond_the_policy_is_not_served(client: InferenceServerClient) -> None:
    with refused("NOT_FOUND", "model 'versions' has no version 1 ready; ready: 2, 3"):
        client.infer("versions", [given("x", np.zeros((1, 2), np.float32), "FP32")], model_version="1")
    assert list(client.get_model_metadata("versions").versions) == ["2", "3"]
    assert not client.is_model_ready("versions", "1")


# What is not offered.


def test_classification_is_refused(client: InferenceServerClient) -> None:
    with refused("UNIMPLEMENTED", "output 'OUTPUT0'", "'classification'"):
        client.infer("simple", simple_inputs(*pair()), outputs=[InferRequestedOutput("OUTPUT0", class_count=3)])


def test_shared_memory_of_any_tensor_is_refused(client: InferenceServerClient) -> None:
    there = InferInput("INPUT0", [1, 16], "INT32")
    there.set_shared_memory("region", 64)
    here = given("INPUT1", pair()[1], "INT32")
    for inputs in ([there, here], [here, there]):
        with refused("UNIMPLEMENTED", "input 'INPUT0'", "'shared_memory_"):
            client.infer("simple", inputs)
    output = InferRequestedOutput("OUTPUT1")
    output.set_shared_memory("region", 64)
    with refused("UNIMPLEMENTED", "output 'OUTPUT1'", "'shared_memory_"):
        client.infer("simple", simple_inputs(*pair()), outputs=[output])


def test_calls_of_extensions_not_offered_say_so(client: InferenceServerClient) -> None:
    calls = {
        "TraceSetting": client.get_trace_settings,
        "LogSettings": client.get_log_settings,
        "SystemSharedMemoryStatus": client.get_system_shared_memory_status,
        "SystemSharedMemoryRegister": lambda: client.register_system_shared_memory("a", "/a", 8),
        "SystemSharedMemoryUnregister": client.unregister_system_shared_memory,
        "CudaSharedMemoryStatus": client.get_cuda_shared_memory_status,
        "CudaSharedMemoryRegister": lambda: client.register_cuda_shared_memory("a", b"", 0, 8),
        "CudaSharedMemoryUnregister": client.unregister_cuda_shared_memory,
    }
    for name, call in calls.items():
        with refused("UNIMPLEMENTED", f"{name} is not supported"):
            call()


def test_every_method_triton_has_is_known(server: ServerHere) -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    with grpc.insecure_channel(server.address) as channel:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            try:
                if method.server_streaming:
                    assert list(channel.stream_stream(path, *AS_BYTES)(iter([]), timeout=PATIENCE_S)) == []
                else:
                    channel.unary_unary(path, *AS_BYTES)(b"", timeout=PATIENCE_S)
            except grpc.RpcError as error:
                code, text = status_of(error)
                assert code != "UNIMPLEMENTED" or "is not supported by this server" in text, method.name
