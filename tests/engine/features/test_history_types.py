"""Whatever can be declared, over columns of whatever type, history answers as the evident model does."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import SpecError
from engine.features.compilation import compile_view
from engine.features.declaration import FeatureSpec, FeatureViewSpec
from engine.features.history import History
from engine.features.view import View
from engine.features.window import SECOND_US
from tests.engine.features.oracle import Oracle, near

S = SECOND_US
VALUES = {
    "f": pa.float32(), "i": pa.int64(), "b": pa.bool_(), "s": pa.large_string(), "t": pa.timestamp("us", "UTC"),
    "y": pa.binary(), "u": pa.uint64(),
}  # fmt: skip
SCHEMA = pa.schema({"card": pa.int32(), "at": pa.int64(), "id": pa.uint64(), **VALUES})
AGGREGATIONS: dict[str, dict[str, Any]] = {
    **{
        name: {"window": "60s"}
        for name in ("count", "sum", "mean", "min", "max", "variance", "stddev", "first", "last")
    },
    **{name: {"window": "60s"} for name in ("approx_distinct", "most_frequent", "time_since_last")},
    **{name: {"half_life": "30s"} for name in ("decayed_count", "decayed_sum")},
    "ratio": {"window": "60s", "against": "600s", "statistic": "count"},
    "z_score": {"window": "60s", "against": "600s"},
}


def _spec(features: dict[str, FeatureSpec]) -> FeatureViewSpec:
    return FeatureViewSpec("log", "card", "at", features, event_id="id", lateness="20s", future="5s", where="f > -5")


def _view() -> View:
    """All that the compiler takes of these."""
    taken: dict[str, FeatureSpec] = {}
    for column in VALUES:
        for aggregation, keys in AGGREGATIONS.items():
            for where in (None, "i > 3 or b"):
                spec = FeatureSpec(aggregation, column=column, where=where, **keys)  # type: ignore[arg-type]
                name = f"{aggregation}_{column}_{'some' if where else 'all'}"
                try:
                    compile_view("cards", _spec({name: spec}), SCHEMA)
                except SpecError:
                    continue
                taken[name] = spec
    assert len(taken) > 150
    return compile_view("cards", _spec(taken), SCHEMA)


def _rows(rng: random.Random, count: int) -> list[tuple[dict[str, Any], int]]:
    now, rows = 1_700_000_000 * S, []
    for number in range(count):
        now += rng.randrange(2 * S)
        row = {
            "card": rng.randrange(4),
            "at": now - (rng.randrange(30 * S) if rng.random() < 0.4 else 0),
            "id": number if rng.random() < 0.9 else max(0, number - 3),
            "f": rng.choice([None, float(np.float32(rng.gauss(1, 3)))]),
            "i": rng.choice([None, rng.randrange(9), (1 << 60) + rng.randrange(3)]),
            "b": rng.choice([None, True, False]),
            "s": rng.choice([None, "x", "y", "zß"]),
            "t": rng.choice([None, now - rng.randrange(100 * S)]),
            "y": rng.choice([None, b"q", b"\0", b""]),
            "u": rng.choice([None, rng.randrange(5), (1 << 63) + rng.randrange(4)]),
        }
        rows.append((row, now))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_every_aggregation_of_every_type_of_column_is_the_models(seed: int) -> None:
    view, rng = _view(), random.Random(seed)
    rows = _rows(rng, 200)
    table = pa.table({each.name: pa.array([row[each.name] for row, _ in rows], each.type) for each in SCHEMA})
    history = History(view, table.append_column("arrival", pa.array([at for _, at in rows])), arrival="arrival")
    asked = sorted((rng.choice(rows)[1] + rng.randrange(90 * S), rng.randrange(5)) for _ in range(30))
    past = history.at(pa.array([card for _, card in asked]), np.array([at for at, _ in asked]))
    model, pushed = Oracle(view, SCHEMA), 0
    for number, (at, card) in enumerate(asked):
        while pushed < len(rows) and rows[pushed][1] <= at:
            model.push(0, *rows[pushed])
            pushed += 1
        for name, wanted in model.lookup_before(card, at).features.items():
            found = past.features[name][number].as_py()
            assert near(found, wanted), f"seed {seed}, query {number}, {name}: {found} {wanted}"
