"""What a batch run says of how far it is. Pure: facts in, a line out."""

from __future__ import annotations

from dataclasses import dataclass

_BAR_CELLS = 24


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` rows (None: not known), `earlier` of them by runs before this one, which began `elapsed_s` ago."""

    done: int
    total: int | None
    earlier: int
    rejected: int
    elapsed_s: float

    @property
    def rows_per_s(self) -> float:
        """Of this run, on average."""
        return (self.done - self.earlier) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Until the end at that speed; None where the speed or the end is not known."""
        if self.total is None or not self.rows_per_s:
            return None
        return (self.total - self.done) / self.rows_per_s

    def line(self) -> str:
        """For a log."""
        parts = [counted_text(self.done, self.total, "rows"), f"{self.rows_per_s:,.0f} rows/s"]
        if self.remaining_s:
            parts.append(f"{clock_text(self.remaining_s)} left")
        if self.rejected:
            parts.append(f"{self.rejected:,} rejected")
        return ", ".join(parts)

    def bar(self) -> str:
        """For a terminal."""
        return bar_text(self.done, self.total, self.line())


def bar_text(done: int, total: int | None, line: str) -> str:
    """`line` with a bar before it; without where the end is not known."""
    if not total:
        return line
    cells = _BAR_CELLS * min(done, total) // total
    return f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}] {line}"


def counted_text(done: int, total: int | None, what: str) -> str:
    """`done` of `total`, None where that is not known."""
    if total is None:
        return f"{done:,} {what}"
    return f"{done:,} of {total:,} {what}" + (f" ({100 * done // total}%)" if total else "")


def clock_text(seconds: float) -> str:
    """`seconds` as 1:02:03 or 2:03."""
    whole = int(seconds + 0.5)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
