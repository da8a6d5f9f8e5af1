"""What is told of a collection, whether it is served or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.vectors.declaration import CollectionSpec

if TYPE_CHECKING:
    from engine.vectors.collection_info import CollectionInfo


@dataclass(frozen=True, slots=True)
class CollectionDescription:
    """One collection. `declared`: in the spec, so clients may not change or drop it. `info` is None where it is not served,
    and `problem` says why; a `problem` beside an `info` is a declaration it could not follow."""

    name: str
    aliases: tuple[str, ...]
    declared: bool
    spec: CollectionSpec | None
    info: CollectionInfo | None
    problem: str | None
