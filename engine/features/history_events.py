"""The events of a past table judged and laid out for questions about past instants: by entity, life and time.

`Events` answers which range of its rows was known, before an instant, of an entity; what the rows hold is for `history_lanes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, quoted
from engine.features.compilation_columns import expression_type
from engine.features.view import View
from engine.log.columns import column_of, flat, instants
from kernels import replay
from kernels.ranges import NEVER, Longs

UNBOUNDED_US = 1 << 61
"""Times are cut to this, so that sums of three cannot overflow: 73,000 years from the epoch."""

VERDICTS = {
    replay.APPLIED: "applied",
    replay.FILTERED: "filtered",
    replay.DUPLICATE: "duplicate",
    replay.LATE: "late",
    replay.FUTURE: "future",
    replay.NULL_TIME: "null time",
    replay.NULL_ENTITY: "null entity",
    replay.NULL_ID: "null id",
    replay.OUT_OF_TIME: "out of time",
}
_NONE: Longs = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Known:
    """Of each query the rows of `Events` before it: [begin, cut) all known then, [cut, end) those whose arrival says so.

    `newest` is the time of the newest that was known, NEVER where there is none. All int64 [queries].
    """

    as_of: Longs
    known: Longs
    begin: Longs
    cut: Longs
    end: Longs
    newest: Longs


@dataclass(frozen=True, slots=True)
class Events:
    """Applied events by (entity, life, time), equal times in log order. `rows` are their places in the table. `came`:
    all rows of the table in the order in which they came, None where that is the table's.

    `segments` number lives, `starts` [segments + 1] says where each begins. `arrival`, and `latest` and `earliest` (see
    `replay.arrival_bounds`), are empty where arrivals are not known. `seen_*` hold the same events by (entity, order of arrival).
    """

    keys: pa.Array
    rows: Longs
    came: Longs | None
    times: Longs
    segments: Longs
    starts: Longs
    arrival: Longs
    latest: Longs
    earliest: Longs
    seen_starts: Longs
    seen_arrival: Longs
    seen_times: Longs
    seen_segments: Longs
    verdicts: Mapping[str, int]

    def codes_of(self, keys: pa.Array) -> Longs:
        """Which entity each key is, -1 for unknown ones and nulls. Raises InvalidArgument for keys of another type."""
        keys, wanted = flat(keys), self.keys.type
        if keys.type != wanted:
            alike = expression_type(keys.type) is expression_type(wanted) and not pa.types.is_floating(keys.type)
            if not alike and not pa.types.is_null(keys.type):
                raise InvalidArgument(f"entities are {wanted}, got {keys.type}")
            keys = _cast(keys, wanted, "entities")
        found = pc.index_in(keys, value_set=self.keys, skip_nulls=True)
        return _longs(found.fill_null(-1))

    def known(self, entity: Longs, as_of: Longs, known: Longs) -> Known:
        """What was known of each entity at `known`, of events before `as_of`."""
        segment, begin, cut, end, newest = (np.empty(len(entity), np.int64) for _ in range(5))
        seen = (self.seen_starts, self.seen_arrival, self.seen_times, self.seen_segments)
        replay.latest_known(entity, as_of, known, *seen, segment)
        kept = (self.starts, self.times, self.arrival, self.latest, self.earliest)
        replay.known_ranges(segment, as_of, known, *kept, begin, cut, end, newest)
        return Known(as_of, known, begin, cut, end, newest)


def in_log_order(table: pa.Table, arrival: str | None) -> pa.Table:
    """The table by `arrival`, rows of equal arrival as they come; as it is where arrivals are not known."""
    if arrival is None:
        return table
    at = times_us(table, arrival)
    if len(at) and at.min() == NEVER:
        raise InvalidArgument(f"column {quoted(arrival)}: {int((at == NEVER).sum())} arrivals are null")
    order = _by_time(at)
    return table if order is None else table.take(pa.array(order))


def judged(
    view: View, table: pa.Table, passes: npt.NDArray[np.bool_], arrival: str | None, partition: str | None
) -> Events:
    """Every row of `table`, which is in log order, judged as the log's state would; `passes` is the view's `where`.

    Without `arrival` there is no lateness and no future: rows are duplicates of any earlier row, and lives follow time.
    """
    entity, keys = codes(table, view.entity)
    times = times_us(table, view.event_time)
    arrivals = _NONE if arrival is None else times_us(table, arrival)
    parts = np.zeros(len(times), np.int64) if partition is None else codes(table, partition)[0]
    if len(parts) and parts.min() < 0:
        raise InvalidArgument(f"column {quoted(str(partition))}: a partition is null")
    identity = _NONE if view.event_id is None else codes(table, view.event_id)[0]
    verdict = np.empty(len(times), np.int8)
    watermarks, accepted = (np.full(int(each.max(initial=-1)) + 1, NEVER) for each in (parts, identity))
    lateness = UNBOUNDED_US if arrival is None else view.lateness_us
    rules = (lateness, view.future_us, watermarks, accepted)
    replay.judge(entity, times, arrivals, identity, passes, parts, *rules, verdict)
    counts = np.bincount(verdict, minlength=len(VERDICTS))
    verdicts = {name: int(counts[code]) for code, name in VERDICTS.items()}
    return _laid_out(view, keys, entity, times, arrivals, np.flatnonzero(verdict == replay.APPLIED), verdicts)


def _laid_out(
    view: View, keys: pa.Array, entity: Longs, times: Longs, arrival: Longs, applied: Longs, verdicts: Mapping[str, int]
) -> Events:
    order = _by_time(times[applied])
    by_time = applied if order is None else applied[order]
    newest, life = np.full(len(keys), NEVER), np.zeros(len(keys), np.int64)
    segment = np.zeros(len(times), np.int64)
    replay.count_lives(applied if len(arrival) else by_time, entity, times, view.ttl_us, newest, life, segment)
    first = np.concatenate([[0], np.cumsum(life + 1)])
    segment[applied] += first[entity[applied]]
    starts, rows = np.zeros(int(first[-1]) + 1, np.int64), np.empty(len(applied), np.int64)
    replay.group(by_time, segment, starts, rows)
    kept_times, kept_segments, seen_starts = times[rows], segment[rows], starts[first]
    if not len(arrival):
        came = _by_time(np.where(times == NEVER, UNBOUNDED_US, times))  # rows without a time come last
        seen = (seen_starts, _NONE, kept_times, kept_segments)
        return Events(keys, rows, came, kept_times, kept_segments, starts, _NONE, _NONE, _NONE, *seen, verdicts)
    kept_arrival, latest, seen_rows = arrival[rows], np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    earliest = np.empty((len(rows) + replay.SPAN - 1) // replay.SPAN, np.int64)
    replay.arrival_bounds(starts, kept_arrival, latest, earliest)
    replay.group(applied, entity, np.zeros(len(keys) + 1, np.int64), seen_rows)
    seen = (seen_starts, arrival[seen_rows], times[seen_rows], segment[seen_rows])
    return Events(keys, rows, None, kept_times, kept_segments, starts, kept_arrival, latest, earliest, *seen, verdicts)


def _by_time(times: Longs) -> Longs | None:
    """The order of ascending times, equal ones as they lie; None where they are in it already."""
    return None if np.all(times[1:] >= times[:-1]) else np.argsort(times, kind="stable")


def codes(table: pa.Table, name: str) -> tuple[Longs, pa.Array]:
    """Dense codes by first appearance, -1 for null and NaN; and the values they stand for."""
    values = flat(column_of(table, name))
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    encoded = values.dictionary_encode()
    return _longs(encoded.indices.fill_null(-1)), encoded.dictionary


def _longs(values: pa.Array) -> Longs:
    longs: Longs = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return longs


def times_us(table: pa.Table, name: str) -> Longs:
    """A column of instants as microseconds since the epoch (whole numbers are that already), NEVER for null."""
    values = instants(table, name)
    null = np.asarray(values.is_null())
    found: Longs = np.clip(values.fill_null(0).to_numpy(zero_copy_only=False), -UNBOUNDED_US, UNBOUNDED_US)
    found[null] = NEVER
    return found


def _cast(values: pa.Array, kind: pa.DataType, what: str) -> pa.Array:
    try:
        return values.cast(kind)
    except pa.ArrowException as error:
        raise InvalidArgument(f"{what}: {error}") from error
