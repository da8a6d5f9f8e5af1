"""A short life of a collection, step by step: writes, and what else would go on in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from engine.log.disk import Disk
from engine.vectors.collection import Collection
from tests.engine.vectors.crash import points
from tests.engine.vectors.crash.operations import Operation, change, do
from tests.engine.vectors.crash.points import Points, rows_of
from tests.engine.vectors.crash.rounds import difference, read

SPEC: Final = replace(points.SPEC, growing_rows=300)
OTHER: Final = replace(points.OTHER, growing_rows=8, durability="fsync")


def _upsert(number: int, *ids: int) -> Operation:
    return Operation(0, number, "upsert", list(ids))


def _rest(collection: Collection) -> None:
    while collection.indexer.step(idle=True, long=True):
        pass


def _work(collection: Collection) -> None:
    while collection.indexer.step():
        pass


Step = Operation | Callable[[Collection], object]

LIFE: Final[tuple[Step, ...]] = (
    _upsert(1, *range(0, 930, 3)),
    Operation(0, 2, "delete", [3, 9]),
    _work,
    _upsert(4, 0, 3, 600, 1200),
    Operation(0, 5, "delete", [0, 6, 900, 5000]),
    lambda collection: collection.indexer.flush(),
    Operation(0, 6, "alter"),
    _upsert(7, *range(0, 36, 3)),
    Operation(0, 8, "set", [3, 12, 600], values={"tag": "s1", "n": 8}),
    _work,
    _upsert(9, *range(30, 66, 3)),
    Operation(0, 10, "delete_matching", low=9, high=9),
    _work,
    Operation(0, 11, "snapshot"),
    _upsert(12, 3, 6, 900),
    _rest,
    Operation(0, 13, "alter"),
    Operation(0, 14, "clear", [3, 600], values={"body": None}),
    Operation(0, 15, "delete", list(range(90, 930, 3))),
    _rest,
)
"""Seals, indexes, drops, merges, compacts, alters, copies."""


@dataclass(slots=True)
class Living:
    """Where a life is. `pending`: the write under way; `before`: what was acknowledged."""

    folder: Path
    disk: Disk
    before: Points = field(default_factory=dict)
    pending: Operation | None = None

    def open(self) -> Collection:
        """As it was left."""
        there = (self.folder / "c" / "manifest.json").exists()
        return Collection("life", self.folder / "c", None if there else SPEC, disk=self.disk, background=False)

    def do(self, collection: Collection, step: Step) -> None:
        """One step."""
        if not isinstance(step, Operation):
            step(collection)
            return
        self.pending = step
        if step.kind == "alter":
            collection.alter(replace(SPEC, growing_rows=8) if step.number % 2 else OTHER)
        else:
            do(collection, step, self.folder)
        self.before, self.pending = self.after, None

    @property
    def after(self) -> Points:
        """What there is once the write under way is done."""
        if self.pending is None:
            return self.before
        new, gone = change(self.pending, self.before)
        return {id_: each for id_, each in (self.before | new).items() if id_ not in gone}

    def check(self, collection: Collection, *, refused: bool = False) -> Points:
        """Which of both it is; that before where the write was `refused`."""
        rows, _ = read(collection)
        if rows == rows_of(self.before):
            return self.before
        assert not refused, difference(rows, self.before)
        assert rows == rows_of(self.after), difference(rows, self.before)
        return self.after
