"""W3C Trace Context: the header `traceparent`, read and written. Pure; it knows no tracing library.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?", re.ASCII)
_SAMPLED: Final = "13579bdf"
"""The last digits of flags with the lowest bit set."""

_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_CHARS_MAX: Final = 512


@dataclass(slots=True)  # not frozen: that takes four times as long to make, for each traced request
class TraceParent:
    """Where a request comes from: its trace, the span that sent it (in hexadecimal), and whether that one is recorded.

    Never changed once made.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        """As the header says it, in version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(text: str) -> TraceParent | None:
    """What the header `text` says; None where it is malformed, which is then as if there were none."""
    found = _FORM.fullmatch(text) if len(text) <= _CHARS_MAX else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, flags in _SAMPLED)
