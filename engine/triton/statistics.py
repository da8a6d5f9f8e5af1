"""What Triton servers count of a model, by server and together. Frozen values.

They count from when they loaded the model, of every caller, ours or not; a server that starts anew begins at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """Of one server, or of several. `executions`: batches computed; `batches`: how many by rows. Nanoseconds of all requests
    together: waiting in its queue, putting inputs together, computing, taking outputs apart."""

    requests: int = 0
    failed: int = 0
    rows: int = 0
    executions: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0
    batches: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of_all(cls, counts: Iterable[ServerCounts]) -> ServerCounts:
        """The sum."""
        found = list(counts)
        sums = {
            each.name: sum(getattr(one, each.name) for one in found) for each in fields(cls) if each.name != "batches"
        }
        batches: Counter[int] = Counter()
        for one in found:
            batches.update(one.batches)
        return cls(**sums, batches=dict(batches))


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """One server of a model. `counts` are None until it has told any; `problem`: why it is not asked, "" where it is;
    `shared_requests`: of ours, those whose tensors lay in memory that it shares."""

    model: str
    server: str
    ready: bool
    problem: str
    counts: ServerCounts | None
    shared_requests: int
