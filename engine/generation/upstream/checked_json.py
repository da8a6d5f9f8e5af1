"""JSON from outside, looked at piece by piece: each piece is what it should be, or refused by its place. Pure."""

from __future__ import annotations

from typing import Any, cast

from engine.errors import InvalidArgument, quoted


def refused(where: str, expected: str, value: object) -> InvalidArgument:
    """What is told of a value that is not what was expected."""
    return InvalidArgument(f"{where}: expected {expected}, got {_told(value)}")


def _told(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return quoted(value)
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return str(value).lower() if isinstance(value, bool) else kinds.get(type(value), type(value).__name__)


def a_list(value: object, where: str) -> list[Any]:
    """`value`, a list. Raises InvalidArgument."""
    if not isinstance(value, list):
        raise refused(where, "a list", value)
    return value


def a_mapping(value: object, where: str) -> dict[str, Any]:
    """`value`, an object. Raises InvalidArgument."""
    if not isinstance(value, dict):
        raise refused(where, "an object", value)
    return cast(dict[str, Any], value)


def a_text(value: object, where: str) -> str:
    """`value`, text. Raises InvalidArgument."""
    if not isinstance(value, str):
        raise refused(where, "text", value)
    return value
