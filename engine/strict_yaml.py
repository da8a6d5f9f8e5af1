"""YAML, or JSON as Python has it, into frozen dataclasses by their annotations, strictly. It does not know what values mean.

An unknown key, a key written twice, or a value of the wrong type fails with the line in the file and, for a key, the
nearest one that exists. Fields of type Path are not read from the file.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from yaml.constructor import SafeConstructor

from engine.errors import SpecError, nearest, quoted
from engine.limits import SPEC_VALUES_MAX

Record = TypeVar("Record")


Place = Callable[[str], str]
"""Where a key such as "server.grpc_port" is written: source, line (of the nearest key above it, where it is not) and key."""


def read_strict(text: str, kind: type[Record], source: str) -> tuple[Record, Place]:
    """`text` as a `kind`, an empty text as its defaults. Raises SpecError that begins with `source` and the line."""
    reader = _Reader(source)
    return reader.read(text, kind), reader.place


def read_plain(value: object, kind: type[Record], source: str) -> Record:
    """`value` as a JSON decoder gives it (mappings, lists, text, numbers, true, false, null) as a `kind`. Raises SpecError that
    begins with `source` and the key."""
    try:
        node = _node_of(value, source, [0])
        return typing.cast(Record, _Reader(source)._record(node, kind, ""))
    except RecursionError as error:
        raise SpecError(f"{source}: nested too deep") from error


def plain_of(value: Any) -> Any:  # noqa: ANN401
    """`value`, a record or what one holds, as JSON has it, every key but those of type Path: `read_plain` reads it back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain_of(getattr(value, name)) for name in _field_kinds(type(value))}
    if isinstance(value, Mapping):
        return {name: plain_of(each) for name, each in value.items()}
    return [plain_of(each) for each in value] if isinstance(value, tuple) else value


def _node_of(value: object, source: str, count: list[int]) -> yaml.Node:
    """`value` as a document of YAML would have it, without lines."""
    count[0] += 1
    if count[0] > SPEC_VALUES_MAX:
        raise SpecError(f"{source}: more than {SPEC_VALUES_MAX} values")
    if isinstance(value, Mapping):
        pairs = []
        for key, each in value.items():
            if not isinstance(key, str):
                raise SpecError(f"{source}: a key must be a plain word, got a {type(key).__name__}")
            pairs.append((_scalar_node("str", key), _node_of(each, source, count)))
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs)
    if isinstance(value, list | tuple):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [_node_of(each, source, count) for each in value])
    if isinstance(value, bool) or value is None:
        return _scalar_node("null" if value is None else "bool", str(value).lower())
    try:
        if type(value) in (str, int, float):
            return _scalar_node(type(value).__name__, str(value))
    except ValueError as error:
        raise SpecError(f"{source}: an integer of more digits than Python writes") from error
    raise SpecError(f"{source}: expected what JSON can say, got a {type(value).__name__}")


def _scalar_node(tag: str, value: str) -> yaml.ScalarNode:
    return yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", value, style='"')


