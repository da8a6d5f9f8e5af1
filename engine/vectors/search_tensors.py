"""The tensors of a search that is served as a model: what the spec says together with its collection's. Pure; loads no Arrow.

Where the collection is declared in the spec they are known, and checked, before anything is opened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from engine.declaration import TensorDeclaration, Value, timeout_problems
from engine.errors import InvalidArgument, SpecError, nearest, quoted
from engine.limits import SEARCH_CANDIDATES_MAX, SEARCH_EFFORT_MAX, SEARCH_EFFORT_MIN, SEARCH_K_MAX
from engine.strict_yaml import Place
from engine.vectors.declaration import (
    CollectionSpec,
    FieldSpec,
    FieldType,
    VectorSearchSpec,
    VectorStoreSpec,
    WordsSpec,
)
from engine.vectors.relations import name_problem
from engine.vectors.search_filter import filter_problems, parameter_names, parameters_of
from engine.vectors.values import plain_value

QUERY: Final = "query"
TENANT: Final = "tenant"
WORDS: Final = "words"
IDS: Final = "ids"
SCORES: Final = "scores"
COUNT: Final = "count"

Problem = tuple[str, str]
"""The key it is at, below the search, and what is wrong."""
Tensors = Mapping[str, TensorDeclaration | None]
"""None where only the collection tells, and it is not declared."""

_FIELDS: Final[Mapping[FieldType, tuple[str, Value | None]]] = {
    "keyword": ("BYTES", ""),
    "text": ("BYTES", ""),
    "integer": ("INT64", 0),
    "datetime": ("INT64", 0),
    "float": ("FP64", float("nan")),
    "bool": ("BOOL", False),
    "geo": ("FP64", float("nan")),
}
"""Datatype, and what stands for null where the spec says nothing else."""


def check_searches(
    searches: Mapping[str, VectorSearchSpec], store: VectorStoreSpec | None, taken: Collection[str], place: Place
) -> dict[str, tuple[Tensors, Tensors]]:
    """What each search takes and gives. Raises SpecError. `taken`: names of what else is called as a model."""
    found: dict[str, tuple[Tensors, Tensors]] = {}
    for name, search in searches.items():
        where = f"searches.{name}"
        if store is None:
            raise SpecError(f"{place(where)}: there are no collections; add 'vectors: {{path: ...}}'")
        problem = name_problem(name)
        if problem is None and name in taken:
            problem = "a function or a feature view has that name; all are called by it"
        if problem is not None:
            raise SpecError(f"{place(where)}: {problem}")
        collection = store.collections.get(search.collection)
        for key, what in _problems(search, collection, fixed=store.fixed, known=store.collections):
            raise SpecError(f"{place(f'{where}.{key}')}: {what}")
        found[name] = (
            _unknown(search) if collection is None else (inputs_of(search, collection), outputs_of(search, collection))
        )
    return found


def _problems(
    search: VectorSearchSpec, collection: CollectionSpec | None, *, fixed: bool, known: Collection[str]
) -> Iterator[Problem]:
    yield from _bounds(search)
    if collection is not None:
        yield from problems_of(search, collection)
    elif (problem := name_problem(search.collection)) is not None:
        yield "collection", problem
    elif fixed and not known:
        yield "collection", f"no collection {quoted(search.collection)}, and clients may not make one"


def _bounds(search: VectorSearchSpec) -> Iterator[Problem]:
    bounds = (
        ("k", search.k, 1, SEARCH_K_MAX),
        ("candidates", search.candidates, 1, SEARCH_CANDIDATES_MAX),
        ("effort", search.effort, SEARCH_EFFORT_MIN, SEARCH_EFFORT_MAX),
    )
    for key, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            yield key, f"must be from {low:g} to {high:g}, got {value}"
    yield from timeout_problems(search.timeout_ms)
    if search.words is not None:
        yield from _fusion_bounds(search.words)
    for name in search.payload:
        if name in (IDS, SCORES, COUNT):
            yield f"payload.{name}", "every search has an output of that name already"


def _fusion_bounds(words: WordsSpec) -> Iterator[Problem]:
    if words.depth is not None and not 1 <= words.depth <= SEARCH_K_MAX:
        yield "words.depth", f"must be from 1 to {SEARCH_K_MAX}, got {words.depth}"
    for key, value in (("k", words.k), ("weight", words.weight), ("vector_weight", words.vector_weight)):
        if not 0 <= value < math.inf:
            yield f"words.{key}", f"must be finite and not below 0, got {value}"
    if not words.weight + words.vector_weight > 0:
        yield "words.weight", "one of both weights must be above 0"


def _filter_problems(search: VectorSearchSpec, collection: CollectionSpec) -> Iterator[Problem]:
    if search.filter is not None:
        for key, what in filter_problems(search.filter, collection, (QUERY, TENANT, WORDS)):
            yield f"filter.{key}", what


def problems_of(search: VectorSearchSpec, collection: CollectionSpec) -> Iterator[Problem]:
    """Why a collection can't be searched so."""
    searchable = [name for name, each in collection.vectors.items() if not each.multi]
    if search.vector is None:
        if len(searchable) != 1:
            yield "vector", f"must be given: {len(searchable)} vectors can be searched{nearest('', searchable)}"
    elif search.vector not in searchable:
        yield "vector", f"no vector {quoted(search.vector)} that can be searched{nearest(search.vector, searchable)}"
    if search.words is not None:
        yield from _words_problems(search.words, collection)
    for name, fill in search.payload.items():
        field = collection.fields.get(name)
        if field is None:
            yield f"payload.{name}", f"no field {quoted(name)}{nearest(name, collection.fields)}"
        elif field.array:
            yield f"payload.{name}", "is an array, and a tensor has one value for each hit"
        elif (problem := _fill_problem(field, fill)) is not None:
            yield f"payload.{name}", problem
    yield from _filter_problems(search, collection)


