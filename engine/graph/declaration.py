"""How graphs and traffic splits are declared in the spec. docs/reference/graphs.md says what each key means, with examples.

A reference names a tensor inside a graph: `amount` is the graph's input, `score.probability` the output `probability` of the
node `score` (the name ends at the first dot). Where a list of references stands, the first that is there is taken: the
join of branches of which only some ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.declaration import TensorDeclaration, Value
from engine.limits import CACHED_ENTRIES_MAX

Values = Mapping[str, Value | tuple[Value, ...]]
"""Output name to what it holds: a scalar fills every element, a list is one row."""


@dataclass(frozen=True, slots=True)
class ConstantSpec:
    """An input that is the same for every request: a scalar fills the shape the servable declares, a list is one row."""

    value: Value | tuple[Value, ...]


Wiring = Mapping[str, str | tuple[str, ...] | ConstantSpec]
"""Input name of the servable to a reference, to several of which the first that is there is taken, or to a constant."""


@dataclass(frozen=True, slots=True)
class CachedSpec:
    """The node's last good answer for the same value of the tensor `key` (a reference), not older than `max_age`."""

    key: str
    max_age: str = "1m"
    entries_max: int = CACHED_ENTRIES_MAX


@dataclass(frozen=True, slots=True)
class FallbackSpec:
    """What stands in for a node that failed or is late; exactly one of `default`, `call` and `cached`.

    `default`: fixed values for its outputs. `call`: a lighter servable that gives the same outputs, with the node's own inputs
    (those the lighter one knows) unless `inputs` wires others. `cached`: an earlier answer.
    """

    default: Values | None = None
    call: str | None = None
    version: int | None = None
    inputs: Wiring | None = None
    cached: CachedSpec | None = None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One call of a servable: a model, a function, a feature view, a traffic split or another graph.

    `when`: a condition, "REFERENCE" of a BOOL tensor or "REFERENCE > 0.5" (also >= < <= == !=), true where it is so for any
    element; where it is false the node is skipped and its outputs are not there, or are `otherwise`. In a graph that counts
    rows a node with `otherwise` runs for those rows only for which it is true. `timeout_ms` bounds the
    node from the moment its inputs are there; `timeout_share` does, as a share (0 to 1) of the whole request's budget.
    `on_error` stands in where the node fails, `on_late` where it has not answered within its bound or is predicted not to.
    """

    call: str
    inputs: Wiring = field(default_factory=dict)
    version: int | None = None
    when: str | None = None
    otherwise: Values | None = None
    timeout_ms: float | None = None
    timeout_share: float | None = None
    on_error: FallbackSpec | None = None
    on_late: FallbackSpec | None = None


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """Rows that a graph appends to a log of the spec for each request it answers (decision records, alerts, events).

    `columns`: column of the log to a reference, or to a word: `$id` (of the request), `$time` (microseconds, when answered),
    `$graph`, `$versions` (JSON: servable version by node), `$ledger` (JSON: the stages), `$marks` (fallbacks taken). A tensor
    gives one row for each of its rows, a word or a tensor of one element is repeated. `when`: a condition as a node's, row by
    row. `durable`: the request is answered only when the log has the rows as safe as its durability says; otherwise they
    follow at once, in the background.
    """

    log: str
    columns: Mapping[str, str]
    when: str | None = None
    durable: bool = False


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A graph, called by its name like a model, version 1. `slo_ms` is the deadline of a request that brings none."""

    inputs: Mapping[str, TensorDeclaration]
    nodes: Mapping[str, NodeSpec]
    outputs: Mapping[str, str | tuple[str, ...]]
    slo_ms: float | None = None
    records: Mapping[str, RecordSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSpec(GraphSpec):
    """A graph that a `config.pbtxt` of the model repository declares.

    `configured`: what it says of the outputs. `rows_max`: of a request; None where the config has it that nothing batches.
    """

    configured: Mapping[str, TensorDeclaration]
    rows_max: int | None = None


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One candidate for a request; its share is its weight over the sum of all weights."""

    call: str
    weight: float
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ShadowSpec:
    """A servable that gets a copy of `share` of the requests; its answer and its cost never reach the caller."""

    call: str
    version: int | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """A split, called by its name like a model, version 1: each request goes to one variant.

    `key`: the input whose value decides, so that one user always gets the same variant while weights stay; `$id` the request's
    id; null: by chance. With `key_datatype` (BYTES or a whole number's) it is an input of the split itself, one value a row,
    which no variant takes; a request without it gets a variant by chance. `exposures`: a log that is told who got what.
    """

    variants: Mapping[str, VariantSpec]
    key: str | None = None
    shadows: Mapping[str, ShadowSpec] = field(default_factory=dict)
    exposures: str | None = None
    key_datatype: str | None = None
