"""The life of a collection, stopped at its calls to the disk: what opens is the state before or after the step under way.

VIREO_CRASH_ROUNDS of 200 or more asks for every single call.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from engine.vectors.collection import Collection
from engine.vectors.snapshot import restore
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.every_call import EveryCallDisk
from tests.engine.vectors.crash.life import LIFE, SPEC, Living
from tests.engine.vectors.crash.points import Points, batch, point, rows_of
from tests.engine.vectors.crash.rounds import check_answers, check_folder, read

STRIDE = 1 if int(os.environ.get("VIREO_CRASH_ROUNDS", "0")) >= 200 else 31


def opened(folder: Path) -> Collection:
    """What was left, on a good disk."""
    there = (folder / "manifest.json").exists()
    return Collection("left", folder, None if there else SPEC, disk=QuickDisk(), background=False)


def goes_on(folder: Path, there: Points) -> None:
    """It can be written to, and comes to rest, and is the same when it is opened again."""
    with opened(folder) as collection:
        collection.upsert(batch([7], 99))
        collection.delete([7])
        while collection.indexer.step(idle=True, long=True):
            pass
        assert read(collection)[0] == rows_of(there)
        check_answers(collection, there, random.Random(1))
    with opened(folder) as collection:
        assert read(collection)[0] == rows_of(there)


@pytest.mark.parametrize("seed", [None, 1, 2], ids=["killed, writes torn", "power cut 1", "power cut 2"])
def test_stopped_at_any_call_a_collection_opens_as_before_or_after(seed: int | None, tmp_path: Path) -> None:
    root, left = tmp_path / "r", tmp_path / "left"
    root.mkdir()
    seen = {"before": 0, "after": 0}

    def look(call: int) -> None:
        try:
            with opened(left / "c") as collection:
                there = living.check(collection)
                check_folder(left / "c")
            seen["before" if there is living.before else "after"] += 1
            for each in left.glob("0-*"):
                if not each.name.endswith(".draft"):
                    restore(each, left / "restored", disk=QuickDisk())
                    opened(left / "restored").close()
            if seen["before"] % 5 == 0:
                goes_on(left / "c", there)
        except BaseException as error:
            error.add_note(f"stopped at call {call}, in {living.pending}")
            raise

    disk = EveryCallDisk(root, left, look, stride=STRIDE, first=seed or 0, seed=seed)
    living = Living(root, disk)
    with living.open() as collection:
        for step in LIFE:
            living.do(collection, step)
            assert living.check(collection) is living.before
    disk.close()
    assert seen["before"] > 10
    assert seen["after"] or STRIDE > 1
    assert disk.calls > 300


@pytest.mark.parametrize("seed", [3, 4])
def test_where_writes_are_not_synced_a_power_cut_leaves_a_state_that_was(seed: int, tmp_path: Path) -> None:
    root, left = tmp_path / "r", tmp_path / "left"
    root.mkdir()
    states: list[Points] = [{}]
    found: list[int] = []

    def look(call: int) -> None:
        with opened(left / "c") as collection:
            rows, _ = read(collection)
        found.append(next(at for at, each in enumerate(states) if rows == rows_of(each)))
        assert found[-1] >= synced, (
            f"stopped at call {call}: state {found[-1]} of {len(states)}, {synced} was committed"
        )

    disk = EveryCallDisk(root, left, look, stride=STRIDE, first=seed, seed=seed)
    synced = 0
    with Collection("c", root / "c", replace(SPEC, durability="os"), disk=disk, background=False) as collection:
        for version in range(1, 9):
            ids, gone = range(version * 150, version * 150 + 310), [version * 150 + 3, 90]
            states.append(states[-1] | {each: point(each, version) for each in ids})
            collection.upsert(batch(ids, version))
            states.append({each: one for each, one in states[-1].items() if each not in gone})
            collection.delete(gone)
            while collection.indexer.step(idle=version % 2 == 0):
                synced = len(states) - 1
    disk.close()
    assert len(set(found)) > 2
