"""Texts with places named in braces, filled for each use; checked when they are declared. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from string import Formatter

from engine.errors import nearest, quoted


def place_problems(text: str, required: Collection[str], optional: Collection[str]) -> Iterator[str]:
    """What is wrong with a text that must name the places `required`, may name those `optional`, and no other. A brace itself is
    written twice."""
    named = set()
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        yield f"braces name places, a brace itself is written twice: {error}"
        return
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in (*required, *optional) or form or conversion:
            known = (*required, *optional)
            told = " and ".join(f"{{{each}}}" for each in known) or "no place; a brace itself is written twice"
            yield f"expected {told}, got {quoted('{' + name + '}')}{nearest(name, known)}"
        named.add(name)
    yield from (f"{{{name}}} is missing" for name in required if name not in named)
