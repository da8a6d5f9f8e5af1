"""What may be wrong with the declaration of a model that answers from passages. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Final

from engine.errors import nearest, quoted
from engine.generation.grounding.declaration import GroundingSpec
from engine.generation.grounding.prompt import prompt_problems
from engine.limits import GROUNDING_CHARS_MAX, GROUNDING_PASSAGES_MAX, GROUNDING_QUERIES_MAX

_BOUNDS: Final = {
    "passages_max": (1, GROUNDING_PASSAGES_MAX),
    "chars_max": (1, GROUNDING_CHARS_MAX),
    "queries": (0, GROUNDING_QUERIES_MAX),
    "support_min": (0, 1),
}


def grounding_problems(
    spec: GroundingSpec, own: str, servables: Collection[str], models: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The key, and what is wrong with it. `servables`: names of what may retrieve; `models`: of language models, its `own` among
    them."""
    if spec.model == own:
        yield "model", "a model cannot word its own answers"
    elif spec.model not in models:
        yield "model", f"no language model is called {quoted(spec.model)}{nearest(spec.model, models)}"
    if spec.retrieval not in servables:
        yield "retrieval", f"nothing is called {quoted(spec.retrieval)}{nearest(spec.retrieval, servables)}"
    for key, (least, most) in _BOUNDS.items():
        if not least <= getattr(spec, key) <= most:
            yield key, f"must be from {least} to {most}, got {getattr(spec, key)}"
    if spec.score_min is not None and not math.isfinite(spec.score_min):
        yield "score_min", f"must be finite, got {spec.score_min}"
    if not spec.unanswerable.strip():
        yield "unanswerable", "must say something"
    yield from ((f"prompt.{key}", problem) for key, problem in prompt_problems(spec.prompt))
