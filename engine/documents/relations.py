"""What a spec may say of documents, checked with the place in the file; and whether a collection has what their passages need.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Final

from engine.documents.declaration import DocumentFieldsSpec, DocumentsSpec
from engine.encoders.declaration import EncoderSpec
from engine.errors import SpecError, nearest, quoted
from engine.limits import ENCODER_TOKENS_CEILING
from engine.named_places import place_problems
from engine.strict_yaml import Place
from engine.vectors.declaration import CollectionSpec, VectorStoreSpec

CONTEXT_PLACES: Final = ("path", "title", "headings", "document", "page")

_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "keyword"), "document": ("keyword",), "digest": ("keyword",), "searched": ("text",),
    "title": ("keyword", "text"), "headings": ("keyword", "text"), "page": ("integer",), "start": ("integer",),
    "end": ("integer",), "position": ("integer",),
}  # fmt: skip
_REQUIRED: Final = ("text", "document", "digest")

Problem = tuple[str, str]
"""The key it is at, below the collection, and what is wrong."""


def check_documents(
    documents: Mapping[str, DocumentsSpec],
    vectors: VectorStoreSpec | None,
    encoders: Mapping[str, EncoderSpec],
    place: Place,
) -> None:
    """Raises SpecError."""
    for name, spec in documents.items():
        where = f"documents.{name}"
        if vectors is None:
            raise SpecError(f"{place(where)}: needs vector collections; add 'vectors: {{path: ...}}'")
        collection = vectors.collections.get(name)  # else clients make it
        problems = [*_problems(spec)]
        if collection is not None:
            problems += [*field_problems(spec, collection), *_prompt_problems(spec, collection, encoders)]
        for key, what in problems:
            raise SpecError(f"{place(f'{where}.{key}')}: {what}")


def _problems(spec: DocumentsSpec) -> Iterator[Problem]:
    bounds: tuple[tuple[str, float, float], ...] = (
        ("chars_max", 50, 100_000), ("overlap_chars", 0, spec.chars_max // 2), ("tokens_max", 16, ENCODER_TOKENS_CEILING),
        ("bytes_max", 1, 1 << 32), ("pages_max", 1, 1 << 20), ("seconds_max", 0.1, 3_600),
    )  # fmt: skip
    for key, low, high in bounds:
        value = getattr(spec, key)
        if value is not None and not low <= value <= high:
            yield key, f"must be from {low} to {high}, got {value}"
    yield from (("context", problem) for problem in place_problems(spec.context, (), CONTEXT_PLACES))
    try:
        "".encode(spec.encoding)  # neither an unknown one nor one that makes bytes of bytes
    except (LookupError, ValueError):  # there is one called "undefined"
        yield "encoding", f"expected an encoding of text such as 'utf-8' or 'cp1252', got {quoted(spec.encoding)}"


def field_problems(spec: DocumentsSpec, collection: CollectionSpec) -> Iterator[Problem]:
    """Why passages cannot be written to a collection."""
    defaults = DocumentFieldsSpec()
    for role in (each.name for each in fields(spec.fields)):
        name, types = getattr(spec.fields, role), _TYPES[role]
        key, field = f"fields.{role}", collection.fields.get(name)
        if field is None:
            if role in _REQUIRED or name != getattr(defaults, role):
                hint = nearest(name, collection.fields)
                yield key, f"the collection has no field {quoted(name)}, to be declared as {{type: {types[0]}}}{hint}"
        elif field.type not in types or (field.array and role != "headings"):
            kind = f"{field.type}, an array" if field.array else field.type
            yield key, f"field {quoted(name)} is {kind}, expected {' or '.join(types)}"


def _prompt_problems(
    spec: DocumentsSpec, collection: CollectionSpec, encoders: Mapping[str, EncoderSpec]
) -> Iterator[Problem]:
    if spec.prompt is None:
        return
    for vector in collection.vectors.values():
        encoder = None if vector.embedder is None else encoders.get(vector.embedder.model)
        if encoder is not None and spec.prompt not in encoder.encoding.prompts:
            known = nearest(spec.prompt, encoder.encoding.prompts)
            yield "prompt", f"encoder {quoted(vector.embedder.model)} has no prompt {quoted(spec.prompt)}{known}"  # type: ignore[union-attr]
