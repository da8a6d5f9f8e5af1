"""The state that a collection's folder has, as a fold that goes on from there."""

from __future__ import annotations

from engine.vectors.declaration import CollectionSpec
from engine.vectors.directory import Directory
from engine.vectors.fold import Fold
from engine.vectors.sealed import SealedPart


def restored_fold(directory: Directory, spec: CollectionSpec, offset: int, *, keys_from: int = 0) -> Fold:
    """Its segments, read as `spec`; `offset`: the log's entry that is next. The keys of all parts, now and later, are above
    `keys_from`: folds whose parts stand in one view have different ones."""
    numbers = [each.number for each in directory.manifest.segments]
    parts = [SealedPart(keys_from + each, each, directory.segment(each), spec) for each in numbers]
    alive = [directory.alive(each) for each in numbers]
    return Fold(spec, list(zip(parts, alive, strict=True)), offset, keys_from + 1 + max(numbers, default=0))
