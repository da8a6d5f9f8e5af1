"""Expressions: the one small language of filters, derived columns and features, the same text online and offline.

docs/reference/expressions.md is the language. An expression is checked when it is read; it is then evaluated over Arrow
columns, or over float64 arrays where only numbers are in it. Nothing of a text is ever run as Python. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.features.expression_numbers import compile_numbers, is_numeric, settled
from engine.features.expression_scalars import compile_scalar
from engine.features.expression_syntax import leaf, parse_tree
from engine.features.expression_tree import ExpressionType, Node

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.expression_columns import OverColumns

__all__ = ["Expression", "ExpressionType", "column", "parse"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression. Equal where it computes the same from the same names, however it was written.

    `names` are the columns it reads, `type` what it gives, `whole` whether its numbers are whole for certain. `numeric`: only
    numbers and bools are in it, so that `numbers` works. `canonical` is what it computes as text, derived columns written
    out. Methods may be called from any thread.
    """

    text: str = field(compare=False)
    names: frozenset[str]
    type: ExpressionType
    canonical: str
    whole: bool = field(compare=False, repr=False)
    numeric: bool = field(compare=False, repr=False)
    node: Node = field(compare=False, repr=False)
    _numbers: Callable[[Mapping[str, Any]], Any] | None = field(compare=False, repr=False)
    _number: Callable[[Mapping[str, float]], float] | None = field(compare=False, repr=False)
    _columns: list[OverColumns] = field(compare=False, repr=False)
    """Compiled by the first evaluation, which loads Arrow; until then empty."""

    def evaluate(self, columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
        """Its values over Arrow columns of `rows` rows, with nulls.

        A bare column is returned as it is, untouched. Else numbers are float64 (int64 from `as_integer`), bools bool, texts
        string (large_string beside such a column), timestamps timestamp[us, UTC]; NaN and infinities are null.
        """
        return self._over_columns().array(columns, rows)

    def holds(self, columns: Mapping[str, pa.Array], rows: int) -> npt.NDArray[np.bool_]:
        """Where a bool expression is true, bool [rows]: false where it is false or null."""
        return self._over_columns().holds(columns, rows)

    def numbers(
        self, values: Mapping[str, npt.NDArray[np.float64]], rows: int | None = None
    ) -> npt.NDArray[np.float64]:
        """The same of a `numeric` expression over float64 arrays in which NaN is null; bools are 0, 1 and NaN.

        An infinity is null like NaN. `rows` (default: as many as the arrays have, or 1) sizes what has no name in it.
        """
        assert self._numbers is not None, f"{self.text!r} has more than numbers in it"
        if rows is None:
            rows = len(next(iter(values.values()))) if values else 1
        if rows == 1:
            return np.array([self.number({name: values[name].item() for name in self.names})])
        with np.errstate(all="ignore"):
            found = self._numbers(values)
        return found if isinstance(found, np.ndarray) and found.ndim else np.full(rows, found, np.float64)

    def number(self, values: Mapping[str, float]) -> float:
        """`numbers` for one row, of Python floats: several times faster than an array of one, and the same to the last bit."""
        assert self._number is not None, f"{self.text!r} has more than numbers in it"
        return self._number(values)

    def as_integer(self) -> Expression:
        """The same numbers, or bools, as an int64 array; null where they are not whole or do not fit."""
        return _expression(self.text, Node("integer", ExpressionType.NUMBER, (self.node,), whole=True))

    def _over_columns(self) -> OverColumns:
        if not self._columns:
            from engine.features.expression_columns import OverColumns

            self._columns.append(OverColumns(self.node))
        return self._columns[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return _expression, (self.text, self.node)


def parse(
    text: str,
    names: Mapping[str, ExpressionType],
    *,
    derived: Mapping[str, Expression] | None = None,
    whole: Collection[str] = (),
) -> Expression:
    """The expression in `text` over `names` and `derived` ones; `whole` are names whose numbers are whole.

    Raises SpecError that shows the text, the place in it, what was expected and the nearest known name.
    """
    above = derived or {}

    def find(name: str) -> Node | None:
        if name in above:
            return above[name].node
        kind = names.get(name)
        return None if kind is None else leaf(name, kind, whole=name in whole)

    return _expression(text, parse_tree(text, find, lambda: (*names, *above)))


def column(name: str, kind: ExpressionType, *, whole: bool = False) -> Expression:
    """The expression that is one column, whatever its name."""
    return _expression(name, leaf(name, kind, whole=whole))


def _expression(text: str, node: Node) -> Expression:
    names = frozenset(str(each.value) for each in node.walk() if each.operation == "name")
    numeric = is_numeric(node) and node.operation != "integer"
    numbers = settled(compile_numbers(node)) if numeric else None
    number = compile_scalar(node) if numeric else None
    return Expression(text, names, node.type, node.canonical, node.whole, numeric, node, numbers, number, [])
