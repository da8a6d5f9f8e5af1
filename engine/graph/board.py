"""Keeps the graphs and splits of a spec resolved against whatever is loaded now.

Each snapshot of models, before it is published, is given its graphs here. A graph whose servables are still the same is
kept; else its plan is resolved anew, and the old one retired: requests in it finish on the versions they began with. One that
is declared anew answers as before until what it calls now is there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.control.registry import Handle, Served, Snapshot, find
from engine.errors import VireoError
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.graph.edges import cycle_in, depths
from engine.graph.port import Target
from engine.limits import GRAPH_DEPTH_MAX

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
    open: threading.Lock = field(default_factory=threading.Lock)
    """Locked for ever by who closes it."""


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
        self._behind: dict[str, str] = {}

    @property
    def behind(self) -> Mapping[str, str]:
        """Those that answer as they were declared before, and why what is declared now does not resolve."""
        return self._behind

    @property
    def declared(self) -> Mapping[str, Declared]:
        """What is wanted."""
        return self._declared

    def apply(self, declared: Mapping[str, Declared]) -> None:
        """These are wanted from the next snapshot on; checked, so they call each other in no circle."""
        self._declared = dict(declared)

    def derive(self, snapshot: Snapshot[Hosted]) -> Snapshot[Hosted]:
        """`snapshot` with the graphs that resolve in it, ensembles of the repository among them, and for the others why they do
        not."""
        wanted, circular = ordered({**snapshot.ensembles, **self._declared}, snapshot.ensembles)
        found = Snapshot(dict(snapshot.served), {**snapshot.unserved, **circular}, snapshot.ensembles)
        self._behind = {}
        for name in [each for each in self._live if each not in wanted]:
            self._replaced.append(self._live.pop(name))
        for name, declared in wanted.items():
            self._place(name, declared, found)
        return found

    def _place(self, name: str, declared: Declared, found: Snapshot[Hosted]) -> None:
        assert isinstance(found.served, dict)
        assert isinstance(found.unserved, dict)
        live = self._live.get(name)
        if live is not None and not _same(live.used, found):
            self._replaced.append(self._live.pop(name))
        if name not in self._live or self._live[name].declared != declared:
            made = self._made(name, declared, found)
            if isinstance(made, Live):
                if name in self._live:
                    self._replaced.append(self._live[name])
                self._live[name] = made
            elif name in self._live:
                self._behind[name] = made
            else:
                if live is not None:
                    log.error("%s is not served any more: %s", name, made)
                found.served.pop(name, None)
                found.unserved[name] = made
                return
        handle = self._live[name].handle
        found.served[name] = Served(handle, {handle.version: handle})
        found.unserved.pop(name, None)

    def _made(self, name: str, declared: Declared, found: Snapshot[Hosted]) -> Live[Hosted] | str:
        """It, or why it cannot be made."""
        try:
            return self._make(name, declared, found)
        except VireoError as error:
            return error.message
        except Exception as error:  # a fault of ours must cost this graph alone
            log.exception("%s could not be resolved", name)
            return f"internal error: {type(error).__name__}: {error}"

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
        if not live.open.acquire(blocking=False):
            return

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


def ordered(declared: Mapping[str, Declared], suspects: Collection[str]) -> tuple[dict[str, Declared], dict[str, str]]:
    """Each after those that it calls; and of the `suspects`, which nobody checked together, why they are left out: calls in a
    circle, or deeper than is allowed."""
    calls = {name: sorted(called_names(spec) & declared.keys()) for name, spec in declared.items()}
    problems: dict[str, str] = {}
    while (cycle := cycle_in(calls)) is not None:
        name = next(each for each in cycle if each in suspects)
        problems[name] = f"config.pbtxt: graphs call each other in a circle: {' -> '.join(reversed(cycle))}"
        calls[name] = []
    order = depths(calls)
    for name, depth in order.items():
        if name in suspects and name not in problems and depth > GRAPH_DEPTH_MAX:
            problems[name] = f"config.pbtxt: calls graphs {depth} deep, at most {GRAPH_DEPTH_MAX} are allowed"
    return {name: declared[name] for name in order if name not in problems}, problems


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
