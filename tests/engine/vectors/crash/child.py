"""Started by the crash test: per line of its input it forks a process that writes to a collection until it is killed.

Forking spares each round the start of an interpreter. Nothing here has started a thread before it forks.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk
from engine.vectors import collection as collection_module
from engine.vectors import indexer as indexer_module
from engine.vectors.collection import Collection
from engine.vectors.filter import Filter, Match
from engine.vectors.query import DenseLeg, Leg, Query, SparseLeg, TextLeg
from engine.vectors.search import search
from engine.vectors.warming import warm_kernels
from tests.engine.vectors.crash.operations import THREADS, Operation, chosen, do
from tests.engine.vectors.crash.points import SPEC, batch, directions


@dataclass(frozen=True, slots=True)
class Orders:
    """One round. `numbers`: of each thread's next operation. It is killed after `kill_after_s` at the latest; or it kills itself
    at the `calls`-th call to the disk that is about a path with `target` in it. `haste`: how much faster idle times pass."""

    folder: str
    seed: int
    numbers: list[int]
    kill_after_s: float
    target: str | None = None
    calls: int = 0
    haste: int = 1


class FatalDisk(Disk):
    """Ends the process at a certain call; a write has then written a part, or all."""

    def __init__(self, orders: Orders) -> None:
        self._target, self._left = orders.target, orders.calls
        self._chance = random.Random(orders.seed)
        self._counting = threading.Lock()

    def _is_now(self, path: str) -> bool:
        if self._target is None or self._target not in path:
            return False
        with self._counting:
            self._left -= 1
            return self._left == 0

    def _is_of(self, file: int) -> bool:
        return self._is_now(os.readlink(f"/proc/self/fd/{file}"))

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self._is_of(file):
            whole = b"".join(memoryview(each) for each in buffers)
            os.pwrite(file, whole[: self._chance.randrange(len(whole) + 1)], position)
            _die()
        super().write(file, buffers, position)

    def sync(self, file: int) -> None:
        """Disk."""
        if self._is_of(file):
            _die()
        super().sync(file)

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self._is_now(f"{folder}/"):
            _die()
        super().sync_folder(folder)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tell(kind: str, what: bytes) -> None:
    """One line, whole."""
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(1, kind.encode() + b" " + what[:4000] + b"\n")


def _make_writes_short(source: random.Random) -> None:
    """As a system may do at any time: some writes take less than they are given."""
    whole, guard = os.pwritev, threading.Lock()

    def pwritev(file: int, buffers: Sequence[bytes | memoryview], position: int) -> int:
        with guard:
            short = source.random() < 0.2
            share = source.random()
        joined = b"".join(buffers)
        return whole(file, [joined[: max(1, int(share * len(joined)))]] if short and joined else buffers, position)

    os.pwritev = pwritev  # type: ignore[assignment]


def write_for_ever(orders: Orders) -> None:
    """Tells "will" before each operation and "did" after it, with the points it changed."""
    source = random.Random(orders.seed)
    _make_writes_short(random.Random(orders.seed))
    small = functools.partial(LocalLogSpec, segment_bytes=source.choice([16 << 10, 64 << 10]))
    collection_module.LocalLogSpec = small  # type: ignore[attr-defined,assignment]
    indexer_module.REPLAY_ROWS_MAX = source.choice([300, 65_536])  # type: ignore[misc]
    folder = Path(orders.folder)
    first = not (folder / "c" / "manifest.json").exists()
    collection = Collection(
        "crash", folder / "c", SPEC if first else None, disk=FatalDisk(orders), clock=lambda: time.monotonic_ns() * orders.haste
    )  # fmt: skip
    tell("open", str(collection.view.count).encode())
    threads = [threading.Thread(target=_work, args=(collection, orders, each)) for each in range(THREADS)]
    threads.append(threading.Thread(target=_search, args=(collection, orders)))
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def _work(collection: Collection, orders: Orders, thread: int) -> None:
    source, number = random.Random(orders.seed * THREADS + thread), orders.numbers[thread]
    try:
        while True:
            it = chosen(thread, number, source)
            tell("will", it.told)
            count = do(collection, it, Path(orders.folder))
            tell("did", b"%d %d" % (thread, count))
            if it.kind == "upsert":
                _check_shown(collection, it)
            if collection.indexer.problem is not None:
                tell("wrong", repr(collection.indexer.problem).encode())
            number += 1
    except BaseException:
        tell("wrong", repr(traceback.format_exc()).encode())


def _check_shown(collection: Collection, it: Operation) -> None:
    """What was written is seen at once."""
    found = {each.id: each.payload["n"] for each in collection.get(it.ids, payload=("n",))}
    assert found == dict.fromkeys(it.ids, it.number), f"{it}, found {found}"


def _search(collection: Collection, orders: Orders) -> None:
    """Whatever goes on, searches are answered."""
    source = random.Random(orders.seed)
    words = [f"w{at}" for at in range(13)] + [f"v{at}" for at in range(7)]
    try:
        while True:
            legs: list[Leg] = [
                DenseLeg("v", directions([1], [source.randrange(99)])[0]),
                SparseLeg("s", np.array([source.randrange(80)], np.uint32), np.ones(1, np.float32)),
                TextLeg("body", source.choice(words)),
            ]
            filter_ = Filter.of(Match("tag", f"g{source.randrange(5)}"), SPEC) if source.random() < 0.3 else None
            query = Query((source.choice(legs),), 10, filter=filter_)
            view = collection.view
            time.sleep(source.choice([0.001, 0.01, 0.03]))
            found = (search(view, query) if source.random() < 0.7 else collection.search(query)).hits
            assert len({each.id for each in found}) == len(found), found
    except BaseException:
        tell("wrong", repr(traceback.format_exc()).encode())


def main() -> None:
    """Orders in, one a line; what the child tells out, then "dead"."""
    import faiss  # noqa: F401  loaded once

    warm_kernels()
    batch([1, 2], 3)  # pyarrow looks for pandas at the first array: a second that no child shall spend again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin.buffer:
        orders = msgspec.json.decode(line, type=Orders)
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(orders)
            except BaseException:
                tell("wrong", repr(traceback.format_exc()).encode())
            os._exit(1)
        signal.sigtimedwait({signal.SIGCHLD}, orders.kill_after_s)
        os.kill(child, signal.SIGKILL)  # ours until it is waited for
        os.waitpid(child, 0)
        signal.sigtimedwait({signal.SIGCHLD}, 0)  # this one's, unless it was taken before
        tell("dead", b"")


if __name__ == "__main__":
    main()
