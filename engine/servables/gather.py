"""Features of many keys as a servable: one row a key, of several sources, written once into the buffer that a model reads.

Inputs: the keys by the name of the spec, UINT64, INT64 or BYTES [-1]; where a feature view is among the sources optionally
"as_of", INT64 [-1], microseconds since the Unix epoch (now). Outputs: "rows" FP32 [-1, F], the columns of the sources in their
order, with their defaults where a key or a feature is not there; "found" BOOL [-1, sources], whether a source has the key. A
graph hands the buffer on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.candidates.declaration import GatherSourceSpec, GatherSpec
from engine.candidates.gather_relations import AS_OF, FOUND, ROWS, Part, defaults_of, tensors_of, vector_problems
from engine.errors import FailedPrecondition, InvalidArgument, ModelLoadError, VireoError, quoted
from engine.features.store import FeatureStore
from engine.limits import LOOKUP_ROWS_MAX
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, declared_specs
from engine.tensor import BOOL, FP32, Array, Tensor
from engine.vectors.gathering import Block
from engine.vectors.store import VectorStore

if TYPE_CHECKING:
    from engine.features.lookup import FeatureView
    from engine.vectors.any_collection import AnyCollection

Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class _Vectors:
    """A vector of the points of the collection of a name or alias, as it is now.

    Where the name has come to mean a collection that does not suit, or one whose vectors are for another embedder, the one that
    it meant: who calls this is to be given another gather together with the search and the embedder that belong to it.
    """

    def __init__(self, store: VectorStore, source: GatherSourceSpec) -> None:
        """Raises NotFound, FailedPrecondition."""
        assert source.collection is not None
        assert source.vector is not None
        self._store, self._source, self._vector = store, source, source.vector
        found = store.collection(source.collection)
        for _, problem in vector_problems(source, found.spec):
            raise FailedPrecondition(f"collection {quoted(source.collection)}: {problem}")
        declared = found.spec.vectors[source.vector]
        self.part = Part(of_view=False, is_text=found.spec.id == "text", width=declared.size)
        self._bound = found, found.spec
        self._defaults = np.array(defaults_of(source, declared.size), np.float32)
        self.note = f"vector {source.vector} of collection {source.collection}"

    def block(self, first: int) -> Block:
        """Its columns, from `first` on."""
        return Block(self._vector, self._defaults, first)

    def fits(self) -> bool:
        """Whether the collection, if it is there, is one whose vectors may stand in this gather."""
        try:
            return self._suits(self._store.collection(self.name))
        except VireoError:
            return True

    @property
    def name(self) -> str:
        """Of the collection, or its alias."""
        return self._source.collection or ""

    def current(self) -> AnyCollection:
        """What the name means now. Raises the store's NotFound where it means none, FailedPrecondition where the collection was
        altered."""
        bound = self._bound
        found = self._store.collection(self.name)
        if found is bound[0] and found.spec is bound[1]:
            return found
        if self._suits(found):
            self._bound = found, found.spec
            return found
        if found is bound[0]:  # it was altered
            raise FailedPrecondition(
                f"collection {quoted(self.name)} has become another; expected vector {quoted(self._vector)} of {self.part.width}"
            )
        return bound[0]

    def _suits(self, found: AnyCollection) -> bool:
        (bound, before), spec = self._bound, found.spec
        if any(vector_problems(self._source, spec)) or (spec.id == "text") != self.part.is_text:
            return False
        vector = spec.vectors[self._vector]
        same = found is bound or vector.embedder == before.vectors[self._vector].embedder
        return same and vector.size == self.part.width


class _Features:
    """Features of a view."""

    def __init__(self, store: FeatureStore, source: GatherSourceSpec) -> None:
        import pyarrow as pa

        assert source.view is not None
        view = store.opened(source.view)
        if view is None:
            raise FailedPrecondition(f"feature view {quoted(source.view)} is not there")
        self._view: FeatureView = view
        self._numbers = view.numbers_of(source.features)
        self._kind = view.entity_type
        self.part = Part(of_view=True, is_text=not pa.types.is_integer(self._kind), width=len(self._numbers))
        self._defaults = np.array(defaults_of(source, self.part.width), np.float32)
        self.note = f"{self.part.width} features of view {source.view}"

    def fill(self, keys: Any, buffer: Singles, first: int, as_of_us: Array | None) -> Flags:  # noqa: ANN401
        """Its columns, from `first` on; which keys it has. `keys`: uint64, int64 or texts."""
        import pyarrow as pa

        try:
            if self.part.is_text:
                entities = pa.array(keys, self._kind)
            else:
                entities = pa.array(keys.view(np.int64))
                if entities.type != self._kind:
                    entities = entities.cast(self._kind)
        except pa.ArrowException as error:
            raise InvalidArgument(f"keys: expected {self._kind}: {error}") from error
        return self._view.gather(entities, self._numbers, self._defaults, buffer, first, as_of_us=as_of_us)


@dataclass(frozen=True, slots=True)
class _View:
    """A feature view as source number `at`, and its first column."""

    at: int
    source: _Features
    first: int

    def fill(self, keys: Any, buffer: Singles, found: Flags, as_of_us: Array | None) -> None:  # noqa: ANN401
        """Its columns, and which keys it has."""
        found[:, self.at] = self.source.fill(keys, buffer, self.first, as_of_us)


@dataclass(frozen=True, slots=True)
class _Points:
    """Vectors of the points of one name, sources number `at`, which are looked up once for all of them."""

    at: tuple[int, ...]
    sources: tuple[_Vectors, ...]
    blocks: tuple[Block, ...]

    def fill(self, keys: Any, buffer: Singles, found: Flags, as_of_us: Array | None) -> None:  # noqa: ANN401
        """Their columns, and which keys they have. `keys`: uint64 or texts. Raises as `_Vectors.current`."""
        collections = [each.current() for each in self.sources]
        first = collections[0]
        if all(each is first for each in collections):
            found[:, self.at] = first.gather(keys, self.blocks, buffer)[:, np.newaxis]
            return
        for at, each, block in zip(self.at, collections, self.blocks, strict=True):  # a name that is moving
            found[:, at] = each.gather(keys, (block,), buffer)


class Gather:
    """See the module. Any number of threads."""

    def __init__(self, name: str, spec: GatherSpec, features: FeatureStore, vectors: VectorStore) -> None:
        """Raises NotFound, FailedPrecondition where a source is not there, or is not what it was declared."""
        self._key = spec.key
        sources = [_Vectors(vectors, each) if each.view is None else _Features(features, each) for each in spec.sources]
        parts = [each.part for each in sources]
        firsts = list(accumulate([each.width for each in parts], initial=0))
        self._width = firsts.pop()
        self._sources = sources
        self._fills = _fills_of(sources, firsts)
        if len({each.is_text for each in parts}) > 1:
            raise FailedPrecondition("some sources have texts as keys, others whole numbers")
        self._read: Callable[[Array], Any] = self._texts if parts[0].is_text else np.ascontiguousarray
        inputs, outputs = tensors_of(spec.key, parts)
        self.signature = Signature(
            declared_specs(inputs), declared_specs(outputs), batchable=True, rows_max=LOOKUP_ROWS_MAX
        )
        notes = tuple(
            f"rows[{first}:{first + each.part.width}]: {each.note}" for first, each in zip(firsts, sources, strict=True)
        )
        self.traits = Traits("vireo_gather", "every key is looked up alone", notes)

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises Unavailable while a view is restoring."""
        array = inputs[self._key].array
        keys = self._read(array)
        as_of_us = np.ascontiguousarray(inputs[AS_OF].array) if AS_OF in inputs else None
        buffer = np.empty((len(array), self._width), np.float32)
        found = np.empty((len(array), len(self._sources)), np.bool_)
        for each in self._fills:
            each.fill(keys, buffer, found, as_of_us)
        answer = {ROWS: Tensor(FP32, buffer), FOUND: Tensor(BOOL, found)}
        return {name: answer[name] for name in outputs} if outputs else answer

    def fits(self) -> bool:
        """Whether every source is still what it was when this was loaded, or suits as well; see `_Vectors`."""
        return all(each.fits() for each in self._sources if isinstance(each, _Vectors))

    def _texts(self, array: Array) -> list[str]:
        try:
            return [each.decode() for each in array.tolist()]
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"input {quoted(self._key)}: a key is not UTF-8: {error}") from error

    def close(self) -> None:
        """Sources are the stores'."""


def _fills_of(sources: Sequence[_Vectors | _Features], firsts: Sequence[int]) -> list[_View | _Points]:
    """What is done for each request: all vectors of one name together."""
    fills: list[_View | _Points] = []
    names: dict[str, list[tuple[int, _Vectors]]] = {}
    for at, each in enumerate(sources):
        if isinstance(each, _Vectors):
            names.setdefault(each.name, []).append((at, each))
        else:
            fills.append(_View(at, each, firsts[at]))
    for mine in names.values():
        blocks = tuple(each.block(firsts[at]) for at, each in mine)
        fills.append(_Points(tuple(at for at, _ in mine), tuple(each for _, each in mine), blocks))
    return fills


def load_gather(name: str, spec: GatherSpec, features: FeatureStore, vectors: VectorStore) -> Gather:
    """The gather `name`, ready, its kernels too: nobody else needs them. Raises ModelLoadError."""
    from kernels import gather
    from kernels.signed import make_ready

    make_ready(gather)
    try:
        return Gather(name, spec, features, vectors)
    except VireoError as error:
        raise ModelLoadError(f"gather {quoted(name)}: {error.message}") from error
