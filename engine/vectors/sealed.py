"""A sealed segment as a part of a view: its vectors, its payload for filters, and the indexes that were built beside its rows."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import DataLoss, NotFound, quoted
from engine.kinds import decodable
from engine.vectors.declaration import CollectionSpec
from engine.vectors.dense_rows import DenseRows
from engine.vectors.evaluation import FieldColumns
from engine.vectors.faiss_index import load_index
from engine.vectors.filter import Filter
from engine.vectors.index import IndexChoice, IndexKind, VectorIndex, choose_index
from engine.vectors.lexical import SealedText
from engine.vectors.rows import field_column, field_type
from engine.vectors.segment import SealedSegment
from engine.vectors.sparse_index import SealedSparse
from engine.vectors.view import Bits, Longs, SparsePart, TextPart, order_of

CONTENTS: Final = "contents.json"
"""The file of a segment that says what was built beside its rows."""

_Postings = TypeVar("_Postings", SealedText, SealedSparse)
Ids: TypeAlias = "npt.NDArray[np.uint64] | pa.StringArray"


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """The index of one vector. `file` is None where rows are scanned; `codebook`: the collection's file that it was built by."""

    kind: IndexKind
    file: str | None = None
    codebook: str | None = None


@dataclass(frozen=True, slots=True)
class BuiltText:
    """The postings of a text field, whose words were cut by `stemmer`."""

    file: str
    stemmer: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What was built beside a segment's rows, by the names of vectors and fields."""

    vectors: Mapping[str, BuiltIndex] = field(default_factory=dict)
    texts: Mapping[str, BuiltText] = field(default_factory=dict)
    sparse: Mapping[str, str] = field(default_factory=dict)


def read_contents(segment: SealedSegment) -> Contents:
    """Raises DataLoss where it is no JSON of its kind; a segment that has none has nothing built."""
    try:
        return msgspec.json.decode(segment.file(CONTENTS).read_bytes(), type=decodable(Contents))
    except NotFound:
        return Contents()
    except (OSError, msgspec.DecodeError) as error:
        raise DataLoss(f"{quoted(str(segment.folder / CONTENTS))}: cannot be read: {error}") from error


