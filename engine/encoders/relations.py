"""What the encoders and rerankers of a spec may say, checked with the place in the file; and how a collection learns of the
encoder that its vectors name. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from engine.declaration import TensorDeclaration, timeout_problems
from engine.encoders.declaration import EncoderSpec, EncodingSpec, RerankerSpec, TokenBatchingSpec
from engine.errors import SpecError, nearest, quoted
from engine.execution.declaration import provider_problems
from engine.limits import ENCODER_TOKENS_CEILING
from engine.strict_yaml import Place
from engine.vectors.declaration import CollectionSpec, EmbedderSpec, VectorStoreSpec

TEXT: Final = "text"
PROMPT: Final = "prompt"
EMBEDDING: Final = "embedding"
QUERY: Final = "query"
PASSAGE: Final = "passage"
COUNT: Final = "count"
SCORE: Final = "score"
TOKENS: Final = "tokens"

Problem = tuple[str, str]
"""The key it is at, below the encoder, and what is wrong."""
Tensors = Mapping[str, TensorDeclaration | None]


def check_encoders(
    encoders: Mapping[str, EncoderSpec], rerankers: Mapping[str, RerankerSpec], taken: Collection[str], place: Place
) -> tuple[dict[str, tuple[Tensors, Tensors]], dict[str, tuple[Tensors, Tensors]]]:
    """What each encoder, and each reranker, takes and gives. Raises SpecError. `taken`: names of what else is called."""
    sections: tuple[tuple[str, Mapping[str, EncoderSpec | RerankerSpec]], ...] = (
        ("encoders", encoders),
        ("rerankers", rerankers),
    )
    for section, declared in sections:
        for name, each in declared.items():
            where = f"{section}.{name}"
            if name in taken or (section == "rerankers" and name in encoders):
                raise SpecError(f"{place(where)}: something else has that name already; all are called by it")
            for key, what in _problems(each):
                raise SpecError(f"{place(f'{where}.{key}')}: {what}")
    return (
        {name: tensors_of_encoder(each.encoding) for name, each in encoders.items()},
        dict.fromkeys(rerankers, tensors_of_reranker()),
    )


def _problems(spec: EncoderSpec | RerankerSpec) -> Iterator[Problem]:
    for key in ("model", "tokenizer"):
        if not getattr(spec, key):
            yield key, "must name a file"
    bounds = (("version", spec.version, 1 << 31), ("threads", spec.threads, 1024), ("instances", spec.instances, 256))
    for key, value, high in bounds:
        yield from _range_problem(key, value, high)
    yield from provider_problems(spec.providers)
    yield from _batching_problems(spec.batching)
    yield from timeout_problems(spec.timeout_ms)
    if isinstance(spec, RerankerSpec):
        yield from _range_problem("tokens_max", spec.tokens_max, ENCODER_TOKENS_CEILING)
    else:
        yield from _range_problem("cache_bytes_max", spec.cache_bytes_max, 1 << 40)
        yield from ((f"encoding.{key}", what) for key, what in encoding_problems(spec.encoding))


def encoding_problems(encoding: EncodingSpec) -> Iterator[Problem]:
    """The key, below it, and what is wrong."""
    yield from _range_problem("tokens_max", encoding.tokens_max, ENCODER_TOKENS_CEILING)
    if "" in encoding.prompts:
        yield "prompts", "a prompt has a name; the empty one stands for no prompt"
    default = encoding.default_prompt
    if default is not None and default not in encoding.prompts:
        yield "default_prompt", f"there is no prompt {quoted(default)}{nearest(default, encoding.prompts)}"


def _batching_problems(batching: TokenBatchingSpec) -> Iterator[Problem]:
    yield from _range_problem("batching.rows_max", batching.rows_max, 1 << 20)
    yield from _range_problem("batching.tokens_max", batching.tokens_max, 1 << 24)


def _range_problem(key: str, value: int | None, high: int) -> Iterator[Problem]:
    if value is not None and not 1 <= value <= high:
        yield key, f"must be from 1 to {high}, got {value}"


def tensors_of_encoder(
    encoding: EncodingSpec, size: int = -1
) -> tuple[dict[str, TensorDeclaration], dict[str, TensorDeclaration]]:
    """By name; `size`: how long its vectors are, which only loading tells."""
    inputs = {TEXT: TensorDeclaration("BYTES", (-1,))}
    if encoding.prompts:
        inputs[PROMPT] = TensorDeclaration("BYTES", (-1,), optional=True)
    return inputs, {EMBEDDING: TensorDeclaration("FP32", (-1, size)), TOKENS: TensorDeclaration("INT32", (-1,))}


def tensors_of_reranker() -> tuple[dict[str, TensorDeclaration], dict[str, TensorDeclaration]]:
    """By name, alike of all."""
    inputs = {
        QUERY: TensorDeclaration("BYTES", (-1,)),
        PASSAGE: TensorDeclaration("BYTES", (-1, -1)),
        COUNT: TensorDeclaration("INT32", (-1,), optional=True),
    }
    return inputs, {SCORE: TensorDeclaration("FP32", (-1, -1)), TOKENS: TensorDeclaration("INT32", (-1,))}


def with_encodings(
    store: VectorStoreSpec | None, encoders: Mapping[str, EncoderSpec], place: Place
) -> VectorStoreSpec | None:
    """`store` where each vector whose embedder is an encoder of the spec knows how it encodes, so that this is recorded with the
    points. Raises SpecError where a collection says otherwise than the encoder."""
    if store is None or not encoders:
        return store
    collections = {
        name: _with_encoding(each, encoders, place, f"vectors.collections.{name}")
        for name, each in store.collections.items()
    }
    return dataclasses.replace(store, collections=collections)


def _with_encoding(
    collection: CollectionSpec, encoders: Mapping[str, EncoderSpec], place: Place, where: str
) -> CollectionSpec:
    found = dict(collection.vectors)
    for name, vector in collection.vectors.items():
        embedder = vector.embedder
        if embedder is None or (encoder := encoders.get(embedder.model)) is None:
            continue
        problem = encoder_mismatch(embedder, encoder)
        if problem is not None:
            raise SpecError(f"{place(f'{where}.vectors.{name}.embedder')}: {problem}")
        found[name] = dataclasses.replace(vector, embedder=dataclasses.replace(embedder, encoding=encoder.encoding))
    return dataclasses.replace(collection, vectors=found)


def encoder_mismatch(embedder: EmbedderSpec, encoder: EncoderSpec) -> str | None:
    """Why an encoder is not what `embedder` says of its vectors; None where it is."""
    if embedder.version != encoder.version:
        return f"encoder {quoted(embedder.model)} is version {encoder.version}, the vectors want version {embedder.version}"
    if embedder.encoding is None:
        return None
    differing = encoder.encoding.told_unlike(embedder.encoding)
    return f"encoder {quoted(embedder.model)} encodes otherwise: {differing}" if differing else None
