"""What several sections of the spec declare alike."""

from __future__ import annotations

from dataclasses import dataclass

Value = bool | int | float | str
"""A scalar as it is written in a spec."""


@dataclass(frozen=True, slots=True)
class TensorDeclaration:
    """Datatype (Open Inference Protocol name) and shape, -1 where a dimension varies."""

    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
