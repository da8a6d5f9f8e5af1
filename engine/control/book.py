"""What is known of every version in the engine, or that could not be loaded: its record, from the wish to the unloading.

It decides nothing and guards nothing: the reconciler does, which owns it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.control.lifecycle import State, move
from engine.control.registry import Handle, Served, Snapshot
from engine.control.repository import FoundModel
from engine.control.rollout import Artifact, Fact

Hosted = TypeVar("Hosted")


@dataclass(slots=True)
class Record(Generic[Hosted]):
    """One version in the engine, by `key` in the book; one that was replaced has a key of its own."""

    key: str
    artifact: Artifact
    order: int
    state: State = State.WANTED
    reason: str = ""
    handle: Handle[Hosted] | None = None
    drain_until_ns: int = 0

    def move(self, state: State) -> None:
        """To another state. Raises for a move that is not allowed."""
        self.state = move(self.state, state)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index. `version` None: a model of which no version is loaded or tried."""

    name: str
    version: int | None
    state: str
    reason: str


class Book(Generic[Hosted]):
    """The records by key. For one thread at a time."""

    def __init__(self) -> None:
        self._records: dict[str, Record[Hosted]] = {}
        self._entered = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record[Hosted]]:
        """All of them as they are now: they may be forgotten on the way."""
        return iter(list(self._records.values()))

    def __getitem__(self, key: str) -> Record[Hosted]:
        return self._records[key]

    def of(self, keys: Collection[str]) -> list[Record[Hosted]]:
        """Those of `keys` that there are, in that order."""
        return [self._records[each] for each in keys if each in self._records]

    def enter(self, artifact: Artifact) -> Record[Hosted]:
        """A record of what is to be loaded; it takes the place of one of the same artifact."""
        self._entered += 1
        record = self._records[artifact.key] = Record(artifact.key, artifact, self._entered)
        return record

    def replace(self, record: Record[Hosted], handle: Handle[Hosted]) -> Record[Hosted]:
        """`handle` serves from now on; what served before, as a record of its own."""
        self._entered += 1
        key = f"{record.key} before {self._entered}"
        old = self._records[key] = Record(key, record.artifact, record.order, record.state, handle=record.handle)
        record.handle = handle
        return old

    def forget(self, record: Record[Hosted]) -> None:
        """It is unloaded; it may have been taken out before."""
        record.move(State.UNLOADED)
        self._records.pop(record.key, None)

    def take(self) -> Record[Hosted]:
        """Any of them, taken out as it is."""
        return self._records.popitem()[1]

    def loading(self) -> bool:
        """Whether one is being loaded."""
        return any(each.state in (State.LOADING, State.WARMING) for each in self._records.values())

    def draining(self) -> bool:
        """Whether one waits for its users to leave."""
        return any(each.state is State.DRAINING for each in self._records.values())

    def used(self) -> bool:
        """Whether somebody uses one."""
        return any(each.handle.users for each in self._records.values() if each.handle is not None)

    def facts(self, now_ns: int) -> list[Fact]:
        """What `rollout` decides by."""
        return [
            Fact(
                key,
                each.artifact.name,
                each.state,
                each.handle is None or each.handle.users == 0 or now_ns >= each.drain_until_ns,
            )
            for key, each in self._records.items()
        ]

    def index(self, found: Mapping[str, FoundModel]) -> list[IndexEntry]:
        """Every version known, and every model folder `found` of which none is, by name and version."""
        entries = [
            IndexEntry(each.artifact.name, each.artifact.version, each.state.value, each.reason)
            for each in self._records.values()
        ]
        seen = {entry.name for entry in entries}
        entries += [
            IndexEntry(name, None, "UNAVAILABLE", model.problem or "not loaded")
            for name, model in found.items()
            if name not in seen
        ]
        return sorted(entries, key=lambda entry: (entry.name, entry.version or 0))

    def snapshot(self, declared: Collection[str], found: Mapping[str, FoundModel]) -> Snapshot[Hosted]:
        """What answers now, and why other models do not: those declared by the spec, or found in the repository."""
        ready: dict[str, dict[int, Handle[Hosted]]] = {}
        for record in sorted(self._records.values(), key=lambda each: each.order):
            if record.state is State.READY and record.handle is not None:
                ready.setdefault(record.artifact.name, {})[record.artifact.version] = record.handle
        served = {name: Served(versions[max(versions)], versions) for name, versions in ready.items()}
        reasons = {name: "not loaded" for name in declared if name not in served}
        reasons |= {name: model.problem or "not loaded" for name, model in found.items() if name not in served}
        for record in self._records.values():
            if record.artifact.name not in served:
                reasons[record.artifact.name] = record.reason or record.state.value.lower()
        return Snapshot(served, reasons)
