"""Rounds of the crash test: a process writes and is killed, what it left is opened, and is what it had said."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engine.vectors.collection import Collection
from engine.vectors.filter import Filter, Match
from engine.vectors.locations import ABSENT
from engine.vectors.manifest import MANIFEST
from engine.vectors.query import DenseLeg, Query, SearchParams, SparseLeg, TextLeg
from engine.vectors.snapshot import restore
from engine.vectors.warming import warm_kernels
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.child import Orders
from tests.engine.vectors.crash.operations import IDS, THREADS, Operation, change, operation
from tests.engine.vectors.crash.points import Point, Points, directions, indices_of, rows_of, rows_read
from tests.engine.vectors.plain_collection import living_rows

TARGETS: Final = ("manifest.json", "/segments/", "/alive/", "/codebooks/", "/log-", "/")
LIMIT_S: Final = 2.0
"""Of a round that is to kill itself and may not come to it."""


@dataclass(slots=True)
class Tally:
    """What was seen, for the report."""

    rounds: int = 0
    acknowledged: int = 0
    open_s: list[float] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """What a killed process had half done."""
    snapshots: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.acknowledged} acknowledged operations, {self.snapshots} snapshots; opened in "
            f"{1e3 * float(np.mean(self.open_s)):.0f} ms, at most {1e3 * max(self.open_s):.0f}; {dict(self.left)}"
        )


@contextmanager
def forker() -> Iterator[subprocess.Popen[bytes]]:
    """The process that starts others."""
    command = [sys.executable, "-m", "tests.engine.vectors.crash.child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.terminate()


class Crashes:
    """All rounds, in one folder. `points`: what is there, by thread."""

    def __init__(self, folder: Path, seed: int, forker: subprocess.Popen[bytes]) -> None:
        warm_kernels()
        self.tally = Tally()
        self.points: list[Points] = [{} for _ in range(THREADS)]
        self._folder = folder
        self._source = random.Random(seed)
        self._forker = forker
        self._numbers = [1] * THREADS
        self._snapshots: dict[str, Points | None] = {}
        """What is there of the thread that took it; None: the process may have been killed before it was whole."""

    def round(self) -> None:
        """One."""
        orders = self._orders()
        pending = self._listen(orders)
        self._look_around()
        copy = self._folder / "copy"
        if (self._folder / "c" / MANIFEST).exists():
            shutil.copytree(self._folder / "c", copy)
            try:
                self._check(copy, pending)
            except BaseException as error:
                error.add_note(f"round {self.tally.rounds}: {orders}; in flight: {pending}; see {copy}")
                raise
            shutil.rmtree(copy)
        else:
            assert not any(self.points)
        self._check_snapshots()
        self.tally.rounds += 1

    def _orders(self) -> Orders:
        source, folder = self._source, str(self._folder)
        seed, haste = source.randrange(1 << 30), source.choice([1, 1_000])
        if source.random() < 0.5:
            kill_after_s = source.choice([0.06, 0.3, 0.8]) * source.random()
            return Orders(folder, seed, self._numbers, kill_after_s, haste=haste)
        target = source.choice(TARGETS)
        calls = source.randrange(1, {"manifest.json": 12, "/codebooks/": 4, "/alive/": 24}.get(target, 120))
        return Orders(folder, seed, self._numbers, LIMIT_S, target, calls, haste)

    def _listen(self, orders: Orders) -> dict[int, Operation]:
        """Runs the process, and does to the model what it acknowledges; what was in flight, by thread."""
        told, answers = self._forker.stdin, self._forker.stdout
        assert told is not None
        assert answers is not None
        told.write(msgspec.json.encode(orders) + b"\n")
        told.flush()
        pending: dict[int, Operation] = {}
        for answer in answers:
            kind, _, what = answer.rstrip(b"\n").partition(b" ")
            match kind:
                case b"dead":
                    return pending
                case b"will":
                    it = operation(what)
                    pending[it.thread] = it
                    self._numbers[it.thread] = it.number + 1
                    if it.kind == "snapshot":
                        self._snapshots[f"{it.thread}-{it.number}"] = None
                case b"did":
                    thread, count = map(int, what.split())
                    self._acknowledge(pending.pop(thread), count)
                case b"wrong":
                    raise AssertionError(f"round {self.tally.rounds}, {orders}: {what.decode()}")
        raise AssertionError("the forking process ended")

    def _acknowledge(self, it: Operation, count: int) -> None:
        points = self.points[it.thread]
        new, gone = change(it, points)
        assert count == len(new) + len(gone), f"{it} said {count}, expected {len(new) + len(gone)}"
        points.update(new)
        for each in gone:
            del points[each]
        if it.kind == "snapshot":
            self._snapshots[f"{it.thread}-{it.number}"] = dict(points)
        self.tally.acknowledged += 1

    def _look_around(self) -> None:
        """Notes what was under way when the process was killed."""
        folder, found = self._folder / "c", self.tally.left
        found["segments half written"] += any(folder.glob("segments/*.draft"))
        found["manifests half written"] += any(folder.glob("manifest*.draft"))
        found["other drafts"] += any(folder.glob("[acl]*/*.draft"))
        found["two logs"] += len([*folder.glob("log-*")]) > 1
        found["snapshots half written"] += any(self._folder.glob("*-*.draft"))

    def _check(self, copy: Path, pending: dict[int, Operation]) -> None:
        begun_s = time.perf_counter()
        with Collection("crash", copy, disk=QuickDisk(), background=False) as collection:
            self.tally.open_s.append(time.perf_counter() - begun_s)
            self._resolve(collection, pending)
            check_folder(copy)
            check_answers(collection, self._all(), self._source)
            if self.tally.rounds % 5 == 0:
                while collection.indexer.step(idle=True, long=True):
                    pass
                assert read(collection)[0] == rows_of(self._all())
                check_answers(collection, self._all(), self._source)
        if self.tally.rounds % 5 == 0:
            with Collection("crash", copy, disk=QuickDisk(), background=False) as collection:
                assert read(collection)[0] == rows_of(self._all())

    def _all(self) -> Points:
        return {id_: each for points in self.points for id_, each in points.items()}

    def _resolve(self, collection: Collection, pending: dict[int, Operation]) -> None:
        """What was acknowledged is there; what was in flight may be."""
        rows, vectors = read(collection)
        for thread, points in enumerate(self.points):
            if (it := pending.get(thread)) is not None:
                self.points[thread] = _after(it, points, rows)
        expected = self._all()
        assert rows == rows_of(expected), difference(rows, expected)
        assert collection.view.count == len(expected)
        ids = list(expected)
        if ids:
            whole = directions(ids, [expected[each].version for each in ids])
            assert np.allclose(np.array([vectors[each] for each in ids]), whole, atol=1e-6)

    def _check_snapshots(self) -> None:
        """Those acknowledged are there, and all that are there are whole."""
        there = {each.name for each in self._folder.glob("*-*") if not each.name.endswith(".draft")}
        assert {name for name, points in self._snapshots.items() if points is not None} <= there
        for name in there:
            target = self._folder / "restored"
            restore(self._folder / name, target, disk=QuickDisk())
            with Collection("crash", target, disk=QuickDisk(), background=False) as collection:
                rows, _ = read(collection)
                thread, known = int(name.split("-")[0]), self._snapshots[name]
                if known is not None:
                    own = {id_: row for id_, row in rows.items() if id_ % THREADS == thread}
                    assert own == rows_of(known), f"snapshot {name}: {difference(own, known)}"
            shutil.rmtree(target)
            self.tally.snapshots += 1
        for each in self._folder.glob("*-*"):
            shutil.rmtree(each)
        self._snapshots.clear()


def read(collection: Collection) -> tuple[dict[int, tuple[object, ...]], dict[int, np.ndarray]]:
    """All that it shows."""
    return rows_read(part.points(rows) for part, rows in living_rows(collection.view))


def _after(it: Operation, before: Points, rows: dict[int, tuple[object, ...]]) -> Points:
    """The thread's points, by what is found of the operation in flight."""
    new, gone = change(it, before)
    found = rows_of(new)
    made = {each for each in new if rows.get(each) == found[each]} | {each for each in gone if each not in rows}
    unseen = {each for each in new if before.get(each) == new[each]}
    assert made <= unseen or made == new.keys() | gone, f"half of it: {it}, {sorted(made)}"
    after = {id_: each for id_, each in before.items() if id_ not in gone & made}
    return after | {id_: each for id_, each in new.items() if id_ in made | unseen}


