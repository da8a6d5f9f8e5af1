"""A search of a collection as a servable: query vectors in, hits out, best first.

Inputs: "query" FP32 [-1, d]; of a search that is hybrid "words" BYTES [-1]; of a collection with tenants "tenant" BYTES [-1];
the parameters of the search's filter. Outputs, k hits a row: "ids" UINT64 or BYTES [-1, k]; "scores" FP32 [-1, k]; "count"
INT32 [-1], how many there are; for each payload field of the search a tensor by its name: keyword and text BYTES [-1, k],
integer and datetime (microseconds since the Unix epoch) INT64, float FP64, bool BOOL, geo FP64 [-1, k, 2]. Past the last hit
ids are 0 or empty, scores NaN, and fields what the spec says stands for null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.clock import Deadline
from engine.errors import FailedPrecondition, InvalidArgument, ModelLoadError, VireoError, quoted
from engine.limits import SEARCH_ROWS_MAX
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, declared_specs
from engine.tensor import BYTES, DATATYPES, Array, DataType, Tensor
from engine.vectors.declaration import CollectionSpec, VectorSearchSpec, WordsSpec
from engine.vectors.filter import Filter
from engine.vectors.found_arrays import FoundArrays
from engine.vectors.query import DenseLeg, Leg, Query, RankFusion, ScoreFusion, SearchParams, TextLeg
from engine.vectors.search_filter import FilterOf
from engine.vectors.search_tensors import (
    COUNT,
    IDS,
    QUERY,
    SCORES,
    TENANT,
    WORDS,
    fill_of,
    inputs_of,
    outputs_of,
    problems_of,
    vector_of,
)
from engine.vectors.store import VectorStore
from engine.work import current_work

if TYPE_CHECKING:
    from engine.vectors.any_collection import AnyCollection


@dataclass(frozen=True, slots=True)
class _Column:
    """An output. `fill` is one element of it."""

    name: str
    datatype: DataType
    fill: Any

    def tensor(self, found: FoundArrays) -> Tensor:
        """Of all rows."""
        if self.name == COUNT:
            return Tensor(self.datatype, found.counts)
        if self.name == SCORES:
            return Tensor(self.datatype, found.scores(self.fill))
        array = found.ids(self.fill) if self.name == IDS else found.field(self.name, self.fill)
        return Tensor(self.datatype, array)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the hits of a collection become tensors."""

    spec: CollectionSpec
    signature: Signature
    columns: Mapping[str, _Column]
    filter: FilterOf | None


class VectorSearch:
    """Searches the collection of a name or alias, as it is now. Any number of threads.

    Where the name has come to mean a collection whose tensors are others, it searches the one that it meant. Raises
    FailedPrecondition where a collection was altered to other tensors; the store's NotFound where the name means none.
    """

    def __init__(self, name: str, store: VectorStore, spec: VectorSearchSpec) -> None:
        """Raises NotFound, FailedPrecondition where the collection can't be searched so."""
        self._name, self._store, self._search = name, store, spec
        collection = store.collection(spec.collection)
        self._bound = collection, self._read_as(collection.spec)
        self.signature = self._bound[1].signature
        self.traits = Traits(
            "vireo_vector_search", "every query is searched alone", (f"collection: {spec.collection}, k: {spec.k}",)
        )

    def _read_as(self, collection: CollectionSpec) -> _Reading:
        try:
            signature = signature_of(self._search, collection)
        except FailedPrecondition as error:
            raise FailedPrecondition(f"search {quoted(self._name)}: {error.message}") from error
        return _Reading(
            collection,
            signature,
            _columns(self._search, collection),
            None if self._search.filter is None else FilterOf(self._search.filter, collection),
        )

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises InvalidArgument that names the row."""
        collection, reading = self._current()
        work = current_work()
        asked = collection.reading({}, Deadline.NEVER if work is None else work.deadline)
        found = FoundArrays(asked.search_many(self._queries(reading, inputs)), self._search.k)
        if found.missing and work is not None:
            work.tell_marks(tuple([f"missing: {each}" for each in found.missing]))
        return {name: reading.columns[name].tensor(found) for name in outputs or reading.columns}

    def _current(self) -> tuple[AnyCollection, _Reading]:
        """Of a name that has come to mean a collection of other tensors, or for another embedder, the one it meant before: who
        calls this fits that one, and is to be given another search together with whatever else must change."""
        bound = self._bound
        found = self._store.collection(self._search.collection)
        if found is bound[0] and found.spec is bound[1].spec:
            return bound
        try:
            bound = self._bound = found, self._fitting(found.spec)
        except FailedPrecondition:
            if found is bound[0]:  # it was altered
                raise
        return bound

    def fits(self) -> bool:
        """Whether the collection, if it is there, can be searched with these tensors."""
        try:
            collection = self._store.collection(self._search.collection)
        except VireoError:
            return True
        try:
            self._fitting(collection.spec)
        except FailedPrecondition:
            return False
        return True

    def _fitting(self, spec: CollectionSpec) -> _Reading:
        """An alias may be pointed elsewhere, and a collection altered."""
        reading = self._read_as(spec)
        if reading.signature != self.signature:
            raise FailedPrecondition(
                f"search {quoted(self._name)}: collection {quoted(self._search.collection)} has other tensors than when it "
                f"was loaded, or is for another embedder"
            )
        return reading

    def _queries(self, reading: _Reading, inputs: Tensors) -> list[Query]:
        vector = vector_of(self._search, reading.spec)
        params = SearchParams(self._search.candidates, effort=self._search.effort)
        payload = tuple(self._search.payload)
        rows = np.ascontiguousarray(inputs[QUERY].array)
        tenants = _texts(TENANT, inputs[TENANT].array) if TENANT in inputs else [None] * len(rows)
        filters = [None] * len(rows) if reading.filter is None else _filters(reading.filter, inputs, len(rows))
        legs: list[tuple[Leg, ...]] = [(DenseLeg(vector, row),) for row in rows]
        fusion: RankFusion | ScoreFusion = RankFusion()
        if (words := self._search.words) is not None:
            texts = _texts(WORDS, inputs[WORDS].array)
            legs = [(*leg, TextLeg(words.field, text)) for leg, text in zip(legs, texts, strict=True)]
            fusion = _fusion_of(words)
        return [
            Query(leg, self._search.k, tenant=tenant, filter=filter_, params=params, payload=payload, fusion=fusion)
            for leg, tenant, filter_ in zip(legs, tenants, filters, strict=True)
        ]

    def close(self) -> None:
        """The collection is the store's."""


