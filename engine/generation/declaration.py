"""What a spec says of language models."""

from __future__ import annotations

from dataclasses import dataclass

from engine.generation.grounding.declaration import GroundingSpec
from engine.limits import GENERATION_CALLS_MAX


@dataclass(frozen=True, slots=True)
class LanguageModelSpec:
    """One language model: exactly one of `call` and `grounded`.

    `call` is "package.module:name", of a factory that takes the model's name and gives a `LanguageModel`.

    `timeout_ms` is the deadline of a call that brings none. More than `calls_max` under way are refused.
    """

    call: str | None = None
    grounded: GroundingSpec | None = None
    timeout_ms: float | None = None
    calls_max: int = GENERATION_CALLS_MAX

    @property
    def source(self) -> str:
        """What it is, in words."""
        if self.grounded is not None:
            return f"{self.grounded.model}, grounded in what {self.grounded.retrieval} finds"
        return f"call {self.call}"
