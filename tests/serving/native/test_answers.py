"""Answers that wait to be written: counted, and bounded over all connections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from engine import limits, parse_spec
from tests.serving.calls import refused
from tests.serving.servers import ServerHere

_wire = pytest.importorskip("serving.native._wire", reason="the native transport is not built")


@pytest.fixture
def narrow(native: ServerHere) -> Iterator[None]:
    """Little room for messages and answers, in a server that has started."""
    _wire.set_message_bytes_max(64 << 10)
    yield
    _wire.set_message_bytes_max(limits.WIRE_BYTES_MAX)


def _ask(server: ServerHere, rows: int) -> int:
    given = InferInput("x", [1, 1], "FP32")
    given.set_data_from_numpy(np.full((1, 1), rows, np.float32))
    with InferenceServerClient(server.address) as client:
        return int(client.infer("enormous", [given]).as_numpy("y").shape[0])


SPEC = """
server: {grpc_port: 0, http_port: null, transport: native}
functions:
  enormous:
    call: tests.serving.functions:enormous
    inputs: {x: {datatype: FP32, shape: [1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1000]}}
"""


@pytest.mark.usefixtures("narrow")
def test_answer_beyond_what_all_may_hold_is_refused_and_small_ones_pass(native: ServerHere) -> None:
    with refused("RESOURCE_EXHAUSTED", "too many bytes of answers wait to be written"):
        _ask(native, 50)
    assert _ask(native, 5) == 5


def test_answers_are_counted_until_they_are_written(native: ServerHere) -> None:
    assert _ask(native, 200) == 200
    assert _wire.answer_bytes() == 0


@pytest.fixture
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server whose one function answers as much as it is told."""
    made = ServerHere(parse_spec(SPEC, folder=tmp_path_factory.mktemp("answers")))
    yield made
    made.stop()
