"""What a checked expression is made of: nodes with types, and the table of operations. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ExpressionType(StrEnum):
    """What the values of an expression are; each may be null."""

    NUMBER = "number"
    """float64; NaN and infinities are null."""
    TEXT = "text"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    """Microseconds since the Unix epoch, UTC; times outside 1684 to 2255 (2**53 us) are null."""
    BYTES = "bytes"
    """Only named and tested for null: there is no operation on them."""


NUMBER, TEXT, BOOL = ExpressionType.NUMBER, ExpressionType.TEXT, ExpressionType.BOOL
TIMESTAMP, BYTES = ExpressionType.TIMESTAMP, ExpressionType.BYTES
ANY: Final = frozenset(ExpressionType)

EXACT_MAX: Final = 1 << 53
"""Below it every whole number is a float64, so that integers compare exactly without care."""

Value = bool | float | int | str | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation on `args`, or a leaf: "name" (`value` is the column's), "literal" (`value`; None is null) and "in"
    (`values` are looked for).

    `whole`: its numbers are whole. `canonical` says all of it in one text: equal texts compute the same.
    """

    operation: str
    type: ExpressionType
    args: tuple[Node, ...] = ()
    value: Value = None
    values: tuple[Value, ...] = ()
    whole: bool = False

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for each in self.args:
            yield from each.walk()

    @property
    def depth(self) -> int:
        """Longest way down to a leaf; 1 of a leaf."""
        return 1 + max((each.depth for each in self.args), default=0)

    @property
    def canonical(self) -> str:
        """Operation and arguments as one text; names carry their types."""
        if self.operation == "name":
            return f"{self.type.value}:{self.value!r}"
        if self.operation == "literal":
            return f"{self.type.value}={self.value!r}"
        values = [f"[{', '.join(map(repr, self.values))}]"] if self.values else []
        return f"({' '.join([self.operation, *(each.canonical for each in self.args), *values])})"

    @property
    def is_integer_leaf(self) -> bool:
        """A column, which may be of integers, or a whole literal: what can be compared without rounding."""
        is_name = self.operation == "name" and self.type is NUMBER
        return is_name or (self.operation == "literal" and isinstance(self.value, int) and self.type is NUMBER)


@dataclass(frozen=True, slots=True)
class Signature:
    """What an operation takes and gives. `accepts` has the types of each argument; with `more`, the last goes for any number.

    `returns` None: the type of the arguments, which must then agree. `agree`: they must all be of one type. `whole`: of what it
    gives; None: as its arguments. `literal`: arguments from this one on must be written out.
    """

    accepts: tuple[frozenset[ExpressionType], ...]
    returns: ExpressionType | None
    more: bool = False
    agree: bool = False
    whole: bool | None = False
    literal: int | None = None

    @property
    def takes(self) -> str:
        """How many arguments, in words."""
        count = len(self.accepts)
        return f"{count} or more arguments" if self.more else f"{count} argument{'s' if count != 1 else ''}"


def _numbers(count: int, *, whole: bool | None = False, more: bool = False) -> Signature:
    return Signature((frozenset({NUMBER}),) * count, NUMBER, more=more, whole=whole)


_ORDERED = frozenset({NUMBER, TEXT, TIMESTAMP})
_SAME = Signature((ANY - {BYTES},) * 2, BOOL, agree=True)
_LESS = Signature((_ORDERED,) * 2, BOOL, agree=True)
_EXTREME = Signature((frozenset({NUMBER, TIMESTAMP}),) * 2, None, more=True, agree=True, whole=None)
_SEARCH = Signature((frozenset({TEXT}),) * 2, BOOL, literal=1)
_CASED = Signature((frozenset({TEXT}),), TEXT)
_CALENDAR = Signature((frozenset({TIMESTAMP}),), NUMBER, whole=True)

FUNCTIONS: Final[dict[str, Signature]] = {
    "is_null": Signature((ANY,), BOOL),
    "coalesce": Signature((ANY - {BYTES},), None, more=True, agree=True, whole=None),
    **{name: _numbers(1) for name in ("ln", "log10", "log1p", "exp", "sqrt")},
    **{name: _numbers(1, whole=True) for name in ("floor", "ceil", "round", "sign")},
    "abs": _numbers(1, whole=None),
    "pow": _numbers(2),
    "min": _EXTREME,
    "max": _EXTREME,
    "clip": _numbers(3, whole=None),
    "hour": _CALENDAR,
    "weekday": _CALENDAR,
    "day": _CALENDAR,
    "seconds": Signature((frozenset({TIMESTAMP}),), NUMBER),
    "seconds_between": Signature((frozenset({TIMESTAMP}),) * 2, NUMBER),
    "number": Signature((frozenset({BOOL}),), NUMBER, whole=True),
    "lower": _CASED,
    "upper": _CASED,
    "length": Signature((frozenset({TEXT}),), NUMBER, whole=True),
    "starts_with": _SEARCH,
    "contains": _SEARCH,
    "haversine": _numbers(4),
}
"""What may be called. `timestamp("2026-01-31T12:00:00Z")` is a literal, not an operation."""

OPERATORS: Final[dict[str, Signature]] = {
    **{name: _numbers(2, whole=None) for name in ("+", "-", "*", "%")},
    "/": _numbers(2),
    "//": _numbers(2, whole=True),
    "**": _numbers(2),
    "negative": _numbers(1, whole=None),
    **dict.fromkeys(("==", "!="), _SAME),
    **dict.fromkeys(("<", "<=", ">", ">="), _LESS),
    "and": Signature((frozenset({BOOL}),) * 2, BOOL, more=True),
    "or": Signature((frozenset({BOOL}),) * 2, BOOL, more=True),
    "not": Signature((frozenset({BOOL}),), BOOL),
}
"""What is written between or before its arguments."""
