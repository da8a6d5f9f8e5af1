"""What became of events: totals, and why one is a dead letter, in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from engine.errors import quoted
from engine.features.view import View
from engine.log.log import Chunk, DeadLetter
from kernels.record import FUTURE, LATE, NO_ID, NO_KEY, NO_TIME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Counts:
    """What became of all rows so far. `dead` are all dead letters, the late ones among them; `forgotten` are entities that were
    let go of because there were too many."""

    applied: int = 0
    duplicates: int = 0
    filtered: int = 0
    late: int = 0
    dead: int = 0
    forgotten: int = 0


def dead_letters(view: View, chunk: Chunk, verdicts: npt.NDArray[np.uint8]) -> list[DeadLetter]:
    """The rows of a chunk that could not be folded (`verdicts` uint8, one a row), as JSON, and why."""
    numbers = np.flatnonzero(verdicts >= NO_KEY)
    rows = chunk.batch.take(numbers).to_pylist() if len(numbers) else []
    return [
        DeadLetter(
            chunk.partition,
            chunk.first + int(number),
            reason(view, int(verdicts[number]), row, int(chunk.appended_us[number])),
            orjson.dumps(row, default=_as_text, option=orjson.OPT_PASSTHROUGH_DATETIME),
        )
        for number, row in zip(numbers, rows, strict=True)
    ]


def _as_text(value: Any) -> str:  # noqa: ANN401  what JSON has no word for
    return (
        value.isoformat() if hasattr(value, "isoformat") else value.hex() if isinstance(value, bytes) else repr(value)
    )


def reason(view: View, verdict: int, row: Mapping[str, Any], appended_us: int) -> str:
    """What was wrong with `row`, appended at `appended_us`."""
    time = row.get(view.event_time)
    if verdict == NO_KEY:
        return f"entity {quoted(view.entity)} is null"
    if verdict == NO_TIME:
        return f"event time {quoted(view.event_time)} is null"
    if verdict == NO_ID:
        return f"event id {quoted(str(view.event_id))} is null"
    if verdict == FUTURE:
        future, arrival = _span(view.future_us), _EPOCH + timedelta(microseconds=appended_us)
        return f"event time {_told(time)} is more than {future} after its arrival at {arrival.isoformat()}"
    if verdict == LATE:
        return f"late: event time {_told(time)} is more than {_span(view.lateness_us)} before the watermark"
    return f"event time {_told(time)} is not between the years 1970 and 2106"


def _told(time: Any) -> str:  # noqa: ANN401  an instant, or whole microseconds
    return time.isoformat() if isinstance(time, datetime) else str(time)


def _span(microseconds: int) -> str:
    return f"{microseconds / 1e6:g} s"
