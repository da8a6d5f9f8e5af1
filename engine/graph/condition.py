"""Conditions such as "score.probability > 0.9": read from the spec, and asked of tensors. Pure.

A NaN compares false, with `!=` too: what is not known is no reason to run a node. Numbers compare in their own precision: the
FP32 nearest to 0.1 is == 0.1.
"""

from __future__ import annotations

import math
import operator as operators
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt

from engine.errors import SpecError, quoted

Operator = Literal["", ">", ">=", "<", "<=", "==", "!="]
"""Empty: the tensor is of BOOL and says so itself."""

_OPERATOR: Final = re.compile("(>=|<=|==|!=|[<>=!])")
_WORDS: Final = {"true": 1.0, "false": 0.0}
_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    ">": operators.gt, ">=": operators.ge, "<": operators.lt, "<=": operators.le, "==": operators.eq, "!=": operators.ne,
}  # fmt: skip
"""Of an array with a number, element by element, and of two numbers."""


@dataclass(frozen=True, slots=True)
class ParsedCondition:
    """`reference` as it is written; `operand` is 0 where `operator` is empty."""

    reference: str
    operator: Operator
    operand: float


def parse_condition(text: str) -> ParsedCondition:
    """The parts of "REFERENCE" or "REFERENCE OPERATOR NUMBER" (`true` is 1, `false` 0). Raises SpecError."""
    reference, *rest = (part.strip() for part in _OPERATOR.split(text))
    if not reference or len(rest) not in (0, 2) or (rest and rest[0] not in _COMPARE):
        raise SpecError(
            f"expected a condition such as 'score.suspicious' or 'score.probability > 0.5', got {quoted(text)}"
        )
    if not rest:
        return ParsedCondition(reference, "", 0.0)
    return ParsedCondition(reference, cast(Operator, rest[0]), _number(rest[1], text))


def _number(written: str, text: str) -> float:
    try:
        number = _WORDS[written] if written in _WORDS else float(written)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise SpecError(f"expected a number after the operator of the condition {quoted(text)}, got {quoted(written)}")
    return number


def is_true(operator: Operator, operand: float, array: npt.NDArray[Any]) -> bool:
    """Whether any element of `array` (BOOL or numbers, not the bits of BF16) compares so with `operand`, or, without an
    operator, is true."""
    if (
        array.size == 1 and array.dtype.kind in "iu" and operator
    ):  # such as a count, of which numpy takes ten times as long
        return bool(_COMPARE[operator](array.item(), operand))
    return bool(_elements(operator, operand, array).any())


def true_rows(operator: Operator, operand: float, array: npt.NDArray[Any], rows: int) -> npt.NDArray[np.bool_]:
    """For each of `rows` whether any element of its row compares so. An array that has not that many rows is one answer for
    all of them."""
    elements = _elements(operator, operand, array)
    if elements.ndim == 0 or elements.shape[0] != rows:
        return np.full(rows, bool(elements.any()))
    return np.asarray(elements.reshape(rows, -1).any(axis=1)) if rows else np.zeros(0, np.bool_)


def _elements(operator: Operator, operand: float, array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if not operator:
        return array.astype(np.bool_, copy=False)
    compared: npt.NDArray[np.bool_]
    if array.dtype.kind in "iu" and operand.is_integer():
        compared = _COMPARE[operator](array, int(operand))  # as float64, 2**53 + 1 would be 2**53
        return compared
    with np.errstate(over="ignore"):  # an operand beyond FP16 is infinity to it
        compared = np.asarray(_COMPARE[operator](array, operand), np.bool_)
    if operator == "!=" and array.dtype.kind == "f":
        compared = np.asarray(compared & ~np.isnan(array))
    return compared