class _Reader:
    """Turns YAML into dataclasses by their annotations. Keeps the line of every key for its messages."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[str, int] = {}
        self._values = 0

    def read(self, text: str, kind: type[Record]) -> Record:
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            return typing.cast(Record, kind() if node is None else self._record(node, kind, ""))
        except yaml.YAMLError as error:
            raise SpecError(f"{self._source}: not valid YAML: {error}") from error
        except RecursionError as error:
            raise SpecError(f"{self._source}: nested too deep, or an alias that contains itself") from error

    def place(self, where: str) -> str:
        """See `Place`."""
        written = where
        while written and written not in self._lines:
            written = written.rpartition(".")[0]
        line = f":{self._lines[written]}" if written else ""
        return f"{self._source}{line}: {where}"

    def _fail(self, node: Any, where: str, problem: str) -> SpecError:  # noqa: ANN401  a YAML node
        if node.start_mark is None:
            return SpecError(f"{self._source}{'.' if where else ''}{where}: {problem}")
        return SpecError(f"{self._source}:{node.start_mark.line + 1}: {where or 'spec'}: {problem}")

    def _record(self, node: Any, kind: type, where: str) -> Any:  # noqa: ANN401
        kinds = _field_kinds(kind)
        values = {}
        for key, (key_node, value) in self._pairs(node, where).items():
            if key not in kinds:
                raise self._fail(key_node, where, f"unknown key {quoted(key)}{nearest(key, kinds)}")
            values[key] = self._value(value, kinds[key], f"{where}.{key}".lstrip("."), key_node)
        for each in dataclasses.fields(kind):
            if each.name not in values and each.default is each.default_factory is dataclasses.MISSING:
                raise self._fail(node, where, f"missing key {quoted(each.name)}")
        return kind(**values)

    def _pairs(self, node: Any, where: str) -> dict[str, tuple[Any, Any]]:  # noqa: ANN401
        if node.id == "scalar" and node.tag.endswith(":null"):
            return {}
        if node.id != "mapping":
            raise self._fail(node, where, f"expected keys with values, got a {node.id}")
        pairs: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if key.id != "scalar":
                raise self._fail(key, where, f"a key must be a plain word, got a {key.id}")
            if key.value in pairs:
                raise self._fail(key, where, f"key {quoted(key.value)} is written twice")
            pairs[key.value] = (key, value)
        return pairs

    def _value(self, node: Any, kind: Any, where: str, key: Any = None) -> Any:  # noqa: ANN401
        if node.start_mark is not None:
            self._lines.setdefault(where, (key or node).start_mark.line + 1)
        self._values += 1
        if self._values > SPEC_VALUES_MAX:  # aliases of aliases make many of a short text
            raise self._fail(node, where, f"more than {SPEC_VALUES_MAX} values, aliases counted each time")
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._choice(node, arguments, where)
        if origin is Literal:
            return self._word(node, arguments, where)
        if origin is tuple:
            return self._list(node, arguments[0], where)
        if origin is not None and issubclass(origin, Mapping):
            pairs = self._pairs(node, where)
            return {
                key: self._value(value, arguments[1], f"{where}.{key}", key_node)
                for key, (key_node, value) in pairs.items()
            }
        if dataclasses.is_dataclass(kind):
            return self._record(node, typing.cast(type, kind), where)
        return self._scalar(node, kind, where)

    def _choice(self, node: Any, kinds: tuple[Any, ...], where: str) -> Any:  # noqa: ANN401
        is_null = node.id == "scalar" and node.tag.endswith(":null")
        if is_null and type(None) in kinds:
            return None
        kinds = tuple(each for each in kinds if each is not type(None))
        if len(kinds) == 1:
            return self._value(node, kinds[0], where)
        fitting = tuple(each for each in kinds if _written_as(each) == node.id)
        if len(fitting) > 1:
            return self._scalar_of(node, kinds, where)
        if not fitting:
            raise self._fail(node, where, f"expected {_kind_names(kinds)}, got {_got(node)}")
        return self._value(node, fitting[0], where)

    def _word(self, node: Any, words: tuple[str, ...], where: str) -> str:  # noqa: ANN401
        if node.id != "scalar" or node.value not in words:
            raise self._fail(node, where, f"expected {_kind_name(Literal[words])}, got {_got(node)}")
        return typing.cast(str, node.value)

    def _list(self, node: Any, kind: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
        if node.id != "sequence":
            raise self._fail(node, where, f"expected a list, got a {node.id}")
        return tuple(self._value(each, kind, f"{where}[{index}]") for index, each in enumerate(node.value))

    def _scalar(self, node: Any, kind: type, where: str) -> Any:  # noqa: ANN401
        value = self._written(node, where)
        if kind is float and type(value) is int:
            value = self._as_float(value, node, where)
        if kind is str and isinstance(value, int | float | date) and not isinstance(value, bool) and node.style is None:
            value = node.value
        if type(value) is not kind:
            raise self._fail(node, where, f"expected {_kind_names((kind,))}, got {_got(node)}")
        return value

    def _as_float(self, value: int, node: Any, where: str) -> float:  # noqa: ANN401
        try:
            return float(value)
        except OverflowError as error:
            raise self._fail(node, where, str(error)) from error

    def _scalar_of(self, node: Any, kinds: tuple[Any, ...], where: str) -> Any:  # noqa: ANN401
        """A scalar that may be any of `kinds`: it is what it is written as."""
        value = self._written(node, where)
        if type(value) not in kinds:
            raise self._fail(node, where, f"expected {_kind_names(kinds)}, got {_got(node)}")
        return value

    def _written(self, node: Any, where: str) -> Any:  # noqa: ANN401
        try:
            return SafeConstructor().construct_document(node) if node.id == "scalar" else None
        except (yaml.YAMLError, ValueError) as error:
            raise self._fail(node, where, str(error)) from error


def _got(node: Any) -> str:  # noqa: ANN401  a YAML node
    return quoted(node.value) if node.id == "scalar" else f"a {node.id}"


def _written_as(kind: Any) -> str:  # noqa: ANN401  a type
    """Which sort of YAML node a value of `kind` is written as."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "mapping"
    return "sequence" if origin is tuple else "scalar"


def _kind_names(kinds: Iterable[Any]) -> str:
    """The kinds in words, joined by commas and "or"."""
    words = list(dict.fromkeys(map(_kind_name, kinds)))
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _kind_name(kind: Any) -> str:  # noqa: ANN401  a type
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(quoted, typing.get_args(kind)))}"
    return _KIND_NAMES.get(kind) or {"mapping": "keys with values", "sequence": "a list"}[_written_as(kind)]


_KIND_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@cache
def _field_kinds(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind) if hints[each.name] is not Path}
