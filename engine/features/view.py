"""A feature view resolved and checked: which columns feed which aggregates, and which of these make which feature. Pure.

The same view is folded over a log by `state` and evaluated over a table by `history`; docs/reference/features.md says what
each word means to the microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.features.expression import Expression
    from engine.features.window import Window


class ColumnKind(StrEnum):
    """How an aggregate reads a column."""

    NUMBER = "number"
    """float64; null and NaN are no value."""
    HASH = "hash"
    """uint64 of the value's bytes, for distinct counts."""
    CODE = "code"
    """int64: a whole number itself, or the dictionary code of a text."""


@dataclass(frozen=True, slots=True)
class Column:
    """What an aggregate reads of an event: a column of the source, or an expression over its columns.

    `text`: the values are strings (of a CODE column: codes stand for them).
    """

    kind: ColumnKind
    value: Expression
    text: bool = False


class AggregateKind(StrEnum):
    """The primitives that state keeps."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    VARIANCE = "variance"
    """Of the population."""
    STDDEV = "stddev"
    FIRST = "first"
    LAST = "last"
    DISTINCT = "approx_distinct"
    TOP = "most_frequent"
    SINCE = "time_since_last"
    DECAYED = "decayed"
    """Sum of value * 2**(-age / half_life); with no column every event weighs 1."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number (TOP: `k` of them) kept of each entity. `column` and `mask` index the view's `columns` and `masks`.

    No column: events are counted, not values. No window: all events of the entity. `slots` of DISTINCT and TOP, `k` of TOP,
    `half_life_us` of DECAYED.
    """

    kind: AggregateKind
    column: int | None = None
    mask: int | None = None
    window: Window | None = None
    half_life_us: int = 0
    slots: int = 0
    k: int = 1


class FeatureKind(StrEnum):
    """How a feature is made of aggregates."""

    AGGREGATE = "aggregate"
    """`of[0]`, its `rank`-th value for TOP."""
    RATIO = "ratio"
    """of[0] / of[1]; null where of[1] is 0 or null."""
    Z_SCORE = "z_score"
    """(of[0] - of[1]) / of[2]; null where of[2] is 0 or null."""
    EXPRESSION = "expression"
    """`expression` over the view's features declared before it and the request's inputs."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a lookup's answer. `of` index the view's `aggregates`. `text`: its values are strings."""

    name: str
    kind: FeatureKind
    of: tuple[int, ...] = ()
    rank: int = 0
    expression: Expression | None = None
    text: bool = False


@dataclass(frozen=True, slots=True)
class RequestInput:
    """A value that comes with a read, a row an entity."""

    name: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Everything about one view but its state. `where`: events for which it is not true are no events of this view."""

    name: str
    source: str
    entity: str
    event_time: str
    event_id: str | None
    lateness_us: int
    future_us: int
    max_age_us: int | None
    ttl_us: int
    where: Expression | None
    columns: tuple[Column, ...]
    masks: tuple[Expression, ...]
    aggregates: tuple[Aggregate, ...]
    features: tuple[Feature, ...]
    request: tuple[RequestInput, ...] = ()
    entities_max: int = 1 << 20
    fingerprint: str = ""
    """Of everything that changes what state means: a snapshot of another view is refused."""
