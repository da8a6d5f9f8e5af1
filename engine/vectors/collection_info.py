"""What a collection tells of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.vectors.declaration import CollectionSpec
from engine.vectors.sealed import SealedPart, vector_names
from engine.vectors.view import Living, View


@dataclass(frozen=True, slots=True)
class PartInfo:
    """One part. `indexes`: what finds candidates of each vector; `bytes`: of its files, 0 of a growing one."""

    name: str
    rows: int
    alive: int
    indexes: Mapping[str, str]
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """`replay_from`: a restart folds the log from there to `offset`. `indexing`: there is background work to do; `problem`: why
    it fails, if it does."""

    name: str
    points: int
    parts: Sequence[PartInfo]
    offset: int
    replay_from: int
    indexing: bool
    problem: str | None = None


def parts_of(view: View) -> tuple[PartInfo, ...]:
    """Of each part of a view."""
    return tuple(_part_info(each, view.spec) for each in view.parts)


def _part_info(living: Living, spec: CollectionSpec) -> PartInfo:
    part = living.part
    indexes = {}
    for name in vector_names(spec):
        index, rows = part.indexed(name)
        indexes[name] = "flat" if index is None else index.kind if rows == part.rows else f"{index.kind}, {rows} rows"
    size = part.bytes_size if isinstance(part, SealedPart) else 0
    return PartInfo(part.name, part.rows, living.count, indexes, size)
