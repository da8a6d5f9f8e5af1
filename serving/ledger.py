"""Where the time of one request went, as callers are told it: as JSON in one header, and as a Server-Timing header. Pure.

The stages are the engine's, between two of the transport: `decode`, from the first byte of the request to the engine, and
`encode`, from the engine's last stage to the answer. The critical ones follow one on the other, so that they sum up to the
whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from json.encoder import encode_basestring_ascii as _quote
from typing import Final

from engine import NEVER_NS, Ledger, Request, Response, Stage, limits

LEDGER: Final = "vireo-ledger"
MARKS: Final = "vireo-marks"
SERVER_TIMING: Final = "server-timing"


@dataclass(frozen=True, slots=True)
class Timeline:
    """One answered request, from the first byte of it that was read to its answer; instants on the engine's clock."""

    received_ns: int
    answered_ns: int
    stages: tuple[Stage, ...]


def timeline_of(request: Request, response: Response, received_ns: int, now_ns: int) -> Timeline:
    """The timeline of `request`, whose first byte was read at `received_ns` and whose answer is complete `now_ns`."""
    ledger = response.ledger
    computed_ns = ledger.computed_ns or now_ns  # one of several answers comes before the last is computed
    started_ns = ledger.started_ns or computed_ns
    deadline_ns = request.deadline.at_ns
    inner = ledger.stages
    if not inner:
        left_ns = _remaining_ns(deadline_ns, ledger.received_ns)
        rows = ledger.batch_rows
        inner = (Stage(response.model, ledger.received_ns, started_ns, computed_ns, rows, left_ns, critical=True),)
    elif inner[0].remaining_ns != NEVER_NS:
        deadline_ns = inner[0].ready_ns + inner[0].remaining_ns  # perhaps the graph's own
    inner, ended_ns = _joined(inner, ledger.received_ns)
    received_ns = min(received_ns or ledger.received_ns, ledger.received_ns)
    first = _of_transport("decode", received_ns, ledger.received_ns, deadline_ns)
    return Timeline(received_ns, now_ns, (first, *inner, _of_transport("encode", ended_ns, now_ns, deadline_ns)))


def _joined(stages: tuple[Stage, ...], at_ns: int) -> tuple[tuple[Stage, ...], int]:
    """The stages, and when the last critical one ended. One that did not run knows no more than when that was decided: as a
    critical one it waited since the critical one before it ended.
    """
    found = []
    for each in stages:
        if each.critical:
            if each.ready_ns > at_ns:
                each = replace(each, ready_ns=at_ns)
            at_ns = max(at_ns, each.ended_ns)
        found.append(each)
    return tuple(found), at_ns


def _of_transport(name: str, from_ns: int, to_ns: int, deadline_ns: int) -> Stage:
    return Stage(name, from_ns, from_ns, to_ns, 0, _remaining_ns(deadline_ns, from_ns), critical=True)


def _remaining_ns(deadline_ns: int, now_ns: int) -> int:
    return NEVER_NS if deadline_ns == NEVER_NS else deadline_ns - now_ns


def encode_ledger(timeline: Timeline) -> str:
    """Compact JSON in ASCII, of at most LEDGER_BYTES_MAX: times in microseconds, stages in the order they were ready.

    Where there are more stages than fit, those on the critical chain are kept first, and `cut` is true.
    """
    encoded = [_encoded(each) for each in timeline.stages]
    total = f'{{"total_us":{_us(timeline.answered_ns - timeline.received_ns)},"stages":['
    room = limits.LEDGER_BYTES_MAX - len(total) - len('],"cut":true}')
    kept = set()
    for index in sorted(range(len(encoded)), key=lambda index: not timeline.stages[index].critical):
        size = len(encoded[index]) + 1
        if size <= room:
            room -= size
            kept.add(index)
    listed = ",".join(each for index, each in enumerate(encoded) if index in kept)
    return f"{total}{listed}]" + (',"cut":true}' if len(kept) < len(encoded) else "}")


def _encoded(stage: Stage) -> str:
    remaining = "null" if stage.remaining_ns == NEVER_NS else _us(stage.remaining_ns)
    return (
        f'{{"name":{_quote(stage.name)},"wait_us":{_us(stage.started_ns - stage.ready_ns)},'
        f'"compute_us":{_us(stage.ended_ns - stage.started_ns)},"rows":{stage.batch_rows},"remaining_us":{remaining},'
        f'"critical":{"true" if stage.critical else "false"},"mark":{_quote(stage.mark)}}}'
    )


def _us(span_ns: int) -> str:
    return f"{span_ns / 1e3:.1f}"


def server_timing(timeline: Timeline) -> str:
    """The same as a Server-Timing header (W3C), in milliseconds, each critical stage's time whole."""
    spans = [(_token(each.name), each.ended_ns - each.ready_ns) for each in timeline.stages if each.critical]
    spans.append(("total", timeline.answered_ns - timeline.received_ns))
    parts, size = [], 0
    for name, span_ns in spans:
        part = f"{name};dur={span_ns / 1e6:.3f}"
        size += len(part) + 2
        if size > limits.LEDGER_BYTES_MAX:
            break
        parts.append(part)
    return ", ".join(parts)


def brief_timing(ledger: Ledger) -> str:
    """A Server-Timing header for who did not ask for more: the engine's share, of which all requests have the same."""
    return f"queue;dur={ledger.queue_ns / 1e6:.3f}, compute;dur={ledger.compute_ns / 1e6:.3f}"


def _token(name: str) -> str:
    return re.sub(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]", "_", name)


def encode_marks(marks: Sequence[str]) -> str:
    """Marks as one header value, in printable ASCII, of bounded length."""
    text = "; ".join(marks)
    if not (text.isascii() and text.isprintable()):
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= limits.MARKS_CHARS_MAX else f"{text[: limits.MARKS_CHARS_MAX]}..."