def difference(rows: dict[int, tuple[object, ...]], expected: dict[int, Point]) -> str:
    """What to tell of points that are other than they should be."""
    wanted = rows_of(expected)
    wrong = {each: (rows.get(each), wanted.get(each)) for each in rows | wanted if rows.get(each) != wanted.get(each)}
    return f"{len(wrong)} of {len(wanted)} points differ (found, expected): {dict(list(wrong.items())[:5])}"


def check_folder(folder: Path) -> None:
    """Nothing is left over."""
    assert not list(folder.rglob("*.draft"))
    assert len([*folder.glob("log-*")]) == 1


def check_answers(collection: Collection, points: Points, source: random.Random) -> None:
    """Each kind of question is answered by what is there."""
    every = list(range(2 * IDS * THREADS))
    assert [each.id for each in collection.get(every)] == [each for each in every if each in points]
    _, found = collection._fold.locate(every)
    assert [each for each in every if found[each] != ABSENT] == sorted(points)
    for tag in ("g1", "s2"):
        wanted = sum(each.tag == tag for each in points.values())
        assert collection.count(Filter.of(Match("tag", tag), collection.spec)) == wanted
    for id_ in source.sample(sorted(points), min(8, len(points))):
        _check_found(collection, points, id_)


def _check_found(collection: Collection, points: Points, id_: int) -> None:
    point, k = points[id_], len(points)
    (vector,) = directions([id_], [point.version])
    (best,) = collection.search(Query((DenseLeg("v", vector),), 1, params=SearchParams(exact=True))).hits
    assert best.id == id_
    assert abs(best.score - 1) < 1e-5
    near = collection.search(Query((DenseLeg("v", vector),), min(10, k), params=SearchParams(candidates=200))).hits
    assert near[0].id == id_
    assert len(near) == min(10, k)
    index = indices_of(id_, point.version)[1]
    leg = SparseLeg("s", np.array([index], np.uint32), np.ones(1, np.float32))
    same = {each for each, other in points.items() if index in indices_of(each, other.version)}
    assert {each.id for each in collection.search(Query((leg,), k)).hits} == same
    if point.body is not None:
        word = point.body.split()[1]
        same = {each for each, other in points.items() if other.body is not None and word in other.body.split()}
        assert {each.id for each in collection.search(Query((TextLeg("body", word),), k)).hits} == same
