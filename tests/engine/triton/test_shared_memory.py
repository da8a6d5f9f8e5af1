"""Regions of shared memory, and a connection's pool of them, beside a server that maps them and says what Triton says."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from engine.errors import Internal, Unavailable
from engine.triton.http2 import only_message
from engine.triton.regions import Regions
from engine.triton.shared_memory import FOLDER, Owner, Region, ownerless, remove_ownerless
from tests.fakes import PATIENCE_S, ManualClock

MIB = 1 << 20


class Server:
    """Maps regions of a folder. `in_use` are kept; `version` and `sees` are what it tells of itself and where it looks."""

    def __init__(self, sees: Path) -> None:
        self.sees, self.version, self.away = sees, "2.51.0", False
        self.mapped: dict[str, mmap.mmap] = {}
        self.in_use: set[str] = set()
        self.asked: list[str] = []

    def ask(self, method: str, body: bytes) -> bytes:
        self.asked.append(method)
        if self.away:
            raise Unavailable("no answer")
        request = getattr(pb, f"{method}Request").FromString(only_message([body]))
        answer = getattr(pb, f"{method}Response")()
        if method == "ServerMetadata":
            answer.version = self.version
            answer.extensions.append("system_shared_memory")
        elif method == "SystemSharedMemoryRegister":
            self._register(request.name, request.key, request.byte_size)
        elif method == "SystemSharedMemoryStatus":
            for name in self.mapped:
                answer.regions[name].name = name
        else:
            if request.name in self.in_use:
                raise Internal(f"Cannot unregister shared memory region '{request.name}', it is currently in use.")
            self.mapped.pop(request.name, None)
        return bytes(answer.SerializeToString())

    def _register(self, name: str, key: str, size: int) -> None:
        try:
            file = os.open(self.sees / key.removeprefix("/"), os.O_RDWR)
        except FileNotFoundError:
            raise Internal(f"Unable to open shared memory region: '{key}'") from None
        self.mapped[name] = mmap.mmap(file, size)
        os.close(file)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where regions lie."""
    with tempfile.TemporaryDirectory(prefix="vireo-test-", dir=FOLDER) as made:
        yield Path(made)


@pytest.fixture
def server(folder: Path) -> Server:
    return Server(folder)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def regions(server: Server, folder: Path, clock: ManualClock) -> Regions:
    """Of 4 MiB at most."""
    return Regions("one:8001", server.ask, clock, bytes_max=4 * MIB, folder=folder)


