"""Pushes over gRPC: as Arrow, and row by row."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import grpc
import pyarrow as pa
import pytest

from protos.vireo.v1 import features_pb2 as pb
from tests.serving.calls import refused, together
from tests.serving.features.events import Stub, as_stream, iso, payments
from tests.serving.servers import ServerHere


def test_a_push_tells_where_its_events_lie(stub: Stub, card: int, now_us: int) -> None:
    first = stub.Push(pb.PushRequest(log="payments", arrow=as_stream(payments((card, "a", 1.0, now_us)))))
    two = as_stream(payments((card, "a", 1.0, now_us)), payments((card, "b", 1.0, now_us), (card, "c", 1.0, now_us)))
    second = stub.Push(pb.PushRequest(log="payments", arrow=two))
    (one,), (three,) = first.spans, second.spans
    assert one.next == one.first + 1
    assert three.first >= one.next
    assert three.next == three.first + 3


def test_rows_are_appended_as_arrow_would_be(stub: Stub, card: int, now_us: int) -> None:
    rows: list[dict[str, Any]] = [
        {"card": card, "merchant": "a", "amount": 1.5, "at": iso(now_us)},
        {"card": str(card), "at": now_us + 1},
        {"card": card, "amount": None, "at": now_us + 2},
    ]
    push = pb.PushRequest(log="payments", rows=rows, wait_for=["card"], wait_ms=20_000)
    assert not stub.Push(push).pending
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[card], features=["payments_1h", "amount_1h"]))
    assert list(response.values) == [3, 1.5]
    assert list(response.event_time_us) == [now_us + 2]


def test_a_push_without_events_is_answered_at_once(stub: Stub) -> None:
    empty = as_stream(schema=payments((1, "a", 1.0, 1)).schema)
    for request in (pb.PushRequest(log="payments"), pb.PushRequest(log="payments", arrow=empty, wait_for=["card"])):
        assert stub.Push(request) == pb.PushResponse()


def test_pushes_of_many_callers_all_count(stub: Stub, card: int, now_us: int) -> None:
    def push(index: int) -> tuple[int, int]:
        batch = payments(*((card, "a", 1.0, now_us + index) for _ in range(5)))
        answer = stub.Push(pb.PushRequest(log="payments", arrow=as_stream(batch), wait_for=["card"], wait_ms=20_000))
        assert not answer.pending
        return answer.spans[0].first, answer.spans[0].next

    spans: list[Any] = together([partial(push, index) for index in range(40)])
    spans.sort()
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[card], features=["payments_1h"]))
    assert list(response.values) == [200]


def test_a_batch_with_one_wrong_row_leaves_no_trace(stub: Stub, card: int, now_us: int) -> None:
    with refused("INVALID_ARGUMENT", "rows[1].amount", "a number", "text 'much'"):
        stub.Push(
            pb.PushRequest(
                log="payments", rows=[{"card": card, "at": now_us}, {"card": card, "at": now_us, "amount": "much"}]
            )
        )
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[card]))
    assert list(response.statuses) == [pb.ROW_STATUS_MISSING]


def batch(**columns: pa.Array) -> bytes:
    """An Arrow stream of these columns."""
    return as_stream(pa.record_batch(columns))


WHOLE = as_stream(payments((1, "a", 1.0, 1)))
WRONG: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("NOT_FOUND", {"log": "payment"}, ("'payment'", "nearest: 'payments'")),
    ("INVALID_ARGUMENT", {"arrow": b"not arrow at all"}, ("Arrow",)),
    ("INVALID_ARGUMENT", {"arrow": WHOLE[: len(WHOLE) // 2]}, ("Arrow",)),
    ("INVALID_ARGUMENT", {"arrow": WHOLE, "rows": [{"card": 1}]}, ("both",)),
    ("INVALID_ARGUMENT", {"arrow": batch(card=pa.array(["1"]))}, ("card", "int64", "string")),
    ("INVALID_ARGUMENT", {"arrow": batch(amount=pa.array([1.0]))}, ("card",)),
    ("INVALID_ARGUMENT", {"arrow": batch(card=pa.array([1, None], pa.int64()))}, ("card", "null")),
    ("INVALID_ARGUMENT", {"arrow": batch(card=pa.array([1]), colour=pa.array(["red"]))}, ("colour",)),
    ("INVALID_ARGUMENT", {"rows": [{"card": 1}, {"card": 1, "amout": 2}]}, ("rows[1]", "'amout'", "nearest: 'amount'")),
    ("INVALID_ARGUMENT", {"rows": [{"amount": 2}]}, ("rows[0].card", "got null")),
    ("INVALID_ARGUMENT", {"rows": [{"card": [1]}]}, ("rows[0].card", "a whole number (int64)", "a list")),
    ("INVALID_ARGUMENT", {"rows": [{"card": {"a": 1}}]}, ("rows[0].card", "an object")),
    ("INVALID_ARGUMENT", {"rows": [{"card": 1, "at": "2026-01-01T00:00:00"}]}, ("rows[0].at", "with a zone")),
    ("NOT_FOUND", {"arrow": WHOLE, "wait_for": ["cart"]}, ("'cart'", "nearest: 'card'")),
    ("INVALID_ARGUMENT", {"log": "everything", "rows": [{"b": True}], "wait_for": ["card"]}, ("'card'", "'payments'")),
]


@pytest.mark.parametrize(("code", "fields", "words"), WRONG, ids=[" ".join(words)[:40] for _, _, words in WRONG])
def test_what_is_wrong_is_told_with_its_place(
    stub: Stub, code: str, fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused(code, *words):
        stub.Push(pb.PushRequest(**{"log": "payments", **fields}))


def test_damaged_arrow_never_gets_further_than_its_error(stub: Stub, running: ServerHere) -> None:
    outcomes = set()
    for at in range(0, len(WHOLE), 7):
        damaged = bytearray(WHOLE)
        damaged[at] ^= 0xFF
        outcomes.add(outcome(stub, bytes(damaged)))
    assert outcomes == {"OK", "INVALID_ARGUMENT"}
    assert running.in_flight == 0


def outcome(stub: Stub, arrow: bytes) -> str:
    """The name of the status that a push of these bytes gets."""
    try:
        stub.Push(pb.PushRequest(log="payments", arrow=arrow))
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
