"""What the gathers of a spec must say of its collections and feature views, checked with the place in the file. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine.candidates.declaration import GatherSourceSpec, GatherSpec
from engine.declaration import TensorDeclaration, timeout_problems
from engine.errors import SpecError, nearest, quoted
from engine.features.declaration import FeatureViewSpec
from engine.limits import GATHER_SOURCES_MAX, VECTOR_DIMENSIONS_MAX
from engine.strict_yaml import Place
from engine.vectors.declaration import CollectionSpec

ROWS: Final = "rows"
FOUND: Final = "found"
AS_OF: Final = "as_of"

Tensors = Mapping[str, TensorDeclaration | None]
Declared = Mapping[str, TensorDeclaration]
Problem = tuple[str, str]
"""The key it is at, below the gather, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a gather may take from: the spec's collections and views, and of each view the tensors that it takes and gives; where
    the spec `has_store`, other collections too."""

    has_store: bool
    collections: Mapping[str, CollectionSpec]
    views: Mapping[str, FeatureViewSpec]
    tensors: Mapping[str, tuple[Tensors, Tensors]]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a source decides what its gather takes and gives: whether a view or a collection has it, its keys, its columns."""

    of_view: bool
    is_text: bool
    width: int


def check_gathers(
    gathers: Mapping[str, GatherSpec], known: Sources, taken: Collection[str], place: Place
) -> dict[str, tuple[Tensors, Tensors]]:
    """What each gather takes and gives. Raises SpecError. `taken`: names of what else is called as a model."""
    found: dict[str, tuple[Tensors, Tensors]] = {}
    for name, gather in gathers.items():
        where = f"gathers.{name}"
        if name in taken:
            raise SpecError(
                f"{place(where)}: a function, a search or a feature view has that name; all are called by it"
            )
        for key, what in _problems(gather, known):
            raise SpecError(f"{place(f'{where}.{key}')}: {what}")
        found[name] = tensors_of(gather.key, [_part(each, known) for each in gather.sources])
    return found


def _problems(gather: GatherSpec, known: Sources) -> Iterator[Problem]:
    if not 1 <= len(gather.sources) <= GATHER_SOURCES_MAX:
        yield "sources", f"expected from 1 to {GATHER_SOURCES_MAX} sources, got {len(gather.sources)}"
    if gather.key == AS_OF:
        yield "key", f"{quoted(AS_OF)} is the name of another input"
    yield from timeout_problems(gather.timeout_ms)
    kinds: dict[bool, int] = {}
    for at, source in enumerate(gather.sources):
        below = f"sources[{at}]"
        if (source.collection is None) == (source.view is None):
            yield below, "give either 'collection' with 'vector' or 'view' with 'features'"
        problems = _collection_problems if source.view is None else _view_problems
        for key, what in problems(source, known):
            yield f"{below}.{key}", what
        width = width_of(source, known.collections)
        if isinstance(source.default, tuple) and len(source.default) != width:
            yield f"{below}.default", f"expected one number, or {width}, got {len(source.default)}"
        kinds.setdefault(_is_text(source, known), at)
    if len(kinds) > 1:
        yield f"sources[{kinds[True]}]", f"has texts as keys, and sources[{kinds[False]}] has whole numbers"


def _collection_problems(source: GatherSourceSpec, known: Sources) -> Iterator[Problem]:
    if source.features:
        yield "features", "belong to a view; of a collection a 'vector' is gathered"
    name = source.collection or ""
    collection = known.collections.get(name)
    if collection is not None:
        if source.size is not None:
            yield "size", f"is the collection's own: the spec declares {quoted(name)}"
        yield from vector_problems(replace(source, size=None), collection)
    elif not known.has_store:
        yield "collection", "the spec has no 'vectors'"
    elif source.size is None:
        hint = nearest(name, known.collections)
        yield (
            "collection",
            f"the spec declares no collection {quoted(name)}{hint}; of another, or an alias, give the 'size'",
        )
    elif not 1 <= source.size <= VECTOR_DIMENSIONS_MAX:
        yield "size", f"expected from 1 to {VECTOR_DIMENSIONS_MAX}, got {source.size}"
    elif source.vector is None:
        yield "vector", "none is given"


