"""What came of each act of a caller, counted by kind."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

EXAMPLES_MAX = 3
"""Of each kind of failure so many are kept in words."""


class Outcome(NamedTuple):
    """`kind`: a status, or a few words; `fine`: whether it may happen to this act; `detail`: what was said."""

    kind: str
    fine: bool
    detail: str = ""


WRONG = "wrong answer"


class Caller(Protocol):
    """Somebody who uses the server, on one thread."""

    def act(self) -> Outcome:
        """Does one thing. What it raises is a failure, after which another takes its place."""

    def close(self) -> None:
        """Leaves for good."""


@dataclass(slots=True)
class Tally:
    """Outcomes by the caller they happened to. Not thread-safe: each caller has its own."""

    fine: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def count(self, caller: str, outcome: Outcome) -> None:
        """One more."""
        key = (caller, outcome.kind)
        if outcome.fine:
            self.fine[key] += 1
            return
        self.failed[key] += 1
        examples = self.examples.setdefault(key, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(outcome.detail)

    def add(self, other: "Tally") -> None:
        """All that `other` has counted, too."""
        self.fine.update(other.fine)
        self.failed.update(other.failed)
        for key, examples in other.examples.items():
            self.examples[key] = (self.examples.get(key, []) + examples)[:EXAMPLES_MAX]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of outcome of one caller."""

    caller: str
    kind: str
    count: int
    fine: bool
    examples: list[str]


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What the callers have to tell at the end; `stuck` are those that did not come back."""

    rows: list[Row]
    stuck: list[str]

    @property
    def failures(self) -> list[Row]:
        """What may not happen."""
        return [each for each in self.rows if not each.fine]

    @property
    def answered(self) -> int:
        """Acts that ended well."""
        return sum(each.count for each in self.rows if each.fine)


def rows_of(tally: Tally) -> list[Row]:
    """The counts as rows, in a fixed order."""
    rows = [
        Row(caller, kind, count, fine, tally.examples.get((caller, kind), []) if not fine else [])
        for counts, fine in ((tally.fine, True), (tally.failed, False))
        for (caller, kind), count in counts.items()
    ]
    return sorted(rows, key=lambda each: (each.caller, not each.fine, each.kind))
