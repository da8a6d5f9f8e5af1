"""Keeps the graphs and splits of a spec resolved against whatever is loaded now.

Each snapshot of models, before it is published, is given its graphs here. A graph whose servables are still the same is
kept; else its plan is resolved anew, and the old one retired: requests in it finish on the versions they began with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

from engine.control.registry import Handle, Served, Snapshot, find
from engine.errors import VireoError
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.graph.port import Target

log = logging.getLogger("vireo.graph")

Hosted = TypeVar("Hosted")
Declared = GraphSpec | TrafficSpec
Find = Callable[[str, int | None], Target]
Asked = tuple[str, int | None]


@dataclass(slots=True)
class Live(Generic[Hosted]):
    """A graph that is served, and the handles it holds while anybody uses it."""

    declared: Declared
    used: Mapping[Asked, Handle[Hosted]]
    handle: Handle[Hosted]
    closed: bool = False


class GraphBoard(Generic[Hosted]):
    """`derive` is called by one thread at a time, `retire` after what it gave was published.

    `host` makes a running graph of a declaration, whose servables it finds by what it is given; `close` ends it, and says
    when nothing of it runs any more.
    """

    def __init__(
        self,
        host: Callable[[str, Declared, Find], Hosted],
        target: Callable[[Handle[Hosted]], Target],
        close: Callable[[Hosted, Callable[[], None]], None],
    ) -> None:
        self._host, self._target, self._close_hosted = host, target, close
        self._declared: dict[str, Declared] = {}
        self._live: dict[str, Live[Hosted]] = {}
        self._replaced: list[Live[Hosted]] = []

    def apply(self, declared: Mapping[str, Declared]) -> None:
        """These are wanted from the next snapshot on; checked, so they call each other in no circle."""
        calls = {name: {each for each in called_names(spec) if each in declared} for name, spec in declared.items()}
        self._declared = {name: declared[name] for name in TopologicalSorter(calls).static_order()}

    def derive(self, snapshot: Snapshot[Hosted]) -> Snapshot[Hosted]:
        """`snapshot` with the graphs that resolve in it, and for the others why they do not."""
        found = Snapshot(dict(snapshot.served), dict(snapshot.unserved))
        for name in [each for each in self._live if each not in self._declared]:
            self._replaced.append(self._live.pop(name))
        for name, declared in self._declared.items():
            self._place(name, declared, found)
        return found

    def _place(self, name: str, declared: Declared, found: Snapshot[Hosted]) -> None:
        assert isinstance(found.served, dict)
        assert isinstance(found.unserved, dict)
        live = self._live.get(name)
        if live is None or live.declared != declared or not _same(live.used, found):
            if live is not None:
                self._replaced.append(self._live.pop(name))
            try:
                live = self._live[name] = self._make(name, declared, found)
            except VireoError as error:
                if live is not None:
                    log.error("%s is not served any more: %s", name, error.message)
                found.served.pop(name, None)
                found.unserved[name] = error.message
                return
        found.served[name] = Served(live.handle, {live.handle.version: live.handle})
        found.unserved.pop(name, None)

    def _make(self, name: str, declared: Declared, found: Snapshot[Hosted]) -> Live[Hosted]:
        used: dict[Asked, Handle[Hosted]] = {}

        def look_up(called: str, version: int | None) -> Target:
            handle = used.get((called, version))
            if handle is None:
                handle = used[called, version] = find(found, called, version)
            return self._target(handle)

        hosted = self._host(name, declared, look_up)
        held: list[Handle[Hosted]] = []
        for handle in used.values():
            if handle.acquire():
                held.append(handle)
        live = Live(declared, used, Handle(name, 1, hosted, lambda: self._close(live, held)))
        return live

    def _close(self, live: Live[Hosted], held: list[Handle[Hosted]]) -> None:
        """Nobody uses it any more: gives back what it holds, once."""
        if live.closed:
            return
        live.closed = True

        def release() -> None:
            for handle in held:
                handle.release()
            held.clear()

        self._close_hosted(live.handle.hosted, release)

    def retire(self) -> None:
        """Lets those go that the published snapshot no longer has."""
        replaced, self._replaced = self._replaced, []
        for live in replaced:
            live.handle.retire()
            live.handle.close_if_idle()


def called_names(declared: Declared) -> set[str]:
    """The servables that a graph or a split calls."""
    if isinstance(declared, TrafficSpec):
        return {each.call for each in declared.variants.values()} | {each.call for each in declared.shadows.values()}
    names = {each.call for each in declared.nodes.values()}
    for node in declared.nodes.values():
        names |= {each.call for each in (node.on_error, node.on_late) if each is not None and each.call is not None}
    return names


def _same(used: Mapping[Asked, Handle[Hosted]], found: Snapshot[Hosted]) -> bool:
    try:
        return all(find(found, name, version) is handle for (name, version), handle in used.items())
    except VireoError:
        return False
