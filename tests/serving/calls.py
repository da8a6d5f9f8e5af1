"""What the tests send, and what they expect to be told when it is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput, InferResult, service_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from engine import Array
from tests.fakes import PATIENCE_S

SERVICE = "inference.GRPCInferenceService"


def _unchanged(message: bytes) -> bytes:
    return message


AS_BYTES = (_unchanged, _unchanged)
"""Serializer and deserializer of calls on message bytes."""


def given(name: str, array: Array, datatype: str) -> InferInput:
    """An input over a whole array."""
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def numbers(*values: float, name: str = "x") -> list[InferInput]:
    """One FP32 input, a row for each value."""
    return [given(name, np.array(values, np.float32).reshape(-1, 1), "FP32")]


def count(start: float) -> list[InferInput]:
    """The input of `countdown`."""
    return [given("x", np.array([start], np.float32), "FP32")]


def pair(rows: int = 1, seed: int = 0) -> tuple[Array, Array]:
    """Two arrays for `simple`."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(-(2**30), 2**30, (2, rows, 16), dtype=np.int32)
    return left, right


def simple_inputs(left: Array, right: Array, datatype: str = "INT32") -> list[InferInput]:
    """Inputs of `simple`."""
    return [given("INPUT0", left, datatype), given("INPUT1", right, datatype)]


def as_strings(array: Array) -> Array:
    """Each number written out, as BYTES."""
    return np.array([str(each).encode() for each in array.ravel()], object).reshape(array.shape)


def message(model: str, *inputs: tuple[str, str, Sequence[int], bytes], **fields: object) -> pb.ModelInferRequest:
    """A ModelInferRequest with raw contents: each input is name, datatype, shape and content."""
    made = pb.ModelInferRequest(model_name=model, **fields)
    for name, datatype, shape, raw in inputs:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_input_contents.append(raw)
    return made


def typed(model: str, name: str, datatype: str, shape: Sequence[int], **contents: object) -> pb.ModelInferRequest:
    """A ModelInferRequest with one input in typed contents."""
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name=name, datatype=datatype, shape=shape, contents=contents)
    return made


@contextmanager
def stub_of(address: str, **options: int) -> Iterator[Any]:
    """Plain generated stubs, for what no client library would send; `options` are grpcio's, without their prefix."""
    given = {"max_send_message_length": -1, **options}
    with grpc.insecure_channel(address, [(f"grpc.{name}", value) for name, value in given.items()]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """The call inside fails with the status `code`, and the message has every one of `words`."""
    with pytest.raises((grpc.RpcError, InferenceServerException)) as caught:
        yield
    got, text = status_of(caught.value)
    assert got == code, f"{got}: {text}"
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def status_of(error: BaseException) -> tuple[str, str]:
    """Code and message of a client's exception."""
    if isinstance(error, InferenceServerException):
        return str(error.status()).removeprefix("StatusCode."), str(error.message())
    call = cast(grpc.Call, error)
    return call.code().name, call.details() or ""


class Answers:
    """The callback of a client: collects what comes, for whoever waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.all: list[tuple[InferResult | None, InferenceServerException | None]] = []

    def __call__(self, result: InferResult | None, error: InferenceServerException | None) -> None:
        """One answer."""
        with self._changed:
            self.all.append((result, error))
            self._changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        """The first `count` answers: each a result, or the error in its place."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.all) >= count, PATIENCE_S)
        assert came, f"{len(self.all)} of {count} answers came"
        return [result if error is None else error for result, error in self.all[:count]]


def together(works: Sequence[Callable[[], object]]) -> list[object]:
    """Runs each on a thread of its own; what each returned, or raised."""
    outcomes: list[object] = [None] * len(works)

    def run(index: int) -> None:
        try:
            outcomes[index] = works[index]()
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
        assert not each.is_alive(), "a call hangs"
    return outcomes
