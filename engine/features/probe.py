"""The skew probe of a spec's view: its file of served rows against its log, or a table of its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import FailedPrecondition, InvalidArgument, NotFound, nearest, quoted
from engine.features.compilation import compile_view
from engine.features.declaration import FeatureViewSpec
from engine.features.history import History
from engine.features.instant import instant_us
from engine.features.opening import declared_digest
from engine.features.sample_file import SampleFile
from engine.features.skew import SkewReport, compare
from engine.features.tables import events_in_order
from engine.features.view import View
from engine.log.past import ARRIVAL, PARTITION, open_past, read_log
from engine.log.schema import arrow_schema

if TYPE_CHECKING:
    from engine.spec import Spec

_INSTANT = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found. `sampled` rows of `offered` that were served lie in the file; `report` says what became of them.

    `kept_from`: where the log begins, of partitions whose first entries are no longer kept; what features owe to these is a
    mismatch.
    """

    report: SkewReport
    sampled: int
    offered: int
    kept_from: Mapping[int, int]


def probe_skew(
    spec: Spec,
    name: str,
    *,
    table: str | Path | None = None,
    arrival: str | None = None,
    settle_us: int = 1_000_000,
) -> Probe:
    """Compares the sample of the view `name` with `table` (see `History`; `arrival` as there), by default with its log.

    The log may be in use: nothing of it is changed. See `compare` for `settle_us`.
    Raises NotFound for a view, sample, log or table that is not there, FailedPrecondition where no sample is declared or it is of
    another declaration, Unavailable where the log cannot be reached.
    """
    declared = _declared(spec, name)
    schema = arrow_schema(spec.logs[declared.source].schema, f"logs.{declared.source}.schema")
    view = compile_view(name, declared, schema)
    assert declared.sample is not None
    file = SampleFile(spec.path(declared.sample.path), view, declared_digest(view, declared))
    rows, offered = file.read()
    kept_from: dict[int, int] = {}
    if table is not None:
        history = History(view, table, arrival=arrival)
    elif arrival is not None:
        raise InvalidArgument("a column of arrivals is a table's; the log knows them itself")
    else:
        past, kept_from = _logged(spec, view, declared, schema)
        history = History(view, past, arrival=ARRIVAL, partition=PARTITION)
    return Probe(compare(history, rows, settle_us=settle_us), len(rows), offered, kept_from)


def _declared(spec: Spec, name: str) -> FeatureViewSpec:
    declared = spec.feature_views.get(name)
    if declared is None:
        raise NotFound(f"no feature view {quoted(name)}{nearest(name, spec.feature_views)}")
    if declared.sample is None:
        raise FailedPrecondition(
            f"feature view {quoted(name)} keeps no sample of what it serves; declare 'sample: {{path: ...}}'"
        )
    return declared


def _logged(spec: Spec, view: View, declared: FeatureViewSpec, schema: pa.Schema) -> tuple[pa.Table, dict[int, int]]:
    """All that the view has read, and where the log no longer begins with its first entry."""
    log = open_past(spec.logs[declared.source], schema, spec.path)
    try:
        kept_from = {partition: offset for partition, offset in log.earliest().items() if offset}
        logged = read_log(log)
    finally:
        log.close()
    if declared.bootstrap is None:
        return logged, kept_from
    until_us = instant_us(declared.bootstrap.until)
    path, version = spec.path(declared.bootstrap.table), declared.bootstrap.version
    events = events_in_order(path, version, schema, view.event_time, until_us)
    began = pa.Table.from_batches(events.batches, schema)
    arrivals = pa.array([until_us] * began.num_rows, pa.int64()).cast(_INSTANT)
    began = began.append_column(ARRIVAL, arrivals).append_column(PARTITION, pa.array([0] * began.num_rows, pa.int32()))
    times = logged.column(view.event_time).cast(pa.int64())
    uncovered = pc.fill_null(pc.greater_equal(times, until_us), True)
    return pa.concat_tables([began, logged.filter(uncovered)]), kept_from
