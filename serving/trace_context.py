"""W3C Trace Context: the header `traceparent`, read and written. Pure; it knows no tracing library.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED: Final = 1
_CHARS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Where a request comes from: its trace, the span that sent it, and whether that one is recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        """As the header says it, in version 00."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse_traceparent(text: str) -> TraceParent | None:
    """What the header `text` says; None where it is malformed, which is then as if there were none."""
    found = _FORM.fullmatch(text) if len(text) <= _CHARS_MAX else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    made = TraceParent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return made if made.trace_id and made.span_id else None
