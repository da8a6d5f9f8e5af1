"""What a spec says of language models that answer from passages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.generation.grounding.passage import PassageTensors
from engine.generation.grounding.prompt import PromptSpec


@dataclass(frozen=True, slots=True)
class GroundingSpec:
    """A language model whose answers rest on passages.

    `retrieval` names the graph, search or function that finds them: it takes the `question` (BYTES [1]) and gives `passages`.
    `model` names the language model that words the answer.

    Of the passages found, up to `passages_max` with together `chars_max` characters are shown to it. Where the best score is
    below `score_min`, `unanswerable` is the answer and no model is asked. `queries` more ways to search are asked of the model
    first, and what all find is fused.

    `order`: they are shown the best first as they were "found", or by "document" and place in it, so that questions that find
    the same passages have prompts that begin alike.

    `citations`: "attributed" gives a sentence that names no passage the number of the one it rests on, "marked" keeps what the
    model wrote. `support_min`: so much of a sentence's words must be in a passage for it to rest on it; `stemmer` the language
    whose endings don't count.
    """

    retrieval: str
    model: str
    question: str = "question"
    passages: PassageTensors = field(default_factory=PassageTensors)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    passages_max: int = 5
    chars_max: int = 6000
    order: Literal["found", "document"] = "found"
    queries: int = 0
    score_min: float | None = None
    unanswerable: str = "The documents do not answer this."
    citations: Literal["attributed", "marked"] = "attributed"
    support_min: float = 0.6
    stemmer: str | None = None
