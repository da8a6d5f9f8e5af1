"""JSON from callers as values of declared kinds, or what is wrong with it in words. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec

from engine import InvalidArgument, decodable, nearest, quoted

T = TypeVar("T")

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"[A-Za-z_]\w*|\[")


def decoded(text: bytes, kind: type[T], what: str = "request body") -> T:
    """Raises InvalidArgument, "request body: legs[0]: unknown key 'dens'; nearest: 'dense'"."""
    try:
        return msgspec.json.decode(text, type=decodable(kind))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{what}: {_told(str(error), kind)}") from error


def _told(problem: str, kind: type) -> str:
    """What msgspec says, and of an unknown key those that are known there."""
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown is None:
        return problem
    key, path = unknown[1], unknown[2] or ""
    return f"{path}{': ' if path else ''}unknown key {quoted(key)}{nearest(key, _keys_at(kind, path))}"


def _keys_at(kind: Any, path: str) -> tuple[str, ...]:  # noqa: ANN401  a type, or a union of some
    """Of the object at a path such as `searches[1].legs[0]`; none where a strange key only looks like one with a path."""
    for step in _STEP.findall(path):
        if step == "[":
            found = (get_args(each)[0] for each in _members(kind) if getattr(each, "__origin__", None) is list)
        else:
            found = (get_type_hints(each)[step] for each in _structs(kind) if step in each.__struct_fields__)
        kind = next(found, None)
    return tuple(name for each in _structs(kind) for name in each.__struct_fields__)


def _structs(kind: Any) -> list[type[msgspec.Struct]]:  # noqa: ANN401
    return [each for each in _members(kind) if isinstance(each, type) and issubclass(each, msgspec.Struct)]


def _members(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Of a union; else the one type."""
    is_union = getattr(kind, "__origin__", None) is None and get_args(kind)
    return get_args(kind) if is_union else (kind,)
