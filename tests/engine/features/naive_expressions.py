"""Random expressions, and a plain function that says of one row what each is: the twin of `engine.features.expression`.

Nulls are None. Trees are tuples: (operation, arguments...); a leaf is ("name", name) or ("literal", value).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import strategies as st

Tree = tuple[Any, ...]
Row = Mapping[str, Any]

FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e308, -1e308, 5e-324, 9007199254740992.0, 1e-9, 700.0]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-100, 100),
    st.none(),
)
INTEGERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**53 - 1, -(2**53) - 1, 2**63 - 1, -(2**63)]),
    st.integers(-5, 5),
    st.none(),
)
TEXTS = st.one_of(st.sampled_from(["", "a", "A", "ab", "é", "aé b", "zz"]), st.text("aBé z", max_size=4), st.none())
BOOLS = st.sampled_from([True, False, None])
TIMES = st.one_of(
    st.sampled_from([0, -1, 1764140000123456, 2**53, 2**53 + 2]), st.integers(-(10**16), 10**16), st.none()
)

COLUMNS = {"x": FLOATS, "y": FLOATS, "i": INTEGERS, "j": INTEGERS, "s": TEXTS, "u": TEXTS, "f": BOOLS, "g": BOOLS,
           "t": TIMES, "v": TIMES}  # fmt: skip
ROWS = st.fixed_dictionaries(COLUMNS)

LITERALS = st.sampled_from([0, 1, 2, -3, 0.5, -1.5, 1e300, 2**53, 2**53 + 1, -(2**53) - 1, 2**70, 100, 1e-300, 3])
UNARY = ["abs", "ln", "log10", "log1p", "exp", "sqrt", "floor", "ceil", "round", "sign", "negative"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "pow"]
ORDER = ["==", "!=", "<", "<=", ">", ">="]


def _made(*parts: st.SearchStrategy[Any] | str) -> st.SearchStrategy[Tree]:
    return st.tuples(*(st.just(each) if isinstance(each, str) else each for each in parts))


def _names(*names: str) -> st.SearchStrategy[Tree]:
    return _made("name", st.sampled_from(names))


def trees(*, text: bool) -> dict[str, st.SearchStrategy[Tree]]:
    """Strategies by type of expression; without `text` only numbers and bools are in them."""
    number: st.SearchStrategy[Tree] = st.deferred(lambda: kinds["number"])
    boolean: st.SearchStrategy[Tree] = st.deferred(lambda: kinds["bool"])
    string: st.SearchStrategy[Tree] = st.deferred(lambda: kinds["text"])
    time: st.SearchStrategy[Tree] = st.deferred(lambda: kinds["timestamp"])
    numbers = [_names("x", "y", "i", "j"), _made("literal", LITERALS)]
    numbers += [_made(st.sampled_from(UNARY), number), _made(st.sampled_from(BINARY), number, number)]
    numbers += [
        _made(st.sampled_from(["min", "max", "coalesce"]), number, number),
        _made("clip", number, number, number),
    ]
    numbers += [_made("if", boolean, number, number), _made("number", boolean), _made("coalesce", number)]
    leaf = st.one_of(_names("x", "i", "j"), _made("literal", LITERALS))
    booleans = [
        _names("f", "g"),
        _made(st.sampled_from(ORDER), number, number),
        _made(st.sampled_from(ORDER), leaf, leaf),
    ]
    booleans += [_made(st.sampled_from(["and", "or"]), boolean, boolean), _made("and", boolean, boolean, boolean)]
    booleans += [_made("not", boolean), _made("is_null", number), _made("is_null", boolean)]
    booleans += [_made(st.sampled_from(["==", "!="]), boolean, boolean), _made("if", boolean, boolean, boolean)]
    booleans += [_made("in", st.one_of(leaf, number), st.lists(LITERALS, min_size=1, max_size=4).map(tuple))]
    if text:
        words = st.sampled_from(["", "a", "é", "ab", "Z"])
        numbers += [_made("length", string), _made("seconds_between", time, time), _made("seconds", time)]
        numbers += [_made(st.sampled_from(["hour", "weekday", "day"]), time)]
        booleans += [_made(st.sampled_from(ORDER), string, string), _made(st.sampled_from(ORDER), time, time)]
        booleans += [_made(st.sampled_from(["starts_with", "contains"]), string, _made("literal", words))]
        booleans += [_made("is_null", string), _made("is_null", time)]
        booleans += [_made("in", string, st.lists(words, min_size=1, max_size=3).map(tuple))]
    strings = [_names("s", "u"), _made("literal", st.sampled_from(["", "a", "é b"]))]
    strings += [_made(st.sampled_from(["lower", "upper"]), string), _made("coalesce", string, string)]
    strings += [_made("if", boolean, string, string)]
    times = [
        _names("t", "v"),
        _made(st.sampled_from(["min", "max", "coalesce"]), time, time),
        _made("if", boolean, time, time),
    ]
    kinds = {"number": st.one_of(numbers), "bool": st.one_of(booleans), "text": st.one_of(strings)}
    kinds["timestamp"] = st.one_of(times)
    return kinds


def written(tree: Tree) -> str:
    """The tree as a text of the language."""
    operation, *args = tree
    if operation == "name":
        return str(args[0])
    if operation == "literal":
        return f"({args[0]!r})"
    if operation == "in":
        return f"({written(args[0])} in {list(args[1])!r})"
    texts = [written(each) for each in args]
    forms = {"if": "({1} if {0} else {2})", "not": "(not {0})", "negative": "(- {0})"}
    if operation in forms:
        return forms[operation].format(*texts)
    is_infix = operation in ("and", "or") or not operation.isidentifier()
    return f"({f' {operation} '.join(texts)})" if is_infix else f"{operation}({', '.join(texts)})"


def computed(tree: Tree, row: Row) -> Any:  # noqa: ANN401
    """The value of `tree` for one row: a float, bool, str, whole microseconds, or None."""
    operation, *args = tree
    if operation in SPECIAL:
        return SPECIAL[operation](args, row)
    if operation in ORDER and all(_is_integer(each, row) for each in args) and "name" in {each[0] for each in args}:
        return ORDERING[operation](*(_integer(each, row) for each in args))
    values = [computed(each, row) for each in args]
    if None in values:
        return None
    if operation in ("**", "pow"):
        return finite(_power(values, is_literal=args[1][0] == "literal" or _is_negated_literal(args[1])))
    return finite(FUNCTIONS[operation](*values))


def _literal(args: list[Any], _: Row) -> Any:  # noqa: ANN401
    return float(args[0]) if isinstance(args[0], int) else args[0]


def _if(args: list[Tree], row: Row) -> Any:  # noqa: ANN401
    test = computed(args[0], row)
    return None if test is None else computed(args[1] if test else args[2], row)


def _coalesce(args: list[Tree], row: Row) -> Any:  # noqa: ANN401
    return next((found for each in args if (found := computed(each, row)) is not None), None)


def _kleene(decisive: bool) -> Callable[[list[Tree], Row], bool | None]:
    def decided(args: list[Tree], row: Row) -> bool | None:
        values = [computed(each, row) for each in args]
        return decisive if decisive in values else None if None in values else not decisive

    return decided


def known(name: str, value: Any) -> Any:  # noqa: ANN401
    """A column's value: whole numbers as floats, None for what counts as null."""
    if name in "tv" and value is not None:
        return value if abs(value) <= 2**53 else None
    return finite(float(value)) if name in "xyij" and value is not None else value


