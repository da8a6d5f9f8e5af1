"""Segments made in a process beside: what is large there would keep the interpreter, and so searches, waiting here.

A process is started when there is much to do, serves one order after another, and ends by itself when nothing comes, or with the
process that started it. Segments are files, so an order says where they are; only rows that grow and codebooks are sent. If it
dies, the order fails as Unavailable and nothing of it is left.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import Unavailable, VireoError, error_of_kind
from engine.kinds import decodable
from engine.log.payload_arrow import arrow_stream
from engine.process_beside import started_beside
from engine.vectors.build_lock import building_in
from engine.vectors.building import Codebooks, SegmentOrder, make_segment
from engine.vectors.codebook import Codebook
from engine.vectors.declaration import CollectionSpec
from engine.vectors.segment import SealedSegment
from engine.vectors.segment_file import FileSum

log = logging.getLogger("vireo.vectors")

WORTH_BYTES: Final = 8 << 20
"""Of rows; fewer are built here. An order that is sent costs 2 ms, a process 1.5 s of CPU to start and 150 MB."""
IDLE_S: Final = 60.0
NICE: Final = 10
_EXPENDABLE: Final = "500"
"""Where memory is short, this process goes before the one that serves."""

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    folder: str
    spec: bytes
    first: int
    next: int
    sources: list[tuple[str, Longs]]
    codebooks: dict[str, tuple[FileSum, bytes]]


@dataclass(frozen=True, slots=True)
class _NewCodebook:
    content: bytes


@dataclass(frozen=True, slots=True)
class _Done:
    codebooks: Mapping[str, FileSum]


@dataclass(frozen=True, slots=True)
class _Failed:
    """`codebooks`: as of _Done; what is trained counts though the order fails, else each try would store another."""

    kind: str
    message: str
    codebooks: Mapping[str, FileSum]


class BuildProcess:
    """One process, running. One order at a time. Raises OSError where it cannot be started."""

    def __init__(self) -> None:
        alive, self._lifeline = os.pipe()  # the process ends when the other end is closed, by whatever cause
        try:
            self._process, self._connection = started_beside(__name__, alive, os.getpid(), pass_fds=[alive])
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(alive)

    @property
    def code(self) -> int | None:
        """What it ended with, negative a signal; None while it runs."""
        return self._process.poll()

    def reserved(self) -> bool:
        """Whether it has come up and still runs, and then will until it got an order."""
        try:
            self._connection.send(None)
            self._connection.recv()
        except (EOFError, OSError):
            return False
        return True

    def make_segment(self, order: SegmentOrder, given: Iterable[pa.RecordBatch], codebooks: Codebooks) -> SealedSegment:
        """As `building.make_segment`. It has ended, and nothing of the order goes on, if anything but a VireoError of the order
        is raised; Unavailable where it died."""
        try:
            answer = self._ordered(order, given, codebooks)
        except (EOFError, OSError) as error:
            self.close()
            raise Unavailable(f"the process that built {order.folder.name} ended with code {self.code}") from error
        except BaseException:
            self.close()
            raise
        if isinstance(answer, _Failed):
            raise error_of_kind(answer.kind)(answer.message)
        return SealedSegment.open(order.folder, checked=True)

    def _ordered(self, order: SegmentOrder, given: Iterable[pa.RecordBatch], codebooks: Codebooks) -> _Done | _Failed:
        known = {name: (codebooks.files[name], each.encoded()) for name, each in codebooks.known.items()}
        sources = [(str(segment.folder), rows) for segment, rows in order.sources]
        spec = msgspec.json.encode(order.spec)
        self._connection.send(_Sent(str(order.folder), spec, order.first, order.next, sources, known))
        for batch in given:
            self._connection.send_bytes(memoryview(arrow_stream(batch)))
        self._connection.send_bytes(b"")
        new: dict[str, bytes] = {}
        while isinstance(answer := self._received(), _NewCodebook):
            stored = codebooks.store(answer.content)
            new[stored.file] = answer.content
            self._connection.send(stored)
        for name, each in answer.codebooks.items():
            if each.file in new:
                codebooks.files[name], codebooks.known[name] = each, Codebook.decoded(new[each.file], each.file)
        return answer

    def _received(self) -> _NewCodebook | _Done | _Failed:
        answer: _NewCodebook | _Done | _Failed = self._connection.recv()
        return answer

    def close(self) -> None:
        """Ends it at once, and returns when it has ended."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        with suppress(OSError):
            os.close(self._lifeline)


