"""A whole engine over a spec in a folder, with what tests of running views ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine import Appended, Engine, FeatureView, parse_spec

SECOND = 1_000_000
START_US = 1_700_000_000 * SECOND

LOG = """
logs:
  tx:
    schema: {card: string, at: timestamp, id: string, amount: float64, shop: string}
    local: {path: log, durability: os}
"""
VIEW = """
  spending:
    source: tx
    entity: card
    event_time: at
    event_id: id
    lateness: 60s
    dead_letters: dead.jsonl
    snapshot: {path: snapshots, every: 1h}
    request: {now_amount: number}
    features:
      n: {aggregation: count, window: 1h}
      total: {aggregation: sum, column: amount, window: 1h}
      last_shop: {aggregation: last, column: shop, window: 1h}
      share: {expression: now_amount / total}
"""
SPEC = f"{LOG}feature_views:{VIEW}"

Row = Mapping[str, Any]


def row(number: int, card: str | None = "a", *, at_s: float | None = None, **other: Any) -> dict[str, Any]:  # noqa: ANN401
    """Event `number`, one a second unless told."""
    at_us = START_US + int((number if at_s is None else at_s) * SECOND)
    return {"card": card, "at": at_us, "id": f"e{number}", "amount": float(number), "shop": f"s{number % 3}"} | other


def batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """The rows, times given as whole microseconds."""
    return pa.RecordBatch.from_pylist([dict(each) for each in rows], schema=schema)


class Running:
    """An engine that runs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def push(self, *rows: Row, log: str = "tx") -> Appended:
        """Appends them, and waits until every view of the log has them."""
        features = self.engine.features
        appended = features.push(log, batch(rows, features.schema(log)))
        for view in map(features.view, features.views):
            assert view.view.source != log or view.wait(appended, 30)
        return appended

    def view(self, name: str = "spending") -> FeatureView:
        return self.engine.features.view(name)

    def counts(self, *cards: str, view: str = "spending", as_of_us: int | None = None) -> list[float | None]:
        """Feature `n` of these, None where it is null."""
        found = self.view(view).lookup(pa.array(cards, pa.string()), as_of_us=as_of_us or START_US, features=["n"])
        return [None if each != each else each for each in found.values[:, 0].tolist()]


@contextmanager
def running(folder: Path, spec: str = SPEC) -> Iterator[Running]:
    """An engine over `spec` that has started; closed at the end."""
    engine = Engine(parse_spec(spec, folder=folder))
    engine.start()
    try:
        for name in engine.features.views:  # a busy machine may take longer than a start waits
            if "still restoring" in engine.problems().get(name, ""):
                assert engine.features._views[name].await_ready(60)
        yield Running(engine)
    finally:
        engine.close()
