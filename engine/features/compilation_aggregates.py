"""Features that aggregate: which primitives each is made of, and those of the whole view kept once each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeVar

from engine.duration import UNITS_US
from engine.errors import SpecError, quoted
from engine.features.compilation_columns import ViewColumns
from engine.features.compilation_windows import duration_at, window_at
from engine.features.declaration import FeatureSpec
from engine.features.expression import Expression, ExpressionType, parse
from engine.features.view import Aggregate, AggregateKind, Column, ColumnKind, Feature, FeatureKind
from engine.features.window import Window

Place = Callable[[str], str]
Kept = TypeVar("Kept", Column, Expression, Aggregate)

DISTINCT_SLOTS, DISTINCT_SLOTS_MIN, DISTINCT_SLOTS_MAX = 64, 16, 4096
TOP_SLOTS, TOP_SLOTS_MAX = 16, 64
HALF_LIFE_US_MIN: Final = UNITS_US["ms"]

NUMBER, BOOL, TEXT = ExpressionType.NUMBER, ExpressionType.BOOL, ExpressionType.TEXT
TIMESTAMP, BYTES = ExpressionType.TIMESTAMP, ExpressionType.BYTES


@dataclass(frozen=True, slots=True)
class Rule:
    """What an aggregation asks of its declaration. `column`: of which types; `keys`: which more of FeatureSpec's it takes."""

    column: frozenset[ExpressionType] = frozenset()
    needs_column: bool = True
    window: bool = True
    sliding: bool = True
    keys: frozenset[str] = frozenset()


_AMOUNTS = frozenset({NUMBER, BOOL})
_ORDERED = _AMOUNTS | {TIMESTAMP}
_ANY = frozenset(ExpressionType)
_COMPARED = frozenset({"against"})

RULES: Final[Mapping[str, Rule]] = {
    "count": Rule(_ANY, needs_column=False),
    **{name: Rule(_AMOUNTS) for name in ("sum", "mean", "variance", "stddev")},
    **{name: Rule(_ORDERED) for name in ("min", "max")},
    **{name: Rule(_ORDERED | {TEXT}, sliding=False) for name in ("first", "last")},
    "approx_distinct": Rule(_ANY, sliding=False, keys=frozenset({"slots"})),
    "most_frequent": Rule(_AMOUNTS | {TEXT}, sliding=False, keys=frozenset({"slots", "k"})),
    "time_since_last": Rule(_ANY, needs_column=False, sliding=False),
    "decayed_count": Rule(_ANY, needs_column=False, window=False, keys=frozenset({"half_life"})),
    "decayed_sum": Rule(_AMOUNTS, window=False, keys=frozenset({"half_life"})),
    "ratio": Rule(_ANY, needs_column=False, keys=_COMPARED | {"statistic"}),
    "z_score": Rule(_AMOUNTS, keys=_COMPARED),
}

KINDS: Final = {"decayed_count": AggregateKind.DECAYED, "decayed_sum": AggregateKind.DECAYED}
"""Primitives that are not called as their aggregation is."""

COUNTING: Final = frozenset({AggregateKind.COUNT, AggregateKind.SINCE})
"""They ask whether there is a value, not which."""

OPTIONAL: Final = ("half_life", "slots", "k", "against", "statistic")
DEFAULTS: Final = FeatureSpec()