class BuildProcesses:
    """Those of this process. At most `most` run; where all are busy, or none can be started, the caller builds by itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._free: list[BuildProcess] = []
        self._lent = 0

    def make_segment(
        self, order: SegmentOrder, given: Iterable[pa.RecordBatch], codebooks: Codebooks
    ) -> SealedSegment | None:
        """As BuildProcess.make_segment; None where there is none for it."""
        if (process := self._taken()) is None:
            return None
        try:
            return process.make_segment(order, given, codebooks)
        finally:
            with self._lock:
                self._lent -= 1
                if process.code is None:
                    self._free.append(process)

    def _taken(self) -> BuildProcess | None:
        with self._lock:
            if self._lent >= self._most:
                return None
            self._lent += 1
            while self._free:
                if (process := self._free.pop()).reserved():
                    return process
                process.close()
        try:
            process = BuildProcess()
            if process.reserved():
                return process
            process.close()
            problem = f"it ended with code {process.code}"
        except OSError as error:
            problem = str(error)
        log.warning("no process beside can be started, segments are built in this one: %s", problem)
        with self._lock:
            self._lent -= 1
        return None

    def close(self) -> None:
        """Ends those that are free."""
        with self._lock:
            free, self._free = self._free, []
        for each in free:
            each.close()


PROCESSES: Final = BuildProcesses(max(1, (os.cpu_count() or 1) // 2))


# In the process.


def main(connection: int, lifeline: int, parent: int) -> None:
    """Serves orders that come by the socket `connection` until none came for IDLE_S, or the pipe `lifeline` is closed by the
    process `parent`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it is told by the lifeline when to end
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    with suppress(OSError):
        os.nice(NICE)
        Path("/proc/self/oom_score_adj").write_text(_EXPENDABLE)
    orders = Connection(connection)
    with suppress(EOFError, OSError):
        while orders.poll(IDLE_S):
            if (sent := orders.recv()) is None:
                orders.send(None)  # it is reserved: it waits now for as long as it takes
                sent = orders.recv()
            orders.send(_answer(sent, orders, parent))


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def _answer(sent: _Sent, orders: Connection, parent: int) -> _Done | _Failed:
    given, codebooks = _Given(orders), _codebooks(sent, orders)
    try:
        with building_in(Path(sent.folder).parents[1]):
            if os.getppid() != parent:  # it ended before the lock was held: another may have opened the folder
                os._exit(1)
            sources = [(SealedSegment.open(Path(folder), checked=True), rows) for folder, rows in sent.sources]
            spec = msgspec.json.decode(sent.spec, type=decodable(CollectionSpec))
            make_segment(SegmentOrder(Path(sent.folder), spec, sent.first, sent.next, sources), given, codebooks)
            return _Done(codebooks.files)
    except VireoError as error:
        return _Failed(type(error).__name__, error.message, codebooks.files)
    except Exception:
        told = f"{Path(sent.folder).name} could not be built: {traceback.format_exc()}"
        return _Failed("Internal", told, codebooks.files)
    finally:
        given.drain()


def _codebooks(sent: _Sent, orders: Connection) -> Codebooks:
    def store(content: bytes) -> FileSum:
        orders.send(_NewCodebook(content))
        stored: FileSum = orders.recv()
        return stored

    files = {name: file for name, (file, _) in sent.codebooks.items()}
    known = {name: Codebook.decoded(content, file.file) for name, (file, content) in sent.codebooks.items()}
    return Codebooks(store, files, known)


class _Given:
    """The batches that follow an order."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders
        self._more = True

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while self._more:
            if content := self._orders.recv_bytes():
                yield pa.ipc.open_stream(content).read_next_batch()
            else:
                self._more = False

    def drain(self) -> None:
        """Those that nobody took."""
        for _ in self:
            pass