def load_vector_search(store: VectorStore, name: str, spec: VectorSearchSpec) -> VectorSearch:
    """The search `name`, ready. Raises ModelLoadError."""
    try:
        return VectorSearch(name, store, spec)
    except VireoError as error:
        raise ModelLoadError(error.message) from error


def signature_of(search: VectorSearchSpec, collection: CollectionSpec) -> Signature:
    """What a search of such a collection takes and gives. Raises FailedPrecondition where it can't be searched so."""
    for key, problem in problems_of(search, collection):
        raise FailedPrecondition(f"{key}: {problem}")
    embedder = collection.vectors[vector_of(search, collection)].embedder
    made_by = None if embedder is None else (embedder.model, embedder.version)
    inputs = declared_specs(inputs_of(search, collection))
    return Signature(
        tuple(replace(each, embedder=made_by) if each.name == QUERY else each for each in inputs),
        declared_specs(outputs_of(search, collection)),
        batchable=True,
        rows_max=SEARCH_ROWS_MAX,
    )


def _fusion_of(words: WordsSpec) -> RankFusion | ScoreFusion:
    weights = (words.vector_weight, words.weight)
    if words.fusion == "rank":
        return RankFusion(words.k, weights, words.depth)
    return ScoreFusion(weights, words.depth)


def _filters(template: FilterOf, inputs: Tensors, rows: int) -> Sequence[Filter | None]:
    columns = {name: _plain(name, inputs[name]) for name in template.parameters}
    found = []
    for row in range(rows):
        try:
            found.append(template.row({name: each[row] for name, each in columns.items()}))
        except InvalidArgument as error:
            raise InvalidArgument(f"row {row}: {error.message}") from error
    return found


def _plain(name: str, tensor: Tensor) -> list[Any]:
    """Row by row a value, or a list of them, as Python has it."""
    if tensor.datatype is not BYTES:
        return list(tensor.array.tolist())
    if tensor.array.ndim == 1:
        return list(_texts(name, tensor.array))
    return [_texts(name, each) for each in tensor.array]


def _texts(name: str, array: Array) -> list[str]:
    found = []
    for row, each in enumerate(array.tolist()):
        try:
            found.append(each.decode())
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"input {quoted(name)}: row {row}: not UTF-8: {error}") from error
    return found


def _columns(search: VectorSearchSpec, collection: CollectionSpec) -> dict[str, _Column]:
    found = {}
    for name, each in outputs_of(search, collection).items():
        if name == IDS:
            fill: Any = 0 if collection.id == "integer" else ""
        elif name in search.payload:
            fill = fill_of(search, collection, name)
        else:
            fill = float("nan")
        datatype = DATATYPES[each.datatype]
        filled = fill.encode() if datatype is BYTES else fill
        found[name] = _Column(name, datatype, filled)
    return found