class SealedPart:
    """Part. Over segment `number`; any thread."""

    def __init__(self, key: int, number: int, segment: SealedSegment, spec: CollectionSpec) -> None:
        self.key = key
        self.number = number
        self.name = f"segment {number}"
        self.rows = segment.rows
        self.segment = segment
        self.contents = read_contents(segment)
        self._spec = spec
        self._lock = threading.Lock()
        self._texts: dict[str, SealedText] = {}
        self._sparse: dict[str, SealedSparse] = {}
        self._indexes: dict[str, tuple[VectorIndex | None, int]] = {
            name: self._loaded(name) for name, each in spec.vectors.items() if not each.multi
        }
        self._open_postings()

    def _open_postings(self) -> None:
        """Now, not when they are asked for: a view may have this part still when its files are deleted."""
        for name, each in self._spec.fields.items():
            built = self.contents.texts.get(name)
            if each.type == "text" and built is not None and built.stemmer == each.stemmer:
                self.text(name)
        for name in self._spec.sparse:
            if name in self.contents.sparse:
                self.sparse(name)

    def _loaded(self, name: str) -> tuple[VectorIndex | None, int]:
        built = self.contents.vectors.get(name)
        if built is None or built.file is None:
            return None, 0
        if self._spec.vectors[name].index.gpu and (on_gpu := self._placed(name, built)) is not None:
            return on_gpu, self.rows
        return _index_of(self.segment, name, built.file), self.rows

    def _placed(self, name: str, built: BuiltIndex) -> VectorIndex | None:
        """On a GPU, if there is one; it is closed with the last view that has the part."""
        from engine.vectors.gpu_placing import placed

        spec, segment, file = self._spec.vectors[name], self.segment, built.file
        assert file is not None
        choice = choose_index(self.rows, spec.size, spec.index)
        if choice.kind == "flat":
            choice = IndexChoice(built.kind)
        what = f"{segment.folder}: vector {quoted(name)}"
        found = placed(self.dense(name), choice, spec.metric, what, lambda: _index_of(segment, name, file))
        if found is not None:
            weakref.finalize(self, found.close)
        return found

    @property
    def ids(self) -> Ids:
        """See Part."""
        return self.segment.ids

    @cached_property
    def _columns(self) -> FieldColumns:
        return FieldColumns(self.segment.payload(self._spec), self.ids, self.rows)

    @cached_property
    def id_order(self) -> Longs:
        """See Part."""
        return order_of(self.ids)

    def dense(self, name: str) -> DenseRows:
        """See Part."""
        return self.segment.dense(name)

    def multi(self, name: str) -> tuple[DenseRows, Longs]:
        """See Part."""
        return self.segment.multi(name, self._spec.vectors[name])

    def indexed(self, name: str) -> tuple[VectorIndex | None, int]:
        """See Part."""
        return self._indexes[name]

    def passing(self, filter_: Filter) -> Bits:
        """See Part."""
        return self._columns.evaluate(filter_)

    def text(self, name: str) -> TextPart:
        """See Part. Postings of a field or a stemmer that is younger than the segment are made now."""
        if (found := self._texts.get(name)) is None:
            with self._lock:
                if (found := self._texts.get(name)) is None:
                    found = self._texts[name] = self._text(name)
        return found

    def _text(self, name: str) -> SealedText:
        spec, built = self._spec.fields[name], self.contents.texts.get(name)
        if built is not None and built.stemmer == spec.stemmer:
            return self._fitting(SealedText.open(self.segment.file(built.file)), name)
        return SealedText.of(self.column(name), spec, name)

    def sparse(self, name: str) -> SparsePart:
        """See Part."""
        if (found := self._sparse.get(name)) is None:
            with self._lock:
                if (found := self._sparse.get(name)) is None:
                    found = self._sparse[name] = self._sparse_of(name)
        return found

    def _fitting(self, postings: _Postings, name: str) -> _Postings:
        """Kernels look at no bounds: postings of other rows would be read past their ends."""
        if postings.rows != self.rows:
            raise DataLoss(
                f"{self.segment.folder.name}: the postings of {quoted(name)} have {postings.rows} rows of {self.rows}"
            )
        return postings

    def _sparse_of(self, name: str) -> SealedSparse:
        if (file := self.contents.sparse.get(name)) is not None:
            return self._fitting(SealedSparse.open(self.segment.file(file)), name)
        return SealedSparse.of(*self.segment.sparse(name), name)

    def column(self, name: str) -> pa.Array:
        """See Part."""
        return self.segment.column(field_column(name), field_type(self._spec.fields[name]))

    def points(self, rows: Longs) -> pa.RecordBatch:
        """See Part."""
        return self.segment.points(self._spec, rows)

    @property
    def bytes_size(self) -> int:
        """Of its files."""
        return sum(each.size_bytes for each in self.segment.description.all_files)

    @property
    def column_bytes(self) -> int:
        """Of its largest column that is no dense vector."""
        return max((each.size_bytes for each in self.segment.description.parts.values()), default=0)

    def stale(self, codebooks: Mapping[str, str]) -> bool:
        """Whether it would be built otherwise now. `codebooks`: the collection's files by vector."""
        return any(
            self._stale(name, codebooks.get(name)) for name, each in self._spec.vectors.items() if not each.multi
        )

    def _stale(self, name: str, codebook: str | None) -> bool:
        spec, built = self._spec.vectors[name], self.contents.vectors.get(name)
        if self.segment.description.vectors[name].stored != spec.stored:
            return True
        wanted = choose_index(self.rows, spec.size, spec.index).kind
        if built is None or built.kind != wanted:
            return wanted != "flat" or (built is not None and built.kind != "flat")
        return wanted in ("pq", "ivf_pq") and built.codebook != codebook


def _index_of(segment: SealedSegment, name: str, file: str) -> VectorIndex:
    """The CPU's. Raises NotFound, DataLoss."""
    found = load_index(segment.file(file))
    if found.rows != segment.rows:
        raise DataLoss(f"{segment.folder.name}: the index of {quoted(name)} has {found.rows} rows of {segment.rows}")
    return found


def vector_names(spec: CollectionSpec) -> list[str]:
    """Dense vectors, but for multi-vectors: those that are searched."""
    return [name for name, each in spec.vectors.items() if not each.multi]
