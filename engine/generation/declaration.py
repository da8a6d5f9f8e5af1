"""What a spec says of language models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.declaration import Value
from engine.generation.graph.declaration import GraphModelSpec
from engine.generation.grounding.declaration import GroundingSpec
from engine.generation.upstream.declaration import UpstreamSpec
from engine.limits import GENERATION_CALLS_MAX, GENERATION_LOAD_S_DEFAULT


@dataclass(frozen=True, slots=True)
class VllmSpec:
    """A vLLM engine. `model` is a folder of weights, or a name that vLLM finds; `args` are vLLM's own engine and server
    arguments, by their names on its command line, such as `max-model-len`; `adapters` are folders of LoRA weights by name.
    Folders that are relative begin at the spec's.
    """

    model: str
    args: Mapping[str, Value | tuple[Value, ...]] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnswersSpec:
    """Answers of one language model that are kept, within `bytes_max`, and for `ttl_s` seconds (null: as long as there is room).

    A kept answer is given again while nothing that it came from has changed, to calls that are certain to be answered the same:
    those that sample at temperature 0 or with a seed, and those that sample nothing. `always`: to all others too, and where the
    spec can't tell whether something has changed; `ttl_s` then says how old an answer may be.
    """

    bytes_max: int
    ttl_s: float | None = None
    always: bool = False


@dataclass(frozen=True, slots=True)
class LanguageModelSpec:
    """One language model: exactly one of `vllm`, `call`, `grounded`, `upstream`, `graph`, `encoder` and `reranker`.

    `call` is "package.module:name", of a factory that takes the model's name and gives a `LanguageModel`; `upstream`
    are other servers that run it; `graph` is a graph by its tensors; `encoder` and `reranker` name one of the spec, which then
    answers calls for embeddings, or for reranking and scores.

    `timeout_ms` is the deadline of a call that brings none. More than `calls_max` under way are refused.
    `answers`: those that are kept; null for none. `load_s_max`: one with a model of its own (`vllm`, `call`) that takes longer to
    be loaded hangs, and is given up.
    """

    vllm: VllmSpec | None = None
    call: str | None = None
    grounded: GroundingSpec | None = None
    upstream: UpstreamSpec | None = None
    graph: GraphModelSpec | None = None
    encoder: str | None = None
    reranker: str | None = None
    timeout_ms: float | None = None
    calls_max: int = GENERATION_CALLS_MAX
    answers: AnswersSpec | None = None
    load_s_max: float = GENERATION_LOAD_S_DEFAULT

    @property
    def computes(self) -> bool:
        """Whether it holds a model of its own; all others ask what is declared elsewhere."""
        return self.vllm is not None or self.call is not None

    @property
    def apart(self) -> LanguageModelSpec:
        """As it is declared where it runs in a deployment of its own: answers are kept by who is asked for them."""
        return replace(self, answers=None)

    @property
    def source(self) -> str:
        """What it is, in words."""
        if self.vllm is not None:
            return f"vLLM, {self.vllm.model}"
        if self.grounded is not None:
            return f"{self.grounded.model}, grounded in what {self.grounded.retrieval} finds"
        if self.upstream is not None:
            return f"upstream {', '.join(self.upstream.targets)}"
        if self.graph is not None:
            return f"graph {self.graph.call}"
        if self.encoder is not None:
            return f"encoder {self.encoder}"
        return f"reranker {self.reranker}" if self.reranker is not None else f"call {self.call}"

    @property
    def asks(self) -> tuple[str, ...]:
        """The language models that may have to answer for it."""
        if self.grounded is not None:
            return (self.grounded.model,)
        return () if self.upstream is None else self.upstream.fallback

    @property
    def servable(self) -> str | None:
        """What it calls that is no language model."""
        if self.grounded is not None:
            return self.grounded.retrieval
        return self.encoder or self.reranker if self.graph is None else self.graph.call
