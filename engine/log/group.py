"""Group commit: what many threads append while one of them is at the disk goes there together next, with one sync.

No thread of its own and no timer: who finds nobody at the disk goes at once, alone; who comes meanwhile waits, and the first
of them takes all that wait (DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from engine.errors import Internal, Unavailable, VireoError

GROUP_BYTES_MAX: Final = 64 << 20
"""A group takes no more once it has so many; one batch may be larger."""


class Pending:
    """An encoded batch on its way to the disk. `first`: its offset, once it is there."""

    __slots__ = ("crc", "error", "first", "leads", "payload", "ready", "rows")

    def __init__(self, payload: pa.Buffer, rows: int, crc: int) -> None:
        self.payload = payload
        self.rows = rows
        self.crc = crc
        self.first = -1
        self.error: BaseException | None = None
        self.leads = False
        self.ready = threading.Lock()
        self.ready.acquire()


class GroupCommit:
    """Calls `commit` with a group at a time, from one thread at a time, in the order of arrival.

    `commit` gives every member its `first`, or raises, and then nobody in the group is acknowledged.
    """

    def __init__(self, name: str, commit: Callable[[Sequence[Pending]], None]) -> None:
        self._name = name
        self._commit = commit
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[Pending] = deque()
        self._busy = False
        self._closed = False

    def submit(self, pending: Pending) -> None:
        """Returns when it is committed; raises what its group's commit raised. Unavailable once closed."""
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self._name}: is closed")
            self._waiting.append(pending)
            leads = not self._busy
            self._busy = True
        if leads or self._wait(pending):
            self._lead()
        if pending.error is not None:
            raise _own(pending.error) from pending.error

    def close(self) -> bool:
        """Takes nothing more and returns when all that was taken is committed; False where it was closed before."""
        with self._lock:
            was, self._closed = self._closed, True
            self._idle.wait_for(lambda: not self._busy)
        return not was

    def _wait(self, pending: Pending) -> bool:
        """Until it is committed, or (True) until it is its turn to lead."""
        try:
            pending.ready.acquire()
        except BaseException:  # an interrupt: who leaves must not take the lead along
            with self._lock:
                if not pending.leads and pending in self._waiting:
                    self._waiting.remove(pending)
            if pending.leads:
                self._lead()
            raise
        return pending.leads

    def _lead(self) -> None:
        group = self._take()
        try:
            self._commit(group)
        except Exception as error:
            for each in group:
                each.error = error
        except BaseException as error:
            for each in group:
                each.error = error
            raise
        finally:
            self._pass_on()
            for each in group:
                if each.ready.locked():  # not of one that was interrupted while it was given the lead
                    each.ready.release()

    def _take(self) -> list[Pending]:
        with self._lock:
            group = [self._waiting.popleft()]
            size = len(group[0].payload)
            while self._waiting and size + len(self._waiting[0].payload) <= GROUP_BYTES_MAX:
                group.append(self._waiting.popleft())
                size += len(group[-1].payload)
        return group

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].ready.release()
            else:
                self._busy = False
                self._idle.notify_all()


def _own(error: BaseException) -> VireoError:
    """An error of one's own: one object raised in several threads would mix their tracebacks."""
    if isinstance(error, VireoError):
        return type(error)(error.message)
    return Internal(f"an append failed: {error!r}")