def finite(value: Any) -> Any:  # noqa: ANN401
    """None for NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_integer(tree: Tree, row: Row) -> bool:
    value = row[tree[1]] if tree[0] == "name" and tree[1] in "ij" else tree[1] if tree[0] == "literal" else None
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(tree: Tree, row: Row) -> int:
    return int(row[tree[1]] if tree[0] == "name" else tree[1])


def _is_negated_literal(tree: Tree) -> bool:
    return tree[0] == "negative" and (tree[1][0] == "literal" or _is_negated_literal(tree[1]))


def _in(args: list[Any], row: Row) -> bool | None:
    left, wanted = args
    value = computed(left, row)
    if value is None:
        return None
    if left[0] == "name" and _is_integer(left, row):
        return any(row[left[1]] == each for each in wanted)
    return any(value == (float(each) if isinstance(each, int) else each) for each in wanted)


def _power(values: list[float], *, is_literal: bool) -> float:
    with np.errstate(all="ignore"):
        if is_literal:
            return float(np.power(values[0], values[1]))
        return float(np.power(np.array(values[:1]), np.array(values[1:]))[0])


def _exp(x: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.exp(x))


def _when(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


ORDERING: dict[str, Callable[..., bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ORDERING,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else None,
    "//": lambda a, b: a // b if b else None,
    "%": lambda a, b: a % b if b else None,
    "negative": lambda a: -a,
    "abs": abs,
    "not": lambda a: not a,
    "number": float,
    "ln": lambda a: float(np.log(a)) if a > 0 else None,
    "log10": lambda a: float(np.log10(a)) if a > 0 else None,
    "log1p": lambda a: float(np.log1p(a)) if a > -1 else None,
    "exp": _exp,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else None,
    "floor": lambda a: float(math.floor(a)),
    "ceil": lambda a: float(math.ceil(a)),
    "round": lambda a: float(round(a)),
    "sign": lambda a: float((a > 0) - (a < 0)),
    "min": min,
    "max": max,
    "clip": lambda a, low, high: min(max(a, low), high),
    "length": lambda a: float(len(a)),
    "lower": str.lower,
    "upper": str.upper,
    "starts_with": str.startswith,
    "contains": lambda a, b: b in a,
    "seconds": lambda a: a / 1e6,
    "seconds_between": lambda a, b: (b - a) / 1e6,
    "hour": lambda a: float(_when(a).hour),
    "weekday": lambda a: float(_when(a).weekday()),
    "day": lambda a: float(_when(a).day),
}
SPECIAL: dict[str, Callable[[list[Any], Row], Any]] = {
    "name": lambda args, row: known(args[0], row[args[0]]),
    "literal": _literal,
    "is_null": lambda args, row: computed(args[0], row) is None,
    "if": _if,
    "in": _in,
    "and": _kleene(False),
    "or": _kleene(True),
    "coalesce": _coalesce,
}
"""What looks at its arguments otherwise than by their values, all known."""
