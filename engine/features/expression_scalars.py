"""Nodes of numbers and bools as closures over Python floats: one row, where an array of one would cost ten times as much.

Every closure returns a finite float, or NaN for null. Exponentials and the like come from numpy, so that a row alone is the
same to the last bit as among a thousand. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from engine.features.expression_numbers import haversine
from engine.features.expression_tree import Node

Run = Callable[[Mapping[str, float]], float]

NULL: Final = math.nan


def compile_scalar(node: Node) -> Run:
    """The closure of a tree of numbers and bools."""
    if node.operation == "name":
        return _name(str(node.value))
    if node.operation == "literal":
        value = NULL if node.value is None else float(node.value)
        return lambda _: value
    args = [compile_scalar(each) for each in node.args]
    if node.operation == "in":
        return _member(args[0], frozenset(float(each) for each in node.values if each is not None))
    if node.operation in ("**", "pow") and node.args[1].operation == "literal":
        return _call(_power_literal, args)
    if node.operation in _MANY:
        return _MANY[node.operation](args)
    return _call(_FUNCTIONS[node.operation], args)


def _name(name: str) -> Run:
    def value_of(values: Mapping[str, float]) -> float:
        x = values[name]
        return x if x - x == 0.0 else NULL

    return value_of


def _call(function: Callable[..., float], args: list[Run]) -> Run:
    if len(args) == 1:
        (only,) = args
        return lambda values: function(only(values))
    if len(args) == 2:
        first, second = args
        return lambda values: function(first(values), second(values))
    return lambda values: function(*(each(values) for each in args))


def _member(left: Run, wanted: frozenset[float]) -> Run:
    def member(values: Mapping[str, float]) -> float:
        x = left(values)
        return (1.0 if x in wanted else 0.0) if x == x else NULL

    return member


def _and(args: list[Run]) -> Run:
    def all_of(values: Mapping[str, float]) -> float:
        found = 1.0
        for each in args:
            x = each(values)
            if x == 0.0:
                return 0.0
            found *= x
        return found

    return all_of


def _or(args: list[Run]) -> Run:
    def any_of(values: Mapping[str, float]) -> float:
        found = 0.0
        for each in args:
            x = each(values)
            if x == 1.0:
                return 1.0
            found += x
        return found

    return any_of


def _if(args: list[Run]) -> Run:
    test, yes, no = args

    def chosen(values: Mapping[str, float]) -> float:
        x = test(values)
        return yes(values) if x == 1.0 else no(values) if x == 0.0 else NULL

    return chosen


def _coalesce(args: list[Run]) -> Run:
    def first(values: Mapping[str, float]) -> float:
        for each in args:
            x = each(values)
            if x == x:
                return x
        return NULL

    return first


def _add(x: float, y: float) -> float:
    r = x + y
    return r if r - r == 0.0 else NULL


def _subtract(x: float, y: float) -> float:
    r = x - y
    return r if r - r == 0.0 else NULL


def _multiply(x: float, y: float) -> float:
    r = x * y
    return r if r - r == 0.0 else NULL


def _divide(x: float, y: float) -> float:
    r = x / y if y else NULL
    return r if r - r == 0.0 else NULL


def _floor_divide(x: float, y: float) -> float:
    r = x // y if y else NULL
    return r if r - r == 0.0 else NULL


def _modulo(x: float, y: float) -> float:
    return x % y if y else NULL


def _power_literal(x: float, y: float) -> float:
    """Of a literal exponent numpy takes squares and roots by other ways than of a column of them."""
    return _quiet(np.power, x, y) if x == x else NULL


def _power(x: float, y: float) -> float:
    if x != x or y != y:
        return NULL
    with np.errstate(all="ignore"):
        r = float(np.power(np.array([x]), np.array([y]))[0])
    return r if r - r == 0.0 else NULL


def _quiet(function: Callable[..., float], *args: float) -> float:
    with np.errstate(all="ignore"):
        r = float(function(*args))
    return r if r - r == 0.0 else NULL


def _compare(function: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    return lambda x, y: (1.0 if function(x, y) else 0.0) if x == x and y == y else NULL


def _clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high) if x == x and low == low and high == high else NULL


def _least(*values: float) -> float:
    return min(values) if all(each == each for each in values) else NULL


def _greatest(*values: float) -> float:
    return max(values) if all(each == each for each in values) else NULL


def _sign(x: float) -> float:
    return (1.0 if x > 0 else -1.0 if x < 0 else 0.0) if x == x else NULL


def _distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    return float(haversine(lat1, lon1, lat2, lon2))


_MANY: Final[dict[str, Callable[[list[Run]], Run]]] = {"and": _and, "or": _or, "if": _if, "coalesce": _coalesce}
"""They need not look at all of their arguments."""

_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "//": _floor_divide,
    "%": _modulo,
    "**": _power,
    "pow": _power,
    "negative": lambda x: -x,
    "abs": abs,
    "not": lambda x: 1.0 - x,
    "number": lambda x: x,
    "is_null": lambda x: 0.0 if x == x else 1.0,
    "==": _compare(lambda x, y: x == y),
    "!=": _compare(lambda x, y: x != y),
    "<": _compare(lambda x, y: x < y),
    "<=": _compare(lambda x, y: x <= y),
    ">": _compare(lambda x, y: x > y),
    ">=": _compare(lambda x, y: x >= y),
    "ln": lambda x: float(np.log(x)) if x > 0 else NULL,
    "log10": lambda x: float(np.log10(x)) if x > 0 else NULL,
    "log1p": lambda x: float(np.log1p(x)) if x > -1 else NULL,
    "exp": lambda x: _quiet(np.exp, x) if x == x else NULL,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else NULL,
    "floor": lambda x: float(math.floor(x)) if x == x else NULL,
    "ceil": lambda x: float(math.ceil(x)) if x == x else NULL,
    "round": lambda x: float(round(x)) if x == x else NULL,
    "sign": _sign,
    "min": _least,
    "max": _greatest,
    "clip": _clip,
    "haversine": _distance,
}
