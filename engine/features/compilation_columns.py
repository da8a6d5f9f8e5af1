"""The columns of a view: those of its source, those derived from them, and the conditions over both. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import SpecError, nearest, quoted
from engine.features.declaration import FeatureViewSpec
from engine.features.expression import Expression, ExpressionType, column, parse
from engine.features.expression_syntax import NAME, WORDS

if TYPE_CHECKING:
    import pyarrow as pa

Place = Callable[[str], str]


class ViewColumns:
    """What can be named in a view over a source of `schema`. Raises SpecError where the spec does not fit."""

    def __init__(self, spec: FeatureViewSpec, schema: pa.Schema, place: Place) -> None:
        self._place = place
        self._schema = schema
        self._types = {field.name: kind for field in schema if (kind := expression_type(field.type)) is not None}
        self._whole = {field.name for field in schema if _is_whole(field.type)}
        self._derived: dict[str, Expression] = {}
        self._conditions: dict[str, Expression] = {}
        self._check_keys(spec)
        for name, text in spec.columns.items():
            self._derive(name, text)

    def types(self) -> dict[str, str]:
        """The Arrow type of each column of the source, in words."""
        return {field.name: str(field.type) for field in self._schema}

    def named(self, key: str, name: str) -> Expression:
        """The column `name`, derived or of the source."""
        if name in self._derived:
            return self._derived[name]
        if name in self._types:
            return column(name, self._types[name], whole=name in self._whole)
        if name in self._schema.names:
            raise self._fault(
                key, f"column {quoted(name)} is {self._schema.field(name).type}, which features cannot read"
            )
        known = nearest(name, [*self._schema.names, *self._derived])
        raise self._fault(key, f"unknown column {quoted(name)}{known}")

    def condition(self, key: str, text: str | None) -> Expression | None:
        """The bool expression at `key`; many features say the same one."""
        if text is None:
            return None
        made = self._conditions.get(text)
        if made is None:
            made = self._conditions[text] = self.expression(key, text)
        if made.type is not ExpressionType.BOOL:
            raise self._fault(key, f"a condition is a bool, got the {made.type} {quoted(text)}")
        return made

    def expression(self, key: str, text: str) -> Expression:
        """The expression at `key` over the source's columns and the derived ones so far."""
        try:
            return parse(text, self._types, derived=self._derived, whole=self._whole)
        except SpecError as error:
            raise self._fault(key, error.message) from error

    def _derive(self, name: str, text: str) -> None:
        key = f"columns.{name}"
        if NAME.fullmatch(name) is None or name in WORDS:
            raise self._fault(
                key, "a derived column's name has letters, digits and '_', and is no word of the language"
            )
        if name in self._schema.names:
            raise self._fault(key, "the source has a column of this name")
        self._derived[name] = self.expression(key, text)

    def _check_keys(self, spec: FeatureViewSpec) -> None:
        import pyarrow.types as kinds

        texts = (kinds.is_string, kinds.is_large_string)
        times = (kinds.is_timestamp, kinds.is_int64)
        keys = (kinds.is_integer, *texts, kinds.is_binary, kinds.is_large_binary)
        self._check_key("entity", spec.entity, keys, "whole numbers, strings or bytes")
        self._check_key("event_time", spec.event_time, times, "timestamps or int64 microseconds")
        if spec.event_id is not None:
            self._check_key("event_id", spec.event_id, (kinds.is_integer, *texts), "whole numbers or strings")

    def _check_key(
        self, key: str, name: str, allowed: tuple[Callable[[pa.DataType], bool], ...], expected: str
    ) -> None:
        if name not in self._schema.names:
            raise self._fault(key, f"unknown column {quoted(name)}{nearest(name, self._schema.names)}")
        kind = self._schema.field(name).type
        if not any(each(kind) for each in allowed):
            raise self._fault(key, f"must be a column of {expected}, got {quoted(name)} of {kind}")

    def _fault(self, key: str, problem: str) -> SpecError:
        return SpecError(f"{self._place(key)}: {problem}")


def expression_type(kind: pa.DataType) -> ExpressionType | None:
    """What expressions see of a column of Arrow type `kind`; None where they cannot read it."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_integer(kind) or kinds.is_floating(kind):
        return ExpressionType.NUMBER
    if kinds.is_boolean(kind):
        return ExpressionType.BOOL
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return ExpressionType.TEXT
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        return ExpressionType.TIMESTAMP
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return ExpressionType.BYTES
    return None


def _is_whole(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind) or kinds.is_boolean(kind))
