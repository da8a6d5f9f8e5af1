"""What is worked out of a collection's spec once, for every call that needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final, TypeVar

from engine.vectors.declaration import CollectionSpec

T = TypeVar("T")

KEPT_MAX: Final = 1_024
"""Specs whose results are kept; then all are forgotten and worked out again."""


def by_spec(make: Callable[[CollectionSpec], T]) -> Callable[[CollectionSpec], T]:
    """`make`, called once for a spec: the object, not what it says, since a spec has mappings and no hash. Any thread; two that
    ask first may both call it."""
    kept: dict[int, tuple[CollectionSpec, T]] = {}

    @wraps(make)
    def found(spec: CollectionSpec) -> T:
        known = kept.get(id(spec))
        if known is not None:
            return known[1]
        made = make(spec)
        if len(kept) >= KEPT_MAX:
            kept.clear()
        kept[id(spec)] = spec, made  # the spec too: while it is kept nothing else has its id
        return made

    return found