class Aggregates:
    """The primitives of one view; equal ones, and equal columns and masks, are kept once."""

    def __init__(self, columns: ViewColumns, place: Place) -> None:
        self._source = columns
        self._place = place
        self._columns: dict[Column, int] = {}
        self._masks: dict[Expression, int] = {}
        self._aggregates: dict[Aggregate, int] = {}

    def features(self, name: str, spec: FeatureSpec) -> list[Feature]:
        """The features that `spec` declares: one, but for the `k` most frequent. Raises SpecError."""
        one = _One(f"features.{name}", spec, self._place, self._source)
        one.check()
        if spec.aggregation == "ratio":
            of = tuple(self._keep(one, spec.statistic, window) for window in one.windows())
            return [Feature(name, FeatureKind.RATIO, of)]
        if spec.aggregation == "z_score":
            window, against = one.windows()
            kinds = (("mean", window), ("mean", against), ("stddev", against))
            return [Feature(name, FeatureKind.Z_SCORE, tuple(self._keep(one, kind, each) for kind, each in kinds))]
        of = (self._keep(one, one.aggregation, one.window()),)
        text = self._is_text(one)
        if spec.k == 1:
            return [Feature(name, FeatureKind.AGGREGATE, of, text=text)]
        return [Feature(f"{name}_{rank + 1}", FeatureKind.AGGREGATE, of, rank, text=text) for rank in range(spec.k)]

    def sorted(self, features: tuple[Feature, ...]) -> tuple[tuple[Aggregate, ...], tuple[Feature, ...]]:
        """Columns, masks and aggregates in an order of their own: moving a feature in the spec moves nothing in the state."""
        self._columns, column = _ordered(self._columns, _column_key)
        self._masks, mask = _ordered(self._masks, lambda each: each.canonical)
        moved = {
            replace(
                each,
                column=None if each.column is None else column[each.column],
                mask=None if each.mask is None else mask[each.mask],
            ): index
            for each, index in self._aggregates.items()
        }
        self._aggregates, place = _ordered(moved, _aggregate_key)
        return tuple(self._aggregates), tuple(replace(f, of=tuple(place[i] for i in f.of)) for f in features)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the aggregates read."""
        return tuple(self._columns)

    @property
    def masks(self) -> tuple[Expression, ...]:
        """Which events they count."""
        return tuple(self._masks)

    def _is_text(self, one: _One) -> bool:
        tells = one.aggregation in ("first", "last", "most_frequent")
        return tells and self._source.named(one.key, str(one.spec.column)).type is TEXT

    def _keep(self, one: _One, aggregation: str, window: Window | None) -> int:
        kind = KINDS.get(aggregation) or AggregateKind(aggregation)
        column, mask = one.reads(kind, is_decayed_count=aggregation == "decayed_count")
        return _index(
            self._aggregates,
            Aggregate(
                kind,
                column=None if column is None else _index(self._columns, column),
                mask=None if mask is None else _index(self._masks, mask),
                window=window,
                half_life_us=one.half_life_us(),
                slots=one.slots(),
                k=one.spec.k,
            ),
        )


@dataclass(frozen=True, slots=True)
class _One:
    """One feature's declaration against the rule of its aggregation."""

    key: str
    spec: FeatureSpec
    place: Place
    source: ViewColumns

    @property
    def aggregation(self) -> str:
        """Its name; only features that aggregate come here."""
        assert self.spec.aggregation is not None
        return self.spec.aggregation

    def check(self) -> None:
        """Keys that are missing or belong to other aggregations, and the column's type."""
        spec, rule = self.spec, RULES[self.aggregation]
        for key in OPTIONAL:
            if key not in rule.keys and getattr(spec, key) != getattr(DEFAULTS, key):
                takers = ", ".join(sorted(name for name, each in RULES.items() if key in each.keys))
                self.fail(key, f"{self.aggregation} takes no {quoted(key)}; it belongs to {takers}")
        for key in ("half_life", "against"):
            if key in rule.keys and getattr(spec, key) is None:
                self.fail(key, f"{self.aggregation} needs {quoted(key)}")
        self._check_column(rule)
        self._check_window(rule)

    def _check_column(self, rule: Rule) -> None:
        spec, name = self.spec, self.aggregation
        counts = name == "ratio" and spec.statistic == "count"
        if spec.column is None:
            if rule.needs_column or (name == "ratio" and not counts):
                what = f"{name} of statistic {quoted(spec.statistic)}" if name == "ratio" else name
                self.fail("column", f"{what} needs a column")
            return
        kind = self.source.named(f"{self.key}.column", spec.column).type
        accepts = _AMOUNTS if name == "ratio" and not counts else rule.column
        if kind not in accepts:
            expected = " or ".join(sorted(accepts))
            self.fail("column", f"{name} takes a column of {expected}, got {quoted(spec.column)}, a {kind}")

    def _check_window(self, rule: Rule) -> None:
        spec, name = self.spec, self.aggregation
        for key in ("window", "kind", "tile"):
            if not rule.window and getattr(spec, key) != getattr(DEFAULTS, key):
                self.fail(key, f"{name} looks at all events of the entity and takes no {quoted(key)}")
            if spec.window is None and getattr(spec, key) != getattr(DEFAULTS, key):
                self.fail(key, f"{quoted(key)} needs a 'window'")
        if "against" in rule.keys and spec.window is None:
            self.fail("window", f"{name} needs a 'window', shorter than 'against'")
        if spec.kind == "sliding" and not rule.sliding:
            self.fail("kind", f"{name} takes sawtooth and tumbling windows, got 'sliding'")

    def window(self) -> Window | None:
        """Its window, if it has one."""
        return None if self.spec.window is None else window_at(self.place, self.key, self.spec, self.spec.window)

    def windows(self) -> tuple[Window, Window]:
        """The window and the longer one it is compared with."""
        spec = self.spec
        assert spec.window is not None
        assert spec.against is not None
        window = window_at(self.place, self.key, spec, spec.window)
        against = window_at(self.place, self.key, spec, spec.against, is_against=True)
        if against.length_us <= window.length_us:
            self.fail("against", f"must be longer than the window, {spec.window}, got {quoted(spec.against)}")
        return window, against

    def half_life_us(self) -> int:
        """0 where there is none."""
        text = self.spec.half_life
        return 0 if text is None else duration_at(self.place, f"{self.key}.half_life", text, HALF_LIFE_US_MIN)

    def slots(self) -> int:
        """Of approx_distinct and most_frequent; else 0."""
        slots = self.spec.slots
        if self.aggregation == "approx_distinct":
            slots = DISTINCT_SLOTS if slots is None else slots
            if not DISTINCT_SLOTS_MIN <= slots <= DISTINCT_SLOTS_MAX or slots & (slots - 1):
                bounds = f"{DISTINCT_SLOTS_MIN} to {DISTINCT_SLOTS_MAX}"
                self.fail("slots", f"must be a power of two from {bounds}, got {slots}")
            return slots
        if self.aggregation != "most_frequent":
            return 0
        slots = max(TOP_SLOTS, self.spec.k) if slots is None else slots
        if not 1 <= slots <= TOP_SLOTS_MAX:
            self.fail(
                "slots" if self.spec.slots is not None else "k", f"must be from 1 to {TOP_SLOTS_MAX}, got {slots}"
            )
        if not 1 <= self.spec.k <= slots:
            self.fail("k", f"must be from 1 to the number of slots, {slots}, got {self.spec.k}")
        return slots

    def reads(self, kind: AggregateKind, *, is_decayed_count: bool) -> tuple[Column | None, Expression | None]:
        """What `kind` reads, and the events it counts."""
        where = self.source.condition(f"{self.key}.where", self.spec.where)
        if self.spec.column is None:
            return None, where
        value = self.source.named(f"{self.key}.column", self.spec.column)
        if is_decayed_count or (kind in COUNTING and value.type not in (NUMBER, BOOL)):
            return None, _with_value(where, value)
        if kind is AggregateKind.DISTINCT:
            return Column(ColumnKind.HASH, value, value.type is TEXT), where
        if value.type is TEXT:
            return Column(ColumnKind.CODE, value, text=True), where
        if kind is AggregateKind.TOP:
            if not value.whole and value.type is not BOOL:
                self.fail(
                    "column", f"most_frequent counts texts and whole numbers, got {quoted(value.text)}; use floor(...)"
                )
            return Column(ColumnKind.CODE, value.as_integer()), where
        return Column(ColumnKind.NUMBER, _as_number(value)), where

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises."""
        raise SpecError(f"{self.place(f'{self.key}.{key}')}: {problem}")


def _with_value(where: Expression | None, value: Expression) -> Expression:
    """Events for which `where` is true and `value` is there."""
    derived = {"value": value} | ({} if where is None else {"counted": where})
    return parse("not is_null(value)" if where is None else "counted and not is_null(value)", {}, derived=derived)


def _as_number(value: Expression) -> Expression:
    """Bools as 0 and 1, timestamps as seconds since 1970, numbers as they are."""
    function = {BOOL: "number", TIMESTAMP: "seconds"}.get(value.type)
    return value if function is None else parse(f"{function}(value)", {}, derived={"value": value})


def _index(kept: dict[Kept, int], wanted: Kept) -> int:
    return kept.setdefault(wanted, len(kept))


def _ordered(kept: dict[Kept, int], key: Callable[[Kept], str]) -> tuple[dict[Kept, int], dict[int, int]]:
    """Sorted, and from each old place to the new."""
    order = sorted(kept, key=key)
    return {each: new for new, each in enumerate(order)}, {kept[each]: new for new, each in enumerate(order)}


def _column_key(column: Column) -> str:
    return f"{column.kind} {column.value.canonical}"


def _aggregate_key(each: Aggregate) -> str:
    window = each.window
    span = "" if window is None else f"{window.kind} {window.length_us:020d} {window.tile_us:020d}"
    return f"{span}|{each.mask}|{each.column}|{each.kind}|{each.half_life_us:020d}|{each.slots}|{each.k}"
