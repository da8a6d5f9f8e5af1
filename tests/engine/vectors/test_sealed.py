"""Sealed segments as parts: what was built beside the rows is found again, what is younger is made, what is damaged is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DataLoss
from engine.vectors.building import Codebooks, build_beside
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec
from engine.vectors.directory import Directory
from engine.vectors.filter import Filter, HasWords, IsNull
from engine.vectors.lexical import weighted_terms
from engine.vectors.sealed import CONTENTS, BuiltIndex, Contents, SealedPart, read_contents, vector_names
from engine.vectors.segment import SealedSegment
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.core import SPEC, points

Meddle = Callable[[Path], object]
LARGE = replace(SPEC, vectors={"v": VectorSpec(4, metric="l2", index=IndexSpec(kind="hnsw"))})


def sealed(
    folder: Path, spec: CollectionSpec = SPEC, rows: int = 300, *, without: bool = False, meddle: Meddle | None = None
) -> SealedSegment:  # fmt: skip
    """A segment. `without`: nothing is built beside its rows; `meddle`: with the draft, before it is sealed."""
    directory = Directory(folder, spec, disk=QuickDisk())
    _, writer = directory.new_segment(spec)
    with writer:
        writer.add(points(range(rows), 0, spec))
        finished = writer.finish_rows()
        if not without:
            build_beside(writer, finished, spec, Codebooks(directory.new_codebook))
        if meddle is not None:
            meddle(writer.folder)
            for name in list(writer._files):
                (writer.folder / name).rename(writer.folder / "again")
                writer.move_in(name, writer.folder / "again")
        found = writer.seal(0, rows)
    directory.close()
    return found


def part_of(segment: SealedSegment, spec: CollectionSpec = SPEC) -> SealedPart:
    """Key 7, number 3."""
    return SealedPart(7, 3, segment, spec)


def test_what_was_built_is_named_by_the_segment(tmp_path: Path) -> None:
    segment = sealed(tmp_path, LARGE)
    contents = read_contents(segment)
    assert contents.vectors == {"v": BuiltIndex("hnsw", "index-0.hnsw")}
    assert list(contents.texts) == ["body"]
    assert list(contents.sparse) == ["s"]
    part = part_of(segment, LARGE)
    index, rows = part.indexed("v")
    assert index is not None
    assert (index.kind, index.rows, rows) == ("hnsw", 300, 300)
    assert (part.key, part.number, part.name, part.rows) == (7, 3, "segment 3", 300)
    assert part.bytes_size >= sum(each.stat().st_size for each in segment.folder.iterdir()) - 4096
    assert part.text("body") is part.text("body")
    assert part.sparse("s") is part.sparse("s")


def test_few_rows_have_no_index_and_are_scanned(tmp_path: Path) -> None:
    part = part_of(sealed(tmp_path, LARGE, 40), LARGE)
    assert part.indexed("v") == (None, 0)
    assert not part.stale({})


def test_of_a_segment_with_nothing_beside_it_all_is_made_when_it_is_asked(tmp_path: Path) -> None:
    with_it, without = part_of(sealed(tmp_path / "a")), part_of(sealed(tmp_path / "b", without=True))
    assert without.contents == Contents()
    terms = weighted_terms("word1 common", SPEC.fields["body"])[0]
    indices = np.array([1, 2, 3], np.uint32)
    assert without.text("body").counts(terms).tolist() == with_it.text("body").counts(terms).tolist()
    assert without.sparse("s").counts(indices).tolist() == with_it.sparse("s").counts(indices).tolist()


def test_fields_and_vectors_younger_than_the_segment_are_of_nobody(tmp_path: Path) -> None:
    young = replace(
        SPEC,
        vectors={**SPEC.vectors, "late": VectorSpec(3, multi=True)},
        sparse={**SPEC.sparse, "t": SparseSpec()},
        fields={**SPEC.fields, "more": FieldSpec("text"), "tags": FieldSpec("keyword", array=True)},
    )
    known = part_of(sealed(tmp_path))
    part = SealedPart(9, known.number, known.segment, young)
    assert part.key == 9
    assert part.column("more").null_count == part.column("tags").null_count == 300
    assert part.text("more").texts == 0
    assert part.sparse("t").vectors == 0
    assert part.multi("late")[1].tolist() == [0] * 301
    everyone = np.packbits(np.ones(300, bool), bitorder="little").tolist()
    assert part.passing(Filter.of(IsNull("tags"), young)).tolist() == everyone
    assert not part.passing(Filter.of(HasWords("more", "x"), young)).any()
    assert part.points(np.array([3])).schema.names[-1] == "field.tags"


def test_words_cut_by_another_stemmer_are_cut_again(tmp_path: Path) -> None:
    pytest.importorskip("snowballstemmer")
    stemmed = replace(SPEC, fields={**SPEC.fields, "body": FieldSpec("text", stemmer="english")})
    part = part_of(sealed(tmp_path), stemmed)
    terms = weighted_terms("commons", stemmed.fields["body"])[0]
    assert part.text("body").counts(terms).tolist() == [300]


def stale(segment: SealedSegment, codebooks: Mapping[str, str] | None = None, **changes: Any) -> bool:  # noqa: ANN401
    """By the spec with a vector changed so."""
    spec = replace(LARGE, vectors={"v": replace(LARGE.vectors["v"], **changes)})
    return SealedPart(1, 1, segment, spec).stale(codebooks or {})


def test_a_part_is_stale_where_it_would_be_built_otherwise(tmp_path: Path) -> None:
    segment = sealed(tmp_path, LARGE)
    assert not stale(segment)
    assert stale(segment, stored="int8")
    assert stale(segment, index=IndexSpec(kind="flat"))
    assert stale(segment, index=IndexSpec(kind="pq"))
    assert not stale(segment, {"v": "0000000001.codebook"}), "its index knows no codebook"


def test_a_part_is_stale_where_the_codebook_is_another(tmp_path: Path) -> None:
    spec = replace(SPEC, vectors={"v": VectorSpec(4, metric="l2", index=IndexSpec(kind="pq"))})
    part = part_of(sealed(tmp_path, spec), spec)
    codebook = part.contents.vectors["v"].codebook
    assert codebook is not None
    assert not part.stale({"v": codebook})
    assert part.stale({"v": "another"})
    assert part.stale({})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"vectors": {"v": {"kind": "tree"}}}'])
def test_contents_that_cannot_be_read_are_told(tmp_path: Path, content: bytes) -> None:
    segment = sealed(tmp_path, meddle=lambda folder: (folder / CONTENTS).write_bytes(content))
    with pytest.raises(DataLoss, match=CONTENTS):
        part_of(segment)


def all_of(segment: SealedSegment) -> None:
    """Reads what was built."""
    part = part_of(segment, LARGE)
    part.text("body")
    part.sparse("s")


@pytest.mark.parametrize("file", ["index-0.hnsw", "words-2.postings", "sparse-0.postings"])
def test_what_was_built_of_other_rows_is_told(tmp_path: Path, file: str) -> None:
    content = sealed(tmp_path / "other", LARGE, 290).file(file).read_bytes()
    segment = sealed(tmp_path / "one", LARGE, meddle=lambda folder: (folder / file).write_bytes(content))
    with pytest.raises(DataLoss, match="290 rows of 300"):
        all_of(segment)


def test_only_vectors_that_are_searched_have_indexes() -> None:
    spec = CollectionSpec(vectors={"late": VectorSpec(3, multi=True), "v": VectorSpec(2), "w": VectorSpec(2)})
    assert vector_names(spec) == ["v", "w"]
