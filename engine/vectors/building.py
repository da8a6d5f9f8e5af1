"""How a segment is made: its rows, and what is built beside them: indexes of vectors, postings of texts and sparse vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.log.disk import Disk
from engine.vectors.codebook import SAMPLE_ROWS, Codebook, sample_of, should_retrain
from engine.vectors.declaration import CollectionSpec, VectorSpec
from engine.vectors.dense_rows import Decoded, readable
from engine.vectors.faiss_index import build_index, train_codebook
from engine.vectors.index import choose_index
from engine.vectors.lexical import write_text_postings
from engine.vectors.rows import field_column, field_type
from engine.vectors.sealed import CONTENTS, BuiltIndex, BuiltText, Contents, vector_names
from engine.vectors.segment import SealedSegment, SegmentWriter
from engine.vectors.segment_file import FileSum
from engine.vectors.sparse_index import write_sparse_postings

Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

_BY_CODEBOOK: Final = ("pq", "ivf_pq")
_SEED: Final = 17


@dataclass(slots=True)
class Codebooks:
    """A collection's codebooks, by vector: files and what is in them. `store` writes a new one."""

    store: Callable[[bytes], FileSum]
    files: dict[str, FileSum] = field(default_factory=dict)
    known: dict[str, Codebook] = field(default_factory=dict)

    def fitting(self, name: str, vectors: Any) -> Codebook:  # noqa: ANN401
        """The codebook for a segment of these vectors: the collection's, or a new one, where there is none or it says too little
        of them."""
        known = self.known.get(name)
        sample = _sample(vectors)
        if (
            known is None
            or known.size != sample.shape[1]
            or (len(vectors) >= known.rows and should_retrain(known, sample))
        ):
            # by the rows of the segment, not of its sample: two large segments would train for each other without end
            known = replace(train_codebook(sample), rows=len(vectors))
            self.files[name] = self.store(known.encoded())
            self.known[name] = known
        return known


@dataclass(frozen=True, slots=True, eq=False)
class SegmentOrder:
    """A segment to be made in `folder`. It has chosen rows of sealed segments, ascending, and then those that are given; they are
    of entries `first` to `next` - 1 of the log."""

    folder: Path
    spec: CollectionSpec
    first: int
    next: int
    sources: Sequence[tuple[SealedSegment, Longs]] = ()


def make_segment(
    order: SegmentOrder, given: Iterable[pa.RecordBatch], codebooks: Codebooks, disk: Disk | None = None
) -> SealedSegment:
    """Sealed. Raises as SegmentWriter; nothing is left behind then."""
    with SegmentWriter(order.folder, order.spec, disk=disk) as writer:
        for segment, rows in order.sources:
            writer.gather(segment, rows)
        for batch in given:
            writer.add(batch)
        build_beside(writer, writer.finish_rows(), order.spec, codebooks)
        return writer.seal(order.first, order.next)


def _sample(vectors: Any) -> Singles:  # noqa: ANN401
    return sample_of(vectors, _SEED) if isinstance(vectors, np.ndarray) else _sample_decoded(vectors)


def _sample_decoded(vectors: Decoded) -> Singles:
    if len(vectors) <= SAMPLE_ROWS:
        return vectors[slice(None)]
    return vectors[np.sort(np.random.default_rng(_SEED).choice(len(vectors), SAMPLE_ROWS, replace=False))]


def build_beside(writer: SegmentWriter, rows: SealedSegment, spec: CollectionSpec, codebooks: Codebooks) -> None:
    """Builds all that a segment of these finished rows is to have, and moves it in. Raises OSError, ResourceExhausted."""
    vectors = {
        name: _built(writer, rows, at, name, spec.vectors[name], codebooks)
        for at, name in enumerate(vector_names(spec))
    }
    contents = Contents(vectors, _texts(writer, rows, spec), _sparse(writer, rows, spec))
    path = writer.folder / f"{CONTENTS}.new"
    path.write_bytes(msgspec.json.encode(contents))
    writer.move_in(CONTENTS, path)


def _built(
    writer: SegmentWriter, rows: SealedSegment, at: int, name: str, spec: VectorSpec, codebooks: Codebooks
) -> BuiltIndex:
    choice = choose_index(rows.rows, spec.size, spec.index)
    if choice.kind == "flat":
        return BuiltIndex("flat")
    vectors = readable(rows.dense(name))
    codebook = codebooks.fitting(name, vectors) if choice.kind in _BY_CODEBOOK else None
    index = build_index(vectors, choice, spec.metric, codebook)
    file = f"index-{at}.{choice.kind}"
    index.save(writer.folder / f"{file}.new")
    writer.move_in(file, writer.folder / f"{file}.new")
    return BuiltIndex(choice.kind, file, codebooks.files[name].file if codebook is not None else None)


def _texts(writer: SegmentWriter, rows: SealedSegment, spec: CollectionSpec) -> Mapping[str, BuiltText]:
    found = {}
    for at, (name, each) in enumerate(spec.fields.items()):
        if each.type == "text":
            file = f"words-{at}.postings"
            path = writer.folder / f"{file}.new"
            write_text_postings(path, name, each, rows.column(field_column(name), field_type(each)))
            writer.move_in(file, path)
            found[name] = BuiltText(file, each.stemmer)
    return found


def _sparse(writer: SegmentWriter, rows: SealedSegment, spec: CollectionSpec) -> Mapping[str, str]:
    found = {}
    for at, name in enumerate(spec.sparse):
        file = f"sparse-{at}.postings"
        path = writer.folder / f"{file}.new"
        write_sparse_postings(path, name, *rows.sparse(name))
        writer.move_in(file, path)
        found[name] = file
    return found
