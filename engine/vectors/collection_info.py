"""What a collection tells of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
