"""What is no expression is refused with the text, the place and the nearest name, however hostile it is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import SpecError
from engine.features.expression import ExpressionType, parse
from engine.features.expression_syntax import DEPTH_MAX, NODES_MAX

NAMES = {
    "amount": ExpressionType.NUMBER,
    "city": ExpressionType.TEXT,
    "ok": ExpressionType.BOOL,
    "at": ExpressionType.TIMESTAMP,
    "raw": ExpressionType.BYTES,
}

WRONG = [
    ("amuont + 1", "unknown name 'amuont'; nearest: 'amount': 'amuont' at character 1 of 'amuont + 1'"),
    ("city == 'é' and amuont > 1", "'amuont' at character 17 of"),
    ("flor(amount)", "unknown function 'flor'; nearest: 'floor': 'flor' at character 1"),
    ("abs", "'abs' is a function: call it"),
    ("abs(amount, 1)", "abs takes 1 argument, got 2"),
    ("min(amount)", "min takes 2 or more arguments, got 1"),
    ("clip(amount, low=1, high=2)", "clip takes its arguments by place"),
    ("city + 1", "'+' takes number, got text"),
    ("ok + 1", "'+' takes number, got bool (number(...) makes 0 and 1 of it)"),
    ("at + 1", "'+' takes number, got timestamp (seconds(...) makes a number of it)"),
    ("at - at", "seconds_between(from, to)"),
    ("hour(amount)", "'hour' takes timestamp, got number"),
    ("amount == city", "'==' takes values of one type, got number, text"),
    ("ok < ok", "'<' takes number or text or timestamp, got bool"),
    ("raw == raw", "'==' takes bool or number or text or timestamp, got bytes"),
    ("not amount", "'not' takes bool, got number"),
    ("ok and amount", "'and' takes bool, got number"),
    ("1 if amount else 2", "after 'if' stands a bool, got a number: 'amount' at character 6"),
    ("1 if ok else city", "both sides of 'else' are of one type, got number and text"),
    ("None if ok else None", "both sides of 'else' are None"),
    ("None", "always null"),
    ("amount == None", "use is_null(...)"),
    ("coalesce(amount, None)", "use is_null(...)"),
    ("amount is 1", "'is' is only for 'is None'"),
    ("amount in [1, amount]", "'in' takes a list of literals, got: 'amount' at character 15"),
    ("amount in ['a']", "'in' compares a number with a text"),
    ("amount in city", "'in' takes a list of literals such as ['a', 'b'], got: 'city'"),
    ("amount in []", "'in' takes a list of literals such as ['a', 'b'], got: '[]'"),
    ("1 < amount in [1]", "not chained"),
    ("contains(city, city)", "argument 2 of contains must be a literal"),
    ("timestamp(city)", "timestamp takes one literal such as"),
    ("timestamp('yesterday')", "timestamp takes one literal such as"),
    ("amount ^ 2", "bit operations are not part of the language"),
    ("~ok", "write 'not'"),
    ("amount.real", "a name with a dot is not part of the language"),
    ("amount[0]", "an index is not part of the language"),
    ("[amount]", "a list outside 'in'"),
    ("(amount, 1)", "a tuple outside 'in'"),
    ("f'{city}'", "a formatted text"),
    ("b'raw'", "a literal of type bytes"),
    ("1j", "a literal of type complex"),
    ("...", "a literal of type ellipsis"),
    ("1e999", "a number that no float64 holds"),
    ("9" * 400, "a number that no float64 holds"),
    ("'\\ud800'", "cannot be encoded"),
    ("", "an expression is empty"),
    (" \n ", "an expression is empty"),
    ("amount +", "not an expression: invalid syntax"),
    ("amount # and\n+ 1", "no comments"),
    ("amount = 1", "not an expression"),
    ("amount; amount", "not an expression"),
    ("1) + (2", "not an expression"),
]

HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "amount.__class__",
    "(lambda: amount)()",
    "[x for x in (1, 2)]",
    "(amount := 1)",
    "abs(*[1])",
    "abs(**{})",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "print(1)",
    "{1: 2}",
    "{amount}",
    "await amount",
    "yield amount",
    "`amount`",
    "amount\x00",
    "\ud800",
    "9" * 3_999,
    "1e" + "9" * 3_000,
    "(" * 1_999 + "1" + ")" * 1_999,
    "[" * 3_999,
    "-" * 3_999 + "1",
    "not " * 900 + "ok",
    "1**" * 1_300 + "1",
    "1 if ok else " * 300 + "1",
    "abs(" * 790 + "1" + ")" * 790,
    "1+" * 1_999 + "1",
    "amount." * 500 + "a",
    "lambda:" * 500 + "1",
    "amount" * 1_000_000,
    "amount + " * 1_000_000,
    "'" + "x" * 5_000 + "'",
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_wrong_expression_is_refused_with_the_place_and_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(text, NAMES)
    assert said in error.value.message


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(text, NAMES)
    assert len(error.value.message) < 800


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text("amountcity()+-*/%<>=!.,[]'\"0123456789e \\\n#:ifelsandornt_{}", max_size=40)))
def test_any_text_is_an_expression_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert parse(text, NAMES).canonical


def test_great_powers_of_great_numbers_cost_nothing() -> None:
    assert parse("9 ** 9 ** 9 ** 9", {}).evaluate({}, 1).to_pylist() == [None]
    assert parse("(2 ** 1000) ** 1000 is None", {}).evaluate({}, 1).to_pylist() == [True]


def test_depth_and_size_are_bounded_with_derived_columns_written_out() -> None:
    deep = "(" * 60 + "amount" + " + 1)" * 60
    first = parse(deep, NAMES)
    with pytest.raises(SpecError, match=f"nested deeper than {DEPTH_MAX}"):
        parse(deep.replace("amount", "first"), NAMES, derived={"first": first})
    derived = {"d0": parse("amount + amount", NAMES)}
    for index in range(8):
        derived[f"d{index + 1}"] = parse(f"d{index} + d{index}", NAMES, derived=derived)
    with pytest.raises(SpecError, match=f"more than {NODES_MAX} operations"):
        parse("d8 + d8 + d8 + d8", NAMES, derived=derived)


def test_as_deep_as_allowed_an_expression_is_evaluated() -> None:
    text = "+".join(["amount"] * (DEPTH_MAX - 2))
    assert parse(text, NAMES).number({"amount": 1.0}) == DEPTH_MAX - 2
    wide = " or ".join(["amount == 1"] * 260)
    assert parse(wide, NAMES).number({"amount": 1.0}) == 1.0


def test_lines_may_be_broken_and_spaces_stand_around() -> None:
    assert parse("  amount\n  > 1\r\n  and ok ", NAMES) == parse("amount > 1 and ok", NAMES)
    assert parse("amount  # the whole of it", NAMES) == parse("amount", NAMES)
