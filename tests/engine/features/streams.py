"""Random streams of events that are out of order, late, repeated, null or from the future; and a view that asks everything."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.features.expression import ExpressionType, column, parse
from engine.features.view import Aggregate, AggregateKind, Column, ColumnKind, Feature, FeatureKind, RequestInput, View
from engine.features.window import SECOND_US, Window, WindowKind

S = SECOND_US
START_US = 1_700_000_000 * S
SCHEMA = pa.schema(
    {
        "card": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "id": pa.string(),
        "amount": pa.float64(),
        "shop": pa.string(),
        "code": pa.int32(),
    }
)
NAMES = {
    "card": ExpressionType.TEXT,
    "at": ExpressionType.TIMESTAMP,
    "id": ExpressionType.TEXT,
    "amount": ExpressionType.NUMBER,
    "shop": ExpressionType.TEXT,
    "code": ExpressionType.NUMBER,
}
WINDOWS = (
    Window(WindowKind.SAWTOOTH, 10 * S, S),
    Window(WindowKind.SAWTOOTH, 60 * S, 5 * S),
    Window(WindowKind.SAWTOOTH, 600 * S, 30 * S),
    Window(WindowKind.SLIDING, 60 * S, 5 * S),
    Window(WindowKind.SLIDING, 300 * S, 10 * S),
    Window(WindowKind.TUMBLING, 60 * S, 60 * S),
    Window(WindowKind.TUMBLING, 10 * S, 10 * S),
    None,
)
"""None: all of an entity's events."""

_K = AggregateKind
_MOMENTS = (_K.COUNT, _K.SUM, _K.MEAN, _K.MIN, _K.MAX, _K.VARIANCE, _K.STDDEV)
_LATEST = (_K.FIRST, _K.LAST, _K.DISTINCT, _K.TOP, _K.SINCE)
"""These take no sliding windows."""

COLUMNS = (
    Column(ColumnKind.NUMBER, column("amount", ExpressionType.NUMBER)),
    Column(ColumnKind.NUMBER, parse("amount * 2 + code", NAMES)),
    Column(ColumnKind.HASH, column("shop", ExpressionType.TEXT)),
    Column(ColumnKind.CODE, column("shop", ExpressionType.TEXT), text=True),
    Column(ColumnKind.CODE, column("code", ExpressionType.NUMBER, whole=True).as_integer()),
    Column(ColumnKind.HASH, column("code", ExpressionType.NUMBER, whole=True)),
)
MASKS = (parse("amount > 60", NAMES), parse("shop != 's1'", NAMES))


@dataclass(frozen=True, slots=True)
class Arrived:
    """One row of a log: its partition, values by column, and when it was appended."""

    partition: int
    row: dict[str, Any]
    appended_us: int


def whole_view(**changes: object) -> View:
    """Every aggregation over every window it takes, with and without filters, on numbers, texts and codes; ratios, z-scores
    and expressions with request inputs."""
    aggregates = _aggregates()
    features = [
        Feature(f"{each.kind.value}_{index}" + (f"_{rank + 1}" if each.k > 1 else ""), FeatureKind.AGGREGATE, (index,), rank,
                text=each.column is not None and COLUMNS[each.column].text)
        for index, each in enumerate(aggregates)
        for rank in range(each.k)
    ]  # fmt: skip
    means = [i for i, each in enumerate(aggregates) if each.kind is _K.MEAN and each.mask is None and each.column == 0]
    deviations = [
        i for i, each in enumerate(aggregates) if each.kind is _K.STDDEV and each.mask is None and each.column == 0
    ]
    features += [
        Feature("ratio", FeatureKind.RATIO, (means[1], means[2])),
        Feature("score", FeatureKind.Z_SCORE, (means[1], means[2], deviations[2])),
    ]
    given = {"ratio": ExpressionType.NUMBER, "score": ExpressionType.NUMBER, "sum": ExpressionType.NUMBER}
    asked = {"limit": ExpressionType.NUMBER, "place": ExpressionType.TEXT}
    features += [
        Feature("over", FeatureKind.EXPRESSION, expression=parse("coalesce(ratio, 0) - limit", given | asked)),
        Feature(
            "at_home", FeatureKind.EXPRESSION, expression=parse("number(place == 'home' and score > 0)", given | asked)
        ),
    ]
    fields: dict[str, Any] = {
        "name": "cards", "source": "log", "entity": "card", "event_time": "at", "event_id": "id", "lateness_us": 20 * S,
        "future_us": 5 * S, "max_age_us": 200 * S, "ttl_us": 600 * S, "where": parse("code != 13", NAMES), "columns": COLUMNS,
        "masks": MASKS, "aggregates": aggregates, "features": tuple(features),
        "request": (RequestInput("limit"), RequestInput("place", text=True)),
    }  # fmt: skip
    return View(**(fields | changes))


