"""What several sections of the spec declare alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import quoted

Value = bool | int | float | str
"""A scalar as it is written in a spec."""


@dataclass(frozen=True, slots=True)
class TensorDeclaration:
    """Datatype (Open Inference Protocol name) and shape, -1 where a dimension varies."""

    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


def timeout_problems(timeout_ms: float | None) -> Iterator[tuple[str, str]]:
    """The key, and why it can be no deadline of requests that bring none."""
    if timeout_ms is not None and not 0.001 <= timeout_ms <= 86_400_000:
        yield "timeout_ms", f"must be from 0.001 to 86400000, got {timeout_ms}"


def call_problem(call: str) -> str | None:
    """Why `call` names nothing of Python's; None where it may."""
    module, _, name = call.partition(":")
    return None if module and name else f"expected 'package.module:name', got {quoted(call)}"
