"""Point-in-time-correct features: a view over a table of past events, as it would have answered at any instant of its past.

The same declaration that `state` folds over a log is evaluated here over columns, all queries at once: events are sorted by
entity and time, each query's windows become ranges of them, and `kernels/ranges.py` computes over ranges. Nothing at or after
a query's time is ever seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, quoted
from engine.features.answer import MISSING, PRESENT, STALE, no_request_input
from engine.features.compilation_columns import expression_type
from engine.features.expression_tree import ExpressionType
from engine.features.history_events import (
    UNBOUNDED_US,
    Events,
    Known,
    in_log_order,
    judged,
    times_us,
)
from engine.features.history_lanes import Aggregates
from engine.features.tables import read_table
from engine.features.view import Feature, FeatureKind, View
from engine.log.columns import column_of, flat
from kernels.ranges import NEVER, Floats, Longs
from kernels.replay import group

PART_QUERIES = 1 << 16
"""Queries answered at a time by one thread: what they need of the events stays in cache."""


@dataclass(frozen=True, slots=True)
class Past:
    """Answers about past instants, row by row as they were asked.

    `event_time_us`: int64, of the entity's newest event that was known, 0 where it is missing. `status`: uint8, as
    `FeatureRows`. `features`, in the view's order, are float64 or string arrays with nulls.
    """

    event_time_us: Longs
    status: npt.NDArray[np.uint8]
    features: Mapping[str, pa.Array]


class History:
    """One view over one table, sorted once and asked often. Methods may be called from any thread.

    `table` holds the columns that the view reads of its log: an Arrow table, or the path of Parquet files or of a Delta table
    (`version`: the newest where null). `arrival` names the column that says when an event came (Feast's created_timestamp):
    rows are then judged in that order, late and future ones left out, and a query sees what had come by its time; `partition`
    names what keeps watermarks apart. Without `arrival` an event came when it happened: none is late, rows with equal times and
    ids count in the table's order.

    `version` is the Delta version that was read, `verdicts` says how many rows were judged how. Raises InvalidArgument for
    columns that are missing or of a wrong type, NotFound where there is no table.
    """

    def __init__(
        self,
        view: View,
        table: pa.Table | str | Path,
        *,
        version: int | None = None,
        arrival: str | None = None,
        partition: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.view, self.version = view, version
        if not isinstance(table, pa.Table):
            table, self.version = read_table(table, version, _columns_read(view, arrival, partition))
        self._threads = threads or os.cpu_count() or 1
        table = in_log_order(table, arrival)
        columns = {
            name: plain(column_of(table, name), name, kind) for name, kind in sorted(_read_by_expressions(view).items())
        }
        rows = table.num_rows
        passes = np.ones(rows, np.bool_) if view.where is None else view.where.holds(columns, rows)
        self._events: Events = judged(view, table, passes, arrival, partition)
        arrays = [each.value.evaluate(columns, rows) for each in view.columns]
        masks = [each.holds(columns, rows) for each in view.masks]
        self._aggregates = Aggregates(view, self._events, arrays, masks)
        self.verdicts: Mapping[str, int] = self._events.verdicts

    def training_set(self, queries: pa.Table, *, timestamp: str | None = None, status: bool = False) -> pa.Table:
        """The queries with the view's features as of each row's `timestamp` (default: named as the view's event time).

        Queries need the entity column and the view's request inputs; all their columns are carried through, in their order.
        `status` adds `<view>_status` and `<view>_event_time`. Raises InvalidArgument for columns that are missing, of a wrong
        type or named like a feature, and for null times.
        """
        name = timestamp or self.view.event_time
        as_of = times_us(queries, name)
        if nulls := int((as_of == NEVER).sum()):
            raise InvalidArgument(f"column {quoted(name)}: {nulls} of {len(as_of)} query times are null")
        request = {each.name: column_of(queries, each.name) for each in self.view.request}
        past = self.at(column_of(queries, self.view.entity), as_of, request=request)
        added = dict(past.features)
        if status:
            newest = pa.array(past.event_time_us, mask=past.status == MISSING).cast(pa.timestamp("us", "UTC"))
            words = pa.array([_STATUS[each] for each in range(len(_STATUS))]).take(pa.array(past.status))
            added |= {f"{self.view.name}_status": words, f"{self.view.name}_event_time": newest}
        for each, values in added.items():
            if each in queries.column_names:
                raise InvalidArgument(f"the queries have a column {quoted(each)}, which the view adds; rename it")
            queries = queries.append_column(each, values)
        return queries

    def at(
        self,
        keys: pa.Array | pa.ChunkedArray,
        as_of: Longs,
        *,
        known: Longs | None = None,
        request: Mapping[str, pa.Array | pa.ChunkedArray] | None = None,
    ) -> Past:
        """The features of each entity as of each instant (us), by events before it that had come by `known` (default: as_of).

        A null or unknown entity is missing; a request input that is not given is null. Raises InvalidArgument for request
        inputs that are unknown, and for keys or inputs of another type.
        """
        as_of = np.clip(np.asarray(as_of, np.int64), -UNBOUNDED_US, UNBOUNDED_US)
        known = as_of if known is None else np.asarray(known, np.int64)
        entity = self._events.codes_of(keys)
        order = _by_entity_and_time(entity, as_of, len(self._events.keys))
        found = self._aggregates.empty(len(order))
        newest = np.empty(len(order), np.int64)

        def answer(start: int) -> None:
            rows = order[start : start + PART_QUERIES]
            part = self._events.known(entity[rows], as_of[rows], known[rows])
            newest[rows] = part.newest
            self._aggregates.answer(_present(self.view, part), rows, found)

        parts = range(0, len(order), PART_QUERIES)
        with ThreadPoolExecutor(min(self._threads, max(len(parts), 1))) as pool:
            list(pool.map(answer, parts))
        return self._past(as_of, newest, found, request or {})

    def _past(self, as_of: Longs, newest: Longs, found: list[Floats], request: Mapping[str, pa.Array]) -> Past:
        missing = (newest == NEVER) | (as_of - newest > self.view.ttl_us)
        stale = ~missing & (as_of - newest > _max_age(self.view))
        absent = missing | stale
        for each in found if absent.any() else ():
            each[:, absent] = np.nan
        features: dict[str, pa.Array] = {}
        given = _given(self.view, request, len(as_of))
        for feature in self.view.features:
            if feature.kind is FeatureKind.EXPRESSION:
                features[feature.name] = _expressed(feature, {**features, **given}, len(as_of))
            else:
                features[feature.name] = self._feature(feature, found)
        status = np.where(missing, MISSING, np.where(stale, STALE, PRESENT)).astype(np.uint8)
        return Past(np.where(missing, 0, newest), status, features)

    def _feature(self, feature: Feature, found: list[Floats]) -> pa.Array:
        numbers = found[feature.of[0]][feature.rank]
        if feature.text:
            values = self._aggregates.lane(self.view.aggregates[feature.of[0]]).values
            assert values is not None
            assert values.texts is not None
            none = np.isnan(numbers)
            return values.texts.take(pa.array(np.where(none, 0, numbers).astype(np.int64), mask=none))
        if feature.kind is not FeatureKind.AGGREGATE:
            divisor = found[feature.of[-1]][0].copy()
            divisor[divisor == 0] = np.nan
            if feature.kind is FeatureKind.Z_SCORE:
                numbers = numbers - found[feature.of[1]][0]
            with np.errstate(all="ignore"):
                numbers = numbers / divisor
        return pa.array(numbers, pa.float64(), from_pandas=True)


_STATUS = {PRESENT: "present", MISSING: "missing", STALE: "stale"}


def _max_age(view: View) -> int:
    return UNBOUNDED_US * 2 if view.max_age_us is None else view.max_age_us


def _present(view: View, known: Known) -> Known:
    """Queries that are missing or stale are asked nothing more."""
    absent = (known.newest == NEVER) | (known.as_of - known.newest > min(view.ttl_us, _max_age(view)))
    if not absent.any():
        return known
    begin, cut, end = (np.where(absent, 0, each) for each in (known.begin, known.cut, known.end))
    return replace(known, begin=begin, cut=end if known.cut is known.end else cut, end=end)


def _by_entity_and_time(entity: Longs, as_of: Longs, entities: int) -> Longs:
    """The queries' order in which neighbours ask for neighbouring events."""
    by_time = np.arange(len(as_of))
    if not np.all(as_of[1:] >= as_of[:-1]):
        by_time = np.argsort(as_of, kind="stable")
    order = np.empty(len(as_of), np.int64)
    group(by_time, entity + 1, np.zeros(entities + 2, np.int64), order)
    return order


def _expressed(feature: Feature, columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    assert feature.expression is not None
    values = flat(feature.expression.evaluate(columns, rows))
    if feature.text:
        return values.cast(pa.string())
    return values.cast(pa.float64(), safe=False)


def _given(view: View, request: Mapping[str, pa.Array | pa.ChunkedArray], rows: int) -> dict[str, pa.Array]:
    """All request inputs as expressions want them."""
    declared = {each.name: each.text for each in view.request}
    for name in request:
        if name not in declared:
            raise no_request_input(view.name, name, declared)
    return {name: _input(name, text, request.get(name), rows) for name, text in declared.items()}


def _input(name: str, text: bool, values: pa.Array | pa.ChunkedArray | None, rows: int) -> pa.Array:
    wanted = pa.string() if text else pa.float64()
    if values is None:
        return pa.nulls(rows, wanted)
    values = flat(values)
    if len(values) != rows:
        raise InvalidArgument(f"request input {quoted(name)}: {len(values)} values, expected {rows}")
    if text != pa.types.is_large_string(values.type) and not pa.types.is_null(values.type):
        raise InvalidArgument(
            f"request input {quoted(name)}: expected {'texts' if text else 'numbers'}, got {values.type}"
        )
    try:
        return values.cast(wanted)
    except pa.ArrowException as error:
        raise InvalidArgument(f"request input {quoted(name)}: {error}") from error


def _read_by_expressions(view: View) -> dict[str, ExpressionType]:
    expressions = [*(each.value for each in view.columns), *view.masks, *([view.where] if view.where else [])]
    leaves = [node for each in expressions for node in each.node.walk() if node.operation == "name"]
    return {str(node.value): node.type for node in leaves}


def _columns_read(view: View, arrival: str | None, partition: str | None) -> list[str]:
    named = {view.entity, view.event_time, view.event_id, arrival, partition} - {None}
    return sorted(_read_by_expressions(view).keys() | {str(each) for each in named})


def plain(column: pa.ChunkedArray, name: str, wanted: ExpressionType) -> pa.Array:
    """A table's column as a log would hold it: instants in microseconds, decimals as numbers, no dictionaries."""
    values = flat(column)
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.unit != "us":
        values = values.cast(pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_null(kind):
        values = values.cast(_NULL_TYPES.get(wanted, pa.float64()))
    if expression_type(values.type) is not wanted:
        raise InvalidArgument(f"column {quoted(name)}: expected {wanted.value}, got {column.type}")
    return values


_NULL_TYPES = {
    ExpressionType.TEXT: pa.large_string(),
    ExpressionType.BOOL: pa.bool_(),
    ExpressionType.TIMESTAMP: pa.timestamp("us", "UTC"),
    ExpressionType.BYTES: pa.large_binary(),
}
