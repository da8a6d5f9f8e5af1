"""What the targets of one language model did: tries by how they ended, tokens, cost, times. Written on the model's
event loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from engine.generation.upstream.declaration import PriceSpec
from engine.generation.upstream.usage import Usage, cost
from engine.telemetry import Histogram


class Ending(Enum):
    """How one try ended, as metrics tell it."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """For the caller's fault."""
    LIMITED = "limited"
    FAILED = "failed"
    BROKEN = "broken"
    """In the middle of an answer."""
    LEFT = "left"
    """The caller went away, or its deadline passed."""


@dataclass(slots=True)
class TargetStatistics:
    """`costs`, by currency. `estimated`: of the tokens, those that nobody counted."""

    endings: dict[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))
    in_flight: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    estimated_tokens: int = 0
    cost: float = 0.0
    first_byte: Histogram = field(default_factory=Histogram)

    def used(self, usage: Usage, price: PriceSpec | None) -> None:
        """Counts the tokens of one answer and what they cost."""
        self.input_tokens += usage.input
        self.cached_input_tokens += usage.cached_input
        self.output_tokens += usage.output
        if usage.estimated:
            self.estimated_tokens += usage.total
        if price is not None:
            self.cost += cost(usage, price)


@dataclass(slots=True)
class TenantStatistics:
    """What one tenant used, and how often its quota was used up."""

    tokens: int = 0
    refused: int = 0


@dataclass(slots=True)
class UpstreamStatistics:
    """`fallbacks`: calls handed on, by the language model that answered them. Tenants that the spec does not name are
    one."""

    targets: dict[str, TargetStatistics]
    fallbacks: dict[str, int] = field(default_factory=dict)
    tenants: dict[str, TenantStatistics] = field(default_factory=dict)
