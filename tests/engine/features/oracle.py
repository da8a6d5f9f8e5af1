"""The evident model of a feature view: every event judged alone, all of them kept in lists, every answer a loop over a list.

It shares nothing with the state and history that it judges but the view's declaration, its expressions, `Window.span` and the
hash of values. Slow on purpose: what it does is meant to be read beside docs/reference/features.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from engine.features.expression import Expression
from engine.features.view import Aggregate, AggregateKind, ColumnKind, Feature, FeatureKind, View
from engine.features.window import WindowKind

Value = float | int | str | None
Row = Mapping[str, object]

NULL_ENTITY, NULL_TIME, NULL_ID, OUT_OF_TIME = "null entity", "null time", "null id", "out of time"
FUTURE, LATE, DUPLICATE, FILTERED, APPLIED = "future", "late", "duplicate", "filtered", "applied"
DEAD = (NULL_ENTITY, NULL_TIME, NULL_ID, OUT_OF_TIME, FUTURE, LATE)
TIME_MAX_US = ((1 << 32) - 2) * 1_000_000
MISSING, STALE, PRESENT = "missing", "stale", "present"


@dataclass(frozen=True, slots=True)
class Event:
    """One applied event. `values` and `masks` are by the view's `columns` and `masks`; `life` counts the entity's new starts."""

    time: int
    life: int
    values: tuple[Value, ...]
    masks: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of a lookup. `newest`: the time of the entity's newest event, None where it is missing."""

    status: str
    newest: int | None
    as_of: int
    features: dict[str, Value]


@dataclass(slots=True)
class _Entity:
    partition: int
    events: list[Event] = field(default_factory=list)


