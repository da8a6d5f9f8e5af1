"""Segments made in a process beside are those that would be made here; whatever ends it, nothing of an order is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import Internal, TooLarge, Unavailable
from engine.vectors import indexer as indexer_module
from engine.vectors.build_lock import building_in, wait_for_builds
from engine.vectors.build_process import BuildProcess, BuildProcesses
from engine.vectors.building import Codebooks, SegmentOrder, make_segment
from engine.vectors.collection import Collection
from engine.vectors.declaration import IndexSpec, VectorSpec
from engine.vectors.directory import Directory
from engine.vectors.query import DenseLeg, Query
from engine.vectors.sealed import CONTENTS
from engine.vectors.segment import SealedSegment
from engine.vectors.segment_file import FileSum
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.core import SPEC, points

INDEXED = replace(SPEC, vectors={"v": VectorSpec(4, index=IndexSpec(kind="pq"))}, growing_rows=1_024)
ROWS = np.arange(0, 1_200, 3)


@pytest.fixture(scope="module")
def process() -> Iterator[BuildProcess]:
    """One for all tests that leave it running."""
    found = BuildProcess()
    yield found
    found.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    """With one segment of 1,200 rows, number 1."""
    found = Directory(tmp_path / "c", INDEXED, disk=QuickDisk())
    make_segment(
        SegmentOrder(folder_of(found), INDEXED, 0, 1_200), [points(range(1_200), 0, INDEXED)], codebooks(found)
    )
    yield found
    found.close()


def codebooks(directory: Directory) -> Codebooks:
    return Codebooks(directory.new_codebook)


def folder_of(directory: Directory) -> Path:
    """Of the next segment."""
    return directory.segment_folder(directory.reserve())


def order(directory: Directory) -> SegmentOrder:
    """A third of segment 1."""
    return SegmentOrder(folder_of(directory), INDEXED, 0, 1_300, [(directory.hold(1), ROWS)])


def files_of(segment: SealedSegment) -> dict[str, FileSum]:
    """But for the one that names the codebook, of which each made its own."""
    return {each.file: each for each in segment.description.all_files if each.file != CONTENTS}


def test_a_segment_made_beside_is_the_one_that_would_be_made_here(process: BuildProcess, directory: Directory) -> None:
    given = [points(range(2_000, 2_100), 7, INDEXED), points(range(3_000, 3_001), 8, INDEXED)]
    here, beside = codebooks(directory), codebooks(directory)
    one = make_segment(order(directory), given, here)
    other = process.make_segment(order(directory), given, beside)
    assert files_of(one) == files_of(other)
    assert (other.rows, other.description.first, other.description.next) == (501, 0, 1_300)
    assert other.points(INDEXED, np.arange(501)).equals(one.points(INDEXED, np.arange(501)))
    stored = directory.folder / "codebooks" / beside.files["v"].file
    assert beside.known["v"].encoded() == here.known["v"].encoded() == stored.read_bytes()


def test_a_known_codebook_is_used_beside_too(process: BuildProcess, directory: Directory) -> None:
    known = codebooks(directory)
    process.make_segment(order(directory), (), known)
    before = dict(known.files)
    process.make_segment(order(directory), (), known)
    assert known.files == before


def test_an_order_that_fails_says_why_and_the_process_lives_on(process: BuildProcess, directory: Directory) -> None:
    wrong = points(range(5), 0, INDEXED).select(["id"])
    with pytest.raises(Internal, match=r"could not be built: Traceback"):
        process.make_segment(order(directory), [wrong, wrong], codebooks(directory))
    huge = order(directory)
    (directory.folder / "segments" / (huge.folder.name + ".draft")).write_text("in the way")
    with pytest.raises(Unavailable, match="write the segment"):
        process.make_segment(huge, (), codebooks(directory))
    assert process.make_segment(order(directory), (), codebooks(directory)).rows == len(ROWS)
    assert not list((directory.folder / "segments").glob("000000000[23]*/"))


def test_what_is_given_may_fail_here(directory: Directory) -> None:
    def given() -> Iterator[pa.RecordBatch]:
        yield points(range(5), 0, INDEXED)
        raise TooLarge("no more")

    process = BuildProcess()
    with pytest.raises(TooLarge, match="no more"):
        process.make_segment(order(directory), given(), codebooks(directory))
    assert process.code is not None


def test_a_process_that_is_killed_fails_its_order_and_another_follows(directory: Directory) -> None:
    processes = BuildProcesses(1)
    assert processes.make_segment(order(directory), (), codebooks(directory)) is not None
    killed = processes._free[0]

    def given() -> Iterator[pa.RecordBatch]:
        yield points(range(5), 0, INDEXED)
        assert processes.make_segment(order(directory), (), codebooks(directory)) is None, "it is lent"
        os.kill(killed._process.pid, signal.SIGKILL)
        yield points(range(5, 9), 0, INDEXED)

    number = directory.reserve()
    doomed = SegmentOrder(directory.segment_folder(number), INDEXED, 0, 9)
    with pytest.raises(Unavailable, match=r"the process that built 00000000\d\d ended with code -9"):
        processes.make_segment(doomed, given(), codebooks(directory))
    directory.discard(number)
    assert not list((directory.folder / "segments").glob(f"{doomed.folder.name}*"))
    assert processes.make_segment(order(directory), (), codebooks(directory)) is not None
    idle = processes._free[0]
    os.kill(idle._process.pid, signal.SIGKILL)
    assert processes.make_segment(order(directory), (), codebooks(directory)) is not None
    assert processes._free[0] is not idle
    processes.close()


def test_a_codebook_of_an_order_that_failed_is_not_made_again_by_the_next_try(
    process: BuildProcess, directory: Directory
) -> None:
    made = codebooks(directory)
    for _ in range(2):
        doomed = order(directory)
        (doomed.folder / "in the way").mkdir(parents=True)
        with pytest.raises(Unavailable, match="seal the segment"):
            process.make_segment(doomed, (), made)
    assert len(list((directory.folder / "codebooks").iterdir())) == 2, "that of segment 1 and this one"
    assert process.make_segment(order(directory), (), made).rows == len(ROWS)


def test_what_the_working_folder_has_is_not_taken_for_ours(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    processes = BuildProcesses(1)
    assert processes.make_segment(order(directory), (), codebooks(directory)) is not None
    processes.close()


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_where_no_process_can_be_started_or_none_comes_up_the_caller_builds(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    processes = BuildProcesses(1)
    for _ in range(2):
        assert processes.make_segment(order(directory), (), codebooks(directory)) is None


def test_whoever_opens_a_folder_waits_for_a_build_there(tmp_path: Path) -> None:
    wait_for_builds(tmp_path)
    with building_in(tmp_path):
        with pytest.raises(Unavailable, match=r"has not ended within 0\.05 s"):
            wait_for_builds(tmp_path, 0.05)
        waiting = threading.Thread(target=wait_for_builds, args=(tmp_path,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(10.0)
    assert not waiting.is_alive()


def test_a_collection_whose_segments_are_made_beside_is_as_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_module, "WORTH_BYTES", 0)
    used: list[Path] = []
    make = BuildProcess.make_segment

    def counted(self: BuildProcess, order: SegmentOrder, *rest: object) -> object:
        used.append(order.folder)
        return make(self, order, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(BuildProcess, "make_segment", counted)
    with Collection("c", tmp_path / "c", INDEXED) as collection:
        for begin in range(0, 6_000, 500):
            collection.upsert(points(range(begin, begin + 500), begin, INDEXED))
            collection.delete(list(range(begin, begin + 500, 7)))
        assert collection.wait_indexed(60.0)
        assert collection.indexer.problem is None
        assert used
        living = sorted(
            set(range(6_000)) - {each for begin in range(0, 6_000, 500) for each in range(begin, begin + 500, 7)}
        )
        assert [each.id for each in collection.get(living)] == living
        query = Query((DenseLeg("v", np.array([1, 0, 0, 0], np.float32)),), 10)
        found = collection.search(query).hits
    with Collection("c", tmp_path / "c") as collection:
        assert collection.view.count == len(living)
        assert collection.search(query).hits == found


WRITER = """
import sys
from pathlib import Path
from engine.vectors import indexer
from engine.vectors.collection import Collection
from tests.engine.vectors.core import points
from tests.engine.vectors.test_build_process import INDEXED

indexer.WORTH_BYTES = 0
with Collection("c", Path(sys.argv[1]), INDEXED) as collection:
    begin = int(sys.argv[2])
    while True:
        collection.upsert(points(range(begin, begin + 100), 0, INDEXED))
        begin += 100
        print(begin, flush=True)
"""


def test_a_server_killed_while_a_segment_is_made_beside_leaves_all_it_acknowledged(tmp_path: Path) -> None:
    source, done = random.Random(5), 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "c"), str(done)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        said: list[str] = []
        reading = threading.Thread(target=said.extend, args=(iter(writer.stdout.readline, ""),))
        reading.start()
        until = time.monotonic() + 60.0
        while not list((tmp_path / "c" / "segments").glob("*.draft/")) and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(source.random() * 0.05)
        writer.kill()
        writer.wait()
        with Collection("c", tmp_path / "c", background=False) as collection:
            reading.join()
            done = max(done, int(said[-1]) if said else 0)
            assert [each.id for each in collection.get(list(range(done)))] == list(range(done))
            assert not list((tmp_path / "c" / "segments").glob("*.draft"))
            done = collection.view.count
