"""What the language models of a spec may say, checked with the place in the file. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from engine.declaration import call_problem, timeout_problems
from engine.errors import SpecError, nearest, quoted
from engine.generation.declaration import LanguageModelSpec, VllmSpec
from engine.generation.graph.relations import graph_problems
from engine.generation.grounding.relations import grounding_problems
from engine.generation.handing_on import Asked
from engine.generation.upstream.relations import upstream_problems
from engine.graph.known import Known
from engine.limits import NAME_CHARS_MAX
from engine.strict_yaml import Place

_SOURCES: Final = ("vllm", "call", "grounded", "upstream", "graph", "encoder", "reranker")
_OURS: Final = frozenset(
    ("model", "model-tag", "served-model-name", "lora-modules", "host", "port", "uds", "api-key", "root-path", "middleware",
     "api-server-count", "headless")
)  # fmt: skip
"""Arguments of vLLM's server that the spec says elsewhere, or that are about a server of vLLM's own."""


def check_language_models(
    models: Mapping[str, LanguageModelSpec], servables: Mapping[str, Known | None], place: Place
) -> None:
    """Raises SpecError. `servables`: what else is called as a model is; None where only loading tells its tensors."""
    asked = {each: spec.asks for each, spec in models.items()}
    for name, model in models.items():
        where = f"language_models.{name}"
        if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise SpecError(f"{place(where)}: a name has from 1 to {NAME_CHARS_MAX} printable characters")
        if name in servables:
            raise SpecError(f"{place(where)}: something else has that name already; all are called by it")
        for key, what in _problems(name, model, servables, asked):
            raise SpecError(f"{place(f'{where}.{key}'.rstrip('.'))}: {what}")


def _problems(
    name: str, model: LanguageModelSpec, servables: Mapping[str, Known | None], asked: Asked
) -> Iterator[tuple[str, str]]:
    given = [each for each in _SOURCES if getattr(model, each) is not None]
    if len(given) != 1:
        yield "", f"exactly one of {', '.join(_SOURCES)} says what it is, got {' and '.join(given) or 'none'}"
    if model.call is not None and (problem := call_problem(model.call)) is not None:
        yield "call", problem
    if model.vllm is not None:
        yield from ((f"vllm.{key}", problem) for key, problem in _vllm_problems(model.vllm, {*servables, *asked}))
    if model.grounded is not None:
        problems = grounding_problems(model.grounded, name, servables, asked)
        yield from ((f"grounded.{key}", problem) for key, problem in problems)
    if model.upstream is not None:
        yield from ((f"upstream.{key}", problem) for key, problem in upstream_problems(name, model.upstream, asked))
    if model.graph is not None:
        problems = graph_problems(model.graph, servables)
        yield from ((f"graph.{key}".rstrip("."), problem) for key, problem in problems)
    for kind, asks in (("encoder", model.encoder), ("reranker", model.reranker)):
        known = [each for each, found in servables.items() if found is not None and found.kind == kind]
        if asks is not None and asks not in known:
            yield kind, f"there is no {kind} {quoted(asks)}{nearest(asks, known)}"
    yield from _bound_problems(model)


def _bound_problems(model: LanguageModelSpec) -> Iterator[tuple[str, str]]:
    if not 1 <= model.calls_max <= 1 << 20:
        yield "calls_max", f"must be from 1 to {1 << 20}, got {model.calls_max}"
    if not 0 < model.load_s_max <= 86_400:
        yield "load_s_max", f"must be over 0 and at most 86400, got {model.load_s_max:g}"
    yield from timeout_problems(model.timeout_ms)


def _vllm_problems(vllm: VllmSpec, taken: Collection[str]) -> Iterator[tuple[str, str]]:
    for name in vllm.args:
        plain = name.replace("_", "-")
        if plain in _OURS or plain.startswith("ssl-"):
            yield f"args.{name}", "is not for vLLM: the rest of the spec says where and as what it is served"
        if not name or name != name.strip("-"):
            yield f"args.{name}", "an argument is written as on vLLM's command line, without the dashes before it"
    for name in vllm.adapters:
        if name in taken:
            yield f"adapters.{name}", "something else has that name already; all are called by it"
