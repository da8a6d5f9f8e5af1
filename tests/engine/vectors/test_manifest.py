"""The manifest: read as it was written, and specs that stored points can or can't be read as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataLoss, FailedPrecondition
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, QuotaSpec, SparseSpec, VectorSpec
from engine.vectors.manifest import (
    MANIFEST,
    Manifest,
    SegmentEntry,
    check_alive,
    check_reads_as,
    count_alive,
    encode_manifest,
    read_manifest,
)
from engine.vectors.segment_file import FileSum, framed

SPEC = CollectionSpec(
    vectors={"v": VectorSpec(4, index=IndexSpec(kind="hnsw", links=16)), "m": VectorSpec(8, multi=True, stored="int8")},
    sparse={"s": SparseSpec(idf=True)},
    fields={"tenant/ä": FieldSpec("keyword"), "text": FieldSpec("text", stemmer="english")},
    tenant="tenant/ä",
    quota=QuotaSpec(tenant_points_max=7),
    recall_sample=0.25,
)
WHOLE = Manifest(
    SPEC,
    generation=3,
    replay_from=2**62,
    segments=(SegmentEntry(1, 10, 10), SegmentEntry(7, 9, 3, FileSum("0000000007-0000000003.bits", 2, 77))),
    codebooks={"v": FileSum("0000000001.codebook", 9, 2**32 - 1)},
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(encode_manifest(WHOLE))
    assert read_manifest(tmp_path) == WHOLE
    assert WHOLE.rows == 19


def test_no_flipped_byte_or_cut_passes(tmp_path: Path) -> None:
    content = encode_manifest(WHOLE)
    wrong = [content[:at] for at in range(len(content))]
    wrong += [
        content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        for at in range(len(content))
        for bit in range(8)
    ]
    for each in wrong:
        (tmp_path / MANIFEST).write_bytes(each)
        with pytest.raises(DataLoss, match=MANIFEST):
            read_manifest(tmp_path)


def test_what_is_gone_foreign_or_newer_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataLoss, match=r"manifest.json': is gone"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_bytes(framed("vireo.segment", {}))
    with pytest.raises(FailedPrecondition, match=r"is a vireo.segment, expected a vireo.collection"):
        read_manifest(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.vectors.segment_file.FORMAT_VERSION", 12)
        (tmp_path / MANIFEST).write_bytes(encode_manifest(WHOLE))
    with pytest.raises(FailedPrecondition, match="format version 12, this program reads 1"):
        read_manifest(tmp_path)


def test_living_rows_are_counted() -> None:
    assert count_alive(0, np.empty(0, np.uint8)) == 0
    assert count_alive(8, np.array([255], np.uint8)) == 8
    assert count_alive(11, np.array([3, 4], np.uint8)) == 3


@pytest.mark.parametrize("bits", [[1], [1, 1, 1], [1, 8], [3, 1]])
def test_a_bitset_of_another_size_or_count_is_refused(bits: list[int]) -> None:
    entry = SegmentEntry(1, 11, 2)
    check_alive(Path("a.bits"), entry, np.array([1, 4], np.uint8))
    with pytest.raises(DataLoss, match=r"'a.bits': is no bitset of 2 of 11 rows"):
        check_alive(Path("a.bits"), entry, np.array(bits, np.uint8))


def _with(name: str, vector: VectorSpec) -> CollectionSpec:
    return replace(SPEC, vectors={**SPEC.vectors, name: vector})


@pytest.mark.parametrize(
    "declared",
    [
        replace(SPEC, fields={}, tenant=None, sparse={}),
        replace(SPEC, fields={**SPEC.fields, "new": FieldSpec("geo")}, sparse={"t": SparseSpec()}),
        _with("v", VectorSpec(4, stored="binary", index=IndexSpec("binary"))),
        _with("late", VectorSpec(3, multi=True)),
        replace(SPEC, vectors={"v": SPEC.vectors["v"]}),
    ],
    ids=["fields go", "fields come", "another precision and index", "a multi-vector comes", "a vector goes"],
)
def test_a_spec_may_change_where_stored_points_can_be_read(declared: CollectionSpec) -> None:
    check_reads_as(SPEC, declared, empty=False)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (replace(SPEC, id="text"), "ids are stored as integer, the spec says text"),
        (_with("v", VectorSpec(5)), "vector 'v': size is stored as 4, the spec says 5"),
        (_with("v", VectorSpec(4, metric="l2")), "vector 'v': metric is stored as cosine, the spec says l2"),
        (_with("m", VectorSpec(8)), "vector 'm': multi is stored as True, the spec says False"),
        (_with("w", VectorSpec(4)), "vector 'w': is new, and stored points have none"),
        (
            replace(SPEC, fields={"text": FieldSpec("keyword")}),
            "field 'text': type is stored as text, the spec says keyword",
        ),
        (replace(SPEC, fields={"text": FieldSpec("text", array=True)}), "field 'text': array is stored as False"),
    ],
)
def test_a_spec_that_stored_points_cannot_be_read_as_is_refused(declared: CollectionSpec, told: str) -> None:
    with pytest.raises(FailedPrecondition, match=told):
        check_reads_as(SPEC, declared, empty=False)
    check_reads_as(SPEC, declared, empty=True)
