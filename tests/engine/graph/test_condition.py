"""Conditions: what is read as one, and of what it is true."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import SpecError
from engine.graph.condition import Operator, ParsedCondition, is_true, parse_condition, true_rows

COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("flag", ParsedCondition("flag", "", 0.0)),
        (" score.suspicious ", ParsedCondition("score.suspicious", "", 0.0)),
        ("score.p>0.5", ParsedCondition("score.p", ">", 0.5)),
        ("score.p  >=  -1e3", ParsedCondition("score.p", ">=", -1000.0)),
        ("score.p < .5", ParsedCondition("score.p", "<", 0.5)),
        ("score.p <= inf", ParsedCondition("score.p", "<=", float("inf"))),
        ("flag == true", ParsedCondition("flag", "==", 1.0)),
        ("flag != false", ParsedCondition("flag", "!=", 0.0)),
        ("a b.c d == 3", ParsedCondition("a b.c d", "==", 3.0)),
    ],
)
def test_a_condition_has_a_reference_and_perhaps_an_operator_and_a_number(text: str, parsed: ParsedCondition) -> None:
    assert parse_condition(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a condition such as .*, got ''"),
        ("> 3", "expected a condition such as .*, got '> 3'"),
        ("a = 3", "expected a condition such as"),
        ("a => 3", "expected a condition such as"),
        ("a ! 3", "expected a condition such as"),
        ("a > 1 > 2", "expected a condition such as"),
        ("a >", "expected a number after the operator of the condition 'a >', got ''"),
        ("a > b", "expected a number after the operator of the condition 'a > b', got 'b'"),
        ("a > nan", "expected a number after the operator"),
        (" " * 100_000 + ">", "expected a condition such as"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_condition(text)


@given(
    st.sampled_from(sorted(COMPARE)),
    st.integers(-3, 3).map(float) | st.sampled_from([0.5, 300.0, float(2**53), float("inf")]),
    st.sampled_from(["?", "u1", "i1", "<u8", "<i8", "<f2", "<f4", "<f8"]),
    st.lists(st.integers(0, 3) | st.just(2**53 + 1), max_size=6),
)
def test_conditions_are_those_of_each_element(sign: Operator, operand: float, dtype: str, values: list[int]) -> None:
    kept = [each for each in values if each < 4 or dtype[-2:] in ("u8", "i8", "f8")]
    array = np.array(kept, dtype)
    expected = [COMPARE[sign](each, operand) for each in array.tolist()]
    assert is_true(sign, operand, array) == any(expected)
    rows = len(kept)
    assert true_rows(sign, operand, array, rows).tolist() == expected
    assert true_rows(sign, operand, array, rows + 1).tolist() == [any(expected)] * (rows + 1)


@pytest.mark.parametrize("sign", sorted(COMPARE))
def test_what_is_not_known_compares_false(sign: Operator) -> None:
    assert not is_true(sign, 0.0, np.array([np.nan], np.float32))
    assert true_rows(sign, 1.0, np.array([[np.nan, np.nan]]), 1).tolist() == [False]


def test_numbers_compare_in_their_own_precision() -> None:
    assert is_true("==", 0.1, np.array([0.1], np.float32))
    assert not is_true(">", 0.1, np.array([0.1], np.float32))
    assert is_true("<", 1e9, np.array([1.0], np.float16))


def test_one_whole_number_is_compared_exactly() -> None:
    count, large = np.array([3], np.int32), np.array([[2**63 + 1]], np.uint64)
    assert is_true(">", 0.0, count)
    assert not is_true("!=", 3.0, count)
    assert is_true(">", 2.5, count)
    assert is_true("<", math.inf, count)
    assert is_true(">", 2.0**63, large)
    assert not is_true("==", 2.0**63, large)


def test_a_row_is_true_where_any_of_its_elements_is() -> None:
    array = np.array([[0.0, 0.9], [0.1, 0.2], [0.6, 0.0]])
    assert true_rows(">", 0.5, array, 3).tolist() == [True, False, True]
    assert true_rows("", 0.0, array[:1] > 0.5, 4).tolist() == [True] * 4
    assert true_rows(">", 0.5, np.array(0.7), 2).tolist() == [True, True]
    assert true_rows(">", 0.5, np.zeros((0, 3)), 0).tolist() == []
    assert not is_true("", 0.0, np.zeros(0, np.bool_))
