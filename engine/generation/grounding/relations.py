"""What may be wrong with the declaration of a model that answers from passages. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Final

from engine.errors import nearest, quoted
from engine.generation.grounding.declaration import GroundingSpec
from engine.generation.grounding.prompt import prompt_problems
from engine.generation.handing_on import Asked, reached
from engine.limits import GROUNDING_CHARS_MAX, GROUNDING_PASSAGES_MAX, GROUNDING_QUERIES_MAX

_BOUNDS: Final = {
    "passages_max": (1, GROUNDING_PASSAGES_MAX),
    "chars_max": (1, GROUNDING_CHARS_MAX),
    "queries": (0, GROUNDING_QUERIES_MAX),
    "support_min": (0, 1),
}


def grounding_problems(
    spec: GroundingSpec, own: str, servables: Collection[str], asked: Asked
) -> Iterator[tuple[str, str]]:
    """The key, and what is wrong with it. `servables`: names of what may retrieve; `asked`: of language models, its `own` among
    them."""
    yield from _model_problems(spec.model, own, asked)
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
    if spec.stemmer is not None:
        from engine.vectors.words import stemmer_problem

        if (problem := stemmer_problem(spec.stemmer)) is not None:
            yield "stemmer", problem


def _model_problems(model: str, own: str, asked: Asked) -> Iterator[tuple[str, str]]:
    if model == own:
        yield "model", "a model cannot word its own answers"
    elif model not in asked:
        yield "model", f"no language model is called {quoted(model)}{nearest(model, asked)}"
    elif own in reached(model, asked):
        yield "model", f"{quoted(model)} asks {quoted(own)} in turn"
