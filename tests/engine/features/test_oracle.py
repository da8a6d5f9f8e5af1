"""The evident model answers what a person calculates with pencil and paper."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from engine.features.expression import ExpressionType, column, parse
from engine.features.view import Aggregate, AggregateKind, Column, ColumnKind, Feature, FeatureKind, RequestInput, View
from engine.features.window import SECOND_US, Window, WindowKind
from tests.engine.features import oracle
from tests.engine.features.oracle import Oracle

S = SECOND_US
SCHEMA = pa.schema(
    {
        "card": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "id": pa.string(),
        "amount": pa.float64(),
        "shop": pa.string(),
    }
)
NAMES = {
    "card": ExpressionType.TEXT,
    "at": ExpressionType.TIMESTAMP,
    "id": ExpressionType.TEXT,
    "amount": ExpressionType.NUMBER,
    "shop": ExpressionType.TEXT,
}
AMOUNT = Column(ColumnKind.NUMBER, column("amount", ExpressionType.NUMBER))
SHOP_CODE = Column(ColumnKind.CODE, column("shop", ExpressionType.TEXT), text=True)
MINUTE = Window(WindowKind.SAWTOOTH, 60 * S, 10 * S)


def _view(*aggregates: Aggregate, features: tuple[Feature, ...] | None = None, **changes: object) -> View:
    if features is None:
        features = tuple(Feature(f"f{i}", FeatureKind.AGGREGATE, (i,)) for i in range(len(aggregates)))
    given: dict[str, Any] = {
        "name": "cards", "source": "log", "entity": "card", "event_time": "at", "event_id": None, "lateness_us": 30 * S,
        "future_us": 5 * S, "max_age_us": None, "ttl_us": 1000 * S, "where": None, "columns": (AMOUNT, SHOP_CODE), "masks": (),
    }  # fmt: skip
    return View(**(given | changes), aggregates=aggregates, features=features)


Row = dict[str, Any]


def _row(
    at: int | None, amount: float | None = 1.0, *, card: str | None = "a", shop: str | None = None, **more: object
) -> Row:
    return {"card": card, "at": None if at is None else at * S, "amount": amount, "shop": shop, "id": None} | more


def _pushed(view: View, *rows: Row) -> Oracle:
    model = Oracle(view, SCHEMA)
    for row in rows:
        model.push(0, row, 10_000 * S if row["at"] is None else row["at"])
    return model


def test_rows_are_judged_in_the_order_of_the_reference() -> None:
    model = Oracle(_view(event_id="id", where=parse("amount > 0", NAMES)), SCHEMA)
    rows = [
        (_row(100, id="1"), 100, oracle.APPLIED),
        (_row(100, card=None, id="2"), 100, oracle.NULL_ENTITY),
        (_row(None, id="2"), 100, oracle.NULL_TIME),
        (_row(100), 100, oracle.NULL_ID),
        (_row(-1, id="2"), 100, oracle.OUT_OF_TIME),
        (_row(106, id="2"), 100, oracle.FUTURE),
        (_row(105, id="2"), 100, oracle.APPLIED),  # five seconds ahead are allowed, and move the watermark to 105
        (_row(74, id="3"), 106, oracle.LATE),
        (_row(75, id="3"), 106, oracle.APPLIED),
        (_row(76, id="3"), 106, oracle.DUPLICATE),
        (_row(110, 0.0, id="4"), 110, oracle.FILTERED),
        (_row(110, None, id="5"), 110, oracle.FILTERED),
        (_row(110, id="4"), 110, oracle.DUPLICATE),  # of the filtered one
        (_row(110, id="3"), 110, oracle.APPLIED),  # the accepted one, of 75, is older than 110 - 30
        (_row(150, id="3"), 150, oracle.APPLIED),  # the row itself moves the watermark first, so that 110 is too old
    ]
    for row, appended_s, verdict in rows:
        assert model.push(0, row, appended_s * S) == verdict, row
    assert model.verdicts[oracle.APPLIED] == 5
    assert model.watermarks == {0: 150 * S}


def test_watermarks_are_of_partitions() -> None:
    model = Oracle(_view(), SCHEMA)
    assert model.push(0, _row(100), 100 * S) == oracle.APPLIED
    assert model.push(1, _row(10, card="b"), 100 * S) == oracle.APPLIED
    assert model.push(0, _row(10), 100 * S) == oracle.LATE


def test_windows_take_whole_tiles() -> None:
    counts = [
        Aggregate(AggregateKind.COUNT, window=MINUTE),
        Aggregate(AggregateKind.COUNT, window=Window(WindowKind.SLIDING, 60 * S, 10 * S)),
        Aggregate(AggregateKind.COUNT, window=Window(WindowKind.TUMBLING, 60 * S, 60 * S)),
        Aggregate(AggregateKind.COUNT),
    ]
    model = _pushed(_view(*counts, lateness_us=1000 * S), *(_row(at) for at in (99, 100, 119, 120, 159, 160, 164)))
    answer = model.lookup("a", 165 * S)
    # 165 - 60 = 105 lies in the tile of 100; complete tiles are 100 to 159; the last multiple of 60 is 120.
    assert list(answer.features.values()) == [6, 4, 4, 7]
    assert (answer.status, answer.newest, answer.as_of) == (oracle.PRESENT, 164 * S, 165 * S)


def test_every_aggregation_is_what_the_reference_says() -> None:
    kinds = AggregateKind
    view = _view(
        *(Aggregate(kind, 0) for kind in (kinds.COUNT, kinds.SUM, kinds.MEAN, kinds.MIN, kinds.MAX, kinds.VARIANCE)),
        Aggregate(kinds.STDDEV, 0),
        Aggregate(kinds.FIRST, 0),
        Aggregate(kinds.LAST, 0),
        Aggregate(kinds.SINCE, 0),
        Aggregate(kinds.DECAYED, 0, half_life_us=10 * S),
        Aggregate(kinds.DECAYED, half_life_us=10 * S),
        Aggregate(kinds.FIRST, 1),
        Aggregate(kinds.LAST, 1),
    )
    model = _pushed(
        view,
        _row(10, 4.0, shop="x"),
        _row(0, 1.0),
        _row(20, math.nan),
        _row(20, 7.0, shop="y"),
        _row(20, 8.0),
        _row(0, 5.0),
    )
    found = list(model.lookup("a", 30 * S).features.values())
    # Values 1 and 5 at 0, 4 at 10, 7 and 8 at 20; mean 5, squares 16 + 0 + 1 + 4 + 9 = 30.
    assert found[:11] == [5, 25, 5, 1, 8, 6, math.sqrt(6), 1, 8, 10, 6 * 0.125 + 4 * 0.25 + 15 * 0.5]
    assert found[11:] == [2 * 0.125 + 0.25 + 3 * 0.5, "x", "y"]


def test_empty_windows_are_zero_or_null() -> None:
    kinds = AggregateKind
    view = _view(
        *(Aggregate(each, 0, window=MINUTE) for each in (kinds.COUNT, kinds.SUM)),
        *(
            Aggregate(each, 0, window=MINUTE)
            for each in (kinds.MEAN, kinds.MIN, kinds.VARIANCE, kinds.LAST, kinds.SINCE)
        ),
        Aggregate(kinds.TOP, 1, window=MINUTE, slots=16),
        Aggregate(kinds.DECAYED, 1 - 1, half_life_us=S),
    )
    found = list(_pushed(view, _row(0, None)).lookup("a", 500 * S).features.values())
    assert found == [0, 0, None, None, None, None, None, None, 0]


def test_most_frequent_breaks_ties_by_first_appearance() -> None:
    view = _view(
        Aggregate(AggregateKind.TOP, 1, slots=16, k=3),
        features=tuple(Feature(f"top_{i + 1}", FeatureKind.AGGREGATE, (0,), rank=i, text=True) for i in range(3)),
    )
    model = _pushed(view, *(_row(i, shop=shop) for i, shop in enumerate("zbab")))
    assert model.lookup("a", 9 * S).features == {"top_1": "b", "top_2": "z", "top_3": "a"}


def test_linear_counting_by_hand() -> None:
    assert oracle.linear_count([0, 1, 1 << 63, (1 << 63) + 5], 64) == pytest.approx(-64 * math.log(62 / 64))
    assert oracle.linear_count([], 64) == 0
    assert oracle.linear_count([i << 62 for i in range(4)], 4) == pytest.approx(4 * math.log(4))


def test_a_read_never_answers_for_a_past_in_which_later_events_are_known() -> None:
    model = _pushed(_view(Aggregate(AggregateKind.SINCE)), _row(100))
    model.push(0, _row(150, card="b"), 150 * S)
    assert model.lookup("a", 0).as_of == 120 * S  # the watermark less the lateness
    assert model.lookup("b", 0).as_of == 150 * S + 1
    assert model.lookup("b", 0).features == {"f0": 1e-6}
    assert model.lookup("a", 200 * S).features == {"f0": 100}
    assert model.lookup("c", 0) == oracle.Answer(oracle.MISSING, None, 0, {"f0": None})


def test_an_entity_becomes_stale_then_missing_and_starts_anew_after_its_ttl() -> None:
    view = _view(Aggregate(AggregateKind.COUNT), max_age_us=50 * S, ttl_us=100 * S, lateness_us=1000 * S)
    model = _pushed(view, _row(0), _row(100))
    assert [model.lookup("a", at * S).status for at in (150, 151, 200, 201)] == [
        oracle.PRESENT, oracle.STALE, oracle.STALE, oracle.MISSING,
    ]  # fmt: skip
    assert model.lookup("a", 150 * S).features == {"f0": 2}
    assert model.lookup("a", 151 * S) == oracle.Answer(oracle.STALE, 100 * S, 151 * S, {"f0": None})
    model.push(0, _row(201), 201 * S)
    assert model.lookup("a", 0).features == {"f0": 1}
    model.push(0, _row(90), 201 * S)  # late but in time: it belongs to the life that is
    assert model.lookup("a", 0).features == {"f0": 2}


def test_filters_ratios_scores_and_expressions() -> None:
    kinds, numbers = AggregateKind, {"ratio": ExpressionType.NUMBER, "limit": ExpressionType.NUMBER}
    features = (
        Feature("dear", FeatureKind.AGGREGATE, (0,)),
        Feature("ratio", FeatureKind.RATIO, (1, 2)),
        Feature("score", FeatureKind.Z_SCORE, (1, 2, 3)),
        Feature("over", FeatureKind.EXPRESSION, expression=parse("ratio * limit", numbers)),
        Feature("known", FeatureKind.EXPRESSION, expression=parse("coalesce(ratio, -1)", numbers)),
    )
    view = _view(
        Aggregate(kinds.COUNT, mask=0),
        Aggregate(kinds.MEAN, 0, window=MINUTE),
        Aggregate(kinds.MEAN, 0),
        Aggregate(kinds.STDDEV, 0),
        features=features,
        masks=(parse("amount > 3", NAMES),),
        request=(RequestInput("limit"),),
    )
    model = _pushed(view, _row(0, 2.0), _row(100, 4.0))
    assert model.lookup("a", 101 * S, {"limit": 3.0}).features == {
        "dear": 1, "ratio": 4 / 3, "score": 1, "over": 4, "known": 4 / 3,
    }  # fmt: skip
    assert model.lookup("b", 101 * S, {"limit": 3.0}).features["known"] == -1
    assert model.lookup("a", 101 * S, {"limit": None}).features["over"] is None