def _aggregates() -> tuple[Aggregate, ...]:
    made = []
    for window in WINDOWS:
        for column_, mask in ((0, None), (1, 0), (0, 1)):
            made += [Aggregate(kind, column_, mask, window) for kind in _MOMENTS]
        made.append(Aggregate(_K.COUNT, window=window))
        made.append(Aggregate(_K.COUNT, 2, 0, window))
        if window is not None and window.kind is WindowKind.SLIDING:
            continue
        made += [Aggregate(kind, 0, mask, window) for kind in (_K.FIRST, _K.LAST, _K.SINCE) for mask in (None, 0)]
        made += [Aggregate(kind, column_, None, window) for kind in (_K.FIRST, _K.LAST) for column_ in (3, 4)]
        made += [Aggregate(_K.SINCE, None, mask, window) for mask in (None, 1)]
        made += [Aggregate(_K.DISTINCT, column_, 0, window, slots=slots) for column_, slots in ((2, 64), (5, 16))]
        made += [
            Aggregate(_K.TOP, column_, mask, window, slots=64, k=k) for column_, mask, k in ((3, None, 1), (4, 1, 3))
        ]
    made += [
        Aggregate(_K.DECAYED, column_, mask, half_life_us=h * S)
        for h in (7, 90)
        for column_, mask in ((None, 1), (0, None))
    ]
    return tuple(made)


def random_stream(seed: int, rows: int = 400, *, entities: int = 6, partitions: int = 1) -> list[Arrived]:
    """`rows` rows of a log in order, some hundred seconds long, with now and then a pause that ends lives."""
    rng = random.Random(seed)
    now, log, ids = START_US + rng.randrange(100 * S), [], [f"e{i}" for i in range(rows)]
    for i in range(rows):
        now += rng.choice([0, 1, rng.randrange(S), rng.randrange(3 * S)])
        if rng.random() < 0.01:
            now += rng.randrange(700 * S)
        entity = rng.randrange(entities)
        row = _row(rng, now, entity)
        row["id"] = rng.choice(ids[max(0, i - 20) : i + 1]) if rng.random() < 0.1 else ids[i]
        if rng.random() < 0.03:
            row[rng.choice(["card", "at", "id"])] = None
        log.append(Arrived(entity % partitions, row, now))
    return log


def _row(rng: random.Random, now: int, entity: int) -> dict[str, Any]:
    behind = rng.choice(
        [0, 0, 0, rng.randrange(2 * S), rng.randrange(25 * S), rng.randrange(40 * S), -rng.randrange(8 * S)]
    )
    at = now - behind
    if rng.random() < 0.2:
        at -= at % S  # equal times, and the edges of tiles
    return {
        "card": f"card {entity}",
        "at": at,
        "amount": rng.choice([None, float("nan"), 0.0, *(rng.gammavariate(2, 30) for _ in range(6))]),
        "shop": rng.choice([None, *(f"s{rng.randrange(1, 9)}" for _ in range(5))]),
        "code": rng.choice([None, 13, *(rng.randrange(20) for _ in range(6))]),
    }


def table_of(log: list[Arrived]) -> pa.Table:
    """The log as a table, with columns `appended` and `partition`."""
    columns = {each.name: pa.array([row.row[each.name] for row in log], each.type) for each in SCHEMA}
    columns["appended"] = pa.array([each.appended_us for each in log], pa.timestamp("us", "UTC"))
    columns["partition"] = pa.array([each.partition for each in log], pa.int32())
    return pa.table(columns)
