"""What a collection consists of on the disk, as one small file that is replaced whole: `manifest.json`.

It names every file that counts; what it does not name is left from a crash and belongs to nobody. Together with the entries of
the log from `replay_from` on it is the whole state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.vectors.declaration import CollectionSpec, EmbedderSpec, FieldSpec, VectorSpec
from engine.vectors.segment_file import FileSum, framed, read_framed

MANIFEST: Final = "manifest.json"
SEGMENTS: Final = "segments"
ALIVE: Final = "alive"
CODEBOOKS: Final = "codebooks"

Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment that counts. `bits`: which rows are alive, a file of `alive/`; None is all of them."""

    number: int
    rows: int
    alive: int
    bits: FileSum | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state. `generation` grows by each commit; `codebooks` are files of `codebooks/`, by vector name; `log` is the folder of
    the log, beside the manifest; `ever` has the vectors and fields of former specs too."""

    spec: CollectionSpec
    generation: int = 0
    replay_from: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    codebooks: Mapping[str, FileSum] = field(default_factory=dict)
    log: str = "log-0000000001"
    ever: CollectionSpec | None = None

    @property
    def rows(self) -> int:
        """Of all segments, dead ones too."""
        return sum(each.rows for each in self.segments)


def segment_name(number: int) -> str:
    """The folder of a segment."""
    return f"{number:010d}"


def bits_name(number: int, generation: int) -> str:
    """The file of a segment's alive bitset."""
    return f"{segment_name(number)}-{generation:010d}.bits"


def encode_manifest(manifest: Manifest) -> bytes:
    """What the file holds."""
    return framed("vireo.collection", manifest)


def read_manifest(folder: Path) -> Manifest:
    """Raises DataLoss where it is gone, torn or damaged; FailedPrecondition where it is foreign or newer; OSError."""
    return read_framed(folder / MANIFEST, "vireo.collection", Manifest)


def count_alive(rows: int, bits: Bits) -> int:
    """How many rows are alive. `bits` uint8 [ceil(rows / 8)], bit i of byte i // 8 from the least; those past the rows are 0."""
    assert bits.shape == ((rows + 7) // 8,), f"{bits.shape} for {rows} rows"
    assert not rows % 8 or not bits[-1] >> (rows % 8), "bits past the rows"
    return int(np.bitwise_count(bits).sum()) if hasattr(np, "bitwise_count") else int(np.unpackbits(bits).sum())


def check_alive(path: Path, entry: SegmentEntry, bits: Bits) -> None:
    """Raises DataLoss where a bitset is not one of its segment, though its checksum agrees."""
    fits = bits.shape == ((entry.rows + 7) // 8,)
    if not fits or (entry.rows % 8 and bits[-1] >> (entry.rows % 8)) or count_alive(entry.rows, bits) != entry.alive:
        raise DataLoss(f"{quoted(str(path))}: is no bitset of {entry.alive} of {entry.rows} rows")


def check_reads_as(stored: CollectionSpec, declared: CollectionSpec, *, empty: bool) -> None:
    """Raises FailedPrecondition where segments of `stored` can't be read as `declared`, and says why.

    Fields, sparse vectors and multi-vectors may come and go, precisions and indexes change; a dense vector may come only where
    no segment is there (`empty`).
    """
    if stored.id != declared.id and not empty:
        raise FailedPrecondition(f"ids are stored as {stored.id}, the spec says {declared.id}")
    for name, vector in declared.vectors.items():
        _check_vector(name, stored.vectors.get(name), vector, empty=empty)
    for name, each in declared.fields.items():
        _check_field(name, stored.fields.get(name), each, empty=empty)


def _check_vector(name: str, stored: VectorSpec | None, declared: VectorSpec, *, empty: bool) -> None:
    if empty:
        return
    if stored is None:
        if not declared.multi:
            raise FailedPrecondition(f"vector {quoted(name)}: is new, and stored points have none")
        return
    _check_same(f"vector {quoted(name)}", stored, declared, ("size", "metric", "multi"))
    if stored.embedder is not None:  # it may be told later, and then stays
        _check_embedder(f"vector {quoted(name)}", stored.embedder, declared)


def _check_embedder(what: str, stored: EmbedderSpec, declared: VectorSpec) -> None:
    """How it encodes may be told later too."""
    wanted = declared.embedder
    if wanted is None or (wanted.model, wanted.version) != (stored.model, stored.version):
        raise FailedPrecondition(f"{what}: embedder is stored as {_told(stored)}, the spec says {_told(wanted)}")
    if stored.encoding is None:
        return
    if wanted.encoding is None:
        raise FailedPrecondition(f"{what}: its embedder's encoding is stored, and the spec says none")
    if differing := wanted.encoding.told_unlike(stored.encoding):
        raise FailedPrecondition(
            f"{what}: the stored vectors of embedder {_told(stored)} were made otherwise: {differing}"
        )


def _told(embedder: EmbedderSpec | None) -> str:
    return "none" if embedder is None else f"{quoted(embedder.model)} version {embedder.version}"


def _check_field(name: str, stored: FieldSpec | None, declared: FieldSpec, *, empty: bool) -> None:
    if stored is not None and not empty:
        _check_same(f"field {quoted(name)}", stored, declared, ("type", "array"))


def _check_same(what: str, stored: Any, declared: Any, names: tuple[str, ...]) -> None:  # noqa: ANN401
    for each in names:
        if (was := getattr(stored, each)) != (wanted := getattr(declared, each)):
            raise FailedPrecondition(f"{what}: {each} is stored as {was}, the spec says {wanted}")
