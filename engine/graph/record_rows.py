"""Rows that one answered request leaves for a log: references kept on the request's path, columns made of them later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from engine.clock import NEVER_NS
from engine.errors import InvalidArgument, quoted
from engine.graph.call import Values, first_there
from engine.graph.condition import true_rows
from engine.graph.ledger import Way, way_of
from engine.graph.plan import Fallback, Node, Plan, PlannedRecord
from engine.graph.port import Target
from engine.graph.traffic_plan import TrafficPlan
from engine.limits import LAYOUTS_MAX
from engine.request import Ledger, Response, Stage
from engine.tensor import Tensor

if TYPE_CHECKING:
    import pyarrow as pa

_LONE: Final = np.zeros(1, np.intp)


@dataclass(slots=True)  # not frozen: once a request
class Origin:
    """One of the requests that leave rows together: its rows end before `stop`."""

    request_id: str
    marks: tuple[str, ...]
    total_ns: int
    stop: int


@dataclass(slots=True)  # not frozen: once a run
class RecordRows:
    """What one run leaves for one record: for each column a copy of its tensor, None for a word.

    `origins`: the requests that were in it, in the order of their rows; `chosen`: which of its `rows` are recorded. Nothing else
    is kept alive, for it may wait long.
    """

    maker: RecordMaker
    tensors: list[Tensor | None]
    origins: Sequence[Origin]
    ledger: Ledger
    at_us: int
    rows: int
    chosen: npt.NDArray[np.intp]

    def counts(self) -> list[int]:
        """How many rows of each origin are recorded."""
        if len(self.origins) == 1:
            return [len(self.chosen)]
        stops = np.searchsorted(self.chosen, [each.stop for each in self.origins])
        return [int(each) for each in np.diff(stops, prepend=0)]

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.chosen)

    def singles(self) -> list[RecordRows]:
        """Each row alone."""
        return [replace(self, chosen=self.chosen[index : index + 1]) for index in range(len(self.chosen))]


class RecordMaker:
    """One record of one plan. Any thread."""

    def __init__(self, plan: Plan, record: PlannedRecord) -> None:
        self.plan, self.record = plan, record
        self._choices = tuple(each.choices for each in record.columns if each.choices)
        self._fitted: tuple[pa.Schema, pa.Schema] | None = None
        self._versions: dict[Way, str] = {}

    def chosen_of(self, values: Values, rows: int) -> npt.NDArray[np.intp]:
        """Which of the `rows` of a run are recorded, by the record's condition."""
        chosen = np.arange(rows)
        condition = self.record.when
        if condition is None:
            return chosen
        tensor = first_there(values, condition.choices)
        if tensor is None:
            return chosen[:0]
        return chosen[true_rows(condition.operator, condition.operand, tensor.array, rows)]

    def of_all(
        self,
        values: Values,
        ledger: Ledger,
        origins: Sequence[Origin],
        at_us: int,
        left_out: npt.NDArray[np.bool_] | None = None,
    ) -> RecordRows | None:
        """The rows of all requests of a run that went through together, `values` and `ledger` being the run's, without those of
        its rows that are `left_out`. See `of`."""
        rows = origins[-1].stop
        chosen = self.chosen_of(values, rows)
        if left_out is not None:
            chosen = chosen[~left_out[chosen]]
        if not len(chosen):
            return None
        tensors = [_copy(first_there(values, each.choices), None) for each in self.record.columns]
        return RecordRows(self, tensors, origins, ledger, at_us, rows, chosen)

    def of(self, values: Values, response: Response, at_us: int, part: slice | None = None) -> RecordRows | None:
        """The rows of a request that was answered at `at_us`, microseconds since the Unix epoch; None where there are none, by
        the record's condition. `part`: which rows of `values` are the request's, where others went with it. Costs a few
        microseconds."""
        rows = 1 if part is None else part.stop - part.start
        if part is None:
            for choices in self._choices:
                tensor = first_there(values, choices)
                if tensor is not None and tensor.array.size > rows:
                    rows = tensor.array.size
        chosen = _LONE if rows == 1 else np.arange(rows)
        condition = self.record.when
        if condition is not None:
            tensor = _own(first_there(values, condition.choices), part)
            if tensor is None:
                return None
            chosen = chosen[true_rows(condition.operator, condition.operand, tensor.array, rows)]
            if not len(chosen):
                return None
        tensors = [_copy(first_there(values, each.choices), part) for each in self.record.columns]
        origin = Origin(response.id, response.marks, response.ledger.total_ns, rows)
        return RecordRows(self, tensors, (origin,), response.ledger, at_us, rows, chosen)

    def batch(self, rows: Sequence[RecordRows], schema: pa.Schema) -> pa.RecordBatch:
        """The columns of all of them. Raises InvalidArgument where a value does not fit its column."""
        import pyarrow as pa

        fields = self._fields(schema)
        columns = [self._column(index, rows, fields.field(index)) for index in range(len(self.record.columns))]
        return pa.RecordBatch.from_arrays(columns, schema=fields)

    def _fields(self, schema: pa.Schema) -> pa.Schema:
        """Those of the log that the record fills, in the record's order."""
        import pyarrow as pa

        known = self._fitted
        if known is None or known[0] is not schema:
            for column in self.record.columns:
                if column.name not in schema.names:
                    raise InvalidArgument(f"column {quoted(column.name)}: not in the log's schema")
            known = self._fitted = (schema, pa.schema([schema.field(each.name) for each in self.record.columns]))
        return known[1]

    def versions(self, ledger: Ledger) -> str:
        """See `versions_of`, as JSON; requests that went the same way share it."""
        way = way_of(ledger)
        found = self._versions.get(way)
        if found is None:
            if len(self._versions) >= LAYOUTS_MAX:
                self._versions.clear()
            found = self._versions[way] = _json(versions_of(self.plan, ledger.stages))
        return found

    def _column(self, index: int, rows: Sequence[RecordRows], field: pa.Field) -> pa.Array:
        from engine.graph.record_columns import column_of, words_of

        chosen, column = [each.chosen for each in rows], self.record.columns[index]
        if column.choices:
            return column_of([each.tensors[index] for each in rows], chosen, [each.rows for each in rows], field)
        word = _WORDS[column.word]
        words = [found for each in rows for found in word(each)]
        return words_of(words, [count for each in rows for count in each.counts()], field)


