"""The core of a collection, put together by hand: a folder, a log, the fold over it, who writes and who indexes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.clock import Clock, monotonic
from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk
from engine.log.local import LocalLog
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.directory import Directory
from engine.vectors.filter import Filter, HasWords, Match, Range
from engine.vectors.fold import Fold
from engine.vectors.indexer import Indexer
from engine.vectors.lexical import text_statistics, weighted_terms
from engine.vectors.points import points_of
from engine.vectors.rows import log_schema
from engine.vectors.sealed import SealedPart
from engine.vectors.values import PointId
from engine.vectors.view import View
from engine.vectors.writer import Writer
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.plain_collection import living_rows

SPEC = CollectionSpec(
    vectors={"v": VectorSpec(4, metric="l2")},
    sparse={"s": SparseSpec()},
    fields={"tag": FieldSpec("keyword"), "n": FieldSpec("integer"), "body": FieldSpec("text")},
    growing_rows=16,
)
OWNED = CollectionSpec(
    vectors={"v": VectorSpec(4)}, fields={"owner": FieldSpec("keyword"), "n": FieldSpec("integer")}, tenant="owner",
    growing_rows=16,
)  # fmt: skip


class MeddlingDisk(QuickDisk):
    """Calls somebody once while a segment is being written: others write meanwhile."""

    def __init__(self) -> None:
        self.meddle: Callable[[], None] | None = None

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self.meddle is not None and folder.name.endswith(".draft"):
            meddle, self.meddle = self.meddle, None
            meddle()


@dataclass(slots=True)
class Core:
    """Open. Nothing goes on in the background unless `indexer.start` is called."""

    directory: Directory
    log: LocalLog
    fold: Fold
    indexer: Indexer
    writer: Writer

    @property
    def view(self) -> View:
        """The newest."""
        return self.fold.view

    def work(self, *, idle: bool = False) -> None:
        """All that there is to do."""
        while self.indexer.step(idle=idle):
            pass

    def close(self) -> None:
        """Ends."""
        self.writer.close()
        self.indexer.stop()
        self.log.close()
        self.directory.close()


def opened(
    folder: Path, spec: CollectionSpec = SPEC, *, disk: Disk | None = None, clock: Clock = monotonic
) -> Core:  # fmt: skip
    """As Collection opens it."""
    disk = disk or QuickDisk()
    directory = Directory(folder, spec, disk=disk)
    manifest = directory.manifest
    path = folder / manifest.log
    log = LocalLog(LocalLogSpec(str(path)), log_schema(spec), path, disk=disk)
    numbers = [each.number for each in manifest.segments]
    parts = [SealedPart(each, each, directory.segment(each), spec) for each in numbers]
    sealed = [(each, directory.alive(each.number)) for each in parts]
    fold = Fold(spec, sealed, manifest.replay_from, 1 + max(numbers, default=0))
    indexer = Indexer("core", directory, fold, log, clock)
    return Core(directory, log, fold, indexer, Writer("core", fold, log, indexer))


def points(ids: Iterable[PointId], n: int = 0, spec: CollectionSpec = SPEC) -> pa.RecordBatch:
    """Of these ids, each with `n`; all else follows from the id."""
    rows: list[dict[str, Any]] = []
    for each in ids:
        source = np.random.default_rng(each if isinstance(each, int) else len(each))
        vector: dict[str, Any] = {"v": source.standard_normal(4).astype(np.float32)}
        if spec.sparse:
            vector["s"] = {"indices": [1, 2 + source.integers(5)], "values": [1.0, 0.5]}
        payload: dict[str, Any] = {"n": n}
        if "tag" in spec.fields:
            payload |= {"tag": f"t{source.integers(3)}", "body": f"word{source.integers(4)} common"}
        rows.append({"id": each, "vector": vector, "payload": payload})
    return points_of(spec, rows)


def shown(view: View) -> dict[PointId, int]:
    """The `n` of each living point; each comes once."""
    found: dict[PointId, int] = {}
    for part, rows in living_rows(view):
        taken = part.points(rows)
        for id_, n in zip(taken.column("id").to_pylist(), taken.column("field.n").to_pylist(), strict=True):
            assert id_ not in found, f"{id_} is in two places"
            found[id_] = n
    return found


def answers(view: View) -> list[Any]:
    """What a view of SPEC says: its rows, and who passes filters and has words and indices."""
    found: list[Any] = []
    filters = [
        Filter.of(each, view.spec) for each in (Match("tag", "t1"), Range("n", gte=2), HasWords("body", "word2"))
    ]  # fmt: skip
    terms = weighted_terms("word1 common", view.spec.fields["body"])[0]
    idf, mean = text_statistics([each.part.text("body") for each in view.parts], terms)
    indices, weights = np.array([1, 3], np.uint32), np.array([1, 2], np.float32)
    for each in view.parts:
        part, every = each.part, np.empty(0, np.uint8)
        found += [part.rows, each.count, None if each.alive is None else each.alive.tobytes()]
        found.append(part.points(np.arange(part.rows)).to_pylist())
        found += [part.passing(one).tobytes() for one in filters]
        found += [part.column("tag").to_pylist(), list(part.ids), part.dense("v").data.tobytes()]
        found += [one.tolist() for one in part.text("body").best(terms, idf, mean, every, 50)]
        found += [part.text("body").counts(terms).tolist(), part.sparse("s").counts(indices).tolist()]
        found += [one.tolist() for one in part.sparse("s").best(indices, weights, every, 50)]
    return found


def some_ids(source: random.Random, most: int, upto: int = 60) -> Sequence[int]:
    """Different ones, at least one."""
    return source.sample(range(upto), source.randrange(1, most + 1))