class Oracle:
    """One view folded row by row. `schema` is of the log; `push` in log order, then `lookup`."""

    def __init__(self, view: View, schema: pa.Schema) -> None:
        self.view, self.schema = view, schema
        self.verdicts: Counter[str] = Counter()
        self.watermarks: dict[int, int] = {}
        self._entities: dict[object, _Entity] = {}
        self._ids: dict[object, int] = {}
        self._first_seen: list[dict[str, int]] = [{} for _ in view.columns]

    def push(self, partition: int, row: Row, appended_us: int) -> str:
        """Judges one row, applies it if it is to be, and says what became of it."""
        self.see_texts(row)
        verdict = self._judge(partition, row, appended_us)
        self.verdicts[verdict] += 1
        if verdict == APPLIED:
            self._apply(partition, row)
        return verdict

    def see_texts(self, row: Row) -> None:
        """Texts are ranked by first appearance in the log, whatever becomes of the row."""
        for column, seen in zip(self.view.columns, self._first_seen, strict=True):
            if column.text and (text := self._evaluate(column.value, row)) is not None:
                seen.setdefault(str(text), len(seen))

    def _judge(self, partition: int, row: Row, appended_us: int) -> str:  # noqa: PLR0911  one line a rule
        view = self.view
        time = row[view.event_time]
        if _is_null(row[view.entity]):
            return NULL_ENTITY
        if not isinstance(time, int):
            return NULL_TIME
        if view.event_id is not None and _is_null(row[view.event_id]):
            return NULL_ID
        if not 0 <= time <= TIME_MAX_US:
            return OUT_OF_TIME
        if time > appended_us + view.future_us:
            return FUTURE
        watermark = self.watermarks.get(partition)
        if watermark is not None and time < watermark - view.lateness_us:
            return LATE
        watermark = time if watermark is None else max(watermark, time)
        self.watermarks[partition] = watermark
        if view.event_id is not None:
            accepted = self._ids.get(row[view.event_id])
            if accepted is not None and accepted >= watermark - view.lateness_us:
                return DUPLICATE
            self._ids[row[view.event_id]] = time
        if view.where is not None and self._evaluate(view.where, row) is not True:
            return FILTERED
        return APPLIED

    def _apply(self, partition: int, row: Row) -> None:
        view, time = self.view, row[self.view.event_time]
        assert isinstance(time, int)
        entity = self._entities.setdefault(row[view.entity], _Entity(partition))
        entity.partition = partition
        life = entity.events[-1].life if entity.events else 0
        if entity.events and time - max(each.time for each in entity.events if each.life == life) > view.ttl_us:
            life += 1
        values = tuple(self._column(index, row) for index in range(len(view.columns)))
        masks = tuple(self._evaluate(mask, row) is True for mask in view.masks)
        entity.events.append(Event(time, life, values, masks))

    def _column(self, index: int, row: Row) -> Value:
        """The value an aggregate sees of this row, None for no value."""
        column = self.view.columns[index]
        array = self._evaluate_array(column.value, row)
        value = array[0].as_py()
        if _is_null(value):
            return None
        if column.kind is ColumnKind.HASH:
            from engine.features.hashing import hash_values

            return int(hash_values(array)[0])
        if column.text:
            return str(value)
        return float(value) if column.kind is ColumnKind.NUMBER else int(value)

    def _evaluate_array(self, expression: Expression, row: Row) -> pa.Array:
        columns = {each.name: pa.array([row[each.name]], each.type) for each in self.schema}
        return expression.evaluate(columns, 1)

    def _evaluate(self, expression: Expression, row: Row) -> object:
        return self._evaluate_array(expression, row)[0].as_py()

    def events(self, entity: object) -> list[Event]:
        """All applied events of an entity in log order, of all its lives."""
        return self._entities[entity].events if entity in self._entities else []

    def lookup(self, entity: object, as_of: int, request: Row | None = None) -> Answer:
        """What a read that asks for this instant is answered, as things stand in the log."""
        known = self.events(entity)
        if known:
            life = known[-1].life
            newest = max(each.time for each in known if each.life == life)
            watermark = self.watermarks[self._entities[entity].partition]
            as_of = max(as_of, newest + 1, watermark - self.view.lateness_us)
        return self.lookup_before(entity, as_of, request)

    def lookup_before(self, entity: object, as_of: int, request: Row | None = None) -> Answer:
        """What history says of this instant, of the rows pushed so far: events at or after it are not there."""
        events = [each for each in self.events(entity) if each.time < as_of]
        events = [each for each in events if each.life == events[-1].life]
        newest = max((each.time for each in events), default=None)
        status = self._status(newest, as_of)
        features: dict[str, Value] = {}
        for feature in self.view.features:
            features[feature.name] = self._feature(feature, events, as_of, status, features, request or {})
        return Answer(status, None if status == MISSING else newest, as_of, features)

    def _status(self, newest: int | None, as_of: int) -> str:
        if newest is None or as_of - newest > self.view.ttl_us:
            return MISSING
        if self.view.max_age_us is not None and as_of - newest > self.view.max_age_us:
            return STALE
        return PRESENT

    def _feature(
        self,
        feature: Feature,
        events: Sequence[Event],
        as_of: int,
        status: str,
        before: Mapping[str, Value],
        request: Row,
    ) -> Value:
        if feature.kind is FeatureKind.EXPRESSION:
            return self._expression(feature, before, request)
        if status != PRESENT:
            return None
        of = [self.aggregate(self.view.aggregates[index], events, as_of) for index in feature.of]
        if feature.kind is FeatureKind.AGGREGATE:
            return of[0][feature.rank] if feature.rank < len(of[0]) else None
        first, *others = (each[0] for each in of)
        if first is None or any(each is None for each in others) or others[-1] == 0:
            return None
        numbers = [float(each) for each in (first, *others) if each is not None]
        if feature.kind is FeatureKind.RATIO:
            return numbers[0] / numbers[1]
        return (numbers[0] - numbers[1]) / numbers[2]

    def _expression(self, feature: Feature, before: Mapping[str, Value], request: Row) -> Value:
        assert feature.expression is not None
        text = {each.name: each.text for each in self.view.features}
        text |= {each.name: each.text for each in self.view.request}
        given = {**before, **{each.name: request.get(each.name) for each in self.view.request}}
        columns = {
            name: pa.array([value], pa.string() if text[name] else pa.float64()) for name, value in given.items()
        }
        value = feature.expression.evaluate(columns, 1)[0].as_py()
        if feature.text or _is_null(value):
            return None if _is_null(value) else str(value)
        return float(value)

    def aggregate(self, aggregate: Aggregate, events: Sequence[Event], as_of: int) -> Sequence[Value]:
        """One aggregate over events of one life in log order: one value, or up to `k` of them."""
        found = []
        for each in events:
            value: Value = 1.0 if aggregate.column is None else each.values[aggregate.column]
            if value is None or (aggregate.mask is not None and not each.masks[aggregate.mask]):
                continue
            if aggregate.window is not None:
                first, last = aggregate.window.span(as_of)
                if not first <= each.time // aggregate.window.tile_us <= last:
                    continue
            found.append((each.time, value))
        if aggregate.window is not None and aggregate.window.kind is WindowKind.SLIDING:
            assert all(time < as_of - as_of % aggregate.window.tile_us for time, _ in found)
        return self._answer(aggregate, found, as_of)

    def _answer(self, aggregate: Aggregate, found: Sequence[tuple[int, Value]], as_of: int) -> Sequence[Value]:  # noqa: PLR0911  one line a kind
        values = [value for _, value in found]
        kind = aggregate.kind
        if kind is AggregateKind.TOP:
            return self._most_frequent(aggregate, values)
        if kind is AggregateKind.DISTINCT:
            return [linear_count([int(value or 0) for value in values], aggregate.slots)]
        if kind is AggregateKind.FIRST:
            return [min(found, key=lambda each: each[0])[1] if found else None]  # min and max give the first of equals
        if kind is AggregateKind.LAST:
            return [max(reversed(found), key=lambda each: each[0])[1] if found else None]
        if kind is AggregateKind.SINCE:
            return [(as_of - max(time for time, _ in found)) / 1e6 if found else None]
        numbers = [float(value or 0) for value in values]
        if kind is AggregateKind.DECAYED:
            ages = [as_of - time for time, _ in found]
            return [math.fsum(v * 2.0 ** (-age / aggregate.half_life_us) for v, age in zip(numbers, ages, strict=True))]
        return [_none_for_nan(_STATISTICS[kind](numbers))]

    def _most_frequent(self, aggregate: Aggregate, values: Iterable[Value]) -> list[Value]:
        assert aggregate.column is not None
        seen = self._first_seen[aggregate.column]
        counted = Counter(values)

        def order(value: Value) -> tuple[int, float]:
            return -counted[value], seen[value] if isinstance(value, str) else float(value or 0)

        return sorted(counted, key=order)[: aggregate.k]


