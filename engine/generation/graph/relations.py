"""What may be wrong with the declaration of a language model that is a graph. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Final

from engine.declaration import TensorDeclaration
from engine.errors import nearest, quoted
from engine.generation.graph.declaration import EmbeddingTensors, GraphModelSpec, RerankingTensors, TextTensors
from engine.graph.known import Known, Tensors, mismatch

Problem = tuple[str, str]

_FORMS: Final = ("text", "embedding", "reranking")
_WHOLE: Final = ("INT32", "INT64", "UINT32", "UINT64", "INT16", "UINT16", "INT8", "UINT8")
"""Datatypes of counts, the first of which stands for all of them below."""

_FREE: Final = -1
_Sides = tuple[Mapping[str, TensorDeclaration], Mapping[str, TensorDeclaration]]


def _bytes(*shape: int) -> TensorDeclaration:
    return TensorDeclaration("BYTES", shape)


_WANTED: Final[Mapping[type, _Sides]] = {
    TextTensors: (
        dict.fromkeys(("prompt", "messages", "body", "tenant"), _bytes(1)),
        {
            **dict.fromkeys(("answer", "finish_reason"), _bytes(1)),
            **dict.fromkeys(("prompt_tokens", "completion_tokens"), TensorDeclaration(_WHOLE[0], (1,))),
        },
    ),
    EmbeddingTensors: (
        dict.fromkeys(("text", "prompt"), _bytes(_FREE)),
        {"embedding": TensorDeclaration("FP32", (_FREE, _FREE)), "tokens": TensorDeclaration(_WHOLE[0], (_FREE,))},
    ),
    RerankingTensors: (
        {"query": _bytes(_FREE), "passage": _bytes(_FREE, _FREE)},
        {"score": TensorDeclaration("FP32", (_FREE, _FREE)), "tokens": TensorDeclaration(_WHOLE[0], (_FREE,))},
    ),
}
"""The inputs and outputs that each may name."""


def graph_problems(spec: GraphModelSpec, servables: Mapping[str, Known | None]) -> Iterator[Problem]:
    """The key, and what is wrong with it. `servables`: what may be called, None where only loading tells its tensors."""
    given = [each for each in _FORMS if getattr(spec, each) is not None]
    if len(given) != 1:
        yield "", f"exactly one of {', '.join(_FORMS)} says what it answers, got {' and '.join(given) or 'none'}"
    if spec.call not in servables:
        yield "call", f"nothing is called {quoted(spec.call)}{nearest(spec.call, servables)}"
        return
    if spec.text is not None and not (spec.text.prompt or spec.text.messages or spec.text.body):
        yield "text", "at least one of prompt, messages and body names the input that is asked"
    for form in given:
        yield from ((f"{form}{key}", what) for key, what in _form_problems(spec, form, servables[spec.call]))


def _form_problems(spec: GraphModelSpec, form: str, known: Known | None) -> Iterator[Problem]:
    """Keys with the dot before them, or empty."""
    tensors = getattr(spec, form)
    named = {each.name: name for each in fields(tensors) if (name := getattr(tensors, each.name)) is not None}
    inputs, outputs = _WANTED[type(tensors)]
    asked: dict[str, str] = {}
    for key in [each for each in named if each in inputs]:
        if named[key] in asked:
            yield f".{key}", f"input {quoted(named[key])} is named by {quoted(asked[named[key]])} already"
        asked[named[key]] = key
    if known is None:
        return
    what = f"{known.kind} {quoted(spec.call)}"
    for side, wanted, there in (("input", inputs, known.inputs), ("output", outputs, known.outputs)):
        for key in [each for each in named if each in wanted]:
            if (problem := _tensor_problem(side, named[key], wanted[key], there)) is not None:
                yield f".{key}", f"{what} {problem}"
    for name, each in known.inputs.items():
        if name not in asked and each is not None and not each.optional:
            yield "", f"{what} needs input {quoted(name)}, which nothing here gives"


def _tensor_problem(side: str, name: str, wanted: TensorDeclaration, there: Tensors) -> str | None:
    if name not in there:
        return f"has no {side} {quoted(name)}{nearest(name, there)}"
    got = there[name]
    if got is not None and wanted.datatype == _WHOLE[0] and got.datatype in _WHOLE:
        got = TensorDeclaration(wanted.datatype, got.shape)
    problem = mismatch(got, wanted)
    return None if problem is None else f"does not fit, {side} {quoted(name)}: {problem}"
