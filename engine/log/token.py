"""Offsets as a text that callers carry from a write to a read: "0:17,3:5", by partition the offset after the write. Pure."""

from __future__ import annotations

from typing import Final

from engine.errors import InvalidArgument, quoted
from engine.log.log import Offsets

TOKEN_PARTITIONS_MAX: Final = 4096
"""Partitions that the token of a write may tell of."""


def token_of(offsets: Offsets) -> str:
    """The token of these offsets; empty where there are none."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items()))


def offsets_of(token: str) -> dict[int, int]:
    """The offsets that `token` tells, the highest of each partition; none where it is empty. Raises InvalidArgument."""
    found: dict[int, int] = {}
    parts = token.split(",") if token else []
    if len(parts) > TOKEN_PARTITIONS_MAX:
        raise InvalidArgument(f"after: a token of {len(parts)} partitions, at most {TOKEN_PARTITIONS_MAX} are allowed")
    for each in parts:
        partition, _, offset = each.partition(":")
        if not (_whole(partition, 9) and _whole(offset, 18)):
            raise InvalidArgument(f"after: expected the token of a push such as '0:17,3:5', got {quoted(token[:80])}")
        found[int(partition)] = max(int(offset), found.get(int(partition), 0))
    return found


def _whole(text: str, digits_max: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits_max
