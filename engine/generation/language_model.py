"""The contract of language models: who answers calls in the words of the OpenAI API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.declaration import LanguageModelSpec


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A name that calls may use, as `/v1/models` tells it. `created_s`: seconds since the Unix epoch. `parent`: of an
    adapter, the model that it is loaded into. `context_tokens`: of prompt and answer, None where nobody knows."""

    id: str
    created_s: int
    owned_by: str = "vireo"
    parent: str | None = None
    context_tokens: int | None = None


class LanguageModel(Protocol):
    """A loaded, warm language model. `answer` and `aclose` are awaited on one event loop, the same for its whole life; the others
    may be called from any thread and return at once."""

    @property
    def kinds(self) -> Collection[GenerationKind]:
        """What it answers."""

    def cards(self) -> Sequence[ModelCard]:
        """The names it answers to: its own first, then those of its adapters as they are now."""

    def problem(self) -> str | None:
        """Why it can answer nothing any more and must be loaded anew; None while it is well."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """The answer to a call of one of its `kinds`, by one of its names. Raises InvalidArgument, NotFound, ResourceExhausted,
        Unavailable. Cancelling drops the work. The deadline is kept by who calls, but it may plan with it."""

    async def aclose(self) -> None:
        """Frees everything. Nobody uses it any more."""


@runtime_checkable
class Adaptable(Protocol):
    """A `LanguageModel` that can follow some changes of its spec without being loaded anew."""

    async def adapt(self, spec: LanguageModelSpec, folder: Path) -> bool:
        """Whether it answers as `spec` says from now on; where False, nothing has changed. On the loop of `answer`; one
        that takes too long is cancelled and loaded anew. Raises ModelLoadError where it could follow and something that the
        spec names cannot be loaded."""


Ask = Callable[[GenerationCall], Awaitable[GenerationAnswer]]
"""A call of any language model of the spec, by its `model`: for one that falls back on others."""
