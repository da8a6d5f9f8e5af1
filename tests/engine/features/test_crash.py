"""kill -9 at random moments, files torn besides: what was acknowledged is there, and the state is that of an unbroken run.

VIREO_CRASHES says how often (25).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa

from engine import Chunk, Spec, parse_spec
from engine.features.compilation import compile_view
from engine.log.local import LocalLog
from engine.log.log import Offsets
from engine.log.schema import arrow_schema
from tests.engine.features.crash_child import run
from tests.engine.features.crash_events import CARDS, SPEC
from tests.engine.features.oracle import MISSING, PRESENT, STALE, Oracle, near
from tests.engine.features.running import START_US, running

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload([run.__module__])
CRASHES = int(os.environ.get("VIREO_CRASHES", "25"))
CRASHES_A_LOG = 5
SEED = int(os.environ.get("VIREO_SEED", "4"))
STATUSES = {PRESENT: 0, MISSING: 1, STALE: 2}


def _crash(folder: Path, draw: random.Random) -> int:
    """Runs a child over `folder` and kills it at a random moment; the end of what it had acknowledged."""
    ours, theirs = FORKS.Pipe(duplex=False)
    child = FORKS.Process(target=run, args=(folder, draw.randrange(1 << 30), theirs))
    child.start()
    theirs.close()
    acknowledged = 0
    with suppress(EOFError):
        for _ in range(draw.randrange(30)):  # 0: while it restores
            acknowledged = ours.recv()
        time.sleep(draw.random() * 0.003)  # at any moment, also amid a write
        child.kill()
        while True:  # what it had said before it died
            acknowledged = ours.recv()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    return acknowledged


def _tear(folder: Path, draw: random.Random) -> None:
    """What a power cut may leave besides: half a write after the log's end, a snapshot cut short or damaged, a draft."""
    if draw.random() < 0.5:
        newest = max((folder / "log").glob("*.segment"))
        with newest.open("ab") as file:
            file.write(draw.randbytes(draw.choice((1, 10, 100, 5_000))) if draw.random() < 0.7 else bytes(4096))
    snapshots = sorted((folder / "snapshots").glob("*.snapshot"), key=lambda path: path.name)
    if snapshots and draw.random() < 0.5:
        data = bytearray(snapshots[-1].read_bytes())
        if draw.random() < 0.5:
            data[draw.randrange(len(data) - 1_000, len(data))] ^= 0x40
        else:
            del data[draw.randrange(len(data)) :]
        snapshots[-1].write_bytes(data)
    if draw.random() < 0.3:
        (folder / "snapshots" / f".x.{draw.randrange(1000)}.draft").write_bytes(draw.randbytes(100))


class _Anew:
    """Owner that reads everything."""

    def assigned(self, partitions: Collection[int]) -> Offsets:
        return {}

    def revoked(self, partitions: Collection[int]) -> None:
        pass


def _log_of(spec: Spec) -> list[Chunk]:
    declared = spec.logs["tx"]
    assert declared.local is not None
    log = LocalLog(declared.local, arrow_schema(declared.schema), spec.path(declared.local.path))
    reader, end = log.reader(_Anew()), log.latest()[0]
    chunks: list[Chunk] = []
    while (chunks[-1].next if chunks else log.earliest()[0]) < end:
        chunks += reader.read(10_000, 1.0)
    reader.close()
    log.close()
    return chunks


class _Judge:
    """The oracle over a log that only grows."""

    def __init__(self, spec: Spec) -> None:
        self._spec, self.read = spec, 0
        schema = arrow_schema(spec.logs["tx"].schema)
        self.oracle = Oracle(compile_view("spending", spec.feature_views["spending"], schema), schema)

    def follow(self) -> None:
        """Judges what was appended since."""
        for chunk in _log_of(self._spec):
            columns = {name: chunk.batch.column(name) for name in chunk.batch.schema.names}
            columns["at"] = columns["at"].cast(pa.int64())
            rows = pa.RecordBatch.from_pydict(columns).to_pylist()
            for number, row in enumerate(rows):
                if chunk.first + number >= self.read:
                    self.oracle.push(0, row, int(chunk.appended_us[number]))
            self.read = max(self.read, chunk.next)


def _check(folder: Path, judge: _Judge, note: str) -> None:
    judge.follow()
    with running(folder, SPEC) as engine:
        view = engine.view("spending")
        statistics = view.statistics()
        verdicts = judge.oracle.verdicts
        assert statistics.offsets.get(0, 0) == judge.read, note
        counted = (statistics.applied, statistics.duplicates, statistics.filtered, statistics.late)
        assert counted == tuple(verdicts[each] for each in ("applied", "duplicate", "filtered", "late")), note
        as_of = judge.oracle.watermarks.get(0, START_US) + 1
        found = view.lookup(pa.array(CARDS), as_of_us=as_of)
        for number, card in enumerate(CARDS):
            wanted = judge.oracle.lookup(card, as_of)
            assert found.status[number] == STATUSES[wanted.status], (note, card)
            for column, name in enumerate(found.names):
                value = found.texts[name][number] if name in found.texts else float(found.values[number, column])
                got = None if value != value else value
                assert near(got, wanted.features[name]), (note, card, name, got, wanted.features[name])


def test_after_a_kill_at_any_moment_the_state_is_that_of_an_unbroken_run(tmp_path: Path) -> None:
    spec = parse_spec(SPEC, folder=tmp_path)
    for crash in range(CRASHES):
        note = f"VIREO_SEED={SEED} crash {crash}"
        draw = random.Random(f"{SEED}/{crash}")
        folder = tmp_path / str(crash // CRASHES_A_LOG)
        if crash % CRASHES_A_LOG == 0:
            spec = parse_spec(SPEC, folder=folder)
            judge = _Judge(spec)
        acknowledged = _crash(folder, draw)
        _tear(folder, draw)
        _check(folder, judge, note)
        assert judge.read >= acknowledged, note
