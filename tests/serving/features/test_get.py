"""Lookups over gRPC, by generated stubs on grpcio."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from engine import Array
from protos.vireo.v1 import features_pb2 as pb
from tests.serving.calls import refused, together
from tests.serving.features.events import CARD_FEATURES, Stub, as_stream, payments
from tests.serving.servers import ServerHere


def push(stub: Stub, *rows: tuple[int, str | None, float | None, int]) -> None:
    """Appends payments and waits until both views show them."""
    request = pb.PushRequest(log="payments", arrow=as_stream(payments(*rows)), wait_for=["card", "merchant"])
    request.wait_ms = 20_000
    assert not stub.Push(request).pending


def matrix(response: pb.GetResponse) -> Array:
    """The values, a row an entity."""
    return np.array(response.values).reshape(-1, len(response.features))


def test_features_of_an_entity_are_those_of_its_events(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us - 2), (card, "b", 30.0, now_us - 1))
    response = stub.Get(
        pb.GetRequest(view="card", int64_entities=[card], request={"amount_now": pb.RequestColumn(numbers=[50.0])})
    )
    assert list(response.features) == CARD_FEATURES
    np.testing.assert_array_equal(matrix(response), [[2, 40, 20, np.nan, 30]])
    assert list(response.nulls) == [False] * 5
    assert [(each.column, list(each.values)) for each in response.texts] == [(3, ["b"])]
    assert list(response.event_time_us) == [now_us - 1]
    assert list(response.statuses) == [pb.ROW_STATUS_PRESENT]


def test_an_unknown_entity_is_missing_and_null_beside_a_known_one(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    unknown = -card
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[unknown, card, unknown]))
    assert list(response.statuses) == [pb.ROW_STATUS_MISSING, pb.ROW_STATUS_PRESENT, pb.ROW_STATUS_MISSING]
    assert list(response.event_time_us) == [0, now_us, 0]
    nulls = np.array(response.nulls).reshape(3, 5)
    assert nulls[[0, 2]].all()
    assert nulls[1].tolist() == [False, False, False, False, True]  # nobody said what the amount is now
    np.testing.assert_array_equal(np.isnan(matrix(response)) & (np.arange(5) != 3), nulls & (np.arange(5) != 3))


def test_an_entity_whose_events_are_old_is_stale_and_says_how_old(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    later = now_us + 3_601_000_000
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[card, card], as_of_us=[later, now_us + 1]))
    assert list(response.statuses) == [pb.ROW_STATUS_STALE, pb.ROW_STATUS_PRESENT]
    assert list(response.event_time_us) == [now_us, now_us]
    assert list(response.nulls)[:5] == [True] * 5


def test_one_instant_and_one_input_stand_for_all_entities(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    request = pb.GetRequest(view="card", int64_entities=[card] * 3, as_of_us=[now_us + 5], features=["excess"])
    request.request["amount_now"].numbers.append(11.0)
    assert matrix(stub.Get(request)).tolist() == [[1.0]] * 3


def test_features_come_in_the_order_asked_for(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    wanted = ["amount_1h", "last_merchant", "payments_1h"]
    response = stub.Get(pb.GetRequest(view="card", int64_entities=[card], features=wanted))
    assert list(response.features) == wanted
    np.testing.assert_array_equal(matrix(response), [[10, np.nan, 1]])
    assert response.texts[0].column == 1


def test_entities_may_be_texts(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, f"m{card}", 10.0, now_us), (card, f"m{card}", 10.0, now_us))
    response = stub.Get(pb.GetRequest(view="merchant", text_entities=[f"m{card}", "nobody"]))
    assert matrix(response)[0, 0] == 2
    assert list(response.statuses) == [pb.ROW_STATUS_PRESENT, pb.ROW_STATUS_MISSING]


def test_no_entities_are_answered_with_none(stub: Stub) -> None:
    response = stub.Get(pb.GetRequest(view="card"))
    assert list(response.features) == CARD_FEATURES
    assert not response.values
    assert not response.statuses


@pytest.mark.parametrize("rows", [3_000, 50_000])
def test_many_entities_are_looked_up_without_holding_others_up(stub: Stub, card: int, now_us: int, rows: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    many = pb.GetRequest(view="card", int64_entities=[card, *range(-rows, -1)], features=["payments_1h"])
    response = stub.Get(many)
    assert len(response.statuses) == rows
    assert response.values[0] == 1
    assert set(response.statuses[1:]) == {pb.ROW_STATUS_MISSING}


def test_lookups_of_many_callers_are_each_their_own(stub: Stub, card: int, now_us: int) -> None:
    push(stub, *((card * 1000 + index, "a", float(index), now_us) for index in range(16)))

    def ask(index: int) -> set[float]:
        key = card * 1000 + index
        request = pb.GetRequest(view="card", int64_entities=[key], features=["amount_1h"])
        return {stub.Get(request).values[0] for _ in range(50)}

    assert together([partial(ask, index) for index in range(16)]) == [{float(index)} for index in range(16)]


WRONG: list[tuple[str, pb.GetRequest, tuple[str, ...]]] = [
    ("NOT_FOUND", pb.GetRequest(view="crad", int64_entities=[1]), ("crad", "nearest: 'card'")),
    ("INVALID_ARGUMENT", pb.GetRequest(view="card", text_entities=["1"]), ("int64_entities", "text_entities", "int64")),
    ("INVALID_ARGUMENT", pb.GetRequest(view="merchant", int64_entities=[1]), ("text_entities", "string")),
    (
        "INVALID_ARGUMENT",
        pb.GetRequest(view="card", int64_entities=[1], binary_entities=[b"1"]),
        ("int64_entities", "binary_entities"),
    ),
    ("INVALID_ARGUMENT", pb.GetRequest(view="card", int64_entities=[1], features=["amount"]), ("'amount'", "nearest")),
    (
        "INVALID_ARGUMENT",
        pb.GetRequest(view="card", int64_entities=[1, 2, 3], as_of_us=[1, 2]),
        ("as_of", "2 values for 3 entities"),
    ),
    (
        "INVALID_ARGUMENT",
        pb.GetRequest(view="card", int64_entities=[1], request={"amount": pb.RequestColumn(numbers=[1.0])}),
        ("'amount'", "nearest: 'amount_now'"),
    ),
    (
        "INVALID_ARGUMENT",
        pb.GetRequest(
            view="card", int64_entities=[1, 2, 3], request={"amount_now": pb.RequestColumn(numbers=[1.0, 2.0])}
        ),
        ("amount_now", "2 values for 3 entities"),
    ),
    (
        "INVALID_ARGUMENT",
        pb.GetRequest(view="card", int64_entities=[1], request={"amount_now": pb.RequestColumn(texts=["1"])}),
        ("amount_now", "expected numbers, got texts"),
    ),
    ("RESOURCE_EXHAUSTED", pb.GetRequest(view="card", int64_entities=[1] * 100_001), ("100001", "100000")),
]


@pytest.mark.parametrize(("code", "request_", "words"), WRONG, ids=[" ".join(words)[:40] for _, _, words in WRONG])
def test_what_is_wrong_is_told_with_its_place(
    stub: Stub, code: str, request_: pb.GetRequest, words: tuple[str, ...]
) -> None:
    with refused(code, *words):
        stub.Get(request_)


def test_a_view_and_a_log_describe_themselves(stub: Stub, card: int, now_us: int) -> None:
    push(stub, (card, "a", 10.0, now_us))
    assert list(stub.ListViews(pb.ListViewsRequest()).views) == ["card", "merchant"]
    told = stub.DescribeView(pb.DescribeViewRequest(view="card"))
    assert (told.source, told.entity, told.entity_type) == ("payments", "card", "int64")
    assert [(each.name, each.text) for each in told.features] == [
        (name, name == "last_merchant") for name in CARD_FEATURES
    ]
    assert [(each.name, each.text) for each in told.request] == [("amount_now", False)]
    assert told.declaration["features"]["amount_1h"]["column"] == "amount"
    assert "where" not in told.declaration
    assert told.statistics.applied >= 1
    assert told.statistics.restored
    with refused("NOT_FOUND", "nearest: 'card'"):
        stub.DescribeView(pb.DescribeViewRequest(view="cart"))


def test_a_stream_of_lookups_is_answered_in_order(stub: Stub, card: int, now_us: int) -> None:
    push(stub, *((card * 1000 + index, "a", float(index), now_us) for index in range(100)))

    def requests() -> Iterator[pb.StreamRequest]:
        for index in range(100):
            get = pb.GetRequest(view="card", int64_entities=[card * 1000 + index], features=["amount_1h"])
            yield pb.StreamRequest(id=str(index), get=get)

    answers = [(each.id, each.get.values[0]) for each in stub.Stream(requests())]
    assert answers == [(str(index), float(index)) for index in range(100)]


def test_what_a_stream_pushes_and_waits_for_its_next_lookup_sees(stub: Stub, card: int, now_us: int) -> None:
    def requests() -> Iterator[pb.StreamRequest]:
        for index in range(20):
            batch = as_stream(payments((card, "a", 1.0, now_us + index)))
            push_ = pb.PushRequest(log="payments", arrow=batch, wait_for=["card"], wait_ms=20_000)
            yield pb.StreamRequest(push=push_)
            yield pb.StreamRequest(get=pb.GetRequest(view="card", int64_entities=[card], features=["payments_1h"]))

    answers = list(stub.Stream(requests()))
    assert [each.WhichOneof("response") for each in answers] == ["push", "get"] * 20
    assert [each.get.values[0] for each in answers[1::2]] == list(range(1, 21))


def test_a_wrong_request_on_a_stream_is_answered_and_the_stream_goes_on(stub: Stub) -> None:
    requests = [
        pb.StreamRequest(id="a", get=pb.GetRequest(view="nobody", int64_entities=[1])),
        pb.StreamRequest(id="b"),
        pb.StreamRequest(id="c", push=pb.PushRequest(log="payments", rows=[{"card": 1.5}])),
        pb.StreamRequest(id="d", get=pb.GetRequest(view="card", int64_entities=[1])),
    ]
    answers = list(stub.Stream(iter(requests)))
    assert [(each.id, each.error.code) for each in answers] == [("a", 5), ("b", 3), ("c", 3), ("d", 0)]
    assert "rows[0].card" in answers[2].error.message
    assert answers[3].WhichOneof("response") == "get"


def test_a_caller_that_leaves_its_stream_leaves_nothing_behind(stub: Stub, running: ServerHere) -> None:
    stop = threading.Event()

    def requests() -> Iterator[pb.StreamRequest]:
        yield pb.StreamRequest(get=pb.GetRequest(view="card", int64_entities=[1]))
        stop.wait()

    call = stub.Stream(requests())
    next(call)
    call.cancel()
    stop.set()
    assert stub.Get(pb.GetRequest(view="card", int64_entities=[1])).features
    assert running.in_flight == 0
