"""A short life of a store, stopped at every single call to the disk: each step of it is done or not, and the rest goes on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import CollectionSpec, FieldSpec, Unavailable, VectorSpec, VireoError
from engine.vectors.directory import Directory
from engine.vectors.manifest import read_manifest
from engine.vectors.store_folder import StoreFolder
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash_disk import CrashDisk

SPEC = CollectionSpec({"v": VectorSpec(4)})
RESTORED = dataclasses.replace(SPEC, fields={"n": FieldSpec("integer")})

State = tuple[dict[str, CollectionSpec], dict[str, str]]
"""Specs by collection, collections by alias."""


def state(folder: StoreFolder) -> State:
    """What counts; read from the files."""
    return {name: read_manifest(folder.path(name)).spec for name in folder.names()}, dict(folder.aliases)


def life(folder: StoreFolder, snapshot: Path) -> Iterator[None]:
    """Makes two, names them, drops one, restores a new one; yields after each step."""
    folder.make("a", SPEC)
    yield
    folder.write_aliases({"x": "a"})
    yield
    folder.make("b", SPEC)
    yield
    folder.write_aliases({"x": "b", "y": "a"})
    yield
    folder.erase(folder.bury("b"))
    yield
    folder.write_aliases({"y": "a"})
    yield
    folder.replace("c", folder.ready(snapshot, None))
    yield


def replacing(folder: StoreFolder, snapshot: Path) -> Iterator[None]:
    """Restores one in the place of another."""
    folder.make("a", SPEC)
    yield
    folder.replace("a", folder.ready(snapshot, None))
    yield


def lived(place: Path, snapshot: Path, disk: CrashDisk, *, replaces: bool) -> list[State]:
    """The states that were reached."""
    states: list[State] = []
    try:
        folder = StoreFolder(place, disk=disk)
        try:
            states.append(state(folder))
            for _ in (replacing if replaces else life)(folder, snapshot):
                states.append(state(folder))
        finally:
            folder.close()
    except VireoError:
        pass
    finally:
        disk.close()
    return states


def opened(left: Path) -> State:
    """What a new start makes of it, which leaves nothing over and can go on."""
    folder = StoreFolder(left, disk=QuickDisk())
    found = state(folder)
    for part in ("drafts", "restored", "dropped"):
        assert not list((left / part).iterdir())
    folder.make("new", SPEC)
    folder.erase(folder.bury("new"))
    folder.close()
    for name in found[0]:
        Directory(left / "collections" / name, disk=QuickDisk()).close()
    return found


def allowed(states: list[State], at: int) -> list[State]:
    """The step was made or not. A dropped collection's aliases point nowhere, so they do not count."""
    near = states[max(0, at - 1) : at + 1]
    return [(specs, {alias: name for alias, name in aliases.items() if name in specs}) for specs, aliases in near]


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Of a collection of another spec."""
    directory = Directory(tmp_path / "source", RESTORED, disk=QuickDisk())
    directory.snapshot(tmp_path / "snapshot")
    directory.close()
    return tmp_path / "snapshot"


@pytest.mark.parametrize(
    ("replaces", "torn", "seed"),
    [
        (False, False, None),
        (False, True, None),
        (True, False, None),
        (False, False, 1),
        (False, True, 2),
        (False, True, 3),
    ],
    ids=["killed", "killed in a write", "killed while replacing", "power cut 1", "power cut 2", "power cut 3"],
)
def test_stopped_at_any_call_each_step_is_made_or_not(
    replaces: bool, torn: bool, seed: int | None, snapshot: Path, tmp_path: Path
) -> None:
    whole = CrashDisk(tmp_path / "whole", tmp_path / "none", None)
    states = lived(tmp_path / "whole", snapshot, whole, replaces=replaces)
    assert len(states) == (3 if replaces else 8)
    assert states[-1][0].get("a" if replaces else "c") == RESTORED
    seen = []
    for stop in range(whole.calls):
        root, left = tmp_path / "s", tmp_path / "left"
        disk = CrashDisk(root, left, stop, torn=torn, seed=None if seed is None else seed * 1000 + stop)
        disk.trust(snapshot)
        at = len(lived(root, snapshot, disk, replaces=replaces))
        if left.exists():
            found = opened(left)
            assert found in allowed(states, at), f"stopped at call {stop} of {whole.calls}, after state {at - 1}"
            seen.append(found)
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(left, ignore_errors=True)
    assert all(each in seen for each in states[:5] if each[1].keys() <= {"x"})


def test_what_could_not_be_put_in_its_place_is_after_the_next_start(snapshot: Path, tmp_path: Path) -> None:
    whole = CrashDisk(tmp_path / "whole", tmp_path / "none", None)
    lived(tmp_path / "whole", snapshot, whole, replaces=True)
    waiting = 0
    for stop in range(whole.calls):
        place = tmp_path / f"s{stop}"
        disk = CrashDisk(place, tmp_path / f"left{stop}", stop)
        try:
            folder = StoreFolder(place, disk=disk)
        except VireoError:
            continue
        with pytest.raises(Unavailable):
            for _ in replacing(folder, snapshot):
                pass
        restoring = folder.restoring("a")
        folder.close()
        disk.close()
        again = StoreFolder(place, disk=QuickDisk())
        waiting += restoring
        assert not restoring or state(again)[0] == {"a": RESTORED}
        again.close()
    assert waiting
