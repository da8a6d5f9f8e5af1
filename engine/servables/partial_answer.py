"""Answers of several shards under a deadline, of which some may be left out. Pure."""

from __future__ import annotations

from typing import Final

from engine.clock import NEVER_NS
from engine.errors import DeadlineExceeded, ResourceExhausted, Unavailable

LOST: Final = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""What says that a shard cannot be had in time; all else is wrong with the question."""
_RESERVE_SHARE: Final = 0.1
_RESERVE_NS_MAX: Final = 20_000_000
"""Of a read's time, what is kept for the answer where shards that are late are left out of it."""


def shards_deadline_ns(deadline_ns: int, now_ns: int) -> int:
    """The shards' deadline where late ones are left out: there is then time to answer without them."""
    if deadline_ns == NEVER_NS:
        return deadline_ns
    return deadline_ns - min(_RESERVE_NS_MAX, int(_RESERVE_SHARE * max(0, deadline_ns - now_ns)))
