"""What a writing thread does in a crash test, as values: chosen at random, written down, done to a collection or to a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engine.vectors.collection import Collection
from engine.vectors.filter import Filter, Group, Match, Range
from engine.vectors.writer import Written
from tests.engine.vectors.crash.points import OTHER, SPEC, Points, batch, point

THREADS: Final = 3
IDS: Final = 250
"""Of each thread."""

Kind = Literal["upsert", "delete", "delete_matching", "set", "set_matching", "clear", "snapshot", "alter"]
_WEIGHTS: Final[Mapping[Kind, int]] = {
    "upsert": 60, "delete": 12, "delete_matching": 5, "set": 8, "set_matching": 3, "clear": 3, "snapshot": 5, "alter": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """`number`: the thread's version from now on. `ids`, or points of the thread with `low` <= n <= `high`."""

    thread: int
    number: int
    kind: Kind
    ids: list[int] = field(default_factory=list)
    low: int = 0
    high: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    replaces: bool = False

    @property
    def told(self) -> bytes:
        """In one line."""
        return msgspec.json.encode(self)


def operation(told: bytes) -> Operation:
    """As it was told."""
    return msgspec.json.decode(told, type=Operation)


def chosen(thread: int, number: int, source: random.Random) -> Operation:
    """Anything."""
    kinds = dict(_WEIGHTS) if thread == 0 else {kind: each for kind, each in _WEIGHTS.items() if kind != "alter"}
    (kind,) = source.choices(list(kinds), list(kinds.values()))
    most = {"upsert": source.choice([1, 1, 5, 40, 90]), "delete": 10, "set": 8, "clear": 8}.get(kind, 0)
    ids = [each * THREADS + thread for each in source.sample(range(IDS), source.randrange(1, most + 1))] if most else []
    low = number - source.randrange(5, 60)
    values: dict[str, Any] = {}
    replaces = kind == "set" and source.random() < 0.3
    if kind in ("set", "set_matching"):
        values = {"tag": f"s{number % 3}", "n": number} | ({"owner": f"t{thread}"} if replaces else {})
    elif kind == "clear":
        values = dict.fromkeys(source.sample(["tag", "n", "body"], source.randrange(1, 4)))
    return Operation(thread, number, kind, ids, low, low + source.randrange(8), values, replaces)


def do(collection: Collection, it: Operation, snapshots: Path) -> int:
    """To a collection; how many points it says to have changed."""
    where = Filter.of(Group(must=(Match("owner", f"t{it.thread}"), Range("n", gte=it.low, lte=it.high))), SPEC)
    calls: dict[Kind, Callable[[], Written | None]] = {
        "upsert": lambda: collection.upsert(batch(it.ids, it.number)),
        "delete": lambda: collection.delete(it.ids),
        "delete_matching": lambda: collection.delete_matching(where),
        "set": lambda: collection.set_payload(it.values, ids=it.ids, replace=it.replaces),
        "set_matching": lambda: collection.set_payload(it.values, filter_=where),
        "clear": lambda: collection.clear_payload(list(it.values), ids=it.ids),
        "snapshot": lambda: collection.snapshot(snapshots / f"{it.thread}-{it.number}"),
        "alter": lambda: collection.alter(SPEC if it.number % 2 else OTHER),
    }
    written = calls[it.kind]()
    return 0 if written is None else written.count


def change(it: Operation, before: Points) -> tuple[Points, set[int]]:
    """What it makes of some points of the thread, and which are gone."""
    there = [each for each in it.ids if each in before]
    matching = [id_ for id_, each in before.items() if each.n is not None and it.low <= each.n <= it.high]
    match it.kind:
        case "upsert":
            return {each: point(each, it.number) for each in it.ids}, set()
        case "delete":
            return {}, set(there)
        case "delete_matching":
            return {}, set(matching)
        case "set" | "clear":
            others = dict.fromkeys(("tag", "n", "body")) if it.replaces else {}
            return {each: before[each].changed(others | it.values) for each in there}, set()
        case "set_matching":
            return {each: before[each].changed(it.values) for each in matching}, set()
    return {}, set()
