"""What a caller may ask for in headers, or gRPC metadata, beside what the request's own message says. Pure.

`vireo-ledger: 1` to be told where the time went, `vireo-priority: interactive | batch`, and the W3C's `traceparent` and
`tracestate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine import BATCH, INTERACTIVE, InvalidArgument, Parameter, quoted
from serving.trace_context import TraceParent, parse_traceparent

TRACEPARENT: Final = "traceparent"
_LEDGER: Final = "vireo-ledger"
_PRIORITY: Final = "vireo-priority"
_CLASSES: Final = {"interactive": INTERACTIVE, "batch": BATCH}
_STATE_CHARS_MAX: Final = 8192


@dataclass(slots=True)  # not frozen: that takes four times as long to make, for each traced request
class Asked:
    """`priority` None: as the message says. `parent`: the span that sent the request; `state`: what its tracers said.

    Never changed once made.
    """

    ledger: bool = False
    priority: int | None = None
    parent: TraceParent | None = None
    state: str = ""


def asked_by(headers: Mapping[str, str]) -> Asked | None:
    """What the headers ask for, their names in lower case; None for nothing. Raises InvalidArgument naming the header.

    A malformed traceparent is as good as none, and without one there is no tracestate, as the standard wants it.
    """
    ledger, priority, trace = headers.get(_LEDGER), headers.get(_PRIORITY), headers.get(TRACEPARENT)
    if ledger is None and priority is None and trace is None:
        return None
    if ledger not in (None, "0", "1"):
        raise InvalidArgument(f"header {_LEDGER}: expected 1 or 0, got {quoted(ledger)}")
    parent = None if trace is None else parse_traceparent(trace)
    state = "" if parent is None else headers.get("tracestate", "")[:_STATE_CHARS_MAX]
    return Asked(ledger == "1", None if priority is None else _class_named(priority), parent, state)


def _class_named(text: str) -> int:
    found = _CLASSES.get(text)
    if found is None:
        raise InvalidArgument(f"header {_PRIORITY}: expected interactive or batch, got {quoted(text)}")
    return found


def priority_of(parameters: Mapping[str, Parameter]) -> int:
    """The class that a request's parameter `priority` names: interactive or batch, or, as the protocol has it, a number: 0
    (the default) and 1, the highest, are interactive, any larger one is batch. Raises InvalidArgument.
    """
    value = parameters.get("priority", 0)
    if isinstance(value, str) and value in _CLASSES:
        return _CLASSES[value]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise InvalidArgument(
            f"parameter 'priority' must be a whole number from 0, interactive or batch, got {quoted(str(value))}"
        )
    return INTERACTIVE if value <= 1 else BATCH
