"""A feature view reached as a model: by tensors, alone and in batches, with everything it cannot answer said."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine import BYTES, DATATYPES, InvalidArgument, Request, Response, Tensor, TooLarge
from engine.limits import LOOKUP_ROWS_MAX
from tests.engine.features.running import LOG, SECOND, START_US, Running, row, running

INT64, FP64 = DATATYPES["INT64"], DATATYPES["FP64"]
WIDE = "  wide: {schema: {customer: int64, at: timestamp}, local: {path: wide, durability: os}}\n"
VIEWS = """
feature_views:
  spending:
    source: tx
    entity: card
    event_time: at
    max_age: 1h
    ttl: 2h
    request: {now_amount: number, now_shop: text}
    features:
      n: {aggregation: count, window: 1h}
      last_shop: {aggregation: last, column: shop, window: 1h}
      total: {aggregation: sum, column: amount, window: 1h}
      share: {expression: now_amount / total}
      same_shop: {expression: now_shop == last_shop}
      or_zero: {expression: "coalesce(total, 0)"}
  by_number:
    source: numbered
    entity: customer
    event_time: at
    features:
      n: {aggregation: count, window: 1h}
  by_wide_number:
    source: wide
    entity: customer
    event_time: at
    sample: {path: sample.arrows}
    features:
      n: {aggregation: count, window: 1h}
