"""A plan made ready to run: everything that all its runs share and none changes."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import Clock
from engine.duration import duration_us
from engine.graph.alarm import Alarm
from engine.graph.call import Call, Values, first_there, is_bounded
from engine.graph.plan import Choices, Fallback, Node, Plan
from engine.graph.port import NodePort
from engine.graph.remembered import Answer, Remembered
from engine.graph.rows import runs_by_rows
from engine.tensor import Tensor


class Circuit:
    """One plan with its calls. `needs[i]`: how many nodes node i waits for; `bounded[i]`: it may be late before its graph is;
    `by_rows[i]`: its condition is asked row by row.

    `ripen` lets the engine flush a port later, `flush` all that are ripe now.
    """

    def __init__(
        self, plan: Plan, clock: Clock, alarm: Alarm, ripen: Callable[[NodePort], None], flush: Callable[[], None]
    ) -> None:
        self.plan, self.clock, self.alarm, self.ripen, self.flush = plan, clock, alarm, ripen, flush
        graph_inputs = len(plan.input_names)
        self.calls = [Call(each, each.target, each.wires, graph_inputs) for each in plan.nodes]
        self._stand_ins = {
            id(fallback): Call(node, fallback.target, fallback.wires, graph_inputs)
            for node in plan.nodes
            for fallback in (node.on_late, node.on_error)
            if fallback is not None and fallback.target is not None
        }
        self.needs = [len(each.needs) for each in plan.nodes]
        self.sources = tuple(each.index for each in plan.nodes if not each.needs)
        self.bounded = [is_bounded(each) for each in plan.nodes]
        self.by_rows = [runs_by_rows(plan, each) for each in plan.nodes]
        self.remembered = [_remembering(each) for each in plan.nodes]
        for node, bounded in zip(plan.nodes, self.bounded, strict=True):
            if bounded and node.target.may_hang:
                node.target.port.keep_off_callers()

    def stand_in(self, fallback: Fallback) -> Call:
        """The call of a fallback of this plan."""
        return self._stand_ins[id(fallback)]

    # Earlier answers.

    def remember(self, node: Node, values: Values, now_ns: int) -> None:
        """Keeps the answer of `node` for its fallbacks."""
        answer = [values[slot] for slot in node.slots]
        for fallback, memory in self.remembered[node.index]:
            memory.keep(_key(values, fallback.cached_key), tuple(each for each in answer if each is not None), now_ns)

    def recall(self, node: Node, fallback: Fallback, values: Values, now_ns: int) -> Answer | None:
        """The answer kept for the same key, if there is one."""
        for known, memory in self.remembered[node.index]:
            if known is fallback:
                return memory.find(_key(values, fallback.cached_key), now_ns)
        return None


def _key(values: Values, choices: Choices) -> bytes:
    tensor = first_there(values, choices)
    return b"" if tensor is None else _content(tensor)


def _content(tensor: Tensor) -> bytes:
    shape = repr(tensor.shape).encode()
    return shape + tensor.to_bytes()


def _remembering(node: Node) -> list[tuple[Fallback, Remembered]]:
    memories: list[tuple[Fallback, Remembered]] = []
    for fallback in (node.on_late, node.on_error):
        if fallback is not None and fallback.cached is not None:
            max_age_ns = duration_us(fallback.cached.max_age) * 1000
            memories.append((fallback, Remembered(max_age_ns, fallback.cached.entries_max)))
    return memories