def when(so: Callable[[], object]) -> None:
    """Returns when it is so; fails after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < until
        time.sleep(0.005)


def taken(regions: Regions, size: int) -> Region:
    """One that is made for this, since none is free."""
    assert regions.take(size) is None
    when_idle()
    found = regions.take(size)
    assert found is not None
    return found


def when_idle() -> None:
    """Returns when nothing is made or unregistered any more."""
    when(lambda: not any(each.name == "vireo-triton-regions" for each in threading.enumerate()))


def test_what_is_written_to_a_region_is_seen_by_who_mapped_it_and_its_name_is_gone(
    server: Server, folder: Path, regions: Regions
) -> None:
    region = taken(regions, 3 * MIB)
    assert region.size == 4 * MIB
    region.contents[:4] = (1, 2, 3, 4)
    assert server.mapped[region.name][:4] == b"\1\2\3\4"
    assert regions.take(1) is None  # it is one call's
    regions.close(unregister=True)
    assert list(folder.iterdir()) == []


def test_a_region_that_the_server_may_use_is_nobodys_until_it_lets_go(server: Server, regions: Regions) -> None:
    given_up = taken(regions, MIB)
    server.in_use.add(given_up.name)
    regions.retire(given_up)
    when(lambda: "SystemSharedMemoryUnregister" in server.asked)
    assert regions.bytes == MIB
    assert regions.take(MIB) is None
    when(lambda: len(server.mapped) == 2)
    server.in_use.clear()
    when_idle()
    assert given_up.name not in server.mapped
    assert regions.bytes == MIB
    regions.close(unregister=True)


def test_all_together_are_bounded_and_small_ones_give_way_to_large_ones(
    server: Server, regions: Regions, clock: ManualClock
) -> None:
    assert regions.take(5 * MIB) is None
    assert server.asked == []
    small = taken(regions, MIB)
    assert regions.take(4 * MIB) is None
    when_idle()
    assert list(server.mapped) == [small.name]  # a call has it
    regions.give_back(small)
    assert regions.take(4 * MIB) is None
    when_idle()
    assert list(server.mapped) == [small.name]  # it was full a moment ago
    clock.advance(0.2)
    large = taken(regions, 4 * MIB)
    assert list(server.mapped) == [large.name]
    assert regions.bytes == 4 * MIB
    regions.close(unregister=True)
    assert regions.take(MIB) is None


@pytest.mark.parametrize("why", ["elsewhere", "old", "away"])
def test_a_server_that_does_not_share_is_left_alone_for_a_while(
    server: Server,
    folder: Path,
    regions: Regions,
    clock: ManualClock,
    tmp_path_factory: pytest.TempPathFactory,
    why: str,
) -> None:
    server.sees = tmp_path_factory.mktemp("other") if why == "elsewhere" else folder
    server.version = "2.49.0" if why == "old" else "2.51.0"
    server.away = why == "away"
    assert regions.take(MIB) is None
    when_idle()
    asked = len(server.asked)
    assert regions.take(MIB) is None
    when_idle()
    assert len(server.asked) == asked
    assert regions.bytes == 0
    server.sees, server.version, server.away = folder, "2.51.0", False
    clock.advance(11)
    taken(regions, MIB)
    regions.close(unregister=True)
    assert list(folder.iterdir()) == []


def test_regions_that_the_server_forgot_are_not_used_again(server: Server, regions: Regions) -> None:
    regions.give_back(taken(regions, MIB))
    server.mapped.clear()
    regions.forgotten()
    when_idle()
    assert regions.bytes == 0
    assert regions.take(MIB) is None
    regions.close(unregister=True)


def test_what_a_killed_process_left_is_told_from_what_lives_and_goes_with_the_next_region(
    server: Server, folder: Path, regions: Regions
) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from engine.triton.shared_memory import Owner
print(Owner(Path(sys.argv[1])).region(1 << 20).name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    left = subprocess.run([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, check=False)
    name = left.stdout.decode().strip()
    assert left.returncode == -9
    assert ownerless(name, folder)
    server._register(name, f"/{name}", MIB)
    neighbour = Owner(folder)
    live = neighbour.region(MIB)
    server._register(live.name, f"/{live.name}", MIB)
    server.mapped["somebody-else"] = server.mapped[live.name]
    taken(regions, MIB)
    assert name not in server.mapped
    assert not ownerless(live.name, folder)
    assert {live.name, "somebody-else"} < server.mapped.keys()
    assert not (folder / name).exists()
    assert (folder / live.name).exists()
    regions.close(unregister=True)
    neighbour.close()
    remove_ownerless(folder)
    assert list(folder.iterdir()) == []


def test_no_region_is_made_that_would_fill_half_of_the_shared_memory() -> None:
    told = os.statvfs(FOLDER)
    owner = Owner()
    with pytest.raises(OSError, match="more than half full"):
        owner.region(told.f_blocks * told.f_frsize)
    owner.close()
    assert not list(FOLDER.glob(f"{owner.name}*"))


def test_a_server_that_is_away_keeps_what_it_has_until_another_process_finds_it(
    server: Server, folder: Path, regions: Regions
) -> None:
    regions.give_back(taken(regions, MIB))
    server.away = True
    regions.close(unregister=True)
    assert server.asked.count("SystemSharedMemoryUnregister") == 1
    assert ownerless(next(iter(server.mapped)), folder)
