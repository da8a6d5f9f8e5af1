"""Nodes of numbers and bools as closures over float64 arrays in which NaN is null; bools are 0, 1 and NaN.

A closure takes an environment, anything that gives an array for a name, and returns an array or a scalar. Infinities need
care only where they could become finite again (1 / inf): results that may hold them are marked, and `settled` makes null of
them before such a place and at the end. The rest of the time they and NaN travel together for free. Pure; no Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.features.expression_tree import BYTES, EXACT_MAX, TEXT, TIMESTAMP, Node

Numbers = Any
"""float64 [rows], or one float for all rows."""

Run = Callable[[Any], Numbers]

EARTH_KM: Final = 6371.0088
"""Mean radius (IUGG)."""

KNOWN_ROWS_MIN: Final = 256

DAY_US, HOUR_US = 86_400e6, 3_600e6


@dataclass(frozen=True, slots=True)
class Compiled:
    """`finite`: what `run` returns holds no infinity."""

    run: Run
    finite: bool


Other = Callable[[Node], Compiled | None]
"""How nodes that are not of numbers are compiled; None for those that are."""


def compile_numbers(node: Node, other: Other = lambda _: None) -> Compiled:
    """The closure of `node`, a tree of known operations. What `other` compiles is taken from there."""
    found = other(node)
    if found is not None:
        return found
    if node.operation == "name":
        name = node.value
        return Compiled(lambda values: values[name], node.type is TIMESTAMP)
    if node.operation == "literal":
        return _literal(node)
    return _operation(node, [compile_numbers(each, other) for each in node.args])


def _operation(node: Node, args: list[Compiled]) -> Compiled:
    operation = node.operation
    if operation in _CARRYING:
        return Compiled(_call(_CARRYING[operation], [each.run for each in args]), False)
    if operation in _COMPARISONS:
        return Compiled(_comparison(_COMPARISONS[operation], node, args), True)
    if operation in _DIVISIONS:
        return Compiled(_call(_DIVISIONS[operation], [args[0].run, settled(args[1])]), False)
    if operation == "if":
        return Compiled(_call(_chosen, [each.run for each in args]), args[1].finite and args[2].finite)
    if operation == "in":
        return Compiled(_membership(node, settled(args[0])), True)
    function, finite = _SETTLED[operation]
    return Compiled(_call(function, [settled(each) for each in args]), finite)


def settled(compiled: Compiled) -> Run:
    """The closure with NaN for infinities."""
    run = compiled.run
    if compiled.finite:
        return run

    def without_infinities(values: Any) -> Numbers:  # noqa: ANN401
        found = run(values)
        return found + found * 0.0

    return without_infinities


def is_numeric(node: Node) -> bool:
    """Whether every value in it is a number or a bool."""
    return all(each.type not in (TEXT, TIMESTAMP, BYTES) for each in node.walk())


def _literal(node: Node) -> Compiled:
    value = np.nan if node.value is None else float(node.value)
    return Compiled(lambda _: value, True)


def _call(function: Callable[..., Numbers], args: list[Run]) -> Run:
    """A closure of one to three arguments without the cost of unpacking; of any number with it."""
    if len(args) == 1:
        (only,) = args
        return lambda values: function(only(values))
    if len(args) == 2:
        first, second = args
        return lambda values: function(first(values), second(values))
    return lambda values: function(*(each(values) for each in args))


def _comparison(compare: Callable[..., Numbers], node: Node, args: list[Compiled]) -> Run:
    """NaN where a side is NaN or infinite: x * 0 is then NaN, and else adds nothing. Literals are neither."""
    left, right = (each.run for each in args)
    if node.args[1].operation == "literal":

        def with_literal(values: Any) -> Numbers:  # noqa: ANN401
            x = left(values)
            return compare(x, right(values)) + x * 0.0

        return with_literal

    def both(values: Any) -> Numbers:  # noqa: ANN401
        x, y = left(values), right(values)
        return compare(x, y) + (x * 0.0 + y * 0.0)

    return both


def _membership(node: Node, left: Run) -> Run:
    """Looked up in a sorted table."""
    table = np.unique(np.array([float(each) for each in node.values if each is not None], np.float64))

    def member(values: Any) -> Numbers:  # noqa: ANN401
        x = left(values)
        return (table[np.minimum(np.searchsorted(table, x), len(table) - 1)] == x) + x * 0.0

    return member


def needs_exact_integers(node: Node) -> bool:
    """Whether it compares what may be integers past 2**53, which float64 would round."""
    if node.operation == "in":
        left = node.args[0]
        is_column = left.operation == "name" and left.is_integer_leaf
        return is_column and any(isinstance(each, int) and abs(each) >= EXACT_MAX for each in node.values)
    if node.operation not in _COMPARISONS or not all(each.is_integer_leaf for each in node.args):
        return False
    literals = [each.value for each in node.args if each.operation == "literal"]
    return all(isinstance(each, int) and abs(each) >= EXACT_MAX for each in literals) and len(literals) < 2


def compare_integers(node: Node, sides: list[Any]) -> npt.NDArray[np.bool_]:
    """`needs_exact_integers` on integer arrays, exactly; a row that is null in one of them means nothing."""
    if node.operation == "in":
        hits = [np.equal(sides[0], each) for each in node.values if isinstance(each, int)]
        hits += [np.equal(sides[0], int(each)) for each in node.values if isinstance(each, float) and each.is_integer()]
        return np.asarray(np.logical_or.reduce(hits))
    return np.asarray(_COMPARISONS[node.operation](*sides))


def _and(first: Numbers, *more: Numbers) -> Numbers:
    """False if any is false, else null if any is null (Kleene)."""
    for each in more:
        both = first * each
        first = both if _all_known(both) else np.where(np.fmin(first, each) == 0.0, 0.0, both)
    return first


def _or(first: Numbers, *more: Numbers) -> Numbers:
    """True if any is true, else null if any is null."""
    for each in more:
        both = first + each
        first = np.minimum(both, 1.0) if _all_known(both) else np.where(np.fmax(first, each) == 1.0, 1.0, both)
    return first


def _all_known(numbers: Numbers) -> bool:
    """No NaN among many: looked for because choosing by row costs ten times the looking, of a few rows less."""
    return np.size(numbers) >= KNOWN_ROWS_MIN and not np.isnan(numbers).any()


def _chosen(test: Numbers, yes: Numbers, no: Numbers) -> Numbers:
    return np.where(test == 1.0, yes, no) + test * 0.0


def _coalesced(first: Numbers, *more: Numbers) -> Numbers:
    for each in more:
        first = np.where(np.isnan(first), each, first)
    return first


def _least(first: Numbers, *more: Numbers) -> Numbers:
    for each in more:
        first = np.minimum(first, each)
    return first


def _greatest(first: Numbers, *more: Numbers) -> Numbers:
    for each in more:
        first = np.maximum(first, each)
    return first


def _clipped(x: Numbers, low: Numbers, high: Numbers) -> Numbers:
    return np.minimum(np.maximum(x, low), high)


def _power(x: Numbers, y: Numbers) -> Numbers:
    """NaN ** 0 and 1 ** NaN are 1 in IEEE 754 and null here."""
    return np.power(x, y) + (x * 0.0 + y * 0.0)


def _is_null(x: Numbers) -> Numbers:
    return np.isnan(x) + 0.0


def _hour(us: Numbers) -> Numbers:
    return np.floor(np.mod(us, DAY_US) / HOUR_US)


def _weekday(us: Numbers) -> Numbers:
    """Monday is 0; the first of January 1970 was a Thursday."""
    return np.mod((us - np.mod(us, DAY_US)) / DAY_US + 3.0, 7.0)


def _day(us: Numbers) -> Numbers:
    days = np.nan_to_num((us - np.mod(us, DAY_US)) / DAY_US).astype(np.int64).astype("M8[D]")
    return (days - days.astype("M8[M]")).astype(np.int64) + 1.0 + us * 0.0


def haversine(lat1: Numbers, lon1: Numbers, lat2: Numbers, lon2: Numbers) -> Numbers:
    """Great-circle distance in km (Sinnott 1984), well-conditioned for small distances."""
    north1, north2 = np.radians(lat1), np.radians(lat2)
    half = np.sin((north2 - north1) / 2) ** 2
    half = half + np.cos(north1) * np.cos(north2) * np.sin(np.radians(lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))


_CARRYING: Final[dict[str, Callable[..., Numbers]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "negative": np.negative,
    "abs": np.abs,
    "ln": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
}
"""What is infinite or NaN stays one of the two; nothing is lost by looking for it later."""

_DIVISIONS: Final[dict[str, Callable[..., Numbers]]] = {"/": np.divide, "//": np.floor_divide, "%": np.mod}
"""Dividing by zero gives an infinity or NaN, and so null; dividing by an infinity would give zero."""

_COMPARISONS: Final[dict[str, Callable[..., Numbers]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

_SETTLED: Final[Mapping[str, tuple[Callable[..., Numbers], bool]]] = {
    "**": (_power, False),
    "pow": (_power, False),
    "exp": (np.exp, False),
    "sign": (np.sign, True),
    "min": (_least, True),
    "max": (_greatest, True),
    "clip": (_clipped, True),
    "and": (_and, True),
    "or": (_or, True),
    "not": (lambda x: 1.0 - x, True),
    "is_null": (_is_null, True),
    "coalesce": (_coalesced, True),
    "number": (lambda x: x, True),
    "hour": (_hour, True),
    "weekday": (_weekday, True),
    "day": (_day, True),
    "seconds": (lambda us: us / 1e6, True),
    "seconds_between": (lambda first, then: (then - first) / 1e6, True),
    "haversine": (haversine, True),
}
"""Operations that could make something finite of an infinity, and whether what they return is finite."""
