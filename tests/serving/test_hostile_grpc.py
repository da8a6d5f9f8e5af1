"""Thousands of random malformed messages: each gets a status it deserves, and the server still serves.

A failure is replayed by the line it prints: `VIREO_HOSTILE_SEED=... pytest tests/serving/test_hostile_grpc.py`.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from engine import DATATYPES
from tests.fakes import PATIENCE_S
from tests.serving.calls import AS_BYTES, SERVICE, message, pair
from tests.serving.hostility import SEED, drawing, nothing_logged_as_an_error
from tests.serving.models import SERVER, simple, write_model
from tests.serving.servers import ServerHere

BATCHES, MESSAGES_EACH = 250, 10
DESERVED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "FAILED_PRECONDITION"}
"""And DEADLINE_EXCEEDED where a timeout was sent in the message. Never INTERNAL or UNKNOWN."""

METHODS = [
    method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if not method.client_streaming and method.name not in ("ModelInfer", "RepositoryModelUnload")
]  # fmt: skip
"""Unloading has a server of its own: a message that happens to be right would take a model from the other tests."""

LEFT, RIGHT = pair()
GOOD = message(
    "simple", ("INPUT0", "INT32", (1, 16), LEFT.tobytes()), ("INPUT1", "INT32", (1, 16), RIGHT.tobytes()), id="good"
)

hostile = drawing(BATCHES)

names = st.one_of(
    st.sampled_from(["simple", "INPUT0", "INPUT1", "OUTPUT0", "x", "double", "simple_string", "identity_fp16", ""]),
    st.text(max_size=20),
    st.integers(0, 5000).map("n".__mul__),
)
sizes = st.one_of(st.integers(-3, 20), st.sampled_from([2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]))
shapes = st.one_of(st.just([1, 16]), st.lists(sizes, max_size=4), st.integers(0, 40).map([1].__mul__))
datatypes = st.one_of(st.sampled_from([*DATATYPES, "STRING", "int32", "FP8"]), st.text(max_size=8))
raws = st.one_of(
    st.just(LEFT.tobytes()),
    st.binary(max_size=80),
    st.integers(0, 2**32 - 1).map(lambda size: size.to_bytes(4, "little") + b"abc"),
)


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, pb.InferParameter]:
    """Parameters of every kind, known names among them."""
    known = ["timeout", "binary_data_size", "classification", "shared_memory_region", "sequence_id", "priority"]
    made = {}
    for key in draw(st.lists(st.one_of(st.sampled_from(known), st.text(max_size=10)), max_size=2)):
        kind = draw(st.sampled_from(["bool_param", "int64_param", "string_param", "double_param", "uint64_param", ""]))
        value: Any = {
            "bool_param": st.booleans(),
            "int64_param": st.integers(-(2**63), 2**63 - 1),
            "uint64_param": st.integers(0, 2**64 - 1),
            "double_param": st.floats(),
            "string_param": st.text(max_size=300),
        }.get(kind, st.none())
        made[key] = pb.InferParameter(**{kind: draw(value)}) if kind else pb.InferParameter()
    return made


@st.composite
def contents(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Typed contents in one or two fields, whether they suit the datatype or not."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "bool_contents": st.booleans(),
        "int_contents": st.integers(-(2**31), 2**31 - 1),
        "int64_contents": st.integers(-(2**63), 2**63 - 1),
        "uint_contents": st.integers(0, 2**32 - 1),
        "uint64_contents": st.integers(0, 2**64 - 1),
        "fp32_contents": st.floats(width=32),
        "fp64_contents": st.floats(),
        "bytes_contents": st.binary(max_size=10),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True))
    return {name: draw(st.lists(fields[name], max_size=20)) for name in chosen}


@st.composite
def infer_requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A well-formed message that says what it likes."""
    made = pb.ModelInferRequest(model_name=draw(names), model_version=draw(st.sampled_from(["", "1", "7", "-1", "x"])))
    made.id = draw(names)
    for key, value in draw(parameters()).items():
        made.parameters[key].CopyFrom(value)
    for _ in range(draw(st.integers(0, 3))):
        typed = draw(contents()) if draw(st.booleans()) else {}
        each = made.inputs.add(name=draw(names), datatype=draw(datatypes), shape=draw(shapes), contents=typed)
        for key, value in draw(parameters()).items():
            each.parameters[key].CopyFrom(value)
    made.raw_input_contents.extend(draw(st.lists(raws, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        made.outputs.add(name=draw(names))
    return made


@st.composite
def near_misses(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A right message with one thing changed."""
    made = pb.ModelInferRequest()
    made.CopyFrom(GOOD)
    which = draw(st.integers(0, 1))
    field = draw(st.sampled_from(["name", "datatype", "shape", "raw", "model", "twice", "output"]))
    if field == "raw":
        made.raw_input_contents[which] = draw(raws)
    elif field == "model":
        made.model_name = draw(names)
    elif field == "twice":
        made.inputs.add().CopyFrom(made.inputs[which])
        made.raw_input_contents.append(draw(raws))
    elif field == "output":
        made.outputs.add(name=draw(names))
    elif field == "shape":
        made.inputs[which].shape[:] = draw(shapes)
    else:
        setattr(made.inputs[which], field, draw(names if field == "name" else datatypes))
    return made


@st.composite
def crowds(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A right message with far too many of something, by one name or by as many."""
    made = pb.ModelInferRequest()
    made.CopyFrom(GOOD)
    many = draw(st.sampled_from([1023, 1024, 1025, 3000]))
    given_names = ["INPUT0"] * many if draw(st.booleans()) else [f"n{number}" for number in range(many)]
    what = draw(st.sampled_from(["inputs", "raws", "outputs", "parameters", "elements"]))
    if what == "inputs":
        kind = pb.ModelInferRequest.InferInputTensor
        made.inputs.extend(kind(name=name, datatype="INT32", shape=[1]) for name in given_names)
    elif what == "raws":
        made.raw_input_contents.extend([b""] * many)
    elif what == "outputs":
        made.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in given_names)
    elif what == "parameters":
        for name in given_names:
            made.parameters[name].int64_param = many
    else:
        made.inputs[0].contents.int_contents.extend([1] * (many * 16))
        made.inputs[0].shape[:] = [many, 16]
        del made.raw_input_contents[draw(st.integers(0, 2)) :]
    return made


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A serialised message cut short, with bytes overwritten, put in or doubled."""
    data = bytearray(draw(st.one_of(st.just(GOOD), infer_requests())).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["cut", "overwrite", "insert", "double"]))
        if how == "cut":
            del data[at:]
        elif how == "overwrite":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        else:
            data += data[at:]
    return bytes(data)


@st.composite
def controls(draw: st.DrawFn) -> bytes:
    """A well-formed message of a method other than inference: first a name or two, then parameters."""
    made = pb.RepositoryModelLoadRequest(repository_name=draw(names), model_name=draw(names))
    for key, value in draw(parameters()).items():
        which = value.WhichOneof("parameter_choice")
        if which in ("bool_param", "int64_param", "string_param"):
            setattr(made.parameters[key], which, getattr(value, which))
    if draw(st.booleans()):
        made.parameters["config"].string_param = draw(
            st.one_of(st.text(max_size=30), st.just('{"max_batch_size": -1}'))
        )
    plain = pb.ModelReadyRequest(name=draw(names), version=draw(st.text(max_size=4)))
    encoded: bytes = draw(st.sampled_from([made, plain])).SerializeToString()
    return encoded


messages = st.one_of(
    infer_requests().map(pb.ModelInferRequest.SerializeToString),
    near_misses().map(pb.ModelInferRequest.SerializeToString),
    near_misses().map(pb.ModelInferRequest.SerializeToString),
    crowds().map(pb.ModelInferRequest.SerializeToString),
    damaged(),
    damaged(),
    st.binary(max_size=60),
)


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error() -> Iterator[None]:
    with nothing_logged_as_an_error("vireo", "asyncio", "grpc"):
        yield


@pytest.fixture(scope="module")
def channel(server: ServerHere) -> Iterator[grpc.Channel]:
    """A connection to the server under test."""
    with grpc.insecure_channel(server.address) as made:
        yield made


def _method(channel: grpc.Channel, name: str) -> Any:  # noqa: ANN401  grpcio's callable
    return channel.unary_unary(f"/{SERVICE}/{name}", *AS_BYTES)


def _check(call: Any, sent: bytes) -> None:  # noqa: ANN401  grpcio's future
    error = call.exception(PATIENCE_S)
    code = "OK" if error is None else error.code().name
    if code != "DEADLINE_EXCEEDED" or b"timeout" not in sent:
        assert code in DESERVED, f"{code}: {error.details()} to {sent[:2000]!r}"
    if error is not None:
        assert error.details(), f"{code} without a word to {sent!r}"


def _check_serves(channel: grpc.Channel) -> None:
    answer = pb.ModelInferResponse.FromString(_method(channel, "ModelInfer")(GOOD.SerializeToString()))
    assert answer.id == "good"
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.int32), (LEFT + RIGHT).ravel())


def test_malformed_inference_requests_are_refused_and_the_server_serves_on(channel: grpc.Channel) -> None:
    counted = 0

    @hostile
    @seed(SEED)
    @given(st.lists(messages, min_size=MESSAGES_EACH, max_size=MESSAGES_EACH))
    def run(batch: list[bytes]) -> None:
        nonlocal counted
        infer = _method(channel, "ModelInfer")
        for call, sent in [(infer.future(each), each) for each in batch]:
            _check(call, sent)
        counted += len(batch)
        _check_serves(channel)

    run()
    assert counted >= 2000


@pytest.mark.parametrize("method", METHODS)
def test_malformed_messages_to_every_other_method_are_refused(channel: grpc.Channel, method: str) -> None:
    _throw(channel, method)
    _check_serves(channel)


def _throw(channel: grpc.Channel, method: str) -> None:
    """Random messages at a method."""

    @settings(hostile, max_examples=40)
    @seed(SEED)
    @given(st.lists(st.one_of(st.binary(max_size=40), controls(), damaged()), min_size=3, max_size=3))
    def run(batch: list[bytes]) -> None:
        call = _method(channel, method)
        for each, sent in [(call.future(each), each) for each in batch]:
            _check(each, sent)

    run()


def test_malformed_messages_that_unload_are_refused(start: Callable[[str], ServerHere], tmp_path: Path) -> None:
    write_model(tmp_path / "models", "simple", simple())
    running = start(f"{SERVER}repository: {{path: models, control: explicit}}")
    with grpc.insecure_channel(running.address) as own:
        _throw(own, "RepositoryModelUnload")
        load, named = _method(own, "RepositoryModelLoad"), pb.RepositoryModelLoadRequest(model_name="simple")
        load(named.SerializeToString())
        _check_serves(own)


def test_every_malformed_request_of_a_stream_gets_an_answer_and_the_stream_lives_on(channel: grpc.Channel) -> None:
    sending: queue.Queue[bytes | None] = queue.Queue()
    answers = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", *AS_BYTES)(
        iter(sending.get, None), timeout=6 * PATIENCE_S
    )

    @settings(hostile, max_examples=60)
    @seed(SEED)
    @given(st.lists(messages, min_size=5, max_size=5))
    def run(batch: list[bytes]) -> None:
        for each in batch:
            sending.put(each)
            assert pb.ModelStreamInferResponse.FromString(next(answers)).ByteSize()
        sending.put(GOOD.SerializeToString())
        assert pb.ModelStreamInferResponse.FromString(next(answers)).infer_response.id == "good"

    run()
    sending.put(None)
    assert list(answers) == []
