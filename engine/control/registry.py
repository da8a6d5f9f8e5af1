"""What is loaded now: an immutable snapshot that requests look up, and handles that count who uses what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.errors import NotFound, Unavailable, nearest, quoted

Hosted = TypeVar("Hosted")


class Handle(Generic[Hosted]):
    """One loaded version and the count of its users. It is given back when retired and unused. Thread-safe."""

    __slots__ = ("_lock", "_on_idle", "_retired", "_users", "hosted", "name", "version")

    def __init__(self, name: str, version: int, hosted: Hosted, on_idle: Callable[[], None]) -> None:
        self.name = name
        self.version = version
        self.hosted = hosted
        self._on_idle = on_idle
        self._users = 0
        self._retired = False
        self._lock = threading.Lock()

    def acquire(self) -> bool:
        """Counts one more user; False, and nothing counted, once retired."""
        with self._lock:
            if self._retired:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Counts one user less."""
        with self._lock:
            self._users -= 1
            idle = self._retired and self._users == 0
        if idle:
            self._on_idle()

    def retire(self) -> None:
        """Takes no more users."""
        with self._lock:
            self._retired = True

    @property
    def users(self) -> int:
        """Requests that hold it now."""
        return self._users


@dataclass(frozen=True, slots=True)
class Served(Generic[Hosted]):
    """The versions of one model that answer now; `newest` answers a request that names none."""

    newest: Handle[Hosted]
    versions: Mapping[int, Handle[Hosted]]


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[Hosted]):
    """Everything that answers now, and for known models that do not, why."""

    served: Mapping[str, Served[Hosted]] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)


class Registry(Generic[Hosted]):
    """Holds the live snapshot. One writer publishes; any thread looks up without a lock."""

    def __init__(self) -> None:
        self._snapshot: Snapshot[Hosted] = Snapshot()

    @property
    def snapshot(self) -> Snapshot[Hosted]:
        """What answers now."""
        return self._snapshot

    def publish(self, snapshot: Snapshot[Hosted]) -> None:
        """Swaps the live snapshot; requests that hold handles of the old one keep them."""
        self._snapshot = snapshot

    def find(self, name: str, version: int | None) -> Handle[Hosted]:
        """The handle of a model version, not counted. Raises NotFound, or Unavailable where it is known but not ready."""
        served = self._snapshot.served.get(name)
        if served is None:
            raise self._absent(name)
        if version is None:
            return served.newest
        handle = served.versions.get(version)
        if handle is None:
            ready = ", ".join(map(str, sorted(served.versions)))
            raise NotFound(f"model {quoted(name)} has no version {version} ready; ready: {ready}")
        return handle

    def acquire(self, name: str, version: int | None) -> Handle[Hosted]:
        """As `find`, counted: the caller releases it."""
        while True:
            handle = self.find(name, version)
            if handle.acquire():
                return handle  # else it was retired between look-up and count: the snapshot has changed, look again

    def _absent(self, name: str) -> NotFound | Unavailable:
        reason = self._snapshot.unserved.get(name)
        if reason is not None:
            return Unavailable(f"model {quoted(name)} is not ready: {reason}")
        known = self._snapshot.served.keys() | self._snapshot.unserved.keys()
        return NotFound(
            f"Request for unknown model: {quoted(name)} is not found{nearest(name, known)}"
        )  # Triton's words
