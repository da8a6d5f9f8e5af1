"""What an ingestion says of how far it is. Pure: facts in, a line out."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.batch.progress import bar_text, counted_text


@dataclass(slots=True)
class IngestCounts:
    """Of one run. `unchanged`: documents that were there already. `problems`: by name, why one is not there as it should be.
    `pruned`: documents that are gone from their folder."""

    documents: int = 0
    unchanged: int = 0
    written: int = 0
    deleted: int = 0
    pruned: int = 0
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """`counts` of `total` documents, after `elapsed_s`."""

    counts: IngestCounts
    total: int
    elapsed_s: float

    def line(self) -> str:
        """For a log."""
        counts = self.counts
        parts = [counted_text(counts.documents, self.total, "documents"), f"{counts.written:,} passages written"]
        if counts.written and self.elapsed_s > 0:
            parts.append(f"{counts.written / self.elapsed_s:,.0f} passages/s")
        told = {"unchanged": counts.unchanged, "passages deleted": counts.deleted, "pruned": counts.pruned}
        told["not read"] = len(counts.problems)
        return ", ".join([*parts, *(f"{count:,} {what}" for what, count in told.items() if count)])

    def bar(self) -> str:
        """For a terminal."""
        return bar_text(self.counts.documents, self.total, self.line())
