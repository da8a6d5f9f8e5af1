"""Language models that hand calls on to others: who comes to whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping

Asked = Mapping[str, tuple[str, ...]]
"""For each language model of a spec, those that may have to answer for it."""


def reached(name: str, asked: Asked) -> set[str]:
    """Everything that a call handed on to `name` may come to."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += asked.get(each, ())
    return found