"""
SPEC = (
    LOG
    + "  numbered: {schema: {customer: int32, at: timestamp}, local: {path: numbered, durability: os}}\n"
    + WIDE
    + VIEWS
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("views"), SPEC) as found:
        found.push(*(row(number, f"c{number % 2}") for number in range(10)))
        found.push(*({"customer": number % 3, "at": START_US + number} for number in range(9)), log="numbered")
        found.push(*({"customer": number % 4 - 1, "at": START_US + number} for number in range(12)), log="wide")
        yield found


def _bytes(*values: bytes) -> Tensor:
    return Tensor(BYTES, np.array(values, object))


def _ask(engine: Running, *, model: str = "spending", outputs: tuple[str, ...] = (), **inputs: Tensor) -> Response:
    return _infer(engine, model, inputs, outputs)


def _infer(engine: Running, model: str, inputs: dict[str, Tensor], outputs: tuple[str, ...] = ()) -> Response:
    return engine.engine.infer(Request(model, inputs=inputs, outputs=outputs))


def _values(response: Response) -> dict[str, Any]:
    return {name: each.array.tolist() for name, each in response.outputs.items()}


def _as_of(*seconds: float) -> Tensor:
    return Tensor(INT64, np.array([START_US + int(each * SECOND) for each in seconds], np.int64))


def test_features_come_as_a_matrix_with_what_is_null_missing_and_stale(engine: Running) -> None:
    cards = _bytes(b"c0", b"c1", b"nobody", b"c0", b"c1")
    as_of = _as_of(10, 10, 10, 5000, 9000)
    found = _values(_ask(engine, card=cards, as_of=as_of, now_amount=Tensor(FP64, np.array([5.0] * 5))))
    assert found["status"] == [0, 0, 1, 2, 1]
    assert found["event_time"] == [START_US + 8 * SECOND, START_US + 9 * SECOND, 0, START_US + 8 * SECOND, 0]
    assert [each[0] for each in found["features"][:2]] == [5.0, 5.0]
    assert found["features"][0][2:4] == [20.0, 0.25]
    assert found["last_shop"] == [b"s2", b"s0", b"", b"", b""]
    assert found["valid"][0] == [True, True, True, True, False, True]
    assert found["valid"][2:] == [[False, False, False, False, False, True]] * 3
    assert all(math.isnan(each) for line in found["features"][2:] for each in line[:-1])


def test_request_inputs_may_be_texts(engine: Running) -> None:
    found = _values(_ask(engine, card=_bytes(b"c0", b"c0"), as_of=_as_of(10, 10), now_shop=_bytes(b"s2", b"s1")))
    assert [line[4] for line in found["features"]] == [1.0, 0.0]


def test_only_the_outputs_asked_for_are_answered(engine: Running) -> None:
    assert list(_ask(engine, card=_bytes(b"c0"), outputs=("status", "features")).outputs) == ["status", "features"]


def test_entities_may_be_whole_numbers_of_any_width(engine: Running) -> None:
    as_of = Tensor(INT64, np.array([START_US] * 3, np.int64))
    found = _values(_ask(engine, model="by_number", customer=Tensor(INT64, np.array([0, 2, 7], np.int64)), as_of=as_of))
    assert (found["status"], [each[0] for each in found["features"][:2]]) == ([0, 0, 1], [3.0, 3.0])
    with pytest.raises(InvalidArgument, match=r"input 'customer': expected int32"):
        _ask(engine, model="by_number", customer=Tensor(INT64, np.array([1 << 40], np.int64)))


def test_one_entity_may_be_given_as_a_plain_number(engine: Running) -> None:
    wide, narrow, texts = (engine.view(name) for name in ("by_wide_number", "by_number", "spending"))
    now = START_US + 10
    for key in (-1, 2, (1 << 63) - 1, -(1 << 63), 7):
        one, same = wide.lookup(key, as_of_us=now), wide.lookup(pa.array([key]), as_of_us=now)
        assert (one.names, one.status, one.event_time_us) == (same.names, same.status, same.event_time_us)
        np.testing.assert_array_equal(one.values, same.values)
        instants = wide.lookup(key, as_of_us=np.array([now], np.int64))
        np.testing.assert_array_equal(instants.values, one.values)
    assert [wide.lookup(key, as_of_us=now).values.tolist() for key in (-1, 2)] == [[[3.0]], [[3.0]]]
    assert narrow.lookup(2, as_of_us=now).values.tolist() == [[3.0]]
    for view, key in ((narrow, 1 << 40), (wide, 1 << 63), (wide, 1 << 70)):
        with pytest.raises(InvalidArgument, match="entities are int"):
            view.lookup(key, as_of_us=now)
    assert texts.lookup(2, as_of_us=now).status.tolist() == [1]  # as an array of numbers: cast to text
    with pytest.raises(InvalidArgument, match="2 instants for 1 entities"):
        wide.lookup(2, as_of_us=np.array([START_US, START_US], np.int64))


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "missing input 'card'"),
        ({"card": Tensor(INT64, np.array([1], np.int64))}, "expected datatype BYTES"),
        ({"card": _bytes(b"\xff")}, "an entity is not UTF-8"),
        ({"card": _bytes(b"c0", b"c1"), "as_of": _as_of(1)}, "inputs disagree on the number of rows"),
        ({"card": _bytes(b"c0"), "now_shop": _bytes(b"\xff")}, "input 'now_shop': not UTF-8"),
        ({"card": _bytes(b"c0"), "now": _bytes(b"1")}, "has no input 'now'; nearest: 'now_shop'"),
        ({"card": Tensor(BYTES, np.empty(0, object))}, "zero rows"),
    ],
)
def test_what_cannot_be_asked_is_told(engine: Running, inputs: dict[str, Tensor], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        _infer(engine, "spending", inputs)


def test_too_many_entities_are_refused(engine: Running) -> None:
    with pytest.raises((InvalidArgument, TooLarge), match="at most 100000"):
        _ask(engine, card=Tensor(BYTES, np.array([b"c"] * (LOOKUP_ROWS_MAX + 1), object)))


def test_lookups_of_several_requests_are_joined_row_by_row(engine: Running) -> None:
    cards = [b"c0", b"c1", b"nobody"] * 5
    jobs = []
    ended = threading.Semaphore(0)
    for card in cards:
        request = Request("spending", inputs={"card": _bytes(card), "as_of": _as_of(10)})
        jobs.append(engine.engine.submit(request, lambda _: ended.release()))
    engine.engine.flush()
    for _ in cards:
        assert ended.acquire(timeout=30)
    counts = []
    for job in jobs:
        assert job.response is not None
        counts.append(job.response.outputs["features"].array[0, 0].item())
    assert [None if math.isnan(each) else each for each in counts] == [5.0, 5.0, None] * 5


def test_metadata_says_what_a_view_takes_and_gives(engine: Running) -> None:
    described = engine.engine.describe("spending", None)
    assert described.traits.platform == "vireo_feature_view"
    assert described.source == "feature view of log tx"
    assert {each.name: each.optional for each in described.signature.inputs} == {
        "card": False,
        "as_of": True,
        "now_amount": True,
        "now_shop": True,
    }
    assert [each.name for each in described.signature.outputs] == [
        "features",
        "valid",
        "event_time",
        "status",
        "last_shop",
    ]
    assert described.traits.notes[3] == "features[3]: share"


def test_a_view_cannot_be_unloaded_by_a_client(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    spec = SPEC + "repository: {path: models, control: explicit}\n"
    with running(tmp_path, spec) as engine, pytest.raises(Exception, match="is a feature view of the spec"):
        engine.engine.unload("spending")
