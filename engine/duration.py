"""Spans of time as people write them, such as "10s", "5m", "1h30m" or "7d". Pure."""

from __future__ import annotations

import re
from typing import Final

from engine.errors import SpecError, quoted

UNITS_US: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
"""Units, the longest first, in microseconds."""

DURATION_US_MAX: Final = 3_650 * UNITS_US["d"]
"""Ten years: sums and differences of such spans and of times stay far inside 64 bits."""

_TEXT = re.compile("".join(f"(?:([0-9]{{1,12}}){unit})?" for unit in UNITS_US))


def duration_us(text: str) -> int:
    """Whole microseconds of `text`: whole numbers with units d, h, m, s, ms or us, the longer before the shorter, each once.

    Raises SpecError for anything else, and past ten years.
    """
    found = _TEXT.fullmatch(text) if text else None
    if found is None:
        raise SpecError(f"expected a duration such as '10s', '5m', '1h30m' or '7d', got {quoted(text)}")
    total = sum(int(count) * unit for count, unit in zip(found.groups(), UNITS_US.values(), strict=True) if count)
    if total > DURATION_US_MAX:
        raise SpecError(f"expected a duration of at most {duration_text(DURATION_US_MAX)}, got {quoted(text)}")
    return total


def duration_text(span_us: int) -> str:
    """`span_us`, zero or more microseconds, as `duration_us` reads it; "0s" for none."""
    parts = []
    for unit, unit_us in UNITS_US.items():
        count, span_us = divmod(span_us, unit_us)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
