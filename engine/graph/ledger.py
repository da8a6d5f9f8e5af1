"""Where the time of one graph request went, made from what its run wrote down, when somebody asks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.clock import NEVER_NS
from engine.graph.plan import Plan
from engine.request import Ledger, Stage

Entry = tuple[int, int, int, Ledger | None, str]
"""Of one node: when its inputs were there, when it started and ended (nanoseconds), its job's ledger where one ran, its mark."""

Way = str | tuple["Way | None", ...]


class StagesOf:
    """The stages of one run, made when they are asked for: a Ledger's `stages_of`."""

    __slots__ = ("_deadline_ns", "_entries", "_plan", "_received_ns")

    def __init__(self, plan: Plan, entries: Sequence[Entry | None], deadline_ns: int, received_ns: int) -> None:
        self._plan, self._entries = plan, entries
        self._deadline_ns, self._received_ns = deadline_ns, received_ns

    def __call__(self) -> tuple[Stage, ...]:
        """See `stages`."""
        return stages(self._plan, self._entries, self._deadline_ns, self._received_ns)

    def way(self) -> Way:
        """Alike for runs of the plan whose stages have the same names and marks; costs a tenth of the stages."""
        return tuple(
            [
                None if each is None
                else each[4] if each[3] is None or each[3].stages_of is None
                else (each[4], way_of(each[3]))
                for each in self._entries
            ]
        )  # fmt: skip


def way_of(ledger: Ledger) -> Way:
    """See `StagesOf.way`; of any ledger."""
    made = ledger.stages_of
    if isinstance(made, StagesOf):
        return made.way()
    return tuple([(each.name, each.mark) for each in ledger.stages])


def stages(plan: Plan, entries: Sequence[Entry | None], deadline_ns: int, received_ns: int) -> tuple[Stage, ...]:
    """A Stage for each decided node, those of graphs inside it after it, in the order in which they were ready.

    Nodes that wait for none were ready when the request was received, also where it waited to go with others. The others were
    when the last that they wait for had ended: the one that was heard of last need not be it, and time would count twice.
    """
    critical = critical_nodes(plan, entries)
    found: list[Stage] = []
    for ready_ns, index in sorted(_ready(plan, entries, received_ns)):
        entry = entries[index]
        assert entry is not None
        _, started_ns, ended_ns, ledger, mark = entry
        remaining_ns = NEVER_NS if deadline_ns == NEVER_NS else deadline_ns - ready_ns
        rows = ledger.batch_rows if ledger else 0
        name = plan.nodes[index].name
        found.append(Stage(name, ready_ns, started_ns, ended_ns, rows, remaining_ns, index in critical, mark))
        if ledger is not None:
            found += [_inner(name, stage) for stage in ledger.stages]
    return tuple(found)


def _ready(plan: Plan, entries: Sequence[Entry | None], received_ns: int) -> Iterator[tuple[int, int]]:
    """When each decided node was ready, and its index; none before a node that it waits for, as indexes follow needs."""
    for index, entry in enumerate(entries):
        if entry is not None:
            needs = plan.nodes[index].needs
            ended = [need[2] for need in map(entries.__getitem__, needs) if need is not None]
            yield max([entry[0], *ended]) if needs else received_ns, index


def _inner(name: str, stage: Stage) -> Stage:
    """A stage of a graph that a node called: told by its path, and never counted twice."""
    return Stage(
        f"{name}/{stage.name}", stage.ready_ns, stage.started_ns, stage.ended_ns, stage.batch_rows, stage.remaining_ns,
        mark=stage.mark,
    )  # fmt: skip


def critical_nodes(plan: Plan, entries: Sequence[Entry | None]) -> set[int]:
    """The chain that decided when the graph ended: its last node, the last of those that this one waited for, and so on."""
    ended = {index: entry[2] for index, entry in enumerate(entries) if entry is not None}
    chain: set[int] = set()
    found = max(ended, key=lambda index: (ended[index], index), default=None)
    while found is not None:
        chain.add(found)
        needs = [index for index in plan.nodes[found].needs if index in ended]
        found = max(needs, key=lambda index: (ended[index], index), default=None)
    return chain