def vector_problems(source: GatherSourceSpec, collection: CollectionSpec) -> Iterator[Problem]:
    """Why the source cannot be taken from this collection."""
    if collection.tenant is not None:
        yield "collection", "has tenants, and a gather names none"
    vectors = {name: each for name, each in collection.vectors.items() if not each.multi}
    if source.vector not in vectors:
        given = "none is given" if source.vector is None else f"no dense vector {quoted(source.vector)}"
        yield "vector", f"{given}{nearest(source.vector or '', vectors)}"
    elif source.size is not None and vectors[source.vector].size != source.size:
        yield "size", f"vector {quoted(source.vector)} has {vectors[source.vector].size}, not {source.size}"
    if source.size is not None and collection.id == "text":
        yield "collection", "has texts as ids"


def alias_problems(gathers: Mapping[str, GatherSpec], meant: Mapping[str, CollectionSpec]) -> Iterator[str]:
    """Why gathers could not take from these collections behind the aliases."""
    for name, gather in gathers.items():
        for at, source in enumerate(gather.sources):
            if source.collection is not None and source.collection in meant:
                for _, what in vector_problems(source, meant[source.collection]):
                    yield f"alias {quoted(source.collection)}: gather {quoted(name)}, sources[{at}]: {what}"


def _view_problems(source: GatherSourceSpec, known: Sources) -> Iterator[Problem]:
    if source.size is not None:
        yield "size", "belongs to a vector of a collection"
    if source.vector is not None:
        yield "vector", "belongs to a collection; of a view 'features' are gathered"
    view = known.views.get(source.view or "")
    if view is None:
        yield "view", f"no feature view {quoted(source.view or '')}{nearest(source.view or '', known.views)}"
        return
    inputs, outputs = known.tensors[source.view or ""]
    if inputs[view.entity] is None:
        yield "view", f"its entity {quoted(view.entity)} is a derived column; a gather takes one of the log's"
    if not source.features:
        yield "features", "expected the names of one feature at least"
    names = feature_names(view)
    for at, name in enumerate(source.features):
        if name not in names:
            yield f"features[{at}]", f"the view has no feature {quoted(name)}{nearest(name, names)}"
        elif name in outputs:
            yield f"features[{at}]", f"{quoted(name)} is a text, and a gather gives numbers"
        elif name in view.features and view.features[name].expression is not None:
            yield f"features[{at}]", f"{quoted(name)} is an expression; a gather takes what the view aggregates"


def feature_names(view: FeatureViewSpec) -> list[str]:
    """As lookups answer them."""
    found: list[str] = []
    for name, each in view.features.items():
        found += [name] if each.k == 1 else [f"{name}_{rank}" for rank in range(1, each.k + 1)]
    return found


def width_of(source: GatherSourceSpec, collections: Mapping[str, CollectionSpec]) -> int:
    """How many columns; there are no problems."""
    if source.collection is None or source.vector is None:
        return len(source.features)
    if source.size is not None:
        return source.size
    return collections[source.collection].vectors[source.vector].size


def defaults_of(source: GatherSourceSpec, width: int) -> tuple[float, ...]:
    """One for each of its columns."""
    return source.default if isinstance(source.default, tuple) else (source.default,) * width


def _is_text(source: GatherSourceSpec, known: Sources) -> bool:
    if source.view is None:
        collection = known.collections.get(source.collection or "")
        return collection is not None and collection.id == "text"
    entity = known.tensors[source.view][0][known.views[source.view].entity]
    return entity is not None and entity.datatype == "BYTES"


def _part(source: GatherSourceSpec, known: Sources) -> Part:
    return Part(source.view is not None, _is_text(source, known), width_of(source, known.collections))


def tensors_of(key: str, parts: Sequence[Part]) -> tuple[Declared, Declared]:
    """By name, of a gather whose keys are called `key`: those of a collection are unsigned, as its ids are. All parts have texts
    as keys, or none has."""
    datatype = "BYTES" if parts[0].is_text else "INT64" if all(each.of_view for each in parts) else "UINT64"
    inputs = {key: TensorDeclaration(datatype, (-1,))}
    if any(each.of_view for each in parts):
        inputs[AS_OF] = TensorDeclaration("INT64", (-1,), optional=True)
    return inputs, {
        ROWS: TensorDeclaration("FP32", (-1, sum(each.width for each in parts))),
        FOUND: TensorDeclaration("BOOL", (-1, len(parts))),
    }