def _own(tensor: Tensor | None, part: slice | None) -> Tensor | None:
    return tensor if tensor is None or part is None else Tensor(tensor.datatype, tensor.array[part])


def _copy(tensor: Tensor | None, part: slice | None) -> Tensor | None:
    """A view would keep its whole batch, or the message it came in, alive."""
    if tensor is None:
        return None
    return Tensor(tensor.datatype, (tensor.array if part is None else tensor.array[part]).copy())


def versions_of(plan: Plan, stages: Sequence[Stage]) -> dict[str, int]:
    """Which version answered, by stage; what was skipped, or stood in for by values, has none. Inside graphs and splits too."""
    targets: dict[str, Target] = {}
    nodes = {each.name: each for each in plan.nodes}
    for stage in stages:  # what is inside comes after what it is in
        node = nodes.get(stage.name)
        found = _inside(stage.name, targets) if node is None else _answerer(node, stage.mark)
        if found is not None:
            targets[stage.name] = found
    return {name: each.version for name, each in targets.items()}


def _answerer(node: Node, mark: str) -> Target | None:
    if not mark:
        return node.target
    fallbacks: tuple[Fallback | None, ...] = (node.on_late, node.on_error)
    for fallback in fallbacks:
        if fallback is not None and fallback.target is not None and mark.endswith(f": {fallback.target.name}"):
            return fallback.target
    return None


def _inside(path: str, targets: Mapping[str, Target]) -> Target | None:
    """The target of a stage inside another."""
    outer = max((each for each in targets if path.startswith(f"{each}/")), key=len, default=None)
    if outer is None:
        return None
    plan, inner = getattr(targets[outer].port, "plan", None), path[len(outer) + 1 :]
    if isinstance(plan, TrafficPlan):
        return next((each.target for each in plan.variants if inner == f"{plan.name}/{each.name}"), None)
    if isinstance(plan, Plan):
        return next((each.target for each in plan.nodes if inner == each.name), None)
    return None


def _versions(rows: RecordRows) -> list[str | int]:
    return [rows.maker.versions(rows.ledger)] * len(rows.origins)


def _ledgers(rows: RecordRows) -> list[str | int]:
    """As the header `vireo-ledger` has it, without the transport's stages; where requests went together, with how long each had
    waited for that as a stage `gathered`."""
    stages = [_stage(each) for each in rows.ledger.stages]
    if len(rows.origins) == 1:
        return [_json({"total_us": _us(rows.origins[0].total_ns), "stages": stages})]
    rest, run_ns, found = _json(stages)[1:], rows.ledger.total_ns, list[str | int]()
    for each in rows.origins:
        gathered = _json(_waited("gathered", each.total_ns - run_ns))
        found.append(f'{{"total_us":{_us(each.total_ns)},"stages":[{gathered},{rest}}}')
    return found


def _waited(name: str, span_ns: int) -> dict[str, str | float | bool | None]:
    return {"name": name, "wait_us": _us(span_ns), "compute_us": 0.0, "rows": 0, "critical": True, "mark": ""}


def _stage(stage: Stage) -> dict[str, str | float | bool | None]:
    return {
        "name": stage.name,
        "wait_us": _us(stage.started_ns - stage.ready_ns),
        "compute_us": _us(stage.ended_ns - stage.started_ns),
        "rows": stage.batch_rows,
        "remaining_us": None if stage.remaining_ns == NEVER_NS else _us(stage.remaining_ns),
        "critical": stage.critical,
        "mark": stage.mark,
    }


def _us(span_ns: int) -> float:
    return round(span_ns / 1e3, 1)


def _json(value: object) -> str:
    import orjson

    return orjson.dumps(value).decode()


_WORDS: Final[Mapping[str, Callable[[RecordRows], list[str | int]]]] = {
    "$id": lambda rows: [each.request_id for each in rows.origins],
    "$time": lambda rows: [rows.at_us] * len(rows.origins),
    "$graph": lambda rows: [rows.maker.plan.name] * len(rows.origins),
    "$versions": _versions,
    "$ledger": _ledgers,
    "$marks": lambda rows: ["; ".join(each.marks) for each in rows.origins],
}
