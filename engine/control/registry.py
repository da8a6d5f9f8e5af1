"""What is loaded now: an immutable snapshot that requests look up, and handles that count who uses what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

from engine.errors import NotFound, Unavailable, nearest, quoted
from engine.graph.declaration import EnsembleSpec

Hosted = TypeVar("Hosted")

_serials = count(1)


class Handle(Generic[Hosted]):
    """One loaded version and the count of its users. It is given back when retired and unused. `serial`: no other handle of this
    process has it. Thread-safe."""

    __slots__ = ("_lock", "_on_idle", "_retired", "_users", "hosted", "name", "serial", "version")

    def __init__(self, name: str, version: int, hosted: Hosted, on_idle: Callable[[], None]) -> None:
        self.name = name
        self.version = version
        self.serial = next(_serials)
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

    def share(self) -> None:
        """Counts one more user, retired or not: for who is one of them."""
        with self._lock:
            self._users += 1

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

    def close_if_idle(self) -> None:
        """For who retires it and watches it no further: it is given back now where nobody uses it, else by its last user."""
        with self._lock:
            idle = self._retired and self._users == 0
        if idle:
            self._on_idle()

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
    ensembles: Mapping[str, EnsembleSpec] = field(default_factory=dict)
    """The graphs that the model repository declares; they answer where they are among `served`."""


def find(snapshot: Snapshot[Hosted], name: str, version: int | None) -> Handle[Hosted]:
    """The handle of a model version, not counted. Raises NotFound, or Unavailable where it is known but not ready."""
    served = snapshot.served.get(name)
    if served is None:
        raise _absent(snapshot, name)
    if version is None:
        return served.newest
    handle = served.versions.get(version)
    if handle is None:
        ready = ", ".join(map(str, sorted(served.versions)))
        raise NotFound(f"model {quoted(name)} has no version {version} ready; ready: {ready}")
    return handle


def _absent(snapshot: Snapshot[Hosted], name: str) -> NotFound | Unavailable:
    reason = snapshot.unserved.get(name)
    if reason is not None:
        return Unavailable(f"model {quoted(name)} is not ready: {reason}")
    known = snapshot.served.keys() | snapshot.unserved.keys()
    return NotFound(f"Request for unknown model: {quoted(name)} is not found{nearest(name, known)}")  # Triton's words


class Deriver(Protocol[Hosted]):
    """Adds to each snapshot what is made of it."""

    def derive(self, snapshot: Snapshot[Hosted]) -> Snapshot[Hosted]:
        """The snapshot to publish."""

    def retire(self) -> None:
        """Called when it is published."""


class Registry(Generic[Hosted]):
    """Holds the live snapshot. One writer publishes; any thread looks up without a lock."""

    def __init__(self, deriver: Deriver[Hosted] | None = None) -> None:
        self._snapshot: Snapshot[Hosted] = Snapshot()
        self._deriver = deriver
        self._held: list[list[Handle[Hosted]]] = []
        self._holding = threading.Lock()

    @property
    def snapshot(self) -> Snapshot[Hosted]:
        """What answers now."""
        return self._snapshot

    def publish(self, snapshot: Snapshot[Hosted]) -> None:
        """Swaps the live snapshot; requests that hold handles of the old one keep them."""
        if self._deriver is None:
            self._snapshot = snapshot
            return
        self._snapshot = self._deriver.derive(snapshot)
        self._deriver.retire()

    def find(self, name: str, version: int | None) -> Handle[Hosted]:
        """See `find`, in the live snapshot."""
        return find(self._snapshot, name, version)

    def acquire(self, name: str, version: int | None) -> Handle[Hosted]:
        """As `find`, counted: the caller releases it."""
        while True:
            handle = find(self._snapshot, name, version)
            if handle.acquire():
                return handle  # else it was retired between look-up and count: the snapshot has changed, look again

    def hold(self) -> Callable[[], None]:
        """Keeps what answers now for `acquire_such`, though something else be published; what it gives ends that, once."""
        handles = [each for served in self._snapshot.served.values() for each in served.versions.values()]
        held = [each for each in handles if each.acquire()]
        with self._holding:
            self._held.append(held)

        def release() -> None:
            with self._holding:
                self._held.remove(held)
            for each in held:
                each.release()

        return release

    def acquire_such(self, name: str, version: int | None, such: Callable[[Hosted], bool]) -> Handle[Hosted] | None:
        """The version, counted, as it answers now or did when it was held, of which `such` is true; None where there is none."""
        served = self._snapshot.served.get(name)
        for each in () if served is None else served.versions.values():
            if version in (None, each.version) and such(each.hosted) and each.acquire():
                return each
        with self._holding:
            for held in reversed(self._held):
                for each in held:
                    if each.name == name and version in (None, each.version) and such(each.hosted):
                        each.share()
                        return each
        return None
