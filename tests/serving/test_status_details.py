"""What an error says beside its code and message: `google.rpc` details, read by the stock client of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc import service_pb2 as pb

from engine import Internal, ResourceExhausted, TooLarge, Unavailable, VireoError, limits
from serving.http_body import UnknownEncoding
from serving.status import grpc_code, told, trailing_metadata
from tests.fakes import PATIENCE_S, Gate
from tests.serving.calls import AS_BYTES, SERVICE, Answers, message, numbers, stub_of, typed
from tests.serving.models import MEETING, SERVER
from tests.serving.servers import ServerHere, eventually
from tests.serving.test_scheduling import FULL

Start = Callable[[str], ServerHere]
Stub = Any
"""A generated one."""


@pytest.fixture
def stub(server: ServerHere) -> Iterator[Stub]:
    """A plain stub of the server with every model."""
    with stub_of(server.address) as made:
        yield made


class Told:
    """What a failed call said."""

    def __init__(self, call: grpc.Call) -> None:
        self.status: Status = rpc_status.from_call(call)  # refuses what contradicts the code or the message
        assert self.status is not None, f"no details beside {call.code()}: {call.details()}"
        assert (self.status.code, self.status.message) == (call.code().value[0], call.details())
        self.trailing = {str(key): value for key, value in call.trailing_metadata() or ()}
        self.retry: RetryInfo | None = None
        for each in self.status.details:
            if each.Is(ErrorInfo.DESCRIPTOR):
                self.info = ErrorInfo.FromString(each.value)
            else:
                self.retry = RetryInfo.FromString(each.value)


@contextmanager
def told_by() -> Iterator[list[Told]]:
    """The call inside fails; the list then has what it said."""
    found: list[Told] = []
    with pytest.raises(grpc.RpcError) as caught:
        yield found
    found.append(Told(cast(grpc.Call, caught.value)))


def _check(told: list[Told], reason: str, *, when: bool = False) -> None:
    (one,) = told
    assert (one.info.reason, one.info.domain) == (reason, "vireo")
    assert (one.retry is not None) is when


def test_error_names_its_class(stub: Stub) -> None:
    for reason, request in (
        ("NOT_FOUND", message("no-such-model")),
        ("INVALID_ARGUMENT", message("simple")),
        ("NOT_FOUND", message("é%\n\0" * 30)),
    ):
        with told_by() as told:
            stub.ModelInfer(request)
        _check(told, reason)
    with told_by() as told:
        stub.TraceSetting(pb.TraceSettingRequest())
    _check(told, "UNIMPLEMENTED")


def test_error_of_a_model_with_the_longest_of_messages_reaches_the_client_whole(stub: Stub) -> None:
    with told_by() as told:
        stub.ModelInfer(typed("faulty", "x", "FP32", (1,), fp32_contents=[1.0]))
    _check(told, "INTERNAL")
    assert len(told[0].status.message.encode()) > limits.ERROR_BYTES_MAX


def test_unforeseen_error_is_told_like_any_other(
    stub: Stub, server: ServerHere, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.engine, "describe", fail)
    with told_by() as told:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="simple"))
    _check(told, "INTERNAL")
    assert told[0].status.message == "internal error: ZeroDivisionError"
    assert "secret" in caplog.text


def test_stream_that_ends_in_an_error_tells_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("token")
    server = start(f"server: {{grpc_port: 0, http_port: null, auth: {{tokens_file: tokens}}}}\n{MEETING}")
    with stub_of(server.address) as stub, told_by() as told:
        list(stub.ModelStreamInfer(iter([message("meeting")])))
    _check(told, "UNAUTHENTICATED")


def test_full_queue_says_when_to_try_again(start: Start, gate: Gate) -> None:
    server, answers = start(SERVER + FULL), Answers()
    with InferenceServerClient(server.address) as client, stub_of(server.address) as stub:
        client.async_infer("gated", numbers(1.0), answers)
        gate.wait_entered()
        for value in (2.0, 3.0):
            client.async_infer("gated", numbers(value), answers)
        eventually(lambda: server.waiting("gated") == 2, "the queue is full")
        with told_by() as told:
            stub.ModelInfer(typed("gated", "x", "FP32", (1, 1), fp32_contents=[5.0]))
        streamed = stub.ModelStreamInfer(iter([typed("gated", "x", "FP32", (1, 1), fp32_contents=[5.0])]))
        (answer,) = [each for each in streamed if "queue is full" in each.error_message]
        assert answer.infer_response.parameters["retry_after_ms"].int64_param > 0
        gate.open()
        answers.wait(3)
    _check(told, "RESOURCE_EXHAUSTED", when=True)
    assert told[0].retry is not None
    assert told[0].retry.retry_delay.ToMilliseconds() == int(told[0].trailing["grpc-retry-pushback-ms"]) > 0


@pytest.mark.parametrize("path", ["/no.such/Method", f"/{SERVICE}/NoSuchMethod"])
def test_refusal_by_the_transport_itself_is_told_likewise(server: ServerHere, transport: str, path: str) -> None:
    if transport == "grpcio":
        pytest.skip("grpcio refuses unknown methods with no more than a code")
    with grpc.insecure_channel(server.address) as channel, told_by() as told:
        channel.unary_unary(path, *AS_BYTES)(b"", timeout=PATIENCE_S)
    _check(told, "UNIMPLEMENTED")


def test_broken_message_on_an_open_stream_is_told_likewise(start: Start, transport: str) -> None:
    if transport == "grpcio":
        pytest.skip("grpcio refuses it with no more than a code")
    server = start(f"server: {{grpc_port: 0, http_port: null, message_bytes_max: 65536}}\n{MEETING}")
    with stub_of(server.address) as stub, told_by() as told:
        list(stub.ModelStreamInfer(iter([message("meeting", ("x", "FP32", (20_000, 1), bytes(80_000)))])))
    _check(told, "RESOURCE_EXHAUSTED")


# How it is encoded.


def _plainly(error: VireoError, reason: str, delay_ms: int | None) -> Status:
    """The same status, made the plain way."""
    status = Status(code=grpc_code(error), message=told(error))
    status.details.add().Pack(ErrorInfo(reason=reason, domain="vireo"))
    if delay_ms is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(delay_ms)
        status.details.add().Pack(retry)
    return status


@pytest.mark.parametrize(
    ("error", "reason", "delay_ms"),
    [
        (Internal("x" * 10_000), "INTERNAL", None),
        (TooLarge("large", retry_after_s=1), "TOO_LARGE", None),
        (ResourceExhausted("full", retry_after_s=0.05), "RESOURCE_EXHAUSTED", 50),
        (ResourceExhausted("full", retry_after_s=0), "RESOURCE_EXHAUSTED", 1),
        (Unavailable("é", retry_after_s=3600), "UNAVAILABLE", 3_600_000),
        (UnknownEncoding("br"), "UNKNOWN_ENCODING", None),
        (VireoError(""), "VIREO_ERROR", None),
    ],
)
def test_parts_encoded_apart_are_one_status(error: VireoError, reason: str, delay_ms: int | None) -> None:
    encoded = dict(trailing_metadata(error))["grpc-status-details-bin"]
    assert isinstance(encoded, bytes)
    assert Status.FromString(encoded) == _plainly(error, reason, delay_ms)
