"""How a declared language model is loaded, whichever of its kinds it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.errors import quoted
from engine.generation.declaration import LanguageModelSpec
from engine.generation.language_model import Ask, LanguageModel
from engine.home import Home
from engine.limits import GENERATION_END_S_MAX
from engine.servables.function import named_callable
from engine.servables.linked import Way

if TYPE_CHECKING:
    from engine.generation.asking import Submit


def load_language_model(
    submit: Submit, clock: Clock, home: Home, way: Callable[[str], Way | None], name: str, spec: LanguageModelSpec,
    folder: Path, ask: Ask,
) -> LanguageModel:  # fmt: skip
    """See `engine.generation.store.Load`. `submit` and `clock` are the engine's, `home` where language models live, `way` tells
    of those that another deployment has. One that computes is given up after its `load_s_max`."""
    if (there := way(name)) is not None:
        from engine.generation.linked import load_linked

        return load_linked(name, spec, there, clock, home)
    if spec.computes:
        return _computing(name, spec, folder, home)
    if (grounded := spec.grounded) is not None:
        from engine.generation.grounding.grounded import GroundedModel
        from engine.generation.grounding.retrieval import Retrieval

        retrieval = Retrieval(submit, grounded.retrieval, grounded.question, grounded.passages)
        return GroundedModel(name, grounded, retrieval, ask)
    if spec.upstream is not None:
        from engine.generation.upstream.model import UpstreamModel

        return UpstreamModel(name, spec.upstream, folder, clock=clock, ask=ask)
    return _asking(submit, name, spec)


def _computing(name: str, spec: LanguageModelSpec, folder: Path, home: Home) -> LanguageModel:
    """What holds a model of its own."""
    from engine.generation.patience import loaded_within

    def close(late: LanguageModel) -> None:
        home.run(late.aclose(), GENERATION_END_S_MAX)

    if spec.vllm is not None:
        from engine.servables.vllm import Starting, load_vllm

        start = partial(load_vllm, name, spec.vllm, folder, home, spec.load_s_max)
        return loaded_within(spec.load_s_max, start, give_up=Starting().kill, close=close)
    return loaded_within(spec.load_s_max, partial(_called, name, spec), give_up=_nothing, close=close)


def _called(name: str, spec: LanguageModelSpec) -> LanguageModel:
    """What the spec's factory makes."""
    assert spec.call is not None, "checked with the spec"
    made: LanguageModel = named_callable(f"language model {quoted(name)}", spec.call)(name)
    return made


def _nothing() -> None: ...


def _asking(submit: Submit, name: str, spec: LanguageModelSpec) -> LanguageModel:
    """What asks one servable and no language model."""
    from engine.generation.encoding import ENCODER, RERANKER, EmbeddingModel, RerankingModel

    if spec.encoder is not None:
        return EmbeddingModel(name, spec.encoder, ENCODER, submit)
    if spec.reranker is not None:
        return RerankingModel(name, spec.reranker, RERANKER, submit)
    graph = spec.graph
    assert graph is not None, "checked with the spec"
    if graph.embedding is not None:
        return EmbeddingModel(name, graph.call, graph.embedding, submit)
    if graph.reranking is not None:
        return RerankingModel(name, graph.call, graph.reranking, submit)
    from engine.generation.graph.model import TextGraph

    assert graph.text is not None, "checked with the spec"
    return TextGraph(name, graph.call, graph.text, submit)
