"""Bad input: each kind refused with its gRPC code, and a message that names the object, the expected and the actual."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc import service_pb2 as pb

from engine import limits
from tests.serving.calls import AS_BYTES, SERVICE, message, numbers, pair, refused, simple_inputs, stub_of, typed
from tests.serving.models import SERVER
from tests.serving.servers import ServerHere

LEFT, RIGHT = (each.tobytes() for each in pair())
GOOD = (("INPUT0", "INT32", (1, 16), LEFT), ("INPUT1", "INT32", (1, 16), RIGHT))
HUGE = 1 << 62


def _first(
    datatype: str = "INT32", shape: tuple[int, ...] = (1, 16), raw: bytes = LEFT, name: str = "INPUT0"
) -> pb.ModelInferRequest:
    """`simple` with another first input."""
    return message("simple", (name, datatype, shape, raw), GOOD[1])


def _typed_and_raw() -> pb.ModelInferRequest:
    made = message("simple", *GOOD)
    made.inputs[0].contents.int_contents.append(1)
    return made


def _asking(*names: str) -> pb.ModelInferRequest:
    made = message("simple", *GOOD)
    for name in names:
        made.outputs.add(name=name)
    return made


def _raw_left_out() -> pb.ModelInferRequest:
    made = message("simple", *GOOD)
    del made.raw_input_contents[1]
    return made


def _bytes(raw: bytes, count: int = 1) -> pb.ModelInferRequest:
    return message("simple_identity", ("INPUT0", "BYTES", (1, count), raw))


def _length(count: int) -> bytes:
    return count.to_bytes(4, "little")


CASES: dict[str, tuple[pb.ModelInferRequest, str, tuple[str, ...]]] = {
    "unknown model": (
        message("simpel", *GOOD),
        "NOT_FOUND",
        ("unknown model: 'simpel' is not found", "nearest: 'simple'"),
    ),
    "no model": (message("", *GOOD), "NOT_FOUND", ("unknown model: '' is not found",)),
    "endless model name": (message("m" * 1000), "INVALID_ARGUMENT", ("model name", "1000 characters", "at most 256")),
    "unknown version": (
        message("simple", *GOOD, model_version="7"),
        "NOT_FOUND",
        ("'simple'", "version 7", "ready: 1"),
    ),
    "version that is no number": (message("simple", *GOOD, model_version="v1"), "INVALID_ARGUMENT", ("'v1'", "number")),
    "negative version": (message("simple", *GOOD, model_version="-1"), "INVALID_ARGUMENT", ("'-1'", "whole number")),
    "endless version": (message("simple", *GOOD, model_version="9" * 99), "INVALID_ARGUMENT", ("whole number",)),
    "endless id": (message("simple", *GOOD, id="i" * 4097), "INVALID_ARGUMENT", ("id", "4097", "at most 4096")),
    "wrong datatype": (_first("FP32"), "INVALID_ARGUMENT", ("'simple'", "'INPUT0'", "expected", "INT32", "got FP32")),
    "unknown datatype": (_first("INT23"), "INVALID_ARGUMENT", ("'INPUT0'", "datatype 'INT23'", "known:", "INT32")),
    "no datatype": (_first(""), "INVALID_ARGUMENT", ("input 'INPUT0'", "unknown datatype ''")),
    "unknown typed datatype": (
        typed("simple", "INPUT0", "X" * 100_000, (1,), int_contents=[1]),
        "INVALID_ARGUMENT",
        ("input 'INPUT0'", "unknown datatype", "(100000 characters)"),
    ),
    "wrong shape": (
        _first(shape=(2, 8)),
        "INVALID_ARGUMENT",
        ("'simple'", "'INPUT0'", "expected shape [-1, 16]", "got [2, 8]"),
    ),
    "wrong rank": (_first(shape=(16,)), "INVALID_ARGUMENT", ("'INPUT0'", "expected shape [-1, 16]", "got [16]")),
    "no shape": (_first(shape=(), raw=LEFT[:4]), "INVALID_ARGUMENT", ("'INPUT0'", "expected shape [-1, 16]", "got []")),
    "negative dimension": (_first(shape=(-1, 16)), "INVALID_ARGUMENT", ("'INPUT0'", "[-1, 16]", "negative")),
    "shape that overflows": (_first(shape=(HUGE, HUGE)), "INVALID_ARGUMENT", ("'INPUT0'", str(HUGE), "overflows")),
    "shape that overflows beside a zero": (_first(shape=(0, HUGE), raw=b""), "INVALID_ARGUMENT", ("overflows",)),
    "too many dimensions": (_first(shape=(1,) * 33), "INVALID_ARGUMENT", ("'INPUT0'", "33 dimensions", "at most 32")),
    "short raw content": (_first(raw=LEFT[:63]), "INVALID_ARGUMENT", ("'INPUT0'", "[1, 16]", "64 bytes", "got 63")),
    "long raw content": (_first(raw=LEFT + b"x"), "INVALID_ARGUMENT", ("'INPUT0'", "takes 64 bytes", "got 65")),
    "no raw content": (_first(raw=b""), "INVALID_ARGUMENT", ("'INPUT0'", "takes 64 bytes", "got 0")),
    "fewer raw contents than inputs": (_raw_left_out(), "INVALID_ARGUMENT", ("2 inputs but 1 raw contents",)),
    "typed content too short": (
        typed("simple", "INPUT0", "INT32", (1, 16), int_contents=[1, 2]),
        "INVALID_ARGUMENT",
        ("input 'INPUT0'", "[1, 16] takes 16 elements", "got 2"),
    ),
    "typed and raw content": (_typed_and_raw(), "INVALID_ARGUMENT", ("'INPUT0'", "both typed and raw")),
    "missing input": (message("simple", GOOD[0]), "INVALID_ARGUMENT", ("'simple'", "missing input 'INPUT1'")),
    "no input": (message("simple"), "INVALID_ARGUMENT", ("missing input 'INPUT0', 'INPUT1'",)),
    "extra input": (
        message("simple", *GOOD, ("INPUT2", "INT32", (1, 16), LEFT)),
        "INVALID_ARGUMENT",
        ("'simple' has no input 'INPUT2'", "nearest: 'INPUT"),
    ),
    "duplicate input": (message("simple", *GOOD, GOOD[0]), "INVALID_ARGUMENT", ("'INPUT0'", "more than once")),
    "absurdly many inputs": (
        message("simple", *[GOOD[0]] * 1025),
        "INVALID_ARGUMENT",
        ("1025 inputs", f"at most {limits.INPUTS_MAX}"),
    ),
    "unknown output": (_asking("OUTPUT2"), "INVALID_ARGUMENT", ("'simple' has no output 'OUTPUT2'", "nearest:")),
    "output asked for twice": (_asking("OUTPUT1", "OUTPUT1"), "INVALID_ARGUMENT", ("'OUTPUT1'", "more than once")),
    "zero rows": (
        message("simple", *((name, kind, (0, 16), b"") for name, kind, _, _ in GOOD)),
        "INVALID_ARGUMENT",
        ("'simple'", "zero rows", "at least 1"),
    ),
    "rows that disagree": (
        message("simple", GOOD[0], ("INPUT1", "INT32", (2, 16), RIGHT * 2)),
        "INVALID_ARGUMENT",
        ("'simple'", "disagree on the number of rows", "'INPUT0': 1", "'INPUT1': 2"),
    ),
    "more rows than max_batch_size": (
        message("simple", *((name, kind, (9, 16), raw * 9) for name, kind, _, raw in GOOD)),
        "INVALID_ARGUMENT",
        ("'simple'", "9 rows", "at most 8", "max_batch_size"),
    ),
    "value outside a table": (
        typed("lookup", "x", "INT64", (1, 1), int64_contents=[8]),
        "INVALID_ARGUMENT",
        ("model 'lookup' version 1", "idx=8", "[-8,7]"),
    ),
    "string that is no number": (
        message("simple_string", *((f"INPUT{i}", "BYTES", (1, 16), (_length(1) + b"?") * 16) for i in range(2))),
        "INVALID_ARGUMENT",
        ("model 'simple_string' version 1", "Cast"),
    ),
    "string that is not UTF-8": (_bytes(_length(1) + b"\xff"), "INVALID_ARGUMENT", ("input 'INPUT0'", "UTF-8")),
    "string cut short": (_bytes(_length(9) + b"abc"), "INVALID_ARGUMENT", ("element 0 claims 9 bytes, 3 are left",)),
    "string without its length": (_bytes(b"abc"), "INVALID_ARGUMENT", ("take at least 4 bytes, got 3",)),
    "string too many": (_bytes(_length(0) * 2), "INVALID_ARGUMENT", ("4 bytes follow the last of 1",)),
    "string of absurd length": (_bytes(_length((1 << 32) - 1)), "INVALID_ARGUMENT", ("element 0 claims 4294967295",)),
    "string too long": (
        _bytes(_length(limits.STRING_BYTES_MAX + 1) + b"x" * (limits.STRING_BYTES_MAX + 1)),
        "RESOURCE_EXHAUSTED",
        ("'INPUT0'", "element 0", str(limits.STRING_BYTES_MAX + 1), f"at most {limits.STRING_BYTES_MAX}"),
    ),
    "typed string too long": (
        typed("simple_identity", "INPUT0", "BYTES", (1, 1), bytes_contents=[b"x" * (limits.STRING_BYTES_MAX + 1)]),
        "RESOURCE_EXHAUSTED",
        ("'INPUT0'", "element 0", f"at most {limits.STRING_BYTES_MAX}"),
    ),
    "unary call of a model that streams": (
        typed("countdown", "x", "FP32", (1,), fp32_contents=[3.0]),
        "UNIMPLEMENTED",
        ("model 'countdown'", "more than one response", "a unary call needs exactly 1"),
    ),
    "timeout that is no number": (
        message("simple", *GOOD, parameters={"timeout": pb.InferParameter(string_param="soon")}),
        "INVALID_ARGUMENT",
        ("parameter 'timeout'", "microseconds", "'soon'"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_request_is_refused_by_name(server: ServerHere, case: str) -> None:
    request, code, words = CASES[case]
    with stub_of(server.address) as stub, refused(code, *words):
        stub.ModelInfer(request)


def test_bytes_that_are_no_message_are_refused(server: ServerHere) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for method, kind in (("ModelInfer", "ModelInferRequest"), ("ModelMetadata", "ModelMetadataRequest")):
            call = channel.unary_unary(f"/{SERVICE}/{method}", *AS_BYTES)
            with refused("INVALID_ARGUMENT", f"not a valid {kind} message"):
                call(b"\xff\xff\xff")


def test_unknown_method_is_unimplemented(server: ServerHere) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for path in (f"/{SERVICE}/ModelGuess", "/inference.Elsewhere/ModelInfer", "/"):
            with refused("UNIMPLEMENTED"):
                channel.unary_unary(path, *AS_BYTES)(b"")


def test_error_of_a_model_with_an_endless_message_arrives_cut(client: InferenceServerClient) -> None:
    with refused("INTERNAL", "model 'faulty' version 1", "RuntimeError: no luck\n", "... (200"):
        client.infer("faulty", [numbers(1.0)[0].set_shape([1])])


@pytest.mark.parametrize(
    "ask",
    [InferenceServerClient.get_model_metadata, InferenceServerClient.get_model_config,
     InferenceServerClient.get_inference_statistics],
)  # fmt: skip
def test_questions_about_the_unknown_are_refused_by_name(
    client: InferenceServerClient, ask: Callable[..., object]
) -> None:
    with refused("NOT_FOUND", "unknown model: 'doubel' is not found", "nearest: 'double'"):
        ask(client, "doubel")
    with refused("NOT_FOUND", "model 'double' has no version 3 ready; ready: 1"):
        ask(client, "double", "3")
    with refused("INVALID_ARGUMENT", "model version 'x' is not a whole number"):
        ask(client, "double", "x")


# Sizes.


@pytest.fixture
def small(start: Callable[[str], ServerHere]) -> Iterator[InferenceServerClient]:
    """A client of a server that takes and gives 64 KiB at most."""
    text = SERVER.replace("drain_s", "message_bytes_max: 65536, drain_s") + SMALL
    with InferenceServerClient(start(text).address) as made:
        yield made


SMALL = """
functions:
  double:
    call: tests.serving.functions:double
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
  enormous:
    call: tests.serving.functions:enormous
    inputs: {x: {datatype: FP32, shape: [1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1000]}}
"""


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_message_over_the_limit_is_refused_and_the_server_lives(
    small: InferenceServerClient, algorithm: str | None
) -> None:
    for _ in range(3):
        with refused("RESOURCE_EXHAUSTED", "larger than max"):
            small.infer("double", numbers(*[0.0] * 1_000_000), compression_algorithm=algorithm)
        assert small.infer("double", numbers(1.0), compression_algorithm=algorithm).as_numpy("y").item() == 2.0


def test_answer_over_the_limit_fails_alone(small: InferenceServerClient) -> None:
    assert small.infer("enormous", numbers(5)).as_numpy("y").shape == (5, 1000)
    with refused("RESOURCE_EXHAUSTED", "larger than max"):
        small.infer("enormous", numbers(100))
    assert small.infer("enormous", numbers(5)).as_numpy("y").shape == (5, 1000)


def test_good_requests_pass_after_all_that(client: InferenceServerClient) -> None:
    left, right = pair()
    assert (client.infer("simple", simple_inputs(left, right)).as_numpy("OUTPUT0") == left + right).all()
