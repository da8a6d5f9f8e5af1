"""A search of a collection as a servable: query vectors in, hits out, best first.

Inputs: "query" FP32 [-1, d]; of a collection with tenants "tenant" BYTES [-1]. Outputs, k hits a row: "ids" UINT64 or BYTES
[-1, k]; "scores" FP32 [-1, k]; "count" INT32 [-1], how many there are; for each payload field of the search a tensor by its
name: keyword and text BYTES [-1, k], integer and datetime (microseconds since the Unix epoch) INT64, float FP64, bool BOOL, geo
FP64 [-1, k, 2]. Past the last hit ids are 0 or empty, scores NaN, and fields what the spec says stands for null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.declaration import TensorDeclaration
from engine.errors import FailedPrecondition, InvalidArgument, ModelLoadError, VireoError, quoted
from engine.limits import SEARCH_ROWS_MAX
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, TensorSpec
from engine.tensor import BYTES, DATATYPES, Array, DataType, Tensor
from engine.vectors.declaration import CollectionSpec, VectorSearchSpec
from engine.vectors.query import DenseLeg, Hit, Query, SearchParams
from engine.vectors.search_tensors import (
    COUNT,
    IDS,
    QUERY,
    SCORES,
    TENANT,
    fill_of,
    inputs_of,
    outputs_of,
    problems_of,
    vector_of,
)
from engine.vectors.store import VectorStore


class VectorSearch:
    """Searches the collection of a name or alias, as it is now. Any number of threads.

    Raises FailedPrecondition where the name has come to mean a collection whose tensors are others; the store's NotFound where it
    means none.
    """

    def __init__(self, name: str, store: VectorStore, spec: VectorSearchSpec) -> None:
        """Raises NotFound, FailedPrecondition where the collection can't be searched so."""
        self._name, self._store, self._search = name, store, spec
        self._fitting = self._checked(store.collection(spec.collection).spec)
        self.signature = _signature(spec, self._fitting)
        self.traits = Traits(
            "vireo_vector_search", "every query is searched alone", (f"collection: {spec.collection}, k: {spec.k}",)
        )

    def _checked(self, collection: CollectionSpec) -> CollectionSpec:
        for key, problem in problems_of(self._search, collection):
            raise FailedPrecondition(f"search {quoted(self._name)}: {key}: {problem}")
        return collection

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises InvalidArgument that names the row."""
        collection = self._store.collection(self._search.collection)
        spec = self._fits(collection.spec)
        found = [each.hits for each in collection.search_many(self._queries(spec, inputs))]
        return self._tensors(spec, found, outputs)

    def _fits(self, spec: CollectionSpec) -> CollectionSpec:
        """An alias may be pointed elsewhere, and a collection altered."""
        if spec is not self._fitting:
            if _signature(self._search, self._checked(spec)) != self.signature:
                raise FailedPrecondition(
                    f"search {quoted(self._name)}: collection {quoted(self._search.collection)} has other tensors than when "
                    f"it was loaded"
                )
            self._fitting = spec
        return spec

    def _queries(self, spec: CollectionSpec, inputs: Tensors) -> list[Query]:
        vector, params = vector_of(self._search, spec), SearchParams(self._search.candidates)
        payload = tuple(self._search.payload)
        rows = np.ascontiguousarray(inputs[QUERY].array)
        tenants = _tenants(inputs[TENANT].array) if TENANT in inputs else [None] * len(rows)
        return [
            Query((DenseLeg(vector, row),), self._search.k, tenant=tenant, params=params, payload=payload)
            for row, tenant in zip(rows, tenants, strict=True)
        ]

    def _tensors(self, spec: CollectionSpec, found: Sequence[Sequence[Hit]], outputs: Sequence[str]) -> Tensors:
        declared = outputs_of(self._search, spec)
        return {name: self._tensor(spec, name, declared[name], found) for name in outputs or declared}

    def _tensor(
        self, spec: CollectionSpec, name: str, declared: TensorDeclaration, found: Sequence[Sequence[Hit]]
    ) -> Tensor:
        datatype = DATATYPES[declared.datatype]
        if name == COUNT:
            return Tensor(datatype, np.array([len(each) for each in found], np.int32))
        filled = _filled(datatype, (len(found), *declared.shape[1:]), self._fill(spec, name))
        for row, hits in enumerate(found):
            for at, hit in enumerate(hits):
                if (value := _value(name, hit)) is not None:
                    filled[row, at] = value.encode() if isinstance(value, str) else value
        return Tensor(datatype, filled)

    def _fill(self, spec: CollectionSpec, name: str) -> Any:  # noqa: ANN401  a scalar
        if name == IDS:
            return 0 if spec.id == "integer" else ""
        return float("nan") if name == SCORES else fill_of(self._search, spec, name)

    def close(self) -> None:
        """The collection is the store's."""


def load_vector_search(store: VectorStore, name: str, spec: VectorSearchSpec) -> VectorSearch:
    """The search `name`, ready. Raises ModelLoadError."""
    try:
        return VectorSearch(name, store, spec)
    except VireoError as error:
        raise ModelLoadError(error.message) from error


def _signature(search: VectorSearchSpec, collection: CollectionSpec) -> Signature:
    return Signature(
        _specs(inputs_of(search, collection)),
        _specs(outputs_of(search, collection)),
        batchable=True,
        rows_max=SEARCH_ROWS_MAX,
    )


def _specs(declared: Mapping[str, TensorDeclaration]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, DATATYPES[each.datatype], each.shape) for name, each in declared.items())


def _tenants(array: Array) -> list[str]:
    found = []
    for row, each in enumerate(array.tolist()):
        try:
            found.append(each.decode())
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"input {quoted(TENANT)}: row {row}: not UTF-8: {error}") from error
    return found


def _filled(datatype: DataType, shape: tuple[int, ...], fill: Any) -> Array:  # noqa: ANN401  a scalar
    array = np.empty(shape, datatype.dtype)
    array.fill(fill.encode() if datatype is BYTES else fill)
    return array


def _value(name: str, hit: Hit) -> Any:  # noqa: ANN401  a Python value
    if name == IDS:
        return hit.id
    return hit.score if name == SCORES else hit.payload.get(name)
