"""What it takes to put documents into one collection: how they are split and embedded, as its spec and its encoders say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.documents.declaration import DocumentsSpec
from engine.documents.points import Passages
from engine.documents.relations import field_problems
from engine.documents.splitter import ChunkBounds, Tokens
from engine.encoders.declaration import EncoderSpec
from engine.encoders.relations import encoder_mismatch
from engine.encoders.tokens import Tokens as Tokenizer
from engine.errors import FailedPrecondition, quoted
from engine.spec import Spec
from engine.vectors.declaration import CollectionSpec, EmbedderSpec

_FORMAT = 1
"""Raised when the same file and spec give other points than before, so that they are written anew."""


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Of one collection. `embedders`: what makes each of its vectors. `prompts`: the name of the prompt that each of these models
    is to be given."""

    spec: DocumentsSpec
    passages: Passages
    embedders: Mapping[str, EmbedderSpec]
    prompts: Mapping[str, str]


def ingestion_of(spec: Spec, name: str, collection: CollectionSpec) -> Ingestion:
    """How documents go into the collection `name`, which is as `collection` says.

    Raises FailedPrecondition where it lacks a field, where a vector names no embedder or another than `spec` has by that name;
    ModelLoadError where a tokenizer cannot be read.
    """
    documents = spec.documents.get(name, DocumentsSpec())
    for key, problem in field_problems(documents, collection):
        raise FailedPrecondition(f"collection {quoted(name)}: documents.{name}.{key}: {problem}")
    embedders = _embedders(name, collection)
    encoders = {each.model: spec.encoders[each.model] for each in embedders.values() if each.model in spec.encoders}
    for vector, each in embedders.items():
        differing = encoder_mismatch(each, encoders[each.model]) if each.model in encoders else None
        if differing is not None:
            raise FailedPrecondition(f"collection {quoted(name)}: vector {quoted(vector)}: {differing}")
    bounds = _bounds(name, documents, encoders, spec)
    settings = msgspec.json.encode([_FORMAT, documents, embedders, {key: each.model for key, each in encoders.items()}])
    prompts = {} if documents.prompt is None else dict.fromkeys(encoders, documents.prompt)
    return Ingestion(documents, Passages(documents, collection, bounds, settings.decode()), embedders, prompts)


def _embedders(name: str, collection: CollectionSpec) -> dict[str, EmbedderSpec]:
    found = {}
    for vector, declared in collection.vectors.items():
        if declared.multi:
            continue  # a point need not have any
        if declared.embedder is None:
            raise FailedPrecondition(
                f"collection {quoted(name)}: vector {quoted(vector)} names no embedder, so nothing can make it of a passage; "
                "declare 'embedder: {model: ..., version: ...}'"
            )
        found[vector] = declared.embedder
    return found


def _bounds(name: str, documents: DocumentsSpec, encoders: Mapping[str, EncoderSpec], spec: Spec) -> ChunkBounds:
    if not encoders:
        if documents.tokens_max is not None:
            raise FailedPrecondition(
                f"documents.{name}.tokens_max: no encoder of this spec makes its vectors; use chars_max"
            )
        return ChunkBounds(documents.chars_max, documents.overlap_chars)
    most = min(each.encoding.tokens_max for each in encoders.values())
    most = most if documents.tokens_max is None else min(most, documents.tokens_max)
    counts = [_counting(each, spec.path(each.tokenizer), documents.prompt) for each in encoders.values()]
    return ChunkBounds(
        documents.chars_max, documents.overlap_chars, most, lambda text: max(each(text) for each in counts)
    )


def _counting(encoder: EncoderSpec, tokenizer: Path, prompt: str | None) -> Tokens:
    encoding = encoder.encoding
    before = encoding.prompts.get(prompt or encoding.default_prompt or "", "")
    tokens = Tokenizer(tokenizer, encoding.tokens_max, truncate=False)
    return lambda text: tokens.count(before + text)