def _words_problems(words: WordsSpec, collection: CollectionSpec) -> Iterator[Problem]:
    found = {name: each for name, each in collection.fields.items() if each.type == "text"}
    if words.field not in found:
        yield "words.field", f"no text field {quoted(words.field)}{nearest(words.field, found)}"


def _fill_problem(field: FieldSpec, fill: Value | None) -> str | None:
    if fill is None:
        return None
    if field.type == "geo":
        return "what stands for a missing location is NaN; leave it null"
    try:
        plain_value(field.type, fill)
    except InvalidArgument as error:
        return error.message
    return None


def vector_of(search: VectorSearchSpec, collection: CollectionSpec) -> str:
    """The vector that is searched; there are no problems."""
    return search.vector or next(name for name, each in collection.vectors.items() if not each.multi)


def fill_of(search: VectorSearchSpec, collection: CollectionSpec, name: str) -> Value:
    """What stands where a hit has no field `name`, or is not there."""
    kind, fill = collection.fields[name].type, search.payload[name]
    found = _FIELDS[kind][1] if fill is None else plain_value(kind, fill)
    assert not isinstance(found, tuple)
    assert found is not None
    return found


def inputs_of(search: VectorSearchSpec, collection: CollectionSpec) -> dict[str, TensorDeclaration]:
    """By name."""
    size = collection.vectors[vector_of(search, collection)].size
    inputs = {QUERY: TensorDeclaration("FP32", (-1, size))}
    if search.words is not None:
        inputs[WORDS] = TensorDeclaration("BYTES", (-1,))
    if collection.tenant is not None:
        inputs[TENANT] = TensorDeclaration("BYTES", (-1,))
    if search.filter is not None:
        inputs |= parameters_of(search.filter, collection)
    return inputs


def outputs_of(search: VectorSearchSpec, collection: CollectionSpec) -> dict[str, TensorDeclaration]:
    """By name."""
    fields = {name: collection.fields[name].type for name in search.payload}
    return {
        IDS: TensorDeclaration("UINT64" if collection.id == "integer" else "BYTES", (-1, search.k)),
        SCORES: TensorDeclaration("FP32", (-1, search.k)),
        COUNT: TensorDeclaration("INT32", (-1,)),
        **{
            name: TensorDeclaration(_FIELDS[kind][0], (-1, search.k, *((2,) if kind == "geo" else ())))
            for name, kind in fields.items()
        },
    }


def _unknown(search: VectorSearchSpec) -> tuple[Tensors, Tensors]:
    """Of a collection that clients make."""
    inputs: Tensors = {
        QUERY: TensorDeclaration("FP32", (-1, -1)),
        TENANT: TensorDeclaration("BYTES", (-1,), optional=True),
        **({WORDS: TensorDeclaration("BYTES", (-1,))} if search.words else {}),
        **dict.fromkeys(parameter_names(search.filter) if search.filter else ()),
    }
    scores = TensorDeclaration("FP32", (-1, search.k))
    return inputs, {
        IDS: None,
        SCORES: scores,
        COUNT: TensorDeclaration("INT32", (-1,)),
        **dict.fromkeys(search.payload),
    }