def near(found: Value, wanted: Value) -> bool:
    """Whether two values of one feature are the same: texts and nulls exactly, numbers within 1e-9."""
    if isinstance(found, str) or isinstance(wanted, str) or found is None or wanted is None:
        return found == wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _none_for_nan(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def linear_count(hashes: Sequence[int], slots: int) -> float:
    """Whang, Vander-Zanden and Taylor 1990: how many different values leave so many slots empty."""
    bits = slots.bit_length() - 1
    taken = {each >> (64 - bits) for each in hashes}
    return -slots * math.log(max(slots - len(taken), 1) / slots)


def _variance(values: Sequence[float]) -> float | None:
    if not values:
        return None
    mean = sum(values) / len(values)
    return math.fsum((value - mean) * (value - mean) for value in values) / len(values)


def _stddev(values: Sequence[float]) -> float | None:
    variance = _variance(values)
    return None if variance is None else math.sqrt(variance)


_STATISTICS: dict[AggregateKind, Callable[[Sequence[float]], float | None]] = {
    AggregateKind.COUNT: len,
    AggregateKind.SUM: sum,
    AggregateKind.MEAN: lambda values: sum(values) / len(values) if values else None,
    AggregateKind.MIN: lambda values: min(values, default=None),
    AggregateKind.MAX: lambda values: max(values, default=None),
    AggregateKind.VARIANCE: _variance,
    AggregateKind.STDDEV: _stddev,
}
